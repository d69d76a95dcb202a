// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Stopping the thread until there is something to do.

// UNSAFETY: the registers that time it, and the instruction.
#![expect(unsafe_code)]

use super::exits::maintenance;
use super::hardware::Hardware;
use crate::platform::Platform;
use core::arch::asm;
use penstock_arch::regs::sprn;
use penstock_arch::regs::vcpu_spr::PSSCR_FORBIDDEN;
use penstock_arch::{spr, sync};

/// Stops the thread for at most `ticks`. HDEC does not wake a stopped thread, so the guest's
/// decrementer is borrowed, and given back by its absolute expiry (design decision 16).
pub fn sleep(ticks: u64) {
    // In this order, so that a delay between the two makes the interrupt late, never early.
    let left = spr::read::<{ sprn::DEC }>();
    let expiry = Hardware::timebase().wrapping_add(left);
    // EC = ESL = 0 with all bits that select a state 0: nothing is lost, any exception ends it.
    // The other bits are limits that the smallest state does not reach.
    const STOP0_LITE: u64 = 0x330;
    set_decrementer(ticks);
    // SAFETY: only says what kind of stop follows.
    unsafe { spr::write::<{ sprn::PSSCR }>(STOP0_LITE) };
    // SAFETY: a stop without state loss continues after itself.
    unsafe { asm!("stop", options(nostack, preserves_flags)) };
    forbid_guest_stop();
    // Maintenance interrupts are not taken in hypervisor state, but end a stop.
    if spr::read::<{ sprn::HMER }>() & spr::read::<{ sprn::HMEER }>() != 0 {
        log::warn!("hypervisor maintenance: HMER {:#x}", maintenance());
    }
    set_decrementer(expiry.wrapping_sub(Hardware::timebase()));
    sync::isync();
}

/// Makes a guest's `stop` an exit again.
pub fn forbid_guest_stop() {
    // SAFETY: takes effect at the next stop only, before which `sleep` writes its own.
    unsafe { spr::write::<{ sprn::PSSCR }>(PSSCR_FORBIDDEN) };
}

/// Writes the decrementer.
pub fn set_decrementer(ticks: u64) {
    // SAFETY: interrupts are off in hypervisor state; whoever runs next sets its own.
    unsafe { spr::write::<{ sprn::DEC }>(ticks) };
}
