// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Inter-processor interrupts by the XICS calls, from one processor to the other (LoPAR, H_IPI).

use super::env::{Env, status_of};
use super::second::{both, let_it_wait, wait_for, with};
use super::second_calls::called;
use core::sync::atomic::{AtomicU64, Ordering};
use penstock_guest_rt::clock::FREQUENCY;
use penstock_guest_rt::context::Context;
use penstock_guest_rt::cpu;
use penstock_guest_rt::hcall;
use penstock_guest_rt::insn::Program;
use penstock_guest_rt::number::hcall::{CEDE, CPPR, EOI, IPI, IPOLL, JOIN, PROD, XIRR};
use penstock_guest_rt::number::{msr, status, vector};
use penstock_guest_rt::second;
use penstock_guest_rt::suite::{Check, Outcome, expect, expect_at};

/// The checks of this file.
pub const CHECKS: &[Check<Env>] = &[
    Check {
        name: "ipi-to-a-processor-that-runs",
        run: |env| both(env, |env, second| to_other(env, second, spin)),
    },
    Check {
        name: "ipi-to-a-processor-that-has-ceded",
        run: |env| both(env, |env, second| to_other(env, second, cede)),
    },
    Check {
        name: "ipi-to-the-other-is-masked-by-its-cppr",
        run: |env| both(env, masked),
    },
    Check {
        name: "ipi-between-processors-of-all-priorities",
        run: |env| both(env, priorities),
    },
    Check {
        name: "ipi-leaves-a-processor-joined",
        run: |env| both(env, joined),
    },
    Check {
        name: "ipi-back-and-forth-while-both-cede",
        run: |env| both(env, back_and_forth),
    },
];

const ROUNDS: u64 = 200;

/// Lets interrupts in until one comes.
fn spin() -> Context {
    let mut context = Context::with_program(&Program::new().spin()).with_msr(msr::KERNEL | msr::EE);
    context.run();
    context
}

/// The same by H_CEDE, which may come back a moment before the interrupt does.
fn cede() -> Context {
    loop {
        let context = called(CEDE, 0, msr::KERNEL);
        if context.vector != vector::PROGRAM {
            return context;
        }
    }
}

/// How the processor `server` serves an interrupt: how it was interrupted, and what XIRR says. Afterwards
/// it has none.
#[derive(Clone, Copy, Default)]
struct Served {
    vector: u64,
    xirr: u64,
    statuses: [u64; 2],
}

fn serve(server: u64, wait: fn() -> Context) -> Served {
    // Where none comes, the check fails and does not hang.
    cpu::set_decrementer(10 * FREQUENCY);
    let vector = wait().vector;
    let xirr = hcall::call(XIRR, [0; 4]).values[0];
    let statuses = [
        status_of(IPI, [server, 0xff, 0, 0]),
        status_of(EOI, [xirr, 0, 0, 0]),
    ];
    Served {
        vector,
        xirr,
        statuses,
    }
}

impl Served {
    fn is_one(&self, xirr: u64) -> Outcome {
        expect("vector", self.vector, vector::EXTERNAL)?;
        expect("XIRR", self.xirr, xirr)?;
        expect("H_IPI", self.statuses[0], status::SUCCESS)?;
        expect("H_EOI", self.statuses[1], status::SUCCESS)
    }
}

fn send(server: u64, mfrr: u64) -> Outcome {
    expect(
        "H_IPI",
        status_of(IPI, [server, mfrr, 0, 0]),
        status::SUCCESS,
    )
}

fn open() {
    status_of(CPPR, [0xff, 0, 0, 0]);
}

fn close() {
    status_of(CPPR, [0; 4]);
}

fn to_other(_: &Env, second: u64, wait: fn() -> Context) -> Outcome {
    for round in 0..10 {
        let about = AtomicU64::new(0);
        let mut served = Served::default();
        with(
            || {
                open();
                about.store(1, Ordering::Release);
                served = serve(second, wait);
                close();
            },
            || {
                wait_for("the other", || about.load(Ordering::Acquire) == 1)?;
                if round < 3 {
                    let_it_wait();
                }
                send(second, 4)
            },
        )?;
        served.is_one(0xff00_0002)?;
    }
    Ok(())
}

fn masked(_: &Env, second: u64) -> Outcome {
    let stage = AtomicU64::new(0);
    let mut quiet = None;
    let mut served = Served::default();
    with(
        || {
            status_of(CPPR, [4, 0, 0, 0]);
            stage.store(1, Ordering::Release);
            second::wait_until(|| stage.load(Ordering::Acquire) == 2);
            let program = Program::new().nop().bdnz(-1);
            let mut context = Context::with_program(&program).with_msr(msr::KERNEL | msr::EE);
            context.ctr = 20_000;
            context.run();
            quiet = Some(context);
            status_of(CPPR, [5, 0, 0, 0]);
            served = serve(second, spin);
            close();
        },
        || {
            wait_for("the other", || stage.load(Ordering::Acquire) == 1)?;
            send(second, 4)?;
            let poll = hcall::call(IPOLL, [second, 0, 0, 0]);
            stage.store(2, Ordering::Release);
            expect("H_IPOLL", poll.status, status::SUCCESS)?;
            expect("MFRR", poll.values[1], 4)
        },
    )?;
    let quiet = quiet.map_or(0, |context| context.vector);
    expect("vector while masked", quiet, vector::PROGRAM)?;
    served.is_one(0x0500_0002)
}

fn priorities(_: &Env, second: u64) -> Outcome {
    for priority in [0, 1, 4, 5, 6, 0xb, 0xfe] {
        let mut served = Served::default();
        with(
            || {
                open();
                served = serve(second, spin);
                close();
            },
            || send(second, priority),
        )?;
        expect_at("vector", priority, served.vector, vector::EXTERNAL)?;
        served.is_one(0xff00_0002)?;
    }
    Ok(())
}

/// Only a prod ends H_JOIN; the interrupt comes after it.
fn joined(_: &Env, second: u64) -> Outcome {
    let stage = AtomicU64::new(0);
    let mut result = u64::MAX;
    let mut served = Served::default();
    let early = with(
        || {
            open();
            stage.store(1, Ordering::Release);
            result = status_of(JOIN, [0; 4]);
            stage.store(2, Ordering::Release);
            served = serve(second, spin);
            close();
        },
        || {
            wait_for("the other", || stage.load(Ordering::Acquire) == 1)?;
            let_it_wait();
            send(second, 4)?;
            let_it_wait();
            let early = stage.load(Ordering::Acquire);
            let prod = status_of(PROD, [second, 0, 0, 0]);
            expect("H_PROD", prod, status::SUCCESS)?;
            Ok(early)
        },
    )?;
    expect("stage before the prod", early, 1)?;
    expect("H_JOIN", result, status::SUCCESS)?;
    served.is_one(0xff00_0002)
}

/// No interrupt is lost, whether its target waits already or not yet.
fn back_and_forth(env: &Env, second: u64) -> Outcome {
    let first = env.server;
    let mut by_second = Ok(());
    open();
    let outcome = with(
        || {
            open();
            for round in 0..ROUNDS {
                let served = serve(second, if round % 3 == 0 { spin } else { cede });
                by_second = served.is_one(0xff00_0002).and(send(first, 5));
                if by_second.is_err() {
                    break;
                }
            }
            close();
        },
        || {
            for round in 0..ROUNDS {
                send(second, 4)?;
                let served = serve(first, if round % 2 == 0 { spin } else { cede });
                served.is_one(0xff00_0002)?;
            }
            Ok(())
        },
    );
    close();
    by_second.and(outcome)
}
