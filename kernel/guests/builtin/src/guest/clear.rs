// SPDX-License-Identifier: Apache-2.0 OR MIT
//! R and C: set by the processor, returned and cleared by H_CLEAR_REF, H_CLEAR_MOD, H_REMOVE.

use super::env::{Env, PATTERN};
use penstock_guest_rt::hcall;
use penstock_guest_rt::hpt::{R_C, R_R};
use penstock_guest_rt::insn::Program;
use penstock_guest_rt::mmu::{self, DATA};
use penstock_guest_rt::number::hcall::{CLEAR_MOD, CLEAR_REF};
use penstock_guest_rt::number::status;
use penstock_guest_rt::suite::{Check, Outcome, expect, expect_completed};

/// The checks of this file.
pub const CHECKS: &[Check<Env>] = &[
    Check {
        name: "a-load-sets-r",
        run: load_sets_r,
    },
    Check {
        name: "a-store-sets-r-and-c",
        run: store_sets_rc,
    },
    Check {
        name: "dcbz-and-stdcx-set-c",
        run: special_stores,
    },
    Check {
        name: "h-remove-returns-r-and-c-of-the-processor",
        run: remove_returns,
    },
    Check {
        name: "h-clear-ref-clears-r-only",
        run: clear_ref,
    },
    Check {
        name: "h-clear-mod-clears-c-only",
        run: clear_mod,
    },
    Check {
        name: "after-h-clear-ref-a-load-sets-r-again",
        run: reference_again,
    },
    Check {
        name: "after-h-clear-mod-a-store-sets-c-again",
        run: change_again,
    },
];

const RC: u64 = R_R | R_C;

fn load(ea: u64, want: u64) -> Outcome {
    let context = mmu::load(ea, DATA);
    expect_completed("load", &context, 1)?;
    expect("value", context.gpr[4], want)
}

fn store(ea: u64, value: u64) -> Outcome {
    expect_completed("store", &mmu::store(ea, value, DATA), 1)
}

fn load_sets_r(env: &mut Env) -> Outcome {
    env.work.write(0x18, PATTERN);
    let mapping = env.page(0, 2);
    let index = env.map(&mapping)?;
    expect("before", env.read_entry(index)?[1] & RC, 0)?;
    load(mapping.ea + 0x18, PATTERN)?;
    expect("after", env.read_entry(index)?[1] & RC, R_R)?;
    env.unmap(&[index])
}

fn store_sets_rc(env: &mut Env) -> Outcome {
    let mapping = env.page(0, 2);
    let index = env.map(&mapping)?;
    store(mapping.ea + 0x20, PATTERN ^ 1)?;
    expect("memory", env.work.read(0x20), PATTERN ^ 1)?;
    expect("after", env.read_entry(index)?[1], mapping.r() | RC)?;
    env.unmap(&[index])
}

fn special_stores(env: &mut Env) -> Outcome {
    for program in [
        Program::new().dcbz(3),
        Program::new().ldarx(5, 0, 3).stdcx(4, 0, 3),
    ] {
        let mapping = env.page(0, 2);
        let index = env.map(&mapping)?;
        env.work.write(0, PATTERN);
        let context = mmu::access(&program, mapping.ea, 0, DATA);
        expect_completed("store", &context, program.len() as u64)?;
        expect("memory", env.work.read(0), 0)?;
        expect("after", env.read_entry(index)?[1] & RC, RC)?;
        env.unmap(&[index])?;
    }
    Ok(())
}

fn remove_returns(env: &mut Env) -> Outcome {
    for (bits, stores) in [(R_R, false), (RC, true)] {
        let mapping = env.page(0x1000, 2);
        let index = env.map(&mapping)?;
        let context = if stores {
            mmu::store(mapping.ea, 1, DATA)
        } else {
            mmu::load(mapping.ea, DATA)
        };
        expect_completed("access", &context, 1)?;
        let reply = env.hpt.remove(index);
        expect("status", reply.status, status::SUCCESS)?;
        expect("R", reply.values[1] & RC, bits)?;
    }
    env.unmap(&[])
}

fn clear_ref(env: &mut Env) -> Outcome {
    let mapping = env.page(0x2000, 2 | RC);
    let index = env.enter(&mapping)?;
    let reply = hcall::call(CLEAR_REF, [0, index, 0, 0]);
    expect("status", reply.status, status::SUCCESS)?;
    expect("old R", reply.values[0], mapping.r())?;
    expect("new R", env.read_entry(index)?[1], mapping.r() & !R_R)?;
    let again = hcall::call(CLEAR_REF, [0, index, 0, 0]);
    expect("old R when clear", again.values[0], mapping.r() & !R_R)?;
    env.unmap(&[index])
}

fn clear_mod(env: &mut Env) -> Outcome {
    let mapping = env.page(0x2000, 2 | RC);
    let index = env.enter(&mapping)?;
    let reply = hcall::call(CLEAR_MOD, [0, index, 0, 0]);
    expect("status", reply.status, status::SUCCESS)?;
    expect("old R", reply.values[0], mapping.r())?;
    expect("new R", env.read_entry(index)?[1], mapping.r() & !R_C)?;
    let again = hcall::call(CLEAR_MOD, [0, index, 0, 0]);
    expect("status when clear", again.status, status::SUCCESS)?;
    expect("old R when clear", again.values[0], mapping.r() & !R_C)?;
    env.unmap(&[index])
}

fn reference_again(env: &mut Env) -> Outcome {
    env.work.write(0x3000, PATTERN);
    let mapping = env.page(0x3000, 2);
    let index = env.map(&mapping)?;
    for _ in 0..3 {
        load(mapping.ea, PATTERN)?;
        let reply = hcall::call(CLEAR_REF, [0, index, 0, 0]);
        expect("status", reply.status, status::SUCCESS)?;
        expect("old bits", reply.values[0] & RC, R_R)?;
        expect("new bits", env.read_entry(index)?[1] & RC, 0)?;
    }
    env.unmap(&[index])
}

fn change_again(env: &mut Env) -> Outcome {
    let mapping = env.page(0x3000, 2);
    let index = env.map(&mapping)?;
    for value in 0..3 {
        store(mapping.ea, value)?;
        expect("memory", env.work.read(0x3000), value)?;
        let reply = hcall::call(CLEAR_MOD, [0, index, 0, 0]);
        expect("status", reply.status, status::SUCCESS)?;
        expect("old bits", reply.values[0] & RC, RC)?;
        expect("new bits", env.read_entry(index)?[1] & RC, R_R)?;
        load(mapping.ea, value)?;
        expect("bits after a load", env.read_entry(index)?[1] & RC, R_R)?;
    }
    env.unmap(&[index])
}
