// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A partition's framebuffer, and pictures of it over the console.
//!
//! A framebuffer is a memory slot of its own kind, outside the partition's memory: the guest finds
//! it in its device tree and draws, and the hypervisor reads it. Which rows changed comes from the
//! C bits of the page table entries that map it, by way of [`Window`], so that looking costs the
//! guest no fault and takes no access away.
//!
//! [`Screen`] writes a picture as lines of text that any console carries, whole at first and then
//! only the rows that changed. `kernel/scripts/screenshot.py` makes PNG files of them.
//!
//! # The lines, version 1
//!
//! Each line begins with `@`, so that it is found among everything else that a console shows, and
//! ends with the CRC-32 (ISO 3309, as in zlib) of all bytes before the last space, in eight
//! hexadecimal digits. All other numbers are decimal.
//!
//! ```text
//! @screenshot 1 debian 2 64x64x32 256 little changed 16 374a8a95
//! @s 48+16 0 /QEAAAAA 56c8fea0
//! @screenshot-end debian 2 1 e3d17ad5
//! ```
//!
//! * `@screenshot`: version of the format, name of the partition, number of the picture, width,
//!   height and depth (bits of a pixel), stride (bytes of a row in memory, which the lines leave
//!   out beyond the width), byte order of a pixel (`little` or `big`), `full` or `changed`, and how
//!   many rows follow. Pictures are numbered from 1; one of kind `changed` builds on the one
//!   before it and has no meaning without it.
//! * `@s`: the first row and how many rows look the same, the first pixel in them, and pixels in
//!   base64 (RFC 4648, with padding), encoded as [`runs`] says. Rows ascend; within a row, pixels
//!   do.
//! * `@screenshot-end`: the name and the number again, and how many `@s` lines there were.
//!
//! A pixel of 32 bits is x:8 red:8 green:8 blue:8 from its most significant bit, one of 16 bits
//! red:5 green:6 blue:5, both as Linux's offb has them. One of 8 bits is an index: there is no
//! palette in the device, so colours are the reader's choice.
//!
//! No line is longer than [`MAX_LINE_BYTES`], and no picture than [`worst_case_bytes`]: noise costs
//! two to three times its bytes of memory, a text console a few per cent of them.

pub mod crc;
pub mod geometry;
pub mod line;
pub mod rows;
pub mod runs;
pub mod shot;

#[cfg(test)]
mod tests;

use penstock_arch::addr::GuestReal;

pub use geometry::{Geometry, GeometryError};
pub use line::{MAX_LINE_BYTES, worst_case_bytes};
pub use shot::{Busy, Kind, Progress, Screen, ScreenshotError, Totals, feed, screenshot};

/// Where every partition has its framebuffer, in guest real space.
///
/// Above all memory that a partition can have, and above the interrupt controller's windows at
/// 0x6010000000000 and 0x6030203180000, which have room to grow. Below 2^51, the real address size
/// of POWER9 and POWER10, and so below 2^53, where the page table entries of a Linux guest end
/// (`_PAGE_PA_MAX`), and below 2^60, where those of PAPR do.
pub const WINDOW: GuestReal = GuestReal::new(0x7_0000_0000_0000);

/// Byte order of a framebuffer's pixels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ByteOrder {
    /// The least significant byte first.
    #[default]
    Little,
    /// The most significant byte first.
    Big,
}

/// A framebuffer's memory, as the hypervisor looks at it.
pub trait Window {
    /// Reads bytes from `offset` on. What lies behind the end reads as 0.
    fn read(&self, offset: u64, to: &mut [u8]);

    /// Hands out what may have changed since the last call, as ranges of bytes (the first one and
    /// how many), and forgets it: what changes from here on is told the next time. Ranges come in
    /// any order.
    fn take_changed(&mut self, each: &mut dyn FnMut(u64, u64));
}
