// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What only a processor does to pages: fast zeroing, and keeping the instruction cache coherent.
//!
//! Power ISA 3.0B, Book II, Cache Management Instructions (dcbz, dcbst, icbi).

// UNSAFETY: the operations work on raw real memory, and their implementor promises to touch
// nothing else.
#![expect(unsafe_code)]

use penstock_arch::addr::HostReal;
use penstock_arch::hash::Lpid;
use penstock_arch::tlb::TlbMaintenance;

/// The unit in which memory is zeroed: a cache block of every supported processor, in bytes.
pub const CACHE_BLOCK: u64 = 128;

/// Operations on whole pages of host real memory.
///
/// # Safety
/// An implementation writes nothing outside the given range, and [`Self::zero`] leaves all of the
/// range zero.
pub unsafe trait PageOps {
    /// Zeroes `len` bytes from `at`, both multiples of [`CACHE_BLOCK`].
    ///
    /// # Safety
    /// The range is ordinary memory of which the caller holds no reference to plain data.
    unsafe fn zero(&self, at: HostReal, len: u64);

    /// Drops the instruction cache's copies of `len` bytes from `at`, the data cache being clean.
    ///
    /// # Safety
    /// The range is ordinary memory.
    unsafe fn icache_invalidate(&self, at: HostReal, len: u64);

    /// Makes stores to `len` bytes from `at` visible to instruction fetch.
    ///
    /// # Safety
    /// The range is ordinary memory.
    unsafe fn icache_synchronize(&self, at: HostReal, len: u64);
}

// SAFETY: passes everything on to an implementation.
unsafe impl<T: PageOps + ?Sized> PageOps for &T {
    #[inline]
    unsafe fn zero(&self, at: HostReal, len: u64) {
        // SAFETY: the caller's promise is handed on.
        unsafe { (**self).zero(at, len) };
    }

    #[inline]
    unsafe fn icache_invalidate(&self, at: HostReal, len: u64) {
        // SAFETY: the caller's promise is handed on.
        unsafe { (**self).icache_invalidate(at, len) };
    }

    #[inline]
    unsafe fn icache_synchronize(&self, at: HostReal, len: u64) {
        // SAFETY: the caller's promise is handed on.
        unsafe { (**self).icache_synchronize(at, len) };
    }
}

/// What `mm` asks of the threads that run a partition.
pub trait Threads {
    /// Returns when no thread is in the guest of partition `lpid` with LPCR\[VPM1\] clear, and none
    /// can get there before it has seen that something is hidden.
    fn virtualize(&self, lpid: Lpid);
}

impl<T: Threads + ?Sized> Threads for &T {
    fn virtualize(&self, lpid: Lpid) {
        (**self).virtualize(lpid);
    }
}

/// A processor as `mm` needs it. Implemented by whatever has all parts.
pub trait Machine: TlbMaintenance + PageOps + Threads {}

impl<T: TlbMaintenance + PageOps + Threads> Machine for T {}
