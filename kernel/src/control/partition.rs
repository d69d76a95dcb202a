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
use penstock_arch::addr::GuestReal;
use penstock_mm::hpt::{HptStats, Violation};
use spin::Mutex;

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
            features: Features::NONE.with(Feature::Slots),
            slots: 1,
            vcpus: self.vcpus,
            page_sizes: PAGE_SIZES,
            dirty_page_sizes: 0,
            hpt_entries: self.mmu.entries(),
            flush_threshold: 0,
        }
    }

    fn slot(&self, slot: u32) -> Option<SlotInfo> {
        (slot == 0).then(|| SlotInfo {
            kind: SlotKind::Memory,
            guest_address: GuestReal::new(0),
            bytes: self.mmu.memory().size(),
            page_shift: LARGEST_PAGE_SHIFT,
            dirty_shift: None,
            access: Access::ReadWrite,
        })
    }

    fn set_dirty_log(&self, _: u32, _: Logging) -> Result<(), TargetError> {
        Err(TargetError::Unsupported)
    }

    fn harvest(&self, _: u32, _: Harvest, _: u64, _: u64) -> Result<Harvested, TargetError> {
        Err(TargetError::Unsupported)
    }

    fn fetch_dirty(&self, _: u32, _: u64, _: Take, _: &mut [u8]) -> Result<u64, TargetError> {
        Err(TargetError::Unsupported)
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

/// The only partition of this version.
pub struct OnlyPartition<P: Platform>(pub &'static Partition<P>);

impl<P: Platform> Directory for OnlyPartition<P> {
    type Target = Partition<P>;

    fn find(&self, number: u64) -> Option<&Partition<P>> {
        (number == u64::from(self.0.id.0)).then_some(self.0)
    }
}
