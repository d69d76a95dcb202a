// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The other processors: out of firmware by `OPAL_START_CPU`, and back into it.
//!
//! Firmware hands a processor nothing but its PIR, so each finds its stack in a list, by that
//! number: one that comes late never takes another's. It then calls the kernel's
//! `penstock_secondary(start)`.

// UNSAFETY: assembly, and OPAL calls that move processors.
#![expect(unsafe_code)]

use crate::opal::call::{call, retry};
use crate::opal::{Status, Token};
use core::arch::global_asm;
use core::mem::offset_of;
use core::sync::atomic::{AtomicU64, Ordering};
use penstock_arch::regs::sprn;

/// What a processor needs to begin with.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct SecondaryStart {
    /// Its PIR, which is its server number.
    pub pir: u64,
    /// The top of its stack, a multiple of 16.
    pub stack: u64,
    /// For the kernel.
    pub argument: u64,
}

/// Where the list is, read by `secondary.S`.
#[repr(C)]
struct List {
    first: AtomicU64,
    count: AtomicU64,
}

static LIST: List = List {
    first: AtomicU64::new(0),
    count: AtomicU64::new(0),
};

global_asm!(
    include_str!("secondary.S"),
    HRMOR = const sprn::HRMOR,
    LIST = sym LIST,
    FIRST = const offset_of!(List, first),
    COUNT = const offset_of!(List, count),
    PIR = const offset_of!(SecondaryStart, pir),
    STACK = const offset_of!(SecondaryStart, stack),
    SIZE = const size_of::<SecondaryStart>(),
);

unsafe extern "C" {
    static secondary_entry: [u8; 0];
}

/// Makes the list known to the processors that [`start`] names. It must not be empty.
pub fn announce(list: &'static [SecondaryStart]) {
    let first = list.as_ptr().expose_provenance() as u64;
    LIST.first.store(first, Ordering::Relaxed);
    LIST.count.store(list.len() as u64, Ordering::Release);
}

/// Takes the processor with this PIR out of firmware.
///
/// # Errors
/// Firmware's status: [`Status::PARAMETER`] for a number that it does not know,
/// [`Status::WRONG_STATE`] for a processor that is not in firmware.
///
/// # Safety
/// The [announced](announce) list must have the processor, with a stack of its own, and what the
/// kernel does with the processor must be wanted.
pub unsafe fn start(pir: u32) -> Result<(), Status> {
    let entry = (&raw const secondary_entry).expose_provenance() as u64;
    // SAFETY: the entry is ours, and the caller answers for what follows.
    unsafe { retry(Token::START_CPU, [u64::from(pir), entry, 0, 0, 0, 0, 0]) }.ok()
}

/// Gives the calling processor back to firmware.
///
/// # Safety
/// No guest may be loaded on it, and nobody may count on it any more. Its stack is never used again.
pub unsafe fn give_back() -> ! {
    loop {
        // SAFETY: the caller answers for it. Where it works, firmware does not return.
        let _ = unsafe { call(Token::RETURN_CPU, [0; 7]) };
        core::hint::spin_loop();
    }
}
