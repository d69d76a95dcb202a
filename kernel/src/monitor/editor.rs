// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A line of input with echo: printable ASCII, a terminal's keys, earlier lines, and Tab.
//!
//! | key | what it does |
//! |---|---|
//! | left, `^B`; right, `^F` | moves the cursor by a character |
//! | home, `^A`; end, `^E` | moves it to the start or the end of the line |
//! | up, `^P`; down, `^N` | brings the line before or after back |
//! | backspace; delete, `^D` | takes the character before or under the cursor away |
//! | `^U`; `^W`; `^K` | takes away what is before the cursor; the word before it; what is after it |
//! | Tab | completes the word before the cursor; a second one lists what it can become |
//! | `^C` | throws the line away |
//!
//! Other escape sequences are swallowed whole instead of showing up as letters. Carriage return, line
//! feed, or both as a pair, end a line. The cursor is moved by backspaces and by writing again what is
//! there, so any terminal shows the line, and a log of the console has its text.
//!
//! It is our own because of what the crates for this do (November 2026). None of them takes a byte,
//! says what to show, completes names that are not known before, and is safe with any input:
//! - `noline` 0.5.1 asks the terminal for its size at each line and takes what is typed for the answer;
//!   `ESC [ R` panics. It reads a whole line at a time, has no completion, and is under MPL-2.0.
//! - `embedded-cli` 0.2.1 completes the first word alone, from a list that is fixed at compile time.
//! - `ushell` 0.4.0 takes parts of function keys for text, and after a byte that is not ASCII it refuses
//!   every line. It offers one candidate.
//! - `editline` 0.0.24 has neither completion nor a greatest length of a line.
//! - `menu` 0.6.1 has no cursor, history or completion, or leaves the line to `noline`.
//! - `embassy-shell` 0.2.0 completes arguments, but is a loop of its own that runs the commands: it drops
//!   what is typed meanwhile, and cannot show the line again after a message.

mod history;
mod text;

use self::history::History;
use self::text::Text;
use super::completion::{Completion, write_candidates};
use core::fmt::{self, Write};

/// Shown before each line.
pub const PROMPT: &str = "penstock> ";
/// Longest line, in bytes.
pub const LINE_BYTES: usize = 128;

const ESC: u8 = 0x1b;
const LINE_FEED: u8 = b'\n';
const RETURN: u8 = b'\r';
const BELL: char = '\x07';
const BACKSPACE: char = '\x08';

/// The control character of a letter.
const fn control(letter: u8) -> u8 {
    letter & 0x1f
}

/// What a byte of input came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Edit {
    /// The line goes on.
    Editing,
    /// Tab: [`LineEditor::complete`] is to be called with what the line can become.
    Tab,
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
    Sequence {
        /// Its first number.
        number: u8,
        /// What comes is not of that number any more.
        numbered: bool,
    },
}

/// What a key does to the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Key {
    Left,
    Right,
    Home,
    End,
    Older,
    Newer,
    /// The character before the cursor.
    RubOut,
    /// The character under it.
    Delete,
    KillBefore,
    KillWord,
    KillAfter,
}

impl Key {
    /// The key of a control character.
    const fn of_control(byte: u8) -> Option<Self> {
        const LEFT: u8 = control(b'B');
        const RIGHT: u8 = control(b'F');
        const HOME: u8 = control(b'A');
        const END: u8 = control(b'E');
        const OLDER: u8 = control(b'P');
        const NEWER: u8 = control(b'N');
        const RUB_OUT: u8 = control(b'H');
        const RUB_OUT_TOO: u8 = 0x7f;
        const DELETE: u8 = control(b'D');
        const KILL_BEFORE: u8 = control(b'U');
        const KILL_WORD: u8 = control(b'W');
        const KILL_AFTER: u8 = control(b'K');
        Some(match byte {
            LEFT => Self::Left,
            RIGHT => Self::Right,
            HOME => Self::Home,
            END => Self::End,
            OLDER => Self::Older,
            NEWER => Self::Newer,
            RUB_OUT | RUB_OUT_TOO => Self::RubOut,
            DELETE => Self::Delete,
            KILL_BEFORE => Self::KillBefore,
            KILL_WORD => Self::KillWord,
            KILL_AFTER => Self::KillAfter,
            _ => return None,
        })
    }

    /// The key of a control sequence with this number that ends so.
    const fn of_sequence(number: u8, end: u8) -> Option<Self> {
        Some(match (end, number) {
            (b'A', _) => Self::Older,
            (b'B', _) => Self::Newer,
            (b'C', _) => Self::Right,
            (b'D', _) => Self::Left,
            (b'H', _) | (b'~', 1 | 7) => Self::Home,
            (b'F', _) | (b'~', 4 | 8) => Self::End,
            (b'~', 3) => Self::Delete,
            _ => return None,
        })
    }
}

/// One line under construction.
#[derive(Clone, Debug)]
pub struct LineEditor {
    text: Text,
    state: State,
    /// The line was complete: the next byte starts a new one.
    complete: bool,
    /// The byte before was a Tab after which the word was still not complete.
    tabbed: bool,
    /// This Tab is a second one.
    tabbed_again: bool,
    history: History,
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
            text: Text::new(),
            state: State::Text,
            complete: false,
            tabbed: false,
            tabbed_again: false,
            history: History::new(),
        }
    }

    /// Takes one byte of input and echoes what the terminal shall show. An error of `echo` is
    /// ignored: the line counts, not its picture.
    pub fn input(&mut self, byte: u8, echo: &mut impl Write) -> Edit {
        if core::mem::take(&mut self.complete) {
            self.text.clear();
        }
        self.tabbed_again = core::mem::take(&mut self.tabbed);
        match (core::mem::replace(&mut self.state, State::Text), byte) {
            (State::Escape, b'[' | b'O') => {
                self.state = State::Sequence {
                    number: 0,
                    numbered: false,
                };
                return Edit::Editing;
            }
            (State::Sequence { number, numbered }, 0x20..=0x3f) => {
                self.state = match byte {
                    b'0'..=b'9' if !numbered => State::Sequence {
                        number: number.saturating_mul(10).saturating_add(byte - b'0'),
                        numbered,
                    },
                    _ => State::Sequence {
                        number,
                        numbered: true,
                    },
                };
                return Edit::Editing;
            }
            (State::Sequence { number, .. }, 0x40..=0x7e) => {
                if let Some(key) = Key::of_sequence(number, byte) {
                    self.press(key, echo);
                }
                return Edit::Editing;
            }
            (State::Escape, 0x20..=0x7e) | (State::AfterReturn, LINE_FEED) => {
                return Edit::Editing;
            }
            _ => {}
        }
        const INTERRUPT: u8 = control(b'C');
        match byte {
            RETURN | LINE_FEED => {
                if byte == RETURN {
                    self.state = State::AfterReturn;
                }
                while self.text.go_right().is_some() {}
                let _ = echo.write_char('\n');
                self.history.remember(self.text.left());
                self.complete = true;
                return Edit::Line;
            }
            INTERRUPT => {
                let _ = echo.write_str("^C\n");
                self.text.clear();
                self.history.rewind();
                return Edit::Cancelled;
            }
            b'\t' => return Edit::Tab,
            ESC => self.state = State::Escape,
            b' '..=b'~' => self.insert(byte, echo),
            _ => {
                if let Some(key) = Key::of_control(byte) {
                    self.press(key, echo);
                }
            }
        }
        Edit::Editing
    }

    /// After [`Edit::Tab`]: takes over what is sure of the word before the cursor, or at a second Tab
    /// lists what it can become.
    pub fn complete(&mut self, completion: &Completion<'_>, echo: &mut impl Write) {
        for byte in completion.rest.bytes() {
            self.insert(byte, echo);
        }
        match completion.candidates.len() {
            0 => ring(echo),
            1 if self.text.right().next() != Some(' ') => self.insert(b' ', echo),
            1 => {}
            _ if completion.rest.is_empty() && self.tabbed_again => {
                let _ = echo.write_char('\n');
                let _ = write_candidates(echo, &completion.candidates);
                let _ = self.redraw(echo);
            }
            _ => {
                self.tabbed = true;
                ring(echo);
            }
        }
    }

    fn press(&mut self, key: Key, echo: &mut impl Write) {
        match key {
            Key::Left => {
                if self.text.go_left() {
                    let _ = echo.write_char(BACKSPACE);
                }
            }
            Key::Right => {
                if let Some(passed) = self.text.go_right() {
                    let _ = echo.write_char(passed);
                }
            }
            Key::Home => {
                while self.text.go_left() {
                    let _ = echo.write_char(BACKSPACE);
                }
            }
            Key::End => {
                while let Some(passed) = self.text.go_right() {
                    let _ = echo.write_char(passed);
                }
            }
            Key::Older => {
                if let Some(line) = self.history.older() {
                    self.replace(&line, echo);
                }
            }
            Key::Newer => {
                if let Some(line) = self.history.newer() {
                    self.replace(&line, echo);
                }
            }
            Key::RubOut => self.rub_out(1, echo),
            Key::KillBefore => self.rub_out(self.text.left().len(), echo),
            Key::KillWord => {
                let left = self.text.left();
                let rest = left.trim_end_matches(' ').trim_end_matches(|c| c != ' ');
                self.rub_out(left.len() - rest.len(), echo);
            }
            Key::Delete => self.delete(1, echo),
            Key::KillAfter => self.delete(self.text.right_len(), echo),
        }
    }

    /// Puts a printable character before the cursor.
    fn insert(&mut self, byte: u8, echo: &mut impl Write) {
        if self.text.insert(byte) {
            let _ = echo.write_char(char::from(byte));
            self.show_right(0, echo);
        } else {
            ring(echo);
        }
    }

    /// Takes up to so many characters before the cursor away.
    fn rub_out(&mut self, count: usize, echo: &mut impl Write) {
        let mut gone = 0;
        while gone < count && self.text.remove_left() {
            let _ = echo.write_char(BACKSPACE);
            gone += 1;
        }
        self.show_right(gone, echo);
    }

    /// Takes up to so many characters from the cursor on away.
    fn delete(&mut self, count: usize, echo: &mut impl Write) {
        let mut gone = 0;
        while gone < count && self.text.remove_right() {
            gone += 1;
        }
        self.show_right(gone, echo);
    }

    /// Puts another line into the place of this one, which is lost.
    fn replace(&mut self, line: &[u8], echo: &mut impl Write) {
        self.press(Key::End, echo);
        self.press(Key::KillBefore, echo);
        for byte in line {
            self.insert(*byte, echo);
        }
    }

    /// Writes what is right of the cursor, and blanks where more of it was before; the cursor stays
    /// where it is.
    fn show_right(&self, blanks: usize, echo: &mut impl Write) {
        for c in self.text.right().chain(core::iter::repeat_n(' ', blanks)) {
            let _ = echo.write_char(c);
        }
        for _ in 0..self.text.right_len() + blanks {
            let _ = echo.write_char(BACKSPACE);
        }
    }

    /// The line as far as the cursor. One that is complete has the cursor at its end.
    #[must_use]
    pub fn line(&self) -> &str {
        self.text.left()
    }

    /// Throws the line away. A line feed that belongs to the carriage return before is still
    /// recognised as such.
    pub fn clear(&mut self) {
        self.text.clear();
        self.history.rewind();
        if self.state != State::AfterReturn {
            self.state = State::Text;
        }
        self.complete = false;
        self.tabbed = false;
    }

    /// Shows the prompt and the line, for a cursor at the start of a line.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn redraw(&self, out: &mut impl Write) -> fmt::Result {
        out.write_str(PROMPT)?;
        if !self.complete {
            out.write_str(self.text.left())?;
            self.show_right(0, out);
        }
        Ok(())
    }
}

fn ring(echo: &mut impl Write) {
    let _ = echo.write_char(BELL);
}

#[cfg(test)]
mod tests;
