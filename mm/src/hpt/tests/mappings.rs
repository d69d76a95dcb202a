// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Who maps a page of a device.

use super::super::flags::EXACT;
use super::ranges::with_slots;
use super::*;
use crate::guest_memory::SlotId;
use crate::hpt::mappings::{MOST_MAPPINGS, Mappings, NAMED_MAPPINGS};
use penstock_arch::addr::HostReal;

/// Guest real address of the slots.
const WINDOW: u64 = 0x1_0000_0000;

fn page(number: u64, encoding: PageEncoding) -> Page {
    Page {
        ea: 0xc000_0000_0000_0000 + (number << encoding.base().shift()),
        encoding,
        ..PAGE
    }
}

/// Doubleword 1 for a page of a device.
fn device(page: Page, at: u64) -> u64 {
    page.r(WINDOW + at) & !0x78 | 0x28
}

fn found(p: &Fixture, slot: SlotId, at: u64) -> (u64, Vec<u64>) {
    let Mappings { named, count } = p.device_mappings(slot, at).unwrap();
    let named: Vec<u64> = named.iter().map(|index| index.get()).collect();
    assert_eq!(
        named.len(),
        NAMED_MAPPINGS.min(usize::try_from(count).unwrap())
    );
    (count, named)
}

#[test]
fn entries_of_all_sizes_and_of_each_granule_are_found() {
    let (p, slot, _) = with_slots(Backing::Eager);
    assert_eq!(found(&p, slot, 0x3_0000), (0, Vec::new()));
    let large = page(1, PageEncoding::Base64KActual64K);
    let first = large.group(&p);
    p.h_enter(EXACT, first, large.v(), device(large, 0x3_0000))
        .unwrap();
    // The page need not be there yet, and any address in it will do.
    assert_eq!(found(&p, slot, 0x3_0000), (1, [first].to_vec()));
    let host = HostReal::new(0x0006_0302_0317_0000);
    p.set_device_page(slot, 0x3_0000, Some(host)).unwrap();
    assert_eq!(found(&p, slot, 0x3_ffff), (1, [first].to_vec()));
    // Its neighbours have other entries.
    let small = page(2, PageEncoding::Base4KActual4K);
    let second = small.group(&p);
    p.h_enter(EXACT, second, small.v(), device(small, 0x3_f000))
        .unwrap();
    let other = page(3, PageEncoding::Base4KActual4K);
    let third = other.group(&p);
    p.h_enter(EXACT, third, other.v(), device(other, 0x4_0000))
        .unwrap();
    assert_eq!(found(&p, slot, 0x3_0000), (2, [first, second].to_vec()));
    assert_eq!(found(&p, slot, 0x2_ffff), (0, Vec::new()));
    assert_eq!(found(&p, slot, 0x4_0000), (1, [third].to_vec()));
    p.h_remove(0, first, 0).unwrap();
    assert_eq!(found(&p, slot, 0x3_0000), (1, [second].to_vec()));
    // Only pages of devices are looked at.
    assert_eq!(p.device_mappings(SlotId::MEMORY, 0), None);
    assert_eq!(p.device_mappings(slot, 64 << 16), None);
    assert_eq!(p.device_mappings(SlotId::new(99), 0), None);
}

#[test]
fn a_page_that_is_mapped_very_often_takes_no_longer() {
    let (p, slot, _) = with_slots(Backing::Eager);
    for number in 0..MOST_MAPPINGS + 20 {
        let page = page(number, PageEncoding::Base4KActual4K);
        // Two granules have them in turn.
        let r = device(page, (number % 2) << 12);
        p.h_enter(0, page.group(&p), page.v(), r).unwrap();
    }
    assert_eq!(found(&p, slot, 0).0, MOST_MAPPINGS);
    // Nothing is left locked.
    let page = page(0, PageEncoding::Base4KActual4K);
    p.h_remove(0, page.group(&p), 0).unwrap();
    p.check().unwrap();
}
