// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The registers as typed values; reading and writing them is `spr`'s business.

pub mod fault;
pub mod hfscr;
pub mod lpcr;
pub mod msr;
pub mod pvr;
pub mod sprn;
pub mod vcpu_spr;

pub use fault::{Dsisr, MachineCheckCause, Srr1};
pub use hfscr::Hfscr;
pub use lpcr::Lpcr;
pub use msr::Msr;
pub use pvr::{Processor, Pvr};
pub use vcpu_spr::{HDSISR_CANARY, VcpuSpr};
