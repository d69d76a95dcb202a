// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Records against committed bytes, in both directions, and against what must be refused.

extern crate std;

use super::*;
use crate::control::error::Reason;
use core::mem::offset_of;
use proptest::prelude::*;
use std::vec;
use std::vec::Vec;

/// The bytes of a file of `OFFSET xx xx ...` lines.
fn golden(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for line in text.lines() {
        let mut words = line.split(' ');
        let offset = usize::from_str_radix(words.next().unwrap(), 16).unwrap();
        assert_eq!(offset, bytes.len(), "{line}");
        bytes.extend(words.map(|byte| u8::from_str_radix(byte, 16).unwrap()));
    }
    bytes
}

macro_rules! golden {
    ($name:literal) => {
        golden(include_str!(concat!("golden/", $name, ".hex")))
    };
}

#[track_caller]
fn both_ways<R: Record + PartialEq + core::fmt::Debug>(record: &R, bytes: &[u8]) {
    assert_eq!(record.as_bytes(), bytes, "{}: written", R::NAME);
    let (back, payload) = read::<R>(bytes).unwrap();
    assert_eq!(back, record, "{}: read", R::NAME);
    assert!(payload.is_empty());
    // At any address, and with whatever behind it.
    for shift in 0..16 {
        let mut moved = vec![0xee; shift];
        moved.extend(bytes);
        moved.extend([0xdd; 5]);
        let (back, payload) = read::<R>(&moved[shift..]).unwrap();
        assert_eq!((back, payload), (record, &[0xdd; 5][..]));
    }
}

fn capabilities() -> Capabilities {
    let mut record = Capabilities::blank();
    record.features[..11].fill(1);
    record.max_buffer_bytes = U32::new(0x4000);
    record.entries_per_call = U32::new(0x1000);
    record.slots = U32::new(3);
    record.vcpus = U32::new(4);
    record.stream_readers = U32::new(4);
    record.page_sizes = U32::new(0x0101_1000);
    record.dirty_page_sizes = U32::new(0x1_1000);
    record.vector_parts = U32::new(7);
    record.hpt_entries = U64::new(0x4_0000);
    record.flush_threshold = U32::new(0x200);
    record.partition = U32::new(2);
    record
}

fn slot() -> Slot {
    let mut record = Slot::blank();
    record.slot = U32::new(1);
    record.kind = U16::new(Slot::FRAMEBUFFER);
    record.page_shift = 24;
    record.dirty_shift = 16;
    record.guest_address = U64::new(0x7_0000_0000_0000);
    record.bytes = U64::new(0x13_0000);
    record.flags = U32::new(Slot::READ_ONLY | Slot::LOGGED);
    record.row_bytes = U32::new(0xa00);
    record
}

fn dirty_request() -> DirtyRequest {
    let mut record = DirtyRequest::blank();
    record.slot = U32::new(1);
    record.page_shift = 16;
    record.first_page = U64::new(0x40);
    record.pages = U64::new(0x80);
    record.flags = U32::new(DirtyRequest::TAKE);
    record
}

fn dirty_reply() -> DirtyReply {
    let mut record = DirtyReply::blank();
    record.slot = U32::new(1);
    record.page_shift = 16;
    record.first_page = U64::new(0x40);
    record.pages = U64::new(0x73);
    record.dirty = U64::new(0x11);
    record.bitmap_bytes = U32::new(15);
    record
}

fn stream_chunk() -> StreamChunk {
    let mut record = StreamChunk::blank();
    record.stream = U32::new(3);
    let flags = StreamChunk::FIRST_PASS | StreamChunk::BOLTED_ONLY | StreamChunk::END;
    record.flags = U32::new(flags);
    record.offset = U64::new(0x1_2345_6789);
    record.length = U32::new(0x18);
    record.byte_order = U16::new(BYTE_ORDER_LITTLE);
    record
}

fn invalidate() -> Invalidate {
    let mut record = Invalidate::blank();
    record.flags = U32::new(Invalidate::GROUPS | Invalidate::STRICT);
    record.bitmap_bytes = U32::new(2);
    record.first = U64::new(0x40);
    record.bits = U64::new(11);
    record.hint = U64::new(5);
    record
}

fn vcpu_state() -> VcpuState {
    let mut record = VcpuState::blank();
    record.vcpu = U32::new(2);
    record.parts = U32::new(parts::FP | parts::VSX);
    record.run_state = U32::new(RunState::Ceded as u32);
    record.pc = U64::new(0xc000_0000_0000_1234);
    record.msr = U64::new(0x8000_0000_0280_3033);
    record.lr = U64::new(0xc000_0000_0000_5678);
    record.ctr = U64::new(0x1f);
    record.xer = U64::new(0x2000_0000);
    record.cr = U64::new(0x4800_0224);
    record.cfar = U64::new(0xc000_0000_0000_9abc);
    record.lpcr = U64::new(0x0380_0000);
    record.timebase = U64::new(0x0123_4567_89ab_cdef);
    record.decrementer_expiry = U64::new(0x0123_4567_dead_beef);
    record.vpa = U64::new(0x7ff_0000);
    record.vpa_bytes = U64::new(0x280);
    record.slb_shadow = U64::new(0x7fe_0000);
    record.slb_shadow_bytes = U64::new(0x110);
    record.dispatch_log = U64::new(0x7fd_0000);
    record.dispatch_log_bytes = U64::new(0x1000);
    for (number, gpr) in record.gpr.iter_mut().enumerate() {
        *gpr = U64::new(0xa5a5_0000_0000_0000 | number as u64);
    }
    record.slb[0] = [0xc000_0000_0800_0000, 0x4000_1234_5600_0510].map(U64::new);
    record.slb[31] = [0x0000_0100_0800_0000, 0x0000_7777_7777_7c80].map(U64::new);
    assert!(record.push_spr(26, 0xc000_0000_0000_0100));
    assert!(record.push_spr(187, 0x1001));
    assert!(record.push_spr(272, 0x5555));
    record
}

fn vector_state() -> VectorState {
    let mut record = VectorState::blank();
    record.fpscr = U64::new(0x82_0000_0000);
    record.vscr = U64::new(0x1_0000);
    for (number, register) in (0..).zip(&mut record.vsr) {
        *register = [0x1000 + number, 0x2000 + number].map(U64::new);
    }
    record
}

/// The bytes were not made by this code.
#[test]
fn records_are_the_committed_bytes() {
    both_ways(&capabilities(), &golden!("capabilities"));
    both_ways(&slot(), &golden!("slot"));
    both_ways(&dirty_request(), &golden!("dirty-request"));
    both_ways(&dirty_reply(), &golden!("dirty-reply"));
    both_ways(&stream_chunk(), &golden!("stream-chunk"));
    both_ways(&invalidate(), &golden!("invalidate"));
    both_ways(&vcpu_state(), &golden!("vcpu-state"));
    both_ways(&vector_state(), &golden!("vector-state"));
}

/// Runs `$test` with every kind of record.
macro_rules! every_record {
    ($test:ident) => {
        $test(capabilities());
        $test(slot());
        $test(dirty_request());
        $test(dirty_reply());
        $test(stream_chunk());
        $test(invalidate());
        $test(vcpu_state());
        $test(vector_state());
    };
}

fn bytes_of<R: Record>(record: &R) -> Vec<u8> {
    record.as_bytes().to_vec()
}

#[track_caller]
fn refused<R: Record>(bytes: &[u8], offset: usize, reason: Reason) {
    match read::<R>(bytes) {
        Ok(_) => panic!("{}: taken in spite of {reason:?}", R::NAME),
        Err(error) => assert_eq!(error, RecordError::new(offset, reason), "{}", R::NAME),
    }
}

/// `abi_struct_sizes` of the checklist: what the assertions beside the types say, as a table that
/// a change must touch too.
#[test]
fn abi_struct_sizes() {
    assert_eq!(size_of::<Header>(), 8);
    assert_eq!(size_of::<Capabilities>(), 128);
    assert_eq!(size_of::<Slot>(), 48);
    assert_eq!(size_of::<DirtyRequest>(), 40);
    assert_eq!(size_of::<DirtyReply>(), 48);
    assert_eq!(size_of::<StreamChunk>(), 40);
    assert_eq!(size_of::<Invalidate>(), 48);
    assert_eq!(size_of::<Spr>(), 16);
    assert_eq!(size_of::<VcpuState>(), 2456);
    assert_eq!(size_of::<VectorState>(), 1056);
}

#[test]
fn fields_leave_no_gap_and_do_not_overlap() {
    fn test<R: Record>(_: R) {
        let mut end = 0;
        for field in R::FIELDS {
            assert_eq!(field.offset, end, "{}.{}", R::NAME, field.name);
            assert_eq!(field.offset % field.unit, 0);
            assert_eq!(field.bytes % field.unit, 0);
            assert_eq!(field.padding, field.name.starts_with("reserved"));
            end += field.bytes;
        }
        assert_eq!(end, size_of::<R>(), "{}", R::NAME);
    }
    every_record!(test);
}

#[test]
fn unknown_versions_are_refused() {
    fn test<R: Record>(record: R) {
        for major in (0..=255).filter(|major| *major != MAJOR) {
            let mut bytes = bytes_of(&record);
            bytes[0] = major;
            refused::<R>(&bytes, 0, Reason::Major);
        }
        let mut bytes = bytes_of(&record);
        bytes[1] = MINOR + 1;
        refused::<R>(&bytes, 1, Reason::NewerMinor);
    }
    every_record!(test);
}

#[test]
fn a_newer_minor_version_is_taken_only_if_it_says_that_it_is_compatible() {
    fn test<R: Record + PartialEq + core::fmt::Debug>(record: R) {
        let ours = size_of::<R>();
        let newer = |flags, size: usize| {
            let mut bytes = bytes_of(&record);
            bytes[1] = MINOR + 1;
            bytes[3] = flags;
            bytes[4..8].copy_from_slice(&u32::try_from(size).unwrap().to_be_bytes());
            bytes.resize(size.max(ours), 0x77);
            bytes.extend([1, 2, 3]);
            bytes
        };
        refused::<R>(&newer(0, ours + 8), 1, Reason::NewerMinor);
        for more in [0, 8, 64] {
            let bytes = newer(Header::COMPATIBLE, ours + more);
            let (back, payload) = read::<R>(&bytes).unwrap();
            // The payload begins behind the writer's record, not behind ours.
            assert_eq!(payload, [1, 2, 3]);
            assert_eq!(back.as_bytes()[8..], record.as_bytes()[8..]);
        }
        refused::<R>(&newer(Header::COMPATIBLE, ours - 8), 4, Reason::Size);
        refused::<R>(&newer(Header::COMPATIBLE, ours + 4), 4, Reason::Size);
        refused::<R>(&newer(Header::COMPATIBLE, 8200), 4, Reason::Size);
        let cut = newer(Header::COMPATIBLE, ours + 64);
        refused::<R>(&cut[..ours + 63], 0, Reason::TooShort);
    }
    every_record!(test);
}

#[test]
fn another_size_of_the_same_version_is_refused() {
    fn test<R: Record>(record: R) {
        let ours = size_of::<R>();
        for size in [0, 7, 8, ours - 8, ours - 1, ours + 1, ours + 8, 0xffff_ffff] {
            for flags in [0, Header::COMPATIBLE] {
                let mut bytes = bytes_of(&record);
                bytes[3] = flags;
                bytes[4..8].copy_from_slice(&u32::try_from(size).unwrap().to_be_bytes());
                bytes.resize(2 * ours, 0);
                refused::<R>(&bytes, 4, Reason::Size);
            }
        }
    }
    every_record!(test);
}

#[test]
fn another_kind_and_unknown_flags_are_refused() {
    fn test<R: Record>(record: R) {
        for kind in (0..=255).filter(|kind| *kind != R::KIND as u8) {
            let mut bytes = bytes_of(&record);
            bytes[2] = kind;
            refused::<R>(&bytes, 2, Reason::Kind);
        }
        for bit in 0..7 {
            let mut bytes = bytes_of(&record);
            bytes[3] = 1 << bit;
            refused::<R>(&bytes, 3, Reason::Flags);
        }
    }
    every_record!(test);
}

#[test]
fn a_record_that_is_cut_off_is_refused() {
    fn test<R: Record>(record: R) {
        let bytes = bytes_of(&record);
        for end in 0..bytes.len() {
            refused::<R>(&bytes[..end], 0, Reason::TooShort);
        }
    }
    every_record!(test);
}

#[test]
fn padding_is_zero() {
    fn test<R: Record>(record: R) {
        for field in R::FIELDS.iter().filter(|field| field.padding) {
            for at in field.offset..field.offset + field.bytes {
                let mut bytes = bytes_of(&record);
                bytes[at] = 0x40;
                refused::<R>(&bytes, at, Reason::Padding);
            }
        }
    }
    every_record!(test);
}

/// A field with a value that the interface does not know.
macro_rules! bad {
    ($record:expr, $ty:ty, $field:ident = $value:expr) => {{
        let mut record = $record;
        record.$field = $value;
        refused::<$ty>(record.as_bytes(), offset_of!($ty, $field), Reason::Value);
    }};
}

#[test]
fn values_that_fields_cannot_have_are_refused() {
    bad!(dirty_request(), DirtyRequest, first_page = U64::new(0x41));
    bad!(dirty_request(), DirtyRequest, pages = U64::new(0));
    bad!(dirty_request(), DirtyRequest, pages = U64::new(0x81));
    bad!(dirty_request(), DirtyRequest, flags = U32::new(2));
    bad!(stream_chunk(), StreamChunk, flags = U32::new(8));
    bad!(stream_chunk(), StreamChunk, byte_order = U16::new(0x4545));
    bad!(invalidate(), Invalidate, flags = U32::new(4));
    bad!(invalidate(), Invalidate, first = U64::new(0x20));
    bad!(invalidate(), Invalidate, bitmap_bytes = U32::new(1));
    bad!(invalidate(), Invalidate, bitmap_bytes = U32::new(3));
    bad!(vector_state(), VectorState, vscr = U64::new(1 << 32));
}

#[test]
fn a_tool_gives_a_guest_nothing_that_is_the_hypervisors() {
    bad!(vcpu_state(), VcpuState, parts = U32::new(8));
    bad!(vcpu_state(), VcpuState, run_state = U32::new(0));
    bad!(vcpu_state(), VcpuState, run_state = U32::new(5));
    bad!(vcpu_state(), VcpuState, spr_count = U32::new(97));
    bad!(vcpu_state(), VcpuState, xer = U64::new(1 << 32));
    bad!(vcpu_state(), VcpuState, cr = U64::new(1 << 32));
    let msr = vcpu_state().msr.get();
    // HV, TM, TS, ME off.
    for bits in [1 << 60, 1 << 32, 1 << 33, 1 << 34, 1 << 41, 0x1000] {
        bad!(vcpu_state(), VcpuState, msr = U64::new(msr ^ bits));
    }
    // Half of AIL; VPM, LPES, GTSE, HR, UPRT.
    for lpcr in [1 << 23, 1 << 24, 1 << 62, 8, 1 << 10, 1 << 20, 1 << 22] {
        bad!(vcpu_state(), VcpuState, lpcr = U64::new(lpcr));
    }
    for lpcr in [0, 1 << 25, 3 << 23] {
        let mut state = vcpu_state();
        state.lpcr = U64::new(lpcr);
        assert!(read::<VcpuState>(state.as_bytes()).is_ok());
    }
}

#[test]
fn segments_are_such_as_slbmte_takes() {
    let good = [0xc000_0000_0800_0000, 0x4000_1234_5600_0510];
    for (esid, vsid) in [
        (good[0] & !0x0800_0000, good[1]),
        (good[0] | 5, good[1]),
        (good[0], good[1] | 1),
        (good[0], good[1] | 1 << 63),
        (good[0], good[1] ^ 0x20),
        (0, good[1]),
    ] {
        let mut state = vcpu_state();
        state.slb[7] = [esid, vsid].map(U64::new);
        let at = offset_of!(VcpuState, slb) + 7 * 16;
        refused::<VcpuState>(state.as_bytes(), at, Reason::Value);
    }
}

#[test]
fn special_registers_are_listed_once_and_cannot_reach_into_the_hypervisor() {
    let with = |number, value| {
        let mut state = vcpu_state();
        assert!(state.push_spr(number, value));
        bytes_of(&state)
    };
    let at = VcpuState::spr_offset(3);
    refused::<VcpuState>(&with(26, 0), at, Reason::Value);
    refused::<VcpuState>(&with(1024, 0), at, Reason::Value);
    refused::<VcpuState>(&with(0xffff, 0), at, Reason::Value);
    assert!(read::<VcpuState>(&with(188, 0xffff_fffb)).is_ok());
    for (number, value) in [
        (188, 4),
        (189, 4),
        (188, 1 << 32),
        (18, 1 << 32),
        (256, 1 << 32),
    ] {
        refused::<VcpuState>(&with(number, value), at + 8, Reason::Value);
    }
    let mut state = vcpu_state();
    state.sprs[1].value = U64::new(3);
    refused::<VcpuState>(
        state.as_bytes(),
        VcpuState::spr_offset(1) + 8,
        Reason::Value,
    );
    // Behind the last one that is used, nothing.
    let mut state = vcpu_state();
    state.sprs[95].value = U64::new(1);
    refused::<VcpuState>(state.as_bytes(), VcpuState::spr_offset(95), Reason::Padding);
    let mut state = vcpu_state();
    state.sprs[2].reserved[4] = 1;
    refused::<VcpuState>(
        state.as_bytes(),
        VcpuState::spr_offset(2) + 2,
        Reason::Padding,
    );
    let mut full = vcpu_state();
    while full.push_spr(0, 0) {}
    assert_eq!(full.spr_count.get() as usize, MAX_SPRS);
}

#[test]
fn parts_of_the_vector_registers_are_kept_apart() {
    let of = |part| {
        let mut state = vector_state();
        state.keep_only(part);
        state
    };
    assert_eq!(of(parts::ALL), vector_state());
    assert_eq!(of(0), VectorState::blank());
    let fp = of(parts::FP);
    assert_eq!((fp.fpscr.get(), fp.vscr.get()), (0x82_0000_0000, 0));
    assert_eq!(fp.vsr[31].map(U64::get), [0x101f, 0]);
    assert_eq!(fp.vsr[32].map(U64::get), [0, 0]);
    let vmx = of(parts::VMX);
    assert_eq!((vmx.fpscr.get(), vmx.vscr.get()), (0, 0x1_0000));
    assert_eq!(vmx.vsr[31].map(U64::get), [0, 0]);
    assert_eq!(vmx.vsr[32].map(U64::get), [0x1020, 0x2020]);
    let vsx = of(parts::VSX);
    assert_eq!(vsx.vsr[31].map(U64::get), [0, 0x201f]);
    assert_eq!(vsx.vsr[63].map(U64::get), [0, 0]);
    assert!(vsx.has_only(parts::VSX) && vsx.has_only(parts::ALL));
    assert!(!vsx.has_only(parts::FP | parts::VMX));
}

#[test]
fn a_record_is_begun_with_zeros() {
    let mut bytes = [0xff; 60];
    let (record, rest) = start::<Slot>(&mut bytes).unwrap();
    assert_eq!(*record, Slot::blank());
    assert_eq!(rest, [0xff; 12]);
    assert!(start::<Slot>(&mut bytes[..47]).is_none());
}

#[test]
fn every_reason_has_a_sentence() {
    let numbers: Vec<u8> = Reason::ALL
        .iter()
        .map(|(reason, _)| *reason as u8)
        .collect();
    assert_eq!(numbers, (1..=12).collect::<Vec<u8>>());
    let error = RecordError::new(7, Reason::Kind);
    assert_eq!(
        std::format!("{error}"),
        "another kind of record (at byte 7)"
    );
}

proptest! {
    #![proptest_config(crate::rtas::testing::config())]

    /// Random bytes and small changes of good records are read or refused, and what is read is
    /// what lies there.
    #[test]
    fn any_bytes_are_a_record_or_refused(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        changes in proptest::collection::vec((0..3000_usize, any::<u8>()), 0..4),
    ) {
        fn test<R: Record>(record: R, bytes: &[u8], changes: &[(usize, u8)]) {
            let _ = read::<R>(bytes).map(|(record, _)| assert_eq!(record.as_bytes(), &bytes[..size_of::<R>()]));
            let mut changed = record.as_bytes().to_vec();
            for (at, byte) in changes {
                let at = at % changed.len();
                changed[at] = *byte;
            }
            match read::<R>(&changed) {
                Ok((record, _)) => assert_eq!(record.as_bytes(), changed),
                Err(error) => {
                    assert!((error.offset as usize) < changed.len());
                    assert!(!std::format!("{error}").is_empty());
                }
            }
        }
        test(capabilities(), &bytes, &changes);
        test(dirty_request(), &bytes, &changes);
        test(stream_chunk(), &bytes, &changes);
        test(invalidate(), &bytes, &changes);
        test(vcpu_state(), &bytes, &changes);
        test(vector_state(), &bytes, &changes);
    }
}
