// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which threads may have translations of a partition.
//!
//! Who invalidates a translation hides the entry, full barrier, and then looks here: as long as only
//! its own thread is named, a local invalidation does. A thread that is about to run the partition for
//! the first time names itself here, full barrier, forgets what its TLB has of an earlier partition of
//! that number, and then uses the page table. So either it is seen, or it does not see the entry.

use super::sync::{AtomicU64, Ordering, fence};

const NOBODY: u64 = 0;
/// More than one. Not the number of any thread.
const MANY: u64 = u64::MAX;

/// The threads that have run one partition since it was made. A thread is any number but 0 and
/// [`u64::MAX`].
#[derive(Debug)]
pub struct TlbScope(AtomicU64);

#[cfg(not(loom))]
impl Default for TlbScope {
    fn default() -> Self {
        Self::new()
    }
}

impl TlbScope {
    /// Nobody.
    #[cfg(not(loom))]
    #[must_use]
    pub const fn new() -> Self {
        Self(AtomicU64::new(NOBODY))
    }

    /// Nobody.
    #[cfg(loom)]
    pub fn new() -> Self {
        Self(AtomicU64::new(NOBODY))
    }

    /// When a partition is made: nobody has run it.
    pub fn forget(&self) {
        self.0.store(NOBODY, Ordering::Release);
    }

    /// By `thread`, before it uses the page table.
    pub fn enter(&self, thread: u64) {
        let only = self
            .0
            .compare_exchange(NOBODY, thread, Ordering::AcqRel, Ordering::Acquire);
        if only.is_err_and(|found| found != thread) {
            self.0.store(MANY, Ordering::Release);
        }
        fence(Ordering::SeqCst);
    }

    /// Whether nobody but `thread` can have a translation of an entry that was hidden before, with a
    /// full barrier since.
    #[inline]
    #[must_use]
    pub fn is_only(&self, thread: u64) -> bool {
        self.0.load(Ordering::Relaxed) == thread
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_second_thread_ends_it_for_good() {
        let scope = TlbScope::new();
        assert!(!scope.is_only(8));
        scope.enter(8);
        scope.enter(8);
        assert!(scope.is_only(8) && !scope.is_only(9));
        scope.enter(9);
        assert!(!scope.is_only(8) && !scope.is_only(9));
        scope.enter(8);
        assert!(!scope.is_only(8));
        scope.forget();
        scope.enter(9);
        assert!(scope.is_only(9));
    }

    /// The threads of an SMT8 core are two groups, of those with even and those with odd numbers, and each
    /// group shares a TLB. Neither the group nor the core is what a local invalidation reaches: each thread
    /// has an ERAT of its own.
    #[test]
    fn tlb_domain_smt8() {
        const GROUPS: [[u64; 4]; 2] = [[8, 10, 12, 14], [9, 11, 13, 15]];
        let core = || GROUPS.into_iter().flatten();
        for first in core() {
            let scope = TlbScope::new();
            scope.enter(first);
            for thread in core() {
                assert_eq!(scope.is_only(thread), thread == first, "{first}, {thread}");
            }
        }
        for first in core() {
            for second in core().filter(|second| *second != first) {
                let scope = TlbScope::new();
                scope.enter(first);
                scope.enter(second);
                for thread in core() {
                    assert!(!scope.is_only(thread), "{first}, {second}, {thread}");
                }
            }
        }
    }
}
