// SPDX-License-Identifier: Apache-2.0 OR MIT
//! XIVE exploitation mode: a partition that works on the interrupt controller itself.
//!
//! Sources, event queues and thread registers are the machine's. The guest triggers and ends
//! interrupts by loads and stores to pages that are mapped for it ([`window`]), reads its own event
//! queues, and has its own ring of thread registers: none of that comes to the hypervisor. What does
//! are eleven calls that configure (LoPAR, H_INT_GET_SOURCE_INFO to H_INT_RESET), which check what
//! the guest says and make firmware change the machine's tables.
//!
//! ```text
//! event -> source: P, Q -> EA: target, priority, EISN -> queue of the target at the priority
//!       -> context pushed? its thread is interrupted : escalation, if it waits; pending, if not
//! ```
//!
//! What holds:
//! - a source of the partition is aimed at a virtual processor of the partition, at a priority from
//!   0 to 6, or nowhere;
//! - all queues of these priorities are enabled from set-up to tear-down, with or without memory, so
//!   an event never meets one that is not;
//! - the memory of a queue, and of a reporting line, is pinned ([`PinnedMemory`]) from before the
//!   hardware knows it until after it has forgotten it and nothing is in flight;
//! - a call that fails with H_LONG_BUSY or H_HARDWARE has changed nothing that a guest can see, but
//!   for H_INT_RESET, which goes on where it stopped.
//!
//! Locks: a source's, then a virtual processor's; H_INT_RESET's own before both. H_INT_RESET says
//! that it is in progress before it takes the first of them, and each call looks after it has its
//! own: so no call is in the middle of anything that is being reset. Firmware is called under them.
//!
//! A partition's tables are the kernel's; this module borrows them ([`Native`]).

mod calls;
pub mod escalation;
pub mod rest;
mod setup;
mod source;
mod vcpu;
pub mod window;

#[cfg(test)]
mod tests;

use core::sync::atomic::{AtomicBool, Ordering};

use penstock_arch::addr::{GuestReal, HostReal};
use penstock_arch::wait::Mutex;

use crate::error::HcallError;
use crate::ids::{Lisn, ServerNumber};
use crate::priority::{LEVELS, Priority};

pub use calls::{QueueConfig, QueueInfo, SourceConfig, SourceFlags, SourceInfo};
pub use escalation::{Escalation, EscalationTarget};
pub use setup::NativeSetup;
pub use source::NativeSource;
pub use vcpu::{NativeVcpu, OffThread};

use window::PageName;

/// What `rest` is made of.
mod sync {
    pub(super) use core::sync::atomic::{AtomicBool, Ordering, fence};
}

/// Sizes of event queues that a guest is offered, log2 of bytes (LoPAR, `ibm,xive-eq-sizes`).
pub const QUEUE_SIZES_LOG2: [u32; 4] = [12, 16, 21, 24];

/// Priorities that a guest may not use, as pairs of the first one and a count (LoPAR,
/// `ibm,plat-res-int-priorities`): single escalation takes 7, and there are no others.
pub const RESERVED_PRIORITIES: [u32; 2] = [LEVELS as u32, 0xff - LEVELS as u32];

/// The partition's memory that hardware writes to.
pub trait PinnedMemory {
    /// Pins `bytes` of memory from `at` on, and says where they lie, in one run. They stay there
    /// until they are unpinned as often, whatever else becomes of the partition's memory, and count
    /// as written all that time.
    ///
    /// `None` where that is not all memory of the partition.
    fn pin(&self, at: GuestReal, bytes: u64) -> Option<HostReal>;

    /// Takes back one [`PinnedMemory::pin`] of the same range.
    fn unpin(&self, at: GuestReal, bytes: u64);
}

/// What the calls of one partition share.
#[derive(Debug)]
pub struct NativeState {
    /// The step at which H_INT_RESET goes on.
    reset: Mutex<usize>,
    resetting: AtomicBool,
    tima_os: HostReal,
}

impl NativeState {
    /// No reset is in progress. `tima_os` is the machine's page of thread registers with an
    /// operating system's rights.
    #[must_use]
    pub const fn new(tima_os: HostReal) -> Self {
        Self {
            reset: Mutex::new(0),
            resetting: AtomicBool::new(false),
            tima_os,
        }
    }
}

/// The controller as a partition has it.
#[derive(Clone, Copy, Debug)]
pub struct Native<'a> {
    /// Sources for the guest's own use: number 0 and up.
    pub ipis: &'a [NativeSource],
    /// Sources of devices: from [`window::FIRST_DEVICE`] up.
    pub devices: &'a [NativeSource],
    /// The virtual processors, by server number.
    pub vcpus: &'a [NativeVcpu],
    /// What the calls share.
    pub state: &'a NativeState,
}

impl<'a> Native<'a> {
    /// The source with this number.
    #[must_use]
    pub fn source(&self, lisn: Lisn) -> Option<&'a NativeSource> {
        let (first, list) = if lisn.get() < window::FIRST_DEVICE {
            (0, self.ipis)
        } else {
            (window::FIRST_DEVICE, self.devices)
        };
        // No table can be larger than its part of the window.
        if lisn.get() >= window::LISNS {
            return None;
        }
        list.get(usize::try_from(lisn.get() - first).ok()?)
    }

    /// All sources.
    pub fn sources(&self) -> impl Iterator<Item = &'a NativeSource> {
        self.ipis.iter().chain(self.devices)
    }

    /// The virtual processor with this number.
    #[must_use]
    pub fn vcpu(&self, server: ServerNumber) -> Option<&'a NativeVcpu> {
        self.vcpus.get(usize::try_from(server.get()).ok()?)
    }

    /// The page of the machine that belongs at a guest real address, for one that has just been
    /// touched. `None` where the partition has nothing there, or must go through H_INT_ESB.
    #[must_use]
    pub fn page_at(&self, at: GuestReal) -> Option<HostReal> {
        match window::name(at)? {
            PageName::Source(lisn, page) => self.source(lisn)?.page(page),
            PageName::Notification(server, priority) => {
                let pages = &self.vcpu(server)?.notification;
                *pages.get(usize::from(priority.get()))?
            }
            PageName::Tima => Some(self.state.tima_os),
        }
    }

    /// Calls `each` with each range that is pinned for the hardware, a queue's or a reporting line's.
    pub fn for_each_pinned(&self, mut each: impl FnMut(GuestReal, u64)) {
        for vcpu in self.vcpus {
            let state = vcpu.lock();
            for queue in state.ends.iter().filter_map(|end| end.queue) {
                each(queue.base, queue.bytes());
            }
            if let Some(line) = state.line.pinned() {
                each(line, calls::LINE_BYTES);
            }
        }
    }

    /// H_STATE while a reset is not finished.
    fn check_state(&self) -> Result<(), HcallError> {
        if self.state.resetting.load(Ordering::SeqCst) {
            return Err(HcallError::State);
        }
        Ok(())
    }

    /// The source that a call's argument names.
    fn named_source(&self, lisn: u64) -> Option<&'a NativeSource> {
        self.source(Lisn::new(u32::try_from(lisn).ok()?))
    }

    /// The virtual processor that a call's argument names.
    fn named_vcpu(&self, target: u64) -> Option<&'a NativeVcpu> {
        self.vcpu(ServerNumber::new(u32::try_from(target).ok()?))
    }
}

/// A priority that a guest may use.
fn allowed_priority(priority: u64) -> Option<Priority> {
    if priority >= u64::from(LEVELS) {
        return None;
    }
    Priority::new(u8::try_from(priority).ok()?)
}
