// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Revoking: once a change of a piece's word is flushed, no valid entry says more than the word
//! permits; and whoever adds, removes and walks never waits for ever.
//!
//! The word is 1 while the guest may store to the piece, doubleword 1 of an
//! entry is 1 where it lets the guest store.

use crate::page::Page;
use crate::ring::{self, Ring};
use crate::sync::Ordering;
use crate::table::{ABSENT, ENTRIES, Entry, VALID};
use core::ops::Deref;
use loom::sync::Arc;

/// The word while the guest may store to the piece.
const WRITABLE: u64 = 1;
/// The word while it may only load.
const GUARDED: u64 = 0;

struct Partition(Page);

impl Deref for Partition {
    type Target = Page;

    fn deref(&self) -> &Page {
        &self.0
    }
}

impl Partition {
    fn new() -> Arc<Self> {
        Arc::new(Self(Page::new(WRITABLE)))
    }

    fn enter(&self, number: u64) {
        let entry = self.link(number);
        // `PieceTable::load_locked`.
        entry.store_r(self.word.load(Ordering::Relaxed));
        entry.store_v(VALID);
    }

    /// H_REMOVE: `lock`, `quiesce`, `retire`, `clear`.
    fn remove(&self, number: u64) {
        let entry = self.entry(number);
        entry.lock();
        let v = entry.load_v();
        assert!(v == VALID || v == ABSENT, "nobody else removes it");
        Ring::lock(&self.head).unlink(|| &self.table, entry, true);
        entry.store_v(0);
    }

    /// `HashMmu::lock` and `settle`, as H_PROTECT does: two locks wanted in the other order.
    fn protect(&self, number: u64) {
        let entry = self.entry(number);
        entry.lock();
        if entry.load_v() != 0 {
            self.settle(entry);
        } else {
            entry.store_v(0);
        }
    }

    /// `Quiesced::settle`.
    fn settle(&self, entry: Entry<'_>) {
        entry.store_r(self.word.load(Ordering::Relaxed));
        entry.store_v(VALID);
    }

    /// `HashMmu::walk_ring`; `each` unlocks the entry.
    fn walk(&self, mut each: impl FnMut(Entry<'_>)) {
        'again: loop {
            let ring = Ring::lock(&self.head);
            let Some(first) = ring.first() else {
                return;
            };
            let mut index = first;
            loop {
                let entry = self.table.entry(index);
                if !entry.try_lock() {
                    drop(ring);
                    entry.wait();
                    continue 'again;
                }
                each(entry);
                index = entry.next();
                if index == first {
                    return;
                }
            }
        }
    }

    /// `Obligation::and_change` and `finish`: the word first, then hide, flush and settle.
    fn revoke(&self) {
        self.word.swap(GUARDED, Ordering::AcqRel);
        self.walk(|entry| {
            let v = entry.load_v();
            if v == VALID && entry.load_r() > GUARDED {
                entry.store_v(ABSENT);
            } else {
                entry.store_v(v);
            }
        });
        // The flush. `Heads::Occupied` from here on.
        if !ring::is_idle(&self.head) {
            self.walk(|entry| {
                if entry.load_v() == ABSENT {
                    self.settle(entry);
                } else {
                    entry.store_v(entry.load_v());
                }
            });
        }
        self.assert_revoked();
    }

    fn assert_revoked(&self) {
        for number in 0..ENTRIES as u64 {
            let entry = self.entry(number);
            entry.lock();
            let v = entry.load_v();
            if v == VALID {
                let r = entry.load_r();
                assert_eq!(r, GUARDED, "entry {number} says more than its word");
            }
            entry.store_v(v);
        }
    }

    /// With nobody else about: the ring has each entry that the guest has, and no other.
    fn assert_whole(&self) {
        let mut found = 0;
        self.walk(|entry| {
            let v = entry.load_v();
            assert_eq!(v, VALID, "nothing stays hidden");
            assert_eq!(self.table.entry(entry.next()).previous(), entry.index);
            found |= 1 << entry.index.get();
            entry.store_v(v);
        });
        let has = |&number: &u64| self.entry(number).load_v() != 0;
        let present: u64 = (0..ENTRIES as u64).filter(has).map(|n| 1 << n).sum();
        assert_eq!(found, present, "the ring and the table differ");
    }
}

#[test]
fn loom_revoke_against_two_that_enter() {
    crate::check("a revoker, two that enter", 1, || {
        let p = Partition::new();
        let threads = [0, 1].map(|number| crate::spawn(&p, move |p| p.enter(number)));
        p.revoke();
        crate::join(threads);
        p.assert_revoked();
        p.assert_whole();
    });
}

#[test]
fn loom_revoke_against_one_that_enters_and_one_that_removes() {
    crate::check("a revoker, one that enters, one that removes", 1, || {
        let p = Partition::new();
        p.enter(1);
        p.enter(2);
        let threads = [
            crate::spawn(&p, |p| p.enter(0)),
            crate::spawn(&p, |p| p.remove(1)),
        ];
        p.revoke();
        crate::join(threads);
        p.assert_revoked();
        p.assert_whole();
        let mut ring = Ring::lock(&p.head);
        assert!(
            ring.take_used().is_some(),
            "the entry that is gone was referenced"
        );
    });
}

#[test]
fn loom_revoke_against_two_that_enter_and_remove() {
    crate::check("a revoker, two that enter and remove", 1, || {
        let p = Partition::new();
        let threads = [0, 1].map(|number| {
            crate::spawn(&p, move |p| {
                p.enter(number);
                p.remove(number);
            })
        });
        p.revoke();
        crate::join(threads);
        p.assert_whole();
    });
}

/// Who removes holds the entry and wants the head; who walks holds the head and wants the entry.
#[test]
fn loom_abba_of_entry_and_head() {
    crate::check("one that removes and enters against a walk", 3, || {
        let p = Partition::new();
        p.enter(0);
        let thread = crate::spawn(&p, |p| {
            p.remove(0);
            p.enter(0);
        });
        p.revoke();
        thread.join().unwrap();
        p.assert_revoked();
        p.assert_whole();
    });
}

#[test]
fn loom_revoke_against_one_that_protects() {
    crate::check("a revoker, one that protects, one that enters", 1, || {
        let p = Partition::new();
        p.enter(0);
        let threads = [
            crate::spawn(&p, |p| p.protect(0)),
            crate::spawn(&p, |p| p.enter(1)),
        ];
        p.revoke();
        crate::join(threads);
        p.assert_revoked();
        p.assert_whole();
    });
}
