// SPDX-License-Identifier: Apache-2.0 OR MIT
//! H_INT_GET_QUEUE_INFO, H_INT_SET_QUEUE_CONFIG and H_INT_GET_QUEUE_CONFIG.

use penstock_arch::addr::{GuestReal, HostReal};

use crate::error::HcallError;
use crate::fw::{FirmwareError, Patience, QueueFlags, QueueState, XiveFirmware, settled_soon};
use crate::ids::VpId;
use crate::priority::Priority;

use super::super::source::Aim;
use super::super::vcpu::{EndState, GuestQueue, NativeVcpu};
use super::super::window::{PAGE_SHIFT, notification_page};
use super::super::{Native, PinnedMemory, QUEUE_SIZES_LOG2, allowed_priority};
use super::source::drain;
use super::{bit, check_flags};

/// What H_INT_GET_QUEUE_INFO answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueInfo {
    /// R4: the notification page; all ones go to the guest for `None`.
    pub notification: Option<GuestReal>,
    /// R5: log2 of its bytes; 0 where there is none.
    pub page_shift: u32,
}

/// What H_INT_GET_QUEUE_CONFIG answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueConfig {
    /// R4, bit 63: unconditional notify.
    pub always: bool,
    /// R5 and R6: the queue and log2 of its bytes; all ones and 0 go to the guest for `None`.
    pub queue: Option<(GuestReal, u32)>,
    /// R4, bit 62, and R7: the generation and the offset of the next entry, if the guest asked.
    pub debug: Option<QueueState>,
}

/// H_INT_SET_QUEUE_CONFIG: unconditional notify.
const ALWAYS: u64 = bit(63);
/// H_INT_GET_QUEUE_CONFIG: generation and offset too.
const DEBUG: u64 = bit(63);

impl Native<'_> {
    /// H_INT_GET_QUEUE_INFO: the notification page of a queue.
    ///
    /// # Errors
    /// [`HcallError::Parameter`] for a flag, [`HcallError::State`], [`HcallError::P2`] for the
    /// target, [`HcallError::P3`] for a reserved priority.
    pub fn get_queue_info(
        &self,
        flags: u64,
        target: u64,
        priority: u64,
    ) -> Result<QueueInfo, HcallError> {
        check_flags(flags, 0)?;
        self.check_state()?;
        let (vcpu, priority) = self.named_queue(target, priority)?;
        let has_page = notification_of(vcpu, priority).is_some();
        Ok(QueueInfo {
            notification: has_page.then(|| notification_page(vcpu.server(), priority)),
            page_shift: if has_page { PAGE_SHIFT } else { 0 },
        })
    }

    /// H_INT_SET_QUEUE_CONFIG: gives a virtual processor a queue for a priority, or takes it away.
    /// When it returns, nothing is written to the old one any more.
    ///
    /// # Errors
    /// [`HcallError::Parameter`] for a flag, [`HcallError::State`], [`HcallError::P2`] for the
    /// target, [`HcallError::P3`] for a reserved priority, [`HcallError::P5`] for a size that is not
    /// offered, [`HcallError::P4`] for what is not the partition's memory or not aligned, and what
    /// firmware answers.
    pub fn set_queue_config<F: XiveFirmware, P: PinnedMemory>(
        &self,
        fw: &F,
        memory: &P,
        [flags, target, priority, base, size_log2]: [u64; 5],
    ) -> Result<(), HcallError> {
        check_flags(flags, ALWAYS)?;
        self.check_state()?;
        let (vcpu, priority) = self.named_queue(target, priority)?;
        let always = flags & ALWAYS != 0;
        if !always && size_log2 != 0 && notification_of(vcpu, priority).is_none() {
            return Err(HcallError::Parameter);
        }
        let new = wanted_queue(base, size_log2)?;
        let mut state = vcpu.lock();
        self.check_state()?;
        let end = state.end_mut(priority).ok_or(HcallError::P3)?;
        let page = match new {
            None => HostReal::new(0),
            Some(queue) => memory
                .pin(queue.base, queue.bytes())
                .ok_or(HcallError::P4)?,
        };
        let new = EndState {
            queue: new,
            // A queue that is reset notifies nobody by a page.
            always: always && new.is_some(),
        };
        if let Err(error) = program(fw, vcpu.vp(), priority, page, &new) {
            unpin(memory, &new);
            return Err(error.into());
        }
        let old = core::mem::replace(end, new);
        // The lock of a source comes before that of a virtual processor.
        drop(state);
        let aim = Aim {
            server: vcpu.server(),
            priority,
        };
        // Where the machine cannot say that all has landed, the old memory stays pinned.
        self.drain_aimed(fw, aim)?;
        unpin(memory, &old);
        Ok(())
    }

    /// H_INT_GET_QUEUE_CONFIG: the queue of a priority.
    ///
    /// # Errors
    /// [`HcallError::Parameter`] for a flag, [`HcallError::State`], [`HcallError::P2`] for the
    /// target, [`HcallError::P3`] for a reserved priority, and what firmware answers.
    pub fn get_queue_config<F: XiveFirmware>(
        &self,
        fw: &F,
        flags: u64,
        target: u64,
        priority: u64,
    ) -> Result<QueueConfig, HcallError> {
        check_flags(flags, DEBUG)?;
        self.check_state()?;
        let (vcpu, priority) = self.named_queue(target, priority)?;
        let state = vcpu.lock();
        self.check_state()?;
        let end = state.end(priority).ok_or(HcallError::P3)?;
        let debug = match flags & DEBUG {
            0 => None,
            _ => Some(settled_soon(fw, || {
                fw.get_queue_state(vcpu.vp(), priority)
            })?),
        };
        Ok(QueueConfig {
            always: end.always,
            queue: end.queue.map(|queue| (queue.base, queue.size_log2)),
            debug,
        })
    }

    /// Target and priority, in the order in which LoPAR has them checked.
    fn named_queue(
        &self,
        target: u64,
        priority: u64,
    ) -> Result<(&NativeVcpu, Priority), HcallError> {
        let vcpu = self.named_vcpu(target).ok_or(HcallError::P2)?;
        let priority = allowed_priority(priority).ok_or(HcallError::P3)?;
        Ok((vcpu, priority))
    }

    /// Waits until nothing of the sources that are aimed there is on its way. The change that this
    /// follows is made, so a busy firmware is waited for.
    fn drain_aimed<F: XiveFirmware>(&self, fw: &F, aim: Aim) -> Result<(), FirmwareError> {
        self.sources()
            .filter(|source| source.lock().aim == Some(aim))
            .try_for_each(|source| drain(fw, source, Patience::Long))
    }
}

/// The page of the machine behind a queue's notification page.
fn notification_of(vcpu: &NativeVcpu, priority: Priority) -> Option<HostReal> {
    *vcpu.notification.get(usize::from(priority.get()))?
}

/// The queue that the arguments ask for; `None` for none.
fn wanted_queue(base: u64, size_log2: u64) -> Result<Option<GuestQueue>, HcallError> {
    let size_log2 = match u32::try_from(size_log2) {
        Ok(0) => return Ok(None),
        Ok(size) if QUEUE_SIZES_LOG2.contains(&size) => size,
        _ => return Err(HcallError::P5),
    };
    let base = GuestReal::new(base);
    if !base.is_aligned(1 << size_log2) {
        return Err(HcallError::P4);
    }
    Ok(Some(GuestQueue { base, size_log2 }))
}

/// Makes a queue of the machine what `end` says. It is enabled in any case: without memory, events
/// are not queued but notify.
pub(in super::super) fn program<F: XiveFirmware>(
    fw: &F,
    vp: VpId,
    priority: Priority,
    page: HostReal,
    end: &EndState,
) -> Result<(), FirmwareError> {
    let mut flags = QueueFlags::ENABLED | QueueFlags::ESCALATE;
    if end.always || end.queue.is_none() {
        flags |= QueueFlags::ALWAYS_NOTIFY;
    }
    let size_log2 = end.queue.map_or(0, |queue| queue.size_log2);
    settled_soon(fw, || {
        fw.set_queue_info(vp, priority, page, size_log2, flags)
    })
}

/// Gives up the memory of a queue.
pub(in super::super) fn unpin<P: PinnedMemory>(memory: &P, end: &EndState) {
    if let Some(queue) = end.queue {
        memory.unpin(queue.base, queue.bytes());
    }
}
