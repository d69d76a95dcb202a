// SPDX-License-Identifier: Apache-2.0 OR MIT

use super::*;
use crate::control::operator::STEP_TEXT_BYTES;
use crate::presentation::{InterruptMode, PinnedRam};
use crate::testing::{FakePlatform, RigOptions, make_partition};
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use penstock_arch::addr::HostReal;
use penstock_xive::ServerNumber;

type Guest = Partition<FakePlatform>;

fn guest(mode: InterruptMode, vcpus: u32) -> Box<Guest> {
    let options = RigOptions {
        mode,
        vcpus,
        ..RigOptions::default()
    };
    make_partition(options).partition
}

/// The text of each step.
fn steps(guest: &Guest) -> Vec<String> {
    let (mut listing, mut steps) = (IrqListing::default(), Vec::new());
    loop {
        let mut text = String::new();
        let is_last = listing.step(guest, &mut text).unwrap();
        steps.push(text);
        if is_last {
            return steps;
        }
    }
}

/// Maps a page of a device by the entry `index`.
fn map(guest: &Guest, index: u64, at: u64) {
    // A page of 64 KiB at an address of no meaning, caching-inhibited and guarded.
    let (v, r) = (0x4000_0000_0000_0005 | index << 12, at | 0x1000 | 0x1aa);
    guest
        .mmu
        .h_enter(0x0008_0000_0000_0000, index, v, r)
        .unwrap();
}

#[test]
fn sources_and_contexts_of_a_guest_in_xics_mode_are_lines() {
    let steps = steps(&guest(InterruptMode::Xics, 2));
    assert_eq!(steps.len(), 1);
    let lines: Vec<&str> = steps[0].lines().collect();
    assert_eq!(lines[0], "test: xics");
    assert!(lines[2].starts_with("  0x1000 ") && lines[3].starts_with("  0x1001 "));
    assert!(lines[4].starts_with("  CPU 0: VP ") && lines[5].starts_with("  CPU 1: VP "));
    assert_eq!(lines.len(), 6);
}

#[test]
fn pages_of_a_guest_in_exploitation_mode_say_where_they_point_and_who_maps_them() {
    let guest = guest(InterruptMode::Xive, 1);
    let text = steps(&guest).concat();
    assert!(text.starts_with("test: xive\n"));
    // Nothing is there, and nobody maps anything.
    assert!(!text.contains("->"));
    let at = 0x6_0100_0002_0000;
    map(&guest, 0x200, at);
    map(&guest, 0x208, at);
    assert!(
        steps(&guest)
            .concat()
            .contains("\n    trigger 0x6010000020000 -> nothing yet, 2 entries: 0x200 0x208\n")
    );
    assert!(guest.fill_device_page(GuestReal::new(at)));
    assert!(guest.fill_device_page(GuestReal::new(at + 0x1_0000)));
    assert!(guest.fill_device_page(TIMA_OS));
    map(&guest, 0x210, TIMA_OS.get());
    let text = steps(&guest).concat();
    let source = guest.exploited.as_ref().unwrap().ipis[1].view(&FakePlatform::interrupts());
    let [trigger, management] = source.pages.map(HostReal::get);
    let expected = format!(
        "{trigger:#018x} {management:#018x}\n    \
         trigger 0x6010000020000 -> {trigger:#018x}, 2 entries: 0x200 0x208\n    \
         management 0x6010000030000 -> {management:#018x}, no entry\n  \
         0x2 "
    );
    assert!(text.contains(&expected), "{text}");
    let last = text.lines().last().unwrap();
    assert!(
        last.starts_with("    thread registers 0x60302031a0000 -> 0x"),
        "{last}"
    );
    assert!(last.ends_with(", entry 0x210"), "{last}");
}

#[test]
fn the_pages_of_queues_are_below_them() {
    let guest = guest(InterruptMode::Xive, 2);
    let at = notification_page(ServerNumber::new(1), Priority::new(6).unwrap());
    assert!(guest.fill_device_page(at));
    // A queue that was not set has no line.
    assert!(!steps(&guest).concat().contains("priority"));
    let native = guest.exploited.as_ref().unwrap().native();
    let memory = PinnedRam(guest.mmu.memory());
    native
        .set_queue_config(&FakePlatform::firmware(), &memory, [1, 1, 6, 0x2_0000, 16])
        .unwrap();
    map(&guest, 0x200, at.get());
    let text = steps(&guest).concat();
    let queue = "  CPU 1 priority 6: queue of 64 KiB at guest real 0x20000\n    notification 0x";
    let place = text.find(queue).unwrap();
    let line = text[place..].lines().nth(1).unwrap();
    assert!(line.ends_with(", entry 0x200"), "{line}");
}

#[test]
fn however_much_there_is_no_step_is_long_and_nothing_is_left_out() {
    let guest = guest(InterruptMode::Xive, 64);
    let native = guest.exploited.as_ref().unwrap().native();
    for source in native.sources() {
        let (trigger, management) = esb_pages(source.lisn());
        assert!(guest.fill_device_page(trigger));
        assert!(guest.fill_device_page(management));
    }
    let steps = steps(&guest);
    assert!(steps.len() > 4, "{}", steps.len());
    for step in &steps {
        assert!(step.len() + step.lines().count() <= STEP_TEXT_BYTES);
    }
    let text = steps.concat();
    let count = |what: &str| text.lines().filter(|line| line.contains(what)).count();
    let sources = native.sources().count();
    assert_eq!(count(" edge "), sources);
    assert_eq!(count(", no entry"), 2 * sources);
    assert_eq!(count("escalation"), 64);
    assert_eq!(count("test: xive"), 1);
}
