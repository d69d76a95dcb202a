// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A memory slot's backing: one word for each 64 KiB piece, which says where the piece lies and
//! what may be done with it.
//!
//! The word is the one place that says so. Whoever changes a translation reads it while it holds
//! the entry's lock and after the entry is in its ring; whoever changes the word then walks the
//! rings. So one of the two sees the other, and no translation outlives its backing.

// UNSAFETY: reads and writes owned real memory.
#![expect(unsafe_code)]

use super::table::{RealArray, pointer};
use super::{Frames, Span};
use crate::frame::{FrameAllocator, FrameError};
use crate::page_ops::{CACHE_BLOCK, PageOps};
use core::sync::atomic::{AtomicU64, Ordering};
use penstock_arch::addr::HostReal;

/// Bytes of a block: the largest page that a partition is offered.
pub const BLOCK: u64 = 16 << 20;

/// Bytes of a piece: the unit in which memory is zeroed, shared and protected.
pub const PIECE: u64 = 64 << 10;

/// The same, to count bytes of memory with.
pub(super) const PIECE_BYTES: usize = 64 << 10;
const _: () = assert!(PIECE_BYTES as u64 == PIECE);

/// Pieces of a block.
pub const PIECES_PER_BLOCK: u64 = BLOCK / PIECE;

/// What is known of one piece: a host real address, and bits below it. A piece of an image that was
/// not touched yet has the image's number and its own there in the address's place.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub struct Piece(u64);

impl Piece {
    /// The content is the guest's to see: zeroed, loaded or written once.
    pub const READY: u64 = 1;
    /// Somebody prepares the content.
    pub const BUSY: u64 = 2;
    /// Stores of the guest come to the hypervisor first.
    pub const GUARDED: u64 = 4;
    /// The frame is not the partition's own: a store makes a copy.
    pub const SHARED: u64 = 8;
    /// The piece is at its place in a block of 16 MiB whose pieces all are.
    pub const LARGE: u64 = 0x10;

    /// There is no frame yet: the content is an image's. No real address has this bit.
    pub const IMAGE: u64 = 1 << 63;

    const ADDRESS: u64 = !(PIECE - 1);
    const IMAGE_SHIFT: u32 = 48;

    /// The word with this value.
    #[inline]
    #[must_use]
    pub const fn new(value: u64) -> Self {
        Self(value)
    }

    /// A piece at `host`, with these bits.
    #[inline]
    #[must_use]
    pub const fn at(host: HostReal, bits: u64) -> Self {
        Self((host.get() & Self::ADDRESS) | (bits & !Self::ADDRESS))
    }

    /// Piece `number` of an image, which was not touched yet.
    #[must_use]
    pub const fn of_image(image: u8, number: u32) -> Self {
        let place = (image as u64 & 0x7f) << Self::IMAGE_SHIFT;
        Self(Self::IMAGE | place | (number as u64 * PIECE))
    }

    /// The image whose content it has, and the number of the piece in there, where it was not touched
    /// yet.
    #[must_use]
    pub const fn image(self) -> Option<(u8, u32)> {
        if !self.has(Self::IMAGE) {
            return None;
        }
        #[expect(clippy::cast_possible_truncation, reason = "seven bits, and 32")]
        let place = (
            (self.0 >> Self::IMAGE_SHIFT) as u8 & 0x7f,
            (self.0 / PIECE) as u32,
        );
        Some(place)
    }

    /// The value.
    #[inline]
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Where the piece lies; says nothing where it has no frame.
    #[inline]
    #[must_use]
    pub const fn host(self) -> HostReal {
        HostReal::new(self.0 & Self::ADDRESS)
    }

    /// Whether the piece has a frame.
    #[inline]
    #[must_use]
    pub const fn has_frame(self) -> bool {
        // Neither 0 nor an image's.
        (self.0 & Self::ADDRESS).cast_signed() > 0
    }

    /// Whether the content is an image's, and not the partition's own.
    #[inline]
    #[must_use]
    pub const fn is_of_image(self) -> bool {
        self.0 & (Self::SHARED | Self::IMAGE) != 0
    }

    /// Whether all of `bits` are set.
    #[inline]
    #[must_use]
    pub const fn has(self, bits: u64) -> bool {
        self.0 & bits == bits
    }

    /// Whether the hardware may be told of the piece.
    #[inline]
    #[must_use]
    pub const fn is_ready(self) -> bool {
        self.has(Self::READY)
    }

    /// Whether the hardware may be told of it for loads and fetches only.
    #[inline]
    #[must_use]
    pub const fn is_read_only(self) -> bool {
        self.0 & (Self::GUARDED | Self::SHARED | Self::IMAGE) != 0
    }

    /// The change of the word by which a piece that somebody prepares becomes ready, in a frame at
    /// `host` where it had none, and with these bits. Others may change further bits meanwhile.
    #[must_use]
    pub(crate) const fn made_ready(self, host: Option<HostReal>, bits: u64) -> u64 {
        let place = match host {
            Some(host) => (self.0 ^ host.get()) & Self::ADDRESS,
            None => 0,
        };
        place | Self::BUSY | Self::READY | bits
    }

    /// Whether the piece is what a partition's own memory is: ready, and free to be written.
    #[inline]
    #[must_use]
    pub const fn is_plain(self) -> bool {
        self.0 & (Self::READY | Self::GUARDED | Self::SHARED) == Self::READY
    }
}

impl core::fmt::Debug for Piece {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Piece({:#x})", self.0)
    }
}

/// Whose the memory behind a table is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owned {
    /// The table's, in blocks: the pieces of a block are those of its frames, in any order.
    Blocks,
    /// The table's, in one run.
    Run {
        /// First byte.
        base: HostReal,
        /// Bytes.
        len: u64,
    },
    /// Frames of a pool that come and go, and are ordinary memory.
    Pool,
    /// No memory at all: pages of devices.
    Device,
}

/// The pieces of a slot.
pub struct PieceTable {
    words: RealArray<AtomicU64>,
    count: u64,
    owned: Owned,
}

impl PieceTable {
    fn words(
        count: u64,
        allocator: &mut FrameAllocator,
        ops: &impl PageOps,
    ) -> Result<RealArray<AtomicU64>, FrameError> {
        let bytes = count.saturating_mul(8).max(1).next_multiple_of(CACHE_BLOCK);
        let frames = allocator.alloc(bytes, CACHE_BLOCK)?;
        RealArray::new(frames, ops).map_err(|frames| FrameError::BadAlignment {
            base: frames.base(),
            align: CACHE_BLOCK,
        })
    }

    /// `count` blocks of 16 MiB from `allocator`, each at any place, none ready.
    ///
    /// # Errors
    /// There is not enough memory; what was taken is given back.
    pub fn blocks(
        count: u64,
        allocator: &mut FrameAllocator,
        ops: &impl PageOps,
    ) -> Result<Self, FrameError> {
        let wanted = count.saturating_mul(BLOCK);
        if wanted > allocator.left() {
            return Err(allocator.out_of_memory(wanted, BLOCK));
        }
        let words = Self::words(count * PIECES_PER_BLOCK, allocator, ops)?;
        let mut table = Self {
            words,
            count: 0,
            owned: Owned::Blocks,
        };
        for _ in 0..count {
            match allocator.alloc(BLOCK, BLOCK) {
                Ok(block) if pointer::<u8>(block.base()).is_some() => table.push(block),
                Ok(_) => {}
                Err(error) => {
                    table.release(allocator)?;
                    return Err(error);
                }
            }
        }
        Ok(table)
    }

    /// Takes a block in; its frames come back in `release`.
    fn push(&mut self, block: Frames) {
        let first = block.base().get();
        self.count += PIECES_PER_BLOCK;
        for number in 0..PIECES_PER_BLOCK {
            let host = HostReal::new(first + number * PIECE);
            let at = self.count - PIECES_PER_BLOCK + number;
            self.store(at, Piece::at(host, Piece::LARGE));
        }
    }

    /// `count` pieces in one run from `allocator`, zeroed and ready.
    ///
    /// # Errors
    /// There is not enough memory; what was taken is given back.
    pub fn run(
        count: u64,
        allocator: &mut FrameAllocator,
        ops: &impl PageOps,
    ) -> Result<Self, FrameError> {
        let words = Self::words(count, allocator, ops)?;
        let len = count.saturating_mul(PIECE);
        let frames = match allocator.alloc(len, PIECE) {
            Ok(frames) => frames,
            Err(error) => {
                allocator.free(words.into_frames())?;
                return Err(error);
            }
        };
        let base = frames.base();
        let table = Self {
            words,
            count,
            owned: Owned::Run { base, len },
        };
        for number in 0..count {
            let host = HostReal::new(base.get() + number * PIECE);
            table.store(number, Piece::at(host, Piece::READY));
        }
        if let Some(span) = table.span(0, len) {
            span.zero(ops);
        }
        Ok(table)
    }

    /// `count` pieces without frames, which come from a pool one by one.
    ///
    /// # Errors
    /// There is not enough memory for the words.
    pub fn pooled(
        count: u64,
        allocator: &mut FrameAllocator,
        ops: &impl PageOps,
    ) -> Result<Self, FrameError> {
        Ok(Self {
            words: Self::words(count, allocator, ops)?,
            count,
            owned: Owned::Pool,
        })
    }

    /// `count` pieces that are pages of devices, none there yet. The hypervisor never reads or
    /// writes them through this table.
    ///
    /// # Errors
    /// There is not enough memory for the words.
    pub fn devices(
        count: u64,
        allocator: &mut FrameAllocator,
        ops: &impl PageOps,
    ) -> Result<Self, FrameError> {
        Ok(Self {
            words: Self::words(count, allocator, ops)?,
            count,
            owned: Owned::Device,
        })
    }

    /// Number of pieces.
    #[inline]
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// Whether the pieces are pages of devices.
    #[inline]
    #[must_use]
    pub const fn is_device(&self) -> bool {
        matches!(self.owned, Owned::Device)
    }

    /// Whether the pieces' frames come from a pool and go back to it.
    #[inline]
    #[must_use]
    pub const fn is_pooled(&self) -> bool {
        matches!(self.owned, Owned::Pool)
    }

    /// The word of piece `number`, to be changed by its owner's rules.
    #[inline]
    #[must_use]
    pub(crate) fn word(&self, number: u64) -> Option<&AtomicU64> {
        if number >= self.count {
            return None;
        }
        self.words.cell(usize::try_from(number).ok()?)
    }

    /// Piece `number`; without frame and bits where there is no such piece.
    #[inline]
    #[must_use]
    pub fn load(&self, number: u64) -> Piece {
        match self.word(number) {
            Some(word) => Piece(word.load(Ordering::Acquire)),
            None => Piece(0),
        }
    }

    /// The same for who holds the lock of an entry that maps the piece, and makes the hardware see
    /// it by a ptesync, which orders all that went before the word.
    #[inline]
    pub(crate) fn load_locked(&self, number: u64) -> Piece {
        match self
            .words
            .cell(usize::try_from(number).unwrap_or(usize::MAX))
        {
            Some(word) => Piece(word.load(Ordering::Relaxed)),
            None => Piece(0),
        }
    }

    fn store(&self, number: u64, piece: Piece) {
        if let Some(word) = self.word(number) {
            word.store(piece.0, Ordering::Release);
        }
    }

    /// How many bytes from `offset` on lie in one run of host memory.
    #[inline]
    fn run_at(&self, piece: Piece, offset: u64) -> u64 {
        match self.owned {
            Owned::Run { len, .. } => len.saturating_sub(offset),
            Owned::Blocks if piece.has(Piece::LARGE) => BLOCK - offset % BLOCK,
            _ => PIECE - offset % PIECE,
        }
    }

    /// As much of the `len` bytes from `offset` as lies in one run, at least a byte; `None` where
    /// there is no memory.
    #[inline]
    pub(crate) fn extent(&self, offset: u64, len: u64) -> Option<Span<'_>> {
        let piece = self.load(offset / PIECE);
        if !piece.has_frame() || self.is_device() {
            return None;
        }
        let at = HostReal::new(piece.host().get() | (offset % PIECE));
        let len = usize::try_from(len.min(self.run_at(piece, offset))).ok()?;
        // SAFETY: the table's own memory, or a frame that it has of a pool, as far as it is one run.
        Some(unsafe { Span::from_raw(at, len) })
    }

    /// The `len` bytes from `offset`, all in one run.
    #[inline]
    pub(crate) fn span(&self, offset: u64, len: u64) -> Option<Span<'_>> {
        self.extent(offset, len).filter(|span| span.len() == len)
    }

    /// Gives all memory back.
    ///
    /// # Errors
    /// The allocator cannot keep track of so many ranges; the rest is lost.
    pub fn release(self, allocator: &mut FrameAllocator) -> Result<(), FrameError> {
        let mut result = Ok(());
        match self.owned {
            Owned::Blocks => {
                for block in 0..self.count / PIECES_PER_BLOCK {
                    // Pieces change places inside their block only, and blocks are aligned.
                    let base = self.load(block * PIECES_PER_BLOCK).host().align_down(BLOCK);
                    // SAFETY: `push` took in just these frames, and `self`, which alone accessed
                    // them, goes away.
                    let frames = unsafe { Frames::from_raw(base, BLOCK) };
                    result = result.and(allocator.free(frames));
                }
            }
            Owned::Run { base, len } => {
                // SAFETY: `run` took in just these frames, and `self` goes away.
                let frames = unsafe { Frames::from_raw(base, len) };
                result = allocator.free(frames);
            }
            // Their frames went back to the pool before, and devices are no memory.
            Owned::Pool | Owned::Device => {}
        }
        result.and(allocator.free(self.words.into_frames()))
    }
}

impl core::fmt::Debug for PieceTable {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "PieceTable({} pieces, {:?})", self.count, self.owned)
    }
}
