// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The thread interrupt management area: four rings of registers per hardware thread.
//!
//! The area is at one real address for the whole machine; which thread's rings are meant is decided
//! by who accesses it. It has four pages, each a view with fewer rights: hardware, hypervisor, OS,
//! user. We use the hypervisor's view for everything, also for what a guest could do through the OS
//! page, so one address is enough.
//!
//! An OS ring is *pushed* while the word with the virtual processor's CAM line has its valid bit.
//! Interrupts for a VP that is pushed nowhere gather in its NVT in memory and come with the next
//! push.
//!
//! What we work around:
//! - QEMU before 10.1 does not take the line down when the CPPR becomes more favoured, and then
//!   answers an acknowledge with a priority that the CPPR does not let through;
//! - QEMU's POWER10 leaves the pending bits in the ring after a pull, so that they would go to the
//!   next VP pushed, and from there into its saved state.
//! - QEMU's POWER10 from 10.2 on takes an OS ring for valid only where the pool ring is too, and
//!   otherwise does not look at a push whether anything waits for the VP;
//! - A push on a valid ring is ignored by QEMU 10.2, a CPPR store on an invalid one is fatal there:
//!   never do either.

use penstock_arch::addr::HostReal;

use crate::fw::XiveMmio;
use crate::priority::{Cppr, Priority};

/// Offsets in the hypervisor page.
pub mod offset {
    /// OS ring, words 0 and 1 (8 bytes): see [`OsRing`](super::OsRing).
    pub const OS_RING: u64 = 0x10;
    /// OS ring, CPPR (1 byte).
    pub const OS_CPPR: u64 = 0x11;
    /// OS ring, word 2 (4 bytes): valid bit and CAM line. A store pushes the VP.
    pub const OS_WORD2: u64 = 0x18;
    /// Pool ring, words 0 and 1 (8 bytes).
    pub const POOL_RING: u64 = 0x20;
    /// Pool ring, word 2 (4 bytes): valid bit and CAM line. A store pushes the VP.
    pub const POOL_WORD2: u64 = 0x28;
    /// Physical ring, words 0 and 1 (8 bytes).
    pub const PHYS_RING: u64 = 0x30;
    /// Physical ring, CPPR (1 byte).
    pub const PHYS_CPPR: u64 = 0x31;
    /// Load of 2 bytes: acknowledge the OS ring's interrupt; NSR and the new CPPR.
    pub const ACK_OS: u64 = 0x810;
    /// Store of 1 byte: make this priority pending in the OS ring.
    pub const SET_OS_PENDING: u64 = 0x812;
    /// Load of 4 bytes: pull the OS ring.
    pub const PULL_OS: u64 = 0x818;
    /// Load of 2 bytes: acknowledge the hypervisor's interrupt.
    pub const ACK_HV: u64 = 0x830;
}

/// Word 2 of the OS and the pool ring: the VP is valid.
pub const VALID: u32 = 0x8000_0000;
/// Word 2 of the OS ring: the hardware saves and restores the ring itself (POWER10).
pub const SAVE_RESTORE: u32 = 0x4000_0000;

/// The notification source byte: which interrupt an acknowledge took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct Nsr(pub u8);

impl Nsr {
    /// OS ring: an external interrupt.
    pub const EXTERNAL: u8 = 0x80;

    /// Whether the OS ring had an interrupt.
    #[inline]
    #[must_use]
    pub const fn is_external(self) -> bool {
        self.0 & Self::EXTERNAL != 0
    }
}

/// Words 0 and 1 of an OS ring, as the doubleword that a load of 8 bytes gives.
///
/// From the most significant byte: NSR, CPPR, IPB (pending priorities, 0 in the top bit), LSMFB,
/// ACK#, INC, AGE, PIPR (the most favoured pending priority, 0xff for none).
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub struct OsRing(u64);

impl OsRing {
    /// A VP that never ran: CPPR 0, nothing pending, acknowledge counter at its rest value.
    pub const INITIAL: Self = Self(0x0000_0000_ff00_0000);

    /// The ring with these two words.
    #[must_use]
    pub const fn new(words: u64) -> Self {
        Self(words)
    }

    /// The two words.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The notification source.
    #[must_use]
    pub const fn nsr(self) -> Nsr {
        Nsr(self.0.to_be_bytes()[0])
    }

    /// The current processor priority.
    #[must_use]
    pub const fn cppr(self) -> Cppr {
        Cppr::new(self.0.to_be_bytes()[1])
    }

    /// The pending priorities, priority 0 in the most significant bit.
    #[must_use]
    pub const fn ipb(self) -> u8 {
        self.0.to_be_bytes()[2]
    }

    /// The most favoured pending priority, 0xff for none.
    #[must_use]
    pub const fn pipr(self) -> u8 {
        self.0.to_be_bytes()[7]
    }

    /// Whether the thread's external interrupt line is up for good reason.
    ///
    /// The NSR alone will not do: see the module's list.
    #[must_use]
    pub const fn is_presentable(self) -> bool {
        self.pipr() < self.cppr().get()
    }

    /// What must be written back when the VP is pushed again: LSMFB forgotten, ACK# at rest.
    #[must_use]
    pub const fn to_restore(self) -> Self {
        Self(self.0 & !0x0000_00ff_0000_0000 | 0x0000_0000_ff00_0000)
    }
}

impl core::fmt::Debug for OsRing {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "OsRing({:#018x})", self.0)
    }
}

/// What an acknowledge answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acknowledged {
    /// Whether there was anything.
    pub nsr: Nsr,
    /// The CPPR after it: the priority of the interrupt taken.
    pub cppr: u8,
}

/// The area's hypervisor page, on whichever thread calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tima {
    page: HostReal,
}

impl Tima {
    /// The area whose hypervisor page, the second range of the device tree node, is here.
    #[must_use]
    pub const fn new(hv_page: HostReal) -> Self {
        Self { page: hv_page }
    }

    /// Sets the CPPR of the pushed VP.
    #[inline]
    pub fn set_os_cppr<M: XiveMmio>(self, mmio: &M, cppr: Cppr) {
        mmio.store8(self.page, offset::OS_CPPR, cppr.get());
    }

    /// Makes a priority pending in the pushed VP, as if its queue had got an entry.
    #[inline]
    pub fn set_os_pending<M: XiveMmio>(self, mmio: &M, priority: Priority) {
        mmio.store8(self.page, offset::SET_OS_PENDING, priority.get());
    }

    /// Takes the pushed VP's most favoured pending interrupt; its CPPR becomes that priority.
    #[inline]
    pub fn acknowledge_os<M: XiveMmio>(self, mmio: &M) -> Acknowledged {
        let [nsr, cppr] = mmio.load16(self.page, offset::ACK_OS).to_be_bytes();
        Acknowledged {
            nsr: Nsr(nsr),
            cppr,
        }
    }

    /// Reads the OS ring; no side effect.
    #[inline]
    pub fn os_ring<M: XiveMmio>(self, mmio: &M) -> OsRing {
        OsRing::new(mmio.load64(self.page, offset::OS_RING))
    }

    /// Makes the VP with this CAM word valid on the calling thread, which must have none.
    ///
    /// `ring` is what [`Tima::pull`] gave, `None` where the hardware restores it itself.
    #[inline]
    pub fn push<M: XiveMmio>(self, mmio: &M, cam: u32, ring: Option<OsRing>) {
        if let Some(ring) = ring {
            mmio.store64(self.page, offset::OS_RING, ring.get());
            mmio.order_io();
        }
        mmio.store32(self.page, offset::OS_WORD2, cam | VALID);
        mmio.order_io();
    }

    /// Takes the VP off the calling thread and returns the ring to push it with the next time.
    #[inline]
    pub fn pull<M: XiveMmio>(self, mmio: &M) -> OsRing {
        // Stores to the ring, such as a CPPR, go before the load that takes the context away.
        mmio.order_io();
        // The CAM word that the load gives has the wrong byte order in QEMU: nobody looks at it.
        let _ = mmio.load32(self.page, offset::PULL_OS);
        mmio.order_io();
        self.os_ring(mmio).to_restore()
    }

    /// Makes the pool VP with this CAM word valid on the calling thread, which must have none.
    ///
    /// No group interrupt is looked for, since LSMFB, the only byte of word 0 that the hypervisor's
    /// page lets through, has the least favoured priority.
    pub fn push_pool<M: XiveMmio>(self, mmio: &M, cam: u32) {
        mmio.store32(self.page, offset::POOL_RING, 0xff);
        mmio.order_io();
        mmio.store32(self.page, offset::POOL_WORD2, cam | VALID);
        mmio.order_io();
    }

    /// Clears the OS ring of a thread that has no VP, so that the next one inherits nothing.
    #[inline]
    pub fn clear_os_ring<M: XiveMmio>(self, mmio: &M) {
        mmio.order_io();
        mmio.store64(self.page, offset::OS_RING, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ring_words_decode_as_measured() {
        // Measured after a trigger of priority 6 to a VP that was then pushed.
        let ring = OsRing::new(0x80ff_0200_ff00_0006);
        assert!(ring.nsr().is_external());
        assert_eq!(ring.cppr(), Cppr::LEAST_FAVOURED);
        assert_eq!(ring.ipb(), 0x02);
        assert_eq!(ring.pipr(), 6);
        assert!(ring.is_presentable());
        assert!(!OsRing::new(0x8006_0200_ff00_0006).is_presentable());
    }

    #[test]
    fn saved_ring_forgets_lsmfb_and_rests_the_acknowledge_counter() {
        let ring = OsRing::new(0x0005_02aa_bbcc_dd06);
        assert_eq!(ring.to_restore().get(), 0x0005_0200_ffcc_dd06);
        assert_eq!(OsRing::INITIAL.cppr(), Cppr::MOST_FAVOURED);
        assert_eq!(OsRing::INITIAL.to_restore(), OsRing::INITIAL);
    }
}
