// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The hypervisor on the machine: wiring, and the loop that runs the guests.
//!
//! Everything here needs a POWER processor in hypervisor state; all that decides lies in the
//! modules beside it, which the host tests.

// UNSAFETY: the entry point takes raw addresses from firmware, and the light handlers a context
// from assembly.
#![expect(unsafe_code)]

mod balance;
mod builtin;
mod console;
mod control;
mod create;
mod exits;
mod firmware;
mod hardware;
mod heap;
mod idle;
mod interrupts;
mod job;
mod last_words;
mod mitigations;
mod operator;
mod partition_table;
mod pool;
mod run;
mod runner;
mod seat;
mod secondary;
mod selftest;
mod sleep;
mod slot;
mod start;
mod thread;
mod traced;
mod views;
mod world;

use crate::hcall;
use crate::vcpu::Vcpu;
use hardware::Hardware;
use penstock_arch::context::GuestContext;

/// Chooses what serves an hcall on the light path. Called by `guest_entry.S`, which then calls that.
///
/// # Safety
/// `ctx` must be the context of the running [`Vcpu`], which nothing else holds a reference to.
#[unsafe(no_mangle)]
unsafe extern "C" fn penstock_hcall(ctx: *mut GuestContext) -> hcall::Handler<Hardware> {
    // SAFETY: contexts that guests are entered with are the first field of a `Vcpu`, and the run
    // loop's borrow is lent to the guest until its full exit.
    let vcpu = unsafe { &mut *ctx.cast::<Vcpu<'_, Hardware>>() };
    hcall::choose(vcpu)
}

/// Serves a hypervisor storage interrupt on the light path. Called by `guest_entry.S`.
///
/// # Safety
/// As [`penstock_hcall`].
#[unsafe(no_mangle)]
unsafe extern "C" fn penstock_storage_fault(ctx: *mut GuestContext, vector: u64) -> u64 {
    // SAFETY: as in `penstock_hcall`.
    let vcpu = unsafe { &mut *ctx.cast::<Vcpu<'_, Hardware>>() };
    vcpu.storage_fault(vector).get()
}
