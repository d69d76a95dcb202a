// SPDX-License-Identifier: Apache-2.0 OR MIT
//! H_PAGE_INIT.

use super::super::flags::{COPY_PAGE, ICACHE_INVALIDATE, ICACHE_SYNCHRONIZE, ZERO_PAGE};
use super::*;
use core::sync::atomic::Ordering;
use penstock_arch::addr::GuestReal;

const PARAMETER: HcallStatus = HcallStatus::PARAMETER;

#[test]
fn page_init_zeroes_and_copies() {
    let p = partition();
    let memory = p.memory();
    memory.write(GuestReal::new(0x1000), &[5; 0x3000]).unwrap();
    assert_eq!(p.h_page_init(ZERO_PAGE, 0x2000, 1), Ok(()));
    let bytes = |at| {
        let mut bytes = [0; 4];
        memory.read(GuestReal::new(at), &mut bytes).unwrap();
        bytes
    };
    assert_eq!([bytes(0x1ffe), bytes(0x2ffe)], [[5, 5, 0, 0], [0, 0, 5, 5]]);
    assert_eq!(
        p.h_page_init(COPY_PAGE | ICACHE_SYNCHRONIZE, 0x8000, 0x1000),
        Ok(())
    );
    assert_eq!([bytes(0x7ffe), bytes(0x8ffe)], [[0, 0, 5, 5], [5, 5, 0, 0]]);
    assert_eq!(p.machine.pages.synchronized.load(Ordering::Relaxed), 0x1000);
    assert_eq!(p.h_page_init(COPY_PAGE, 0x8000, 0x8000), Ok(()));
    assert_eq!(bytes(0x8000), [5; 4]);
}

#[test]
fn page_init_checks_both_addresses_first() {
    let p = partition();
    p.memory().write_u8(GuestReal::new(0x1000), 5).unwrap();
    for (flags, to, from) in [
        (0, 0x1001, 0),
        (0, 0x200_0000, 0),
        (ZERO_PAGE | COPY_PAGE, 0x1000, 0x2004),
        (ZERO_PAGE | COPY_PAGE, 0x1000, 0x200_0000),
        (ZERO_PAGE, !0xfff, 0),
    ] {
        assert_eq!(
            p.h_page_init(flags, to, from),
            Err(PARAMETER),
            "{to:#x} {from:#x}"
        );
    }
    assert_eq!(p.memory().read_u8(GuestReal::new(0x1000)), Ok(5));
    assert_eq!(p.h_page_init(0, 0x1000, 1), Ok(()));
}

#[test]
fn page_init_zeroes_before_it_copies() {
    let p = partition();
    let memory = p.memory();
    memory.write(GuestReal::new(0x1000), &[5; 0x1000]).unwrap();
    let byte = |at| memory.read_u8(GuestReal::new(at)).unwrap();
    assert_eq!(p.h_page_init(ZERO_PAGE | COPY_PAGE, 0x3000, 0x1000), Ok(()));
    assert_eq!([byte(0x3000), byte(0x3fff), byte(0x4000)], [5, 5, 0]);
    // So a page that is its own source is zero.
    assert_eq!(p.h_page_init(ZERO_PAGE | COPY_PAGE, 0x1000, 0x1000), Ok(()));
    assert_eq!([byte(0x1000), byte(0x1fff)], [0, 0]);
}

#[test]
fn page_init_keeps_the_instruction_cache_coherent() {
    let p = partition();
    let counts = |flags| {
        assert_eq!(p.h_page_init(flags, 0x3000, 0), Ok(()));
        let pages = &p.machine.pages;
        (
            pages.invalidated.swap(0, Ordering::Relaxed),
            pages.synchronized.swap(0, Ordering::Relaxed),
        )
    };
    assert_eq!(counts(0), (0, 0));
    assert_eq!(counts(ICACHE_INVALIDATE), (0x1000, 0));
    assert_eq!(counts(ZERO_PAGE | ICACHE_SYNCHRONIZE), (0, 0x1000));
    assert_eq!(
        counts(ICACHE_INVALIDATE | ICACHE_SYNCHRONIZE),
        (0x1000, 0x1000)
    );
}
