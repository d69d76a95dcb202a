// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The table search, as the hardware does it, but for absent entries too.
//!
//! Most faults of a guest find nothing, so looking comes first and is short: eight compares a
//! group, in memory's byte order, without a lock. What looks right is then locked and compared in
//! full.
//!
//! Power ISA 3.0B, Book III, Page Table Search.

use super::HashMmu;
use super::guard::HpteGuard;
use super::table::HpteCells;
use crate::page_ops::Machine;
use crate::real::BeCell;
use penstock_arch::addr::EffectiveAddr;
use penstock_arch::hash::{
    Asdr, HPTES_PER_GROUP, HpteIndex, HpteR, HpteV, PageSize, SegmentSize, pteg_hash,
};

/// What a translation's doubleword 0 looks like, and where it may be.
#[derive(Clone, Copy)]
pub(super) struct Search {
    /// AVPN and L, big-endian; H is clear.
    pattern: u64,
    /// The bits that must agree, big-endian.
    mask: u64,
    base: PageSize,
    segment: SegmentSize,
    hash: u64,
}

/// An entry that looks right: the group that it was found in, and its slot.
#[derive(Clone, Copy)]
pub(super) struct Candidate {
    group: Group,
    slot: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Group {
    Primary,
    Secondary,
}

/// The bits of doubleword 0 that must agree, big-endian. In a 4 KiB segment L is clear for 4 KiB pages
/// and set for larger ones.
#[inline]
const fn mask(base: PageSize) -> u64 {
    const MASK: u64 = HpteV::AVPN | HpteV::SECONDARY;
    match base {
        PageSize::P4K => MASK.to_be(),
        _ => (MASK | HpteV::LARGE).to_be(),
    }
}

impl Search {
    /// The search for the page of `ea` in segment `asdr`, whose base page size is `base`.
    #[inline]
    pub(super) fn new(ea: EffectiveAddr, asdr: Asdr, base: PageSize) -> Self {
        let (segment, vsid) = (asdr.segment(), asdr.vsid());
        let offset = ea.get() & ((1 << segment.shift()) - 1) & !(base.bytes() - 1);
        // Virtual address bits above the hardware's 68 fall out by the mask.
        let address = (vsid << (segment.shift() - 16)) | (offset >> 16);
        let avpn = BeCell::raw_of(address & HpteV::AVPN);
        let pattern = match base {
            PageSize::P4K => avpn,
            _ => avpn | HpteV::LARGE.to_be(),
        };
        Self {
            pattern,
            mask: mask(base),
            base,
            segment,
            hash: pteg_hash(vsid, ea, segment, base),
        }
    }

    #[inline]
    const fn pattern(&self, group: Group) -> u64 {
        match group {
            Group::Primary => self.pattern,
            Group::Secondary => self.pattern | HpteV::SECONDARY.to_be(),
        }
    }

    /// The first entry of a group, modulo the size of the table.
    #[inline]
    const fn first(&self, group: Group) -> HpteIndex {
        let hash = match group {
            Group::Primary => self.hash,
            Group::Secondary => !self.hash,
        };
        HpteIndex::new(hash.wrapping_mul(HPTES_PER_GROUP))
    }

    #[inline]
    fn looks_right(&self, [v, _]: &HpteCells, pattern: u64) -> bool {
        (v.load_raw() ^ pattern) & self.mask == 0
    }

    /// The first slot that looks right.
    #[inline]
    fn look(&self, cells: &[HpteCells; 8], group: Group) -> Option<Candidate> {
        let pattern = self.pattern(group);
        for (slot, cells) in cells.iter().enumerate() {
            if self.looks_right(cells, pattern) {
                return Some(Candidate { group, slot });
            }
        }
        None
    }

    /// Whether a locked entry is the translation.
    #[inline]
    fn agrees<M: Machine>(&self, guard: &HpteGuard<'_, M>, pattern: u64) -> bool {
        self.matches(guard.v(), guard.raw_v(), guard.r(), pattern)
    }

    /// Whether an entry is the translation, of which `raw` is doubleword 0 as it lies in the table.
    #[inline]
    fn matches(&self, v: HpteV, raw: u64, r: HpteR, pattern: u64) -> bool {
        is_translation(self.base, self.segment, [v.get(), raw], r, pattern)
    }
}

/// Whether an entry translates a page of size `base` in a segment of this size, whose doubleword 0 has
/// `pattern`. Its own doubleword 0 is given twice, as a number and as it lies in the table.
#[inline(always)]
fn is_translation(
    base: PageSize,
    segment: SegmentSize,
    [v, raw]: [u64; 2],
    r: HpteR,
    pattern: u64,
) -> bool {
    let v = HpteV::new(v);
    v.is_present()
        && (raw ^ pattern) & mask(base) == 0
        && r.segment() == segment
        && r.encoding(v)
            .is_some_and(|encoding| encoding.base() == base)
}

/// An entry as somebody finds it who looks while everything stands still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LookedUp {
    /// Where it is.
    pub index: HpteIndex,
    /// Both doublewords as the guest knows them.
    pub guest: [u64; 2],
    /// Whether the hardware may use it: it is not hidden.
    pub is_valid: bool,
}

impl<M: Machine> HashMmu<M> {
    /// The guest's entry for an address, if it has one. `segment` is `None` for an access in guest
    /// real mode. Takes no lock, so that it also answers where one is never given back; while
    /// somebody changes the entry, the answer may be of no single moment.
    #[must_use]
    pub fn look_up(&self, ea: EffectiveAddr, segment: Option<Asdr>) -> Option<LookedUp> {
        if segment.is_none() && ea.get() & (u64::MAX >> 4) >= self.vrma_bytes() {
            return None;
        }
        let asdr = segment.unwrap_or(self.real_mode.segment());
        let search = Search::new(ea, asdr, asdr.base_page()?);
        for group in [Group::Primary, Group::Secondary] {
            let first = search.first(group);
            for slot in 0..HPTES_PER_GROUP {
                let index = self.table().wrap(first, usize::try_from(slot).ok()?);
                let entry = self.table().entry(index);
                let (v, r) = (entry.load_v(), entry.load_r());
                if search.matches(v, v.get().to_be(), r, search.pattern(group)) {
                    return Some(LookedUp {
                        index,
                        guest: [v.to_guest(r).get(), entry.load_rev().get() | r.rc()],
                        is_valid: v.is_valid(),
                    });
                }
            }
        }
        None
    }

    /// The first entry that looks like the translation.
    #[inline(always)]
    pub(super) fn find_candidate(&self, search: &Search) -> Option<Candidate> {
        let group = |group| self.table().group(search.first(group));
        search
            .look(group(Group::Primary), Group::Primary)
            .or_else(|| search.look(group(Group::Secondary), Group::Secondary))
    }

    /// Where a candidate is, and what its doubleword 0 looks like.
    #[inline(always)]
    pub(super) fn locate(&self, search: &Search, candidate: Candidate) -> (HpteIndex, u64) {
        let first = search.first(candidate.group);
        (
            self.table().wrap(first, candidate.slot),
            search.pattern(candidate.group),
        )
    }

    /// The candidate, locked, if it is the translation: nearly always it is.
    #[inline(always)]
    pub(super) fn confirm_at_once(
        &self,
        asdr: Asdr,
        index: HpteIndex,
        pattern: u64,
    ) -> Option<HpteGuard<'_, M>> {
        let base = asdr.base_page()?;
        let guard = self.lock(index);
        let v = [guard.v().get(), guard.raw_v()];
        is_translation(base, asdr.segment(), v, guard.r(), pattern).then_some(guard)
    }

    /// The translation's entry, locked; `from` is the first that looks like it.
    #[inline(never)]
    pub(super) fn confirm(&self, search: &Search, from: Candidate) -> Option<HpteGuard<'_, M>> {
        let mut slot = from.slot;
        for group in [Group::Primary, Group::Secondary] {
            if group == Group::Primary && from.group == Group::Secondary {
                continue;
            }
            let (first, pattern) = (search.first(group), search.pattern(group));
            let cells = self.table().group(first);
            while let Some(entry) = cells.get(slot) {
                if search.looks_right(entry, pattern) {
                    let guard = self.lock(self.table().wrap(first, slot));
                    if search.agrees(&guard, pattern) {
                        return Some(guard);
                    }
                }
                slot += 1;
            }
            slot = 0;
        }
        None
    }
}
