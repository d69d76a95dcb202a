// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Processors that use the table while it changes.
//!
//! Each has a TLB. It sets R and C by byte stores made from the doubleword that it loaded, some time
//! after the access, at the latest when a tlbie for the entry completes. It sees stores of the
//! hypervisor late: in their order only as far as eieio and ptesync order them. After a tlbie it uses
//! the old translation until the tlbsync, and the ptesync after that, are done.
//!
//! Power ISA 3.0B, Book III, Page Table Update Synchronization Requirements; Reference and Change
//! Recording.

use super::super::*;
use penstock_arch::hash::{GuestHpteV, SegmentKey, TlbieRb};
use penstock_arch::tlb::HpteStore;

const R_BYTE: usize = 6;
const C_BYTE: usize = 7;
pub(super) const PROCESSORS: usize = 3;

/// A generator of numbers, Marsaglia's xorshift.
#[derive(Clone, Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed ^ 0x9e37_79b9_7f4a_7c15 | 1)
    }

    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 8) % end
    }

    pub(super) fn index(&mut self, end: usize) -> usize {
        usize::try_from(self.below(end as u64)).unwrap()
    }
}

/// A store of the hypervisor that processors may not see yet.
struct Unseen {
    index: u64,
    is_v: bool,
    old: u64,
    /// How many barriers came before it.
    epoch: u64,
}

/// A translation that a processor holds.
struct Cached {
    processor: usize,
    page: usize,
    index: u64,
    r: HpteR,
    rb: TlbieRb,
    is_doomed: bool,
}

/// A byte that a processor will store.
struct Late {
    index: u64,
    byte: usize,
    value: u8,
    rb: TlbieRb,
    is_doomed: bool,
}

/// A store of the guest that was done.
#[derive(Clone, Copy, Debug)]
pub(super) struct Write {
    pub(super) granule: u64,
    pub(super) index: u64,
    pub(super) time: u64,
}

/// What became of an access.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Access {
    Done,
    /// It waits for the hypervisor. Whether an entry was found.
    Fault(bool),
}

/// How far a flush is.
#[derive(Clone, Copy, PartialEq)]
enum Flush {
    None,
    Begun,
    Fenced,
    Synced,
}

pub(super) struct Hardware {
    mmu: std::sync::Weak<HashMmu<TestMachine>>,
    pub(super) random: Random,
    pub(super) pages: Vec<(Page, u64)>,
    /// Whether the guest may store to each page, without a fault.
    pub(super) may_store: Vec<bool>,
    unseen: Vec<Unseen>,
    epoch: u64,
    cached: Vec<Cached>,
    late: Vec<Late>,
    flush: Flush,
    pub(super) time: u64,
    pub(super) flushed_at: u64,
    /// Stores that no log has told yet.
    pub(super) writes: Vec<Write>,
    /// What went wrong.
    pub(super) error: Option<std::string::String>,
}

impl Hardware {
    pub(super) fn new(p: &Fixture, random: Random, pages: Vec<(Page, u64)>) -> Self {
        Self {
            mmu: Arc::downgrade(&p.mmu),
            random,
            may_store: std::vec![false; pages.len()],
            pages,
            unseen: Vec::new(),
            epoch: 0,
            cached: Vec::new(),
            late: Vec::new(),
            flush: Flush::None,
            time: 0,
            flushed_at: 0,
            writes: Vec::new(),
            error: None,
        }
    }

    fn mmu(&self) -> Arc<HashMmu<TestMachine>> {
        self.mmu.upgrade().unwrap()
    }

    /// The hypervisor takes a step, and then the processors some.
    pub(super) fn after(&mut self, step: Step) {
        self.only_finish(step);
        // The store that was announced is done only when this returns.
        if !matches!(step, Step::Store(_)) {
            for _ in 0..self.random.below(4) {
                self.act();
            }
        }
    }

    /// The hypervisor takes a step, and processors only finish what they began.
    pub(super) fn only_finish(&mut self, step: Step) {
        match step {
            Step::Store(HpteStore::V(index, _)) => {
                let old = self.mmu().table().entry(index).load_v().get();
                self.store(index.get(), true, old);
            }
            Step::Store(HpteStore::R(index, _)) => {
                let old = self.mmu().table().entry(index).load_r().get();
                self.store(index.get(), false, old);
            }
            Step::Store(HpteStore::RByte(..))
            | Step::PateStore(_)
            | Step::TlbiePate(_)
            | Step::EratFixup
            | Step::CpAbort => {}
            Step::Tlbiel(_) => unreachable!("several processors run this partition"),
            Step::Eieio => {
                self.epoch += 1;
                if self.flush == Flush::Begun {
                    self.flush = Flush::Fenced;
                }
            }
            Step::Tlbie(rb, _) => self.doom(Some(rb)),
            Step::TlbieLpid(_) => self.doom(None),
            Step::Tlbsync => {
                if self.flush == Flush::Fenced {
                    self.flush = Flush::Synced;
                }
            }
            Step::Ptesync => {
                self.unseen.clear();
                if self.flush == Flush::Synced {
                    self.complete();
                }
            }
        }
    }

    fn store(&mut self, index: u64, is_v: bool, old: u64) {
        self.unseen.push(Unseen {
            index,
            is_v,
            old,
            epoch: self.epoch,
        });
    }

    fn doom(&mut self, rb: Option<TlbieRb>) {
        let is_meant = |other: TlbieRb| rb.is_none_or(|rb| rb == other);
        for cached in &mut self.cached {
            cached.is_doomed |= is_meant(cached.rb);
        }
        for late in &mut self.late {
            late.is_doomed |= is_meant(late.rb);
        }
        self.flush = Flush::Begun;
    }

    fn complete(&mut self) {
        while let Some(at) = self.late.iter().position(|late| late.is_doomed) {
            self.store_late(at);
        }
        self.cached.retain(|cached| !cached.is_doomed);
        self.flush = Flush::None;
        self.time += 1;
        self.flushed_at = self.time;
    }

    /// Something that any processor may do at any time.
    pub(super) fn act(&mut self) {
        match self.random.below(10) {
            0 => {
                if !self.unseen.is_empty() {
                    let at = self.random.index(self.unseen.len());
                    let first = self.unseen[0].epoch;
                    let chosen = &self.unseen[at];
                    if chosen.epoch == first {
                        let (index, is_v) = (chosen.index, chosen.is_v);
                        self.see(index, is_v);
                    }
                }
            }
            1 => {
                if !self.late.is_empty() {
                    let at = self.random.index(self.late.len());
                    self.store_late(at);
                }
            }
            2 => {
                if !self.cached.is_empty() {
                    let at = self.random.index(self.cached.len());
                    self.cached.swap_remove(at);
                }
            }
            _ => {
                let page = self.random.index(self.pages.len());
                let store = self.random.below(3) != 0;
                // Nobody can help now, so a fault waits.
                let _ = self.access(page, store);
            }
        }
    }

    /// The oldest unseen store to a doubleword is seen from now on.
    fn see(&mut self, index: u64, is_v: bool) {
        let same = |unseen: &Unseen| unseen.index == index && unseen.is_v == is_v;
        if let Some(at) = self.unseen.iter().position(same) {
            self.unseen.remove(at);
        }
    }

    fn store_late(&mut self, at: usize) {
        let late = self.late.swap_remove(at);
        // A doubleword has one order of stores: this one comes after what is there.
        self.unseen
            .retain(|unseen| unseen.index != late.index || unseen.is_v);
        let entry = self.mmu();
        let entry = entry.table().entry(HpteIndex::new(late.index));
        entry.hardware_stores_byte(late.byte, late.value);
        self.time += 1;
    }

    fn seen(&self, index: u64, is_v: bool) -> u64 {
        let same = |unseen: &&Unseen| unseen.index == index && unseen.is_v == is_v;
        match self.unseen.iter().find(same) {
            Some(unseen) => unseen.old,
            None => {
                let mmu = self.mmu();
                let entry = mmu.table().entry(HpteIndex::new(index));
                if is_v {
                    entry.load_v().get()
                } else {
                    entry.load_r().get()
                }
            }
        }
    }

    /// Looks a page up in the table.
    fn walk(&mut self, processor: usize, page: usize) -> bool {
        let (virtual_page, group) = self.pages[page];
        let (wanted, _) = GuestHpteV::new(virtual_page.v()).to_hardware().unwrap();
        let wanted = wanted.with(HpteV::VALID).get();
        for index in group..group + 8 {
            let v = self.seen(index, true);
            if (v ^ wanted) & !0x78 != 0 {
                continue;
            }
            let r = HpteR::new(self.seen(index, false));
            let rb = TlbieRb::of(HpteV::new(v), r, HpteIndex::new(index)).unwrap();
            self.cached.push(Cached {
                processor,
                page,
                index,
                r,
                rb,
                is_doomed: false,
            });
            return true;
        }
        false
    }

    fn find(&self, processor: usize, page: usize) -> Option<usize> {
        let same = |cached: &Cached| cached.processor == processor && cached.page == page;
        self.cached.iter().position(same)
    }

    /// A processor loads from or stores to a page.
    pub(super) fn access(&mut self, page: usize, store: bool) -> Access {
        let processor = self.random.index(PROCESSORS);
        let permits = |r: HpteR| {
            if store {
                r.pp().may_store(SegmentKey::Zero)
            } else {
                r.pp().may_load(SegmentKey::Zero)
            }
        };
        // What is held and does not permit it is looked up again.
        if let Some(at) = self.find(processor, page)
            && !permits(self.cached[at].r)
        {
            self.cached.swap_remove(at);
        }
        if self.find(processor, page).is_none() && !self.walk(processor, page) {
            return Access::Fault(false);
        }
        let at = self.find(processor, page).unwrap();
        if !permits(self.cached[at].r) {
            return Access::Fault(true);
        }
        self.record(at, HpteR::R, R_BYTE);
        if store {
            self.record(at, HpteR::C, C_BYTE);
            self.write(at);
        }
        Access::Done
    }

    fn record(&mut self, at: usize, bit: u64, byte: usize) {
        let cached = &mut self.cached[at];
        if cached.r.get() & bit != 0 {
            return;
        }
        cached.r = cached.r.with(bit);
        self.late.push(Late {
            index: cached.index,
            byte,
            value: cached.r.get().to_be_bytes()[byte],
            rb: cached.rb,
            is_doomed: cached.is_doomed,
        });
    }

    fn write(&mut self, at: usize) {
        let (page, index, r) = (
            self.cached[at].page,
            self.cached[at].index,
            self.cached[at].r,
        );
        if !self.may_store[page] {
            self.error.get_or_insert_with(|| {
                std::format!("a store to page {page} by {r:?}, which has no right to")
            });
        }
        let size = self.pages[page].0.encoding.actual().bytes();
        let granule = (page as u64) << 4 | self.random.below(size >> 12);
        self.time += 1;
        self.writes.push(Write {
            granule,
            index,
            time: self.time,
        });
    }

    /// Stores whose C a processor has not stored yet.
    pub(super) fn is_late(&self, index: u64) -> bool {
        self.late
            .iter()
            .any(|late| late.index == index && late.byte == C_BYTE)
    }
}
