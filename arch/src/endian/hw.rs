// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Byte-reversed accesses by the processor's own instructions.
//!
//! Each is one access, which the machine orders like any other relaxed one. The compiler has these
//! instructions too, but not for atomic accesses, where it reverses in registers by a dozen.

// UNSAFETY: byte-reversed accesses to shared doublewords exist only as assembly.
#![expect(unsafe_code)]

use core::arch::asm;
use core::sync::atomic::AtomicU64;

/// Loads the big-endian doubleword.
#[inline(always)]
pub fn load(cell: &AtomicU64) -> u64 {
    let value;
    // SAFETY: a valid, aligned doubleword; nothing is written.
    unsafe {
        asm!("ldbrx {}, 0, {}", out(reg) value, in(reg) cell.as_ptr(),
            options(nostack, preserves_flags, readonly));
    }
    value
}

/// Stores `value` as a big-endian doubleword.
#[inline(always)]
pub fn store(cell: &AtomicU64, value: u64) {
    // SAFETY: a valid, aligned doubleword that changes through shared references.
    unsafe {
        asm!("stdbrx {}, 0, {}", in(reg) value, in(reg) cell.as_ptr(),
            options(nostack, preserves_flags));
    }
}

/// Stores one byte of the eight, counted modulo eight from the first in memory, and touches no
/// other.
#[inline(always)]
pub fn store_byte(cell: &AtomicU64, byte: usize, value: u8) {
    // SAFETY: within a valid doubleword that changes through shared references.
    unsafe {
        asm!("stbx {}, {}, {}", in(reg) u64::from(value), in(reg_nonzero) cell.as_ptr(),
            in(reg) byte & 7, options(nostack, preserves_flags));
    }
}
