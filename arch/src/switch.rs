// SPDX-License-Identifier: Apache-2.0 OR MIT
//! From one virtual processor to another, on one hardware thread.
//!
//! While a guest runs, and while the hypervisor works for it, most of what the guest owns stays in
//! the machine. [`leave`] takes it out, [`enter`] puts that of another one in, and [`park`] is for
//! a thread that has none. Emulators forgive nearly all that could be forgotten here, so each step
//! goes through [`Thread`], whose recorder (in `fake`) lets the host tests see them all.
//!
//! Interrupt context, HDEC and the registers that the entry code moves are not part of this.
//!
//! Power ISA 3.0B, Book III, Synchronization Requirements for Context Alterations; Book II, Copy-Paste
//! Facility, Load And Reserve; POWER9 Processor User's Manual, Segment Lookaside Buffer.

#[cfg(test)]
mod tests;

use crate::addr::EffectiveAddr;
use crate::hash::{Asdr, Lpid};
use crate::regs::vcpu_spr::Policy;
use crate::regs::{Lpcr, Processor, VcpuSpr};
use core::mem::offset_of;

/// Entries of the segment lookaside buffer of POWER9 and POWER10.
pub const SLB_ENTRIES: usize = 32;

/// V of an entry's ESID doubleword.
const SLB_VALID: u64 = 0x0800_0000;

/// The decrementer of a fresh virtual processor: far from expiry, also for a guest that believes
/// that it has 32 bits.
pub const DECREMENTER_START: u64 = 0x7fff_ffff;

/// An entry of the segment lookaside buffer as slbmfee and slbmfev give it, and slbmte takes it but
/// for the entry's number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct SlbEntry {
    /// ESID and V.
    pub esid: u64,
    /// VSID, protection and page size.
    pub vsid: u64,
}

impl SlbEntry {
    /// Whether it translates anything.
    #[must_use]
    pub const fn is_valid(self) -> bool {
        self.esid & SLB_VALID != 0
    }

    /// Its segment's descriptor.
    #[must_use]
    pub const fn descriptor(self) -> Asdr {
        Asdr::new(self.vsid)
    }

    /// Whether it translates this address.
    #[must_use]
    pub const fn covers(self, ea: EffectiveAddr) -> bool {
        let shift = self.descriptor().segment().shift();
        self.is_valid() && (self.esid ^ ea.get()) >> shift == 0
    }
}

/// The vector-scalar registers, which contain the floating-point and vector ones, and their status.
#[derive(Clone, Debug, PartialEq, Eq)]
#[repr(C, align(16))]
pub struct VectorState {
    /// VSR 0 to 63; FPR n is the upper half of VSR n, VR n is VSR 32 + n.
    pub vsr: [u128; 64],
    /// FPSCR, in the lower doubleword.
    pub fpscr: [u64; 2],
    /// VSCR, in the lowest word.
    pub vscr: u128,
}

impl VectorState {
    /// All zero.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            vsr: [0; 64],
            fpscr: [0; 2],
            vscr: 0,
        }
    }
}

impl Default for VectorState {
    fn default() -> Self {
        Self::new()
    }
}

const _: () = {
    assert!(offset_of!(VectorState, vsr) == 0);
    assert!(offset_of!(VectorState, fpscr) == 1024);
    assert!(offset_of!(VectorState, vscr) == 1040);
    assert!(size_of::<VectorState>() == 1056);
    assert!(size_of::<SlbEntry>() == 16);
};

/// What a virtual processor owns of the machine, while it is not on a thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParkedState {
    sprs: [u64; VcpuSpr::COUNT],
    /// The time base at which the decrementer expires (design decision 16).
    pub decrementer_expiry: u64,
    /// Floating-point and vector registers.
    pub vectors: VectorState,
    /// The segment lookaside buffer.
    pub slb: [SlbEntry; SLB_ENTRIES],
}

impl ParkedState {
    /// A virtual processor that has never run, at this time.
    #[must_use]
    pub fn new(processor: Processor, timebase: u64) -> Self {
        let mut state = Self {
            sprs: [0; VcpuSpr::COUNT],
            decrementer_expiry: timebase.wrapping_add(DECREMENTER_START),
            vectors: VectorState::new(),
            slb: [SlbEntry::default(); SLB_ENTRIES],
        };
        for spr in VcpuSpr::of(processor) {
            if let Policy::Switched { start, .. } = spr.policy(processor) {
                state.set_spr(spr, start);
            }
        }
        state
    }

    /// The descriptor of the segment that an address is in; `None` is a segment fault.
    #[must_use]
    pub fn segment_of(&self, ea: EffectiveAddr) -> Option<Asdr> {
        let entry = self.slb.iter().find(|entry| entry.covers(ea))?;
        Some(entry.descriptor())
    }

    /// A special purpose register that is the guest's.
    #[must_use]
    pub fn spr(&self, spr: VcpuSpr) -> u64 {
        self.sprs.get(spr as usize).copied().unwrap_or(0)
    }

    /// Changes a special purpose register that is the guest's.
    pub fn set_spr(&mut self, spr: VcpuSpr, value: u64) {
        if let Some(place) = self.sprs.get_mut(spr as usize) {
            *place = value;
        }
    }
}

/// The hardware thread that changes its virtual processor, step by step.
pub trait Thread {
    /// Which registers it has.
    fn processor(&self) -> Processor;
    /// The time base.
    fn timebase(&self) -> u64;
    /// The decrementer.
    fn decrementer(&self) -> u64;
    /// Sets the decrementer.
    fn set_decrementer(&self, ticks: u64);
    /// Reads a special purpose register.
    fn read(&self, spr: VcpuSpr) -> u64;
    /// Writes a special purpose register.
    fn write(&self, spr: VcpuSpr, value: u64);
    /// Copies floating-point and vector registers out.
    fn save_vectors(&self, into: &mut VectorState);
    /// Puts floating-point and vector registers in.
    fn load_vectors(&self, from: &VectorState);
    /// `slbmfee`, `slbmfev`.
    fn slb_entry(&self, number: usize) -> SlbEntry;
    /// `slbmte`.
    fn insert_slb_entry(&self, number: usize, entry: SlbEntry);
    /// `slbmte` of an empty entry 0, `slbia`: no segment is left, and nothing derived from one.
    fn flush_slb(&self);
    /// Writes LPCR.
    fn set_lpcr(&self, lpcr: Lpcr);
    /// Writes LPIDR.
    fn set_lpid(&self, lpid: Lpid);
    /// `tlbiel` of everything of the partition in LPIDR, and `ptesync`.
    fn flush_local_tlb(&self);
    /// `cp_abort`: what was copied and not pasted is forgotten.
    fn abort_copy_paste(&self);
    /// A `stdcx.` that nobody waits for: a reservation is given up.
    fn drop_reservation(&self);
    /// `clrbhrb`: the branches that the performance monitor has recorded are forgotten.
    fn clear_branch_history(&self);
    /// `isync`.
    fn isync(&self);
}

/// Whether a partition has run on this thread since it was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstEntry {
    /// Not yet: an earlier partition of the same number may have left translations behind.
    Yes,
    /// It has.
    No,
}

/// Takes the virtual processor that is on the thread out of it.
///
/// Afterwards breakpoints are off and the performance monitor stands still; the rest of the
/// guest's values is still in the machine, and goes when the next one is [entered](enter) or the
/// thread is [parked](park).
pub fn leave(thread: &impl Thread, state: &mut ParkedState) {
    let processor = thread.processor();
    let left = thread.decrementer();
    state.decrementer_expiry = thread.timebase().wrapping_add(left);
    for spr in VcpuSpr::MONITOR_CONTROL.into_iter().rev() {
        save(thread, spr, state);
    }
    // The counters are read when they have come to a stop. What counts time is read in the order
    // in which it is written: QEMU has one clock for PURR and SPURR, which must not run backwards.
    thread.isync();
    for spr in VcpuSpr::of(processor) {
        if !VcpuSpr::MONITOR_CONTROL.contains(&spr) {
            save(thread, spr, state);
        }
    }
    thread.save_vectors(&mut state.vectors);
    for (number, entry) in state.slb.iter_mut().enumerate() {
        *entry = thread.slb_entry(number);
    }
}

fn save(thread: &impl Thread, spr: VcpuSpr, state: &mut ParkedState) {
    if let Policy::Switched { parked, .. } = spr.policy(thread.processor()) {
        state.set_spr(spr, thread.read(spr));
        if let Some(value) = parked {
            thread.write(spr, value);
        }
    }
}

/// Puts a virtual processor on the thread, from which the last one was taken by [`leave`] or
/// [`park`]. Nothing that this one had is left afterwards.
pub fn enter(thread: &impl Thread, state: &ParkedState, lpcr: Lpcr, lpid: Lpid, first: FirstEntry) {
    let processor = thread.processor();
    thread.abort_copy_paste();
    thread.drop_reservation();
    thread.set_lpcr(lpcr);
    thread.set_lpid(lpid);
    thread.isync();
    if first == FirstEntry::Yes {
        // It takes the partition's number from LPIDR.
        thread.flush_local_tlb();
    }
    thread.flush_slb();
    for (number, entry) in state.slb.iter().enumerate() {
        // Empty ones too: QEMU lets slbmfev see what was in them.
        let entry = if entry.is_valid() {
            *entry
        } else {
            SlbEntry::default()
        };
        thread.insert_slb_entry(number, entry);
    }
    thread.load_vectors(&state.vectors);
    thread.clear_branch_history();
    for spr in VcpuSpr::of(processor) {
        let value = match spr.policy(processor) {
            Policy::Switched { .. } => state.spr(spr),
            Policy::Fixed(value) => value,
        };
        thread.write(spr, value);
    }
    thread.set_decrementer(state.decrementer_expiry.wrapping_sub(thread.timebase()));
    thread.isync();
}

/// Leaves the thread without any virtual processor or partition, after [`leave`], or instead of it
/// where the virtual processor is not to come back.
pub fn park(thread: &impl Thread) {
    let processor = thread.processor();
    for spr in VcpuSpr::MONITOR_CONTROL
        .into_iter()
        .rev()
        .chain(VcpuSpr::of(processor))
    {
        if let Policy::Switched {
            parked: Some(value),
            ..
        } = spr.policy(processor)
        {
            thread.write(spr, value);
        }
    }
    thread.set_lpcr(Lpcr::HYPERVISOR);
    thread.set_lpid(Lpid::HYPERVISOR);
    thread.isync();
    thread.flush_slb();
}
