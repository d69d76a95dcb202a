// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the guest wrote and what it used: harvesting C and R.
//!
//! The log of a slot has a bit for each granule. The hardware's C is harvested into it without ever
//! taking a right away: in passing, where an entry is removed or changed, and in the passes of
//! `harvest`. What the hypervisor itself writes is marked when it is written.
//!
//! R is harvested in place, by the one-byte store that the architecture permits, with one flush at
//! the end.

use super::HashMmu;
use super::refresh::Heads;
use super::ring::Ring;
use crate::guest_memory::SlotId;
use crate::page_ops::Machine;
use crate::slot::{GRANULE, Slot};
use penstock_arch::hash::{GuestHpteR, HpteR};

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
    #[must_use]
    pub fn take_used_bytes(&self, slot: SlotId) -> Option<u64> {
        let slot = self.memory.slot(slot)?;
        let (mut used, mut cleared) = (0, false);
        let mut at = 0;
        while at < slot.bytes() {
            let mut here = 0;
            // The table is not exchanged meanwhile.
            let _same_table = self.obligation();
            self.walk(slot, at, 1, Heads::Occupied, &mut |guard, place| {
                let r = guard.r();
                // Pages that begin further up were counted there.
                if place.offset != at || r.get() & HpteR::R == 0 || !guard.v().is_valid() {
                    return;
                }
                here = here.max(place.size().bytes());
                guard.set_guest_r(GuestHpteR::new(guard.guest_r().get() | HpteR::R));
                guard.clear_r_unflushed(r);
                cleared = true;
            });
            if let Some(head) = slot.head(at)
                && !super::ring::is_idle(head)
                && Ring::lock(head).take_referenced()
            {
                here = here.max(GRANULE);
            }
            used += here;
            at += GRANULE;
        }
        if cleared {
            self.flush_after_r_clear(None);
        }
        Some(used.min(slot.bytes()))
    }
}
