// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Virtual processors: the identities under which vCPUs receive interrupts.
//!
//! Firmware hands them out in blocks of a power of two, one block per partition, so a server number
//! is an index. A block is freed only when each of its processors is disabled and its queues are
//! off ([`crate::Presenter::tear_down`]); freeing also clears what the hardware has saved of it.

use penstock_arch::addr::HostReal;

use crate::fw::{FirmwareError, XiveFirmware, provisioned, settled};
use crate::ids::{ChipId, VpId};

/// The largest order of a block that can be asked for.
const MAX_ORDER: u32 = 16;

/// A block of virtual processors, not yet enabled.
#[derive(Debug, PartialEq, Eq)]
pub struct VpBlock {
    base: VpId,
    order: u32,
}

impl VpBlock {
    /// Allocates `1 << order` virtual processors, donating memory where firmware wants it.
    ///
    /// # Errors
    /// The status of the call that failed for good.
    pub fn allocate<F: XiveFirmware>(
        fw: &F,
        provision_chips: &[ChipId],
        frames: &mut impl FnMut(ChipId) -> Option<HostReal>,
        order: u32,
    ) -> Result<Self, FirmwareError> {
        if order > MAX_ORDER {
            return Err(FirmwareError::PARAMETER);
        }
        let base = provisioned(fw, provision_chips, frames, || fw.alloc_vp_block(order))?;
        Ok(Self { base, order })
    }

    /// The processor with this index in the block.
    #[must_use]
    pub fn vp(&self, index: u32) -> Option<VpId> {
        if index >> self.order != 0 {
            return None;
        }
        self.base.get().checked_add(index).map(VpId::new)
    }

    /// Gives the block back.
    ///
    /// # Errors
    /// [`FirmwareError::FREE_ACTIVE`] where one of its processors is still enabled.
    pub fn free<F: XiveFirmware>(self, fw: &F) -> Result<(), FirmwareError> {
        settled(fw, || fw.free_vp_block(self.base))
    }
}
