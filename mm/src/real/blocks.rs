// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A sequence of 16 MiB blocks of owned real memory, wherever each of them lies.

// UNSAFETY: reads and writes owned real memory.
#![expect(unsafe_code)]

use super::table::{RealArray, pointer};
use super::{Frames, copy};
use crate::frame::{FrameAllocator, FrameError};
use crate::page_ops::{CACHE_BLOCK, PageOps};
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use penstock_arch::addr::HostReal;

/// Bytes of a block: the largest page that a partition is offered.
pub const BLOCK: u64 = 16 << 20;

/// `count` blocks that look like one range of offsets.
pub struct BlockTable {
    bases: RealArray<AtomicU64>,
    count: u64,
}

/// A part of one block. Only a table makes one, so what it names is owned memory.
#[derive(Clone, Copy)]
pub(crate) struct Span<'a> {
    at: HostReal,
    len: usize,
    table: core::marker::PhantomData<&'a BlockTable>,
}

impl BlockTable {
    /// A table of `count` blocks with memory from `allocator`, not zeroed.
    ///
    /// # Errors
    /// There is not enough memory; what was taken is given back.
    pub fn new(
        count: u64,
        allocator: &mut FrameAllocator,
        ops: &impl PageOps,
    ) -> Result<Self, FrameError> {
        let wanted = count.saturating_mul(BLOCK);
        if wanted > allocator.left() {
            return Err(allocator.out_of_memory(wanted, BLOCK));
        }
        let bytes = count.saturating_mul(8).max(1).next_multiple_of(CACHE_BLOCK);
        let frames = allocator.alloc(bytes, CACHE_BLOCK)?;
        let bases = RealArray::new(frames, ops).map_err(|_| FrameError::BadAlignment {
            base: HostReal::new(0),
            align: CACHE_BLOCK,
        })?;
        let mut table = Self { bases, count: 0 };
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
        if let Some(cell) = usize::try_from(self.count)
            .ok()
            .and_then(|i| self.bases.get(i))
        {
            cell.store(block.base().get(), Relaxed);
            self.count += 1;
        }
    }

    /// Number of blocks.
    #[inline]
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// Where block `number` lies.
    #[inline]
    #[must_use]
    pub fn base(&self, number: u64) -> Option<HostReal> {
        if number >= self.count {
            return None;
        }
        let cell = self.bases.get(usize::try_from(number).ok()?)?;
        Some(HostReal::new(cell.load(Relaxed)))
    }

    /// The `len` bytes from `offset`, all in one block.
    #[inline]
    pub(crate) fn span(&self, offset: u64, len: u64) -> Option<Span<'_>> {
        let base = self.base(offset / BLOCK)?;
        let within = offset % BLOCK;
        if len > BLOCK - within {
            return None;
        }
        Some(Span {
            at: HostReal::new(base.get() + within),
            len: usize::try_from(len).ok()?,
            table: core::marker::PhantomData,
        })
    }

    /// Gives all memory back.
    ///
    /// # Errors
    /// The allocator cannot keep track of so many ranges; the rest is lost.
    pub fn release(self, allocator: &mut FrameAllocator) -> Result<(), FrameError> {
        let mut result = Ok(());
        for number in 0..self.count {
            if let Some(base) = self.base(number) {
                // SAFETY: `push` took in just these frames, and `self`, which alone accessed
                // them, goes away.
                let block = unsafe { Frames::from_raw(base, BLOCK) };
                result = result.and(allocator.free(block));
            }
        }
        result.and(allocator.free(self.bases.into_frames()))
    }
}

impl Span<'_> {
    /// The first byte's address.
    #[inline]
    pub(crate) const fn at(self) -> HostReal {
        self.at
    }

    /// Fills `to`, no longer than the span, from its start.
    pub(crate) fn read(self, to: &mut [u8]) {
        let len = to.len().min(self.len);
        if let Some(to) = to.get_mut(..len) {
            // SAFETY: owned by the table, which never makes plain references to it.
            unsafe { copy::copy_out(self.at, to) };
        }
    }

    /// Stores `from`, no longer than the span, to its start.
    pub(crate) fn write(self, from: &[u8]) {
        let len = from.len().min(self.len);
        if let Some(from) = from.get(..len) {
            // SAFETY: as in `read`.
            unsafe { copy::copy_in(self.at, from) };
        }
    }

    /// Copies as many whole doublewords as both spans have; both are aligned to doublewords, and
    /// apart or the same.
    pub(crate) fn copy_words_from(self, from: Span<'_>) {
        debug_assert!(self.at.is_aligned(8) && from.at.is_aligned(8));
        let words = self.len.min(from.len) / 8;
        if self.at.is_aligned(8) && from.at.is_aligned(8) {
            // SAFETY: both owned by tables, aligned, and that long.
            unsafe { copy::copy_words(self.at, from.at, words) };
        }
    }

    /// Zeroes the span, whose ends are multiples of a cache block.
    pub(crate) fn zero(self, ops: &impl PageOps) {
        debug_assert!(self.at.is_aligned(CACHE_BLOCK));
        debug_assert!((self.len as u64).is_multiple_of(CACHE_BLOCK));
        // SAFETY: owned by the table, which never makes plain references to it.
        unsafe { ops.zero(self.at, self.len as u64) };
    }

    /// Drops the instruction cache's copies of the span.
    pub(crate) fn icache_invalidate(self, ops: &impl PageOps) {
        // SAFETY: owned memory.
        unsafe { ops.icache_invalidate(self.at, self.len as u64) };
    }

    /// Makes stores to the span visible to instruction fetch.
    pub(crate) fn icache_synchronize(self, ops: &impl PageOps) {
        // SAFETY: owned memory.
        unsafe { ops.icache_synchronize(self.at, self.len as u64) };
    }

    /// The byte at the span's start.
    #[inline]
    pub(crate) fn load_u8(self) -> Option<u8> {
        // SAFETY: owned by the table, and long enough.
        (self.len >= 1).then(|| unsafe { copy::load_u8(self.at) })
    }

    /// The word at the span's start, in memory's byte order, if it is aligned.
    #[inline]
    pub(crate) fn load_u32(self) -> Option<u32> {
        // SAFETY: owned by the table, aligned, and long enough.
        (self.len >= 4 && self.at.is_aligned(4)).then(|| unsafe { copy::load_u32(self.at) })
    }

    /// The doubleword at the span's start, in memory's byte order, if it is aligned.
    #[inline]
    pub(crate) fn load_u64(self) -> Option<u64> {
        // SAFETY: owned by the table, aligned, and long enough.
        (self.len >= 8 && self.at.is_aligned(8)).then(|| unsafe { copy::load_u64(self.at) })
    }

    /// Stores a byte at the span's start.
    #[inline]
    pub(crate) fn store_u8(self, value: u8) -> Option<()> {
        // SAFETY: owned by the table, and long enough.
        (self.len >= 1).then(|| unsafe { copy::store_u8(self.at, value) })
    }

    /// Stores a word at the span's start, in memory's byte order, if that is aligned.
    #[inline]
    pub(crate) fn store_u32(self, value: u32) -> Option<()> {
        // SAFETY: owned by the table, aligned, and long enough.
        (self.len >= 4 && self.at.is_aligned(4)).then(|| unsafe { copy::store_u32(self.at, value) })
    }

    /// Stores a doubleword at the span's start, in memory's byte order, if that is aligned.
    #[inline]
    pub(crate) fn store_u64(self, value: u64) -> Option<()> {
        // SAFETY: owned by the table, aligned, and long enough.
        (self.len >= 8 && self.at.is_aligned(8)).then(|| unsafe { copy::store_u64(self.at, value) })
    }
}

impl core::fmt::Debug for BlockTable {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "BlockTable({} blocks)", self.count)
    }
}
