// SPDX-License-Identifier: Apache-2.0 OR MIT
//! H_INT_GET_SOURCE_INFO, H_INT_SET_SOURCE_CONFIG, H_INT_GET_SOURCE_CONFIG and H_INT_SYNC.

use bitflags::bitflags;
use penstock_arch::addr::GuestReal;

use crate::error::HcallError;
use crate::fw::{
    FirmwareError, IrqConfig, Patience, SyncKind, XiveFirmware, settled, settled_for, settled_soon,
};
use crate::ids::{Eisn, ServerNumber};
use crate::priority::Priority;
use crate::source::Trigger;

use super::super::source::{Aim, NativeSource, SourceState};
use super::super::window::{PAGE_SHIFT, esb_pages};
use super::super::{Native, allowed_priority};
use super::{bit, check_flags};

bitflags! {
    /// Properties of a source (LoPAR, H_INT_GET_SOURCE_INFO, R4).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct SourceFlags: u64 {
        /// P and Q are managed by H_INT_ESB, and there is no page.
        const ESB_HCALL = bit(60);
        /// Level-sensitive.
        const LSI = bit(61);
        /// The management page triggers too.
        const TRIGGER = bit(62);
        /// A store ends the interrupt.
        const STORE_EOI = bit(63);
    }
}

/// What H_INT_GET_SOURCE_INFO answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceInfo {
    /// R4.
    pub flags: SourceFlags,
    /// R5: the management page; all ones go to the guest for `None`.
    pub management: Option<GuestReal>,
    /// R6: the page that only triggers; all ones for `None`.
    pub trigger: Option<GuestReal>,
    /// R7: log2 of the bytes of either.
    pub page_shift: u32,
}

/// What H_INT_GET_SOURCE_CONFIG answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceConfig {
    /// R4: the virtual processor; 0 while the source is aimed nowhere.
    pub target: ServerNumber,
    /// R5: the priority; 0xff goes to the guest for `None`, which is nowhere.
    pub priority: Option<Priority>,
    /// R6: what its entries say.
    pub eisn: Eisn,
}

/// H_INT_SET_SOURCE_CONFIG: store the EISN.
const SET_EISN: u64 = bit(62);
/// H_INT_SET_SOURCE_CONFIG: drop events behind P and Q.
const MASK: u64 = bit(63);
/// The priority that aims a source nowhere.
const NOWHERE: u64 = 0xff;
/// The largest EISN: bit 0 of an entry is the generation.
const MAX_EISN: u64 = 0x7fff_ffff;

impl Native<'_> {
    /// H_INT_GET_SOURCE_INFO: the pages of a source.
    ///
    /// # Errors
    /// [`HcallError::Parameter`] for a flag, [`HcallError::State`], [`HcallError::P2`] for a number
    /// that is not the partition's.
    pub fn get_source_info(&self, flags: u64, lisn: u64) -> Result<SourceInfo, HcallError> {
        check_flags(flags, 0)?;
        self.check_state()?;
        let source = self.named_source(lisn).ok_or(HcallError::P2)?;
        let (trigger, management) = esb_pages(source.lisn());
        Ok(match source.trigger() {
            Trigger::Edge => SourceInfo {
                flags: SourceFlags::empty(),
                management: Some(management),
                trigger: Some(trigger),
                page_shift: PAGE_SHIFT,
            },
            Trigger::Level => SourceInfo {
                flags: SourceFlags::ESB_HCALL | SourceFlags::LSI,
                management: None,
                trigger: None,
                page_shift: PAGE_SHIFT,
            },
        })
    }

    /// H_INT_SET_SOURCE_CONFIG: aims a source at a virtual processor's queue, or nowhere. When it
    /// returns, whatever was on the way to the old queue has landed there.
    ///
    /// # Errors
    /// [`HcallError::Parameter`] for a flag, [`HcallError::State`], [`HcallError::P2`] for the
    /// number, [`HcallError::P3`] for the target, [`HcallError::P4`] for a reserved priority,
    /// [`HcallError::P5`] for the EISN, and what firmware answers.
    pub fn set_source_config<F: XiveFirmware>(
        &self,
        fw: &F,
        [flags, lisn, target, priority, eisn]: [u64; 5],
    ) -> Result<(), HcallError> {
        check_flags(flags, SET_EISN | MASK)?;
        self.check_state()?;
        let source = self.named_source(lisn).ok_or(HcallError::P2)?;
        if priority == NOWHERE {
            let mut state = source.lock();
            self.check_state()?;
            return Ok(forget(fw, source, &mut state)?);
        }
        let vcpu = self.named_vcpu(target).ok_or(HcallError::P3)?;
        let priority = allowed_priority(priority).ok_or(HcallError::P4)?;
        let wanted = match flags & SET_EISN {
            0 => None,
            _ if eisn > MAX_EISN => return Err(HcallError::P5),
            _ => Some(Eisn::new(u32::try_from(eisn).unwrap_or(0))),
        };
        let masked = flags & MASK != 0;
        let mut state = source.lock();
        self.check_state()?;
        let eisn = wanted.unwrap_or(state.eisn);
        let config = IrqConfig {
            vp: vcpu.vp(),
            priority: (!masked).then_some(priority),
            eisn,
        };
        settled_soon(fw, || fw.set_irq_config(source.girq(), config))?;
        state.aim = Some(Aim {
            server: vcpu.server(),
            priority,
        });
        (state.masked, state.eisn) = (masked, eisn);
        // Firmware has seen to what was on the way to the old queue when it changed the entry; what
        // the source had not let go of by then is behind the change, and this waits for that. The
        // change is made, so a busy firmware is waited for.
        settled(fw, || fw.sync(SyncKind::Eas, source.girq().get()))?;
        Ok(())
    }

    /// H_INT_GET_SOURCE_CONFIG: where a source is aimed.
    ///
    /// # Errors
    /// [`HcallError::Parameter`] for a flag, [`HcallError::State`], [`HcallError::P2`] for the
    /// number.
    pub fn get_source_config(&self, flags: u64, lisn: u64) -> Result<SourceConfig, HcallError> {
        check_flags(flags, 0)?;
        self.check_state()?;
        let source = self.named_source(lisn).ok_or(HcallError::P2)?;
        let state = source.lock();
        Ok(SourceConfig {
            target: state.aim.map_or(ServerNumber::new(0), |aim| aim.server),
            priority: state.aim.map(|aim| aim.priority),
            eisn: state.eisn,
        })
    }

    /// H_INT_SYNC: waits until all events of a source are in their queue.
    ///
    /// # Errors
    /// [`HcallError::Parameter`] for a flag, [`HcallError::State`], [`HcallError::P2`] for the
    /// number, and what firmware answers.
    pub fn sync<F: XiveFirmware>(&self, fw: &F, flags: u64, lisn: u64) -> Result<(), HcallError> {
        check_flags(flags, 0)?;
        self.check_state()?;
        let source = self.named_source(lisn).ok_or(HcallError::P2)?;
        let state = source.lock();
        self.check_state()?;
        drain(fw, source, Patience::Short)?;
        drop(state);
        Ok(())
    }
}

/// Waits until what a source has let go of is in its queue.
pub(in super::super) fn drain<F: XiveFirmware>(
    fw: &F,
    source: &NativeSource,
    patience: Patience,
) -> Result<(), FirmwareError> {
    let girq = source.girq().get();
    settled_for(fw, patience, || fw.sync(SyncKind::Eas, girq))?;
    // Firmware knows the chip of a queue only where the source is aimed somewhere, and on some
    // machines only where the target has the number of a processor (skiboot,
    // opal_xive_sync_irq_target); it refuses otherwise. Sources and queues of a partition are on one
    // chip then, and the first call has waited for that.
    match settled_for(fw, patience, || fw.sync(SyncKind::Queue, girq)) {
        Err(FirmwareError::PARAMETER) => Ok(()),
        other => other,
    }
}

/// Aims a source nowhere; nothing of it is on its way afterwards.
pub(in super::super) fn forget<F: XiveFirmware>(
    fw: &F,
    source: &NativeSource,
    state: &mut SourceState,
) -> Result<(), FirmwareError> {
    drain(fw, source, Patience::Short)?;
    let eisn = Eisn::new(source.lisn().get());
    let config = IrqConfig {
        vp: source.vp(),
        priority: None,
        eisn,
    };
    settled_soon(fw, || fw.set_irq_config(source.girq(), config))?;
    (state.aim, state.masked, state.eisn) = (None, false, eisn);
    Ok(())
}
