// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The monitor's commands: virsh's verbs with virsh's meaning.

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
    /// `destroy NAME`: stops a partition at once.
    Destroy(&'a str),
    /// `hpt ... NAME`: something about a partition's page table.
    Hpt(HptCommand, &'a str),
    /// `dirty NAME [off]`: the memory that a partition wrote.
    Dirty(DirtyCommand, &'a str),
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

/// Why a line is no command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandError<'a> {
    /// No such verb.
    Unknown(&'a str),
    /// A verb of virsh or of later versions.
    NotInThisVersion(&'a str),
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
            Self::NotInThisVersion(verb) => write!(f, "{verb}: not in this version"),
            Self::NameMissing(verb) => write!(f, "{verb}: name of a partition missing"),
            Self::Surplus(word) => write!(f, "unexpected argument: {word}"),
            Self::Usage(usage) => write!(f, "usage: {usage}"),
        }
    }
}

/// Verbs that the design gives to the monitor and later versions fill.
const LATER: [&str; 9] = [
    "start", "suspend", "resume", "shutdown", "reboot", "stats", "irqs", "trace", "memmap",
];

const HPT_USAGE: &str = "hpt check|stats|dump|reload NAME";
const DIRTY_USAGE: &str = "dirty NAME [off]";

const HELP: [(&str, &str); 11] = [
    ("list", "all partitions and their state"),
    ("console [NAME]", "attach the console; ^] comes back here"),
    (
        "dominfo [NAME]",
        "a partition, its exits and hypervisor calls",
    ),
    ("destroy NAME", "stop a partition at once"),
    ("hpt check NAME", "check every entry of the page table"),
    ("hpt stats NAME", "count the entries of the page table"),
    (
        "hpt dump NAME",
        "print the page table's stream, for hptdump.py",
    ),
    (
        "hpt reload NAME",
        "stream the page table out, drop it, stream it in",
    ),
    (
        DIRTY_USAGE,
        "memory written since the last look; off: stop noting",
    ),
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
            "console" => (Self::Console(name), words.next()),
            "dominfo" => (Self::DomInfo(name), words.next()),
            "destroy" => (
                Self::Destroy(name.ok_or(CommandError::NameMissing(verb))?),
                words.next(),
            ),
            "hpt" => {
                let command = match name {
                    Some("check") => HptCommand::Check,
                    Some("stats") => HptCommand::Stats,
                    Some("dump") => HptCommand::Dump,
                    Some("reload") => HptCommand::Reload,
                    _ => return Err(CommandError::Usage(HPT_USAGE)),
                };
                let name = words.next().ok_or(CommandError::NameMissing(verb))?;
                (Self::Hpt(command, name), words.next())
            }
            "dirty" => {
                let name = name.ok_or(CommandError::NameMissing(verb))?;
                let command = match words.next() {
                    None => DirtyCommand::Look,
                    Some("off") => DirtyCommand::Off,
                    Some(_) => return Err(CommandError::Usage(DIRTY_USAGE)),
                };
                (Self::Dirty(command, name), words.next())
            }
            _ if LATER.contains(&verb) => return Err(CommandError::NotInThisVersion(verb)),
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
            (" list ", Command::List),
            ("console", Command::Console(None)),
            ("console debian", Command::Console(Some("debian"))),
            ("dominfo", Command::DomInfo(None)),
            ("dominfo   debian", Command::DomInfo(Some("debian"))),
            ("destroy debian", Command::Destroy("debian")),
            ("poweroff", Command::PowerOff),
            ("hpt check a", Command::Hpt(HptCommand::Check, "a")),
            ("hpt stats a", Command::Hpt(HptCommand::Stats, "a")),
            ("hpt  dump a ", Command::Hpt(HptCommand::Dump, "a")),
            ("hpt reload a", Command::Hpt(HptCommand::Reload, "a")),
            ("dirty a", Command::Dirty(DirtyCommand::Look, "a")),
            ("dirty a off", Command::Dirty(DirtyCommand::Off, "a")),
        ] {
            assert_eq!(Command::parse(line), Ok(command), "{line:?}");
        }
    }

    #[test]
    fn wrong_lines_say_why() {
        for (line, text) in [
            ("lst", "unknown command: lst (try help)"),
            ("LIST", "unknown command: LIST (try help)"),
            ("suspend debian", "suspend: not in this version"),
            ("destroy", "destroy: name of a partition missing"),
            ("list --all", "unexpected argument: --all"),
            ("console a b", "unexpected argument: b"),
            ("destroy a b c", "unexpected argument: b"),
            ("hpt", "usage: hpt check|stats|dump|reload NAME"),
            ("hpt debian", "usage: hpt check|stats|dump|reload NAME"),
            ("hpt dump", "hpt: name of a partition missing"),
            ("hpt dump a b", "unexpected argument: b"),
            ("dirty", "dirty: name of a partition missing"),
            ("dirty a on", "usage: dirty NAME [off]"),
            ("dirty a off b", "unexpected argument: b"),
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
        assert_eq!(out.lines().count(), 11);
        for line in out.lines() {
            let verb = line.split_whitespace().next().unwrap();
            let parsed = Command::parse(verb);
            assert!(
                matches!(
                    parsed,
                    Ok(_) | Err(CommandError::NameMissing(_) | CommandError::Usage(_))
                ),
                "{verb}"
            );
        }
        let verbs = HELP.map(|(usage, _)| usage.split(' ').next().unwrap());
        assert!(!LATER.iter().any(|later| verbs.contains(later)));
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
