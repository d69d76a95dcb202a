// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A partition: memory, hashed page table, interrupts, console, firmware state.
//!
//! Built once from its node in the partition tree and never moved. What changes while its
//! virtual processors run is atomic (page table, rings, interrupt presenters) or behind a lock.
//! Lock order: a seat on a thread (`machine/seat.rs`), the virtual processor in it
//! ([`crate::occupied`]), a session of the control interface and `control`, which calls only try,
//! then `streams`, then `rtas`, then the count of `processors`, then the areas of one of them, then
//! `complaints`, then the console's multiplexer (inside the log).
//! Other threads read the partition while its virtual processors run.

use crate::console::{GuestId, InputRing, OutputRing, RateLimit};
use crate::control::{ControlPort, Streams};
use crate::hcall::UndefinedFlags;
use crate::platform::Platform;
use crate::presentation::Exploited;
use crate::processor::Processors;
use crate::rtas::{PartitionFacts, Rtas};
use alloc::boxed::Box;
use alloc::string::String;
use arrayvec::ArrayVec;
use penstock_arch::wait::Mutex;
use penstock_boot::bootinfo::{MAX_PAGE_SIZES, SegmentPageSize};
use penstock_mm::hpt::HashMmu;
use penstock_xive::{Lisn, Presenter, Source, Sources};

/// Guest interrupt numbers of devices begin here; below are inter-processor interrupts (design
/// decision 9).
pub const FIRST_DEVICE_LISN: Lisn = Lisn::new(0x1000);

/// The source of events that the guest learns of by RTAS (LoPAR, Event Sources): environmental and
/// power warnings.
pub const EPOW_LISN: Lisn = Lisn::new(0x1001);

/// The vty's unit address, by which a guest names its console.
pub const VTY_UNIT: u32 = 0x7100_0000;

/// What H_GET_CPU_CHARACTERISTICS answers: a call that Linux guests make and LoPAR does not describe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuCharacteristics {
    /// What the processor has.
    pub characteristics: u64,
    /// What software should do.
    pub behaviour: u64,
}

/// The machine's clock as a guest sees it.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// The real time clock's reading at boot, where there is one.
    pub at_boot: Option<crate::rtas::UnixTime>,
    /// The time base at that moment.
    pub timebase_at_boot: u64,
    /// Ticks per second.
    pub timebase_hz: u64,
}

/// One partition.
pub struct Partition<P: Platform> {
    /// Index, and number by which the console knows it.
    pub id: GuestId,
    /// Its node's name.
    pub name: String,
    /// Memory and hashed page table.
    pub mmu: HashMmu<P::Memory>,
    /// What it writes to its vty.
    pub output: OutputRing,
    /// What was typed for it.
    pub input: InputRing,
    /// How its virtual processors get the machine's.
    pub dispatching: Dispatching,
    /// What its virtual processors know of each other.
    pub processors: Processors,
    /// Run-time abstraction services.
    pub rtas: Mutex<Rtas>,
    /// Virtual processors configured.
    pub vcpus: u32,
    /// Threads of the machine.
    pub machine_cpus: u32,
    /// Page sizes that its device tree tells.
    pub page_sizes: ArrayVec<SegmentPageSize, MAX_PAGE_SIZES>,
    /// Presentation by XICS calls, one per virtual processor.
    pub presenters: Box<[Presenter]>,
    /// Sources of the hypervisor's own devices, from [`FIRST_DEVICE_LISN`] on. The first is the
    /// vty's input.
    pub sources: Box<[Source]>,
    /// The controller of a partition in exploitation mode, which has neither presenters nor sources.
    pub exploited: Option<Exploited>,
    /// For H_GET_CPU_CHARACTERISTICS.
    pub characteristics: CpuCharacteristics,
    /// Data address watchpoints may be given out.
    pub watchpoints: Watchpoints,
    /// Flags that page table calls do not define.
    pub undefined_flags: UndefinedFlags,
    /// Time of day.
    pub clock: Clock,
    /// Bytes of a row of its framebuffer; 0 without one.
    pub framebuffer_row_bytes: u32,
    /// What lets it control others; none has it whose node does not say `control`.
    pub control: Option<ControlPort>,
    /// Streams of its page table that tools read.
    pub streams: Mutex<Streams>,
    /// Log lines that the guest can provoke: all share this budget.
    pub complaints: Mutex<RateLimit>,
}

/// The budget of [`Partition::complaints`]: one line a second, after a burst of eight.
#[must_use]
pub const fn complaint_budget(timebase_hz: u64) -> RateLimit {
    RateLimit::new(8, timebase_hz)
}

/// How virtual processors get the machine's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dispatching {
    /// Each has a thread of the machine for itself.
    Dedicated,
    /// Others may be dispatched on their threads.
    Shared {
        /// As in the partition tree.
        weight: u32,
    },
}

/// Whether a guest may set a data address watchpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watchpoints {
    /// DAWR works.
    Available,
    /// On POWER9 before DD2.3 a match on device memory stops the machine.
    Refused,
}

impl<P: Platform> Partition<P> {
    /// The sources that RTAS and the XICS calls see.
    #[inline]
    #[must_use]
    pub fn sources(&self) -> Sources<'_> {
        Sources::new(FIRST_DEVICE_LISN, &self.sources)
    }

    /// What RTAS tells of the partition.
    #[must_use]
    pub fn facts(&self) -> PartitionFacts<'_> {
        PartitionFacts {
            name: &self.name,
            memory_bytes: self.mmu.memory().size(),
            vcpus: self.vcpus,
            machine_cpus: self.machine_cpus,
            page_sizes: &self.page_sizes,
        }
    }
}
