// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A thread's bell: how others get its attention, wherever it is.
//!
//! A thread that runs the hypervisor finds by itself what was left for it. One that sleeps or is in
//! a guest needs an interrupt. Both facts, that somebody has rung and that the thread is away, are in
//! one word and change by read-modify-write only, so there is no moment at which the one who rings
//! believes it awake while it goes to sleep on an old look.

use super::sync::{AtomicU32, Ordering};

/// Somebody has rung, and the thread has not looked since.
const RUNG: u32 = 1 << 0;
/// The thread sleeps, or is in a guest.
const AWAY: u32 = 1 << 1;

/// What whoever rings has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Ring {
    /// Interrupt the thread.
    Interrupt,
    /// Nothing: the thread will look by itself, or an interrupt is on its way.
    Heard,
}

/// The bell of one thread.
#[derive(Debug, Default)]
pub struct Bell(AtomicU32);

impl Bell {
    /// Nobody has rung, and the thread is there.
    #[must_use]
    pub fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    /// By any thread, after it has stored what the bell's owner is to find.
    pub fn ring(&self) -> Ring {
        if self.0.fetch_or(RUNG, Ordering::AcqRel) == AWAY {
            Ring::Interrupt
        } else {
            Ring::Heard
        }
    }

    /// Whether somebody has rung since the owner last answered.
    #[must_use]
    pub fn is_rung(&self) -> bool {
        self.0.load(Ordering::Relaxed) & RUNG != 0
    }

    /// By the owner, who looks at everything afterwards. Whether somebody has rung.
    pub fn answer(&self) -> bool {
        self.0.fetch_and(!RUNG, Ordering::AcqRel) & RUNG != 0
    }

    /// By the owner, before it sleeps or enters a guest: false if somebody has rung since it last
    /// [answered](Self::answer), and it must not.
    #[must_use]
    pub fn leave(&self) -> bool {
        self.0
            .compare_exchange(0, AWAY, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
    }

    /// By the owner, when it is back.
    pub fn come_back(&self) {
        self.0.fetch_and(!AWAY, Ordering::AcqRel);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_ring_at_one_who_is_away_interrupts() {
        let bell = Bell::new();
        assert_eq!(bell.ring(), Ring::Heard);
        assert!(!bell.leave(), "it leaves although somebody has rung");
        assert!(bell.is_rung());
        assert!(bell.answer());
        assert!(!bell.is_rung() && !bell.answer());
        assert!(bell.leave());
        assert_eq!(bell.ring(), Ring::Interrupt);
        assert_eq!(bell.ring(), Ring::Heard);
        bell.come_back();
        assert_eq!(bell.ring(), Ring::Heard);
        assert!(!bell.leave());
        assert!(bell.answer());
        assert!(bell.leave());
    }
}
