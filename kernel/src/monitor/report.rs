// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What `list` and `dominfo` print, from plain data.

use super::places::{VcpuRow, write_places};
use crate::lifecycle::PartitionState;
use core::fmt;

/// A line of `list`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionRow<'a> {
    /// Number of a partition that is running or paused.
    pub id: Option<u16>,
    /// Name.
    pub name: &'a str,
    /// State.
    pub state: PartitionState,
}

/// An event and how often it happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count<'a> {
    /// Name of the event.
    pub name: &'a str,
    /// How often.
    pub value: u64,
}

/// What a partition has of the memory pool, bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolPart {
    /// Memory of its own.
    pub used: u64,
    /// What it can have at any time.
    pub guaranteed: u64,
    /// What it can have at most.
    pub limit: u64,
    /// What it maps of images.
    pub shared: u64,
    /// What it would need besides if it did not share images with others.
    pub saved: u64,
}

/// What `dominfo` prints.
#[derive(Clone, Copy, Debug)]
pub struct PartitionInfo<'a> {
    /// Name, number and state.
    pub row: PartitionRow<'a>,
    /// Number of vCPUs.
    pub vcpus: u32,
    /// Where they run, while the partition has any.
    pub places: &'a [VcpuRow],
    /// How much of a thread's time it has beside others.
    pub weight: u32,
    /// Time of its turns since it was last started, milliseconds of all vCPUs together.
    pub cpu_time_ms: u64,
    /// Guest memory, bytes.
    pub memory_bytes: u64,
    /// Guest memory that has backing so far, bytes.
    pub backed_bytes: u64,
    /// Guest memory that was used since the last look, bytes, where the partition has any.
    pub working_set_bytes: Option<u64>,
    /// What it has of the memory pool, where its memory comes from there.
    pub pool: Option<PoolPart>,
    /// Invalidations of one translation, and of all of the partition, that its page table has cost.
    pub tlbie: Option<(u64, u64)>,
    /// Binary logarithm of the size of the hashed page table in bytes.
    pub hpt_order: u32,
    /// Since the partition was last started, milliseconds.
    pub uptime_ms: u64,
    /// Terminal bytes from the guest.
    pub console_out_bytes: u64,
    /// Terminal bytes to the guest.
    pub console_in_bytes: u64,
    /// Exits to the hypervisor by reason.
    pub exits: &'a [Count<'a>],
    /// Hypervisor calls by name.
    pub hcalls: &'a [Count<'a>],
}

/// A partition's line of `memmap`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryRow<'a> {
    /// Name.
    pub name: &'a str,
    /// The number that its translations carry.
    pub lpid: u32,
    /// Memory that is set aside for it, bytes; 0 where its memory comes from the pool.
    pub reserved: u64,
    /// What it has of the pool, where its memory comes from there.
    pub pool: Option<PoolPart>,
}

/// The memory pool, bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolRow {
    /// All.
    pub bytes: u64,
    /// What nobody has.
    pub free: u64,
    /// What of that is kept for guaranteed parts.
    pub promised: u64,
    /// What all images need.
    pub image_bytes: u64,
    /// What of them is in the pool, since somebody maps it.
    pub images: u64,
    /// What partitions map of images, each counted for itself.
    pub mapped: u64,
}

/// Writes what `memmap` shows: who has the machine's memory. `free` is what no partition and no pool
/// has, and `largest` its largest part, in bytes.
///
/// # Errors
/// Those of `out`.
pub fn write_memmap<'a>(
    out: &mut impl fmt::Write,
    (free, largest): (u64, u64),
    pool: Option<PoolRow>,
    rows: impl Iterator<Item = MemoryRow<'a>>,
) -> fmt::Result {
    property(
        out,
        "Free",
        format_args!("{} KiB, {} KiB in one part", free >> 10, largest >> 10),
    )?;
    if let Some(pool) = pool {
        let (free, promised) = (pool.free >> 10, pool.promised >> 10);
        property(
            out,
            "Pool",
            format_args!(
                "{} KiB, {free} KiB free of which {promised} KiB are promised",
                pool.bytes >> 10
            ),
        )?;
        property(
            out,
            "Images",
            format_args!(
                "{} KiB of {} KiB, mapped as {} KiB",
                pool.images >> 10,
                pool.image_bytes >> 10,
                pool.mapped >> 10
            ),
        )?;
    }
    for row in rows {
        match row.pool {
            None => property(
                out,
                row.name,
                format_args!("LPID {}, {} KiB reserved", row.lpid, row.reserved >> 10),
            )?,
            Some(pool) => property(
                out,
                row.name,
                format_args!(
                    "LPID {}, {} KiB of the pool ({} KiB guaranteed), {} KiB of images",
                    row.lpid,
                    pool.used >> 10,
                    pool.guaranteed >> 10,
                    pool.shared >> 10
                ),
            )?,
        }
    }
    Ok(())
}

/// Writes the table of `list`.
///
/// # Errors
/// Those of `out`.
pub fn write_list<'a>(
    out: &mut impl fmt::Write,
    rows: impl Iterator<Item = PartitionRow<'a>> + Clone,
) -> fmt::Result {
    let width = rows
        .clone()
        .map(|row| row.name.len())
        .fold("Name".len(), usize::max);
    writeln!(out, " {:<4} {:<width$} State", "Id", "Name")?;
    writeln!(out, "{:-<1$}", "", width + 18)?;
    for row in rows {
        match row.id {
            Some(id) => write!(out, " {id:<4}")?,
            None => write!(out, " {:<4}", "-")?,
        }
        writeln!(out, " {:<width$} {}", row.name, row.state)?;
    }
    Ok(())
}

/// Writes what `dominfo` shows: one property per line, then the counters that are not 0.
///
/// # Errors
/// Those of `out`.
pub fn write_info(out: &mut impl fmt::Write, info: &PartitionInfo<'_>) -> fmt::Result {
    match info.row.id {
        Some(id) => property(out, "Id", format_args!("{id}"))?,
        None => property(out, "Id", format_args!("-"))?,
    }
    property(out, "Name", format_args!("{}", info.row.name))?;
    property(out, "State", format_args!("{}", info.row.state))?;
    property(out, "CPU(s)", format_args!("{}", info.vcpus))?;
    property(out, "Weight", format_args!("{}", info.weight))?;
    for (name, time) in [("CPU time", info.cpu_time_ms), ("Uptime", info.uptime_ms)] {
        let (seconds, rest) = (time / 1000, time % 1000);
        property(out, name, format_args!("{seconds}.{rest:03} s"))?;
    }
    write_places(out, info.places)?;
    property(
        out,
        "Memory",
        format_args!("{} KiB", info.memory_bytes >> 10),
    )?;
    property(
        out,
        "Backed memory",
        format_args!("{} KiB", info.backed_bytes >> 10),
    )?;
    if let Some(bytes) = info.working_set_bytes {
        property(
            out,
            "Working set",
            format_args!("{} KiB since the last look", bytes >> 10),
        )?;
    }
    if let Some(pool) = info.pool {
        let (used, guaranteed, limit) = (pool.used >> 10, pool.guaranteed >> 10, pool.limit >> 10);
        property(
            out,
            "Pool memory",
            format_args!("{used} KiB of {guaranteed} KiB guaranteed, {limit} KiB at most"),
        )?;
        property(
            out,
            "Shared memory",
            format_args!(
                "{} KiB of images, which saves {} KiB",
                pool.shared >> 10,
                pool.saved >> 10
            ),
        )?;
    }
    let hpt_kib = 1_u64.checked_shl(info.hpt_order).unwrap_or(0) >> 10;
    property(
        out,
        "Page table",
        format_args!("{hpt_kib} KiB (order {})", info.hpt_order),
    )?;
    if let Some((one, all)) = info.tlbie {
        property(out, "tlbie one/all", format_args!("{one} / {all}"))?;
    }
    property(
        out,
        "Console",
        format_args!(
            "{} bytes out, {} bytes in",
            info.console_out_bytes, info.console_in_bytes
        ),
    )?;
    counts(out, "Exits", info.exits)?;
    counts(out, "Hypervisor calls", info.hcalls)
}

pub(super) fn property(
    out: &mut impl fmt::Write,
    name: &str,
    value: fmt::Arguments<'_>,
) -> fmt::Result {
    writeln!(
        out,
        "{name}:{:1$}{value}",
        "",
        16_usize.saturating_sub(name.len() + 1)
    )
}

fn counts(out: &mut impl fmt::Write, title: &str, counts: &[Count<'_>]) -> fmt::Result {
    let seen = || counts.iter().filter(|count| count.value > 0);
    let sum = seen().fold(0_u64, |sum, count| sum.saturating_add(count.value));
    writeln!(out, "{title}: {sum}")?;
    for count in seen() {
        writeln!(out, "  {:<30} {:>14}", count.name, count.value)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;

    const DEBIAN: PartitionRow<'_> = PartitionRow {
        id: Some(1),
        name: "debian",
        state: PartitionState::Running,
    };

    #[test]
    fn list_is_a_table_as_wide_as_the_longest_name() {
        let mut out = String::new();
        let long = PartitionRow {
            id: None,
            name: "a-longer-name",
            state: PartitionState::ShutOff,
        };
        write_list(&mut out, [DEBIAN, long].into_iter()).unwrap();
        assert_eq!(
            out,
            " Id   Name          State\n\
             -------------------------------\n \
             1    debian        running\n \
             -    a-longer-name shut off\n"
        );
    }

    #[test]
    fn list_of_nothing_is_a_heading() {
        let mut out = String::new();
        write_list(&mut out, core::iter::empty()).unwrap();
        assert_eq!(out, " Id   Name State\n----------------------\n");
    }

    #[test]
    fn dominfo_shows_properties_and_the_counters_that_moved() {
        let mut out = String::new();
        let info = PartitionInfo {
            row: DEBIAN,
            vcpus: 1,
            places: &[VcpuRow {
                server: 0,
                thread: 1,
                moves: 12,
                cpu_time_ms: 1_002,
            }],
            weight: 250,
            cpu_time_ms: 1_002,
            memory_bytes: 512 << 20,
            backed_bytes: 64 << 10,
            working_set_bytes: Some(3 << 16),
            pool: Some(PoolPart {
                used: 5 << 16,
                guaranteed: 1 << 20,
                limit: 64 << 20,
                shared: 2 << 16,
                saved: 1 << 16,
            }),
            tlbie: Some((12, 3)),
            hpt_order: 22,
            uptime_ms: 61_007,
            console_out_bytes: 1234,
            console_in_bytes: 5,
            exits: &[
                Count {
                    name: "hcall",
                    value: 105_068,
                },
                Count {
                    name: "machine check",
                    value: 0,
                },
                Count {
                    name: "HDSI",
                    value: 40_050,
                },
            ],
            hcalls: &[Count {
                name: "H_ENTER",
                value: 56_788,
            }],
        };
        write_info(&mut out, &info).unwrap();
        assert_eq!(
            out,
            "Id:             1\n\
             Name:           debian\n\
             State:          running\n\
             CPU(s):         1\n\
             Weight:         250\n\
             CPU time:       1.002 s\n\
             Uptime:         61.007 s\n\
             CPU 0:          thread 1, 1.002 s, moved 12 times\n\
             Memory:         524288 KiB\n\
             Backed memory:  64 KiB\n\
             Working set:    192 KiB since the last look\n\
             Pool memory:    320 KiB of 1024 KiB guaranteed, 65536 KiB at most\n\
             Shared memory:  128 KiB of images, which saves 64 KiB\n\
             Page table:     4096 KiB (order 22)\n\
             tlbie one/all:  12 / 3\n\
             Console:        1234 bytes out, 5 bytes in\n\
             Exits: 145118\n  \
             hcall                                  105068\n  \
             HDSI                                    40050\n\
             Hypervisor calls: 56788\n  \
             H_ENTER                                 56788\n"
        );
    }

    #[test]
    fn memmap_says_who_has_the_memory() {
        let mut out = String::new();
        let pool = PoolRow {
            bytes: 64 << 20,
            free: 4 << 20,
            promised: 1 << 20,
            image_bytes: 5 << 16,
            images: 1 << 16,
            mapped: 2 << 16,
        };
        let rows = [
            MemoryRow {
                name: "one",
                lpid: 1,
                reserved: 16 << 20,
                pool: None,
            },
            MemoryRow {
                name: "two",
                lpid: 12,
                reserved: 0,
                pool: Some(PoolPart {
                    used: 5 << 16,
                    guaranteed: 1 << 20,
                    limit: 64 << 20,
                    shared: 1 << 16,
                    saved: 0,
                }),
            },
        ];
        write_memmap(&mut out, (1 << 30, 1 << 29), Some(pool), rows.into_iter()).unwrap();
        assert_eq!(
            out,
            "Free:           1048576 KiB, 524288 KiB in one part\n\
             Pool:           65536 KiB, 4096 KiB free of which 1024 KiB are promised\n\
             Images:         64 KiB of 320 KiB, mapped as 128 KiB\n\
             one:            LPID 1, 16384 KiB reserved\n\
             two:            LPID 12, 320 KiB of the pool (1024 KiB guaranteed), 64 KiB of images\n"
        );
    }

    #[test]
    fn extreme_numbers_are_printed_not_feared() {
        let mut out = String::new();
        let most = [
            Count {
                name: "a",
                value: u64::MAX,
            },
            Count {
                name: "b",
                value: u64::MAX,
            },
        ];
        let info = PartitionInfo {
            row: PartitionRow {
                id: None,
                name: "",
                state: PartitionState::Failed,
            },
            vcpus: u32::MAX,
            places: &[VcpuRow {
                server: usize::MAX,
                thread: usize::MAX,
                moves: u64::MAX,
                cpu_time_ms: u64::MAX,
            }],
            weight: u32::MAX,
            cpu_time_ms: u64::MAX,
            memory_bytes: u64::MAX,
            backed_bytes: u64::MAX,
            working_set_bytes: Some(u64::MAX),
            pool: None,
            tlbie: Some((u64::MAX, u64::MAX)),
            hpt_order: u32::MAX,
            uptime_ms: u64::MAX,
            console_out_bytes: u64::MAX,
            console_in_bytes: u64::MAX,
            exits: &most,
            hcalls: &most,
        };
        write_info(&mut out, &info).unwrap();
        assert!(out.contains("Exits: 18446744073709551615\n"));
    }
}
