// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Memory slots.

use super::record;
use zerocopy::byteorder::big_endian::{U16, U32, U64};

record! {
    /// A memory slot. The hypervisor only writes it.
    Slot, 48, check |_| Ok(());
    {
        /// The slot's number.
        8 slot: U32,
        /// [`Slot::MEMORY`], [`Slot::FRAMEBUFFER`] or [`Slot::DEVICE`].
        12 kind: U16,
        /// Binary logarithm of the bytes of the largest page that its backing can honour.
        14 page_shift: u8,
        /// Binary logarithm of the bytes that a bit of its dirty log stands for; 0 where it can
        /// have none.
        15 dirty_shift: u8,
        /// Where it begins in guest real space.
        16 guest_address: U64,
        /// How long it is.
        24 bytes: U64,
        /// [`Slot::READ_ONLY`], [`Slot::LOGGED`].
        32 flags: U32,
        /// Bytes of a row, for framebuffers; else 0.
        36 row_bytes: U32,
        /// Zero.
        40 reserved: [u8; 8] = padding,
    }
}

impl Slot {
    /// Memory of the partition.
    pub const MEMORY: u16 = 1;
    /// A framebuffer.
    pub const FRAMEBUFFER: u16 = 2;
    /// Registers of a device: interrupt pages, or those of one that was passed through.
    pub const DEVICE: u16 = 3;

    /// The partition cannot write it.
    pub const READ_ONLY: u32 = 1;
    /// Its dirty log is on.
    pub const LOGGED: u32 = 2;
}
