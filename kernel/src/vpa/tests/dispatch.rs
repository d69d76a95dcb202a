// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The dispatch count, the dispersion and the dispatch trace log.

use super::*;

#[test]
fn the_count_is_odd_while_the_vcpu_waits() {
    let mut vcpu = Vcpu::with_vpa();
    for expected in [1, 3, 5] {
        vcpu.areas.preempted(&mut vcpu.memory).unwrap();
        assert_eq!(vcpu.word(VPA + 0x100), expected);
        // Twice in a row is once.
        vcpu.areas.preempted(&mut vcpu.memory).unwrap();
        assert_eq!(vcpu.word(VPA + 0x100), expected);
        vcpu.areas.dispatched(RECORD, &mut vcpu.memory).unwrap();
        assert_eq!(vcpu.word(VPA + 0x100), expected + 1);
    }
    // What the guest writes there does not matter.
    vcpu.memory.put_words(index(VPA) + 0x100, &[0x1234]);
    vcpu.areas.preempted(&mut vcpu.memory).unwrap();
    assert_eq!(vcpu.word(VPA + 0x100), 7);
}

#[test]
fn the_count_wraps() {
    let mut vcpu = Vcpu::with_vpa();
    vcpu.areas.dispatch_count = u32::MAX;
    vcpu.areas.dispatched(RECORD, &mut vcpu.memory).unwrap();
    assert_eq!(vcpu.word(VPA + 0x100), 0);
}

#[test]
fn dispersion_counts_changes_of_the_thread() {
    let mut vcpu = Vcpu::with_vpa();
    for (processor, dispersion) in [(8, 0), (8, 0), (12, 1), (8, 2), (8, 2)] {
        let record = DispatchRecord {
            processor,
            ..RECORD
        };
        vcpu.areas.preempted(&mut vcpu.memory).unwrap();
        vcpu.areas.dispatched(record, &mut vcpu.memory).unwrap();
        assert_eq!(vcpu.word(VPA + 0x104), dispersion);
    }
}

#[test]
fn a_vcpu_without_areas_writes_nothing() {
    let mut vcpu = Vcpu::new();
    vcpu.areas.preempted(&mut vcpu.memory).unwrap();
    vcpu.areas.dispatched(RECORD, &mut vcpu.memory).unwrap();
    assert!(vcpu.memory.writes.is_empty());
    assert_eq!(vcpu.areas.dispatch_count(), 2);
}

#[test]
fn trace_entry_layout() {
    let mut expected: [u8; 48] = core::array::from_fn(|i| u8::try_from(i).unwrap());
    expected[..4].copy_from_slice(&[3, 2, 1, 2]);
    for (i, byte) in expected[4..16].iter_mut().enumerate() {
        *byte = u8::try_from(i).unwrap() + 3;
    }
    assert_eq!(RECORD.entry(), expected);
}

#[test]
fn the_trace_log_is_a_ring_of_whole_entries() {
    let mut vcpu = Vcpu::with_vpa();
    vcpu.memory.bytes[index(VPA) + 0xb8] = 1;
    let _ = vcpu.apply(AreaRequest::RegisterDtl(at(DTL))).unwrap();
    assert_eq!(
        vcpu.memory.bytes[index(VPA) + 0x218..index(VPA) + 0x220],
        [0; 8]
    );
    // 100 bytes: two entries.
    for (n, slot) in [(1, 0), (2, 48), (3, 0), (4, 48)] {
        let record = DispatchRecord {
            timebase: n,
            ..RECORD
        };
        vcpu.areas.dispatched(record, &mut vcpu.memory).unwrap();
        let entry = index(DTL) + slot;
        assert_eq!(vcpu.memory.bytes[entry..entry + 48], record.entry());
        assert_eq!(vcpu.word(VPA + 0x21c), u32::try_from(n).unwrap());
    }
    assert_eq!(
        vcpu.memory.bytes[index(DTL) + 96..index(DTL) + 100],
        [0xa5; 4]
    );
    // A new registration starts from the first entry.
    vcpu.areas.dispatched(RECORD, &mut vcpu.memory).unwrap();
    vcpu.memory.put_words(index(DTL) + 4, &[96]);
    let _ = vcpu.apply(AreaRequest::RegisterDtl(at(DTL))).unwrap();
    let record = DispatchRecord {
        timebase: 9,
        ..RECORD
    };
    vcpu.areas.dispatched(record, &mut vcpu.memory).unwrap();
    assert_eq!(
        vcpu.memory.bytes[index(DTL)..index(DTL) + 48],
        record.entry()
    );
    assert_eq!(vcpu.word(VPA + 0x21c), 1);
}

#[test]
fn the_entry_is_written_before_the_index() {
    let mut vcpu = Vcpu::with_vpa();
    vcpu.memory.bytes[index(VPA) + 0xb8] = 7;
    let _ = vcpu.apply(AreaRequest::RegisterDtl(at(DTL))).unwrap();
    vcpu.memory.writes.clear();
    vcpu.areas.dispatched(RECORD, &mut vcpu.memory).unwrap();
    assert_eq!(
        vcpu.memory.writes,
        [(DTL, 48), (VPA + 0x218, 8), (VPA + 0x100, 4)]
    );
}

#[test]
fn the_mask_chooses_what_is_traced() {
    for (preempted, bit) in [
        (PreemptReason::Cede, 1),
        (PreemptReason::Confer, 1),
        (PreemptReason::TimeSlice, 2),
        (PreemptReason::MemoryFault, 4),
        (PreemptReason::Firmware, 0),
    ] {
        for mask in 0..=7 {
            let mut vcpu = Vcpu::with_vpa();
            vcpu.memory.bytes[index(VPA) + 0xb8] = mask;
            let _ = vcpu.apply(AreaRequest::RegisterDtl(at(DTL))).unwrap();
            let record = DispatchRecord {
                preempted,
                ..RECORD
            };
            vcpu.areas.dispatched(record, &mut vcpu.memory).unwrap();
            let traced = u32::from(mask & bit != 0);
            assert_eq!(vcpu.word(VPA + 0x21c), traced, "{preempted:?} {mask}");
        }
    }
}
