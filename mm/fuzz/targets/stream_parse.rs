// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Any bytes as a stream of a page table. One that is accepted fills a table with entries that the
//! hardware understands, and the table's own stream says the same.
//!
//! The first byte chooses the encoding, and the size of the table where it has no frames.
#![no_main]

use libfuzzer_sys::fuzz_target;
use penstock_arch::hash::HpteIndex;
use penstock_mm::hpt::HptOrder;
use penstock_mm::stream::{
    ByteOrder, Encoding, GuestHpte, HptSink, HptSource, ParsedStream, StartsFrom, StreamOptions,
    StreamReader, entries_of, qemu,
};
use std::collections::BTreeMap;
use std::convert::Infallible;

/// Room for the largest stream of the smallest table: each entry in a record of its own.
const BUFFER: usize = (entries_of(HptOrder::MIN) as usize) * 24;

struct Table {
    entries: BTreeMap<u64, GuestHpte>,
    count: u64,
}

impl HptSink for Table {
    type Error = Infallible;

    fn check(&self, index: HpteIndex, entry: GuestHpte) -> Result<(), Infallible> {
        assert!(index.get() < self.count);
        assert_eq!(entry.v.get() & 0x61, 1);
        assert!(entry.v.to_hardware().is_some());
        let encoding = entry.r.encoding(entry.v).expect("a page size");
        assert!(entry.r.page(encoding).is_some());
        Ok(())
    }

    fn set(&mut self, index: HpteIndex, entry: GuestHpte) {
        self.entries.insert(index.get(), entry);
    }

    fn clear(&mut self, first: HpteIndex, count: u64) {
        let end = first.get() + count;
        assert!(count > 0 && end <= self.count);
        self.entries
            .retain(|index, _| !(first.get()..end).contains(index));
    }
}

impl HptSource for Table {
    fn entries(&self) -> u64 {
        self.count
    }

    fn take_changed(&mut self, _: HpteIndex) -> bool {
        false
    }

    fn entry(&mut self, index: HpteIndex) -> Option<GuestHpte> {
        self.entries.get(&index.get()).copied()
    }
}

fn table_of(bytes: &[u8], encoding: Encoding, count: u64, starts: StartsFrom) -> Option<Table> {
    let stream = match ParsedStream::parse(bytes, encoding, count, starts) {
        Ok(stream) => stream,
        Err(error) => {
            assert!(error.offset <= bytes.len());
            let _ = error.to_string();
            return None;
        }
    };
    let counts = stream.counts();
    assert_eq!(counts.records, stream.records().count() as u64);
    let law = 8 * counts.records + 16 * counts.valid;
    let frames = bytes.len() as u64 - law;
    match encoding {
        Encoding::Bare(_) => assert_eq!(frames, 0),
        Encoding::Qemu => assert!([0, 4].contains(&(frames - 12 * counts.sections))),
    }
    let _ = stream.vrma_page();
    let mut table = Table {
        entries: BTreeMap::new(),
        count,
    };
    let Ok(()) = stream.apply(&mut table);
    Some(table)
}

fuzz_target!(|input: &[u8]| {
    let Some((&choice, bytes)) = input.split_first() else {
        return;
    };
    let bare = 1 << (choice >> 2).min(14);
    let (encoding, count) = match choice & 3 {
        0 | 1 => (Encoding::Bare(ByteOrder::Little), bare),
        2 => (Encoding::Bare(ByteOrder::Big), bare),
        _ => {
            let _ = qemu::size_of_table(bytes);
            (Encoding::Qemu, entries_of(HptOrder::MIN))
        }
    };
    let starts = StartsFrom::CurrentTable;
    let Some(mut table) = table_of(bytes, encoding, count, starts) else {
        return;
    };
    let options = StreamOptions::new(ByteOrder::Big);
    let mut reader = StreamReader::new(&table, options).expect("a small table");
    let mut buffer = vec![0; BUFFER];
    let progress = reader
        .read(&mut table, &mut buffer)
        .expect("a large buffer");
    assert!(progress.pass_ended);
    let again = &buffer[..progress.bytes];
    let encoding = Encoding::Bare(ByteOrder::Big);
    let again = table_of(again, encoding, count, StartsFrom::EmptyTable).expect("our own stream");
    // The bit of doubleword 1 that nobody defines is left out.
    for entry in table.entries.values_mut() {
        *entry = GuestHpte::from_bytes(entry.to_bytes());
    }
    assert_eq!(table.entries, again.entries);
});
