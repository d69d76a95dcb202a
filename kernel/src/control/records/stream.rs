// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Pieces of a page table's stream.

use super::{bad_value, record};
use crate::control::error::RecordError;
use zerocopy::byteorder::big_endian::{U16, U32, U64};

/// [`StreamChunk::byte_order`] of a stream whose headers are big-endian: the characters `BE`.
pub const BYTE_ORDER_BIG: u16 = u16::from_be_bytes(*b"BE");
/// [`StreamChunk::byte_order`] of a stream whose headers are little-endian: the characters `LE`.
pub const BYTE_ORDER_LITTLE: u16 = u16::from_be_bytes(*b"LE");

record! {
    /// A piece of a stream, whole records; they follow.
    StreamChunk, 40, check StreamChunk::check_values;
    {
        /// The number that STREAM_OPEN gave, as in r8.
        8 stream: U32,
        /// [`StreamChunk::FIRST_PASS`], [`StreamChunk::BOLTED_ONLY`], [`StreamChunk::END`].
        12 flags: U32,
        /// Bytes of records that came before, since the stream was opened.
        16 offset: U64,
        /// Bytes of records that follow.
        24 length: U32,
        /// Byte order of the records' headers: [`BYTE_ORDER_BIG`] or [`BYTE_ORDER_LITTLE`].
        28 byte_order: U16,
        /// Zero.
        30 reserved0: [u8; 2] = padding,
        /// Zero.
        32 reserved1: [u8; 8] = padding,
    }
}

impl StreamChunk {
    /// It belongs to the first pass, which gives the whole table.
    pub const FIRST_PASS: u32 = 1;
    /// The stream has bolted entries only. In a piece that is written, it is for information.
    pub const BOLTED_ONLY: u32 = 2;
    /// The pass ends with it.
    pub const END: u32 = 4;

    fn check_values(&self) -> Result<(), RecordError> {
        if self.flags.get() & !(Self::FIRST_PASS | Self::BOLTED_ONLY | Self::END) != 0 {
            return Err(bad_value!(Self, flags));
        }
        match self.byte_order.get() {
            BYTE_ORDER_BIG | BYTE_ORDER_LITTLE => Ok(()),
            _ => Err(bad_value!(Self, byte_order)),
        }
    }
}
