// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Reading and writing guest memory, whatever blocks it lies in.
//!
//! The whole range is checked and populated before the first byte moves.

use super::{GuestMemory, MemoryError};
use crate::page_ops::{CACHE_BLOCK, PageOps};
use crate::real::{BLOCK, Span};
use penstock_arch::addr::{GuestReal, HostReal};

impl<M: PageOps> GuestMemory<M> {
    /// The host address of `len` bytes inside one block, populated. Good while the partition
    /// lives; the caller names the range to nobody but hardware.
    ///
    /// # Errors
    /// [`MemoryError::NotMemory`], [`MemoryError::CrossesBlock`].
    pub fn translate(&self, at: GuestReal, len: u64) -> Result<HostReal, MemoryError> {
        self.populate(at, len)?;
        match self.blocks.span(at.get(), len) {
            Some(span) => Ok(span.at()),
            None => Err(MemoryError::CrossesBlock { at, len }),
        }
    }

    /// Calls `each` with the offset into the range and the length of each part of the range that
    /// lies in one block.
    fn for_each_block(at: GuestReal, len: u64, mut each: impl FnMut(u64, u64, u64)) {
        let mut done = 0;
        while done < len {
            let offset = at.get() + done;
            let part = (BLOCK - offset % BLOCK).min(len - done);
            each(offset, done, part);
            done += part;
        }
    }

    /// Fills `to` from guest memory.
    ///
    /// # Errors
    /// [`MemoryError::NotMemory`], with nothing read.
    pub fn read(&self, at: GuestReal, to: &mut [u8]) -> Result<(), MemoryError> {
        self.populate(at, to.len() as u64)?;
        Self::for_each_block(at, to.len() as u64, |offset, done, part| {
            let part_of = range(done, part).and_then(|range| to.get_mut(range));
            if let (Some(span), Some(to)) = (self.blocks.span(offset, part), part_of) {
                span.read(to);
            }
        });
        Ok(())
    }

    /// Stores `from` to guest memory.
    ///
    /// # Errors
    /// [`MemoryError::NotMemory`], with nothing written.
    pub fn write(&self, at: GuestReal, from: &[u8]) -> Result<(), MemoryError> {
        self.populate(at, from.len() as u64)?;
        Self::for_each_block(at, from.len() as u64, |offset, done, part| {
            let part_of = range(done, part).and_then(|range| from.get(range));
            if let (Some(span), Some(from)) = (self.blocks.span(offset, part), part_of) {
                span.write(from);
            }
        });
        Ok(())
    }

    /// Zeroes guest memory.
    ///
    /// # Errors
    /// [`MemoryError::NotMemory`], with nothing written.
    pub fn zero(&self, at: GuestReal, len: u64) -> Result<(), MemoryError> {
        self.populate(at, len)?;
        let (start, end) = (at.get(), at.get() + len);
        // Pages lie in one block, and are all that hcalls zero.
        if start.is_multiple_of(CACHE_BLOCK)
            && len.is_multiple_of(CACHE_BLOCK)
            && let Some(span) = self.blocks.span(start, len)
        {
            span.zero(&self.machine);
            return Ok(());
        }
        let body = start.next_multiple_of(CACHE_BLOCK).min(end);
        let tail = (end - end % CACHE_BLOCK).max(body);
        const ZEROES: [u8; 128] = [0; 128];
        for (from, to) in [(start, body), (tail, end)] {
            if let Some(zeroes) = range(0, to - from).and_then(|range| ZEROES.get(range)) {
                self.write(GuestReal::new(from), zeroes)?;
            }
        }
        Self::for_each_block(GuestReal::new(body), tail - body, |offset, _, part| {
            if let Some(span) = self.blocks.span(offset, part) {
                span.zero(&self.machine);
            }
        });
        Ok(())
    }

    /// Copies `len` bytes inside guest memory; addresses and length are multiples of eight, and
    /// the ranges are the same or apart.
    ///
    /// # Errors
    /// [`MemoryError::Unaligned`], [`MemoryError::NotMemory`]; nothing is written.
    pub fn copy(&self, to: GuestReal, from: GuestReal, len: u64) -> Result<(), MemoryError> {
        for at in [to.get(), from.get(), len] {
            if !at.is_multiple_of(8) {
                return Err(MemoryError::Unaligned {
                    at: GuestReal::new(at),
                    unit: 8,
                });
            }
        }
        self.populate(to, len)?;
        self.populate(from, len)?;
        Self::for_each_block(to, len, |to, done, part| {
            Self::for_each_block(
                GuestReal::new(from.get() + done),
                part,
                |from, done, part| {
                    let to = self.blocks.span(to + done, part);
                    if let (Some(to), Some(from)) = (to, self.blocks.span(from, part)) {
                        to.copy_words_from(from);
                    }
                },
            );
        });
        Ok(())
    }

    /// Drops the instruction cache's copies of a range.
    ///
    /// # Errors
    /// [`MemoryError::NotMemory`], with nothing done.
    pub fn icache_invalidate(&self, at: GuestReal, len: u64) -> Result<(), MemoryError> {
        self.populate(at, len)?;
        Self::for_each_block(at, len, |offset, _, part| {
            if let Some(span) = self.blocks.span(offset, part) {
                span.icache_invalidate(&self.machine);
            }
        });
        Ok(())
    }

    /// Makes stores to a range visible to instruction fetch.
    ///
    /// # Errors
    /// [`MemoryError::NotMemory`], with nothing done.
    pub fn icache_synchronize(&self, at: GuestReal, len: u64) -> Result<(), MemoryError> {
        self.populate(at, len)?;
        Self::for_each_block(at, len, |offset, _, part| {
            if let Some(span) = self.blocks.span(offset, part) {
                span.icache_synchronize(&self.machine);
            }
        });
        Ok(())
    }

    #[inline]
    fn span(&self, at: GuestReal, len: u64) -> Result<Span<'_>, MemoryError> {
        self.populate(at, len)?;
        self.blocks
            .span(at.get(), len)
            .ok_or(MemoryError::CrossesBlock { at, len })
    }

    /// The byte at `at`.
    ///
    /// # Errors
    /// [`MemoryError::NotMemory`].
    pub fn read_u8(&self, at: GuestReal) -> Result<u8, MemoryError> {
        self.span(at, 1)?
            .load_u8()
            .ok_or(MemoryError::Unaligned { at, unit: 1 })
    }

    /// Stores a byte.
    ///
    /// # Errors
    /// [`MemoryError::NotMemory`].
    pub fn write_u8(&self, at: GuestReal, value: u8) -> Result<(), MemoryError> {
        self.span(at, 1)?
            .store_u8(value)
            .ok_or(MemoryError::Unaligned { at, unit: 1 })
    }

    /// The big-endian word at `at`, a multiple of four, by one load.
    ///
    /// # Errors
    /// [`MemoryError::Unaligned`], [`MemoryError::NotMemory`].
    pub fn read_be32(&self, at: GuestReal) -> Result<u32, MemoryError> {
        let unaligned = MemoryError::Unaligned { at, unit: 4 };
        if !at.is_aligned(4) {
            return Err(unaligned);
        }
        self.span(at, 4)?
            .load_u32()
            .map(u32::from_be)
            .ok_or(unaligned)
    }

    /// Stores a big-endian word at `at`, a multiple of four, by one store.
    ///
    /// # Errors
    /// [`MemoryError::Unaligned`], [`MemoryError::NotMemory`].
    pub fn write_be32(&self, at: GuestReal, value: u32) -> Result<(), MemoryError> {
        let unaligned = MemoryError::Unaligned { at, unit: 4 };
        if !at.is_aligned(4) {
            return Err(unaligned);
        }
        self.span(at, 4)?.store_u32(value.to_be()).ok_or(unaligned)
    }

    /// The big-endian doubleword at `at`, a multiple of eight, by one load.
    ///
    /// # Errors
    /// [`MemoryError::Unaligned`], [`MemoryError::NotMemory`].
    pub fn read_be64(&self, at: GuestReal) -> Result<u64, MemoryError> {
        let unaligned = MemoryError::Unaligned { at, unit: 8 };
        if !at.is_aligned(8) {
            return Err(unaligned);
        }
        self.span(at, 8)?
            .load_u64()
            .map(u64::from_be)
            .ok_or(unaligned)
    }

    /// Stores a big-endian doubleword at `at`, a multiple of eight, by one store.
    ///
    /// # Errors
    /// [`MemoryError::Unaligned`], [`MemoryError::NotMemory`].
    pub fn write_be64(&self, at: GuestReal, value: u64) -> Result<(), MemoryError> {
        let unaligned = MemoryError::Unaligned { at, unit: 8 };
        if !at.is_aligned(8) {
            return Err(unaligned);
        }
        self.span(at, 8)?.store_u64(value.to_be()).ok_or(unaligned)
    }
}

/// A range of indices into a slice.
fn range(start: u64, len: u64) -> Option<core::ops::Range<usize>> {
    let start = usize::try_from(start).ok()?;
    Some(start..start.checked_add(usize::try_from(len).ok()?)?)
}
