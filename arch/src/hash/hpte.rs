// SPDX-License-Identifier: Apache-2.0 OR MIT
//! An entry as POWER9 and POWER10 read it: ISA 3.0 layout, host real addresses.
//!
//! Doubleword 0 has the AVPN (bits 12:56; bits above are ignored), software bits (57:60), L (61),
//! H (62), V (63). Doubleword 1 has pp0 (0), key (2:3 and 52:54), B (4:5), the real page number
//! (7:51, its low bits doubling as LP), R (55), C (56), WIMG (57:60), N (61), pp1:2 (62:63).
//! The processor writes R and C at any time while V=1, each by a store of one byte that is not
//! atomic with what else the byte holds.
//!
//! Software bits 57 and 58 are the hypervisor's (LoPAR, Page Frame Table Access): Penstock's lock,
//! and "the guest believes this entry valid".
//!
//! Power ISA 3.0B, Book III, Page Table, Reference and Change Recording.

use super::guest::GuestHpteV;
use super::page_size::{PageEncoding, SegmentSize};
use super::permission::{PagePerm, StorageKey};
use crate::addr::HostReal;
use crate::bits::ppc_mask;

/// The bits of doubleword 0 that both layouts have at the same place.
pub(super) const COMMON_V: u64 = ppc_mask(12, 63);

/// Doubleword 0 of a hardware entry.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub struct HpteV(u64);

/// Doubleword 1 of a hardware entry.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub struct HpteR(u64);

impl HpteV {
    /// The entry takes part in translation.
    pub const VALID: u64 = 1;
    /// The entry is in the secondary group: field H.
    pub const SECONDARY: u64 = 2;
    /// Field L.
    pub const LARGE: u64 = 4;
    /// What Linux calls a bolted entry: the guest's software bit 59.
    pub const BOLTED: u64 = 0x10;
    /// Software bit 58: valid for the guest, not for the hardware.
    pub const ABSENT: u64 = 0x20;
    /// Software bit 57: a processor of the hypervisor works on the entry.
    pub const HVLOCK: u64 = 0x40;
    /// Bit 0, which the hardware ignores: hidden, and its translation not flushed yet. Set only
    /// while V=0.
    pub const UNFLUSHED: u64 = ppc_mask(0, 0);
    /// The part of the AVPN that the hardware compares.
    pub const AVPN: u64 = ppc_mask(12, 56);

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

    /// Whether V is set.
    #[inline]
    #[must_use]
    pub const fn is_valid(self) -> bool {
        self.0 & Self::VALID != 0
    }

    /// Whether the entry is valid for the guest and hidden from the hardware.
    #[inline]
    #[must_use]
    pub const fn is_absent(self) -> bool {
        self.0 & Self::ABSENT != 0
    }

    /// Whether the entry was hidden and its translation may still be in use.
    #[inline]
    #[must_use]
    pub const fn is_unflushed(self) -> bool {
        self.0 & Self::UNFLUSHED != 0
    }

    /// Whether the guest has an entry here: valid or absent.
    #[inline]
    #[must_use]
    pub const fn is_present(self) -> bool {
        self.0 & (Self::VALID | Self::ABSENT) != 0
    }

    /// Whether L is set.
    #[inline]
    #[must_use]
    pub const fn is_large(self) -> bool {
        self.0 & Self::LARGE != 0
    }

    /// The doubleword with `bits` set.
    #[inline]
    #[must_use]
    pub const fn with(self, bits: u64) -> Self {
        Self(self.0 | bits)
    }

    /// The doubleword with `bits` clear.
    #[inline]
    #[must_use]
    pub const fn without(self, bits: u64) -> Self {
        Self(self.0 & !bits)
    }

    /// What the guest sees of this doubleword, `r` being the other one: no lock bit, and an absent
    /// entry looks valid.
    #[inline]
    #[must_use]
    pub const fn to_guest(self, r: HpteR) -> GuestHpteV {
        let kept = self.0 & COMMON_V & !(Self::HVLOCK | Self::ABSENT);
        let valid = (self.0 & Self::ABSENT) / (Self::ABSENT / Self::VALID);
        GuestHpteV::new(kept | valid | ((r.get() & HpteR::B) << 4))
    }
}

impl HpteR {
    /// The upper bit of the page protection.
    pub const PP0: u64 = ppc_mask(0, 0);
    /// The upper two bits of the storage key.
    pub const KEY_HIGH: u64 = ppc_mask(2, 3);
    /// Field B: the segment size.
    pub const B: u64 = ppc_mask(4, 5);
    /// The real page number, LP included.
    pub const RPN: u64 = ppc_mask(7, 51);
    /// The lower three bits of the storage key.
    pub const KEY_LOW: u64 = ppc_mask(52, 54);
    /// Referenced.
    pub const R: u64 = 0x100;
    /// Changed.
    pub const C: u64 = 0x80;
    /// Write-through, caching-inhibited, memory coherence, guarded.
    pub const WIMG: u64 = 0x78;
    /// Guarded.
    pub const G: u64 = 0x8;
    /// No-execute.
    pub const N: u64 = 4;
    /// The lower two bits of the page protection.
    pub const PP: u64 = 3;
    /// What H_PROTECT replaces.
    pub const PROTECTION: u64 = Self::PP0 | Self::KEY_HIGH | Self::KEY_LOW | Self::N | Self::PP;
    /// The byte of the entry, counted from its first, that holds R.
    pub const R_BYTE: usize = 14;

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

    /// Field B at its place, for a segment of this size.
    #[inline]
    #[must_use]
    pub const fn b(segment: SegmentSize) -> u64 {
        segment.b() << 58
    }

    /// The segment size; a reserved B, which Penstock never stores, counts as its low bit says.
    #[inline]
    #[must_use]
    pub const fn segment(self) -> SegmentSize {
        if self.0 & (1 << 58) == 0 {
            SegmentSize::S256M
        } else {
            SegmentSize::S1T
        }
    }

    /// The page sizes that L of `v` and LP of this doubleword give, or `None` where reserved.
    #[inline]
    #[must_use]
    pub const fn encoding(self, v: HpteV) -> Option<PageEncoding> {
        if v.is_large() {
            PageEncoding::from_lp((self.0 >> 12) & 0xff)
        } else {
            Some(PageEncoding::Base4KActual4K)
        }
    }

    /// The first byte of the page.
    #[inline]
    #[must_use]
    pub const fn page(self, encoding: PageEncoding) -> HostReal {
        HostReal::new(self.0 & Self::RPN & !(encoding.actual().bytes() - 1))
    }

    /// R and C.
    #[inline]
    #[must_use]
    pub const fn rc(self) -> u64 {
        self.0 & (Self::R | Self::C)
    }

    /// The page protection.
    #[inline]
    #[must_use]
    pub const fn pp(self) -> PagePerm {
        PagePerm::of(self.0)
    }

    /// The storage key.
    #[inline]
    #[must_use]
    pub const fn key(self) -> StorageKey {
        StorageKey::of(self.0)
    }

    /// The doubleword with `bits` set.
    #[inline]
    #[must_use]
    pub const fn with(self, bits: u64) -> Self {
        Self(self.0 | bits)
    }

    /// The doubleword with `bits` clear.
    #[inline]
    #[must_use]
    pub const fn without(self, bits: u64) -> Self {
        Self(self.0 & !bits)
    }

    /// The doubleword without the right to store, and no other right gained or lost: what was
    /// read and write for both keys becomes read for both (011), and what key 1 could not use
    /// at all stays so (110). Power ISA 3.0B, Book III, Basic Storage Protection.
    #[inline]
    #[must_use]
    pub const fn read_only(self) -> Self {
        match (self.0 & Self::PP0 != 0, self.0 & Self::PP) {
            (false, 0) => Self((self.0 & !Self::PP) | Self::PP0 | 2),
            (false, _) => Self(self.0 | 3),
            // 110 is read-only, and the others are no access at all.
            (true, _) => self,
        }
    }
}

impl core::fmt::Debug for HpteV {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "HpteV({:#018x})", self.0)
    }
}

impl core::fmt::Debug for HpteR {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "HpteR({:#018x})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_are_those_of_the_manual() {
        assert_eq!(HpteV::AVPN, 0x000f_ffff_ffff_ff80);
        assert_eq!(HpteR::RPN, 0x01ff_ffff_ffff_f000);
        assert_eq!(HpteR::B, 0x0c00_0000_0000_0000);
        assert_eq!(HpteR::PROTECTION, 0xb000_0000_0000_0e07);
    }

    #[test]
    fn read_only_takes_the_stores_and_nothing_else() {
        use crate::hash::SegmentKey;
        for pp in 0..8_u64 {
            let r = HpteR::new(((pp >> 2) << 63) | (pp & 3) | 0x190);
            let (before, after) = (r.pp(), r.read_only().pp());
            for key in [SegmentKey::Zero, SegmentKey::One] {
                assert_eq!(before.may_load(key), after.may_load(key), "{pp:03b}");
                assert!(!after.may_store(key), "{pp:03b}");
            }
            let mask = HpteR::PP0 | HpteR::PP;
            assert_eq!(r.without(mask), r.read_only().without(mask));
        }
    }

    #[test]
    fn absent_looks_valid_and_the_lock_is_not_shown() {
        let r = HpteR::new(0x0400_0000_0000_0000);
        let guest = HpteV::new(0x0000_1234_5000_00f4).to_guest(r);
        assert_eq!(guest.get(), 0x4000_1234_5000_0095);
        let hidden = HpteV::new(0x0000_1234_5000_00d4).to_guest(r);
        assert_eq!(hidden.get(), 0x4000_1234_5000_0094);
        let valid = HpteV::new(0xfff0_1234_5000_0095).to_guest(HpteR::new(0));
        assert_eq!(valid.get(), 0x0000_1234_5000_0095);
    }

    #[test]
    fn page_number_and_encoding() {
        let v = HpteV::new(HpteV::LARGE);
        let r = HpteR::new(0x0400_0000_8765_1196);
        let encoding = r.encoding(v).unwrap();
        assert_eq!(r.page(encoding), HostReal::new(0x8765_0000));
        assert_eq!(r.segment(), SegmentSize::S1T);
        assert_eq!(r.rc(), 0x180);
    }
}
