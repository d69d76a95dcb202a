// SPDX-License-Identifier: Apache-2.0 OR MIT
//! How the emulated firmware touches guest memory: copies in and out, never references.
//!
//! RTAS blocks, NVRAM buffers and virtual processor areas are big-endian data at addresses that a
//! guest chose. The implementer populates, breaks sharing and marks pages as changed; here only
//! the byte order and the size of an access are known. Nothing read is ever trusted to stay the
//! same: every value is read once and then used from the copy.

use penstock_arch::addr::GuestReal;

/// A range that is not, or not wholly, writable memory of the partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryFault {
    /// Where the refused access started.
    pub at: GuestReal,
}

impl core::fmt::Display for MemoryFault {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "no guest memory at {}", self.at)
    }
}

/// Guest memory by guest real address. An access is done whole or not at all; lengths are bounded
/// by the caller (at most 16 KiB).
pub trait GuestBytes {
    /// Whether the `bytes` bytes at `at` are memory that both [`read`](Self::read) and
    /// [`write`](Self::write) will accept.
    ///
    /// # Errors
    /// Some byte of the range is not guest memory, or the range wraps.
    fn check(&mut self, at: GuestReal, bytes: u64) -> Result<(), MemoryFault>;

    /// Copies guest memory at `at` into `into`.
    ///
    /// # Errors
    /// Some byte of the range is not guest memory; `into` is then unspecified.
    fn read(&mut self, at: GuestReal, into: &mut [u8]) -> Result<(), MemoryFault>;

    /// Copies `from` to guest memory at `at`. Other processors of the guest see the writes of
    /// several calls in the order of the calls.
    ///
    /// # Errors
    /// Some byte of the range is not guest memory; nothing was written.
    fn write(&mut self, at: GuestReal, from: &[u8]) -> Result<(), MemoryFault>;

    /// The big-endian halfword at `at`.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    fn read_be16(&mut self, at: GuestReal) -> Result<u16, MemoryFault> {
        let mut bytes = [0; 2];
        self.read(at, &mut bytes)?;
        Ok(u16::from_be_bytes(bytes))
    }

    /// The big-endian word at `at`.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    fn read_be32(&mut self, at: GuestReal) -> Result<u32, MemoryFault> {
        let mut bytes = [0; 4];
        self.read(at, &mut bytes)?;
        Ok(u32::from_be_bytes(bytes))
    }

    /// The big-endian doubleword at `at`.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    fn read_be64(&mut self, at: GuestReal) -> Result<u64, MemoryFault> {
        let mut bytes = [0; 8];
        self.read(at, &mut bytes)?;
        Ok(u64::from_be_bytes(bytes))
    }

    /// Stores `value` as a big-endian halfword at `at`.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    fn write_be16(&mut self, at: GuestReal, value: u16) -> Result<(), MemoryFault> {
        self.write(at, &value.to_be_bytes())
    }

    /// Stores `value` as a big-endian word at `at`.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    fn write_be32(&mut self, at: GuestReal, value: u32) -> Result<(), MemoryFault> {
        self.write(at, &value.to_be_bytes())
    }

    /// Stores `value` as a big-endian doubleword at `at`.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    fn write_be64(&mut self, at: GuestReal, value: u64) -> Result<(), MemoryFault> {
        self.write(at, &value.to_be_bytes())
    }
}
