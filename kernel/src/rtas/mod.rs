// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Run-Time Abstraction Services: the firmware calls of a running guest.
//!
//! A guest jumps to the entry point in its `/rtas` node in 32-bit real mode with the address of an
//! argument call buffer in register 3. The five instructions there ([`ENTRY_CODE`]) turn that into
//! the hypervisor call H_RTAS, which ends in [`Rtas::call`].
//!
//! Relied on: guests serialise their calls, as LoPAR demands, but nothing breaks if they do not.
//! Guaranteed: the block is copied once and its counts are compared before use ([`block`]); a call
//! that is refused has no effect; the number of steps is bounded by a constant; nothing panics.
//!
//! An unknown token, or counts other than the function's own, get status -3: LoPAR leaves invalid
//! calls undefined and names -3 where they are checked (LoPAR, Calling Mechanism and Conventions).

pub mod block;
pub mod events;
pub mod host;
pub mod memory;
pub mod nvram;
pub mod sysparm;
pub mod table;
pub mod time;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

pub use host::{ClockError, CpuState, RtasHost, SourceError, SourceTarget, StartCpuError};
pub use memory::{GuestBytes, MemoryFault};
pub use nvram::NVRAM_BYTES;
pub use table::{Call, FUNCTIONS, RtasFunction};
pub use time::{DateTime, OpalRtc, UnixTime};

use block::{BlockError, Returns, RtasCall};
use events::Events;
use nvram::Nvram;
use penstock_arch::addr::GuestReal;
use penstock_boot::bootinfo::SegmentPageSize;
use time::ClockOffset;

/// Code at the RTAS entry point, big-endian: `mr r4,r3; lis r3,0; ori r3,r3,0xf000; sc 1; blr`.
pub const ENTRY_CODE: [u8; 20] = [
    0x7c, 0x64, 0x1b, 0x78, 0x3c, 0x60, 0x00, 0x00, 0x60, 0x63, 0xf0, 0x00, 0x44, 0x00, 0x00, 0x22,
    0x4e, 0x80, 0x00, 0x20,
];
/// Bytes of guest memory set aside for RTAS, for the property `rtas-size`.
pub const RTAS_SIZE: u32 = 0x1000;
/// Longest error log of `event-scan`, for the property `rtas-error-log-max`.
pub const ERROR_LOG_MAX: u32 = 2048;
/// Calls of `event-scan` per minute, for the property `rtas-event-scan-rate`: there are never
/// events, so as few as the property can say.
pub const EVENT_SCAN_RATE: u32 = 1;
/// Most bytes of the message of `ibm,os-term`; Linux passes up to 2048, the first line tells most.
pub const OS_TERM_BYTES: usize = 256;

/// Status words. LoPAR, Return Codes, and the call concerned.
pub mod status {
    /// Done.
    pub const SUCCESS: i32 = 0;
    /// Hardware error; also a vCPU in the wrong state.
    pub const HARDWARE: i32 = -1;
    /// A device is busy: try again.
    pub const BUSY: i32 = -2;
    /// Parameter error; parameter or token not supported.
    pub const PARAMETER: i32 = -3;
    /// `event-scan`: no event.
    pub const NO_EVENT: i32 = 1;
    /// `start-cpu`: not enough resources.
    pub const NO_RESOURCES: i32 = 3;
    /// System parameters: setting not allowed.
    pub const NOT_AUTHORIZED: i32 = -9002;
    /// System parameters: parameter error.
    pub const SYSTEM_PARAMETER: i32 = -9999;
}

/// What RTAS tells a guest about its partition and its machine.
#[derive(Clone, Copy, Debug)]
pub struct PartitionFacts<'a> {
    /// Name of the partition.
    pub name: &'a str,
    /// Guest memory, bytes.
    pub memory_bytes: u64,
    /// vCPUs of the partition.
    pub vcpus: u32,
    /// Processors of the machine.
    pub machine_cpus: u32,
    /// Page sizes that the guest is told.
    pub page_sizes: &'a [SegmentPageSize],
}

/// What the caller of [`Rtas::call`] has to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum RtasOutcome {
    /// The results are in the block: H_RTAS returns H_SUCCESS.
    Returned,
    /// The block could not be used, at most a status was stored: H_RTAS returns H_PARAMETER.
    BadBlock,
    /// The partition is switched off. The guest does not expect the call to return.
    PowerOff,
    /// The partition starts anew. The guest does not expect the call to return.
    Reboot,
    /// The calling vCPU enters the RTAS stopped state. Where it was the last one running, the
    /// platform takes the partition's resources back (LoPAR, stop-self): it is switched off.
    StopSelf,
}

/// RTAS state of a partition. It outlives a reboot of the guest.
#[derive(Debug)]
pub struct Rtas {
    nvram: Nvram,
    clock: ClockOffset,
    /// What the guest is to be told.
    pub events: Events,
}

impl Default for Rtas {
    fn default() -> Self {
        Self::new()
    }
}

/// What a handler came to: cells to return, or something else to do.
enum Done {
    Return(Returns),
    Outcome(RtasOutcome),
}

impl From<i32> for Done {
    fn from(status: i32) -> Self {
        Self::Return(Returns::status(status))
    }
}

impl Rtas {
    /// Fresh NVRAM and the machine's time. Allocates [`NVRAM_BYTES`].
    #[must_use]
    pub fn new() -> Self {
        Self {
            nvram: Nvram::new(),
            clock: ClockOffset::ZERO,
            events: Events::default(),
        }
    }

    /// Does the call whose argument call buffer is at `at`.
    pub fn call<M: GuestBytes, H: RtasHost>(
        &mut self,
        at: GuestReal,
        facts: &PartitionFacts<'_>,
        memory: &mut M,
        host: &mut H,
    ) -> RtasOutcome {
        let call = match RtasCall::read(at, memory) {
            Ok(call) => call,
            Err(BlockError::TooManyOutputs(status_at)) => {
                // The guest may have no memory there; it gets H_PARAMETER in any case.
                let _ = memory.write_be32(status_at, status::PARAMETER.cast_unsigned());
                return RtasOutcome::BadBlock;
            }
            Err(_) => return RtasOutcome::BadBlock,
        };
        let done = match table::find(call.token) {
            Some(function) if call.has_shape(function.nargs, function.nret) => {
                self.dispatch(function.call, &call, facts, memory, host)
            }
            _ => status::PARAMETER.into(),
        };
        match done {
            Done::Outcome(outcome) => outcome,
            Done::Return(returns) => match call.answer(&returns, memory) {
                Ok(()) => RtasOutcome::Returned,
                Err(_) => RtasOutcome::BadBlock,
            },
        }
    }

    fn dispatch<M: GuestBytes, H: RtasHost>(
        &mut self,
        function: Call,
        call: &RtasCall,
        facts: &PartitionFacts<'_>,
        memory: &mut M,
        host: &mut H,
    ) -> Done {
        match function {
            Call::DisplayCharacter => display_character(call.inputs(), host).into(),
            Call::GetTimeOfDay => Done::Return(self.get_time_of_day(host)),
            Call::SetTimeOfDay => self.set_time_of_day(call.inputs(), host).into(),
            Call::PowerOff => Done::Outcome(RtasOutcome::PowerOff),
            Call::SystemReboot => Done::Outcome(RtasOutcome::Reboot),
            Call::StopSelf => Done::Outcome(RtasOutcome::StopSelf),
            Call::QueryCpuStoppedState => {
                let [server] = call.inputs();
                Done::Return(match host.cpu_state(server) {
                    Some(state) => Returns::with(status::SUCCESS, [state as u32]),
                    None => Returns::status(status::PARAMETER),
                })
            }
            Call::StartCpu => start_cpu(call.inputs(), host).into(),
            Call::GetSystemParameter => sysparm::get(call.inputs(), facts, memory).into(),
            Call::SetSystemParameter => {
                let [parameter, _buffer] = call.inputs();
                sysparm::set(parameter, facts).into()
            }
            Call::SetXive => set_xive(call.inputs(), host).into(),
            Call::GetXive => {
                let [source] = call.inputs();
                Done::Return(match host.source(source) {
                    Ok(target) => {
                        Returns::with(status::SUCCESS, [target.server, u32::from(target.priority)])
                    }
                    Err(error) => Returns::status(source_status(error)),
                })
            }
            Call::IntOff => {
                let [source] = call.inputs();
                host.mask_source(source)
                    .map_or_else(source_status, |()| status::SUCCESS)
                    .into()
            }
            Call::IntOn => {
                let [source] = call.inputs();
                host.unmask_source(source)
                    .map_or_else(source_status, |()| status::SUCCESS)
                    .into()
            }
            // Events come with an interrupt, whose handler asks for them by check-exception. Here there
            // are none, whatever classes the guest asks for; the buffer stays as it is.
            Call::EventScan => status::NO_EVENT.into(),
            Call::NvramFetch => count(self.nvram.fetch(call.inputs(), memory)),
            Call::NvramStore => count(self.nvram.store(call.inputs(), memory)),
            Call::OsTerm => os_term(call.inputs(), memory, host).into(),
            Call::CheckException => {
                let now = self.time(host).ok().flatten();
                self.events
                    .check_exception(call.inputs(), now, memory)
                    .into()
            }
        }
    }

    fn get_time_of_day<H: RtasHost>(&self, host: &mut H) -> Returns {
        match self.time(host) {
            Ok(Some(time)) => Returns::with(status::SUCCESS, time.fields()),
            Ok(None) => Returns::status(status::HARDWARE),
            Err(error) => Returns::status(clock_status(error)),
        }
    }

    /// The partition's time, if it can be written as a date.
    fn time<H: RtasHost>(&self, host: &mut H) -> Result<Option<DateTime>, ClockError> {
        let machine = host.now()?;
        Ok(self.clock.apply(machine).and_then(DateTime::from_unix))
    }

    /// Moves the partition's offset. The machine's clock is not the guest's to set.
    fn set_time_of_day<H: RtasHost>(&mut self, fields: [u32; 7], host: &mut H) -> i32 {
        let Some(time) = DateTime::new(fields) else {
            return status::PARAMETER;
        };
        match host.now() {
            Ok(machine) => {
                self.clock = ClockOffset::between(machine, time.to_unix());
                status::SUCCESS
            }
            Err(error) => clock_status(error),
        }
    }
}

fn clock_status(error: ClockError) -> i32 {
    match error {
        ClockError::Busy => status::BUSY,
        ClockError::Hardware => status::HARDWARE,
    }
}

fn source_status(error: SourceError) -> i32 {
    match error {
        SourceError::Unknown => status::PARAMETER,
        SourceError::Hardware => status::HARDWARE,
    }
}

fn count((status, bytes): (i32, u32)) -> Done {
    Done::Return(Returns::with(status, [bytes]))
}

fn display_character<H: RtasHost>([character]: [u32; 1], host: &mut H) -> i32 {
    // The display has 8-bit characters; what a cell holds above them means nothing.
    let [.., byte] = character.to_be_bytes();
    match host.put_char(byte) {
        Ok(()) => status::SUCCESS,
        Err(_) => status::BUSY,
    }
}

fn start_cpu<H: RtasHost>([server, entry, r3]: [u32; 3], host: &mut H) -> i32 {
    match host.cpu_state(server) {
        None => return status::PARAMETER,
        Some(CpuState::Stopped) => {}
        Some(CpuState::Stopping | CpuState::Running) => return status::HARDWARE,
    }
    match host.start_cpu(server, GuestReal::new(u64::from(entry)), u64::from(r3)) {
        Ok(()) => status::SUCCESS,
        Err(StartCpuError::NotStopped) => status::HARDWARE,
        Err(StartCpuError::NoResources) => status::NO_RESOURCES,
    }
}

fn set_xive<H: RtasHost>([source, server, priority]: [u32; 3], host: &mut H) -> i32 {
    let Ok(priority) = u8::try_from(priority) else {
        return status::PARAMETER;
    };
    host.set_source(source, SourceTarget { server, priority })
        .map_or_else(source_status, |()| status::SUCCESS)
}

/// Passes on what can be read of the guest's last words and returns, as `ibm,extended-os-term`
/// promises: the guest then does what it is configured for, usually a reboot.
fn os_term<M: GuestBytes, H: RtasHost>([text]: [u32; 1], memory: &mut M, host: &mut H) -> i32 {
    let mut message = [0; OS_TERM_BYTES];
    let mut len = 0;
    // The string ends anywhere, also at the last byte of memory: byte by byte up to a limit.
    for (byte, offset) in message.iter_mut().zip(0_u64..) {
        let Some(at) = GuestReal::new(u64::from(text)).checked_add(offset) else {
            break;
        };
        let mut one = [0];
        if memory.read(at, &mut one).is_err() || one == [0] {
            break;
        }
        [*byte] = one;
        len += 1;
    }
    host.os_terminated(message.get(..len).unwrap_or(&[]));
    status::SUCCESS
}
