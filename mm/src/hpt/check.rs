// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Checks what is always true of a table, entry by entry, in tests and from the monitor.

use super::HashMmu;
use crate::page_ops::Machine;
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
    /// Protection, key, N and WIMG are the guest's.
    Attributes,
    /// The memory of a valid entry has been zeroed once.
    Backed,
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
        let mut stats = HptStats {
            entries: self.entries(),
            ..HptStats::default()
        };
        for index in (0..self.entries()).map(HpteIndex::new) {
            self.check_entry(index, &mut stats)?;
        }
        Ok(stats)
    }

    fn check_entry(&self, index: HpteIndex, stats: &mut HptStats) -> Result<(), Violation> {
        // Most entries are free, and need no lock to be seen so.
        if self.table.entry(index).load_v().get() == 0 {
            return Ok(());
        }
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
        let host = self.memory().locate(page).ok_or(violation(Rule::Memory))?;
        must(r.page(encoding) == host, Rule::Translation)?;
        let expected = guest_r.to_hardware(encoding, host, r.segment());
        let rc = HpteR::R | HpteR::C;
        must(r.without(rc) == expected.without(rc), Rule::Attributes)?;
        if v.is_valid() {
            let backed = self.memory().is_backed(page, encoding.actual().bytes());
            must(backed, Rule::Backed)?;
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
