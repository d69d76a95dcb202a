// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Time: waiting with an end, and the watchdog that ends a check that hangs.
//!
//! The time base runs at 512 MHz on every machine that PAPR guests see (LoPAR, timebase-frequency).

use crate::cpu;
use core::sync::atomic::{AtomicU64, Ordering};

/// Time base ticks per second.
pub const FREQUENCY: u64 = 512_000_000;

static LIMIT: AtomicU64 = AtomicU64::new(0x7fff_ffff);

/// Sets how far the decrementer counts: `ibm,dec-bits`, 32 without it.
pub fn set_decrementer_bits(bits: u32) {
    let largest = (1u64 << (bits.clamp(32, 64) - 1)) - 1;
    LIMIT.store(largest, Ordering::Relaxed);
}

/// The largest value that the decrementer holds.
#[must_use]
pub fn decrementer_limit() -> u64 {
    LIMIT.load(Ordering::Relaxed)
}

/// Starts the watchdog: a decrementer interrupt in 30 seconds, or as late as the decrementer can.
pub fn start_watchdog() {
    cpu::set_decrementer(decrementer_limit().min(30 * FREQUENCY));
}

/// Waits until `condition` holds or so many ticks are over; whether it holds.
pub fn wait_until(ticks: u64, mut condition: impl FnMut() -> bool) -> bool {
    let started = cpu::timebase();
    loop {
        if condition() {
            return true;
        }
        if cpu::timebase().wrapping_sub(started) >= ticks {
            return false;
        }
    }
}
