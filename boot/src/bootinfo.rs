// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the firmware told us about the machine, as one plain value.
//!
//! [`crate::fdt::parse`] makes a [`BootInfo`] out of OPAL's device tree; nothing else reads that
//! tree. Lists have fixed capacities, as no allocator runs yet; a machine that exceeds one is
//! refused by name, never cut short in silence.

use arrayvec::ArrayVec;
use core::fmt;
use penstock_arch::addr::HostReal;

/// Most memory nodes: one per chip and NUMA domain.
pub const MAX_MEMORY: usize = 64;
/// Most disjoint reserved ranges, over all three lists that report them.
pub const MAX_RESERVED: usize = 128;
/// Most consoles.
pub const MAX_CONSOLES: usize = 8;
/// Most cores.
pub const MAX_CORES: usize = 256;
/// Most threads of a core: eight of a big core.
pub const MAX_THREADS: usize = 8;
/// Most base page sizes of segments, and most actual page sizes in one.
pub const MAX_PAGE_SIZES: usize = 8;
/// Most chips whose XIVE wants donated pages.
pub const MAX_CHIPS: usize = 16;
/// Most PCI host bridges.
pub const MAX_PHBS: usize = 32;
/// Most security characteristics below `fw-features`.
pub const MAX_FW_FEATURES: usize = 64;

/// A range of host real memory or MMIO; never empty.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostRange {
    start: HostReal,
    end: HostReal,
}

impl HostRange {
    /// The range of `bytes` bytes from `start`; `None` where it is empty or passes the end of the
    /// address space.
    #[must_use]
    pub const fn new(start: HostReal, bytes: u64) -> Option<Self> {
        match start.checked_add(bytes) {
            Some(end) if bytes != 0 => Some(Self { start, end }),
            _ => None,
        }
    }

    /// The range from `start` up to, not including, `end`; `None` where it is empty.
    #[must_use]
    pub const fn between(start: HostReal, end: HostReal) -> Option<Self> {
        if start.get() < end.get() {
            Some(Self { start, end })
        } else {
            None
        }
    }

    /// The first byte's address.
    #[must_use]
    pub const fn start(self) -> HostReal {
        self.start
    }

    /// The address after the last byte.
    #[must_use]
    pub const fn end(self) -> HostReal {
        self.end
    }

    /// Bytes in the range.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.end.get() - self.start.get()
    }

    /// Whether `address` lies in the range.
    #[must_use]
    pub const fn contains(self, address: HostReal) -> bool {
        self.start.get() <= address.get() && address.get() < self.end.get()
    }
}

impl fmt::Display for HostRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}..{:#x}", self.start.get(), self.end.get())
    }
}

impl fmt::Debug for HostRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The machine, as OPAL's device tree describes it. Strings lie in the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootInfo<'a> {
    /// Memory, sorted, disjoint, neighbours merged; parts of it are reserved.
    pub memory: ArrayVec<HostRange, MAX_MEMORY>,
    /// Memory that firmware keeps, sorted and disjoint: the union of the three lists of it.
    pub reserved: ArrayVec<HostRange, MAX_RESERVED>,
    /// OPAL's consoles.
    pub consoles: ArrayVec<Console, MAX_CONSOLES>,
    /// How to call OPAL.
    pub opal: Opal,
    /// PIR of the processor that runs us: the header's boot CPU. Not always 0.
    pub boot_cpu: u32,
    /// What all processors have in common, taken from the boot CPU's core.
    pub cpu: CpuTraits,
    /// The cores that firmware found usable.
    pub cores: ArrayVec<Core, MAX_CORES>,
    /// The interrupt controller.
    pub xive: Xive,
    /// The PCI host bridges that firmware found usable.
    pub phbs: ArrayVec<Phb, MAX_PHBS>,
    /// The hypervisor's own command line; empty where there is none.
    pub bootargs: &'a str,
    /// What `-initrd` or the flash partition ROOTFS gave: the partition tree.
    pub initrd: Option<HostRange>,
    /// Firmware's statements on speculation; `None` where it makes none, as under QEMU.
    pub fw_features: Option<ArrayVec<FwFeature<'a>, MAX_FW_FEATURES>>,
}

impl BootInfo<'_> {
    /// What firmware says of the speculation characteristic `name`; `None` where it says nothing.
    #[must_use]
    pub fn fw_feature(&self, name: &str) -> Option<FwFeatureState> {
        let list = self.fw_features.as_ref()?;
        list.iter()
            .find(|feature| feature.name == name)
            .map(|feature| feature.state)
    }
}

/// A console of OPAL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Console {
    /// The number that `OPAL_CONSOLE_WRITE` takes.
    pub id: u64,
    /// Bytes that one `OPAL_CONSOLE_WRITE` can take; 0 where the tree does not say.
    pub write_buffer_bytes: u32,
}

/// Where OPAL lies and is entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opal {
    /// What a call passes in r2.
    pub base: HostReal,
    /// Where a call branches to.
    pub entry: HostReal,
    /// Bytes from the base that OPAL uses at run time.
    pub runtime_bytes: u64,
}

/// What the processors of the machine have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CpuTraits {
    /// The processor version that the tree gives; the PVR itself decides.
    pub cpu_version: Option<u32>,
    /// Ticks of the timebase per second.
    pub timebase_hz: u64,
    /// Nominal clock in Hz, 0 where the tree does not say.
    pub clock_hz: u64,
    /// Entries of the segment lookaside buffer.
    pub slb_entries: u32,
    /// Bits of the large decrementer; 32 where the tree does not say.
    pub dec_bits: u32,
    /// Page sizes of the hash MMU with their encodings.
    pub page_sizes: ArrayVec<SegmentPageSize, MAX_PAGE_SIZES>,
    /// The first-level caches.
    pub caches: Caches,
}

/// A base page size of a segment, and the pages that may lie in such a segment.
///
/// The unit of `ibm,segment-page-sizes` (LoPAR, Properties of the CPU node).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentPageSize {
    /// log2 of the base page size in bytes.
    pub base_shift: u32,
    /// L and LP bits of an SLB entry, at their places in its second doubleword.
    pub slb_encoding: u32,
    /// Page sizes in such a segment.
    pub actual: ArrayVec<PageEncoding, MAX_PAGE_SIZES>,
}

/// A page size and its encoding in an HPTE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageEncoding {
    /// log2 of the page size in bytes.
    pub shift: u32,
    /// The LP field of the HPTE.
    pub pte_encoding: u32,
}

/// The first-level caches, all in bytes; 0 where the tree does not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Caches {
    /// Line of the data cache.
    pub d_line: u32,
    /// Block of the data cache, the unit of `dcbz`.
    pub d_block: u32,
    /// Size of the data cache.
    pub d_size: u32,
    /// Line of the instruction cache.
    pub i_line: u32,
    /// Block of the instruction cache, the unit of `icbi`.
    pub i_block: u32,
    /// Size of the instruction cache.
    pub i_size: u32,
}

/// A core and its threads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Core {
    /// PIR of its first thread.
    pub pir: u32,
    /// The chip that it is on.
    pub chip: Option<u32>,
    /// Server numbers of its threads, for OPAL calls; thread 0 first. They are the PIRs.
    pub threads: ArrayVec<u32, MAX_THREADS>,
}

/// The interrupt controller, POWER9's XIVE or POWER10's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Xive {
    /// The four views of the thread interrupt management area.
    pub tima: TimaPages,
    /// log2 of the event queue sizes in bytes that the controller can use.
    pub queue_sizes_log2: ArrayVec<u32, MAX_PAGE_SIZES>,
    /// Interrupt priorities, from 0.
    pub priorities: u32,
    /// Bytes of a page that OPAL wants when it asks for memory for virtual processors; 0 where it
    /// never asks.
    pub provision_page_bytes: u32,
    /// The chips that it may ask for.
    pub provision_chips: ArrayVec<u32, MAX_CHIPS>,
    /// One escalation interrupt can stand for all priorities of a virtual processor.
    pub single_escalation: bool,
    /// Sources may be finished with a store.
    pub store_eoi: bool,
    /// The controller saves and restores a virtual processor's state itself.
    pub vp_save_restore: bool,
}

/// The four pages of the thread interrupt management area, one per privilege.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimaPages {
    /// With every right.
    pub hardware: HostRange,
    /// With the hypervisor's rights.
    pub hypervisor: HostRange,
    /// With an operating system's rights: the page that a guest may see.
    pub os: HostRange,
    /// With a user's rights.
    pub user: HostRange,
}

/// A PCI host bridge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Phb {
    /// The number that OPAL's PCI calls take.
    pub opal_id: u64,
    /// The chip that it is on.
    pub chip: Option<u32>,
    /// Its registers.
    pub registers: HostRange,
    /// Partitionable endpoints that it can tell apart.
    pub num_pes: u32,
    /// The endpoint that every requester belongs to at first.
    pub reserved_pe: Option<u32>,
    /// Global interrupt numbers of its message-signalled interrupts.
    pub msi: Option<MsiRange>,
    /// The 32-bit window.
    pub mem32: Option<PciWindow>,
    /// The 64-bit window.
    pub mem64: Option<PciWindow>,
    /// First and last usable segment of the 64-bit window.
    pub mem64_segments: Option<(u32, u32)>,
    /// log2 of the page sizes that its translation table can use, in bytes.
    pub tce_page_shifts: ArrayVec<u32, MAX_PAGE_SIZES>,
}

/// A run of global interrupt numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MsiRange {
    /// The first number.
    pub first: u32,
    /// How many there are.
    pub count: u32,
}

/// Memory-mapped PCI space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PciWindow {
    /// Address on the PCI side.
    pub pci: u64,
    /// Addresses on the processors' side.
    pub host: HostRange,
}

/// A statement of firmware on a speculation characteristic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FwFeature<'a> {
    /// Firmware's name for it.
    pub name: &'a str,
    /// Whether the machine has it.
    pub state: FwFeatureState,
}

/// What firmware says of a characteristic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FwFeatureState {
    /// The machine has it.
    Enabled,
    /// The machine does not have it.
    Disabled,
}
