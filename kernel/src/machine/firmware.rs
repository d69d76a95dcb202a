// SPDX-License-Identifier: Apache-2.0 OR MIT
//! OPAL as the interrupt code's firmware.

// UNSAFETY: event queues and donated pages are given to the interrupt controller.
#![expect(unsafe_code)]

use crate::monitor::IrqTotals;
use core::sync::atomic::{AtomicU32, Ordering};
use penstock_arch::addr::HostReal;
use penstock_boot::opal::{Status, call, xive};
use penstock_xive::fw::{
    IrqConfig, IrqFlags, IrqInfo, QueueFlags, QueueInfo, QueueState, SyncKind, VpFlags, VpInfo,
    XiveMode,
};
use penstock_xive::{ChipId, Eisn, FirmwareError, Girq, Priority, VpId, XiveFirmware};

/// What firmware has given out and not got back, counted where it is asked: what leaks stays here.
static HELD_SOURCES: AtomicU32 = AtomicU32::new(0);
static HELD_VP_BLOCKS: AtomicU32 = AtomicU32::new(0);
static DONATED: AtomicU32 = AtomicU32::new(0);

/// What firmware has given out.
pub fn held() -> IrqTotals {
    IrqTotals {
        sources: HELD_SOURCES.load(Ordering::Relaxed),
        vp_blocks: HELD_VP_BLOCKS.load(Ordering::Relaxed),
        donated: DONATED.load(Ordering::Relaxed),
    }
}

fn more(count: &AtomicU32) {
    count.fetch_add(1, Ordering::Relaxed);
}

fn less(count: &AtomicU32) {
    count.fetch_sub(1, Ordering::Relaxed);
}

/// Firmware.
#[derive(Clone, Copy, Debug)]
pub struct Opal;

fn error(status: Status) -> FirmwareError {
    FirmwareError(status.0)
}

/// OPAL's "masked" and "any chip".
const MASKED: u8 = 0xff;
const ANY_CHIP: u32 = u32::MAX;

impl XiveFirmware for Opal {
    fn reset(&self, mode: XiveMode) -> Result<(), FirmwareError> {
        let mode = match mode {
            XiveMode::Emulation => 0,
            XiveMode::Exploitation => 1,
        };
        // SAFETY: `xive` resets once, before it allocates anything.
        unsafe { xive::reset(mode) }.map_err(error)
    }

    fn alloc_vp_block(&self, order: u32) -> Result<VpId, FirmwareError> {
        let base = xive::allocate_vp_block(order).map_err(error)?;
        more(&HELD_VP_BLOCKS);
        Ok(VpId::new(base))
    }

    fn free_vp_block(&self, base: VpId) -> Result<(), FirmwareError> {
        xive::free_vp_block(base.get()).map_err(error)?;
        less(&HELD_VP_BLOCKS);
        Ok(())
    }

    fn get_vp_info(&self, vp: VpId) -> Result<VpInfo, FirmwareError> {
        let info = xive::vp_info(vp.get()).map_err(error)?;
        Ok(VpInfo {
            flags: VpFlags::from_bits_retain(info.flags),
            cam: info.cam,
            report_cl: HostReal::new(info.report_cl),
            chip: ChipId::new(info.chip),
        })
    }

    fn set_vp_info(
        &self,
        vp: VpId,
        flags: VpFlags,
        report_cl: Option<HostReal>,
    ) -> Result<(), FirmwareError> {
        let report = report_cl.map_or(0, HostReal::get);
        xive::set_vp_info(vp.get(), flags.bits(), report).map_err(error)
    }

    fn get_vp_state(&self, vp: VpId) -> Result<u64, FirmwareError> {
        xive::vp_state(vp.get()).map_err(error)
    }

    fn alloc_irq(&self, chip: Option<ChipId>) -> Result<Girq, FirmwareError> {
        let girq = xive::allocate_irq(chip.map_or(ANY_CHIP, ChipId::get)).map_err(error)?;
        more(&HELD_SOURCES);
        Ok(Girq::new(girq))
    }

    fn free_irq(&self, girq: Girq) -> Result<(), FirmwareError> {
        xive::free_irq(girq.get()).map_err(error)?;
        less(&HELD_SOURCES);
        Ok(())
    }

    fn get_irq_info(&self, girq: Girq) -> Result<IrqInfo, FirmwareError> {
        let info = xive::irq_info(girq.get()).map_err(error)?;
        Ok(IrqInfo {
            flags: IrqFlags::from_bits_retain(info.flags),
            eoi_page: HostReal::new(info.eoi_page),
            trigger_page: HostReal::new(info.trigger_page),
            esb_shift: info.esb_shift,
            chip: ChipId::new(info.chip),
        })
    }

    fn get_irq_config(&self, girq: Girq) -> Result<IrqConfig, FirmwareError> {
        let (vp, priority, eisn) = xive::irq_config(girq.get()).map_err(error)?;
        let vp = u32::try_from(vp).map_err(|_| FirmwareError(Status::PARAMETER.0))?;
        Ok(IrqConfig {
            vp: VpId::new(vp),
            priority: Priority::new(priority),
            eisn: Eisn::new(eisn),
        })
    }

    fn set_irq_config(&self, girq: Girq, config: IrqConfig) -> Result<(), FirmwareError> {
        let priority = config.priority.map_or(MASKED, Priority::get);
        xive::set_irq_config(
            girq.get(),
            u64::from(config.vp.get()),
            priority,
            config.eisn.get(),
        )
        .map_err(error)
    }

    fn get_queue_info(&self, vp: VpId, priority: Priority) -> Result<QueueInfo, FirmwareError> {
        let info = xive::queue_info(u64::from(vp.get()), priority.get()).map_err(error)?;
        Ok(QueueInfo {
            page: HostReal::new(info.page),
            size_log2: u32::try_from(info.size_log2)
                .map_err(|_| FirmwareError(Status::PARAMETER.0))?,
            eoi_page: HostReal::new(info.eoi_page),
            escalation: Girq::new(info.escalation),
            flags: QueueFlags::from_bits_retain(info.flags),
        })
    }

    fn set_queue_info(
        &self,
        vp: VpId,
        priority: Priority,
        page: HostReal,
        size_log2: u32,
        flags: QueueFlags,
    ) -> Result<(), FirmwareError> {
        let vp = u64::from(vp.get());
        // SAFETY: `xive` passes frames that it was given for just this, zeroed and aligned.
        unsafe { xive::set_queue_info(vp, priority.get(), page.get(), size_log2, flags.bits()) }
            .map_err(error)
    }

    fn get_queue_state(&self, vp: VpId, priority: Priority) -> Result<QueueState, FirmwareError> {
        let (toggle, index) =
            xive::queue_state(u64::from(vp.get()), priority.get()).map_err(error)?;
        Ok(QueueState { toggle, index })
    }

    fn set_queue_state(
        &self,
        vp: VpId,
        priority: Priority,
        state: QueueState,
    ) -> Result<(), FirmwareError> {
        let vp = u64::from(vp.get());
        xive::set_queue_state(vp, priority.get(), state.toggle, state.index).map_err(error)
    }

    fn donate_page(&self, chip: ChipId, page: HostReal) -> Result<(), FirmwareError> {
        // SAFETY: `xive` donates frames that it was given for this and forgets them.
        unsafe { xive::donate_page(chip.get(), page.get()) }.map_err(error)?;
        more(&DONATED);
        Ok(())
    }

    fn sync(&self, kind: SyncKind, id: u32) -> Result<(), FirmwareError> {
        xive::sync(kind as u64, id).map_err(error)
    }

    fn wait(&self) {
        call::poll_events();
    }
}
