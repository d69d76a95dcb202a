// SPDX-License-Identifier: Apache-2.0 OR MIT
//! H_CONTROL through the dispatcher: who gets as far as the interface.

use super::super::H_CONTROL;
use super::super::control::{answer_control, control_call};
use super::*;
use crate::config::Authority;
use crate::control::{Call, ControlError};
use crate::exit::LightExit;
use crate::testing::RigOptions;

const H_AUTHORITY: i64 = -10;

fn rig(authority: Authority) -> Rig {
    Rig::with(RigOptions {
        authority,
        ..RigOptions::default()
    })
}

#[test]
fn without_the_mark_nothing_is_answered() {
    let mut rig = rig(Authority::None);
    for function in 0..20 {
        rig.call(H_CONTROL, &[function, 1, 0, 0, 0], H_AUTHORITY, []);
    }
}

#[test]
fn with_the_mark_it_leaves_the_guest_and_comes_back_with_the_answer() {
    let mut rig = rig(Authority::Control);
    rig.vcpu.ctx.gpr[3] = H_CONTROL;
    for (register, value) in rig.vcpu.ctx.gpr.iter_mut().skip(4).zip(11..) {
        *register = value;
    }
    assert_eq!(dispatch(&mut rig.vcpu), LightExit::CONTROL);
    let call = control_call(&rig.vcpu);
    assert_eq!(
        call,
        Call {
            function: 11,
            partition: 12,
            address: 13,
            length: 14,
            arguments: [15, 16, 17],
        }
    );
    answer_control(&mut rig.vcpu, &ControlError::Partition.into());
    assert_eq!(rig.vcpu.ctx.gpr[3].cast_signed(), -55);
    assert_eq!(rig.vcpu.ctx.gpr[4], 11);
}
