// SPDX-License-Identifier: Apache-2.0 OR MIT
//! H_INT_ESB: a load or store to the management page of a source, made by the hypervisor.
//!
//! A guest needs it for sources that have no page ([`super::SourceFlags::ESB_HCALL`]), and may use it
//! for all.

use crate::error::HcallError;
use crate::esb::offset;
use crate::fw::XiveMmio;
use crate::source::Trigger;

use super::super::Native;
use super::{bit, check_flags};

/// A store, otherwise a load.
const STORE: u64 = bit(63);
/// Bytes of the management page that mean anything.
const MEANINGFUL: u64 = 0x1000;
/// Stores below are events; above are ends of interrupts by a store, which no source is told to have.
const TRIGGERS: u64 = 0x400;

impl Native<'_> {
    /// H_INT_ESB: what the load gives; all ones for a store.
    ///
    /// # Errors
    /// [`HcallError::Parameter`] for a flag, [`HcallError::State`], [`HcallError::P2`] for the
    /// number, [`HcallError::P3`] for an offset at which the source has no such operation.
    pub fn esb<M: XiveMmio>(
        &self,
        mmio: &M,
        [flags, lisn, at, _data]: [u64; 4],
    ) -> Result<u64, HcallError> {
        check_flags(flags, STORE)?;
        self.check_state()?;
        let source = self.named_source(lisn).ok_or(HcallError::P2)?;
        if at >= MEANINGFUL || !at.is_multiple_of(8) {
            return Err(HcallError::P3);
        }
        let state = source.lock();
        self.check_state()?;
        if flags & STORE == 0 {
            return Ok(source.load(mmio, &state, at));
        }
        // Nothing but its level raises a level-sensitive source.
        if at >= TRIGGERS || source.trigger() == Trigger::Level {
            return Err(HcallError::P3);
        }
        source.store_trigger(mmio);
        Ok(u64::MAX)
    }
}

const _: () = assert!(offset::SET_PQ_00 + 0x400 == MEANINGFUL);
