// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What processors with nothing else to do make of memory that is backed at first touch: they touch the
//! rest of it, and show the hardware the entries that waited for that. Then nothing is hidden on its
//! account any more, and the guest takes its own faults.
//!
//! A step zeroes one piece, or looks at so many heads or entries, so that whoever waits for the processor
//! does not wait for long. Entries are looked at only once the last piece is ready, and in the table's
//! order: a ring is as long as its guest likes. First the lock of each ring's head is taken once. Whoever
//! enters an entry takes it too, between its entry's lock and its look at the piece: so either he sees
//! that the piece is ready, or his entry is locked, or absent, when the table is looked at later.
//! `tests/interleavings` tries every interleaving.

use super::HashMmu;
use super::guard::HpteGuard;
use super::place::Place;
use super::ring::Ring;
use crate::page_ops::Machine;
use crate::slot::GRANULE;
use core::sync::atomic::{AtomicU64, Ordering};
use penstock_arch::hash::HpteIndex;

/// Whether there is more to do ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ahead {
    /// There is.
    More,
    /// All memory is backed and shown; or it is not to be, before the guest asks for it.
    Done,
}

/// Heads or entries that a step looks at.
const PER_STEP: u64 = 512;

/// All was looked at.
const DONE: u64 = u64::MAX;

/// How far heads, and after them entries, were looked at. Changed under the range lock, or while the
/// partition is held to start over.
#[derive(Debug)]
pub(super) struct Looked(AtomicU64);

impl Looked {
    /// At nothing; or at all where memory `is_done`, so that nothing ever waits for it.
    pub(super) const fn new(is_done: bool) -> Self {
        Self(AtomicU64::new(if is_done { DONE } else { 0 }))
    }

    fn at(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn set(&self, at: u64) {
        self.0.store(at, Ordering::Relaxed);
    }

    /// The entries are elsewhere: those that were not looked at may be among the others now.
    pub(super) fn begin_anew(&self) {
        if self.at() != DONE {
            self.set(0);
        }
    }
}

impl<M: Machine> HashMmu<M> {
    /// Backs a piece of memory that nobody has touched yet; where there is none, shows the hardware some
    /// of the entries that waited for theirs. One processor at a time, while nobody holds the partition
    /// in order to change its backing or to exchange its table.
    ///
    /// What comes from a pool is taken when it is needed, and never before.
    pub fn back_ahead(&self) -> Ahead {
        if self.looked.at() == DONE {
            return Ahead::Done;
        }
        if self.memory.is_fully_backed() {
            self.look_ahead()
        } else {
            // Where there was none left, whoever is done with the last one has not counted it yet.
            self.memory.populate_some(1);
            Ahead::More
        }
    }

    fn look_ahead(&self) -> Ahead {
        // The table is not exchanged meanwhile, and no entry waits for a flush.
        let _alone = self.lock_range();
        let ram = self.memory.ram();
        let heads = ram.bytes() / GRANULE;
        let at = self.looked.at();
        let next = match at.checked_sub(heads) {
            None => {
                let end = (at + PER_STEP).min(heads);
                for head in (at..end).filter_map(|number| ram.head(number * GRANULE)) {
                    drop(Ring::lock(head));
                }
                end
            }
            Some(first) => {
                let end = first.saturating_add(PER_STEP).min(self.entries());
                for index in self.table().in_use(first..end) {
                    self.show_if_backed(index);
                }
                if end < self.entries() {
                    heads + end
                } else {
                    DONE
                }
            }
        };
        self.looked.set(next);
        if next == DONE {
            Ahead::Done
        } else {
            Ahead::More
        }
    }

    /// Makes an entry valid that is absent and need not be.
    fn show_if_backed(&self, index: HpteIndex) {
        // Most entries are valid, and need no lock to be seen so.
        if self.table().entry(index).load_v().is_valid() {
            return;
        }
        let guard = self.lock(index);
        if guard.v().is_absent()
            && let Some(place) = self.place(guard.v(), guard.guest_r())
        {
            self.show_if_there(guard, &place);
        }
    }

    /// Makes an absent entry valid, unless its page is not there: a device's may not be.
    pub(super) fn show_if_there(&self, guard: HpteGuard<'_, M>, place: &Place<'_>) {
        let r = guard.r();
        let wanted = place.wanted(guard.guest_r(), r.segment(), place.state());
        if wanted.visible {
            guard.quiesce(r).settle();
        }
    }
}
