// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Runs of memory that a table of pieces or a pool owns, and access to what is in them.

// UNSAFETY: reads and writes owned real memory.
#![expect(unsafe_code)]

use super::copy;
use super::pieces::PIECE_BYTES;
use crate::page_ops::{CACHE_BLOCK, PageOps};
use core::marker::PhantomData;
use penstock_arch::addr::HostReal;

/// A part of the memory that a table owns, or a frame of a pool, in one run. Only they make one.
#[derive(Clone, Copy)]
pub(crate) struct Span<'a> {
    at: HostReal,
    len: usize,
    owner: PhantomData<&'a ()>,
}

/// A frame of 64 KiB that is out of its pool: whoever has this owns the frame.
#[derive(Debug)]
#[must_use = "a frame that is dropped is lost to its pool"]
pub(crate) struct PoolFrame(HostReal);

impl PoolFrame {
    /// The frame at `at`, a multiple of 64 KiB. Only a pool makes one, of memory that it owns, or a
    /// table, of a piece that it gives up.
    pub(crate) const fn new(at: HostReal) -> Self {
        Self(at)
    }

    /// Its address.
    pub(crate) const fn at(&self) -> HostReal {
        self.0
    }

    /// All of it.
    pub(crate) const fn span(&self) -> Span<'_> {
        // SAFETY: a frame has these bytes, and is owned.
        unsafe { Span::from_raw(self.0, PIECE_BYTES) }
    }
}

impl Span<'_> {
    /// The `len` bytes at `at`.
    ///
    /// # Safety
    /// They are ordinary memory that the owner has for as long as the span is used, and of which nobody
    /// makes plain references.
    #[inline]
    pub(super) const unsafe fn from_raw(at: HostReal, len: usize) -> Self {
        Self {
            at,
            len,
            owner: PhantomData,
        }
    }

    /// The first byte's address.
    #[inline]
    pub(crate) const fn at(self) -> HostReal {
        self.at
    }

    /// The number of bytes.
    #[inline]
    pub(crate) const fn len(self) -> u64 {
        self.len as u64
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

    /// What follows the first `bytes`.
    pub(crate) fn skip(self, bytes: u64) -> Option<Self> {
        let left = self.len.checked_sub(usize::try_from(bytes).ok()?)?;
        Some(Self {
            at: HostReal::new(self.at.get() + bytes),
            len: left,
            owner: self.owner,
        })
    }

    /// Exchanges as many whole doublewords as both spans have; both are aligned, and apart.
    pub(crate) fn swap_words(self, other: Span<'_>) {
        let mut buffers = ([0_u8; 256], [0_u8; 256]);
        let mut done = 0;
        while let (Some(mine), Some(theirs)) = (self.skip(done), other.skip(done))
            && mine.len > 0
            && theirs.len > 0
        {
            let part = mine.len.min(theirs.len).min(256);
            let (Some(a), Some(b)) = (buffers.0.get_mut(..part), buffers.1.get_mut(..part)) else {
                return;
            };
            mine.read(a);
            theirs.read(b);
            mine.write(b);
            theirs.write(a);
            done += part as u64;
        }
    }

    /// Zeroes the span, wherever it begins and ends.
    pub(crate) fn fill_zero(self, ops: &impl PageOps) {
        const ZEROES: [u8; 128] = [0; 128];
        const { assert!(ZEROES.len() as u64 == CACHE_BLOCK) };
        let (start, end) = (self.at.get(), self.at.get() + self.len as u64);
        let body = start.next_multiple_of(CACHE_BLOCK).min(end);
        let tail = (end - end % CACHE_BLOCK).max(body);
        let part = |from: u64, to: u64| Span {
            at: HostReal::new(from),
            // A part is no longer than the span.
            len: usize::try_from(to - from).unwrap_or(0),
            owner: self.owner,
        };
        for ends in [part(start, body), part(tail, end)] {
            ends.write(ZEROES.get(..ends.len).unwrap_or(&ZEROES));
        }
        if body < tail {
            part(body, tail).zero(ops);
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
