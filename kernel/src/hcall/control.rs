// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The control interface's call: registers in and out of `control`.

use super::memory::arguments;
use crate::control::partition::OnlyPartition;
use crate::control::{Call, Caller, Holder, serve};
use crate::exit::LightExit;
use crate::platform::Platform;
use crate::rtas_memory::GuestRam;
use crate::vcpu::Vcpu;

pub(super) fn h_control<P: Platform>(vcpu: &mut Vcpu<P>) -> LightExit {
    let [function, partition, address, length, first, second, third] = arguments(vcpu);
    let ours = vcpu.partition;
    let call = Call {
        function,
        partition,
        address,
        length,
        arguments: [first, second, third],
    };
    let caller = Caller {
        holder: Holder::Partition(ours.id),
        number: ours.id.0.into(),
        port: ours.control.as_ref(),
    };
    let mut memory = GuestRam(ours.mmu.memory());
    let reply = serve(&call, &caller, &mut memory, &OnlyPartition(ours));
    if memory.0.was_short() {
        // The buffer is checked before anything is done.
        return vcpu.repeat_hcall();
    }
    for (register, result) in vcpu.ctx.gpr.iter_mut().skip(4).zip(reply.results()) {
        *register = *result;
    }
    vcpu.answer(reply.status)
}
