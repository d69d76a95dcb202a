// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The states that an entry goes through while the hypervisor works on it, as types.
//!
//! [`HpteGuard`]: locked, otherwise as found; dropping it unlocks. [`Hidden`]: locked, V=0, but
//! processors may still use the translation and write R and C. [`Quiesced`]: locked, V=0, and
//! nobody uses it any more: only here doubleword 1 can be stored, and only here R and C are final.
//! From a valid entry the way to [`Quiesced`] leads through a flush and nowhere else.

use super::HashMmu;
use super::held::{self, Lock};
use super::place::Place;
use super::ring::Ring;
use super::table::Entry;
use crate::page_ops::Machine;
use arrayvec::ArrayVec;
use penstock_arch::hash::{GuestHpteR, GuestHpteV, HpteIndex, HpteR, HpteV, TlbieRb};
use penstock_arch::wait;

/// Entries that a batch of invalidations takes where its owner says nothing else: what
/// H_BULK_REMOVE has.
const BATCH: usize = 4;

/// A locked entry, unchanged so far.
pub(super) struct HpteGuard<'a, M: Machine> {
    mmu: &'a HashMmu<M>,
    entry: Entry<'a>,
    /// Doubleword 0 without the lock bit.
    v: HpteV,
}

/// A locked entry with V=0 whose translation has not been flushed.
#[must_use = "the translation is still in use until it is flushed"]
pub(super) struct Hidden<'a, M: Machine> {
    mmu: &'a HashMmu<M>,
    entry: Entry<'a>,
    v: HpteV,
    /// `None` where the entry has no valid page size: then all of the partition is flushed.
    rb: Option<TlbieRb>,
}

/// A locked entry with V=0 that no processor uses.
#[must_use = "the entry stays locked until it is finished, cleared or installed"]
pub(super) struct Quiesced<'a, M: Machine> {
    mmu: &'a HashMmu<M>,
    entry: Entry<'a>,
    /// Doubleword 0 as it was before, without the lock bit.
    v: HpteV,
}

impl<M: Machine> HashMmu<M> {
    /// Locks an entry, waiting for whoever has it.
    #[inline]
    pub(super) fn lock(&self, index: HpteIndex) -> HpteGuard<'_, M> {
        self.lock_entry(self.table().entry(index))
    }

    /// The same for an entry that a guest names; `None` where the table does not have it.
    #[inline]
    pub(super) fn lock_named(&self, ptex: u64) -> Option<HpteGuard<'_, M>> {
        self.table().get(ptex).map(|entry| self.lock_entry(entry))
    }

    /// Locks an entry, waiting for whoever has it.
    #[inline]
    pub(super) fn lock_entry<'a>(&'a self, entry: Entry<'a>) -> HpteGuard<'a, M> {
        held::wanted(Lock::Entry);
        if !entry.try_lock() {
            wait_for_lock(entry);
        }
        self.guard(entry)
    }

    /// Locks an entry unless somebody has it.
    #[inline]
    pub(super) fn try_lock(&self, index: HpteIndex) -> Option<HpteGuard<'_, M>> {
        self.try_lock_entry(self.table().entry(index))
    }

    /// Locks an entry unless somebody has it.
    #[inline]
    pub(super) fn try_lock_entry<'a>(&'a self, entry: Entry<'a>) -> Option<HpteGuard<'a, M>> {
        entry.try_lock().then(|| self.guard(entry))
    }

    /// An entry whose lock has just been taken.
    #[inline]
    fn guard<'a>(&'a self, entry: Entry<'a>) -> HpteGuard<'a, M> {
        let v = entry.load_v().without(HpteV::HVLOCK);
        HpteGuard {
            mmu: self,
            entry,
            v,
        }
    }

    /// Locks an entry that the guest does not have, without waiting.
    #[inline]
    pub(super) fn try_lock_free(&self, index: HpteIndex) -> Option<Quiesced<'_, M>> {
        let entry = self.table().entry(index);
        entry.lock_free().then_some(Quiesced {
            mmu: self,
            entry,
            v: HpteV::new(0),
        })
    }
}

impl<M: Machine> HashMmu<M> {
    /// Replaces the guest's doubleword 1 of an entry whose lock is held, and marks the entry where
    /// that changed anything.
    #[inline]
    fn replace_guest_r(&self, entry: Entry<'_>, r: GuestHpteR) {
        if self.changes.is_read() {
            self.replace_and_mark(entry, r);
        } else {
            entry.store_rev(r);
        }
    }

    /// Notes that the page of an entry was written, as its final doubleword 1 `r` says, before C is
    /// cleared.
    // Takes no reference to the guard, which would have to be in memory then.
    #[cold]
    #[inline(never)]
    pub(super) fn note_change(&self, v: HpteV, guest_r: GuestHpteR, r: HpteR) {
        if r.get() & HpteR::C != 0
            && let Some(place) = self.place(v, guest_r)
        {
            place.slot.mark_dirty(place.offset, place.size().bytes());
        }
    }

    #[cold]
    #[inline(never)]
    fn replace_and_mark(&self, entry: Entry<'_>, r: GuestHpteR) {
        let changed = entry.load_rev() != r;
        entry.store_rev(r);
        if changed {
            self.changes.mark(entry.index);
        }
    }
}

/// Waits until the lock is ours.
#[cold]
fn wait_for_lock(entry: Entry<'_>) {
    loop {
        while entry.is_locked() {
            wait::relax();
        }
        if entry.try_lock() {
            return;
        }
    }
}

impl<'a, M: Machine> HpteGuard<'a, M> {
    /// Doubleword 0, without the lock bit.
    #[inline]
    pub(super) const fn v(&self) -> HpteV {
        self.v
    }

    /// Doubleword 0 as it lies in the table, the lock bit included.
    #[inline]
    pub(super) fn raw_v(&self) -> u64 {
        self.entry.load_raw_v()
    }

    /// Doubleword 1 at this moment; a valid entry's R and C change under our hands.
    #[inline]
    pub(super) fn r(&self) -> HpteR {
        self.entry.load_r()
    }

    /// Doubleword 0 as the guest sees it.
    #[inline]
    pub(super) fn guest_v(&self) -> GuestHpteV {
        self.v.to_guest(self.r())
    }

    /// The guest's doubleword 1, with the R and C collected before.
    #[inline]
    pub(super) fn guest_r(&self) -> GuestHpteR {
        self.entry.load_rev()
    }

    /// Replaces the guest's doubleword 1.
    #[inline]
    pub(super) fn set_guest_r(&self, r: GuestHpteR) {
        self.mmu.replace_guest_r(self.entry, r);
    }

    /// Clears R of a valid entry, whose doubleword 1 is `r`, in place, and flushes.
    #[inline]
    pub(super) fn clear_r(&self, r: HpteR) {
        let machine = self.mmu.machine();
        self.entry.clear_r_byte(machine, r);
        let rb = TlbieRb::of(self.v, r, self.entry.index);
        self.mmu.flush_after_r_clear(rb);
    }

    /// Hides a valid entry, whose doubleword 1 is `r` but for R and C, from the hardware. To the
    /// guest it still looks valid.
    #[inline(always)]
    pub(super) fn hide(self, r: HpteR) -> Hidden<'a, M> {
        let rb = TlbieRb::of(self.v, r, self.entry.index);
        self.hide_with(rb)
    }

    /// The same where what invalidates it is known.
    #[inline(always)]
    fn hide_with(self, rb: Option<TlbieRb>) -> Hidden<'a, M> {
        let (mmu, entry, v) = self.into_parts();
        let hidden = v.without(HpteV::VALID).with(HpteV::ABSENT | HpteV::HVLOCK);
        entry.store_v(mmu.machine(), hidden);
        Hidden { mmu, entry, v, rb }
    }

    /// Makes an absent entry valid whose doubleword 1 says what is true, and unlocks: no processor
    /// has used it since that was stored, so there is nothing to flush.
    #[inline]
    pub(super) fn reveal(self) {
        let (mmu, entry, v) = self.into_parts();
        let machine = mmu.machine();
        machine.eieio();
        entry.store_v(machine, v.without(HpteV::ABSENT).with(HpteV::VALID));
        machine.ptesync();
        mmu.veil_less(1);
    }

    /// Clears R of a valid entry, whose doubleword 1 is `r`, in place; the caller flushes later,
    /// with many others.
    pub(super) fn clear_r_unflushed(&self, r: HpteR) {
        self.entry.clear_r_byte(self.mmu.machine(), r);
    }

    /// Hides a valid entry, whose doubleword 1 is `r` but for R and C, and unlocks: it stays
    /// marked until somebody has flushed it. Returns what invalidates it.
    pub(super) fn hide_unflushed(self, r: HpteR) -> Option<TlbieRb> {
        let (mmu, entry, v) = self.into_parts();
        mmu.veil_more(1);
        let rb = TlbieRb::of(v, r, entry.index);
        let hidden = HpteV::ABSENT | HpteV::UNFLUSHED;
        entry.store_v(mmu.machine(), v.without(HpteV::VALID).with(hidden));
        rb
    }

    /// An absent entry whose translation the caller has flushed since it was hidden.
    pub(super) fn flushed_elsewhere(self) -> Quiesced<'a, M> {
        let (mmu, entry, v) = self.into_parts();
        let v = v.without(HpteV::UNFLUSHED);
        Quiesced { mmu, entry, v }
    }

    /// Brings the entry, whose doubleword 1 is `r` but for R and C, to where nobody uses it: a
    /// valid one by hiding and flushing, any other just so.
    // A call would store and load more than there is to do.
    #[inline(always)]
    pub(super) fn quiesce(self, r: HpteR) -> Quiesced<'a, M> {
        if self.v.is_valid() {
            self.hide(r).flush()
        } else {
            if self.v.is_unflushed() {
                self.flush_hidden(r);
            }
            self.flushed_elsewhere()
        }
    }

    /// Has nobody use an entry any more that was hidden before, whose doubleword 1 is `r`.
    #[cold]
    #[inline(never)]
    fn flush_hidden(&self, r: HpteR) {
        let rb = TlbieRb::of(self.v, r, self.entry.index);
        self.mmu.flush_one(rb);
    }

    #[inline]
    fn into_parts(self) -> (&'a HashMmu<M>, Entry<'a>, HpteV) {
        let parts = (self.mmu, self.entry, self.v);
        core::mem::forget(self);
        parts
    }
}

impl<M: Machine> Drop for HpteGuard<'_, M> {
    #[inline]
    fn drop(&mut self) {
        self.entry.store_v(self.mmu.machine(), self.v);
    }
}

impl<'a, M: Machine> Hidden<'a, M> {
    /// Waits until no processor uses the translation.
    #[inline(always)]
    pub(super) fn flush(self) -> Quiesced<'a, M> {
        self.mmu.flush_one(self.rb);
        Quiesced {
            mmu: self.mmu,
            entry: self.entry,
            v: self.v,
        }
    }
}

/// Hidden entries of one table that wait for one flush, each with something of the caller's.
///
/// It keeps as little as possible, and gives its entries out one by one: moving all at once would
/// be a memcpy of hundreds of bytes.
pub(super) struct Batch<'a, M: Machine, T, const N: usize = BATCH> {
    mmu: &'a HashMmu<M>,
    waiting: ArrayVec<Waiting<'a, T>, N>,
}

struct Waiting<'a, T> {
    entry: Entry<'a>,
    v: HpteV,
    rb: TlbieRb,
    tag: T,
}

impl<'a, M: Machine, T, const N: usize> Batch<'a, M, T, N> {
    #[inline]
    pub(super) const fn new(mmu: &'a HashMmu<M>) -> Self {
        Self {
            mmu,
            waiting: ArrayVec::new_const(),
        }
    }

    /// Takes a valid entry, whose doubleword 1 is `r` but for R and C, and hides it. Where the
    /// batch is full, or nothing invalidates the entry alone, it is flushed by itself and given to
    /// `each`.
    #[inline]
    pub(super) fn hide(
        &mut self,
        guard: HpteGuard<'a, M>,
        r: HpteR,
        tag: T,
        each: impl FnOnce(Quiesced<'a, M>, T),
    ) {
        let rb = TlbieRb::of(guard.v, r, guard.entry.index);
        self.hide_with(guard, rb, tag, each);
    }

    /// The same where what invalidates the entry is known.
    #[inline(always)]
    pub(super) fn hide_with(
        &mut self,
        guard: HpteGuard<'a, M>,
        rb: Option<TlbieRb>,
        tag: T,
        each: impl FnOnce(Quiesced<'a, M>, T),
    ) {
        let Hidden { mmu, entry, v, rb } = guard.hide_with(rb);
        match rb {
            Some(rb) => {
                let waiting = Waiting { entry, v, rb, tag };
                if let Err(full) = self.waiting.try_push(waiting) {
                    let tag = full.element().tag;
                    let rb = Some(rb);
                    each(Hidden { mmu, entry, v, rb }.flush(), tag);
                }
            }
            None => each(Hidden { mmu, entry, v, rb }.flush(), tag),
        }
    }

    /// Whether the next entry would be flushed by itself.
    #[inline]
    pub(super) const fn is_full(&self) -> bool {
        self.waiting.is_full()
    }

    /// Waits until no processor uses any of the translations, and hands the entries out, the last one
    /// first.
    #[inline]
    pub(super) fn flush(&mut self, each: impl FnMut(Quiesced<'a, M>, T)) {
        if self.waiting.is_empty() {
            return;
        }
        self.mmu
            .flush_some(self.waiting.iter().map(|waiting| waiting.rb));
        self.hand_out(each);
    }

    /// The same by one invalidation of all that the partition has.
    #[inline]
    pub(super) fn flush_partition(&mut self, each: impl FnMut(Quiesced<'a, M>, T)) {
        if self.waiting.is_empty() {
            return;
        }
        self.mmu.flush_partition();
        self.hand_out(each);
    }

    #[inline]
    fn hand_out(&mut self, mut each: impl FnMut(Quiesced<'a, M>, T)) {
        let mmu = self.mmu;
        for Waiting { entry, v, tag, .. } in self.waiting.drain(..).rev() {
            each(Quiesced { mmu, entry, v }, tag);
        }
    }
}

impl<M: Machine> Quiesced<'_, M> {
    /// Doubleword 1, final.
    #[inline]
    pub(super) fn r(&self) -> HpteR {
        self.entry.load_r()
    }

    /// The guest's doubleword 1, with the R and C collected before.
    #[inline]
    pub(super) fn guest_r(&self) -> GuestHpteR {
        self.entry.load_rev()
    }

    /// Replaces doubleword 1.
    #[inline]
    pub(super) fn set_r(&mut self, r: HpteR) {
        self.entry.store_r(self.mmu.machine(), r);
    }

    /// Stores the guest's doubleword 1 of an entry that is new to the guest.
    #[inline]
    pub(super) fn set_new_guest_r(&mut self, r: GuestHpteR) {
        self.entry.store_rev(r);
        self.mmu.changes.mark(self.entry.index);
    }

    /// Replaces the guest's doubleword 1.
    #[inline]
    pub(super) fn set_guest_r(&mut self, r: GuestHpteR) {
        self.mmu.replace_guest_r(self.entry, r);
    }

    /// Puts doubleword 0 back as it was, and unlocks.
    #[inline]
    pub(super) fn finish(self) {
        let v = self.v;
        self.install(v);
    }

    /// Stores doubleword 0, without the lock bit, and unlocks; if it is valid, the hardware sees
    /// all of the entry from now on.
    #[inline]
    pub(super) fn install(self, v: HpteV) {
        let machine = self.mmu.machine();
        machine.eieio();
        self.entry.store_v(machine, v);
        machine.ptesync();
    }

    /// Adds the entry to the ring of its page.
    #[inline]
    pub(super) fn link(&self, place: &Place<'_>) {
        if let Some(head) = place.slot.head(place.offset) {
            Ring::lock(head).link(self.mmu.table(), self.entry);
        }
    }

    /// Takes the entry out of the ring of its page, and notes what its final R and C, in `r`, say of
    /// the page.
    #[inline(always)]
    fn unlink(&self, r: HpteR, guest_r: GuestHpteR) {
        let Some((slot, offset)) = self.mmu.ring_of(self.v, guest_r) else {
            return;
        };
        if slot.is_special() {
            self.mmu.note_change(self.v, guest_r, r);
        }
        if let Some(head) = slot.head(offset) {
            let referenced = r.get() & HpteR::R != 0;
            Ring::lock(head).unlink(|| self.mmu.table(), self.entry, referenced);
        }
    }

    /// Removes what the guest had here: the entry leaves its ring, and is as if free, but locked.
    /// Returns the guest's doubleword 1 with its final R and C.
    // A call would save and load more registers than there is to do.
    #[inline(always)]
    pub(super) fn retire(&mut self) -> GuestHpteR {
        let (r, guest_r) = (self.r(), self.guest_r());
        self.unlink(r, guest_r);
        if self.v.is_absent() {
            self.mmu.veil_less(1);
        }
        self.v = HpteV::new(0);
        self.mmu.changes.mark(self.entry.index);
        GuestHpteR::new(guest_r.get() | r.rc())
    }

    /// Makes the entry what its page's state asks for: valid, read-only, or absent; with the R and
    /// C of the hardware collected. Whether the hardware may use it now.
    pub(super) fn settle(self) -> bool {
        self.settle_without(0)
    }

    /// The same, but `dropped` of the hardware's R and C is not collected.
    pub(super) fn settle_without(mut self, dropped: u64) -> bool {
        let rc = self.r().rc() & !dropped;
        let guest_r = GuestHpteR::new(self.guest_r().get() | rc);
        let Some(place) = self.mmu.place(self.v, guest_r) else {
            self.finish();
            return false;
        };
        if rc & HpteR::C != 0 {
            place.slot.mark_dirty(place.offset, place.size().bytes());
        }
        let wanted = place.wanted(guest_r, self.r().segment(), place.state());
        self.set_guest_r(guest_r);
        if wanted.r != self.r() {
            self.set_r(wanted.r);
        }
        let (was, mmu) = (self.v, self.mmu);
        let v = was.without(HpteV::VALID | HpteV::ABSENT);
        if wanted.visible {
            self.install(v.with(HpteV::VALID));
            if was.is_absent() {
                mmu.veil_less(1);
            }
        } else {
            if !was.is_absent() {
                mmu.veil_more(1);
            }
            self.install(v.with(HpteV::ABSENT));
        }
        wanted.visible
    }

    /// The partition's hash MMU.
    #[inline]
    pub(super) const fn mmu(&self) -> &HashMmu<M> {
        self.mmu
    }

    /// Removes the entry: doubleword 0 becomes all zero, and unlocked.
    #[inline]
    pub(super) fn clear(self) {
        self.entry.store_v(self.mmu.machine(), HpteV::new(0));
    }
}
