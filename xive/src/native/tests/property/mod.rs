// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Random guests against a naive controller.
//!
//! The naive controller is written from LoPAR alone: for each source two bits and where it is aimed,
//! for each queue the list of the entries that it must have got, for each virtual processor a set of
//! priorities that are pending and its CPPR. The machine's model with this crate on it must show a
//! guest the same: every call's answer, every load, every word of every queue, and whether it is
//! interrupted. Pending priorities may be more than the naive ones where the crate says so (a
//! reporting line was set).

mod naive;

use std::collections::BTreeMap;
use std::env;

use super::*;
use crate::fw::XiveFirmware;
use crate::source::Level;
use naive::Naive;
use penstock_arch::fake::unless_miri;

const VCPUS: u64 = 2;
const THREADS: usize = 2;

/// The generator of Numerical Recipes' `ranqd1`, widened: enough for a walk, and it is ours to
/// repeat by its seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    fn below(&mut self, count: u64) -> u64 {
        self.next() % count
    }

    fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }

    fn of<T: Copy>(&mut self, list: &[T]) -> T {
        list[usize::try_from(self.below(list.len() as u64)).unwrap()]
    }
}

/// A partition beside the naive one, and the guest that works on both.
struct Pair {
    p: Partition,
    naive: Naive,
    random: Random,
}

fn status(result: Result<(), HcallError>) -> i64 {
    result.map_or_else(HcallError::code, |()| 0)
}

impl Pair {
    fn new(quirks: Quirks, seed: u64) -> Self {
        let p = Partition::new(quirks, 2);
        p.vcpus[1].set_online(true);
        Self {
            p,
            naive: Naive::new(),
            random: Random(seed),
        }
    }

    /// A number that mostly is one of these, sometimes anything.
    fn argument(&mut self, likely: &[u64]) -> u64 {
        if self.random.one_in(12) {
            let odd = [7, 8, 0xfe, 0x1ff, 0x2000, 1 << 31, 1 << 32, u64::MAX, RAM];
            let shift = self.random.below(64);
            self.random.of(&odd) ^ (self.random.below(2) << shift)
        } else {
            self.random.of(likely)
        }
    }

    /// A source whose pages the guest has.
    fn paged(&mut self) -> u64 {
        self.random.of(&[0, 1, 2, 3, EDGE])
    }

    fn step(&mut self) {
        match self.random.below(24) {
            0..=5 => {
                let lisn = self.paged();
                self.p.trigger(lisn);
                self.naive.event(lisn);
            }
            6..=8 => {
                let (lisn, at) = (self.paged(), self.random.below(0x200) * 8);
                assert_eq!(self.p.esb(lisn, at), self.naive.load(lisn, at), "{at:#x}");
            }
            9 => self.esb_call(),
            10 | 11 => self.configure_source(),
            12 => self.configure_queue(),
            13 => self.read_configurations(),
            14..=17 => self.registers(),
            18..=20 => self.move_context(),
            21 => self.notification(),
            22 => self.level_or_line(),
            _ if self.random.one_in(40) => self.reset(),
            _ => {
                let lisn = self.argument(&[0, 1, 2, 3, EDGE, LEVEL]);
                let expected = if self.naive.sources.contains_key(&lisn) {
                    0
                } else {
                    -55
                };
                let result = self.p.native().sync(self.p.hw, 0, lisn);
                assert_eq!(status(result), expected);
            }
        }
    }

    fn esb_call(&mut self) {
        let flags = self.argument(&[0, 0, 0, 1]);
        let lisn = self.argument(&[0, 1, EDGE, LEVEL, LEVEL]);
        let place = self.random.below(0x200) * 8;
        let at = self.argument(&[0, 0x800, 0xc00, 0xd00, 0xe00, 0xf00, place]);
        let result = self.p.native().esb(self.p.hw, [flags, lisn, at, 0]);
        let known = self.naive.sources.get(&lisn);
        let expected = if flags & !1 != 0 {
            Err(-4)
        } else if known.is_none() {
            Err(-55)
        } else if at >= 0x1000 || !at.is_multiple_of(8) {
            Err(-56)
        } else if flags == 0 {
            Ok(self.naive.load(lisn, at))
        } else if at >= 0x400 || lisn == LEVEL {
            Err(-56)
        } else {
            self.naive.event(lisn);
            Ok(u64::MAX)
        };
        assert_eq!(result.map_err(HcallError::code), expected);
    }

    fn configure_source(&mut self) {
        let eisn = self.random.below(1 << 31);
        let arguments = [
            self.argument(&[2, 2, 2, 0, 3]),
            self.argument(&[0, 1, 2, 3, EDGE, LEVEL]),
            self.argument(&[0, 1]),
            self.argument(&[0, 3, 6, 6, 5, 0xff]),
            self.argument(&[eisn]),
        ];
        let result = self.p.native().set_source_config(self.p.hw, arguments);
        assert_eq!(
            status(result),
            self.naive.set_source(arguments),
            "{arguments:x?}"
        );
    }

    fn configure_queue(&mut self) {
        let size = self.argument(&[12, 12, 12, 16, 21, 24, 0, 0]);
        let unit = if size == 0 { 12 } else { size.min(24) };
        let slot = self.random.below(RAM >> unit) << unit;
        let arguments = [
            self.argument(&[1, 1, 0]),
            self.argument(&[0, 1]),
            self.argument(&[0, 1, 2, 3, 4, 5, 6]),
            self.argument(&[slot]),
            size,
        ];
        let result = self
            .p
            .native()
            .set_queue_config(self.p.hw, &self.p.memory, arguments);
        let expected = self.naive.set_queue(arguments);
        assert_eq!(status(result), expected, "{arguments:x?}");
        // Near its end, so that it wraps.
        if expected == 0 && size != 0 && self.random.one_in(2) {
            let vcpu = usize::try_from(arguments[1]).unwrap();
            let level = usize::try_from(arguments[2]).unwrap();
            let queue = &mut self.naive.vcpus[vcpu].queues[level];
            queue.index = (1 << (size - 2)) - 1;
            let state = crate::fw::QueueState {
                toggle: queue.generation,
                index: u32::try_from(queue.index).unwrap(),
            };
            let priority = Priority::new(u8::try_from(level).unwrap()).unwrap();
            self.p
                .hw
                .set_queue_state(self.p.vcpus[vcpu].vp(), priority, state)
                .unwrap();
        }
    }

    fn read_configurations(&mut self) {
        let n = self.p.native();
        for (lisn, source) in &self.naive.sources {
            let config = n.get_source_config(0, *lisn).unwrap();
            let aim = config
                .priority
                .map(|priority| (u64::from(config.target.get()), u64::from(priority.get())));
            assert_eq!(aim, source.aim);
            assert_eq!(u64::from(config.eisn.get()), source.eisn);
        }
        for (server, vcpu) in (0..).zip(&self.naive.vcpus) {
            for (priority, queue) in (0..).zip(&vcpu.queues) {
                let config = n.get_queue_config(self.p.hw, 1, server, priority).unwrap();
                let place = config.queue.map(|(at, size)| (at.get(), 1 << (size - 2)));
                assert_eq!(place, queue.place);
                assert_eq!(config.always, queue.always);
                let debug = config.debug.unwrap();
                if queue.place.is_some() {
                    assert_eq!(u64::from(debug.index), queue.index);
                    assert_eq!(debug.toggle, queue.generation);
                }
            }
            let line = n.get_os_reporting_line(0, server).unwrap();
            assert_eq!(line.map(GuestReal::get), vcpu.line);
        }
    }

    /// The guest on a thread works on its registers.
    fn registers(&mut self) {
        let thread = usize::try_from(self.random.below(THREADS as u64)).unwrap();
        let Some(vcpu) = self
            .naive
            .vcpus
            .iter_mut()
            .find(|v| v.thread == Some(thread))
        else {
            return;
        };
        self.p.hw.run_on(thread);
        let best = |set: u8| u8::try_from(set.leading_zeros()).unwrap();
        match self.random.below(3) {
            0 => {
                let cppr = self.random.of(&[0, 3, 5, 6, 7, 0xff, 0xff, 0xff, 0x20]);
                self.p.cppr(cppr);
                vcpu.cppr = if cppr < 8 { cppr } else { 0xff };
            }
            1 => {
                let level = u8::try_from(self.random.below(7)).unwrap();
                let page = self.p.native().page_at(window::TIMA_OS).unwrap();
                self.p.hw.store8(page, 0x812, level);
                vcpu.pending |= 0x80 >> level;
            }
            _ => {
                let taken = self.p.acknowledge();
                let (sure, all) = (best(vcpu.pending), best(vcpu.pending | vcpu.maybe));
                match taken {
                    Some(level) if level < vcpu.cppr => {
                        assert!(all <= level && level <= sure, "{taken:?}: {vcpu:?}");
                        vcpu.pending &= !(0x80 >> level);
                        vcpu.maybe &= !(0x80 >> level);
                        vcpu.cppr = level;
                    }
                    // An emulator that leaves the line up answers without a reason, and takes
                    // what the CPPR does not let through, or nothing.
                    Some(level) => {
                        vcpu.pending &= !u8::try_from(0x80_u32 >> level.min(8)).unwrap();
                        vcpu.maybe &= !u8::try_from(0x80_u32 >> level.min(8)).unwrap();
                        vcpu.cppr = level;
                    }
                    None => assert!(sure >= vcpu.cppr || sure == 8, "lost: {vcpu:?}"),
                }
            }
        }
        // Nothing that may be presented is without its line.
        let sure = best(vcpu.pending);
        if sure < 8 && sure < vcpu.cppr {
            assert!(self.p.hw.line(), "no line: {vcpu:?}");
        }
    }

    fn move_context(&mut self) {
        let server = usize::try_from(self.random.below(VCPUS)).unwrap();
        let context = &self.p.vcpus[server];
        let vcpu = &mut self.naive.vcpus[server];
        let best = |set: u8| u8::try_from(set.leading_zeros()).unwrap();
        match vcpu.thread {
            Some(thread) => {
                self.p.hw.run_on(thread);
                let becomes = self.random.of(&[OffThread::Ready, OffThread::Waiting]);
                context.pull(self.p.hw, becomes);
                vcpu.thread = None;
                vcpu.waits = becomes == OffThread::Waiting;
                let sure = best(vcpu.pending);
                vcpu.escalated = sure < 8 && sure < vcpu.cppr;
            }
            None => {
                if vcpu.waits && vcpu.escalated {
                    assert!(context.pending(self.p.hw), "asleep: {vcpu:?}");
                }
                let thread = usize::try_from(self.random.below(THREADS as u64)).unwrap();
                if self.naive.vcpus.iter().any(|v| v.thread == Some(thread)) {
                    return;
                }
                self.p.hw.run_on(thread);
                context.push(self.p.hw);
                let vcpu = &mut self.naive.vcpus[server];
                (vcpu.thread, vcpu.waits) = (Some(thread), false);
                let ring = self.p.vcpus[server].tima.os_ring(self.p.hw);
                assert_eq!(ring.cppr().get(), vcpu.cppr);
                assert_eq!(ring.ipb() & !vcpu.maybe, vcpu.pending & !vcpu.maybe);
            }
        }
    }

    fn notification(&mut self) {
        let server = usize::try_from(self.random.below(VCPUS)).unwrap();
        let level = u8::try_from(self.random.below(7)).unwrap();
        let at = window::notification_page(
            ServerNumber::new(u32::try_from(server).unwrap()),
            Priority::new(level).unwrap(),
        );
        let page = self.p.native().page_at(at).unwrap();
        let offset = self.random.of(&[0x800, 0xc00, 0xd00, 0xe00, 0xf00]);
        let queue = &mut self.naive.vcpus[server].queues[usize::from(level)];
        let old = u64::from(queue.p) << 1 | u64::from(queue.q);
        assert_eq!(self.p.hw.load64(page, offset), old);
        if offset != 0x800 {
            (queue.p, queue.q) = (offset & 0x200 != 0, offset & 0x100 != 0);
        }
    }

    fn level_or_line(&mut self) {
        if self.random.one_in(2) {
            let level = self.random.of(&[Level::Asserted, Level::Deasserted]);
            self.p.devices[1].set_level(self.p.hw, level);
            self.naive.sources.get_mut(&LEVEL).unwrap().level = Some(level == Level::Asserted);
            self.naive.follow_level(LEVEL);
            return;
        }
        let server = usize::try_from(self.random.below(VCPUS)).unwrap();
        let vcpu = &mut self.naive.vcpus[server];
        let Some(thread) = vcpu.thread else { return };
        self.p.hw.run_on(thread);
        let line = self.random.of(&[u64::MAX, 0x4000, 0x8100, 0x4080, RAM]);
        let result = self.p.native().set_os_reporting_line(
            self.p.hw,
            self.p.hw,
            &self.p.memory,
            &self.p.vcpus[server],
            [0, line],
        );
        let expected = match line {
            u64::MAX => {
                vcpu.line = None;
                0
            }
            0x4000 | 0x8100 => {
                vcpu.line = Some(line);
                0
            }
            _ => -55,
        };
        assert_eq!(status(result), expected);
        if expected == 0 {
            vcpu.maybe = 0xfe;
        }
    }

    fn reset(&mut self) {
        let Some(server) = self.naive.vcpus.iter().position(|v| v.thread.is_some()) else {
            return;
        };
        self.p.hw.run_on(self.naive.vcpus[server].thread.unwrap());
        if self.naive.vcpus[server].line.is_some() {
            self.naive.vcpus[server].maybe = 0xfe;
        }
        // A line that was taken away elsewhere is taken away from the hardware now.
        if matches!(self.p.vcpus[server].lock().line, vcpu::Line::Stale(_)) {
            self.naive.vcpus[server].maybe = 0xfe;
        }
        let n = self.p.native();
        let call = || {
            n.reset(
                self.p.hw,
                self.p.hw,
                &self.p.memory,
                &self.p.vcpus[server],
                0,
            )
        };
        assert_eq!(call(), Ok(()));
        self.naive.reset();
    }

    /// That the memory holds what the naive controller wrote, and what is pinned is what is in use.
    fn check(&self) {
        for (at, word) in &self.naive.memory {
            assert_eq!(self.p.entry(*at, 0).0, *word, "{at:#x}");
        }
        let mut pins = BTreeMap::new();
        for (vcpu, real) in self.naive.vcpus.iter().zip(&self.p.vcpus) {
            for (base, entries) in vcpu.queues.iter().filter_map(|queue| queue.place) {
                *pins.entry((base, entries * 4)).or_insert(0) += 1;
            }
            if let Some(line) = real.lock().line.pinned() {
                *pins.entry((line.get(), 256)).or_insert(0) += 1;
            }
        }
        assert_eq!(*self.p.memory.pins.borrow(), pins);
        for (lisn, source) in &self.naive.sources {
            let pq = self
                .p
                .native()
                .source(Lisn::new(u32::try_from(*lisn).unwrap()))
                .unwrap();
            let bits = u64::from(source.p) << 1 | u64::from(source.q);
            assert_eq!(pq.pq(self.p.hw) as u64, bits, "{lisn:#x}");
        }
    }
}

fn run(steps: u64, seed: u64) {
    let per_machine = steps.min(5_000);
    for round in 0..steps.div_ceil(per_machine) {
        let quirks = Quirks::ALL[usize::try_from(round % 4).unwrap()];
        let mut pair = Pair::new(quirks, seed.wrapping_add(round));
        for step in 0..per_machine {
            pair.step();
            if step % 16 == 0 {
                pair.check();
            }
        }
        pair.check();
    }
}

/// Steps by default; `PENSTOCK_XIVE_STEPS` sets another number, and `PENSTOCK_XIVE_SEED` a seed.
const STEPS: u64 = unless_miri(1_000_000, 100);

fn from_environment(name: &str, default: u64) -> u64 {
    env::var(name)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(default)
}

#[test]
fn random_guests_see_what_a_naive_controller_shows() {
    run(
        from_environment("PENSTOCK_XIVE_STEPS", STEPS),
        from_environment("PENSTOCK_XIVE_SEED", 1),
    );
}
