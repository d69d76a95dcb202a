// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The flags parameter of the page table hcalls.
//!
//! Bits that a call does not define are ignored here, as LoPAR permits; who wants them refused looks
//! at them before the call. LoPAR, Page Frame Table Access
//! flags field definition.

use super::{HashMmu, StorageKeys};
use crate::page_ops::Machine;
use penstock_arch::bits::ppc_bit;
use penstock_arch::hash::HpteR;

/// H_ENTER: this very entry, not the first free one of its group.
pub const EXACT: u64 = ppc_bit(24);
/// H_READ: give the page number as the guest knows it. Penstock always does.
pub const R_XLATE: u64 = ppc_bit(25);
/// H_READ: four entries.
pub const READ_4: u64 = ppc_bit(26);
/// Compare the AVPN parameter with doubleword 0.
pub const AVPN: u64 = ppc_bit(32);
/// Fail if the AVPN parameter and doubleword 0 have bits in common.
pub const ANDCOND: u64 = ppc_bit(33);
/// Drop the instruction cache's copies of the page.
pub const ICACHE_INVALIDATE: u64 = ppc_bit(40);
/// Make stores to the page visible to instruction fetch.
pub const ICACHE_SYNCHRONIZE: u64 = ppc_bit(41);
/// Zero the page.
pub const ZERO_PAGE: u64 = ppc_bit(48);
/// Copy the page.
pub const COPY_PAGE: u64 = ppc_bit(49);

impl<M: Machine> HashMmu<M> {
    /// Whether the partition has storage keys: without them the key bits of H_PROTECT's flags are
    /// reserved.
    #[must_use]
    pub const fn storage_keys(&self) -> StorageKeys {
        if self.guest_r_mask & HpteR::KEY_LOW == 0 {
            StorageKeys::NotOffered
        } else {
            StorageKeys::Offered
        }
    }
}

const _: () = assert!(AVPN == 0x8000_0000 && ANDCOND == 0x4000_0000);
const _: () = assert!(READ_4 == 0x20_0000_0000 && EXACT == 0x80_0000_0000);
