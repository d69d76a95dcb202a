// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The control interface's call: registers in and out.
//!
//! A call may be about any partition, and may stop one, so it is served with the guest out of its
//! context, where all partitions are known. Whoever has no authority does not get that far.

use super::memory::arguments;
use crate::control::{Call, ControlError, Reply};
use crate::exit::LightExit;
use crate::platform::Platform;
use crate::vcpu::Vcpu;

pub(super) extern "C" fn h_control<P: Platform>(vcpu: &mut Vcpu<P>) -> LightExit {
    if vcpu.partition.control.is_none() {
        return vcpu.answer(ControlError::Authority.status());
    }
    LightExit::CONTROL
}

/// The call that a virtual processor makes, which has left its guest with [`LightExit::CONTROL`].
#[must_use]
pub fn control_call<P: Platform>(vcpu: &Vcpu<P>) -> Call {
    let [function, partition, address, length, first, second, third] = arguments(vcpu);
    Call {
        function,
        partition,
        address,
        length,
        arguments: [first, second, third],
    }
}

/// What it finds in its registers when it goes on.
pub fn answer_control<P: Platform>(vcpu: &mut Vcpu<P>, reply: &Reply) {
    for (register, result) in vcpu.ctx.gpr.iter_mut().skip(4).zip(reply.results()) {
        *register = *result;
    }
    let _ = vcpu.answer(reply.status);
}
