// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The second processor of a guest that has one, and how it is given work.
//!
//! It begins at [`entry`], when RTAS start-cpu is told so, with a stack and a code page of its own.
//! The vectors in low memory serve both processors, for what they save goes where SPRG1 points. It
//! waits in a loop for work, and reports an interrupt that no context of the work asked for.

// UNSAFETY: a closure on one processor's stack is run by the other one.
#![expect(unsafe_code)]

use crate::clock::{self, FREQUENCY};
use crate::console::println;
use crate::context;
use crate::hcall;
use crate::number::hcall::CONFER;
use crate::start;
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// How long the other processor may take, in ticks. An emulator's host may be busy.
pub const PATIENCE: u64 = 60 * FREQUENCY;

/// What the second processor is at.
mod state {
    /// Not started, or not there yet.
    pub const ABSENT: u32 = 0;
    /// It waits for work.
    pub const IDLE: u32 = 1;
    /// It has been given work.
    pub const WORKS: u32 = 2;
    /// The work is done.
    pub const DONE: u32 = 3;
    /// An interrupt ended it.
    pub const INTERRUPTED: u32 = 4;
}

static STATE: AtomicU32 = AtomicU32::new(state::ABSENT);

type Work = (extern "C" fn(*mut u8), *mut u8);

/// Belongs to the first processor while the state is IDLE, to the second one while it is WORKS.
struct Mailbox(UnsafeCell<Option<Work>>);

// SAFETY: see its owner.
unsafe impl Sync for Mailbox {}

static MAILBOX: Mailbox = Mailbox(UnsafeCell::new(None));

/// The interrupt: its vector, and SRR0.
static INTERRUPT: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];

/// Why work was not done.
#[derive(Clone, Copy, Debug)]
pub enum Trouble {
    /// The second processor is not there.
    Absent,
    /// An interrupt ended it.
    Interrupted {
        /// The vector.
        vector: u64,
        /// Where.
        srr0: u64,
    },
}

/// Where the second processor begins.
#[must_use]
pub fn entry() -> u64 {
    unsafe extern "C" {
        static rt_second_start: u8;
    }
    (&raw const rt_second_start).addr() as u64
}

/// Whether it is there, waiting for work.
#[must_use]
pub fn is_idle() -> bool {
    STATE.load(Ordering::Acquire) == state::IDLE
}

/// Has the second processor do `work` while this one does `meanwhile`, which must not wait for ever for
/// what the other one does; comes back when both are done.
///
/// # Errors
/// The second processor is not there, or an interrupt ended its work.
pub fn with<F: FnMut() + Send, R>(
    mut work: F,
    meanwhile: impl FnOnce() -> R,
) -> Result<R, Trouble> {
    give(&mut work)?;
    let result = meanwhile();
    let over = |state| state == state::DONE || state == state::INTERRUPTED;
    if !wait_until(|| over(STATE.load(Ordering::Acquire))) {
        // It goes on with what lies on this stack.
        println!("guest: the second processor does not come to an end of its work");
        start::stop();
    }
    let ended = STATE.swap(state::IDLE, Ordering::AcqRel);
    if ended == state::DONE {
        return Ok(result);
    }
    let [vector, srr0] = INTERRUPT
        .each_ref()
        .map(|word| word.load(Ordering::Relaxed));
    Err(Trouble::Interrupted { vector, srr0 })
}

/// Has the second processor do work that it does not come back from, which has happened when `gone`
/// holds.
///
/// # Errors
/// The second processor is not there.
pub fn dismiss<F: FnMut() + Send>(mut work: F, gone: impl FnMut() -> bool) -> Result<(), Trouble> {
    give(&mut work)?;
    if !wait_until(gone) {
        println!("guest: the second processor does not go");
        start::stop();
    }
    STATE.store(state::ABSENT, Ordering::Release);
    Ok(())
}

fn give<F: FnMut() + Send>(work: &mut F) -> Result<(), Trouble> {
    extern "C" fn call<F: FnMut()>(work: *mut u8) {
        // SAFETY: `give` passes a pointer to this type, and its callers keep what it points to until
        // the second processor has done with it.
        let work = unsafe { &mut *work.cast::<F>() };
        work();
    }
    if !is_idle() {
        return Err(Trouble::Absent);
    }
    let work: Work = (call::<F>, (&raw mut *work).cast());
    // SAFETY: the state is IDLE, so the mailbox is this processor's.
    unsafe { *MAILBOX.0.get() = Some(work) };
    STATE.store(state::WORKS, Ordering::Release);
    Ok(())
}

/// What the second processor does.
pub(crate) extern "C" fn main() -> ! {
    STATE.store(state::IDLE, Ordering::Release);
    loop {
        let interrupt = context::guard(|| {
            loop {
                work_when_given();
            }
        });
        if let Some(context) = interrupt {
            for (word, value) in INTERRUPT.iter().zip([context.vector, context.srr0]) {
                word.store(value, Ordering::Relaxed);
            }
        }
        STATE.store(state::INTERRUPTED, Ordering::Release);
        while STATE.load(Ordering::Acquire) == state::INTERRUPTED {
            leave_to_others();
        }
    }
}

fn work_when_given() {
    while STATE.load(Ordering::Acquire) != state::WORKS {
        leave_to_others();
    }
    // SAFETY: the state is WORKS, so the mailbox is this processor's.
    if let Some((work, argument)) = unsafe { (*MAILBOX.0.get()).take() } {
        work(argument);
    }
    STATE.store(state::DONE, Ordering::Release);
    while STATE.load(Ordering::Acquire) == state::DONE {
        leave_to_others();
    }
}

/// Waits until `condition` holds, for [`PATIENCE`] at most, leaving the thread to others; whether it
/// holds.
pub fn wait_until(mut condition: impl FnMut() -> bool) -> bool {
    clock::wait_until(PATIENCE, || {
        let holds = condition();
        if !holds {
            leave_to_others();
        }
        holds
    })
}

/// Spins for a moment, and lets the other processor have the thread, should they share one.
pub fn leave_to_others() {
    for _ in 0..256 {
        core::hint::spin_loop();
    }
    hcall::call(CONFER, [u64::MAX, 0, 0, 0]);
}
