// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The reverse map: for each granule of a slot, the ring of the entries that map it.
//!
//! The head holds a lock, whether the ring has entries, the number of one of them, and what was used
//! of the pages that begin here. The links lie beside the entries. Whoever holds the head's lock owns
//! all links of the ring.
//!
//! An entry is in the ring of the first granule that it covers from before it is first valid or
//! absent until it is removed.
//!
//! Lock order: an entry's lock, then a head's. A walk holds the head's lock and takes entries' locks by
//! trying; where that fails it lets go of the head, waits, and begins the ring again.

use super::sync::held::{self, Lock};
use super::sync::{AtomicU64, Ordering, spin_loop};
use super::table::{Entry, Table};
use penstock_arch::hash::{HpteIndex, PageSize};

/// The lock.
const LOCK: u64 = 1 << 63;
/// A page of 16 MiB, 64 KiB, 4 KiB that begins here was used since the last look. Of what is gone the size
/// is not kept: it counts as the smallest.
const USED_16M: u64 = 1 << 62;
const USED_64K: u64 = 1 << 61;
const USED_4K: u64 = 1 << 60;
const USED: u64 = USED_16M | USED_64K | USED_4K;
/// The ring has entries.
const OCCUPIED: u64 = 1 << 32;
/// The number of one of them.
const INDEX: u64 = OCCUPIED - 1;

/// A locked head. Dropping it unlocks.
pub(super) struct Ring<'a> {
    head: &'a AtomicU64,
    /// The head without the lock bit.
    value: u64,
}

impl<'a> Ring<'a> {
    /// Locks a head, waiting for whoever has it: a few instructions' time.
    #[inline]
    pub(super) fn lock(head: &'a AtomicU64) -> Self {
        held::wanted(Lock::Head);
        loop {
            let value = head.fetch_or(LOCK, Ordering::Acquire);
            if value & LOCK == 0 {
                held::taken(Lock::Head);
                return Self { head, value };
            }
            wait(head);
        }
    }

    /// The first entry, if there is one.
    #[inline]
    pub(super) const fn first(&self) -> Option<HpteIndex> {
        if self.value & OCCUPIED == 0 {
            None
        } else {
            Some(HpteIndex::new(self.value & INDEX))
        }
    }

    /// Adds an entry.
    #[inline]
    pub(super) fn link(&mut self, table: &Table, entry: Entry<'_>) {
        let index = entry.index;
        match self.first() {
            None => {
                entry.set_links(index, index);
                self.value |= OCCUPIED | index.get();
            }
            Some(first) => {
                let first_entry = table.entry(first);
                let last = first_entry.previous();
                entry.set_links(first, last);
                first_entry.set_previous(index);
                table.entry(last).set_next(index);
            }
        }
    }

    /// Takes an entry out; `referenced` is remembered.
    // Most rings have one entry, and then nobody needs the table.
    #[inline]
    pub(super) fn unlink<'t>(
        &mut self,
        table: impl FnOnce() -> &'t Table,
        entry: Entry<'_>,
        referenced: bool,
    ) {
        let (next, previous) = (entry.next(), entry.previous());
        if next == entry.index {
            self.value &= !(OCCUPIED | INDEX);
        } else {
            let table = table();
            table.entry(previous).set_next(next);
            table.entry(next).set_previous(previous);
            if self.value & INDEX == entry.index.get() {
                self.value = (self.value & !INDEX) | next.get();
            }
        }
        if referenced {
            self.value |= USED_4K;
        }
    }

    /// Forgets the entries, whose links are void from now on.
    pub(super) fn empty(&mut self) {
        self.value &= !(OCCUPIED | INDEX);
    }

    /// Remembers that a page of this size, which begins here, was used.
    pub(super) fn note_used(&mut self, size: PageSize) {
        self.value |= match size {
            PageSize::P16M => USED_16M,
            PageSize::P64K => USED_64K,
            PageSize::P4K => USED_4K,
        };
    }

    /// The largest page that begins here and was used since the last call.
    pub(super) fn take_used(&mut self) -> Option<PageSize> {
        let used = self.value & USED;
        self.value &= !USED;
        match used {
            0 => None,
            _ if used & USED_16M != 0 => Some(PageSize::P16M),
            _ if used & USED_64K != 0 => Some(PageSize::P64K),
            _ => Some(PageSize::P4K),
        }
    }
}

impl Drop for Ring<'_> {
    #[inline]
    fn drop(&mut self) {
        self.head.store(self.value, Ordering::Release);
        held::left(Lock::Head);
    }
}

#[cold]
fn wait(head: &AtomicU64) {
    while head.load(Ordering::Relaxed) & LOCK != 0 {
        spin_loop();
    }
}

/// Whether a ring has no entries, and remembers no use of a page, at a glance.
#[inline]
pub(super) fn is_idle(head: &AtomicU64) -> bool {
    head.load(Ordering::Acquire) & (OCCUPIED | USED) == 0
}
