// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which entries changed since a stream reader last looked, for up to four readers at once.
//!
//! Each reader has one bit for each entry, and a change sets the bits of all readers, so that none
//! takes a change away from another. The four bits of an entry lie side by side: to mark one is one
//! atomic operation however many readers there are, and without any it is a load, a compare and a
//! branch. The memory, half a byte an entry, is reserved when the partition is defined.
//!
//! A reader is registered by [`ChangeLog::open`] before its first pass, which tells everything that
//! is in the table, changed or not. So nothing needs to be marked before: what changes later is
//! either seen by that pass or marked for the next one.
//!
//! # Who marks, and when
//! Whoever changes what the guest sees of an entry calls [`ChangeLog::mark`] while it holds the
//! entry's lock for the change, so that whoever finds the mark and waits for the lock finds the change
//! too. R and C that the processor sets are such a change when somebody collects them into the guest's
//! doubleword 1, and a reader collects them before it tells them: what it told is that doubleword,
//! and every change of that is marked. A reader takes the bit first, and then reads the entry under its
//! lock. Two critical sections of one entry's lock come one after the other, the earlier one visible
//! to the later (taking the lock acquires, letting go releases). From that follows:
//!
//! * *No change is lost around `open`.* It sets the reader's bit in `marking` before the reader's
//!   first critical section of the entry. A changer whose section comes later loads `marking` after
//!   that, and marks. One whose section came earlier has made its change, and the reader reads it.
//!   So the load in `mark` needs no barrier of its own. An entry must not be looked at without its
//!   lock to save time, not even one that seems free: then both sides could miss each other's store.
//! * *No change is lost around `take`.* If the bit that `take` cleared was set by a changer, that
//!   changer's section is not later than the reader's: it would have marked after the reader had
//!   cleared. So the reader sees the change. If `take` came before the mark, the bit is there for
//!   the next pass, and at worst an entry is told twice.
//!
//! Marks are stored with release and taken with acquire all the same; this costs nothing where
//! nobody reads, and lets somebody who has stopped the partition read without locks.
//!
//! A change of the whole table has no entry's lock to rest on: see [`ChangeLog::mark_all`].

use crate::frame::{FrameAllocator, FrameError};
use crate::page_ops::{CACHE_BLOCK, PageOps};
use crate::real::RealArray;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use core::sync::atomic::{AtomicU64, fence};
use penstock_arch::addr::HostReal;
use penstock_arch::hash::HpteIndex;

/// How many readers there can be at once.
pub const READERS: u32 = 4;

/// Entries whose bits lie in one word.
const ENTRIES_PER_WORD: u64 = (u64::BITS / READERS) as u64;
/// Entries whose bits lie in one cache block.
const ENTRIES_PER_BLOCK: u64 = CACHE_BLOCK * 8 / READERS as u64;
/// One bit of each entry in a word: times a set of readers, the bits of them all.
const EVERY_ENTRY: u64 = 0x1111_1111_1111_1111;

const _: () = assert!(u64::BITS.is_multiple_of(READERS));
const _: () = assert!(EVERY_ENTRY.count_ones() as u64 == ENTRIES_PER_WORD);

/// One reader of a [`ChangeLog`]. Its place is free again only through [`ChangeLog::close`].
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a reader that is not closed keeps its place"]
pub struct ReaderId(u32);

/// For each reader, the entries that changed since it last looked.
#[derive(Debug)]
pub struct ChangeLog {
    bits: RealArray<AtomicU64>,
    entries: u64,
    /// The readers that changes are marked for, one bit each.
    marking: AtomicU64,
    /// The places that are taken: those of `marking`, and of readers being opened or closed.
    places: AtomicU64,
}

impl ChangeLog {
    /// Bytes of memory for a table of `entries`.
    #[must_use]
    pub const fn bytes(entries: u64) -> u64 {
        // At least one block, for there is no empty array.
        let last = if entries == 0 { 0 } else { entries - 1 };
        (last / ENTRIES_PER_BLOCK + 1) * CACHE_BLOCK
    }

    /// A log without readers for a table of `entries`.
    ///
    /// # Errors
    /// `allocator` has too little memory.
    pub fn new(
        entries: u64,
        allocator: &mut FrameAllocator,
        ops: &impl PageOps,
    ) -> Result<Self, FrameError> {
        let frames = allocator.alloc(Self::bytes(entries), CACHE_BLOCK)?;
        let bits = RealArray::new(frames, ops).map_err(|_| FrameError::BadAlignment {
            base: HostReal::new(0),
            align: CACHE_BLOCK,
        })?;
        Ok(Self {
            bits,
            entries,
            marking: AtomicU64::new(0),
            places: AtomicU64::new(0),
        })
    }

    /// Gives the memory back.
    ///
    /// # Errors
    /// The allocator cannot keep track of so many ranges; the memory is lost.
    pub fn release(self, allocator: &mut FrameAllocator) -> Result<(), FrameError> {
        allocator.free(self.bits.into_frames())
    }

    /// Number of entries of the table.
    #[must_use]
    pub const fn entries(&self) -> u64 {
        self.entries
    }

    /// Number of readers.
    #[must_use]
    pub fn readers(&self) -> u32 {
        self.marking.load(Relaxed).count_ones()
    }

    /// Whether anybody reads. To be asked with an entry's lock held, for that entry.
    #[inline]
    #[must_use]
    pub fn is_read(&self) -> bool {
        self.marking.load(Relaxed) != 0
    }

    /// The entry changed. Its lock is held, and stays so until the change is done.
    #[inline]
    pub fn mark(&self, index: HpteIndex) {
        let readers = self.marking.load(Relaxed);
        if readers != 0 {
            self.mark_for(index, readers);
        }
    }

    #[cold]
    #[inline(never)]
    fn mark_for(&self, index: HpteIndex, readers: u64) {
        if let Some((word, shift)) = self.place(index.get()) {
            word.fetch_or(readers << shift, Release);
        }
    }

    /// Any entry may have changed. The change is done, and the caller has kept others from opening
    /// a reader meanwhile, for there is no entry's lock that would do so.
    pub fn mark_all(&self) {
        let readers = self.marking.load(Relaxed);
        if readers == 0 {
            return;
        }
        for word in &*self.bits {
            word.fetch_or(readers * EVERY_ENTRY, Release);
        }
    }

    /// A new reader, or `None` where there are four. From now on changes are marked for it; none
    /// is marked yet.
    ///
    /// Reads one word for each 16 entries, and writes only those that a former reader left marks
    /// in.
    pub fn open(&self) -> Option<ReaderId> {
        let slot = self.take_place()?;
        let reader = 1 << slot;
        for word in &*self.bits {
            if word.load(Relaxed) & (reader * EVERY_ENTRY) != 0 {
                word.fetch_and(!(reader * EVERY_ENTRY), Relaxed);
            }
        }
        self.marking.fetch_or(reader, Relaxed);
        // The reader's own locks make this visible in time; the fence is for one that has stopped
        // the partition and takes none.
        fence(SeqCst);
        Some(ReaderId(slot))
    }

    /// Takes the first free place.
    fn take_place(&self) -> Option<u32> {
        let mut places = self.places.load(Relaxed);
        loop {
            let slot = places.trailing_ones();
            if slot >= READERS {
                return None;
            }
            let with = places | 1 << slot;
            // What the former reader in this place did comes before what the new one does.
            match self
                .places
                .compare_exchange_weak(places, with, Acquire, Relaxed)
            {
                Ok(_) => return Some(slot),
                Err(found) => places = found,
            }
        }
    }

    /// Ends a reader. A changer that saw it still there may leave a mark, which [`Self::open`]
    /// clears, or which makes the next reader in this place look at an entry once more.
    pub fn close(&self, reader: ReaderId) {
        let bit = 1 << reader.0;
        self.marking.fetch_and(!bit, Relaxed);
        self.places.fetch_and(!bit, Release);
    }

    /// Whether the entry changed since this reader's last `take` of it, or since `open`; forgets it
    /// for this reader. To be called before the entry is read.
    pub fn take(&self, reader: &ReaderId, index: HpteIndex) -> bool {
        let Some((word, shift)) = self.place(index.get()) else {
            return false;
        };
        let bit = 1 << reader.0 << shift;
        // A mark that this load does not see yet is for the next pass.
        word.load(Relaxed) & bit != 0 && word.fetch_and(!bit, Acquire) & bit != 0
    }

    /// The first entry from `from` on, and before `end`, that is marked for this reader; `end` where
    /// there is none. It stays marked.
    #[must_use]
    pub fn next_marked(&self, reader: &ReaderId, from: u64, end: u64) -> u64 {
        let end_of_table = end.min(self.entries);
        let mine = EVERY_ENTRY << reader.0;
        let mut at = from;
        while at < end_of_table {
            let Some((word, shift)) = self.place(at) else {
                break;
            };
            let marks = (word.load(Relaxed) & mine) >> shift;
            if marks != 0 {
                let found = at + u64::from(marks.trailing_zeros() / READERS);
                return if found < end_of_table { found } else { end };
            }
            at = (at / ENTRIES_PER_WORD + 1) * ENTRIES_PER_WORD;
        }
        end
    }

    /// The word with an entry's bits, and how far from its low-order end they are.
    #[inline]
    fn place(&self, index: u64) -> Option<(&AtomicU64, u32)> {
        if index >= self.entries {
            return None;
        }
        let word = usize::try_from(index / ENTRIES_PER_WORD).ok()?;
        let within = u32::try_from(index % ENTRIES_PER_WORD).ok()?;
        Some((self.bits.cell(word)?, within * READERS))
    }
}

#[cfg(test)]
mod tests;
