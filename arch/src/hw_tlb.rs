// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The translation lookaside buffers of the machine, and of the calling thread (Power ISA 3.0B, Book III, TLB Invalidate Entry).

// UNSAFETY: TLB instructions exist only as assembly.
#![expect(unsafe_code)]

use crate::hash::{Lpid, TlbieRb};
use crate::regs::{Processor, Pvr};
use crate::sync;
use crate::tlb::{TlbMaintenance, TlbieErrata};
use core::arch::asm;

/// The TLBs of all threads, by broadcast.
#[derive(Clone, Copy, Debug)]
pub struct HwTlb {
    errata: TlbieErrata,
}

/// `tlbie` with RS = r5, RB = r4 and the given RIC and R fields, which the assembler's two-operand
/// form cannot express.
const fn tlbie_r4_r5(ric: u32, r: u32) -> u32 {
    31 << 26 | 5 << 21 | ric << 18 | r << 16 | 4 << 11 | 306 << 1
}

/// `tlbiel` with RS = r5, RB = r4, RIC = PRS = R = 0.
const TLBIEL_R4_R5: u32 = 31 << 26 | 5 << 21 | 4 << 11 | 274 << 1;

/// RB with IS = 2: everything of the partition in RS.
const ALL_OF_PARTITION: u64 = 2 << 10;

impl HwTlb {
    /// With what this processor needs done after each batch.
    #[must_use]
    pub const fn new(pvr: Pvr) -> Self {
        let errata = match pvr.processor() {
            Some(Processor::Power9) => TlbieErrata::P9_ERAT.union(TlbieErrata::P9_STQ),
            _ => TlbieErrata::NONE,
        };
        Self { errata }
    }
}

macro_rules! tlbie {
    ($rb:expr, $rs:expr, $ric:literal, $r:literal) => {
        // SAFETY: invalidating a translation only costs a miss.
        unsafe {
            asm!(".long {}", const tlbie_r4_r5($ric, $r), in("r4") $rb, in("r5") $rs,
                options(nostack, preserves_flags))
        }
    };
}

impl TlbMaintenance for HwTlb {
    #[inline(always)]
    fn ptesync(&self) {
        sync::ptesync();
    }

    #[inline(always)]
    fn eieio(&self) {
        sync::eieio();
    }

    #[inline(always)]
    fn tlbsync(&self) {
        sync::tlbsync();
    }

    #[inline(always)]
    fn tlbie(&self, rb: TlbieRb, lpid: Lpid) {
        tlbie!(rb.get(), u64::from(lpid.get()), 0, 0);
    }

    fn tlbie_lpid(&self, lpid: Lpid) {
        tlbie!(ALL_OF_PARTITION, u64::from(lpid.get()), 0, 0);
    }

    fn tlbie_pate(&self, lpid: Lpid) {
        tlbie!(ALL_OF_PARTITION, u64::from(lpid.get()), 2, 0);
    }

    fn tlbie_erat_fixup(&self) {
        tlbie!(ALL_OF_PARTITION, 0u64, 0, 1);
    }

    #[inline(always)]
    fn tlbiel(&self, rb: TlbieRb) {
        // SAFETY: invalidating a translation only costs a miss.
        unsafe {
            asm!(".long {}", const TLBIEL_R4_R5, in("r4") rb.get(), in("r5") 0u64,
                options(nostack, preserves_flags));
        }
    }

    #[inline(always)]
    fn cp_abort(&self) {
        // SAFETY: cp_abort, which changes no memory.
        unsafe { asm!(".long 0x7c00068c", options(nostack, preserves_flags)) };
    }

    #[inline(always)]
    fn errata(&self) -> TlbieErrata {
        self.errata
    }
}
