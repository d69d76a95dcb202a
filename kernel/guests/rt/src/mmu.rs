// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Entering mappings by hcalls, and running with relocation on.

use crate::context::{Context, place};
use crate::cpu;
use crate::fdt::{Fdt, doubleword, word};
use crate::hcall::{self, Reply};
use crate::hpt::{Mapping, P4K, PageSize, R_M, Segment, V_VALID};
use crate::insn::Program;
use crate::number::{flag, hcall as number, msr, status};
use crate::start;

/// The virtual segment of the image mapped one to one.
pub const IMAGE_VSID: u64 = 0x5e_0001;
/// The virtual segment in which the relocated vectors lie.
pub const VECTOR_VSID: u64 = 0x5e_0002;

/// The partition's page table, as the tree describes it.
#[derive(Clone, Copy, Debug)]
pub struct Hpt {
    /// log2 of its size in bytes.
    pub order: u32,
}

impl Hpt {
    /// Reads `ibm,pft-size` and page sizes from the first processor's node.
    #[must_use]
    pub fn find(fdt: &Fdt<'_>) -> Option<Self> {
        let value = cpu_node(fdt)?.property("ibm,pft-size")?;
        let order = u32::try_from(doubleword(value, 0)?).ok()?;
        (18..=46).contains(&order).then_some(Self { order })
    }

    /// How many entries the table has.
    #[must_use]
    pub fn entries(&self) -> u64 {
        1 << (self.order - 4)
    }

    /// H_ENTER into the primary group; the index on success.
    ///
    /// # Errors
    /// The status.
    pub fn enter(&self, mapping: &Mapping) -> Result<u64, u64> {
        let reply = self.enter_with(0, mapping);
        if reply.status == status::SUCCESS {
            Ok(reply.values[0])
        } else {
            Err(reply.status)
        }
    }

    /// H_ENTER into the primary group, with flags.
    pub fn enter_with(&self, flags: u64, mapping: &Mapping) -> Reply {
        let index = mapping.primary(self.order);
        hcall::call(number::ENTER, [flags, index, mapping.v(), mapping.r()])
    }

    /// H_REMOVE without conditions.
    pub fn remove(&self, index: u64) -> Reply {
        hcall::call(number::REMOVE, [0, index, 0, 0])
    }

    /// H_READ of one entry.
    #[must_use]
    pub fn read(&self, index: u64) -> Reply {
        hcall::call(number::READ, [0, index, 0, 0])
    }

    /// H_PROTECT without conditions.
    pub fn protect(&self, index: u64, bits: u64) -> Reply {
        hcall::call(number::PROTECT, [bits, index, 0, 0])
    }

    /// Removes every valid entry except those of the reserved segment of real mode (LoPAR, Reserved
    /// Virtual Addresses); how many there were.
    pub fn clear(&self) -> u64 {
        let mut removed = 0;
        for index in (0..self.entries()).step_by(4) {
            let four = hcall::call(number::READ, [flag::READ_4, index, 0, 0]).values;
            for (slot, entry) in (index..).zip(four.chunks(2)) {
                let valid = entry
                    .first()
                    .is_some_and(|v| v & V_VALID != 0 && !is_real_mode(*v));
                if valid && self.remove(slot).status == status::SUCCESS {
                    removed += 1;
                }
            }
        }
        removed
    }

    /// Maps the image one to one and the low 64K at 0xc000_0000_0000_0000, and loads the two
    /// segments, so that programs of the image and the vectors run with relocation on. Returns the
    /// indexes entered, to be removed by [`Hpt::unmap_image`].
    ///
    /// # Errors
    /// The status of the H_ENTER that failed.
    pub fn map_image(&self) -> Result<u64, u64> {
        let (first, end) = start::image();
        let mut entered = 0;
        for real in (0..0x10000).step_by(0x1000) {
            self.enter(&vector_mapping(real))?;
            entered += 1;
        }
        for real in (first..end).step_by(0x1000) {
            self.enter(&image_mapping(real))?;
            entered += 1;
        }
        set_image_segments();
        Ok(entered)
    }

    /// Undoes [`Hpt::map_image`]; how many entries were found and removed.
    pub fn unmap_image(&self) -> u64 {
        let (first, end) = start::image();
        let vectors = (0..0x10000u64).step_by(0x1000).map(vector_mapping);
        let image = (first..end).step_by(0x1000).map(image_mapping);
        cpu::clear_segments();
        vectors
            .chain(image)
            .filter(|mapping| self.remove_mapping(mapping))
            .count() as u64
    }

    /// Removes a mapping from its primary group, wherever in it it stands; whether it was found.
    pub fn remove_mapping(&self, mapping: &Mapping) -> bool {
        let group = mapping.primary(self.order);
        (group..group + 8).any(|index| {
            let reply = hcall::call(number::REMOVE, [flag::AVPN, index, mapping.avpn(), 0]);
            reply.status == status::SUCCESS
        })
    }
}

/// Loads the two segments of [`Hpt::map_image`] into this processor.
pub fn set_image_segments() {
    let (image, vectors) = (image_mapping(start::image().0), vector_mapping(0));
    cpu::set_segment(image.slb_vsid(0), image.slb_esid(0));
    cpu::set_segment(vectors.slb_vsid(0), vectors.slb_esid(1));
}

fn is_real_mode(v: u64) -> bool {
    v >> 62 == 1 && v << 2 >> 26 == 0x1ff_ffff
}

fn vector_mapping(real: u64) -> Mapping {
    Mapping {
        ea: 0xc000_0000_0000_0000 | real,
        vsid: VECTOR_VSID,
        segment: Segment::M256,
        size: P4K,
        real,
        bits: R_M,
    }
}

fn image_mapping(real: u64) -> Mapping {
    Mapping {
        ea: real,
        vsid: IMAGE_VSID,
        segment: Segment::M256,
        size: P4K,
        real,
        bits: R_M,
    }
}

/// The first processor's node.
#[must_use]
pub fn cpu_node<'a>(fdt: &Fdt<'a>) -> Option<crate::fdt::Node<'a>> {
    nth_cpu_node(fdt, 0)
}

/// A processor's node, by its place in the tree.
#[must_use]
pub fn nth_cpu_node<'a>(fdt: &Fdt<'a>, place: usize) -> Option<crate::fdt::Node<'a>> {
    let nodes = fdt.node("/cpus")?.children();
    nodes
        .filter(|node| node.string("device_type") == Some("cpu"))
        .nth(place)
}

/// Whether `ibm,segment-page-sizes` has this pair of sizes with this encoding.
#[must_use]
pub fn has_page_size(fdt: &Fdt<'_>, size: &PageSize) -> bool {
    let Some(list) = cpu_node(fdt).and_then(|cpu| cpu.property("ibm,segment-page-sizes")) else {
        return size.actual == 12 && size.base == 12;
    };
    let cells = |at: usize| word(list, 4 * at).map(u64::from);
    let mut at = 0;
    while let (Some(base), Some(slb), Some(count)) = (cells(at), cells(at + 1), cells(at + 2)) {
        for pair in 0..usize::try_from(count).unwrap_or(0).min(8) {
            let actual = cells(at + 3 + 2 * pair);
            let lp = cells(at + 4 + 2 * pair);
            if base == u64::from(size.base)
                && slb == size.slb
                && actual == Some(u64::from(size.actual))
                && lp == Some(size.lp)
            {
                return true;
            }
        }
        at += 3 + 2 * usize::try_from(count)
            .unwrap_or(usize::MAX / 4)
            .min(1 << 20);
    }
    false
}

/// MSR for data accesses through the page table with instructions fetched in real mode.
pub const DATA: u64 = msr::KERNEL | msr::DR;
/// MSR for running wholly through the page table.
pub const RELOCATED: u64 = msr::KERNEL | msr::DR | msr::IR;

/// Loads a doubleword at an effective address with this MSR: the context after it, with the value
/// in r4 when it ended with the trap at `srr0 == pc + 4`.
#[must_use]
pub fn load(ea: u64, msr: u64) -> Context {
    access(&Program::new().ld(4, 3, 0), ea, 0, msr)
}

/// Stores a doubleword at an effective address with this MSR.
#[must_use]
pub fn store(ea: u64, value: u64, msr: u64) -> Context {
    access(&Program::new().std(4, 3, 0), ea, value, msr)
}

/// Runs a program with r3 = `ea` and r4 = `value`.
#[must_use]
pub fn access(program: &Program, ea: u64, value: u64, msr: u64) -> Context {
    let mut context = Context::new(place(program), msr)
        .with_gpr(3, ea)
        .with_gpr(4, value);
    context.run();
    context
}
