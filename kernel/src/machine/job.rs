// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The monitor's command that is being done in steps, while the guests run.

use super::console;
use super::world::World;
use crate::console::{Focus, GuestId};
use crate::control::operator::{FrameStore, Job, STEP_TEXT_BYTES, Step};
use crate::monitor::{DirtyCommand, HptCommand};
use alloc::format;
use alloc::string::String;
use core::fmt::Write;
use penstock_arch::spr;
use penstock_mm::real::Frames;

/// How long a job goes on before the guests do, in parts of a second.
const TURN_HZ: u64 = 1000;

/// What a job's memory is aligned to.
const FRAME_ALIGN: u64 = 4096;

/// At most one job, and the partition that it is about.
pub struct Jobs(Option<(GuestId, Job<FrameStore>)>);

impl Jobs {
    /// Nothing is being done.
    pub const fn none() -> Self {
        Self(None)
    }

    /// Whether something is being done.
    pub const fn any(&self) -> bool {
        self.0.is_some()
    }

    /// Begins a command about the page table of the partition at `place`.
    ///
    /// # Errors
    /// What is in the way, for the operator.
    pub fn hpt(&mut self, world: &World, place: usize, command: HptCommand) -> Result<(), String> {
        self.begin(world, place, Job::hpt(command, FrameStore::new()))
    }

    /// Begins a command about the memory that the partition at `place` wrote.
    ///
    /// # Errors
    /// As [`hpt`](Self::hpt).
    pub fn dirty(
        &mut self,
        world: &World,
        place: usize,
        command: DirtyCommand,
    ) -> Result<(), String> {
        self.begin(world, place, Job::dirty(command))
    }

    fn begin(&mut self, world: &World, place: usize, job: Job<FrameStore>) -> Result<(), String> {
        if self.any() {
            return Err(String::from("another command is being done (^C ends it)"));
        }
        let Some(slot) = world.slots.get(place) else {
            return Ok(());
        };
        if slot.guest.is_none() {
            return Err(format!("{} is {}", slot.configuration.name, slot.state));
        }
        self.0 = Some((slot.id, job));
        Ok(())
    }

    /// Goes on for a while, if there is something to do, and as long as the monitor has the line and
    /// the line has room. Whether that was the last of it.
    pub fn go_on(&mut self, world: &mut World) -> bool {
        let begin = spr::timebase();
        let turn = world.machine.info.cpu.timebase_hz / TURN_HZ;
        loop {
            let Some((id, job)) = &mut self.0 else {
                return false;
            };
            if !has_line() {
                return false;
            }
            if step(world, *id, job) == Ok(Step::Again) {
                if spr::timebase().wrapping_sub(begin) < turn {
                    continue;
                }
                return false;
            }
            if let Some((_, job)) = self.0.take() {
                give_back(world, job);
            }
            return true;
        }
    }

    /// Ends the command that is being done, if there is one.
    pub fn cancel(&mut self, world: &mut World) {
        let Some((id, mut job)) = self.0.take() else {
            return;
        };
        if let Some(place) = place_of(world, id) {
            let mut text = String::new();
            let _ = world.with_target(place, |target| job.end(target, &mut text));
            let _ = console::multiplexer().lock().text().write_str(&text);
        }
        give_back(world, job);
    }
}

fn has_line() -> bool {
    let multiplexer = console::multiplexer().lock();
    multiplexer.focus() == Focus::Monitor && multiplexer.own_room() >= STEP_TEXT_BYTES
}

/// The place of a partition that is not shut off.
fn place_of(world: &World, id: GuestId) -> Option<usize> {
    world
        .slots
        .iter()
        .position(|slot| slot.id == id && slot.guest.is_some())
}

fn step(
    world: &mut World,
    id: GuestId,
    job: &mut Job<FrameStore>,
) -> Result<Step, core::fmt::Error> {
    make_room(world, job);
    // Not straight into the multiplexer, which messages of what is called may need.
    let mut text = String::new();
    let step = match place_of(world, id) {
        Some(place) => match world.with_target(place, |target| job.step(target, &mut text)) {
            Ok(step) => step,
            Err(stuck) => writeln!(text, "error: {stuck}").map(|()| Step::Finished),
        },
        None => writeln!(text, "error: the partition has ended").map(|()| Step::Finished),
    };
    let _ = console::multiplexer().lock().text().write_str(&text);
    step
}

/// Gives a job the memory that it may need in its next step. Where there is none, it says so itself.
fn make_room(world: &mut World, job: &mut Job<FrameStore>) {
    let Some(store) = job.store_mut() else {
        return;
    };
    let Some(bytes) = store.wants() else {
        return;
    };
    let (frames, memory) = world.frames();
    let Ok(piece) = frames.alloc(bytes, FRAME_ALIGN) else {
        return;
    };
    if let Err(piece) = store.add(piece, memory) {
        free(world, piece);
    }
}

/// Takes back the memory of a job that is done.
fn give_back(world: &mut World, job: Job<FrameStore>) {
    for piece in job
        .into_store()
        .into_iter()
        .flat_map(FrameStore::into_frames)
    {
        free(world, piece);
    }
}

fn free(world: &mut World, piece: Frames) {
    if let Err(error) = world.frames().0.free(piece) {
        log::error!("memory of a command is lost: {error}");
    }
}
