// SPDX-License-Identifier: Apache-2.0 OR MIT
//! H_BULK_REMOVE: removes up to four entries with one flush.
//!
//! Each request is two doublewords: type (bits 0:1), and for a request condition flags (6:7) and
//! entry number (8:63); then the AVPN. The response goes into the first: type 0b10, code (2:3),
//! R and C (4:5). Entries are hidden as they are found, stay locked, and are removed after one
//! flush. A second entry is only tried to lock: if somebody has it, the batch so far is finished
//! first, so two calls with their entries in opposite orders cannot wait for each other. A bad
//! request ends the call, but not before what was collected is removed.
//!
//! LoPAR, H_BULK_REMOVE. Its text masks bits 57:63 of the entry for the condition AND, and then
//! says that low bits in the operand likely give "not found", which the mask would exclude. Of
//! the two readings this takes the one that removes less, which is also H_REMOVE's: a guest that
//! spares bolted entries keeps them.

use super::guard::{Batch, Quiesced};
use super::table::Entry;
use super::{HashMmu, flags, remove};
use crate::page_ops::Machine;
use crate::status::HcallStatus;
use penstock_arch::hash::{GuestHpteR, HpteR};

const TYPE_REQUEST: u64 = 1;
const TYPE_END: u64 = 3;

const SUCCESS: u64 = 0x80 << 56;
const NOT_FOUND: u64 = 0x90 << 56;
const PARAMETER: u64 = 0xa0 << 56;

/// Condition flags and entry number: what a response keeps of its request.
const KEPT: u64 = 0x03ff_ffff_ffff_ffff;

/// R and C at their place in a response.
#[inline]
const fn response_rc(r: GuestHpteR) -> u64 {
    (r.get() & (HpteR::R | HpteR::C)) << 51
}

/// The flags of H_REMOVE that a request's condition flags mean; `None` for the unused combination.
#[inline]
const fn condition(high: u64) -> Option<u64> {
    match (high >> 56) & 3 {
        0 => Some(0),
        1 => Some(flags::ANDCOND),
        2 => Some(flags::AVPN),
        _ => None,
    }
}

/// The removals that wait for a flush, each with the place of its response.
type Removals<'a, 's, M> = Batch<'a, M, &'s mut u64>;

/// Removes an entry whose translation is flushed, and completes the response.
#[inline(always)]
fn finish<M: Machine>(entry: Quiesced<'_, M>, response: &mut u64) {
    *response |= response_rc(entry.remove());
}

/// The same out of the way of the loop over a batch.
#[inline(never)]
fn finish_one<M: Machine>(entry: Quiesced<'_, M>, response: &mut u64) {
    finish(entry, response);
}

impl<M: Machine> HashMmu<M> {
    /// H_BULK_REMOVE: `specs` are r4 to r11, and are rewritten.
    ///
    /// Returns H_SUCCESS, also if entries were not found, or H_PARAMETER for a bad request; then
    /// requests after it are as they were.
    pub fn h_bulk_remove(&self, specs: &mut [u64; 8]) -> HcallStatus {
        let mut batch = Removals::new(self);
        let mut status = HcallStatus::SUCCESS;
        for [high, avpn] in specs.as_chunks_mut::<2>().0 {
            match *high >> 62 {
                TYPE_REQUEST => {}
                TYPE_END => break,
                _ => {
                    status = HcallStatus::PARAMETER;
                    break;
                }
            }
            let kept = *high & KEPT;
            if let Some(entry) = self.table().get(kept & (KEPT >> 2))
                && let Some(flags) = condition(*high)
            {
                self.bulk_remove_one(&mut batch, entry, flags, *avpn, high, kept);
            } else {
                *high = kept | PARAMETER;
                status = HcallStatus::PARAMETER;
                break;
            }
        }
        batch.flush(finish);
        status
    }

    #[inline]
    fn bulk_remove_one<'a, 's>(
        &'a self,
        batch: &mut Removals<'a, 's, M>,
        entry: Entry<'a>,
        flags: u64,
        avpn: u64,
        response: &'s mut u64,
        kept: u64,
    ) {
        let guard = match self.try_lock_entry(entry) {
            Some(guard) => guard,
            None => {
                batch.flush(finish_one);
                self.lock_entry(entry)
            }
        };
        let r = guard.r();
        if !guard.v().is_present() || !remove::matches(guard.v().to_guest(r), flags, avpn) {
            *response = kept | NOT_FOUND;
            return;
        }
        *response = kept | SUCCESS;
        if guard.v().is_valid() {
            batch.hide(guard, r, response, finish_one);
        } else {
            finish_one(guard.quiesce(r), response);
        }
    }
}
