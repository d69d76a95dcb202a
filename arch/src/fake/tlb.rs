// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A TLB that records what is asked of it, and the stores to the page table in between.
//!
//! Tests compare the recorded sequence with the architecture's, and give the recorder a hook that
//! plays the part of another processor: it runs after each step and may, for instance, set C in
//! the page table between V=0 and the end of the tlbie, as hardware may.

use super::std::boxed::Box;
use super::std::vec::Vec;
use crate::hash::{Lpid, TlbieRb};
use crate::tlb::{HpteStore, PateStore, TlbMaintenance, TlbieErrata};
use core::sync::atomic::{AtomicBool, Ordering};
use spin::Mutex;

/// One thing that happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A store to the page table.
    Store(HpteStore),
    /// A store to the partition table.
    PateStore(PateStore),
    /// `ptesync`.
    Ptesync,
    /// `eieio`.
    Eieio,
    /// `tlbsync`.
    Tlbsync,
    /// `tlbie` of one translation.
    Tlbie(TlbieRb, Lpid),
    /// `tlbiel` of one translation.
    Tlbiel(TlbieRb),
    /// `cp_abort`.
    CpAbort,
    /// `tlbie` of all of a partition.
    TlbieLpid(Lpid),
    /// `tlbie` of all of a partition and its partition table entry.
    TlbiePate(Lpid),
    /// The radix-form `tlbie` against POWER9's ERAT erratum.
    EratFixup,
}

type Hook = Box<dyn FnMut(Step) + Send>;

/// The recorder.
#[derive(Default)]
pub struct RecordingTlb {
    steps: Mutex<Vec<Step>>,
    hook: Mutex<Option<Hook>>,
    /// Whether there is one.
    hooked: AtomicBool,
    errata: Mutex<TlbieErrata>,
    local: AtomicBool,
}

impl RecordingTlb {
    /// A recorder of a processor without errata.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A recorder of a processor with these errata.
    #[must_use]
    pub fn with_errata(errata: TlbieErrata) -> Self {
        Self {
            errata: Mutex::new(errata),
            ..Self::default()
        }
    }

    /// From here on, whether partitions run on no other thread.
    pub fn set_local(&self, local: bool) {
        self.local.store(local, Ordering::Relaxed);
    }

    /// What happened since the last call.
    pub fn take(&self) -> Vec<Step> {
        core::mem::take(&mut *self.steps.lock())
    }

    /// Has `hook` run after each step, instead of the one before.
    pub fn set_hook(&self, hook: impl FnMut(Step) + Send + 'static) {
        *self.hook.lock() = Some(Box::new(hook));
        self.hooked.store(true, Ordering::Release);
    }

    /// Removes the hook.
    pub fn clear_hook(&self) {
        self.hooked.store(false, Ordering::Relaxed);
        *self.hook.lock() = None;
    }

    fn record(&self, step: Step) {
        self.steps.lock().push(step);
        if self.hooked.load(Ordering::Acquire)
            && let Some(hook) = self.hook.lock().as_mut()
        {
            hook(step);
        }
    }
}

impl core::fmt::Debug for RecordingTlb {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("RecordingTlb")
            .field("steps", &self.steps)
            .finish_non_exhaustive()
    }
}

impl TlbMaintenance for RecordingTlb {
    fn ptesync(&self) {
        self.record(Step::Ptesync);
    }

    fn eieio(&self) {
        self.record(Step::Eieio);
    }

    fn tlbsync(&self) {
        self.record(Step::Tlbsync);
    }

    fn tlbie(&self, rb: TlbieRb, lpid: Lpid) {
        self.record(Step::Tlbie(rb, lpid));
    }

    fn tlbie_lpid(&self, lpid: Lpid) {
        self.record(Step::TlbieLpid(lpid));
    }

    fn tlbie_pate(&self, lpid: Lpid) {
        self.record(Step::TlbiePate(lpid));
    }

    fn tlbie_erat_fixup(&self) {
        self.record(Step::EratFixup);
    }

    fn errata(&self) -> TlbieErrata {
        *self.errata.lock()
    }

    fn is_local(&self, _: Lpid) -> bool {
        self.local.load(Ordering::Relaxed)
    }

    fn tlbiel(&self, rb: TlbieRb) {
        self.record(Step::Tlbiel(rb));
    }

    fn cp_abort(&self) {
        self.record(Step::CpAbort);
    }

    fn hpte_store(&self, store: HpteStore) {
        self.record(Step::Store(store));
    }

    fn pate_store(&self, store: PateStore) {
        self.record(Step::PateStore(store));
    }
}

#[cfg(test)]
mod tests {
    use super::super::std::sync::Arc;
    use super::*;
    use crate::hash::{HpteIndex, HpteR, HpteV};
    use core::sync::atomic::AtomicUsize;

    #[test]
    fn keeps_stores_and_instructions_in_one_sequence() {
        let tlb = RecordingTlb::new();
        let (v, r, index) = (HpteV::new(1), HpteR::new(0), HpteIndex::new(8));
        let rb = TlbieRb::of(v, r, index).unwrap();
        let seen = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&seen);
        tlb.set_hook(move |_| {
            counter.fetch_add(1, Ordering::Relaxed);
        });
        tlb.hpte_store(HpteStore::V(index, v));
        tlb.ptesync();
        tlb.tlbie(rb, Lpid::new(3));
        assert_eq!(
            tlb.take(),
            [
                Step::Store(HpteStore::V(index, v)),
                Step::Ptesync,
                Step::Tlbie(rb, Lpid::new(3))
            ]
        );
        assert_eq!(seen.load(Ordering::Relaxed), 3);
        assert!(tlb.take().is_empty());
    }
}
