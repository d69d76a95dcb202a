// SPDX-License-Identifier: Apache-2.0 OR MIT
//! DIRTY_LOG, DIRTY_HARVEST, DIRTY_FETCH.

use super::{Context, DONE, Done, ENTRIES_PER_CALL, Outcome};
use crate::control::error::{Argument, ControlError, Reason, RecordError};
use crate::control::records::{self, DirtyReply, DirtyRequest};
use crate::control::target::{Controlled, Harvest, Logging, Take};
use core::mem::offset_of;
use zerocopy::byteorder::big_endian::{U32, U64};

/// A page's place in the bitmap is found from a multiple of this.
const PAGES_PER_WORD: u64 = 64;

fn bad(offset: usize) -> ControlError {
    RecordError::new(offset, Reason::Value).into()
}

impl<T: Controlled> Context<'_, T> {
    /// The slot in r8, if it can have a log.
    fn log_slot(&self) -> Result<u32, ControlError> {
        let number = self.below(Argument::First, u64::from(self.offer.slots))?;
        u32::try_from(number)
            .ok()
            .filter(|slot| {
                self.target
                    .slot(*slot)
                    .and_then(|info| info.log())
                    .is_some()
            })
            .ok_or(ControlError::Argument(Argument::First))
    }

    pub(super) fn dirty_log(&mut self) -> Outcome {
        let slot = self.log_slot()?;
        let logging = match self.below(Argument::Second, 2)? {
            0 => Logging::Off,
            _ => Logging::On,
        };
        self.session.set_log(self.target, slot, logging, self.who)?;
        Ok(Done::NOTHING)
    }

    pub(super) fn dirty_harvest(&mut self) -> Outcome {
        let slot = self.log_slot()?;
        let how = match self.below(Argument::Second, 2)? {
            0 => Harvest::Cheap,
            _ => Harvest::Exact,
        };
        let cursor = self.below(Argument::Third, self.target.harvest_end(slot))?;
        self.session.logged_by(slot, self.who)?;
        let harvested = self.target.harvest(slot, how, cursor, ENTRIES_PER_CALL)?;
        Ok(Done::two(harvested.next.unwrap_or(DONE), harvested.found))
    }

    pub(super) fn dirty_fetch(&mut self) -> Outcome {
        let slot = self.log_slot()?;
        self.session.logged_by(slot, self.who)?;
        let log = self.target.slot(slot).and_then(|info| info.log());
        let (shift, slot_pages) = log.ok_or(ControlError::Hardware)?;
        let (request, _) = records::read::<DirtyRequest>(self.buffer)?;
        let request = *request;
        if request.slot.get() != slot {
            return Err(bad(offset_of!(DirtyRequest, slot)));
        }
        if request.page_shift != shift {
            return Err(bad(offset_of!(DirtyRequest, page_shift)));
        }
        let first = request.first_page.get();
        let left = match slot_pages.checked_sub(first) {
            Some(left) if left > 0 => left,
            _ => return Err(bad(offset_of!(DirtyRequest, first_page))),
        };
        let take = match request.flags.get() & DirtyRequest::TAKE {
            0 => Take::Keep,
            _ => Take::Clear,
        };
        let (reply, space) =
            records::start::<DirtyReply>(self.buffer).ok_or(ControlError::Length)?;
        // Whole words of the log, so that the next request can begin with one.
        let room = space.len() as u64 / 8 * PAGES_PER_WORD;
        let pages = request.pages.get().min(room).min(left);
        let bytes = usize::try_from(pages.div_ceil(8)).map_err(|_| ControlError::Length)?;
        let bitmap = space.get_mut(..bytes).ok_or(ControlError::Length)?;
        bitmap.fill(0);
        let dirty = self.target.fetch_dirty(slot, first, take, bitmap)?;
        reply.slot = request.slot;
        reply.page_shift = shift;
        reply.first_page = request.first_page;
        reply.pages = U64::new(pages);
        reply.dirty = U64::new(dirty);
        reply.bitmap_bytes = U32::new(u32::try_from(bytes).map_err(|_| ControlError::Length)?);
        let next = if pages < left { first + pages } else { DONE };
        Ok(Done::written_and(size_of::<DirtyReply>() + bytes, next))
    }
}
