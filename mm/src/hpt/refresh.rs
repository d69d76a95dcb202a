// SPDX-License-Identifier: Apache-2.0 OR MIT
//! From a change of a slot's state to translations that agree with it.
//!
//! Whoever takes something away (a right to store, a page, a frame) changes the pieces' words first,
//! then hides the entries that say more than they now may, flushes once, and lets each entry say what
//! is true. Hiding returns an [`Obligation`]: a weakened translation that processors may still use.
//! Only its flush ends it, and only the proof of that flush, [`Flushed`], lets a frame be used anew.
//! Obligations grow by further ranges; few entries are invalidated one by one, many by one
//! invalidation of the whole partition.
//!
//! While an obligation is open its entries are absent, marked, and not locked: a guest's call or
//! fault that meets one flushes it by itself. One obligation of a partition is open at a time.
//!
//! Power ISA 3.0B, Book III, Page Table Update Synchronization Requirements.

use super::HashMmu;
use super::guard::HpteGuard;
use super::held::{self, Lock};
use super::place::Place;
use super::ring::{self, Ring};
use crate::guest_memory::SlotId;
use crate::page_ops::Machine;
use crate::pool::NoFrame;
use crate::real::{PIECE, Piece};
use crate::slot::{GRANULE, Slot};
use arrayvec::ArrayVec;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use penstock_arch::hash::{HpteIndex, PageSize, TlbieRb};
use penstock_arch::wait;

/// Entries that are invalidated one by one; above, one invalidation of the partition replaces them.
pub const FLUSH_ALL_ABOVE: usize = 32;

/// Ranges that an obligation keeps apart; further ones are joined with the last.
const RANGES: usize = 8;

/// The proof that no processor uses any translation that was hidden before.
#[derive(Debug)]
pub struct Flushed {
    hidden: u64,
}

impl Flushed {
    /// After an invalidation of all that the partition has.
    pub(super) const fn partition() -> Self {
        Self { hidden: 0 }
    }

    /// For memory that no page table has ever mapped.
    pub(crate) const fn never_mapped() -> Self {
        Self { hidden: 0 }
    }

    /// How many entries had been hidden.
    #[must_use]
    pub const fn hidden(&self) -> u64 {
        self.hidden
    }
}

/// The range lock, held: nobody else hides entries of ranges, and the table is not exchanged.
#[must_use = "the lock is let go at once"]
pub(super) struct RangeGuard<'a>(&'a AtomicBool);

impl Drop for RangeGuard<'_> {
    #[inline]
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
        held::left(Lock::Range);
    }
}

/// Hidden entries whose translations processors may still use.
#[must_use = "the translations are in use until this is flushed"]
pub struct Obligation<'a, M: Machine> {
    mmu: &'a HashMmu<M>,
    /// Let go last, after what is left has been finished.
    _range_lock: RangeGuard<'a>,
    ranges: ArrayVec<Range<'a>, RANGES>,
    operands: ArrayVec<Option<TlbieRb>, FLUSH_ALL_ABOVE>,
    hidden: u64,
    /// Those of them that have not been flushed.
    unflushed: usize,
}

/// A part of a slot.
#[derive(Clone, Copy)]
struct Range<'a> {
    slot: &'a Slot,
    offset: u64,
    len: u64,
}

/// Which heads a walk may pass over.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Heads {
    /// None: an entry that is being added must see the change, or be seen.
    All,
    /// Those that look empty.
    Occupied,
}

impl<M: Machine> HashMmu<M> {
    /// Calls `each` with each entry whose page has a byte in the range, locked. It must not wait,
    /// and must do nothing twice that cannot be done twice: a ring may be walked again.
    pub(super) fn walk<'a>(
        &'a self,
        slot: &'a Slot,
        offset: u64,
        len: u64,
        heads: Heads,
        each: &mut dyn FnMut(HpteGuard<'a, M>, Place<'a>),
    ) {
        let end = offset.saturating_add(len).min(slot.bytes());
        if offset >= end {
            return;
        }
        let start = offset / GRANULE * GRANULE;
        // Larger pages that begin before the range.
        let mut above = start;
        for size in [PageSize::P64K, PageSize::P16M] {
            // None of these may map the slot.
            if size > slot.largest() {
                break;
            }
            let guest = slot.base().get() + start;
            let head = (guest & !(size.bytes() - 1)).checked_sub(slot.base().get());
            if let Some(head) = head
                && head < above
            {
                self.walk_ring(slot, head, (offset, len), heads, each);
                above = head;
            }
        }
        let mut at = start;
        while at < end {
            self.walk_ring(slot, at, (offset, len), heads, each);
            at += GRANULE;
        }
    }

    /// Walks the ring whose head is at `at`, if there is anything in it: mostly there is nothing.
    #[inline]
    fn walk_ring<'a>(
        &'a self,
        slot: &'a Slot,
        at: u64,
        range: (u64, u64),
        heads: Heads,
        each: &mut dyn FnMut(HpteGuard<'a, M>, Place<'a>),
    ) {
        let Some(head) = slot.head(at) else {
            return;
        };
        if heads == Heads::Occupied && ring::is_idle(head) {
            return;
        }
        let ring = Ring::lock(head);
        if ring.first().is_some() {
            self.walk_occupied(head, ring, range, each);
        }
    }

    #[inline(never)]
    fn walk_occupied<'a>(
        &'a self,
        head: &'a AtomicU64,
        ring: Ring<'a>,
        (offset, len): (u64, u64),
        each: &mut dyn FnMut(HpteGuard<'a, M>, Place<'a>),
    ) {
        let mut locked = Some(ring);
        'again: loop {
            let ring = locked.take().unwrap_or_else(|| Ring::lock(head));
            let Some(first) = ring.first() else {
                return;
            };
            let mut index = first;
            loop {
                let Some(guard) = self.try_lock(index) else {
                    // Its holder may wait for this head.
                    drop(ring);
                    self.wait_for(index);
                    continue 'again;
                };
                let place = self.place(guard.v(), guard.guest_r());
                if let Some(place) = place
                    && place.overlaps(offset, len)
                {
                    each(guard, place);
                }
                index = self.table().entry(index).next();
                if index == first {
                    return;
                }
            }
        }
    }

    #[cold]
    fn wait_for_range_lock(&self) {
        while self.range_lock.swap(true, Ordering::Acquire) {
            while self.range_lock.load(Ordering::Relaxed) {
                wait::relax();
            }
        }
    }

    /// Takes the range lock, and waits where somebody else has it.
    pub(super) fn lock_range(&self) -> RangeGuard<'_> {
        held::wanted(Lock::Range);
        if self.range_lock.swap(true, Ordering::Acquire) {
            self.wait_for_range_lock();
        }
        held::taken(Lock::Range);
        RangeGuard(&self.range_lock)
    }

    fn wait_for(&self, index: HpteIndex) {
        held::wanted(Lock::Entry);
        while self.table().entry(index).is_locked() {
            wait::relax();
        }
    }

    /// An obligation with nothing in it; waits while another is open.
    pub(super) fn obligation(&self) -> Obligation<'_, M> {
        Obligation {
            mmu: self,
            _range_lock: self.lock_range(),
            ranges: ArrayVec::new(),
            operands: ArrayVec::new(),
            hidden: 0,
            unflushed: 0,
        }
    }

    /// Takes the right to store to the pieces of a range from the hardware, while to the guest
    /// nothing changes: its next store to a piece comes to the hypervisor, which grants it and marks
    /// the piece as written. A piece that is guarded already stays so.
    ///
    /// An empty range, or one outside the slot, guards nothing.
    pub fn protect(&self, slot: SlotId, offset: u64, len: u64) -> Obligation<'_, M> {
        let obligation = self.obligation();
        obligation.and_protect(slot, offset, len)
    }

    /// Gives the right to store back, where the guest has it.
    pub fn unprotect(&self, slot: SlotId, offset: u64, len: u64) {
        if let Some(slot) = self.memory.slot(slot) {
            let _ = self
                .obligation()
                .and_change(slot, offset, len, |slot, number| {
                    slot.clear_bits(number, Piece::GUARDED)
                })
                .flush();
        }
    }

    /// Makes the hypervisor forget the page of a device at `offset` into a slot of devices, or gives
    /// it another one, at the multiple of 64 KiB `page`: no translation to the old one is left.
    ///
    /// # Errors
    /// `None`: there is no such slot of devices, or no such page in it, or `page` is 0 or unaligned.
    pub fn set_device_page(
        &self,
        slot: SlotId,
        offset: u64,
        page: Option<penstock_arch::addr::HostReal>,
    ) -> Option<Flushed> {
        let slot = self.memory.slot(slot)?;
        let bad = page.is_some_and(|page| page.get() == 0 || !page.is_aligned(PIECE));
        if !slot.pieces().is_device() || offset >= slot.bytes() || bad {
            return None;
        }
        let piece = match page {
            Some(page) => Piece::at(page, Piece::READY),
            None => Piece::new(0),
        };
        let offset = offset / PIECE * PIECE;
        let obligation = self
            .obligation()
            .and_change(slot, offset, PIECE, |slot, number| {
                slot.replace(number, piece)
            });
        Some(obligation.flush())
    }

    /// The page of a device at `offset` into a slot of devices, if the hypervisor has given it one.
    #[must_use]
    pub fn device_page(&self, slot: SlotId, offset: u64) -> Option<penstock_arch::addr::HostReal> {
        let slot = self.memory.slot(slot)?;
        if !slot.pieces().is_device() || offset >= slot.bytes() {
            return None;
        }
        let piece = slot.pieces().load(offset / PIECE);
        piece.is_ready().then(|| piece.host())
    }

    /// Lets two pieces of a block of memory change places in host memory: the guest sees the same
    /// bytes, but the block is no 16 MiB page any more, and what maps it as one is hidden. For tests
    /// of what happens when backing changes. No vCPU may be in the guest.
    ///
    /// # Errors
    /// `None`: the pieces are not two of the same block of memory.
    pub fn scatter(&self, first: u64, second: u64) -> Option<Flushed> {
        use crate::real::PIECES_PER_BLOCK;
        let slot = self.memory.ram();
        let block = first / PIECES_PER_BLOCK;
        if first == second
            || second / PIECES_PER_BLOCK != block
            || first >= slot.pieces().count()
            || !slot.pieces().load(first).has(Piece::LARGE)
        {
            return None;
        }
        let span = |number| slot.pieces().span(number * PIECE, PIECE);
        let (first_span, second_span) = (span(first)?, span(second)?);
        let range = (block * PIECES_PER_BLOCK * PIECE, PIECES_PER_BLOCK * PIECE);
        self.memory.populate_slot(slot, range.0, range.1).ok()?;
        self.veil_more(1);
        // Nobody stores to the block while its pieces move.
        let obligation = self
            .obligation()
            .and_change(slot, range.0, range.1, |slot, number| {
                slot.clear_bits(number, Piece::READY | Piece::LARGE)
            });
        let _ = obligation.flush();
        let (a, b) = (slot.pieces().load(first), slot.pieces().load(second));
        first_span.swap_words(second_span);
        // Guards belong to the guest's pages, and stay.
        slot.replace(first, Piece::at(b.host(), a.get()));
        slot.replace(second, Piece::at(a.host(), b.get()));
        let obligation = self
            .obligation()
            .and_change(slot, range.0, range.1, |slot, number| {
                slot.set_bits(number, Piece::READY)
            });
        let flushed = obligation.flush();
        self.veil_less(1);
        Some(flushed)
    }

    /// Grants a store of the guest to a guarded page, or to one that is shared, which becomes the
    /// partition's own.
    ///
    /// # Errors
    /// There is no frame to be had; nothing has changed.
    #[cold]
    pub(super) fn grant(&self, place: &Place<'_>) -> Result<(), NoFrame> {
        let len = place.size().bytes();
        if place.slot.pieces().is_pooled() {
            for number in place.slot.pieces_of(place.offset, len) {
                self.make_own(place.slot, number, 0)?;
            }
        }
        place.slot.mark_dirty(place.offset, len);
        if !place.state().is_read_only() {
            return Ok(());
        }
        let _ = self
            .obligation()
            .and_change(place.slot, place.offset, len, |slot, number| {
                slot.clear_bits(number, Piece::GUARDED)
            })
            .flush();
        Ok(())
    }
}

impl<'a, M: Machine> Obligation<'a, M> {
    /// The same for a further range: see [`HashMmu::protect`].
    pub fn and_protect(self, slot: SlotId, offset: u64, len: u64) -> Self {
        match self.mmu.memory.slot(slot) {
            Some(slot) => self.and_change(slot, offset, len, |slot, number| {
                slot.set_bits(number, Piece::GUARDED)
            }),
            None => self,
        }
    }

    /// Changes the words of all pieces that a range touches by `change`, which returns the old word, and
    /// hides the entries that say something else than the new ones permit.
    pub(super) fn and_change(
        self,
        slot: &'a Slot,
        offset: u64,
        len: u64,
        change: impl Fn(&Slot, u64) -> Piece,
    ) -> Self {
        let pieces = slot.pieces_of(offset, len);
        let (offset, len) = (pieces.start * PIECE, (pieces.end - pieces.start) * PIECE);
        // Guarded pieces are counted, and before anything is taken away.
        self.mmu.veil_more(1);
        for number in pieces {
            let was = change(slot, number).is_read_only();
            match (was, slot.pieces().load(number).is_read_only()) {
                (false, true) => self.mmu.veil_more(1),
                (true, false) => self.mmu.veil_less(1),
                _ => {}
            }
        }
        let this = self.and_hide(slot, offset, len, Heads::All, |guard, place| {
            let wanted = place.wanted(guard.guest_r(), guard.r().segment(), place.state());
            let rc = penstock_arch::hash::HpteR::R | penstock_arch::hash::HpteR::C;
            if guard.v().is_valid() {
                !wanted.visible || guard.r().without(rc) != wanted.r.without(rc)
            } else {
                // What was absent may now be shown.
                wanted.visible
            }
        });
        this.mmu.veil_less(1);
        this
    }

    /// Hides the valid entries of a range that `which` chooses, and remembers the range; absent
    /// entries that it chooses are looked at again at the flush.
    pub(super) fn and_hide(
        mut self,
        slot: &'a Slot,
        offset: u64,
        len: u64,
        heads: Heads,
        which: impl Fn(&HpteGuard<'_, M>, &Place<'_>) -> bool,
    ) -> Self {
        let mmu = self.mmu;
        let mut chosen = 0_u64;
        // Threads leave the guest before a lock is taken here: one that waits for that lock, in a
        // call of its guest's, would never leave.
        mmu.veil_more(1);
        mmu.walk(slot, offset, len, heads, &mut |guard, place| {
            if !which(&guard, &place) {
                return;
            }
            chosen += 1;
            if guard.v().is_valid() {
                let r = guard.r();
                let rb = guard.hide_unflushed(r);
                // Where there is no room any more, all is flushed.
                let _ = self.operands.try_push(rb);
                self.hidden += 1;
                self.unflushed += 1;
            }
        });
        mmu.veil_less(1);
        if chosen != 0 {
            self.remember(Range { slot, offset, len });
        }
        self
    }

    fn remember(&mut self, range: Range<'a>) {
        let Err(full) = self.ranges.try_push(range) else {
            return;
        };
        let range = full.element();
        match self.ranges.last_mut() {
            Some(last) if core::ptr::eq(last.slot, range.slot) => {
                let start = last.offset.min(range.offset);
                let end = (last.offset + last.len).max(range.offset + range.len);
                last.offset = start;
                last.len = end - start;
            }
            // Ranges of several slots, and no room: what is remembered so far is finished now.
            _ => {
                self.finish();
                let _ = self.ranges.try_push(range);
            }
        }
    }

    /// Waits until no processor uses the translations, and lets the entries say what is true.
    pub fn flush(mut self) -> Flushed {
        self.finish();
        Flushed {
            hidden: self.hidden,
        }
    }

    /// How many entries are hidden.
    #[must_use]
    pub const fn hidden(&self) -> u64 {
        self.hidden
    }

    fn finish(&mut self) {
        let mmu = self.mmu;
        if self.unflushed > self.operands.len() {
            mmu.flush([None]);
        } else if !self.operands.is_empty() {
            mmu.flush(self.operands.iter().copied());
        }
        self.operands.clear();
        self.unflushed = 0;
        for range in self.ranges.drain(..) {
            let Range { slot, offset, len } = range;
            mmu.walk(slot, offset, len, Heads::Occupied, &mut |guard, _| {
                if guard.v().is_unflushed() {
                    // No obligation but this one marks entries, and all of its were flushed.
                    guard.flushed_elsewhere().settle();
                } else if guard.v().is_absent() {
                    let r = guard.r();
                    guard.quiesce(r).settle();
                }
            });
        }
    }
}

impl<M: Machine> Drop for Obligation<'_, M> {
    fn drop(&mut self) {
        self.finish();
    }
}
