// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tests that need the machine: run with `penstock.selftest=1`, instead of partitions.

use super::hardware::{Hardware, HwMemory};
use super::last_words::{ExitStatus, finish};
use super::start::Machine;
use crate::platform::Platform;
use core::sync::atomic::{AtomicU64, Ordering};
use penstock_arch::regs::{Lpcr, Msr, sprn};
use penstock_arch::{entry, spr};
use penstock_mm::frame::FrameAllocator;
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
];

/// Runs all tests, prints a line each, and powers off: status 0 if all passed.
pub fn run(machine: &Machine, frames: &mut FrameAllocator, memory: HwMemory) -> ! {
    let mut bench = Bench {
        machine,
        frames,
        memory,
    };
    let mut failed = 0;
    for (name, test) in TESTS {
        match test(&mut bench) {
            Ok(()) => log::info!("ok {name}"),
            Err(why) => {
                failed += 1;
                log::error!("FAIL {name}: {why}");
            }
        }
    }
    log::info!("selftest: {} passed, {failed} failed", TESTS.len() - failed);
    finish(if failed == 0 {
        ExitStatus::Success
    } else {
        ExitStatus::HypervisorBug
    })
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
        Hardware::set_lpcr(value);
        expect(
            spr::read::<{ sprn::LPCR }>() == value.bits(),
            "a bit did not stick",
        )?;
    }
    Ok(())
}

fn registers(bench: &mut Bench<'_>) -> Result<(), &'static str> {
    expect(spr::read::<{ sprn::HRMOR }>() == 0, "HRMOR is not 0")?;
    expect(spr::read::<{ sprn::PCR }>() == 0, "PCR is not 0")?;
    expect(
        spr::read::<{ sprn::AMOR }>() == u64::MAX,
        "AMOR is not all ones",
    )?;
    let idle = core::ptr::from_ref(bench.machine.idle).expose_provenance() as u64;
    expect(
        spr::read::<{ sprn::HSPRG0 }>() == idle,
        "HSPRG0 is not the idle context",
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
    Hardware::set_lpcr(Lpcr::HYPERVISOR);
    super::run::set_decrementer(1 << 40);
    expect(
        Hardware::decrementer() > 1 << 39,
        "a large value was cut off",
    )?;
    super::run::set_decrementer(u64::MAX);
    expect(
        Hardware::decrementer() < 0,
        "a negative value is not negative",
    )?;
    super::run::set_decrementer(0x7fff_ffff);
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
