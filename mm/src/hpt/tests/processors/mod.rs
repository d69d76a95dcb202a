// SPDX-License-Identifier: Apache-2.0 OR MIT
//! No store is ever missing from the dirty log, nor from what the guest is told, whatever processors do
//! while the hypervisor works: random schedules.
//!
//! PENSTOCK_MODEL_SCHEDULES says how many, PENSTOCK_MODEL_SEED from where. The seed of the schedule that
//! fails is printed.

mod hardware;

use self::hardware::{Access, Hardware, Random};
use super::model::long::{number_from, seed};
use super::model::world::start_over;
use super::order::broken_rules;
use super::*;
use crate::guest_memory::SlotId;
use std::collections::{BTreeMap, BTreeSet};
use std::format;
use std::println;
use std::string::String;
use std::sync::Mutex;
use std::vec;

const RAM: SlotId = SlotId::MEMORY;
const PAGES: usize = 6;
const C: u64 = 0x80;

/// An entry that the guest has.
#[derive(Clone, Copy, Debug)]
struct Entered {
    index: u64,
    /// Permits stores.
    writable: bool,
}

/// One schedule.
struct Schedule<'a> {
    p: &'a Fixture,
    hardware: Arc<Mutex<Hardware>>,
    random: Random,
    pages: Vec<(Page, u64)>,
    entered: BTreeMap<usize, Entered>,
    guarded: BTreeSet<usize>,
    /// Stores that the guest has not been told of: the time of the last one, by entry.
    unread: BTreeMap<u64, u64>,
}

/// Page `number` is at the beginning of piece `number`. Every third is one of 64 KiB, and they share two
/// groups.
fn page(number: usize) -> Page {
    let encoding = if number % 3 == 2 {
        PageEncoding::Base64KActual64K
    } else {
        PageEncoding::Base4KActual4K
    };
    Page {
        vsid: 0x100 + (number as u64) * 0x800,
        ea: (number as u64 % 2) << encoding.base().shift(),
        segment: SegmentSize::S1T,
        encoding,
    }
}

impl<'a> Schedule<'a> {
    fn new(p: &'a Fixture, seed: u64) -> Self {
        p.machine.tlb.clear_hook();
        p.unprotect(RAM, 0, u64::MAX);
        start_over(p);
        p.start_log(RAM).unwrap();
        let pages: Vec<_> = (0..PAGES)
            .map(page)
            .map(|page| (page, page.group(p)))
            .collect();
        let mut random = Random::new(seed);
        let hardware = Hardware::new(p, Random::new(random.below(u64::MAX)), pages.clone());
        let hardware = Arc::new(Mutex::new(hardware));
        let weak = Arc::downgrade(&hardware);
        p.machine.tlb.set_hook(move |step| {
            if let Some(hardware) = weak.upgrade() {
                hardware.lock().unwrap().after(step);
            }
        });
        Self {
            p,
            hardware,
            random,
            pages,
            entered: BTreeMap::new(),
            guarded: BTreeSet::new(),
            unread: BTreeMap::new(),
        }
    }

    /// What the guest, and guards, permit now, on top of what they did, or in place of it.
    fn permit(&self, also: bool) {
        let mut hardware = self.hardware.lock().unwrap();
        for number in 0..PAGES {
            let entered = self.entered.get(&number);
            let may =
                entered.is_some_and(|entered| entered.writable) && !self.guarded.contains(&number);
            hardware.may_store[number] = may || also && hardware.may_store[number];
        }
    }

    /// Notes by which entries the guest has stored since a time.
    fn note_stores(&mut self, since: u64) {
        for write in &self.hardware.lock().unwrap().writes {
            if write.time > since {
                let last = self.unread.entry(write.index).or_default();
                *last = write.time.max(*last);
            }
        }
    }

    fn step(&mut self) -> Result<(), String> {
        let p = self.p;
        let number = self.random.index(PAGES);
        let piece = (number as u64) << 16;
        let began = self.hardware.lock().unwrap().time;
        let entered = self.entered.get(&number).copied();
        match (self.random.below(16), entered) {
            (0..5, None) => {
                let (page, _) = self.pages[number];
                let (pp, rc) = (2 + self.random.below(2), self.random.below(4) << 7);
                let r = page.r(piece) & !0x183 | pp | rc;
                // It may be used before the call is over.
                self.hardware.lock().unwrap().may_store[number] =
                    pp == 2 && !self.guarded.contains(&number);
                let index = p.h_enter(0, page.group(p), page.v(), r).unwrap();
                self.unread.remove(&index);
                self.entered.insert(
                    number,
                    Entered {
                        index,
                        writable: pp == 2,
                    },
                );
                // The guest wrote C itself.
                if rc & C == 0 {
                    self.note_stores(began);
                }
            }
            (0..2, Some(entry)) => {
                let (_, r) = p.h_remove(0, entry.index, 0).unwrap();
                self.note_stores(began);
                self.removed(number, entry, r)?;
            }
            (2, Some(entry)) => {
                let mut specs = [0xc0 << 56; 8];
                specs[0] = 0x40 << 56 | entry.index;
                let other = self.entered.iter().find(|(other, _)| **other != number);
                let other = other.map(|(number, entry)| (*number, *entry));
                if let Some((_, other)) = other {
                    specs[2] = 0x40 << 56 | other.index;
                }
                let _ = p.h_bulk_remove(&mut specs);
                self.note_stores(began);
                self.removed(number, entry, specs[0] >> 51)?;
                if let Some((number, other)) = other {
                    self.removed(number, other, specs[2] >> 51)?;
                }
            }
            (3..5, Some(entry)) => {
                let writable = self.random.below(2) == 0;
                self.entered.insert(number, Entered { writable, ..entry });
                self.permit(true);
                p.h_protect(if writable { 2 } else { 3 }, entry.index, 0)
                    .unwrap();
                self.note_stores(began);
            }
            (5, Some(entry)) => {
                let old = p.h_clear_mod(0, entry.index).unwrap();
                if old & C != 0 {
                    // What was stored before the flush is told now.
                    let flushed = self.hardware.lock().unwrap().flushed_at.max(began);
                    self.unread.remove(&entry.index);
                    self.note_stores(flushed);
                } else {
                    self.note_stores(began);
                }
            }
            (6, Some(entry)) => {
                p.h_clear_ref(0, entry.index).unwrap();
                self.note_stores(began);
            }
            (7, _) => {
                let count = 1 + self.random.below(3);
                let range = number..PAGES.min(number + usize::try_from(count).unwrap());
                self.guarded.extend(range);
                let obligation = p.protect(RAM, piece, count << 16);
                let _ = obligation.flush();
                self.note_stores(began);
            }
            (8, _) => {
                self.guarded.remove(&number);
                self.permit(true);
                p.unprotect(RAM, piece, 0x1000);
                self.note_stores(began);
            }
            (9, _) => {
                let stored = self.stored_by_now();
                p.harvest_roughly(RAM).unwrap();
                let log = log_of(p, HashMmu::peek_log);
                missing_from(&log, &stored)?;
                self.note_stores(began);
            }
            (10, _) => {
                self.harvest(VcpusAre::Running)?;
                self.note_stores(began);
            }
            (11, _) => {
                p.take_used_bytes(RAM).unwrap();
                self.note_stores(began);
            }
            _ => self.run()?,
        }
        self.permit(false);
        let mut hardware = self.hardware.lock().unwrap();
        let ended = hardware.time;
        for _ in 0..hardware.random.below(4) {
            hardware.act();
        }
        let error = hardware.error.take();
        drop(hardware);
        self.note_stores(ended);
        match error {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// Processors run, and the hypervisor resolves their faults.
    fn run(&mut self) -> Result<(), String> {
        for _ in 0..4 {
            let began = self.hardware.lock().unwrap().time;
            let number = self.random.index(PAGES);
            let store = self.random.below(3) != 0;
            let access = self.hardware.lock().unwrap().access(number, store);
            if let Access::Fault(found) = access
                && self.p.needs_vpm()
            {
                let kind = if store {
                    AccessKind::Store
                } else {
                    AccessKind::Load
                };
                let (page, _) = self.pages[number];
                let fault = if found {
                    page.fault(kind)
                } else {
                    page.miss(kind)
                };
                let entered = self.entered.get(&number);
                let permitted = entered.is_some_and(|entered| entered.writable || !store);
                if permitted && store {
                    self.guarded.remove(&number);
                    self.permit(true);
                }
                let retry = self.p.resolve(&fault) == FaultAction::Retry;
                if retry != permitted {
                    return Err(format!("{fault:?} of {entered:?} is answered {retry}"));
                }
            }
            self.note_stores(began);
        }
        Ok(())
    }

    /// An entry is gone; the guest was told of its stores.
    fn removed(&mut self, number: usize, entry: Entered, r: u64) -> Result<(), String> {
        self.entered.remove(&number);
        let unread = self.unread.remove(&entry.index).is_some();
        if unread && r & C == 0 {
            return Err(format!(
                "the guest is not told that page {number} was written: {r:#x}"
            ));
        }
        Ok(())
    }

    /// Granules that were written, and whose C is in the table or was.
    fn stored_by_now(&self) -> BTreeSet<u64> {
        let hardware = self.hardware.lock().unwrap();
        let stored = hardware
            .writes
            .iter()
            .filter(|write| !hardware.is_late(write.index));
        stored.map(|write| write.granule).collect()
    }

    fn harvest(&mut self, vcpus: VcpusAre) -> Result<(), String> {
        let stored = match vcpus {
            VcpusAre::Running => self.stored_by_now(),
            VcpusAre::Stopped => {
                let hardware = self.hardware.lock().unwrap();
                hardware.writes.iter().map(|write| write.granule).collect()
            }
        };
        self.p.harvest(RAM, vcpus).unwrap();
        let log = log_of(self.p, HashMmu::take_log);
        missing_from(&log, &stored)?;
        // Who takes the log reads the memory afterwards.
        let mut hardware = self.hardware.lock().unwrap();
        hardware
            .writes
            .retain(|write| !log.contains(&write.granule));
        Ok(())
    }

    fn end(mut self) -> Result<(), String> {
        // Processors are out of the guest now.
        self.p.machine.tlb.clear_hook();
        let hardware = Arc::clone(&self.hardware);
        self.p.machine.tlb.set_hook({
            let hardware = Arc::downgrade(&hardware);
            move |step| {
                if let Some(hardware) = hardware.upgrade() {
                    hardware.lock().unwrap().only_finish(step);
                }
            }
        });
        self.harvest(VcpusAre::Stopped)?;
        for (number, entry) in core::mem::take(&mut self.entered) {
            let (_, r) = self.p.h_remove(0, entry.index, 0).unwrap();
            self.removed(number, entry, r)?;
        }
        self.p.machine.tlb.clear_hook();
        self.p.check().map_err(|violation| format!("{violation}"))?;
        let broken = broken_rules(&self.p.steps());
        if broken.is_empty() {
            Ok(())
        } else {
            Err(format!("doubleword 1 was stored too early: {broken:?}"))
        }
    }
}

fn missing_from(log: &BTreeSet<u64>, stored: &BTreeSet<u64>) -> Result<(), String> {
    let missing: Vec<_> = stored.difference(log).collect();
    if missing.is_empty() {
        Ok(())
    } else {
        Err(format!(
            "granules {missing:x?} were written and are not in the log"
        ))
    }
}

fn log_of(
    p: &Fixture,
    read: fn(&HashMmu<TestMachine>, SlotId, u64, &mut [u64]) -> usize,
) -> BTreeSet<u64> {
    let mut words = vec![0; 2];
    read(p, RAM, 0, &mut words);
    (0_u64..128)
        .filter(|bit| words[usize::try_from(bit / 64).unwrap()] >> (bit % 64) & 1 != 0)
        .collect()
}

#[test]
fn no_write_of_late_processors_is_missing() {
    let count = number_from("PENSTOCK_MODEL_SCHEDULES").unwrap_or(unless_miri(50, 2));
    let first = seed();
    let p = partition();
    for seed in first..first + count {
        let mut schedule = Schedule::new(&p, seed);
        let steps = 10 + schedule.random.below(50);
        let result = (0..steps)
            .try_for_each(|_| schedule.step())
            .and_then(|()| schedule.end());
        if let Err(error) = result {
            panic!("PENSTOCK_MODEL_SEED={seed} PENSTOCK_MODEL_SCHEDULES=1: {error}");
        }
    }
    println!("{count} schedules from seed {first} lose no write");
}
