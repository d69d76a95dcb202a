// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The checks, their order, and the second life after system-reboot.

mod block;
mod boot;
mod bulk;
mod change;
mod clear;
mod clear_hpt;
mod control;
mod enter;
mod env;
mod exploitation;
mod instructions;
mod ipis;
mod memory;
mod model;
mod modes;
mod pages;
mod registers;
mod resize;
mod rtas;
mod screen;
mod second;
mod second_calls;
mod second_life;
mod second_memory;
mod second_modes;
mod second_xics;
mod services;
mod storms;
mod timers;
mod touch;
mod translation;
mod turns;
mod xics;
mod xive;

use env::Env;
use penstock_guest_rt::clock;
use penstock_guest_rt::console::println;
use penstock_guest_rt::mmu;
use penstock_guest_rt::start::Boot;
use penstock_guest_rt::suite::{self, Check, Tally};

/// Groups in the order of their needs: what later ones stand on is checked first. Before all of
/// them come the registers at entry, while nothing can have changed them.
const GROUPS: [&[Check<Env>]; 25] = [
    services::CHECKS,
    enter::CHECKS,
    change::CHECKS,
    clear::CHECKS,
    bulk::CHECKS,
    block::CHECKS,
    pages::CHECKS,
    translation::CHECKS,
    model::CHECKS,
    memory::CHECKS,
    instructions::CHECKS,
    registers::CHECKS,
    timers::CHECKS,
    turns::CHECKS,
    xics::CHECKS,
    modes::CHECKS,
    rtas::CHECKS,
    screen::CHECKS,
    resize::CHECKS,
    clear_hpt::CHECKS,
    second::CHECKS,
    second_calls::CHECKS,
    second_modes::CHECKS,
    second_xics::CHECKS,
    second_memory::CHECKS,
];

/// The same for a partition in exploitation mode: without what makes XICS calls.
const EXPLOITATION_GROUPS: [&[Check<Env>]; 23] = [
    services::CHECKS,
    enter::CHECKS,
    change::CHECKS,
    clear::CHECKS,
    bulk::CHECKS,
    block::CHECKS,
    pages::CHECKS,
    translation::CHECKS,
    model::CHECKS,
    memory::CHECKS,
    instructions::CHECKS,
    registers::CHECKS,
    turns::CHECKS,
    exploitation::CHECKS,
    modes::CHECKS,
    rtas::CHECKS,
    screen::CHECKS,
    clear_hpt::CHECKS,
    second::CHECKS,
    second_calls::CHECKS,
    second_modes::CHECKS,
    second_memory::CHECKS,
    ipis::CHECKS,
];

/// Runs everything once, then asks RTAS for a reboot, and says the result in the second life.
pub fn main(boot: Boot) {
    let Some(mut env) = Env::new(boot) else {
        println!("FAIL environment: got no page table or interrupt server in the tree, want both");
        println!("builtin: 0 passed, 1 failed");
        return;
    };
    if let Some(bits) = mmu::cpu_node(&env.boot.fdt).and_then(|cpu| cpu.cell("ibm,dec-bits")) {
        clock::set_decrementer_bits(bits);
    }
    if touch::touch_if_asked(&env)
        || ipis::measure_if_asked(&mut env)
        || storms::storm_if_asked(&env)
    {
        return;
    }
    let tally = match second_life::resume(&mut env) {
        Some(tally) => tally,
        None => {
            let tally = first_life(&mut env);
            second_life::begin(&mut env, tally)
        }
    };
    println!("builtin: {} passed, {} failed", tally.passed, tally.failed);
}

fn first_life(env: &mut Env) -> Tally {
    let mut sum = suite::run(boot::CHECKS, env, Env::tidy);
    let mut add = |tally: Tally| {
        sum.passed += tally.passed;
        sum.failed += tally.failed;
    };
    control::hold_if_asked(env);
    add(turns::wait_if_asked(env));
    if control::target(env).is_some() {
        add(suite::run(control::CHECKS, env, Env::tidy));
    }
    let groups: &[_] = if xive::is_on(env) {
        &EXPLOITATION_GROUPS
    } else {
        &GROUPS
    };
    for group in groups {
        add(suite::run(group, env, Env::tidy));
    }
    sum
}
