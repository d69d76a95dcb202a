// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What an OPAL call answers.

/// An OPAL return code: 0 is success, negative values are errors, and codes that Penstock does not
/// know are data (OPAL API, Return Codes).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct Status(pub i64);

impl Status {
    /// Done.
    pub const SUCCESS: Self = Self(0);
    /// An argument is wrong.
    pub const PARAMETER: Self = Self(-1);
    /// Try again.
    pub const BUSY: Self = Self(-2);
    /// The hardware failed.
    pub const HARDWARE: Self = Self(-6);
    /// No such service.
    pub const UNSUPPORTED: Self = Self(-7);
    /// Nothing left to give.
    pub const RESOURCE: Self = Self(-10);
    /// Try again after polling for events.
    pub const BUSY_EVENT: Self = Self(-12);
    /// Not in this state.
    pub const WRONG_STATE: Self = Self(-14);
    /// Completion will be told by an event.
    pub const ASYNC_COMPLETION: Self = Self(-15);
    /// XIVE wants a page of memory donated.
    pub const XIVE_PROVISIONING: Self = Self(-31);

    /// `Ok` for success, otherwise the status as an error.
    ///
    /// # Errors
    /// Every status but [`Status::SUCCESS`].
    pub const fn ok(self) -> Result<(), Self> {
        if self.0 == 0 { Ok(()) } else { Err(self) }
    }
}

impl core::fmt::Display for Status {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let name = match *self {
            Self::SUCCESS => "OPAL_SUCCESS",
            Self::PARAMETER => "OPAL_PARAMETER",
            Self::BUSY => "OPAL_BUSY",
            Self::HARDWARE => "OPAL_HARDWARE",
            Self::UNSUPPORTED => "OPAL_UNSUPPORTED",
            Self::RESOURCE => "OPAL_RESOURCE",
            Self::BUSY_EVENT => "OPAL_BUSY_EVENT",
            Self::WRONG_STATE => "OPAL_WRONG_STATE",
            Self::ASYNC_COMPLETION => "OPAL_ASYNC_COMPLETION",
            Self::XIVE_PROVISIONING => "OPAL_XIVE_PROVISIONING",
            Self(code) => return write!(f, "OPAL status {code}"),
        };
        f.write_str(name)
    }
}
