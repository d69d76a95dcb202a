// SPDX-License-Identifier: Apache-2.0 OR MIT
//! H_BULK_REMOVE.

use super::super::flags::EXACT;
use super::*;

const PARAMETER: HcallStatus = HcallStatus::PARAMETER;

#[test]
fn bulk_remove_answers_each_request() {
    let p = partition();
    let v = PAGE.v();
    p.h_enter(EXACT, 8, v, PAGE.r(0)).unwrap();
    p.h_enter(EXACT, 9, v | 0x10, PAGE.r(0) & !0x80).unwrap();
    p.h_enter(EXACT, 10, v, PAGE.r(0)).unwrap();
    let mut specs = [
        0x4200_0000_0000_0008,
        v & !0x7f,
        0x4000_0000_0000_0009,
        0,
        0x4200_0000_0000_000a,
        v & !0x7f ^ 0x80,
        0x4100_0000_0000_000b,
        0,
    ];
    assert_eq!(p.h_bulk_remove(&mut specs), HcallStatus::SUCCESS);
    assert_eq!(specs[0], 0x8e00_0000_0000_0008);
    assert_eq!(specs[2], 0x8800_0000_0000_0009);
    assert_eq!(specs[4], 0x9200_0000_0000_000a);
    assert_eq!(specs[6], 0x9100_0000_0000_000b);
    assert_eq!([specs[1], specs[5]], [v & !0x7f, v & !0x7f ^ 0x80]);
    assert_eq!([p.real(8).0, p.real(9).0], [0, 0]);
    assert_eq!(p.real(10).0 & 0x61, 1);
}

#[test]
fn bulk_remove_stops_at_the_end_mark() {
    let p = partition();
    p.h_enter(EXACT, 8, PAGE.v(), PAGE.r(0)).unwrap();
    let mut specs = [
        0xc000_0000_0000_0000,
        1,
        0x4000_0000_0000_0008,
        2,
        0,
        0,
        0,
        0,
    ];
    let before = specs;
    assert_eq!(p.h_bulk_remove(&mut specs), HcallStatus::SUCCESS);
    assert_eq!(specs, before);
    assert_eq!(p.real(8).0 & 0x61, 1);
}

#[test]
fn bulk_remove_condition_spares_bolted_entries() {
    let p = partition();
    p.h_enter(EXACT, 8, PAGE.v() | 0x10, PAGE.r(0)).unwrap();
    let mut specs = [
        0x4100_0000_0000_0008,
        0x10,
        0x4100_0000_0000_0008,
        PAGE.v() & !0x7f,
        0xc0 << 56,
        0,
        0,
        0,
    ];
    assert_eq!(p.h_bulk_remove(&mut specs), HcallStatus::SUCCESS);
    assert_eq!(specs[0], 0x9100_0000_0000_0008);
    assert_eq!(specs[2], 0x9100_0000_0000_0008);
    let mut specs = [0x4100_0000_0000_0008, 0x8, 0xc0 << 56, 0, 0, 0, 0, 0];
    assert_eq!(p.h_bulk_remove(&mut specs), HcallStatus::SUCCESS);
    assert_eq!(specs[0], 0x8d00_0000_0000_0008);
}

#[test]
fn bulk_remove_partial_on_param_error() {
    // What is bad about the second request, and what becomes of it.
    for (bad, answer) in [
        (0x4000_0000_0000_4000, 0xa000_0000_0000_4000),
        (0x40ff_ffff_ffff_ffff, 0xa0ff_ffff_ffff_ffff),
        (0x4300_0000_0000_0009, 0xa300_0000_0000_0009),
        (0x0000_0000_0000_0009, 0x0000_0000_0000_0009),
        (0x8000_0000_0000_0009, 0x8000_0000_0000_0009),
    ] {
        let p = partition();
        for at in 8..11 {
            p.h_enter(EXACT, at, PAGE.v(), PAGE.r(0)).unwrap();
        }
        let mut specs = [0x40 << 56 | 8, 0, bad, 0, 0x40 << 56 | 10, 0, 0xc0 << 56, 0];
        assert_eq!(p.h_bulk_remove(&mut specs), PARAMETER);
        assert_eq!(specs[0], 0x8c00_0000_0000_0008);
        assert_eq!(specs[2], answer);
        assert_eq!(specs[4], 0x40 << 56 | 10);
        assert_eq!(p.real(8).0, 0);
        assert_eq!([p.real(9).0 & 0x61, p.real(10).0 & 0x61], [1, 1]);
    }
}

#[test]
fn bulk_remove_of_the_same_entry_twice() {
    let p = partition();
    p.h_enter(EXACT, 8, PAGE.v(), PAGE.r(0)).unwrap();
    let mut specs = [0x40 << 56 | 8, 0, 0x40 << 56 | 8, 0, 0xc0 << 56, 0, 0, 0];
    assert_eq!(p.h_bulk_remove(&mut specs), HcallStatus::SUCCESS);
    assert_eq!(
        [specs[0], specs[2]],
        [0x8c00_0000_0000_0008, 0x9000_0000_0000_0008]
    );
}

#[test]
fn bulk_remove_no_deadlock_two_vcpus_reverse_order() {
    let p = partition();
    std::thread::scope(|scope| {
        for reverse in [0, 3] {
            let p = &p;
            scope.spawn(move || {
                for _ in 0..unless_miri(500, 20) {
                    for at in 8..12 {
                        let _ = p.h_enter(EXACT, at, PAGE.v(), PAGE.r(0));
                    }
                    let mut specs = [0; 8];
                    for (i, high) in specs.iter_mut().step_by(2).enumerate() {
                        *high = 0x40 << 56 | (8 + (i as u64 ^ reverse));
                    }
                    assert_eq!(p.h_bulk_remove(&mut specs), HcallStatus::SUCCESS);
                }
            });
        }
    });
    p.check().unwrap();
}
