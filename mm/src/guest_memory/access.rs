// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Reading and writing guest memory, whatever runs of host memory it lies in.
//!
//! The whole range is checked and populated before the first byte moves. Whoever writes has seen to it
//! that none of it is shared: see [`MemoryAccess`](crate::hpt::MemoryAccess).

use super::{GuestMemory, MemoryError};
use crate::page_ops::{CACHE_BLOCK, PageOps};
use crate::real::Span;
use crate::slot::Slot;
use penstock_arch::addr::{GuestReal, HostReal};

impl<M: PageOps> GuestMemory<M> {
    /// The host address of `len` bytes that lie in one run, populated. Good while the partition
    /// lives; the caller names the range to nobody but hardware.
    ///
    /// # Errors
    /// [`MemoryError::NotMemory`], [`MemoryError::CrossesBlock`].
    pub(crate) fn translate(&self, at: GuestReal, len: u64) -> Result<HostReal, MemoryError> {
        let (slot, offset) = self.populated(at, len)?;
        match slot.pieces().span(offset, len) {
            Some(span) => Ok(span.at()),
            None => Err(MemoryError::CrossesBlock { at, len }),
        }
    }

    /// Notes that a range was or may be written behind our back: by hardware that was told where it
    /// lies ([`Self::translate`]).
    ///
    /// # Errors
    /// [`MemoryError::NotMemory`], with nothing noted.
    pub(crate) fn mark_written(&self, at: GuestReal, len: u64) -> Result<(), MemoryError> {
        let (slot, offset) = self.slot_of_range(at, len)?;
        slot.mark_dirty(offset, len);
        Ok(())
    }

    /// Calls `each` with each run of a populated range, and the offset into the range at which it
    /// begins.
    fn for_each_run(slot: &Slot, offset: u64, len: u64, mut each: impl FnMut(Span<'_>, u64)) {
        let mut done = 0;
        while done < len {
            let Some(span) = slot.extent(offset + done, len - done) else {
                return;
            };
            each(span, done);
            done += span.len();
        }
    }

    /// Fills `to` from guest memory.
    ///
    /// # Errors
    /// [`MemoryError::NotMemory`], with nothing read.
    pub(crate) fn read(&self, at: GuestReal, to: &mut [u8]) -> Result<(), MemoryError> {
        let len = to.len() as u64;
        let (slot, offset) = self.populated(at, len)?;
        Self::for_each_run(slot, offset, len, |span, done| {
            if let Some(to) = range(done, span.len()).and_then(|range| to.get_mut(range)) {
                span.read(to);
            }
        });
        Ok(())
    }

    /// Stores `from` to guest memory.
    ///
    /// # Errors
    /// [`MemoryError::NotMemory`], with nothing written.
    pub(crate) fn write(&self, at: GuestReal, from: &[u8]) -> Result<(), MemoryError> {
        let len = from.len() as u64;
        let (slot, offset) = self.writable(at, len)?;
        Self::for_each_run(slot, offset, len, |span, done| {
            if let Some(from) = range(done, span.len()).and_then(|range| from.get(range)) {
                span.write(from);
            }
        });
        slot.mark_dirty(offset, len);
        Ok(())
    }

    /// Zeroes guest memory.
    ///
    /// # Errors
    /// [`MemoryError::NotMemory`], with nothing written.
    pub(crate) fn zero(&self, at: GuestReal, len: u64) -> Result<(), MemoryError> {
        let (slot, offset) = self.writable(at, len)?;
        // Pages lie in one run, and are all that hcalls zero.
        if (offset | len).is_multiple_of(CACHE_BLOCK)
            && let Some(span) = slot.pieces().span(offset, len)
        {
            span.zero(&self.machine);
        } else {
            Self::for_each_run(slot, offset, len, |span, _| span.fill_zero(&self.machine));
        }
        slot.mark_dirty(offset, len);
        Ok(())
    }

    /// Copies `len` bytes inside guest memory; addresses and length are multiples of eight, and
    /// the ranges are the same or apart.
    ///
    /// # Errors
    /// [`MemoryError::Unaligned`], [`MemoryError::NotMemory`]; nothing is written.
    pub(crate) fn copy(&self, to: GuestReal, from: GuestReal, len: u64) -> Result<(), MemoryError> {
        for at in [to.get(), from.get(), len] {
            if !at.is_multiple_of(8) {
                return Err(MemoryError::Unaligned {
                    at: GuestReal::new(at),
                    unit: 8,
                });
            }
        }
        let (target, to) = self.writable(to, len)?;
        let (source, from) = self.populated(from, len)?;
        Self::for_each_run(target, to, len, |to, done| {
            Self::for_each_run(source, from + done, to.len(), |from, done| {
                if let Some(to) = to.skip(done) {
                    to.copy_words_from(from);
                }
            });
        });
        target.mark_dirty(to, len);
        Ok(())
    }

    /// Drops the instruction cache's copies of a range.
    ///
    /// # Errors
    /// [`MemoryError::NotMemory`], with nothing done.
    pub(crate) fn icache_invalidate(&self, at: GuestReal, len: u64) -> Result<(), MemoryError> {
        let (slot, offset) = self.populated(at, len)?;
        Self::for_each_run(slot, offset, len, |span, _| {
            span.icache_invalidate(&self.machine);
        });
        Ok(())
    }

    /// Makes stores to a range visible to instruction fetch.
    ///
    /// # Errors
    /// [`MemoryError::NotMemory`], with nothing done.
    pub(crate) fn icache_synchronize(&self, at: GuestReal, len: u64) -> Result<(), MemoryError> {
        let (slot, offset) = self.populated(at, len)?;
        Self::for_each_run(slot, offset, len, |span, _| {
            span.icache_synchronize(&self.machine);
        });
        Ok(())
    }

    /// The slot of a range that is populated and not shared, and how far into it the range lies.
    #[inline]
    fn writable(&self, at: GuestReal, len: u64) -> Result<(&Slot, u64), MemoryError> {
        let (slot, offset) = self.populated(at, len)?;
        debug_assert!(!slot.is_shared(offset, len));
        Ok((slot, offset))
    }

    #[inline]
    fn span(&self, at: GuestReal, len: u64) -> Result<Span<'_>, MemoryError> {
        let (slot, offset) = self.populated(at, len)?;
        slot.pieces()
            .span(offset, len)
            .ok_or(MemoryError::CrossesBlock { at, len })
    }

    /// Stores a small aligned value by `store`.
    #[inline]
    fn store(
        &self,
        at: GuestReal,
        len: u64,
        store: impl FnOnce(Span<'_>) -> Option<()>,
    ) -> Result<(), MemoryError> {
        let unaligned = MemoryError::Unaligned { at, unit: len };
        if !at.is_aligned(len) {
            return Err(unaligned);
        }
        let (slot, offset) = self.writable(at, len)?;
        let span = slot
            .pieces()
            .span(offset, len)
            .ok_or(MemoryError::CrossesBlock { at, len })?;
        store(span).ok_or(unaligned)?;
        slot.mark_dirty(offset, len);
        Ok(())
    }

    /// The byte at `at`.
    ///
    /// # Errors
    /// [`MemoryError::NotMemory`].
    pub(crate) fn read_u8(&self, at: GuestReal) -> Result<u8, MemoryError> {
        self.span(at, 1)?
            .load_u8()
            .ok_or(MemoryError::Unaligned { at, unit: 1 })
    }

    /// Stores a byte.
    ///
    /// # Errors
    /// [`MemoryError::NotMemory`].
    pub(crate) fn write_u8(&self, at: GuestReal, value: u8) -> Result<(), MemoryError> {
        self.store(at, 1, |span| span.store_u8(value))
    }

    /// The big-endian word at `at`, a multiple of four, by one load.
    ///
    /// # Errors
    /// [`MemoryError::Unaligned`], [`MemoryError::NotMemory`].
    pub(crate) fn read_be32(&self, at: GuestReal) -> Result<u32, MemoryError> {
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
    pub(crate) fn write_be32(&self, at: GuestReal, value: u32) -> Result<(), MemoryError> {
        self.store(at, 4, |span| span.store_u32(value.to_be()))
    }

    /// The big-endian doubleword at `at`, a multiple of eight, by one load.
    ///
    /// # Errors
    /// [`MemoryError::Unaligned`], [`MemoryError::NotMemory`].
    pub(crate) fn read_be64(&self, at: GuestReal) -> Result<u64, MemoryError> {
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
    pub(crate) fn write_be64(&self, at: GuestReal, value: u64) -> Result<(), MemoryError> {
        self.store(at, 8, |span| span.store_u64(value.to_be()))
    }
}

/// A range of indices into a slice.
fn range(start: u64, len: u64) -> Option<core::ops::Range<usize>> {
    let start = usize::try_from(start).ok()?;
    Some(start..start.checked_add(usize::try_from(len).ok()?)?)
}
