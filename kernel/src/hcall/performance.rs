// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Calls about what a partition gets of the machine's processors: the rest of the function set
//! `hcall-splpar`, and two small ones beside it.
//!
//! A partition that is pinned has its processors for itself: it is capped at what they give. One that
//! is not is entitled to a processor of the machine for each of its own, as far as the machine has
//! them, and has a weight where others want the same one. Capacity is in hundredths of a processor.

use super::memory::arguments;
use crate::exit::LightExit;
use crate::partition::Dispatching;
use crate::platform::Platform;
use crate::vcpu::Vcpu;
use penstock_mm::status::HcallStatus;

/// A processor's capacity.
const WHOLE: u64 = 100;

/// The weight that LoPAR gives a partition by default, of 255.
const ORDINARY_WEIGHT: u32 = 128;

/// What a partition is entitled to, and its weight as LoPAR counts it; a partition that is capped has
/// none.
fn entitlement<P: Platform>(vcpu: &Vcpu<P>) -> (u64, Option<u64>) {
    let partition = vcpu.partition;
    match partition.dispatching {
        Dispatching::Dedicated => (u64::from(partition.vcpus) * WHOLE, None),
        Dispatching::Shared { weight } => {
            let processors = partition.vcpus.min(partition.machine_cpus);
            let weight = (weight.saturating_mul(ORDINARY_WEIGHT) / crate::config::DEFAULT_WEIGHT)
                .clamp(1, 255);
            (u64::from(processors) * WHOLE, Some(weight.into()))
        }
    }
}

/// LoPAR, H_GET_PPP, without R8, which `ibm,partition-performance-parameters-level` would announce.
pub(super) extern "C" fn h_get_ppp<P: Platform>(vcpu: &mut Vcpu<P>) -> LightExit {
    let (entitled, weight) = entitlement(vcpu);
    let machine = u64::from(vcpu.partition.machine_cpus) & 0xffff;
    let capped = u64::from(weight.is_none());
    vcpu.ctx.gpr[4] = entitled;
    // Nothing is left over; there is one group, and one pool.
    vcpu.ctx.gpr[5] = 0;
    vcpu.ctx.gpr[6] = 0;
    vcpu.ctx.gpr[7] = capped << 48 | weight.unwrap_or(0) << 40 | machine << 16 | machine;
    vcpu.answer(HcallStatus::SUCCESS)
}

/// LoPAR, H_SET_PPP. What a partition gets is for its tree to say: it is told what it has.
pub(super) extern "C" fn h_set_ppp<P: Platform>(vcpu: &mut Vcpu<P>) -> LightExit {
    let wanted: [u64; 2] = arguments(vcpu);
    let (entitled, weight) = entitlement(vcpu);
    let has = [entitled, weight.unwrap_or(0)];
    if wanted == has {
        return vcpu.answer(HcallStatus::SUCCESS);
    }
    [vcpu.ctx.gpr[4], vcpu.ctx.gpr[5]] = has;
    vcpu.answer(HcallStatus::CONSTRAINED)
}

/// LoPAR, H_PURR: the processor time that the calling processor has had.
pub(super) extern "C" fn h_purr<P: Platform>(vcpu: &mut Vcpu<P>) -> LightExit {
    vcpu.ctx.gpr[4] = P::purr();
    vcpu.answer(HcallStatus::SUCCESS)
}

/// LoPAR, H_POLL_PENDING: whether H_CEDE would return at once.
pub(super) extern "C" fn h_poll_pending<P: Platform>(vcpu: &mut Vcpu<P>) -> LightExit {
    let pending = vcpu.processor.is_prodded()
        || P::decrementer() <= 0
        || vcpu.presenter.pending(&P::interrupts());
    vcpu.answer(if pending {
        HcallStatus::PENDING
    } else {
        HcallStatus::SUCCESS
    })
}

/// LoPAR, H_PIC: how long the processors of the pool have been idle, all together. That tells of other
/// partitions, so only one that may control them is told.
pub(super) extern "C" fn h_pic<P: Platform>(vcpu: &mut Vcpu<P>) -> LightExit {
    if vcpu.partition.control.is_none() {
        return vcpu.answer(HcallStatus::AUTHORITY);
    }
    vcpu.ctx.gpr[4] = P::idle_ticks();
    vcpu.ctx.gpr[5] = vcpu.partition.machine_cpus.into();
    vcpu.answer(HcallStatus::SUCCESS)
}
