// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Dispatches, as the trace log records them.
//!
//! LoPAR, Dispatch Trace Log Buffer.

/// Why a vCPU was dispatched, as the trace log numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum DispatchReason {
    /// For an external interrupt.
    External = 0,
    /// For an event of the firmware.
    Firmware = 1,
    /// After H_PROD by another vCPU.
    Prod = 2,
    /// For a decrementer interrupt.
    Decrementer = 3,
    /// At its start or for a system reset.
    SystemReset = 4,
    /// With cycles that another vCPU conferred.
    Conferred = 6,
    /// For its time slice.
    TimeSlice = 7,
    /// After a fault of the partition's memory was resolved.
    MemoryFault = 8,
    /// For a privileged doorbell.
    Doorbell = 10,
}

/// Why a vCPU had left its thread, as the trace log numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum PreemptReason {
    /// An event of the firmware.
    Firmware = 1,
    /// H_CEDE.
    Cede = 2,
    /// H_CONFER.
    Confer = 3,
    /// The end of its time slice.
    TimeSlice = 4,
    /// A fault of the partition's memory.
    MemoryFault = 6,
}

impl PreemptReason {
    /// The bit of the trace mask that asks for entries of this kind; firmware events have none.
    pub(super) const fn mask_bit(self) -> u8 {
        match self {
            Self::Cede | Self::Confer => 1 << 0,
            Self::TimeSlice => 1 << 1,
            Self::MemoryFault => 1 << 2,
            Self::Firmware => 0,
        }
    }
}

/// One dispatch of a vCPU: an entry of the dispatch trace log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DispatchRecord {
    /// Why it was dispatched.
    pub reason: DispatchReason,
    /// Why it had left its thread.
    pub preempted: PreemptReason,
    /// The thread that it runs on now.
    pub processor: u16,
    /// Timebase ticks from being queued to the dispatch.
    pub enqueue_to_dispatch: u32,
    /// Timebase ticks from being ready to being queued.
    pub ready_to_enqueue: u32,
    /// Timebase ticks from waiting to being ready.
    pub waiting_to_ready: u32,
    /// Timebase at the dispatch.
    pub timebase: u64,
    /// Guest real address of the fault that it waited for, else 0.
    pub fault_address: u64,
    /// Instruction address when it left its thread.
    pub srr0: u64,
    /// MSR when it left its thread.
    pub srr1: u64,
}

/// Size of an entry of the dispatch trace log.
pub const DTL_ENTRY_BYTES: usize = 48;

impl DispatchRecord {
    /// The entry as it lies in the log.
    #[must_use]
    pub fn entry(&self) -> [u8; DTL_ENTRY_BYTES] {
        let mut entry = [0; DTL_ENTRY_BYTES];
        entry[0] = self.reason as u8;
        entry[1] = self.preempted as u8;
        entry[0x02..0x04].copy_from_slice(&self.processor.to_be_bytes());
        entry[0x04..0x08].copy_from_slice(&self.enqueue_to_dispatch.to_be_bytes());
        entry[0x08..0x0c].copy_from_slice(&self.ready_to_enqueue.to_be_bytes());
        entry[0x0c..0x10].copy_from_slice(&self.waiting_to_ready.to_be_bytes());
        entry[0x10..0x18].copy_from_slice(&self.timebase.to_be_bytes());
        entry[0x18..0x20].copy_from_slice(&self.fault_address.to_be_bytes());
        entry[0x20..0x28].copy_from_slice(&self.srr0.to_be_bytes());
        entry[0x28..0x30].copy_from_slice(&self.srr1.to_be_bytes());
        entry
    }
}
