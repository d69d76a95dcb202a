// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tests of the frame allocator.

// UNSAFETY: frames of memory that is never accessed.
#![expect(unsafe_code)]
#![expect(clippy::cast_possible_truncation, reason = "page numbers below 64")]

extern crate std;

use super::*;
use proptest::prelude::*;
use std::vec::Vec;

fn frames(base: u64, len: u64) -> Frames {
    // SAFETY: these tests never access what the frames name.
    unsafe { Frames::from_raw(HostReal::new(base), len) }
}

fn ranges(allocator: &FrameAllocator) -> Vec<(u64, u64)> {
    allocator
        .ranges()
        .map(|(base, len)| (base.get(), len))
        .collect()
}

#[test]
fn adjoining_ranges_become_one() {
    let mut allocator = FrameAllocator::new();
    for base in [0x3000, 0x1000, 0x5000, 0x2000, 0x4000] {
        allocator.free(frames(base, 0x1000)).unwrap();
    }
    assert_eq!(ranges(&allocator), [(0x1000, 0x5000)]);
    assert_eq!((allocator.left(), allocator.largest()), (0x5000, 0x5000));
}

#[test]
fn memory_that_is_free_already_is_refused() {
    let mut allocator = FrameAllocator::new();
    allocator.free(frames(0x2000, 0x2000)).unwrap();
    for (base, len) in [
        (0x1000, 0x1001),
        (0x2000, 1),
        (0x3fff, 0x1000),
        (0x1000, 0x8000),
    ] {
        let error = FrameError::Overlap {
            base: HostReal::new(base),
            len,
        };
        assert_eq!(allocator.free(frames(base, len)), Err(error));
    }
    assert_eq!(ranges(&allocator), [(0x2000, 0x2000)]);
}

#[test]
fn alignment_leaves_the_rest_free() {
    let mut allocator = FrameAllocator::new();
    allocator.free(frames(0x1000, 0xf000)).unwrap();
    let given = allocator.alloc(0x4000, 0x4000).unwrap();
    assert_eq!((given.base().get(), given.len()), (0x4000, 0x4000));
    assert_eq!(ranges(&allocator), [(0x1000, 0x3000), (0x8000, 0x8000)]);
    allocator.free(given).unwrap();
    assert_eq!(ranges(&allocator), [(0x1000, 0xf000)]);
}

#[test]
fn the_smallest_range_that_fits_is_used() {
    let mut allocator = FrameAllocator::new();
    allocator.free(frames(0x1000, 0x8000)).unwrap();
    allocator.free(frames(0x10_0000, 0x2000)).unwrap();
    assert_eq!(
        allocator.alloc(0x2000, 0x1000).unwrap().base().get(),
        0x10_0000
    );
}

#[test]
fn out_of_memory_says_what_is_left() {
    let mut allocator = FrameAllocator::new();
    allocator.free(frames(0x1000, 0x1000)).unwrap();
    allocator.free(frames(0x4000, 0x2000)).unwrap();
    let error = allocator.alloc(0x3000, 0x1000).unwrap_err();
    assert_eq!(
        error,
        FrameError::OutOfMemory {
            wanted: 0x3000,
            align: 0x1000,
            left: 0x3000,
            largest: 0x2000
        }
    );
    assert!(std::format!("{error}").contains("0x3000 bytes aligned to 0x1000 wanted"));
    assert!(matches!(
        allocator.alloc(1, 3),
        Err(FrameError::BadAlignment { .. })
    ));
    assert!(allocator.alloc(u64::MAX, 1).is_err());
}

#[test]
fn reserved_memory_is_never_given() {
    let mut allocator = FrameAllocator::new();
    allocator.free(frames(0x1000, 0xf000)).unwrap();
    allocator.free(frames(0x2_0000, 0x1000)).unwrap();
    // Inside, over an edge, over a hole, outside, and everything of the last range.
    allocator.reserve(HostReal::new(0x4000), 0x1000).unwrap();
    allocator.reserve(HostReal::new(0), 0x2000).unwrap();
    allocator.reserve(HostReal::new(0xf000), 0x1_0000).unwrap();
    allocator
        .reserve(HostReal::new(0x100_0000), 0x1000)
        .unwrap();
    allocator
        .reserve(HostReal::new(0x2_0000), u64::MAX)
        .unwrap();
    assert_eq!(ranges(&allocator), [(0x2000, 0x2000), (0x5000, 0xa000)]);
}

#[test]
fn too_many_ranges_is_an_error_and_not_a_panic() {
    let mut allocator = FrameAllocator::new();
    for i in 0..RANGES as u64 {
        allocator.free(frames(0x2000 * (i + 1), 0x1000)).unwrap();
    }
    let lost = allocator.free(frames(0x1000_0000, 0x3000)).unwrap_err();
    assert_eq!(lost, FrameError::TooManyRanges { lost: 0x3000 });
    // A request in the middle of a range still works, though a piece beside it is lost.
    assert!(allocator.alloc(0x100, 0x800).is_ok());
}

proptest! {
    #![proptest_config(crate::hpt::tests::config())]

    /// Against a map with one bit for each page.
    #[test]
    fn agrees_with_a_page_map(
        steps in prop::collection::vec((0_u8..3, 0_u64..64, 1_u64..9, 0_u32..4), 1..60)
    ) {
        const PAGE: u64 = 0x1000;
        let mut allocator = FrameAllocator::new();
        let mut free = [false; 64];
        let mut given: Vec<Frames> = Vec::new();
        allocator.free(frames(PAGE, 63 * PAGE)).unwrap();
        free[1..].fill(true);
        for (what, at, pages, align) in steps {
            match what {
                0 => {
                    let align = PAGE << align;
                    let fits = (0..=64 - pages).any(|first| {
                        (first * PAGE).is_multiple_of(align)
                            && (first..first + pages).all(|page| free[page as usize])
                    });
                    match allocator.alloc(pages * PAGE, align) {
                        Ok(frames) => {
                            prop_assert!(frames.base().is_aligned(align));
                            prop_assert_eq!(frames.len(), pages * PAGE);
                            let first = frames.base().get() / PAGE;
                            for page in first..first + pages {
                                prop_assert!(free[page as usize], "given twice");
                                free[page as usize] = false;
                            }
                            given.push(frames);
                        }
                        Err(_) => prop_assert!(!fits, "refused though there is room"),
                    }
                }
                1 => if !given.is_empty() {
                    let frames = given.swap_remove(at as usize % given.len());
                    let first = frames.base().get() / PAGE;
                    for page in first..first + frames.len() / PAGE {
                        free[page as usize] = true;
                    }
                    allocator.free(frames).unwrap();
                }
                _ => {
                    allocator.reserve(HostReal::new(at * PAGE), PAGE).unwrap();
                    free[at as usize] = false;
                }
            }
            let left = free.iter().filter(|free| **free).count() as u64 * PAGE;
            prop_assert_eq!(allocator.left(), left);
            let ends: Vec<_> = ranges(&allocator);
            prop_assert!(ends.windows(2).all(|pair| pair[0].0 + pair[0].1 < pair[1].0));
        }
    }
}
