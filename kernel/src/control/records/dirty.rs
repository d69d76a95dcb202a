// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which pages of a slot were written.

use super::{bad_value, record};
use crate::control::error::RecordError;
use zerocopy::byteorder::big_endian::{U32, U64};

record! {
    /// The pages that a caller of DIRTY_FETCH wants to know of.
    DirtyRequest, 40, check DirtyRequest::check_values;
    {
        /// The slot, as in r8.
        8 slot: U32,
        /// The slot's `dirty_shift`, repeated so that nobody counts in other pages.
        12 page_shift: u8,
        /// Zero.
        13 reserved0: [u8; 3] = padding,
        /// The first page, counted from the slot's beginning; a multiple of 64.
        16 first_page: U64,
        /// How many pages at most: a multiple of 64 that is not 0, and may reach beyond the slot.
        24 pages: U64,
        /// [`DirtyRequest::TAKE`].
        32 flags: U32,
        /// Zero.
        36 reserved1: [u8; 4] = padding,
    }
}

impl DirtyRequest {
    /// The pages that are told are clean from then on.
    pub const TAKE: u32 = 1;

    fn check_values(&self) -> Result<(), RecordError> {
        if !self.first_page.get().is_multiple_of(64) {
            return Err(bad_value!(Self, first_page));
        }
        if self.pages.get() == 0 || !self.pages.get().is_multiple_of(64) {
            return Err(bad_value!(Self, pages));
        }
        if self.flags.get() & !Self::TAKE != 0 {
            return Err(bad_value!(Self, flags));
        }
        Ok(())
    }
}

record! {
    /// What DIRTY_FETCH answers; the bitmap follows. The hypervisor only writes it.
    DirtyReply, 48, check |_| Ok(());
    {
        /// The slot.
        8 slot: U32,
        /// Binary logarithm of the bytes that a bit stands for.
        12 page_shift: u8,
        /// Zero.
        13 reserved0: [u8; 3] = padding,
        /// The page of the first bit.
        16 first_page: U64,
        /// How many pages are told: fewer than were asked for where the slot or the buffer ends.
        24 pages: U64,
        /// How many of them are dirty.
        32 dirty: U64,
        /// Bytes of the bitmap that follows. Page `first_page + n` is bit `n % 8`, counted from
        /// the least significant, of byte `n / 8`.
        40 bitmap_bytes: U32,
        /// Zero.
        44 reserved1: [u8; 4] = padding,
    }
}
