// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the virtual processors of a partition know of each other: which of them are started, which
//! wait, and what they ask of one another.
//!
//! The registers of a virtual processor belong to the thread that runs it ([`crate::vcpu`]); what is
//! here any of them may look at and change, in a call of its own, while the other one runs.
//!
//! Waking: who brings something stores it first, and asks then [whether its target
//! waits](Processor::is_waiting); who is about to wait says so first, and looks for the last time then
//! ([`Processor::wait`]). One of the two sees the other (`penstock_xive::native::rest`).
//!
//! LoPAR, start-cpu, stop-self, query-cpu-stopped-state; H_CEDE, H_PROD, H_JOIN,
//! H_SIGNAL_SYS_RESET.

use crate::partition::Dispatching;
use crate::vpa::{Dispatch, VcpuAreas};
use alloc::boxed::Box;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use penstock_arch::addr::GuestReal;
use penstock_arch::regs::Lpcr;
use penstock_arch::wait::Mutex;
use penstock_xive::native::rest::Waiting;

/// Virtual processors that a partition may have.
pub const MAX_VCPUS: u32 = 64;

/// What a virtual processor does when its partition may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Activity {
    /// Nothing: it was never started, or has stopped itself.
    Stopped = 0,
    /// It is to begin at its [`Start`].
    Starts = 1,
    /// It goes on.
    Runs = 2,
    /// It waits in H_CEDE, for an interrupt, a prod or its decrementer.
    Ceded = 3,
    /// It waits in H_JOIN, for a prod.
    Joined = 4,
}

impl Activity {
    /// Whether one that begins with this is on a thread, for its dispatch count.
    const fn dispatch(self) -> Dispatch {
        match self {
            Self::Runs => Dispatch::Running,
            Self::Stopped | Self::Starts | Self::Ceded | Self::Joined => Dispatch::Waiting,
        }
    }
}

/// Where a virtual processor begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    /// Its first instruction.
    pub entry: GuestReal,
    /// What is in its r3.
    pub r3: u64,
}

/// What becomes of a virtual processor that stops itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// Others run on.
    One,
    /// It was the last one that was started.
    Last,
}

/// What H_JOIN comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Join {
    /// All others have joined: this one goes on.
    Continue,
    /// It was prodded already, and goes on.
    Prodded,
    /// It waits.
    Waits,
}

/// It is not stopped, so it cannot be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotStopped;

/// One virtual processor, for the others.
#[derive(Debug)]
pub struct Processor {
    activity: AtomicU32,
    entry: AtomicU64,
    r3: AtomicU64,
    prodded: AtomicBool,
    reset: AtomicBool,
    waiting: Waiting,
    /// VPA, SLB shadow and dispatch trace log.
    pub areas: Mutex<VcpuAreas>,
}

/// The virtual processors of a partition, by number.
#[derive(Debug)]
pub struct Processors {
    list: Box<[Processor]>,
    /// How many are started. Held by whoever starts, stops or joins, so that two of them agree on it.
    started: Mutex<u32>,
    /// The LPCR that all of them run with, VPM1 aside.
    lpcr: AtomicU64,
}

impl Processor {
    fn new(activity: Activity, dispatching: Dispatching) -> Self {
        Self {
            activity: AtomicU32::new(activity as u32),
            entry: AtomicU64::new(0),
            r3: AtomicU64::new(0),
            prodded: AtomicBool::new(false),
            reset: AtomicBool::new(false),
            waiting: Waiting::new(),
            areas: Mutex::new(VcpuAreas::new(dispatching, activity.dispatch())),
        }
    }

    /// What it is at.
    #[must_use]
    pub fn activity(&self) -> Activity {
        match self.activity.load(Ordering::Acquire) {
            1 => Activity::Starts,
            2 => Activity::Runs,
            3 => Activity::Ceded,
            4 => Activity::Joined,
            _ => Activity::Stopped,
        }
    }

    fn set(&self, activity: Activity) {
        self.activity.store(activity as u32, Ordering::Release);
    }

    /// By its thread: where it is to begin, once, if somebody has started it.
    pub fn take_start(&self) -> Option<Start> {
        if self.activity() != Activity::Starts {
            return None;
        }
        let start = Start {
            entry: GuestReal::new(self.entry.load(Ordering::Relaxed)),
            r3: self.r3.load(Ordering::Relaxed),
        };
        self.set(Activity::Runs);
        Some(start)
    }

    /// By its thread: it waits in H_CEDE from now on, unless `came` says that something has come for it
    /// already, a prod apart. Whether it waits.
    pub fn wait(&self, came: impl FnOnce() -> bool) -> bool {
        let waits = self
            .waiting
            .begin(|| self.is_prodded() || self.is_to_reset() || came());
        if waits {
            self.set(Activity::Ceded);
        }
        waits
    }

    /// By its thread: it waits no more.
    pub fn wake(&self) {
        self.waiting.end();
        self.set(Activity::Runs);
    }

    /// Whether it waits, to be asked after something was brought to it.
    #[inline]
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.waiting.is_waiting()
    }

    /// H_PROD: what it waits for, or will wait for next, has come. Whether it was not prodded yet.
    pub fn prod(&self) -> bool {
        !self.prodded.swap(true, Ordering::AcqRel)
    }

    /// Whether it was prodded since the last [`Self::take_prod`].
    #[must_use]
    pub fn is_prodded(&self) -> bool {
        self.prodded.load(Ordering::Acquire)
    }

    /// By its thread: whether it was prodded since the last call.
    #[inline]
    pub fn take_prod(&self) -> bool {
        self.is_prodded() && self.prodded.swap(false, Ordering::AcqRel)
    }

    /// It is to take a system reset. Whether it was not to take one yet.
    pub fn signal_reset(&self) -> bool {
        !self.reset.swap(true, Ordering::AcqRel)
    }

    /// Whether it is to take a system reset.
    #[must_use]
    pub fn is_to_reset(&self) -> bool {
        self.reset.load(Ordering::Acquire)
    }

    /// By its thread: whether it is to take a system reset, once.
    pub fn take_reset(&self) -> bool {
        self.is_to_reset() && self.reset.swap(false, Ordering::AcqRel)
    }

    fn forget(&self, activity: Activity) {
        self.prodded.store(false, Ordering::Relaxed);
        self.reset.store(false, Ordering::Relaxed);
        self.waiting.end();
        self.set(activity);
    }
}

impl Processors {
    /// This many, of which the first one is started, and runs.
    #[must_use]
    pub fn new(count: u32, dispatching: Dispatching) -> Self {
        let first = |number| match number {
            0 => Activity::Runs,
            _ => Activity::Stopped,
        };
        Self {
            list: (0..count)
                .map(|number| Processor::new(first(number), dispatching))
                .collect(),
            started: Mutex::new(1),
            lpcr: AtomicU64::new(Lpcr::GUEST.bits()),
        }
    }

    /// The control register that the partition has asked for, VPM1 aside (LoPAR, H_SET_MODE: the modes
    /// are all processors').
    #[inline]
    #[must_use]
    pub fn lpcr(&self) -> Lpcr {
        Lpcr::from_bits_retain(self.lpcr.load(Ordering::Relaxed))
    }

    /// Changes bits of it. Each of them takes it over when it enters its guest next.
    pub fn change_lpcr(&self, clear: Lpcr, set: Lpcr) -> Lpcr {
        let _started = self.started.lock();
        let lpcr = (self.lpcr() - clear) | set;
        self.lpcr.store(lpcr.bits(), Ordering::Relaxed);
        lpcr
    }

    /// All of them, by number.
    #[must_use]
    pub fn all(&self) -> &[Processor] {
        &self.list
    }

    /// The one with this number.
    #[inline]
    #[must_use]
    pub fn get(&self, number: u64) -> Option<&Processor> {
        self.list.get(usize::try_from(number).ok()?)
    }

    /// How many of them would use a thread now, those apart whose interrupt has come a moment ago.
    #[must_use]
    pub fn running(&self) -> u32 {
        let running = self
            .list
            .iter()
            .filter(|processor| matches!(processor.activity(), Activity::Starts | Activity::Runs));
        u32::try_from(running.count()).unwrap_or(u32::MAX)
    }

    /// As at the start of the partition. None of them is on a thread.
    pub fn start_over(&self) {
        let mut started = self.started.lock();
        *started = 1;
        self.lpcr.store(Lpcr::GUEST.bits(), Ordering::Relaxed);
        for (number, processor) in self.list.iter().enumerate() {
            let activity = if number == 0 {
                Activity::Runs
            } else {
                Activity::Stopped
            };
            let _ = processor.areas.lock().release_all(activity.dispatch());
            processor.forget(activity);
        }
    }

    /// Has a virtual processor begin at `start`, which is stopped. Its thread must be rung for then.
    ///
    /// # Errors
    /// It is not stopped.
    pub fn start(&self, processor: &Processor, start: Start) -> Result<(), NotStopped> {
        let mut started = self.started.lock();
        if processor.activity() != Activity::Stopped {
            return Err(NotStopped);
        }
        *started += 1;
        processor.forget(Activity::Stopped);
        processor.entry.store(start.entry.get(), Ordering::Relaxed);
        processor.r3.store(start.r3, Ordering::Relaxed);
        processor.set(Activity::Starts);
        Ok(())
    }

    /// By its thread: a virtual processor that is on no thread any more has stopped itself.
    pub fn stop(&self, processor: &Processor) -> Stopped {
        let mut started = self.started.lock();
        *started = started.saturating_sub(1);
        let _ = processor.areas.lock().release_all(Dispatch::Waiting);
        processor.forget(Activity::Stopped);
        match *started {
            0 => Stopped::Last,
            _ => Stopped::One,
        }
    }

    /// H_JOIN, by its thread.
    pub fn join(&self, processor: &Processor) -> Join {
        let _started = self.started.lock();
        let goes_on = |other: &Processor| match other.activity() {
            Activity::Stopped => false,
            // One that was told to go on has not left yet.
            Activity::Joined => other.is_prodded() || other.is_to_reset(),
            Activity::Starts | Activity::Runs | Activity::Ceded => true,
        };
        let mut others = self
            .list
            .iter()
            .filter(|other| !core::ptr::eq(*other, processor));
        if !others.any(goes_on) {
            return Join::Continue;
        }
        Self::begin_join(processor)
    }

    /// H_CONFER to itself, by its thread: it waits for a prod, also where no other one is left to give
    /// it one.
    pub fn confer_to_itself(&self, processor: &Processor) -> Join {
        let _started = self.started.lock();
        Self::begin_join(processor)
    }

    fn begin_join(processor: &Processor) -> Join {
        if !processor
            .waiting
            .begin(|| processor.is_prodded() || processor.is_to_reset())
        {
            let _ = processor.take_prod();
            return Join::Prodded;
        }
        processor.set(Activity::Joined);
        Join::Waits
    }

    /// By its thread: a virtual processor that has joined goes on.
    pub fn leave_join(&self, processor: &Processor) {
        let _started = self.started.lock();
        processor.wake();
    }

    /// Whether a virtual processor is the only one that is started.
    #[must_use]
    pub fn is_last(&self, processor: &Processor) -> bool {
        let started = self.started.lock();
        processor.activity() != Activity::Stopped && *started <= 1
    }

    /// A tool has set what a virtual processor is at, which is on no thread and will not be meanwhile.
    pub fn set_activity(&self, processor: &Processor, activity: Activity) {
        let counts = |activity| u32::from(activity != Activity::Stopped);
        let mut started = self.started.lock();
        *started = (*started + counts(activity)).saturating_sub(counts(processor.activity()));
        processor.forget(activity);
        if matches!(activity, Activity::Ceded | Activity::Joined) {
            let _ = processor.waiting.begin(|| false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Start = Start {
        entry: GuestReal::new(0x4000),
        r3: 7,
    };

    #[test]
    fn they_are_started_once_and_stop_themselves() {
        let all = Processors::new(3, Dispatching::Dedicated);
        let [zero, one, two] = all.all() else {
            panic!()
        };
        assert_eq!(zero.activity(), Activity::Runs);
        assert_eq!(one.activity(), Activity::Stopped);
        assert_eq!(all.start(zero, START), Err(NotStopped));
        assert_eq!(all.start(one, START), Ok(()));
        assert_eq!(all.start(one, START), Err(NotStopped));
        assert_eq!(one.take_start(), Some(START));
        assert_eq!(one.take_start(), None);
        assert_eq!(one.activity(), Activity::Runs);
        assert_eq!(all.stop(zero), Stopped::One);
        assert_eq!(all.start(two, START), Ok(()));
        assert_eq!(all.stop(one), Stopped::One);
        // Odd dispatch counts: they are on no thread.
        for (processor, count) in [(zero, 1), (one, 1), (two, 1)] {
            assert_eq!(processor.areas.lock().dispatch_count(), count);
        }
        assert_eq!(two.take_start(), Some(START));
        assert_eq!(all.stop(two), Stopped::Last);
        all.start_over();
        assert_eq!(zero.areas.lock().dispatch_count(), 0);
        assert_eq!(two.areas.lock().dispatch_count(), 1);
        assert_eq!(zero.activity(), Activity::Runs);
        assert_eq!(all.stop(zero), Stopped::Last);
    }

    #[test]
    fn what_came_before_keeps_one_from_waiting() {
        let all = Processors::new(1, Dispatching::Dedicated);
        let [zero] = all.all() else { panic!() };
        assert!(!zero.wait(|| true));
        zero.prod();
        assert!(!zero.wait(|| false));
        assert_eq!(zero.activity(), Activity::Runs);
        assert!(!zero.is_waiting());
        assert!(zero.take_prod() && !zero.take_prod());
        zero.signal_reset();
        assert!(!zero.wait(|| false));
        assert!(zero.take_reset() && !zero.take_reset());
        assert!(zero.wait(|| false));
        assert!(zero.is_waiting());
        assert_eq!(zero.activity(), Activity::Ceded);
        zero.wake();
        assert!(!zero.is_waiting());
        assert_eq!(zero.activity(), Activity::Runs);
    }

    #[test]
    fn the_last_to_join_goes_on() {
        let all = Processors::new(3, Dispatching::Dedicated);
        let [zero, one, two] = all.all() else {
            panic!()
        };
        // One that is stopped need not join.
        assert_eq!(all.join(zero), Join::Continue);
        for other in [one, two] {
            all.start(other, START).unwrap();
            other.take_start();
        }
        assert_eq!(all.join(zero), Join::Waits);
        assert_eq!(all.join(one), Join::Waits);
        assert!(one.is_waiting());
        assert_eq!(all.join(two), Join::Continue);
        assert_eq!(two.activity(), Activity::Runs);
        one.prod();
        all.leave_join(one);
        assert_eq!(all.join(one), Join::Prodded);
        assert!(!one.is_prodded());
        assert_eq!(all.join(two), Join::Waits);
        assert_eq!(all.join(one), Join::Continue);
        all.leave_join(zero);
        assert_eq!(all.stop(zero), Stopped::One);
        assert_eq!(all.join(one), Join::Continue);
    }

    #[test]
    fn a_tool_sets_what_they_are_at() {
        let all = Processors::new(2, Dispatching::Dedicated);
        let [zero, one] = all.all() else { panic!() };
        all.set_activity(one, Activity::Ceded);
        assert!(one.is_waiting());
        assert!(!all.is_last(zero));
        all.set_activity(zero, Activity::Stopped);
        assert!(all.is_last(one) && !all.is_last(zero));
        assert_eq!(all.stop(one), Stopped::Last);
    }
}
