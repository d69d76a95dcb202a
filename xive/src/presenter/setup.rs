// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Making and unmaking a presenter: the VP, its queues and its IPI source.
//!
//! The order is firmware's: the VP is enabled before its queues, and disabled after them. A set-up
//! that fails half way takes back what it did.

use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64};

use penstock_arch::addr::HostReal;

use crate::error::SetupError;
use crate::esb::{EsbPair, Pq};
use crate::fw::{
    FirmwareError, IrqConfig, QueueFlags, SyncKind, VpFlags, XiveFirmware, XiveMmio, settled,
};
use crate::ids::{ChipId, Eisn, Girq, VpId};
use crate::presenter::{Presenter, PresenterSetup, XISR_IPI};
use crate::priority::{LEVELS, Priority, XicsPriority};
use crate::queue::{EventQueue, QUEUE_SIZE_LOG2};
use crate::tima::OsRing;

const _: () = assert!((LEVELS as u64) << QUEUE_SIZE_LOG2 <= Presenter::QUEUE_BYTES);

/// The page of each queue in the frame.
fn queue_page(frame: HostReal, level: u8) -> HostReal {
    HostReal::new(frame.get() | u64::from(level) << QUEUE_SIZE_LOG2)
}

impl Presenter {
    /// Enables a vCPU's virtual processor and makes its queues and its IPI source.
    ///
    /// The vCPU has CPPR 0 and MFRR 0xff and is not pushed.
    ///
    /// # Errors
    /// [`SetupError::UnalignedQueues`], [`SetupError::UnsuitableSource`] or the status of the call
    /// that failed; then nothing is left behind.
    pub fn set_up<F: XiveFirmware, M: XiveMmio>(
        fw: &F,
        mmio: &M,
        setup: &PresenterSetup,
    ) -> Result<Self, SetupError> {
        if setup.queues.get() == 0 || !setup.queues.is_aligned(Self::QUEUE_BYTES) {
            return Err(SetupError::UnalignedQueues);
        }
        let cam = match enable_vp(fw, setup) {
            Ok(cam) => cam,
            Err(error) => {
                let _ = disable_vp(fw, setup.vp);
                return Err(error.into());
            }
        };
        let (ipi_girq, ipi) = match make_ipi(fw, mmio, setup.vp, setup.chip) {
            Ok(ipi) => ipi,
            Err(error) => {
                let _ = disable_vp(fw, setup.vp);
                return Err(error);
            }
        };
        let queue = |level| EventQueue::new(queue_page(setup.queues, level));
        Ok(Self {
            tima: setup.tima,
            cppr: AtomicU8::new(XicsPriority::MOST_FAVOURED.0),
            mfrr: AtomicU8::new(XicsPriority::LEAST_FAVOURED.0),
            acknowledged: AtomicU32::new(0),
            queues: [
                queue(0),
                queue(1),
                queue(2),
                queue(3),
                queue(4),
                queue(5),
                queue(6),
            ],
            ipi,
            ipi_girq,
            vp: setup.vp,
            server: setup.server,
            cam,
            pushed: AtomicBool::new(false),
            saved: AtomicU64::new(OsRing::INITIAL.get()),
        })
    }

    /// Takes back all that [`Presenter::set_up`] made. The context must be pulled, and no source
    /// may be aimed at it any more.
    ///
    /// Afterwards the frame of the queues is the kernel's again, and the VP can be freed.
    ///
    /// # Errors
    /// The status of the first call that failed; the others are made all the same.
    pub fn tear_down<F: XiveFirmware, M: XiveMmio>(
        self,
        fw: &F,
        mmio: &M,
    ) -> Result<(), FirmwareError> {
        let _ = self.ipi.set(mmio, Pq::Off);
        // The IPI source, which still is aimed at this VP, stands for all that were. Firmware knows
        // the chip of a queue only where its VP has the number of a processor, and refuses
        // otherwise (skiboot, opal_xive_sync_irq_target): then the sync at the source must do.
        let girq = self.ipi_girq.get();
        let _ = settled(fw, || fw.sync(SyncKind::Queue, girq));
        let freed = release_source(fw, self.ipi_girq, self.vp);
        freed.and(disable_vp(fw, self.vp))
    }
}

/// Enables the VP and its queues; the CAM word.
fn enable_vp<F: XiveFirmware>(fw: &F, setup: &PresenterSetup) -> Result<u32, FirmwareError> {
    settled(fw, || fw.set_vp_info(setup.vp, VpFlags::ENABLED, None))?;
    let info = settled(fw, || fw.get_vp_info(setup.vp))?;
    let flags = QueueFlags::ENABLED | QueueFlags::ALWAYS_NOTIFY;
    for (level, priority) in levels() {
        let page = queue_page(setup.queues, level);
        settled(fw, || {
            fw.set_queue_info(setup.vp, priority, page, QUEUE_SIZE_LOG2, flags)
        })?;
    }
    u32::try_from(info.cam).map_err(|_| FirmwareError::INTERNAL_ERROR)
}

/// Turns the queues and the VP off; nothing of it reaches memory afterwards.
fn disable_vp<F: XiveFirmware>(fw: &F, vp: VpId) -> Result<(), FirmwareError> {
    let mut result = Ok(());
    for (_, priority) in levels() {
        let none = HostReal::new(0);
        let off = settled(fw, || {
            fw.set_queue_info(vp, priority, none, 0, QueueFlags::empty())
        });
        result = result.and(off);
    }
    result.and(settled(fw, || fw.set_vp_info(vp, VpFlags::empty(), None)))
}

/// Makes the source by which other vCPUs draw attention to the MFRR.
///
/// It has priority 0, so that it is seen whatever the MFRR; whether the CPPR lets the MFRR through
/// is decided before it is triggered, and again when its entry is taken.
fn make_ipi<F: XiveFirmware, M: XiveMmio>(
    fw: &F,
    mmio: &M,
    vp: VpId,
    chip: Option<ChipId>,
) -> Result<(Girq, EsbPair), SetupError> {
    let (girq, esb) = allocate_source(fw, chip)?;
    let config = IrqConfig {
        vp,
        priority: Some(Priority::MOST_FAVOURED),
        eisn: Eisn::new(XISR_IPI),
    };
    if let Err(error) = settled(fw, || fw.set_irq_config(girq, config)) {
        let _ = settled(fw, || fw.free_irq(girq));
        return Err(error.into());
    }
    let _ = esb.set(mmio, Pq::Reset);
    Ok((girq, esb))
}

/// Allocates a source that software triggers; it is off.
pub(crate) fn allocate_source<F: XiveFirmware>(
    fw: &F,
    chip: Option<ChipId>,
) -> Result<(Girq, EsbPair), SetupError> {
    let girq = settled(fw, || fw.alloc_irq(chip))?;
    let info = settled(fw, || fw.get_irq_info(girq));
    match info
        .map_err(SetupError::from)
        .and_then(|info| EsbPair::new(girq, &info))
    {
        Ok(esb) => Ok((girq, esb)),
        Err(error) => {
            let _ = settled(fw, || fw.free_irq(girq));
            Err(error)
        }
    }
}

/// Frees a source that is off, once nothing of it is in flight. `vp` is any valid one.
pub(crate) fn release_source<F: XiveFirmware>(
    fw: &F,
    girq: Girq,
    vp: VpId,
) -> Result<(), FirmwareError> {
    let nowhere = IrqConfig {
        vp,
        priority: None,
        eisn: Eisn::new(0),
    };
    let masked = settled(fw, || fw.set_irq_config(girq, nowhere));
    let synced = settled(fw, || fw.sync(SyncKind::Eas, girq.get()));
    masked.and(synced).and(settled(fw, || fw.free_irq(girq)))
}

/// The priorities of an XICS guest.
fn levels() -> impl Iterator<Item = (u8, Priority)> {
    (0..LEVELS).filter_map(|level| Priority::new(level).map(|priority| (level, priority)))
}
