// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Cache-inhibited accesses from hypervisor real mode (Power ISA 3.0B, Book III, Load and Store
//! Caching Inhibited Instructions).
//!
//! The hypervisor has no page table that could mark a page cache-inhibited, so devices are reached
//! only by these. Values are in device byte order, which for everything that Penstock touches is
//! big-endian: they are swapped here, so that callers see numbers.

// UNSAFETY: caching-inhibited loads and stores exist only as assembly.
#![expect(unsafe_code)]

use crate::addr::HostReal;
use core::arch::asm;

macro_rules! access {
    ($load:ident, $store:ident, $type:ty, $ld:literal, $st:literal) => {
        #[doc = concat!("Loads a big-endian `", stringify!($type), "`.")]
        ///
        /// # Safety
        /// `at` must be a device register of that width whose read is wanted.
        #[inline(always)]
        #[must_use]
        pub unsafe fn $load(at: HostReal) -> $type {
            let value: u64;
            // SAFETY: the caller names a device register; no ordinary memory changes.
            unsafe {
                asm!(concat!($ld, " {}, 0, {}"), out(reg) value, in(reg) at.get(),
                    options(nostack, preserves_flags));
            }
            // The load zero-extends, so nothing is cut off.
            <$type>::from_be(<$type>::try_from(value).unwrap_or(<$type>::MAX))
        }

        #[doc = concat!("Stores a big-endian `", stringify!($type), "`.")]
        ///
        /// # Safety
        /// `at` must be a device register of that width whose write is wanted.
        #[inline(always)]
        pub unsafe fn $store(at: HostReal, value: $type) {
            // SAFETY: the caller names a device register; no ordinary memory changes.
            unsafe {
                asm!(concat!($st, " {}, 0, {}"), in(reg) u64::from(value.to_be()), in(reg) at.get(),
                    options(nostack, preserves_flags));
            }
        }
    };
}

access!(load8, store8, u8, "lbzcix", "stbcix");
access!(load16, store16, u16, "lhzcix", "sthcix");
access!(load32, store32, u32, "lwzcix", "stwcix");
access!(load64, store64, u64, "ldcix", "stdcix");
