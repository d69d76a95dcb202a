// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Recording stand-ins for the machine, for host tests.

extern crate std;

mod thread;
mod tlb;

pub use thread::{RecordingThread, ThreadStep};
pub use tlb::{RecordingTlb, Step};
