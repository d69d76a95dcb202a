// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Time base, decrementer, MSR[EE] and H_CEDE.
//!
//! The decrementer's interrupt exists as long as its most significant bit is set (Power ISA 3.0B,
//! Book III, Decrementer). H_CEDE returns with EE on, after an interrupt came or a prod (LoPAR,
//! H_CEDE).

use super::env::{Env, status_of};
use penstock_guest_rt::clock::{self, FREQUENCY};
use penstock_guest_rt::context::Context;
use penstock_guest_rt::cpu;
use penstock_guest_rt::insn::Program;
use penstock_guest_rt::number::hcall::{CEDE, CPPR, IPI, PROD, XIRR};
use penstock_guest_rt::number::{msr, status, vector};
use penstock_guest_rt::suite::{
    Check, Outcome, expect, expect_at, expect_completed, expect_interrupt, require,
};

/// The checks of this file.
pub const CHECKS: &[Check<Env>] = &[
    Check {
        name: "timebase-moves",
        run: timebase,
    },
    Check {
        name: "decrementer-counts-with-the-timebase",
        run: counts,
    },
    Check {
        name: "decrementer-interrupts-with-ee-on",
        run: interrupts,
    },
    Check {
        name: "decrementer-waits-for-ee",
        run: waits,
    },
    Check {
        name: "decrementer-rewritten-is-quiet",
        run: rewritten,
    },
    Check {
        name: "decrementer-is-as-wide-as-the-tree-says",
        run: wide,
    },
    Check {
        name: "decrementer-ticks-keep-vector-registers",
        run: vector_registers,
    },
    Check {
        name: "h-cede-wakes-by-decrementer-with-ee-on",
        run: cede_decrementer,
    },
    Check {
        name: "h-cede-with-an-expired-decrementer-returns",
        run: cede_expired,
    },
    Check {
        name: "h-cede-after-h-prod-returns-at-once",
        run: cede_prod,
    },
    Check {
        name: "h-cede-wakes-by-a-pending-ipi",
        run: cede_ipi,
    },
    Check {
        name: "h-cede-a-hundred-times",
        run: cede_often,
    },
    Check {
        name: "h-prod-of-nobody-is-refused",
        run: prod_nobody,
    },
];

/// Longer than any check runs, and positive in 32 bits.
const NEVER: u64 = 0x7fff_ffff;

fn spinning() -> Context {
    Context::with_program(&Program::new().spin()).with_msr(msr::KERNEL | msr::EE)
}

fn timebase(_: &mut Env) -> Outcome {
    let first = cpu::timebase();
    let moved = clock::wait_until(FREQUENCY, || cpu::timebase() != first);
    require("time base", "moving", first, |_| moved)?;
    let mut last = cpu::timebase();
    for _ in 0..1000 {
        let now = cpu::timebase();
        require("time base", "never less than before", now, |now| {
            now >= last
        })?;
        last = now;
    }
    Ok(())
}

fn counts(_: &mut Env) -> Outcome {
    cpu::disable_interrupts();
    let before = cpu::timebase();
    cpu::set_decrementer(NEVER);
    clock::wait_until(10_000, || false);
    let counted = NEVER - cpu::decrementer();
    let passed = cpu::timebase() - before;
    require("ticks counted down", "at least 10,000", counted, |ticks| {
        ticks >= 10_000
    })?;
    // The two count independently for a moment around each reading.
    require(
        "ticks counted down",
        "no more than passed",
        counted,
        |ticks| ticks <= passed + 8,
    )
}

fn interrupts(_: &mut Env) -> Outcome {
    cpu::disable_interrupts();
    for ticks in [0u64, 1, 1000, 100_000] {
        let mut context = spinning();
        let start = cpu::timebase();
        cpu::set_decrementer(ticks);
        context.run();
        let passed = cpu::timebase() - start;
        expect_interrupt("interrupt", &context, vector::DECREMENTER, context.pc)?;
        expect("SRR1", context.srr1, msr::KERNEL | msr::EE)?;
        expect("MSR at the handler", context.arrival, 0x8000_0000_0000_1001)?;
        require(
            "ticks until then",
            "at least those asked for",
            passed,
            |p| p >= ticks,
        )?;
        require("decrementer", "negative", cpu::decrementer(), |d| d > NEVER)?;
    }
    Ok(())
}

fn waits(_: &mut Env) -> Outcome {
    cpu::disable_interrupts();
    let program = Program::new().nop().bdnz(-1);
    let mut context = Context::with_program(&program);
    context.ctr = 20_000;
    cpu::set_decrementer(100);
    context.run();
    expect_completed("loop with EE off", &context, 2)?;
    require("decrementer", "negative", cpu::decrementer(), |d| d > NEVER)?;
    let mut context = spinning();
    context.run();
    expect_interrupt("with EE on", &context, vector::DECREMENTER, context.pc)?;
    // Still negative: it comes again.
    context.run();
    expect_interrupt("once more", &context, vector::DECREMENTER, context.pc)?;
    // EE turned on by mtmsrd: before the next instruction.
    let mut context = Context::with_program(&Program::new().mtmsrd_ee(4).li(5, 1));
    context.gpr[4] = msr::EE | msr::RI;
    context.run();
    expect_interrupt("by mtmsrd", &context, vector::DECREMENTER, context.pc + 4)
}

fn rewritten(_: &mut Env) -> Outcome {
    cpu::disable_interrupts();
    cpu::set_decrementer(0);
    clock::wait_until(1000, || false);
    cpu::set_decrementer(NEVER);
    let program = Program::new().nop().bdnz(-1);
    let mut context = Context::with_program(&program).with_msr(msr::KERNEL | msr::EE);
    context.ctr = 20_000;
    context.run();
    expect_completed("loop with EE on", &context, 2)
}

fn wide(_: &mut Env) -> Outcome {
    cpu::disable_interrupts();
    let limit = clock::decrementer_limit();
    cpu::set_decrementer(limit);
    let value = cpu::decrementer();
    require("largest value", "hardly counted", value, |v| {
        v <= limit && v > limit - (1 << 30)
    })?;
    let program = Program::new().nop().bdnz(-1);
    let mut context = Context::with_program(&program).with_msr(msr::KERNEL | msr::EE);
    context.ctr = 1000;
    context.run();
    expect_completed("loop with EE on", &context, 2)
}

fn vector_registers(_: &mut Env) -> Outcome {
    cpu::disable_interrupts();
    let mut values = [[0; 2]; 64];
    for (number, value) in (1u64..).zip(&mut values) {
        *value = [number << 32 | 0x5a, number];
    }
    cpu::load_vector_registers(&values);
    for round in 0..200 {
        let mut context = spinning();
        cpu::set_decrementer(500);
        context.run();
        expect_at("interrupt", round, context.vector, vector::DECREMENTER)?;
        expect_at("H_CPPR", round, status_of(CPPR, [0; 4]), status::SUCCESS)?;
    }
    let mut after = [[0; 2]; 64];
    cpu::store_vector_registers(&mut after);
    for (number, (after, before)) in (0u64..).zip(after.iter().zip(&values)) {
        expect_at("VSR low", number, after[0], before[0])?;
        expect_at("VSR high", number, after[1], before[1])?;
    }
    Ok(())
}

/// H_CEDE with EE off; what comes next shows in the context.
fn cede() -> Context {
    let mut context = Context::with_program(&Program::new().sc(1)).with_gpr(3, CEDE);
    context.run();
    context
}

fn expect_ceded(context: &Context, vector: u64) -> Outcome {
    expect_interrupt("interrupt", context, vector, context.pc + 4)?;
    expect("status", context.gpr[3], status::SUCCESS)?;
    expect("SRR1", context.srr1, msr::KERNEL | msr::EE)
}

fn cede_decrementer(_: &mut Env) -> Outcome {
    cpu::disable_interrupts();
    for ticks in [1000, 200_000, FREQUENCY / 100] {
        let start = cpu::timebase();
        cpu::set_decrementer(ticks);
        let context = cede();
        let passed = cpu::timebase() - start;
        expect_ceded(&context, vector::DECREMENTER)?;
        require(
            "ticks until then",
            "at least those asked for",
            passed,
            |p| p >= ticks,
        )?;
    }
    Ok(())
}

fn cede_expired(_: &mut Env) -> Outcome {
    cpu::disable_interrupts();
    cpu::set_decrementer(u64::MAX);
    expect_ceded(&cede(), vector::DECREMENTER)
}

fn cede_prod(env: &mut Env) -> Outcome {
    cpu::disable_interrupts();
    cpu::set_decrementer(NEVER);
    expect(
        "H_PROD",
        status_of(PROD, [env.server, 0, 0, 0]),
        status::SUCCESS,
    )?;
    let context = cede();
    expect_completed("after the call", &context, 1)?;
    expect("status", context.gpr[3], status::SUCCESS)?;
    expect("SRR1", context.srr1, msr::KERNEL | msr::EE | 0x2_0000)?;
    // The prod is used up.
    cpu::set_decrementer(1000);
    expect_ceded(&cede(), vector::DECREMENTER)
}

fn cede_ipi(env: &mut Env) -> Outcome {
    cpu::disable_interrupts();
    cpu::set_decrementer(NEVER);
    expect("H_CPPR", status_of(CPPR, [0xff, 0, 0, 0]), status::SUCCESS)?;
    expect(
        "H_IPI",
        status_of(IPI, [env.server, 4, 0, 0]),
        status::SUCCESS,
    )?;
    let context = cede();
    let xirr = penstock_guest_rt::hcall::call(XIRR, [0; 4]).values[0];
    status_of(IPI, [env.server, 0xff, 0, 0]);
    status_of(penstock_guest_rt::number::hcall::EOI, [xirr, 0, 0, 0]);
    status_of(CPPR, [0; 4]);
    expect_ceded(&context, vector::EXTERNAL)?;
    expect("XIRR", xirr, 0xff00_0002)
}

fn cede_often(_: &mut Env) -> Outcome {
    cpu::disable_interrupts();
    for round in 0..100 {
        cpu::set_decrementer(200 * round);
        let context = cede();
        expect_at("interrupt", round, context.vector, vector::DECREMENTER)?;
    }
    Ok(())
}

fn prod_nobody(env: &mut Env) -> Outcome {
    for server in [env.server + 1000, 1 << 32 | env.server, u64::MAX] {
        expect_at(
            "status",
            server,
            status_of(PROD, [server, 0, 0, 0]),
            status::PARAMETER,
        )?;
    }
    Ok(())
}
