// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which granules of a slot were written since somebody last asked.

use super::{GRANULE, Slot, SlotKind};
use core::sync::atomic::{AtomicU64, Ordering};

impl Slot {
    /// Whether writes are logged.
    #[inline]
    #[must_use]
    pub fn is_logging(&self) -> bool {
        self.logging.load(Ordering::Relaxed)
    }

    pub(crate) fn set_logging(&self, on: bool) {
        for word in &*self.dirty {
            word.store(0, Ordering::Relaxed);
        }
        self.marked.store(0, Ordering::Relaxed);
        self.special
            .store(on || self.kind != SlotKind::Memory, Ordering::Release);
        self.logging.store(on, Ordering::Release);
    }

    /// Whether an entry for this slot needs more than a look at its piece: the slot is logged, or no
    /// memory.
    #[inline]
    pub(crate) fn is_special(&self) -> bool {
        self.special.load(Ordering::Relaxed)
    }

    /// Notes that a range was written, after it was: a reader that takes the bits and then reads
    /// the memory finds the new bytes, or the bits again.
    #[inline]
    pub(crate) fn mark_dirty(&self, offset: u64, len: u64) {
        if self.is_logging() && len != 0 {
            self.mark_dirty_logged(offset, len);
        }
    }

    #[cold]
    fn mark_dirty_logged(&self, offset: u64, len: u64) {
        let first = offset / GRANULE;
        let end = offset.saturating_add(len).min(self.bytes).div_ceil(GRANULE);
        let mut at = first;
        while at < end {
            let upto = (at / 64 * 64 + 64).min(end);
            let ones = u64::MAX >> (64 - (upto - at)) << (at % 64);
            if let Some(word) = self.dirty_word(at / 64) {
                let new = ones & !word.fetch_or(ones, Ordering::Release);
                self.marked
                    .fetch_add(u64::from(new.count_ones()), Ordering::Relaxed);
            }
            at = upto;
        }
    }

    /// How many granules have come into the log since it began.
    pub(crate) fn marked(&self) -> u64 {
        self.marked.load(Ordering::Relaxed)
    }

    fn dirty_word(&self, number: u64) -> Option<&AtomicU64> {
        self.dirty.cell(usize::try_from(number).ok()?)
    }

    /// Number of words of the log: 64 granules each.
    #[must_use]
    pub(crate) fn dirty_words(&self) -> u64 {
        (self.bytes / GRANULE).div_ceil(64)
    }

    /// The bits of 64 granules from granule `64 * number` on, bit 0 (from the right) the first;
    /// clears them.
    pub(crate) fn take_dirty(&self, number: u64) -> u64 {
        self.dirty_word(number).map_or(0, |word| {
            if word.load(Ordering::Relaxed) == 0 {
                0
            } else {
                word.swap(0, Ordering::AcqRel)
            }
        })
    }

    /// The same bits, which stay.
    pub(crate) fn peek_dirty(&self, number: u64) -> u64 {
        self.dirty_word(number)
            .map_or(0, |word| word.load(Ordering::Acquire))
    }
}
