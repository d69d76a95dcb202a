// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The virtual terminal's calls.
//!
//! Output goes to the partition's ring, which the run loop drains: an OPAL call would cost the
//! guest hundreds of instructions a character. A full ring answers H_BUSY after the run loop has
//! made room in it, so that the guest's next try succeeds.

use super::memory::arguments;
use crate::console::TermBytes;
use crate::exit::LightExit;
use crate::partition::VTY_UNIT;
use crate::platform::Platform;
use crate::vcpu::Vcpu;
use penstock_mm::status::HcallStatus;

/// Whether `termno` names the partition's vty; 0 means its first.
#[inline]
fn is_vty(termno: u64) -> bool {
    termno == 0 || termno == u64::from(VTY_UNIT)
}

pub(super) extern "C" fn h_put_term_char<P: Platform>(vcpu: &mut Vcpu<P>) -> LightExit {
    let [termno, len, high, low] = arguments(vcpu);
    if !is_vty(termno) {
        return vcpu.answer(HcallStatus::PARAMETER);
    }
    let Some(bytes) = TermBytes::from_put(len, high, low) else {
        return vcpu.answer(HcallStatus::PARAMETER);
    };
    match vcpu.partition.output.push(bytes) {
        Ok(()) => vcpu.answer(HcallStatus::SUCCESS),
        Err(_) => {
            let _ = vcpu.answer(HcallStatus::BUSY);
            LightExit::DRAIN_CONSOLE
        }
    }
}

pub(super) extern "C" fn h_get_term_char<P: Platform>(vcpu: &mut Vcpu<P>) -> LightExit {
    let [termno] = arguments(vcpu);
    if !is_vty(termno) {
        return vcpu.answer(HcallStatus::PARAMETER);
    }
    let bytes = vcpu.partition.input.pop();
    vcpu.ctx.gpr[4] = u64::from(bytes.len);
    vcpu.ctx.gpr[5] = bytes.high;
    vcpu.ctx.gpr[6] = bytes.low;
    vcpu.answer(HcallStatus::SUCCESS)
}
