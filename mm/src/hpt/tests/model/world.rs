// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Does each operation in the engine and in the model, and compares.

mod access;
mod hypervisor;

use super::super::order::{Rules, valid_entries};
use super::super::stream::Reading;
use super::memory::{Area, Memory, is_memory};
use super::ops::Op;
use super::*;
use crate::hpt::flags::COPY_PAGE;
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
    /// Streams that brought another page size of real mode.
    pub(super) real_modes: u64,
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
use same;

fn guests_table(p: &Fixture) -> Guest {
    let entries = p.everything().into_iter();
    entries.map(|(at, [v, r])| (at, (v, r))).collect()
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
                real_mode: 16 << 20,
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
            && matches!(
                op,
                Op::ReadStream { .. } | Op::Save | Op::SaveOther(_) | Op::Restore
            )
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
                model.real_mode = 16 << 20;
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
        let ps = match self.model.real_mode {
            0x1000 => 0x00,
            0x1_0000 => 0xa0,
            _ => 0x80,
        };
        same!(p.pate().unwrap().dwords()[0] & 0xe0, ps);
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
}
