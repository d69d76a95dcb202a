// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Hypervisor storage interrupts and the virtualized real mode area.

use super::super::flags::{AVPN, EXACT};
use super::*;
use penstock_arch::addr::GuestReal;
use penstock_arch::regs::Srr1;
use std::vec;

use AccessKind::{Fetch, Load, Store};

const fn data(dsisr: u32) -> FaultAction {
    FaultAction::Reflect(GuestFault::Data(Dsisr::from_bits_retain(dsisr)))
}

const fn instruction(srr1: u64) -> FaultAction {
    FaultAction::Reflect(GuestFault::Instruction(Srr1::from_bits_retain(srr1)))
}

const NO_HPTE: u64 = 0x4000_0000;

#[test]
fn a_missing_translation_is_the_guests_own_fault() {
    let p = partition();
    p.steps();
    assert_eq!(p.resolve(&PAGE.fault(Load)), data(0x4000_0000));
    assert_eq!(p.resolve(&PAGE.fault(Store)), data(0x4200_0000));
    assert_eq!(p.resolve(&PAGE.fault(Fetch)), instruction(0x4000_0000));
    assert!(p.steps().is_empty());
}

/// Two virtual processors miss the same absent entry, the only one. The first makes it valid, and
/// with that nothing is hidden any more; the second must not be told that there is no entry: for a
/// bolted one a guest has no other answer than to die.
#[test]
fn a_miss_that_another_processor_has_seen_to_is_tried_again() {
    let p = lazy_partition();
    p.h_enter(0, PAGE.group(&p), PAGE.v(), PAGE.r(0)).unwrap();
    // The VRMA's own entries are absent too.
    for at in [0, 16 << 20] {
        let fault = real_mode(at, PageSize::P16M, Load);
        assert_eq!(p.resolve(&fault), FaultAction::Retry);
    }
    assert!(p.needs_vpm());
    for kind in [Load, Store, Fetch] {
        assert_eq!(p.resolve(&PAGE.miss(kind)), FaultAction::Retry);
        assert!(!p.needs_vpm());
    }
}

#[test]
fn a_valid_translation_in_either_group_is_tried_again() {
    let p = partition();
    let (primary, secondary) = (PAGE.group(&p) + 7, PAGE.other_group(&p) + 7);
    for (at, h) in [(primary, 0), (secondary, 2)] {
        p.h_enter(EXACT, at, PAGE.v() | h, PAGE.r(0)).unwrap();
        for kind in [Load, Store, Fetch] {
            assert_eq!(p.resolve(&PAGE.fault(kind)), FaultAction::Retry);
        }
        p.h_remove(0, at, 0).unwrap();
    }
    // In the wrong group for its H, the hardware would not find it either.
    p.h_enter(EXACT, primary, PAGE.v() | 2, PAGE.r(0)).unwrap();
    p.h_enter(EXACT, secondary, PAGE.v(), PAGE.r(0)).unwrap();
    assert_eq!(p.resolve(&PAGE.fault(Load)), data(0x4000_0000));
}

/// What looked right without the lock is compared again under it: meanwhile another page may be there.
#[test]
fn an_entry_that_was_replaced_since_it_was_found_is_not_the_translation() {
    let p = partition();
    let at = PAGE.group(&p);
    p.h_enter(EXACT, at, PAGE.v(), PAGE.r(0)).unwrap();
    let index = HpteIndex::new(at);
    let pattern = p.table().entry(index).load_raw_v();
    assert!(p.confirm_at_once(PAGE.asdr(), index, pattern).is_some());
    p.h_remove(0, at, 0).unwrap();
    assert!(p.confirm_at_once(PAGE.asdr(), index, pattern).is_none());
    let other = Page {
        vsid: PAGE.vsid + 1,
        ..PAGE
    };
    p.h_enter(EXACT, at, other.v(), other.r(0)).unwrap();
    assert!(p.confirm_at_once(PAGE.asdr(), index, pattern).is_none());
}

#[test]
fn every_page_and_segment_size_is_found() {
    for segment in [SegmentSize::S256M, SegmentSize::S1T] {
        for encoding in PageEncoding::ALL {
            let p = partition();
            let page = Page {
                segment,
                encoding,
                vsid: 0x7_1234,
                ea: 0xc000_0012_3456_789a,
            };
            p.h_enter(0, page.group(&p), page.v(), page.r(0)).unwrap();
            assert_eq!(
                p.resolve(&page.fault(Load)),
                FaultAction::Retry,
                "{segment:?} {encoding:?}"
            );
            // The same virtual address in a segment with another base page size is not it.
            for base in PageSize::ALL {
                if base != encoding.base() {
                    let encoding = PageEncoding::new(base, base).unwrap();
                    let other = Page { encoding, ..page };
                    assert_eq!(p.resolve(&other.fault(Load)), data(0x4000_0000));
                }
            }
        }
    }
}

#[test]
fn segment_sizes_are_not_mixed_up() {
    let p = partition();
    // The same AVPN in both layouts: 256M VSID 0x1000 * 4096 + offset.
    let large = Page {
        vsid: 0x12,
        ea: 0,
        ..PAGE
    };
    let small = Page {
        vsid: 0x12 << 12,
        ea: 0,
        segment: SegmentSize::S256M,
        ..PAGE
    };
    assert_eq!(large.v() & !(3 << 62), small.v());
    for at in (0..16384).step_by(8) {
        let _ = p.h_enter(0, at, large.v(), large.r(0));
    }
    assert_eq!(p.resolve(&large.fault(Load)), FaultAction::Retry);
    assert_eq!(p.resolve(&small.fault(Load)), data(0x4000_0000));
}

#[test]
fn a_lookalike_before_the_translation_is_passed_over() {
    let p = partition();
    let group = PAGE.group(&p);
    // Same doubleword 0, but a base page of 4K with 64K actual size.
    let r = PAGE.r(0) & !0xf000 | 0x7000;
    p.h_enter(0, group, PAGE.v(), r).unwrap();
    assert_eq!(p.resolve(&PAGE.fault(Load)), data(0x4000_0000));
    // In the other group, in a slot before the lookalike's.
    p.h_enter(EXACT, group + 5, PAGE.v(), r).unwrap();
    let other = PAGE.other_group(&p);
    p.h_enter(EXACT, other + 1, PAGE.v() | 2, PAGE.r(0))
        .unwrap();
    assert_eq!(p.resolve(&PAGE.fault(Load)), FaultAction::Retry);
    p.h_remove(0, other + 1, 0).unwrap();
    p.h_enter(0, group, PAGE.v(), PAGE.r(0)).unwrap();
    assert_eq!(p.resolve(&PAGE.fault(Load)), FaultAction::Retry);
}

#[test]
fn protection_gives_the_guests_own_dsisr() {
    let config = HptConfig {
        keys: StorageKeys::Offered,
        ..small(PageSize::P16M)
    };
    let p = partition_with(Backing::Eager, config, TlbieErrata::NONE);
    let user = |kind, keys| HpteFault {
        msr: Msr::SF.union(Msr::IR).union(Msr::DR).union(Msr::PR),
        keys: KeyMask::new(keys),
        ..PAGE.fault(kind)
    };
    let at = PAGE.group(&p);
    let with = |r: u64| {
        let _ = p.h_remove(0, at, 0);
        p.h_enter(EXACT, at, PAGE.v(), PAGE.r(0) & !3 | r).unwrap();
    };
    with(0b11);
    assert_eq!(p.resolve(&PAGE.fault(Load)), FaultAction::Retry);
    assert_eq!(p.resolve(&PAGE.fault(Store)), data(0x0a00_0000));
    with(0b00);
    assert_eq!(p.resolve(&PAGE.fault(Store)), FaultAction::Retry);
    assert_eq!(p.resolve(&user(Load, 0)), data(0x0800_0000));
    assert_eq!(p.resolve(&user(Store, 0)), data(0x0a00_0000));
    assert_eq!(p.resolve(&user(Fetch, 0)), instruction(0x0800_0000));
    // pp 110: read only for the kernel, nothing for the user.
    with(1 << 63 | 0b10);
    assert_eq!(p.resolve(&PAGE.fault(Load)), FaultAction::Retry);
    assert_eq!(p.resolve(&PAGE.fault(Store)), data(0x0a00_0000));
    assert_eq!(p.resolve(&user(Load, 0)), data(0x0800_0000));
    // Key 1: AMR forbids stores, then loads; IAMR forbids fetches.
    with(0b10 | 0x200);
    let (stores, loads) = (0x2000_0000_0000_0000, 0x1000_0000_0000_0000);
    assert_eq!(p.resolve(&user(Store, stores)), data(0x0220_0000));
    assert_eq!(p.resolve(&user(Load, stores)), FaultAction::Retry);
    assert_eq!(p.resolve(&user(Load, loads)), data(0x0020_0000));
    assert_eq!(p.resolve(&user(Fetch, loads)), instruction(0x0020_0000));
    assert_eq!(p.resolve(&user(Fetch, stores)), FaultAction::Retry);
    // No-execute page.
    with(0b10 | 0x4);
    assert_eq!(p.resolve(&PAGE.fault(Fetch)), instruction(0x1000_0000));
    assert_eq!(p.resolve(&PAGE.fault(Load)), FaultAction::Retry);
}

#[test]
fn a_no_execute_segment_is_told_before_the_table() {
    let p = partition();
    let no_execute = Asdr::new(PAGE.asdr().get() | 0x200);
    let fault = HpteFault {
        asdr: no_execute,
        ..PAGE.fault(Fetch)
    };
    assert_eq!(p.resolve(&fault), instruction(0x1000_0000));
}

#[test]
fn other_causes_go_to_the_guest_unchanged() {
    let p = partition();
    p.h_enter(0, PAGE.group(&p), PAGE.v(), PAGE.r(0)).unwrap();
    let watch = HpteFault {
        cause: 0x0240_0000,
        ..PAGE.fault(Store)
    };
    assert_eq!(p.resolve(&watch), data(0x0240_0000));
    let fetch = HpteFault {
        cause: 0x8000_0000_0000_1002,
        ..PAGE.fault(Fetch)
    };
    assert_eq!(p.resolve(&fetch), instruction(0));
}

#[test]
fn an_unknown_base_page_size_is_a_missing_translation() {
    let p = partition();
    let fault = HpteFault {
        asdr: Asdr::new(PAGE.asdr().get() | 0x20),
        ..PAGE.fault(Load)
    };
    assert_eq!(p.resolve(&fault), data(0x4000_0000));
}

#[test]
fn absent_memory_is_zeroed_and_the_entry_made_valid() {
    let p = lazy_partition();
    let at = PAGE.group(&p);
    p.h_enter(EXACT, at, PAGE.v(), PAGE.r(0x5_0000)).unwrap();
    let (v, r) = p.real(at);
    assert_eq!(v & 0x61, 0x20);
    p.steps();
    assert_eq!(p.resolve(&PAGE.miss(Load)), FaultAction::Retry);
    assert_eq!(p.real(at), (v & !0x20 | 1, r));
    assert!(p.memory().is_backed(GuestReal::new(0x5_0000), 0x1_0000));
    assert!(!p.memory().is_backed(GuestReal::new(0x6_0000), 1));
    // No tlbie: nobody can have used it. Doubleword 1 was there already.
    let steps = p.steps();
    assert_eq!(steps.len(), 3);
    assert!(matches!(steps[0], Step::Eieio) && matches!(steps[2], Step::Ptesync));
    p.check().unwrap();
}

#[test]
fn an_absent_page_that_the_guest_may_not_use_stays_absent() {
    let p = lazy_partition();
    let at = PAGE.group(&p);
    p.h_enter(EXACT, at, PAGE.v(), PAGE.r(0x5_0000) | 3)
        .unwrap();
    assert_eq!(p.resolve(&PAGE.fault(Store)), data(0x0a00_0000));
    assert_eq!(p.real(at).0 & 0x61, 0x20);
    assert!(!p.memory().is_backed(GuestReal::new(0x5_0000), 1));
}

#[test]
fn a_large_page_zeroes_all_that_it_covers() {
    let p = lazy_partition();
    let page = Page {
        encoding: PageEncoding::Base64KActual16M,
        ..PAGE
    };
    let at = page.group(&p);
    p.memory().write_u8(GuestReal::new(0x123_4567), 42).unwrap();
    p.h_enter(EXACT, at, page.v(), page.r(0x100_0000)).unwrap();
    assert_eq!(p.real(at).0 & 0x61, 0x20);
    assert_eq!(p.resolve(&page.fault(Load)), FaultAction::Retry);
    assert_eq!(p.real(at).0 & 0x61, 1);
    assert!(p.memory().is_backed(GuestReal::new(0x100_0000), 1 << 24));
    assert_eq!(p.memory().read_u8(GuestReal::new(0x123_4567)), Ok(42));
    assert!(!p.memory().is_backed(GuestReal::new(0xff_0000), 1));
}

#[test]
fn small_on_large_ok() {
    let p = lazy_partition();
    let page = Page {
        encoding: PageEncoding::Base4KActual4K,
        ..PAGE
    };
    let at = page.group(&p);
    p.h_enter(EXACT, at, page.v(), page.r(0x12_3000)).unwrap();
    assert_eq!(p.resolve(&page.fault(Load)), FaultAction::Retry);
    assert_eq!(p.real(at).1 & HpteR::RPN, p.host(0x12_3000));
    // Entered where the memory has been touched, it is valid at once.
    p.h_enter(EXACT, at + 1, page.v(), page.r(0x12_4000))
        .unwrap();
    assert_eq!(p.real(at + 1).0 & 0x61, 1);
}

#[test]
fn c_bit_survives_protect_of_an_absent_entry() {
    let p = lazy_partition();
    let at = PAGE.group(&p);
    p.h_enter(EXACT, at, PAGE.v(), PAGE.r(0x5_0000)).unwrap();
    p.h_protect(AVPN | 2, at, PAGE.v() & !0x7f).unwrap();
    assert_eq!(p.resolve(&PAGE.fault(Load)), FaultAction::Retry);
    assert_eq!(p.h_read(0, at).unwrap()[1] & 0x180, 0x80);
    assert_eq!(p.real(at).1 & 0x180, 0x80);
}

#[test]
fn vrma_each_page_size() {
    // Miri takes long for 8192 entries of 4 KiB.
    for page in PageSize::ALL.into_iter().skip(unless_miri(0, 1)) {
        let p = partition_with(Backing::Eager, small(page), TlbieErrata::NONE);
        let ps = match page {
            PageSize::P4K => 0x00,
            PageSize::P64K => 0xa0,
            PageSize::P16M => 0x80,
        };
        assert_eq!(p.pate().unwrap().dwords(), [p.hpt_base().get() | ps, 0]);
        let encoding = PageEncoding::new(page, page).unwrap();
        let mut found = 0;
        for at in (0..(32 << 20) / page.bytes()).map(|number| number * page.bytes()) {
            let vrma = Page {
                vsid: 0x1ff_ffff,
                ea: at,
                segment: SegmentSize::S1T,
                encoding,
            };
            let [v, r] = p.h_read(0, vrma.group(&p) + 7).unwrap();
            if v == vrma.v() | 0x10 {
                assert_eq!(r, at | (encoding.lp() << 12) | 0x190);
                found += 1;
            }
        }
        // One for each page, but with 4K pages there are four for each of 2048 groups.
        assert_eq!(found, (32 << 20) / page.bytes().max(16 << 10));
        assert_eq!(p.check().unwrap().bolted, found);
        // Every page can be reached, whatever its number.
        for at in [0, 0x1000, 0x1234_5678 % (32 << 20), (32 << 20) - 1] {
            for kind in [Load, Store, Fetch] {
                assert_eq!(p.resolve(&real_mode(at, page, kind)), FaultAction::Retry);
            }
        }
        p.check().unwrap();
    }
}

#[test]
fn vrma_entries_of_16m_pages_by_hand() {
    let p = partition();
    // VSID 0x1ffffff in a 1T segment: hash = 0x1ffffff ^ (0x1ffffff << 25) ^ page.
    let group = 0x7ff * 8;
    assert_eq!(p.h_read(0, group + 7), Ok([0x4001_ffff_ff00_0015, 0x190]));
    let group = 0x7fe * 8;
    assert_eq!(
        p.h_read(0, group + 7),
        Ok([0x4001_ffff_ff00_0115, 0x100_0190])
    );
    assert_eq!(
        p.real(group + 7),
        (
            0x1_ffff_ff00_0115,
            0x0400_0000_0000_0190 | p.host(0x100_0000)
        )
    );
}

#[test]
fn real_mode_ignores_the_upper_four_bits() {
    let p = lazy_partition();
    let at = 0xc000_0000_0012_3456;
    assert_eq!(
        p.resolve(&real_mode(at, PageSize::P16M, Load)),
        FaultAction::Retry
    );
    assert!(p.memory().is_backed(GuestReal::new(0), 1 << 24));
}

#[test]
fn real_mode_outside_memory_is_the_callers_to_judge() {
    let p = partition();
    for at in [0x200_0000, 0x100_0000_0000, 0x0fff_ffff_ffff_ffff] {
        for ea in [at, at | 0xc000_0000_0000_0000] {
            assert_eq!(
                p.resolve(&real_mode(ea, PageSize::P16M, Store)),
                FaultAction::NotMemory(GuestReal::new(at))
            );
        }
    }
}

#[test]
fn a_removed_vrma_entry_comes_back() {
    let p = partition();
    let ptex = 0x7ff * 8 + 7;
    p.h_remove(0, ptex, 0).unwrap();
    assert_eq!(
        p.resolve(&real_mode(0x1234, PageSize::P16M, Load)),
        FaultAction::Retry
    );
    assert_eq!(p.h_read(0, ptex), Ok([0x4001_ffff_ff00_0015, 0x190]));
}

#[test]
fn a_vrma_entry_moves_where_there_is_room() {
    let p = partition();
    let (primary, secondary) = (0x7ff * 8, 0);
    p.h_remove(0, primary + 7, 0).unwrap();
    for slot in 0..8 {
        p.h_enter(EXACT, primary + slot, PAGE.v() | 0x10, PAGE.r(0))
            .unwrap();
    }
    let fault = real_mode(0, PageSize::P16M, Load);
    assert_eq!(p.resolve(&fault), FaultAction::Retry);
    assert_eq!(
        p.h_read(0, secondary + 7),
        Ok([0x4001_ffff_ff00_0017, 0x190])
    );
    assert_eq!(p.resolve(&fault), FaultAction::Retry);
    // With the secondary group full too, an entry that is not bolted has to go.
    p.h_remove(0, secondary + 7, 0).unwrap();
    for slot in 0..8 {
        p.h_enter(EXACT, secondary + slot, PAGE.v() | 0x10, PAGE.r(0))
            .unwrap();
    }
    p.h_remove(0, primary + 2, 0).unwrap();
    p.h_enter(EXACT, primary + 2, PAGE.v(), PAGE.r(0)).unwrap();
    assert_eq!(p.resolve(&fault), FaultAction::Retry);
    assert_eq!(p.h_read(0, primary + 2).unwrap()[0], 0x4001_ffff_ff00_0015);
    p.check().unwrap();
    // And with nothing but bolted entries the guest has what it asked for.
    p.h_remove(0, primary + 2, 0).unwrap();
    p.h_enter(EXACT, primary + 2, PAGE.v() | 0x10, PAGE.r(0))
        .unwrap();
    assert_eq!(p.resolve(&fault), data(0x4000_0000));
}

#[test]
fn two_vcpus_make_one_vrma_entry() {
    let p = partition();
    let ptex = 0x7ff * 8 + 7;
    let (v, r) = p.h_remove(0, ptex, 0).unwrap();
    // One is at it, and finishes while the other, which has found nothing, waits.
    p.vrma_repair
        .store(true, core::sync::atomic::Ordering::Relaxed);
    let fault = real_mode(0, PageSize::P16M, Load);
    std::thread::scope(|scope| {
        let other = scope.spawn(|| p.resolve(&fault));
        std::thread::sleep(std::time::Duration::from_millis(20));
        assert!(!other.is_finished());
        p.h_enter(EXACT, ptex, v, r).unwrap();
        p.vrma_repair
            .store(false, core::sync::atomic::Ordering::Release);
        assert_eq!(other.join().unwrap(), FaultAction::Retry);
    });
    assert_eq!(p.check().unwrap().valid, 2);
}

#[test]
fn what_the_guest_forbids_itself_in_the_vrma_it_is_told() {
    let p = partition();
    p.h_protect(3, 0x7ff * 8 + 7, 0).unwrap();
    let fault = |kind| HpteFault {
        cause: NO_HPTE,
        ..real_mode(0, PageSize::P16M, kind)
    };
    assert_eq!(p.resolve(&fault(Store)), data(0x0a00_0000));
    assert_eq!(p.resolve(&fault(Load)), FaultAction::Retry);
}

#[test]
fn refill_races_with_removal() {
    let p = lazy_partition();
    let (group, rounds) = (PAGE.group(&p), unless_miri(2000_u64, 60));
    let actions = std::thread::scope(|scope| {
        let faults = scope.spawn(|| {
            let mut actions = vec![];
            for _ in 0..rounds {
                actions.push(p.resolve(&PAGE.miss(Load)));
            }
            actions
        });
        for i in 0..rounds {
            let at = (i % 256) << 16;
            p.h_enter(EXACT, group, PAGE.v(), PAGE.r(at)).unwrap();
            p.h_remove(AVPN, group, PAGE.v() & !0x7f).unwrap();
        }
        faults.join().unwrap()
    });
    assert!(
        actions
            .iter()
            .all(|action| matches!(action, FaultAction::Retry) || *action == data(0x4000_0000))
    );
    p.check().unwrap();
    assert!(super::order::broken_rules(&p.steps()).is_empty());
}
