// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A line of input with echo: printable ASCII, backspace, `^U`, `^W`, `^C`, and the lines before by
//! the arrows up and down.
//!
//! No cursor movement; the escape sequences of the other arrow and function keys are
//! swallowed whole instead of showing up as letters. Carriage return, line feed, or both as a
//! pair, end a line.

use arrayvec::ArrayVec;
use core::fmt::{self, Write};

/// Shown before each line.
pub const PROMPT: &str = "penstock> ";
/// Longest line, in bytes.
pub const LINE_BYTES: usize = 128;

/// Lines that are remembered.
const HISTORY_LINES: usize = 16;

const INTERRUPT: u8 = 0x03;
const BACKSPACE: u8 = 0x08;
const LINE_FEED: u8 = b'\n';
const RETURN: u8 = b'\r';
const KILL_LINE: u8 = 0x15;
const KILL_WORD: u8 = 0x17;
const ESC: u8 = 0x1b;
/// What ends the sequence of an arrow key.
const ARROW_UP: u8 = b'A';
const ARROW_DOWN: u8 = b'B';
const DELETE: u8 = 0x7f;
const BELL: &str = "\x07";
const RUBOUT: &str = "\x08 \x08";

/// What a byte of input came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Edit {
    /// The line goes on.
    Editing,
    /// The line is complete; [`LineEditor::line`] has it until the next byte.
    Line,
    /// `^C`: the line was thrown away. Show the prompt again.
    Cancelled,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Text,
    /// The last byte was a carriage return: a line feed now belongs to it.
    AfterReturn,
    /// The last byte was an escape.
    Escape,
    /// Within a control sequence, which ends with a byte from 0x40 to 0x7e.
    Sequence,
}

/// One line under construction.
#[derive(Clone, Debug)]
pub struct LineEditor {
    /// Printable ASCII up to `len`.
    bytes: [u8; LINE_BYTES],
    len: usize,
    state: State,
    /// The line was complete: the next byte starts a new one.
    complete: bool,
    /// The last lines, oldest first.
    history: ArrayVec<ArrayVec<u8, LINE_BYTES>, HISTORY_LINES>,
    /// How many lines back the line was taken from; 0 is none.
    recalled: usize,
}

impl Default for LineEditor {
    fn default() -> Self {
        Self::new()
    }
}

impl LineEditor {
    /// An empty line.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            bytes: [0; LINE_BYTES],
            len: 0,
            state: State::Text,
            complete: false,
            history: ArrayVec::new_const(),
            recalled: 0,
        }
    }

    /// Takes one byte of input and echoes what the terminal shall show. An error of `echo` is
    /// ignored: the line counts, not its picture.
    pub fn input(&mut self, byte: u8, echo: &mut impl Write) -> Edit {
        if core::mem::take(&mut self.complete) {
            self.len = 0;
        }
        match (core::mem::replace(&mut self.state, State::Text), byte) {
            (State::Escape, b'[' | b'O') => {
                self.state = State::Sequence;
                return Edit::Editing;
            }
            (State::Sequence, 0x20..=0x3f) => {
                self.state = State::Sequence;
                return Edit::Editing;
            }
            (State::Sequence, ARROW_UP) => {
                self.recall((self.recalled + 1).min(self.history.len()), echo);
                return Edit::Editing;
            }
            (State::Sequence, ARROW_DOWN) => {
                self.recall(self.recalled.saturating_sub(1), echo);
                return Edit::Editing;
            }
            (State::Escape | State::Sequence, 0x20..=0x7e) | (State::AfterReturn, LINE_FEED) => {
                return Edit::Editing;
            }
            _ => {}
        }
        match byte {
            RETURN | LINE_FEED => {
                if byte == RETURN {
                    self.state = State::AfterReturn;
                }
                let _ = echo.write_str("\n");
                self.remember();
                self.complete = true;
                return Edit::Line;
            }
            INTERRUPT => {
                let _ = echo.write_str("^C\n");
                self.len = 0;
                self.recalled = 0;
                return Edit::Cancelled;
            }
            BACKSPACE | DELETE => self.rub_out(echo),
            KILL_LINE => {
                while self.len > 0 {
                    self.rub_out(echo);
                }
            }
            KILL_WORD => {
                while self.line().ends_with(' ') {
                    self.rub_out(echo);
                }
                while self.len > 0 && !self.line().ends_with(' ') {
                    self.rub_out(echo);
                }
            }
            ESC => self.state = State::Escape,
            b' '..=b'~' => match self.bytes.get_mut(self.len) {
                Some(end) => {
                    *end = byte;
                    self.len += 1;
                    let _ = echo.write_char(char::from(byte));
                }
                None => {
                    let _ = echo.write_str(BELL);
                }
            },
            _ => {}
        }
        Edit::Editing
    }

    /// Keeps the line for later, if it is not the same as the one before.
    fn remember(&mut self) {
        self.recalled = 0;
        let line = self.bytes.get(..self.len).unwrap_or_default();
        if line.is_empty() || self.history.last().is_some_and(|last| *last == *line) {
            return;
        }
        if self.history.is_full() {
            let _ = self.history.pop_at(0);
        }
        // It has room for any line, and there is a place for it.
        if let Ok(line) = ArrayVec::try_from(line) {
            let _ = self.history.try_push(line);
        }
    }

    /// Puts the line that was `back` lines ago into the place of this one, which is lost; 0 is an
    /// empty line.
    fn recall(&mut self, back: usize, echo: &mut impl Write) {
        if back == self.recalled {
            return;
        }
        while self.len > 0 {
            self.rub_out(echo);
        }
        self.recalled = back;
        let place = self.history.len().checked_sub(back);
        let Some(line) = place.and_then(|place| self.history.get(place)) else {
            return;
        };
        for (to, from) in self.bytes.iter_mut().zip(line) {
            *to = *from;
            let _ = echo.write_char(char::from(*from));
        }
        self.len = line.len();
    }

    fn rub_out(&mut self, echo: &mut impl Write) {
        if let Some(len) = self.len.checked_sub(1) {
            self.len = len;
            let _ = echo.write_str(RUBOUT);
        }
    }

    /// The line as far as it goes.
    #[must_use]
    pub fn line(&self) -> &str {
        // Only ASCII gets in, so the conversion always succeeds.
        self.bytes
            .get(..self.len)
            .and_then(|line| core::str::from_utf8(line).ok())
            .unwrap_or("")
    }

    /// Throws the line away. A line feed that belongs to the carriage return before is still
    /// recognised as such.
    pub fn clear(&mut self) {
        self.len = 0;
        self.recalled = 0;
        if self.state != State::AfterReturn {
            self.state = State::Text;
        }
        self.complete = false;
    }

    /// Shows the prompt and the line, for a cursor at the start of a line.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn redraw(&self, out: &mut impl Write) -> fmt::Result {
        let line = if self.complete { "" } else { self.line() };
        write!(out, "{PROMPT}{line}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtas::testing::config;
    use alloc::string::String;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    /// All lines, and the echo.
    fn type_in(bytes: &[u8]) -> (Vec<String>, String, LineEditor) {
        let (mut editor, mut lines, mut echo) = (LineEditor::new(), Vec::new(), String::new());
        for byte in bytes {
            match editor.input(*byte, &mut echo) {
                Edit::Line => lines.push(String::from(editor.line())),
                Edit::Cancelled => lines.push(String::from("^C")),
                Edit::Editing => {}
            }
        }
        (lines, echo, editor)
    }

    #[test]
    fn any_line_end_ends_one_line() {
        assert_eq!(
            type_in(b"a\rb\nc\r\nd\n\n\r\r").0,
            ["a", "b", "c", "d", "", "", ""]
        );
    }

    #[test]
    fn clearing_between_return_and_line_feed_makes_no_empty_line() {
        let (mut editor, mut echo) = (LineEditor::new(), String::new());
        let _ = editor.input(b'x', &mut echo);
        assert_eq!(editor.input(b'\r', &mut echo), Edit::Line);
        editor.clear();
        assert_eq!(editor.line(), "");
        assert_eq!(editor.input(b'\n', &mut echo), Edit::Editing);
        assert_eq!(editor.input(b'\n', &mut echo), Edit::Line);
    }

    #[test]
    fn corrections_are_made_and_shown() {
        let (lines, echo, _) = type_in(b"\x08lost\x7f\x08t\r");
        assert_eq!(lines, ["lot"]);
        assert_eq!(echo, "lost\x08 \x08\x08 \x08t\n");
        assert_eq!(type_in(b"console two\x15list\r").0, ["list"]);
        assert_eq!(type_in(b"console  two  \x17x\r").0, ["console  x"]);
        assert_eq!(type_in(b"\x17\x15\r").0, [""]);
    }

    #[test]
    fn interrupt_throws_the_line_away() {
        let (lines, echo, _) = type_in(b"destroy a\x03list\r");
        assert_eq!(lines, ["^C", "list"]);
        assert_eq!(echo, "destroy a^C\nlist\n");
    }

    #[test]
    fn arrow_and_function_keys_are_swallowed() {
        assert_eq!(type_in(b"l\x1b[Ai\x1b[1;5Cs\x1bOPt\x1bx\r").0, ["list"]);
        // An escape that ends in a control character does not hide it.
        assert_eq!(type_in(b"list\x1b\rlist\x1b[\r").0, ["list", "list"]);
    }

    #[test]
    fn arrows_bring_lines_back() {
        let (lines, echo, _) = type_in(b"list\rstats\rstats\r\r\x1b[A\x1b[A2\r\x1b[A\r");
        // The second `stats` and the empty line are not kept.
        assert_eq!(lines, ["list", "stats", "stats", "", "list2", "list2"]);
        let rubbed = "\x08 \x08".repeat(5);
        assert!(echo.ends_with(&alloc::format!("stats{rubbed}list2\nlist2\n")));
        // Beyond the first there is nothing; below the last an empty line.
        assert_eq!(
            type_in(b"a\rb\r\x1b[A\x1b[A\x1b[A\x1b[A\r").0,
            ["a", "b", "a"]
        );
        assert_eq!(type_in(b"a\rb\r\x1b[A\x1b[A\x1b[B\r").0, ["a", "b", "b"]);
        assert_eq!(type_in(b"a\rx\x1bOA\x1bOB\r").0, ["a", ""]);
        assert_eq!(
            type_in(b"x\x1b[A\x1b[B\r").0,
            ["x"],
            "nothing to bring back"
        );
        // ^C begins at the last line again.
        assert_eq!(
            type_in(b"a\rb\r\x1b[A\x1b[A\x03\x1b[A\r").0,
            ["a", "b", "^C", "b"]
        );
    }

    #[test]
    fn sixteen_lines_are_remembered() {
        let mut bytes = Vec::new();
        for number in 0..20 {
            bytes.extend(alloc::format!("{number}\r").into_bytes());
        }
        bytes.extend(b"\x1b[A".repeat(30));
        bytes.push(b'\r');
        assert_eq!(type_in(&bytes).0.last().unwrap(), "4");
        let longest = [&[b'x'; 128][..], b"\r\x1b[A\r"].concat();
        assert_eq!(type_in(&longest).0[1].len(), 128);
    }

    #[test]
    fn a_line_has_a_greatest_length() {
        let (lines, echo, _) = type_in(&[&[b'x'; 130][..], b"\r"].concat());
        assert_eq!(lines[0].len(), 128);
        assert!(echo.ends_with("x\x07\x07\n"));
    }

    #[test]
    fn bytes_that_are_not_text_are_ignored() {
        assert_eq!(type_in(b"l\0\x01i\xff\xc3\xa4st\t\r").0, ["list"]);
    }

    #[test]
    fn redraw_shows_what_was_typed_so_far() {
        let (_, _, editor) = type_in(b"lis");
        let mut out = String::new();
        editor.redraw(&mut out).unwrap();
        assert_eq!(out, "penstock> lis");
        let (_, _, editor) = type_in(b"list\r");
        let mut out = String::new();
        editor.redraw(&mut out).unwrap();
        assert_eq!(out, "penstock> ");
    }

    proptest! {
        #![proptest_config(config())]

        /// Any bytes: a line is short printable ASCII, and the echo, drawn on a terminal, shows
        /// exactly it.
        #[test]
        fn random_bytes_never_confuse_line_and_picture(bytes in proptest::collection::vec(
            prop_oneof![any::<u8>(), b' '..=b'~',
                Just(BACKSPACE), Just(RETURN), Just(ESC), Just(KILL_WORD), Just(b'['),
                Just(ARROW_UP), Just(ARROW_DOWN)], 0..400)) {
            let (mut editor, mut drawn) = (LineEditor::new(), String::new());
            for byte in bytes {
                let mut echo = String::new();
                let edit = editor.input(byte, &mut echo);
                for c in echo.chars() {
                    match c {
                        '\n' => drawn.clear(),
                        '\x07' => {}
                        '\x08' => { prop_assert!(drawn.pop().is_some()); }
                        _ => drawn.push(c),
                    }
                    prop_assert!(drawn.len() <= LINE_BYTES + 2);
                }
                // A rub-out is back, space, back: the model of the terminal overwrites.
                if edit == Edit::Editing {
                    prop_assert_eq!(&drawn, editor.line());
                }
                prop_assert!(editor.line().bytes().all(|b| (b' '..=b'~').contains(&b)));
            }
        }
    }
}
