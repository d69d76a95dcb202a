// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What to do about a hypervisor data or instruction storage interrupt (HDSI, HISI).
//!
//! With VPM on, and in guest real mode always, a hash fault of the guest comes to the hypervisor.
//! The table is searched as the hardware does it, but for absent entries too, and the guest's own
//! permissions are applied. That the processor found nothing says nothing of now: since then another
//! processor's fault may have made the entry valid, the last one that was hidden perhaps. Either the guest may do what it did: then the entry is made valid if
//! it was not, and the guest tries again; or it may not: then it gets the data or instruction
//! storage interrupt that its own MMU would have raised. The segment descriptor comes from the
//! ASDR, so the guest's SLB is not read.
//!
//! In guest real mode a page of memory that has no entry is entered again; an address that is no
//! memory is the caller's to judge. Storage keys do not apply there.
//!
//! Power ISA 3.0B, Book III, Hypervisor Data Storage Interrupt, Hypervisor Instruction Storage
//! Interrupt, Data Storage Interrupt, Instruction Storage Interrupt.

use super::HashMmu;
use super::guard::HpteGuard;
use super::place::Place;
use super::search::Search;
use super::vrma::Repair;
use crate::page_ops::Machine;
use crate::pool::NoFrame;
use crate::real::{PIECE, Piece};
use crate::slot::SlotKind;
use penstock_arch::addr::{EffectiveAddr, GuestReal};
use penstock_arch::hash::{
    Asdr, GuestHpteR, HpteIndex, HpteR, KeyMask, PagePerm, PageSize, PrivilegeState, SegmentKey,
    StorageKey,
};
use penstock_arch::regs::{Dsisr, Msr, Srr1};

/// What the guest tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessKind {
    /// A load: HDSI without the store bit.
    Load,
    /// A store: HDSI with the store bit.
    Store,
    /// An instruction fetch: HISI.
    Fetch,
}

/// A hypervisor storage interrupt, as the registers tell it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HpteFault {
    /// What the guest tried.
    pub kind: AccessKind,
    /// HDAR, or HSRR0 of a fetch.
    pub ea: EffectiveAddr,
    /// The segment.
    pub asdr: Asdr,
    /// HDSISR, or HSRR1 of a fetch.
    pub cause: u64,
    /// The guest's MSR: HSRR1.
    pub msr: Msr,
    /// The AMR, or the IAMR of a fetch.
    pub keys: KeyMask,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum FaultAction {
    /// Nothing: the guest's access will succeed now.
    Retry,
    /// Raise an interrupt in the guest.
    Reflect(GuestFault),
    /// The guest in real mode named an address that is no memory of it, or any guest a page of a
    /// device that is not there.
    NotMemory(GuestReal),
    /// The guest was promised a large page and its backing is smaller now: it cannot go on.
    TooSmall(BackingTooSmall),
    /// The memory comes from a pool that has no frame for it at the moment, or the partition has as
    /// many as it may. Nothing was changed; the guest may try again when there is one.
    NoFrame,
}

/// What backs a page is smaller than the page, because the backing has changed. The one error that a
/// guest that was told the truth can meet; its partition stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackingTooSmall {
    /// The page.
    pub at: GuestReal,
    /// Its size, as the guest entered it.
    pub wanted: PageSize,
    /// The largest size that the backing has there.
    pub found: PageSize,
}

impl core::fmt::Display for BackingTooSmall {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(
            f,
            "guest real {}: a page of {} KiB is wanted, and its backing has pages of {} KiB",
            self.at,
            self.wanted.bytes() >> 10,
            self.found.bytes() >> 10
        )
    }
}

impl core::error::Error for BackingTooSmall {}

/// An interrupt that the guest's own MMU would have raised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuestFault {
    /// Data storage interrupt, vector 0x300, with this DSISR; DAR is the effective address.
    Data(Dsisr),
    /// Instruction storage interrupt, vector 0x400, with these bits in SRR1.
    Instruction(Srr1),
}

impl HpteFault {
    /// Whether the guest's own translation is on for the access.
    #[must_use]
    pub const fn uses_translation(&self) -> bool {
        !self.uses_real_mode()
    }

    const fn uses_real_mode(&self) -> bool {
        let relocation = match self.kind {
            AccessKind::Load | AccessKind::Store => Msr::DR.bits(),
            AccessKind::Fetch => Msr::IR.bits(),
        };
        self.msr.bits() & relocation == 0
    }

    /// The address of an access in real mode: the processor ignores the upper four bits.
    #[inline]
    const fn real_address(&self) -> GuestReal {
        GuestReal::new(self.ea.get() & (u64::MAX >> 4))
    }

    /// The interrupt for an access whose translation was not found.
    #[inline]
    const fn not_found(&self) -> FaultAction {
        FaultAction::Reflect(match self.kind {
            AccessKind::Load => GuestFault::Data(Dsisr::NO_HPTE),
            AccessKind::Store => GuestFault::Data(Dsisr::NO_HPTE.union(Dsisr::STORE)),
            AccessKind::Fetch => GuestFault::Instruction(Srr1::NO_HPTE),
        })
    }

    /// The interrupt for a fault that has nothing to do with the table; `None` if it has.
    #[inline]
    const fn other_cause(&self) -> Option<FaultAction> {
        match self.kind {
            AccessKind::Load | AccessKind::Store => {
                let table = Dsisr::NO_HPTE.bits() | Dsisr::PROTECTION.bits() | Dsisr::KEY.bits();
                if self.cause & table as u64 != 0 {
                    return None;
                }
                // HDSISR has 32 bits; the cast keeps them.
                #[expect(clippy::cast_possible_truncation)]
                let dsisr = Dsisr::from_bits_retain(self.cause as u32);
                Some(FaultAction::Reflect(GuestFault::Data(dsisr)))
            }
            AccessKind::Fetch => {
                let table = Srr1::NO_HPTE.bits()
                    | Srr1::NO_EXEC_GUARD.bits()
                    | Srr1::PROTECTION.bits()
                    | Srr1::KEY.bits();
                if self.cause & table != 0 {
                    return None;
                }
                let srr1 = Srr1::from_bits_retain(self.cause & Srr1::CAUSE);
                Some(FaultAction::Reflect(GuestFault::Instruction(srr1)))
            }
        }
    }

    /// The interrupt for an access that a page with `r` does not permit; `None` if it does.
    #[inline]
    fn denied(&self, r: GuestHpteR, key: SegmentKey) -> Option<FaultAction> {
        let pp = PagePerm::of(r.get());
        let storage_key = StorageKey::of(r.get());
        let keyed = !self.uses_real_mode();
        match self.kind {
            AccessKind::Load | AccessKind::Store => {
                let (permitted, key_forbids, store) = if self.kind == AccessKind::Store {
                    (
                        pp.may_store(key),
                        self.keys.forbids_store(storage_key),
                        Dsisr::STORE,
                    )
                } else {
                    (
                        pp.may_load(key),
                        self.keys.forbids_load(storage_key),
                        Dsisr::empty(),
                    )
                };
                let mut dsisr = Dsisr::empty();
                if !permitted {
                    dsisr = Dsisr::PROTECTION;
                }
                if keyed && key_forbids {
                    dsisr = dsisr.union(Dsisr::KEY);
                }
                (!dsisr.is_empty())
                    .then_some(FaultAction::Reflect(GuestFault::Data(dsisr.union(store))))
            }
            AccessKind::Fetch => {
                let mut srr1 = Srr1::empty();
                if r.get() & (HpteR::N | HpteR::G) != 0 {
                    srr1 = Srr1::NO_EXEC_GUARD;
                } else if !pp.may_load(key) {
                    srr1 = Srr1::PROTECTION;
                }
                if keyed && self.keys.forbids_load(storage_key) {
                    srr1 = srr1.union(Srr1::KEY);
                }
                (!srr1.is_empty()).then_some(FaultAction::Reflect(GuestFault::Instruction(srr1)))
            }
        }
    }
}

impl<M: Machine> HashMmu<M> {
    /// Resolves a hypervisor storage interrupt.
    // The caller has a stack frame anyway.
    #[inline(always)]
    pub fn resolve(&self, fault: &HpteFault) -> FaultAction {
        if let Some(action) = fault.other_cause() {
            return action;
        }
        let mut asdr = fault.asdr;
        if fault.uses_real_mode() {
            // The segment is known, and what the register holds then is not told for real mode.
            asdr = self.real_mode.segment();
            let at = fault.real_address();
            if at.get() >= self.vrma_bytes() {
                return FaultAction::NotMemory(at);
            }
        }
        if fault.kind == AccessKind::Fetch && asdr.is_no_execute() {
            return FaultAction::Reflect(GuestFault::Instruction(Srr1::NO_EXEC_GUARD));
        }
        let Some(base) = asdr.base_page() else {
            return fault.not_found();
        };
        let search = Search::new(fault.ea, asdr, base);
        match self.find_candidate(&search) {
            Some(candidate) => {
                let (index, pattern) = self.locate(&search, candidate);
                self.resolve_candidate(fault, asdr, index, pattern)
            }
            None if !fault.uses_real_mode() => fault.not_found(),
            None => self.resolve_missing(fault, asdr),
        }
    }

    /// The same, where entry `index` looked like the translation, whose doubleword 0 has `pattern`.
    // Apart, and with nothing but registers for arguments, so that the search has few registers to keep.
    #[inline(never)]
    fn resolve_candidate(
        &self,
        fault: &HpteFault,
        asdr: Asdr,
        index: HpteIndex,
        pattern: u64,
    ) -> FaultAction {
        match self.confirm_at_once(asdr, index, pattern) {
            Some(guard) => self.resolve_found(fault, asdr, guard),
            None => self.resolve_missing(fault, asdr),
        }
    }

    /// The first entry that looks like the translation, if there is any, is not it: another one is, or
    /// the guest has none. For real mode, `asdr` is that of its area, and the address lies in it.
    #[cold]
    #[inline(never)]
    fn resolve_missing(&self, fault: &HpteFault, asdr: Asdr) -> FaultAction {
        let Some(base) = asdr.base_page() else {
            return fault.not_found();
        };
        let search = Search::new(fault.ea, asdr, base);
        if let Some(candidate) = self.find_candidate(&search)
            && let Some(guard) = self.confirm(&search, candidate)
        {
            return self.resolve_found_apart(fault, asdr, guard);
        }
        if !fault.uses_real_mode() {
            return fault.not_found();
        }
        match self.repair_vrma(fault.real_address(), || self.is_translated(&search)) {
            Repair::Done => FaultAction::Retry,
            Repair::NoSlot => fault.not_found(),
        }
    }

    #[inline(never)]
    fn is_translated(&self, search: &Search) -> bool {
        self.find_candidate(search)
            .is_some_and(|candidate| self.confirm(search, candidate).is_some())
    }

    #[inline(never)]
    fn resolve_found_apart(
        &self,
        fault: &HpteFault,
        asdr: Asdr,
        guard: HpteGuard<'_, M>,
    ) -> FaultAction {
        self.resolve_found(fault, asdr, guard)
    }

    /// The guest has an entry for what it tried; may it use it so?
    #[inline(always)]
    fn resolve_found(&self, fault: &HpteFault, asdr: Asdr, guard: HpteGuard<'_, M>) -> FaultAction {
        let state = if fault.msr.contains(Msr::PR) {
            PrivilegeState::Problem
        } else {
            PrivilegeState::Privileged
        };
        if let Some(action) = fault.denied(guard.guest_r(), asdr.key(state)) {
            return action;
        }
        if guard.v().is_absent() {
            self.make_valid(fault, guard)
        } else if fault.kind == AccessKind::Store && self.is_veiled() {
            self.permit_store(guard)
        } else {
            FaultAction::Retry
        }
    }

    /// A store that the guest permits and the hardware did not: the page is guarded, or somebody else
    /// has seen to it by now.
    #[cold]
    fn permit_store(&self, guard: HpteGuard<'_, M>) -> FaultAction {
        if let Some(place) = self.place(guard.v(), guard.guest_r())
            && place.state().is_read_only()
        {
            // The walk takes the entry's lock itself.
            drop(guard);
            return self.granted(&place);
        }
        FaultAction::Retry
    }

    fn granted(&self, place: &Place<'_>) -> FaultAction {
        match self.grant(place) {
            Ok(()) => FaultAction::Retry,
            Err(NoFrame) => FaultAction::NoFrame,
        }
    }

    /// Makes an absent entry valid, its memory zeroed if it was never touched. For a page of 16 MiB
    /// that is the longest that any exit takes: 131,072 cache blocks.
    #[inline(always)]
    fn make_valid(&self, fault: &HpteFault, guard: HpteGuard<'_, M>) -> FaultAction {
        let (v, r, guest_r) = (guard.v(), guard.r(), guard.guest_r());
        let Some(place) = self.place(v, guest_r) else {
            return FaultAction::Retry;
        };
        let mut piece = place.state();
        if !piece.is_ready() && place.slot.kind() == SlotKind::Memory {
            let bytes = place.size().bytes();
            let store_to_image = fault.kind == AccessKind::Store && piece.has(Piece::IMAGE);
            if store_to_image
                || self
                    .memory
                    .populate_slot(place.slot, place.offset, bytes)
                    .is_err()
            {
                return self.make_own_valid(fault, guard, &place, piece);
            }
            piece = place.state();
        }
        // Most often doubleword 1 has been right all along.
        const ATTRIBUTES: u64 = HpteR::PROTECTION | HpteR::WIMG;
        const PIECE_NUMBER: u64 = HpteR::RPN & !(PIECE - 1);
        let differs =
            (r.get() ^ guest_r.get()) & ATTRIBUTES | (r.get() ^ piece.host().get()) & PIECE_NUMBER;
        let simple = piece.is_plain() && place.size() != PageSize::P16M;
        if simple && differs == 0 && !v.is_unflushed() && !place.slot.is_special() {
            guard.reveal();
            return FaultAction::Retry;
        }
        self.make_special_valid(fault, guard, &place, piece)
    }

    /// An absent entry's page, which was never touched, becomes the partition's own at once, since
    /// it is stored to, or nobody can map the image with it: then the partition still has what it was
    /// guaranteed.
    #[cold]
    fn make_own_valid(
        &self,
        fault: &HpteFault,
        guard: HpteGuard<'_, M>,
        place: &Place<'_>,
        piece: Piece,
    ) -> FaultAction {
        // The walk takes the entry's lock itself.
        drop(guard);
        if !piece.has(Piece::IMAGE) {
            return FaultAction::NoFrame;
        }
        if fault.kind == AccessKind::Store {
            return self.granted(place);
        }
        let number = place.offset / PIECE;
        match self.make_guaranteed(place.slot, number) {
            Ok(()) => FaultAction::Retry,
            Err(NoFrame) => FaultAction::NoFrame,
        }
    }

    #[cold]
    fn make_special_valid(
        &self,
        fault: &HpteFault,
        guard: HpteGuard<'_, M>,
        place: &Place<'_>,
        piece: Piece,
    ) -> FaultAction {
        let at = GuestReal::new(place.slot.base().get() + place.offset);
        if !piece.is_ready() {
            return FaultAction::NotMemory(at);
        }
        if place.size() == PageSize::P16M && !piece.has(Piece::LARGE) {
            return FaultAction::TooSmall(BackingTooSmall {
                at,
                wanted: place.size(),
                found: PageSize::P64K,
            });
        }
        let r = guard.r();
        guard.quiesce(r).settle();
        if fault.kind == AccessKind::Store && piece.is_read_only() {
            return self.granted(place);
        }
        FaultAction::Retry
    }
}
