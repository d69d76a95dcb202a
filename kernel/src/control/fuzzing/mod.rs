// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tools that are made of bytes, for the fuzz target `control_call` and a property test.
//!
//! The bytes are a program of calls by three partitions, of which one has no authority, and of what
//! happens meanwhile; any bytes are one. The partitions are those of [`super::fake`], which panic
//! when they are asked for what the interface must not ask for. A naive model, which looks only at
//! calls and answers, says what SUSPEND, COMMIT and RESUME have to answer.

extern crate std;

mod model;

use self::model::Model;
use super::error::ControlError;
use super::fake::{FAKE_ENTRIES, Fake, FakeDirectory, VALID};
use super::function::{Buffer, Function};
use super::records::{
    DirtyRequest, Invalidate, Record, RunState, StreamChunk, VcpuState, VectorState,
};
use super::session::State;
use super::target::TargetError;
use super::{
    Call, Caller, ControlPort, Controlled, Holder, MAX_BUFFER_BYTES, Reply, WRITER, open_flags,
    serve,
};
use crate::console::GuestId;
use crate::fuzzing::Bytes;
use crate::rtas::{GuestBytes, MemoryFault};
use penstock_arch::addr::GuestReal;
use penstock_mm::status::HcallStatus;
use std::vec;
use std::vec::Vec;
use zerocopy::IntoBytes;
use zerocopy::byteorder::big_endian::{U32, U64};

/// Most steps of one program.
const MAX_STEPS: usize = 200;
/// Bytes of the callers' memory.
const MEMORY: usize = 0x1_0000;
/// The partition that the model follows.
const TARGET: u64 = 2;
/// Callers: two with authority, and one without.
const CALLERS: [u16; 3] = [1, 7, 8];

struct Memory(Vec<u8>);

impl Memory {
    fn range(&self, at: GuestReal, bytes: usize) -> Result<core::ops::Range<usize>, MemoryFault> {
        let start = usize::try_from(at.get()).map_err(|_| MemoryFault { at })?;
        match start.checked_add(bytes) {
            Some(end) if end <= self.0.len() => Ok(start..end),
            _ => Err(MemoryFault { at }),
        }
    }
}

impl GuestBytes for Memory {
    fn check(&mut self, at: GuestReal, bytes: u64) -> Result<(), MemoryFault> {
        let bytes = usize::try_from(bytes).map_err(|_| MemoryFault { at })?;
        self.range(at, bytes).map(|_| ())
    }

    fn read(&mut self, at: GuestReal, into: &mut [u8]) -> Result<(), MemoryFault> {
        let range = self.range(at, into.len())?;
        into.copy_from_slice(&self.0[range]);
        Ok(())
    }

    fn write(&mut self, at: GuestReal, from: &[u8]) -> Result<(), MemoryFault> {
        let range = self.range(at, from.len())?;
        self.0[range].copy_from_slice(from);
        Ok(())
    }
}

/// How often something happened, so that a test can see that it did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Happened {
    /// Calls that went well.
    pub successes: u64,
    /// RESUME that went well.
    pub resumed: u64,
    /// RESUME after a change that was not committed.
    pub resume_refused: u64,
    /// COMMIT of a page table of which a part was missing.
    pub torn: u64,
    /// Pieces of a stream that went in.
    pub written: u64,
    /// Records that were refused.
    pub bad_records: u64,
}

/// Tools, and the partitions that they control.
pub struct Tools {
    directory: FakeDirectory,
    memory: Memory,
    ports: [ControlPort; 2],
    model: Model,
    /// What happened so far, in all programs.
    pub happened: Happened,
}

impl Default for Tools {
    fn default() -> Self {
        Self::new()
    }
}

impl Tools {
    /// Before the first program.
    #[must_use]
    pub fn new() -> Self {
        Self {
            directory: FakeDirectory(Vec::new()),
            memory: Memory(vec![0; MEMORY]),
            ports: [ControlPort::new(), ControlPort::new()],
            model: Model::new(),
            happened: Happened::default(),
        }
    }

    fn target(&self) -> &Fake {
        self.directory.find_target()
    }

    /// Runs a program with new partitions.
    ///
    /// # Panics
    /// Something holds no longer that must: this is what the fuzzer looks for.
    pub fn run(&mut self, program: &[u8]) {
        self.directory = FakeDirectory(vec![Fake::new(1), Fake::new(2)]);
        self.model = Model::new();
        let mut bytes = Bytes(program);
        for _ in 0..MAX_STEPS {
            if bytes.0.is_empty() {
                break;
            }
            match bytes.byte() % 16 {
                0 => self.guest(&mut bytes),
                1 => self.target().state().slow = u32::from(bytes.byte() % 3),
                2 => self.fail_next(&mut bytes),
                3 => self.lose_a_tool(&mut bytes),
                _ => self.call(&mut bytes),
            }
            self.check();
        }
    }

    /// The guest changes its page table and writes memory.
    fn guest(&self, bytes: &mut Bytes<'_>) {
        let mut state = self.target().state();
        if !state.running {
            return;
        }
        let index = usize::from(u16::from_be_bytes(bytes.array())) % FAKE_ENTRIES;
        let entry = (!bytes.byte().is_multiple_of(3)).then(|| [VALID, bytes.operand()]);
        state.set_entry(index, entry);
        let page = u64::from(bytes.byte());
        let slot = page % 2;
        if slot == 0 || page < 130 {
            state.touch(u32::try_from(slot).unwrap(), page, index as u64);
        }
    }

    fn fail_next(&self, bytes: &mut Bytes<'_>) {
        let error = match bytes.byte() % 4 {
            0 => TargetError::Busy,
            1 => TargetError::Off,
            2 => TargetError::State,
            _ => TargetError::Hardware,
        };
        self.target().state().fail = Some(error);
    }

    fn lose_a_tool(&mut self, bytes: &mut Bytes<'_>) {
        let who = CALLERS[usize::from(bytes.byte() % 2)];
        // Nothing of the tool's may be left half open.
        self.target().state().fail = None;
        let target = self.directory.find_target();
        target
            .session()
            .lock()
            .abandon(target, Holder::Partition(GuestId(who)));
        if self.model.holder == Some(who) {
            self.model.holder = None;
            self.model.writer = false;
            self.model.torn_before_pass = None;
        }
    }

    fn call(&mut self, bytes: &mut Bytes<'_>) {
        let caller = usize::from(bytes.byte());
        let caller = match caller % 16 {
            0 => 2,
            1..4 => 1,
            _ => 0,
        };
        let who = CALLERS[caller];
        let (call, record) = made_up_call(bytes);
        let known = Function::new(call.function);
        self.put(&call, &record);
        let before = self.memory.0.clone();
        let flags = u32::from_be_bytes(self.word_of(&call, 12));
        let (slow, fails) = {
            let state = self.target().state();
            (state.slow > 0, state.fail.is_some())
        };
        let reply = serve(
            &call,
            &Caller {
                holder: Holder::Partition(GuestId(who)),
                number: who.into(),
                port: self.ports.get(caller),
            },
            &mut self.memory,
            &self.directory,
        );
        self.check_reply(&call, &reply, &before);
        if caller == 2 {
            assert_eq!(reply.status, HcallStatus::AUTHORITY);
            return;
        }
        let Some(function) = known else {
            assert_eq!(reply.status, HcallStatus::UNSUPPORTED);
            return;
        };
        if call.partition != TARGET {
            return;
        }
        let expected = self.model.expected(function, who, slow);
        if let Some(expected) = expected
            && (call.address, call.length) == (0, 0)
            && !(fails && expected_reaches_the_partition(expected))
        {
            assert_eq!(reply.status, expected, "{function:?} {:?}", self.model);
        }
        self.count(function, &reply);
        self.model.learn(function, &call, who, &reply, flags);
        // What the partition itself refused to resume was found runnable all the same.
        if function == Function::Resume && fails && expected == Some(HcallStatus::SUCCESS) {
            let asked = (call.address, call.length) == (0, 0);
            let was_stopped = self.model.state != State::Stopping;
            if asked && was_stopped && self.target().state().fail.is_none() {
                self.model.state = State::Runnable;
            }
        }
        // A change that the partition refused half way is a change.
        if self.target().state().uncommitted {
            self.model.state = State::Dirty;
        }
    }

    fn count(&mut self, function: Function, reply: &Reply) {
        let happened = &mut self.happened;
        let dirty = self.model.state == State::Dirty;
        match (function, reply.status) {
            (Function::Resume, HcallStatus::SUCCESS) => happened.resumed += 1,
            (Function::Resume, HcallStatus::STATE) if dirty => happened.resume_refused += 1,
            (Function::Commit, HcallStatus::STATE) if self.model.torn => happened.torn += 1,
            (Function::StreamWrite, HcallStatus::SUCCESS) => happened.written += 1,
            (_, HcallStatus::BAD_DATA) => happened.bad_records += 1,
            _ => {}
        }
        if reply.status == HcallStatus::SUCCESS {
            happened.successes += 1;
        }
    }

    fn put(&mut self, call: &Call, record: &[u8]) {
        let at = usize::try_from(call.address).unwrap_or(usize::MAX);
        let length = usize::try_from(call.length).unwrap_or(0).min(record.len());
        let end = at.saturating_add(length);
        if let Some(space) = self.memory.0.get_mut(at..end) {
            space.copy_from_slice(&record[..length]);
        }
    }

    fn word_of(&self, call: &Call, offset: usize) -> [u8; 4] {
        let at = usize::try_from(call.address).unwrap_or(usize::MAX);
        let at = at.saturating_add(offset);
        let word = self.memory.0.get(at..at.saturating_add(4));
        word.and_then(|word| word.try_into().ok()).unwrap_or([0; 4])
    }

    /// What is true of every answer.
    fn check_reply(&self, call: &Call, reply: &Reply, before: &[u8]) {
        let success = reply.status == HcallStatus::SUCCESS;
        let errors = || ControlError::ALL.iter();
        assert!(success || errors().any(|(error, _)| error.status() == reply.status));
        let memory = &self.memory.0;
        if success {
            let at = usize::try_from(call.address).unwrap();
            let end = at + usize::try_from(call.length).unwrap();
            assert_eq!(memory[..at], before[..at], "before the buffer");
            assert_eq!(memory[end..], before[end..], "behind the buffer");
        } else {
            assert_eq!(memory, before, "written in spite of an error");
        }
        match reply.results() {
            [reason, offset] if reply.status == HcallStatus::BAD_DATA => {
                assert!((1..=12).contains(reason) && *offset < MAX_BUFFER_BYTES as u64);
            }
            results => assert!(success || results.is_empty()),
        }
    }

    /// What is true between calls.
    fn check(&self) {
        for fake in &self.directory.0 {
            let session = fake.session().try_lock().expect("the session is locked");
            let state = fake.state();
            let expected = match session.state() {
                State::Running | State::Stopping => (true, false),
                State::Stopped | State::Runnable => (false, false),
                State::Dirty => (false, true),
            };
            assert_eq!((state.running, state.uncommitted), expected);
        }
        let state = self.target().session().lock().state();
        assert_eq!(state, self.model.state);
    }
}

impl FakeDirectory {
    fn find_target(&self) -> &Fake {
        let target = self
            .0
            .iter()
            .find(|fake| u64::from(fake.number()) == TARGET);
        target.expect("the target was made")
    }
}

fn expected_reaches_the_partition(expected: HcallStatus) -> bool {
    matches!(
        expected,
        HcallStatus::SUCCESS | HcallStatus::LONG_BUSY_ORDER_1_MSEC
    )
}

/// A call that is right in most ways, and what its buffer holds.
fn made_up_call(bytes: &mut Bytes<'_>) -> (Call, Vec<u8>) {
    let choice = usize::from(bytes.byte());
    let Some(row) = Function::ALL.get(choice % (Function::ALL.len() + 1)) else {
        let call = Call {
            function: bytes.operand(),
            partition: bytes.operand(),
            address: bytes.operand(),
            length: bytes.operand(),
            arguments: core::array::from_fn(|_| bytes.operand()),
        };
        return (call, Vec::new());
    };
    let function = row.function;
    let mut arguments = match function {
        Function::StreamWrite => [WRITER, 0, 0],
        Function::StreamOpen if !bytes.byte().is_multiple_of(4) => [open_flags::WRITE, 0, 0],
        Function::StreamClose if bytes.byte().is_multiple_of(4) => [WRITER, 0, 0],
        Function::HptDrop => [u64::from(bytes.byte() % 4) * 4096, 0, 0],
        _ => core::array::from_fn(|_| u64::from(bytes.byte() % 4)),
    };
    let mut record = made_up_record(function, bytes);
    let mut length = match function.buffer() {
        Buffer::None => 0,
        buffer => record.len().max(buffer.min_bytes()) as u64,
    };
    if function == Function::VcpuGet {
        length += size_of::<VectorState>() as u64;
    }
    let mut address = if length == 0 { 0 } else { 0x1003 };
    let mut partition = TARGET;
    // One thing in eight is not as it should be.
    match bytes.byte() {
        0..4 => address = bytes.operand(),
        4..8 => length = bytes.operand(),
        8..12 => partition = bytes.operand(),
        12..20 => arguments[usize::from(bytes.byte() % 3)] = bytes.operand(),
        20..32 => {
            let at = usize::from(u16::from_be_bytes(bytes.array()));
            let count = record.len().max(1);
            if let Some(byte) = record.get_mut(at % count) {
                *byte = bytes.byte();
            }
        }
        _ => {}
    }
    let call = Call {
        function: function as u64,
        partition,
        address,
        length,
        arguments,
    };
    (call, record)
}

/// A good record for a function, most often.
fn made_up_record(function: Function, bytes: &mut Bytes<'_>) -> Vec<u8> {
    match function {
        Function::DirtyFetch => {
            let slot = bytes.byte() % 2;
            let mut record = DirtyRequest::blank();
            record.slot = U32::new(slot.into());
            record.page_shift = 12 + 4 * slot;
            record.first_page = U64::new(u64::from(bytes.byte() % 16) * 64);
            record.pages = U64::new(u64::from(bytes.byte() % 16) * 64);
            record.flags = U32::new(u32::from(bytes.byte() % 2));
            let mut all = record.as_bytes().to_vec();
            all.resize(all.len() + usize::from(bytes.byte()), 0x55);
            all
        }
        Function::StreamWrite => made_up_chunk(bytes),
        Function::VcpuSet => {
            let mut record = VcpuState::blank();
            record.vcpu = U32::new(u32::from(bytes.byte() % 2));
            record.run_state = U32::new(RunState::Runnable as u32);
            record.msr = U64::new(0x8000_0000_0000_1000 | u64::from(bytes.byte()));
            record.gpr[3] = U64::new(bytes.operand());
            record.parts = U32::new(u32::from(bytes.byte() % 2));
            let mut all = record.as_bytes().to_vec();
            all.extend(VectorState::blank().as_bytes());
            all
        }
        Function::Invalidate => {
            let count = bytes.byte() % 24;
            let bitmap: Vec<u8> = (0..count).map(|_| bytes.byte()).collect();
            let set: u64 = bitmap.iter().map(|byte| u64::from(byte.count_ones())).sum();
            let mut record = Invalidate::blank();
            record.flags = U32::new(u32::from(bytes.byte() % 4));
            record.first = U64::new(u64::from(bytes.byte()) * 64);
            record.bits = U64::new(8 * bitmap.len() as u64);
            record.bitmap_bytes = U32::new(count.into());
            record.hint = U64::new(set ^ u64::from(bytes.byte() / 200));
            [record.as_bytes(), &bitmap].concat()
        }
        Function::Slots => vec![0; 48 * usize::from(bytes.byte() % 5)],
        Function::StreamRead => vec![0; 16 * usize::from(bytes.byte())],
        _ => Vec::new(),
    }
}

/// A piece at the stream's beginning, where most are that are taken, or somewhere else.
fn made_up_chunk(bytes: &mut Bytes<'_>) -> Vec<u8> {
    let mut records = Vec::new();
    for _ in 0..bytes.byte() % 4 {
        let valid = bytes.byte() % 3;
        records.extend([0, 0]);
        // Seldom beyond the table.
        records.extend([bytes.byte() % 0x30, bytes.byte()]);
        records.extend([0, valid, 0, bytes.byte()]);
        for _ in 0..valid {
            // V is clear in one of many.
            let v = u64::from(bytes.byte()) | VALID;
            let v = if v == 0x43 { 0 } else { v };
            records.extend(v.to_be_bytes());
            records.extend(bytes.operand().to_be_bytes());
        }
    }
    let mut record = StreamChunk::blank();
    record.stream = U32::new(0x100);
    record.flags = U32::new(u32::from(bytes.byte() % 8));
    record.offset = U64::new(u64::from(bytes.byte() / 128) * 24);
    record.length = U32::new(u32::try_from(records.len()).unwrap());
    record.byte_order = super::records::BYTE_ORDER_BIG.into();
    [record.as_bytes(), &records].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtas::testing::config;
    use core::cell::RefCell;
    use penstock_arch::fake::steps;
    use proptest::prelude::*;

    #[test]
    fn no_sequence_of_calls_breaks_the_rule_of_ownership() {
        let tools = RefCell::new(Tools::new());
        proptest!(config(), |(program in proptest::collection::vec(any::<u8>(), 0..steps(3000)))| {
            tools.borrow_mut().run(&program);
        });
        // Of fewer, some do not get so far.
        if config().cases >= 500 {
            let happened = tools.borrow().happened;
            assert!(
                happened.successes > 200
                    && happened.resumed > 3
                    && happened.resume_refused > 3
                    && happened.torn > 0
                    && happened.written > 0
                    && happened.bad_records > 3,
                "{happened:?}"
            );
        }
    }
}
