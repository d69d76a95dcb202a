// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What an hcall tells the guest in r3.
//!
//! LoPAR, Hypervisor Call Return Code Table.

use crate::guest_memory::MemoryError;

/// An hcall's return code. Open: a code without a name here is still a code.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct HcallStatus(i64);

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $value:literal;)*) => {
        impl HcallStatus {
            $($(#[$doc])* pub const $name: Self = Self($value);)*

            /// LoPAR's name of the code, where Penstock knows it.
            #[must_use]
            pub const fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($value => Some(concat!("H_", stringify!($name))),)*
                    _ => None,
                }
            }
        }
    };
}

codes! {
    /// Done.
    SUCCESS = 0;
    /// Try again.
    BUSY = 1;
    /// The connection is closed.
    CLOSED = 2;
    /// Not available.
    NOT_AVAILABLE = 3;
    /// Granted less than asked for.
    CONSTRAINED = 4;
    /// Only a part was done.
    PARTIAL = 5;
    /// In progress.
    IN_PROGRESS = 14;
    /// The page is registered.
    PAGE_REGISTERED = 15;
    /// A part was stored.
    PARTIAL_STORE = 16;
    /// Not finished yet.
    PENDING = 17;
    /// Call again to go on.
    CONTINUE = 18;
    /// Try again after about 1 ms.
    LONG_BUSY_ORDER_1_MSEC = 9900;
    /// Try again after about 10 ms.
    LONG_BUSY_ORDER_10_MSEC = 9901;
    /// Try again after about 100 ms.
    LONG_BUSY_ORDER_100_MSEC = 9902;
    /// Try again after about 1 s.
    LONG_BUSY_ORDER_1_SEC = 9903;
    /// Try again after about 10 s.
    LONG_BUSY_ORDER_10_SEC = 9904;
    /// Try again after about 100 s.
    LONG_BUSY_ORDER_100_SEC = 9905;
    /// Hardware error.
    HARDWARE = -1;
    /// No such function.
    FUNCTION = -2;
    /// The caller is not privileged.
    PRIVILEGE = -3;
    /// A parameter is out of range, or parameters conflict.
    PARAMETER = -4;
    /// The MSR is not as the call wants it.
    BAD_MODE = -5;
    /// The page table entry group has no free slot.
    PTEG_FULL = -6;
    /// No such entry.
    NOT_FOUND = -7;
    /// The address is reserved.
    RESERVED_DABR = -8;
    /// No memory.
    NO_MEM = -9;
    /// The caller has no authority.
    AUTHORITY = -10;
    /// The mapping does not permit the transfer.
    PERMISSION = -11;
    /// A packet was dropped.
    DROPPED = -12;
    /// The source parameter is bad.
    S_PARM = -13;
    /// The destination parameter is bad.
    D_PARM = -14;
    /// The remote mapping is bad.
    R_PARM = -15;
    /// Resources are in use.
    RESOURCE = -16;
    /// The resource was rescinded.
    RESCINDED = -46;
    /// Aborted.
    ABORTED = -54;
    /// The second parameter is bad.
    P2 = -55;
    /// The third parameter is bad.
    P3 = -56;
    /// The fourth parameter is bad.
    P4 = -57;
    /// The fifth parameter is bad.
    P5 = -58;
    /// The sixth parameter is bad.
    P6 = -59;
    /// The seventh parameter is bad.
    P7 = -60;
    /// The eighth parameter is bad.
    P8 = -61;
    /// The ninth parameter is bad.
    P9 = -62;
    /// Nothing was to do.
    NOOP = -63;
    /// Too big.
    TOO_BIG = -64;
    /// The value is outside what this implementation supports.
    UNSUPPORTED = -67;
    /// Buffers overlap.
    OVERLAP = -68;
    /// The interrupt specification is bad.
    INTERRUPT = -69;
    /// The data is bad.
    BAD_DATA = -70;
    /// No operation is active.
    NOT_ACTIVE = -71;
    /// A scatter list element is bad.
    SG_LIST = -72;
    /// Subcommand and notification conflict.
    OP_MODE = -73;
    /// Coprocessor error.
    COP_HW = -74;
    /// The state does not permit it.
    STATE = -75;
    /// A reserved value was given.
    RESERVED = -76;
    /// The resource is in use.
    IN_USE = -77;
}

impl HcallStatus {
    /// No code of LoPAR's, and never told to a guest: the call has done nothing, for its partition's
    /// pool has no frame, and the guest is to make it again when there is one.
    pub const NO_FRAME: Self = Self(i64::MIN);

    /// What a call answers whose access to guest memory failed.
    #[cold]
    pub(crate) const fn of(error: MemoryError) -> Self {
        match error {
            MemoryError::NoFrame { .. } => Self::NO_FRAME,
            MemoryError::NotMemory { .. }
            | MemoryError::CrossesBlock { .. }
            | MemoryError::Unaligned { .. } => Self::PARAMETER,
        }
    }

    /// The status with this code.
    #[inline]
    #[must_use]
    pub const fn new(code: i64) -> Self {
        Self(code)
    }

    /// The code.
    #[inline]
    #[must_use]
    pub const fn get(self) -> i64 {
        self.0
    }

    /// The code as r3 holds it.
    #[inline]
    #[must_use]
    pub const fn as_register(self) -> u64 {
        self.0.cast_unsigned()
    }
}

impl core::fmt::Debug for HcallStatus {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "HcallStatus({})", self.0),
        }
    }
}

impl core::fmt::Display for HcallStatus {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{self:?}")
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;

    #[test]
    fn codes_are_lopars() {
        assert_eq!(HcallStatus::PTEG_FULL.get(), -6);
        assert_eq!(HcallStatus::TOO_BIG.as_register(), 0xffff_ffff_ffff_ffc0);
        assert_eq!(HcallStatus::P2.get(), -55);
        assert_eq!(HcallStatus::P9.get(), -62);
        assert_eq!(std::format!("{}", HcallStatus::NOT_FOUND), "H_NOT_FOUND");
        assert_eq!(std::format!("{}", HcallStatus::new(77)), "HcallStatus(77)");
    }
}
