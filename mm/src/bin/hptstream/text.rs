// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Entries, counts and differences as text.

use crate::input::Input;
use crate::table::Table;
use penstock_arch::hash::{HpteR, HpteV, PageEncoding, PageSize, SegmentSize};
use penstock_mm::stream::GuestHpte;
use std::fmt::Write as _;
use std::io::{self, Write};

/// One entry in one line.
pub fn entry(index: u64, entry: GuestHpte) -> String {
    let GuestHpte { v, r } = entry;
    let mut line = format!("{index:#x}: v={:#018x} r={:#018x}", v.get(), r.get());
    // Formatting into a string cannot fail.
    let _ = describe(&mut line, entry);
    line
}

fn describe(line: &mut String, GuestHpte { v, r }: GuestHpte) -> std::fmt::Result {
    let attributes = HpteR::new(r.get());
    let avpn = v.get() & HpteV::AVPN;
    match v.segment() {
        Some(SegmentSize::S256M) => write!(line, " 256M vsid={:#x}", avpn >> 12)?,
        Some(SegmentSize::S1T) => write!(line, " 1T vsid={:#x}", avpn >> 24)?,
        None => {}
    }
    if let Some(encoding) = r.encoding(v) {
        write!(line, " {}", sizes(encoding))?;
        if let Some(page) = r.page(encoding) {
            write!(line, " page={:#x}", page.get())?;
        }
    }
    write!(
        line,
        " wimg={:#x} key={} pp={}{}",
        (r.get() & HpteR::WIMG) >> 3,
        ((r.get() & HpteR::KEY_HIGH) >> 57) | ((r.get() & HpteR::KEY_LOW) >> 9),
        u8::from(r.get() & HpteR::PP0 != 0),
        format_args!("{:02b}", r.get() & HpteR::PP),
    )?;
    for (set, name) in [
        (v.get() & HpteV::BOLTED != 0, "bolted"),
        (v.get() & HpteV::SECONDARY != 0, "secondary"),
        (r.get() & HpteR::N != 0, "no-execute"),
        (attributes.rc() & HpteR::R != 0, "R"),
        (attributes.rc() & HpteR::C != 0, "C"),
    ] {
        if set {
            write!(line, " {name}")?;
        }
    }
    Ok(())
}

const fn size(page: PageSize) -> &'static str {
    match page {
        PageSize::P4K => "4K",
        PageSize::P64K => "64K",
        PageSize::P16M => "16M",
    }
}

/// Base and actual page size.
fn sizes(encoding: PageEncoding) -> String {
    format!("{}/{}", size(encoding.base()), size(encoding.actual()))
}

/// That a stream is good, in one line.
pub fn summary(input: &Input, out: &mut impl Write) -> io::Result<()> {
    let Ok(stream) = input.stream() else {
        return Ok(());
    };
    let counts = stream.counts();
    writeln!(
        out,
        "{}: good: {} bytes, {} records, {} valid, {} invalid, order {}{}",
        input.name(),
        input.bytes().len(),
        counts.records,
        counts.valid,
        counts.invalid,
        input.order().get(),
        if input.known_order().is_some() {
            ""
        } else {
            " or more"
        }
    )
}

/// What a stream has, and the table that it ends with.
pub fn stats(input: &Input, table: &Table, out: &mut impl Write) -> io::Result<()> {
    let Ok(stream) = input.stream() else {
        return Ok(());
    };
    let counts = stream.counts();
    let said = if input.known_order().is_some() {
        ""
    } else {
        ", or more: nobody says"
    };
    let (order, entries) = (input.order().get(), stream.entries());
    writeln!(out, "table: order {order}, {entries} entries{said}")?;
    writeln!(out, "stream:")?;
    writeln!(out, "  records      {:10}", counts.records)?;
    writeln!(out, "  valid        {:10}", counts.valid)?;
    writeln!(out, "  invalid      {:10}", counts.invalid)?;
    let law = 8 * counts.records + 16 * counts.valid;
    write!(
        out,
        "  bytes        {:10} = 8 x {} + 16 x {}",
        input.bytes().len(),
        counts.records,
        counts.valid
    )?;
    // What frames take, where there are any.
    let rest = (input.bytes().len() as u64).saturating_sub(law);
    if rest != 0 {
        write!(out, " + {rest} of {} sections' frames", counts.sections)?;
    }
    writeln!(out)?;

    writeln!(out, "entries at the end:")?;
    let count = |what: &dyn Fn(GuestHpte) -> bool| {
        table.entries.values().filter(|entry| what(**entry)).count()
    };
    writeln!(out, "  all          {:10}", table.entries.len())?;
    let bolted = count(&|entry| entry.v.get() & HpteV::BOLTED != 0);
    writeln!(out, "  bolted       {bolted:10}")?;
    let secondary = count(&|entry| entry.v.get() & HpteV::SECONDARY != 0);
    writeln!(out, "  secondary    {secondary:10}")?;
    for (segment, name) in [(SegmentSize::S256M, "256M"), (SegmentSize::S1T, "1T")] {
        let of_segment = count(&|entry| entry.v.segment() == Some(segment));
        writeln!(out, "  segment {name:5}{of_segment:10}")?;
    }
    for encoding in PageEncoding::ALL {
        let of_size = count(&|entry| entry.r.encoding(entry.v) == Some(encoding));
        writeln!(out, "  page {:8}{of_size:10}", sizes(encoding))?;
    }
    let referenced = count(&|entry| entry.r.get() & HpteR::R != 0);
    writeln!(out, "  R set        {referenced:10}")?;
    let changed = count(&|entry| entry.r.get() & HpteR::C != 0);
    writeln!(out, "  C set        {changed:10}")?;
    match stream.vrma_page() {
        Some(page) => writeln!(out, "real mode area: {} pages", size(page)),
        None => writeln!(out, "real mode area: none"),
    }
}

/// Every entry that is not the same in both tables, `-` for the first's, `+` for the second's;
/// how many lines that are.
pub fn diff(a: &Table, b: &Table, out: &mut impl Write) -> io::Result<u64> {
    let mut lines = 0;
    let mut line = |sign: char, index: u64, hpte: GuestHpte| {
        lines += 1;
        writeln!(out, "{sign} {}", entry(index, hpte))
    };
    let (mut left, mut right) = (a.entries.iter().peekable(), b.entries.iter().peekable());
    loop {
        let (at_left, at_right) = (left.peek().map(|e| *e.0), right.peek().map(|e| *e.0));
        let Some(index) = at_left.into_iter().chain(at_right).min() else {
            return Ok(lines);
        };
        let old = left.next_if(|e| *e.0 == index).map(|e| *e.1);
        let new = right.next_if(|e| *e.0 == index).map(|e| *e.1);
        if old == new {
            continue;
        }
        if let Some(old) = old {
            line('-', index, old)?;
        }
        if let Some(new) = new {
            line('+', index, new)?;
        }
    }
}
