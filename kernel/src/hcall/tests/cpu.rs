// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Calls about the virtual processor itself.

use super::*;
use crate::partition::Watchpoints;
use crate::platform::GuestRegister::{Ciabr, Dawr0, Dawrx0, Sprg0};
use crate::testing::{GUEST_BYTES, RigOptions, set_random};
use crate::vcpu::Prod;
use alloc::vec::Vec;
use penstock_arch::regs::Lpcr;

const SET_SPRG0: u64 = 0x24;
const SET_DABR: u64 = 0x28;
const REGISTER_VPA: u64 = 0xdc;
const CEDE: u64 = 0xe0;
const PROD: u64 = 0xe8;
const GET_CPU_CHARACTERISTICS: u64 = 0x1c8;
const RANDOM: u64 = 0x300;
const SET_MODE: u64 = 0x31c;
const REGISTER_PROC_TBL: u64 = 0x37c;

const CIABR: u64 = 1;
const DAWR0: u64 = 2;
const AIL: u64 = 3;
const ENDIAN: u64 = 4;

/// H_UNSUPPORTED_FLAG for the bit with this number, 0 being the most significant.
const fn unsupported(bit: i64) -> i64 {
    -256 - bit
}

#[test]
fn set_sprg0_writes_the_register() {
    let mut rig = Rig::new();
    rig.call(SET_SPRG0, &[0x0123_4567_89ab_cdef], H_SUCCESS, []);
    assert_eq!(take_writes(), [(Sprg0, 0x0123_4567_89ab_cdef)]);
}

#[test]
fn there_is_no_dabr() {
    let mut rig = Rig::new();
    rig.call(SET_DABR, &[0x1000], H_HARDWARE, []);
    assert!(take_writes().is_empty());
}

#[test]
fn random_is_the_hardwares_or_an_error() {
    let mut rig = Rig::new();
    rig.call(RANDOM, &[], H_HARDWARE, []);
    set_random(Some(0x1111_2222_3333_4444));
    rig.call(RANDOM, &[], H_SUCCESS, [0x1111_2222_3333_4444]);
}

#[test]
fn characteristics_are_the_partitions() {
    let mut rig = Rig::new();
    let answer = [0x3c40_0000_0000_0000, 0xe400_0000_0000_0000];
    rig.call(GET_CPU_CHARACTERISTICS, &[], H_SUCCESS, answer);
}

#[test]
fn endianness_of_interrupts_is_a_bit_of_the_lpcr() {
    let mut rig = Rig::new();
    let big = rig.vcpu.lpcr.bits();
    rig.call(SET_MODE, &[1, ENDIAN, 0, 0], H_SUCCESS, []);
    assert_eq!(rig.vcpu.lpcr.bits(), big | 0x0200_0000);
    rig.call(SET_MODE, &[0, ENDIAN, 0, 0], H_SUCCESS, []);
    assert_eq!(rig.vcpu.lpcr.bits(), big);
    let applied: Vec<u64> = take_lpcr().iter().map(|lpcr| lpcr.bits()).collect();
    // Nothing is hidden from this guest, so its own faults are its own.
    assert!(!rig.vcpu.partition.mmu.needs_vpm());
    let big = big & !Lpcr::VPM1.bits();
    assert_eq!(applied, [big | 0x0200_0000, big]);
}

#[test]
fn interrupt_location_is_0_or_3() {
    let mut rig = Rig::new();
    let low = rig.vcpu.lpcr.bits();
    rig.call(SET_MODE, &[3, AIL, 0, 0], H_SUCCESS, []);
    assert_eq!(rig.vcpu.lpcr.bits(), low | 0x0180_0000);
    // 1 is reserved, and 2 does not exist on every processor: bit 62 is what both have wrong.
    rig.call(SET_MODE, &[1, AIL, 0, 0], unsupported(62), []);
    rig.call(SET_MODE, &[2, AIL, 0, 0], unsupported(62), []);
    rig.call(SET_MODE, &[4, AIL, 0, 0], unsupported(61), []);
    rig.call(SET_MODE, &[7, AIL, 0, 0], unsupported(61), []);
    rig.call(SET_MODE, &[1 << 63, AIL, 0, 0], unsupported(0), []);
    assert_eq!(rig.vcpu.lpcr.bits(), low | 0x0180_0000);
    rig.call(SET_MODE, &[1, ENDIAN, 0, 0], H_SUCCESS, []);
    rig.call(SET_MODE, &[0, AIL, 0, 0], H_SUCCESS, []);
    assert_eq!(rig.vcpu.lpcr.bits(), low | 0x0200_0000);
    assert_eq!(take_lpcr().len(), 3);
}

#[test]
fn set_mode_refuses_what_a_resource_does_not_take() {
    let mut rig = Rig::new();
    for resource in [0, 5, 6, 1 << 32 | ENDIAN, u64::MAX] {
        rig.call(SET_MODE, &[0, resource, 0, 0], H_P2, []);
    }
    for resource in [AIL, ENDIAN] {
        rig.call(SET_MODE, &[0, resource, 1, 0], H_P3, []);
        rig.call(SET_MODE, &[0, resource, 0, 1], H_P4, []);
        rig.call(SET_MODE, &[9, resource, 1, 1], H_P3, []);
    }
    rig.call(SET_MODE, &[2, ENDIAN, 0, 0], unsupported(62), []);
    rig.call(SET_MODE, &[u64::MAX, ENDIAN, 0, 0], unsupported(0), []);
    assert!(take_lpcr().is_empty() && take_writes().is_empty());
}

#[test]
fn instruction_breakpoint_never_matches_in_the_hypervisor() {
    let mut rig = Rig::new();
    rig.call(
        SET_MODE,
        &[0, CIABR, 0xc000_0000_0000_1002, 0],
        H_SUCCESS,
        [],
    );
    rig.call(SET_MODE, &[0, CIABR, 0, 0], H_SUCCESS, []);
    rig.call(SET_MODE, &[0, CIABR, 0x1003, 0], H_P3, []);
    rig.call(SET_MODE, &[0, CIABR, 0x1002, 1], H_P4, []);
    // LoPAR looks at value2 before mflags.
    rig.call(SET_MODE, &[1, CIABR, 0x1002, 1], H_P4, []);
    rig.call(SET_MODE, &[1, CIABR, 0x1003, 0], unsupported(63), []);
    assert_eq!(take_writes(), [(Ciabr, 0xc000_0000_0000_1002), (Ciabr, 0)]);
}

#[test]
fn data_watchpoint_never_matches_in_the_hypervisor() {
    let mut rig = Rig::new();
    rig.call(
        SET_MODE,
        &[0, DAWR0, 0xc000_0000_0010_0000, 0x1b],
        H_SUCCESS,
        [],
    );
    assert_eq!(
        take_writes(),
        [(Dawr0, 0xc000_0000_0010_0000), (Dawrx0, 0x1b)]
    );
    rig.call(SET_MODE, &[0, DAWR0, 0x1000, 0x1f], H_P4, []);
    rig.call(SET_MODE, &[0, DAWR0, 0x1000, 1 << 32], H_P4, []);
    rig.call(SET_MODE, &[8, DAWR0, 0x1000, 0x1f], unsupported(60), []);
    assert!(take_writes().is_empty());
}

#[test]
fn data_watchpoint_does_not_exist_where_a_match_stops_the_machine() {
    let mut rig = Rig::with(RigOptions {
        watchpoints: Watchpoints::Refused,
        ..RigOptions::default()
    });
    for arguments in [[0, DAWR0, 0x1000, 0x1b], [0, DAWR0, 0, 0], [1, DAWR0, 0, 4]] {
        rig.call(SET_MODE, &arguments, H_P2, []);
    }
    assert!(take_writes().is_empty());
}

#[test]
fn a_hash_guest_may_say_that_it_has_no_process_table() {
    let mut rig = Rig::new();
    rig.call(REGISTER_PROC_TBL, &[0, 0, 0, 0], H_SUCCESS, []);
    rig.call(REGISTER_PROC_TBL, &[0, 0, 0, 1], H_P4, []);
    rig.call(REGISTER_PROC_TBL, &[0, 0, 1, 1], H_P3, []);
    rig.call(REGISTER_PROC_TBL, &[0, 1, 1, 1], H_P2, []);
    // Radix; segment tables; a new table for either; translation shoot down by the guest.
    for flags in [0x04, 0x02, 0x1c, 0x1a, 0x01, 1 << 63] {
        rig.call(REGISTER_PROC_TBL, &[flags, 0, 0, 0], H_PARAMETER, []);
    }
    assert!(take_lpcr().is_empty());
}

#[test]
fn areas_are_registered_for_the_caller_only() {
    const VPA: u64 = 1 << 45;
    const DTL: u64 = 2 << 45;
    const SLB_SHADOW: u64 = 3 << 45;
    const NO_VPA: u64 = 5 << 45;
    const NO_DTL: u64 = 6 << 45;
    const NO_SLB_SHADOW: u64 = 7 << 45;
    let mut rig = Rig::new();
    // Sizes at offset 4: 640 bytes in the VPA's upper half, 4096 and 128 as words.
    rig.put_words(0x1_0004, &[0x0280_0000]);
    rig.put_words(0x1_1004, &[0x1000]);
    rig.put_words(0x1_2004, &[0x80]);
    rig.call(REGISTER_VPA, &[VPA, 1, 0x1_0000], H_PARAMETER, []);
    rig.call(REGISTER_VPA, &[VPA, u64::MAX, 0x1_0000], H_PARAMETER, []);
    rig.call(REGISTER_VPA, &[SLB_SHADOW, 0, 0x1_2000], H_RESOURCE, []);
    rig.call(REGISTER_VPA, &[DTL, 0, 0x1_1000], H_RESOURCE, []);
    rig.call(REGISTER_VPA, &[VPA, 0, 0x1_0040], H_PARAMETER, []);
    rig.call(REGISTER_VPA, &[VPA, 0, GUEST_BYTES], H_PARAMETER, []);
    rig.call(REGISTER_VPA, &[VPA, 0, !0x7f], H_PARAMETER, []);
    rig.call(REGISTER_VPA, &[VPA | 1, 0, 0x1_0000], H_PARAMETER, []);
    rig.call(REGISTER_VPA, &[0, 0, 0x1_0000], H_PARAMETER, []);
    assert_eq!(rig.vcpu.areas.vpa(), None);
    rig.call(REGISTER_VPA, &[VPA, 0, 0x1_0000], H_SUCCESS, []);
    rig.call(REGISTER_VPA, &[SLB_SHADOW, 0, 0x1_2000], H_SUCCESS, []);
    rig.call(REGISTER_VPA, &[DTL, 0, 0x1_1000], H_SUCCESS, []);
    let areas = &rig.vcpu.areas;
    let places = [areas.vpa(), areas.slb_shadow(), areas.dtl()]
        .map(|area| area.map(|area| (area.at.get(), area.bytes)));
    let expected = [(0x1_0000, 0x280), (0x1_2000, 0x80), (0x1_1000, 0x1000)];
    assert_eq!(places, expected.map(Some));
    // The caller runs: its dispatch count is even, and its processor is not shared.
    assert_eq!(rig.word(0x1_0100) & 1, 0);
    assert_eq!(rig.word(0x1_0008) & 0x0002_0000, 0);
    rig.call(REGISTER_VPA, &[NO_VPA, 0, 0], H_RESOURCE, []);
    rig.call(REGISTER_VPA, &[NO_SLB_SHADOW, 0, 0], H_SUCCESS, []);
    rig.call(REGISTER_VPA, &[NO_DTL, 0, 0], H_SUCCESS, []);
    rig.call(REGISTER_VPA, &[NO_VPA, 0, 0], H_SUCCESS, []);
    assert_eq!(rig.vcpu.areas.vpa(), None);
}

#[test]
fn cede_enables_interrupts_and_leaves_the_guest() {
    let mut rig = Rig::new();
    assert_eq!(rig.call_exit(CEDE, &[], H_SUCCESS, []), LightExit::CEDE);
    assert_eq!(rig.vcpu.ctx.msr, 0x8000_0000_0000_9003);
}

#[test]
fn a_prod_makes_the_next_cede_return_at_once() {
    let mut rig = Rig::new();
    rig.call(PROD, &[0], H_SUCCESS, []);
    rig.call(PROD, &[0], H_SUCCESS, []);
    rig.call(CEDE, &[], H_SUCCESS, []);
    // Prods do not add up.
    assert_eq!(rig.call_exit(CEDE, &[], H_SUCCESS, []), LightExit::CEDE);
    rig.call(PROD, &[1], H_PARAMETER, []);
    rig.call(PROD, &[1 << 32], H_PARAMETER, []);
    assert_eq!(rig.vcpu.prod, Prod::None);
}
