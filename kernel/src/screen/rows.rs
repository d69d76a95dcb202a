// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A set of rows of a framebuffer.

use super::Geometry;
use super::geometry::MAX_SIDE;

const WORDS: usize = (MAX_SIDE / u64::BITS) as usize;
const _: () = assert!(MAX_SIDE.is_multiple_of(u64::BITS));

/// Some of the rows 0 to [`MAX_SIDE`] - 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowSet {
    words: [u64; WORDS],
}

impl Default for RowSet {
    fn default() -> Self {
        Self::new()
    }
}

impl RowSet {
    /// No row.
    #[must_use]
    pub const fn new() -> Self {
        Self { words: [0; WORDS] }
    }

    /// Adds a row. One beyond all framebuffers is none.
    pub fn insert(&mut self, row: u32) {
        if let Some(word) = self.words.get_mut((row / u64::BITS) as usize) {
            *word |= 1 << (row % u64::BITS);
        }
    }

    /// Adds all rows of a framebuffer.
    pub fn insert_all(&mut self, geometry: Geometry) {
        for row in 0..geometry.height() {
            self.insert(row);
        }
    }

    /// Adds the rows of which any byte lies in a range of a framebuffer's memory.
    pub fn insert_bytes(&mut self, geometry: Geometry, first: u64, bytes: u64) {
        let end = first.saturating_add(bytes).min(geometry.bytes());
        if first >= end {
            return;
        }
        let row =
            |byte: u64| u32::try_from(byte / u64::from(geometry.stride())).unwrap_or(u32::MAX);
        for row in row(first)..=row(end - 1) {
            self.insert(row);
        }
    }

    /// Removes all rows.
    pub fn clear(&mut self) {
        self.words = [0; WORDS];
    }

    /// Whether the row is there.
    #[must_use]
    pub fn contains(&self, row: u32) -> bool {
        self.words
            .get((row / u64::BITS) as usize)
            .is_some_and(|word| word >> (row % u64::BITS) & 1 != 0)
    }

    /// The first row from `row` on that is there.
    #[must_use]
    pub fn next(&self, row: u32) -> Option<u32> {
        (row..MAX_SIDE).find(|row| self.contains(*row))
    }

    /// How many rows there are.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.words.iter().map(|word| word.count_ones()).sum()
    }

    /// Whether there is no row.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    fn rows(set: &RowSet) -> Vec<u32> {
        let mut list = Vec::new();
        let mut from = 0;
        while let Some(row) = set.next(from) {
            list.push(row);
            from = row + 1;
        }
        assert_eq!(list.len(), set.len() as usize);
        assert_eq!(list.is_empty(), set.is_empty());
        list
    }

    #[test]
    fn a_row_belongs_to_a_page_with_any_of_its_bytes() {
        // Rows of 2560 bytes: 1.6 of them in a page.
        let geometry = Geometry::new(640, 480, 32).unwrap();
        let of = |first, bytes| {
            let mut set = RowSet::new();
            set.insert_bytes(geometry, first, bytes);
            rows(&set)
        };
        assert_eq!(of(0, 4096), [0, 1]);
        assert_eq!(of(4096, 4096), [1, 2, 3]);
        assert_eq!(of(8192, 4096), [3, 4]);
        // Five pages are eight rows.
        assert_eq!(of(5 * 4096, 4096), [8, 9]);
        assert_eq!(of(2559, 1), [0]);
        assert_eq!(of(2560, 1), [1]);
        // The last page of the slot has fewer bytes of rows, those behind them have none.
        assert_eq!(of(479 * 2560, u64::MAX), [479]);
        assert_eq!(of(geometry.bytes() - 1, 4096), [479]);
        assert_eq!(of(geometry.bytes(), 4096), []);
        assert_eq!(of(u64::MAX, 1), []);
        assert_eq!(of(4096, 0), []);
    }

    #[test]
    fn all_rows_are_those_of_the_height() {
        let mut set = RowSet::new();
        set.insert_all(Geometry::new(64, 4096, 8).unwrap());
        assert_eq!(set.len(), 4096);
        set.insert(4096);
        set.insert(u32::MAX);
        assert_eq!(set.len(), 4096);
        set.clear();
        set.insert_all(Geometry::new(64, 65, 8).unwrap());
        assert_eq!(
            (set.len(), set.next(64), set.next(65)),
            (65, Some(64), None)
        );
        assert!(!set.contains(65) && !set.contains(u32::MAX));
    }
}
