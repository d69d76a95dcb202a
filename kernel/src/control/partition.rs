// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The machine's partitions, as far as this version of them can be controlled.
//!
//! What is not offered here is refused by the interface before it gets this far; these methods
//! refuse it too, so that nothing depends on that.

use super::function::Feature;
use super::invalidation::Invalidation;
use super::records::{VcpuState, VectorState};
use super::session::{Dirty, Halted, Runnable, Session};
use super::target::{
    Access, Controlled, Directory, Features, Harvest, Harvested, HeaderOrder, Logging, Offer,
    SlotInfo, SlotKind, StreamFilter, StreamPiece, Suspension, Take, TargetError,
};
use crate::partition::Partition;
use crate::platform::Platform;
use penstock_mm::guest_memory::SlotId;
use penstock_mm::hpt::{HptStats, Violation};
use penstock_mm::slot as mm;
use spin::Mutex;

/// Binary logarithm of what a bit of a dirty log stands for.
const DIRTY_SHIFT: u8 = 12;

fn slot_id(number: u32) -> SlotId {
    SlotId::new(usize::try_from(number).unwrap_or(usize::MAX))
}

/// Binary logarithm of the largest page that guest memory backs: it comes in blocks of 16 MiB.
const LARGEST_PAGE_SHIFT: u8 = 24;
/// The page sizes that partitions are told.
const PAGE_SIZES: u32 = 1 << 12 | 1 << 16 | 1 << LARGEST_PAGE_SHIFT;

impl<P: Platform> Controlled for Partition<P> {
    type Violation = Violation;

    fn session(&self) -> &Mutex<Session> {
        &self.session
    }

    fn number(&self) -> u32 {
        self.id.0.into()
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn offer(&self) -> Offer {
        Offer {
            features: Features::NONE
                .with(Feature::Slots)
                .with(Feature::DirtyLog)
                .with(Feature::Framebuffer),
            slots: u32::try_from(self.mmu.memory().slots().count()).unwrap_or(1),
            vcpus: self.vcpus,
            page_sizes: PAGE_SIZES,
            dirty_page_sizes: 1 << DIRTY_SHIFT,
            hpt_entries: self.mmu.entries(),
            flush_threshold: 0,
        }
    }

    fn slot(&self, slot: u32) -> Option<SlotInfo> {
        let slot = self.mmu.memory().slot(slot_id(slot))?;
        let kind = match slot.kind() {
            mm::SlotKind::Memory => SlotKind::Memory,
            mm::SlotKind::Framebuffer => SlotKind::Framebuffer {
                row_bytes: self.framebuffer_row_bytes,
            },
            mm::SlotKind::Device => SlotKind::Device,
        };
        Some(SlotInfo {
            kind,
            guest_address: slot.base(),
            bytes: slot.bytes(),
            page_shift: u8::try_from(slot.largest().shift()).unwrap_or(DIRTY_SHIFT),
            // A framebuffer's log is the monitor's, for pictures; devices have none.
            dirty_shift: (slot.kind() == mm::SlotKind::Memory).then_some(DIRTY_SHIFT),
            access: Access::ReadWrite,
        })
    }

    fn set_dirty_log(&self, slot: u32, logging: Logging) -> Result<(), TargetError> {
        let slot = slot_id(slot);
        let on = self.mmu.memory().slot(slot).map(mm::Slot::is_logging);
        match (logging, on) {
            (Logging::On, Some(false)) => self.mmu.start_log(slot),
            (Logging::Off, Some(true)) => self.mmu.stop_log(slot),
            (_, Some(_)) => Some(()),
            (_, None) => None,
        }
        .ok_or(TargetError::State)
    }

    /// The number to go on with counts parts of the slot, each mapped by no more entries than one
    /// call may look at, or by as many as map one part.
    fn harvest(
        &self,
        slot: u32,
        how: Harvest,
        from: u64,
        _: u64,
    ) -> Result<Harvested, TargetError> {
        let slot = slot_id(slot);
        self.note_hardware_writes();
        let before = self.mmu.logged_granules(slot);
        let next = match how {
            Harvest::Cheap => self.mmu.harvest_part_roughly(slot, from),
            // The caller's own virtual processor is what writes.
            Harvest::Exact => self.mmu.harvest_part(slot, from),
        }
        .ok_or(TargetError::State)?;
        Ok(Harvested {
            next,
            found: self.mmu.logged_granules(slot).saturating_sub(before),
        })
    }

    fn fetch_dirty(
        &self,
        slot: u32,
        first_page: u64,
        take: Take,
        bitmap: &mut [u8],
    ) -> Result<u64, TargetError> {
        let slot = slot_id(slot);
        let mut dirty = 0;
        for (bytes, number) in bitmap.chunks_mut(8).zip(first_page / 64..) {
            let mut word = [0];
            let there = match take {
                Take::Clear => self.mmu.take_log(slot, number, &mut word),
                Take::Keep => self.mmu.peek_log(slot, number, &mut word),
            };
            if there == 0 {
                break;
            }
            dirty += u64::from(word[0].count_ones());
            let words = word[0].to_le_bytes();
            for (to, from) in bytes.iter_mut().zip(words) {
                *to = from;
            }
        }
        Ok(dirty)
    }

    fn open_reader(&self, _: usize, _: HeaderOrder, _: StreamFilter) -> Result<(), TargetError> {
        Err(TargetError::Unsupported)
    }

    fn read_stream(&self, _: usize, _: u64, _: &mut [u8]) -> Result<StreamPiece, TargetError> {
        Err(TargetError::Unsupported)
    }

    fn close_reader(&self, _: usize) {}

    fn write_stream(&self, _: &Dirty, _: HeaderOrder, _: &[u8]) -> Result<(), TargetError> {
        Err(TargetError::Unsupported)
    }

    fn drop_entries(&self, _: &Dirty, _: u64, _: u64) -> Result<Option<u64>, TargetError> {
        Err(TargetError::Unsupported)
    }

    fn invalidate(&self, _: &Dirty, _: &Invalidation<'_>) -> Result<(), TargetError> {
        Err(TargetError::Unsupported)
    }

    fn read_vcpu(
        &self,
        _: &Halted,
        _: u32,
        _: &mut VcpuState,
        _: Option<&mut VectorState>,
    ) -> Result<(), TargetError> {
        Err(TargetError::Unsupported)
    }

    fn write_vcpu(
        &self,
        _: &Dirty,
        _: u32,
        _: &VcpuState,
        _: Option<&VectorState>,
    ) -> Result<(), TargetError> {
        Err(TargetError::Unsupported)
    }

    fn suspend(&self) -> Result<Suspension, TargetError> {
        Err(TargetError::Unsupported)
    }

    fn commit(&self, _: &Dirty) -> Result<(), TargetError> {
        Err(TargetError::Unsupported)
    }

    fn resume(&self, _: &Runnable) -> Result<(), TargetError> {
        Err(TargetError::Unsupported)
    }

    /// All of the table in one step.
    fn check_hpt(
        &self,
        _: u64,
        _: u64,
        stats: &mut HptStats,
    ) -> Result<Option<u64>, Self::Violation> {
        *stats = self.mmu.check()?;
        Ok(None)
    }
}

/// The one partition that a call can name in this version: the caller's own.
pub struct OnlyPartition<'p, P: Platform>(pub &'p Partition<P>);

impl<P: Platform> Directory for OnlyPartition<'_, P> {
    type Target = Partition<P>;

    fn find(&self, number: u64) -> Option<&Partition<P>> {
        (number == u64::from(self.0.id.0)).then_some(self.0)
    }
}
