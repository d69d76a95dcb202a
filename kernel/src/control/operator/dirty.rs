// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `dirty`: which memory was written since the last look.

use super::{Progress, Step, Stop, buffer, call, plain};
use crate::control::function::Function;
use crate::control::records::{self, DirtyReply, DirtyRequest, Record};
use crate::control::target::{Controlled, SlotInfo};
use crate::control::{ControlError, DONE};
use crate::monitor::command::DirtyCommand;
use alloc::vec::Vec;
use core::fmt::Write;
use zerocopy::IntoBytes;
use zerocopy::byteorder::big_endian::{U32, U64};

/// Most ranges that are shown of a slot.
const SHOWN_RANGES: u64 = 16;
/// Bytes of bitmap in a step.
const STEP_BITMAP_BYTES: usize = 2048;

/// What is done next about the slot.
#[derive(Clone, Copy, Debug)]
enum Phase {
    /// Look what it is.
    Begin,
    /// Harvest from this entry on.
    Harvest(u64),
    /// Fetch from this page on.
    Fetch(u64),
}

/// A look at the dirty pages, slot by slot.
#[derive(Debug)]
pub struct DirtyPages {
    command: DirtyCommand,
    slot: u32,
    phase: Phase,
    buffer: Vec<u8>,
    /// Dirty pages of the slot so far, and ranges of such.
    pages: u64,
    ranges: u64,
    /// The first page of a range whose end was not seen yet.
    range_start: Option<u64>,
    any: bool,
}

impl DirtyPages {
    pub(super) const fn new(command: DirtyCommand) -> Self {
        Self {
            command,
            slot: 0,
            phase: Phase::Begin,
            buffer: Vec::new(),
            pages: 0,
            ranges: 0,
            range_start: None,
            any: false,
        }
    }

    pub(super) fn step<T: Controlled>(&mut self, target: &T, out: &mut dyn Write) -> Progress {
        let slot = u64::from(self.slot);
        let Some(info) = target.slot(self.slot) else {
            if !self.any {
                // Without slots that can be logged there is no such thing.
                return Err(Stop::Refused(ControlError::Unsupported));
            }
            return Ok(Step::Finished);
        };
        let Some((shift, _)) = info.log() else {
            self.next_slot();
            return Ok(Step::Again);
        };
        match self.phase {
            Phase::Begin => self.begin(target, &info, out)?,
            Phase::Harvest(from) => {
                let [next, _] = plain(target, Function::DirtyHarvest, [slot, 1, from])?;
                self.phase = match next {
                    DONE => Phase::Fetch(0),
                    next => Phase::Harvest(next),
                };
            }
            Phase::Fetch(first) => {
                let next = self.fetch(target, &info, shift, first, out)?;
                if next == DONE {
                    self.report(&info, shift, out)?;
                    self.next_slot();
                } else {
                    self.phase = Phase::Fetch(next);
                }
            }
        }
        Ok(Step::Again)
    }

    fn next_slot(&mut self) {
        self.slot += 1;
        self.phase = Phase::Begin;
        (self.pages, self.ranges, self.range_start) = (0, 0, None);
    }

    /// Switches the log, or finds that it is on.
    fn begin<T: Controlled>(
        &mut self,
        target: &T,
        info: &SlotInfo,
        out: &mut dyn Write,
    ) -> Result<(), Stop> {
        let logged = match target.session().try_lock() {
            Some(session) => session.is_logged(self.slot),
            None => return Err(ControlError::Busy.into()),
        };
        let switch = match (self.command, logged) {
            (DirtyCommand::Look, true) => {
                self.any = true;
                self.phase = Phase::Harvest(0);
                return Ok(());
            }
            (DirtyCommand::Look, false) => 1,
            (DirtyCommand::Off, _) => 0,
        };
        plain(target, Function::DirtyLog, [self.slot.into(), switch, 0])?;
        self.any = true;
        let state = if switch == 1 { "on" } else { "off" };
        let (slot, at) = (self.slot, info.guest_address);
        writeln!(out, "slot {slot} at {at}: log is {state}")?;
        self.next_slot();
        Ok(())
    }

    /// Fetches a piece of the bitmap, shows what fits, and returns the next page.
    fn fetch<T: Controlled>(
        &mut self,
        target: &T,
        info: &SlotInfo,
        shift: u8,
        first: u64,
        out: &mut dyn Write,
    ) -> Result<u64, Stop> {
        if self.buffer.is_empty() {
            self.buffer = buffer(size_of::<DirtyReply>() + STEP_BITMAP_BYTES)?;
        }
        let mut request = DirtyRequest::blank();
        request.slot = U32::new(self.slot);
        request.page_shift = shift;
        request.first_page = U64::new(first);
        request.pages = U64::new(8 * STEP_BITMAP_BYTES as u64);
        request.flags = U32::new(DirtyRequest::TAKE);
        if let Some(space) = self.buffer.get_mut(..size_of::<DirtyRequest>()) {
            space.copy_from_slice(request.as_bytes());
        }
        let slot = [self.slot.into(), 0, 0];
        let done = call(target, Function::DirtyFetch, slot, &mut self.buffer)?;
        let reply = core::mem::take(&mut self.buffer);
        let written = reply.get(..done.bytes).unwrap_or_default();
        let (record, bitmap) = records::read::<DirtyReply>(written).map_err(ControlError::from)?;
        self.pages += record.dirty.get();
        for page in 0..record.pages.get() {
            let byte = usize::try_from(page / 8).unwrap_or(usize::MAX);
            let dirty = bitmap
                .get(byte)
                .is_some_and(|byte| byte & 1 << (page % 8) != 0);
            self.page(info, shift, first + page, dirty, out)?;
        }
        self.buffer = reply;
        Ok(done.results[1])
    }

    fn page(
        &mut self,
        info: &SlotInfo,
        shift: u8,
        page: u64,
        dirty: bool,
        out: &mut dyn Write,
    ) -> Result<(), Stop> {
        match (self.range_start, dirty) {
            (None, true) => self.range_start = Some(page),
            (Some(start), false) => {
                self.range_start = None;
                self.range(info, shift, start..page, out)?;
            }
            _ => {}
        }
        Ok(())
    }

    fn range(
        &mut self,
        info: &SlotInfo,
        shift: u8,
        pages: core::ops::Range<u64>,
        out: &mut dyn Write,
    ) -> Result<(), Stop> {
        self.ranges += 1;
        if self.ranges <= SHOWN_RANGES {
            let base = info.guest_address.get();
            let at = |page: u64| base.wrapping_add(page << shift);
            let (start, end) = (at(pages.start), at(pages.end));
            writeln!(out, "  {start:#x} to {end:#x}")?;
        }
        Ok(())
    }

    fn report(&mut self, info: &SlotInfo, shift: u8, out: &mut dyn Write) -> Result<(), Stop> {
        let Some((_, all)) = info.log() else {
            return Ok(());
        };
        if let Some(start) = self.range_start.take() {
            self.range(info, shift, start..all, out)?;
        }
        if let Some(more) = self
            .ranges
            .checked_sub(SHOWN_RANGES)
            .filter(|more| *more > 0)
        {
            writeln!(out, "  and {more} more")?;
        }
        let (slot, at, pages) = (self.slot, info.guest_address, self.pages);
        let kib = (1_u64 << shift) >> 10;
        writeln!(
            out,
            "slot {slot} at {at}: {pages} of {all} pages of {kib} KiB written since the last look"
        )?;
        Ok(())
    }
}
