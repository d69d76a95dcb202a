// SPDX-License-Identifier: Apache-2.0 OR MIT
//! H_CLEAR_HPT.

use super::super::flags::EXACT;
use super::*;
use penstock_arch::hash::{VRMA_SEGMENT, VRMA_VSID};
use std::time::Duration;

fn fill(p: &Fixture, entries: impl Iterator<Item = u64>) {
    for at in entries {
        let bolted = if at % 3 == 0 { 0x10 } else { 0 };
        let _ = p.h_enter(EXACT, at, PAGE.v() | bolted, PAGE.r(0));
    }
}

#[test]
fn clear_hpt_leaves_the_real_mode_area_only() {
    for p in [partition(), lazy_partition()] {
        let before = everything(&p);
        assert!(!before.is_empty());
        fill(&p, (0..p.entries()).step_by(unless_miri(5, 131)));
        p.steps();
        assert_eq!(p.h_clear_hpt(0), None);
        assert_eq!(everything(&p), before);
        let steps = p.steps();
        assert_eq!(super::order::broken_rules(&steps), []);
        let [
            ..,
            Step::TlbieLpid(LPID),
            Step::Eieio,
            Step::Tlbsync,
            Step::Ptesync,
        ] = steps[..]
        else {
            panic!("{:?}", steps.last())
        };
        p.check().unwrap();
    }
}

#[test]
fn clear_hpt_flushes_once_a_batch() {
    let p = partition();
    // One entry is the real mode area's.
    fill(&p, 0..129);
    p.steps();
    assert_eq!(p.h_clear_hpt(0), None);
    let steps = p.steps();
    let count = |wanted: fn(&Step) -> bool| steps.iter().filter(|step| wanted(step)).count();
    assert_eq!(count(|step| matches!(step, Step::Tlbie(..))), 0);
    let removed = 129 - everything(&p).range(..129).count();
    assert_eq!(
        count(|step| matches!(step, Step::TlbieLpid(_))),
        removed.div_ceil(64) + 1
    );
    // An empty table: the partition is flushed all the same.
    p.h_clear_hpt(0);
    let flush = [Step::Ptesync, Step::TlbieLpid(LPID)];
    assert_eq!(
        p.steps().iter().filter(|step| flush.contains(step)).count(),
        3
    );
}

#[test]
fn clear_hpt_spares_what_maps_real_mode_and_nothing_else() {
    let p = partition();
    let real_mode = Page {
        vsid: VRMA_VSID,
        ea: 0x1_0000,
        segment: VRMA_SEGMENT,
        ..PAGE
    };
    let others = [
        Page {
            segment: SegmentSize::S256M,
            ..real_mode
        },
        Page {
            vsid: VRMA_VSID ^ 1,
            ..real_mode
        },
        Page {
            vsid: VRMA_VSID | 1 << 27,
            ..real_mode
        },
    ];
    p.h_enter(EXACT, 16, real_mode.v(), real_mode.r(0)).unwrap();
    for (at, other) in (17..).zip(others) {
        p.h_enter(EXACT, at, other.v() | 0x10, other.r(0)).unwrap();
    }
    p.h_clear_hpt(0);
    assert_eq!(p.h_read(0, 16), Ok([real_mode.v(), real_mode.r(0)]));
    for at in 17..20 {
        assert_eq!(p.h_read(0, at), Ok([0, 0]), "{at}");
    }
}

#[test]
fn clear_hpt_goes_on_where_it_stopped() {
    let p = partition();
    let before = everything(&p);
    // The last of so many entries is there.
    let stride = unless_miri(1, 16);
    let filled = || (0..p.entries()).skip(stride - 1).step_by(stride);
    // By entries looked at: a group is never cut in two.
    fill(&p, filled());
    let part = unless_miri(1000, 4000);
    let (mut at, mut calls) = (0, 0);
    while let Some(next) = p.clear_some(at, part, u64::MAX) {
        assert_eq!(next, at + part);
        let now = everything(&p);
        assert!(now.range(..1000).eq(before.range(..1000)));
        assert!(now.contains_key(&16383));
        assert!(!p.steps().is_empty());
        (at, calls) = (next, calls + 1);
    }
    assert_eq!((calls, everything(&p)), (16_384 / part, before.clone()));
    // By entries removed.
    fill(&p, filled());
    let (mut at, mut calls) = (0, 0);
    while let Some(next) = p.clear_some(at, u64::MAX, 100) {
        assert!((unless_miri(104, 100 * 16)..=112 * stride as u64).contains(&(next - at)));
        (at, calls) = (next, calls + 1);
    }
    assert!(calls > 140 / stride && everything(&p) == before);
    // Whatever the beginning is, the table's end is the end.
    for from in [16383, 16384, 16400, u64::MAX] {
        assert_eq!(p.h_clear_hpt(from), None);
    }
}

#[test]
fn clear_hpt_waits_with_no_other_entry_locked() {
    let p = partition();
    fill(&p, 64..128);
    let at = HpteIndex::new(100);
    let guard = p.lock(at);
    std::thread::scope(|scope| {
        let call = scope.spawn(|| p.h_clear_hpt(0));
        // However long a busy machine keeps the other thread waiting.
        for _ in 0..10_000 {
            if (64..100).all(|before| p.real(before).0 == 0) {
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(!call.is_finished());
        // All before it are gone and free; a new entry can be made.
        for before in 64..100 {
            assert_eq!(p.real(before).0, 0, "{before}");
        }
        p.h_enter(EXACT, 64, PAGE.v(), PAGE.r(0)).unwrap();
        drop(guard);
        assert_eq!(call.join().unwrap(), None);
    });
    // What came behind the sweep stays, the rest went.
    assert_eq!(p.h_read(0, 64), Ok([PAGE.v(), PAGE.r(0)]));
    assert_eq!(p.real(100).0, 0);
}

#[test]
fn clear_hpt_against_another_processor() {
    let p = partition();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..unless_miri(40, 4) {
                fill(&p, 8..200);
                let mut specs = core::array::from_fn(|i| 0x40 << 56 | (100 - 3 * i as u64));
                p.h_block_remove(0, &mut specs);
                let _ = p.h_protect(3, 8 + round, 0);
            }
        });
        for _ in 0..unless_miri(20, 2) {
            assert_eq!(p.h_clear_hpt(0), None);
        }
    });
    p.check().unwrap();
    p.h_clear_hpt(0);
    assert_eq!(p.check().unwrap().valid, 2);
}
