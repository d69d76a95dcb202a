// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The event state buffer: two bits per source, P and Q, behind MMIO pages.
//!
//! P: an event was forwarded and its end has not been signalled. Q: another event came since. A
//! store to the trigger page is an event; loads from the management page end it or change the bits
//! directly, the function is in the offset. Both pages accept 8-byte accesses only (powernv9's
//! window answers others with a machine check). A source may have one page for both roles.
//!
//! Sources that need an OPAL call for each interrupt, or have their offsets shifted, exist on
//! POWER9 before DD2 only and are refused. Store EOI is not used: a load is ordered with what
//! follows it without a barrier, and works everywhere.

use penstock_arch::addr::HostReal;

use crate::error::SetupError;
use crate::fw::{IrqFlags, IrqInfo, XiveMmio};
use crate::ids::Girq;

/// Offsets in the management page, all for 8-byte loads but the trigger.
pub mod offset {
    /// Store: an event.
    pub const TRIGGER: u64 = 0x000;
    /// Load: end of interrupt; P goes, or stays and the event is forwarded again if Q was set.
    pub const EOI: u64 = 0x000;
    /// Load: the bits, unchanged.
    pub const GET: u64 = 0x800;
    /// Load: the old bits, then PQ = 00; add `pq << 8` for another value.
    pub const SET_PQ_00: u64 = 0xc00;
}

/// The state of a source, P in bit 1 and Q in bit 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pq {
    /// 00: nothing outstanding, the next event is forwarded.
    Reset = 0,
    /// 01: off, events are dropped.
    Off = 1,
    /// 10: one event forwarded and not ended.
    Pending = 2,
    /// 11: the same, and another came since.
    Queued = 3,
}

impl Pq {
    /// The state in the low two bits of what the management page answered.
    #[inline]
    #[must_use]
    pub const fn from_bits(value: u64) -> Self {
        match value & 3 {
            0 => Self::Reset,
            1 => Self::Off,
            2 => Self::Pending,
            _ => Self::Queued,
        }
    }

    /// Whether an event was forwarded and not ended.
    #[inline]
    #[must_use]
    pub const fn p(self) -> bool {
        matches!(self, Self::Pending | Self::Queued)
    }

    /// Whether the Q bit is set.
    #[inline]
    #[must_use]
    pub const fn q(self) -> bool {
        matches!(self, Self::Off | Self::Queued)
    }

    /// The state after an event, and whether it is forwarded.
    #[must_use]
    pub const fn after_trigger(self) -> (Self, bool) {
        match self {
            Self::Reset => (Self::Pending, true),
            Self::Off => (Self::Off, false),
            Self::Pending | Self::Queued => (Self::Queued, false),
        }
    }

    /// The state after an end of interrupt, and whether an event is forwarded by it.
    #[must_use]
    pub const fn after_eoi(self) -> (Self, bool) {
        match self {
            Self::Reset | Self::Pending => (Self::Reset, false),
            Self::Off => (Self::Off, false),
            Self::Queued => (Self::Pending, true),
        }
    }
}

/// The pages of one source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EsbPair {
    trigger: HostReal,
    management: HostReal,
}

impl EsbPair {
    /// The pages of a source that software can trigger.
    ///
    /// # Errors
    /// [`SetupError::UnsuitableSource`] where there is no trigger page or a POWER9 DD1 workaround
    /// would be needed.
    pub fn new(girq: Girq, info: &IrqInfo) -> Result<Self, SetupError> {
        let unsuitable = IrqFlags::SHIFT_BUG | IrqFlags::MASK_VIA_FW | IrqFlags::EOI_VIA_FW;
        if info.flags.intersects(unsuitable)
            || info.trigger_page.get() == 0
            || info.eoi_page.get() == 0
        {
            return Err(SetupError::UnsuitableSource(girq));
        }
        Ok(Self {
            trigger: info.trigger_page,
            management: info.eoi_page,
        })
    }

    /// The trigger page.
    #[must_use]
    pub const fn trigger_page(&self) -> HostReal {
        self.trigger
    }

    /// The management page.
    #[must_use]
    pub const fn management_page(&self) -> HostReal {
        self.management
    }

    /// Raises an event.
    #[inline]
    pub fn trigger<M: XiveMmio>(&self, mmio: &M) {
        mmio.store64(self.trigger, offset::TRIGGER, 0);
    }

    /// Reads the bits.
    #[inline]
    pub fn get<M: XiveMmio>(&self, mmio: &M) -> Pq {
        Pq::from_bits(mmio.load64(self.management, offset::GET))
    }

    /// Sets the bits and returns the old ones, at once.
    #[inline]
    pub fn set<M: XiveMmio>(&self, mmio: &M, pq: Pq) -> Pq {
        let at = offset::SET_PQ_00 + ((pq as u64) << 8);
        Pq::from_bits(mmio.load64(self.management, at))
    }

    /// Ends an event; one that came meanwhile is forwarded now.
    ///
    /// The bits are cleared and the second event raised anew, rather than left to the source's own
    /// end-of-interrupt function, which hardware may run late.
    #[inline]
    pub fn eoi<M: XiveMmio>(&self, mmio: &M) {
        if self.set(mmio, Pq::Reset).q() {
            self.trigger(mmio);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::ChipId;

    #[test]
    fn automaton_forwards_the_first_event_and_remembers_one_more() {
        assert_eq!(Pq::Reset.after_trigger(), (Pq::Pending, true));
        assert_eq!(Pq::Pending.after_trigger(), (Pq::Queued, false));
        assert_eq!(Pq::Queued.after_trigger(), (Pq::Queued, false));
        assert_eq!(Pq::Off.after_trigger(), (Pq::Off, false));
        assert_eq!(Pq::Queued.after_eoi(), (Pq::Pending, true));
        assert_eq!(Pq::Pending.after_eoi(), (Pq::Reset, false));
        assert_eq!(Pq::Off.after_eoi(), (Pq::Off, false));
    }

    #[test]
    fn bits_are_p_then_q() {
        assert_eq!(Pq::from_bits(0b10), Pq::Pending);
        assert!(Pq::Pending.p() && !Pq::Pending.q());
        assert!(!Pq::Off.p() && Pq::Off.q());
        assert_eq!(Pq::from_bits(0xffff_ffff_ffff_fffd), Pq::Off);
    }

    #[test]
    fn sources_without_trigger_page_or_with_dd1_bugs_are_refused() {
        let good = IrqInfo {
            flags: IrqFlags::TRIGGER_PAGE,
            eoi_page: HostReal::new(0x6_0100_0025_0000),
            trigger_page: HostReal::new(0x6_0100_0024_0000),
            esb_shift: 17,
            chip: ChipId::new(0),
        };
        let girq = Girq::new(0x12);
        assert!(EsbPair::new(girq, &good).is_ok());
        let lsi = IrqInfo {
            trigger_page: HostReal::new(0),
            ..good
        };
        assert_eq!(
            EsbPair::new(girq, &lsi),
            Err(SetupError::UnsuitableSource(girq))
        );
        let dd1 = IrqInfo {
            flags: IrqFlags::SHIFT_BUG,
            ..good
        };
        assert_eq!(
            EsbPair::new(girq, &dd1),
            Err(SetupError::UnsuitableSource(girq))
        );
    }
}
