// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What can be wrong with a stream, and with the way it is asked for.

use penstock_arch::hash::{GuestHpteR, GuestHpteV};

/// Why a reader gives nothing. The caller's mistake, and nothing is lost by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadError {
    /// The buffer does not take a header and an entry.
    BufferTooShort {
        /// Bytes of the buffer.
        bytes: usize,
        /// Bytes that it must have.
        needed: usize,
    },
    /// A header's index has 32 bits.
    TableTooLarge {
        /// Entries of the table.
        entries: u64,
    },
    /// The first pass was to begin beyond the table.
    StartBeyondTable {
        /// Where it was to begin.
        start: u64,
        /// Entries of the table.
        entries: u64,
    },
    /// The table has another size than when the reader began: a new one must begin.
    TableReplaced {
        /// Entries of the table then.
        before: u64,
        /// Entries of the table now.
        now: u64,
    },
}

impl core::fmt::Display for ReadError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match *self {
            Self::BufferTooShort { bytes, needed } => {
                write!(f, "a buffer of {bytes} bytes is too short: {needed} needed")
            }
            Self::TableTooLarge { entries } => {
                write!(
                    f,
                    "a table of {entries:#x} entries is too large for a stream"
                )
            }
            Self::StartBeyondTable { start, entries } => {
                write!(
                    f,
                    "entry {start:#x} is beyond a table of {entries:#x} entries"
                )
            }
            Self::TableReplaced { before, now } => write!(
                f,
                "the table had {before:#x} entries and now has {now:#x}: the stream must begin anew"
            ),
        }
    }
}

impl core::error::Error for ReadError {}

/// Why a stream is refused, as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParseError {
    /// Where in the stream, in bytes: the header or entry that is wrong, or the end that came too
    /// early.
    pub offset: usize,
    /// The entry of the table that is meant, where one is: a header's, or the one that is wrong.
    pub index: Option<u64>,
    /// What is wrong.
    pub reason: ParseReason,
}

/// What is wrong with a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParseReason {
    /// Less bytes than a header are left.
    HeaderCut {
        /// Bytes left.
        bytes: usize,
    },
    /// Less bytes are left than the header's entries have.
    EntriesCut {
        /// Entries that the header counts.
        n_valid: u16,
        /// Bytes left.
        bytes: usize,
    },
    /// A header that counts nothing. No reader makes one; in QEMU's framing it is the end marker.
    NothingCounted,
    /// The record goes on beyond the table.
    BeyondTable {
        /// Entries with bytes that the header counts.
        n_valid: u16,
        /// Entries without that the header counts.
        n_invalid: u16,
        /// Entries of the table.
        entries: u64,
    },
    /// An entry without V.
    NotValid {
        /// Doubleword 0.
        v: GuestHpteV,
    },
    /// An entry with a reserved segment size B.
    ReservedSegmentSize {
        /// Doubleword 0.
        v: GuestHpteV,
    },
    /// An entry of a virtual address longer than the hardware's.
    LongAddress {
        /// Doubleword 0.
        v: GuestHpteV,
    },
    /// An entry with a page size that there is none of, or 16 GiB.
    ReservedPageSize {
        /// Doubleword 0.
        v: GuestHpteV,
        /// Doubleword 1.
        r: GuestHpteR,
    },
    /// An entry whose page is not aligned to its size.
    UnalignedPage {
        /// Doubleword 1.
        r: GuestHpteR,
    },
    /// QEMU's framing: a section does not begin, or does not end.
    SectionCut {
        /// Bytes left.
        bytes: usize,
    },
    /// QEMU's framing: the guest had no hashed page table.
    NoTable,
    /// QEMU's framing: a table of another size.
    OtherOrder {
        /// The table's size that the stream says: binary logarithm of bytes.
        log2_bytes: u32,
    },
    /// QEMU's framing: a size in a section after the first.
    SecondSize {
        /// The word that should be 0.
        word: u32,
    },
}

impl core::fmt::Display for ParseReason {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match *self {
            Self::HeaderCut { bytes } => {
                write!(f, "cut short: {bytes} bytes of a header's 8")
            }
            Self::EntriesCut { n_valid, bytes } => write!(
                f,
                "cut short: {n_valid} entries of 16 bytes are counted, {bytes} bytes follow"
            ),
            Self::NothingCounted => f.write_str(
                "a header that counts no entry; QEMU's framing ends its sections with such",
            ),
            Self::BeyondTable {
                n_valid,
                n_invalid,
                entries,
            } => write!(
                f,
                "{n_valid} valid and {n_invalid} invalid entries go beyond the table of {entries:#x}"
            ),
            Self::NotValid { v } => write!(f, "V is not set in {v:?}"),
            Self::ReservedSegmentSize { v } => write!(f, "reserved segment size in {v:?}"),
            Self::LongAddress { v } => {
                write!(f, "virtual address of more than 68 bits in {v:?}")
            }
            Self::ReservedPageSize { v, r } => write!(f, "reserved page size in {v:?} {r:?}"),
            Self::UnalignedPage { r } => write!(f, "page not aligned to its size in {r:?}"),
            Self::SectionCut { bytes } => write!(
                f,
                "cut short: a section of QEMU's framing lacks its begin or end, {bytes} bytes left"
            ),
            Self::NoTable => f.write_str("the guest had no hashed page table"),
            Self::OtherOrder { log2_bytes } => {
                write!(f, "made from a table of another size, order {log2_bytes}")
            }
            Self::SecondSize { word } => {
                write!(
                    f,
                    "a section after the first begins with {word:#x} and not 0"
                )
            }
        }
    }
}

impl core::fmt::Display for ParseError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "offset {:#x}: ", self.offset)?;
        if let Some(index) = self.index {
            write!(f, "entry {index:#x}: ")?;
        }
        self.reason.fmt(f)
    }
}

impl core::error::Error for ParseError {}
