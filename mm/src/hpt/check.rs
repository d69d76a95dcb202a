// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Checks what is always true of a table, entry by entry, in tests and from the monitor.

use super::HashMmu;
use super::ring::{self, Ring};
use crate::page_ops::Machine;
use crate::slot::Slot;
use penstock_arch::hash::{GuestHpteR, HpteIndex, HpteR, HpteV, PageSize};

/// What a table holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HptStats {
    /// Entries altogether.
    pub entries: u64,
    /// Entries that the hardware uses.
    pub valid: u64,
    /// Entries that the guest has and the hardware does not see.
    pub absent: u64,
    /// Entries of the two above that are bolted.
    pub bolted: u64,
    /// Entries by actual page size: 4 KiB, 64 KiB, 16 MiB.
    pub by_size: [u64; 3],
}

/// An entry for which something is not true that must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The entry.
    pub index: HpteIndex,
    /// Doubleword 0.
    pub v: HpteV,
    /// Doubleword 1.
    pub r: HpteR,
    /// The guest's doubleword 1.
    pub guest_r: GuestHpteR,
    /// What is wrong.
    pub rule: Rule,
}

/// What must be true of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Doubleword 0 of an entry that the guest does not have is zero.
    FreeIsZero,
    /// An entry is not valid and absent at once.
    ValidOrAbsent,
    /// The page size encoding is defined.
    PageSize,
    /// The page is memory of the partition.
    Memory,
    /// The real page is where the partition's memory has the guest's page.
    Translation,
    /// Protection, key, N and WIMG are the guest's, without the right to store to what is guarded.
    Attributes,
    /// The page of a valid entry is there, and its memory has been zeroed once.
    Backed,
    /// The entry is in the ring of its page, and the ring is closed, both ways round.
    Ring,
    /// What is hidden is counted.
    Counted,
    /// A frame of a pool is the partition's own, or an image's that the entry does not let it write.
    Frame,
}

impl core::fmt::Display for Violation {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(
            f,
            "HPTE {:#x} breaks {:?}: {:?} {:?} {:?}",
            self.index.get(),
            self.rule,
            self.v,
            self.r,
            self.guest_r
        )
    }
}

impl core::error::Error for Violation {}

impl<M: Machine> HashMmu<M> {
    /// Checks every entry, each under its lock.
    ///
    /// # Errors
    /// The first entry for which something is not true that must be.
    pub fn check(&self) -> Result<HptStats, Violation> {
        // The table is not exchanged meanwhile.
        let _same_table = self.lock_range();
        let mut stats = HptStats {
            entries: self.entries(),
            ..HptStats::default()
        };
        // Most entries are free, and need no lock to be seen so.
        for index in self.table().in_use(0..self.entries()) {
            self.check_entry(index, &mut stats)?;
        }
        self.check_rings(stats.valid + stats.absent)?;
        // Whoever hides something has counted it before, so the count may be larger for a moment.
        let guarded: u64 = self.memory().slots().map(|(_, slot)| slot.guarded()).sum();
        if self.hidden() < stats.absent + guarded {
            return Err(self.violation(HpteIndex::new(0), Rule::Counted));
        }
        Ok(stats)
    }

    fn violation(&self, index: HpteIndex, rule: Rule) -> Violation {
        let entry = self.table().entry(index);
        Violation {
            index,
            v: entry.load_v(),
            r: entry.load_r(),
            guest_r: entry.load_rev(),
            rule,
        }
    }

    /// Checks that each ring is closed and holds entries of its own page only, and that all rings
    /// together hold as many as the table has: so each entry is in one ring, and in it once.
    fn check_rings(&self, entries: u64) -> Result<(), Violation> {
        let mut linked = 0;
        for (_, slot) in self.memory().slots() {
            for (at, head) in slot.heads() {
                if !ring::is_idle(head) {
                    linked += self.check_ring(&Ring::lock(head), slot, at)?;
                }
            }
        }
        // Where calls go on meanwhile the two need not agree.
        if linked == entries {
            Ok(())
        } else {
            Err(self.violation(HpteIndex::new(0), Rule::Ring))
        }
    }

    fn check_ring(&self, ring: &Ring<'_>, slot: &Slot, at: u64) -> Result<u64, Violation> {
        let Some(first) = ring.first() else {
            return Ok(0);
        };
        let (mut index, mut count) = (first, 0);
        loop {
            let entry = self.table().entry(index);
            let place = self.place(entry.load_v(), entry.load_rev());
            let ours = entry.load_v().is_present()
                && place.is_some_and(|place| core::ptr::eq(place.slot, slot) && place.offset == at);
            let next = entry.next();
            count += 1;
            let closed = self.table().entry(next).previous() == index && count <= self.entries();
            if !ours || !closed {
                return Err(self.violation(index, Rule::Ring));
            }
            if next == first {
                return Ok(count);
            }
            index = next;
        }
    }

    fn check_entry(&self, index: HpteIndex, stats: &mut HptStats) -> Result<(), Violation> {
        let guard = self.lock(index);
        let (v, r, guest_r) = (guard.v(), guard.r(), guard.guest_r());
        let violation = |rule| Violation {
            index,
            v,
            r,
            guest_r,
            rule,
        };
        let must = |truth: bool, rule| if truth { Ok(()) } else { Err(violation(rule)) };

        if !v.is_present() {
            return must(v.get() == 0, Rule::FreeIsZero);
        }
        must(v.is_valid() != v.is_absent(), Rule::ValidOrAbsent)?;
        let encoding = r.encoding(v).ok_or(violation(Rule::PageSize))?;
        let page = guest_r.page(encoding).ok_or(violation(Rule::PageSize))?;
        must(self.memory.slot_at(page).is_some(), Rule::Memory)?;
        let place = self.place(v, guest_r).ok_or(violation(Rule::Memory))?;
        let wanted = place.wanted(guest_r, r.segment(), place.state());
        if v.is_valid() {
            must(wanted.visible, Rule::Backed)?;
            must(
                r.page(encoding) == wanted.r.page(encoding),
                Rule::Translation,
            )?;
            let rc = HpteR::R | HpteR::C;
            must(r.without(rc) == wanted.r.without(rc), Rule::Attributes)?;
            must(self.frame_is_ours(&place), Rule::Frame)?;
            stats.valid += 1;
        } else {
            stats.absent += 1;
        }
        stats.bolted += u64::from(v.get() & HpteV::BOLTED != 0);
        let size = match encoding.actual() {
            PageSize::P4K => 0,
            PageSize::P64K => 1,
            PageSize::P16M => 2,
        };
        if let Some(count) = stats.by_size.get_mut(size) {
            *count += 1;
        }
        Ok(())
    }
}
