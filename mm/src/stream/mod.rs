// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The stream of a page table: what KVM_PPC_GET_HTAB_FD reads and writes, byte for byte.
//!
//! It holds the guest's view of a table, which is what a partition is saved as and migrated by. A
//! record is a header of eight bytes, `index` (4), `n_valid` (2), `n_invalid` (2), and then
//! `n_valid` entries of 16 bytes, each its two doublewords big-endian in the layout of ISA 2.07
//! ([`GuestHpteV`], [`GuestHpteR`]). It says that the `n_valid` entries from `index` are these, and
//! that the `n_invalid` after them are not there, which takes no bytes. So a stream of `n` records
//! with `m` entries has `8 n + 16 m` bytes. The header is in the byte order of the host that
//! reads KVM's file; QEMU's migration stream has it big-endian, and frames around it ([`qemu`]).
//!
//! A first pass gives the whole table. Later passes give only what changed, and leave everything
//! else out: an entry that no record names is as it was. QEMU without KVM writes its first pass in
//! another style, with `n_invalid` always 0 and the missing entries left out too. Both read the
//! same once the reader knows whether the stream begins with an empty table or with one that
//! changes: [`StartsFrom`]. Records of several passes may follow each other, so an entry may be named
//! more than once, and the last time counts, as in KVM.
//!
//! [`StreamReader`] makes a stream from a table. [`ParsedStream`] is one that was checked from end
//! to end, and [`ParsedStream::apply`] puts it into a table, all of it or nothing. Neither
//! allocates.
//!
//! Linux, Documentation/virt/kvm/api.rst, KVM_PPC_GET_HTAB_FD.

mod apply;
mod error;
mod parse;
pub mod qemu;
mod reader;
mod record;

pub use apply::{ApplyError, HptSink};
pub use error::{ParseError, ParseReason, ReadError};
pub use parse::{Change, Changes, Counts, Encoding, ParsedStream, StartsFrom};
pub use reader::{
    EntryFilter, HoleStyle, HptSource, Progress, SMALLEST_BUFFER, StreamOptions, StreamReader,
};
pub use record::{ByteOrder, ENTRY_BYTES, HEADER_BYTES, RecordHeader};

use crate::hpt::HptOrder;
use penstock_arch::hash::{GuestHpteR, GuestHpteV};

/// An entry as the guest sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuestHpte {
    /// Doubleword 0.
    pub v: GuestHpteV,
    /// Doubleword 1.
    pub r: GuestHpteR,
}

/// Number of entries of a table of this size.
#[must_use]
pub const fn entries_of(order: HptOrder) -> u64 {
    order.bytes() / ENTRY_BYTES as u64
}

#[cfg(test)]
mod tests;
