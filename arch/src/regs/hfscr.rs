// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The hypervisor facility status and control register (Power ISA 3.0B, Book III, Facility
//! Control Registers).

use crate::bits::ppc_bit;

bitflags::bitflags! {
    /// The facilities that a guest may use without asking.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    #[repr(transparent)]
    pub struct Hfscr: u64 {
        /// Prefixed instructions (ISA 3.1).
        const PREFIX = ppc_bit(50);
        /// Privileged doorbells.
        const MSGP = ppc_bit(53);
        /// Target address register.
        const TAR = ppc_bit(55);
        /// Event-based branches.
        const EBB = ppc_bit(56);
        /// Transactional memory.
        const TM = ppc_bit(58);
        /// Branch history rolling buffer.
        const BHRB = ppc_bit(59);
        /// Performance monitor.
        const PM = ppc_bit(60);
        /// Data stream control register.
        const DSCR = ppc_bit(61);
        /// Vector and VSX.
        const VECVSX = ppc_bit(62);
        /// Floating point.
        const FP = ppc_bit(63);
        const _ = !0;
    }
}

impl Hfscr {
    /// What a partition of one thread gets: no transactional memory (design decision 18), and no
    /// privileged doorbells, which only siblings of a core could use.
    pub const GUEST: Self = Self::FP
        .union(Self::VECVSX)
        .union(Self::DSCR)
        .union(Self::PM)
        .union(Self::BHRB)
        .union(Self::EBB)
        .union(Self::TAR)
        .union(Self::PREFIX);

    /// The facility whose use raised the last hypervisor facility unavailable interrupt.
    #[must_use]
    pub const fn interruption_cause(self) -> u8 {
        self.bits().to_be_bytes()[0]
    }
}
