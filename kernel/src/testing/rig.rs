// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A partition with one virtual processor, on a model of the machine.

extern crate std;

use super::{
    FakePlatform, set_authority, set_random, set_storage_fault, set_timebase, take_lpcr,
    take_writes, use_xive,
};
use crate::config::Authority;
use crate::console::{GuestId, InputRing, OutputRing};
use crate::control::{ControlPort, Streams};
use crate::hcall::UndefinedFlags;
use crate::partition::{
    Clock, CpuCharacteristics, Dispatching, EPOW_LISN, FIRST_DEVICE_LISN, Partition, Watchpoints,
    complaint_budget,
};
use crate::platform::Platform;
use crate::presentation::{Exploited, InterruptMode, Windows, own_sources};
use crate::processor::{Processors, Start};
use crate::rtas::{Rtas, UnixTime};
use crate::vcpu::Vcpu;
use alloc::boxed::Box;
use alloc::vec::Vec;
use arrayvec::ArrayVec;
use core::mem::ManuallyDrop;
use penstock_arch::addr::{GuestReal, HostReal};
use penstock_arch::hash::{Lpid, PageSize};
use penstock_arch::wait;
use penstock_mm::fake::{TestMachine, TestMemory};
use penstock_mm::frame::FrameAllocator;
use penstock_mm::guest_memory::{Backing, GuestMemory, PIECE};
use penstock_mm::hpt::{HashMmu, HptConfig, HptOrder, StorageKeys, StrongAccessOrder};
use penstock_mm::pool::{Pool, Share};
use penstock_xive::fake::{FakeXive, Quirks, TIMA_OS_PAGE};
use penstock_xive::native::{NativeSetup, NativeSource, NativeState, NativeVcpu, OffThread};
use penstock_xive::{
    Level, Lisn, Presenter, PresenterSetup, ServerNumber, Source, Trigger, VpBlock,
};
use std::sync::Mutex;

/// Guest memory of every test's partition.
pub(crate) const GUEST_BYTES: u64 = 16 << 20;
/// Entries of its page table: 256 KiB.
pub(crate) const HPT_ENTRIES: u64 = 0x4000;
/// Ticks per second of the time base.
pub(crate) const TIMEBASE_HZ: u64 = 512_000_000;
/// The partition's start, by the real time clock: 2026-03-01 00:00:00 UTC.
pub(crate) const BOOT_SECONDS: u64 = 1_772_323_200;
/// What H_GET_CPU_CHARACTERISTICS answers.
pub(crate) const CHARACTERISTICS: CpuCharacteristics = CpuCharacteristics {
    characteristics: 0x3c40_0000_0000_0000,
    behaviour: 0xe400_0000_0000_0000,
};

/// How a test's partition is made.
#[derive(Clone, Copy)]
pub(crate) struct RigOptions {
    pub(crate) backing: Backing,
    pub(crate) watchpoints: Watchpoints,
    pub(crate) keys: StorageKeys,
    pub(crate) undefined_flags: UndefinedFlags,
    pub(crate) resize: Option<HptOrder>,
    pub(crate) clock: Option<u64>,
    pub(crate) authority: Authority,
    pub(crate) mode: InterruptMode,
    /// Frames of the pool that memory comes from; 0 where it is reserved.
    pub(crate) pool_frames: u64,
    pub(crate) vcpus: u32,
    pub(crate) dispatching: Dispatching,
}

impl Default for RigOptions {
    fn default() -> Self {
        Self {
            backing: Backing::Eager,
            watchpoints: Watchpoints::Available,
            keys: StorageKeys::Offered,
            undefined_flags: UndefinedFlags::Ignored,
            resize: None,
            clock: Some(BOOT_SECONDS),
            authority: Authority::None,
            mode: InterruptMode::Xics,
            pool_frames: 0,
            vcpus: 1,
            dispatching: Dispatching::Dedicated,
        }
    }
}

/// Memory that no rig uses now. What lies in it is never zero.
static POOL: Mutex<Vec<TestMemory>> = Mutex::new(Vec::new());

/// A rig's memory, which gets another user after it; the partition stays, without anybody who knows it.
/// It is given back under Miri, for which memory that has been written to byte by byte is slow.
struct Lent(Option<TestMemory>);

impl Drop for Lent {
    fn drop(&mut self) {
        let memory = self.0.take();
        if !cfg!(miri)
            && let Ok(mut pool) = POOL.lock()
        {
            pool.extend(memory);
        }
    }
}

/// A partition with one virtual processor that runs.
pub(crate) struct Rig {
    pub(crate) vcpu: Box<Vcpu<'static, FakePlatform>>,
    pub(crate) xive: &'static FakeXive,
    pub(crate) machine: &'static TestMachine,
    /// Another partition's memory, from the same pool.
    pub(crate) other: Option<HashMmu<&'static TestMachine>>,
    _memory: Lent,
}

/// A partition on a model of the machine, and what it was made of.
pub(crate) struct Parts {
    pub(crate) partition: Box<Partition<FakePlatform>>,
    /// What is left of the machine's memory, and how much it was before.
    pub(crate) frames: FrameAllocator,
    pub(crate) free_before: u64,
    other: Option<HashMmu<&'static TestMachine>>,
    xive: &'static FakeXive,
    machine: &'static TestMachine,
    /// Stays, as the partition may, unless somebody takes it back.
    memory: ManuallyDrop<TestMemory>,
}

/// A partition, and this thread as the processor that it is to run on.
pub(crate) fn make_partition(options: RigOptions) -> Parts {
    let xive: &'static FakeXive = Box::leak(Box::new(FakeXive::new(1, Quirks::default())));
    use_xive(xive);
    set_storage_fault(0, 0, 0);
    set_authority(0, 0);
    set_timebase(0);
    set_random(None);
    let pooled = POOL.lock().unwrap().pop();
    let memory = pooled.unwrap_or_else(|| {
        // Tables come first, so that the guest's block begins at its next multiple.
        let bytes = usize::try_from(2 * GUEST_BYTES).unwrap();
        TestMemory::new(bytes)
    });
    memory.fill(0xa5);
    let machine: &'static TestMachine = Box::leak(Box::new(TestMachine::new()));
    let mut frames = memory.frames();
    let free_before = frames.left();
    let config = HptConfig {
        order: HptOrder::new(18).unwrap(),
        vrma_page: PageSize::P16M,
        keys: options.keys,
        ordering: StrongAccessOrder::NotOffered,
        resize: options.resize,
    };
    let pool = (options.pool_frames > 0).then(|| {
        let bytes = options.pool_frames * PIECE;
        &*Box::leak(Box::new(Pool::new(bytes, &mut frames, &machine).unwrap()))
    });
    let pooled = |pool: &'static Pool, frames: &mut FrameAllocator| {
        let account = pool.open(0, GUEST_BYTES).unwrap();
        GuestMemory::pooled(machine, GUEST_BYTES, Share::new(pool, account), frames).unwrap()
    };
    let mut ram = match pool {
        Some(pool) => pooled(pool, &mut frames),
        None => GuestMemory::new(machine, GUEST_BYTES, options.backing, &mut frames).unwrap(),
    };
    let windows = (options.mode == InterruptMode::Xive)
        .then(|| Windows::add(&mut ram, &mut frames, options.vcpus).unwrap());
    let mmu = HashMmu::new(Lpid::new(1), ram, config, &mut frames).unwrap();
    let other = pool.map(|pool| {
        let ram = pooled(pool, &mut frames);
        HashMmu::new(Lpid::new(2), ram, config, &mut frames).unwrap()
    });
    assert_eq!(mmu.entries(), HPT_ENTRIES);
    let exploited = windows.map(|windows| exploited(xive, options.vcpus, windows));
    let (presenters, sources) = match options.mode {
        InterruptMode::Xics => interrupts(xive, options.vcpus),
        InterruptMode::Xive => (Box::default(), Box::default()),
    };
    let partition = Box::new(Partition {
        id: GuestId(1),
        name: "test".into(),
        mmu,
        output: OutputRing::new(),
        input: InputRing::new(),
        rtas: wait::Mutex::new(Rtas::new()),
        vcpus: options.vcpus,
        dispatching: options.dispatching,
        processors: Processors::new(options.vcpus, options.dispatching),
        machine_cpus: 4,
        page_sizes: ArrayVec::new(),
        presenters,
        sources,
        exploited,
        characteristics: CHARACTERISTICS,
        watchpoints: options.watchpoints,
        undefined_flags: options.undefined_flags,
        clock: Clock {
            at_boot: options.clock.and_then(|seconds| UnixTime::new(seconds, 0)),
            timebase_at_boot: 0,
            timebase_hz: TIMEBASE_HZ,
        },
        framebuffer_row_bytes: 0,
        control: match options.authority {
            Authority::None => None,
            Authority::Control => Some(ControlPort::new()),
        },
        streams: wait::Mutex::new(Streams::new()),
        complaints: wait::Mutex::new(complaint_budget(TIMEBASE_HZ)),
    });
    Parts {
        partition,
        frames,
        free_before,
        other,
        xive,
        machine,
        memory: ManuallyDrop::new(memory),
    }
}

impl Rig {
    pub(crate) fn new() -> Self {
        Self::with(RigOptions::default())
    }

    /// A partition with its virtual processor on this thread, in real mode at its start.
    pub(crate) fn with(options: RigOptions) -> Self {
        let parts = make_partition(options);
        let partition = Box::leak(parts.partition);
        let mut vcpu = Box::new(Vcpu::new(partition, 0).unwrap());
        let presenter = vcpu.presenter;
        vcpu.begin(Start {
            entry: GuestReal::new(0),
            r3: 0x10_0000,
        });
        presenter.push(&FakePlatform::interrupts());
        take_writes();
        take_lpcr();
        Self {
            vcpu,
            xive: parts.xive,
            machine: parts.machine,
            other: parts.other,
            _memory: Lent(Some(ManuallyDrop::into_inner(parts.memory))),
        }
    }

    /// Another virtual processor of the partition, which is on no thread.
    pub(crate) fn other(&self, server: u32) -> Box<Vcpu<'static, FakePlatform>> {
        Box::new(Vcpu::new(self.vcpu.partition, server).unwrap())
    }

    /// Starts the partition anew, as the run loop does.
    pub(crate) fn restart(&mut self) {
        let hw = FakePlatform::interrupts();
        let partition = self.vcpu.partition;
        partition.processors.start_over();
        self.vcpu.presenter.pull(&hw, OffThread::Ready);
        partition.reset_interrupts().unwrap();
        self.vcpu.presenter.push(&hw);
        partition.mmu.clear_all();
        self.vcpu.begin(Start {
            entry: GuestReal::new(0),
            r3: 0x10_0000,
        });
        take_writes();
        take_lpcr();
    }

    /// Types something, so that the vty's source raises its interrupt.
    pub(crate) fn trigger_vty(&self) {
        let partition = self.vcpu.partition;
        // It may be full, and its source off.
        let _ = partition.input.push(b'x');
        let _ = partition.announce_input(&FakePlatform::interrupts());
    }

    /// Sets the level of the second source, which is level-sensitive.
    pub(crate) fn set_level(&self, level: Level) {
        let lisn = Lisn::new(FIRST_DEVICE_LISN.get() + 1);
        self.vcpu
            .partition
            .sources()
            .set_level(&FakePlatform::interrupts(), lisn, level);
    }

    /// Writes big-endian words into guest memory.
    pub(crate) fn put_words(&self, at: u64, words: &[u32]) {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
        self.vcpu
            .partition
            .mmu
            .memory()
            .write(GuestReal::new(at), &bytes)
            .unwrap();
    }

    /// The big-endian word at a guest address.
    #[track_caller]
    pub(crate) fn word(&self, at: u64) -> u32 {
        self.vcpu
            .partition
            .mmu
            .memory()
            .read_be32(GuestReal::new(at))
            .unwrap()
    }

    /// Panics unless all is true of the page table that must be.
    #[track_caller]
    pub(crate) fn check(&self) -> penstock_mm::hpt::HptStats {
        self.vcpu.partition.mmu.check().unwrap()
    }
}

fn block_of(xive: &'static FakeXive, vcpus: u32) -> VpBlock {
    let order = vcpus.next_power_of_two().ilog2();
    VpBlock::allocate(xive, &[], &mut |_| None, order).unwrap()
}

fn interrupts(xive: &'static FakeXive, vcpus: u32) -> (Box<[Presenter]>, Box<[Source]>) {
    let block = block_of(xive, vcpus);
    let vp = block.vp(0).unwrap();
    let presenters = (0..vcpus).map(|server| {
        let setup = PresenterSetup {
            vp: block.vp(server).unwrap(),
            server: ServerNumber::new(server),
            tima: xive.tima(),
            queues: HostReal::new(0x40_0000 + u64::from(server) * Presenter::QUEUE_BYTES),
            chip: None,
        };
        Presenter::set_up(xive, xive, &setup).unwrap()
    });
    let presenters = presenters.collect();
    let second = Lisn::new(FIRST_DEVICE_LISN.get() + 1);
    let sources = [(FIRST_DEVICE_LISN, Trigger::Edge), (second, Trigger::Level)]
        .map(|(lisn, trigger)| Source::set_up(xive, xive, lisn, trigger, vp, None).unwrap());
    (presenters, Box::new(sources))
}

fn exploited(xive: &'static FakeXive, vcpus: u32, windows: Windows) -> Exploited {
    let block = block_of(xive, vcpus);
    let vp = block.vp(0).unwrap();
    let source = |lisn| NativeSource::set_up(xive, xive, lisn, Trigger::Edge, vp, None).unwrap();
    let vcpu = |server| {
        let setup = NativeSetup {
            vp: block.vp(server).unwrap(),
            server: ServerNumber::new(server),
            tima: xive.tima(),
            escalation: None,
        };
        let vcpu = NativeVcpu::set_up(xive, xive, &setup).unwrap();
        vcpu.set_online(server == 0);
        vcpu
    };
    Exploited {
        ipis: (0..own_sources(vcpus))
            .map(|lisn| source(Lisn::new(lisn)))
            .collect(),
        devices: Box::new([source(FIRST_DEVICE_LISN), source(EPOW_LISN)]),
        vcpus: (0..vcpus).map(vcpu).collect(),
        state: NativeState::new(TIMA_OS_PAGE),
        windows,
    }
}
