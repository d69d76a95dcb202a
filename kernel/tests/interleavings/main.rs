// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Every interleaving of a few threads, under loom: `RUSTFLAGS='--cfg loom' cargo test -p
//! penstock-kernel --release --target-dir target/loom --test interleavings`.
//!
//! `bell.rs`, `hold.rs`, `home.rs`, `presence.rs` and `tlb_scope.rs` are the crate's own, compiled here once more over loom's
//! atomics. What they guard is a model: relaxed words, so that what the protocols do not order shows
//! as a stale value, and an interrupt line that stays up until it is taken.
#![cfg(loom)]

#[path = "../../src/smp/bell.rs"]
mod bell;
#[path = "../../src/smp/hold.rs"]
mod hold;
#[path = "../../src/smp/home.rs"]
mod home;
#[path = "../../src/smp/presence.rs"]
mod presence;
#[path = "../../src/smp/tlb_scope.rs"]
#[expect(dead_code, reason = "the models do not need all of it")]
mod tlb_scope;

/// What the protocols are made of, here.
mod sync {
    pub(super) use loom::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};
}

use bell::{Bell, Ring};
use hold::{Boarding, Hold};
use home::{Home, Offer};
use loom::sync::atomic::{AtomicU64, Ordering, fence};
use loom::sync::{Arc, Notify};
use loom::thread;
use presence::Presence;
use tlb_scope::TlbScope;

/// Runs `model` in every interleaving with at most `preemptions` switches away from a thread that
/// could go on, and says how many those were. Fails where there are fewer than two.
fn check(name: &str, preemptions: usize, model: impl Fn() + Send + Sync + 'static) {
    use std::sync::atomic::{AtomicU64, Ordering};
    let runs = std::sync::Arc::new(AtomicU64::new(0));
    let counted = std::sync::Arc::clone(&runs);
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

/// A thread with its bell, its interrupt line, and what is left for it: a word from each of two.
struct Thread {
    bell: Bell,
    line: Notify,
    left: [AtomicU64; 2],
}

impl Thread {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            bell: Bell::new(),
            line: Notify::new(),
            left: [AtomicU64::new(0), AtomicU64::new(0)],
        })
    }

    /// Leaves something, and rings.
    fn leave_something(&self, number: usize) {
        // Loom may put a plain store before a swap that did not see it, which no machine does.
        self.left[number].swap(1, Ordering::Relaxed);
        if self.bell.ring() == Ring::Interrupt {
            self.line.notify();
        }
    }

    /// The thread's loop, until it has found `count` things. A wake-up that is lost is a wait for
    /// ever, which loom reports.
    fn run(&self, count: u64) {
        let mut found = 0;
        loop {
            self.bell.answer();
            for left in &self.left {
                found += left.swap(0, Ordering::Relaxed);
            }
            if found == count {
                return;
            }
            if self.bell.leave() {
                self.line.wait();
                self.bell.come_back();
            }
        }
    }
}

#[test]
fn loom_bell_one_that_rings_and_one_that_sleeps() {
    check("bell, one that rings", 3, || {
        let thread = Thread::new();
        let ringer = Arc::clone(&thread);
        let ringer = thread::spawn(move || ringer.leave_something(0));
        thread.run(1);
        ringer.join().unwrap();
    });
}

#[test]
fn loom_bell_two_that_ring_and_one_that_sleeps() {
    check("bell, two that ring", 2, || {
        let thread = Thread::new();
        let ringers = [0, 1].map(|number| {
            let ringer = Arc::clone(&thread);
            thread::spawn(move || ringer.leave_something(number))
        });
        thread.run(2);
        for ringer in ringers {
            ringer.join().unwrap();
        }
    });
}

/// A virtual processor: only its thread, or who holds it, may touch the word. Each leaves it as it
/// was.
struct Vcpu {
    hold: Hold,
    word: AtomicU64,
}

impl Vcpu {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            hold: Hold::new(),
            word: AtomicU64::new(0),
        })
    }

    fn touch(&self) {
        let before = self.word.load(Ordering::Relaxed);
        assert_eq!(before, 0, "somebody else is at it");
        self.word.store(1, Ordering::Relaxed);
        assert_eq!(self.word.load(Ordering::Relaxed), 1);
        self.word.store(0, Ordering::Relaxed);
    }

    /// Its thread: aboard once, if it is let.
    fn run(&self, name: u32) -> bool {
        if self.hold.board(name) == Boarding::Held {
            return false;
        }
        self.touch();
        self.hold.alight();
        true
    }

    fn work_on(&self) {
        self.hold.hold();
        while !self.hold.is_ashore() {
            thread::yield_now();
        }
        self.touch();
        self.hold.let_go();
    }
}

#[test]
fn loom_hold_against_its_thread() {
    check("hold, one that holds", 3, || {
        let vcpu = Vcpu::new();
        let runner = Arc::clone(&vcpu);
        let runner = thread::spawn(move || {
            runner.run(1);
            runner.run(1);
        });
        vcpu.work_on();
        runner.join().unwrap();
        assert!(vcpu.run(1), "nobody holds it, and it does not come aboard");
    });
}

/// A thread that was chosen before the virtual processor was given to another one comes too late.
#[test]
fn loom_hold_with_a_thread_that_comes_late() {
    check("hold, two threads", 3, || {
        let vcpu = Vcpu::new();
        let threads = [1, 2].map(|name| {
            let runner = Arc::clone(&vcpu);
            thread::spawn(move || {
                runner.run(name);
            })
        });
        vcpu.work_on();
        for runner in threads {
            runner.join().unwrap();
        }
        assert!(vcpu.run(1), "nobody holds it, and it does not come aboard");
    });
}

/// A virtual processor that goes from thread 0 to thread 1, and the two threads.
struct Moving {
    hold: Hold,
    home: Home,
    /// What somebody has brought to it.
    brought: AtomicU64,
    word: AtomicU64,
    threads: [Arc<Thread>; 2],
}

impl Moving {
    fn new() -> Arc<Self> {
        let moving = Self {
            hold: Hold::new(),
            home: Home::new(),
            brought: AtomicU64::new(0),
            word: AtomicU64::new(0),
            threads: [Thread::new(), Thread::new()],
        };
        moving.home.offer(Offer { time: 7, slack: 1 });
        Arc::new(moving)
    }

    /// By thread 1: makes itself the home, if it can have it.
    fn take_over(&self) -> bool {
        if self.hold.board(2) == Boarding::Held {
            return false;
        }
        let offered = self.home.offered().is_some();
        if offered {
            self.home.move_to(1);
        }
        self.hold.alight();
        offered
    }

    fn ring(&self) {
        let thread = &self.threads[self.home.to_ring_at()];
        if thread.bell.ring() == Ring::Interrupt {
            thread.line.notify();
        }
    }

    /// By thread `number`: aboard for a moment, if it is its home.
    fn run(&self, number: usize) {
        self.home.withdraw();
        if self.hold.board(number as u32 + 1) == Boarding::Aboard {
            if self.home.thread() == number {
                let before = self.word.load(Ordering::Relaxed);
                assert_eq!(before, 0, "another thread has it too");
                self.word.store(1, Ordering::Relaxed);
                assert_eq!(self.word.load(Ordering::Relaxed), 1);
                // Whoever brings something rings at the home.
                assert_eq!(self.home.thread(), number, "it runs where nobody rings");
                self.word.store(0, Ordering::Relaxed);
            }
            self.hold.alight();
        }
    }
}

/// Something is brought to a virtual processor while it goes to another thread, which then has nothing to
/// do and sleeps. Where the new home misses it, it is rung for.
#[test]
fn loom_home_woken_while_it_moves() {
    check("home, woken while it moves", 3, || {
        let moving = Moving::new();
        let waker = Arc::clone(&moving);
        let waker = thread::spawn(move || {
            // See `Thread::leave_something`.
            waker.brought.swap(1, Ordering::Relaxed);
            waker.ring();
        });
        assert!(moving.take_over());
        let me = &moving.threads[1];
        loop {
            me.bell.answer();
            if moving.brought.swap(0, Ordering::Relaxed) == 1 {
                break;
            }
            if me.bell.leave() {
                me.line.wait();
                me.bell.come_back();
            }
        }
        waker.join().unwrap();
    });
}

/// Somebody holds a virtual processor while it goes to another thread, which then enters its guest. It
/// comes ashore.
#[test]
fn loom_home_held_while_it_moves() {
    check("home, held while it moves", 3, || {
        let moving = Moving::new();
        let holder = Arc::clone(&moving);
        let holder = thread::spawn(move || {
            holder.hold.hold();
            holder.ring();
            while !holder.hold.is_ashore() {
                thread::yield_now();
            }
            let before = holder.word.swap(1, Ordering::Relaxed);
            assert_eq!(before, 0, "its thread is at it");
            holder.word.store(0, Ordering::Relaxed);
            holder.hold.let_go();
            // So that it does not run for ever.
            holder.brought.swap(1, Ordering::Relaxed);
            holder.ring();
        });
        let me = &moving.threads[1];
        if moving.take_over() && moving.hold.board(2) == Boarding::Aboard {
            // In the guest until the ring.
            loop {
                me.bell.answer();
                let is_over = moving.brought.load(Ordering::Relaxed) == 1;
                if is_over || moving.hold.is_held() {
                    break;
                }
                if me.bell.leave() {
                    moving.word.store(1, Ordering::Relaxed);
                    me.line.wait();
                    moving.word.store(0, Ordering::Relaxed);
                    me.bell.come_back();
                }
            }
            moving.hold.alight();
        }
        holder.join().unwrap();
    });
}

/// Its old home runs a virtual processor while another thread takes it over, and runs it then.
#[test]
fn loom_home_run_while_it_moves() {
    check("home, run while it moves", 3, || {
        let moving = Moving::new();
        let old = Arc::clone(&moving);
        let old = thread::spawn(move || {
            if old.home.thread() == 0 {
                old.run(0);
            }
        });
        if moving.take_over() {
            moving.run(1);
        }
        old.join().unwrap();
    });
}

/// A partition with a count of what is hidden, and one entry that the hardware sees while it is 1.
struct Partition {
    hidden: AtomicU64,
    entry: AtomicU64,
    threads: [Presence; 2],
}

impl Partition {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            hidden: AtomicU64::new(0),
            entry: AtomicU64::new(1),
            threads: [Presence::new(), Presence::new()],
        })
    }

    /// In the guest once, on this thread.
    fn run(&self, thread: usize) {
        let presence = &self.threads[thread];
        presence.enter(7);
        if self.hidden.load(Ordering::SeqCst) != 0 {
            presence.virtualized();
        } else {
            let seen = self.entry.load(Ordering::Relaxed);
            assert_eq!(seen, 1, "in the guest without VPM1, and an entry is hidden");
        }
        presence.leave();
    }

    /// Hides the entry; `own` is the thread that does, if it is in the guest.
    fn hide(&self, own: Option<usize>) {
        self.hidden.fetch_add(1, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        if let Some(own) = own {
            self.threads[own].virtualized();
        }
        for thread in &self.threads {
            while thread.is_without_vpm(7) {
                thread::yield_now();
            }
        }
        self.entry.store(0, Ordering::Relaxed);
    }
}

#[test]
fn loom_presence_one_that_hides_and_two_that_enter() {
    check("presence, two that enter", 2, || {
        let partition = Partition::new();
        let guests = [0, 1].map(|number| {
            let partition = Arc::clone(&partition);
            thread::spawn(move || partition.run(number))
        });
        partition.hide(None);
        for guest in guests {
            guest.join().unwrap();
        }
    });
}

/// Two threads of one guest hide something in calls of that guest, each waiting for the other.
#[test]
fn loom_presence_two_that_hide_from_inside() {
    check("presence, two that hide from inside", 2, || {
        let partition = Partition::new();
        let other = Arc::clone(&partition);
        let other = thread::spawn(move || {
            other.threads[1].enter(7);
            other.hide(Some(1));
            other.threads[1].leave();
        });
        partition.threads[0].enter(7);
        partition.hide(Some(0));
        partition.threads[0].leave();
        other.join().unwrap();
    });
}

/// A thread that has run a partition hides an entry and invalidates it, while another one runs the
/// partition for the first time.
#[test]
fn loom_tlb_scope_against_a_first_entry() {
    check("TLB scope, a first entry", 3, || {
        let state = Arc::new((TlbScope::new(), AtomicU64::new(1)));
        state.0.enter(8);
        let other = Arc::clone(&state);
        let other = thread::spawn(move || {
            let (scope, entry) = &*other;
            scope.enter(9);
            // Whether its TLB holds the entry now.
            entry.load(Ordering::Relaxed) == 1
        });
        let (scope, entry) = &*state;
        entry.store(0, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        let local = scope.is_only(8);
        let holds = other.join().unwrap();
        assert!(!(local && holds), "a translation outlives its invalidation");
    });
}
