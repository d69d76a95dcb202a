// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The one sequence that makes processors forget translations.
//!
//! ptesync, tlbie for each, eieio, tlbsync, ptesync; on POWER9 with what its errata ask for, once
//! after a batch. Afterwards no processor uses the translations, and all R and C that they set are
//! in memory.
//!
//! Power ISA 3.0B, Book III, Page Table Update Synchronization Requirements, "Deleting a Page
//! Table Entry", "Resetting the Reference Bit".

use super::{Flushed, HashMmu};
use crate::page_ops::Machine;
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::Relaxed;
use penstock_arch::hash::{Lpid, TlbieRb};
use penstock_arch::tlb::{TlbMaintenance, TlbieErrata};

/// Invalidates translations of `lpid` whose entries have been hidden before; `None` stands for
/// all.
#[inline]
fn flush_batch(
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
fn flush_after_r_clear(tlb: &impl TlbMaintenance, lpid: Lpid, rb: Option<TlbieRb>) {
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

/// How many invalidations a partition's table has cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlushCounts {
    /// tlbie of one translation.
    pub single: u64,
    /// tlbie of all of the partition.
    pub all: u64,
}

/// The same, being counted. Two processors that count at once may lose a count.
#[derive(Debug, Default)]
pub(super) struct FlushCounters {
    single: AtomicU64,
    all: AtomicU64,
}

impl FlushCounters {
    pub(super) const fn new() -> Self {
        Self {
            single: AtomicU64::new(0),
            all: AtomicU64::new(0),
        }
    }

    pub(super) fn get(&self) -> FlushCounts {
        FlushCounts {
            single: self.single.load(Relaxed),
            all: self.all.load(Relaxed),
        }
    }

    #[inline]
    fn count(&self, rb: Option<TlbieRb>) {
        let counter = match rb {
            Some(_) => &self.single,
            None => &self.all,
        };
        counter.store(counter.load(Relaxed).wrapping_add(1), Relaxed);
    }
}

impl<M: Machine> HashMmu<M> {
    /// Makes every processor forget all translations of the partition.
    pub fn flush_partition(&self) {
        self.flush([None]);
    }

    /// The same, with the proof of it.
    pub(super) fn flush_to_the_end(&self) -> Flushed {
        self.flush([None]);
        Flushed::partition()
    }

    /// Makes every processor forget translations whose entries have been hidden before.
    #[inline]
    pub(super) fn flush(&self, operands: impl IntoIterator<Item = Option<TlbieRb>>) {
        let counted = operands.into_iter().inspect(|rb| self.flushes.count(*rb));
        flush_batch(self.machine(), self.lpid, counted);
    }

    /// Makes every processor forget a translation, or all, whose entries stay valid with R cleared.
    #[inline]
    pub(super) fn flush_after_r_clear(&self, rb: Option<TlbieRb>) {
        self.flushes.count(rb);
        flush_after_r_clear(self.machine(), self.lpid, rb);
    }

    /// How many invalidations there were.
    #[must_use]
    pub fn flush_counts(&self) -> FlushCounts {
        self.flushes.get()
    }
}
