// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One piece of memory with one ring, and a table of entries that map it.

use crate::ring::Ring;
use crate::sync::AtomicU64;
use crate::table::{Entry, Table};
use penstock_arch::hash::HpteIndex;

pub(super) struct Page {
    pub(super) table: Table,
    pub(super) head: AtomicU64,
    /// What is known of the piece.
    pub(super) word: AtomicU64,
}

impl Page {
    pub(super) fn new(word: u64) -> Self {
        Self {
            table: Table::new(),
            head: AtomicU64::new(0),
            word: AtomicU64::new(word),
        }
    }

    pub(super) fn entry(&self, number: u64) -> Entry<'_> {
        self.table.entry(HpteIndex::new(number))
    }

    /// The beginning of `claim_exact` or `try_lock_free` and `Quiesced::enter`: locks an entry that is free,
    /// and puts it into the ring before the word is read.
    pub(super) fn link(&self, number: u64) -> Entry<'_> {
        let entry = self.entry(number);
        if !entry.lock_free() {
            entry.lock();
        }
        assert_eq!(entry.load_v(), 0, "each thread has its own entries");
        Ring::lock(&self.head).link(&self.table, entry);
        entry
    }
}
