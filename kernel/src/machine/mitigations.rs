// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Speculation mitigations: what the hypervisor does on its way into a guest, and what it tells the
//! guest to do.
//!
//! Firmware lists in `fw-features` what the processor has and needs. Without that node a real
//! processor is taken to need the flush; under QEMU, which has no caches, it is not.

// UNSAFETY: an instruction in our own text is replaced.
#![expect(unsafe_code)]

use crate::bootargs::Mitigations;
use crate::partition::CpuCharacteristics;
use penstock_arch::addr::HostReal;
use penstock_arch::bits::ppc_bit;
use penstock_arch::regs::Processor;
use penstock_arch::sync;
use penstock_boot::bootinfo::{BootInfo, FwFeatureState};

unsafe extern "C" {
    static guest_entry_barrier: [u8; 0];
    static guest_hcall_barrier: [u8; 0];
}

/// `mtspr 882, r0`: flushes the L1 data cache (POWER9 and later).
const L1D_FLUSH: u32 = 0x7c12_dba6;

/// The machine, as far as the choice depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Board {
    /// Caches and speculation.
    Silicon,
    /// Neither.
    Emulator,
}

/// Puts the mitigations in force, and returns what H_GET_CPU_CHARACTERISTICS answers.
pub fn apply(
    choice: Mitigations,
    info: &BootInfo<'_>,
    board: Board,
    processor: Processor,
) -> CpuCharacteristics {
    let enabled = |name| info.fw_feature(name) == Some(FwFeatureState::Enabled);
    let known = info.fw_features.is_some();
    let flush = match (choice, board) {
        (Mitigations::On, _) => true,
        (Mitigations::Off, _) => false,
        (Mitigations::Auto, _) if known => enabled("needs-l1d-flush-msr-hv-1-to-0"),
        (Mitigations::Auto, Board::Silicon) => true,
        (Mitigations::Auto, Board::Emulator) => {
            log::info!("no fw-features under an emulator: speculation mitigations are off");
            false
        }
    };
    // Without the instruction the number is no register, and writing it the end of us.
    let available = match processor {
        Processor::Power9 => true,
        Processor::Power10 => enabled("inst-l1d-flush-trig2"),
    };
    if flush && !available {
        log::warn!("this processor has no L1D flush by mtspr: none is made at a guest's entry");
    }
    let flush = flush && available;
    if flush {
        patch(&raw const guest_entry_barrier);
        patch(&raw const guest_hcall_barrier);
        log::info!("L1D flush at each entry of a guest");
    }
    if !known {
        return without_features(flush);
    }
    let mut answer = CpuCharacteristics::default();
    for (name, bit) in CHARACTERISTICS {
        if enabled(name) {
            answer.characteristics |= ppc_bit(*bit);
        }
    }
    for (name, bit) in BEHAVIOURS {
        if enabled(name) {
            answer.behaviour |= ppc_bit(*bit);
        }
    }
    answer
}

/// fw-features names and bits of the first result (as Linux guests read them).
const CHARACTERISTICS: &[(&str, u32)] = &[
    ("inst-spec-barrier-ori31,31,0", 0),
    ("fw-bcctrl-serialized", 1),
    ("inst-l1d-flush-ori30,30,0", 2),
    ("inst-l1d-flush-trig2", 3),
    ("fw-l1d-thread-split", 4),
    ("fw-count-cache-disabled", 7),
    ("fw-count-cache-flush-bcctr2,0,0", 9),
];

/// The same for the second.
const BEHAVIOURS: &[(&str, u32)] = &[
    ("speculation-policy-favor-security", 0),
    ("needs-l1d-flush-msr-pr-0-to-1", 1),
    ("needs-spec-barrier-for-bound-checks", 2),
    ("needs-count-cache-flush-on-context-switch", 5),
    ("no-need-l1d-flush-msr-pr-1-to-0", 7),
    ("no-need-l1d-flush-kernel-on-user-access", 8),
    ("no-need-store-drain-on-priv-state-switch", 9),
];

/// What is said where firmware says nothing: with the flush on, all that POWER9 has; without, that
/// no flush is needed.
const fn without_features(flush: bool) -> CpuCharacteristics {
    if flush {
        CpuCharacteristics {
            characteristics: ppc_bit(0) | ppc_bit(3),
            behaviour: ppc_bit(0) | ppc_bit(1) | ppc_bit(2) | ppc_bit(5),
        }
    } else {
        // Bits 7 to 9: no flush at entry, none at user access, no store-forwarding barrier.
        CpuCharacteristics {
            characteristics: 0,
            behaviour: ppc_bit(7) | ppc_bit(8) | ppc_bit(9),
        }
    }
}

fn patch(site: *const [u8; 0]) {
    let address = site.expose_provenance();
    let instruction = core::ptr::with_exposed_provenance_mut::<u32>(address);
    // SAFETY: the site is a nop in our own text, on its own; other threads are in firmware.
    unsafe { instruction.write_volatile(L1D_FLUSH) };
    sync::flush_icache(HostReal::new(address as u64), 4);
}
