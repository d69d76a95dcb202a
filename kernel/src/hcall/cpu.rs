// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Calls about the virtual processor itself: modes, areas, sleep, random numbers.

use super::memory::arguments;
use crate::exit::LightExit;
use crate::inject::{self, Vector};
use crate::partition::Watchpoints;
use crate::platform::{GuestRegister, Platform};
use crate::processor::{Activity, Join};
use crate::rtas_memory::GuestRam;
use crate::vcpu::Vcpu;
use crate::vpa::AreaRequest;
use penstock_arch::regs::{Lpcr, Msr, Srr1};
use penstock_mm::status::HcallStatus;

/// H_UNSUPPORTED_FLAG for the most significant of `bits`: -256 less the bit's number, in the
/// manual's numbering (LoPAR, Hypervisor Call Return Code Table).
const fn unsupported_flag(bits: u64) -> HcallStatus {
    HcallStatus::new(-256 - bits.leading_zeros() as i64)
}

pub(super) extern "C" fn h_set_sprg0<P: Platform>(vcpu: &mut Vcpu<P>) -> LightExit {
    let [value] = arguments(vcpu);
    P::set_guest_register(GuestRegister::Sprg0, value);
    vcpu.answer(HcallStatus::SUCCESS)
}

/// These processors have no DABR.
pub(super) extern "C" fn h_set_dabr<P: Platform>(vcpu: &mut Vcpu<P>) -> LightExit {
    vcpu.answer(HcallStatus::HARDWARE)
}

pub(super) extern "C" fn h_random<P: Platform>(vcpu: &mut Vcpu<P>) -> LightExit {
    match P::random() {
        Some(value) => {
            vcpu.ctx.gpr[4] = value;
            vcpu.answer(HcallStatus::SUCCESS)
        }
        None => vcpu.answer(HcallStatus::HARDWARE),
    }
}

pub(super) extern "C" fn h_get_cpu_characteristics<P: Platform>(vcpu: &mut Vcpu<P>) -> LightExit {
    let answer = vcpu.partition.characteristics;
    vcpu.ctx.gpr[4] = answer.characteristics;
    vcpu.ctx.gpr[5] = answer.behaviour;
    vcpu.answer(HcallStatus::SUCCESS)
}

/// A hash partition has no process table. ISA 3.0 kernels still call once with all zero to say so;
/// anything else would register a table, for radix or for segment tables.
pub(super) extern "C" fn h_register_proc_tbl<P: Platform>(vcpu: &mut Vcpu<P>) -> LightExit {
    let [flags, table, page_size, size] = arguments(vcpu);
    let status = match (flags, table, page_size, size) {
        (0, 0, 0, 0) => HcallStatus::SUCCESS,
        (0, 0, 0, _) => HcallStatus::P4,
        (0, 0, _, _) => HcallStatus::P3,
        (0, _, _, _) => HcallStatus::P2,
        _ => HcallStatus::PARAMETER,
    };
    vcpu.answer(status)
}

pub(super) extern "C" fn h_register_vpa<P: Platform>(vcpu: &mut Vcpu<P>) -> LightExit {
    let [flags, proc_no, address] = arguments(vcpu);
    let Some(processor) = vcpu.partition.processors.get(proc_no) else {
        return vcpu.answer(HcallStatus::PARAMETER);
    };
    let mut memory = GuestRam(vcpu.partition.mmu.memory());
    let status = AreaRequest::decode(flags, address).and_then(|request| {
        let mut areas = processor.areas.lock();
        let dispatch = areas.dispatch();
        areas.apply(request, dispatch, &mut memory)
    });
    if memory.0.was_short() {
        return vcpu.repeat_hcall();
    }
    match status {
        // The check of an area has made its frames the partition's own, which stay where they are while
        // it runs: there is nothing more to pin.
        Ok(_change) => vcpu.answer(HcallStatus::SUCCESS),
        Err(error) => vcpu.answer(HcallStatus::new(error.hcall_status())),
    }
}

pub(super) extern "C" fn h_cede<P: Platform>(vcpu: &mut Vcpu<P>) -> LightExit {
    vcpu.ctx.msr |= Msr::EE.bits();
    let _ = vcpu.answer(HcallStatus::SUCCESS);
    if vcpu.processor.take_prod() {
        return LightExit::RESUME;
    }
    LightExit::CEDE
}

pub(super) extern "C" fn h_prod<P: Platform>(vcpu: &mut Vcpu<P>) -> LightExit {
    let [proc_no] = arguments(vcpu);
    let Some(processor) = vcpu.partition.processors.get(proc_no) else {
        return vcpu.answer(HcallStatus::PARAMETER);
    };
    // One that was prodded before was rung for, if it waited.
    if processor.prod() && processor.is_waiting() {
        ring(vcpu, proc_no);
    }
    vcpu.answer(HcallStatus::SUCCESS)
}

fn ring_if_aboard<P: Platform>(vcpu: &Vcpu<P>, number: u64) {
    if let Ok(server) = u32::try_from(number) {
        P::ring_if_aboard(vcpu.partition.id, server);
    }
}

pub(super) fn ring<P: Platform>(vcpu: &Vcpu<P>, number: u64) {
    if let Ok(server) = u32::try_from(number) {
        P::ring(vcpu.partition.id, server);
    }
}

/// LoPAR, H_CONFER: to itself, it waits for a prod; to another one, only if that has not been dispatched
/// since; to all. Whom the cycles are for, [`confer_target`] tells.
pub(super) extern "C" fn h_confer<P: Platform>(vcpu: &mut Vcpu<P>) -> LightExit {
    const ALL: u64 = u64::MAX;
    let [proc_no, dispatches] = arguments(vcpu);
    if proc_no == u64::from(vcpu.server) {
        let join = vcpu.partition.processors.confer_to_itself(vcpu.processor);
        return join_exit(vcpu, join);
    }
    if proc_no != ALL {
        let Some(processor) = vcpu.partition.processors.get(proc_no) else {
            return vcpu.answer(HcallStatus::PARAMETER);
        };
        // An even count says that it runs.
        let count = processor.areas.lock().dispatch_count();
        let given = dispatches & u64::from(u32::MAX);
        if given & 1 == 0 || u64::from(count) != given {
            return vcpu.answer(HcallStatus::SUCCESS);
        }
    }
    let _ = vcpu.answer(HcallStatus::SUCCESS);
    LightExit::CONFER
}

/// Whom the cycles are for after an exit for H_CONFER; `None` is anybody.
#[must_use]
pub fn confer_target<P: Platform>(vcpu: &Vcpu<P>) -> Option<u32> {
    let proc_no = vcpu.ctx.gpr[4];
    let server = u32::try_from(proc_no).ok()?;
    vcpu.partition.processors.get(proc_no).map(|_| server)
}

pub(super) extern "C" fn h_join<P: Platform>(vcpu: &mut Vcpu<P>) -> LightExit {
    if vcpu.ctx.msr & Msr::EE.bits() != 0 {
        return vcpu.answer(HcallStatus::BAD_MODE);
    }
    let join = vcpu.partition.processors.join(vcpu.processor);
    join_exit(vcpu, join)
}

fn join_exit<P: Platform>(vcpu: &mut Vcpu<P>, join: Join) -> LightExit {
    match join {
        Join::Continue => vcpu.answer(HcallStatus::CONTINUE),
        Join::Prodded => vcpu.answer(HcallStatus::SUCCESS),
        Join::Waits => {
            let _ = vcpu.answer(HcallStatus::SUCCESS);
            LightExit::JOIN
        }
    }
}

/// PAPR, newer than LoPAR: a system reset for all (-1), for all others (-2), or for one. Those that are
/// stopped take none.
pub(super) extern "C" fn h_signal_sys_reset<P: Platform>(vcpu: &mut Vcpu<P>) -> LightExit {
    const ALL: u64 = u64::MAX;
    const OTHERS: u64 = u64::MAX - 1;
    let [target] = arguments(vcpu);
    let own = u64::from(vcpu.server);
    let _ = vcpu.answer(HcallStatus::SUCCESS);
    let (first, meant) = match target {
        ALL | OTHERS => (0, vcpu.partition.processors.all()),
        _ => match vcpu.partition.processors.get(target) {
            Some(processor) => (target, core::slice::from_ref(processor)),
            None => return vcpu.answer(HcallStatus::PARAMETER),
        },
    };
    for (number, processor) in (first..).zip(meant) {
        let takes_it = number != own && processor.activity() != Activity::Stopped;
        // One that has yet to take the last one was rung for.
        if takes_it && processor.signal_reset() {
            ring(vcpu, number);
        }
    }
    if target == ALL || target == own {
        inject::deliver(vcpu, Vector::SystemReset, Srr1::empty());
    }
    LightExit::RESUME
}

/// LoPAR, H_SET_MODE, resources.
mod resource {
    pub const CIABR: u64 = 1;
    pub const DAWR0: u64 = 2;
    pub const INTERRUPT_LOCATION: u64 = 3;
    pub const ENDIAN: u64 = 4;
}

pub(super) extern "C" fn h_set_mode<P: Platform>(vcpu: &mut Vcpu<P>) -> LightExit {
    let [mflags, resource, value1, value2] = arguments(vcpu);
    let status = match resource {
        resource::CIABR => set_ciabr::<P>(mflags, value1, value2),
        resource::DAWR0 => set_dawr0(vcpu, mflags, value1, value2),
        resource::INTERRUPT_LOCATION | resource::ENDIAN if value1 != 0 => HcallStatus::P3,
        resource::INTERRUPT_LOCATION | resource::ENDIAN if value2 != 0 => HcallStatus::P4,
        resource::INTERRUPT_LOCATION => match mflags {
            0 => change_lpcr(vcpu, Lpcr::AIL3, Lpcr::empty()),
            3 => change_lpcr(vcpu, Lpcr::empty(), Lpcr::AIL3),
            // Either bit alone is a location that does not exist; LoPAR names the upper one.
            1 | 2 => unsupported_flag(2),
            other => unsupported_flag(other),
        },
        resource::ENDIAN => match mflags {
            0 => change_lpcr(vcpu, Lpcr::ILE, Lpcr::empty()),
            1 => change_lpcr(vcpu, Lpcr::empty(), Lpcr::ILE),
            other => unsupported_flag(other),
        },
        _ => HcallStatus::P2,
    };
    vcpu.answer(status)
}

/// The modes are the partition's. Others take them over when they next enter their guests, which is
/// soon: they are rung for, where anything changes.
fn change_lpcr<P: Platform>(vcpu: &mut Vcpu<P>, clear: Lpcr, set: Lpcr) -> HcallStatus {
    let processors = &vcpu.partition.processors;
    let before = processors.lpcr();
    vcpu.lpcr = processors.change_lpcr(clear, set);
    if vcpu.lpcr == before {
        P::set_lpcr(vcpu.hardware_lpcr());
        return HcallStatus::SUCCESS;
    }
    P::set_lpcr(vcpu.hardware_lpcr());
    for (number, processor) in (0..).zip(processors.all()) {
        if number != u64::from(vcpu.server) && processor.activity() != Activity::Stopped {
            ring_if_aboard(vcpu, number);
        }
    }
    HcallStatus::SUCCESS
}

/// The breakpoint may match in problem state or in the guest's kernel, never in the hypervisor
/// (Power ISA 3.0B, Book III, Completed Instruction Address Breakpoint: PRIV in bits 62:63).
fn set_ciabr<P: Platform>(mflags: u64, value1: u64, value2: u64) -> HcallStatus {
    const PRIV_HYPERVISOR: u64 = 3;
    if value2 != 0 {
        return HcallStatus::P4;
    }
    if mflags != 0 {
        return unsupported_flag(mflags);
    }
    if value1 & 3 == PRIV_HYPERVISOR {
        return HcallStatus::P3;
    }
    P::set_guest_register(GuestRegister::Ciabr, value1);
    HcallStatus::SUCCESS
}

fn set_dawr0<P: Platform>(
    vcpu: &mut Vcpu<P>,
    mflags: u64,
    address: u64,
    extension: u64,
) -> HcallStatus {
    /// DAWRX: match in hypervisor state.
    const HYPERVISOR: u64 = 1 << 2;
    /// DAWRX has 32 bits.
    const RESERVED: u64 = !0xffff_ffff;
    if vcpu.partition.watchpoints == Watchpoints::Refused {
        return HcallStatus::P2;
    }
    if mflags != 0 {
        return unsupported_flag(mflags);
    }
    if extension & (HYPERVISOR | RESERVED) != 0 {
        return HcallStatus::P4;
    }
    P::set_guest_register(GuestRegister::Dawr0, address);
    P::set_guest_register(GuestRegister::Dawrx0, extension);
    HcallStatus::SUCCESS
}
