// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Page and segment sizes, and the encodings that choose them.
//!
//! A segment has a base page size, which the hash function and the AVPN use. An entry in it may
//! map a larger actual page (multiple page sizes per segment). L of doubleword 0 and LP of
//! doubleword 1 give both. POWER9 and POWER10 have, beside 16 GiB pages that Penstock does not
//! offer, the six combinations below; they can be told apart without knowing the segment.
//!
//! Power ISA 3.0B, Book III, Page Table, "L and LP"; device tree property
//! `ibm,segment-page-sizes` of the machine.

/// A size of page that Penstock offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PageSize {
    /// 4 KiB.
    P4K,
    /// 64 KiB.
    P64K,
    /// 16 MiB.
    P16M,
}

impl PageSize {
    /// Every size, smallest first.
    pub const ALL: [Self; 3] = [Self::P4K, Self::P64K, Self::P16M];

    /// Binary logarithm of the size in bytes.
    #[inline]
    #[must_use]
    pub const fn shift(self) -> u32 {
        match self {
            Self::P4K => 12,
            Self::P64K => 16,
            Self::P16M => 24,
        }
    }

    /// The size in bytes.
    #[inline]
    #[must_use]
    pub const fn bytes(self) -> u64 {
        1 << self.shift()
    }

    /// L and LP of a segment with this base page size, at their places in the VSID doubleword of
    /// a segment lookaside buffer entry (bit 55, bits 58 and 59).
    #[inline]
    #[must_use]
    pub const fn segment_llp(self) -> u64 {
        match self {
            Self::P4K => 0,
            Self::P64K => 0x110,
            Self::P16M => 0x100,
        }
    }

    /// L and LP as one three-bit number: how tlbie's AP and the partition table's PS say it.
    #[inline]
    #[must_use]
    pub const fn packed_llp(self) -> u64 {
        match self {
            Self::P4K => 0,
            Self::P64K => 5,
            Self::P16M => 4,
        }
    }
}

/// A size of segment. The order of the variants is the value of field B.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SegmentSize {
    /// 256 MiB: B=0b00.
    S256M,
    /// 1 TiB: B=0b01.
    S1T,
}

impl SegmentSize {
    /// The value of field B.
    #[inline]
    #[must_use]
    pub const fn b(self) -> u64 {
        match self {
            Self::S256M => 0,
            Self::S1T => 1,
        }
    }

    /// The segment that field B names, or `None` where it is reserved.
    #[inline]
    #[must_use]
    pub const fn from_b(b: u64) -> Option<Self> {
        match b {
            0 => Some(Self::S256M),
            1 => Some(Self::S1T),
            _ => None,
        }
    }

    /// Binary logarithm of the size in bytes.
    #[inline]
    #[must_use]
    pub const fn shift(self) -> u32 {
        match self {
            Self::S256M => 28,
            Self::S1T => 40,
        }
    }
}

/// The page sizes of an entry: the segment's base page size and the page's actual size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PageEncoding {
    /// 4 KiB in a 4 KiB segment: L=0, no LP.
    Base4KActual4K,
    /// 64 KiB in a 4 KiB segment.
    Base4KActual64K,
    /// 16 MiB in a 4 KiB segment.
    Base4KActual16M,
    /// 64 KiB in a 64 KiB segment.
    Base64KActual64K,
    /// 16 MiB in a 64 KiB segment.
    Base64KActual16M,
    /// 16 MiB in a 16 MiB segment.
    Base16MActual16M,
}

impl PageEncoding {
    /// Every combination that the processors have.
    pub const ALL: [Self; 6] = [
        Self::Base4KActual4K,
        Self::Base4KActual64K,
        Self::Base4KActual16M,
        Self::Base64KActual64K,
        Self::Base64KActual16M,
        Self::Base16MActual16M,
    ];

    /// The sizes of a page with L=1 and these eight bits of LP, or `None` for a reserved encoding.
    ///
    /// A 64 KiB page's encoding has four bits; the upper four belong to the real page number.
    #[inline]
    #[must_use]
    pub const fn from_lp(lp: u64) -> Option<Self> {
        match lp & 0xf {
            1 => Some(Self::Base64KActual64K),
            7 => Some(Self::Base4KActual64K),
            _ => match lp & 0xff {
                0x00 => Some(Self::Base16MActual16M),
                0x08 => Some(Self::Base64KActual16M),
                0x38 => Some(Self::Base4KActual16M),
                _ => None,
            },
        }
    }

    /// The encoding for a page of size `actual` in a segment of base page size `base`.
    #[must_use]
    pub const fn new(base: PageSize, actual: PageSize) -> Option<Self> {
        match (base, actual) {
            (PageSize::P4K, PageSize::P4K) => Some(Self::Base4KActual4K),
            (PageSize::P4K, PageSize::P64K) => Some(Self::Base4KActual64K),
            (PageSize::P4K, PageSize::P16M) => Some(Self::Base4KActual16M),
            (PageSize::P64K, PageSize::P64K) => Some(Self::Base64KActual64K),
            (PageSize::P64K, PageSize::P16M) => Some(Self::Base64KActual16M),
            (PageSize::P16M, PageSize::P16M) => Some(Self::Base16MActual16M),
            _ => None,
        }
    }

    /// The segment's base page size.
    #[inline]
    #[must_use]
    pub const fn base(self) -> PageSize {
        match self {
            Self::Base4KActual4K | Self::Base4KActual64K | Self::Base4KActual16M => PageSize::P4K,
            Self::Base64KActual64K | Self::Base64KActual16M => PageSize::P64K,
            Self::Base16MActual16M => PageSize::P16M,
        }
    }

    /// The page's own size.
    #[inline]
    #[must_use]
    pub const fn actual(self) -> PageSize {
        match self {
            Self::Base4KActual4K => PageSize::P4K,
            Self::Base4KActual64K | Self::Base64KActual64K => PageSize::P64K,
            Self::Base4KActual16M | Self::Base64KActual16M | Self::Base16MActual16M => {
                PageSize::P16M
            }
        }
    }

    /// Whether doubleword 0 has L=1.
    #[inline]
    #[must_use]
    pub const fn is_large(self) -> bool {
        !matches!(self, Self::Base4KActual4K)
    }

    /// The value of LP without the bits that belong to the real page number.
    #[inline]
    #[must_use]
    pub const fn lp(self) -> u64 {
        match self {
            Self::Base4KActual4K | Self::Base16MActual16M => 0,
            Self::Base4KActual64K => 7,
            Self::Base4KActual16M => 0x38,
            Self::Base64KActual64K => 1,
            Self::Base64KActual16M => 8,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodings_of_the_machines_device_tree() {
        use PageSize::*;
        for (base, actual, lp) in [
            (P4K, P64K, 0x7),
            (P4K, P16M, 0x38),
            (P64K, P64K, 0x1),
            (P64K, P16M, 0x8),
            (P16M, P16M, 0x0),
        ] {
            let encoding = PageEncoding::new(base, actual).unwrap();
            assert_eq!((encoding.base(), encoding.actual()), (base, actual));
            assert_eq!(encoding.lp(), lp);
            assert_eq!(PageEncoding::from_lp(lp), Some(encoding));
        }
    }

    #[test]
    fn a_64k_page_lends_four_bits_of_lp_to_its_page_number() {
        for upper in 0..16 {
            let lp = upper << 4;
            assert_eq!(
                PageEncoding::from_lp(lp | 1),
                Some(PageEncoding::Base64KActual64K)
            );
            assert_eq!(
                PageEncoding::from_lp(lp | 7),
                Some(PageEncoding::Base4KActual64K)
            );
        }
    }

    #[test]
    fn reserved_encodings_are_refused() {
        // 16 GiB pages have encoding 3 and are not offered.
        for lp in [0x03, 0x02, 0x10, 0x18, 0x28, 0x48, 0x80, 0xff, 0x0f] {
            assert_eq!(PageEncoding::from_lp(lp), None, "{lp:#x}");
        }
        let valid = (0..=0xff)
            .filter(|&lp| PageEncoding::from_lp(lp).is_some())
            .count();
        assert_eq!(valid, 16 + 16 + 3);
    }

    #[test]
    fn segment_encodings_of_the_machines_device_tree() {
        assert_eq!(PageSize::P64K.segment_llp(), 0x110);
        assert_eq!(PageSize::P16M.segment_llp(), 0x100);
        assert_eq!(PageSize::ALL.map(PageSize::packed_llp), [0, 5, 4]);
        assert_eq!(SegmentSize::from_b(2), None);
        assert_eq!(SegmentSize::from_b(3), None);
    }
}
