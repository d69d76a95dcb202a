// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Who holds a partition, what that stands in the way of, and what ends it.

use super::*;
use crate::lifecycle::PauseReason;

const CHANGES: [Function; 5] = [
    Function::VcpuGet,
    Function::VcpuSet,
    Function::StreamWrite,
    Function::HptDrop,
    Function::Invalidate,
];

#[test]
fn what_runs_is_the_hypervisors() {
    let mut world = World::new();
    for on_thread in [false, true] {
        world.target().seat.on_thread = on_thread;
        for function in CHANGES
            .into_iter()
            .chain([Function::Commit, Function::Resume])
        {
            let first = if function == Function::StreamWrite {
                WRITER
            } else {
                0
            };
            world.refuses(function, &[first], H::STATE);
        }
        world.refuses(Function::StreamOpen, &[open_flags::WRITE], H::STATE);
    }
    // It is on its way out, and not there yet.
    world.refuses(Function::Suspend, &[], H::LONG_BUSY_ORDER_1_MSEC);
    assert!(world.target().seat.held && world.target().seat.on_thread);
    world.refuses(Function::VcpuGet, &[0, 0], H::STATE);
    // Withdrawn before it was done.
    world.does(Function::Resume, &[]);
    assert!(!world.target().seat.held);
}

#[test]
fn a_partition_that_is_shut_off_has_nothing_to_hold() {
    let mut world = World::new();
    world.target().end();
    assert_eq!(world.does(Function::Feature, &[2]), [1, 4]);
    assert_eq!(world.get(Function::Slots, 48, &[0]), []);
    world.refuses(Function::Suspend, &[], H::NOT_ACTIVE);
    world.refuses(Function::StreamOpen, &[0], H::NOT_ACTIVE);
    for function in CHANGES {
        let first = if function == Function::StreamWrite {
            WRITER
        } else {
            0
        };
        world.refuses(function, &[first], H::STATE);
    }
    // What has failed can be looked at, and not be held.
    world.target().start(RigOptions::default());
    world.target().seat.state = PartitionState::Failed;
    world.refuses(Function::Suspend, &[], H::NOT_ACTIVE);
    assert!(!world.stream().is_empty());
}

#[test]
fn a_partition_that_ends_in_the_middle_takes_all_with_it() {
    let mut world = World::new();
    let stream = world.does(Function::StreamOpen, &[0])[0];
    world.get(Function::StreamRead, 64, &[stream]);
    world.suspend();
    world.does(Function::HptDrop, &[0]);
    world.does(Function::DirtyLog, &[0, 1]);
    world.target().end();
    world.target().start(RigOptions::default());
    assert_eq!(world.target().session.lock().state(), State::Running);
    world.refuses(Function::StreamRead, &[stream], H::P5);
    world.refuses(Function::HptDrop, &[4096], H::STATE);
    world.refuses(Function::DirtyHarvest, &[0, 1, 0], H::STATE);
    world.refuses(Function::Resume, &[], H::STATE);
    assert!(!world.target().seat.held);
    // All readers are free.
    for number in 0..4 {
        assert_eq!(world.does(Function::StreamOpen, &[0]), [number]);
    }
    world.refuses(Function::StreamOpen, &[0], H::RESOURCE);
}

#[test]
fn a_guest_that_starts_over_takes_all_with_it() {
    let mut world = World::new();
    let stream = world.does(Function::StreamOpen, &[0])[0];
    world.get(Function::StreamRead, 64, &[stream]);
    let target = world.target();
    target.with(|target| target.session().lock().restart(target));
    target.partition().mmu.clear_all();
    world.refuses(Function::StreamRead, &[stream], H::P5);
    // The table has a place for each reader again.
    for number in 0..4 {
        assert_eq!(world.does(Function::StreamOpen, &[0]), [number]);
    }
}

#[test]
fn two_tools_against_each_other() {
    let mut world = World::new();
    world.suspend();
    for function in [Function::Suspend, Function::Resume, Function::Commit] {
        assert_eq!(world.call(1, function, &[]).status, H::IN_USE);
    }
    assert_eq!(world.call(1, Function::HptDrop, &[0]).status, H::IN_USE);
    world.does(Function::HptDrop, &[0]);
    // The first one is gone: what it left is the second one's to finish.
    let who = Holder::Partition(GuestId(1));
    let target = world.target();
    target.with(|target| target.session().lock().abandon(target, who));
    assert!(world.target().seat.held);
    assert_eq!(world.call(1, Function::Suspend, &[]).status, H::SUCCESS);
    assert_eq!(world.call(1, Function::Commit, &[]).status, H::STATE);
    assert_eq!(world.call(0, Function::Suspend, &[]).status, H::IN_USE);
    let mut at = 0;
    while at != DONE {
        at = world.call(1, Function::HptDrop, &[at]).results()[0];
    }
    assert_eq!(world.call(1, Function::Commit, &[]).status, H::SUCCESS);
    assert_eq!(world.call(1, Function::Resume, &[]).status, H::SUCCESS);
    assert!(!world.target().seat.held);
}

#[test]
fn a_tool_cannot_suspend_itself_and_may_ask_about_itself() {
    let mut world = World::new();
    let place = &mut world.0[0];
    let call = |function: Function| Call {
        function: function as u64,
        partition: 1,
        ..Call::default()
    };
    let reply = place.with(|target| target.serve(&call(Function::Suspend), None));
    assert_eq!(reply.status, H::P2);
    assert!(!place.seat.held);
    let reply = place.with(|target| target.serve(&call(Function::StreamOpen), None));
    assert_eq!(reply.status, H::SUCCESS);
    // Another number than that of the partition that was looked up.
    let other = Call {
        partition: 2,
        ..call(Function::Suspend)
    };
    let reply = place.with(|target| target.serve(&other, None));
    assert_eq!(reply.status, H::P2);
}

#[test]
fn a_pause_of_the_operators_stays_when_a_tool_lets_go() {
    let mut world = World::new();
    let paused = PartitionState::Paused(PauseReason::Operator);
    world.target().seat.state = paused;
    world.suspend();
    world.does(Function::Resume, &[]);
    assert_eq!(world.target().seat.state, paused);
}
