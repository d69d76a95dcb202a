// SPDX-License-Identifier: Apache-2.0 OR MIT
//! H_INT_RESET, and starting over.

use super::*;
use crate::esb::Pq;
use crate::fw::FirmwareError;
use crate::source::Level;
use std::vec;

/// The call, made until it needs no other one; how often it was made.
fn reset(p: &Partition) -> Result<u32, HcallError> {
    for calls in 1..100 {
        match p.native().reset(p.hw, p.hw, &p.memory, &p.vcpus[0], 0) {
            Ok(()) => return Ok(calls),
            Err(HcallError::LongBusy) => {}
            Err(error) => return Err(error),
        }
    }
    panic!("the reset does not end");
}

/// That all is as after set-up, as far as a guest can see.
fn check_initial(p: &Partition) {
    let n = p.native();
    for source in n.sources() {
        assert_eq!(source.pq(p.hw), Pq::Off);
        let config = n
            .get_source_config(0, u64::from(source.lisn().get()))
            .unwrap();
        assert_eq!(config.priority, None);
        assert_eq!(config.eisn.get(), source.lisn().get());
    }
    for server in 0..p.vcpus.len() as u64 {
        for priority in 0..7 {
            let config = n.get_queue_config(p.hw, 0, server, priority).unwrap();
            assert_eq!((config.queue, config.always), (None, false));
        }
    }
    for vcpu in &p.vcpus {
        let line = vcpu.lock().line;
        assert!(!matches!(line, vcpu::Line::Set(_)));
    }
}

#[test]
fn a_reset_resets_everything() {
    for quirks in Quirks::ALL {
        let p = Partition::booted(quirks, 3);
        for priority in 0..7 {
            p.set_queue(2, priority, queue_at(2, priority), 12).unwrap();
        }
        let line = [0, 0x4000];
        p.native()
            .set_os_reporting_line(p.hw, p.hw, &p.memory, &p.vcpus[0], line)
            .unwrap();
        p.trigger(0);
        p.native().set_source_config(p.hw, [3, 2, 1, 3, 9]).unwrap();
        // 6 sources, and 3 times 7 queues and a line: 30 steps.
        assert_eq!(reset(&p), Ok(1));
        check_initial(&p);
        assert_eq!(p.memory.pinned(), vec![]);
        assert_eq!(p.hw.report_cl(p.vcpus[0].vp()), 0);
        // And the guest can set it all up again.
        p.set_queue(0, 6, 0x2000, 12).unwrap();
        p.aim(0, 0, 6, 0x10).unwrap();
        p.esb(0, 0xc00);
        p.trigger(0);
        assert_eq!(p.entry(0x2000, 0), EqEntry(0x8000_0010));
    }
}

#[test]
fn a_long_reset_takes_several_calls() {
    let p = Partition::booted(Quirks::POWER9, 4);
    // 6 + 4 * 8 = 38 steps of 32.
    assert_eq!(reset(&p), Ok(2));
    check_initial(&p);
}

#[test]
fn a_reset_goes_on_where_firmware_was_busy() {
    let p = Partition::booted(Quirks::POWER9, 1);
    for _ in 0..9 {
        p.hw.fail("set_queue_info", FirmwareError::BUSY);
    }
    assert_eq!(reset(&p), Ok(2));
    check_initial(&p);
}

#[test]
fn a_reset_that_firmware_refuses_is_over_and_can_be_made_again() {
    let p = Partition::booted(Quirks::POWER9, 1);
    p.hw.fail("set_queue_info", FirmwareError::HARDWARE);
    assert_eq!(reset(&p), Err(HcallError::Hardware));
    // What the hardware may still use is pinned.
    assert_eq!(p.memory.pinned(), vec![(queue_at(0, 6), 0x1000)]);
    assert!(p.native().get_source_info(0, 0).is_ok());
    assert_eq!(reset(&p), Ok(1));
    check_initial(&p);
    assert_eq!(p.memory.pinned(), vec![]);
}

#[test]
fn the_line_of_another_processor_stays_pinned_until_it_is_its_turn() {
    let p = Partition::booted(Quirks::POWER9, 2);
    let n = p.native();
    p.vcpus[1].set_online(true);
    p.hw.run_on(1);
    let set = |line| n.set_os_reporting_line(p.hw, p.hw, &p.memory, &p.vcpus[1], [0, line]);
    set(0x4000).unwrap();
    p.hw.run_on(0);
    reset(&p).unwrap();
    assert_eq!(n.get_os_reporting_line(0, 1), Ok(None));
    assert_eq!(p.memory.pinned(), vec![(0x4000, 0x100)]);
    p.hw.run_on(1);
    set(u64::MAX).unwrap();
    assert_eq!(p.memory.pinned(), vec![]);
    assert_eq!(p.hw.report_cl(p.vcpus[1].vp()), 0);
}

#[test]
fn an_asserted_level_survives_a_reset() {
    let p = Partition::booted(Quirks::POWER9, 1);
    p.devices[1].set_level(p.hw, Level::Asserted);
    reset(&p).unwrap();
    p.set_queue(0, 6, 0x2000, 12).unwrap();
    p.aim(LEVEL, 0, 6, 0x66).unwrap();
    assert_eq!(p.entry(0x2000, 0), EqEntry(0));
    p.native().esb(p.hw, [0, LEVEL, 0xc00, 0]).unwrap();
    assert_eq!(p.entry(0x2000, 0), EqEntry(0x8000_0066));
}

#[test]
fn starting_over_forgets_what_is_pending() {
    for quirks in Quirks::ALL {
        let p = Partition::booted(quirks, 2);
        p.cppr(3);
        p.trigger(0);
        p.trigger(1);
        for (thread, vcpu) in p.vcpus.iter().enumerate() {
            p.hw.run_on(thread);
            vcpu.pull(p.hw, OffThread::Waiting);
        }
        let _ = p
            .native()
            .sources()
            .map(|source| source.raise(p.hw))
            .count();
        p.vcpus[1].set_online(true);
        // In the middle of one of its own.
        *p.state.reset.lock() = 7;
        p.state.resetting.store(true, Ordering::SeqCst);
        p.native().start_over(p.hw, p.hw, &p.memory).unwrap();
        check_initial(&p);
        assert_eq!(p.memory.pinned(), vec![]);
        let status = p.native().get_os_reporting_line(0, 1);
        assert_eq!(status, Err(HcallError::NotAvailable));
        for (thread, vcpu) in p.vcpus.iter().enumerate() {
            p.hw.run_on(thread);
            assert!(!vcpu.pending(p.hw));
            vcpu.push(p.hw);
            assert_eq!(vcpu.tima.os_ring(p.hw).cppr().get(), 0);
            p.cppr(0xff);
            assert!(!p.hw.line(), "{quirks:?}");
            assert_eq!(p.acknowledge(), None);
        }
    }
}
