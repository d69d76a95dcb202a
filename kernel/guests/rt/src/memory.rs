// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Real memory that a check may use as it likes.
//!
//! The largest gap between everything that the device tree names (image, tree, reservations) is
//! split in two: work memory at its bottom, which checks use again and again, and fresh memory from
//! its top downwards, each byte of which is given out once, so that a check can see the first touch.

// UNSAFETY: volatile accesses to real memory that no Rust object lives in.
#![expect(unsafe_code)]

use crate::fdt::{Fdt, doubleword};
use crate::start;
use core::cell::Cell;

/// A range of real memory, read and written with volatile accesses in the byte order of the
/// processor.
#[derive(Clone, Copy, Debug)]
pub struct Range {
    base: u64,
    bytes: u64,
}

impl Range {
    /// First address.
    #[must_use]
    pub fn base(&self) -> u64 {
        self.base
    }

    /// Length in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// A part of the range.
    ///
    /// # Panics
    /// The part does not lie in the range.
    #[must_use]
    pub fn part(&self, offset: u64, bytes: u64) -> Self {
        assert!(
            offset <= self.bytes && bytes <= self.bytes - offset,
            "outside the range"
        );
        Self {
            base: self.base + offset,
            bytes,
        }
    }

    fn pointer<T>(&self, offset: u64) -> *mut T {
        let bytes = size_of::<T>() as u64;
        assert!(
            offset.is_multiple_of(bytes) && offset < self.bytes,
            "outside the range"
        );
        let address = usize::try_from(self.base + offset).expect("an address of this processor");
        core::ptr::with_exposed_provenance_mut(address)
    }

    /// The doubleword at a byte offset.
    #[must_use]
    pub fn read(&self, offset: u64) -> u64 {
        // SAFETY: inside a range that no Rust object lives in.
        unsafe { self.pointer::<u64>(offset).read_volatile() }
    }

    /// Stores a doubleword at a byte offset.
    pub fn write(&self, offset: u64, value: u64) {
        // SAFETY: inside a range that no Rust object lives in.
        unsafe { self.pointer::<u64>(offset).write_volatile(value) };
    }

    /// Stores the same doubleword everywhere.
    pub fn fill(&self, value: u64) {
        for offset in (0..self.bytes).step_by(8) {
            self.write(offset, value);
        }
    }

    /// Stores bytes from the start, which is how blocks for the hypervisor are made.
    pub fn write_bytes(&self, offset: u64, bytes: &[u8]) {
        for (index, byte) in bytes.iter().enumerate() {
            let slot = self.pointer::<u8>(offset + index as u64);
            // SAFETY: inside a range that no Rust object lives in.
            unsafe { slot.write_volatile(*byte) };
        }
    }

    /// The big-endian word at a byte offset.
    #[must_use]
    pub fn word_be(&self, offset: u64) -> u32 {
        // SAFETY: inside a range that no Rust object lives in.
        u32::from_be(unsafe { self.pointer::<u32>(offset).read_volatile() })
    }
}

/// The partition's memory and what of it is free.
#[derive(Debug)]
pub struct Memory {
    end: u64,
    work: Range,
    fresh_bottom: u64,
    fresh_top: Cell<u64>,
}

const MAX_RESERVED: usize = 24;

impl Memory {
    /// Looks for the largest gap; `None` without a memory node or a usable gap.
    #[must_use]
    pub fn find(fdt: &Fdt<'_>, fdt_base: u64, fdt_bytes: u64) -> Option<Self> {
        let reg = fdt.node("/memory")?.property("reg")?;
        let end = doubleword(reg, 0)?.checked_add(doubleword(reg, 8)?)?;
        let mut reserved = [(end, end); MAX_RESERVED];
        let cells = |node: &str, name: &str| {
            let value = fdt.node(node)?.property(name)?;
            match value.len() {
                4 => Some(u64::from(crate::fdt::word(value, 0)?)),
                8 => doubleword(value, 0),
                _ => None,
            }
        };
        let initrd =
            cells("/chosen", "linux,initrd-start").zip(cells("/chosen", "linux,initrd-end"));
        let rtas = cells("/rtas", "linux,rtas-base").zip(cells("/rtas", "rtas-size"));
        let named = [
            Some((0, 0x10000)),
            Some(start::image()),
            Some((fdt_base, fdt_base.saturating_add(fdt_bytes))),
            initrd,
            rtas.map(|(base, bytes)| (base, base.saturating_add(bytes))),
        ];
        let listed = fdt
            .reservations()
            .map(|(base, bytes)| (base, base.saturating_add(bytes)));
        let all = named.into_iter().flatten().chain(listed);
        for (slot, range) in reserved.iter_mut().zip(all) {
            *slot = range;
        }
        reserved.sort_unstable();
        let mut gap = (0, 0);
        let mut from = 0;
        for (start, stop) in reserved.into_iter().chain([(end, end)]) {
            let start = start.min(end);
            if start.saturating_sub(from) > gap.1 - gap.0 {
                gap = (from, start);
            }
            from = from.max(stop);
        }
        let bottom = gap.0.checked_next_multiple_of(1 << 16)?;
        // Real mode may be backed in pages of 16 MiB: the one that the gap's end lies in is touched.
        let top = if gap.1 - gap.0 >= 1 << 26 {
            gap.1 & !0xff_ffff
        } else {
            gap.1 & !0xffff
        };
        // Work memory with a whole aligned 16M page where there is room, else what a 4K and 64K
        // check needs.
        let huge = bottom.checked_next_multiple_of(1 << 24)?;
        let work = if top.saturating_sub(huge) >= 3 << 24 {
            Range {
                base: huge,
                bytes: 1 << 25,
            }
        } else {
            Range {
                base: bottom,
                bytes: 1 << 20,
            }
        };
        let fresh_bottom = work.base.checked_add(work.bytes)?;
        (fresh_bottom <= top).then_some(Self {
            end,
            work,
            fresh_bottom,
            fresh_top: Cell::new(top),
        })
    }

    /// The first address past the partition's memory.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Any part of the partition's memory, whoever uses it; `None` where it is not all memory.
    #[must_use]
    pub fn at(&self, base: u64, bytes: u64) -> Option<Range> {
        let end = base.checked_add(bytes)?;
        (end <= self.end).then_some(Range { base, bytes })
    }

    /// The memory that all checks share: 32 MiB on a 16 MiB boundary, or at least 1 MiB.
    #[must_use]
    pub fn work(&self) -> Range {
        self.work
    }

    /// Whether the shared memory has room for a 16M page.
    #[must_use]
    pub fn has_huge(&self) -> bool {
        self.work.bytes >= 1 << 24
    }

    /// Memory that nobody has touched yet, aligned to its size; `None` when it is used up. What is
    /// given out in 16 MiB has no neighbour in the same page of real mode.
    #[must_use]
    pub fn fresh(&self, bytes: u64) -> Option<Range> {
        let base = self.fresh_top.get().checked_sub(bytes)? & !(bytes - 1);
        if base < self.fresh_bottom {
            return None;
        }
        self.fresh_top.set(base);
        Some(Range { base, bytes })
    }
}
