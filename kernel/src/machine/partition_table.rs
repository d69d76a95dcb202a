// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The partition table: where the hardware finds each partition's page table.
//!
//! Power ISA 3.0B, Book III, Partition Table.

use super::hardware::HwMemory;
use core::sync::atomic::Ordering;
use penstock_arch::endian::AtomicBe64;
use penstock_arch::hash::{Lpid, Pate};
use penstock_arch::tlb::TlbMaintenance;
use penstock_mm::real::RealArray;
use spin::Once;

/// The partition table: two doublewords an LPID.
pub type PartitionTable = RealArray<AtomicBe64>;

/// The one that PTCR names.
static TABLE: Once<(PartitionTable, HwMemory)> = Once::new();

/// Keeps the table, for ever.
pub fn keep(table: PartitionTable, memory: HwMemory) {
    TABLE.call_once(|| (table, memory));
}

/// Makes `pate` the entry of a partition of which no virtual processor is in the guest, or with `None`
/// says that there is none; returns when no processor uses what it knew of it before.
///
/// An entry is valid by dword 0, which is cleared first and stored last. Processors may read the table
/// at any time, but none that works for this partition does until this returns.
pub fn set(lpid: Lpid, pate: Option<Pate>) {
    let index = 2 * lpid.get() as usize;
    let Some((table, memory)) = TABLE.get() else {
        return;
    };
    if let Some([first, second]) = table.get(index..index + 2) {
        let [dword0, dword1] = pate.map_or([0, 0], Pate::dwords);
        first.store(0, Ordering::Relaxed);
        second.store(dword1, Ordering::Release);
        first.store(dword0, Ordering::Release);
    }
    memory.ptesync();
    memory.tlbie_pate(lpid);
    memory.eieio();
    memory.tlbsync();
    memory.ptesync();
}
