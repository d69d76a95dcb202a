// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What can be wrong with guest memory.

use crate::frame::FrameError;
use penstock_arch::addr::GuestReal;

/// Why an access to guest memory failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryError {
    /// Some of the range is no memory of the partition.
    NotMemory {
        /// The first byte of the access.
        at: GuestReal,
        /// Its bytes.
        len: u64,
    },
    /// The range has no single host address, for its parts lie apart.
    CrossesBlock {
        /// The first byte of the access.
        at: GuestReal,
        /// Its bytes.
        len: u64,
    },
    /// The partition's pool has no frame for it at the moment, or the partition has as many as it may:
    /// nothing was changed, and the same may work later.
    NoFrame {
        /// The first byte of the access.
        at: GuestReal,
        /// Its bytes.
        len: u64,
    },
    /// The address is not a multiple of what the operation works in.
    Unaligned {
        /// The address.
        at: GuestReal,
        /// The unit, in bytes.
        unit: u64,
    },
}

impl core::fmt::Display for MemoryError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match *self {
            Self::NotMemory { at, len } => {
                write!(
                    f,
                    "guest real {at} + {len:#x} is not all memory of the partition"
                )
            }
            Self::CrossesBlock { at, len } => {
                write!(f, "guest real {at} + {len:#x} is not in one piece")
            }
            Self::NoFrame { at, len } => {
                write!(
                    f,
                    "there is no memory for guest real {at} + {len:#x} at the moment"
                )
            }
            Self::Unaligned { at, unit } => {
                write!(f, "guest real {at} is no multiple of {unit}")
            }
        }
    }
}

impl core::error::Error for MemoryError {}

/// Why a partition's memory could not be set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemorySetupError {
    /// The size is 0 or no multiple of 16 MiB.
    BadSize {
        /// The size asked for, in bytes.
        size: u64,
    },
    /// A slot's range is not aligned to 64 KiB, or touches another's.
    BadPlace {
        /// Its first address.
        base: GuestReal,
        /// Its bytes.
        bytes: u64,
    },
    /// The partition has as many slots as it may.
    TooManySlots,
    /// There is not enough host memory.
    Frames(FrameError),
}

impl From<FrameError> for MemorySetupError {
    fn from(error: FrameError) -> Self {
        Self::Frames(error)
    }
}

impl core::fmt::Display for MemorySetupError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::BadSize { size } => {
                write!(
                    f,
                    "partition memory of {size:#x} bytes is no multiple of 16 MiB"
                )
            }
            Self::BadPlace { base, bytes } => {
                write!(
                    f,
                    "slot at guest real {base} + {bytes:#x} is not aligned to 64 KiB, or taken"
                )
            }
            Self::TooManySlots => f.write_str("too many memory slots"),
            Self::Frames(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for MemorySetupError {}
