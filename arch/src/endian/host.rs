// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The same accesses on a host, for tests: relaxed, and free of undefined behaviour.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Loads the big-endian doubleword.
#[inline]
pub fn load(cell: &AtomicU64) -> u64 {
    u64::from_be(cell.load(Relaxed))
}

/// Stores `value` as a big-endian doubleword.
#[inline]
pub fn store(cell: &AtomicU64, value: u64) {
    cell.store(value.to_be(), Relaxed);
}

/// Stores one byte of the eight, counted modulo eight from the first in memory, and touches no
/// other.
pub fn store_byte(cell: &AtomicU64, byte: usize, value: u8) {
    let replace = |old: u64| {
        let mut bytes = old.to_ne_bytes();
        if let Some(at) = bytes.get_mut(byte & 7) {
            *at = value;
        }
        Some(u64::from_ne_bytes(bytes))
    };
    // The closure always has a value, so this always stores.
    let _ = cell.fetch_update(Relaxed, Relaxed, replace);
}
