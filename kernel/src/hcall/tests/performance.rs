// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Calls about what a partition gets of the machine's processors.

use super::*;
use crate::config::Authority;
use crate::partition::Dispatching;
use crate::testing::RigOptions;

const REGISTER_VPA: u64 = 0xdc;
const PROD: u64 = 0xe8;
const GET_PPP: u64 = 0xec;
const SET_PPP: u64 = 0xf0;
const PURR: u64 = 0xf4;
const PIC: u64 = 0xf8;
const POLL_PENDING: u64 = 0x1d8;
const REGISTER: u64 = 1 << 45;

fn shared(vcpus: u32, weight: u32) -> Rig {
    Rig::with(RigOptions {
        vcpus,
        dispatching: Dispatching::Shared { weight },
        ..RigOptions::default()
    })
}

#[test]
fn a_dedicated_partition_is_capped_at_its_processors() {
    let mut rig = Rig::with(RigOptions {
        vcpus: 2,
        ..RigOptions::default()
    });
    rig.call(GET_PPP, &[], H_SUCCESS, [200, 0, 0, 0x0001_0000_0004_0004]);
    rig.call(SET_PPP, &[200, 0], H_SUCCESS, []);
    rig.call(SET_PPP, &[100, 0], 4, [200, 0]);
}

#[test]
fn a_shared_one_has_a_weight_and_no_more_than_the_machine() {
    let mut rig = shared(8, 100);
    rig.call(GET_PPP, &[], H_SUCCESS, [400, 0, 0, 0x0000_8000_0004_0004]);
    rig.call(SET_PPP, &[400, 128], H_SUCCESS, []);
    rig.call(SET_PPP, &[400, 255], 4, [400, 128]);
    for (weight, told) in [(1, 1), (50, 64), (200, 255), (10_000, 255), (u32::MAX, 255)] {
        let mut rig = shared(1, weight);
        rig.call(GET_PPP, &[], H_SUCCESS, [100, 0, 0, told << 40 | 0x4_0004]);
    }
}

#[test]
fn the_area_of_a_shared_processor_says_so() {
    for (mut rig, expected) in [(shared(1, 100), 0x0002_0000), (Rig::new(), 0)] {
        rig.put_words(0x1_0004, &[0x0280_0000, u32::MAX]);
        rig.call(REGISTER_VPA, &[REGISTER, 0, 0x1_0000], H_SUCCESS, []);
        assert_eq!(rig.word(0x1_0008), expected);
    }
}

#[test]
fn purr_is_the_register() {
    let mut rig = Rig::new();
    rig.call(PURR, &[], H_SUCCESS, [0x1234]);
}

#[test]
fn only_a_partition_that_controls_others_learns_how_idle_they_are() {
    let mut rig = Rig::new();
    rig.call(PIC, &[], -10, []);
    let mut tool = Rig::with(RigOptions {
        authority: Authority::Control,
        ..RigOptions::default()
    });
    tool.call(PIC, &[], H_SUCCESS, [0x5678, 4]);
}

#[test]
fn a_prod_or_an_interrupt_is_pending() {
    let mut rig = Rig::new();
    rig.call(POLL_PENDING, &[], H_SUCCESS, []);
    rig.call(PROD, &[0], H_SUCCESS, []);
    rig.call(POLL_PENDING, &[], 17, []);
    assert!(rig.vcpu.processor.take_prod());
    rig.call(0x68, &[0xff], H_SUCCESS, []);
    rig.call(0x6c, &[0, 4], H_SUCCESS, []);
    rig.call(POLL_PENDING, &[], 17, []);
}
