// SPDX-License-Identifier: Apache-2.0 OR MIT
//! How every record begins.

use super::{Record, Wire, record};
use crate::control::error::{Reason, RecordError};
use core::mem::offset_of;
use zerocopy::byteorder::big_endian::U32;

/// Major version of the records. Another one would have function numbers of its own.
pub const MAJOR: u8 = 1;
/// Minor version of the records: a new one may add fields at their ends.
pub const MINOR: u8 = 0;

/// Longest record of a newer minor version that is taken, in bytes: twice what any has now.
const MAX_RECORD_BYTES: usize = 8192;

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum RecordKind {
    /// [`super::Capabilities`].
    Capabilities = 1,
    /// [`super::Slot`].
    Slot = 2,
    /// [`super::DirtyRequest`].
    DirtyRequest = 3,
    /// [`super::DirtyReply`].
    DirtyReply = 4,
    /// [`super::StreamChunk`].
    StreamChunk = 5,
    /// [`super::VcpuState`].
    VcpuState = 6,
    /// [`super::VectorState`].
    VectorState = 7,
    /// [`super::Invalidate`].
    Invalidate = 8,
}

record! {
    /// The first eight bytes of every record.
    part Header, 8 {
        /// [`MAJOR`].
        0 major: u8,
        /// The writer's minor version.
        1 minor: u8,
        /// A [`RecordKind`].
        2 kind: u8,
        /// [`Header::COMPATIBLE`].
        3 flags: u8,
        /// Bytes of the record, this header included, a payload that follows not.
        4 size: U32,
    }
}

impl Wire for Header {
    const UNIT: usize = 4;
}

impl Header {
    /// The writer vouches that whoever does not know the fields which its newer minor version
    /// added may leave them out.
    pub const COMPATIBLE: u8 = 0x80;

    /// The header of a record as this version writes it.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "records are far below 4 GiB"
    )]
    pub fn of<R: Record>() -> Self {
        Self {
            major: MAJOR,
            minor: MINOR,
            kind: R::KIND as u8,
            flags: 0,
            size: U32::new(size_of::<R>() as u32),
        }
    }

    /// Checks that a record with this header can be read as `R`; how many bytes it has.
    ///
    /// The rule: the major version is ours. A record of our minor version has exactly the size that
    /// this version gives it. One of a newer minor version is taken only if its writer marked it
    /// [`COMPATIBLE`](Self::COMPATIBLE); it is not shorter than ours, and what it has beyond is
    /// skipped. There are no older minor versions yet; when there are, each size that a kind had in
    /// one of them is listed and taken, and missing fields read as zero.
    ///
    /// # Errors
    /// The kind, the version, the flags or the size is not so; checked in this order.
    pub fn check<R: Record>(&self) -> Result<usize, RecordError> {
        let bad = |offset, reason| Err(RecordError::new(offset, reason));
        if self.major != MAJOR {
            return bad(offset_of!(Self, major), Reason::Major);
        }
        if self.kind != R::KIND as u8 {
            return bad(offset_of!(Self, kind), Reason::Kind);
        }
        if self.flags & !Self::COMPATIBLE != 0 {
            return bad(offset_of!(Self, flags), Reason::Flags);
        }
        let newer = self.minor > MINOR;
        if newer && self.flags & Self::COMPATIBLE == 0 {
            return bad(offset_of!(Self, minor), Reason::NewerMinor);
        }
        let ours = size_of::<R>();
        let size = usize::try_from(self.size.get()).unwrap_or(usize::MAX);
        let fits = if newer {
            (ours..=MAX_RECORD_BYTES).contains(&size) && size.is_multiple_of(8)
        } else {
            size == ours
        };
        if !fits {
            return bad(offset_of!(Self, size), Reason::Size);
        }
        Ok(size)
    }
}
