// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The numbers that name things in XIVE, each a type of its own.
//!
//! The guest's number of an interrupt ([`Lisn`]), the machine's ([`Girq`]) and the data that arrive
//! in an event queue ([`Eisn`]) are three numbers that never mix; nor do PAPR's server number and
//! the firmware's number of a virtual processor.

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(transparent)]
        pub struct $name(u32);

        impl $name {
            /// The thing with this number.
            #[must_use]
            pub const fn new(number: u32) -> Self {
                Self(number)
            }

            /// The number.
            #[must_use]
            pub const fn get(self) -> u32 {
                self.0
            }
        }

        impl core::fmt::Debug for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                write!(f, concat!(stringify!($name), "({:#x})"), self.0)
            }
        }

        impl core::fmt::Display for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                write!(f, "{:#x}", self.0)
            }
        }
    };
}

number! {
    /// A hardware interrupt source, unique in the machine (OPAL API, `OPAL_XIVE_ALLOCATE_IRQ`).
    Girq
}
number! {
    /// A partition's interrupt number: LoPAR's logical interrupt source number, XICS's XISR.
    ///
    /// XICS guests see 24 bits of it.
    Lisn
}
number! {
    /// What an event queue entry carries: LoPAR's effective interrupt source number, 31 bits.
    Eisn
}
number! {
    /// A virtual processor in the firmware's numbering (OPAL API, `OPAL_XIVE_ALLOCATE_VP_BLOCK`).
    ///
    /// The one of a host thread's own context is its PIR.
    VpId
}
number! {
    /// A chip in the firmware's numbering (`ibm,chip-id`).
    ChipId
}
number! {
    /// A vCPU as the guest names it in interrupt calls (`ibm,ppc-interrupt-server#s`).
    ServerNumber
}
