// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Slots of all kinds: guarded pages, pages of devices, backing that changes.

use super::super::flags::EXACT;
use super::*;
use crate::guest_memory::{MemoryConfig, SlotId};
use crate::hpt::refresh::FLUSH_ALL_ABOVE;
use crate::slot::SlotKind;
use penstock_arch::addr::{GuestReal, HostReal};
use std::vec;

use AccessKind::{Load, Store};

const RAM: SlotId = SlotId::MEMORY;
const PROTECTION_FAULT: FaultAction =
    FaultAction::Reflect(GuestFault::Data(Dsisr::from_bits_retain(0x0a00_0000)));

/// Guest real address of the slots that tests add.
const WINDOW: u64 = 0x1_0000_0000;

fn page_at(number: u64, encoding: PageEncoding) -> Page {
    Page {
        ea: 0xc000_0000_0000_0000 + (number << encoding.base().shift()),
        encoding,
        ..PAGE
    }
}

/// A partition with a slot of 64 pages of devices and a framebuffer of four pieces.
pub(super) fn with_slots(backing: Backing) -> (Fixture, SlotId, SlotId) {
    with_slots_and(backing, small(PageSize::P16M))
}

/// The same with this table.
pub(super) fn with_slots_and(backing: Backing, config: HptConfig) -> (Fixture, SlotId, SlotId) {
    let host = TestMemory::new(3 << 24);
    let mut allocator = host.frames();
    let machine = TestMachine::new();
    let mut memory = GuestMemory::new(machine.clone(), 32 << 20, backing, &mut allocator).unwrap();
    let window = GuestReal::new(WINDOW);
    let device = memory.add_device(window, 64 << 16, &mut allocator).unwrap();
    let screen = window.checked_add(64 << 16).unwrap();
    let screen = memory
        .add_framebuffer(screen, 4 << 16, &mut allocator)
        .unwrap();
    let mmu = HashMmu::new(LPID, memory, config, &mut allocator).unwrap();
    machine.tlb.take();
    let fixture = Fixture {
        mmu: Arc::new(mmu),
        machine,
        allocator,
        _host: host,
    };
    (fixture, device, screen)
}

#[test]
fn a_store_to_a_guarded_page_is_granted_and_noted() {
    let p = partition();
    let at = PAGE.group(&p);
    p.h_enter(EXACT, at, PAGE.v(), PAGE.r(0x5_0000)).unwrap();
    p.start_log(RAM).unwrap();
    assert!(!p.needs_vpm());
    let hidden = p.protect(RAM, 0x5_0000, 0x1_0000).flush().hidden();
    // The page, and the 16 MiB page of real mode above it.
    assert_eq!(hidden, 2);
    assert!(p.needs_vpm());
    assert_eq!(
        p.machine
            .pages
            .virtualized
            .load(core::sync::atomic::Ordering::Relaxed),
        1
    );
    // To the guest nothing has changed; the hardware sees no right to store.
    assert_eq!(p.h_read(0, at).unwrap()[1] & 3, 2);
    assert_eq!(p.real(at).0 & 1, 1);
    assert_eq!(p.real(at).1 & 3, 3);
    p.check().unwrap();
    assert_eq!(p.resolve(&PAGE.fault(Load)), FaultAction::Retry);
    assert_eq!(p.real(at).1 & 3, 3);
    assert_eq!(p.resolve(&PAGE.fault(Store)), FaultAction::Retry);
    assert_eq!(p.real(at).1 & 3, 2);
    assert!(!p.needs_vpm());
    let mut log = [0; 2];
    p.take_log(RAM, 1, &mut log);
    assert_eq!(log[0] >> 16 & 0xffff, 0xffff);
    p.check().unwrap();
    assert_eq!(super::order::broken_rules(&p.steps()), vec![]);
}

#[test]
fn a_true_protection_fault_still_reaches_the_guest() {
    let p = partition();
    let at = PAGE.group(&p);
    p.h_enter(EXACT, at, PAGE.v(), PAGE.r(0x5_0000) | 3)
        .unwrap();
    let _ = p.protect(RAM, 0x5_0000, 0x1_0000).flush();
    assert_eq!(p.resolve(&PAGE.fault(Store)), PROTECTION_FAULT);
    assert!(p.needs_vpm());
}

#[test]
fn protect_never_upgrades_ro_backing() {
    let p = partition();
    let at = PAGE.group(&p);
    p.h_enter(EXACT, at, PAGE.v(), PAGE.r(0x5_0000) | 3)
        .unwrap();
    let _ = p.protect(RAM, 0x5_0000, 0x1_0000).flush();
    for (flags, seen) in [(2, 2), (0, 0), (1, 1)] {
        p.h_protect(flags, at, 0).unwrap();
        assert_eq!(p.h_read(0, at).unwrap()[1] & 3, seen);
        assert!(
            !HpteR::new(p.real(at).1)
                .pp()
                .may_store(penstock_arch::hash::SegmentKey::Zero)
        );
        p.check().unwrap();
    }
    // Nor does an entry that comes later.
    p.h_enter(EXACT, at + 1, PAGE.v(), PAGE.r(0x5_0000))
        .unwrap();
    assert_eq!(p.real(at + 1).1 & 3, 3);
    p.check().unwrap();
}

#[test]
fn unmap_iterates_every_page() {
    // Every entry that maps a byte of the range loses the right, whatever its size, and no other.
    let p = partition();
    let small = |n| page_at(n, PageEncoding::Base4KActual4K);
    let mut inside = vec![];
    for n in 0..32 {
        let page = small(n);
        let at = p
            .h_enter(0, page.group(&p), page.v(), page.r(0x10_0000 + n * 0x1000))
            .unwrap();
        inside.push((at, n < 16));
    }
    let large = page_at(40, PageEncoding::Base4KActual64K);
    let at = p
        .h_enter(0, large.group(&p), large.v(), large.r(0x10_0000))
        .unwrap();
    inside.push((at, true));
    let other = page_at(80, PageEncoding::Base64KActual64K);
    let at = p
        .h_enter(0, other.group(&p), other.v(), other.r(0x12_0000))
        .unwrap();
    inside.push((at, false));
    // One granule stands for its piece.
    let _ = p.protect(RAM, 0x10_3000, 0x1000).flush();
    for (at, guarded) in inside {
        let may = HpteR::new(p.real(at).1)
            .pp()
            .may_store(penstock_arch::hash::SegmentKey::Zero);
        assert_eq!(may, !guarded, "{at:#x}");
    }
    p.check().unwrap();
}

#[test]
fn many_entries_are_invalidated_at_once() {
    let p = partition();
    let enter = |count: u64| {
        for n in 0..count {
            let page = page_at(n, PageEncoding::Base4KActual4K);
            p.h_enter(0, page.group(&p), page.v(), page.r(n * 0x1000))
                .unwrap();
        }
    };
    let invalidations = |steps: &[Step]| {
        let one = steps
            .iter()
            .filter(|step| matches!(step, Step::Tlbie(..)))
            .count();
        let all = steps
            .iter()
            .filter(|step| matches!(step, Step::TlbieLpid(_)))
            .count();
        let syncs = steps
            .iter()
            .filter(|step| matches!(step, Step::Tlbsync))
            .count();
        (one, all, syncs)
    };
    // With the page of real mode, just as many as are invalidated one by one.
    enter(FLUSH_ALL_ABOVE as u64 - 1);
    p.steps();
    let _ = p.protect(RAM, 0, 1 << 20).flush();
    let steps = p.steps();
    assert_eq!(invalidations(&steps), (FLUSH_ALL_ABOVE, 0, 1));
    assert_eq!(super::order::broken_rules(&steps), vec![]);
    p.unprotect(RAM, 0, 1 << 20);
    enter(FLUSH_ALL_ABOVE as u64);
    p.steps();
    let _ = p.protect(RAM, 0, 1 << 20).flush();
    let steps = p.steps();
    assert_eq!(invalidations(&steps), (0, 1, 1));
    assert_eq!(super::order::broken_rules(&steps), vec![]);
    p.check().unwrap();
}

#[test]
fn obligations_of_several_ranges_have_one_flush() {
    let p = partition();
    for n in 0..4 {
        let page = page_at(n, PageEncoding::Base64KActual64K);
        p.h_enter(0, page.group(&p), page.v(), page.r(n << 16))
            .unwrap();
    }
    p.steps();
    let obligation = p
        .protect(RAM, 0, 0x1_0000)
        .and_protect(RAM, 0x2_0000, 0x2_0000);
    assert_eq!(obligation.hidden(), 4);
    // What is hidden and not flushed is still in its ring, and its doubleword 1 untouched.
    assert_eq!(
        p.steps()
            .iter()
            .filter(|s| matches!(s, Step::Tlbie(..)))
            .count(),
        0
    );
    assert_eq!(obligation.flush().hidden(), 4);
    let steps = p.steps();
    assert_eq!(
        steps.iter().filter(|s| matches!(s, Step::Tlbsync)).count(),
        1
    );
    p.check().unwrap();
}

#[test]
fn who_meets_a_hidden_entry_flushes_it() {
    let p = partition();
    let at = PAGE.group(&p);
    p.h_enter(EXACT, at, PAGE.v(), PAGE.r(0x5_0000)).unwrap();
    let obligation = p.protect(RAM, 0x5_0000, 0x1_0000);
    // A processor stores by its old translation, and only its invalidation brings C out.
    p.hardware_sets(at, 0x80);
    p.steps();
    let (_, r) = p.h_remove(0, at, 0).unwrap();
    assert_eq!(r & 0x80, 0x80);
    assert!(p.steps().iter().any(|step| matches!(step, Step::Tlbie(..))));
    p.h_enter(EXACT, at, PAGE.v(), PAGE.r(0x5_0000)).unwrap();
    let _ = obligation.flush();
    assert_eq!(p.real(at).1 & 3, 3);
    p.check().unwrap();
}

#[test]
fn guards_stay_with_the_guests_pages_when_these_change_places() {
    let p = partition();
    let _ = p.protect(RAM, 2 << 16, 0x1_0000).flush();
    let entries = [2, 7].map(|piece| {
        let page = page_at(piece, PageEncoding::Base64KActual64K);
        p.h_enter(0, page.group(&p), page.v(), page.r(piece << 16))
            .unwrap()
    });
    let _ = p.scatter(2, 7).unwrap();
    assert_eq!(entries.map(|at| p.real(at).1 & 3), [3, 2]);
    p.check().unwrap();
}

#[test]
fn efault_reports_want_have() {
    let p = partition();
    let page = Page {
        encoding: PageEncoding::Base64KActual16M,
        ..PAGE
    };
    let at = page.group(&p);
    p.h_enter(EXACT, at, page.v(), page.r(0x100_0000)).unwrap();
    let bytes: Vec<u8> = (0..=255).collect();
    p.memory()
        .write(GuestReal::new(0x102_0010), &bytes)
        .unwrap();
    let _ = p.scatter(256 + 2, 256 + 7).unwrap();
    // The bytes are where they were, and the entry is the guest's, but hidden.
    let mut back = vec![0; 256];
    p.memory()
        .read(GuestReal::new(0x102_0010), &mut back)
        .unwrap();
    assert_eq!(back, bytes);
    assert_eq!(p.h_read(0, at).unwrap()[0] & 1, 1);
    assert_eq!(p.real(at).0 & 0x21, 0x20);
    assert!(p.needs_vpm());
    let expected = BackingTooSmall {
        at: GuestReal::new(0x100_0000),
        wanted: PageSize::P16M,
        found: PageSize::P64K,
    };
    assert_eq!(
        p.resolve(&page.fault(Load)),
        FaultAction::TooSmall(expected)
    );
    assert_eq!(
        std::format!("{expected}"),
        "guest real 0x1000000: a page of 16384 KiB is wanted, and its backing has pages of 64 KiB"
    );
    // By contract it cannot be entered any more, and small pages can.
    let again = p.h_enter(EXACT, at + 1, page.v(), page.r(0x100_0000));
    assert_eq!(again, Err(HcallStatus::PARAMETER));
    let small = page_at(5, PageEncoding::Base64KActual64K);
    let at = p
        .h_enter(0, small.group(&p), small.v(), small.r(0x102_0000))
        .unwrap();
    assert_eq!(p.real(at).1 & HpteR::RPN & !0xffff, p.host(0x102_0000));
    p.check().unwrap();
    assert_eq!(super::order::broken_rules(&p.steps()), vec![]);
}

#[test]
fn a_page_larger_than_the_guest_was_told_is_refused() {
    for (largest, refused) in [
        (
            PageSize::P4K,
            &[
                PageEncoding::Base4KActual64K,
                PageEncoding::Base64KActual64K,
            ][..],
        ),
        (
            PageSize::P64K,
            &[
                PageEncoding::Base64KActual16M,
                PageEncoding::Base16MActual16M,
            ][..],
        ),
    ] {
        let host = TestMemory::new(3 << 24);
        let mut allocator = host.frames();
        let config = MemoryConfig {
            largest,
            ..MemoryConfig::new(16 << 20, Backing::Eager)
        };
        let memory = GuestMemory::with_config(TestMachine::new(), config, &mut allocator).unwrap();
        let p = HashMmu::new(LPID, memory, small(PageSize::P16M), &mut allocator).unwrap();
        for &encoding in refused {
            let page = page_at(3, encoding);
            let result = p.h_enter(0, 8, page.v(), page.r(0));
            assert_eq!(
                result,
                Err(HcallStatus::PARAMETER),
                "{largest:?} {encoding:?}"
            );
        }
        // Real mode has the page size of what backs address 0.
        let ps = if largest == PageSize::P4K { 0 } else { 0xa0 };
        assert_eq!(p.pate().unwrap().dwords()[0] & 0xe0, ps);
    }
}

#[test]
fn vrma_no_memory_at_zero() {
    let host = TestMemory::new(3 << 24);
    let mut allocator = host.frames();
    let left = allocator.left();
    let config = MemoryConfig {
        base: GuestReal::new(16 << 20),
        ..MemoryConfig::new(16 << 20, Backing::Lazy)
    };
    let memory = GuestMemory::with_config(TestMachine::new(), config, &mut allocator).unwrap();
    let error = HashMmu::new(LPID, memory, small(PageSize::P16M), &mut allocator).unwrap_err();
    assert_eq!(error, HptSetupError::NoMemoryAtZero);
    assert_eq!(allocator.left(), left);
}

#[test]
fn pages_of_devices_come_and_go() {
    let (p, device, _) = with_slots(Backing::Eager);
    assert_eq!(p.memory().slot(device).unwrap().kind(), SlotKind::Device);
    let page = page_at(1, PageEncoding::Base64KActual64K);
    let r = page.r(WINDOW + 0x3_0000) & !0x78 | 0x28;
    // Memory's attributes are not a device's.
    let cacheable = p.h_enter(0, 8, page.v(), page.r(WINDOW + 0x3_0000));
    assert_eq!(cacheable, Err(HcallStatus::PARAMETER));
    let at = p.h_enter(0, page.group(&p), page.v(), r).unwrap();
    assert_eq!(p.real(at).0 & 0x21, 0x20);
    assert!(p.needs_vpm());
    let gone = FaultAction::NotMemory(GuestReal::new(WINDOW + 0x3_0000));
    assert_eq!(p.resolve(&page.fault(Load)), gone);
    // The page comes: the entry is valid without a further fault.
    let first = HostReal::new(0x0006_0302_0317_0000);
    p.set_device_page(device, 0x3_0000, Some(first)).unwrap();
    assert_eq!(
        p.real(at),
        (
            page.v() & ((1 << 52) - 1),
            first.get() | 0x0400_0000_0000_1000 | r & 0xfff
        )
    );
    assert!(!p.needs_vpm());
    p.check().unwrap();
    // It moves, and goes; each time after a flush.
    p.steps();
    let second = HostReal::new(0x0006_0302_0318_0000);
    assert_eq!(
        p.set_device_page(device, 0x3_0000, Some(second))
            .unwrap()
            .hidden(),
        1
    );
    assert_eq!(p.real(at).1 & HpteR::RPN & !0xffff, second.get());
    assert_eq!(
        p.set_device_page(device, 0x3_0000, None).unwrap().hidden(),
        1
    );
    assert_eq!(p.real(at).0 & 0x21, 0x20);
    assert_eq!(p.resolve(&page.fault(Store)), gone);
    assert_eq!(super::order::broken_rules(&p.steps()), vec![]);
    p.check().unwrap();
    assert!(p.set_device_page(RAM, 0, None).is_none());
    assert!(p.set_device_page(device, 64 << 16, None).is_none());
    assert!(
        p.set_device_page(device, 0, Some(HostReal::new(0x1000)))
            .is_none()
    );
    // The hypervisor itself never reads a device.
    assert!(p.memory().read_u8(GuestReal::new(WINDOW)).is_err());
}

#[test]
fn a_framebuffer_is_cacheable_whatever_the_guest_says() {
    let (p, _, screen) = with_slots(Backing::Lazy);
    let base = p.memory().slot(screen).unwrap().base().get();
    let page = page_at(2, PageEncoding::Base64KActual64K);
    let r = page.r(base) & !0x78 | 0x28;
    let at = p.h_enter(0, page.group(&p), page.v(), r).unwrap();
    assert_eq!(p.real(at).0 & 1, 1);
    assert_eq!(p.real(at).1 & HpteR::WIMG, 0x10);
    assert_eq!(p.h_read(0, at).unwrap()[1], r);
    p.memory().write_u8(GuestReal::new(base + 5), 42).unwrap();
    assert_eq!(p.memory().read_u8(GuestReal::new(base + 5)), Ok(42));
    p.check().unwrap();
}

static TURNS: core::sync::atomic::AtomicU64 = core::sync::atomic::AtomicU64::new(0);

/// Who has begun to hide entries waits for all threads to leave the guest, or to turn VPM1 on; and who
/// waits for him may be in a call of the guest's. So whoever waits does what the hypervisor has said.
#[test]
fn who_waits_for_another_does_what_it_is_told_to() {
    use core::sync::atomic::Ordering::Relaxed;
    penstock_arch::wait::set_hook(|| {
        TURNS.fetch_add(1, Relaxed);
    });
    let waits_while = |held: &dyn Fn(), waiter: &(dyn Fn() + Sync)| {
        std::thread::scope(|scope| {
            let before = TURNS.load(Relaxed);
            let waits = scope.spawn(waiter);
            // Others of the tests may wait too, but this one does not end.
            while TURNS.load(Relaxed) == before {
                assert!(!waits.is_finished());
                std::thread::yield_now();
            }
            held();
            waits.join().unwrap();
        });
    };
    let p = partition();
    let open = core::cell::Cell::new(Some(p.obligation()));
    let flush = || {
        let _ = open.take().unwrap().flush();
    };
    waits_while(&flush, &|| {
        let _ = p.obligation().flush();
    });
    let index = penstock_arch::hash::HpteIndex::new(8);
    let open = core::cell::Cell::new(Some(p.lock(index)));
    waits_while(&|| drop(open.take()), &|| drop(p.lock(index)));
}

#[test]
fn a_commit_of_a_resize_hides_what_it_moves() {
    // A commit of a resize takes long.
    let p = super::partition_with(
        Backing::Eager,
        HptConfig {
            resize: HptOrder::new(19),
            ..small(PageSize::P16M)
        },
        TlbieErrata::NONE,
    );
    assert_eq!(p.h_resize_hpt_prepare(0, 19), HcallStatus::SUCCESS);
    let seen = core::cell::Cell::new(false);
    let publish = |_| seen.set(p.needs_vpm());
    p.h_resize_hpt_commit(0, 19, publish).unwrap();
    assert!(seen.get());
    assert!(!p.needs_vpm());
}

#[test]
fn slots_do_not_overlap() {
    let (p, ..) = with_slots(Backing::Lazy);
    let Fixture {
        mmu, mut allocator, ..
    } = p;
    let mut memory = Arc::into_inner(mmu).unwrap().memory;
    for base in [0, 0x1ff_0000, WINDOW, WINDOW + (67 << 16)] {
        let error = memory.add_device(GuestReal::new(base), 0x1_0000, &mut allocator);
        assert!(error.is_err(), "{base:#x}");
    }
    assert!(
        memory
            .add_device(GuestReal::new(0x200_0000), 0x1_0000, &mut allocator)
            .is_ok()
    );
}

#[test]
fn notifier_race_inserts_absent() {
    // Entries come and go while the page that they map is taken away and given back.
    let (p, device, _) = with_slots(Backing::Eager);
    let page = page_at(1, PageEncoding::Base64KActual64K);
    let r = page.r(WINDOW) & !0x78 | 0x28;
    let group = page.group(&p);
    let host = HostReal::new(0x0006_0302_0317_0000);
    std::thread::scope(|scope| {
        for slot in 0..2 {
            let p = &p;
            scope.spawn(move || {
                for _ in 0..unless_miri(3000, 60) {
                    p.h_enter(EXACT, group + slot, page.v(), r).unwrap();
                    p.h_remove(0, group + slot, 0).unwrap();
                }
            });
        }
        for _ in 0..unless_miri(1000, 20) {
            p.set_device_page(device, 0, Some(host)).unwrap();
            p.set_device_page(device, 0, None).unwrap();
            // The page is gone: nothing that is there now may be valid.
            for slot in 0..2 {
                assert_eq!(p.real(group + slot).0 & 1, 0);
            }
        }
    });
    p.check().unwrap();
    assert_eq!(p.hidden(), 0);
    assert_eq!(super::order::broken_rules(&p.steps()), vec![]);
}
