// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The hardware thread that this code runs on, for [`crate::switch`].

// UNSAFETY: registers and lookaside buffers are reached by assembly.
#![expect(unsafe_code)]

use crate::entry;
use crate::hash::Lpid;
use crate::regs::vcpu_spr::with_vcpu_sprs;
use crate::regs::{Lpcr, Processor, VcpuSpr, sprn};
use crate::switch::{SlbEntry, Thread, VectorState};
use crate::{spr, sync};
use core::arch::{asm, global_asm};
use core::mem::offset_of;

global_asm!(
    include_str!("vector_state.S"),
    FPSCR = const offset_of!(VectorState, fpscr),
    VSCR = const offset_of!(VectorState, vscr),
);

unsafe extern "C" {
    #[link_name = "save_vector_state"]
    fn save_vector_state_asm(state: *mut VectorState);
    #[link_name = "load_vector_state"]
    fn load_vector_state_asm(state: *const VectorState);
}

/// The thread that runs this.
#[derive(Clone, Copy, Debug)]
pub struct HwThread {
    processor: Processor,
}

impl HwThread {
    /// The thread that runs this, of a processor of this family.
    ///
    /// # Safety
    /// Registers of the whole thread are changed through it: no guest may be in the middle of
    /// anything, interrupts are off, and `processor` is what the PVR says.
    #[must_use]
    pub const unsafe fn new(processor: Processor) -> Self {
        Self { processor }
    }
}

/// `tlbiel` with RS = r5, RB = r4, RIC = PRS = R = 0.
const TLBIEL_R4_R5: u32 = 31 << 26 | 5 << 21 | 4 << 11 | 274 << 1;
/// RB with IS = 2: everything of the partition in LPIDR, in the set of the congruence classes that
/// the number from bit 51 on says.
const ALL_OF_PARTITION: u64 = 2 << 10;
const NEXT_SET: u64 = 1 << 12;

impl Thread for HwThread {
    fn processor(&self) -> Processor {
        self.processor
    }

    fn timebase(&self) -> u64 {
        spr::timebase()
    }

    fn decrementer(&self) -> u64 {
        spr::read::<{ sprn::DEC }>()
    }

    fn set_decrementer(&self, ticks: u64) {
        // SAFETY: interrupts are off in hypervisor state.
        unsafe { spr::write::<{ sprn::DEC }>(ticks) };
    }

    fn read(&self, spr: VcpuSpr) -> u64 {
        macro_rules! read {
            ($($variant:ident: $read:ident, $write:ident, $on:ident, $p9:expr, $p10:expr;)*) => {
                match spr {
                    $(VcpuSpr::$variant => spr::read::<{ sprn::$read }>(),)*
                }
            };
        }
        with_vcpu_sprs!(read)
    }

    fn write(&self, spr: VcpuSpr, value: u64) {
        macro_rules! write {
            ($($variant:ident: $read:ident, $write:ident, $on:ident, $p9:expr, $p10:expr;)*) => {
                match spr {
                    // SAFETY: registers that act on guests; the values are a guest's own, which it
                    // or a checked call has put there, or those of the table.
                    $(VcpuSpr::$variant => unsafe { spr::write::<{ sprn::$write }>(value) },)*
                }
            };
        }
        with_vcpu_sprs!(write);
    }

    fn save_vectors(&self, into: &mut VectorState) {
        // SAFETY: stores as many bytes as there are.
        unsafe { save_vector_state_asm(into) };
    }

    fn load_vectors(&self, from: &VectorState) {
        // SAFETY: the hypervisor uses none of these registers.
        unsafe { load_vector_state_asm(from) };
    }

    fn slb_entry(&self, number: usize) -> SlbEntry {
        let (esid, vsid): (u64, u64);
        // SAFETY: reads an entry; there are as many as `SLB_ENTRIES`.
        unsafe {
            asm!("slbmfee {e}, {n}", "slbmfev {v}, {n}", e = out(reg) esid, v = out(reg) vsid,
                n = in(reg) number, options(nomem, nostack, preserves_flags));
        }
        SlbEntry { esid, vsid }
    }

    fn insert_slb_entry(&self, number: usize, entry: SlbEntry) {
        // SAFETY: what slbmfee and slbmfev have given is what slbmte takes; it translates for the
        // guest only.
        unsafe {
            asm!("slbmte {v}, {e}", v = in(reg) entry.vsid, e = in(reg) entry.esid | number as u64,
                options(nostack, preserves_flags));
        }
    }

    fn flush_slb(&self) {
        entry::flush_slb();
    }

    fn set_lpcr(&self, lpcr: Lpcr) {
        // SAFETY: all values come from the constants of `Lpcr` and the modes that a guest may choose.
        unsafe { spr::write::<{ sprn::LPCR }>(lpcr.bits()) };
    }

    fn set_lpid(&self, lpid: Lpid) {
        // SAFETY: the hypervisor itself does not translate.
        unsafe { spr::write::<{ sprn::LPIDR }>(u64::from(lpid.get())) };
    }

    fn flush_local_tlb(&self) {
        let sets = match self.processor {
            Processor::Power9 => 256,
            // One reaches all classes.
            Processor::Power10 => 1,
        };
        for set in 0..sets {
            // SAFETY: dropping a translation only costs a miss.
            unsafe {
                asm!(".long {}", const TLBIEL_R4_R5, in("r4") ALL_OF_PARTITION + set * NEXT_SET,
                    in("r5") 0u64, options(nostack, preserves_flags));
            }
        }
        sync::ptesync();
    }

    fn abort_copy_paste(&self) {
        // SAFETY: cp_abort, which changes no memory.
        unsafe { asm!(".long 0x7c00068c", options(nostack, preserves_flags)) };
    }

    fn drop_reservation(&self) {
        let mut scratch = 0u64;
        // SAFETY: stores to a local variable, if at all.
        unsafe {
            asm!("stdcx. {0}, 0, {1}", in(reg) 0u64, in(reg) &raw mut scratch, out("cr0") _,
                options(nostack));
        }
    }

    fn clear_branch_history(&self) {
        // SAFETY: clrbhrb, which changes no memory.
        unsafe { asm!(".long 0x7c00035c", options(nostack, preserves_flags)) };
    }

    fn isync(&self) {
        sync::isync();
    }
}
