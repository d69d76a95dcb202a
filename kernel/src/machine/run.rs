// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The loops of the threads. All run guests; the boot thread looks after the console, the partitions
//! and the operator besides.

use super::last_words::{self, ExitStatus, finish};
use super::operator::Operator;
use super::runner::{Runner, TURN_HZ};
use super::start::Machine;
use super::thread::Thread;
use super::world::World;
use penstock_arch::spr;

/// How often the console is looked after, in parts of a second.
pub const SERVICE_HZ: u64 = TURN_HZ;

/// The same while the boot thread runs a virtual processor that has it for itself, and is to be
/// interrupted as seldom as can be.
const DEDICATED_SERVICE_HZ: u64 = 10;

/// How long the monitor waits for a key after the last guest powered itself off.
pub const GRACE_SECONDS: u64 = 10;

/// How often a thread other than the boot thread checks itself, in parts of a second.
const CHECK_HZ: u64 = 10;

/// What any thread but the boot thread does, for ever.
pub fn run_others(machine: &'static Machine, thread: &'static Thread) -> ! {
    let mut runner = Runner::new(machine, thread);
    let mut next_check = 0;
    loop {
        let now = spr::timebase();
        if now >= next_check {
            runner.check();
            next_check = now + machine.info.cpu.timebase_hz / CHECK_HZ;
        }
        last_words::die_if_asked(thread);
        // Nothing that concerns it happens without a ring.
        runner.step(u64::MAX >> 1);
    }
}

/// Runs the guests until the machine is powered off. On the boot thread.
pub fn run(mut world: World, mut operator: Operator) -> ! {
    let hz = world.machine.info.cpu.timebase_hz;
    let mut next_service = 0;
    loop {
        let now = spr::timebase();
        if now >= next_service {
            service(&mut world, &mut operator);
            let rate = if world.runner.is_dedicated() {
                DEDICATED_SERVICE_HZ
            } else {
                SERVICE_HZ
            };
            next_service = now + hz / rate;
        }
        world.serve_reports();
        world.runner.step(next_service);
    }
}

/// Looks after the console, guests that have not heard of an event, and the hypervisor itself.
fn service(world: &mut World, operator: &mut Operator) {
    if world.runner.take_slept() {
        penstock_boot::opal::call::poll_events();
    }
    operator.service(world);
    world.announce_events();
    world.runner.check();
    // No partition is left. Where the last guest powered itself off, which most often is how a run is
    // meant to end, the monitor waits a while for a key; after anything else, until it is told to
    // power off.
    if let Some(end) = world.last_end
        && end.status == ExitStatus::Success
    {
        let hz = world.machine.info.cpu.timebase_hz;
        let waited = spr::timebase().wrapping_sub(end.at);
        if operator.is_untouched_since(end.at) && waited >= GRACE_SECONDS * hz {
            finish(end.status);
        }
    }
}
