// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What this crate asks of the machine: OPAL calls and cache-inhibited accesses.
//!
//! The kernel implements both traits. [`XiveFirmware`] is one OPAL call per function, without any
//! retry: [`settled`] and [`provisioned`] here repeat calls that are busy or want memory, a bounded
//! number of times, and [`settled_soon`] the few times that fit into an hcall. Firmware calls serve
//! set-up, RTAS, and the configuration calls of exploitation mode; no hcall that a guest makes for
//! each interrupt makes one.

mod retry;
mod types;

use penstock_arch::addr::HostReal;

pub use retry::{Patience, provisioned, settled, settled_for, settled_soon};
pub use types::{
    FirmwareError, IrqConfig, IrqFlags, IrqInfo, QueueFlags, QueueInfo, QueueState, SyncKind,
    VpFlags, VpInfo, XiveMode,
};

use crate::ids::{ChipId, Girq, VpId};
use crate::priority::Priority;

/// The OPAL calls on XIVE (OPAL API, `OPAL_XIVE_*`), one function each.
///
/// `Err` holds the status; outputs are in the processor's byte order.
#[expect(
    clippy::missing_errors_doc,
    reason = "every error is the status of the call named"
)]
pub trait XiveFirmware {
    /// `OPAL_XIVE_RESET`: forgets all interrupts, queues, VPs and donated pages.
    fn reset(&self, mode: XiveMode) -> Result<(), FirmwareError>;

    /// `OPAL_XIVE_ALLOCATE_VP_BLOCK`: `1 << order` consecutive VPs; the first.
    fn alloc_vp_block(&self, order: u32) -> Result<VpId, FirmwareError>;

    /// `OPAL_XIVE_FREE_VP_BLOCK`.
    fn free_vp_block(&self, base: VpId) -> Result<(), FirmwareError>;

    /// `OPAL_XIVE_GET_VP_INFO`.
    fn get_vp_info(&self, vp: VpId) -> Result<VpInfo, FirmwareError>;

    /// `OPAL_XIVE_SET_VP_INFO`; no reporting line is address 0.
    fn set_vp_info(
        &self,
        vp: VpId,
        flags: VpFlags,
        report_cl: Option<HostReal>,
    ) -> Result<(), FirmwareError>;

    /// `OPAL_XIVE_GET_VP_STATE`: what memory holds of a VP that is not pushed.
    fn get_vp_state(&self, vp: VpId) -> Result<u64, FirmwareError>;

    /// `OPAL_XIVE_ALLOCATE_IRQ`: a source for software's own use; `None` is any chip.
    fn alloc_irq(&self, chip: Option<ChipId>) -> Result<Girq, FirmwareError>;

    /// `OPAL_XIVE_FREE_IRQ`.
    fn free_irq(&self, girq: Girq) -> Result<(), FirmwareError>;

    /// `OPAL_XIVE_GET_IRQ_INFO`.
    fn get_irq_info(&self, girq: Girq) -> Result<IrqInfo, FirmwareError>;

    /// `OPAL_XIVE_GET_IRQ_CONFIG`.
    fn get_irq_config(&self, girq: Girq) -> Result<IrqConfig, FirmwareError>;

    /// `OPAL_XIVE_SET_IRQ_CONFIG`: where events go. Leaves P and Q alone.
    fn set_irq_config(&self, girq: Girq, config: IrqConfig) -> Result<(), FirmwareError>;

    /// `OPAL_XIVE_GET_QUEUE_INFO`.
    fn get_queue_info(&self, vp: VpId, priority: Priority) -> Result<QueueInfo, FirmwareError>;

    /// `OPAL_XIVE_SET_QUEUE_INFO`: index back to 0, generation to 1. Size 0 means no memory.
    fn set_queue_info(
        &self,
        vp: VpId,
        priority: Priority,
        page: HostReal,
        size_log2: u32,
        flags: QueueFlags,
    ) -> Result<(), FirmwareError>;

    /// `OPAL_XIVE_GET_QUEUE_STATE`.
    fn get_queue_state(&self, vp: VpId, priority: Priority) -> Result<QueueState, FirmwareError>;

    /// `OPAL_XIVE_SET_QUEUE_STATE`.
    fn set_queue_state(
        &self,
        vp: VpId,
        priority: Priority,
        state: QueueState,
    ) -> Result<(), FirmwareError>;

    /// `OPAL_XIVE_DONATE_PAGE`: 64 KiB that stay the firmware's until the next reset.
    fn donate_page(&self, chip: ChipId, page: HostReal) -> Result<(), FirmwareError>;

    /// `OPAL_XIVE_SYNC`: returns when everything in flight from this source, or to the queue that it
    /// is aimed at, has landed. `girq` is a source in both cases.
    fn sync(&self, kind: SyncKind, girq: u32) -> Result<(), FirmwareError>;

    /// Called between two tries of a busy call: lets firmware do its events, or waits a little.
    fn wait(&self);
}

/// Cache-inhibited loads and stores in hypervisor real mode.
///
/// The device is big-endian: values are its numbers, whatever the processor's byte order. An access
/// is `offset` bytes into the page, as the instructions' two index registers have it.
pub trait XiveMmio {
    /// Loads 2 bytes.
    fn load16(&self, page: HostReal, offset: u64) -> u16;
    /// Loads 4 bytes.
    fn load32(&self, page: HostReal, offset: u64) -> u32;
    /// Loads 8 bytes.
    fn load64(&self, page: HostReal, offset: u64) -> u64;
    /// Stores 1 byte.
    fn store8(&self, page: HostReal, offset: u64, value: u8);
    /// Stores 4 bytes.
    fn store32(&self, page: HostReal, offset: u64, value: u32);
    /// Stores 8 bytes.
    fn store64(&self, page: HostReal, offset: u64, value: u64);
    /// Orders the accesses before with those after (`eieio`).
    fn order_io(&self);
    /// Orders these and all accesses to memory, both ways (`sync`).
    fn sync(&self);
}

/// Puts the interrupt controller into exploitation mode, once, before anything else of this crate.
///
/// # Errors
/// The status of `OPAL_XIVE_RESET`.
pub fn enable<F: XiveFirmware>(fw: &F) -> Result<(), FirmwareError> {
    settled(fw, || fw.reset(XiveMode::Exploitation))
}
