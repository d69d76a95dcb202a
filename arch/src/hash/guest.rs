// SPDX-License-Identifier: Apache-2.0 OR MIT
//! An entry as the guest sees it: ISA 2.07 layout, guest real addresses.
//!
//! Doubleword 0 has B (bits 0:1), AVPN (2:56), software bits (57:60, of which 57 and 58 belong to
//! the hypervisor), L (61), H (62), V (63). Doubleword 1 has pp0 (0), key (2:3 and 52:54), the
//! real page number (4:51, its low bits doubling as LP), R (55), C (56), WIMG (57:60), N (61) and
//! pp1:2 (62:63).
//!
//! Power ISA 2.07B, Book III-S, Page Table; LoPAR, H_ENTER.

use super::hpte::{COMMON_V, HpteR, HpteV};
use super::page_size::{PageEncoding, SegmentSize};
use crate::addr::{GuestReal, HostReal};
use crate::bits::ppc_mask;

/// Doubleword 0 as the guest wrote it, or as it is shown to it.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub struct GuestHpteV(u64);

/// Doubleword 1 as the guest wrote it, or as it is shown to it.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub struct GuestHpteR(u64);

impl GuestHpteV {
    /// Bits that a guest may not set: the reserved half of B, and AVPN bits of virtual addresses
    /// longer than the 68 bits that the hardware compares.
    const REFUSED: u64 = !(ppc_mask(1, 1) | COMMON_V);
    /// B and AVPN: what H_REMOVE and H_PROTECT compare.
    pub const AVPN: u64 = ppc_mask(0, 56);

    /// The doubleword with this value.
    #[inline]
    #[must_use]
    pub const fn new(value: u64) -> Self {
        Self(value)
    }

    /// The value.
    #[inline]
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The segment size, or `None` where B is reserved.
    #[inline]
    #[must_use]
    pub const fn segment(self) -> Option<SegmentSize> {
        SegmentSize::from_b(self.0 >> 62)
    }

    /// Whether L is set.
    #[inline]
    #[must_use]
    pub const fn is_large(self) -> bool {
        self.0 & HpteV::LARGE != 0
    }

    /// Doubleword 0 for the hardware, invalid and unlocked, without the hypervisor's software
    /// bits, and the segment size, which the hardware has in doubleword 1.
    ///
    /// `None` where B is reserved or the AVPN does not fit 68-bit virtual addresses: such an entry
    /// would alias another.
    #[inline]
    #[must_use]
    pub const fn to_hardware(self) -> Option<(HpteV, SegmentSize)> {
        if self.0 & Self::REFUSED != 0 {
            return None;
        }
        let segment = if self.0 >> 62 == 0 {
            SegmentSize::S256M
        } else {
            SegmentSize::S1T
        };
        let kept = COMMON_V & !(HpteV::HVLOCK | HpteV::ABSENT | HpteV::VALID);
        Some((HpteV::new(self.0 & kept), segment))
    }
}

impl GuestHpteR {
    /// The real page number, LP included.
    pub const RPN: u64 = ppc_mask(4, 51);
    /// Bit 1, which no architecture defines.
    pub const RESERVED: u64 = ppc_mask(1, 1);

    /// The doubleword with this value.
    #[inline]
    #[must_use]
    pub const fn new(value: u64) -> Self {
        Self(value)
    }

    /// The value.
    #[inline]
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The page sizes that L of `v` and LP of this doubleword give, or `None` where reserved.
    #[inline]
    #[must_use]
    pub const fn encoding(self, v: GuestHpteV) -> Option<PageEncoding> {
        if v.is_large() {
            PageEncoding::from_lp((self.0 >> 12) & 0xff)
        } else {
            Some(PageEncoding::Base4KActual4K)
        }
    }

    /// The first byte of the page, or `None` where page number bits below the page size are set
    /// that are no part of the encoding.
    #[inline]
    #[must_use]
    pub const fn page(self, encoding: PageEncoding) -> Option<GuestReal> {
        let size = encoding.actual().bytes();
        // LP has eight bits; what lies between it and a 16 MiB page's size must be clear.
        if self.0 & (size - 1) & ppc_mask(40, 43) != 0 {
            return None;
        }
        Some(GuestReal::new(self.0 & Self::RPN & !(size - 1)))
    }

    /// Doubleword 1 for the hardware: the same attributes and encoding, the page at `host`, which
    /// is a multiple of the page size, and the segment size.
    #[inline]
    #[must_use]
    pub const fn to_hardware(
        self,
        encoding: PageEncoding,
        host: HostReal,
        segment: SegmentSize,
    ) -> HpteR {
        let offset = encoding.actual().bytes() - 1;
        let kept = HpteR::PP0 | HpteR::KEY_HIGH | offset;
        HpteR::new((self.0 & kept) | (host.get() & HpteR::RPN & !offset) | HpteR::b(segment))
    }
}

impl core::fmt::Debug for GuestHpteV {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "GuestHpteV({:#018x})", self.0)
    }
}

impl core::fmt::Debug for GuestHpteR {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "GuestHpteR({:#018x})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segment_size_moves_to_doubleword_1() {
        // A 64K entry of a 1T segment as Linux writes it.
        let v = GuestHpteV::new(0x4000_1ace_5400_0195);
        let r = GuestHpteR::new(0x0000_0000_0123_1196);
        let (hw_v, segment) = v.to_hardware().unwrap();
        assert_eq!(hw_v.get(), 0x0000_1ace_5400_0194);
        assert_eq!(segment, SegmentSize::S1T);
        let encoding = r.encoding(v).unwrap();
        assert_eq!(encoding, PageEncoding::Base64KActual64K);
        assert_eq!(r.page(encoding), Some(GuestReal::new(0x123_0000)));
        let hw_r = r.to_hardware(encoding, HostReal::new(0x8765_0000), segment);
        assert_eq!(hw_r.get(), 0x0400_0000_8765_1196);
        assert_eq!(hw_v.to_guest(hw_r).get(), 0x4000_1ace_5400_0194);
    }

    #[test]
    fn reserved_segment_sizes_and_long_addresses_are_refused() {
        assert_eq!(GuestHpteV::new(0x8000_0000_0000_0001).to_hardware(), None);
        assert_eq!(GuestHpteV::new(0xc000_0000_0000_0001).to_hardware(), None);
        for bit in 52..62 {
            assert_eq!(GuestHpteV::new(1 << bit).to_hardware(), None, "bit {bit}");
        }
        for bit in 0..52 {
            assert!(
                GuestHpteV::new(1 << bit).to_hardware().is_some(),
                "bit {bit}"
            );
        }
    }

    #[test]
    fn the_hypervisors_software_bits_do_not_come_from_the_guest() {
        let (v, _) = GuestHpteV::new(0xff).to_hardware().unwrap();
        assert_eq!(v.get(), 0x9e);
    }

    #[test]
    fn a_16m_page_must_be_aligned() {
        let encoding = PageEncoding::Base64KActual16M;
        let page = |r| GuestHpteR::new(r).page(encoding);
        assert_eq!(page(0x0300_8010), Some(GuestReal::new(0x300_0000)));
        for bit in 20..24 {
            assert_eq!(page(0x0300_8010 | 1 << bit), None, "bit {bit}");
        }
    }

    #[test]
    fn attributes_survive_and_the_guests_page_number_does_not() {
        let r = GuestHpteR::new(u64::MAX);
        let hw = r.to_hardware(
            PageEncoding::Base4KActual4K,
            HostReal::new(0x1_2345_6000),
            SegmentSize::S256M,
        );
        assert_eq!(hw.get(), 0xb000_0001_2345_6fff);
    }
}
