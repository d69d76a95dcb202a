// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The machine's partition table, which PTCR names.

// UNSAFETY: tells the processor of the table.
#![expect(unsafe_code)]

use super::hardware::HwMemory;
use penstock_arch::hash::{Lpid, Pate};
use penstock_arch::regs::sprn;
use penstock_arch::spr;
use penstock_mm::frame::FrameAllocator;
use penstock_mm::partition_table::{self, PartitionTable};
use spin::Once;

/// Bytes of the table: LPIDs 0 to 4095 (Power ISA 3.0B, Book III, Partition Table).
const BYTES: u64 = 64 << 10;

static TABLE: Once<(PartitionTable, HwMemory)> = Once::new();

/// Makes the table, without valid entries, and has this thread use it. `None` where there is no memory
/// for it.
pub fn make(memory: HwMemory, frames: &mut FrameAllocator) -> Option<()> {
    let taken = frames.alloc(BYTES, BYTES).ok()?;
    let table = PartitionTable::new(taken, &memory).ok()?;
    let (table, _) = TABLE.call_once(|| (table, memory));
    // PATS: the table has 2^(12 + PATS) bytes.
    let pats = u64::from(BYTES.ilog2() - 12);
    // SAFETY: the table is zero, all of whose entries are invalid, and is kept for ever.
    unsafe { spr::write::<{ sprn::PTCR }>(table.base().get() | pats) };
    partition_table::flush(&memory, Lpid::new(0));
    Some(())
}

/// Makes `pate` the entry of a partition of which no virtual processor is in the guest, or with `None`
/// says that it has none; returns when no processor uses what it knew of it before.
pub fn set(lpid: Lpid, pate: Option<Pate>) {
    if let Some((table, memory)) = TABLE.get() {
        // Numbers of partitions are small: the table has 4096 entries.
        let _ = table.set(memory, lpid, pate);
    }
}
