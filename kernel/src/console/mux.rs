// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One serial line for all partitions, the monitor and the hypervisor's own messages.
//!
//! Input goes to the focus: one partition or the monitor. `^]` changes between the two; a second
//! `^]` right after the first goes back and hands one `^]` to the partition.
//!
//! Output of the partition in focus is taken from its ring whenever the line has room; the others
//! keep theirs, the last 16 KiB of it ([`OutputRing::drop_oldest`]). The hypervisor's own text goes first, through a ring of its own. A message begins
//! on a line of its own: it is marked in that ring, and the mark becomes a line end if, when it is
//! printed, the cursor is in the middle of a line.

use super::ring::{ConsoleSink, OutputRing};
use core::fmt::{self, Write};

/// The character that leaves a partition's console: `^]`, as in virsh and telnet.
pub const ESCAPE: u8 = 0x1d;
/// In the ring of own text: begin a new line unless the cursor is at the start of one.
const FRESH_LINE: u8 = 0;

/// A partition as the console knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuestId(pub u16);

/// Who has the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Focus {
    /// The monitor's prompt.
    Monitor,
    /// The console of a partition.
    Guest(GuestId),
}

/// What becomes of an input byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Routed {
    /// It is input for this partition.
    ToGuest(GuestId, u8),
    /// It is input for the monitor.
    ToMonitor(u8),
    /// The line now is the monitor's: show the prompt.
    EnteredMonitor,
    /// The line is this partition's again; `pass` is input for it.
    ReturnedToGuest {
        /// The partition.
        guest: GuestId,
        /// The `^]` typed twice.
        pass: Option<u8>,
    },
    /// There is no console to go back to.
    Ignored,
}

/// Owner of the line. Its user holds one lock around it.
#[derive(Debug)]
pub struct Multiplexer {
    focus: Focus,
    /// Where `^]` in the monitor leads.
    last: Option<GuestId>,
    /// The byte before was the `^]` that led to the monitor.
    just_escaped: bool,
    own: OutputRing,
    /// Own bytes that found no room, not yet told.
    lost: u64,
    /// A message came between the monitor's prompt and the user.
    disturbed: bool,
    at_line_start: bool,
}

impl Default for Multiplexer {
    fn default() -> Self {
        Self::new()
    }
}

impl Multiplexer {
    /// The monitor has the line. Allocates the ring of own text.
    #[must_use]
    pub fn new() -> Self {
        Self {
            focus: Focus::Monitor,
            last: None,
            just_escaped: false,
            own: OutputRing::new(),
            lost: 0,
            disturbed: false,
            at_line_start: true,
        }
    }

    /// Who has the line.
    #[must_use]
    pub fn focus(&self) -> Focus {
        self.focus
    }

    /// Gives the line to a partition.
    pub fn attach(&mut self, guest: GuestId) {
        self.focus = Focus::Guest(guest);
        self.last = Some(guest);
        self.just_escaped = false;
    }

    /// The partition to which `^]` in the monitor leads.
    #[must_use]
    pub fn last(&self) -> Option<GuestId> {
        self.last
    }

    /// Whether output of this partition must wait rather than be lost when its ring is full: it is
    /// on the line, or will be when the monitor is left.
    #[must_use]
    pub fn holds_back(&self, guest: GuestId) -> bool {
        match self.focus {
            Focus::Guest(focus) => focus == guest,
            Focus::Monitor => self.last == Some(guest),
        }
    }

    /// Gives the line to the monitor.
    pub fn detach(&mut self) {
        self.focus = Focus::Monitor;
        self.just_escaped = false;
    }

    /// The partition is gone: the monitor gets the line if the partition had it.
    pub fn forget(&mut self, guest: GuestId) {
        if self.last == Some(guest) {
            self.last = None;
        }
        if self.focus == Focus::Guest(guest) {
            self.detach();
        }
    }

    /// Decides where an input byte goes.
    pub fn route(&mut self, byte: u8) -> Routed {
        let just_escaped = core::mem::take(&mut self.just_escaped);
        match (self.focus, byte) {
            (Focus::Guest(_), ESCAPE) => {
                self.focus = Focus::Monitor;
                self.just_escaped = true;
                Routed::EnteredMonitor
            }
            (Focus::Guest(guest), _) => Routed::ToGuest(guest, byte),
            (Focus::Monitor, ESCAPE) => match self.last {
                Some(guest) => {
                    self.focus = Focus::Guest(guest);
                    Routed::ReturnedToGuest {
                        guest,
                        pass: just_escaped.then_some(ESCAPE),
                    }
                }
                None => Routed::Ignored,
            },
            (Focus::Monitor, _) => Routed::ToMonitor(byte),
        }
    }

    /// Where one message of the hypervisor is written, its line end included. It begins on a line
    /// of its own.
    pub fn record(&mut self) -> OwnText<'_> {
        if self.lost > 0 && self.own.len() < super::ring::OUTPUT_LIMIT / 2 {
            let lost = core::mem::take(&mut self.lost);
            self.put(&[FRESH_LINE]);
            // Writing to the ring cannot fail; what finds no room is counted.
            let _ = writeln!(self.text(), "penstock: {lost} bytes of messages lost here");
        }
        self.put(&[FRESH_LINE]);
        self.disturbed = self.focus == Focus::Monitor;
        self.text()
    }

    /// Where the monitor writes: echo, prompt, tables. `\n` becomes carriage return and line feed.
    pub fn text(&mut self) -> OwnText<'_> {
        OwnText { mux: self }
    }

    /// Whether a message was printed since the last call that may have cut the prompt off: show it
    /// again.
    pub fn take_disturbed(&mut self) -> bool {
        core::mem::take(&mut self.disturbed)
    }

    /// Whether own text waits to be printed.
    #[must_use]
    pub fn has_own_text(&self) -> bool {
        !self.own.is_empty()
    }

    /// How many bytes of own text find room now, a line end counted as two.
    #[must_use]
    pub fn own_room(&self) -> usize {
        super::ring::OUTPUT_LIMIT.saturating_sub(self.own.len())
    }

    fn put(&mut self, bytes: &[u8]) {
        let pushed = self.own.push_slice(bytes);
        self.lost = self
            .lost
            .saturating_add(bytes.len().abs_diff(pushed) as u64);
    }

    /// Moves bytes to the line: own text, then output of `guest` from its ring, if it is the one in
    /// focus. Never waits; what finds no room stays.
    pub fn pump(&mut self, guest: Option<(GuestId, &OutputRing)>, sink: &mut impl ConsoleSink) {
        match guest {
            Some((guest, ring)) if self.focus == Focus::Guest(guest) => self.show(ring, sink),
            _ => {
                self.pump_own(sink);
            }
        }
    }

    /// Moves bytes to the line: own text, then output from this ring, in focus or not.
    pub fn show(&mut self, ring: &OutputRing, sink: &mut impl ConsoleSink) {
        if self.pump_own(sink) {
            ring.drain(&mut Cursor {
                at_line_start: &mut self.at_line_start,
                sink,
            });
        }
    }

    /// Whether all own text that waited was printed.
    fn pump_own(&mut self, sink: &mut impl ConsoleSink) -> bool {
        let mut line = Cursor {
            at_line_start: &mut self.at_line_start,
            sink,
        };
        let mut chunk = [0; 256];
        // Each round consumes at least one byte or ends.
        loop {
            let len = self.own.peek(&mut chunk);
            let Some(bytes) = chunk.get(..len).filter(|bytes| !bytes.is_empty()) else {
                return true;
            };
            let run = bytes
                .iter()
                .position(|byte| *byte == FRESH_LINE)
                .unwrap_or(len);
            let consumed = match bytes.get(..run) {
                Some(text) if run > 0 => line.write(text).min(run),
                _ if *line.at_line_start || line.write(b"\r\n") == 2 => 1,
                _ => 0,
            };
            if consumed == 0 {
                return false;
            }
            self.own.consume(consumed);
        }
    }
}

/// The monitor's side of the line. Formatting into it never fails; text that finds no room is
/// counted and told later.
#[derive(Debug)]
pub struct OwnText<'a> {
    mux: &'a mut Multiplexer,
}

impl Write for OwnText<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut lines = text.as_bytes().split(|byte| *byte == b'\n');
        if let Some(first) = lines.next() {
            self.put_text(first);
        }
        for line in lines {
            self.mux.put(b"\r\n");
            self.put_text(line);
        }
        Ok(())
    }
}

impl OwnText<'_> {
    fn put_text(&mut self, text: &[u8]) {
        for part in text.split(|byte| *byte == FRESH_LINE) {
            self.mux.put(part);
        }
    }
}

/// A sink that knows whether the cursor is at the start of a line.
struct Cursor<'a, S> {
    at_line_start: &'a mut bool,
    sink: &'a mut S,
}

impl<S: ConsoleSink> ConsoleSink for Cursor<'_, S> {
    fn write(&mut self, bytes: &[u8]) -> usize {
        let taken = self.sink.write(bytes).min(bytes.len());
        if let Some(last) = bytes.get(..taken).and_then(<[u8]>::last) {
            *self.at_line_start = *last == b'\n';
        }
        taken
    }
}

#[cfg(test)]
mod tests;
