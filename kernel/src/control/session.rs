// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Whose a partition's state is.
//!
//! While a virtual processor may run, the partition's registers and page table belong to the
//! hypervisor; nobody else sees them at rest, let alone changes them. A tool that suspends the
//! partition holds it: now they are the tool's. What it changes is the hypervisor's business again
//! only when the tool says that it is done, by COMMIT, and until then the partition cannot run.
//!
//! The rule is in types. [`Stopped`], [`Dirty`] and [`Runnable`] are made and consumed here alone;
//! [`Controlled`] changes nothing without a [`Dirty`], and resumes nothing without a [`Runnable`],
//! to which the only ways are [`Stopped::unchanged`] and [`Dirty::commit`]. [`Session`] keeps the one
//! that a partition is in between two calls, so the types are the state machine.
//!
//! So this compiles,
//!
//! ```
//! use penstock_kernel::control::{Controlled, ControlError, session::Stopped};
//! fn finish<T: Controlled>(target: &T, stopped: Stopped) -> Result<(), ControlError> {
//!     let dirty = stopped.change();
//!     let runnable = dirty.commit(target).map_err(|(_, error)| error)?;
//!     runnable.resume(target).map_err(|(_, error)| error)
//! }
//! ```
//!
//! and this, without the middle, does not:
//!
//! ```compile_fail
//! use penstock_kernel::control::{Controlled, ControlError, session::Stopped};
//! fn finish<T: Controlled>(target: &T, stopped: Stopped) -> Result<(), ControlError> {
//!     let dirty = stopped.change();
//!     dirty.resume(target).map_err(|(_, error)| error)
//! }
//! ```
//!
//! nor does this, which uses a state twice:
//!
//! ```compile_fail
//! use penstock_kernel::control::{Controlled, ControlError, session::Stopped};
//! fn finish<T: Controlled>(target: &T, stopped: Stopped) -> Result<(), ControlError> {
//!     let ready = stopped.unchanged();
//!     let dirty = stopped.change();
//!     ready.resume(target).map_err(|(_, error)| error)
//! }
//! ```
//!
//! ```text
//!               SUSPEND           VCPU_SET, STREAM_WRITE, HPT_DROP, INVALIDATE
//!   Running -> (Stopping) -> Stopped -----------------------------> Dirty <--+
//!      ^           |            | RESUME, COMMIT                      | COMMIT | the same
//!      |        RESUME          v                                     v        |
//!      +-----------+-RESUME- Runnable <-------------------------------+--------+
//! ```

use super::error::ControlError;
use super::target::{Controlled, HeaderOrder, Logging, STREAM_READERS, Suspension};
use crate::console::GuestId;

/// Who uses the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// The operator, from the monitor.
    Operator,
    /// A partition with the mark `control`.
    Partition(GuestId),
}

/// No virtual processor of the partition is in the guest, and none enters.
#[derive(Debug, PartialEq, Eq)]
pub struct Halted {
    /// Whose its state is; `None` where the holder is gone.
    holder: Option<Holder>,
}

/// A suspended partition that nobody changed.
#[derive(Debug, PartialEq, Eq)]
pub struct Stopped(Halted);

/// A suspended partition that somebody changed, and that cannot run.
#[derive(Debug, PartialEq, Eq)]
pub struct Dirty {
    halted: Halted,
    /// Its page table is neither what it was nor what it is to be.
    torn: bool,
}

/// A suspended partition that may run.
#[derive(Debug, PartialEq, Eq)]
pub struct Runnable(Halted);

impl Stopped {
    /// Before the first change.
    #[must_use]
    pub fn change(self) -> Dirty {
        Dirty {
            halted: self.0,
            torn: false,
        }
    }

    /// There was none.
    #[must_use]
    pub fn unchanged(self) -> Runnable {
        Runnable(self.0)
    }
}

impl Dirty {
    /// Declares the changes finished. A page table of which a part is missing is never finished.
    ///
    /// # Errors
    /// The partition cannot run so; it is given back as it was.
    pub fn commit<T: Controlled>(self, target: &T) -> Result<Runnable, (Self, ControlError)> {
        if self.torn {
            return Err((self, ControlError::State));
        }
        match target.commit(&self) {
            Ok(()) => Ok(Runnable(self.halted)),
            Err(error) => Err((self, error.into())),
        }
    }
}

impl Runnable {
    /// Before another change.
    #[must_use]
    pub fn change(self) -> Dirty {
        Dirty {
            halted: self.0,
            torn: false,
        }
    }

    /// Lets the partition run.
    ///
    /// # Errors
    /// It cannot; it is given back as it was.
    pub fn resume<T: Controlled>(self, target: &T) -> Result<(), (Self, ControlError)> {
        match target.resume(&self) {
            Ok(()) => Ok(()),
            Err(error) => Err((self, error.into())),
        }
    }
}

/// What a partition is in.
#[derive(Debug, PartialEq, Eq)]
enum Hold {
    Running,
    Stopping(Option<Holder>),
    Stopped(Stopped),
    Dirty(Dirty),
    Runnable(Runnable),
}

/// The states of a session, for tests and reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The hypervisor's.
    Running,
    /// On the way to [`State::Stopped`].
    Stopping,
    /// A tool's, unchanged.
    Stopped,
    /// A tool's, changed.
    Dirty,
    /// A tool's, committed.
    Runnable,
}

/// A stream that somebody reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reader {
    pub(super) holder: Holder,
    pub(super) order: HeaderOrder,
    /// [`super::records::StreamChunk::BOLTED_ONLY`] or 0.
    pub(super) filter_flag: u32,
    pub(super) first_pass: bool,
    /// Bytes that were read.
    pub(super) offset: u64,
}

/// The stream that the partition's holder writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Writer {
    pub(super) order: HeaderOrder,
    /// Bytes that were written.
    pub(super) offset: u64,
    /// In the middle of a pass; what the page table was before it.
    pub(super) pass: Option<Before>,
}

/// What the page table was before a pass of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Before {
    /// Whole.
    Whole,
    /// Torn already: only a first pass, which gives all of it, makes it whole.
    Torn,
}

/// What tools are in the middle of with a partition. Outlives the tools and the partition's guest.
#[derive(Debug)]
pub struct Session {
    hold: Hold,
    pub(super) readers: [Option<Reader>; STREAM_READERS],
    pub(super) writer: Option<Writer>,
    /// Where HPT_DROP goes on.
    pub(super) drop_cursor: u64,
    /// Whose the dirty log is, while any slot is logged.
    log_holder: Option<Holder>,
    /// Slots that are logged, as bits.
    logged: u64,
}

impl Default for Session {
    fn default() -> Self {
        Self::new()
    }
}

impl Session {
    /// Of a partition that nobody uses.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            hold: Hold::Running,
            readers: [None; STREAM_READERS],
            writer: None,
            drop_cursor: 0,
            log_holder: None,
            logged: 0,
        }
    }

    /// What the partition is in.
    #[must_use]
    pub const fn state(&self) -> State {
        match self.hold {
            Hold::Running => State::Running,
            Hold::Stopping(_) => State::Stopping,
            Hold::Stopped(_) => State::Stopped,
            Hold::Dirty(_) => State::Dirty,
            Hold::Runnable(_) => State::Runnable,
        }
    }

    fn holder(&self) -> Option<Holder> {
        match &self.hold {
            Hold::Running => None,
            Hold::Stopping(holder) => *holder,
            Hold::Stopped(Stopped(halted))
            | Hold::Dirty(Dirty { halted, .. })
            | Hold::Runnable(Runnable(halted)) => halted.holder,
        }
    }

    /// Whether `who` holds the partition, or is about to.
    #[must_use]
    pub fn is_held_by(&self, who: Holder) -> bool {
        self.holder() == Some(who)
    }

    fn set_holder(&mut self, new: Option<Holder>) {
        match &mut self.hold {
            Hold::Running => {}
            Hold::Stopping(holder) => *holder = new,
            Hold::Stopped(Stopped(halted))
            | Hold::Dirty(Dirty { halted, .. })
            | Hold::Runnable(Runnable(halted)) => halted.holder = new,
        }
    }

    /// SUSPEND by `who`, which holds the partition from then on.
    ///
    /// # Errors
    /// [`ControlError::Held`], [`ControlError::Stopping`] until it is done, or what the partition
    /// says.
    pub fn suspend<T: Controlled>(&mut self, target: &T, who: Holder) -> Result<(), ControlError> {
        if self.holder().is_some_and(|holder| holder != who) {
            return Err(ControlError::Held);
        }
        match self.hold {
            Hold::Running | Hold::Stopping(_) => {}
            // What its last holder left is the new one's to finish.
            Hold::Stopped(_) | Hold::Dirty(_) | Hold::Runnable(_) => {
                self.set_holder(Some(who));
                return Ok(());
            }
        }
        match target.suspend()? {
            Suspension::Underway => {
                self.hold = Hold::Stopping(Some(who));
                Err(ControlError::Stopping)
            }
            Suspension::Complete => {
                self.hold = Hold::Stopped(Stopped(Halted { holder: Some(who) }));
                Ok(())
            }
        }
    }

    /// That the partition is halted and `who` holds it.
    ///
    /// # Errors
    /// [`ControlError::State`], [`ControlError::Held`].
    pub fn halted(&self, who: Holder) -> Result<&Halted, ControlError> {
        let halted = match &self.hold {
            Hold::Running | Hold::Stopping(_) => return Err(ControlError::State),
            Hold::Stopped(Stopped(halted))
            | Hold::Dirty(Dirty { halted, .. })
            | Hold::Runnable(Runnable(halted)) => halted,
        };
        if halted.holder == Some(who) {
            Ok(halted)
        } else {
            Err(ControlError::Held)
        }
    }

    /// What `who` needs to change the partition, which cannot run from then on.
    ///
    /// # Errors
    /// As [`halted`](Self::halted).
    pub fn change(&mut self, who: Holder) -> Result<&mut Dirty, ControlError> {
        self.halted(who)?;
        self.hold = match core::mem::replace(&mut self.hold, Hold::Running) {
            Hold::Stopped(stopped) => Hold::Dirty(stopped.change()),
            Hold::Runnable(runnable) => Hold::Dirty(runnable.change()),
            other => other,
        };
        match &mut self.hold {
            Hold::Dirty(dirty) => Ok(dirty),
            _ => Err(ControlError::State),
        }
    }

    /// COMMIT by `who`. A stream must not be in the middle of being written.
    ///
    /// # Errors
    /// As [`halted`](Self::halted), [`ControlError::State`], or what the partition says.
    pub fn commit<T: Controlled>(&mut self, target: &T, who: Holder) -> Result<(), ControlError> {
        self.halted(who)?;
        if self.writer.is_some() {
            return Err(ControlError::State);
        }
        let (hold, result) = match core::mem::replace(&mut self.hold, Hold::Running) {
            Hold::Stopped(stopped) => (Hold::Runnable(stopped.unchanged()), Ok(())),
            Hold::Dirty(dirty) => match dirty.commit(target) {
                Ok(runnable) => (Hold::Runnable(runnable), Ok(())),
                Err((dirty, error)) => (Hold::Dirty(dirty), Err(error)),
            },
            other => (other, Ok(())),
        };
        self.hold = hold;
        result
    }

    /// RESUME by `who`. The partition is the hypervisor's again. A suspension that is not complete
    /// yet is withdrawn.
    ///
    /// # Errors
    /// As [`halted`](Self::halted); [`ControlError::State`] after a change that was not committed,
    /// or with a stream open for writing; or what the partition says.
    pub fn resume<T: Controlled>(&mut self, target: &T, who: Holder) -> Result<(), ControlError> {
        if let Hold::Stopping(holder) = self.hold {
            if holder != Some(who) {
                return Err(ControlError::Held);
            }
            // Nobody could change anything.
            return match Runnable(Halted { holder }).resume(target) {
                Ok(()) => {
                    self.hold = Hold::Running;
                    Ok(())
                }
                Err((_, error)) => Err(error),
            };
        }
        self.halted(who)?;
        if self.writer.is_some() {
            return Err(ControlError::State);
        }
        let ready = match core::mem::replace(&mut self.hold, Hold::Running) {
            Hold::Stopped(stopped) => stopped.unchanged(),
            Hold::Runnable(runnable) => runnable,
            other => {
                self.hold = other;
                return Err(ControlError::State);
            }
        };
        match ready.resume(target) {
            Ok(()) => {
                self.drop_cursor = 0;
                Ok(())
            }
            Err((ready, error)) => {
                self.hold = Hold::Runnable(ready);
                Err(error)
            }
        }
    }

    /// Whether the page table is torn.
    pub(super) const fn is_torn(&self) -> bool {
        matches!(self.hold, Hold::Dirty(Dirty { torn: true, .. }))
    }

    /// From here on the page table is neither what it was nor what it is to be.
    pub(super) const fn tear(&mut self) {
        if let Hold::Dirty(dirty) = &mut self.hold {
            dirty.torn = true;
        }
    }

    /// The page table is whole: a pass ended, or nothing is left in it.
    pub(super) const fn mend(&mut self) {
        if let Hold::Dirty(dirty) = &mut self.hold {
            dirty.torn = false;
        }
    }

    /// Whether a slot is logged.
    #[must_use]
    pub const fn is_logged(&self, slot: u32) -> bool {
        slot < u64::BITS && self.logged & 1 << slot != 0
    }

    /// That the log of `slot` is on, and `who`'s.
    pub(super) fn logged_by(&self, slot: u32, who: Holder) -> Result<(), ControlError> {
        match self.log_holder {
            _ if !self.is_logged(slot) => Err(ControlError::State),
            Some(holder) if holder == who => Ok(()),
            _ => Err(ControlError::Held),
        }
    }

    /// Switches the log of a slot for `who`.
    pub(super) fn set_log<T: Controlled>(
        &mut self,
        target: &T,
        slot: u32,
        logging: Logging,
        who: Holder,
    ) -> Result<(), ControlError> {
        if self.log_holder.is_some_and(|holder| holder != who) {
            return Err(ControlError::Held);
        }
        let bit = 1_u64.checked_shl(slot).ok_or(ControlError::Hardware)?;
        target.set_dirty_log(slot, logging)?;
        match logging {
            Logging::On => self.logged |= bit,
            Logging::Off => self.logged &= !bit,
        }
        self.log_holder = (self.logged != 0).then_some(who);
        Ok(())
    }

    /// Lets go of a partition that stays as it is: whoever suspends it next is its holder, with what was
    /// left to commit.
    pub fn release(&mut self, who: Holder) {
        if self.holder() == Some(who) {
            self.set_holder(None);
        }
    }

    /// `who` is gone. Its readers and its log are closed. A partition that it holds stays halted,
    /// with what was done to it, for whoever suspends it next.
    pub fn abandon<T: Controlled>(&mut self, target: &T, who: Holder) {
        for (number, place) in self.readers.iter_mut().enumerate() {
            if place.is_some_and(|reader| reader.holder == who) {
                target.close_reader(number);
                *place = None;
            }
        }
        if self.log_holder == Some(who) {
            for slot in 0..u64::BITS {
                if self.is_logged(slot) {
                    // A log that cannot be switched off costs time and harms nobody.
                    let _ = target.set_dirty_log(slot, Logging::Off);
                }
            }
            self.logged = 0;
            self.log_holder = None;
        }
        if self.holder() == Some(who) {
            self.writer = None;
            self.set_holder(None);
        }
    }

    /// The partition's guest ended or starts over: nothing of it is left that a tool could hold.
    pub fn restart<T: Controlled>(&mut self, target: &T) {
        for number in 0..STREAM_READERS {
            target.close_reader(number);
        }
        for slot in 0..u64::BITS {
            if self.is_logged(slot) {
                let _ = target.set_dirty_log(slot, Logging::Off);
            }
        }
        *self = Self::new();
    }
}
