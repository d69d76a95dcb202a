// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The real table and the reverse map, as cells.
//!
//! Loads and stores here are single accesses with the byte order set right, and every store is
//! told to the machine. When each may happen is [`super::guard`]'s business.

use super::HptOrder;
use super::held::{self, Lock};
use crate::frame::{FrameAllocator, FrameError};
use crate::page_ops::{CACHE_BLOCK, PageOps};
use crate::real::{BeCell, RealPair, ReverseCells};
use core::ops::Range;
use core::sync::atomic::Ordering::{Relaxed, Release};
use core::sync::atomic::fence;
use penstock_arch::addr::HostReal;
use penstock_arch::hash::{GuestHpteR, HpteIndex, HpteR, HpteV};
use penstock_arch::tlb::{HpteStore, TlbMaintenance};

/// Bytes of the reverse map for each entry.
pub(super) const REV_BYTES: u64 = size_of::<ReverseCells>() as u64;
/// Bytes of an entry.
pub(super) const HPTE_BYTES: u64 = 16;

/// The two doublewords of an entry, big-endian.
pub(super) type HpteCells = [BeCell; 2];

#[derive(Debug)]
pub(super) struct Table {
    /// The real table, and the reverse map.
    cells: RealPair<HpteCells, ReverseCells>,
}

impl Table {
    pub(super) fn new(
        order: HptOrder,
        allocator: &mut FrameAllocator,
        ops: &impl PageOps,
    ) -> Result<Self, FrameError> {
        let hptes = allocator.alloc(order.bytes(), order.bytes())?;
        let rev_bytes = order.bytes() / HPTE_BYTES * REV_BYTES;
        let rev = match allocator.alloc(rev_bytes, CACHE_BLOCK) {
            Ok(rev) => rev,
            Err(error) => {
                allocator.free(hptes)?;
                return Err(error);
            }
        };
        match RealPair::new(hptes, rev, ops) {
            Ok(cells) => Ok(Self { cells }),
            Err([hptes, rev]) => {
                let rev = allocator.free(rev);
                allocator.free(hptes).and(rev)?;
                Err(FrameError::BadAlignment {
                    base: HostReal::new(0),
                    align: order.bytes(),
                })
            }
        }
    }

    pub(super) fn release(self, allocator: &mut FrameAllocator) -> Result<(), FrameError> {
        let [hptes, rev] = self.cells.into_frames();
        let rev = allocator.free(rev);
        allocator.free(hptes).and(rev)
    }

    pub(super) fn clear(&self, ops: &impl PageOps) {
        self.cells.clear(ops);
    }

    /// Makes the table of size `order`, whatever is in it; `false` where it has less memory. Nobody may use it.
    #[must_use]
    pub(super) fn set_order(&self, order: HptOrder) -> bool {
        self.cells.set_count(order.bytes() / HPTE_BYTES)
    }

    pub(super) fn order(&self) -> HptOrder {
        HptOrder::of_entries(self.count())
    }

    /// Clears up to `bytes` of the entries from byte `from` on, and as much of the reverse map.
    pub(super) fn clear_some(&self, ops: &impl PageOps, from: u64, bytes: u64) {
        self.cells
            .clear_some(ops, from / HPTE_BYTES, bytes / HPTE_BYTES);
    }

    pub(super) const fn base(&self) -> HostReal {
        self.cells.base()
    }

    /// Number of entries, a power of two.
    #[inline]
    pub(super) fn count(&self) -> u64 {
        self.cells.count()
    }

    /// The group that an entry is in, for a search.
    #[inline]
    pub(super) fn group(&self, index: HpteIndex) -> &[HpteCells; 8] {
        self.cells.eight(index.get())
    }

    /// The entry in `slot` of the group that begins at `first`, modulo the size of the table.
    #[inline]
    pub(super) fn wrap(&self, first: HpteIndex, slot: usize) -> HpteIndex {
        HpteIndex::new((first.get() + slot as u64) & (self.count() - 1))
    }

    /// The entries of a range that are not free at a glance; groups that are are passed by at once. What
    /// another processor enters meanwhile may be missing.
    #[inline]
    pub(super) fn in_use(&self, range: Range<u64>) -> impl Iterator<Item = HpteIndex> {
        let Range { start: mut at, end } = range;
        core::iter::from_fn(move || {
            while at < end {
                let index = HpteIndex::new(at);
                if at.is_multiple_of(8) && end - at >= 8 && self.is_group_free(index) {
                    at += 8;
                    continue;
                }
                at += 1;
                if self.entry(index).load_raw_v() != 0 {
                    return Some(index);
                }
            }
            None
        })
    }

    /// Whether the group that an entry is in has nothing but free entries, at a glance.
    #[inline]
    pub(super) fn is_group_free(&self, index: HpteIndex) -> bool {
        let [a, b, c, d, e, f, g, h] = self.group(index);
        let either =
            |[one, _]: &HpteCells, [other, _]: &HpteCells| one.load_raw() | other.load_raw();
        either(a, b) | either(c, d) | either(e, f) | either(g, h) == 0
    }

    /// One entry.
    #[inline]
    pub(super) fn entry(&self, index: HpteIndex) -> Entry<'_> {
        let (cells, rev) = self.cells.at(index.get());
        Entry { index, cells, rev }
    }

    /// The entry with this number, if there is one.
    #[inline]
    pub(super) fn get(&self, index: u64) -> Option<Entry<'_>> {
        let (cells, rev) = self.cells.get(index)?;
        let index = HpteIndex::new(index);
        Some(Entry { index, cells, rev })
    }
}

/// An entry's number as a link holds it. The largest table has 2^32 entries.
#[inline]
const fn link(index: HpteIndex) -> u32 {
    const { assert!(HptOrder::MAX.bytes() / HPTE_BYTES == 1 << 32) };
    #[expect(clippy::cast_possible_truncation, reason = "asserted above")]
    let number = index.get() as u32;
    number
}

/// The cells of one entry.
#[derive(Clone, Copy)]
pub(super) struct Entry<'a> {
    pub(super) index: HpteIndex,
    cells: &'a HpteCells,
    rev: &'a ReverseCells,
}

impl<'a> Entry<'a> {
    #[inline]
    const fn v(self) -> &'a BeCell {
        &self.cells[0]
    }

    #[inline]
    const fn r(self) -> &'a BeCell {
        &self.cells[1]
    }

    #[inline]
    pub(super) fn load_v(self) -> HpteV {
        HpteV::new(self.v().load())
    }

    /// Doubleword 0 as it lies in the table.
    #[inline]
    pub(super) fn load_raw_v(self) -> u64 {
        self.v().load_raw()
    }

    #[inline]
    pub(super) fn load_r(self) -> HpteR {
        HpteR::new(self.r().load())
    }

    #[inline]
    pub(super) fn load_rev(self) -> GuestHpteR {
        GuestHpteR::new(self.rev.guest_r.load(Relaxed))
    }

    /// Fills an entry of a table that no processor uses: no order of stores is to be kept, and no
    /// one is told. `from` is kept where the link to the next entry will be.
    pub(super) fn fill(self, v: HpteV, r: HpteR, guest_r: GuestHpteR, from: HpteIndex) {
        self.v().store(v.get());
        self.r().store(r.get());
        self.store_rev(guest_r);
        self.set_next(from);
    }

    /// The entry's lock must be held.
    #[inline]
    pub(super) fn store_rev(self, r: GuestHpteR) {
        self.rev.guest_r.store(r.get(), Relaxed);
    }

    /// The entry after this one in its ring. The head's lock must be held, as for all links.
    #[inline]
    pub(super) fn next(self) -> HpteIndex {
        HpteIndex::new(u64::from(self.rev.next.load(Relaxed)))
    }

    /// The entry before this one in its ring.
    #[inline]
    pub(super) fn previous(self) -> HpteIndex {
        HpteIndex::new(u64::from(self.rev.previous.load(Relaxed)))
    }

    #[inline]
    pub(super) fn set_next(self, next: HpteIndex) {
        self.rev.next.store(link(next), Relaxed);
    }

    #[inline]
    pub(super) fn set_previous(self, previous: HpteIndex) {
        self.rev.previous.store(link(previous), Relaxed);
    }

    #[inline]
    pub(super) fn set_links(self, next: HpteIndex, previous: HpteIndex) {
        self.set_next(next);
        self.set_previous(previous);
    }

    /// Whether somebody holds the lock, at a glance.
    #[inline]
    pub(super) fn is_locked(self) -> bool {
        self.v().load_raw() & HpteV::HVLOCK.to_be() != 0
    }

    /// Takes the lock unless somebody has it. From then on nobody else changes the entry, but the
    /// processor R and C, if the entry is valid.
    #[inline]
    pub(super) fn try_lock(self) -> bool {
        let free = self.v().set_bit(HpteV::HVLOCK);
        if free {
            held::taken(Lock::Entry);
        }
        free
    }

    /// Takes the lock of an entry whose doubleword 0 is all zero.
    #[inline]
    pub(super) fn lock_free(self) -> bool {
        let free = self.v().replace_zero(HpteV::HVLOCK);
        if free {
            held::taken(Lock::Entry);
        }
        free
    }

    /// Stores doubleword 0 after everything before it. The entry's lock must be held; without the
    /// lock bit in `v` this lets go of it.
    #[inline]
    pub(super) fn store_v(self, tlb: &impl TlbMaintenance, v: HpteV) {
        tlb.hpte_store(HpteStore::V(self.index, v));
        fence(Release);
        self.v().store(v.get());
        if v.get() & HpteV::HVLOCK == 0 {
            held::left(Lock::Entry);
        }
    }

    /// Stores doubleword 1.
    #[inline]
    pub(super) fn store_r(self, tlb: &impl TlbMaintenance, r: HpteR) {
        tlb.hpte_store(HpteStore::R(self.index, r));
        self.r().store(r.get());
    }

    /// Clears R of a valid entry, whose lock is held and whose doubleword 1 is `r`, by a store of
    /// the one byte that holds it.
    #[inline]
    pub(super) fn clear_r_byte(self, tlb: &impl TlbMaintenance, r: HpteR) {
        const BYTE: usize = HpteR::R_BYTE - 8;
        let byte = r.without(HpteR::R).get().to_be_bytes()[BYTE];
        tlb.hpte_store(HpteStore::RByte(self.index, byte));
        self.r().store_byte(BYTE, byte);
    }

    /// Plays hardware: stores byte `number` of doubleword 1.
    #[cfg(test)]
    pub(super) fn hardware_stores_byte(self, number: usize, byte: u8) {
        self.r().store_byte(number, byte);
    }

    /// Plays hardware: sets bits of doubleword 1.
    #[cfg(test)]
    pub(super) fn hardware_sets(self, bits: u64) {
        self.r().set_bit(bits);
    }
}
