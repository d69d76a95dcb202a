// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tests of the change log by itself; `crate::stream` has those of readers over it.

extern crate std;

use super::*;
use crate::fake::{TestMachine, TestMemory};
use penstock_arch::fake::{steps, unless_miri};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::vec::Vec;

const ENTRIES: u64 = unless_miri(1000, 300);

struct Fixture {
    log: ChangeLog,
    _host: TestMemory,
}

impl core::ops::Deref for Fixture {
    type Target = ChangeLog;

    fn deref(&self) -> &ChangeLog {
        &self.log
    }
}

fn log(entries: u64) -> Fixture {
    let host = TestMemory::new(0x1_0000);
    // Whoever relies on zeroed memory must zero it.
    host.fill(0xff);
    let log = ChangeLog::new(entries, &mut host.frames(), &TestMachine::new()).unwrap();
    Fixture { log, _host: host }
}

impl Fixture {
    fn mark_at(&self, index: u64) {
        self.mark(HpteIndex::new(index));
    }

    fn taken(&self, reader: &ReaderId) -> Vec<u64> {
        (0..self.entries())
            .filter(|&index| self.take(reader, HpteIndex::new(index)))
            .collect()
    }

    fn is_clear(&self) -> bool {
        self.bits.iter().all(|word| word.load(Relaxed) == 0)
    }
}

#[test]
fn nothing_is_marked_while_nobody_reads() {
    let log = log(ENTRIES);
    log.mark_at(7);
    log.mark_all();
    assert!(log.is_clear());
    assert_eq!(log.readers(), 0);
}

#[test]
fn each_of_four_readers_takes_every_change_once() {
    let log = log(ENTRIES);
    let readers: Vec<_> = core::iter::from_fn(|| log.open()).collect();
    assert_eq!(readers.len(), 4);
    assert_eq!(log.readers(), 4);
    log.mark_at(0);
    log.mark_at(17);
    log.mark_at(ENTRIES - 1);
    for reader in &readers {
        assert_eq!(log.taken(reader), [0, 17, ENTRIES - 1]);
        assert_eq!(log.taken(reader), []);
    }
    assert!(log.is_clear());
}

#[test]
fn a_reader_is_told_only_of_what_came_after_it() {
    let log = log(ENTRIES);
    let first = log.open().unwrap();
    log.mark_at(5);
    let second = log.open().unwrap();
    log.mark_at(6);
    assert_eq!(log.taken(&second), [6]);
    assert_eq!(log.taken(&first), [5, 6]);
}

#[test]
fn a_place_is_free_again_after_close_and_its_marks_are_gone() {
    let log = log(ENTRIES);
    let mut readers: Vec<_> = core::iter::from_fn(|| log.open()).collect();
    log.mark_all();
    log.close(readers.remove(2));
    let new = log.open().unwrap();
    assert_eq!(log.open(), None);
    assert_eq!(log.taken(&new), []);
    log.mark_at(8);
    assert_eq!(log.taken(&new), [8]);
    // The others kept theirs.
    for reader in &readers {
        assert_eq!(log.taken(reader).len() as u64, ENTRIES);
    }
}

#[test]
fn a_closed_reader_is_marked_for_no_more() {
    let log = log(ENTRIES);
    let reader = log.open().unwrap();
    log.close(reader);
    log.mark_at(3);
    assert!(log.is_clear());
}

#[test]
fn all_are_marked_at_once_whatever_the_size() {
    for entries in [1, 15, 16, 17, 256, 257, ENTRIES] {
        let log = log(entries);
        let reader = log.open().unwrap();
        log.mark_all();
        assert_eq!(log.taken(&reader).len() as u64, entries);
        log.mark_all();
        assert_eq!(log.next_marked(&reader, entries, entries + 9), entries + 9);
    }
}

#[test]
fn entries_beyond_the_table_are_ignored() {
    let log = log(ENTRIES);
    let reader = log.open().unwrap();
    for index in [ENTRIES, ENTRIES + 1, 1 << 32, u64::MAX] {
        log.mark_at(index);
        assert!(!log.take(&reader, HpteIndex::new(index)));
        assert_eq!(log.next_marked(&reader, index, u64::MAX), u64::MAX);
    }
    assert!(log.is_clear());
}

#[test]
fn memory_is_half_a_byte_an_entry_and_comes_back() {
    // One bit for each of four readers: 512 KiB beside a table of 16 MiB.
    assert_eq!(ChangeLog::bytes(1 << 20), 512 << 10);
    assert_eq!(ChangeLog::bytes(1), 128);
    assert_eq!(ChangeLog::bytes(257), 256);
    let host = TestMemory::new(0x1_0000);
    let mut allocator = host.frames();
    let before = allocator.left();
    let log = ChangeLog::new(1 << 14, &mut allocator, &TestMachine::new()).unwrap();
    assert_eq!(before - allocator.left(), 8 << 10);
    log.release(&mut allocator).unwrap();
    assert_eq!(allocator.left(), before);
    assert!(matches!(
        ChangeLog::new(1 << 24, &mut allocator, &TestMachine::new()),
        Err(FrameError::OutOfMemory { wanted, .. }) if wanted == 8 << 20
    ));
    assert_eq!(allocator.left(), before);
}

#[derive(Clone, Debug)]
enum Op {
    Mark(u64),
    Take(usize, u64),
    Find(usize, u64, u64),
    Reopen(usize),
    MarkAll,
}

fn op() -> impl Strategy<Value = Op> {
    let index = 0..ENTRIES + 20;
    prop_oneof![
        8 => index.clone().prop_map(Op::Mark),
        6 => (0..4usize, index.clone()).prop_map(|(reader, index)| Op::Take(reader, index)),
        4 => (0..4usize, index.clone(), index).prop_map(|(r, from, end)| Op::Find(r, from, end)),
        1 => (0..4usize).prop_map(Op::Reopen),
        1 => Just(Op::MarkAll),
    ]
}

proptest! {
    #![proptest_config(crate::hpt::tests::config())]

    #[test]
    fn agrees_with_sets_of_numbers(ops in prop::collection::vec(op(), 1..steps(200))) {
        let log = log(ENTRIES);
        // Place and model of a reader. Places are given from the lowest, so all stay in order.
        let mut readers: Vec<(ReaderId, BTreeSet<u64>)> =
            core::iter::from_fn(|| log.open()).map(|id| (id, BTreeSet::new())).collect();
        for op in ops {
            match op {
                Op::Mark(index) => {
                    log.mark_at(index);
                    for (_, model) in readers.iter_mut().filter(|_| index < ENTRIES) {
                        model.insert(index);
                    }
                }
                Op::Take(reader, index) => {
                    let (id, model) = &mut readers[reader];
                    prop_assert_eq!(log.take(id, HpteIndex::new(index)), model.remove(&index));
                }
                Op::Find(reader, from, end) => {
                    let (id, model) = &readers[reader];
                    let found = (from..end).find(|index| model.contains(index)).unwrap_or(end);
                    prop_assert_eq!(log.next_marked(id, from, end), found);
                }
                Op::Reopen(reader) => {
                    let (id, _) = readers.remove(reader);
                    log.close(id);
                    readers.insert(reader, (log.open().unwrap(), BTreeSet::new()));
                }
                Op::MarkAll => {
                    log.mark_all();
                    for (_, model) in &mut readers {
                        model.extend(0..ENTRIES);
                    }
                }
            }
        }
        for (id, model) in &readers {
            prop_assert_eq!(log.taken(id), model.iter().copied().collect::<Vec<_>>());
        }
    }
}
