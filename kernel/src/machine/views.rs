// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the monitor's commands show of the partitions and the machine, gathered where it is.

use super::hardware::HwMemory;
use super::seat::{self, Seat};
use super::slot::{Counts, Slot};
use super::thread;
use super::world::World;
use crate::exit::GuestExit;
use crate::hcall;
use crate::monitor::{
    Count, MemoryRow, PartitionInfo, PartitionRow, PartitionStats, PoolPart, PoolRow, StatsRow,
    ThreadRow, VcpuRow, write_info, write_memmap, write_partition_stats, write_stats,
};
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;
use core::sync::atomic::{AtomicU64, Ordering};
use penstock_mm::guest_memory::{PIECE, SlotId};
use penstock_mm::hpt::HashMmu;

/// Checks a page table, and writes what it holds and what it has cost.
pub fn hpt(mmu: &HashMmu<HwMemory>, out: &mut impl Write) -> core::fmt::Result {
    let stats = match mmu.check() {
        Ok(stats) => stats,
        Err(violation) => return writeln!(out, "error: {violation}"),
    };
    let flushes = mmu.flush_counts();
    let [small, medium, large] = stats.by_size;
    writeln!(
        out,
        "Entries:        {} of {}",
        stats.valid + stats.absent,
        stats.entries
    )?;
    writeln!(out, "Absent:         {}", stats.absent)?;
    writeln!(out, "Bolted:         {}", stats.bolted)?;
    writeln!(out, "4K/64K/16M:     {small} / {medium} / {large}")?;
    writeln!(out, "Hidden:         {}", mmu.hidden())?;
    writeln!(out, "tlbie one/all:  {} / {}", flushes.single, flushes.all)?;
    let resizes = mmu.resize_counts();
    if resizes.commits != 0 {
        writeln!(
            out,
            "Resized:        {} times; {} entries kept, {} dropped for others, {} in no group of theirs",
            resizes.commits,
            resizes.entries.kept,
            resizes.entries.displaced,
            resizes.entries.misplaced
        )?;
    }
    let used = mmu.take_used_bytes(SlotId::MEMORY).unwrap_or(0);
    writeln!(
        out,
        "Used memory:    {} KiB since the last look",
        used >> 10
    )
}

/// What a partition has of the pool.
fn pool_part(slot: &Slot) -> Option<PoolPart> {
    let memory = slot.guest.as_ref()?.occupied.partition().mmu.memory();
    let counts = memory.share()?.counts();
    Some(PoolPart {
        used: counts.used,
        guaranteed: counts.guaranteed,
        limit: counts.limit,
        shared: counts.shared,
        saved: memory.saved_bytes(),
    })
}

/// Who has the machine's memory.
pub fn memmap(world: &World, out: &mut impl Write) -> core::fmt::Result {
    let pool = world.pool_counts().map(|counts| PoolRow {
        bytes: counts.frames * PIECE,
        free: counts.free * PIECE,
        promised: counts.promised * PIECE,
        image_bytes: counts.image_pieces * PIECE,
        images: counts.images * PIECE,
        mapped: counts.mapped * PIECE,
    });
    let rows = world.slots.iter().filter_map(|slot| {
        let guest = slot.guest.as_ref()?;
        Some(MemoryRow {
            name: slot.configuration.name,
            lpid: guest.occupied.partition().mmu.lpid().get(),
            reserved: slot.configuration.reserved_bytes(),
            pool: pool_part(slot),
        })
    });
    write_memmap(out, world.free_memory(), pool, rows)
}

/// A partition's line of `list`.
pub fn row(slot: &Slot) -> PartitionRow<'_> {
    PartitionRow {
        id: slot.state.is_alive().then_some(slot.id.0),
        name: slot.configuration.name,
        state: slot.shown_state(),
    }
}

/// All about the partition in this slot, which is held.
pub fn info(slot: &Slot, world: &World, out: &mut impl Write) -> core::fmt::Result {
    let counts = slot.counts();
    let lists = counts.as_deref().map(Lists::of).unwrap_or_default();
    let exits: Vec<Count<'_>> = lists.exits.into_iter().chain(lists.faults).collect();
    let hz = world.machine.info.cpu.timebase_hz.max(1);
    let seats = seat::of_partition(slot.id).iter();
    let cpu_time = seats.map(Seat::time).fold(0, u64::saturating_add);
    let mmu = slot
        .guest
        .as_ref()
        .map(|guest| &guest.occupied.partition().mmu);
    write_info(
        out,
        &PartitionInfo {
            row: row(slot),
            vcpus: slot.configuration.vcpus,
            weight: slot.configuration.weight,
            cpu_time_ms: cpu_time.saturating_mul(1000) / hz,
            places: &places(slot, hz),
            memory_bytes: slot.configuration.memory_bytes,
            backed_bytes: mmu.map_or(0, |mmu| mmu.memory().backed_bytes()),
            working_set_bytes: mmu.and_then(|mmu| mmu.take_used_bytes(SlotId::MEMORY)),
            pool: pool_part(slot),
            tlbie: mmu.map(|mmu| {
                let flushes = mmu.flush_counts();
                (flushes.single, flushes.all)
            }),
            hpt_order: slot.configuration.hpt_order,
            uptime_ms: slot.uptime().saturating_mul(1000) / hz,
            console_out_bytes: counts.as_ref().map_or(0, |counts| counts.console_out_bytes),
            console_in_bytes: slot.bytes_in,
            exits: &exits,
            hcalls: &lists.hcalls,
        },
    )
}

/// Where the virtual processors of the partition in this slot run, if it has any.
fn places(slot: &Slot, hz: u64) -> Vec<VcpuRow> {
    let seats = slot.guest.as_ref().map(|_| seat::of_partition(slot.id));
    seats
        .unwrap_or_default()
        .iter()
        .map(|seat| VcpuRow {
            server: seat.server,
            thread: seat.home_number(),
            moves: seat.moves(),
            cpu_time_ms: seat.time().saturating_mul(1000) / hz.max(1),
        })
        .collect()
}

/// Counts with their names.
#[derive(Default)]
struct Lists {
    exits: Vec<Count<'static>>,
    faults: Vec<Count<'static>>,
    hcalls: Vec<Count<'static>>,
}

impl Lists {
    fn of(counts: &Counts) -> Self {
        let exits = GuestExit::NAMES.iter().zip(counts.exits);
        let faults = [
            ("storage-fault-repaired", counts.faults.repaired),
            ("storage-fault-reflected", counts.faults.reflected),
            ("storage-fault-no-memory", counts.faults.stray),
        ];
        let mut hcalls: Vec<Count<'_>> = hcall::table::NAMES
            .iter()
            .filter_map(|(number, name)| {
                let value = *counts.hcalls.get(hcall::slot(*number)?)?;
                Some(Count { name, value })
            })
            .collect();
        let known = sum(&hcalls);
        hcalls.push(Count {
            name: "not served",
            value: counts.hcalls.iter().sum::<u64>() - known,
        });
        Self {
            exits: exits.map(|(name, value)| Count { name, value }).collect(),
            faults: faults.map(|(name, value)| Count { name, value }).to_vec(),
            hcalls,
        }
    }
}

fn sum(counts: &[Count<'_>]) -> u64 {
    counts.iter().map(|count| count.value).sum()
}

fn stats_row<'a>(name: &'a str, counts: &Counts) -> StatsRow<'a> {
    StatsRow {
        name,
        exits: counts.exits.iter().sum(),
        hcalls: counts.hcalls.iter().sum(),
        faults: counts.faults.repaired + counts.faults.reflected + counts.faults.stray,
        in_guest: counts.times.in_guest(),
    }
}

/// What the partition at `place` did since it was last started; `None` if it never was. It is held for
/// that: the counts are part of each virtual processor, which its thread has for itself all the while.
/// Elsewhere each hypervisor call would have to load their address first.
///
/// # Errors
/// Its thread does not answer.
fn counts_at(world: &mut World, place: usize) -> Result<Option<Box<Counts>>, String> {
    world.hold(place)?;
    let counts = world.slots.get(place).and_then(Slot::counts);
    world.let_go(place);
    Ok(counts)
}

/// What the partition at `place` did, by reason.
///
/// # Errors
/// Its thread does not answer, or it never ran.
pub fn partition_stats(
    world: &mut World,
    place: usize,
    out: &mut impl Write,
) -> Result<core::fmt::Result, String> {
    let counts = counts_at(world, place)?;
    let name = world
        .slots
        .get(place)
        .map_or("", |slot| slot.configuration.name);
    let counts = counts.ok_or_else(|| format!("{name} has never run"))?;
    let hz = world.machine.info.cpu.timebase_hz;
    let places = world
        .slots
        .get(place)
        .map_or_else(Vec::new, |slot| places(slot, hz));
    let lists = Lists::of(&counts);
    let stats = PartitionStats {
        row: stats_row(name, &counts),
        places: &places,
        times: &counts.times,
        exits: &lists.exits,
        faults: &lists.faults,
        hcalls: &lists.hcalls,
    };
    Ok(write_partition_stats(out, hz, &stats))
}

/// What all partitions and threads did.
///
/// # Errors
/// A thread does not answer.
pub fn stats(world: &mut World, out: &mut impl Write) -> Result<core::fmt::Result, String> {
    let mut rows = Vec::new();
    for place in 0..world.slots.len() {
        let counts = counts_at(world, place)?;
        let slot = world.slots.get(place);
        if let (Some(slot), Some(counts)) = (slot, counts) {
            rows.push(stats_row(slot.configuration.name, &counts));
        }
    }
    let threads = thread::all().iter().filter(|thread| thread.is_here());
    let threads = threads.map(|thread| {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        ThreadRow {
            number: thread.number,
            pir: thread.pir,
            exits: read(&thread.exits),
            kicks: read(&thread.answers),
            interrupts: read(&thread.interrupts),
            spurious: read(&thread.spurious),
            sleeps: read(&thread.sleeps),
            asleep: read(&thread.asleep),
        }
    });
    let hz = world.machine.info.cpu.timebase_hz;
    Ok(write_stats(out, hz, rows.into_iter(), threads))
}
