// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The machine state register (Power ISA 3.0B, Book III, Machine State Register).

use crate::bits::ppc_bit;

bitflags::bitflags! {
    /// A value of the MSR, or of a save/restore register 1 that becomes one.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    #[repr(transparent)]
    pub struct Msr: u64 {
        /// Sixty-four-bit mode.
        const SF = ppc_bit(0);
        /// Hypervisor state (with PR clear).
        const HV = ppc_bit(3);
        /// Vector facility available.
        const VEC = ppc_bit(38);
        /// VSX facility available.
        const VSX = ppc_bit(40);
        /// External interrupts, decrementers and doorbells enabled.
        const EE = ppc_bit(48);
        /// Problem state.
        const PR = ppc_bit(49);
        /// Floating point available.
        const FP = ppc_bit(50);
        /// Machine check interrupts enabled.
        const ME = ppc_bit(51);
        /// Floating-point exception mode, first half.
        const FE0 = ppc_bit(52);
        /// Trace enable: both bits.
        const TE = ppc_bit(53) | ppc_bit(54);
        /// Floating-point exception mode, second half.
        const FE1 = ppc_bit(55);
        /// Instruction relocation.
        const IR = ppc_bit(58);
        /// Data relocation.
        const DR = ppc_bit(59);
        /// Performance monitor mark.
        const PMM = ppc_bit(61);
        /// Recoverable interrupt.
        const RI = ppc_bit(62);
        /// Little-endian mode.
        const LE = ppc_bit(63);
        // Reserved and transactional bits pass through unharmed.
        const _ = !0;
    }
}

impl Msr {
    /// What the hypervisor itself runs with: 64-bit hypervisor real mode, little-endian, machine
    /// checks taken, interrupts off.
    pub const HYPERVISOR: Self =
        Self::from_bits_retain(ppc_bit(0) | ppc_bit(3) | ppc_bit(51) | ppc_bit(62) | ppc_bit(63));

    /// What a PAPR partition's first instruction runs with: `SF | ME`, big-endian, real mode.
    pub const GUEST_START: Self = Self::from_bits_retain(ppc_bit(0) | ppc_bit(51));

    /// What a guest's own interrupt handler starts with
    /// (Power ISA 3.0B, Book III, Interrupt Definitions, MSR Setting): 64-bit, LE from
    /// LPCR\[ILE\], ME set, for a guest that lost it could never set it again and its next machine
    /// check would stop the machine; IR and DR stay on only where LPCR\[AIL\] applies, which the
    /// caller decides.
    #[must_use]
    pub const fn at_interrupt(endian: InterruptEndian, relocation: Self) -> Self {
        let le = match endian {
            InterruptEndian::Big => 0,
            InterruptEndian::Little => Self::LE.bits(),
        };
        Self::from_bits_retain(Self::SF.bits() | Self::ME.bits() | le | relocation.bits())
    }
}

/// The byte order in which a guest takes its interrupts: LPCR\[ILE\].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InterruptEndian {
    /// ILE=0.
    Big,
    /// ILE=1.
    Little,
}

const _: () = assert!(Msr::HYPERVISOR.bits() == 0x9000_0000_0000_1003);
const _: () = assert!(Msr::GUEST_START.bits() == 0x8000_0000_0000_1000);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interrupts_start_in_real_mode_with_everything_off() {
        assert_eq!(
            Msr::at_interrupt(InterruptEndian::Little, Msr::empty()).bits(),
            0x8000_0000_0000_1001
        );
        assert_eq!(
            Msr::at_interrupt(InterruptEndian::Big, Msr::IR | Msr::DR).bits(),
            0x8000_0000_0000_1030
        );
    }
}
