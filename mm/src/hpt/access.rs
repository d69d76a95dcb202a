// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The hypervisor's own accesses to a partition's memory: the one way to its bytes.
//!
//! What is read is populated first, or reads as the zeroes that it is; what is written is populated,
//! made the partition's own where it was shared, and marked as written. A partition's own frame stays
//! where it is while the partition runs, and an image's while the range lock is held, so nothing is
//! revoked under an access. What no frame has yet is read from the image's source.

use super::HashMmu;
use crate::guest_memory::{GuestMemory, MemoryError, SlotId};
use crate::page_ops::Machine;
use crate::pool::{NoFrame, Share};
use crate::real::{PIECE, Piece};
use crate::slot::Slot;
use core::cell::Cell;
use penstock_arch::addr::{GuestReal, HostReal};

/// A part of a range that lies in one piece.
#[derive(Clone, Copy)]
struct Part {
    /// Where it begins.
    at: GuestReal,
    /// Its bytes.
    len: u64,
    /// How far into the range it lies.
    done: u64,
    /// How far into its piece it lies.
    within: u64,
    /// The image with its content, where it has no frame yet.
    image: Option<(u8, u32)>,
}

/// A partition's memory, to be read and written.
#[derive(Debug)]
pub struct MemoryAccess<'a, M: Machine> {
    mmu: &'a HashMmu<M>,
    short: Cell<bool>,
}

impl<M: Machine> HashMmu<M> {
    /// The partition's memory.
    #[inline]
    #[must_use]
    pub const fn memory(&self) -> MemoryAccess<'_, M> {
        MemoryAccess {
            mmu: self,
            short: Cell::new(false),
        }
    }
}

impl<'a, M: Machine> MemoryAccess<'a, M> {
    #[inline]
    const fn memory(&self) -> &'a GuestMemory<M> {
        &self.mmu.memory
    }

    /// All slots, the partition's memory first.
    pub fn slots(&self) -> impl Iterator<Item = (SlotId, &'a Slot)> + use<'a, M> {
        self.memory().slots()
    }

    /// The slot with this name.
    #[must_use]
    pub fn slot(&self, id: SlotId) -> Option<&'a Slot> {
        self.memory().slot(id)
    }

    /// The slot of the partition's memory.
    #[inline]
    #[must_use]
    pub const fn ram(&self) -> &'a Slot {
        self.memory().ram()
    }

    /// Bytes of the partition's memory.
    #[inline]
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.memory().size()
    }

    /// The machine that zeroes this memory.
    #[inline]
    #[must_use]
    pub const fn machine(&self) -> &'a M {
        self.memory().machine()
    }

    /// Whether every piece has been zeroed.
    #[must_use]
    pub fn is_fully_backed(&self) -> bool {
        self.memory().is_fully_backed()
    }

    /// Bytes that have been touched, and so zeroed once.
    #[must_use]
    pub fn backed_bytes(&self) -> u64 {
        self.memory().backed_bytes()
    }

    /// See [`GuestMemory::saved_bytes`].
    #[must_use]
    pub fn saved_bytes(&self) -> u64 {
        self.memory().saved_bytes()
    }

    /// The part in a pool from which the memory's frames come, where they do.
    #[must_use]
    pub const fn share(&self) -> Option<&'a Share> {
        self.memory().share()
    }

    /// See [`GuestMemory::is_backed`].
    #[cfg(test)]
    pub(crate) fn is_backed(&self, at: GuestReal, len: u64) -> bool {
        self.memory().is_backed(at, len)
    }

    /// See [`GuestMemory::locate`].
    #[cfg(test)]
    pub(crate) fn locate(&self, at: GuestReal) -> Option<HostReal> {
        self.memory().locate(at)
    }

    /// Whether an access through this has failed since it was made because there was no frame to be
    /// had. Then what was begun is to be begun anew, when there is.
    #[must_use]
    pub const fn was_short(&self) -> bool {
        self.short.get()
    }

    /// Makes a range fit to be written: after that, no write to it can fail.
    ///
    /// # Errors
    /// [`MemoryError::NotMemory`]; [`MemoryError::NoFrame`], and nothing that a guest can see has
    /// changed.
    #[inline]
    pub fn populate(&self, at: GuestReal, len: u64) -> Result<(), MemoryError> {
        if self.share().is_some() {
            return self.own(at, len);
        }
        self.memory().populate(at, len)
    }

    /// Makes a range fit to be read.
    ///
    /// # Errors
    /// [`MemoryError::NotMemory`].
    #[inline]
    pub(super) fn populate_source(&self, at: GuestReal, len: u64) -> Result<(), MemoryError> {
        if self.share().is_some() {
            // What was never touched is read as zeroes.
            return self.memory().slot_of_range(at, len).map(|_| ());
        }
        self.memory().populate(at, len)
    }

    /// [`Self::populate`], where nothing but pools needs it: after this no write to the range can fail
    /// for want of a frame.
    ///
    /// # Errors
    /// As for [`Self::populate`], but that memory which is no pool's is not looked at.
    #[inline]
    pub fn hold(&self, at: GuestReal, len: u64) -> Result<(), MemoryError> {
        if self.share().is_some() {
            return self.own(at, len);
        }
        Ok(())
    }

    #[cold]
    fn own(&self, at: GuestReal, len: u64) -> Result<(), MemoryError> {
        let (slot, offset) = self.memory().slot_of_range(at, len)?;
        if !slot.pieces().is_pooled() {
            return Ok(());
        }
        for number in slot.pieces_of(offset, len) {
            // A guarded piece stays so: the guest's own next store is to be seen.
            if let Err(NoFrame) = self.mmu.make_own(slot, number, Piece::GUARDED) {
                self.short.set(true);
                return Err(MemoryError::NoFrame { at, len });
            }
        }
        Ok(())
    }

    /// Calls `each` with each part of a range that lies in one piece of memory, if that has content.
    /// Returns whether the memory comes from a pool; otherwise nothing was called.
    fn for_each_touched(
        &self,
        at: GuestReal,
        len: u64,
        mut each: impl FnMut(Part) -> Result<(), MemoryError>,
    ) -> Result<bool, MemoryError> {
        if self.share().is_none() {
            return Ok(false);
        }
        let (slot, offset) = self.memory().slot_of_range(at, len)?;
        if !slot.pieces().is_pooled() {
            return Ok(false);
        }
        let mut done = 0;
        while done < len {
            let at = GuestReal::new(at.get() + done);
            let within = (offset + done) % PIECE;
            let part = Part {
                at,
                len: (PIECE - within).min(len - done),
                done,
                within,
                image: None,
            };
            let piece = slot.pieces().load((offset + done) / PIECE);
            // A frame of an image may be another's when sharing has ended, which it does not now.
            let _still_shared = piece.has(Piece::SHARED).then(|| self.mmu.lock_range());
            match piece.image() {
                Some(image) => each(Part {
                    image: Some(image),
                    ..part
                })?,
                None if piece.is_ready() => each(part)?,
                None => {}
            }
            done += part.len;
        }
        Ok(true)
    }

    /// Notes that a range was or may be written behind our back: by hardware that was told where it
    /// lies ([`Self::translate`]).
    ///
    /// # Errors
    /// [`MemoryError::NotMemory`], with nothing noted.
    pub fn mark_written(&self, at: GuestReal, len: u64) -> Result<(), MemoryError> {
        self.memory().mark_written(at, len)
    }

    /// Fills `to` from guest memory.
    ///
    /// # Errors
    /// [`MemoryError::NotMemory`], with nothing read.
    pub fn read(&self, at: GuestReal, to: &mut [u8]) -> Result<(), MemoryError> {
        if self.share().is_none() {
            return self.memory().read(at, to);
        }
        self.read_touched(at, to)
    }

    #[cold]
    fn read_touched(&self, at: GuestReal, to: &mut [u8]) -> Result<(), MemoryError> {
        let len = to.len() as u64;
        self.memory().slot_of_range(at, len)?;
        to.fill(0);
        let pooled = self.for_each_touched(at, len, |part| {
            let start = usize::try_from(part.done).unwrap_or(usize::MAX);
            let count = usize::try_from(part.len).unwrap_or(0);
            match to.get_mut(start..).and_then(|to| to.get_mut(..count)) {
                Some(to) => self.read_part(part, 0, to),
                None => Ok(()),
            }
        })?;
        if pooled {
            Ok(())
        } else {
            self.memory().read(at, to)
        }
    }

    /// Fills `to` from `skip` bytes into a part on: from its frame, or from its image's source.
    fn read_part(&self, part: Part, skip: u64, to: &mut [u8]) -> Result<(), MemoryError> {
        match (part.image, self.share()) {
            (Some(image), Some(share)) => {
                share.read_image(image, part.within + skip, to);
                Ok(())
            }
            _ => {
                let at = GuestReal::new(part.at.get() + skip);
                self.memory().read(at, to)
            }
        }
    }

    /// Stores `from` to guest memory.
    ///
    /// # Errors
    /// [`MemoryError::NotMemory`], [`MemoryError::NoFrame`]; nothing is written.
    pub fn write(&self, at: GuestReal, from: &[u8]) -> Result<(), MemoryError> {
        self.hold(at, from.len() as u64)?;
        self.memory().write(at, from)
    }

    /// Zeroes guest memory.
    ///
    /// # Errors
    /// As for [`Self::write`].
    #[inline]
    pub fn zero(&self, at: GuestReal, len: u64) -> Result<(), MemoryError> {
        self.hold(at, len)?;
        self.memory().zero(at, len)
    }

    /// Copies `len` bytes inside guest memory; addresses and length are multiples of eight, and
    /// the ranges are the same or apart.
    ///
    /// # Errors
    /// [`MemoryError::Unaligned`], and as for [`Self::write`].
    pub fn copy(&self, to: GuestReal, from: GuestReal, len: u64) -> Result<(), MemoryError> {
        if self.share().is_none() {
            return self.memory().copy(to, from, len);
        }
        self.copy_touched(to, from, len)
    }

    #[cold]
    fn copy_touched(&self, to: GuestReal, from: GuestReal, len: u64) -> Result<(), MemoryError> {
        // All is checked before the first byte moves.
        self.memory().copy(to, from, 0)?;
        if !len.is_multiple_of(8) {
            return Err(MemoryError::Unaligned {
                at: GuestReal::new(len),
                unit: 8,
            });
        }
        self.memory().slot_of_range(from, len)?;
        self.own(to, len)?;
        if to == from {
            return Ok(());
        }
        self.memory().zero(to, len)?;
        let pooled = self.for_each_touched(from, len, |part| {
            let to = GuestReal::new(to.get() + part.done);
            match part.image {
                None => self.memory().copy(to, part.at, part.len),
                Some(_) => self.copy_image(to, part),
            }
        })?;
        if pooled {
            Ok(())
        } else {
            self.memory().copy(to, from, len)
        }
    }

    /// Copies a part that no frame has yet.
    fn copy_image(&self, to: GuestReal, part: Part) -> Result<(), MemoryError> {
        let mut bytes = [0; 256];
        let mut done = 0;
        while done < part.len {
            let count = (part.len - done).min(bytes.len() as u64);
            let Some(bytes) = usize::try_from(count)
                .ok()
                .and_then(|count| bytes.get_mut(..count))
            else {
                break;
            };
            self.read_part(part, done, bytes)?;
            self.memory()
                .write(GuestReal::new(to.get() + done), bytes)?;
            done += count;
        }
        Ok(())
    }

    /// Drops the instruction cache's copies of a range.
    ///
    /// # Errors
    /// [`MemoryError::NotMemory`], with nothing done.
    pub fn icache_invalidate(&self, at: GuestReal, len: u64) -> Result<(), MemoryError> {
        // A frame of an image is made fit to be executed when it is filled.
        let done = self.for_each_touched(at, len, |part| match part.image {
            None => self.memory().icache_invalidate(part.at, part.len),
            Some(_) => Ok(()),
        })?;
        if done {
            Ok(())
        } else {
            self.memory().icache_invalidate(at, len)
        }
    }

    /// Makes stores to a range visible to instruction fetch.
    ///
    /// # Errors
    /// [`MemoryError::NotMemory`], with nothing done.
    pub fn icache_synchronize(&self, at: GuestReal, len: u64) -> Result<(), MemoryError> {
        // A frame of an image is made fit to be executed when it is filled.
        let done = self.for_each_touched(at, len, |part| match part.image {
            None => self.memory().icache_synchronize(part.at, part.len),
            Some(_) => Ok(()),
        })?;
        if done {
            Ok(())
        } else {
            self.memory().icache_synchronize(at, len)
        }
    }

    /// The host address of `len` bytes that lie in one run, fit to be written. Good while the partition
    /// lives and does not start over; the caller names the range to nobody but hardware.
    ///
    /// # Errors
    /// [`MemoryError::NotMemory`], [`MemoryError::CrossesBlock`], [`MemoryError::NoFrame`].
    pub fn translate(&self, at: GuestReal, len: u64) -> Result<HostReal, MemoryError> {
        self.hold(at, len)?;
        self.memory().translate(at, len)
    }

    /// The byte at `at`.
    ///
    /// # Errors
    /// [`MemoryError::NotMemory`].
    pub fn read_u8(&self, at: GuestReal) -> Result<u8, MemoryError> {
        let mut value = 0;
        let pooled = self.for_each_touched(at, 1, |part| {
            let mut bytes = [0];
            self.read_part(part, 0, &mut bytes)?;
            [value] = bytes;
            Ok(())
        })?;
        if pooled {
            Ok(value)
        } else {
            self.memory().read_u8(at)
        }
    }

    /// Stores a byte.
    ///
    /// # Errors
    /// As for [`Self::write`].
    pub fn write_u8(&self, at: GuestReal, value: u8) -> Result<(), MemoryError> {
        self.hold(at, 1)?;
        self.memory().write_u8(at, value)
    }

    /// The big-endian word at `at`, a multiple of four, by one load.
    ///
    /// # Errors
    /// [`MemoryError::Unaligned`], [`MemoryError::NotMemory`].
    pub fn read_be32(&self, at: GuestReal) -> Result<u32, MemoryError> {
        let mut value = 0;
        let pooled = self.for_each_touched(at, 4, |part| {
            value = if part.image.is_some() && part.len == 4 {
                let mut bytes = [0; 4];
                self.read_part(part, 0, &mut bytes)?;
                u32::from_be_bytes(bytes)
            } else {
                self.memory().read_be32(part.at)?
            };
            Ok(())
        })?;
        if pooled && at.is_aligned(4) {
            Ok(value)
        } else {
            self.memory().read_be32(at)
        }
    }

    /// Stores a big-endian word at `at`, a multiple of four, by one store.
    ///
    /// # Errors
    /// [`MemoryError::Unaligned`], and as for [`Self::write`].
    pub fn write_be32(&self, at: GuestReal, value: u32) -> Result<(), MemoryError> {
        self.hold(at, 4)?;
        self.memory().write_be32(at, value)
    }

    /// The big-endian doubleword at `at`, a multiple of eight, by one load.
    ///
    /// # Errors
    /// [`MemoryError::Unaligned`], [`MemoryError::NotMemory`].
    pub fn read_be64(&self, at: GuestReal) -> Result<u64, MemoryError> {
        let mut value = 0;
        let pooled = self.for_each_touched(at, 8, |part| {
            value = if part.image.is_some() && part.len == 8 {
                let mut bytes = [0; 8];
                self.read_part(part, 0, &mut bytes)?;
                u64::from_be_bytes(bytes)
            } else {
                self.memory().read_be64(part.at)?
            };
            Ok(())
        })?;
        if pooled && at.is_aligned(8) {
            Ok(value)
        } else {
            self.memory().read_be64(at)
        }
    }

    /// Stores a big-endian doubleword at `at`, a multiple of eight, by one store.
    ///
    /// # Errors
    /// [`MemoryError::Unaligned`], and as for [`Self::write`].
    pub fn write_be64(&self, at: GuestReal, value: u64) -> Result<(), MemoryError> {
        self.hold(at, 8)?;
        self.memory().write_be64(at, value)
    }
}
