// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Entries are put together as a guest does it, from an address, and found again.

use super::*;
use crate::addr::EffectiveAddr;
use crate::fake::unless_miri;
use crate::hash::pteg_hash;

/// A virtual page as its owner knows it.
#[derive(Clone, Copy, Debug)]
struct Page {
    vsid: u64,
    ea: u64,
    segment: SegmentSize,
    encoding: PageEncoding,
    secondary: bool,
}

impl Page {
    fn v(self) -> HpteV {
        let base = self.encoding.base();
        let in_segment = self.ea & ((1 << self.segment.shift()) - 1) & !(base.bytes() - 1);
        let va = (u128::from(self.vsid) << self.segment.shift()) | u128::from(in_segment);
        let avpn = u64::try_from((va >> 23) << 7).unwrap();
        let large = if self.encoding.is_large() {
            HpteV::LARGE
        } else {
            0
        };
        let h = if self.secondary { HpteV::SECONDARY } else { 0 };
        HpteV::new(avpn | large | h | HpteV::VALID)
    }

    fn r(self) -> HpteR {
        HpteR::new(HpteR::b(self.segment) | (self.encoding.lp() << 12) | 0x1_2300_0190)
    }

    fn index(self, order: u32, slot: u64) -> HpteIndex {
        let ea = EffectiveAddr::new(self.ea);
        let hash = pteg_hash(self.vsid, ea, self.segment, self.encoding.base());
        let hash = if self.secondary { !hash } else { hash };
        HpteIndex::new((hash & ((1 << (order - 7)) - 1)) * 8 + slot)
    }
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn page(&mut self, encoding: PageEncoding, segment: SegmentSize, secondary: bool) -> Page {
        let vsid_bits = 68 - segment.shift();
        Page {
            vsid: self.next() & ((1 << vsid_bits) - 1),
            ea: self.next(),
            segment,
            encoding,
            secondary,
        }
    }
}

/// Every page encoding, both segment sizes and both groups.
fn kinds() -> impl Iterator<Item = (PageEncoding, SegmentSize, bool)> {
    PageEncoding::ALL.into_iter().flat_map(|encoding| {
        [SegmentSize::S256M, SegmentSize::S1T]
            .into_iter()
            .flat_map(move |segment| [false, true].map(|h| (encoding, segment, h)))
    })
}

#[test]
fn by_hand() {
    // VSID 0x123456 in 1T segments, 64K page 0x12_3457: hash 0x123456 ^ 0x123456 << 25 ^ 0x123457
    // = 0x2468ac000001. In 2^11 groups that is group 1, in 2^29 groups 0xc000001.
    let page = Page {
        vsid: 0x12_3456,
        ea: 0x12_3457_0000,
        segment: SegmentSize::S1T,
        encoding: PageEncoding::Base64KActual64K,
        secondary: false,
    };
    let (v, r) = (page.v(), page.r());
    let found = EntryPage::of(v, r, HpteIndex::new(8 + 5)).unwrap();
    assert_eq!((found.vsid(), found.number()), (0x12_3456, 0x12_3457));
    assert_eq!(found.hash(), 0x2468_ac00_0001);
    assert_eq!(
        rehash(v, r, HpteIndex::new(8 + 5), 18, 36),
        Some(HpteIndex::new(0xc00_0001 * 8 + 5))
    );
    // The same page through its secondary group: the complement, and the slot stays.
    let v = HpteV::new(v.get() | HpteV::SECONDARY);
    assert_eq!(
        rehash(v, r, HpteIndex::new(0x7fe * 8 + 6), 18, 36),
        Some(HpteIndex::new(0x13ff_fffe * 8 + 6))
    );
    assert_eq!(
        rehash(v, r, HpteIndex::new(0x13ff_fffe * 8 + 6), 36, 18),
        Some(HpteIndex::new(0x7fe * 8 + 6))
    );
}

#[test]
fn finds_the_group_of_every_size_from_every_other() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for (encoding, segment, secondary) in kinds() {
        for _ in 0..unless_miri(25, 1) {
            let page = random.page(encoding, segment, secondary);
            let (v, r) = (page.v(), page.r());
            for from in (18..=36).step_by(unless_miri(1, 6)) {
                for to in (18..=36).step_by(unless_miri(1, 6)) {
                    let slot = random.next() & 7;
                    assert_eq!(
                        rehash(v, r, page.index(from, slot), from, to),
                        Some(page.index(to, slot)),
                        "{page:x?} {from} {to}"
                    );
                }
            }
        }
    }
}

#[test]
fn the_page_is_found_again() {
    let mut random = Random(0x0123_4567_89ab_cdef);
    for (encoding, segment, secondary) in kinds() {
        for order in 18..=36 {
            let page = random.page(encoding, segment, secondary);
            let found = EntryPage::of(page.v(), page.r(), page.index(order, 0)).unwrap();
            let in_segment = page.ea & ((1 << segment.shift()) - 1);
            assert_eq!(found.number(), in_segment >> encoding.base().shift());
            assert_eq!(found.vsid(), page.vsid);
            assert_eq!((found.segment(), found.encoding()), (segment, encoding));
            let ea = EffectiveAddr::new(page.ea);
            assert_eq!(
                found.hash(),
                pteg_hash(page.vsid, ea, segment, encoding.base())
            );
        }
    }
}

#[test]
fn mixed_pages_hash_by_their_base_page() {
    // Two 4K pieces of one 16M page: same AVPN, same page, groups next to each other.
    let page = Page {
        vsid: 0x345,
        ea: 0x0100_0000,
        segment: SegmentSize::S256M,
        encoding: PageEncoding::Base4KActual16M,
        secondary: false,
    };
    let next = Page {
        ea: page.ea + 0x1000,
        ..page
    };
    assert_eq!((page.v(), page.r()), (next.v(), next.r()));
    for piece in [page, next] {
        assert_eq!(
            rehash(piece.v(), piece.r(), piece.index(18, 3), 18, 30),
            Some(piece.index(30, 3))
        );
    }
    assert_eq!(page.index(30, 3).group() ^ next.index(30, 3).group(), 1);
}

#[test]
fn an_entry_that_no_search_finds_has_no_place() {
    let mut random = Random(0xfeed_face_cafe_beef);
    for (encoding, segment, secondary) in kinds() {
        let page = random.page(encoding, segment, secondary);
        let (v, r) = (page.v(), page.r());
        // Group bits above those that the page's number is made of must be the hash's.
        let known = 23_u32.saturating_sub(encoding.base().shift());
        for bit in known..(30 - 7) {
            let wrong = HpteIndex::new(page.index(30, 2).get() ^ (8 << bit));
            assert_eq!(rehash(v, r, wrong, 30, 20), None, "{page:x?} {bit}");
        }
        // Beyond the table.
        let beyond = HpteIndex::new(page.index(20, 0).get() + (1 << 16));
        assert_eq!(rehash(v, r, beyond, 20, 24), None);
    }
}

#[test]
fn reserved_encodings_and_sizes_have_no_place() {
    let v = HpteV::new(HpteV::LARGE | HpteV::VALID);
    let at = HpteIndex::new(0);
    assert_eq!(rehash(v, HpteR::new(0x3000), at, 18, 20), None);
    assert_eq!(EntryPage::of(v, HpteR::new(0x3000), at), None);
    let r = HpteR::new(0x1000);
    assert_eq!(rehash(v, r, at, 18, 20), Some(at));
    for (from, to) in [
        (17, 20),
        (20, 17),
        (47, 20),
        (20, 47),
        (0, 0),
        (u32::MAX, 18),
    ] {
        assert_eq!(rehash(v, r, at, from, to), None, "{from} {to}");
    }
}
