// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The state of a virtual processor.
//!
//! What a tool gives is checked here as far as the record alone tells: nothing that is accepted can
//! give a guest more than its own calls and instructions could.

use super::{Wire, bad_value, record};
use crate::control::error::{Reason, RecordError};
use crate::vpa::is_loadable_slb_entry;
use core::mem::offset_of;
use penstock_arch::regs::{Lpcr, Msr, sprn};
use zerocopy::byteorder::big_endian::{U16, U32, U64};

/// Most special purpose registers in a [`VcpuState`].
pub const MAX_SPRS: usize = 96;
/// Entries of the segment lookaside buffer in a [`VcpuState`].
pub const SLB_SLOTS: usize = 32;

/// Parts of a [`VectorState`], as bits.
pub mod parts {
    /// FPR 0 to 31, which are doubleword 0 of VSR 0 to 31, and FPSCR.
    pub const FP: u32 = 1;
    /// VR 0 to 31, which are VSR 32 to 63, and VSCR.
    pub const VMX: u32 = 2;
    /// Doubleword 1 of VSR 0 to 31.
    pub const VSX: u32 = 4;
    /// All of them.
    pub const ALL: u32 = FP | VMX | VSX;
}

/// What a virtual processor does when its partition is resumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum RunState {
    /// It goes on.
    Runnable = 1,
    /// It waits in H_CEDE for an interrupt or a prod.
    Ceded = 2,
    /// It was never started, or stopped itself by RTAS.
    Stopped = 3,
    /// It waits in H_JOIN, or H_CONFER to itself, for a prod.
    Joined = 4,
}

record! {
    /// A special purpose register.
    part Spr, 16 {
        /// Its number, by which mfspr reads it.
        0 number: U16,
        /// Zero.
        2 reserved: [u8; 6] = padding,
        /// Its value.
        8 value: U64,
    }
}

impl Wire for Spr {
    const UNIT: usize = 8;
}

record! {
    /// Registers of a virtual processor. A [`VectorState`] follows where `parts` is not 0.
    VcpuState, 2456, check VcpuState::check_values;
    {
        /// Its number, as in r8.
        8 vcpu: U32,
        /// Parts of the [`VectorState`] that follows, as in [`parts`]; 0 where none does.
        12 parts: U32,
        /// A [`RunState`].
        16 run_state: U32,
        /// How many entries of `sprs` are used.
        20 spr_count: U32,
        /// Address of the next instruction.
        24 pc: U64,
        /// Machine state register.
        32 msr: U64,
        /// Link register.
        40 lr: U64,
        /// Count register.
        48 ctr: U64,
        /// Fixed-point exception register.
        56 xer: U64,
        /// Condition register, in the lower word.
        64 cr: U64,
        /// Come-from address register.
        72 cfar: U64,
        /// ILE and AIL, as the LPCR has them; the rest of it is the hypervisor's.
        80 lpcr: U64,
        /// The partition's time base when the state was taken.
        88 timebase: U64,
        /// The partition's time base at which the decrementer expires.
        96 decrementer_expiry: U64,
        /// Virtual processor area: guest real address, 0 where none is registered.
        104 vpa: U64,
        /// Its bytes.
        112 vpa_bytes: U64,
        /// SLB shadow buffer: guest real address, 0 where none is registered.
        120 slb_shadow: U64,
        /// Its bytes.
        128 slb_shadow_bytes: U64,
        /// Dispatch trace log: guest real address, 0 where none is registered.
        136 dispatch_log: U64,
        /// Its bytes.
        144 dispatch_log_bytes: U64,
        /// General purpose registers.
        152 gpr: [U64; 32],
        /// Segment lookaside buffer: of each entry what slbmfee gives, and what slbmfev gives.
        408 slb: [[U64; 2]; SLB_SLOTS],
        /// Special purpose registers that have no field of their own, in any order.
        920 sprs: [Spr; MAX_SPRS],
    }
}

const WORD: u64 = 0xffff_ffff;

impl VcpuState {
    /// Bits of the MSR that a guest can have.
    pub(in crate::control) const GUEST_MSR: Msr = Msr::SF
        .union(Msr::VEC)
        .union(Msr::VSX)
        .union(Msr::EE)
        .union(Msr::PR)
        .union(Msr::FP)
        .union(Msr::ME)
        .union(Msr::FE0)
        .union(Msr::TE)
        .union(Msr::FE1)
        .union(Msr::IR)
        .union(Msr::DR)
        .union(Msr::PMM)
        .union(Msr::RI)
        .union(Msr::LE);

    /// The registers that are used.
    #[must_use]
    pub fn used_sprs(&self) -> &[Spr] {
        let used = usize::try_from(self.spr_count.get()).unwrap_or(MAX_SPRS);
        self.sprs.get(..used).unwrap_or(&self.sprs)
    }

    /// Adds a register; whether there was room.
    #[must_use]
    pub fn push_spr(&mut self, number: u16, value: u64) -> bool {
        let used = self.spr_count.get();
        let place = usize::try_from(used)
            .ok()
            .and_then(|used| self.sprs.get_mut(used));
        let Some(place) = place else {
            return false;
        };
        *place = Spr {
            number: U16::new(number),
            reserved: [0; 6],
            value: U64::new(value),
        };
        self.spr_count = U32::new(used + 1);
        true
    }

    /// Where entry `index` of [`Self::sprs`] lies in the record, for errors.
    #[must_use]
    pub const fn spr_offset(index: usize) -> usize {
        offset_of!(Self, sprs) + index * size_of::<Spr>()
    }

    fn check_values(&self) -> Result<(), RecordError> {
        if self.parts.get() & !parts::ALL != 0 {
            return Err(bad_value!(Self, parts));
        }
        if !(RunState::Runnable as u32..=RunState::Joined as u32).contains(&self.run_state.get()) {
            return Err(bad_value!(Self, run_state));
        }
        let msr = Msr::from_bits_retain(self.msr.get());
        // A guest without ME could never set it again, and its next machine check would stop the
        // machine.
        if msr.bits() & !Self::GUEST_MSR.bits() != 0 || !msr.contains(Msr::ME) {
            return Err(bad_value!(Self, msr));
        }
        if self.xer.get() > WORD {
            return Err(bad_value!(Self, xer));
        }
        if self.cr.get() > WORD {
            return Err(bad_value!(Self, cr));
        }
        let lpcr = Lpcr::from_bits_retain(self.lpcr.get());
        let ail = lpcr & Lpcr::AIL3;
        if !(Lpcr::ILE | Lpcr::AIL3).contains(lpcr) || !(ail.is_empty() || ail == Lpcr::AIL3) {
            return Err(bad_value!(Self, lpcr));
        }
        self.check_slb()?;
        self.check_sprs()
    }

    fn check_slb(&self) -> Result<(), RecordError> {
        for (index, [esid, vsid]) in self.slb.iter().enumerate() {
            let unused = esid.get() == 0 && vsid.get() == 0;
            if !unused && !is_loadable_slb_entry(esid.get(), vsid.get()) {
                let offset = offset_of!(Self, slb) + 16 * index;
                return Err(RecordError::new(offset, Reason::Value));
            }
        }
        Ok(())
    }

    fn check_sprs(&self) -> Result<(), RecordError> {
        const SPR_NUMBERS: usize = 1024;
        let used = self.used_sprs().len();
        if self.spr_count.get() as usize != used {
            return Err(bad_value!(Self, spr_count));
        }
        let mut seen = [false; SPR_NUMBERS];
        for (index, spr) in self.sprs.iter().enumerate() {
            let bad =
                |field, reason| Err(RecordError::new(Self::spr_offset(index) + field, reason));
            if spr.reserved != [0; 6] {
                return bad(offset_of!(Spr, reserved), Reason::Padding);
            }
            let (number, value) = (spr.number.get(), spr.value.get());
            if index >= used {
                if (number, value) != (0, 0) {
                    return bad(offset_of!(Spr, number), Reason::Padding);
                }
                continue;
            }
            match seen.get_mut(usize::from(number)) {
                Some(seen) if !*seen => *seen = true,
                _ => return bad(offset_of!(Spr, number), Reason::Value),
            }
            if !is_guest_value(number, value) {
                return bad(offset_of!(Spr, value), Reason::Value);
            }
        }
        Ok(())
    }
}

/// Whether a guest may have this in that register, where an instruction of its own could not have
/// put everything there. Which registers a guest has at all, the partition knows.
fn is_guest_value(number: u16, value: u64) -> bool {
    /// CIABR: match in hypervisor state.
    const PRIV_HYPERVISOR: u64 = 3;
    /// DAWRX: match in hypervisor state.
    const HYPERVISOR: u64 = 1 << 2;
    match number {
        sprn::CIABR => value & 3 != PRIV_HYPERVISOR,
        sprn::DAWRX0 | sprn::DAWRX1 => value & (HYPERVISOR | !WORD) == 0,
        sprn::DSISR | sprn::VRSAVE | sprn::PSPB => value <= WORD,
        _ => true,
    }
}

record! {
    /// Floating-point and vector registers. Parts that are not offered, or were not asked for, are
    /// zero.
    VectorState, 1056, check VectorState::check_values;
    {
        /// Floating-point status and control register.
        8 fpscr: U64,
        /// Vector status and control register, in the lowest word.
        16 vscr: U64,
        /// Zero.
        24 reserved: [u8; 8] = padding,
        /// VSR 0 to 63, of each doubleword 0 and doubleword 1. FPR n is doubleword 0 of VSR n; VR n
        /// is VSR 32 + n.
        32 vsr: [[U64; 2]; 64],
    }
}

impl VectorState {
    fn check_values(&self) -> Result<(), RecordError> {
        if self.vscr.get() > WORD {
            return Err(bad_value!(Self, vscr));
        }
        Ok(())
    }

    /// Clears what does not belong to `wanted`.
    pub fn keep_only(&mut self, wanted: u32) {
        let zero = U64::new(0);
        if wanted & parts::FP == 0 {
            self.fpscr = zero;
        }
        if wanted & parts::VMX == 0 {
            self.vscr = zero;
        }
        for (index, register) in self.vsr.iter_mut().enumerate() {
            for (doubleword, part) in register.iter_mut().zip(Self::parts_of_vsr(index)) {
                if wanted & part == 0 {
                    *doubleword = zero;
                }
            }
        }
    }

    /// Whether what does not belong to `given` is zero.
    #[must_use]
    pub fn has_only(&self, given: u32) -> bool {
        let mut kept = *self;
        kept.keep_only(given);
        kept == *self
    }

    /// The parts to which both doublewords of a vector-scalar register belong.
    pub(in crate::control) const fn parts_of_vsr(index: usize) -> [u32; 2] {
        if index < 32 {
            [parts::FP, parts::VSX]
        } else {
            [parts::VMX, parts::VMX]
        }
    }
}
