// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Instructions that a partition may not execute, and facilities that are off.
//!
//! Power ISA 3.0B, Book III, Program Interrupt: SRR1 bit 44 illegal instruction, 45 privileged
//! instruction, 46 trap. An instruction for hypervisors is a privileged one to a partition.

use super::env::Env;
use penstock_guest_rt::context::Context;
use penstock_guest_rt::insn::{self, Program};
use penstock_guest_rt::mmu;
use penstock_guest_rt::number::{msr, spr, vector};
use penstock_guest_rt::suite::{Check, Outcome, expect, expect_at, expect_interrupt};

/// The checks of this file.
pub const CHECKS: &[Check<Env>] = &[
    Check {
        name: "illegal-instruction",
        run: illegal,
    },
    Check {
        name: "trap-instruction",
        run: trap,
    },
    Check {
        name: "hypervisor-instructions-are-privileged",
        run: hypervisor_instructions,
    },
    Check {
        name: "hypervisor-registers-are-privileged",
        run: hypervisor_registers,
    },
    Check {
        name: "msgsndp-is-refused",
        run: doorbell,
    },
    Check {
        name: "floating-point-unavailable",
        run: floating_point,
    },
    Check {
        name: "vector-unavailable",
        run: vector_unavailable,
    },
    Check {
        name: "vsx-unavailable",
        run: vsx_unavailable,
    },
    Check {
        name: "unaligned-reservation",
        run: alignment,
    },
    Check {
        name: "system-call",
        run: system_call,
    },
    Check {
        name: "rfid-cannot-enter-hypervisor-state",
        run: hypervisor_state,
    },
];

const ILLEGAL: u64 = 0x8_0000;
const PRIVILEGED: u64 = 0x4_0000;
const TRAP: u64 = 0x2_0000;

fn program_interrupt(what: &'static str, word: u32, cause: u64) -> Outcome {
    let mut context = Context::with_program(&Program::new().word(word));
    context.run();
    expect_interrupt(what, &context, vector::PROGRAM, context.pc)?;
    expect_at(what, u64::from(word), context.srr1, msr::KERNEL | cause)
}

fn illegal(_: &mut Env) -> Outcome {
    // Zero, a reserved primary opcode, a reserved extended one.
    for word in [insn::illegal(), 5 << 26 | 3, 31 << 26 | 0x3fe << 1] {
        program_interrupt("illegal instruction", word, ILLEGAL)?;
    }
    Ok(())
}

fn trap(_: &mut Env) -> Outcome {
    program_interrupt("trap", insn::trap(), TRAP)
}

fn hypervisor_instructions(_: &mut Env) -> Outcome {
    for (what, word) in [
        ("tlbie", insn::tlbie(3, 4)),
        ("hrfid", insn::hrfid()),
        ("ldcix", insn::ldcix(5, 3)),
        ("msgsnd", insn::msgsnd(3)),
    ] {
        program_interrupt(what, word, PRIVILEGED)?;
    }
    Ok(())
}

fn hypervisor_registers(_: &mut Env) -> Outcome {
    // LPCR, HSRR0, HSPRG0, LPIDR, PTCR, HDEC.
    for number in [spr::LPCR, 314, 304, 319, 464, 310] {
        program_interrupt("mfspr", insn::mfspr(5, number), PRIVILEGED)?;
        program_interrupt("mtspr", insn::mtspr(number, 3), PRIVILEGED)?;
    }
    Ok(())
}

/// One thread per core and no directed doorbells, by `ibm,pi-features`: the instruction is refused
/// as illegal, or as a facility that is off.
fn doorbell(_: &mut Env) -> Outcome {
    let mut context = Context::with_program(&Program::new().msgsndp(3));
    context.gpr[3] = 5 << 27;
    context.run();
    expect("SRR0", context.srr0, context.pc)?;
    if context.vector == vector::FACILITY_UNAVAILABLE {
        return expect("SRR1", context.srr1, msr::KERNEL);
    }
    expect("vector", context.vector, vector::PROGRAM)?;
    expect("SRR1", context.srr1, msr::KERNEL | ILLEGAL)
}

fn unavailable(word: u32, vector: u64, facilities: u64) -> Outcome {
    let mut context = Context::with_program(&Program::new().word(word));
    context.run();
    expect_interrupt("facility off", &context, vector, context.pc)?;
    expect("SRR1", context.srr1, msr::KERNEL)?;
    let mut context = Context::with_program(&Program::new().word(word));
    context.msr |= facilities;
    context.run();
    expect_interrupt("facility on", &context, vector::PROGRAM, context.pc + 4)?;
    expect("SRR1", context.srr1, msr::KERNEL | facilities | TRAP)
}

fn floating_point(_: &mut Env) -> Outcome {
    unavailable(insn::fmr(1, 1), vector::FP_UNAVAILABLE, msr::FP)
}

fn vector_unavailable(_: &mut Env) -> Outcome {
    unavailable(insn::vor(1, 1, 1), vector::VECTOR_UNAVAILABLE, msr::VEC)
}

fn vsx_unavailable(_: &mut Env) -> Outcome {
    unavailable(insn::xxlor(1, 1, 1), vector::VSX_UNAVAILABLE, msr::VSX)
}

fn alignment(env: &mut Env) -> Outcome {
    let at = env.work.base() + 4;
    let context = mmu::access(&Program::new().ldarx(5, 0, 3), at, 0, msr::KERNEL);
    expect_interrupt("interrupt", &context, vector::ALIGNMENT, context.pc)?;
    expect("DAR", context.dar, at)?;
    expect("SRR1", context.srr1, msr::KERNEL)
}

fn system_call(_: &mut Env) -> Outcome {
    let mut context = Context::with_program(&Program::new().sc(0));
    context.gpr[0] = 0x1234;
    context.run();
    expect_interrupt("interrupt", &context, vector::SYSTEM_CALL, context.pc + 4)?;
    expect("SRR1", context.srr1, msr::KERNEL)?;
    expect("r0", context.gpr[0], 0x1234)?;
    expect("MSR at the handler", context.arrival, 0x8000_0000_0000_1001)
}

fn hypervisor_state(_: &mut Env) -> Outcome {
    // MSR[HV] is bit 3; rfid does not set it.
    let hv = 1 << 60;
    let mut context = Context::with_program(&Program::new().mfmsr(4));
    context.msr |= hv;
    context.run();
    expect_interrupt("interrupt", &context, vector::PROGRAM, context.pc + 4)?;
    expect("MSR", context.gpr[4], msr::KERNEL)
}
