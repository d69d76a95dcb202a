// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A partition's memory: the one way from guest real addresses to bytes.
//!
//! Guest real memory is a table of 16 MiB blocks, each at any free place of host memory, so every
//! page size that a partition is offered lies inside one block. Blocks are reserved when the
//! partition is made and cannot run out later. They are zeroed in pieces of 64 KiB, all at the
//! start ([`Backing::Eager`]) or each before it is first touched ([`Backing::Lazy`]); a guest
//! never sees what was there before. Once everything is zeroed one flag says so, and the check
//! costs nothing more.
//!
//! Two bitmaps carry the state of a lazy piece: whoever sets its bit in `claimed` zeroes it and
//! then sets its bit in `zeroed`; others wait for the latter.
//!
//! Every access of the hypervisor to guest memory goes through [`GuestMemory`]. Addresses come
//! from guests, so a bad one is an ordinary error. LoPAR, Page Frame Table Access, "Logical
//! addressing".

mod access;
mod error;

pub use error::{MemoryError, MemorySetupError};

use crate::frame::{FrameAllocator, FrameError};
use crate::page_ops::{CACHE_BLOCK, PageOps};
use crate::real::{BLOCK, BlockTable, RealArray};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use penstock_arch::addr::{GuestReal, HostReal};

/// The unit in which memory is zeroed at first touch, in bytes.
pub const PIECE: u64 = 64 << 10;

const PIECES_PER_WORD: u64 = 64;

/// When memory is zeroed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backing {
    /// All of it when the partition is made.
    Eager,
    /// Each piece when it is first touched.
    Lazy,
}

/// The memory of one partition, from guest real address 0.
#[derive(Debug)]
pub struct GuestMemory<M: PageOps> {
    machine: M,
    blocks: BlockTable,
    all_zeroed: AtomicBool,
    claimed: RealArray<AtomicU64>,
    zeroed: RealArray<AtomicU64>,
    pieces_left: AtomicU64,
    /// Where `populate_some` goes on.
    next_piece: AtomicU64,
}

impl<M: PageOps> GuestMemory<M> {
    /// `size` bytes of memory, a multiple of 16 MiB.
    ///
    /// # Errors
    /// The size is bad, or `allocator` has too little; then nothing is taken.
    pub fn new(
        machine: M,
        size: u64,
        backing: Backing,
        allocator: &mut FrameAllocator,
    ) -> Result<Self, MemorySetupError> {
        if size == 0 || !size.is_multiple_of(BLOCK) {
            return Err(MemorySetupError::BadSize { size });
        }
        let blocks = BlockTable::new(size / BLOCK, allocator, &machine)?;
        let pieces = size / PIECE;
        let bytes = (pieces / PIECES_PER_WORD * 8).next_multiple_of(CACHE_BLOCK);
        let claimed = match bitmap(bytes, allocator, &machine) {
            Ok(claimed) => claimed,
            Err(error) => {
                blocks.release(allocator)?;
                return Err(error.into());
            }
        };
        let zeroed = match bitmap(bytes, allocator, &machine) {
            Ok(zeroed) => zeroed,
            Err(error) => {
                blocks.release(allocator)?;
                allocator.free(claimed.into_frames())?;
                return Err(error.into());
            }
        };
        let memory = Self {
            machine,
            blocks,
            all_zeroed: AtomicBool::new(false),
            claimed,
            zeroed,
            pieces_left: AtomicU64::new(pieces),
            next_piece: AtomicU64::new(0),
        };
        match backing {
            Backing::Eager => {
                memory.populate_some(u64::MAX);
            }
            Backing::Lazy => {}
        }
        Ok(memory)
    }

    /// Bytes of memory.
    #[inline]
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.blocks.count() * BLOCK
    }

    /// The machine that zeroes this memory.
    #[inline]
    #[must_use]
    pub const fn machine(&self) -> &M {
        &self.machine
    }

    /// Whether every piece has been zeroed.
    #[inline]
    #[must_use]
    pub fn is_fully_backed(&self) -> bool {
        self.all_zeroed.load(Ordering::Acquire)
    }

    /// Bytes that have been touched, and so zeroed once.
    #[must_use]
    pub fn backed_bytes(&self) -> u64 {
        if self.is_fully_backed() {
            return self.size();
        }
        let zeroed = self
            .pieces(GuestReal::new(0), self.size())
            .filter(|piece| self.is_piece_zeroed(*piece))
            .count();
        zeroed as u64 * PIECE
    }

    /// Where the byte at `at` lies, populated or not: for table entries that stay hidden until
    /// [`Self::populate`].
    #[inline]
    #[must_use]
    pub(crate) fn locate(&self, at: GuestReal) -> Option<HostReal> {
        let base = self.blocks.base(at.get() / BLOCK)?;
        Some(HostReal::new(base.get() | (at.get() % BLOCK)))
    }

    /// Whether every piece of the range has been zeroed. The range is the partition's memory.
    #[inline]
    #[must_use]
    pub(crate) fn is_backed(&self, at: GuestReal, len: u64) -> bool {
        if self.is_fully_backed() {
            return true;
        }
        self.pieces(at, len)
            .all(|piece| self.is_piece_zeroed(piece))
    }

    /// Zeroes every piece of the range that was not touched before.
    ///
    /// # Errors
    /// [`MemoryError::NotMemory`].
    #[inline]
    pub fn populate(&self, at: GuestReal, len: u64) -> Result<(), MemoryError> {
        let inside = at
            .checked_add(len)
            .is_some_and(|end| end.get() <= self.size());
        if !inside {
            return Err(MemoryError::NotMemory { at, len });
        }
        if !self.is_fully_backed() {
            // Pages of up to 64 KiB lie in one piece, most often one that was touched before.
            let piece = at.get() / PIECE;
            let in_one = at.get() % PIECE + len <= PIECE;
            if !in_one || !self.is_piece_zeroed(piece) {
                self.populate_pieces(at, len);
            }
        }
        Ok(())
    }

    #[cold]
    fn populate_pieces(&self, at: GuestReal, len: u64) {
        for piece in self.pieces(at, len) {
            self.zero_piece(piece);
        }
    }

    /// The numbers of the pieces that a range touches.
    fn pieces(&self, at: GuestReal, len: u64) -> core::ops::Range<u64> {
        let end = at.get().saturating_add(len).min(self.size());
        if at.get() >= end {
            0..0
        } else {
            at.get() / PIECE..end.div_ceil(PIECE)
        }
    }

    fn is_piece_zeroed(&self, piece: u64) -> bool {
        word(&self.zeroed, piece).is_some_and(|cell| cell.load(Ordering::Acquire) & bit(piece) != 0)
    }

    /// Zeroes a piece once; returns only when it is zero, whoever did it.
    fn zero_piece(&self, piece: u64) {
        if self.is_piece_zeroed(piece) {
            return;
        }
        let Some(claimed) = word(&self.claimed, piece) else {
            return;
        };
        if claimed.fetch_or(bit(piece), Ordering::Acquire) & bit(piece) != 0 {
            // Another processor of the hypervisor is at it, and nothing can stop it.
            while !self.is_piece_zeroed(piece) {
                core::hint::spin_loop();
            }
            return;
        }
        if let Some(span) = self.blocks.span(piece * PIECE, PIECE) {
            span.zero(&self.machine);
        }
        if let Some(zeroed) = word(&self.zeroed, piece) {
            zeroed.fetch_or(bit(piece), Ordering::Release);
        }
        if self.pieces_left.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.all_zeroed.store(true, Ordering::Release);
        }
    }

    /// Zeroes up to `pieces` pieces of 64 KiB that nobody has touched yet, for an idle processor;
    /// returns how many are left.
    pub fn populate_some(&self, pieces: u64) -> u64 {
        let all = self.size() / PIECE;
        for _ in 0..pieces {
            if self.is_fully_backed() {
                break;
            }
            let piece = self.next_piece.fetch_add(1, Ordering::Relaxed);
            if piece >= all {
                break;
            }
            self.zero_piece(piece);
        }
        self.pieces_left.load(Ordering::Acquire)
    }

    /// Gives the memory back. The caller has seen to it that no translation to it is left.
    ///
    /// # Errors
    /// The allocator cannot keep track of so many ranges; the rest is lost.
    pub(crate) fn release(self, allocator: &mut FrameAllocator) -> Result<(), FrameError> {
        let maps = allocator.free(self.claimed.into_frames());
        let maps = maps.and(allocator.free(self.zeroed.into_frames()));
        self.blocks.release(allocator).and(maps)
    }
}

fn bitmap(
    bytes: u64,
    allocator: &mut FrameAllocator,
    ops: &impl PageOps,
) -> Result<RealArray<AtomicU64>, FrameError> {
    let frames = allocator.alloc(bytes, CACHE_BLOCK)?;
    RealArray::new(frames, ops).map_err(|frames| FrameError::BadAlignment {
        base: frames.base(),
        align: CACHE_BLOCK,
    })
}

fn word(map: &RealArray<AtomicU64>, piece: u64) -> Option<&AtomicU64> {
    map.get(usize::try_from(piece / PIECES_PER_WORD).ok()?)
}

const fn bit(piece: u64) -> u64 {
    1 << (piece % PIECES_PER_WORD)
}

#[cfg(test)]
mod tests;
