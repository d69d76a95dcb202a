// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tests of guest memory.
#![expect(
    clippy::cast_possible_truncation,
    reason = "offsets into a small window"
)]
// UNSAFETY: implements page operations.
#![expect(unsafe_code)]

extern crate std;

use super::*;
use crate::fake::{TestMachine, TestMemory};
use core::sync::atomic::{AtomicU64, Ordering};
use proptest::prelude::*;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use std::vec;
use std::vec::Vec;

const AT: fn(u64) -> GuestReal = GuestReal::new;

/// Guest memory of `blocks` blocks whose host memory is scattered and dirty.
fn memory(blocks: u64, backing: Backing) -> (GuestMemory<TestMachine>, FrameAllocator, TestMemory) {
    let host = TestMemory::new((blocks as usize * 2 + 1) << 24);
    host.fill(0xa5);
    let mut allocator = host.frames();
    for block in 0..blocks {
        let hole = host.base().checked_add((block * 2 + 1) * BLOCK).unwrap();
        allocator.reserve(hole, BLOCK).unwrap();
    }
    let memory =
        GuestMemory::new(TestMachine::new(), blocks * BLOCK, backing, &mut allocator).unwrap();
    (memory, allocator, host)
}

#[test]
fn untouched_memory_reads_as_zero() {
    for backing in [Backing::Lazy, Backing::Eager] {
        let (memory, _allocator, _host) = memory(1, backing);
        let mut bytes = [1; 300];
        memory.read(AT(PIECE - 100), &mut bytes).unwrap();
        assert_eq!(bytes, [0; 300]);
        assert_eq!(memory.is_fully_backed(), backing == Backing::Eager);
    }
}

#[test]
fn lazy_memory_is_zeroed_by_pieces_once() {
    let (memory, _allocator, _host) = memory(2, Backing::Lazy);
    let zeroed = || memory.machine().pages.zeroed.load(Ordering::Relaxed);
    let before = zeroed();
    memory.write_u8(AT(3 * PIECE), 7).unwrap();
    assert_eq!(zeroed() - before, PIECE);
    memory.write_u8(AT(3 * PIECE + 1), 8).unwrap();
    assert_eq!(memory.read_u8(AT(3 * PIECE)), Ok(7));
    assert_eq!(zeroed() - before, PIECE);
    assert!(memory.is_backed(AT(3 * PIECE), PIECE));
    assert!(!memory.is_backed(AT(3 * PIECE), PIECE + 1));
    assert_eq!(memory.populate_some(0), 511);
    assert_eq!(memory.populate_some(5), 506);
    assert_eq!(memory.populate_some(u64::MAX), 0);
    assert!(memory.is_fully_backed());
    assert_eq!(zeroed() - before, 2 * BLOCK);
    assert_eq!(memory.read_u8(AT(3 * PIECE)), Ok(7));
}

#[test]
fn accesses_outside_are_errors_and_change_nothing() {
    let (memory, _allocator, _host) = memory(1, Backing::Lazy);
    let end = memory.size();
    let not_memory = |at, len| Err(MemoryError::NotMemory { at: AT(at), len });
    assert_eq!(memory.write(AT(end - 1), &[1, 2]), not_memory(end - 1, 2));
    assert_eq!(memory.read_u8(AT(end - 1)), Ok(0));
    assert_eq!(
        memory.read(AT(u64::MAX), &mut [0; 2]),
        not_memory(u64::MAX, 2)
    );
    assert_eq!(memory.zero(AT(end), 1), not_memory(end, 1));
    assert_eq!(memory.zero(AT(0), u64::MAX), not_memory(0, u64::MAX));
    assert_eq!(memory.copy(AT(0), AT(end - 8), 16), not_memory(end - 8, 16));
    assert_eq!(memory.translate(AT(end), 1).map(|_| ()), not_memory(end, 1));
    assert_eq!(memory.read_be64(AT(end)).map(|_| ()), not_memory(end, 8));
    assert_eq!(memory.write(AT(end), &[]), Ok(()));
}

#[test]
fn words_are_big_endian_and_aligned() {
    let (memory, _allocator, _host) = memory(1, Backing::Lazy);
    memory.write_be64(AT(8), 0x0102_0304_0506_0708).unwrap();
    memory.write_be32(AT(16), 0xa0b0_c0d0).unwrap();
    memory.write_u8(AT(20), 0xee).unwrap();
    let mut bytes = [0; 13];
    memory.read(AT(8), &mut bytes).unwrap();
    assert_eq!(
        bytes,
        [1, 2, 3, 4, 5, 6, 7, 8, 0xa0, 0xb0, 0xc0, 0xd0, 0xee]
    );
    assert_eq!(memory.read_be32(AT(12)), Ok(0x0506_0708));
    assert_eq!(memory.read_be64(AT(8)), Ok(0x0102_0304_0506_0708));
    let unaligned = MemoryError::Unaligned {
        at: AT(12),
        unit: 8,
    };
    assert_eq!(memory.read_be64(AT(12)), Err(unaligned));
    assert_eq!(
        memory.write_be32(AT(2), 0),
        Err(MemoryError::Unaligned { at: AT(2), unit: 4 })
    );
}

#[test]
fn blocks_lie_anywhere_and_a_host_address_stays_inside_one() {
    let (memory, _allocator, host) = memory(2, Backing::Lazy);
    let first = memory.translate(AT(0x1234), 8).unwrap();
    let second = memory.translate(AT(BLOCK + 0x1234), 8).unwrap();
    assert_eq!(first, memory.locate(AT(0x1234)).unwrap());
    assert_eq!(first.get() % BLOCK, 0x1234);
    assert_eq!(second.get().abs_diff(first.get()), 2 * BLOCK);
    assert!(first.offset_from(host.base()).is_some());
    assert_eq!(
        memory.translate(AT(BLOCK - 8), 16),
        Err(MemoryError::CrossesBlock {
            at: AT(BLOCK - 8),
            len: 16
        })
    );
    let text: Vec<u8> = (0..=255).collect();
    memory.write(AT(BLOCK - 100), &text).unwrap();
    let mut back = vec![0; 256];
    memory.read(AT(BLOCK - 100), &mut back).unwrap();
    assert_eq!(back, text);
}

#[test]
fn a_failed_setup_takes_nothing() {
    let host = TestMemory::new(3 << 24);
    let mut allocator = host.frames();
    let left = allocator.left();
    let new = |size, allocator: &mut FrameAllocator| {
        GuestMemory::new(TestMachine::new(), size, Backing::Lazy, allocator)
    };
    for size in [0, 1, BLOCK + PIECE] {
        assert_eq!(
            new(size, &mut allocator).unwrap_err(),
            MemorySetupError::BadSize { size }
        );
    }
    // Three blocks are there, but not three blocks and the table of them.
    for size in [3 * BLOCK, 4 * BLOCK, u64::MAX / BLOCK * BLOCK] {
        assert!(matches!(
            new(size, &mut allocator),
            Err(MemorySetupError::Frames(FrameError::OutOfMemory { .. }))
        ));
        assert_eq!(allocator.left(), left);
    }
    let memory = new(2 * BLOCK, &mut allocator).unwrap();
    memory.release(&mut allocator).unwrap();
    assert_eq!((allocator.left(), allocator.largest()), (left, left));
}

#[test]
fn two_processors_zero_a_piece_once() {
    let (memory, _allocator, _host) = memory(1, Backing::Lazy);
    let memory = Arc::new(memory);
    let before = memory.machine().pages.zeroed.load(Ordering::Relaxed);
    std::thread::scope(|scope| {
        for thread in 0..4_u8 {
            let memory = &memory;
            scope.spawn(move || {
                for piece in 0..256 {
                    // What was written is never zeroed over.
                    let at = AT(piece * PIECE + u64::from(thread));
                    memory.write_u8(at, thread + 1).unwrap();
                }
            });
        }
    });
    for piece in 0..256 {
        let mut bytes = [0; 4];
        memory.read(AT(piece * PIECE), &mut bytes).unwrap();
        assert_eq!(bytes, [1, 2, 3, 4]);
    }
    assert_eq!(
        memory.machine().pages.zeroed.load(Ordering::Relaxed) - before,
        BLOCK
    );
    assert!(memory.is_fully_backed());
}

/// A processor that zeroes slowly.
#[derive(Default)]
struct SlowZero {
    zeroed: AtomicU64,
}

// SAFETY: as `TestMachine`, which does the work.
unsafe impl PageOps for SlowZero {
    unsafe fn zero(&self, at: HostReal, len: u64) {
        std::thread::sleep(Duration::from_millis(20));
        // SAFETY: the caller's promise is handed on.
        unsafe { TestMachine::new().zero(at, len) };
        self.zeroed.fetch_add(len, Ordering::Relaxed);
    }

    unsafe fn icache_invalidate(&self, _: HostReal, _: u64) {}

    unsafe fn icache_synchronize(&self, _: HostReal, _: u64) {}
}

#[test]
fn whoever_comes_second_waits_for_the_zeroes() {
    let host = TestMemory::new(2 << 24);
    host.fill(0xa5);
    let mut allocator = host.frames();
    let slow = SlowZero::default();
    let memory = GuestMemory::new(&slow, BLOCK, Backing::Lazy, &mut allocator).unwrap();
    let before = slow.zeroed.load(Ordering::Relaxed);
    std::thread::scope(|scope| {
        for thread in 0..3 {
            let memory = &memory;
            scope.spawn(move || {
                assert_eq!(memory.read_u8(AT(0)), Ok(0));
                memory.write_u8(AT(8 + thread), 1).unwrap();
            });
        }
    });
    assert_eq!(slow.zeroed.load(Ordering::Relaxed) - before, PIECE);
    let mut bytes = [0; 4];
    memory.read(AT(8), &mut bytes).unwrap();
    assert_eq!(bytes, [1, 1, 1, 0]);
}

proptest! {
    #![proptest_config(crate::hpt::tests::config())]

    /// Against plain bytes, around a block boundary.
    #[test]
    fn agrees_with_plain_bytes(
        steps in prop::collection::vec((0_u8..4, 0_u64..2000, 0_u64..2000, 0_u64..700), 1..30),
    ) {
        const WINDOW: u64 = 3000;
        static MEMORY: OnceLock<(GuestMemory<TestMachine>, FrameAllocator, TestMemory)> =
            OnceLock::new();
        let base = BLOCK - WINDOW / 2 - 4;
        let (memory, _, _) = MEMORY.get_or_init(|| memory(2, Backing::Lazy));
        memory.write(AT(base), &[0; WINDOW as usize]).unwrap();
        let mut model = vec![0_u8; WINDOW as usize];
        for (step, (what, a, b, len)) in steps.into_iter().enumerate() {
            let (from, to) = (a as usize, b as usize);
            match what {
                0 => {
                    let bytes: Vec<u8> = (0..len).map(|i| (i * 7 + step as u64) as u8).collect();
                    memory.write(AT(base + a), &bytes).unwrap();
                    model[from..from + bytes.len()].copy_from_slice(&bytes);
                }
                1 => {
                    memory.zero(AT(base + a), len).unwrap();
                    model[from..from + len as usize].fill(0);
                }
                2 => {
                    let (a, b, len) = (a & !7, b & !7, len & !7);
                    if a.abs_diff(b) >= len || a == b {
                        memory.copy(AT(base + b), AT(base + a), len).unwrap();
                        let (a, b) = (a as usize, b as usize);
                        model.copy_within(a..a + len as usize, b);
                    }
                }
                _ => {
                    let mut bytes = vec![0xff; len as usize];
                    memory.read(AT(base + b), &mut bytes).unwrap();
                    prop_assert_eq!(&bytes[..], &model[to..to + len as usize]);
                }
            }
        }
        let mut all = vec![0; WINDOW as usize];
        memory.read(AT(base), &mut all).unwrap();
        prop_assert_eq!(all, model);
    }
}
