// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The monitor's command that is being done in steps, while the guests run.

use super::console;
use super::world::World;
use crate::console::{Focus, GuestId};
use crate::control::operator::{HeapStore, Job, STEP_TEXT_BYTES, Step};
use crate::monitor::{DirtyCommand, HptCommand};
use alloc::format;
use alloc::string::String;
use core::fmt::Write;

/// Most bytes of a page table's stream that `hpt reload` keeps: a quarter of the heap.
const RELOAD_BYTES: usize = 512 << 10;

/// At most one job, and the partition that it is about.
pub struct Jobs(Option<(GuestId, Job<HeapStore>)>);

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
        self.begin(
            world,
            place,
            Job::hpt(command, HeapStore::new(RELOAD_BYTES)),
        )
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

    fn begin(&mut self, world: &World, place: usize, job: Job<HeapStore>) -> Result<(), String> {
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

    /// A step, if there is one to do, the monitor has the line, and the line has room. Whether that
    /// was the last one.
    pub fn go_on(&mut self, world: &mut World) -> bool {
        let Some((id, job)) = &mut self.0 else {
            return false;
        };
        {
            let multiplexer = console::multiplexer().lock();
            if multiplexer.focus() != Focus::Monitor || multiplexer.own_room() < STEP_TEXT_BYTES {
                return false;
            }
        }
        // Not straight into the multiplexer, which messages of what is called may need.
        let mut text = String::new();
        let step = step_of(world, *id, job, &mut text);
        let _ = console::multiplexer().lock().text().write_str(&text);
        let ended = step != Ok(Step::Again);
        if ended {
            self.0 = None;
        }
        ended
    }

    /// Ends the command that is being done, if there is one.
    pub fn cancel(&mut self, world: &mut World) {
        let Some((id, mut job)) = self.0.take() else {
            return;
        };
        if let Some(guest) = world.slot_mut(id).and_then(|slot| slot.guest.as_ref()) {
            let mut text = String::new();
            let _ = job.end(guest.occupied.partition(), &mut text);
            let _ = console::multiplexer().lock().text().write_str(&text);
        }
    }
}

/// A step, with the partition on no thread.
fn step_of(
    world: &mut World,
    id: GuestId,
    job: &mut Job<HeapStore>,
    out: &mut String,
) -> Result<Step, core::fmt::Error> {
    let ended =
        |out: &mut String| writeln!(out, "error: the partition has ended").map(|()| Step::Finished);
    let Some(place) = world.place_of_id(id) else {
        return ended(out);
    };
    if let Err(stuck) = world.hold(place) {
        return writeln!(out, "error: {stuck}").map(|()| Step::Finished);
    }
    let guest = world.slots.get(place).and_then(|slot| slot.guest.as_ref());
    let step = match guest {
        Some(guest) => job.step(guest.occupied.partition(), out),
        None => ended(out),
    };
    world.let_go(place);
    step
}
