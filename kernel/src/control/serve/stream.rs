// SPDX-License-Identifier: Apache-2.0 OR MIT
//! STREAM_OPEN, STREAM_READ, STREAM_WRITE, STREAM_CLOSE, HPT_DROP.
//!
//! Streams that are read have the numbers of their readers, and belong to whoever opened them; the
//! one that is written has a number of its own, and belongs to the partition's holder.

use super::{Context, DONE, Done, ENTRIES_PER_CALL, Outcome};
use crate::control::error::{Argument, ControlError, Reason, RecordError};
use crate::control::function::READ;
use crate::control::records::{self, BYTE_ORDER_BIG, BYTE_ORDER_LITTLE, StreamChunk};
use crate::control::session::{Before, Reader, Writer};
use crate::control::target::{Controlled, HeaderOrder, STREAM_READERS, StreamFilter};
use core::mem::offset_of;
use zerocopy::byteorder::big_endian::{U16, U32, U64};

/// Flags of STREAM_OPEN.
pub mod open_flags {
    /// Bolted entries only.
    pub const BOLTED_ONLY: u64 = 1;
    /// To write.
    pub const WRITE: u64 = 2;
    /// Headers are little-endian.
    pub const LITTLE_ENDIAN: u64 = 4;
    /// All of them.
    pub const ALL: u64 = BOLTED_ONLY | WRITE | LITTLE_ENDIAN;
}

/// The number of the stream that is written.
pub const WRITER: u64 = 0x100;

/// Most entries that a piece names as not there: as many as one record can. They take no bytes, so
/// the length of a piece does not bound them.
pub const MAX_ABSENT_ENTRIES: u64 = u16::MAX as u64;

/// What the header of a stream's record says: entries that are there, and that are not.
#[must_use]
pub const fn counts(order: HeaderOrder, header: [u8; 8]) -> (u16, u16) {
    let [_, _, _, _, a, b, c, d] = header;
    match order {
        HeaderOrder::Big => (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])),
        HeaderOrder::Little => (u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d])),
    }
}

/// That to apply the records is no more work than a call may be. Whether they are good records is
/// for the partition to say; the error is where they ask for too much.
fn check_work(order: HeaderOrder, records: &[u8]) -> Result<(), usize> {
    let (mut at, mut absent) = (0, 0);
    while let Some(header) = records.get(at..).and_then(<[u8]>::first_chunk) {
        let (valid, invalid) = counts(order, *header);
        absent += u64::from(invalid);
        if absent > MAX_ABSENT_ENTRIES {
            return Err(at);
        }
        at += header.len() + 16 * usize::from(valid);
    }
    Ok(())
}

const fn byte_order(order: HeaderOrder) -> u16 {
    match order {
        HeaderOrder::Big => BYTE_ORDER_BIG,
        HeaderOrder::Little => BYTE_ORDER_LITTLE,
    }
}

fn bad(offset: usize, reason: Reason) -> ControlError {
    RecordError::new(offset, reason).into()
}

impl<T: Controlled> Context<'_, T> {
    pub(super) fn stream_open(&mut self) -> Outcome {
        let flags = self.below(Argument::First, open_flags::ALL + 1)?;
        let order = match flags & open_flags::LITTLE_ENDIAN {
            0 => HeaderOrder::Big,
            _ => HeaderOrder::Little,
        };
        let filter = match flags & open_flags::BOLTED_ONLY {
            0 => StreamFilter::All,
            _ => StreamFilter::BoltedOnly,
        };
        if flags & open_flags::WRITE != 0 {
            // A stream says itself what it has.
            if filter == StreamFilter::BoltedOnly {
                return Err(ControlError::Argument(Argument::First));
            }
            return self.open_writer(order);
        }
        let free = self.session.readers.iter().position(Option::is_none);
        let number = free.ok_or(ControlError::NoReader)?;
        self.target.open_reader(number, order, filter)?;
        if let Some(place) = self.session.readers.get_mut(number) {
            *place = Some(Reader {
                holder: self.who,
                order,
                filter_flag: match filter {
                    StreamFilter::All => 0,
                    StreamFilter::BoltedOnly => StreamChunk::BOLTED_ONLY,
                },
                first_pass: true,
                offset: 0,
            });
        }
        Ok(Done::one(number as u64))
    }

    fn open_writer(&mut self, order: HeaderOrder) -> Outcome {
        self.session.halted(self.who)?;
        if self.session.writer.is_some() {
            return Err(ControlError::State);
        }
        // What was dropped so far is no longer so.
        self.session.drop_cursor = 0;
        self.session.writer = Some(Writer {
            order,
            offset: 0,
            pass: None,
        });
        Ok(Done::one(WRITER))
    }

    /// The reader in r8, if the caller has it. Somebody else's is as if it were not there.
    fn reader(&mut self) -> Result<(usize, &mut Reader), ControlError> {
        let number = self.below(Argument::First, STREAM_READERS as u64)?;
        let number = usize::try_from(number).map_err(|_| ControlError::Hardware)?;
        let who = self.who;
        match self.session.readers.get_mut(number) {
            Some(Some(reader)) if reader.holder == who => Ok((number, reader)),
            _ => Err(ControlError::Argument(Argument::First)),
        }
    }

    pub(super) fn stream_read(&mut self) -> Outcome {
        let (number, reader) = self.reader()?;
        let mut after = *reader;
        let (chunk, space) = self
            .buffer
            .split_at_mut_checked(size_of::<StreamChunk>())
            .ok_or(ControlError::Length)?;
        let piece = self.target.read_stream(number, ENTRIES_PER_CALL, space)?;
        let mut flags = after.filter_flag;
        if after.first_pass {
            flags |= StreamChunk::FIRST_PASS;
        }
        if piece.end {
            flags |= StreamChunk::END;
            after.first_pass = false;
        }
        let bytes = piece.bytes.min(space.len());
        let (chunk, _) = records::start::<StreamChunk>(chunk).ok_or(ControlError::Length)?;
        chunk.stream = U32::new(u32::try_from(number).map_err(|_| ControlError::Hardware)?);
        chunk.flags = U32::new(flags);
        chunk.offset = U64::new(after.offset);
        chunk.length = U32::new(u32::try_from(bytes).map_err(|_| ControlError::Length)?);
        chunk.byte_order = U16::new(byte_order(after.order));
        after.offset = after.offset.saturating_add(bytes as u64);
        if let Some(place) = self.session.readers.get_mut(number) {
            *place = Some(after);
        }
        let written = size_of::<StreamChunk>() + bytes;
        Ok(Done::written_and(written, u64::from(flags)))
    }

    /// The stream that the caller writes, if r8 names it.
    fn writer(&self) -> Result<Writer, ControlError> {
        let [number, ..] = self.arguments;
        if number != WRITER {
            return Err(ControlError::Argument(Argument::First));
        }
        self.session.halted(self.who)?;
        self.session.writer.ok_or(ControlError::State)
    }

    /// A piece is applied whole or not at all. Where one is refused, the stream goes on with
    /// another one for its place.
    pub(super) fn stream_write(&mut self) -> Outcome {
        let mut writer = self.writer()?;
        let (chunk, payload) = records::read::<StreamChunk>(self.buffer)?;
        if u64::from(chunk.stream.get()) != WRITER {
            return Err(bad(offset_of!(StreamChunk, stream), Reason::Value));
        }
        if chunk.byte_order.get() != byte_order(writer.order) {
            return Err(bad(offset_of!(StreamChunk, byte_order), Reason::Value));
        }
        if chunk.offset.get() != writer.offset {
            return Err(bad(offset_of!(StreamChunk, offset), Reason::Sequence));
        }
        let length = usize::try_from(chunk.length.get()).unwrap_or(usize::MAX);
        let records = payload
            .get(..length)
            .ok_or(bad(offset_of!(StreamChunk, length), Reason::TooShort))?;
        let flags = chunk.flags.get();
        let begins_at = self.buffer.len() - payload.len();
        check_work(writer.order, records).map_err(|at| bad(begins_at + at, Reason::Work))?;

        let before = writer.pass.unwrap_or(match self.session.is_torn() {
            true => Before::Torn,
            false => Before::Whole,
        });
        let change = self.session.change(self.who)?;
        self.target
            .write_stream(change, writer.order, records)
            .map_err(|error| match ControlError::from(error) {
                ControlError::Record(what) => what.moved(begins_at).into(),
                other => other,
            })?;
        writer.offset = writer.offset.saturating_add(length as u64);
        if flags & StreamChunk::END == 0 {
            writer.pass = Some(before);
            self.session.tear();
        } else {
            writer.pass = None;
            if before == Before::Whole || flags & StreamChunk::FIRST_PASS != 0 {
                self.session.mend();
            }
        }
        self.session.writer = Some(writer);
        Ok(Done::one(writer.offset))
    }

    pub(super) fn stream_close(&mut self) -> Outcome {
        if self.arguments[0] == WRITER {
            self.writer()?;
            self.session.writer = None;
            return Ok(Done::NOTHING);
        }
        let (number, _) = self.reader()?;
        self.target.close_reader(number);
        if let Some(place) = self.session.readers.get_mut(number) {
            *place = None;
        }
        Ok(Done::NOTHING)
    }

    /// Goes on where it was, or begins again at 0.
    pub(super) fn hpt_drop(&mut self) -> Outcome {
        let from = self.below(Argument::First, self.offer.hpt_entries)?;
        self.session.halted(self.who)?;
        if self.session.writer.is_some() {
            return Err(ControlError::State);
        }
        if from != 0 && from != self.session.drop_cursor {
            return Err(ControlError::Argument(Argument::First));
        }
        let change = self.session.change(self.who)?;
        let next = self.target.drop_entries(change, from, ENTRIES_PER_CALL)?;
        match next {
            Some(next) => {
                self.session.tear();
                self.session.drop_cursor = next;
            }
            None => {
                self.session.mend();
                self.session.drop_cursor = 0;
            }
        }
        Ok(Done::one(next.unwrap_or(DONE)))
    }
}

// What a tool must offer always holds a piece with one entry.
const _: () = assert!(READ > size_of::<StreamChunk>());
