// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The end of a partition: what is told of it, and what it gives back.

use super::super::exits::End;
use super::super::hardware::Hardware;
use super::super::last_words::{ExitStatus, finish};
use super::super::slot::Counts;
use super::super::{console, heap, idle, seat};
use super::{LastEnd, World};
use crate::bootargs::Attendance;
use crate::console::{Focus, GuestId};
use crate::lifecycle::PartitionState;
use crate::post_mortem::write_post_mortem;
use crate::trace::Kind;
use crate::vcpu::Vcpu;
use alloc::string::String;
use penstock_arch::spr;

impl World {
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
        if let Some(backlog) = idle::backlog(place) {
            backlog.empty();
        }
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
    pub(super) fn memory_came_back(&mut self) {
        for place in 0..self.slots.len() {
            let waits = self.slots.get(place).is_some_and(|slot| {
                matches!(slot.state, PartitionState::Paused(reason) if reason.ends_with_memory())
            });
            if waits {
                self.resume(place);
            }
        }
    }
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
