// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A guest's images in pieces of 64 KiB, the unit in which partitions share memory.
//!
//! A piece has the content that it has when the image alone is loaded into memory of zeroes. Everything
//! else that a start writes begins at a multiple of 64 KiB above the kernel ([`super::plan`]), so no
//! piece of an image has anything else in it. Pieces without a byte of the file are not the image's:
//! memory that was never touched is zero.

use super::LoadPlan;
use alloc::vec::Vec;
use core::ops::Range;
use penstock_mm::guest_memory::PIECE;

/// The numbers of the pieces of guest memory that have bytes of the kernel's file, in order, each once.
#[must_use]
pub fn of_kernel(plan: &LoadPlan) -> Vec<u64> {
    let mut numbers: Vec<u64> = plan
        .copies
        .iter()
        .filter(|copy| !copy.file.is_empty())
        .flat_map(|copy| {
            let first = copy.guest.get();
            let last = first.saturating_add(copy.file.len() as u64 - 1);
            first / PIECE..=last / PIECE
        })
        .collect();
    numbers.sort_unstable();
    numbers.dedup();
    numbers
}

/// Gives the bytes of the kernel's file that lie in piece `number` of guest memory to `write`, with
/// their place in the piece.
pub fn fill_from_kernel(
    kernel: &[u8],
    plan: &LoadPlan,
    number: u64,
    mut write: impl FnMut(u64, &[u8]),
) {
    let start = number.saturating_mul(PIECE);
    let end = start.saturating_add(PIECE);
    for copy in &plan.copies {
        let guest = copy.guest.get();
        let after = guest.saturating_add(copy.file.len() as u64);
        let (from, to) = (guest.max(start), after.min(end));
        if from >= to {
            continue;
        }
        let bytes = kernel
            .get(copy.file.clone())
            .and_then(|file| file.get(indices(from - guest, to - guest)?));
        if let Some(bytes) = bytes {
            write(from - start, bytes);
        }
    }
}

/// How many pieces an initial RAM disk fills.
#[must_use]
pub const fn of_initrd(initrd: &[u8]) -> u64 {
    (initrd.len() as u64).div_ceil(PIECE)
}

/// The bytes of piece `number` of an initial RAM disk.
#[must_use]
pub fn bytes_of_initrd(initrd: &[u8], number: u64) -> &[u8] {
    let start = number.saturating_mul(PIECE);
    let end = start.saturating_add(PIECE).min(initrd.len() as u64);
    indices(start, end)
        .and_then(|range| initrd.get(range))
        .unwrap_or(&[])
}

fn indices(start: u64, end: u64) -> Option<Range<usize>> {
    Some(usize::try_from(start).ok()?..usize::try_from(end).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::{LoadRequest, SegmentCopy, plan};
    use alloc::vec;
    use penstock_arch::addr::GuestReal;
    use proptest::prelude::*;

    fn copy(guest: u64, file: Range<usize>, zero_bytes: u64) -> SegmentCopy {
        SegmentCopy {
            file,
            guest: GuestReal::new(guest),
            zero_bytes,
        }
    }

    fn plan_of(copies: Vec<SegmentCopy>) -> LoadPlan {
        let request = LoadRequest {
            kernel: &[1],
            load_address: Some(GuestReal::new(0)),
            memory_bytes: 16 << 20,
            initrd_bytes: None,
            fdt_bytes: 0x1_0000,
        };
        LoadPlan {
            copies,
            ..plan(&request).unwrap()
        }
    }

    #[test]
    fn pieces_of_a_kernel_are_those_with_bytes_of_its_file() {
        let plan = plan_of(vec![
            copy(0x4_0000, 0..0x1_0000, 0x10_0000),
            copy(0x1_fff0, 0..0x20, 0),
            copy(0x2_0020, 0..1, 0),
            copy(0x8_0000, 7..7, 0x1000),
        ]);
        assert_eq!(of_kernel(&plan), [1, 2, 4]);
    }

    #[test]
    fn an_initrd_is_cut_into_pieces() {
        let initrd = vec![7; 0x1_0003];
        assert_eq!(of_initrd(&initrd), 2);
        assert_eq!(bytes_of_initrd(&initrd, 0).len(), 0x1_0000);
        assert_eq!(bytes_of_initrd(&initrd, 1), [7; 3]);
        assert!(bytes_of_initrd(&initrd, 2).is_empty());
        assert!(bytes_of_initrd(&initrd, u64::MAX).is_empty());
        assert_eq!(of_initrd(&[]), 0);
    }

    proptest! {
        #![proptest_config(crate::rtas::testing::config())]

        /// All pieces together are what loading the kernel as a whole gives.
        #[test]
        fn pieces_together_are_the_loaded_kernel(
            segments in proptest::collection::vec((0..0x3_0000_u64, 0..0x1_8000_usize), 1..5),
        ) {
            const BYTES: usize = 0x10_0000;
            let file: Vec<u8> = (0..0x2_0000_u32).map(|at| (at % 251) as u8 + 1).collect();
            let (mut at, mut copies) = (0, Vec::new());
            for (gap, len) in segments {
                let guest = at + gap;
                if guest + len as u64 > BYTES as u64 {
                    break;
                }
                copies.push(copy(guest, 5..5 + len, 0));
                at = guest + len as u64;
            }
            let plan = plan_of(copies);
            let mut wanted = vec![0; BYTES];
            for copy in &plan.copies {
                let start = usize::try_from(copy.guest.get()).unwrap();
                wanted[start..start + copy.file.len()].copy_from_slice(&file[copy.file.clone()]);
            }
            let mut got = vec![0; BYTES];
            for number in of_kernel(&plan) {
                let mut any = false;
                fill_from_kernel(&file, &plan, number, |offset, bytes| {
                    any = true;
                    let start = usize::try_from(number * PIECE + offset).unwrap();
                    got[start..start + bytes.len()].copy_from_slice(bytes);
                });
                prop_assert!(any);
            }
            prop_assert!(got == wanted);
        }
    }
}
