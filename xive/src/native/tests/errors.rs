// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Every row of LoPAR's error tables, in LoPAR's order: in each row all that is checked later is
//! wrong too.

use super::*;
use crate::fw::FirmwareError;

type Row<const N: usize> = ([u64; N], Result<(), HcallError>);

/// Reserved flags, each alone; the bits that a call defines are not among them.
fn reserved(defined: u64) -> impl Iterator<Item = u64> {
    (0..64)
        .map(|bit| 1 << bit)
        .filter(move |flag| flag & defined == 0)
}

fn check<const N: usize>(rows: &[Row<N>], call: impl Fn([u64; N]) -> Result<(), HcallError>) {
    for (arguments, expected) in rows {
        assert_eq!(call(*arguments), *expected, "{arguments:x?}");
    }
}

const ALL: u64 = u64::MAX;

#[test]
fn get_source_info_rows() {
    let p = Partition::booted(Quirks::POWER9, 2);
    let call = |[flags, lisn]: [u64; 2]| p.native().get_source_info(flags, lisn).map(|_| ());
    for flag in reserved(0) {
        assert_eq!(call([flag, ALL]), Err(HcallError::Parameter));
    }
    check(
        &[
            ([0, u64::from(IPIS)], Err(HcallError::P2)),
            ([0, 0xfff], Err(HcallError::P2)),
            ([0, EDGE + u64::from(DEVICES)], Err(HcallError::P2)),
            ([0, 0x2000], Err(HcallError::P2)),
            ([0, 1 << 32], Err(HcallError::P2)),
            ([0, ALL], Err(HcallError::P2)),
            ([0, 0], Ok(())),
            ([0, u64::from(IPIS) - 1], Ok(())),
            ([0, LEVEL], Ok(())),
        ],
        call,
    );
}

#[test]
fn set_source_config_rows() {
    let p = Partition::booted(Quirks::POWER9, 2);
    let call = |arguments| p.native().set_source_config(p.hw, arguments);
    for flag in reserved(3) {
        assert_eq!(call([flag, ALL, ALL, ALL, ALL]), Err(HcallError::Parameter));
    }
    check(
        &[
            ([2, 0x2000, ALL, ALL, ALL], Err(HcallError::P2)),
            ([2, 1 << 32, ALL, ALL, ALL], Err(HcallError::P2)),
            ([2, 0, 2, ALL, ALL], Err(HcallError::P3)),
            ([2, 0, 1 << 32, ALL, ALL], Err(HcallError::P3)),
            ([2, 0, 1, 7, ALL], Err(HcallError::P4)),
            ([2, 0, 1, 8, ALL], Err(HcallError::P4)),
            ([2, 0, 1, 0xfe, ALL], Err(HcallError::P4)),
            ([2, 0, 1, 0x1_0000_0006, ALL], Err(HcallError::P4)),
            // Only 0xff aims nowhere.
            ([2, 0, 1, 0x1ff, ALL], Err(HcallError::P4)),
            ([2, 0, 1, 0, 0x8000_0000], Err(HcallError::P5)),
            ([2, 0, 1, 0, ALL], Err(HcallError::P5)),
            // Without the flag nobody looks at it.
            ([0, 0, 1, 0, ALL], Ok(())),
            ([3, 0, 1, 6, 0x7fff_ffff], Ok(())),
            // Target and EISN mean nothing then.
            ([0, 0, ALL, 0xff, ALL], Ok(())),
            ([3, 0, ALL, 0xff, ALL], Ok(())),
        ],
        call,
    );
}

#[test]
fn get_source_config_and_sync_rows() {
    let p = Partition::booted(Quirks::POWER9, 2);
    let get = |[flags, lisn]: [u64; 2]| p.native().get_source_config(flags, lisn).map(|_| ());
    let sync = |[flags, lisn]: [u64; 2]| p.native().sync(p.hw, flags, lisn);
    for flag in reserved(0) {
        assert_eq!(get([flag, ALL]), Err(HcallError::Parameter));
        assert_eq!(sync([flag, ALL]), Err(HcallError::Parameter));
    }
    let rows = [
        ([0, 4], Err(HcallError::P2)),
        ([0, ALL], Err(HcallError::P2)),
        ([0, 3], Ok(())),
        ([0, LEVEL], Ok(())),
    ];
    check(&rows, get);
    check(&rows, sync);
}

#[test]
fn get_queue_info_and_config_rows() {
    let p = Partition::booted(Quirks::POWER9, 2);
    let info = |[flags, target, priority]: [u64; 3]| {
        p.native()
            .get_queue_info(flags, target, priority)
            .map(|_| ())
    };
    let config = |[flags, target, priority]: [u64; 3]| {
        p.native()
            .get_queue_config(p.hw, flags, target, priority)
            .map(|_| ())
    };
    for flag in reserved(0) {
        assert_eq!(info([flag, ALL, ALL]), Err(HcallError::Parameter));
    }
    for flag in reserved(1) {
        assert_eq!(config([flag, ALL, ALL]), Err(HcallError::Parameter));
    }
    let rows = [
        ([0, 2, ALL], Err(HcallError::P2)),
        ([0, 1 << 32, ALL], Err(HcallError::P2)),
        ([0, 1, 7], Err(HcallError::P3)),
        ([0, 1, 0xff], Err(HcallError::P3)),
        ([0, 1, 0x100], Err(HcallError::P3)),
        ([0, 1, ALL], Err(HcallError::P3)),
        ([0, 1, 0], Ok(())),
        ([0, 0, 6], Ok(())),
    ];
    check(&rows, info);
    check(&rows, config);
    check(&[([1, 0, 6], Ok(()))], config);
}

#[test]
fn set_queue_config_rows() {
    let p = Partition::booted(Quirks::POWER9, 2);
    let call = |arguments| p.native().set_queue_config(p.hw, &p.memory, arguments);
    let before = p.memory.pinned();
    for flag in reserved(1) {
        assert_eq!(call([flag, ALL, ALL, ALL, ALL]), Err(HcallError::Parameter));
    }
    check(
        &[
            ([1, 2, ALL, ALL, ALL], Err(HcallError::P2)),
            ([1, 1, 7, ALL, ALL], Err(HcallError::P3)),
            ([1, 1, 0xff, ALL, ALL], Err(HcallError::P3)),
            ([1, 1, 0, ALL, 11], Err(HcallError::P5)),
            ([1, 1, 0, ALL, 13], Err(HcallError::P5)),
            ([1, 1, 0, ALL, 20], Err(HcallError::P5)),
            ([1, 1, 0, ALL, 0x1_0000_000c], Err(HcallError::P5)),
            ([1, 1, 0, ALL, ALL], Err(HcallError::P5)),
            ([1, 1, 0, 0x800, 12], Err(HcallError::P4)),
            ([1, 1, 0, 0x1000, 16], Err(HcallError::P4)),
            ([1, 1, 0, 0x10_0000, 21], Err(HcallError::P4)),
            ([1, 1, 0, 0x80_0000, 24], Err(HcallError::P4)),
            // Beyond the memory, in a device's page, and around the end of the address space.
            ([1, 1, 0, RAM, 12], Err(HcallError::P4)),
            ([1, 1, 0, RAM, 24], Err(HcallError::P4)),
            ([1, 1, 0, window::ESB_BASE, 16], Err(HcallError::P4)),
            ([1, 1, 0, ALL - 0xfff, 12], Err(HcallError::P4)),
            // Nobody looks at the address of a reset.
            ([1, 1, 0, ALL, 0], Ok(())),
        ],
        call,
    );
    assert_eq!(p.memory.pinned(), before);
    check(
        &[
            ([1, 1, 0, RAM - 0x1000, 12], Ok(())),
            ([1, 1, 1, 0x3_0000, 16], Ok(())),
            ([1, 1, 2, 0x20_0000, 21], Ok(())),
            ([1, 1, 3, RAM - 0x100_0000, 24], Ok(())),
            // Two queues in one place are the guest's own trouble.
            ([0, 1, 4, RAM - 0x1000, 12], Ok(())),
        ],
        call,
    );
}

#[test]
fn reporting_line_rows() {
    let p = Partition::booted(Quirks::POWER9, 2);
    let set = |arguments| {
        p.native()
            .set_os_reporting_line(p.hw, p.hw, &p.memory, &p.vcpus[0], arguments)
    };
    let get =
        |[flags, target]: [u64; 2]| p.native().get_os_reporting_line(flags, target).map(|_| ());
    for flag in reserved(0) {
        assert_eq!(set([flag, 1]), Err(HcallError::Parameter));
        assert_eq!(get([flag, ALL]), Err(HcallError::Parameter));
    }
    check(
        &[
            ([0, 0x1080], Err(HcallError::P2)),
            ([0, 1], Err(HcallError::P2)),
            ([0, ALL - 1], Err(HcallError::P2)),
            ([0, RAM], Err(HcallError::P2)),
            ([0, ALL - 0xff], Err(HcallError::P2)),
            ([0, RAM - 0x100], Ok(())),
            ([0, 0], Ok(())),
            ([0, ALL], Ok(())),
        ],
        set,
    );
    check(
        &[
            ([0, 2], Err(HcallError::P2)),
            ([0, 1 << 32], Err(HcallError::P2)),
            ([0, 1], Err(HcallError::NotAvailable)),
            ([0, 0], Ok(())),
        ],
        get,
    );
    p.vcpus[1].set_online(true);
    check(&[([0, 1], Ok(()))], get);
    assert!(p.memory.pinned().iter().all(|(_, bytes)| *bytes != 256));
}

#[test]
fn esb_rows() {
    let p = Partition::booted(Quirks::POWER9, 2);
    let call = |arguments| p.native().esb(p.hw, arguments).map(|_| ());
    for flag in reserved(1) {
        assert_eq!(call([flag, ALL, ALL, ALL]), Err(HcallError::Parameter));
    }
    check(
        &[
            ([0, 4, ALL, ALL], Err(HcallError::P2)),
            ([1, 0x2000, ALL, ALL], Err(HcallError::P2)),
            ([0, 0, 0x1000, ALL], Err(HcallError::P3)),
            ([0, 0, 0x801, ALL], Err(HcallError::P3)),
            ([0, 0, 0xc04, ALL], Err(HcallError::P3)),
            ([0, 0, ALL, ALL], Err(HcallError::P3)),
            ([1, 0, 0x400, ALL], Err(HcallError::P3)),
            ([1, 0, 0xc00, ALL], Err(HcallError::P3)),
            ([1, LEVEL, 0, ALL], Err(HcallError::P3)),
            ([1, 0, 0, ALL], Ok(())),
            ([0, 0, 0, ALL], Ok(())),
            ([0, LEVEL, 0x800, ALL], Ok(())),
        ],
        call,
    );
}

#[test]
fn everything_is_h_state_while_a_reset_is_not_finished() {
    let p = Partition::booted(Quirks::POWER9, 2);
    for _ in 0..9 {
        p.hw.fail("set_irq_config", FirmwareError::BUSY);
    }
    let n = p.native();
    let reset = |flags| n.reset(p.hw, p.hw, &p.memory, &p.vcpus[0], flags);
    for flag in reserved(0) {
        assert_eq!(reset(flag), Err(HcallError::Parameter));
    }
    assert_eq!(reset(0), Err(HcallError::LongBusy));
    let state = Err(HcallError::State);
    assert_eq!(n.get_source_info(0, ALL).map(|_| ()), state);
    assert_eq!(n.set_source_config(p.hw, [0, ALL, 0, 0, 0]), state);
    assert_eq!(n.get_source_config(0, ALL).map(|_| ()), state);
    assert_eq!(n.get_queue_info(0, ALL, 0).map(|_| ()), state);
    assert_eq!(
        n.set_queue_config(p.hw, &p.memory, [0, ALL, 0, 0, 0]),
        state
    );
    assert_eq!(n.get_queue_config(p.hw, 0, ALL, 0).map(|_| ()), state);
    let line = [0, 1];
    assert_eq!(
        n.set_os_reporting_line(p.hw, p.hw, &p.memory, &p.vcpus[0], line),
        state
    );
    assert_eq!(n.get_os_reporting_line(0, ALL).map(|_| ()), state);
    assert_eq!(n.esb(p.hw, [0, ALL, 0, 0]).map(|_| ()), state);
    assert_eq!(n.sync(p.hw, 0, ALL), state);
    // Flags come first all the same.
    assert_eq!(n.sync(p.hw, 8, ALL), Err(HcallError::Parameter));
    // Another virtual processor may go on with it.
    let second = n.reset(p.hw, p.hw, &p.memory, &p.vcpus[1], 0);
    assert_eq!(second, Ok(()));
    assert!(n.get_source_info(0, 0).is_ok());
}

#[test]
fn a_reset_that_another_thread_is_at_is_h_state() {
    let p = Partition::booted(Quirks::POWER9, 2);
    let held = p.state.reset.lock();
    let n = p.native();
    let reset = || n.reset(p.hw, p.hw, &p.memory, &p.vcpus[0], 0);
    assert_eq!(reset(), Err(HcallError::State));
    drop(held);
    assert_eq!(reset(), Ok(()));
}

#[test]
fn a_busy_firmware_is_tried_for_a_while_and_changes_nothing() {
    let p = Partition::booted(Quirks::POWER9, 1);
    let config = |p: &Partition| p.native().get_source_config(0, 1).unwrap();
    let before = config(&p);
    for _ in 0..9 {
        p.hw.fail("set_irq_config", FirmwareError::BUSY_EVENT);
    }
    assert_eq!(p.aim(1, 0, 6, 0x55), Err(HcallError::LongBusy));
    assert_eq!(config(&p), before);
    assert_eq!(p.hw.waits(), 8);
    // Eight times are not too many.
    for _ in 0..8 {
        p.hw.fail("set_irq_config", FirmwareError::BUSY);
    }
    assert_eq!(p.aim(1, 0, 6, 0x55), Ok(()));
    assert_eq!(config(&p).eisn, Eisn::new(0x55));
}

#[test]
fn a_firmware_that_refuses_is_h_hardware_and_changes_nothing() {
    let p = Partition::booted(Quirks::POWER9, 1);
    let pinned = p.memory.pinned();
    p.hw.fail("set_irq_config", FirmwareError::HARDWARE);
    assert_eq!(p.aim(1, 0, 6, 0x55), Err(HcallError::Hardware));
    assert_eq!(p.native().get_source_config(0, 1).unwrap().priority, None);
    p.hw.fail("set_queue_info", FirmwareError::PARAMETER);
    assert_eq!(p.set_queue(0, 5, 0x2000, 12), Err(HcallError::Hardware));
    assert_eq!(
        p.native().get_queue_config(p.hw, 0, 0, 5).unwrap().queue,
        None
    );
    p.hw.fail("set_vp_info", FirmwareError::HARDWARE);
    let line = p
        .native()
        .set_os_reporting_line(p.hw, p.hw, &p.memory, &p.vcpus[0], [0, 0x4000]);
    assert_eq!(line, Err(HcallError::Hardware));
    assert_eq!(p.native().get_os_reporting_line(0, 0), Ok(None));
    assert!(p.vcpus[0].is_pushed());
    p.hw.fail("sync", FirmwareError::HARDWARE);
    assert_eq!(p.native().sync(p.hw, 0, 0), Err(HcallError::Hardware));
    p.hw.fail("get_queue_state", FirmwareError::HARDWARE);
    let debug = p.native().get_queue_config(p.hw, 1, 0, 6);
    assert_eq!(debug, Err(HcallError::Hardware));
    assert_eq!(p.memory.pinned(), pinned);
}
