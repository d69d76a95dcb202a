// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Recording stand-ins for the machine, for host tests.

extern crate std;

mod thread;
mod tlb;

pub use thread::{RecordingThread, ThreadStep};
pub use tlb::{RecordingTlb, Step};

/// A size or a number in a test: `all`, or `few` under Miri, which is some thousand times slower than
/// the machine.
#[must_use]
pub const fn unless_miri<T: Copy>(all: T, few: T) -> T {
    if cfg!(miri) { few } else { all }
}

/// A number of steps in a test: `all`, or an eighth of them under Miri, and at least two.
#[must_use]
pub const fn steps(all: usize) -> usize {
    unless_miri(all, all / 8 + 2)
}
