// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What can go wrong, one type for each who is told.
//!
//! A guest learns of an [`HcallError`] or an [`RtasError`] by a number that LoPAR fixes; a
//! [`SetupError`] stops a partition from being made.

use crate::fw::FirmwareError;
use crate::ids::Girq;

/// How an interrupt hcall failed (LoPAR, Hypervisor Call Return Codes).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HcallError {
    /// `H_HARDWARE`: the machine refused.
    Hardware,
    /// `H_PARAMETER`: an argument is not legal.
    Parameter,
    /// `H_P2`: the second argument is not legal.
    P2,
    /// `H_P3`: the third is not.
    P3,
    /// `H_P4`: the fourth is not.
    P4,
    /// `H_P5`: the fifth is not.
    P5,
    /// `H_STATE`: an H_INT_RESET is not finished.
    State,
    /// `H_NOT_AVAILABLE`: the virtual processor is not online.
    NotAvailable,
    /// `H_LONG_BUSY_ORDER_1_MSEC`: the call has to be made again; until then nothing is lost.
    LongBusy,
}

impl HcallError {
    /// The code that goes to the guest in r3.
    #[must_use]
    pub const fn code(self) -> i64 {
        match self {
            Self::Hardware => -1,
            Self::Parameter => -4,
            Self::P2 => -55,
            Self::P3 => -56,
            Self::P4 => -57,
            Self::P5 => -58,
            Self::State => -75,
            Self::NotAvailable => 3,
            Self::LongBusy => 9900,
        }
    }
}

/// What a call that was tried often enough within an hcall means for the guest.
impl From<FirmwareError> for HcallError {
    fn from(error: FirmwareError) -> Self {
        match error {
            FirmwareError::BUSY | FirmwareError::BUSY_EVENT => Self::LongBusy,
            _ => Self::Hardware,
        }
    }
}

/// How a RTAS call on an interrupt failed (LoPAR, RTAS Call Return Codes).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RtasError {
    /// Status -1: the machine refused, or the interrupt was moved too often while it was pending.
    Hardware,
    /// Status -3: no such interrupt, server or priority.
    Parameter,
}

impl RtasError {
    /// The status word of the call.
    #[must_use]
    pub const fn code(self) -> i32 {
        match self {
            Self::Hardware => -1,
            Self::Parameter => -3,
        }
    }
}

impl From<FirmwareError> for RtasError {
    fn from(_: FirmwareError) -> Self {
        Self::Hardware
    }
}

/// Why interrupts for a vCPU or a device could not be set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetupError {
    /// An OPAL call failed for good.
    Firmware(FirmwareError),
    /// The source has no page to trigger it by, or needs an OPAL call for each interrupt (POWER9
    /// before DD2).
    UnsuitableSource(Girq),
    /// The queue memory is not a 64 KiB frame.
    UnalignedQueues,
    /// The machine has no single escalation interrupt for all priorities of a virtual processor.
    NoSingleEscalation,
    /// The number does not fit in the 24 bits of XISR, or is one that XICS reserves (0 to 2).
    ReservedNumber,
}

impl From<FirmwareError> for SetupError {
    fn from(error: FirmwareError) -> Self {
        Self::Firmware(error)
    }
}

impl core::fmt::Display for SetupError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Firmware(error) => write!(f, "{error}"),
            Self::UnsuitableSource(girq) => {
                write!(
                    f,
                    "interrupt source {girq} cannot be triggered and ended by MMIO"
                )
            }
            Self::UnalignedQueues => f.write_str("event queues are not in an aligned 64 KiB frame"),
            Self::NoSingleEscalation => {
                f.write_str("firmware has no single escalation of virtual processors")
            }
            Self::ReservedNumber => f.write_str("interrupt number is reserved by XICS"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_lopars() {
        assert_eq!(HcallError::Hardware.code(), -1);
        assert_eq!(HcallError::Parameter.code(), -4);
        assert_eq!(HcallError::P2.code(), -55);
        assert_eq!(HcallError::P3.code(), -56);
        assert_eq!(HcallError::P4.code(), -57);
        assert_eq!(HcallError::P5.code(), -58);
        assert_eq!(HcallError::State.code(), -75);
        assert_eq!(HcallError::NotAvailable.code(), 3);
        assert_eq!(HcallError::LongBusy.code(), 9900);
        assert_eq!(RtasError::Hardware.code(), -1);
        assert_eq!(RtasError::Parameter.code(), -3);
    }
}
