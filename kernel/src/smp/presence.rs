// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which guest a thread is in, and whether with LPCR\[VPM1\].
//!
//! Before a translation is hidden from the hardware, no thread may be in that partition's guest with
//! VPM1 clear (design decision 14). Who hides counts, full barrier, and then looks here, thread by
//! thread; who enters says so here, full barrier, and then looks at the count. A thread that serves a
//! guest's call on the light path counts as in the guest, for it goes straight back. It may itself be
//! waiting for others: so while it waits it turns its own VPM1 on as soon as that is needed, and says
//! so. Two that wait for each other both go on.

use super::sync::{AtomicU64, Ordering, fence};

/// In no guest.
const OUT: u64 = 0;
/// In the guest of the partition whose LPID is in the bits above.
const IN: u64 = 1 << 0;
/// With LPCR[VPM1] set.
const VPM: u64 = 1 << 1;
const LPID_SHIFT: u32 = 2;

/// Where one thread is.
#[derive(Debug, Default)]
pub struct Presence(AtomicU64);

impl Presence {
    /// In no guest.
    #[must_use]
    pub fn new() -> Self {
        Self(AtomicU64::new(OUT))
    }

    /// By its thread: it is about to enter the guest of this partition, perhaps without VPM1. What
    /// decides that is read afterwards.
    pub fn enter(&self, lpid: u32) {
        self.0
            .store(u64::from(lpid) << LPID_SHIFT | IN, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// By its thread, in a guest or about to enter it: VPM1 is set.
    pub fn virtualized(&self) {
        let here = self.0.load(Ordering::Relaxed);
        if here != OUT {
            self.0.store(here | VPM, Ordering::Release);
        }
    }

    /// By its thread: it has left the guest.
    pub fn leave(&self) {
        self.0.store(OUT, Ordering::Release);
    }

    /// Whether the thread may be in the guest of this partition with VPM1 clear.
    #[must_use]
    pub fn is_without_vpm(&self, lpid: u32) -> bool {
        self.0.load(Ordering::Acquire) == u64::from(lpid) << LPID_SHIFT | IN
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn only_the_guest_of_that_partition_counts() {
        let presence = Presence::new();
        assert!(!presence.is_without_vpm(0));
        presence.virtualized();
        presence.enter(3);
        assert!(presence.is_without_vpm(3));
        assert!(!presence.is_without_vpm(2));
        presence.virtualized();
        assert!(!presence.is_without_vpm(3));
        presence.leave();
        presence.enter(3);
        assert!(
            presence.is_without_vpm(3),
            "VPM1 is not kept across an exit"
        );
    }
}
