// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Three kinds of address that never mix: effective, guest real and host real.
//!
//! None has arithmetic operators: sums are checked, and a number becomes an address only by an
//! explicit `new`.

macro_rules! address {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(transparent)]
        pub struct $name(u64);

        impl $name {
            /// The address with this value.
            #[must_use]
            pub const fn new(value: u64) -> Self {
                Self(value)
            }

            /// The value, in bytes from 0.
            #[must_use]
            pub const fn get(self) -> u64 {
                self.0
            }

            /// The address `bytes` further on, or `None` past the end of the address space.
            #[must_use]
            pub const fn checked_add(self, bytes: u64) -> Option<Self> {
                match self.0.checked_add(bytes) {
                    Some(value) => Some(Self(value)),
                    None => None,
                }
            }

            /// Bytes from `base` up to this address, or `None` where it lies below `base`.
            #[must_use]
            pub const fn offset_from(self, base: Self) -> Option<u64> {
                self.0.checked_sub(base.0)
            }

            /// The address rounded down to a multiple of `align`, a power of two.
            #[must_use]
            pub const fn align_down(self, align: u64) -> Self {
                assert!(align.is_power_of_two());
                Self(self.0 & !(align - 1))
            }

            /// The address rounded up to a multiple of `align`, a power of two; `None` past the end.
            #[must_use]
            pub const fn align_up(self, align: u64) -> Option<Self> {
                assert!(align.is_power_of_two());
                match self.0.checked_add(align - 1) {
                    Some(value) => Some(Self(value & !(align - 1))),
                    None => None,
                }
            }

            /// Whether the address is a multiple of `align`, a power of two.
            #[must_use]
            pub const fn is_aligned(self, align: u64) -> bool {
                assert!(align.is_power_of_two());
                self.0 & (align - 1) == 0
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

address! {
    /// An effective address: what an instruction computes (Power ISA 3.0B, Book III,
    /// Address Translation Overview).
    EffectiveAddr
}
address! {
    /// A guest real address, PAPR's logical real address: what a partition believes to be real.
    GuestReal
}
address! {
    /// A host real address: what the memory controller sees. Never shown to a guest.
    HostReal
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_checked() {
        assert_eq!(GuestReal::new(4).checked_add(4), Some(GuestReal::new(8)));
        assert_eq!(GuestReal::new(u64::MAX).checked_add(1), None);
        assert_eq!(HostReal::new(8).offset_from(HostReal::new(16)), None);
    }

    #[test]
    fn alignment() {
        assert_eq!(
            HostReal::new(0x1fff).align_down(0x1000),
            HostReal::new(0x1000)
        );
        assert_eq!(
            HostReal::new(0x1001).align_up(0x1000),
            Some(HostReal::new(0x2000))
        );
        assert_eq!(HostReal::new(u64::MAX).align_up(0x1000), None);
        assert!(HostReal::new(0x4_0000).is_aligned(0x4_0000));
    }
}
