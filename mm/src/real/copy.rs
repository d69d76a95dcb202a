// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Copies between our own memory and memory that a guest writes at any time.
//!
//! The guest's side is accessed by relaxed atomics, so that a racing guest gives old or new bytes
//! and nothing worse. Copies go by doublewords of the guest's side, sixteen to a turn: the
//! compiler's memcpy for a processor without vector registers takes a byte at a time.

// UNSAFETY: reads and writes raw memory.
#![expect(unsafe_code)]

use super::table::pointer;
use core::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};
use penstock_arch::addr::HostReal;

/// Bytes of one turn of the loops.
const TURN: usize = 128;

/// # Safety
/// `count` values of `T` lie at `at`, which, unless there are none, is aligned for `T`; they are
/// only accessed atomically while the result lives.
unsafe fn cells<'a, T>(at: HostReal, count: usize) -> &'a [T] {
    match pointer::<T>(at) {
        // SAFETY: the caller's promise.
        Some(first) if count > 0 => unsafe { core::slice::from_raw_parts(first.as_ptr(), count) },
        _ => &[],
    }
}

/// How many bytes from `at` to the next doubleword, at most `len`.
fn to_aligned(at: HostReal, len: usize) -> usize {
    let gap = (at.get().wrapping_neg() & 7) as usize;
    gap.min(len)
}

fn after(at: HostReal, bytes: usize) -> HostReal {
    HostReal::new(at.get() + bytes as u64)
}

/// Fills `to` from memory at `from`.
///
/// # Safety
/// `to.len()` bytes at `from` are owned memory that is only accessed atomically, or by a guest.
pub(super) unsafe fn copy_out(from: HostReal, to: &mut [u8]) {
    let (head, body) = to.split_at_mut(to_aligned(from, to.len()));
    let body_at = after(from, head.len());
    // SAFETY: within the caller's range.
    let head_cells = unsafe { cells::<AtomicU8>(from, head.len()) };
    for (byte, cell) in head.iter_mut().zip(head_cells) {
        *byte = cell.load(Relaxed);
    }
    let words = body.len() / 8;
    // SAFETY: within the caller's range, and aligned by the head.
    let mut source = unsafe { cells::<AtomicU64>(body_at, words) };
    let mut turns = body.chunks_exact_mut(TURN);
    for turn in &mut turns {
        let (now, rest) = source.split_at(TURN / 8);
        source = rest;
        for (bytes, cell) in turn.as_chunks_mut::<8>().0.iter_mut().zip(now) {
            *bytes = cell.load(Relaxed).to_ne_bytes();
        }
    }
    let (last, tail) = turns.into_remainder().as_chunks_mut::<8>();
    for (bytes, cell) in last.iter_mut().zip(source) {
        *bytes = cell.load(Relaxed).to_ne_bytes();
    }
    let tail_at = after(body_at, words * 8);
    // SAFETY: within the caller's range.
    let tail_cells = unsafe { cells::<AtomicU8>(tail_at, tail.len()) };
    for (byte, cell) in tail.iter_mut().zip(tail_cells) {
        *byte = cell.load(Relaxed);
    }
}

/// Stores `from` into memory at `to`.
///
/// # Safety
/// As [`copy_out`], for `from.len()` bytes at `to`.
pub(super) unsafe fn copy_in(to: HostReal, from: &[u8]) {
    let (head, body) = from.split_at(to_aligned(to, from.len()));
    let body_at = after(to, head.len());
    // SAFETY: within the caller's range.
    let head_cells = unsafe { cells::<AtomicU8>(to, head.len()) };
    for (byte, cell) in head.iter().zip(head_cells) {
        cell.store(*byte, Relaxed);
    }
    let words = body.len() / 8;
    // SAFETY: within the caller's range, and aligned by the head.
    let mut target = unsafe { cells::<AtomicU64>(body_at, words) };
    let mut turns = body.chunks_exact(TURN);
    for turn in &mut turns {
        let (now, rest) = target.split_at(TURN / 8);
        target = rest;
        for (bytes, cell) in turn.as_chunks::<8>().0.iter().zip(now) {
            cell.store(u64::from_ne_bytes(*bytes), Relaxed);
        }
    }
    let (last, tail) = turns.remainder().as_chunks::<8>();
    for (bytes, cell) in last.iter().zip(target) {
        cell.store(u64::from_ne_bytes(*bytes), Relaxed);
    }
    let tail_at = after(body_at, words * 8);
    // SAFETY: within the caller's range.
    let tail_cells = unsafe { cells::<AtomicU8>(tail_at, tail.len()) };
    for (byte, cell) in tail.iter().zip(tail_cells) {
        cell.store(*byte, Relaxed);
    }
}

/// Copies `words` doublewords from `from` to `to`, both aligned, ranges apart or equal.
///
/// # Safety
/// As [`copy_out`], for `words` doublewords at each.
pub(super) unsafe fn copy_words(to: HostReal, from: HostReal, words: usize) {
    // SAFETY: the caller's promise.
    let mut source = unsafe { cells::<AtomicU64>(from, words) };
    // SAFETY: the caller's promise.
    let mut target = unsafe { cells::<AtomicU64>(to, words) };
    const TURN_WORDS: usize = TURN / 8;
    while let (Some((from, from_rest)), Some((to, to_rest))) = (
        source.split_first_chunk::<TURN_WORDS>(),
        target.split_first_chunk::<TURN_WORDS>(),
    ) {
        for (to, from) in to.iter().zip(from) {
            to.store(from.load(Relaxed), Relaxed);
        }
        (source, target) = (from_rest, to_rest);
    }
    for (to, from) in target.iter().zip(source) {
        to.store(from.load(Relaxed), Relaxed);
    }
}

macro_rules! access {
    ($($load:ident, $store:ident, $value:ty, $cell:ty;)*) => {$(
        /// What lies at `at`, in memory's byte order, by one access.
        ///
        /// # Safety
        /// As [`copy_out`], for the value's size; `at` is a multiple of that size.
        #[inline]
        pub(super) unsafe fn $load(at: HostReal) -> $value {
            // SAFETY: the caller's promise.
            let cells = unsafe { cells::<$cell>(at, 1) };
            cells.first().map_or(0, |cell| cell.load(Relaxed))
        }

        /// Stores at `at`, in memory's byte order, by one access.
        ///
        /// # Safety
        /// As [`copy_out`], for the value's size; `at` is a multiple of that size.
        #[inline]
        pub(super) unsafe fn $store(at: HostReal, value: $value) {
            // SAFETY: the caller's promise.
            let cells = unsafe { cells::<$cell>(at, 1) };
            if let Some(cell) = cells.first() {
                cell.store(value, Relaxed);
            }
        }
    )*};
}

access! {
    load_u8, store_u8, u8, AtomicU8;
    load_u32, store_u32, u32, AtomicU32;
    load_u64, store_u64, u64, AtomicU64;
}
