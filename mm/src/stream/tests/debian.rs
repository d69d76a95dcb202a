// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Streams of a real guest (see `mm/testdata`): through the parser, and through a table and out again.

use super::*;
use crate::guest_memory::{Backing, GuestMemory};
use crate::hpt::{HashMmu, HptConfig, StorageKeys, VcpusAre};
use penstock_arch::hash::{Lpid, PageSize};

const IDLE: &[u8] = include_bytes!("../../../testdata/debian13-64k-idle.hpt");
const STRESS: &[u8] = include_bytes!("../../../testdata/debian13-64k-stress.hpt");

const ENTRIES: u64 = 1 << 14;
const LITTLE: Encoding = Encoding::Bare(ByteOrder::Little);

fn parsed(bytes: &[u8]) -> ParsedStream<'_> {
    ParsedStream::parse(bytes, LITTLE, ENTRIES, StartsFrom::EmptyTable).unwrap()
}

/// The table at the end of a stream.
fn table_of(stream: &ParsedStream<'_>) -> Entries {
    let mut entries = vec![None; usize::try_from(ENTRIES).unwrap()];
    for (_, change) in stream.changes() {
        match change {
            Change::Set { index, entry } => {
                entries[usize::try_from(index.get()).unwrap()] = Some(entry);
            }
            Change::Clear { first, count } => {
                let first = usize::try_from(first.get()).unwrap();
                entries[first..first + usize::try_from(count).unwrap()].fill(None);
            }
        }
    }
    entries
}

#[test]
fn streams_of_a_real_guest_are_good() {
    for (bytes, records, valid) in [(IDLE, 2063, 4189), (STRESS, 2062, 4229)] {
        let stream = parsed(bytes);
        let counts = stream.counts();
        assert_eq!((counts.records, counts.valid), (records, valid));
        assert_eq!(counts.valid + counts.invalid, ENTRIES);
        assert_eq!(bytes.len() as u64, 8 * records + 16 * valid);
        assert_eq!(stream.vrma_page(), Some(PageSize::P16M));
    }
}

#[test]
#[cfg_attr(miri, ignore = "all of a real guest's table")]
fn streams_of_a_real_guest_cut_anywhere_are_refused_or_shorter() {
    let whole = parsed(STRESS).counts().records;
    for len in (0..STRESS.len()).step_by(97) {
        let cut = ParsedStream::parse(&STRESS[..len], LITTLE, ENTRIES, StartsFrom::EmptyTable);
        match cut {
            Ok(stream) => assert!(stream.counts().records < whole),
            Err(error) => assert!(error.offset <= len),
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "all of a real guest's table")]
fn a_real_guests_table_goes_in_and_comes_out_the_same() {
    let host = TestMemory::new(288 << 20);
    let mut frames = host.frames();
    let memory =
        GuestMemory::new(TestMachine::new(), 256 << 20, Backing::Lazy, &mut frames).unwrap();
    let config = HptConfig {
        keys: StorageKeys::Offered,
        ..HptConfig::new(HptOrder::MIN)
    };
    let mmu = HashMmu::new(Lpid::new(1), memory, config, &mut frames).unwrap();
    let mut source = mmu.reader().unwrap();
    let options = StreamOptions::new(ByteOrder::Little);
    let mut reader = StreamReader::new(&source, options).unwrap();
    // The second is a change of the first, and what a later pass tells is the difference.
    for (bytes, from) in [(IDLE, ENTRIES), (STRESS, 0)] {
        let stream = parsed(bytes);
        let wanted = table_of(&stream);
        mmu.restore(&stream, VcpusAre::Stopped, |_| ()).unwrap();
        let mut out = Vec::new();
        loop {
            let mut buffer = [0; 4096];
            let progress = reader.read(&mut source, &mut buffer).unwrap();
            out.extend_from_slice(&buffer[..progress.bytes]);
            if progress.pass_ended {
                break;
            }
        }
        let told = ParsedStream::parse(&out, LITTLE, ENTRIES, StartsFrom::CurrentTable).unwrap();
        assert!(told.counts().valid + told.counts().invalid >= from);
        let mut fresh = mmu
            .reader()
            .map(|source| (StreamReader::new(&source, options), source));
        let (reader, source) = fresh.as_mut().unwrap();
        let mut whole = vec![0; 1 << 18];
        let progress = reader.as_mut().unwrap().read(source, &mut whole).unwrap();
        assert!(progress.pass_ended);
        assert_eq!(table_of(&parsed(&whole[..progress.bytes])), wanted);
        let stats = mmu.check().unwrap();
        let valid = wanted.iter().flatten().count() as u64;
        assert_eq!(stats.valid + stats.absent, valid);
        assert_eq!(stats.bolted, 4116);
    }
}
