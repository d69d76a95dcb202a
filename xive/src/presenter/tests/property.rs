// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Random guests against a naive XICS.
//!
//! The naive controller knows for each source whether an event waits, one more came, or the guest
//! has it in service, and looks at all of them to say what may be presented. The hardware model
//! with this crate on it must then have the line up whenever something may (nothing is lost), hand
//! out only what may, best priority first (nothing is invented), and otherwise answer XISR 0 and
//! lower the line.

use std::vec;
use std::vec::Vec;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::*;
use crate::HcallError;
use crate::source::Level;
use penstock_arch::fake::steps;

const VCPUS: u32 = 2;
const EDGES: u32 = 3;
const SOURCES: u32 = EDGES + 1;

/// H_XIRR answers that may be for nothing until the line is down: stale entries have each their own
/// level at worst.
const SPURIOUS_LIMIT: u32 = 16;

#[derive(Clone, Copy, Debug)]
enum Op {
    Trigger(u32),
    SetLevel(Level),
    SetXive {
        index: u32,
        server: u32,
        priority: u8,
    },
    IntOff(u32),
    IntOn(u32),
    Cppr {
        server: usize,
        cppr: u8,
    },
    Xirr {
        server: usize,
    },
    Eoi {
        server: usize,
    },
    StrayEoi {
        server: usize,
        index: u32,
    },
    Ipi {
        from: usize,
        to: usize,
        mfrr: u8,
    },
    Move {
        server: usize,
    },
}

fn priorities() -> impl Strategy<Value = u8> {
    prop_oneof![Just(0xff), Just(0), Just(4), Just(5), 0..9u8, any::<u8>()]
}

fn ops() -> impl Strategy<Value = Op> {
    let server = 0..VCPUS as usize;
    let index = 0..SOURCES;
    prop_oneof![
        6 => (0..EDGES).prop_map(Op::Trigger),
        2 => prop_oneof![Just(Level::Asserted), Just(Level::Deasserted)].prop_map(Op::SetLevel),
        4 => (index.clone(), 0..VCPUS, priorities())
            .prop_map(|(index, server, priority)| Op::SetXive { index, server, priority }),
        1 => index.clone().prop_map(Op::IntOff),
        1 => index.clone().prop_map(Op::IntOn),
        4 => (server.clone(), priorities()).prop_map(|(server, cppr)| Op::Cppr { server, cppr }),
        8 => server.clone().prop_map(|server| Op::Xirr { server }),
        7 => server.clone().prop_map(|server| Op::Eoi { server }),
        1 => (server.clone(), index).prop_map(|(server, index)| Op::StrayEoi { server, index }),
        5 => (server.clone(), server.clone(), priorities())
            .prop_map(|(from, to, mfrr)| Op::Ipi { from, to, mfrr }),
        3 => server.prop_map(|server| Op::Move { server }),
    ]
}

/// One level for 6 to 0xfe, as the crate documents.
fn level(priority: u8) -> u8 {
    if priority == 0xff {
        0xff
    } else {
        priority.min(6)
    }
}

#[derive(Clone, Copy, Debug)]
struct NaiveSource {
    server: u32,
    priority: u8,
    unmasked: u8,
    /// An event waits to be presented.
    waits: bool,
    /// One more came.
    more: bool,
    in_service: bool,
    /// The level, for a level-sensitive source.
    asserted: Option<bool>,
}

impl NaiveSource {
    fn masked(&self) -> bool {
        self.priority == 0xff
    }

    fn has_event(&self) -> bool {
        !self.masked() && !self.in_service && self.asserted.unwrap_or(self.waits)
    }

    fn trigger(&mut self) {
        if self.masked() || self.waits || self.in_service {
            self.more = true;
        } else {
            self.waits = true;
        }
    }

    fn set(&mut self, server: u32, priority: u8) {
        self.server = server;
        self.priority = priority;
        self.promote();
    }

    fn promote(&mut self) {
        if !self.masked() && !self.waits && !self.in_service && self.more {
            self.waits = true;
            self.more = false;
        }
    }

    fn end(&mut self) {
        if self.in_service {
            self.in_service = false;
            self.promote();
        }
    }
}

struct Naive {
    sources: Vec<NaiveSource>,
    cppr: Vec<u8>,
    mfrr: Vec<u8>,
    /// What each vCPU has taken and not ended, innermost last.
    taken: Vec<Vec<u32>>,
}

impl Naive {
    fn new() -> Self {
        let source = |index| NaiveSource {
            server: 0,
            priority: 0xff,
            unmasked: 0xff,
            waits: false,
            more: false,
            in_service: false,
            asserted: (index >= EDGES).then_some(false),
        };
        Self {
            sources: (0..SOURCES).map(source).collect(),
            cppr: vec![0; VCPUS as usize],
            mfrr: vec![0xff; VCPUS as usize],
            taken: vec![Vec::new(); VCPUS as usize],
        }
    }

    /// What may be presented to a vCPU, all of the same level: the XISRs.
    fn candidates(&self, server: usize) -> Vec<u32> {
        let mut all = Vec::new();
        all.push((level(self.mfrr[server]), 2));
        for (index, source) in (0..).zip(&self.sources) {
            if source.server as usize == server && source.has_event() {
                all.push((level(source.priority), FIRST + index));
            }
        }
        all.retain(|&(level_of, _)| level_of < level(self.cppr[server]));
        let best = all.iter().map(|&(level_of, _)| level_of).min();
        all.into_iter()
            .filter(|&(level_of, _)| Some(level_of) == best)
            .map(|(_, xisr)| xisr)
            .collect()
    }

    fn accept(&mut self, server: usize, xisr: u32) {
        self.cppr[server] = if xisr == 2 {
            self.mfrr[server]
        } else {
            let source = &mut self.sources[(xisr - FIRST) as usize];
            source.waits = false;
            source.in_service = true;
            source.priority
        };
    }
}

struct Run {
    guest: Partition,
    naive: Naive,
    /// Which vCPU each thread has.
    threads: Vec<Option<usize>>,
}

impl Run {
    fn new(quirks: Quirks) -> Self {
        Self {
            guest: Partition::new(quirks, VCPUS, EDGES),
            naive: Naive::new(),
            threads: vec![None; VCPUS as usize],
        }
    }

    fn thread_of(&self, server: usize) -> Option<usize> {
        self.threads.iter().position(|&on| on == Some(server))
    }

    fn pull(&mut self, thread: usize) {
        if let Some(server) = self.threads[thread].take() {
            self.guest.hw.run_on(thread);
            self.guest.servers[server].pull(&self.guest.hw);
        }
    }

    /// Goes on as this vCPU, on its thread or, where it has none, on one given.
    fn run_on(&mut self, server: usize, otherwise: usize) {
        let thread = self.thread_of(server).unwrap_or_else(|| {
            self.pull(otherwise);
            self.guest.hw.run_on(otherwise);
            self.guest.servers[server].push(&self.guest.hw);
            self.threads[otherwise] = Some(server);
            otherwise
        });
        self.guest.hw.run_on(thread);
    }

    fn xirr(&mut self, server: usize) -> u32 {
        let candidates = self.naive.candidates(server);
        let xirr = self.guest.xirr(server);
        assert_eq!(
            xirr >> 24,
            u32::from(self.naive.cppr[server]),
            "CPPR of {xirr:#x}"
        );
        let xisr = xirr & 0xff_ffff;
        if candidates.is_empty() {
            assert_eq!(xisr, 0, "invented");
        } else {
            assert!(
                candidates.contains(&xisr),
                "{xisr:#x} instead of {candidates:x?}"
            );
            self.naive.accept(server, xisr);
            self.naive.taken[server].push(xirr);
        }
        xisr
    }

    fn eoi(&mut self, server: usize, xirr: u32) -> Result<(), HcallError> {
        let result = self.guest.eoi(server, xirr);
        if (xirr >> 24) < u32::from(self.naive.cppr[server]) {
            assert_eq!(result, Err(HcallError::Parameter));
        } else {
            assert_eq!(result, Ok(()));
            let xisr = xirr & 0xff_ffff;
            if xisr != 2 {
                self.naive.sources[(xisr - FIRST) as usize].end();
            }
            self.naive.cppr[server] = xirr.to_be_bytes()[0];
        }
        result
    }

    fn step(&mut self, op: Op) {
        match op {
            Op::Trigger(index) => {
                self.guest.trigger(FIRST + index);
                self.naive.sources[index as usize].trigger();
            }
            Op::SetLevel(level) => {
                let lisn = Lisn::new(FIRST + EDGES);
                self.guest.sources().set_level(&self.guest.hw, lisn, level);
                let asserted = level == Level::Asserted;
                self.naive.sources[EDGES as usize].asserted = Some(asserted);
            }
            Op::SetXive {
                index,
                server,
                priority,
            } => {
                let servers = self.guest.servers.as_slice();
                let (hw, sources) = (&self.guest.hw, self.guest.sources());
                let lisn = FIRST + index;
                // Refused only where the source has left three entries behind.
                let set = sources.set_xive(hw, hw, servers, lisn, server, u32::from(priority));
                if set.is_ok() {
                    let source = &mut self.naive.sources[index as usize];
                    source.set(server, priority);
                    source.unmasked = priority;
                }
            }
            Op::IntOff(index) => {
                self.guest.int_off(FIRST + index);
                self.naive.sources[index as usize].priority = 0xff;
            }
            Op::IntOn(index) => {
                let servers = self.guest.servers.as_slice();
                let (hw, sources) = (&self.guest.hw, self.guest.sources());
                if sources.int_on(hw, hw, servers, FIRST + index).is_ok() {
                    let source = &mut self.naive.sources[index as usize];
                    source.set(source.server, source.unmasked);
                }
            }
            Op::Cppr { server, cppr } => {
                self.run_on(server, server);
                self.guest.servers[server].h_cppr(&self.guest.hw, u64::from(cppr));
                self.naive.cppr[server] = cppr;
            }
            Op::Xirr { server } => {
                self.run_on(server, server);
                self.xirr(server);
            }
            Op::Eoi { server } => {
                self.run_on(server, server);
                if let Some(xirr) = self.naive.taken[server].pop()
                    && self.eoi(server, xirr).is_err()
                {
                    // The guest has lowered its CPPR below; it goes back and ends it all the same.
                    self.guest.servers[server].h_cppr(&self.guest.hw, u64::from(xirr >> 24));
                    self.naive.cppr[server] = xirr.to_be_bytes()[0];
                    assert_eq!(self.eoi(server, xirr), Ok(()));
                }
            }
            Op::StrayEoi { server, index } => {
                self.run_on(server, server);
                if !self.naive.sources[index as usize].in_service {
                    let cppr = u32::from(self.naive.cppr[server]) << 24;
                    assert_eq!(self.eoi(server, cppr | (FIRST + index)), Ok(()));
                }
            }
            Op::Ipi { from, to, mfrr } => {
                self.run_on(from, from);
                self.guest.ipi(from, to as u64, mfrr);
                self.naive.mfrr[to] = mfrr;
            }
            Op::Move { server } => {
                if let Some(thread) = self.thread_of(server) {
                    self.pull(thread);
                } else {
                    let other = VCPUS as usize - 1 - server;
                    self.run_on(server, other);
                }
            }
        }
    }

    /// What must hold after each operation.
    fn check(&self) {
        for (server, vcpu) in self.guest.servers.iter().enumerate() {
            let candidates = self.naive.candidates(server);
            let thread = self.thread_of(server);
            self.guest.hw.run_on(thread.unwrap_or(0));
            if !candidates.is_empty() {
                assert!(
                    thread.is_none() || self.guest.hw.line(),
                    "line down, {candidates:x?}"
                );
                assert!(vcpu.pending(&self.guest.hw), "not pending, {candidates:x?}");
            }
            if thread.is_some() {
                let cppr = self.guest.hw.tima().os_ring(&self.guest.hw).cppr();
                assert_eq!(
                    cppr.get(),
                    level(self.naive.cppr[server]),
                    "CPPR in the ring"
                );
            }
            let servers = self.guest.servers.as_slice();
            let sources = self.guest.sources();
            let poll = vcpu
                .h_ipoll(&self.guest.hw, servers, sources, server as u64)
                .unwrap();
            assert_eq!(poll.mfrr, self.naive.mfrr[server]);
            assert_eq!(poll.xirr.cppr().0, self.naive.cppr[server]);
            let xisr = poll.xirr.xisr();
            assert!(
                if xisr == 0 {
                    candidates.is_empty()
                } else {
                    candidates.contains(&xisr)
                },
                "polled {xisr:#x}, {candidates:x?}"
            );
        }
    }

    /// Everything is taken and ended; then the lines are down and nothing is left.
    fn drain(&mut self) {
        for server in 0..VCPUS as usize {
            self.step(Op::Ipi {
                from: server,
                to: server,
                mfrr: 0xff,
            });
        }
        self.step(Op::SetLevel(Level::Deasserted));
        for round in 0.. {
            assert!(round < 100, "interrupts do not end");
            let mut quiet = true;
            for server in 0..VCPUS as usize {
                quiet &= self.naive.taken[server].is_empty();
                self.step(Op::Eoi { server });
                if self.naive.taken[server].is_empty() {
                    self.step(Op::Cppr { server, cppr: 0xff });
                    let mut spurious = 0;
                    while self.guest.hw.line() {
                        if self.xirr(server) != 0 {
                            quiet = false;
                            break;
                        }
                        spurious += 1;
                        assert!(spurious < SPURIOUS_LIMIT, "the line does not fall");
                    }
                }
                self.check();
            }
            if quiet {
                break;
            }
        }
        for source in &self.naive.sources {
            assert!(!source.has_event(), "lost: {source:?}");
        }
    }
}

#[test]
fn random_guests_see_what_a_naive_xics_shows() {
    let cases = std::env::var("PENSTOCK_CASES")
        .ok()
        .and_then(|cases| cases.parse().ok());
    let config = Config {
        cases: cases.unwrap_or(200),
        failure_persistence: None,
        ..Config::default()
    };
    let input = (
        prop::sample::select(&Quirks::ALL[..]),
        prop::collection::vec(ops(), 1..steps(150)),
    );
    let result = TestRunner::new(config).run(&input, |(quirks, ops)| {
        let mut run = Run::new(quirks);
        for op in ops {
            run.step(op);
            run.check();
        }
        run.drain();
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}
