// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Interrupt sources and queues as somebody sees them who only looks: P and Q are read without side
//! effect, no firmware call is made, and nothing changes.

use penstock_arch::addr::{GuestReal, HostReal};

use crate::esb::Pq;
use crate::ids::{Eisn, Girq, Lisn, ServerNumber, VpId};
use crate::source::Trigger;

/// An interrupt source of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceView {
    /// The guest's number.
    pub lisn: Lisn,
    /// The machine's number.
    pub girq: Girq,
    /// What raises it.
    pub trigger: Trigger,
    /// P and Q.
    pub pq: Pq,
    /// The virtual processor that the guest has aimed it at, and the priority.
    pub target: Option<(ServerNumber, u8)>,
    /// What an entry of the event queue carries.
    pub eisn: Eisn,
    /// The guest's mask: `ibm,int-off`, or M of H_INT_SET_SOURCE_CONFIG.
    pub masked: bool,
    /// Trigger and management page of the machine.
    pub pages: [HostReal; 2],
}

/// The interrupt context of a virtual processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContextView {
    /// The guest's number of the virtual processor.
    pub server: ServerNumber,
    /// The machine's.
    pub vp: VpId,
    /// Whether it is on a thread.
    pub is_pushed: bool,
    /// The source that is its own: in XICS mode the one behind the IPI, in exploitation mode its
    /// escalation.
    pub girq: Girq,
    /// P and Q of that.
    pub pq: Pq,
}

/// An event queue in a guest's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueView {
    /// The virtual processor.
    pub server: ServerNumber,
    /// The priority.
    pub priority: u8,
    /// Where it is.
    pub base: GuestReal,
    /// log2 of its bytes.
    pub size_log2: u32,
}
