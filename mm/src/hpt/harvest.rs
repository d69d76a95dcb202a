// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Passes that move the hardware's C into the log of a slot: a read-only one that costs no tlbie, and
//! an exact one that clears C under V=0, in batches with one flush each.
//!
//! A pass goes through the table and not through the rings of the slot's pages. A guest can map one
//! page by as many entries as its table has, so only so is a step bounded: by the entries that it looks
//! at. Entries do not move meanwhile but by a resize or anew by the guest, and either notes C in passing.

use super::HashMmu;
use super::place::Place;
use super::refresh::FLUSH_ALL_ABOVE;
use crate::guest_memory::SlotId;
use crate::hpt::guard::HpteGuard;
use crate::page_ops::Machine;
use crate::slot::Slot;
use arrayvec::ArrayVec;
use core::ops::Range;
use penstock_arch::hash::{HpteR, TlbieRb};

/// Whether virtual processors of the partition may be in the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VcpusAre {
    /// They may: what a processor has not stored yet is found the next time.
    Running,
    /// They are not, so there is no next time: processors are made to store what they have.
    Stopped,
}

/// What a pass does about C.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// What the hardware has stored so far goes into the log. Nothing is cleared or flushed.
    Rough,
    /// All that was written before goes into the log, and C is cleared, so that the next store is seen.
    Exact,
}

/// Entries that a step of a whole pass looks at; then others may have the locks.
pub(super) const ENTRIES_PER_STEP: u64 = 4096;

impl<M: Machine> HashMmu<M> {
    /// The read-only pass. `None` where there is no such slot, or no log.
    #[must_use]
    pub fn harvest_roughly(&self, slot: SlotId) -> Option<()> {
        self.harvest_all(slot, Pass::Rough)
    }

    /// The exact pass. `None` where there is no such slot, or no log.
    #[must_use]
    pub fn harvest(&self, slot: SlotId, vcpus: VcpusAre) -> Option<()> {
        self.logged(slot)?;
        match vcpus {
            VcpusAre::Running => {}
            // A processor may hold back the store of C until it is invalidated.
            VcpusAre::Stopped => self.flush_partition(),
        }
        self.harvest_all(slot, Pass::Exact)
    }

    fn harvest_all(&self, slot: SlotId, pass: Pass) -> Option<()> {
        self.logged(slot)?;
        // Threads leave the guest once, and not in each step.
        let veiled = u64::from(pass == Pass::Exact);
        self.veil_more(veiled);
        let mut first = 0;
        while let Some(Some(next)) = self.harvest_some(slot, pass, first, ENTRIES_PER_STEP) {
            first = next;
        }
        self.veil_less(veiled);
        Some(())
    }

    /// One step of a pass, over `count` entries of the table from entry `first` on. Returns the first
    /// entry of the next step, or `None` within at the end. `None` where there is no such slot, or no
    /// log.
    #[must_use]
    pub fn harvest_some(
        &self,
        slot: SlotId,
        pass: Pass,
        first: u64,
        count: u64,
    ) -> Option<Option<u64>> {
        let slot = self.logged(slot)?;
        // The table is not exchanged meanwhile, and nobody else has entries that wait for a flush.
        let _alone = self.lock_range();
        let end = first.saturating_add(count.max(1)).min(self.entries());
        match pass {
            Pass::Rough => self.for_each_of(slot, first..end, |guard, place| {
                if guard.r().get() & HpteR::C != 0 {
                    slot.mark_dirty(place.offset, place.size().bytes());
                }
            }),
            Pass::Exact => self.clear_changed(slot, first..end),
        }
        Some((end < self.entries()).then_some(end))
    }

    /// How many entries a pass looks at, in the largest table that the partition can have.
    #[must_use]
    pub const fn harvest_end(&self) -> u64 {
        self.changes.entries()
    }

    /// Calls `each` with each entry for a page of this slot, locked.
    pub(super) fn for_each_of<'a>(
        &'a self,
        slot: &Slot,
        entries: Range<u64>,
        mut each: impl FnMut(HpteGuard<'a, M>, Place<'a>),
    ) {
        // Most entries are free, and need no lock to be seen so.
        for index in self.table().in_use(entries) {
            let guard = self.lock(index);
            if guard.v().is_present()
                && let Some(place) = self.place(guard.v(), guard.guest_r())
                && core::ptr::eq(place.slot, slot)
            {
                each(guard, place);
            }
        }
    }

    /// Hides the entries that have C, flushes once, and lets each say what is true: without C, which is
    /// in the log then.
    fn clear_changed(&self, slot: &Slot, entries: Range<u64>) {
        let mut operands = ArrayVec::<Option<TlbieRb>, FLUSH_ALL_ABOVE>::new();
        let mut hidden = 0;
        // Threads leave the guest before a lock is taken here: one that waits for that lock, in a
        // call of its guest's, would never leave.
        self.veil_more(1);
        self.for_each_of(slot, entries.clone(), |guard, _| {
            let r = guard.r();
            if r.get() & HpteR::C == 0 {
                return;
            }
            if guard.v().is_valid() {
                // Where there is no room any more, all is flushed.
                let _ = operands.try_push(guard.hide_unflushed(r));
                hidden += 1;
            } else {
                // From before it was hidden, or from the guest: told once, too.
                guard.quiesce(r).settle();
            }
        });
        if hidden > operands.len() {
            self.flush([None]);
        } else if hidden > 0 {
            self.flush(operands);
        }
        if hidden > 0 {
            self.show_changed(slot, entries);
        }
        self.veil_less(1);
    }

    /// Lets the entries that a step has hidden, and flushed since, say what is true.
    pub(super) fn show_changed(&self, slot: &Slot, entries: Range<u64>) {
        self.for_each_of(slot, entries, |guard, place| {
            if guard.v().is_unflushed() {
                // Nobody else marks entries meanwhile, and all that are marked were flushed.
                guard.flushed_elsewhere().settle();
            } else if guard.v().is_absent() {
                // The guest has cleared its R or C meanwhile, which takes the mark and leaves it hidden.
                self.show_if_there(guard, &place);
            }
        });
    }
}
