// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which entries of a page table somebody changed.

use super::{bad_value, record};
use crate::control::error::RecordError;
use zerocopy::byteorder::big_endian::{U32, U64};

record! {
    /// Entries whose translations are to be dropped; the bitmap follows.
    Invalidate, 48, check Invalidate::check_values;
    {
        /// [`Invalidate::GROUPS`], [`Invalidate::STRICT`].
        8 flags: U32,
        /// Bytes of the bitmap that follows: those that `bits` need.
        12 bitmap_bytes: U32,
        /// The entry, or group of eight entries, of the first bit; a multiple of 64.
        16 first: U64,
        /// How many bits there are. Entry `first + n` is bit `n % 8`, counted from the least
        /// significant, of byte `n / 8`; bits behind the last are zero.
        24 bits: U64,
        /// How many bits are set, by the caller's count: a hint, no more.
        32 hint: U64,
        /// Zero.
        40 reserved: [u8; 8] = padding,
    }
}

impl Invalidate {
    /// Each bit stands for a group of eight entries.
    pub const GROUPS: u32 = 1;
    /// Refuse a hint that is not the number of bits set.
    pub const STRICT: u32 = 2;

    fn check_values(&self) -> Result<(), RecordError> {
        if self.flags.get() & !(Self::GROUPS | Self::STRICT) != 0 {
            return Err(bad_value!(Self, flags));
        }
        if !self.first.get().is_multiple_of(64) {
            return Err(bad_value!(Self, first));
        }
        if u64::from(self.bitmap_bytes.get()) != self.bits.get().div_ceil(8) {
            return Err(bad_value!(Self, bitmap_bytes));
        }
        Ok(())
    }
}
