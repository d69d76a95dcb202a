// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tests of the stream: tables, changes to them, and what comes out on the other side.

extern crate std;

mod debian;
mod format;
mod hostile;
mod passes;
mod threads;

use super::*;
use crate::fake::{TestMachine, TestMemory};
use crate::hpt::changes::{ChangeLog, ReaderId};
use crate::hpt::tests::config;
use core::num::NonZeroU32;
use penstock_arch::fake::{steps, unless_miri};
use penstock_arch::hash::{HpteIndex, HpteR, HpteV, PageEncoding, SegmentSize};
use proptest::prelude::*;
use std::vec;
use std::vec::Vec;

type Entries = Vec<Option<GuestHpte>>;

/// A table in use: what is in it, and the log of what changed.
struct Table {
    entries: Entries,
    log: ChangeLog,
    _host: TestMemory,
}

impl Table {
    fn new(entries: Entries) -> Self {
        let count = entries.len() as u64;
        let bytes = ChangeLog::bytes(count);
        let host = TestMemory::new(usize::try_from(bytes).unwrap());
        let log = ChangeLog::new(count, &mut host.frames(), &TestMachine::new()).unwrap();
        Self {
            entries,
            log,
            _host: host,
        }
    }

    fn change(&mut self, index: usize, to: Option<GuestHpte>) {
        self.entries[index] = to;
        self.log.mark(HpteIndex::new(index as u64));
    }

    fn source<'a>(&'a self, reader: &'a ReaderId) -> Source<'a> {
        Source {
            table: self,
            reader,
            skips: true,
            looked_at: 0,
        }
    }
}

/// The table as one reader sees it.
struct Source<'a> {
    table: &'a Table,
    reader: &'a ReaderId,
    /// Whether it has a quick way over unchanged parts.
    skips: bool,
    looked_at: u64,
}

impl HptSource for Source<'_> {
    fn entries(&self) -> u64 {
        self.table.entries.len() as u64
    }

    fn take_changed(&mut self, index: HpteIndex) -> bool {
        self.looked_at += 1;
        self.table.log.take(self.reader, index)
    }

    fn entry(&mut self, index: HpteIndex) -> Option<GuestHpte> {
        self.table.entries[usize::try_from(index.get()).unwrap()]
    }

    fn next_changed(&mut self, from: u64, end: u64) -> u64 {
        if self.skips {
            self.table.log.next_marked(self.reader, from, end)
        } else {
            from
        }
    }
}

/// A table on the other side, where every entry that was parsed is welcome.
struct Replica {
    entries: Entries,
    /// Number of changes.
    changes: u64,
    /// An entry that is not.
    unwelcome: Option<u64>,
}

impl Replica {
    fn empty(count: usize) -> Self {
        Self::with(vec![None; count])
    }

    fn with(entries: Entries) -> Self {
        Self {
            entries,
            changes: 0,
            unwelcome: None,
        }
    }

    /// Takes a stream in as it is made, a buffer at a time.
    fn take_in(&mut self, bytes: &[u8], order: ByteOrder) {
        let entries = self.entries.len() as u64;
        let encoding = Encoding::Bare(order);
        let stream = ParsedStream::parse(bytes, encoding, entries, StartsFrom::CurrentTable);
        stream.unwrap().apply(self).unwrap();
    }
}

impl HptSink for Replica {
    type Error = &'static str;

    fn check(&self, index: HpteIndex, _: GuestHpte) -> Result<(), &'static str> {
        if self.unwelcome == Some(index.get()) {
            return Err("unwelcome");
        }
        Ok(())
    }

    fn set(&mut self, index: HpteIndex, entry: GuestHpte) {
        self.entries[usize::try_from(index.get()).unwrap()] = Some(entry);
        self.changes += 1;
    }

    fn clear(&mut self, first: HpteIndex, count: u64) {
        let first = usize::try_from(first.get()).unwrap();
        let count = usize::try_from(count).unwrap();
        self.entries[first..first + count].fill(None);
        self.changes += 1;
    }
}

/// Bytes of the rest of this pass, made with this buffer.
fn rest_of_pass(reader: &mut StreamReader, source: &mut Source<'_>, buffer: usize) -> Vec<u8> {
    let mut buffer = vec![0xa5; buffer];
    let mut bytes = Vec::new();
    loop {
        let progress = reader.read(source, &mut buffer).unwrap();
        bytes.extend_from_slice(&buffer[..progress.bytes]);
        if progress.pass_ended {
            return bytes;
        }
    }
}

/// All of a table in one pass.
fn first_pass(entries: Entries, options: StreamOptions) -> Vec<u8> {
    let table = Table::new(entries);
    let id = table.log.open().unwrap();
    let mut source = table.source(&id);
    let mut reader = StreamReader::new(&source, options).unwrap();
    rest_of_pass(&mut reader, &mut source, 1 << 24)
}

fn little() -> StreamOptions {
    StreamOptions::new(ByteOrder::Little)
}

fn scan(limit: u32) -> NonZeroU32 {
    NonZeroU32::new(limit).unwrap()
}

/// An entry of no matter what, made from random numbers: one that the parser accepts.
fn entry_of(encoding: usize, v: u64, r: u64) -> GuestHpte {
    let encoding = PageEncoding::ALL[encoding % PageEncoding::ALL.len()];
    let b = v >> 63 << 62;
    let flags = HpteV::BOLTED | HpteV::SECONDARY | 8;
    let large = if encoding.is_large() { HpteV::LARGE } else { 0 };
    let within = encoding.actual().bytes() - 1;
    let attributes = HpteR::PROTECTION | HpteR::R | HpteR::C | HpteR::WIMG;
    let r = (r & GuestHpteR::RPN & !within) | (encoding.lp() << 12) | (r & attributes);
    let v = b | (v & (HpteV::AVPN | flags)) | large | HpteV::VALID;
    GuestHpte {
        v: GuestHpteV::new(v),
        r: GuestHpteR::new(r),
    }
}

/// An entry that is told from others by its number.
fn numbered(number: u64) -> GuestHpte {
    entry_of(0, number << 7, number << 12)
}

fn some_entry() -> impl Strategy<Value = GuestHpte> {
    (any::<usize>(), any::<u64>(), any::<u64>()).prop_map(|(e, v, r)| entry_of(e, v, r))
}

/// Entries as a guest has them: mostly none, here and there some in a row.
fn some_entries(most: usize) -> impl Strategy<Value = Entries> {
    let run = prop_oneof![
        (1..40usize).prop_map(|count| vec![None; count]),
        prop::collection::vec(some_entry().prop_map(Some), 1..12),
        prop::collection::vec(prop::option::of(some_entry()), 1..12),
    ];
    prop::collection::vec(run, 1..most / 20).prop_map(|runs| runs.concat())
}

fn some_order() -> impl Strategy<Value = ByteOrder> {
    prop_oneof![Just(ByteOrder::Little), Just(ByteOrder::Big)]
}

#[test]
fn random_entries_are_all_there_is() {
    let mut sizes = [0; 6];
    for number in 0..600 {
        let entry = entry_of(number, u64::MAX, u64::MAX);
        let encoding = entry.r.encoding(entry.v).unwrap();
        let at = PageEncoding::ALL.iter().position(|&e| e == encoding);
        sizes[at.unwrap()] += 1;
        assert_eq!(entry.v.segment(), Some(SegmentSize::S1T));
    }
    assert_eq!(sizes, [100; 6]);
}
