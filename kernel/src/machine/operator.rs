// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The person at the console: input to the guests, and the monitor behind `^]`.

use super::console::{self, OpalSink};
use super::exits::End;
use super::hardware::HwMemory;
use super::job::Jobs;
use super::last_words::{ExitStatus, finish};
use super::run::GRACE_SECONDS;
use super::thread;
use super::traced::Traced;
use super::views;
use super::world::World;
use crate::bootargs::Attendance;
use crate::console::{Focus, GuestId, Routed};
use crate::control::operator::STEP_TEXT_BYTES;
use crate::lifecycle::{PauseReason, Verb};
use crate::monitor::{Command, Completion, Edit, LineEditor, TraceCommand, write_help, write_list};
use crate::screen::{self, Progress};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;
use penstock_arch::spr;
use penstock_mm::guest_memory::SlotId;
use penstock_mm::hpt::{HashMmu, VcpusAre};
use penstock_mm::slot::GRANULE;

/// The operator's side of the hypervisor.
pub struct Operator {
    attendance: Attendance,
    editor: LineEditor,
    /// The end of the last partition that the operator was told of.
    told_end: Option<u64>,
    /// When the last key was pressed.
    last_key: u64,
    /// The command that is being done, in steps.
    jobs: Jobs,
}

/// Most keys that are read at a time.
const KEYS_PER_SERVICE: usize = 64;

impl Operator {
    /// Nobody has typed anything.
    pub fn new(attendance: Attendance) -> Self {
        Self {
            attendance,
            editor: LineEditor::new(),
            told_end: None,
            last_key: 0,
            jobs: Jobs::none(),
        }
    }

    /// Whether no key has been pressed since that time.
    pub fn is_untouched_since(&self, timebase: u64) -> bool {
        self.last_key < timebase
    }

    /// Reads what was typed, hands it out or does it, and moves output.
    pub fn service(&mut self, world: &mut World) {
        self.tell_end(world);
        let mut typed_to: Option<GuestId> = None;
        // One at a time, for what one key begins may leave the next one in the line.
        for _ in 0..KEYS_PER_SERVICE {
            let mut key = [0];
            if !self.reads_on(world) || console::read(&mut key) == 0 {
                break;
            }
            self.last_key = spr::timebase();
            let routed = console::multiplexer().lock().route(key[0]);
            let (guest, byte) = match routed {
                Routed::ToGuest(guest, byte) => (guest, byte),
                Routed::ReturnedToGuest { guest, pass } => {
                    self.editor.clear();
                    let _ = writeln!(console::multiplexer().lock().text());
                    match pass {
                        Some(byte) => (guest, byte),
                        None => continue,
                    }
                }
                Routed::EnteredMonitor => {
                    let mut multiplexer = console::multiplexer().lock();
                    let _ = writeln!(multiplexer.text());
                    let _ = self.editor.redraw(&mut multiplexer.text());
                    continue;
                }
                Routed::ToMonitor(byte) => {
                    self.type_command(byte, world);
                    continue;
                }
                Routed::Ignored => continue,
            };
            if typed_to.is_some_and(|before| before != guest) {
                announce(world, typed_to);
            }
            if type_to(world, guest, byte) {
                typed_to = Some(guest);
            }
        }
        announce(world, typed_to);
        if self.jobs.go_on(world) {
            let _ = self
                .editor
                .redraw(&mut console::multiplexer().lock().text());
        }
        self.show(world);
    }

    /// Whether the next key is read now. A guest that does not read leaves the rest in the line's own
    /// buffer, so that nothing that is piped in is lost, and so does a command that takes its time.
    /// Somebody at a terminal must reach the monitor all the same, and `^C` the command: there, what
    /// does not fit is dropped.
    fn reads_on(&self, world: &mut World) -> bool {
        let focus = console::multiplexer().lock().focus();
        match (self.attendance, focus) {
            (Attendance::Unattended, _) if self.jobs.any() => false,
            (Attendance::Unattended, Focus::Guest(id)) => world
                .slot_mut(id)
                .and_then(|slot| slot.guest.as_ref())
                .is_none_or(|guest| guest.occupied.partition().input.room() > 0),
            // What one line is answered finds room, whatever the one before was.
            (Attendance::Unattended, Focus::Monitor) => {
                console::multiplexer().lock().own_room() >= STEP_TEXT_BYTES
            }
            (Attendance::Interactive, _) => true,
        }
    }

    /// Moves output of the guest in focus, and the prompt where a message has cut it off.
    fn show(&self, world: &mut World) {
        let mut multiplexer = console::multiplexer().lock();
        let idle = !self.jobs.any();
        if multiplexer.take_disturbed() && multiplexer.focus() == Focus::Monitor && idle {
            let _ = self.editor.redraw(&mut multiplexer.text());
        }
        let guest = match multiplexer.focus() {
            Focus::Guest(id) => world.slot_mut(id).and_then(|slot| {
                let guest = slot.guest.as_ref()?;
                Some((id, &guest.occupied.partition().output))
            }),
            Focus::Monitor => None,
        };
        multiplexer.pump(guest, &mut OpalSink);
        for slot in &mut world.slots {
            let slot_name = slot.configuration.name;
            let Some(guest) = slot.guest.as_mut() else {
                continue;
            };
            if let Some((slot, screen)) = guest.screen.as_mut()
                && screen.is_under_way()
            {
                let window = SlotWindow {
                    mmu: &guest.occupied.partition().mmu,
                    slot: *slot,
                };
                if let Progress::Done(totals) = screen::feed(screen, &window, &mut multiplexer) {
                    let (rows, name) = (totals.rows, slot_name);
                    let _ = writeln!(multiplexer.text(), "{name}: {rows} rows shown");
                    if multiplexer.focus() == Focus::Monitor {
                        let _ = self.editor.redraw(&mut multiplexer.text());
                    }
                }
            }
        }
    }

    /// Says, once, that no partition is left.
    fn tell_end(&mut self, world: &World) {
        let ended = world.last_end.map(|end| end.at);
        if ended.is_some() && ended != self.told_end {
            let success = world
                .last_end
                .is_some_and(|end| end.status == ExitStatus::Success);
            let mut multiplexer = console::multiplexer().lock();
            let mut text = multiplexer.record();
            let _ = if success {
                writeln!(
                    text,
                    "No partition runs: powering off in {GRACE_SECONDS} s unless a key is pressed."
                )
            } else {
                writeln!(text, "No partition runs; `poweroff` ends the machine.")
            };
        }
        self.told_end = ended;
    }

    /// Completes the word before the cursor.
    fn complete(&mut self, world: &World) {
        let names = world.slots.iter().map(|slot| slot.configuration.name);
        let partitions: Vec<&str> = names.collect();
        let threads = thread::all().iter().filter(|thread| thread.is_here());
        let numbers: Vec<String> = threads.map(|thread| format!("{}", thread.number)).collect();
        let threads: Vec<&str> = numbers.iter().map(String::as_str).collect();
        let line = String::from(self.editor.line());
        let completion = Completion::of(&line, &partitions, &threads);
        let mut multiplexer = console::multiplexer().lock();
        self.editor.complete(&completion, &mut multiplexer.text());
    }

    fn type_command(&mut self, byte: u8, world: &mut World) {
        let line = {
            let mut multiplexer = console::multiplexer().lock();
            match self.editor.input(byte, &mut multiplexer.text()) {
                Edit::Editing => return,
                Edit::Tab => {
                    drop(multiplexer);
                    self.complete(world);
                    return;
                }
                Edit::Cancelled => {
                    drop(multiplexer);
                    self.jobs.cancel(world);
                    let _ = self
                        .editor
                        .redraw(&mut console::multiplexer().lock().text());
                    return;
                }
                Edit::Line => {}
            }
            let line = String::from(self.editor.line());
            self.editor.clear();
            line
        };
        // Without the lock: what is done here writes to the log.
        let outcome = match Command::parse(&line) {
            Ok(command) => self.obey(command, world),
            Err(error) => Err(format!("{error}")),
        };
        let mut multiplexer = console::multiplexer().lock();
        let attached = matches!(outcome, Ok(Done::Attached | Done::UnderWay));
        match outcome {
            Ok(Done::Attached | Done::UnderWay) => {}
            Ok(Done::Silently) => {}
            Ok(Done::Text(text)) => {
                let _ = multiplexer.text().write_str(&text);
            }
            Err(error) => {
                let _ = writeln!(multiplexer.text(), "error: {error}");
            }
        }
        if !attached {
            // A message on the way does not need the prompt once more.
            let _ = multiplexer.take_disturbed();
            let _ = self.editor.redraw(&mut multiplexer.text());
        }
    }

    fn obey(&mut self, command: Command<'_>, world: &mut World) -> Result<Done, String> {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = match command {
            Command::Empty => Ok(()),
            Command::Help => write_help(&mut text),
            Command::MemMap => views::memmap(world, &mut text),
            Command::List => write_list(&mut text, world.slots.iter().map(views::row)),
            Command::DomInfo(name) => {
                let place = find(world, name, "dominfo")?;
                world.hold(place)?;
                let shown = match world.slots.get(place) {
                    Some(slot) => views::info(slot, world, &mut text),
                    None => Ok(()),
                };
                world.let_go(place);
                shown
            }
            Command::Trace(of, command) => {
                let of = Traced::named(world, of)?;
                match command {
                    TraceCommand::Show => {
                        self.jobs.trace(of.printer()?)?;
                        return Ok(Done::UnderWay);
                    }
                    TraceCommand::On => of.start()?,
                    TraceCommand::Off => of.stop(),
                }
                Ok(())
            }
            Command::Irqs(name) => {
                let place = match name {
                    Some(name) => Some(find(world, Some(name), "irqs")?),
                    None => None,
                };
                self.jobs.irqs(world, place)?;
                return Ok(Done::UnderWay);
            }
            Command::Stats(None) => views::stats(world, &mut text)?,
            Command::Stats(Some(name)) => {
                let place = find(world, Some(name), "stats")?;
                views::partition_stats(world, place, &mut text)?
            }
            Command::Console(name) => {
                let place = match name {
                    Some(name) => find(world, Some(name), "console")?,
                    None => default_console(world)?,
                };
                check(world, place, Verb::Console)?;
                if let Some(slot) = world.slots.get(place) {
                    world.attach(slot);
                }
                return Ok(Done::Attached);
            }
            Command::Start(name) => {
                let place = find(world, Some(name), "start")?;
                check(world, place, Verb::Start)?;
                world.start(place)?;
                log::info!("{name}: running");
                Ok(())
            }
            Command::Suspend(name) => {
                let place = find(world, Some(name), "suspend")?;
                check(world, place, Verb::Suspend)?;
                world.pause(place, PauseReason::Operator)?;
                Ok(())
            }
            Command::Resume(name) => {
                let place = find(world, Some(name), "resume")?;
                check(world, place, Verb::Resume)?;
                if world.allows(place, Verb::Resume) {
                    world.resume(place);
                } else {
                    world.take_back(place)?;
                }
                Ok(())
            }
            Command::Hpt(name, Some(command)) => {
                let place = find(world, Some(name), "hpt")?;
                self.jobs.hpt(world, place, command)?;
                return Ok(Done::UnderWay);
            }
            Command::Dirty(name, command) => {
                let place = find(world, Some(name), "dirty")?;
                self.jobs.dirty(world, place, command)?;
                return Ok(Done::UnderWay);
            }
            Command::Registers(name, vcpu) => {
                let place = find(world, Some(name), "registers")?;
                self.jobs.registers(world, place, vcpu)?;
                return Ok(Done::UnderWay);
            }
            Command::Hpt(name, None) => {
                let place = find(world, Some(name), "hpt")?;
                world.hold(place)?;
                let guest = world.slots.get(place).and_then(|slot| slot.guest.as_ref());
                let shown = match guest {
                    Some(guest) => Ok(views::hpt(&guest.occupied.partition().mmu, &mut text)),
                    None => Err(format!("{name} is not running")),
                };
                world.let_go(place);
                shown?
            }
            Command::Screenshot(name, kind) => {
                let place = find(world, Some(name), "screenshot")?;
                let guest = world
                    .slots
                    .get_mut(place)
                    .and_then(|slot| slot.guest.as_mut());
                let Some(guest) = guest else {
                    return Err(format!("{name} is not running"));
                };
                let Some((slot, screen)) = guest.screen.as_mut() else {
                    return Err(format!("{name} has no framebuffer"));
                };
                let mut window = SlotWindow {
                    mmu: &guest.occupied.partition().mmu,
                    slot: *slot,
                };
                // The lines follow as the console has room for them, and after them the prompt.
                screen
                    .begin(&mut window, kind)
                    .map_err(|busy| format!("{name}: {busy}"))?;
                return Ok(Done::UnderWay);
            }
            Command::Provoke(name, trouble) => {
                let place = find(world, Some(name), "provoke")?;
                check(world, place, Verb::Suspend)?;
                world.provoke(place, trouble)?;
                Ok(())
            }
            Command::Shutdown(name) => {
                let place = find(world, Some(name), "shutdown")?;
                check(world, place, Verb::Shutdown)?;
                world.ask_to_shut_down(place);
                Ok(())
            }
            Command::Reboot(name) => {
                let place = find(world, Some(name), "reboot")?;
                check(world, place, Verb::Reboot)?;
                log::info!("{name}: restarts");
                world.restart(place)?;
                Ok(())
            }
            Command::Destroy(name) => {
                let place = find(world, Some(name), "destroy")?;
                check(world, place, Verb::Destroy)?;
                world.end(place, End::Destroyed)?;
                Ok(())
            }
            Command::PowerOff => finish(match world.last_end {
                Some(end) => end.status,
                None => ExitStatus::UserQuit,
            }),
        };
        Ok(if text.is_empty() {
            Done::Silently
        } else {
            Done::Text(text)
        })
    }
}

/// A partition's framebuffer.
struct SlotWindow<'a> {
    mmu: &'a HashMmu<HwMemory>,
    slot: SlotId,
}

impl screen::Window for SlotWindow<'_> {
    fn read(&self, offset: u64, to: &mut [u8]) {
        to.fill(0);
        let Some(slot) = self.mmu.memory().slot(self.slot) else {
            return;
        };
        let there = slot.bytes().saturating_sub(offset);
        let there = usize::try_from(there).map_or(to.len(), |there| there.min(to.len()));
        if let (Some(at), Some(part)) = (slot.base().checked_add(offset), to.get_mut(..there)) {
            // The range is all the slot's.
            let _ = self.mmu.memory().read(at, part);
        }
    }

    fn take_changed(&mut self, each: &mut dyn FnMut(u64, u64)) {
        let _ = self.mmu.harvest(self.slot, VcpusAre::Running);
        let (mut first, mut words) = (0, [0_u64; 8]);
        loop {
            let taken = self.mmu.take_log(self.slot, first, &mut words);
            for (word, number) in words.iter().take(taken).zip(first..) {
                for bit in (0..64).filter(|bit| word >> bit & 1 != 0) {
                    each((number * 64 + bit) * GRANULE, GRANULE);
                }
            }
            first += words.len() as u64;
            if taken < words.len() {
                return;
            }
        }
    }
}

/// How a command went.
enum Done {
    Silently,
    Text(String),
    /// The line is a guest's now.
    Attached,
    /// More follows, and the prompt after that.
    UnderWay,
}

/// Types a byte for a guest; whether it has something new to read.
fn type_to(world: &mut World, guest: GuestId, byte: u8) -> bool {
    let Some(slot) = world.slot_mut(guest) else {
        return false;
    };
    let Some(guest) = &slot.guest else {
        return false;
    };
    let taken = guest.occupied.partition().input.push(byte).is_ok();
    slot.bytes_in += u64::from(taken);
    taken
}

/// Tells a guest that something was typed.
fn announce(world: &mut World, guest: Option<GuestId>) {
    if let Some(place) = guest.and_then(|guest| world.place_of_id(guest)) {
        world.note_input(place);
    }
}

/// The place of the partition that a command names, by default the only one.
fn find(world: &World, name: Option<&str>, verb: &str) -> Result<usize, String> {
    match name {
        Some(name) => world
            .place_of(name)
            .ok_or_else(|| format!("no partition {name}")),
        None if world.slots.len() == 1 => Ok(0),
        None => Err(format!("{verb}: name of a partition missing")),
    }
}

/// The place of the partition whose console was attached last, or else of the first that has one.
fn default_console(world: &World) -> Result<usize, String> {
    let last = console::multiplexer().lock().last();
    let mut places = 0..world.slots.len();
    let is_last = |place: &usize| world.slots.get(*place).map(|slot| slot.id) == last;
    places
        .clone()
        .find(is_last)
        .or_else(|| places.find(|place| world.allows(*place, Verb::Console)))
        .or_else(|| (world.slots.len() == 1).then_some(0))
        .ok_or_else(|| String::from("no partition has a console"))
}

/// Whether the partition at `place` is in a state for `verb`.
fn check(world: &World, place: usize, verb: Verb) -> Result<(), String> {
    match world.slots.get(place) {
        Some(slot) if !slot.shown_state().allows(verb) => Err(format!(
            "{} is {}",
            slot.configuration.name,
            slot.shown_state()
        )),
        _ => Ok(()),
    }
}
