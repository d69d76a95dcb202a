// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A partition's interrupts: a block of virtual processors with what presents interrupts to them,
//! and the sources of the hypervisor's devices. Made as one, and given back as one.

// UNSAFETY: event queues are zeroed.
#![expect(unsafe_code)]

use super::create::{CreateError, Resources};
use super::firmware::Opal;
use super::hardware::{Hardware, HwInterrupts, HwMemory};
use super::thread::{self, Thread};
use crate::partition::{FIRST_DEVICE_LISN, Partition};
use crate::presentation::{DEVICE_SOURCES, Exploited, Windows, own_sources};
use alloc::boxed::Box;
use alloc::vec::Vec;
use penstock_boot::bootinfo::BootInfo;
use penstock_mm::frame::FrameAllocator;
use penstock_mm::page_ops::PageOps;
use penstock_mm::real::Frames;
use penstock_xive::native::{EscalationTarget, NativeSetup, NativeSource, NativeState, NativeVcpu};
use penstock_xive::{
    ChipId, Eisn, FirmwareError, Lisn, Presenter, PresenterSetup, Priority, ServerNumber, Source,
    Tima, Trigger, VpBlock, VpId,
};

/// What a partition has of the interrupt controller.
pub struct Interrupts {
    /// Of the virtual processors, in their order; none in exploitation mode.
    pub presenters: Box<[Presenter]>,
    /// Of the hypervisor's devices, from [`FIRST_DEVICE_LISN`] on; none in exploitation mode.
    pub sources: Box<[Source]>,
    /// The controller of a partition in exploitation mode.
    pub exploited: Option<Exploited>,
    /// What they rest on.
    pub ground: Ground,
}

/// What the rest of it rests on, to be kept until that is gone.
pub struct Ground {
    block: VpBlock,
    queues: Vec<Frames>,
}

/// Whether the hardware may still write to a partition's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Forgotten {
    /// It has forgotten all of it.
    Yes,
    /// Firmware would not say so: the memory must not be given to anybody.
    No,
}

/// A zeroed frame.
fn frame(frames: &mut FrameAllocator, memory: HwMemory, bytes: u64) -> Option<Frames> {
    let taken = frames.alloc(bytes, bytes).ok()?;
    // SAFETY: just allocated, so ours alone.
    unsafe { memory.zero(taken.base(), bytes) };
    Some(taken)
}

/// At least so many virtual processors of the interrupt controller.
///
/// # Errors
/// The status of the firmware call that failed.
pub fn allocate_vps(
    info: &BootInfo,
    memory: HwMemory,
    frames: &mut FrameAllocator,
    count: u32,
) -> Result<VpBlock, FirmwareError> {
    let chips = info.xive.provision_chips.iter();
    let chips: Vec<ChipId> = chips.map(|chip| ChipId::new(*chip)).collect();
    // What is donated stays the firmware's, and serves later blocks too.
    let mut donate = |_chip| frame(frames, memory, 64 << 10).map(|frames| frames.base());
    let order = count.next_power_of_two().ilog2();
    VpBlock::allocate(&Opal, &chips, &mut donate, order)
}

/// Interrupts for a partition of `vcpus` virtual processors: in exploitation mode with the windows
/// of its pages, otherwise by XICS calls.
///
/// # Errors
/// What could not be had; then all is given back.
pub fn set_up(
    resources: &mut Resources<'_>,
    vcpus: u32,
    windows: Option<Windows>,
) -> Result<Interrupts, CreateError> {
    let info = resources.machine.info;
    let block = allocate_vps(info, resources.memory, &mut resources.frames, vcpus)
        .map_err(|error| alloc::format!("XIVE virtual processors: {error}"))?;
    let mut parts = Parts {
        ground: Ground {
            block,
            queues: Vec::new(),
        },
        presenters: Vec::new(),
        sources: Vec::new(),
        ipis: Vec::new(),
        devices: Vec::new(),
        vcpus: Vec::new(),
    };
    let filled = match windows {
        None => fill(resources, vcpus, &mut parts),
        Some(_) => fill_exploited(resources, vcpus, &mut parts),
    };
    if let Err(error) = filled {
        // The hardware was told of no memory of the partition yet.
        let _ = parts.tear_down(resources);
        return Err(error);
    }
    let tima_os = resources.machine.info.xive.tima.os.start();
    Ok(Interrupts {
        presenters: parts.presenters.into_boxed_slice(),
        sources: parts.sources.into_boxed_slice(),
        exploited: windows.map(|windows| Exploited {
            ipis: parts.ipis.into_boxed_slice(),
            devices: parts.devices.into_boxed_slice(),
            vcpus: parts.vcpus.into_boxed_slice(),
            state: NativeState::new(tima_os),
            windows,
        }),
        ground: parts.ground,
    })
}

/// What has been made so far.
struct Parts {
    ground: Ground,
    presenters: Vec<Presenter>,
    sources: Vec<Source>,
    ipis: Vec<NativeSource>,
    devices: Vec<NativeSource>,
    vcpus: Vec<NativeVcpu>,
}

fn first_chip(resources: &Resources<'_>) -> Option<ChipId> {
    let chips = &resources.machine.info.xive.provision_chips;
    chips.first().map(|chip| ChipId::new(*chip))
}

fn too_few() -> CreateError {
    CreateError::from("XIVE virtual processors: too few")
}

fn fill(resources: &mut Resources<'_>, vcpus: u32, parts: &mut Parts) -> Result<(), CreateError> {
    let xive = &resources.machine.info.xive;
    let chip = first_chip(resources);
    for index in 0..vcpus {
        let vp = parts.ground.block.vp(index).ok_or_else(too_few)?;
        let queues = frame(
            &mut resources.frames,
            resources.memory,
            Presenter::QUEUE_BYTES,
        )
        .ok_or("no memory for event queues")?;
        let setup = PresenterSetup {
            vp,
            server: ServerNumber::new(index),
            tima: Tima::new(xive.tima.hypervisor.start()),
            queues: queues.base(),
            chip,
        };
        parts.ground.queues.push(queues);
        let presenter = Presenter::set_up(&Opal, &HwInterrupts, &setup)
            .map_err(|error| alloc::format!("XIVE virtual processor: {error}"))?;
        parts.presenters.push(presenter);
    }
    let vp = parts.ground.block.vp(0).ok_or_else(too_few)?;
    for number in 0..DEVICE_SOURCES {
        let lisn = Lisn::new(FIRST_DEVICE_LISN.get() + number);
        let source = Source::set_up(&Opal, &HwInterrupts, lisn, Trigger::Edge, vp, chip)
            .map_err(|error| alloc::format!("XIVE source: {error}"))?;
        parts.sources.push(source);
    }
    Ok(())
}

fn fill_exploited(
    resources: &mut Resources<'_>,
    vcpus: u32,
    parts: &mut Parts,
) -> Result<(), CreateError> {
    let xive = &resources.machine.info.xive;
    if !xive.single_escalation {
        return Err("interrupt-mode \"xive\" needs firmware with single escalation".into());
    }
    let chip = first_chip(resources);
    let escalation = told(thread::boot());
    for index in 0..vcpus {
        let setup = NativeSetup {
            vp: parts.ground.block.vp(index).ok_or_else(too_few)?,
            server: ServerNumber::new(index),
            tima: Tima::new(xive.tima.hypervisor.start()),
            escalation: Some(escalation),
        };
        let vcpu = NativeVcpu::set_up(&Opal, &HwInterrupts, &setup)
            .map_err(|error| alloc::format!("XIVE virtual processor: {error}"))?;
        // The first one is what the partition starts with.
        vcpu.set_online(index == 0);
        parts.vcpus.push(vcpu);
    }
    let vp = parts.ground.block.vp(0).ok_or_else(too_few)?;
    let source = |lisn| {
        NativeSource::set_up(&Opal, &HwInterrupts, lisn, Trigger::Edge, vp, chip)
            .map_err(|error| alloc::format!("XIVE source: {error}"))
    };
    for number in 0..own_sources(vcpus) {
        parts.ipis.push(source(Lisn::new(number))?);
    }
    for number in 0..DEVICE_SOURCES {
        let lisn = Lisn::new(FIRST_DEVICE_LISN.get() + number);
        parts.devices.push(source(lisn)?);
    }
    Ok(())
}

/// Has a thread told of escalations, as if another one had rung: its own queue's entries are never
/// read. Who is wanted, the escalations themselves say.
fn told(thread: &Thread) -> EscalationTarget {
    EscalationTarget {
        vp: VpId::new(thread.pir),
        priority: Priority::HYPERVISOR,
        eisn: Eisn::new(2),
    }
}

/// Has this thread told when the virtual processor `server` is wanted, which then waits and is on no
/// thread. It is on none now.
///
/// # Errors
/// Firmware's status.
pub fn escalate_to(
    partition: &Partition<Hardware>,
    server: usize,
    thread: &Thread,
) -> Result<(), FirmwareError> {
    match partition
        .exploited
        .as_ref()
        .and_then(|all| all.vcpus.get(server))
    {
        None => Ok(()),
        Some(vcpu) => vcpu.set_escalation_target(&Opal, told(thread)),
    }
}

/// Gives everything back. No virtual processor is on a thread, and no page of the controller is
/// mapped.
///
/// Where firmware refuses, the queues stay lost, for the hardware may still write to them; so may it
/// to the partition's memory.
pub fn tear_down(resources: &mut Resources<'_>, interrupts: Interrupts) -> Forgotten {
    let Interrupts {
        presenters,
        sources,
        exploited,
        ground,
    } = interrupts;
    let (ipis, devices, vcpus) = match exploited {
        None => Default::default(),
        Some(exploited) => (
            exploited.ipis.into_vec(),
            exploited.devices.into_vec(),
            exploited.vcpus.into_vec(),
        ),
    };
    let parts = Parts {
        ground,
        presenters: presenters.into_vec(),
        sources: sources.into_vec(),
        ipis,
        devices,
        vcpus,
    };
    parts.tear_down(resources)
}

impl Parts {
    fn tear_down(self, resources: &mut Resources<'_>) -> Forgotten {
        let mut result: Result<(), FirmwareError> = Ok(());
        for source in self.sources {
            result = result.and(source.tear_down(&Opal, &HwInterrupts));
        }
        for source in self.ipis.into_iter().chain(self.devices) {
            result = result.and(source.tear_down(&Opal, &HwInterrupts));
        }
        for presenter in self.presenters {
            result = result.and(presenter.tear_down(&Opal, &HwInterrupts));
        }
        for vcpu in self.vcpus {
            result = result.and(vcpu.tear_down(&Opal, &HwInterrupts));
        }
        result = result.and(self.ground.block.free(&Opal));
        if let Err(error) = result {
            log::error!("interrupts of a partition are lost: {error}");
            return Forgotten::No;
        }
        for queues in self.ground.queues {
            if let Err(error) = resources.frames.free(queues) {
                log::error!("memory of event queues is lost: {error}");
            }
        }
        Forgotten::Yes
    }
}
