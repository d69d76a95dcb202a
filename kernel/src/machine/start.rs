// SPDX-License-Identifier: Apache-2.0 OR MIT
//! From `head.S` to the first guest instruction.
//!
//! Order matters: the device tree is copied before anything else is written, byte order and MMU kind
//! are set while all other processors are in firmware, and the vectors stand before machine checks
//! are enabled.

// UNSAFETY: raw memory from firmware, and registers of the whole machine.
#![expect(unsafe_code)]

use super::create::{self, Guest, Resources};
use super::hardware::{self, HwMemory, HwTlb};
use super::last_words::{self, ExitStatus, finish};
use super::mitigations::{self, Board};
use super::pool::SharedMemory;
use super::thread::{self, Arrival, Thread};
use super::world::World;
use super::{
    console, firmware, heap, idle, operator::Operator, partition_table, run, seat, secondary,
    selftest, sleep,
};
use crate::bootargs::{BootArgs, Mode};
use crate::config::{self, MemoryBacking};
use crate::partition::{Clock, Watchpoints};
use crate::rtas::OpalRtc;
use alloc::boxed::Box;
use core::cell::UnsafeCell;
use penstock_arch::addr::HostReal;
use penstock_arch::entry;
use penstock_arch::regs::{Hfscr, Lpcr, Processor, Pvr, sprn};
use penstock_arch::{spr, sync, wait};
use penstock_boot::bootinfo::{BootInfo, HostRange};
use penstock_boot::flat_tree::FlatTree;
use penstock_boot::{fdt, head, memmap, opal};
use penstock_mm::frame::FrameAllocator;
use penstock_mm::real::Frames;

/// Room for the machine's device tree: those of large machines have some hundred KiB.
const FDT_ROOM: usize = 1 << 20;

/// The copy of the device tree: firmware's own lies in its heap.
#[repr(align(8))]
struct FdtCopy(UnsafeCell<[u8; FDT_ROOM]>);

// SAFETY: written once by the boot processor before anything else runs, read only afterwards.
unsafe impl Sync for FdtCopy {}

static FDT_COPY: FdtCopy = FdtCopy(UnsafeCell::new([0; FDT_ROOM]));

/// What the whole machine is, once it is known.
pub struct Machine {
    /// The device tree's answer.
    pub info: &'static BootInfo<'static>,
    /// The hypervisor's command line.
    pub args: BootArgs<'static>,
    /// The processor.
    pub pvr: Pvr,
    /// Its family.
    pub processor: Processor,
    /// Checksum of the installed vectors.
    pub vectors: u64,
}

/// Where Rust begins. Called by `head.S` on the boot stack.
///
/// # Safety
/// As `head.S` describes: `fdt` from firmware, `.bss` zero, little-endian hypervisor real mode.
#[unsafe(no_mangle)]
unsafe extern "C" fn penstock_main(fdt: u64, opal_base: u64, opal_entry: u64) -> ! {
    let entered = spr::timebase();
    // SAFETY: firmware passed these in r8 and r9.
    unsafe { opal::call::set_entry(HostReal::new(opal_base), HostReal::new(opal_entry)) };
    // SAFETY: firmware passed the address of its tree.
    let tree = match unsafe { copy_fdt(fdt) } {
        Ok(tree) => tree,
        Err(what) => {
            use core::fmt::Write;
            let _ = writeln!(console::Emergency, "\npenstock: the device tree {what}");
            finish(ExitStatus::RefusedInput)
        }
    };
    let info = describe(tree);
    let args = BootArgs::parse(info.bootargs);
    if let Some(token) = args.exit_token {
        last_words::set_token(token);
    }
    console::start(
        info.consoles.first().map_or(0, |console| console.id),
        args.log,
    );
    log::info!("Penstock {}", env!("CARGO_PKG_VERSION"));
    if let Some(word) = args.not_understood {
        log::warn!("{word}: not understood");
    }
    let (pvr, processor) = processor();
    let me = boot_thread(info);
    // SAFETY: we are the boot processor, and have started no other.
    let vectors = unsafe { set_up_processor(me) };
    let machine = Box::leak(Box::new(Machine {
        info,
        args,
        pvr,
        processor,
        vectors,
    }));
    log::info!(
        "PVR {:#010x}, {} cores, {} MHz time base, boot processor PIR {:#x}",
        pvr.get(),
        info.cores.len(),
        info.cpu.timebase_hz / 1_000_000,
        spr::read::<{ sprn::PIR }>(),
    );
    go(machine, tree, entered)
}

/// What the tree says. Not inlined, as the functions below: what each builds is large, and the frame
/// of whoever calls them lives for ever.
#[inline(never)]
fn describe(tree: &'static [u8]) -> &'static BootInfo<'static> {
    match fdt::parse(tree) {
        Ok(info) => Box::leak(Box::new(info)),
        Err(error) => {
            use core::fmt::Write;
            let _ = writeln!(console::Emergency, "\npenstock: the device tree: {error}");
            finish(ExitStatus::RefusedInput)
        }
    }
}

/// Copies the tree from firmware's heap.
///
/// # Safety
/// `at` must be the address that firmware passed.
unsafe fn copy_fdt(at: u64) -> Result<&'static [u8], &'static str> {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "usize is 64 bits on this machine"
    )]
    let source = core::ptr::with_exposed_provenance::<u8>(at as usize);
    // SAFETY: a tree has a header of at least 40 bytes.
    let head = unsafe { core::slice::from_raw_parts(source, 40) };
    let size = FlatTree::size_of_tree(head).map_err(|_| "has no valid header")?;
    if size > FDT_ROOM {
        return Err("is larger than 1 MiB");
    }
    let copy = FDT_COPY.0.get().cast::<u8>();
    // SAFETY: firmware's heap and our .bss do not overlap; the size was checked.
    unsafe { core::ptr::copy_nonoverlapping(source, copy, size) };
    // SAFETY: the copy is never written again.
    Ok(unsafe { core::slice::from_raw_parts(copy, size) })
}

fn processor() -> (Pvr, Processor) {
    #[expect(clippy::cast_possible_truncation, reason = "the PVR has 32 bits")]
    let pvr = Pvr::new(spr::read::<{ sprn::PVR }>() as u32);
    match pvr.processor() {
        Some(processor) => (pvr, processor),
        None => {
            log::error!("PVR {:#010x}: neither POWER9 nor POWER10", pvr.get());
            finish(ExitStatus::RefusedInput)
        }
    }
}

/// Makes the records of all threads, and gives that of the calling one its stacks.
#[inline(never)]
fn boot_thread(info: &BootInfo<'_>) -> &'static Thread {
    thread::make(info);
    let pir = spr::read::<{ sprn::PIR }>();
    let Some(me) = thread::by_pir(pir) else {
        log::error!("the device tree has no thread with our PIR, {pir:#x}");
        finish(ExitStatus::RefusedInput)
    };
    me.set_emergency_stacks(thread::boot_emergency_stacks());
    if let Some(stack) = head::boot_stack() {
        // Of what lies below this frame nothing is in use, but for what is called from here.
        const CALLED: u64 = 4096;
        let here = core::ptr::from_ref(&pir).expose_provenance() as u64;
        // SAFETY: the stack of this thread, far enough below its pointer.
        unsafe { me.set_stack(stack, here.saturating_sub(CALLED)) };
    }
    thread::set_boot(me);
    me
}

/// Installs the vectors, and brings the boot processor from firmware's state into ours. Returns the
/// vectors' checksum.
///
/// # Safety
/// Once, on the boot processor, which is `me`, while all others are in firmware.
unsafe fn set_up_processor(me: &'static Thread) -> u64 {
    // SAFETY: the caller answers for the other processors.
    if let Err(status) = unsafe { opal::platform::reinit_cpus() } {
        log::error!("OPAL_REINIT_CPUS: {status}");
        finish(ExitStatus::RefusedInput);
    }
    // SAFETY: HILE was just set, and machine checks are off.
    let checksum = unsafe { entry::install_vectors() };
    // SAFETY: this is the thread; the vectors stand.
    unsafe { set_up_thread(me) };
    wait::set_hook(hardware::while_waiting);
    me.advance(Arrival::Away, Arrival::Here);
    checksum
}

/// Brings the calling thread from firmware's state into ours.
///
/// # Safety
/// It is `me`, has its emergency stacks, comes from firmware, and the vectors stand.
pub unsafe fn set_up_thread(me: &'static Thread) {
    // SAFETY: by the caller's promise.
    unsafe { me.adopt() };
    // SAFETY: the vectors stand, and HSPRG0 is set.
    unsafe { spr::enable_machine_check() };
    macro_rules! set {
        ($($name:ident = $value:expr,)*) => {
            // SAFETY: no guest is loaded; these decide what guests may do, and how we sleep.
            $(unsafe { spr::write::<{ sprn::$name }>($value) };)*
        };
    }
    set! {
        LPCR = Lpcr::HYPERVISOR.bits(),
        LPIDR = 0,
        HFSCR = Hfscr::GUEST.bits(),
        PCR = 0,
        // A guest may use all storage keys.
        AMOR = u64::MAX,
        HMER = 0,
        CIABR = 0,
        DPDES = 0,
    }
    sleep::forbid_guest_stop();
    sync::isync();
}

/// Whether the machine is an emulated one, by its compatible string.
fn board(tree: &[u8]) -> Board {
    let emulated = FlatTree::new(tree)
        .ok()
        .and_then(|tree| tree.root().property("compatible").map(|p| p.value))
        .is_some_and(|value| value.windows(5).any(|window| window == b"qemu,"));
    if emulated {
        Board::Emulator
    } else {
        Board::Silicon
    }
}

/// Memory that is anybody's: all but firmware's, ours, and the partition tree's.
#[inline(never)]
fn free_frames(info: &BootInfo<'_>) -> Box<FrameAllocator> {
    let own = head::image();
    let free = match memmap::free_memory(info, own.as_slice()) {
        Ok(free) => free,
        Err(error) => {
            log::error!("memory map: {error}");
            finish(ExitStatus::RefusedInput)
        }
    };
    let mut frames = Box::new(FrameAllocator::new());
    for range in free.as_slice() {
        // SAFETY: ordinary memory that neither firmware nor we use.
        let found = unsafe { Frames::from_raw(range.start(), range.bytes()) };
        if let Err(error) = frames.free(found) {
            log::warn!("memory at {} is left unused: {error}", range.start());
        }
    }
    log::info!("{} MiB of memory free", frames.left() >> 20);
    frames
}

/// The partition tree that came by `-initrd`.
fn tree_of(range: HostRange) -> &'static [u8] {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "usize is 64 bits on this machine"
    )]
    let (start, len) = (range.start().get() as usize, range.bytes() as usize);
    // SAFETY: firmware's loader put it there, `free_frames` leaves it alone, nobody writes it.
    unsafe { core::slice::from_raw_parts(core::ptr::with_exposed_provenance(start), len) }
}

#[inline(never)]
fn go(machine: &'static Machine, tree: &[u8], entered: u64) -> ! {
    let info = machine.info;
    let memory = HwMemory::new(HwTlb::new(machine.pvr));
    let characteristics = mitigations::apply(
        machine.args.mitigations,
        info,
        board(tree),
        machine.processor,
    );
    let mut frames = free_frames(info);
    if partition_table::make(memory, &mut frames).is_none() {
        log::error!("no memory for the partition table");
        finish(ExitStatus::RefusedInput)
    }
    if let Err(error) = penstock_xive::enable(&firmware::Opal) {
        log::error!("XIVE reset: {error}");
        finish(ExitStatus::RefusedInput)
    }
    secondary::start_all(machine, memory, &mut frames);
    let mut tally = None;
    match machine.args.mode {
        Mode::Partitions => {}
        Mode::Die(death) => last_words::die_somewhere(death),
        Mode::SelfTest => tally = Some(selftest::run(machine, &mut frames, memory)),
    }
    // For the self tests a guest that spins.
    let (word, backing) = match tally {
        Some(_) => ("spin", MemoryBacking::Eager),
        None => ("", MemoryBacking::Lazy),
    };
    let partitions = match info.initrd {
        Some(range) if tally.is_none() => config::parse(tree_of(range)),
        _ => match create::builtin(word, backing) {
            Some(partitions) => Ok(partitions),
            None => {
                log::error!("no partition tree (-initrd), and this image has no built-in guest");
                finish(ExitStatus::RefusedInput)
            }
        },
    };
    let partitions = partitions.and_then(|partitions| {
        partitions.check_supported()?;
        partitions.check_threads(u32::try_from(thread::all().len()).unwrap_or(u32::MAX))?;
        partitions.check_pool()?;
        partitions.check_against(frames.left())?;
        Ok(partitions)
    });
    let partitions = match partitions {
        Ok(partitions) => partitions,
        Err(error) => {
            log::error!("partition tree: {error}");
            finish(ExitStatus::RefusedInput)
        }
    };
    give_heap(&mut frames, partitions.as_slice().len());
    idle::make(partitions.as_slice().len());
    seat::make(
        partitions
            .as_slice()
            .iter()
            .map(|partition| (partition.vcpus, partition.weight)),
    );
    let shared = match SharedMemory::set_up(&partitions, &mut frames, memory) {
        Ok(shared) => shared,
        Err(error) => {
            log::error!("{error}");
            finish(ExitStatus::RefusedInput)
        }
    };
    let resources = Resources {
        machine,
        memory,
        frames,
        characteristics,
        watchpoints: if machine.pvr.has_safe_dawr() {
            Watchpoints::Available
        } else {
            Watchpoints::Refused
        },
        clock: clock(info),
        shared,
    };
    let mut world = World::new(resources, partitions.into_vec());
    if let Some(tally) = tally {
        selftest::run_with_guest(world, tally);
    }
    for place in 0..world.slots.len() {
        if let Err(error) = world.start(place) {
            log::error!("{error}");
            finish(ExitStatus::RefusedInput)
        }
        tell_start(&world, place, entered);
    }
    if let Some(first) = world.slots.first() {
        world.attach(first);
    }
    run::run(world, Operator::new(machine.args.attendance))
}

/// How long it took to get the partition at `place` ready, all together and by whom.
fn tell_start(world: &World, place: usize, entered: u64) {
    let Some(slot) = world.slots.get(place) else {
        return;
    };
    let hz = world.machine.info.cpu.timebase_hz.max(1);
    let microseconds = |ticks: u64| ticks.saturating_mul(1_000_000) / hz;
    let all = spr::timebase().wrapping_sub(entered);
    let firmware = opal::call::ticks();
    let backing: u64 = world
        .slots
        .iter()
        .filter_map(|slot| slot.guest.as_ref())
        .map(Guest::backing_ticks)
        .sum();
    log::info!(
        "{}: starts {} us after our entry: {} us of our own, {} us of OPAL calls, {} us to back memory",
        slot.configuration.name,
        microseconds(all),
        microseconds(all.saturating_sub(firmware).saturating_sub(backing)),
        microseconds(firmware),
        microseconds(backing),
    );
}

/// Bytes of the heap that a partition needs at most: rings, NVRAM, device tree, the records of its
/// virtual processor.
const HEAP_PER_PARTITION: u64 = 96 << 10;

/// The heap in the image is enough for this many.
const PARTITIONS_IN_IMAGE: u64 = 16;

/// Makes the heap as large as the partitions will need it.
fn give_heap(frames: &mut FrameAllocator, partitions: usize) {
    let more = (partitions as u64).saturating_sub(PARTITIONS_IN_IMAGE);
    if more == 0 {
        return;
    }
    match frames.alloc(more * HEAP_PER_PARTITION, 4096) {
        Ok(frames) => heap::grow(frames),
        Err(error) => {
            log::error!("no memory for the records of so many partitions: {error}");
            finish(ExitStatus::RefusedInput)
        }
    }
}

fn clock(info: &BootInfo<'_>) -> Clock {
    let at_boot = match opal::platform::rtc_read() {
        Ok((year_month_day, hour_minute_second)) => OpalRtc {
            year_month_day,
            hour_minute_second,
        }
        .decode()
        .map(|time| time.to_unix()),
        Err(status) => {
            log::warn!("no real time clock: {status}");
            None
        }
    };
    Clock {
        at_boot,
        timebase_at_boot: spr::timebase(),
        timebase_hz: info.cpu.timebase_hz,
    }
}
