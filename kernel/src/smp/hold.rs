// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Keeping a virtual processor off its thread, while another thread works on it.
//!
//! A virtual processor has one thread at a time that runs it ([`Home`](super::Home)): it goes aboard, which
//! puts its registers into the machine, and stays aboard across exits. Who wants it off says so, rings that thread's
//! [bell](super::Bell), and waits until it is ashore; it does not come aboard again before all who
//! hold it have let go.
//!
//! The same keeps threads that are idle off what they do for a partition meanwhile: see
//! [`Backlog`](crate::backlog::Backlog). Nobody has that aboard for longer than a step.
//!
//! Each side stores its own word, then, after a full barrier, reads the other's. So one of the two
//! sees the other, or both do.

use super::sync::{AtomicU32, Ordering, fence};

/// Whether a virtual processor came aboard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Boarding {
    /// It is aboard.
    Aboard,
    /// Somebody holds it, or another thread has it aboard.
    Held,
}

/// Not the name of any thread.
const NOBODY: u32 = 0;

/// Who has a virtual processor: its thread, or those who hold it.
#[derive(Debug, Default)]
pub struct Hold {
    /// The thread that has it aboard, or [`NOBODY`]. Which one matters: a thread that was chosen
    /// before the virtual processor was given to another must not take that one's word away.
    aboard: AtomicU32,
    holds: AtomicU32,
}

impl Hold {
    /// Ashore, and held by nobody.
    #[must_use]
    pub fn new() -> Self {
        Self {
            aboard: AtomicU32::new(NOBODY),
            holds: AtomicU32::new(0),
        }
    }

    /// By a thread that does not have it aboard, before it touches it: its home, or one that is to be. `thread`
    /// is its name, not 0.
    pub fn board(&self, thread: u32) -> Boarding {
        let entered =
            self.aboard
                .compare_exchange(NOBODY, thread, Ordering::Acquire, Ordering::Relaxed);
        if entered.is_err() {
            return Boarding::Held;
        }
        fence(Ordering::SeqCst);
        if self.holds.load(Ordering::Acquire) == 0 {
            Boarding::Aboard
        } else {
            self.alight();
            Boarding::Held
        }
    }

    /// By the thread that has it aboard, when nothing of it is in the machine any more.
    pub fn alight(&self) {
        self.aboard.store(NOBODY, Ordering::Release);
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
        self.aboard().is_none()
    }

    /// The thread that has it aboard.
    #[must_use]
    pub fn aboard(&self) -> Option<u32> {
        let name = self.aboard.load(Ordering::Acquire);
        (name != NOBODY).then_some(name)
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
    fn one_thread_has_it_aboard() {
        let hold = Hold::new();
        assert_eq!(hold.board(1), Boarding::Aboard);
        assert_eq!(hold.board(2), Boarding::Held);
        hold.hold();
        assert!(
            !hold.is_ashore(),
            "the second one took the first one's word away"
        );
        hold.alight();
        assert!(hold.is_ashore());
    }

    #[test]
    fn it_comes_aboard_when_the_last_has_let_go() {
        let hold = Hold::new();
        assert_eq!(hold.board(1), Boarding::Aboard);
        hold.hold();
        assert!(hold.is_held() && !hold.is_ashore());
        hold.hold();
        hold.alight();
        assert!(hold.is_ashore());
        assert_eq!(hold.board(1), Boarding::Held);
        assert!(hold.is_ashore(), "who was held stays ashore");
        hold.let_go();
        assert_eq!(hold.board(1), Boarding::Held);
        hold.let_go();
        assert!(!hold.is_held());
        assert_eq!(hold.board(1), Boarding::Aboard);
    }
}
