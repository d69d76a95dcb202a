// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The entry point: `head.S`, which calls the kernel's `penstock_main(fdt, opal_base, opal_entry)`.

// UNSAFETY: assembly, and the symbols of the linker script.
#![expect(unsafe_code)]

use crate::bootinfo::HostRange;
use core::arch::global_asm;
use penstock_arch::addr::HostReal;
use penstock_arch::regs::sprn;

global_asm!(include_str!("head.S"), HRMOR = const sprn::HRMOR);

unsafe extern "C" {
    static __image_start: [u8; 0];
    static __image_end: [u8; 0];
    static __boot_stack_bottom: [u8; 0];
    static __boot_stack_top: [u8; 0];
}

fn range(start: *const [u8; 0], end: *const [u8; 0]) -> Option<HostRange> {
    let start_at = start.expose_provenance() as u64;
    HostRange::new(
        HostReal::new(start_at),
        end.expose_provenance() as u64 - start_at,
    )
}

/// Where our own image lies, `.bss` and stacks included.
#[must_use]
pub fn image() -> Option<HostRange> {
    range(&raw const __image_start, &raw const __image_end)
}

/// The stack of the boot processor, its lowest bytes being the canary.
#[must_use]
pub fn boot_stack() -> Option<HostRange> {
    range(&raw const __boot_stack_bottom, &raw const __boot_stack_top)
}
