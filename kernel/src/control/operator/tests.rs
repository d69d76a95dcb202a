// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Jobs against a partition of plain vectors.

extern crate std;

use super::*;
use crate::console::GuestId;
use crate::control::fake::{Asked, BOLTED, FAKE_ENTRIES, Fake, VALID};
use crate::control::session::State;
use crate::control::target::TargetError;
use crate::monitor::command::{DirtyCommand, HptCommand};
use std::string::String;
use std::vec::Vec;

/// A stream on the heap, up to a limit.
#[derive(Debug)]
pub(super) struct HeapStore {
    bytes: Vec<u8>,
    limit: usize,
}

impl HeapStore {
    /// Nothing yet, and never more than `limit` bytes.
    pub(super) const fn new(limit: usize) -> Self {
        Self {
            bytes: Vec::new(),
            limit,
        }
    }
}

impl StreamStore for HeapStore {
    fn len(&self) -> usize {
        self.bytes.len()
    }

    fn push(&mut self, bytes: &[u8]) -> bool {
        let fits = bytes.len() <= self.limit.saturating_sub(self.bytes.len());
        if !fits || self.bytes.try_reserve(bytes.len()).is_err() {
            return false;
        }
        self.bytes.extend_from_slice(bytes);
        true
    }

    fn copy(&self, at: usize, into: &mut [u8]) -> bool {
        let end = at.saturating_add(into.len());
        match self.bytes.get(at..end) {
            Some(bytes) => {
                into.copy_from_slice(bytes);
                true
            }
            None => false,
        }
    }
}

pub(super) type TestJob = Job<HeapStore>;

fn hpt(command: HptCommand) -> TestJob {
    Job::hpt(command, HeapStore::new(1 << 20))
}

/// Does a job to its end: what it printed, and in how many steps.
#[track_caller]
pub(super) fn finish(mut job: TestJob, target: &Fake) -> (String, usize) {
    let mut all = String::new();
    for steps in 1..1000 {
        let mut text = String::new();
        let step = job.step(target, &mut text).unwrap();
        let line_ends = text.matches('\n').count();
        assert!(text.len() + line_ends <= STEP_TEXT_BYTES);
        assert!(text.is_empty() || text.ends_with('\n'));
        all.push_str(&text);
        if step == Step::Finished {
            return (all, steps);
        }
    }
    panic!("no end: {all}");
}

pub(super) fn state_of(target: &Fake) -> State {
    target.session().try_lock().unwrap().state()
}

fn no_reader_is_left(target: &Fake) -> bool {
    target.state().readers.iter().all(Option::is_none)
}

/// A table with entries here and there.
fn with_table() -> Fake {
    with_entries(61)
}

/// A table with few entries.
fn with_small_table() -> Fake {
    with_entries(1200)
}

fn with_entries(step: usize) -> Fake {
    let target = Fake::new(2);
    for index in (5..FAKE_ENTRIES).step_by(step) {
        let v = VALID | 0x4000_1234_5600_0000 | if index % 2 == 0 { BOLTED } else { 0 };
        let entry = [v, (0x1000 * index as u64) | 0x196];
        target.state().set_entry(index, Some(entry));
    }
    target
}

#[test]
fn check_says_that_all_is_well_or_what_is_not() {
    let target = with_table();
    assert_eq!(
        finish(hpt(HptCommand::Check), &target).0,
        "fake-2: page table is sound (202 entries in use)\n"
    );
    target.state().bad_entry = Some(12287);
    assert_eq!(
        finish(hpt(HptCommand::Check), &target).0,
        "error: fake-2: HPTE 0x2fff is bad\n"
    );
}

#[test]
fn stats_are_a_table() {
    let target = with_table();
    assert_eq!(
        finish(hpt(HptCommand::Stats), &target).0,
        "Entries:        12288\n\
         In use:         202\n\
         Valid:          202\n\
         Absent:         0\n\
         Bolted:         101\n\
         Pages of 4K:    0\n\
         Pages of 64K:   0\n\
         Pages of 16M:   0\n"
    );
}

/// `kernel/tests/host.sh` has `hptdump.py` read the same text.
#[test]
fn a_dump_is_the_committed_text() {
    let (text, steps) = finish(hpt(HptCommand::Dump), &with_small_table());
    assert_eq!(text, include_str!("testdata/dump.txt"));
    assert_eq!(steps, 3);
}

#[test]
fn a_dump_gives_its_reader_back() {
    let target = with_table();
    finish(hpt(HptCommand::Dump), &target);
    assert!(no_reader_is_left(&target));
    // In the middle of it, too.
    let mut job = hpt(HptCommand::Dump);
    let mut out = String::new();
    assert_eq!(job.step(&target, &mut out), Ok(Step::Again));
    assert!(!no_reader_is_left(&target));
    job.end(&target, &mut out).unwrap();
    assert!(no_reader_is_left(&target));
    // And after an error.
    let mut job = hpt(HptCommand::Dump);
    assert_eq!(job.step(&target, &mut out), Ok(Step::Again));
    target.state().fail = Some(TargetError::Hardware);
    let mut out = String::new();
    assert_eq!(job.step(&target, &mut out), Ok(Step::Finished));
    assert_eq!(out, "error: fake-2: the hypervisor could not do it\n");
    assert!(no_reader_is_left(&target));
}

#[test]
fn a_dump_waits_while_somebody_else_is_at_it() {
    let target = with_small_table();
    let mut job = hpt(HptCommand::Dump);
    let lock = target.session().lock();
    let mut out = String::new();
    assert_eq!(job.step(&target, &mut out), Ok(Step::Again));
    assert!(out.is_empty());
    drop(lock);
    assert_eq!(finish(job, &target).0, include_str!("testdata/dump.txt"));
}

#[test]
fn a_job_that_the_partition_does_not_offer_says_so() {
    let target = with_table();
    target.state().offer.features = super::super::target::Features::NONE;
    for job in [hpt(HptCommand::Dump), hpt(HptCommand::Reload)] {
        assert_eq!(
            finish(job, &target).0,
            "error: fake-2: not in this version\n"
        );
    }
    target.state().slots.truncate(0);
    let job = Job::dirty(DirtyCommand::Look);
    assert_eq!(
        finish(job, &target).0,
        "error: fake-2: not in this version\n"
    );
}

#[test]
fn reload_puts_everything_back() {
    let target = with_table();
    let before = target.state().hpt.clone();
    let (text, _) = finish(hpt(HptCommand::Reload), &target);
    assert_eq!(
        text,
        "fake-2: page table dropped and put back from a stream of 4848 bytes\n"
    );
    assert_eq!(target.state().hpt, before);
    assert_eq!(state_of(&target), State::Running);
    assert!(target.state().running && no_reader_is_left(&target));
    let asked = [
        Asked::Suspend,
        Asked::CloseReader(0),
        Asked::Commit,
        Asked::Resume,
    ];
    assert_eq!(target.state().asked, asked);
}

#[test]
fn reload_writes_in_pieces_of_whole_records() {
    let target = Fake::new(2);
    // More than two buffers of the interface.
    for index in 0..2000 {
        target.state().set_entry(index, Some([VALID, index as u64]));
    }
    let before = target.state().hpt.clone();
    let (text, _) = finish(hpt(HptCommand::Reload), &target);
    assert!(text.contains("48000 bytes"), "{text}");
    assert_eq!(target.state().hpt, before);
}

#[test]
fn reload_leaves_a_suspended_partition_suspended() {
    let target = with_table();
    target.state().slow = 2;
    let mut session = target.session().lock();
    while session.suspend(&target, Holder::Operator).is_err() {}
    drop(session);
    finish(hpt(HptCommand::Reload), &target);
    assert_eq!(state_of(&target), State::Runnable);
    // Somebody else's partition is not touched.
    let target = with_table();
    let tool = Holder::Partition(GuestId(1));
    target.session().lock().suspend(&target, tool).unwrap();
    assert_eq!(
        finish(hpt(HptCommand::Reload), &target).0,
        "error: fake-2: another tool holds the partition, the stream or the log\n"
    );
    assert_eq!(state_of(&target), State::Stopped);
}

#[test]
fn a_stream_for_which_there_is_no_room_is_given_up_before_anything_is_lost() {
    let target = with_table();
    let before = target.state().hpt.clone();
    let job = Job::hpt(HptCommand::Reload, HeapStore::new(4847));
    assert_eq!(
        finish(job, &target).0,
        "error: fake-2: not enough memory for this\n"
    );
    assert_eq!(target.state().hpt, before);
    assert!(target.state().running && no_reader_is_left(&target));
}

/// Ends a reload before each of its steps, and lets each step fail.
#[test]
fn a_reload_that_does_not_end_leaves_a_whole_table_or_a_suspended_partition() {
    let run = |steps: usize, fail: bool| {
        let target = with_table();
        target.state().slow = 1;
        let before = target.state().hpt.clone();
        let mut job = hpt(HptCommand::Reload);
        let mut out = String::new();
        for _ in 0..steps {
            if job.step(&target, &mut out) == Ok(Step::Finished) {
                return false;
            }
        }
        if fail {
            target.state().fail = Some(TargetError::Hardware);
            // One that does not reach the partition goes well; then there is nothing to see.
            if job.step(&target, &mut out) != Ok(Step::Finished) {
                return true;
            }
        } else {
            job.end(&target, &mut out).unwrap();
        }
        target.state().fail = None;
        assert!(no_reader_is_left(&target), "{steps}");
        let running = target.state().running;
        match state_of(&target) {
            State::Running => {
                assert!(running);
                assert_eq!(target.state().hpt, before, "{steps}");
            }
            State::Dirty | State::Runnable => {
                assert!(!running);
                assert!(out.contains("fake-2: stays suspended"), "{steps}: {out}");
                // A tool may see to it.
                let mut session = target.session().lock();
                assert!(session.writer.is_none(), "{steps}");
                let tool = Holder::Partition(GuestId(1));
                assert_eq!(session.suspend(&target, tool), Ok(()), "{steps}");
            }
            other => panic!("{steps}: {other:?}"),
        }
        true
    };
    for fail in [false, true] {
        let mut steps = 0;
        while run(steps, fail) {
            steps += 1;
        }
        assert!(steps > 8, "{steps}");
    }
}

#[test]
fn the_first_look_at_dirty_pages_switches_the_logs_on() {
    let target = Fake::new(2);
    let look = || finish(Job::dirty(DirtyCommand::Look), &target).0;
    assert_eq!(
        look(),
        "slot 0 at 0x0: log is on\n\
         slot 1 at 0x7000000000000: log is on\n"
    );
    for page in [0, 1, 2, 77, 999] {
        target.state().touch(0, page, page);
    }
    target.state().touch(1, 129, 12287);
    assert_eq!(
        look(),
        "  0x0 to 0x3000\n  \
         0x4d000 to 0x4e000\n  \
         0x3e7000 to 0x3e8000\n\
         slot 0 at 0x0: 5 of 1000 pages of 4 KiB written since the last look\n  \
         0x7000000810000 to 0x7000000820000\n\
         slot 1 at 0x7000000000000: 1 of 130 pages of 64 KiB written since the last look\n"
    );
    for page in (0..1000).step_by(2) {
        target.state().touch(0, page, page);
    }
    let text = look();
    assert_eq!(text.matches("  0x").count(), 16);
    assert!(
        text.contains("  and 484 more\nslot 0 at 0x0: 500 of 1000"),
        "{text}"
    );
    assert!(
        text.contains("slot 1 at 0x7000000000000: 0 of 130"),
        "{text}"
    );
    let off = finish(Job::dirty(DirtyCommand::Off), &target).0;
    assert_eq!(
        off,
        "slot 0 at 0x0: log is off\n\
         slot 1 at 0x7000000000000: log is off\n"
    );
    assert!(target.state().logs.iter().all(Option::is_none));
}

#[test]
fn a_range_goes_on_across_pieces_of_the_bitmap() {
    let target = Fake::new(2);
    target.state().slots.truncate(1);
    target.state().slots[0].bytes = 40000 << 12;
    finish(Job::dirty(DirtyCommand::Look), &target);
    for page in 16380..33000 {
        target.state().touch(0, page, 0);
    }
    assert_eq!(
        finish(Job::dirty(DirtyCommand::Look), &target).0,
        "  0x3ffc000 to 0x80e8000\n\
         slot 0 at 0x0: 16620 of 40000 pages of 4 KiB written since the last look\n"
    );
}

#[test]
fn a_heap_store_holds_what_it_may() {
    let mut store = HeapStore::new(5);
    assert!(store.is_empty() && store.push(b"abc") && !store.push(b"def") && store.push(b"de"));
    assert!(!store.push(b"x") && store.push(b""));
    let mut bytes = [0; 3];
    assert!(store.copy(2, &mut bytes));
    assert_eq!((&bytes, store.len()), (b"cde", 5));
    assert!(!store.copy(3, &mut bytes) && !store.copy(usize::MAX, &mut bytes));
}
