// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The small heap, for what is built once: partitions' records, device trees, rings.

// UNSAFETY: the allocator is given its memory.
#![expect(unsafe_code)]

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
