// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The text of a line, parted at the cursor: each change is at an end of one of the parts.

use super::LINE_BYTES;
use arrayvec::ArrayVec;

/// Printable ASCII, at most [`LINE_BYTES`] of it.
#[derive(Clone, Debug)]
pub(super) struct Text {
    left: ArrayVec<u8, LINE_BYTES>,
    /// From the end of the line backwards.
    right: ArrayVec<u8, LINE_BYTES>,
}

impl Text {
    pub(super) const fn new() -> Self {
        Self {
            left: ArrayVec::new_const(),
            right: ArrayVec::new_const(),
        }
    }

    pub(super) fn clear(&mut self) {
        self.left.clear();
        self.right.clear();
    }

    /// What is left of the cursor.
    pub(super) fn left(&self) -> &str {
        // Only ASCII gets in, so the conversion always succeeds.
        core::str::from_utf8(&self.left).unwrap_or("")
    }

    /// What is right of the cursor.
    pub(super) fn right(&self) -> impl Iterator<Item = char> + '_ {
        self.right.iter().rev().map(|byte| char::from(*byte))
    }

    /// The number of characters right of the cursor.
    pub(super) const fn right_len(&self) -> usize {
        self.right.len()
    }

    /// Puts a character before the cursor; false if there is no room.
    pub(super) fn insert(&mut self, byte: u8) -> bool {
        let has_room = self.left.len() + self.right.len() < LINE_BYTES;
        has_room && self.left.try_push(byte).is_ok()
    }

    /// The cursor goes a character to the left; false if it is at the start.
    pub(super) fn go_left(&mut self) -> bool {
        // All of one part has room in the other.
        let moved = self.left.pop().map(|byte| self.right.try_push(byte));
        moved.is_some()
    }

    /// The cursor goes a character to the right: which one it was, unless it is at the end.
    pub(super) fn go_right(&mut self) -> Option<char> {
        let byte = self.right.pop()?;
        let _ = self.left.try_push(byte);
        Some(char::from(byte))
    }

    /// Takes the character before the cursor away; false if there is none.
    pub(super) fn remove_left(&mut self) -> bool {
        self.left.pop().is_some()
    }

    /// Takes the character under the cursor away; false if there is none.
    pub(super) fn remove_right(&mut self) -> bool {
        self.right.pop().is_some()
    }
}
