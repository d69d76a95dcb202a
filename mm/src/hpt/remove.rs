// SPDX-License-Identifier: Apache-2.0 OR MIT
//! H_REMOVE: removes an entry.
//!
//! LoPAR, H_REMOVE; Power ISA 3.0B, Book III, Deleting a Page Table Entry.

use super::guard::Quiesced;
use super::{HashMmu, flags};
use crate::page_ops::Machine;
use crate::status::HcallStatus;
use penstock_arch::hash::{GuestHpteR, GuestHpteV};

/// Whether an entry with doubleword 0 `v` is what the caller's flags and AVPN parameter say.
#[inline]
pub(super) const fn matches(v: GuestHpteV, flags: u64, avpn: u64) -> bool {
    !(flags & flags::AVPN != 0 && v.get() & GuestHpteV::AVPN != avpn
        || flags & flags::ANDCOND != 0 && v.get() & avpn != 0)
}

impl<M: Machine> HashMmu<M> {
    /// H_REMOVE: removes an entry; returns it as the guest saw it, with its final R and C.
    ///
    /// # Errors
    /// H_PARAMETER: no such entry number. H_NOT_FOUND: no entry there, or none that matches.
    pub fn h_remove(&self, flags: u64, ptex: u64, avpn: u64) -> Result<(u64, u64), HcallStatus> {
        let guard = self.lock_named(ptex).ok_or(HcallStatus::PARAMETER)?;
        let r = guard.r();
        let v = guard.v().to_guest(r);
        if !guard.v().is_present() || !matches(v, flags, avpn) {
            return Err(HcallStatus::NOT_FOUND);
        }
        let r = guard.quiesce(r).remove();
        Ok((v.get(), r.get()))
    }
}

impl<M: Machine> Quiesced<'_, M> {
    /// Removes the entry; the guest's doubleword 1 with its final R and C.
    #[inline(always)]
    pub(super) fn remove(mut self) -> GuestHpteR {
        let r = self.retire();
        self.clear();
        r
    }
}
