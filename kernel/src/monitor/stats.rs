// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What `stats` prints, from plain data.

use super::places::{VcpuRow, write_places};
use super::report::Count;
use crate::exit_times::{ExitTimes, Histogram};
use alloc::format;
use core::fmt;

/// A partition's line of `stats`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatsRow<'a> {
    /// Name.
    pub name: &'a str,
    /// Full exits.
    pub exits: u64,
    /// Hypervisor calls, all of which begin on the light path.
    pub hcalls: u64,
    /// Hypervisor storage faults, which stay on it.
    pub faults: u64,
    /// Ticks of the time base in its guest.
    pub in_guest: u64,
}

/// A hardware thread's line of `stats`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThreadRow {
    /// Number.
    pub number: usize,
    /// Processor identification register.
    pub pir: u32,
    /// How often it left a guest.
    pub exits: u64,
    /// How often it was told to look up from what it did.
    pub kicks: u64,
    /// How often another thread interrupted it.
    pub interrupts: u64,
    /// Interrupts that had no reason any more.
    pub spurious: u64,
    /// How often it slept.
    pub sleeps: u64,
    /// Ticks of the time base that it slept.
    pub asleep: u64,
}

/// What `stats NAME` prints.
#[derive(Clone, Copy, Debug)]
pub struct PartitionStats<'a> {
    /// Name and sums.
    pub row: StatsRow<'a>,
    /// Where its virtual processors run.
    pub places: &'a [VcpuRow],
    /// How long each exit took.
    pub times: &'a ExitTimes,
    /// Exits by reason.
    pub exits: &'a [Count<'a>],
    /// Storage faults by outcome.
    pub faults: &'a [Count<'a>],
    /// Hypervisor calls by name.
    pub hcalls: &'a [Count<'a>],
}

/// Writes what `stats` shows: a line for each partition, and one for each hardware thread. `hz` are the
/// ticks of a second.
///
/// # Errors
/// Those of `out`.
pub fn write_stats<'a>(
    out: &mut impl fmt::Write,
    hz: u64,
    rows: impl Iterator<Item = StatsRow<'a>> + Clone,
    threads: impl Iterator<Item = ThreadRow>,
) -> fmt::Result {
    let width = rows
        .clone()
        .map(|row| row.name.len())
        .fold("Name".len(), usize::max);
    writeln!(
        out,
        " {:<width$} {:>12} {:>14} {:>12} {:>12}",
        "Name", "Exits", "Hcalls", "Faults", "In guest s"
    )?;
    for row in rows {
        let StatsRow {
            name,
            exits,
            hcalls,
            faults,
            in_guest,
        } = row;
        let seconds = Seconds(in_guest, hz);
        writeln!(
            out,
            " {name:<width$} {exits:>12} {hcalls:>14} {faults:>12} {seconds:>12}"
        )?;
    }
    writeln!(
        out,
        " {:<6} {:>6} {:>12} {:>10} {:>10} {:>8} {:>10} {:>12}",
        "Thread", "PIR", "Exits", "Kicks", "Interrupts", "Spurious", "Sleeps", "Asleep s"
    )?;
    for row in threads {
        let pir = row.pir;
        writeln!(
            out,
            " {:<6} {:>6} {:>12} {:>10} {:>10} {:>8} {:>10} {:>12}",
            row.number,
            format!("{pir:#x}"),
            row.exits,
            row.kicks,
            row.interrupts,
            row.spurious,
            row.sleeps,
            Seconds(row.asleep, hz)
        )?;
    }
    Ok(())
}

/// Writes what `stats NAME` shows: counts by reason, and, of full exits, how long each kept the virtual
/// processor out of its guest. `hz` are the ticks of a second.
///
/// # Errors
/// Those of `out`.
pub fn write_partition_stats(
    out: &mut impl fmt::Write,
    hz: u64,
    stats: &PartitionStats<'_>,
) -> fmt::Result {
    let StatsRow {
        name,
        exits,
        hcalls,
        faults,
        in_guest,
    } = stats.row;
    writeln!(out, "{name}: {} s in the guest", Seconds(in_guest, hz))?;
    write_places(out, stats.places)?;
    writeln!(out, "Exits: {exits}")?;
    if exits > 0 {
        writeln!(
            out,
            "  {:<24} {:>12} {:>12} {:>10} {:>10}",
            "", "count", "total s", "mean", "longest"
        )?;
    }
    let times = |reason: &str| {
        let mut all = stats.times.by_reason();
        all.find(|(name, _)| *name == reason)
            .map_or_else(Histogram::default, |(_, histogram)| *histogram)
    };
    for count in seen(stats.exits) {
        let histogram = times(count.name);
        let mean = histogram.total.checked_div(histogram.count()).unwrap_or(0);
        writeln!(
            out,
            "  {:<24} {:>12} {:>12} {:>10} {:>10}",
            count.name,
            count.value,
            Seconds(histogram.total, hz),
            Span(mean, hz),
            Span(histogram.longest, hz)
        )?;
        write_classes(out, &histogram, hz)?;
    }
    list(out, "Storage faults", faults, stats.faults)?;
    list(out, "Hypervisor calls", hcalls, stats.hcalls)
}

fn seen<'a>(counts: &'a [Count<'a>]) -> impl Iterator<Item = &'a Count<'a>> {
    counts.iter().filter(|count| count.value > 0)
}

fn list(out: &mut impl fmt::Write, title: &str, sum: u64, counts: &[Count<'_>]) -> fmt::Result {
    writeln!(out, "{title}: {sum}")?;
    for count in seen(counts) {
        writeln!(out, "  {:<24} {:>12}", count.name, count.value)?;
    }
    Ok(())
}

/// The classes of a histogram, so many in a line as a terminal has room for.
fn write_classes(out: &mut impl fmt::Write, histogram: &Histogram, hz: u64) -> fmt::Result {
    const IN_A_LINE: usize = 6;
    for (place, (least, number)) in histogram.filled().enumerate() {
        let before = match place {
            0 => "    from ",
            _ if place.is_multiple_of(IN_A_LINE) => "\n         ",
            _ => ", ",
        };
        write!(out, "{before}{}: {number}", Span(least, hz))?;
    }
    if histogram.count() > 0 {
        writeln!(out)?;
    }
    Ok(())
}

/// Ticks, shown in seconds.
struct Seconds(u64, u64);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let milliseconds = scaled(self.0, self.1, 1000);
        f.pad(&format!(
            "{}.{:03}",
            milliseconds / 1000,
            milliseconds % 1000
        ))
    }
}

/// Ticks, shown in the largest unit of which they are at least one.
struct Span(u64, u64);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanoseconds = scaled(self.0, self.1, 1_000_000_000);
        let (value, unit) = match nanoseconds {
            0..1_000 => (nanoseconds, "ns"),
            1_000..1_000_000 => (nanoseconds / 1_000, "us"),
            1_000_000..1_000_000_000 => (nanoseconds / 1_000_000, "ms"),
            _ => (nanoseconds / 1_000_000_000, "s"),
        };
        f.pad(&format!("{value} {unit}"))
    }
}

/// Ticks in a unit of which a second has so many, or as many of it as there can be.
fn scaled(ticks: u64, hz: u64, a_second: u64) -> u64 {
    let value = u128::from(ticks) * u128::from(a_second) / u128::from(hz.max(1));
    u64::try_from(value).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::GuestExit;
    use alloc::string::{String, ToString};

    const HZ: u64 = 512_000_000;

    #[test]
    fn stats_are_a_line_each() {
        let mut out = String::new();
        let row = |name, exits| StatsRow {
            name,
            exits,
            hcalls: 1_234_567,
            faults: 89,
            in_guest: 3 * HZ / 2,
        };
        let thread = ThreadRow {
            number: 1,
            pir: 0x14,
            exits: 12,
            kicks: 3,
            interrupts: 2,
            spurious: 1,
            sleeps: 7,
            asleep: HZ / 1000,
        };
        let rows = [row("one", 12), row("a-longer-name", 3)];
        write_stats(&mut out, HZ, rows.into_iter(), [thread].into_iter()).unwrap();
        assert_eq!(
            out,
            " Name                 Exits         Hcalls       Faults   In guest s\n \
             one                     12        1234567           89        1.500\n \
             a-longer-name            3        1234567           89        1.500\n \
             Thread    PIR        Exits      Kicks Interrupts Spurious     Sleeps     Asleep s\n \
             1        0x14           12          3          2        1          7        0.001\n"
        );
    }

    #[test]
    fn the_stats_of_a_partition_show_what_happened_and_how_long_it_took() {
        let mut times = ExitTimes::default();
        for ticks in [512, 600, 1024, 51_200, 5_120_000, 512_000_000, 5, 1 << 20] {
            times.enter(0);
            times.leave(GuestExit::Cede, 0);
            times.enter(ticks);
        }
        let count = |name, value| Count { name, value };
        let stats = PartitionStats {
            row: StatsRow {
                name: "debian",
                exits: 9,
                hcalls: 4,
                faults: 2,
                in_guest: HZ,
            },
            places: &[
                VcpuRow {
                    server: 0,
                    thread: 3,
                    moves: 0,
                    cpu_time_ms: 999,
                },
                VcpuRow {
                    server: 63,
                    thread: 0,
                    moves: 7,
                    cpu_time_ms: 12_034,
                },
            ],
            times: &times,
            exits: &[count("cede", 8), count("reboot", 0), count("control", 1)],
            faults: &[count("repaired", 2), count("reflected", 0)],
            hcalls: &[count("H_ENTER", 4), count("H_READ", 0)],
        };
        let mut out = String::new();
        write_partition_stats(&mut out, HZ, &stats).unwrap();
        assert_eq!(
            out,
            "debian: 1.000 s in the guest\n\
             CPU 0:          thread 3, 0.999 s, moved 0 times\n\
             CPU 63:         thread 0, 12.034 s, moved 7 times\n\
             Exits: 9\n                                  \
             count      total s       mean    longest\n  \
             cede                                8        1.012     126 ms        1 s\n    \
             from 7 ns: 1, 1 us: 2, 2 us: 1, 64 us: 1, 2 ms: 1, 8 ms: 1\n         \
             524 ms: 1\n  \
             control                             1        0.000       0 ns       0 ns\n\
             Storage faults: 2\n  \
             repaired                            2\n\
             Hypervisor calls: 4\n  \
             H_ENTER                             4\n"
        );
    }

    #[test]
    fn spans_have_a_fitting_unit() {
        for (ticks, text) in [
            (0, "0 ns"),
            (511, "998 ns"),
            (512, "1 us"),
            (511_999, "999 us"),
            (512_000, "1 ms"),
            (511_999_999, "999 ms"),
            (HZ, "1 s"),
            (u64::MAX, "18446744073 s"),
        ] {
            assert_eq!(Span(ticks, HZ).to_string(), text);
        }
        assert_eq!(Span(7, 0).to_string(), "7 s");
        assert_eq!(Seconds(u64::MAX, HZ).to_string(), "36028797018.963");
    }
}
