// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A runtime for tiny PAPR kernels: what the test guests stand on.
//!
//! A PAPR guest that boots directly from a flattened device tree gets control at its entry point in
//! real mode, big-endian, with r3 = the tree and r5 = 0. This crate brings it from there to Rust
//! (`start`), gives it a console, hcalls and RTAS, and one instrument that nearly every check
//! uses: `context::Context`, which runs a few instructions with chosen registers and MSR until
//! the next interrupt and then shows all registers and the interrupt's.
//!
//! It shares no code with the hypervisor on purpose: formats and numbers are written down here a
//! second time, from the manuals, so that a mistake there is not repeated here.
//!
//! The parts that need a POWER processor exist only for the bare-metal target (`target_os =
//! "none"`); the pure ones build and are tested on every host.
#![no_std]

#[cfg(target_os = "none")]
pub mod clock;
#[cfg(target_os = "none")]
pub mod console;
#[cfg(target_os = "none")]
pub mod context;
#[cfg(target_os = "none")]
pub mod cpu;
pub mod fdt;
#[cfg(target_os = "none")]
pub mod hcall;
pub mod hpt;
pub mod insn;
#[cfg(target_os = "none")]
pub mod memory;
#[cfg(target_os = "none")]
pub mod mmu;
pub mod number;
#[cfg(target_os = "none")]
pub mod rtas;
#[cfg(target_os = "none")]
pub mod second;
#[cfg(target_os = "none")]
pub mod start;
#[cfg(target_os = "none")]
pub mod suite;
