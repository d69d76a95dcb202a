// SPDX-License-Identifier: Apache-2.0 OR MIT
//! H_INT_RESET, and the same for a partition that starts over.
//!
//! The reset is a sequence of steps, each of a few firmware calls. A call does so many of them as
//! fit, and where it does not reach the end the guest is told to come back; until it does, all other
//! calls answer H_STATE. Any virtual processor may go on with it.

use core::sync::atomic::Ordering;

use penstock_arch::addr::HostReal;

use crate::error::HcallError;
use crate::fw::{FirmwareError, XiveFirmware, XiveMmio};
use crate::priority::{LEVELS, Priority};

use super::super::vcpu::{EndState, Line, NativeVcpu};
use super::super::{Native, PinnedMemory};
use super::check_flags;
use super::line::{LINE_BYTES, program, program_pushed};
use super::queue::{program as program_queue, unpin};
use super::source::forget;

/// Steps of one call.
const STEPS_PER_CALL: usize = 32;

/// What one step of a reset resets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// A source, by its place among all.
    Source(usize),
    /// A queue.
    Queue(usize, Priority),
    /// A reporting line.
    Line(usize),
}

impl Native<'_> {
    /// H_INT_RESET: all sources off and aimed nowhere, all queues and reporting lines gone.
    ///
    /// `caller` is the calling virtual processor, whose context is on the calling thread.
    ///
    /// # Errors
    /// [`HcallError::Parameter`] for a flag, [`HcallError::State`] while another thread is at it,
    /// [`HcallError::LongBusy`] where it goes on with the next call, [`HcallError::Hardware`] where
    /// firmware refuses: then nothing is in progress, and it may be tried from the start.
    pub fn reset<H: XiveMmio, F: XiveFirmware, P: PinnedMemory>(
        &self,
        mmio: &H,
        fw: &F,
        memory: &P,
        caller: &NativeVcpu,
        flags: u64,
    ) -> Result<(), HcallError> {
        check_flags(flags, 0)?;
        let mut next = self.state.reset.try_lock().ok_or(HcallError::State)?;
        self.state.resetting.store(true, Ordering::SeqCst);
        for _ in 0..STEPS_PER_CALL {
            let Some(step) = self.step(*next) else {
                *next = 0;
                self.state.resetting.store(false, Ordering::SeqCst);
                return Ok(());
            };
            match self.reset_step(mmio, fw, memory, Some(caller), step) {
                Ok(()) => *next += 1,
                Err(error) => {
                    let told = HcallError::from(error);
                    if told != HcallError::LongBusy {
                        *next = 0;
                        self.state.resetting.store(false, Ordering::SeqCst);
                    }
                    return Err(told);
                }
            }
        }
        Err(HcallError::LongBusy)
    }

    /// Puts everything back to the state after set-up, for a partition that starts over. No virtual
    /// processor is on a thread, and the calling thread has no context.
    ///
    /// # Errors
    /// The status of the first firmware call that failed; what depends on it stays.
    pub fn start_over<H: XiveMmio, F: XiveFirmware, P: PinnedMemory>(
        &self,
        mmio: &H,
        fw: &F,
        memory: &P,
    ) -> Result<(), FirmwareError> {
        let mut next = self.state.reset.lock();
        self.state.resetting.store(true, Ordering::SeqCst);
        let steps = (0..).map_while(|number| self.step(number));
        let result = steps
            .into_iter()
            .try_for_each(|step| self.reset_step(mmio, fw, memory, None, step));
        for vcpu in self.vcpus {
            vcpu.forget_pending(mmio);
            vcpu.set_online(vcpu.server().get() == 0);
        }
        *next = 0;
        self.state.resetting.store(false, Ordering::SeqCst);
        result
    }

    /// The step with this number.
    fn step(&self, number: usize) -> Option<Step> {
        let sources = self.ipis.len() + self.devices.len();
        let Some(number) = number.checked_sub(sources) else {
            return Some(Step::Source(number));
        };
        let levels = usize::from(LEVELS);
        let (vcpu, part) = (number / (levels + 1), number % (levels + 1));
        if vcpu >= self.vcpus.len() {
            return None;
        }
        Some(match u8::try_from(part).ok().and_then(Priority::new) {
            Some(priority) if part < levels => Step::Queue(vcpu, priority),
            _ => Step::Line(vcpu),
        })
    }

    fn reset_step<H: XiveMmio, F: XiveFirmware, P: PinnedMemory>(
        &self,
        mmio: &H,
        fw: &F,
        memory: &P,
        caller: Option<&NativeVcpu>,
        step: Step,
    ) -> Result<(), FirmwareError> {
        match step {
            Step::Source(number) => {
                let Some(source) = self.sources().nth(number) else {
                    return Ok(());
                };
                let mut state = source.lock();
                source.off(mmio);
                forget(fw, source, &mut state)
            }
            Step::Queue(number, priority) => {
                let Some(vcpu) = self.vcpus.get(number) else {
                    return Ok(());
                };
                let mut state = vcpu.lock();
                let Some(end) = state.end_mut(priority) else {
                    return Ok(());
                };
                // The sources went before and were drained, so nothing is on its way here.
                if *end != EndState::RESET {
                    let none = HostReal::new(0);
                    program_queue(fw, vcpu.vp(), priority, none, &EndState::RESET)?;
                    unpin(memory, end);
                    *end = EndState::RESET;
                }
                Ok(())
            }
            Step::Line(number) => {
                let Some(vcpu) = self.vcpus.get(number) else {
                    return Ok(());
                };
                reset_line(mmio, fw, memory, caller, vcpu)
            }
        }
    }
}

/// Takes a reporting line away: from the caller's own context, which is on this thread, or, with no
/// caller, from one that is on none. Any other may be on a thread, where firmware must not change it;
/// there the hardware keeps it, in memory that stays pinned.
fn reset_line<H: XiveMmio, F: XiveFirmware, P: PinnedMemory>(
    mmio: &H,
    fw: &F,
    memory: &P,
    caller: Option<&NativeVcpu>,
    vcpu: &NativeVcpu,
) -> Result<(), FirmwareError> {
    let mut state = vcpu.lock();
    let Some(at) = state.line.pinned() else {
        return Ok(());
    };
    match caller {
        Some(caller) if core::ptr::eq(caller, vcpu) => program_pushed(mmio, fw, vcpu, None)?,
        Some(_) => {
            state.line = Line::Stale(at);
            return Ok(());
        }
        None => {
            program(fw, vcpu, None)?;
            let _ = vcpu.escalation.disarm(mmio);
        }
    }
    memory.unpin(at, LINE_BYTES);
    state.line = Line::None;
    Ok(())
}
