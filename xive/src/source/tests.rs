// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Masking, moving and remembering, one by one, with literal values.

use std::vec::Vec;

use penstock_arch::addr::HostReal;

use super::*;
use crate::fake::{FakeXive, Quirks};
use crate::{Presenter, PresenterSetup, RtasError, VpBlock};
use penstock_arch::fake::unless_miri;

const LISN: u32 = 0x1000;

struct Guest {
    hw: FakeXive,
    servers: Vec<Presenter>,
    slots: Vec<Source>,
}

impl Guest {
    fn new() -> Self {
        Self::with_sources(1)
    }

    /// Two vCPUs on two threads, pushed, at CPPR 0xff; so many edge-sensitive sources.
    fn with_sources(count: u32) -> Self {
        let hw = FakeXive::new(2, Quirks::default());
        let block = VpBlock::allocate(&hw, &[], &mut |_| None, 1).unwrap();
        let mut servers = Vec::new();
        for server in 0..2 {
            let setup = PresenterSetup {
                vp: block.vp(server).unwrap(),
                server: ServerNumber::new(server),
                tima: hw.tima(),
                queues: HostReal::new(0x10_0000 + (u64::from(server) << 16)),
                chip: None,
            };
            servers.push(Presenter::set_up(&hw, &hw, &setup).unwrap());
        }
        for (thread, vcpu) in servers.iter().enumerate() {
            hw.run_on(thread);
            vcpu.push(&hw);
            vcpu.h_cppr(&hw, 0xff);
        }
        let vp = block.vp(0).unwrap();
        let source = |index| {
            let lisn = Lisn::new(LISN + index);
            Source::set_up(&hw, &hw, lisn, Trigger::Edge, vp, None).unwrap()
        };
        let slots = (0..count).map(source).collect();
        hw.run_on(0);
        Self { hw, servers, slots }
    }

    fn sources(&self) -> Sources<'_> {
        Sources::new(Lisn::new(LISN), &self.slots)
    }

    fn set_xive(&self, lisn: u32, server: u32, priority: u32) -> Result<(), RtasError> {
        let servers = self.servers.as_slice();
        self.sources()
            .set_xive(&self.hw, &self.hw, servers, lisn, server, priority)
    }

    fn int_off(&self) {
        let servers = self.servers.as_slice();
        assert_eq!(
            self.sources().int_off(&self.hw, &self.hw, servers, LISN),
            Ok(())
        );
    }

    fn int_on(&self) {
        let servers = self.servers.as_slice();
        assert_eq!(
            self.sources().int_on(&self.hw, &self.hw, servers, LISN),
            Ok(())
        );
    }

    fn trigger(&self) {
        self.sources().trigger(&self.hw, Lisn::new(LISN));
    }

    fn xirr(&self, server: usize) -> u32 {
        self.hw.run_on(server);
        self.servers[server].h_xirr(&self.hw, self.sources()).get()
    }

    fn eoi(&self, server: usize, xirr: u64) {
        self.hw.run_on(server);
        assert_eq!(
            self.servers[server].h_eoi(&self.hw, self.sources(), xirr),
            Ok(())
        );
    }

    fn xive(&self) -> (u32, u8) {
        let xive = self.sources().get_xive(LISN).unwrap();
        (xive.server.get(), xive.priority)
    }

    fn line(&self, thread: usize) -> bool {
        self.hw.run_on(thread);
        self.hw.line()
    }
}

#[test]
fn new_source_is_masked_and_remembers_one_event() {
    let guest = Guest::new();
    assert_eq!(guest.xive(), (0, 0xff));
    guest.trigger();
    guest.trigger();
    assert!(!guest.line(0));
    guest.int_on();
    assert!(!guest.line(0), "no priority has been set yet");
    assert_eq!(guest.set_xive(LISN, 0, 5), Ok(()));
    assert!(guest.line(0));
    assert_eq!(guest.xirr(0), 0xff00_1000);
    guest.eoi(0, 0xff00_1000);
    assert!(!guest.line(0));
}

#[test]
fn int_off_and_on_keep_the_priority_and_the_event() {
    let guest = Guest::new();
    assert_eq!(guest.set_xive(LISN, 1, 5), Ok(()));
    guest.int_off();
    assert_eq!(guest.xive(), (1, 0xff));
    guest.trigger();
    assert!(!guest.line(1));
    guest.int_on();
    assert_eq!(guest.xive(), (1, 5));
    assert_eq!(guest.xirr(1), 0xff00_1000);
}

#[test]
fn event_masked_in_its_queue_is_withheld_and_comes_once_after_unmasking() {
    let guest = Guest::new();
    assert_eq!(guest.set_xive(LISN, 0, 5), Ok(()));
    guest.trigger();
    guest.int_off();
    assert_eq!(guest.xirr(0), 0xff00_0000, "masked after it was queued");
    assert!(!guest.line(0));
    guest.int_on();
    assert_eq!(guest.xirr(0), 0xff00_1000);
    guest.eoi(0, 0xff00_1000);
    assert_eq!(guest.xirr(0), 0xff00_0000);
    // The same, unmasked before anyone looks: its entry is used.
    guest.trigger();
    guest.int_off();
    guest.int_on();
    assert_eq!(guest.xirr(0), 0xff00_1000);
    guest.eoi(0, 0xff00_1000);
    assert_eq!(guest.xirr(0), 0xff00_0000);
}

#[test]
fn both_events_of_a_masked_source_come_back() {
    let guest = Guest::new();
    assert_eq!(guest.set_xive(LISN, 0, 5), Ok(()));
    guest.trigger();
    guest.trigger();
    guest.int_off();
    assert_eq!(guest.xirr(0), 0xff00_0000);
    guest.int_on();
    for _ in 0..2 {
        assert_eq!(guest.xirr(0), 0xff00_1000);
        guest.eoi(0, 0xff00_1000);
    }
    assert_eq!(guest.xirr(0), 0xff00_0000);
}

#[test]
fn end_of_interrupt_while_masked_forwards_nothing_until_unmasked() {
    let guest = Guest::new();
    assert_eq!(guest.set_xive(LISN, 0, 5), Ok(()));
    guest.trigger();
    assert_eq!(guest.xirr(0), 0xff00_1000);
    guest.int_off();
    guest.trigger();
    guest.eoi(0, 0xff00_1000);
    assert!(!guest.line(0));
    guest.int_on();
    assert_eq!(guest.xirr(0), 0xff00_1000);
}

#[test]
fn pending_interrupt_follows_its_source_to_another_vcpu() {
    let guest = Guest::new();
    assert_eq!(guest.set_xive(LISN, 0, 5), Ok(()));
    guest.trigger();
    assert_eq!(guest.set_xive(LISN, 1, 5), Ok(()));
    assert!(guest.line(1));
    assert_eq!(guest.xirr(1), 0xff00_1000);
    assert_eq!(
        guest.xirr(0),
        0xff00_0000,
        "the entry that stayed behind is nothing"
    );
    // An end on the other vCPU than the one that took it counts.
    guest.eoi(0, 0xff00_1000);
    guest.hw.run_on(1);
    guest.servers[1].h_cppr(&guest.hw, 0xff);
    guest.trigger();
    assert!(guest.line(1));
}

#[test]
fn pending_interrupt_follows_a_change_of_priority() {
    let guest = Guest::new();
    guest.servers[0].h_cppr(&guest.hw, 5);
    assert_eq!(guest.set_xive(LISN, 0, 5), Ok(()));
    guest.trigger();
    assert!(!guest.line(0));
    assert_eq!(guest.set_xive(LISN, 0, 4), Ok(()));
    assert_eq!(guest.xirr(0), 0x0500_1000);
    guest.eoi(0, 0x0500_1000);
    guest.servers[0].h_cppr(&guest.hw, 0xff);
    assert_eq!(guest.xirr(0), 0xff00_0000);
}

#[test]
fn entry_left_behind_stands_in_for_the_one_after_it_but_never_for_nothing() {
    let guest = Guest::new();
    guest.servers[0].h_cppr(&guest.hw, 5);
    assert_eq!(guest.set_xive(LISN, 0, 5), Ok(()));
    guest.trigger();
    assert_eq!(guest.set_xive(LISN, 1, 5), Ok(()));
    assert_eq!(guest.xirr(1), 0xff00_1000);
    guest.eoi(1, 0xff00_1000);
    assert_eq!(guest.set_xive(LISN, 0, 5), Ok(()));
    // Aimed at vCPU 0 again, with the old entry in its queue and no event outstanding.
    guest.hw.run_on(0);
    guest.servers[0].h_cppr(&guest.hw, 0xff);
    assert_eq!(guest.xirr(0), 0xff00_0000);
    guest.trigger();
    assert_eq!(guest.xirr(0), 0xff00_1000);
}

#[test]
fn source_moved_too_often_while_pending_is_refused_and_still_delivered() {
    let guest = Guest::new();
    for (thread, vcpu) in guest.servers.iter().enumerate() {
        guest.hw.run_on(thread);
        vcpu.h_cppr(&guest.hw, 0);
    }
    assert_eq!(guest.set_xive(LISN, 0, 5), Ok(()));
    guest.trigger();
    for server in [1, 0, 1] {
        assert_eq!(guest.set_xive(LISN, server, 5), Ok(()));
    }
    for _ in 0..unless_miri(2000, 50) {
        assert_eq!(guest.set_xive(LISN, 0, 5), Err(RtasError::Hardware));
    }
    assert_eq!(guest.xive(), (1, 5));
    for (thread, vcpu) in guest.servers.iter().enumerate() {
        guest.hw.run_on(thread);
        vcpu.h_cppr(&guest.hw, 0xff);
    }
    assert_eq!(guest.xirr(1), 0xff00_1000);
    guest.eoi(1, 0xff00_1000);
    assert_eq!(guest.xirr(0), 0xff00_0000);
    assert_eq!(guest.xirr(1), 0xff00_0000);
    assert_eq!(guest.set_xive(LISN, 0, 5), Ok(()));
}

#[test]
fn interrupt_behind_many_stale_entries_costs_bounded_work_and_is_not_lost() {
    const STALE: u32 = 200;
    let guest = Guest::with_sources(STALE + 1);
    for lisn in LISN..LISN + STALE {
        assert_eq!(guest.set_xive(lisn, 0, 5), Ok(()));
        guest.sources().trigger(&guest.hw, Lisn::new(lisn));
        assert_eq!(guest.set_xive(lisn, 1, 5), Ok(()));
    }
    assert_eq!(guest.set_xive(LISN + STALE, 0, 5), Ok(()));
    guest.sources().trigger(&guest.hw, Lisn::new(LISN + STALE));
    // Two looks of 64 entries each, then the guest is interrupted again.
    assert_eq!(guest.xirr(0), 0xff00_0000);
    assert!(guest.line(0));
    assert_eq!(guest.xirr(0), 0xff00_1000 + STALE);
    for lisn in LISN..LISN + STALE {
        assert_eq!(guest.xirr(1), 0xff00_0000 | lisn);
        guest.eoi(1, u64::from(0xff00_0000 | lisn));
    }
    assert!(!guest.line(1));
}

#[test]
fn sources_beyond_what_a_queue_holds_do_not_exist() {
    let guest = Guest::with_sources(256);
    assert!(guest.sources().get(Lisn::new(LISN + 254)).is_some());
    assert!(guest.sources().get(Lisn::new(LISN + 255)).is_none());
    assert!(guest.sources().get(Lisn::new(LISN - 1)).is_none());
}

#[test]
fn firmware_that_refuses_a_move_leaves_the_source_as_it_was() {
    let guest = Guest::new();
    assert_eq!(guest.set_xive(LISN, 0, 5), Ok(()));
    guest.trigger();
    guest.hw.fail("set_irq_config", FirmwareError::HARDWARE);
    assert_eq!(guest.set_xive(LISN, 1, 5), Err(RtasError::Hardware));
    assert_eq!(guest.xive(), (0, 5));
    assert_eq!(guest.xirr(0), 0xff00_1000);
    guest.eoi(0, 0xff00_1000);
    guest.trigger();
    assert!(guest.line(0));
}

#[test]
fn rtas_arguments_are_checked() {
    let guest = Guest::new();
    assert_eq!(guest.set_xive(LISN + 1, 0, 5), Err(RtasError::Parameter));
    assert_eq!(guest.set_xive(2, 0, 5), Err(RtasError::Parameter));
    assert_eq!(guest.set_xive(LISN, 2, 5), Err(RtasError::Parameter));
    assert_eq!(
        guest.set_xive(LISN, u32::MAX, 0xff),
        Err(RtasError::Parameter)
    );
    assert_eq!(guest.set_xive(LISN, 0, 0x100), Err(RtasError::Parameter));
    assert_eq!(
        guest.sources().get_xive(LISN + 1),
        Err(RtasError::Parameter)
    );
    let (hw, servers) = (&guest.hw, guest.servers.as_slice());
    assert_eq!(
        guest.sources().int_on(hw, hw, servers, 0),
        Err(RtasError::Parameter)
    );
    assert_eq!(
        guest.sources().int_off(hw, hw, servers, u32::MAX),
        Err(RtasError::Parameter)
    );
    assert_eq!(guest.xive(), (0, 0xff), "and nothing has changed");
}

#[test]
fn priority_change_within_a_level_makes_no_firmware_call() {
    let guest = Guest::new();
    assert_eq!(guest.set_xive(LISN, 0, 0x0b), Ok(()));
    let _ = guest.hw.take_calls();
    assert_eq!(guest.set_xive(LISN, 0, 0x80), Ok(()));
    assert!(guest.hw.take_calls().is_empty());
    assert_eq!(guest.xive(), (0, 0x80));
    guest.trigger();
    assert_eq!(guest.xirr(0), 0xff00_1000);
    assert_eq!(
        guest.xirr(0),
        0x8000_0000,
        "the CPPR is the guest's own number"
    );
}

#[test]
fn who_looks_sees_where_a_source_goes_and_changes_nothing() {
    let guest = Guest::new();
    let source = &guest.slots[0];
    let look = || {
        let view = source.view(&guest.hw);
        assert_eq!(view.lisn, Lisn::new(LISN));
        assert_eq!(view.girq, source.girq());
        assert_eq!(view.eisn, Eisn::new(LISN));
        assert_eq!(view.pages[0], source.trigger_page());
        (view.target, view.masked, view.pq)
    };
    let to = |server, priority| Some((ServerNumber::new(server), priority));
    assert_eq!(look(), (to(0, 0xff), true, Pq::Pending));
    guest.set_xive(LISN, 1, 5).unwrap();
    assert_eq!(look(), (to(1, 5), false, Pq::Reset));
    guest.sources().trigger(&guest.hw, Lisn::new(LISN));
    for _ in 0..3 {
        assert_eq!(look(), (to(1, 5), false, Pq::Pending));
    }
    guest.sources().trigger(&guest.hw, Lisn::new(LISN));
    assert_eq!(look(), (to(1, 5), false, Pq::Queued));
    guest.int_off();
    assert_eq!(look(), (to(1, 5), true, Pq::Queued));
    let context = guest.servers[1].view(&guest.hw);
    assert_eq!(context.server, ServerNumber::new(1));
    assert_eq!(context.vp, guest.servers[1].vp());
    assert!(context.is_pushed);
    assert_eq!(context.pq, Pq::Reset);
}
