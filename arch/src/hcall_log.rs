// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The last hypervisor calls of a virtual processor, for whoever asks why it was stopped.
//!
//! `guest_entry.S` notes each call: seven instructions, on the way in token and first argument, on
//! the way out the status. Nothing else may cost a light exit anything, so the layout is chosen for
//! them. The context holds the address of the newest entry. The entry code stores the next one with
//! an update of that register, which needs no compare for the wrap: the log lies such that the bit
//! that its end sets in an address is clear in all others, and one rotate-and-insert clears it again.
//! So entry 64 is stored behind entry 63, but from then on goes by the address of entry 0, where its
//! status comes to lie.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Calls that are kept.
pub const CALLS: usize = 64;

/// One entry: the newest call's token, and the status that belongs to this address.
#[derive(Debug)]
#[repr(C)]
struct Entry {
    /// The low word of r3.
    token: AtomicU32,
    /// The low word of r3 afterwards.
    status: AtomicU32,
    /// r4.
    argument: AtomicU64,
}

/// What an entry holds before any call: the status of no call.
const NOTHING: u32 = 0x8000_0000;

/// The log of one virtual processor.
#[derive(Debug)]
#[repr(C, align(2048))]
pub struct HcallLog {
    /// Entry 0 has the status of the call in entry 64, and no call of its own.
    entries: [Entry; CALLS + 1],
}

/// Distance of entries, in bytes.
pub const STRIDE: usize = size_of::<Entry>();
/// Where the status is in an entry.
pub const STATUS: usize = core::mem::offset_of!(Entry, status);
/// Where the argument is in an entry.
pub const ARGUMENT: usize = core::mem::offset_of!(Entry, argument);
/// The bit, counted from the least significant, that an address has only behind the last entry.
pub const WRAP_BIT: usize = (CALLS * STRIDE).ilog2() as usize;

const _: () = {
    use core::mem::offset_of;
    assert!(offset_of!(HcallLog, entries) == 0);
    assert!(size_of::<Entry>() == 16);
    assert!(STATUS == 4 && ARGUMENT == 8);
    // Entry 64 begins where the bit first appears, and no lower address has it.
    assert!(CALLS * STRIDE == 1 << WRAP_BIT && WRAP_BIT == 10);
    assert!(align_of::<HcallLog>() == 2 << WRAP_BIT);
};

/// A call that was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoggedCall {
    /// The low word of r3 when it was made.
    pub token: u32,
    /// r4 when it was made.
    pub argument: u64,
    /// The low word of r3 when the guest went on, or left without an answer yet.
    pub status: i32,
}

impl Default for HcallLog {
    fn default() -> Self {
        Self::new()
    }
}

impl HcallLog {
    /// No call was made.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            entries: [const {
                Entry {
                    token: AtomicU32::new(0),
                    status: AtomicU32::new(NOTHING),
                    argument: AtomicU64::new(0),
                }
            }; CALLS + 1],
        }
    }

    /// What a context holds before the first call: the address of entry 0.
    #[must_use]
    pub fn start(&self) -> u64 {
        core::ptr::from_ref(self).expose_provenance() as u64
    }

    /// The calls that are kept, oldest first, where a context holds `newest`.
    pub fn calls(&self, newest: u64) -> impl Iterator<Item = LoggedCall> {
        let offset = newest.wrapping_sub(self.start());
        let newest = usize::try_from(offset).map_or(0, |offset| offset / STRIDE % CALLS);
        // Entries 1 to 64, beginning behind the newest.
        let order = (1..=CALLS).map(move |age| (newest + age - 1) % CALLS + 1);
        order.filter_map(|index| {
            let entry = self.entries.get(index)?;
            let status = self.entries.get(index % CALLS)?;
            let status = status.status.load(Ordering::Relaxed);
            (status != NOTHING).then(|| LoggedCall {
                token: entry.token.load(Ordering::Relaxed),
                argument: entry.argument.load(Ordering::Relaxed),
                status: status.cast_signed(),
            })
        })
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use crate::fake::unless_miri;
    use std::boxed::Box;
    use std::vec::Vec;

    /// What the entry code does, by the same additions, and the same bit.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the entry code stores low words"
    )]
    fn note(log: &HcallLog, newest: &mut u64, token: u64, argument: u64, status: i64) {
        let mut at = *newest + STRIDE as u64;
        let index = usize::try_from((at - log.start()) / STRIDE as u64).unwrap();
        log.entries[index]
            .token
            .store(token as u32, Ordering::Relaxed);
        log.entries[index]
            .argument
            .store(argument, Ordering::Relaxed);
        at &= !(1 << WRAP_BIT);
        *newest = at;
        let index = usize::try_from((at - log.start()) / STRIDE as u64).unwrap();
        log.entries[index]
            .status
            .store(status as u32, Ordering::Relaxed);
    }

    #[test]
    fn no_call_was_made() {
        let log = Box::new(HcallLog::new());
        assert_eq!(log.calls(log.start()).count(), 0);
        assert_eq!(log.start() & (1 << WRAP_BIT), 0);
    }

    #[test]
    fn calls_come_oldest_first_and_the_last_64_are_kept() {
        let log = Box::new(HcallLog::new());
        let mut newest = log.start();
        let mut expected: Vec<LoggedCall> = Vec::new();
        for n in 0..200_u32 {
            let status = i32::try_from(n % 7).unwrap() - 3;
            note(
                &log,
                &mut newest,
                (n * 4).into(),
                u64::from(n) << 40,
                status.into(),
            );
            expected.push(LoggedCall {
                token: n * 4,
                argument: u64::from(n) << 40,
                status,
            });
            if expected.len() > 64 {
                expected.remove(0);
            }
            if n % unless_miri(1, 13) == 0 {
                let kept: Vec<LoggedCall> = log.calls(newest).collect();
                assert_eq!(kept, expected, "after {n}");
            }
        }
    }

    #[test]
    fn an_address_that_is_not_of_the_log_reads_nothing_outside() {
        let log = Box::new(HcallLog::new());
        let mut newest = log.start();
        note(&log, &mut newest, 4, 5, 6);
        for wrong in [0, 8, newest + 7, u64::MAX] {
            assert_eq!(log.calls(wrong).count(), 1);
        }
    }
}
