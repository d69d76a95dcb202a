// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a thread does: it runs the virtual processors that have their home on it, in turn.
//! Who has the next turn, and for how long, is in [`turns`].
//!
//! At most one of them is aboard, that is, has its registers in the machine. It stays there while it
//! sleeps or waits for the hypervisor: only another one, or somebody who [holds](super::seat) it,
//! takes it off.

// UNSAFETY: entering a guest, and the thread's registers.
#![expect(unsafe_code)]

use super::console;
use super::exits::{self, End, Next};
use super::hardware::{Hardware, HwInterrupts, scope_of};
use super::idle;
use super::seat::{self, Seat, Seated};
use super::sleep::sleep;
use super::slot::{back_in_guest, left_guest, show_expired};
use super::start::Machine;
use super::thread::{NO_PARTITION, Thread};
use crate::exit::GuestExit;
use crate::inject::{self, Vector};
use crate::partition::Dispatching;
use crate::platform::Platform;
use crate::processor::{Activity, Stopped};
use crate::schedule::{Decision, Queue};
use crate::smp::Boarding;
use crate::trace::Kind;
use crate::vpa::PreemptReason;
use core::sync::atomic::Ordering;
use penstock_arch::hash::Lpid;
use penstock_arch::hw_thread::HwThread;
use penstock_arch::regs::{Lpcr, Srr1, sprn};
use penstock_arch::switch::{self, FirstEntry};
use penstock_arch::{entry, spr};
use penstock_xive::native::OffThread;

mod turns;

pub use turns::readiness;
use turns::{Found, Gift, Interrupted};

/// Turns a second where several virtual processors share a thread.
pub const TURN_HZ: u64 = 100;

/// How long a thread that has one virtual processor leaves it alone at most, or sleeps, in seconds. Who
/// wants the thread's attention interrupts it; this is for the case that an interrupt is lost.
const BACKSTOP_SECONDS: u64 = 1;

/// Bits of LPCR that others change of a guest that is not on a full exit: LPCR is written before it is
/// entered, where one of them is not right.
const CHANGING: Lpcr = Lpcr::VPM1.union(Lpcr::AIL3).union(Lpcr::ILE);

/// A thread at work.
pub struct Runner {
    machine: &'static Machine,
    me: &'static Thread,
    thread: HwThread,
    loaded: Option<usize>,
    queue: Queue,
    /// What the last decision has found.
    found: Found,
    /// Where a turn goes that one has given to another one.
    gift: Option<Gift>,
    /// When the last exit was, if it was an interrupt.
    interrupt: Option<u64>,
    /// What the last turn's end has cost, if an interrupt ended it.
    interrupted: Option<Interrupted>,
    /// The thread has slept since somebody asked.
    slept: bool,
}

/// What became of an attempt to enter a guest.
enum Entered {
    /// It was in, and this comes next.
    Next(Next),
    /// Somebody has rung: the thread looks first.
    Rung,
}

impl Runner {
    /// The calling thread, with nobody aboard.
    pub fn new(machine: &'static Machine, me: &'static Thread) -> Self {
        Self {
            machine,
            me,
            // SAFETY: interrupts are off, and the processor is the PVR's.
            thread: unsafe { HwThread::new(machine.processor) },
            loaded: None,
            queue: Queue::new(0),
            found: Found::default(),
            gift: None,
            interrupt: None,
            interrupted: None,
            slept: false,
        }
    }

    /// Whether the thread has slept since the last call.
    pub fn take_slept(&mut self) -> bool {
        core::mem::take(&mut self.slept)
    }

    /// One turn of a virtual processor, or sleep, until somebody rings or it is `deadline`.
    pub fn step(&mut self, deadline: u64) {
        self.me.answer();
        self.let_go_of_held();
        let now = spr::timebase();
        let (decision, span) = self.decide(now);
        let until = deadline.min(now.saturating_add(span));
        match decision {
            Decision::Run(place) => {
                self.interrupt = None;
                self.turn(place, until);
                self.end_turn(place, now, spr::timebase());
            }
            // Interrupts for one that is not aboard do not end the thread's sleep.
            Decision::Sleep { until: first } if self.found.is_shared() => {
                self.sleep_until(first.min(until));
            }
            Decision::Sleep { until: first } => {
                if self.loaded.is_none() {
                    self.bring_aboard_alone();
                }
                self.sleep_until(first.min(deadline));
            }
            Decision::Nothing => self.sleep_until(deadline),
        }
    }

    fn turn(&mut self, place: usize, until: u64) {
        let Some(seat) = seat::all().get(place) else {
            return;
        };
        if !self.dispatch(place, seat) {
            return;
        }
        // Who was on the thread before is off it now.
        self.offer_others(place);
        loop {
            let left = until.wrapping_sub(spr::timebase()).cast_signed();
            if left <= 0 {
                return;
            }
            // SAFETY: the hypervisor's own timer; left is positive, so it is not entered expired.
            unsafe { spr::write::<{ sprn::HDEC }>(left.unsigned_abs()) };
            let entered = self.enter(seat);
            self.me.check_stack();
            match entered {
                Entered::Next(next) if self.follow(place, seat, next, until) => {}
                _ => return,
            }
        }
    }

    /// Puts the virtual processor of this seat on the thread, ready to enter its guest; false if
    /// somebody holds it.
    fn dispatch(&mut self, place: usize, seat: &Seat) -> bool {
        if !self.bring_aboard(place, seat) {
            return false;
        }
        if let Some(seated) = seat.inside().as_mut() {
            let away = seated.away.take();
            seated.occupant.with(|vcpu| {
                let waited = match vcpu.processor.activity() {
                    Activity::Ceded => {
                        vcpu.processor.wake();
                        true
                    }
                    Activity::Joined => {
                        vcpu.partition.processors.leave_join(vcpu.processor);
                        true
                    }
                    Activity::Stopped | Activity::Starts | Activity::Runs => false,
                };
                if waited {
                    // A prod is what it waited for.
                    let _ = vcpu.processor.take_prod();
                }
                if let Some(away) = away {
                    back_in_guest(vcpu, away);
                }
            });
        }
        true
    }

    /// The same for the only one that the thread has, and that waits: aboard, its interrupts end the
    /// thread's sleep.
    fn bring_aboard_alone(&mut self) {
        let mut seats = seat::all().iter().enumerate();
        let alone = seats.find(|(_, seat)| {
            seat.is_for(self.me)
                && seat.try_inside().is_some_and(|inside| {
                    let processor = inside
                        .as_ref()
                        .and_then(|seated| seated.occupant.processor());
                    processor.is_some_and(|processor| match processor.activity() {
                        // No interrupt is to wake one that has joined.
                        Activity::Stopped | Activity::Joined => false,
                        Activity::Starts | Activity::Runs | Activity::Ceded => true,
                    })
                })
        });
        if let Some((number, seat)) = alone {
            self.bring_aboard(number, seat);
        }
    }

    fn bring_aboard(&mut self, place: usize, seat: &Seat) -> bool {
        if self.loaded == Some(place) {
            return true;
        }
        self.unload();
        if seat.board(self.me) == Boarding::Aboard {
            let mut inside = seat.inside();
            if let Some(seated) = inside.as_mut()
                && seat.is_for(self.me)
            {
                self.load(place, seated);
                return true;
            }
            drop(inside);
            seat.alight();
        }
        switch::park(&self.thread);
        false
    }

    fn load(&mut self, place: usize, seated: &mut Seated) {
        let (thread, me) = (self.thread, self.me);
        let first = core::mem::replace(&mut seated.first_entry, FirstEntry::No);
        seated.occupant.with(|vcpu| {
            vcpu.ctx.thread = me.address();
            // A virtual processor is not moved any more once it is in its seat.
            if vcpu.ctx.hcall_log == 0 {
                vcpu.ctx.hcall_log = vcpu.log.start();
            }
            let lpid = vcpu.partition.mmu.lpid();
            // Before this thread can have a translation: whoever invalidates one must reach it.
            if let Some(scope) = scope_of(lpid) {
                scope.enter(me.address());
            }
            // LPCR is the guest's before HDEC is written: with HDICE clear, POWER9 drops what HDEC
            // raises.
            switch::enter(&thread, &vcpu.parked, vcpu.hardware_lpcr(), lpid, first);
            vcpu.presenter.push(&HwInterrupts);
            me.trace(vcpu.partition.id.0, Kind::Board, [vcpu.server.into(), 0]);
        });
        self.loaded = Some(place);
    }

    /// Takes whoever is on the thread off it, to come back later. The next one must be loaded, or
    /// the thread parked.
    fn unload(&mut self) {
        self.unload_with(|_, _| ());
    }

    /// The same. `last` is done to the virtual processor before anybody else can have it.
    fn unload_with(&mut self, last: impl FnOnce(&Seat, &mut Seated)) {
        let (thread, me) = (self.thread, self.me);
        let Some(seat) = self.loaded.take().and_then(|place| seat::all().get(place)) else {
            return;
        };
        if let Some(seated) = seat.inside().as_mut() {
            let away = &mut seated.away;
            seated.occupant.with(|vcpu| {
                let becomes = match vcpu.processor.activity() {
                    Activity::Ceded => OffThread::Waiting,
                    _ => OffThread::Ready,
                };
                vcpu.presenter.pull(&HwInterrupts, becomes);
                switch::leave(&thread, &mut vcpu.parked);
                me.trace(vcpu.partition.id.0, Kind::Alight, [vcpu.server.into(), 0]);
                if away.is_none() {
                    *away = Some(left_guest(vcpu, PreemptReason::TimeSlice));
                }
            });
            last(seat, seated);
        }
        self.me.use_idle_context();
        seat.alight();
    }

    /// Takes the virtual processor at `place` off the thread, if it is on it, and leaves the thread
    /// without any.
    pub fn park(&mut self, place: usize) {
        self.park_with(place, |_, _| ());
    }

    /// The same. `last` is done to the virtual processor, if it is on the thread, before anybody else
    /// can have it.
    fn park_with(&mut self, place: usize, last: impl FnOnce(&Seat, &mut Seated)) {
        if self.loaded == Some(place) {
            self.unload_with(last);
            switch::park(&self.thread);
        }
    }

    /// Whether who is on the thread has it for itself.
    pub fn is_dedicated(&self) -> bool {
        let seat = self.loaded.and_then(|place| seat::all().get(place));
        seat.is_some_and(|seat| {
            let inside = seat.inside();
            inside.as_ref().is_some_and(|seated| {
                seated.occupant.partition().dispatching == Dispatching::Dedicated
            })
        })
    }

    /// Takes whoever is on the thread off it, so that the thread has no interrupt context.
    pub fn park_anybody(&mut self) {
        if let Some(place) = self.loaded {
            self.park(place);
        }
    }

    /// Lets whoever waits for the virtual processor that is aboard have it.
    fn let_go_of_held(&mut self) {
        if let Some(place) = self.loaded
            && seat::all().get(place).is_some_and(Seat::is_held)
        {
            self.park(place);
        }
    }

    /// Enters the guest of a seat that was [dispatched](Self::dispatch), until its next full exit.
    fn enter(&mut self, seat: &Seat) -> Entered {
        let me = self.me;
        let mut inside = seat.inside();
        let Some(seated) = inside.as_mut() else {
            return Entered::Rung;
        };
        let interrupt = &mut self.interrupt;
        let entered = seated.occupant.with(|vcpu| {
            if !me.bell.leave() {
                return Entered::Rung;
            }
            // Whoever hides something from now on waits for this thread, or is seen here.
            me.presence.enter(vcpu.partition.mmu.lpid().get());
            vcpu.take_modes();
            if vcpu.processor.take_reset() {
                inject::deliver(vcpu, Vector::SystemReset, Srr1::empty());
            }
            let lpcr = vcpu.hardware_lpcr();
            if (spr::read::<{ sprn::LPCR }>() ^ lpcr.bits()) & CHANGING.bits() != 0 {
                let is_on = lpcr.contains(Lpcr::VPM1);
                me.trace(vcpu.partition.id.0, Kind::Vpm, [is_on.into(), 0]);
                Hardware::write_lpcr(lpcr);
            }
            if lpcr.contains(Lpcr::VPM1) {
                me.presence.virtualized();
            }
            vcpu.times.enter(spr::timebase());
            me.trace(vcpu.partition.id.0, Kind::Enter, [vcpu.ctx.pc, lpcr.bits()]);
            // The light handlers get the whole of it back from its first field.
            let lent = core::ptr::from_mut(vcpu).cast();
            // SAFETY: `dispatch` has put it on the thread, with its interrupt context, and the caller
            // has set HDEC; `vcpu` is not used until the call returns.
            let reason = unsafe { entry::run_guest(lent) };
            me.exits.fetch_add(1, Ordering::Relaxed);
            me.presence.leave();
            me.bell.come_back();
            let exit = GuestExit::decode(reason);
            let now = spr::timebase();
            vcpu.times.leave(exit, now);
            *interrupt =
                matches!(exit, GuestExit::Virtualization | GuestExit::External).then_some(now);
            me.trace(
                vcpu.partition.id.0,
                Kind::Exit,
                [exit.index() as u64, vcpu.ctx.pc],
            );
            if let Some(count) = vcpu.exits.get_mut(exit.index()) {
                *count += 1;
            }
            if let Some(at) = vcpu.stray.take() {
                exits::complain(vcpu, format_args!("no memory at guest address {at}"));
            }
            Entered::Next(exits::handle(vcpu, exit))
        });
        entered.unwrap_or(Entered::Rung)
    }

    /// Does what an exit asks for, in a turn that lasts `until` then; whether the guest goes on at once.
    fn follow(&mut self, place: usize, seat: &Seat, next: Next, until: u64) -> bool {
        match next {
            Next::Enter => true,
            Next::Drain => {
                if let Some(seated) = seat.inside().as_ref() {
                    let partition = seated.occupant.partition();
                    console::make_room(partition.id, &partition.output);
                }
                true
            }
            Next::Cede => {
                let mut inside = seat.inside();
                let Some(seated) = inside.as_mut() else {
                    return false;
                };
                let waits = seated.occupant.with(|vcpu| {
                    let pending =
                        || Hardware::decrementer() <= 0 || vcpu.presenter.pending(&HwInterrupts);
                    let waits = vcpu.processor.wait(pending);
                    if !waits {
                        let _ = vcpu.processor.take_prod();
                        show_expired();
                    }
                    waits.then(|| left_guest(vcpu, PreemptReason::Cede))
                });
                // Where it need not wait, it goes on.
                match waits.flatten() {
                    Some(away) => {
                        seated.away = Some(away);
                        false
                    }
                    None => true,
                }
            }
            Next::Confer(target) => {
                if let Some(seated) = seat.inside().as_mut() {
                    let reason = PreemptReason::Confer;
                    seated.away = seated.occupant.with(|vcpu| left_guest(vcpu, reason));
                }
                self.give_turn(place, seat, target, until);
                false
            }
            Next::Join => {
                if let Some(seated) = seat.inside().as_mut() {
                    let reason = PreemptReason::Confer;
                    seated.away = seated.occupant.with(|vcpu| left_guest(vcpu, reason));
                }
                // No interrupt is to wake it, so none may end the thread's sleep.
                self.park(place);
                false
            }
            Next::Stop => {
                let mut last = false;
                self.park_with(place, |seat, seated| {
                    seated.away = None;
                    last = seated.occupant.with(|vcpu| vcpu.stop()) == Some(Stopped::Last);
                    if last {
                        seat.report(seated, Next::End(End::PoweredOff));
                    }
                });
                if last {
                    seat::announce();
                }
                false
            }
            Next::Control | Next::Resize | Next::Restart | Next::Pause(_) | Next::End(_) => {
                self.park_with(place, |seat, seated| seat.report(seated, next));
                seat::announce();
                false
            }
        }
    }

    /// Stops the thread until it is time, or somebody rings, or an interrupt comes for who is aboard.
    fn sleep_until(&mut self, until: u64) {
        let left = until.wrapping_sub(spr::timebase()).cast_signed();
        if left <= 0 || self.me.bell.is_rung() {
            return;
        }
        // Whoever is to be woken is looked for after each step.
        if idle::work(self.me) || !self.me.bell.leave() {
            return;
        }
        let before = spr::timebase();
        let backstop = BACKSTOP_SECONDS * self.machine.info.cpu.timebase_hz;
        sleep(left.unsigned_abs().min(backstop));
        self.me.bell.come_back();
        self.me.sleeps.fetch_add(1, Ordering::Relaxed);
        let asleep = spr::timebase().wrapping_sub(before);
        self.me.asleep.fetch_add(asleep, Ordering::Relaxed);
        self.me.trace(NO_PARTITION, Kind::Sleep, [asleep, 0]);
        // What is not taken in hypervisor state ends each stop at once, until it is served.
        let was_interrupted = self.me.acknowledge();
        if !was_interrupted && asleep >= backstop && self.me.bell.is_rung() {
            self.me.complain_of_silence();
        }
        self.slept = true;
    }

    /// Looks after the hypervisor itself: the vectors, and what this thread's guest runs with, which
    /// no access of ours would check.
    pub fn check(&self) {
        if entry::vectors_checksum() != self.machine.vectors {
            panic!("the vectors in low memory have changed");
        }
        let (lpcr, lpid) = (
            spr::read::<{ sprn::LPCR }>(),
            spr::read::<{ sprn::LPIDR }>(),
        );
        let seat = self.loaded.and_then(|place| seat::all().get(place));
        let (wanted_lpcr, wanted_lpid) = seat
            .and_then(|seat| {
                let inside = seat.inside();
                let occupant = &inside.as_ref()?.occupant;
                occupant.with(|vcpu| (vcpu.hardware_lpcr(), vcpu.partition.mmu.lpid()))
            })
            .unwrap_or((Lpcr::HYPERVISOR, Lpid::HYPERVISOR));
        // Hints apart, which a processor may not implement, and VPM1, which is set before the next
        // entry, and may be set for longer than it must be.
        let matters = !(Lpcr::DPFD | Lpcr::ONL | Lpcr::VPM1).bits();
        if (lpcr ^ wanted_lpcr.bits()) & matters != 0 || lpid != u64::from(wanted_lpid.get()) {
            panic!("LPCR {lpcr:#x} and LPIDR {lpid:#x} are not the partition's");
        }
    }
}
