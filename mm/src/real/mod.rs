// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Owned real memory, and typed views on it: all of the crate's unsafe code but the machine's own
//! page operations.
//!
//! [`Frames`] is the proof of owning a range of real memory. It is made once, unsafely, from what
//! the boot code found free; from then on it can only be split and joined, so two views never
//! share memory. On the target, which runs in hypervisor real mode, the address of a view is the
//! real address; on the host it is the address of a test's allocation.

// UNSAFETY: turns real addresses into memory.
#![expect(unsafe_code)]

mod copy;
mod pieces;
mod span;
mod table;

pub use pieces::{BLOCK, PIECE, PIECES_PER_BLOCK, Piece, PieceTable};
pub(crate) use span::{PoolFrame, Span};
pub use table::{BeCell, Cell, RealArray, RealPair, ReverseCells};

use penstock_arch::addr::HostReal;

/// A range of real memory that nothing else uses. Dropping it loses the memory, which is harmless.
#[derive(PartialEq, Eq)]
#[must_use = "dropping frames loses the memory"]
pub struct Frames {
    base: HostReal,
    len: u64,
}

impl Frames {
    /// Takes possession of `len` bytes of memory from `base`.
    ///
    /// # Safety
    /// The range is ordinary memory, does not wrap, does not contain address 0, and is accessed by
    /// nothing else from now on, but through what is made of the result.
    pub const unsafe fn from_raw(base: HostReal, len: u64) -> Self {
        Self { base, len }
    }

    /// The first byte.
    #[inline]
    #[must_use]
    pub const fn base(&self) -> HostReal {
        self.base
    }

    /// The number of bytes.
    #[inline]
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// Whether there are no bytes at all.
    #[inline]
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The first byte after the range.
    #[inline]
    #[must_use]
    pub const fn end(&self) -> HostReal {
        HostReal::new(self.base.get() + self.len)
    }

    /// The first `bytes`, at most all, and the rest.
    pub const fn split(self, bytes: u64) -> (Self, Self) {
        let bytes = if bytes < self.len { bytes } else { self.len };
        let head = Self {
            base: self.base,
            len: bytes,
        };
        let tail = Self {
            base: HostReal::new(self.base.get() + bytes),
            len: self.len - bytes,
        };
        (head, tail)
    }

    /// This range with `next`, which begins where this one ends.
    ///
    /// # Errors
    /// Both, where they do not adjoin.
    pub fn join(self, next: Self) -> Result<Self, (Self, Self)> {
        if self.end() == next.base {
            Ok(Self {
                base: self.base,
                len: self.len + next.len,
            })
        } else {
            Err((self, next))
        }
    }
}

impl core::fmt::Debug for Frames {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Frames({} + {:#x})", self.base, self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_split_and_join() {
        // SAFETY: never accessed.
        let frames = unsafe { Frames::from_raw(HostReal::new(0x1000), 0x3000) };
        let (a, b) = frames.split(0x1000);
        assert_eq!((a.base(), a.len()), (HostReal::new(0x1000), 0x1000));
        assert_eq!((b.base(), b.len()), (HostReal::new(0x2000), 0x2000));
        let (b, a) = b.join(a).unwrap_err();
        let whole = a.join(b).unwrap();
        assert_eq!(
            (whole.base(), whole.end()),
            (HostReal::new(0x1000), HostReal::new(0x4000))
        );
        let (all, none) = whole.split(u64::MAX);
        assert_eq!(all.len(), 0x3000);
        assert!(none.is_empty());
    }
}
