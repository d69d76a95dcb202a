// SPDX-License-Identifier: Apache-2.0 OR MIT
//! SUSPEND, COMMIT, RESUME, INVALIDATE.

use super::{Context, Done, Outcome};
use crate::control::error::{ControlError, Reason, RecordError};
use crate::control::invalidation::{Invalidation, Plan, Unit};
use crate::control::records::{self, Invalidate};
use crate::control::target::Controlled;
use core::mem::offset_of;

impl<T: Controlled> Context<'_, T> {
    pub(super) fn suspend(&mut self) -> Outcome {
        self.session.suspend(self.target, self.who)?;
        Ok(Done::NOTHING)
    }

    pub(super) fn commit(&mut self) -> Outcome {
        self.session.commit(self.target, self.who)?;
        Ok(Done::NOTHING)
    }

    pub(super) fn resume(&mut self) -> Outcome {
        self.session.resume(self.target, self.who)?;
        Ok(Done::NOTHING)
    }

    pub(super) fn invalidate(&mut self) -> Outcome {
        self.session.halted(self.who)?;
        let (record, payload) = records::read::<Invalidate>(self.buffer)?;
        let bad = |offset, reason| ControlError::Record(RecordError::new(offset, reason));
        let flags = record.flags.get();
        let unit = match flags & Invalidate::GROUPS {
            0 => Unit::Entry,
            _ => Unit::Group,
        };
        let (first, bits) = (record.first.get(), record.bits.get());
        let units = self.offer.hpt_entries / unit.entries();
        if first.checked_add(bits).is_none_or(|end| end > units) {
            return Err(bad(offset_of!(Invalidate, bits), Reason::Value));
        }
        let bytes = usize::try_from(record.bitmap_bytes.get()).unwrap_or(usize::MAX);
        let bitmap = payload
            .get(..bytes)
            .ok_or(bad(offset_of!(Invalidate, bitmap_bytes), Reason::TooShort))?;
        // Bits behind the last stand for nothing.
        let used = bits % 8;
        if let Some(last) = bitmap.last().filter(|_| used != 0)
            && u32::from(*last) >> used != 0
        {
            let begins_at = self.buffer.len() - payload.len();
            return Err(bad(begins_at + bytes - 1, Reason::Padding));
        }
        let what = Invalidation::new(unit, first, bitmap, self.offer.flush_threshold);
        if flags & Invalidate::STRICT != 0 && record.hint.get() != what.marked() {
            return Err(bad(offset_of!(Invalidate, hint), Reason::Hint));
        }
        let change = self.session.change(self.who)?;
        self.target.invalidate(change, &what)?;
        let everything = match what.plan() {
            Plan::Single => 0,
            Plan::Everything => 1,
        };
        Ok(Done::two(what.marked(), everything))
    }
}
