// SPDX-License-Identifier: Apache-2.0 OR MIT
//! XICS calls: registers in and out of `xive`.
//!
//! The virtual processor that calls is the one whose context is pushed on this thread, which is
//! what the presenter asks for.

use super::memory::arguments;
use crate::exit::LightExit;
use crate::platform::Platform;
use crate::vcpu::Vcpu;
use penstock_mm::status::HcallStatus;
use penstock_xive::{HcallError, Servers};

/// The calling virtual processor's presentation. The calls have no place in the table of a partition
/// in exploitation mode, so there always is one.
macro_rules! presenter {
    ($vcpu:ident) => {
        match $vcpu.presenter.xics() {
            Some(presenter) => presenter,
            None => return $vcpu.answer(HcallStatus::FUNCTION),
        }
    };
}

fn status(result: Result<(), HcallError>) -> HcallStatus {
    match result {
        Ok(()) => HcallStatus::SUCCESS,
        Err(error) => HcallStatus::new(error.code()),
    }
}

pub(super) extern "C" fn h_cppr<P: Platform>(vcpu: &mut Vcpu<P>) -> LightExit {
    let [cppr] = arguments(vcpu);
    presenter!(vcpu).h_cppr(&P::interrupts(), cppr);
    vcpu.answer(HcallStatus::SUCCESS)
}

pub(super) extern "C" fn h_xirr<P: Platform>(vcpu: &mut Vcpu<P>) -> LightExit {
    let xirr = presenter!(vcpu).h_xirr(&P::interrupts(), vcpu.partition.sources());
    vcpu.ctx.gpr[4] = u64::from(xirr.get());
    vcpu.answer(HcallStatus::SUCCESS)
}

pub(super) extern "C" fn h_xirr_x<P: Platform>(vcpu: &mut Vcpu<P>) -> LightExit {
    let now = P::timebase();
    let stamped = presenter!(vcpu).h_xirr_x(&P::interrupts(), vcpu.partition.sources(), now);
    vcpu.ctx.gpr[4] = u64::from(stamped.xirr.get());
    vcpu.ctx.gpr[5] = stamped.timestamp;
    vcpu.answer(HcallStatus::SUCCESS)
}

pub(super) extern "C" fn h_eoi<P: Platform>(vcpu: &mut Vcpu<P>) -> LightExit {
    let [xirr] = arguments(vcpu);
    let result = presenter!(vcpu).h_eoi(&P::interrupts(), vcpu.partition.sources(), xirr);
    vcpu.answer(status(result))
}

pub(super) extern "C" fn h_ipi<P: Platform>(vcpu: &mut Vcpu<P>) -> LightExit {
    let [server, mfrr] = arguments(vcpu);
    let servers = &*vcpu.partition.presenters;
    let result = presenter!(vcpu).h_ipi(&P::interrupts(), servers, server, mfrr);
    // One that waits on its thread is woken by the hardware; one that waits without, by that thread.
    if server != u64::from(vcpu.server)
        && let Some(processor) = vcpu.partition.processors.get(server)
        && let Some(target) = servers.presenter(server)
        && processor.is_waiting()
        && !target.is_pushed()
    {
        super::cpu::ring(vcpu, server);
    }
    vcpu.answer(status(result))
}

pub(super) extern "C" fn h_ipoll<P: Platform>(vcpu: &mut Vcpu<P>) -> LightExit {
    let [server] = arguments(vcpu);
    let servers = &*vcpu.partition.presenters;
    let sources = vcpu.partition.sources();
    match presenter!(vcpu).h_ipoll(&P::interrupts(), servers, sources, server) {
        Ok(poll) => {
            vcpu.ctx.gpr[4] = u64::from(poll.xirr.get());
            vcpu.ctx.gpr[5] = u64::from(poll.mfrr);
            vcpu.answer(HcallStatus::SUCCESS)
        }
        Err(error) => vcpu.answer(HcallStatus::new(error.code())),
    }
}
