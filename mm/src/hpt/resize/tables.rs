// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A partition's own two tables: the one in use, and the memory beside it.
//!
//! Both tables belong to [`HashMmu`] from its beginning to its end, and change places at a commit.
//! Each has memory for the largest size that the partition may have, and uses the beginning of it. So
//! every size up to that can be prepared at any time, and no resize fails for memory. What was pending
//! last leaves nothing behind but stale entries that the next PREPARE clears.
//!
//! # Commit
//! All translations are flushed first, so that R and C are final and nothing writes them any more.
//! Then the new table is filled, by stores that no processor sees. Up to here nothing has changed,
//! and a conflict of bolted entries leaves all as it was. Then what has no place in the new table is
//! removed from the old one as H_REMOVE does it: out of its ring, its R and C noted, its absence
//! uncounted. What is left in the rings is what was moved, and gets its new numbers there.
//!
//! An entry keeps both doublewords and the guest's own: none of them depends on its number.

use super::{Progress, Rehashed, ResizeCounts, ResizeTables};
use crate::hpt::guard::{Batch, Quiesced};
use crate::hpt::refresh::RangeGuard;
use crate::hpt::ring::Ring;
use crate::hpt::table::{HPTE_BYTES, Table};
use crate::hpt::{HashMmu, HptOrder};
use crate::page_ops::Machine;
use crate::status::HcallStatus;
use core::sync::atomic::Ordering;
use penstock_arch::hash::{HpteIndex, HpteR, HpteV, Pate, rehash};

/// Bytes of entries, and as many of the reverse map, that one call clears.
const CLEARED_AT_ONCE: u64 = 8 << 20;

/// Entries that are removed together.
const BATCH: usize = 64;

/// The table that is not in use, and how much of it is clear.
#[derive(Debug)]
pub(in crate::hpt) struct Pending {
    cleared: u64,
}

/// The two tables while a call works on them.
struct Tables<'a, M: Machine, F> {
    mmu: &'a HashMmu<M>,
    /// Nobody else has entries hidden.
    held: Option<RangeGuard<'a>>,
    /// Tells the hardware of the new table.
    publish: Option<F>,
}

impl<M: Machine> HashMmu<M> {
    /// H_RESIZE_HPT_PREPARE: begins, continues or gives up a table of `1 << shift` bytes.
    pub fn h_resize_hpt_prepare(&self, flags: u64, shift: u64) -> HcallStatus {
        let mut tables = self.tables(None::<fn(Option<Pate>)>);
        self.resize.lock().prepare(&mut tables, flags, shift)
    }

    /// H_RESIZE_HPT_COMMIT: moves all entries to the prepared table, and puts it in the other's
    /// place. `publish` makes the hardware use it, by the partition table entry that it is given,
    /// and is called exactly if the answer is not an error. No vCPU of the partition may be in the
    /// guest, and nobody else in a call for this partition.
    ///
    /// # Errors
    /// What to answer instead of H_SUCCESS; the table in use is the same.
    pub fn h_resize_hpt_commit(
        &self,
        flags: u64,
        shift: u64,
        publish: impl FnOnce(Option<Pate>),
    ) -> Result<Rehashed, HcallStatus> {
        let mut tables = self.tables(Some(publish));
        self.resize.lock().commit(&mut tables, flags, shift)
    }

    /// Whether [`Self::h_resize_hpt_commit`] would do more than to answer.
    ///
    /// # Errors
    /// What it would answer.
    pub fn check_resize_commit(&self, flags: u64, shift: u64) -> Result<(), HcallStatus> {
        self.resize.lock().check_commit(flags, shift)
    }

    /// How often the table was resized since the partition was made.
    pub fn resize_counts(&self) -> ResizeCounts {
        self.resize.lock().counts()
    }

    /// Gives up a pending table, and goes back to the first one in its first size. The table in use
    /// has no entries.
    pub(in crate::hpt) fn start_over(&self) {
        let mut tables = self.tables(None::<fn(Option<Pate>)>);
        self.resize.lock().discard(&mut tables);
        if self.on_spare.load(Ordering::Relaxed) || self.first.order() != self.first_order {
            // It had this size before.
            let _ = self.first.set_order(self.first_order);
            self.first.clear(self.machine());
            self.on_spare.store(false, Ordering::Release);
        }
    }

    const fn tables<F: FnOnce(Option<Pate>)>(&self, publish: Option<F>) -> Tables<'_, M, F> {
        Tables {
            mmu: self,
            held: None,
            publish,
        }
    }

    /// The table that is not in use.
    fn other_table(&self) -> Option<&Table> {
        let spare = self.spare.as_ref()?;
        Some(if self.on_spare.load(Ordering::Relaxed) {
            &self.first
        } else {
            spare
        })
    }

    /// Tells all that keep entries' numbers, which are different from now on: readers of the stream,
    /// to whom every entry may have changed, idle processors, and what processors have cached.
    fn after_resize(&self) {
        self.changes.mark_all();
        self.looked.begin_anew();
        self.flush_partition();
    }
}

/// Removes an entry whose translation is flushed.
fn finish<M: Machine>(entry: Quiesced<'_, M>, (): ()) {
    entry.remove();
}

/// All entries of a table but free ones.
fn all(table: &Table) -> impl Iterator<Item = HpteIndex> {
    table.in_use(0..table.count())
}

impl<M: Machine, F: FnOnce(Option<Pate>)> Tables<'_, M, F> {
    /// Removes the entries of the table in use that were not moved.
    fn remove_the_rest(&self, new: &Table) {
        let mmu = self.mmu;
        let (from_order, to_order) = (mmu.order().get(), new.order().get());
        let mut batch = Batch::<M, (), BATCH>::new(mmu);
        for from in all(mmu.table()) {
            let entry = mmu.table().entry(from);
            let v = entry.load_v();
            if !v.is_present() {
                continue;
            }
            let to = rehash(v, entry.load_r(), from, from_order, to_order);
            let moved = to.map(|to| new.entry(to));
            if moved.is_some_and(|moved| moved.load_v().is_present() && moved.next() == from) {
                continue;
            }
            let guard = mmu.try_lock(from).unwrap_or_else(|| {
                batch.flush_partition(finish);
                mmu.lock(from)
            });
            let r = guard.r();
            if guard.v().is_valid() {
                if batch.is_full() {
                    batch.flush_partition(finish);
                }
                batch.hide(guard, r, (), finish);
            } else {
                finish(guard.quiesce(r), ());
            }
        }
        batch.flush_partition(finish);
    }

    /// Makes the rings hold the entries of `new`, each of which was in the ring of its page.
    fn link_again(&self, new: &Table) {
        let each_head = |work: &mut dyn FnMut(&mut Ring<'_>, HpteIndex)| {
            for index in all(new) {
                let entry = new.entry(index);
                let v = entry.load_v();
                if v.is_present()
                    && let Some((slot, offset)) = self.mmu.ring_of(v, entry.load_rev())
                    && let Some(head) = slot.head(offset)
                {
                    work(&mut Ring::lock(head), index);
                }
            }
        };
        each_head(&mut |ring, _| ring.empty());
        each_head(&mut |ring, index| ring.link(new, new.entry(index)));
    }
}

impl<M: Machine, F: FnOnce(Option<Pate>)> ResizeTables for Tables<'_, M, F> {
    type Pending = Pending;

    fn order(&self) -> HptOrder {
        self.mmu.order()
    }

    fn allocate(&mut self, order: HptOrder) -> Option<Pending> {
        let fits = self.mmu.other_table()?.set_order(order);
        fits.then_some(Pending { cleared: 0 })
    }

    fn prepare_some(&mut self, pending: &mut Pending) -> Progress {
        let Some(table) = self.mmu.other_table() else {
            return Progress::Done;
        };
        table.clear_some(self.mmu.machine(), pending.cleared, CLEARED_AT_ONCE);
        pending.cleared += CLEARED_AT_ONCE;
        if pending.cleared < table.order().bytes() {
            Progress::More
        } else {
            Progress::Done
        }
    }

    fn discard(&mut self, Pending { .. }: Pending) {
        // The memory stays where it is, and is cleared before it is used.
    }

    fn hold(&mut self) {
        // It takes its time, in which others may have something to hide.
        self.mmu.veil_more(1);
        self.held = Some(self.mmu.lock_range());
        self.mmu.flush_partition();
    }

    fn resume(&mut self) {
        self.held = None;
        self.mmu.veil_less(1);
    }

    fn next_entry(&self, from: u64) -> Option<(HpteIndex, HpteV, HpteR)> {
        let table = self.mmu.table();
        table.in_use(from..table.count()).find_map(|index| {
            let entry = table.entry(index);
            let v = entry.load_v();
            v.is_present().then(|| (index, v, entry.load_r()))
        })
    }

    fn moved(&self, _: &Pending, index: HpteIndex) -> Option<(HpteV, HpteR)> {
        let entry = self.mmu.other_table()?.entry(index);
        let v = entry.load_v();
        v.is_present().then(|| (v, entry.load_r()))
    }

    fn move_entry(&mut self, _: &mut Pending, from: HpteIndex, to: HpteIndex) {
        let old = self.mmu.table().entry(from);
        if let Some(new) = self.mmu.other_table() {
            let (v, r) = (old.load_v().without(HpteV::HVLOCK), old.load_r());
            new.entry(to).fill(v, r, old.load_rev(), from);
        }
    }

    fn swap(&mut self, pending: Pending) -> Pending {
        let mmu = self.mmu;
        if let Some(new) = mmu.other_table() {
            self.remove_the_rest(new);
            self.link_again(new);
            // What the new table holds is there before anybody is told of it.
            mmu.machine().ptesync();
            mmu.on_spare.fetch_xor(true, Ordering::AcqRel);
            if let Some(publish) = self.publish.take() {
                publish(mmu.pate());
            }
            mmu.after_resize();
        }
        self.resume();
        pending
    }
}

const _: () = assert!(CLEARED_AT_ONCE.is_multiple_of(crate::page_ops::CACHE_BLOCK * HPTE_BYTES));
