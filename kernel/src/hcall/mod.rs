// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Hypervisor calls: the table, and the way from `sc 1` to a handler.
//!
//! ABI (LoPAR, Hypervisor Call Functions, Register Usage): r3 holds the token, r4 and up the
//! arguments; r3 returns the status, r4 and up the results. r0, r3-r12, CTR, XER and CR0-1, 5-7 are
//! volatile: the entry code gives r0, CTR and XER back as zero, and r4-r12 as the handler leaves
//! them in the context, so nothing of the hypervisor's can be seen in them.

pub mod clear_hpt;
mod console;
pub mod control;
mod cpu;
mod exploitation;
mod interrupt;
mod memory;
mod resize;
mod rtas;
pub mod strict;
pub mod table;

#[cfg(test)]
mod tests;

use crate::exit::LightExit;
use crate::platform::Platform;
use crate::vcpu::Vcpu;
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

/// A handler: takes its arguments from the context and leaves its results there.
pub type Handler<P> = fn(&mut Vcpu<P>) -> LightExit;

/// The slot of a token in the dispatch table and in the counts, or `None` for tokens that no table
/// can have.
#[inline]
#[must_use]
pub const fn slot(token: u64) -> Option<usize> {
    if token.is_multiple_of(4) && token < 0x400 {
        return Some((token / 4) as usize);
    }
    match token {
        H_RTAS => Some(SLOTS - 2),
        H_CONTROL => Some(SLOTS - 1),
        _ => None,
    }
}

/// Serves the hcall whose registers are in the context.
#[inline]
pub fn dispatch<P: Platform>(vcpu: &mut Vcpu<P>) -> LightExit {
    if vcpu.ctx.msr & Msr::PR.bits() != 0 {
        return vcpu.answer(HcallStatus::PRIVILEGE);
    }
    let slot = slot(vcpu.ctx.gpr[3]);
    let index = slot.unwrap_or(SLOTS);
    if let Some(count) = vcpu.hcalls.get_mut(index) {
        *count += 1;
    }
    match slot.and_then(|slot| vcpu.handlers.get(slot)) {
        Some(handler) => handler(vcpu),
        None => h_function(vcpu),
    }
}

/// What a token without a handler gets.
fn h_function<P: Platform>(vcpu: &mut Vcpu<P>) -> LightExit {
    vcpu.answer(HcallStatus::FUNCTION)
}
