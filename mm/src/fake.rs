// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A machine on the host: recorded TLB instructions, and memory with real addresses.

// UNSAFETY: owns allocations by their addresses.
#![expect(unsafe_code)]

extern crate std;

use self::std::alloc::{Layout, alloc_zeroed, dealloc};
use self::std::sync::Arc;
use crate::frame::FrameAllocator;
use crate::page_ops::{PageOps, Threads};
use crate::real::Frames;
use core::sync::atomic::{AtomicU64, Ordering};
use penstock_arch::addr::HostReal;
use penstock_arch::fake::RecordingTlb;
use penstock_arch::hash::{Lpid, TlbieRb};
use penstock_arch::tlb::{HpteStore, PateStore, TlbMaintenance, TlbieErrata};

/// A processor on the host. Clones share the recording.
#[derive(Clone, Debug, Default)]
pub struct TestMachine {
    /// The recorder.
    pub tlb: Arc<RecordingTlb>,
    /// Counts of what was done to pages.
    pub pages: Arc<PageCounts>,
}

/// How often each page operation ran.
#[derive(Debug, Default)]
pub struct PageCounts {
    /// Bytes zeroed.
    pub zeroed: AtomicU64,
    /// Bytes of instruction cache dropped.
    pub invalidated: AtomicU64,
    /// Bytes made visible to instruction fetch.
    pub synchronized: AtomicU64,
    /// How often all threads were made to see guests' faults.
    pub virtualized: AtomicU64,
}

impl TestMachine {
    /// A processor without errata.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A processor with these errata.
    #[must_use]
    pub fn with_errata(errata: TlbieErrata) -> Self {
        Self {
            tlb: Arc::new(RecordingTlb::with_errata(errata)),
            pages: Arc::default(),
        }
    }
}

// SAFETY: writes the given range and nothing else.
unsafe impl PageOps for TestMachine {
    unsafe fn zero(&self, at: HostReal, len: u64) {
        let (Ok(at), Ok(count)) = (usize::try_from(at.get()), usize::try_from(len)) else {
            return;
        };
        let first = core::ptr::with_exposed_provenance_mut::<u8>(at);
        // SAFETY: the caller owns the memory.
        unsafe { first.write_bytes(0, count) };
        self.pages.zeroed.fetch_add(len, Ordering::Relaxed);
    }

    unsafe fn icache_invalidate(&self, _: HostReal, len: u64) {
        self.pages.invalidated.fetch_add(len, Ordering::Relaxed);
    }

    unsafe fn icache_synchronize(&self, _: HostReal, len: u64) {
        self.pages.synchronized.fetch_add(len, Ordering::Relaxed);
    }
}

impl Threads for TestMachine {
    fn virtualize(&self, _: Lpid) {
        self.pages.virtualized.fetch_add(1, Ordering::Relaxed);
    }
}

impl TlbMaintenance for TestMachine {
    fn ptesync(&self) {
        self.tlb.ptesync();
    }

    fn eieio(&self) {
        self.tlb.eieio();
    }

    fn tlbsync(&self) {
        self.tlb.tlbsync();
    }

    fn tlbie(&self, rb: TlbieRb, lpid: Lpid) {
        self.tlb.tlbie(rb, lpid);
    }

    fn tlbie_lpid(&self, lpid: Lpid) {
        self.tlb.tlbie_lpid(lpid);
    }

    fn tlbie_pate(&self, lpid: Lpid) {
        self.tlb.tlbie_pate(lpid);
    }

    fn tlbie_erat_fixup(&self) {
        self.tlb.tlbie_erat_fixup();
    }

    fn errata(&self) -> TlbieErrata {
        self.tlb.errata()
    }

    fn is_local(&self, lpid: Lpid) -> bool {
        self.tlb.is_local(lpid)
    }

    fn tlbiel(&self, rb: TlbieRb) {
        self.tlb.tlbiel(rb);
    }

    fn cp_abort(&self) {
        self.tlb.cp_abort();
    }

    fn hpte_store(&self, store: HpteStore) {
        self.tlb.hpte_store(store);
    }

    fn pate_store(&self, store: PateStore) {
        self.tlb.pate_store(store);
    }
}

/// Host memory that stands for a machine's. It must outlive what is made of it.
#[derive(Debug)]
pub struct TestMemory {
    first: *mut u8,
    layout: Layout,
}

impl TestMemory {
    /// Memory of `bytes`, aligned to 16 MiB, or to its size where that is less.
    ///
    /// # Panics
    /// When the host has no memory, or `bytes` is 0.
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        let align = bytes.next_power_of_two().min(16 << 20);
        let layout = Layout::from_size_align(bytes, align).unwrap();
        assert!(bytes > 0);
        // SAFETY: the size is not 0.
        let first = unsafe { alloc_zeroed(layout) };
        assert!(!first.is_null());
        Self { first, layout }
    }

    /// The address of the first byte.
    #[must_use]
    pub fn base(&self) -> HostReal {
        HostReal::new(self.first.expose_provenance() as u64)
    }

    /// An allocator that has all of this memory. To be called once.
    ///
    /// # Panics
    /// Never: an empty allocator takes one range.
    #[must_use]
    pub fn frames(&self) -> FrameAllocator {
        let mut allocator = FrameAllocator::new();
        // SAFETY: allocated above; the caller calls this once and keeps `self` alive.
        let all = unsafe { Frames::from_raw(self.base(), self.layout.size() as u64) };
        allocator.free(all).unwrap();
        allocator
    }

    /// Overwrites all of the memory, so that whoever relies on zeroes is found out.
    pub fn fill(&self, byte: u8) {
        // SAFETY: allocated above, of this size.
        unsafe { self.first.write_bytes(byte, self.layout.size()) };
    }
}

impl Drop for TestMemory {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout, and not used any more by the caller's promise.
        unsafe { dealloc(self.first, self.layout) };
    }
}

// SAFETY: plain memory.
unsafe impl Send for TestMemory {}
// SAFETY: shared access hands out the address only, and filling is for tests of one thread.
unsafe impl Sync for TestMemory {}
