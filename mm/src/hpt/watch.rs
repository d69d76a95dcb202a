// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the guest wrote and what it used: harvesting C and R.
//!
//! The log of a slot has a bit for each granule. The hardware's C is harvested into it without ever
//! taking a right away: in passing, where an entry is removed or changed, in a read-only pass that
//! costs no tlbie, and in an exact pass that clears C under V=0, in batches with one flush each. What
//! the hypervisor itself writes is marked when it is written.
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

/// Whether virtual processors of the partition may be in the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VcpusAre {
    /// They may: what a processor has not stored yet is found the next time.
    Running,
    /// They are not, so there is no next time: processors are made to store what they have.
    Stopped,
}

/// What one step of a pass looks at, so that a step is bounded.
const BYTES_PER_PART: u64 = 16 << 20;

/// The part after `part`, unless it was the last.
const fn next_part(slot: &Slot, part: u64) -> Option<u64> {
    let next = part.saturating_add(1);
    if next.saturating_mul(BYTES_PER_PART) < slot.bytes() {
        Some(next)
    } else {
        None
    }
}

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

    /// The read-only pass: what the hardware has stored in C so far goes into the log. Nothing is
    /// cleared or flushed. `None` where there is no such slot, or no log.
    #[must_use]
    pub fn harvest_roughly(&self, slot: SlotId) -> Option<()> {
        let mut part = 0;
        while let Some(next) = self.harvest_part_roughly(slot, part)? {
            part = next;
        }
        Some(())
    }

    /// The read-only pass over part `part` of a slot, each 16 MiB; the number of the next part, or
    /// `None` within at the end. `None` where there is no such slot, or no log.
    #[must_use]
    pub fn harvest_part_roughly(&self, slot: SlotId, part: u64) -> Option<Option<u64>> {
        let slot = self.logged(slot)?;
        let offset = part.saturating_mul(BYTES_PER_PART);
        // The table is not exchanged meanwhile.
        let _same_table = self.obligation();
        self.walk(
            slot,
            offset,
            BYTES_PER_PART,
            Heads::Occupied,
            &mut |guard, place| {
                if guard.r().get() & HpteR::C != 0 {
                    slot.mark_dirty(place.offset, place.size().bytes());
                }
            },
        );
        Some(next_part(slot, part))
    }

    /// The exact pass: all that was written before goes into the log, and C is cleared, so that the
    /// next store is seen. `None` where there is no such slot, or no log.
    #[must_use]
    pub fn harvest(&self, slot: SlotId, vcpus: VcpusAre) -> Option<()> {
        self.logged(slot)?;
        match vcpus {
            VcpusAre::Running => {}
            // A processor may hold back the store of C until it is invalidated.
            VcpusAre::Stopped => self.flush_partition(),
        }
        let mut part = 0;
        while let Some(next) = self.harvest_part(slot, part)? {
            part = next;
        }
        Some(())
    }

    /// The exact pass over part `part` of a slot, each 16 MiB; the number of the next part, or
    /// `None` within at the end. `None` where there is no such slot, or no log.
    #[must_use]
    pub fn harvest_part(&self, slot: SlotId, part: u64) -> Option<Option<u64>> {
        let slot = self.logged(slot)?;
        let offset = part.saturating_mul(BYTES_PER_PART);
        let _ = self
            .obligation()
            .and_hide(slot, offset, BYTES_PER_PART, Heads::Occupied, |guard, _| {
                guard.v().is_valid() && guard.r().get() & HpteR::C != 0
            })
            .flush();
        Some(next_part(slot, part))
    }

    /// How many parts a slot has for harvests; 0 where there is no such slot.
    #[must_use]
    pub fn harvest_parts(&self, slot: SlotId) -> u64 {
        self.memory
            .slot(slot)
            .map_or(0, |slot| slot.bytes().div_ceil(BYTES_PER_PART))
    }

    fn logged(&self, slot: SlotId) -> Option<&Slot> {
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

    /// How many granules of part `part` of a slot, each 16 MiB, the log has at this moment.
    #[must_use]
    pub fn logged_granules(&self, slot: SlotId, part: u64) -> u64 {
        const WORDS_PER_PART: u64 = BYTES_PER_PART / GRANULE / u64::BITS as u64;
        self.memory.slot(slot).map_or(0, |slot| {
            let first = part.saturating_mul(WORDS_PER_PART);
            let end = first.saturating_add(WORDS_PER_PART).min(slot.dirty_words());
            (first..end)
                .map(|number| u64::from(slot.peek_dirty(number).count_ones()))
                .sum()
        })
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
