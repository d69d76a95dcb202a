// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Looks at streams of page tables on the host, with the hypervisor's own parser.
//!
//! `hptstream --help` says what it can do. A stream that is refused ends it with 1 and one line on
//! standard error: the file, the offset in it, the entry meant, and what is wrong.

mod arguments;
mod input;
mod table;
mod text;

use arguments::{Arguments, Command, Style};
use input::Input;
use penstock_mm::stream::{
    ByteOrder, Change, Encoding, GuestHpte, ParsedStream, StreamOptions, qemu,
};
use std::fmt::Display;
use std::io::{self, BufWriter, ErrorKind, Write};
use std::process::ExitCode;
use table::Table;

/// What the shell is told.
mod status {
    /// The stream is bad.
    pub const BAD_STREAM: u8 = 1;
    /// The command line is, or a file cannot be read or written.
    pub const USAGE: u8 = 2;
    /// The tables of two good streams differ.
    pub const DIFFERENT: u8 = 3;
}

/// Why the program ends before its work is done.
#[derive(Debug)]
enum Failure {
    Usage(String),
    BadStream(String),
    File(String),
    /// Whoever reads the output has had enough.
    ReaderGone,
}

impl Failure {
    fn file(name: &impl Display, error: &io::Error) -> Self {
        if error.kind() == ErrorKind::BrokenPipe {
            return Self::ReaderGone;
        }
        Self::File(format!("{name}: {error}"))
    }
}

fn main() -> ExitCode {
    let result =
        arguments::parse(std::env::args_os().skip(1)).and_then(|arguments| run(&arguments));
    let (status, message) = match result {
        Ok(status) => return ExitCode::from(status),
        Err(Failure::ReaderGone) => return ExitCode::SUCCESS,
        Err(Failure::Usage(message)) => (status::USAGE, message),
        Err(Failure::File(message)) => (status::USAGE, message),
        Err(Failure::BadStream(message)) => (status::BAD_STREAM, message),
    };
    eprintln!("hptstream: {message}");
    ExitCode::from(status)
}

fn run(arguments: &Arguments) -> Result<u8, Failure> {
    let mut out = BufWriter::new(io::stdout().lock());
    let mut status = 0;
    let written = match &arguments.command {
        Command::Help => out.write_all(arguments::HELP.as_bytes()),
        Command::Dump(source) => {
            let input = Input::read(source, arguments.order)?;
            dump(&input, &mut out)
        }
        Command::Verify(source) => {
            let input = Input::read(source, arguments.order)?;
            text::summary(&input, &mut out)
        }
        Command::Stats(source) => {
            let input = Input::read(source, arguments.order)?;
            text::stats(&input, &Table::of(&input.stream()?), &mut out)
        }
        Command::Diff(a, b) => {
            let a = Input::read(a, arguments.order)?;
            let b = Input::read(b, arguments.order)?;
            let lines = diff(&a, &b, &mut out)?;
            if !matches!(lines, Ok(0)) {
                status = status::DIFFERENT;
            }
            lines.map(|_| ())
        }
        Command::Convert {
            from,
            to,
            style,
            file,
        } => {
            let input = Input::read(from, arguments.order)?;
            let bytes = convert(&input, *to, *style)?;
            if let Some(path) = file {
                return match std::fs::write(path, bytes) {
                    Ok(()) => Ok(0),
                    Err(error) => Err(Failure::file(&path.display(), &error)),
                };
            }
            out.write_all(&bytes)
        }
    };
    written
        .and_then(|()| out.flush())
        .map_err(|error| Failure::file(&"standard output", &error))?;
    Ok(status)
}

/// Every record and entry, in the order of the stream.
fn dump(input: &Input, out: &mut impl Write) -> io::Result<()> {
    let Ok(stream) = input.stream() else {
        return Ok(());
    };
    // The first thing that a stream says that starts from an empty table has no record.
    let mut changes = stream.changes().skip(1);
    for (offset, header) in stream.records() {
        writeln!(
            out,
            "{offset:#010x} record from {:#x}: {} valid, {} invalid",
            header.index, header.n_valid, header.n_invalid
        )?;
        let count = usize::from(header.n_valid) + usize::from(header.n_invalid != 0);
        for (offset, change) in changes.by_ref().take(count) {
            match change {
                Change::Set { index, entry } => {
                    writeln!(out, "{offset:#010x}   {}", text::entry(index.get(), entry))?;
                }
                Change::Clear { first, count } => {
                    writeln!(out, "{:10}   {:#x} + {count} invalid", "", first.get())?;
                }
            }
        }
    }
    Ok(())
}

/// What differs in what two streams end with; how many lines that takes.
fn diff(a: &Input, b: &Input, out: &mut impl Write) -> Result<io::Result<u64>, Failure> {
    let (left, right) = (Table::of(&a.stream()?), Table::of(&b.stream()?));
    let sizes = match (a.known_order(), b.known_order()) {
        (Some(a), Some(b)) if a != b => {
            writeln!(out, "- order {}\n+ order {}", a.get(), b.get()).map(|()| 2)
        }
        _ => Ok(0),
    };
    Ok(sizes.and_then(|lines| Ok(lines + text::diff(&left, &right, out)?)))
}

/// The stream in another encoding: record by record, or as one first pass of the table that it
/// ends with.
fn convert(input: &Input, to: Encoding, style: Style) -> Result<Vec<u8>, Failure> {
    let stream = input.stream()?;
    let order = match to {
        Encoding::Bare(order) => order,
        Encoding::Qemu => ByteOrder::Big,
    };
    let records = match style {
        Style::Kept => kept(input, &stream, order),
        Style::FirstPass(holes) => Table::of(&stream).first_pass(StreamOptions {
            holes,
            ..StreamOptions::new(order)
        }),
    };
    if to != Encoding::Qemu {
        return Ok(records);
    }
    let Some(order) = input.known_order() else {
        return Err(Failure::Usage(String::from(
            "QEMU's frames name the table's size: say it with --order",
        )));
    };
    Ok([&qemu::size(order)[..], &qemu::RECORDS, &records, &qemu::END].concat())
}

/// The same records, without frames and without the bits that are a hypervisor's own.
fn kept(input: &Input, stream: &ParsedStream<'_>, order: ByteOrder) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(input.bytes().len());
    for (offset, header) in stream.records() {
        bytes.extend_from_slice(&header.to_bytes(order));
        let entries = input.bytes().get(offset + 8..).unwrap_or_default();
        let (entries, _) = entries.as_chunks();
        for entry in entries.iter().take(usize::from(header.n_valid)) {
            bytes.extend_from_slice(&GuestHpte::from_bytes(*entry).to_bytes());
        }
    }
    bytes
}
