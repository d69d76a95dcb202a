// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The partitions of the machine, and which of them is on the thread.
//!
//! A [`Slot`] is a partition's definition, which stays, and its guest, which comes with `start` and
//! goes with `destroy`. At most one slot's virtual processor is on the thread. It stays there while
//! it sleeps, is in the monitor, or waits for the hypervisor: only another one, a pause or its end
//! takes it off.

// UNSAFETY: entering a guest, and the thread's registers.
#![expect(unsafe_code)]

use super::create::{self, CreateError, Resources};
use super::exits::{self, End, Next};
use super::hardware::{Hardware, HwInterrupts};
use super::last_words::{ExitStatus, finish};
use super::slot::{Counts, Slot, back_in_guest, left_guest};
use super::start::Machine;
use super::{console, heap};
use crate::bootargs::Attendance;
use crate::config;
use crate::console::{Admission, Focus, GuestId, RateLimit, Suppressed};
use crate::exit::GuestExit;
use crate::lifecycle::{PartitionState, PauseReason, Verb};
use crate::partition::complaint_budget;
use crate::platform::Platform;
use crate::schedule::{self, Decision, Readiness};
use crate::vcpu::{Prod, Vcpu};
use crate::vpa::PreemptReason;
use alloc::vec::Vec;
use penstock_arch::hw_thread::HwThread;
use penstock_arch::regs::{Lpcr, sprn};
use penstock_arch::switch::{self, FirstEntry};
use penstock_arch::{entry, spr};
use penstock_mm::pool::PoolCounts;

/// How the last partition that ran came to its end.
#[derive(Clone, Copy, Debug)]
pub struct LastEnd {
    /// What that means for the run.
    pub status: ExitStatus,
    /// When.
    pub at: u64,
}

/// The partitions, and the thread that they share.
pub struct World<'m> {
    /// The machine.
    pub machine: &'m Machine,
    /// The partitions, in the order of their tree.
    pub slots: Vec<Slot>,
    /// Set while no partition is running or paused.
    pub last_end: Option<LastEnd>,
    /// Who waits for memory, and who has it, may be told so often.
    memory_news: RateLimit,
    resources: Resources<'m>,
    thread: HwThread,
    loaded: Option<usize>,
}

impl<'m> World<'m> {
    /// All partitions, none of them started.
    pub fn new(
        resources: Resources<'m>,
        configurations: impl IntoIterator<Item = config::Partition<'static>>,
    ) -> Self {
        let machine = resources.machine;
        let slot = |(number, configuration)| Slot::new(GuestId(number), configuration);
        Self {
            machine,
            slots: (1..).zip(configurations).map(slot).collect(),
            last_end: None,
            memory_news: complaint_budget(machine.info.cpu.timebase_hz),
            resources,
            // SAFETY: interrupts are off, and the processor is the PVR's.
            thread: unsafe { HwThread::new(machine.processor) },
            loaded: None,
        }
    }

    /// The place of the partition with this name.
    pub fn place_of(&self, name: &str) -> Option<usize> {
        self.slots
            .iter()
            .position(|slot| slot.configuration.name == name)
    }

    /// The slot of the partition with this number.
    pub fn slot_mut(&mut self, id: GuestId) -> Option<&mut Slot> {
        self.slots.iter_mut().find(|slot| slot.id == id)
    }

    /// Whether a partition is running or paused.
    pub fn any_alive(&self) -> bool {
        self.slots.iter().any(|slot| slot.state.is_alive())
    }

    /// What the pool of partitions that share memory holds.
    pub fn pool_counts(&self) -> Option<PoolCounts> {
        let shared = self.resources.shared.as_ref()?;
        Some(shared.pool.counts())
    }

    /// Bytes that no partition has, and those of the largest part of them.
    pub fn free_memory(&self) -> (u64, u64) {
        (
            self.resources.frames.left(),
            self.resources.frames.largest(),
        )
    }

    /// Who has the thread after a turn of the partition at place `last`.
    pub fn decide(&mut self, last: usize) -> Decision {
        let (loaded, slots) = (self.loaded, &mut self.slots);
        let now = Hardware::timebase();
        schedule::decide(last, slots.len(), |place| {
            let Some(Slot {
                state: PartitionState::Running,
                guest: Some(guest),
                away,
                ..
            }) = slots.get_mut(place)
            else {
                return Readiness::Absent;
            };
            let ceded = away.is_some_and(|away| away.reason == PreemptReason::Cede);
            guest.occupied.with(|vcpu| {
                let left = if loaded == Some(place) {
                    Hardware::decrementer()
                } else {
                    vcpu.parked
                        .decrementer_expiry
                        .wrapping_sub(now)
                        .cast_signed()
                };
                let woken = || {
                    vcpu.presenter.pending(&HwInterrupts)
                        || core::mem::replace(&mut vcpu.prod, Prod::None) == Prod::Prodded
                };
                schedule::readiness_of(ceded, left, woken, now)
            })
        })
    }

    /// Puts the virtual processor at `place` on the thread, ready to enter its guest.
    pub fn dispatch(&mut self, place: usize) {
        if self.loaded != Some(place) {
            self.unload();
            self.load(place);
        }
        let Some(Slot {
            guest: Some(guest),
            away,
            ..
        }) = self.slots.get_mut(place)
        else {
            return;
        };
        if let Some(away) = away.take() {
            guest.occupied.with(|vcpu| back_in_guest(vcpu, away));
        }
    }

    fn load(&mut self, place: usize) {
        let thread = self.thread;
        let Some(Slot {
            guest: Some(guest), ..
        }) = self.slots.get_mut(place)
        else {
            return;
        };
        let first = core::mem::replace(&mut guest.first_entry, FirstEntry::No);
        guest.occupied.with(|vcpu| {
            let lpid = vcpu.partition.mmu.lpid();
            // LPCR is the guest's before HDEC is written: with HDICE clear, POWER9 drops what HDEC
            // raises.
            switch::enter(&thread, &vcpu.parked, vcpu.hardware_lpcr(), lpid, first);
            vcpu.presenter.push(&HwInterrupts);
        });
        self.loaded = Some(place);
    }

    /// Takes whoever is on the thread off it, to come back later. The next one must be loaded, or
    /// the thread [parked](Self::park).
    fn unload(&mut self) {
        let thread = self.thread;
        let Some(place) = self.loaded.take() else {
            return;
        };
        let Some(Slot {
            guest: Some(guest),
            away,
            ..
        }) = self.slots.get_mut(place)
        else {
            return;
        };
        guest.occupied.with(|vcpu| {
            vcpu.presenter.pull(&HwInterrupts);
            switch::leave(&thread, &mut vcpu.parked);
            if away.is_none() {
                *away = Some(left_guest(vcpu, PreemptReason::TimeSlice));
            }
        });
        entry::set_context(self.machine.idle);
    }

    /// Takes the virtual processor at `place` off the thread, if it is on it, and leaves the thread
    /// without any.
    fn park(&mut self, place: usize, come_back: ComeBack) {
        if self.loaded != Some(place) {
            return;
        }
        match come_back {
            ComeBack::Yes => self.unload(),
            ComeBack::No => {
                self.loaded = None;
                if let Some(guest) = self.slots.get(place).and_then(|slot| slot.guest.as_ref()) {
                    guest.occupied.vcpu().presenter.pull(&HwInterrupts);
                }
                entry::set_context(self.machine.idle);
            }
        }
        switch::park(&self.thread);
    }

    /// Enters the guest at `place`, which was [dispatched](Self::dispatch), until its next full
    /// exit; what comes then.
    pub fn enter(&mut self, place: usize) -> Next {
        let machine = self.machine;
        let Some(Slot {
            guest: Some(guest), ..
        }) = self.slots.get_mut(place)
        else {
            return Next::Enter;
        };
        guest.occupied.with(|vcpu| {
            // With one thread, nobody can hide anything between this look and the entry.
            let lpcr = vcpu.hardware_lpcr();
            if (spr::read::<{ sprn::LPCR }>() ^ lpcr.bits()) & Lpcr::VPM1.bits() != 0 {
                Hardware::set_lpcr(lpcr);
            }
            // The light handlers get the whole of it back from its first field.
            let lent = core::ptr::from_mut(vcpu).cast();
            // SAFETY: `dispatch` has put it on the thread, with its interrupt context, and the loop
            // has set HDEC; `vcpu` is not used until the call returns.
            let reason = unsafe { entry::run_guest(lent) };
            let exit = GuestExit::decode(reason);
            if let Some(count) = vcpu.exits.get_mut(exit.index()) {
                *count += 1;
            }
            if let Some(at) = vcpu.stray.take() {
                exits::complain(vcpu, format_args!("no memory at guest address {at}"));
            }
            exits::handle(vcpu, exit, machine)
        })
    }

    /// H_CEDE: the virtual processor at `place` waits.
    pub fn cede(&mut self, place: usize) {
        if let Some(Slot {
            guest: Some(guest),
            away,
            ..
        }) = self.slots.get_mut(place)
        {
            let reason = PreemptReason::Cede;
            *away = Some(guest.occupied.with(|vcpu| left_guest(vcpu, reason)));
        }
    }

    /// What LPCR and LPIDR must be at the moment.
    pub fn loaded_vcpu(&self) -> Option<&Vcpu<'_, Hardware>> {
        let slot = self.slots.get(self.loaded?)?;
        Some(slot.guest.as_ref()?.occupied.vcpu())
    }

    /// Makes the partition at `place`, which is shut off, and has it run.
    ///
    /// # Errors
    /// Why it cannot be made.
    pub fn start(&mut self, place: usize) -> Result<(), CreateError> {
        let Some(slot) = self.slots.get_mut(place) else {
            return Ok(());
        };
        let guest = create::create(&mut self.resources, slot.id, &slot.configuration)?;
        slot.guest = Some(guest);
        slot.state = PartitionState::Running;
        slot.away = None;
        slot.started = spr::timebase();
        slot.ended = None;
        slot.bytes_in = 0;
        slot.last_run = None;
        self.last_end = None;
        Ok(())
    }

    /// The guest at `place` starts over.
    pub fn restart(&mut self, place: usize) {
        self.park(place, ComeBack::No);
        let Some(Slot {
            guest: Some(guest),
            configuration,
            away,
            ..
        }) = self.slots.get_mut(place)
        else {
            return;
        };
        *away = None;
        let result = guest.restart(configuration);
        // A guest that starts over gives back what it has of the pool.
        self.memory_came_back();
        if let Err(error) = result {
            log::error!("{error}");
            self.end(place, End::Failed);
        }
    }

    /// Holds the partition at `place`.
    pub fn pause(&mut self, place: usize, reason: PauseReason) {
        self.park(place, ComeBack::Yes);
        self.change_state(place, PartitionState::Paused(reason));
    }

    /// Lets the partition at `place` go on.
    pub fn resume(&mut self, place: usize) {
        self.change_state(place, PartitionState::Running);
    }

    /// The partition at `place` is held, or goes on. Guests that share memory can bring that about as
    /// often as they like, and all together have the budget of one for telling it.
    fn change_state(&mut self, place: usize, state: PartitionState) {
        let Some(slot) = self.slots.get_mut(place) else {
            return;
        };
        let reason = match (slot.state, state) {
            (_, PartitionState::Paused(reason)) | (PartitionState::Paused(reason), _) => reason,
            _ => PauseReason::Operator,
        };
        slot.state = state;
        let name = slot.configuration.name;
        if reason == PauseReason::Operator {
            log::info!("{name}: {state}");
            return;
        }
        if let Admission::Print { suppressed } = self.memory_news.admit(spr::timebase()) {
            log::info!("{name}: {state}{}", Suppressed(suppressed));
        }
    }

    /// Stops the partition at `place`. It keeps what it has only if it failed. Where it was the
    /// last, and nobody is at the console, the machine is powered off.
    pub fn end(&mut self, place: usize, end: End) {
        self.park(place, ComeBack::No);
        let Some(slot) = self.slots.get_mut(place) else {
            return;
        };
        let (status, state) = match end {
            End::PoweredOff => (ExitStatus::Success, PartitionState::ShutOff),
            End::Destroyed => (ExitStatus::UserQuit, PartitionState::ShutOff),
            End::Failed => (ExitStatus::GuestError, PartitionState::Failed),
        };
        let was_alive = slot.state.is_alive();
        slot.state = state;
        slot.away = None;
        if was_alive {
            slot.ended = Some(spr::timebase());
        }
        let (id, name) = (slot.id, slot.configuration.name);
        let unattended = self.machine.args.attendance == Attendance::Unattended;
        if let Some(guest) = &slot.guest {
            let output = &guest.occupied.partition().output;
            console::drain(Some((id, output)));
            if unattended && !output.is_empty() {
                // Nobody can attach its console any more.
                log::info!("{name}: the end of its console:");
                console::show(output);
            }
        }
        log::info!("{name}: {state}");
        let alive = self.any_alive();
        if unattended && !alive {
            finish(status);
        }
        self.leave_console(id, unattended);
        if state == PartitionState::ShutOff {
            self.release(place);
        }
        if was_alive && !alive {
            self.last_end = Some(LastEnd {
                status,
                at: spr::timebase(),
            });
        }
    }

    /// The console of this partition is gone. With nobody to choose, the next partition gets it.
    fn leave_console(&self, id: GuestId, unattended: bool) {
        let mut multiplexer = console::multiplexer().lock();
        let had_focus = multiplexer.focus() == Focus::Guest(id);
        multiplexer.forget(id);
        let next = self.slots.iter().find(|slot| slot.state.is_alive());
        if let (true, true, Some(next)) = (unattended, had_focus, next) {
            drop(multiplexer);
            self.attach(next);
        }
    }

    /// Gives the console to a partition, and says what of its output was lost.
    pub fn attach(&self, slot: &Slot) {
        console::multiplexer().lock().attach(slot.id);
        let lost = slot
            .guest
            .as_ref()
            .map_or(0, |guest| guest.occupied.partition().output.take_lost());
        if lost > 0 {
            let name = slot.configuration.name;
            log::warn!("{name}: {lost} bytes of output were dropped before this");
        }
    }

    /// Takes back all that the partition at `place` has.
    fn release(&mut self, place: usize) {
        let Some(slot) = self.slots.get_mut(place) else {
            return;
        };
        let Some(guest) = slot.guest.take() else {
            return;
        };
        slot.last_run = Some(Counts::of(&guest));
        guest.destroy(&mut self.resources);
        log::info!(
            "{}: gave its memory back: {} KiB are free, {} bytes of the heap in use",
            slot.configuration.name,
            self.resources.frames.left() >> 10,
            heap::used(),
        );
        self.memory_came_back();
    }

    /// Lets those go on that waited for memory.
    fn memory_came_back(&mut self) {
        for place in 0..self.slots.len() {
            let waits = self.slots.get(place).is_some_and(|slot| {
                matches!(slot.state, PartitionState::Paused(reason) if reason.ends_with_memory())
            });
            if waits {
                self.resume(place);
            }
        }
    }

    /// Whether the partition at `place` is in a state for this.
    pub fn allows(&self, place: usize, verb: Verb) -> bool {
        self.slots
            .get(place)
            .is_some_and(|slot| slot.state.allows(verb))
    }
}

/// Whether a virtual processor is to be put on a thread again.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ComeBack {
    Yes,
    /// What it has in the machine is thrown away.
    No,
}
