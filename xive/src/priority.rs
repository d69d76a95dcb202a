// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Priorities: eight in the hardware, 255 in the XICS calls.
//!
//! In both, 0 is the most favoured, and an interrupt is presented when its priority is *more*
//! favoured than the CPPR. XICS (LoPAR, Interrupt Controller) has priorities 0 to 0xfe and 0xff for
//! "never"; XIVE has 0 to 7 and a CPPR of 0xff for "everything". Priority 7 is what single
//! escalation takes away from a virtual processor, so guests get 0 to 6: XICS 0 to 5 are kept, 6 to
//! 0xfe are one level. Software keeps the guest's own numbers, so what it reads back is what it
//! wrote.

/// The hardware priority of an event queue, 0 to 7.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Priority(u8);

impl Priority {
    /// The most favoured priority.
    pub const MOST_FAVOURED: Self = Self(0);
    /// That of the hypervisor's own interrupts; firmware has 7 (OPAL API, XIVE).
    pub const HYPERVISOR: Self = Self(6);

    /// The priority, or `None` above 7.
    #[must_use]
    pub const fn new(number: u8) -> Option<Self> {
        if number < 8 { Some(Self(number)) } else { None }
    }

    /// The number, below 8.
    #[must_use]
    pub const fn get(self) -> u8 {
        self.0
    }
}

/// A current processor priority as the ring registers hold it: 0 to 7, or 0xff.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Cppr(u8);

impl Cppr {
    /// Nothing is presented.
    pub const MOST_FAVOURED: Self = Self(0);
    /// Everything is presented.
    pub const LEAST_FAVOURED: Self = Self(0xff);

    /// What the hardware makes of this byte: values above 7 read as 0xff.
    #[must_use]
    pub const fn new(byte: u8) -> Self {
        if byte < 8 { Self(byte) } else { Self(0xff) }
    }

    /// The register's byte.
    #[must_use]
    pub const fn get(self) -> u8 {
        self.0
    }

    /// The priorities that this CPPR lets through, bit `n` for priority `n`.
    #[inline]
    #[must_use]
    pub const fn presentable(self) -> u32 {
        if self.0 < 8 { (1 << self.0) - 1 } else { 0xff }
    }
}

/// Priorities 0 to `LEVELS - 1` are queues of an XICS guest.
pub const LEVELS: u8 = 7;

/// A priority, CPPR or MFRR as an XICS guest writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct XicsPriority(pub u8);

impl XicsPriority {
    /// As CPPR: nothing is presented.
    pub const MOST_FAVOURED: Self = Self(0);
    /// As priority or MFRR: never presented; as CPPR: everything is.
    pub const LEAST_FAVOURED: Self = Self(0xff);

    /// The hardware CPPR with the effect of this one.
    #[inline]
    #[must_use]
    pub const fn cppr(self) -> Cppr {
        match self.0 {
            0xff => Cppr(0xff),
            other if other < LEVELS - 1 => Cppr(other),
            _ => Cppr(LEVELS - 1),
        }
    }

    /// The hardware priority of an interrupt of this one, or `None` for "never".
    #[inline]
    #[must_use]
    pub const fn priority(self) -> Option<Priority> {
        match self.cppr() {
            Cppr(0xff) => None,
            Cppr(level) => Some(Priority(level)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn linux_priorities_are_kept() {
        // Linux uses 4 for IPIs and 5 for everything else.
        assert_eq!(XicsPriority(4).priority(), Priority::new(4));
        assert_eq!(XicsPriority(5).priority(), Priority::new(5));
        assert_eq!(XicsPriority(0).cppr(), Cppr::MOST_FAVOURED);
        assert_eq!(XicsPriority(0xff).cppr(), Cppr::LEAST_FAVOURED);
    }

    #[test]
    fn six_to_fe_are_one_level_and_seven_is_never_used() {
        for byte in 6..=0xfe {
            assert_eq!(XicsPriority(byte).priority(), Priority::new(6), "{byte:#x}");
        }
        assert_eq!(XicsPriority(0xff).priority(), None);
    }

    #[test]
    fn cppr_masks_its_own_priority() {
        assert_eq!(Cppr::new(0).presentable(), 0);
        assert_eq!(Cppr::new(4).presentable(), 0b1111);
        assert_eq!(Cppr::new(7).presentable(), 0x7f);
        assert_eq!(Cppr::new(0xff).presentable(), 0xff);
        assert_eq!(Cppr::new(0x10), Cppr::LEAST_FAVOURED);
    }
}
