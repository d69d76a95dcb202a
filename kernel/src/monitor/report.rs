// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What `list` and `dominfo` print, from plain data.

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

/// What `dominfo` prints.
#[derive(Clone, Copy, Debug)]
pub struct PartitionInfo<'a> {
    /// Name, number and state.
    pub row: PartitionRow<'a>,
    /// Number of vCPUs.
    pub vcpus: u32,
    /// Guest memory, bytes.
    pub memory_bytes: u64,
    /// Guest memory that has backing so far, bytes.
    pub backed_bytes: u64,
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
    let (seconds, rest) = (info.uptime_ms / 1000, info.uptime_ms % 1000);
    property(out, "Uptime", format_args!("{seconds}.{rest:03} s"))?;
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
    let hpt_kib = 1_u64.checked_shl(info.hpt_order).unwrap_or(0) >> 10;
    property(
        out,
        "Page table",
        format_args!("{hpt_kib} KiB (order {})", info.hpt_order),
    )?;
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

fn property(out: &mut impl fmt::Write, name: &str, value: fmt::Arguments<'_>) -> fmt::Result {
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
            memory_bytes: 512 << 20,
            backed_bytes: 64 << 10,
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
             Uptime:         61.007 s\n\
             Memory:         524288 KiB\n\
             Backed memory:  64 KiB\n\
             Page table:     4096 KiB (order 22)\n\
             Console:        1234 bytes out, 5 bytes in\n\
             Exits: 145118\n  \
             hcall                                  105068\n  \
             HDSI                                    40050\n\
             Hypervisor calls: 56788\n  \
             H_ENTER                                 56788\n"
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
            memory_bytes: u64::MAX,
            backed_bytes: u64::MAX,
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
