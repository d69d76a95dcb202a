// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The XICS hcalls (LoPAR, H_EOI, H_CPPR, H_IPI, H_IPOLL, H_XIRR / H_XIRR-X).
//!
//! None of them calls firmware or waits. The vCPU that makes the call is pushed on the calling
//! thread. LoPAR's checks are kept: an unknown server, an XISR that is not the partition's or an
//! EOI with a CPPR more favoured than the current one is H_PARAMETER and changes nothing.

use core::sync::atomic::{Ordering, fence};

use crate::error::HcallError;
use crate::fw::XiveMmio;
use crate::ids::Lisn;
use crate::presenter::{Presenter, Servers};
use crate::priority::{Cppr, LEVELS, Priority, XicsPriority};
use crate::queue::{QUEUE_ENTRIES, QueueMemory};
use crate::source::Sources;
use crate::tima::Acknowledged;

/// The XISR of an inter-processor interrupt, and the EISN of the source that announces one.
pub const XISR_IPI: u32 = 2;

/// How many entries one H_XIRR looks at. Entries for interrupts that were moved or masked do not
/// count for the guest, but cost us time; past this many it is interrupted anew for the rest.
const FETCH_LIMIT: u32 = 64;

/// What H_XIRR returns: the CPPR before in the top byte, the XISR below; 0 is no interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct Xirr(u32);

impl Xirr {
    /// The register with this CPPR and interrupt.
    #[inline]
    #[must_use]
    pub const fn new(cppr: XicsPriority, xisr: u32) -> Self {
        Self((cppr.0 as u32) << 24 | xisr & 0x00ff_ffff)
    }

    /// The register's value.
    #[inline]
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The current processor priority.
    #[inline]
    #[must_use]
    pub const fn cppr(self) -> XicsPriority {
        XicsPriority(self.0.to_be_bytes()[0])
    }

    /// The interrupt: a [`Lisn`], [`XISR_IPI`], or 0.
    #[inline]
    #[must_use]
    pub const fn xisr(self) -> u32 {
        self.0 & 0x00ff_ffff
    }
}

/// What H_XIRR-X returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StampedXirr {
    /// As H_XIRR.
    pub xirr: Xirr,
    /// Timebase when the hypervisor first had to do with the interrupt: now, since the hardware
    /// gives it to the guest by itself.
    pub timestamp: u64,
}

/// What H_IPOLL returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Poll {
    /// The CPPR, and the interrupt that H_XIRR would return.
    pub xirr: Xirr,
    /// The MFRR.
    pub mfrr: u8,
}

/// The byte that an hcall means by a register.
#[inline]
const fn low_byte(register: u64) -> XicsPriority {
    XicsPriority(register.to_le_bytes()[0])
}

impl Presenter {
    /// H_CPPR: sets the current processor priority to the low byte of `cppr`.
    #[inline]
    pub fn h_cppr<M: XiveMmio>(&self, mmio: &M, cppr: u64) {
        let new = low_byte(cppr);
        let old = self.cppr.load(Ordering::Relaxed);
        self.cppr.store(new.0, Ordering::Relaxed);
        if new.0 > old {
            // Either we see the MFRR of another vCPU's H_IPI, or it sees this CPPR.
            fence(Ordering::SeqCst);
            let acknowledged = self.acknowledged.load(Ordering::Relaxed);
            if acknowledged != 0 || self.mfrr.load(Ordering::Relaxed) != 0xff {
                self.offer(mmio, new.cppr(), acknowledged);
            }
        }
        self.tima.set_os_cppr(mmio, new.cppr());
    }

    /// H_XIRR: accepts the most favoured interrupt; the CPPR becomes its priority.
    #[inline]
    pub fn h_xirr<H: XiveMmio + QueueMemory>(&self, hw: &H, sources: Sources<'_>) -> Xirr {
        let old = XicsPriority(self.cppr.load(Ordering::Relaxed));
        let taken = self.acknowledge(hw);
        if self.accept_ipi(hw, old, taken) {
            return Xirr::new(old, XISR_IPI);
        }
        self.accept_any(hw, sources, old, taken)
    }

    /// H_XIRR-X: as [`Presenter::h_xirr`], with a time stamp. Its argument, the guest's idea of its
    /// CPPR, has no meaning for us.
    #[inline]
    pub fn h_xirr_x<H: XiveMmio + QueueMemory>(
        &self,
        hw: &H,
        sources: Sources<'_>,
        timebase: u64,
    ) -> StampedXirr {
        StampedXirr {
            xirr: self.h_xirr(hw, sources),
            timestamp: timebase,
        }
    }

    /// H_EOI: ends the interrupt in the low bytes of `xirr` and sets the CPPR to the byte above.
    ///
    /// # Errors
    /// [`HcallError::Parameter`]: not an interrupt of the partition, or a CPPR more favoured than
    /// the current one.
    #[inline]
    pub fn h_eoi<H: XiveMmio + QueueMemory>(
        &self,
        hw: &H,
        sources: Sources<'_>,
        xirr: u64,
    ) -> Result<(), HcallError> {
        let [_, _, _, _, cppr, high, middle, low] = xirr.to_be_bytes();
        let new = XicsPriority(cppr);
        if new.0 < self.cppr.load(Ordering::Relaxed) {
            return Err(HcallError::Parameter);
        }
        let xisr = u32::from_be_bytes([0, high, middle, low]);
        if xisr != XISR_IPI {
            sources
                .get(Lisn::new(xisr))
                .ok_or(HcallError::Parameter)?
                .end(hw);
        }
        self.cppr.store(new.0, Ordering::Relaxed);
        // As in H_CPPR.
        fence(Ordering::SeqCst);
        let mut acknowledged = self.acknowledged.load(Ordering::Relaxed);
        if acknowledged != 0 {
            acknowledged = self.drop_empty(hw, acknowledged);
            self.acknowledged.store(acknowledged, Ordering::Relaxed);
        }
        self.offer(hw, new.cppr(), acknowledged);
        self.tima.set_os_cppr(hw, new.cppr());
        Ok(())
    }

    /// H_IPI: sets a vCPU's MFRR to the low byte of `mfrr`.
    ///
    /// # Errors
    /// [`HcallError::Parameter`]: no such vCPU.
    #[inline]
    pub fn h_ipi<M: XiveMmio, S: Servers + ?Sized>(
        &self,
        mmio: &M,
        servers: &S,
        server: u64,
        mfrr: u64,
    ) -> Result<(), HcallError> {
        let target = servers.presenter(server).ok_or(HcallError::Parameter)?;
        let mfrr = low_byte(mfrr);
        target.mfrr.store(mfrr.0, Ordering::Relaxed);
        if core::ptr::eq(self, target) {
            let cppr = XicsPriority(self.cppr.load(Ordering::Relaxed)).cppr();
            if let Some(level) = mfrr.priority()
                && level.get() < cppr.get()
            {
                self.tima.set_os_pending(mmio, level);
            }
        } else {
            // Either we see the CPPR of the target's H_CPPR, or it sees this MFRR; and the store
            // comes before the trigger.
            fence(Ordering::SeqCst);
            let cppr = XicsPriority(target.cppr.load(Ordering::Relaxed)).cppr();
            if mfrr.cppr() < cppr {
                target.ipi.trigger(mmio);
            }
        }
        Ok(())
    }

    /// H_IPOLL: what H_XIRR on that vCPU would return, and its MFRR, without side effect.
    ///
    /// # Errors
    /// [`HcallError::Parameter`]: no such vCPU.
    pub fn h_ipoll<H: XiveMmio + QueueMemory, S: Servers + ?Sized>(
        &self,
        hw: &H,
        servers: &S,
        sources: Sources<'_>,
        server: u64,
    ) -> Result<Poll, HcallError> {
        let target = servers.presenter(server).ok_or(HcallError::Parameter)?;
        let cppr = XicsPriority(target.cppr.load(Ordering::Relaxed));
        let mfrr = target.mfrr.load(Ordering::Relaxed);
        let xisr = target.look(hw, sources, cppr.cppr(), XicsPriority(mfrr));
        Ok(Poll {
            xirr: Xirr::new(cppr, xisr),
            mfrr,
        })
    }

    /// Takes what the ring has, before anything of it is looked at.
    #[inline]
    fn acknowledge<M: XiveMmio>(&self, mmio: &M) -> Acknowledged {
        // An earlier store of the CPPR comes before the acknowledge looks at it.
        mmio.order_io();
        let taken = self.tima.acknowledge_os(mmio);
        if taken.nsr.is_external() {
            // The acknowledge comes before the queues are read, and before the MFRR.
            mmio.sync();
        }
        taken
    }

    /// Accepts the IPI if it is what the ring has announced and nothing is more favoured: the usual
    /// case, in few instructions. Priority 0 is left to [`Presenter::accept_any`], see there.
    #[inline]
    fn accept_ipi<Q: QueueMemory>(
        &self,
        memory: &Q,
        old: XicsPriority,
        taken: Acknowledged,
    ) -> bool {
        let mfrr = XicsPriority(self.mfrr.load(Ordering::Relaxed));
        let level = mfrr.cppr();
        if !taken.nsr.is_external()
            || level.get() != taken.cppr
            || level >= old.cppr()
            || level == Cppr::MOST_FAVOURED
        {
            return false;
        }
        let Some(queue) = self.queues.get(usize::from(level.get())) else {
            return false;
        };
        // Nothing acknowledged before is more favoured: the ring would have announced that instead.
        if !queue.is_empty(memory) {
            let acknowledged = self.acknowledged.load(Ordering::Relaxed) | 1 << level.get();
            self.acknowledged.store(acknowledged, Ordering::Relaxed);
        }
        self.cppr.store(mfrr.0, Ordering::Relaxed);
        true
    }

    /// Accepts the most favoured interrupt of the ring, of what was acknowledged before, and of the
    /// MFRR; `taken` is what the ring has just given.
    ///
    /// Out of line, so that [`Presenter::accept_ipi`] has no registers to save.
    #[inline(never)]
    fn accept_any<H: XiveMmio + QueueMemory>(
        &self,
        hw: &H,
        sources: Sources<'_>,
        old: XicsPriority,
        mut taken: Acknowledged,
    ) -> Xirr {
        let mut acknowledged = self.acknowledged.load(Ordering::Relaxed);
        let mut ring_cppr = old.cppr();
        let mut rounds = LEVELS;
        let found = loop {
            let more = taken.nsr.is_external();
            let mut limit = old.cppr();
            if more {
                ring_cppr = Cppr::new(taken.cppr);
                if taken.cppr < LEVELS {
                    acknowledged |= 1 << taken.cppr;
                }
                // The ring may still have what is less favoured than this.
                limit = limit.min(Cppr::new(taken.cppr.saturating_add(1)));
            }
            let found = self.fetch(hw, sources, limit, &mut acknowledged);
            if found.is_some() || !more || rounds == 0 {
                break found;
            }
            // It was for nothing: the next one, at the CPPR that the guest has.
            rounds -= 1;
            ring_cppr = old.cppr();
            self.tima.set_os_cppr(hw, ring_cppr);
            taken = self.acknowledge(hw);
        };
        self.acknowledged.store(acknowledged, Ordering::Relaxed);
        let (new, xisr) = match found {
            Some((priority, xisr)) => {
                self.cppr.store(priority.0, Ordering::Relaxed);
                (priority.cppr(), xisr)
            }
            None => {
                self.offer(hw, old.cppr(), acknowledged);
                (old.cppr(), 0)
            }
        };
        // The acknowledge left the priority that it took; what was found may have another.
        if new != ring_cppr {
            self.tima.set_os_cppr(hw, new);
        }
        Xirr::new(old, xisr)
    }

    /// Takes the most favoured interrupt that the CPPR lets through: its priority and XISR.
    #[inline]
    fn fetch<H: XiveMmio + QueueMemory>(
        &self,
        hw: &H,
        sources: Sources<'_>,
        cppr: Cppr,
        acknowledged: &mut u32,
    ) -> Option<(XicsPriority, u32)> {
        for _ in 0..FETCH_LIMIT {
            let level = (*acknowledged & cppr.presentable()).trailing_zeros();
            let mfrr = XicsPriority(self.mfrr.load(Ordering::Relaxed));
            let ipi = mfrr.cppr();
            // At priority 0 the queue goes first: it may hold just the announcement of this MFRR.
            if ipi < cppr && u32::from(ipi.get()) <= level && level != 0 {
                return Some((mfrr, XISR_IPI));
            }
            let queue = usize::try_from(level)
                .ok()
                .and_then(|level| self.queues.get(level))?;
            let entry = queue.take(hw);
            if queue.is_empty(hw) {
                *acknowledged &= !(1 << level);
            }
            let Some(eisn) = entry else { continue };
            if eisn.get() == XISR_IPI {
                // From here on another H_IPI triggers anew, so the MFRR is read after this.
                self.ipi.eoi(hw);
                hw.sync();
            } else if let Some(source) = sources.get(Lisn::new(eisn.get()))
                && let Some(priority) = source.accept(hw, self.server, level)
            {
                return Some((priority, eisn.get()));
            }
        }
        None
    }

    /// What [`Presenter::fetch`] would return, from any thread, for all priorities.
    fn look<H: XiveMmio + QueueMemory>(
        &self,
        hw: &H,
        sources: Sources<'_>,
        cppr: Cppr,
        mfrr: XicsPriority,
    ) -> u32 {
        let ipi = mfrr.cppr();
        for (level, queue) in (0u8..).zip(&self.queues) {
            if level >= cppr.get() {
                break;
            }
            if ipi.get() <= level {
                return XISR_IPI;
            }
            for ahead in 0..QUEUE_ENTRIES {
                let Some(eisn) = queue.peek(hw, ahead) else {
                    break;
                };
                let source = sources.get(Lisn::new(eisn.get()));
                if source.is_some_and(|source| source.is_live(hw, self.server, u32::from(level))) {
                    return eisn.get();
                }
            }
        }
        0
    }

    /// The priorities among these whose queue has something, as far as the most favoured goes.
    #[inline]
    fn drop_empty<H: QueueMemory>(&self, hw: &H, mut acknowledged: u32) -> u32 {
        for (level, queue) in self.queues.iter().enumerate() {
            if acknowledged >> level & 1 != 0 {
                if !queue.is_empty(hw) {
                    break;
                }
                acknowledged &= !(1 << level);
            }
        }
        acknowledged
    }

    /// Makes the most favoured of what the ring no longer knows pending in it again, as far as this
    /// CPPR lets it through.
    #[inline]
    fn offer<M: XiveMmio>(&self, mmio: &M, cppr: Cppr, acknowledged: u32) {
        let level = (acknowledged & cppr.presentable()).trailing_zeros();
        let ipi = u32::from(self.ipi_level().get());
        let best = u8::try_from(level.min(ipi)).ok().and_then(Priority::new);
        if let Some(best) = best
            && best.get() < cppr.get()
        {
            self.tima.set_os_pending(mmio, best);
        }
    }
}
