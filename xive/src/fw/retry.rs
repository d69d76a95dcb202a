// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Calls that firmware asks to repeat: busy ones, and ones that want memory first.
//!
//! A busy call is made again after [`XiveFirmware::wait`]. `OPAL_XIVE_PROVISIONING` wants one page
//! donated for each chip in `ibm,xive-provision-chips`, then the call again; which chip is short is
//! not said. Both end: a firmware that never settles makes the call fail with its last status.

use penstock_arch::addr::HostReal;

use crate::fw::{FirmwareError, XiveFirmware};
use crate::ids::ChipId;

/// Tries of a busy call. With a wait of a millisecond that is ten seconds.
const BUSY_TRIES: u32 = 10_000;
/// Tries of a busy call inside an hcall, after which the guest is told to come back.
const HCALL_TRIES: u32 = 8;
/// Rounds of donations for one call. One page holds the entries of 512 virtual processors or more.
const DONATION_ROUNDS: u32 = 64;

/// How long a busy firmware is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// As long as fits into an hcall; then the guest is told to come back.
    Short,
    /// As long as it may ever take.
    Long,
}

/// Makes a call until it is not busy.
///
/// # Errors
/// Its status, busy only after very many tries.
pub fn settled<F: XiveFirmware, T>(
    fw: &F,
    call: impl FnMut() -> Result<T, FirmwareError>,
) -> Result<T, FirmwareError> {
    settled_for(fw, Patience::Long, call)
}

/// Makes a call for a guest that waits: until it is not busy, but only a few times.
///
/// # Errors
/// Its status; busy is one that the caller has to expect.
pub fn settled_soon<F: XiveFirmware, T>(
    fw: &F,
    call: impl FnMut() -> Result<T, FirmwareError>,
) -> Result<T, FirmwareError> {
    settled_for(fw, Patience::Short, call)
}

/// Makes a call until it is not busy, for so long.
///
/// # Errors
/// Its status.
pub fn settled_for<F: XiveFirmware, T>(
    fw: &F,
    patience: Patience,
    mut call: impl FnMut() -> Result<T, FirmwareError>,
) -> Result<T, FirmwareError> {
    let tries = match patience {
        Patience::Short => HCALL_TRIES,
        Patience::Long => BUSY_TRIES,
    };
    let mut result = call();
    for _ in 0..tries {
        match result {
            Err(FirmwareError::BUSY | FirmwareError::BUSY_EVENT) => {
                fw.wait();
                result = call();
            }
            done => return done,
        }
    }
    result
}

/// Makes a call until it neither is busy nor wants memory, donating frames meanwhile.
///
/// `frames` gives 64 KiB frames on the chip asked for; they are the firmware's from then on.
///
/// # Errors
/// Its status; [`FirmwareError::PROVISIONING`] where `frames` or the machine has nothing to give.
pub fn provisioned<F: XiveFirmware, T>(
    fw: &F,
    chips: &[ChipId],
    frames: &mut impl FnMut(ChipId) -> Option<HostReal>,
    mut call: impl FnMut() -> Result<T, FirmwareError>,
) -> Result<T, FirmwareError> {
    for _ in 0..DONATION_ROUNDS {
        match settled(fw, &mut call) {
            Err(FirmwareError::PROVISIONING) if !chips.is_empty() => {
                for &chip in chips {
                    let page = frames(chip).ok_or(FirmwareError::PROVISIONING)?;
                    settled(fw, || fw.donate_page(chip, page))?;
                }
            }
            done => return done,
        }
    }
    Err(FirmwareError::PROVISIONING)
}
