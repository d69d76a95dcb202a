// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The OPAL console, shared by the hypervisor's log, the monitor and the guests.
//!
//! Everything goes through one [`Multiplexer`] behind one lock, the last in the order of locks. Any
//! thread may write; OPAL's console calls are made under the lock. Input is the boot thread's. The log
//! waits a bounded time for the lock, and is lost otherwise: it may come from anywhere.

use super::thread;
use crate::console::{ConsoleSink, GuestId, Multiplexer, OutputRing};
use core::fmt::Write;
use core::sync::atomic::{AtomicU64, Ordering};
use penstock_arch::spr;
use penstock_boot::opal;
use spin::{Mutex, Once};

/// OPAL's number of the console in use.
static CONSOLE: AtomicU64 = AtomicU64::new(0);

/// The multiplexer, made when there is a heap.
static MULTIPLEXER: Once<Mutex<Multiplexer>> = Once::new();

/// Chooses the console, and starts the log.
pub fn start(console: u64, level: log::LevelFilter) {
    CONSOLE.store(console, Ordering::Relaxed);
    MULTIPLEXER.call_once(|| Mutex::new(Multiplexer::new()));
    if log::set_logger(&Logger).is_ok() {
        log::set_max_level(level);
    }
}

/// The multiplexer; only before [`start`] there is none.
pub fn multiplexer() -> &'static Mutex<Multiplexer> {
    MULTIPLEXER.call_once(|| Mutex::new(Multiplexer::new()))
}

/// The machine's end of the console.
pub struct OpalSink;

impl ConsoleSink for OpalSink {
    fn write(&mut self, bytes: &[u8]) -> usize {
        opal::console::write(CONSOLE.load(Ordering::Relaxed), bytes)
    }
}

/// Reads what was typed.
pub fn read(buffer: &mut [u8]) -> usize {
    opal::console::read(CONSOLE.load(Ordering::Relaxed), buffer)
}

/// Writes out all that waits, of the hypervisor's own text and, if it is in focus, of `guest`'s,
/// however long it takes.
pub fn drain(guest: Option<(GuestId, &OutputRing)>) {
    multiplexer().lock().pump(guest, &mut Patient);
    opal::console::flush(CONSOLE.load(Ordering::Relaxed));
}

/// Makes room in the ring of a guest: by the line, or, where nobody sees it, by dropping what is
/// oldest.
pub fn make_room(id: GuestId, output: &OutputRing) {
    let mut multiplexer = multiplexer().lock();
    if multiplexer.holds_back(id) {
        multiplexer.pump(Some((id, output)), &mut OpalSink);
    } else {
        output.drop_oldest();
    }
}

/// Writes out all that waits in this ring, whoever is in focus, however long it takes.
pub fn show(output: &OutputRing) {
    multiplexer().lock().show(output, &mut Patient);
    opal::console::flush(CONSOLE.load(Ordering::Relaxed));
}

/// Takes everything, waiting for the line.
struct Patient;

impl ConsoleSink for Patient {
    fn write(&mut self, bytes: &[u8]) -> usize {
        opal::console::write_all(CONSOLE.load(Ordering::Relaxed), bytes);
        bytes.len()
    }
}

/// Writes past the multiplexer and all locks: for last words.
pub struct Emergency;

impl Write for Emergency {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        let console = CONSOLE.load(Ordering::Relaxed);
        for line in text.split_inclusive('\n') {
            match line.strip_suffix('\n') {
                Some(body) => {
                    opal::console::write_all(console, body.as_bytes());
                    opal::console::write_all(console, b"\r\n");
                }
                None => opal::console::write_all(console, line.as_bytes()),
            }
        }
        Ok(())
    }
}

/// Waits until the last words are out.
pub fn flush() {
    opal::console::flush(CONSOLE.load(Ordering::Relaxed));
}

struct Logger;

/// How long a message waits for the line, in ticks: some hundred milliseconds. Another thread has it
/// for as long as firmware takes to write; should it be the calling thread itself, it is lost.
const PATIENCE: u64 = 200_000_000;

/// The multiplexer, unless it is not free for long.
fn patiently() -> Option<spin::MutexGuard<'static, Multiplexer>> {
    let since = spr::timebase();
    loop {
        if let Some(multiplexer) = multiplexer().try_lock() {
            return Some(multiplexer);
        }
        // Alone, nobody else can have it.
        let alone = thread::all()
            .iter()
            .filter(|thread| thread.is_here())
            .count()
            < 2;
        if alone || spr::timebase().wrapping_sub(since) > PATIENCE {
            return None;
        }
        penstock_arch::wait::relax();
    }
}

impl log::Log for Logger {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        // The crate that speaks, without the common prefix.
        let target = record.target();
        let name = target.strip_prefix("penstock_").unwrap_or(target);
        let name = name.split("::").next().unwrap_or(name);
        if let Some(mut multiplexer) = patiently() {
            let level = record.level().as_str();
            // A full ring counts what it loses, and says so itself.
            let _ = match record.level() {
                log::Level::Info => writeln!(multiplexer.record(), "{name}: {}", record.args()),
                _ => writeln!(multiplexer.record(), "{name}: {level}: {}", record.args()),
            };
            multiplexer.pump(None, &mut Patient);
        }
    }

    fn flush(&self) {}
}
