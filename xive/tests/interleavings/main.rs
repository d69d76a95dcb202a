// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Every interleaving of a few threads, under loom: `RUSTFLAGS='--cfg loom' cargo test -p
//! penstock-xive --release --target-dir target/loom --test interleavings`.
//!
//! `rest.rs` is the crate's own, compiled here once more over loom's atomics. What is brought to a
//! virtual processor that waits is a word here: P of its escalation, or a prod.
#![cfg(loom)]

#[path = "../../src/native/rest.rs"]
mod rest;

/// What `rest` is made of, here.
mod sync {
    pub(super) use loom::sync::atomic::{AtomicBool, Ordering, fence};
}

use loom::sync::Arc;
use loom::thread;
use rest::Waiting;
use sync::{AtomicBool, Ordering};

/// A virtual processor and what comes for it.
struct Vcpu<const BRINGERS: usize> {
    waiting: Waiting,
    came: [AtomicBool; BRINGERS],
    kicked: AtomicBool,
}

impl<const BRINGERS: usize> Vcpu<BRINGERS> {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            waiting: Waiting::new(),
            came: core::array::from_fn(|_| AtomicBool::new(false)),
            kicked: AtomicBool::new(false),
        })
    }

    /// Whether it sleeps.
    fn rest(&self) -> bool {
        self.waiting
            .begin(|| self.came.iter().any(|came| came.load(Ordering::Relaxed)))
    }

    /// Brings something: first the thing, then a look whether anybody sleeps.
    fn bring(&self, number: usize) {
        self.came[number].store(true, Ordering::Relaxed);
        if self.waiting.is_waiting() {
            self.kicked.store(true, Ordering::Relaxed);
        }
    }
}

/// One that sleeps while something is there was kicked; everything has been brought at the end.
fn nobody_is_forgotten<const BRINGERS: usize>() {
    loom::model(|| {
        let vcpu = Vcpu::<BRINGERS>::new();
        let bringers: Vec<_> = (0..BRINGERS)
            .map(|number| {
                let vcpu = Arc::clone(&vcpu);
                thread::spawn(move || vcpu.bring(number))
            })
            .collect();
        let sleeps = vcpu.rest();
        for bringer in bringers {
            bringer.join().unwrap();
        }
        assert!(!sleeps || vcpu.kicked.load(Ordering::Relaxed), "asleep");
    });
}

#[test]
fn an_interrupt_is_never_missed() {
    nobody_is_forgotten::<1>();
}

#[test]
fn an_interrupt_and_a_prod_are_never_missed() {
    nobody_is_forgotten::<2>();
}

/// It rests again and again: what it took stays taken, what came later wakes it.
#[test]
fn two_rests_in_a_row() {
    loom::model(|| {
        let vcpu = Vcpu::<1>::new();
        let bringer = {
            let vcpu = Arc::clone(&vcpu);
            thread::spawn(move || vcpu.bring(0))
        };
        let first = vcpu.rest();
        if !first {
            // It takes what came, and rests again.
            vcpu.came[0].store(false, Ordering::Relaxed);
            assert!(vcpu.rest());
            bringer.join().unwrap();
        } else {
            bringer.join().unwrap();
            assert!(vcpu.kicked.load(Ordering::Relaxed), "asleep");
        }
    });
}
