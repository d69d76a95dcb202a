// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Guests that do one thing as fast as they can, so that a session sees what other partitions notice of it.
//!
//! A guest in exploitation mode whose command line has the word `storm=SECONDS` does nothing for so long
//! once a key has come, and after the next key interrupts itself for as long; each begins and ends with a
//! [mark](cpu::mark). One with `narrow=COUNT` makes so many loads of 4 bytes from
//! the page of a source, which some machines answer with a machine check, and powers off.

use super::env::Env;
use super::xive::{self, PRIORITY};
use penstock_guest_rt::clock;
use penstock_guest_rt::console::{println, terminal};
use penstock_guest_rt::context::{Context, place};
use penstock_guest_rt::cpu;
use penstock_guest_rt::hcall;
use penstock_guest_rt::hpt::SLB_KP;
use penstock_guest_rt::insn::Program;
use penstock_guest_rt::mmu::DATA;
use penstock_guest_rt::number::hcall::GET_TERM_CHAR;
use penstock_guest_rt::number::{status, vector};
use penstock_guest_rt::suite::{Failure, expect};

const TRIGGER: u64 = super::env::EA;
const MANAGEMENT: u64 = TRIGGER + 0x1_0000;
const TIMA: u64 = TRIGGER + 0x2_0000;
/// Rounds of interrupts between two looks at the clock.
const GUST: u64 = 2_000;

/// Does what the command line asks for; whether it did.
pub fn storm_if_asked(env: &Env) -> bool {
    let outcome = if let Some(count) = env.word_of("narrow=") {
        narrow(env, count.parse().unwrap_or(0))
    } else if let Some(seconds) = env.word_of("storm=") {
        storm(env, seconds.parse().unwrap_or(0))
    } else {
        return false;
    };
    if let Err(failure) = outcome {
        println!("FAIL storm: got {failure:?}, want a storm");
    }
    true
}

/// Maps the pages of source 0 and the thread registers.
fn map(env: &Env) -> Result<(), Failure> {
    cpu::disable_interrupts();
    xive::forget()?;
    let info = hcall::call(xive::GET_SOURCE_INFO, [0, 0, 0, 0]);
    expect("source", info.status, status::SUCCESS)?;
    let [_, management, trigger, ..] = info.values;
    let tima = xive::page(TIMA, xive::tima(env)?);
    for mapping in [
        xive::page(TRIGGER, trigger),
        xive::page(MANAGEMENT, management),
        tima,
    ] {
        env.enter(&mapping)?;
    }
    cpu::set_segment(tima.slb_vsid(SLB_KP), tima.slb_esid(2));
    Ok(())
}

fn context(program: &Program) -> Context {
    Context::new(place(program), DATA)
        .with_gpr(4, TRIGGER)
        .with_gpr(5, MANAGEMENT)
        .with_gpr(6, TIMA)
        .with_gpr(7, 0xff)
}

fn wait_for_key() {
    while hcall::call(GET_TERM_CHAR, [terminal(), 0, 0, 0]).values[0] == 0 {}
}

fn storm(env: &Env, seconds: u64) -> Result<(), Failure> {
    map(env)?;
    let skip = env.work.base().wrapping_neg() & 0xffff;
    let queue = env.work.part(skip, 0x1_0000);
    let set = xive::set_queue_of(env.server, 1, queue.base(), 16);
    expect("queue", set, status::SUCCESS)?;
    let aimed = xive::set_source(2, 0, env.server, PRIORITY, 0);
    expect("source", aimed, status::SUCCESS)?;
    let ticks = seconds.saturating_mul(clock::FREQUENCY);
    println!("builtin: is to be calm");
    wait_for_key();
    cpu::mark();
    clock::wait_until(ticks, || false);
    cpu::mark();
    println!("builtin: is to storm");
    wait_for_key();
    context(&Program::new().ld(10, 5, 0xc00).stb(7, 6, 0x11)).run();
    // Trigger, acknowledge, end, CPPR; and once more for each of the source's two bits.
    let program = Program::new()
        .std(8, 4, 0)
        .std(8, 4, 0)
        .lhz(9, 6, 0x810)
        .ld(10, 5, 0)
        .stb(7, 6, 0x11)
        .bdnz(-5);
    let mut gusts = 0_u64;
    let mut outcome = Ok(());
    cpu::mark();
    clock::wait_until(ticks, || {
        let mut context = context(&program);
        context.ctr = GUST;
        context.run();
        outcome = expect("vector", context.vector, vector::PROGRAM);
        gusts += 1;
        outcome.is_err()
    });
    cpu::mark();
    println!("builtin: {} interrupts sent", 2 * gusts * GUST);
    wait_for_key();
    outcome
}

fn narrow(env: &Env, count: u64) -> Result<(), Failure> {
    map(env)?;
    let mut machine_checks = 0_u64;
    for _ in 0..count {
        let mut context = context(&Program::new().lwz(10, 5, 0x800).sync());
        context.run();
        match context.vector {
            vector::MACHINE_CHECK => machine_checks += 1,
            other => expect("vector", other, vector::PROGRAM)?,
        }
    }
    println!("builtin: {count} narrow loads, {machine_checks} machine checks");
    Ok(())
}
