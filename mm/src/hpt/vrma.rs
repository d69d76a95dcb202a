// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The virtualized real mode area (VRMA): what a guest in real mode sees.
//!
//! The hardware translates guest real mode through the same table, with a reserved VSID, 1 TiB
//! segment, and the page size that the partition table entry names. So memory from guest real
//! address 0 needs entries before the first vCPU runs: one for each page, in the last slot of its
//! group, where a guest that fills groups from the front meets it last. They are bolted. Where
//! two pages share a group only the first is entered here; the others come at their first fault,
//! as does any that the guest removes.
//!
//! The page size is that of the backing when the partition starts. A stream that is put into the table
//! brings its own along, as long as the backing can honour it (see `stream_io`), and the partition table
//! entry says so. A partition that starts over has the first size again, as one that starts has.
//!
//! Power ISA 3.0B, Book III, Virtualized Partition Memory; LoPAR, Reserved Virtual Addresses.

use super::enter::Prepared;
use super::{HashMmu, WIMG_MEMORY};
use crate::page_ops::Machine;
use core::sync::atomic::{AtomicU64, Ordering};
use penstock_arch::addr::{EffectiveAddr, GuestReal};
use penstock_arch::hash::{
    Asdr, GuestHpteR, GuestHpteV, HPTES_PER_GROUP, HpteIndex, HpteR, HpteV, PageEncoding, PageSize,
    VRMA_SEGMENT, VRMA_VSID, pteg_hash,
};
use penstock_arch::wait;

/// The slot of a group that real mode pages are entered into.
const VRMA_SLOT: u64 = HPTES_PER_GROUP - 1;

/// The page size of guest real mode, kept as the descriptor of its segment, so that a fault needs one
/// load of it. It changes only while no virtual processor runs, and who lets them run again orders
/// what they load behind the change.
#[derive(Debug)]
pub(super) struct RealMode {
    segment: AtomicU64,
    /// The size that the partition starts with.
    first: PageSize,
}

impl RealMode {
    pub(super) const fn new(first: PageSize) -> Self {
        Self {
            segment: AtomicU64::new(Asdr::vrma(first).get()),
            first,
        }
    }

    /// The segment's descriptor.
    #[inline]
    pub(super) fn segment(&self) -> Asdr {
        Asdr::new(self.segment.load(Ordering::Relaxed))
    }

    fn page(&self) -> PageSize {
        // Only descriptors of a size are stored.
        self.segment().base_page().unwrap_or(self.first)
    }

    /// Changes the size. The partition table entry is another one then.
    pub(super) fn set_page(&self, page: PageSize) {
        let segment = Asdr::vrma(page).get();
        self.segment.store(segment, Ordering::Relaxed);
    }

    /// Goes back to the first size.
    pub(super) fn start_over(&self) {
        self.set_page(self.first);
    }
}

impl<M: Machine> HashMmu<M> {
    /// The page size of guest real mode, which the partition table entry names.
    pub(super) fn vrma_page(&self) -> PageSize {
        self.real_mode.page()
    }

    /// Bytes of memory that guest real mode reaches.
    pub(super) fn vrma_bytes(&self) -> u64 {
        self.memory.size().min(1 << VRMA_SEGMENT.shift())
    }

    /// Enters the real mode area into a table without entries.
    pub(super) fn enter_vrma(&self) {
        let page = self.vrma_page().bytes();
        let groups = self.table().count() / HPTES_PER_GROUP;
        let pages = (self.vrma_bytes() / page).min(groups);
        for number in 0..pages {
            let at = GuestReal::new(number * page);
            let index = self.vrma_group(at) + VRMA_SLOT;
            if let Some(entry) = self.vrma_entry(at, 0)
                && let Some(slot) = self.try_lock_free(HpteIndex::new(index))
            {
                slot.enter(entry);
            }
        }
    }

    /// The first entry of the primary group of the real mode page at `at`.
    fn vrma_group(&self, at: GuestReal) -> u64 {
        let ea = EffectiveAddr::new(at.get());
        let hash = pteg_hash(VRMA_VSID, ea, VRMA_SEGMENT, self.vrma_page());
        (hash * HPTES_PER_GROUP) & (self.table().count() - 1)
    }

    /// The entry of the real mode page at `at`; `secondary` is field H.
    fn vrma_entry(&self, at: GuestReal, secondary: u64) -> Option<Prepared<'_>> {
        let encoding = PageEncoding::new(self.vrma_page(), self.vrma_page())?;
        let large = if encoding.is_large() { HpteV::LARGE } else { 0 };
        let v = (VRMA_SEGMENT.b() << 62)
            | (VRMA_VSID << 24)
            | ((at.get() >> 16) & !0x7f)
            | HpteV::BOLTED
            | large
            | secondary
            | HpteV::VALID;
        // Protection 00 with key 0 is read and write. R and C are set, for nobody asks.
        let r = at.get() | (encoding.lp() << 12) | HpteR::R | HpteR::C | WIMG_MEMORY;
        self.prepare(0, GuestHpteV::new(v), GuestHpteR::new(r)).ok()
    }

    /// Enters the real mode page that `at` lies in again, after a fault that found no entry:
    /// into a free slot of either group, or in the place of an entry of the primary group that is
    /// not bolted. `is_there` looks once more, for two vCPUs may have the same fault, and two
    /// entries for one page are forbidden.
    #[cold]
    pub(super) fn repair_vrma(&self, at: GuestReal, is_there: impl Fn() -> bool) -> Repair {
        while self.vrma_repair.swap(true, Ordering::Acquire) {
            wait::relax();
        }
        let repair = if is_there() {
            Repair::Done
        } else {
            self.enter_vrma_page(at)
        };
        self.vrma_repair.store(false, Ordering::Release);
        repair
    }

    fn enter_vrma_page(&self, at: GuestReal) -> Repair {
        let at = at.align_down(self.vrma_page().bytes());
        let primary = self.vrma_group(at);
        let secondary = self.table().count() - HPTES_PER_GROUP - primary;
        for (group, h) in [(primary, 0), (secondary, HpteV::SECONDARY)] {
            for slot in (0..HPTES_PER_GROUP).rev() {
                if let Some(entry) = self.vrma_entry(at, h)
                    && let Some((_, claimed)) = self.claim_exact(HpteIndex::new(group + slot))
                {
                    claimed.enter(entry);
                    return Repair::Done;
                }
            }
        }
        for slot in (0..HPTES_PER_GROUP).rev() {
            let guard = self.lock(HpteIndex::new(primary + slot));
            if guard.v().get() & HpteV::BOLTED == 0
                && let Some(entry) = self.vrma_entry(at, 0)
            {
                let r = guard.r();
                let mut taken = guard.quiesce(r);
                let _ = taken.retire();
                taken.enter(entry);
                return Repair::Done;
            }
        }
        Repair::NoSlot
    }
}

/// Whether a real mode page could be entered again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repair {
    /// Yes.
    Done,
    /// No: all slots that it may have hold bolted entries.
    NoSlot,
}
