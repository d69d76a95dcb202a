// SPDX-License-Identifier: Apache-2.0 OR MIT
//! H_CLEAR_REF and H_CLEAR_MOD: clear an entry's R or C and return the old doubleword 1.
//!
//! LoPAR, H_CLEAR_REF, H_CLEAR_MOD; Power ISA 3.0B, Book III, Resetting the Reference Bit,
//! Modifying a Page Table Entry.

use super::HashMmu;
use crate::page_ops::Machine;
use crate::status::HcallStatus;
use penstock_arch::hash::{GuestHpteR, HpteR};

impl<M: Machine> HashMmu<M> {
    /// H_CLEAR_REF: clears R; returns doubleword 1 as it was.
    ///
    /// # Errors
    /// H_PARAMETER: no such entry number. H_NOT_FOUND: no entry there.
    pub fn h_clear_ref(&self, _flags: u64, ptex: u64) -> Result<u64, HcallStatus> {
        let guard = self.lock_named(ptex).ok_or(HcallStatus::PARAMETER)?;
        if !guard.v().is_present() {
            return Err(HcallStatus::NOT_FOUND);
        }
        let (r, guest_r) = (guard.r(), guard.guest_r().get());
        guard.set_guest_r(GuestHpteR::new(guest_r & !HpteR::R));
        if r.get() & HpteR::R != 0 {
            if self.is_aged() {
                self.note_used(guard.v(), GuestHpteR::new(guest_r));
            }
            if guard.v().is_valid() {
                guard.clear_r(r);
            } else {
                let mut entry = guard.quiesce(r);
                entry.set_r(r.without(HpteR::R));
                entry.finish();
            }
        }
        Ok(guest_r | r.rc())
    }

    /// H_CLEAR_MOD: clears C; returns doubleword 1 as it was.
    ///
    /// # Errors
    /// H_PARAMETER: no such entry number. H_NOT_FOUND: no entry there.
    pub fn h_clear_mod(&self, _flags: u64, ptex: u64) -> Result<u64, HcallStatus> {
        let guard = self.lock_named(ptex).ok_or(HcallStatus::PARAMETER)?;
        if !guard.v().is_present() {
            return Err(HcallStatus::NOT_FOUND);
        }
        let (r, guest_r) = (guard.r(), guard.guest_r().get());
        let old = guest_r | r.rc();
        if old & HpteR::C == 0 {
            return Ok(old);
        }
        guard.set_guest_r(GuestHpteR::new(guest_r & !HpteR::C));
        let v = guard.v();
        let mut entry = guard.quiesce(r);
        let r = entry.r();
        if r.get() & HpteR::C != 0 {
            if self.memory.is_special(guest_r) {
                self.note_change(v, GuestHpteR::new(guest_r), r);
            }
            entry.set_r(r.without(HpteR::C));
        }
        entry.finish();
        Ok(guest_r | r.rc())
    }
}
