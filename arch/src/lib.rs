// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the Power ISA says, and the only general-purpose assembly of Penstock.
//!
//! This crate knows registers, instruction wrappers, the architected formats of the hash MMU and
//! the exception entry code. It knows nothing of partitions, PAPR or policy. Formats are pure and
//! build on every host; what needs a POWER processor stands behind `cfg(target_os = "none")`,
//! decided here and nowhere else.
//!
//! Bit numbers in comments are the manual's: bit 0 is the most significant ([`bits::ppc_bit`]).
#![no_std]

pub mod addr;
pub mod bits;
pub mod context;
pub mod endian;
pub mod hash;
pub mod hcall_log;
pub mod regs;
pub mod switch;
pub mod tlb;
pub mod wait;

#[cfg(any(test, feature = "fake"))]
pub mod fake;

#[cfg(target_os = "none")]
pub mod entry;
#[cfg(target_os = "none")]
pub mod hw_thread;
#[cfg(target_os = "none")]
pub mod hw_tlb;
#[cfg(target_os = "none")]
pub mod mmio;
#[cfg(target_os = "none")]
pub mod spr;
#[cfg(target_os = "none")]
pub mod sync;
