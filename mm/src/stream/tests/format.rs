// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Bytes: golden streams, the records that a pass is made of, and QEMU's frames.

use super::*;
use crate::hpt::HptOrder;
use penstock_arch::hash::{PageSize, VRMA_VSID};

/// A table of 32 entries: three in a row from 2, one at 8, the last.
fn small_table() -> Entries {
    let mut entries = vec![None; 32];
    // The real mode area's entry of a partition with 16 MiB pages, as Penstock enters it.
    entries[8] = Some(GuestHpte {
        v: GuestHpteV::new(0x4001_ffff_ff00_0015),
        r: GuestHpteR::new(0x0000_0000_0000_0190),
    });
    // 64K pages of a 1T segment, as Linux writes them.
    for (number, index) in [(0, 2), (1, 3), (2, 4)] {
        entries[index] = Some(GuestHpte {
            v: GuestHpteV::new(0x4000_1ace_5400_0105),
            r: GuestHpteR::new(0x0000_0000_0123_1196 + (number << 16)),
        });
    }
    // 4K in a 256M segment, in the secondary group, with all protection bits.
    entries[31] = Some(GuestHpte {
        v: GuestHpteV::new(0x000f_1234_5678_9083),
        r: GuestHpteR::new(0xb000_0007_6543_2f17),
    });
    entries
}

#[rustfmt::skip]
const GOLDEN_ENTRIES: [[u8; 16]; 5] = [
    [0x40, 0x00, 0x1a, 0xce, 0x54, 0x00, 0x01, 0x05, 0x00, 0x00, 0x00, 0x00, 0x01, 0x23, 0x11, 0x96],
    [0x40, 0x00, 0x1a, 0xce, 0x54, 0x00, 0x01, 0x05, 0x00, 0x00, 0x00, 0x00, 0x01, 0x24, 0x11, 0x96],
    [0x40, 0x00, 0x1a, 0xce, 0x54, 0x00, 0x01, 0x05, 0x00, 0x00, 0x00, 0x00, 0x01, 0x25, 0x11, 0x96],
    [0x40, 0x01, 0xff, 0xff, 0xff, 0x00, 0x00, 0x15, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x01, 0x90],
    [0x00, 0x0f, 0x12, 0x34, 0x56, 0x78, 0x90, 0x83, 0xb0, 0x00, 0x00, 0x07, 0x65, 0x43, 0x2f, 0x17],
];

/// Index, valid, invalid: two that are not there, three and three, one and 22, the last.
#[rustfmt::skip]
const GOLDEN_HEADERS_LITTLE: [[u8; 8]; 4] = [
    [0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x02, 0x00],
    [0x02, 0x00, 0x00, 0x00, 0x03, 0x00, 0x03, 0x00],
    [0x08, 0x00, 0x00, 0x00, 0x01, 0x00, 0x16, 0x00],
    [0x1f, 0x00, 0x00, 0x00, 0x01, 0x00, 0x00, 0x00],
];

#[rustfmt::skip]
const GOLDEN_HEADERS_BIG: [[u8; 8]; 4] = [
    [0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x02],
    [0x00, 0x00, 0x00, 0x02, 0x00, 0x03, 0x00, 0x03],
    [0x00, 0x00, 0x00, 0x08, 0x00, 0x01, 0x00, 0x16],
    [0x00, 0x00, 0x00, 0x1f, 0x00, 0x01, 0x00, 0x00],
];

/// QEMU's first pass: nothing is counted that is not there.
#[rustfmt::skip]
const GOLDEN_HEADERS_LEFT_OUT: [[u8; 8]; 3] = [
    [0x00, 0x00, 0x00, 0x02, 0x00, 0x03, 0x00, 0x00],
    [0x00, 0x00, 0x00, 0x08, 0x00, 0x01, 0x00, 0x00],
    [0x00, 0x00, 0x00, 0x1f, 0x00, 0x01, 0x00, 0x00],
];

fn golden(headers: &[[u8; 8]], counts: &[usize]) -> Vec<u8> {
    let mut entries = GOLDEN_ENTRIES.iter();
    let mut bytes = Vec::new();
    for (header, &count) in headers.iter().zip(counts) {
        bytes.extend_from_slice(header);
        bytes.extend(entries.by_ref().take(count).flatten());
    }
    bytes
}

#[test]
fn stream_golden_bytes() {
    let little = golden(&GOLDEN_HEADERS_LITTLE, &[0, 3, 1, 1]);
    let big = golden(&GOLDEN_HEADERS_BIG, &[0, 3, 1, 1]);
    assert_eq!(little.len(), 4 * 8 + 5 * 16);
    for (order, bytes) in [(ByteOrder::Little, &little), (ByteOrder::Big, &big)] {
        assert_eq!(&first_pass(small_table(), StreamOptions::new(order)), bytes);
        let mut replica = Replica::empty(32);
        replica.take_in(bytes, order);
        assert_eq!(replica.entries, small_table());
    }
    // The other order is not taken for it.
    for (order, bytes) in [(ByteOrder::Big, &little), (ByteOrder::Little, &big)] {
        let wrong = Encoding::Bare(order);
        let error = ParsedStream::parse(bytes, wrong, 32, StartsFrom::CurrentTable).unwrap_err();
        assert!(matches!(error.reason, ParseReason::BeyondTable { .. }));
    }
}

#[test]
fn stream_qemu_first_pass_style() {
    let bytes = golden(&GOLDEN_HEADERS_LEFT_OUT, &[3, 1, 1]);
    let options = StreamOptions {
        holes: HoleStyle::LeftOut,
        ..StreamOptions::new(ByteOrder::Big)
    };
    assert_eq!(first_pass(small_table(), options), bytes);

    // Into a table with other entries: they go where the stream starts from an empty table, and
    // stay where it does not.
    let full: Entries = (0..32).map(|number| Some(numbered(number))).collect();
    for starts_from in [StartsFrom::EmptyTable, StartsFrom::CurrentTable] {
        let encoding = Encoding::Bare(ByteOrder::Big);
        let stream = ParsedStream::parse(&bytes, encoding, 32, starts_from).unwrap();
        let mut replica = Replica::with(full.clone());
        stream.apply(&mut replica).unwrap();
        let expected: Entries = match starts_from {
            StartsFrom::EmptyTable => small_table(),
            StartsFrom::CurrentTable => small_table()
                .iter()
                .zip(&full)
                .map(|(new, old)| new.or(*old))
                .collect(),
        };
        assert_eq!(replica.entries, expected);
    }
}

#[test]
fn later_passes_count_holes_in_qemus_style_too() {
    let mut table = Table::new(small_table());
    let id = table.log.open().unwrap();
    let options = StreamOptions {
        holes: HoleStyle::LeftOut,
        ..StreamOptions::new(ByteOrder::Big)
    };
    let mut reader = StreamReader::new(&table.source(&id), options).unwrap();
    rest_of_pass(&mut reader, &mut table.source(&id), 1000);
    table.change(8, None);
    table.change(9, None);
    let bytes = rest_of_pass(&mut reader, &mut table.source(&id), 1000);
    assert_eq!(bytes, [0, 0, 0, 8, 0, 0, 0, 2]);
}

/// How KVM and QEMU cut a pass into records, put down as plainly as can be.
fn naive_headers(entries: &Entries) -> Vec<RecordHeader> {
    let mut headers: Vec<RecordHeader> = Vec::new();
    for (index, entry) in (0..).zip(entries) {
        let full = |header: &RecordHeader| match entry {
            Some(_) => header.n_invalid > 0 || header.n_valid == u16::MAX,
            None => header.n_invalid == u16::MAX,
        };
        if headers.last().is_none_or(full) {
            let header = RecordHeader::default();
            headers.push(RecordHeader { index, ..header });
        }
        let last = headers.last_mut().unwrap();
        match entry {
            Some(_) => last.n_valid += 1,
            None => last.n_invalid += 1,
        }
    }
    headers
}

fn headers_of(bytes: &[u8], entries: u64) -> Vec<RecordHeader> {
    let encoding = Encoding::Bare(ByteOrder::Little);
    let stream = ParsedStream::parse(bytes, encoding, entries, StartsFrom::EmptyTable).unwrap();
    stream.records().map(|(_, header)| header).collect()
}

#[test]
#[cfg_attr(miri, ignore = "a million entries")]
fn runs_are_cut_at_65535() {
    const M: usize = u16::MAX as usize;
    for (valid, invalid) in [
        (M, 1),
        (M + 1, M),
        (M - 1, M + 1),
        (2 * M + 1, 2 * M),
        (0, M),
    ] {
        let mut entries: Entries = (0..valid as u64).map(|n| Some(numbered(n))).collect();
        entries.resize(valid + invalid, None);
        entries.push(Some(numbered(7)));
        let count = entries.len() as u64;
        let options = StreamOptions {
            scan_limit: scan(u32::MAX),
            ..little()
        };
        let bytes = first_pass(entries.clone(), options);
        let headers = headers_of(&bytes, count);
        assert_eq!(headers, naive_headers(&entries));
        let mut replica = Replica::empty(entries.len());
        replica.take_in(&bytes, ByteOrder::Little);
        assert_eq!(replica.entries, entries);
    }
}

#[test]
#[cfg_attr(miri, ignore = "a million entries")]
fn stream_size_law() {
    // An empty table of 16 MiB takes 136 bytes: 17 records of at most 65535 entries.
    let options = StreamOptions {
        scan_limit: scan(u32::MAX),
        ..little()
    };
    for options in [options, little()] {
        let bytes = first_pass(vec![None; 1 << 20], options);
        assert_eq!(bytes.len(), 17 * 8);
    }
    // One entry in each group, eight entries: 8 bytes for the record and 16 for the entry.
    let mut entries: Entries = vec![None; 1 << 14];
    for group in entries.chunks_mut(8) {
        group[0] = Some(numbered(1));
    }
    assert_eq!(first_pass(entries, options).len(), (1 << 11) * (8 + 16));
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn records_are_kvms(entries in some_entries(2000)) {
        let count = entries.len() as u64;
        let bytes = first_pass(entries.clone(), little());
        let headers = headers_of(&bytes, count);
        prop_assert_eq!(&headers, &naive_headers(&entries));
        let valid = entries.iter().flatten().count();
        prop_assert_eq!(bytes.len(), 8 * headers.len() + 16 * valid);
    }

    #[test]
    fn headers_are_the_same_in_both_orders(index: u32, n_valid: u16, n_invalid: u16) {
        let header = RecordHeader { index, n_valid, n_invalid };
        for order in [ByteOrder::Little, ByteOrder::Big] {
            prop_assert_eq!(RecordHeader::from_bytes(header.to_bytes(order), order), header);
        }
        let [a, b, c, d, e, f, g, h] = header.to_bytes(ByteOrder::Little);
        prop_assert_eq!([d, c, b, a, f, e, h, g], header.to_bytes(ByteOrder::Big));
    }
}

/// A QEMU stream: the size, and each of `parts` in a section.
fn framed(order: Option<HptOrder>, parts: &[&[u8]]) -> Vec<u8> {
    let mut bytes = order.map_or(Vec::new(), |order| qemu::size(order).to_vec());
    for part in parts {
        bytes.extend_from_slice(&qemu::RECORDS);
        bytes.extend_from_slice(part);
        bytes.extend_from_slice(&qemu::END);
    }
    bytes
}

const ENTRIES: u64 = entries_of(HptOrder::MIN);

#[test]
fn qemus_frames_are_read() {
    let first = golden(&GOLDEN_HEADERS_LEFT_OUT, &[3, 1, 1]);
    let later = [0, 0, 0, 2, 0, 0, 0, 1];
    let bytes = framed(Some(HptOrder::MIN), &[&first, &later, &[]]);
    assert_eq!(bytes[..8], [0, 0, 0, 18, 0, 0, 0, 0]);
    assert_eq!(qemu::size_of_table(&bytes), Ok(Some(HptOrder::MIN)));
    let stream =
        ParsedStream::parse(&bytes, Encoding::Qemu, ENTRIES, StartsFrom::CurrentTable).unwrap();
    // The other side's table is new.
    assert_eq!(stream.starts_from(), StartsFrom::EmptyTable);
    let counts = stream.counts();
    assert_eq!((counts.records, counts.valid), (4, 5));
    assert_eq!((counts.invalid, counts.sections), (1, 3));
    let mut replica = Replica::with(vec![Some(numbered(1)); 1 << 14]);
    stream.apply(&mut replica).unwrap();
    let mut expected = small_table();
    expected[2] = None;
    expected.resize(1 << 14, None);
    assert_eq!(replica.entries, expected);
}

#[test]
fn qemus_frames_without_a_size_change_the_table() {
    let bytes = framed(None, &[&[0, 0, 0, 2, 0, 0, 0, 1]]);
    assert_eq!(qemu::size_of_table(&bytes), Ok(None));
    let stream = ParsedStream::parse(&bytes, Encoding::Qemu, 32, StartsFrom::CurrentTable).unwrap();
    assert_eq!(stream.starts_from(), StartsFrom::CurrentTable);
    let mut replica = Replica::with(small_table());
    stream.apply(&mut replica).unwrap();
    assert_eq!(replica.entries[2], None);
    assert_eq!(replica.entries[3..], small_table()[3..]);
}

#[test]
fn broken_frames_are_refused() {
    let good = framed(
        Some(HptOrder::MIN),
        &[&golden(&GOLDEN_HEADERS_LEFT_OUT, &[3, 1, 1])],
    );
    let parse = |bytes: &[u8]| {
        let starts_from = StartsFrom::EmptyTable;
        let stream = ParsedStream::parse(bytes, Encoding::Qemu, ENTRIES, starts_from);
        stream
            .map(|_| ())
            .map_err(|error| (error.offset, error.reason))
    };
    assert_eq!(parse(&good), Ok(()));
    // Cut anywhere but between two sections.
    for len in (0..good.len()).filter(|&len| len != 4) {
        let (offset, reason) = parse(&good[..len]).unwrap_err();
        assert!(offset <= len);
        assert!(
            matches!(
                reason,
                ParseReason::SectionCut { .. } | ParseReason::EntriesCut { .. }
            ),
            "{len}: {reason:?}"
        );
    }
    let with = |at: usize, bytes: [u8; 4]| {
        let mut changed = good.clone();
        changed[at..at + 4].copy_from_slice(&bytes);
        parse(&changed).unwrap_err()
    };
    let other = |log2_bytes| (0, ParseReason::OtherOrder { log2_bytes });
    assert_eq!(with(0, [0, 0, 0, 19]), other(19));
    assert_eq!(with(0, [0, 0, 0, 46]), other(46));
    assert_eq!(with(0, [0, 0, 1, 18]), other(274));
    assert_eq!(with(0, qemu::NO_TABLE), (0, ParseReason::NoTable));
    assert_eq!(with(4, qemu::NO_TABLE), (4, ParseReason::NoTable));
    assert_eq!(
        with(4, [0, 0, 0, 18]),
        (4, ParseReason::SecondSize { word: 18 })
    );
    let mut twice = good.clone();
    twice.extend_from_slice(&good);
    let second = (good.len(), ParseReason::SecondSize { word: 18 });
    assert_eq!(parse(&twice), Err(second));
    for (bytes, reason) in [
        (&[0_u8, 0, 0][..], ParseReason::SectionCut { bytes: 3 }),
        (&[255; 4], ParseReason::NoTable),
        (&[0, 0, 0, 17], ParseReason::OtherOrder { log2_bytes: 17 }),
    ] {
        assert_eq!(qemu::size_of_table(bytes).unwrap_err().reason, reason);
    }
}

#[test]
fn the_real_mode_areas_page_size_is_found() {
    for page in PageSize::ALL {
        let encoding = PageEncoding::new(page, page).unwrap();
        let large = if encoding.is_large() { HpteV::LARGE } else { 0 };
        let area = GuestHpte {
            v: GuestHpteV::new((1 << 62) | (VRMA_VSID << 24) | 0x11 | large),
            r: GuestHpteR::new((encoding.lp() << 12) | 0x190),
        };
        // The same VSID in a segment of 256 MiB, and another one in 1 TiB, are other addresses.
        let small = GuestHpteV::new((VRMA_VSID << 12) | 1);
        let other = GuestHpteV::new((1 << 62) | (0x1fe_ffff << 24) | 1);
        let not_it = |v| GuestHpte {
            v,
            r: numbered(0).r,
        };
        let entries: Entries = vec![Some(not_it(small)), Some(not_it(other)), None, Some(area)];
        for (entries, expected) in [(&entries[..3], None), (&entries[..], Some(page))] {
            let bytes = first_pass(entries.to_vec(), little());
            let encoding = Encoding::Bare(ByteOrder::Little);
            let count = entries.len() as u64;
            let stream = ParsedStream::parse(&bytes, encoding, count, StartsFrom::EmptyTable);
            assert_eq!(stream.unwrap().vrma_page(), expected);
        }
    }
}
