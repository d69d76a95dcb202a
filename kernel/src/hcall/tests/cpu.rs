// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Calls about the virtual processor itself.

use super::*;
use crate::partition::Watchpoints;
use crate::platform::GuestRegister::{Ciabr, Dawr0, Dawrx0, Sprg0};
use crate::processor::{Activity, Start};
use crate::testing::take_rings;
use crate::testing::{GUEST_BYTES, RigOptions, set_random};
use alloc::vec::Vec;
use penstock_arch::addr::GuestReal;
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
    assert_eq!(rig.vcpu.processor.areas.lock().vpa(), None);
    rig.call(REGISTER_VPA, &[VPA, 0, 0x1_0000], H_SUCCESS, []);
    rig.call(REGISTER_VPA, &[SLB_SHADOW, 0, 0x1_2000], H_SUCCESS, []);
    rig.call(REGISTER_VPA, &[DTL, 0, 0x1_1000], H_SUCCESS, []);
    let areas = rig.vcpu.processor.areas.lock();
    let places = [areas.vpa(), areas.slb_shadow(), areas.dtl()]
        .map(|area| area.map(|area| (area.at.get(), area.bytes)));
    let expected = [(0x1_0000, 0x280), (0x1_2000, 0x80), (0x1_1000, 0x1000)];
    assert_eq!(places, expected.map(Some));
    drop(areas);
    // The caller runs: its dispatch count is even, and its processor is not shared.
    assert_eq!(rig.word(0x1_0100) & 1, 0);
    assert_eq!(rig.word(0x1_0008) & 0x0002_0000, 0);
    rig.call(REGISTER_VPA, &[NO_VPA, 0, 0], H_RESOURCE, []);
    rig.call(REGISTER_VPA, &[NO_SLB_SHADOW, 0, 0], H_SUCCESS, []);
    rig.call(REGISTER_VPA, &[NO_DTL, 0, 0], H_SUCCESS, []);
    rig.call(REGISTER_VPA, &[NO_VPA, 0, 0], H_SUCCESS, []);
    assert_eq!(rig.vcpu.processor.areas.lock().vpa(), None);
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
    assert!(!rig.vcpu.processor.is_prodded());
    assert!(take_rings().is_empty());
}

const CONFER: u64 = 0xe4;
const JOIN: u64 = 0x298;
const SIGNAL_SYS_RESET: u64 = 0x380;

const START: Start = Start {
    entry: GuestReal::new(0x100),
    r3: 1,
};

/// A partition of three, of which the caller and the second one run.
fn three() -> Rig {
    let rig = Rig::with(RigOptions {
        vcpus: 3,
        ..RigOptions::default()
    });
    let processors = &rig.vcpu.partition.processors;
    let one = processors.get(1).unwrap();
    processors.start(one, START).unwrap();
    assert!(rig.other(1).begin_if_started());
    take_rings();
    rig
}

#[test]
fn only_who_waits_is_rung_for_at_a_prod() {
    let mut rig = three();
    let id = rig.vcpu.partition.id;
    let one = rig.vcpu.partition.processors.get(1).unwrap();
    rig.call(PROD, &[1], H_SUCCESS, []);
    assert!(take_rings().is_empty());
    assert!(!one.wait(|| false), "it was prodded before");
    assert!(one.take_prod());
    assert!(one.wait(|| false));
    rig.call(PROD, &[1], H_SUCCESS, []);
    assert_eq!(take_rings(), [(id, 1)]);
    rig.call(PROD, &[3], H_PARAMETER, []);
}

#[test]
fn cycles_are_conferred_to_who_was_not_dispatched_since() {
    let mut rig = three();
    assert_eq!(
        rig.call_exit(CONFER, &[u64::MAX, 0], H_SUCCESS, []),
        LightExit::CONFER
    );
    assert_eq!(crate::hcall::confer_target(&rig.vcpu), None);
    rig.call(CONFER, &[3, 1], H_PARAMETER, []);
    // It runs, as its even count says.
    rig.call(CONFER, &[1, 0], H_SUCCESS, []);
    let one = rig.vcpu.partition.processors.get(1).unwrap();
    let mut memory = crate::rtas_memory::GuestRam(rig.vcpu.partition.mmu.memory());
    one.areas.lock().preempted(&mut memory).unwrap();
    assert_eq!(
        rig.call_exit(CONFER, &[1, 1], H_SUCCESS, []),
        LightExit::CONFER
    );
    assert_eq!(crate::hcall::confer_target(&rig.vcpu), Some(1));
    rig.call(CONFER, &[1, 3], H_SUCCESS, []);
    // To itself: until it is prodded.
    assert_eq!(
        rig.call_exit(CONFER, &[0, 0], H_SUCCESS, []),
        LightExit::JOIN
    );
    assert_eq!(rig.vcpu.processor.activity(), Activity::Joined);
    rig.vcpu.partition.processors.leave_join(rig.vcpu.processor);
    rig.call(PROD, &[0], H_SUCCESS, []);
    rig.call(CONFER, &[0, 0], H_SUCCESS, []);
}

#[test]
fn the_last_to_join_is_told_to_go_on() {
    let mut rig = three();
    rig.vcpu.ctx.gpr[3] = JOIN;
    rig.vcpu.ctx.msr |= Msr::EE.bits();
    assert_eq!(dispatch(&mut rig.vcpu), LightExit::RESUME);
    assert_eq!(rig.vcpu.ctx.gpr[3].cast_signed(), -5);
    assert_eq!(rig.call_exit(JOIN, &[], H_SUCCESS, []), LightExit::JOIN);
    let processors = &rig.vcpu.partition.processors;
    let one = processors.get(1).unwrap();
    assert_eq!(processors.join(one), crate::processor::Join::Continue);
    processors.leave_join(rig.vcpu.processor);
    assert_eq!(processors.join(one), crate::processor::Join::Waits);
    rig.call(JOIN, &[], 18, []);
}

#[test]
fn a_system_reset_reaches_those_that_are_started() {
    let mut rig = three();
    let id = rig.vcpu.partition.id;
    let [_, one, two] = rig.vcpu.partition.processors.all() else {
        panic!()
    };
    rig.call(SIGNAL_SYS_RESET, &[1], H_SUCCESS, []);
    assert_eq!(take_rings(), [(id, 1)]);
    assert!(one.take_reset());
    // All others.
    rig.call(SIGNAL_SYS_RESET, &[u64::MAX - 1], H_SUCCESS, []);
    assert_eq!(take_rings(), [(id, 1)]);
    assert!(one.take_reset() && !two.is_to_reset() && !rig.vcpu.processor.is_to_reset());
    assert!(take_writes().is_empty());
    // One that is stopped.
    rig.call(SIGNAL_SYS_RESET, &[2], H_SUCCESS, []);
    assert!(!two.is_to_reset() && take_rings().is_empty());
    rig.call(SIGNAL_SYS_RESET, &[3], H_PARAMETER, []);
    rig.call(SIGNAL_SYS_RESET, &[u64::MAX - 2], H_PARAMETER, []);
    // All: the caller finds itself in its handler.
    let pc = rig.vcpu.ctx.pc;
    (rig.vcpu.ctx.gpr[3], rig.vcpu.ctx.gpr[4]) = (SIGNAL_SYS_RESET, u64::MAX);
    assert_eq!(dispatch(&mut rig.vcpu), LightExit::RESUME);
    assert_eq!((rig.vcpu.ctx.gpr[3], rig.vcpu.ctx.pc), (0, 0x100));
    assert!(one.take_reset());
    let writes = take_writes();
    assert_eq!(writes[0], (crate::platform::GuestRegister::Srr0, pc));
}

#[test]
fn modes_are_all_processors() {
    let mut rig = three();
    let id = rig.vcpu.partition.id;
    let mut other = rig.other(1);
    rig.call(SET_MODE, &[1, ENDIAN, 0, 0], H_SUCCESS, []);
    assert_eq!(take_rings(), [(id, 1)]);
    assert!(!other.lpcr.contains(Lpcr::ILE));
    other.take_modes();
    assert!(other.lpcr.contains(Lpcr::ILE));
    // One that begins later has them, too.
    let mut late = rig.other(2);
    late.begin(START);
    assert!(late.lpcr.contains(Lpcr::ILE));
}

#[test]
fn areas_of_another_processor_can_be_registered() {
    let mut rig = three();
    rig.put_words(0x1_0004, &[0x0280_0000]);
    rig.call(REGISTER_VPA, &[1 << 45, 1, 0x1_0000], H_SUCCESS, []);
    let one = rig.vcpu.partition.processors.get(1).unwrap();
    assert!(one.areas.lock().vpa().is_some());
    assert!(rig.vcpu.processor.areas.lock().vpa().is_none());
}

#[test]
fn a_lone_processor_resets_itself_only_where_it_is_meant() {
    let mut rig = Rig::new();
    rig.call(SIGNAL_SYS_RESET, &[u64::MAX - 1], H_SUCCESS, []);
    for target in [0, u64::MAX] {
        rig.vcpu.ctx.pc = 0x1_0004;
        (rig.vcpu.ctx.gpr[3], rig.vcpu.ctx.gpr[4]) = (SIGNAL_SYS_RESET, target);
        assert_eq!(dispatch(&mut rig.vcpu), LightExit::RESUME);
        assert_eq!((rig.vcpu.ctx.gpr[3], rig.vcpu.ctx.pc), (0, 0x100));
    }
    assert!(!rig.vcpu.processor.is_to_reset());
    assert!(take_rings().is_empty());
}

#[test]
fn who_has_yet_to_look_is_not_rung_for_again() {
    let mut rig = three();
    let id = rig.vcpu.partition.id;
    let one = rig.vcpu.partition.processors.get(1).unwrap();
    assert!(one.wait(|| false));
    for _ in 0..3 {
        rig.call(PROD, &[1], H_SUCCESS, []);
        rig.call(SIGNAL_SYS_RESET, &[1], H_SUCCESS, []);
        rig.call(SET_MODE, &[1, ENDIAN, 0, 0], H_SUCCESS, []);
    }
    assert_eq!(take_rings(), [(id, 1); 3]);
}
