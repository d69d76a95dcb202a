// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The escalation of a virtual processor that waits for an interrupt and is on no thread.
//!
//! An event for a virtual processor that is pushed nowhere goes to its escalation: a P bit and a Q
//! bit of the queue itself, and behind them a notification of the hypervisor. Firmware's single
//! escalation has one such pair for all priorities.
//!
//! The hypervisor's queue for these notifications has no memory. A notification says only that some
//! virtual processor is wanted; which one, their P bits say. So an escalation can never be in a queue
//! twice, or be in one when its virtual processor is gone, and its interrupt needs no end.
//!
//! What holds:
//! - P and Q are 01 (off) unless the virtual processor waits ([`Escalation::arm`]);
//! - it is armed while the context is still pushed, when nothing can escalate yet: what comes before
//!   the pull is in the ring that the pull gives, what comes after it sets P;
//! - whoever makes a virtual processor wait publishes that before it looks at P for the last time;
//!   whoever is notified looks at who waits after the notification: one of the two sees the other
//!   (`Waiting` in [`super::rest`]).
//!
//! Sources: OPAL API, `OPAL_XIVE_SET_VP_INFO`, `OPAL_XIVE_GET_QUEUE_INFO`.

use penstock_arch::addr::HostReal;

use crate::esb::{Pq, offset};
use crate::fw::{IrqFlags, IrqInfo, XiveMmio};
use crate::ids::{Eisn, Girq, VpId};
use crate::priority::Priority;

/// Who is told that a virtual processor is wanted: a host thread's own context, whose queue of this
/// priority notifies always and has no memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EscalationTarget {
    /// The thread's virtual processor: its PIR.
    pub vp: VpId,
    /// The priority.
    pub priority: Priority,
    /// What an entry would say, had the queue memory.
    pub eisn: Eisn,
}

/// The escalation of one virtual processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Escalation {
    girq: Girq,
    management: HostReal,
}

impl Escalation {
    /// The escalation with this number and these pages; `None` where it would need an OPAL call for
    /// each interrupt, or has no page.
    #[must_use]
    pub fn new(girq: Girq, info: &IrqInfo) -> Option<Self> {
        let unsuitable = IrqFlags::SHIFT_BUG | IrqFlags::MASK_VIA_FW | IrqFlags::EOI_VIA_FW;
        if info.flags.intersects(unsuitable) || info.eoi_page.get() == 0 {
            return None;
        }
        Some(Self {
            girq,
            management: info.eoi_page,
        })
    }

    /// The machine's number of the interrupt.
    #[must_use]
    pub const fn girq(&self) -> Girq {
        self.girq
    }

    /// From now on an event sets P, if the context is pushed nowhere.
    #[inline]
    pub fn arm<M: XiveMmio>(&self, mmio: &M) {
        let _ = self.set(mmio, Pq::Reset);
        // Nothing may be pulled before the bits are in place.
        mmio.sync();
    }

    /// From now on nothing escalates. Whether something has since it was armed.
    #[inline]
    pub fn disarm<M: XiveMmio>(&self, mmio: &M) -> bool {
        self.set(mmio, Pq::Off).p()
    }

    /// Whether something has escalated since it was armed.
    #[inline]
    #[must_use]
    pub fn has_fired<M: XiveMmio>(&self, mmio: &M) -> bool {
        self.pq(mmio).p()
    }

    /// P and Q.
    #[inline]
    #[must_use]
    pub fn pq<M: XiveMmio>(&self, mmio: &M) -> Pq {
        Pq::from_bits(mmio.load64(self.management, offset::GET))
    }

    fn set<M: XiveMmio>(&self, mmio: &M, pq: Pq) -> Pq {
        let at = offset::SET_PQ_00 + ((pq as u64) << 8);
        Pq::from_bits(mmio.load64(self.management, at))
    }
}

/// The notification page of a queue, from what firmware says of its escalation before there is a
/// single one: the two are a pair of pages, and the escalation's is the second.
///
/// `OPAL_XIVE_GET_QUEUE_INFO` has a field for it, but skiboot leaves the size of a pair out of its
/// account there (`opal_xive_get_queue_info`).
#[must_use]
pub(super) fn notification_page(info: &IrqInfo) -> Option<HostReal> {
    const PAGE: u64 = 1 << 16;
    let escalation = info.eoi_page.get();
    if info.esb_shift != 17 || escalation & (2 * PAGE - 1) != PAGE {
        return None;
    }
    Some(HostReal::new(escalation - PAGE))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::ChipId;

    const MEASURED: IrqInfo = IrqInfo {
        flags: IrqFlags::empty(),
        eoi_page: HostReal::new(0x6_0160_003f_0000),
        trigger_page: HostReal::new(0),
        esb_shift: 17,
        chip: ChipId::new(0),
    };

    #[test]
    fn the_notification_page_is_before_the_escalations() {
        assert_eq!(
            notification_page(&MEASURED),
            Some(HostReal::new(0x6_0160_003e_0000))
        );
        let even = IrqInfo {
            eoi_page: HostReal::new(0x6_0160_003e_0000),
            ..MEASURED
        };
        assert_eq!(notification_page(&even), None);
        let single = IrqInfo {
            esb_shift: 16,
            ..MEASURED
        };
        assert_eq!(notification_page(&single), None);
    }

    #[test]
    fn escalations_that_need_firmware_are_refused() {
        let girq = Girq::new(0x100_001f);
        assert!(Escalation::new(girq, &MEASURED).is_some());
        for flags in [
            IrqFlags::SHIFT_BUG,
            IrqFlags::MASK_VIA_FW,
            IrqFlags::EOI_VIA_FW,
        ] {
            assert!(Escalation::new(girq, &IrqInfo { flags, ..MEASURED }).is_none());
        }
        let nowhere = IrqInfo {
            eoi_page: HostReal::new(0),
            ..MEASURED
        };
        assert!(Escalation::new(girq, &nowhere).is_none());
    }
}
