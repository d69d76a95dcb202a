// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Where in the table an entry may be: the hash function, groups and slots.
//!
//! Power ISA 3.0B, Book III, Page Table Search: the primary hash is the low-order bits of the VSID
//! combined with the page index within the segment; the secondary is its complement.

use super::page_size::{PageSize, SegmentSize};
use crate::addr::EffectiveAddr;

/// Entries in a page table entry group (PTEG).
pub const HPTES_PER_GROUP: u64 = 8;

/// The number of an entry in the table: group times eight plus slot. PAPR calls it PTEX.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct HpteIndex(u64);

impl HpteIndex {
    /// The entry with this number.
    #[inline]
    #[must_use]
    pub const fn new(value: u64) -> Self {
        Self(value)
    }

    /// The number.
    #[inline]
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The number of the group that the entry lies in.
    #[inline]
    #[must_use]
    pub const fn group(self) -> u64 {
        self.0 / HPTES_PER_GROUP
    }

    /// The entry's place in its group.
    #[inline]
    #[must_use]
    pub const fn slot(self) -> u64 {
        self.0 % HPTES_PER_GROUP
    }
}

/// The primary hash of a virtual page; the secondary one is its complement. A table uses as many
/// low-order bits as it has bits of group number.
#[inline]
#[must_use]
pub const fn pteg_hash(vsid: u64, ea: EffectiveAddr, segment: SegmentSize, base: PageSize) -> u64 {
    let page = (ea.get() & ((1 << segment.shift()) - 1)) >> base.shift();
    match segment {
        SegmentSize::S256M => vsid ^ page,
        SegmentSize::S1T => vsid ^ (vsid << 25) ^ page,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hash_by_hand() {
        let ea = EffectiveAddr::new(0xc000_0123_4567_89ab);
        assert_eq!(
            pteg_hash(0x1000, ea, SegmentSize::S256M, PageSize::P4K),
            0x1000 ^ 0x5678
        );
        assert_eq!(
            pteg_hash(0x12_3456, ea, SegmentSize::S1T, PageSize::P64K),
            0x12_3456 ^ (0x12_3456 << 25) ^ 0x23_4567
        );
        assert_eq!(
            pteg_hash(7, ea, SegmentSize::S1T, PageSize::P16M),
            7 ^ (7 << 25) ^ 0x2345
        );
    }

    #[test]
    fn index_is_group_and_slot() {
        let index = HpteIndex::new(0x1237);
        assert_eq!((index.group(), index.slot()), (0x246, 7));
    }
}
