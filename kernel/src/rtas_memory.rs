// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Guest memory as RTAS and the registered areas reach it.

use crate::rtas::{GuestBytes, MemoryFault};
use penstock_arch::addr::GuestReal;
use penstock_mm::guest_memory::GuestMemory;
use penstock_mm::page_ops::PageOps;

/// A partition's memory.
pub struct GuestRam<'a, M: PageOps>(pub &'a GuestMemory<M>);

impl<M: PageOps> GuestBytes for GuestRam<'_, M> {
    fn check(&mut self, at: GuestReal, bytes: u64) -> Result<(), MemoryFault> {
        match at.checked_add(bytes) {
            Some(end) if end.get() <= self.0.size() => Ok(()),
            _ => Err(MemoryFault { at }),
        }
    }

    fn read(&mut self, at: GuestReal, into: &mut [u8]) -> Result<(), MemoryFault> {
        self.0.read(at, into).map_err(|_| MemoryFault { at })
    }

    fn write(&mut self, at: GuestReal, from: &[u8]) -> Result<(), MemoryFault> {
        self.0.write(at, from).map_err(|_| MemoryFault { at })
    }
}
