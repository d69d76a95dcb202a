// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A partition's interrupt sources, as XICS guests see them, each on a XIVE source.
//!
//! A source belongs to a device of the partition, virtual ones included: what raises it is a store
//! to its trigger page, the hardware does the rest. XICS has one more state than P and Q, the mask
//! that keeps an event for later; a masked source therefore stands at P = 1, where the hardware
//! forwards nothing and remembers in Q that something came.
//!
//! What holds under a source's lock, with *live entry* for the queue entry of an event that was
//! forwarded and that no H_XIRR has taken:
//! - P is set while there is a live entry, while the guest is between H_XIRR and H_EOI
//!   (`in_service`), and while the source is masked; never otherwise;
//! - there is at most one live entry, in the queue that the source is aimed at;
//! - moving a source that has a live entry makes that one *stale*: it stays where it is, counted in
//!   `stale`, and the event is raised anew at the new place. At most [`MAX_STALE`] of them are
//!   allowed, so a queue never holds more entries than it has room for, whatever a guest does;
//! - since entries of one source look alike, a stale one may be taken for the live one when both
//!   are in one queue. Then the other one is dropped as the stale one: their number decides.
//!
//! Sources: LoPAR, Interrupt Controller; LoPAR, `ibm,set-xive` to `ibm,int-on`.

mod rtas;

#[cfg(test)]
mod tests;

use penstock_arch::addr::HostReal;
use penstock_arch::wait::Mutex;

use crate::error::SetupError;
use crate::esb::{EsbPair, Pq};
use crate::fw::{FirmwareError, IrqConfig, SyncKind, XiveFirmware, XiveMmio, settled};
use crate::ids::{ChipId, Eisn, Girq, Lisn, ServerNumber, VpId};
use crate::presenter::{allocate_source, release_source};
use crate::priority::{Priority, XicsPriority};
use crate::queue::QUEUE_ENTRIES;
use crate::view::SourceView;

pub use rtas::Xive;

/// Stale entries that one source may have.
pub const MAX_STALE: u8 = 3;

/// Sources of one partition: so many that all their entries and the IPI's fit in one queue.
pub const MAX_SOURCES: usize = 255;

const _: () = assert!(MAX_SOURCES * (MAX_STALE as usize + 1) < QUEUE_ENTRIES as usize);

/// The first number that XICS leaves to sources: 0 is none, 1 reserved, 2 the IPI.
const FIRST_LISN: u32 = 3;
/// The last one.
const LAST_LISN: u32 = 0x00ff_ffff;

/// What raises a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// Each event is an interrupt (MSI; LoPAR sense 0).
    Edge,
    /// Interrupts come as long as the level is asserted (LSI; LoPAR sense 1).
    Level,
}

/// The level of a level-sensitive source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// The device wants attention.
    Asserted,
    /// It does not.
    Deasserted,
}

/// Where the hardware sends the events of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Aim {
    server: ServerNumber,
    priority: Priority,
}

/// What an entry taken from a queue turns out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Entry {
    /// The event that it announces is to be presented.
    Live,
    /// It announces an event of a masked source.
    Masked,
    /// The event has gone elsewhere.
    Stale,
}

#[derive(Debug)]
struct State {
    /// The server that the guest chose.
    server: ServerNumber,
    /// The priority now; 0xff is masked.
    priority: XicsPriority,
    /// The priority that ibm,int-on brings back.
    unmasked_priority: XicsPriority,
    aim: Option<Aim>,
    /// Between H_XIRR and H_EOI.
    in_service: bool,
    /// Masked, and there is a live entry.
    queued: bool,
    /// Masked, and an event waits that has neither entry nor Q bit.
    latched: bool,
    /// The level of a level-sensitive source.
    asserted: bool,
    stale: u8,
}

impl State {
    const fn is_masked(&self) -> bool {
        self.priority.0 == XicsPriority::LEAST_FAVOURED.0
    }

    fn is_aimed_at(&self, server: ServerNumber, level: u32) -> bool {
        self.aim
            .is_some_and(|aim| aim.server == server && u32::from(aim.priority.get()) == level)
    }
}

/// One interrupt source of a partition.
#[derive(Debug)]
pub struct Source {
    lisn: Lisn,
    girq: Girq,
    /// Any valid VP of the partition: what firmware is told when the source goes nowhere.
    vp: VpId,
    esb: EsbPair,
    trigger: Trigger,
    state: Mutex<State>,
}

impl Source {
    /// Allocates a source for a virtual device. It is masked and remembers events.
    ///
    /// `vp` is any virtual processor of the partition.
    ///
    /// # Errors
    /// [`SetupError::ReservedNumber`], [`SetupError::UnsuitableSource`], or the status of a call.
    pub fn set_up<F: XiveFirmware, M: XiveMmio>(
        fw: &F,
        mmio: &M,
        lisn: Lisn,
        trigger: Trigger,
        vp: VpId,
        chip: Option<ChipId>,
    ) -> Result<Self, SetupError> {
        if !(FIRST_LISN..=LAST_LISN).contains(&lisn.get()) {
            return Err(SetupError::ReservedNumber);
        }
        let (girq, esb) = allocate_source(fw, chip)?;
        let _ = esb.set(mmio, Pq::Pending);
        let state = State {
            server: ServerNumber::new(0),
            priority: XicsPriority::LEAST_FAVOURED,
            unmasked_priority: XicsPriority::LEAST_FAVOURED,
            aim: None,
            in_service: false,
            queued: false,
            latched: false,
            asserted: false,
            stale: 0,
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

    /// Gives the source back. Its entries must have been drained, or their queues be gone.
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

    /// The trigger page.
    #[must_use]
    pub const fn trigger_page(&self) -> HostReal {
        self.esb.trigger_page()
    }

    /// What somebody sees who looks. A masked source shows the priority that it comes back with.
    pub fn view<M: XiveMmio>(&self, mmio: &M) -> SourceView {
        let state = self.state.lock();
        let masked = state.is_masked();
        let priority = if masked {
            state.unmasked_priority
        } else {
            state.priority
        };
        SourceView {
            lisn: self.lisn,
            girq: self.girq,
            trigger: self.trigger,
            pq: self.esb.get(mmio),
            target: Some((state.server, priority.0)),
            eisn: Eisn::new(self.lisn.get()),
            masked,
            pages: [self.esb.trigger_page(), self.esb.management_page()],
        }
    }

    /// An entry of this source was taken from a queue: its priority if it is to be presented.
    pub(crate) fn accept<M: XiveMmio>(
        &self,
        mmio: &M,
        server: ServerNumber,
        level: u32,
    ) -> Option<XicsPriority> {
        let mut state = self.state.lock();
        match self.classify(&state, mmio, server, level) {
            Entry::Stale => {
                state.stale = state.stale.saturating_sub(1);
                None
            }
            Entry::Masked => {
                state.queued = false;
                state.latched = true;
                None
            }
            Entry::Live if self.trigger == Trigger::Level && !state.asserted => {
                let _ = self.esb.set(mmio, Pq::Reset);
                None
            }
            Entry::Live => {
                state.in_service = true;
                Some(state.priority)
            }
        }
    }

    /// Whether an entry of this source in this queue would be presented, had it been taken.
    pub(crate) fn is_live<M: XiveMmio>(&self, mmio: &M, server: ServerNumber, level: u32) -> bool {
        let state = self.state.lock();
        self.classify(&state, mmio, server, level) == Entry::Live
            && (self.trigger == Trigger::Edge || state.asserted)
    }

    fn classify<M: XiveMmio>(
        &self,
        state: &State,
        mmio: &M,
        server: ServerNumber,
        level: u32,
    ) -> Entry {
        if state.in_service || !state.is_aimed_at(server, level) {
            Entry::Stale
        } else if state.is_masked() {
            if state.queued {
                Entry::Masked
            } else {
                Entry::Stale
            }
        } else if state.stale != 0 && !self.esb.get(mmio).p() {
            Entry::Stale
        } else {
            Entry::Live
        }
    }

    /// The guest ends an interrupt. One that it did not have in service is left alone: to clear P
    /// then would let the hardware queue a second entry.
    pub(crate) fn end<M: XiveMmio>(&self, mmio: &M) {
        let mut state = self.state.lock();
        if !state.in_service {
            return;
        }
        state.in_service = false;
        if state.is_masked() {
            // An event since then is in Q, for the time when the mask goes.
            return;
        }
        match self.trigger {
            Trigger::Edge => self.esb.eoi(mmio),
            Trigger::Level => {
                let _ = self.esb.set(mmio, Pq::Reset);
                if state.asserted {
                    // Another page, so nothing else keeps the load before the store.
                    mmio.order_io();
                    self.esb.trigger(mmio);
                }
            }
        }
    }

    /// Stops forwarding; what comes from now on is remembered.
    fn mask<M: XiveMmio>(&self, mmio: &M, state: &mut State) {
        if state.is_masked() {
            return;
        }
        let old = self.esb.set(mmio, Pq::Pending);
        if old.q() {
            let _ = self.esb.set(mmio, Pq::Queued);
        }
        state.queued = old.p() && !state.in_service;
        state.latched = false;
        state.priority = XicsPriority::LEAST_FAVOURED;
    }

    /// Forwards again, to this server at this priority, beginning with what was remembered.
    ///
    /// On an error the source stays masked and forgets nothing.
    fn unmask<M: XiveMmio, F: XiveFirmware>(
        &self,
        mmio: &M,
        fw: &F,
        state: &mut State,
        aim: (Aim, VpId),
        priority: XicsPriority,
    ) -> Result<(), FirmwareError> {
        let (aim, vp) = aim;
        if state.aim != Some(aim) {
            if state.queued && state.stale >= MAX_STALE {
                return Err(FirmwareError::RESOURCE);
            }
            let eisn = Eisn::new(self.lisn.get());
            let config = IrqConfig {
                vp,
                priority: Some(aim.priority),
                eisn,
            };
            settled(fw, || fw.set_irq_config(self.girq, config))?;
            state.aim = Some(aim);
            if state.queued {
                state.queued = false;
                state.latched = true;
                state.stale += 1;
            }
        }
        let latched = core::mem::take(&mut state.latched);
        state.priority = priority;
        if state.in_service || core::mem::take(&mut state.queued) {
            // P stays; the coming H_EOI forwards what Q remembers.
            return Ok(());
        }
        let q = self.esb.set(mmio, Pq::Reset).q();
        let events = match self.trigger {
            Trigger::Edge => u8::from(latched) + u8::from(q),
            Trigger::Level => u8::from(state.asserted),
        };
        // Another page, so nothing else keeps the load before the stores.
        mmio.order_io();
        // The first is forwarded, the second becomes Q.
        for _ in 0..events {
            self.esb.trigger(mmio);
        }
        Ok(())
    }
}

/// The sources of a partition, by the guest's numbers.
#[derive(Clone, Copy, Debug)]
pub struct Sources<'a> {
    first: Lisn,
    slots: &'a [Source],
}

impl<'a> Sources<'a> {
    /// No source at all.
    pub const NONE: Sources<'static> = Sources {
        first: Lisn::new(FIRST_LISN),
        slots: &[],
    };

    /// Consecutive numbers from `first` on. Only the first [`MAX_SOURCES`] exist for the guest.
    #[must_use]
    pub fn new(first: Lisn, slots: &'a [Source]) -> Self {
        Self {
            first,
            slots: slots.get(..MAX_SOURCES).unwrap_or(slots),
        }
    }

    /// The source with this number.
    #[inline]
    #[must_use]
    pub fn get(&self, lisn: Lisn) -> Option<&'a Source> {
        let index = lisn.get().checked_sub(self.first.get())?;
        self.slots.get(usize::try_from(index).ok()?)
    }

    /// Raises an edge-sensitive source. Nothing happens where there is no such source.
    #[inline]
    pub fn trigger<M: XiveMmio>(&self, mmio: &M, lisn: Lisn) {
        if let Some(source) = self.get(lisn)
            && source.trigger == Trigger::Edge
        {
            // What the device did is in memory before the guest hears of it.
            mmio.sync();
            source.esb.trigger(mmio);
        }
    }

    /// Sets the level of a level-sensitive source. Nothing happens where there is no such source.
    pub fn set_level<M: XiveMmio>(&self, mmio: &M, lisn: Lisn, level: Level) {
        let Some(source) = self.get(lisn) else { return };
        if source.trigger != Trigger::Level {
            return;
        }
        let mut state = source.state.lock();
        state.asserted = level == Level::Asserted;
        if state.asserted {
            mmio.sync();
            source.esb.trigger(mmio);
        }
    }

    /// Puts all sources back to the state after set-up, as a partition finds them when it starts:
    /// masked, nothing remembered, levels as the devices have them.
    ///
    /// The vCPUs do not run; their presenters are reset afterwards, which drops the entries.
    ///
    /// # Errors
    /// The status of the first call that failed.
    pub fn reset<M: XiveMmio, F: XiveFirmware>(
        &self,
        mmio: &M,
        fw: &F,
    ) -> Result<(), FirmwareError> {
        let mut result = Ok(());
        for source in self.slots {
            let mut state = source.state.lock();
            let _ = source.esb.set(mmio, Pq::Pending);
            let synced = settled(fw, || fw.sync(SyncKind::Eas, source.girq.get()));
            result = result.and(synced);
            *state = State {
                server: ServerNumber::new(0),
                priority: XicsPriority::LEAST_FAVOURED,
                unmasked_priority: XicsPriority::LEAST_FAVOURED,
                in_service: false,
                queued: false,
                latched: false,
                stale: 0,
                aim: state.aim,
                asserted: state.asserted,
            };
        }
        result
    }
}
