// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Making and unmaking a virtual processor of a partition in exploitation mode.
//!
//! The order is firmware's: the virtual processor is enabled, then has its escalations joined, then
//! gets its queues; and back the other way. A set-up that fails half way takes back what it did.

use core::sync::atomic::{AtomicBool, AtomicU64};

use penstock_arch::addr::HostReal;
use penstock_arch::wait::Mutex;

use crate::error::SetupError;
use crate::fw::{FirmwareError, IrqConfig, QueueFlags, VpFlags, XiveFirmware, XiveMmio, settled};
use crate::ids::{ServerNumber, VpId};
use crate::priority::{LEVELS, Priority};
use crate::tima::{OsRing, Tima};

use super::escalation::{Escalation, EscalationTarget, notification_page};
use super::rest::Waiting;
use super::vcpu::{NativeVcpu, VcpuState};

/// What a virtual processor is made from.
#[derive(Clone, Copy, Debug)]
pub struct NativeSetup {
    /// The machine's virtual processor, not enabled.
    pub vp: VpId,
    /// The number by which the guest names it.
    pub server: ServerNumber,
    /// The thread registers.
    pub tima: Tima,
    /// Who is told when it is wanted while it waits; `None` where the hypervisor only looks.
    pub escalation: Option<EscalationTarget>,
}

/// The priorities of a guest.
fn levels() -> impl Iterator<Item = Priority> {
    (0..LEVELS).filter_map(Priority::new)
}

impl NativeVcpu {
    /// Enables a virtual processor with seven queues that have no memory. It is not pushed and not
    /// online.
    ///
    /// # Errors
    /// [`SetupError::NoSingleEscalation`], [`SetupError::UnsuitableSource`] or the status of the call
    /// that failed; then nothing is left behind.
    pub fn set_up<F: XiveFirmware, M: XiveMmio>(
        fw: &F,
        mmio: &M,
        setup: &NativeSetup,
    ) -> Result<Self, SetupError> {
        match Self::enable(fw, mmio, setup) {
            Ok(vcpu) => Ok(vcpu),
            Err(error) => {
                let _ = disable(fw, setup.vp);
                Err(error)
            }
        }
    }

    fn enable<F: XiveFirmware, M: XiveMmio>(
        fw: &F,
        mmio: &M,
        setup: &NativeSetup,
    ) -> Result<Self, SetupError> {
        let vp = setup.vp;
        settled(fw, || fw.set_vp_info(vp, VpFlags::ENABLED, None))?;
        // While each queue still has an escalation of its own, which says where its page is.
        let mut notification = [None; LEVELS as usize];
        for (priority, page) in levels().zip(&mut notification) {
            let queue = settled(fw, || fw.get_queue_info(vp, priority))?;
            let info = settled(fw, || fw.get_irq_info(queue.escalation))?;
            *page = notification_page(&info);
        }
        let flags = VpFlags::ENABLED | VpFlags::SINGLE_ESCALATION;
        settled(fw, || fw.set_vp_info(vp, flags, None))?;
        let own = QueueFlags::ENABLED | QueueFlags::ALWAYS_NOTIFY | QueueFlags::ESCALATE;
        let none = HostReal::new(0);
        let mut joined = None;
        for priority in levels() {
            settled(fw, || fw.set_queue_info(vp, priority, none, 0, own))?;
            // Another number than before.
            let girq = settled(fw, || fw.get_queue_info(vp, priority))?.escalation;
            if *joined.get_or_insert(girq) != girq {
                return Err(SetupError::NoSingleEscalation);
            }
        }
        let girq = joined.ok_or(SetupError::NoSingleEscalation)?;
        let info = settled(fw, || fw.get_irq_info(girq))?;
        let escalation = Escalation::new(girq, &info).ok_or(SetupError::UnsuitableSource(girq))?;
        // Firmware leaves it armed.
        let _ = escalation.disarm(mmio);
        if let Some(target) = setup.escalation {
            let config = IrqConfig {
                vp: target.vp,
                priority: Some(target.priority),
                eisn: target.eisn,
            };
            settled(fw, || fw.set_irq_config(girq, config))?;
        }
        let info = settled(fw, || fw.get_vp_info(vp))?;
        let cam = u32::try_from(info.cam).map_err(|_| FirmwareError::INTERNAL_ERROR)?;
        Ok(Self {
            server: setup.server,
            vp,
            cam,
            tima: setup.tima,
            escalation,
            notification,
            pushed: AtomicBool::new(false),
            armed: AtomicBool::new(false),
            fresh: AtomicBool::new(true),
            saved: AtomicU64::new(OsRing::INITIAL.get()),
            online: AtomicBool::new(false),
            waiting: Waiting::new(),
            state: Mutex::new(VcpuState::RESET),
        })
    }

    /// Takes back all that [`NativeVcpu::set_up`] made. The context must be pulled, and the
    /// partition's sources torn down.
    ///
    /// Afterwards the hardware writes to no queue and no reporting line of it any more, whatever of
    /// them was pinned, and the VP can be freed.
    ///
    /// # Errors
    /// The status of the first call that failed; the others are made all the same. The partition's
    /// memory must not be given to anybody then.
    pub fn tear_down<F: XiveFirmware, M: XiveMmio>(
        self,
        fw: &F,
        mmio: &M,
    ) -> Result<(), FirmwareError> {
        let _ = self.escalation.disarm(mmio);
        disable(fw, self.vp)
    }

    /// Has another host thread told when this virtual processor is wanted while it waits.
    ///
    /// # Errors
    /// Firmware's status.
    pub fn set_escalation_target<F: XiveFirmware>(
        &self,
        fw: &F,
        target: EscalationTarget,
    ) -> Result<(), FirmwareError> {
        let config = IrqConfig {
            vp: target.vp,
            priority: Some(target.priority),
            eisn: target.eisn,
        };
        settled(fw, || fw.set_irq_config(self.escalation.girq(), config))
    }
}

/// Turns the queues and the VP off.
fn disable<F: XiveFirmware>(fw: &F, vp: VpId) -> Result<(), FirmwareError> {
    let mut result = Ok(());
    for priority in levels() {
        let none = HostReal::new(0);
        let off = settled(fw, || {
            fw.set_queue_info(vp, priority, none, 0, QueueFlags::empty())
        });
        result = result.and(off);
    }
    result.and(settled(fw, || fw.set_vp_info(vp, VpFlags::empty(), None)))
}
