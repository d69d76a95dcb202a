// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The `/cpus` node: virtual processors of one thread each.
//!
//! A guest believes `cpu-version`, then lets `ibm,pa-features` switch single features on and off.
//! Both kinds of processor are described as the architecture level, not as the chip, so that a
//! guest does not look for the chip's errata. One thread per core and the bit in
//! `ibm,pi-features` keep Linux from `msgsndp`, which would reach the wrong virtual processor.
//!
//! LoPAR, Properties of the CPU node.

use super::{flag, halves, node, set};
use alloc::vec::Vec;
use arrayvec::ArrayVec;
use dtoolkit::model::DeviceTreeNode;
use penstock_boot::bootinfo::{Caches, MAX_PAGE_SIZES, SegmentPageSize};

/// The kinds of processor that we know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CpuKind {
    /// POWER9: Power ISA 3.0.
    Power9,
    /// POWER10: Power ISA 3.1.
    Power10,
}

impl CpuKind {
    /// The kind that the processor version register names; `None` for one that we do not know.
    #[must_use]
    pub const fn from_pvr(pvr: u32) -> Option<Self> {
        match pvr >> 16 {
            0x004e => Some(Self::Power9),
            0x0080 => Some(Self::Power10),
            _ => None,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Power9 => "PowerPC,POWER9",
            Self::Power10 => "PowerPC,POWER10",
        }
    }

    /// The logical processor version of the architecture level.
    const fn cpu_version(self) -> u32 {
        match self {
            Self::Power9 => 0x0f00_0005,
            Self::Power10 => 0x0f00_0006,
        }
    }

    const fn pa_features(self) -> &'static [u8] {
        match self {
            Self::Power9 => &PA_FEATURES_300,
            Self::Power10 => &PA_FEATURES_310,
        }
    }
}

/// Attribute bytes of ISA 3.0: number of bytes, type 0, then the bytes. What firmware says of the
/// machine, without byte 22 bit 0 (transactional memory) and byte 40 bit 0 (radix). Byte 1 bit 2
/// is cache-inhibited large pages, without which a guest maps devices with 4K pages.
const PA_FEATURES_300: [u8; 2 + 66] = [
    66, 0, // header
    0xf6, 0x3f, 0xc7, 0xc0, 0x00, 0xf0, 0x80, 0x00, // 0
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, // 8
    0x80, 0x00, 0x80, 0x00, 0x80, 0x00, 0x00, 0x00, // 16
    0x80, 0x00, 0x80, 0x00, 0x80, 0x00, 0x00, 0x00, // 24
    0x80, 0x00, 0xc0, 0x00, 0x00, 0x00, 0x00, 0x00, // 32
    0x00, 0x00, 0x80, 0x00, 0x80, 0x00, 0x80, 0x00, // 40
    0x80, 0x00, 0x80, 0x00, 0x80, 0x00, 0x80, 0x00, // 48
    0x80, 0x00, 0x80, 0x00, 0x80, 0x00, 0x80, 0x00, // 56
    0x00, 0x00, // 64
];

/// Attribute bytes of ISA 3.1: those of 3.0, then byte 68 (the aspects that DEXCR controls) and
/// byte 72 (`hashst` and `hashchk`).
const PA_FEATURES_310: [u8; 2 + 74] = {
    let mut bytes = [0; 2 + 74];
    let mut index = 0;
    while index < PA_FEATURES_300.len() {
        bytes[index] = PA_FEATURES_300[index];
        index += 1;
    }
    bytes[0] = 74;
    bytes[2 + 68] = 0xce;
    bytes[2 + 72] = 0x80;
    bytes
};

/// One byte of type 0 with bit 4: no doorbells between the threads of a core.
const PI_FEATURES: [u8; 3] = [1, 0, 0x08];

/// The virtual processor as the guest sees it.
#[derive(Clone, Copy, Debug)]
pub struct GuestCpu<'a> {
    /// Which architecture level it has.
    pub kind: CpuKind,
    /// log2 of the bytes of the hash page table that the hardware uses.
    pub hpt_order: u32,
    /// Entries of the segment lookaside buffer.
    pub slb_entries: u32,
    /// Bits of the decrementer; more than 32 needs LPCR\[LD\].
    pub dec_bits: u32,
    /// Ticks of the timebase per second.
    pub timebase_hz: u64,
    /// The clock in Hz.
    pub clock_hz: u64,
    /// Page sizes that the hypervisor can honour.
    pub page_sizes: &'a [SegmentPageSize],
    /// The first-level caches; 0 for what is not known.
    pub caches: Caches,
    /// Storage keys for data and for instructions, where the guest may use them.
    pub storage_keys: Option<[u32; 2]>,
}

/// The page sizes of `host` that memory backed in pages of `1 << largest_shift` bytes can honour:
/// no base page and no page that is larger.
#[must_use]
pub fn page_sizes_within(
    host: &[SegmentPageSize],
    largest_shift: u32,
) -> ArrayVec<SegmentPageSize, MAX_PAGE_SIZES> {
    host.iter()
        .filter(|segment| segment.base_shift <= largest_shift)
        .filter_map(|segment| {
            let mut kept = segment.clone();
            kept.actual.retain(|page| page.shift <= largest_shift);
            (!kept.actual.is_empty()).then_some(kept)
        })
        .take(MAX_PAGE_SIZES)
        .collect()
}

/// `ibm,segment-page-sizes`: for each base page size its shift, its encoding in an SLB entry, the
/// number of page sizes, and for each of those its shift and its encoding in an HPTE.
fn segment_page_sizes(list: &[SegmentPageSize]) -> Vec<u32> {
    let mut cells = Vec::new();
    for segment in list {
        let count = u32::try_from(segment.actual.len()).unwrap_or(0);
        cells.extend([segment.base_shift, segment.slb_encoding, count]);
        cells.extend(
            segment
                .actual
                .iter()
                .flat_map(|page| [page.shift, page.pte_encoding]),
        );
    }
    cells
}

pub(super) fn cpus(cpu: &GuestCpu<'_>, count: u32) -> DeviceTreeNode {
    let mut parent = node("cpus");
    set(&mut parent, "#address-cells", 1_u32);
    set(&mut parent, "#size-cells", 0_u32);
    for server in 0..count {
        parent.add_child(processor(cpu, server));
    }
    parent
}

fn processor(cpu: &GuestCpu<'_>, server: u32) -> DeviceTreeNode {
    let mut node = node(&alloc::format!("{}@{server:x}", cpu.kind.name()));
    set(&mut node, "device_type", "cpu");
    set(&mut node, "reg", server);
    set(&mut node, "status", "okay");
    flag(&mut node, "64-bit");
    set(&mut node, "cpu-version", cpu.kind.cpu_version());
    set(&mut node, "ibm,ppc-interrupt-server#s", server);
    set(&mut node, "ibm,ppc-interrupt-gserver#s", [server, 0]);
    frequency(
        &mut node,
        "timebase-frequency",
        "ibm,extended-timebase-frequency",
        cpu.timebase_hz,
    );
    frequency(
        &mut node,
        "clock-frequency",
        "ibm,extended-clock-frequency",
        cpu.clock_hz,
    );
    set(&mut node, "ibm,slb-size", cpu.slb_entries);
    set(&mut node, "slb-size", cpu.slb_entries);
    set(&mut node, "ibm,pft-size", [0, cpu.hpt_order]);
    set(&mut node, "ibm,dec-bits", cpu.dec_bits);
    // Segments of 256 MiB and 1 TiB; all ones for what there is not.
    set(
        &mut node,
        "ibm,processor-segment-sizes",
        [28, 40, u32::MAX, u32::MAX],
    );
    set(
        &mut node,
        "ibm,segment-page-sizes",
        segment_page_sizes(cpu.page_sizes),
    );
    // VMX and VSX.
    set(&mut node, "ibm,vmx", 2_u32);
    for name in ["ibm,dfp", "ibm,purr", "ibm,spurr"] {
        set(&mut node, name, 1_u32);
    }
    set(&mut node, "ibm,pa-features", cpu.kind.pa_features());
    set(&mut node, "ibm,pi-features", PI_FEATURES.as_slice());
    if let Some(keys) = cpu.storage_keys {
        set(&mut node, "ibm,processor-storage-keys", keys);
    }
    let caches = [
        ("d-cache-line-size", cpu.caches.d_line),
        ("d-cache-block-size", cpu.caches.d_block),
        ("d-cache-size", cpu.caches.d_size),
        ("i-cache-line-size", cpu.caches.i_line),
        ("i-cache-block-size", cpu.caches.i_block),
        ("i-cache-size", cpu.caches.i_size),
    ];
    for (name, bytes) in caches.into_iter().filter(|&(_, bytes)| bytes != 0) {
        set(&mut node, name, bytes);
    }
    node
}

/// A frequency in Hz, as one cell and, where that is too small, under its longer name as two.
fn frequency(node: &mut DeviceTreeNode, name: &str, long_name: &str, hz: u64) {
    if hz == 0 {
        return;
    }
    match u32::try_from(hz) {
        Ok(hz) => set(node, name, hz),
        Err(_) => {
            set(node, name, u32::MAX);
            set(node, long_name, halves(hz));
        }
    }
}
