// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Everything between the firmware and the hypervisor.
//!
//! From the first instruction that skiboot lets us run (`head`) over OPAL calls ([`opal`]) to
//! what the machine consists of ([`fdt`], [`memmap`]). Parsers are pure and run on every host.
#![no_std]

pub mod bootinfo;
pub mod fdt;
pub mod flat_tree;
pub mod memmap;
pub mod opal;

#[cfg(target_os = "none")]
pub mod head;
#[cfg(target_os = "none")]
pub mod secondary;
