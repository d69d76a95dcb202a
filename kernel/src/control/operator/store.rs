// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Where `hpt reload` keeps a stream while the table is empty.

use crate::control::MAX_BUFFER_BYTES;
use arrayvec::ArrayVec;
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::Relaxed;
use penstock_mm::page_ops::PageOps;
use penstock_mm::real::{Frames, RealArray};

/// Where a stream is kept in between.
pub trait StreamStore {
    /// Bytes that it holds.
    fn len(&self) -> usize;

    /// Whether it holds none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds bytes at the end; whether there was room for them.
    #[must_use]
    fn push(&mut self, bytes: &[u8]) -> bool;

    /// Bytes from `at` on: `into` is filled, if there are as many.
    #[must_use]
    fn copy(&self, at: usize, into: &mut [u8]) -> bool;
}

/// Bytes of the first piece; each has twice as many as the one before.
const FIRST_PIECE: u64 = 1 << 20;
/// More than a machine has memory.
const PIECES: usize = 24;
/// What a stream's records consist of.
const WORD: usize = 8;

/// A stream in frames, of which whoever has them gives more when they are wanted.
#[derive(Debug, Default)]
pub struct FrameStore {
    pieces: ArrayVec<RealArray<AtomicU64>, PIECES>,
    words: usize,
}

impl FrameStore {
    /// A store without any memory.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            pieces: ArrayVec::new_const(),
            words: 0,
        }
    }

    /// How many bytes of frames it should have before the next step of a job: none where there is
    /// room for all that one step brings.
    #[must_use]
    pub fn wants(&self) -> Option<u64> {
        let all: usize = self.pieces.iter().map(|piece| piece.len()).sum();
        let room = all.saturating_sub(self.words) * WORD;
        (room < MAX_BUFFER_BYTES && !self.pieces.is_full())
            .then(|| FIRST_PIECE << self.pieces.len())
    }

    /// Takes frames, of the size that it wants and aligned to a page.
    ///
    /// # Errors
    /// The frames, where they are of no use.
    pub fn add(&mut self, frames: Frames, ops: &impl PageOps) -> Result<(), Frames> {
        let piece = RealArray::new(frames, ops)?;
        self.pieces
            .try_push(piece)
            .map_err(|error| error.element().into_frames())
    }

    /// Gives all frames back.
    pub fn into_frames(self) -> impl Iterator<Item = Frames> {
        self.pieces.into_iter().map(RealArray::into_frames)
    }

    fn word(&self, mut number: usize) -> Option<&AtomicU64> {
        for piece in &self.pieces {
            match piece.cell(number) {
                Some(word) => return Some(word),
                None => number -= piece.count(),
            }
        }
        None
    }
}

impl StreamStore for FrameStore {
    fn len(&self) -> usize {
        self.words * WORD
    }

    fn push(&mut self, bytes: &[u8]) -> bool {
        let (words, rest) = bytes.as_chunks::<WORD>();
        let last = self.words + words.len();
        if !rest.is_empty() || (last > 0 && self.word(last - 1).is_none()) {
            return false;
        }
        for (number, bytes) in (self.words..).zip(words) {
            if let Some(word) = self.word(number) {
                word.store(u64::from_ne_bytes(*bytes), Relaxed);
            }
        }
        self.words = last;
        true
    }

    fn copy(&self, at: usize, into: &mut [u8]) -> bool {
        let (words, rest) = into.as_chunks_mut::<WORD>();
        let first = at / WORD;
        if !rest.is_empty() || !at.is_multiple_of(WORD) || first + words.len() > self.words {
            return false;
        }
        for (number, to) in (first..).zip(words) {
            if let Some(word) = self.word(number) {
                *to = word.load(Relaxed).to_ne_bytes();
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use penstock_mm::fake::{TestMachine, TestMemory};

    #[test]
    #[cfg_attr(miri, ignore = "five megabytes, word by word")]
    fn a_stream_goes_over_several_pieces_and_its_frames_come_back() {
        let memory = TestMemory::new(16 << 20);
        let mut frames = memory.frames();
        let (before, machine) = (frames.left(), TestMachine::new());
        let mut store = FrameStore::new();
        assert!(!store.push(&[0; 8]) && store.push(&[]));
        let mut sizes = ArrayVec::<u64, 8>::new();
        let block = |number: usize| [u8::try_from(number % 251).unwrap(); MAX_BUFFER_BYTES];
        // 5 MiB: more than the first two pieces hold.
        for number in 0..320 {
            if let Some(bytes) = store.wants() {
                sizes.push(bytes);
                let piece = frames.alloc(bytes, 4096).unwrap();
                store.add(piece, &machine).unwrap();
            }
            assert!(store.push(&block(number)));
        }
        assert_eq!(sizes[..], [1 << 20, 2 << 20, 4 << 20]);
        assert_eq!(store.len(), 320 * MAX_BUFFER_BYTES);
        let mut read = [0; MAX_BUFFER_BYTES];
        for number in [0, 63, 64, 191, 192, 319] {
            assert!(store.copy(number * MAX_BUFFER_BYTES, &mut read));
            assert_eq!(read, block(number));
        }
        // Not whole words, and beyond the end.
        assert!(!store.copy(4, &mut read) && !store.copy(8, &mut read[..4]));
        assert!(!store.copy(319 * MAX_BUFFER_BYTES + 8, &mut read));
        assert!(!store.push(&[1; 12]));
        for piece in store.into_frames() {
            frames.free(piece).unwrap();
        }
        assert_eq!(frames.left(), before);
    }
}
