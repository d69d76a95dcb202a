// SPDX-License-Identifier: Apache-2.0 OR MIT
//! From an entry to the slot behind it, and from the slot's state to what the hardware is told.

use super::{HashMmu, WIMG_MEMORY};
use crate::page_ops::Machine;
use crate::real::Piece;
use crate::slot::{Slot, SlotKind};
use penstock_arch::addr::GuestReal;
use penstock_arch::hash::{GuestHpteR, HpteR, HpteV, PageEncoding, PageSize, SegmentSize};

/// The page of an entry: where it lies in which slot.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) slot: &'a Slot,
    /// From the slot's first byte; a multiple of the page size, unless the slot is not aligned so.
    pub(super) offset: u64,
    pub(super) encoding: PageEncoding,
}

/// What the hardware is to be told of an entry.
#[derive(Clone, Copy)]
pub(super) struct Wanted {
    /// Doubleword 1.
    pub(super) r: HpteR,
    /// Whether it may use the entry.
    pub(super) visible: bool,
}

impl<'a> Place<'a> {
    #[inline]
    pub(super) const fn size(&self) -> PageSize {
        self.encoding.actual()
    }

    /// What is known of the page now.
    #[inline]
    pub(super) fn state(&self) -> Piece {
        self.slot.state(self.offset, self.size())
    }

    /// Whether the page has a byte of `len` bytes from `offset` in this slot.
    pub(super) const fn overlaps(&self, offset: u64, len: u64) -> bool {
        self.offset < offset.saturating_add(len) && offset < self.offset + self.size().bytes()
    }

    /// What the hardware is to be told of an entry for this page, with the guest's doubleword 1
    /// `guest_r`, in a segment of this size, while the page's state is `piece`. The entry is in its
    /// ring.
    #[inline]
    pub(super) fn wanted(&self, guest_r: GuestHpteR, segment: SegmentSize, piece: Piece) -> Wanted {
        let size = self.size();
        let host = piece.host().get() | (self.offset % crate::real::PIECE);
        let host = penstock_arch::addr::HostReal::new(host);
        let r = guest_r.to_hardware(self.encoding, host, segment);
        if !piece.is_plain() || size == PageSize::P16M || self.slot.is_special() {
            return self.wanted_of_special(r, piece);
        }
        Wanted { r, visible: true }
    }

    #[cold]
    fn wanted_of_special(&self, r: HpteR, piece: Piece) -> Wanted {
        let mut r = r;
        if self.slot.kind() == SlotKind::Framebuffer {
            r = r.without(HpteR::WIMG).with(WIMG_MEMORY);
        }
        if piece.is_read_only() {
            r = r.read_only();
        }
        if self.slot.is_logging() {
            // The next store shall be seen.
            r = r.without(HpteR::C);
        }
        let fits = self.size() != PageSize::P16M || piece.has(Piece::LARGE);
        Wanted {
            r,
            visible: piece.is_ready() && fits,
        }
    }
}

impl<M: Machine> HashMmu<M> {
    /// Where the ring of the page of an entry is that is in the table: a slot, and the first byte in
    /// it. `None` never, as for [`Self::place`].
    #[inline]
    pub(super) fn ring_of(&self, v: HpteV, guest_r: GuestHpteR) -> Option<(&Slot, u64)> {
        let size = if v.is_large() {
            HpteR::new(guest_r.get()).encoding(v)?.actual().bytes()
        } else {
            PageSize::P4K.bytes()
        };
        let page = GuestReal::new(guest_r.get() & GuestHpteR::RPN & !(size - 1));
        self.memory.slot_at(page)
    }

    /// The page of an entry that is in the table; `None` never, for it was checked when it was
    /// entered.
    #[inline]
    pub(super) fn place(&self, v: HpteV, guest_r: GuestHpteR) -> Option<Place<'_>> {
        let encoding = HpteR::new(guest_r.get()).encoding(v)?;
        let page = guest_r.page(encoding)?;
        let (slot, offset) = self.memory.slot_at(page)?;
        Some(Place {
            slot,
            offset,
            encoding,
        })
    }
}
