// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Pictures of a window in memory, read back as a script on the host would.

use super::crc::crc32;
use super::runs::testing::decode;
use super::*;
use crate::console::{ConsoleSink, Multiplexer};
use crate::rtas::testing::config;
use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt::{self, Write};
use penstock_arch::fake::unless_miri;
use proptest::prelude::*;

const PAGE: usize = 4096;

/// Memory that notes its pages when they are written.
struct Memory {
    bytes: Vec<u8>,
    changed: BTreeSet<usize>,
}

impl Memory {
    fn new(geometry: Geometry) -> Self {
        Self {
            bytes: vec![0; usize::try_from(geometry.slot_bytes()).unwrap()],
            changed: BTreeSet::new(),
        }
    }

    fn write(&mut self, offset: usize, bytes: &[u8]) {
        self.bytes[offset..offset + bytes.len()].copy_from_slice(bytes);
        self.changed
            .extend(offset / PAGE..=(offset + bytes.len() - 1) / PAGE);
    }
}

impl Window for Memory {
    fn read(&self, offset: u64, to: &mut [u8]) {
        let offset = usize::try_from(offset).unwrap();
        to.copy_from_slice(&self.bytes[offset..offset + to.len()]);
    }

    fn take_changed(&mut self, each: &mut dyn FnMut(u64, u64)) {
        // The order does not matter.
        for page in core::mem::take(&mut self.changed).into_iter().rev() {
            each((page * PAGE) as u64, PAGE as u64);
        }
    }
}

fn geometry(width: u32, height: u32, depth: u32) -> Geometry {
    Geometry::new(width, height, depth).unwrap()
}

/// A reader of the text: the picture so far.
struct Reader {
    geometry: Geometry,
    rows: Vec<Vec<u8>>,
}

impl Reader {
    fn new(geometry: Geometry) -> Self {
        Self {
            geometry,
            rows: vec![vec![0xee; geometry.row_bytes()]; geometry.height() as usize],
        }
    }

    /// Applies one picture, all of `text`; the header and the rows that it showed.
    fn apply(&mut self, text: &str) -> (String, Vec<u32>) {
        assert!(text.is_ascii() && text.ends_with('\n'));
        let bytes = self.geometry.pixel_bytes();
        let mut lines = text.lines().map(|line| {
            assert!(line.len() <= MAX_LINE_BYTES, "{line}");
            let (body, sum) = line.rsplit_once(' ').unwrap();
            assert_eq!(sum, alloc::format!("{:08x}", crc32(body.as_bytes())));
            body
        });
        let header = lines.next().unwrap();
        let mut shown = Vec::new();
        let mut count = 0_usize;
        let mut at = 0;
        for line in lines {
            let words: Vec<&str> = line.split(' ').collect();
            if words[0] == "@screenshot-end" {
                assert_eq!(words[3].parse(), Ok(count));
                assert_eq!(at, 0, "a row is cut off");
                continue;
            }
            count += 1;
            let ["@s", rows, pixel, data] = words[..] else {
                panic!("{line}")
            };
            assert_eq!(pixel.parse(), Ok(at));
            let (first, rows) = rows.split_once('+').unwrap();
            let (first, rows): (u32, u32) = (first.parse().unwrap(), rows.parse().unwrap());
            let pixels = decode(&unbase64(data), bytes);
            assert!(!pixels.is_empty());
            for row in first..first + rows {
                let place = &mut self.rows[row as usize][at * bytes..][..pixels.len()];
                place.copy_from_slice(&pixels);
                if at == 0 {
                    shown.push(row);
                }
            }
            at = (at + pixels.len() / bytes) % self.geometry.width() as usize;
        }
        assert!(shown.is_sorted_by(|a, b| a < b));
        (String::from(header), shown)
    }

    fn shows(&self, memory: &Memory) -> bool {
        self.rows
            .iter()
            .zip(memory.bytes.chunks(self.geometry.stride() as usize))
            .all(|(shown, row)| shown[..] == row[..self.geometry.row_bytes()])
    }
}

fn unbase64(text: &str) -> Vec<u8> {
    let digit = |c: u8| match c {
        b'A'..=b'Z' => u32::from(c - b'A'),
        b'a'..=b'z' => u32::from(c - b'a') + 26,
        b'0'..=b'9' => u32::from(c - b'0') + 52,
        b'+' => 62,
        b'/' => 63,
        _ => 0,
    };
    let mut bytes = Vec::new();
    for four in text.as_bytes().chunks(4) {
        let value = four.iter().fold(0, |sum, c| sum << 6 | digit(*c));
        let pads = four.iter().filter(|c| **c == b'=').count();
        bytes.extend_from_slice(&value.to_be_bytes()[1..4 - pads]);
    }
    bytes
}

fn taken(screen: &mut Screen, memory: &mut Memory, kind: Kind) -> (String, Totals) {
    let mut text = String::new();
    let totals = screenshot(screen, memory, kind, &mut text).unwrap();
    assert_eq!(totals.lines as usize + 2, text.lines().count());
    assert_eq!(totals.bytes, (text.len() + text.lines().count()) as u64);
    (text, totals)
}

#[test]
fn the_text_of_two_pictures() {
    let geometry = geometry(64, 64, 32);
    let mut memory = Memory::new(geometry);
    let mut screen = Screen::new("debian", geometry, ByteOrder::Little);
    // A white line of ten pixels from (3, 20).
    memory.write(20 * 256 + 3 * 4, &[0xff; 40]);
    let (text, totals) = taken(&mut screen, &mut memory, Kind::Changed);
    assert_eq!(
        text,
        "@screenshot 1 debian 1 64x64x32 256 little full 64 243260d1\n\
         @s 0+20 0 /QEAAAAA 8955fd5d\n\
         @s 20+1 0 CQAAAAAl/////8oB eecb46e7\n\
         @s 21+43 0 /QEAAAAA f6a74428\n\
         @screenshot-end debian 1 3 0f99a5a0\n"
    );
    assert_eq!((totals.rows, totals.lines), (64, 3));
    // Nothing changed.
    let (text, _) = taken(&mut screen, &mut memory, Kind::Changed);
    assert_eq!(
        text,
        "@screenshot 1 debian 2 64x64x32 256 little changed 0 eadc256d\n\
         @screenshot-end debian 2 0 94d64a43\n"
    );
}

#[test]
fn only_rows_of_changed_pages_are_shown_again() {
    let geometry = geometry(640, 480, 32);
    let mut memory = Memory::new(geometry);
    let mut reader = Reader::new(geometry);
    let mut screen = Screen::new("debian", geometry, ByteOrder::Big);
    memory.write(100, &[0x55; 5000]);
    let (text, _) = taken(&mut screen, &mut memory, Kind::Changed);
    let (header, rows) = reader.apply(&text);
    assert_eq!(
        header,
        "@screenshot 1 debian 1 640x480x32 2560 big full 480"
    );
    assert!(rows.into_iter().eq(0..480));
    assert!(reader.shows(&memory));
    // One byte in the third page: rows 3 and 4 have bytes in it.
    memory.write(2 * PAGE + 17, &[1]);
    let (text, totals) = taken(&mut screen, &mut memory, Kind::Changed);
    let (header, rows) = reader.apply(&text);
    assert_eq!(
        header,
        "@screenshot 1 debian 2 640x480x32 2560 big changed 2"
    );
    assert_eq!((rows, totals.rows), (vec![3, 4], 2));
    assert!(reader.shows(&memory));
    // On demand, all of them again.
    let (text, _) = taken(&mut screen, &mut memory, Kind::Full);
    assert!(Reader::new(geometry).apply(&text).1.into_iter().eq(0..480));
    // What lies behind the last row is no row's.
    memory.write(0x12_f000, &[1; PAGE]);
    let (text, _) = taken(&mut screen, &mut memory, Kind::Changed);
    assert_eq!(reader.apply(&text).1, []);
}

#[test]
fn what_is_drawn_while_a_picture_is_written_is_in_the_next_one() {
    let geometry = geometry(640, 480, 32);
    let mut memory = Memory::new(geometry);
    let mut reader = Reader::new(geometry);
    let mut screen = Screen::new("debian", geometry, ByteOrder::Little);
    screen.begin(&mut memory, Kind::Full).unwrap();
    assert!(screen.is_under_way());
    assert_eq!(screen.begin(&mut memory, Kind::Full), Err(Busy));
    let mut text = String::new();
    let mut step = 0;
    while screen.step(&memory, &mut text) == Ok(Progress::More) {
        // Behind the rows that were read and before them.
        memory.write(step % 480 * 2560, &[7; 9]);
        memory.write((479 - step % 480) * 2560, &[9; 9]);
        step += 1;
    }
    assert!(!screen.is_under_way());
    reader.apply(&text);
    assert!(!reader.shows(&memory), "some of it is in");
    let (text, _) = taken(&mut screen, &mut memory, Kind::Changed);
    reader.apply(&text);
    assert!(reader.shows(&memory));
}

/// Takes so many lines, then none.
struct Narrow(usize, String);

impl Write for Narrow {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.1.push_str(text);
        let line = text.ends_with('\n');
        self.0 = self.0.checked_sub(usize::from(line)).ok_or(fmt::Error)?;
        Ok(())
    }
}

#[test]
fn a_line_that_was_not_taken_comes_again() {
    let geometry = geometry(128, 96, 16);
    let mut memory = Memory::new(geometry);
    for row in 0..96_u8 {
        memory.write(usize::from(row) * 256, &[row; 19]);
    }
    let whole = taken(
        &mut Screen::new("a", geometry, ByteOrder::Big),
        &mut memory,
        Kind::Full,
    );
    let mut screen = Screen::new("a", geometry, ByteOrder::Big);
    screen.begin(&mut memory, Kind::Full).unwrap();
    let mut text = String::new();
    let totals = loop {
        assert_eq!(
            screen.step(&memory, &mut Narrow(0, String::new())),
            Err(fmt::Error)
        );
        if let Progress::Done(totals) = screen.step(&memory, &mut text).unwrap() {
            break totals;
        }
    };
    assert_eq!((text, totals), whole);
}

/// Takes a little at a time.
struct SlowLine(usize, Vec<u8>);

impl ConsoleSink for SlowLine {
    fn write(&mut self, bytes: &[u8]) -> usize {
        let taken = bytes.len().min(core::mem::take(&mut self.0));
        self.1.extend_from_slice(&bytes[..taken]);
        taken
    }
}

#[test]
fn a_slow_console_gets_every_line_whole() {
    let geometry = geometry(640, 480, 16);
    let mut memory = Memory::new(geometry);
    let noise: Vec<u8> = (0..geometry.bytes())
        .map(|at| (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33).to_be_bytes()[7])
        .collect();
    memory.write(0, &noise);
    let mut screen = Screen::new("a", geometry, ByteOrder::Little);
    let (whole, totals) = taken(&mut screen, &mut memory, Kind::Full);
    let mut screen = Screen::new("a", geometry, ByteOrder::Little);
    screen.begin(&mut memory, Kind::Full).unwrap();
    let mut console = Multiplexer::new();
    let mut line = SlowLine(0, Vec::new());
    let mut rounds = 0;
    loop {
        let progress = feed(&mut screen, &memory, &mut console);
        if rounds % 100 == 0 {
            writeln!(console.record(), "a message").unwrap();
        }
        line.0 = 1000;
        console.pump(None, &mut line);
        rounds += 1;
        if let Progress::Done(done) = progress {
            assert_eq!(done, totals);
            break;
        }
    }
    while console.has_own_text() {
        line.0 = 1000;
        console.pump(None, &mut line);
    }
    assert!(rounds > 500, "{rounds}");
    let text = String::from_utf8(line.1).unwrap();
    let shown: String = text
        .replace("\r\n", "\n")
        .split_inclusive('\n')
        .filter(|line| *line != "a message\n")
        .collect();
    for (shown, line) in shown.lines().zip(whole.lines()) {
        assert_eq!(shown, line);
    }
    assert_eq!(shown.len(), whole.len());
}

#[test]
fn a_picture_that_was_given_up_is_followed_by_a_whole_one() {
    let geometry = geometry(64, 64, 8);
    let mut memory = Memory::new(geometry);
    let mut screen = Screen::new("a", geometry, ByteOrder::Little);
    let _ = taken(&mut screen, &mut memory, Kind::Full);
    memory.write(3, &[4]);
    let error = screenshot(
        &mut screen,
        &mut memory,
        Kind::Changed,
        &mut Narrow(1, String::new()),
    );
    assert_eq!(error, Err(ScreenshotError::Console(fmt::Error)));
    assert!(!screen.is_under_way());
    let (text, _) = taken(&mut screen, &mut memory, Kind::Changed);
    assert!(
        text.starts_with("@screenshot 1 a 3 64x64x8 64 little full 64 "),
        "{text}"
    );
    let mut reader = Reader::new(geometry);
    reader.apply(&text);
    assert!(reader.shows(&memory));
    // Giving up nothing changes nothing.
    screen.abandon();
    let (text, _) = taken(&mut screen, &mut memory, Kind::Changed);
    assert!(text.contains(" changed 0 "), "{text}");
}

#[test]
fn the_longest_header_fits_its_line() {
    let geometry = geometry(4096, 4096, 32);
    let mut screen = Screen::new(&"n".repeat(40), geometry, ByteOrder::Little);
    screen.begin(&mut NoChange, Kind::Full).unwrap();
    screen.abandon();
    let mut text = String::new();
    for _ in 0..3 {
        screen.begin(&mut NoChange, Kind::Full).unwrap();
        let _ = screen.step(&NoChange, &mut text).unwrap();
        screen.abandon();
    }
    let name = "n".repeat(31);
    assert!(text.starts_with(&alloc::format!(
        "@screenshot 1 {name} 2 4096x4096x32 16384 little full 4096 "
    )));
    // Ten digits instead of one.
    assert!(text.lines().all(|line| line.len() + 9 <= MAX_LINE_BYTES));
    assert_eq!(
        Screen::new("a b@s\n", geometry, ByteOrder::Little).name(),
        "a-b-s-"
    );
}

/// A window that is black for ever.
struct NoChange;

impl Window for NoChange {
    fn read(&self, _: u64, to: &mut [u8]) {
        to.fill(0);
    }

    fn take_changed(&mut self, _: &mut dyn FnMut(u64, u64)) {}
}

#[test]
fn a_black_picture_is_small_whatever_its_size() {
    let geometry = geometry(4096, 4096, 32);
    let mut screen = Screen::new("a", geometry, ByteOrder::Little);
    let mut text = String::new();
    let totals = screenshot(&mut screen, &mut NoChange, Kind::Full, &mut text).unwrap();
    assert_eq!(totals.lines, 64);
    assert!(totals.bytes < 3000, "{}", totals.bytes);
}

proptest! {
    #![proptest_config(config())]

    /// Any drawing in any geometry, a picture after each: the reader sees what the memory holds,
    /// and no text is longer than the bound.
    #[test]
    fn the_reader_sees_what_was_drawn(
        width in 64..unless_miri(200_u32, 80),
        height in 64..unless_miri(100_u32, 70),
        depth in prop::sample::select(&[8_u32, 16, 32][..]),
        pictures in prop::collection::vec(
            prop::collection::vec(
                (any::<prop::sample::Index>(), 1_usize..3000, any::<u64>(), 0_u32..3), 0..6),
            1..unless_miri(5, 3)),
    ) {
        let geometry = geometry(width, height, depth);
        let mut memory = Memory::new(geometry);
        let mut reader = Reader::new(geometry);
        let mut screen = Screen::new("a", geometry, ByteOrder::Little);
        for (number, drawings) in (1..).zip(pictures) {
            for (place, bytes, seed, kind) in drawings {
                let place = place.index(memory.bytes.len() - bytes);
                let drawn: Vec<u8> = (0..bytes as u64)
                    .map(|at| match kind {
                        // One colour, two, and noise.
                        0 => seed,
                        1 => seed >> (at / 12 % 2),
                        _ => seed.wrapping_mul(at | 1) >> 13,
                    })
                    .map(|value| value.to_be_bytes()[7])
                    .collect();
                memory.write(place, &drawn);
            }
            let (text, totals) = taken(&mut screen, &mut memory, Kind::Changed);
            prop_assert!(totals.bytes <= worst_case_bytes(geometry));
            let (header, rows) = reader.apply(&text);
            let kind = if number == 1 { "full" } else { "changed" };
            let stride = geometry.stride();
            prop_assert_eq!(
                header,
                alloc::format!(
                    "@screenshot 1 a {number} {geometry} {stride} little {kind} {}",
                    rows.len()
                )
            );
            prop_assert_eq!(rows.len(), totals.rows as usize);
            prop_assert!(reader.shows(&memory));
        }
    }
}
