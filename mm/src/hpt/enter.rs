// SPDX-License-Identifier: Apache-2.0 OR MIT
//! H_ENTER: adds an entry.
//!
//! The guest's doublewords are checked and translated before anything is locked; then the first
//! free entry of the group is taken, at first without waiting for locked ones, and if that finds
//! none, with waiting, so that H_PTEG_FULL is said only of a full group. Memory that was never
//! touched makes an absent entry, and the fault handler does the rest.
//!
//! LoPAR, H_ENTER; Power ISA 3.0B, Book III, Adding a Page Table Entry.

use super::guard::Quiesced;
use super::place::Place;
use super::{HashMmu, WIMG_MEMORY, flags};
use crate::page_ops::Machine;
use crate::real::Piece;
use crate::slot::SlotKind;
use crate::status::HcallStatus;
use penstock_arch::addr::GuestReal;
use penstock_arch::hash::{
    GuestHpteR, GuestHpteV, HPTES_PER_GROUP, HpteIndex, HpteR, HpteV, PageSize, SegmentSize,
};

/// An entry that was checked, ready to be entered.
#[derive(Clone, Copy)]
pub(super) struct Prepared<'a> {
    /// Doubleword 0 without V and ABSENT.
    v: HpteV,
    guest_r: GuestHpteR,
    segment: SegmentSize,
    place: Place<'a>,
}

/// Flags that work on the page itself.
const PAGE_FLAGS: u64 = flags::ZERO_PAGE | flags::ICACHE_INVALIDATE | flags::ICACHE_SYNCHRONIZE;

impl<M: Machine> HashMmu<M> {
    /// H_ENTER: adds the entry `pteh`, `ptel`; returns its number.
    ///
    /// # Errors
    /// H_PARAMETER: no such group, reserved segment size or page size, page not in the partition's
    /// memory, not aligned, or with the wrong WIMG. H_TOO_BIG: page flags for more than 64 KiB.
    /// H_PTEG_FULL: no free entry. [`HcallStatus::NO_FRAME`]: nothing was done.
    pub fn h_enter(&self, flags: u64, ptex: u64, pteh: u64, ptel: u64) -> Result<u64, HcallStatus> {
        let index = self.index(ptex)?;
        let prepared = self.prepare(flags, GuestHpteV::new(pteh), GuestHpteR::new(ptel))?;
        let slot = if flags & flags::EXACT != 0 {
            self.claim_exact(index)
        } else {
            self.claim_in_group(index)
        };
        match slot {
            Some((index, slot)) => {
                slot.enter(prepared);
                Ok(index.get())
            }
            None => Err(HcallStatus::PTEG_FULL),
        }
    }

    /// Checks an entry. Nothing that a guest can see is changed, but its page where the flags ask
    /// for it.
    // What it returns is a good part of a call's registers.
    #[inline(always)]
    pub(super) fn prepare(
        &self,
        flags: u64,
        guest_v: GuestHpteV,
        guest_r: GuestHpteR,
    ) -> Result<Prepared<'_>, HcallStatus> {
        let parameter = HcallStatus::PARAMETER;
        let guest_r = GuestHpteR::new(guest_r.get() & self.guest_r_mask);
        let (v, segment) = guest_v.to_hardware().ok_or(parameter)?;
        let encoding = guest_r.encoding(guest_v).ok_or(parameter)?;
        let page = guest_r.page(encoding).ok_or(parameter)?;
        let (slot, offset) = self.memory.slot_at(page).ok_or(parameter)?;
        let place = Place {
            slot,
            offset,
            encoding,
        };
        let wimg = guest_r.get() & HpteR::WIMG;
        if wimg != WIMG_MEMORY && wimg != self.other_wimg || slot.kind() != SlotKind::Memory {
            self.check_special(&place, wimg)?;
        }
        if encoding.actual() > slot.largest() {
            return Err(parameter);
        }
        if encoding.actual() == PageSize::P16M {
            Self::check_large(&place)?;
        }
        if flags & PAGE_FLAGS != 0 {
            self.do_page_flags(flags, page, encoding.actual())?;
        }
        Ok(Prepared {
            v,
            guest_r,
            segment,
            place,
        })
    }

    /// A page that is not ordinary memory with an ordinary WIMG: a device's must be
    /// caching-inhibited (WIMG=0b01xx), a framebuffer's may.
    #[cold]
    fn check_special(&self, place: &Place<'_>, wimg: u64) -> Result<(), HcallStatus> {
        const W: u64 = 0x40;
        const I: u64 = 0x20;
        let inhibited = wimg & (W | I) == I;
        let good = match place.slot.kind() {
            SlotKind::Memory => false,
            SlotKind::Framebuffer => inhibited || wimg == WIMG_MEMORY,
            SlotKind::Device => inhibited,
        };
        if good {
            Ok(())
        } else {
            Err(HcallStatus::PARAMETER)
        }
    }

    /// The backing of a page of 16 MiB must be so large (LoPAR, H_ENTER: the page size of the
    /// logical region).
    #[cold]
    fn check_large(place: &Place<'_>) -> Result<(), HcallStatus> {
        if place.state().has(Piece::LARGE) {
            Ok(())
        } else {
            Err(HcallStatus::PARAMETER)
        }
    }

    #[cold]
    fn do_page_flags(
        &self,
        flags: u64,
        page: GuestReal,
        size: PageSize,
    ) -> Result<(), HcallStatus> {
        if size > PageSize::P64K {
            return Err(HcallStatus::TOO_BIG);
        }
        let mut result = Ok(());
        let memory = self.memory();
        if flags & flags::ZERO_PAGE != 0 {
            result = memory.zero(page, size.bytes());
        }
        if flags & flags::ICACHE_INVALIDATE != 0 {
            result = result.and(memory.icache_invalidate(page, size.bytes()));
        }
        if flags & flags::ICACHE_SYNCHRONIZE != 0 {
            result = result.and(memory.icache_synchronize(page, size.bytes()));
        }
        result.map_err(HcallStatus::of)
    }

    /// Takes this entry if it is free.
    #[inline]
    pub(super) fn claim_exact(&self, index: HpteIndex) -> Option<(HpteIndex, Quiesced<'_, M>)> {
        if let Some(slot) = self.try_lock_free(index) {
            return Some((index, slot));
        }
        let guard = self.lock(index);
        let r = guard.r();
        (!guard.v().is_present()).then(|| (index, guard.quiesce(r)))
    }

    /// Takes the first free entry of the group.
    #[inline]
    pub(super) fn claim_in_group(&self, index: HpteIndex) -> Option<(HpteIndex, Quiesced<'_, M>)> {
        let first = index.get() & !(HPTES_PER_GROUP - 1);
        for slot in 0..HPTES_PER_GROUP {
            let index = HpteIndex::new(first + slot);
            if let Some(slot) = self.try_lock_free(index) {
                return Some((index, slot));
            }
        }
        self.claim_in_group_waiting(first)
    }

    #[cold]
    fn claim_in_group_waiting(&self, first: u64) -> Option<(HpteIndex, Quiesced<'_, M>)> {
        (first..first + HPTES_PER_GROUP).find_map(|index| self.claim_exact(HpteIndex::new(index)))
    }
}

impl<M: Machine> Quiesced<'_, M> {
    /// Enters a prepared entry into a free slot, and unlocks it. It is in its ring before the page's
    /// state is read: whoever changes that state later finds the entry.
    #[inline(always)]
    pub(super) fn enter(mut self, entry: Prepared<'_>) {
        self.link(&entry.place);
        let wanted = entry
            .place
            .wanted(entry.guest_r, entry.segment, entry.place.state());
        self.set_new_guest_r(entry.guest_r);
        self.set_r(wanted.r);
        if wanted.visible {
            self.install(entry.v.with(HpteV::VALID));
        } else {
            self.mmu().veil_more(1);
            self.install(entry.v.with(HpteV::ABSENT));
        }
    }
}
