// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The interface about partitions as they run on the machine: real page tables, and virtual
//! processors that a run loop of the test's puts on a thread.

extern crate std;

mod registers;
mod session;

use super::super::function::Function;
use super::super::records::{self, Capabilities, Invalidate, Record, StreamChunk, VcpuState};
use super::super::session::State;
use super::super::{DONE, ENTRIES_PER_CALL, WRITER, open_flags};
use super::*;
use crate::config::Authority;
use crate::console::GuestId;
use crate::processor::{Activity, Start};
use crate::testing::{
    FakePlatform, GUEST_BYTES, HPT_ENTRIES, Parts, RigOptions, make_partition,
    take_partition_entries,
};
use penstock_arch::addr::GuestReal;
use penstock_arch::hash::Pate;
use penstock_mm::hpt::flags::EXACT;
use penstock_mm::status::HcallStatus as H;
use std::vec;
use std::vec::Vec;
use zerocopy::IntoBytes;
use zerocopy::byteorder::big_endian::{U32, U64};

/// Where tools have their buffer.
const BUFFER: u64 = 0x1_0000;
/// A 64K page in a 1T segment, to be entered anywhere.
const PAGE_V: u64 = 0x4000_01ac_e540_0505;
const PAGE_R: u64 = 0x1192;

/// A slot of the world: what stays when its partition ends, and what does not.
struct Place {
    number: u32,
    occupied: Option<Occupied<FakePlatform>>,
    session: Mutex<Session>,
    seat: Seat,
}

impl Place {
    fn new(number: u16, options: RigOptions) -> Self {
        let mut place = Self {
            number: number.into(),
            occupied: None,
            session: Mutex::new(Session::new()),
            seat: Seat {
                state: PartitionState::ShutOff,
                on_thread: false,
                held: false,
            },
        };
        place.start(options);
        place
    }

    fn start(&mut self, options: RigOptions) {
        let Parts { mut partition, .. } = make_partition(options);
        partition.id = GuestId(self.number.try_into().unwrap());
        self.occupied = Occupied::new(partition).ok();
        let start = |vcpu: &mut crate::vcpu::Vcpu<'_, _>| {
            vcpu.begin(Start {
                entry: GuestReal::new(0),
                r3: 0x10_0000,
            });
        };
        self.occupied.as_mut().unwrap().with(0, start).unwrap();
        self.seat.state = PartitionState::Running;
    }

    fn with<R>(&mut self, act: impl FnOnce(&Target<'_, FakePlatform>) -> R) -> R {
        let definition = Definition {
            number: self.number,
            name: "place",
            vcpus: 1,
            hpt_entries: HPT_ENTRIES,
            session: &self.session,
        };
        with_target(definition, self.occupied.as_ref(), &mut self.seat, act)
    }

    fn partition(&self) -> &Partition<FakePlatform> {
        self.occupied.as_ref().unwrap().partition()
    }

    /// What the run loop does between two calls.
    fn leave_thread(&mut self) {
        self.seat.on_thread &= !self.seat.held;
    }

    fn end(&mut self) {
        self.with(|target| target.session().lock().restart(target));
        self.occupied = None;
        self.seat.state = PartitionState::ShutOff;
        self.seat.held = false;
    }

    fn table(&self) -> Vec<[u64; 2]> {
        let mmu = &self.partition().mmu;
        (0..mmu.entries())
            .map(|at| mmu.h_read(0, at).unwrap())
            .collect()
    }
}

/// Two tools, 1 and 2, and partition 3 without authority.
struct World([Place; 3]);

impl World {
    fn new() -> Self {
        let tool = RigOptions {
            authority: Authority::Control,
            ..RigOptions::default()
        };
        Self([
            Place::new(1, tool),
            Place::new(2, tool),
            Place::new(3, RigOptions::default()),
        ])
    }

    fn target(&mut self) -> &mut Place {
        &mut self.0[2]
    }

    /// H_CONTROL by place `by`, about partition 3, with bytes in the buffer.
    fn put(&mut self, by: usize, function: Function, bytes: &[u8], arguments: &[u64]) -> Reply {
        let caller = self.0[by].partition();
        let memory = caller.mmu.memory();
        memory.write(GuestReal::new(BUFFER), bytes).unwrap();
        let mut call = Call {
            function: function as u64,
            partition: 3,
            address: if bytes.is_empty() { 0 } else { BUFFER },
            length: bytes.len() as u64,
            arguments: [0; 3],
        };
        call.arguments[..arguments.len()].copy_from_slice(arguments);
        let [first, second, third] = &mut self.0;
        let caller = match by {
            0 => first.partition(),
            1 => second.partition(),
            _ => return third.with(|target| target.serve(&call, None)),
        };
        third.with(|target| target.serve(&call, Some(caller)))
    }

    fn call(&mut self, by: usize, function: Function, arguments: &[u64]) -> Reply {
        self.put(by, function, &[], arguments)
    }

    /// A call of the first tool that goes well.
    #[track_caller]
    fn does(&mut self, function: Function, arguments: &[u64]) -> Vec<u64> {
        let reply = self.call(0, function, arguments);
        assert_eq!(reply.status, H::SUCCESS, "{function:?}");
        reply.results().to_vec()
    }

    /// A call of the first tool that is refused.
    #[track_caller]
    fn refuses(&mut self, function: Function, arguments: &[u64], status: H) {
        let length = function.buffer().min_bytes();
        let reply = self.put(0, function, &vec![0; length], arguments);
        assert_eq!(reply.status, status, "{function:?}");
    }

    /// A call of the first tool with a buffer to be written.
    #[track_caller]
    fn get(&mut self, function: Function, length: usize, arguments: &[u64]) -> Vec<u8> {
        let reply = self.put(0, function, &vec![0xcc; length], arguments);
        assert_eq!(reply.status, H::SUCCESS, "{function:?}");
        let mut bytes = vec![0; usize::try_from(reply.results()[0]).unwrap()];
        let memory = self.0[0].partition().mmu.memory();
        memory.read(GuestReal::new(BUFFER), &mut bytes).unwrap();
        bytes
    }

    #[track_caller]
    fn suspend(&mut self) {
        while self.call(0, Function::Suspend, &[]).status == H::LONG_BUSY_ORDER_1_MSEC {
            assert!(self.target().seat.on_thread);
            self.target().leave_thread();
        }
        assert_eq!(self.target().session.lock().state(), State::Stopped);
    }

    /// A first pass, as bytes.
    fn stream(&mut self) -> Vec<u8> {
        let stream = self.does(Function::StreamOpen, &[0])[0];
        let mut bytes = Vec::new();
        loop {
            let piece = self.get(Function::StreamRead, 4000, &[stream]);
            let (chunk, records) = records::read::<StreamChunk>(&piece).unwrap();
            bytes.extend_from_slice(records);
            if chunk.flags.get() & StreamChunk::END != 0 {
                break;
            }
        }
        self.does(Function::StreamClose, &[stream]);
        bytes
    }

    fn write(&mut self, records: &[u8], flags: u32, offset: u64) -> Reply {
        let mut chunk = StreamChunk::blank();
        chunk.stream = U32::new(u32::try_from(WRITER).unwrap());
        chunk.flags = U32::new(flags);
        chunk.offset = U64::new(offset);
        chunk.length = U32::new(u32::try_from(records.len()).unwrap());
        chunk.byte_order = records::BYTE_ORDER_BIG.into();
        let mut bytes = chunk.as_bytes().to_vec();
        bytes.extend_from_slice(records);
        self.put(0, Function::StreamWrite, &bytes, &[WRITER])
    }

    fn set_vcpu(&mut self, state: &VcpuState) -> Reply {
        self.put(0, Function::VcpuSet, state.as_bytes(), &[0])
    }

    fn activity(&mut self) -> Activity {
        let processors = &self.target().partition().processors;
        processors.get(0).unwrap().activity()
    }

    fn vcpu(&mut self) -> VcpuState {
        let bytes = self.get(Function::VcpuGet, size_of::<VcpuState>(), &[0, 0]);
        *records::read::<VcpuState>(&bytes).unwrap().0
    }
}

#[test]
fn everything_is_offered_for_every_partition() {
    let mut world = World::new();
    for number in 0..=10 {
        assert_eq!(world.does(Function::Feature, &[number])[0], 1, "{number}");
    }
    let bytes = world.get(Function::Capabilities, 128, &[]);
    let (record, _) = records::read::<Capabilities>(&bytes).unwrap();
    assert_eq!(record.hpt_entries.get(), HPT_ENTRIES);
    assert_eq!((record.vcpus.get(), record.partition.get()), (1, 3));
    assert_eq!(record.flush_threshold.get(), 32);
    assert_eq!(record.page_sizes.get(), 1 << 12 | 1 << 16 | 1 << 24);
    // About itself a partition without the mark learns no more.
    let reply = world.call(2, Function::Feature, &[0]);
    assert_eq!(reply.status, H::AUTHORITY);
}

#[test]
fn a_table_is_streamed_out_dropped_and_streamed_in() {
    let mut world = World::new();
    let mmu = &world.target().partition().mmu;
    for (at, page) in [(8, 0), (4104, 0x1_0000), (9000, 0xff_0000)] {
        mmu.h_enter(EXACT, at, PAGE_V, page | PAGE_R).unwrap();
    }
    let before = world.target().table();
    world.target().seat.on_thread = true;
    world.suspend();
    let stream = world.stream();
    let mut at = 0;
    while at != DONE {
        at = world.does(Function::HptDrop, &[at])[0];
        assert_eq!(world.call(0, Function::Resume, &[]).status, H::STATE);
    }
    assert!(world.target().table().iter().all(|entry| *entry == [0, 0]));
    world.does(Function::StreamOpen, &[open_flags::WRITE]);
    // In two pieces, between which nothing can be finished.
    let end = records_end(&stream);
    let first = StreamChunk::FIRST_PASS;
    assert_eq!(world.write(&stream[..end], first, 0).status, H::SUCCESS);
    assert_eq!(world.call(0, Function::Commit, &[]).status, H::STATE);
    let last = world.write(&stream[end..], first | StreamChunk::END, end as u64);
    assert_eq!(last.status, H::SUCCESS);
    assert_eq!(last.results(), [stream.len() as u64]);
    world.does(Function::StreamClose, &[WRITER]);
    assert_eq!(world.call(0, Function::Resume, &[]).status, H::STATE);
    assert!(world.target().seat.held);
    world.does(Function::Commit, &[]);
    world.does(Function::Resume, &[]);
    assert!(!world.target().seat.held);
    assert_eq!(world.target().table(), before);
    world.target().partition().mmu.check().unwrap();
}

/// Where the first record ends.
fn records_end(stream: &[u8]) -> usize {
    8 + 16 * usize::from(u16::from_be_bytes([stream[4], stream[5]]))
}

#[test]
fn a_refused_piece_changes_nothing_and_says_where_it_is_wrong() {
    let mut world = World::new();
    world.suspend();
    let before = world.target().table();
    world.does(Function::StreamOpen, &[open_flags::WRITE]);
    let entry = |index: u32, r: u64| {
        let mut record = index.to_be_bytes().to_vec();
        record.extend([0, 1, 0, 0]);
        record.extend(PAGE_V.to_be_bytes());
        record.extend(r.to_be_bytes());
        record
    };
    let good = entry(8, PAGE_R);
    for (bad, offset) in [
        // Outside memory; outside the table; not a whole record.
        (entry(16, GUEST_BYTES | PAGE_R), 24 + 8),
        (entry(0x4000, PAGE_R), 24),
        (entry(16, PAGE_R)[..20].to_vec(), 24),
    ] {
        let records = [good.clone(), bad].concat();
        let reply = world.write(&records, StreamChunk::END, 0);
        assert_eq!(reply.status, H::BAD_DATA);
        assert_eq!(reply.results(), [11, 40 + offset]);
        assert_eq!(world.target().table(), before);
    }
    // The place in the stream is where it was.
    assert_eq!(world.write(&good, StreamChunk::END, 0).status, H::SUCCESS);
    assert_ne!(world.target().table(), before);
}

/// A record of the entry that maps the first page of real mode, in its place.
fn real_mode_record(r: u64) -> Vec<u8> {
    let mut record = 0x3fff_u32.to_be_bytes().to_vec();
    record.extend([0, 1, 0, 0]);
    record.extend(0x4001_ffff_ff00_0015_u64.to_be_bytes());
    record.extend(r.to_be_bytes());
    record
}

/// Doublewords 1 of that entry, with pages of 64 KiB and 16 MiB.
const REAL_MODE_R: [u64; 2] = [0x1190, 0x190];

#[test]
fn a_piece_that_changes_the_pages_of_real_mode_changes_the_partition_table() {
    let mut world = World::new();
    world.suspend();
    let lpid = world.target().partition().mmu.lpid();
    let table = world.target().partition().mmu.hpt_base().get();
    let small = real_mode_record(REAL_MODE_R[0]);
    // A table of 256 KiB has size 0; PS is 5 for 64 KiB, and 4 for 16 MiB.
    let (entry, first) = ([table | 0xa0, 0], [table | 0x80, 0]);
    world.does(Function::StreamOpen, &[open_flags::WRITE]);
    take_partition_entries();
    assert_eq!(world.write(&small, 0, 0).status, H::SUCCESS);
    assert_eq!(take_partition_entries(), [(lpid, Some(entry))]);
    let pate = world.target().partition().mmu.pate();
    assert_eq!(pate.map(Pate::dwords), Some(entry));
    // The same again, and a piece without such an entry, need no other one.
    let at = small.len() as u64;
    assert_eq!(world.write(&small, 0, at).status, H::SUCCESS);
    let end = world.write(&[], StreamChunk::END, 2 * at);
    assert_eq!(end.status, H::SUCCESS);
    world.does(Function::StreamClose, &[WRITER]);
    world.does(Function::Commit, &[]);
    world.does(Function::Resume, &[]);
    assert_eq!(take_partition_entries(), []);
    // As a restart does it.
    let mmu = &world.target().partition().mmu;
    mmu.clear_all();
    assert_eq!(mmu.pate().map(Pate::dwords), Some(first));
}

#[test]
fn a_piece_with_larger_pages_of_real_mode_than_the_memory_has_is_refused() {
    let mut world = World::new();
    let shared = RigOptions {
        pool_frames: GUEST_BYTES >> 16,
        ..RigOptions::default()
    };
    world.target().end();
    world.target().start(shared);
    let bytes = world.get(Function::Capabilities, 128, &[]);
    let (record, _) = records::read::<Capabilities>(&bytes).unwrap();
    assert_eq!(record.page_sizes.get(), 1 << 12 | 1 << 16);
    world.suspend();
    let before = world.target().table();
    world.does(Function::StreamOpen, &[open_flags::WRITE]);
    take_partition_entries();
    let [small, large] = REAL_MODE_R.map(real_mode_record);
    let reply = world.write(&large, StreamChunk::END, 0);
    assert_eq!(reply.status, H::BAD_DATA);
    assert_eq!(reply.results(), [11, 40]);
    assert_eq!(world.target().table(), before);
    assert_eq!(world.write(&small, StreamChunk::END, 0).status, H::SUCCESS);
    assert_eq!(take_partition_entries(), []);
}

#[test]
fn translations_are_dropped_one_by_one_or_all_at_once() {
    let mut world = World::new();
    let mmu = &world.target().partition().mmu;
    for at in 0..40 {
        mmu.h_enter(EXACT, 64 + at, PAGE_V, at << 16 | PAGE_R)
            .unwrap();
    }
    world.suspend();
    for (marked, plan) in [(32_u64, 0), (33, 1)] {
        let mut record = Invalidate::blank();
        record.first = U64::new(64);
        record.bits = U64::new(64);
        record.bitmap_bytes = U32::new(8);
        let before = world.target().partition().mmu.flush_counts();
        let mut bytes = record.as_bytes().to_vec();
        bytes.extend(((1_u64 << marked) - 1).to_le_bytes());
        let reply = world.put(0, Function::Invalidate, &bytes, &[]);
        assert_eq!(reply.status, H::SUCCESS);
        assert_eq!(reply.results(), [marked, plan]);
        let after = world.target().partition().mmu.flush_counts();
        let expected = if plan == 0 { (32, 0) } else { (0, 1) };
        let counted = (after.single - before.single, after.all - before.all);
        assert_eq!(counted, expected);
    }
}

#[test]
fn harvests_count_entries_of_the_table() {
    let mut world = World::new();
    world.does(Function::DirtyLog, &[0, 1]);
    let end = HPT_ENTRIES;
    let harvest = |world: &mut World| {
        let (mut cursor, mut found) = (0, 0);
        for number in 1.. {
            let results = world.does(Function::DirtyHarvest, &[0, 1, cursor]);
            let next = results[0];
            found += results[1];
            if next == DONE {
                assert_eq!(number, end.div_ceil(ENTRIES_PER_CALL));
                break;
            }
            assert_eq!(next, cursor + ENTRIES_PER_CALL);
            cursor = next;
        }
        found
    };
    // Real mode's page counts as written.
    assert_eq!(harvest(&mut world), GUEST_BYTES >> 12);
    assert_eq!(harvest(&mut world), 0);
    world.refuses(Function::DirtyHarvest, &[0, 1, end], H::P7);
    world.does(Function::DirtyLog, &[0, 0]);
}
