// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Reading a stream: all of it is checked before anybody sees any of it.
//!
//! What is refused: records that are cut short or go beyond the table, bytes that are left over,
//! headers that count nothing, entries without V, with a reserved segment or page size, with a
//! virtual address that the hardware does not compare to its end, or with a page that is not
//! aligned. Bits of an entry that are the hypervisor's own are dropped, since KVM's streams have
//! one of them set. Whether the table's owner wants an entry (its page, its attributes) is asked
//! of [`super::HptSink::check`].
//!
//! What is accepted although no single pass has it: an entry named more than once, and records in
//! any order. Several passes follow each other in one stream, and KVM does what a record says when
//! it comes to it; so the last one counts.

use super::GuestHpte;
use super::error::{ParseError, ParseReason};
use super::qemu::{self, Frame, Next};
use super::record::{ByteOrder, ENTRY_BYTES, HEADER_BYTES, HYPERVISOR_BITS, RecordHeader};
use penstock_arch::hash::{
    GuestHpteV, HpteIndex, HpteV, PageEncoding, PageSize, VRMA_SEGMENT, VRMA_VSID,
};

/// How a stream's records are written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// Records only, with headers in this byte order.
    Bare(ByteOrder),
    /// In QEMU's frames.
    Qemu,
}

/// What an entry is that no record names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartsFrom {
    /// Not there: the stream has a first pass, in either style.
    EmptyTable,
    /// As it was: the stream has later passes, or a part of a first one.
    CurrentTable,
}

/// What a stream says of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// This entry is there.
    Set {
        /// Which.
        index: HpteIndex,
        /// The entry, valid, and without the hypervisor's bits.
        entry: GuestHpte,
    },
    /// These entries are not there.
    Clear {
        /// The first.
        first: HpteIndex,
        /// How many.
        count: u64,
    },
}

/// What a stream has in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Records.
    pub records: u64,
    /// Entries with their bytes.
    pub valid: u64,
    /// Entries that records say are not there.
    pub invalid: u64,
    /// Sections of QEMU's frames that have records.
    pub sections: u64,
}

/// A stream that was checked from end to end.
#[derive(Clone, Copy, Debug)]
pub struct ParsedStream<'a> {
    bytes: &'a [u8],
    encoding: Encoding,
    entries: u64,
    starts_from: StartsFrom,
    counts: Counts,
    vrma_page: Option<PageSize>,
}

impl<'a> ParsedStream<'a> {
    /// Checks a stream for a table of `entries`.
    ///
    /// A stream in QEMU's frames that begins with the table's size starts from an empty table,
    /// whatever `starts_from` says.
    ///
    /// # Errors
    /// The first thing that is wrong, and where.
    pub fn parse(
        bytes: &'a [u8],
        encoding: Encoding,
        entries: u64,
        starts_from: StartsFrom,
    ) -> Result<Self, ParseError> {
        let mut stream = Self {
            bytes,
            encoding,
            entries,
            starts_from,
            counts: Counts::default(),
            vrma_page: None,
        };
        let mut cursor = Cursor::new(&stream);
        while let Some(record) = cursor.next_record()? {
            record.check(entries)?;
            stream.counts.records += 1;
            stream.counts.valid += u64::from(record.header.n_valid);
            stream.counts.invalid += u64::from(record.header.n_invalid);
            if stream.vrma_page.is_none() {
                stream.vrma_page = record.entries().find_map(|(_, _, entry)| vrma_page(entry));
            }
        }
        stream.counts.sections = cursor.sections;
        if cursor.has_size {
            stream.starts_from = StartsFrom::EmptyTable;
        }
        Ok(stream)
    }

    /// Number of entries of the table.
    #[must_use]
    pub const fn entries(&self) -> u64 {
        self.entries
    }

    /// What an entry is that no record names.
    #[must_use]
    pub const fn starts_from(&self) -> StartsFrom {
        self.starts_from
    }

    /// What it has.
    #[must_use]
    pub const fn counts(&self) -> Counts {
        self.counts
    }

    /// The page size of the virtualized real mode area, as its first entry in the stream has it: a
    /// partition that it is put into takes it from there. `None` where there is no such entry.
    #[must_use]
    pub const fn vrma_page(&self) -> Option<PageSize> {
        self.vrma_page
    }

    /// What the stream says, from first to last, each with the offset of the header or entry that
    /// says it. A stream that starts from an empty table begins by clearing all.
    #[must_use]
    pub fn changes(&self) -> Changes<'a> {
        let clear_all = match self.starts_from {
            StartsFrom::EmptyTable => Some(self.entries),
            StartsFrom::CurrentTable => None,
        };
        Changes {
            clear_all,
            cursor: Cursor::new(self),
            record: None,
            number: 0,
        }
    }

    /// The stream's records, each with the offset of its header: how it was written down.
    pub fn records(&self) -> impl Iterator<Item = (usize, RecordHeader)> + use<'a> {
        let mut cursor = Cursor::new(self);
        core::iter::from_fn(move || {
            let record = cursor.next_record().ok().flatten()?;
            Some((record.offset, record.header))
        })
    }
}

/// Where a parser is in a stream.
#[derive(Clone, Debug)]
struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
    entries: u64,
    order: ByteOrder,
    /// Where it is in QEMU's frames, if there are any.
    frame: Option<Frame>,
    has_size: bool,
    sections: u64,
}

/// A record as it is in the stream, its bytes all there.
#[derive(Clone, Copy, Debug)]
struct Record<'a> {
    offset: usize,
    header: RecordHeader,
    entries: &'a [[u8; ENTRY_BYTES]],
}

impl<'a> Cursor<'a> {
    const fn new(stream: &ParsedStream<'a>) -> Self {
        let (order, frame) = match stream.encoding {
            Encoding::Bare(order) => (order, None),
            Encoding::Qemu => (ByteOrder::Big, Some(Frame::Start)),
        };
        Self {
            bytes: stream.bytes,
            at: 0,
            entries: stream.entries,
            order,
            frame,
            has_size: false,
            sections: 0,
        }
    }

    fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    const fn error(&self, reason: ParseReason) -> ParseError {
        ParseError {
            offset: self.at,
            index: None,
            reason,
        }
    }

    fn next_header(&mut self) -> Result<Option<RecordHeader>, ParseError> {
        while let Some(frame) = self.frame {
            match qemu::next(frame, self.rest(), self.entries) {
                Ok(Next::Record(header)) => return Ok(Some(header)),
                Ok(Next::End) => return Ok(None),
                Ok(Next::Frame(next, bytes)) => {
                    self.has_size |= (frame, next) == (Frame::Start, Frame::Between);
                    self.sections += u64::from(next == Frame::Records);
                    self.frame = Some(next);
                    self.at += bytes;
                }
                Err(reason) => return Err(self.error(reason)),
            }
        }
        match self.rest() {
            [] => Ok(None),
            rest => match rest.first_chunk() {
                Some(header) => Ok(Some(RecordHeader::from_bytes(*header, self.order))),
                None => Err(self.error(ParseReason::HeaderCut { bytes: rest.len() })),
            },
        }
    }

    fn next_record(&mut self) -> Result<Option<Record<'a>>, ParseError> {
        let Some(header) = self.next_header()? else {
            return Ok(None);
        };
        let offset = self.at;
        let body = self.rest().get(HEADER_BYTES..).unwrap_or_default();
        let (entries, _) = body.as_chunks();
        let Some(entries) = entries.get(..usize::from(header.n_valid)) else {
            return Err(ParseError {
                offset,
                index: Some(u64::from(header.index)),
                reason: ParseReason::EntriesCut {
                    n_valid: header.n_valid,
                    bytes: body.len(),
                },
            });
        };
        self.at += HEADER_BYTES + size_of_val(entries);
        Ok(Some(Record {
            offset,
            header,
            entries,
        }))
    }
}

impl<'a> Record<'a> {
    /// The entries, each with its offset in the stream and its number in the table.
    fn entries(self) -> impl Iterator<Item = (usize, u64, GuestHpte)> + use<'a> {
        (0..).map_while(move |number| self.entry(number))
    }

    /// Entry `number` of the record.
    fn entry(&self, number: usize) -> Option<(usize, u64, GuestHpte)> {
        let bytes = self.entries.get(number)?;
        let offset = self.offset + HEADER_BYTES + number * ENTRY_BYTES;
        let index = u64::from(self.header.index) + number as u64;
        Some((offset, index, GuestHpte::from_bytes(*bytes)))
    }

    fn check(self, entries: u64) -> Result<(), ParseError> {
        let RecordHeader {
            index,
            n_valid,
            n_invalid,
        } = self.header;
        let error = |reason| ParseError {
            offset: self.offset,
            index: Some(u64::from(index)),
            reason,
        };
        if self.header.is_empty() {
            return Err(error(ParseReason::NothingCounted));
        }
        if self.header.end() > entries {
            return Err(error(ParseReason::BeyondTable {
                n_valid,
                n_invalid,
                entries,
            }));
        }
        for (offset, index, entry) in self.entries() {
            check_entry(entry).map_err(|reason| ParseError {
                offset,
                index: Some(index),
                reason,
            })?;
        }
        Ok(())
    }
}

/// The page sizes of an entry that is as it must be.
fn check_entry(entry: GuestHpte) -> Result<PageEncoding, ParseReason> {
    let GuestHpte { v, r } = entry;
    if v.get() & HpteV::VALID == 0 {
        return Err(ParseReason::NotValid { v });
    }
    if v.segment().is_none() {
        return Err(ParseReason::ReservedSegmentSize { v });
    }
    if v.to_hardware().is_none() {
        return Err(ParseReason::LongAddress { v });
    }
    let encoding = r
        .encoding(v)
        .ok_or(ParseReason::ReservedPageSize { v, r })?;
    if r.page(encoding).is_none() {
        return Err(ParseReason::UnalignedPage { r });
    }
    Ok(encoding)
}

/// The base page size of an entry of the virtualized real mode area.
fn vrma_page(entry: GuestHpte) -> Option<PageSize> {
    // From doubleword 0 without the page number within the segment, flags and software bits.
    const SEGMENT: u64 = !0xff_ffff;
    const VRMA: u64 = (VRMA_SEGMENT.b() << 62) | (VRMA_VSID << 24);
    if entry.v.get() & SEGMENT != VRMA {
        return None;
    }
    Some(entry.r.encoding(entry.v)?.base())
}

/// What a stream says, from first to last.
#[derive(Clone, Debug)]
pub struct Changes<'a> {
    clear_all: Option<u64>,
    cursor: Cursor<'a>,
    record: Option<Record<'a>>,
    /// Which entry of the record is next.
    number: usize,
}

impl Iterator for Changes<'_> {
    type Item = (usize, Change);

    fn next(&mut self) -> Option<(usize, Change)> {
        if let Some(count) = self.clear_all.take() {
            let first = HpteIndex::new(0);
            return Some((0, Change::Clear { first, count }));
        }
        loop {
            let Some(record) = self.record else {
                // All was checked, so there is no error any more.
                self.record = Some(self.cursor.next_record().ok().flatten()?);
                self.number = 0;
                continue;
            };
            if let Some((offset, index, entry)) = record.entry(self.number) {
                self.number += 1;
                let entry = GuestHpte {
                    v: GuestHpteV::new(entry.v.get() & !HYPERVISOR_BITS),
                    r: entry.r,
                };
                let index = HpteIndex::new(index);
                return Some((offset, Change::Set { index, entry }));
            }
            self.record = None;
            let RecordHeader {
                index,
                n_valid,
                n_invalid,
            } = record.header;
            if n_invalid != 0 {
                let first = HpteIndex::new(u64::from(index) + u64::from(n_valid));
                let count = u64::from(n_invalid);
                return Some((record.offset, Change::Clear { first, count }));
            }
        }
    }
}
