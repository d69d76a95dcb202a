// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Width, height and depth of a framebuffer, and what follows from them.

use core::fmt;

/// Smallest width and height, in pixels: a few characters of a text console. Below it, consoles of
/// guests divide by zero columns.
pub const MIN_SIDE: u32 = 64;

/// Largest width and height, in pixels.
pub const MAX_SIDE: u32 = 4096;

/// Bits of a pixel that a framebuffer may have.
pub const DEPTHS: [u32; 3] = [8, 16, 32];

/// Rows begin at multiples of this many bytes: guests draw by doublewords.
const STRIDE_ALIGN_BYTES: u32 = 8;

/// A framebuffer's memory comes in multiples of this many bytes: the largest page in which guests
/// map devices.
pub const SLOT_ALIGN_BYTES: u64 = 0x1_0000;

/// Most bytes of a row.
pub const MAX_STRIDE: usize = (MAX_SIDE * 4) as usize;

/// Width, height and depth within the limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    width: u32,
    height: u32,
    depth: u32,
}

/// Why there is no framebuffer of this kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GeometryError {
    /// Too narrow or too wide.
    Width(u32),
    /// Too low or too high.
    Height(u32),
    /// Pixels of another size than [`DEPTHS`].
    Depth(u32),
}

impl fmt::Display for GeometryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Width(width) => write!(f, "width {width} is not in {MIN_SIDE} to {MAX_SIDE}"),
            Self::Height(height) => write!(f, "height {height} is not in {MIN_SIDE} to {MAX_SIDE}"),
            Self::Depth(depth) => write!(f, "depth {depth} is not 8, 16 or 32"),
        }
    }
}

impl core::error::Error for GeometryError {}

impl Geometry {
    /// A framebuffer of so many pixels in a row, rows, and bits of a pixel.
    ///
    /// # Errors
    /// The first of the three that is outside its limits.
    pub const fn new(width: u32, height: u32, depth: u32) -> Result<Self, GeometryError> {
        if width < MIN_SIDE || width > MAX_SIDE {
            return Err(GeometryError::Width(width));
        }
        if height < MIN_SIDE || height > MAX_SIDE {
            return Err(GeometryError::Height(height));
        }
        match depth {
            8 | 16 | 32 => Ok(Self {
                width,
                height,
                depth,
            }),
            _ => Err(GeometryError::Depth(depth)),
        }
    }

    /// Pixels of a row.
    #[must_use]
    pub const fn width(self) -> u32 {
        self.width
    }

    /// Rows.
    #[must_use]
    pub const fn height(self) -> u32 {
        self.height
    }

    /// Bits of a pixel.
    #[must_use]
    pub const fn depth(self) -> u32 {
        self.depth
    }

    /// Bytes of a pixel: 1, 2 or 4.
    #[must_use]
    pub const fn pixel_bytes(self) -> usize {
        (self.depth / 8) as usize
    }

    /// Bytes of the pixels of a row, at most [`MAX_STRIDE`].
    #[must_use]
    pub const fn row_bytes(self) -> usize {
        self.width as usize * self.pixel_bytes()
    }

    /// Bytes from the start of a row to that of the next.
    #[must_use]
    pub const fn stride(self) -> u32 {
        (self.width * (self.depth / 8)).next_multiple_of(STRIDE_ALIGN_BYTES)
    }

    /// Bytes of all rows.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.stride() as u64 * self.height as u64
    }

    /// Bytes of the memory slot: all rows, and up to 64 KiB that are no row's.
    #[must_use]
    pub const fn slot_bytes(self) -> u64 {
        self.bytes().next_multiple_of(SLOT_ALIGN_BYTES)
    }
}

impl fmt::Display for Geometry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}x{}", self.width, self.height, self.depth)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn limits_are_those_of_the_documentation() {
        assert!(Geometry::new(64, 64, 8).is_ok());
        assert!(Geometry::new(4096, 4096, 32).is_ok());
        for (width, height, depth, text) in [
            (63, 64, 8, "width 63 is not in 64 to 4096"),
            (4097, 64, 8, "width 4097 is not in 64 to 4096"),
            (64, 0, 8, "height 0 is not in 64 to 4096"),
            (64, u32::MAX, 8, "height 4294967295 is not in 64 to 4096"),
            (64, 64, 24, "depth 24 is not 8, 16 or 32"),
            (64, 64, 15, "depth 15 is not 8, 16 or 32"),
        ] {
            let error = Geometry::new(width, height, depth).unwrap_err();
            assert_eq!(error.to_string(), text);
        }
    }

    #[test]
    fn sizes_follow() {
        let vga = Geometry::new(640, 480, 32).unwrap();
        assert_eq!((vga.stride(), vga.row_bytes()), (2560, 2560));
        assert_eq!((vga.bytes(), vga.slot_bytes()), (0x12_c000, 0x13_0000));
        assert_eq!(vga.to_string(), "640x480x32");
        let odd = Geometry::new(801, 601, 16).unwrap();
        assert_eq!((odd.stride(), odd.row_bytes()), (1608, 1602));
        let bytes = Geometry::new(1366, 768, 8).unwrap();
        assert_eq!((bytes.stride(), bytes.row_bytes()), (1368, 1366));
        let largest = Geometry::new(MAX_SIDE, MAX_SIDE, 32).unwrap();
        assert_eq!(largest.row_bytes(), MAX_STRIDE);
        assert_eq!(largest.slot_bytes(), 64 << 20);
    }
}
