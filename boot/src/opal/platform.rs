// SPDX-License-Identifier: Apache-2.0 OR MIT
//! OPAL calls that concern the whole machine: power, processors, clock.

// UNSAFETY: OPAL calls change the machine and take addresses.
#![expect(unsafe_code)]

use super::call::{call, poll_events, retry};
use super::{Status, Token};
use penstock_arch::endian::{Be32, Be64};

/// Powers the machine off.
pub fn power_off() -> ! {
    // SAFETY: ending is what is asked for.
    let _ = unsafe { retry(Token::CEC_POWER_DOWN, [0; 7]) };
    loop {
        // The service processor acts while firmware is polled.
        poll_events();
    }
}

/// Makes interrupts in hypervisor state little-endian and the MMU a hash MMU, on every processor.
///
/// # Errors
/// Firmware's status, [`Status::WRONG_STATE`] when other processors are not in firmware.
///
/// # Safety
/// All other processors must be inside OPAL. Interrupt vectors are taken little-endian afterwards.
pub unsafe fn reinit_cpus() -> Result<(), Status> {
    const HILE_LE: u64 = 1 << 1;
    const MMU_HASH: u64 = 1 << 2;
    // SAFETY: the caller answers for the other processors.
    unsafe { retry(Token::REINIT_CPUS, [HILE_LE | MMU_HASH, 0, 0, 0, 0, 0, 0]) }.ok()
}

/// Reads the real time clock: the words of OPAL_RTC_READ, BCD year-month-day and
/// hour-minute-second-millisecond.
///
/// # Errors
/// Firmware's status; [`Status::UNSUPPORTED`] on machines without a clock.
pub fn rtc_read() -> Result<(u32, u64), Status> {
    let mut ymd = Be32::new(0);
    let mut hmsm = Be64::new(0);
    let ymd_at = (&raw mut ymd).expose_provenance() as u64;
    let hmsm_at = (&raw mut hmsm).expose_provenance() as u64;
    // SAFETY: both words outlive the call.
    unsafe { retry(Token::RTC_READ, [ymd_at, hmsm_at, 0, 0, 0, 0, 0]) }.ok()?;
    Ok((
        core::hint::black_box(ymd).get(),
        core::hint::black_box(hmsm).get(),
    ))
}

/// Whether firmware has the call.
#[must_use]
pub fn has(token: Token) -> bool {
    // SAFETY: the call takes no address.
    let answer = unsafe { call(Token::CHECK_TOKEN, [token.0, 0, 0, 0, 0, 0, 0]) };
    answer == Status(1)
}

/// Lets firmware handle a hypervisor maintenance interrupt of this thread, and the time base be
/// brought back where that asks for it (OPAL API, OPAL_HANDLE_HMI2, OPAL_RESYNC_TIMEBASE).
///
/// # Errors
/// Firmware could not repair it.
pub fn handle_hmi() -> Result<(), Status> {
    const TB_RESYNC: u64 = 1 << 0;
    const TOD_TB_FAIL: u64 = 1 << 3;
    if !has(Token::HANDLE_HMI2) {
        // SAFETY: the call takes no address.
        return unsafe { call(Token::HANDLE_HMI, [0; 7]) }.ok();
    }
    let mut flags = Be64::new(0);
    let flags_at = (&raw mut flags).expose_provenance() as u64;
    // SAFETY: the doubleword outlives the call.
    unsafe { call(Token::HANDLE_HMI2, [flags_at, 0, 0, 0, 0, 0, 0]) }.ok()?;
    let flags = core::hint::black_box(flags).get();
    if flags & TOD_TB_FAIL != 0 {
        return Err(Status::HARDWARE);
    }
    if flags & TB_RESYNC != 0 {
        // SAFETY: the call takes no address.
        unsafe { call(Token::RESYNC_TIMEBASE, [0; 7]) }.ok()?;
    }
    Ok(())
}
