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
use super::last_words::{ExitStatus, finish};
use super::runner::Runner;
use super::seat;
use super::slot::{Counts, Slot};
use super::start::Machine;
use super::thread::Thread;
use super::{console, heap, interrupts, thread};
use crate::bootargs::Attendance;
use crate::config;
use crate::console::{Admission, Focus, GuestId, RateLimit, Suppressed};
use crate::exit::GuestExit;
use crate::hcall;
use crate::lifecycle::{PartitionState, PauseReason, Verb};
use crate::monitor::Trouble;
use crate::partition::{Partition, complaint_budget};
use crate::post_mortem::write_post_mortem;
use crate::smp::{self, Load};
use crate::trace::Kind;
use crate::vcpu::Vcpu;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use penstock_arch::hash::PageSize;
use penstock_arch::spr;
use penstock_mm::frame::FrameAllocator;
use penstock_mm::guest_memory::PIECE;
use penstock_mm::pool::{PoolCounts, Share};
use penstock_xive::Lisn;

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

    /// The threads for the virtual processors of the partition at `place`.
    fn choose_threads(&self, place: usize) -> Result<Vec<usize>, CreateError> {
        let threads = thread::all();
        let Some(slot) = self.slots.get(place) else {
            return Ok(Vec::new());
        };
        let name = slot.configuration.name;
        let pinned = &slot.configuration.pinned;
        if !pinned.is_empty() {
            let homes = pinned.iter().map(|number| match threads.get(*number as usize) {
                Some(thread) if thread.is_here() => Ok(thread.number),
                Some(_) => Err(format!(
                    "partition {name}: pinned to thread {number}, which was left out at boot"
                )),
                None => Err(format!(
                    "partition {name}: pinned to thread {number}, but the machine has {} threads",
                    threads.len()
                )),
            });
            return homes.collect();
        }
        let mut loads: Vec<Load> = threads.iter().map(|thread| self.load_of(thread)).collect();
        (0..slot.configuration.vcpus)
            .map(|_| {
                let home = smp::place(loads.iter().copied())
                    .ok_or_else(|| format!("partition {name}: no thread runs"))?;
                if let Some(load) = loads.get_mut(home) {
                    load.shared += 1;
                }
                Ok(home)
            })
            .collect()
    }

    /// Says to the threads which of them run virtual processors that are not pinned.
    fn choose_balancing(&self) {
        let loads: Vec<Load> = thread::all()
            .iter()
            .map(|thread| self.load_of(thread))
            .collect();
        let fewest = smp::fewest_pinned(loads.iter().copied());
        let takes_part = |load: &Load| load.is_there && Some(load.pinned) == fewest;
        let several = loads.iter().filter(|load| takes_part(load)).count() > 1;
        for (thread, load) in thread::all().iter().zip(&loads) {
            let balances = several && takes_part(load);
            if thread.balances() != balances {
                thread.set_balances(balances);
                // It says from now on when it is idle.
                thread.ring();
            }
        }
    }

    /// What a thread has already.
    fn load_of(&self, thread: &Thread) -> Load {
        let pinned = self
            .slots
            .iter()
            .flat_map(|slot| &slot.configuration.pinned);
        let is_shared = |place: usize| {
            self.slots
                .get(place)
                .is_some_and(|slot| slot.guest.is_some() && slot.configuration.pinned.is_empty())
        };
        let shared = seat::all()
            .iter()
            .filter(|seat| seat.home_number() == thread.number && is_shared(seat.place));
        Load {
            is_there: thread.is_here(),
            pinned: count(pinned.filter(|number| **number as usize == thread.number)),
            shared: count(shared),
        }
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
        slot.unannounced = true;
        log::info!("{}: asked to shut down", partition.name);
        self.announce_events();
    }

    /// Tells guests of events that wait for them, who could not be told before.
    pub fn announce_events(&mut self) {
        for (place, slot) in self.slots.iter_mut().enumerate() {
            if !core::mem::take(&mut slot.unannounced) {
                continue;
            }
            let Some(guest) = &slot.guest else {
                continue;
            };
            let partition = guest.occupied.partition();
            if partition.announce_event(&HwInterrupts) {
                ring_who_waits(place, partition);
            } else {
                slot.unannounced = true;
            }
        }
    }

    /// An event of one of the devices of the partition at `place`.
    pub fn raise(&self, place: usize, lisn: Lisn) {
        let Some(guest) = self.slots.get(place).and_then(|slot| slot.guest.as_ref()) else {
            return;
        };
        let partition = guest.occupied.partition();
        partition.raise(&HwInterrupts, lisn);
        ring_who_waits(place, partition);
    }

    /// Stops the partition at `place`. It keeps what it has only if it failed. Where it was the
    /// last, and nobody is at the console, the machine is powered off.
    ///
    /// # Errors
    /// Its thread does not answer; then it runs on.
    pub fn end(&mut self, place: usize, end: End) -> Result<(), String> {
        self.hold(place)?;
        seat::of(place).iter().for_each(|seat| seat.set_runs(false));
        let end = match end {
            // One of its virtual processors has switched it off while an error stopped another one.
            End::PoweredOff if self.has_failed(place) => End::Failed,
            _ => end,
        };
        self.end_held(place, end);
        self.let_go(place);
        Ok(())
    }

    /// Whether an error has stopped a virtual processor of the partition at `place`, which is held.
    fn has_failed(&self, place: usize) -> bool {
        let mut failed = false;
        if let Some(guest) = self.slots.get(place).and_then(|slot| slot.guest.as_ref()) {
            guest
                .occupied
                .for_each(|vcpu| failed |= vcpu.stopped.is_some());
        }
        failed
    }

    fn end_held(&mut self, place: usize, end: End) {
        self.forget_tools(place);
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
        slot.trace(Kind::End);
        if was_alive {
            slot.ended = Some(spr::timebase());
        }
        let (id, name) = (slot.id, slot.configuration.name);
        let unattended = self.machine.args.attendance == Attendance::Unattended;
        if let Some(guest) = slot.guest.as_ref().filter(|_| end == End::Failed) {
            guest.occupied.for_each(|vcpu| {
                if vcpu.stopped.is_some() {
                    post_mortem(vcpu);
                }
            });
        }
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
        seat::of(place).iter().for_each(seat::Seat::empty);
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

/// After an interrupt for a partition: where a virtual processor waits and is not aboard, its thread must
/// look.
fn ring_who_waits(place: usize, partition: &Partition<Hardware>) {
    for (seat, processor) in seat::of(place).iter().zip(partition.processors.all()) {
        if processor.is_waiting() {
            seat.ring();
        }
    }
}

/// Threads as the log names them.
struct ThreadNumbers<'a>(&'a [usize]);

impl core::fmt::Display for ThreadNumbers<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(if self.0.len() == 1 {
            "thread"
        } else {
            "threads"
        })?;
        for (index, number) in self.0.iter().enumerate() {
            write!(f, "{}{number}", if index == 0 { " " } else { ", " })?;
        }
        Ok(())
    }
}

fn count(of: impl Iterator) -> u32 {
    u32::try_from(of.count()).unwrap_or(u32::MAX)
}

/// Tells what is known of a virtual processor, if it is what an error has stopped. It is on no thread.
fn post_mortem(vcpu: &Vcpu<Hardware>) {
    let Some(exit) = vcpu.stopped else {
        return;
    };
    let mut page = String::new();
    // Writing to a string cannot fail.
    let _ = write_post_mortem(&mut page, vcpu, exit);
    for line in page.lines() {
        log::error!("{line}");
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
