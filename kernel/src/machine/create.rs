// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Making a partition from its configuration, and putting its guest into its memory.

// UNSAFETY: the thread is switched to the partition.
#![expect(unsafe_code)]

use super::hardware::{Hardware, HwInterrupts, HwMemory};
use super::start::Machine;
use super::{builtin, firmware::Opal};
use crate::config::{self, MemoryBacking, Partitions};
use crate::console::{GuestId, InputRing, OutputRing};
use crate::guest_dt::{
    self, CpuKind, FdtPlace, GuestCpu, GuestDtParams, GuestRtas, RandomDevice, Vty,
};
use crate::hcall::{function_sets, table::RESIZE_SET};
use crate::image::{self, LoadPlan, LoadRequest};
use crate::partition::{
    Clock, CpuCharacteristics, FIRST_DEVICE_LISN, Partition, VTY_UNIT, Watchpoints,
    complaint_budget,
};
use crate::platform::{HDSISR_CANARY, Platform};
use crate::rtas::{self, Rtas};
use crate::vcpu::Vcpu;
use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use penstock_arch::addr::HostReal;
use penstock_arch::hash::{Lpid, PageSize};
use penstock_arch::regs::{Processor, sprn};
use penstock_arch::{entry, spr, sync};
use penstock_boot::bootinfo::SegmentPageSize;
use penstock_mm::frame::FrameAllocator;
use penstock_mm::guest_memory::{Backing, GuestMemory};
use penstock_mm::hpt::{HashMmu, HptConfig, HptOrder, StorageKeys, StrongAccessOrder};
use penstock_mm::page_ops::PageOps;
use penstock_xive::{
    ChipId, Presenter, PresenterSetup, ServerNumber, Source, Tima, Trigger, VpBlock,
};

/// What partitions are made of.
pub struct Resources<'a> {
    /// The machine.
    pub machine: &'a Machine,
    /// TLB and page operations.
    pub memory: HwMemory,
    /// Free memory.
    pub frames: FrameAllocator,
    /// For H_GET_CPU_CHARACTERISTICS.
    pub characteristics: CpuCharacteristics,
    /// For H_SET_MODE.
    pub watchpoints: Watchpoints,
    /// Time of day.
    pub clock: Clock,
}

/// A partition with its guest, and what is needed to start it again.
pub struct Guest {
    vcpu: Box<Vcpu<Hardware>>,
    processor: Processor,
    configuration: config::Partition<'static>,
    plan: LoadPlan,
    tree: Vec<u8>,
    backing_ticks: u64,
}

/// A sentence that says why a partition cannot be made.
pub type CreateError = String;

/// The name of the built-in guest's partition.
const BUILTIN_NAME: &str = "builtin";

/// What runs when there is no partition tree; `None` if nothing was embedded.
pub fn builtin() -> Option<Partitions<'static>> {
    if builtin::IMAGE.is_empty() {
        return None;
    }
    Some(Partitions::single(
        BUILTIN_NAME,
        builtin::IMAGE,
        256 << 20,
        MemoryBacking::Lazy,
    ))
}

/// Makes the partition, loads its guest, and sets this thread up for it.
///
/// # Errors
/// What is wrong, with the partition's name.
pub fn create(
    resources: &mut Resources<'_>,
    configuration: config::Partition<'static>,
) -> Result<Guest, CreateError> {
    let name = configuration.name;
    let fail = |what: &dyn core::fmt::Display| alloc::format!("partition {name}: {what}");
    let plan = image::plan(&LoadRequest {
        kernel: configuration.kernel.data,
        load_address: configuration.kernel.load_address,
        memory_bytes: configuration.memory_bytes,
        initrd_bytes: configuration
            .initrd
            .as_ref()
            .map(|image| image.data.len() as u64),
        fdt_bytes: image::FDT_BYTES,
    })
    .map_err(|error| fail(&error))?;
    let lpid = Lpid::new(1);
    let order =
        HptOrder::new(configuration.hpt_order).ok_or_else(|| fail(&"hpt-order is out of range"))?;
    let spare = configuration
        .hpt_resize_order
        .map(|order| HptOrder::new(order).ok_or_else(|| fail(&"hpt-resize-order is out of range")))
        .transpose()?;
    let backing = match configuration.backing {
        MemoryBacking::Eager => Backing::Eager,
        MemoryBacking::Lazy => Backing::Lazy,
    };
    let before = spr::timebase();
    let memory = GuestMemory::new(
        resources.memory,
        configuration.memory_bytes,
        backing,
        &mut resources.frames,
    )
    .map_err(|error| fail(&error))?;
    let backing_ticks = spr::timebase().wrapping_sub(before);
    let config = HptConfig {
        order,
        // Memory comes in blocks of 16 MiB, so that is what backs guest address 0.
        vrma_page: PageSize::P16M,
        keys: StorageKeys::Offered,
        ordering: StrongAccessOrder::NotOffered,
        spare,
    };
    let mmu =
        HashMmu::new(lpid, memory, config, &mut resources.frames).map_err(|error| fail(&error))?;
    Hardware::set_partition_entry(lpid, mmu.pate());
    let (presenters, sources) =
        interrupts(resources, configuration.vcpus).map_err(|error| fail(&error))?;
    let partition = Box::leak(Box::new(Partition {
        id: GuestId(1),
        name: name.to_string(),
        mmu,
        output: OutputRing::new(),
        input: InputRing::new(),
        rtas: spin::Mutex::new(Rtas::new()),
        vcpus: configuration.vcpus,
        machine_cpus: machine_cpus(resources.machine),
        page_sizes: guest_dt::page_sizes_within(
            &resources.machine.info.cpu.page_sizes,
            PageSize::P16M.shift(),
        ),
        presenters,
        sources,
        characteristics: resources.characteristics,
        watchpoints: resources.watchpoints,
        undefined_flags: configuration.undefined_flags,
        clock: resources.clock,
        complaints: spin::Mutex::new(complaint_budget(resources.clock.timebase_hz)),
    }));
    let tree = device_tree(
        resources.machine,
        &configuration,
        &plan,
        &partition.page_sizes,
    )
    .map_err(|error| fail(&error))?;
    let presenter = partition
        .presenters
        .first()
        .ok_or_else(|| fail(&"no virtual processor"))?;
    let mut vcpu = Box::new(Vcpu::new(partition, presenter));
    vcpu.ctx.emergency_sp = resources.machine.idle.emergency_sp;
    sync::isync();
    // SAFETY: the partition table entry stands; the hypervisor itself does not translate.
    unsafe { spr::write::<{ sprn::LPIDR }>(u64::from(lpid.get())) };
    sync::isync();
    let processor = resources.machine.processor;
    let mut guest = Guest {
        vcpu,
        processor,
        configuration,
        plan,
        tree,
        backing_ticks,
    };
    guest.load()?;
    Ok(guest)
}

fn machine_cpus(machine: &Machine) -> u32 {
    let threads: usize = machine
        .info
        .cores
        .iter()
        .map(|core| core.threads.len())
        .sum();
    u32::try_from(threads).unwrap_or(u32::MAX)
}

/// Presenters of the virtual processors, sources of the hypervisor's devices.
type Interrupts = (Box<[Presenter]>, Box<[Source]>);

fn interrupts(resources: &mut Resources<'_>, vcpus: u32) -> Result<Interrupts, CreateError> {
    let xive = &resources.machine.info.xive;
    let memory = resources.memory;
    penstock_xive::enable(&Opal).map_err(|error| alloc::format!("XIVE reset: {error}"))?;
    let chips: Vec<ChipId> = xive
        .provision_chips
        .iter()
        .map(|chip| ChipId::new(*chip))
        .collect();
    let block = {
        let frames = &mut resources.frames;
        let mut donate = |_chip| frame(frames, memory, 64 << 10);
        VpBlock::allocate(
            &Opal,
            &chips,
            &mut donate,
            vcpus.next_power_of_two().ilog2(),
        )
        .map_err(|error| alloc::format!("XIVE virtual processors: {error}"))?
    };
    let chip = chips.first().copied();
    let mut presenters = Vec::new();
    for index in 0..vcpus {
        let vp = block.vp(index).ok_or("XIVE virtual processors: too few")?;
        let queues = frame(&mut resources.frames, memory, Presenter::QUEUE_BYTES)
            .ok_or("no memory for event queues")?;
        let setup = PresenterSetup {
            vp,
            server: ServerNumber::new(index),
            tima: Tima::new(xive.tima.hypervisor.start()),
            queues,
            chip,
        };
        let presenter = Presenter::set_up(&Opal, &HwInterrupts, &setup)
            .map_err(|error| alloc::format!("XIVE virtual processor: {error}"))?;
        presenters.push(presenter);
    }
    let vp = block.vp(0).ok_or("XIVE virtual processors: none")?;
    let vty = Source::set_up(
        &Opal,
        &HwInterrupts,
        FIRST_DEVICE_LISN,
        Trigger::Edge,
        vp,
        chip,
    )
    .map_err(|error| alloc::format!("XIVE source: {error}"))?;
    Ok((presenters.into_boxed_slice(), Box::new([vty])))
}

/// A zeroed frame that is never given back.
fn frame(frames: &mut FrameAllocator, memory: HwMemory, bytes: u64) -> Option<HostReal> {
    let taken = frames.alloc(bytes, bytes).ok()?;
    let base = taken.base();
    // SAFETY: just allocated, so ours alone.
    unsafe { memory.zero(base, bytes) };
    // Dropping `taken` frees nothing: the interrupt controller keeps the memory.
    Some(base)
}

fn device_tree(
    machine: &Machine,
    configuration: &config::Partition<'_>,
    plan: &LoadPlan,
    page_sizes: &[SegmentPageSize],
) -> Result<Vec<u8>, CreateError> {
    let info = machine.info;
    let kind = CpuKind::from_pvr(machine.pvr.get()).ok_or("unknown processor")?;
    let tokens: Vec<(&str, u32)> = rtas::FUNCTIONS
        .iter()
        .map(|function| (function.name, function.token))
        .collect();
    let resizes = configuration.hpt_resize_order.is_some();
    let sets: Vec<&str> = function_sets()
        .filter(|set| resizes || *set != RESIZE_SET)
        .collect();
    let mut seed = [0u8; 32];
    for chunk in seed.chunks_mut(8) {
        chunk.copy_from_slice(&spr::random().unwrap_or_else(spr::timebase).to_be_bytes());
    }
    guest_dt::build(&GuestDtParams {
        partition_name: configuration.name,
        partition_number: 1,
        model: configuration.model,
        root_compatible: &configuration.root_compatible,
        uuid: None,
        memory_bytes: configuration.memory_bytes,
        bootargs: configuration.bootargs,
        initrd: plan.initrd,
        rng_seed: Some(&seed),
        cpu: GuestCpu {
            kind,
            hpt_order: configuration.hpt_order,
            slb_entries: info.cpu.slb_entries,
            dec_bits: info.cpu.dec_bits,
            timebase_hz: info.cpu.timebase_hz,
            clock_hz: info.cpu.clock_hz,
            page_sizes,
            caches: info.cpu.caches,
            storage_keys: Some([32, 0]),
        },
        rtas: GuestRtas {
            base: plan.rtas,
            bytes: rtas::RTAS_SIZE,
            tokens: &tokens,
            hypertas_functions: &sets,
            error_log_max: rtas::ERROR_LOG_MAX,
            event_scan_rate: rtas::EVENT_SCAN_RATE,
            nvram_bytes: u32::try_from(rtas::NVRAM_BYTES).unwrap_or(u32::MAX),
        },
        vty: Vty {
            unit: VTY_UNIT,
            interrupt: Some(FIRST_DEVICE_LISN.get()),
        },
        random: RandomDevice::Present,
        fdt: FdtPlace {
            base: plan.fdt,
            max_bytes: plan.fdt_bytes,
        },
    })
    .map_err(|error| alloc::format!("device tree: {error}"))
}

impl Guest {
    /// The partition.
    pub fn partition(&self) -> &'static Partition<Hardware> {
        self.vcpu.partition
    }

    /// Time base ticks that it took to set its memory aside, and to zero it where that is eager.
    pub fn backing_ticks(&self) -> u64 {
        self.backing_ticks
    }

    /// The virtual processor.
    pub fn vcpu(&mut self) -> &mut Vcpu<Hardware> {
        &mut self.vcpu
    }

    /// Puts kernel, initial RAM disk, RTAS and device tree into place, and the virtual processor at
    /// the entry.
    ///
    /// # Errors
    /// What does not fit, which the plan has excluded.
    fn load(&mut self) -> Result<(), CreateError> {
        let memory = self.vcpu.partition.mmu.memory();
        let kernel = self.configuration.kernel.data;
        let fail = |_| String::from("the guest's images do not fit its memory");
        for copy in &self.plan.copies {
            let bytes = kernel
                .get(copy.file.clone())
                .ok_or("the kernel's file is too short")?;
            memory.write(copy.guest, bytes).map_err(fail)?;
            let tail = copy
                .guest
                .checked_add(bytes.len() as u64)
                .ok_or("kernel too large")?;
            memory.zero(tail, copy.zero_bytes).map_err(fail)?;
            memory
                .icache_synchronize(copy.guest, bytes.len() as u64)
                .map_err(fail)?;
        }
        if let (Some(range), Some(initrd)) = (self.plan.initrd, &self.configuration.initrd) {
            memory.write(range.start, initrd.data).map_err(fail)?;
        }
        memory
            .write(self.plan.rtas, &rtas::ENTRY_CODE)
            .map_err(fail)?;
        memory.write(self.plan.fdt, &self.tree).map_err(fail)?;
        memory
            .icache_synchronize(self.plan.rtas, 4096)
            .map_err(fail)?;
        self.vcpu.set_start_state(self.plan.entry, self.plan.fdt);
        // The thread's LPCR is the guest's from here on, before HDEC is written: with HDICE clear,
        // POWER9 drops what HDEC raises.
        Hardware::set_lpcr(self.vcpu.lpcr);
        reset_registers(self.processor);
        Ok(())
    }

    /// Starts the guest again, as if the partition had been powered on.
    ///
    /// # Errors
    /// As [`Guest::load`].
    pub fn restart(&mut self) -> Result<(), CreateError> {
        let partition = self.vcpu.partition;
        let _ = self.vcpu.areas.release_all();
        partition
            .sources()
            .reset(&HwInterrupts, &Opal)
            .map_err(|error| alloc::format!("{}: interrupt sources: {error}", partition.name))?;
        if self.vcpu.presenter.is_pushed() {
            self.vcpu.presenter.pull(&HwInterrupts);
        }
        self.vcpu.presenter.reset(&HwInterrupts);
        partition.mmu.clear_all();
        // It may have had another table, and begins with its first one.
        Hardware::set_partition_entry(partition.mmu.lpid(), partition.mmu.pate());
        self.load()
    }
}

/// Special purpose registers of a guest that stay in the machine, as a fresh virtual processor
/// finds them. The order is that of Power ISA 3.0B, Appendix: Special Purpose Registers.
fn reset_registers(processor: Processor) {
    macro_rules! clear {
        ($($name:ident),*) => {
            $(
                // SAFETY: a register of the guest that is about to start; zero is what it starts
                // with, and means off for breakpoints, watchpoints and monitors.
                unsafe { spr::write::<{ sprn::$name }>(0) };
            )*
        };
    }
    entry::clear_guest_registers();
    entry::flush_slb();
    clear!(
        DSCR, DPDES, DSISR, DAR, SRR0, SRR1, AMR, IAMR, PIDR, FSCR, UAMOR, PSPB, CIABR, DAWRX0,
        DAWR0, VRSAVE, SPRG0, SPRG1, SPRG2, SPRG3, MMCR1, MMCR2, MMCRA, PMC1, PMC2, PMC3, PMC4,
        PMC5, PMC6, SIAR, SDAR, SIER, EBBHR, EBBRR, BESCR, TAR
    );
    /// MMCR0: counters frozen.
    const FROZEN: u64 = 0x8000_0000;
    /// CTRL: the run latch.
    const RUN: u64 = 1;
    // SAFETY: the guest's monitor is off until it wants it.
    unsafe { spr::write::<{ sprn::MMCR0 }>(FROZEN) };
    // SAFETY: only says that the thread works.
    unsafe { spr::write::<{ sprn::CTRL_WRITE }>(RUN) };
    if processor == Processor::Power9 {
        clear!(TIDR);
    }
    if processor == Processor::Power10 {
        clear!(
            DEXCR, HASHKEYR, HASHPKEYR, DAWRX1, DAWR1, MMCR3, SIER2, SIER3
        );
    }
    // SAFETY: a register of the hypervisor.
    unsafe { spr::write::<{ sprn::HDSISR }>(HDSISR_CANARY) };
    // SAFETY: the guest's decrementer begins far from expiry, as after a reset of the partition.
    unsafe { spr::write::<{ sprn::DEC }>(0x7fff_ffff) };
    sync::isync();
}
