// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The control interface about the partitions of this machine.
//!
//! All of it is done by the boot thread: a virtual processor that makes a call has left its thread, and
//! goes on when it is answered. Whom the call is about is kept off its thread meanwhile, and stays off
//! it if that is what was asked for.

use super::hardware::Hardware;
use super::slot::Slot;
use super::world::World;
use crate::config::Authority;
use crate::console::{Admission, GuestId, Suppressed};
use crate::control::partition::{Definition, Target, with_target};
use crate::control::{ControlError, Controlled, Holder, partition};
use crate::hcall::control::{answer_control, control_call};
use crate::lifecycle::PartitionState;
use crate::platform::Platform;
use alloc::format;
use alloc::string::String;
use penstock_mm::hpt::HptOrder;
use penstock_mm::stream::entries_of;

/// Lends a partition to the interface. Its virtual processors are off their threads, where anything is
/// done to them.
fn lend<R>(slot: &mut Slot, act: impl FnOnce(&Target<'_, Hardware>) -> R) -> R {
    let mut seat = partition::Seat {
        state: slot.state,
        // Whoever it is held for finds it so only the next time.
        on_thread: slot.state == PartitionState::Running && !slot.held,
        held: slot.held,
    };
    let definition = Definition {
        number: slot.id.0.into(),
        name: slot.configuration.name,
        vcpus: slot.configuration.vcpus,
        hpt_entries: HptOrder::new(slot.configuration.hpt_order).map_or(0, entries_of),
        session: &slot.session,
    };
    let occupied = slot.guest.as_ref().map(|guest| &*guest.occupied);
    let result = with_target(definition, occupied, &mut seat, act);
    slot.held = seat.held;
    result
}

impl World {
    /// Lends the partition at `place` to the interface, with its virtual processors off their threads.
    ///
    /// # Errors
    /// Its thread does not answer.
    pub fn with_target<R>(
        &mut self,
        place: usize,
        act: impl FnOnce(&Target<'_, Hardware>) -> R,
    ) -> Result<R, String> {
        self.hold(place)?;
        let lent = self.slots.get_mut(place).map(|slot| lend(slot, act));
        self.let_run(place);
        self.let_go(place);
        lent.ok_or_else(|| String::from("no such partition"))
    }

    /// Serves H_CONTROL of the virtual processor `server` of the partition at `place`.
    ///
    /// # Errors
    /// A thread does not answer.
    pub fn control(&mut self, place: usize, server: usize) -> Result<(), String> {
        self.hold(place)?;
        let served = self.serve_control(place, server);
        self.let_run(place);
        self.let_go(place);
        served
    }

    fn serve_control(&mut self, place: usize, server: usize) -> Result<(), String> {
        let caller = self.slots.get(place).and_then(|slot| slot.guest.as_ref());
        let Some(caller) = caller.map(|guest| guest.occupied.clone()) else {
            return Ok(());
        };
        let Some(call) = caller.with(server, |vcpu| control_call(vcpu)) else {
            return Ok(());
        };
        let about = self
            .slots
            .iter()
            .position(|slot| u64::from(slot.id.0) == call.partition)
            // A number that nobody has is refused by whoever is asked.
            .unwrap_or(place);
        let by = caller.partition();
        let served = self.with_target(about, |target| target.serve(&call, Some(by)));
        let (reply, result) = match served {
            Ok(reply) => (reply, Ok(())),
            Err(stuck) => (ControlError::Hardware.into(), Err(stuck)),
        };
        caller.with(server, |vcpu| answer_control(vcpu, &reply));
        result
    }

    /// The operator lets a partition go on that a tool has left behind.
    ///
    /// # Errors
    /// Who still has it, or that it is not such that it can run.
    pub fn take_back(&mut self, place: usize) -> Result<(), String> {
        let back = self.with_target(place, |target| {
            let mut session = target.session().lock();
            session.suspend(target, Holder::Operator)?;
            session
                .resume(target, Holder::Operator)
                // What a tool has left to commit is for the next tool to see to.
                .inspect_err(|_| session.release(Holder::Operator))
        })?;
        let Some(slot) = self.slots.get(place) else {
            return Ok(());
        };
        let name = slot.configuration.name;
        match back {
            Err(error) => Err(format!("{name}: {error}")),
            Ok(()) => {
                log::info!("{name}: {}", slot.shown_state());
                Ok(())
            }
        }
    }

    /// The guest at `place` ends or starts over. Nothing of it is left that a tool could hold, and
    /// what it held as a tool is without a holder. It is off its thread.
    pub fn forget_tools(&mut self, place: usize) {
        let Some(slot) = self.slots.get_mut(place) else {
            return;
        };
        lend(slot, |target| target.session().lock().restart(target));
        slot.held = false;
        let who = slot.id;
        if slot.configuration.authority != Authority::Control {
            return;
        }
        let complaints = slot.guest.as_ref().map(|guest| guest.occupied.clone());
        for slot in &mut self.slots {
            if abandon(slot, who)
                && let Some(tool) = &complaints
                && let Admission::Print { suppressed } = tool
                    .partition()
                    .complaints
                    .lock()
                    .admit(Hardware::timebase())
            {
                log::warn!(
                    "{}: the tool that holds it is gone{}",
                    slot.configuration.name,
                    Suppressed(suppressed)
                );
            }
        }
    }
}

/// Whether the tool held it.
fn abandon(slot: &mut Slot, who: GuestId) -> bool {
    let who = Holder::Partition(who);
    lend(slot, |target| {
        let mut session = target.session().lock();
        let held = session.is_held_by(who);
        session.abandon(target, who);
        held
    })
}
