// SPDX-License-Identifier: Apache-2.0 OR MIT
//! H_INT_SET_OS_REPORTING_LINE and H_INT_GET_OS_REPORTING_LINE.
//!
//! The line is a pair of cache lines that the hardware writes the ring to, when the guest
//! acknowledges an interrupt by a store to the thread registers. Firmware keeps it in the tables of
//! the virtual processor and rewrites these as a whole, with what it finds in memory: so the context
//! is off its thread meanwhile, and what may have become pending in between is made pending again.

use penstock_arch::addr::{GuestReal, HostReal};

use crate::error::HcallError;
use crate::fw::{FirmwareError, VpFlags, XiveFirmware, XiveMmio, settled_soon};

use super::super::vcpu::{Line, NativeVcpu, OffThread};
use super::super::{Native, PinnedMemory};
use super::check_flags;

/// Bytes of a pair of cache lines, and its alignment (OPAL API, `OPAL_XIVE_SET_VP_INFO`).
pub(in super::super) const LINE_BYTES: u64 = 256;
/// The argument that takes the line away.
const NONE: u64 = u64::MAX;

impl Native<'_> {
    /// H_INT_SET_OS_REPORTING_LINE: sets the line of the calling virtual processor, whose context is
    /// on the calling thread.
    ///
    /// # Errors
    /// [`HcallError::Parameter`] for a flag, [`HcallError::State`], [`HcallError::P2`] for an
    /// address that is not the partition's memory or not aligned, and what firmware answers.
    pub fn set_os_reporting_line<H: XiveMmio, F: XiveFirmware, P: PinnedMemory>(
        &self,
        mmio: &H,
        fw: &F,
        memory: &P,
        caller: &NativeVcpu,
        [flags, line]: [u64; 2],
    ) -> Result<(), HcallError> {
        check_flags(flags, 0)?;
        self.check_state()?;
        let wanted = GuestReal::new(line);
        let has_line = line != NONE;
        if has_line && !wanted.is_aligned(LINE_BYTES) {
            return Err(HcallError::P2);
        }
        let mut state = caller.lock();
        self.check_state()?;
        let host = match has_line {
            false => None,
            true => Some(memory.pin(wanted, LINE_BYTES).ok_or(HcallError::P2)?),
        };
        if let Err(error) = program_pushed(mmio, fw, caller, host) {
            if has_line {
                memory.unpin(wanted, LINE_BYTES);
            }
            return Err(error.into());
        }
        let new = if has_line {
            Line::Set(wanted)
        } else {
            Line::None
        };
        let old = core::mem::replace(&mut state.line, new);
        if let Some(at) = old.pinned() {
            memory.unpin(at, LINE_BYTES);
        }
        Ok(())
    }

    /// H_INT_GET_OS_REPORTING_LINE: the line of a virtual processor; all ones go to the guest for
    /// `None`.
    ///
    /// # Errors
    /// [`HcallError::Parameter`] for a flag, [`HcallError::State`], [`HcallError::P2`] for the
    /// target, [`HcallError::NotAvailable`] if it is not online.
    pub fn get_os_reporting_line(
        &self,
        flags: u64,
        target: u64,
    ) -> Result<Option<GuestReal>, HcallError> {
        check_flags(flags, 0)?;
        self.check_state()?;
        let vcpu = self.named_vcpu(target).ok_or(HcallError::P2)?;
        if !vcpu.is_online() {
            return Err(HcallError::NotAvailable);
        }
        match vcpu.lock().line {
            Line::Set(at) => Ok(Some(at)),
            Line::None | Line::Stale(_) => Ok(None),
        }
    }
}

/// Gives a virtual processor that is on the calling thread another line.
pub(in super::super) fn program_pushed<M: XiveMmio, F: XiveFirmware>(
    mmio: &M,
    fw: &F,
    vcpu: &NativeVcpu,
    line: Option<HostReal>,
) -> Result<(), FirmwareError> {
    vcpu.pull(mmio, OffThread::Ready);
    let cppr = vcpu.saved_ring().cppr();
    let result = program(fw, vcpu, line);
    // Firmware arms the escalation anew.
    let _ = vcpu.escalation.disarm(mmio);
    vcpu.push(mmio);
    if vcpu.hardware_saves() {
        // Firmware has set the saved one to 0xff.
        vcpu.tima.set_os_cppr(mmio, cppr);
    }
    vcpu.offer_all(mmio);
    result
}

/// Gives a virtual processor that is on no thread another line.
pub(in super::super) fn program<F: XiveFirmware>(
    fw: &F,
    vcpu: &NativeVcpu,
    line: Option<HostReal>,
) -> Result<(), FirmwareError> {
    // What firmware rewrites is then what the hardware has.
    settled_soon(fw, || fw.get_vp_state(vcpu.vp()))?;
    let flags = VpFlags::ENABLED | VpFlags::SINGLE_ESCALATION;
    settled_soon(fw, || fw.set_vp_info(vcpu.vp(), flags, line))?;
    Ok(())
}
