// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The small heap, for what is built once: partitions' records, device trees, rings.

// UNSAFETY: the allocator is given its memory.
#![expect(unsafe_code)]

use penstock_mm::real::Frames;
use talc::{TalcLock, source::Claim};

/// Bytes of the heap.
const SIZE: usize = 2 << 20;

static mut MEMORY: [u8; SIZE] = [0; SIZE];

#[global_allocator]
static HEAP: TalcLock<spin::Mutex<()>, Claim> = {
    let memory = &raw mut MEMORY;
    // SAFETY: the array is named here and nowhere else.
    TalcLock::new(unsafe { Claim::array(memory) })
};

/// Bytes in use.
pub fn used() -> usize {
    HEAP.lock().counters().allocated_bytes
}

/// Makes the heap larger by `frames`, which are never given back.
pub fn grow(frames: Frames) {
    let (base, len) = (frames.base().get(), frames.len());
    #[expect(
        clippy::cast_possible_truncation,
        reason = "usize is 64 bits on this machine"
    )]
    let (base, len) = (base as usize, len as usize);
    // SAFETY: ordinary memory, whose owner goes out of scope here without giving it to anybody.
    let claimed = unsafe {
        HEAP.lock()
            .claim(core::ptr::with_exposed_provenance_mut(base), len)
    };
    if claimed.is_none() {
        log::warn!("{len} bytes are too little for the heap");
    }
}
