// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The table that a stream ends with.

use penstock_arch::hash::HpteIndex;
use penstock_mm::stream::{
    GuestHpte, HptSink, HptSource, ParsedStream, StreamOptions, StreamReader,
};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::num::NonZeroU32;
use std::ops::Range;

/// A table, as the entries that are there.
#[derive(Debug)]
pub struct Table {
    pub entries: BTreeMap<u64, GuestHpte>,
    count: u64,
    /// Where nothing is, as far as was looked: most of a large table, which is gone over entry by
    /// entry.
    hole: Range<u64>,
}

impl Table {
    pub fn of(stream: &ParsedStream<'_>) -> Self {
        let mut table = Self {
            entries: BTreeMap::new(),
            count: stream.entries(),
            hole: 0..0,
        };
        match stream.apply(&mut table) {
            Ok(()) => table,
            Err(error) => match error.reason {},
        }
    }

    /// One first pass over the table, its records cut as KVM would.
    pub fn first_pass(&mut self, mut options: StreamOptions) -> Vec<u8> {
        options.scan_limit = NonZeroU32::MAX;
        let mut bytes = Vec::new();
        let mut buffer = vec![0; 1 << 20];
        let Ok(mut reader) = StreamReader::new(self, options) else {
            return bytes;
        };
        // Neither buffer nor table is one that the reader refuses.
        while let Ok(progress) = reader.read(self, &mut buffer) {
            bytes.extend_from_slice(buffer.get(..progress.bytes).unwrap_or_default());
            if progress.pass_ended {
                break;
            }
        }
        bytes
    }
}

impl HptSink for Table {
    type Error = Infallible;

    fn check(&self, _: HpteIndex, _: GuestHpte) -> Result<(), Infallible> {
        Ok(())
    }

    fn set(&mut self, index: HpteIndex, entry: GuestHpte) {
        self.entries.insert(index.get(), entry);
        self.hole = 0..0;
    }

    fn clear(&mut self, first: HpteIndex, count: u64) {
        let gone = first.get()..first.get().saturating_add(count);
        while let Some((&index, _)) = self.entries.range(gone.clone()).next() {
            self.entries.remove(&index);
        }
    }
}

impl HptSource for Table {
    fn entries(&self) -> u64 {
        self.count
    }

    fn take_changed(&mut self, _: HpteIndex) -> bool {
        false
    }

    fn entry(&mut self, index: HpteIndex) -> Option<GuestHpte> {
        let index = index.get();
        if self.hole.contains(&index) {
            return None;
        }
        match self.entries.range(index..).next() {
            Some((&found, &entry)) if found == index => Some(entry),
            next => {
                self.hole = index..next.map_or(self.count, |(&next, _)| next);
                None
            }
        }
    }
}
