// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the calls do when they succeed.

use super::*;
use crate::esb::Pq;
use crate::fw::{QueueState, XiveFirmware};
use crate::source::Level;
use std::vec;

#[test]
fn linux_sets_up_a_processor_and_sends_itself_an_ipi() {
    for quirks in Quirks::ALL {
        let p = Partition::new(quirks, 1);
        p.vcpus[0].push(p.hw);
        p.cppr(0xff);
        let n = p.native();
        // Sources are off at first: events are dropped.
        assert_eq!(p.esb(0, 0x800), 1);
        assert!(n.get_queue_info(0, 0, 6).is_ok());
        p.set_queue(0, 6, 0x3_0000, 16).unwrap();
        let info = n.get_source_info(0, 0).unwrap();
        assert_eq!(info.flags, SourceFlags::empty());
        assert_eq!(info.management, Some(GuestReal::new(0x6_0100_0001_0000)));
        assert_eq!(info.trigger, Some(GuestReal::new(0x6_0100_0000_0000)));
        assert_eq!(info.page_shift, 16);
        p.aim(0, 0, 6, 0x23).unwrap();
        assert_eq!(p.esb(0, 0xc00), 1);
        let _ = p.hw.take_calls();

        p.trigger(0);
        assert!(p.hw.line());
        assert_eq!(p.acknowledge(), Some(6));
        assert_eq!(p.entry(0x3_0000, 0), EqEntry(0x8000_0023));
        assert_eq!(p.entry(0x3_0000, 1), EqEntry(0));
        // A second event while the first is served comes once after its end.
        p.trigger(0);
        p.trigger(0);
        assert_eq!(p.esb(0, 0x000), 1);
        assert_eq!(p.entry(0x3_0000, 1), EqEntry(0x8000_0023));
        assert_eq!(p.esb(0, 0x000), 0);
        p.cppr(0xff);
        assert_eq!(p.acknowledge(), Some(6));
        // None of that is a call to firmware.
        assert_eq!(p.hw.take_calls(), Vec::<&str>::new());
    }
}

#[test]
fn source_config_reads_back_what_was_set() {
    let p = Partition::booted(Quirks::POWER9, 2);
    let n = p.native();
    let config = |lisn| {
        let config = n.get_source_config(0, lisn).unwrap();
        (
            config.target.get(),
            config.priority.map(Priority::get),
            config.eisn.get(),
        )
    };
    // Nowhere, and the EISN is the number.
    assert_eq!(config(EDGE), (0, None, 0x1000));
    p.aim(EDGE, 1, 3, 0x7fff_ffff).unwrap();
    assert_eq!(config(EDGE), (1, Some(3), 0x7fff_ffff));
    // Without its flag the EISN stays.
    n.set_source_config(p.hw, [0, EDGE, 0, 6, 5]).unwrap();
    assert_eq!(config(EDGE), (0, Some(6), 0x7fff_ffff));
    // Masked, it keeps its target.
    n.set_source_config(p.hw, [3, EDGE, 1, 2, 9]).unwrap();
    assert_eq!(config(EDGE), (1, Some(2), 9));
    let source = n.source(Lisn::new(0x1000)).unwrap();
    assert_eq!(
        source.target(),
        Some((ServerNumber::new(1), Priority::new(2).unwrap(), true))
    );
    // Priority 0xff resets all of it.
    n.set_source_config(p.hw, [0, EDGE, 1, 0xff, 9]).unwrap();
    assert_eq!(config(EDGE), (0, None, 0x1000));
}

#[test]
fn masked_by_flag_the_event_is_dropped_behind_p_and_q() {
    let p = Partition::booted(Quirks::POWER9, 1);
    p.native()
        .set_source_config(p.hw, [3, 0, 0, 6, 0x42])
        .unwrap();
    p.trigger(0);
    assert_eq!(p.esb(0, 0x800), Pq::Pending as u64);
    assert_eq!(p.entry(queue_at(0, 6), 0), EqEntry(0));
    assert!(!p.hw.line());
    p.aim(0, 0, 6, 0x42).unwrap();
    assert_eq!(p.esb(0, 0xc00), Pq::Pending as u64);
    p.trigger(0);
    assert_eq!(p.entry(queue_at(0, 6), 0), EqEntry(0x8000_0042));
}

#[test]
fn a_source_moves_and_the_old_queue_gets_no_more() {
    let p = Partition::booted(Quirks::POWER9, 2);
    p.trigger(0);
    assert_eq!(p.entry(queue_at(0, 6), 0), EqEntry(0x8000_0100));
    p.aim(0, 1, 6, 0x77).unwrap();
    let calls = p.hw.take_calls();
    assert_eq!(calls, vec!["set_irq_config", "sync"]);
    p.esb(0, 0xc00);
    p.trigger(0);
    assert_eq!(p.entry(queue_at(0, 6), 1), EqEntry(0));
    assert_eq!(p.entry(queue_at(1, 6), 0), EqEntry(0x8000_0077));
}

#[test]
fn queues_of_all_four_sizes_wrap_with_their_generation() {
    for (size, base) in [
        (12, 0x1000),
        (16, 0x3_0000),
        (21, 0x20_0000),
        (24, 0x100_0000),
    ] {
        let p = Partition::booted(Quirks::POWER9, 1);
        p.set_queue(0, 4, base, size).unwrap();
        p.aim(1, 0, 4, 0x11).unwrap();
        p.esb(1, 0xc00);
        let entries = 1_u64 << (size - 2);
        p.trigger(1);
        p.esb(1, 0xc00);
        assert_eq!(p.entry(base, 0), EqEntry(0x8000_0011));
        assert_eq!(p.entry(base, 1), EqEntry(0));
        // All but the last one pass by.
        let last = QueueState {
            toggle: 1,
            index: u32::try_from(entries - 1).unwrap(),
        };
        p.hw.set_queue_state(p.vcpus[0].vp(), Priority::new(4).unwrap(), last)
            .unwrap();
        p.trigger(1);
        p.esb(1, 0xc00);
        assert_eq!(p.entry(base, entries - 1), EqEntry(0x8000_0011));
        let debug = |flags| p.native().get_queue_config(p.hw, flags, 0, 4).unwrap();
        assert_eq!(
            debug(1),
            QueueConfig {
                always: true,
                queue: Some((GuestReal::new(base), u32::try_from(size).unwrap())),
                debug: Some(QueueState {
                    toggle: 0,
                    index: 0
                }),
            }
        );
        p.trigger(1);
        assert_eq!(p.entry(base, 0), EqEntry(0x11));
        assert_eq!(
            debug(1).debug,
            Some(QueueState {
                toggle: 0,
                index: 1
            })
        );
        assert_eq!(debug(0).debug, None);
    }
}

#[test]
fn a_queue_is_pinned_before_the_hardware_knows_it_and_until_all_has_landed() {
    let p = Partition::booted(Quirks::POWER9, 1);
    // Source 0 is aimed at priority 6, whose queue is there already.
    p.set_queue(0, 6, 0x5_0000, 16).unwrap();
    assert_eq!(
        p.hw.take_calls(),
        vec!["pin", "set_queue_info", "sync", "sync", "unpin"]
    );
    assert_eq!(p.memory.pinned(), vec![(0x5_0000, 0x1_0000)]);
    // Set to the same place again, it begins anew and is pinned once.
    p.trigger(0);
    p.esb(0, 0xc00);
    p.set_queue(0, 6, 0x5_0000, 16).unwrap();
    assert_eq!(p.memory.pinned(), vec![(0x5_0000, 0x1_0000)]);
    assert_eq!(p.memory.pins.borrow()[&(0x5_0000, 0x1_0000)], 1);
    p.trigger(0);
    assert_eq!(p.entry(0x5_0000, 0), EqEntry(0x8000_0100));
    let _ = p.hw.take_calls();
    // Reset: notified, nothing queued.
    p.set_queue(0, 6, 0, 0).unwrap();
    assert_eq!(
        p.hw.take_calls(),
        vec!["set_queue_info", "sync", "sync", "unpin"]
    );
    assert_eq!(p.memory.pinned(), vec![]);
    let config = p.native().get_queue_config(p.hw, 0, 0, 6).unwrap();
    assert_eq!((config.queue, config.always), (None, false));
    p.esb(0, 0xc00);
    p.trigger(0);
    assert_eq!(p.entry(0x5_0000, 1), EqEntry(0));
    assert!(p.hw.line());
}

#[test]
fn memory_that_may_still_be_written_to_stays_pinned() {
    use crate::fw::FirmwareError;
    let p = Partition::booted(Quirks::POWER9, 1);
    p.hw.fail("sync", FirmwareError::HARDWARE);
    assert_eq!(p.set_queue(0, 6, 0, 0), Err(HcallError::Hardware));
    assert_eq!(p.memory.pinned(), vec![(queue_at(0, 6), 0x1000)]);
}

#[test]
fn a_queue_that_fails_gives_its_memory_up() {
    use crate::fw::FirmwareError;
    let p = Partition::booted(Quirks::POWER9, 1);
    p.hw.fail("set_queue_info", FirmwareError::BUSY);
    assert_eq!(p.set_queue(0, 5, 0x2000, 12), Ok(()));
    assert_eq!(p.hw.waits(), 1);
    for _ in 0..9 {
        p.hw.fail("set_queue_info", FirmwareError::BUSY);
    }
    assert_eq!(p.set_queue(0, 5, 0x4000, 12), Err(HcallError::LongBusy));
    assert_eq!(
        p.memory.pinned(),
        vec![(0x2000, 0x1000), (queue_at(0, 6), 0x1000)]
    );
}

#[test]
fn conditional_notification_goes_through_the_notification_page() {
    let p = Partition::booted(Quirks::POWER9, 1);
    let n = p.native();
    let info = n.get_queue_info(0, 0, 6).unwrap();
    assert_eq!(info.page_shift, 16);
    let at = info.notification.unwrap();
    assert_eq!(at, GuestReal::new(0x6_0100_400c_0000));
    let page = n.page_at(at).unwrap();
    assert_eq!(page, HostReal::new(crate::fake::END_BASE + (6 << 17)));
    // The page behind it is the escalation's.
    assert_eq!(n.page_at(at.checked_add(0x1_0000).unwrap()), None);
    n.set_queue_config(p.hw, &p.memory, [0, 0, 6, 0x2000, 12])
        .unwrap();
    let config = n.get_queue_config(p.hw, 0, 0, 6).unwrap();
    assert!(!config.always);
    // Off: the event is queued and nobody is told.
    assert_eq!(p.hw.load64(page, 0x800), Pq::Off as u64);
    p.trigger(0);
    p.esb(0, 0xc00);
    assert_eq!(p.entry(0x2000, 0), EqEntry(0x8000_0100));
    assert!(!p.hw.line());
    // On: the first one is told, the next ones are queued.
    p.hw.load64(page, 0xc00);
    p.trigger(0);
    assert!(p.hw.line());
    assert_eq!(p.acknowledge(), Some(6));
    p.cppr(0xff);
    p.esb(0, 0xc00);
    p.trigger(0);
    assert_eq!(p.entry(0x2000, 2), EqEntry(0x8000_0100));
    assert!(!p.hw.line());
    assert_eq!(p.hw.load64(page, 0x800), Pq::Queued as u64);
}

#[test]
fn without_notification_pages_only_unconditional_queues_are_taken() {
    let mut p = Partition::booted(Quirks::POWER9, 1);
    p.vcpus[0].notification = [None; 7];
    let n = p.native();
    let info = n.get_queue_info(0, 0, 6).unwrap();
    assert_eq!((info.notification, info.page_shift), (None, 0));
    assert_eq!(n.page_at(GuestReal::new(0x6_0100_400c_0000)), None);
    let set = |arguments| n.set_queue_config(p.hw, &p.memory, arguments);
    assert_eq!(set([0, 0, 6, 0x2000, 12]), Err(HcallError::Parameter));
    assert_eq!(set([1, 0, 6, 0x2000, 12]), Ok(()));
    // A reset needs no flag.
    assert_eq!(set([0, 0, 6, 0, 0]), Ok(()));
}

#[test]
fn level_sensitive_sources_go_through_the_call_and_follow_their_level() {
    let p = Partition::booted(Quirks::POWER9, 1);
    let n = p.native();
    let info = n.get_source_info(0, LEVEL).unwrap();
    assert_eq!(info.flags.bits(), 0xc);
    assert_eq!((info.management, info.trigger), (None, None));
    let (trigger, management) = window::esb_pages(Lisn::new(0x1001));
    assert_eq!((n.page_at(trigger), n.page_at(management)), (None, None));

    let lsi = &p.devices[1];
    let esb = |at| n.esb(p.hw, [0, LEVEL, at, 0]).unwrap();
    p.aim(LEVEL, 0, 6, 0x99).unwrap();
    // Asserted while it is off: nothing, until the guest turns it on.
    lsi.set_level(p.hw, Level::Asserted);
    assert_eq!(lsi.pq(p.hw), Pq::Off);
    assert_eq!(esb(0xc00), 1);
    assert_eq!(lsi.pq(p.hw), Pq::Pending);
    assert_eq!(p.acknowledge(), Some(6));
    assert_eq!(p.entry(queue_at(0, 6), 0), EqEntry(0x8000_0099));
    // Looking changes nothing.
    assert_eq!(esb(0x800), 2);
    assert_eq!(esb(0xb78), 2);
    // Ended while it is still asserted, it comes again; Q is never set.
    lsi.set_level(p.hw, Level::Asserted);
    assert_eq!(lsi.pq(p.hw), Pq::Pending);
    assert_eq!(esb(0x000), 0);
    assert_eq!(p.entry(queue_at(0, 6), 1), EqEntry(0x8000_0099));
    lsi.set_level(p.hw, Level::Deasserted);
    assert_eq!(esb(0x7f8), 0);
    assert_eq!(lsi.pq(p.hw), Pq::Reset);
    assert_eq!(p.entry(queue_at(0, 6), 2), EqEntry(0));
    // And with the next level.
    lsi.set_level(p.hw, Level::Asserted);
    assert_eq!(p.entry(queue_at(0, 6), 2), EqEntry(0x8000_0099));
    // An edge is not its kind.
    lsi.raise(p.hw);
    assert_eq!(lsi.pq(p.hw), Pq::Pending);
}

#[test]
fn the_call_works_on_sources_that_have_pages_too() {
    let p = Partition::booted(Quirks::POWER9, 1);
    let n = p.native();
    assert_eq!(n.esb(p.hw, [1, 0, 0, 0]), Ok(u64::MAX));
    assert_eq!(p.entry(queue_at(0, 6), 0), EqEntry(0x8000_0100));
    assert_eq!(n.esb(p.hw, [1, 0, 0x3f8, 7]), Ok(u64::MAX));
    assert_eq!(n.esb(p.hw, [0, 0, 0x800, 0]), Ok(3));
    assert_eq!(n.esb(p.hw, [0, 0, 0xd00, 0]), Ok(3));
    assert_eq!(n.esb(p.hw, [0, 0, 0xf00, 0]), Ok(1));
    assert_eq!(n.esb(p.hw, [0, 0, 0xe00, 0]), Ok(3));
    assert_eq!(n.esb(p.hw, [0, 0, 0x000, 0]), Ok(0));
}

#[test]
fn devices_raise_their_edges() {
    let p = Partition::booted(Quirks::POWER9, 1);
    p.aim(EDGE, 0, 6, 0x31).unwrap();
    p.devices[0].raise(p.hw);
    // Off, so dropped.
    assert_eq!(p.entry(queue_at(0, 6), 0), EqEntry(0));
    p.esb(EDGE, 0xc00);
    p.devices[0].raise(p.hw);
    assert_eq!(p.entry(queue_at(0, 6), 0), EqEntry(0x8000_0031));
    p.devices[0].set_level(p.hw, Level::Asserted);
    assert_eq!(p.entry(queue_at(0, 6), 1), EqEntry(0));
}

#[test]
fn an_event_that_would_be_lost_is_said_to_be() {
    let p = Partition::booted(Quirks::POWER9, 1);
    let source = &p.devices[0];
    // It goes nowhere, then it is off.
    assert!(!source.raise_if_heard(p.hw));
    p.aim(EDGE, 0, 6, 0x31).unwrap();
    assert!(!source.raise_if_heard(p.hw));
    assert_eq!(source.pq(p.hw), Pq::Off);
    // On, but aimed at nobody any more, or masked.
    p.esb(EDGE, 0xc00);
    p.aim(EDGE, 0, 0xff, 0).unwrap();
    assert!(!source.raise_if_heard(p.hw));
    assert_eq!(source.pq(p.hw), Pq::Reset);
    let masked = [3, EDGE, 0, 6, 0x31];
    p.native().set_source_config(p.hw, masked).unwrap();
    assert!(!source.raise_if_heard(p.hw));
    assert_eq!(source.pq(p.hw), Pq::Reset);
    p.aim(EDGE, 0, 6, 0x31).unwrap();
    assert_eq!(p.entry(queue_at(0, 6), 0), EqEntry(0));
    assert!(source.raise_if_heard(p.hw));
    assert_eq!(p.entry(queue_at(0, 6), 0), EqEntry(0x8000_0031));
    // One more while that is served comes after it.
    assert!(source.raise_if_heard(p.hw));
    assert_eq!(source.pq(p.hw), Pq::Queued);
    // A level has its own way.
    assert!(!p.devices[1].raise_if_heard(p.hw));
}

#[test]
fn sync_waits_for_source_and_queue() {
    use crate::fw::FirmwareError;
    let p = Partition::booted(Quirks::POWER9, 1);
    p.native().sync(p.hw, 0, 0).unwrap();
    assert_eq!(p.hw.take_calls(), vec!["sync", "sync"]);
    // Firmware that does not know the queue's chip has waited at the source.
    p.hw.fail("get_vp_state", FirmwareError::PARAMETER);
    assert_eq!(p.native().sync(p.hw, 0, 0), Ok(()));
}

#[test]
fn the_reporting_line_is_pinned_and_told() {
    for quirks in Quirks::ALL {
        let p = Partition::booted(quirks, 2);
        let n = p.native();
        p.vcpus[1].set_online(true);
        let set = |line| n.set_os_reporting_line(p.hw, p.hw, &p.memory, &p.vcpus[0], [0, line]);
        assert_eq!(n.get_os_reporting_line(0, 0), Ok(None));
        let _ = p.hw.take_calls();
        set(0x4100).unwrap();
        assert_eq!(
            p.hw.take_calls(),
            vec!["pin", "get_vp_state", "set_vp_info"]
        );
        assert_eq!(
            n.get_os_reporting_line(0, 0),
            Ok(Some(GuestReal::new(0x4100)))
        );
        assert_eq!(n.get_os_reporting_line(0, 1), Ok(None));
        assert_eq!(p.hw.report_cl(p.vcpus[0].vp()), RAM_AT + 0x4100);
        set(0x4200).unwrap();
        assert!(p.memory.pinned().contains(&(0x4200, 0x100)));
        assert!(!p.memory.pinned().contains(&(0x4100, 0x100)));
        set(u64::MAX).unwrap();
        assert_eq!(n.get_os_reporting_line(0, 0), Ok(None));
        assert_eq!(p.hw.report_cl(p.vcpus[0].vp()), 0);
        assert!(p.memory.pinned().iter().all(|(_, bytes)| *bytes != 0x100));
    }
}

#[test]
fn a_reporting_line_costs_no_interrupt_and_no_priority() {
    for quirks in Quirks::ALL {
        let p = Partition::booted(quirks, 1);
        p.cppr(5);
        // Pending, and not let through.
        p.trigger(0);
        assert!(!p.hw.line());
        let line = [0, 0x4000];
        p.native()
            .set_os_reporting_line(p.hw, p.hw, &p.memory, &p.vcpus[0], line)
            .unwrap();
        assert!(p.vcpus[0].is_pushed());
        // The escalation that firmware armed is off.
        let girq = p.vcpus[0].escalation().girq();
        assert_eq!(p.hw.escalation_pq(girq), Pq::Off);
        // Whatever else has become pending, the guest finds nothing there.
        let mut found = Vec::new();
        p.cppr(0xff);
        while let Some(priority) = p.acknowledge() {
            found.push(priority);
            p.cppr(0xff);
        }
        assert!(found.contains(&6), "{quirks:?}: {found:?}");
        assert_eq!(p.entry(queue_at(0, 6), 0), EqEntry(0x8000_0100));
    }
}

#[test]
fn pages_exist_for_what_the_partition_has() {
    let p = Partition::booted(Quirks::POWER9, 1);
    let n = p.native();
    assert_eq!(n.page_at(window::TIMA_OS), Some(TIMA_OS_PAGE));
    assert_eq!(n.page_at(window::TIMA_USER), None);
    let pages = |lisn| {
        let (trigger, management) = window::esb_pages(Lisn::new(lisn));
        (n.page_at(trigger), n.page_at(management))
    };
    let (trigger, management) = pages(3);
    assert_eq!(management.unwrap().get(), trigger.unwrap().get() + 0x1_0000);
    assert!(pages(0x1000).0.is_some());
    for lisn in [4, 0xfff, 0x1001, 0x1002, 0x1fff] {
        assert_eq!(pages(lisn), (None, None), "{lisn:#x}");
    }
    assert!(n.source(Lisn::new(0x2000)).is_none());
    assert!(n.source(Lisn::new(u32::MAX)).is_none());
    let priority = |level| Priority::new(level).unwrap();
    let page = |server, level| {
        n.page_at(window::notification_page(
            ServerNumber::new(server),
            priority(level),
        ))
    };
    assert!(page(0, 0).is_some() && page(0, 6).is_some());
    // Priority 7 is the hypervisor's, and there is one virtual processor.
    assert_eq!((page(0, 7), page(1, 0)), (None, None));
}

#[test]
fn who_looks_sees_what_the_guest_has_set() {
    let partition = Partition::booted(Quirks::POWER9, 2);
    let view = partition.ipis[1].view(partition.hw);
    assert_eq!(
        (view.target, view.eisn, view.masked, view.pq),
        (
            Some((ServerNumber::new(1), 6)),
            Eisn::new(0x101),
            false,
            Pq::Reset
        )
    );
    partition.trigger(1);
    for _ in 0..2 {
        assert_eq!(partition.ipis[1].view(partition.hw).pq, Pq::Pending);
    }
    let idle = partition.devices[1].view(partition.hw);
    assert_eq!((idle.target, idle.pq), (None, Pq::Off));
    assert_eq!(idle.trigger, Trigger::Level);
    let mut queues = Vec::new();
    for vcpu in &partition.vcpus {
        vcpu.for_each_queue(|queue| queues.push((queue.server.get(), queue.priority, queue.base)));
    }
    let at = |server| GuestReal::new(queue_at(server, 6));
    assert_eq!(queues, [(0, 6, at(0)), (1, 6, at(1))]);
    let context = partition.vcpus[1].view(partition.hw);
    assert_eq!(context.server, ServerNumber::new(1));
    assert!(context.is_pushed);
    assert_eq!(context.girq, partition.vcpus[1].escalation().girq());
}
