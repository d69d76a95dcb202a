// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The records, flags and statuses of the XIVE calls (OPAL API, `OPAL_XIVE_*`).

use bitflags::bitflags;
use penstock_arch::addr::HostReal;

use crate::ids::{ChipId, Eisn, Girq, VpId};
use crate::priority::Priority;

/// A status of an OPAL call that is not success. Open: firmware may know more than we do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct FirmwareError(pub i64);

impl FirmwareError {
    /// `OPAL_PARAMETER`.
    pub const PARAMETER: Self = Self(-1);
    /// `OPAL_BUSY`: call again.
    pub const BUSY: Self = Self(-2);
    /// `OPAL_HARDWARE`.
    pub const HARDWARE: Self = Self(-6);
    /// `OPAL_UNSUPPORTED`.
    pub const UNSUPPORTED: Self = Self(-7);
    /// `OPAL_RESOURCE`: nothing left to allocate.
    pub const RESOURCE: Self = Self(-10);
    /// `OPAL_INTERNAL_ERROR`.
    pub const INTERNAL_ERROR: Self = Self(-11);
    /// `OPAL_BUSY_EVENT`: call again after polling events.
    pub const BUSY_EVENT: Self = Self(-12);
    /// `OPAL_WRONG_STATE`: not in exploitation mode.
    pub const WRONG_STATE: Self = Self(-14);
    /// `OPAL_XIVE_PROVISIONING`: donate memory and call again.
    pub const PROVISIONING: Self = Self(-31);
    /// `OPAL_XIVE_FREE_ACTIVE`: still enabled.
    pub const FREE_ACTIVE: Self = Self(-32);
}

impl core::fmt::Display for FirmwareError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let name = match *self {
            Self::PARAMETER => "parameter",
            Self::BUSY | Self::BUSY_EVENT => "busy",
            Self::HARDWARE => "hardware",
            Self::UNSUPPORTED => "unsupported",
            Self::RESOURCE => "resource",
            Self::INTERNAL_ERROR => "internal error",
            Self::WRONG_STATE => "wrong state",
            Self::PROVISIONING => "wants memory",
            Self::FREE_ACTIVE => "still active",
            Self(code) => return write!(f, "OPAL status {code}"),
        };
        write!(f, "OPAL status {} ({name})", self.0)
    }
}

/// How the interrupt controller works after a reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum XiveMode {
    /// Firmware emulates XICS.
    Emulation = 0,
    /// Software uses XIVE itself.
    Exploitation = 1,
}

/// What `OPAL_XIVE_SYNC` waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum SyncKind {
    /// Everything from the source has passed its EAS.
    Eas = 1,
    /// Everything on the way to the queue that the source is aimed at has landed there.
    Queue = 2,
}

bitflags! {
    /// Properties of a source.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct IrqFlags: u64 {
        /// The management page triggers too.
        const TRIGGER_PAGE = 0x01;
        /// A store to the management page at 0x400 ends the interrupt.
        const STORE_EOI = 0x02;
        /// Level-sensitive.
        const LSI = 0x04;
        /// Offsets are shifted (POWER9 DD1).
        const SHIFT_BUG = 0x08;
        /// Masked by an OPAL call (POWER9 DD1).
        const MASK_VIA_FW = 0x10;
        /// Ended by an OPAL call (POWER9 DD1).
        const EOI_VIA_FW = 0x20;
        /// Store EOI, newer form (POWER10).
        const STORE_EOI2 = 0x40;
    }
}

bitflags! {
    /// Properties of a virtual processor.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct VpFlags: u64 {
        /// It can be pushed and its queues used.
        const ENABLED = 1;
        /// All its queues share one escalation interrupt, at the price of priority 7.
        const SINGLE_ESCALATION = 2;
        /// Hardware saves and restores its ring (POWER10).
        const SAVE_RESTORE = 4;
    }
}

bitflags! {
    /// Properties of an event queue.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct QueueFlags: u64 {
        /// In use.
        const ENABLED = 1;
        /// Each entry notifies; there is no coalescing in the queue's own P and Q.
        const ALWAYS_NOTIFY = 2;
        /// Raises its escalation interrupt while the VP is not pushed.
        const ESCALATE = 4;
    }
}

/// What `OPAL_XIVE_GET_IRQ_INFO` answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IrqInfo {
    /// Properties.
    pub flags: IrqFlags,
    /// Management page.
    pub eoi_page: HostReal,
    /// Trigger page, address 0 for none.
    pub trigger_page: HostReal,
    /// Log2 of the bytes that one source takes of the MMIO space: 16 is one page, 17 a pair.
    pub esb_shift: u32,
    /// Where the source is.
    pub chip: ChipId,
}

/// Where the events of a source go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IrqConfig {
    /// To this virtual processor.
    pub vp: VpId,
    /// At this priority; `None` nowhere.
    pub priority: Option<Priority>,
    /// With these data.
    pub eisn: Eisn,
}

/// What `OPAL_XIVE_GET_VP_INFO` answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VpInfo {
    /// Properties.
    pub flags: VpFlags,
    /// What a push stores, without the valid bit; fits in 32 bits.
    pub cam: u64,
    /// The reporting line pair, address 0 for none.
    pub report_cl: HostReal,
    /// Where the VP is.
    pub chip: ChipId,
}

/// What `OPAL_XIVE_GET_QUEUE_INFO` answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueInfo {
    /// The memory.
    pub page: HostReal,
    /// Log2 of its bytes: 12, 16, 21 or 24, 0 for none.
    pub size_log2: u32,
    /// The page of the queue's own P and Q.
    pub eoi_page: HostReal,
    /// The interrupt that it escalates to.
    pub escalation: Girq,
    /// Properties.
    pub flags: QueueFlags,
}

/// Where the router writes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueState {
    /// The generation bit of the next entry.
    pub toggle: u32,
    /// Its index.
    pub index: u32,
}
