// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The monitor's command that is being done in steps, while the guests run.

use super::console;
use super::firmware;
use super::world::World;
use crate::console::{Focus, GuestId};
use crate::control::operator::{FrameStore, Job, STEP_TEXT_BYTES, Step};
use crate::irqs::IrqListing;
use crate::monitor::{DirtyCommand, HptCommand, write_irq_totals};
use crate::trace::Printer;
use alloc::format;
use alloc::string::String;
use core::fmt::Write;
use core::ops::Range;
use penstock_arch::spr;
use penstock_mm::real::Frames;

/// How long a job goes on before the guests do, in parts of a second.
const TURN_HZ: u64 = 1000;

const BUSY: &str = "another command is being done (^C ends it)";

/// What a job's memory is aligned to.
const FRAME_ALIGN: u64 = 4096;

/// At most one job: about a partition, or a listing.
pub struct Jobs {
    about: Option<(GuestId, Job<FrameStore>)>,
    listing: Option<Listing>,
}

/// What is being printed.
enum Listing {
    /// What threads did.
    Trace(Printer),
    /// Interrupts of the partitions at these places, the first of which is begun.
    Irqs(Range<usize>, IrqListing),
}

impl Jobs {
    /// Nothing is being done.
    pub const fn none() -> Self {
        Self {
            about: None,
            listing: None,
        }
    }

    /// Whether something is being done.
    pub const fn any(&self) -> bool {
        self.about.is_some() || self.listing.is_some()
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

    /// Begins a look at the registers of a virtual processor of the partition at `place`.
    ///
    /// # Errors
    /// As [`hpt`](Self::hpt).
    pub fn registers(&mut self, world: &World, place: usize, vcpu: u32) -> Result<(), String> {
        self.begin(world, place, Job::registers(vcpu))
    }

    /// Begins to print what was recorded.
    ///
    /// # Errors
    /// What is in the way, for the operator.
    pub fn trace(&mut self, printer: Printer) -> Result<(), String> {
        if self.any() {
            return Err(BUSY.into());
        }
        self.listing = Some(Listing::Trace(printer));
        Ok(())
    }

    /// Begins to print the interrupts of the partition at `place`, or of all, and what the machine has
    /// given out.
    ///
    /// # Errors
    /// What is in the way, for the operator.
    pub fn irqs(&mut self, world: &World, place: Option<usize>) -> Result<(), String> {
        if self.any() {
            return Err(BUSY.into());
        }
        let places = match place {
            Some(place) => place..place.saturating_add(1),
            None => 0..world.slots.len(),
        };
        self.listing = Some(Listing::Irqs(places, IrqListing::default()));
        Ok(())
    }

    fn begin(&mut self, world: &World, place: usize, job: Job<FrameStore>) -> Result<(), String> {
        if self.any() {
            return Err(BUSY.into());
        }
        let Some(slot) = world.slots.get(place) else {
            return Ok(());
        };
        if slot.guest.is_none() {
            return Err(format!("{} is {}", slot.configuration.name, slot.state));
        }
        self.about = Some((slot.id, job));
        Ok(())
    }

    /// Goes on for a while, if there is something to do, and as long as the monitor has the line and
    /// the line has room. Whether that was the last of it.
    pub fn go_on(&mut self, world: &mut World) -> bool {
        let begin = spr::timebase();
        let turn = world.machine.info.cpu.timebase_hz / TURN_HZ;
        loop {
            if !self.any() || !has_line() {
                return false;
            }
            if let Some(listing) = &mut self.listing {
                // One step fills half the line.
                if print(world, listing) == Ok(false) {
                    return false;
                }
                self.listing = None;
                return true;
            }
            let Some((id, job)) = &mut self.about else {
                return false;
            };
            if step(world, *id, job) == Ok(Step::Again) {
                if spr::timebase().wrapping_sub(begin) < turn {
                    continue;
                }
                return false;
            }
            if let Some((_, job)) = self.about.take() {
                give_back(world, job);
            }
            return true;
        }
    }

    /// Ends the command that is being done, if there is one.
    pub fn cancel(&mut self, world: &mut World) {
        self.listing = None;
        let Some((id, mut job)) = self.about.take() else {
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

/// Prints some more of a listing; whether that was the last of it.
fn print(world: &World, listing: &mut Listing) -> Result<bool, core::fmt::Error> {
    // Not straight into the multiplexer, which messages of what is called may need.
    let mut text = String::new();
    let is_last = match listing {
        Listing::Trace(printer) => {
            let hz = world.machine.info.cpu.timebase_hz;
            printer.step(&mut text, hz, |number| {
                let mut slots = world.slots.iter();
                let slot = slots.find(|slot| slot.id.0 == number)?;
                Some(slot.configuration.name)
            })
        }
        Listing::Irqs(places, irqs) => print_irqs(world, places, irqs, &mut text),
    };
    let _ = console::multiplexer().lock().text().write_str(&text);
    is_last
}

fn print_irqs(
    world: &World,
    places: &mut Range<usize>,
    irqs: &mut IrqListing,
    out: &mut String,
) -> Result<bool, core::fmt::Error> {
    let place = places.clone().next();
    let Some(slot) = place.and_then(|place| world.slots.get(place)) else {
        write_irq_totals(out, firmware::held())?;
        return Ok(true);
    };
    // One that is shut off, or has been meanwhile, has none.
    let is_last = match &slot.guest {
        Some(guest) => irqs.step(guest.occupied.partition(), out)?,
        None => true,
    };
    if is_last {
        places.start += 1;
        *irqs = IrqListing::default();
    }
    Ok(false)
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
