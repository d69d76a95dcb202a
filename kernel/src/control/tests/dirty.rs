// SPDX-License-Identifier: Apache-2.0 OR MIT
//! DIRTY_LOG, DIRTY_HARVEST, DIRTY_FETCH.

use super::*;
use crate::control::DONE;
use crate::control::error::Reason;
use crate::control::records::{DirtyReply, DirtyRequest};
use crate::control::target::TargetError;
use core::mem::offset_of;
use zerocopy::byteorder::big_endian::{U32, U64};

fn request(slot: u32, shift: u8, first: u64, pages: u64, flags: u32) -> DirtyRequest {
    let mut record = DirtyRequest::blank();
    record.slot = U32::new(slot);
    record.page_shift = shift;
    record.first_page = U64::new(first);
    record.pages = U64::new(pages);
    record.flags = U32::new(flags);
    record
}

impl Tools {
    /// Fetches into a buffer of `length` bytes: next page, reply, bitmap.
    #[track_caller]
    fn fetch(&mut self, request: &DirtyRequest, length: usize) -> (u64, DirtyReply, Vec<u8>) {
        let slot = request.slot.get().into();
        let input = request.as_bytes();
        let answer = self.call(Function::DirtyFetch, &[slot], input, length);
        assert_eq!(answer.status, HcallStatus::SUCCESS, "{answer:x?}");
        assert_eq!(answer.results[0], answer.output.len() as u64);
        let (reply, bitmap) = record::<DirtyReply>(&answer.output);
        assert_eq!(reply.bitmap_bytes.get() as usize, bitmap.len());
        assert_eq!(reply.pages.get().div_ceil(8), bitmap.len() as u64);
        let set: u64 = bitmap.iter().map(|byte| u64::from(byte.count_ones())).sum();
        assert_eq!(reply.dirty.get(), set);
        (answer.results[1], reply, bitmap.to_vec())
    }

    #[track_caller]
    fn harvest_all(&mut self, slot: u64) -> u64 {
        let (mut cursor, mut found) = (0, 0);
        for _ in 0..3 {
            let answer = self.plain(Function::DirtyHarvest, &[slot, 1, cursor]);
            assert_eq!(answer.status, HcallStatus::SUCCESS);
            cursor = answer.results[0];
            found += answer.results[1];
        }
        assert_eq!(cursor, DONE);
        found
    }
}

#[test]
fn pages_that_were_written_are_told_once() {
    let mut tools = Tools::new();
    tools.plain(Function::DirtyLog, &[0, 1]).is(&[]);
    for (page, entry) in [(0, 0), (9, 5000), (63, 12287), (64, 1), (999, 2), (999, 3)] {
        tools.state().touch(0, page, entry);
    }
    tools.state().touch(1, 3, 3);
    assert_eq!(tools.harvest_all(0), 5);
    let all = request(0, 12, 0, 1024, 0);
    let (next, reply, bitmap) = tools.fetch(&all, 4096);
    assert_eq!(
        (next, reply.pages.get(), reply.dirty.get()),
        (DONE, 1000, 5)
    );
    // Bit n % 8 from the least significant of byte n / 8.
    assert_eq!(
        (bitmap[0], bitmap[1], bitmap[7], bitmap[8]),
        (1, 2, 0x80, 1)
    );
    assert_eq!((bitmap[124], bitmap.len()), (0x80, 125));
    let (_, reply, _) = tools.fetch(&request(0, 12, 0, 1024, DirtyRequest::TAKE), 4096);
    assert_eq!(reply.dirty.get(), 5);
    let (_, reply, _) = tools.fetch(&all, 4096);
    assert_eq!(reply.dirty.get(), 0);
}

#[test]
fn a_small_buffer_gives_whole_words_and_where_to_go_on() {
    let mut tools = Tools::new();
    tools.plain(Function::DirtyLog, &[1, 1]).is(&[]);
    for page in [1, 64, 129] {
        tools.state().touch(1, page, 0);
    }
    assert_eq!(tools.harvest_all(1), 3);
    // Room for 64 pages and 7 bytes.
    let smallest = size_of::<DirtyReply>() + 15;
    let mut first = 0;
    for (next, pages, last_byte) in [(64, 64, 0), (128, 64, 0), (DONE, 2, 2)] {
        let wanted = request(1, 16, first, 1 << 40, DirtyRequest::TAKE);
        let (cursor, reply, bitmap) = tools.fetch(&wanted, smallest);
        assert_eq!((cursor, reply.pages.get()), (next, pages));
        assert_eq!(reply.first_page.get(), first);
        assert_eq!((reply.page_shift, reply.dirty.get()), (16, 1));
        assert_eq!(*bitmap.last().unwrap(), last_byte);
        first = cursor;
    }
    // No more than was asked for.
    let (next, reply, _) = tools.fetch(&request(1, 16, 0, 64, 0), 4096);
    assert_eq!((next, reply.pages.get()), (64, 64));
}

#[test]
fn harvest_goes_on_from_its_cursor() {
    let mut tools = Tools::new();
    tools.plain(Function::DirtyLog, &[0, 1]).is(&[]);
    tools.state().touch(0, 1, 4095);
    tools.state().touch(0, 2, 4096);
    tools
        .plain(Function::DirtyHarvest, &[0, 0, 0])
        .is(&[4096, 1]);
    tools
        .plain(Function::DirtyHarvest, &[0, 0, 4096])
        .is(&[8192, 1]);
    tools
        .plain(Function::DirtyHarvest, &[0, 0, 8192])
        .is(&[DONE, 0]);
    for cursor in [12288, DONE] {
        tools
            .plain(Function::DirtyHarvest, &[0, 0, cursor])
            .refused(HcallStatus::P7);
    }
}

#[test]
fn a_log_belongs_to_the_tool_that_switched_it_on() {
    let mut tools = Tools::new();
    let all = request(0, 12, 0, 64, 0);
    let fetch = |tools: &mut Tools| tools.put(Function::DirtyFetch, &[0], &all, &[0; 64]);
    tools
        .plain(Function::DirtyHarvest, &[0, 0, 0])
        .refused(HcallStatus::STATE);
    fetch(&mut tools).refused(HcallStatus::STATE);
    tools.plain(Function::DirtyLog, &[0, 1]).is(&[]);
    tools.plain(Function::DirtyLog, &[1, 1]).is(&[]);
    tools.as_other(|tools| {
        fetch(tools).refused(HcallStatus::IN_USE);
        for slot in [0, 1] {
            for switch in [0, 1] {
                tools
                    .plain(Function::DirtyLog, &[slot, switch])
                    .refused(HcallStatus::IN_USE);
            }
            tools
                .plain(Function::DirtyHarvest, &[slot, 0, 0])
                .refused(HcallStatus::IN_USE);
        }
    });
    tools.plain(Function::DirtyLog, &[0, 0]).is(&[]);
    fetch(&mut tools).refused(HcallStatus::STATE);
    tools.as_other(|tools| {
        tools
            .plain(Function::DirtyLog, &[0, 1])
            .refused(HcallStatus::IN_USE);
    });
    // The last slot is off: anybody may.
    tools.plain(Function::DirtyLog, &[1, 0]).is(&[]);
    tools.as_other(|tools| {
        tools.plain(Function::DirtyLog, &[0, 1]).is(&[]);
    });
    fetch(&mut tools).refused(HcallStatus::IN_USE);
}

#[test]
fn slots_without_log_and_other_rubbish_are_refused() {
    let mut tools = Tools::new();
    for (arguments, status) in [
        ([2, 1, 0], HcallStatus::P5),
        ([3, 1, 0], HcallStatus::P5),
        ([1 << 32, 1, 0], HcallStatus::P5),
        ([0, 2, 0], HcallStatus::P6),
        ([0, u64::MAX, 0], HcallStatus::P6),
    ] {
        tools.plain(Function::DirtyLog, &arguments).refused(status);
        tools
            .plain(Function::DirtyHarvest, &arguments)
            .refused(status);
    }
    tools.plain(Function::DirtyLog, &[0, 1]).is(&[]);
    let good = request(0, 12, 0, 64, 0);
    let with = |change: &dyn Fn(&mut DirtyRequest)| {
        let mut record = good;
        change(&mut record);
        record
    };
    let slot = offset_of!(DirtyRequest, slot);
    let shift = offset_of!(DirtyRequest, page_shift);
    let first = offset_of!(DirtyRequest, first_page);
    for (record, offset) in [
        (with(&|record| record.slot = U32::new(1)), slot),
        (with(&|record| record.slot = U32::new(u32::MAX)), slot),
        (with(&|record| record.page_shift = 16), shift),
        (with(&|record| record.page_shift = 255), shift),
        (with(&|record| record.first_page = U64::new(1024)), first),
        (with(&|record| record.first_page = U64::new(1 << 63)), first),
        (with(&|record| record.first_page = U64::new(!63)), first),
    ] {
        tools
            .put(Function::DirtyFetch, &[0], &record, &[])
            .bad_record(Reason::Value, offset);
    }
}

#[test]
fn what_the_partition_answers_is_passed_on_and_changes_nothing() {
    let mut tools = Tools::new();
    tools.state().fail = Some(TargetError::Busy);
    tools
        .plain(Function::DirtyLog, &[0, 1])
        .refused(HcallStatus::BUSY);
    assert!(!tools.session().is_logged(0));
    tools.plain(Function::DirtyLog, &[0, 1]).is(&[]);
    tools.state().fail = Some(TargetError::Hardware);
    tools
        .plain(Function::DirtyLog, &[0, 0])
        .refused(HcallStatus::HARDWARE);
    assert!(tools.session().is_logged(0));
    tools.state().fail = Some(TargetError::Busy);
    tools
        .put(Function::DirtyFetch, &[0], &request(0, 12, 0, 64, 0), &[])
        .refused(HcallStatus::BUSY);
}
