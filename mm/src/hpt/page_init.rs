// SPDX-License-Identifier: Apache-2.0 OR MIT
//! H_PAGE_INIT: zeroes or copies a 4 KiB page of guest memory.
//!
//! LoPAR, H_PAGE_INIT.

use super::{HashMmu, flags};
use crate::page_ops::Machine;
use crate::status::HcallStatus;
use penstock_arch::addr::GuestReal;
use penstock_arch::hash::PageSize;

const PAGE: u64 = PageSize::P4K.bytes();

impl<M: Machine> HashMmu<M> {
    /// H_PAGE_INIT: zeroes the page at `destination`, or copies the one at `source` to it, and
    /// makes it coherent with instruction fetch, each as `flags` say.
    ///
    /// # Errors
    /// H_PARAMETER: an address is not aligned to 4 KiB, or no memory of the partition.
    /// [`HcallStatus::NO_FRAME`]: nothing was done.
    pub fn h_page_init(
        &self,
        flags: u64,
        destination: u64,
        source: u64,
    ) -> Result<(), HcallStatus> {
        let to = GuestReal::new(destination);
        let from = GuestReal::new(source);
        if !to.is_aligned(PAGE) {
            return Err(HcallStatus::PARAMETER);
        }
        let memory = self.memory();
        let copies = flags & flags::COPY_PAGE != 0;
        if copies && !from.is_aligned(PAGE) {
            return Err(HcallStatus::PARAMETER);
        }
        let zeroes = flags & flags::ZERO_PAGE != 0;
        let mut result = Ok(());
        // Both addresses are checked before anything is written; zeroing alone checks its own.
        if copies || !zeroes {
            result = memory.populate(to, PAGE);
        }
        if copies {
            result = result.and_then(|()| memory.populate_source(from, PAGE));
        }
        if zeroes {
            result = result.and_then(|()| memory.zero(to, PAGE));
        }
        if copies {
            result = result.and_then(|()| memory.copy(to, from, PAGE));
        }
        if flags & flags::ICACHE_INVALIDATE != 0 {
            result = result.and_then(|()| memory.icache_invalidate(to, PAGE));
        }
        if flags & flags::ICACHE_SYNCHRONIZE != 0 {
            result = result.and_then(|()| memory.icache_synchronize(to, PAGE));
        }
        result.map_err(HcallStatus::of)
    }
}
