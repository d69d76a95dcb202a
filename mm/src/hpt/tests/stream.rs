// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The stream on the real engine: what comes out of a table, and into one.

use super::super::flags::EXACT;
use super::order::broken_rules;
use super::*;
use crate::stream::{
    ByteOrder, Change, Encoding, GuestHpte, HptSource, ParsedStream, StartsFrom, StreamOptions,
    StreamReader,
};
use core::num::NonZeroU32;
use penstock_arch::hash::{GuestHpteR, GuestHpteV};

const LITTLE: Encoding = Encoding::Bare(ByteOrder::Little);
const R: u64 = 0x100;
const C: u64 = 0x80;

/// One reader of a table, and where it is.
pub(super) struct Reading<'a> {
    source: HptReader<'a, TestMachine>,
    stream: StreamReader,
}

impl<'a> Reading<'a> {
    pub(super) fn new(p: &'a Fixture) -> Self {
        let source = p.reader().unwrap();
        let options = StreamOptions {
            // Calls end in the middle of a group.
            scan_limit: NonZeroU32::new(3001).unwrap(),
            ..StreamOptions::new(ByteOrder::Little)
        };
        let stream = StreamReader::new(&source, options).unwrap();
        Self { source, stream }
    }

    pub(super) fn pass(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        loop {
            let mut buffer = [0; 200];
            let progress = self.stream.read(&mut self.source, &mut buffer).unwrap();
            bytes.extend_from_slice(&buffer[..progress.bytes]);
            if progress.pass_ended {
                return bytes;
            }
        }
    }

    /// A pass that is not the first: entry by entry.
    fn changes(&mut self) -> Vec<(u64, Option<[u64; 2]>)> {
        assert!(!self.stream.is_first_pass());
        told(&self.pass())
    }
}

pub(super) fn parsed(bytes: &[u8], starts_from: StartsFrom) -> ParsedStream<'_> {
    ParsedStream::parse(bytes, LITTLE, 1 << 14, starts_from).unwrap()
}

pub(super) fn told(bytes: &[u8]) -> Vec<(u64, Option<[u64; 2]>)> {
    let mut told = Vec::new();
    for (_, change) in parsed(bytes, StartsFrom::CurrentTable).changes() {
        match change {
            Change::Set { index, entry } => {
                told.push((index.get(), Some([entry.v.get(), entry.r.get()])));
            }
            Change::Clear { first, count } => {
                told.extend((first.get()..first.get() + count).map(|at| (at, None)));
            }
        }
    }
    told
}

pub(super) fn first_pass(p: &Fixture) -> Vec<u8> {
    Reading::new(p).pass()
}

/// A record of one entry.
pub(super) fn record(index: u32, v: u64, r: u64) -> Vec<u8> {
    let header = crate::stream::RecordHeader {
        index,
        n_valid: 1,
        n_invalid: 0,
    };
    let entry = GuestHpte {
        v: GuestHpteV::new(v),
        r: GuestHpteR::new(r),
    };
    let mut bytes = Vec::from(header.to_bytes(ByteOrder::Little));
    bytes.extend(entry.to_bytes());
    bytes
}

fn random_entries() -> impl Strategy<Value = Vec<(u64, Page, u64, u64)>> {
    let page = (1_u64..5, 0_u64..64, 0_usize..6).prop_map(|(vsid, number, encoding)| {
        let encoding = PageEncoding::ALL[encoding];
        Page {
            vsid: 0x100 + vsid * 0x800,
            ea: number << encoding.base().shift(),
            segment: SegmentSize::S1T,
            encoding,
        }
    });
    let bits = (0_u64..4, 0_u64..4).prop_map(|(rc, pp)| rc << 7 | pp);
    prop::collection::vec((0_u64..1 << 14, page, 0_u64..32, bits), 1..steps(200))
}

/// Enters what can be entered.
fn enter(p: &Fixture, entries: &[(u64, Page, u64, u64)]) {
    for &(index, page, megabyte, bits) in entries {
        let at = (megabyte << 20) & !(page.encoding.actual().bytes() - 1);
        let r = at | page.encoding.lp() << 12 | 0x10 | bits;
        let _ = p.h_enter(EXACT, index, page.v(), r);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: config().cases.div_ceil(4), ..config() })]

    #[test]
    fn stream_roundtrip(
        entries in random_entries(),
        lazy in any::<bool>(),
        used in prop::collection::vec((0_usize..200, 0_u64..4), 0..steps(40)),
    ) {
        let p = if lazy { lazy_partition() } else { partition() };
        enter(&p, &entries);
        for (number, rc) in used {
            let index = entries[number % entries.len()].0;
            if p.real(index).0 & HpteV::VALID != 0 {
                p.hardware_sets(index, rc << 7);
            }
        }
        let before = everything(&p);
        let out = first_pass(&p);
        prop_assert_eq!(&everything(&p), &before);
        p.clear_all();
        // Something that is not in the stream, and something in the way.
        for index in [entries[0].0, 77, 4093] {
            let _ = p.h_enter(EXACT, index, PAGE.v(), PAGE.r(0));
        }
        // Clearing all is no store of an entry.
        let was_valid: Vec<_> = (0..p.entries()).filter(|at| p.real(*at).0 & 1 != 0).collect();
        let mut steps: Vec<_> = was_valid
            .into_iter()
            .map(|at| Step::Store(penstock_arch::tlb::HpteStore::V(
                HpteIndex::new(at),
                HpteV::new(HpteV::VALID),
            )))
            .collect();
        p.steps();
        p.restore(&parsed(&out, StartsFrom::EmptyTable), VcpusAre::Stopped, |_| ()).unwrap();
        steps.extend(p.steps());
        prop_assert_eq!(broken_rules(&steps), Vec::<usize>::new());
        prop_assert_eq!(&everything(&p), &before);
        prop_assert!(p.check().is_ok(), "{:?}", p.check());
        prop_assert_eq!(first_pass(&p), out);
    }

    /// A copy that only applies the passes is the table, whatever happens between them.
    #[test]
    fn stream_passes_keep_a_copy_equal(
        entries in random_entries(),
        lazy in any::<bool>(),
        ops in prop::collection::vec((0_usize..200, 0_u8..10), 1..steps(120)),
    ) {
        let p = if lazy { lazy_partition() } else { partition() };
        let copy = lazy_partition();
        enter(&p, &entries[..entries.len() / 2]);
        let mut reading = Reading::new(&p);
        let first = reading.pass();
        copy.restore(&parsed(&first, StartsFrom::EmptyTable), VcpusAre::Stopped, |_| ()).unwrap();
        for ops in ops.chunks(10) {
            for &(number, op) in ops {
                let entry = entries[number % entries.len()];
                let index = entry.0;
                match op {
                    0..3 => enter(&p, &[entry]),
                    3 => { let _ = p.h_remove(0, index, 0); }
                    4 => { let _ = p.h_protect(entry.3 & 3, index, 0); }
                    5 => { let _ = p.h_clear_ref(0, index); }
                    6 => { let _ = p.h_clear_mod(0, index); }
                    7 => { let _ = p.take_used_bytes(crate::guest_memory::SlotId::MEMORY); }
                    _ if p.real(index).0 & HpteV::VALID != 0 => {
                        p.hardware_sets(index, entry.3 & (R | C) | R);
                    }
                    _ => {}
                }
            }
            reading.source.before_pass(VcpusAre::Stopped);
            let pass = reading.pass();
            copy.restore(&parsed(&pass, StartsFrom::CurrentTable), VcpusAre::Stopped, |_| ()).unwrap();
            prop_assert_eq!(everything(&copy), everything(&p));
            prop_assert!(reading.changes().is_empty());
        }
        prop_assert!(copy.check().is_ok() && p.check().is_ok());
        prop_assert_eq!(broken_rules(&p.steps()), Vec::<usize>::new());
        prop_assert_eq!(broken_rules(&copy.steps()), Vec::<usize>::new());
    }
}

#[test]
fn stream_no_real_address() {
    let p = partition();
    for index in 0..100 {
        let (at, ptex) = (index * 0x1_0000, index * 3);
        p.h_enter(EXACT, ptex, PAGE.v(), PAGE.r(at)).unwrap();
        assert_ne!(p.host(at), at);
    }
    let bytes = first_pass(&p);
    for (index, entry) in told(&bytes) {
        assert_eq!(entry.unwrap_or_default(), p.h_read(0, index).unwrap());
        let (v, r) = p.real(index);
        if v != 0 {
            let page = r & HpteR::RPN & !0xffff;
            assert_ne!(entry.unwrap()[1] & HpteR::RPN & !0xffff, page);
            assert!(
                !bytes.windows(8).any(|bytes| bytes == r.to_be_bytes()),
                "{index:#x}"
            );
        }
    }
}

#[test]
fn stream_two_readers() {
    let p = partition();
    p.h_enter(EXACT, 8, PAGE.v(), PAGE.r(0) & !(R | C)).unwrap();
    let (mut one, mut two) = (Reading::new(&p), Reading::new(&p));
    assert_eq!(one.pass(), two.pass());
    // What the first collects, the second is told too.
    p.hardware_sets(8, R);
    p.h_enter(EXACT, 5000, PAGE.v(), PAGE.r(0)).unwrap();
    let expected = |p: &Fixture| {
        [8, 5000]
            .map(|at| (at, Some(p.h_read(0, at).unwrap())))
            .to_vec()
    };
    assert_eq!(one.changes(), expected(&p));
    assert_eq!(one.changes(), []);
    assert_eq!(two.changes(), expected(&p));
    assert_eq!(two.changes(), []);
    // A third that comes later has all in its first pass, and nothing in the second.
    let mut three = Reading::new(&p);
    assert!(told(&three.pass()).contains(&expected(&p)[1]));
    assert_eq!(three.changes(), []);
    drop(two);
    let rest = [(); 2].map(|()| p.reader().unwrap());
    assert!(p.reader().is_none());
    drop(rest);
    assert!(p.reader().is_some());
}

#[test]
fn stream_later_pass_has_what_changed_and_nothing_else() {
    let p = partition();
    for index in 0..64 {
        p.h_enter(EXACT, index, PAGE.v(), PAGE.r(0) & !(R | C))
            .unwrap();
    }
    let mut reading = Reading::new(&p);
    reading.pass();
    assert_eq!(reading.changes(), []);
    let now = |at| Some(p.h_read(0, at).unwrap());

    p.hardware_sets(3, R | C);
    assert_eq!(now(3).unwrap()[1] & (R | C), R | C);
    assert_eq!(reading.changes(), [(3, now(3))]);
    assert_eq!(reading.changes(), []);
    p.h_clear_mod(0, 3).unwrap();
    assert_eq!(reading.changes(), [(3, now(3))]);
    p.h_clear_ref(0, 3).unwrap();
    assert_eq!(reading.changes(), [(3, now(3))]);
    // Set and cleared, and the reader never knew.
    p.hardware_sets(4, R | C);
    p.h_clear_ref(0, 4).unwrap();
    p.h_clear_mod(0, 4).unwrap();
    assert_eq!(reading.changes(), []);

    p.h_protect(3, 5, 0).unwrap();
    // What it says already is no change.
    p.h_protect(2, 6, 0).unwrap();
    p.h_remove(0, 9, 0).unwrap();
    let mut specs = [0x40 << 56 | 10, 0, 0x40 << 56 | 12, 0, 3 << 62, 0, 0, 0];
    p.h_bulk_remove(&mut specs);
    p.h_remove(0, 20, 0).unwrap();
    p.h_enter(EXACT, 20, PAGE.v(), PAGE.r(0) & !(R | C))
        .unwrap();
    assert_eq!(
        reading.changes(),
        [
            (5, now(5)),
            (9, None),
            (10, None),
            (12, None),
            (20, now(20))
        ]
    );
    // The working set takes R from the hardware, and not from the guest.
    p.hardware_sets(30, R);
    p.take_used_bytes(crate::guest_memory::SlotId::MEMORY)
        .unwrap();
    assert_eq!(reading.changes(), [(30, now(30))]);
    // All is told anew.
    p.clear_all();
    assert_eq!(reading.changes().len(), 1 << 14);
}

#[test]
fn stream_tells_only_what_is_collected() {
    let p = partition();
    p.h_enter(EXACT, 8, PAGE.v(), PAGE.r(0) & !(R | C)).unwrap();
    let (mut one, mut two) = (p.reader().unwrap(), p.reader().unwrap());
    let at = HpteIndex::new(8);
    assert!(!one.take_changed(at) && !two.take_changed(at));
    // Between the two questions.
    p.hardware_sets(8, R);
    assert_eq!(one.entry(at).unwrap().r.get() & (R | C), R);
    assert!(!one.take_changed(at));
    assert!(two.take_changed(at));
    p.h_clear_ref(0, 8).unwrap();
    assert!(one.take_changed(at));
}

#[test]
fn stream_hidden_entries_are_as_the_guest_sees_them() {
    let p = lazy_partition();
    p.h_enter(EXACT, 8, PAGE.v(), PAGE.r(0)).unwrap();
    let mut reading = Reading::new(&p);
    let first = told(&reading.pass());
    assert!(first.contains(&(8, Some([PAGE.v(), PAGE.r(0)]))));
    // That memory is touched is nothing that the guest sees.
    assert_eq!(p.real(8).0 & HpteV::VALID, 0);
    p.memory()
        .populate(penstock_arch::addr::GuestReal::new(0), 1 << 16)
        .unwrap();
    assert_eq!(reading.changes(), []);
}

#[test]
fn stream_write_rejects_while_running() {
    let p = partition();
    let bytes = record(8, PAGE.v(), PAGE.r(0));
    let stream = parsed(&bytes, StartsFrom::EmptyTable);
    let before = everything(&p);
    let error = p.restore(&stream, VcpusAre::Running, |_| ()).unwrap_err();
    assert_eq!(error, RestoreError::Running);
    let other = ParsedStream::parse(&bytes, LITTLE, 1 << 15, StartsFrom::EmptyTable).unwrap();
    let error = p.restore(&other, VcpusAre::Stopped, |_| ()).unwrap_err();
    assert_eq!(
        error,
        RestoreError::OtherTable {
            stream: 1 << 15,
            table: 1 << 14
        }
    );
    assert_eq!(everything(&p), before);
    assert_eq!(p.steps(), []);
}

#[test]
fn stream_without_real_mode_entries_gets_them_at_the_first_fault() {
    let p = partition();
    let bytes = record(8, PAGE.v(), PAGE.r(0));
    p.restore(
        &parsed(&bytes, StartsFrom::EmptyTable),
        VcpusAre::Stopped,
        |_| (),
    )
    .unwrap();
    assert_eq!(p.check().unwrap().valid, 1);
    let fault = real_mode(0x1000, PageSize::P16M, AccessKind::Load);
    assert_eq!(p.resolve(&fault), FaultAction::Retry);
    assert_eq!(p.check().unwrap().valid, 2);
}

#[test]
fn stream_that_one_entry_spoils_changes_nothing() {
    let p = partition();
    p.h_enter(EXACT, 8, PAGE.v(), PAGE.r(0)).unwrap();
    p.steps();
    let before = everything(&p);
    let good = record(16, PAGE.v(), PAGE.r(0x1_0000));
    let offset = good.len() + 8;
    for (v, r) in [
        // Outside memory, and not cacheable.
        (PAGE.v(), PAGE.r(32 << 20)),
        (PAGE.v(), PAGE.r(1 << 50)),
        (PAGE.v(), PAGE.r(0) | 0x20),
    ] {
        let mut bytes = good.clone();
        bytes.extend(record(24, v, r));
        for starts_from in [StartsFrom::EmptyTable, StartsFrom::CurrentTable] {
            let error = p.restore(&parsed(&bytes, starts_from), VcpusAre::Stopped, |_| ());
            match error {
                Err(RestoreError::Entry(error)) => {
                    assert_eq!(error.reason, HcallStatus::PARAMETER);
                    assert_eq!((error.offset, error.index.get()), (offset, 24));
                }
                other => panic!("{other:?}"),
            }
            assert_eq!(everything(&p), before);
            assert_eq!(p.steps(), []);
        }
    }
}

#[test]
fn stream_source_beyond_the_table_is_empty() {
    let p = partition();
    let mut source = p.reader().unwrap();
    let beyond = HptSource::entries(&source);
    for at in [beyond, u64::MAX] {
        assert!(!source.take_changed(HpteIndex::new(at)));
        assert_eq!(source.entry(HpteIndex::new(at)), None);
    }
    assert_eq!(source.next_changed(beyond, u64::MAX), beyond);
}

#[test]
fn a_reader_that_is_set_aside_misses_nothing() {
    let p = partition();
    let mut reading = Reading::new(&p);
    reading.pass();
    let Reading { source, mut stream } = reading;
    let aside = source.set_aside().unwrap();
    p.h_enter(EXACT, 8, PAGE.v(), PAGE.r(0)).unwrap();
    let mut source = p.take_up(aside);
    let mut buffer = [0; 200];
    let mut bytes = Vec::new();
    loop {
        let progress = stream.read(&mut source, &mut buffer).unwrap();
        bytes.extend_from_slice(&buffer[..progress.bytes]);
        if progress.pass_ended {
            break;
        }
    }
    assert!(told(&bytes).iter().any(|(index, _)| *index == 8));
    // Its place is free again, and three more there are.
    p.close_reader(source.set_aside().unwrap());
    let all: Vec<_> = (0..4).map(|_| p.reader().unwrap()).collect();
    assert!(p.reader().is_none());
    drop(all);
}

#[test]
fn a_table_is_dropped_in_steps_and_put_back_in_pieces() {
    let p = partition();
    for (at, page) in [(8, 0), (4000, 0x1_0000), (4095, 0x2_0000), (9000, 0x3_0000)] {
        p.h_enter(EXACT, at, PAGE.v(), PAGE.r(page)).unwrap();
    }
    let before = everything(&p);
    let stream = first_pass(&p);
    assert_eq!(
        p.drop_entries(0, 4096, VcpusAre::Running),
        Err(RestoreError::Running)
    );
    assert_eq!(everything(&p), before);
    p.steps();
    let mut at = 0;
    while let Some(next) = p.drop_entries(at, 4096, VcpusAre::Stopped).unwrap() {
        assert_eq!(next, at + 4096);
        at = next;
    }
    assert_eq!(broken_rules(&p.steps()), Vec::<usize>::new());
    assert_eq!(p.check().unwrap().valid, 0);
    assert_eq!(p.hidden(), 0);
    // Record by record.
    let whole = parsed(&stream, StartsFrom::CurrentTable);
    let mut starts: Vec<usize> = whole.records().map(|(offset, _)| offset).collect();
    starts.push(stream.len());
    for piece in starts.windows(2) {
        let piece = parsed(&stream[piece[0]..piece[1]], StartsFrom::CurrentTable);
        p.restore(&piece, VcpusAre::Stopped, |_| ()).unwrap();
    }
    assert_eq!(everything(&p), before);
    p.check().unwrap();
}

#[test]
fn translations_of_entries_that_are_there_are_dropped_one_by_one() {
    let p = partition();
    p.h_enter(EXACT, 8, PAGE.v(), PAGE.r(0)).unwrap();
    p.h_enter(EXACT, 9, PAGE.v(), PAGE.r(0x1_0000)).unwrap();
    p.steps();
    // Neither what is free nor what there is none of.
    p.invalidate_entries([8, 9, 10, p.entries(), u64::MAX]);
    let steps = p.steps();
    let single = steps
        .iter()
        .filter(|step| matches!(step, Step::Tlbie(..)))
        .count();
    assert_eq!(single, 2);
    assert_eq!(broken_rules(&steps), Vec::<usize>::new());
    assert_eq!(steps.last(), Some(&Step::Ptesync));
}
