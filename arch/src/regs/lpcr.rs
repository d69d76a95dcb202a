// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The logical partitioning control register (Power ISA 3.0B, Book III, Logical Partitioning
//! Control Register).

use crate::bits::{ppc_bit, ppc_mask};
use crate::regs::msr::InterruptEndian;

bitflags::bitflags! {
    /// A value of the LPCR.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    #[repr(transparent)]
    pub struct Lpcr: u64 {
        /// Virtualized partition memory for virtual mode: a guest's hash faults come to the
        /// hypervisor. Guest real mode always does.
        const VPM1 = ppc_bit(1);
        /// Default prefetch depth.
        const DPFD = ppc_mask(9, 11);
        /// Online: PURR and SPURR count.
        const ONL = ppc_bit(45);
        /// Use the process table: must stay clear for a hash guest.
        const UPRT = ppc_bit(41);
        /// Exits enabled by privileged doorbells.
        const PDEE = ppc_bit(47);
        /// Hypervisor virtualization interrupt wakes a `stop`.
        const HVEE = ppc_bit(17);
        /// Hypervisor doorbell wakes a `stop`.
        const HDEE = ppc_bit(48);
        /// External interrupt wakes a `stop`.
        const EEE = ppc_bit(49);
        /// Decrementer wakes a `stop`.
        const DEE = ppc_bit(50);
        /// Other exceptions (machine check, HMI) wake a `stop`.
        const OEE = ppc_bit(51);
        /// Interrupts that stay in the guest begin in little-endian mode.
        const ILE = ppc_bit(38);
        /// Alternate interrupt location 3: at 0xc000_0000_0000_4000 with relocation on.
        const AIL3 = ppc_mask(39, 40);
        /// Large decrementer.
        const LD = ppc_bit(46);
        /// External interrupts go to the guest when it runs.
        const LPES0 = ppc_bit(60);
        /// Guest may execute tlbie: never given to a hash guest.
        const GTSE = ppc_bit(53);
        /// Hypervisor external interrupt control: none are taken in hypervisor state.
        const HEIC = ppc_bit(59);
        /// Hypervisor virtualization interrupts are taken from a guest.
        const HVICE = ppc_bit(62);
        /// Hypervisor decrementer interrupts are taken from a guest.
        const HDICE = ppc_bit(63);
        /// Host radix: must stay clear for a hash guest.
        const HR = ppc_bit(43);
        // What firmware set in other bits is never kept: the value is built from nothing.
    }
}

impl Lpcr {
    /// What a hash guest runs with before it has asked for anything: its virtual-mode faults come
    /// to us, its external interrupts go to it, decrementers are 56 bits wide.
    pub const GUEST: Self = Self::VPM1
        .union(Self::DPFD_MEDIUM)
        .union(Self::ONL)
        .union(Self::LD)
        .union(Self::LPES0)
        .union(Self::HVICE)
        .union(Self::HDICE)
        .union(Self::WAKE);

    /// Default prefetch depth 4, which firmware chooses too.
    const DPFD_MEDIUM: Self = Self::from_bits_retain(ppc_bit(9));

    /// What wakes a sleeping thread.
    pub const WAKE: Self = Self::HVEE
        .union(Self::EEE)
        .union(Self::DEE)
        .union(Self::OEE);

    /// What the hypervisor runs with while no guest is loaded. HVICE lets an interrupt of another
    /// thread end a `stop`; it is not taken, as MSR\[EE\] is clear.
    pub const HYPERVISOR: Self = Self::LD.union(Self::WAKE).union(Self::HVICE);

    /// The byte order in which interrupts that stay in the guest begin.
    #[must_use]
    pub const fn interrupt_endian(self) -> InterruptEndian {
        if self.contains(Self::ILE) {
            InterruptEndian::Little
        } else {
            InterruptEndian::Big
        }
    }
}

const _: () = assert!(Lpcr::VPM1.bits() == 1 << 62);
const _: () = assert!(Lpcr::AIL3.bits() == 0x0180_0000);
const _: () = assert!(Lpcr::ILE.bits() == 1 << 25);
const _: () = assert!(Lpcr::LD.bits() == 1 << 17);
const _: () = assert!(Lpcr::HDICE.bits() == 1 && Lpcr::HVICE.bits() == 2);
const _: () = assert!(Lpcr::LPES0.bits() == 8 && Lpcr::HEIC.bits() == 0x10);
const _: () = assert!(Lpcr::HVEE.bits() == 0x0000_4000_0000_0000);
