// SPDX-License-Identifier: Apache-2.0 OR MIT
//! H_BLOCK_REMOVE.

use super::super::flags::EXACT;
use super::*;

const END: u64 = 0xc0 << 56;
const REQUEST: u64 = 0x40 << 56;
const AVPN: u64 = 0x41 << 56;

/// The first byte of the block that [`PAGE`] lies in.
const BLOCK: Page = Page {
    ea: 0xc000_0000_0120_0000,
    ..PAGE
};

impl Page {
    fn plus(self, pages: u64) -> Self {
        Self {
            ea: self.ea + pages * self.encoding.base().bytes(),
            ..self
        }
    }

    fn avpn(self) -> u64 {
        self.v() & !0x7f
    }
}

/// Enters a page where it belongs.
fn enter(p: &Fixture, page: Page, bits: u64) -> u64 {
    p.h_enter(0, page.group(p), page.v() | bits, page.r(0) & !0x180)
        .unwrap()
}

fn call<const N: usize>(p: &Fixture, ava: u64, specs: [u64; N]) -> (HcallStatus, [u64; N]) {
    let mut all = [END; 8];
    all[..N].copy_from_slice(&specs);
    let status = p.h_block_remove(ava, &mut all);
    assert!(all[N..].iter().all(|spec| *spec == END));
    (status, all[..N].try_into().unwrap())
}

fn there(p: &Fixture, at: u64) -> bool {
    p.real(at).0 & 0x21 != 0
}

#[test]
fn block_remove_takes_eight_with_one_flush() {
    let p = partition();
    let entries: [u64; 8] = core::array::from_fn(|i| enter(&p, BLOCK.plus(i as u64), 0));
    for (i, at) in entries.iter().enumerate() {
        p.hardware_sets(*at, [0, 0x100, 0x80, 0x180][i % 4]);
    }
    p.steps();
    let (status, responses) = call(&p, BLOCK.avpn(), entries.map(|at| AVPN | at));
    assert_eq!(status, HcallStatus::SUCCESS);
    // Type 10, code 000, R, C, and the condition as it was.
    let first: [u64; 8] = [0x81, 0x85, 0x83, 0x87, 0x81, 0x85, 0x83, 0x87];
    for ((response, first), at) in responses.into_iter().zip(first).zip(entries) {
        assert_eq!(response, first << 56 | at);
        assert_eq!(p.real(at).0, 0);
    }
    let steps = p.steps();
    let count = |wanted: fn(&Step) -> bool| steps.iter().filter(|step| wanted(step)).count();
    assert_eq!(count(|step| matches!(step, Step::Tlbie(..))), 8);
    assert_eq!(count(|step| matches!(step, Step::Ptesync)), 2);
    assert_eq!(count(|step| matches!(step, Step::Tlbsync)), 1);
    assert_eq!(super::order::broken_rules(&steps), []);
}

#[test]
fn block_remove_answers_each_request() {
    let p = partition();
    let first = enter(&p, BLOCK, 0);
    let bolted = enter(&p, BLOCK.plus(1), 0x10);
    let other_avpn = enter(&p, Page { vsid: 7, ..BLOCK }, 0);
    let next_block = enter(&p, BLOCK.plus(8), 0);
    let large = Page {
        encoding: PageEncoding::Base64KActual16M,
        ..BLOCK
    };
    let large = enter(&p, large.plus(2), 0);
    let last = enter(&p, BLOCK.plus(7), 0);
    let (status, responses) = call(
        &p,
        BLOCK.avpn(),
        [
            AVPN | 16384,
            AVPN | bolted,
            AVPN | other_avpn,
            REQUEST | first,
            AVPN | next_block,
            REQUEST | large,
            AVPN | last,
            REQUEST | 5,
        ],
    );
    assert_eq!(status, HcallStatus::PARTIAL);
    assert_eq!(
        responses,
        [
            0x91 << 56 | 16384,
            0x89 << 56 | bolted,
            0x89 << 56 | other_avpn,
            0x80 << 56 | first,
            0xa9 << 56 | next_block,
            0x98 << 56 | large,
            0x81 << 56 | last,
            0x88 << 56 | 5,
        ]
    );
    for (at, stays) in [
        (bolted, true),
        (other_avpn, true),
        (first, false),
        (next_block, true),
        (large, true),
        (last, false),
    ] {
        assert_eq!(there(&p, at), stays, "{at:#x}");
        assert_eq!(p.real(at).0 & 0x40, 0);
    }
}

#[test]
fn block_remove_without_condition_takes_any_block() {
    let p = partition();
    let other = Page {
        vsid: 0x3456,
        segment: SegmentSize::S256M,
        ..BLOCK
    };
    let (one, two) = (enter(&p, other, 0), enter(&p, other.plus(3), 0));
    let far = enter(&p, Page { vsid: 7, ..other }, 0);
    let big = enter(
        &p,
        Page {
            segment: SegmentSize::S1T,
            ..other
        },
        0,
    );
    let (status, responses) = call(
        &p,
        BLOCK.avpn(),
        [REQUEST | one, REQUEST | far, REQUEST | big, REQUEST | two],
    );
    assert_eq!(status, HcallStatus::PARTIAL);
    assert_eq!(
        responses.map(|response| response >> 56),
        [0x80, 0xa8, 0x98, 0x80]
    );
    assert!(there(&p, far) && there(&p, big));
}

#[test]
fn block_remove_stops_at_the_end_mark() {
    let p = partition();
    let at = enter(&p, BLOCK, 0);
    let mut specs = [END, REQUEST | at, 0, 0, 0, 0, 0, 0];
    let before = specs;
    assert_eq!(p.h_block_remove(0, &mut specs), HcallStatus::SUCCESS);
    assert_eq!(specs, before);
    assert!(there(&p, at));
    p.steps();
    assert_eq!(call(&p, 0, []).0, HcallStatus::SUCCESS);
    assert_eq!(p.steps(), []);
}

#[test]
fn block_remove_does_nothing_where_a_type_is_bad() {
    let p = partition();
    let at = enter(&p, BLOCK, 0);
    for bad in [0, 0x3f << 56 | at, 0x80 << 56 | at, 0xbf << 56] {
        for place in 0..8 {
            let mut specs = [REQUEST | at; 8];
            specs[place] = bad;
            let before = specs;
            assert_eq!(p.h_block_remove(0, &mut specs), HcallStatus::PARAMETER);
            assert_eq!(specs, before);
            assert!(there(&p, at));
        }
    }
}

#[test]
fn block_remove_ignores_undefined_bits_of_a_request() {
    let p = partition();
    let at = enter(&p, BLOCK, 0);
    let request = 0x7eff << 48 | at;
    let (status, [response]) = call(&p, !0, [request]);
    assert_eq!(status, HcallStatus::SUCCESS);
    assert_eq!(response, 0x80ff << 48 | at);
    // The byte after the first does not belong to the entry's number, the next one does.
    let (status, [response]) = call(&p, 0, [REQUEST | 1 << 47 | at]);
    assert_eq!(status, HcallStatus::PARTIAL);
    assert_eq!(response, 0x90 << 56 | 1 << 47 | at);
}

#[test]
fn block_remove_does_not_wait() {
    let p = partition();
    let [one, two] = [0, 1].map(|i| enter(&p, BLOCK.plus(i), 0));
    let guard = p.lock(HpteIndex::new(one));
    let (status, responses) = call(&p, 0, [REQUEST | one, REQUEST | two]);
    assert_eq!(status, HcallStatus::PARTIAL);
    assert_eq!(responses, [0xa0 << 56 | one, 0x80 << 56 | two]);
    drop(guard);
    assert!(there(&p, one) && !there(&p, two));
}

#[test]
fn block_remove_of_the_same_entry_twice() {
    for p in [partition(), lazy_partition()] {
        let one = enter(&p, BLOCK, 0);
        let (status, responses) = call(&p, 0, [REQUEST | one, AVPN | one, REQUEST | one]);
        assert_eq!(status, HcallStatus::PARTIAL);
        assert_eq!(
            responses,
            [0x80 << 56 | one, 0x89 << 56 | one, 0x88 << 56 | one]
        );
        assert!(!there(&p, one));
    }
}

#[test]
fn block_remove_of_absent_entries_flushes_nothing() {
    let p = lazy_partition();
    let [one, two] = [0, 7].map(|i| enter(&p, BLOCK.plus(i), 0));
    p.steps();
    let (status, responses) = call(&p, BLOCK.avpn(), [AVPN | one, AVPN | two]);
    assert_eq!(status, HcallStatus::SUCCESS);
    assert_eq!(responses, [0x81 << 56 | one, 0x81 << 56 | two]);
    assert!(!p.steps().iter().any(|step| matches!(step, Step::Tlbie(..))));
    assert!(!there(&p, one) && !there(&p, two));
}

#[test]
fn a_block_is_eight_base_pages_of_every_size() {
    for encoding in PageEncoding::ALL {
        for (segment, secondary) in [
            (SegmentSize::S256M, 0),
            (SegmentSize::S1T, 0),
            (SegmentSize::S1T, 2),
        ] {
            let p = partition();
            let first = Page {
                vsid: 0x1ace54,
                ea: encoding.base().bytes() * 8,
                segment,
                encoding,
            };
            let entries: Vec<u64> = (0..16)
                .map(|i| {
                    let page = first.plus(i);
                    let group = match secondary {
                        0 => page.group(&p),
                        _ => page.other_group(&p),
                    };
                    p.h_enter(0, group, page.v() | secondary, page.r(0))
                        .unwrap()
                })
                .collect();
            // A neighbour of the block does not go with it.
            let (status, responses) = call(&p, 0, [REQUEST | entries[8], REQUEST | entries[7]]);
            assert_eq!(status, HcallStatus::PARTIAL, "{encoding:?}");
            assert_eq!(responses[1] >> 56, 0xa8, "{encoding:?} {segment:?}");
            let page = first.plus(8);
            p.h_enter(EXACT, entries[8], page.v() | secondary, page.r(0))
                .unwrap();
            // All of one block, whose AVPN may be that of any of its pages; then of the other.
            for (block, any) in [(0, 0), (8, 13)] {
                let specs: [u64; 8] = core::array::from_fn(|i| AVPN | entries[block + i]);
                let (status, responses) = call(&p, first.plus(any).avpn(), specs);
                assert_eq!(
                    status,
                    HcallStatus::SUCCESS,
                    "{encoding:?} {segment:?} {secondary} {responses:x?}"
                );
            }
            assert!(entries.iter().all(|at| !there(&p, *at)));
        }
    }
}

/// The top of the virtual address is in no operand of tlbie, by which most pages of a block are told.
#[test]
fn a_block_ends_at_every_address_bit_above_it() {
    for encoding in PageEncoding::ALL {
        let p = partition();
        let first = Page {
            vsid: 0x12_3456,
            encoding,
            ..BLOCK
        };
        let at = enter(&p, first, 0);
        for bit in 0..28 {
            let vsid = first.vsid ^ 1 << bit;
            let far = enter(&p, Page { vsid, ..first }, 0);
            let (_, responses) = call(&p, 0, [REQUEST | at, REQUEST | far]);
            let codes = responses.map(|response| response >> 56);
            assert_eq!(codes, [0x80, 0xa8], "{encoding:?} {bit}");
            let (status, _) = call(&p, 0, [REQUEST | far]);
            assert_eq!(status, HcallStatus::SUCCESS);
            assert_eq!(enter(&p, first, 0), at);
        }
    }
}

/// Nor does the entry that anchors a block answer for a condition that it did not have itself.
#[test]
fn block_remove_compares_the_avpn_where_that_is_asked() {
    for (ava, second) in [(BLOCK.avpn(), 0x81), (BLOCK.plus(8 << 20).avpn(), 0x89)] {
        let p = partition();
        let entries = [0, 1, 2].map(|i| enter(&p, BLOCK.plus(i), 0));
        let [one, two, three] = entries;
        let (_, responses) = call(&p, ava, [REQUEST | one, AVPN | two, REQUEST | three]);
        let codes = responses.map(|response| response >> 56);
        assert_eq!(codes, [0x80, second, 0x80]);
    }
}

#[test]
fn block_remove_compares_the_avpn_but_for_the_block() {
    let p = partition();
    let at = enter(&p, BLOCK, 0);
    for bit in 0..62 {
        let (_, [response]) = call(&p, BLOCK.avpn() ^ 1 << bit, [AVPN | at]);
        assert_eq!(response, 0x89 << 56 | at, "{bit}");
    }
    let huge = Page {
        ea: 16 << 24,
        encoding: PageEncoding::Base16MActual16M,
        ..BLOCK
    };
    let at = enter(&p, huge, 0);
    for bit in 0..62 {
        let (_, [response]) = call(&p, huge.avpn() ^ 1 << bit, [AVPN | at]);
        let inside = (7..11).contains(&bit);
        assert_eq!(response >> 56, if inside { 0x81 } else { 0x89 }, "{bit}");
        let _ = p.h_enter(EXACT, at, huge.v(), huge.r(0) & !0x180);
    }
}

#[test]
fn block_remove_no_deadlock_two_vcpus_reverse_order() {
    let p = partition();
    let entries: [u64; 8] = core::array::from_fn(|i| BLOCK.plus(i as u64).group(&p));
    std::thread::scope(|scope| {
        for reverse in [0, 7] {
            let p = &p;
            scope.spawn(move || {
                for _ in 0..unless_miri(500, 20) {
                    for (i, at) in entries.iter().enumerate() {
                        let page = BLOCK.plus(i as u64);
                        let _ = p.h_enter(EXACT, *at, page.v(), page.r(0));
                    }
                    let mut specs = core::array::from_fn(|i| AVPN | entries[i ^ reverse]);
                    let status = p.h_block_remove(BLOCK.avpn(), &mut specs);
                    assert!([HcallStatus::SUCCESS, HcallStatus::PARTIAL].contains(&status));
                    for spec in specs {
                        assert!([0x80, 0x88, 0xa0].contains(&(spec >> 56 & 0xf8)));
                    }
                }
            });
        }
    });
    p.check().unwrap();
}
