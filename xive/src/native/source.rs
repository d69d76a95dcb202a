// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A source of a partition in exploitation mode, on a source of the machine.
//!
//! P and Q are the machine's, and the guest works on them through the pages. What is kept here is
//! what the guest set (LoPAR's EA): target, priority, EISN, mask. A level-sensitive source of a
//! virtual device has no level in the machine; it belongs to the hypervisor, and its pages are never
//! shown: the guest goes through H_INT_ESB, so that each change of P and Q is followed by a look at
//! the level.

use penstock_arch::addr::HostReal;
use penstock_arch::wait::{Mutex, MutexGuard};

use crate::error::SetupError;
use crate::esb::{EsbPair, Pq, offset};
use crate::fw::{FirmwareError, XiveFirmware, XiveMmio};
use crate::ids::{ChipId, Eisn, Girq, Lisn, ServerNumber, VpId};
use crate::presenter::{allocate_source, release_source};
use crate::priority::Priority;
use crate::source::{Level, Trigger};
use crate::view::SourceView;

use super::window::EsbPage;

/// Where a source is aimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Aim {
    pub(super) server: ServerNumber,
    pub(super) priority: Priority,
}

/// What a guest has set of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SourceState {
    pub(super) aim: Option<Aim>,
    /// LoPAR's M flag: events pass P and Q, and are dropped then.
    pub(super) masked: bool,
    pub(super) eisn: Eisn,
    /// The level of a level-sensitive source.
    pub(super) asserted: bool,
}

/// One interrupt source of a partition.
#[derive(Debug)]
pub struct NativeSource {
    lisn: Lisn,
    girq: Girq,
    /// Any valid VP of the partition: what firmware is told when the source goes nowhere.
    vp: VpId,
    esb: EsbPair,
    trigger: Trigger,
    state: Mutex<SourceState>,
}

impl NativeSource {
    /// Allocates a source. It is off: P and Q are 01, as LoPAR has them at the start.
    ///
    /// `vp` is any virtual processor of the partition.
    ///
    /// # Errors
    /// [`SetupError::UnsuitableSource`], or the status of a call.
    pub fn set_up<F: XiveFirmware, M: XiveMmio>(
        fw: &F,
        mmio: &M,
        lisn: Lisn,
        trigger: Trigger,
        vp: VpId,
        chip: Option<ChipId>,
    ) -> Result<Self, SetupError> {
        let (girq, esb) = allocate_source(fw, chip)?;
        let _ = esb.set(mmio, Pq::Off);
        let state = SourceState {
            aim: None,
            masked: false,
            eisn: Eisn::new(lisn.get()),
            asserted: false,
        };
        Ok(Self {
            lisn,
            girq,
            vp,
            esb,
            trigger,
            state: Mutex::new(state),
        })
    }

    /// Gives the source back. No page of it may be mapped any more.
    ///
    /// # Errors
    /// The status of the first call that failed; the others are made all the same.
    pub fn tear_down<F: XiveFirmware, M: XiveMmio>(
        self,
        fw: &F,
        mmio: &M,
    ) -> Result<(), FirmwareError> {
        let _ = self.esb.set(mmio, Pq::Off);
        release_source(fw, self.girq, self.vp)
    }

    /// The guest's number.
    #[must_use]
    pub const fn lisn(&self) -> Lisn {
        self.lisn
    }

    /// The machine's number.
    #[must_use]
    pub const fn girq(&self) -> Girq {
        self.girq
    }

    /// What raises it.
    #[must_use]
    pub const fn trigger(&self) -> Trigger {
        self.trigger
    }

    /// P and Q.
    #[must_use]
    pub fn pq<M: XiveMmio>(&self, mmio: &M) -> Pq {
        self.esb.get(mmio)
    }

    /// Where its events go, as the guest set it: virtual processor, priority, and whether the mask
    /// of H_INT_SET_SOURCE_CONFIG drops them.
    #[must_use]
    pub fn target(&self) -> Option<(ServerNumber, Priority, bool)> {
        let state = self.state.lock();
        state
            .aim
            .map(|aim| (aim.server, aim.priority, state.masked))
    }

    /// What somebody sees who looks.
    pub fn view<M: XiveMmio>(&self, mmio: &M) -> SourceView {
        let state = self.state.lock();
        SourceView {
            lisn: self.lisn,
            girq: self.girq,
            trigger: self.trigger,
            pq: self.esb.get(mmio),
            target: state.aim.map(|aim| (aim.server, aim.priority.get())),
            eisn: state.eisn,
            masked: state.masked,
            pages: [self.esb.trigger_page(), self.esb.management_page()],
        }
    }

    pub(super) const fn vp(&self) -> VpId {
        self.vp
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, SourceState> {
        self.state.lock()
    }

    /// A page that the guest may have; `None` where it has to go through H_INT_ESB.
    pub(super) const fn page(&self, page: EsbPage) -> Option<HostReal> {
        match (self.trigger, page) {
            (Trigger::Level, _) => None,
            (Trigger::Edge, EsbPage::Trigger) => Some(self.esb.trigger_page()),
            (Trigger::Edge, EsbPage::Management) => Some(self.esb.management_page()),
        }
    }

    /// A load of 8 bytes from the management page, `at` bytes into it, by H_INT_ESB.
    pub(super) fn load<M: XiveMmio>(&self, mmio: &M, state: &SourceState, at: u64) -> u64 {
        let value = mmio.load64(self.esb.management_page(), at);
        // A load that looks changes nothing.
        if !(offset::GET..offset::SET_PQ_00).contains(&at) {
            self.follow_level(mmio, state);
        }
        value
    }

    /// An event by H_INT_ESB.
    pub(super) fn store_trigger<M: XiveMmio>(&self, mmio: &M) {
        // What the guest did before is seen before the interrupt.
        mmio.sync();
        self.esb.trigger(mmio);
    }

    /// Turns the source off.
    pub(super) fn off<M: XiveMmio>(&self, mmio: &M) {
        let _ = self.esb.set(mmio, Pq::Off);
    }

    /// A level-sensitive source that is asserted raises an event whenever it has none outstanding.
    fn follow_level<M: XiveMmio>(&self, mmio: &M, state: &SourceState) {
        if state.asserted && self.esb.get(mmio) == Pq::Reset {
            // Another page, so nothing else keeps the load before the store.
            mmio.order_io();
            self.esb.trigger(mmio);
        }
    }

    /// The device raises an event. Nothing happens if the source is level-sensitive.
    #[inline]
    pub fn raise<M: XiveMmio>(&self, mmio: &M) {
        if self.trigger == Trigger::Edge {
            // What the device did is in memory before the guest hears of it.
            mmio.sync();
            self.esb.trigger(mmio);
        }
    }

    /// Raises an event as [`Self::raise`] does, if it comes into a queue of the guest's. `false`: the
    /// source is off, aimed at nobody or masked, so that the event would be lost, or is. The guest may
    /// change that by a store of which nobody hears.
    #[must_use]
    pub fn raise_if_heard<M: XiveMmio>(&self, mmio: &M) -> bool {
        // Nobody aims it elsewhere meanwhile.
        let state = self.state.lock();
        if self.trigger != Trigger::Edge || state.aim.is_none() || state.masked {
            return false;
        }
        self.raise(mmio);
        // Another page, so nothing else keeps the store before the load.
        mmio.sync();
        self.esb.get(mmio) != Pq::Off
    }

    /// The device sets its level. Nothing happens if the source is edge-sensitive.
    pub fn set_level<M: XiveMmio>(&self, mmio: &M, level: Level) {
        if self.trigger == Trigger::Level {
            let mut state = self.state.lock();
            state.asserted = level == Level::Asserted;
            mmio.sync();
            self.follow_level(mmio, &state);
        }
    }
}
