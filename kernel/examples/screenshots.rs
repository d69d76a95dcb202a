// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Writes pictures of three framebuffers as the hypervisor's console would show them, for
//! `kernel/tests/screenshot.py`, which knows what they have to look like.
//!
//! `screenshots WIDTH HEIGHT` writes five pictures: two of a partition `wide` of 32 bits, one of
//! `half` of 16 bits and one of `byte` of 8 bits, and again one of `wide`. Between them is what
//! else a console shows.

use penstock_kernel::screen::{ByteOrder, Geometry, Kind, Screen, Window, screenshot};
use std::collections::BTreeSet;
use std::process::ExitCode;

const PAGE: usize = 4096;

struct Memory {
    geometry: Geometry,
    order: ByteOrder,
    bytes: Vec<u8>,
    changed: BTreeSet<usize>,
}

impl Memory {
    fn new(geometry: Geometry, order: ByteOrder) -> Self {
        let bytes = usize::try_from(geometry.slot_bytes()).unwrap_or(0);
        Self {
            geometry,
            order,
            bytes: vec![0; bytes],
            changed: BTreeSet::new(),
        }
    }

    fn draw(&mut self, rows: std::ops::Range<u32>, pixel: impl Fn(u32, u32) -> u32) {
        let size = self.geometry.pixel_bytes();
        for y in rows {
            for x in 0..self.geometry.width() {
                let value = pixel(x, y);
                let bytes = match self.order {
                    ByteOrder::Little => value.to_le_bytes()[..size].to_vec(),
                    ByteOrder::Big => value.to_be_bytes()[4 - size..].to_vec(),
                };
                let at = (y * self.geometry.stride()) as usize + x as usize * size;
                self.bytes[at..at + size].copy_from_slice(&bytes);
                self.changed.insert(at / PAGE);
            }
        }
    }
}

impl Window for Memory {
    fn read(&self, offset: u64, to: &mut [u8]) {
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        to.copy_from_slice(&self.bytes[offset..offset + to.len()]);
    }

    fn take_changed(&mut self, each: &mut dyn FnMut(u64, u64)) {
        for page in std::mem::take(&mut self.changed) {
            each((page * PAGE) as u64, PAGE as u64);
        }
    }
}

/// Stripes, flat areas, and a corner of noise.
fn test_picture(x: u32, y: u32) -> u32 {
    match (x / 16 + y / 16) % 4 {
        0 => 0,
        1 => 0x00ff_8000,
        2 => (x ^ y).wrapping_mul(0x0101_0101),
        _ => (x * 7 + y * 13).wrapping_mul(0x9e37_79b9),
    }
}

fn show(screen: &mut Screen, memory: &mut Memory) {
    let mut text = String::new();
    match screenshot(screen, memory, Kind::Changed, &mut text) {
        Ok(_) => print!("{}", text.replace('\n', "\r\n")),
        Err(error) => print!("error: {error}\r\n"),
    }
}

fn main() -> ExitCode {
    let sides: Vec<u32> = std::env::args()
        .skip(1)
        .filter_map(|text| text.parse().ok())
        .collect();
    let [width, height] = sides[..] else {
        eprintln!("usage: screenshots WIDTH HEIGHT");
        return ExitCode::from(2);
    };
    let mut made = Vec::new();
    for (name, depth, order) in [
        ("wide", 32, ByteOrder::Little),
        ("half", 16, ByteOrder::Big),
        ("byte", 8, ByteOrder::Little),
    ] {
        let geometry = match Geometry::new(width, height, depth) {
            Ok(geometry) => geometry,
            Err(error) => {
                eprintln!("screenshots: {error}");
                return ExitCode::from(2);
            }
        };
        let screen = Screen::new(name, geometry, order);
        made.push((screen, Memory::new(geometry, order)));
    }
    print!("[    0.000000] mail root@s 1 to root@screenshot 1\r\npenstock> screenshot wide\r\n");
    let (screen, memory) = &mut made[0];
    memory.draw(0..height, test_picture);
    show(screen, memory);
    memory.draw(height / 2..height / 2 + 3, |x, y| {
        test_picture(x, y) ^ 0xff_00ff
    });
    show(screen, memory);
    print!("penstock> \r\nkernel: wide: no memory at guest address 0x1000\r\n");
    for (screen, memory) in &mut made[1..] {
        memory.draw(0..height, test_picture);
        show(screen, memory);
    }
    let (screen, memory) = &mut made[0];
    memory.draw(height - 1..height, |_, _| 0x0012_3456);
    show(screen, memory);
    ExitCode::SUCCESS
}
