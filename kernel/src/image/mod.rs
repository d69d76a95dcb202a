// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Where a guest's kernel, initrd, device tree and RTAS go in its memory.
//!
//! A PAPR guest that is started from a flattened device tree begins in real mode with its image at
//! the place that the file says: an ELF file of type ET_EXEC at its physical addresses, one of
//! type ET_DYN at the partition's `load-address` (0 by default), a raw file at a `load-address`
//! that must be given - a text file is no kernel just because somebody named it as one. Linux
//! copies itself to 0 and overwrites what lies below its own end, so everything else is put above
//! the highest address that any segment takes. RTAS runs in 32-bit real mode and is reached by
//! Linux only below 1 GiB; the same holds for the device tree.
//!
//! This module only plans: [`plan`] is a pure function of the file and the sizes, writes nothing,
//! and takes no byte of the file on trust. Applying a [`LoadPlan`] cannot leave guest memory or
//! the file, and no two parts of it overlap.
//!
//! LoPAR, Real-Time Environment / RTAS instantiation; System V ABI, Program Header.

mod elf_file;
mod error;
pub mod pieces;

use crate::config::Partition;
use crate::screen::ByteOrder;
use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;
use penstock_arch::addr::GuestReal;

pub use error::ImageError;

/// Bytes of the RTAS region.
pub const RTAS_BYTES: u64 = 4096;

/// Bytes that are kept for a guest's device tree: several times what one with the longest command
/// line needs.
pub const FDT_BYTES: u64 = 0x1_0000;

/// What the regions are aligned to: the largest page size that guests use for their own memory.
pub const REGION_ALIGN_BYTES: u64 = 0x1_0000;

/// What a load address is aligned to: the smallest page.
pub const LOAD_ALIGN_BYTES: u64 = 0x1000;

/// Where RTAS and the device tree must end.
pub const LOW_LIMIT: GuestReal = GuestReal::new(1 << 30);

/// Most loaded segments of a kernel.
pub const MAX_SEGMENTS: usize = 64;

/// What has to find a place.
#[derive(Clone, Copy)]
pub struct LoadRequest<'a> {
    /// The kernel's file.
    pub kernel: &'a [u8],
    /// Where a raw or position-independent kernel goes.
    pub load_address: Option<GuestReal>,
    /// Bytes of guest memory, from 0.
    pub memory_bytes: u64,
    /// Bytes of the initrd, where there is one.
    pub initrd_bytes: Option<u64>,
    /// Bytes to keep for the device tree.
    pub fdt_bytes: u64,
}

impl<'a> LoadRequest<'a> {
    /// What a partition of the partition tree asks for.
    #[must_use]
    pub fn of(partition: &Partition<'a>) -> Self {
        let initrd = partition.initrd.as_ref();
        Self {
            kernel: partition.kernel.data,
            load_address: partition.kernel.load_address,
            memory_bytes: partition.memory_bytes,
            initrd_bytes: initrd.map(|image| u64::try_from(image.data.len()).unwrap_or(u64::MAX)),
            fdt_bytes: FDT_BYTES,
        }
    }
}

/// A range of guest real memory, never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuestRange {
    /// The first byte.
    pub start: GuestReal,
    /// The address after the last byte.
    pub end: GuestReal,
}

/// A part of the kernel's file that is copied to guest memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentCopy {
    /// Which bytes of the file; lies inside it, may be empty.
    pub file: Range<usize>,
    /// Where they go.
    pub guest: GuestReal,
    /// Bytes after them that must read as zero.
    pub zero_bytes: u64,
}

/// Where everything goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadPlan {
    /// The kernel's segments, in the file's order; none overlaps another.
    pub copies: Vec<SegmentCopy>,
    /// Where the guest starts.
    pub entry: GuestReal,
    /// The end of the highest segment.
    pub kernel_end: GuestReal,
    /// The RTAS region of [`RTAS_BYTES`].
    pub rtas: GuestReal,
    /// The device tree's place.
    pub fdt: GuestReal,
    /// Bytes kept for the device tree.
    pub fdt_bytes: u64,
    /// The initrd's place.
    pub initrd: Option<GuestRange>,
}

/// What of the kernel goes where, before anything else has a place.
struct Kernel {
    copies: Vec<SegmentCopy>,
    entry: GuestReal,
    end: GuestReal,
}

/// Plans the start of a guest.
///
/// # Errors
/// The file is not a kernel for this machine, or the parts do not fit the guest's memory.
pub fn plan(request: &LoadRequest<'_>) -> Result<LoadPlan, ImageError> {
    if let Some(address) = request.load_address
        && !address.is_aligned(LOAD_ALIGN_BYTES)
    {
        return Err(ImageError::LoadAddressUnaligned { address });
    }
    let kernel = match request.load_address {
        _ if elf_file::is_elf(request.kernel) => elf_file::segments(request)?,
        Some(address) => raw_kernel(request, address)?,
        None => return Err(ImageError::NotElf),
    };
    place(request, kernel)
}

/// The byte order in which a kernel runs, and so draws: that of its ELF file. A raw file does not
/// tell, and is taken for little-endian, as nearly all guests are.
#[must_use]
pub fn byte_order(kernel: &[u8]) -> ByteOrder {
    if elf_file::is_elf(kernel) && elf_file::is_big_endian(kernel) {
        ByteOrder::Big
    } else {
        ByteOrder::Little
    }
}

fn raw_kernel(request: &LoadRequest<'_>, address: GuestReal) -> Result<Kernel, ImageError> {
    let length = request.kernel.len();
    if length == 0 {
        return Err(ImageError::Empty);
    }
    let end = u64::try_from(length)
        .ok()
        .and_then(|bytes| address.checked_add(bytes));
    match end {
        Some(end) if end.get() <= request.memory_bytes => {
            let copy = SegmentCopy {
                file: 0..length,
                guest: address,
                zero_bytes: 0,
            };
            Ok(Kernel {
                copies: vec![copy],
                entry: address,
                end,
            })
        }
        _ => Err(ImageError::OutsideMemory {
            address,
            bytes: u64::try_from(length).unwrap_or(u64::MAX),
            memory_bytes: request.memory_bytes,
        }),
    }
}

/// The highest aligned place for `bytes` bytes that ends at or below `limit`.
fn below(limit: GuestReal, bytes: u64) -> Option<GuestReal> {
    let start = limit.get().checked_sub(bytes)?;
    Some(GuestReal::new(start).align_down(REGION_ALIGN_BYTES))
}

/// Puts RTAS and the device tree as high as they may lie, as most of the low memory is then free
/// in one piece, and the initrd right above the kernel or, where it is too large for that place,
/// above them.
fn place(request: &LoadRequest<'_>, kernel: Kernel) -> Result<LoadPlan, ImageError> {
    let memory_end = GuestReal::new(request.memory_bytes);
    let limit = memory_end.min(LOW_LIMIT);
    let no_room = |what, bytes| ImageError::NoRoom {
        what,
        bytes,
        kernel_end: kernel.end,
        memory_bytes: request.memory_bytes,
    };
    let free_from = kernel
        .end
        .align_up(REGION_ALIGN_BYTES)
        .ok_or_else(|| no_room(Part::Rtas, RTAS_BYTES))?;
    let rtas = below(limit, RTAS_BYTES)
        .filter(|&start| start >= free_from)
        .ok_or_else(|| no_room(Part::Rtas, RTAS_BYTES))?;
    let fdt = below(rtas, request.fdt_bytes)
        .filter(|&start| start >= free_from)
        .ok_or_else(|| no_room(Part::DeviceTree, request.fdt_bytes))?;
    let initrd = match request.initrd_bytes {
        None | Some(0) => None,
        Some(bytes) => {
            let between = |start: GuestReal, limit: GuestReal| {
                let end = start.checked_add(bytes)?;
                (end <= limit).then_some(GuestRange { start, end })
            };
            let place = between(free_from, fdt)
                .or_else(|| between(limit.align_up(REGION_ALIGN_BYTES)?, memory_end));
            Some(place.ok_or_else(|| no_room(Part::Initrd, bytes))?)
        }
    };
    Ok(LoadPlan {
        copies: kernel.copies,
        entry: kernel.entry,
        kernel_end: kernel.end,
        rtas,
        fdt,
        fdt_bytes: request.fdt_bytes,
        initrd,
    })
}

/// Something that has to lie beside the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The RTAS region.
    Rtas,
    /// The device tree.
    DeviceTree,
    /// The initrd.
    Initrd,
}

#[cfg(test)]
mod tests;
