// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The guest that runs when there is no partition tree.
//!
//! `build.rs` embeds the ELF file that `PENSTOCK_BUILTIN_GUEST` names; a build without it has no
//! built-in guest and says so.

/// The built-in guest's ELF file, or nothing.
pub static IMAGE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/builtin-guest"));
