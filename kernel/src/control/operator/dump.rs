// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `hpt dump`: a first pass of the stream, as lines of text.
//!
//! Each line begins with `@`, so that it is found among everything else that a console shows, and
//! ends with the CRC-32 (ISO 3309, as in zlib) of all that stands before its last space, in eight
//! hexadecimal digits. All other numbers are decimal. `kernel/scripts/hptdump.py` makes the file of
//! them that the stream is.
//!
//! ```text
//! @hptdump 1 debian 262144 little a621ce0f
//! @h 0 AAAAAAEAAABAABI0VgAAAQAAAAAAABGW fb3136d8
//! @hptdump-end debian 24 1 264c862a c7c2b99d
//! ```
//!
//! * `@hptdump`: version of the format, name of the partition, entries of its page table, byte
//!   order of the records' headers.
//! * `@h`: where in the stream the bytes belong, and they themselves in base64 (RFC 4648, with
//!   padding).
//! * `@hptdump-end`: the name again, how many bytes and how many `@h` lines there were, and the
//!   CRC-32 of the stream.
//!
//! The stream of a partition that runs is of no single moment: who wants that suspends it first.

use super::line::{Base64, Crc32, LINE_BYTES, write_checked};
use super::{Progress, STEP_TEXT_BYTES, Step, buffer, call, patient, plain};
use crate::control::function::Function;
use crate::control::open_flags;
use crate::control::records::{self, StreamChunk};
use crate::control::target::Controlled;
use alloc::vec::Vec;
use core::fmt::Write;

/// Version of the lines.
const VERSION: u32 = 1;
/// Bytes of records in a step.
const STEP_RECORD_BYTES: usize = 3072;

/// Longest line of data, with its checksum and line end.
const LONGEST_LINE: usize = "@h 18446744073709551615  01234567\r\n".len() + LINE_BYTES / 3 * 4;
const _: () = assert!((STEP_RECORD_BYTES / LINE_BYTES + 2) * LONGEST_LINE <= STEP_TEXT_BYTES);

/// A dump.
#[derive(Debug, Default)]
pub struct Dump {
    stream: Option<u64>,
    buffer: Vec<u8>,
    offset: u64,
    lines: u64,
    sum: Crc32,
}

impl Dump {
    pub(super) fn new() -> Self {
        Self::default()
    }

    pub(super) fn step<T: Controlled>(&mut self, target: &T, out: &mut dyn Write) -> Progress {
        let name = target.name();
        let stream = match self.stream {
            Some(stream) => stream,
            None => {
                self.buffer = buffer(size_of::<StreamChunk>() + STEP_RECORD_BYTES)?;
                let [stream, _] = plain(
                    target,
                    Function::StreamOpen,
                    [open_flags::LITTLE_ENDIAN, 0, 0],
                )?;
                self.stream = Some(stream);
                let entries = target.offer().hpt_entries;
                write_checked(
                    out,
                    format_args!("@hptdump {VERSION} {name} {entries} little"),
                )?;
                stream
            }
        };
        let done = call(
            target,
            Function::StreamRead,
            [stream, 0, 0],
            &mut self.buffer,
        )?;
        let written = self.buffer.get(..done.bytes).unwrap_or_default();
        let (chunk, records) =
            records::read::<StreamChunk>(written).map_err(crate::control::ControlError::from)?;
        for piece in records.chunks(LINE_BYTES) {
            write_checked(out, format_args!("@h {} {}", self.offset, Base64(piece)))?;
            self.offset += piece.len() as u64;
            self.lines += 1;
            self.sum = self.sum.with(piece);
        }
        if chunk.flags.get() & StreamChunk::END == 0 {
            return Ok(Step::Again);
        }
        let (bytes, lines, sum) = (self.offset, self.lines, self.sum.get());
        write_checked(
            out,
            format_args!("@hptdump-end {name} {bytes} {lines} {sum:08x}"),
        )?;
        self.end(target);
        Ok(Step::Finished)
    }

    /// Gives the reader back.
    pub(super) fn end<T: Controlled>(&mut self, target: &T) {
        if let Some(stream) = self.stream.take() {
            patient(target, Function::StreamClose, [stream, 0, 0]);
        }
    }
}
