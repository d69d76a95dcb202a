// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A partition's memory: the one way from guest real addresses to bytes.
//!
//! Guest real memory is made of 16 MiB blocks, each at any free place of host memory, so every
//! page size that a partition is offered lies inside one block. Blocks are reserved when the
//! partition is made and cannot run out later. They are zeroed in pieces of 64 KiB, all at the
//! start ([`Backing::Eager`]) or each before it is first touched ([`Backing::Lazy`]); a guest
//! never sees what was there before.
//!
//! Beside its memory a partition may have other slots ([`crate::slot`]): a framebuffer, and pages
//! of devices. The hypervisor reads and writes memory and framebuffers, never devices.
//!
//! Memory may also come from a [`pool`](crate::pool), in frames of 64 KiB that are taken at first touch
//! and can run out: then pages are no larger than 64 KiB.
//!
//! Every access of the hypervisor to guest memory goes through
//! [`MemoryAccess`](crate::hpt::MemoryAccess), which populates, gives the partition a frame of its own
//! where it shares one, and marks what it writes as written. Addresses come from guests, so a bad one is an ordinary error. LoPAR, Page
//! Frame Table Access, "Logical addressing".

mod access;
mod error;
mod pooled;

pub use error::{MemoryError, MemorySetupError};

use crate::frame::{FrameAllocator, FrameError};
use crate::hpt::Flushed;
use crate::page_ops::PageOps;
use crate::pool::{NoFrame, Share};
pub use crate::real::PIECE;
use crate::real::{BLOCK, PieceTable};
use crate::slot::{Slot, SlotKind, SlotPlan};
use arrayvec::ArrayVec;
use penstock_arch::addr::GuestReal;
#[cfg(test)]
use penstock_arch::addr::HostReal;
use penstock_arch::hash::PageSize;

/// When memory is zeroed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backing {
    /// All of it when the partition is made.
    Eager,
    /// Each piece when it is first touched.
    Lazy,
}

/// How a partition's memory is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryConfig {
    /// Its first address: a multiple of 16 MiB. A partition that is to run needs memory at 0.
    pub base: GuestReal,
    /// Its bytes: a multiple of 16 MiB.
    pub bytes: u64,
    /// When it is zeroed.
    pub backing: Backing,
    /// The largest page that the guest is told.
    pub largest: PageSize,
}

impl MemoryConfig {
    /// `bytes` from address 0, in the largest pages.
    #[must_use]
    pub const fn new(bytes: u64, backing: Backing) -> Self {
        Self {
            base: GuestReal::new(0),
            bytes,
            backing,
            largest: PageSize::P16M,
        }
    }
}

/// Slots beside the memory.
const OTHER_SLOTS: usize = 7;

/// Names a slot of a partition: its memory is the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SlotId(usize);

impl SlotId {
    /// The partition's memory.
    pub const MEMORY: Self = Self(0);

    /// The slot with this number, which a partition may have or not.
    #[must_use]
    pub const fn new(number: usize) -> Self {
        Self(number)
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> usize {
        self.0
    }
}

/// The memory of one partition, and its other slots.
#[derive(Debug)]
pub struct GuestMemory<M: PageOps> {
    machine: M,
    ram: Slot,
    others: ArrayVec<Slot, OTHER_SLOTS>,
    /// The part in a pool from which the memory's frames come.
    share: Option<Share>,
}

impl<M: PageOps> GuestMemory<M> {
    /// `size` bytes of memory from address 0, a multiple of 16 MiB.
    ///
    /// # Errors
    /// The size is bad, or `allocator` has too little; then nothing is taken.
    pub fn new(
        machine: M,
        size: u64,
        backing: Backing,
        allocator: &mut FrameAllocator,
    ) -> Result<Self, MemorySetupError> {
        Self::with_config(machine, MemoryConfig::new(size, backing), allocator)
    }

    /// Memory as `config` says.
    ///
    /// # Errors
    /// The size or base is bad, or `allocator` has too little; then nothing is taken.
    pub fn with_config(
        machine: M,
        config: MemoryConfig,
        allocator: &mut FrameAllocator,
    ) -> Result<Self, MemorySetupError> {
        let size = config.bytes;
        if size == 0
            || !size.is_multiple_of(BLOCK)
            || !config.base.is_aligned(BLOCK)
            || config.base.checked_add(size).is_none()
        {
            return Err(MemorySetupError::BadSize { size });
        }
        let pieces = PieceTable::blocks(size / BLOCK, allocator, &machine)?;
        let plan = SlotPlan {
            base: config.base,
            kind: SlotKind::Memory,
            largest: config.largest,
        };
        let ram = Slot::new(plan, pieces, allocator, &machine)?;
        match config.backing {
            Backing::Eager => drop(ram.populate_some(u64::MAX, &machine)),
            Backing::Lazy => {}
        }
        Ok(Self {
            machine,
            ram,
            others: ArrayVec::new(),
            share: None,
        })
    }

    /// Memory from address 0 whose frames come from a pool, in pages of at most 64 KiB.
    ///
    /// # Errors
    /// The size is bad, or `allocator` has too little for what is kept of it; then nothing is taken.
    pub fn pooled(
        machine: M,
        size: u64,
        share: Share,
        allocator: &mut FrameAllocator,
    ) -> Result<Self, MemorySetupError> {
        if size == 0 || !size.is_multiple_of(BLOCK) {
            return Err(MemorySetupError::BadSize { size });
        }
        let pieces = PieceTable::pooled(size / PIECE, allocator, &machine)?;
        let plan = SlotPlan {
            base: GuestReal::new(0),
            kind: SlotKind::Memory,
            largest: PageSize::P64K,
        };
        let ram = Slot::new(plan, pieces, allocator, &machine)?;
        Ok(Self {
            machine,
            ram,
            others: ArrayVec::new(),
            share: Some(share),
        })
    }

    /// Adds a slot of zeroed memory that the guest takes for a device's. Address and size are
    /// multiples of 64 KiB.
    ///
    /// # Errors
    /// The range is bad or taken, there are too many slots, or `allocator` has too little.
    pub fn add_framebuffer(
        &mut self,
        base: GuestReal,
        bytes: u64,
        allocator: &mut FrameAllocator,
    ) -> Result<SlotId, MemorySetupError> {
        self.check_new_slot(base, bytes)?;
        let pieces = PieceTable::run(bytes / PIECE, allocator, &self.machine)?;
        self.add(base, SlotKind::Framebuffer, pieces, allocator)
    }

    /// Adds a slot for pages of devices, none of which is there yet. Address and size are multiples
    /// of 64 KiB.
    ///
    /// # Errors
    /// The range is bad or taken, there are too many slots, or `allocator` has too little.
    pub fn add_device(
        &mut self,
        base: GuestReal,
        bytes: u64,
        allocator: &mut FrameAllocator,
    ) -> Result<SlotId, MemorySetupError> {
        self.check_new_slot(base, bytes)?;
        let pieces = PieceTable::devices(bytes / PIECE, allocator, &self.machine)?;
        self.add(base, SlotKind::Device, pieces, allocator)
    }

    fn check_new_slot(&self, base: GuestReal, bytes: u64) -> Result<(), MemorySetupError> {
        let end = base.checked_add(bytes);
        let (Some(end), true) = (end, bytes != 0 && bytes.is_multiple_of(PIECE)) else {
            return Err(MemorySetupError::BadSize { size: bytes });
        };
        let taken = |slot: &Slot| {
            base.get() < slot.base().get() + slot.bytes() && slot.base().get() < end.get()
        };
        if !base.is_aligned(PIECE) || self.slots().any(|(_, slot)| taken(slot)) {
            return Err(MemorySetupError::BadPlace { base, bytes });
        }
        if self.others.is_full() {
            return Err(MemorySetupError::TooManySlots);
        }
        Ok(())
    }

    fn add(
        &mut self,
        base: GuestReal,
        kind: SlotKind,
        pieces: PieceTable,
        allocator: &mut FrameAllocator,
    ) -> Result<SlotId, MemorySetupError> {
        let plan = SlotPlan {
            base,
            kind,
            largest: PageSize::P64K,
        };
        let slot = Slot::new(plan, pieces, allocator, &self.machine)?;
        match self.others.try_push(slot) {
            Ok(()) => Ok(SlotId(self.others.len())),
            Err(full) => {
                full.element().release(allocator)?;
                Err(MemorySetupError::TooManySlots)
            }
        }
    }

    /// All slots, the partition's memory first.
    pub fn slots(&self) -> impl Iterator<Item = (SlotId, &Slot)> {
        core::iter::once(&self.ram)
            .chain(&self.others)
            .enumerate()
            .map(|(number, slot)| (SlotId(number), slot))
    }

    /// The slot with this name.
    #[must_use]
    pub fn slot(&self, id: SlotId) -> Option<&Slot> {
        match id.0.checked_sub(1) {
            None => Some(&self.ram),
            Some(number) => self.others.get(number),
        }
    }

    /// The slot that `at` lies in, and how far into it.
    #[inline]
    #[must_use]
    pub(crate) fn slot_at(&self, at: GuestReal) -> Option<(&Slot, u64)> {
        match self.ram.offset_of(at) {
            Some(offset) => Some((&self.ram, offset)),
            None => self.other_slot_at(at),
        }
    }

    /// Whether an entry with this doubleword 1 needs more than a look at its piece: a guess that errs
    /// on the safe side.
    #[inline]
    pub(crate) fn is_special(&self, r: u64) -> bool {
        const RPN: u64 = penstock_arch::hash::GuestHpteR::RPN;
        self.ram.offset_of(GuestReal::new(r & RPN)).is_none() || self.ram.is_special()
    }

    #[cold]
    fn other_slot_at(&self, at: GuestReal) -> Option<(&Slot, u64)> {
        self.others
            .iter()
            .find_map(|slot| slot.offset_of(at).map(|offset| (slot, offset)))
    }

    /// The slot that all of a range lies in, and how far into it. An empty range at the end of a
    /// slot lies in it.
    #[inline]
    pub(crate) fn slot_of_range(
        &self,
        at: GuestReal,
        len: u64,
    ) -> Result<(&Slot, u64), MemoryError> {
        match self.ram.offset_of_range(at, len) {
            Some(offset) => Ok((&self.ram, offset)),
            None => self.other_slot_of_range(at, len),
        }
    }

    #[cold]
    fn other_slot_of_range(&self, at: GuestReal, len: u64) -> Result<(&Slot, u64), MemoryError> {
        self.others
            .iter()
            .filter(|slot| slot.kind() != SlotKind::Device)
            .find_map(|slot| slot.offset_of_range(at, len).map(|offset| (slot, offset)))
            .ok_or(MemoryError::NotMemory { at, len })
    }

    /// Bytes of the partition's memory.
    #[inline]
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.ram.bytes()
    }

    /// The partition's memory.
    #[inline]
    #[must_use]
    pub const fn ram(&self) -> &Slot {
        &self.ram
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
        self.ram.is_fully_ready()
    }

    /// Bytes that have been touched, and so zeroed once.
    #[must_use]
    pub fn backed_bytes(&self) -> u64 {
        self.size() - self.ram.unready() * PIECE
    }

    /// Where the byte at `at` lies, populated or not.
    #[cfg(test)]
    pub(crate) fn locate(&self, at: GuestReal) -> Option<HostReal> {
        let (slot, offset) = self.slot_at(at)?;
        let piece = slot.pieces().load(offset / PIECE);
        Some(HostReal::new(piece.host().get() | (offset % PIECE)))
    }

    /// Whether every piece of the range has been zeroed.
    #[cfg(test)]
    pub(crate) fn is_backed(&self, at: GuestReal, len: u64) -> bool {
        self.slot_of_range(at, len)
            .is_ok_and(|(slot, offset)| slot.is_ready(offset, len))
    }

    /// Zeroes every piece of the range that was not touched before.
    ///
    /// # Errors
    /// [`MemoryError::NotMemory`], [`MemoryError::NoFrame`].
    #[inline]
    pub(crate) fn populate(&self, at: GuestReal, len: u64) -> Result<(), MemoryError> {
        self.populated(at, len).map(|_| ())
    }

    /// The slot of a range, which is populated, and how far into it the range lies.
    #[inline]
    fn populated(&self, at: GuestReal, len: u64) -> Result<(&Slot, u64), MemoryError> {
        let (slot, offset) = self.slot_of_range(at, len)?;
        if !slot.is_fully_ready() {
            self.populate_slot(slot, offset, len)
                .map_err(|NoFrame| MemoryError::NoFrame { at, len })?;
        }
        Ok((slot, offset))
    }

    /// Zeroes every piece of a range of a slot that was not touched before.
    ///
    /// # Errors
    /// There is no frame to be had; the pieces before have theirs.
    #[cold]
    pub(crate) fn populate_slot(&self, slot: &Slot, offset: u64, len: u64) -> Result<(), NoFrame> {
        slot.pieces_of(offset, len)
            .try_for_each(|number| slot.zero_piece(number, self.share.as_ref(), &self.machine))
    }

    /// Zeroes up to `pieces` pieces of 64 KiB that nobody has touched yet, and passes over some hundreds
    /// that somebody has; returns how many are left.
    pub(crate) fn populate_some(&self, pieces: u64) -> u64 {
        self.ram.populate_some(pieces, &self.machine)
    }

    /// Gives memory back that no page table has ever mapped.
    ///
    /// # Errors
    /// The allocator cannot keep track of so many ranges; the rest is lost.
    pub fn release(self, allocator: &mut FrameAllocator) -> Result<(), FrameError> {
        self.release_flushed(&Flushed::never_mapped(), allocator)
    }

    /// Gives the memory back, with the proof that no translation to it is left.
    ///
    /// # Errors
    /// The allocator cannot keep track of so many ranges; the rest is lost.
    pub(crate) fn release_flushed(
        self,
        flushed: &Flushed,
        allocator: &mut FrameAllocator,
    ) -> Result<(), FrameError> {
        self.give_back(flushed);
        let mut result = self.ram.release(allocator);
        for slot in self.others {
            result = result.and(slot.release(allocator));
        }
        result
    }
}

#[cfg(test)]
mod tests;
