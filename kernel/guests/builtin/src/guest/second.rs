// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The second processor: started, stopped and started again by RTAS; and what checks with two
//! processors share.
//!
//! LoPAR, start-cpu, stop-self, query-cpu-stopped-state.

use super::env::{Env, status_of};
use super::{boot, rtas};
use penstock_guest_rt::clock;
use penstock_guest_rt::cpu;
use penstock_guest_rt::number::hcall::REGISTER_VPA;
use penstock_guest_rt::number::status;
use penstock_guest_rt::second::{self, Trouble};
use penstock_guest_rt::start;
use penstock_guest_rt::suite::{Check, Failure, Outcome, expect, expect_at, require};

/// The checks of this file. The second processor runs after them.
pub const CHECKS: &[Check<Env>] = &[
    Check {
        name: "second-processor-is-stopped-at-first",
        run: is_stopped,
    },
    Check {
        name: "start-cpu-refuses-who-is-not-stopped",
        run: |env| both(env, refused),
    },
    Check {
        name: "start-cpu-begins-at-its-entry-with-r3",
        run: |env| both(env, starts),
    },
    Check {
        name: "start-cpu-twice-is-refused",
        run: |env| both(env, twice),
    },
    Check {
        name: "stop-self-and-start-cpu-again",
        run: |env| both(env, again),
    },
    Check {
        name: "dispatch-count-is-odd-while-stopped",
        run: |env| both(env, area_while_stopped),
    },
    Check {
        name: "stop-self-and-start-cpu-ten-times",
        run: |env| both(env, often),
    },
];

const HARDWARE: u64 = 0xffff_ffff;
/// query-cpu-stopped-state.
const STOPPED: u64 = 0;
const RUNNING: u64 = 2;

/// Runs a check that needs two processors: with EE off, and a decrementer that stays away.
///
/// # Errors
/// The check's, or that there is one processor only.
pub fn both(env: &mut Env, check: fn(&Env, u64) -> Outcome) -> Outcome {
    let second = env.second.ok_or(Failure::Skip("there is one processor"))?;
    cpu::disable_interrupts();
    cpu::set_decrementer(clock::decrementer_limit());
    check(env, second)
}

/// Has the second processor do `work` while this one does `meanwhile`.
///
/// # Errors
/// That of `meanwhile`, or an interrupt has ended the work.
pub fn with<F: FnMut() + Send, R>(
    work: F,
    meanwhile: impl FnOnce() -> Result<R, Failure>,
) -> Result<R, Failure> {
    second::with(work, meanwhile).map_err(trouble)?
}

fn trouble(trouble: Trouble) -> Failure {
    match trouble {
        Trouble::Absent => Failure::Unfit {
            what: "second processor",
            got: 0,
            want: "there",
        },
        Trouble::Interrupted { vector, srr0 } => Failure::Mismatch {
            what: "interrupt of the second processor",
            at: srr0,
            got: vector,
            want: 0,
        },
    }
}

/// Waits for what the other processor does.
///
/// # Errors
/// It does not come.
pub fn wait_for(what: &'static str, condition: impl FnMut() -> bool) -> Outcome {
    if second::wait_until(condition) {
        return Ok(());
    }
    Err(Failure::Unfit {
        what,
        got: 0,
        want: "an end of waiting",
    })
}

/// Gives the other processor time to be where it is going to wait: there is no other way to know.
pub fn let_it_wait() {
    clock::wait_until(clock::FREQUENCY / 20, || {
        second::leave_to_others();
        false
    });
}

fn cell(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

fn state_of(env: &Env, server: u64) -> Result<u64, Failure> {
    let results = rtas::call(env, "query-cpu-stopped-state", &[cell(server)], 2)?;
    expect("query-cpu-stopped-state", u64::from(results[0]), 0)?;
    Ok(u64::from(results[1]))
}

fn start_cpu(env: &Env, server: u64, r3: u32) -> Result<u64, Failure> {
    let arguments = [cell(server), cell(second::entry()), r3];
    let results = rtas::call(env, "start-cpu", &arguments, 1)?;
    Ok(u64::from(results[0]))
}

/// Starts the second processor, if it is not running, for checks that come next.
///
/// # Errors
/// It does not come.
pub fn start(env: &Env, server: u64, r3: u32) -> Outcome {
    expect("start-cpu", start_cpu(env, server, r3)?, 0)?;
    wait_for("second processor", second::is_idle)
}

fn stop(env: &Env, server: u64) -> Outcome {
    let Some(token) = env.boot.rtas.token("stop-self") else {
        return Err(Failure::Unfit {
            what: "stop-self",
            got: 0,
            want: "a token",
        });
    };
    let rtas = env.boot.rtas;
    second::dismiss(
        || {
            let _ = rtas.call(token, &[], 1);
        },
        || state_of(env, server) == Ok(STOPPED),
    )
    .map_err(trouble)
}

/// The second processor is stopped, as at the start of a partition.
///
/// # Errors
/// It is not, or there is none.
pub fn is_stopped(env: &mut Env) -> Outcome {
    both(env, stopped)
}

fn stopped(env: &Env, server: u64) -> Outcome {
    expect("second processor", state_of(env, server)?, STOPPED)?;
    expect("this processor", state_of(env, env.server)?, RUNNING)
}

fn refused(env: &Env, server: u64) -> Outcome {
    expect("itself", start_cpu(env, env.server, 0)?, HARDWARE)?;
    for nobody in [server + 1, 0x1234, 0xffff_ffff] {
        let status = start_cpu(env, nobody, 0)?;
        require("nobody", "refused", status, |status| status != 0)?;
    }
    expect("second processor", state_of(env, server)?, STOPPED)
}

/// What LoPAR says of the registers, and what this hypervisor does about the others: there is nothing of
/// anybody's in them.
fn expect_fresh(r3: u64) -> Outcome {
    let entry = start::second_entry_state();
    expect("MSR", entry.msr, 0x8000_0000_0000_1000)?;
    for (number, value) in entry.gpr.iter().enumerate() {
        let want = if number == 3 { r3 } else { 0 };
        expect_at("general register", number as u64, *value, want)?;
    }
    expect("LR", entry.lr, 0)?;
    expect("CTR", entry.ctr, 0)?;
    expect("XER", entry.xer, 0)?;
    expect("CR", entry.cr, 0)?;
    let mut outcome = Ok(());
    with(
        || {
            outcome = boot::vector_registers()
                .and_then(|()| boot::entry_special_registers())
                .and_then(|()| boot::segments());
        },
        || Ok(()),
    )?;
    outcome
}

fn starts(env: &Env, server: u64) -> Outcome {
    start(env, server, 0x8765_4321)?;
    expect("second processor", state_of(env, server)?, RUNNING)?;
    let mut number = 0;
    with(|| number = cpu::number(), || Ok(()))?;
    expect("number", number as u64, 1)?;
    expect_fresh(0x8765_4321)
}

fn twice(env: &Env, server: u64) -> Outcome {
    expect("start-cpu", start_cpu(env, server, 0)?, HARDWARE)?;
    expect("second processor", state_of(env, server)?, RUNNING)?;
    require("second processor", "there", 0, |_| second::is_idle())
}

fn again(env: &Env, server: u64) -> Outcome {
    with(
        || {
            cpu::load_vector_registers(&[[u64::MAX; 2]; 64]);
            cpu::set_amr(u64::MAX);
            cpu::set_segment(0x400, 3 << 28 | 1 << 27);
        },
        || Ok(()),
    )?;
    stop(env, server)?;
    expect("this processor", state_of(env, env.server)?, RUNNING)?;
    start(env, server, 1)?;
    expect("second processor", state_of(env, server)?, RUNNING)?;
    expect_fresh(1)
}

/// A VPA that is registered for a stopped processor says that it is on no thread, and in time that it is.
fn area_while_stopped(env: &Env, server: u64) -> Outcome {
    const VPA: u64 = 1 << 45;
    const NO_VPA: u64 = 5 << 45;
    stop(env, server)?;
    let area = env.work.part(0x3000, 0x1000);
    area.fill(0);
    area.write_bytes(4, &[0x02, 0x80]);
    let registered = status_of(REGISTER_VPA, [VPA, server, area.base(), 0]);
    let stopped = area.word_be(0x100);
    start(env, server, 0)?;
    let mut running = 1;
    with(|| running = area.word_be(0x100), || Ok(()))?;
    let back = status_of(REGISTER_VPA, [NO_VPA, server, 0, 0]);
    expect("H_REGISTER_VPA", registered, status::SUCCESS)?;
    expect("parity while stopped", u64::from(stopped & 1), 1)?;
    expect("parity while running", u64::from(running & 1), 0)?;
    expect("H_REGISTER_VPA back", back, status::SUCCESS)
}

fn often(env: &Env, server: u64) -> Outcome {
    for round in 0..10 {
        stop(env, server)?;
        start(env, server, round)?;
        expect("r3", start::second_entry_state().gpr[3], round.into())?;
    }
    Ok(())
}
