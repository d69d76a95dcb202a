// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Any bytes as what happens to a small table while three readers stream it, in buffers of any
//! size: afterwards each other side has the table.
//!
//! Four bytes are a step: what, and three operands.
#![no_main]

use libfuzzer_sys::fuzz_target;
use penstock_arch::hash::{GuestHpteR, GuestHpteV, HpteIndex};
use penstock_mm::fake::{TestMachine, TestMemory};
use penstock_mm::hpt::changes::{ChangeLog, ReaderId};
use penstock_mm::stream::{
    ByteOrder, Encoding, EntryFilter, GuestHpte, HoleStyle, HptSink, HptSource, ParsedStream,
    Progress, ReadError, StartsFrom, StreamOptions, StreamReader,
};
use std::convert::Infallible;
use std::num::NonZeroU32;

const ENTRIES: usize = 200;
const BOLTED: u64 = 0x10;

type Entries = Vec<Option<GuestHpte>>;

struct Table {
    entries: Entries,
    log: ChangeLog,
}

struct Source<'a>(&'a Table, &'a ReaderId);

impl HptSource for Source<'_> {
    fn entries(&self) -> u64 {
        ENTRIES as u64
    }

    fn take_changed(&mut self, index: HpteIndex) -> bool {
        self.0.log.take(self.1, index)
    }

    fn entry(&mut self, index: HpteIndex) -> Option<GuestHpte> {
        self.0.entries[index.get() as usize]
    }

    fn next_changed(&mut self, from: u64, end: u64) -> u64 {
        self.0.log.next_marked(self.1, from, end)
    }
}

struct Replica(Entries);

impl HptSink for Replica {
    type Error = Infallible;

    fn check(&self, _: HpteIndex, _: GuestHpte) -> Result<(), Infallible> {
        Ok(())
    }

    fn set(&mut self, index: HpteIndex, entry: GuestHpte) {
        self.0[index.get() as usize] = Some(entry);
    }

    fn clear(&mut self, first: HpteIndex, count: u64) {
        self.0[first.get() as usize..][..count as usize].fill(None);
    }
}

struct Follower {
    id: ReaderId,
    reader: StreamReader,
    options: StreamOptions,
    replica: Replica,
}

impl Follower {
    fn of(table: &Table, choice: u8, limit: u8) -> Self {
        let id = table.log.open().expect("fewer than four readers");
        let options = StreamOptions {
            filter: [EntryFilter::All, EntryFilter::BoltedOnly][usize::from(choice & 1)],
            holes: [HoleStyle::Counted, HoleStyle::LeftOut][usize::from(choice >> 1 & 1)],
            scan_limit: NonZeroU32::new(u32::from(limit) + 1).expect("not 0"),
            ..StreamOptions::new([ByteOrder::Little, ByteOrder::Big][usize::from(choice >> 2 & 1)])
        };
        Self {
            reader: StreamReader::new(&Source(table, &id), options).expect("a small table"),
            id,
            options,
            replica: Replica(vec![None; ENTRIES]),
        }
    }

    fn read(&mut self, table: &Table, buffer: usize) -> Result<Progress, ReadError> {
        let mut out = vec![0; buffer];
        let progress = self.reader.read(&mut Source(table, &self.id), &mut out)?;
        let encoding = Encoding::Bare(self.options.order);
        let starts = StartsFrom::CurrentTable;
        let stream = ParsedStream::parse(&out[..progress.bytes], encoding, ENTRIES as u64, starts);
        let Ok(()) = stream.expect("our own stream").apply(&mut self.replica);
        Ok(progress)
    }

    /// The rest of a pass.
    fn finish(&mut self, table: &Table) {
        // Each call goes on by an entry at least.
        for _ in 0..=ENTRIES {
            if self.read(table, 1000).expect("a large buffer").pass_ended {
                return;
            }
        }
        panic!("a pass without an end");
    }

    fn expected(&self, table: &Table) -> Entries {
        let keep = |entry: &GuestHpte| {
            self.options.filter == EntryFilter::All || entry.v.get() & BOLTED != 0
        };
        table
            .entries
            .iter()
            .map(|entry| entry.filter(keep))
            .collect()
    }
}

fuzz_target!(|input: &[u8]| {
    let host = TestMemory::new(ChangeLog::bytes(ENTRIES as u64) as usize);
    let log = ChangeLog::new(ENTRIES as u64, &mut host.frames(), &TestMachine::new());
    let mut table = Table {
        entries: vec![None; ENTRIES],
        log: log.expect("enough memory"),
    };
    let mut followers: Vec<_> = (0..3).map(|n| Follower::of(&table, n, 255)).collect();
    let (steps, _) = input.as_chunks::<4>();
    for &[what, a, b, c] in steps {
        let (reader, index) = (usize::from(a) % 3, usize::from(a) % ENTRIES);
        match what % 5 {
            0 | 1 => {
                let number = u64::from(u16::from_le_bytes([b, c]));
                table.entries[index] = (what % 5 == 0).then(|| GuestHpte {
                    v: GuestHpteV::new(number << 12 | u64::from(c) & BOLTED | 1),
                    r: GuestHpteR::new(number << 12 | 0x10),
                });
                table.log.mark(HpteIndex::new(index as u64));
            }
            2 => {
                let buffer = usize::from(b) * 4 + usize::from(c & 3);
                let result = followers[reader].read(&table, buffer);
                assert_eq!(result.is_ok(), buffer >= 24);
            }
            3 => {
                table.log.close(followers.remove(reader).id);
                followers.insert(reader, Follower::of(&table, b, c));
            }
            _ => table.log.mark_all(),
        }
    }
    for follower in &mut followers {
        // The rest of this pass, and one for what changed behind it.
        follower.finish(&table);
        follower.finish(&table);
        assert_eq!(follower.replica.0, follower.expected(&table));
    }
});
