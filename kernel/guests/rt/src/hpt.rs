// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Page table entries, hashes and segment entries, as a PAPR guest computes them.
//!
//! A PAPR guest uses the entry format of Power ISA 2.07 on every processor: the segment size stands
//! in doubleword 0. Sources: Power ISA 2.07, Book III-S, Virtual Address Generation, Page Table
//! Search and SLB Entry; for page size encodings the guest's `ibm,segment-page-sizes`.

/// Doubleword 0: the entry is valid.
pub const V_VALID: u64 = 1;
/// Doubleword 0: found by the secondary hash.
pub const V_SECONDARY: u64 = 2;
/// Doubleword 0: the page is large (LP names the size).
pub const V_LARGE: u64 = 4;
/// Doubleword 0: the operating system keeps this one (software bit).
pub const V_BOLTED: u64 = 0x10;
/// Doubleword 0: what H_AVPN compares.
pub const V_AVPN: u64 = !0x7f;
/// Doubleword 1: protection bits pp.
pub const R_PP: u64 = 3;
/// Doubleword 1: no execution.
pub const R_N: u64 = 4;
/// Doubleword 1: memory coherence, PAPR's only value for memory.
pub const R_M: u64 = 0x10;
/// Doubleword 1: guarded.
pub const R_G: u64 = 0x08;
/// Doubleword 1: cache-inhibited.
pub const R_I: u64 = 0x20;
/// Doubleword 1: changed.
pub const R_C: u64 = 0x80;
/// Doubleword 1: referenced.
pub const R_R: u64 = 0x100;
/// Doubleword 1: pp bit 0, the high one.
pub const R_PP0: u64 = 1 << 63;

/// Segment entry: storage key for privileged state.
pub const SLB_KS: u64 = 0x800;
/// Segment entry: storage key for problem state.
pub const SLB_KP: u64 = 0x400;
/// Segment entry: no execution.
pub const SLB_N: u64 = 0x200;

/// Doubleword 1 bits of storage key `key` (0 to 31).
#[must_use]
pub const fn key_bits(key: u64) -> u64 {
    (key >> 3 & 3) << 60 | (key & 7) << 9
}

/// The size of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Segment {
    /// 256 MiB.
    M256,
    /// 1 TiB.
    T1,
}

impl Segment {
    /// log2 of the size in bytes.
    #[must_use]
    pub const fn shift(self) -> u32 {
        match self {
            Self::M256 => 28,
            Self::T1 => 40,
        }
    }

    const fn b(self) -> u64 {
        match self {
            Self::M256 => 0,
            Self::T1 => 1 << 62,
        }
    }
}

/// A page size pair: the segment's base size and the page's actual size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageSize {
    /// log2 of the base page size.
    pub base: u32,
    /// log2 of the actual page size.
    pub actual: u32,
    /// L and LP bits of the segment entry.
    pub slb: u64,
    /// LP encoding of the page table entry.
    pub lp: u64,
}

/// 4K pages.
pub const P4K: PageSize = PageSize {
    base: 12,
    actual: 12,
    slb: 0,
    lp: 0,
};
/// 64K pages in a 4K segment.
pub const P4K_64K: PageSize = PageSize {
    base: 12,
    actual: 16,
    slb: 0,
    lp: 7,
};
/// 16M pages in a 4K segment.
pub const P4K_16M: PageSize = PageSize {
    base: 12,
    actual: 24,
    slb: 0,
    lp: 0x38,
};
/// 64K pages.
pub const P64K: PageSize = PageSize {
    base: 16,
    actual: 16,
    slb: 0x110,
    lp: 1,
};
/// 16M pages in a 64K segment.
pub const P64K_16M: PageSize = PageSize {
    base: 16,
    actual: 24,
    slb: 0x110,
    lp: 8,
};
/// 16M pages.
pub const P16M: PageSize = PageSize {
    base: 24,
    actual: 24,
    slb: 0x100,
    lp: 0,
};

/// One page's mapping.
#[derive(Clone, Copy, Debug)]
pub struct Mapping {
    /// Effective address of the page (or, of a page larger than the base size, of the base page
    /// that this entry is for).
    pub ea: u64,
    /// Virtual segment identifier.
    pub vsid: u64,
    /// Segment size.
    pub segment: Segment,
    /// Page sizes.
    pub size: PageSize,
    /// Guest real address, aligned to the actual page size.
    pub real: u64,
    /// Doubleword 1 besides the address: protection, key, N, WIMG.
    pub bits: u64,
}

impl Mapping {
    fn offset(&self) -> u64 {
        self.ea & ((1 << self.segment.shift()) - 1)
    }

    /// Doubleword 0: segment size, abbreviated virtual page number, L and V.
    #[must_use]
    pub fn v(&self) -> u64 {
        // The virtual address has up to 78 bits; its bits below 23 are implied by the hash.
        let page = self.vsid << (self.segment.shift() - 23) | self.offset() >> 23;
        let page = if self.size.base > 23 {
            page & !((1 << (self.size.base - 23)) - 1)
        } else {
            page
        };
        let large = if self.size.actual > 12 { V_LARGE } else { 0 };
        self.segment.b() | page << 7 | large | V_VALID
    }

    /// What the AVPN parameter of H_REMOVE and H_PROTECT is for this entry.
    #[must_use]
    pub fn avpn(&self) -> u64 {
        self.v() & V_AVPN
    }

    /// Doubleword 1.
    #[must_use]
    pub fn r(&self) -> u64 {
        self.real | self.size.lp << 12 | self.bits
    }

    /// The primary hash value.
    #[must_use]
    pub fn hash(&self) -> u64 {
        let page = self.offset() >> self.size.base;
        match self.segment {
            Segment::M256 => self.vsid ^ page,
            Segment::T1 => self.vsid ^ self.vsid << 25 ^ page,
        }
    }

    /// The index of the first entry of the primary group in a table of 2^`order` bytes.
    #[must_use]
    pub fn primary(&self, order: u32) -> u64 {
        (self.hash() & ((1 << (order - 7)) - 1)) << 3
    }

    /// The index of the first entry of the secondary group in a table of 2^`order` bytes.
    #[must_use]
    pub fn secondary(&self, order: u32) -> u64 {
        (!self.hash() & ((1 << (order - 7)) - 1)) << 3
    }

    /// RS of the slbmte for this segment; `keys` are [`SLB_KS`], [`SLB_KP`], [`SLB_N`].
    #[must_use]
    pub fn slb_vsid(&self, keys: u64) -> u64 {
        self.segment.b() | self.vsid << (self.segment.shift() - 16) | self.size.slb | keys
    }

    /// RB of the slbmte for this segment into slot `index`.
    #[must_use]
    pub fn slb_esid(&self, index: u64) -> u64 {
        self.ea & !((1 << self.segment.shift()) - 1) | 1 << 27 | index
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_page_in_a_1t_segment() {
        let m = Mapping {
            ea: 0x0000_0100_0012_3000,
            vsid: 0x12_3456,
            segment: Segment::T1,
            size: P4K,
            real: 0x200_3000,
            bits: R_M | 2,
        };
        // va = vsid << 40 | 0x123000; avpn = va >> 23 << 7
        assert_eq!(m.v(), 0x4000_0000_0000_0001 | 0x12_3456 << 24);
        assert_eq!(m.r(), 0x200_3012);
        assert_eq!(m.hash(), 0x12_3456 ^ 0x12_3456 << 25 ^ 0x123);
        assert_eq!(m.slb_esid(3), 0x0000_0100_0800_0003);
        assert_eq!(m.slb_vsid(SLB_KP), 0x4000_1234_5600_0400);
        assert_eq!(m.primary(18), (m.hash() & 0x7ff) << 3);
        assert_eq!(m.secondary(18) ^ m.primary(18), 0x3ff8);
    }

    #[test]
    fn a_huge_page_in_a_256m_segment_drops_the_low_avpn_bit() {
        let m = Mapping {
            ea: 0x1_0380_0000,
            vsid: 0x77,
            segment: Segment::M256,
            size: P16M,
            real: 0x300_0000,
            bits: R_M,
        };
        assert_eq!(m.v(), (0x77 << 5 | 6) << 7 | 5);
        assert_eq!(m.hash(), 0x77 ^ 3);
        assert_eq!(m.slb_vsid(SLB_KS | SLB_N), 0x7_7b00);
        assert_eq!(m.slb_esid(0), 0x1_0800_0000);
    }

    #[test]
    fn mixed_sizes_carry_the_encoding_above_bit_12() {
        let m = Mapping {
            ea: 0x5000,
            vsid: 1,
            segment: Segment::M256,
            size: P4K_64K,
            real: 0x12_0000,
            bits: R_M,
        };
        assert_eq!(m.r(), 0x12_7010);
        assert_eq!(m.hash(), 1 ^ 5);
        assert_eq!(m.v() & V_LARGE, V_LARGE);
        assert_eq!(key_bits(0b10_101), 2 << 60 | 5 << 9);
    }
}
