// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The call into firmware.

// UNSAFETY: firmware is entered by assembly and trusted with the machine.
#![expect(unsafe_code)]

use super::{Status, Token};
use core::arch::global_asm;
use core::sync::atomic::{AtomicU64, Ordering};
use penstock_arch::addr::HostReal;
use penstock_arch::regs::sprn;
use penstock_arch::spr;

/// Firmware's base and entry, read by `call.S`.
#[repr(C)]
struct OpalEntry {
    base: AtomicU64,
    entry: AtomicU64,
}

static OPAL_ENTRY: OpalEntry = OpalEntry {
    base: AtomicU64::new(0),
    entry: AtomicU64::new(0),
};

const _: () = assert!(core::mem::offset_of!(OpalEntry, entry) == 8);

global_asm!(
    include_str!("call.S"),
    OPAL_ENTRY = sym OPAL_ENTRY,
    HSRR0 = const sprn::HSRR0,
    HSRR1 = const sprn::HSRR1,
);

unsafe extern "C" {
    fn opal_call(a0: u64, a1: u64, a2: u64, a3: u64, a4: u64, a5: u64, a6: u64, token: u64) -> i64;
}

/// Sets where firmware lies, from the registers at our entry.
///
/// # Safety
/// The addresses must be those that firmware gave; called once, before any OPAL call.
pub unsafe fn set_entry(base: HostReal, entry: HostReal) {
    OPAL_ENTRY.base.store(base.get(), Ordering::Relaxed);
    OPAL_ENTRY.entry.store(entry.get(), Ordering::Relaxed);
}

/// Makes one OPAL call.
///
/// # Safety
/// Arguments must be what OPAL API says of the token: addresses among them must stay valid and
/// unshared during the call, and the effect on the machine must be wanted. [`set_entry`] must have
/// been called.
pub unsafe fn call(token: Token, args: [u64; 7]) -> Status {
    let [a0, a1, a2, a3, a4, a5, a6] = args;
    let before = spr::timebase();
    // SAFETY: the caller answers for the arguments; call.S keeps the ABI.
    let status = Status(unsafe { opal_call(a0, a1, a2, a3, a4, a5, a6, token.0) });
    TICKS.fetch_add(spr::timebase().wrapping_sub(before), Ordering::Relaxed);
    status
}

static TICKS: AtomicU64 = AtomicU64::new(0);

/// Time base ticks spent in firmware so far, by all threads together.
#[must_use]
pub fn ticks() -> u64 {
    TICKS.load(Ordering::Relaxed)
}

/// How often a busy call is repeated before its status is passed on. Firmware is busy for
/// microseconds; a million polls are seconds.
const RETRIES: u32 = 1_000_000;

/// Makes an OPAL call until firmware is no longer busy, polling for events where it asks for that.
///
/// # Safety
/// As [`call`]; the call must be one that may be repeated.
pub unsafe fn retry(token: Token, args: [u64; 7]) -> Status {
    for _ in 0..RETRIES {
        // SAFETY: the caller answers for the arguments.
        let status = unsafe { call(token, args) };
        match status {
            Status::BUSY => {}
            Status::BUSY_EVENT => poll_events(),
            done => return done,
        }
    }
    Status::BUSY
}

/// Lets firmware do its background work: draining consoles, completing power-off.
pub fn poll_events() {
    // SAFETY: a null pointer asks for no event mask.
    let _ = unsafe { call(Token::POLL_EVENTS, [0; 7]) };
}
