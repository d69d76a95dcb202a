// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What of a partition's locks each thread holds: counted in tests, which fail where one would wait
//! against the lock order of [`super`], whether or not anybody has the lock. Elsewhere this is nothing.

/// The kinds of locks, in the order in which a thread may wait for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Lock {
    /// A partition's range lock.
    Range,
    /// An entry's. A thread that has one tries for further ones, and does not wait.
    Entry,
    /// A ring's head's.
    Head,
}

pub(super) use counted::{left, taken, wanted};

#[cfg(not(test))]
mod counted {
    use super::Lock;

    #[inline(always)]
    pub(in crate::hpt) fn wanted(_: Lock) {}

    #[inline(always)]
    pub(in crate::hpt) fn taken(_: Lock) {}

    #[inline(always)]
    pub(in crate::hpt) fn left(_: Lock) {}
}

#[cfg(test)]
mod counted {
    extern crate std;

    use super::Lock;
    use core::cell::Cell;
    use std::thread_local;

    /// Bits of a count.
    const BITS: u32 = 16;

    thread_local! {
        /// How many of each kind, the last in the order in the highest bits.
        static HELD: Cell<u64> = const { Cell::new(0) };
    }

    /// The thread may wait for a lock of this kind from here on.
    pub(in crate::hpt) fn wanted(lock: Lock) {
        let not_before = HELD.get() >> (BITS * lock as u32);
        assert!(
            not_before == 0,
            "waits for {lock:?}, and holds {not_before:x}"
        );
    }

    /// The thread has taken a lock of this kind.
    pub(in crate::hpt) fn taken(lock: Lock) {
        HELD.set(HELD.get() + (1 << (BITS * lock as u32)));
    }

    /// The thread has let go of a lock of this kind.
    pub(in crate::hpt) fn left(lock: Lock) {
        let count = HELD.get() >> (BITS * lock as u32) & 0xffff;
        assert_ne!(count, 0, "nobody holds it");
        HELD.set(HELD.get() - (1 << (BITS * lock as u32)));
    }

    mod tests {
        use super::super::{Lock, left, taken, wanted};
        use super::std::panic::catch_unwind;

        /// Whether the thread may wait for `lock` while it holds `held`.
        fn may(held: Lock, lock: Lock) -> bool {
            taken(held);
            let may = catch_unwind(|| wanted(lock)).is_ok();
            left(held);
            may
        }

        #[test]
        fn a_wait_against_the_lock_order_is_told() {
            assert!(may(Lock::Range, Lock::Entry) && may(Lock::Range, Lock::Head));
            assert!(may(Lock::Entry, Lock::Head));
            for lock in [Lock::Range, Lock::Entry, Lock::Head] {
                assert!(!may(lock, lock));
            }
            assert!(!may(Lock::Head, Lock::Entry) && !may(Lock::Head, Lock::Range));
            assert!(!may(Lock::Entry, Lock::Range));
            assert!(may(Lock::Range, Lock::Head), "nothing is held any more");
        }
    }
}
