// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Segment descriptors: what the ASDR holds after a hypervisor storage interrupt, and the segment
//! of guest real mode.
//!
//! Under the hash MMU the ASDR has the VSID doubleword of the segment lookaside buffer entry that
//! the access used: B (bits 0:1), VSID (2:51), Ks (52), Kp (53), N (54), L (55), C (56) and
//! LP (58:59). For an access in guest real mode it is the descriptor of the virtualized real mode
//! area (VRMA), whose VSID PAPR reserves.
//!
//! Power ISA 3.0B, Book III, Segment Lookaside Buffer, Access Segment Descriptor Register;
//! LoPAR, Reserved Virtual Addresses.

use super::page_size::{PageSize, SegmentSize};
use super::permission::SegmentKey;

/// The VSID of the virtualized real mode area.
pub const VRMA_VSID: u64 = 0x1ff_ffff;

/// The size of the virtualized real mode area's segment.
pub const VRMA_SEGMENT: SegmentSize = SegmentSize::S1T;

/// The access segment descriptor.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub struct Asdr(u64);

impl Asdr {
    const KS: u64 = 0x800;
    const KP: u64 = 0x400;
    const N: u64 = 0x200;
    const LLP: u64 = 0x130;

    /// The register's value.
    #[inline]
    #[must_use]
    pub const fn new(value: u64) -> Self {
        Self(value)
    }

    /// The descriptor of the virtualized real mode area with pages of this size.
    #[must_use]
    pub const fn vrma(page: PageSize) -> Self {
        Self((VRMA_SEGMENT.b() << 62) | (VRMA_VSID << 24) | page.segment_llp())
    }

    /// The raw value.
    #[inline]
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The segment size; a reserved B counts as its low bit says.
    #[inline]
    #[must_use]
    pub const fn segment(self) -> SegmentSize {
        if self.0 & (1 << 62) == 0 {
            SegmentSize::S256M
        } else {
            SegmentSize::S1T
        }
    }

    /// The virtual segment's number.
    #[inline]
    #[must_use]
    pub const fn vsid(self) -> u64 {
        let field = self.0 & !(3 << 62);
        match self.segment() {
            SegmentSize::S256M => field >> 12,
            SegmentSize::S1T => field >> 24,
        }
    }

    /// The base page size, or `None` for one that Penstock does not offer.
    #[inline]
    #[must_use]
    pub const fn base_page(self) -> Option<PageSize> {
        match self.0 & Self::LLP {
            0 => Some(PageSize::P4K),
            0x110 => Some(PageSize::P64K),
            0x100 => Some(PageSize::P16M),
            _ => None,
        }
    }

    /// The key that applies to an access in privileged state (Ks) or in problem state (Kp).
    #[inline]
    #[must_use]
    pub const fn key(self, state: PrivilegeState) -> SegmentKey {
        let bit = match state {
            PrivilegeState::Privileged => Self::KS,
            PrivilegeState::Problem => Self::KP,
        };
        if self.0 & bit == 0 {
            SegmentKey::Zero
        } else {
            SegmentKey::One
        }
    }

    /// Whether the segment is no-execute.
    #[inline]
    #[must_use]
    pub const fn is_no_execute(self) -> bool {
        self.0 & Self::N != 0
    }
}

/// The state that MSR\[PR\] gives an access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PrivilegeState {
    /// PR=0.
    Privileged,
    /// PR=1.
    Problem,
}

impl core::fmt::Debug for Asdr {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Asdr({:#018x})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_seen_on_the_machine() {
        let vrma = Asdr::new(0x4001_ffff_ff00_0110);
        assert_eq!(vrma, Asdr::vrma(PageSize::P64K));
        assert_eq!(vrma.vsid(), VRMA_VSID);
        assert_eq!(vrma.segment(), SegmentSize::S1T);
        assert_eq!(vrma.base_page(), Some(PageSize::P64K));

        let user = Asdr::new(0x4000_1234_5600_0400);
        assert_eq!(user.vsid(), 0x12_3456);
        assert_eq!(user.base_page(), Some(PageSize::P4K));
        assert_eq!(user.key(PrivilegeState::Problem), SegmentKey::One);
        assert_eq!(user.key(PrivilegeState::Privileged), SegmentKey::Zero);

        let small = Asdr::new(0x6_5432_1110);
        assert_eq!(small.vsid(), 0x65_4321);
        assert_eq!(small.segment(), SegmentSize::S256M);
        assert_eq!(small.base_page(), Some(PageSize::P64K));
        assert_eq!(Asdr::new(0x777_7100).base_page(), Some(PageSize::P16M));
    }

    #[test]
    fn other_base_page_sizes_are_not_offered() {
        for llp in [0x10, 0x20, 0x30, 0x120, 0x130] {
            assert_eq!(Asdr::new(llp).base_page(), None, "{llp:#x}");
        }
    }
}
