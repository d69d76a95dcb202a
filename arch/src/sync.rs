// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Barriers and cache management, one instruction each (Power ISA 3.0B, Book II, Storage Control
//! Instructions).

// UNSAFETY: barriers and cache instructions exist only as assembly.
#![expect(unsafe_code)]

use crate::addr::HostReal;
use core::arch::asm;

/// Bytes of a cache block on every POWER processor that Penstock knows.
pub const CACHE_BLOCK: u64 = 128;

macro_rules! barrier {
    ($(#[$doc:meta])* $name:ident, $text:literal) => {
        $(#[$doc])*
        #[inline(always)]
        pub fn $name() {
            // SAFETY: a barrier only orders what is there; memory is clobbered for the compiler.
            unsafe { asm!($text, options(nostack, preserves_flags)) };
        }
    };
}

barrier! {
    /// Orders everything, and completes preceding tlbie (with tlbsync).
    ptesync, "ptesync"
}
barrier! {
    /// Orders everything.
    sync, "sync"
}
barrier! {
    /// Orders stores, and accesses to cache-inhibited storage.
    eieio, "eieio"
}
barrier! {
    /// Completes the effect of context changes before what follows is fetched.
    isync, "isync"
}
barrier! {
    /// Orders tlbie of this processor with later ptesync of others.
    tlbsync, "tlbsync"
}

/// Makes instructions that were stored in `len` bytes from `start` visible to instruction fetch.
pub fn flush_icache(start: HostReal, len: u64) {
    let first = start.align_down(CACHE_BLOCK).get();
    let end = start.get().saturating_add(len);
    let blocks = end.saturating_sub(first).div_ceil(CACHE_BLOCK);
    for block in 0..blocks {
        let at = first + block * CACHE_BLOCK;
        // SAFETY: dcbst writes a block back to memory and changes no contents.
        unsafe { asm!("dcbst 0, {}", in(reg) at, options(nostack, preserves_flags)) };
    }
    sync();
    for block in 0..blocks {
        let at = first + block * CACHE_BLOCK;
        // SAFETY: icbi only drops a copy.
        unsafe { asm!("icbi 0, {}", in(reg) at, options(nostack, preserves_flags)) };
    }
    sync();
    isync();
}

/// Zeroes `blocks` cache blocks from `start`, which is a multiple of the block size.
///
/// # Safety
/// The memory must be ordinary memory that nothing else holds a reference to.
pub unsafe fn zero_cache_blocks(start: HostReal, blocks: u64) {
    debug_assert!(start.is_aligned(CACHE_BLOCK));
    // Four blocks a round: a partition's memory is zeroed by this, some million blocks.
    let mut at = start.get();
    for _ in 0..blocks / 4 {
        // SAFETY: the caller owns the memory; four blocks are left.
        unsafe {
            asm!(
                "dcbz 0, {p}",
                "dcbz {b1}, {p}",
                "dcbz {b2}, {p}",
                "dcbz {b3}, {p}",
                p = in(reg) at,
                b1 = in(reg_nonzero) CACHE_BLOCK,
                b2 = in(reg_nonzero) 2 * CACHE_BLOCK,
                b3 = in(reg_nonzero) 3 * CACHE_BLOCK,
                options(nostack, preserves_flags)
            );
        }
        at += 4 * CACHE_BLOCK;
    }
    for _ in 0..blocks % 4 {
        // SAFETY: as above, a block is left.
        unsafe { asm!("dcbz 0, {p}", p = in(reg) at, options(nostack, preserves_flags)) };
        at += CACHE_BLOCK;
    }
}
