// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the hypervisor does to a partition from outside: guards, logs of what is written, the
//! frames behind the memory, streams.

use super::super::super::stream::{first_pass, parsed, record, told};
use super::super::memory::Log;
use super::*;
use crate::stream::StartsFrom;
use core::cell::Cell;
use std::collections::BTreeSet;

impl World<'_> {
    pub(super) fn step_of_hypervisor(&mut self, op: &Op) -> Result<(), String> {
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
            Op::BackAhead(steps) => {
                // Nobody waits for what is hidden after the last step.
                let done = (0..steps).any(|_| p.back_ahead() == Ahead::Done);
                same!(done && !p.memory().is_fully_backed(), false);
            }
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
            Op::SaveOther(bytes) => {
                let mut table = Guest::new();
                for at in (0..memory::RAM_BYTES).step_by(1 << 21) {
                    let page = real_mode_page(at, bytes);
                    let entry = (page.v() | 0x10, page.r(page.ea) & !2);
                    table.insert(page.group(p) + 7, entry);
                }
                let records = table
                    .iter()
                    .map(|(at, (v, r))| record(u32::try_from(*at).unwrap(), *v, *r));
                self.saved = Some((records.flatten().collect(), table));
            }
            Op::Restore => {
                if let Some((stream, table)) = &self.saved {
                    let stream = parsed(stream, StartsFrom::EmptyTable);
                    let fits = table.values().all(|(v, r)| {
                        let actual = sizes(*v, *r).unwrap().1;
                        model.memory.may_enter(page_of(*r, actual), actual, *r)
                    });
                    let first = table.values().find(|(v, _)| is_real_mode(*v));
                    let size = first.map_or(model.real_mode, |(v, r)| sizes(*v, *r).unwrap().0);
                    let published = Cell::new(false);
                    let publish = |_| published.set(true);
                    let done = p.restore(&stream, VcpusAre::Stopped, publish);
                    same!(done.is_ok(), fits);
                    same!(published.get(), fits && size != model.real_mode);
                    if fits {
                        self.tally.real_modes += u64::from(size != model.real_mode);
                        model.real_mode = size;
                        model.guest.clone_from(table);
                        self.tally.restored += 1;
                    }
                }
            }
            _ => return Err(format!("nobody does {op:?}")),
        }
        Ok(())
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
