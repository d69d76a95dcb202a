// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Memory slots: ranges of guest real addresses with something behind them.
//!
//! A partition's memory, a framebuffer, and pages of devices (interrupt management among them) are
//! all slots. Each has, for every 64 KiB piece, a word that says where it lies and what may be done
//! with it ([`Piece`]); for every 4 KiB granule, the head of the ring of page table entries that map
//! it; and for every granule, a bit that says whether it was written since somebody last asked. So
//! one mechanism fills, revokes and watches them all.
//!
//! Entries of a page that is larger than a granule are in the ring of the first granule that they
//! cover, so a walk of a range also looks at the heads of the 64 KiB and 16 MiB pages above it.

mod log;

use crate::frame::{FrameAllocator, FrameError};
use crate::page_ops::{CACHE_BLOCK, PageOps};
use crate::pool::{NoFrame, Share};
use crate::real::{PIECE, PIECES_PER_BLOCK, Piece, PieceTable, RealArray, Span};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use penstock_arch::addr::GuestReal;
use penstock_arch::hash::PageSize;
use penstock_arch::wait;

/// Bytes of a granule: the smallest page.
pub const GRANULE: u64 = PageSize::P4K.bytes();

/// Granules of a piece.
const GRANULES_PER_PIECE: u64 = PIECE / GRANULE;

/// Pieces that were touched already and are passed over in one go.
const MOST_PASSED: u64 = 256;

/// What is behind a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotKind {
    /// The partition's memory.
    Memory,
    /// Memory that the guest takes for a device's: it may map it caching-inhibited, and the
    /// hardware maps it cacheable all the same.
    Framebuffer,
    /// Pages of devices, each there or not.
    Device,
}

/// One slot.
#[derive(Debug)]
pub struct Slot {
    base: GuestReal,
    bytes: u64,
    kind: SlotKind,
    /// The largest page that may map it.
    largest: PageSize,
    pieces: PieceTable,
    heads: RealArray<AtomicU64>,
    dirty: RealArray<AtomicU64>,
    /// Writes are logged, or the slot is no memory: an entry needs more than a look at its piece.
    special: AtomicBool,
    logging: AtomicBool,
    /// Granules that came into the log since it began.
    marked: AtomicU64,
    /// Pieces that are not ready; where frames come from a pool, one more, so that who looks whether
    /// all are ready always looks closer.
    unready: AtomicU64,
    /// Pieces that are guarded or shared.
    guarded: AtomicU64,
    /// Where `populate_some` goes on.
    next_piece: AtomicU64,
}

/// What a slot is made of, besides its pieces.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SlotPlan {
    /// Its first address.
    pub(crate) base: GuestReal,
    /// What is behind it.
    pub(crate) kind: SlotKind,
    /// The largest page that may map it.
    pub(crate) largest: PageSize,
}

fn zeroed_words(
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

impl Slot {
    /// A slot with these pieces.
    ///
    /// # Errors
    /// There is no memory for what is kept of each granule; then the pieces are given back.
    pub(crate) fn new(
        plan: SlotPlan,
        pieces: PieceTable,
        allocator: &mut FrameAllocator,
        ops: &impl PageOps,
    ) -> Result<Self, FrameError> {
        let granules = pieces.count() * GRANULES_PER_PIECE;
        let heads = match zeroed_words(granules, allocator, ops) {
            Ok(heads) => heads,
            Err(error) => {
                pieces.release(allocator)?;
                return Err(error);
            }
        };
        let dirty = match zeroed_words(granules.div_ceil(64), allocator, ops) {
            Ok(dirty) => dirty,
            Err(error) => {
                allocator.free(heads.into_frames())?;
                pieces.release(allocator)?;
                return Err(error);
            }
        };
        let unready = (0..pieces.count())
            .filter(|&number| !pieces.load(number).is_ready())
            .count() as u64
            + u64::from(pieces.is_pooled());
        Ok(Self {
            base: plan.base,
            bytes: pieces.count() * PIECE,
            kind: plan.kind,
            largest: plan.largest,
            pieces,
            heads,
            dirty,
            special: AtomicBool::new(plan.kind != SlotKind::Memory),
            logging: AtomicBool::new(false),
            marked: AtomicU64::new(0),
            unready: AtomicU64::new(unready),
            guarded: AtomicU64::new(0),
            next_piece: AtomicU64::new(0),
        })
    }

    /// Bytes that a slot of `bytes` keeps beside its backing: the words, heads and bits.
    #[must_use]
    pub const fn overhead_bytes(bytes: u64) -> u64 {
        let words = bytes / PIECE * 8;
        let heads = bytes / GRANULE * 8;
        let bits = bytes / GRANULE / 8;
        words.next_multiple_of(CACHE_BLOCK)
            + heads.next_multiple_of(CACHE_BLOCK)
            + bits.next_multiple_of(CACHE_BLOCK)
    }

    /// The first address.
    #[inline]
    #[must_use]
    pub const fn base(&self) -> GuestReal {
        self.base
    }

    /// The number of bytes.
    #[inline]
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What is behind it.
    #[inline]
    #[must_use]
    pub const fn kind(&self) -> SlotKind {
        self.kind
    }

    /// The largest page that may map it.
    #[inline]
    #[must_use]
    pub const fn largest(&self) -> PageSize {
        self.largest
    }

    /// How far into the slot `at` lies, if it does.
    #[inline]
    #[must_use]
    pub const fn offset_of(&self, at: GuestReal) -> Option<u64> {
        let offset = at.get().wrapping_sub(self.base.get());
        if offset < self.bytes {
            Some(offset)
        } else {
            None
        }
    }

    /// How far into the slot the range lies, if all of it does.
    #[inline]
    #[must_use]
    pub const fn offset_of_range(&self, at: GuestReal, len: u64) -> Option<u64> {
        let offset = at.get().wrapping_sub(self.base.get());
        if offset <= self.bytes && len <= self.bytes - offset {
            Some(offset)
        } else {
            None
        }
    }

    /// The pieces.
    #[inline]
    pub(crate) const fn pieces(&self) -> &PieceTable {
        &self.pieces
    }

    /// The memory at `offset`, as much as lies in one run.
    #[inline]
    pub(crate) fn extent(&self, offset: u64, len: u64) -> Option<Span<'_>> {
        self.pieces.extent(offset, len)
    }

    /// Whether every piece is ready and may be written.
    #[inline]
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.is_fully_ready() && self.guarded.load(Ordering::Acquire) == 0
    }

    /// Whether every piece is ready; never said of a slot whose frames come from a pool.
    #[inline]
    #[must_use]
    pub fn is_fully_ready(&self) -> bool {
        self.unready.load(Ordering::Acquire) == 0
    }

    /// Pieces that are not ready.
    #[must_use]
    pub fn unready(&self) -> u64 {
        self.unready.load(Ordering::Acquire) - u64::from(self.pieces.is_pooled())
    }

    /// Pieces that are guarded or shared.
    #[must_use]
    pub fn guarded(&self) -> u64 {
        self.guarded.load(Ordering::Acquire)
    }

    /// What is known of a page that lies at `offset`: the first piece's word, ready only if all
    /// are, and with all restrictions that any piece has.
    #[inline]
    #[must_use]
    pub(crate) fn state(&self, offset: u64, size: PageSize) -> Piece {
        let first = self.pieces.load_locked(offset / PIECE);
        match size {
            PageSize::P4K | PageSize::P64K => first,
            PageSize::P16M => self.state_of_block(first, offset / PIECE),
        }
    }

    fn state_of_block(&self, first: Piece, number: u64) -> Piece {
        if self.is_plain() {
            return first;
        }
        let every = Piece::READY | Piece::LARGE;
        let (mut all, mut any) = (every, 0);
        for number in number..number + PIECES_PER_BLOCK {
            let piece = self.pieces.load(number).get();
            all &= piece;
            any |= piece & (Piece::GUARDED | Piece::SHARED | Piece::BUSY);
        }
        Piece::at(first.host(), all | any)
    }

    /// The head of the ring of a granule.
    #[inline]
    pub(crate) fn head(&self, offset: u64) -> Option<&AtomicU64> {
        self.heads.cell(usize::try_from(offset / GRANULE).ok()?)
    }

    /// The heads of all rings, each with how far into the slot its granule lies.
    pub(crate) fn heads(&self) -> impl Iterator<Item = (u64, &AtomicU64)> {
        (0..self.bytes / GRANULE)
            .map(|number| number * GRANULE)
            .zip(&*self.heads)
    }

    /// The numbers of the pieces that a range touches.
    pub(crate) fn pieces_of(&self, offset: u64, len: u64) -> core::ops::Range<u64> {
        let end = offset.saturating_add(len).min(self.bytes);
        if offset >= end {
            0..0
        } else {
            offset / PIECE..end.div_ceil(PIECE)
        }
    }

    /// Whether a piece of the range is shared.
    pub(crate) fn is_shared(&self, offset: u64, len: u64) -> bool {
        self.pieces.is_pooled()
            && self
                .pieces_of(offset, len)
                .any(|number| self.pieces.load(number).has(Piece::SHARED))
    }

    /// Whether every piece of the range is ready.
    #[cfg(test)]
    pub(crate) fn is_ready(&self, offset: u64, len: u64) -> bool {
        self.is_fully_ready()
            || self
                .pieces_of(offset, len)
                .all(|number| self.pieces.load(number).is_ready())
    }

    /// Makes a piece ready by zeroing it once, in a frame of `share` where it has none, or by mapping
    /// the image whose content it has; returns only when it is, whoever did it. Pages of devices, and
    /// pieces that are not there, stay as they are.
    ///
    /// # Errors
    /// There is no frame to be had.
    pub(crate) fn zero_piece(
        &self,
        number: u64,
        share: Option<&Share>,
        ops: &impl PageOps,
    ) -> Result<(), NoFrame> {
        let Some(word) = self.pieces.word(number) else {
            return Ok(());
        };
        let piece = loop {
            let piece = self.pieces.load(number);
            if piece.is_ready() || self.pieces.is_device() {
                return Ok(());
            }
            if self.claim(number, piece) {
                break piece;
            }
        };
        let (host, bits) = if piece.has_frame() {
            if let Some(span) = self.pieces.span(number * PIECE, PIECE) {
                span.zero(ops);
            }
            (None, 0)
        } else {
            let found = share.ok_or(NoFrame).and_then(|share| match piece.image() {
                Some(image) => Ok((share.map_image(image, ops)?, Piece::SHARED)),
                None => {
                    let frame = share.take()?;
                    frame.span().zero(ops);
                    Ok((frame.at(), 0))
                }
            });
            match found {
                Ok((host, bits)) => (Some(host), bits),
                Err(error) => {
                    self.let_go(number);
                    return Err(error);
                }
            }
        };
        // What is read-only has been counted since the piece was the image's.
        word.fetch_xor(piece.made_ready(host, bits), Ordering::Release);
        self.unready.fetch_sub(1, Ordering::AcqRel);
        Ok(())
    }

    /// Begins to prepare a piece whose word is `piece`; false where the word is another one now, or
    /// somebody else prepares it.
    fn claim(&self, number: u64, piece: Piece) -> bool {
        if piece.has(Piece::BUSY) {
            // Another processor of the hypervisor is at it.
            wait::relax();
            return false;
        }
        let claimed = piece.get() | Piece::BUSY;
        self.pieces.word(number).is_some_and(|word| {
            word.compare_exchange(piece.get(), claimed, Ordering::Acquire, Ordering::Relaxed)
                .is_ok()
        })
    }

    /// Ends that, with nothing done.
    pub(crate) fn let_go(&self, number: u64) {
        if let Some(word) = self.pieces.word(number) {
            word.fetch_and(!Piece::BUSY, Ordering::Release);
        }
    }

    /// The word of a piece whose content is an image's, which nobody maps anew meanwhile; `None` where
    /// it is the partition's own. Its owner holds the range lock, and replaces the word or lets it go.
    pub(crate) fn claim_of_image(&self, number: u64) -> Option<Piece> {
        loop {
            let piece = self.pieces.load(number);
            if !piece.is_of_image() {
                return None;
            }
            if piece.is_ready() || self.claim(number, piece) {
                return Some(piece);
            }
        }
    }

    /// Zeroes up to `pieces` pieces that nobody has touched yet, and passes over [`MOST_PASSED`] that
    /// somebody has; returns how many are left. What comes from a pool is taken when it is needed, and
    /// never before.
    pub(crate) fn populate_some(&self, pieces: u64, ops: &impl PageOps) -> u64 {
        if self.pieces.is_pooled() {
            return self.unready();
        }
        let (mut zeroed, mut passed) = (0, 0);
        while zeroed < pieces && passed < MOST_PASSED && !self.is_fully_ready() {
            let number = self.next_piece.fetch_add(1, Ordering::Relaxed);
            if number >= self.pieces.count() {
                break;
            }
            if self.pieces.load(number).is_ready() {
                passed += 1;
            } else {
                let _ = self.zero_piece(number, None, ops);
                zeroed += 1;
            }
        }
        self.unready()
    }

    /// Sets `bits` of a piece's word, of which [`Piece::GUARDED`] and [`Piece::SHARED`] are counted.
    /// Returns the word as it was.
    pub(crate) fn set_bits(&self, number: u64, bits: u64) -> Piece {
        let Some(word) = self.pieces.word(number) else {
            return Piece::new(0);
        };
        let old = Piece::new(word.fetch_or(bits, Ordering::AcqRel));
        self.count_change(old, Piece::new(old.get() | bits));
        old
    }

    /// Clears `bits` of a piece's word. Returns the word as it was.
    pub(crate) fn clear_bits(&self, number: u64, bits: u64) -> Piece {
        let Some(word) = self.pieces.word(number) else {
            return Piece::new(0);
        };
        let old = Piece::new(word.fetch_and(!bits, Ordering::AcqRel));
        self.count_change(old, Piece::new(old.get() & !bits));
        old
    }

    /// Replaces a piece's word. Returns the word as it was.
    pub(crate) fn replace(&self, number: u64, piece: Piece) -> Piece {
        let Some(word) = self.pieces.word(number) else {
            return Piece::new(0);
        };
        let old = Piece::new(word.swap(piece.get(), Ordering::AcqRel));
        self.count_change(old, piece);
        old
    }

    fn count_change(&self, old: Piece, new: Piece) {
        match (old.is_read_only(), new.is_read_only()) {
            (false, true) => drop(self.guarded.fetch_add(1, Ordering::AcqRel)),
            (true, false) => drop(self.guarded.fetch_sub(1, Ordering::AcqRel)),
            _ => {}
        }
        match (old.is_ready(), new.is_ready()) {
            (false, true) => drop(self.unready.fetch_sub(1, Ordering::AcqRel)),
            (true, false) => drop(self.unready.fetch_add(1, Ordering::AcqRel)),
            _ => {}
        }
    }

    /// Empties all rings: their table has no entries any more.
    pub(crate) fn clear_heads(&self, ops: &impl PageOps) {
        self.heads.clear(ops);
    }

    /// Gives the memory back.
    ///
    /// # Errors
    /// The allocator cannot keep track of so many ranges; the rest is lost.
    pub(crate) fn release(self, allocator: &mut FrameAllocator) -> Result<(), FrameError> {
        let heads = allocator.free(self.heads.into_frames());
        let dirty = allocator.free(self.dirty.into_frames());
        self.pieces.release(allocator).and(heads).and(dirty)
    }
}
