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
mod tests {
    use super::super::ring::testing::Line;
    use super::*;
    use crate::rtas::testing::config;
    use alloc::vec::Vec;
    use penstock_arch::fake::unless_miri;
    use proptest::prelude::*;

    const A: GuestId = GuestId(1);
    const B: GuestId = GuestId(2);

    fn pump(mux: &mut Multiplexer, guest: &OutputRing) -> Vec<u8> {
        let mut line = Line::with_room(usize::MAX);
        mux.pump(Some((A, guest)), &mut line);
        line.shown
    }

    #[test]
    fn escape_changes_between_console_and_monitor() {
        let mut mux = Multiplexer::new();
        assert_eq!(mux.route(ESCAPE), Routed::Ignored);
        mux.attach(A);
        assert_eq!(mux.route(b'x'), Routed::ToGuest(A, b'x'));
        assert_eq!(mux.route(ESCAPE), Routed::EnteredMonitor);
        assert_eq!(mux.route(b'l'), Routed::ToMonitor(b'l'));
        assert_eq!(
            mux.route(ESCAPE),
            Routed::ReturnedToGuest {
                guest: A,
                pass: None
            }
        );
        assert_eq!(mux.route(b'y'), Routed::ToGuest(A, b'y'));
    }

    #[test]
    fn escape_twice_passes_one() {
        let mut mux = Multiplexer::new();
        mux.attach(A);
        assert_eq!(mux.route(ESCAPE), Routed::EnteredMonitor);
        let returned = Routed::ReturnedToGuest {
            guest: A,
            pass: Some(ESCAPE),
        };
        assert_eq!(mux.route(ESCAPE), returned);
        assert_eq!(mux.focus(), Focus::Guest(A));
        // A third one starts anew.
        assert_eq!(mux.route(ESCAPE), Routed::EnteredMonitor);
    }

    #[test]
    fn a_console_chosen_by_command_is_what_escape_returns_to() {
        let mut mux = Multiplexer::new();
        mux.attach(A);
        let _ = mux.route(ESCAPE);
        mux.attach(B);
        let _ = mux.route(ESCAPE);
        let _ = mux.route(b'l');
        assert_eq!(
            mux.route(ESCAPE),
            Routed::ReturnedToGuest {
                guest: B,
                pass: None
            }
        );
    }

    #[test]
    fn a_partition_that_is_gone_leaves_the_line_to_the_monitor() {
        let mut mux = Multiplexer::new();
        mux.attach(A);
        mux.forget(B);
        assert_eq!(mux.focus(), Focus::Guest(A));
        mux.forget(A);
        assert_eq!(mux.focus(), Focus::Monitor);
        assert_eq!(mux.route(ESCAPE), Routed::Ignored);
    }

    #[test]
    fn guest_output_is_held_while_in_the_monitor() {
        let (mut mux, ring) = (Multiplexer::new(), OutputRing::new());
        mux.attach(A);
        ring.push_slice(b"before ");
        assert_eq!(pump(&mut mux, &ring), b"before ");
        let _ = mux.route(ESCAPE);
        ring.push_slice(b"during ");
        let _ = write!(mux.text(), "\npenstock> ");
        assert_eq!(pump(&mut mux, &ring), b"\r\npenstock> ");
        let _ = mux.route(b'l');
        let _ = mux.route(ESCAPE);
        ring.push_slice(b"after");
        assert_eq!(pump(&mut mux, &ring), b"during after");
    }

    #[test]
    fn only_the_partition_in_focus_reaches_the_line() {
        let (mut mux, a, b) = (Multiplexer::new(), OutputRing::new(), OutputRing::new());
        a.push_slice(b"from a");
        b.push_slice(b"from b");
        mux.attach(B);
        let mut line = Line::with_room(usize::MAX);
        mux.pump(Some((A, &a)), &mut line);
        assert_eq!(line.shown, b"");
        mux.pump(Some((B, &b)), &mut line);
        assert_eq!(line.shown, b"from b");
        mux.show(&a, &mut line);
        assert_eq!(line.shown, b"from bfrom a");
    }

    #[test]
    fn output_is_held_back_for_whom_the_line_comes_back_to() {
        let mut mux = Multiplexer::new();
        assert!(!mux.holds_back(A));
        mux.attach(A);
        assert!(mux.holds_back(A) && !mux.holds_back(B));
        let _ = mux.route(ESCAPE);
        assert!(mux.holds_back(A) && !mux.holds_back(B));
        mux.attach(B);
        assert!(!mux.holds_back(A) && mux.holds_back(B));
        assert_eq!(mux.last(), Some(B));
        mux.forget(B);
        assert!(!mux.holds_back(A) && !mux.holds_back(B));
    }

    #[test]
    fn messages_start_on_their_own_line_and_never_leave_an_empty_one() {
        let (mut mux, ring) = (Multiplexer::new(), OutputRing::new());
        mux.attach(A);
        writeln!(mux.record(), "one").unwrap();
        writeln!(mux.record(), "two\nlines").unwrap();
        assert_eq!(pump(&mut mux, &ring), b"one\r\ntwo\r\nlines\r\n");
        ring.push_slice(b"login: ");
        assert_eq!(pump(&mut mux, &ring), b"login: ");
        writeln!(mux.record(), "three").unwrap();
        ring.push_slice(b"root\r\n");
        assert_eq!(pump(&mut mux, &ring), b"\r\nthree\r\nroot\r\n");
        writeln!(mux.record(), "four").unwrap();
        assert_eq!(pump(&mut mux, &ring), b"four\r\n");
        assert!(!mux.take_disturbed());
    }

    #[test]
    fn a_message_in_the_monitor_asks_for_the_prompt_again() {
        let (mut mux, ring) = (Multiplexer::new(), OutputRing::new());
        let _ = write!(mux.text(), "penstock> lis");
        writeln!(mux.record(), "stopped").unwrap();
        assert!(mux.take_disturbed());
        assert!(!mux.take_disturbed());
        assert_eq!(pump(&mut mux, &ring), b"penstock> lis\r\nstopped\r\n");
    }

    #[test]
    fn zero_bytes_in_text_are_not_taken_for_marks() {
        let (mut mux, ring) = (Multiplexer::new(), OutputRing::new());
        let _ = write!(mux.text(), "a\0b");
        assert_eq!(pump(&mut mux, &ring), b"ab");
    }

    #[test]
    fn text_that_has_room_is_never_lost() {
        let (mut mux, ring) = (Multiplexer::new(), OutputRing::new());
        let mut written = 0;
        for round in 0..unless_miri(1000, 60) {
            while mux.own_room() >= 33 {
                writeln!(mux.text(), "a line of thirty-one characters").unwrap();
                written += 1;
            }
            let mut line = Line::with_room(round);
            mux.pump(Some((A, &ring)), &mut line);
            written -= line.shown.iter().filter(|byte| **byte == b'\n').count();
        }
        let rest = pump(&mut mux, &ring);
        assert_eq!(rest.iter().filter(|b| **b == b'\n').count(), written);
        assert_eq!(mux.lost, 0);
    }

    #[test]
    fn lost_messages_are_told_when_there_is_room_again() {
        let (mut mux, ring) = (Multiplexer::new(), OutputRing::new());
        for _ in 0..1000 {
            writeln!(mux.record(), "a message of thirty characters").unwrap();
        }
        let shown = pump(&mut mux, &ring);
        assert!(shown.len() <= super::super::ring::OUTPUT_BYTES);
        writeln!(mux.record(), "next").unwrap();
        let told = alloc::string::String::from_utf8(pump(&mut mux, &ring)).unwrap();
        let lost: usize = told
            .trim_start()
            .strip_prefix("penstock: ")
            .unwrap()
            .split(' ')
            .next()
            .unwrap()
            .parse()
            .unwrap();
        // 33 bytes each: mark, text, line end.
        let marks = shown.iter().filter(|b| **b == b'\n').count();
        assert!(
            told.ends_with(" bytes of messages lost here\r\nnext\r\n"),
            "{told}"
        );
        assert!(
            lost > 1000 * 32 - 0x4000 && lost < 33_000 - 32 * (marks - 1),
            "{lost}"
        );
    }

    proptest! {
        #![proptest_config(config())]

        /// However little the line takes at a time, the same bytes come out.
        #[test]
        fn a_slow_line_shows_the_same(rooms in proptest::collection::vec(3_usize..40, 60)) {
            let run = |rooms: &[usize]| {
                let (mut mux, ring) = (Multiplexer::new(), OutputRing::new());
                mux.attach(A);
                ring.push_slice(b"guest text without an end");
                writeln!(mux.record(), "first").unwrap();
                writeln!(mux.record(), "second").unwrap();
                let mut line = Line::default();
                for room in rooms {
                    line.room = *room;
                    mux.pump(Some((A, &ring)), &mut line);
                }
                line.shown
            };
            let all = run(&[usize::MAX]);
            prop_assert_eq!(&all, b"first\r\nsecond\r\nguest text without an end");
            prop_assert_eq!(run(&rooms), all);
        }

        #[test]
        fn random_input_always_has_a_place(bytes in proptest::collection::vec(
            prop_oneof![Just(ESCAPE), any::<u8>()], 0..200)) {
            let mut mux = Multiplexer::new();
            mux.attach(A);
            let mut passed = 0;
            for byte in &bytes {
                match mux.route(*byte) {
                    Routed::ToGuest(guest, b) => prop_assert!(guest == A && b == *byte && b != ESCAPE),
                    Routed::ToMonitor(b) => prop_assert!(b == *byte && b != ESCAPE),
                    Routed::ReturnedToGuest { pass, .. } => passed += usize::from(pass.is_some()),
                    Routed::EnteredMonitor => prop_assert_eq!(mux.focus(), Focus::Monitor),
                    Routed::Ignored => prop_assert!(false),
                }
            }
            prop_assert!(2 * passed <= bytes.iter().filter(|b| **b == ESCAPE).count());
        }
    }
}
