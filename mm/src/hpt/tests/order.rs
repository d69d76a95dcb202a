// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The order of stores and TLB instructions, as the architecture wants it.

use super::super::flags::EXACT;
use super::*;
use penstock_arch::hash::TlbieRb;
use penstock_arch::tlb::HpteStore;
use std::collections::{BTreeMap, BTreeSet};
use std::vec;

const AT: HpteIndex = HpteIndex::new(8);

fn store_v(v: u64) -> Step {
    Step::Store(HpteStore::V(AT, HpteV::new(v)))
}

fn store_r(r: u64) -> Step {
    Step::Store(HpteStore::R(AT, HpteR::new(r)))
}

/// The flush of the entry at `AT`, in between the stores.
fn flush(p: &Fixture) -> Vec<Step> {
    let entry = p.table().entry(AT);
    let rb = TlbieRb::of(entry.load_v(), entry.load_r(), AT).unwrap();
    vec![
        Step::Ptesync,
        Step::Tlbie(rb, LPID),
        Step::Eieio,
        Step::Tlbsync,
        Step::Ptesync,
    ]
}

fn entered(p: &Fixture, r: u64) -> (u64, u64) {
    p.h_enter(EXACT, AT.get(), PAGE.v(), r).unwrap();
    p.steps();
    p.real(AT.get())
}

#[test]
fn enter_stores_doubleword_1_before_v() {
    let p = partition();
    p.h_enter(EXACT, AT.get(), PAGE.v(), PAGE.r(0)).unwrap();
    let (v, r) = p.real(AT.get());
    assert_eq!(
        p.steps(),
        [store_r(r), Step::Eieio, store_v(v), Step::Ptesync]
    );
}

#[test]
fn remove_flushes_before_the_entry_is_free() {
    let p = partition();
    let (v, _) = entered(&p, PAGE.r(0));
    let mut expected = vec![store_v(v & !1 | 0x60)];
    expected.extend(flush(&p));
    expected.push(store_v(0));
    p.h_remove(0, AT.get(), 0).unwrap();
    assert_eq!(p.steps(), expected);
}

#[test]
fn protect_stores_doubleword_1_after_the_flush() {
    let p = partition();
    let (v, r) = entered(&p, PAGE.r(0));
    let mut expected = vec![store_v(v & !1 | 0x60)];
    expected.extend(flush(&p));
    expected.extend([
        store_r(r & !0x103 | 3),
        Step::Eieio,
        store_v(v),
        Step::Ptesync,
    ]);
    p.h_protect(3, AT.get(), 0).unwrap();
    assert_eq!(p.steps(), expected);
    // Nothing changes: nothing is invalidated.
    p.h_protect(3, AT.get(), 0).unwrap();
    assert_eq!(p.steps(), [store_v(v)]);
}

#[test]
fn clear_mod_flushes_only_where_c_is_set() {
    let p = partition();
    let (v, r) = entered(&p, PAGE.r(0));
    let mut expected = vec![store_v(v & !1 | 0x60)];
    expected.extend(flush(&p));
    expected.extend([store_r(r & !0x80), Step::Eieio, store_v(v), Step::Ptesync]);
    p.h_clear_mod(0, AT.get()).unwrap();
    assert_eq!(p.steps(), expected);
    p.h_clear_mod(0, AT.get()).unwrap();
    assert_eq!(p.steps(), [store_v(v)]);
}

#[test]
fn clear_ref_stores_one_byte_of_the_valid_entry() {
    let p = partition();
    let (v, r) = entered(&p, PAGE.r(0x12_0000) | 0x200);
    let byte = r.to_be_bytes()[6] & !1;
    assert_ne!(byte, 0);
    let mut expected = vec![Step::Store(HpteStore::RByte(AT, byte))];
    expected.extend(flush(&p).into_iter().skip(1));
    expected.push(store_v(v));
    p.h_clear_ref(0, AT.get()).unwrap();
    assert_eq!(p.steps(), expected);
    assert_eq!(p.real(AT.get()), (v, r & !0x100));
    p.h_clear_ref(0, AT.get()).unwrap();
    assert_eq!(p.steps(), [store_v(v)]);
}

#[test]
fn not_found_flushes_nothing() {
    let p = partition();
    p.h_protect(3, AT.get(), 0).unwrap_err();
    p.h_remove(0, AT.get(), 0).unwrap_err();
    assert_eq!(p.steps(), [store_v(0), store_v(0)]);
}

#[test]
fn bulk_remove_flushes_once() {
    let p = partition();
    let mut operands = Vec::new();
    for at in 8..12 {
        let v = PAGE.v() | if at == 10 { 2 } else { 0 };
        p.h_enter(EXACT, at, v, PAGE.r(0)).unwrap();
        let entry = p.table().entry(HpteIndex::new(at));
        operands.push(TlbieRb::of(entry.load_v(), entry.load_r(), HpteIndex::new(at)).unwrap());
    }
    p.steps();
    let mut specs = [0x40 << 56; 8];
    for (i, high) in specs.iter_mut().step_by(2).enumerate() {
        *high |= 8 + i as u64;
    }
    assert_eq!(p.h_bulk_remove(&mut specs), HcallStatus::SUCCESS);
    let steps = p.steps();
    let mut expected = vec![Step::Ptesync];
    expected.extend(operands.iter().map(|&rb| Step::Tlbie(rb, LPID)));
    expected.extend([Step::Eieio, Step::Tlbsync, Step::Ptesync]);
    let instructions = |steps: &[Step]| {
        steps
            .iter()
            .copied()
            .filter(|step| !matches!(step, Step::Store(_)))
            .collect::<Vec<_>>()
    };
    assert_eq!(instructions(&steps), expected);
    // Four are hidden, then the flush, then four are freed.
    assert!(matches!(steps[3], Step::Store(_)) && matches!(steps[4], Step::Ptesync));
    assert_eq!(steps.len(), 4 + expected.len() + 4);
}

/// A partition that runs on this thread only: nothing is broadcast, but what concerns all of it.
#[test]
fn local_invalidations_are_not_broadcast() {
    let errata = TlbieErrata::P9_ERAT.union(TlbieErrata::P9_STQ);
    let p = partition_with(Backing::Eager, small(PageSize::P16M), errata);
    for at in 8..10 {
        p.h_enter(EXACT, at, PAGE.v(), PAGE.r(0)).unwrap();
    }
    let operands = [8, 9].map(|at| {
        let entry = p.table().entry(HpteIndex::new(at));
        TlbieRb::of(entry.load_v(), entry.load_r(), HpteIndex::new(at)).unwrap()
    });
    p.machine.tlb.set_local(true);
    p.steps();
    let mut specs = [0x40 << 56 | 8, 0, 0x40 << 56 | 9, 0, 0xc0 << 56, 0, 0, 0];
    p.h_bulk_remove(&mut specs);
    let steps: Vec<_> = p
        .steps()
        .into_iter()
        .filter(|step| !matches!(step, Step::Store(_)))
        .collect();
    assert_eq!(
        steps,
        [
            Step::Ptesync,
            Step::Tlbiel(operands[0]),
            Step::Tlbiel(operands[1]),
            Step::Ptesync,
            Step::CpAbort,
        ]
    );
    p.flush_partition();
    let lpid = Step::TlbieLpid(LPID);
    assert_eq!(
        p.steps(),
        [
            Step::Ptesync,
            lpid,
            Step::Ptesync,
            Step::EratFixup,
            Step::Ptesync,
            lpid,
            Step::Eieio,
            Step::Tlbsync,
            Step::Ptesync,
            Step::CpAbort,
        ]
    );
    p.h_enter(EXACT, 8, PAGE.v(), PAGE.r(0)).unwrap();
    p.h_protect(3, 8, 0).unwrap();
    p.h_clear_mod(0, 8).unwrap();
    p.h_remove(0, 8, 0).unwrap();
    assert_eq!(broken_rules(&p.steps()), vec![]);
}

#[test]
fn power9_errata_once_after_a_batch() {
    let errata = TlbieErrata::P9_ERAT.union(TlbieErrata::P9_STQ);
    let p = partition_with(Backing::Eager, small(PageSize::P16M), errata);
    for at in 8..10 {
        p.h_enter(EXACT, at, PAGE.v(), PAGE.r(0)).unwrap();
    }
    p.steps();
    let mut specs = [0x40 << 56 | 8, 0, 0x40 << 56 | 9, 0, 0xc0 << 56, 0, 0, 0];
    p.h_bulk_remove(&mut specs);
    let steps: Vec<_> = p
        .steps()
        .into_iter()
        .filter(|step| !matches!(step, Step::Store(_)))
        .collect();
    let [.., last] = steps[..3] else {
        panic!("{steps:?}")
    };
    assert!(matches!(last, Step::Tlbie(..)));
    assert_eq!(
        steps[3..],
        [
            Step::Ptesync,
            Step::EratFixup,
            Step::Ptesync,
            last,
            Step::Eieio,
            Step::Tlbsync,
            Step::Ptesync
        ]
    );
    p.flush_partition();
    let lpid = Step::TlbieLpid(LPID);
    assert_eq!(
        p.steps(),
        [
            Step::Ptesync,
            lpid,
            Step::Ptesync,
            Step::EratFixup,
            Step::Ptesync,
            lpid,
            Step::Eieio,
            Step::Tlbsync,
            Step::Ptesync
        ]
    );
}

/// Has hardware set R and C of `AT` at the very last moment, when it completes the tlbie.
fn set_rc_late(p: &Fixture) {
    let mmu = Arc::downgrade(&p.mmu);
    p.machine.tlb.set_hook(move |step| {
        if matches!(step, Step::Tlbie(..))
            && let Some(mmu) = mmu.upgrade()
        {
            mmu.table().entry(AT).hardware_sets(0x180);
        }
    });
}

#[test]
fn r_c_reread_after_tlbie() {
    let clean = PAGE.r(0) & !0x180;

    let p = partition();
    entered(&p, clean);
    set_rc_late(&p);
    assert_eq!(p.h_remove(0, AT.get(), 0).unwrap().1, clean | 0x180);

    let p = partition();
    entered(&p, clean);
    set_rc_late(&p);
    let mut specs = [0x40 << 56 | 8, 0, 0xc0 << 56, 0, 0, 0, 0, 0];
    p.h_bulk_remove(&mut specs);
    assert_eq!(specs[0], 0x8c00_0000_0000_0008);

    let p = partition();
    entered(&p, clean);
    set_rc_late(&p);
    let mut specs = [0x40 << 56 | 8, 0xc0 << 56, 0, 0, 0, 0, 0, 0];
    p.h_block_remove(0, &mut specs);
    assert_eq!(specs[0], 0x8600_0000_0000_0008);

    let p = partition();
    entered(&p, clean);
    set_rc_late(&p);
    p.h_protect(3, AT.get(), 0).unwrap();
    assert_eq!(p.h_read(0, AT.get()).unwrap()[1] & 0x80, 0x80);

    let p = partition();
    entered(&p, clean | 0x80);
    set_rc_late(&p);
    assert_eq!(p.h_clear_mod(0, AT.get()).unwrap(), clean | 0x180);
    assert_eq!(p.h_read(0, AT.get()).unwrap()[1], clean | 0x100);
}

/// Follows the steps and says where doubleword 1 was stored though hardware might use the entry.
pub(super) fn broken_rules(steps: &[Step]) -> Vec<usize> {
    #[derive(Clone, Copy, PartialEq)]
    enum State {
        Valid,
        Hidden,
        Invalidated,
        Quiet,
    }
    let mut states = BTreeMap::<u64, State>::new();
    let mut synced = BTreeSet::new();
    let mut broken = Vec::new();
    for (number, step) in steps.iter().enumerate() {
        match *step {
            Step::Store(HpteStore::V(index, v)) => {
                let state = states.entry(index.get()).or_insert(State::Quiet);
                if v.is_valid() {
                    *state = State::Valid;
                } else if *state == State::Valid {
                    *state = State::Hidden;
                } else if *state != State::Quiet
                    && v.get() & HpteV::HVLOCK == 0
                    && !v.is_unflushed()
                {
                    // Let go before the flush was complete, and without a mark that says so.
                    broken.push(number);
                }
            }
            Step::Store(HpteStore::R(index, _)) => {
                if states
                    .get(&index.get())
                    .is_some_and(|state| *state != State::Quiet)
                {
                    broken.push(number);
                }
            }
            Step::Store(HpteStore::RByte(index, _)) => {
                if states.get(&index.get()) != Some(&State::Valid) {
                    broken.push(number);
                }
            }
            // The recorder's tlbie takes all, as QEMU's does; operands have their own tests.
            Step::Tlbie(..) | Step::TlbieLpid(_) => {
                for (index, state) in &mut states {
                    if *state == State::Hidden {
                        *state = State::Invalidated;
                        synced.remove(index);
                    }
                }
            }
            // A ptesync alone completes it.
            Step::Tlbiel(_) => {
                for (index, state) in &mut states {
                    if *state == State::Hidden {
                        *state = State::Invalidated;
                        synced.insert(*index);
                    }
                }
            }
            Step::Tlbsync => {
                for (index, state) in &states {
                    if *state == State::Invalidated {
                        synced.insert(*index);
                    }
                }
            }
            Step::Ptesync => {
                for index in core::mem::take(&mut synced) {
                    states.insert(index, State::Quiet);
                }
            }
            Step::Eieio
            | Step::PateStore(_)
            | Step::TlbiePate(_)
            | Step::EratFixup
            | Step::CpAbort => {}
        }
    }
    broken
}

/// As if each valid entry had just been stored: for [`broken_rules`] of what follows.
pub(super) fn valid_entries(p: &Fixture) -> Vec<Step> {
    (0..p.entries())
        .map(|at| (at, p.real(at).0))
        .filter(|(_, v)| v & HpteV::VALID != 0)
        .map(|(at, v)| Step::Store(HpteStore::V(HpteIndex::new(at), HpteV::new(v))))
        .collect()
}

#[test]
fn dword1_never_stored_while_valid() {
    let p = partition();
    p.h_enter(EXACT, 8, PAGE.v(), PAGE.r(0)).unwrap();
    p.h_protect(3, 8, 0).unwrap();
    p.h_clear_mod(0, 8).unwrap();
    p.hardware_sets(8, 0x100);
    p.h_clear_ref(0, 8).unwrap();
    p.h_remove(0, 8, 0).unwrap();
    p.h_enter(EXACT, 8, PAGE.v(), PAGE.r(0)).unwrap();
    let steps = p.steps();
    assert!(broken_rules(&steps).is_empty());
    // The rule itself sees what is wrong: any step of a flush left out, or a store too early.
    for left_out in 0..steps.len() {
        let mut fewer = steps.clone();
        let step = fewer.remove(left_out);
        let is_v_hidden = matches!(step, Step::Store(HpteStore::V(_, v))
            if v.get() & HpteV::HVLOCK != 0);
        if matches!(step, Step::Tlbsync) || is_v_hidden {
            // The flush after the R byte protects no store.
            let after_byte = steps[..left_out]
                .iter()
                .rposition(|step| matches!(step, Step::Store(_)))
                .is_some_and(|at| matches!(steps[at], Step::Store(HpteStore::RByte(..))));
            assert_eq!(
                broken_rules(&fewer).is_empty(),
                after_byte,
                "{left_out}: {step:?}"
            );
        }
    }
}
