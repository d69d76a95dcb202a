// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The XICS calls on a model of the interrupt controller (LoPAR, Interrupt Controller).

use super::*;
use crate::platform::Platform;
use crate::processor::Start;
use crate::testing::{FakePlatform, RigOptions, set_timebase, take_rings};
use penstock_arch::addr::GuestReal;
use penstock_xive::Level;

const EOI: u64 = 0x64;
const CPPR: u64 = 0x68;
const IPI: u64 = 0x6c;
const IPOLL: u64 = 0x70;
const XIRR: u64 = 0x74;
const XIRR_X: u64 = 0x2fc;

fn pending(rig: &Rig) -> bool {
    rig.vcpu.presenter.pending(&FakePlatform::interrupts())
}

#[test]
fn an_ipi_goes_round() {
    let mut rig = Rig::new();
    rig.call(CPPR, &[0xff], H_SUCCESS, []);
    assert!(!pending(&rig) && !rig.xive.line());
    rig.call(IPI, &[0, 4], H_SUCCESS, []);
    assert!(pending(&rig) && rig.xive.line());
    rig.call(IPOLL, &[0], H_SUCCESS, [0xff00_0002, 4]);
    rig.call(XIRR, &[0xff], H_SUCCESS, [0xff00_0002]);
    assert!(!pending(&rig) && !rig.xive.line());
    // In service: the same priority is not presented again.
    rig.call(XIRR, &[4], H_SUCCESS, [0x0400_0000]);
    rig.call(IPI, &[0, 0xff], H_SUCCESS, []);
    rig.call(EOI, &[0xff00_0002], H_SUCCESS, []);
    assert!(!pending(&rig) && !rig.xive.line());
    rig.call(XIRR, &[0xff], H_SUCCESS, [0xff00_0000]);
    rig.call(IPOLL, &[0], H_SUCCESS, [0xff00_0000, 0xff]);
}

/// One that waits on its thread the hardware wakes; one that waits off it, the thread where it lives.
#[test]
fn who_waits_off_its_thread_is_rung_for_at_an_ipi() {
    let mut rig = Rig::with(RigOptions {
        vcpus: 2,
        ..RigOptions::default()
    });
    let id = rig.vcpu.partition.id;
    let one = rig.vcpu.partition.processors.get(1).unwrap();
    let start = Start {
        entry: GuestReal::new(0x100),
        r3: 0,
    };
    let processors = &rig.vcpu.partition.processors;
    processors.start(one, start).unwrap();
    assert!(rig.other(1).begin_if_started());
    take_rings();
    rig.call(IPI, &[1, 4], H_SUCCESS, []);
    assert!(take_rings().is_empty(), "it looks by itself");
    assert!(one.wait(|| false));
    rig.call(IPI, &[1, 4], H_SUCCESS, []);
    assert_eq!(take_rings(), [(id, 1)]);
    rig.call(IPI, &[0, 4], H_SUCCESS, []);
    assert!(take_rings().is_empty());
}

#[test]
fn the_cppr_holds_an_ipi_back() {
    let mut rig = Rig::new();
    rig.call(IPI, &[0, 4], H_SUCCESS, []);
    assert!(!pending(&rig) && !rig.xive.line());
    rig.call(CPPR, &[4], H_SUCCESS, []);
    assert!(!pending(&rig) && !rig.xive.line());
    // Only the low byte counts.
    rig.call(CPPR, &[0x1105], H_SUCCESS, []);
    assert!(pending(&rig) && rig.xive.line());
    set_timebase(0x1234_5678_9abc);
    rig.call(XIRR_X, &[5], H_SUCCESS, [0x0500_0002, 0x1234_5678_9abc]);
}

#[test]
fn what_is_not_the_partitions_is_refused() {
    let mut rig = Rig::new();
    rig.call(CPPR, &[0xff], H_SUCCESS, []);
    for server in [1, 1 << 32, u64::MAX] {
        rig.call(IPI, &[server, 4], H_PARAMETER, []);
        rig.call(IPOLL, &[server], H_PARAMETER, []);
    }
    for xisr in [0, 1, 3, 0xfff, 0x1002, 0xff_ffff] {
        rig.call(EOI, &[0xff00_0000 | xisr], H_PARAMETER, []);
    }
    // A CPPR more favoured than the current one.
    rig.call(EOI, &[0x0500_0002], H_PARAMETER, []);
    assert!(!pending(&rig));
}

#[test]
fn a_device_interrupt_comes_when_rtas_has_aimed_it() {
    let mut rig = Rig::new();
    rig.call(CPPR, &[0xff], H_SUCCESS, []);
    rig.trigger_vty();
    assert!(!pending(&rig), "masked");
    // ibm,set-xive(0x1000, server 0, priority 5)
    rig.put_words(0x8000, &[0x200a, 3, 1, 0x1000, 0, 5, 0xffff]);
    rig.call(H_RTAS, &[0x8000], H_SUCCESS, []);
    assert_eq!(rig.word(0x8018), 0);
    assert!(pending(&rig) && rig.xive.line(), "latched while masked");
    rig.call(XIRR, &[0xff], H_SUCCESS, [0xff00_1000]);
    rig.call(EOI, &[0xff00_1000], H_SUCCESS, []);
    assert!(!pending(&rig));
    rig.trigger_vty();
    rig.call(IPOLL, &[0], H_SUCCESS, [0xff00_1000, 0xff]);
    rig.call(IPI, &[0, 4], H_SUCCESS, []);
    // The more favoured one first, then the device after its end.
    rig.call(XIRR, &[0xff], H_SUCCESS, [0xff00_0002]);
    rig.call(IPI, &[0, 0xff], H_SUCCESS, []);
    rig.call(EOI, &[0xff00_0002], H_SUCCESS, []);
    rig.call(XIRR, &[0xff], H_SUCCESS, [0xff00_1000]);
    rig.call(EOI, &[0xff00_1000], H_SUCCESS, []);
    assert!(!pending(&rig));
}

#[test]
fn a_level_comes_back_until_it_is_gone() {
    let mut rig = Rig::new();
    rig.call(CPPR, &[0xff], H_SUCCESS, []);
    rig.put_words(0x8000, &[0x200a, 3, 1, 0x1001, 0, 5, 0xffff]);
    rig.call(H_RTAS, &[0x8000], H_SUCCESS, []);
    rig.set_level(Level::Asserted);
    for _ in 0..2 {
        rig.call(XIRR, &[0xff], H_SUCCESS, [0xff00_1001]);
        rig.call(EOI, &[0xff00_1001], H_SUCCESS, []);
    }
    rig.call(XIRR, &[0xff], H_SUCCESS, [0xff00_1001]);
    rig.set_level(Level::Deasserted);
    rig.call(EOI, &[0xff00_1001], H_SUCCESS, []);
    rig.call(XIRR, &[0xff], H_SUCCESS, [0xff00_0000]);
}
