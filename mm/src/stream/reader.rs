// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Making a stream from a table, as much at a time as the buffer and the scan limit allow.
//!
//! A reader goes over the table from first to last entry, pass after pass. In each pass a record
//! ends where another one must begin: a valid entry after invalid ones, a count at its limit of
//! 65535, the end of the buffer or of what may be looked at in one call, and in later passes an
//! entry that did not change.
//!
//! The mark of a change is taken before the entry is read, and that very entry is told or remembered
//! as the next to be told. An entry whose mark is gone and that was not told would be lost for the
//! other side, and so would its neighbour, were the wrong one's mark taken.

use super::record::{ByteOrder, ENTRY_BYTES, HEADER_BYTES, RecordHeader};
use super::{GuestHpte, ReadError};
use core::num::NonZeroU32;
use penstock_arch::hash::{HpteIndex, HpteV};

/// The smallest buffer that [`StreamReader::read`] takes: a header and one entry.
pub const SMALLEST_BUFFER: usize = HEADER_BYTES + ENTRY_BYTES;

/// The largest table of which a header can name each entry.
const MOST_ENTRIES: u64 = 1 << 32;

/// A table that a stream is made from, as one reader sees it.
pub trait HptSource {
    /// Number of entries.
    fn entries(&self) -> u64;

    /// Whether the entry changed since this was last asked, in what the guest sees of it; forgets
    /// it. R and C that the processor set and that this reader was not told of are such a change.
    ///
    /// An implementation over a table that is in use clears the mark first and collects R and C
    /// then, and must tell every other reader of what it collected.
    fn take_changed(&mut self, index: HpteIndex) -> bool;

    /// What the guest sees of the entry, `None` where it has none there. Always asked after
    /// [`Self::take_changed`] of the same entry, and to be answered under the entry's lock where
    /// anybody may change it.
    fn entry(&mut self, index: HpteIndex) -> Option<GuestHpte>;

    /// The first entry from `from` on that may have changed, or `end`: a quick way over parts that
    /// did not. Nothing is forgotten.
    fn next_changed(&mut self, from: u64, end: u64) -> u64 {
        let _ = end;
        from
    }
}

/// Which entries a stream has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryFilter {
    /// All.
    All,
    /// The bolted ones; others are told as if they were not there. KVM_GET_HTAB_BOLTED_ONLY.
    BoltedOnly,
}

/// How a first pass tells of entries that are not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HoleStyle {
    /// Counted in `n_invalid`, as KVM does it.
    Counted,
    /// Left out, as QEMU does it without KVM. Only for whoever begins with an empty table.
    LeftOut,
}

/// How a stream is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamOptions {
    /// Byte order of the headers.
    pub order: ByteOrder,
    /// Which entries.
    pub filter: EntryFilter,
    /// Style of the first pass.
    pub holes: HoleStyle,
    /// The entry that the first pass begins with; later ones begin with the first of the table.
    pub start: u64,
    /// How many entries one call looks at, at most.
    pub scan_limit: NonZeroU32,
}

impl StreamOptions {
    /// As many entries as one record can say are not there: so an empty part of a table is cut as
    /// without a limit, and a caller is held for some milliseconds.
    pub const DEFAULT_SCAN_LIMIT: NonZeroU32 = NonZeroU32::new(u16::MAX as u32).unwrap();

    /// All of a table, in KVM's style.
    #[must_use]
    pub const fn new(order: ByteOrder) -> Self {
        Self {
            order,
            filter: EntryFilter::All,
            holes: HoleStyle::Counted,
            start: 0,
            scan_limit: Self::DEFAULT_SCAN_LIMIT,
        }
    }
}

/// What one call of [`StreamReader::read`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "0 bytes do not say whether the pass is at its end"]
pub struct Progress {
    /// Bytes put into the buffer: whole records. May be 0 in the middle of a pass, where so many
    /// entries as one call looks at did not change.
    pub bytes: usize,
    /// The pass came to the end of the table, and the next call begins another.
    pub pass_ended: bool,
}

/// One reader's way through a table.
#[derive(Debug)]
pub struct StreamReader {
    options: StreamOptions,
    entries: u64,
    /// The next entry to look at.
    next: u64,
    first_pass: bool,
    /// The mark of entry `next` was taken, and there was no room to tell.
    owed: bool,
}

impl StreamReader {
    /// A reader before its first pass. Where changes are only noted for readers that are known, as
    /// in [`crate::hpt::changes`], it must be known before that pass.
    ///
    /// # Errors
    /// [`ReadError::TableTooLarge`], [`ReadError::StartBeyondTable`].
    pub fn new(source: &impl HptSource, options: StreamOptions) -> Result<Self, ReadError> {
        let entries = source.entries();
        if entries > MOST_ENTRIES {
            return Err(ReadError::TableTooLarge { entries });
        }
        if options.start >= entries {
            return Err(ReadError::StartBeyondTable {
                start: options.start,
                entries,
            });
        }
        Ok(Self {
            options,
            entries,
            next: options.start,
            first_pass: true,
            owed: false,
        })
    }

    /// Whether the next call is of the first pass.
    #[must_use]
    pub const fn is_first_pass(&self) -> bool {
        self.first_pass
    }

    /// The entry that the next call begins with.
    #[must_use]
    pub const fn position(&self) -> u64 {
        self.next
    }

    /// Puts the next records into `out`. Looks at no more entries than the scan limit, and stops at
    /// the end of the table.
    ///
    /// # Errors
    /// [`ReadError::BufferTooShort`] for less than [`SMALLEST_BUFFER`] bytes, and
    /// [`ReadError::TableReplaced`] where the table has another size than before. Nothing is
    /// forgotten then.
    pub fn read(
        &mut self,
        source: &mut impl HptSource,
        out: &mut [u8],
    ) -> Result<Progress, ReadError> {
        if out.len() < SMALLEST_BUFFER {
            return Err(ReadError::BufferTooShort {
                bytes: out.len(),
                needed: SMALLEST_BUFFER,
            });
        }
        if source.entries() != self.entries {
            return Err(ReadError::TableReplaced {
                before: self.entries,
                now: source.entries(),
            });
        }
        let mut records = Records::new(out, self.options.order);
        let limit = u64::from(self.options.scan_limit.get());
        // What this call looks at ends here.
        let end = self.entries.min(self.next.saturating_add(limit));
        while self.next < end {
            if !self.first_pass && !self.owed {
                let skipped_to = source.next_changed(self.next, end).clamp(self.next, end);
                if skipped_to != self.next {
                    self.next = skipped_to;
                    continue;
                }
            }
            if !self.step(source, &mut records) {
                break;
            }
        }
        let pass_ended = self.next >= self.entries;
        if pass_ended {
            self.next = 0;
            self.first_pass = false;
        }
        Ok(Progress {
            bytes: records.finish(),
            pass_ended,
        })
    }

    /// Looks at entry `next` and goes on to the following one, unless there is no room to tell.
    fn step(&mut self, source: &mut impl HptSource, records: &mut Records<'_>) -> bool {
        // Taken in the first pass too: what is told now is no change for the next pass.
        let changed = source.take_changed(HpteIndex::new(self.next)) || self.owed;
        let told = if self.first_pass || changed {
            let entry = source.entry(HpteIndex::new(self.next));
            match entry.filter(|entry| self.wants(entry)) {
                Some(entry) => records.valid(self.next, entry),
                None if self.first_pass && self.options.holes == HoleStyle::LeftOut => true,
                None => records.invalid(self.next),
            }
        } else {
            true
        };
        self.owed = !told;
        if told {
            self.next += 1;
        }
        told
    }

    const fn wants(&self, entry: &GuestHpte) -> bool {
        match self.options.filter {
            EntryFilter::All => true,
            EntryFilter::BoltedOnly => entry.v.get() & HpteV::BOLTED != 0,
        }
    }
}

/// The records that one call makes.
struct Records<'a> {
    out: &'a mut [u8],
    order: ByteOrder,
    /// Bytes of whole records, and of the one that is being made.
    used: usize,
    /// The record that is being made: where its header goes, and the header.
    open: Option<(usize, RecordHeader)>,
}

impl<'a> Records<'a> {
    const fn new(out: &'a mut [u8], order: ByteOrder) -> Self {
        Self {
            out,
            order,
            used: 0,
            open: None,
        }
    }

    /// Adds an entry; `false` where it has no room.
    fn valid(&mut self, index: u64, entry: GuestHpte) -> bool {
        let continued = matches!(self.open, Some((_, header))
            if header.end() == index && header.n_invalid == 0 && header.n_valid < u16::MAX);
        if !continued && !self.begin(index) {
            return false;
        }
        let Some((_, header)) = &mut self.open else {
            return false;
        };
        if !put(self.out, self.used, entry.to_bytes()) {
            return false;
        }
        header.n_valid += 1;
        self.used += ENTRY_BYTES;
        true
    }

    /// Adds an entry that is not there; `false` where it has no room.
    fn invalid(&mut self, index: u64) -> bool {
        let continued = matches!(self.open, Some((_, header))
            if header.end() == index && header.n_invalid < u16::MAX);
        if !continued && !self.begin(index) {
            return false;
        }
        let Some((_, header)) = &mut self.open else {
            return false;
        };
        header.n_invalid += 1;
        true
    }

    /// Begins a record, where there is room for its header and an entry: KVM's rule, which keeps
    /// the records the same.
    fn begin(&mut self, index: u64) -> bool {
        self.close();
        let Ok(index) = u32::try_from(index) else {
            return false;
        };
        if self.out.len().saturating_sub(self.used) < SMALLEST_BUFFER {
            return false;
        }
        let header = RecordHeader {
            index,
            ..RecordHeader::default()
        };
        self.open = Some((self.used, header));
        self.used += HEADER_BYTES;
        true
    }

    fn close(&mut self) {
        if let Some((at, header)) = self.open.take() {
            put(self.out, at, header.to_bytes(self.order));
        }
    }

    /// Bytes of all records.
    fn finish(mut self) -> usize {
        self.close();
        self.used
    }
}

/// Stores `bytes` at `at`, if they fit.
fn put<const N: usize>(out: &mut [u8], at: usize, bytes: [u8; N]) -> bool {
    match out.get_mut(at..).and_then(<[u8]>::first_chunk_mut) {
        Some(place) => {
            *place = bytes;
            true
        }
        None => false,
    }
}
