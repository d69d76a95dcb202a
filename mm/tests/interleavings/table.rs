// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A model of the table (`hpt/table.rs`) for [`crate::ring`]: the same cells with the same orders of
//! memory, in the processor's byte order.

use crate::sync::{AtomicU64, Ordering, fence, spin_loop};
use loom::sync::atomic::AtomicU64 as Plain;
use penstock_arch::hash::HpteIndex;

/// The lock.
const LOCKED: u64 = 1;
/// The hardware may use the entry.
pub(super) const VALID: u64 = 2;
/// The guest has the entry, the hardware does not.
pub(super) const ABSENT: u64 = 4;

/// Entries of the table.
pub(super) const ENTRIES: usize = 3;

/// Doublewords 0 and 1, and the links.
#[derive(Default)]
struct Cells {
    v: AtomicU64,
    r: Plain,
    next: Plain,
    previous: Plain,
}

pub(super) struct Table([Cells; ENTRIES]);

#[derive(Clone, Copy)]
pub(super) struct Entry<'a> {
    pub(super) index: HpteIndex,
    cells: &'a Cells,
}

impl Table {
    pub(super) fn new() -> Self {
        Self(core::array::from_fn(|_| Cells::default()))
    }

    pub(super) fn entry(&self, index: HpteIndex) -> Entry<'_> {
        let number = usize::try_from(index.get()).unwrap();
        Entry {
            index,
            cells: &self.0[number],
        }
    }
}

impl Entry<'_> {
    pub(super) fn next(self) -> HpteIndex {
        HpteIndex::new(self.cells.next.load(Ordering::Relaxed))
    }

    pub(super) fn previous(self) -> HpteIndex {
        HpteIndex::new(self.cells.previous.load(Ordering::Relaxed))
    }

    pub(super) fn set_next(self, next: HpteIndex) {
        self.cells.next.store(next.get(), Ordering::Relaxed);
    }

    pub(super) fn set_previous(self, previous: HpteIndex) {
        self.cells.previous.store(previous.get(), Ordering::Relaxed);
    }

    pub(super) fn set_links(self, next: HpteIndex, previous: HpteIndex) {
        self.set_next(next);
        self.set_previous(previous);
    }

    /// `Entry::try_lock`, by `BeCell::set_bit`.
    pub(super) fn try_lock(self) -> bool {
        self.cells.v.fetch_or(LOCKED, Ordering::Acquire) & LOCKED == 0
    }

    /// `Entry::lock_free`, by `BeCell::replace_zero`.
    pub(super) fn lock_free(self) -> bool {
        self.cells
            .v
            .compare_exchange(0, LOCKED, Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
    }

    /// `wait_for_lock` of `hpt/guard.rs`.
    pub(super) fn lock(self) {
        while !self.try_lock() {
            self.wait();
        }
    }

    /// `HashMmu::wait_for`.
    pub(super) fn wait(self) {
        while self.cells.v.load(Ordering::Relaxed) & LOCKED != 0 {
            spin_loop();
        }
    }

    /// Doubleword 0 without the lock.
    pub(super) fn load_v(self) -> u64 {
        self.cells.v.load(Ordering::Relaxed) & !LOCKED
    }

    /// Doubleword 0, the lock included.
    pub(super) fn load_raw_v(self) -> u64 {
        self.cells.v.load(Ordering::Relaxed)
    }

    /// `Entry::store_v`: also unlocks.
    pub(super) fn store_v(self, v: u64) {
        fence(Ordering::Release);
        self.cells.v.store(v, Ordering::Relaxed);
    }

    pub(super) fn load_r(self) -> u64 {
        self.cells.r.load(Ordering::Relaxed)
    }

    pub(super) fn store_r(self, r: u64) {
        self.cells.r.store(r, Ordering::Relaxed);
    }
}
