// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The XICS calls one by one, with literal values.

use super::*;
use crate::HcallError;
use crate::esb::Pq;
use crate::source::Level;

#[test]
fn self_ipi_as_linux_sends_it() {
    for quirks in Quirks::ALL {
        let guest = Partition::booted(quirks);
        assert!(!guest.hw.line());
        guest.ipi(0, 0, 4);
        assert!(guest.hw.line());
        assert_eq!(guest.xirr(0), 0xff00_0002);
        assert!(!guest.hw.line());
        guest.ipi(0, 0, 0xff);
        assert_eq!(guest.eoi(0, 0xff00_0002), Ok(()));
        assert!(!guest.hw.line());
        assert_eq!(guest.xirr(0), 0xff00_0000);
    }
}

#[test]
fn hot_calls_make_few_accesses_and_no_firmware_call() {
    let guest = Partition::booted(Quirks::POWER9);
    let cost = |call: &dyn Fn()| {
        let before = guest.hw.mmio_accesses();
        call();
        guest.hw.mmio_accesses() - before
    };
    assert_eq!(cost(&|| guest.servers[0].h_cppr(&guest.hw, 0xff)), 1);
    assert_eq!(cost(&|| guest.ipi(0, 0, 4)), 1);
    assert_eq!(cost(&|| assert_eq!(guest.xirr(0), 0xff00_0002)), 1);
    assert_eq!(cost(&|| guest.ipi(0, 0, 0xff)), 0);
    assert_eq!(cost(&|| assert_eq!(guest.eoi(0, 0xff00_0002), Ok(()))), 1);
    assert!(guest.hw.take_calls().is_empty());
}

#[test]
fn a_new_vcpu_has_cppr_0_and_gets_nothing() {
    for quirks in Quirks::ALL {
        let guest = Partition::new(quirks, 1, 1);
        guest.set_xive(FIRST, 0, 0);
        guest.trigger(FIRST);
        guest.servers[0].push(&guest.hw);
        guest.ipi(0, 0, 0);
        assert!(quirks.keeps_line_on_cppr_drop || !guest.hw.line());
        assert_eq!(guest.xirr(0), 0);
        assert!(!guest.hw.line());
        guest.servers[0].h_cppr(&guest.hw, 1);
        assert!(guest.hw.line());
        assert_ne!(guest.xirr(0) & 0xff_ffff, 0);
    }
}

#[test]
fn device_interrupt_from_trigger_to_end() {
    let guest = Partition::booted(Quirks::POWER9);
    let girq = guest.slots[0].girq();
    guest.trigger(FIRST);
    assert!(guest.hw.line());
    assert_eq!(guest.hw.pq(girq), Pq::Pending);
    assert_eq!(guest.xirr(0), 0xff00_1000);
    // While it is in service a second event waits, for the end of the first.
    guest.trigger(FIRST);
    assert!(!guest.hw.line());
    assert_eq!(guest.xirr(0), 0x0500_0000);
    assert_eq!(guest.eoi(0, 0xff00_1000), Ok(()));
    assert!(guest.hw.line());
    assert_eq!(guest.xirr(0), 0xff00_1000);
    assert_eq!(guest.eoi(0, 0xff00_1000), Ok(()));
    assert!(!guest.hw.line());
    assert_eq!(guest.hw.pq(girq), Pq::Reset);
}

#[test]
fn more_favoured_ipi_interrupts_a_handler_and_returns_to_its_priority() {
    let guest = Partition::booted(Quirks::POWER9);
    guest.trigger(FIRST);
    assert_eq!(guest.xirr(0), 0xff00_1000);
    guest.ipi(0, 0, 5);
    assert!(!guest.hw.line(), "equal priority does not interrupt");
    guest.ipi(0, 0, 4);
    assert!(guest.hw.line());
    assert_eq!(guest.xirr(0), 0x0500_0002);
    guest.ipi(0, 0, 0xff);
    assert_eq!(guest.eoi(0, 0x0500_0002), Ok(()));
    assert_eq!(guest.eoi(0, 0xff00_1000), Ok(()));
    assert!(!guest.hw.line());
}

#[test]
fn device_beats_less_favoured_ipi_and_the_ipi_is_not_lost() {
    let guest = Partition::booted(Quirks::POWER9);
    guest.set_xive(FIRST, 0, 3);
    guest.ipi(0, 0, 4);
    guest.trigger(FIRST);
    assert_eq!(guest.xirr(0), 0xff00_1000);
    assert!(!guest.hw.line());
    assert_eq!(guest.eoi(0, 0xff00_1000), Ok(()));
    assert!(guest.hw.line());
    assert_eq!(guest.xirr(0), 0xff00_0002);
}

#[test]
fn mfrr_survives_until_the_cppr_lets_it_through() {
    let guest = Partition::booted(Quirks::POWER9);
    guest.servers[0].h_cppr(&guest.hw, 3);
    guest.ipi(0, 0, 4);
    assert!(!guest.hw.line());
    guest.servers[0].h_cppr(&guest.hw, 5);
    assert!(guest.hw.line());
    assert_eq!(guest.xirr(0), 0x0500_0002);
}

#[test]
fn mfrr_0_is_delivered_and_masked_by_cppr_0_only() {
    for vcpus in [1, 2] {
        let guest = Partition::new(Quirks::POWER9, vcpus, 1);
        let to = vcpus as usize - 1;
        for server in 0..vcpus as usize {
            guest.hw.run_on(server);
            guest.servers[server].push(&guest.hw);
        }
        guest.hw.run_on(0);
        guest.ipi(0, to as u64, 0);
        guest.hw.run_on(to);
        assert!(!guest.hw.line());
        guest.servers[to].h_cppr(&guest.hw, 1);
        assert!(guest.hw.line());
        assert_eq!(guest.xirr(to), 0x0100_0002);
        guest.ipi(to, to as u64, 0xff);
        assert_eq!(guest.eoi(to, 0x0100_0002), Ok(()));
        assert!(!guest.hw.line());
    }
}

#[test]
fn ipi_to_another_vcpu_reaches_it_pushed_and_pulled() {
    for quirks in Quirks::ALL {
        let guest = Partition::new(quirks, 2, 0);
        guest.servers[0].push(&guest.hw);
        guest.hw.run_on(1);
        guest.servers[1].push(&guest.hw);
        guest.servers[1].h_cppr(&guest.hw, 0xff);
        guest.hw.run_on(0);
        guest.ipi(0, 1, 4);
        assert!(!guest.hw.line());
        guest.hw.run_on(1);
        assert!(guest.hw.line());
        assert_eq!(guest.xirr(1), 0xff00_0002);
        guest.ipi(1, 1, 0xff);
        assert_eq!(guest.eoi(1, 0xff00_0002), Ok(()));

        guest.servers[1].pull(&guest.hw);
        assert!(!guest.servers[1].pending(&guest.hw));
        guest.hw.run_on(0);
        guest.ipi(0, 1, 4);
        assert!(guest.servers[1].pending(&guest.hw));
        guest.hw.run_on(1);
        guest.servers[1].push(&guest.hw);
        assert!(guest.hw.line());
        assert!(guest.servers[1].pending(&guest.hw));
        assert_eq!(guest.xirr(1), 0xff00_0002);
    }
}

#[test]
fn ipi_of_priority_0_from_another_vcpu_interrupts_once() {
    let guest = Partition::new(Quirks::POWER9, 2, 0);
    guest.hw.run_on(1);
    guest.servers[1].push(&guest.hw);
    guest.servers[1].h_cppr(&guest.hw, 0xff);
    guest.hw.run_on(0);
    guest.servers[0].push(&guest.hw);
    guest.ipi(0, 1, 0);
    guest.hw.run_on(1);
    assert_eq!(guest.xirr(1), 0xff00_0002);
    guest.ipi(1, 1, 0xff);
    assert_eq!(guest.eoi(1, 0xff00_0002), Ok(()));
    assert!(!guest.hw.line(), "the announcement is still in the queue");
}

#[test]
fn priority_that_no_queue_has_is_taken_and_forgotten() {
    let guest = Partition::booted(Quirks::POWER9);
    guest
        .hw
        .tima()
        .set_os_pending(&guest.hw, crate::Priority::new(7).unwrap());
    assert!(guest.hw.line());
    assert_eq!(guest.xirr(0), 0xff00_0000);
    assert!(!guest.hw.line());
    guest.servers[0].h_cppr(&guest.hw, 0);
    guest.servers[0].h_cppr(&guest.hw, 0xff);
    assert!(!guest.hw.line());
}

#[test]
fn ipi_taken_back_is_a_spurious_interrupt_that_changes_nothing() {
    for quirks in Quirks::ALL {
        let guest = Partition::booted(quirks);
        guest.ipi(0, 0, 4);
        guest.ipi(0, 0, 0xff);
        assert_eq!(guest.xirr(0), 0xff00_0000);
        assert!(!guest.hw.line());
        assert_eq!(guest.xirr(0), 0xff00_0000);
        guest.trigger(FIRST);
        assert_eq!(guest.xirr(0), 0xff00_1000);
    }
}

#[test]
fn line_that_stays_up_after_a_cppr_drop_loses_nothing() {
    let guest = Partition::booted(Quirks::QEMU_10_0_POWER9);
    guest.trigger(FIRST);
    guest.servers[0].h_cppr(&guest.hw, 2);
    assert!(guest.hw.line(), "the model has the quirk");
    assert_eq!(guest.xirr(0), 0x0200_0000);
    assert!(!guest.hw.line());
    guest.servers[0].h_cppr(&guest.hw, 0xff);
    assert!(guest.hw.line());
    assert_eq!(guest.xirr(0), 0xff00_1000);
}

#[test]
fn eoi_is_checked_as_lopar_says() {
    let guest = Partition::booted(Quirks::POWER9);
    assert_eq!(guest.eoi(0, 0xff00_0000), Err(HcallError::Parameter));
    assert_eq!(guest.eoi(0, 0xff00_0001), Err(HcallError::Parameter));
    assert_eq!(guest.eoi(0, 0xff00_1002), Err(HcallError::Parameter));
    assert_eq!(guest.eoi(0, 0xffff_ffff), Err(HcallError::Parameter));
    guest.trigger(FIRST);
    assert_eq!(guest.xirr(0), 0xff00_1000);
    assert_eq!(
        guest.eoi(0, 0x0400_1000),
        Err(HcallError::Parameter),
        "more favoured than 5"
    );
    assert_eq!(
        guest.hw.pq(guest.slots[0].girq()),
        Pq::Pending,
        "and nothing has happened"
    );
    assert_eq!(guest.eoi(0, 0x0500_1000), Ok(()), "equal is legal");
}

#[test]
fn eoi_of_an_interrupt_not_in_service_leaves_its_event_alone() {
    let guest = Partition::booted(Quirks::POWER9);
    guest.trigger(FIRST);
    assert_eq!(guest.eoi(0, 0xff00_1000), Ok(()));
    assert_eq!(guest.hw.pq(guest.slots[0].girq()), Pq::Pending);
    assert_eq!(guest.xirr(0), 0xff00_1000);
}

#[test]
fn unknown_servers_are_h_parameter() {
    let guest = Partition::booted(Quirks::POWER9);
    let (hw, servers) = (&guest.hw, guest.servers.as_slice());
    for server in [1, 0x1_0000_0000, u64::MAX] {
        assert_eq!(
            servers[0].h_ipi(hw, servers, server, 4),
            Err(HcallError::Parameter)
        );
        let poll = servers[0].h_ipoll(hw, servers, guest.sources(), server);
        assert_eq!(poll, Err(HcallError::Parameter));
    }
}

#[test]
fn only_the_low_bytes_of_registers_count() {
    let guest = Partition::booted(Quirks::POWER9);
    guest.servers[0].h_cppr(&guest.hw, 0xdead_beef_0000_0103);
    assert_eq!(guest.xirr(0), 0x0300_0000);
    let servers = guest.servers.as_slice();
    assert_eq!(servers[0].h_ipi(&guest.hw, servers, 0, 0xffff_ff02), Ok(()));
    assert_eq!(guest.xirr(0), 0x0300_0002);
    let eoi = servers[0].h_eoi(&guest.hw, guest.sources(), 0x7777_7777_0300_0002);
    assert_eq!(eoi, Ok(()));
}

#[test]
fn ipoll_shows_the_interrupt_and_takes_nothing() {
    let guest = Partition::booted(Quirks::POWER9);
    let poll = || {
        let servers = guest.servers.as_slice();
        let poll = servers[0]
            .h_ipoll(&guest.hw, servers, guest.sources(), 0)
            .unwrap();
        (poll.xirr.get(), poll.mfrr)
    };
    assert_eq!(poll(), (0xff00_0000, 0xff));
    guest.trigger(FIRST);
    assert_eq!(poll(), (0xff00_1000, 0xff));
    guest.ipi(0, 0, 4);
    assert_eq!(poll(), (0xff00_0002, 4));
    guest.servers[0].h_cppr(&guest.hw, 4);
    assert_eq!(poll(), (0x0400_0000, 4));
    guest.servers[0].h_cppr(&guest.hw, 0xff);
    assert_eq!(guest.xirr(0), 0xff00_0002);
}

#[test]
fn xirr_x_adds_the_timebase() {
    let guest = Partition::booted(Quirks::POWER9);
    guest.trigger(FIRST);
    let stamped = guest.servers[0].h_xirr_x(&guest.hw, guest.sources(), 0x1234_5678_9abc);
    assert_eq!(stamped.xirr.get(), 0xff00_1000);
    assert_eq!(stamped.xirr.xisr(), FIRST);
    assert_eq!(stamped.timestamp, 0x1234_5678_9abc);
}

#[test]
fn level_interrupt_comes_again_until_the_level_falls() {
    let guest = Partition::booted(Quirks::POWER9);
    let lisn = FIRST + 1;
    let set = |level| guest.sources().set_level(&guest.hw, Lisn::new(lisn), level);
    guest.set_xive(lisn, 0, 5);
    set(Level::Asserted);
    for _ in 0..3 {
        assert!(guest.hw.line());
        assert_eq!(guest.xirr(0), 0xff00_1001);
        assert_eq!(guest.eoi(0, 0xff00_1001), Ok(()));
    }
    assert_eq!(guest.xirr(0), 0xff00_1001);
    set(Level::Deasserted);
    assert_eq!(guest.eoi(0, 0xff00_1001), Ok(()));
    assert!(!guest.hw.line());
    // A level that falls before it is seen is a spurious interrupt.
    set(Level::Asserted);
    set(Level::Deasserted);
    assert_eq!(guest.xirr(0), 0xff00_0000);
    set(Level::Asserted);
    assert_eq!(guest.xirr(0), 0xff00_1001);
}

#[test]
fn context_that_is_pulled_leaves_nothing_in_the_thread() {
    for quirks in Quirks::ALL {
        let guest = Partition::new(quirks, 2, 1);
        guest.set_xive(FIRST, 0, 5);
        let [first, second] = guest.servers.as_slice() else {
            panic!()
        };
        first.push(&guest.hw);
        first.h_cppr(&guest.hw, 0xff);
        guest.trigger(FIRST);
        first.pull(&guest.hw);
        assert!(!guest.hw.line());
        second.push(&guest.hw);
        second.h_cppr(&guest.hw, 0xff);
        assert!(!guest.hw.line(), "inherited from the first: {quirks:?}");
        second.pull(&guest.hw);
        first.push(&guest.hw);
        assert!(guest.hw.line(), "lost by the first: {quirks:?}");
        assert_eq!(guest.xirr(0), 0xff00_1000);
    }
}

#[test]
fn pending_tells_what_would_be_presented_pushed_or_pulled() {
    for quirks in Quirks::ALL {
        let guest = Partition::booted(quirks);
        let vcpu = &guest.servers[0];
        assert!(!vcpu.pending(&guest.hw));
        guest.trigger(FIRST);
        assert!(vcpu.pending(&guest.hw));
        vcpu.pull(&guest.hw);
        assert!(vcpu.pending(&guest.hw));
        vcpu.push(&guest.hw);
        vcpu.h_cppr(&guest.hw, 5);
        assert!(!vcpu.pending(&guest.hw));
        guest.ipi(0, 0, 4);
        assert!(vcpu.pending(&guest.hw));
        guest.ipi(0, 0, 0xff);
        vcpu.pull(&guest.hw);
        assert!(!vcpu.pending(&guest.hw));
    }
}

#[test]
fn reset_forgets_everything() {
    for quirks in Quirks::ALL {
        let guest = Partition::booted(quirks);
        guest.trigger(FIRST);
        guest.ipi(0, 0, 4);
        assert_eq!(guest.xirr(0), 0xff00_0002);
        guest.servers[0].pull(&guest.hw);
        guest.sources().reset(&guest.hw, &guest.hw).unwrap();
        guest.servers[0].reset(&guest.hw);
        guest.servers[0].push(&guest.hw);
        assert_eq!(guest.xirr(0), 0);
        guest.servers[0].h_cppr(&guest.hw, 0xff);
        assert!(!guest.hw.line());
        assert_eq!(guest.xirr(0), 0xff00_0000);
        let xive = guest.sources().get_xive(FIRST).unwrap();
        assert_eq!((xive.server.get(), xive.priority), (0, 0xff));
        guest.set_xive(FIRST, 0, 5);
        assert!(!guest.hw.line());
        guest.trigger(FIRST);
        assert_eq!(guest.xirr(0), 0xff00_1000);
    }
}
