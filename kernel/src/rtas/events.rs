// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Events that firmware has for a guest, which `check-exception` hands out.
//!
//! There is one: an environmental and power warning (EPOW) that asks the guest to shut down. Its
//! interrupt comes first; the guest's handler then asks what happened. The error log is of version 6:
//! fixed part, extended header, and the sections Main-A, Main-B and EPOW, of which the last one tells
//! Linux what to do.
//!
//! LoPAR, check-exception; Error and Event Notification; RTAS General Extended Event Log Format,
//! Version 6; Platform Event Log Format, Main-A, Main-B and EPOW Section.

use super::memory::GuestBytes;
use super::status;
use super::time::DateTime;
use arrayvec::ArrayVec;
use penstock_arch::addr::GuestReal;

/// Bytes of the log.
const LOG_BYTES: usize = FIXED_BYTES + EXTENDED_BYTES;
const FIXED_BYTES: usize = 8;
const EXTENDED_BYTES: usize = HEADER_BYTES + MAIN_A_BYTES + MAIN_B_BYTES + EPOW_BYTES;
const HEADER_BYTES: usize = 16;
const MAIN_A_BYTES: usize = 48;
const MAIN_B_BYTES: usize = 24;
const EPOW_BYTES: usize = 20;

const _: () = assert!(LOG_BYTES == 116 && LOG_BYTES <= super::ERROR_LOG_MAX as usize);

/// The vector offset by which `check-exception` names external interrupts.
const EXTERNAL_INTERRUPT: u32 = 0x500;
/// EPOW in the event mask.
const EPOW_EVENTS: u32 = 0x4000_0000;

/// What firmware has to tell a guest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Events {
    shutdown: bool,
}

impl Events {
    /// The guest shall shut down.
    pub fn request_shutdown(&mut self) {
        self.shutdown = true;
    }

    /// Whether there is anything that the guest has not asked for yet.
    #[must_use]
    pub const fn any(&self) -> bool {
        self.shutdown
    }

    /// The guest starts over, and knows of nothing.
    pub fn forget(&mut self) {
        *self = Self::default();
    }

    /// `check-exception`: hands out an event of the kinds that the guest asks for. One that cannot be
    /// stored is kept; one for which the buffer is too short is cut off, as LoPAR has it.
    pub fn check_exception<M: GuestBytes>(
        &mut self,
        [vector, _source, mask, _critical, buffer, length]: [u32; 6],
        now: Option<DateTime>,
        memory: &mut M,
    ) -> i32 {
        if !self.shutdown || vector != EXTERNAL_INTERRUPT || mask & EPOW_EVENTS == 0 {
            return status::NO_EVENT;
        }
        let log = shutdown_log(now);
        let length = usize::try_from(length).map_or(log.len(), |length| length.min(log.len()));
        let at = GuestReal::new(u64::from(buffer));
        match memory.write(at, log.get(..length).unwrap_or_default()) {
            Ok(()) => {
                self.shutdown = false;
                status::SUCCESS
            }
            Err(_) => status::PARAMETER,
        }
    }
}

/// The header of a section.
fn section(id: [u8; 2], bytes: usize) -> [u8; 8] {
    const VERSION: u8 = 1;
    // Sections are a few dozen bytes long.
    let [high, low] = u16::try_from(bytes).unwrap_or(u16::MAX).to_be_bytes();
    let [first, second] = id;
    [first, second, high, low, VERSION, 0, 0, 0]
}

/// Two decimal digits as one byte.
fn decimal(value: u32) -> u8 {
    let digit = |value: u32| u8::try_from(value % 10).unwrap_or(0);
    digit(value / 10) << 4 | digit(value)
}

/// The event that asks for a normal shutdown of the partition.
fn shutdown_log(now: Option<DateTime>) -> ArrayVec<u8, LOG_BYTES> {
    let [year, month, day, hour, minute, second, _] = now.map_or([0; 7], |now| now.fields());
    let extended = u32::try_from(EXTENDED_BYTES).unwrap_or(0);
    let parts: [&[u8]; 16] = [
        // Version 6; severity "event", not recovered, with an extended log; of no unit; EPOW.
        &[6, 1 << 5 | 2 << 3 | 1 << 2, 0, 0x40],
        &extended.to_be_bytes(),
        // Valid and new; in the format of POWER, a platform event.
        &[0x84, 0, 0x8e, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        b"IBM\0",
        &section(*b"PH", MAIN_A_BYTES),
        &[
            decimal(year / 100),
            decimal(year),
            decimal(month),
            decimal(day),
        ],
        &[decimal(hour), decimal(minute), decimal(second), 0],
        &[0; 8],
        // By the hypervisor; three sections.
        &[b'H', 0, 0, 3],
        &[0; 20],
        &section(*b"UH", MAIN_B_BYTES),
        // Of the external environment; for information; a normal shutdown.
        &[0xa0, 0, 0, 0xd0],
        // No action is asked for besides.
        &[0; 12],
        &section(*b"EP", EPOW_BYTES),
        // Shut down, for no other reason than that it is wanted, this partition alone.
        &[3, 1, 1, 0],
        &[0; 8],
    ];
    // As many bytes as there is room for: the test counts them.
    parts
        .into_iter()
        .flatten()
        .copied()
        .take(LOG_BYTES)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtas::testing::{FakeMemory, HOLE};

    /// 2024-02-29 12:34:56.
    fn leap_day() -> Option<DateTime> {
        DateTime::new([2024, 2, 29, 12, 34, 56, 0])
    }

    const EPOW: [u32; 6] = [0x500, 0x1001, 0x4000_0000, 0, 0x4000, 2048];

    #[test]
    fn the_log_is_what_lopar_says() {
        let log = shutdown_log(leap_day());
        #[rustfmt::skip]
        let expected: [u8; LOG_BYTES] = [
            0x06, 0x34, 0x00, 0x40, 0, 0, 0, 108,
            0x84, 0, 0x8e, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x49, 0x42, 0x4d, 0,
            0x50, 0x48, 0, 48, 1, 0, 0, 0, 0x20, 0x24, 0x02, 0x29, 0x12, 0x34, 0x56, 0,
            0, 0, 0, 0, 0, 0, 0, 0, 0x48, 0, 0, 3, 0, 0, 0, 0,
            0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
            0x55, 0x48, 0, 24, 1, 0, 0, 0, 0xa0, 0, 0, 0xd0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
            0x45, 0x50, 0, 20, 1, 0, 0, 0, 3, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        ];
        assert_eq!(log.as_slice(), expected);
        // Each section begins where the one before says that it ends, and the last ends the log.
        let mut at = FIXED_BYTES + HEADER_BYTES;
        for id in [b"PH", b"UH", b"EP"] {
            assert_eq!(&log[at..at + 2], id);
            at += usize::from(log[at + 3]);
        }
        assert_eq!(at, log.len());
        // Without a clock the date is nothing.
        assert_eq!(shutdown_log(None)[32..40], [0; 8]);
    }

    #[test]
    fn an_event_is_handed_out_once_and_only_to_who_asks_for_it() {
        let (mut events, mut memory) = (Events::default(), FakeMemory::new());
        assert_eq!(events.check_exception(EPOW, None, &mut memory), 1);
        assert!(!events.any());
        events.request_shutdown();
        events.request_shutdown();
        assert!(events.any());
        for (place, other) in [(0, 0x200), (2, 0xb800_0000)] {
            let mut inputs = EPOW;
            inputs[place] = other;
            assert_eq!(events.check_exception(inputs, None, &mut memory), 1);
        }
        assert!(memory.writes.is_empty());
        assert_eq!(events.check_exception(EPOW, leap_day(), &mut memory), 0);
        assert_eq!(memory.writes, [(0x4000, LOG_BYTES)]);
        assert!(!events.any());
        assert_eq!(memory.bytes[0x4000..0x4074], shutdown_log(leap_day())[..]);
        assert_eq!(events.check_exception(EPOW, None, &mut memory), 1);
    }

    #[test]
    fn an_event_that_finds_no_memory_is_kept() {
        let (mut events, mut memory) = (Events::default(), FakeMemory::new());
        events.request_shutdown();
        let mut inputs = EPOW;
        inputs[4] = u32::try_from(HOLE.start).unwrap() - 8;
        assert_eq!(events.check_exception(inputs, None, &mut memory), -3);
        // What there is room for.
        inputs[5] = 8;
        assert_eq!(events.check_exception(inputs, None, &mut memory), 0);
        assert_eq!(memory.writes, [(HOLE.start - 8, 8)]);
        events.request_shutdown();
        events.forget();
        assert_eq!(events.check_exception(EPOW, None, &mut memory), 1);
    }
}
