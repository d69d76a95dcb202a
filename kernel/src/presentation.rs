// SPDX-License-Identifier: Apache-2.0 OR MIT
//! How interrupts reach a partition: by XICS calls, or in XIVE exploitation mode.
//!
//! The mode is a property of the partition and never changes: a guest that is started from a device
//! tree finds one kind of controller in it, and has no call to choose another.
//!
//! In exploitation mode the controller's pages are slots of the partition's address space. Where a
//! page has something behind it, that is filled in when the guest asks for its address, or at the
//! first touch of a guest that did not ask ([`Partition::fill_device_page`]).

use crate::partition::{EPOW_LISN, FIRST_DEVICE_LISN, Partition};
use crate::platform::Platform;
use alloc::boxed::Box;
use arrayvec::ArrayVec;
use penstock_arch::addr::{GuestReal, HostReal};
use penstock_mm::frame::FrameAllocator;
use penstock_mm::guest_memory::{GuestMemory, MemorySetupError, SlotId};
use penstock_mm::hpt::{Mappings, MemoryAccess};
use penstock_mm::page_ops::{Machine, PageOps};
use penstock_xive::native::window::{FIRST_DEVICE, Window};
use penstock_xive::native::{
    Native, NativeSource, NativeState, NativeVcpu, OffThread, PinnedMemory,
};
use penstock_xive::{FirmwareError, Lisn, Presenter, QueueMemory, ServerNumber, XiveMmio};

/// How a partition's guest works with interrupts (LoPAR, Interrupt Support hcall()s).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum InterruptMode {
    /// By XICS calls: LoPAR's legacy mode.
    #[default]
    Xics,
    /// By itself, on the controller's pages: exploitation mode.
    Xive,
}

impl InterruptMode {
    /// The mode that a partition tree names so.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "xics" => Some(Self::Xics),
            "xive" => Some(Self::Xive),
            _ => None,
        }
    }

    /// Its name in a partition tree.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Xics => "xics",
            Self::Xive => "xive",
        }
    }
}

/// The interrupt context of a virtual processor, in the mode of its partition.
#[derive(Clone, Copy, Debug)]
pub enum Presentation<'p> {
    /// XICS calls work on it.
    Xics(&'p Presenter),
    /// The guest does.
    Xive(&'p NativeVcpu),
}

impl<'p> Presentation<'p> {
    /// The number by which interrupt calls name the virtual processor.
    #[must_use]
    pub const fn server(&self) -> ServerNumber {
        match self {
            Self::Xics(presenter) => presenter.server(),
            Self::Xive(vcpu) => vcpu.server(),
        }
    }

    /// Puts the context on the calling thread, before it enters the guest.
    #[inline]
    pub fn push<M: XiveMmio>(&self, mmio: &M) {
        match self {
            Self::Xics(presenter) => presenter.push(mmio),
            Self::Xive(vcpu) => vcpu.push(mmio),
        }
    }

    /// Takes the context off the calling thread, which must be the one that it is on.
    #[inline]
    pub fn pull<M: XiveMmio>(&self, mmio: &M, becomes: OffThread) {
        match self {
            Self::Xics(presenter) => presenter.pull(mmio),
            Self::Xive(vcpu) => vcpu.pull(mmio, becomes),
        }
    }

    /// Whether an interrupt wants the virtual processor, which waits.
    pub fn pending<H: XiveMmio + QueueMemory>(&self, hw: &H) -> bool {
        match self {
            Self::Xics(presenter) => presenter.pending(hw),
            Self::Xive(vcpu) => vcpu.pending(hw),
        }
    }

    /// What XICS calls work on.
    #[inline]
    #[must_use]
    pub const fn xics(&self) -> Option<&'p Presenter> {
        match self {
            Self::Xics(presenter) => Some(presenter),
            Self::Xive(_) => None,
        }
    }

    /// What exploitation calls work on.
    #[inline]
    #[must_use]
    pub const fn xive(&self) -> Option<&'p NativeVcpu> {
        match self {
            Self::Xics(_) => None,
            Self::Xive(vcpu) => Some(vcpu),
        }
    }
}

/// Sources that a partition in exploitation mode has for its own use: one for each virtual processor
/// (LoPAR, `ibm,xive-lisn-ranges`), and some more.
#[must_use]
pub const fn own_sources(vcpus: u32) -> u32 {
    const UNIT: u32 = 8;
    vcpus.div_ceil(UNIT).saturating_mul(UNIT)
}

/// Sources of the hypervisor's devices: the vty's, and that of power events.
pub const DEVICE_SOURCES: u32 = 2;

/// The ranges of a partition's address space that hold the controller's pages.
#[derive(Clone, Debug)]
pub struct Windows(ArrayVec<(Window, SlotId), 4>);

impl Windows {
    /// The ranges of a partition of `vcpus` virtual processors: its own sources, its devices', the
    /// queues, and the thread registers.
    #[must_use]
    pub const fn plan(vcpus: u32) -> [Window; 4] {
        [
            Window::of_sources(Lisn::new(0), own_sources(vcpus)),
            Window::of_sources(Lisn::new(FIRST_DEVICE), DEVICE_SOURCES),
            Window::of_queues(vcpus),
            Window::TIMA,
        ]
    }

    /// Makes the slots.
    ///
    /// # Errors
    /// There is too little memory for their tables.
    pub fn add<M: PageOps>(
        memory: &mut GuestMemory<M>,
        frames: &mut FrameAllocator,
        vcpus: u32,
    ) -> Result<Self, MemorySetupError> {
        let mut list = ArrayVec::new();
        for window in Self::plan(vcpus) {
            let slot = memory.add_device(window.base, window.bytes, frames)?;
            list.push((window, slot));
        }
        Ok(Self(list))
    }

    /// The slot that an address lies in, and how far into it.
    fn find(&self, at: GuestReal) -> Option<(SlotId, u64)> {
        self.0.iter().find_map(|(window, slot)| {
            let offset = at.offset_from(window.base)?;
            (offset < window.bytes).then_some((*slot, offset))
        })
    }
}

/// The controller of a partition in exploitation mode.
#[derive(Debug)]
pub struct Exploited {
    /// Sources for the guest's own use.
    pub ipis: Box<[NativeSource]>,
    /// Sources of devices.
    pub devices: Box<[NativeSource]>,
    /// Virtual processors.
    pub vcpus: Box<[NativeVcpu]>,
    /// What its calls share.
    pub state: NativeState,
    /// Where its pages are.
    pub windows: Windows,
}

impl Exploited {
    /// The controller as the calls see it.
    #[inline]
    #[must_use]
    pub fn native(&self) -> Native<'_> {
        Native {
            ipis: &self.ipis,
            devices: &self.devices,
            vcpus: &self.vcpus,
            state: &self.state,
        }
    }
}

/// A page of the controller as a guest has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DevicePage {
    /// Where the guest finds it.
    pub at: GuestReal,
    /// The page of the machine behind it, if it was filled in.
    pub host: Option<HostReal>,
    /// The guest's entries for it.
    pub mappings: Mappings,
}

/// A partition's memory as event queues and reporting lines lie in it.
///
/// Memory of a partition stays where it is as long as the partition lives, so pinning it is no more
/// than a check, and what was written while it was pinned is noted when somebody looks
/// ([`Partition::note_hardware_writes`]) and when it is given up.
pub struct PinnedRam<'a, M: Machine>(pub MemoryAccess<'a, M>);

impl<M: Machine> PinnedMemory for PinnedRam<'_, M> {
    fn pin(&self, at: GuestReal, bytes: u64) -> Option<HostReal> {
        // A framebuffer is memory, but no place for a queue.
        if at.checked_add(bytes)?.get() > self.0.size() {
            return None;
        }
        self.0.translate(at, bytes).ok()
    }

    fn unpin(&self, at: GuestReal, bytes: u64) {
        // It was memory when it was pinned.
        let _ = self.0.mark_written(at, bytes);
    }
}

impl<P: Platform> Partition<P> {
    /// The interrupt context of the virtual processor with this number.
    #[must_use]
    pub fn presentation(&self, server: usize) -> Option<Presentation<'_>> {
        match &self.exploited {
            None => self.presenters.get(server).map(Presentation::Xics),
            Some(exploited) => exploited.vcpus.get(server).map(Presentation::Xive),
        }
    }

    /// Its mode.
    #[must_use]
    pub const fn interrupt_mode(&self) -> InterruptMode {
        match self.exploited {
            None => InterruptMode::Xics,
            Some(_) => InterruptMode::Xive,
        }
    }

    /// Tells the guest by an interrupt that RTAS has an event for it, if it has not asked for it already
    /// (LoPAR, Event Sources). `false`: it works on the controller itself, and has not turned the source on
    /// yet. The event waits for it; this is to be called again later.
    #[must_use]
    pub fn announce_event<M: XiveMmio>(&self, mmio: &M) -> bool {
        !self.rtas.lock().events.any() || self.announce(mmio, EPOW_LISN)
    }

    /// Tells the guest by an interrupt that something was typed, if it has not read it already. `false`: as
    /// for [`Self::announce_event`].
    #[must_use]
    pub fn announce_input<M: XiveMmio>(&self, mmio: &M) -> bool {
        self.input.is_empty() || self.announce(mmio, FIRST_DEVICE_LISN)
    }

    /// An event of one of the hypervisor's own devices; `false` where nobody hears of it yet.
    fn announce<M: XiveMmio>(&self, mmio: &M, lisn: Lisn) -> bool {
        match &self.exploited {
            None => {
                // One that is masked remembers it.
                self.sources().trigger(mmio, lisn);
                true
            }
            Some(exploited) => {
                let source = exploited.native().source(lisn);
                source.is_none_or(|source| source.raise_if_heard(mmio))
            }
        }
    }

    /// Puts the interrupts back to the state in which a partition finds them when it starts. No
    /// virtual processor is on a thread, and the calling thread has no context.
    ///
    /// # Errors
    /// The status of the first firmware call that failed.
    pub fn reset_interrupts(&self) -> Result<(), FirmwareError> {
        let (hw, fw) = (P::interrupts(), P::firmware());
        if let Some(exploited) = &self.exploited {
            let memory = PinnedRam(self.mmu.memory());
            return exploited.native().start_over(&hw, &fw, &memory);
        }
        let result = self.sources().reset(&hw, &fw);
        for presenter in &self.presenters {
            presenter.reset(&hw);
        }
        result
    }

    /// Fills in the page of the controller at a guest real address, if there is one; whether there
    /// is.
    #[cold]
    pub fn fill_device_page(&self, at: GuestReal) -> bool {
        self.exploited.as_ref().is_some_and(|exploited| {
            let found = exploited
                .native()
                .page_at(at)
                .zip(exploited.windows.find(at));
            found.is_some_and(|(page, (slot, offset))| {
                self.mmu.set_device_page(slot, offset, Some(page)).is_some()
            })
        })
    }

    /// The page of the controller at a guest real address, as far as it is there. `None` where the
    /// partition has no such pages.
    #[must_use]
    pub fn device_page(&self, at: GuestReal) -> Option<DevicePage> {
        let (slot, offset) = self.exploited.as_ref()?.windows.find(at)?;
        Some(DevicePage {
            at,
            host: self.mmu.device_page(slot, offset),
            mappings: self.mmu.device_mappings(slot, offset)?,
        })
    }

    /// Notes as written what hardware may have written by itself since the last look: event queues
    /// and reporting lines.
    pub fn note_hardware_writes(&self) {
        if let Some(exploited) = &self.exploited {
            exploited.native().for_each_pinned(|at, bytes| {
                // It was memory when it was pinned.
                let _ = self.mmu.memory().mark_written(at, bytes);
            });
        }
    }
}
