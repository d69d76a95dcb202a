// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A partition's table as a whole: sizes, beginning, end, and the checker.

use super::super::flags::EXACT;
use super::*;

#[test]
fn orders_by_memory() {
    // What QEMU chooses for 512 MiB and 1 GiB.
    assert_eq!(HptOrder::for_memory(512 << 20).get(), 22);
    assert_eq!(HptOrder::for_memory(1 << 30).get(), 23);
    assert_eq!(HptOrder::for_memory((1 << 30) + 1).get(), 24);
    assert_eq!(HptOrder::for_memory(16 << 20).get(), 18);
    assert_eq!(HptOrder::for_memory(0).get(), 18);
    assert_eq!(HptOrder::for_memory(u64::MAX).get(), 36);
    assert_eq!(HptOrder::new(17), None);
    assert_eq!(HptOrder::new(37), None);
    assert_eq!(HptOrder::new(20).unwrap().bytes(), 1 << 20);
}

#[test]
fn all_memory_comes_back() {
    let host = TestMemory::new(3 << 24);
    let mut allocator = host.frames();
    let left = allocator.left();
    let memory =
        GuestMemory::new(TestMachine::new(), 32 << 20, Backing::Lazy, &mut allocator).unwrap();
    let machine = memory.machine().clone();
    let mmu = HashMmu::new(LPID, memory, small(PageSize::P16M), &mut allocator).unwrap();
    assert!(mmu.hpt_base().is_aligned(1 << 18));
    machine.tlb.take();
    mmu.destroy(&mut allocator).unwrap();
    assert_eq!((allocator.left(), allocator.largest()), (left, left));
    assert!(machine.tlb.take().contains(&Step::TlbieLpid(LPID)));
}

#[test]
fn a_table_that_does_not_fit_takes_nothing() {
    let host = TestMemory::new(3 << 24);
    let mut allocator = host.frames();
    let left = allocator.left();
    for order in [24, 25, 36] {
        let memory =
            GuestMemory::new(TestMachine::new(), 32 << 20, Backing::Lazy, &mut allocator).unwrap();
        let config = HptConfig::new(HptOrder::new(order).unwrap());
        let error = HashMmu::new(LPID, memory, config, &mut allocator).unwrap_err();
        assert!(matches!(
            error,
            HptSetupError::Frames(FrameError::OutOfMemory { .. })
        ));
        assert_eq!(allocator.left(), left);
    }
}

#[test]
fn whatever_does_not_fit_all_is_given_back() {
    let host = TestMemory::new(3 << 24);
    let mut allocator = host.frames();
    let (mut failed, mut made) = (0, 0);
    // Steps smaller than the smallest of the three, the log of changes.
    let log = changes::ChangeLog::bytes(1 << 14);
    for room in (0..1 << 20).step_by(usize::try_from(log / 2).unwrap()) {
        let machine = TestMachine::new();
        let memory = GuestMemory::new(machine, 32 << 20, Backing::Lazy, &mut allocator).unwrap();
        let taken = allocator.largest() - room;
        let taken = allocator.alloc(taken, 128).unwrap();
        match HashMmu::new(LPID, memory, small(PageSize::P16M), &mut allocator) {
            Ok(mmu) => {
                made += 1;
                mmu.destroy(&mut allocator).unwrap();
            }
            Err(_) => failed += 1,
        }
        allocator.free(taken).unwrap();
        assert_eq!(allocator.left(), 3 << 24, "{room:#x}");
    }
    assert!(failed >= 128 && made > 1);
}

#[test]
fn starting_over_leaves_the_real_mode_area_only() {
    let p = partition();
    let before = p.everything();
    for at in 0..100 {
        p.h_enter(EXACT, at, PAGE.v(), PAGE.r(0)).unwrap();
    }
    p.clear_all();
    assert_eq!(before, p.everything());
    assert!(p.steps().contains(&Step::TlbieLpid(LPID)));
    assert_eq!(
        p.allocator.left(),
        (1 << 24)
            - (1 << 18)
            - (1 << 18)
            - crate::slot::Slot::overhead_bytes(32 << 20)
            - changes::ChangeLog::bytes(1 << 14)
    );
}

#[test]
fn the_checker_counts() {
    let p = lazy_partition();
    let small = Page {
        encoding: PageEncoding::Base4KActual4K,
        ..PAGE
    };
    p.memory()
        .populate(penstock_arch::addr::GuestReal::new(0), 1)
        .unwrap();
    p.h_enter(EXACT, 8, PAGE.v() | 0x10, PAGE.r(0)).unwrap();
    p.h_enter(EXACT, 9, small.v(), small.r(0x2_0000)).unwrap();
    let stats = p.check().unwrap();
    let expected = HptStats {
        entries: 16384,
        valid: 1,
        absent: 3,
        bolted: 3,
        by_size: [1, 1, 2],
    };
    assert_eq!(stats, expected);
}

/// Changes an entry as no hcall would, and looks what the checker says.
fn plant(p: &Fixture, v: u64, r: u64, guest_r: u64) -> Option<(Rule, u64)> {
    let entry = p.table().entry(HpteIndex::new(8));
    assert!(entry.try_lock());
    entry.store_v(&p.machine, HpteV::new(v));
    entry.store_r(&p.machine, HpteR::new(r));
    entry.store_rev(GuestHpteR::new(guest_r));
    p.check()
        .err()
        .map(|violation| (violation.rule, violation.index.get()))
}

#[test]
fn the_checker_finds_what_is_wrong() {
    let p = lazy_partition();
    let page = Page {
        vsid: 0x1_2345,
        ea: 0,
        ..PAGE
    };
    p.h_enter(EXACT, 8, page.v(), 0x1190).unwrap();
    let (absent, r) = p.real(8);
    let v = absent & !0x20 | 1;
    let host = p.host(0);
    assert_eq!(plant(&p, absent, r, 0x1190), None);
    // What an absent entry's doubleword 1 says is nobody's business.
    assert_eq!(plant(&p, absent, r ^ 0x1004, 0x1190), None);
    let wrong = |rule| Some((rule, 8));
    assert_eq!(plant(&p, v, r, 0x1190), wrong(Rule::Backed));
    p.memory()
        .populate(penstock_arch::addr::GuestReal::new(0), 1)
        .unwrap();
    assert_eq!(plant(&p, v, r, 0x1190), None);
    assert_eq!(plant(&p, v, r | 0x180, 0x1190), None);
    assert_eq!(plant(&p, v | 0x20, r, 0x1190), wrong(Rule::ValidOrAbsent));
    assert_eq!(plant(&p, 0x80, r, 0x1190), wrong(Rule::FreeIsZero));
    let reserved = r & !0xf000 | 0x2000;
    assert_eq!(plant(&p, v, reserved, 0x1190), wrong(Rule::PageSize));
    assert_eq!(plant(&p, v, r, 0x200_1190), wrong(Rule::Memory));
    assert_eq!(plant(&p, v, r + 0x1_0000, 0x1190), wrong(Rule::Translation));
    assert_eq!(plant(&p, v, r, 0x1191), wrong(Rule::Attributes));
    assert_eq!(plant(&p, v, r | 4, 0x1190), wrong(Rule::Attributes));
    // An entry that is gone is still in its ring; one that is in no ring is missed.
    assert_eq!(plant(&p, 0, u64::MAX, u64::MAX), wrong(Rule::Ring));
    let moved = (r & !HpteR::RPN) | 0x1_1000 | (host + 0x1_0000);
    assert_eq!(plant(&p, absent, moved, 0x1_1190), wrong(Rule::Ring));
    assert_eq!(plant(&p, absent, r, 0x1190), None);
    let entry = p.table().entry(HpteIndex::new(8));
    let links = (entry.next(), entry.previous());
    entry.set_links(HpteIndex::new(9), HpteIndex::new(9));
    assert_eq!(p.check().unwrap_err().rule, Rule::Ring);
    entry.set_links(links.0, links.1);
    // What is hidden and not counted: here the three absent entries.
    p.veil_less(1);
    assert_eq!(p.check().unwrap_err().rule, Rule::Counted);
}
