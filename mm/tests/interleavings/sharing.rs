// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The end of sharing: a piece maps a frame of an image, which another partition maps too, and two
//! processors store to it. The piece is copied once, by whichever comes first; the frame goes to others
//! only when nobody maps it, and nobody reads it as the image's any more then.
//!
//! One entry maps the piece. Its doubleword 1 is the frame, and whether it lets the guest store. A frame
//! is a word: what it holds. A frame that went back to the pool gets [`GARBAGE`].

use crate::ring::{self, Ring};
use crate::sync::{AtomicU64, Ordering};
use crate::table::{ABSENT, Entry, Table, VALID};
use loom::sync::{Arc, Mutex};
use penstock_arch::hash::HpteIndex;

/// `Piece::SHARED`; the number of the frame is below.
const SHARED: u64 = 0x100;
/// In doubleword 1: the guest may store.
const WRITABLE: u64 = 0x200;
const FRAME: u64 = 0xff;
/// The image's frame is number 0.
const IMAGE: u64 = 0;

/// What the image holds, and what whoever has a frame next leaves in it.
const CONTENT: u64 = 1;
const GARBAGE: u64 = 0xdead;

/// The pool: how many pieces map the image's frame, 0 where it is no image's; how many frames were taken.
struct Pool {
    mapped: u64,
    taken: u64,
}

struct Partition {
    table: Table,
    head: AtomicU64,
    word: AtomicU64,
    /// `HashMmu::range_lock`.
    range_lock: Mutex<()>,
    pool: Mutex<Pool>,
    frames: [AtomicU64; 3],
}

impl Partition {
    /// `others` pieces map the image beside ours.
    fn new(others: u64) -> Arc<Self> {
        let frame = |value| AtomicU64::new(value);
        let partition = Self {
            table: Table::new(),
            head: AtomicU64::new(0),
            word: AtomicU64::new(SHARED | IMAGE),
            range_lock: Mutex::new(()),
            pool: Mutex::new(Pool {
                mapped: 1 + others,
                taken: 0,
            }),
            frames: [frame(CONTENT), frame(GARBAGE), frame(GARBAGE)],
        };
        let entry = partition.table.entry(HpteIndex::new(0));
        assert!(entry.lock_free());
        Ring::lock(&partition.head).link(&partition.table, entry);
        entry.store_r(IMAGE);
        entry.store_v(VALID);
        Arc::new(partition)
    }

    fn entry(&self) -> Entry<'_> {
        self.table.entry(HpteIndex::new(0))
    }

    fn frame(&self, word: u64) -> &AtomicU64 {
        &self.frames[usize::try_from(word & FRAME).unwrap()]
    }

    /// `Quiesced::settle`.
    fn settle(&self, entry: Entry<'_>) {
        let word = self.word.load(Ordering::Relaxed);
        let writable = if word & SHARED == 0 { WRITABLE } else { 0 };
        entry.store_r(word & FRAME | writable);
        entry.store_v(VALID);
    }

    /// `HashMmu::walk_ring`; `each` unlocks the entry.
    fn walk(&self, each: impl Fn(Entry<'_>)) {
        loop {
            let ring = Ring::lock(&self.head);
            assert!(!ring::is_idle(&self.head));
            let entry = self.table.entry(ring.first().unwrap());
            if entry.try_lock() {
                each(entry);
                return;
            }
            drop(ring);
            entry.wait();
        }
    }

    /// `Share::take_over`.
    fn take_over(&self) -> bool {
        let mut pool = self.pool.lock().unwrap();
        let ours = pool.mapped == 1;
        if ours {
            pool.mapped = 0;
            pool.taken += 1;
        }
        ours
    }

    /// `Share::unmap`; whoever is next takes the frame at once.
    fn unmap(&self) {
        let mut pool = self.pool.lock().unwrap();
        pool.mapped -= 1;
        let is_free = pool.mapped == 0;
        drop(pool);
        if is_free {
            self.frame(IMAGE).store(GARBAGE, Ordering::Relaxed);
        }
    }

    /// `HashMmu::make_own`.
    fn make_own(&self) {
        let _range = self.range_lock.lock().unwrap();
        // Somebody may have been faster.
        if self.word.load(Ordering::Acquire) & SHARED == 0 {
            return;
        }
        let copies = !self.take_over();
        let own = if copies {
            let mut pool = self.pool.lock().unwrap();
            pool.taken += 1;
            pool.taken
        } else {
            IMAGE
        };
        if copies {
            let content = self.frame(IMAGE).load(Ordering::Relaxed);
            self.frame(own).store(content, Ordering::Relaxed);
        }
        self.word.swap(own, Ordering::AcqRel);
        // `Obligation::and_hide`, the flush, and `finish`.
        self.walk(|entry| {
            assert_eq!(entry.load_v(), VALID);
            entry.store_v(ABSENT);
        });
        self.walk(|entry| match entry.load_v() {
            ABSENT => self.settle(entry),
            v => entry.store_v(v),
        });
        if copies {
            self.unmap();
        }
    }

    /// A processor stores to the piece, and faults until its entry lets it.
    fn store(&self, value: u64) {
        loop {
            let entry = self.entry();
            entry.lock();
            let (v, r) = (entry.load_v(), entry.load_r());
            if v == VALID && r & WRITABLE != 0 {
                // The hardware, which has the translation until it is flushed.
                self.frame(r).fetch_or(value, Ordering::Relaxed);
                entry.store_v(v);
                return;
            }
            entry.store_v(v);
            self.make_own();
        }
    }

    /// `MemoryAccess::read`: with the range lock where the piece is an image's.
    fn read(&self) -> u64 {
        let word = self.word.load(Ordering::Acquire);
        let held = (word & SHARED != 0).then(|| self.range_lock.lock().unwrap());
        let word = self.word.load(Ordering::Acquire);
        let value = self.frame(word).load(Ordering::Relaxed);
        drop(held);
        value
    }

    /// Both stores are there, in a frame of the partition's own that was taken once.
    fn assert_own(&self, stores: u64) {
        let word = self.word.load(Ordering::Relaxed);
        assert_eq!(word & SHARED, 0);
        assert_eq!(self.pool.lock().unwrap().taken, 1, "copied twice");
        let value = self.frame(word).load(Ordering::Relaxed);
        assert_eq!(value, CONTENT | stores, "a store is lost");
        let entry = self.entry();
        assert_eq!(entry.load_r(), word | WRITABLE);
        assert_eq!(entry.load_v(), VALID);
    }
}

#[test]
fn loom_two_that_store_end_sharing_once() {
    crate::check("two that store to a shared piece", 3, || {
        let p = Partition::new(1);
        let other = crate::spawn(&p, |p| p.store(4));
        p.store(2);
        other.join().unwrap();
        p.assert_own(2 | 4);
        // The other partition's piece still has the image.
        assert_eq!(p.pool.lock().unwrap().mapped, 1);
        assert_eq!(p.frame(IMAGE).load(Ordering::Relaxed), CONTENT);
    });
}

#[test]
fn loom_the_last_sharer_takes_the_frame_over() {
    crate::check(
        "two that store to a piece that nobody else shares",
        3,
        || {
            let p = Partition::new(0);
            let other = crate::spawn(&p, |p| p.store(4));
            p.store(2);
            other.join().unwrap();
            p.assert_own(2 | 4);
            assert_eq!(p.word.load(Ordering::Relaxed), IMAGE);
        },
    );
}

/// The other partition ends sharing at the same time: one of the two takes the frame over, or it goes
/// back; and who reads meanwhile sees the image or what was stored, and never what is next's.
#[test]
fn loom_a_reader_never_sees_a_frame_that_went_on() {
    crate::check(
        "one that stores, another sharer that goes, a reader",
        3,
        || {
            let p = Partition::new(1);
            let threads = [
                crate::spawn(&p, |p| p.unmap()),
                crate::spawn(&p, |p| {
                    let value = p.read();
                    assert!(value == CONTENT || value == CONTENT | 2, "{value:#x}");
                }),
            ];
            p.store(2);
            crate::join(threads);
            p.assert_own(2);
            assert_eq!(p.pool.lock().unwrap().mapped, 0);
        },
    );
}
