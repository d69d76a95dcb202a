// SPDX-License-Identifier: Apache-2.0 OR MIT
//! From the registers of H_CONTROL to a partition, and back.
//!
//! A call is checked in the order in which [`ControlError::ALL`] lists what can be wrong. The buffer
//! is copied in once, worked on as a copy, and copied out once: what the caller's other processors
//! do to it meanwhile changes nothing.

mod dirty;
mod hold;
mod query;
mod stream;
mod vcpu;

pub use stream::{MAX_ABSENT_ENTRIES, WRITER, counts, open_flags};

use super::error::{Argument, ControlError};
use super::function::{Buffer, Feature, Function};
use super::session::{Holder, Session};
use super::target::{Controlled, Directory, MAX_SLOTS, Offer};
use crate::rtas::GuestBytes;
use alloc::boxed::Box;
use penstock_arch::addr::GuestReal;
use penstock_mm::status::HcallStatus;
use spin::Mutex;

/// Longest buffer of a call, bytes.
pub const MAX_BUFFER_BYTES: usize = 16 << 10;

/// Most entries of a page table that one call looks at.
pub const ENTRIES_PER_CALL: u64 = 4096;

/// What a cursor or a page number is when there is no more.
pub const DONE: u64 = u64::MAX;

/// What a partition with the mark `control` has and others have not: the place where the
/// hypervisor keeps its copy of a call's buffer. Made with the partition.
#[derive(Debug)]
pub struct ControlPort(Mutex<Box<[u8; MAX_BUFFER_BYTES]>>);

impl ControlPort {
    /// Allocates the copy's place.
    #[must_use]
    pub fn new() -> Self {
        Self(Mutex::new(Box::new([0; MAX_BUFFER_BYTES])))
    }
}

impl Default for ControlPort {
    fn default() -> Self {
        Self::new()
    }
}

/// Who calls.
#[derive(Clone, Copy, Debug)]
pub struct Caller<'a> {
    /// As sessions know it.
    pub holder: Holder,
    /// Its own number, as in r5.
    pub number: u64,
    /// Its authority; `None` where it has no mark `control`.
    pub port: Option<&'a ControlPort>,
}

/// The registers of a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Call {
    /// r4: the function.
    pub function: u64,
    /// r5: the partition.
    pub partition: u64,
    /// r6: the buffer's guest real address.
    pub address: u64,
    /// r7: the buffer's bytes.
    pub length: u64,
    /// r8 to r10: the function's own.
    pub arguments: [u64; 3],
}

/// What a call answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    /// r3.
    pub status: HcallStatus,
    results: [u64; 2],
    count: usize,
}

impl Reply {
    /// r4 and up.
    #[must_use]
    pub fn results(&self) -> &[u64] {
        self.results.get(..self.count).unwrap_or(&self.results)
    }
}

impl From<ControlError> for Reply {
    fn from(error: ControlError) -> Self {
        let (results, count) = match error {
            ControlError::Record(what) => ([what.reason as u64, u64::from(what.offset)], 2),
            _ => ([0; 2], 0),
        };
        Self {
            status: error.status(),
            results,
            count,
        }
    }
}

/// What a function did.
#[derive(Clone, Copy, Debug, Default)]
pub struct Done {
    /// r4 and r5.
    pub results: [u64; 2],
    count: usize,
    /// Bytes of the buffer that go back to the caller.
    pub bytes: usize,
}

impl Done {
    const NOTHING: Self = Self {
        results: [0; 2],
        count: 0,
        bytes: 0,
    };

    const fn one(first: u64) -> Self {
        Self {
            results: [first, 0],
            count: 1,
            bytes: 0,
        }
    }

    const fn two(first: u64, second: u64) -> Self {
        Self {
            results: [first, second],
            count: 2,
            bytes: 0,
        }
    }

    /// `bytes` in the buffer, which is the first result.
    const fn written(bytes: usize) -> Self {
        Self {
            bytes,
            ..Self::one(bytes as u64)
        }
    }

    /// The same, and a second result.
    const fn written_and(bytes: usize, second: u64) -> Self {
        Self {
            bytes,
            ..Self::two(bytes as u64, second)
        }
    }
}

type Outcome = Result<Done, ControlError>;

/// What a function works with. The buffer is the copy, as long as the caller's; what a function
/// that only writes finds in it has no meaning.
struct Context<'a, T> {
    target: &'a T,
    offer: Offer,
    session: &'a mut Session,
    who: Holder,
    arguments: [u64; 3],
    buffer: &'a mut [u8],
}

/// Serves a call of H_CONTROL.
pub fn serve<D: Directory>(
    call: &Call,
    caller: &Caller<'_>,
    memory: &mut impl GuestBytes,
    directory: &D,
) -> Reply {
    match run(call, caller, memory, directory) {
        Ok(done) => Reply {
            status: HcallStatus::SUCCESS,
            results: done.results,
            count: done.count,
        },
        Err(error) => error.into(),
    }
}

fn run<D: Directory>(
    call: &Call,
    caller: &Caller<'_>,
    memory: &mut impl GuestBytes,
    directory: &D,
) -> Outcome {
    let port = caller.port.ok_or(ControlError::Authority)?;
    let function = Function::new(call.function).ok_or(ControlError::Unsupported)?;
    let target = directory
        .find(call.partition)
        .ok_or(ControlError::Partition)?;
    let offer = offer_with(target, function, &call.arguments)?;
    if function == Function::Suspend && call.partition == caller.number {
        return Err(ControlError::Partition);
    }
    let length = buffer_length(function, call.length)?;
    let address = buffer_address(call, length, memory)?;
    if function == Function::Feature {
        return Ok(query::feature(&offer, call.arguments));
    }
    let mut copy = port.0.try_lock().ok_or(ControlError::Busy)?;
    let buffer = copy.get_mut(..length).ok_or(ControlError::Length)?;
    if let Buffer::In(_) | Buffer::InOut(_) = function.buffer() {
        memory
            .read(address, buffer)
            .map_err(|_| ControlError::Address)?;
    }
    let done = ask(target, caller.holder, function, call.arguments, buffer)?;
    if let Some(bytes) = copy.get(..done.bytes).filter(|bytes| !bytes.is_empty()) {
        memory
            .write(address, bytes)
            .map_err(|_| ControlError::Address)?;
    }
    Ok(done)
}

/// One function of the interface, for whoever is in the hypervisor itself. The buffer has what the
/// function reads, and gets what it writes: [`Done::bytes`] of it.
///
/// # Errors
/// As a call's, without those of authority, partition and address.
pub fn ask<T: Controlled>(
    target: &T,
    who: Holder,
    function: Function,
    arguments: [u64; 3],
    buffer: &mut [u8],
) -> Result<Done, ControlError> {
    let mut session = target.session().try_lock().ok_or(ControlError::Busy)?;
    ask_in(&mut session, target, who, function, arguments, buffer)
}

/// As [`ask`], for whoever has the partition's session.
///
/// # Errors
/// As [`ask`], but not for a session that is busy.
pub fn ask_in<T: Controlled>(
    session: &mut Session,
    target: &T,
    who: Holder,
    function: Function,
    arguments: [u64; 3],
    buffer: &mut [u8],
) -> Result<Done, ControlError> {
    let offer = offer_with(target, function, &arguments)?;
    buffer_length(function, buffer.len() as u64)?;
    let mut context = Context {
        target,
        offer,
        session,
        who,
        arguments,
        buffer,
    };
    context.perform(function)
}

/// What the partition offers, if the function is among it.
fn offer_with<T: Controlled>(
    target: &T,
    function: Function,
    arguments: &[u64; 3],
) -> Result<Offer, ControlError> {
    let mut offer = target.offer();
    offer.slots = offer.slots.min(MAX_SLOTS);
    match feature_of(function, arguments) {
        Some(feature) if !offer.features.has(feature) => Err(ControlError::Unsupported),
        _ => Ok(offer),
    }
}

impl<T: Controlled> Context<'_, T> {
    fn perform(&mut self, function: Function) -> Outcome {
        match function {
            Function::Feature => Ok(query::feature(&self.offer, self.arguments)),
            Function::Capabilities => self.capabilities(),
            Function::Slots => self.slots(),
            Function::DirtyLog => self.dirty_log(),
            Function::DirtyHarvest => self.dirty_harvest(),
            Function::DirtyFetch => self.dirty_fetch(),
            Function::StreamOpen => self.stream_open(),
            Function::StreamRead => self.stream_read(),
            Function::StreamWrite => self.stream_write(),
            Function::StreamClose => self.stream_close(),
            Function::HptDrop => self.hpt_drop(),
            Function::VcpuGet => self.vcpu_get(),
            Function::VcpuSet => self.vcpu_set(),
            Function::Suspend => self.suspend(),
            Function::Commit => self.commit(),
            Function::Resume => self.resume(),
            Function::Invalidate => self.invalidate(),
        }
    }

    /// An argument below `end`.
    fn below(&self, argument: Argument, end: u64) -> Result<u64, ControlError> {
        let [first, second, third] = self.arguments;
        let value = match argument {
            Argument::First => first,
            Argument::Second => second,
            Argument::Third => third,
        };
        if value < end {
            Ok(value)
        } else {
            Err(ControlError::Argument(argument))
        }
    }
}

/// The feature without which a function is not there.
const fn feature_of(function: Function, arguments: &[u64; 3]) -> Option<Feature> {
    match function {
        Function::Feature | Function::Capabilities => None,
        Function::Slots => Some(Feature::Slots),
        Function::DirtyLog | Function::DirtyHarvest | Function::DirtyFetch => {
            Some(Feature::DirtyLog)
        }
        Function::StreamOpen if arguments[0] & open_flags::WRITE != 0 => Some(Feature::StreamWrite),
        Function::StreamOpen | Function::StreamRead => Some(Feature::StreamRead),
        Function::StreamWrite | Function::HptDrop => Some(Feature::StreamWrite),
        // Whoever has an open stream may close it.
        Function::StreamClose => None,
        Function::VcpuGet | Function::VcpuSet => Some(Feature::VcpuState),
        Function::Suspend | Function::Commit | Function::Resume => Some(Feature::Suspend),
        Function::Invalidate => Some(Feature::Invalidate),
    }
}

fn buffer_length(function: Function, length: u64) -> Result<usize, ControlError> {
    let kind = function.buffer();
    let range = match kind {
        Buffer::None => 0..=0,
        Buffer::In(_) | Buffer::Out(_) | Buffer::InOut(_) => kind.min_bytes()..=MAX_BUFFER_BYTES,
    };
    usize::try_from(length)
        .ok()
        .filter(|length| range.contains(length))
        .ok_or(ControlError::Length)
}

fn buffer_address(
    call: &Call,
    length: usize,
    memory: &mut impl GuestBytes,
) -> Result<GuestReal, ControlError> {
    let address = GuestReal::new(call.address);
    if length == 0 {
        return if call.address == 0 {
            Ok(address)
        } else {
            Err(ControlError::Address)
        };
    }
    memory
        .check(address, length as u64)
        .map_err(|_| ControlError::Address)?;
    Ok(address)
}
