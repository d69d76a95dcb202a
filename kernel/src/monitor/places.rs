// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Where virtual processors run, as `dominfo` and `stats NAME` show it.

use super::report::property;
use alloc::format;
use core::fmt;

/// Where a virtual processor runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VcpuRow {
    /// Its number.
    pub server: usize,
    /// The number of its thread.
    pub thread: usize,
    /// How often that has changed since its partition was started.
    pub moves: u64,
    /// Time of its turns since then, milliseconds.
    pub cpu_time_ms: u64,
}

/// Writes a line for each virtual processor.
///
/// # Errors
/// Those of `out`.
pub fn write_places(out: &mut impl fmt::Write, places: &[VcpuRow]) -> fmt::Result {
    places.iter().try_for_each(|row| {
        let (seconds, rest) = (row.cpu_time_ms / 1000, row.cpu_time_ms % 1000);
        property(
            out,
            &format!("CPU {}", row.server),
            format_args!(
                "thread {}, {seconds}.{rest:03} s, moved {} times",
                row.thread, row.moves
            ),
        )
    })
}
