// SPDX-License-Identifier: Apache-2.0 OR MIT
//! H_CLEAR_HPT, as a kernel calls it before it starts another one over itself (LoPAR, H_CLEAR_HPT).

use super::env::{Env, PATTERN, expect_dsi, status_of};
use core::hint::black_box;
use penstock_guest_rt::cpu;
use penstock_guest_rt::hcall;
use penstock_guest_rt::hpt::V_BOLTED;
use penstock_guest_rt::mmu::{self, DATA};
use penstock_guest_rt::number::hcall::{CLEAR_HPT, ENTER};
use penstock_guest_rt::number::status;
use penstock_guest_rt::suite::{Check, Outcome, expect, expect_at, expect_completed};

/// The checks of this file.
pub const CHECKS: &[Check<Env>] = &[
    Check {
        name: "h-clear-hpt-removes-everything",
        run: everything,
    },
    Check {
        name: "h-clear-hpt-leaves-real-mode-as-it-is",
        run: real_mode,
    },
    Check {
        name: "h-clear-hpt-takes-effect-at-once",
        run: at_once,
    },
];

/// Most pieces that it may take.
const CALLS: u64 = 1 << 20;

fn clear() -> Outcome {
    for _ in 0..CALLS {
        let got = status_of(CLEAR_HPT, [0; 4]);
        if got != status::CONTINUE {
            return expect("status", got, status::SUCCESS);
        }
    }
    expect("an end", 0, 1)
}

fn everything(env: &mut Env) -> Outcome {
    for number in 0..300u64 {
        let mapping = env.page((number & 15) << 12, 2);
        let v = (mapping.v() + (number << 24)) | ((number & 1) * V_BOLTED);
        let group = number * 1009 % (env.hpt.entries() / 8) * 8;
        let reply = hcall::call(ENTER, [0, group, v, mapping.r()]);
        expect_at("H_ENTER", number, reply.status, status::SUCCESS)?;
    }
    clear()?;
    expect("entries found", env.hpt.clear(), 0)?;
    // Of an empty table, too.
    clear()
}

fn real_mode(env: &mut Env) -> Outcome {
    // A page that is used for the first time gets its entry then. So all that is done here has been
    // done once before, by the same instructions.
    let mut sums = [0; 3];
    for sum in sums.iter_mut().take(black_box(3)) {
        clear()?;
        *sum = real_mode_entries(env);
    }
    let [_, before, after] = sums;
    expect("entries of real mode", after, before)?;
    // Real mode goes on: this code and its data.
    env.work.write(0x40, PATTERN);
    expect("memory", env.work.read(0x40), PATTERN)
}

/// What the real mode area has, by a sum that no exchange of entries keeps.
#[inline(never)]
fn real_mode_entries(env: &mut Env) -> u64 {
    let reserved = |v: u64| v >> 62 == 1 && v << 2 >> 26 == 0x1ff_ffff;
    let mut sum = 0u64;
    for index in 0..env.hpt.entries() {
        let [v, r, ..] = env.hpt.read(index).values;
        if reserved(v) {
            sum = sum.rotate_left(7) ^ v ^ r.rotate_left(13) ^ index << 32;
        }
    }
    sum
}

fn at_once(env: &mut Env) -> Outcome {
    let pages = [0u64, 1, 2, 3].map(|number| env.page(number << 12, 2));
    for (number, page) in (0..).zip(&pages) {
        env.work.write(number << 12, PATTERN ^ number);
        env.map(page)?;
        let context = mmu::load(page.ea, DATA);
        expect_completed("load", &context, 1)?;
        expect_at("value", number, context.gpr[4], PATTERN ^ number)?;
    }
    clear()?;
    for page in &pages {
        expect_dsi(&mmu::load(page.ea, DATA), 0x4000_0000, page.ea)?;
    }
    cpu::clear_segments();
    Ok(())
}
