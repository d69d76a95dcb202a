// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the monitor's commands `hpt`, `dirty` and `registers` do: jobs, by the same functions that tools call.
//!
//! A job is done in steps, each of bounded work and of at most [`STEP_TEXT_BYTES`] of text, so that
//! a guest goes on running while a long dump is printed, and the line never overflows.

mod dirty;
mod dump;
pub mod line;
mod registers;
mod reload;
mod store;
mod walk;

#[cfg(test)]
mod tests;

pub use store::{FrameStore, StreamStore};

use self::dirty::DirtyPages;
use self::dump::Dump;
use self::registers::Registers;
use self::reload::Reload;
use self::walk::Walk;
use super::error::ControlError;
use super::function::Function;
use super::session::Holder;
use super::target::Controlled;
use super::{Done, ask, ask_in};
use crate::monitor::command::{DirtyCommand, HptCommand};
use alloc::vec::Vec;
use core::fmt::{self, Write};

/// Most text of a step, bytes, a carriage return before each line end included.
pub const STEP_TEXT_BYTES: usize = 8192;

/// Entries of the page table at which a step looks.
const STEP_ENTRIES: u64 = 16 * super::ENTRIES_PER_CALL;

/// Whether a job is at its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Step {
    /// There is more to do.
    Again,
    /// There is not.
    Finished,
}

/// Why a job ended early.
#[derive(Debug)]
enum Stop {
    /// The interface refused it.
    Refused(ControlError),
    /// The line.
    Text(fmt::Error),
    /// There is not enough memory for what it has to keep.
    NoMemory,
}

impl From<ControlError> for Stop {
    fn from(error: ControlError) -> Self {
        Self::Refused(error)
    }
}

impl From<fmt::Error> for Stop {
    fn from(error: fmt::Error) -> Self {
        Self::Text(error)
    }
}

type Progress = Result<Step, Stop>;

/// A command that is being done.
#[derive(Debug)]
pub struct Job<S> {
    kind: Kind<S>,
}

#[derive(Debug)]
enum Kind<S> {
    Walk(Walk),
    Dump(Dump),
    Reload(Reload<S>),
    Dirty(DirtyPages),
    Registers(Registers),
}

impl<S: StreamStore> Job<S> {
    /// `hpt`. `store` keeps the stream of `hpt reload`.
    pub fn hpt(command: HptCommand, store: S) -> Self {
        let kind = match command {
            HptCommand::Check => Kind::Walk(Walk::check()),
            HptCommand::Stats => Kind::Walk(Walk::stats()),
            HptCommand::Dump => Kind::Dump(Dump::new()),
            HptCommand::Reload => Kind::Reload(Reload::new(store)),
        };
        Self { kind }
    }

    /// `dirty`.
    pub fn dirty(command: DirtyCommand) -> Self {
        Self {
            kind: Kind::Dirty(DirtyPages::new(command)),
        }
    }

    /// `registers` of a virtual processor.
    pub const fn registers(vcpu: u32) -> Self {
        Self {
            kind: Kind::Registers(Registers::new(vcpu)),
        }
    }

    /// What keeps the stream, where the job has one.
    pub fn store_mut(&mut self) -> Option<&mut S> {
        match &mut self.kind {
            Kind::Reload(job) => Some(job.store_mut()),
            Kind::Walk(_) | Kind::Dump(_) | Kind::Dirty(_) | Kind::Registers(_) => None,
        }
    }

    /// Gives back what kept the stream, at the end.
    pub fn into_store(self) -> Option<S> {
        match self.kind {
            Kind::Reload(job) => Some(job.into_store()),
            Kind::Walk(_) | Kind::Dump(_) | Kind::Dirty(_) | Kind::Registers(_) => None,
        }
    }

    /// Goes on. The line has room for [`STEP_TEXT_BYTES`].
    ///
    /// # Errors
    /// Those of `out`.
    pub fn step<T: Controlled>(
        &mut self,
        target: &T,
        out: &mut dyn Write,
    ) -> Result<Step, fmt::Error> {
        let progress = match &mut self.kind {
            Kind::Walk(job) => job.step(target, out),
            Kind::Dump(job) => job.step(target, out),
            Kind::Reload(job) => job.step(target, out),
            Kind::Dirty(job) => job.step(target, out),
            Kind::Registers(job) => job.step(target, out),
        };
        let name = target.name();
        match progress {
            Ok(step) => return Ok(step),
            // Somebody else works on it, or it is on its way out: later.
            Err(Stop::Refused(ControlError::Busy | ControlError::Stopping)) => {
                return Ok(Step::Again);
            }
            Err(Stop::Text(error)) => return Err(error),
            Err(Stop::Refused(ControlError::Unsupported)) => {
                writeln!(out, "error: {name}: not in this version")?;
            }
            Err(Stop::Refused(error)) => writeln!(out, "error: {name}: {error}")?,
            Err(Stop::NoMemory) => writeln!(out, "error: {name}: not enough memory for this")?,
        }
        self.end(target, out)?;
        Ok(Step::Finished)
    }

    /// Ends it before it is done, and leaves nothing half done behind: says what stays.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn end<T: Controlled>(&mut self, target: &T, out: &mut dyn Write) -> fmt::Result {
        match &mut self.kind {
            Kind::Walk(_) | Kind::Dirty(_) => Ok(()),
            Kind::Dump(job) => {
                job.end(target);
                Ok(())
            }
            Kind::Reload(job) => job.end(target, out),
            Kind::Registers(job) => {
                job.end(target);
                Ok(())
            }
        }
    }
}

/// A function of the interface, called by the operator.
fn call<T: Controlled>(
    target: &T,
    function: Function,
    arguments: [u64; 3],
    buffer: &mut [u8],
) -> Result<Done, ControlError> {
    ask(target, Holder::Operator, function, arguments, buffer)
}

/// A function without buffer.
fn plain<T: Controlled>(
    target: &T,
    function: Function,
    arguments: [u64; 3],
) -> Result<[u64; 2], ControlError> {
    call(target, function, arguments, &mut []).map(|done| done.results)
}

/// A function that ends something: it waits for a call of another processor to be over, which is
/// soon. What it answers does not matter any more.
fn patient<T: Controlled>(target: &T, function: Function, arguments: [u64; 3]) {
    let mut session = target.session().lock();
    let who = Holder::Operator;
    let _ = ask_in(&mut session, target, who, function, arguments, &mut []);
}

/// Zeros, if there is memory for them.
fn buffer(bytes: usize) -> Result<Vec<u8>, Stop> {
    let mut buffer = Vec::new();
    buffer
        .try_reserve_exact(bytes)
        .map_err(|_| Stop::NoMemory)?;
    buffer.resize(bytes, 0);
    Ok(buffer)
}
