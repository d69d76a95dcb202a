// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Event queues: rings of words in memory that the router fills.
//!
//! An entry is a big-endian word: a generation bit and 31 bits of data, the EISN. The router starts
//! at index 0 with generation 1 and toggles the bit each time it wraps, so in a zeroed page an
//! entry is new exactly when its bit differs from the one that the previous round left. Nothing
//! tells the router how far software has read: a queue must never be given more than it holds,
//! which the P bits of its sources see to ([`crate::source`]).

use core::sync::atomic::{AtomicU32, Ordering};

use penstock_arch::addr::HostReal;

use crate::ids::Eisn;

/// How the kernel reads event queues; ordinary, cacheable memory.
pub trait QueueMemory {
    /// The big-endian word at this many bytes into the queue, as a number.
    fn load_entry(&self, queue: HostReal, offset: u64) -> u32;
}

/// One word of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct EqEntry(pub u32);

impl EqEntry {
    /// The bit that toggles with each round.
    #[inline]
    #[must_use]
    pub const fn generation(self) -> u32 {
        self.0 >> 31
    }

    /// The data.
    #[inline]
    #[must_use]
    pub const fn eisn(self) -> Eisn {
        Eisn::new(self.0 & 0x7fff_ffff)
    }
}

/// Log2 of the size in bytes of the queues of an XICS guest.
pub const QUEUE_SIZE_LOG2: u32 = 12;
/// Entries in each of them.
pub const QUEUE_ENTRIES: u32 = 1 << ENTRIES_LOG2;
const ENTRIES_LOG2: u32 = QUEUE_SIZE_LOG2 - 2;

/// The reader's side of one queue of [`QUEUE_ENTRIES`].
///
/// Only the thread that runs the vCPU takes entries; any thread may look.
#[derive(Debug)]
pub struct EventQueue {
    page: HostReal,
    /// Entries ever taken; the low bits are the index, the next one the generation passed.
    taken: AtomicU32,
}

impl EventQueue {
    /// The queue in this zeroed page, as firmware has just set it up.
    #[must_use]
    pub const fn new(page: HostReal) -> Self {
        Self {
            page,
            taken: AtomicU32::new(0),
        }
    }

    /// Where the queue lies.
    #[must_use]
    pub const fn page(&self) -> HostReal {
        self.page
    }

    /// The entry `ahead` places after the next one, if the router has written it.
    #[inline]
    pub fn peek<Q: QueueMemory>(&self, memory: &Q, ahead: u32) -> Option<Eisn> {
        let position = self.taken.load(Ordering::Relaxed).wrapping_add(ahead);
        let index = position & (QUEUE_ENTRIES - 1);
        let passed = (position >> ENTRIES_LOG2) & 1;
        let entry = EqEntry(memory.load_entry(self.page, u64::from(index) << 2));
        if entry.generation() == passed {
            None
        } else {
            Some(entry.eisn())
        }
    }

    /// Whether there is nothing to take.
    #[inline]
    pub fn is_empty<Q: QueueMemory>(&self, memory: &Q) -> bool {
        self.peek(memory, 0).is_none()
    }

    /// Takes the next entry.
    #[inline]
    pub fn take<Q: QueueMemory>(&self, memory: &Q) -> Option<Eisn> {
        let eisn = self.peek(memory, 0)?;
        // Only one thread takes, so this need not be one atomic operation.
        let taken = self.taken.load(Ordering::Relaxed);
        self.taken.store(taken.wrapping_add(1), Ordering::Relaxed);
        Some(eisn)
    }
}

#[cfg(test)]
mod tests {
    use core::cell::RefCell;
    use std::vec;
    use std::vec::Vec;

    use super::*;

    struct Page(RefCell<Vec<u32>>);

    impl QueueMemory for Page {
        fn load_entry(&self, _queue: HostReal, offset: u64) -> u32 {
            self.0.borrow()[usize::try_from(offset / 4).unwrap()]
        }
    }

    #[test]
    fn entry_splits_into_generation_and_data() {
        // Measured: the first entry of a queue, EISN 0x1234.
        assert_eq!(EqEntry(0x8000_1234).generation(), 1);
        assert_eq!(EqEntry(0x8000_1234).eisn(), Eisn::new(0x1234));
        assert_eq!(EqEntry(0x0000_0777).generation(), 0);
    }

    #[test]
    fn generation_tells_new_entries_over_three_rounds() {
        let page = Page(RefCell::new(vec![0; QUEUE_ENTRIES as usize]));
        let queue = EventQueue::new(HostReal::new(0));
        for written in 0..3 * QUEUE_ENTRIES {
            assert!(queue.is_empty(&page));
            let round = written / QUEUE_ENTRIES;
            let index = (written % QUEUE_ENTRIES) as usize;
            page.0.borrow_mut()[index] = ((round + 1) & 1) << 31 | (written + 1);
            assert_eq!(queue.peek(&page, 0), Some(Eisn::new(written + 1)));
            assert_eq!(queue.peek(&page, 1), None);
            assert_eq!(queue.take(&page), Some(Eisn::new(written + 1)));
        }
        assert_eq!(queue.take(&page), None);
    }
}
