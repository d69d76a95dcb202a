// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a thread does while it waits for another one.
//!
//! A thread that waits for a lock in its guest's call counts as being in that guest, with LPCR\[VPM1\]
//! perhaps clear. Whoever holds the lock may be about to hide a translation, and wait until no thread
//! is in the guest that way (design decision 14): the two would wait for each other for ever. So the
//! hypervisor [says](set_hook) what a thread does at each turn of such a loop, and all locks that a
//! guest's call can wait for use [`Mutex`] or [`relax`].

use spin::{Once, RelaxStrategy};

static HOOK: Once<fn()> = Once::new();

/// Has each turn of a loop that waits call `hook`. Once; before that, and on a host, the turn is the
/// processor's own hint alone.
pub fn set_hook(hook: fn()) {
    HOOK.call_once(|| hook);
}

/// One turn of a loop that waits for another thread.
#[cold]
pub fn relax() {
    if let Some(hook) = HOOK.get() {
        hook();
    }
    core::hint::spin_loop();
}

/// The same for locks.
#[derive(Debug)]
pub struct Relax;

impl RelaxStrategy for Relax {
    fn relax() {
        relax();
    }
}

/// A lock that a guest's call may wait for.
pub type Mutex<T> = spin::mutex::Mutex<T, Relax>;

/// What [`Mutex::lock`](spin::mutex::Mutex::lock) gives.
pub type MutexGuard<'a, T> = spin::mutex::MutexGuard<'a, T, Relax>;

#[cfg(all(test, not(miri)))]
mod tests {
    extern crate std;

    use super::*;
    use core::sync::atomic::{AtomicU64, Ordering};

    static TURNS: AtomicU64 = AtomicU64::new(0);

    #[test]
    fn who_waits_for_a_lock_does_what_it_is_told_to() {
        set_hook(|| {
            TURNS.fetch_add(1, Ordering::Relaxed);
        });
        let lock = Mutex::new(0);
        let held = lock.lock();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| *lock.lock());
            while TURNS.load(Ordering::Relaxed) == 0 {
                std::thread::yield_now();
            }
            drop(held);
            assert_eq!(waiting.join().unwrap(), 0);
        });
    }
}
