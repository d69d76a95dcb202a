// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Guest memory as RTAS, the registered areas and the control interface reach it.

use crate::rtas::{GuestBytes, MemoryFault};
use penstock_arch::addr::GuestReal;
use penstock_mm::hpt::MemoryAccess;
use penstock_mm::page_ops::Machine;

/// A partition's memory. Where an access fails for want of a frame, the memory remembers it
/// ([`MemoryAccess::was_short`]), and the call that made the access is to be made again. So whatever
/// has an effect besides has checked all that it writes before.
pub struct GuestRam<'a, M: Machine>(pub MemoryAccess<'a, M>);

impl<M: Machine> GuestBytes for GuestRam<'_, M> {
    /// After this no access to the range fails: it has its frames, and keeps them.
    fn check(&mut self, at: GuestReal, bytes: u64) -> Result<(), MemoryFault> {
        match at.checked_add(bytes) {
            Some(end) if end.get() <= self.0.size() => {}
            _ => return Err(MemoryFault { at }),
        }
        self.0.hold(at, bytes).map_err(|_| MemoryFault { at })
    }

    fn read(&mut self, at: GuestReal, into: &mut [u8]) -> Result<(), MemoryFault> {
        self.0.read(at, into).map_err(|_| MemoryFault { at })
    }

    fn write(&mut self, at: GuestReal, from: &[u8]) -> Result<(), MemoryFault> {
        self.0.write(at, from).map_err(|_| MemoryFault { at })
    }
}
