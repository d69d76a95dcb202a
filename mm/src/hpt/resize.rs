// SPDX-License-Identifier: Apache-2.0 OR MIT
//! H_RESIZE_HPT_PREPARE and H_RESIZE_HPT_COMMIT: a partition changes the size of its table.
//!
//! PREPARE makes an empty table beside the one in use, which may take many calls; COMMIT fills it
//! and puts it in the other's place, in one. This file decides what each call answers and which
//! entry goes where; [`ResizeTables`] does the rest.
//!
//! # What PREPARE answers
//! In this order: H_AUTHORITY where the partition may not resize. With a pending table of just this
//! size, and no flags: H_LONG_BUSY_ORDER_1_MSEC while it is not prepared, else H_SUCCESS. Any other
//! pending table is given up, whatever follows: H_PARAMETER for flags, H_SUCCESS for size 0,
//! H_PARAMETER for a size outside 18 to 46, H_RESOURCE for one that the partition may not have or
//! that there is no memory for. Then the table is begun: H_LONG_BUSY_ORDER_1_MSEC or, if it is
//! prepared at once, H_SUCCESS.
//!
//! # What COMMIT answers
//! H_AUTHORITY as above. H_CLOSED without a pending table, with flags, or with another size than
//! the pending table's, which stays. H_BUSY while that is not prepared. H_PTEG_FULL where two bolted
//! entries need one place: the table in use stays as it is and the pending one is given up. Else
//! H_SUCCESS. It never answers H_LONG_BUSY: a guest calls it with all its processors stopped.
//!
//! # Which entries are kept
//! Guests keep an entry's slot number and whether it is in its secondary group in page tables of
//! their own. So an entry keeps both or is dropped, and only its group changes. Bolted entries come
//! first; of two bolted ones that need one place none may be dropped, so there is no resize. Of two
//! others the one with the lower number stays. An entry that no search finds, for it is not in a
//! group of its hash, has no place in the new table and is dropped, bolted or not.
//!
//! The real mode area's entries are the hypervisor's own and come back by themselves at a fault. Of
//! two of these the first stays, as when a table is made; against a guest's they count as bolted.
//!
//! # Decided between readings
//! LoPAR discards a pending table before it looks at flags, QEMU after. LoPAR answers COMMIT's flags
//! with H_CLOSED, QEMU with H_PARAMETER. LoPAR does not say what becomes of the pending table after
//! H_PTEG_FULL; "the platform is permitted to discard a pending HPT at any time", and QEMU does.
//! LoPAR's `shift` has 32 bits in a register of 64, all of which count here. H_LONG_BUSY's time is
//! an estimate of what is left, but here the work is done in the calls, so the shortest is honest.
//!
//! LoPAR, Hash Page Table Resize Option.

mod tables;

use super::HptOrder;
use super::clear_hpt::is_real_mode;
use crate::status::HcallStatus;
use penstock_arch::hash::{HpteIndex, HpteR, HpteV, rehash};

pub(super) use tables::Pending;

/// Smallest and largest table that LoPAR knows, binary logarithm of bytes.
const SHIFTS: core::ops::RangeInclusive<u64> = 18..=46;

/// How far a pending table is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Progress {
    /// Not prepared yet.
    More,
    /// Empty and ready.
    Done,
}

/// A partition's table, and pending ones beside it.
pub trait ResizeTables {
    /// A table that is not in use.
    type Pending;

    /// The size of the table in use.
    fn order(&self) -> HptOrder;

    /// Takes memory for a table; it need not be empty yet. `None` if there is too little.
    fn allocate(&mut self, order: HptOrder) -> Option<Self::Pending>;

    /// Does a bounded piece of the work of making it empty.
    fn prepare_some(&mut self, pending: &mut Self::Pending) -> Progress;

    /// Gives its memory back.
    fn discard(&mut self, pending: Self::Pending);

    /// Sees to it that no processor uses the table in use until [`Self::swap`] or
    /// [`Self::resume`], so that R and C in it are final.
    fn hold(&mut self);

    /// Ends [`Self::hold`], the table in use being the same.
    fn resume(&mut self);

    /// The first entry that the guest has from index `from` on of the table in use, if any. Called between
    /// [`Self::hold`] and its end.
    fn next_entry(&self, from: u64) -> Option<(HpteIndex, HpteV, HpteR)>;

    /// What has been moved to `index` of the pending table, if anything.
    fn moved(&self, pending: &Self::Pending, index: HpteIndex) -> Option<(HpteV, HpteR)>;

    /// Puts the entry at `from` of the table in use to `to` of the pending one, in the place of
    /// what was moved there before. The table in use does not change.
    fn move_entry(&mut self, pending: &mut Self::Pending, from: HpteIndex, to: HpteIndex);

    /// Makes the pending table the one in use, ends [`Self::hold`], and returns the other.
    fn swap(&mut self, pending: Self::Pending) -> Self::Pending;
}

/// What became of the entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rehashed {
    /// Entries in the new table.
    pub kept: u64,
    /// Entries whose place another one has.
    pub displaced: u64,
    /// Entries that no search found.
    pub misplaced: u64,
}

/// How often a partition has resized its table, and what became of the entries altogether.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ResizeCounts {
    /// Commits that answered H_SUCCESS.
    pub commits: u64,
    /// Entries of all of them.
    pub entries: Rehashed,
}

/// The state of a partition's resize.
#[derive(Debug)]
pub struct Resize<P> {
    /// The largest table that the partition may have; `None` where it may not resize.
    limit: Option<HptOrder>,
    pending: Option<Prepared<P>>,
    counts: ResizeCounts,
}

#[derive(Debug)]
struct Prepared<P> {
    order: HptOrder,
    table: P,
    progress: Progress,
}

impl<P> Resize<P> {
    /// No pending table; one of at most `limit` may be made, or none.
    #[must_use]
    pub const fn new(limit: Option<HptOrder>) -> Self {
        Self {
            limit,
            pending: None,
            counts: ResizeCounts {
                commits: 0,
                entries: Rehashed {
                    kept: 0,
                    displaced: 0,
                    misplaced: 0,
                },
            },
        }
    }

    /// What was done so far.
    #[must_use]
    pub const fn counts(&self) -> ResizeCounts {
        self.counts
    }

    /// H_RESIZE_HPT_PREPARE.
    pub fn prepare(
        &mut self,
        tables: &mut impl ResizeTables<Pending = P>,
        flags: u64,
        shift: u64,
    ) -> HcallStatus {
        let Some(limit) = self.limit else {
            return HcallStatus::AUTHORITY;
        };
        if flags != 0 || !self.is_for(shift) {
            self.discard(tables);
        }
        if flags != 0 {
            return HcallStatus::PARAMETER;
        }
        if self.pending.is_none() {
            if shift == 0 {
                return HcallStatus::SUCCESS;
            }
            if !SHIFTS.contains(&shift) {
                return HcallStatus::PARAMETER;
            }
            let order = u32::try_from(shift).ok().and_then(HptOrder::new);
            let Some(order) = order.filter(|order| *order <= limit) else {
                return HcallStatus::RESOURCE;
            };
            let Some(table) = tables.allocate(order) else {
                return HcallStatus::RESOURCE;
            };
            self.pending = Some(Prepared {
                order,
                table,
                progress: Progress::More,
            });
        }
        match self.work(tables) {
            Progress::More => HcallStatus::LONG_BUSY_ORDER_1_MSEC,
            Progress::Done => HcallStatus::SUCCESS,
        }
    }

    /// Does a piece of a pending table's preparation, for PREPARE and for whoever has time.
    pub fn work(&mut self, tables: &mut impl ResizeTables<Pending = P>) -> Progress {
        match &mut self.pending {
            Some(pending) if pending.progress == Progress::More => {
                pending.progress = tables.prepare_some(&mut pending.table);
                pending.progress
            }
            _ => Progress::Done,
        }
    }

    /// Whether a commit would exchange the tables, unless two bolted entries meet.
    ///
    /// # Errors
    /// What to answer instead.
    pub fn check_commit(&self, flags: u64, shift: u64) -> Result<(), HcallStatus> {
        if self.limit.is_none() {
            return Err(HcallStatus::AUTHORITY);
        }
        if flags != 0 || !self.is_for(shift) {
            return Err(HcallStatus::CLOSED);
        }
        match &self.pending {
            Some(pending) if pending.progress == Progress::Done => Ok(()),
            _ => Err(HcallStatus::BUSY),
        }
    }

    /// H_RESIZE_HPT_COMMIT; what became of the entries.
    ///
    /// # Errors
    /// What to answer instead of H_SUCCESS; the table in use is the same.
    pub fn commit(
        &mut self,
        tables: &mut impl ResizeTables<Pending = P>,
        flags: u64,
        shift: u64,
    ) -> Result<Rehashed, HcallStatus> {
        self.check_commit(flags, shift)?;
        let Some(mut pending) = self.pending.take() else {
            return Err(HcallStatus::BUSY);
        };
        tables.hold();
        match fill(tables, &mut pending.table, pending.order) {
            Ok(rehashed) => {
                let old = tables.swap(pending.table);
                tables.discard(old);
                self.count(rehashed);
                Ok(rehashed)
            }
            Err(TwoBolted) => {
                tables.resume();
                tables.discard(pending.table);
                Err(HcallStatus::PTEG_FULL)
            }
        }
    }

    fn count(&mut self, by: Rehashed) {
        let ResizeCounts { commits, entries } = &mut self.counts;
        *commits = commits.saturating_add(1);
        for (sum, more) in [
            (&mut entries.kept, by.kept),
            (&mut entries.displaced, by.displaced),
            (&mut entries.misplaced, by.misplaced),
        ] {
            *sum = sum.saturating_add(more);
        }
    }

    /// Gives up a pending table: the partition starts over, or ends.
    pub fn discard(&mut self, tables: &mut impl ResizeTables<Pending = P>) {
        if let Some(pending) = self.pending.take() {
            tables.discard(pending.table);
        }
    }

    /// Whether there is a pending table of `1 << shift` bytes.
    fn is_for(&self, shift: u64) -> bool {
        self.pending
            .as_ref()
            .is_some_and(|pending| u64::from(pending.order.get()) == shift)
    }
}

/// Two bolted entries need one place.
struct TwoBolted;

/// How strong the claim of an entry to its place is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Claim {
    Unbolted,
    Bolted,
    RealMode,
}

impl Claim {
    const fn of(v: HpteV, r: HpteR) -> Self {
        if v.get() & HpteV::BOLTED == 0 {
            Self::Unbolted
        } else if is_real_mode(v, r) {
            Self::RealMode
        } else {
            Self::Bolted
        }
    }
}

/// Fills a pending table of size `order` from the one in use.
fn fill<T: ResizeTables>(
    tables: &mut T,
    pending: &mut T::Pending,
    order: HptOrder,
) -> Result<Rehashed, TwoBolted> {
    let old = tables.order();
    let mut rehashed = Rehashed::default();
    let mut next = 0;
    while let Some((from, v, r)) = tables.next_entry(next) {
        next = from.get() + 1;
        let Some(to) = rehash(v, r, from, old.get(), order.get()) else {
            rehashed.misplaced += 1;
            continue;
        };
        let holder = tables.moved(pending, to).map(|(v, r)| Claim::of(v, r));
        match (holder, Claim::of(v, r)) {
            (None, _) => {
                tables.move_entry(pending, from, to);
                rehashed.kept += 1;
            }
            (Some(_), Claim::Unbolted) | (Some(Claim::RealMode), Claim::RealMode) => {
                rehashed.displaced += 1;
            }
            (Some(Claim::Unbolted), Claim::Bolted | Claim::RealMode) => {
                tables.move_entry(pending, from, to);
                rehashed.displaced += 1;
            }
            (Some(Claim::Bolted | Claim::RealMode), Claim::Bolted)
            | (Some(Claim::Bolted), Claim::RealMode) => return Err(TwoBolted),
        }
    }
    Ok(rehashed)
}

#[cfg(test)]
mod tests;
