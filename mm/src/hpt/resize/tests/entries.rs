// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which entries a resize keeps, and where they go.

use super::*;
use crate::hpt::tests::config;
use penstock_arch::addr::EffectiveAddr;
use penstock_arch::fake::{steps, unless_miri};
use penstock_arch::hash::{PageEncoding, SegmentSize, VRMA_SEGMENT, VRMA_VSID, pteg_hash};
use proptest::prelude::*;
use std::collections::btree_map::Entry;

/// A virtual page as its owner knows it.
#[derive(Clone, Copy, Debug)]
struct Page {
    vsid: u64,
    ea: u64,
    segment: SegmentSize,
    encoding: PageEncoding,
    secondary: bool,
    bolted: bool,
}

const PAGE: Page = Page {
    vsid: 0x1ace54,
    ea: 0,
    segment: SegmentSize::S1T,
    encoding: PageEncoding::Base64KActual64K,
    secondary: false,
    bolted: false,
};

impl Page {
    fn entry(self) -> (HpteV, HpteR) {
        let base = self.encoding.base();
        let offset = self.ea & ((1 << self.segment.shift()) - 1) & !(base.bytes() - 1);
        let address = (u128::from(self.vsid) << self.segment.shift()) | u128::from(offset);
        let v = HpteV::new(u64::try_from((address >> 23) << 7).unwrap())
            .with(HpteV::VALID)
            .with(if self.encoding.is_large() {
                HpteV::LARGE
            } else {
                0
            })
            .with(if self.secondary { HpteV::SECONDARY } else { 0 })
            .with(if self.bolted { HpteV::BOLTED } else { 0 });
        let r = HpteR::b(self.segment) | (self.encoding.lp() << 12) | 0x190;
        (v, HpteR::new(r))
    }

    /// Where its owner looks for it, having kept slot and group.
    fn index(self, order: u32, slot: u64) -> u64 {
        let ea = EffectiveAddr::new(self.ea);
        let hash = pteg_hash(self.vsid, ea, self.segment, self.encoding.base());
        let hash = if self.secondary { !hash } else { hash };
        (hash & ((1 << (order - 7)) - 1)) * 8 + slot
    }

    fn plus(self, pages: u64) -> Self {
        Self {
            ea: self.ea + pages * self.encoding.base().bytes(),
            ..self
        }
    }

    fn bolted(self) -> Self {
        Self {
            bolted: true,
            ..self
        }
    }
}

fn put(tables: &mut Tables, page: Page, slot: u64) {
    let at = page.index(tables.used.order, slot);
    assert!(tables.used.entries.insert(at, page.entry()).is_none());
}

/// PREPARE and COMMIT at once.
fn change(tables: &mut Tables, order: u32) -> Result<Rehashed, HcallStatus> {
    let mut resize = resize(36);
    let shift = u64::from(order);
    assert_eq!(resize.prepare(tables, 0, shift), HcallStatus::SUCCESS);
    resize.commit(tables, 0, shift)
}

#[test]
fn growing_keeps_every_entry_bolted_or_not() {
    let mut tables = Tables::of(18);
    let pages: Vec<Page> = (0..300)
        .map(|i| Page {
            secondary: i % 3 == 0,
            bolted: i % 5 == 0,
            ..PAGE.plus(i)
        })
        .collect();
    for (i, page) in pages.iter().enumerate() {
        put(&mut tables, *page, i as u64 % 8);
    }
    let rehashed = change(&mut tables, 21).unwrap();
    assert_eq!(rehashed.kept, 300);
    assert_eq!((rehashed.displaced, rehashed.misplaced), (0, 0));
    for (i, page) in pages.iter().enumerate() {
        let at = page.index(21, i as u64 % 8);
        assert_eq!(tables.used.entries.get(&at), Some(&page.entry()));
    }
    assert_eq!(tables.used.entries.len(), 300);
}

/// Two pages that share a group in a table of 2^18 bytes and not in one of 2^19.
fn rivals() -> [Page; 2] {
    let other = PAGE.plus(1 << 11);
    assert_eq!(PAGE.index(18, 0), other.index(18, 0));
    assert_ne!(PAGE.index(19, 0), other.index(19, 0));
    let mut rivals = [PAGE, other];
    rivals.sort_by_key(|page| page.index(19, 0));
    rivals
}

#[test]
fn resize_collision_two_bolted() {
    let [first, second] = rivals().map(Page::bolted);
    let mut tables = Tables::of(19);
    put(&mut tables, first, 4);
    put(&mut tables, second, 4);
    put(&mut tables, first.plus(5), 2);
    let before = tables.used.clone();
    let mut resize = resize(24);
    assert_eq!(resize.prepare(&mut tables, 0, 18), SUCCESS);
    assert_eq!(
        resize.commit(&mut tables, 0, 18),
        Err(HcallStatus::PTEG_FULL)
    );
    assert_eq!(tables.used, before);
    assert_eq!(
        tables.did(),
        [Did::Allocate(18), Did::Hold, Did::Resume, Did::Discard(18)]
    );
    assert_eq!(resize.commit(&mut tables, 0, 18), Err(CLOSED));
    // In two slots of the group there is room for both.
    let mut tables = Tables::of(19);
    put(&mut tables, first, 4);
    put(&mut tables, second, 5);
    assert_eq!(change(&mut tables, 18).unwrap().kept, 2);
}

#[test]
fn bolted_beats_unbolted_and_the_first_of_two_stays() {
    let [first, second] = rivals();
    for (one, two, stays) in [
        (first, second, first),
        (first.bolted(), second, first.bolted()),
        (first, second.bolted(), second.bolted()),
    ] {
        let mut tables = Tables::of(19);
        put(&mut tables, one, 4);
        put(&mut tables, two, 4);
        let rehashed = change(&mut tables, 18).unwrap();
        let expected = Rehashed {
            kept: 1,
            displaced: 1,
            misplaced: 0,
        };
        assert_eq!(rehashed, expected);
        assert_eq!(
            tables.used.entries,
            [(stays.index(18, 4), stays.entry())].into()
        );
    }
}

#[test]
fn resize_p9_b_field() {
    // The same doubleword 0 in segments of both sizes: B, in doubleword 1, tells what is VSID and
    // what is page, and so where the entry goes.
    let large = Page {
        vsid: 0x123,
        ea: 0x45_6000_0000,
        ..PAGE
    };
    let small = Page {
        vsid: 0x12_3456,
        ea: 0,
        segment: SegmentSize::S256M,
        ..PAGE
    };
    assert_eq!(large.entry().0, small.entry().0);
    let mut tables = Tables::of(18);
    put(&mut tables, large, 1);
    put(&mut tables, small, 2);
    assert_eq!(change(&mut tables, 30).unwrap().kept, 2);
    let expected =
        [(large, 1), (small, 2)].map(|(page, slot)| (page.index(30, slot), page.entry()));
    assert_eq!(tables.used.entries, expected.into());
    assert_ne!(large.index(30, 0), small.index(30, 0));
}

#[test]
fn mpss_base_vs_actual_in_resize() {
    // Pieces of one large page: entries that are nearly all alike, each in the group of its base
    // page.
    for (encoding, pieces) in [
        (PageEncoding::Base4KActual64K, 16),
        (PageEncoding::Base4KActual16M, unless_miri(4096, 256)),
        (PageEncoding::Base64KActual16M, 256),
    ] {
        let first = Page {
            encoding,
            ea: 0x300_0000,
            ..PAGE
        };
        let [first_order, largest, smallest] = unless_miri([20, 27, 19], [19, 20, 18]);
        let mut tables = Tables::of(first_order);
        for piece in 0..pieces {
            put(&mut tables, first.plus(piece), piece % 8);
        }
        for order in [largest, smallest, first_order] {
            assert_eq!(change(&mut tables, order).unwrap().kept, pieces);
            for piece in 0..pieces {
                let page = first.plus(piece);
                let at = page.index(order, piece % 8);
                assert_eq!(tables.used.entries.get(&at), Some(&page.entry()));
            }
        }
    }
}

#[test]
fn an_entry_that_no_search_finds_goes() {
    let mut tables = Tables::of(20);
    put(&mut tables, PAGE, 1);
    let wrong = PAGE.index(20, 1) ^ (1 << 15);
    tables.used.entries.insert(wrong, PAGE.bolted().entry());
    let reserved = (HpteV::new(HpteV::LARGE | 1), HpteR::new(0x3000));
    tables.used.entries.insert(5, reserved);
    let rehashed = change(&mut tables, 21).unwrap();
    let expected = Rehashed {
        kept: 1,
        displaced: 0,
        misplaced: 2,
    };
    assert_eq!(rehashed, expected);
    assert_eq!(
        tables.used.entries,
        [(PAGE.index(21, 1), PAGE.entry())].into()
    );
}

#[test]
fn real_mode_entries_give_way_to_each_other_only() {
    let area = |number: u64| Page {
        vsid: VRMA_VSID,
        ea: number << 24,
        segment: VRMA_SEGMENT,
        encoding: PageEncoding::Base16MActual16M,
        ..PAGE.bolted()
    };
    // Pages 0 and 2^11 share a group of the smaller table.
    let mut tables = Tables::of(19);
    put(&mut tables, area(0), 7);
    put(&mut tables, area(1 << 11), 7);
    let rehashed = change(&mut tables, 18).unwrap();
    assert_eq!((rehashed.kept, rehashed.displaced), (1, 1));
    // A guest's bolted entry in the same place, from before and from behind.
    for number in [0, 1 << 11] {
        let rival = (0..1 << 12)
            .map(|i| PAGE.plus(i).bolted())
            .find(|page| {
                page.index(18, 7) == area(number).index(18, 7)
                    && page.index(19, 7) != area(number).index(19, 7)
            })
            .unwrap();
        let mut tables = Tables::of(19);
        put(&mut tables, area(number), 7);
        put(&mut tables, rival, 7);
        assert_eq!(change(&mut tables, 18), Err(HcallStatus::PTEG_FULL));
    }
}

fn pages() -> impl Strategy<Value = Page> {
    (
        0_u64..40,
        0_u64..4096,
        0_usize..6,
        any::<[bool; 2]>(),
        0_u8..10,
    )
        .prop_map(|(vsid, number, encoding, [large, secondary], bolted)| {
            let encoding = PageEncoding::ALL[encoding];
            Page {
                vsid: vsid * 0x1_0001_0101,
                ea: number << encoding.base().shift(),
                segment: if large {
                    SegmentSize::S1T
                } else {
                    SegmentSize::S256M
                },
                encoding,
                secondary,
                bolted: bolted == 0,
            }
        })
        .prop_map(|page| Page {
            vsid: page.vsid & ((1 << (68 - page.segment.shift())) - 1),
            ea: page.ea & ((1 << page.segment.shift()) - 1),
            ..page
        })
}

proptest! {
    #![proptest_config(config())]

    /// Against a guest's own list: after each resize it looks for each of its pages where it
    /// remembers it.
    #[test]
    fn a_guest_finds_its_entries_or_they_are_gone(
        pages in prop::collection::vec((pages(), 0_u64..2), 1..steps(200)),
        orders in prop::collection::vec(18..unless_miri(23_u32, 21), 1..unless_miri(6, 4)),
    ) {
        let mut order = unless_miri(20, 19);
        let mut tables = Tables::of(order);
        let mut known: Vec<(Page, u64)> = vec![];
        for (page, slot) in pages {
            let at = page.index(order, slot);
            if let Entry::Vacant(place) = tables.used.entries.entry(at) {
                place.insert(page.entry());
                known.push((page, slot));
            }
        }
        for new in orders {
            let before = tables.used.clone();
            // Lowest number first; a bolted one before all others.
            known.sort_by_key(|(page, slot)| page.index(order, *slot));
            let mut places = BTreeMap::<u64, Vec<(Page, u64)>>::new();
            for (page, slot) in &known {
                places.entry(page.index(new, *slot)).or_default().push((*page, *slot));
            }
            let full = places.values().any(|list| list.iter().filter(|(p, _)| p.bolted).count() > 1);
            let answer = change(&mut tables, new);
            if full {
                prop_assert_eq!(answer, Err(HcallStatus::PTEG_FULL));
                prop_assert_eq!(&tables.used, &before);
                continue;
            }
            order = new;
            let kept: Vec<(Page, u64)> = places
                .values()
                .map(|list| *list.iter().find(|(page, _)| page.bolted).unwrap_or(&list[0]))
                .collect();
            let expected = Rehashed {
                kept: kept.len() as u64,
                displaced: (known.len() - kept.len()) as u64,
                misplaced: 0,
            };
            prop_assert_eq!(answer, Ok(expected));
            let wanted: Entries = kept
                .iter()
                .map(|(page, slot)| (page.index(order, *slot), page.entry()))
                .collect();
            prop_assert_eq!(&tables.used.entries, &wanted);
            known = kept;
        }
    }
}
