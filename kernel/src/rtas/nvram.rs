// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A partition's NVRAM: an array of bytes, formatted as a new machine's, kept in memory only.
//!
//! It lives as long as the partition's definition: a reboot of the guest keeps it, a restart of
//! the hypervisor does not. The layout is the one that an operating system expects to find at its
//! first installation: the system partition `common`, empty, and free space of more than 4 KiB.
//!
//! LoPAR, Non-Volatile Memory (Structure, Signatures); LoPAR, NVRAM Requirements.

use super::memory::GuestBytes;
use super::status;
use alloc::boxed::Box;
use alloc::vec;
use penstock_arch::addr::GuestReal;

/// Size of a partition's NVRAM, for the property `#bytes`. LoPAR asks for 8 KiB at least.
pub const NVRAM_BYTES: usize = 0x4000;
const BLOCK: usize = 16;
const HEADER: usize = 16;
const COMMON_BYTES: usize = 0x1000;
const SIGNATURE_SYSTEM: u8 = 0x70;
const SIGNATURE_FREE: u8 = 0x7f;

/// The bytes that `nvram-fetch` and `nvram-store` see.
#[derive(Debug)]
pub struct Nvram {
    bytes: Box<[u8]>,
}

impl Nvram {
    /// Formatted NVRAM. Allocates [`NVRAM_BYTES`].
    #[must_use]
    pub fn new() -> Self {
        let mut bytes = vec![0; NVRAM_BYTES].into_boxed_slice();
        let (common, free) = bytes.split_at_mut(COMMON_BYTES);
        format(common, SIGNATURE_SYSTEM, *b"common\0\0\0\0\0\0");
        format(free, SIGNATURE_FREE, [0x77; 12]);
        Self { bytes }
    }

    /// `nvram-fetch`: copies `length` bytes from `index` on to guest memory at `buffer`. The
    /// status and the number of bytes copied.
    pub fn fetch<M: GuestBytes>(
        &self,
        [index, buffer, length]: [u32; 3],
        memory: &mut M,
    ) -> (i32, u32) {
        let Some(bytes) = span(index, length).and_then(|span| self.bytes.get(span)) else {
            return (status::PARAMETER, 0);
        };
        match memory.write(GuestReal::new(u64::from(buffer)), bytes) {
            Ok(()) => (status::SUCCESS, length),
            Err(_) => (status::PARAMETER, 0),
        }
    }

    /// `nvram-store`: copies `length` bytes of guest memory at `buffer` to `index` on. The status
    /// and the number of bytes copied; nothing is stored when the status is not 0.
    pub fn store<M: GuestBytes>(
        &mut self,
        [index, buffer, length]: [u32; 3],
        memory: &mut M,
    ) -> (i32, u32) {
        let buffer = GuestReal::new(u64::from(buffer));
        let Some(bytes) = span(index, length).and_then(|span| self.bytes.get_mut(span)) else {
            return (status::PARAMETER, 0);
        };
        let copied = memory
            .check(buffer, u64::from(length))
            .and_then(|()| memory.read(buffer, bytes));
        match copied {
            Ok(()) => (status::SUCCESS, length),
            Err(_) => (status::PARAMETER, 0),
        }
    }
}

impl Default for Nvram {
    fn default() -> Self {
        Self::new()
    }
}

/// The bytes `index..index + length`, as far as numbers go; the slice decides whether they exist.
fn span(index: u32, length: u32) -> Option<core::ops::Range<usize>> {
    let start = usize::try_from(index).ok()?;
    Some(start..start.checked_add(usize::try_from(length).ok()?)?)
}

/// Writes the header of an NVRAM partition that fills `partition`.
fn format(partition: &mut [u8], signature: u8, name: [u8; 12]) {
    let blocks = u16::try_from(partition.len() / BLOCK)
        .unwrap_or(u16::MAX)
        .to_be_bytes();
    let mut header = [0; HEADER];
    header[0] = signature;
    header[2..4].copy_from_slice(&blocks);
    header[4..].copy_from_slice(&name);
    header[1] = checksum(&header);
    if let Some(start) = partition.get_mut(..HEADER) {
        start.copy_from_slice(&header);
    }
}

/// Sum of a header's bytes but the checksum itself, each carry added back in.
fn checksum(header: &[u8; HEADER]) -> u8 {
    header
        .iter()
        .enumerate()
        .filter(|(i, _)| *i != 1)
        .fold(0_u8, |sum, (_, &byte)| {
            let (sum, carry) = sum.overflowing_add(byte);
            // After a carry the sum is at most 0xfe.
            sum.wrapping_add(u8::from(carry))
        })
}

const _: () = assert!(NVRAM_BYTES - COMMON_BYTES >= 0x1000 && COMMON_BYTES.is_multiple_of(BLOCK));
const _: () =
    assert!(NVRAM_BYTES.is_multiple_of(BLOCK) && NVRAM_BYTES / BLOCK <= u16::MAX as usize);

#[cfg(test)]
mod tests {
    use super::super::testing::{FakeMemory, HOLE, SIZE};
    use super::*;

    #[test]
    fn new_nvram_is_a_common_partition_and_free_space() {
        let nvram = Nvram::new();
        // 0x70 + 0x01 + "common" (0x289) = 0x2fa, carries added: 0xfc.
        assert_eq!(nvram.bytes[..16], *b"\x70\xfc\x01\x00common\0\0\0\0\0\0");
        // 0x7f + 0x03 + 12 * 0x77 (0x594) = 0x616, carries added: 0x1c.
        assert_eq!(
            nvram.bytes[0x1000..0x1010],
            *b"\x7f\x1c\x03\x00wwwwwwwwwwww"
        );
        assert_eq!(nvram.bytes.len(), 0x4000);
    }

    #[test]
    fn what_is_stored_is_fetched() {
        let (mut nvram, mut memory) = (Nvram::new(), FakeMemory::new());
        memory.bytes[0x100..0x104].copy_from_slice(b"lnx,");
        assert_eq!(nvram.store([0x3ffc, 0x100, 4], &mut memory), (0, 4));
        assert_eq!(nvram.fetch([0x3ffa, 0x200, 6], &mut memory), (0, 6));
        assert_eq!(memory.bytes[0x200..0x207], *b"\0\0lnx,\xa5");
    }

    #[test]
    fn ranges_past_the_end_are_refused_and_change_nothing() {
        let (mut nvram, mut memory) = (Nvram::new(), FakeMemory::new());
        for args in [
            [0x3ffd, 0x100, 4],
            [0x4000, 0x100, 1],
            [0, 0x100, 0x4001],
            [u32::MAX, 0x100, u32::MAX],
            [1, 0x100, u32::MAX],
        ] {
            assert_eq!(nvram.store(args, &mut memory), (-3, 0), "{args:x?}");
            assert_eq!(nvram.fetch(args, &mut memory), (-3, 0), "{args:x?}");
        }
        assert!(memory.writes.is_empty());
        assert_eq!(nvram.bytes, Nvram::new().bytes);
    }

    #[test]
    fn buffers_outside_memory_are_refused_and_change_nothing() {
        let (mut nvram, mut memory) = (Nvram::new(), FakeMemory::new());
        for buffer in [SIZE - 3, HOLE.start - 1, HOLE.start, 0xffff_fffe] {
            let args = [0, u32::try_from(buffer).unwrap(), 4];
            assert_eq!(nvram.store(args, &mut memory), (-3, 0), "{args:x?}");
            assert_eq!(nvram.fetch(args, &mut memory), (-3, 0), "{args:x?}");
        }
        assert!(memory.writes.is_empty());
        assert_eq!(nvram.bytes, Nvram::new().bytes);
    }

    #[test]
    fn a_length_of_zero_at_the_end_is_no_error() {
        let (mut nvram, mut memory) = (Nvram::new(), FakeMemory::new());
        assert_eq!(nvram.store([0x4000, 0x100, 0], &mut memory), (0, 0));
    }
}
