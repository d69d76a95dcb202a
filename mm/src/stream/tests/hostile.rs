// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Streams that nobody should send.

use super::*;
use std::format;
use std::string::ToString;

const BARE: Encoding = Encoding::Bare(ByteOrder::Little);

fn parse(bytes: &[u8], entries: u64) -> Result<Counts, ParseError> {
    ParsedStream::parse(bytes, BARE, entries, StartsFrom::CurrentTable).map(|s| s.counts())
}

fn header(index: u32, n_valid: u16, n_invalid: u16) -> [u8; 8] {
    let header = RecordHeader {
        index,
        n_valid,
        n_invalid,
    };
    header.to_bytes(ByteOrder::Little)
}

fn record(index: u32, entries: &[GuestHpte], n_invalid: u16) -> Vec<u8> {
    let n_valid = u16::try_from(entries.len()).unwrap();
    let mut bytes = header(index, n_valid, n_invalid).to_vec();
    for entry in entries {
        bytes.extend_from_slice(&entry.v.get().to_be_bytes());
        bytes.extend_from_slice(&entry.r.get().to_be_bytes());
    }
    bytes
}

fn refused(bytes: &[u8], entries: u64) -> (usize, Option<u64>, ParseReason) {
    let error = parse(bytes, entries).unwrap_err();
    (error.offset, error.index, error.reason)
}

/// O4: the bytes that a header counts are looked for behind the header, not from its first byte.
#[test]
fn stream_header_count_overrun() {
    let good = record(1, &[numbered(1), numbered(2)], 3);
    assert_eq!(parse(&good, 6).unwrap().valid, 2);
    // As long as the entries alone: KVM would read 8 bytes that the caller did not give.
    let cut = |n_valid, bytes| ParseReason::EntriesCut { n_valid, bytes };
    assert_eq!(refused(&good[..32], 6), (0, Some(1), cut(2, 24)));
    for len in 8..good.len() {
        assert_eq!(refused(&good[..len], 6), (0, Some(1), cut(2, len - 8)));
    }
    for len in 1..8 {
        let reason = ParseReason::HeaderCut { bytes: len };
        assert_eq!(refused(&good[..len], 6), (0, None, reason));
        // Left over behind a good record.
        let mut bytes = good.clone();
        bytes.resize(good.len() + len, 0);
        assert_eq!(refused(&bytes, 6), (good.len(), None, reason));
    }
    let most = header(0, u16::MAX, u16::MAX);
    assert_eq!(refused(&most, 1 << 32), (0, Some(0), cut(u16::MAX, 0)));
}

#[test]
fn records_beyond_the_table_are_refused() {
    let beyond = |n_valid, n_invalid, entries| ParseReason::BeyondTable {
        n_valid,
        n_invalid,
        entries,
    };
    let good = record(5, &[numbered(1)], 2);
    assert!(parse(&good, 8).is_ok());
    assert_eq!(refused(&good, 7), (0, Some(5), beyond(1, 2, 7)));
    assert_eq!(refused(&good, 5), (0, Some(5), beyond(1, 2, 5)));
    assert_eq!(refused(&good, 0), (0, Some(5), beyond(1, 2, 0)));
    // The sum does not wrap.
    let last = u32::MAX;
    let bytes = header(last, 0, u16::MAX);
    let index = Some(u64::from(last));
    assert_eq!(
        refused(&bytes, 1 << 14),
        (0, index, beyond(0, u16::MAX, 1 << 14))
    );
    assert_eq!(
        refused(&bytes, 1 << 32),
        (0, index, beyond(0, u16::MAX, 1 << 32))
    );
    assert!(parse(&header(last, 0, 1), 1 << 32).is_ok());
}

#[test]
fn a_header_that_counts_nothing_is_refused() {
    for index in [0, 3] {
        let bytes = header(index, 0, 0);
        let index = Some(u64::from(index));
        assert_eq!(refused(&bytes, 8), (0, index, ParseReason::NothingCounted));
    }
}

#[test]
fn entries_that_would_confuse_the_hardware_are_refused() {
    let good = entry_of(3, 0x1234_5678 << 7, 0x12_3456 << 12);
    let with = |v: u64, r: u64| GuestHpte {
        v: GuestHpteV::new(good.v.get() ^ v),
        r: GuestHpteR::new(good.r.get() ^ r),
    };
    let refused = |bad: GuestHpte| {
        // The third entry of the second record.
        let mut bytes = record(0, &[good], 1);
        bytes.extend(record(10, &[good, good, bad, good], 0));
        let (offset, index, reason) = refused(&bytes, 100);
        assert_eq!((offset, index), (24 + 8 + 32, Some(12)));
        reason
    };
    let bad = with(1, 0);
    assert_eq!(refused(bad), ParseReason::NotValid { v: bad.v });
    // ABSENT is no V from outside.
    let bad = with(0x21, 0);
    assert_eq!(refused(bad), ParseReason::NotValid { v: bad.v });
    for b in [2, 3] {
        let bad = with(b << 62, 0);
        assert_eq!(refused(bad), ParseReason::ReservedSegmentSize { v: bad.v });
    }
    for bit in 52..62 {
        let bad = with(1 << bit, 0);
        assert_eq!(refused(bad), ParseReason::LongAddress { v: bad.v });
    }
    // 64K in 64K has LP=1; 3 is 16 GiB, 2 is nothing.
    for lp in [3, 2] {
        let bad = with(0, (1 ^ lp) << 12);
        let reason = ParseReason::ReservedPageSize { v: bad.v, r: bad.r };
        assert_eq!(refused(bad), reason);
    }
    let bad = entry_of(5, 0, 0);
    for bit in 20..24 {
        let r = GuestHpteR::new(bad.r.get() | 1 << bit);
        let reason = ParseReason::UnalignedPage { r };
        assert_eq!(refused(GuestHpte { v: bad.v, r }), reason);
    }
}

/// O3, from the other side: KVM's streams have the lock bit set in every entry.
#[test]
fn lock_bits_of_others_are_dropped() {
    let table: Entries = vec![Some(numbered(1)), None, Some(numbered(3))];
    let mut bytes = first_pass(table.clone(), little());
    // The last byte of each doubleword 0.
    for at in [8 + 7, 24 + 8 + 7] {
        bytes[at] |= 0x60;
    }
    let mut replica = Replica::empty(3);
    replica.take_in(&bytes, ByteOrder::Little);
    assert_eq!(replica.entries, table);
}

/// O5: what is wrong at the end of a stream does not leave its beginning in the table.
#[test]
fn stream_all_or_nothing() {
    let mut bytes = Vec::new();
    for number in 0..20 {
        bytes.extend(record(number * 3, &[numbered(u64::from(number))], 2));
    }
    let entries = 60;
    let before: Entries = (100..160).map(|n| Some(numbered(n))).collect();
    for starts_from in [StartsFrom::CurrentTable, StartsFrom::EmptyTable] {
        // Not even parsed.
        let mut bad = bytes.clone();
        bad.extend(record(59, &[numbered(1)], 1));
        let error = ParsedStream::parse(&bad, BARE, entries, starts_from).unwrap_err();
        assert_eq!((error.offset, error.index), (bytes.len(), Some(59)));
        // Parsed, and the last entry is not wanted.
        let stream = ParsedStream::parse(&bytes, BARE, entries, starts_from).unwrap();
        let mut replica = Replica::with(before.clone());
        replica.unwelcome = Some(57);
        let error = stream.apply(&mut replica).unwrap_err();
        assert_eq!((error.offset, error.index.get()), (19 * 24 + 8, 57));
        assert_eq!((error.entry, error.reason), (numbered(19), "unwelcome"));
        assert_eq!((replica.changes, &replica.entries), (0, &before));
        // And wanted after all.
        replica.unwelcome = None;
        stream.apply(&mut replica).unwrap();
        let expected: Entries = (0..60)
            .map(|n: u64| n.is_multiple_of(3).then(|| numbered(n / 3)))
            .collect();
        assert_eq!(replica.entries, expected);
    }
}

/// Passes follow each other in a stream, so what is said last counts, as in KVM.
#[test]
fn the_last_record_of_an_entry_counts() {
    let mut bytes = record(4, &[numbered(1), numbered(2)], 1);
    bytes.extend(record(5, &[numbered(3)], 0));
    bytes.extend(record(4, &[], 1));
    bytes.extend(record(0, &[numbered(4)], 0));
    let mut replica = Replica::with(vec![Some(numbered(9)); 8]);
    replica.take_in(&bytes, ByteOrder::Little);
    let nine = Some(numbered(9));
    let expected = [
        Some(numbered(4)),
        nine,
        nine,
        nine,
        None,
        Some(numbered(3)),
        None,
        nine,
    ];
    assert_eq!(replica.entries, expected);
}

#[test]
fn an_empty_stream_says_nothing() {
    assert_eq!(parse(&[], 8), Ok(Counts::default()));
    let stream = ParsedStream::parse(&[], BARE, 8, StartsFrom::CurrentTable).unwrap();
    assert_eq!(stream.changes().count(), 0);
    let stream = ParsedStream::parse(&[], BARE, 8, StartsFrom::EmptyTable).unwrap();
    let mut replica = Replica::with(vec![Some(numbered(9)); 8]);
    stream.apply(&mut replica).unwrap();
    assert_eq!(replica.entries, vec![None; 8]);
}

#[test]
fn errors_say_where_and_why() {
    let error = parse(&record(5, &[numbered(1)], 2), 7).unwrap_err();
    assert_eq!(
        error.to_string(),
        "offset 0x0: entry 0x5: 1 valid and 2 invalid entries go beyond the table of 0x7"
    );
    let error = parse(&[0; 3], 7).unwrap_err();
    assert_eq!(
        error.to_string(),
        "offset 0x0: cut short: 3 bytes of a header's 8"
    );
    let bytes = record(0, &[numbered(1), numbered(2)], 0);
    let stream = ParsedStream::parse(&bytes, BARE, 8, StartsFrom::CurrentTable).unwrap();
    let mut replica = Replica::empty(8);
    replica.unwelcome = Some(1);
    let entry = numbered(2);
    assert_eq!(
        stream.apply(&mut replica).unwrap_err().to_string(),
        format!(
            "offset 0x18: entry 0x1: unwelcome ({:?} {:?})",
            entry.v, entry.r
        )
    );
}

/// Any table that a parser accepts a stream for is filled without anybody looking beyond it.
fn must_hold(bytes: &[u8], encoding: Encoding, entries: u64) {
    let starts_from = StartsFrom::EmptyTable;
    let Ok(stream) = ParsedStream::parse(bytes, encoding, entries, starts_from) else {
        return;
    };
    let mut replica = Replica::empty(usize::try_from(entries).unwrap());
    stream.apply(&mut replica).unwrap();
    for entry in replica.entries.iter().flatten() {
        assert_eq!(entry.v.get() & 0x61, 1);
        assert!(entry.v.to_hardware().is_some());
        let encoding = entry.r.encoding(entry.v).unwrap();
        assert!(entry.r.page(encoding).is_some());
    }
    let counts = stream.counts();
    assert_eq!(counts.records, stream.records().count() as u64);
    let records = 8 * counts.records + 16 * counts.valid;
    match encoding {
        Encoding::Bare(_) => assert_eq!(bytes.len() as u64, records),
        Encoding::Qemu => assert!(bytes.len() as u64 >= records + 12 * counts.sections),
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn any_bytes_are_parsed_or_refused(
        bytes in prop::collection::vec(prop_oneof![3 => Just(0_u8), 1 => any::<u8>()], 0..300),
        entries in 0..200_u64,
    ) {
        must_hold(&bytes, BARE, entries);
        must_hold(&bytes, Encoding::Bare(ByteOrder::Big), entries);
        must_hold(&bytes, Encoding::Qemu, entries);
    }

    #[test]
    fn a_good_stream_with_changed_bytes_is_parsed_or_refused(
        table in some_entries(unless_miri(400, 200)),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let entries = table.len() as u64;
        let mut bytes = first_pass(table, little());
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] ^= byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        must_hold(&bytes, BARE, entries);
    }
}
