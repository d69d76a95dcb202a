// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Interrupts that the hypervisor gives to a guest.
//!
//! What the processor would have done (Power ISA 3.0B, Book III, Interrupt Processing): SRR0 and
//! SRR1 hold where and how the guest was interrupted, the MSR is that of an interrupt handler, and
//! execution goes on at the vector, which LPCR\[AIL\] moves for a guest with translation on.

#[cfg(test)]
mod tests;

use crate::platform::{GuestRegister, Platform};
use crate::vcpu::Vcpu;
use penstock_arch::regs::{Dsisr, Lpcr, Msr, Srr1};

/// Vectors that the hypervisor delivers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vector {
    /// System reset.
    SystemReset,
    /// Machine check.
    MachineCheck,
    /// Data storage.
    DataStorage,
    /// Instruction storage.
    InstructionStorage,
    /// Program.
    Program,
}

impl Vector {
    const fn offset(self) -> u64 {
        match self {
            Self::SystemReset => 0x100,
            Self::MachineCheck => 0x200,
            Self::DataStorage => 0x300,
            Self::InstructionStorage => 0x400,
            Self::Program => 0x700,
        }
    }

    /// Where LPCR\[AIL\] = 3 moves a vector.
    const AIL3: u64 = 0xc000_0000_0000_4000;
}

/// Delivers an interrupt: `cause` goes into SRR1 beside the interrupted MSR.
#[inline]
pub fn deliver<P: Platform>(vcpu: &mut Vcpu<P>, vector: Vector, cause: Srr1) {
    let interrupted = Msr::from_bits_retain(vcpu.ctx.msr & !Srr1::CAUSE);
    P::set_guest_register(GuestRegister::Srr0, vcpu.ctx.pc);
    P::set_guest_register(GuestRegister::Srr1, interrupted.bits() | cause.bits());
    let relocated = Msr::IR | Msr::DR;
    // These two are never moved.
    let fixed = matches!(vector, Vector::SystemReset | Vector::MachineCheck);
    let moved = vcpu.lpcr.contains(Lpcr::AIL3) && interrupted.contains(relocated) && !fixed;
    let (base, relocation) = if moved {
        (Vector::AIL3, relocated)
    } else {
        (0, Msr::empty())
    };
    let msr = Msr::at_interrupt(vcpu.lpcr.interrupt_endian(), relocation);
    vcpu.ctx.pc = base + vector.offset();
    vcpu.ctx.msr = msr.bits();
}

/// Delivers a data storage interrupt at `address`.
#[inline]
pub fn data_storage<P: Platform>(vcpu: &mut Vcpu<P>, address: u64, dsisr: Dsisr) {
    P::set_guest_register(GuestRegister::Dar, address);
    P::set_guest_register(GuestRegister::Dsisr, u64::from(dsisr.bits()));
    deliver(vcpu, Vector::DataStorage, Srr1::empty());
}
