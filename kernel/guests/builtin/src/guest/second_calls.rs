// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What processors do to one another by calls: wake, join and reset.
//!
//! LoPAR, H_CEDE, H_PROD, H_CONFER, H_JOIN, H_REGISTER_VPA; PAPR, H_SIGNAL_SYS_RESET.

use super::env::{Env, status_of};
use super::second::{both, let_it_wait, wait_for, with};
use core::sync::atomic::{AtomicU64, Ordering};
use penstock_guest_rt::clock;
use penstock_guest_rt::context::Context;
use penstock_guest_rt::cpu;
use penstock_guest_rt::insn::Program;
use penstock_guest_rt::memory::Range;
use penstock_guest_rt::number::hcall::{CEDE, CONFER, JOIN, PROD, REGISTER_VPA, SIGNAL_SYS_RESET};
use penstock_guest_rt::number::{msr, status, vector};
use penstock_guest_rt::second;
use penstock_guest_rt::suite::{
    Check, Failure, Outcome, expect, expect_at, expect_completed, expect_interrupt, require,
};

/// The checks of this file.
pub const CHECKS: &[Check<Env>] = &[
    Check {
        name: "h-register-vpa-for-the-other-processor",
        run: |env| with_areas(env, areas),
    },
    Check {
        name: "dispatch-count-is-odd-while-ceded",
        run: |env| with_areas(env, parity),
    },
    Check {
        name: "h-prod-wakes-the-other-processor",
        run: |env| with_areas(env, prod),
    },
    Check {
        name: "h-prod-before-h-cede-of-the-other-processor",
        run: |env| both(env, prod_before),
    },
    Check {
        name: "h-prod-and-h-cede-at-the-same-time",
        run: |env| both(env, prod_often),
    },
    Check {
        name: "h-confer-to-the-other-processor",
        run: |env| with_areas(env, confer),
    },
    Check {
        name: "h-confer-to-itself-waits-for-a-prod",
        run: |env| with_areas(env, confer_to_itself),
    },
    Check {
        name: "h-join-of-the-second-then-the-first",
        run: |env| with_areas(env, join_second),
    },
    Check {
        name: "h-join-of-the-first-then-the-second",
        run: |env| with_areas(env, join_first),
    },
    Check {
        name: "h-signal-sys-reset-to-the-other-processor",
        run: |env| with_areas(env, reset_other),
    },
    Check {
        name: "h-signal-sys-reset-to-all",
        run: |env| both(env, reset_all),
    },
];

/// How often two processors meet.
const ROUNDS: u64 = 300;
const VPA: u64 = 1 << 45;
const NO_VPA: u64 = 5 << 45;

/// Runs a hypervisor call from a program, which shows what comes after it.
pub fn called(number: u64, argument: u64, msr: u64) -> Context {
    let mut context = Context::with_program(&Program::new().sc(1))
        .with_msr(msr)
        .with_gpr(3, number)
        .with_gpr(4, argument);
    context.run();
    // QEMU's timer may raise the decrementer's interrupt a moment after somebody has written the decrementer
    // again, which takes it back on a processor.
    while context.vector == vector::DECREMENTER && cpu::decrementer() <= clock::decrementer_limit()
    {
        let pc = core::mem::replace(&mut context.pc, context.srr0);
        context.msr = context.srr1;
        context.run();
        context.pc = pc;
    }
    context
}

fn cede() -> Context {
    cpu::set_decrementer(clock::decrementer_limit());
    called(CEDE, 0, msr::KERNEL)
}

/// H_SUCCESS, and zero in general.
///
/// # Errors
/// It is another status.
pub fn expect_status(what: &'static str, got: u64) -> Outcome {
    expect(what, got, status::SUCCESS)
}

/// A context that the second processor has brought back.
///
/// # Errors
/// It has not.
pub fn brought(context: Option<Context>) -> Result<Context, Failure> {
    context.ok_or(Failure::Unfit {
        what: "second processor's context",
        got: 0,
        want: "there",
    })
}

/// The dispatch counts of both processors.
#[derive(Clone, Copy)]
struct Areas {
    own: Range,
    other: Range,
}

impl Areas {
    fn count(area: Range) -> u64 {
        area.word_be(0x100).into()
    }

    /// Waits until the other processor is off its thread. Where both share one, it may also be somewhere
    /// before: then it has had its turns.
    fn wait_for_other(&self) -> Outcome {
        wait_for("odd dispatch count", || Self::count(self.other) & 1 == 1)?;
        let_it_wait();
        Ok(())
    }

    fn wait_for_own(&self) {
        second::wait_until(|| Self::count(self.own) & 1 == 1);
        let_it_wait();
    }
}

/// Runs a check while both processors have an area: each of them registered by the other one.
fn with_areas(env: &mut Env, check: fn(&Env, u64, &Areas) -> Outcome) -> Outcome {
    let second = env.second.ok_or(Failure::Skip("there is one processor"))?;
    cpu::disable_interrupts();
    cpu::set_decrementer(clock::decrementer_limit());
    let area = |offset| {
        let range = env.work.part(offset, 0x1000);
        range.fill(0);
        range.write_bytes(4, &[0x02, 0x80]);
        range
    };
    let areas = Areas {
        own: area(0x2000),
        other: area(0x3000),
    };
    let first = env.server;
    let register = |function, server, at| status_of(REGISTER_VPA, [function, server, at, 0]);
    let mut registered = 0;
    let outcome = with(
        || registered = register(VPA, first, areas.own.base()),
        || {
            expect_status(
                "VPA of the other",
                register(VPA, second, areas.other.base()),
            )
        },
    );
    let outcome = outcome
        .and_then(|()| expect_status("VPA by the other", registered))
        .and_then(|()| check(env, second, &areas));
    let own = register(NO_VPA, first, 0);
    let other = register(NO_VPA, second, 0);
    outcome?;
    expect_status("own VPA back", own)?;
    expect_status("the other's VPA back", other)
}

fn areas(env: &Env, second: u64, areas: &Areas) -> Outcome {
    let mut counts = [0; 100];
    with(
        || {
            for count in &mut counts {
                *count = Areas::count(areas.other);
                second::leave_to_others();
            }
        },
        || {
            // Whoever reads its own count runs.
            for round in 0..100 {
                expect_at("own count's parity", round, Areas::count(areas.own) & 1, 0)?;
                second::leave_to_others();
            }
            Ok(())
        },
    )?;
    for (round, count) in (0..).zip(counts) {
        expect_at("the other's own count's parity", round, count & 1, 0)?;
    }
    for nobody in [second + 1, env.server + 1000] {
        let status = status_of(REGISTER_VPA, [NO_VPA, nobody, 0, 0]);
        expect_at("nobody's", nobody, status, status::PARAMETER)?;
    }
    Ok(())
}

fn parity(_: &Env, second: u64, areas: &Areas) -> Outcome {
    let about = AtomicU64::new(0);
    let mut context = None;
    let (before, ceded) = with(
        || {
            about.store(Areas::count(areas.other) + 1, Ordering::Release);
            context = Some(cede());
        },
        || {
            wait_for("the other", || about.load(Ordering::Acquire) != 0)?;
            areas.wait_for_other()?;
            let ceded = Areas::count(areas.other);
            for round in 0..100 {
                expect_at("count", round, Areas::count(areas.other), ceded)?;
                second::leave_to_others();
            }
            expect_status("H_PROD", status_of(PROD, [second, 0, 0, 0]))?;
            Ok((about.load(Ordering::Acquire) - 1, ceded))
        },
    )?;
    expect_completed("after H_CEDE", &brought(context)?, 1)?;
    expect("parity before", before & 1, 0)?;
    expect("parity while ceded", ceded & 1, 1)?;
    require(
        "count after",
        "larger",
        Areas::count(areas.other),
        |after| after > ceded,
    )
}

fn prod(_: &Env, second: u64, areas: &Areas) -> Outcome {
    let mut context = None;
    let mut again = None;
    with(
        || {
            context = Some(cede());
            // The prod is used up.
            cpu::set_decrementer(1000);
            again = Some(called(CEDE, 0, msr::KERNEL));
        },
        || {
            areas.wait_for_other()?;
            expect_status("H_PROD", status_of(PROD, [second, 0, 0, 0]))
        },
    )?;
    let (context, again) = (brought(context)?, brought(again)?);
    expect_completed("after H_CEDE", &context, 1)?;
    expect_status("H_CEDE", context.gpr[3])?;
    expect("MSR", context.srr1, msr::KERNEL | msr::EE | 0x2_0000)?;
    expect_interrupt("once more", &again, vector::DECREMENTER, again.pc + 4)
}

fn prod_before(_: &Env, second: u64) -> Outcome {
    let prodded = AtomicU64::new(0);
    let mut contexts = None;
    with(
        || {
            if !second::wait_until(|| prodded.load(Ordering::Acquire) != 0) {
                return;
            }
            let first = cede();
            cpu::set_decrementer(1000);
            contexts = Some([first, called(CEDE, 0, msr::KERNEL)]);
        },
        || {
            // Twice is once.
            for _ in 0..2 {
                expect_status("H_PROD", status_of(PROD, [second, 0, 0, 0]))?;
            }
            prodded.store(1, Ordering::Release);
            Ok(())
        },
    )?;
    let [first, next] = contexts.ok_or(Failure::Unfit {
        what: "prod",
        got: 0,
        want: "seen",
    })?;
    expect_completed("the first H_CEDE", &first, 1)?;
    expect_interrupt("the next", &next, vector::DECREMENTER, next.pc + 4)
}

/// The wake-up is not lost, whichever of the two is first.
fn prod_often(_: &Env, second: u64) -> Outcome {
    let about = AtomicU64::new(0);
    let mut odd = 0;
    with(
        || {
            for round in 1..=ROUNDS {
                about.store(round, Ordering::Release);
                // Now a little earlier than the prod, now a little later.
                for _ in 0..round % 64 * 8 {
                    core::hint::spin_loop();
                }
                odd += u64::from(cede().vector != vector::PROGRAM);
            }
        },
        || {
            for round in 1..=ROUNDS {
                wait_for("the other", || about.load(Ordering::Acquire) == round)?;
                expect_status("H_PROD", status_of(PROD, [second, 0, 0, 0]))?;
            }
            Ok(())
        },
    )?;
    expect("other ends of H_CEDE", odd, 0)
}

fn confer(env: &Env, second: u64, areas: &Areas) -> Outcome {
    let confer = |to, count| status_of(CONFER, [to, count, 0, 0]);
    for nobody in [second + 1, env.server + 1000, 1 << 32 | second] {
        expect_at("nobody", nobody, confer(nobody, 1), status::PARAMETER)?;
    }
    let first = env.server;
    let token = AtomicU64::new(0);
    let pass = |mine: u64, to: u64, area: Range| {
        for round in 0..ROUNDS {
            let turn = || token.load(Ordering::Acquire) == 2 * round + mine;
            let waited = second::wait_until(|| {
                // With the count of the moment, an old one, and to everybody.
                let count = Areas::count(area);
                let statuses = [
                    confer(to, count),
                    confer(to, count | 1),
                    confer(u64::MAX, 0),
                ];
                turn() || statuses != [status::SUCCESS; 3]
            });
            if !waited || !turn() {
                return round;
            }
            token.store(2 * round + mine + 1, Ordering::Release);
        }
        ROUNDS
    };
    let mut by_second = 0;
    let by_first = with(
        || by_second = pass(1, first, areas.own),
        || Ok(pass(0, second, areas.other)),
    )?;
    expect("rounds of the first", by_first, ROUNDS)?;
    expect("rounds of the second", by_second, ROUNDS)
}

fn confer_to_itself(_: &Env, second: u64, areas: &Areas) -> Outcome {
    let mut result = u64::MAX;
    with(
        || result = status_of(CONFER, [second, 0, 0, 0]),
        || {
            areas.wait_for_other()?;
            expect_status("H_PROD", status_of(PROD, [second, 0, 0, 0]))
        },
    )?;
    expect_status("H_CONFER", result)
}

fn join_second(_: &Env, second: u64, areas: &Areas) -> Outcome {
    // With interrupts let in it is refused.
    let refused = called(JOIN, 0, msr::KERNEL | msr::EE);
    expect("with EE on", refused.gpr[3], status::BAD_MODE)?;
    let mut joined = u64::MAX;
    with(
        || joined = status_of(JOIN, [0; 4]),
        || {
            areas.wait_for_other()?;
            expect(
                "the last to join",
                status_of(JOIN, [0; 4]),
                status::CONTINUE,
            )?;
            // And again: it has not joined.
            expect("once more", status_of(JOIN, [0; 4]), status::CONTINUE)?;
            expect_status("H_PROD", status_of(PROD, [second, 0, 0, 0]))
        },
    )?;
    expect_status("the first to join", joined)
}

fn join_first(env: &Env, _: u64, areas: &Areas) -> Outcome {
    let first = env.server;
    let about = AtomicU64::new(0);
    let mut statuses = [u64::MAX; 2];
    with(
        || {
            if second::wait_until(|| about.load(Ordering::Acquire) != 0) {
                areas.wait_for_own();
                statuses[0] = status_of(JOIN, [0; 4]);
                statuses[1] = status_of(PROD, [first, 0, 0, 0]);
            }
        },
        || {
            about.store(1, Ordering::Release);
            expect_status("the first to join", status_of(JOIN, [0; 4]))
        },
    )?;
    expect("the last to join", statuses[0], status::CONTINUE)?;
    expect_status("H_PROD", statuses[1])
}

/// A program that makes `about` 1 and then spins.
fn spin_after_telling(about: &AtomicU64) -> Context {
    Context::with_program(&Program::new().std(4, 5, 0).spin())
        .with_gpr(4, 1)
        .with_gpr(5, about.as_ptr().addr() as u64)
}

/// One that runs, one that has ceded, and one that has joined.
fn reset_other(_: &Env, second: u64, areas: &Areas) -> Outcome {
    let signal = |target| status_of(SIGNAL_SYS_RESET, [target, 0, 0, 0]);
    expect("nobody", signal(second + 1), status::PARAMETER)?;
    let about = AtomicU64::new(0);
    let mut contexts = None;
    with(
        || {
            let mut running = spin_after_telling(&about);
            running.run();
            about.store(2, Ordering::Release);
            let ceded = cede();
            about.store(3, Ordering::Release);
            contexts = Some([running, ceded, called(JOIN, 0, msr::KERNEL)]);
        },
        || {
            // Two signals that come before it has taken one are one.
            let wait_for_step =
                |step| wait_for("the other", || about.load(Ordering::Acquire) == step);
            wait_for_step(1)?;
            expect_status("to one that runs", signal(second))?;
            wait_for_step(2)?;
            areas.wait_for_other()?;
            expect_status("to one that has ceded", signal(second))?;
            wait_for_step(3)?;
            areas.wait_for_other()?;
            expect_status("to one that has joined", signal(second))
        },
    )?;
    let [running, ceded, joined] = contexts.ok_or(Failure::Unfit {
        what: "resets",
        got: 0,
        want: "three",
    })?;
    expect_interrupt("running", &running, 0x100, running.pc + 4)?;
    expect("its SRR1", running.srr1, msr::KERNEL)?;
    expect("MSR at its handler", running.arrival, 0x8000_0000_0000_1001)?;
    expect_interrupt("ceded", &ceded, 0x100, ceded.pc + 4)?;
    expect("its SRR1", ceded.srr1, msr::KERNEL | msr::EE)?;
    expect_status("its H_CEDE", ceded.gpr[3])?;
    expect_interrupt("joined", &joined, 0x100, joined.pc + 4)?;
    expect("its SRR1", joined.srr1, msr::KERNEL)?;
    expect_status("its H_JOIN", joined.gpr[3])
}

fn reset_all(_: &Env, _: u64) -> Outcome {
    const ALL: u64 = u64::MAX;
    const OTHERS: u64 = u64::MAX - 1;
    for (target, comes_back) in [(OTHERS, true), (ALL, false)] {
        let about = AtomicU64::new(0);
        let mut context = None;
        let own = with(
            || {
                let mut spinning = spin_after_telling(&about);
                spinning.run();
                context = Some(spinning);
            },
            || {
                wait_for("the other", || about.load(Ordering::Acquire) == 1)?;
                Ok(called(SIGNAL_SYS_RESET, target, msr::KERNEL))
            },
        )?;
        let other = brought(context)?;
        expect_interrupt("the other", &other, 0x100, other.pc + 4)?;
        let vector = if comes_back { vector::PROGRAM } else { 0x100 };
        expect_interrupt("this one", &own, vector, own.pc + 4)?;
        expect_status("status", own.gpr[3])?;
    }
    Ok(())
}
