// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A partition of plain vectors, for tests of the interface.
//!
//! It does what [`Controlled`] says in the simplest way, keeps a list of what was asked of it, and
//! panics where the interface asks for what its rules forbid.

extern crate std;

mod stream;

use self::stream::{decode, encode};
use super::function::Feature;
use super::invalidation::{Invalidation, Plan};
use super::records::{MAX_SPRS, RunState, VcpuState, VectorState};
use super::session::{Dirty, Halted, Runnable, Session};
use super::target::{
    Access, Controlled, Directory, Features, Harvest, Harvested, HeaderOrder, Logging, Offer,
    STREAM_READERS, SlotInfo, SlotKind, StreamFilter, StreamPiece, Suspension, Take, TargetError,
};
use crate::control::error::{Reason, RecordError};
use core::cell::RefCell;
use penstock_arch::addr::GuestReal;
use penstock_mm::hpt::HptStats;
use spin::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::string::String;
use std::vec;
use std::vec::Vec;
use zerocopy::FromZeros;
use zerocopy::byteorder::big_endian::{U32, U64};

/// Entries of a fake's page table: more than one call looks at.
pub const FAKE_ENTRIES: usize = 3 * 4096;
/// Above this many entries the fake wants everything flushed.
pub const FAKE_THRESHOLD: u32 = 32;
/// V of an entry's doubleword 0.
pub const VALID: u64 = 1;
/// The guest's mark of entries that must stay.
pub const BOLTED: u64 = 0x10;
/// The special purpose registers that a fake's virtual processors have.
pub const FAKE_SPRS: [u16; 4] = [26, 27, 187, 272];

/// What was asked of a fake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// A dirty log was switched.
    Log(u32, Logging),
    /// Single translations were dropped, so many.
    FlushedSingle(u64),
    /// All translations were dropped.
    FlushedEverything,
    /// A reader was closed.
    CloseReader(usize),
    /// Suspended.
    Suspend,
    /// Changes were committed.
    Commit,
    /// Resumed.
    Resume,
}

/// A reader of the stream.
#[derive(Clone, Debug)]
pub struct FakeReader {
    order: HeaderOrder,
    filter: StreamFilter,
    next: usize,
    first_pass: bool,
    changed: BTreeSet<usize>,
}

/// What a fake has. Tests set it as they like.
#[derive(Debug)]
pub struct FakeState {
    /// What it offers.
    pub offer: Offer,
    /// Its slots.
    pub slots: Vec<SlotInfo>,
    /// Dirty logs of the slots that have one.
    pub logs: Vec<Option<Vec<bool>>>,
    /// C bits that nobody has harvested: slot, page, entry of the page table.
    pub hardware: Vec<(u32, u64, u64)>,
    /// The page table, as the guest sees it: the entries that it has.
    pub hpt: BTreeMap<usize, [u64; 2]>,
    /// Readers of its stream.
    pub readers: Vec<Option<FakeReader>>,
    /// Its virtual processors.
    pub vcpus: Vec<(VcpuState, VectorState)>,
    /// Virtual processors may be in the guest.
    pub running: bool,
    /// SUSPEND is underway.
    pub stopping: bool,
    /// How many more times SUSPEND is not finished.
    pub slow: u32,
    /// Something was changed and not committed.
    pub uncommitted: bool,
    /// What was asked.
    pub asked: Vec<Asked>,
    /// What the next method that can fail answers.
    pub fail: Option<TargetError>,
    /// Entry that the checker finds bad.
    pub bad_entry: Option<u64>,
}

/// A partition of plain vectors.
#[derive(Debug)]
pub struct Fake {
    session: Mutex<Session>,
    number: u32,
    name: String,
    state: RefCell<FakeState>,
}

impl Fake {
    /// A partition that runs, with three slots, two virtual processors and an empty page table.
    #[must_use]
    pub fn new(number: u32) -> Self {
        let all = Feature::ALL.iter();
        let features = all.fold(Features::NONE, |features, (feature, ..)| {
            features.with(*feature)
        });
        let slots = vec![
            SlotInfo {
                kind: SlotKind::Memory,
                guest_address: GuestReal::new(0),
                // Not a multiple of 64 pages.
                bytes: 1000 << 12,
                page_shift: 24,
                dirty_shift: Some(12),
                access: Access::ReadWrite,
            },
            SlotInfo {
                kind: SlotKind::Framebuffer { row_bytes: 2560 },
                guest_address: GuestReal::new(0x7_0000_0000_0000),
                bytes: 130 << 16,
                page_shift: 16,
                dirty_shift: Some(16),
                access: Access::ReadWrite,
            },
            SlotInfo {
                kind: SlotKind::Device,
                guest_address: GuestReal::new(0x6030_2031_8000),
                bytes: 0x1_0000,
                page_shift: 16,
                dirty_shift: None,
                access: Access::ReadOnly,
            },
        ];
        let offer = Offer {
            features,
            slots: 3,
            vcpus: 2,
            page_sizes: 1 << 12 | 1 << 16 | 1 << 24,
            dirty_page_sizes: 1 << 12 | 1 << 16,
            hpt_entries: FAKE_ENTRIES as u64,
            flush_threshold: FAKE_THRESHOLD,
        };
        let vcpus = (0..offer.vcpus).map(|vcpu| (fresh_vcpu(vcpu), VectorState::new_zeroed()));
        let state = FakeState {
            offer,
            logs: slots.iter().map(|_| None).collect(),
            slots,
            hardware: Vec::new(),
            hpt: BTreeMap::new(),
            readers: vec![None; STREAM_READERS],
            vcpus: vcpus.collect(),
            running: true,
            stopping: false,
            slow: 0,
            uncommitted: false,
            asked: Vec::new(),
            fail: None,
            bad_entry: None,
        };
        Self {
            session: Mutex::new(Session::new()),
            number,
            name: std::format!("fake-{number}"),
            state: RefCell::new(state),
        }
    }

    /// What it has.
    ///
    /// # Panics
    /// It is looked at already.
    pub fn state(&self) -> core::cell::RefMut<'_, FakeState> {
        self.state.borrow_mut()
    }

    fn may_fail(&self) -> Result<(), TargetError> {
        self.state().fail.take().map_or(Ok(()), Err)
    }
}

fn fresh_vcpu(vcpu: u32) -> VcpuState {
    use super::records::Record;
    let mut state = VcpuState::blank();
    state.vcpu = U32::new(vcpu);
    state.run_state = U32::new(RunState::Runnable as u32);
    state.msr = U64::new(0x8000_0000_0000_1000);
    for number in FAKE_SPRS {
        assert!(state.push_spr(number, 0));
    }
    state
}

impl FakeState {
    /// The guest makes an entry, or drops it.
    pub fn set_entry(&mut self, index: usize, entry: Option<[u64; 2]>) {
        assert!(index < FAKE_ENTRIES);
        let before = match entry {
            Some(entry) => self.hpt.insert(index, entry),
            None => self.hpt.remove(&index),
        };
        if before.is_some() || entry.is_some() {
            for reader in self.readers.iter_mut().flatten() {
                reader.changed.insert(index);
            }
        }
    }

    /// The guest writes a page, which the hardware notes in an entry of the page table.
    pub fn touch(&mut self, slot: u32, page: u64, entry: u64) {
        self.hardware.push((slot, page, entry));
    }

    /// A change by a tool.
    fn change(&mut self) {
        assert!(!self.running, "changed while virtual processors run");
        self.uncommitted = true;
    }
}

impl Controlled for Fake {
    type Violation = String;

    fn session(&self) -> &Mutex<Session> {
        &self.session
    }

    fn number(&self) -> u32 {
        self.number
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn offer(&self) -> Offer {
        self.state().offer
    }

    fn slot(&self, slot: u32) -> Option<SlotInfo> {
        self.state().slots.get(slot as usize).copied()
    }

    fn set_dirty_log(&self, slot: u32, logging: Logging) -> Result<(), TargetError> {
        self.may_fail()?;
        let mut state = self.state();
        let (_, pages) = state.slots[slot as usize].log().unwrap();
        let log = &mut state.logs[slot as usize];
        match logging {
            Logging::Off => *log = None,
            Logging::On if log.is_none() => *log = Some(vec![false; pages as usize]),
            Logging::On => {}
        }
        state.asked.push(Asked::Log(slot, logging));
        Ok(())
    }

    fn harvest_end(&self, _: u32) -> u64 {
        FAKE_ENTRIES as u64
    }

    fn harvest(
        &self,
        slot: u32,
        _how: Harvest,
        from: u64,
        entries: u64,
    ) -> Result<Harvested, TargetError> {
        self.may_fail()?;
        let mut state = self.state();
        let end = from.saturating_add(entries).min(FAKE_ENTRIES as u64);
        let mut found = 0;
        let state = &mut *state;
        let log = state.logs[slot as usize]
            .as_mut()
            .expect("harvest without log");
        state.hardware.retain(|(of, page, entry)| {
            let here = *of == slot && (from..end).contains(entry);
            if here && !core::mem::replace(&mut log[*page as usize], true) {
                found += 1;
            }
            !here
        });
        let next = (end < FAKE_ENTRIES as u64).then_some(end);
        Ok(Harvested { next, found })
    }

    fn fetch_dirty(
        &self,
        slot: u32,
        first_page: u64,
        take: Take,
        bitmap: &mut [u8],
    ) -> Result<u64, TargetError> {
        assert_eq!(first_page % 64, 0);
        assert!(bitmap.iter().all(|byte| *byte == 0));
        self.may_fail()?;
        let mut state = self.state();
        let log = state.logs[slot as usize]
            .as_mut()
            .expect("fetch without log");
        let first = first_page as usize;
        assert!(first + 8 * bitmap.len() < log.len() + 8, "beyond the slot");
        let mut dirty = 0;
        for (place, page) in log[first..].iter_mut().take(8 * bitmap.len()).enumerate() {
            if *page {
                dirty += 1;
                bitmap[place / 8] |= 1 << (place % 8);
                *page = take == Take::Keep;
            }
        }
        Ok(dirty)
    }

    fn open_reader(
        &self,
        reader: usize,
        order: HeaderOrder,
        filter: StreamFilter,
    ) -> Result<(), TargetError> {
        self.may_fail()?;
        let mut state = self.state();
        assert!(state.readers[reader].is_none(), "opened twice");
        state.readers[reader] = Some(FakeReader {
            order,
            filter,
            next: 0,
            first_pass: true,
            changed: BTreeSet::new(),
        });
        Ok(())
    }

    fn read_stream(
        &self,
        reader: usize,
        entries: u64,
        into: &mut [u8],
    ) -> Result<StreamPiece, TargetError> {
        assert!(into.len() >= 24, "no room for an entry");
        self.may_fail()?;
        let mut state = self.state();
        let state = &mut *state;
        let reader = state.readers[reader].as_mut().expect("not open");
        let end = (reader.next + entries as usize).min(FAKE_ENTRIES);
        let mut bytes = 0;
        let told: Vec<usize> = if reader.first_pass {
            let there = state.hpt.range(reader.next..end).map(|(index, _)| *index);
            there.collect()
        } else {
            reader.changed.range(reader.next..end).copied().collect()
        };
        let bolted = |entry: &[u64; 2]| entry[0] & BOLTED != 0;
        let mut stop = end;
        for index in told {
            let entry = match state.hpt.get(&index).copied() {
                Some(entry) if reader.filter == StreamFilter::All || bolted(&entry) => Some(entry),
                _ => None,
            };
            if entry.is_some() || !reader.first_pass {
                let record = encode(reader.order, index, entry);
                let Some(space) = into[bytes..].get_mut(..record.len()) else {
                    stop = index;
                    break;
                };
                space.copy_from_slice(&record);
                bytes += record.len();
            }
        }
        let done = reader.next..stop;
        reader.changed.retain(|index| !done.contains(index));
        reader.next = stop;
        let end = reader.next == FAKE_ENTRIES;
        if end {
            reader.next = 0;
            reader.first_pass = false;
        }
        Ok(StreamPiece { bytes, end })
    }

    fn close_reader(&self, reader: usize) {
        let mut state = self.state();
        state.readers[reader] = None;
        state.asked.push(Asked::CloseReader(reader));
    }

    fn write_stream(
        &self,
        _change: &Dirty,
        order: HeaderOrder,
        records: &[u8],
    ) -> Result<(), TargetError> {
        self.state().change();
        self.may_fail()?;
        let changes = decode(order, records)?;
        let mut state = self.state();
        for (index, entry) in changes {
            state.set_entry(index, entry);
        }
        Ok(())
    }

    fn drop_entries(
        &self,
        _change: &Dirty,
        from: u64,
        entries: u64,
    ) -> Result<Option<u64>, TargetError> {
        self.state().change();
        self.may_fail()?;
        let mut state = self.state();
        let end = (from + entries).min(FAKE_ENTRIES as u64);
        let there = state.hpt.range(from as usize..end as usize);
        for index in there.map(|(index, _)| *index).collect::<Vec<_>>() {
            state.set_entry(index, None);
        }
        Ok((end < FAKE_ENTRIES as u64).then_some(end))
    }

    fn invalidate(&self, _change: &Dirty, what: &Invalidation<'_>) -> Result<(), TargetError> {
        self.state().change();
        self.may_fail()?;
        assert!(what.entries().all(|entry| entry < FAKE_ENTRIES as u64));
        let asked = match what.plan() {
            Plan::Single => Asked::FlushedSingle(what.entries().count() as u64),
            Plan::Everything => Asked::FlushedEverything,
        };
        self.state().asked.push(asked);
        Ok(())
    }

    fn read_vcpu(
        &self,
        _halted: &Halted,
        vcpu: u32,
        state: &mut VcpuState,
        vectors: Option<&mut VectorState>,
    ) -> Result<(), TargetError> {
        self.may_fail()?;
        let fake = self.state();
        assert!(!fake.running, "read while it runs");
        let (of_fake, vectors_of_fake) = &fake.vcpus[vcpu as usize];
        *state = *of_fake;
        if let Some(vectors) = vectors {
            let header = vectors.header;
            *vectors = *vectors_of_fake;
            vectors.header = header;
        }
        Ok(())
    }

    fn write_vcpu(
        &self,
        _change: &Dirty,
        vcpu: u32,
        state: &VcpuState,
        vectors: Option<&VectorState>,
    ) -> Result<(), TargetError> {
        self.state().change();
        self.may_fail()?;
        for (index, spr) in state.used_sprs().iter().enumerate() {
            if !FAKE_SPRS.contains(&spr.number.get()) {
                let offset = VcpuState::spr_offset(index);
                return Err(TargetError::Record(RecordError::new(offset, Reason::Value)));
            }
        }
        let mut fake = self.state();
        let (of_fake, vectors_of_fake) = &mut fake.vcpus[vcpu as usize];
        let mut merged = *state;
        merged.parts = U32::new(0);
        for spr in of_fake.used_sprs() {
            let listed = state.used_sprs().iter();
            if !listed.clone().any(|other| other.number == spr.number) {
                assert!(merged.used_sprs().len() < MAX_SPRS);
                assert!(merged.push_spr(spr.number.get(), spr.value.get()));
            }
        }
        *of_fake = merged;
        if let Some(vectors) = vectors {
            *vectors_of_fake = *vectors;
        }
        Ok(())
    }

    fn suspend(&self) -> Result<Suspension, TargetError> {
        self.may_fail()?;
        let mut state = self.state();
        state.asked.push(Asked::Suspend);
        if state.slow > 0 {
            state.slow -= 1;
            state.stopping = true;
            return Ok(Suspension::Underway);
        }
        state.running = false;
        state.stopping = false;
        Ok(Suspension::Complete)
    }

    fn commit(&self, _change: &Dirty) -> Result<(), TargetError> {
        self.may_fail()?;
        let mut state = self.state();
        assert!(!state.running, "committed while it runs");
        state.uncommitted = false;
        state.asked.push(Asked::Commit);
        Ok(())
    }

    fn resume(&self, _ready: &Runnable) -> Result<(), TargetError> {
        let mut state = self.state();
        assert!(!state.uncommitted, "resumed without COMMIT");
        assert!(!state.running || state.stopping, "resumed twice");
        drop(state);
        self.may_fail()?;
        state = self.state();
        state.running = true;
        state.stopping = false;
        state.asked.push(Asked::Resume);
        Ok(())
    }

    fn check_hpt(
        &self,
        from: u64,
        entries: u64,
        stats: &mut HptStats,
    ) -> Result<Option<u64>, String> {
        let state = self.state();
        let end = (from + entries).min(FAKE_ENTRIES as u64);
        stats.entries = FAKE_ENTRIES as u64;
        if let Some(index) = state.bad_entry.filter(|bad| (from..end).contains(bad)) {
            return Err(std::format!("HPTE {index:#x} is bad"));
        }
        for (_, [v, _]) in state.hpt.range(from as usize..end as usize) {
            stats.valid += 1;
            stats.bolted += u64::from(v & BOLTED != 0);
        }
        Ok((end < FAKE_ENTRIES as u64).then_some(end))
    }
}

/// Partitions by number.
#[derive(Debug)]
pub struct FakeDirectory(pub Vec<Fake>);

impl Directory for FakeDirectory {
    type Target = Fake;

    fn find(&self, number: u64) -> Option<&Fake> {
        self.0.iter().find(|fake| u64::from(fake.number) == number)
    }
}
