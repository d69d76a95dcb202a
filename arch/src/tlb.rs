// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The instructions that keep TLBs in step with the page table, as a trait.
//!
//! `mm` owns the sequences; the processor and the recorder of the host tests own what each step
//! does. The steps are single instructions on purpose: their order is what the host tests assert.
//!
//! Power ISA 3.0B, Book III, Page Table Update Synchronization Requirements, TLB Management
//! Instructions.

use crate::hash::{HpteIndex, HpteR, HpteV, Lpid, TlbieRb};

/// Which errata of POWER9's tlbie the caller must work around, once after each batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TlbieErrata(u8);

impl TlbieErrata {
    /// None: POWER10, and QEMU.
    pub const NONE: Self = Self(0);
    /// A hash tlbie may leave a stale entry in the effective-to-real cache: a radix-form tlbie
    /// must follow, behind a ptesync.
    pub const P9_ERAT: Self = Self(1);
    /// A tlbie may miss stores that wait in a store queue: the last one must be repeated, behind
    /// a ptesync.
    pub const P9_STQ: Self = Self(2);

    /// Both sets together.
    #[inline]
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all of `other` are in this set.
    #[inline]
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether there is nothing to work around.
    #[inline]
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// A store to a page table entry, told to [`TlbMaintenance::hpte_store`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HpteStore {
    /// Doubleword 0.
    V(HpteIndex, HpteV),
    /// Doubleword 1.
    R(HpteIndex, HpteR),
    /// The one byte of doubleword 1 that holds R.
    RByte(HpteIndex, u8),
}

/// A store to the partition table, told to [`TlbMaintenance::pate_store`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PateStore {
    /// Whose entry.
    pub lpid: Lpid,
    /// Which doubleword: 0 or 1.
    pub dword: u32,
    /// What is stored.
    pub value: u64,
}

/// One processor's access to the TLBs of all.
pub trait TlbMaintenance {
    /// Orders all that precedes, page table updates included; after tlbsync, waits until every
    /// processor has completed the invalidations.
    fn ptesync(&self);

    /// Orders the stores before it and those after it.
    fn eieio(&self);

    /// Orders the preceding tlbie before the following ptesync, on all processors.
    fn tlbsync(&self);

    /// Invalidates one translation of partition `lpid` everywhere: RIC=0, PRS=0, R=0.
    fn tlbie(&self, rb: TlbieRb, lpid: Lpid);

    /// Invalidates all translations of partition `lpid` everywhere: IS=2, RIC=0, PRS=0, R=0.
    fn tlbie_lpid(&self, lpid: Lpid);

    /// Invalidates all that is cached of partition `lpid`, its partition table entry included:
    /// IS=2, RIC=2, PRS=0, R=0.
    fn tlbie_pate(&self, lpid: Lpid);

    /// The radix-form tlbie that [`TlbieErrata::P9_ERAT`] asks for: IS=2, LPID 0, R=1. Called
    /// only where [`Self::errata`] has it.
    fn tlbie_erat_fixup(&self);

    /// What this processor's tlbie needs.
    fn errata(&self) -> TlbieErrata;

    /// Whether no other thread can have a translation of partition `lpid`, and LPIDR holds `lpid`:
    /// then [`Self::tlbiel`] does what [`Self::tlbie`] does. To be asked behind the ptesync that
    /// follows the stores to the page table; who brings the partition to another thread says so, full
    /// barrier, before it has that thread use the page table.
    #[inline(always)]
    fn is_local(&self, lpid: Lpid) -> bool {
        let _ = lpid;
        false
    }

    /// Invalidates one translation of the partition in LPIDR on the calling thread: RIC=0, PRS=0, R=0.
    /// The following ptesync completes it. Called only where [`Self::is_local`].
    fn tlbiel(&self, rb: TlbieRb);

    /// Forgets what was copied and not pasted, which tlbiel leaves with its old translation. Called
    /// behind the ptesync that completes tlbiel.
    fn cp_abort(&self);

    /// Told of each store to an entry, before it is made. A processor does nothing here; the
    /// recorder keeps it in one sequence with the instructions.
    #[inline(always)]
    fn hpte_store(&self, store: HpteStore) {
        let _ = store;
    }

    /// The same for each store to the partition table.
    #[inline(always)]
    fn pate_store(&self, store: PateStore) {
        let _ = store;
    }
}

impl<T: TlbMaintenance + ?Sized> TlbMaintenance for &T {
    #[inline(always)]
    fn ptesync(&self) {
        (**self).ptesync();
    }

    #[inline(always)]
    fn eieio(&self) {
        (**self).eieio();
    }

    #[inline(always)]
    fn tlbsync(&self) {
        (**self).tlbsync();
    }

    #[inline(always)]
    fn tlbie(&self, rb: TlbieRb, lpid: Lpid) {
        (**self).tlbie(rb, lpid);
    }

    #[inline(always)]
    fn tlbie_lpid(&self, lpid: Lpid) {
        (**self).tlbie_lpid(lpid);
    }

    #[inline(always)]
    fn tlbie_pate(&self, lpid: Lpid) {
        (**self).tlbie_pate(lpid);
    }

    #[inline(always)]
    fn tlbie_erat_fixup(&self) {
        (**self).tlbie_erat_fixup();
    }

    #[inline(always)]
    fn errata(&self) -> TlbieErrata {
        (**self).errata()
    }

    #[inline(always)]
    fn is_local(&self, lpid: Lpid) -> bool {
        (**self).is_local(lpid)
    }

    #[inline(always)]
    fn tlbiel(&self, rb: TlbieRb) {
        (**self).tlbiel(rb);
    }

    #[inline(always)]
    fn cp_abort(&self) {
        (**self).cp_abort();
    }

    #[inline(always)]
    fn hpte_store(&self, store: HpteStore) {
        (**self).hpte_store(store);
    }

    #[inline(always)]
    fn pate_store(&self, store: PateStore) {
        (**self).pate_store(store);
    }
}
