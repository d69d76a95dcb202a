// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The log of what was written, and what was used.

use super::super::flags::EXACT;
use super::*;
use crate::guest_memory::SlotId;
use penstock_arch::addr::GuestReal;
use penstock_arch::tlb::HpteStore;
use std::collections::BTreeSet;
use std::vec;

const RAM: SlotId = SlotId::MEMORY;

fn taken(p: &Fixture) -> BTreeSet<u64> {
    let mut words = vec![0; 128];
    assert_eq!(p.take_log(RAM, 0, &mut words), 128);
    let bits = |(n, word): (usize, u64)| {
        (0..64)
            .filter(move |bit| word >> bit & 1 != 0)
            .map(move |bit| n as u64 * 64 + bit)
    };
    words.into_iter().enumerate().flat_map(bits).collect()
}

fn four_k(number: u64) -> Page {
    Page {
        ea: 0xc000_0000_0000_0000 + (number << 12),
        encoding: PageEncoding::Base4KActual4K,
        ..PAGE
    }
}

/// A partition whose log has nothing in it; before, what maps real mode counts as written.
fn logging() -> Fixture {
    let p = partition();
    p.start_log(RAM).unwrap();
    p.harvest(RAM, VcpusAre::Running).unwrap();
    assert_eq!(taken(&p).len(), 8192);
    p
}

/// An entry for the page `number` of memory, not written yet.
fn enter(p: &Fixture, number: u64) -> u64 {
    let page = four_k(number);
    p.h_enter(0, page.group(p), page.v(), page.r(number << 12) & !0x180)
        .unwrap()
}

/// The same in this place.
fn enter_at(p: &Fixture, ptex: u64, number: u64) -> u64 {
    let page = four_k(number);
    let r = page.r(number << 12) & !0x180;
    p.h_enter(EXACT, ptex, page.v(), r).unwrap()
}

#[test]
fn writes_are_harvested_without_taking_rights_away() {
    let p = logging();
    let (a, b) = (enter(&p, 5), enter(&p, 6));
    p.hardware_sets(a, 0x180);
    p.steps();
    p.harvest_roughly(RAM).unwrap();
    // No tlbie; C stays where it is, and so does the right to store.
    assert!(
        p.steps()
            .iter()
            .all(|step| !matches!(step, Step::Tlbie(..) | Step::TlbieLpid(_)))
    );
    assert!(taken(&p).contains(&5));
    p.harvest(RAM, VcpusAre::Running).unwrap();
    let log = taken(&p);
    assert!(log.contains(&5) && !log.contains(&6));
    assert_eq!(p.real(a).0 & 1, 1);
    assert_eq!(p.real(a).1 & 0x83, 2);
    // The guest still sees that it changed the page.
    assert_eq!(p.h_read(0, a).unwrap()[1] & 0x80, 0x80);
    p.harvest(RAM, VcpusAre::Running).unwrap();
    assert_eq!(taken(&p), BTreeSet::new());
    p.hardware_sets(b, 0x180);
    p.harvest(RAM, VcpusAre::Running).unwrap();
    assert_eq!(taken(&p), BTreeSet::from([6]));
    p.check().unwrap();
    assert_eq!(super::order::broken_rules(&p.steps()), vec![]);
}

/// The guest has given one page as many entries as fit a quarter of its table (a 64th under Miri); a step looks
/// at no more than it was told to, and all steps together find what one page of many entries was written by.
#[test]
fn a_step_is_bounded_by_entries_however_many_map_one_page() {
    let p = logging();
    let entries = p.entries();
    let (spacing, step) = unless_miri((4, 64), (64, 1024));
    let mine: Vec<u64> = (0..entries / spacing)
        .map(|number| {
            let page = four_k(number);
            let r = page.r(5 << 12) & !0x180;
            p.h_enter(EXACT, number * spacing + 1, page.v(), r).unwrap()
        })
        .collect();
    for ptex in &mine {
        p.hardware_sets(*ptex, 0x180);
    }
    p.hardware_sets(enter_at(&p, entries - 2, 9), 0x180);
    p.steps();
    let (mut first, mut found) = (0, BTreeSet::new());
    loop {
        let before = p.logged_granules(RAM);
        let next = p.harvest_some(RAM, Pass::Exact, first, step).unwrap();
        let new = taken(&p);
        // A granule that was taken out may come again.
        assert_eq!(p.logged_granules(RAM) - before, new.len() as u64);
        found.extend(new);
        let hides =
            |step: &Step| matches!(step, Step::Store(HpteStore::V(_, v)) if v.is_unflushed());
        let steps = p.steps();
        assert_eq!(
            steps.iter().filter(|step| hides(step)).count(),
            16 + usize::from(next.is_none())
        );
        let flushes = |step: &Step| matches!(step, Step::Tlbsync);
        assert_eq!(steps.iter().filter(|step| flushes(step)).count(), 1);
        match next {
            Some(next) => {
                assert_eq!(next, first + step);
                first = next;
            }
            None => break,
        }
    }
    assert_eq!(first + step, entries);
    assert_eq!(found, BTreeSet::from([5, 9]));
    for ptex in &mine {
        assert_eq!(p.real(*ptex).1 & 0x80, 0);
        assert_eq!(p.h_read(0, *ptex).unwrap()[1] & 0x80, 0x80);
    }
    assert_eq!(p.hidden(), 0);
    p.check().unwrap();
    // Beyond the end there is nothing, and no step is empty.
    assert_eq!(p.harvest_some(RAM, Pass::Exact, u64::MAX, 1), Some(None));
    assert_eq!(p.harvest_some(RAM, Pass::Rough, 0, 0), Some(Some(1)));
    assert_eq!(p.harvest_end(), entries);
}

#[test]
fn large_page_dirty_sets_all_bits() {
    let p = logging();
    let page = Page {
        encoding: PageEncoding::Base64KActual16M,
        ..PAGE
    };
    let at = p
        .h_enter(0, page.group(&p), page.v(), page.r(0x100_0000) & !0x80)
        .unwrap();
    p.harvest(RAM, VcpusAre::Running).unwrap();
    taken(&p);
    p.hardware_sets(at, 0x80);
    p.harvest(RAM, VcpusAre::Running).unwrap();
    assert_eq!(taken(&p), (0x1000..0x2000).collect());
}

#[test]
fn what_a_removed_entry_wrote_is_not_lost() {
    let p = logging();
    let written = |number| {
        let at = enter(&p, number);
        p.hardware_sets(at, 0x180);
        at
    };
    p.h_remove(0, written(1), 0).unwrap();
    p.h_clear_mod(0, written(2)).unwrap();
    let mut specs = [0; 8];
    for (spec, number) in specs.chunks_mut(2).zip(3..) {
        spec[0] = 0x40 << 56 | written(number);
    }
    p.h_bulk_remove(&mut specs);
    p.h_protect(3, written(7), 0).unwrap();
    let _ = p.protect(RAM, 0x8000, 0x1000).flush();
    p.harvest(RAM, VcpusAre::Running).unwrap();
    let log = taken(&p);
    assert!((1..8).all(|number| log.contains(&number)), "{log:?}");
}

#[test]
fn vpa_pages_dirty() {
    // What the hypervisor writes is written, whoever asked for it.
    let p = lazy_partition();
    p.start_log(RAM).unwrap();
    let at = |number: u64| GuestReal::new(number << 12);
    p.memory().write(at(3), &[1; 0x1001]).unwrap();
    p.memory().write_u8(at(9), 1).unwrap();
    p.memory().write_be32(at(11), 1).unwrap();
    p.memory().write_be64(at(13), 1).unwrap();
    p.memory().zero(at(20), 0x1000).unwrap();
    p.memory().copy(at(30), at(40), 0x1000).unwrap();
    p.h_page_init(super::super::flags::ZERO_PAGE, 50 << 12, 0)
        .unwrap();
    assert_eq!(taken(&p), BTreeSet::from([3, 4, 9, 11, 13, 20, 30, 50]));
    p.stop_log(RAM).unwrap();
    p.memory().write_u8(at(3), 1).unwrap();
    assert_eq!(taken(&p), BTreeSet::new());
    assert_eq!(p.harvest(RAM, VcpusAre::Running), None);
    assert_eq!(p.start_log(SlotId::new(1)), None);
}

#[test]
fn dirty_when_no_vcpu_runs_does_tlbie() {
    let p = logging();
    let at = enter(&p, 5);
    p.steps();
    // The processor holds C back until its translation is invalidated.
    let mmu = Arc::clone(&p.mmu);
    p.machine.tlb.set_hook(move |step| {
        if matches!(step, Step::TlbieLpid(_)) {
            mmu.table().entry(HpteIndex::new(at)).hardware_sets(0x80);
        }
    });
    p.harvest(RAM, VcpusAre::Stopped).unwrap();
    p.machine.tlb.clear_hook();
    assert!(taken(&p).contains(&5));
}

#[test]
fn what_was_written_before_a_partition_starts_over_is_told() {
    let p = logging();
    let at = enter(&p, 5);
    p.hardware_sets(at, 0x180);
    p.clear_all();
    assert_eq!(taken(&p), BTreeSet::from([5]));
}

#[test]
fn the_change_bit_of_an_absent_entry_is_told_once() {
    let p = lazy_partition();
    p.start_log(RAM).unwrap();
    // Both pages of real mode are absent, with C.
    p.harvest(RAM, VcpusAre::Running).unwrap();
    assert_eq!(taken(&p).len(), 8192);
    let fault = real_mode(0, PageSize::P16M, AccessKind::Load);
    assert_eq!(p.resolve(&fault), FaultAction::Retry);
    p.harvest(RAM, VcpusAre::Running).unwrap();
    assert!(taken(&p).is_empty());
}

#[test]
fn c_bit_survives_page_fault_refill() {
    let p = lazy_partition();
    let at = PAGE.group(&p);
    p.h_enter(EXACT, at, PAGE.v(), PAGE.r(0x5_0000) & !0x180)
        .unwrap();
    assert_eq!(p.resolve(&PAGE.miss(AccessKind::Store)), FaultAction::Retry);
    p.hardware_sets(at, 0x180);
    // Hidden and shown again, by a store and by a load.
    let _ = p.protect(RAM, 0x5_0000, 0x1_0000).flush();
    assert_eq!(p.resolve(&PAGE.fault(AccessKind::Load)), FaultAction::Retry);
    assert_eq!(p.h_read(0, at).unwrap()[1] & 0x180, 0x180);
    assert_eq!(
        p.resolve(&PAGE.fault(AccessKind::Store)),
        FaultAction::Retry
    );
    let (_, r) = p.h_remove(0, at, 0).unwrap();
    assert_eq!(r & 0x180, 0x180);
}

/// A page of 64K.
fn enter_large(p: &Fixture) -> u64 {
    let large = Page {
        ea: 0xc000_0000_0800_0000,
        ..PAGE
    };
    p.h_enter(0, large.group(p), large.v(), large.r(0x10_0000))
        .unwrap()
}

#[test]
fn what_is_used_is_the_working_set() {
    let p = partition();
    assert_eq!(p.take_used_bytes(RAM), Some(32 << 20));
    p.steps();
    let (a, b, c) = (enter(&p, 5), enter(&p, 6), enter(&p, 7));
    assert_eq!(p.take_used_bytes(RAM), Some(0));
    p.hardware_sets(a, 0x100);
    p.hardware_sets(b, 0x100);
    let at = enter_large(&p);
    // What is gone has been used too, as far as a granule tells.
    p.hardware_sets(c, 0x100);
    p.h_remove(0, c, 0).unwrap();
    let mut all = p.steps();
    assert_eq!(p.take_used_bytes(RAM), Some(3 * 0x1000 + 0x1_0000));
    let steps = p.steps();
    all.extend_from_slice(&steps);
    assert_eq!(
        steps
            .iter()
            .filter(|s| matches!(s, Step::TlbieLpid(_)))
            .count(),
        1
    );
    assert_eq!(super::order::broken_rules(&all), vec![]);
    assert_eq!(p.take_used_bytes(RAM), Some(0));
    // The guest sees its R all the same.
    assert_eq!(p.h_read(0, a).unwrap()[1] & 0x100, 0x100);
    assert_eq!(p.h_read(0, at).unwrap()[1] & 0x100, 0x100);
    p.check().unwrap();
}

#[test]
fn what_the_guest_has_cleared_was_used_all_the_same() {
    let p = partition();
    let (protected, cleared, both) = (enter(&p, 5), enter(&p, 6), enter(&p, 7));
    let _ = p.take_used_bytes(RAM);
    for at in [protected, cleared, both] {
        p.hardware_sets(at, 0x100);
    }
    p.h_protect(2, protected, 0).unwrap();
    assert_eq!(p.h_clear_ref(0, cleared).unwrap() & 0x100, 0x100);
    p.h_clear_ref(0, both).unwrap();
    p.h_remove(0, both, 0).unwrap();
    assert_eq!(p.take_used_bytes(RAM), Some(3 * 0x1000));
    // Nothing was used since.
    p.h_protect(3, protected, 0).unwrap();
    p.h_clear_ref(0, cleared).unwrap();
    assert_eq!(p.take_used_bytes(RAM), Some(0));
    // A page counts with all of its size, and once.
    let at = enter_large(&p);
    p.hardware_sets(at, 0x100);
    p.h_protect(2, at, 0).unwrap();
    p.hardware_sets(at, 0x100);
    assert_eq!(p.take_used_bytes(RAM), Some(0x1_0000));
    p.check().unwrap();
}

/// The guest has given the first page of a block of 16 MiB many of its table's entries: all pages of
/// the block have that ring above them.
#[test]
fn a_look_at_what_is_used_locks_each_entry_once() {
    let p = partition();
    let entries = p.entries() / unless_miri(64, 256);
    for number in 0..entries {
        let page = four_k(number);
        let at = p
            .h_enter(EXACT, number * 4 + 1, page.v(), page.r(16 << 20))
            .unwrap();
        p.hardware_sets(at, 0x100);
    }
    let present = p.check().unwrap();
    p.steps();
    assert_eq!(p.take_used_bytes(RAM), Some(32 << 20));
    let unlocked = |step: &&Step| matches!(step, Step::Store(HpteStore::V(..)));
    let steps = p.steps();
    assert_eq!(
        steps.iter().filter(unlocked).count() as u64,
        present.valid + present.absent
    );
    for number in 0..entries {
        p.hardware_sets(number * 4 + 1, 0x100);
    }
    assert_eq!(p.take_used_bytes(RAM), Some(0x1000));
}

/// Between the two halves of an exact step the guest clears C of an entry that is hidden: its flush takes
/// the mark, and the entry is to be shown all the same.
#[test]
fn what_the_guest_cleared_between_the_halves_of_a_step_is_shown() {
    let p = logging();
    let (modified, referenced) = (enter(&p, 5), enter(&p, 6));
    for at in [modified, referenced] {
        p.hardware_sets(at, 0x180);
        let guard = p.lock(HpteIndex::new(at));
        let r = guard.r();
        let _ = guard.hide_unflushed(r);
    }
    assert_eq!(p.hidden(), 2);
    p.h_clear_mod(0, modified).unwrap();
    p.h_clear_ref(0, referenced).unwrap();
    let slot = p.memory().slot(RAM).unwrap();
    p.show_changed(slot, 0..p.entries());
    assert_eq!(p.hidden(), 0);
    for at in [modified, referenced] {
        assert_eq!(p.real(at).0 & 1, 1);
    }
    assert_eq!(taken(&p), BTreeSet::from([5, 6]));
    p.check().unwrap();
}

#[test]
fn no_write_is_ever_missing_from_the_log() {
    // Random stores by hardware between random calls and harvests, against a plain set.
    let p = logging();
    let mut seed = 0x1234_5678_9abc_def1_u64;
    let mut random = |below: u64| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed % below
    };
    let (mut entries, mut written) = (vec![None; 32], BTreeSet::new());
    let mut seen = BTreeSet::new();
    for _ in 0..unless_miri(20_000, 60) {
        let number = random(32);
        let slot = &mut entries[usize::try_from(number).unwrap()];
        match (random(10), *slot) {
            (0..3, None) => *slot = Some(enter(&p, number)),
            (0..6, Some(at)) => {
                let writable = p.real(at).0 & 1 != 0 && p.real(at).1 & 3 == 2;
                if !writable {
                    let fault = four_k(number).fault(AccessKind::Store);
                    assert_eq!(p.resolve(&fault), FaultAction::Retry);
                }
                assert_eq!(p.real(at).1 & 3, 2);
                p.hardware_sets(at, 0x180);
                written.insert(number);
            }
            (6, Some(at)) => {
                p.h_remove(0, at, 0).unwrap();
                *slot = None;
            }
            (7, Some(at)) => drop(p.h_clear_mod(0, at).unwrap()),
            (8, _) => drop(p.protect(RAM, number << 12, 0x1000).flush()),
            (9, _) => {
                p.harvest(RAM, VcpusAre::Running).unwrap();
                seen.append(&mut taken(&p));
                assert!(written.is_subset(&seen), "{written:?} {seen:?}");
                written.clear();
                seen.clear();
            }
            _ => {}
        }
    }
    p.check().unwrap();
    assert_eq!(super::order::broken_rules(&p.steps()), vec![]);
}
