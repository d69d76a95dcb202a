// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The frames that QEMU's migration stream has around records, in its section "spapr/htab".
//!
//! A section begins with a big-endian word. The first one's is the table's order (binary logarithm
//! of its bytes), or -1 where the guest has no hashed page table, and it has nothing else: the other
//! side takes an empty table of that size. Each further one's is 0; records with big-endian headers
//! follow, and eight bytes of 0, a header that counts nothing. QEMU's own headers around sections
//! (section number, version, ...) are no part of this.
//!
//! QEMU, hw/ppc/spapr.c, handlers of "spapr/htab".

use super::entries_of;
use super::error::{ParseError, ParseReason};
use super::record::{ByteOrder, HEADER_BYTES, RecordHeader};
use crate::hpt::HptOrder;

/// Bytes of the word that a section begins with.
pub const WORD_BYTES: usize = 4;
/// What a section with records begins with.
pub const RECORDS: [u8; WORD_BYTES] = 0_u32.to_be_bytes();
/// What a section with records ends with.
pub const END: [u8; HEADER_BYTES] = [0; HEADER_BYTES];
/// All of the first section where the guest has no hashed page table.
pub const NO_TABLE: [u8; WORD_BYTES] = (-1_i32).to_be_bytes();

/// All of the first section: the table's size.
#[must_use]
pub const fn size(order: HptOrder) -> [u8; WORD_BYTES] {
    order.get().to_be_bytes()
}

/// The table's size that a stream begins with; `None` where it begins with records.
///
/// # Errors
/// The stream is shorter than a word, says that there is no table, or names a size that no table
/// has.
pub fn size_of_table(bytes: &[u8]) -> Result<Option<HptOrder>, ParseError> {
    let error = |reason| ParseError {
        offset: 0,
        index: None,
        reason,
    };
    let word = bytes
        .first_chunk()
        .ok_or(error(ParseReason::SectionCut { bytes: bytes.len() }))?;
    match u32::from_be_bytes(*word) {
        0 => Ok(None),
        u32::MAX => Err(error(ParseReason::NoTable)),
        log2_bytes => match HptOrder::new(log2_bytes) {
            Some(order) => Ok(Some(order)),
            None => Err(error(ParseReason::OtherOrder { log2_bytes })),
        },
    }
}

/// Where in the frames a parser is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Frame {
    /// Nothing was read yet.
    Start,
    /// Between sections.
    Between,
    /// In a section with records.
    Records,
}

/// What comes next in the frames.
pub(super) enum Next {
    /// A record with this header.
    Record(RecordHeader),
    /// A frame, of so many bytes.
    Frame(Frame, usize),
    /// The end of the stream.
    End,
}

/// What comes next, `rest` being all that is left.
pub(super) fn next(frame: Frame, rest: &[u8], entries: u64) -> Result<Next, ParseReason> {
    let bytes = rest.len();
    match frame {
        Frame::Between if rest.is_empty() => Ok(Next::End),
        Frame::Start | Frame::Between => {
            let word = rest
                .first_chunk()
                .ok_or(ParseReason::SectionCut { bytes })?;
            match (u32::from_be_bytes(*word), frame) {
                (0, _) => Ok(Next::Frame(Frame::Records, WORD_BYTES)),
                (u32::MAX, _) => Err(ParseReason::NoTable),
                (log2_bytes, Frame::Start) => match HptOrder::new(log2_bytes) {
                    Some(order) if entries_of(order) == entries => {
                        Ok(Next::Frame(Frame::Between, WORD_BYTES))
                    }
                    _ => Err(ParseReason::OtherOrder { log2_bytes }),
                },
                (word, _) => Err(ParseReason::SecondSize { word }),
            }
        }
        Frame::Records => {
            let header = rest
                .first_chunk()
                .ok_or(ParseReason::SectionCut { bytes })?;
            if *header == END {
                return Ok(Next::Frame(Frame::Between, HEADER_BYTES));
            }
            let header = RecordHeader::from_bytes(*header, ByteOrder::Big);
            Ok(Next::Record(header))
        }
    }
}
