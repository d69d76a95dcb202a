// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The RB operand of a tlbie that invalidates one hashed translation.
//!
//! What RB must hold follows from the entry and from its place: doubleword 0 has the virtual
//! address down to bit 54 only, and a base page smaller than 8 MiB needs more, which the group
//! number gives back, for the hash function is an exclusive or. A wrong RB leaves the translation
//! alive on real hardware, and QEMU, which drops everything, never shows it.
//!
//! * L=0, base page 4 KiB: AVA is virtual address bits 14:65 (RB 0:51), B (54:55), AP, the actual
//!   page size (56:58).
//! * L=1, larger base pages: AVA is bits 14:57 (RB 0:43), LP (44:51), whose bits above the
//!   encoding are address bits, B (54:55), AVAL is bits 58:64 (56:62), L (63). Address bits below
//!   the base page size are 0, in AVA also those below the actual size.
//!
//! Power ISA 3.0B, Book III, TLB Management Instructions, tlbie.

use super::hashing::HpteIndex;
use super::hpte::{HpteR, HpteV};
use super::page_size::{PageEncoding, PageSize, SegmentSize};

/// A valid RB operand of tlbie. There is no way to make one but from an entry.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub struct TlbieRb(u64);

impl TlbieRb {
    /// The operand that invalidates the translation of the entry with these doublewords at
    /// `index`, or `None` where its page size encoding is reserved.
    #[inline(always)]
    #[must_use]
    pub const fn of(v: HpteV, r: HpteR, index: HpteIndex) -> Option<Self> {
        // Apart, for then most of it is constant.
        if !v.is_large() {
            let encoding = PageEncoding::Base4KActual4K;
            return Some(Self::with_encoding(v, r, index, encoding));
        }
        match r.encoding(v) {
            Some(encoding) => Some(Self::with_encoding(v, r, index, encoding)),
            None => None,
        }
    }

    #[inline]
    const fn with_encoding(v: HpteV, r: HpteR, index: HpteIndex, encoding: PageEncoding) -> Self {
        // Bit 23 of the virtual address (counted from the right) is at bit 7 of doubleword 0.
        let avpn = (v.get() & HpteV::AVPN) << 16;
        let segment = r.segment();
        // The hash function's low eleven bits are those of the VSID and of the page number in the
        // segment; every table has at least eleven bits of group number.
        let group = index.group();
        let hash = if v.get() & HpteV::SECONDARY == 0 {
            group
        } else {
            !group
        };
        let vsid = match segment {
            SegmentSize::S256M => v.get() >> 12,
            SegmentSize::S1T => v.get() >> 24,
        };
        let page_low = (hash ^ vsid) & 0x7ff;
        let b = segment.b() << 8;
        let actual = encoding.actual();
        match encoding.base() {
            PageSize::P4K => Self(avpn | (page_low << 12) | b | (actual.packed_llp() << 5)),
            base => {
                let address = avpn | ((page_low << base.shift()) & 0x7f_f000);
                let ava = address & !(actual.bytes() - 1);
                // Virtual address bit 13 (from the right) is at RB bit 1.
                let aval = (page_low << (base.shift() - 12)) & 0xfe;
                Self(ava | (encoding.lp() << 12) | b | aval | 1)
            }
        }
    }

    /// The bits in which the operands of pages with this encoding may differ that lie in one naturally
    /// aligned block of 2^`pages_log2` base pages; `None` where an operand does not have all address
    /// bits above the base page. Of the address, the 14 most significant bits are in no operand.
    #[inline]
    #[must_use]
    pub const fn inside_block(encoding: PageEncoding, pages_log2: u32) -> Option<u64> {
        let base = encoding.base();
        if base.bytes() != encoding.actual().bytes() {
            return None;
        }
        let inside = (1 << pages_log2) - 1;
        Some(match base {
            PageSize::P4K => inside << base.shift(),
            base => (inside << base.shift()) | ((inside << (base.shift() - 12)) & 0xfe),
        })
    }

    /// The register's value.
    #[inline]
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl core::fmt::Debug for TlbieRb {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "TlbieRb({:#018x})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::EffectiveAddr;
    use crate::fake::unless_miri;
    use crate::hash::pteg_hash;

    /// Entry and index for an address, put together as a guest would, in a table of 2^`order`
    /// bytes.
    fn entry(
        vsid: u64,
        ea: u64,
        segment: SegmentSize,
        encoding: PageEncoding,
        secondary: bool,
        order: u32,
    ) -> (HpteV, HpteR, HpteIndex) {
        let base = encoding.base();
        let in_segment = ea & ((1 << segment.shift()) - 1) & !(base.bytes() - 1);
        let va = (u128::from(vsid) << segment.shift()) | u128::from(in_segment);
        let avpn = u64::try_from((va >> 23) << 7).unwrap();
        let large = if encoding.is_large() { HpteV::LARGE } else { 0 };
        let h = if secondary { HpteV::SECONDARY } else { 0 };
        let v = HpteV::new(avpn | large | h | HpteV::VALID);
        let r = HpteR::new(HpteR::b(segment) | (encoding.lp() << 12) | 0x10);
        let hash = pteg_hash(vsid, EffectiveAddr::new(ea), segment, base);
        let hash = if secondary { !hash } else { hash };
        let groups = 1 << (order - 7);
        (v, r, HpteIndex::new((hash & (groups - 1)) * 8 + 3))
    }

    /// RB as the manual describes it, from the whole 78-bit virtual address.
    fn by_the_book(vsid: u64, ea: u64, segment: SegmentSize, encoding: PageEncoding) -> u64 {
        let (base, actual) = (encoding.base(), encoding.actual());
        let in_segment = ea & ((1 << segment.shift()) - 1);
        let va = (u128::from(vsid) << segment.shift()) | u128::from(in_segment);
        // Bits first..=last of the 78-bit address.
        let field = |va: u128, first: u32, last: u32| {
            u64::try_from((va >> (77 - last)) & ((1 << (last - first + 1)) - 1)).unwrap()
        };
        let base_va = va & !(u128::from(base.bytes()) - 1);
        if base == PageSize::P4K {
            let ap = match actual {
                PageSize::P4K => 0,
                PageSize::P64K => 5,
                PageSize::P16M => 4,
            };
            return (field(base_va, 14, 65) << 12) | (segment.b() << 8) | (ap << 5);
        }
        let actual_va = va & !(u128::from(actual.bytes()) - 1);
        let lp = match (base, actual) {
            (PageSize::P64K, PageSize::P64K) => (field(actual_va, 58, 61) << 4) | 1,
            (PageSize::P64K, _) => 8,
            _ => 0,
        };
        (field(actual_va, 14, 57) << 20)
            | (lp << 12)
            | (segment.b() << 8)
            | (field(base_va, 58, 64) << 1)
            | 1
    }

    #[test]
    fn worked_out_by_hand() {
        // VSID 0x123456, 256M segment, EA offset 0x345_6000, 4K: VA = 0x1234563456000.
        // AVA is VA without its low 12 bits, and nothing else is set.
        let (v, r, i) = entry(
            0x12_3456,
            0x345_6000,
            SegmentSize::S256M,
            PageEncoding::Base4KActual4K,
            false,
            24,
        );
        assert_eq!(v.get(), 0x0000_0001_2345_6301);
        assert_eq!(TlbieRb::of(v, r, i).unwrap().get(), 0x0001_2345_6345_6000);

        // The same page with 64K actual size: AP=5 -> 0xa0.
        let (v, r, i) = entry(
            0x12_3456,
            0x345_6000,
            SegmentSize::S256M,
            PageEncoding::Base4KActual64K,
            false,
            24,
        );
        assert_eq!(TlbieRb::of(v, r, i).unwrap().get(), 0x0001_2345_6345_60a0);

        // 64K base and actual in a 1T segment, VSID 0xabc, offset 0x12_3457_0000:
        // VA = 0xabc_1234570000 -> AVA >= bit 20: 0xabc_1234500000, LP = 7 (VA bits 16..19), 1
        // -> 0x71 << 12; B=1 -> 0x100; AVAL = VA bits 13..19 = 0b0111_000 -> 0x70; L.
        let (v, r, i) = entry(
            0xabc,
            0x12_3457_0000,
            SegmentSize::S1T,
            PageEncoding::Base64KActual64K,
            false,
            18,
        );
        assert_eq!(TlbieRb::of(v, r, i).unwrap().get(), 0x000a_bc12_3457_1171);

        // 16M in a 64K segment: AVA down to bit 24, LP=8, AVAL from the base page.
        let (v, r, i) = entry(
            0xabc,
            0x12_3457_0000,
            SegmentSize::S1T,
            PageEncoding::Base64KActual16M,
            false,
            18,
        );
        assert_eq!(TlbieRb::of(v, r, i).unwrap().get(), 0x000a_bc12_3400_8171);

        // 16M base: no bits from the group number at all.
        let (v, r, i) = entry(
            0x1ff_ffff,
            0x1_0200_0000,
            SegmentSize::S1T,
            PageEncoding::Base16MActual16M,
            false,
            24,
        );
        // VA = 0x1ffffff_01_02000000 is longer than 64 bits: the top bit falls off RB.
        assert_eq!(TlbieRb::of(v, r, i).unwrap().get(), 0xffff_ff01_0200_0101);
    }

    #[test]
    fn agrees_with_the_book_for_all_sizes_and_both_groups() {
        let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = || {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed
        };
        for _ in 0..unless_miri(2000, 20) {
            for encoding in PageEncoding::ALL {
                for segment in [SegmentSize::S256M, SegmentSize::S1T] {
                    let vsid_bits = 68 - segment.shift();
                    let vsid = random() & ((1 << vsid_bits) - 1);
                    let (ea, secondary, order) =
                        (random(), random() & 1 == 0, 18 + (random() % 19) as u32);
                    let (v, r, i) = entry(vsid, ea, segment, encoding, secondary, order);
                    let rb = TlbieRb::of(v, r, i).unwrap().get();
                    assert_eq!(
                        rb,
                        by_the_book(vsid, ea, segment, encoding),
                        "{vsid:#x} {ea:#x} {segment:?} {encoding:?} {secondary} {order}"
                    );
                }
            }
        }
    }

    #[test]
    fn pages_of_a_block_differ_inside_it_alone() {
        for encoding in PageEncoding::ALL {
            let base = encoding.base();
            let Some(inside) = TlbieRb::inside_block(encoding, 3) else {
                assert_ne!(base, encoding.actual());
                continue;
            };
            let operand = |page: u64, secondary| {
                let segment = SegmentSize::S1T;
                let (v, r, i) = entry(0x5, page << base.shift(), segment, encoding, secondary, 20);
                TlbieRb::of(v, r, i).unwrap().get()
            };
            for page in [0x38, 0x1238] {
                for number in 0..8 {
                    let difference = operand(page, false) ^ operand(page | number, true);
                    assert_eq!(difference & !inside, 0, "{encoding:?} {number}");
                    assert_eq!(difference == 0, number == 0, "{encoding:?} {number}");
                }
                // Each address bit above the block shows.
                for bit in 3..40 - base.shift() {
                    let difference = operand(page, false) ^ operand(page ^ 1 << bit, false);
                    assert_ne!(difference & !inside, 0, "{encoding:?} {bit}");
                }
            }
        }
    }

    #[test]
    fn reserved_encodings_have_no_operand() {
        let v = HpteV::new(HpteV::LARGE | HpteV::VALID);
        assert_eq!(TlbieRb::of(v, HpteR::new(0x3000), HpteIndex::new(0)), None);
    }
}
