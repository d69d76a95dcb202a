// SPDX-License-Identifier: Apache-2.0 OR MIT
//! XICS presentation for one vCPU, on the XIVE OS ring of the thread that runs it.
//!
//! Each priority of the guest has an event queue of its own in hypervisor memory; the entry is the
//! guest's interrupt number. The hardware raises the guest's external interrupt when a priority
//! that has something beats the CPPR, the XICS calls acknowledge it in the ring and take
//! entries from the queues. The MFRR is a byte of ours: the vCPU's own H_IPI makes that priority
//! pending in its ring, other vCPUs trigger a source whose entry only says "look at the MFRR".
//!
//! What holds between calls:
//! - the CPPR in the ring is the hardware form of the guest's CPPR;
//! - a priority whose queue holds an entry is pending in the hardware (ring or NVT), or in
//!   `acknowledged` here;
//! - where one in `acknowledged`, or the MFRR, is let through by the CPPR, the ring has something
//!   at least as favoured pending. So nothing presentable is without its line;
//! - the line may be up for nothing: an entry may be for an interrupt that was masked or moved, the
//!   MFRR may be taken back, QEMU forgets to lower it. H_XIRR then answers XISR 0, as XICS hardware
//!   does for the same reasons.
//!
//! One thread runs a vCPU at a time, and only it pushes, pulls and makes the vCPU's calls; others
//! store the MFRR and look. Therefore all state is in relaxed atomics, and the two places where two
//! threads can miss each other (MFRR against CPPR) have a full fence on either side.
//!
//! Sources: LoPAR, Interrupt Controller; LoPAR, H_EOI to H_XIRR-X; OPAL API, `OPAL_XIVE_*`.

mod setup;
mod xics;

#[cfg(test)]
mod tests;

use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};

use penstock_arch::addr::HostReal;

use crate::esb::{EsbPair, Pq};
use crate::fw::XiveMmio;
use crate::ids::{ChipId, Girq, ServerNumber, VpId};
use crate::priority::{Cppr, LEVELS, XicsPriority};
use crate::queue::{EventQueue, QUEUE_ENTRIES, QueueMemory};
use crate::tima::{OsRing, SAVE_RESTORE, Tima};
use crate::view::ContextView;

pub(crate) use setup::{allocate_source, release_source};
pub use xics::{Poll, StampedXirr, XISR_IPI, Xirr};

/// What a presenter is made from.
#[derive(Clone, Copy, Debug)]
pub struct PresenterSetup {
    /// The vCPU's virtual processor, not enabled.
    pub vp: VpId,
    /// The vCPU's number in interrupt calls.
    pub server: ServerNumber,
    /// The thread registers.
    pub tima: Tima,
    /// An aligned, zeroed frame of [`Presenter::QUEUE_BYTES`] for the event queues.
    pub queues: HostReal,
    /// The chip for the source that other vCPUs trigger; `None` leaves it to firmware.
    pub chip: Option<ChipId>,
}

/// The vCPUs of a partition, by the number that a guest uses in interrupt calls.
pub trait Servers {
    /// The vCPU with this number, `None` where the partition has none.
    fn presenter(&self, server: u64) -> Option<&Presenter>;
}

/// A partition whose server numbers count up from 0.
impl Servers for [Presenter] {
    #[inline]
    fn presenter(&self, server: u64) -> Option<&Presenter> {
        self.get(usize::try_from(server).ok()?)
    }
}

/// The interrupt presentation of one vCPU.
#[derive(Debug)]
pub struct Presenter {
    tima: Tima,
    /// The guest's CPPR, as it wrote it.
    cppr: AtomicU8,
    /// The guest's MFRR, as the last H_IPI wrote it; 0xff is no IPI.
    mfrr: AtomicU8,
    /// Priorities taken from the ring whose queue has not been seen empty since, bit `n` for `n`.
    acknowledged: AtomicU32,
    queues: [EventQueue; LEVELS as usize],
    /// What other vCPUs trigger when they have set the MFRR.
    ipi: EsbPair,
    ipi_girq: Girq,
    vp: VpId,
    server: ServerNumber,
    cam: u32,
    pushed: AtomicBool,
    /// Words 0 and 1 of the ring while pulled, where the hardware does not keep them.
    saved: AtomicU64,
}

impl Presenter {
    /// Bytes of the frame that holds the event queues, also its alignment.
    pub const QUEUE_BYTES: u64 = 0x1_0000;

    /// The virtual processor.
    #[must_use]
    pub const fn vp(&self) -> VpId {
        self.vp
    }

    /// The number of the vCPU in interrupt calls.
    #[must_use]
    pub const fn server(&self) -> ServerNumber {
        self.server
    }

    /// What somebody sees who looks.
    pub fn view<M: XiveMmio>(&self, mmio: &M) -> ContextView {
        ContextView {
            server: self.server,
            vp: self.vp,
            is_pushed: self.is_pushed(),
            girq: self.ipi_girq,
            pq: self.ipi.get(mmio),
        }
    }

    /// Whether the context is on a thread.
    #[must_use]
    pub fn is_pushed(&self) -> bool {
        self.pushed.load(Ordering::Relaxed)
    }

    /// Whether the hardware keeps the ring of a pulled context in memory by itself.
    const fn hardware_saves(&self) -> bool {
        self.cam & SAVE_RESTORE != 0
    }

    /// Puts the context on the calling thread, before it enters the guest.
    ///
    /// Neither this context may be on a thread, nor another one on this thread.
    #[inline]
    pub fn push<M: XiveMmio>(&self, mmio: &M) {
        let ring = if self.hardware_saves() {
            None
        } else {
            Some(OsRing::new(self.saved.load(Ordering::Relaxed)))
        };
        // What the hypervisor has stored for the guest comes before any interrupt that says so.
        mmio.sync();
        self.tima.push(mmio, self.cam, ring);
        if self.hardware_saves() {
            // Firmware starts a VP with CPPR 0xff, an XICS guest with 0; later nothing changes.
            let cppr = XicsPriority(self.cppr.load(Ordering::Relaxed)).cppr();
            self.tima.set_os_cppr(mmio, cppr);
        }
        self.pushed.store(true, Ordering::Relaxed);
    }

    /// Takes the context off the calling thread, which must be the one that it is on.
    #[inline]
    pub fn pull<M: XiveMmio>(&self, mmio: &M) {
        let ring = self.tima.pull(mmio);
        if self.hardware_saves() {
            // See the list in `tima`: the ring must not be inherited by the next context.
            self.tima.clear_os_ring(mmio);
        } else {
            self.saved.store(ring.get(), Ordering::Relaxed);
        }
        mmio.sync();
        self.pushed.store(false, Ordering::Relaxed);
    }

    /// Whether an interrupt would be presented to this vCPU now, had it MSR\[EE\] set.
    ///
    /// For a vCPU that has ceded: without side effect, on the calling thread if pushed, from memory
    /// if pulled. It may say yes for something that H_XIRR then finds gone, never no for something
    /// that has arrived. A prod (LoPAR, H_PROD) is the caller's own affair.
    pub fn pending<H: XiveMmio + QueueMemory>(&self, hw: &H) -> bool {
        let cppr = XicsPriority(self.cppr.load(Ordering::Relaxed)).cppr();
        if self.ipi_level() < cppr {
            return true;
        }
        if self.is_pushed() {
            // A store to the ring just before is not ordered with a load by itself.
            hw.order_io();
            return self.tima.os_ring(hw).is_presentable();
        }
        let mut queues = self.queues.iter().enumerate();
        queues.any(|(level, queue)| cppr.presentable() >> level & 1 != 0 && !queue.is_empty(hw))
    }

    /// Puts everything back to the state of a vCPU that never ran: CPPR 0, MFRR 0xff, no interrupt.
    ///
    /// For the restart of a partition, on any thread that has no context, this one being pulled and
    /// the partition's [sources](crate::Sources::reset) reset before.
    pub fn reset<H: XiveMmio + QueueMemory>(&self, hw: &H) {
        self.push(hw);
        self.tima.set_os_cppr(hw, Cppr::LEAST_FAVOURED);
        for _ in 0..=LEVELS {
            hw.order_io();
            if !self.tima.acknowledge_os(hw).nsr.is_external() {
                break;
            }
            self.tima.set_os_cppr(hw, Cppr::LEAST_FAVOURED);
        }
        self.tima.set_os_cppr(hw, Cppr::MOST_FAVOURED);
        hw.sync();
        for queue in &self.queues {
            for _ in 0..QUEUE_ENTRIES {
                if queue.take(hw).is_none() {
                    break;
                }
            }
        }
        let _ = self.ipi.set(hw, Pq::Reset);
        self.acknowledged.store(0, Ordering::Relaxed);
        self.mfrr
            .store(XicsPriority::LEAST_FAVOURED.0, Ordering::Relaxed);
        self.cppr
            .store(XicsPriority::MOST_FAVOURED.0, Ordering::Relaxed);
        self.pull(hw);
    }

    /// The level at which the MFRR asks for an IPI, 0xff for none.
    #[inline]
    fn ipi_level(&self) -> Cppr {
        XicsPriority(self.mfrr.load(Ordering::Relaxed)).cppr()
    }
}
