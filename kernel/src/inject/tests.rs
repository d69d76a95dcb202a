// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Interrupts as the guest finds them (Power ISA 3.0B, Book III, Interrupt Processing).

use super::*;
use crate::platform::GuestRegister::{Dar, Dsisr as DsisrRegister, Srr0, Srr1 as Srr1Register};
use crate::testing::{Rig, take_writes};
use alloc::vec::Vec;

/// Sixty-four-bit kernel, machine checks on, EE, FP, VEC and VSX on, with translation: little-endian.
const KERNEL: u64 = 0x8000_0000_0280_b033;
/// A program of it.
const PROGRAM: u64 = 0x8000_0000_0280_f033;

/// Interrupts at 0xc000000000001234 with this MSR; where and with which MSR the guest goes on.
fn taken(rig: &mut Rig, msr: u64, vector: Vector, cause: Srr1) -> (u64, u64) {
    rig.vcpu.ctx.pc = 0xc000_0000_0000_1234;
    rig.vcpu.ctx.msr = msr;
    deliver(&mut rig.vcpu, vector, cause);
    (rig.vcpu.ctx.pc, rig.vcpu.ctx.msr)
}

#[test]
fn big_endian_real_mode_is_where_interrupts_begin() {
    let mut rig = Rig::new();
    let begin = 0x8000_0000_0000_1000;
    for (vector, pc) in [
        (Vector::DataStorage, 0x300),
        (Vector::InstructionStorage, 0x400),
        (Vector::Program, 0x700),
    ] {
        assert_eq!(taken(&mut rig, KERNEL, vector, Srr1::empty()), (pc, begin));
        assert_eq!(
            take_writes(),
            [(Srr0, 0xc000_0000_0000_1234), (Srr1Register, KERNEL)]
        );
    }
}

#[test]
fn ile_makes_them_little_endian_whatever_was_interrupted() {
    let mut rig = Rig::new();
    rig.vcpu.lpcr |= Lpcr::ILE;
    for msr in [KERNEL, PROGRAM, 0x8000_0000_0000_1000, 0x1002] {
        let (pc, now) = taken(&mut rig, msr, Vector::Program, Srr1::PROGRAM_ILLEGAL);
        assert_eq!((pc, now), (0x700, 0x8000_0000_0000_1001));
    }
}

#[test]
fn ail_moves_them_only_with_all_relocation_on() {
    let mut rig = Rig::new();
    rig.vcpu.lpcr |= Lpcr::ILE | Lpcr::AIL3;
    let moved = (0xc000_0000_0000_4300, 0x8000_0000_0000_1031);
    let fixed = (0x300, 0x8000_0000_0000_1001);
    for (msr, expected) in [
        (KERNEL, moved),
        (PROGRAM, moved),
        (KERNEL & !0x10, fixed),
        (KERNEL & !0x20, fixed),
        (KERNEL & !0x30, fixed),
    ] {
        assert_eq!(
            taken(&mut rig, msr, Vector::DataStorage, Srr1::empty()),
            expected,
            "{msr:#x}"
        );
    }
}

#[test]
fn a_machine_check_is_never_moved_and_leaves_machine_checks_on() {
    let mut rig = Rig::new();
    rig.vcpu.lpcr |= Lpcr::AIL3;
    let (pc, msr) = taken(&mut rig, KERNEL, Vector::MachineCheck, Srr1::empty());
    // A guest that lost ME could never set it again (rfid keeps it as it is outside HV).
    assert_eq!((pc, msr), (0x200, 0x8000_0000_0000_1000));
    assert_eq!(take_writes()[1], (Srr1Register, KERNEL));
}

#[test]
fn every_interrupt_leaves_machine_checks_on() {
    let mut rig = Rig::new();
    let (_, msr) = taken(
        &mut rig,
        0x8000_0000_0000_0000,
        Vector::Program,
        Srr1::empty(),
    );
    assert_eq!(msr, 0x8000_0000_0000_1000);
}

#[test]
fn srr1_has_the_cause_and_no_older_one() {
    let mut rig = Rig::new();
    // Bits 33 to 36 and 42 to 47 are left over from how the hypervisor was entered.
    taken(
        &mut rig,
        KERNEL | 0x783f_0000,
        Vector::Program,
        Srr1::PROGRAM_PRIVILEGED,
    );
    let srr1: Vec<u64> = take_writes()
        .iter()
        .map(|(_, value)| *value)
        .skip(1)
        .collect();
    assert_eq!(srr1, [KERNEL | 0x4_0000]);
}

#[test]
fn a_data_storage_interrupt_has_address_and_status() {
    let mut rig = Rig::new();
    rig.vcpu.ctx.pc = 0x1_0000;
    rig.vcpu.ctx.msr = PROGRAM;
    data_storage(
        &mut rig.vcpu,
        0x7fff_1234_5678,
        Dsisr::PROTECTION | Dsisr::STORE,
    );
    assert_eq!(
        take_writes(),
        [
            (Dar, 0x7fff_1234_5678),
            (DsisrRegister, 0x0a00_0000),
            (Srr0, 0x1_0000),
            (Srr1Register, PROGRAM)
        ]
    );
    assert_eq!(rig.vcpu.ctx.pc, 0x300);
}
