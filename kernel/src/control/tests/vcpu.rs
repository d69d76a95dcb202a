// SPDX-License-Identifier: Apache-2.0 OR MIT
//! VCPU_GET, VCPU_SET.

use super::*;
use crate::control::error::Reason;
use crate::control::function::Feature;
use crate::control::records::{VcpuState, VectorState, parts};
use crate::control::target::{Features, TargetError};
use core::mem::offset_of;
use zerocopy::byteorder::big_endian::{U32, U64};

const STATE: usize = size_of::<VcpuState>();
const BOTH: usize = STATE + size_of::<VectorState>();

impl Tools {
    #[track_caller]
    fn get(&mut self, vcpu: u64) -> VcpuState {
        let output = self
            .out(Function::VcpuGet, &[vcpu], STATE)
            .is(&[STATE as u64]);
        record::<VcpuState>(&output).0
    }
}

#[test]
fn what_is_read_can_be_written() {
    let mut tools = Tools::new();
    tools.suspend();
    for vcpu in [0, 1] {
        let mut state = tools.get(vcpu);
        assert_eq!(u64::from(state.vcpu.get()), vcpu);
        state.gpr[3] = U64::new(0x1234);
        state.pc = U64::new(0xc000_0000_0000_0000);
        state.sprs[3].value = U64::new(0x77);
        tools.put(Function::VcpuSet, &[vcpu], &state, &[]).is(&[]);
        assert_eq!(tools.get(vcpu), state);
    }
}

#[test]
fn registers_that_are_not_listed_stay() {
    let mut tools = Tools::new();
    tools.suspend();
    let mut state = tools.get(0);
    state.sprs[0].value = U64::new(5);
    tools.put(Function::VcpuSet, &[0], &state, &[]).is(&[]);
    let mut fewer = state;
    fewer.sprs = [crate::control::records::VcpuState::blank().sprs[0]; 96];
    fewer.spr_count = U32::new(0);
    assert!(fewer.push_spr(272, 9));
    tools.put(Function::VcpuSet, &[0], &fewer, &[]).is(&[]);
    let state = tools.get(0);
    let value = |number| {
        let spr = state
            .used_sprs()
            .iter()
            .find(|spr| spr.number.get() == number);
        spr.unwrap().value.get()
    };
    assert_eq!((value(26), value(272)), (5, 9));
}

#[test]
fn vector_registers_come_by_parts() {
    let mut tools = Tools::new();
    let mut vectors = VectorState::blank();
    vectors.fpscr = U64::new(1);
    vectors.vscr = U64::new(2);
    for register in &mut vectors.vsr {
        *register = [3, 4].map(U64::new);
    }
    tools.state().vcpus[1].1 = vectors;
    tools.suspend();
    for wanted in 0..8 {
        let length = if wanted == 0 { STATE } else { BOTH };
        let output = tools
            .out(Function::VcpuGet, &[1, wanted.into()], BOTH + 100)
            .is(&[length as u64]);
        let (state, rest) = record::<VcpuState>(&output);
        assert_eq!(state.parts.get(), wanted);
        if wanted != 0 {
            let mut expected = vectors;
            expected.keep_only(wanted);
            assert_eq!(record::<VectorState>(rest).0, expected);
        }
    }
    tools
        .out(Function::VcpuGet, &[1, 8], BOTH)
        .refused(HcallStatus::P6);
    // A buffer for the first record only.
    tools
        .out(Function::VcpuGet, &[1, 1], BOTH - 1)
        .refused(HcallStatus::P4);
}

#[test]
fn vector_registers_are_written_by_parts() {
    let mut tools = Tools::new();
    tools.suspend();
    let mut state = tools.get(0);
    let mut vectors = VectorState::blank();
    vectors.fpscr = U64::new(6);
    state.parts = U32::new(parts::FP);
    tools
        .put(Function::VcpuSet, &[0], &state, vectors.as_bytes())
        .is(&[]);
    assert_eq!(tools.state().vcpus[0].1.fpscr.get(), 6);
    // Something of a part that is not given.
    vectors.vsr[40][0] = U64::new(1);
    tools
        .put(Function::VcpuSet, &[0], &state, vectors.as_bytes())
        .bad_record(Reason::Value, STATE + 32);
    // Announced and not there.
    tools
        .put(Function::VcpuSet, &[0], &state, &[])
        .bad_record(Reason::TooShort, STATE);
    tools
        .put(Function::VcpuSet, &[0], &state, state.as_bytes())
        .bad_record(Reason::Kind, STATE + 2);
}

#[test]
fn parts_that_are_not_offered_are_refused() {
    let mut tools = Tools::new();
    tools.state().offer.features = Features::NONE
        .with(Feature::VcpuState)
        .with(Feature::Suspend)
        .with(Feature::Fp);
    tools.suspend();
    tools
        .out(Function::VcpuGet, &[0, 3], BOTH)
        .refused(HcallStatus::P6);
    let output = tools
        .out(Function::VcpuGet, &[0, 1], BOTH)
        .is(&[BOTH as u64]);
    let (mut state, _) = record::<VcpuState>(&output);
    state.parts = U32::new(parts::VSX);
    tools
        .put(
            Function::VcpuSet,
            &[0],
            &state,
            VectorState::blank().as_bytes(),
        )
        .bad_record(Reason::Value, offset_of!(VcpuState, parts));
}

#[test]
fn a_virtual_processor_that_runs_or_is_not_there_is_refused() {
    let mut tools = Tools::new();
    tools
        .out(Function::VcpuGet, &[0], STATE)
        .refused(HcallStatus::STATE);
    tools.suspend();
    let state = tools.get(0);
    for vcpu in [2, 1 << 32, u64::MAX] {
        tools
            .out(Function::VcpuGet, &[vcpu], STATE)
            .refused(HcallStatus::P5);
        tools
            .put(Function::VcpuSet, &[vcpu], &state, &[])
            .refused(HcallStatus::P5);
    }
    // The record is of another one.
    tools
        .put(Function::VcpuSet, &[1], &state, &[])
        .bad_record(Reason::Value, offset_of!(VcpuState, vcpu));
    tools.as_other(|tools| {
        tools
            .out(Function::VcpuGet, &[0], STATE)
            .refused(HcallStatus::IN_USE);
        tools
            .put(Function::VcpuSet, &[0], &state, &[])
            .refused(HcallStatus::IN_USE);
    });
}

#[test]
fn what_the_partition_refuses_is_told_by_its_place() {
    let mut tools = Tools::new();
    tools.suspend();
    let mut state = tools.get(0);
    assert!(state.push_spr(1000, 1));
    tools
        .put(Function::VcpuSet, &[0], &state, &[])
        .bad_record(Reason::Value, VcpuState::spr_offset(4));
    tools.state().fail = Some(TargetError::Unsupported);
    tools
        .out(Function::VcpuGet, &[0], STATE)
        .refused(HcallStatus::UNSUPPORTED);
}
