// SPDX-License-Identifier: Apache-2.0 OR MIT
//! H_RESIZE_HPT_PREPARE and H_RESIZE_HPT_COMMIT on a partition's own tables.

use super::super::flags::EXACT;
use super::super::resize::Rehashed;
use super::*;
use crate::stream::StartsFrom;
use core::cell::Cell;
use penstock_arch::hash::Pate;
use std::collections::BTreeMap;

const BOLTED: u64 = 0x10;
/// The largest table of the random ones: under Miri each look at all of it takes long.
const LARGEST: u32 = unless_miri(21, 19);
const SECONDARY: u64 = 2;
const BUSY: HcallStatus = HcallStatus::LONG_BUSY_ORDER_1_MSEC;

fn resizable(backing: Backing, order: u32, largest: u32) -> Fixture {
    let config = HptConfig {
        resize: HptOrder::new(largest),
        ..HptConfig::new(HptOrder::new(order).unwrap())
    };
    partition_with(backing, config, TlbieErrata::NONE)
}

#[track_caller]
fn prepare(p: &Fixture, order: u32) {
    let mut calls = 0;
    while p.h_resize_hpt_prepare(0, order.into()) != HcallStatus::SUCCESS {
        calls += 1;
        assert!(calls < 100);
    }
}

#[track_caller]
fn resize(p: &Fixture, order: u32) -> Rehashed {
    prepare(p, order);
    let published = Cell::new(None);
    p.steps();
    let rehashed = p
        .h_resize_hpt_commit(0, order.into(), |pate| published.set(pate))
        .unwrap();
    assert_eq!(order::broken_rules(&p.steps()), []);
    assert_eq!((p.order().get(), p.entries()), (order, 1 << (order - 4)));
    assert!(p.hpt_base().is_aligned(1 << order));
    let pate = Pate::hash(p.hpt_base(), order, PageSize::P16M);
    assert_eq!(published.get().map(Pate::dwords), pate.map(Pate::dwords));
    let stats = p.check().unwrap();
    assert_eq!(stats.valid + stats.absent, rehashed.kept);
    rehashed
}

/// An entry as a guest remembers it: the page, the slot, whether in its secondary group.
#[derive(Clone, Copy, Debug)]
struct Known {
    page: Page,
    slot: u64,
    flags: u64,
    at: u64,
}

impl Known {
    /// Where the guest looks for it.
    fn ptex(self, p: &Fixture) -> u64 {
        let group = if self.flags & SECONDARY == 0 {
            self.page.group(p)
        } else {
            self.page.other_group(p)
        };
        group + self.slot
    }

    fn entry(self) -> [u64; 2] {
        [self.page.v() | self.flags, self.page.r(self.at)]
    }

    fn enter(self, p: &Fixture) -> bool {
        let [v, r] = self.entry();
        p.h_enter(EXACT, self.ptex(p), v, r).is_ok()
    }
}

fn read(p: &Fixture, known: Known) -> [u64; 2] {
    p.h_read(0, known.ptex(p)).unwrap()
}

/// The page `number` pages after [`PAGE`].
fn page(number: u64, encoding: PageEncoding) -> Page {
    Page {
        ea: 0xc000_0000_0000_0000 + number * encoding.base().bytes(),
        vsid: 0x1ace54,
        encoding,
        ..PAGE
    }
}

fn known() -> impl Strategy<Value = Known> {
    let sizes = prop_oneof![
        Just(PageEncoding::Base4KActual4K),
        Just(PageEncoding::Base64KActual64K),
        Just(PageEncoding::Base4KActual64K)
    ];
    // Numbers that differ in what only the larger table has as groups, and so collide in the
    // smaller one.
    (0..4_u64, 0..32_u64, sizes, 0..7_u64, 0..4_u64, 0..100_u64).prop_map(
        |(low, high, encoding, slot, kind, at)| Known {
            page: page(low | high << 11, encoding),
            slot,
            flags: [0, 0, SECONDARY, 0][usize::try_from(kind).unwrap()]
                | if at < 8 { BOLTED } else { 0 },
            at: at << 16,
        },
    )
}

/// What a resize does, by the rules: first by number stays, but a bolted one displaces.
/// `None` where two bolted ones collide.
fn model(p: &Fixture, order: u32, entries: &[Known]) -> Option<Vec<Known>> {
    let mask = (1_u64 << (order - 4)) - 1;
    let mut sorted: Vec<_> = entries.to_vec();
    sorted.sort_by_key(|known| known.ptex(p));
    let mut new = BTreeMap::<u64, Known>::new();
    for known in sorted {
        let ea = EffectiveAddr::new(known.page.ea);
        let base = known.page.encoding.base();
        let mut hash = pteg_hash(known.page.vsid, ea, known.page.segment, base);
        if known.flags & SECONDARY != 0 {
            hash = !hash;
        }
        let to = ((hash << 3) & mask) + known.slot;
        match new.get(&to) {
            None => {
                new.insert(to, known);
            }
            Some(holder) if known.flags & BOLTED != 0 => {
                if holder.flags & BOLTED != 0 {
                    return None;
                }
                new.insert(to, known);
            }
            Some(_) => {}
        }
    }
    Some(new.into_values().collect())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: config().cases.div_ceil(4), ..config() })]

    #[test]
    fn a_guest_finds_its_entries_by_its_own_rule(
        entries in prop::collection::vec(known(), 0..steps(400)),
        lazy: bool,
        used in prop::collection::vec((0..steps(400), 0..4_u64), 0..steps(50)),
        orders in prop::collection::vec(18..=LARGEST, 1..unless_miri(6, 3)),
    ) {
        let backing = if lazy { Backing::Lazy } else { Backing::Eager };
        let p = resizable(backing, LARGEST, LARGEST);
        let mut there: Vec<Known> = entries.into_iter().filter(|known| known.enter(&p)).collect();
        let real_mode = p.check().unwrap().bolted
            - there.iter().filter(|known| known.flags & BOLTED != 0).count() as u64;
        for (which, bits) in used {
            if let Some(known) = there.get(which) {
                // PAGE.r sets R and C for the guest, so only the hardware's own copies differ.
                let at = known.ptex(&p);
                if p.real(at).0 & 1 != 0 {
                    p.hardware_sets(at, bits << 7);
                }
            }
        }
        for order in orders {
            match model(&p, order, &there) {
                Some(kept) => {
                    let lost = there.len() - kept.len();
                    let rehashed = resize(&p, order);
                    prop_assert_eq!(rehashed.kept, kept.len() as u64 + real_mode);
                    prop_assert_eq!(rehashed.displaced, lost as u64);
                    prop_assert_eq!(rehashed.misplaced, 0);
                    there = kept;
                }
                None => {
                    prepare(&p, order);
                    let before = (p.order(), p.hpt_base());
                    let answer = p.h_resize_hpt_commit(0, order.into(), |_| panic!("no swap"));
                    prop_assert_eq!(answer, Err(HcallStatus::PTEG_FULL));
                    prop_assert_eq!((p.order(), p.hpt_base()), before);
                    p.check().unwrap();
                }
            }
            for known in &there {
                prop_assert_eq!(read(&p, *known), known.entry(), "{:?}", known);
            }
        }
        // What was moved can be worked on as before.
        for known in &there {
            p.h_protect(1, known.ptex(&p), 0).unwrap();
            p.h_remove(0, known.ptex(&p), 0).unwrap();
        }
        let stats = p.check().unwrap();
        prop_assert_eq!(stats.valid + stats.absent, real_mode);
        prop_assert_eq!(p.hidden(), stats.absent);
        prop_assert_eq!(order::broken_rules(&p.steps()), []);
    }
}

#[test]
fn two_bolted_ones_leave_the_table_in_use() {
    let p = resizable(Backing::Eager, 19, 19);
    let pair = [0, 1 << 11].map(|number| Known {
        page: page(number, PageEncoding::Base64KActual64K),
        slot: 3,
        flags: BOLTED,
        at: 0,
    });
    assert!(pair.iter().all(|known| known.enter(&p)));
    let base = p.hpt_base();
    prepare(&p, 18);
    let answer = p.h_resize_hpt_commit(0, 18, |_| panic!("no swap"));
    assert_eq!(answer, Err(HcallStatus::PTEG_FULL));
    assert_eq!((p.order().get(), p.hpt_base()), (19, base));
    for known in pair {
        assert_eq!(read(&p, known), known.entry());
    }
    p.check().unwrap();
    // The pending table is gone.
    let answer = p.h_resize_hpt_commit(0, 18, |_| panic!("no swap"));
    assert_eq!(answer, Err(HcallStatus::CLOSED));
}

#[test]
fn what_is_dropped_gives_up_its_ring_its_veil_and_its_r_and_c() {
    let p = resizable(Backing::Lazy, 19, 19);
    let pair = [0, 1 << 11].map(|number| Known {
        page: page(number, PageEncoding::Base64KActual64K),
        slot: 3,
        flags: 0,
        at: 0x110_0000,
    });
    assert!(pair.iter().all(|known| known.enter(&p)));
    let hidden = p.hidden();
    assert_eq!(resize(&p, 18).displaced, 1);
    assert_eq!(p.hidden(), hidden - 1);
    resize(&p, 19);
    let there = pair.map(|known| read(&p, known)[0] != 0);
    assert!(there[0] ^ there[1], "{there:?}");
}

#[test]
fn a_kept_entry_keeps_r_and_c_of_the_hardware() {
    let p = resizable(Backing::Eager, 18, 19);
    let known = Known {
        page: PAGE,
        slot: 1,
        flags: 0,
        at: 0x3_0000,
    };
    let clean = known.entry()[1] & !0x180;
    p.h_enter(EXACT, known.ptex(&p), known.page.v(), clean)
        .unwrap();
    assert_eq!(read(&p, known)[1], clean);
    p.hardware_sets(known.ptex(&p), 0x180);
    resize(&p, 19);
    assert_eq!(read(&p, known)[1], clean | 0x180);
}

#[test]
fn what_does_not_fit_is_refused() {
    let p = partition();
    assert_eq!(p.h_resize_hpt_prepare(0, 19), HcallStatus::AUTHORITY);
    let answer = p.h_resize_hpt_commit(0, 19, |_| panic!("no swap"));
    assert_eq!(answer, Err(HcallStatus::AUTHORITY));

    let p = resizable(Backing::Eager, 18, 20);
    assert_eq!(p.h_resize_hpt_prepare(0, 21), HcallStatus::RESOURCE);
    assert_eq!(p.h_resize_hpt_prepare(0, 17), HcallStatus::PARAMETER);
    assert_eq!(p.h_resize_hpt_prepare(1, 19), HcallStatus::PARAMETER);
    // From either table to every size.
    let orders = [20, 19, 20, 20, 18, 19, 19, 18];
    for order in orders.into_iter().take(unless_miri(8, 2)) {
        resize(&p, order);
        assert_eq!(p.h_resize_hpt_prepare(0, 21), HcallStatus::RESOURCE);
    }
}

#[test]
#[cfg_attr(miri, ignore = "a million entries")]
fn a_large_table_is_prepared_in_pieces() {
    let host = TestMemory::new(8 << 24);
    let mut allocator = host.frames();
    let left = allocator.left();
    let memory =
        GuestMemory::new(TestMachine::new(), 32 << 20, Backing::Lazy, &mut allocator).unwrap();
    let config = HptConfig {
        resize: HptOrder::new(24),
        ..small(PageSize::P16M)
    };
    let mmu = HashMmu::new(LPID, memory, config, &mut allocator).unwrap();
    assert_eq!(mmu.h_resize_hpt_prepare(0, 24), BUSY);
    let answer = mmu.h_resize_hpt_commit(0, 24, |_| panic!("no swap"));
    assert_eq!(answer, Err(HcallStatus::BUSY));
    assert_eq!(mmu.h_resize_hpt_prepare(0, 24), HcallStatus::SUCCESS);
    mmu.h_resize_hpt_commit(0, 24, |_| ()).unwrap();
    mmu.check().unwrap();
    mmu.destroy(&mut allocator).unwrap();
    assert_eq!((allocator.left(), allocator.largest()), (left, left));
}

#[test]
fn tables_that_do_not_fit_take_nothing() {
    let host = TestMemory::new(4 << 24);
    let mut allocator = host.frames();
    let left = allocator.left();
    // Not the first table, not its reverse map, and not all of the second one.
    for order in [25, 24, 23] {
        let memory =
            GuestMemory::new(TestMachine::new(), 32 << 20, Backing::Lazy, &mut allocator).unwrap();
        let config = HptConfig {
            resize: HptOrder::new(order),
            ..small(PageSize::P16M)
        };
        HashMmu::new(LPID, memory, config, &mut allocator).unwrap_err();
        assert_eq!((allocator.left(), allocator.largest()), (left, left));
    }
}

#[test]
fn starting_over_goes_back_to_the_first_table() {
    let orders = [&[20, 18][..], &[20], &[20, 18, 18]];
    for to in orders.into_iter().take(unless_miri(3, 1)) {
        let p = resizable(Backing::Eager, 19, 20);
        let base = p.hpt_base();
        let before = everything(&p);
        assert_eq!(p.entries(), 1 << 15);
        for &order in to {
            for at in 0..100 {
                p.h_enter(EXACT, at, PAGE.v(), PAGE.r(0)).unwrap();
            }
            resize(&p, order);
        }
        assert_eq!(p.h_resize_hpt_prepare(0, 18), HcallStatus::SUCCESS);
        p.clear_all();
        assert_eq!((p.order().get(), p.hpt_base()), (19, base));
        assert_eq!(everything(&p), before);
        p.check().unwrap();
        let answer = p.h_resize_hpt_commit(0, 18, |_| panic!("no swap"));
        assert_eq!(answer, Err(HcallStatus::CLOSED));
    }
}

/// The base page size finds an entry, the actual one says what it maps: in its place after each resize,
/// and in the stream.
#[test]
fn mpss_base_vs_actual_in_resize_and_stream() {
    let p = resizable(Backing::Eager, 18, 20);
    let mixed = [
        (PageEncoding::Base4KActual64K, 0x12_3000, 0x4_0000),
        (PageEncoding::Base4KActual16M, 0x345_6000, 0x100_0000),
        (PageEncoding::Base64KActual16M, 0x7ab_0000, 0),
    ]
    .map(|(encoding, offset, at)| {
        let ea = PAGE.ea & !0xfff_ffff | offset;
        let page = Page {
            ea,
            encoding,
            ..PAGE
        };
        (page, at)
    });
    for (slot, (page, at)) in (1..).zip(mixed) {
        let ptex = page.group(&p) + slot;
        let entered = p.h_enter(EXACT, ptex, page.v(), page.r(at));
        assert_eq!(entered, Ok(ptex));
    }
    let check = |p: &Fixture| {
        for (slot, (page, at)) in (1..).zip(mixed) {
            let (base, actual) = (page.encoding.base().bytes(), page.encoding.actual().bytes());
            assert!(base < actual);
            let ptex = page.group(p) + slot;
            assert_eq!(p.h_read(0, ptex).unwrap(), [page.v(), page.r(at)]);
            let (v, r) = p.real(ptex);
            assert_eq!(v & 1, 1);
            assert_eq!(r & HpteR::RPN & !(actual - 1), p.host(at) & !(actual - 1));
            assert_eq!(p.resolve(&page.miss(AccessKind::Load)), FaultAction::Retry);
            // Another base page of the same page has an entry of its own, or none.
            let neighbour = Page {
                ea: page.ea ^ base,
                ..page
            };
            let missing = GuestFault::Data(Dsisr::NO_HPTE);
            let action = p.resolve(&neighbour.miss(AccessKind::Load));
            assert_eq!(action, FaultAction::Reflect(missing));
        }
        p.check().unwrap();
    };
    check(&p);
    for &order in unless_miri(&[19, 20, 18][..], &[19, 18]) {
        resize(&p, order);
        check(&p);
    }
    let stream = super::stream::first_pass(&p);
    let other = resizable(Backing::Eager, 18, 20);
    let stream = super::stream::parsed(&stream, StartsFrom::EmptyTable);
    other.restore(&stream, VcpusAre::Stopped, |_| ()).unwrap();
    check(&other);
}
