// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The OPAL console (OPAL API, OPAL_CONSOLE_WRITE, OPAL_CONSOLE_READ, OPAL_CONSOLE_FLUSH).

// UNSAFETY: OPAL calls take addresses.
#![expect(unsafe_code)]

use super::call::{call, retry};
use super::{Status, Token};
use penstock_arch::endian::Be64;

/// Writes what the console takes of `bytes` now, and returns how many that were.
pub fn write(console: u64, bytes: &[u8]) -> usize {
    let mut len = Be64::new(bytes.len() as u64);
    let at = bytes.as_ptr().expose_provenance() as u64;
    let len_at = (&raw mut len).expose_provenance() as u64;
    // SAFETY: both addresses outlive the call; firmware reads `bytes` and writes `len`.
    let status = unsafe { call(Token::CONSOLE_WRITE, [console, len_at, at, 0, 0, 0, 0]) };
    // Firmware wrote behind the compiler's back.
    let written = core::hint::black_box(len).get();
    match status {
        Status::SUCCESS => usize::try_from(written).map_or(bytes.len(), |n| n.min(bytes.len())),
        _ => 0,
    }
}

/// Writes all of `bytes`, waiting for the console; gives up when it takes nothing for long.
pub fn write_all(console: u64, mut bytes: &[u8]) {
    let mut idle = 0u32;
    while !bytes.is_empty() && idle < 1_000_000 {
        let n = write(console, bytes);
        bytes = bytes.get(n..).unwrap_or_default();
        if n == 0 {
            idle += 1;
            super::call::poll_events();
        } else {
            idle = 0;
        }
    }
}

/// Reads what is there into `buffer` and returns how many bytes that were; never waits.
pub fn read(console: u64, buffer: &mut [u8]) -> usize {
    let mut len = Be64::new(buffer.len() as u64);
    let at = buffer.as_mut_ptr().expose_provenance() as u64;
    let len_at = (&raw mut len).expose_provenance() as u64;
    // SAFETY: both addresses outlive the call, and firmware writes at most `len` bytes.
    let status = unsafe { call(Token::CONSOLE_READ, [console, len_at, at, 0, 0, 0, 0]) };
    let n = core::hint::black_box(len).get();
    match status {
        Status::SUCCESS => usize::try_from(n).map_or(0, |n| n.min(buffer.len())),
        _ => 0,
    }
}

/// Waits until everything written has left the machine.
pub fn flush(console: u64) {
    for _ in 0..100_000 {
        // SAFETY: the call takes no address. It answers BUSY or PARTIAL while there is more.
        let status = unsafe { call(Token::CONSOLE_FLUSH, [console, 0, 0, 0, 0, 0, 0]) };
        match status {
            // Firmware without the call drains by polling.
            Status::SUCCESS | Status::UNSUPPORTED | Status::PARAMETER => break,
            _ => {}
        }
    }
    // SAFETY: polling takes no address.
    let _ = unsafe { retry(Token::POLL_EVENTS, [0; 7]) };
}
