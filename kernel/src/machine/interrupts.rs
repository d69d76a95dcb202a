// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A partition's interrupts: a block of virtual processors with their event queues, and the
//! sources of the hypervisor's devices. Made as one, and given back as one.

// UNSAFETY: event queues are zeroed.
#![expect(unsafe_code)]

use super::create::{CreateError, Resources};
use super::firmware::Opal;
use super::hardware::{HwInterrupts, HwMemory};
use crate::partition::FIRST_DEVICE_LISN;
use alloc::boxed::Box;
use alloc::vec::Vec;
use penstock_mm::frame::FrameAllocator;
use penstock_mm::page_ops::PageOps;
use penstock_mm::real::Frames;
use penstock_xive::{
    ChipId, FirmwareError, Presenter, PresenterSetup, ServerNumber, Source, Tima, Trigger, VpBlock,
};

/// What a partition has of the interrupt controller.
pub struct Interrupts {
    /// Of the virtual processors, in their order.
    pub presenters: Box<[Presenter]>,
    /// Of the hypervisor's devices, from [`FIRST_DEVICE_LISN`] on.
    pub sources: Box<[Source]>,
    /// What they rest on.
    pub ground: Ground,
}

/// What presenters and sources rest on, to be kept until both are gone.
pub struct Ground {
    block: VpBlock,
    queues: Vec<Frames>,
}

/// A zeroed frame.
fn frame(frames: &mut FrameAllocator, memory: HwMemory, bytes: u64) -> Option<Frames> {
    let taken = frames.alloc(bytes, bytes).ok()?;
    // SAFETY: just allocated, so ours alone.
    unsafe { memory.zero(taken.base(), bytes) };
    Some(taken)
}

/// Interrupts for a partition of `vcpus` virtual processors.
///
/// # Errors
/// What could not be had; then all is given back.
pub fn set_up(resources: &mut Resources<'_>, vcpus: u32) -> Result<Interrupts, CreateError> {
    let provision_chips = &resources.machine.info.xive.provision_chips;
    let chips: Vec<ChipId> = provision_chips.iter().map(|c| ChipId::new(*c)).collect();
    let memory = resources.memory;
    let frames = &mut resources.frames;
    // What is donated stays the firmware's, and serves later partitions too.
    let mut donate = |_chip| frame(frames, memory, 64 << 10).map(|frames| frames.base());
    let order = vcpus.next_power_of_two().ilog2();
    let block = VpBlock::allocate(&Opal, &chips, &mut donate, order)
        .map_err(|error| alloc::format!("XIVE virtual processors: {error}"))?;
    let mut ground = Ground {
        block,
        queues: Vec::new(),
    };
    let (mut presenters, mut sources) = (Vec::new(), Vec::new());
    match fill(resources, vcpus, &mut ground, &mut presenters, &mut sources) {
        Ok(()) => Ok(Interrupts {
            presenters: presenters.into_boxed_slice(),
            sources: sources.into_boxed_slice(),
            ground,
        }),
        Err(error) => {
            tear_down(resources, presenters, sources, ground);
            Err(error)
        }
    }
}

fn fill(
    resources: &mut Resources<'_>,
    vcpus: u32,
    ground: &mut Ground,
    presenters: &mut Vec<Presenter>,
    sources: &mut Vec<Source>,
) -> Result<(), CreateError> {
    let xive = &resources.machine.info.xive;
    let chip = xive.provision_chips.first().map(|chip| ChipId::new(*chip));
    let too_few = || CreateError::from("XIVE virtual processors: too few");
    for index in 0..vcpus {
        let vp = ground.block.vp(index).ok_or_else(too_few)?;
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
        ground.queues.push(queues);
        let presenter = Presenter::set_up(&Opal, &HwInterrupts, &setup)
            .map_err(|error| alloc::format!("XIVE virtual processor: {error}"))?;
        presenters.push(presenter);
    }
    let vp = ground.block.vp(0).ok_or_else(too_few)?;
    let (lisn, trigger) = (FIRST_DEVICE_LISN, Trigger::Edge);
    let vty = Source::set_up(&Opal, &HwInterrupts, lisn, trigger, vp, chip)
        .map_err(|error| alloc::format!("XIVE source: {error}"))?;
    sources.push(vty);
    Ok(())
}

/// Gives everything back. No virtual processor is on a thread.
///
/// Where firmware refuses, the queues stay lost, for the hardware may still write to them.
pub fn tear_down(
    resources: &mut Resources<'_>,
    presenters: impl IntoIterator<Item = Presenter>,
    sources: impl IntoIterator<Item = Source>,
    ground: Ground,
) {
    let mut result: Result<(), FirmwareError> = Ok(());
    for source in sources {
        result = result.and(source.tear_down(&Opal, &HwInterrupts));
    }
    for presenter in presenters {
        result = result.and(presenter.tear_down(&Opal, &HwInterrupts));
    }
    result = result.and(ground.block.free(&Opal));
    if let Err(error) = result {
        log::error!("interrupts of a partition are lost: {error}");
        return;
    }
    for queues in ground.queues {
        if let Err(error) = resources.frames.free(queues) {
            log::error!("memory of event queues is lost: {error}");
        }
    }
}
