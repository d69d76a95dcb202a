// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the hcalls do and answer, one by one.

use super::super::flags::{ANDCOND, AVPN, EXACT, ICACHE_INVALIDATE, ICACHE_SYNCHRONIZE, ZERO_PAGE};
use super::*;
use core::sync::atomic::Ordering;
use penstock_arch::addr::GuestReal;

const PARAMETER: HcallStatus = HcallStatus::PARAMETER;
const NOT_FOUND: HcallStatus = HcallStatus::NOT_FOUND;
const PTEG_FULL: HcallStatus = HcallStatus::PTEG_FULL;

#[test]
fn enter_stores_both_views() {
    let p = partition();
    let group = PAGE.group(&p);
    let r = 0xb000_0000_0123_1e96 & !0x3000_0000_0000_0e00;
    assert_eq!(p.h_enter(0, group + 5, PAGE.v() | 0x10, r), Ok(group));
    assert_eq!(p.h_read(0, group), Ok([PAGE.v() | 0x10, r]));
    let hw_r = 0x8400_0000_0000_1196 & !0x100 | p.host(0x123_0000) | (r & 0x100);
    assert_eq!(
        p.real(group),
        (PAGE.v() & 0x000f_ffff_ffff_ffff | 0x10, hw_r)
    );
    p.check().unwrap();
}

#[test]
fn enter_takes_the_first_free_entry_of_the_group() {
    let p = partition();
    let group = PAGE.group(&p);
    for slot in 0..8 {
        assert_eq!(
            p.h_enter(0, group + 7 - slot, PAGE.v(), PAGE.r(0)),
            Ok(group + slot)
        );
    }
    assert_eq!(p.h_enter(0, group, PAGE.v(), PAGE.r(0)), Err(PTEG_FULL));
    p.h_remove(0, group + 3, 0).unwrap();
    assert_eq!(p.h_enter(0, group, PAGE.v(), PAGE.r(0)), Ok(group + 3));
}

#[test]
fn enter_exact_takes_this_entry_or_none() {
    let p = partition();
    let at = PAGE.group(&p) + 6;
    assert_eq!(p.h_enter(EXACT, at, PAGE.v(), PAGE.r(0)), Ok(at));
    assert_eq!(p.h_enter(EXACT, at, PAGE.v(), PAGE.r(0)), Err(PTEG_FULL));
    assert_eq!(p.h_enter(0, at, PAGE.v(), PAGE.r(0)), Ok(at - 6));
}

#[test]
fn enter_waits_for_a_locked_entry_before_it_says_full() {
    let p = partition();
    let group = PAGE.group(&p);
    for _ in 1..8 {
        p.h_enter(0, group, PAGE.v(), PAGE.r(0)).unwrap();
    }
    let guard = p.lock(HpteIndex::new(group + 7));
    std::thread::scope(|scope| {
        let call = scope.spawn(|| p.h_enter(0, group, PAGE.v(), PAGE.r(0)));
        std::thread::sleep(std::time::Duration::from_millis(20));
        assert!(!call.is_finished());
        drop(guard);
        assert_eq!(call.join().unwrap(), Ok(group + 7));
    });
}

#[test]
fn enter_index_out_of_range() {
    let p = partition();
    for ptex in [16384, 16391, 1 << 32, 1 << 56, u64::MAX] {
        assert_eq!(p.h_enter(0, ptex, PAGE.v(), PAGE.r(0)), Err(PARAMETER));
        assert_eq!(p.h_remove(0, ptex, 0), Err(PARAMETER));
        assert_eq!(p.h_read(0, ptex), Err(PARAMETER));
        assert_eq!(p.h_read_4(ptex), Err(PARAMETER));
        assert_eq!(p.h_protect(0, ptex, 0), Err(PARAMETER));
        assert_eq!(p.h_clear_ref(0, ptex), Err(PARAMETER));
        assert_eq!(p.h_clear_mod(0, ptex), Err(PARAMETER));
    }
    assert_eq!(p.h_enter(0, 16383, PAGE.v(), PAGE.r(0)), Ok(16376));
}

#[test]
fn enter_rejects_reserved_b() {
    let p = partition();
    for b in [2, 3] {
        let v = PAGE.v() & !(3 << 62) | (b << 62);
        assert_eq!(p.h_enter(0, 0, v, PAGE.r(0)), Err(PARAMETER));
    }
    assert_eq!(
        p.h_enter(0, 0, PAGE.v() | 1 << 52, PAGE.r(0)),
        Err(PARAMETER)
    );
}

#[test]
fn enter_reserved_ptel_bits_dropped() {
    let p = partition();
    let r = PAGE.r(0x2_0000);
    let wanted = r | 0x7000_0000_0000_0e00;
    p.h_enter(EXACT, 8, PAGE.v() | 0x68, wanted).unwrap();
    assert_eq!(p.h_read(0, 8), Ok([PAGE.v() | 0x8, r]));
    assert_eq!(p.real(8).1 & 0x7000_0000_0000_0e00, 0);

    let config = HptConfig {
        keys: StorageKeys::Offered,
        ..small(PageSize::P16M)
    };
    let p = partition_with(Backing::Eager, config, TlbieErrata::NONE);
    p.h_enter(EXACT, 8, PAGE.v(), wanted).unwrap();
    assert_eq!(p.h_read(0, 8), Ok([PAGE.v(), wanted & !(1 << 62)]));
    assert_eq!(p.real(8).1 & 0x7000_0000_0000_0e00, 0x3000_0000_0000_0e00);
}

#[test]
fn enter_makes_an_entry_valid_whatever_v_says() {
    let p = partition();
    p.h_enter(EXACT, 8, PAGE.v() & !1, PAGE.r(0)).unwrap();
    assert_eq!(p.h_read(0, 8), Ok([PAGE.v(), PAGE.r(0)]));
}

#[test]
fn enter_refuses_pages_outside_memory() {
    let p = partition();
    let enter = |encoding, r| {
        let page = Page { encoding, ..PAGE };
        p.h_enter(0, 0, page.v(), r | (encoding.lp() << 12) | 0x10)
    };
    use PageEncoding::*;
    assert!(enter(Base4KActual4K, 0x1ff_f000).is_ok());
    assert!(enter(Base64KActual64K, 0x1ff_0000).is_ok());
    assert!(enter(Base64KActual16M, 0x100_0000).is_ok());
    assert!(enter(Base16MActual16M, 0x100_0000).is_ok());
    assert_eq!(enter(Base4KActual4K, 0x200_0000), Err(PARAMETER));
    assert_eq!(enter(Base64KActual64K, 0x200_0000), Err(PARAMETER));
    assert_eq!(enter(Base16MActual16M, 0x200_0000), Err(PARAMETER));
    assert_eq!(enter(Base4KActual4K, 0x0fff_ffff_ffff_f000), Err(PARAMETER));
    assert_eq!(
        enter(Base64KActual64K, 0x0601_0000_0000_0000),
        Err(PARAMETER)
    );
}

#[test]
fn enter_refuses_bad_page_sizes_and_alignment() {
    let p = partition();
    let v = PAGE.v();
    for lp in [0x2, 0x3, 0x18, 0x28, 0x30, 0xff] {
        assert_eq!(
            p.h_enter(0, 0, v, lp << 12 | 0x10),
            Err(PARAMETER),
            "{lp:#x}"
        );
    }
    for bit in 20..24 {
        assert_eq!(
            p.h_enter(0, 0, v, 0x8010 | 1 << bit),
            Err(PARAMETER),
            "{bit}"
        );
    }
}

#[test]
fn enter_checks_wimg() {
    let p = partition();
    let enter = |p: &Fixture, wimg: u64| p.h_enter(0, 0, PAGE.v(), 0x1000 | wimg << 3);
    for wimg in (0..16).filter(|&wimg| wimg != 0b0010) {
        assert_eq!(enter(&p, wimg), Err(PARAMETER), "{wimg:04b}");
    }
    assert!(enter(&p, 0b0010).is_ok());

    let config = HptConfig {
        ordering: StrongAccessOrder::Offered,
        ..small(PageSize::P16M)
    };
    let p = partition_with(Backing::Eager, config, TlbieErrata::NONE);
    for wimg in (0..16).filter(|&wimg| wimg != 0b0010 && wimg != 0b1110) {
        assert_eq!(enter(&p, wimg), Err(PARAMETER), "{wimg:04b}");
    }
    let at = enter(&p, 0b1110).unwrap();
    assert_eq!(p.real(at).1 & 0x78, 0x70);
}

#[test]
fn enter_zeroes_the_page_before_it_is_valid() {
    let p = partition();
    let memory = p.memory();
    for at in [0xf_ffff_u64, 0x10_0000, 0x10_ffff, 0x11_0000] {
        memory.write_u8(GuestReal::new(at), 9).unwrap();
    }
    p.h_enter(ZERO_PAGE, 0, PAGE.v(), PAGE.r(0x10_0000))
        .unwrap();
    let byte = |at| memory.read_u8(GuestReal::new(at)).unwrap();
    assert_eq!([byte(0x10_0000), byte(0x10_ffff)], [0, 0]);
    assert_eq!([byte(0xf_ffff), byte(0x11_0000)], [9, 9]);
}

#[test]
fn enter_keeps_the_instruction_cache_coherent() {
    let p = partition();
    let counts = || {
        let pages = &p.machine.pages;
        (
            pages.invalidated.load(Ordering::Relaxed),
            pages.synchronized.load(Ordering::Relaxed),
        )
    };
    p.h_enter(ICACHE_INVALIDATE, 0, PAGE.v(), PAGE.r(0))
        .unwrap();
    assert_eq!(counts(), (0x1_0000, 0));
    let small = Page {
        encoding: PageEncoding::Base4KActual4K,
        ..PAGE
    };
    p.h_enter(ICACHE_SYNCHRONIZE, 0, small.v(), small.r(0))
        .unwrap();
    assert_eq!(counts(), (0x1_0000, 0x1000));
}

#[test]
fn enter_page_flags_are_for_small_pages_only() {
    let p = partition();
    let large = Page {
        encoding: PageEncoding::Base64KActual16M,
        ..PAGE
    };
    for flag in [ZERO_PAGE, ICACHE_INVALIDATE, ICACHE_SYNCHRONIZE] {
        assert_eq!(
            p.h_enter(flag, 0, large.v(), large.r(0)),
            Err(HcallStatus::TOO_BIG)
        );
        // Bad parameters are said first.
        assert_eq!(
            p.h_enter(flag, 0, large.v(), large.r(0) | 0x8),
            Err(PARAMETER)
        );
    }
    assert_eq!(p.h_read(0, 0), Ok([0, 0]));
}

#[test]
fn undefined_flags_are_ignored() {
    let p = partition();
    let undefined = !(EXACT | ZERO_PAGE | ICACHE_INVALIDATE | ICACHE_SYNCHRONIZE);
    assert_eq!(p.h_enter(undefined, 0, PAGE.v(), PAGE.r(0)), Ok(0));
    assert!(p.h_remove(!(AVPN | ANDCOND), 0, 0).is_ok());
}

#[test]
fn remove_returns_the_guests_view_and_leaves_zero() {
    let p = partition();
    let (v, r) = (PAGE.v() | 0x10, PAGE.r(0x5_0000) & !0x180);
    p.h_enter(EXACT, 8, v, r).unwrap();
    p.hardware_sets(8, 0x180);
    assert_eq!(p.h_remove(0, 8, 0), Ok((v, r | 0x180)));
    assert_eq!(p.real(8).0, 0);
    assert_eq!(p.h_remove(0, 8, 0), Err(NOT_FOUND));
}

#[test]
fn remove_compares_avpn_and_condition() {
    let p = partition();
    let v = PAGE.v() | 0x10;
    p.h_enter(EXACT, 8, v, PAGE.r(0)).unwrap();
    let avpn = v & !0x7f;
    assert_eq!(p.h_remove(AVPN, 8, avpn ^ 0x80), Err(NOT_FOUND));
    assert_eq!(p.h_remove(AVPN, 8, avpn ^ 1 << 62), Err(NOT_FOUND));
    assert_eq!(p.h_remove(AVPN, 8, v), Err(NOT_FOUND));
    assert_eq!(p.h_remove(ANDCOND, 8, 0x10), Err(NOT_FOUND));
    assert_eq!(p.h_remove(AVPN | ANDCOND, 8, avpn), Err(NOT_FOUND));
    assert_eq!(p.real(8).0 & 0x61, 1);
    assert!(p.h_remove(ANDCOND, 8, 0x8).is_ok());
    p.h_enter(EXACT, 8, v, PAGE.r(0)).unwrap();
    assert!(p.h_remove(AVPN, 8, avpn).is_ok());
}

#[test]
fn read_invalid_entry_returns_zero_r() {
    let p = partition();
    p.h_enter(EXACT, 8, PAGE.v(), PAGE.r(0)).unwrap();
    p.h_remove(0, 8, 0).unwrap();
    assert_ne!(p.real(8).1, 0);
    assert_eq!(p.h_read(0, 8), Ok([0, 0]));
}

#[test]
fn read_four_begins_at_a_multiple_of_four() {
    let p = partition();
    let (v, r) = (PAGE.v(), PAGE.r(0));
    for at in [12, 14, 15, 16] {
        p.h_enter(EXACT, at, v | (at << 12), r).unwrap();
    }
    let four = [v | 12 << 12, r, 0, 0, v | 14 << 12, r, v | 15 << 12, r];
    for ptex in 12..16 {
        assert_eq!(p.h_read_4(ptex), Ok(four));
    }
}

#[test]
fn read_merges_what_the_hardware_set() {
    let p = partition();
    let r = PAGE.r(0) & !0x180;
    p.h_enter(EXACT, 8, PAGE.v(), r).unwrap();
    p.hardware_sets(8, 0x100);
    assert_eq!(p.h_read(0, 8), Ok([PAGE.v(), r | 0x100]));
}

#[test]
fn read_shows_a_locked_entry_unlocked() {
    let p = partition();
    p.h_enter(EXACT, 8, PAGE.v(), PAGE.r(0)).unwrap();
    let guard = p.lock(HpteIndex::new(8));
    assert_eq!(p.real(8).0 & 0x40, 0x40);
    assert_eq!(p.h_read(0, 8), Ok([PAGE.v(), PAGE.r(0)]));
    drop(guard);
    assert_eq!(p.real(8).0 & 0x40, 0);
}

#[test]
fn absent_looks_valid_to_guest() {
    let p = lazy_partition();
    let (v, r) = (PAGE.v() | 0x10, PAGE.r(0x5_0000));
    p.h_enter(EXACT, 8, v, r).unwrap();
    assert_eq!(p.real(8).0 & 0x61, 0x20);
    assert_eq!(p.h_read(0, 8), Ok([v, r]));
    assert_eq!(p.h_enter(EXACT, 8, v, r), Err(PTEG_FULL));
    assert_eq!(p.h_remove(ANDCOND, 8, 1), Err(NOT_FOUND));
    assert_eq!(p.h_protect(AVPN, 8, v & !0x7f), Ok(()));
    assert_eq!(p.h_clear_ref(0, 8).unwrap() & 0x100, 0);
    assert_eq!(p.h_clear_mod(0, 8).unwrap() & 0x80, 0x80);
    assert_eq!(p.h_remove(AVPN, 8, v & !0x7f), Ok((v, r & !0x183)));
    assert_eq!(p.real(8).0, 0);
}

#[test]
fn protect_sets_exactly_what_the_flags_say() {
    let config = HptConfig {
        keys: StorageKeys::Offered,
        ..small(PageSize::P16M)
    };
    let p = partition_with(Backing::Eager, config, TlbieErrata::NONE);
    let r = PAGE.r(0x3_0000);
    p.h_enter(EXACT, 8, PAGE.v(), r).unwrap();
    // LoPAR: R is clear in the new value, C is kept.
    let kept = r & !0x103;
    for (flags, bits) in [
        (0x3, 0x3),
        (0x4, 0x4),
        (0x102, 0x8000_0000_0000_0002),
        (0x3e00, 0x3000_0000_0000_0e00),
        (0, 0),
    ] {
        p.h_protect(flags, 8, 0).unwrap();
        assert_eq!(p.h_read(0, 8), Ok([PAGE.v(), kept | bits]), "{flags:#x}");
        assert_eq!(p.real(8).1 & 0xb000_0000_0000_0f07, bits, "{flags:#x}");
        p.check().unwrap();
    }
}

#[test]
fn protect_without_keys_leaves_them_alone() {
    let p = partition();
    p.h_enter(EXACT, 8, PAGE.v(), PAGE.r(0)).unwrap();
    p.h_protect(0x3e03, 8, 0).unwrap();
    assert_eq!(p.h_read(0, 8).unwrap()[1], PAGE.r(0) & !0x103 | 3);
    assert_eq!(p.real(8).1 & 0x3000_0000_0000_0e00, 0);
}

#[test]
fn protect_finds_by_avpn_only_where_asked() {
    let p = partition();
    p.h_enter(EXACT, 8, PAGE.v(), PAGE.r(0)).unwrap();
    assert_eq!(p.h_protect(AVPN | 3, 8, 0), Err(NOT_FOUND));
    assert_eq!(p.h_protect(AVPN | 3, 9, PAGE.v() & !0x7f), Err(NOT_FOUND));
    assert_eq!(p.h_protect(ANDCOND | 3, 8, u64::MAX), Ok(()));
    assert_eq!(p.h_protect(AVPN | 2, 8, PAGE.v() & !0x7f), Ok(()));
}

#[test]
fn protect_does_not_compare_below_the_avpn() {
    let p = partition();
    p.h_enter(EXACT, 8, PAGE.v() | 0x10, PAGE.r(0)).unwrap();
    let avpn = PAGE.v() & !0x7f;
    for bit in 0..64 {
        let found = if bit < 7 { Ok(()) } else { Err(NOT_FOUND) };
        assert_eq!(p.h_protect(AVPN | 3, 8, avpn ^ 1 << bit), found, "{bit}");
        assert_eq!(p.h_remove(AVPN, 8, avpn ^ 1 << bit), Err(NOT_FOUND));
    }
}

#[test]
fn clear_ref_masks_soft_bits() {
    let p = partition();
    let r = PAGE.r(0) | 1 << 62;
    p.h_enter(EXACT, 8, PAGE.v(), r).unwrap();
    assert_eq!(p.h_clear_ref(0, 8), Ok(r & !(1 << 62)));
    assert_eq!(p.h_clear_mod(0, 8), Ok(r & !(1 << 62 | 0x100)));
}

#[test]
fn clear_ref_and_mod_return_the_old_value() {
    let p = partition();
    let r = PAGE.r(0) & !0x180;
    assert_eq!(p.h_clear_ref(0, 8), Err(NOT_FOUND));
    assert_eq!(p.h_clear_mod(0, 8), Err(NOT_FOUND));
    p.h_enter(EXACT, 8, PAGE.v(), r).unwrap();
    p.hardware_sets(8, 0x180);
    assert_eq!(p.h_clear_ref(0, 8), Ok(r | 0x180));
    assert_eq!(p.h_clear_ref(0, 8), Ok(r | 0x80));
    p.hardware_sets(8, 0x100);
    assert_eq!(p.h_clear_mod(0, 8), Ok(r | 0x180));
    assert_eq!(p.h_clear_mod(0, 8), Ok(r | 0x100));
    assert_eq!(p.h_read(0, 8), Ok([PAGE.v(), r | 0x100]));
    assert_eq!(p.real(8).1 & 0x180, 0x100);
}

/// Who looks an entry up sees what the guest sees, in either group, hidden or not, and also while
/// somebody has the entry's lock.
#[test]
fn an_entry_is_looked_up_without_its_lock() {
    for (p, is_valid) in [(partition(), true), (lazy_partition(), false)] {
        let look = || p.look_up(EffectiveAddr::new(PAGE.ea + 0x1234), Some(PAGE.asdr()));
        assert_eq!(look(), None);
        for (at, h) in [(PAGE.group(&p) + 5, 0), (PAGE.other_group(&p) + 2, 2)] {
            p.h_enter(EXACT, at, PAGE.v() | h, PAGE.r(0x1_0000))
                .unwrap();
            let _held = p.lock(HpteIndex::new(at));
            let found = LookedUp {
                index: HpteIndex::new(at),
                guest: [PAGE.v() | h, PAGE.r(0x1_0000)],
                is_valid,
            };
            assert_eq!(look(), Some(found));
            drop(_held);
            p.h_remove(0, at, 0).unwrap();
        }
        // An entry of another base page size is not the translation.
        let small = Page {
            encoding: PageEncoding::Base4KActual4K,
            ..PAGE
        };
        p.h_enter(0, small.group(&p), small.v(), small.r(0))
            .unwrap();
        assert_eq!(look(), None);
        // Guest real mode has entries of the hypervisor's own.
        let real = p.look_up(EffectiveAddr::new(0x100), None).unwrap();
        assert_eq!(real.is_valid, is_valid);
        assert_eq!(p.look_up(EffectiveAddr::new(1 << 40), None), None);
    }
}
