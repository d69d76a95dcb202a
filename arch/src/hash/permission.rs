// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Storage protection of the hash MMU: page protection with the segment's key, and virtual page
//! class keys.
//!
//! Power ISA 3.0B, Book III, Storage Protection, "Basic Storage Protection" and "Virtual Page
//! Class Key Storage Protection".

/// The key that a segment gives to an access: Ks or Kp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SegmentKey {
    /// The access has the rights of the page's owner.
    Zero,
    /// The access has the lesser rights.
    One,
}

/// The page protection: pp0, pp1, pp2 as one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PagePerm(u8);

impl PagePerm {
    /// The page protection of a doubleword 1, which both layouts have at the same place.
    #[inline]
    #[must_use]
    pub const fn of(r: u64) -> Self {
        // The cast keeps three bits.
        #[expect(clippy::cast_possible_truncation)]
        Self((((r >> 63) << 2) | (r & 3)) as u8)
    }

    /// Whether a load, or as far as this goes a fetch, is permitted.
    #[inline]
    #[must_use]
    pub const fn may_load(self, key: SegmentKey) -> bool {
        // One bit for each of the eight values. With key 0 all defined ones may be read; with
        // key 1 all but 000 and 110.
        let permitted: u8 = match key {
            SegmentKey::Zero => 0b0100_1111,
            SegmentKey::One => 0b0000_1110,
        };
        permitted >> self.0 & 1 != 0
    }

    /// Whether a store is permitted.
    #[inline]
    #[must_use]
    pub const fn may_store(self, key: SegmentKey) -> bool {
        let permitted: u8 = match key {
            SegmentKey::Zero => 0b0000_0111,
            SegmentKey::One => 0b0000_0100,
        };
        permitted >> self.0 & 1 != 0
    }
}

/// A page's class key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StorageKey(u8);

impl StorageKey {
    /// The key of a doubleword 1, which both layouts have at the same place.
    #[inline]
    #[must_use]
    pub const fn of(r: u64) -> Self {
        // The cast keeps five bits.
        #[expect(clippy::cast_possible_truncation)]
        Self((((r >> 57) & 0x18) | ((r >> 9) & 7)) as u8)
    }

    /// The key's number, 0 to 31.
    #[inline]
    #[must_use]
    pub const fn get(self) -> u8 {
        self.0
    }
}

/// A mask of what keys forbid: the AMR for loads and stores, the IAMR for fetches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyMask(u64);

impl KeyMask {
    /// The register's value.
    #[inline]
    #[must_use]
    pub const fn new(value: u64) -> Self {
        Self(value)
    }

    /// Whether the AMR forbids stores to pages with `key`: the even bit of the pair.
    #[inline]
    #[must_use]
    pub const fn forbids_store(self, key: StorageKey) -> bool {
        self.0 << (key.0 * 2) >> 63 != 0
    }

    /// Whether the AMR forbids loads from, or the IAMR fetches from, pages with `key`: the odd bit
    /// of the pair.
    #[inline]
    #[must_use]
    pub const fn forbids_load(self, key: StorageKey) -> bool {
        self.0 << (key.0 * 2 + 1) >> 63 != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_protection_is_the_manuals_table() {
        use SegmentKey::{One, Zero};
        // pp, key, load, store
        for (pp, key, load, store) in [
            (0b000, Zero, true, true),
            (0b001, Zero, true, true),
            (0b010, Zero, true, true),
            (0b011, Zero, true, false),
            (0b100, Zero, false, false),
            (0b101, Zero, false, false),
            (0b110, Zero, true, false),
            (0b111, Zero, false, false),
            (0b000, One, false, false),
            (0b001, One, true, false),
            (0b010, One, true, true),
            (0b011, One, true, false),
            (0b100, One, false, false),
            (0b101, One, false, false),
            (0b110, One, false, false),
            (0b111, One, false, false),
        ] {
            let perm = PagePerm::of(((pp >> 2) << 63) | (pp & 3));
            assert_eq!(perm.may_load(key), load, "{pp:03b} {key:?}");
            assert_eq!(perm.may_store(key), store, "{pp:03b} {key:?}");
        }
    }

    #[test]
    fn class_keys() {
        assert_eq!(StorageKey::of(0x3000_0000_0000_0e00).get(), 31);
        assert_eq!(StorageKey::of(0x1000_0000_0000_0200).get(), 9);
        assert_eq!(StorageKey::of(0xcfff_ffff_ffff_f1ff).get(), 0);
        let key1 = StorageKey::of(0x200);
        assert!(KeyMask::new(0x2000_0000_0000_0000).forbids_store(key1));
        assert!(!KeyMask::new(0x2000_0000_0000_0000).forbids_load(key1));
        assert!(KeyMask::new(0x1000_0000_0000_0000).forbids_load(key1));
        let key31 = StorageKey::of(0x3000_0000_0000_0e00);
        assert!(KeyMask::new(1).forbids_load(key31));
        assert!(KeyMask::new(2).forbids_store(key31));
    }
}
