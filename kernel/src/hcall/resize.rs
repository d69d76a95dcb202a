// SPDX-License-Identifier: Apache-2.0 OR MIT
//! H_RESIZE_HPT_PREPARE and H_RESIZE_HPT_COMMIT: registers in and out of `mm`.
//!
//! A commit asks that nobody is in the guest, or in a call of it. In a partition of one virtual processor
//! that is whoever makes the call; where there are more, it leaves the guest, and the boot thread commits
//! when all are out. Other threads that look at the table, for the monitor or for a partition that
//! controls this one, hold the lock of its obligations, as the commit does.

use crate::exit::LightExit;
use crate::platform::Platform;
use crate::trace::Kind;
use crate::vcpu::Vcpu;
use penstock_mm::status::HcallStatus;

pub(super) extern "C" fn h_resize_hpt_prepare<P: Platform>(vcpu: &mut Vcpu<P>) -> LightExit {
    let [_, _, _, _, flags, shift, ..] = vcpu.ctx.gpr;
    let status = vcpu.partition.mmu.h_resize_hpt_prepare(flags, shift);
    vcpu.answer(status)
}

pub(super) extern "C" fn h_resize_hpt_commit<P: Platform>(vcpu: &mut Vcpu<P>) -> LightExit {
    if vcpu.partition.vcpus == 1 {
        return commit(vcpu);
    }
    let [_, _, _, _, flags, shift, ..] = vcpu.ctx.gpr;
    // What is refused anyway takes nobody's time.
    match vcpu.partition.mmu.check_resize_commit(flags, shift) {
        Ok(()) => LightExit::RESIZE,
        Err(status) => vcpu.answer(status),
    }
}

/// Serves H_RESIZE_HPT_COMMIT, whose registers are in the context. All virtual processors of the
/// partition are out of the guest, or this is the only one.
pub fn commit<P: Platform>(vcpu: &mut Vcpu<P>) -> LightExit {
    let [_, _, _, _, flags, shift, ..] = vcpu.ctx.gpr;
    let mmu = &vcpu.partition.mmu;
    let publish = |pate| P::set_partition_entry(mmu.lpid(), pate);
    let status = match mmu.h_resize_hpt_commit(flags, shift, publish) {
        Ok(_) => HcallStatus::SUCCESS,
        Err(status) => status,
    };
    let order = u64::from(mmu.order().get());
    let traced = [order, status.as_register()];
    P::trace(vcpu.partition.id.0, Kind::Resize, traced);
    vcpu.answer(status)
}
