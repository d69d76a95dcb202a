// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Hypervisor calls through the dispatcher: registers in, registers out.

extern crate std;

mod console;
mod control;
mod cpu;
mod exploitation;
mod interrupt;
mod memory;
mod performance;
mod random;
mod resize;
mod rtas;
mod sharing;
mod strict;

use super::{H_CONTROL, H_RTAS, SLOTS, dispatch, slot, table};
use crate::exit::LightExit;
use crate::testing::{Rig, take_lpcr, take_writes};
use penstock_arch::regs::{Lpcr, Msr};

const H_SUCCESS: i64 = 0;
const H_BUSY: i64 = 1;
const H_PARTIAL: i64 = 5;
const H_HARDWARE: i64 = -1;
const H_FUNCTION: i64 = -2;
const H_PRIVILEGE: i64 = -3;
const H_PARAMETER: i64 = -4;
const H_PTEG_FULL: i64 = -6;
const H_NOT_FOUND: i64 = -7;
const H_RESOURCE: i64 = -16;
const H_P2: i64 = -55;
const H_P3: i64 = -56;
const H_P4: i64 = -57;

/// What a register holds before a call that gives it no argument.
fn filler(register: usize) -> u64 {
    0xf111_0000_0000_5a00 | register as u64
}

impl Rig {
    /// Makes the call and checks that it leaves alone what is not its result: all registers but r3
    /// and the `results` from r4 on, and the state of the processor.
    #[track_caller]
    fn call_exit<const N: usize>(
        &mut self,
        token: u64,
        arguments: &[u64],
        status: i64,
        results: [u64; N],
    ) -> LightExit {
        let ctx = &mut self.vcpu.ctx;
        for (register, value) in ctx.gpr.iter_mut().enumerate() {
            *value = filler(register);
        }
        ctx.gpr[3] = token;
        ctx.gpr[4..4 + arguments.len()].copy_from_slice(arguments);
        (ctx.pc, ctx.lr, ctx.ctr, ctx.xer, ctx.cr) = (0x1_0004, 0x2_0000, 3, 4, 0x5555_5555);
        ctx.msr = 0x8000_0000_0000_1003;
        let mut expected = ctx.gpr;
        expected[3] = status.cast_unsigned();
        expected[4..4 + N].copy_from_slice(&results);
        let exit = dispatch(&mut self.vcpu);
        let ctx = &self.vcpu.ctx;
        assert_eq!(ctx.gpr[3].cast_signed(), status, "status of {token:#x}");
        assert_eq!(
            ctx.gpr, expected,
            "registers after {token:#x}: {:#x?}",
            ctx.gpr
        );
        assert_eq!(
            (ctx.pc, ctx.lr, ctx.ctr, ctx.xer, ctx.cr),
            (0x1_0004, 0x2_0000, 3, 4, 0x5555_5555)
        );
        let ee = if token == 0xe0 { Msr::EE.bits() } else { 0 };
        assert_eq!(ctx.msr, 0x8000_0000_0000_1003 | ee);
        exit
    }

    /// As [`Rig::call_exit`], for a call after which the guest goes on.
    #[track_caller]
    fn call<const N: usize>(
        &mut self,
        token: u64,
        arguments: &[u64],
        status: i64,
        results: [u64; N],
    ) {
        let exit = self.call_exit(token, arguments, status, results);
        assert_eq!(exit, LightExit::RESUME);
    }
}

#[test]
fn problem_state_may_make_no_call() {
    let mut rig = Rig::new();
    let tokens = table::NAMES.iter().map(|(token, _)| *token);
    for token in tokens.chain([0, 3, 0x3fc, 0xf008, u64::MAX]) {
        rig.vcpu.ctx.msr = 0x8000_0000_0000_d003;
        rig.vcpu.ctx.gpr = core::array::from_fn(filler);
        rig.vcpu.ctx.gpr[3] = token;
        let mut expected = rig.vcpu.ctx.gpr;
        expected[3] = H_PRIVILEGE.cast_unsigned();
        assert_eq!(dispatch(&mut rig.vcpu), LightExit::RESUME);
        assert_eq!(rig.vcpu.ctx.gpr, expected, "{token:#x}");
        assert_eq!(rig.vcpu.ctx.msr, 0x8000_0000_0000_d003);
    }
    assert!(rig.vcpu.hcalls.iter().all(|count| *count == 0));
    assert!(take_writes().is_empty() && take_lpcr().is_empty());
}

#[test]
fn a_token_without_handler_gets_h_function_and_is_counted() {
    let mut rig = Rig::new();
    let (mut unknown, mut in_range) = (0, 0);
    let extremes = [
        0x1_0000,
        0x1_f000,
        0xf000_f000,
        1 << 32 | 0x08,
        1 << 63 | 0x08,
        u64::MAX,
        u64::MAX - 3,
        i64::MIN.cast_unsigned(),
    ];
    for token in (0..0x1_0000).chain(extremes) {
        if table::NAMES.iter().any(|(known, _)| *known == token) {
            continue;
        }
        rig.call(token, &[], H_FUNCTION, []);
        match slot(token) {
            Some(slot) => {
                in_range += 1;
                assert_eq!(rig.vcpu.hcalls[slot], 1, "{token:#x}");
            }
            None => unknown += 1,
        }
        assert_eq!(rig.vcpu.hcalls[SLOTS], unknown, "{token:#x}");
    }
    // 256 multiples of 4, less the calls that are served; H_RTAS and H_CONTROL lie outside.
    assert_eq!(in_range, 256 - (table::NAMES.len() as u64 - 2));
    assert_eq!(unknown, 0x1_0000 - 256 - 2 + extremes.len() as u64);
    assert!(take_writes().is_empty() && take_lpcr().is_empty());
}

#[test]
fn each_call_is_counted_in_its_own_slot() {
    let mut rig = Rig::new();
    for (times, (token, _)) in table::NAMES.iter().enumerate() {
        for _ in 0..=times {
            rig.vcpu.ctx.gpr = [0; 32];
            rig.vcpu.ctx.gpr[3] = *token;
            let _ = dispatch(&mut rig.vcpu);
        }
    }
    for (times, (token, name)) in table::NAMES.iter().enumerate() {
        assert_eq!(
            rig.vcpu.hcalls[slot(*token).unwrap()],
            times as u64 + 1,
            "{name}"
        );
    }
    assert_eq!(
        rig.vcpu.hcalls[slot(H_CONTROL).unwrap()],
        table::NAMES.len() as u64
    );
    assert_eq!(rig.vcpu.hcalls[SLOTS], 0);
}

/// The bits of the control register that a guest may change: ILE and AIL.
const GUEST_LPCR: u64 = 0x0380_0000;

#[test]
fn the_guests_bits_of_the_lpcr_are_ile_and_ail() {
    assert_eq!((Lpcr::ILE | Lpcr::AIL3).bits(), GUEST_LPCR);
    assert_eq!(Lpcr::GUEST.bits() & GUEST_LPCR, 0);
}
