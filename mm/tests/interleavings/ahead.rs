// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Memory that idle processors back (`hpt/ahead.rs`): once the piece is ready and the table was looked at,
//! no entry of the guest's is absent, whoever entered it meanwhile.
//!
//! The word is 1 when the piece is ready.

use crate::page::Page;
use crate::ring::Ring;
use crate::sync::Ordering;
use crate::table::{ABSENT, ENTRIES, Entry, VALID};
use core::ops::Deref;
use loom::sync::Arc;

/// The word once the piece is ready.
const READY: u64 = 1;

struct Partition(Page);

impl Deref for Partition {
    type Target = Page;

    fn deref(&self) -> &Page {
        &self.0
    }
}

impl Partition {
    fn new() -> Arc<Self> {
        Arc::new(Self(Page::new(0)))
    }

    /// What is true of an entry of this piece; unlocks it. `PieceTable::load_locked`.
    fn settle(&self, entry: Entry<'_>) {
        let is_ready = self.word.load(Ordering::Relaxed) == READY;
        entry.store_v(if is_ready { VALID } else { ABSENT });
    }

    fn enter(&self, number: u64) {
        self.settle(self.link(number));
    }

    /// A call that takes an absent entry's lock, and puts back what it has found.
    fn look(&self, number: u64) {
        let entry = self.entry(number);
        entry.lock();
        entry.store_v(entry.load_v());
    }

    /// `zero_piece`.
    fn back(&self) {
        self.word.fetch_or(READY, Ordering::Release);
    }

    /// `look_ahead`, all steps of it, by one who has seen that the last piece is ready.
    fn look_ahead(&self) {
        drop(Ring::lock(&self.head));
        for number in 0..ENTRIES as u64 {
            let entry = self.entry(number);
            if matches!(entry.load_raw_v(), 0 | VALID) {
                continue;
            }
            entry.lock();
            match entry.load_v() {
                ABSENT => self.settle(entry),
                v => entry.store_v(v),
            }
        }
    }

    fn assert_shown(&self) {
        for number in 0..ENTRIES as u64 {
            let v = self.entry(number).load_v();
            assert_ne!(v, ABSENT, "entry {number} stays hidden");
        }
    }
}

#[test]
fn loom_ahead_against_two_that_enter() {
    crate::check("backed ahead, two that enter", 1, || {
        let p = Partition::new();
        let threads = [0, 1].map(|number| crate::spawn(&p, move |p| p.enter(number)));
        p.back();
        p.look_ahead();
        crate::join(threads);
        p.assert_shown();
    });
}

/// The guest's own fault has backed the last piece, on another processor.
#[test]
fn loom_ahead_after_another_has_backed_the_last_piece() {
    crate::check("backed by another, one that enters and looks", 1, || {
        let p = Partition::new();
        p.enter(1);
        let threads = [
            crate::spawn(&p, |p| {
                p.enter(0);
                p.look(1);
            }),
            crate::spawn(&p, |p| p.back()),
        ];
        // `is_fully_ready`.
        if p.word.load(Ordering::Acquire) == READY {
            p.look_ahead();
            crate::join(threads);
            p.assert_shown();
        } else {
            crate::join(threads);
        }
    });
}
