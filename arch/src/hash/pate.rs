// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A partition table entry of a partition that uses the hash MMU.
//!
//! Doubleword 0 has HR=0 (bit 0), the address of the table (HTABORG, a multiple of 256 KiB), the
//! base page size of the virtualized real mode area (PS, bits 56:58) and the table's size
//! (HTABSIZE, bits 59:63: binary logarithm minus 18). Doubleword 1 is not used. POWER9 and
//! POWER10 take the page size of guest real mode from here and from nowhere else.
//!
//! Power ISA 3.0B, Book III, Partition Table.

use super::page_size::PageSize;
use crate::addr::HostReal;

/// A partition table entry, in the processor's byte order; memory has it big-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pate([u64; 2]);

impl Pate {
    /// The entry of a partition whose table of `1 << order` bytes lies at `table`, or `None` where
    /// the order is none of 18 to 46 or the table is not aligned to its size.
    #[must_use]
    pub const fn hash(table: HostReal, order: u32, vrma_page: PageSize) -> Option<Self> {
        if order < 18 || order > 46 || !table.is_aligned(1 << order) {
            return None;
        }
        let size = (order - 18) as u64;
        Some(Self([
            table.get() | (vrma_page.packed_llp() << 5) | size,
            0,
        ]))
    }

    /// The two doublewords.
    #[must_use]
    pub const fn dwords(self) -> [u64; 2] {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_the_machine_accepted() {
        let at = HostReal::new(0x800_0000);
        let dw0 = |page| Pate::hash(at, 24, page).unwrap().dwords();
        assert_eq!(dw0(PageSize::P4K), [0x0800_0006, 0]);
        assert_eq!(dw0(PageSize::P64K), [0x0800_00a6, 0]);
        assert_eq!(dw0(PageSize::P16M), [0x0800_0086, 0]);
    }

    #[test]
    fn bad_sizes_and_places_are_refused() {
        let at = HostReal::new(0x4_0000);
        assert!(Pate::hash(at, 17, PageSize::P4K).is_none());
        assert!(Pate::hash(HostReal::new(0), 47, PageSize::P4K).is_none());
        assert!(Pate::hash(at, 18, PageSize::P4K).is_some());
        assert!(Pate::hash(at, 19, PageSize::P4K).is_none());
    }
}
