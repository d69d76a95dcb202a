// SPDX-License-Identifier: Apache-2.0 OR MIT
//! H_RTAS: the block in guest memory, the status in r3, and what ends the partition. The functions
//! themselves are tested in `crate::rtas`.

use super::*;
use crate::console::ConsoleSink;
use crate::testing::{GUEST_BYTES, RigOptions, TIMEBASE_HZ, set_timebase};
use alloc::vec::Vec;

const DISPLAY_CHARACTER: u32 = 0x2000;
const GET_TIME_OF_DAY: u32 = 0x2001;
const POWER_OFF: u32 = 0x2003;
const SYSTEM_REBOOT: u32 = 0x2004;
const QUERY_CPU_STOPPED_STATE: u32 = 0x2005;
const START_CPU: u32 = 0x2006;
const STOP_SELF: u32 = 0x2007;
const SET_XIVE: u32 = 0x200a;
const GET_XIVE: u32 = 0x200b;
const INT_OFF: u32 = 0x200c;
const INT_ON: u32 = 0x200d;

const BLOCK: u64 = 0x8000;
const UNTOUCHED: u32 = 0x5a5a_5a5a;

fn count(cells: usize) -> u32 {
    u32::try_from(cells).unwrap()
}

/// Makes the call by a block of `inputs` and `N` outputs, which come back.
#[track_caller]
fn rtas<const N: usize>(rig: &mut Rig, token: u32, inputs: &[u32]) -> [i32; N] {
    let mut words = Vec::from([token, count(inputs.len()), count(N)]);
    words.extend_from_slice(inputs);
    words.extend_from_slice(&[UNTOUCHED; 9]);
    rig.put_words(BLOCK, &words);
    rig.call(H_RTAS, &[BLOCK], H_SUCCESS, []);
    let first = BLOCK + 4 * (3 + inputs.len() as u64);
    assert_eq!(rig.word(first + 4 * N as u64), UNTOUCHED);
    core::array::from_fn(|i| rig.word(first + 4 * i as u64).cast_signed())
}

#[derive(Default)]
struct Sink(Vec<u8>);

impl ConsoleSink for Sink {
    fn write(&mut self, bytes: &[u8]) -> usize {
        self.0.extend_from_slice(bytes);
        bytes.len()
    }
}

#[test]
fn results_are_in_the_block() {
    let mut rig = Rig::new();
    assert_eq!(rtas(&mut rig, DISPLAY_CHARACTER, &[0x41]), [0]);
    let mut sink = Sink::default();
    rig.vcpu.partition.output.drain(&mut sink);
    assert_eq!(sink.0, b"A");
    // One virtual processor, which runs.
    assert_eq!(rtas(&mut rig, QUERY_CPU_STOPPED_STATE, &[0]), [0, 2]);
    let [status, _] = rtas(&mut rig, QUERY_CPU_STOPPED_STATE, &[1]);
    assert_eq!(status, -3);
    assert_eq!(rtas(&mut rig, START_CPU, &[0, 0x100, 0]), [-1]);
    assert_eq!(rtas(&mut rig, START_CPU, &[1, 0x100, 0]), [-3]);
}

#[test]
fn a_full_ring_makes_display_character_busy() {
    let mut rig = Rig::new();
    let mut written = 0;
    while rtas(&mut rig, DISPLAY_CHARACTER, &[0x2e]) == [0] {
        written += 1;
        assert!(written <= 0x4000);
    }
    assert!(written >= 0x3fe0, "{written}");
    assert_eq!(rtas(&mut rig, DISPLAY_CHARACTER, &[0x2e]), [-2]);
}

#[test]
fn the_time_goes_on_with_the_time_base() {
    let mut rig = Rig::new();
    assert_eq!(
        rtas(&mut rig, GET_TIME_OF_DAY, &[]),
        [0, 2026, 3, 1, 0, 0, 0, 0]
    );
    set_timebase(3661 * TIMEBASE_HZ + TIMEBASE_HZ / 2);
    let later = [0, 2026, 3, 1, 1, 1, 1, 500_000_000];
    assert_eq!(rtas(&mut rig, GET_TIME_OF_DAY, &[]), later);
    let mut rig = Rig::with(RigOptions {
        clock: None,
        ..RigOptions::default()
    });
    let [status, ..] = rtas::<8>(&mut rig, GET_TIME_OF_DAY, &[]);
    assert_eq!(status, -1);
}

#[test]
fn interrupt_sources_are_masked_and_unmasked() {
    let mut rig = Rig::new();
    assert_eq!(rtas(&mut rig, GET_XIVE, &[0x1000]), [0, 0, 0xff]);
    assert_eq!(rtas(&mut rig, SET_XIVE, &[0x1000, 0, 5]), [0]);
    assert_eq!(rtas(&mut rig, GET_XIVE, &[0x1000]), [0, 0, 5]);
    assert_eq!(rtas(&mut rig, INT_OFF, &[0x1000]), [0]);
    assert_eq!(rtas(&mut rig, GET_XIVE, &[0x1000]), [0, 0, 0xff]);
    assert_eq!(rtas(&mut rig, INT_ON, &[0x1000]), [0]);
    assert_eq!(rtas(&mut rig, GET_XIVE, &[0x1000]), [0, 0, 5]);
    assert_eq!(rtas(&mut rig, SET_XIVE, &[0x1000, 1, 5]), [-3]);
    assert_eq!(rtas(&mut rig, SET_XIVE, &[0x1000, 0, 0x100]), [-3]);
    for lisn in [0, 2, 0xfff, 0x1002, u32::MAX] {
        assert_eq!(rtas(&mut rig, SET_XIVE, &[lisn, 0, 5]), [-3]);
        assert_eq!(rtas(&mut rig, INT_OFF, &[lisn]), [-3]);
        assert_eq!(rtas(&mut rig, INT_ON, &[lisn]), [-3]);
        let [status, ..] = rtas::<3>(&mut rig, GET_XIVE, &[lisn]);
        assert_eq!(status, -3);
    }
}

#[test]
fn calls_that_end_the_partition_leave_the_guest() {
    let mut rig = Rig::new();
    for (block, exit) in [
        (
            &[POWER_OFF, 2, 1, u32::MAX, u32::MAX, 0][..],
            LightExit::POWER_OFF,
        ),
        (&[SYSTEM_REBOOT, 0, 1, 0], LightExit::REBOOT),
        (&[STOP_SELF, 0, 1, 0], LightExit::STOP_SELF),
    ] {
        rig.put_words(BLOCK, block);
        rig.vcpu.ctx.gpr = core::array::from_fn(filler);
        (rig.vcpu.ctx.gpr[3], rig.vcpu.ctx.gpr[4]) = (H_RTAS, BLOCK);
        assert_eq!(dispatch(&mut rig.vcpu), exit);
    }
}

#[test]
fn a_token_or_shape_that_does_not_exist_has_a_status_and_no_effect() {
    let mut rig = Rig::new();
    assert_eq!(rtas(&mut rig, 0x1fff, &[]), [-3]);
    assert_eq!(rtas(&mut rig, u32::MAX, &[]), [-3]);
    assert_eq!(rtas(&mut rig, POWER_OFF, &[0]), [-3]);
    assert_eq!(rtas(&mut rig, SYSTEM_REBOOT, &[0]), [-3]);
}

#[test]
fn a_block_that_is_not_one_is_refused() {
    let mut rig = Rig::new();
    // Counts far beyond any function's: inputs, outputs, both together.
    for [nargs, nret] in [
        [17, 1],
        [u32::MAX, 1],
        [0, 17],
        [0, u32::MAX],
        [16, 1],
        [1, 0],
    ] {
        rig.put_words(BLOCK, &[POWER_OFF, nargs, nret]);
        rig.call(H_RTAS, &[BLOCK], H_PARAMETER, []);
    }
    rig.put_words(BLOCK, &[SYSTEM_REBOOT, 0, 1]);
    rig.call(H_RTAS, &[BLOCK + 2], H_PARAMETER, []);
    // The last block that ends inside memory, one that ends outside, and blocks outside.
    rig.put_words(GUEST_BYTES - 16, &[DISPLAY_CHARACTER, 0, 1, UNTOUCHED]);
    rig.call(H_RTAS, &[GUEST_BYTES - 16], H_SUCCESS, []);
    assert_eq!(rig.word(GUEST_BYTES - 4).cast_signed(), -3);
    rig.put_words(GUEST_BYTES - 12, &[SYSTEM_REBOOT, 0, 1]);
    for at in [
        GUEST_BYTES - 12,
        GUEST_BYTES - 4,
        GUEST_BYTES,
        1 << 60,
        u64::MAX - 3,
    ] {
        rig.call(H_RTAS, &[at], H_PARAMETER, []);
    }
}
