// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The lines before this one.

use super::LINE_BYTES;
use arrayvec::ArrayVec;

/// Lines that are remembered.
const LINES: usize = 16;

/// The last lines, and which of them was brought back.
#[derive(Clone, Debug)]
pub(super) struct History {
    /// Oldest first.
    lines: ArrayVec<ArrayVec<u8, LINE_BYTES>, LINES>,
    /// How many lines back the line was taken from; 0 is none.
    recalled: usize,
}

impl History {
    pub(super) const fn new() -> Self {
        Self {
            lines: ArrayVec::new_const(),
            recalled: 0,
        }
    }

    /// The next one to bring back is the last one.
    pub(super) const fn rewind(&mut self) {
        self.recalled = 0;
    }

    /// Keeps a line, unless it is empty or the same as the one before.
    pub(super) fn remember(&mut self, line: &str) {
        self.recalled = 0;
        let line = line.as_bytes();
        if line.is_empty() || self.lines.last().is_some_and(|last| *last == *line) {
            return;
        }
        if self.lines.is_full() {
            let _ = self.lines.pop_at(0);
        }
        // It has room for any line, and there is a place for it.
        if let Ok(line) = ArrayVec::try_from(line) {
            let _ = self.lines.try_push(line);
        }
    }

    /// The line before the one that was brought back last; `None` if that was the oldest.
    pub(super) fn older(&mut self) -> Option<ArrayVec<u8, LINE_BYTES>> {
        self.recall(self.recalled.saturating_add(1))
    }

    /// The line after that: an empty one after the last. `None` if none was brought back.
    pub(super) fn newer(&mut self) -> Option<ArrayVec<u8, LINE_BYTES>> {
        match self.recalled.checked_sub(1)? {
            0 => {
                self.recalled = 0;
                Some(ArrayVec::new())
            }
            back => self.recall(back),
        }
    }

    fn recall(&mut self, back: usize) -> Option<ArrayVec<u8, LINE_BYTES>> {
        let line = self.lines.get(self.lines.len().checked_sub(back)?)?;
        self.recalled = back;
        Some(line.clone())
    }
}
