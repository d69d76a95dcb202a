// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Contexts that come and go, and processors that wait.

use super::*;
use crate::esb::Pq;
use std::collections::BTreeSet;
use std::vec;

#[test]
fn a_new_context_lets_nothing_through() {
    for quirks in Quirks::ALL {
        let p = Partition::new(quirks, 1);
        p.vcpus[0].push(p.hw);
        assert_eq!(p.vcpus[0].tima.os_ring(p.hw).cppr().get(), 0);
        p.cppr(4);
        p.vcpus[0].pull(p.hw, OffThread::Ready);
        p.vcpus[0].push(p.hw);
        assert_eq!(p.vcpus[0].tima.os_ring(p.hw).cppr().get(), 4);
    }
}

#[test]
fn what_comes_while_off_the_thread_is_there_when_back() {
    for quirks in Quirks::ALL {
        let p = Partition::booted(quirks, 1);
        p.vcpus[0].pull(p.hw, OffThread::Ready);
        p.trigger(0);
        // Nobody is told: it is not waiting.
        assert_eq!(p.hw.take_host_event(), None);
        assert!(!p.hw.line());
        p.vcpus[0].push(p.hw);
        assert!(p.hw.line());
        assert_eq!(p.acknowledge(), Some(6));
    }
}

#[test]
fn contexts_on_one_thread_inherit_nothing_of_each_other() {
    for quirks in Quirks::ALL {
        let p = Partition::booted(quirks, 2);
        let [first, second] = [&p.vcpus[0], &p.vcpus[1]];
        p.hw.run_on(1);
        second.pull(p.hw, OffThread::Ready);
        p.hw.run_on(0);
        p.cppr(5);
        p.trigger(0);
        first.pull(p.hw, OffThread::Ready);
        second.push(p.hw);
        assert!(!p.hw.line(), "{quirks:?}");
        assert_eq!(p.acknowledge(), None);
        second.pull(p.hw, OffThread::Ready);
        first.push(p.hw);
        p.cppr(0xff);
        assert_eq!(p.acknowledge(), Some(6));
    }
}

#[test]
fn one_that_waits_is_told_of_once_and_finds_everything() {
    for quirks in Quirks::ALL {
        let p = Partition::booted(quirks, 2);
        let vcpu = &p.vcpus[0];
        let girq = vcpu.escalation().girq();
        for _ in 0..3 {
            vcpu.pull(p.hw, OffThread::Waiting);
            assert!(!vcpu.pending(p.hw));
            assert_eq!(p.hw.escalation_pq(girq), Pq::Reset);
            p.trigger(0);
            assert!(vcpu.pending(p.hw));
            assert_eq!(p.hw.take_host_event(), Some((0, HOST_PRIORITY)));
            // More events tell nobody again.
            p.aim(2, 0, 3, 0x200).unwrap();
            p.esb(2, 0xc00);
            p.trigger(2);
            assert_eq!(p.hw.take_host_event(), None);
            vcpu.push(p.hw);
            assert_eq!(p.hw.escalation_pq(girq), Pq::Off);
            assert_eq!(p.acknowledge(), Some(3));
            p.cppr(0xff);
            assert_eq!(p.acknowledge(), Some(6));
            p.cppr(0xff);
            p.esb(0, 0xc00);
            // While it runs nobody is told.
            p.trigger(0);
            assert_eq!(p.hw.take_host_event(), None);
            assert_eq!(p.acknowledge(), Some(6));
            p.cppr(0xff);
            p.esb(0, 0xc00);
        }
    }
}

#[test]
fn one_that_waits_on_its_thread_sees_its_own_line() {
    for quirks in Quirks::ALL {
        let p = Partition::booted(quirks, 1);
        assert!(!p.vcpus[0].pending(p.hw));
        p.trigger(0);
        assert!(p.vcpus[0].pending(p.hw));
        p.cppr(6);
        assert!(!p.vcpus[0].pending(p.hw));
    }
}

#[test]
fn what_was_pending_before_the_pull_wakes_too() {
    for quirks in Quirks::ALL {
        let p = Partition::booted(quirks, 1);
        p.trigger(0);
        p.vcpus[0].pull(p.hw, OffThread::Waiting);
        assert!(p.vcpus[0].pending(p.hw));
        // What the CPPR does not let through does not.
        p.vcpus[0].push(p.hw);
        p.cppr(5);
        p.vcpus[0].pull(p.hw, OffThread::Waiting);
        assert!(!p.vcpus[0].pending(p.hw));
    }
}

#[test]
fn an_event_between_any_two_steps_of_a_pull_wakes() {
    for quirks in Quirks::ALL {
        for ahead in 0.. {
            let p = Partition::booted(quirks, 1);
            p.hw.plan_event(ahead, p.ipis[0].girq());
            p.vcpus[0].pull(p.hw, OffThread::Waiting);
            if p.hw.has_plan() {
                assert!(ahead > 2);
                break;
            }
            assert!(p.vcpus[0].pending(p.hw), "{quirks:?}, step {ahead}");
            p.vcpus[0].push(p.hw);
            assert_eq!(p.acknowledge(), Some(6), "{quirks:?}, step {ahead}");
        }
    }
}

#[test]
fn an_event_between_any_two_steps_of_a_push_is_presented() {
    for quirks in Quirks::ALL {
        for waited in [OffThread::Ready, OffThread::Waiting] {
            for ahead in 0.. {
                let p = Partition::booted(quirks, 1);
                p.vcpus[0].pull(p.hw, waited);
                p.hw.plan_event(ahead, p.ipis[0].girq());
                p.vcpus[0].push(p.hw);
                if p.hw.has_plan() {
                    assert!(ahead > 0);
                    break;
                }
                assert!(p.hw.line(), "{quirks:?}, {waited:?}, step {ahead}");
                assert_eq!(p.acknowledge(), Some(6));
                let girq = p.vcpus[0].escalation().girq();
                assert_eq!(p.hw.escalation_pq(girq), Pq::Off);
            }
        }
    }
}

#[test]
fn an_event_between_any_two_steps_of_a_new_line_is_presented() {
    for quirks in Quirks::ALL {
        for ahead in 0.. {
            let p = Partition::booted(quirks, 1);
            p.hw.plan_event(ahead, p.ipis[0].girq());
            p.native()
                .set_os_reporting_line(p.hw, p.hw, &p.memory, &p.vcpus[0], [0, 0x4000])
                .unwrap();
            if p.hw.has_plan() {
                break;
            }
            let mut found = Vec::new();
            while let Some(priority) = p.acknowledge() {
                found.push(priority);
                p.cppr(0xff);
            }
            assert!(found.contains(&6), "{quirks:?}, step {ahead}: {found:?}");
        }
    }
}

/// What the hypervisor does with a virtual processor that cedes, in steps between which events may
/// come and the other thread may look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum At {
    Running,
    Armed,
    Pulled,
    Published,
    Asleep,
    Awake,
}

/// Everything that the protocol consists of, small enough to try all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct World {
    at: At,
    pushed: bool,
    waiting: bool,
    /// Pending in the ring, or in memory while it is off the thread.
    ring: bool,
    memory: bool,
    /// What the ring held when it was pulled.
    saved: bool,
    p: bool,
    armed: bool,
    /// A notification is on its way to the other thread, or that one has taken it.
    notified: bool,
    looking: bool,
    kicked: bool,
    events_left: u8,
}

impl World {
    const START: Self = Self {
        at: At::Running,
        pushed: true,
        waiting: false,
        ring: false,
        memory: false,
        saved: false,
        p: false,
        armed: false,
        notified: false,
        looking: false,
        kicked: false,
        events_left: 3,
    };

    fn event(mut self) -> Self {
        self.events_left -= 1;
        if self.pushed {
            self.ring = true;
        } else {
            self.memory = true;
            if self.armed && !self.p {
                self.p = true;
                self.notified = true;
            }
        }
        self
    }

    /// The thread of the virtual processor.
    fn own_step(mut self) -> Option<Self> {
        self.at = match self.at {
            At::Running => {
                self.armed = true;
                self.p = false;
                At::Armed
            }
            At::Armed => {
                self.pushed = false;
                self.saved = core::mem::take(&mut self.ring);
                At::Pulled
            }
            At::Pulled => {
                self.waiting = true;
                At::Published
            }
            At::Published if self.saved || self.p => At::Awake,
            At::Published => At::Asleep,
            At::Asleep if self.kicked => At::Awake,
            At::Asleep => return None,
            At::Awake => {
                // Pushed: all that was pending is in the ring.
                self.pushed = true;
                self.ring = self.ring | self.saved | core::mem::take(&mut self.memory);
                self.saved = false;
                (self.armed, self.p) = (false, false);
                (self.waiting, self.kicked) = (false, false);
                // The guest takes what is there.
                self.ring = false;
                At::Running
            }
        };
        Some(self)
    }

    /// The thread that is told of escalations.
    fn other_step(mut self) -> Option<Self> {
        if self.looking {
            self.looking = false;
            // It looks at who waits and at their P bits.
            if self.waiting && self.p {
                self.kicked = true;
            }
            Some(self)
        } else if self.notified {
            self.notified = false;
            self.looking = true;
            Some(self)
        } else {
            None
        }
    }
}

#[test]
fn no_order_of_steps_lets_one_sleep_with_something_pending() {
    let mut seen = BTreeSet::new();
    let mut open = vec![World::START];
    while let Some(world) = open.pop() {
        if !seen.insert(world) {
            continue;
        }
        let mut next: Vec<World> = world.own_step().into_iter().collect();
        next.extend(world.other_step());
        if next.is_empty() {
            // It sleeps, and nobody will do anything unless another event comes.
            assert_eq!(world.at, At::Asleep);
            assert!(!world.memory && !world.saved && !world.ring, "{world:?}");
        }
        if world.events_left > 0 {
            next.push(world.event());
        }
        open.extend(next);
    }
    // The model is not trivial.
    assert!(seen.len() > 100, "{}", seen.len());
}
