// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Putting a stream into a table: all of it, or nothing.

use super::GuestHpte;
use super::parse::{Change, ParsedStream};
use penstock_arch::hash::HpteIndex;

/// A table that a stream is put into.
///
/// Nobody else may change the table meanwhile, and no vCPU may run: between the first change and
/// the last it is neither the old table nor the new one.
pub trait HptSink {
    /// Why an entry is not wanted.
    type Error;

    /// Whether [`Self::set`] of this entry will do, whatever the table holds; changes nothing.
    ///
    /// # Errors
    /// The table can never hold this entry there.
    fn check(&self, index: HpteIndex, entry: GuestHpte) -> Result<(), Self::Error>;

    /// Enters an entry that [`Self::check`] has passed, in place of one that may be there.
    fn set(&mut self, index: HpteIndex, entry: GuestHpte);

    /// Removes what is there of `count` entries from `first`.
    fn clear(&mut self, first: HpteIndex, count: u64);
}

/// Why a stream was not applied. The table is as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ApplyError<E> {
    /// Where the entry is in the stream, in bytes.
    pub offset: usize,
    /// Its number in the table.
    pub index: HpteIndex,
    /// The entry.
    pub entry: GuestHpte,
    /// Why the table cannot hold it.
    pub reason: E,
}

impl<E: core::fmt::Display> core::fmt::Display for ApplyError<E> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(
            f,
            "offset {:#x}: entry {:#x}: {} ({:?} {:?})",
            self.offset,
            self.index.get(),
            self.reason,
            self.entry.v,
            self.entry.r
        )
    }
}

impl<E: core::fmt::Debug + core::fmt::Display> core::error::Error for ApplyError<E> {}

impl ParsedStream<'_> {
    /// Puts the stream into a table of as many entries as it was checked for: asks for every entry
    /// first, and only then changes anything.
    ///
    /// # Errors
    /// The first entry that `sink` cannot hold; then nothing was changed.
    pub fn apply<S: HptSink>(&self, sink: &mut S) -> Result<(), ApplyError<S::Error>> {
        for (offset, change) in self.changes() {
            if let Change::Set { index, entry } = change {
                sink.check(index, entry).map_err(|reason| ApplyError {
                    offset,
                    index,
                    entry,
                    reason,
                })?;
            }
        }
        for (_, change) in self.changes() {
            match change {
                Change::Set { index, entry } => sink.set(index, entry),
                Change::Clear { first, count } => sink.clear(first, count),
            }
        }
        Ok(())
    }
}
