// SPDX-License-Identifier: Apache-2.0 OR MIT
//! SUSPEND, COMMIT, RESUME, INVALIDATE, and whose the state is in between.

use super::*;
use crate::control::error::Reason;
use crate::control::fake::Asked;
use crate::control::records::{Invalidate, VcpuState};
use crate::control::target::TargetError;
use crate::control::{WRITER, open_flags};
use core::mem::offset_of;
use zerocopy::byteorder::big_endian::{U32, U64};

fn invalidate(flags: u32, first: u64, bits: u64, hint: u64) -> Invalidate {
    let mut record = Invalidate::blank();
    record.flags = U32::new(flags);
    record.first = U64::new(first);
    record.bits = U64::new(bits);
    record.bitmap_bytes = U32::new(u32::try_from(bits.div_ceil(8)).unwrap());
    record.hint = U64::new(hint);
    record
}

impl Tools {
    fn commit(&mut self) -> Answer {
        self.plain(Function::Commit, &[])
    }

    fn resume(&mut self) -> Answer {
        self.plain(Function::Resume, &[])
    }

    /// Each way to change a suspended partition.
    fn change(&mut self, way: usize) {
        match way {
            0 => {
                let output = self.out(Function::VcpuGet, &[0], size_of::<VcpuState>());
                let (state, _) = record::<VcpuState>(&output.output);
                self.put(Function::VcpuSet, &[0], &state, &[]).is(&[]);
            }
            1 => {
                self.put(Function::Invalidate, &[], &invalidate(0, 0, 0, 0), &[])
                    .is(&[0, 0]);
            }
            2 => {
                let mut cursor = 0;
                for _ in 0..3 {
                    cursor = self.plain(Function::HptDrop, &[cursor]).results[0];
                }
            }
            _ => {
                let mut piece = crate::control::records::StreamChunk::blank();
                piece.stream = U32::new(0x100);
                piece.flags = U32::new(4);
                piece.byte_order = crate::control::records::BYTE_ORDER_BIG.into();
                self.plain(Function::StreamOpen, &[open_flags::WRITE])
                    .is(&[WRITER]);
                self.put(Function::StreamWrite, &[WRITER], &piece, &[])
                    .is(&[0]);
                self.plain(Function::StreamClose, &[WRITER]).is(&[]);
            }
        }
    }
}

#[test]
fn resume_is_refused_after_a_change_until_commit() {
    for way in 0..4 {
        let mut tools = Tools::new();
        tools.suspend();
        assert_eq!(tools.hold_state(), State::Stopped);
        tools.change(way);
        assert_eq!(tools.hold_state(), State::Dirty, "{way}");
        tools.resume().refused(HcallStatus::STATE);
        assert!(!tools.state().running);
        tools.commit().is(&[]);
        assert_eq!(tools.hold_state(), State::Runnable);
        // Once more, after COMMIT.
        tools.change(way);
        assert_eq!(tools.hold_state(), State::Dirty);
        tools.resume().refused(HcallStatus::STATE);
        tools.commit().is(&[]);
        tools.commit().is(&[]);
        tools.resume().is(&[]);
        assert_eq!(tools.hold_state(), State::Running);
        assert!(tools.state().running);
    }
}

#[test]
fn without_a_change_commit_is_optional() {
    let mut tools = Tools::new();
    tools.suspend();
    tools.resume().is(&[]);
    tools.suspend();
    tools.commit().is(&[]);
    tools.resume().is(&[]);
    let [suspend, resume] = [Asked::Suspend, Asked::Resume];
    assert_eq!(tools.state().asked, [suspend, resume, suspend, resume]);
}

#[test]
fn a_running_partition_is_nobodys() {
    let mut tools = Tools::new();
    for function in [Function::Commit, Function::Resume] {
        tools.plain(function, &[]).refused(HcallStatus::STATE);
    }
    let record = invalidate(0, 0, 0, 0);
    tools
        .put(Function::Invalidate, &[], &record, &[])
        .refused(HcallStatus::STATE);
    assert!(tools.state().asked.is_empty());
}

#[test]
fn suspend_is_called_until_all_virtual_processors_are_out() {
    let mut tools = Tools::new();
    tools.state().slow = 2;
    for _ in 0..2 {
        tools
            .plain(Function::Suspend, &[])
            .refused(HcallStatus::LONG_BUSY_ORDER_1_MSEC);
        assert_eq!(tools.hold_state(), State::Stopping);
        tools.commit().refused(HcallStatus::STATE);
        tools.as_other(|tools| {
            for function in [Function::Suspend, Function::Resume] {
                tools.plain(function, &[]).refused(HcallStatus::IN_USE);
            }
        });
    }
    tools.suspend();
    tools.suspend();
    assert_eq!(tools.state().asked, [Asked::Suspend; 3]);
}

#[test]
fn a_suspension_that_is_not_complete_can_be_withdrawn() {
    let mut tools = Tools::new();
    tools.state().slow = 1;
    tools
        .plain(Function::Suspend, &[])
        .refused(HcallStatus::LONG_BUSY_ORDER_1_MSEC);
    tools.state().fail = Some(TargetError::Busy);
    tools.resume().refused(HcallStatus::BUSY);
    assert_eq!(tools.hold_state(), State::Stopping);
    tools.resume().is(&[]);
    assert_eq!(tools.hold_state(), State::Running);
    assert!(tools.state().running);
    tools.resume().refused(HcallStatus::STATE);
}

#[test]
fn a_partition_has_one_holder() {
    let mut tools = Tools::new();
    tools.suspend();
    tools.as_other(|tools| {
        for function in [Function::Suspend, Function::Commit, Function::Resume] {
            tools.plain(function, &[]).refused(HcallStatus::IN_USE);
        }
    });
    let target = tools.target();
    let mut session = target.session().lock();
    let error = session.suspend(target, Holder::Operator);
    assert_eq!(error, Err(crate::control::ControlError::Held));
    drop(session);
    tools.resume().is(&[]);
    tools.as_other(Tools::suspend);
    tools.resume().refused(HcallStatus::IN_USE);
}

#[test]
fn nobody_suspends_himself() {
    let mut tools = Tools::new();
    let call = Call {
        function: Function::Suspend as u64,
        partition: 1,
        ..Call::default()
    };
    tools.raw(&call).refused(HcallStatus::P2);
    // What does not need a halted partition works.
    let call = Call {
        function: Function::Feature as u64,
        ..call
    };
    tools.raw(&call).is(&[1, 3]);
    assert!(tools.directory.0[0].state().running);
}

#[test]
fn what_a_lost_tool_leaves_is_the_next_ones_to_finish() {
    let mut tools = Tools::new();
    tools.plain(Function::DirtyLog, &[0, 1]).is(&[]);
    tools.plain(Function::StreamOpen, &[0]).is(&[0]);
    tools.as_other(|tools| {
        tools.plain(Function::StreamOpen, &[0]).is(&[1]);
    });
    tools.suspend();
    tools.change(1);
    tools
        .plain(Function::StreamOpen, &[open_flags::WRITE])
        .is(&[WRITER]);
    let lost = Holder::Partition(GuestId(TOOL));
    tools.session().abandon(tools.target(), lost);
    assert_eq!(tools.hold_state(), State::Dirty);
    assert!(!tools.session().is_logged(0) && tools.state().logs[0].is_none());
    assert!(tools.state().asked.contains(&Asked::CloseReader(0)));
    assert!(!tools.state().asked.contains(&Asked::CloseReader(1)));
    // Even the same tool has to suspend it again.
    tools.resume().refused(HcallStatus::IN_USE);
    tools.as_other(|tools| {
        tools.resume().refused(HcallStatus::IN_USE);
        tools.suspend();
        tools.resume().refused(HcallStatus::STATE);
        tools.commit().is(&[]);
        tools.resume().is(&[]);
        tools.out(Function::StreamRead, &[1], 4096).is(&[40, 1]);
    });
}

#[test]
fn a_partition_that_starts_over_is_free_of_tools() {
    let mut tools = Tools::new();
    tools.plain(Function::DirtyLog, &[0, 1]).is(&[]);
    tools.plain(Function::StreamOpen, &[0]).is(&[0]);
    tools.suspend();
    tools.session().restart(tools.target());
    assert_eq!(tools.hold_state(), State::Running);
    assert!(tools.state().logs[0].is_none() && tools.state().readers[0].is_none());
    tools
        .out(Function::StreamRead, &[0], 4096)
        .refused(HcallStatus::P5);
}

#[test]
fn a_partition_that_cannot_says_why_and_stays_as_it_is() {
    let mut tools = Tools::new();
    tools.state().fail = Some(TargetError::Off);
    tools
        .plain(Function::Suspend, &[])
        .refused(HcallStatus::NOT_ACTIVE);
    assert_eq!(tools.hold_state(), State::Running);
    tools.suspend();
    tools.change(1);
    tools.state().fail = Some(TargetError::State);
    tools.commit().refused(HcallStatus::STATE);
    assert_eq!(tools.hold_state(), State::Dirty);
    tools.commit().is(&[]);
    tools.state().fail = Some(TargetError::Hardware);
    tools.resume().refused(HcallStatus::HARDWARE);
    assert_eq!(tools.hold_state(), State::Runnable);
    tools.resume().is(&[]);
}

#[test]
fn the_callers_count_is_only_a_hint() {
    let mut tools = Tools::new();
    tools.suspend();
    let mut asked = |record: &Invalidate, bitmap: &[u8], results: [u64; 2]| {
        tools.state().asked.clear();
        tools
            .put(Function::Invalidate, &[], record, bitmap)
            .is(&results);
        let asked = tools.state().asked.clone();
        let [last] = asked[..] else {
            panic!("{asked:?}")
        };
        last
    };
    // 32 entries are below the threshold whatever the caller says, 33 above it.
    for hint in [0, 32, u64::MAX] {
        let record = invalidate(0, 64, 40, hint);
        assert_eq!(
            asked(&record, &[0xff, 0xff, 0, 0xff, 0xff], [32, 0]),
            Asked::FlushedSingle(32)
        );
        assert_eq!(
            asked(&record, &[0xff, 0xff, 1, 0xff, 0xff], [33, 1]),
            Asked::FlushedEverything
        );
    }
    let groups = invalidate(Invalidate::GROUPS, 0, 8, 0);
    assert_eq!(asked(&groups, &[0x0f], [4, 0]), Asked::FlushedSingle(32));
    assert_eq!(asked(&groups, &[0x1f], [5, 1]), Asked::FlushedEverything);
}

#[test]
fn a_strict_caller_is_told_that_it_counted_wrong() {
    let mut tools = Tools::new();
    tools.suspend();
    for hint in [0, 2, 4, u64::MAX] {
        let record = invalidate(Invalidate::STRICT, 0, 8, hint);
        tools
            .put(Function::Invalidate, &[], &record, &[0x25])
            .bad_record(Reason::Hint, offset_of!(Invalidate, hint));
    }
    assert_eq!(tools.hold_state(), State::Stopped);
    let record = invalidate(Invalidate::STRICT, 0, 8, 3);
    tools
        .put(Function::Invalidate, &[], &record, &[0x25])
        .is(&[3, 0]);
}

#[test]
fn bits_beyond_the_table_or_the_bitmap_are_refused() {
    let mut tools = Tools::new();
    tools.suspend();
    let bits = offset_of!(Invalidate, bits);
    for record in [
        invalidate(0, 12288, 1, 0),
        invalidate(0, 12224, 65, 0),
        invalidate(0, !63, 65, 0),
        invalidate(Invalidate::GROUPS, 1536, 1, 0),
    ] {
        tools
            .put(Function::Invalidate, &[], &record, &[0; 64])
            .bad_record(Reason::Value, bits);
    }
    let last = invalidate(0, 12224, 64, 0);
    tools
        .put(Function::Invalidate, &[], &last, &[0x80; 8])
        .is(&[8, 0]);
    tools
        .put(Function::Invalidate, &[], &last, &[0; 7])
        .bad_record(Reason::TooShort, offset_of!(Invalidate, bitmap_bytes));
    // The tenth bit of nine.
    tools
        .put(Function::Invalidate, &[], &invalidate(0, 0, 9, 0), &[0, 2])
        .bad_record(Reason::Padding, 48 + 1);
}
