// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The one sequence that makes processors forget translations.
//!
//! ptesync, tlbie for each, eieio, tlbsync, ptesync; on POWER9 with what its errata ask for, once
//! after a batch. Afterwards no processor uses the translations, and all R and C that they set are
//! in memory.
//!
//! Power ISA 3.0B, Book III, Page Table Update Synchronization Requirements, "Deleting a Page
//! Table Entry", "Resetting the Reference Bit".

use super::HashMmu;
use crate::page_ops::Machine;
use penstock_arch::hash::{Lpid, TlbieRb};
use penstock_arch::tlb::{TlbMaintenance, TlbieErrata};

/// Invalidates translations of `lpid` whose entries have been hidden before; `None` stands for
/// all.
#[inline]
pub(super) fn flush_batch(
    tlb: &impl TlbMaintenance,
    lpid: Lpid,
    operands: impl IntoIterator<Item = Option<TlbieRb>>,
) {
    tlb.ptesync();
    let mut last = None;
    for rb in operands {
        invalidate(tlb, lpid, rb);
        last = rb;
    }
    complete(tlb, lpid, last);
}

/// Invalidates one translation whose entry stays valid with R cleared: no ptesync before, for the
/// order of that store and the tlbie does not matter.
#[inline]
pub(super) fn flush_after_r_clear(tlb: &impl TlbMaintenance, lpid: Lpid, rb: Option<TlbieRb>) {
    invalidate(tlb, lpid, rb);
    complete(tlb, lpid, rb);
}

#[inline]
fn invalidate(tlb: &impl TlbMaintenance, lpid: Lpid, rb: Option<TlbieRb>) {
    match rb {
        Some(rb) => tlb.tlbie(rb, lpid),
        None => tlb.tlbie_lpid(lpid),
    }
}

#[inline]
fn complete(tlb: &impl TlbMaintenance, lpid: Lpid, last: Option<TlbieRb>) {
    let errata = tlb.errata();
    if !errata.is_empty() {
        work_around(tlb, lpid, errata, last);
    }
    tlb.eieio();
    tlb.tlbsync();
    tlb.ptesync();
}

#[inline]
fn work_around(tlb: &impl TlbMaintenance, lpid: Lpid, errata: TlbieErrata, last: Option<TlbieRb>) {
    if errata.contains(TlbieErrata::P9_ERAT) {
        tlb.ptesync();
        tlb.tlbie_erat_fixup();
    }
    if errata.contains(TlbieErrata::P9_STQ) {
        tlb.ptesync();
        invalidate(tlb, lpid, last);
    }
}

impl<M: Machine> HashMmu<M> {
    /// Makes every processor forget all translations of the partition.
    pub fn flush_partition(&self) {
        flush_batch(self.machine(), self.lpid, [None]);
    }
}
