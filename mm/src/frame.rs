// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The allocator of host memory.
//!
//! It keeps the free ranges in one sorted array of fixed size. Memory is given out when a
//! partition is made and taken back when it is destroyed, a few times in a run; at any other time
//! nothing is allocated, so what works at start works always. Requests are served from the
//! smallest range that can serve them, which keeps the large ranges for page tables.

use crate::real::Frames;
use arrayvec::ArrayVec;
use penstock_arch::addr::HostReal;

/// How many free ranges the allocator can keep apart.
pub const RANGES: usize = 512;

/// Why the allocator refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameError {
    /// No free range is large enough.
    OutOfMemory {
        /// Bytes asked for.
        wanted: u64,
        /// The alignment asked for, in bytes.
        align: u64,
        /// Bytes free altogether.
        left: u64,
        /// Bytes of the largest free range.
        largest: u64,
    },
    /// There are more free ranges than the allocator can keep apart; the range given is lost.
    TooManyRanges {
        /// Bytes lost.
        lost: u64,
    },
    /// The range is partly free already.
    Overlap {
        /// Its first byte.
        base: HostReal,
        /// Its bytes.
        len: u64,
    },
    /// The alignment is no power of two, or an address does not have it.
    BadAlignment {
        /// The address, 0 for a request.
        base: HostReal,
        /// The alignment, in bytes.
        align: u64,
    },
}

impl core::fmt::Display for FrameError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match *self {
            Self::OutOfMemory {
                wanted,
                align,
                left,
                largest,
            } => write!(
                f,
                "out of memory: {wanted:#x} bytes aligned to {align:#x} wanted, {left:#x} free, \
                 largest range {largest:#x}"
            ),
            Self::TooManyRanges { lost } => {
                write!(f, "too many free ranges, {lost:#x} bytes lost")
            }
            Self::Overlap { base, len } => {
                write!(f, "range {base} + {len:#x} is free already")
            }
            Self::BadAlignment { base, align } => {
                write!(f, "{base} is not aligned to {align:#x}")
            }
        }
    }
}

impl core::error::Error for FrameError {}

/// The allocator. Free ranges are sorted by address, never empty, and never adjoin.
#[derive(Debug, Default)]
pub struct FrameAllocator {
    free: ArrayVec<Frames, RANGES>,
}

impl FrameAllocator {
    /// An allocator without any memory.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            free: ArrayVec::new_const(),
        }
    }

    /// Bytes free altogether.
    #[must_use]
    pub fn left(&self) -> u64 {
        self.free.iter().map(Frames::len).sum()
    }

    /// Bytes of the largest free range.
    #[must_use]
    pub fn largest(&self) -> u64 {
        self.free.iter().map(Frames::len).max().unwrap_or(0)
    }

    /// The free ranges, in order: first byte and number of bytes.
    pub fn ranges(&self) -> impl Iterator<Item = (HostReal, u64)> + '_ {
        self.free.iter().map(|frames| (frames.base(), frames.len()))
    }

    /// The error for a request that cannot be served.
    pub(crate) fn out_of_memory(&self, wanted: u64, align: u64) -> FrameError {
        FrameError::OutOfMemory {
            wanted,
            align,
            left: self.left(),
            largest: self.largest(),
        }
    }

    /// Takes memory in, at start or at the end of a partition.
    ///
    /// # Errors
    /// [`FrameError::Overlap`] where part of it is free already, [`FrameError::TooManyRanges`]
    /// where it adjoins no free range and no more can be kept.
    pub fn free(&mut self, frames: Frames) -> Result<(), FrameError> {
        if frames.is_empty() {
            return Ok(());
        }
        let overlap = FrameError::Overlap {
            base: frames.base(),
            len: frames.len(),
        };
        let at = self
            .free
            .partition_point(|range| range.base() < frames.base());
        if self
            .free
            .get(at)
            .is_some_and(|next| frames.end() > next.base())
        {
            return Err(overlap);
        }
        let before = at.checked_sub(1);
        if before
            .and_then(|i| self.free.get(i))
            .is_some_and(|last| last.end() > frames.base())
        {
            return Err(overlap);
        }
        let (at, frames) = match before.and_then(|i| self.free.pop_at(i).map(|last| (i, last))) {
            None => (at, frames),
            Some((i, last)) => match last.join(frames) {
                Ok(joined) => (i, joined),
                Err((last, frames)) => {
                    self.free.insert(i, last);
                    (at, frames)
                }
            },
        };
        let frames = match self.free.pop_at(at) {
            None => frames,
            Some(next) => match frames.join(next) {
                Ok(joined) => joined,
                Err((frames, next)) => {
                    self.free.insert(at, next);
                    frames
                }
            },
        };
        let lost = frames.len();
        self.free
            .try_insert(at, frames)
            .map_err(|_| FrameError::TooManyRanges { lost })
    }

    /// Gives out `len` bytes, not zeroed, from a multiple of `align`.
    ///
    /// # Errors
    /// [`FrameError::OutOfMemory`]; [`FrameError::BadAlignment`] where `align` is no power of two.
    pub fn alloc(&mut self, len: u64, align: u64) -> Result<Frames, FrameError> {
        if !align.is_power_of_two() || len == 0 {
            return Err(FrameError::BadAlignment {
                base: HostReal::new(0),
                align,
            });
        }
        let fitting = self
            .free
            .iter()
            .enumerate()
            .filter(|(_, range)| fit(range, len, align).is_some())
            .min_by_key(|(_, range)| range.len())
            .map(|(at, _)| at);
        let Some(at) = fitting else {
            return Err(self.out_of_memory(len, align));
        };
        let Some(range) = self.free.pop_at(at) else {
            return Err(self.out_of_memory(len, align));
        };
        let head = fit(&range, len, align).unwrap_or(0);
        let (head, rest) = range.split(head);
        let (given, tail) = rest.split(len);
        // One range was taken out, and at most two come back in its place.
        for piece in [tail, head] {
            if !piece.is_empty() && self.free.try_insert(at, piece).is_err() {
                // Dropped: too many ranges, and the request can still be served.
            }
        }
        Ok(given)
    }

    /// Takes `len` bytes from `base` out, so that they are never given; parts that are not free
    /// are none of this allocator's business.
    ///
    /// # Errors
    /// [`FrameError::TooManyRanges`]: the range is out, and so is a neighbour.
    pub fn reserve(&mut self, base: HostReal, len: u64) -> Result<(), FrameError> {
        let end = HostReal::new(base.get().saturating_add(len));
        let mut at = 0;
        while let Some(range) = self.free.get(at) {
            if range.end() <= base || range.base() >= end {
                at += 1;
                continue;
            }
            let Some(range) = self.free.pop_at(at) else {
                break;
            };
            let keep_before = base.offset_from(range.base()).unwrap_or(0);
            let keep_after = range.end().offset_from(end).unwrap_or(0);
            let (before, rest) = range.split(keep_before);
            let taken = rest.len().saturating_sub(keep_after);
            let (_, after) = rest.split(taken);
            for piece in [before, after] {
                if piece.is_empty() {
                    continue;
                }
                let lost = piece.len();
                self.free
                    .try_insert(at, piece)
                    .map_err(|_| FrameError::TooManyRanges { lost })?;
                at += 1;
            }
        }
        Ok(())
    }
}

/// How far into `range` a piece of `len` bytes with this alignment lies, if there is one.
fn fit(range: &Frames, len: u64, align: u64) -> Option<u64> {
    let start = range.base().align_up(align)?;
    let head = start.offset_from(range.base())?;
    (head.checked_add(len)? <= range.len()).then_some(head)
}

#[cfg(test)]
mod tests;
