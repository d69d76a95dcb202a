// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The interface about partitions as they run on the machine: real page tables, and virtual
//! processors that a run loop of the test's puts on a thread.

extern crate std;

use super::super::function::Function;
use super::super::records::{
    self, Capabilities, Invalidate, Record, RunState, StreamChunk, VcpuState, VectorState, parts,
};
use super::super::session::State;
use super::super::{DONE, ENTRIES_PER_CALL, WRITER, open_flags};
use super::*;
use crate::config::Authority;
use crate::console::GuestId;
use crate::lifecycle::PauseReason;
use crate::partition::Watchpoints;
use crate::processor::{Activity, Start};
use crate::testing::{FakePlatform, GUEST_BYTES, HPT_ENTRIES, Parts, RigOptions, make_partition};
use penstock_arch::addr::GuestReal;
use penstock_arch::regs::{Lpcr, Msr, VcpuSpr, sprn};
use penstock_arch::switch::SlbEntry;
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

const CHANGES: [Function; 5] = [
    Function::VcpuGet,
    Function::VcpuSet,
    Function::StreamWrite,
    Function::HptDrop,
    Function::Invalidate,
];

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
fn what_runs_is_the_hypervisors() {
    let mut world = World::new();
    for on_thread in [false, true] {
        world.target().seat.on_thread = on_thread;
        for function in CHANGES
            .into_iter()
            .chain([Function::Commit, Function::Resume])
        {
            let first = if function == Function::StreamWrite {
                WRITER
            } else {
                0
            };
            world.refuses(function, &[first], H::STATE);
        }
        world.refuses(Function::StreamOpen, &[open_flags::WRITE], H::STATE);
    }
    // It is on its way out, and not there yet.
    world.refuses(Function::Suspend, &[], H::LONG_BUSY_ORDER_1_MSEC);
    assert!(world.target().seat.held && world.target().seat.on_thread);
    world.refuses(Function::VcpuGet, &[0, 0], H::STATE);
    // Withdrawn before it was done.
    world.does(Function::Resume, &[]);
    assert!(!world.target().seat.held);
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
        // Outside memory; outside the table; not a whole record; another real mode area.
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

#[test]
fn registers_come_out_and_go_in_again() {
    let mut world = World::new();
    let occupied = world.target().occupied.as_ref().unwrap();
    occupied
        .with(0, |vcpu| {
            vcpu.ctx.gpr = core::array::from_fn(|number| 0x1_0000 + number as u64);
            (vcpu.ctx.pc, vcpu.ctx.lr, vcpu.ctx.ctr) = (0x1234, 0x5678, 0x9abc);
            (vcpu.ctx.cr, vcpu.ctx.xer, vcpu.ctx.cfar) = (0x8400_0000, 0x2000_0000, 0x4444);
            // With the bits that an exit leaves.
            vcpu.ctx.msr = (Msr::SF | Msr::ME | Msr::EE | Msr::LE).bits() | 0x4000_0000;
            vcpu.lpcr = vcpu
                .partition
                .processors
                .change_lpcr(Lpcr::empty(), Lpcr::ILE | Lpcr::AIL3);
            vcpu.parked.decrementer_expiry = 77;
            vcpu.parked.slb[3] = SlbEntry {
                esid: 0xc000_0000_0800_0000,
                vsid: 0x4000_01ac_e500_0510,
            };
            vcpu.parked.set_spr(VcpuSpr::Sprg3, 0x3333);
            vcpu.parked.set_spr(VcpuSpr::Dpdes, 1);
            vcpu.parked.vectors.vsr[0] = 0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10;
            vcpu.parked.vectors.vsr[63] = 5;
            vcpu.parked.vectors.fpscr = [6, 0];
            vcpu.parked.vectors.vscr = 0x1_0000;
        })
        .unwrap();
    let processors = &world.target().partition().processors;
    let processor = processors.get(0).unwrap();
    assert!(processor.wait(|| false));
    world.suspend();
    let state = world.vcpu();
    assert_eq!(state.run_state.get(), RunState::Ceded as u32);
    assert_eq!(state.gpr[31].get(), 0x1_001f);
    assert_eq!((state.pc.get(), state.lr.get()), (0x1234, 0x5678));
    assert_eq!(
        state.msr.get(),
        (Msr::SF | Msr::ME | Msr::EE | Msr::LE).bits()
    );
    assert_eq!(state.lpcr.get(), (Lpcr::ILE | Lpcr::AIL3).bits());
    assert_eq!(state.decrementer_expiry.get(), 77);
    assert_eq!(state.slb[3][1].get(), 0x4000_01ac_e500_0510);
    let value = |number: u16| {
        let sprs = state.used_sprs().iter();
        let mut found = sprs.filter(|spr| spr.number.get() == number);
        found.next().map(|spr| spr.value.get())
    };
    assert_eq!(value(sprn::SPRG3), Some(0x3333));
    assert_eq!((value(sprn::DPDES), value(sprn::HFSCR)), (None, None));
    // Every register of the guest's is there, on the processor that has most, too.
    for processor in [
        penstock_arch::regs::Processor::Power9,
        penstock_arch::regs::Processor::Power10,
    ] {
        assert!(VcpuSpr::of(processor).count() <= records::MAX_SPRS);
    }
    assert!(state.used_sprs().len() > 40);

    let all = size_of::<VcpuState>() + size_of::<VectorState>();
    let bytes = world.get(Function::VcpuGet, all, &[0, parts::ALL.into()]);
    let (_, rest) = records::read::<VcpuState>(&bytes).unwrap();
    let (vectors, _) = records::read::<VectorState>(rest).unwrap();
    assert_eq!(
        vectors.vsr[0].map(U64::get),
        [0x0102_0304_0506_0708, 0x090a_0b0c_0d0e_0f10]
    );
    assert_eq!(vectors.vsr[63].map(U64::get), [0, 5]);
    assert_eq!((vectors.fpscr.get(), vectors.vscr.get()), (6, 0x1_0000));

    // To another state, and back to what was read.
    let snapshot = |world: &mut World| {
        let occupied = world.target().occupied.as_ref().unwrap();
        occupied
            .with(0, |vcpu| {
                (vcpu.ctx.gpr, vcpu.ctx.pc, vcpu.lpcr, vcpu.parked.clone())
            })
            .unwrap()
    };
    let before = snapshot(&mut world);
    let mut other = state;
    other.run_state = U32::new(RunState::Runnable as u32);
    other.pc = U64::new(0x2222);
    other.lpcr = U64::new(0);
    other.slb[3] = [U64::new(0); 2];
    assert_eq!(world.set_vcpu(&other).status, H::SUCCESS);
    assert_eq!(world.activity(), Activity::Runs);
    let occupied = world.target().occupied.as_ref().unwrap();
    occupied
        .with(0, |vcpu| {
            assert_eq!(vcpu.ctx.pc, 0x2222);
            assert!(!vcpu.lpcr.intersects(Lpcr::ILE | Lpcr::AIL3));
            assert_eq!(vcpu.parked.slb[3], SlbEntry::default());
        })
        .unwrap();
    let reply = world.put(0, Function::VcpuSet, &bytes, &[0]);
    assert_eq!(reply.status, H::SUCCESS, "{:x?}", reply.results());
    assert_eq!(world.activity(), Activity::Ceded);
    assert_eq!(snapshot(&mut world), before);
}

#[test]
fn vector_registers_are_written_by_halves() {
    let mut world = World::new();
    let occupied = world.target().occupied.as_ref().unwrap();
    occupied
        .with(0, |vcpu| vcpu.parked.vectors.vsr = [u128::MAX; 64])
        .unwrap();
    world.suspend();
    let mut state = world.vcpu();
    state.parts = U32::new(parts::FP);
    let mut bytes = state.as_bytes().to_vec();
    bytes.extend_from_slice(VectorState::blank().as_bytes());
    let reply = world.put(0, Function::VcpuSet, &bytes, &[0]);
    assert_eq!(reply.status, H::SUCCESS);
    let occupied = world.target().occupied.as_ref().unwrap();
    occupied
        .with(0, |vcpu| {
            assert_eq!(vcpu.parked.vectors.vsr[31], u128::from(u64::MAX));
            assert_eq!(vcpu.parked.vectors.vsr[32], u128::MAX);
        })
        .unwrap();
}

#[test]
fn what_no_guest_of_this_partition_can_have_is_refused_by_its_place() {
    let mut world = World::new();
    let options = RigOptions {
        watchpoints: Watchpoints::Refused,
        ..RigOptions::default()
    };
    world.target().end();
    world.target().start(options);
    world.suspend();
    let state = world.vcpu();
    let with_spr = |number, value| {
        let mut state = state;
        state.spr_count = U32::new(0);
        state.sprs = VcpuState::blank().sprs;
        assert!(state.push_spr(sprn::SPRG0, 1) && state.push_spr(number, value));
        state
    };
    let offset = |field: usize| (VcpuState::spr_offset(1) + field) as u64;
    for (state, wrong) in [
        (with_spr(sprn::HFSCR, 0), offset(0)),
        (with_spr(sprn::DPDES, 0), offset(0)),
        (with_spr(sprn::DEXCR, 0), offset(0)),
        (with_spr(sprn::LPIDR, 5), offset(0)),
        (with_spr(sprn::DAWRX0, 1), offset(8)),
        (
            VcpuState {
                run_state: U32::new(RunState::Stopped as u32),
                ..state
            },
            16,
        ),
        (
            VcpuState {
                vpa: U64::new(GUEST_BYTES),
                vpa_bytes: U64::new(640),
                ..state
            },
            104,
        ),
        (
            VcpuState {
                slb_shadow: U64::new(0x8000),
                slb_shadow_bytes: U64::new(640),
                ..state
            },
            120,
        ),
        (
            VcpuState {
                vpa: U64::new(0x8000),
                vpa_bytes: U64::new(640),
                dispatch_log: U64::new(0x9001),
                dispatch_log_bytes: U64::new(4096),
                ..state
            },
            136,
        ),
    ] {
        let reply = world.set_vcpu(&state);
        assert_eq!(reply.status, H::BAD_DATA);
        assert_eq!(reply.results(), [8, wrong]);
    }
    // Nothing of those was taken.
    let occupied = world.target().occupied.as_ref().unwrap();
    occupied
        .with(0, |vcpu| {
            assert_eq!(vcpu.parked.spr(VcpuSpr::Sprg0), 0);
            assert_eq!(vcpu.processor.areas.lock().vpa(), None);
        })
        .unwrap();
    let good = VcpuState {
        vpa: U64::new(0x8000),
        vpa_bytes: U64::new(640),
        ..state
    };
    assert_eq!(world.set_vcpu(&good).status, H::SUCCESS);
    assert_eq!(world.vcpu().vpa.get(), 0x8000);
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
fn a_partition_that_is_shut_off_has_nothing_to_hold() {
    let mut world = World::new();
    world.target().end();
    assert_eq!(world.does(Function::Feature, &[2]), [1, 4]);
    assert_eq!(world.get(Function::Slots, 48, &[0]), []);
    world.refuses(Function::Suspend, &[], H::NOT_ACTIVE);
    world.refuses(Function::StreamOpen, &[0], H::NOT_ACTIVE);
    for function in CHANGES {
        let first = if function == Function::StreamWrite {
            WRITER
        } else {
            0
        };
        world.refuses(function, &[first], H::STATE);
    }
    // What has failed can be looked at, and not be held.
    world.target().start(RigOptions::default());
    world.target().seat.state = PartitionState::Failed;
    world.refuses(Function::Suspend, &[], H::NOT_ACTIVE);
    assert!(!world.stream().is_empty());
}

#[test]
fn a_partition_that_ends_in_the_middle_takes_all_with_it() {
    let mut world = World::new();
    let stream = world.does(Function::StreamOpen, &[0])[0];
    world.get(Function::StreamRead, 64, &[stream]);
    world.suspend();
    world.does(Function::HptDrop, &[0]);
    world.does(Function::DirtyLog, &[0, 1]);
    world.target().end();
    world.target().start(RigOptions::default());
    assert_eq!(world.target().session.lock().state(), State::Running);
    world.refuses(Function::StreamRead, &[stream], H::P5);
    world.refuses(Function::HptDrop, &[4096], H::STATE);
    world.refuses(Function::DirtyHarvest, &[0, 1, 0], H::STATE);
    world.refuses(Function::Resume, &[], H::STATE);
    assert!(!world.target().seat.held);
    // All readers are free.
    for number in 0..4 {
        assert_eq!(world.does(Function::StreamOpen, &[0]), [number]);
    }
    world.refuses(Function::StreamOpen, &[0], H::RESOURCE);
}

#[test]
fn a_guest_that_starts_over_takes_all_with_it() {
    let mut world = World::new();
    let stream = world.does(Function::StreamOpen, &[0])[0];
    world.get(Function::StreamRead, 64, &[stream]);
    let target = world.target();
    target.with(|target| target.session().lock().restart(target));
    target.partition().mmu.clear_all();
    world.refuses(Function::StreamRead, &[stream], H::P5);
    // The table has a place for each reader again.
    for number in 0..4 {
        assert_eq!(world.does(Function::StreamOpen, &[0]), [number]);
    }
}

#[test]
fn two_tools_against_each_other() {
    let mut world = World::new();
    world.suspend();
    for function in [Function::Suspend, Function::Resume, Function::Commit] {
        assert_eq!(world.call(1, function, &[]).status, H::IN_USE);
    }
    assert_eq!(world.call(1, Function::HptDrop, &[0]).status, H::IN_USE);
    world.does(Function::HptDrop, &[0]);
    // The first one is gone: what it left is the second one's to finish.
    let who = Holder::Partition(GuestId(1));
    let target = world.target();
    target.with(|target| target.session().lock().abandon(target, who));
    assert!(world.target().seat.held);
    assert_eq!(world.call(1, Function::Suspend, &[]).status, H::SUCCESS);
    assert_eq!(world.call(1, Function::Commit, &[]).status, H::STATE);
    assert_eq!(world.call(0, Function::Suspend, &[]).status, H::IN_USE);
    let mut at = 0;
    while at != DONE {
        at = world.call(1, Function::HptDrop, &[at]).results()[0];
    }
    assert_eq!(world.call(1, Function::Commit, &[]).status, H::SUCCESS);
    assert_eq!(world.call(1, Function::Resume, &[]).status, H::SUCCESS);
    assert!(!world.target().seat.held);
}

#[test]
fn a_tool_cannot_suspend_itself_and_may_ask_about_itself() {
    let mut world = World::new();
    let place = &mut world.0[0];
    let call = |function: Function| Call {
        function: function as u64,
        partition: 1,
        ..Call::default()
    };
    let reply = place.with(|target| target.serve(&call(Function::Suspend), None));
    assert_eq!(reply.status, H::P2);
    assert!(!place.seat.held);
    let reply = place.with(|target| target.serve(&call(Function::StreamOpen), None));
    assert_eq!(reply.status, H::SUCCESS);
    // Another number than that of the partition that was looked up.
    let other = Call {
        partition: 2,
        ..call(Function::Suspend)
    };
    let reply = place.with(|target| target.serve(&other, None));
    assert_eq!(reply.status, H::P2);
}

#[test]
fn a_pause_of_the_operators_stays_when_a_tool_lets_go() {
    let mut world = World::new();
    let paused = PartitionState::Paused(PauseReason::Operator);
    world.target().seat.state = paused;
    world.suspend();
    world.does(Function::Resume, &[]);
    assert_eq!(world.target().seat.state, paused);
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
