// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Readers and changers at the same time, with an entry's lock as the real table has it.
//!
//! It shows that the marks are right under threads; what orders of memory accesses may do that
//! this processor never does is argued in [`crate::hpt::changes`].

use super::*;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

const ENTRIES: u64 = 96;

/// Doublewords 0 and 1; the lock is the bit that LoPAR gives the hypervisor.
struct Shared {
    cells: Vec<[AtomicU64; 2]>,
    log: ChangeLog,
    _host: TestMemory,
}

impl Shared {
    fn lock(&self, index: u64) -> (&[AtomicU64; 2], u64) {
        let cells = &self.cells[usize::try_from(index).unwrap()];
        loop {
            let v = cells[0].fetch_or(HpteV::HVLOCK, Ordering::Acquire);
            if v & HpteV::HVLOCK == 0 {
                return (cells, v);
            }
            core::hint::spin_loop();
        }
    }

    fn change(&self, index: u64, v: u64, r: u64) {
        let (cells, _) = self.lock(index);
        cells[1].store(r, Ordering::Relaxed);
        self.log.mark(HpteIndex::new(index));
        cells[0].store(v, Ordering::Release);
    }

    fn get(&self, index: u64) -> Option<GuestHpte> {
        let (cells, v) = self.lock(index);
        let r = cells[1].load(Ordering::Relaxed);
        cells[0].store(v, Ordering::Release);
        (v & HpteV::VALID != 0).then(|| GuestHpte {
            v: GuestHpteV::new(v),
            r: GuestHpteR::new(r),
        })
    }
}

struct View<'a>(&'a Shared, &'a ReaderId);

impl HptSource for View<'_> {
    fn entries(&self) -> u64 {
        ENTRIES
    }

    fn take_changed(&mut self, index: HpteIndex) -> bool {
        self.0.log.take(self.1, index)
    }

    fn entry(&mut self, index: HpteIndex) -> Option<GuestHpte> {
        self.0.get(index.get())
    }

    fn next_changed(&mut self, from: u64, end: u64) -> u64 {
        self.0.log.next_marked(self.1, from, end)
    }
}

/// Numbers that look random.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

/// Passes of both readers after which the changers stop.
const PASSES: u64 = if cfg!(miri) { 4 } else { 60 };

/// Follows the table, from the beginning every few passes, until the changers have stopped, and
/// then once more.
fn follow(shared: &Shared, passes: &AtomicU64, stopped: &AtomicBool) -> Entries {
    loop {
        let id = shared.log.open().unwrap();
        let mut source = View(shared, &id);
        let mut reader = StreamReader::new(&source, little()).unwrap();
        let mut replica = Replica::empty(usize::try_from(ENTRIES).unwrap());
        let mut out = [0; 300];
        for _ in 0..4 {
            // A pass that begins after the stop sees all that was marked.
            let last = stopped.load(Ordering::Acquire) && !reader.is_first_pass();
            loop {
                let progress = reader.read(&mut source, &mut out).unwrap();
                replica.take_in(&out[..progress.bytes], ByteOrder::Little);
                if progress.pass_ended {
                    break;
                }
            }
            passes.fetch_add(1, Ordering::Relaxed);
            if last {
                shared.log.close(id);
                return replica.entries;
            }
        }
        shared.log.close(id);
    }
}

fn change_at_random(shared: &Shared, seed: u64, passes: &AtomicU64) {
    let mut numbers = Numbers(seed);
    while passes.load(Ordering::Relaxed) < PASSES {
        let number = numbers.next();
        let entry = numbered(number >> 40);
        let v = entry.v.get() & !(number >> 7 & 1);
        shared.change(number % ENTRIES, v, entry.r.get());
    }
}

#[test]
fn readers_and_changers_at_once_lose_nothing() {
    for round in 0..u64::from(config().cases.min(100)) {
        let bytes = usize::try_from(ChangeLog::bytes(ENTRIES)).unwrap();
        let host = TestMemory::new(bytes);
        let log = ChangeLog::new(ENTRIES, &mut host.frames(), &TestMachine::new()).unwrap();
        let shared = Shared {
            cells: (0..ENTRIES).map(|_| Default::default()).collect(),
            log,
            _host: host,
        };
        let (passes, stopped) = (AtomicU64::new(0), AtomicBool::new(false));
        let replicas: Vec<Entries> = thread::scope(|scope| {
            let (shared, passes, stopped) = (&shared, &passes, &stopped);
            let changers = [1, 2].map(|changer| {
                scope.spawn(move || change_at_random(shared, round * 2 + changer, passes))
            });
            let readers = [(); 2].map(|()| scope.spawn(|| follow(shared, passes, stopped)));
            for changer in changers {
                changer.join().unwrap();
            }
            stopped.store(true, Ordering::Release);
            readers
                .map(|reader| reader.join().unwrap())
                .into_iter()
                .collect()
        });
        let expected: Entries = (0..ENTRIES).map(|index| shared.get(index)).collect();
        for replica in replicas {
            assert_eq!(replica, expected);
        }
    }
}
