// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Memory: host frames, guest memory, and a partition's hashed page table.
//!
//! Penstock owns every partition's real page table and, beside it, a reverse map with what the
//! guest wrote. [`hpt::HashMmu`] is one partition's: it serves the page table hcalls of PAPR,
//! resolves hypervisor storage interrupts, and keeps the virtualized real mode area.
//! [`guest_memory::GuestMemory`] is the only way to a guest's bytes, and [`frame`] gives out host
//! memory at start and takes it back at the end of a partition. Partitions whose memory may be
//! overcommitted take frames of a [`pool`]; nothing else here allocates.
//!
//! The crate knows no firmware and prints nothing. What only a processor can do comes in through
//! [`page_ops::Machine`], so that everything here runs on the host under a recording machine.
//! Raw memory is in [`real`] and nowhere else.
#![no_std]

#[cfg(any(test, feature = "fake"))]
pub mod fake;
pub mod frame;
pub mod guest_memory;
pub mod hpt;
pub mod page_ops;
pub mod partition_table;
pub mod pool;
pub mod real;
pub mod slot;
pub mod status;
pub mod stream;
