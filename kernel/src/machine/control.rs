// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The control interface about the partitions of this machine.
//!
//! A call comes from a virtual processor that has left its guest and is still on its thread. What it
//! asks of another partition's virtual processor, to leave its thread, is done behind the call.

use super::hardware::Hardware;
use super::slot::{Away, Slot};
use super::world::World;
use crate::config::Authority;
use crate::console::GuestId;
use crate::control::Holder;
use crate::control::partition::{Activity, Definition, Seat, Target, with_target};
use crate::hcall::control::{answer_control, control_call};
use crate::platform::Platform;
use crate::vpa::PreemptReason;
use alloc::format;
use alloc::string::String;
use penstock_mm::hpt::HptOrder;
use penstock_mm::stream::entries_of;

/// Lends a partition to the interface; `on_thread` says whether its virtual processor is on one.
fn lend<R>(
    slot: &mut Slot,
    on_thread: bool,
    act: impl FnOnce(&Target<'_, '_, Hardware>) -> R,
) -> R {
    let ceded = slot
        .away
        .is_some_and(|away| away.reason == PreemptReason::Cede);
    let mut seat = Seat {
        state: slot.state,
        on_thread,
        held: slot.held,
        activity: if ceded {
            Activity::Ceded
        } else {
            Activity::Runs
        },
    };
    let before = seat;
    let definition = Definition {
        number: slot.id.0.into(),
        name: slot.configuration.name,
        vcpus: slot.configuration.vcpus,
        hpt_entries: HptOrder::new(slot.configuration.hpt_order).map_or(0, entries_of),
        session: &slot.session,
    };
    let occupied = slot.guest.as_mut().map(|guest| &mut guest.occupied);
    let result = with_target(definition, occupied, &mut seat, act);
    slot.held = seat.held;
    if seat.activity != before.activity {
        slot.away = Some(Away {
            reason: match seat.activity {
                Activity::Runs => PreemptReason::TimeSlice,
                Activity::Ceded => PreemptReason::Cede,
            },
            since: Hardware::timebase(),
        });
    }
    result
}

impl World<'_> {
    /// Lends the partition at `place` to the interface, for the operator, and does what was asked of
    /// its virtual processor. `None` where there is no such place.
    pub fn with_target<R>(
        &mut self,
        place: usize,
        act: impl FnOnce(&Target<'_, '_, Hardware>) -> R,
    ) -> Option<R> {
        let on_thread = self.is_on_thread(place);
        let result = lend(self.slots.get_mut(place)?, on_thread, act);
        self.take_off_held();
        Some(result)
    }

    /// Serves H_CONTROL of the virtual processor at `place`.
    pub fn control(&mut self, place: usize) {
        let caller = self.slots.get(place).and_then(|slot| slot.guest.as_ref());
        let Some(caller) = caller else {
            return;
        };
        let call = control_call(caller.occupied.vcpu());
        let about = self
            .slots
            .iter()
            .position(|slot| u64::from(slot.id.0) == call.partition)
            .filter(|about| *about != place);
        let reply = match about {
            // Its own, or a number that nobody has.
            None => self.with_target(place, |target| target.serve(&call, None)),
            Some(about) => {
                let on_thread = self.is_on_thread(about);
                let Ok([caller, target]) = self.slots.get_disjoint_mut([place, about]) else {
                    return;
                };
                let caller = caller.guest.as_ref();
                caller.map(|guest| {
                    let by = guest.occupied.partition();
                    lend(target, on_thread, |target| target.serve(&call, Some(by)))
                })
            }
        };
        if let (
            Some(reply),
            Some(Slot {
                guest: Some(guest), ..
            }),
        ) = (reply, self.slots.get_mut(place))
        {
            guest.occupied.with(|vcpu| answer_control(vcpu, &reply));
        }
        self.take_off_held();
    }

    /// The operator lets a partition go on that a tool has left behind.
    ///
    /// # Errors
    /// Who still has it, or that it is not such that it can run.
    pub fn take_back(&mut self, place: usize) -> Result<(), String> {
        let back = self.with_target(place, |target| {
            use crate::control::Controlled;
            let mut session = target.session().lock();
            session.suspend(target, Holder::Operator)?;
            session.resume(target, Holder::Operator)
        });
        let Some(slot) = self.slots.get(place) else {
            return Ok(());
        };
        let name = slot.configuration.name;
        match back {
            Some(Err(error)) => Err(format!("{name}: {error}")),
            _ => {
                log::info!("{name}: {}", slot.shown_state());
                Ok(())
            }
        }
    }

    /// The guest at `place` ends or starts over. Nothing of it is left that a tool could hold, and
    /// what it held as a tool is without a holder.
    pub fn forget_tools(&mut self, place: usize) {
        use crate::control::Controlled;
        let Some(slot) = self.slots.get_mut(place) else {
            return;
        };
        lend(slot, false, |target| {
            target.session().lock().restart(target)
        });
        slot.held = false;
        let who = slot.id;
        if slot.configuration.authority != Authority::Control {
            return;
        }
        for other in 0..self.slots.len() {
            let on_thread = self.is_on_thread(other);
            if let Some(slot) = self.slots.get_mut(other) {
                abandon(slot, on_thread, who);
            }
        }
    }
}

fn abandon(slot: &mut Slot, on_thread: bool, who: GuestId) {
    use crate::control::Controlled;
    let who = Holder::Partition(who);
    let left = lend(slot, on_thread, |target| {
        let mut session = target.session().lock();
        let held = session.is_held_by(who);
        session.abandon(target, who);
        held
    });
    if left {
        log::warn!(
            "{}: the tool that holds it is gone",
            slot.configuration.name
        );
    }
}
