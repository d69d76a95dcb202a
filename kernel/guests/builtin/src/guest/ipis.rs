// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Interrupts between two processors in exploitation mode, without a call: a store to a source's trigger
//! page on one, an entry of the other one's event queue and an external interrupt there.
//!
//! Eight of them are under way at a time, two by each of four sources, whose P and Q bits keep them. Each
//! is sent on when it was taken, by a source for the way back: source `n` interrupts the second processor,
//! source `n + 4` the first.
//!
//! LoPAR, H_INT_GET_SOURCE_INFO; PowerPC External Interrupt Virtualization Engine Nodes.

use super::env::{EA, Env};
use super::second::{both, start, with};
use super::xive::{self, PRIORITY};
use core::sync::atomic::{AtomicU64, Ordering};
use penstock_guest_rt::clock::{self, FREQUENCY};
use penstock_guest_rt::console::{println, terminal};
use penstock_guest_rt::context::{Context, place};
use penstock_guest_rt::cpu;
use penstock_guest_rt::hcall;
use penstock_guest_rt::hpt::{Mapping, SLB_KP};
use penstock_guest_rt::insn::Program;
use penstock_guest_rt::memory::Range;
use penstock_guest_rt::mmu::DATA;
use penstock_guest_rt::number::hcall::GET_TERM_CHAR;
use penstock_guest_rt::number::{msr, status, vector};
use penstock_guest_rt::second;
use penstock_guest_rt::suite::{
    self, Check, Failure, Outcome, Tally, expect, expect_at, expect_completed,
};

/// The checks of this file.
pub const CHECKS: &[Check<Env>] = &[Check {
    name: "xive-ipis-between-two-processors",
    run: |env| both(env, a_few),
}];

/// Interrupts of the check, and of the run that a session measures.
const FEW: u64 = 1_000;
const MANY: u64 = 100_000;

/// Sources for each way, and interrupts that each has under way.
const BALLS: u64 = 4;
const OF_EACH: u64 = 2;
const SOURCES: u64 = 2 * BALLS;
/// Two of each source, and the thread registers'.
const PAGES: usize = 17;
const _: () = assert!(PAGES as u64 == 2 * SOURCES + 1);
const QUEUE_LOG2: u64 = 16;
const ENTRIES: u64 = 1 << (QUEUE_LOG2 - 2);

/// Where the pages of a source and of the thread registers are mapped.
const fn trigger_page(lisn: u64) -> u64 {
    EA + lisn * 0x2_0000
}
const fn management_page(lisn: u64) -> u64 {
    trigger_page(lisn) + 0x1_0000
}
const TIMA: u64 = EA + SOURCES * 0x2_0000;

/// The pages that both processors use.
struct Court {
    entries: [u64; PAGES],
    segment: Mapping,
    queues: [Range; 2],
}

impl Court {
    /// Sources, queues and pages; the sources are off.
    fn set_up(env: &Env, second: u64) -> Result<Self, Failure> {
        xive::forget()?;
        let segment = xive::page(TIMA, xive::tima(env)?);
        let mut entries = [0; PAGES];
        let mut places = entries.iter_mut();
        let mut enter = |mapping: &Mapping| {
            if let Some(place) = places.next() {
                *place = env.enter(mapping)?;
            }
            Ok(())
        };
        enter(&segment)?;
        for lisn in 0..SOURCES {
            let info = hcall::call(xive::GET_SOURCE_INFO, [0, lisn, 0, 0]);
            expect_at("source", lisn, info.status, status::SUCCESS)?;
            let [_, management, trigger, ..] = info.values;
            enter(&xive::page(trigger_page(lisn), trigger))?;
            enter(&xive::page(management_page(lisn), management))?;
        }
        let skip = env.work.base().wrapping_neg() & 0xffff;
        let queues = [0, 1].map(|number| env.work.part(skip + number * 0x1_0000, 0x1_0000));
        for (server, queue) in [env.server, second].into_iter().zip(&queues) {
            queue.fill(0);
            let set = xive::set_queue_of(server, 1, queue.base(), QUEUE_LOG2);
            expect_at("queue", server, set, status::SUCCESS)?;
        }
        for lisn in 0..SOURCES {
            let target = if lisn < BALLS { second } else { env.server };
            let set = xive::set_source(2, lisn, target, PRIORITY, lisn);
            expect_at("source", lisn, set, status::SUCCESS)?;
        }
        Ok(Self {
            entries,
            segment,
            queues,
        })
    }

    fn tear_down(&self, env: &Env) -> Outcome {
        env.unmap(&self.entries)?;
        xive::forget()
    }
}

/// What a processor does with interrupts, in one program of several parts.
struct Player {
    pc: u64,
    queue: Range,
    taken: u64,
    sent: u64,
    /// The first source that it is interrupted by, and that it sends by.
    from: u64,
    to: u64,
}

/// Parts of the program: acknowledge; end and send on; end; let interrupts in and wait; set the CPPR; set
/// P and Q to 00.
const ACKNOWLEDGE: u64 = 0;
const SEND_ON: u64 = 2;
const END: u64 = 6;
const WAIT: u64 = 8;
const SET_CPPR: u64 = 11;
const OPEN: u64 = 13;
const SEND: u64 = 15;

impl Player {
    /// On the processor that plays.
    fn new(court: &Court, number: usize) -> Self {
        let program = Program::new()
            .lhz(9, 6, 0x810)
            .trap()
            .ld(10, 5, 0)
            .sync()
            .std(8, 4, 0)
            .trap()
            .ld(10, 5, 0)
            .trap()
            .stb(7, 6, 0x11)
            .mtmsrd_ee(11)
            .spin()
            .stb(7, 6, 0x11)
            .trap()
            .ld(10, 5, 0xc00)
            .trap()
            .sync()
            .std(8, 4, 0)
            .trap();
        cpu::clear_segments();
        let segment = &court.segment;
        cpu::set_segment(segment.slb_vsid(SLB_KP), segment.slb_esid(2));
        let first = number == 0;
        Self {
            pc: place(&program),
            queue: court.queues[number],
            taken: 0,
            sent: 0,
            from: if first { BALLS } else { 0 },
            to: if first { 0 } else { BALLS },
        }
    }

    fn run(&self, part: u64, management: u64, trigger: u64, cppr: u64) -> Context {
        let mut context = Context::new(self.pc + 4 * part, DATA)
            .with_gpr(4, trigger)
            .with_gpr(5, management)
            .with_gpr(6, TIMA)
            .with_gpr(7, cppr)
            .with_gpr(11, msr::EE | msr::RI);
        context.run();
        context
    }

    fn set_cppr(&self, cppr: u64) -> Outcome {
        let context = self.run(SET_CPPR, 0, 0, cppr);
        expect_completed("CPPR", &context, 1)
    }

    /// Has its own sources let interrupts through; nothing is pending.
    fn open(&self) -> Outcome {
        for lisn in self.from..self.from + BALLS {
            let context = self.run(OPEN, management_page(lisn), 0, 0);
            expect_completed("P and Q", &context, 1)?;
        }
        Ok(())
    }

    /// The first player's first interrupts.
    fn serve(&mut self) -> Outcome {
        for lisn in self.to..self.to + BALLS {
            for _ in 0..OF_EACH {
                let context = self.run(SEND, 0, trigger_page(lisn), 0);
                expect_completed("trigger", &context, 2)?;
                self.sent += 1;
            }
        }
        Ok(())
    }

    /// Takes `count` interrupts, and sends as many in all; how often it was interrupted.
    fn play(&mut self, count: u64) -> Result<u64, Failure> {
        let mut interrupts = 0;
        while self.taken < count {
            // Where none comes, the check fails and does not hang.
            cpu::set_decrementer(20 * FREQUENCY);
            let context = self.run(WAIT, 0, 0, 0xff);
            expect_at("vector", self.taken, context.vector, vector::EXTERNAL)?;
            let context = self.run(ACKNOWLEDGE, 0, 0, 0);
            expect_completed("acknowledge", &context, 1)?;
            // One whose entries were taken with the one before is for nothing.
            interrupts += context.gpr[9] >> 7 & 1;
            while let Some(lisn) = self.next_entry() {
                expect_at("source", lisn, lisn & !(BALLS - 1), self.from)?;
                self.taken += 1;
                let on = self.sent < count;
                let (part, words) = if on { (SEND_ON, 3) } else { (END, 1) };
                let trigger = trigger_page(lisn - self.from + self.to);
                let context = self.run(part, management_page(lisn), trigger, 0);
                expect_completed("end", &context, words)?;
                self.sent += u64::from(on);
            }
        }
        Ok(interrupts)
    }

    /// The source of the next entry of the queue, if there is one.
    fn next_entry(&self) -> Option<u64> {
        let entry = u64::from(self.queue.word_be(self.taken % ENTRIES * 4));
        let generation = u64::from((self.taken / ENTRIES).is_multiple_of(2));
        (entry >> 31 == generation).then_some(entry & 0x7fff_ffff)
    }
}

/// Both processors play `count` interrupts, half of them to each; how often both were interrupted, and the
/// ticks that it took. The second one waits before that until `ready` holds, and afterwards for `over`, and
/// neither makes a call meanwhile.
fn play(
    court: &Court,
    count: u64,
    ready: impl FnOnce(),
    over: impl FnOnce(u64),
) -> Result<u64, Failure> {
    let stage = AtomicU64::new(0);
    let wait_for = |wanted| {
        clock::wait_until(60 * second::PATIENCE, || {
            stage.load(Ordering::Acquire) >= wanted
        })
    };
    let mut by_second = Ok(0);
    let by_first = with(
        || {
            let mut player = Player::new(court, 1);
            by_second = player.open().map(|()| 0);
            stage.store(1, Ordering::Release);
            if by_second.is_ok() && wait_for(2) {
                by_second = player.play(count / 2);
            }
            let closed = player.set_cppr(0);
            by_second = by_second.and_then(|interrupts| closed.map(|()| interrupts));
            cpu::clear_segments();
            wait_for(3);
        },
        || {
            let mut player = Player::new(court, 0);
            let opened = player.open();
            wait_for(1);
            ready();
            let before = cpu::timebase();
            stage.store(2, Ordering::Release);
            let played = opened
                .and_then(|()| player.serve())
                .and_then(|()| player.play(count / 2));
            let ticks = cpu::timebase() - before;
            let closed = player.set_cppr(0);
            cpu::clear_segments();
            over(ticks);
            stage.store(3, Ordering::Release);
            played.and_then(|interrupts| closed.map(|()| interrupts))
        },
    );
    let (by_first, by_second) = (by_first?, by_second?);
    Ok(by_first + by_second)
}

fn a_few(env: &Env, second: u64) -> Outcome {
    let court = Court::set_up(env, second)?;
    let played = play(&court, FEW, || {}, |_| {});
    let down = court.tear_down(env);
    let interrupts = played?;
    expect("no interrupts", u64::from(interrupts == 0), 0)?;
    down
}

/// A guest whose command line has the word `ipis` does this alone: two processors that send one another many
/// interrupts, between two keys, so that a session can count exits and calls before and after. Its own calls
/// for the keys, once in a while, are all that it makes.
pub fn measure_if_asked(env: &mut Env) -> bool {
    if env.word_of("ipis").is_none() {
        return false;
    }
    let mut tally = Tally::default();
    suite::report(
        &mut tally,
        "xive-ipis-between-two-processors",
        both(env, measure),
        None,
    );
    println!("builtin: {} passed, {} failed", tally.passed, tally.failed);
    true
}

fn measure(env: &Env, second: u64) -> Outcome {
    start(env, second, 0)?;
    let court = Court::set_up(env, second)?;
    let played = play(
        &court,
        MANY,
        || {
            println!("builtin: ready for {MANY} IPIs");
            wait_for_key();
        },
        |ticks| {
            println!("builtin: IPIs took {ticks} ticks");
            wait_for_key();
        },
    );
    let interrupts = played?;
    println!("builtin: {MANY} IPIs in {interrupts} interrupts");
    court.tear_down(env)
}

fn wait_for_key() {
    while hcall::call(GET_TERM_CHAR, [terminal(), 0, 0, 0]).values[0] == 0 {
        clock::wait_until(FREQUENCY / 20, || false);
    }
}
