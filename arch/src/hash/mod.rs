// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The architected formats of the hash MMU, without behaviour.
//!
//! A hashed page table (HPT) entry has two layouts. A PAPR guest writes the one of ISA 2.07:
//! segment size B at the top of doubleword 0, guest real addresses ([`GuestHpteV`],
//! [`GuestHpteR`]). POWER9 and POWER10 read the one of ISA 3.0: B in doubleword 1, and the upper
//! twelve bits of doubleword 0 ignored, for virtual addresses have 68 bits ([`HpteV`],
//! [`HpteR`]). The two are different types, and only functions that say so convert one into the
//! other.
//!
//! Power ISA 3.0B, Book III, Virtual to Real Translation, Page Table; LoPAR, Page Frame Table
//! Access.

mod guest;
mod hashing;
mod hpte;
mod page_size;
mod pate;
mod permission;
mod rehash;
mod segment;
mod tlbie;

pub use guest::{GuestHpteR, GuestHpteV};
pub use hashing::{HPTES_PER_GROUP, HpteIndex, pteg_hash};
pub use hpte::{HpteR, HpteV};
pub use page_size::{PageEncoding, PageSize, SegmentSize};
pub use pate::Pate;
pub use permission::{KeyMask, PagePerm, SegmentKey, StorageKey};
pub use rehash::{EntryPage, rehash};
pub use segment::{Asdr, PrivilegeState, VRMA_SEGMENT, VRMA_VSID};
pub use tlbie::TlbieRb;

/// A logical partition's number, as LPIDR and the partition table have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lpid(u32);

impl Lpid {
    /// The hypervisor's own: no partition has it, and nothing is translated under it.
    pub const HYPERVISOR: Self = Self(0);

    /// The partition with this number.
    #[must_use]
    pub const fn new(value: u32) -> Self {
        Self(value)
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }
}
