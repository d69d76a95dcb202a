// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Single instructions: time base, decrementer, MSR[EE], segment entries, caches, vector registers.
//!
//! Power ISA 3.0B, Book II and III. The runtime itself always runs in real mode, so that nothing
//! here that changes translation can pull memory away from under Rust code.

// UNSAFETY: every function is one or two instructions that Rust cannot express.
#![expect(unsafe_code)]

use core::arch::asm;

unsafe extern "C" {
    fn rt_vsx_load(values: *const [u64; 2]);
    fn rt_vsx_store(values: *mut [u64; 2]);
    fn rt_fpscr() -> u64;
}

/// How many processors the runtime serves.
pub const PROCESSORS: usize = 2;

/// The number of this processor, 0 or 1, which its entry code has put into r13: the ABI's thread
/// pointer, which nothing else uses here.
#[must_use]
#[inline]
pub fn number() -> usize {
    let value: usize;
    // SAFETY: reads a register.
    unsafe { asm!("mr {}, 13", out(reg) value, options(nomem, nostack, preserves_flags)) };
    value & 1
}

/// The values of the 64 vector-scalar registers: lower and upper doubleword.
pub type VectorRegisters = [[u64; 2]; 64];

/// The time base, in ticks.
#[must_use]
#[inline]
pub fn timebase() -> u64 {
    let value: u64;
    // SAFETY: reads a register.
    unsafe { asm!("mfspr {}, 268", out(reg) value, options(nomem, nostack, preserves_flags)) };
    value
}

/// Executes a no-operation that nothing else executes, so that who watches the machine knows that the
/// guest has come here.
pub fn mark() {
    // SAFETY: does nothing.
    unsafe { asm!("xori 0, 0, 0", options(nomem, nostack, preserves_flags)) };
}

/// The decrementer.
#[must_use]
pub fn decrementer() -> u64 {
    let value: u64;
    // SAFETY: reads a register.
    unsafe { asm!("mfspr {}, 22", out(reg) value, options(nomem, nostack, preserves_flags)) };
    value
}

/// Sets the decrementer, in ticks; an interrupt comes when it is negative and MSR[EE] is on.
pub fn set_decrementer(ticks: u64) {
    // SAFETY: an interrupt that follows ends the running check and nothing else.
    unsafe { asm!("mtspr 22, {}", in(reg) ticks, options(nostack, preserves_flags)) };
}

/// The machine state register.
#[must_use]
pub fn msr() -> u64 {
    let value: u64;
    // SAFETY: reads a register.
    unsafe { asm!("mfmsr {}", out(reg) value, options(nomem, nostack, preserves_flags)) };
    value
}

/// The processor version register.
#[must_use]
pub fn pvr() -> u64 {
    let value: u64;
    // SAFETY: reads a register.
    unsafe { asm!("mfspr {}, 287", out(reg) value, options(nomem, nostack, preserves_flags)) };
    value
}

/// Lets external and decrementer interrupts in; each ends the running check.
pub fn enable_interrupts() {
    // SAFETY: changes EE and RI only; the vectors are in place.
    unsafe { asm!("mtmsrd {}, 1", in(reg) 0x8002u64, options(nostack, preserves_flags)) };
}

/// Keeps external and decrementer interrupts out.
pub fn disable_interrupts() {
    // SAFETY: changes EE and RI only.
    unsafe { asm!("mtmsrd {}, 1", in(reg) 2u64, options(nostack, preserves_flags)) };
}

/// Writes the authority mask register: two bits for each storage key, 01 no reads, 10 no writes.
pub fn set_amr(value: u64) {
    // SAFETY: real-mode accesses ignore keys.
    unsafe { asm!("mtspr 29, {}", "isync", in(reg) value, options(nostack, preserves_flags)) };
}

/// The authority mask register, with what the hypervisor let through of the last write.
#[must_use]
pub fn amr() -> u64 {
    let value: u64;
    // SAFETY: reads a register.
    unsafe { asm!("mfspr {}, 29", out(reg) value, options(nomem, nostack, preserves_flags)) };
    value
}

/// SPRG0, which H_SET_SPRG0 writes.
#[must_use]
pub fn sprg0() -> u64 {
    let value: u64;
    // SAFETY: reads a register.
    unsafe { asm!("mfspr {}, 272", out(reg) value, options(nomem, nostack, preserves_flags)) };
    value
}

/// Writes one segment entry: RS and RB of slbmte.
pub fn set_segment(vsid: u64, esid: u64) {
    // SAFETY: the runtime runs in real mode, where segment entries have no effect.
    unsafe {
        asm!("isync", "slbmte {}, {}", "isync", in(reg) vsid, in(reg) esid,
             options(nostack, preserves_flags));
    };
}

/// A segment entry: what slbmfev and slbmfee give.
#[must_use]
pub fn segment(entry: u64) -> (u64, u64) {
    let (vsid, esid): (u64, u64);
    // SAFETY: reads an entry of the SLB, which has as many as the caller's number says.
    unsafe {
        asm!("slbmfev {v}, {n}", "slbmfee {e}, {n}", v = out(reg) vsid, e = out(reg) esid,
             n = in(reg) entry, options(nomem, nostack, preserves_flags));
    };
    (vsid, esid)
}

/// Drops every segment entry, slot 0 too, and what the processor derived from them.
pub fn clear_segments() {
    // SAFETY: as in set_segment.
    unsafe {
        asm!("isync", "slbmte {0}, {0}", "slbia", "isync", in(reg) 0u64,
             options(nostack, preserves_flags));
    };
}

/// Makes the instructions that were just stored at `address` fetchable.
pub fn synchronize_instructions(address: u64, bytes: u64) {
    let mut at = address & !127;
    while at < address.saturating_add(bytes) {
        // SAFETY: cache maintenance of a line that was just stored to.
        unsafe { asm!("dcbst 0, {0}", "sync", "icbi 0, {0}", in(reg) at, options(nostack)) };
        at = at.saturating_add(128);
    }
    // SAFETY: a barrier.
    unsafe { asm!("sync", "isync", options(nostack)) };
}

/// Waits until every earlier store is performed.
pub fn sync() {
    // SAFETY: a barrier.
    unsafe { asm!("sync", options(nostack)) };
}

/// Loads all vector-scalar registers. Rust code of this target never uses them.
pub fn load_vector_registers(values: &VectorRegisters) {
    // SAFETY: reads 64 values of 16 bytes.
    unsafe { rt_vsx_load(values.as_ptr()) };
}

/// The contents of all vector-scalar registers.
pub fn store_vector_registers(values: &mut VectorRegisters) {
    // SAFETY: writes 64 values of 16 bytes.
    unsafe { rt_vsx_store(values.as_mut_ptr()) };
}

/// The floating-point status and control register.
#[must_use]
pub fn fpscr() -> u64 {
    // SAFETY: touches f0 only, and restores it.
    unsafe { rt_fpscr() }
}

/// The hypervisor call: number and r4 to r12 in, r3 to r11 out.
pub fn hcall_raw(registers: &mut [u64; 10]) {
    unsafe extern "C" {
        fn rt_hcall(registers: *mut u64);
    }
    // SAFETY: ten doublewords are read and nine written. A call that asks the hypervisor to write
    // to this program's own memory ends this program's sense, not its host's.
    unsafe { rt_hcall(registers.as_mut_ptr()) };
}
