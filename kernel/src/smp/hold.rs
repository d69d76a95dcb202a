// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Keeping a virtual processor off its thread, while another thread works on it.
//!
//! A virtual processor has one thread that runs it: it goes aboard, which puts its registers into the
//! machine, and stays aboard across exits. Who wants it off says so, rings that thread's
//! [bell](super::Bell), and waits until it is ashore; it does not come aboard again before all who
//! hold it have let go.
//!
//! Each side stores its own word, then, after a full barrier, reads the other's. So one of the two
//! sees the other, or both do.

use super::sync::{AtomicBool, AtomicU32, Ordering, fence};

/// Whether a virtual processor came aboard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Boarding {
    /// It is aboard.
    Aboard,
    /// Somebody holds it.
    Held,
}

/// Who has a virtual processor: its thread, or those who hold it.
#[derive(Debug, Default)]
pub struct Hold {
    aboard: AtomicBool,
    holds: AtomicU32,
}

impl Hold {
    /// Ashore, and held by nobody.
    #[must_use]
    pub fn new() -> Self {
        Self {
            aboard: AtomicBool::new(false),
            holds: AtomicU32::new(0),
        }
    }

    /// By its thread, which does not have it aboard, before it touches it.
    pub fn board(&self) -> Boarding {
        self.aboard.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if self.holds.load(Ordering::Acquire) == 0 {
            Boarding::Aboard
        } else {
            self.alight();
            Boarding::Held
        }
    }

    /// By its thread, when nothing of it is in the machine any more.
    pub fn alight(&self) {
        self.aboard.store(false, Ordering::Release);
    }

    /// Whether somebody waits for it, or works on it.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.holds.load(Ordering::Acquire) != 0
    }

    /// Keeps it from coming aboard. It may still be aboard: then its thread must be rung for, and
    /// [`Self::is_ashore`] waited for.
    pub fn hold(&self) {
        self.holds.fetch_add(1, Ordering::AcqRel);
        fence(Ordering::SeqCst);
    }

    /// Whether its thread has let go. By one who holds it: then it is his, with all that the thread
    /// has done to it.
    #[must_use]
    pub fn is_ashore(&self) -> bool {
        !self.aboard.load(Ordering::Acquire)
    }

    /// Ends one [`Self::hold`]. Its thread must be rung for afterwards, in case it sleeps.
    pub fn let_go(&self) {
        self.holds.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn it_comes_aboard_when_the_last_has_let_go() {
        let hold = Hold::new();
        assert_eq!(hold.board(), Boarding::Aboard);
        hold.hold();
        assert!(hold.is_held() && !hold.is_ashore());
        hold.hold();
        hold.alight();
        assert!(hold.is_ashore());
        assert_eq!(hold.board(), Boarding::Held);
        assert!(hold.is_ashore(), "who was held stays ashore");
        hold.let_go();
        assert_eq!(hold.board(), Boarding::Held);
        hold.let_go();
        assert!(!hold.is_held());
        assert_eq!(hold.board(), Boarding::Aboard);
    }
}
