// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which entries map a page of a device, for whoever looks.
//!
//! The rings of the page's granules have them. A guest can map one page by as many entries as its table
//! has, so a look ends after [`MOST_MAPPINGS`] of them. It takes no entry's lock, and keeps a head's for
//! so many links at most.

use super::HashMmu;
use super::ring::{Ring, is_idle};
use crate::guest_memory::SlotId;
use crate::page_ops::Machine;
use crate::real::PIECE;
use crate::slot::GRANULE;
use arrayvec::ArrayVec;
use penstock_arch::hash::HpteIndex;

/// Entries of a page that are named.
pub const NAMED_MAPPINGS: usize = 4;

/// Entries of a page that are counted.
pub const MOST_MAPPINGS: u64 = 256;

/// The entries that map a page, from any granule of it on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mappings {
    /// Some of them.
    pub named: ArrayVec<HpteIndex, NAMED_MAPPINGS>,
    /// How many there are, [`MOST_MAPPINGS`] where there may be more.
    pub count: u64,
}

impl<M: Machine> HashMmu<M> {
    /// The entries for the page of a device that lies at `offset` into a slot of devices, whether there
    /// is such a page or not yet. `None` where there is no such slot.
    #[must_use]
    pub fn device_mappings(&self, slot: SlotId, offset: u64) -> Option<Mappings> {
        let slot = self.memory.slot(slot)?;
        if !slot.pieces().is_device() || offset >= slot.bytes() {
            return None;
        }
        let mut found = Mappings::default();
        // The table is not exchanged meanwhile.
        let _same_table = self.lock_range();
        // No page of a device is larger than a piece, so no ring of another piece has any.
        let first = offset / PIECE * PIECE;
        let granules = (0..PIECE / GRANULE).map(|number| first + number * GRANULE);
        for head in granules.filter_map(|at| slot.head(at)) {
            // Most granules of most pages have none.
            if is_idle(head) {
                continue;
            }
            let ring = Ring::lock(head);
            let Some(first) = ring.first() else {
                continue;
            };
            let mut index = first;
            loop {
                if found.count == MOST_MAPPINGS {
                    return Some(found);
                }
                found.count += 1;
                let _ = found.named.try_push(index);
                index = self.table().entry(index).next();
                if index == first {
                    break;
                }
            }
        }
        Some(found)
    }
}
