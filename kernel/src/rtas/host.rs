// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What RTAS functions ask of the hypervisor around them.
//!
//! The functions themselves only check, convert and keep the partition's own state. Everything
//! with an effect outside of it goes through [`RtasHost`], whose errors name causes, not RTAS
//! status words.

use super::time::UnixTime;
use crate::console::Full;
use penstock_arch::addr::GuestReal;

/// Why the machine's clock could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClockError {
    /// The clock is busy; the guest shall try again later.
    Busy,
    /// There is no clock, or it answers nonsense.
    Hardware,
}

/// State of a vCPU as `query-cpu-stopped-state` numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum CpuState {
    /// In the RTAS stopped state: only `start-cpu` leaves it.
    Stopped = 0,
    /// `stop-self` is in progress.
    Stopping = 1,
    /// Not in the RTAS stopped state.
    Running = 2,
}

/// Why a vCPU was not started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartCpuError {
    /// It was no longer in the RTAS stopped state.
    NotStopped,
    /// No thread of the machine can run it.
    NoResources,
}

/// Why an interrupt source was not changed or read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceError {
    /// No such source, server or priority in this partition, or a reserved priority.
    Unknown,
    /// The interrupt controller refused.
    Hardware,
}

/// Where an interrupt source sends its interrupts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceTarget {
    /// Interrupt server number, as in the property `ibm,ppc-interrupt-server#s`.
    pub server: u32,
    /// 0 is the most favoured priority, 0xff masks the source.
    pub priority: u8,
}

/// Effects of RTAS functions outside the partition's own RTAS state.
pub trait RtasHost {
    /// The machine's clock, UTC.
    ///
    /// # Errors
    /// The clock is busy or broken.
    fn now(&mut self) -> Result<UnixTime, ClockError>;

    /// Puts one character on the display, which is the partition's console.
    ///
    /// # Errors
    /// No room at the moment.
    fn put_char(&mut self, byte: u8) -> Result<(), Full>;

    /// The guest says that it has ended, with `message` for the operator. The bytes are the
    /// guest's: print them through [`Printable`](crate::console::Printable) and a rate limit.
    fn os_terminated(&mut self, message: &[u8]);

    /// State of the vCPU with interrupt server number `server`; `None` if there is none.
    fn cpu_state(&mut self, server: u32) -> Option<CpuState>;

    /// Starts a stopped vCPU at `entry`, MSR = SF | ME, with `r3` in register 3.
    ///
    /// # Errors
    /// It cannot be started.
    fn start_cpu(&mut self, server: u32, entry: GuestReal, r3: u64) -> Result<(), StartCpuError>;

    /// Sends the interrupts of `source` to `target` (`ibm,set-xive`). A source that is masked
    /// stays so, and takes the priority when it is unmasked.
    ///
    /// # Errors
    /// No such source or target.
    fn set_source(&mut self, source: u32, target: SourceTarget) -> Result<(), SourceError>;

    /// What `ibm,set-xive` last set.
    ///
    /// # Errors
    /// No such source.
    fn source(&mut self, source: u32) -> Result<SourceTarget, SourceError>;

    /// Masks `source`, keeping its priority for later (`ibm,int-off`).
    ///
    /// # Errors
    /// No such source.
    fn mask_source(&mut self, source: u32) -> Result<(), SourceError>;

    /// Unmasks `source` with the priority kept (`ibm,int-on`).
    ///
    /// # Errors
    /// No such source.
    fn unmask_source(&mut self, source: u32) -> Result<(), SourceError>;
}
