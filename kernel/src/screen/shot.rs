// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Taking a picture, a line at a time.
//!
//! A console is slow and its ring is small, so a picture can be written in as many steps as its
//! user likes; the guest may run between them. What it draws meanwhile may show in part, and is in
//! the next picture in any case: the window forgets what changed before the first row is read.
//! Memory is two rows and a set of rows, whatever the picture is.

use super::line::{Line, MAX_LINE_BYTES};
use super::rows::RowSet;
use super::runs::{self, Data};
use super::{ByteOrder, Geometry, Window};
use crate::console::Multiplexer;
use crate::console::ring::OUTPUT_LIMIT;
use alloc::boxed::Box;
use alloc::vec;
use arrayvec::ArrayString;
use core::fmt::{self, Write};

/// Longest name of a partition.
const MAX_NAME_BYTES: usize = 31;

/// Most rows that one line stands for, so that a step reads at most 1 MiB.
const MAX_ROWS_OF_LINE: u32 = 64;

/// What a picture shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// All rows.
    Full,
    /// The rows that changed since the picture before; all where there is none.
    Changed,
}

/// How far a picture has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Progress {
    /// More lines follow.
    More,
    /// That was the last line.
    Done(Totals),
}

/// What a picture came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Rows that it shows.
    pub rows: u32,
    /// Lines of pixels.
    pub lines: u32,
    /// Bytes of text, with two for the end of each line.
    pub bytes: u64,
}

/// A picture is under way already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Busy;

impl fmt::Display for Busy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a picture is under way")
    }
}

impl core::error::Error for Busy {}

/// The camera in front of a partition's framebuffer: what it has shown, and the picture under way.
#[derive(Debug)]
pub struct Screen {
    name: ArrayString<MAX_NAME_BYTES>,
    geometry: Geometry,
    order: ByteOrder,
    /// Number of the latest picture.
    number: u32,
    /// The reader has a picture that changes can build on.
    shown: bool,
    under_way: Option<Shot>,
    /// The rows that the picture under way shows.
    rows: RowSet,
    /// A row as it was read.
    row: Box<[u8]>,
    /// A later one, to be compared with it.
    later: Box<[u8]>,
}

#[derive(Clone, Copy, Debug)]
struct Shot {
    kind: Kind,
    stage: Stage,
    totals: Totals,
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    Header,
    /// Looking for the next row from here on.
    Search(u32),
    /// Showing rows that look the same, from this pixel on.
    Show(Span),
    End,
}

#[derive(Clone, Copy, Debug)]
struct Span {
    first: u32,
    count: u32,
    pixel: usize,
}

impl Screen {
    /// Nothing was shown yet. `name` is the partition's as the partition tree allows it: what is
    /// beyond 31 characters is left out, and others than letters, digits and `-` are shown as `-`.
    #[must_use]
    pub fn new(name: &str, geometry: Geometry, order: ByteOrder) -> Self {
        let valid = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
        let mut shown = ArrayString::new();
        for character in name.chars().map(valid).take(MAX_NAME_BYTES) {
            shown.push(character);
        }
        let row = || vec![0; geometry.row_bytes()].into_boxed_slice();
        Self {
            name: shown,
            geometry,
            order,
            number: 0,
            shown: false,
            under_way: None,
            rows: RowSet::new(),
            row: row(),
            later: row(),
        }
    }

    /// The name that pictures carry.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Begins a picture; its lines come from [`Screen::step`].
    ///
    /// # Errors
    /// The one before is not finished.
    pub fn begin(&mut self, window: &mut dyn Window, kind: Kind) -> Result<(), Busy> {
        if self.under_way.is_some() {
            return Err(Busy);
        }
        let kind = if self.shown { kind } else { Kind::Full };
        let (rows, geometry) = (&mut self.rows, self.geometry);
        rows.clear();
        window.take_changed(&mut |first, bytes| {
            if kind == Kind::Changed {
                rows.insert_bytes(geometry, first, bytes);
            }
        });
        if kind == Kind::Full {
            rows.insert_all(geometry);
        }
        self.number = self.number.wrapping_add(1);
        self.under_way = Some(Shot {
            kind,
            stage: Stage::Header,
            totals: Totals {
                rows: rows.len(),
                ..Totals::default()
            },
        });
        Ok(())
    }

    /// Whether a picture is under way.
    #[must_use]
    pub fn is_under_way(&self) -> bool {
        self.under_way.is_some()
    }

    /// Gives the picture under way up. The next one shows all rows.
    pub fn abandon(&mut self) {
        if self.under_way.take().is_some() {
            self.shown = false;
        }
    }

    /// Writes the next line, in one piece and with its end. Without a picture under way, nothing.
    ///
    /// # Errors
    /// `out` did not take the line; the next step writes it again.
    pub fn step(
        &mut self,
        window: &dyn Window,
        out: &mut dyn Write,
    ) -> Result<Progress, fmt::Error> {
        let Some(mut shot) = self.under_way else {
            return Ok(Progress::Done(Totals::default()));
        };
        if let Stage::Search(from) = shot.stage {
            shot.stage = match self.rows.next(from) {
                Some(first) => Stage::Show(self.look(window, first)),
                None => Stage::End,
            };
            // Kept now, so that a line that is written again is the same.
            self.under_way = Some(shot);
        }
        shot.stage = match shot.stage {
            Stage::Header => {
                shot.totals.bytes += self.write_header(&shot, out)?;
                Stage::Search(0)
            }
            Stage::Search(_) | Stage::End => {
                shot.totals.bytes += self.write_end(&shot, out)?;
                self.under_way = None;
                self.shown = true;
                return Ok(Progress::Done(shot.totals));
            }
            Stage::Show(mut span) => {
                let bytes = self.write_pixels(&mut span, out)?;
                shot.totals.bytes += bytes;
                shot.totals.lines += 1;
                if span.pixel < self.geometry.width() as usize {
                    Stage::Show(span)
                } else {
                    Stage::Search(span.first + span.count)
                }
            }
        };
        self.under_way = Some(shot);
        Ok(Progress::More)
    }

    /// Reads a row, and counts those behind it that look the same and are to be shown too.
    fn look(&mut self, window: &dyn Window, first: u32) -> Span {
        let offset = |row: u32| u64::from(row) * u64::from(self.geometry.stride());
        window.read(offset(first), &mut self.row);
        let mut count = 1;
        while count < MAX_ROWS_OF_LINE && self.rows.contains(first + count) {
            window.read(offset(first + count), &mut self.later);
            if self.later != self.row {
                break;
            }
            count += 1;
        }
        Span {
            first,
            count,
            pixel: 0,
        }
    }

    fn write_header(&self, shot: &Shot, out: &mut dyn Write) -> Result<u64, fmt::Error> {
        let (name, number, geometry) = (&self.name, self.number, self.geometry);
        let stride = geometry.stride();
        let order = match self.order {
            ByteOrder::Little => "little",
            ByteOrder::Big => "big",
        };
        let kind = match shot.kind {
            Kind::Full => "full",
            Kind::Changed => "changed",
        };
        let rows = shot.totals.rows;
        let line = Line::default().text(format_args!(
            "@screenshot 1 {name} {number} {geometry} {stride} {order} {kind} {rows}"
        ))?;
        Ok(line.finish(out)? as u64)
    }

    fn write_pixels(&self, span: &mut Span, out: &mut dyn Write) -> Result<u64, fmt::Error> {
        let mut data = Data::new();
        let pixels = runs::encode(
            &self.row,
            self.geometry.pixel_bytes(),
            span.pixel,
            &mut data,
        );
        let Span {
            first,
            count,
            pixel,
        } = *span;
        let line = Line::default().text(format_args!("@s {first}+{count} {pixel} "))?;
        let bytes = line.base64(&data)?.finish(out)?;
        // A line has at least one pixel, so that a row ends whatever is in it.
        span.pixel += pixels.max(1);
        Ok(bytes as u64)
    }

    fn write_end(&self, shot: &Shot, out: &mut dyn Write) -> Result<u64, fmt::Error> {
        let (name, number, lines) = (&self.name, self.number, shot.totals.lines);
        let line = Line::default().text(format_args!("@screenshot-end {name} {number} {lines}"))?;
        Ok(line.finish(out)? as u64)
    }
}

/// Why [`screenshot`] wrote no whole picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScreenshotError {
    /// A picture is under way already.
    Busy(Busy),
    /// The console did not take all of it; the next picture shows all rows.
    Console(fmt::Error),
}

impl fmt::Display for ScreenshotError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Busy(busy) => busy.fmt(f),
            Self::Console(_) => f.write_str("the console did not take the picture"),
        }
    }
}

impl core::error::Error for ScreenshotError {}

/// Writes a whole picture at once, for an `out` that takes any number of lines.
///
/// # Errors
/// Another one is under way, or `out` does not take a line.
pub fn screenshot(
    screen: &mut Screen,
    window: &mut dyn Window,
    kind: Kind,
    out: &mut dyn Write,
) -> Result<Totals, ScreenshotError> {
    screen.begin(window, kind).map_err(ScreenshotError::Busy)?;
    loop {
        match screen.step(window, out) {
            Ok(Progress::More) => {}
            Ok(Progress::Done(totals)) => return Ok(totals),
            Err(error) => {
                screen.abandon();
                return Err(ScreenshotError::Console(error));
            }
        }
    }
}

/// [`feed`] leaves half of the ring to messages; its line needs room for two bytes at its end.
const FEED_ROOM: usize = OUTPUT_LIMIT / 2 + MAX_LINE_BYTES + 2;

/// Writes as much of the picture under way as the console has room for, and never waits. To be
/// called whenever the console has been served, until it is done.
pub fn feed(screen: &mut Screen, window: &dyn Window, console: &mut Multiplexer) -> Progress {
    while console.own_room() >= FEED_ROOM {
        match screen.step(window, &mut console.text()) {
            Ok(Progress::More) => {}
            Ok(done) => return done,
            // The text of the console takes everything.
            Err(_) => break,
        }
    }
    Progress::More
}
