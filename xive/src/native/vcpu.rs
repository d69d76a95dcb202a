// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A virtual processor of a partition in exploitation mode: its context on a thread, its escalation
//! while it waits, its event queues and its reporting line.
//!
//! The context is pushed before the guest is entered and stays until it is pulled, so no code of the
//! partition runs on a thread without one: the OS's page of the thread registers, which is the same
//! for all, always shows the context of whoever looks.
//!
//! One thread runs a virtual processor at a time; only it pushes and pulls. Others look whether it
//! waits, and whether its escalation has fired.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use penstock_arch::addr::{GuestReal, HostReal};
use penstock_arch::wait::{Mutex, MutexGuard};

use crate::fw::XiveMmio;
use crate::ids::{ServerNumber, VpId};
use crate::priority::{Cppr, LEVELS, Priority};
use crate::tima::{OsRing, SAVE_RESTORE, Tima};
use crate::view::{ContextView, QueueView};

use super::escalation::Escalation;
use super::rest::Waiting;

/// An event queue as the guest set it. It is pinned in guest memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct GuestQueue {
    pub(super) base: GuestReal,
    /// log2 of its bytes: 12, 16, 21 or 24.
    pub(super) size_log2: u32,
}

impl GuestQueue {
    pub(super) const fn bytes(&self) -> u64 {
        1 << self.size_log2
    }
}

/// What the guest set of one priority.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EndState {
    pub(super) queue: Option<GuestQueue>,
    /// Unconditional notify.
    pub(super) always: bool,
}

impl EndState {
    pub(super) const RESET: Self = Self {
        queue: None,
        always: false,
    };
}

/// A reporting line as the hardware has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// There is none.
    None,
    /// The guest has set it.
    Set(GuestReal),
    /// The guest has none, but the hardware still has this one: H_INT_RESET on another virtual
    /// processor took it away. It stays pinned.
    Stale(GuestReal),
}

impl Line {
    /// What is pinned for it.
    pub(super) const fn pinned(self) -> Option<GuestReal> {
        match self {
            Self::None => None,
            Self::Set(at) | Self::Stale(at) => Some(at),
        }
    }
}

/// What the guest set of a virtual processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct VcpuState {
    pub(super) ends: [EndState; LEVELS as usize],
    pub(super) line: Line,
}

impl VcpuState {
    pub(super) const RESET: Self = Self {
        ends: [EndState::RESET; LEVELS as usize],
        line: Line::None,
    };

    pub(super) fn end(&self, priority: Priority) -> Option<&EndState> {
        self.ends.get(usize::from(priority.get()))
    }

    pub(super) fn end_mut(&mut self, priority: Priority) -> Option<&mut EndState> {
        self.ends.get_mut(usize::from(priority.get()))
    }
}

/// What becomes of a virtual processor that is taken off its thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffThread {
    /// It would go on at once; interrupts wait for it.
    Ready,
    /// It waits, and an interrupt shall wake it.
    Waiting,
}

/// The interrupt context of one virtual processor.
#[derive(Debug)]
pub struct NativeVcpu {
    pub(super) server: ServerNumber,
    pub(super) vp: VpId,
    pub(super) cam: u32,
    pub(super) tima: Tima,
    pub(super) escalation: Escalation,
    /// The notification pages of the queues, by priority.
    pub(super) notification: [Option<HostReal>; LEVELS as usize],
    pub(super) pushed: AtomicBool,
    /// The escalation is armed.
    pub(super) armed: AtomicBool,
    /// It never ran since the partition started; the CPPR must be 0 (LoPAR's initial state).
    pub(super) fresh: AtomicBool,
    /// Words 0 and 1 of the ring when it was pulled last.
    pub(super) saved: AtomicU64,
    /// The guest has started it.
    pub(super) online: AtomicBool,
    /// Whether it waits; see [`Waiting`].
    pub waiting: Waiting,
    pub(super) state: Mutex<VcpuState>,
}

impl NativeVcpu {
    /// The number by which the guest knows it.
    #[must_use]
    pub const fn server(&self) -> ServerNumber {
        self.server
    }

    /// The machine's virtual processor.
    #[must_use]
    pub const fn vp(&self) -> VpId {
        self.vp
    }

    /// The escalation.
    #[must_use]
    pub const fn escalation(&self) -> &Escalation {
        &self.escalation
    }

    /// What somebody sees who looks.
    pub fn view<M: XiveMmio>(&self, mmio: &M) -> ContextView {
        ContextView {
            server: self.server,
            vp: self.vp,
            is_pushed: self.is_pushed(),
            girq: self.escalation.girq(),
            pq: self.escalation.pq(mmio),
        }
    }

    /// Calls `each` with each event queue that the guest has set.
    pub fn for_each_queue(&self, mut each: impl FnMut(QueueView)) {
        let state = self.lock();
        for (priority, end) in (0..).zip(&state.ends) {
            if let Some(queue) = end.queue {
                each(QueueView {
                    server: self.server,
                    priority,
                    base: queue.base,
                    size_log2: queue.size_log2,
                });
            }
        }
    }

    /// Whether the context is on a thread.
    #[must_use]
    pub fn is_pushed(&self) -> bool {
        self.pushed.load(Ordering::Relaxed)
    }

    /// The guest has started it, or it has stopped itself.
    pub fn set_online(&self, online: bool) {
        self.online.store(online, Ordering::Relaxed);
    }

    pub(super) fn is_online(&self) -> bool {
        self.online.load(Ordering::Relaxed)
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, VcpuState> {
        self.state.lock()
    }

    /// Whether the hardware keeps the ring of a pulled context in memory by itself.
    pub(super) const fn hardware_saves(&self) -> bool {
        self.cam & SAVE_RESTORE != 0
    }

    pub(super) fn saved_ring(&self) -> OsRing {
        OsRing::new(self.saved.load(Ordering::Relaxed))
    }

    /// Puts the context on the calling thread, before it enters the guest. It waits no more.
    ///
    /// Neither this context may be on a thread, nor another one on this thread.
    #[inline]
    pub fn push<M: XiveMmio>(&self, mmio: &M) {
        let ring = if self.hardware_saves() {
            None
        } else {
            Some(self.saved_ring())
        };
        // What the hypervisor has stored for the guest comes before any interrupt that says so.
        mmio.sync();
        self.tima.push(mmio, self.cam, ring);
        if self.fresh.load(Ordering::Relaxed) {
            // Firmware starts a VP that the hardware saves with CPPR 0xff.
            self.fresh.store(false, Ordering::Relaxed);
            self.tima.set_os_cppr(mmio, Cppr::MOST_FAVOURED);
        }
        self.pushed.store(true, Ordering::Relaxed);
        if self.armed.load(Ordering::Relaxed) {
            // After the push, so that an event is either in the ring or has set P, never lost.
            let _ = self.escalation.disarm(mmio);
            self.armed.store(false, Ordering::Relaxed);
        }
    }

    /// Takes the context off the calling thread, which must be the one that it is on.
    #[inline]
    pub fn pull<M: XiveMmio>(&self, mmio: &M, becomes: OffThread) {
        if becomes == OffThread::Waiting {
            self.escalation.arm(mmio);
            self.armed.store(true, Ordering::Relaxed);
        }
        let ring = self.tima.pull(mmio);
        self.saved.store(ring.get(), Ordering::Relaxed);
        if self.hardware_saves() {
            // See the list in `tima`: the ring must not be inherited by the next context.
            self.tima.clear_os_ring(mmio);
        }
        mmio.sync();
        self.pushed.store(false, Ordering::Relaxed);
    }

    /// Whether an interrupt wants this virtual processor, which waits.
    ///
    /// If pushed, on the thread that it is on. It may say yes for something that the guest then
    /// finds gone, never no for something that its CPPR lets through.
    pub fn pending<M: XiveMmio>(&self, mmio: &M) -> bool {
        if self.is_pushed() {
            // A store to the ring just before is not ordered with a load by itself.
            mmio.order_io();
            return self.tima.os_ring(mmio).is_presentable();
        }
        self.saved_ring().is_presentable()
            || self.armed.load(Ordering::Relaxed) && self.escalation.has_fired(mmio)
    }

    /// Drops what is pending in the ring and in memory, and puts the context back to the state of
    /// one that never ran. On any thread that has no context; this one is on none.
    ///
    /// Its queues are off, and nothing is aimed at it.
    pub(super) fn forget_pending<M: XiveMmio>(&self, mmio: &M) {
        self.push(mmio);
        self.tima.set_os_cppr(mmio, Cppr::LEAST_FAVOURED);
        for _ in 0..=LEVELS {
            mmio.order_io();
            if !self.tima.acknowledge_os(mmio).nsr.is_external() {
                break;
            }
            self.tima.set_os_cppr(mmio, Cppr::LEAST_FAVOURED);
        }
        self.tima.set_os_cppr(mmio, Cppr::MOST_FAVOURED);
        self.pull(mmio, OffThread::Ready);
        self.saved.store(OsRing::INITIAL.get(), Ordering::Relaxed);
        self.fresh.store(true, Ordering::Relaxed);
        self.waiting.end();
    }

    /// Makes everything pending that the ring can have, after firmware has changed the virtual
    /// processor behind its back: the guest finds queues empty rather than interrupts lost.
    pub(super) fn offer_all<M: XiveMmio>(&self, mmio: &M) {
        for level in (0..LEVELS).filter_map(Priority::new) {
            self.tima.set_os_pending(mmio, level);
        }
    }
}
