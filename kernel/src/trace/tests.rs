// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Records, rings and lines with literal values.

extern crate std;

use super::*;
use alloc::string::String;
use core::sync::atomic::AtomicBool;
use penstock_arch::fake::unless_miri;

const HZ: u64 = 512_000_000;

const fn record(kind: Kind, arguments: [u64; 2]) -> Record {
    Record {
        timebase: 3 * HZ + 1,
        kind: kind as u16,
        partition: 7,
        thread: 2,
        arguments,
    }
}

fn numbered(number: u64) -> Record {
    Record {
        timebase: number,
        arguments: [number, !number],
        ..record(Kind::Kick, [0, 0])
    }
}

fn numbers(ring: &Ring) -> Vec<u64> {
    let mut numbers = Vec::new();
    ring.read(|record| {
        assert_eq!(record, numbered(record.timebase));
        numbers.push(record.timebase);
    });
    numbers
}

#[test]
fn a_record_is_four_words() {
    let record = Record {
        timebase: 0x1122_3344_5566_7788,
        kind: 0x99aa,
        partition: 0xbbcc,
        thread: 0xddee_ff00,
        arguments: [1, 2],
    };
    let words = [0x1122_3344_5566_7788, 0xddee_ff00_bbcc_99aa, 1, 2];
    assert_eq!(record.words(), words);
    assert_eq!(Record::from_words(words), record);
}

#[test]
fn kinds_have_their_numbers_and_names() {
    for (number, (kind, name)) in (0..).zip(Kind::ALL) {
        assert_eq!(kind as u16, number, "{name}");
    }
}

#[test]
fn a_ring_keeps_the_last_records() {
    let ring = Ring::new().unwrap();
    assert_eq!(numbers(&ring), []);
    for number in 0..3 * RECORDS as u64 + 5 {
        ring.push(numbered(number));
        if !number.is_multiple_of(unless_miri(1, 61)) {
            continue;
        }
        // In a full ring the place of the oldest is the next to be written, perhaps at this moment.
        let first = (number + 2).saturating_sub(RECORDS as u64);
        let kept: Vec<u64> = (first..=number).collect();
        assert_eq!(numbers(&ring), kept);
    }
    assert_eq!(numbers(&ring).len(), 255);
}

/// Records of a thread that writes without end.
const MANY: u64 = unless_miri(200_000, 2000);

#[test]
fn whoever_reads_a_ring_that_is_written_sees_whole_records_in_order() {
    let (ring, done) = (Ring::new().unwrap(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..MANY {
                ring.push(numbered(number));
            }
            done.store(true, Ordering::Release);
        });
        while !done.load(Ordering::Acquire) {
            // Whole ones: `numbers` compares them.
            let seen = numbers(&ring);
            assert!(seen.is_sorted());
        }
    });
    assert_eq!(numbers(&ring).last(), Some(&(MANY - 1)));
}

#[test]
fn a_filter_lets_through_what_is_wanted() {
    let filter = Filter::new();
    let wants = || [0, 1, 2].map(|partition| filter.wants(partition));
    assert_eq!((filter.is_on(), wants()), (false, [false, false, false]));
    filter.record(Whose::Everybody);
    assert_eq!((filter.is_on(), wants()), (true, [true, true, true]));
    filter.ignore(Whose::Everybody);
    assert_eq!((filter.is_on(), wants()), (false, [false, false, false]));
}

#[test]
fn a_filter_forgets_one_partition_and_keeps_the_others() {
    let filter = Filter::new();
    let last = u16::try_from(MAX_PARTITIONS).unwrap();
    let wants = || [0, 1, 2, last].map(|partition| filter.wants(partition));
    filter.record(Whose::Partition(1));
    assert_eq!(wants(), [false, true, false, false]);
    filter.record(Whose::Partition(last));
    assert_eq!(wants(), [false, true, false, true]);
    filter.ignore(Whose::Partition(1));
    assert_eq!(
        (filter.is_on(), wants()),
        (true, [false, false, false, true])
    );
    filter.ignore(Whose::Partition(2));
    assert!(filter.is_on() && filter.wants(last));
    filter.ignore(Whose::Partition(last));
    assert_eq!((filter.is_on(), wants()), (false, [false; 4]));
    // Of everybody's, those of one are left out, and come again.
    filter.record(Whose::Everybody);
    filter.ignore(Whose::Partition(2));
    assert_eq!(wants(), [true, true, false, true]);
    filter.record(Whose::Partition(2));
    assert_eq!(wants(), [true; 4]);
    // No partition has such a number.
    for number in [128, u16::MAX] {
        filter.record(Whose::Partition(number));
        assert!(!filter.wants(number));
        filter.ignore(Whose::Partition(number));
    }
    assert_eq!(wants(), [true; 4]);
}

#[test]
fn each_kind_has_its_line() {
    let exit = GuestExit::Cede.index() as u64;
    let woken = DispatchReason::Decrementer as u64;
    for (kind, arguments, text) in [
        (Kind::Board, [1, 0], "board CPU 1"),
        (Kind::Alight, [1, 0], "alight CPU 1"),
        (Kind::Enter, [0x100, 0xf0], "enter 0x100 LPCR 0xf0"),
        (Kind::Exit, [exit, 0x1234], "exit cede at 0x1234"),
        (Kind::Exit, [999, 0], "exit ? at 0x0"),
        (
            Kind::Wake,
            [woken, 17],
            "wake by its decrementer after 17 ticks",
        ),
        (Kind::Wake, [99, 17], "wake otherwise after 17 ticks"),
        (Kind::Kick, [3, 0], "kick thread 3"),
        (Kind::Sleep, [512, 0], "sleep 512 ticks"),
        (Kind::Irq, [1, 0], "irq"),
        (Kind::Irq, [0, 0], "irq spurious"),
        (Kind::Vpm, [1, 0], "vpm on"),
        (Kind::Vpm, [0, 0], "vpm off"),
        (Kind::Start, [0, 0], "start"),
        (Kind::Restart, [0, 0], "restart"),
        (Kind::Pause, [0, 0], "pause"),
        (Kind::Resume, [0, 0], "resume"),
        (Kind::End, [0, 0], "end"),
        (Kind::Error, [exit, 0x10], "error cede at 0x10"),
        (Kind::Resize, [24, u64::MAX], "resize order 24 status -1"),
        (Kind::Move, [5, 3], "move CPU 5 from thread 3"),
    ] {
        let mut line = String::new();
        write_record(&mut line, HZ, Some("debian"), &record(kind, arguments)).unwrap();
        assert_eq!(
            line,
            alloc::format!("3.000000001   2 debian       {text}\n")
        );
    }
    let mut line = String::new();
    let unknown = Record {
        kind: 77,
        ..record(Kind::End, [1, 2])
    };
    write_record(&mut line, 0, None, &unknown).unwrap();
    assert_eq!(
        line,
        "1536000001.000000000   2 -            kind 77 0x1 0x2\n"
    );
}

#[test]
fn what_several_threads_did_is_printed_in_the_order_of_time() {
    let rings = [Ring::new().unwrap(), Ring::new().unwrap()];
    for number in 0..60 {
        rings[usize::try_from(number % 2).unwrap()].push(numbered(number));
    }
    let keep = |record: &Record| record.timebase != 5;
    let mut printer = Printer::new(rings.iter(), keep).unwrap();
    let mut text = String::new();
    assert_eq!(printer.step(&mut text, 1, |_| None), Ok(false));
    assert_eq!(text.lines().count(), 48);
    assert_eq!(printer.step(&mut text, 1, |_| None), Ok(true));
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 60);
    assert_eq!(lines[4], "4.000000000   2 -            kick thread 4");
    assert_eq!(lines[5], "6.000000000   2 -            kick thread 6");
    assert_eq!(lines[59], "59 events");
    let mut printer = Printer::new(rings.iter(), |_| false).unwrap();
    let mut text = String::new();
    assert_eq!(printer.step(&mut text, 1, |_| None), Ok(true));
    assert_eq!(text, "0 events\n");
}

#[test]
fn a_step_fits_the_line() {
    let mut line = String::new();
    let name = "a-name-of-thirty-one-characters";
    let widest = Record {
        timebase: u64::MAX,
        thread: u32::MAX,
        ..record(Kind::Enter, [u64::MAX; 2])
    };
    write_record(&mut line, 1, Some(name), &widest).unwrap();
    assert!((line.len() + 1) * (STEP_LINES + 1) <= crate::control::operator::STEP_TEXT_BYTES);
}
