// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Who has the next turn on a thread, and for how long; and the turns that are given away.

use super::{BACKSTOP_SECONDS, Runner, TURN_HZ};
use crate::machine::balance;
use crate::machine::hardware::{Hardware, HwInterrupts};
use crate::machine::seat::{self, Seat, Seated};
use crate::machine::slot::Away;
use crate::platform::Platform;
use crate::processor::Activity;
use crate::schedule::balance::slack;
use crate::schedule::{self, Decision, Readiness};
use crate::smp::Offer;
use crate::vpa::PreemptReason;
use alloc::vec::Vec;

/// How often a thread that runs one virtual processor looks whether others are offered that are due more,
/// in parts of a second.
const BALANCE_HZ: u64 = 20;

/// What a virtual processor would do with its thread, which asks, or with one that has it aboard. One that
/// another one has started begins.
pub fn readiness(seated: &mut Seated, is_aboard: bool) -> Option<Readiness> {
    let now = Hardware::timebase();
    let processor = seated.occupant.processor()?;
    let is_called = || processor.is_prodded() || processor.is_to_reset();
    Some(match processor.activity() {
        Activity::Stopped => Readiness::Absent,
        Activity::Runs => Readiness::Ready,
        Activity::Joined if is_called() => Readiness::Ready,
        Activity::Joined => Readiness::Waits {
            until: u64::MAX >> 1,
        },
        Activity::Starts => {
            if seated.occupant.with(|vcpu| vcpu.begin_if_started())? {
                // Its dispatch is counted like any other.
                seated.away = Some(Away {
                    reason: PreemptReason::Firmware,
                    since: now,
                });
            }
            Readiness::Ready
        }
        Activity::Ceded => seated.occupant.with(|vcpu| {
            let left = if is_aboard {
                Hardware::decrementer()
            } else {
                vcpu.parked
                    .decrementer_expiry
                    .wrapping_sub(now)
                    .cast_signed()
            };
            let woken = || vcpu.presenter.pending(&HwInterrupts) || is_called();
            schedule::readiness_of(true, left, woken, now)
        })?,
    })
}

/// What a look at the virtual processors of a thread has found.
#[derive(Default)]
pub(super) struct Found {
    /// How many are started.
    started: usize,
    /// Of each that is ready and may move, by its seat's number: how many of its partition's are ready on
    /// all threads. 0 for the others.
    parts: Vec<u32>,
}

impl Found {
    /// Whether several share the thread.
    pub(super) fn is_shared(&self) -> bool {
        self.started > 1
    }

    fn parts_of(&self, number: usize) -> u32 {
        self.parts.get(number).copied().unwrap_or(0)
    }

    /// The slack of the one in this seat; 0 if it may not move.
    fn slack_of(&self, number: usize) -> u64 {
        match (self.parts_of(number), seat::all().get(number)) {
            (0, _) | (_, None) => 0,
            (parts, Some(seat)) => slack(seat.weight, parts),
        }
    }
}

/// The rest of a turn that one has given to another one.
#[derive(Clone, Copy)]
pub(super) struct Gift {
    /// Whose turn it was, and who has it: numbers of seats.
    from: usize,
    to: usize,
    /// When it ends.
    until: u64,
}

/// A turn that an interrupt has ended.
#[derive(Clone, Copy)]
pub(super) struct Interrupted {
    /// Whose turn it was: the number of a seat.
    place: usize,
    /// How long the thread was busy with the interrupt.
    ticks: u64,
}

impl Runner {
    /// Who has the thread next, and for how long.
    pub(super) fn decide(&mut self, now: u64) -> (Decision, u64) {
        let hz = self.machine.info.cpu.timebase_hz;
        let gift = self.gift.take().filter(|gift| gift.until > now);
        self.look();
        self.charge_for_interrupt();
        if self.me.balances() {
            self.balance(gift, hz / TURN_HZ);
        }
        let is_shared = self.found.is_shared();
        if self.me.set_shared(is_shared) && is_shared && self.me.balances() {
            balance::tell_others(self.me);
        }
        if let Some(gift) = gift {
            self.queue.yields_to(gift.from, gift.to);
        }
        let decision = self.queue.choose();
        if let Decision::Run(place) = decision
            && let Some(seat) = seat::all().get(place)
        {
            // Before it comes aboard: who takes it over has it aboard when he looks.
            seat.home.withdraw();
        }
        let span = if is_shared {
            hz / TURN_HZ
        } else if balance::is_any_shared(self.me) {
            hz / BALANCE_HZ
        } else {
            BACKSTOP_SECONDS * hz
        };
        match (decision, gift) {
            (Decision::Run(place), Some(gift)) if place == gift.to => {
                // What is left of it goes on with whom this one gives it to.
                (decision, span.min(gift.until.wrapping_sub(now)))
            }
            _ => (decision, span),
        }
    }

    /// Looks at all that have the thread for their home.
    fn look(&mut self) {
        let seats = seat::all();
        let (me, loaded) = (self.me, self.loaded);
        let found = &mut self.found;
        found.started = 0;
        found.parts.clear();
        found.parts.resize(seats.len(), 0);
        // There are none yet when a thread begins its work.
        self.queue.have_places(seats.len());
        self.queue.look(|number| {
            let Some(seat) = seats.get(number).filter(|seat| seat.is_for(me)) else {
                return Readiness::Absent;
            };
            // Somebody who holds it rings when he has let go.
            let Some(mut inside) = seat.try_inside() else {
                return Readiness::Absent;
            };
            if !seat.is_for(me) {
                drop(inside);
                seat.ring_at_new_home(me);
                return Readiness::Absent;
            }
            let Some(seated) = inside.as_mut() else {
                return Readiness::Absent;
            };
            let readiness = readiness(seated, loaded == Some(number)).unwrap_or(Readiness::Absent);
            if readiness != Readiness::Absent {
                found.started += 1;
            }
            if readiness == Readiness::Ready
                && seat.is_unpinned()
                && let Some(parts) = found.parts.get_mut(number)
            {
                *parts = seated.occupant.partition().processors.running().max(1);
            }
            readiness
        });
    }

    /// Takes over one that waits for a turn on another thread, if it is due more, or if nobody here is
    /// ready; and the one that a turn is given to, if it waits elsewhere.
    fn balance(&mut self, gift: Option<Gift>, turn: u64) {
        let me = self.me;
        me.seeks.end();
        let front = self.queue.front(|number| self.found.slack_of(number));
        let foremost = balance::foremost(front);
        self.queue
            .catch_up(foremost, |number| self.found.slack_of(number));
        let wanted = |runner: &Self| {
            let mut offers = balance::offers(me, turn);
            match gift.and_then(|gift| offers.find(|(number, _)| *number == gift.to)) {
                Some((number, _)) => Some(number),
                None => runner.queue.wanted(balance::offers(me, turn)),
            }
        };
        let wanted = if self.queue.is_idle() {
            // From here on whoever offers somebody rings.
            let mut wanted_now = None;
            let _ = me.seeks.begin(|| {
                wanted_now = wanted(self);
                false
            });
            wanted_now
        } else {
            wanted(self)
        };
        let Some(number) = wanted else {
            return;
        };
        if let Some(taken) = balance::take_over(me, number) {
            me.seeks.end();
            self.queue.arrive(number, taken.time);
            self.found.started += 1;
            if let Some(parts) = self.found.parts.get_mut(number) {
                *parts = taken.parts;
            }
        }
    }

    /// Offers those that are ready to other threads, while the one in the seat with this number has its
    /// turn and is aboard.
    pub(super) fn offer_others(&self, runs: usize) {
        if !self.me.balances() {
            return;
        }
        let mut has_offered = false;
        for (number, seat) in seat::all().iter().enumerate() {
            let slack = self.found.slack_of(number);
            if slack != 0 && number != runs && self.queue.is_ready(number) {
                let time = self.queue.time_of(number);
                seat.offer(self.me, Offer { time, slack });
                has_offered = true;
            }
        }
        if has_offered {
            balance::call_somebody_idle();
        }
    }

    /// Counts a turn that has lasted from `since` until `now`, but for what an interrupt's exit at its end
    /// has cost: that is for whom it was.
    pub(super) fn end_turn(&mut self, place: usize, since: u64, now: u64) {
        let end = self.interrupt.unwrap_or(now);
        self.charge(place, end.wrapping_sub(since));
        self.interrupted = self.interrupt.map(|end| Interrupted {
            place,
            ticks: now.wrapping_sub(end),
        });
    }

    /// Counts what the interrupt that ended the last turn has cost for those that the last look has found
    /// woken, in equal parts. Where it has woken nobody it is on the account of whose turn it was.
    fn charge_for_interrupt(&mut self) {
        let Some(Interrupted { place, ticks }) = self.interrupted.take() else {
            return;
        };
        let count = self.queue.woken().count() as u64;
        let Some(each) = ticks.checked_div(count) else {
            self.charge(place, ticks);
            return;
        };
        for number in 0..seat::all().len() {
            if self.queue.is_woken(number) {
                self.charge(number, each);
            }
        }
    }

    /// Counts a turn, or part of one. A partition's weight is that of all its virtual processors together:
    /// where they are pinned, of those on the same thread.
    pub(super) fn charge(&mut self, place: usize, ticks: u64) {
        let Some(seat) = seat::all().get(place) else {
            return;
        };
        seat.add_time(ticks);
        let parts = match self.found.parts_of(place) {
            0 => {
                let family = seat::numbers_of(seat.place);
                let ready = family.filter(|number| self.queue.is_ready(*number));
                ready.count().max(1) as u64
            }
            parts => u64::from(parts),
        };
        self.queue
            .charge(place, ticks.saturating_mul(parts), seat.weight);
    }

    /// The one at `place` gives the rest of its turn, which would last `until` then, to the virtual
    /// processor of its partition with the number `target`, or to whoever comes next.
    pub(super) fn give_turn(&mut self, place: usize, seat: &Seat, target: Option<u32>, until: u64) {
        self.queue.yields(place);
        let target = target.and_then(|server| usize::try_from(server).ok());
        self.gift = target
            .and_then(|server| seat::numbers_of(seat.place).nth(server))
            .filter(|to| *to != place)
            .map(|to| Gift {
                from: place,
                to,
                until,
            });
    }
}
