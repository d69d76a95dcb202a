// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What an hcall does to the caller's registers, and unknown hcalls.
//!
//! LoPAR, Hypervisor Call Interrupt: r0, r3 to r12, CTR, XER and CR fields 0, 1, 5 to 7 are
//! volatile. A volatile register holds the call's result, the caller's own value or 0 afterwards:
//! never a value of the hypervisor's.

use super::env::{Env, PATTERN, status_of};
use super::xive;
use penstock_guest_rt::console;
use penstock_guest_rt::context::Context;
use penstock_guest_rt::cpu;
use penstock_guest_rt::hpt::{Mapping, P64K};
use penstock_guest_rt::insn::Program;
use penstock_guest_rt::mmu::{self, DATA};
use penstock_guest_rt::number::hcall::*;
use penstock_guest_rt::number::{flag, msr, spr, status, vector};
use penstock_guest_rt::suite::{
    Check, Failure, Outcome, expect, expect_at, expect_completed, expect_interrupt,
};

/// The checks of this file.
pub const CHECKS: &[Check<Env>] = &[
    Check {
        name: "hcall-volatile-registers-leak-nothing",
        run: volatile,
    },
    Check {
        name: "hcall-keeps-nonvolatile-registers",
        run: nonvolatile,
    },
    Check {
        name: "hcall-keeps-vector-registers",
        run: vector_registers,
    },
    Check {
        name: "fault-keeps-every-register",
        run: fault_registers,
    },
    Check {
        name: "faults-keep-vector-registers",
        run: fault_vector_registers,
    },
    Check {
        name: "special-registers-survive-h-cede",
        run: special_registers,
    },
    Check {
        name: "unknown-hcalls-are-h-function",
        run: unknown,
    },
    Check {
        name: "hcall-numbers-are-64-bits",
        run: wide_numbers,
    },
    Check {
        name: "hcall-from-problem-state-is-h-privilege",
        run: problem_state,
    },
    Check {
        name: "hcall-returns-behind-the-instruction",
        run: returns_behind,
    },
];

/// An hcall with harmless arguments and how many registers from r4 on it returns values in.
struct Call {
    number: u64,
    arguments: [u64; 4],
    results: usize,
}

fn calls(env: &Env) -> [Call; 24] {
    let index = env.page(0xf000, 2).primary(env.hpt.order);
    let call = |number, arguments, results| Call {
        number,
        arguments,
        results,
    };
    let page = env.work.base() + 0xf000;
    [
        call(REMOVE, [0, index, 0, 0], 2),
        call(REMOVE, [0, u64::MAX, 0, 0], 0),
        call(ENTER, [0, u64::MAX, 1, 0], 0),
        call(READ, [0, index, 0, 0], 2),
        call(READ, [flag::READ_4, index, 0, 0], 8),
        call(CLEAR_MOD, [0, index, 0, 0], 1),
        call(CLEAR_REF, [0, index, 0, 0], 1),
        call(PROTECT, [3, index, 0, 0], 0),
        call(BULK_REMOVE, [0xc0 << 56, 0, 0, 0], 8),
        call(PAGE_INIT, [flag::ZERO_PAGE, page, 0, 0], 0),
        call(PAGE_INIT, [flag::ZERO_PAGE, page + 8, 0, 0], 0),
        call(SET_SPRG0, [PATTERN, 0, 0, 0], 0),
        call(SET_DABR, [0, 0, 0, 0], 0),
        call(GET_TERM_CHAR, [console::terminal(), 0, 0, 0], 3),
        call(PUT_TERM_CHAR, [console::terminal(), 17, 0, 0], 0),
        call(CPPR, [0, 0, 0, 0], 0),
        call(IPOLL, [env.server, 0, 0, 0], 2),
        call(XIRR, [0, 0, 0, 0], 1),
        call(XIRR_X, [0, 0, 0, 0], 2),
        call(RANDOM, [0, 0, 0, 0], 1),
        call(GET_CPU_CHARACTERISTICS, [0, 0, 0, 0], 2),
        call(SET_MODE, [1, 4, 0, 0], 0),
        call(REGISTER_PROC_TBL, [0, 0, 0, 0], 0),
        call(0xf0fc, [0, 0, 0, 0], 0),
    ]
}

/// A context that makes the call with a different pattern in every register.
fn poisoned(call: &Call) -> Context {
    let mut context = Context::with_program(&Program::new().sc(1));
    for (number, register) in (0u64..).zip(&mut context.gpr) {
        *register = 0xdead_0000_0000_0000 | number << 32 | number;
    }
    context.gpr[3] = call.number;
    for (register, argument) in context.gpr.iter_mut().skip(4).zip(call.arguments) {
        *register = argument;
    }
    context.cr = 0x5555_5555;
    context.xer = 0xa000_0000;
    context.ctr = 0xdead_000c_0000_000c;
    context.lr = 0xdead_000d_0000_000d;
    context
}

fn volatile(env: &mut Env) -> Outcome {
    for call in &calls(env) {
        let mut context = poisoned(call);
        let before = context;
        context.run();
        expect_completed("hcall", &context, 1)?;
        for number in [0, 4, 5, 6, 7, 8, 9, 10, 11, 12] {
            let result = (4..4 + call.results).contains(&number);
            let value = context.gpr[number];
            if !result && value != before.gpr[number] {
                expect_at("r0 or r4-r12", call.number << 8 | number as u64, value, 0)?;
            }
        }
        for (number, after, before) in [
            (100, context.ctr, before.ctr),
            (101, context.xer, before.xer),
        ] {
            if after != before {
                expect_at("CTR or XER", call.number << 8 | number, after, 0)?;
            }
        }
        // CR fields 0, 1 and 5 to 7.
        let fields = [context.cr, before.cr].map(|cr| cr & 0xff00_0fff);
        if fields[0] != fields[1] {
            expect_at("CR0-1 or CR5-7", call.number, fields[0], 0)?;
        }
    }
    Ok(())
}

fn nonvolatile(env: &mut Env) -> Outcome {
    for call in &calls(env) {
        let mut context = poisoned(call);
        let before = context;
        context.run();
        expect_completed("hcall", &context, 1)?;
        for number in [1, 2].into_iter().chain(13..32) {
            let at = call.number << 8 | number as u64;
            expect_at(
                "r1, r2 or r13-r31",
                at,
                context.gpr[number],
                before.gpr[number],
            )?;
        }
        expect_at("LR", call.number, context.lr, before.lr)?;
        // CR fields 2, 3 and 4.
        expect_at(
            "CR2-CR4",
            call.number,
            context.cr & 0x00ff_f000,
            0x0055_5000,
        )?;
    }
    Ok(())
}

fn vector_registers(env: &mut Env) -> Outcome {
    let mut values = [[0; 2]; 64];
    for (number, value) in (1u64..).zip(&mut values) {
        *value = [PATTERN.wrapping_mul(number), !PATTERN.wrapping_mul(number)];
    }
    cpu::load_vector_registers(&values);
    for call in &calls(env) {
        let mut context = poisoned(call);
        context.run();
        expect_completed("hcall", &context, 1)?;
    }
    let mut after = [[0; 2]; 64];
    cpu::store_vector_registers(&mut after);
    for (number, (after, before)) in (0u64..).zip(after.iter().zip(&values)) {
        expect_at("VSR low", number, after[0], before[0])?;
        expect_at("VSR high", number, after[1], before[1])?;
    }
    Ok(())
}

fn fault_registers(env: &mut Env) -> Outcome {
    let mapping = env.page(0, 2);
    env.segment(&mapping);
    let mut context = Context::with_program(&Program::new().ld(4, 3, 0)).with_msr(DATA);
    for (number, register) in (0u64..).zip(&mut context.gpr) {
        *register = 0xfeed_0000_0000_0000 | number << 32 | number;
    }
    context.gpr[3] = mapping.ea;
    context.cr = 0x1234_5678;
    context.xer = 0xa000_0000;
    context.ctr = 0xfeed_000c_0000_000c;
    context.lr = 0xfeed_000d_0000_000d;
    let before = context;
    context.run();
    expect_interrupt("interrupt", &context, vector::DSI, context.pc)?;
    for (number, (after, before)) in (0u64..).zip(context.gpr.iter().zip(&before.gpr)) {
        expect_at("register", number, *after, *before)?;
    }
    expect("CR", context.cr, before.cr)?;
    expect("XER", context.xer, before.xer)?;
    expect("CTR", context.ctr, before.ctr)?;
    expect("LR", context.lr, before.lr)
}

fn fault_vector_registers(env: &mut Env) -> Outcome {
    let Some(untouched) = env.boot.memory.fresh(1 << 20) else {
        return Err(Failure::Skip("too little memory"));
    };
    let mut values = [[0; 2]; 64];
    for (number, value) in (1u32..).zip(&mut values) {
        *value = [PATTERN.rotate_left(number), u64::from(number)];
    }
    cpu::load_vector_registers(&values);
    env.need(&P64K)?;
    for page in 0..16 {
        // One that the hypervisor resolves, and one that comes to this guest.
        let mapping = Mapping {
            real: untouched.base() + (page << 16),
            ..env.mapping(P64K, page << 16)
        };
        let index = env.map(&mapping)?;
        expect_completed("first touch", &mmu::load(mapping.ea, DATA), 1)?;
        let beyond = mapping.ea + (1 << 30);
        expect("fault", mmu::load(beyond, DATA).vector, vector::DSI)?;
        env.unmap(&[index])?;
    }
    let mut after = [[0; 2]; 64];
    cpu::store_vector_registers(&mut after);
    for (number, (after, before)) in (0u64..).zip(after.iter().zip(&values)) {
        expect_at("VSR low", number, after[0], before[0])?;
        expect_at("VSR high", number, after[1], before[1])?;
    }
    Ok(())
}

/// Registers of the guest's that the hypervisor uses or may switch while the processor sleeps.
fn special_registers(_: &mut Env) -> Outcome {
    const VALUES: [(u32, u64); 9] = [
        (spr::SPRG0, PATTERN),
        (spr::DAR, !PATTERN),
        (spr::DSISR, 0x4200_0000),
        (spr::AMR, 0x5555_5555_5555_5555),
        (spr::IAMR, 0x1111_1111_1111_1111),
        (spr::UAMOR, 0x3333_3333_3333_3333),
        (spr::DSCR, 0x15),
        (spr::VRSAVE, 0x9abc_def0),
        (spr::PIDR, 0x1234),
    ];
    cpu::disable_interrupts();
    // Values go in from r14 on and come back in the same registers after the wake-up.
    let mut set = Program::new();
    let mut get = Program::new();
    for (register, (number, _)) in (14..).zip(VALUES) {
        set = set.mtspr(number, register);
        get = get.mfspr(register, number);
    }
    let mut context = Context::with_program(&set.sc(1)).with_gpr(3, CEDE);
    for (register, (_, value)) in context.gpr.iter_mut().skip(14).zip(VALUES) {
        *register = value;
    }
    cpu::set_decrementer(100_000);
    context.run();
    let mut after = Context::with_program(&get);
    after.run();
    // Nothing else here works with these values.
    let mut reset = Program::new();
    for (number, _) in VALUES {
        reset = reset.mtspr(number, 0);
    }
    Context::with_program(&reset).run();
    expect("interrupt", context.vector, vector::DECREMENTER)?;
    expect("H_CEDE", context.gpr[3], status::SUCCESS)?;
    for ((number, value), got) in VALUES.into_iter().zip(after.gpr.iter().skip(14)) {
        expect_at("register", u64::from(number), *got, value)?;
    }
    Ok(())
}

/// Every call that a hypervisor with the function sets of the tree may know.
const KNOWN: [u64; 39] = [
    REMOVE,
    ENTER,
    READ,
    CLEAR_MOD,
    CLEAR_REF,
    PROTECT,
    SET_SPRG0,
    SET_DABR,
    PAGE_INIT,
    GET_TERM_CHAR,
    PUT_TERM_CHAR,
    EOI,
    CPPR,
    IPI,
    IPOLL,
    XIRR,
    REGISTER_VPA,
    CEDE,
    CONFER,
    PROD,
    GET_PPP,
    SET_PPP,
    PURR,
    PIC,
    POLL_PENDING,
    JOIN,
    SIGNAL_SYS_RESET,
    BULK_REMOVE,
    BLOCK_REMOVE,
    CLEAR_HPT,
    RESIZE_HPT_PREPARE,
    RESIZE_HPT_COMMIT,
    GET_CPU_CHARACTERISTICS,
    XIRR_X,
    RANDOM,
    SET_MODE,
    REGISTER_PROC_TBL,
    RTAS,
    0xf004,
];

fn unknown(env: &mut Env) -> Outcome {
    let exploits = xive::is_on(env);
    for number in (0..=0xf100).step_by(4) {
        let known = KNOWN.contains(&number);
        if !(known && !exploits || exploits && xive::knows(number, known)) {
            expect_at(
                "status",
                number,
                status_of(number, [0; 4]),
                status::FUNCTION,
            )?;
        }
    }
    Ok(())
}

fn wide_numbers(_: &mut Env) -> Outcome {
    for number in [
        1,
        3,
        0x69,
        0x6a,
        1 << 32 | CPPR,
        1 << 63 | CPPR,
        u64::MAX,
        !3,
    ] {
        expect_at(
            "status",
            number,
            status_of(number, [0; 4]),
            status::FUNCTION,
        )?;
    }
    Ok(())
}

fn problem_state(env: &mut Env) -> Outcome {
    cpu::set_decrementer(0x7fff_ffff);
    let page = env.work.part(0, 0x1000);
    // sc 1; sc 0
    page.write(0, 0x4400_0002_4400_0022);
    cpu::synchronize_instructions(page.base(), 8);
    let mapping = env.page(0, 2);
    let index = env.map(&mapping)?;
    for number in [CPPR, SET_SPRG0, ENTER, 0xf0fc] {
        let problem = msr::KERNEL | msr::PR | msr::IR | msr::DR | msr::EE;
        let mut context = Context::new(mapping.ea, problem).with_gpr(3, number);
        context.gpr[4] = 0xbad;
        context.run();
        expect_interrupt("sc 0", &context, vector::SYSTEM_CALL, mapping.ea + 8)?;
        expect_at("status", number, context.gpr[3], status::PRIVILEGE)?;
        expect("SRR1", context.srr1, problem)?;
    }
    if cpu::sprg0() == 0xbad {
        return Err(Failure::Unfit {
            what: "SPRG0",
            got: 0xbad,
            want: "untouched",
        });
    }
    env.unmap(&[index])
}

fn returns_behind(_: &mut Env) -> Outcome {
    let program = Program::new().sc(1).addi(14, 14, 1).mfmsr(15);
    let mut context = Context::with_program(&program).with_gpr(3, 0xf0fc);
    context.run();
    expect_completed("program", &context, 3)?;
    expect("r3", context.gpr[3], status::FUNCTION)?;
    expect("r14", context.gpr[14], 1)?;
    expect("MSR", context.gpr[15], msr::KERNEL)
}
