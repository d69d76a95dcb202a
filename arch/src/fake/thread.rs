// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A hardware thread with registers, that records what is done to it.

use super::std::boxed::Box;
use super::std::cell::{Cell, RefCell};
use super::std::vec::Vec;
use crate::hash::Lpid;
use crate::regs::{Lpcr, Processor, VcpuSpr};
use crate::switch::{SLB_ENTRIES, SlbEntry, Thread, VectorState};

/// One thing that was done to the thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of the methods")]
pub enum ThreadStep {
    ReadDecrementer,
    SetDecrementer(u64),
    Read(VcpuSpr),
    Write(VcpuSpr, u64),
    SaveVectors,
    LoadVectors,
    SlbEntry(usize),
    InsertSlbEntry(usize, SlbEntry),
    FlushSlb,
    SetLpcr(Lpcr),
    SetLpid(Lpid),
    FlushLocalTlb,
    AbortCopyPaste,
    DropReservation,
    ClearBranchHistory,
    Isync,
}

/// The thread. It has the registers of all processors; which of them are used is what tests ask.
pub struct RecordingThread {
    processor: Processor,
    steps: RefCell<Vec<ThreadStep>>,
    timebase: Cell<u64>,
    /// The time base at which the decrementer is 0.
    decrementer_zero: Cell<u64>,
    sprs: RefCell<[u64; VcpuSpr::COUNT]>,
    vectors: RefCell<Box<VectorState>>,
    slb: RefCell<[SlbEntry; SLB_ENTRIES]>,
}

impl RecordingThread {
    /// A thread of this processor, all registers zero.
    #[must_use]
    pub fn new(processor: Processor) -> Self {
        Self {
            processor,
            steps: RefCell::default(),
            timebase: Cell::new(0),
            decrementer_zero: Cell::new(0),
            sprs: RefCell::new([0; VcpuSpr::COUNT]),
            vectors: RefCell::default(),
            slb: RefCell::new([SlbEntry::default(); SLB_ENTRIES]),
        }
    }

    /// What was done since the last call.
    pub fn take(&self) -> Vec<ThreadStep> {
        self.steps.take()
    }

    /// Sets the time base.
    pub fn set_timebase(&self, ticks: u64) {
        self.timebase.set(ticks);
    }

    /// A register's value, without a record.
    #[must_use]
    pub fn peek(&self, spr: VcpuSpr) -> u64 {
        self.sprs.borrow()[spr as usize]
    }

    /// Changes a register, as a guest does.
    pub fn poke(&self, spr: VcpuSpr, value: u64) {
        self.sprs.borrow_mut()[spr as usize] = value;
    }

    /// Changes the vector registers, as a guest does.
    pub fn poke_vectors(&self, vectors: &VectorState) {
        self.vectors
            .borrow_mut()
            .clone_from(&Box::new(vectors.clone()));
    }

    /// Changes an entry of the SLB, as a guest does.
    pub fn poke_slb(&self, number: usize, entry: SlbEntry) {
        self.slb.borrow_mut()[number] = entry;
    }

    /// The SLB, without a record.
    #[must_use]
    pub fn peek_slb(&self) -> [SlbEntry; SLB_ENTRIES] {
        *self.slb.borrow()
    }

    fn record(&self, step: ThreadStep) {
        self.steps.borrow_mut().push(step);
    }
}

impl Thread for RecordingThread {
    fn processor(&self) -> Processor {
        self.processor
    }

    fn timebase(&self) -> u64 {
        self.timebase.get()
    }

    fn decrementer(&self) -> u64 {
        self.record(ThreadStep::ReadDecrementer);
        self.decrementer_zero
            .get()
            .wrapping_sub(self.timebase.get())
    }

    fn set_decrementer(&self, ticks: u64) {
        self.record(ThreadStep::SetDecrementer(ticks));
        self.decrementer_zero
            .set(self.timebase.get().wrapping_add(ticks));
    }

    fn read(&self, spr: VcpuSpr) -> u64 {
        self.record(ThreadStep::Read(spr));
        self.peek(spr)
    }

    fn write(&self, spr: VcpuSpr, value: u64) {
        self.record(ThreadStep::Write(spr, value));
        self.poke(spr, value);
    }

    fn save_vectors(&self, into: &mut VectorState) {
        self.record(ThreadStep::SaveVectors);
        into.clone_from(&self.vectors.borrow());
    }

    fn load_vectors(&self, from: &VectorState) {
        self.record(ThreadStep::LoadVectors);
        self.poke_vectors(from);
    }

    fn slb_entry(&self, number: usize) -> SlbEntry {
        self.record(ThreadStep::SlbEntry(number));
        self.slb.borrow()[number]
    }

    fn insert_slb_entry(&self, number: usize, entry: SlbEntry) {
        self.record(ThreadStep::InsertSlbEntry(number, entry));
        self.poke_slb(number, entry);
    }

    fn flush_slb(&self) {
        self.record(ThreadStep::FlushSlb);
        *self.slb.borrow_mut() = [SlbEntry::default(); SLB_ENTRIES];
    }

    fn set_lpcr(&self, lpcr: Lpcr) {
        self.record(ThreadStep::SetLpcr(lpcr));
    }

    fn set_lpid(&self, lpid: Lpid) {
        self.record(ThreadStep::SetLpid(lpid));
    }

    fn flush_local_tlb(&self) {
        self.record(ThreadStep::FlushLocalTlb);
    }

    fn abort_copy_paste(&self) {
        self.record(ThreadStep::AbortCopyPaste);
    }

    fn drop_reservation(&self) {
        self.record(ThreadStep::DropReservation);
    }

    fn clear_branch_history(&self) {
        self.record(ThreadStep::ClearBranchHistory);
    }

    fn isync(&self) {
        self.record(ThreadStep::Isync);
    }
}
