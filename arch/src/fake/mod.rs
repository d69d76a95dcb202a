// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Recording stand-ins for the machine, for host tests.

extern crate std;

mod tlb;

pub use tlb::{RecordingTlb, Step};
