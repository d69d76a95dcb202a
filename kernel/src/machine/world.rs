// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The partitions of the machine, as the boot thread has them.
//!
//! A [`Slot`] is a partition's definition, which stays, and its guest, which comes with `start` and
//! goes with `destroy`. All of it belongs to the boot thread. Only the virtual processors are elsewhere:
//! in their [seats](super::seat), where the threads that run them find them, and where they are held
//! when something is done to them here.

use super::create::{self, CreateError, Resources};
use super::exits::{End, Next};
use super::hardware::{Hardware, HwInterrupts, HwMemory};
use super::last_words::ExitStatus;
use super::runner::Runner;
use super::seat;
use super::slot::Slot;
use super::start::Machine;
use super::{console, idle, interrupts, thread};
use crate::config;
use crate::console::{Admission, GuestId, RateLimit, Suppressed};
use crate::exit::GuestExit;
use crate::hcall;
use crate::lifecycle::{PartitionState, PauseReason, Verb};
use crate::monitor::Trouble;
use crate::partition::{Partition, complaint_budget};
use crate::trace::Kind;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use penstock_arch::hash::PageSize;
use penstock_arch::spr;
use penstock_mm::frame::FrameAllocator;
use penstock_mm::guest_memory::PIECE;
use penstock_mm::pool::{PoolCounts, Share};

mod ending;
mod threads;

use threads::ThreadNumbers;

/// How the last partition that ran came to its end.
#[derive(Clone, Copy, Debug)]
pub struct LastEnd {
    /// What that means for the run.
    pub status: ExitStatus,
    /// When.
    pub at: u64,
}

/// The partitions, and the boot thread.
pub struct World {
    /// The machine.
    pub machine: &'static Machine,
    /// The partitions, in the order of their tree.
    pub slots: Vec<Slot>,
    /// Set while no partition is running or paused.
    pub last_end: Option<LastEnd>,
    /// What the boot thread runs.
    pub runner: Runner,
    /// Who waits for memory, and who has it, may be told so often.
    memory_news: RateLimit,
    resources: Resources<'static>,
}

impl World {
    /// All partitions, none of them started. On the boot thread; the seats are made.
    pub fn new(
        resources: Resources<'static>,
        configurations: impl IntoIterator<Item = config::Partition<'static>>,
    ) -> Self {
        let machine = resources.machine;
        let slot = |(number, configuration)| Slot::new(GuestId(number), configuration);
        Self {
            machine,
            slots: (1..).zip(configurations).map(slot).collect(),
            last_end: None,
            runner: Runner::new(machine, thread::boot()),
            memory_news: complaint_budget(machine.info.cpu.timebase_hz),
            resources,
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

    /// The place of the partition with this number.
    pub fn place_of_id(&self, id: GuestId) -> Option<usize> {
        self.slots.iter().position(|slot| slot.id == id)
    }

    /// Keeps the virtual processors of the partition at `place` off their threads, until
    /// [`Self::let_go`].
    ///
    /// # Errors
    /// A thread does not answer; then none is held.
    pub fn hold(&mut self, place: usize) -> Result<(), String> {
        for number in seat::numbers_of(place) {
            self.runner.park(number);
        }
        seat::hold_all(place, self.machine.info.cpu.timebase_hz).map_err(|stuck| {
            let name = self
                .slots
                .get(place)
                .map_or("", |slot| slot.configuration.name);
            format!("{name}: {stuck}")
        })
    }

    /// Ends one [`Self::hold`].
    pub fn let_go(&self, place: usize) {
        seat::let_go_all(place);
    }

    /// Does what virtual processors have asked the boot thread for.
    pub fn serve_reports(&mut self) {
        if !seat::take_reported() {
            return;
        }
        for seat in seat::all() {
            let place = seat.place;
            let done = match seat.take_report() {
                // Another one of its virtual processors may have ended it.
                Some(_)
                    if !self
                        .slots
                        .get(place)
                        .is_some_and(|slot| slot.state.is_alive()) =>
                {
                    Ok(())
                }
                Some(Next::Restart) => self.restart(place),
                Some(Next::Control) => self.control(place, seat.server),
                Some(Next::Resize) => self.resize(place, seat.server),
                Some(Next::Pause(reason)) => self.pause_by_itself(place, reason),
                Some(Next::End(end)) => self.end(place, end),
                Some(_) | None => Ok(()),
            };
            if let Err(error) = done {
                log::error!("{error}");
            }
        }
        // After those have been held that just found none.
        if seat::take_memory_report() {
            self.memory_came_back();
        }
    }

    /// Serves H_RESIZE_HPT_COMMIT of the virtual processor `server` of the partition at `place`: nobody
    /// is in its guest meanwhile.
    fn resize(&mut self, place: usize, server: usize) -> Result<(), String> {
        self.hold(place)?;
        let guest = self.slots.get(place).and_then(|slot| slot.guest.as_ref());
        if let Some(guest) = guest {
            guest.occupied.with(server, |vcpu| {
                let _ = hcall::resize::commit(vcpu);
            });
        }
        self.let_run(place);
        self.let_go(place);
        Ok(())
    }

    /// Makes the partition at `place`, which is shut off, and has it run.
    ///
    /// # Errors
    /// Why it cannot be made.
    pub fn start(&mut self, place: usize) -> Result<(), CreateError> {
        self.choose_balancing();
        let homes = self.choose_threads(place)?;
        let Some(slot) = self.slots.get_mut(place) else {
            return Ok(());
        };
        let guest = create::create(&mut self.resources, slot.id, &slot.configuration)?;
        // A thread that had an earlier guest may still be looking at an empty seat.
        if let Err(stuck) = seat::hold_all(place, self.machine.info.cpu.timebase_hz) {
            let name = slot.configuration.name;
            guest.destroy(&mut self.resources);
            return Err(format!("partition {name}: {stuck}"));
        }
        for (seat, home) in seat::of(place).iter().zip(&homes) {
            if let Some(thread) = thread::all().get(*home)
                && let Err(error) =
                    interrupts::escalate_to(guest.occupied.partition(), seat.server, thread)
            {
                // Then it is looked for at the end of each turn.
                log::warn!("{}: escalation: {error}", slot.configuration.name);
            }
            let pinned = !slot.configuration.pinned.is_empty();
            seat.fill(guest.occupied.clone(), *home, pinned);
        }
        if let Some(backlog) = idle::backlog(place) {
            backlog.fill(guest.occupied.clone());
        }
        slot.guest = Some(guest);
        slot.state = PartitionState::Running;
        slot.trace(Kind::Start);
        slot.held = false;
        slot.started = spr::timebase();
        slot.ended = None;
        slot.bytes_in = 0;
        slot.last_run = None;
        self.last_end = None;
        if thread::all().len() > 1 {
            let how = if slot.configuration.pinned.is_empty() {
                ""
            } else {
                ", pinned"
            };
            log::info!(
                "{}: on {}{how}",
                slot.configuration.name,
                ThreadNumbers(&homes)
            );
        }
        seat::of(place).iter().for_each(|seat| seat.set_runs(true));
        self.let_go(place);
        Ok(())
    }

    /// The guest at `place` starts over.
    ///
    /// # Errors
    /// Its thread does not answer.
    pub fn restart(&mut self, place: usize) -> Result<(), String> {
        self.hold(place)?;
        if let Some(slot) = self.slots.get(place) {
            slot.trace(Kind::Restart);
        }
        self.forget_tools(place);
        // Its interrupt context is put on this thread for a moment, which must have none then.
        self.runner.park_anybody();
        let restarted = match self.slots.get_mut(place) {
            Some(Slot {
                guest: Some(guest),
                configuration,
                state,
                ..
            }) => guest.restart(configuration).map(|()| {
                for seat in seat::of(place) {
                    seat.renew();
                    // No tool holds it any more.
                    seat.set_runs(*state == PartitionState::Running);
                }
            }),
            _ => Ok(()),
        };
        self.let_go(place);
        // A guest that starts over gives back what it has of the pool.
        self.memory_came_back();
        match restarted {
            Ok(()) => Ok(()),
            Err(error) => {
                log::error!("{error}");
                self.end(place, End::Failed)
            }
        }
    }

    /// The guest at `place` cannot go on for now. Where the operator has held or ended it meanwhile, that
    /// stands: when it runs again it tries again what it tried.
    fn pause_by_itself(&mut self, place: usize, reason: PauseReason) -> Result<(), String> {
        let state = self.slots.get(place).map(|slot| slot.state);
        if state != Some(PartitionState::Running) {
            return Ok(());
        }
        self.pause(place, reason)?;
        // Memory may have come back between its trying and its being held, when nobody knew of it.
        let share = self
            .slots
            .get(place)
            .and_then(|slot| slot.guest.as_ref())
            .and_then(|guest| guest.occupied.partition().mmu.memory().share());
        if reason.ends_with_memory() && share.is_some_and(Share::can_take) {
            self.resume(place);
        }
        Ok(())
    }

    /// Holds the partition at `place`.
    ///
    /// # Errors
    /// Its thread does not answer; then it runs on.
    pub fn pause(&mut self, place: usize, reason: PauseReason) -> Result<(), String> {
        self.hold(place)?;
        seat::of(place).iter().for_each(|seat| seat.set_runs(false));
        self.let_go(place);
        self.change_state(place, PartitionState::Paused(reason));
        Ok(())
    }

    /// Lets the partition at `place` go on.
    pub fn resume(&mut self, place: usize) {
        self.change_state(place, PartitionState::Running);
        self.let_run(place);
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
        match state {
            PartitionState::Paused(_) => slot.trace(Kind::Pause),
            _ => slot.trace(Kind::Resume),
        }
        let (name, shown) = (slot.configuration.name, slot.shown_state());
        if reason == PauseReason::Operator {
            log::info!("{name}: {shown}");
        } else if let Admission::Print { suppressed } = self.memory_news.admit(spr::timebase()) {
            log::info!("{name}: {shown}{}", Suppressed(suppressed));
        }
    }

    /// Has the virtual processors of the partition at `place` run if they may. Where they may not, they
    /// are held.
    pub fn let_run(&self, place: usize) {
        let runs = self.slots.get(place).is_some_and(Slot::may_run);
        for seat in seat::of(place) {
            seat.set_runs(runs);
            seat.ring();
        }
    }

    /// Free memory, and what pages are zeroed by.
    pub fn frames(&mut self) -> (&mut FrameAllocator, &HwMemory) {
        (&mut self.resources.frames, &self.resources.memory)
    }

    /// Has something go wrong in the partition at `place`, which is running.
    ///
    /// # Errors
    /// It cannot, for no large pages were ever promised; or its thread does not answer.
    pub fn provoke(&mut self, place: usize, trouble: Trouble) -> Result<(), String> {
        self.hold(place)?;
        let guest = self.slots.get(place).and_then(|slot| slot.guest.as_ref());
        let done = guest.map_or(Ok(()), |guest| provoke(guest, trouble));
        self.let_go(place);
        done?;
        match trouble {
            Trouble::Backing => Ok(()),
            Trouble::Error => self.end(place, End::Failed),
        }
    }

    /// Asks the guest of the partition at `place` to shut down. What it does then is its own affair.
    pub fn ask_to_shut_down(&mut self, place: usize) {
        let Some(slot) = self.slots.get_mut(place) else {
            return;
        };
        let Some(guest) = &slot.guest else {
            return;
        };
        let partition = guest.occupied.partition();
        partition.rtas.lock().events.request_shutdown();
        slot.untold_event = true;
        log::info!("{}: asked to shut down", partition.name);
        self.announce_events();
    }

    /// Something was typed for the guest of the partition at `place`.
    pub fn note_input(&mut self, place: usize) {
        if let Some(slot) = self.slots.get_mut(place) {
            slot.untold_input = true;
            self.announce_events();
        }
    }

    /// Tells guests of events and input that wait for them, who could not be told before.
    pub fn announce_events(&mut self) {
        for (place, slot) in self.slots.iter_mut().enumerate() {
            if !slot.untold_event && !slot.untold_input {
                continue;
            }
            let Some(guest) = &slot.guest else {
                (slot.untold_event, slot.untold_input) = (false, false);
                continue;
            };
            let partition = guest.occupied.partition();
            let was = (slot.untold_event, slot.untold_input);
            slot.untold_event = was.0 && !partition.announce_event(&HwInterrupts);
            slot.untold_input = was.1 && !partition.announce_input(&HwInterrupts);
            if was != (slot.untold_event, slot.untold_input) {
                ring_who_waits(place, partition);
            }
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

    /// Whether the partition at `place` is in a state for this.
    pub fn allows(&self, place: usize, verb: Verb) -> bool {
        self.slots
            .get(place)
            .is_some_and(|slot| slot.state.allows(verb))
    }
}

/// After an interrupt for a partition: where a virtual processor waits and is not aboard, its thread must
/// look.
fn ring_who_waits(place: usize, partition: &Partition<Hardware>) {
    for (seat, processor) in seat::of(place).iter().zip(partition.processors.all()) {
        if processor.is_waiting() {
            seat.ring();
        }
    }
}

/// Has something go wrong in a guest that is on no thread.
fn provoke(guest: &create::Guest, trouble: Trouble) -> Result<(), String> {
    match trouble {
        Trouble::Backing => {
            let partition = guest.occupied.partition();
            if partition.exploited.is_some() {
                return Err(String::from(
                    "the interrupt controller writes to its memory, which cannot be moved",
                ));
            }
            let mmu = &partition.mmu;
            if mmu.memory().ram().largest() != PageSize::P16M {
                return Err(String::from("its guest has no pages larger than 64 KiB"));
            }
            let pieces_per_block = PageSize::P16M.bytes() / PIECE;
            for block in 0..mmu.memory().size() / PageSize::P16M.bytes() {
                let first = block * pieces_per_block;
                // `None`: it is in pieces already.
                let _ = mmu.scatter(first, first + 1);
            }
        }
        Trouble::Error => {
            let exit = GuestExit::Unknown(0);
            guest.occupied.with(0, |vcpu| vcpu.stopped = Some(exit));
        }
    }
    Ok(())
}
