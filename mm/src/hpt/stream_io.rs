// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The table as a stream: what a partition is saved as, and made again from.
//!
//! A reader may work while the partition runs. It is known to the change log before it looks at
//! anything, and looks at an entry with its lock held. R and C that the processor set since they
//! were collected are a change that nobody has marked: before they are told they go into the guest's
//! doubleword 1, which marks the entry for all other readers. So what was told is always what that
//! doubleword held then, and whoever changes it later, or clears R or C, marks. Looking for such R
//! and C takes no lock: what is missed is found in the next pass, for it stays until somebody
//! collects it.
//!
//! A stream is put in only while no virtual processor runs. Every entry passes the checks of H_ENTER
//! before the first is changed.
//!
//! Guest real mode is translated by entries of one page size, which the partition table entry names. So
//! a stream also decides that: it becomes the size of the stream's first entry of the real mode area,
//! if it has any. The backing must be able to honour it. Entries of other sizes are the guest's like any
//! other, and translate nothing.
//!
//! Linux, Documentation/virt/kvm/api.rst, KVM_PPC_GET_HTAB_FD.

use super::changes::ReaderId;
use super::clear_hpt::{self, BATCH};
use super::guard::{Batch, HpteGuard};
use super::{HashMmu, VcpusAre};
use crate::page_ops::Machine;
use crate::status::HcallStatus;
use crate::stream::{ApplyError, GuestHpte, HptSink, HptSource, ParsedStream};
use penstock_arch::hash::{GuestHpteR, HpteIndex, PageSize, Pate, TlbieRb};

/// One reader of a partition's table. Dropping it makes place for another.
#[derive(Debug)]
pub struct HptReader<'a, M: Machine> {
    mmu: &'a HashMmu<M>,
    /// `None` only while it is dropped.
    id: Option<ReaderId>,
}

/// A reader that is set aside between two pieces of its stream, when nothing may borrow the table.
/// Dropping it keeps its place in the change log as long as the table lives: see
/// [`HashMmu::close_reader`].
#[derive(Debug)]
#[must_use = "a reader that is dropped keeps its place"]
pub struct OpenReader(ReaderId);

/// Why a stream was not put into a partition's table. The table is as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestoreError {
    /// Virtual processors may be in the guest.
    Running,
    /// The stream was checked for a table of another size.
    OtherTable {
        /// Entries that it was checked for.
        stream: u64,
        /// Entries of the table.
        table: u64,
    },
    /// The stream's real mode area has larger pages than what backs this partition's.
    RealModePageTooLarge {
        /// The stream's.
        stream: PageSize,
        /// The largest that the partition may have.
        largest: PageSize,
    },
    /// The partition cannot hold an entry; the reason is what H_ENTER would answer.
    Entry(ApplyError<HcallStatus>),
}

impl core::fmt::Display for RestoreError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Running => f.write_str("virtual processors may be running"),
            Self::OtherTable { stream, table } => write!(
                f,
                "a stream for {stream:#x} entries, and a table of {table:#x}"
            ),
            Self::RealModePageTooLarge { stream, largest } => write!(
                f,
                "real mode has pages of {:#x} bytes in the stream, and here of {:#x} at most",
                stream.bytes(),
                largest.bytes()
            ),
            Self::Entry(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for RestoreError {}

impl<M: Machine> HashMmu<M> {
    /// A reader of the table before its first pass; `None` where there are as many as there can be
    /// ([`super::changes::READERS`]). From now on it is told of changes.
    #[must_use]
    pub fn reader(&self) -> Option<HptReader<'_, M>> {
        let id = Some(self.changes.open()?);
        Some(HptReader { mmu: self, id })
    }

    /// The reader that was [set aside](HptReader::set_aside) from this table.
    #[must_use]
    pub const fn take_up(&self, reader: OpenReader) -> HptReader<'_, M> {
        HptReader {
            mmu: self,
            id: Some(reader.0),
        }
    }

    /// Ends a reader that was set aside.
    pub fn close_reader(&self, reader: OpenReader) {
        self.changes.close(reader.0);
    }

    /// Drops up to `count` entries from number `from` on, those of the real mode area too, which come
    /// back at their first fault; the entry to go on with, `None` at the end.
    ///
    /// # Errors
    /// [`RestoreError::Running`]; then the table is as it was.
    pub fn drop_entries(
        &self,
        from: u64,
        count: u64,
        vcpus: VcpusAre,
    ) -> Result<Option<u64>, RestoreError> {
        match vcpus {
            VcpusAre::Running => return Err(RestoreError::Running),
            VcpusAre::Stopped => {}
        }
        let end = from.saturating_add(count).min(self.entries());
        self.clear_range(from, end);
        Ok((end < self.entries()).then_some(end))
    }

    fn clear_range(&self, first: u64, end: u64) {
        let mut batch = Batch::<M, (), BATCH>::new(self);
        for index in self.table().in_use(first..end) {
            self.clear_one(&mut batch, index, |_, _| false);
        }
        batch.flush_partition(clear_hpt::finish);
    }

    /// Makes processors forget the translations of these entries, each by itself, as far as the table
    /// has them: [`FLUSH_ALL_ABOVE`](super::FLUSH_ALL_ABOVE) says when all at once is cheaper.
    pub fn invalidate_entries(&self, entries: impl IntoIterator<Item = u64>) {
        let operands = entries.into_iter().filter_map(|number| {
            let index = self.index(number).ok()?;
            let entry = self.table().entry(index);
            let v = entry.load_v();
            // What is hidden was flushed by whoever hid it, or is by whoever meets it.
            v.is_valid().then(|| TlbieRb::of(v, entry.load_r(), index))
        });
        self.flush(operands);
    }

    /// Puts a stream into the table: all of it or nothing. Where it has no entries of the real mode
    /// area, they come back at their first fault; where it has, real mode gets the page size of the
    /// first. If that is another one than before, the partition table must be told before a virtual
    /// processor runs: `publish` is called with the new entry, once, after all else is done.
    ///
    /// # Errors
    /// [`RestoreError`]; then the table and the page size are as they were, and `publish` is not called.
    pub fn restore(
        &self,
        stream: &ParsedStream<'_>,
        vcpus: VcpusAre,
        publish: impl FnOnce(Option<Pate>),
    ) -> Result<(), RestoreError> {
        match vcpus {
            VcpusAre::Running => return Err(RestoreError::Running),
            VcpusAre::Stopped => {}
        }
        if stream.entries() != self.entries() {
            return Err(RestoreError::OtherTable {
                stream: stream.entries(),
                table: self.entries(),
            });
        }
        let before = self.vrma_page();
        let page = stream.vrma_page().unwrap_or(before);
        // Pages that come back at a fault are of this size too.
        let largest = self.memory.ram().largest();
        if page > largest {
            return Err(RestoreError::RealModePageTooLarge {
                stream: page,
                largest,
            });
        }
        stream
            .apply(&mut Writer(self))
            .map_err(RestoreError::Entry)?;
        if page != before {
            self.real_mode.set_page(page);
            publish(self.pate());
        }
        Ok(())
    }
}

impl<M: Machine> HptReader<'_, M> {
    /// Lets go of the table until the reader is [taken up](HashMmu::take_up) again; changes are marked
    /// for it all the while. `None` never: only a reader that is being dropped has no place.
    #[must_use]
    pub fn set_aside(mut self) -> Option<OpenReader> {
        self.id.take().map(OpenReader)
    }

    /// To be called before the last pass: with the virtual processors stopped, processors are made to
    /// store the R and C that they hold back, and the pass tells all that there is.
    pub fn before_pass(&self, vcpus: VcpusAre) {
        match vcpus {
            VcpusAre::Running => {}
            VcpusAre::Stopped => self.mmu.flush_partition(),
        }
    }

    fn is_in_table(&self, index: HpteIndex) -> bool {
        index.get() < self.mmu.entries()
    }

    /// Whether the processor seems to have set R or C that were not collected.
    fn has_uncollected(&self, index: HpteIndex) -> bool {
        let entry = self.mmu.table().entry(index);
        entry.load_v().is_present() && entry.load_r().rc() & !entry.load_rev().get() != 0
    }

    /// Collects R and C of an entry that is there. Whether that changed what was told of it; then no
    /// mark of it is left for this reader, who is about to tell it.
    fn collect(&self, guard: &HpteGuard<'_, M>, index: HpteIndex) -> bool {
        let guest_r = guard.guest_r().get();
        let rc = guard.r().rc();
        if rc & !guest_r == 0 {
            return false;
        }
        // Marks for all readers.
        guard.set_guest_r(GuestHpteR::new(guest_r | rc));
        if let Some(id) = &self.id {
            self.mmu.changes.take(id, index);
        }
        true
    }
}

impl<M: Machine> HptSource for HptReader<'_, M> {
    fn entries(&self) -> u64 {
        self.mmu.entries()
    }

    fn take_changed(&mut self, index: HpteIndex) -> bool {
        let Some(id) = self.id.as_ref().filter(|_| self.is_in_table(index)) else {
            return false;
        };
        let marked = self.mmu.changes.take(id, index);
        if !self.has_uncollected(index) {
            return marked;
        }
        // The table is not exchanged meanwhile.
        let _same_table = self.mmu.lock_range();
        let guard = self.mmu.lock(index);
        let collected =
            self.is_in_table(index) && guard.v().is_present() && self.collect(&guard, index);
        marked || collected
    }

    fn entry(&mut self, index: HpteIndex) -> Option<GuestHpte> {
        let _same_table = self.mmu.lock_range();
        if !self.is_in_table(index) {
            return None;
        }
        let guard = self.mmu.lock(index);
        if !guard.v().is_present() {
            return None;
        }
        // What is told is what is collected, or a later change would not be one.
        self.collect(&guard, index);
        Some(GuestHpte {
            v: guard.guest_v(),
            r: guard.guest_r(),
        })
    }

    fn next_changed(&mut self, from: u64, end: u64) -> u64 {
        let end_of_table = end.min(self.mmu.entries());
        let marked = match &self.id {
            Some(id) => self.mmu.changes.next_marked(id, from, end_of_table),
            None => end_of_table,
        };
        let mut in_use = self.mmu.table().in_use(from..marked);
        in_use
            .find(|index| self.has_uncollected(*index))
            .map_or(marked, HpteIndex::get)
    }
}

impl<M: Machine> Drop for HptReader<'_, M> {
    fn drop(&mut self) {
        if let Some(id) = self.id.take() {
            self.mmu.changes.close(id);
        }
    }
}

/// The table of a partition that is stopped.
struct Writer<'a, M: Machine>(&'a HashMmu<M>);

impl<M: Machine> HptSink for Writer<'_, M> {
    type Error = HcallStatus;

    fn check(&self, index: HpteIndex, entry: GuestHpte) -> Result<(), HcallStatus> {
        self.0.index(index.get())?;
        self.0.prepare(0, entry.v, entry.r).map(|_| ())
    }

    fn set(&mut self, index: HpteIndex, entry: GuestHpte) {
        let Ok(prepared) = self.0.prepare(0, entry.v, entry.r) else {
            return;
        };
        if let Some(free) = self.0.try_lock_free(index) {
            free.enter(prepared);
            return;
        }
        let guard = self.0.lock(index);
        let (is_present, r) = (guard.v().is_present(), guard.r());
        let mut taken = guard.quiesce(r);
        if is_present {
            let _ = taken.retire();
        }
        taken.enter(prepared);
    }

    fn clear(&mut self, first: HpteIndex, count: u64) {
        let end = first.get().saturating_add(count).min(self.0.entries());
        self.0.clear_range(first.get(), end);
    }
}
