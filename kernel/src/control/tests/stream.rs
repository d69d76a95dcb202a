// SPDX-License-Identifier: Apache-2.0 OR MIT
//! STREAM_OPEN, STREAM_READ, STREAM_WRITE, STREAM_CLOSE, HPT_DROP.

use super::*;
use crate::control::error::Reason;
use crate::control::fake::{BOLTED, VALID};
use crate::control::records::{BYTE_ORDER_BIG, BYTE_ORDER_LITTLE, StreamChunk};
use crate::control::target::TargetError;
use crate::control::{DONE, WRITER, open_flags};
use core::mem::offset_of;
use zerocopy::byteorder::big_endian::{U16, U32, U64};

const FIRST: u64 = StreamChunk::FIRST_PASS as u64;
const END: u64 = StreamChunk::END as u64;

fn chunk(flags: u32, offset: u64, length: usize) -> StreamChunk {
    let mut record = StreamChunk::blank();
    record.stream = U32::new(u32::try_from(WRITER).unwrap());
    record.flags = U32::new(flags);
    record.offset = U64::new(offset);
    record.length = U32::new(u32::try_from(length).unwrap());
    record.byte_order = U16::new(BYTE_ORDER_BIG);
    record
}

/// A big-endian record of one valid entry.
fn entry(index: u32, v: u64, r: u64) -> Vec<u8> {
    let mut bytes = Vec::from(index.to_be_bytes());
    bytes.extend([0, 1, 0, 0]);
    bytes.extend(v.to_be_bytes());
    bytes.extend(r.to_be_bytes());
    bytes
}

impl Tools {
    /// Reads a pass in buffers of `length` bytes: its records and how many calls it took.
    #[track_caller]
    fn pass(&mut self, stream: u64, length: usize) -> (Vec<u8>, usize) {
        let (mut all, mut calls) = (Vec::new(), 0);
        loop {
            calls += 1;
            assert!(calls < 1000, "no end");
            let answer = self.out(Function::StreamRead, &[stream], length);
            assert_eq!(answer.status, HcallStatus::SUCCESS);
            let (chunk, records) = record::<StreamChunk>(&answer.output);
            assert_eq!(u64::from(chunk.stream.get()), stream);
            assert_eq!(chunk.length.get() as usize, records.len());
            assert_eq!(u64::from(chunk.flags.get()), answer.results[1]);
            all.extend(records);
            if answer.results[1] & END != 0 {
                return (all, calls);
            }
        }
    }

    #[track_caller]
    fn open(&mut self, flags: u64, stream: u64) {
        self.plain(Function::StreamOpen, &[flags]).is(&[stream]);
    }
}

#[test]
fn a_first_pass_gives_everything_and_later_ones_what_changed() {
    let mut tools = Tools::new();
    tools.state().set_entry(8191, Some([VALID | BOLTED, 2]));
    tools.open(0, 0);
    let answer = tools.out(Function::StreamRead, &[0], 4096);
    // Nothing in the first 4096 entries; the call says that there is more to look at.
    let (first, records) = record::<StreamChunk>(&answer.output);
    assert_eq!((answer.results[1], records.len()), (FIRST, 0));
    assert_eq!(first.byte_order.get(), BYTE_ORDER_BIG);
    let (records, _) = tools.pass(0, 4096);
    assert_eq!(records, entry(8191, VALID | BOLTED, 2));
    assert_eq!(tools.pass(0, 4096).0, []);
    tools.state().set_entry(5, Some([VALID, 1]));
    tools.state().set_entry(8191, None);
    let gone = [0, 0, 0x1f, 0xff, 0, 0, 0, 1];
    assert_eq!(
        tools.pass(0, 4096).0,
        [&entry(5, VALID, 1)[..], &gone].concat()
    );
    let answer = tools.out(Function::StreamRead, &[0], 4096);
    let (chunk, _) = record::<StreamChunk>(&answer.output);
    assert_eq!((chunk.flags.get(), chunk.offset.get()), (0, 24 + 24 + 8));
}

#[test]
fn stream_short_buffer() {
    let mut tools = Tools::new();
    for index in 0..100 {
        tools.state().set_entry(index, Some([VALID, 7]));
    }
    tools.open(0, 0);
    tools.open(0, 1);
    let smallest = size_of::<StreamChunk>() + 24;
    // One byte less than what holds an entry is an error, and not the end of the pass.
    for length in [1, size_of::<StreamChunk>(), smallest - 1] {
        tools
            .out(Function::StreamRead, &[0], length)
            .refused(HcallStatus::P4);
    }
    let (all, calls) = tools.pass(0, smallest);
    assert_eq!((all.len(), calls), (2400, 102));
    assert_eq!(tools.pass(1, 16 << 10), (all, 3));
}

#[test]
fn stream_two_readers() {
    let mut tools = Tools::new();
    for reader in 0..4 {
        tools.open(
            if reader == 3 {
                open_flags::LITTLE_ENDIAN
            } else {
                0
            },
            reader,
        );
    }
    tools
        .plain(Function::StreamOpen, &[0])
        .refused(HcallStatus::RESOURCE);
    for reader in 0..4 {
        assert_eq!(tools.pass(reader, 4096).0, []);
    }
    tools.state().set_entry(9, Some([VALID, 3]));
    for reader in 0..3 {
        assert_eq!(tools.pass(reader, 4096).0, entry(9, VALID, 3));
    }
    tools.state().set_entry(10, Some([VALID, 4]));
    let both = [entry(9, VALID, 3), entry(10, VALID, 4)].concat();
    let (little, _) = tools.pass(3, 4096);
    assert_eq!(little[..8], [9, 0, 0, 0, 1, 0, 0, 0]);
    assert_eq!(little[8..24], both[8..24]);
    assert_eq!(little.len(), both.len());
    assert_eq!(tools.pass(0, 4096).0, entry(10, VALID, 4));
    let answer = tools.out(Function::StreamRead, &[3], 4096);
    let (chunk, _) = record::<StreamChunk>(&answer.output);
    assert_eq!(chunk.byte_order.get(), BYTE_ORDER_LITTLE);
    // A place that is free again is given out again, for a first pass.
    tools.plain(Function::StreamClose, &[1]).is(&[]);
    tools
        .out(Function::StreamRead, &[1], 4096)
        .refused(HcallStatus::P5);
    tools.open(open_flags::BOLTED_ONLY, 1);
    let answer = tools.out(Function::StreamRead, &[1], 4096);
    let flags = FIRST | u64::from(StreamChunk::BOLTED_ONLY);
    assert_eq!(answer.results, [40, flags]);
}

#[test]
fn somebody_elses_stream_is_not_there() {
    let mut tools = Tools::new();
    tools.open(0, 0);
    tools.as_other(|tools| {
        tools
            .out(Function::StreamRead, &[0], 4096)
            .refused(HcallStatus::P5);
        tools
            .plain(Function::StreamClose, &[0])
            .refused(HcallStatus::P5);
        tools.open(0, 1);
    });
    for stream in [1, 2, 4, WRITER, u64::MAX] {
        tools
            .out(Function::StreamRead, &[stream], 4096)
            .refused(HcallStatus::P5);
    }
    for stream in [1, 2, 4, u64::MAX] {
        tools
            .plain(Function::StreamClose, &[stream])
            .refused(HcallStatus::P5);
    }
    for flags in [8, 1 << 63, open_flags::WRITE | open_flags::BOLTED_ONLY] {
        tools
            .plain(Function::StreamOpen, &[flags])
            .refused(HcallStatus::P5);
    }
}

#[test]
fn a_refused_read_loses_nothing() {
    let mut tools = Tools::new();
    tools.state().set_entry(1, Some([VALID, 1]));
    tools.open(0, 0);
    tools.state().fail = Some(TargetError::Busy);
    tools
        .out(Function::StreamRead, &[0], 4096)
        .refused(HcallStatus::BUSY);
    assert_eq!(tools.pass(0, 4096).0, entry(1, VALID, 1));
}

#[test]
fn stream_write_rejects_while_running() {
    let mut tools = Tools::new();
    tools
        .plain(Function::StreamOpen, &[open_flags::WRITE])
        .refused(HcallStatus::STATE);
    let piece = chunk(StreamChunk::END, 0, 0);
    tools
        .put(Function::StreamWrite, &[WRITER], &piece, &[])
        .refused(HcallStatus::STATE);
    tools
        .plain(Function::HptDrop, &[0])
        .refused(HcallStatus::STATE);
    tools.suspend();
    // Not opened.
    tools
        .put(Function::StreamWrite, &[WRITER], &piece, &[])
        .refused(HcallStatus::STATE);
    tools
        .plain(Function::StreamClose, &[WRITER])
        .refused(HcallStatus::STATE);
    tools.as_other(|tools| {
        tools
            .plain(Function::StreamOpen, &[open_flags::WRITE])
            .refused(HcallStatus::IN_USE);
        tools
            .plain(Function::HptDrop, &[0])
            .refused(HcallStatus::IN_USE);
    });
}

#[test]
fn a_table_is_streamed_out_dropped_and_streamed_in() {
    let mut tools = Tools::new();
    for index in (0..12288).step_by(97) {
        let v = VALID | if index % 2 == 0 { BOLTED } else { 0 };
        tools.state().set_entry(index, Some([v, index as u64]));
    }
    let before = tools.state().hpt.clone();
    tools.open(0, 0);
    tools.suspend();
    let (stream, _) = tools.pass(0, 4096);
    for (cursor, next) in [(0, 4096), (4096, 8192), (8192, DONE)] {
        tools.plain(Function::HptDrop, &[cursor]).is(&[next]);
    }
    assert!(tools.state().hpt.is_empty());
    tools.open(open_flags::WRITE, WRITER);
    let pieces = stream.chunks(24 * 50);
    let last = pieces.len() - 1;
    let mut offset = 0;
    for (number, records) in pieces.enumerate() {
        let end = if number == last { StreamChunk::END } else { 0 };
        let piece = chunk(StreamChunk::FIRST_PASS | end, offset, records.len());
        offset += records.len() as u64;
        tools
            .put(Function::StreamWrite, &[WRITER], &piece, records)
            .is(&[offset]);
        // The end of a pass, and closing, are both asked for.
        tools
            .plain(Function::Commit, &[])
            .refused(HcallStatus::STATE);
    }
    tools.plain(Function::StreamClose, &[WRITER]).is(&[]);
    tools.plain(Function::Commit, &[]).is(&[]);
    tools.plain(Function::Resume, &[]).is(&[]);
    assert_eq!(tools.state().hpt, before);
}

#[test]
fn a_piece_that_is_missing_or_comes_twice_is_noticed() {
    let mut tools = Tools::new();
    tools.suspend();
    tools.open(open_flags::WRITE, WRITER);
    let records = entry(3, VALID, 9);
    let put = |tools: &mut Tools, offset| {
        let piece = chunk(0, offset, 24);
        tools.put(Function::StreamWrite, &[WRITER], &piece, &records)
    };
    let at = offset_of!(StreamChunk, offset);
    put(&mut tools, 24).bad_record(Reason::Sequence, at);
    put(&mut tools, 0).is(&[24]);
    put(&mut tools, 0).bad_record(Reason::Sequence, at);
    put(&mut tools, 48).bad_record(Reason::Sequence, at);
    put(&mut tools, 24).is(&[48]);
}

#[test]
fn a_torn_table_cannot_be_committed() {
    let mut tools = Tools::new();
    let refused = |tools: &mut Tools| {
        for function in [Function::Commit, Function::Resume] {
            tools.plain(function, &[]).refused(HcallStatus::STATE);
        }
    };
    let write = |tools: &mut Tools, flags| {
        tools.open(open_flags::WRITE, WRITER);
        let records = entry(3, VALID, 9);
        let piece = chunk(flags, 0, 24);
        tools
            .put(Function::StreamWrite, &[WRITER], &piece, &records)
            .is(&[24]);
        refused(tools);
        tools.plain(Function::StreamClose, &[WRITER]).is(&[]);
    };
    // A stream that ends in the middle of a pass.
    tools.suspend();
    write(&mut tools, 0);
    refused(&mut tools);
    // What changed since some pass does not make it whole, a first pass does.
    write(&mut tools, StreamChunk::END);
    refused(&mut tools);
    write(&mut tools, StreamChunk::END | StreamChunk::FIRST_PASS);
    tools.plain(Function::Commit, &[]).is(&[]);
    // To a whole one, changes may come.
    write(&mut tools, StreamChunk::END);
    tools.plain(Function::Commit, &[]).is(&[]);
    // Half an empty table.
    tools.plain(Function::HptDrop, &[0]).is(&[4096]);
    // A stream may put entries back where they were dropped: then it is to be begun again.
    tools.open(open_flags::WRITE, WRITER);
    tools.plain(Function::StreamClose, &[WRITER]).is(&[]);
    tools
        .plain(Function::HptDrop, &[4096])
        .refused(HcallStatus::P5);
    tools.plain(Function::HptDrop, &[0]).is(&[4096]);
    refused(&mut tools);
    tools
        .plain(Function::HptDrop, &[8192])
        .refused(HcallStatus::P5);
    tools.plain(Function::HptDrop, &[4096]).is(&[8192]);
    tools.plain(Function::HptDrop, &[8192]).is(&[DONE]);
    tools.plain(Function::Commit, &[]).is(&[]);
    // The cursor of what is finished leads nowhere.
    tools
        .plain(Function::HptDrop, &[8192])
        .refused(HcallStatus::P5);
    tools.plain(Function::Resume, &[]).is(&[]);
}

#[test]
fn records_that_the_partition_cannot_have_change_nothing() {
    let mut tools = Tools::new();
    tools.state().set_entry(3, Some([VALID, 1]));
    let before = tools.state().hpt.clone();
    tools.suspend();
    tools.open(open_flags::WRITE, WRITER);
    let good = entry(3, VALID, 9);
    let bodies = [
        // V is clear.
        (entry(4, 0, 9), 8),
        // stream_header_count_overrun: one entry more than there are bytes, or in the table.
        (vec![0, 0, 0, 5, 0, 1, 0, 0], 0),
        (vec![0, 0, 0x2f, 0xff, 0, 0, 0, 2], 0),
        (vec![0xff; 8], 0),
        (vec![0, 0, 0], 0),
    ];
    for (bad, offset) in bodies {
        let records = [&good[..], &bad].concat();
        let piece = chunk(StreamChunk::END, 0, records.len());
        tools
            .put(Function::StreamWrite, &[WRITER], &piece, &records)
            .bad_record(Reason::Stream, 40 + 24 + offset);
        assert_eq!(tools.state().hpt, before);
    }
    // The stream goes on with another piece for this place.
    let piece = chunk(StreamChunk::END, 0, 24);
    tools
        .put(Function::StreamWrite, &[WRITER], &piece, &good)
        .is(&[24]);
}

#[test]
fn a_piece_is_no_more_work_than_a_call_may_be() {
    let mut tools = Tools::new();
    tools.suspend();
    tools.open(open_flags::WRITE, WRITER);
    // All of the table, five times over, in 40 bytes; and then once more.
    let all = [0, 0, 0, 0, 0, 0, 0x30, 0];
    let piece = chunk(0, 0, 40);
    tools
        .put(Function::StreamWrite, &[WRITER], &piece, &all.repeat(5))
        .is(&[40]);
    let piece = chunk(0, 40, 48);
    tools
        .put(Function::StreamWrite, &[WRITER], &piece, &all.repeat(6))
        .bad_record(Reason::Work, 40 + 40);
    // Entries that are there are passed over, whatever they look like.
    let mut records = entry(0, u64::MAX, u64::MAX);
    records.extend(all.repeat(5));
    let piece = chunk(StreamChunk::END, 40, 64);
    tools
        .put(Function::StreamWrite, &[WRITER], &piece, &records)
        .is(&[104]);
}

#[test]
fn pieces_of_another_stream_are_refused() {
    let mut tools = Tools::new();
    tools.suspend();
    tools.open(open_flags::WRITE, WRITER);
    let records = entry(3, VALID, 9);
    let good = chunk(0, 0, 24);
    let mut other = good;
    other.stream = U32::new(0);
    tools
        .put(Function::StreamWrite, &[WRITER], &other, &records)
        .bad_record(Reason::Value, offset_of!(StreamChunk, stream));
    let mut other = good;
    other.byte_order = U16::new(BYTE_ORDER_LITTLE);
    tools
        .put(Function::StreamWrite, &[WRITER], &other, &records)
        .bad_record(Reason::Value, offset_of!(StreamChunk, byte_order));
    let mut other = good;
    other.length = U32::new(25);
    tools
        .put(Function::StreamWrite, &[WRITER], &other, &records)
        .bad_record(Reason::TooShort, offset_of!(StreamChunk, length));
    for stream in [0, 0x101] {
        tools
            .put(Function::StreamWrite, &[stream], &good, &records)
            .refused(HcallStatus::P5);
    }
    tools
        .plain(Function::StreamOpen, &[open_flags::WRITE])
        .refused(HcallStatus::STATE);
    tools
        .plain(Function::HptDrop, &[0])
        .refused(HcallStatus::STATE);
}

#[test]
fn bytes_behind_the_payload_are_not_looked_at() {
    let mut tools = Tools::new();
    tools.suspend();
    tools.open(open_flags::WRITE, WRITER);
    let mut body = entry(3, VALID, 9);
    body.extend([0xff; 100]);
    let piece = chunk(StreamChunk::END, 0, 24);
    tools
        .put(Function::StreamWrite, &[WRITER], &piece, &body)
        .is(&[24]);
    assert_eq!(tools.state().hpt[&3], [VALID, 9]);
}
