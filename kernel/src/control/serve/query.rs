// SPDX-License-Identifier: Apache-2.0 OR MIT
//! FEATURE, CAPABILITIES, SLOTS.

use super::{Context, DONE, Done, ENTRIES_PER_CALL, MAX_BUFFER_BYTES, Outcome};
use crate::control::error::{Argument, ControlError};
use crate::control::function::Feature;
use crate::control::records::{Capabilities, Slot, start};
use crate::control::target::{Access, Controlled, Offer, STREAM_READERS, SlotInfo, SlotKind};
use zerocopy::byteorder::big_endian::{U16, U32, U64};

/// Version of every feature that is offered.
const VERSION: u8 = 1;

/// FEATURE: has an answer for every number.
pub(super) fn feature(offer: &Offer, arguments: [u64; 3]) -> Done {
    let [number, ..] = arguments;
    let Some(feature) = Feature::new(number).filter(|feature| offer.features.has(*feature)) else {
        return Done::two(0, 0);
    };
    let parameter = match feature {
        Feature::Slots => u64::from(offer.slots),
        Feature::DirtyLog => u64::from(offer.dirty_page_sizes),
        Feature::StreamRead => STREAM_READERS as u64,
        Feature::VcpuState => u64::from(offer.vcpus),
        Feature::Invalidate => u64::from(offer.flush_threshold),
        Feature::StreamWrite
        | Feature::Fp
        | Feature::Vmx
        | Feature::Vsx
        | Feature::Suspend
        | Feature::Framebuffer => 0,
    };
    Done::two(u64::from(VERSION), parameter)
}

fn small(value: usize) -> U32 {
    U32::new(u32::try_from(value).unwrap_or(u32::MAX))
}

impl<T: Controlled> Context<'_, T> {
    pub(super) fn capabilities(&mut self) -> Outcome {
        let offer = &self.offer;
        let (record, _) = start::<Capabilities>(self.buffer).ok_or(ControlError::Length)?;
        for (feature, ..) in Feature::ALL {
            if offer.features.has(*feature)
                && let Some(version) = record.features.get_mut(*feature as usize)
            {
                *version = VERSION;
            }
        }
        record.max_buffer_bytes = small(MAX_BUFFER_BYTES);
        record.entries_per_call = U32::new(u32::try_from(ENTRIES_PER_CALL).unwrap_or(u32::MAX));
        record.slots = U32::new(offer.slots);
        record.vcpus = U32::new(offer.vcpus);
        record.stream_readers = small(STREAM_READERS);
        record.page_sizes = U32::new(offer.page_sizes);
        record.dirty_page_sizes = U32::new(offer.dirty_page_sizes);
        record.vector_parts = U32::new(offer.features.vector_parts());
        record.hpt_entries = U64::new(offer.hpt_entries);
        record.flush_threshold = U32::new(offer.flush_threshold);
        record.partition = U32::new(self.target.number());
        Ok(Done::written(size_of::<Capabilities>()))
    }

    pub(super) fn slots(&mut self) -> Outcome {
        let end = u64::from(self.offer.slots);
        let mut next = self.below(Argument::First, end + 1)?;
        let mut written = 0;
        for space in self.buffer.chunks_exact_mut(size_of::<Slot>()) {
            if next == end {
                break;
            }
            let number = u32::try_from(next).map_err(|_| ControlError::Hardware)?;
            let info = self.target.slot(number).ok_or(ControlError::Hardware)?;
            let (record, _) = start::<Slot>(space).ok_or(ControlError::Length)?;
            describe(record, number, &info);
            if self.session.is_logged(number) {
                record.flags = U32::new(record.flags.get() | Slot::LOGGED);
            }
            written += size_of::<Slot>();
            next += 1;
        }
        let cursor = if next == end { DONE } else { next };
        Ok(Done::written_and(written, cursor))
    }
}

fn describe(record: &mut Slot, number: u32, info: &SlotInfo) {
    let (kind, row_bytes) = match info.kind {
        SlotKind::Memory => (Slot::MEMORY, 0),
        SlotKind::Framebuffer { row_bytes } => (Slot::FRAMEBUFFER, row_bytes),
        SlotKind::Device => (Slot::DEVICE, 0),
    };
    record.slot = U32::new(number);
    record.kind = U16::new(kind);
    record.page_shift = info.page_shift;
    record.dirty_shift = info.dirty_shift.unwrap_or(0);
    record.guest_address = U64::new(info.guest_address.get());
    record.bytes = U64::new(info.bytes);
    record.flags = U32::new(match info.access {
        Access::ReadWrite => 0,
        Access::ReadOnly => Slot::READ_ONLY,
    });
    record.row_bytes = U32::new(row_bytes);
}
