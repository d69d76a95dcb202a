// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tests that need the machine: run with `penstock.selftest=1`, instead of partitions.

use super::hardware::{Hardware, HwMemory};
use super::last_words::{ExitStatus, finish};
use super::start::Machine;
use super::thread::{self, Thread};
use super::world::World;
use crate::lifecycle::PauseReason;
use crate::platform::Platform;
use alloc::boxed::Box;
use core::sync::atomic::{AtomicU64, Ordering};
use penstock_arch::hash::Lpid;
use penstock_arch::hw_thread::HwThread;
use penstock_arch::regs::vcpu_spr::Policy;
use penstock_arch::regs::{Lpcr, Msr, VcpuSpr, sprn};
use penstock_arch::switch::{self, FirstEntry, ParkedState, SlbEntry, Thread as _};
use penstock_arch::{entry, spr};
use penstock_mm::frame::FrameAllocator;
use penstock_mm::guest_memory::SlotId;
use penstock_mm::real::RealArray;

/// What a test works on.
struct Bench<'a> {
    machine: &'a Machine,
    frames: &'a mut FrameAllocator,
    memory: HwMemory,
}

type Test = fn(&mut Bench<'_>) -> Result<(), &'static str>;

const TESTS: &[(&str, Test)] = &[
    ("msr_is_little_endian_hypervisor_real_mode", msr),
    ("lpcr_reads_back", lpcr),
    ("hypervisor_registers_are_set", registers),
    ("vectors_are_installed_and_unchanged", vectors),
    ("low_memory_is_never_free", low_memory),
    ("flushing_the_slb_leaves_no_entry", slb),
    ("timebase_counts", timebase),
    ("decrementer_is_large_and_signed", decrementer),
    ("zeroing_by_cache_block", zeroing),
    ("random_numbers_differ", random),
    ("spr_table_complete_both_directions", switched_registers),
    ("fp_vec_not_leaked", vectors_not_leaked),
    ("slb_not_leaked", slb_not_leaked),
    (
        "decrementer_goes_on_while_its_guest_is_away",
        parked_decrementer,
    ),
    ("every_thread_is_here", all_here),
    ("each_ring_is_answered", rings),
    ("a_sleeping_thread_is_interrupted", interrupts),
    ("stacks_are_half_empty", stacks),
];

/// Tests that need a guest as well, if there is a thread to run it beside this one.
const GUEST_TESTS: &[(&str, GuestTest)] = &[("a_running_guest_is_virtualized", virtualized)];

type GuestTest = fn(&mut World, &'static Thread) -> Result<(), &'static str>;

/// How many tests went how.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    passed: usize,
    failed: usize,
}

impl Tally {
    fn note(&mut self, name: &str, outcome: Result<(), &'static str>) {
        match outcome {
            Ok(()) => {
                self.passed += 1;
                log::info!("ok {name}");
            }
            Err(why) => {
                self.failed += 1;
                log::error!("FAIL {name}: {why}");
            }
        }
    }

    /// Prints the sums, and powers off: status 0 if all passed.
    fn finish(self) -> ! {
        log::info!("selftest: {} passed, {} failed", self.passed, self.failed);
        finish(if self.failed == 0 {
            ExitStatus::Success
        } else {
            ExitStatus::HypervisorBug
        })
    }
}

/// Runs the tests that need the built-in guest, and powers off. `world` has one partition, whose guest
/// spins.
pub fn run_with_guest(mut world: World, mut tally: Tally) -> ! {
    let Some(thread) = others().last() else {
        tally.finish()
    };
    if let Some(slot) = world.slots.first_mut() {
        slot.configuration.pinned = alloc::vec![u32::try_from(thread.number).unwrap_or(0)];
    }
    for (name, test) in GUEST_TESTS {
        let outcome = match world.start(0) {
            Ok(()) => test(&mut world, thread),
            Err(error) => {
                log::error!("{error}");
                Err("the guest does not start")
            }
        };
        // That it ends would power the machine off.
        let outcome = outcome.and_then(|()| {
            let paused = world.pause(0, PauseReason::Operator);
            paused.map_err(|_| "its thread does not let go of it")
        });
        tally.note(name, outcome);
    }
    tally.finish()
}

/// Runs all tests that need no guest, and prints a line each.
pub fn run(machine: &Machine, frames: &mut FrameAllocator, memory: HwMemory) -> Tally {
    let mut bench = Bench {
        machine,
        frames,
        memory,
    };
    let mut tally = Tally::default();
    for (name, test) in TESTS {
        tally.note(name, test(&mut bench));
    }
    tally
}

fn expect(holds: bool, otherwise: &'static str) -> Result<(), &'static str> {
    if holds { Ok(()) } else { Err(otherwise) }
}

fn msr(_: &mut Bench<'_>) -> Result<(), &'static str> {
    let msr = Msr::from_bits_retain(spr::msr());
    expect(msr == Msr::HYPERVISOR, "MSR differs from Msr::HYPERVISOR")
}

fn lpcr(_: &mut Bench<'_>) -> Result<(), &'static str> {
    for value in [
        Lpcr::GUEST,
        Lpcr::GUEST | Lpcr::ILE | Lpcr::AIL3,
        Lpcr::HYPERVISOR,
    ] {
        Hardware::write_lpcr(value);
        expect(
            spr::read::<{ sprn::LPCR }>() == value.bits(),
            "a bit did not stick",
        )?;
    }
    Ok(())
}

fn registers(_: &mut Bench<'_>) -> Result<(), &'static str> {
    expect(spr::read::<{ sprn::HRMOR }>() == 0, "HRMOR is not 0")?;
    expect(spr::read::<{ sprn::PCR }>() == 0, "PCR is not 0")?;
    expect(
        spr::read::<{ sprn::AMOR }>() == u64::MAX,
        "AMOR is not all ones",
    )?;
    expect(
        spr::read::<{ sprn::HSPRG0 }>() == thread::boot().idle_context(),
        "HSPRG0 is not the idle context",
    )?;
    expect(
        core::ptr::eq(thread::this(), thread::boot())
            && u64::from(thread::this().pir) == spr::read::<{ sprn::PIR }>(),
        "HSPRG0 does not lead to this thread's record",
    )
}

fn vectors(bench: &mut Bench<'_>) -> Result<(), &'static str> {
    expect(
        entry::vectors_checksum() == bench.machine.vectors,
        "checksum differs",
    )
}

fn low_memory(bench: &mut Bench<'_>) -> Result<(), &'static str> {
    let mut kept = [const { None }; 64];
    let mut result = Ok(());
    for slot in &mut kept {
        match bench.frames.alloc(64 << 10, 64 << 10) {
            Ok(frames) => {
                if frames.base() < entry::VECTORS_LIMIT {
                    result = Err("a frame below 64 KiB was given out");
                }
                *slot = Some(frames);
            }
            Err(_) => break,
        }
    }
    for frames in kept.into_iter().flatten() {
        bench
            .frames
            .free(frames)
            .map_err(|_| "a frame could not be freed")?;
    }
    result
}

fn slb(_: &mut Bench<'_>) -> Result<(), &'static str> {
    const VALID: u64 = 0x0800_0000;
    const ENTRIES: u32 = 32;
    for entry in 0..ENTRIES {
        let esid = u64::from(entry) << 40;
        entry::insert_slbe(0x4000_0000_0000_0000, esid | VALID | u64::from(entry));
    }
    for entry in 0..ENTRIES {
        expect(entry::slbe(entry) & VALID != 0, "an entry was not entered")?;
    }
    entry::flush_slb();
    for entry in 0..ENTRIES {
        expect(entry::slbe(entry) & VALID == 0, "an entry survived")?;
    }
    Ok(())
}

fn timebase(_: &mut Bench<'_>) -> Result<(), &'static str> {
    let first = spr::timebase();
    for _ in 0..10_000 {
        if spr::timebase() > first {
            return Ok(());
        }
    }
    Err("it stands still")
}

fn decrementer(_: &mut Bench<'_>) -> Result<(), &'static str> {
    // With the guest's LPCR a value beyond 32 bits stays positive.
    Hardware::write_lpcr(Lpcr::HYPERVISOR);
    super::sleep::set_decrementer(1 << 40);
    expect(
        Hardware::decrementer() > 1 << 39,
        "a large value was cut off",
    )?;
    super::sleep::set_decrementer(u64::MAX);
    expect(
        Hardware::decrementer() < 0,
        "a negative value is not negative",
    )?;
    super::sleep::set_decrementer(0x7fff_ffff);
    Ok(())
}

fn zeroing(bench: &mut Bench<'_>) -> Result<(), &'static str> {
    let frames = bench
        .frames
        .alloc(64 << 10, 64 << 10)
        .map_err(|_| "no memory")?;
    let cells = RealArray::<AtomicU64>::new(frames, &bench.memory).map_err(|_| "no array")?;
    for cell in cells.iter() {
        if cell.swap(u64::MAX, Ordering::Relaxed) != 0 {
            return Err("a new array is not zero");
        }
    }
    bench
        .frames
        .free(cells.into_frames())
        .map_err(|_| "could not be freed")
}

fn random(_: &mut Bench<'_>) -> Result<(), &'static str> {
    match (Hardware::random(), Hardware::random()) {
        (Some(a), Some(b)) => expect(a != b, "two numbers are the same"),
        // A machine without a generator says so to guests.
        _ => Ok(()),
    }
}

/// A virtual processor's number for these tests: no partition has it.
const LPID: Lpid = Lpid::new(0xff0);

fn thread(bench: &Bench<'_>) -> HwThread {
    // SAFETY: no guest is loaded, interrupts are off, and the processor is the PVR's.
    unsafe { HwThread::new(bench.machine.processor) }
}

fn fresh(bench: &Bench<'_>) -> Box<ParkedState> {
    Box::new(ParkedState::new(bench.machine.processor, spr::timebase()))
}

/// Puts a virtual processor on the thread and takes it away again: what became of it.
fn round_trip(thread: &HwThread, state: &ParkedState) -> Box<ParkedState> {
    let mut back = Box::new(state.clone());
    switch::enter(thread, state, Lpcr::GUEST, LPID, FirstEntry::Yes);
    switch::leave(thread, &mut back);
    back
}

/// A value of a register that its start value is not, and that does no harm.
fn unusual(spr: VcpuSpr, start: u64) -> u64 {
    match spr {
        // The run latch is all that it has.
        VcpuSpr::Ctrl => 0,
        // A doorbell for the thread itself, which is not taken here.
        VcpuSpr::Dpdes => 1,
        // Still frozen.
        VcpuSpr::Mmcr0 => start | 0x4000_0000,
        // Low priority; other values are reserved, or not for everybody.
        VcpuSpr::Ppr => 2 << 50,
        _ => start | 1 << 4,
    }
}

/// Registers that count by themselves.
const COUNTING: [VcpuSpr; 4] = [VcpuSpr::Vtb, VcpuSpr::Purr, VcpuSpr::Spurr, VcpuSpr::Ic];

fn switched_registers(bench: &mut Bench<'_>) -> Result<(), &'static str> {
    let (thread, processor) = (thread(bench), bench.machine.processor);
    let start = fresh(bench);
    let mut odd = start.clone();
    for spr in VcpuSpr::of(processor) {
        odd.set_spr(spr, unusual(spr, start.spr(spr)));
    }
    let first = round_trip(&thread, &odd);
    let other = round_trip(&thread, &start);
    let second = round_trip(&thread, &first);
    for spr in VcpuSpr::of(processor) {
        // The run latch apart, CTRL shows what the thread does.
        let mask = if spr == VcpuSpr::Ctrl { 1 } else { u64::MAX };
        let values = (
            start.spr(spr),
            first.spr(spr) & mask,
            other.spr(spr) & mask,
            second.spr(spr) & mask,
        );
        let well = match spr.policy(processor) {
            Policy::Fixed(_) => true,
            Policy::Switched { .. } if COUNTING.contains(&spr) => values.3 >= values.1,
            Policy::Switched { .. } => {
                values.1 == odd.spr(spr) && values.2 == values.0 && values.3 == values.1
            }
        };
        if !well {
            log::error!("{spr:?}: {values:x?}");
            return Err("a register did not come back");
        }
    }
    switch::park(&thread);
    Ok(())
}

fn vectors_not_leaked(bench: &mut Bench<'_>) -> Result<(), &'static str> {
    let thread = thread(bench);
    let start = fresh(bench);
    let mut odd = start.clone();
    for (number, register) in (1u128..).zip(&mut odd.vectors.vsr) {
        *register = number << 120 | number << 64 | number;
    }
    // Rounding towards zero; saturated and not Java.
    odd.vectors.fpscr = [1, 0];
    odd.vectors.vscr = 0x1_0001;
    let first = round_trip(&thread, &odd);
    expect(first.vectors == odd.vectors, "registers were not saved")?;
    let other = round_trip(&thread, &start);
    expect(other.vectors == start.vectors, "registers were leaked")?;
    let second = round_trip(&thread, &first);
    expect(second.vectors == odd.vectors, "registers did not come back")
}

fn slb_not_leaked(bench: &mut Bench<'_>) -> Result<(), &'static str> {
    let thread = thread(bench);
    let start = fresh(bench);
    let mut odd = start.clone();
    for (number, entry) in (0u64..).zip(&mut odd.slb) {
        *entry = SlbEntry {
            esid: number << 40 | 0x0800_0000,
            vsid: 0x4000_0000_0000_0000 | number << 24 | 0x400,
        };
    }
    let first = round_trip(&thread, &odd);
    expect(first.slb == odd.slb, "segments were not saved")?;
    let other = round_trip(&thread, &start);
    expect(other.slb == start.slb, "segments were leaked")?;
    let second = round_trip(&thread, &first);
    expect(second.slb == odd.slb, "segments did not come back")?;
    switch::park(&thread);
    let left = (0..)
        .zip(odd.slb)
        .any(|(number, _)| thread.slb_entry(number).is_valid());
    expect(!left, "segments stay on a parked thread")
}

fn parked_decrementer(bench: &mut Bench<'_>) -> Result<(), &'static str> {
    const TICKS: u64 = 1 << 30;
    let thread = thread(bench);
    let mut state = fresh(bench);
    let expiry = spr::timebase() + TICKS;
    state.decrementer_expiry = expiry;
    for _ in 0..3 {
        state = round_trip(&thread, &state);
    }
    // It is read and written a few instructions apart from the time base.
    let off = state.decrementer_expiry.abs_diff(expiry);
    expect(off < TICKS / 1024, "the time of expiry has moved")
}

fn others() -> impl Iterator<Item = &'static Thread> {
    let boot = thread::boot().number;
    thread::all()
        .iter()
        .filter(move |thread| thread.number != boot && thread.is_here())
}

fn all_here(_: &mut Bench<'_>) -> Result<(), &'static str> {
    let here = thread::all().iter().all(Thread::is_here);
    expect(here, "a thread is missing")
}

/// Waits until it holds; false after some seconds.
fn wait(machine: &Machine, holds: impl Fn() -> bool) -> bool {
    let since = spr::timebase();
    let limit = 10 * machine.info.cpu.timebase_hz;
    while !holds() {
        if spr::timebase().wrapping_sub(since) > limit {
            return false;
        }
        core::hint::spin_loop();
    }
    true
}

/// Rings each thread many times, as soon as it has answered: most often it is then on its way to
/// sleep. A ring that is lost is a thread that sleeps on.
fn rings(bench: &mut Bench<'_>) -> Result<(), &'static str> {
    const TIMES: u64 = 1000;
    for thread in others() {
        for _ in 0..TIMES {
            let before = thread.answers.load(Ordering::Acquire);
            thread.ring();
            let answered = || thread.answers.load(Ordering::Acquire) != before;
            expect(wait(bench.machine, answered), "a ring was not answered")?;
        }
        log::info!(
            "thread {}: {TIMES} rings, {} answers, {} interrupts, {} for nothing",
            thread.number,
            thread.answers.load(Ordering::Relaxed),
            thread.interrupts.load(Ordering::Relaxed),
            thread.spurious.load(Ordering::Relaxed),
        );
    }
    Ok(())
}

/// A thread that has had time to fall asleep is woken by an interrupt.
fn interrupts(bench: &mut Bench<'_>) -> Result<(), &'static str> {
    for thread in others() {
        let before = thread.interrupts.load(Ordering::Relaxed);
        for _ in 0..20 {
            let since = spr::timebase();
            let pause = bench.machine.info.cpu.timebase_hz / 1000;
            while spr::timebase().wrapping_sub(since) < pause {
                core::hint::spin_loop();
            }
            thread.ring();
        }
        let came = || thread.interrupts.load(Ordering::Relaxed) != before;
        expect(wait(bench.machine, came), "no interrupt has come")?;
    }
    Ok(())
}

fn stacks(_: &mut Bench<'_>) -> Result<(), &'static str> {
    for thread in thread::all().iter().filter(|thread| thread.is_here()) {
        let (used, all) = thread.stack_used().ok_or("a thread has no stack")?;
        log::info!(
            "thread {}: {used} of {all} bytes of its stack were in use",
            thread.number
        );
        expect(used <= all / 2, "more than half of a stack was in use")?;
        thread.check_stack();
    }
    Ok(())
}

/// The guest spins on its thread with VPM1 clear, deaf to interrupts. When a part of its memory is
/// guarded, it is out at once, and comes back with VPM1 set; when that ends, VPM1 goes.
fn virtualized(world: &mut World, thread: &'static Thread) -> Result<(), &'static str> {
    const LEN: u64 = 64 << 10;
    let machine = world.machine;
    let slot = world.slots.first().ok_or("no partition")?;
    let guest = slot.guest.as_ref().ok_or("no guest")?;
    let mmu = &guest.occupied.partition().mmu;
    let lpid = mmu.lpid().get();
    let without = || thread.presence.is_without_vpm(lpid);
    for round in 0..20 {
        // It boots first, and then its entries are there.
        if !wait(machine, || without() && mmu.hidden() == 0) {
            return Err("the guest does not run without VPM1");
        }
        let since = spr::timebase();
        while spr::timebase().wrapping_sub(since) < machine.info.cpu.timebase_hz / 100 {
            core::hint::spin_loop();
        }
        let exits = thread.exits.load(Ordering::Relaxed);
        let hidden = mmu.protect(SlotId::MEMORY, 0, LEN).flush().hidden();
        // It has left, or never was in: on its way it seems to be in for a moment, and then sees.
        let stayed = thread.exits.load(Ordering::Acquire) == exits && without();
        expect(!stayed, "the guest has stayed there without VPM1")?;
        if round == 0 {
            log::info!("{hidden} entries hidden from a running guest");
        }
        expect(hidden != 0, "nothing was hidden")?;
        mmu.unprotect(SlotId::MEMORY, 0, LEN);
        // For the next round it must come out once.
        thread.ring();
    }
    Ok(())
}
