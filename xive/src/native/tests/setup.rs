// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Making and unmaking.

use super::*;
use crate::SetupError;
use crate::esb::Pq;
use crate::fw::FirmwareError;

fn block(hw: &FakeXive) -> VpBlock {
    VpBlock::allocate(hw, &[], &mut no_frames, 0).unwrap()
}

#[test]
fn sources_and_escalations_are_off_at_first() {
    let p = Partition::new(Quirks::POWER9, 2);
    for source in p.native().sources() {
        assert_eq!(source.pq(p.hw), Pq::Off);
        assert_eq!(source.target(), None);
    }
    for vcpu in &p.vcpus {
        assert_eq!(p.hw.escalation_pq(vcpu.escalation().girq()), Pq::Off);
        assert!(!vcpu.is_pushed() && !vcpu.pending(p.hw));
    }
}

#[test]
fn an_event_never_meets_a_queue_that_is_off() {
    // The model panics otherwise.
    let p = Partition::new(Quirks::POWER9, 1);
    for priority in 0..7 {
        p.aim(0, 0, priority, 1).unwrap();
        p.esb(0, 0xc00);
        p.trigger(0);
    }
    p.vcpus[0].push(p.hw);
    p.cppr(0xff);
    for priority in 0..7 {
        assert_eq!(p.acknowledge(), Some(priority));
        p.cppr(0xff);
    }
}

#[test]
fn everything_is_given_back() {
    for quirks in Quirks::ALL {
        let mut p = Partition::booted(quirks, 2);
        let line = [0, 0x4000];
        p.native()
            .set_os_reporting_line(p.hw, p.hw, &p.memory, &p.vcpus[0], line)
            .unwrap();
        p.trigger(0);
        for (thread, vcpu) in p.vcpus.iter().enumerate() {
            p.hw.run_on(thread);
            vcpu.pull(p.hw, OffThread::Waiting);
        }
        for source in p.ipis.drain(..).chain(p.devices.drain(..)) {
            source.tear_down(p.hw, p.hw).unwrap();
        }
        for vcpu in p.vcpus.drain(..) {
            vcpu.tear_down(p.hw, p.hw).unwrap();
        }
        p.block.free(p.hw).unwrap();
        assert_eq!(p.hw.allocated(), (0, 0));
    }
}

#[test]
fn a_set_up_that_fails_leaves_nothing_behind() {
    for (call, nth) in [
        ("set_vp_info", 0),
        ("get_queue_info", 0),
        ("get_queue_info", 6),
        ("get_irq_info", 3),
        ("set_queue_info", 0),
        ("set_queue_info", 6),
        ("set_irq_config", 0),
        ("get_vp_info", 0),
    ] {
        let hw = FakeXive::new(1, Quirks::POWER9);
        let block = block(&hw);
        let setup = setup_of(&hw, &block, 0);
        // What comes before it takes its turn in the list.
        for _ in 0..nth {
            hw.fail(call, FirmwareError::BUSY);
        }
        hw.fail(call, FirmwareError::HARDWARE);
        let error = NativeVcpu::set_up(&hw, &hw, &setup).unwrap_err();
        assert_eq!(
            error,
            SetupError::Firmware(FirmwareError::HARDWARE),
            "{call}"
        );
        block.free(&hw).unwrap();
        assert_eq!(hw.allocated(), (0, 0));
    }
    let hw = FakeXive::new(1, Quirks::POWER9);
    let block = block(&hw);
    let vp = block.vp(0).unwrap();
    hw.fail("get_irq_info", FirmwareError::HARDWARE);
    let source = NativeSource::set_up(&hw, &hw, Lisn::new(0), Trigger::Edge, vp, None);
    assert!(source.is_err());
    block.free(&hw).unwrap();
    assert_eq!(hw.allocated(), (0, 0));
}

#[test]
fn reserved_priorities_are_what_the_calls_refuse() {
    let [first, count] = RESERVED_PRIORITIES;
    assert_eq!([first, count], [7, 0xf8]);
    for priority in 0..=0xfe {
        let allowed = allowed_priority(u64::from(priority)).is_some();
        assert_eq!(allowed, !(first..first + count).contains(&priority));
    }
}

#[test]
fn another_thread_can_be_told() {
    let p = Partition::booted(Quirks::POWER9, 2);
    let target = EscalationTarget {
        vp: crate::VpId::new(1),
        priority: Priority::new(3).unwrap(),
        eisn: Eisn::new(0),
    };
    p.vcpus[0].set_escalation_target(p.hw, target).unwrap();
    p.vcpus[0].pull(p.hw, OffThread::Waiting);
    p.trigger(0);
    assert_eq!(p.hw.take_host_event(), Some((1, 3)));
}
