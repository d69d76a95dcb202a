// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Page table calls: registers in and out of `mm`.

use crate::exit::LightExit;
use crate::platform::Platform;
use crate::vcpu::Vcpu;
use penstock_mm::hpt::flags::READ_4;
use penstock_mm::status::HcallStatus;

/// Status in r3, one result in r4.
#[inline(always)]
fn one<P: Platform>(vcpu: &mut Vcpu<P>, result: Result<u64, HcallStatus>) -> LightExit {
    let status = match result {
        Ok(value) => {
            vcpu.ctx.gpr[4] = value;
            HcallStatus::SUCCESS
        }
        Err(status) => status,
    };
    vcpu.answer(status)
}

#[inline(always)]
fn none<P: Platform>(vcpu: &mut Vcpu<P>, result: Result<(), HcallStatus>) -> LightExit {
    let status = match result {
        Ok(()) => HcallStatus::SUCCESS,
        Err(status) => status,
    };
    vcpu.answer(status)
}

/// Ends a call that may lack a frame.
#[cold]
#[inline(never)]
fn refuse_or_wait<P: Platform>(vcpu: &mut Vcpu<P>, status: HcallStatus) -> LightExit {
    if status == HcallStatus::NO_FRAME {
        vcpu.repeat_hcall()
    } else {
        vcpu.answer(status)
    }
}

pub(super) extern "C" fn h_enter<P: Platform>(vcpu: &mut Vcpu<P>) -> LightExit {
    let [flags, ptex, pteh, ptel] = arguments(vcpu);
    match vcpu.partition.mmu.h_enter(flags, ptex, pteh, ptel) {
        Ok(ptex) => {
            vcpu.ctx.gpr[4] = ptex;
            vcpu.answer(HcallStatus::SUCCESS)
        }
        Err(status) => refuse_or_wait(vcpu, status),
    }
}

pub(super) extern "C" fn h_remove<P: Platform>(vcpu: &mut Vcpu<P>) -> LightExit {
    let [flags, ptex, avpn] = arguments(vcpu);
    match vcpu.partition.mmu.h_remove(flags, ptex, avpn) {
        Ok((v, r)) => {
            vcpu.ctx.gpr[4] = v;
            vcpu.ctx.gpr[5] = r;
            vcpu.answer(HcallStatus::SUCCESS)
        }
        Err(status) => vcpu.answer(status),
    }
}

pub(super) extern "C" fn h_read<P: Platform>(vcpu: &mut Vcpu<P>) -> LightExit {
    let [flags, ptex] = arguments(vcpu);
    if flags & READ_4 != 0 {
        return match vcpu.partition.mmu.h_read_4(ptex) {
            Ok(entries) => {
                vcpu.ctx.gpr[4..12].copy_from_slice(&entries);
                vcpu.answer(HcallStatus::SUCCESS)
            }
            Err(status) => vcpu.answer(status),
        };
    }
    match vcpu.partition.mmu.h_read(flags, ptex) {
        Ok([v, r]) => {
            vcpu.ctx.gpr[4] = v;
            vcpu.ctx.gpr[5] = r;
            vcpu.answer(HcallStatus::SUCCESS)
        }
        Err(status) => vcpu.answer(status),
    }
}

pub(super) extern "C" fn h_protect<P: Platform>(vcpu: &mut Vcpu<P>) -> LightExit {
    let [flags, ptex, avpn] = arguments(vcpu);
    let result = vcpu.partition.mmu.h_protect(flags, ptex, avpn);
    none(vcpu, result)
}

pub(super) extern "C" fn h_clear_ref<P: Platform>(vcpu: &mut Vcpu<P>) -> LightExit {
    let [flags, ptex] = arguments(vcpu);
    let result = vcpu.partition.mmu.h_clear_ref(flags, ptex);
    one(vcpu, result)
}

pub(super) extern "C" fn h_clear_mod<P: Platform>(vcpu: &mut Vcpu<P>) -> LightExit {
    let [flags, ptex] = arguments(vcpu);
    let result = vcpu.partition.mmu.h_clear_mod(flags, ptex);
    one(vcpu, result)
}

pub(super) extern "C" fn h_bulk_remove<P: Platform>(vcpu: &mut Vcpu<P>) -> LightExit {
    let mmu = &vcpu.partition.mmu;
    // The responses take the specifiers' places.
    let status = match vcpu.ctx.gpr[4..].first_chunk_mut() {
        Some(specifiers) => mmu.h_bulk_remove(specifiers),
        None => HcallStatus::PARAMETER,
    };
    vcpu.answer(status)
}

/// Responses begin in r4, as the results of every call do: each is one register below its
/// specifier. LoPAR does not say it; Linux reads them there.
pub(super) extern "C" fn h_block_remove<P: Platform>(vcpu: &mut Vcpu<P>) -> LightExit {
    let [ava, mut specifiers @ ..]: [u64; 9] = arguments(vcpu);
    let status = vcpu.partition.mmu.h_block_remove(ava, &mut specifiers);
    vcpu.ctx.gpr[4..12].copy_from_slice(&specifiers);
    vcpu.answer(status)
}

pub(super) extern "C" fn h_page_init<P: Platform>(vcpu: &mut Vcpu<P>) -> LightExit {
    let [flags, destination, source] = arguments(vcpu);
    match vcpu.partition.mmu.h_page_init(flags, destination, source) {
        Ok(()) => vcpu.answer(HcallStatus::SUCCESS),
        Err(status) => refuse_or_wait(vcpu, status),
    }
}

/// r4 and up.
#[inline(always)]
pub(super) fn arguments<P: Platform, const N: usize>(vcpu: &Vcpu<P>) -> [u64; N] {
    const { assert!(N <= 9, "arguments end with r12") };
    core::array::from_fn(|i| vcpu.ctx.gpr[4 + i])
}
