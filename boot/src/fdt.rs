// SPDX-License-Identifier: Apache-2.0 OR MIT
//! OPAL's device tree made into one [`BootInfo`].
//!
//! skiboot passes a flattened tree in r3. It reports the memory that it keeps three times - below
//! `/reserved-memory`, in the root's `reserved-ranges`, and in the format's own reservation list -
//! and the three need not agree, so we take their union. `linux,initrd-start` and `-end` have one
//! cell when QEMU's `-initrd` made them and two when skiboot loaded the flash partition ROOTFS.
//!
//! We rely on the tree for where things are, not for its own soundness: a broken tree, a missing
//! node or a property of a wrong size is an error that names it. Cores and PCI host bridges whose
//! `status` is not `okay` are left out, as firmware found them broken.
//!
//! OPAL API, device tree bindings; Devicetree Specification v0.4.

mod error;

use crate::bootinfo::{
    BootInfo, Caches, Console, Core, CpuTraits, FwFeature, FwFeatureState, HostRange, MsiRange,
    Opal, PageEncoding, PciWindow, Phb, SegmentPageSize, TimaPages, Xive,
};
use crate::flat_tree::{Cells, FlatTree, Node, Property};
use crate::memmap::RangeSet;
use arrayvec::ArrayVec;
use penstock_arch::addr::HostReal;

pub use error::{BootError, NodeName};

/// Reads OPAL's device tree.
///
/// # Errors
/// The bytes are not a tree, or the tree lacks something that we cannot do without.
pub fn parse(bytes: &[u8]) -> Result<BootInfo<'_>, BootError> {
    let tree = FlatTree::new(bytes)?;
    let root = tree.root();
    let chosen = root.child("chosen");
    let boot_cpu = tree.boot_cpu();
    let (cores, cpu) = processors(&root, boot_cpu)?;
    let opal = find(&root, "ibm,opal", "/ibm,opal")?;
    Ok(BootInfo {
        memory: memory(&root)?,
        reserved: reserved(&tree)?,
        consoles: consoles(&opal)?,
        opal: Opal {
            base: HostReal::new(required(&opal, "opal-base-address", u64_value)?),
            entry: HostReal::new(required(&opal, "opal-entry-address", u64_value)?),
            runtime_bytes: required(&opal, "opal-runtime-size", u64_value)?,
        },
        boot_cpu,
        cpu,
        cores,
        xive: xive(&root)?,
        phbs: phbs(&root)?,
        bootargs: match &chosen {
            Some(node) => optional(node, "bootargs", |value| value.as_str())?.unwrap_or(""),
            None => "",
        },
        initrd: chosen.as_ref().map_or(Ok(None), initrd)?,
        fw_features: fw_features(&opal)?,
    })
}

fn u64_value(property: Property<'_>) -> Option<u64> {
    property.as_one_or_two_cells()
}

fn u32_value(property: Property<'_>) -> Option<u32> {
    property.as_u32()
}

fn find<'a>(parent: &Node<'a>, name: &str, path: &'static str) -> Result<Node<'a>, BootError> {
    parent
        .child(name)
        .ok_or(BootError::MissingNode { node: path })
}

fn bad(node: &Node<'_>, property: &'static str) -> BootError {
    BootError::BadProperty {
        node: NodeName::of(node),
        property,
    }
}

/// The value of a property that may be missing, but not malformed.
fn optional<'a, T>(
    node: &Node<'a>,
    name: &'static str,
    read: impl FnOnce(Property<'a>) -> Option<T>,
) -> Result<Option<T>, BootError> {
    match node.property(name) {
        None => Ok(None),
        Some(property) => read(property).map(Some).ok_or_else(|| bad(node, name)),
    }
}

/// The value of a property that must be there.
fn required<'a, T>(
    node: &Node<'a>,
    name: &'static str,
    read: impl FnOnce(Property<'a>) -> Option<T>,
) -> Result<T, BootError> {
    let missing = BootError::MissingProperty {
        node: NodeName::of(node),
        property: name,
    };
    optional(node, name, read)?.ok_or(missing)
}

/// Adds to a list of fixed capacity.
fn add<T, const N: usize>(
    list: &mut ArrayVec<T, N>,
    item: T,
    what: &'static str,
) -> Result<(), BootError> {
    list.try_push(item)
        .map_err(|_| BootError::TooMany { what, capacity: N })
}

/// A property that is a list of single cells; empty where it is missing.
fn cell_list<const N: usize>(
    node: &Node<'_>,
    name: &'static str,
) -> Result<ArrayVec<u32, N>, BootError> {
    let mut list = ArrayVec::new();
    if let Some(mut cells) = optional(node, name, |value| value.cells())? {
        while let Some(cell) = cells.take_u32() {
            add(&mut list, cell, name)?;
        }
    }
    Ok(list)
}

/// How many cells addresses and sizes have in the children of a node.
#[derive(Clone, Copy)]
struct CellSizes {
    address: u32,
    size: u32,
}

impl CellSizes {
    fn of(node: &Node<'_>) -> Result<Self, BootError> {
        // The format's defaults, for trees that do not say.
        Ok(Self {
            address: optional(node, "#address-cells", u32_value)?.unwrap_or(2),
            size: optional(node, "#size-cells", u32_value)?.unwrap_or(1),
        })
    }

    /// The next range; `None` at the end of the list.
    fn take(self, cells: &mut Cells<'_>) -> Option<Option<(u64, u64)>> {
        if cells.is_empty() {
            return None;
        }
        let address = cells.take(self.address);
        let size = cells.take(self.size);
        if self.address == 0 && self.size == 0 {
            return Some(None);
        }
        Some(address.zip(size))
    }
}

/// Calls `each` with every range that is not empty of a property made of (address, size) pairs.
fn each_range(
    node: &Node<'_>,
    name: &'static str,
    sizes: CellSizes,
    mut each: impl FnMut(HostRange) -> Result<(), BootError>,
) -> Result<(), BootError> {
    let Some(mut cells) = optional(node, name, |value| value.cells())? else {
        return Ok(());
    };
    while let Some(entry) = sizes.take(&mut cells) {
        let (start, bytes) = entry.ok_or_else(|| bad(node, name))?;
        if bytes != 0 {
            let range = HostRange::new(HostReal::new(start), bytes);
            each(range.ok_or_else(|| bad(node, name))?)?;
        }
    }
    Ok(())
}

/// Whether firmware found the device usable.
fn is_okay(node: &Node<'_>) -> bool {
    match node.property("status") {
        None => true,
        Some(status) => matches!(status.as_str(), Some("okay" | "ok")),
    }
}

fn has_device_type(node: &Node<'_>, wanted: &str) -> bool {
    node.property("device_type")
        .and_then(|value| value.as_str())
        == Some(wanted)
}

fn memory<const N: usize>(root: &Node<'_>) -> Result<ArrayVec<HostRange, N>, BootError> {
    let sizes = CellSizes::of(root)?;
    let mut set = RangeSet::<N>::new();
    for node in root
        .children()
        .filter(|node| has_device_type(node, "memory") && is_okay(node))
    {
        each_range(&node, "reg", sizes, |range| {
            insert(&mut set, range, "ranges of memory")
        })?;
    }
    if set.as_slice().is_empty() {
        return Err(BootError::MissingNode { node: "memory" });
    }
    Ok(set.into_ranges())
}

fn insert<const N: usize>(
    set: &mut RangeSet<N>,
    range: HostRange,
    what: &'static str,
) -> Result<(), BootError> {
    set.insert(range).map_err(|error| BootError::TooMany {
        what,
        capacity: error.capacity,
    })
}

fn reserved<const N: usize>(tree: &FlatTree<'_>) -> Result<ArrayVec<HostRange, N>, BootError> {
    const WHAT: &str = "reserved ranges of memory";
    let root = tree.root();
    let mut set = RangeSet::<N>::new();
    for (start, bytes) in tree.reservations() {
        if bytes != 0 {
            let range = HostRange::new(HostReal::new(start), bytes);
            insert(
                &mut set,
                range.ok_or_else(|| bad(&root, "memory reservation"))?,
                WHAT,
            )?;
        }
    }
    let sizes = CellSizes::of(&root)?;
    each_range(&root, "reserved-ranges", sizes, |range| {
        insert(&mut set, range, WHAT)
    })?;
    if let Some(parent) = root.child("reserved-memory") {
        let sizes = CellSizes::of(&parent)?;
        for node in parent.children() {
            each_range(&node, "reg", sizes, |range| insert(&mut set, range, WHAT))?;
        }
    }
    Ok(set.into_ranges())
}

fn consoles<const N: usize>(opal: &Node<'_>) -> Result<ArrayVec<Console, N>, BootError> {
    let mut list = ArrayVec::new();
    let nodes = opal.child("consoles");
    for node in nodes
        .iter()
        .flat_map(Node::children)
        .filter(|node| has_device_type(node, "serial"))
    {
        let console = Console {
            id: required(&node, "reg", u64_value)?,
            write_buffer_bytes: optional(&node, "#write-buffer-size", u32_value)?.unwrap_or(0),
        };
        add(&mut list, console, "consoles")?;
    }
    Ok(list)
}

fn processors<const N: usize>(
    root: &Node<'_>,
    boot_cpu: u32,
) -> Result<(ArrayVec<Core, N>, CpuTraits), BootError> {
    let cpus = find(root, "cpus", "/cpus")?;
    let mut cores = ArrayVec::<Core, N>::new();
    let mut boot_core = None;
    for node in cpus
        .children()
        .filter(|node| has_device_type(node, "cpu") && is_okay(node))
    {
        let pir = required(&node, "reg", u32_value)?;
        let mut threads = cell_list(&node, "ibm,ppc-interrupt-server#s")?;
        if threads.is_empty() {
            add(&mut threads, pir, "threads of a core")?;
        }
        if boot_core.is_none() || threads.contains(&boot_cpu) {
            boot_core = Some(node);
        }
        let chip = optional(&node, "ibm,chip-id", u32_value)?;
        add(&mut cores, Core { pir, chip, threads }, "cores")?;
    }
    let node = boot_core.ok_or(BootError::MissingNode { node: "processor" })?;
    let size = |name| Ok::<_, BootError>(optional(&node, name, u32_value)?.unwrap_or(0));
    let traits = CpuTraits {
        cpu_version: optional(&node, "cpu-version", u32_value)?,
        timebase_hz: required(&node, "timebase-frequency", u64_value)?,
        clock_hz: optional(&node, "clock-frequency", u64_value)?.unwrap_or(0),
        slb_entries: required(&node, "ibm,slb-size", u32_value)?,
        dec_bits: optional(&node, "ibm,dec-bits", u32_value)?.unwrap_or(32),
        page_sizes: page_sizes(&node)?,
        caches: Caches {
            d_line: size("d-cache-line-size")?,
            d_block: size("d-cache-block-size")?,
            d_size: size("d-cache-size")?,
            i_line: size("i-cache-line-size")?,
            i_block: size("i-cache-block-size")?,
            i_size: size("i-cache-size")?,
        },
    };
    if traits.timebase_hz == 0 {
        return Err(bad(&node, "timebase-frequency"));
    }
    Ok((cores, traits))
}

fn page_sizes<const N: usize>(node: &Node<'_>) -> Result<ArrayVec<SegmentPageSize, N>, BootError> {
    const NAME: &str = "ibm,segment-page-sizes";
    let malformed = || bad(node, NAME);
    let mut cells = required(node, NAME, |value| value.cells())?;
    let mut list = ArrayVec::new();
    while !cells.is_empty() {
        let base_shift = cells.take_u32().ok_or_else(malformed)?;
        let slb_encoding = cells.take_u32().ok_or_else(malformed)?;
        let count = cells.take_u32().ok_or_else(malformed)?;
        let mut actual = ArrayVec::new();
        // A count that lies ends with the cells.
        for _ in 0..count {
            let shift = cells.take_u32().ok_or_else(malformed)?;
            let pte_encoding = cells.take_u32().ok_or_else(malformed)?;
            add(
                &mut actual,
                PageEncoding {
                    shift,
                    pte_encoding,
                },
                "page sizes of a segment",
            )?;
        }
        add(
            &mut list,
            SegmentPageSize {
                base_shift,
                slb_encoding,
                actual,
            },
            "base page sizes",
        )?;
    }
    Ok(list)
}

fn xive(root: &Node<'_>) -> Result<Xive, BootError> {
    let node = root
        .children()
        .find(|node| node.is_compatible("ibm,opal-xive-pe"))
        .ok_or(BootError::MissingNode {
            node: "XIVE interrupt controller",
        })?;
    let mut pages = ArrayVec::<HostRange, 8>::new();
    each_range(&node, "reg", CellSizes::of(root)?, |range| {
        add(
            &mut pages,
            range,
            "pages of the thread interrupt management area",
        )
    })?;
    let &[hardware, hypervisor, os, user] = pages.as_slice() else {
        return Err(bad(&node, "reg"));
    };
    let size = |name| Ok::<_, BootError>(optional(&node, name, u32_value)?.unwrap_or(0));
    let present = |name| node.property(name).is_some();
    Ok(Xive {
        tima: TimaPages {
            hardware,
            hypervisor,
            os,
            user,
        },
        queue_sizes_log2: cell_list(&node, "ibm,xive-eq-sizes")?,
        priorities: required(&node, "ibm,xive-#priorities", u32_value)?,
        provision_page_bytes: size("ibm,xive-provision-page-size")?,
        provision_chips: cell_list(&node, "ibm,xive-provision-chips")?,
        single_escalation: present("single-escalation-support"),
        store_eoi: present("store-eoi"),
        vp_save_restore: present("vp-save-restore"),
    })
}

fn phbs<const N: usize>(root: &Node<'_>) -> Result<ArrayVec<Phb, N>, BootError> {
    let sizes = CellSizes::of(root)?;
    let mut list = ArrayVec::new();
    for node in root
        .children()
        .filter(|node| node.is_compatible("ibm,ioda3-phb") && is_okay(node))
    {
        add(&mut list, phb(&node, sizes)?, "PCI host bridges")?;
    }
    Ok(list)
}

fn phb(node: &Node<'_>, sizes: CellSizes) -> Result<Phb, BootError> {
    let mut registers = None;
    each_range(node, "reg", sizes, |range| {
        registers.get_or_insert(range);
        Ok(())
    })?;
    let pair = |property: Property<'_>| {
        let mut cells = property.cells()?;
        let pair = (cells.take_u32()?, cells.take_u32()?);
        cells.is_empty().then_some(pair)
    };
    let msi = optional(node, "ibm,opal-msi-ranges", pair)?;
    Ok(Phb {
        opal_id: required(node, "ibm,opal-phbid", u64_value)?,
        chip: optional(node, "ibm,chip-id", u32_value)?,
        registers: registers.ok_or_else(|| bad(node, "reg"))?,
        num_pes: required(node, "ibm,opal-num-pes", u32_value)?,
        reserved_pe: optional(node, "ibm,opal-reserved-pe", u32_value)?,
        msi: msi.map(|(first, count)| MsiRange { first, count }),
        mem32: optional(node, "ranges", |value| mem32(value.cells()?))?.flatten(),
        mem64: optional(node, "ibm,opal-m64-window", |value| {
            let mut cells = value.cells()?;
            let window = window(&mut cells)?;
            cells.is_empty().then_some(window)
        })?
        .flatten(),
        mem64_segments: optional(node, "ibm,opal-available-m64-ranges", pair)?,
        tce_page_shifts: cell_list(node, "ibm,supported-tce-sizes")?,
    })
}

/// PCI address, host address and size; an empty window is `Some(None)`.
fn window(cells: &mut Cells<'_>) -> Option<Option<PciWindow>> {
    let pci = cells.take(2)?;
    let host = cells.take(2)?;
    let bytes = cells.take(2)?;
    if bytes == 0 {
        return Some(None);
    }
    Some(Some(PciWindow {
        pci,
        host: HostRange::new(HostReal::new(host), bytes)?,
    }))
}

/// The first window of 32-bit memory space in the `ranges` of a PCI host bridge.
fn mem32(mut cells: Cells<'_>) -> Option<Option<PciWindow>> {
    /// Which space an address belongs to, in the first of its three cells.
    const SPACE: u32 = 0x0300_0000;
    const MEMORY_32: u32 = 0x0200_0000;
    while !cells.is_empty() {
        let space = cells.take_u32()? & SPACE;
        let window = window(&mut cells)?;
        if space == MEMORY_32 && window.is_some() {
            return Some(window);
        }
    }
    Some(None)
}

fn initrd(chosen: &Node<'_>) -> Result<Option<HostRange>, BootError> {
    let start = optional(chosen, "linux,initrd-start", u64_value)?;
    let end = optional(chosen, "linux,initrd-end", u64_value)?;
    let (Some(start), Some(end)) = (start, end) else {
        return Ok(None);
    };
    match HostRange::between(HostReal::new(start), HostReal::new(end)) {
        None if start != end => Err(bad(chosen, "linux,initrd-end")),
        range => Ok(range),
    }
}

fn fw_features<'a, const N: usize>(
    opal: &Node<'a>,
) -> Result<Option<ArrayVec<FwFeature<'a>, N>>, BootError> {
    let Some(parent) = opal.child("fw-features") else {
        return Ok(None);
    };
    let mut list = ArrayVec::new();
    for node in parent.children() {
        // A node with neither says nothing.
        let state = if node.property("enabled").is_some() {
            FwFeatureState::Enabled
        } else if node.property("disabled").is_some() {
            FwFeatureState::Disabled
        } else {
            continue;
        };
        add(
            &mut list,
            FwFeature {
                name: node.name(),
                state,
            },
            "fw-features",
        )?;
    }
    Ok(Some(list))
}

#[cfg(test)]
mod tests;
