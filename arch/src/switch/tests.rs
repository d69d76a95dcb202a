// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The order of the steps, and that nothing stays behind.

extern crate std;

use super::*;
use crate::fake::{RecordingThread, ThreadStep as Step};
use std::vec::Vec;

const PROCESSORS: [Processor; 2] = [Processor::Power9, Processor::Power10];
const LPCR: Lpcr = Lpcr::GUEST.union(Lpcr::ILE);
const LPID: Lpid = Lpid::new(7);

fn entered(first: FirstEntry, state: &ParkedState, thread: &RecordingThread) -> Vec<Step> {
    enter(thread, state, LPCR, LPID, first);
    thread.take()
}

fn at(steps: &[Step], step: Step) -> usize {
    let mut places = steps.iter().enumerate().filter(|(_, s)| **s == step);
    let place = places.next().expect("the step is taken").0;
    assert!(places.next().is_none(), "{step:?} is taken twice");
    place
}

/// Where the only write of this register is.
fn write_at(steps: &[Step], spr: VcpuSpr) -> usize {
    let mut places = steps
        .iter()
        .enumerate()
        .filter(|(_, s)| matches!(s, Step::Write(written, _) if *written == spr));
    let place = places.next().expect("it is written").0;
    assert!(places.next().is_none(), "{spr:?} is written twice");
    place
}

#[test]
fn partition_is_changed_before_its_translations() {
    for processor in PROCESSORS {
        let thread = RecordingThread::new(processor);
        let mut state = ParkedState::new(processor, 0);
        state.slb[3] = SlbEntry {
            esid: 0x1000_0000 | SLB_VALID,
            vsid: 0x4000,
        };
        let steps = entered(FirstEntry::Yes, &state, &thread);
        assert_eq!(
            steps[..11],
            [
                Step::AbortCopyPaste,
                Step::DropReservation,
                Step::SetLpcr(LPCR),
                Step::SetLpid(LPID),
                Step::Isync,
                Step::FlushLocalTlb,
                Step::FlushSlb,
                Step::InsertSlbEntry(0, SlbEntry::default()),
                Step::InsertSlbEntry(1, SlbEntry::default()),
                Step::InsertSlbEntry(2, SlbEntry::default()),
                Step::InsertSlbEntry(3, state.slb[3]),
            ]
        );
        assert_eq!(steps.last(), Some(&Step::Isync));
        let again = entered(FirstEntry::No, &state, &thread);
        assert!(!again.contains(&Step::FlushLocalTlb));
        assert_eq!(again[..5], steps[..5]);
        assert_eq!(again[5..], steps[6..]);
    }
}

#[test]
fn copy_reservation_and_branch_history_end_with_their_guest() {
    let thread = RecordingThread::new(Processor::Power9);
    let mut state = ParkedState::new(Processor::Power9, 0);
    leave(&thread, &mut state);
    thread.take();
    let steps = entered(FirstEntry::No, &state, &thread);
    assert_eq!(steps[..2], [Step::AbortCopyPaste, Step::DropReservation]);
    let history = at(&steps, Step::ClearBranchHistory);
    assert!(history < write_at(&steps, VcpuSpr::Mmcra));
    assert!(history < write_at(&steps, VcpuSpr::Mmcr0));
}

#[test]
fn performance_monitor_is_frozen_first_and_released_last() {
    use VcpuSpr::{Mmcr0, Mmcra, Pmc1, Pmc6};
    for processor in PROCESSORS {
        let thread = RecordingThread::new(processor);
        thread.poke(Mmcr0, 0x0123);
        thread.poke(Mmcra, 0x4567);
        let mut state = ParkedState::new(processor, 0);
        leave(&thread, &mut state);
        let steps = thread.take();
        let frozen = thread.peek(Mmcr0);
        assert_eq!(frozen & 0x8000_0000, 0x8000_0000);
        assert_eq!(
            steps[1..6],
            [
                Step::Read(Mmcr0),
                Step::Write(Mmcr0, frozen),
                Step::Read(Mmcra),
                Step::Write(Mmcra, thread.peek(Mmcra)),
                Step::Isync,
            ]
        );
        assert!(at(&steps, Step::Read(Pmc1)) > 5 && at(&steps, Step::Read(Pmc6)) > 5);
        assert_eq!((state.spr(Mmcr0), state.spr(Mmcra)), (0x0123, 0x4567));

        let steps = entered(FirstEntry::No, &state, &thread);
        let last_write = steps.iter().rposition(|s| matches!(s, Step::Write(..)));
        assert_eq!(last_write, Some(write_at(&steps, Mmcr0)));
        assert_eq!(write_at(&steps, Mmcra) + 1, write_at(&steps, Mmcr0));
    }
}

#[test]
fn nothing_of_a_guest_is_armed_in_hypervisor_state() {
    use VcpuSpr::{Ciabr, Dawrx0, Dawrx1, Mmcr0};
    let thread = RecordingThread::new(Processor::Power10);
    let mut state = ParkedState::new(Processor::Power10, 0);
    enter(&thread, &state, LPCR, LPID, FirstEntry::No);
    for spr in [Ciabr, Dawrx0, Dawrx1] {
        thread.poke(spr, 0xfff8_0001);
    }
    thread.poke(Mmcr0, 0);
    leave(&thread, &mut state);
    for spr in [Ciabr, Dawrx0, Dawrx1] {
        assert_eq!(thread.peek(spr), 0, "{spr:?}");
        assert_eq!(state.spr(spr), 0xfff8_0001, "{spr:?}");
    }
    // Also where the guest is not to come back.
    enter(&thread, &state, LPCR, LPID, FirstEntry::No);
    thread.take();
    park(&thread);
    for spr in [Ciabr, Dawrx0, Dawrx1] {
        assert_eq!(thread.peek(spr), 0, "{spr:?}");
    }
    assert_eq!(thread.peek(Mmcr0), 0x8000_0200);
    let steps = thread.take();
    assert_eq!(
        steps[steps.len() - 4..],
        [
            Step::SetLpcr(Lpcr::HYPERVISOR),
            Step::SetLpid(Lpid::new(0)),
            Step::Isync,
            Step::FlushSlb
        ]
    );
}

#[test]
fn breakpoints_have_their_address_before_they_are_armed() {
    use VcpuSpr::{Dawr0, Dawr1, Dawrx0, Dawrx1};
    let thread = RecordingThread::new(Processor::Power10);
    let state = ParkedState::new(Processor::Power10, 0);
    let steps = entered(FirstEntry::No, &state, &thread);
    assert!(write_at(&steps, Dawr0) < write_at(&steps, Dawrx0));
    assert!(write_at(&steps, Dawr1) < write_at(&steps, Dawrx1));
}

#[test]
fn decrementer_goes_on_while_its_guest_is_away() {
    let thread = RecordingThread::new(Processor::Power9);
    thread.set_timebase(1000);
    let mut state = ParkedState::new(Processor::Power9, 1000);
    enter(&thread, &state, LPCR, LPID, FirstEntry::No);
    assert_eq!(thread.decrementer(), DECREMENTER_START);
    thread.set_decrementer(500);
    thread.set_timebase(1100);
    leave(&thread, &mut state);
    assert_eq!(state.decrementer_expiry, 1500);
    let other = ParkedState::new(Processor::Power9, 1100);
    enter(&thread, &other, LPCR, LPID, FirstEntry::No);
    thread.set_timebase(1700);
    enter(&thread, &state, LPCR, LPID, FirstEntry::No);
    // Expired 200 ticks ago.
    assert_eq!(thread.decrementer().cast_signed(), -200);
}

#[test]
fn fp_vec_not_leaked() {
    let thread = RecordingThread::new(Processor::Power9);
    let mut vectors = VectorState::new();
    for (number, register) in (1..).zip(&mut vectors.vsr) {
        *register = number;
    }
    vectors.fpscr = [0xf8, 0];
    vectors.vscr = 0x1_0001;
    let mut state = ParkedState::new(Processor::Power9, 0);
    enter(&thread, &state, LPCR, LPID, FirstEntry::No);
    thread.poke_vectors(&vectors);
    leave(&thread, &mut state);
    let mut other = ParkedState::new(Processor::Power9, 0);
    enter(&thread, &other, LPCR, LPID, FirstEntry::No);
    leave(&thread, &mut other);
    assert_eq!(other.vectors, VectorState::new());
    assert_eq!(state.vectors, vectors);
}

#[test]
fn slb_not_leaked() {
    let thread = RecordingThread::new(Processor::Power9);
    let entry = |n: usize| SlbEntry {
        esid: (n as u64) << 28 | SLB_VALID,
        vsid: 0x1000 + n as u64,
    };
    let mut state = ParkedState::new(Processor::Power9, 0);
    enter(&thread, &state, LPCR, LPID, FirstEntry::No);
    for number in (0..SLB_ENTRIES).step_by(2) {
        thread.poke_slb(number, entry(number));
    }
    let full = thread.peek_slb();
    leave(&thread, &mut state);
    let mut other = ParkedState::new(Processor::Power9, 0);
    enter(&thread, &other, LPCR, Lpid::new(8), FirstEntry::No);
    assert_eq!(thread.peek_slb(), [SlbEntry::default(); SLB_ENTRIES]);
    thread.poke_slb(1, entry(1));
    leave(&thread, &mut other);
    enter(&thread, &state, LPCR, LPID, FirstEntry::No);
    assert_eq!(thread.peek_slb(), full);
    park(&thread);
    assert_eq!(thread.peek_slb(), [SlbEntry::default(); SLB_ENTRIES]);
}

#[test]
fn a_segment_is_found_by_any_of_its_addresses() {
    let mut state = ParkedState::new(Processor::Power9, 0);
    let terabyte = SlbEntry {
        esid: 0xc000_0100_0000_0000 | SLB_VALID,
        vsid: 0x4001_2345_6700_0510,
    };
    let small = SlbEntry {
        esid: 0x0000_0000_2000_0000 | SLB_VALID,
        vsid: 0x0000_0abc_def1_2c80,
    };
    state.slb[3] = terabyte;
    state.slb[31] = small;
    let find = |ea| state.segment_of(EffectiveAddr::new(ea)).map(Asdr::get);
    assert_eq!(find(0xc000_0100_0000_0000), Some(terabyte.vsid));
    assert_eq!(find(0xc000_01ff_ffff_ffff), Some(terabyte.vsid));
    assert_eq!(find(0xc000_0200_0000_0000), None);
    assert_eq!(find(0x0000_0000_2fff_ffff), Some(small.vsid));
    assert_eq!(find(0x0000_0000_3000_0000), None);
    state.slb[3].esid &= !SLB_VALID;
    assert_eq!(
        state.segment_of(EffectiveAddr::new(0xc000_0100_0000_0000)),
        None
    );
}
