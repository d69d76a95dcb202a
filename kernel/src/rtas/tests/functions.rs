// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What each function does and returns.

use super::*;

#[test]
fn power_off_reboot_and_stop_self_do_not_touch_the_block() {
    let mut guest = Guest::new();
    let all_ones = [u32::MAX, u32::MAX];
    assert_eq!(
        guest.call("power-off", &all_ones),
        (RtasOutcome::PowerOff, vec![0x5555_5555])
    );
    assert_eq!(
        guest.call("system-reboot", &[]),
        (RtasOutcome::Reboot, vec![0x5555_5555])
    );
    assert_eq!(
        guest.call("stop-self", &[]),
        (RtasOutcome::StopSelf, vec![0x5555_5555])
    );
    assert!(guest.memory.writes.is_empty());
}

#[test]
fn time_of_day_is_the_machines_until_set() {
    let mut guest = Guest::new();
    assert_eq!(
        guest.returns("get-time-of-day", &[]),
        [0, 2026, 11, 21, 1, 53, 54, 5]
    );
    let set = [2000, 2, 29, 23, 59, 58, 999_999_999];
    assert_eq!(guest.returns("set-time-of-day", &set), [0]);
    assert_eq!(
        guest.returns("get-time-of-day", &[]),
        [0, 2000, 2, 29, 23, 59, 58, 999_999_999]
    );
    guest.host.now = Ok(UnixTime::new(1_795_226_036, 6).unwrap());
    assert_eq!(
        guest.returns("get-time-of-day", &[]),
        [0, 2000, 3, 1, 0, 0, 1, 0]
    );
}

#[test]
fn a_wrong_date_is_refused_and_changes_nothing() {
    let mut guest = Guest::new();
    assert_eq!(
        guest.returns("set-time-of-day", &[2023, 2, 29, 0, 0, 0, 0]),
        [MINUS_3]
    );
    assert_eq!(guest.returns("set-time-of-day", &[u32::MAX; 7]), [MINUS_3]);
    assert_eq!(guest.returns("get-time-of-day", &[])[1], 2026);
}

#[test]
fn a_clock_that_cannot_be_read_is_busy_or_broken() {
    let mut guest = Guest::new();
    let date = [2026, 11, 21, 0, 0, 0, 0];
    guest.host.now = Err(ClockError::Busy);
    assert_eq!(
        guest.returns("get-time-of-day", &[])[..2],
        [MINUS_2, 0x5555_5555]
    );
    assert_eq!(guest.returns("set-time-of-day", &date), [MINUS_2]);
    guest.host.now = Err(ClockError::Hardware);
    assert_eq!(
        guest.returns("get-time-of-day", &[])[..2],
        [MINUS_1, 0x5555_5555]
    );
    assert_eq!(guest.returns("set-time-of-day", &date), [MINUS_1]);
}

#[test]
fn time_past_the_calendar_is_a_hardware_error() {
    let mut guest = Guest::new();
    guest.returns("set-time-of-day", &[9999, 12, 31, 23, 59, 59, 0]);
    guest.host.now = Ok(UnixTime::new(1_795_226_035, 5).unwrap());
    assert_eq!(guest.returns("get-time-of-day", &[])[0], MINUS_1);
}

#[test]
fn display_character_shows_the_low_byte_or_is_busy() {
    let mut guest = Guest::new();
    assert_eq!(guest.returns("display-character", &[u32::from(b'L')]), [0]);
    assert_eq!(guest.returns("display-character", &[0x1234_560a]), [0]);
    guest.host.display_full = true;
    assert_eq!(
        guest.returns("display-character", &[u32::from(b'x')]),
        [MINUS_2]
    );
    assert_eq!(guest.host.shown, b"L\n");
}

#[test]
fn check_exception_tells_of_a_shutdown_that_is_wanted() {
    let mut guest = Guest::new();
    let ask = [0x500, 0x1001, 0x4000_0000, 0, 0x2000, 2048];
    assert_eq!(guest.returns("check-exception", &ask), [1]);
    guest.rtas.events.request_shutdown();
    // Scanning does not take it away from the interrupt's handler.
    let scan = [u32::MAX, 0, 0x2000, 2048];
    assert_eq!(guest.returns("event-scan", &scan), [1]);
    assert_eq!(guest.memory.words(0x2000, 1), [0xa5a5_a5a5]);
    assert_eq!(guest.returns("check-exception", &ask), [0]);
    assert_eq!(guest.memory.words(0x2000, 2), [0x0634_0040, 108]);
    // The date, by the partition's clock.
    assert_ne!(guest.memory.words(0x2020, 1), [0]);
    assert_eq!(guest.returns("check-exception", &ask), [1]);
}

#[test]
fn event_scan_finds_nothing_and_leaves_the_buffer() {
    let mut guest = Guest::new();
    assert_eq!(
        guest.returns("event-scan", &[u32::MAX, 0, 0x2000, 2048]),
        [1]
    );
    assert_eq!(guest.memory.writes, [(BLOCK + 12 + 16, 4)]);
}

#[test]
fn stopped_state_of_each_vcpu() {
    let mut guest = Guest::new();
    assert_eq!(guest.returns("query-cpu-stopped-state", &[0]), [0, 2]);
    assert_eq!(guest.returns("query-cpu-stopped-state", &[1]), [0, 0]);
    assert_eq!(guest.returns("query-cpu-stopped-state", &[2]), [0, 1]);
    assert_eq!(
        guest.returns("query-cpu-stopped-state", &[4]),
        [MINUS_3, 0x5555_5555]
    );
}

#[test]
fn only_a_stopped_vcpu_is_started() {
    let mut guest = Guest::new();
    assert_eq!(guest.returns("start-cpu", &[0, 0x100, 7]), [MINUS_1]);
    assert_eq!(guest.returns("start-cpu", &[2, 0x100, 7]), [MINUS_1]);
    assert_eq!(guest.returns("start-cpu", &[4, 0x100, 7]), [MINUS_3]);
    assert_eq!(guest.returns("start-cpu", &[3, 0x100, 7]), [3]);
    assert!(guest.host.started.is_empty());
    assert_eq!(
        guest.returns("start-cpu", &[1, 0x8000_0100, 0xffff_ffff]),
        [0]
    );
    assert_eq!(guest.host.started, [(1, 0x8000_0100, 0xffff_ffff)]);
}

#[test]
fn interrupt_sources_are_set_read_masked_and_unmasked() {
    let mut guest = Guest::new();
    assert_eq!(guest.returns("ibm,set-xive", &[0x1100, 3, 5]), [0]);
    assert_eq!(guest.returns("ibm,get-xive", &[0x1100]), [0, 3, 5]);
    assert_eq!(guest.returns("ibm,int-on", &[0x1100]), [0]);
    assert_eq!(guest.host.sources[0].2, "unmasked");
    assert_eq!(guest.returns("ibm,int-off", &[0x1100]), [0]);
    assert_eq!(guest.host.sources[0].2, "masked");
}

#[test]
fn unknown_interrupt_sources_and_priorities_are_refused() {
    let mut guest = Guest::new();
    assert_eq!(guest.returns("ibm,set-xive", &[0x1101, 3, 5]), [MINUS_3]);
    assert_eq!(
        guest.returns("ibm,set-xive", &[0x1100, 3, 0x100]),
        [MINUS_3]
    );
    assert_eq!(guest.returns("ibm,get-xive", &[0x1101])[0], MINUS_3);
    assert_eq!(guest.returns("ibm,int-on", &[0x1101]), [MINUS_3]);
    assert_eq!(guest.returns("ibm,int-off", &[0x1101]), [MINUS_3]);
    assert_eq!(
        guest.host.sources[0].1,
        SourceTarget {
            server: 0,
            priority: 0xff
        }
    );
}

#[test]
fn nvram_calls_return_status_and_length() {
    let mut guest = Guest::new();
    assert_eq!(guest.returns("nvram-fetch", &[0, 0x2000, 16]), [0, 16]);
    assert_eq!(guest.memory.bytes[0x2004..0x200a], *b"common");
    guest.memory.bytes[0x3000] = b'!';
    assert_eq!(guest.returns("nvram-store", &[0x3fff, 0x3000, 1]), [0, 1]);
    assert_eq!(guest.returns("nvram-fetch", &[0x3fff, 0x2000, 1]), [0, 1]);
    assert_eq!(guest.memory.bytes[0x2000], b'!');
    assert_eq!(
        guest.returns("nvram-fetch", &[0x3fff, 0x2000, 2]),
        [MINUS_3, 0]
    );
}

#[test]
fn system_parameters_are_read_but_not_set() {
    let mut guest = Guest::new();
    assert_eq!(
        guest.returns("ibm,get-system-parameter", &[42, 0x2000, 4002]),
        [0]
    );
    assert_eq!(guest.memory.bytes[0x2000..0x2003], [0, 1, 0]);
    assert_eq!(
        guest.returns("ibm,get-system-parameter", &[44, 0x2000, 4002]),
        [MINUS_3]
    );
    assert_eq!(
        guest.returns("ibm,set-system-parameter", &[42, 0x2000]),
        [0xffff_dcd6]
    );
    assert_eq!(
        guest.returns("ibm,set-system-parameter", &[44, 0x2000]),
        [MINUS_3]
    );
}

#[test]
fn os_term_passes_the_message_and_returns() {
    let mut guest = Guest::new();
    guest.memory.bytes[0x2000..0x2008].copy_from_slice(b"OS died\0");
    assert_eq!(guest.returns("ibm,os-term", &[0x2000]), [0]);
    // Without a NUL: up to the end of memory, or to the limit.
    assert_eq!(
        guest.returns("ibm,os-term", &[u32::try_from(SIZE).unwrap() - 2]),
        [0]
    );
    assert_eq!(guest.returns("ibm,os-term", &[0x4000]), [0]);
    assert_eq!(guest.returns("ibm,os-term", &[0xffff_ffff]), [0]);
    assert_eq!(guest.host.last_words[0], b"OS died");
    assert_eq!(guest.host.last_words[1], [0xa5; 2]);
    assert_eq!(guest.host.last_words[2], [0xa5; 256]);
    assert_eq!(guest.host.last_words[3], b"");
}
