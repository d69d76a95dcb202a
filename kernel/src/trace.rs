// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the threads did last: a ring of typed records for each, switched on and printed by the monitor.
//!
//! Each ring is written by its own thread alone, without a lock, and read by whoever prints it. Off,
//! which it is at first, an event costs a load and a branch. Nothing is recorded on the light path of
//! hypervisor calls and storage faults: those are counted, and the last calls are in their own log
//! ([`penstock_arch::hcall_log`]).

use crate::config::MAX_PARTITIONS;
use crate::exit::GuestExit;
use crate::vpa::DispatchReason;
use alloc::vec::Vec;
use core::fmt::{self, Write};
use core::mem::offset_of;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};

/// What happened. The two arguments of each are in brackets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Kind {
    /// A virtual processor came on the thread (its number).
    Board = 0,
    /// It went off the thread (its number).
    Alight = 1,
    /// Its guest is entered (where, LPCR).
    Enter = 2,
    /// Its guest was left (the index of the [`GuestExit`], where).
    Exit = 3,
    /// It was away, and goes on (the number of the [`DispatchReason`], ticks).
    Wake = 4,
    /// Another thread is told to look up (its number).
    Kick = 5,
    /// The thread slept (ticks).
    Sleep = 6,
    /// An interrupt of the hypervisor's was served (1; 0 if it had no reason any more).
    Irq = 7,
    /// Storage faults come to the hypervisor from now on (1), or to the guest (0).
    Vpm = 8,
    /// The partition starts.
    Start = 9,
    /// It starts over.
    Restart = 10,
    /// It is paused.
    Pause = 11,
    /// It goes on.
    Resume = 12,
    /// It ends.
    End = 13,
    /// An error stops it (the index of the [`GuestExit`], where).
    Error = 14,
    /// It has changed its page table for another one (log2 of the bytes, H_RESIZE_HPT_COMMIT's status).
    Resize = 15,
    /// A virtual processor came to the thread from another one, to stay (its number, the other thread's).
    Move = 16,
}

impl Kind {
    const ALL: [(Self, &'static str); 17] = [
        (Self::Board, "board"),
        (Self::Alight, "alight"),
        (Self::Enter, "enter"),
        (Self::Exit, "exit"),
        (Self::Wake, "wake"),
        (Self::Kick, "kick"),
        (Self::Sleep, "sleep"),
        (Self::Irq, "irq"),
        (Self::Vpm, "vpm"),
        (Self::Start, "start"),
        (Self::Restart, "restart"),
        (Self::Pause, "pause"),
        (Self::Resume, "resume"),
        (Self::End, "end"),
        (Self::Error, "error"),
        (Self::Resize, "resize"),
        (Self::Move, "move"),
    ];
}

/// An event, 32 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Record {
    /// The time base.
    pub timebase: u64,
    /// The number of a [`Kind`].
    pub kind: u16,
    /// The number of the partition that it is about; 0 is none.
    pub partition: u16,
    /// The number of the thread.
    pub thread: u32,
    /// What the kind says.
    pub arguments: [u64; 2],
}

const _: () = {
    assert!(size_of::<Record>() == 32);
    assert!(offset_of!(Record, kind) == 8);
    assert!(offset_of!(Record, partition) == 10);
    assert!(offset_of!(Record, thread) == 12);
    assert!(offset_of!(Record, arguments) == 16);
};

impl Record {
    const fn words(self) -> [u64; 4] {
        let what = self.kind as u64 | (self.partition as u64) << 16 | (self.thread as u64) << 32;
        let [a, b] = self.arguments;
        [self.timebase, what, a, b]
    }

    #[expect(clippy::cast_possible_truncation, reason = "the fields of a word")]
    const fn from_words([timebase, what, a, b]: [u64; 4]) -> Self {
        Self {
            timebase,
            kind: what as u16,
            partition: (what >> 16) as u16,
            thread: (what >> 32) as u32,
            arguments: [a, b],
        }
    }
}

/// Records of a ring.
pub const RECORDS: usize = 256;

/// The last records of one thread.
#[derive(Debug)]
pub struct Ring {
    records: Vec<[AtomicU64; 4]>,
    /// Records ever written.
    written: AtomicU64,
}

impl Ring {
    /// An empty one; `None` if there is no memory for it.
    #[must_use]
    pub fn new() -> Option<Self> {
        let mut records = Vec::new();
        records.try_reserve_exact(RECORDS).ok()?;
        records.resize_with(RECORDS, || [const { AtomicU64::new(0) }; 4]);
        Some(Self {
            records,
            written: AtomicU64::new(0),
        })
    }

    /// By its thread alone.
    pub fn push(&self, record: Record) {
        let written = self.written.load(Ordering::Relaxed);
        // Before the words change, the one who reads knows that they will.
        fence(Ordering::Release);
        if let Some(place) = self.records.get(slot(written)) {
            for (to, from) in place.iter().zip(record.words()) {
                to.store(from, Ordering::Relaxed);
            }
        }
        self.written
            .store(written.wrapping_add(1), Ordering::Release);
    }

    /// Calls `each` with the records that are kept, oldest first. What its thread overwrites meanwhile is
    /// left out.
    pub fn read(&self, mut each: impl FnMut(Record)) {
        let end = self.written.load(Ordering::Acquire);
        for number in end.saturating_sub(RECORDS as u64)..end {
            let Some(place) = self.records.get(slot(number)) else {
                return;
            };
            let words = [0, 1, 2, 3].map(|word: usize| {
                place
                    .get(word)
                    .map_or(0, |word| word.load(Ordering::Relaxed))
            });
            fence(Ordering::Acquire);
            // The record after the last one may be half written, in the place of the oldest.
            let now = self.written.load(Ordering::Relaxed);
            if now < number + RECORDS as u64 {
                each(Record::from_words(words));
            }
        }
    }
}

fn slot(number: u64) -> usize {
    usize::try_from(number % RECORDS as u64).unwrap_or(0)
}

/// Which events a thread records: those of some partitions, and those of none of them. One thread
/// changes it, and any may ask.
#[derive(Debug, Default)]
pub struct Filter {
    /// Any are recorded.
    on: AtomicBool,
    /// A bit for each number of a partition, bit 0 of the first word for 0.
    wanted: [AtomicU64; 2],
}

/// Numbers that a filter knows. Others are never recorded.
const NUMBERS: u32 = 2 * u64::BITS;

const _: () = assert!(MAX_PARTITIONS < NUMBERS as usize);

/// Whose events are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// Everybody's.
    Everybody,
    /// Those of the partition with this number.
    Partition(u16),
}

impl Whose {
    /// As the words of a filter have them.
    const fn words(self) -> [u64; 2] {
        match self {
            Self::Everybody => [u64::MAX; 2],
            Self::Partition(number) if (number as u32) < NUMBERS => {
                let bits = 1_u128 << number;
                #[expect(clippy::cast_possible_truncation, reason = "the halves of it")]
                let words = [bits as u64, (bits >> 64) as u64];
                words
            }
            Self::Partition(_) => [0; 2],
        }
    }
}

impl Filter {
    /// Nothing is recorded.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            on: AtomicBool::new(false),
            wanted: [const { AtomicU64::new(0) }; 2],
        }
    }

    /// From now on these are recorded too.
    pub fn record(&self, whose: Whose) {
        for (wanted, bits) in self.wanted.iter().zip(whose.words()) {
            wanted.fetch_or(bits, Ordering::Release);
        }
        self.update();
    }

    /// From now on these are not; the others are as before.
    pub fn ignore(&self, whose: Whose) {
        for (wanted, bits) in self.wanted.iter().zip(whose.words()) {
            wanted.fetch_and(!bits, Ordering::Release);
        }
        self.update();
    }

    fn update(&self) {
        let mut words = self.wanted.iter();
        let any = words.any(|word| word.load(Ordering::Relaxed) != 0);
        self.on.store(any, Ordering::Release);
    }

    /// Whether anything is recorded.
    #[inline]
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }

    /// Whether the events of this partition are, 0 for those of none.
    #[must_use]
    pub fn wants(&self, partition: u16) -> bool {
        let bits = Whose::Partition(partition).words();
        let mut words = self.wanted.iter().zip(bits);
        words.any(|(wanted, bit)| wanted.load(Ordering::Acquire) & bit != 0)
    }
}

/// Writes a line for a record; `hz` are the ticks of a second, `name` is the partition's.
///
/// # Errors
/// Those of `out`.
pub fn write_record(
    out: &mut impl Write,
    hz: u64,
    name: Option<&str>,
    record: &Record,
) -> fmt::Result {
    let hz = hz.max(1);
    let (seconds, rest) = (record.timebase / hz, record.timebase % hz);
    let nanoseconds = u128::from(rest) * 1_000_000_000 / u128::from(hz);
    let kind = Kind::ALL
        .iter()
        .find(|(kind, _)| *kind as u16 == record.kind);
    let [a, b] = record.arguments;
    write!(
        out,
        "{seconds}.{nanoseconds:09} {:>3} {:<12} ",
        record.thread,
        name.unwrap_or("-")
    )?;
    let Some((kind, text)) = kind else {
        return writeln!(out, "kind {} {a:#x} {b:#x}", record.kind);
    };
    write!(out, "{text}")?;
    let exit = |index: u64| {
        let index = usize::try_from(index).ok();
        index
            .and_then(|index| GuestExit::NAMES.get(index).copied())
            .unwrap_or("?")
    };
    match kind {
        Kind::Board | Kind::Alight => writeln!(out, " CPU {a}"),
        Kind::Enter => writeln!(out, " {a:#x} LPCR {b:#x}"),
        Kind::Exit | Kind::Error => writeln!(out, " {} at {b:#x}", exit(a)),
        Kind::Wake => writeln!(out, " {} after {b} ticks", reason(a)),
        Kind::Kick => writeln!(out, " thread {a}"),
        Kind::Sleep => writeln!(out, " {a} ticks"),
        Kind::Irq => writeln!(out, "{}", if a == 0 { " spurious" } else { "" }),
        Kind::Vpm => writeln!(out, " {}", if a == 0 { "off" } else { "on" }),
        Kind::Resize => writeln!(out, " order {a} status {}", b.cast_signed()),
        Kind::Move => writeln!(out, " CPU {a} from thread {b}"),
        Kind::Start | Kind::Restart | Kind::Pause | Kind::Resume | Kind::End => writeln!(out),
    }
}

/// The name of a dispatch reason's number.
fn reason(number: u64) -> &'static str {
    let names = [
        (DispatchReason::External, "by an interrupt"),
        (DispatchReason::Decrementer, "by its decrementer"),
        (DispatchReason::TimeSlice, "in its turn"),
    ];
    names
        .iter()
        .find(|(reason, _)| *reason as u64 == number)
        .map_or("otherwise", |(_, name)| name)
}

/// Lines of a step, which fit into [`STEP_TEXT_BYTES`](crate::control::operator::STEP_TEXT_BYTES).
const STEP_LINES: usize = 48;

/// Records on their way to the console, in steps.
#[derive(Debug)]
pub struct Printer {
    records: Vec<Record>,
    next: usize,
}

impl Printer {
    /// The records of these rings that `filter` lets through, in the order of time; `None` if there is
    /// no memory for a copy.
    pub fn new<'r>(
        rings: impl Iterator<Item = &'r Ring>,
        filter: impl Fn(&Record) -> bool,
    ) -> Option<Self> {
        let mut records = Vec::new();
        for ring in rings {
            records.try_reserve(RECORDS).ok()?;
            ring.read(|record| {
                if filter(&record) {
                    records.push(record);
                }
            });
        }
        records.sort_unstable_by_key(|record| record.timebase);
        Some(Self { records, next: 0 })
    }

    /// Writes some more lines; whether those were the last.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn step<'n>(
        &mut self,
        out: &mut impl Write,
        hz: u64,
        name: impl Fn(u16) -> Option<&'n str>,
    ) -> Result<bool, fmt::Error> {
        let rest = self.records.get(self.next..).unwrap_or_default();
        let part = rest.get(..STEP_LINES).unwrap_or(rest);
        for record in part {
            write_record(out, hz, name(record.partition), record)?;
        }
        self.next += part.len();
        let is_last = self.next >= self.records.len();
        if is_last {
            writeln!(out, "{} events", self.records.len())?;
        }
        Ok(is_last)
    }
}

#[cfg(test)]
mod tests;
