// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The command line.

use crate::Failure;
use penstock_mm::hpt::HptOrder;
use penstock_mm::stream::{ByteOrder, Encoding, HoleStyle};
use std::ffi::OsString;
use std::path::PathBuf;

pub const HELP: &str = "\
usage: hptstream dump    [--format FORMAT] [--order N] STREAM
       hptstream verify  [--format FORMAT] [--order N] STREAM
       hptstream stats   [--format FORMAT] [--order N] STREAM
       hptstream diff    [--format FORMAT] [--format-b FORMAT] [--order N] A B
       hptstream convert --from FORMAT --to FORMAT [--holes STYLE] [--order N] STREAM OUTPUT

Streams of hashed page tables, as KVM_PPC_GET_HTAB_FD and QEMU's migration make them.

dump      every record and entry
verify    nothing but whether the stream is good, with its counts
stats     records, entries by kind and page size, and the law of its size
diff      what differs between the tables that two streams end with, each from an empty one
convert   the same stream in another format

STREAM    a file, or - for standard input; OUTPUT a file, or - for standard output
FORMAT    le     headers little-endian: KVM on such a host, and Penstock (default)
          be     headers big-endian: KVM on such a host
          qemu   the payload of QEMU's section \"spapr/htab\", frames included
N         the table's size, binary logarithm of its bytes, 18 to 36; else what QEMU's
          frames say, or the least that takes all records
STYLE     do not keep the records, but make one first pass of the table at the end:
          counted    holes counted, as KVM does it
          left-out   holes left out, as QEMU does it without KVM

Ends with 0; with 1 for a bad stream, 2 for a wrong command line or a file that cannot be
read or written, and 3 where two tables differ.
";

const SEE_HELP: &str = "see hptstream --help";

/// A stream, and how it is written down.
#[derive(Debug)]
pub struct Source {
    /// `None` is standard input.
    pub file: Option<PathBuf>,
    pub format: Encoding,
}

/// What becomes of the records.
#[derive(Clone, Copy, Debug)]
pub enum Style {
    Kept,
    FirstPass(HoleStyle),
}

#[derive(Debug)]
pub enum Command {
    Help,
    Dump(Source),
    Verify(Source),
    Stats(Source),
    Diff(Source, Source),
    Convert {
        from: Source,
        to: Encoding,
        style: Style,
        /// `None` is standard output.
        file: Option<PathBuf>,
    },
}

#[derive(Debug)]
pub struct Arguments {
    pub command: Command,
    pub order: Option<HptOrder>,
}

/// Options as they were given.
#[derive(Default)]
struct Options {
    format: Option<Encoding>,
    format_b: Option<Encoding>,
    from: Option<Encoding>,
    to: Option<Encoding>,
    holes: Option<HoleStyle>,
    order: Option<HptOrder>,
    /// `None` for `-`.
    files: Vec<Option<PathBuf>>,
}

pub fn parse(mut arguments: impl Iterator<Item = OsString>) -> Result<Arguments, Failure> {
    let Some(name) = arguments.next() else {
        return Err(usage("a command is missing"));
    };
    let name = name.to_string_lossy().into_owned();
    if matches!(name.as_str(), "--help" | "-h" | "help") {
        return Ok(Arguments {
            command: Command::Help,
            order: None,
        });
    }
    let allowed: &[&str] = match name.as_str() {
        "dump" | "verify" | "stats" => &["--format", "--order"],
        "diff" => &["--format", "--format-b", "--order"],
        "convert" => &["--from", "--to", "--holes", "--order"],
        _ => return Err(usage(&format!("there is no command {name:?}"))),
    };
    let Some(mut options) = read(arguments, allowed)? else {
        return Ok(Arguments {
            command: Command::Help,
            order: None,
        });
    };
    let wanted = if matches!(name.as_str(), "diff" | "convert") {
        2
    } else {
        1
    };
    if options.files.len() != wanted {
        let given = options.files.len();
        return Err(usage(&format!("{name} takes {wanted} files, not {given}")));
    }
    let order = options.order;
    let format = options.format.unwrap_or(Encoding::Bare(ByteOrder::Little));
    let format_b = options.format_b.unwrap_or(format);
    let second = options.files.pop().flatten();
    let first = if wanted == 2 {
        options.files.pop().flatten()
    } else {
        None
    };
    let source = |file, format| Source { file, format };
    let command = match name.as_str() {
        "dump" => Command::Dump(source(second, format)),
        "verify" => Command::Verify(source(second, format)),
        "stats" => Command::Stats(source(second, format)),
        "diff" if first.is_none() && second.is_none() => {
            return Err(usage("only one stream can come from standard input"));
        }
        "diff" => Command::Diff(source(first, format), source(second, format_b)),
        _ => Command::Convert {
            from: source(first, options.from.ok_or(usage("--from is missing"))?),
            to: options.to.ok_or(usage("--to is missing"))?,
            style: options.holes.map_or(Style::Kept, Style::FirstPass),
            file: second,
        },
    };
    Ok(Arguments { command, order })
}

/// The options behind the command; `None` where help is asked for.
fn read(
    mut arguments: impl Iterator<Item = OsString>,
    allowed: &[&str],
) -> Result<Option<Options>, Failure> {
    let mut options = Options::default();
    while let Some(argument) = arguments.next() {
        let option = match argument.to_str() {
            Some("-") => {
                options.files.push(None);
                continue;
            }
            Some("--help" | "-h") => return Ok(None),
            Some(option) if option.starts_with('-') => option,
            _ => {
                options.files.push(Some(PathBuf::from(argument)));
                continue;
            }
        };
        if !allowed.contains(&option) {
            return Err(usage(&format!("there is no option {option} here")));
        }
        let value = arguments.next().unwrap_or_default();
        let value = value.to_string_lossy();
        let bad = || usage(&format!("{option} does not take {value:?}"));
        let format = || format_of(&value).ok_or_else(bad);
        match option {
            "--format" => set(&mut options.format, format()?, option)?,
            "--format-b" => set(&mut options.format_b, format()?, option)?,
            "--from" => set(&mut options.from, format()?, option)?,
            "--to" => set(&mut options.to, format()?, option)?,
            "--holes" => {
                let style = match &*value {
                    "counted" => HoleStyle::Counted,
                    "left-out" => HoleStyle::LeftOut,
                    _ => return Err(bad()),
                };
                set(&mut options.holes, style, option)?;
            }
            _ => {
                let order = value.parse().ok().and_then(HptOrder::new);
                set(&mut options.order, order.ok_or_else(bad)?, option)?;
            }
        }
    }
    Ok(Some(options))
}

fn format_of(name: &str) -> Option<Encoding> {
    match name {
        "le" => Some(Encoding::Bare(ByteOrder::Little)),
        "be" => Some(Encoding::Bare(ByteOrder::Big)),
        "qemu" => Some(Encoding::Qemu),
        _ => None,
    }
}

fn set<T>(option: &mut Option<T>, value: T, name: &str) -> Result<(), Failure> {
    if option.replace(value).is_some() {
        return Err(usage(&format!("{name} is there twice")));
    }
    Ok(())
}

fn usage(message: &str) -> Failure {
    Failure::Usage(format!("{message}; {SEE_HELP}"))
}
