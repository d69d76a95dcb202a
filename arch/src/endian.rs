// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Doublewords that lie big-endian in memory.
//!
//! Registers are native; memory that the MMU, firmware or a PAPR guest reads is big-endian. A bare
//! `u64` never means the latter.

use core::sync::atomic::{AtomicU64, Ordering};

#[cfg(target_os = "none")]
mod hw;
#[cfg(target_os = "none")]
use hw as access;

#[cfg(not(target_os = "none"))]
mod host;
#[cfg(not(target_os = "none"))]
use host as access;

/// A big-endian doubleword in memory that processors and the MMU share, for hot paths: accesses are
/// relaxed, and what order they need is the caller's to make by fences.
#[derive(Debug, Default)]
#[repr(transparent)]
pub struct BeCell(AtomicU64);

const _: () = assert!(size_of::<BeCell>() == 8 && align_of::<BeCell>() == 8);

impl BeCell {
    /// `value` as it lies in big-endian memory: through memory, for that takes two instructions
    /// where a reversal in registers takes a dozen.
    #[inline]
    #[must_use]
    pub fn raw_of(value: u64) -> u64 {
        let cell = Self(AtomicU64::new(0));
        cell.store(value);
        cell.load_raw()
    }

    /// The value.
    #[inline]
    #[must_use]
    pub fn load(&self) -> u64 {
        access::load(&self.0)
    }

    /// The value as it lies in memory, for comparing with another such.
    #[inline]
    #[must_use]
    pub fn load_raw(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Stores `value`. What must be seen before needs a fence.
    #[inline]
    pub fn store(&self, value: u64) {
        access::store(&self.0, value);
    }

    /// Sets a bit; whether it was clear before. What follows happens after.
    #[inline]
    pub fn set_bit(&self, bit: u64) -> bool {
        self.0.fetch_or(bit.to_be(), Ordering::Acquire) & bit.to_be() == 0
    }

    /// Replaces 0 by `value`. What follows happens after.
    #[inline]
    #[must_use]
    pub fn replace_zero(&self, value: u64) -> bool {
        self.load_raw() == 0
            && self
                .0
                .compare_exchange(0, value.to_be(), Ordering::Acquire, Ordering::Relaxed)
                .is_ok()
    }

    /// Stores one byte of the eight, counted modulo eight from the first in memory, and touches no
    /// other.
    #[inline]
    pub fn store_byte(&self, byte: usize, value: u8) {
        access::store_byte(&self.0, byte, value);
    }
}

/// A big-endian doubleword in memory that other processors, or the MMU, read at any time.
#[derive(Debug, Default)]
#[repr(transparent)]
pub struct AtomicBe64(AtomicU64);

impl AtomicBe64 {
    /// A cell holding `value`.
    #[must_use]
    pub const fn new(value: u64) -> Self {
        Self(AtomicU64::new(value.to_be()))
    }

    /// The value in the processor's byte order.
    #[must_use]
    pub fn load(&self, order: Ordering) -> u64 {
        u64::from_be(self.0.load(order))
    }

    /// Stores `value` in the processor's byte order as big-endian bytes.
    pub fn store(&self, value: u64, order: Ordering) {
        self.0.store(value.to_be(), order);
    }

    /// Replaces `current` by `new`; `Err` holds the value found instead.
    ///
    /// # Errors
    /// The cell did not hold `current`.
    pub fn compare_exchange(
        &self,
        current: u64,
        new: u64,
        success: Ordering,
        failure: Ordering,
    ) -> Result<u64, u64> {
        self.0
            .compare_exchange(current.to_be(), new.to_be(), success, failure)
            .map(u64::from_be)
            .map_err(u64::from_be)
    }
}

const _: () = assert!(size_of::<AtomicBe64>() == 8 && align_of::<AtomicBe64>() == 8);

/// A big-endian doubleword as plain data, for parameters of OPAL calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct Be64(u64);

impl Be64 {
    /// The doubleword with this value.
    #[must_use]
    pub const fn new(value: u64) -> Self {
        Self(value.to_be())
    }

    /// The value in the processor's byte order.
    #[must_use]
    pub const fn get(self) -> u64 {
        u64::from_be(self.0)
    }
}

/// A big-endian word as plain data, for parameters of OPAL calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct Be32(u32);

impl Be32 {
    /// The word with this value.
    #[must_use]
    pub const fn new(value: u32) -> Self {
        Self(value.to_be())
    }

    /// The value in the processor's byte order.
    #[must_use]
    pub const fn get(self) -> u32 {
        u32::from_be(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_holds_the_most_significant_byte_first() {
        let cell = AtomicBe64::new(0x0102_0304_0506_0708);
        assert_eq!(
            cell.0.load(Ordering::Relaxed).to_ne_bytes(),
            [1, 2, 3, 4, 5, 6, 7, 8]
        );
        assert_eq!(cell.load(Ordering::Relaxed), 0x0102_0304_0506_0708);
        assert_eq!(
            cell.compare_exchange(0, 1, Ordering::AcqRel, Ordering::Acquire),
            Err(0x0102_0304_0506_0708)
        );
        assert_eq!(Be32::new(1).0.to_ne_bytes(), [0, 0, 0, 1]);
        assert_eq!(Be64::new(7).get(), 7);
    }

    #[test]
    fn cells_load_and_store_what_the_mmu_sees() {
        let cell = BeCell::default();
        cell.store(0x0102_0304_0506_0708);
        assert_eq!(cell.load_raw().to_ne_bytes(), [1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(cell.load(), 0x0102_0304_0506_0708);
        assert_eq!(BeCell::raw_of(cell.load()), cell.load_raw());
        cell.store_byte(6, 0xff);
        assert_eq!(cell.load(), 0x0102_0304_0506_ff08);
        assert!(cell.set_bit(0x10));
        assert!(!cell.set_bit(0x10));
        assert_eq!(cell.load(), 0x0102_0304_0506_ff18);
        assert!(!cell.replace_zero(1));
        cell.store(0);
        assert!(cell.replace_zero(1));
        assert_eq!(cell.load(), 1);
    }
}
