// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Hypervisor calls: the table, and the way from `sc 1` to a handler.
//!
//! ABI (LoPAR, Hypervisor Call Functions, Register Usage): r3 holds the token, r4 and up the
//! arguments; r3 returns the status, r4 and up the results. r0, r3-r12, CTR, XER and CR0-1, 5-7 are
//! volatile: the entry code gives r0, CTR, XER and those fields of CR back as zero, and r4-r12 as the
//! handler leaves them in the context, so nothing of the hypervisor's can be seen in them.

pub mod clear_hpt;
mod console;
pub mod control;
mod cpu;
mod exploitation;
mod interrupt;
mod memory;
mod performance;
pub mod resize;
mod rtas;
pub mod strict;
pub mod table;

#[cfg(test)]
mod tests;

use crate::exit::LightExit;
use crate::platform::Platform;
use crate::vcpu::Vcpu;
pub use cpu::confer_target;
use penstock_arch::regs::Msr;
use penstock_mm::status::HcallStatus;
pub use strict::UndefinedFlags;
pub use table::{Hcall, Table, function_sets};

/// Tokens below 0x400 are multiples of 4 and have a slot each; the private ones have the last.
pub const SLOTS: usize = 0x400 / 4 + 2;

/// The token that the RTAS blob, and guests without it, use (private range of LoPAR's table).
pub const H_RTAS: u64 = 0xf000;

/// The token of the control interface (private range of LoPAR's table).
pub const H_CONTROL: u64 = 0xf004;

/// A handler: takes its arguments from the context and leaves its results there. The entry code calls
/// it.
pub type Handler<P> = extern "C" fn(&mut Vcpu<P>) -> LightExit;

/// The slot of a token in the dispatch table and in the counts, or `None` for tokens that no table
/// can have.
#[inline]
#[must_use]
pub const fn slot(token: u64) -> Option<usize> {
    match token {
        H_RTAS => Some(SLOTS - 2),
        H_CONTROL => Some(SLOTS - 1),
        _ => public_slot(token),
    }
}

/// The slot of a token that is not private.
#[expect(clippy::cast_possible_truncation, reason = "below 0x100")]
const fn public_slot(token: u64) -> Option<usize> {
    // What is not a multiple of 4 turns into a large number.
    let public = token.rotate_right(2);
    if public < (SLOTS - 2) as u64 {
        Some(public as usize)
    } else {
        None
    }
}

/// Chooses what serves the hcall whose registers are in the context, and counts it.
///
/// The entry code asks, and then calls the handler itself: to call it from here would take a stack
/// frame, and more instructions than some of the calls.
#[inline]
pub fn choose<P: Platform>(vcpu: &mut Vcpu<P>) -> Handler<P> {
    let slot = public_slot(vcpu.ctx.gpr[3]);
    let privileged = vcpu.ctx.msr & Msr::PR.bits() == 0;
    match slot {
        Some(slot) if privileged => counted(vcpu, slot),
        _ => choose_other(vcpu),
    }
}

/// The same for a program of the guest's, a private token, or one that is none.
#[cold]
#[inline(never)]
fn choose_other<P: Platform>(vcpu: &mut Vcpu<P>) -> Handler<P> {
    if vcpu.ctx.msr & Msr::PR.bits() != 0 {
        return h_privilege;
    }
    counted(vcpu, slot(vcpu.ctx.gpr[3]).unwrap_or(SLOTS))
}

#[inline(always)]
fn counted<P: Platform>(vcpu: &mut Vcpu<P>, slot: usize) -> Handler<P> {
    if let Some(count) = vcpu.hcalls.get_mut(slot) {
        *count += 1;
    }
    match vcpu.handlers.get(slot) {
        Some(handler) => *handler,
        None => h_function,
    }
}

/// Serves the hcall whose registers are in the context, as the entry code does.
pub fn dispatch<P: Platform>(vcpu: &mut Vcpu<P>) -> LightExit {
    choose(vcpu)(vcpu)
}

/// What a program of the guest's gets, which may make no hcall.
extern "C" fn h_privilege<P: Platform>(vcpu: &mut Vcpu<P>) -> LightExit {
    vcpu.answer(HcallStatus::PRIVILEGE)
}

/// What a token without a handler gets.
extern "C" fn h_function<P: Platform>(vcpu: &mut Vcpu<P>) -> LightExit {
    vcpu.answer(HcallStatus::FUNCTION)
}
