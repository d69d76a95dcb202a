// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Whether a guest's own faults must come to the hypervisor: LPCR[VPM1] as a state.
//!
//! With VPM1 clear a guest's fault in virtual mode goes straight to the guest, which is right as
//! long as the hardware sees all that the guest entered. So everything that the hardware is not
//! told, or told less of, is counted: absent entries, guarded pieces. Only at zero may a virtual
//! processor be entered with VPM1 clear.
//!
//! Turning VPM1 on: count, then see that no thread is in the guest without it, and only then hide the
//! first entry. The word holds the count and, as long as the count is not zero, whether that has been
//! seen to; both go to zero in one step, so nobody can rely on what was true of an earlier count.
//!
//! Entering: a thread says that it is in the guest without VPM1, full barrier, reads the count, and
//! takes it back where the count is not zero. Hiding: count, full barrier, and wait for each thread
//! that says so. One of the two sees the other. `tests/interleavings` tries every interleaving.

use super::sync::{AtomicU64, Ordering, fence};

/// No thread is in the guest without VPM1.
const CONFIRMED: u64 = 1 << 63;

/// The count of what the hardware does not see.
#[derive(Debug, Default)]
pub(super) struct Veil(AtomicU64);

impl Veil {
    pub(super) fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Counts `more` things that are about to be hidden. `turn_on` returns when no thread is in the
    /// guest without VPM1, and none can get there while the count is not zero.
    #[inline]
    pub(super) fn add(&self, more: u64, turn_on: impl FnOnce()) {
        // A full barrier: the count is visible before `turn_on` looks at the threads.
        let old = self.0.fetch_add(more, Ordering::SeqCst);
        if old & CONFIRMED == 0 {
            self.confirm(turn_on);
        }
    }

    #[cold]
    fn confirm(&self, turn_on: impl FnOnce()) {
        fence(Ordering::SeqCst);
        turn_on();
        // Our own count keeps it from zero.
        self.0.fetch_or(CONFIRMED, Ordering::AcqRel);
    }

    /// Takes back `less` of what was counted: the hardware sees it again.
    #[inline]
    pub(super) fn remove(&self, less: u64) {
        let mut old = self.0.load(Ordering::Relaxed);
        loop {
            let count = (old & !CONFIRMED).saturating_sub(less);
            let new = if count == 0 {
                0
            } else {
                (old & CONFIRMED) | count
            };
            match self
                .0
                .compare_exchange_weak(old, new, Ordering::AcqRel, Ordering::Relaxed)
            {
                Ok(_) => return,
                Err(found) => old = found,
            }
        }
    }

    /// Whether anything is counted. A thread that enters the guest without VPM1 calls this after it
    /// has said so, and a full barrier.
    #[inline]
    pub(super) fn is_needed(&self) -> bool {
        self.count() != 0
    }

    /// Whether anything is counted, for who holds a lock that orders it.
    #[inline]
    pub(super) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed) & !CONFIRMED != 0
    }

    /// What is counted.
    #[inline]
    pub(super) fn count(&self) -> u64 {
        self.0.load(Ordering::SeqCst) & !CONFIRMED
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_first_turns_it_on_and_the_last_forgets_that() {
        let veil = Veil::new();
        let mut calls = 0;
        assert!(!veil.is_needed());
        veil.add(1, || calls += 1);
        veil.add(2, || calls += 1);
        assert_eq!((calls, veil.count()), (1, 3));
        veil.remove(2);
        assert!(veil.is_needed());
        veil.remove(1);
        assert!(!veil.is_needed());
        veil.add(1, || calls += 1);
        assert_eq!((calls, veil.count()), (2, 1));
    }

    #[test]
    fn who_comes_while_it_is_turned_on_waits_too() {
        let veil = Veil::new();
        let mut inner = 0;
        veil.add(1, || veil.add(1, || inner += 1));
        assert_eq!(inner, 1);
    }
}
