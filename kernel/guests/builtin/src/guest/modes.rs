// SPDX-License-Identifier: Apache-2.0 OR MIT
//! H_SET_MODE: byte order and place of interrupts, and what it refuses (LoPAR, H_SET_MODE).

use super::env::{Env, expect_dsi, status_of};
use penstock_guest_rt::context::{self, Context, place};
use penstock_guest_rt::cpu;
use penstock_guest_rt::hpt::P4K;
use penstock_guest_rt::insn::{self, Program};
use penstock_guest_rt::mmu::{self, RELOCATED};
use penstock_guest_rt::number::hcall::SET_MODE;
use penstock_guest_rt::number::{msr, status, vector};
use penstock_guest_rt::suite::{Check, Outcome, expect, expect_at, expect_interrupt, require};

/// The checks of this file.
pub const CHECKS: &[Check<Env>] = &[
    Check {
        name: "set-mode-big-endian-interrupts",
        run: big_endian,
    },
    Check {
        name: "code-runs-big-endian",
        run: big_endian_code,
    },
    Check {
        name: "set-mode-ail-3-relocates-interrupts",
        run: relocated,
    },
    Check {
        name: "set-mode-ail-3-leaves-real-mode-alone",
        run: not_relocated,
    },
    Check {
        name: "set-mode-ail-3-relocates-reflected-faults",
        run: relocated_faults,
    },
    Check {
        name: "set-mode-ail-3-relocates-the-decrementer",
        run: relocated_decrementer,
    },
    Check {
        name: "set-mode-ail-0-again",
        run: back_to_zero,
    },
    Check {
        name: "set-mode-refuses-unknown-resources",
        run: unknown_resources,
    },
    Check {
        name: "set-mode-refuses-bad-flags",
        run: bad_flags,
    },
    Check {
        name: "set-mode-refuses-stray-values",
        run: stray_values,
    },
    Check {
        name: "set-mode-keeps-breakpoints-out-of-the-hypervisor",
        run: breakpoints,
    },
];

const ARRIVAL_RELOCATED: u64 = 0x8000_0000_0000_1031;
const ARRIVAL_REAL: u64 = 0x8000_0000_0000_1001;

fn set_mode(mflags: u64, resource: u64) -> u64 {
    status_of(SET_MODE, [mflags, resource, 0, 0])
}

fn big_endian(_: &mut Env) -> Outcome {
    // The vector, big-endian: note MSR in r22, then return from interrupt with LE on to r24.
    let handler = [
        insn::mfmsr(22),
        insn::xori(23, 22, 1),
        insn::mtspr(27, 23),
        insn::mtspr(26, 24),
        insn::rfid(),
        insn::spin(),
        insn::spin(),
        insn::spin(),
    ];
    context::patch_vector(vector::PROGRAM, handler.map(u32::swap_bytes));
    // H_SET_MODE(big-endian), trap; at r24, little-endian again: H_SET_MODE(little-endian), sc.
    let program = Program::new()
        .sc(1)
        .mr(25, 3)
        .trap()
        .li(3, 0x31c)
        .li(4, 1)
        .li(5, 4)
        .li(6, 0)
        .li(7, 0)
        .sc(1)
        .sc(0);
    let mut run = Context::new(place(&program), msr::KERNEL);
    run.gpr[3] = SET_MODE;
    run.gpr[5] = 4;
    run.gpr[24] = run.pc + 12;
    run.run();
    context::install_vectors();
    expect_interrupt("end", &run, vector::SYSTEM_CALL, run.pc + 40)?;
    expect("H_SET_MODE to big-endian", run.gpr[25], status::SUCCESS)?;
    expect("MSR at the handler", run.gpr[22], 0x8000_0000_0000_1000)?;
    expect("H_SET_MODE to little-endian", run.gpr[3], status::SUCCESS)
}

fn big_endian_code(_: &mut Env) -> Outcome {
    let program = Program::new()
        .word(insn::li(4, 0x77).swap_bytes())
        .word(insn::mfmsr(5).swap_bytes())
        .word(insn::sc(0).swap_bytes());
    let mut run = Context::with_program(&program).with_msr(msr::SF | msr::ME | msr::RI);
    run.run();
    expect_interrupt("system call", &run, vector::SYSTEM_CALL, run.pc + 12)?;
    expect("r4", run.gpr[4], 0x77)?;
    expect("MSR", run.gpr[5], 0x8000_0000_0000_1002)?;
    expect("SRR1", run.srr1, 0x8000_0000_0000_1002)?;
    expect("MSR at the handler", run.arrival, ARRIVAL_REAL)
}

/// Runs a check with the image mapped and AIL = 3, and undoes both.
fn with_ail(env: &mut Env, check: fn(&Env) -> Outcome) -> Outcome {
    if let Err(got) = env.hpt.map_image() {
        return expect("H_ENTER of the image", got, status::SUCCESS);
    }
    let set = set_mode(3, 3);
    let outcome = if set == status::SUCCESS {
        check(env)
    } else {
        Ok(())
    };
    let reset = set_mode(0, 3);
    env.hpt.unmap_image();
    expect("H_SET_MODE(AIL 3)", set, status::SUCCESS)?;
    outcome?;
    expect("H_SET_MODE(AIL 0)", reset, status::SUCCESS)
}

fn relocated(env: &mut Env) -> Outcome {
    with_ail(env, |_| {
        for (word, vector, next) in [
            (insn::sc(0), 0x4c00, 4),
            (insn::trap(), 0x4700, 0),
            (insn::illegal(), 0x4700, 0),
            (insn::fmr(1, 1), 0x4800, 0),
        ] {
            let program = Program::new().word(word);
            let mut run = Context::with_program(&program).with_msr(RELOCATED);
            run.run();
            expect_interrupt("interrupt", &run, vector, run.pc + next)?;
            expect("MSR at the handler", run.arrival, ARRIVAL_RELOCATED)?;
            expect("SRR1", run.srr1 & !0x783f_0000, RELOCATED)?;
        }
        Ok(())
    })
}

fn not_relocated(env: &mut Env) -> Outcome {
    with_ail(env, |_| {
        for bits in [0, msr::IR, msr::DR] {
            let program = Program::new().sc(0);
            let mut run = Context::with_program(&program).with_msr(msr::KERNEL | bits);
            run.run();
            expect_interrupt("interrupt", &run, vector::SYSTEM_CALL, run.pc + 4)?;
            expect_at("MSR at the handler", bits, run.arrival, ARRIVAL_REAL)?;
        }
        Ok(())
    })
}

fn relocated_faults(env: &mut Env) -> Outcome {
    with_ail(env, |env| {
        let mapping = env.mapping(P4K, 0);
        env.segment(&mapping);
        let run = mmu::store(mapping.ea + 8, 1, RELOCATED);
        expect_interrupt("store", &run, 0x4300, run.pc)?;
        expect("MSR at the handler", run.arrival, ARRIVAL_RELOCATED)?;
        expect("DSISR", run.dsisr, 0x4200_0000)?;
        expect("DAR", run.dar, mapping.ea + 8)?;
        expect("SRR1", run.srr1, RELOCATED)?;
        let mut run = Context::new(mapping.ea, RELOCATED);
        run.run();
        expect_interrupt("fetch", &run, 0x4400, mapping.ea)?;
        expect("SRR1", run.srr1, RELOCATED | 0x4000_0000)?;
        let run = mmu::load(0xd000_0000_0000_0000, RELOCATED);
        expect_interrupt("segment", &run, 0x4380, run.pc)
    })
}

fn relocated_decrementer(env: &mut Env) -> Outcome {
    cpu::disable_interrupts();
    with_ail(env, |_| {
        let mut run = Context::with_program(&Program::new().spin()).with_msr(RELOCATED | msr::EE);
        cpu::set_decrementer(1000);
        run.run();
        expect_interrupt("interrupt", &run, 0x4900, run.pc)?;
        expect("MSR at the handler", run.arrival, ARRIVAL_RELOCATED)
    })
}

fn back_to_zero(env: &mut Env) -> Outcome {
    if let Err(got) = env.hpt.map_image() {
        return expect("H_ENTER of the image", got, status::SUCCESS);
    }
    let outcome = (|| {
        let program = Program::new().sc(0);
        let mut run = Context::with_program(&program).with_msr(RELOCATED);
        run.run();
        expect_interrupt("interrupt", &run, vector::SYSTEM_CALL, run.pc + 4)?;
        expect("MSR at the handler", run.arrival, ARRIVAL_REAL)?;
        // And a fault, which the hypervisor may reflect itself.
        env.segment(&env.page(0, 2));
        let ea = env.page(0, 2).ea;
        expect_dsi(&mmu::load(ea, RELOCATED), 0x4000_0000, ea)
    })();
    env.hpt.unmap_image();
    outcome
}

fn unknown_resources(_: &mut Env) -> Outcome {
    for resource in [0, 6, 7, 100, 1 << 32 | 4, u64::MAX] {
        expect_at("status", resource, set_mode(0, resource), status::P2)?;
    }
    Ok(())
}

fn bad_flags(_: &mut Env) -> Outcome {
    for (mflags, resource) in [(1, 3), (4, 3), (7, 3), (2, 4), (3, 4), (1 << 32, 4)] {
        // H_UNSUPPORTED_FLAG and less, or H_PARAMETER.
        require("status", "a refusal", set_mode(mflags, resource), |got| {
            got == status::PARAMETER || got.cast_signed() <= -256 && got.cast_signed() > -512
        })?;
    }
    // Nothing changed: interrupts still come here, little-endian and in real mode.
    let mut run = Context::with_program(&Program::new());
    run.run();
    expect("MSR at the handler", run.arrival, ARRIVAL_REAL)
}

fn stray_values(_: &mut Env) -> Outcome {
    for (mflags, resource) in [(3, 3), (1, 4)] {
        let with = |value1, value2| status_of(SET_MODE, [mflags, resource, value1, value2]);
        expect_at("value 1", resource, with(1, 0), status::P3)?;
        expect_at("value 2", resource, with(0, 1), status::P4)?;
    }
    Ok(())
}

fn breakpoints(_: &mut Env) -> Outcome {
    // The instruction breakpoint's two low bits name the state; 3 is the hypervisor's.
    let got = status_of(SET_MODE, [0, 1, 0x1003, 0]);
    require("breakpoint in hypervisor state", "refused", got, |got| {
        got != status::SUCCESS
    })?;
    expect("no breakpoint", set_mode(0, 1), status::SUCCESS)?;
    // The watchpoint's bit for hypervisor state is 4.
    let got = status_of(SET_MODE, [0, 2, 0x1000, 0x1c]);
    require("watchpoint in hypervisor state", "refused", got, |got| {
        got != status::SUCCESS
    })
}
