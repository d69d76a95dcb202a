// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `hpt reload`: the page table is streamed out, dropped, and streamed in, while the partition
//! waits; then it goes on, if it went before.

use super::{Progress, Step, Stop, StreamStore, buffer, call, patient, plain};
use crate::control::Holder;
use crate::control::error::{ControlError, Reason, RecordError};
use crate::control::function::Function;
use crate::control::records::{self, BYTE_ORDER_BIG, Record, StreamChunk};
use crate::control::session::State;
use crate::control::target::{Controlled, HeaderOrder};
use crate::control::{DONE, MAX_ABSENT_ENTRIES, MAX_BUFFER_BYTES, WRITER, counts, open_flags};
use alloc::vec::Vec;
use core::fmt::{self, Write};
use zerocopy::IntoBytes;
use zerocopy::byteorder::big_endian::{U32, U64};

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Suspend,
    Read { stream: Option<u64> },
    Drop(u64),
    Open,
    Write { at: usize },
    Finish,
}

/// A reload.
#[derive(Debug)]
pub struct Reload<S> {
    store: S,
    phase: Phase,
    buffer: Vec<u8>,
    /// The partition ran, and will again.
    ran: bool,
}

impl<S: StreamStore> Reload<S> {
    pub(super) const fn new(store: S) -> Self {
        Self {
            store,
            phase: Phase::Suspend,
            buffer: Vec::new(),
            ran: false,
        }
    }

    pub(super) const fn store_mut(&mut self) -> &mut S {
        &mut self.store
    }

    pub(super) fn into_store(self) -> S {
        self.store
    }

    pub(super) fn step<T: Controlled>(&mut self, target: &T, out: &mut dyn Write) -> Progress {
        self.phase = match self.phase {
            Phase::Suspend => self.suspend(target)?,
            Phase::Read { stream } => self.read(target, stream)?,
            Phase::Drop(from) => {
                let [next, _] = plain(target, Function::HptDrop, [from, 0, 0])?;
                match next {
                    DONE => Phase::Open,
                    next => Phase::Drop(next),
                }
            }
            Phase::Open => {
                plain(target, Function::StreamOpen, [open_flags::WRITE, 0, 0])?;
                Phase::Write { at: 0 }
            }
            Phase::Write { at } => self.write(target, at)?,
            Phase::Finish => return self.finish(target, out),
        };
        Ok(Step::Again)
    }

    fn suspend<T: Controlled>(&mut self, target: &T) -> Result<Phase, Stop> {
        let state = match target.session().try_lock() {
            Some(session) => session.state(),
            None => return Err(ControlError::Busy.into()),
        };
        self.ran |= matches!(state, State::Running | State::Stopping);
        if self.buffer.is_empty() {
            self.buffer = buffer(MAX_BUFFER_BYTES)?;
        }
        plain(target, Function::Suspend, [0; 3])?;
        Ok(Phase::Read { stream: None })
    }

    fn read<T: Controlled>(&mut self, target: &T, stream: Option<u64>) -> Result<Phase, Stop> {
        let stream = match stream {
            Some(stream) => stream,
            None => {
                let [stream, _] = plain(target, Function::StreamOpen, [0; 3])?;
                return Ok(Phase::Read {
                    stream: Some(stream),
                });
            }
        };
        let arguments = [stream, 0, 0];
        let done = call(target, Function::StreamRead, arguments, &mut self.buffer)?;
        let written = self.buffer.get(..done.bytes).unwrap_or_default();
        let (chunk, records) = records::read::<StreamChunk>(written).map_err(ControlError::from)?;
        if !self.store.push(records) {
            return Err(Stop::NoMemory);
        }
        if chunk.flags.get() & StreamChunk::END == 0 {
            return Ok(Phase::Read {
                stream: Some(stream),
            });
        }
        plain(target, Function::StreamClose, arguments)?;
        Ok(Phase::Drop(0))
    }

    /// The end of the last whole record that lies within `room` bytes from `at`, and that a piece
    /// from there may still have.
    fn records_within(&self, at: usize, room: usize) -> Option<usize> {
        let (mut end, mut absent) = (at, 0);
        while end < self.store.len() {
            let mut header = [0; 8];
            if !self.store.copy(end, &mut header) {
                return None;
            }
            let (valid, invalid) = counts(HeaderOrder::Big, header);
            let next = end + header.len() + 16 * usize::from(valid);
            absent += u64::from(invalid);
            if next > at + room || absent > MAX_ABSENT_ENTRIES {
                break;
            }
            end = next;
        }
        Some(end)
    }

    fn write<T: Controlled>(&mut self, target: &T, at: usize) -> Result<Phase, Stop> {
        let room = MAX_BUFFER_BYTES - size_of::<StreamChunk>();
        let damaged = ControlError::Record(RecordError::new(at, Reason::Stream));
        let end = self.records_within(at, room).ok_or(damaged)?;
        let last = end == self.store.len();
        if end == at && !last {
            return Err(damaged.into());
        }
        let mut chunk = StreamChunk::blank();
        chunk.stream = U32::new(u32::try_from(WRITER).map_err(|_| damaged)?);
        chunk.flags = U32::new(StreamChunk::FIRST_PASS | if last { StreamChunk::END } else { 0 });
        chunk.offset = U64::new(at as u64);
        chunk.length = U32::new(u32::try_from(end - at).map_err(|_| damaged)?);
        chunk.byte_order = BYTE_ORDER_BIG.into();
        let length = size_of::<StreamChunk>() + (end - at);
        let buffer = self.buffer.get_mut(..length).ok_or(damaged)?;
        let (head, records) = buffer.split_at_mut(size_of::<StreamChunk>());
        head.copy_from_slice(chunk.as_bytes());
        if !self.store.copy(at, records) {
            return Err(damaged.into());
        }
        call(target, Function::StreamWrite, [WRITER, 0, 0], buffer)?;
        if !last {
            return Ok(Phase::Write { at: end });
        }
        plain(target, Function::StreamClose, [WRITER, 0, 0])?;
        Ok(Phase::Finish)
    }

    fn finish<T: Controlled>(&mut self, target: &T, out: &mut dyn Write) -> Progress {
        plain(target, Function::Commit, [0; 3])?;
        if self.ran {
            plain(target, Function::Resume, [0; 3])?;
        }
        let (name, bytes) = (target.name(), self.store.len());
        writeln!(
            out,
            "{name}: page table dropped and put back from a stream of {bytes} bytes"
        )?;
        Ok(Step::Finished)
    }

    /// Before the table was dropped, nothing is lost and the partition goes on. After that it stays
    /// suspended, and nobody holds it: whoever knows how may save it.
    pub(super) fn end<T: Controlled>(&mut self, target: &T, out: &mut dyn Write) -> fmt::Result {
        match self.phase {
            Phase::Suspend => self.resume(target),
            Phase::Read { stream } => {
                if let Some(stream) = stream {
                    patient(target, Function::StreamClose, [stream, 0, 0]);
                }
                self.resume(target);
            }
            // Nothing is dropped yet.
            Phase::Drop(0) => self.resume(target),
            Phase::Drop(_) | Phase::Open | Phase::Write { .. } => {
                if let Phase::Write { .. } = self.phase {
                    patient(target, Function::StreamClose, [WRITER, 0, 0]);
                }
                target.session().lock().release(Holder::Operator);
                let name = target.name();
                writeln!(out, "{name}: stays suspended, its page table is not whole")?;
            }
            Phase::Finish => {
                target.session().lock().release(Holder::Operator);
                writeln!(out, "{}: stays suspended", target.name())?;
            }
        }
        Ok(())
    }

    fn resume<T: Controlled>(&self, target: &T) {
        if self.ran {
            patient(target, Function::Commit, [0; 3]);
            patient(target, Function::Resume, [0; 3]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::HeapStore;
    use super::*;

    #[test]
    fn pieces_are_cut_where_they_would_be_too_long_or_too_much_work() {
        let mut store = HeapStore::new(1 << 20);
        for _ in 0..20 {
            assert!(store.push(&[0, 0, 0, 0, 0, 0, 0x10, 0]));
        }
        assert!(store.push(&[0, 0, 0, 0, 0, 2, 0, 0]) && store.push(&[0; 32]));
        let reload = Reload::new(store);
        // 15 times 4096 entries that are not there.
        assert_eq!(reload.records_within(0, 1000), Some(120));
        assert_eq!(reload.records_within(120, 1000), Some(200));
        assert_eq!(reload.records_within(120, 79), Some(160));
        assert_eq!(reload.records_within(160, 39), Some(160));
        // The rest of a header.
        assert_eq!(reload.records_within(196, 100), None);
    }
}
