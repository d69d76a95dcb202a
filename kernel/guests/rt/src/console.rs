// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The console: H_PUT_TERM_CHAR on the partition's first virtual terminal.
//!
//! Up to 16 characters in two registers, the first in the most significant byte; H_BUSY means again
//! (LoPAR, H_PUT_TERM_CHAR).

use crate::cpu;
use crate::fdt::Fdt;
use crate::hcall;
use crate::number::{hcall::PUT_TERM_CHAR, status};
use core::fmt::Write;
use core::sync::atomic::{AtomicU64, Ordering};

static TERMINAL: AtomicU64 = AtomicU64::new(0);

/// How long a busy terminal is asked again, in ticks: four seconds.
const PATIENCE: u64 = 4 * 512_000_000;

/// Takes the terminal's number from the tree; terminal 0 serves until then.
pub fn set_terminal(fdt: &Fdt<'_>) {
    let vty = fdt.node("/vdevice").and_then(|node| {
        node.children()
            .find(|child| child.name().starts_with("vty"))
    });
    if let Some(unit) = vty.and_then(|node| node.cell("reg")) {
        TERMINAL.store(u64::from(unit), Ordering::Relaxed);
    }
}

/// The terminal's number.
#[must_use]
pub fn terminal() -> u64 {
    TERMINAL.load(Ordering::Relaxed)
}

#[derive(Default)]
struct Line {
    bytes: [u8; 16],
    len: usize,
}

impl Line {
    fn flush(&mut self) {
        let [high, low] = [0, 8].map(|from| {
            let half = self.bytes.iter().skip(from).take(8);
            half.fold(0, |packed, &byte| packed << 8 | u64::from(byte))
        });
        let started = cpu::timebase();
        while self.len > 0
            && hcall::call(PUT_TERM_CHAR, [terminal(), self.len as u64, high, low]).status
                == status::BUSY
            && cpu::timebase().wrapping_sub(started) < PATIENCE
        {}
        *self = Self::default();
    }
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        for byte in text.bytes() {
            if byte == b'\n' {
                self.write_str("\r")?;
            }
            if let Some(slot) = self.bytes.get_mut(self.len) {
                *slot = byte;
                self.len += 1;
            }
            if self.len == self.bytes.len() {
                self.flush();
            }
        }
        Ok(())
    }
}

/// Prints; what does not get out is lost.
pub fn print(arguments: core::fmt::Arguments<'_>) {
    let mut line = Line::default();
    let _ = line.write_fmt(arguments);
    line.flush();
}

/// Prints a line on the console.
#[macro_export]
macro_rules! println {
    ($($argument:tt)*) => {
        $crate::console::print(format_args!("{}\n", format_args!($($argument)*)))
    };
}

pub use println;
