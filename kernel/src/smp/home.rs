// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The thread that runs a virtual processor, which may become another one.
//!
//! Whoever is to run it from now on takes it aboard first ([`Hold`](super::Hold)): so it is in no
//! machine, nobody holds it, and of two that want it one has it. Then it changes the home, and looks
//! at the virtual processor afterwards.
//!
//! Who brings something to a virtual processor stores that first, then asks for its home, and rings
//! there. Each side has a full barrier between its store and its load: so either the new home finds
//! what was brought, or the one who brought it finds the new home. A ring at the old one does no harm.
//!
//! A thread that was chosen by an old look at the home looks again when it has it aboard, before it
//! touches it.

use super::sync::{AtomicU64, AtomicUsize, Ordering, fence};

/// What its home tells other threads of a virtual processor that waits for a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Its virtual time.
    pub time: u64,
    /// How far it may be behind others that run, in virtual time; not 0.
    pub slack: u64,
}

/// Where a virtual processor runs, and whether it would rather run elsewhere.
#[derive(Debug)]
pub struct Home {
    thread: AtomicUsize,
    time: AtomicU64,
    /// 0 while it is not offered.
    slack: AtomicU64,
}

impl Home {
    /// The thread with number 0; not offered.
    #[must_use]
    pub fn new() -> Self {
        Self {
            thread: AtomicUsize::new(0),
            time: AtomicU64::new(0),
            slack: AtomicU64::new(0),
        }
    }

    /// The thread's number. It may have changed since; not for who has the virtual processor aboard.
    #[must_use]
    pub fn thread(&self) -> usize {
        self.thread.load(Ordering::Relaxed)
    }

    /// The number of the thread to ring at, for who has left something for the virtual processor.
    #[must_use]
    pub fn to_ring_at(&self) -> usize {
        fence(Ordering::SeqCst);
        self.thread.load(Ordering::Relaxed)
    }

    /// By who has it aboard, or holds it and waited until it was ashore: this thread runs it from now
    /// on. What is there for it is looked for afterwards.
    pub fn move_to(&self, thread: usize) {
        self.withdraw();
        self.thread.store(thread, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// By its thread: whoever has time for it may take it.
    pub fn offer(&self, offer: Offer) {
        self.time.store(offer.time, Ordering::Relaxed);
        self.slack.store(offer.slack, Ordering::Release);
    }

    /// By its thread, before it takes it aboard itself, or by who has it aboard: it is not offered any
    /// more.
    pub fn withdraw(&self) {
        self.slack.store(0, Ordering::Relaxed);
    }

    /// What is offered. It holds only for who has it aboard.
    #[must_use]
    pub fn offered(&self) -> Option<Offer> {
        let slack = self.slack.load(Ordering::Acquire);
        (slack != 0).then(|| Offer {
            time: self.time.load(Ordering::Relaxed),
            slack,
        })
    }
}

impl Default for Home {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn who_moves_is_not_offered_any_more() {
        let home = Home::new();
        assert_eq!(home.offered(), None);
        let offer = Offer { time: 7, slack: 1 };
        home.offer(offer);
        assert_eq!(home.offered(), Some(offer));
        home.move_to(3);
        assert_eq!(home.offered(), None);
        assert_eq!((home.thread(), home.to_ring_at()), (3, 3));
        home.offer(offer);
        home.withdraw();
        assert_eq!(home.offered(), None);
    }
}
