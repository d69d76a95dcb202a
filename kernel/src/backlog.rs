// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Memory that a partition has not touched yet, and that threads back for it which have nobody to run.
//!
//! A partition's backlog has one thread at a time at it. That thread takes it as a virtual processor's
//! thread takes that one ([`Hold`]): so whoever keeps a partition's virtual processors off their threads,
//! in order to end it, to have it start over, or to change what is behind it, keeps it off its backlog
//! too. A virtual processor may be in the guest meanwhile, and be woken: nobody waits for more than a step.

use crate::occupied::Occupied;
use crate::platform::Platform;
use crate::smp::{Boarding, Hold};
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, Ordering};
use penstock_mm::hpt::Ahead;
use spin::Mutex;

/// The backlog of one partition of the tree.
pub struct Backlog<P: Platform> {
    hold: Hold,
    /// There may be something to do.
    is_open: AtomicBool,
    /// The partition, while it is there. Nobody waits for this: who changes it holds the backlog.
    occupied: Mutex<Option<Arc<Occupied<P>>>>,
}

impl<P: Platform> Default for Backlog<P> {
    fn default() -> Self {
        Self::new()
    }
}

impl<P: Platform> Backlog<P> {
    /// That of a partition which is not there.
    #[must_use]
    pub fn new() -> Self {
        Self {
            hold: Hold::new(),
            is_open: AtomicBool::new(false),
            occupied: Mutex::new(None),
        }
    }

    /// What keeps threads off it.
    pub const fn hold(&self) -> &Hold {
        &self.hold
    }

    /// By one who holds it: the partition is there.
    pub fn fill(&self, occupied: Arc<Occupied<P>>) {
        *self.occupied.lock() = Some(occupied);
        self.is_open.store(true, Ordering::Relaxed);
    }

    /// By one who holds it: the partition ends.
    pub fn empty(&self) {
        self.is_open.store(false, Ordering::Relaxed);
        *self.occupied.lock() = None;
    }

    /// By a thread that has nobody to run, whose name is not 0: one step, where `runs` says that the
    /// partition is not stopped, to be asked once nobody can stop it. Whether anything was done, and more
    /// may be.
    pub fn work(&self, thread: u32, runs: impl FnOnce() -> bool) -> bool {
        if !self.is_open.load(Ordering::Relaxed) || self.hold.board(thread) != Boarding::Aboard {
            return false;
        }
        let did = self.step(runs);
        self.hold.alight();
        did
    }

    fn step(&self, runs: impl FnOnce() -> bool) -> bool {
        let Some(occupied) = self.occupied.try_lock() else {
            return false;
        };
        let Some(occupied) = occupied.as_ref().filter(|_| runs()) else {
            return false;
        };
        match occupied.partition().mmu.back_ahead() {
            Ahead::More => true,
            Ahead::Done => {
                self.is_open.store(false, Ordering::Relaxed);
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{FakePlatform, GUEST_BYTES, RigOptions, make_partition};
    use penstock_mm::guest_memory::{Backing, PIECE};

    const THREAD: u32 = 1;

    fn backlog(options: RigOptions) -> (Backlog<FakePlatform>, Arc<Occupied<FakePlatform>>) {
        let parts = make_partition(options);
        let occupied = Arc::new(Occupied::new(parts.partition).ok().unwrap());
        let backlog = Backlog::new();
        backlog.fill(occupied.clone());
        (backlog, occupied)
    }

    fn lazy() -> RigOptions {
        RigOptions {
            backing: Backing::Lazy,
            ..RigOptions::default()
        }
    }

    #[test]
    fn an_idle_thread_backs_all_of_a_lazy_partition() {
        let (backlog, occupied) = backlog(lazy());
        let mmu = &occupied.partition().mmu;
        assert!(mmu.hidden() != 0);
        let before = mmu.memory().backed_bytes();
        assert!(backlog.work(THREAD, || true));
        assert_eq!(mmu.memory().backed_bytes(), before + PIECE);
        let steps = (0..2000).take_while(|_| backlog.work(THREAD, || true));
        assert!(steps.count() < 1000);
        assert_eq!(mmu.memory().backed_bytes(), GUEST_BYTES);
        assert_eq!(mmu.hidden(), 0);
        // Nobody is kept off, and nobody has it.
        assert!(backlog.hold().is_ashore());
    }

    #[test]
    fn who_is_held_or_stopped_or_gone_is_left_alone() {
        let (backlog, occupied) = backlog(lazy());
        let mmu = &occupied.partition().mmu;
        let backed = || mmu.memory().backed_bytes();
        let before = backed();
        // Held, by two.
        backlog.hold().hold();
        backlog.hold().hold();
        assert!(!backlog.work(THREAD, || true));
        backlog.hold().let_go();
        assert!(!backlog.work(THREAD, || true));
        backlog.hold().let_go();
        // Another thread is at it.
        assert_eq!(backlog.hold().board(THREAD + 1), Boarding::Aboard);
        assert!(!backlog.work(THREAD, || true));
        backlog.hold().alight();
        // Stopped: it is asked only once it cannot be held.
        let mut asked = false;
        let stopped = || {
            asked = !backlog.hold().is_ashore();
            false
        };
        assert!(!backlog.work(THREAD, stopped));
        assert!(asked);
        assert_eq!(backed(), before);
        assert!(backlog.work(THREAD, || true));
        assert_eq!(backed(), before + PIECE);
        // Gone: nobody keeps it from being taken apart.
        backlog.empty();
        assert!(!backlog.work(THREAD, || true));
        assert!(Arc::try_unwrap(occupied).is_ok());
    }

    #[test]
    fn memory_from_a_pool_and_memory_that_is_there_are_left_alone() {
        let pooled = RigOptions {
            pool_frames: 64,
            ..RigOptions::default()
        };
        for options in [pooled, RigOptions::default()] {
            let (backlog, occupied) = backlog(options);
            let memory = occupied.partition().mmu.memory();
            let before = memory.backed_bytes();
            assert!(!backlog.work(THREAD, || true));
            assert_eq!(memory.backed_bytes(), before);
        }
    }
}
