// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What `irqs` prints, from plain data.

use crate::presentation::DevicePage;
use core::fmt;
use penstock_mm::hpt::MOST_MAPPINGS;
use penstock_xive::esb::Pq;
use penstock_xive::source::Trigger;
use penstock_xive::view::{ContextView, QueueView, SourceView};

/// What the machine's interrupt controller has given out, to threads and partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IrqTotals {
    /// Interrupt numbers that firmware allocated and has not got back.
    pub sources: u32,
    /// Blocks of virtual processors that firmware allocated and has not got back.
    pub vp_blocks: u32,
    /// Pages that firmware was given for its tables, which it keeps.
    pub donated: u32,
}

/// Writes the heading for a partition; `mode` is how it works with interrupts.
///
/// # Errors
/// Those of `out`.
pub fn write_irq_heading(out: &mut impl fmt::Write, name: &str, mode: &str) -> fmt::Result {
    writeln!(out, "{name}: {mode}")?;
    writeln!(
        out,
        "  {:<8} {:<9} {:<5} {:>6} {:>4} {:>10} {:>3} {:<6} Pages",
        "LISN", "Source", "Kind", "Target", "Prio", "EISN", "PQ", "State"
    )
}

/// Writes a source.
///
/// # Errors
/// Those of `out`.
pub fn write_irq(out: &mut impl fmt::Write, source: &SourceView) -> fmt::Result {
    let kind = match source.trigger {
        Trigger::Edge => "edge",
        Trigger::Level => "level",
    };
    write!(
        out,
        "  {:<#8x} {:<#9x} {kind:<5}",
        source.lisn.get(),
        source.girq.get()
    )?;
    match source.target {
        Some((server, priority)) => write!(out, " {:>6} {priority:>4}", server.get())?,
        None => write!(out, " {:>6} {:>4}", "-", "-")?,
    }
    let state = match (source.masked, source.pq) {
        (true, _) => "masked",
        (false, Pq::Off) => "off",
        (false, _) => "on",
    };
    let [trigger, management] = source.pages;
    writeln!(
        out,
        " {:>#10x}  {} {state:<6} {:#018x} {:#018x}",
        source.eisn.get(),
        bits(source.pq),
        trigger.get(),
        management.get()
    )
}

/// Writes where a page of the guest's points, and which of the guest's entries map it, some of them by
/// their indices.
///
/// # Errors
/// Those of `out`.
pub fn write_page(out: &mut impl fmt::Write, name: &str, page: &DevicePage) -> fmt::Result {
    write!(out, "    {name} {:#x} -> ", page.at.get())?;
    match page.host {
        Some(host) => write!(out, "{:#018x}", host.get())?,
        None => write!(out, "nothing yet")?,
    }
    let (count, named) = (page.mappings.count, &page.mappings.named);
    match count {
        0 => return writeln!(out, ", no entry"),
        1 => write!(out, ", entry")?,
        MOST_MAPPINGS => write!(out, ", {count} entries or more:")?,
        _ => write!(out, ", {count} entries:")?,
    }
    for index in named {
        write!(out, " {:#x}", index.get())?;
    }
    writeln!(
        out,
        "{}",
        if count > named.len() as u64 {
            " ..."
        } else {
            ""
        }
    )
}

/// Writes the interrupt context of a virtual processor; `own` is what its own source is for.
///
/// # Errors
/// Those of `out`.
pub fn write_context(out: &mut impl fmt::Write, own: &str, view: &ContextView) -> fmt::Result {
    let place = if view.is_pushed {
        "on a thread"
    } else {
        "on no thread"
    };
    writeln!(
        out,
        "  CPU {}: VP {:#x}, {place}, {own} {:#x} PQ {}",
        view.server.get(),
        view.vp.get(),
        view.girq.get(),
        bits(view.pq)
    )
}

/// Writes an event queue of the guest's.
///
/// # Errors
/// Those of `out`.
pub fn write_queue(out: &mut impl fmt::Write, view: &QueueView) -> fmt::Result {
    writeln!(
        out,
        "  CPU {} priority {}: queue of {} KiB at guest real {:#x}",
        view.server.get(),
        view.priority,
        (1_u64 << (view.size_log2 & 63)) >> 10,
        view.base.get()
    )
}

/// Writes what the machine has given out, so that a leak can be seen.
///
/// # Errors
/// Those of `out`.
pub fn write_irq_totals(out: &mut impl fmt::Write, totals: IrqTotals) -> fmt::Result {
    let IrqTotals {
        sources,
        vp_blocks,
        donated,
    } = totals;
    writeln!(
        out,
        "Held: {sources} interrupt numbers, {vp_blocks} blocks of virtual processors, {donated} pages for firmware's tables"
    )
}

const fn bits(pq: Pq) -> &'static str {
    match pq {
        Pq::Reset => "00",
        Pq::Off => "01",
        Pq::Pending => "10",
        Pq::Queued => "11",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;
    use penstock_arch::addr::{GuestReal, HostReal};
    use penstock_arch::hash::HpteIndex;
    use penstock_mm::hpt::Mappings;
    use penstock_xive::{Eisn, Girq, Lisn, ServerNumber, VpId};

    const SOURCE: SourceView = SourceView {
        lisn: Lisn::new(0x1000),
        girq: Girq::new(0x1f_0014),
        trigger: Trigger::Edge,
        pq: Pq::Pending,
        target: Some((ServerNumber::new(3), 5)),
        eisn: Eisn::new(0x7fff_ffff),
        masked: false,
        pages: [
            HostReal::new(0x6_0100_0028_0000),
            HostReal::new(0x6_0100_0029_0000),
        ],
    };

    fn line(source: SourceView) -> String {
        let mut out = String::new();
        write_irq(&mut out, &source).unwrap();
        out
    }

    #[test]
    fn a_source_is_a_line_below_the_heading() {
        let mut out = String::new();
        write_irq_heading(&mut out, "debian", "xive").unwrap();
        assert_eq!(
            out + &line(SOURCE),
            "debian: xive\n  \
             LISN     Source    Kind  Target Prio       EISN  PQ State  Pages\n  \
             0x1000   0x1f0014  edge       3    5 0x7fffffff  10 on     0x0006010000280000 0x0006010000290000\n"
        );
    }

    #[test]
    fn a_source_that_goes_nowhere_says_so() {
        let source = SourceView {
            lisn: Lisn::new(0),
            trigger: Trigger::Level,
            pq: Pq::Off,
            target: None,
            eisn: Eisn::new(0),
            ..SOURCE
        };
        assert_eq!(
            line(source),
            "  0x0      0x1f0014  level      -    -        0x0  01 off    0x0006010000280000 0x0006010000290000\n"
        );
        let masked = SourceView {
            masked: true,
            pq: Pq::Queued,
            ..SOURCE
        };
        assert!(line(masked).contains(" 11 masked "));
    }

    #[test]
    fn pages_say_where_they_point_and_who_maps_them() {
        let page = |host, count: u64| DevicePage {
            at: GuestReal::new(0x6_0100_0001_0000),
            host,
            mappings: Mappings {
                named: (1..=count.min(4)).map(|n| HpteIndex::new(n << 4)).collect(),
                count,
            },
        };
        let there = Some(HostReal::new(0x6_0100_0029_0000));
        for (name, page, expected) in [
            ("trigger", page(there, 0), "0x0006010000290000, no entry"),
            ("management", page(None, 1), "nothing yet, entry 0x10"),
            (
                "trigger",
                page(there, 2),
                "0x0006010000290000, 2 entries: 0x10 0x20",
            ),
            (
                "trigger",
                page(there, 4),
                "0x0006010000290000, 4 entries: 0x10 0x20 0x30 0x40",
            ),
            (
                "trigger",
                page(there, 5),
                "0x0006010000290000, 5 entries: 0x10 0x20 0x30 0x40 ...",
            ),
            (
                "trigger",
                page(there, MOST_MAPPINGS),
                "0x0006010000290000, 256 entries or more: 0x10 0x20 0x30 0x40 ...",
            ),
        ] {
            let mut out = String::new();
            write_page(&mut out, name, &page).unwrap();
            let expected = alloc::format!("    {name} 0x6010000010000 -> {expected}\n");
            assert_eq!(out, expected);
        }
    }

    #[test]
    fn contexts_queues_and_totals_are_sentences() {
        let mut out = String::new();
        let context = ContextView {
            server: ServerNumber::new(1),
            vp: VpId::new(0x401),
            is_pushed: true,
            girq: Girq::new(0x15),
            pq: Pq::Reset,
        };
        write_context(&mut out, "IPI", &context).unwrap();
        let queue = QueueView {
            server: ServerNumber::new(1),
            priority: 6,
            base: GuestReal::new(0x12_0000),
            size_log2: 16,
        };
        write_queue(&mut out, &queue).unwrap();
        let totals = IrqTotals {
            sources: 12,
            vp_blocks: 3,
            donated: 1,
        };
        write_irq_totals(&mut out, totals).unwrap();
        assert_eq!(
            out,
            "  CPU 1: VP 0x401, on a thread, IPI 0x15 PQ 00\n  \
             CPU 1 priority 6: queue of 64 KiB at guest real 0x120000\n\
             Held: 12 interrupt numbers, 3 blocks of virtual processors, 1 pages for firmware's tables\n"
        );
    }
}
