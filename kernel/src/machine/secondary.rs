// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Taking the other threads out of firmware.
//!
//! Each gets a block of memory with its stacks and its event queue, is called by OPAL, and says when
//! it is here. One that firmware refuses, or that does not come in time, is named in the log and runs
//! nothing: the machine works with the others.

// UNSAFETY: memory of stacks, and a function that assembly calls.
#![expect(unsafe_code)]

use super::firmware::Opal;
use super::hardware::{HwInterrupts, HwMemory};
use super::interrupts;
use super::run;
use super::start::{Machine, set_up_thread};
use super::thread::{self, Arrival, EMERGENCY_STACK, Thread};
use crate::smp::THREAD_BYTES;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};
use penstock_arch::addr::HostReal;
use penstock_arch::regs::sprn;
use penstock_arch::spr;
use penstock_boot::bootinfo::HostRange;
use penstock_boot::secondary::{self, SecondaryStart};
use penstock_mm::frame::FrameAllocator;
use penstock_mm::page_ops::PageOps;
use penstock_xive::{ChipId, FirmwareError, HostInterrupt, VpBlock, VpId};

/// Bytes of a thread's stack.
const STACK: u64 = 64 << 10;

// The block of a thread: stack, emergency stacks, event queue.
const _: () =
    assert!(STACK + 3 * EMERGENCY_STACK as u64 + HostInterrupt::QUEUE_BYTES <= THREAD_BYTES);

/// How long the threads may take to come, in seconds. In firmware they sleep; an emulator on a busy host
/// may take long to wake them.
const SECONDS: u64 = 60;

/// PTCR of all threads.
static PTCR: AtomicU64 = AtomicU64::new(0);

/// The machine, for threads that come.
static MACHINE: spin::Once<&'static Machine> = spin::Once::new();

/// Gives every thread its memory and its interrupt, and takes the others out of firmware. On the boot
/// thread, after the interrupt controller was reset and the partition table set.
pub fn start_all(machine: &'static Machine, memory: HwMemory, frames: &mut FrameAllocator) {
    PTCR.store(spr::read::<{ sprn::PTCR }>(), Ordering::Relaxed);
    MACHINE.call_once(|| machine);
    let me = thread::this();
    let mut list = Vec::new();
    let count = u32::try_from(thread::all().len()).unwrap_or(u32::MAX);
    // They stay with the threads as long as the machine runs.
    let pools = interrupts::allocate_vps(machine.info, memory, frames, count);
    for (index, thread) in (0..).zip(thread::all()) {
        let start = match prepare(machine, memory, frames, thread, pool_vp(&pools, index)) {
            Ok(start) => start,
            Err(error) => {
                log::error!("thread {} (PIR {:#x}): {error}", thread.number, thread.pir);
                continue;
            }
        };
        if thread.number != me.number {
            list.push(start);
        }
    }
    me.accept_interrupts();
    let list: &'static [SecondaryStart] = Vec::leak(list);
    if list.is_empty() {
        return;
    }
    secondary::announce(list);
    let before = spr::timebase();
    let others = || {
        thread::all()
            .iter()
            .filter(|thread| list.iter().any(|start| start.argument == thread.address()))
    };
    for thread in others() {
        thread.advance(Arrival::Away, Arrival::Called);
        // SAFETY: the list has it, and it ends in `penstock_secondary`.
        if let Err(status) = unsafe { secondary::start(thread.pir) } {
            thread.advance(Arrival::Called, Arrival::GivenUp);
            log::error!(
                "thread {} (PIR {:#x}) is left out: OPAL_START_CPU: {status}",
                thread.number,
                thread.pir
            );
        }
    }
    let limit = SECONDS * machine.info.cpu.timebase_hz;
    for thread in others() {
        while thread.arrival() == Arrival::Called {
            if spr::timebase().wrapping_sub(before) > limit
                && thread.advance(Arrival::Called, Arrival::GivenUp)
            {
                log::error!(
                    "thread {} (PIR {:#x}) is left out: it did not come within {SECONDS} s",
                    thread.number,
                    thread.pir
                );
            }
            core::hint::spin_loop();
        }
    }
    let here = thread::all().iter().filter(|thread| thread.is_here());
    log::info!(
        "{} of {} threads run, the boot thread is number {}",
        here.count(),
        thread::all().len(),
        me.number
    );
}

/// The virtual processor of a thread's pool ring.
fn pool_vp(pools: &Result<VpBlock, FirmwareError>, index: u32) -> Result<VpId, FirmwareError> {
    let block = pools.as_ref().map_err(|error| *error)?;
    block.vp(index).ok_or(FirmwareError::RESOURCE)
}

/// Memory and interrupt of one thread.
fn prepare(
    machine: &Machine,
    memory: HwMemory,
    frames: &mut FrameAllocator,
    thread: &'static Thread,
    pool: Result<VpId, FirmwareError>,
) -> Result<SecondaryStart, alloc::string::String> {
    let fail = |error: &dyn core::fmt::Display| alloc::format!("left out: {error}");
    let block = frames
        .alloc(THREAD_BYTES, THREAD_BYTES)
        .map_err(|error| fail(&error))?
        .base();
    let at = |offset| HostReal::new(block.get() + offset);
    let queue = at(STACK + 3 * EMERGENCY_STACK as u64);
    // SAFETY: just allocated, never given back.
    unsafe { memory.zero(queue, HostInterrupt::QUEUE_BYTES) };
    if thread.stack().is_none() {
        let top = |number: u64| at(STACK + number * EMERGENCY_STACK as u64).get();
        thread.set_emergency_stacks([top(1), top(2), top(3)]);
        let stack = HostRange::new(block, STACK).ok_or_else(|| fail(&"no stack"))?;
        // SAFETY: just allocated; the thread is in firmware.
        unsafe { thread.set_stack(stack, stack.end().get()) };
    }
    let chip = machine
        .info
        .cores
        .iter()
        .find(|core| core.threads.contains(&thread.pir))
        .and_then(|core| core.chip)
        .map(ChipId::new);
    let page = machine.info.xive.tima.hypervisor.start();
    let pool = pool.map_err(|error| alloc::format!("left out: pool VP: {error}"))?;
    let pir = thread.pir;
    let interrupt = HostInterrupt::set_up(&Opal, &HwInterrupts, pir, chip, page, queue, pool)
        .map_err(|error| fail(&error))?;
    thread.set_interrupt(interrupt);
    Ok(SecondaryStart {
        pir: u64::from(thread.pir),
        stack: at(STACK).get(),
        argument: thread.address(),
    })
}

/// Where a thread begins. Called by `secondary.S` on the thread's stack.
///
/// # Safety
/// As `secondary.S` describes: `start` is the calling thread's entry of the announced list.
#[unsafe(no_mangle)]
unsafe extern "C" fn penstock_secondary(start: &'static SecondaryStart) -> ! {
    let mine = |thread: &&Thread| thread.address() == start.argument;
    let (Some(thread), Some(machine)) = (thread::all().iter().find(mine), MACHINE.get()) else {
        // SAFETY: nothing was done with it.
        unsafe { secondary::give_back() }
    };
    // SAFETY: this is the thread, fresh from firmware; the vectors stand.
    unsafe { set_up_thread(thread) };
    // SAFETY: no guest is loaded; the table is that of all threads.
    unsafe { spr::write::<{ sprn::PTCR }>(PTCR.load(Ordering::Relaxed)) };
    penstock_arch::sync::isync();
    thread.accept_interrupts();
    if !thread.advance(Arrival::Called, Arrival::Here) {
        // Nobody counts on it any more.
        // SAFETY: no guest was ever loaded.
        unsafe { secondary::give_back() }
    }
    run::run_others(machine, thread)
}
