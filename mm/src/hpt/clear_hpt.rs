// SPDX-License-Identifier: Apache-2.0 OR MIT
//! H_CLEAR_HPT: removes every entry but those of the virtualized real mode area, for an operating
//! system that starts another one over itself.
//!
//! Entries are hidden and stay locked until a batch is full; then one invalidation of all that the
//! partition has serves for the batch. A second entry is only tried to lock, as in H_BULK_REMOVE.
//! So the call does no harm to other processors of the partition that, against LoPAR's advice, use
//! the table meanwhile; what they enter behind the sweep stays.
//!
//! A call does a bounded piece of work and says where the next one goes on: LoPAR has H_CONTINUE
//! for it.
//!
//! LoPAR, H_CLEAR_HPT; Reserved Virtual Addresses.

use super::HashMmu;
use super::guard::{Batch, HpteGuard, Quiesced};
use crate::page_ops::Machine;
use penstock_arch::hash::{HPTES_PER_GROUP, HpteIndex, HpteR, HpteV, VRMA_SEGMENT, VRMA_VSID};

/// Entries that are hidden together.
pub(super) const BATCH: usize = 64;

/// Most entries that one call looks at: a table of 8 MiB.
const LOOKED_AT: u64 = 1 << 19;

/// Most entries that one call removes, but for the rest of a group.
const REMOVED: u64 = 1 << 14;

/// Whether an entry maps guest real mode.
pub(super) const fn is_real_mode(v: HpteV, r: HpteR) -> bool {
    let segment = r.segment();
    let vsid = (v.get() & HpteV::AVPN) >> (segment.shift() - 16);
    segment.b() == VRMA_SEGMENT.b() && vsid == VRMA_VSID
}

/// Removes an entry whose translation is flushed.
pub(super) fn finish<M: Machine>(entry: Quiesced<'_, M>, (): ()) {
    entry.remove();
}

impl<M: Machine> HashMmu<M> {
    /// A step of H_CLEAR_HPT, from entry `from` on.
    ///
    /// Returns the entry that the next step begins with, or `None` when all are done; then no
    /// processor has any translation of the partition any more.
    pub fn h_clear_hpt(&self, from: u64) -> Option<u64> {
        self.clear_some(from, LOOKED_AT, REMOVED)
    }

    pub(super) fn clear_some(&self, from: u64, look_at: u64, remove: u64) -> Option<u64> {
        let mut batch = Batch::<M, (), BATCH>::new(self);
        let mut removed = 0;
        let first = from & !(HPTES_PER_GROUP - 1);
        let end = first.saturating_add(look_at).min(self.table().count());
        let mut at = first;
        while at < end && removed < remove {
            // Most groups of a large table are free, and need no lock to be seen so.
            if !self.table().is_group_free(HpteIndex::new(at)) {
                for slot in 0..HPTES_PER_GROUP {
                    let index = HpteIndex::new(at + slot);
                    removed += self.clear_one(&mut batch, index, is_real_mode);
                }
            }
            at += HPTES_PER_GROUP;
        }
        batch.flush_partition(finish);
        if at < self.table().count() {
            return Some(at);
        }
        self.flush_partition();
        None
    }

    /// Removes an entry, now or with the batch, unless `keeps` wants it. How many entries were removed:
    /// one or none.
    pub(super) fn clear_one<'a>(
        &'a self,
        batch: &mut Batch<'a, M, (), BATCH>,
        index: HpteIndex,
        keeps: impl Fn(HpteV, HpteR) -> bool,
    ) -> u64 {
        if self.table().entry(index).load_v().get() == 0 {
            return 0;
        }
        let guard: HpteGuard<'a, M> = match self.try_lock(index) {
            Some(guard) => guard,
            None => {
                batch.flush_partition(finish);
                self.lock(index)
            }
        };
        let (v, r) = (guard.v(), guard.r());
        if !v.is_present() || keeps(v, r) {
            return 0;
        }
        if v.is_valid() {
            if batch.is_full() {
                batch.flush_partition(finish);
            }
            batch.hide(guard, r, (), finish);
        } else {
            finish(guard.quiesce(r), ());
        }
        1
    }
}
