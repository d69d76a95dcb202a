// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Passes over a table that changes.

use super::*;

/// A reader, and the other side of its stream.
struct Follower {
    id: ReaderId,
    reader: StreamReader,
    replica: Replica,
}

impl Follower {
    fn of(table: &Table, options: StreamOptions) -> Self {
        let id = table.log.open().unwrap();
        let reader = StreamReader::new(&table.source(&id), options).unwrap();
        Self {
            id,
            reader,
            replica: Replica::empty(table.entries.len()),
        }
    }

    /// One call with this buffer; whether it came to the end of a pass.
    fn read(&mut self, table: &Table, buffer: usize) -> Progress {
        let mut out = vec![0xa5; buffer];
        let mut source = table.source(&self.id);
        let first = self.reader.position();
        let progress = self.reader.read(&mut source, &mut out).unwrap();
        // Nothing behind what it says is touched, and it is whole records.
        assert!(
            out[progress.bytes..]
                .iter()
                .skip(8)
                .all(|&byte| byte == 0xa5)
        );
        self.replica
            .take_in(&out[..progress.bytes], ByteOrder::Little);
        assert!(progress.pass_ended || self.reader.position() >= first);
        progress
    }

    fn rest_of_pass(&mut self, table: &Table) -> usize {
        let mut bytes = 0;
        loop {
            let progress = self.read(table, 1000);
            bytes += progress.bytes;
            if progress.pass_ended {
                return bytes;
            }
        }
    }
}

fn numbered_table(count: u64) -> Table {
    Table::new((0..count).map(|number| Some(numbered(number))).collect())
}

/// O9: a change is told to every reader.
#[test]
fn stream_two_readers() {
    let mut table = numbered_table(100);
    let mut a = Follower::of(&table, little());
    a.rest_of_pass(&table);
    table.change(10, None);
    let mut b = Follower::of(&table, little());
    table.change(20, Some(numbered(200)));
    // One after the other, and one through the other.
    b.rest_of_pass(&table);
    a.rest_of_pass(&table);
    assert_eq!(a.replica.entries, table.entries);
    assert_eq!(b.replica.entries, table.entries);
    table.change(30, None);
    table.change(99, Some(numbered(3)));
    assert_eq!(a.read(&table, 24).bytes, 8);
    assert_eq!(b.rest_of_pass(&table), 8 + 24);
    assert_eq!(a.rest_of_pass(&table), 24);
    assert_eq!(a.replica.entries, table.entries);
    assert_eq!(b.replica.entries, table.entries);
    assert_eq!((a.rest_of_pass(&table), b.rest_of_pass(&table)), (0, 0));
}

/// O10: too short a buffer is an error, not an end, and nothing is lost by it.
#[test]
fn stream_short_buffer() {
    let mut table = numbered_table(4);
    let mut follower = Follower::of(&table, little());
    let short = |follower: &mut Follower, table: &Table| {
        for bytes in 0..SMALLEST_BUFFER {
            let mut source = table.source(&follower.id);
            let result = follower.reader.read(&mut source, &mut vec![0; bytes]);
            assert_eq!(result, Err(ReadError::BufferTooShort { bytes, needed: 24 }));
            assert_eq!(source.looked_at, 0);
        }
    };
    short(&mut follower, &table);
    follower.rest_of_pass(&table);
    table.change(2, None);
    short(&mut follower, &table);
    follower.rest_of_pass(&table);
    assert_eq!(follower.replica.entries, table.entries);
    // The smallest buffer takes one entry at a time.
    let mut follower = Follower::of(&table, little());
    let mut calls = Vec::new();
    loop {
        let progress = follower.read(&table, SMALLEST_BUFFER);
        calls.push((progress.bytes, progress.pass_ended));
        if progress.pass_ended {
            break;
        }
    }
    assert_eq!(calls, [(24, false), (24, false), (24, true)]);
    assert_eq!(follower.replica.entries, table.entries);
}

/// O3, and the mark that KVM keeps in doubleword 1.
#[test]
fn stream_no_lock_bits() {
    let dirty = GuestHpte {
        v: GuestHpteV::new(numbered(1).v.get() & !1 | 0x60),
        r: GuestHpteR::new(numbered(1).r.get() | 1 << 62),
    };
    let bytes = first_pass(vec![Some(dirty)], little());
    let clean = first_pass(vec![Some(numbered(1))], little());
    assert_eq!(bytes, clean);
    assert_eq!(bytes[8 + 7] & 0x61, 1);
    assert_eq!(bytes[8 + 8] & 0x40, 0);
}

#[test]
fn stream_bolted_only() {
    let bolted = |number| {
        let mut entry = numbered(number);
        entry.v = GuestHpteV::new(entry.v.get() | HpteV::BOLTED);
        Some(entry)
    };
    let mut table = Table::new(vec![None, bolted(1), Some(numbered(2)), bolted(3), None]);
    let options = StreamOptions {
        filter: EntryFilter::BoltedOnly,
        ..little()
    };
    let mut follower = Follower::of(&table, options);
    assert_eq!(follower.rest_of_pass(&table), 3 * 8 + 2 * 16);
    assert_eq!(
        follower.replica.entries,
        [None, bolted(1), None, bolted(3), None]
    );
    // One that is bolted no more is gone, one that is now comes, others are told as gone.
    table.change(1, Some(numbered(1)));
    table.change(2, bolted(2));
    table.change(4, Some(numbered(4)));
    follower.rest_of_pass(&table);
    assert_eq!(
        follower.replica.entries,
        [None, None, bolted(2), bolted(3), None]
    );
}

/// Q1: the mark that goes is that of the entry that was told, not its neighbour's.
#[test]
fn qemu_clean_off_by_one() {
    const COUNT: usize = 40;
    for holes in [HoleStyle::Counted, HoleStyle::LeftOut] {
        for index in (1..COUNT - 1).step_by(unless_miri(1, 9)) {
            let mut table = numbered_table(COUNT as u64);
            // The first pass stops at `index`, in its second call or at the end of the first.
            let options = StreamOptions {
                holes,
                scan_limit: scan(u32::try_from(index).unwrap()),
                ..little()
            };
            let mut follower = Follower::of(&table, options);
            assert!(!follower.read(&table, 4096).pass_ended);
            assert_eq!(follower.reader.position(), index as u64);
            for near in [index - 1, index, index + 1] {
                table.change(near, None);
            }
            while !follower.read(&table, 4096).pass_ended {}
            // The one behind is told in the next pass; the others were told by this one, and no
            // more is marked than that.
            let marked: Vec<_> = (0..COUNT as u64)
                .filter(|&n| table.log.next_marked(&follower.id, n, n + 1) == n)
                .collect();
            assert_eq!(marked, [index as u64 - 1]);
            while !follower.read(&table, 4096).pass_ended {}
            assert_eq!(follower.replica.entries, table.entries);
        }
    }
}

/// The same where it is the buffer that ends in the middle of changes.
#[test]
fn an_entry_without_room_is_told_by_the_next_call() {
    for buffer in 24..=80 {
        let mut table = numbered_table(30);
        let mut follower = Follower::of(&table, little());
        follower.rest_of_pass(&table);
        for index in [3, 4, 5, 6, 8, 9, 20] {
            table.change(index, Some(numbered(index as u64 + 100)));
        }
        table.change(7, None);
        table.change(21, None);
        assert!(!follower.read(&table, buffer).pass_ended);
        // What it stopped at changes once more, and so does what was told already.
        let stopped_at = usize::try_from(follower.reader.position()).unwrap();
        table.change(stopped_at, None);
        table.change(3, Some(numbered(77)));
        let mut told = 0;
        loop {
            let progress = follower.read(&table, buffer);
            told += progress.bytes;
            if progress.pass_ended {
                break;
            }
        }
        assert!(told > 0);
        let mut expected = table.entries.clone();
        // Told before it changed again.
        expected[3] = Some(numbered(103));
        assert_eq!(follower.replica.entries, expected, "{buffer}");
        assert_eq!(follower.rest_of_pass(&table), 24);
        assert_eq!(follower.replica.entries, table.entries);
        assert_eq!(follower.rest_of_pass(&table), 0);
    }
}

/// Rule 9: it is enough to be known before one's first pass, for that gives all there is.
#[test]
fn changes_before_a_reader_need_no_marks() {
    let mut table = numbered_table(64);
    // Nobody reads: nothing is marked.
    table.change(5, None);
    table.change(6, Some(numbered(600)));
    let options = StreamOptions {
        scan_limit: scan(32),
        ..little()
    };
    let mut follower = Follower::of(&table, options);
    // After it is known, before its pass, and during the pass, before and behind it.
    table.change(7, None);
    assert!(!follower.read(&table, 4096).pass_ended);
    table.change(8, None);
    table.change(40, None);
    follower.rest_of_pass(&table);
    assert_ne!(follower.replica.entries, table.entries);
    let bytes = follower.rest_of_pass(&table);
    assert_eq!(bytes, 8, "only entry 8 is left to tell");
    assert_eq!(follower.replica.entries, table.entries);
}

#[test]
fn one_call_looks_at_so_many_entries_and_no_more() {
    for skips in [false, true] {
        let mut table = Table::new(vec![None; 1000]);
        let id = table.log.open().unwrap();
        let options = StreamOptions {
            scan_limit: scan(64),
            ..little()
        };
        let mut reader = StreamReader::new(&table.source(&id), options).unwrap();
        let mut out = [0; 4096];
        let mut pass = |table: &Table, reader: &mut StreamReader| {
            let mut calls = Vec::new();
            loop {
                let mut source = table.source(&id);
                source.skips = skips;
                let progress = reader.read(&mut source, &mut out).unwrap();
                assert!(source.looked_at <= 64);
                calls.push(progress.bytes);
                if progress.pass_ended {
                    return calls;
                }
            }
        };
        // The first pass says so much as it has seen; a later one need not say anything, and is not
        // at its end for that.
        assert_eq!(pass(&table, &mut reader), [8; 16]);
        assert_eq!(pass(&table, &mut reader), [0; 16]);
        table.change(999, Some(numbered(1)));
        let mut expected = [0; 16];
        expected[15] = 24;
        assert_eq!(pass(&table, &mut reader), expected);
    }
}

#[test]
fn a_first_pass_may_begin_anywhere() {
    let mut table = numbered_table(20);
    let at = |start| StreamOptions { start, ..little() };
    let mut follower = Follower::of(&table, at(15));
    table.change(3, None);
    assert_eq!(follower.rest_of_pass(&table), 8 + 5 * 16);
    assert_eq!(follower.replica.entries[..15], [None; 15]);
    assert_eq!(follower.replica.entries[15..], table.entries[15..]);
    assert!(!follower.reader.is_first_pass());
    assert_eq!(follower.rest_of_pass(&table), 8);
    for start in [20, u64::MAX] {
        let error = StreamReader::new(&table.source(&follower.id), at(start)).unwrap_err();
        assert_eq!(error, ReadError::StartBeyondTable { start, entries: 20 });
    }
}

#[test]
fn a_table_of_another_size_needs_another_reader() {
    let table = numbered_table(20);
    let mut follower = Follower::of(&table, little());
    let _ = follower.read(&table, 24);
    let other = numbered_table(40);
    let id = other.log.open().unwrap();
    let error = follower.reader.read(&mut other.source(&id), &mut [0; 100]);
    let expected = ReadError::TableReplaced {
        before: 20,
        now: 40,
    };
    assert_eq!(error, Err(expected));
}

#[test]
fn a_table_that_a_header_cannot_name_is_refused() {
    struct Empty(u64);
    impl HptSource for Empty {
        fn entries(&self) -> u64 {
            self.0
        }
        fn take_changed(&mut self, _: HpteIndex) -> bool {
            false
        }
        fn entry(&mut self, _: HpteIndex) -> Option<GuestHpte> {
            None
        }
    }
    let entries = (1 << 32) + 1;
    let error = StreamReader::new(&Empty(entries), little()).unwrap_err();
    assert_eq!(error, ReadError::TableTooLarge { entries });
    // The largest table's last entry is named.
    let options = StreamOptions {
        start: u64::from(u32::MAX),
        ..little()
    };
    let mut reader = StreamReader::new(&Empty(1 << 32), options).unwrap();
    let mut out = [0; 24];
    let progress = reader.read(&mut Empty(1 << 32), &mut out).unwrap();
    assert_eq!((progress.bytes, progress.pass_ended), (8, true));
    assert_eq!(out[..8], [255, 255, 255, 255, 0, 0, 1, 0]);
}

/// What happens between two calls.
#[derive(Clone, Debug)]
enum Event {
    /// The reader with this number reads into a buffer of so many bytes.
    Read(usize, usize),
    Change(prop::sample::Index, Option<GuestHpte>),
    /// The reader ends and a new one begins.
    Reopen(usize),
}

fn event() -> impl Strategy<Value = Event> {
    let buffer = prop_oneof![24..100usize, 100..3000usize];
    prop_oneof![
        6 => (0..3usize, buffer).prop_map(|(reader, bytes)| Event::Read(reader, bytes)),
        6 => (any::<prop::sample::Index>(), prop::option::of(some_entry()))
            .prop_map(|(index, to)| Event::Change(index, to)),
        1 => (0..3usize).prop_map(Event::Reopen),
    ]
}

fn some_options() -> impl Strategy<Value = StreamOptions> {
    let filter = prop_oneof![Just(EntryFilter::All), Just(EntryFilter::BoltedOnly)];
    let holes = prop_oneof![Just(HoleStyle::Counted), Just(HoleStyle::LeftOut)];
    let limit = prop_oneof![1..50_u32, 50..5000_u32];
    (filter, holes, limit).prop_map(|(filter, holes, limit)| StreamOptions {
        filter,
        holes,
        scan_limit: scan(limit),
        ..little()
    })
}

fn filtered(entries: &Entries, filter: EntryFilter) -> Entries {
    let keep = |entry: &GuestHpte| filter == EntryFilter::All || entry.v.get() & HpteV::BOLTED != 0;
    entries.iter().map(|entry| entry.filter(keep)).collect()
}

proptest! {
    #![proptest_config(config())]

    /// Any table, read by three readers in buffers of any size while it changes, comes out on the
    /// other side of each, once it has come to rest.
    #[test]
    fn stream_roundtrip_random(
        entries in some_entries(unless_miri(1500, 200)),
        options in prop::collection::vec(some_options(), 3),
        events in prop::collection::vec(event(), 0..steps(120)),
    ) {
        let mut table = Table::new(entries);
        let mut followers: Vec<_> =
            options.iter().map(|&options| Follower::of(&table, options)).collect();
        for event in events {
            match event {
                Event::Read(number, buffer) => {
                    let _ = followers[number].read(&table, buffer);
                }
                Event::Change(index, to) => table.change(index.index(table.entries.len()), to),
                Event::Reopen(number) => {
                    table.log.close(followers.remove(number).id);
                    followers.insert(number, Follower::of(&table, options[number]));
                }
            }
        }
        for (follower, options) in followers.iter_mut().zip(&options) {
            // The rest of this pass, and one more for what changed behind it.
            follower.rest_of_pass(&table);
            follower.rest_of_pass(&table);
            prop_assert_eq!(
                &follower.replica.entries, &filtered(&table.entries, options.filter)
            );
            prop_assert_eq!(follower.rest_of_pass(&table), 0);
        }
    }

    /// The first pass of a table at rest, in either order, gives the same table whatever the
    /// buffers, and each part of it is a stream by itself.
    #[test]
    fn a_first_pass_in_any_pieces_is_the_table(
        entries in some_entries(unless_miri(1500, 200)),
        order in some_order(),
        buffers in prop::collection::vec(24..400usize, 1..20),
    ) {
        let table = Table::new(entries);
        let id = table.log.open().unwrap();
        let mut source = table.source(&id);
        let mut reader = StreamReader::new(&source, StreamOptions::new(order)).unwrap();
        let mut replica = Replica::empty(table.entries.len());
        for buffer in buffers.iter().cycle() {
            let mut out = vec![0; *buffer];
            let progress = reader.read(&mut source, &mut out).unwrap();
            prop_assert!(progress.bytes > 0 || progress.pass_ended);
            replica.take_in(&out[..progress.bytes], order);
            if progress.pass_ended {
                break;
            }
        }
        prop_assert_eq!(&replica.entries, &table.entries);
    }
}
