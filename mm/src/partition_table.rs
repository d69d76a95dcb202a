// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The partition table: where processors find each partition's page table.
//!
//! An entry is valid by its doubleword 0, which also names the page table, its size and the page size
//! of guest real mode. Processors keep copies of entries, and translations that they made by them; both
//! are dropped after a change, by the tlbie of a partition with RIC=2.
//!
//! Power ISA 3.0B, Book III, Partition Table; Translation Table Update Synchronization Requirements.

use crate::page_ops::PageOps;
use crate::real::{Frames, RealArray};
use core::sync::atomic::Ordering;
use penstock_arch::addr::HostReal;
use penstock_arch::endian::AtomicBe64;
use penstock_arch::hash::{Lpid, Pate};
use penstock_arch::tlb::{PateStore, TlbMaintenance};

/// The bytes of an entry.
pub const ENTRY_BYTES: u64 = 16;

/// The table, two doublewords for each partition number.
#[derive(Debug)]
pub struct PartitionTable(RealArray<AtomicBe64>);

impl PartitionTable {
    /// A table without valid entries, for as many partitions as `frames` have 16 bytes.
    ///
    /// # Errors
    /// The frames, where they cannot be an array of doublewords.
    pub fn new(frames: Frames, ops: &impl PageOps) -> Result<Self, Frames> {
        Ok(Self(RealArray::new(frames, ops)?))
    }

    /// Where it lies.
    #[must_use]
    pub const fn base(&self) -> HostReal {
        self.0.base()
    }

    /// Makes `pate` a partition's entry, or with `None` says that it has none; returns when no processor
    /// knows anything of the partition any more. No virtual processor of it may be in the guest; the
    /// entries of others, which may be, are not touched. `false`, and nothing is done, where the table
    /// has no such entry.
    ///
    /// Doubleword 0 is cleared first and stored last, so that a processor that reads the table meanwhile
    /// sees the old entry, none, or the new one.
    #[must_use]
    pub fn set(&self, tlb: &impl TlbMaintenance, lpid: Lpid, pate: Option<Pate>) -> bool {
        let index = 2 * lpid.get() as usize;
        let Some(entry @ [_, _]) = self.0.get(index..index.saturating_add(2)) else {
            return false;
        };
        let store = |dword: u32, value: u64| {
            tlb.pate_store(PateStore { lpid, dword, value });
            if let Some(cell) = entry.get(dword as usize) {
                cell.store(value, Ordering::Release);
            }
        };
        let [dword0, dword1] = pate.map_or([0, 0], Pate::dwords);
        store(0, 0);
        tlb.eieio();
        store(1, dword1);
        tlb.eieio();
        store(0, dword0);
        flush(tlb, lpid);
        true
    }
}

/// Makes processors forget a partition: its entry, and all translations made by it.
pub fn flush(tlb: &impl TlbMaintenance, lpid: Lpid) {
    tlb.ptesync();
    tlb.tlbie_pate(lpid);
    tlb.eieio();
    tlb.tlbsync();
    tlb.ptesync();
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use crate::fake::{TestMachine, TestMemory};
    use penstock_arch::fake::Step;
    use penstock_arch::hash::PageSize;
    use std::vec::Vec;

    fn entries(table: &PartitionTable) -> Vec<[u64; 2]> {
        let load = |cell: &AtomicBe64| cell.load(Ordering::Relaxed);
        table
            .0
            .chunks(2)
            .map(|e| [load(&e[0]), load(&e[1])])
            .collect()
    }

    #[test]
    fn an_entry_is_changed_in_order_and_no_other_one_is() {
        let memory = TestMemory::new(1 << 24);
        memory.fill(0xa5);
        let machine = TestMachine::new();
        let frames = memory.frames().alloc(128, 128).unwrap();
        let table = PartitionTable::new(frames, &machine).unwrap();
        assert_eq!(entries(&table), [[0; 2]; 8]);
        let at = |at, order| Pate::hash(HostReal::new(at), order, PageSize::P16M);
        let (one, other) = (at(0x400_0000, 20), at(0x800_0000, 24));
        assert!(table.set(&machine, Lpid::new(3), one));
        assert!(table.set(&machine, Lpid::new(4), other));
        machine.tlb.take();

        assert!(table.set(&machine, Lpid::new(3), at(0x440_0000, 21)));
        let store = |dword, value| {
            let lpid = Lpid::new(3);
            Step::PateStore(PateStore { lpid, dword, value })
        };
        assert_eq!(
            machine.tlb.take(),
            [
                store(0, 0),
                Step::Eieio,
                store(1, 0),
                Step::Eieio,
                store(0, 0x0440_0083),
                Step::Ptesync,
                Step::TlbiePate(Lpid::new(3)),
                Step::Eieio,
                Step::Tlbsync,
                Step::Ptesync,
            ]
        );
        let mut expected = [[0; 2]; 8];
        expected[3] = [0x0440_0083, 0];
        expected[4] = [0x0800_0086, 0];
        assert_eq!(entries(&table), expected);

        assert!(table.set(&machine, Lpid::new(3), None));
        expected[3] = [0, 0];
        assert_eq!(entries(&table), expected);
        machine.tlb.take();
        for beyond in [8, 4095] {
            assert!(!table.set(&machine, Lpid::new(beyond), one));
        }
        assert_eq!(machine.tlb.take(), []);
        assert_eq!(entries(&table), expected);
    }
}
