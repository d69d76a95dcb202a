// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the guest wrote and what it used: harvesting C and R.
//!
//! The log of a slot has a bit for each granule. The hardware's C is harvested into it without ever
//! taking a right away: in passing, where an entry is removed or changed, and in the passes of
//! `harvest`. What the hypervisor itself writes is marked when it is written.
//!
//! R is harvested in place, by the one-byte store that the architecture permits, with one flush at
//! the end. Where the guest has R cleared, or removes the entry, the head of the page's ring remembers it.

use super::HashMmu;
use super::harvest::ENTRIES_PER_STEP;
use super::place::Place;
use super::ring::{self, Ring};
use crate::guest_memory::SlotId;
use crate::page_ops::Machine;
use crate::slot::{GRANULE, Slot};
use core::sync::atomic::Ordering;
use penstock_arch::hash::{GuestHpteR, HpteR, HpteV, PageSize};

impl<M: Machine> HashMmu<M> {
    /// Begins to log what is written to a slot. What was written shortly before may be in the log
    /// too. `None` where there is no such slot.
    #[must_use]
    pub fn start_log(&self, slot: SlotId) -> Option<()> {
        self.memory.slot(slot)?.set_logging(true);
        Some(())
    }

    /// Ends it. `None` where there is no such slot.
    #[must_use]
    pub fn stop_log(&self, slot: SlotId) -> Option<()> {
        self.memory.slot(slot)?.set_logging(false);
        Some(())
    }

    pub(super) fn logged(&self, slot: SlotId) -> Option<&Slot> {
        self.memory.slot(slot).filter(|slot| slot.is_logging())
    }

    /// Takes the bits of 64 granules for each word of `out` from granule `64 * first` on, bit 0 (from
    /// the right) the first granule, and clears them. Returns how many words there were.
    pub fn take_log(&self, slot: SlotId, first: u64, out: &mut [u64]) -> usize {
        let Some(slot) = self.memory.slot(slot) else {
            return 0;
        };
        let mut taken = 0;
        for (word, number) in out.iter_mut().zip(first..slot.dirty_words()) {
            *word = slot.take_dirty(number);
            taken += 1;
        }
        taken
    }

    /// The same bits, which stay.
    pub fn peek_log(&self, slot: SlotId, first: u64, out: &mut [u64]) -> usize {
        let Some(slot) = self.memory.slot(slot) else {
            return 0;
        };
        let mut seen = 0;
        for (word, number) in out.iter_mut().zip(first..slot.dirty_words()) {
            *word = slot.peek_dirty(number);
            seen += 1;
        }
        seen
    }

    /// How many granules have come into the log of a slot since it began, those included that were
    /// taken out and came again; 0 where there is no such slot.
    #[must_use]
    pub fn logged_granules(&self, slot: SlotId) -> u64 {
        self.memory.slot(slot).map_or(0, Slot::marked)
    }

    /// Bytes of a slot that were used since the last call, in whole pages: the working set. Clears R
    /// in the hardware's entries, and not in what the guest sees.
    ///
    /// Looks at each entry and at each granule once: the rings of pages are not walked, for a guest can
    /// map one page by as many entries as its table has.
    #[must_use]
    pub fn take_used_bytes(&self, slot: SlotId) -> Option<u64> {
        let slot = self.memory.slot(slot)?;
        self.ages.store(true, Ordering::Relaxed);
        let (mut first, mut cleared) = (0, false);
        while first < self.entries() {
            // The table is not exchanged meanwhile.
            let _same_table = self.lock_range();
            let end = (first + ENTRIES_PER_STEP).min(self.entries());
            self.for_each_of(slot, first..end, |guard, place| {
                let r = guard.r();
                if r.get() & HpteR::R == 0 || !guard.v().is_valid() {
                    return;
                }
                guard.set_guest_r(GuestHpteR::new(guard.guest_r().get() | HpteR::R));
                guard.clear_r_unflushed(r);
                note_used(&place);
                cleared = true;
            });
            first = end;
        }
        if cleared {
            self.flush_after_r_clear(None);
        }
        let (mut used, mut at) = (0, 0);
        while at < slot.bytes() {
            if let Some(head) = slot.head(at)
                && !ring::is_idle(head)
            {
                let size = Ring::lock(head).take_used();
                used += size.map_or(0, PageSize::bytes);
            }
            at += GRANULE;
        }
        Some(used.min(slot.bytes()))
    }

    /// Whether somebody asks what the partition uses, so that whoever clears R has to say so.
    #[inline]
    pub(super) fn is_aged(&self) -> bool {
        self.ages.load(Ordering::Relaxed)
    }

    /// The page of an entry was used, and nothing in the entry will tell.
    #[cold]
    #[inline(never)]
    pub(super) fn note_used(&self, v: HpteV, guest_r: GuestHpteR) {
        if let Some(place) = self.place(v, guest_r) {
            note_used(&place);
        }
    }
}

/// Puts it into the head of the page's ring.
fn note_used(place: &Place<'_>) {
    if let Some(head) = place.slot.head(place.offset) {
        Ring::lock(head).note_used(place.size());
    }
}
