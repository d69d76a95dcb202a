// SPDX-License-Identifier: Apache-2.0 OR MIT
//! FEATURE, CAPABILITIES, SLOTS.

use super::*;
use crate::control::function::Feature;
use crate::control::records::{Capabilities, Slot};
use crate::control::target::Features;
use crate::control::{DONE, ENTRIES_PER_CALL, MAX_BUFFER_BYTES};

#[test]
fn every_feature_number_has_an_answer() {
    let mut tools = Tools::new();
    let parameters = [3, 0x1_1000, 4, 0, 2, 0, 0, 0, 0, 32, 0];
    for (number, parameter) in (0..).zip(parameters) {
        tools
            .plain(Function::Feature, &[number])
            .is(&[1, parameter]);
    }
    for number in (11..300).chain([1 << 32, u64::MAX]) {
        tools.plain(Function::Feature, &[number]).is(&[0, 0]);
    }
}

#[test]
fn a_feature_that_is_not_offered_has_version_0_and_its_functions_are_not_there() {
    let features = |without: Feature| {
        let others = Feature::ALL
            .iter()
            .filter(|(feature, ..)| *feature != without);
        others.fold(Features::NONE, |all, (feature, ..)| all.with(*feature))
    };
    for (feature, calls) in [
        (Feature::Slots, &[(Function::Slots, 0)][..]),
        (
            Feature::DirtyLog,
            &[
                (Function::DirtyLog, 0),
                (Function::DirtyHarvest, 0),
                (Function::DirtyFetch, 0),
            ],
        ),
        (
            Feature::StreamRead,
            &[(Function::StreamOpen, 0), (Function::StreamRead, 0)],
        ),
        (
            Feature::StreamWrite,
            &[
                (Function::StreamOpen, 2),
                (Function::StreamWrite, 0x100),
                (Function::HptDrop, 0),
            ],
        ),
        (
            Feature::VcpuState,
            &[(Function::VcpuGet, 0), (Function::VcpuSet, 0)],
        ),
        (
            Feature::Suspend,
            &[
                (Function::Suspend, 0),
                (Function::Commit, 0),
                (Function::Resume, 0),
            ],
        ),
        (Feature::Invalidate, &[(Function::Invalidate, 0)]),
    ] {
        let mut tools = Tools::new();
        tools.state().offer.features = features(feature);
        tools
            .plain(Function::Feature, &[feature as u64])
            .is(&[0, 0]);
        let length = size_of::<Capabilities>();
        let output = tools
            .out(Function::Capabilities, &[], length)
            .is(&[length as u64]);
        let (capabilities, _) = record::<Capabilities>(&output);
        for (other, ..) in Feature::ALL {
            let offered = capabilities.features[*other as usize];
            assert_eq!(offered, u8::from(*other != feature), "{other:?}");
        }
        for (function, argument) in calls {
            let length = function.buffer().min_bytes();
            tools
                .out(*function, &[*argument], length)
                .refused(HcallStatus::UNSUPPORTED);
        }
    }
}

#[test]
fn capabilities_tell_the_limits() {
    let mut tools = Tools::new();
    let output = tools.out(Function::Capabilities, &[], 4096).is(&[128]);
    let (capabilities, _) = record::<Capabilities>(&output);
    assert_eq!(capabilities.features[..11], [1; 11]);
    assert_eq!(capabilities.features[11..], [0; 21]);
    assert_eq!(
        capabilities.max_buffer_bytes.get() as usize,
        MAX_BUFFER_BYTES
    );
    assert_eq!(
        u64::from(capabilities.entries_per_call.get()),
        ENTRIES_PER_CALL
    );
    assert_eq!((capabilities.slots.get(), capabilities.vcpus.get()), (3, 2));
    assert_eq!(capabilities.stream_readers.get(), 4);
    assert_eq!(capabilities.page_sizes.get(), 0x0101_1000);
    assert_eq!(capabilities.dirty_page_sizes.get(), 0x1_1000);
    assert_eq!(capabilities.vector_parts.get(), 7);
    assert_eq!(capabilities.hpt_entries.get(), 3 * 4096);
    assert_eq!(capabilities.flush_threshold.get(), 32);
    assert_eq!(capabilities.partition.get(), 2);
}

#[test]
fn slots_come_in_pieces_with_a_cursor() {
    let mut tools = Tools::new();
    let output = tools.out(Function::Slots, &[0], 16 << 10).is(&[144, DONE]);
    let mut slots = Vec::new();
    for piece in output.chunks_exact(48) {
        slots.push(record::<Slot>(piece).0);
    }
    let [memory, screen, device] = slots[..] else {
        panic!("{slots:?}")
    };
    assert_eq!((memory.slot.get(), memory.kind.get()), (0, Slot::MEMORY));
    assert_eq!((memory.page_shift, memory.dirty_shift), (24, 12));
    assert_eq!(
        (memory.guest_address.get(), memory.bytes.get()),
        (0, 1000 << 12)
    );
    assert_eq!((memory.flags.get(), memory.row_bytes.get()), (0, 0));
    assert_eq!(
        (screen.slot.get(), screen.kind.get()),
        (1, Slot::FRAMEBUFFER)
    );
    assert_eq!(screen.guest_address.get(), 0x7_0000_0000_0000);
    assert_eq!(screen.row_bytes.get(), 2560);
    assert_eq!((device.slot.get(), device.kind.get()), (2, Slot::DEVICE));
    assert_eq!((device.page_shift, device.dirty_shift), (16, 0));
    assert_eq!(device.flags.get(), Slot::READ_ONLY);

    // Space for one record and a half.
    let mut cursor = 0;
    for (number, next) in [(0, 1), (1, 2), (2, DONE)] {
        let output = tools.out(Function::Slots, &[cursor], 72).is(&[48, next]);
        assert_eq!(record::<Slot>(&output).0, slots[number]);
        cursor = next;
    }
    assert!(
        tools
            .out(Function::Slots, &[3], 48)
            .is(&[0, DONE])
            .is_empty()
    );
    tools
        .out(Function::Slots, &[4], 48)
        .refused(HcallStatus::P5);
    tools
        .out(Function::Slots, &[DONE], 48)
        .refused(HcallStatus::P5);
}

#[test]
fn a_slot_says_whether_it_is_logged() {
    let mut tools = Tools::new();
    tools.plain(Function::DirtyLog, &[1, 1]).is(&[]);
    let output = tools.out(Function::Slots, &[0], 144).is(&[144, DONE]);
    let flags = output
        .chunks_exact(48)
        .map(|piece| record::<Slot>(piece).0.flags.get());
    assert_eq!(
        flags.collect::<Vec<_>>(),
        [0, Slot::LOGGED, Slot::READ_ONLY]
    );
}

#[test]
fn queries_leave_no_trace_of_earlier_calls() {
    let mut tools = Tools::new();
    tools.suspend();
    let state = crate::control::records::VcpuState::blank();
    let _ = tools.put(Function::VcpuSet, &[0], &state, &[0xab; 4096]);
    let output = tools.out(Function::Slots, &[2], 4096).is(&[48, DONE]);
    assert_eq!(output.len(), 48);
    assert!(!output.contains(&0xab));
}
