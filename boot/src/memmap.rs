// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which memory is free: what the board has, minus all that somebody already uses.
//!
//! OPAL reports memory in one list and what it keeps in three; it does not reserve the payload,
//! the initrd or the device tree that it passes, so those are ours to take out. Real 0 to 64 KiB
//! holds the exception vectors and is never given out.
//!
//! We guarantee that the result is sorted, disjoint, made of whole 64 KiB pages, and touches
//! nothing that any list names; running out of room in a list is an error, never a gap in it.

use crate::bootinfo::{BootInfo, HostRange};
use arrayvec::ArrayVec;
use core::fmt;
use penstock_arch::addr::HostReal;

/// Memory from 0 that holds the exception vectors, in bytes.
pub const VECTOR_BYTES: u64 = 0x1_0000;

/// Free memory comes in whole pages of this many bytes.
pub const FREE_GRANULE_BYTES: u64 = 0x1_0000;

/// Most ranges of free memory.
pub const MAX_FREE: usize = 256;

/// More disjoint ranges than a [`RangeSet`] holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapError {
    /// Ranges that it holds.
    pub capacity: usize,
}

impl fmt::Display for MapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "memory is in more than {} pieces", self.capacity)
    }
}

/// A set of addresses as at most `N` ranges: sorted, disjoint, neighbours merged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeSet<const N: usize> {
    ranges: ArrayVec<HostRange, N>,
}

impl<const N: usize> RangeSet<N> {
    /// The empty set.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            ranges: ArrayVec::new_const(),
        }
    }

    /// The ranges, in ascending order, none touching the next.
    #[must_use]
    pub fn as_slice(&self) -> &[HostRange] {
        &self.ranges
    }

    /// The ranges as a list.
    #[must_use]
    pub fn into_ranges(self) -> ArrayVec<HostRange, N> {
        self.ranges
    }

    /// Bytes in the set.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        // Disjoint ranges of one 64-bit space cannot add up to more than it.
        self.ranges.iter().fold(0, |sum, range| sum + range.bytes())
    }

    /// Adds `range`.
    ///
    /// # Errors
    /// The set would need more ranges than it holds; it is unchanged.
    pub fn insert(&mut self, range: HostRange) -> Result<(), MapError> {
        let mut merged = range;
        let mut result = ArrayVec::<HostRange, N>::new();
        let mut placed = false;
        for &old in &self.ranges {
            if old.end() < merged.start() {
                push(&mut result, old)?;
            } else if merged.end() < old.start() {
                if !placed {
                    push(&mut result, merged)?;
                    placed = true;
                }
                push(&mut result, old)?;
            } else {
                let start = merged.start().min(old.start());
                let end = merged.end().max(old.end());
                merged = HostRange::between(start, end).unwrap_or(merged);
            }
        }
        if !placed {
            push(&mut result, merged)?;
        }
        self.ranges = result;
        Ok(())
    }

    /// Takes every address of `range` out.
    ///
    /// # Errors
    /// The set would need more ranges than it holds; it is unchanged.
    pub fn remove(&mut self, range: HostRange) -> Result<(), MapError> {
        let mut result = ArrayVec::<HostRange, N>::new();
        for &old in &self.ranges {
            let below = HostRange::between(old.start(), old.end().min(range.start()));
            let above = HostRange::between(old.start().max(range.end()), old.end());
            for part in below.into_iter().chain(above) {
                push(&mut result, part)?;
            }
        }
        self.ranges = result;
        Ok(())
    }

    /// Cuts each range down to whole pages of `bytes` bytes, a power of two.
    pub fn align_inward(&mut self, bytes: u64) {
        let aligned = self.ranges.iter().filter_map(|range| {
            HostRange::between(
                range.start().align_up(bytes)?,
                range.end().align_down(bytes),
            )
        });
        self.ranges = aligned.collect();
    }
}

fn push<const N: usize>(
    list: &mut ArrayVec<HostRange, N>,
    range: HostRange,
) -> Result<(), MapError> {
    list.try_push(range).map_err(|_| MapError { capacity: N })
}

/// The memory that nobody uses: what `info` calls memory without what it calls reserved, its
/// initrd, the vectors, and `own` - our image, our copy of the device tree, and whatever else the
/// caller has placed.
///
/// # Errors
/// The memory is in more than [`MAX_FREE`] pieces.
pub fn free_memory(info: &BootInfo<'_>, own: &[HostRange]) -> Result<RangeSet<MAX_FREE>, MapError> {
    let mut free = RangeSet::new();
    for &range in &info.memory {
        free.insert(range)?;
    }
    let vectors = HostRange::new(HostReal::new(0), VECTOR_BYTES);
    let taken = info
        .reserved
        .iter()
        .chain(own)
        .copied()
        .chain(info.initrd)
        .chain(vectors);
    for range in taken {
        free.remove(range)?;
    }
    free.align_inward(FREE_GRANULE_BYTES);
    Ok(free)
}

#[cfg(test)]
mod tests;
