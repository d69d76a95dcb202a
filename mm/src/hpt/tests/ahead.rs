// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Memory that is backed at first touch, backed and shown by idle processors before that.

use super::flags::EXACT;
use super::ranges::with_slots;
use super::*;
use crate::guest_memory::{PIECE, SlotId};
use crate::real::Piece;
use core::sync::atomic::Ordering::Relaxed;
use penstock_arch::addr::GuestReal;

/// More steps than the partitions of these tests need.
const ENOUGH: usize = 4000;

/// Takes all steps that there are; how many those were.
#[track_caller]
fn finish(p: &HashMmu<TestMachine>) -> usize {
    let steps = (1..ENOUGH).find(|_| p.back_ahead() == Ahead::Done);
    steps.expect("it never ends")
}

/// Takes steps until all memory is there.
fn back_all(p: &HashMmu<TestMachine>) {
    let steps = (1..ENOUGH).find(|_| p.memory().is_fully_backed() || p.back_ahead() == Ahead::Done);
    assert!(steps.is_some() && p.memory().is_fully_backed());
}

fn page(number: u64, encoding: PageEncoding) -> Page {
    Page {
        ea: 0xc000_0000_0000_0000 + (number << 24),
        encoding,
        ..PAGE
    }
}

/// Enters pages of all sizes that are far from each other; where.
fn enter_some(p: &Fixture) -> Vec<u64> {
    let pages = [
        (1, PageEncoding::Base4KActual4K, 0x12_3000),
        (2, PageEncoding::Base64KActual64K, 0x45_0000),
        (3, PageEncoding::Base4KActual64K, 0x46_0000),
        (4, PageEncoding::Base16MActual16M, 0x100_0000),
    ];
    let enter = |(number, encoding, at)| {
        let page = page(number, encoding);
        p.h_enter(0, page.group(p), page.v(), page.r(at)).unwrap()
    };
    pages.map(enter).to_vec()
}

#[test]
fn a_partition_that_touches_nothing_has_nothing_hidden_in_the_end() {
    let p = lazy_partition();
    p.memory().write_u8(GuestReal::new(5 * PIECE), 7).unwrap();
    let entries = enter_some(&p);
    // And two pages of real mode.
    assert_eq!(p.hidden(), 6);
    let guest = p.everything();
    finish(&p);
    assert_eq!(p.hidden(), 0);
    assert!(!p.needs_vpm());
    assert!(p.memory().is_fully_backed());
    for at in entries {
        assert_eq!(p.real(at).0 & 1, 1);
    }
    // The guest has what it had.
    assert_eq!(p.everything(), guest);
    assert_eq!(p.memory().read_u8(GuestReal::new(5 * PIECE)), Ok(7));
    assert_eq!(p.check().unwrap().absent, 0);
    // And no step does anything any more.
    p.steps();
    assert_eq!(p.back_ahead(), Ahead::Done);
    assert_eq!(p.steps(), []);
}

#[test]
fn a_step_is_short() {
    let p = lazy_partition();
    for number in 0..p.entries() / 8 {
        let page = page(1, PageEncoding::Base64KActual64K);
        let at = number * 8;
        // All map one page: whoever goes along its ring never comes to an end.
        let entered = p.h_enter(EXACT, at, page.v() | (number << 7), page.r(0x45_0000));
        assert!(entered.is_ok() || p.real(at).0 != 0);
    }
    let zeroed = || p.machine.pages.zeroed.load(Relaxed);
    let mut steps = 0;
    loop {
        let before = (zeroed(), p.hidden());
        let ahead = p.back_ahead();
        assert!(zeroed() - before.0 <= PIECE);
        let shown = before.1 - p.hidden();
        // Of each eight entries one is in use, and two are real mode's.
        assert!(shown <= 512 / 8 + 2, "{shown} in one step");
        assert!(shown == 0 || zeroed() == before.0);
        steps += 1;
        if ahead == Ahead::Done {
            break;
        }
        assert!(steps < ENOUGH);
    }
    // The pieces, and heads and entries by 512.
    assert!(steps <= 512 + (8192 + 16384) / 512 + 1);
    assert_eq!(p.hidden(), 0);
}

#[test]
fn pieces_that_were_touched_cost_no_step() {
    let p = lazy_partition();
    p.memory().populate(GuestReal::new(0), 400 * PIECE).unwrap();
    assert!(finish(&p) <= 3 + 112 + (8192 + 16384) / 512);
    assert_eq!(p.hidden(), 0);
}

/// A piece is ready a moment before it is counted as such by whoever has touched it.
#[test]
fn the_last_piece_is_waited_for_where_another_is_at_it() {
    let p = lazy_partition();
    p.memory().populate(GuestReal::new(0), 511 * PIECE).unwrap();
    let at = enter_some(&p)[3];
    assert_eq!(p.back_ahead(), Ahead::More);
    assert_eq!(p.back_ahead(), Ahead::More);
    let ram = p.memory().ram();
    ram.clear_bits(300, Piece::READY);
    for _ in 0..3 {
        assert_eq!(p.back_ahead(), Ahead::More);
    }
    ram.set_bits(300, Piece::READY);
    finish(&p);
    assert_eq!((p.hidden(), p.real(at).0 & 1), (0, 1));
}

#[test]
fn what_is_entered_meanwhile_is_shown_too() {
    let p = lazy_partition();
    back_all(&p);
    let mut number = 0;
    while p.back_ahead() == Ahead::More {
        let page = page(number, PageEncoding::Base64KActual64K);
        let at = (number % 512) * PIECE;
        p.h_enter(0, page.group(&p), page.v(), page.r(at)).unwrap();
        number += 1;
    }
    assert!(number > 40);
    assert_eq!(p.hidden(), 0);
    p.check().unwrap();
}

#[test]
fn what_waits_for_a_device_or_is_guarded_stays_so() {
    let (p, device, screen) = with_slots(Backing::Lazy);
    let base = p.memory().slot(device).unwrap().base().get();
    let of_device = page(9, PageEncoding::Base64KActual64K);
    let r = of_device.r(base) & !0x78 | 0x28;
    let at = p.h_enter(0, of_device.group(&p), of_device.v(), r).unwrap();
    enter_some(&p);
    let _ = p.protect(SlotId::MEMORY, 0x45_0000, PIECE).flush();
    finish(&p);
    // One absent entry, one guarded piece.
    assert_eq!(p.hidden(), 2);
    assert_eq!(p.real(at).0 & 0x21, 0x20);
    assert_eq!(p.memory().slot(device).unwrap().unready(), 64);
    assert_eq!(p.memory().slot(screen).unwrap().unready(), 0);
    p.check().unwrap();
    p.unprotect(SlotId::MEMORY, 0x45_0000, PIECE);
    assert_eq!(p.hidden(), 1);
}

#[test]
fn where_the_table_is_resized_all_of_it_is_looked_at_anew() {
    let config = HptConfig {
        resize: HptOrder::new(20),
        ..HptConfig::new(HptOrder::new(20).unwrap())
    };
    let p = partition_with(Backing::Lazy, config, TlbieErrata::NONE);
    let far = (0..)
        .map(|number| page(number, PageEncoding::Base64KActual64K))
        .find(|page| page.group(&p) > p.entries() / 2)
        .unwrap();
    let at = p
        .h_enter(0, far.group(&p), far.v(), far.r(0x45_0000))
        .unwrap();
    back_all(&p);
    // As many as the smaller table has were looked at already.
    for _ in 0..8192 / 512 + 16384 / 512 {
        assert_eq!(p.back_ahead(), Ahead::More);
    }
    assert_eq!(p.real(at).0 & 0x21, 0x20);
    while p.h_resize_hpt_prepare(0, 18) != HcallStatus::SUCCESS {}
    p.h_resize_hpt_commit(0, 18, |_| ()).unwrap();
    finish(&p);
    assert_eq!(p.hidden(), 0);
    p.check().unwrap();
}

#[test]
fn one_that_starts_over_is_shown_again() {
    let p = lazy_partition();
    enter_some(&p);
    for _ in 0..600 {
        let _ = p.back_ahead();
    }
    p.clear_all();
    finish(&p);
    enter_some(&p);
    p.clear_all();
    enter_some(&p);
    assert_eq!(p.hidden(), 0);
    p.check().unwrap();
}

#[test]
fn memory_that_was_there_before_is_left_alone() {
    let p = partition();
    assert_eq!(p.back_ahead(), Ahead::Done);
    assert_eq!(p.steps(), []);
}

/// A guest that enters, removes and touches while an idle processor works.
#[test]
fn a_guest_goes_on_meanwhile() {
    const ROUNDS: u64 = unless_miri(40, 1);
    for round in 0..ROUNDS {
        let p = lazy_partition();
        std::thread::scope(|scope| {
            let p = &p;
            scope.spawn(move || {
                for number in 0..2000 {
                    let page = page(number, PageEncoding::Base64KActual64K);
                    let at = (number * 37 + round) % 512 * PIECE;
                    let entered = p.h_enter(0, page.group(p), page.v(), page.r(at));
                    if number % 5 == 0 {
                        let _ = p.resolve(&page.miss(AccessKind::Load));
                    }
                    if let (Ok(at), 0) = (entered, number % 3) {
                        p.h_remove(0, at, 0).unwrap();
                    }
                }
            });
            finish(p);
        });
        assert_eq!(p.hidden(), 0);
        p.check().unwrap();
    }
}
