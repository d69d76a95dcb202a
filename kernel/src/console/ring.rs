// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Byte rings between a partition's terminal calls and the console.
//!
//! Producer and consumer are each on their own thread. Counters only grow; the producer publishes with
//! a release store of the tail, the consumer gives room back with a release store of the head. On the
//! partition's side several virtual processors may be at it at once, so that side has a lock.
//!
//! A push into [`OutputRing`] is on the path of H_PUT_TERM_CHAR, so it is straight-line code: the
//! 16 bytes of the two registers are shifted to the ring's position and stored as three words,
//! whatever their number. Words beyond the tail may hold leavings of a register; they are
//! overwritten before the tail passes them.

use super::term::{MAX_TERM_BYTES, TermBytes};
use alloc::boxed::Box;
use core::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};
use penstock_arch::wait::Mutex;

/// Bytes in an [`OutputRing`].
pub const OUTPUT_BYTES: usize = 0x4000;
/// Bytes in an [`InputRing`].
pub const INPUT_BYTES: usize = 1024;
/// Bytes in a word of the output ring.
const WORD: usize = 8;
const WORDS: usize = OUTPUT_BYTES / WORD;
/// A push stores this many words.
const PUSH_WORDS: usize = 3;
/// Most bytes that an [`OutputRing`] holds before it may say that it is full.
pub const OUTPUT_LIMIT: usize = OUTPUT_BYTES - PUSH_WORDS * WORD;
/// Bytes dropped at a time: a full ring is not full again at once.
const DROP: usize = OUTPUT_BYTES / 4;
/// Bytes handed to a sink at a time.
const CHUNK: usize = 256;

const _: () = assert!(WORDS.is_power_of_two() && INPUT_BYTES.is_power_of_two());
const _: () = assert!(PUSH_WORDS * WORD >= MAX_TERM_BYTES + WORD - 1);

/// The ring has no room; nothing was put in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// Where console bytes go.
pub trait ConsoleSink {
    /// Takes bytes from the front of `bytes`; how many. 0 means no room for now.
    fn write(&mut self, bytes: &[u8]) -> usize;
}

/// Output of one partition, 16 KiB, until the console takes it.
#[derive(Debug)]
pub struct OutputRing {
    /// The first of a word's bytes is its most significant one, as in the registers.
    words: Box<[AtomicU64; WORDS]>,
    /// Bytes ever taken out.
    head: AtomicUsize,
    /// Bytes ever put in.
    tail: AtomicUsize,
    /// Bytes that were dropped since somebody asked.
    lost: AtomicUsize,
    /// Held by who puts in.
    producer: Mutex<()>,
}

impl Default for OutputRing {
    fn default() -> Self {
        Self::new()
    }
}

impl OutputRing {
    /// An empty ring. Allocates [`OUTPUT_BYTES`].
    #[must_use]
    pub fn new() -> Self {
        Self {
            words: Box::new([const { AtomicU64::new(0) }; WORDS]),
            head: AtomicUsize::new(0),
            tail: AtomicUsize::new(0),
            lost: AtomicUsize::new(0),
            producer: Mutex::new(()),
        }
    }

    #[inline]
    fn word(&self, byte: usize) -> &AtomicU64 {
        &self.words[(byte / WORD) % WORDS]
    }

    /// Appends all bytes of `put`.
    ///
    /// # Errors
    /// [`Full`]: fewer than 24 bytes are free, and nothing was appended. H_BUSY.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "a shift below 64")]
    pub fn push(&self, put: TermBytes) -> Result<(), Full> {
        let _producer = self.producer.lock();
        let tail = self.tail.load(Ordering::Relaxed);
        // Pairs with `consume`: the consumer has read what is overwritten here.
        let head = self.head.load(Ordering::Acquire);
        if tail.wrapping_sub(head) > OUTPUT_LIMIT {
            return Err(Full);
        }
        let shift = (tail % WORD * 8) as u32;
        // Two steps, as the shift by 64 that an aligned tail needs does not exist.
        let spill = |bytes: u64| bytes << (63 - shift) << 1;
        let first = self.word(tail);
        let kept = first.load(Ordering::Relaxed) & !(u64::MAX >> shift);
        let words = [
            kept | put.high >> shift,
            spill(put.high) | put.low >> shift,
            spill(put.low),
        ];
        first.store(words[0], Ordering::Relaxed);
        self.word(tail.wrapping_add(WORD))
            .store(words[1], Ordering::Relaxed);
        self.word(tail.wrapping_add(2 * WORD))
            .store(words[2], Ordering::Relaxed);
        self.tail
            .store(tail.wrapping_add(put.len()), Ordering::Release);
        Ok(())
    }

    /// Appends bytes of `bytes` until the ring is full; how many.
    pub fn push_slice(&self, bytes: &[u8]) -> usize {
        let mut pushed = 0;
        for chunk in bytes.chunks(MAX_TERM_BYTES) {
            if self.push(TermBytes::pack(chunk)).is_err() {
                break;
            }
            pushed += chunk.len();
        }
        pushed
    }

    /// Bytes waiting.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tail
            .load(Ordering::Acquire)
            .wrapping_sub(self.head.load(Ordering::Relaxed))
    }

    /// Whether no bytes wait.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes ever put in, for statistics.
    #[must_use]
    pub fn total(&self) -> usize {
        self.tail.load(Ordering::Relaxed)
    }

    /// Copies the oldest bytes into `into`; how many. They stay in the ring.
    pub(super) fn peek(&self, into: &mut [u8; CHUNK]) -> usize {
        let head = self.head.load(Ordering::Relaxed);
        let len = self.len().min(CHUNK);
        for (byte, at) in into.iter_mut().zip((head..).take(len)) {
            *byte = self.word(at).load(Ordering::Relaxed).to_be_bytes()[at % WORD];
        }
        len
    }

    /// Removes `count` of the oldest bytes.
    pub(super) fn consume(&self, count: usize) {
        let head = self.head.load(Ordering::Relaxed);
        self.head
            .store(head.wrapping_add(count.min(self.len())), Ordering::Release);
    }

    /// Makes room at the cost of the oldest output, for a partition whose console nobody sees. To be
    /// called by the consumer.
    pub fn drop_oldest(&self) {
        let dropped = self.len().min(DROP);
        self.consume(dropped);
        self.lost.fetch_add(dropped, Ordering::Relaxed);
    }

    /// How many bytes were dropped since the last call.
    pub fn take_lost(&self) -> usize {
        self.lost.swap(0, Ordering::Relaxed)
    }

    /// Moves to `sink` what waits now, as far as the sink takes it; how many bytes.
    pub fn drain(&self, sink: &mut impl ConsoleSink) -> usize {
        let waiting = self.len();
        let mut moved = 0;
        let mut chunk = [0; CHUNK];
        while moved < waiting {
            let len = self.peek(&mut chunk);
            let bytes = chunk.get(..len).unwrap_or(&[]);
            let taken = sink.write(bytes).min(len);
            self.consume(taken);
            moved += taken;
            if taken < len || len == 0 {
                break;
            }
        }
        moved
    }

    /// Throws away what waits.
    pub fn clear(&self) {
        self.consume(self.len());
    }
}

/// Input for one partition, 1 KiB, until its H_GET_TERM_CHAR takes it.
#[derive(Debug)]
pub struct InputRing {
    bytes: [AtomicU8; INPUT_BYTES],
    head: AtomicUsize,
    tail: AtomicUsize,
    /// Held by who takes out.
    consumer: Mutex<()>,
}

impl Default for InputRing {
    fn default() -> Self {
        Self::new()
    }
}

impl InputRing {
    /// An empty ring.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            bytes: [const { AtomicU8::new(0) }; INPUT_BYTES],
            head: AtomicUsize::new(0),
            tail: AtomicUsize::new(0),
            consumer: Mutex::new(()),
        }
    }

    /// Bytes that can be pushed now. Input is left with the firmware while this is 0.
    #[must_use]
    pub fn room(&self) -> usize {
        let used = self
            .tail
            .load(Ordering::Relaxed)
            .wrapping_sub(self.head.load(Ordering::Acquire));
        INPUT_BYTES.saturating_sub(used)
    }

    /// Appends one byte.
    ///
    /// # Errors
    /// [`Full`]: nothing was appended.
    pub fn push(&self, byte: u8) -> Result<(), Full> {
        if self.room() == 0 {
            return Err(Full);
        }
        let tail = self.tail.load(Ordering::Relaxed);
        self.bytes[tail % INPUT_BYTES].store(byte, Ordering::Relaxed);
        self.tail.store(tail.wrapping_add(1), Ordering::Release);
        Ok(())
    }

    /// Takes up to 16 bytes out; a length of 0 means that there are none.
    #[inline]
    pub fn pop(&self) -> TermBytes {
        let _consumer = self.consumer.lock();
        let head = self.head.load(Ordering::Relaxed);
        let waiting = self.tail.load(Ordering::Acquire).wrapping_sub(head);
        if waiting == 0 {
            return TermBytes::NONE;
        }
        let len = waiting.min(MAX_TERM_BYTES);
        let mut taken = [0; MAX_TERM_BYTES];
        for (i, byte) in taken.iter_mut().enumerate().take(len) {
            *byte = self.bytes[head.wrapping_add(i) % INPUT_BYTES].load(Ordering::Relaxed);
        }
        self.head.store(head.wrapping_add(len), Ordering::Release);
        TermBytes::pack(taken.get(..len).unwrap_or(&[]))
    }

    /// Whether a pop would give nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tail.load(Ordering::Acquire) == self.head.load(Ordering::Relaxed)
    }

    /// Bytes ever put in, for statistics.
    #[must_use]
    pub fn total(&self) -> usize {
        self.tail.load(Ordering::Relaxed)
    }

    /// Throws away what waits.
    pub fn clear(&self) {
        self.head
            .store(self.tail.load(Ordering::Acquire), Ordering::Release);
    }
}

/// A sink for tests that takes a given number of bytes and then no more.
#[cfg(test)]
pub(crate) mod testing {
    use super::ConsoleSink;
    use alloc::vec::Vec;

    #[derive(Default)]
    pub(crate) struct Line {
        pub(crate) shown: Vec<u8>,
        pub(crate) room: usize,
    }

    impl Line {
        pub(crate) fn with_room(room: usize) -> Self {
            Self {
                shown: Vec::new(),
                room,
            }
        }
    }

    impl ConsoleSink for Line {
        fn write(&mut self, bytes: &[u8]) -> usize {
            let taken = bytes.len().min(self.room);
            self.room -= taken;
            self.shown.extend(&bytes[..taken]);
            taken
        }
    }
}

#[cfg(test)]
mod tests;
