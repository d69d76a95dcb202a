// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What can be wrong with a call, and what its caller is told.

use core::fmt;
use penstock_mm::status::HcallStatus;

/// Why a record is refused. Its number is what the caller gets in r4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Reason {
    /// The buffer ends before the record or its payload does.
    TooShort = 1,
    /// Another major version.
    Major = 2,
    /// Another kind of record.
    Kind = 3,
    /// Unknown flags in the header.
    Flags = 4,
    /// A newer minor version that is not marked compatible.
    NewerMinor = 5,
    /// Not the size that the version has.
    Size = 6,
    /// Padding, or an unused entry, that is not zero.
    Padding = 7,
    /// A value that the field cannot have.
    Value = 8,
    /// STRICT, and the hint is not the number of bits set.
    Hint = 9,
    /// A piece that is not the next one of its stream.
    Sequence = 10,
    /// The stream's records in the payload are damaged, or the partition cannot have an entry.
    Stream = 11,
    /// The payload asks for more work than a call may be.
    Work = 12,
}

impl Reason {
    /// All of them, with what the reference says.
    pub const ALL: &'static [(Self, &'static str)] = &[
        (
            Self::TooShort,
            "the buffer ends before the record or its payload",
        ),
        (Self::Major, "another major version"),
        (Self::Kind, "another kind of record"),
        (Self::Flags, "unknown flags in the header"),
        (
            Self::NewerMinor,
            "a newer minor version that is not marked compatible",
        ),
        (Self::Size, "not the size that the version has"),
        (Self::Padding, "padding or an unused entry that is not zero"),
        (Self::Value, "a value that the field cannot have"),
        (
            Self::Hint,
            "STRICT, and the hint is not the number of bits set",
        ),
        (Self::Sequence, "not the next piece of its stream"),
        (
            Self::Stream,
            "the stream's records are damaged, or name an entry that the partition cannot have",
        ),
        (
            Self::Work,
            "the stream's records name more than 65,535 entries that are not there",
        ),
    ];
}

/// What is wrong with a record, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordError {
    /// Offset in the buffer, bytes.
    pub offset: u32,
    /// What is wrong there.
    pub reason: Reason,
}

impl RecordError {
    /// Something is wrong at `offset`.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "buffers are far below 4 GiB"
    )]
    pub const fn new(offset: usize, reason: Reason) -> Self {
        Self {
            offset: offset as u32,
            reason,
        }
    }

    /// The same, for a record or payload that begins `bytes` further on.
    #[must_use]
    pub const fn moved(self, bytes: usize) -> Self {
        Self::new(self.offset as usize + bytes, self.reason)
    }
}

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = Reason::ALL
            .iter()
            .find(|(reason, _)| *reason == self.reason);
        write!(
            f,
            "{} (at byte {})",
            text.map_or("", |(_, text)| text),
            self.offset
        )
    }
}

/// An argument register of a call's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Argument {
    /// r8.
    First,
    /// r9.
    Second,
    /// r10.
    Third,
}

/// Why a call did not do what it was to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControlError {
    /// The caller's partition has no mark `control`.
    Authority,
    /// The function does not exist, or is not offered for this partition.
    Unsupported,
    /// No such partition, or the caller's own where it must be another.
    Partition,
    /// The buffer is not, or not wholly, memory of the caller; or an address without a buffer.
    Address,
    /// The buffer is too short for the function, or longer than any may be; or a length without a
    /// buffer.
    Length,
    /// An argument names what is not there, or has undefined bits.
    Argument(Argument),
    /// Another call works on the partition.
    Busy,
    /// The partition's virtual processors are on their way out.
    Stopping,
    /// Another tool holds the partition, the stream, or the dirty log.
    Held,
    /// The partition is not in a state for this.
    State,
    /// All stream readers are in use.
    NoReader,
    /// Something is wrong with the record in the buffer.
    Record(RecordError),
    /// The partition does not run and cannot be suspended or resumed: it was shut off or failed.
    Off,
    /// The hypervisor could not do it, and whoever called is not to blame.
    Hardware,
}

impl ControlError {
    /// What the caller finds in r3.
    #[must_use]
    pub const fn status(self) -> HcallStatus {
        match self {
            Self::Authority => HcallStatus::AUTHORITY,
            Self::Unsupported => HcallStatus::UNSUPPORTED,
            Self::Partition => HcallStatus::P2,
            Self::Address => HcallStatus::P3,
            Self::Length => HcallStatus::P4,
            Self::Argument(Argument::First) => HcallStatus::P5,
            Self::Argument(Argument::Second) => HcallStatus::P6,
            Self::Argument(Argument::Third) => HcallStatus::P7,
            Self::Busy => HcallStatus::BUSY,
            Self::Stopping => HcallStatus::LONG_BUSY_ORDER_1_MSEC,
            Self::Held => HcallStatus::IN_USE,
            Self::State => HcallStatus::STATE,
            Self::NoReader => HcallStatus::RESOURCE,
            Self::Record(_) => HcallStatus::BAD_DATA,
            Self::Off => HcallStatus::NOT_ACTIVE,
            Self::Hardware => HcallStatus::HARDWARE,
        }
    }

    /// All of them in the order in which a call looks for them, with what the reference says.
    pub const ALL: &'static [(Self, &'static str)] = &[
        (Self::Authority, "the caller has no mark `control`"),
        (
            Self::Unsupported,
            "no such function, or not offered for this partition",
        ),
        (
            Self::Partition,
            "no such partition, or the caller's own where it must be another",
        ),
        (
            Self::Length,
            "r7: too short for the function, above `max_buffer_bytes`, or not 0 where there is no buffer",
        ),
        (
            Self::Address,
            "r6: not all memory of the caller, or not 0 where there is no buffer",
        ),
        (Self::Busy, "another call works on the partition: again"),
        (
            Self::Argument(Argument::First),
            "r8 names what is not there, or has undefined bits",
        ),
        (
            Self::Argument(Argument::Second),
            "r9 names what is not there, or has undefined bits",
        ),
        (Self::Argument(Argument::Third), "r10 is out of range"),
        (
            Self::State,
            "the partition, its log or its streams are not in a state for this",
        ),
        (
            Self::Held,
            "another tool holds the partition, the stream or the log",
        ),
        (Self::NoReader, "all stream readers are in use"),
        (
            Self::Record(RecordError::new(0, Reason::TooShort)),
            "the record is refused: reason in r4, offset in r5",
        ),
        (
            Self::Stopping,
            "SUSPEND: virtual processors are on their way out: again",
        ),
        (Self::Off, "the partition is shut off or has failed"),
        (Self::Hardware, "the hypervisor could not do it"),
    ];
}

impl From<RecordError> for ControlError {
    fn from(error: RecordError) -> Self {
        Self::Record(error)
    }
}

impl fmt::Display for ControlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Self::Record(error) = self {
            return error.fmt(f);
        }
        let text = Self::ALL.iter().find(|(error, _)| error == self);
        f.write_str(text.map_or("", |(_, text)| text))
    }
}

impl core::error::Error for ControlError {}
