// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The veil: as long as anything is hidden, no thread is in the guest without LPCR\[VPM1\].
//!
//! Entries are words that are 1 while the hardware sees them. A thread that is in the guest without
//! VPM1 must find all of them 1. The loads and stores are relaxed, so that what is not ordered by the
//! protocol shows as a stale value.

use crate::veil::Veil;
use loom::hint::spin_loop;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU64, Ordering, fence};

const ENTRIES: usize = 2;
const THREADS: usize = 2;

struct Partition {
    veil: Veil,
    /// 1 while the hardware sees the entry.
    entries: [AtomicU64; ENTRIES],
    /// 1 while the thread says that it is in the guest without VPM1.
    without_vpm: [AtomicU64; THREADS],
}

impl Partition {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            veil: Veil::new(),
            entries: [(); ENTRIES].map(|()| AtomicU64::new(1)),
            without_vpm: [(); THREADS].map(|()| AtomicU64::new(0)),
        })
    }

    /// What `Threads::virtualize` promises: kick, and wait until no thread is in the guest without
    /// VPM1. Threads here leave by themselves.
    fn virtualize(&self) {
        for thread in &self.without_vpm {
            while thread.load(Ordering::Acquire) != 0 {
                spin_loop();
            }
        }
    }

    /// Hides an entry, and shows it again.
    fn hide_and_show(&self, number: usize) {
        self.veil.add(1, || self.virtualize());
        self.entries[number].store(0, Ordering::Relaxed);
        self.entries[number].store(1, Ordering::Relaxed);
        self.veil.remove(1);
    }

    /// Enters the guest once, without VPM1 where that is allowed. Returns whether it was.
    fn run(&self, thread: usize) -> bool {
        self.without_vpm[thread].store(1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        let allowed = !self.veil.is_needed();
        if allowed {
            for entry in &self.entries {
                let seen = entry.load(Ordering::Relaxed);
                assert_eq!(seen, 1, "in the guest without VPM1, and an entry is hidden");
            }
        }
        self.without_vpm[thread].store(0, Ordering::Release);
        allowed
    }
}

#[test]
fn loom_veil_one_hider_and_two_vcpus() {
    crate::check("one hider, two vCPUs", 2, || {
        let p = Partition::new();
        let vcpus = [0, 1].map(|number| {
            crate::spawn(&p, move |p| {
                p.run(number);
                p.run(number);
            })
        });
        p.hide_and_show(0);
        crate::join(vcpus);
        assert!(!p.veil.is_set());
        assert_eq!(p.veil.count(), 0);
        assert!(p.run(0), "nothing is hidden, and VPM1 stays on");
    });
}

#[test]
fn loom_veil_one_hider_twice_and_a_vcpu() {
    crate::check("one hider twice, one vCPU", 3, || {
        let p = Partition::new();
        let vcpu = crate::spawn(&p, |p| {
            p.run(0);
            p.run(0);
        });
        p.hide_and_show(0);
        p.hide_and_show(0);
        vcpu.join().unwrap();
        assert!(p.run(0), "nothing is hidden, and VPM1 stays on");
    });
}

#[test]
fn loom_veil_two_hiders_and_a_vcpu() {
    crate::check("two hiders, one vCPU", 2, || {
        let p = Partition::new();
        let hider = crate::spawn(&p, |p| p.hide_and_show(1));
        let vcpu = crate::spawn(&p, |p| {
            p.run(0);
            p.run(0);
        });
        p.hide_and_show(0);
        hider.join().unwrap();
        vcpu.join().unwrap();
        assert!(p.run(0), "nothing is hidden, and VPM1 stays on");
    });
}

#[test]
fn loom_veil_two_hiders_and_two_vcpus() {
    crate::check("two hiders, two vCPUs", 2, || {
        let p = Partition::new();
        let hider = crate::spawn(&p, |p| p.hide_and_show(1));
        let vcpus = [0, 1].map(|number| {
            crate::spawn(&p, move |p| {
                p.run(number);
            })
        });
        p.hide_and_show(0);
        hider.join().unwrap();
        crate::join(vcpus);
        assert!(p.run(0), "nothing is hidden, and VPM1 stays on");
    });
}
