// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Does each operation in the engine and in the model, and compares.

use super::super::order::{Rules, valid_entries};
use super::super::stream::{Reading, first_pass, parsed, told};
use super::memory::{Area, Log, Memory, is_memory};
use super::ops::Op;
use super::*;
use crate::hpt::flags::COPY_PAGE;
use crate::stream::StartsFrom;
use std::collections::BTreeSet;
use std::format;
use std::string::String;

/// The engine and the model of the same partition.
pub(super) struct World<'a> {
    p: &'a Fixture,
    model: Model,
    /// The table of a partition that starts.
    fresh: Guest,
    rules: Rules,
    /// Readers of the stream, each with the table that it was told.
    readers: [Option<(Reading<'a>, Guest)>; 2],
    saved: Option<(Vec<u8>, Guest)>,
    steps: u64,
    pub(super) tally: Tally,
}

/// What came about, for who asks whether anything did.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    pub(super) loads: u64,
    pub(super) stores: u64,
    pub(super) grants: u64,
    /// Granules that a harvest had to tell.
    pub(super) told: u64,
    pub(super) scattered: u64,
    pub(super) restored: u64,
}

/// Ends a step where the two differ.
macro_rules! same {
    ($engine:expr, $model:expr) => {{
        let (engine, model) = ($engine, $model);
        if engine != model {
            return Err(format!(
                "{}:{}: the engine says {engine:x?}, and the model {model:x?}",
                file!(),
                line!()
            ));
        }
    }};
}

fn guests_table(p: &Fixture) -> Guest {
    (0..)
        .zip(p.everything())
        .filter_map(|(at, [v, r])| (v != 0).then_some((at, (v, r))))
        .collect()
}

/// Clears the table, which takes no stores that the rules know: they begin with what is there then.
pub(in crate::hpt::tests) fn start_over(p: &Fixture) {
    p.clear_all();
    p.steps();
    // Each entry is stored as it is, when its lock is let go.
    p.check().unwrap();
}

impl<'a> World<'a> {
    /// A partition that starts over, with memory as it is. Its blocks were not scattered.
    pub(super) fn new(p: &'a Fixture) -> Self {
        let mut memory = Memory::default();
        for area in [Area::Ram, Area::Device, Area::Screen] {
            p.unprotect(area.id(), 0, u64::MAX);
            let _ = p.stop_log(area.id());
            for offset in (0..area.bytes()).step_by(0x1_0000) {
                let _ = p.set_device_page(area.id(), offset, None);
            }
            let slot = p.memory().slot(area.id()).unwrap();
            for offset in (0..area.bytes()).step_by(0x1000) {
                if area != Area::Device && slot.is_ready(offset, 1) {
                    let word = slot.extent(offset, 8).unwrap().load_u64().unwrap();
                    memory.words.insert((area.base() + offset) >> 12, word);
                }
            }
        }
        start_over(p);
        let fresh = guests_table(p);
        Self {
            p,
            model: Model {
                entries: p.entries(),
                guest: fresh.clone(),
                memory,
            },
            fresh,
            rules: Rules::default(),
            readers: [None, None],
            saved: None,
            steps: 0,
            tally: Tally::default(),
        }
    }

    /// One operation, in both.
    pub(super) fn step(&mut self, op: &Op) -> Result<(), String> {
        self.steps += 1;
        let (p, model) = (self.p, &mut self.model);
        // The stream's readers here know one size; tests of resizes have others.
        if p.entries() << 4 != HptOrder::MIN.bytes()
            && matches!(op, Op::ReadStream { .. } | Op::Save | Op::Restore)
        {
            return Ok(());
        }
        match *op {
            Op::Enter { flags, ptex, v, r } => {
                same!(p.h_enter(flags, ptex, v, r), model.enter(flags, ptex, v, r));
            }
            Op::Remove { flags, ptex, avpn } => {
                same!(
                    p.h_remove(flags, ptex, avpn),
                    model.remove(flags, ptex, avpn)
                );
            }
            Op::Protect { flags, ptex, avpn } => {
                same!(
                    p.h_protect(flags, ptex, avpn),
                    model.protect(flags, ptex, avpn)
                );
            }
            Op::BulkRemove { specs } => {
                let (mut ours, mut theirs) = (specs, specs);
                same!(p.h_bulk_remove(&mut ours), model.bulk_remove(&mut theirs));
                same!(ours, theirs);
            }
            Op::BlockRemove { ava, specs } => {
                let (mut ours, mut theirs) = (specs, specs);
                let expected = model.block_remove(ava, &mut theirs);
                same!(p.h_block_remove(ava, &mut ours), expected);
                same!(ours, theirs);
            }
            Op::ClearRef(ptex) => same!(p.h_clear_ref(0, ptex), model.clear(ptex, 0x100)),
            Op::ClearMod(ptex) => same!(p.h_clear_mod(0, ptex), model.clear(ptex, 0x80)),
            Op::Read4(ptex) => same!(p.h_read_4(ptex), model.read_4(ptex)),
            Op::PageInit { flags, to, from } => {
                same!(
                    p.h_page_init(flags, to, from),
                    model.page_init(flags, to, from)
                );
            }
            Op::Resize(order) => return self.resize(order),
            Op::ClearHpt => {
                let mut from = Some(0);
                while let Some(next) = from {
                    from = p.h_clear_hpt(next);
                }
                let is_real_mode = |v: u64| v >> 62 == 1 && v >> 24 & 0xfff_ffff == VRMA_VSID;
                model.guest.retain(|_, (v, _)| is_real_mode(*v));
            }
            Op::Hardware {
                ptex,
                store,
                granule,
            } => return self.use_entry(ptex, store, granule),
            Op::Access {
                page,
                kind,
                problem,
                granule,
            } => {
                return self.access(page, kind, problem, granule);
            }
            Op::Fault {
                page,
                kind,
                problem,
            } => {
                let groups = self.groups(page);
                let is_seen = self.seen(page, groups).is_some();
                let outcome = self.model.access(page, groups, kind, problem);
                return self.fault(page, kind, problem, is_seen, outcome);
            }
            Op::RealMode { at, kind } => return self.real_mode(at, kind),
            Op::ClearAll => {
                same!(self.rules.follow(&p.steps()), Vec::<usize>::new());
                start_over(p);
                let memory = &model.memory;
                let whole =
                    |(_, (_, r)): &(&u64, &(u64, u64))| !memory.is_scattered(page_of(*r, 1 << 24));
                model.guest = self
                    .fresh
                    .iter()
                    .filter(whole)
                    .map(|(at, entry)| (*at, *entry))
                    .collect();
                if p.entries() != model.entries {
                    // It has its first size again.
                    model.entries = p.entries();
                    self.readers = [None, None];
                    self.saved = None;
                }
                // No processor is there, and the table was cleared by no store.
                self.rules = Rules::default();
            }
            Op::Write { granule } => {
                let (at, word) = (granule << 12, self.steps);
                let done = model.memory.fill(at, 8, |_| word.to_be());
                same!(
                    p.memory().write_be64(GuestReal::new(at), word).is_ok(),
                    done
                );
            }
            _ => return self.step_of_hypervisor(op),
        }
        Ok(())
    }

    fn step_of_hypervisor(&mut self, op: &Op) -> Result<(), String> {
        let (p, model) = (self.p, &mut self.model);
        match *op {
            Op::Guard { ref ranges } => {
                let mut open: Option<Obligation<'_, TestMachine>> = None;
                for &(area, offset, len) in ranges {
                    open = Some(match open {
                        None => p.protect(area.id(), offset, len),
                        Some(obligation) => obligation.and_protect(area.id(), offset, len),
                    });
                    model
                        .memory
                        .guarded
                        .extend(Memory::pieces(area, offset, len));
                }
                let _ = open.map(Obligation::flush);
            }
            Op::Unguard { area, offset, len } => {
                p.unprotect(area.id(), offset, len);
                let pieces = Memory::pieces(area, offset, len);
                model.memory.guarded.retain(|piece| !pieces.contains(piece));
            }
            Op::StartLog(area) => {
                p.start_log(area.id()).unwrap();
                let mut log = Log::default();
                for (v, r) in model.guest.values().filter(|(_, r)| r & 0x80 != 0) {
                    let actual = sizes(*v, *r).unwrap().1;
                    let page = page_of(*r, actual);
                    log.may.extend(page >> 12..(page + actual) >> 12);
                }
                model.memory.logs.insert(area, log);
            }
            Op::StopLog(area) => {
                p.stop_log(area.id()).unwrap();
                model.memory.logs.remove(&area);
            }
            Op::HarvestRoughly(area) => {
                let log = model.memory.logs.get(&area);
                same!(p.harvest_roughly(area.id()).is_some(), log.is_some());
                if let Some(log) = log {
                    let found = log_of(p, area, HashMmu::peek_log);
                    check_log(&found, log)?;
                }
            }
            Op::Harvest { area, vcpus } => {
                let log = model.memory.logs.get_mut(&area);
                same!(p.harvest(area.id(), vcpus).is_some(), log.is_some());
                if let Some(log) = log {
                    let found = log_of(p, area, HashMmu::take_log);
                    check_log(&found, log)?;
                    self.tally.told += log.must.len() as u64;
                    *log = Log::default();
                    self.check_harvested(area)?;
                }
            }
            Op::TakeUsed(area) => same!(p.take_used_bytes(area.id()).is_some(), true),
            Op::DevicePage { number, place } => {
                let host = place.map(|place| Memory::device_host(number, place));
                let page = host.map(penstock_arch::addr::HostReal::new);
                let done = p.set_device_page(Area::Device.id(), number << 16, page);
                same!(done.is_some(), true);
                let number = (Area::Device.base() >> 16) + number;
                match host {
                    Some(host) => drop(model.memory.device.insert(number, host)),
                    None => drop(model.memory.device.remove(&number)),
                }
            }
            Op::Populate(pieces) => drop(p.memory().populate_some(pieces)),
            Op::Scatter(a, b) => {
                let block = usize::try_from(a >> 8).unwrap();
                let done = a != b && a >> 8 == b >> 8 && !model.memory.scattered[block];
                same!(p.scatter(a, b).is_some(), done);
                model.memory.scattered[block] |= done;
                self.tally.scattered += u64::from(done);
            }
            Op::ReadStream { reader, anew } => {
                let place = &mut self.readers[reader];
                if anew {
                    *place = None;
                }
                let (reading, table) = place.get_or_insert_with(|| (Reading::new(p), Guest::new()));
                for (at, entry) in told(&reading.pass()) {
                    match entry {
                        Some([v, r]) => drop(table.insert(at, (v, r))),
                        None => drop(table.remove(&at)),
                    }
                }
                same!(&*table, &model.guest);
            }
            Op::Save => self.saved = Some((first_pass(p), model.guest.clone())),
            Op::Restore => {
                if let Some((stream, table)) = &self.saved {
                    let stream = parsed(stream, StartsFrom::EmptyTable);
                    let fits = table.values().all(|(v, r)| {
                        let actual = sizes(*v, *r).unwrap().1;
                        model.memory.may_enter(page_of(*r, actual), actual, *r)
                    });
                    same!(p.restore(&stream, VcpusAre::Stopped).is_ok(), fits);
                    if fits {
                        model.guest.clone_from(table);
                        self.tally.restored += 1;
                    }
                }
            }
            _ => return Err(format!("nobody does {op:?}")),
        }
        Ok(())
    }

    fn groups(&self, page: Page) -> [u64; 2] {
        [page.group(self.p), page.other_group(self.p)]
    }

    /// The entry that a processor finds for a page: the first valid one.
    fn seen(&self, page: Page, groups: [u64; 2]) -> Option<u64> {
        groups
            .into_iter()
            .zip([0, 2])
            .flat_map(|(group, h)| (group..group + 8).map(move |at| (at, h)))
            .find(|&(at, h)| {
                let entry = self.model.guest.get(&at);
                entry.is_some_and(|(v, r)| is_of(page, *v, *r, h)) && self.p.real(at).0 & 1 != 0
            })
            .map(|(at, _)| at)
    }

    /// A processor uses a valid entry, if that permits it.
    fn use_entry(&mut self, ptex: u64, store: bool, granule: u64) -> Result<(), String> {
        if ptex >= self.p.entries() || self.p.real(ptex).0 & 1 == 0 {
            return Ok(());
        }
        let (may_load, may_store) = permitted(self.p.real(ptex).1, false);
        if if store { may_store } else { may_load } {
            self.touch(ptex, store, granule)
        } else {
            Ok(())
        }
    }

    /// A processor loads from or stores to a granule of a valid entry's page.
    fn touch(&mut self, ptex: u64, store: bool, granule: u64) -> Result<(), String> {
        let (p, memory) = (self.p, &mut self.model.memory);
        let entry = self.model.guest.get_mut(&ptex).ok_or("no such entry")?;
        let actual = sizes(entry.0, entry.1).unwrap().1;
        let page = page_of(entry.1, actual);
        let offset = (granule % (actual >> 12)) << 12;
        let at = page + offset;
        let real = (p.real(ptex).1 & HpteR::RPN & !(actual - 1)) + offset;
        let bits = if store { 0x180 } else { 0x100 };
        p.hardware_sets(ptex, bits);
        entry.1 |= bits;
        if Area::of(at) == Some(Area::Device) {
            let host = memory
                .device
                .get(&(at >> 16))
                .map(|host| host + (at & 0xffff));
            same!(Some(real), host);
            return Ok(());
        }
        same!(real, p.host(at));
        let (slot, offset) = p.memory.slot_at(GuestReal::new(at)).unwrap();
        let span = slot.extent(offset, 8).ok_or("no memory")?;
        same!(span.load_u64().unwrap(), memory.word(at >> 12));
        self.tally.loads += u64::from(!store);
        if store {
            self.tally.stores += 1;
            span.store_u64(self.steps).unwrap();
            memory.words.insert(at >> 12, self.steps);
            memory.note(at, 0x1000, page, actual);
        }
        Ok(())
    }

    fn access(
        &mut self,
        page: Page,
        kind: AccessKind,
        problem: bool,
        granule: u64,
    ) -> Result<(), String> {
        let groups = self.groups(page);
        let outcome = self.model.access(page, groups, kind, problem);
        let first = self.model.translate(page, groups).map(|(at, ..)| at);
        for _ in 0..4 {
            let seen = self.seen(page, groups);
            if let Some(at) = seen {
                // Two entries for one page are the guest's error, and undefined.
                if first != Some(at) {
                    return Ok(());
                }
                let r = self.p.real(at).1;
                let (load, store) = permitted(r, problem);
                let permits = match kind {
                    AccessKind::Load => load,
                    AccessKind::Store => store,
                    AccessKind::Fetch => load && r & 0xc == 0,
                };
                if permits {
                    // The hardware takes a framebuffer for memory, which is not guarded.
                    if kind != AccessKind::Fetch {
                        same!(Outcome::Access, outcome);
                    }
                    return self.touch(at, kind == AccessKind::Store, granule);
                }
            }
            if !self.p.needs_vpm() {
                // The guest takes its fault itself.
                let its_own = matches!(outcome, Outcome::Action(FaultAction::Reflect(_)));
                same!(its_own, true);
                return Ok(());
            }
            self.fault(page, kind, problem, seen.is_some(), outcome)?;
            if outcome != Outcome::Access {
                return Ok(());
            }
        }
        Err("the access does not get through".into())
    }

    fn fault(
        &mut self,
        page: Page,
        kind: AccessKind,
        problem: bool,
        is_seen: bool,
        outcome: Outcome,
    ) -> Result<(), String> {
        // The processor sees valid entries only, and says whether it found one.
        let mut fault = if is_seen {
            page.fault(kind)
        } else {
            page.miss(kind)
        };
        if problem {
            fault.msr = fault.msr.union(Msr::PR);
        }
        let groups = self.groups(page);
        self.resolve(&fault, page, groups, outcome)
    }

    fn resolve(
        &mut self,
        fault: &HpteFault,
        page: Page,
        groups: [u64; 2],
        outcome: Outcome,
    ) -> Result<(), String> {
        let expected = match outcome {
            Outcome::Access => FaultAction::Retry,
            Outcome::Action(action) => action,
        };
        same!(self.p.resolve(fault), expected);
        if outcome == Outcome::Access {
            same!(self.seen(page, groups).is_some(), true);
            if fault.kind == AccessKind::Store
                && let Some((_, v, r)) = self.model.translate(page, groups)
            {
                let actual = sizes(v, r).unwrap().1;
                let granted = self.model.memory.grant(page_of(r, actual), actual);
                self.tally.grants += u64::from(granted);
            }
        }
        Ok(())
    }

    fn real_mode(&mut self, at: u64, kind: AccessKind) -> Result<(), String> {
        let fault = real_mode(at, PageSize::P16M, kind);
        if at >= memory::RAM_BYTES {
            let action = FaultAction::NotMemory(GuestReal::new(at));
            same!(self.p.resolve(&fault), action);
            return Ok(());
        }
        let page = real_mode_page(at);
        let groups = self.groups(page);
        if self.model.translate(page, groups).is_none() {
            let repaired = self.model.repair(page, groups);
            if repaired {
                // Entered as the state of its page asks for, and used at the next fault.
                same!(self.p.resolve(&fault), FaultAction::Retry);
                return Ok(());
            }
        }
        let outcome = self.model.access(page, groups, kind, false);
        self.resolve(&fault, page, groups, outcome)
    }

    /// After an exact pass the hardware's C is clear, and what the guest is told has it.
    fn check_harvested(&self, area: Area) -> Result<(), String> {
        for (&at, (v, r)) in &self.model.guest {
            let page = page_of(*r, sizes(*v, *r).unwrap().1);
            let (real_v, real_r) = self.p.real(at);
            if Area::of(page) == Some(area) && real_v & 1 != 0 {
                same!(real_r & 0x80, 0);
                let kept = self.p.table().entry(HpteIndex::new(at)).load_rev().get();
                same!(kept & 0x80, r & 0x80);
            }
        }
        Ok(())
    }

    /// Another table, or the same one where two bolted entries need one place.
    fn resize(&mut self, order: u32) -> Result<(), String> {
        let (p, model) = (self.p, &mut self.model);
        same!(
            p.h_resize_hpt_prepare(0, order.into()),
            HcallStatus::SUCCESS
        );
        let (entries, before) = (model.entries, model.guest.len() as u64);
        let ours = p.h_resize_hpt_commit(0, order.into(), |_| ());
        if model.resize(order) {
            let kept = model.guest.len() as u64;
            let ours = ours.map(|ours| (ours.kept, ours.displaced + ours.misplaced));
            same!(ours, Ok((kept, before - kept)));
        } else {
            same!(ours, Err(HcallStatus::PTEG_FULL));
        }
        same!(p.entries(), model.entries);
        same!(&guests_table(p), &model.guest);
        if model.entries != entries {
            self.readers = [None, None];
            self.saved = None;
        }
        // Another table now, whose valid entries nobody was told of.
        same!(self.rules.follow(&p.steps()), Vec::<usize>::new());
        self.rules = Rules::default();
        self.rules.follow(&valid_entries(p));
        Ok(())
    }

    /// Whether all that is always true is so, and the guest sees what the model says.
    pub(super) fn verify(&mut self) -> Result<(), String> {
        let p = self.p;
        same!(self.rules.follow(&p.steps()), Vec::<usize>::new());
        let stats = p.check().map_err(|violation| format!("{violation}"))?;
        let guarded: u64 = p.memory().slots().map(|(_, slot)| slot.guarded()).sum();
        same!(guarded, self.model.memory.guarded.len() as u64);
        same!(p.hidden(), stats.absent + guarded);
        same!(stats.valid + stats.absent, self.model.guest.len() as u64);
        let own = p._host.base().get()..p._host.base().get() + (3 << 24);
        for (&at, &(v, r)) in &self.model.guest {
            same!(p.h_read(0, at), Ok([v, r]));
            let (real_v, real_r) = p.real(at);
            let page = real_r & HpteR::RPN & !(sizes(v, r).unwrap().1 - 1);
            let is_device = Area::of(page_of(r, 0x1000)) == Some(Area::Device);
            if real_v & 1 != 0 && !own.contains(&page) && !is_device {
                return Err(format!(
                    "entry {at:#x} maps what is not the partition's: {page:#x}"
                ));
            }
        }
        Ok(())
    }

    /// Whether memory holds what the model says, all of it.
    pub(super) fn verify_memory(&self) -> Result<(), String> {
        for area in Area::LOGGED {
            for at in (area.base()..area.base() + area.bytes()).step_by(0x1000) {
                let (slot, offset) = self.p.memory.slot_at(GuestReal::new(at)).unwrap();
                let word = if slot.is_ready(offset, 1) {
                    slot.extent(offset, 8).unwrap().load_u64().unwrap()
                } else {
                    0
                };
                same!(word, self.model.memory.word(at >> 12));
            }
        }
        Ok(())
    }
}

/// The granules of a log, by guest real address.
fn log_of(
    p: &Fixture,
    area: Area,
    read: fn(&HashMmu<TestMachine>, crate::guest_memory::SlotId, u64, &mut [u64]) -> usize,
) -> BTreeSet<u64> {
    let mut words = std::vec![0; usize::try_from(area.bytes() >> 18).unwrap()];
    read(p, area.id(), 0, &mut words);
    let set = |(number, word): (u64, u64)| {
        (0..64)
            .filter(move |bit| word >> bit & 1 != 0)
            .map(move |bit| (area.base() >> 12) + number * 64 + bit)
    };
    (0..).zip(words).flat_map(set).collect()
}

fn check_log(found: &BTreeSet<u64>, log: &Log) -> Result<(), String> {
    let missing: Vec<_> = log.must.difference(found).collect();
    let surplus: Vec<_> = found.difference(&log.may).collect();
    same!(missing, Vec::<&u64>::new());
    same!(surplus, Vec::<&u64>::new());
    Ok(())
}

impl Model {
    fn read_4(&self, ptex: u64) -> Result<[u64; 8], HcallStatus> {
        if ptex >= self.entries {
            return Err(PARAMETER);
        }
        let entry = |at| self.guest.get(&at).copied().unwrap_or_default();
        let four = (ptex & !3..).take(4).map(entry);
        let flat: Vec<u64> = four.flat_map(|(v, r)| [v, r]).collect();
        Ok(flat.try_into().unwrap())
    }

    fn page_init(&mut self, flags: u64, to: u64, from: u64) -> Result<(), HcallStatus> {
        let (zeroes, copies) = (flags & ZERO_PAGE != 0, flags & COPY_PAGE != 0);
        let good = |at: u64| at & 0xfff == 0 && is_memory(at, 0x1000);
        if !good(to) || copies && !good(from) {
            return Err(PARAMETER);
        }
        if zeroes {
            self.memory.fill(to, 0x1000, |_| 0);
        }
        if copies {
            let word = self.memory.word(from >> 12);
            self.memory.fill(to, 0x1000, |_| word);
        }
        Ok(())
    }

    /// Enters a page of guest real mode that has no entry. Whether there is a place for it.
    fn repair(&mut self, page: Page, groups: [u64; 2]) -> bool {
        if self.memory.is_scattered(page.ea) {
            return false;
        }
        let slots = |group: u64| (group..group + 8).rev();
        let places = slots(groups[0])
            .map(|at| (at, 0))
            .chain(slots(groups[1]).map(|at| (at, 2)));
        let free = places.clone().find(|(at, _)| !self.guest.contains_key(at));
        let place = free.or_else(|| {
            let unbolted = |at: &u64| self.guest[at].0 & 0x10 == 0;
            slots(groups[0]).find(unbolted).map(|at| (at, 0))
        });
        if let Some((at, h)) = place {
            self.guest
                .insert(at, (page.v() | 0x10 | h, page.ea | 0x190));
        }
        place.is_some()
    }
}
