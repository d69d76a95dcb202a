// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Named checks and their runner.
//!
//! Each check prints one line: `ok NAME`, `FAIL NAME: WHAT: got X, want Y`, or `skip NAME: REASON`.
//! A check that hangs is ended by the watchdog, one that runs into an interrupt by the vectors;
//! both count as failed, and the next check runs.

use crate::clock;
use crate::console::println;
use crate::context::{self, Context};
use crate::cpu;
use crate::number::vector;
use crate::start::Interrupt;

/// Why a check did not pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// A value is not the expected one.
    Mismatch {
        /// What was looked at.
        what: &'static str,
        /// Which of many (an index, an address); 0 where there is one.
        at: u64,
        /// The value.
        got: u64,
        /// The expected value.
        want: u64,
    },
    /// A value is outside what is allowed.
    Unfit {
        /// What was looked at.
        what: &'static str,
        /// The value.
        got: u64,
        /// What is allowed.
        want: &'static str,
    },
    /// The check does not apply here.
    Skip(&'static str),
}

/// What a check returns.
pub type Outcome = Result<(), Failure>;

/// A check with its name; `E` is what the guest hands to all of them.
#[derive(Debug)]
pub struct Check<E> {
    /// Printed with the result.
    pub name: &'static str,
    /// The check.
    pub run: fn(&mut E) -> Outcome,
}

/// How many checks passed and failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Passed.
    pub passed: u64,
    /// Failed.
    pub failed: u64,
}

/// Compares a value with the expected one.
///
/// # Errors
/// They differ.
pub fn expect(what: &'static str, got: u64, want: u64) -> Outcome {
    expect_at(what, 0, got, want)
}

/// Compares one of many values with the expected one.
///
/// # Errors
/// They differ.
pub fn expect_at(what: &'static str, at: u64, got: u64, want: u64) -> Outcome {
    if got == want {
        Ok(())
    } else {
        Err(Failure::Mismatch {
            what,
            at,
            got,
            want,
        })
    }
}

/// Compares a value with a condition that `want` puts into words.
///
/// # Errors
/// The condition does not hold.
pub fn require(
    what: &'static str,
    want: &'static str,
    got: u64,
    holds: impl FnOnce(u64) -> bool,
) -> Outcome {
    if holds(got) {
        Ok(())
    } else {
        Err(Failure::Unfit { what, got, want })
    }
}

/// Compares the interrupt that ended a context with the expected one: vector and SRR0.
///
/// # Errors
/// They differ.
pub fn expect_interrupt(what: &'static str, context: &Context, vector: u64, srr0: u64) -> Outcome {
    expect_at(what, context.srr0, context.vector, vector)?;
    expect(what, context.srr0, srr0)
}

/// Expects that a context reached the trap after `words` instructions.
///
/// # Errors
/// It ended in another way.
pub fn expect_completed(what: &'static str, context: &Context, words: u64) -> Outcome {
    expect_interrupt(what, context, vector::PROGRAM, context.pc + 4 * words)
}

/// Runs the checks in order; after one that failed, `tidy` removes what it may have left.
pub fn run<E>(checks: &[Check<E>], environment: &mut E, tidy: fn(&mut E)) -> Tally {
    let mut tally = Tally::default();
    for check in checks {
        let mut outcome = Ok(());
        clock::start_watchdog();
        let interrupt = context::guard(|| {
            cpu::enable_interrupts();
            outcome = (check.run)(environment);
            cpu::disable_interrupts();
        });
        let before = tally.failed;
        report(&mut tally, check.name, outcome, interrupt.as_ref());
        if tally.failed != before {
            tidy(environment);
        }
    }
    tally
}

/// Prints what became of a check, and counts it.
pub fn report(tally: &mut Tally, name: &str, outcome: Outcome, interrupt: Option<&Context>) {
    match (interrupt, outcome) {
        (Some(context), _) if context.vector & 0xfff == vector::DECREMENTER => {
            println!(
                "FAIL {name}: got no end, want one: the watchdog rang at {:#x}",
                context.srr0
            );
            tally.failed += 1;
        }
        (Some(context), _) => {
            println!(
                "FAIL {name}: got interrupt {}, want none",
                Interrupt(context)
            );
            tally.failed += 1;
        }
        (None, Ok(())) => {
            println!("ok {name}");
            tally.passed += 1;
        }
        (None, Err(Failure::Skip(reason))) => println!("skip {name}: {reason}"),
        (None, Err(Failure::Unfit { what, got, want })) => {
            println!("FAIL {name}: {what}: got {got:#x}, want {want}");
            tally.failed += 1;
        }
        (
            None,
            Err(Failure::Mismatch {
                what,
                at,
                got,
                want,
            }),
        ) => {
            if at == 0 {
                println!("FAIL {name}: {what}: got {got:#x}, want {want:#x}");
            } else {
                println!("FAIL {name}: {what} [{at:#x}]: got {got:#x}, want {want:#x}");
            }
            tally.failed += 1;
        }
    }
}
