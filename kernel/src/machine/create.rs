// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Making a partition from its configuration, putting its guest into its memory, and taking all
//! back when it ends.

use super::builtin;
use super::hardware::{Hardware, HwMemory, scope_of};
use super::interrupts::{self, Forgotten, Ground, Interrupts};
use super::pool::SharedMemory;
use super::start::Machine;
use crate::config::{self, Authority, ImageRole, MemoryBacking, MemoryPolicy, Partitions};
use crate::console::{GuestId, InputRing, OutputRing};
use crate::control::{ControlPort, Streams};
use crate::guest_dt::{
    self, CpuKind, Epow, FdtPlace, Framebuffer, GuestCpu, GuestDtParams, GuestInterrupts,
    GuestRtas, RandomDevice, Vty,
};
use crate::hcall::{function_sets, table::RESIZE_SET};
use crate::image::{self, LoadPlan, LoadRequest, pieces};
use crate::occupied::Occupied;
use crate::partition::{
    Clock, CpuCharacteristics, Dispatching, EPOW_LISN, FIRST_DEVICE_LISN, Partition, VTY_UNIT,
    Watchpoints, complaint_budget,
};
use crate::platform::Platform;
use crate::presentation::{InterruptMode, Windows, own_sources};
use crate::processor::{Processors, Start};
use crate::rtas::{self, Rtas};
use crate::screen::{self, Geometry, Screen};
use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use penstock_arch::hash::{Lpid, PageSize};
use penstock_arch::{spr, wait};
use penstock_boot::bootinfo::SegmentPageSize;
use penstock_mm::frame::FrameAllocator;
use penstock_mm::guest_memory::{
    Backing, GuestMemory, MemoryConfig, MemoryError, MemorySetupError, PIECE, SlotId,
};
use penstock_mm::hpt::{HashMmu, HptConfig, HptOrder, StorageKeys, StrongAccessOrder};
use penstock_mm::pool::ImageId;
use penstock_xive::native::window;

/// What partitions are made of.
pub struct Resources<'a> {
    /// The machine.
    pub machine: &'a Machine,
    /// TLB and page operations.
    pub memory: HwMemory,
    /// Free memory.
    pub frames: Box<FrameAllocator>,
    /// For H_GET_CPU_CHARACTERISTICS.
    pub characteristics: CpuCharacteristics,
    /// For H_SET_MODE.
    pub watchpoints: Watchpoints,
    /// Time of day.
    pub clock: Clock,
    /// The pool of partitions that share memory, where there are any.
    pub shared: Option<SharedMemory>,
}

/// The images that a partition shares with others.
#[derive(Clone, Copy, Debug)]
struct SharedStart {
    kernel: ImageId,
    initrd: Option<ImageId>,
}

/// A partition with its guest, and what is needed to start it again.
pub struct Guest {
    /// The partition and its virtual processors. Their seats have the other references.
    pub occupied: Occupant,
    ground: Ground,
    plan: LoadPlan,
    tree: Vec<u8>,
    /// Where its memory comes from the pool.
    shared: Option<SharedStart>,
    backing_ticks: u64,
    /// What looks at its framebuffer, where it has one, and the slot that this is.
    pub screen: Option<(SlotId, Screen)>,
}

/// A partition and its virtual processors, for their seats.
pub type Occupant = Arc<Occupied<Hardware>>;

/// A sentence that says why a partition cannot be made.
pub type CreateError = String;

/// The name of the built-in guest's partition.
const BUILTIN_NAME: &str = "builtin";

/// What runs when there is no partition tree, with this command line; `None` if nothing was embedded.
pub fn builtin(bootargs: &'static str, backing: MemoryBacking) -> Option<Partitions<'static>> {
    if builtin::IMAGE.is_empty() {
        return None;
    }
    Some(Partitions::single(
        BUILTIN_NAME,
        builtin::IMAGE,
        256 << 20,
        bootargs,
        backing,
    ))
}

/// Makes the partition, and loads its guest. `number` counts partitions from 1.
///
/// # Errors
/// What is wrong, with the partition's name; then nothing is taken.
pub fn create(
    resources: &mut Resources<'_>,
    number: GuestId,
    configuration: &config::Partition<'static>,
) -> Result<Guest, CreateError> {
    let name = configuration.name;
    let fail = |what: &dyn core::fmt::Display| alloc::format!("partition {name}: {what}");
    let plan = image::plan(&LoadRequest::of(configuration)).map_err(|error| fail(&error))?;
    let largest = match configuration.policy {
        MemoryPolicy::Reserved => configuration.largest_page,
        MemoryPolicy::Shared { .. } => configuration.largest_page.min(PageSize::P64K),
    };
    let page_sizes =
        guest_dt::page_sizes_within(&resources.machine.info.cpu.page_sizes, largest.shift());
    let tree = device_tree(resources.machine, number, configuration, &plan, &page_sizes)
        .map_err(|error| fail(&error))?;
    let lpid = Lpid::new(u32::from(number.0));
    let order =
        HptOrder::new(configuration.hpt_order).ok_or_else(|| fail(&"hpt-order is out of range"))?;
    let resize = configuration
        .hpt_resize_order
        .map(|order| HptOrder::new(order).ok_or_else(|| fail(&"hpt-resize-order is out of range")))
        .transpose()?;
    let before = spr::timebase();
    let (mut memory, shared) = memory_of(resources, configuration).map_err(|error| fail(&error))?;
    let screen_slot = match configuration.framebuffer.map(Geometry::slot_bytes) {
        None => None,
        Some(bytes) => match memory.add_framebuffer(screen::WINDOW, bytes, &mut resources.frames) {
            Ok(slot) => Some(slot),
            Err(error) => {
                give_back(resources, memory);
                return Err(fail(&error));
            }
        },
    };
    let windows = match configuration.interrupt_mode {
        InterruptMode::Xics => None,
        InterruptMode::Xive => {
            match Windows::add(&mut memory, &mut resources.frames, configuration.vcpus) {
                Ok(windows) => Some(windows),
                Err(error) => {
                    give_back(resources, memory);
                    return Err(fail(&error));
                }
            }
        }
    };
    let backing_ticks = spr::timebase().wrapping_sub(before);
    let config = HptConfig {
        order,
        // Of the size of what backs guest address 0.
        vrma_page: largest,
        keys: StorageKeys::Offered,
        ordering: StrongAccessOrder::NotOffered,
        resize,
    };
    let mmu =
        HashMmu::new(lpid, memory, config, &mut resources.frames).map_err(|error| fail(&error))?;
    if let Some(slot) = screen_slot {
        let _ = mmu.start_log(slot);
    }
    let interrupts = match interrupts::set_up(resources, configuration.vcpus, windows) {
        Ok(interrupts) => interrupts,
        Err(error) => {
            release_memory(resources, mmu);
            return Err(fail(&error));
        }
    };
    if let Some(scope) = scope_of(lpid) {
        scope.forget();
    }
    Hardware::set_partition_entry(lpid, mmu.pate());
    let Interrupts {
        presenters,
        sources,
        exploited,
        ground,
    } = interrupts;
    let dispatching = if configuration.pinned.is_empty() {
        Dispatching::Shared {
            weight: configuration.weight,
        }
    } else {
        Dispatching::Dedicated
    };
    let partition = Box::new(Partition {
        id: number,
        name: name.to_string(),
        mmu,
        output: OutputRing::new(),
        input: InputRing::new(),
        rtas: wait::Mutex::new(Rtas::new()),
        vcpus: configuration.vcpus,
        dispatching,
        processors: Processors::new(configuration.vcpus, dispatching),
        machine_cpus: machine_cpus(resources.machine),
        page_sizes,
        presenters,
        sources,
        exploited,
        characteristics: resources.characteristics,
        watchpoints: resources.watchpoints,
        undefined_flags: configuration.undefined_flags,
        clock: resources.clock,
        framebuffer_row_bytes: configuration
            .framebuffer
            .map_or(0, |geometry| geometry.stride()),
        control: match configuration.authority {
            Authority::None => None,
            Authority::Control => Some(ControlPort::new()),
        },
        streams: wait::Mutex::new(Streams::new()),
        complaints: wait::Mutex::new(complaint_budget(resources.clock.timebase_hz)),
    });
    // Its one page serves all virtual processors, each of which sees its own context there.
    partition.fill_device_page(window::TIMA_OS);
    let occupied = match Occupied::new(partition) {
        Ok(occupied) => Arc::new(occupied),
        Err(partition) => {
            unmake(resources, *partition, ground);
            return Err(fail(&"no virtual processor"));
        }
    };
    let mut guest = Guest {
        occupied,
        ground,
        plan,
        tree,
        shared,
        backing_ticks,
        screen: screen_slot
            .zip(configuration.framebuffer)
            .map(|(slot, geometry)| {
                let order = image::byte_order(configuration.kernel.data);
                (slot, Screen::new(name, geometry, order))
            }),
    };
    match guest.load(configuration) {
        Ok(()) => Ok(guest),
        Err(error) => {
            guest.destroy(resources);
            Err(fail(&error))
        }
    }
}

/// Memory as the partition's policy says, with the images that it then shares.
fn memory_of(
    resources: &mut Resources<'_>,
    configuration: &config::Partition<'static>,
) -> Result<(GuestMemory<HwMemory>, Option<SharedStart>), CreateError> {
    let text = |error: MemorySetupError| error.to_string();
    let bytes = configuration.memory_bytes;
    let backing = match (configuration.policy, configuration.backing) {
        (MemoryPolicy::Reserved, MemoryBacking::Eager) => Backing::Eager,
        (MemoryPolicy::Reserved, MemoryBacking::Lazy) => Backing::Lazy,
        (MemoryPolicy::Shared { .. }, _) => {
            let pool = resources.shared.as_ref().ok_or("there is no pool")?;
            let share = pool
                .share_of(configuration.name)
                .ok_or("the pool has no account for it")?;
            let start = SharedStart {
                kernel: pool
                    .image_of(ImageRole::Kernel, configuration)
                    .ok_or("the pool does not have its kernel")?,
                initrd: pool.image_of(ImageRole::Initrd, configuration),
            };
            let memory = GuestMemory::pooled(resources.memory, bytes, share, &mut resources.frames)
                .map_err(text)?;
            return Ok((memory, Some(start)));
        }
    };
    let memory = MemoryConfig {
        largest: configuration.largest_page,
        ..MemoryConfig::new(bytes, backing)
    };
    let memory =
        GuestMemory::with_config(resources.memory, memory, &mut resources.frames).map_err(text)?;
    Ok((memory, None))
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

/// Takes back what a partition is made of. Nothing of it is on any thread.
fn unmake(resources: &mut Resources<'_>, partition: Partition<Hardware>, ground: Ground) {
    let had_pins = partition.exploited.is_some();
    let Partition {
        mmu,
        presenters,
        sources,
        exploited,
        ..
    } = partition;
    Hardware::set_partition_entry(mmu.lpid(), None);
    let interrupts = Interrupts {
        presenters,
        sources,
        exploited,
        ground,
    };
    match interrupts::tear_down(resources, interrupts) {
        Forgotten::Yes => release_memory(resources, mmu),
        // Event queues may be in it.
        Forgotten::No if had_pins => log::error!("the memory of a partition is lost with them"),
        Forgotten::No => release_memory(resources, mmu),
    }
}

/// Gives memory back that no partition has come of.
fn give_back(resources: &mut Resources<'_>, memory: GuestMemory<HwMemory>) {
    if let Err(lost) = memory.release(&mut resources.frames) {
        log::error!("memory of a partition is lost: {lost}");
    }
}

fn release_memory(resources: &mut Resources<'_>, mmu: HashMmu<HwMemory>) {
    if let Err(error) = mmu.destroy(&mut resources.frames) {
        log::error!("memory of a partition is lost: {error}");
    }
}

fn device_tree(
    machine: &Machine,
    number: GuestId,
    configuration: &config::Partition<'_>,
    plan: &LoadPlan,
    page_sizes: &[SegmentPageSize],
) -> Result<Vec<u8>, CreateError> {
    let info = machine.info;
    let kind = CpuKind::from_pvr(machine.pvr.get()).ok_or("unknown processor")?;
    let tokens: Vec<(&str, u32)> = rtas::FUNCTIONS
        .iter()
        .filter(|function| function.is_in(configuration.interrupt_mode))
        .map(|function| (function.name, function.token))
        .collect();
    let resizes = configuration.hpt_resize_order.is_some();
    let sets: Vec<&str> = function_sets(configuration.interrupt_mode)
        .filter(|set| resizes || *set != RESIZE_SET)
        .collect();
    let mut seed = [0u8; 32];
    for chunk in seed.chunks_mut(8) {
        chunk.copy_from_slice(&spr::random().unwrap_or_else(spr::timebase).to_be_bytes());
    }
    guest_dt::build(&GuestDtParams {
        partition_name: configuration.name,
        partition_number: u32::from(number.0),
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
        vcpus: configuration.vcpus,
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
        epow: Epow {
            interrupt: EPOW_LISN.get(),
        },
        framebuffer: configuration.framebuffer.map(|geometry| Framebuffer {
            base: screen::WINDOW,
            geometry,
            order: image::byte_order(configuration.kernel.data),
        }),
        interrupts: match configuration.interrupt_mode {
            InterruptMode::Xics => GuestInterrupts::Xics,
            InterruptMode::Xive => GuestInterrupts::Xive {
                own_sources: own_sources(configuration.vcpus),
            },
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
    /// Time base ticks that it took to set its memory aside, and to zero it where that is eager.
    pub fn backing_ticks(&self) -> u64 {
        self.backing_ticks
    }

    /// Puts kernel, initial RAM disk, RTAS and device tree into place, and the first virtual processor at
    /// the entry, which is not on a thread.
    ///
    /// # Errors
    /// What does not fit, which the plan has excluded.
    fn load(&mut self, configuration: &config::Partition<'static>) -> Result<(), CreateError> {
        let fail = |_| String::from("the guest's images do not fit its memory");
        match self.shared {
            None => self.load_images(configuration)?,
            Some(shared) => self.map_images(shared).ok_or_else(|| fail(()))?,
        }
        let fail = |error: MemoryError| alloc::format!("the guest's start: {error}");
        let memory = self.occupied.partition().mmu.memory();
        memory
            .write(self.plan.rtas, &rtas::ENTRY_CODE)
            .map_err(fail)?;
        memory.write(self.plan.fdt, &self.tree).map_err(fail)?;
        memory
            .icache_synchronize(self.plan.rtas, 4096)
            .map_err(fail)?;
        let start = Start {
            entry: self.plan.entry,
            r3: self.plan.fdt.get(),
        };
        self.occupied.with(0, |vcpu| vcpu.begin(start));
        Ok(())
    }

    /// Lets the memory, which was never touched, map the images that are in the pool; `None` where
    /// they do not fit, which the plan has excluded.
    fn map_images(&self, shared: SharedStart) -> Option<()> {
        let mmu = &self.occupied.partition().mmu;
        mmu.map_image(shared.kernel, pieces::of_kernel(&self.plan))?;
        if let (Some(range), Some(initrd)) = (self.plan.initrd, shared.initrd) {
            mmu.map_image(initrd, range.start.get() / PIECE..)?;
        }
        Some(())
    }

    /// Copies the images into the memory.
    fn load_images(&self, configuration: &config::Partition<'static>) -> Result<(), CreateError> {
        let memory = self.occupied.partition().mmu.memory();
        let kernel = configuration.kernel.data;
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
        if let (Some(range), Some(initrd)) = (self.plan.initrd, &configuration.initrd) {
            memory.write(range.start, initrd.data).map_err(fail)?;
        }
        Ok(())
    }

    /// Starts the guest again, as if the partition had been powered on. It is on no thread.
    ///
    /// # Errors
    /// As [`Guest::load`].
    pub fn restart(
        &mut self,
        configuration: &config::Partition<'static>,
    ) -> Result<(), CreateError> {
        let partition = self.occupied.partition();
        partition.processors.start_over();
        partition
            .reset_interrupts()
            .map_err(|error| alloc::format!("{}: interrupts: {error}", partition.name))?;
        partition.rtas.lock().events.forget();
        partition.mmu.clear_all();
        // It may have had another table, or real mode other pages; it begins with its first ones.
        Hardware::set_partition_entry(partition.mmu.lpid(), partition.mmu.pate());
        self.load(configuration)
    }

    /// Ends the partition, and gives back all that it has. It is on no thread, and its seats are
    /// empty.
    pub fn destroy(self, resources: &mut Resources<'_>) {
        match Arc::try_unwrap(self.occupied) {
            Ok(occupied) => unmake(resources, *occupied.into_partition(), self.ground),
            // Nobody else keeps one.
            Err(shared) => log::error!("{}: all that it has is lost", shared.partition().name),
        }
    }
}
