// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The device tree that a PAPR guest is started with.
//!
//! A guest that is started from a flattened tree takes from it what Open Firmware would have told
//! it: that this is a logical partition (`/rtas` with `ibm,hypertas-functions`), where RTAS lies
//! and what its tokens are, that the MMU is hashed and how large the page table is
//! (`ibm,architecture-vec-5`, `ibm,pft-size`: a wrong size makes it hash into another table than
//! the hardware does), what its processor can do, its console and its interrupt controller, of
//! which there is one kind: the guest knows by it whether to make XICS calls or to work on XIVE.
//!
//! The tree holds what Linux needs and what users expect; `ibm,pa-features` and its kin only say
//! what the hypervisor keeps up, so neither radix nor transactional memory nor doorbells between
//! threads. RTAS and the tree itself are in the reservation list, as the guest would otherwise use
//! their memory.
//!
//! LoPAR, Device Tree; Linux on Power Architecture Reference, Option Vector 5.

mod cpu;

use crate::image::GuestRange;
use crate::screen::{ByteOrder, Geometry};
use alloc::vec::Vec;
use core::fmt;
use dtoolkit::ToPropertyValue;
use dtoolkit::memreserve::MemoryReservation;
use dtoolkit::model::{DeviceTree, DeviceTreeNode, DeviceTreeProperty};
use penstock_arch::addr::GuestReal;
use penstock_xive::native::{QUEUE_SIZES_LOG2, RESERVED_PRIORITIES, window};

pub use cpu::{CpuKind, GuestCpu, page_sizes_within};

/// The unit address of a partition's first virtual terminal, as guests of other hypervisors know
/// it.
pub const FIRST_VTY: u32 = 0x7100_0000;

/// What `model` says where the partition tree says nothing.
pub const DEFAULT_MODEL: &str = "Penstock partition";

/// What `compatible` says where the partition tree says nothing.
pub const DEFAULT_COMPATIBLE: &str = "penstock,pseries";

const INTERRUPT_CONTROLLER: u32 = 1;

/// What a guest's tree is made of.
#[derive(Clone, Copy, Debug)]
pub struct GuestDtParams<'a> {
    /// The partition's name.
    pub partition_name: &'a str,
    /// The partition's number, from 1.
    pub partition_number: u32,
    /// The root's `model`.
    pub model: Option<&'a str>,
    /// The root's `compatible`; empty for the default.
    pub root_compatible: &'a [&'a str],
    /// The root's `vm,uuid`.
    pub uuid: Option<&'a str>,
    /// Bytes of memory, from 0.
    pub memory_bytes: u64,
    /// The kernel's command line.
    pub bootargs: &'a str,
    /// Where the initrd lies.
    pub initrd: Option<GuestRange>,
    /// Random bytes for the kernel's own generator.
    pub rng_seed: Option<&'a [u8]>,
    /// The virtual processor.
    pub cpu: GuestCpu<'a>,
    /// How many of them there are, numbered from 0.
    pub vcpus: u32,
    /// RTAS and the hcalls.
    pub rtas: GuestRtas<'a>,
    /// The console.
    pub vty: Vty,
    /// Where power events come from.
    pub epow: Epow,
    /// The framebuffer, where there is one.
    pub framebuffer: Option<Framebuffer>,
    /// How the guest works with interrupts.
    pub interrupts: GuestInterrupts,
    /// Whether the guest may call H_RANDOM.
    pub random: RandomDevice,
    /// Where the tree will lie.
    pub fdt: FdtPlace,
}

/// RTAS, and the hcall function sets that are announced beside it.
#[derive(Clone, Copy, Debug)]
pub struct GuestRtas<'a> {
    /// Where the blob lies, which is also its entry; below 4 GiB.
    pub base: GuestReal,
    /// Bytes of the blob's region.
    pub bytes: u32,
    /// The calls, each with its token.
    pub tokens: &'a [(&'a str, u32)],
    /// The function sets, each complete.
    pub hypertas_functions: &'a [&'a str],
    /// Bytes of the longest error log that a call returns.
    pub error_log_max: u32,
    /// How often `event-scan` should be called, per minute.
    pub event_scan_rate: u32,
    /// Bytes that `nvram-fetch` and `nvram-store` reach.
    pub nvram_bytes: u32,
}

/// A virtual terminal.
#[derive(Clone, Copy, Debug)]
pub struct Vty {
    /// Its unit address, which its hcalls take.
    pub unit: u32,
    /// Its interrupt source, edge-triggered; without one a guest polls.
    pub interrupt: Option<u32>,
}

/// The source of environmental and power warnings, which RTAS explains.
#[derive(Clone, Copy, Debug)]
pub struct Epow {
    /// Its interrupt source, edge-triggered.
    pub interrupt: u32,
}

/// A framebuffer.
#[derive(Clone, Copy, Debug)]
pub struct Framebuffer {
    /// Where it lies, outside the guest's memory.
    pub base: GuestReal,
    /// Its width, height and depth.
    pub geometry: Geometry,
    /// The byte order of the guest, in which it draws.
    pub order: ByteOrder,
}

/// The interrupt controller that the tree describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuestInterrupts {
    /// XICS calls serve it.
    Xics,
    /// The guest works on its pages.
    Xive {
        /// Sources for the guest's own use, from number 0 on.
        own_sources: u32,
    },
}

/// Whether there is a source of random numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RandomDevice {
    /// H_RANDOM is not announced.
    Absent,
    /// H_RANDOM is announced.
    Present,
}

/// Memory that is kept for the tree.
#[derive(Clone, Copy, Debug)]
pub struct FdtPlace {
    /// Where it starts.
    pub base: GuestReal,
    /// How much there is.
    pub max_bytes: u64,
}

/// Why a tree cannot be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuestDtError {
    /// It does not fit its place.
    TooLarge {
        /// Bytes that it needs.
        bytes: u64,
        /// Bytes that it has.
        max_bytes: u64,
    },
    /// RTAS is not below 4 GiB, where 32-bit code could run it.
    RtasTooHigh {
        /// Where it is.
        base: GuestReal,
    },
}

impl fmt::Display for GuestDtError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge { bytes, max_bytes } => {
                write!(f, "guest's device tree needs {bytes} bytes of {max_bytes}")
            }
            Self::RtasTooHigh { base } => write!(f, "RTAS at {base} is not below 4 GiB"),
        }
    }
}

impl core::error::Error for GuestDtError {}

/// Makes a guest's tree, ready to be copied to its place.
///
/// # Errors
/// The tree does not fit, or RTAS lies where its callers cannot reach it.
pub fn build(params: &GuestDtParams<'_>) -> Result<Vec<u8>, GuestDtError> {
    let mut tree = DeviceTree::new();
    tree.memory_reservations = Vec::from([
        MemoryReservation::new(params.rtas.base.get(), u64::from(params.rtas.bytes)),
        MemoryReservation::new(params.fdt.base.get(), params.fdt.max_bytes),
    ]);
    fill_root(&mut tree.root, params);
    for child in [
        chosen(params),
        memory(params.memory_bytes),
        cpu::cpus(&params.cpu, params.vcpus),
        rtas(&params.rtas)?,
        vdevice(&params.vty),
        event_sources(params.epow),
        nvram(params.rtas.nvram_bytes),
        match params.interrupts {
            GuestInterrupts::Xics => interrupt_controller(params.vcpus),
            GuestInterrupts::Xive { own_sources } => virtualization_engine(own_sources),
        },
    ] {
        tree.root.add_child(child);
    }
    if let Some(framebuffer) = &params.framebuffer {
        tree.root.add_child(display(framebuffer));
    }
    if params.random == RandomDevice::Present {
        tree.root.add_child(platform_facilities());
    }
    let bytes = tree.to_dtb();
    let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    if length > params.fdt.max_bytes {
        return Err(GuestDtError::TooLarge {
            bytes: length,
            max_bytes: params.fdt.max_bytes,
        });
    }
    Ok(bytes)
}

/// A node under construction.
///
/// Names here are ours and may be longer than the 31 characters of the specification, as some of
/// LoPAR's are.
fn node(name: &str) -> DeviceTreeNode {
    DeviceTreeNode::new_unchecked(name)
}

fn set(node: &mut DeviceTreeNode, name: &str, value: impl ToPropertyValue) {
    node.add_property(DeviceTreeProperty::new_unchecked(name, value));
}

/// A property whose presence is its value.
fn flag(node: &mut DeviceTreeNode, name: &str) {
    set(node, name, [0_u32; 0]);
}

fn fill_root(root: &mut DeviceTreeNode, params: &GuestDtParams<'_>) {
    set(root, "#address-cells", 2_u32);
    set(root, "#size-cells", 2_u32);
    // What makes Linux choose its pseries platform.
    set(root, "device_type", "chrp");
    set(root, "model", params.model.unwrap_or(DEFAULT_MODEL));
    match params.root_compatible {
        [] => set(root, "compatible", DEFAULT_COMPATIBLE),
        list => set(root, "compatible", list),
    }
    set(root, "ibm,partition-name", params.partition_name);
    set(root, "ibm,partition-no", params.partition_number);
    if let Some(uuid) = params.uuid {
        set(root, "vm,uuid", uuid);
    }
    if params.interrupts != GuestInterrupts::Xics {
        // Without it Linux takes the controller for unusable.
        set(root, "ibm,plat-res-int-priorities", RESERVED_PRIORITIES);
    }
}

/// Option vector 5 as firmware would leave it after negotiation: byte 0 holds the number of the
/// bytes after it less one.
///
/// Byte 6 bit 0x01 says that the page table can be resized, byte 23 bits 0xc0 are 0 for XICS and 0x40
/// for XIVE exploitation; everything else in it is off. Byte 5 bit 0x20 (FORM2 affinity) without its
/// tables would make Linux dereference null; byte 24 bits 0xc0 = 0 is the hashed MMU.
fn vector_5(interrupts: GuestInterrupts, function_sets: &[&str]) -> [u8; 25] {
    let mut vector = [0; 25];
    vector[0] = 23;
    vector[6] = u8::from(function_sets.contains(&"hcall-hpt-resize"));
    vector[23] = match interrupts {
        GuestInterrupts::Xics => 0,
        GuestInterrupts::Xive { .. } => 0x40,
    };
    vector
}

fn chosen(params: &GuestDtParams<'_>) -> DeviceTreeNode {
    let mut node = node("chosen");
    let stdout = alloc::format!("/vdevice/vty@{:x}", params.vty.unit);
    set(&mut node, "bootargs", params.bootargs);
    // Old and new kernels look for either.
    set(&mut node, "linux,stdout-path", stdout.as_str());
    set(&mut node, "stdout-path", stdout.as_str());
    if let Some(initrd) = params.initrd {
        set(&mut node, "linux,initrd-start", initrd.start.get());
        set(&mut node, "linux,initrd-end", initrd.end.get());
    }
    let vector = vector_5(params.interrupts, params.rtas.hypertas_functions);
    set(&mut node, "ibm,architecture-vec-5", vector.as_slice());
    if let Some(seed) = params.rng_seed {
        set(&mut node, "rng-seed", seed);
    }
    node
}

/// All memory as one node, so that the real mode area is all of it.
fn memory(bytes: u64) -> DeviceTreeNode {
    let mut node = node("memory@0");
    set(&mut node, "device_type", "memory");
    let [high, low] = halves(bytes);
    set(&mut node, "reg", [0, 0, high, low]);
    node
}

/// A doubleword as two cells.
fn halves(value: u64) -> [u32; 2] {
    let [a, b, c, d, e, f, g, h] = value.to_be_bytes();
    [
        u32::from_be_bytes([a, b, c, d]),
        u32::from_be_bytes([e, f, g, h]),
    ]
}

fn rtas(params: &GuestRtas<'_>) -> Result<DeviceTreeNode, GuestDtError> {
    let base = u32::try_from(params.base.get())
        .map_err(|_| GuestDtError::RtasTooHigh { base: params.base })?;
    let mut node = node("rtas");
    set(&mut node, "linux,rtas-base", base);
    set(&mut node, "linux,rtas-entry", base);
    set(&mut node, "rtas-size", params.bytes);
    set(&mut node, "rtas-version", 1_u32);
    set(
        &mut node,
        "ibm,hypertas-functions",
        params.hypertas_functions,
    );
    set(&mut node, "rtas-error-log-max", params.error_log_max);
    set(&mut node, "rtas-event-scan-rate", params.event_scan_rate);
    for &(name, token) in params.tokens {
        set(&mut node, name, token);
    }
    // Without it Linux does not use the call, as it might return early or never.
    if params.tokens.iter().any(|&(name, _)| name == "ibm,os-term") {
        flag(&mut node, "ibm,extended-os-term");
    }
    Ok(node)
}

/// The second cell of an interrupt: 1 for level, 0 for edge.
const EDGE: u32 = 0;

fn vdevice(vty: &Vty) -> DeviceTreeNode {
    let mut bus = node("vdevice");
    set(&mut bus, "device_type", "vdevice");
    set(&mut bus, "compatible", "IBM,vdevice");
    set(&mut bus, "#address-cells", 1_u32);
    set(&mut bus, "#size-cells", 0_u32);
    set(&mut bus, "#interrupt-cells", 2_u32);
    flag(&mut bus, "interrupt-controller");
    let mut terminal = node(&alloc::format!("vty@{:x}", vty.unit));
    set(&mut terminal, "device_type", "serial");
    set(&mut terminal, "compatible", "hvterm1");
    set(&mut terminal, "reg", vty.unit);
    if let Some(source) = vty.interrupt {
        set(&mut terminal, "interrupts", [source, EDGE]);
    }
    bus.add_child(terminal);
    bus
}

/// Interrupts whose reason RTAS tells (LoPAR, Event Sources).
fn event_sources(epow: Epow) -> DeviceTreeNode {
    let mut sources = node("event-sources");
    set(&mut sources, "#address-cells", 0_u32);
    set(&mut sources, "#interrupt-cells", 2_u32);
    flag(&mut sources, "interrupt-controller");
    set(&mut sources, "interrupt-ranges", [epow.interrupt, 1]);
    let mut events = node("epow-events");
    set(&mut events, "interrupts", [epow.interrupt, EDGE]);
    sources.add_child(events);
    sources
}

/// What `nvram-fetch` and `nvram-store` reach (LoPAR, NVRAM; the node's name and type are what
/// Linux looks for).
fn nvram(bytes: u32) -> DeviceTreeNode {
    let mut nvram = node("nvram");
    set(&mut nvram, "device_type", "nvram");
    set(&mut nvram, "#bytes", bytes);
    nvram
}

/// The presentation layer that H_CPPR, H_EOI, H_IPI, H_XIRR and H_IPOLL serve, for one processor.
fn interrupt_controller(vcpus: u32) -> DeviceTreeNode {
    let mut node = node("interrupt-controller");
    set(
        &mut node,
        "device_type",
        "PowerPC-External-Interrupt-Presentation",
    );
    set(&mut node, "compatible", "IBM,ppc-xicp");
    flag(&mut node, "interrupt-controller");
    set(&mut node, "#address-cells", 0_u32);
    set(&mut node, "#interrupt-cells", 2_u32);
    set(&mut node, "ibm,interrupt-server-ranges", [0, vcpus]);
    set(&mut node, "phandle", INTERRUPT_CONTROLLER);
    node
}

/// The controller of exploitation mode (LoPAR, PowerPC External Interrupt Virtualization Engine
/// Nodes). LoPAR writes the name of one property with an underscore; all who read or write it do
/// not.
fn virtualization_engine(own_sources: u32) -> DeviceTreeNode {
    let (user, os) = (window::TIMA_USER, window::TIMA_OS);
    let mut node = node(&alloc::format!("interrupt-controller@{:x}", user.get()));
    set(&mut node, "device_type", "power-ivpe");
    set(&mut node, "compatible", "ibm,power-ivpe");
    // The user's page is never there, but comes first.
    let mut reg = [0; 8];
    for (range, page) in reg.chunks_exact_mut(4).zip([user, os]) {
        let [[high, low], [size_high, size_low]] = [page.get(), window::PAGE_BYTES].map(halves);
        range.copy_from_slice(&[high, low, size_high, size_low]);
    }
    set(&mut node, "reg", reg);
    set(&mut node, "ibm,xive-eq-sizes", QUEUE_SIZES_LOG2);
    set(&mut node, "ibm,xive-lisn-ranges", [0, own_sources]);
    flag(&mut node, "interrupt-controller");
    set(&mut node, "#address-cells", 0_u32);
    set(&mut node, "#interrupt-cells", 2_u32);
    set(&mut node, "phandle", INTERRUPT_CONTROLLER);
    node
}

/// A display that firmware has set up, as Linux's offb and ofdrm take it over.
///
/// Both are matched by the device's name, which Linux makes of `device_type` and the two
/// properties that it adds itself to the boot console's display (`linux,opened` and
/// `linux,boot-display`). Some kernels (6.2 and 6.3) make a name that neither driver knows; they
/// go by `compatible`. The address is the largest range in `reg`, which below the root needs no
/// `ranges`; `address` would be 32 bits wide. Each driver takes pixels to be in its own byte order
/// unless the node says otherwise, so it says what the guest's is.
fn display(framebuffer: &Framebuffer) -> DeviceTreeNode {
    let Framebuffer {
        base,
        geometry,
        order,
    } = framebuffer;
    let mut node = node(&alloc::format!("display@{:x}", base.get()));
    set(&mut node, "device_type", "display");
    set(
        &mut node,
        "compatible",
        &["penstock,framebuffer", "display"][..],
    );
    let [[high, low], [size_high, size_low]] = [base.get(), geometry.slot_bytes()].map(halves);
    set(&mut node, "reg", [high, low, size_high, size_low]);
    set(&mut node, "width", geometry.width());
    set(&mut node, "height", geometry.height());
    set(&mut node, "depth", geometry.depth());
    set(&mut node, "linebytes", geometry.stride());
    flag(
        &mut node,
        match order {
            ByteOrder::Little => "little-endian",
            ByteOrder::Big => "big-endian",
        },
    );
    flag(&mut node, "linux,opened");
    flag(&mut node, "linux,boot-display");
    node
}

fn platform_facilities() -> DeviceTreeNode {
    let mut random = node("ibm,random-v1");
    set(&mut random, "compatible", "ibm,random");
    let mut facilities = node("ibm,platform-facilities");
    set(&mut facilities, "device_type", "ibm,platform-facilities");
    facilities.add_child(random);
    facilities
}

#[cfg(test)]
mod tests;
