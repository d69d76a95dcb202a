// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Whether a virtual processor waits, so that who wakes it and who lets it sleep cannot miss each
//! other.
//!
//! The one that goes to sleep says so, and then looks for the last time whether anything has come.
//! The one that brings something does that first, and then looks whether anybody sleeps. Each has a
//! full barrier between its store and its load, so that not both can find nothing: the classic lost
//! wake-up is a processor that loads before its own store is seen by the other.
//!
//! `tests/interleavings` runs this file over every interleaving.

use super::sync::{AtomicBool, Ordering, fence};

/// Whether a virtual processor waits for something.
#[derive(Debug)]
pub struct Waiting(AtomicBool);

impl Waiting {
    /// It does not.
    #[must_use]
    pub fn new() -> Self {
        Self(AtomicBool::new(false))
    }

    /// It waits from now on, unless `came` says that something has come already: then it does not,
    /// and goes on. Whether it waits.
    #[inline]
    pub fn begin(&self, came: impl FnOnce() -> bool) -> bool {
        self.0.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        let waits = !came();
        if !waits {
            self.end();
        }
        waits
    }

    /// It waits no more.
    #[inline]
    pub fn end(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    /// Whether it waits, to be asked after something was brought to it. The answer may be outdated
    /// when it says yes, never when it says no.
    #[inline]
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        fence(Ordering::SeqCst);
        self.0.load(Ordering::Relaxed)
    }
}

impl Default for Waiting {
    fn default() -> Self {
        Self::new()
    }
}
