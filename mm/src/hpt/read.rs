// SPDX-License-Identifier: Apache-2.0 OR MIT
//! H_READ: shows one entry or four.
//!
//! The first doubleword is read before and after the second, and only if it changed meanwhile the
//! lock is taken. An entry that the guest does not have reads as zero: what lies in the table then
//! is a host address.
//!
//! LoPAR, H_READ. The page number is always the guest's own, as R_XLATE asks.

use super::HashMmu;
use super::table::Entry;
use crate::page_ops::Machine;
use crate::status::HcallStatus;
use core::sync::atomic::{Ordering, fence};
use penstock_arch::hash::{HpteIndex, HpteV};

impl<M: Machine> HashMmu<M> {
    /// H_READ of one entry: both doublewords as the guest knows them.
    ///
    /// # Errors
    /// H_PARAMETER: no such entry number.
    pub fn h_read(&self, _flags: u64, ptex: u64) -> Result<[u64; 2], HcallStatus> {
        let entry = self.table().get(ptex).ok_or(HcallStatus::PARAMETER)?;
        Ok(self.read_entry(entry))
    }

    /// H_READ with READ_4: the four entries that `ptex` is one of.
    ///
    /// # Errors
    /// H_PARAMETER: no such entry number.
    pub fn h_read_4(&self, ptex: u64) -> Result<[u64; 8], HcallStatus> {
        let first = self.index(ptex)?.get() & !3;
        let mut result = [0; 8];
        for (pair, index) in result.as_chunks_mut::<2>().0.iter_mut().zip(first..) {
            *pair = self.read_entry(self.table().entry(HpteIndex::new(index)));
        }
        Ok(result)
    }

    #[inline(always)]
    fn read_entry(&self, entry: Entry<'_>) -> [u64; 2] {
        let v = entry.load_v();
        if !v.is_present() {
            return [0, 0];
        }
        fence(Ordering::Acquire);
        let r = entry.load_r();
        let guest_r = entry.load_rev();
        fence(Ordering::Acquire);
        // The lock may come and go.
        if (entry.load_v().get() ^ v.get()) & !HpteV::HVLOCK == 0 {
            [v.to_guest(r).get(), guest_r.get() | r.rc()]
        } else {
            self.read_entry_locked(entry.index)
        }
    }

    #[cold]
    fn read_entry_locked(&self, index: HpteIndex) -> [u64; 2] {
        let guard = self.lock(index);
        if !guard.v().is_present() {
            return [0, 0];
        }
        [
            guard.guest_v().get(),
            guard.guest_r().get() | guard.r().rc(),
        ]
    }
}
