// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Every interleaving of a few threads, under loom: `RUSTFLAGS='--cfg loom' cargo test -p
//! penstock-mm --release --target-dir target/loom --test interleavings`.
//!
//! `veil.rs` and `ring.rs` are the crate's own, compiled here once more over loom's atomics. The
//! entries and what works on them are models; each names what it mirrors.
#![cfg(loom)]

#[path = "../../src/hpt/ring.rs"]
mod ring;
#[path = "../../src/hpt/veil.rs"]
mod veil;

mod ahead;
mod page;
mod revoke;
mod sharing;
mod table;
mod vpm;

/// What `ring` and `veil` are made of, here.
mod sync {
    /// The threads of a model share a thread, where what each holds cannot be counted.
    pub(super) mod held {
        pub enum Lock {
            Head,
        }
        pub fn wanted(_: Lock) {}
        pub fn taken(_: Lock) {}
        pub fn left(_: Lock) {}
    }

    pub(super) use loom::hint::spin_loop;
    pub(super) use loom::sync::atomic::{Ordering, fence};

    /// A word with a lock in it. A waiter's read-modify-write that finds it locked stores it locked
    /// again; loom may put a plain store that unlocks before that one, which no machine does, and
    /// the lock is lost. So a store is a swap here, in the same order of memory.
    #[derive(Debug, Default)]
    pub(super) struct AtomicU64(loom::sync::atomic::AtomicU64);

    impl AtomicU64 {
        pub(super) fn new(value: u64) -> Self {
            Self(loom::sync::atomic::AtomicU64::new(value))
        }

        pub(super) fn store(&self, value: u64, order: Ordering) {
            self.0.swap(value, order);
        }
    }

    impl core::ops::Deref for AtomicU64 {
        type Target = loom::sync::atomic::AtomicU64;

        fn deref(&self) -> &Self::Target {
            &self.0
        }
    }
}

/// Runs `model` in every interleaving with at most `preemptions` switches away from a thread that
/// could go on, and says how many those were. Fails where there are fewer than two.
fn check(name: &str, preemptions: usize, model: impl Fn() + Send + Sync + 'static) {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    let runs = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&runs);
    let mut builder = loom::model::Builder::new();
    // From LOOM_MAX_PREEMPTIONS, if that is set.
    let preemptions = builder.preemption_bound.unwrap_or(preemptions);
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = 20_000;
    builder.check(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        model();
    });
    let runs = runs.load(Ordering::Relaxed);
    println!("{name}: {runs} executions, at most {preemptions} preemptions");
    assert!(runs > 1, "nothing was interleaved");
}

/// Runs `body` in a thread of the model.
fn spawn<P: 'static>(
    partition: &loom::sync::Arc<P>,
    body: impl FnOnce(&P) + 'static,
) -> loom::thread::JoinHandle<()> {
    let partition = loom::sync::Arc::clone(partition);
    loom::thread::spawn(move || body(&partition))
}

/// Waits for threads of the model.
fn join<const N: usize>(threads: [loom::thread::JoinHandle<()>; N]) {
    for thread in threads {
        thread.join().unwrap();
    }
}
