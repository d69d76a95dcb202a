// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The one sequence that makes processors forget translations.
//!
//! ptesync, tlbie for each, eieio, tlbsync, ptesync; on POWER9 with what its errata ask for, once
//! after a batch. Where no other thread can have them: ptesync, tlbiel for each, ptesync, cp_abort.
//! Afterwards no processor uses the translations, and all R and C that they set are in memory.
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
    let mut batch = Batch::new(tlb, lpid);
    for rb in operands {
        batch.invalidate(rb);
    }
    batch.complete();
}

/// The same for one translation, which is what most calls need: no loop, and nothing in memory.
#[inline(always)]
fn flush_single(tlb: &impl TlbMaintenance, lpid: Lpid, rb: TlbieRb) {
    tlb.ptesync();
    if tlb.is_local(lpid) {
        tlb.tlbiel(rb);
        tlb.ptesync();
        tlb.cp_abort();
    } else {
        broadcast(tlb, lpid, core::iter::once(rb));
    }
}

/// The same for a few, on every thread, after the ptesync.
#[inline(never)]
fn broadcast(tlb: &impl TlbMaintenance, lpid: Lpid, operands: impl Iterator<Item = TlbieRb>) {
    let mut batch = Batch {
        tlb,
        lpid,
        local: false,
        broadcast: true,
        last: None,
    };
    for rb in operands {
        batch.invalidate(Some(rb));
    }
    batch.complete();
}

/// Invalidates one translation whose entry stays valid with R cleared: no ptesync before, for the
/// order of that store and the tlbie does not matter. Nor does that to a thread which uses the entry
/// for the first time just now: whether it has found R set or clear is all the same.
#[inline]
fn flush_after_r_clear(tlb: &impl TlbMaintenance, lpid: Lpid, rb: Option<TlbieRb>) {
    let mut batch = Batch::new(tlb, lpid);
    batch.invalidate(rb);
    batch.complete();
}

/// Invalidations that are completed together.
struct Batch<'a, T: TlbMaintenance> {
    tlb: &'a T,
    lpid: Lpid,
    /// Single ones concern no other thread.
    local: bool,
    /// There was one that does.
    broadcast: bool,
    last: Option<TlbieRb>,
}

impl<'a, T: TlbMaintenance> Batch<'a, T> {
    #[inline]
    fn new(tlb: &'a T, lpid: Lpid) -> Self {
        let local = tlb.is_local(lpid);
        Self {
            tlb,
            lpid,
            local,
            broadcast: !local,
            last: None,
        }
    }

    #[inline]
    fn invalidate(&mut self, rb: Option<TlbieRb>) {
        match rb {
            Some(rb) if self.local => self.tlb.tlbiel(rb),
            Some(_) => invalidate(self.tlb, self.lpid, rb),
            // All of a partition at once is rare, and on POWER9 would be an instruction for each set.
            None => {
                self.broadcast = true;
                invalidate(self.tlb, self.lpid, None);
            }
        }
        self.last = rb;
    }

    #[inline]
    fn complete(self) {
        let tlb = self.tlb;
        if self.broadcast {
            // tlbie's errata do not concern tlbiel.
            let errata = tlb.errata();
            if !errata.is_empty() {
                let last = if self.local { None } else { self.last };
                work_around(tlb, self.lpid, errata, last);
            }
            tlb.eieio();
            tlb.tlbsync();
        }
        tlb.ptesync();
        if self.local {
            tlb.cp_abort();
        }
    }
}

#[inline]
fn invalidate(tlb: &impl TlbMaintenance, lpid: Lpid, rb: Option<TlbieRb>) {
    match rb {
        Some(rb) => tlb.tlbie(rb, lpid),
        None => tlb.tlbie_lpid(lpid),
    }
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

/// The same, being counted.
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
        match rb {
            Some(_) => self.add(1, 0),
            None => self.add(0, 1),
        }
    }

    #[inline]
    fn add(&self, single: u64, all: u64) {
        for (counter, more) in [(&self.single, single), (&self.all, all)] {
            if more != 0 {
                counter.fetch_add(more, Relaxed);
            }
        }
    }
}

impl<M: Machine> HashMmu<M> {
    /// Makes every processor forget all translations of the partition.
    #[inline(never)]
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
        let (mut single, mut all) = (0, 0);
        let counted = operands.into_iter().inspect(|rb| match rb {
            Some(_) => single += 1,
            None => all += 1,
        });
        flush_batch(self.machine(), self.lpid, counted);
        self.flushes.add(single, all);
    }

    /// The same for single ones, a few at most.
    #[inline(always)]
    pub(super) fn flush_some(&self, operands: impl ExactSizeIterator<Item = TlbieRb>) {
        let (tlb, lpid) = (self.machine(), self.lpid);
        self.flushes.add(operands.len() as u64, 0);
        tlb.ptesync();
        if !tlb.is_local(lpid) {
            return broadcast(tlb, lpid, operands);
        }
        for rb in operands {
            tlb.tlbiel(rb);
        }
        tlb.ptesync();
        tlb.cp_abort();
    }

    /// Makes every processor forget one translation, or all where it has no operand, whose entry has
    /// been hidden before.
    #[inline(always)]
    pub(super) fn flush_one(&self, rb: Option<TlbieRb>) {
        match rb {
            Some(rb) => {
                self.flushes.count(Some(rb));
                flush_single(self.machine(), self.lpid, rb);
            }
            None => self.flush_partition(),
        }
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

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;

    #[test]
    fn two_that_count_at_once_lose_nothing() {
        const EACH: u64 = if cfg!(miri) { 100 } else { 1_000_000 };
        let counters = FlushCounters::new();
        let together = std::sync::Barrier::new(2);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    together.wait();
                    (0..EACH).for_each(|_| counters.add(2, 1));
                });
            }
        });
        let all = FlushCounts {
            single: 4 * EACH,
            all: 2 * EACH,
        };
        assert_eq!(counters.get(), all);
    }
}
