// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the word before the cursor can become: verbs, names of partitions, numbers of threads, and the
//! other words that a verb takes.

use alloc::vec::Vec;
use core::fmt;

/// What stands in a place of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    /// The name of a partition.
    Partition,
    /// The number of a thread.
    Thread,
    /// This word, after which there are no others.
    Last(&'static str),
}

const PARTITION: &[Word] = &[Word::Partition];
const SWITCH: &[Word] = &[Word::Last("on"), Word::Last("off")];

/// The verbs, and what stands after each, place by place.
const VERBS: [(&str, &[&[Word]]); 20] = [
    ("console", &[PARTITION]),
    ("destroy", &[PARTITION]),
    ("dirty", &[PARTITION, &[Word::Last("off")]]),
    ("dominfo", &[PARTITION]),
    ("help", &[]),
    (
        "hpt",
        &[
            PARTITION,
            &[
                Word::Last("check"),
                Word::Last("dump"),
                Word::Last("reload"),
                Word::Last("stats"),
            ],
        ],
    ),
    ("irqs", &[PARTITION]),
    ("list", &[]),
    ("memmap", &[]),
    ("poweroff", &[]),
    (
        "provoke",
        &[PARTITION, &[Word::Last("backing"), Word::Last("error")]],
    ),
    ("reboot", &[PARTITION]),
    ("registers", &[PARTITION]),
    ("resume", &[PARTITION]),
    ("screenshot", &[PARTITION, &[Word::Last("--full")]]),
    ("shutdown", &[PARTITION]),
    ("start", &[PARTITION]),
    ("stats", &[PARTITION]),
    ("suspend", &[PARTITION]),
    (
        "trace",
        &[
            &[
                Word::Last("on"),
                Word::Last("off"),
                Word::Partition,
                Word::Thread,
            ],
            SWITCH,
        ],
    ),
];

/// What the word before the cursor can become.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Completion<'a> {
    /// What all candidates have beyond what was typed of the word.
    pub rest: &'a str,
    /// The words that begin with what was typed.
    pub candidates: Vec<&'a str>,
}

impl<'a> Completion<'a> {
    /// Of the word that `line` ends with, the line as far as the cursor. `partitions` are the names of
    /// all partitions, `threads` the numbers of all threads.
    #[must_use]
    pub fn of(line: &str, partitions: &[&'a str], threads: &[&'a str]) -> Self {
        let (before, typed) = line.rsplit_once(' ').unwrap_or(("", line));
        let mut candidates: Vec<&'a str> = Vec::new();
        let mut words = before.split_ascii_whitespace();
        match words.next() {
            None => candidates.extend(VERBS.iter().map(|(verb, _)| *verb)),
            Some(verb) => {
                for word in place_after(verb, words) {
                    match word {
                        Word::Partition => candidates.extend(partitions),
                        Word::Thread => candidates.extend(threads),
                        Word::Last(word) => candidates.push(word),
                    }
                }
            }
        }
        candidates.retain(|candidate| candidate.starts_with(typed));
        Self {
            rest: common_rest(typed, &candidates),
            candidates,
        }
    }
}

/// What may follow a verb and the words after it.
fn place_after<'l>(verb: &str, words: impl Iterator<Item = &'l str>) -> &'static [Word] {
    let Some((_, places)) = VERBS.iter().find(|(name, _)| *name == verb) else {
        return &[];
    };
    let mut places = places.iter();
    for word in words {
        match places.next() {
            Some(place) if !is_last(place, word) => {}
            _ => return &[],
        }
    }
    places.next().copied().unwrap_or_default()
}

/// Whether nothing follows this word in its place.
fn is_last(place: &[Word], word: &str) -> bool {
    let mut words = place.iter();
    words.any(|other| matches!(other, Word::Last(last) if *last == word))
}

/// What all of these have after `typed`, with which they begin.
fn common_rest<'a>(typed: &str, candidates: &[&'a str]) -> &'a str {
    let mut rests = candidates
        .iter()
        .filter_map(|candidate| candidate.strip_prefix(typed));
    let Some(first) = rests.next() else {
        return "";
    };
    let common = |so_far: usize, rest: &str| {
        let same = first.bytes().zip(rest.bytes());
        same.take_while(|(a, b)| a == b).count().min(so_far)
    };
    let len = rests.fold(first.len(), common);
    // Names and verbs are ASCII, so it ends between two characters.
    first.get(..len).unwrap_or("")
}

/// Columns of a terminal.
const COLUMNS: usize = 80;

/// Writes words beside each other, as many in a line as a terminal has room for.
///
/// # Errors
/// Those of `out`.
pub fn write_candidates(out: &mut impl fmt::Write, candidates: &[&str]) -> fmt::Result {
    let mut column = 0;
    for candidate in candidates {
        if column > 0 && column + 2 + candidate.len() >= COLUMNS {
            writeln!(out)?;
            column = 0;
        }
        let gap = if column == 0 { "" } else { "  " };
        write!(out, "{gap}{candidate}")?;
        column += gap.len() + candidate.len();
    }
    writeln!(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::monitor::command::{Command, CommandError, HELP};
    use alloc::format;
    use alloc::string::String;
    use alloc::vec;

    const PARTITIONS: [&str; 3] = ["debian-1", "debian-2", "one"];
    const THREADS: [&str; 3] = ["0", "1", "10"];

    fn of(line: &str) -> (&'static str, Vec<&'static str>) {
        let Completion { rest, candidates } = Completion::of(line, &PARTITIONS, &THREADS);
        (rest, candidates)
    }

    #[test]
    fn verbs_are_completed() {
        assert_eq!(of("cons"), ("ole", vec!["console"]));
        assert_eq!(of("  cons"), ("ole", vec!["console"]));
        assert_eq!(of("console"), ("", vec!["console"]));
        assert_eq!(of("re"), ("", vec!["reboot", "registers", "resume"]));
        assert_eq!(of("s").1.len(), 5);
        assert_eq!(of("sta"), ("", vec!["start", "stats"]));
        assert_eq!(of("").1.len(), VERBS.len());
        assert_eq!(of(" ").1.len(), VERBS.len());
        assert_eq!(of("consoles"), ("", vec![]));
        assert_eq!(of("Cons"), ("", vec![]));
    }

    #[test]
    fn names_of_partitions_are_completed() {
        assert_eq!(of("start de"), ("bian-", vec!["debian-1", "debian-2"]));
        assert_eq!(of("start debian-"), ("", vec!["debian-1", "debian-2"]));
        assert_eq!(of("start  o"), ("ne", vec!["one"]));
        assert_eq!(of("start "), ("", PARTITIONS.to_vec()));
        assert_eq!(of("start two"), ("", vec![]));
        assert_eq!(of("start one "), ("", vec![]));
        assert_eq!(of("start one o"), ("", vec![]));
        assert_eq!(of("list o"), ("", vec![]));
        assert_eq!(of("nothing o"), ("", vec![]));
    }

    #[test]
    fn other_words_are_completed_in_their_places() {
        assert_eq!(
            of("hpt one "),
            ("", vec!["check", "dump", "reload", "stats"])
        );
        assert_eq!(of("hpt one du"), ("mp", vec!["dump"]));
        assert_eq!(of("hpt du"), ("", vec![]));
        assert_eq!(of("hpt one dump "), ("", vec![]));
        assert_eq!(of("dirty one "), ("off", vec!["off"]));
        assert_eq!(of("screenshot one -"), ("-full", vec!["--full"]));
        assert_eq!(of("provoke one b"), ("acking", vec!["backing"]));
        assert_eq!(of("trace o"), ("", vec!["on", "off", "one"]));
        assert_eq!(of("trace 1"), ("", vec!["1", "10"]));
        assert_eq!(of("trace 1 "), ("o", vec!["on", "off"]));
        assert_eq!(of("trace one of"), ("f", vec!["off"]));
        assert_eq!(of("trace on "), ("", vec![]));
        assert_eq!(of("trace one on "), ("", vec![]));
    }

    /// Each place of each verb leads to a command, and no place is left out.
    #[test]
    fn what_is_completed_is_a_command() {
        let mut pending = vec![String::new()];
        let mut commands = 0;
        while let Some(line) = pending.pop() {
            for word in of(&line).1 {
                let line = format!("{line}{word} ");
                match Command::parse(&line) {
                    Ok(_) => commands += 1,
                    // More words are needed, and there are some.
                    Err(CommandError::NameMissing(_) | CommandError::Usage(_)) => {
                        assert!(!of(&line).1.is_empty(), "{line}");
                    }
                    Err(error) => panic!("{line}: {error}"),
                }
                pending.push(line);
            }
        }
        assert!(commands > 60, "{commands}");
    }

    #[test]
    fn every_word_of_the_help_is_completed() {
        for (usage, _) in HELP {
            let mut words = usage.split(' ');
            let verb = words.next().unwrap();
            assert!(VERBS.iter().any(|(name, _)| *name == verb), "{verb}");
            // Words in small letters stand for themselves.
            for word in words.flat_map(|word| word.split(['[', ']', '|'])) {
                let is_fixed = !word.is_empty() && word.chars().all(|c| c.is_ascii_lowercase());
                let places = VERBS.iter().find(|(name, _)| *name == verb).unwrap().1;
                assert!(
                    !is_fixed || places.iter().any(|place| is_last(place, word)),
                    "{verb} {word}"
                );
            }
        }
    }

    #[test]
    fn candidates_fill_lines_of_a_terminal() {
        let mut out = String::new();
        write_candidates(&mut out, &["on", "off", "one"]).unwrap();
        assert_eq!(out, "on  off  one\n");
        out.clear();
        write_candidates(&mut out, &["a-partition-of-31-characters-123"; 5]).unwrap();
        assert_eq!(out.lines().count(), 3);
        assert!(out.lines().all(|line| line.len() < COLUMNS));
    }
}
