// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Guest memory and settings for the tests of this module and of its users.

extern crate std;

use super::memory::{GuestBytes, MemoryFault};
use alloc::vec;
use alloc::vec::Vec;
use penstock_arch::addr::GuestReal;
use proptest::test_runner::Config;

/// Number of cases of a property test: `PENSTOCK_CASES`, or few.
pub(crate) fn config() -> Config {
    let cases = std::env::var("PENSTOCK_CASES")
        .ok()
        .and_then(|n| n.parse().ok());
    Config {
        failure_persistence: None,
        ..Config::with_cases(cases.unwrap_or(64))
    }
}

pub(crate) const SIZE: u64 = 0x1_0000;
pub(crate) const HOLE: core::ops::Range<u64> = 0x8000..0x9000;

pub(crate) struct FakeMemory {
    pub(crate) bytes: Vec<u8>,
    pub(crate) writes: Vec<(u64, usize)>,
}

impl FakeMemory {
    pub(crate) fn new() -> Self {
        Self {
            bytes: vec![0xa5; 0x1_0000],
            writes: Vec::new(),
        }
    }

    pub(crate) fn words(&self, at: usize, count: usize) -> Vec<u32> {
        self.bytes[at..at + 4 * count]
            .chunks(4)
            .map(|c| u32::from_be_bytes(c.try_into().unwrap()))
            .collect()
    }

    pub(crate) fn put_words(&mut self, at: usize, words: &[u32]) {
        for (i, word) in words.iter().enumerate() {
            self.bytes[at + 4 * i..at + 4 * i + 4].copy_from_slice(&word.to_be_bytes());
        }
    }
}

impl GuestBytes for FakeMemory {
    fn check(&mut self, at: GuestReal, bytes: u64) -> Result<(), MemoryFault> {
        let end = at.get().checked_add(bytes).ok_or(MemoryFault { at })?;
        let in_hole = at.get() < HOLE.end && end > HOLE.start;
        if end > SIZE || in_hole {
            Err(MemoryFault { at })
        } else {
            Ok(())
        }
    }

    fn read(&mut self, at: GuestReal, into: &mut [u8]) -> Result<(), MemoryFault> {
        if let Err(fault) = self.check(at, into.len() as u64) {
            // What a failed read leaves is unspecified: nobody may rely on it.
            into.fill(0xdd);
            return Err(fault);
        }
        let at = usize::try_from(at.get()).unwrap();
        into.copy_from_slice(&self.bytes[at..at + into.len()]);
        Ok(())
    }

    fn write(&mut self, at: GuestReal, from: &[u8]) -> Result<(), MemoryFault> {
        self.check(at, from.len() as u64)?;
        self.writes.push((at.get(), from.len()));
        let at = usize::try_from(at.get()).unwrap();
        self.bytes[at..at + from.len()].copy_from_slice(from);
        Ok(())
    }
}
