// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The monitor's commands: virsh's verbs with virsh's meaning.

use crate::screen::Kind;
use core::fmt;

/// A command as typed. Names are not looked up yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command<'a> {
    /// An empty line.
    Empty,
    /// `help`
    Help,
    /// `list`: all partitions.
    List,
    /// `console [NAME]`: to the console of a partition, by default the last one attached.
    Console(Option<&'a str>),
    /// `dominfo [NAME]`: one partition, by default the only one.
    DomInfo(Option<&'a str>),
    /// `start NAME`: makes a partition that is shut off anew, and runs it.
    Start(&'a str),
    /// `suspend NAME`: holds a partition.
    Suspend(&'a str),
    /// `resume NAME`: lets a paused partition go on.
    Resume(&'a str),
    /// `hpt NAME [check|stats|dump|reload]`: something about a partition's hashed page table; by
    /// itself it checks it, and says what it holds.
    Hpt(&'a str, Option<HptCommand>),
    /// `dirty NAME [off]`: the memory that a partition wrote.
    Dirty(&'a str, DirtyCommand),
    /// `registers NAME [CPU]`: of a virtual processor, by default the first.
    Registers(&'a str, u32),
    /// `stats [NAME]`: what partitions and threads did; of one partition, why it left its guest, how
    /// often, and for how long.
    Stats(Option<&'a str>),
    /// `irqs [NAME]`: interrupt sources, where they go, and what of them a guest has mapped.
    Irqs(Option<&'a str>),
    /// `trace [THREAD|NAME] [on|off]`: prints what hardware threads did last, or what concerned a
    /// partition; switches the recording of it on and off.
    Trace(Option<&'a str>, TraceCommand),
    /// `memmap`: who has the machine's memory.
    MemMap,
    /// `screenshot NAME [--full]`: a picture of a partition's framebuffer, as lines of text.
    Screenshot(&'a str, Kind),
    /// `provoke NAME backing|error`: has something go wrong in a partition, for tests.
    Provoke(&'a str, Trouble),
    /// `shutdown NAME`: asks a guest to shut down, by an event of its platform.
    Shutdown(&'a str),
    /// `reboot NAME`: has a guest start over at once, as if it had asked for that itself. It is not
    /// asked: PAPR has no event for that.
    Reboot(&'a str),
    /// `destroy NAME`: stops a partition at once, and takes back all that it has.
    Destroy(&'a str),
    /// `poweroff`: stops everything and switches the machine off.
    PowerOff,
}

/// What is done with a page table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HptCommand {
    /// Look whether all is true of it that must be.
    Check,
    /// Count its entries.
    Stats,
    /// Print its stream, for `kernel/scripts/hptdump.py`.
    Dump,
    /// Stream it out, drop it, stream it in.
    Reload,
}

/// What is done with a dirty log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DirtyCommand {
    /// Show what was written since the last look; the first one switches the log on.
    Look,
    /// Switch the log off.
    Off,
}

/// What is done with a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TraceCommand {
    /// Print it.
    Show,
    /// Record it too from now on.
    On,
    /// Record it no more, and what else is recorded as before.
    Off,
}

impl TraceCommand {
    fn named(word: Option<&str>) -> Option<Self> {
        match word {
            None => Some(Self::Show),
            Some("on") => Some(Self::On),
            Some("off") => Some(Self::Off),
            Some(_) => None,
        }
    }
}

/// What goes wrong in a partition because somebody wants to see what comes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Its memory is no longer of one piece where the guest was promised large pages.
    Backing,
    /// The hypervisor finds an error of its own in what it keeps of the partition.
    Error,
}

/// Why a line is no command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandError<'a> {
    /// No such verb.
    Unknown(&'a str),
    /// The verb needs the name of a partition.
    NameMissing(&'a str),
    /// The verb takes fewer words; the first one too many.
    Surplus(&'a str),
    /// The verb needs other words.
    Usage(&'static str),
}

impl fmt::Display for CommandError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(verb) => write!(f, "unknown command: {verb} (try help)"),
            Self::NameMissing(verb) => write!(f, "{verb}: name of a partition missing"),
            Self::Surplus(word) => write!(f, "unexpected argument: {word}"),
            Self::Usage(usage) => write!(f, "usage: {usage}"),
        }
    }
}

const TRACE_USAGE: &str = "trace [THREAD|NAME] [on|off]";
const HPT_USAGE: &str = "hpt NAME [check|stats|dump|reload]";
const PROVOKE_USAGE: &str = "provoke NAME backing|error";
const DIRTY_USAGE: &str = "dirty NAME [off]";
const REGISTERS_USAGE: &str = "registers NAME [CPU]";

/// Usage and meaning of each command.
pub(super) const HELP: [(&str, &str); 24] = [
    ("list", "all partitions and their state"),
    ("console [NAME]", "attach the console; ^] comes back here"),
    (
        "dominfo [NAME]",
        "a partition, its exits and hypervisor calls",
    ),
    ("start NAME", "run a partition that is shut off"),
    ("suspend NAME", "hold a partition"),
    ("resume NAME", "let a paused partition go on"),
    (
        "hpt NAME",
        "check a partition's page table, and say what it holds",
    ),
    ("hpt NAME check", "check it alone, in steps"),
    ("hpt NAME stats", "count its entries, in steps"),
    ("hpt NAME dump", "print its stream, for hptdump.py"),
    ("hpt NAME reload", "stream it out, drop it, stream it in"),
    (
        DIRTY_USAGE,
        "memory written since the last look (off: stop noting)",
    ),
    (
        REGISTERS_USAGE,
        "of a virtual processor, while its partition waits a moment",
    ),
    (
        "stats [NAME]",
        "exits by reason and how long they took, hypervisor calls, threads",
    ),
    (
        "irqs [NAME]",
        "interrupt sources, where they go, who maps their pages",
    ),
    (
        TRACE_USAGE,
        "what threads did last (on, off: record this too, or no more)",
    ),
    ("memmap", "who has the machine's memory"),
    (
        "screenshot NAME",
        "what changed on its display, as text (--full: all of it)",
    ),
    (PROVOKE_USAGE, "have its partition fail so, for tests"),
    ("shutdown NAME", "ask a guest to shut down"),
    ("reboot NAME", "have a guest start over at once, unasked"),
    ("destroy NAME", "stop a partition at once"),
    ("poweroff", "stop everything and switch the machine off"),
    ("help", "this list"),
];

impl<'a> Command<'a> {
    /// The command in `line`: words between spaces, the verb first.
    ///
    /// # Errors
    /// See [`CommandError`], whose text is for the operator.
    pub fn parse(line: &'a str) -> Result<Self, CommandError<'a>> {
        let mut words = line.split_ascii_whitespace();
        let Some(verb) = words.next() else {
            return Ok(Self::Empty);
        };
        let name = words.next();
        let (command, surplus) = match verb {
            "help" => (Self::Help, name),
            "list" => (Self::List, name),
            "poweroff" => (Self::PowerOff, name),
            "memmap" => (Self::MemMap, name),
            "console" => (Self::Console(name), words.next()),
            "dominfo" => (Self::DomInfo(name), words.next()),
            "stats" => (Self::Stats(name), words.next()),
            "irqs" => (Self::Irqs(name), words.next()),
            "trace" => match TraceCommand::named(name) {
                // A partition that has such a name cannot be meant.
                Some(command) => (Self::Trace(None, command), words.next()),
                None => match TraceCommand::named(words.next()) {
                    Some(command) => (Self::Trace(name, command), words.next()),
                    None => return Err(CommandError::Usage(TRACE_USAGE)),
                },
            },
            "start" | "suspend" | "resume" | "shutdown" | "reboot" | "destroy" => {
                let name = name.ok_or(CommandError::NameMissing(verb))?;
                let command = match verb {
                    "start" => Self::Start(name),
                    "suspend" => Self::Suspend(name),
                    "resume" => Self::Resume(name),
                    "shutdown" => Self::Shutdown(name),
                    "reboot" => Self::Reboot(name),
                    _ => Self::Destroy(name),
                };
                (command, words.next())
            }
            "hpt" => {
                let name = name.ok_or(CommandError::NameMissing(verb))?;
                let command = match words.next() {
                    None => None,
                    Some("check") => Some(HptCommand::Check),
                    Some("stats") => Some(HptCommand::Stats),
                    Some("dump") => Some(HptCommand::Dump),
                    Some("reload") => Some(HptCommand::Reload),
                    Some(_) => return Err(CommandError::Usage(HPT_USAGE)),
                };
                (Self::Hpt(name, command), words.next())
            }
            "dirty" => {
                let name = name.ok_or(CommandError::NameMissing(verb))?;
                let command = match words.next() {
                    None => DirtyCommand::Look,
                    Some("off") => DirtyCommand::Off,
                    Some(_) => return Err(CommandError::Usage(DIRTY_USAGE)),
                };
                (Self::Dirty(name, command), words.next())
            }
            "registers" => {
                let name = name.ok_or(CommandError::NameMissing(verb))?;
                let cpu = match words.next() {
                    None => 0,
                    Some(word) => word
                        .parse()
                        .map_err(|_| CommandError::Usage(REGISTERS_USAGE))?,
                };
                (Self::Registers(name, cpu), words.next())
            }
            "provoke" => {
                let name = name.ok_or(CommandError::NameMissing(verb))?;
                let trouble = match words.next() {
                    Some("backing") => Trouble::Backing,
                    Some("error") => Trouble::Error,
                    _ => return Err(CommandError::Usage(PROVOKE_USAGE)),
                };
                (Self::Provoke(name, trouble), words.next())
            }
            "screenshot" => {
                let name = name.ok_or(CommandError::NameMissing(verb))?;
                match words.next() {
                    Some("--full") => (Self::Screenshot(name, Kind::Full), words.next()),
                    other => (Self::Screenshot(name, Kind::Changed), other),
                }
            }
            _ => return Err(CommandError::Unknown(verb)),
        };
        match surplus {
            Some(word) => Err(CommandError::Surplus(word)),
            None => Ok(command),
        }
    }
}

/// Writes the list of commands.
///
/// # Errors
/// Those of `out`.
pub fn write_help(out: &mut impl fmt::Write) -> fmt::Result {
    for (usage, meaning) in HELP {
        writeln!(out, " {usage:<16} {meaning}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::{String, ToString};
    use proptest::prelude::*;

    #[test]
    fn commands_of_this_version() {
        for (line, command) in [
            ("", Command::Empty),
            ("   ", Command::Empty),
            ("help", Command::Help),
            ("memmap", Command::MemMap),
            (" list ", Command::List),
            ("console", Command::Console(None)),
            ("console debian", Command::Console(Some("debian"))),
            ("dominfo", Command::DomInfo(None)),
            ("dominfo   debian", Command::DomInfo(Some("debian"))),
            ("trace", Command::Trace(None, TraceCommand::Show)),
            ("trace on", Command::Trace(None, TraceCommand::On)),
            ("trace 1", Command::Trace(Some("1"), TraceCommand::Show)),
            ("trace a off", Command::Trace(Some("a"), TraceCommand::Off)),
            ("irqs", Command::Irqs(None)),
            ("irqs debian", Command::Irqs(Some("debian"))),
            ("stats", Command::Stats(None)),
            ("stats debian", Command::Stats(Some("debian"))),
            ("start debian", Command::Start("debian")),
            ("suspend debian", Command::Suspend("debian")),
            ("resume debian", Command::Resume("debian")),
            ("hpt debian", Command::Hpt("debian", None)),
            ("hpt a check", Command::Hpt("a", Some(HptCommand::Check))),
            ("hpt a stats", Command::Hpt("a", Some(HptCommand::Stats))),
            ("hpt  a dump ", Command::Hpt("a", Some(HptCommand::Dump))),
            ("hpt a reload", Command::Hpt("a", Some(HptCommand::Reload))),
            ("dirty a", Command::Dirty("a", DirtyCommand::Look)),
            ("dirty a off", Command::Dirty("a", DirtyCommand::Off)),
            ("registers a", Command::Registers("a", 0)),
            ("registers a 31", Command::Registers("a", 31)),
            (
                "screenshot debian",
                Command::Screenshot("debian", Kind::Changed),
            ),
            (
                "screenshot debian --full",
                Command::Screenshot("debian", Kind::Full),
            ),
            ("provoke a backing", Command::Provoke("a", Trouble::Backing)),
            ("provoke a error", Command::Provoke("a", Trouble::Error)),
            ("shutdown debian", Command::Shutdown("debian")),
            ("reboot debian", Command::Reboot("debian")),
            ("destroy debian", Command::Destroy("debian")),
            ("poweroff", Command::PowerOff),
        ] {
            assert_eq!(Command::parse(line), Ok(command), "{line:?}");
        }
    }

    #[test]
    fn wrong_lines_say_why() {
        for (line, text) in [
            ("lst", "unknown command: lst (try help)"),
            ("LIST", "unknown command: LIST (try help)"),
            ("trace a b", "usage: trace [THREAD|NAME] [on|off]"),
            ("trace a on b", "unexpected argument: b"),
            ("trace on off", "unexpected argument: off"),
            ("shutdown", "shutdown: name of a partition missing"),
            ("reboot a b", "unexpected argument: b"),
            ("start", "start: name of a partition missing"),
            ("resume", "resume: name of a partition missing"),
            ("hpt", "hpt: name of a partition missing"),
            ("destroy", "destroy: name of a partition missing"),
            ("screenshot", "screenshot: name of a partition missing"),
            ("screenshot debian full", "unexpected argument: full"),
            ("screenshot debian --full x", "unexpected argument: x"),
            ("list --all", "unexpected argument: --all"),
            ("console a b", "unexpected argument: b"),
            ("stats a b", "unexpected argument: b"),
            ("irqs a b", "unexpected argument: b"),
            ("destroy a b c", "unexpected argument: b"),
            ("suspend a b", "unexpected argument: b"),
            ("hpt a write", "usage: hpt NAME [check|stats|dump|reload]"),
            ("hpt a dump b", "unexpected argument: b"),
            ("provoke", "provoke: name of a partition missing"),
            ("provoke a", "usage: provoke NAME backing|error"),
            ("provoke a panic", "usage: provoke NAME backing|error"),
            ("provoke a error b", "unexpected argument: b"),
            ("dirty", "dirty: name of a partition missing"),
            ("dirty a on", "usage: dirty NAME [off]"),
            ("dirty a off b", "unexpected argument: b"),
            ("registers", "registers: name of a partition missing"),
            ("registers a all", "usage: registers NAME [CPU]"),
            ("registers a 4294967296", "usage: registers NAME [CPU]"),
            ("registers a 1 2", "unexpected argument: 2"),
        ] {
            assert_eq!(
                Command::parse(line).unwrap_err().to_string(),
                text,
                "{line:?}"
            );
        }
    }

    #[test]
    fn help_names_every_command_that_parses() {
        let mut out = String::new();
        write_help(&mut out).unwrap();
        assert_eq!(out.lines().count(), HELP.len());
        for line in out.lines() {
            let verb = line.split_whitespace().next().unwrap();
            let parsed = Command::parse(verb);
            assert!(
                matches!(parsed, Ok(_) | Err(CommandError::NameMissing(_))),
                "{verb}"
            );
        }
    }

    proptest! {
        #![proptest_config(crate::rtas::testing::config())]

        #[test]
        fn any_line_parses_or_says_why(line in ".{0,80}") {
            if let Err(error) = Command::parse(&line) {
                prop_assert!(!error.to_string().is_empty());
            }
        }
    }
}
