// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The loop that runs the guests, in turn.

// UNSAFETY: the register that times a turn.
#![expect(unsafe_code)]

use super::exits::{Next, acknowledge};
use super::last_words::{ExitStatus, finish};
use super::operator::Operator;
use super::sleep::sleep;
use super::world::World;
use crate::lifecycle::PartitionState;
use crate::schedule::Decision;
use penstock_arch::hash::Lpid;
use penstock_arch::regs::{Lpcr, sprn};
use penstock_arch::{entry, spr};

/// How often the console is looked after, and turns end, in parts of a second.
pub const SERVICE_HZ: u64 = 100;

/// How long the monitor waits for a key after the last guest powered itself off.
pub const GRACE_SECONDS: u64 = 10;

/// Runs the guests until the machine is powered off.
pub fn run(world: World<'_>, operator: Operator) -> ! {
    let service_ticks = world.machine.info.cpu.timebase_hz / SERVICE_HZ;
    Loop {
        world,
        operator,
        service_ticks,
        next_service: 0,
        slept: false,
    }
    .run()
}

struct Loop<'m> {
    world: World<'m>,
    operator: Operator,
    service_ticks: u64,
    next_service: u64,
    /// The thread has slept since the last service.
    slept: bool,
}

impl Loop<'_> {
    fn run(&mut self) -> ! {
        // The first one begins.
        let mut last = self.world.slots.len().saturating_sub(1);
        let mut turn = None;
        loop {
            let now = spr::timebase();
            if now >= self.next_service {
                self.service();
                self.next_service = now + self.service_ticks;
                turn = None;
            }
            let place = match turn {
                Some(place) => place,
                None => match self.world.decide(last) {
                    Decision::Run(place) => place,
                    Decision::Sleep { until } => {
                        self.sleep_until(until);
                        continue;
                    }
                    Decision::Nothing => {
                        self.nobody_runs();
                        continue;
                    }
                },
            };
            last = place;
            self.world.dispatch(place);
            let left = self.next_service.saturating_sub(spr::timebase()).max(1);
            // SAFETY: the hypervisor's own timer; left is positive, so it is not entered expired.
            unsafe { spr::write::<{ sprn::HDEC }>(left) };
            let next = self.world.enter(place);
            check_stack();
            turn = self.follow(place, next);
        }
    }

    /// Does what an exit of the guest at `place` asks for; whose turn it is then, if that is clear.
    fn follow(&mut self, place: usize, next: Next) -> Option<usize> {
        match next {
            Next::Enter => return Some(place),
            Next::Drain => {
                self.operator.make_room(&self.world, place);
                return Some(place);
            }
            Next::Control => {
                self.world.control(place);
                return Some(place);
            }
            Next::Cede => self.world.cede(place),
            Next::Restart => {
                self.world.restart(place);
                let goes_on = |state| (state == PartitionState::Running).then_some(place);
                return self
                    .world
                    .slots
                    .get(place)
                    .and_then(|slot| goes_on(slot.state));
            }
            Next::Pause(reason) => self.world.pause(place, reason),
            Next::End(end) => self.world.end(place, end),
        }
        None
    }

    /// All wait: until one of them can go on, or the next service.
    fn sleep_until(&mut self, until: u64) {
        let until = until.min(self.next_service);
        let left = until.wrapping_sub(spr::timebase()).cast_signed();
        if left > 0 {
            sleep(left.unsigned_abs());
        }
        self.slept = true;
    }

    /// No partition is running. Those that are paused may be resumed; otherwise there is the
    /// monitor. Where the last guest powered itself off, which most often is how a run is meant to
    /// end, it waits a while for a key; after anything else, until it is told to power off.
    fn nobody_runs(&mut self) {
        if let Some(end) = self.world.last_end
            && end.status == ExitStatus::Success
        {
            let hz = self.world.machine.info.cpu.timebase_hz;
            let waited = spr::timebase().wrapping_sub(end.at);
            if self.operator.is_untouched_since(end.at) && waited >= GRACE_SECONDS * hz {
                finish(end.status);
            }
        }
        // Nothing else looks after the console.
        self.sleep_until(self.next_service);
    }

    /// Looks after the console, and after the hypervisor itself.
    fn service(&mut self) {
        if core::mem::take(&mut self.slept) {
            // What is not taken in hypervisor state ends each stop at once, until it is served.
            acknowledge(self.world.machine);
        }
        self.operator.service(&mut self.world);
        if entry::vectors_checksum() != self.world.machine.vectors {
            panic!("the vectors in low memory have changed");
        }
        // What the guest runs with is in the machine, and nowhere checked by an access of ours.
        let (lpcr, lpid) = (
            spr::read::<{ sprn::LPCR }>(),
            spr::read::<{ sprn::LPIDR }>(),
        );
        let (wanted_lpcr, wanted_lpid) = match self.world.loaded_vcpu() {
            Some(vcpu) => (vcpu.hardware_lpcr(), vcpu.partition.mmu.lpid()),
            None => (Lpcr::HYPERVISOR, Lpid::HYPERVISOR),
        };
        // Hints apart, which a processor may not implement, and VPM1, which may be set for longer
        // than it must be.
        let matters = !(Lpcr::DPFD | Lpcr::ONL | Lpcr::VPM1).bits();
        if (lpcr ^ wanted_lpcr.bits()) & matters != 0
            || !lpcr & wanted_lpcr.bits() & Lpcr::VPM1.bits() != 0
            || lpid != u64::from(wanted_lpid.get())
        {
            panic!("LPCR {lpcr:#x} and LPIDR {lpid:#x} are not the partition's");
        }
    }
}

/// The lowest bytes of the boot stack, which nothing may reach: in real mode there is no guard
/// page.
const STACK_MARK: [u64; 4] = [0x5e7a_11f0_0d5e_7a11; 4];

fn stack_mark() -> Option<*mut [u64; 4]> {
    let stack = penstock_boot::head::boot_stack()?;
    #[expect(
        clippy::cast_possible_truncation,
        reason = "usize is 64 bits on this machine"
    )]
    let bottom = stack.start().get() as usize;
    Some(core::ptr::with_exposed_provenance_mut(bottom))
}

/// Marks the end of the boot stack, for [`check_stack`].
pub fn mark_stack() {
    if let Some(mark) = stack_mark() {
        // SAFETY: the bottom of our own stack, which nobody has reached yet.
        unsafe { mark.write_volatile(STACK_MARK) };
    }
}

/// Dies if the stack has ever reached its end.
fn check_stack() {
    let Some(mark) = stack_mark() else {
        return;
    };
    // SAFETY: the bottom of our own stack.
    if unsafe { mark.read_volatile() } != STACK_MARK {
        panic!("the stack has overflowed");
    }
}
