// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The RTAS calls on sources (LoPAR, `ibm,get-xive`, `ibm,set-xive`, `ibm,int-off`, `ibm,int-on`).
//!
//! These may call firmware and are slow; they hold the source's lock meanwhile, so a H_EOI of the
//! same source on another vCPU waits.

use crate::error::RtasError;
use crate::fw::{XiveFirmware, XiveMmio};
use crate::ids::{Lisn, ServerNumber};
use crate::presenter::Servers;
use crate::priority::XicsPriority;
use crate::source::{Aim, Source, Sources, State};

/// Where a source is sent, as the guest chose it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Xive {
    /// The vCPU.
    pub server: ServerNumber,
    /// The priority; 0xff while masked.
    pub priority: u8,
}

impl Sources<'_> {
    /// ibm,set-xive: sends a source to a vCPU at a priority; 0xff masks it.
    ///
    /// # Errors
    /// [`RtasError::Parameter`] for an unknown source, server or priority;
    /// [`RtasError::Hardware`] where firmware refuses, or where the source has left too many
    /// pending interrupts behind on vCPUs that do not take them.
    pub fn set_xive<M: XiveMmio, F: XiveFirmware, S: Servers + ?Sized>(
        &self,
        mmio: &M,
        fw: &F,
        servers: &S,
        lisn: u32,
        server: u32,
        priority: u32,
    ) -> Result<(), RtasError> {
        let source = self.get(Lisn::new(lisn)).ok_or(RtasError::Parameter)?;
        let priority = XicsPriority(u8::try_from(priority).map_err(|_| RtasError::Parameter)?);
        let server = ServerNumber::new(server);
        if servers.presenter(u64::from(server.get())).is_none() {
            return Err(RtasError::Parameter);
        }
        let mut state = source.state.lock();
        direct(source, mmio, fw, servers, &mut state, server, priority)?;
        state.unmasked_priority = priority;
        Ok(())
    }

    /// ibm,get-xive: where a source is sent now.
    ///
    /// # Errors
    /// [`RtasError::Parameter`] for an unknown source.
    pub fn get_xive(&self, lisn: u32) -> Result<Xive, RtasError> {
        let source = self.get(Lisn::new(lisn)).ok_or(RtasError::Parameter)?;
        let state = source.state.lock();
        Ok(Xive {
            server: state.server,
            priority: state.priority.0,
        })
    }

    /// ibm,int-off: masks a source; its priority is remembered.
    ///
    /// # Errors
    /// As [`Sources::set_xive`].
    pub fn int_off<M: XiveMmio, F: XiveFirmware, S: Servers + ?Sized>(
        &self,
        mmio: &M,
        _fw: &F,
        _servers: &S,
        lisn: u32,
    ) -> Result<(), RtasError> {
        let source = self.get(Lisn::new(lisn)).ok_or(RtasError::Parameter)?;
        source.mask(mmio, &mut source.state.lock());
        Ok(())
    }

    /// ibm,int-on: brings back the priority that the last ibm,set-xive set.
    ///
    /// # Errors
    /// As [`Sources::set_xive`].
    pub fn int_on<M: XiveMmio, F: XiveFirmware, S: Servers + ?Sized>(
        &self,
        mmio: &M,
        fw: &F,
        servers: &S,
        lisn: u32,
    ) -> Result<(), RtasError> {
        let source = self.get(Lisn::new(lisn)).ok_or(RtasError::Parameter)?;
        let mut state = source.state.lock();
        let (server, priority) = (state.server, state.unmasked_priority);
        direct(source, mmio, fw, servers, &mut state, server, priority)
    }
}

/// Sends a source to a vCPU at a priority, 0xff for not at all.
fn direct<M: XiveMmio, F: XiveFirmware, S: Servers + ?Sized>(
    source: &Source,
    mmio: &M,
    fw: &F,
    servers: &S,
    state: &mut State,
    server: ServerNumber,
    priority: XicsPriority,
) -> Result<(), RtasError> {
    let Some(level) = priority.priority() else {
        source.mask(mmio, state);
        state.server = server;
        return Ok(());
    };
    let target = servers
        .presenter(u64::from(server.get()))
        .ok_or(RtasError::Parameter)?;
    let aim = Aim {
        server: target.server(),
        priority: level,
    };
    if !state.is_masked() && state.aim == Some(aim) {
        state.priority = priority;
    } else {
        let old = state.priority;
        source.mask(mmio, state);
        if let Err(error) = source.unmask(mmio, fw, state, (aim, target.vp()), priority) {
            resume(source, mmio, fw, servers, state, old);
            return Err(error.into());
        }
    }
    state.server = server;
    Ok(())
}

/// After a move that failed: a source that was not masked before goes on where it was.
fn resume<M: XiveMmio, F: XiveFirmware, S: Servers + ?Sized>(
    source: &Source,
    mmio: &M,
    fw: &F,
    servers: &S,
    state: &mut State,
    priority: XicsPriority,
) {
    if priority == XicsPriority::LEAST_FAVOURED {
        return;
    }
    let Some(aim) = state.aim else { return };
    if let Some(target) = servers.presenter(u64::from(aim.server.get())) {
        // The aim is unchanged, so this makes no firmware call and cannot fail.
        let _ = source.unmask(mmio, fw, state, (aim, target.vp()), priority);
    }
}
