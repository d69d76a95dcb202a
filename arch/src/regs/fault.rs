// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the machine says of a storage fault: DSISR, HDSISR, and the cause bits of SRR1.

use crate::bits::ppc_bit;

bitflags::bitflags! {
    /// DSISR or HDSISR after a data storage interrupt (Power ISA 3.0B, Book III, Data Storage
    /// Interrupt). 32 bits: the manual's bits 32 to 63.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    #[repr(transparent)]
    pub struct Dsisr: u32 {
        /// No translation found.
        const NO_HPTE = 0x4000_0000;
        /// Found, and not permitted by PP and the segment's key.
        const PROTECTION = 0x0800_0000;
        /// The access was a store.
        const STORE = 0x0200_0000;
        /// A data address watchpoint matched.
        const DAWR = 0x0040_0000;
        /// Not permitted by the virtual page class key.
        const KEY = 0x0020_0000;
        const _ = !0;
    }
}

bitflags::bitflags! {
    /// The cause bits of SRR1 or HSRR1 (Power ISA 3.0B, Book III, Instruction Storage Interrupt,
    /// Program Interrupt).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    #[repr(transparent)]
    pub struct Srr1: u64 {
        /// Fetch: no translation found.
        const NO_HPTE = ppc_bit(33);
        /// Fetch from no-execute or guarded storage.
        const NO_EXEC_GUARD = ppc_bit(35);
        /// Fetch: not permitted by PP and the segment's key.
        const PROTECTION = ppc_bit(36);
        /// Fetch: not permitted by the virtual page class key.
        const KEY = ppc_bit(42);
        /// Program interrupt: floating-point enabled exception.
        const PROGRAM_FP = ppc_bit(43);
        /// Program interrupt: illegal instruction.
        const PROGRAM_ILLEGAL = ppc_bit(44);
        /// Program interrupt: privileged instruction.
        const PROGRAM_PRIVILEGED = ppc_bit(45);
        /// Program interrupt: trap.
        const PROGRAM_TRAP = ppc_bit(46);
        const _ = !0;
    }
}

impl Srr1 {
    /// Bits of SRR1 that say why, and are no part of the interrupted MSR: 33 to 36 and 42 to 47.
    pub const CAUSE: u64 = crate::bits::ppc_mask(33, 36) | crate::bits::ppc_mask(42, 47);
}

const _: () = assert!(Srr1::NO_HPTE.bits() == 0x4000_0000);
const _: () = assert!(Srr1::NO_EXEC_GUARD.bits() == 0x1000_0000);
const _: () = assert!(Srr1::PROGRAM_ILLEGAL.bits() == 0x8_0000);
const _: () = assert!(Srr1::PROGRAM_PRIVILEGED.bits() == 0x4_0000);

/// What a machine check is about, as far as it can be repaired (POWER9 and POWER10 Processor User's
/// Manual, Machine Check Interrupt).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MachineCheckCause {
    /// Two SLB entries for one address, or a damaged one: gone with the SLB's contents.
    Slb,
    /// Two ERAT or TLB entries for one address: gone with a flush of the thread's translations.
    Translation,
    /// Memory, the bus, or what is not known.
    Other,
}

impl MachineCheckCause {
    /// Reads SRR1 and DSISR of a machine check.
    #[must_use]
    pub const fn decode(srr1: u64, dsisr: u64) -> Self {
        // Bit 42: a load or store was the cause, and DSISR says which.
        if srr1 & ppc_bit(42) != 0 {
            return if dsisr & 0x180 != 0 {
                Self::Slb
            } else if dsisr & 0xc00 != 0 {
                Self::Translation
            } else {
                Self::Other
            };
        }
        // Otherwise a fetch, by bits 43:45 with bit 36 clear.
        if srr1 & ppc_bit(36) != 0 {
            return Self::Other;
        }
        match (srr1 >> 18) & 7 {
            2 | 3 => Self::Slb,
            4 | 5 => Self::Translation,
            _ => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machine_check_causes() {
        let data = 0x0020_0000;
        assert_eq!(
            MachineCheckCause::decode(data, 0x80),
            MachineCheckCause::Slb
        );
        assert_eq!(
            MachineCheckCause::decode(data, 0x100),
            MachineCheckCause::Slb
        );
        assert_eq!(
            MachineCheckCause::decode(data, 0x400),
            MachineCheckCause::Translation
        );
        assert_eq!(
            MachineCheckCause::decode(data, 0x800),
            MachineCheckCause::Translation
        );
        // QEMU's answer to an address without memory.
        assert_eq!(
            MachineCheckCause::decode(data, 0x40),
            MachineCheckCause::Other
        );
        assert_eq!(
            MachineCheckCause::decode(0x0008_0000, 0),
            MachineCheckCause::Slb
        );
        assert_eq!(
            MachineCheckCause::decode(0x000c_0000, 0),
            MachineCheckCause::Slb
        );
        assert_eq!(
            MachineCheckCause::decode(0x0010_0000, 0),
            MachineCheckCause::Translation
        );
        assert_eq!(
            MachineCheckCause::decode(0x0804_0000, 0),
            MachineCheckCause::Other
        );
        assert_eq!(MachineCheckCause::decode(0, 0), MachineCheckCause::Other);
    }
}
