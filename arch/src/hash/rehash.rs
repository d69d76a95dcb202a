// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which virtual page an entry maps, and where it belongs in a table of another size.
//!
//! Doubleword 0 has the virtual address down to bit 54 only. A base page smaller than 8 MiB needs
//! more, and the number of the entry's group gives it back, for the hash function is an exclusive
//! or. With the page known, the hash is known to its full length, and so is the group in a table
//! of any size. The slot in the group and H stay as they are: guests keep both in their own
//! tables.
//!
//! A mixed page is found through the base page of its segment, so it is the base page that is
//! hashed, whatever the actual size.
//!
//! Power ISA 3.0B, Book III, Page Table Search.

use super::hashing::{HPTES_PER_GROUP, HpteIndex};
use super::hpte::{HpteR, HpteV};
use super::page_size::{PageEncoding, PageSize, SegmentSize};

/// The smallest table, binary logarithm of bytes: eleven bits of group number, as many as the
/// smallest base page needs to be found again.
const MIN_ORDER: u32 = 18;

/// The largest table that the architecture has, binary logarithm of bytes.
const MAX_ORDER: u32 = 46;

/// Binary logarithm of the bytes of a group.
const GROUP_SHIFT: u32 = 7;

/// Binary logarithm of the bytes that one step of the AVPN covers.
const AVPN_SHIFT: u32 = 23;

/// The virtual page that an entry maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryPage {
    encoding: PageEncoding,
    segment: SegmentSize,
    vsid: u64,
    /// Number of the base page in its segment.
    number: u64,
}

impl EntryPage {
    /// The page of the entry with these doublewords at `index`, or `None` where its page size
    /// encoding is reserved.
    #[inline]
    #[must_use]
    pub const fn of(v: HpteV, r: HpteR, index: HpteIndex) -> Option<Self> {
        let Some(encoding) = r.encoding(v) else {
            return None;
        };
        let segment = r.segment();
        let avpn = v.get() & HpteV::AVPN;
        let vsid = avpn >> (segment.shift() + 7 - AVPN_SHIFT);
        let shift = encoding.base().shift();
        // Bit 23 of the virtual address (counted from the right) is at bit 7 of doubleword 0.
        let offset = (avpn << (AVPN_SHIFT - 7)) & ((1 << segment.shift()) - 1);
        let mut number = offset >> shift;
        if shift < AVPN_SHIFT {
            // These low bits of the hash are those of the VSID and of the page's number alone.
            let group = primary_group(v, index);
            number |= (group ^ vsid) & ((1 << (AVPN_SHIFT - shift)) - 1);
        }
        Some(Self {
            encoding,
            segment,
            vsid,
            number,
        })
    }

    /// Base and actual page size.
    #[inline]
    #[must_use]
    pub const fn encoding(self) -> PageEncoding {
        self.encoding
    }

    /// Segment size.
    #[inline]
    #[must_use]
    pub const fn segment(self) -> SegmentSize {
        self.segment
    }

    /// Virtual segment.
    #[inline]
    #[must_use]
    pub const fn vsid(self) -> u64 {
        self.vsid
    }

    /// Number of the base page in its segment.
    #[inline]
    #[must_use]
    pub const fn number(self) -> u64 {
        self.number
    }

    /// The primary hash, as [`pteg_hash`](super::pteg_hash) makes it from an address.
    #[inline]
    #[must_use]
    pub const fn hash(self) -> u64 {
        match self.segment {
            SegmentSize::S256M => self.vsid ^ self.number,
            SegmentSize::S1T => self.vsid ^ (self.vsid << 25) ^ self.number,
        }
    }
}

/// The group of an entry as if it were in its primary one; bits above the table's are undefined.
const fn primary_group(v: HpteV, index: HpteIndex) -> u64 {
    if v.get() & HpteV::SECONDARY == 0 {
        index.group()
    } else {
        !index.group()
    }
}

/// The number of groups less one in a table of `1 << order` bytes.
const fn group_mask(order: u32) -> Option<u64> {
    if order < MIN_ORDER || order > MAX_ORDER {
        return None;
    }
    Some((1 << (order - GROUP_SHIFT)) - 1)
}

/// Where the entry with these doublewords, which is at `index` in a table of `1 << from` bytes,
/// belongs in a table of `1 << to` bytes: the slot in its group and H are the same.
///
/// `None` for an entry that no search finds, for its page size encoding is reserved or it does not
/// lie in the group of its own hash; and where a size is not between 18 and 46.
#[inline]
#[must_use]
pub const fn rehash(v: HpteV, r: HpteR, index: HpteIndex, from: u32, to: u32) -> Option<HpteIndex> {
    let (Some(old), Some(new)) = (group_mask(from), group_mask(to)) else {
        return None;
    };
    let Some(page) = EntryPage::of(v, r, index) else {
        return None;
    };
    let hash = if v.get() & HpteV::SECONDARY == 0 {
        page.hash()
    } else {
        !page.hash()
    };
    if hash & old != index.group() {
        return None;
    }
    Some(HpteIndex::new(
        (hash & new) * HPTES_PER_GROUP + index.slot(),
    ))
}

const _: () = assert!(MIN_ORDER - GROUP_SHIFT >= AVPN_SHIFT - PageSize::P4K.shift());

#[cfg(test)]
mod tests;
