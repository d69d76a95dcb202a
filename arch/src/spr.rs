// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Reading and writing special purpose registers, one instruction each.

// UNSAFETY: inline assembly is the only way to a special purpose register.
#![expect(unsafe_code)]

use core::arch::asm;

/// Reads the register of number `N`.
#[inline(always)]
#[must_use]
pub fn read<const N: u16>() -> u64 {
    let value: u64;
    // SAFETY: mfspr changes nothing but its target. A number that does not exist raises an
    // interrupt that ends the hypervisor; all numbers come from `regs::sprn`.
    unsafe {
        asm!("mfspr {}, {}", out(reg) value, const N, options(nomem, nostack, preserves_flags))
    };
    value
}

/// Writes the register of number `N`.
///
/// # Safety
/// The register's effect on the running hypervisor, or on the guest that is loaded, must be wanted:
/// translation, interrupts and partition identity hang on some of them.
#[inline(always)]
pub unsafe fn write<const N: u16>(value: u64) {
    // SAFETY: the caller answers for the effect. Memory is clobbered, so that accesses are not
    // moved across a change of context.
    unsafe { asm!("mtspr {}, {}", const N, in(reg) value, options(nostack, preserves_flags)) };
}

/// The time base: 512 MHz on every machine that Penstock knows; the device tree says.
#[inline(always)]
#[must_use]
pub fn timebase() -> u64 {
    read::<{ crate::regs::sprn::TB }>()
}

/// The machine state register.
#[inline(always)]
#[must_use]
pub fn msr() -> u64 {
    let value: u64;
    // SAFETY: mfmsr changes nothing but its target.
    unsafe { asm!("mfmsr {}", out(reg) value, options(nomem, nostack, preserves_flags)) };
    value
}

/// Sets MSR\[ME\]: machine checks are taken from now on instead of stopping the machine.
///
/// mtmsrd leaves ME alone (Power ISA 3.0B, Book III, Move To MSR Doubleword), so this returns from
/// an interrupt that never was.
///
/// # Safety
/// The vector at 0x200 must be ours and ready.
pub unsafe fn enable_machine_check() {
    let value = msr() | crate::regs::Msr::ME.bits() | crate::regs::Msr::RI.bits();
    // SAFETY: only ME and RI change, and the caller has installed the handler; execution goes on
    // behind the hrfid.
    unsafe {
        asm!(
            "bcl 20, 31, 2f",
            "2: mflr {at}",
            "addi {at}, {at}, 3f - 2b",
            "mtspr {hsrr0}, {at}",
            "mtspr {hsrr1}, {msr}",
            "hrfid",
            "3:",
            at = out(reg_nonzero) _,
            msr = in(reg) value,
            hsrr0 = const crate::regs::sprn::HSRR0,
            hsrr1 = const crate::regs::sprn::HSRR1,
            out("lr") _,
            options(nostack, preserves_flags)
        );
    }
}

/// A random number of the hardware generator, conditioned to 64 bits; `None` where `darn` has
/// none at the moment (Power ISA 3.0B, Book I, Deliver A Random Number).
#[inline]
#[must_use]
pub fn random() -> Option<u64> {
    let value: u64;
    // SAFETY: darn changes nothing but its target.
    unsafe { asm!("darn {}, 1", out(reg) value, options(nomem, nostack, preserves_flags)) };
    (value != u64::MAX).then_some(value)
}
