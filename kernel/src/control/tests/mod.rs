// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The interface as a tool calls it, with partitions of plain vectors behind it.

extern crate std;

mod dirty;
mod errors;
mod hold;
mod query;
mod reference;
mod stream;
mod vcpu;

use super::fake::{Fake, FakeDirectory, FakeState};
use super::function::{Buffer, Function};
use super::records::{self, Record};
use super::session::State;
use super::{Call, Caller, ControlPort, Controlled, Holder, Session, serve};
use crate::console::GuestId;
use crate::rtas::testing::FakeMemory;
use penstock_mm::status::HcallStatus;
use std::vec;
use std::vec::Vec;
use zerocopy::IntoBytes;

/// Where the tools keep their buffer.
const BUFFER: u64 = 0x1000;
/// What lies in it before a call.
const FILLER: u8 = 0xcc;

/// The caller, and another tool.
const TOOL: u16 = 1;
const OTHER: u16 = 7;

/// What a call answered.
#[derive(Debug)]
struct Answer {
    status: HcallStatus,
    results: Vec<u64>,
    /// What was written to the buffer.
    output: Vec<u8>,
}

impl Answer {
    /// That the call went well, with these results.
    #[track_caller]
    fn is(self, results: &[u64]) -> Vec<u8> {
        assert_eq!(self.status, HcallStatus::SUCCESS, "{self:x?}");
        assert_eq!(self.results, results);
        self.output
    }

    /// That it was refused, and nothing written.
    #[track_caller]
    fn refused(&self, status: HcallStatus) {
        assert_eq!(self.status, status, "{:x?}", self.results);
        assert!(self.output.is_empty(), "{:x?}", self.output);
        if status != HcallStatus::BAD_DATA {
            assert!(self.results.is_empty());
        }
    }

    /// That the record was refused.
    #[track_caller]
    fn bad_record(&self, reason: super::error::Reason, offset: usize) {
        self.refused(HcallStatus::BAD_DATA);
        assert_eq!(self.results, [reason as u64, offset as u64], "{reason:?}");
    }
}

/// Two tools, partition 1 being the first, and two more partitions.
struct Tools {
    directory: FakeDirectory,
    memory: FakeMemory,
    ports: [ControlPort; 2],
    /// Who calls.
    who: u16,
}

impl Tools {
    fn new() -> Self {
        Self {
            directory: FakeDirectory(vec![Fake::new(1), Fake::new(2), Fake::new(3)]),
            memory: FakeMemory::new(),
            ports: [ControlPort::new(), ControlPort::new()],
            who: TOOL,
        }
    }

    fn target(&self) -> &Fake {
        &self.directory.0[1]
    }

    fn state(&self) -> core::cell::RefMut<'_, FakeState> {
        self.target().state()
    }

    fn session(&self) -> spin::MutexGuard<'_, Session> {
        self.target().session().try_lock().unwrap()
    }

    fn hold_state(&self) -> State {
        self.session().state()
    }

    fn as_other<T>(&mut self, act: impl FnOnce(&mut Self) -> T) -> T {
        self.who = OTHER;
        let result = act(self);
        self.who = TOOL;
        result
    }

    fn raw(&mut self, call: &Call) -> Answer {
        let port = usize::from(self.who == OTHER);
        let caller = Caller {
            holder: Holder::Partition(GuestId(self.who)),
            number: self.who.into(),
            port: Some(&self.ports[port]),
        };
        self.memory.writes.clear();
        let reply = serve(call, &caller, &mut self.memory, &self.directory);
        let output = match self.memory.writes[..] {
            [] => Vec::new(),
            [(at, bytes)] => {
                assert_eq!(at, call.address);
                assert!(bytes as u64 <= call.length, "{bytes} of {}", call.length);
                let at = usize::try_from(at).unwrap();
                self.memory.bytes[at..at + bytes].to_vec()
            }
            _ => panic!("several writes"),
        };
        Answer {
            status: reply.status,
            results: reply.results().to_vec(),
            output,
        }
    }

    /// Makes a call about partition 2 with `input` at the start of a buffer of `length` bytes.
    fn call(
        &mut self,
        function: Function,
        arguments: &[u64],
        input: &[u8],
        length: usize,
    ) -> Answer {
        let mut all = [0; 3];
        all[..arguments.len()].copy_from_slice(arguments);
        let at = usize::try_from(BUFFER).unwrap();
        self.memory.bytes[at..at + length + 64].fill(FILLER);
        self.memory.bytes[at..at + input.len()].copy_from_slice(input);
        let answer = self.raw(&Call {
            function: function as u64,
            partition: 2,
            address: if length == 0 { 0 } else { BUFFER },
            length: length as u64,
            arguments: all,
        });
        let behind = &self.memory.bytes[at + length..at + length + 64];
        assert!(
            behind.iter().all(|byte| *byte == FILLER),
            "behind the buffer"
        );
        answer
    }

    /// A call without buffer.
    fn plain(&mut self, function: Function, arguments: &[u64]) -> Answer {
        self.call(function, arguments, &[], 0)
    }

    /// A call that writes a buffer of `length` bytes.
    fn out(&mut self, function: Function, arguments: &[u64], length: usize) -> Answer {
        self.call(function, arguments, &[], length)
    }

    /// A call that reads a buffer: just the record, and what follows it.
    fn put(
        &mut self,
        function: Function,
        arguments: &[u64],
        record: &impl Record,
        payload: &[u8],
    ) -> Answer {
        let input = [record.as_bytes(), payload].concat();
        let length = input.len().max(function.buffer().min_bytes());
        self.call(function, arguments, &input, length)
    }

    #[track_caller]
    fn suspend(&mut self) {
        self.plain(Function::Suspend, &[]).is(&[]);
    }
}

/// The record at the start of what was written.
#[track_caller]
fn record<R: Record>(output: &[u8]) -> (R, &[u8]) {
    let (record, payload) = records::read::<R>(output).unwrap();
    (R::read_from_bytes(record.as_bytes()).unwrap(), payload)
}
