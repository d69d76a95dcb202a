// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the values of properties should be, and sizes, as errors show them.

use super::{MAX_BOOTARGS_BYTES, MAX_WEIGHT, MIN_WEIGHT};
use core::fmt;

/// What a property's value should have been.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// One cell.
    Cell,
    /// One cell with this value.
    CellOf(u32),
    /// How much of a thread's time a partition has beside others.
    Weight,
    /// One cell for each virtual processor.
    Cells,
    /// Two cells.
    TwoCells,
    /// Width, height and depth of a framebuffer.
    Framebuffer,
    /// Bytes of a page that guests may have.
    PageSize,
    /// A reference to a node.
    Reference,
    /// One string, not empty, of at most this many bytes.
    ShortText(usize),
    /// Strings, none empty, of at most this many bytes together.
    ShortTexts(usize),
    /// A command line that the guest's kernel does not cut.
    Bootargs,
    /// One of these two strings.
    OneOf(&'static str, &'static str),
    /// Nothing: that the property is there is all that it says.
    NoValue,
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cell => f.write_str("one cell"),
            Self::CellOf(value) => write!(f, "<{value}>"),
            Self::Weight => write!(f, "one cell of {MIN_WEIGHT} to {MAX_WEIGHT}"),
            Self::Cells => f.write_str("numbers of threads, one cell for each"),
            Self::TwoCells => f.write_str("two cells"),
            Self::Framebuffer => f.write_str("three cells: width, height, depth"),
            Self::PageSize => f.write_str("one cell: 4096, 65536 or 16777216"),
            Self::Reference => f.write_str("one reference to a node of /images"),
            Self::ShortText(bytes) => write!(f, "one string of 1 to {bytes} bytes"),
            Self::ShortTexts(bytes) => {
                write!(f, "a list of strings, none empty, of at most {bytes} bytes")
            }
            Self::Bootargs => write!(f, "one string of at most {MAX_BOOTARGS_BYTES} bytes"),
            Self::NoValue => f.write_str("without a value"),
            Self::OneOf(one, other) => write!(f, "\"{one}\" or \"{other}\""),
        }
    }
}

/// Bytes as the largest unit that shows them exactly.
pub(super) struct Size(pub(super) u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MIB: u64 = 1 << 20;
        const KIB: u64 = 1 << 10;
        match self.0 {
            bytes if bytes % MIB == 0 => write!(f, "{} MiB", bytes / MIB),
            bytes if bytes % KIB == 0 => write!(f, "{} KiB", bytes / KIB),
            bytes => write!(f, "{bytes} bytes"),
        }
    }
}
