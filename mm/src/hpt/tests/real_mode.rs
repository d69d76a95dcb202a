// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The page size of guest real mode, which a stream brings along.

use super::super::flags::AVPN;
use super::stream::{first_pass, parsed, record};
use super::*;
use crate::stream::StartsFrom;
use core::cell::RefCell;
use penstock_arch::addr::GuestReal;
use penstock_arch::hash::VRMA_VSID;

/// Addresses in real mode: in pages of their own, whatever the size; the last one ends memory.
const PLACES: [u64; 3] = [0x1000, 0x123_4567, (32 << 20) - 1];

fn of_size(page: PageSize) -> Fixture {
    partition_with(Backing::Eager, small(page), TlbieErrata::NONE)
}

/// A partition whose memory is told in pages of 64K at most.
fn of_small_backing() -> Fixture {
    let memory = MemoryConfig {
        largest: PageSize::P64K,
        ..MemoryConfig::new(32 << 20, Backing::Eager)
    };
    partition_on(memory, small(PageSize::P16M), TlbieErrata::NONE)
}

/// The page of guest real mode that `at` lies in.
fn page_at(at: u64, page: PageSize) -> Page {
    Page {
        vsid: VRMA_VSID,
        ea: at & !(page.bytes() - 1),
        segment: SegmentSize::S1T,
        encoding: PageEncoding::new(page, page).unwrap(),
    }
}

/// Doublewords of the hypervisor's own entry for it.
fn entry_at(at: u64, page: PageSize) -> [u64; 2] {
    let vrma = page_at(at, page);
    [vrma.v() | 0x10, vrma.r(vrma.ea) & !2]
}

/// A record of it, where the hypervisor enters it first.
fn record_at(p: &Fixture, at: u64, page: PageSize) -> Vec<u8> {
    let [v, r] = entry_at(at, page);
    let ptex = page_at(at, page).group(p) + 7;
    record(u32::try_from(ptex).unwrap(), v, r)
}

/// Puts a stream in; the partition table entries that were published.
fn restore(p: &Fixture, bytes: &[u8], from: StartsFrom) -> Result<Vec<Option<Pate>>, RestoreError> {
    let published = RefCell::new(Vec::new());
    let publish = |pate| published.borrow_mut().push(pate);
    let result = p.restore(&parsed(bytes, from), VcpusAre::Stopped, publish);
    let published = published.into_inner();
    if result.is_err() {
        assert_eq!(published, []);
    }
    result.map(|()| published)
}

/// Real mode has pages of this size: entries of it are found, and come back at a fault.
fn check_real_mode(p: &Fixture, page: PageSize) {
    for at in PLACES {
        let ea = EffectiveAddr::new(at);
        // The register is not looked at.
        let fault = real_mode(at, PageSize::P4K, AccessKind::Store);
        assert_eq!(p.resolve(&fault), FaultAction::Retry);
        for _ in 0..2 {
            let found = p.look_up(ea, None).unwrap();
            let [v, r] = found.guest;
            assert_eq!(
                [v & !HpteV::SECONDARY, r],
                entry_at(at, page),
                "{at:#x} {page:?}"
            );
            assert!(found.is_valid);
            p.h_remove(AVPN, found.index.get(), v & !0x7f).unwrap();
            assert_eq!(p.look_up(ea, None), None);
            assert_eq!(p.resolve(&fault), FaultAction::Retry);
        }
    }
    let beyond = real_mode(32 << 20, page, AccessKind::Load);
    let nowhere = FaultAction::NotMemory(GuestReal::new(32 << 20));
    assert_eq!(p.resolve(&beyond), nowhere);
    p.check().unwrap();
}

#[test]
fn stream_restore_sets_partition_table() {
    // The largest first.
    let sizes = || PageSize::ALL.into_iter().rev();
    let pairs = sizes().flat_map(|first| sizes().map(move |page| (first, page)));
    // Miri tries one pair of two sizes.
    let [skipped, tried] = unless_miri([0, 9], [1, 1]);
    for (first, page) in pairs.skip(skipped).take(tried) {
        let (p, source) = (of_size(first), of_size(page));
        let before = (p.everything(), p.pate());
        assert_eq!(before.1, Pate::hash(p.hpt_base(), 18, first));
        let stream = first_pass(&source);
        let published = restore(&p, &stream, StartsFrom::EmptyTable).unwrap();
        let pate = Pate::hash(p.hpt_base(), 18, page);
        assert_eq!(p.pate(), pate);
        // The hardware knows what does not change.
        let expected = if first == page {
            Vec::new()
        } else {
            [pate].into()
        };
        assert_eq!(published, expected);
        assert_eq!(p.everything(), source.everything());
        check_real_mode(&p, page);
        // Back again, and again to the other size.
        let published = restore(&p, &stream, StartsFrom::CurrentTable).unwrap();
        assert_eq!(published, []);
        let own = first_pass(&of_size(first));
        let published = restore(&p, &own, StartsFrom::EmptyTable).unwrap();
        assert_eq!(published.len(), usize::from(first != page));
        assert_eq!((p.everything(), p.pate()), before);
        restore(&p, &stream, StartsFrom::EmptyTable).unwrap();
        // A partition that starts over is one that starts.
        p.clear_all();
        assert_eq!((p.everything(), p.pate()), before);
        check_real_mode(&p, first);
    }
}

#[test]
fn stream_of_larger_pages_than_the_backing_has_is_refused() {
    let p = of_small_backing();
    let before = (p.everything(), p.pate());
    assert_eq!(before.1, Pate::hash(p.hpt_base(), 18, PageSize::P64K));
    let large = first_pass(&of_size(PageSize::P16M));
    for from in [StartsFrom::EmptyTable, StartsFrom::CurrentTable] {
        let refused = RestoreError::RealModePageTooLarge {
            stream: PageSize::P16M,
            largest: PageSize::P64K,
        };
        assert_eq!(restore(&p, &large, from), Err(refused));
        assert_eq!((p.everything(), p.pate()), before);
        assert_eq!(p.steps(), []);
    }
    check_real_mode(&p, PageSize::P64K);
    if cfg!(miri) {
        // It takes long for 8192 entries of 4 KiB.
        return;
    }
    // Smaller ones it can have.
    let small = first_pass(&of_size(PageSize::P4K));
    let published = restore(&p, &small, StartsFrom::EmptyTable).unwrap();
    assert_eq!(published, [Pate::hash(p.hpt_base(), 18, PageSize::P4K)]);
    check_real_mode(&p, PageSize::P4K);
}

#[test]
fn stream_that_is_refused_leaves_real_mode_as_it_is() {
    let p = partition();
    let mut bytes = record_at(&p, 0, PageSize::P64K);
    // Outside memory.
    bytes.extend(record(8, PAGE.v(), PAGE.r(32 << 20)));
    let before = (p.everything(), p.pate());
    let refused = restore(&p, &bytes, StartsFrom::EmptyTable);
    assert!(matches!(refused, Err(RestoreError::Entry(_))));
    let stream = record_at(&p, 0, PageSize::P64K);
    let stream = parsed(&stream, StartsFrom::EmptyTable);
    let publish = |_| panic!("published");
    let running = p.restore(&stream, VcpusAre::Running, publish);
    assert_eq!(running, Err(RestoreError::Running));
    assert_eq!((p.everything(), p.pate()), before);
    check_real_mode(&p, PageSize::P16M);
}

#[test]
fn of_a_stream_with_two_sizes_the_first_decides() {
    let sizes = [PageSize::P64K, PageSize::P16M];
    for (first, other) in [(sizes[0], sizes[1]), (sizes[1], sizes[0])] {
        let p = of_size(PageSize::P4K);
        let mut bytes = record(8, PAGE.v(), PAGE.r(0));
        bytes.extend(record_at(&p, 0, first));
        // In a slot of its own.
        let at = 16 << 20;
        bytes.extend(record_at(&p, at, other));
        let published = restore(&p, &bytes, StartsFrom::EmptyTable).unwrap();
        assert_eq!(published, [Pate::hash(p.hpt_base(), 18, first)]);
        check_real_mode(&p, first);
        // What translates nothing is there all the same.
        let ptex = page_at(at, other).group(&p) + 7;
        let [v, r] = entry_at(at, other);
        let there = p.h_read(0, ptex).unwrap();
        assert_eq!(there, [v, r]);
    }
}

#[test]
fn a_size_that_a_stream_brought_stays_until_the_partition_starts_over() {
    let config = HptConfig {
        resize: HptOrder::new(19),
        ..small(PageSize::P16M)
    };
    let p = partition_with(Backing::Eager, config, TlbieErrata::NONE);
    let before = p.everything();
    let stream = first_pass(&of_size(PageSize::P64K));
    restore(&p, &stream, StartsFrom::EmptyTable).unwrap();
    let mut from = Some(0);
    while let Some(next) = from {
        from = p.h_clear_hpt(next);
    }
    // Those of real mode stay.
    let entries = (32 << 20) / PageSize::P64K.bytes();
    assert_eq!(p.check().unwrap().valid, entries);
    while p.h_resize_hpt_prepare(0, 19) != HcallStatus::SUCCESS {}
    let published = RefCell::new(None);
    p.h_resize_hpt_commit(0, 19, |pate| *published.borrow_mut() = pate)
        .unwrap();
    let pate = Pate::hash(p.hpt_base(), 19, PageSize::P64K);
    assert_eq!(published.into_inner(), pate);
    assert_eq!(p.check().unwrap().valid, entries);
    check_real_mode(&p, PageSize::P64K);
    p.drop_entries(0, u64::MAX, VcpusAre::Stopped).unwrap();
    check_real_mode(&p, PageSize::P64K);
    p.clear_all();
    assert_eq!(p.everything(), before);
    assert_eq!(p.pate(), Pate::hash(p.hpt_base(), 18, PageSize::P16M));
}
