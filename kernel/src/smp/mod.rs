// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What hardware threads say to each other: protocols, without the machine.
//!
//! Each is a word or two that several threads look at, and each answers one question whose wrong
//! answer is a guest that hangs or a guest that sees too much:
//!
//! - [`Bell`]: does a thread that sleeps or is in a guest learn of what was left for it?
//! - [`Hold`]: is a virtual processor off its thread, when another thread works on it?
//! - [`Home`]: is a virtual processor woken that goes to another thread at that moment?
//! - [`TlbScope`]: must an invalidation of translations reach other threads?
//! - [`Presence`]: who is in which guest, and with which LPCR\[VPM1\] (design decision 14)?
//!
//! `kernel/tests/interleavings` tries every interleaving of a few threads on the very same files.

mod bell;
mod hold;
mod home;
mod placement;
mod presence;
mod tlb_scope;

pub use bell::{Bell, Ring};
pub use hold::{Boarding, Hold};
pub use home::{Home, Offer};
pub use placement::{Load, fewest_pinned, place};
pub use presence::Presence;
pub use tlb_scope::TlbScope;

/// Bytes of the board's memory that each hardware thread takes: its stacks and its event queue.
pub const THREAD_BYTES: u64 = 128 << 10;

/// What the protocols are made of; loom's own in the interleaving tests.
mod sync {
    pub(super) use core::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};
}
