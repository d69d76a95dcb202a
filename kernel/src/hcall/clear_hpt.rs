// SPDX-License-Identifier: Apache-2.0 OR MIT
//! H_CLEAR_HPT, a piece at a time.
//!
//! A large table takes several calls, each but the last answered H_CONTINUE. A caller that makes
//! any other call in between has given up, and its next H_CLEAR_HPT begins anew, so that success
//! always means that the whole table was gone through: somebody may give up because its kernel
//! crashed, and another kernel takes over.

use crate::exit::LightExit;
use crate::platform::Platform;
use crate::vcpu::Vcpu;
use penstock_mm::status::HcallStatus;

/// Where a virtual processor's unfinished H_CLEAR_HPT goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClearHpt {
    /// The next entry.
    next: u64,
    /// How many calls the virtual processor had made when it was told to go on, this one included.
    calls: u64,
}

impl ClearHpt {
    /// Does the next piece by `clear`, which takes the first entry and returns where the next
    /// piece begins. `calls` have been made up to now, this one included.
    fn step(&mut self, calls: u64, clear: impl FnOnce(u64) -> Option<u64>) -> HcallStatus {
        let goes_on = self.calls.wrapping_add(1) == calls;
        let from = if goes_on { self.next } else { 0 };
        match clear(from) {
            Some(next) => {
                *self = Self { next, calls };
                HcallStatus::CONTINUE
            }
            None => {
                *self = Self::default();
                HcallStatus::SUCCESS
            }
        }
    }
}

pub(super) extern "C" fn h_clear_hpt<P: Platform>(vcpu: &mut Vcpu<P>) -> LightExit {
    let calls = vcpu
        .hcalls
        .iter()
        .fold(0_u64, |sum, count| sum.wrapping_add(*count));
    let mmu = &vcpu.partition.mmu;
    let status = vcpu.clear_hpt.step(calls, |from| mmu.h_clear_hpt(from));
    vcpu.answer(status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goes_on_only_if_nothing_came_between() {
        const CONTINUE: HcallStatus = HcallStatus::CONTINUE;
        let mut state = ClearHpt::default();
        let mut step = |calls, from, next| {
            state.step(calls, |at| {
                assert_eq!(at, from, "call {calls}");
                next
            })
        };
        assert_eq!(step(1, 0, Some(100)), CONTINUE);
        assert_eq!(step(2, 100, Some(200)), CONTINUE);
        // Two other calls.
        assert_eq!(step(5, 0, Some(100)), CONTINUE);
        assert_eq!(step(6, 100, None), HcallStatus::SUCCESS);
        // Right after success: a new beginning, too.
        assert_eq!(step(7, 0, Some(300)), CONTINUE);
        assert_eq!(step(8, 300, None), HcallStatus::SUCCESS);
    }
}
