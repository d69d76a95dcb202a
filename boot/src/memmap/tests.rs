// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tests of range sets against a bitmap of pages.

extern crate std;

use super::*;
use crate::fdt;
use proptest::prelude::*;
use std::vec::Vec;

fn range(start: u64, end: u64) -> HostRange {
    HostRange::between(HostReal::new(start), HostReal::new(end)).unwrap()
}

fn pairs<const N: usize>(set: &RangeSet<N>) -> Vec<(u64, u64)> {
    set.as_slice()
        .iter()
        .map(|range| (range.start().get(), range.end().get()))
        .collect()
}

#[test]
fn neighbours_and_overlaps_merge() {
    let mut set = RangeSet::<4>::new();
    for (start, end) in [(10, 20), (30, 40), (20, 25), (28, 35)] {
        set.insert(range(start, end)).unwrap();
    }
    assert_eq!(pairs(&set), [(10, 25), (28, 40)]);
    set.insert(range(0, 100)).unwrap();
    assert_eq!(pairs(&set), [(0, 100)]);
    assert_eq!(set.total_bytes(), 100);
}

#[test]
fn removal_splits_and_trims() {
    let mut set = RangeSet::<4>::new();
    set.insert(range(0, 100)).unwrap();
    set.remove(range(40, 50)).unwrap();
    set.remove(range(90, 200)).unwrap();
    set.remove(range(0, 5)).unwrap();
    assert_eq!(pairs(&set), [(5, 40), (50, 90)]);
    set.remove(range(0, 100)).unwrap();
    assert!(set.as_slice().is_empty());
}

#[test]
fn a_full_set_is_an_error_and_stays_as_it_was() {
    let mut set = RangeSet::<2>::new();
    set.insert(range(0, 10)).unwrap();
    set.insert(range(20, 30)).unwrap();
    assert_eq!(set.insert(range(40, 50)), Err(MapError { capacity: 2 }));
    assert_eq!(set.remove(range(4, 5)), Err(MapError { capacity: 2 }));
    assert_eq!(pairs(&set), [(0, 10), (20, 30)]);
    assert_eq!(set.insert(range(10, 20)), Ok(()));
}

#[test]
fn the_end_of_the_address_space_is_reached() {
    let mut set = RangeSet::<2>::new();
    set.insert(range(0, u64::MAX)).unwrap();
    assert_eq!(set.total_bytes(), u64::MAX);
    set.remove(range(0x10, u64::MAX)).unwrap();
    assert_eq!(pairs(&set), [(0, 0x10)]);
    // No address above the last page of 64 KiB can be rounded up.
    set.insert(range(u64::MAX - 5, u64::MAX)).unwrap();
    set.align_inward(0x1_0000);
    assert!(set.as_slice().is_empty());
}

#[test]
fn free_memory_of_powernv9() {
    let info = fdt::parse(include_bytes!("../../tests/data/powernv9-smp2.dtb")).unwrap();
    let own = [
        range(0x2000_0000, 0x2012_3456),
        range(0x2fff_0001, 0x3000_0000),
    ];
    let free = free_memory(&info, &own).unwrap();
    assert_eq!(
        pairs(&free),
        [
            (0x1_0000, 0x2000_0000),
            (0x2013_0000, 0x2800_0000),
            // The initrd of three bytes takes a page.
            (0x2801_0000, 0x2fff_0000),
            (0x32c3_0000, 0x8000_0000),
        ]
    );
}

/// Pages of the model, each of one byte.
const PAGES: usize = 256;

#[derive(Clone, Copy, Debug)]
enum Step {
    Insert(HostRange),
    Remove(HostRange),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step =
        (any::<bool>(), 0..PAGES as u64 - 1, 1..40_u64).prop_map(|(insert, start, bytes)| {
            let range = range(start, (start + bytes).min(PAGES as u64));
            if insert {
                Step::Insert(range)
            } else {
                Step::Remove(range)
            }
        });
    prop::collection::vec(step, 1..60)
}

fn cases() -> ProptestConfig {
    let cases = std::env::var("PENSTOCK_CASES")
        .ok()
        .and_then(|text| text.parse().ok());
    ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(cases.unwrap_or(256))
    }
}

fn is_canonical<const N: usize>(set: &RangeSet<N>) -> bool {
    set.as_slice()
        .windows(2)
        .all(|pair| pair[0].end() < pair[1].start())
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn sets_hold_what_a_bitmap_holds(steps in steps()) {
        let mut set = RangeSet::<128>::new();
        let mut bitmap = [false; PAGES];
        for step in steps {
            let (range, value) = match step {
                Step::Insert(range) => (range, true),
                Step::Remove(range) => (range, false),
            };
            match step {
                Step::Insert(range) => set.insert(range).unwrap(),
                Step::Remove(range) => set.remove(range).unwrap(),
            }
            for (page, bit) in bitmap.iter_mut().enumerate() {
                if range.contains(HostReal::new(page as u64)) {
                    *bit = value;
                }
            }
            for (page, &bit) in bitmap.iter().enumerate() {
                let address = HostReal::new(page as u64);
                prop_assert_eq!(set.as_slice().iter().any(|range| range.contains(address)), bit);
            }
            prop_assert!(is_canonical(&set));
            let total = bitmap.iter().filter(|&&bit| bit).count() as u64;
            prop_assert_eq!(set.total_bytes(), total);
        }
    }

    #[test]
    fn free_memory_is_memory_that_nobody_uses(
        memory in prop::collection::vec((0..60_u64, 1..20_u64), 1..6),
        reserved in prop::collection::vec((0..80_u64, 1..4_u64), 0..8),
        own in prop::collection::vec((0..0x50_0000_u64, 1..0x3_0000_u64), 0..4),
        initrd in prop::option::of((0..0x50_0000_u64, 1..0x3_0000_u64)),
    ) {
        let mut info = fdt::parse(include_bytes!("../../tests/data/powernv9-smp2.dtb")).unwrap();
        let paged = |(start, pages): (u64, u64)| range(start << 16, (start + pages) << 16);
        let bytes = |(start, bytes): (u64, u64)| range(start, start + bytes);
        info.memory = memory.iter().copied().map(paged).collect();
        info.reserved = reserved.iter().copied().map(paged).collect();
        info.initrd = initrd.map(bytes);
        let own: Vec<_> = own.into_iter().map(bytes).collect();
        let free = free_memory(&info, &own).unwrap();
        prop_assert!(is_canonical(&free));
        for page in 0..100_u64 {
            let page = range(page << 16, (page + 1) << 16);
            let touches = |other: &HostRange| page.start() < other.end() && other.start() < page.end();
            let wanted = info.memory.iter().any(touches)
                && page.start().get() != 0
                && !info.reserved.iter().any(touches)
                && !info.initrd.iter().any(touches)
                && !own.iter().any(touches);
            prop_assert_eq!(free.as_slice().iter().any(touches), wanted, "{}", page);
            prop_assert_eq!(
                free.as_slice().iter().any(|range| range.contains(page.start())),
                wanted
            );
        }
    }
}
