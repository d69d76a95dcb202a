// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tests of who has the line, and of what is written on it.

use super::super::ring::testing::Line;
use super::*;
use crate::rtas::testing::config;
use alloc::vec::Vec;
use penstock_arch::fake::unless_miri;
use proptest::prelude::*;

const A: GuestId = GuestId(1);
const B: GuestId = GuestId(2);

fn pump(mux: &mut Multiplexer, guest: &OutputRing) -> Vec<u8> {
    let mut line = Line::with_room(usize::MAX);
    mux.pump(Some((A, guest)), &mut line);
    line.shown
}

#[test]
fn escape_changes_between_console_and_monitor() {
    let mut mux = Multiplexer::new();
    assert_eq!(mux.route(ESCAPE), Routed::Ignored);
    mux.attach(A);
    assert_eq!(mux.route(b'x'), Routed::ToGuest(A, b'x'));
    assert_eq!(mux.route(ESCAPE), Routed::EnteredMonitor);
    assert_eq!(mux.route(b'l'), Routed::ToMonitor(b'l'));
    assert_eq!(
        mux.route(ESCAPE),
        Routed::ReturnedToGuest {
            guest: A,
            pass: None
        }
    );
    assert_eq!(mux.route(b'y'), Routed::ToGuest(A, b'y'));
}

#[test]
fn escape_twice_passes_one() {
    let mut mux = Multiplexer::new();
    mux.attach(A);
    assert_eq!(mux.route(ESCAPE), Routed::EnteredMonitor);
    let returned = Routed::ReturnedToGuest {
        guest: A,
        pass: Some(ESCAPE),
    };
    assert_eq!(mux.route(ESCAPE), returned);
    assert_eq!(mux.focus(), Focus::Guest(A));
    // A third one starts anew.
    assert_eq!(mux.route(ESCAPE), Routed::EnteredMonitor);
}

#[test]
fn a_console_chosen_by_command_is_what_escape_returns_to() {
    let mut mux = Multiplexer::new();
    mux.attach(A);
    let _ = mux.route(ESCAPE);
    mux.attach(B);
    let _ = mux.route(ESCAPE);
    let _ = mux.route(b'l');
    assert_eq!(
        mux.route(ESCAPE),
        Routed::ReturnedToGuest {
            guest: B,
            pass: None
        }
    );
}

#[test]
fn a_partition_that_is_gone_leaves_the_line_to_the_monitor() {
    let mut mux = Multiplexer::new();
    mux.attach(A);
    mux.forget(B);
    assert_eq!(mux.focus(), Focus::Guest(A));
    mux.forget(A);
    assert_eq!(mux.focus(), Focus::Monitor);
    assert_eq!(mux.route(ESCAPE), Routed::Ignored);
}

#[test]
fn guest_output_is_held_while_in_the_monitor() {
    let (mut mux, ring) = (Multiplexer::new(), OutputRing::new());
    mux.attach(A);
    ring.push_slice(b"before ");
    assert_eq!(pump(&mut mux, &ring), b"before ");
    let _ = mux.route(ESCAPE);
    ring.push_slice(b"during ");
    let _ = write!(mux.text(), "\npenstock> ");
    assert_eq!(pump(&mut mux, &ring), b"\r\npenstock> ");
    let _ = mux.route(b'l');
    let _ = mux.route(ESCAPE);
    ring.push_slice(b"after");
    assert_eq!(pump(&mut mux, &ring), b"during after");
}

#[test]
fn only_the_partition_in_focus_reaches_the_line() {
    let (mut mux, a, b) = (Multiplexer::new(), OutputRing::new(), OutputRing::new());
    a.push_slice(b"from a");
    b.push_slice(b"from b");
    mux.attach(B);
    let mut line = Line::with_room(usize::MAX);
    mux.pump(Some((A, &a)), &mut line);
    assert_eq!(line.shown, b"");
    mux.pump(Some((B, &b)), &mut line);
    assert_eq!(line.shown, b"from b");
    mux.show(&a, &mut line);
    assert_eq!(line.shown, b"from bfrom a");
}

#[test]
fn output_is_held_back_for_whom_the_line_comes_back_to() {
    let mut mux = Multiplexer::new();
    assert!(!mux.holds_back(A));
    mux.attach(A);
    assert!(mux.holds_back(A) && !mux.holds_back(B));
    let _ = mux.route(ESCAPE);
    assert!(mux.holds_back(A) && !mux.holds_back(B));
    mux.attach(B);
    assert!(!mux.holds_back(A) && mux.holds_back(B));
    assert_eq!(mux.last(), Some(B));
    mux.forget(B);
    assert!(!mux.holds_back(A) && !mux.holds_back(B));
}

#[test]
fn messages_start_on_their_own_line_and_never_leave_an_empty_one() {
    let (mut mux, ring) = (Multiplexer::new(), OutputRing::new());
    mux.attach(A);
    writeln!(mux.record(), "one").unwrap();
    writeln!(mux.record(), "two\nlines").unwrap();
    assert_eq!(pump(&mut mux, &ring), b"one\r\ntwo\r\nlines\r\n");
    ring.push_slice(b"login: ");
    assert_eq!(pump(&mut mux, &ring), b"login: ");
    writeln!(mux.record(), "three").unwrap();
    ring.push_slice(b"root\r\n");
    assert_eq!(pump(&mut mux, &ring), b"\r\nthree\r\nroot\r\n");
    writeln!(mux.record(), "four").unwrap();
    assert_eq!(pump(&mut mux, &ring), b"four\r\n");
    assert!(!mux.take_disturbed());
}

#[test]
fn a_message_in_the_monitor_asks_for_the_prompt_again() {
    let (mut mux, ring) = (Multiplexer::new(), OutputRing::new());
    let _ = write!(mux.text(), "penstock> lis");
    writeln!(mux.record(), "stopped").unwrap();
    assert!(mux.take_disturbed());
    assert!(!mux.take_disturbed());
    assert_eq!(pump(&mut mux, &ring), b"penstock> lis\r\nstopped\r\n");
}

#[test]
fn zero_bytes_in_text_are_not_taken_for_marks() {
    let (mut mux, ring) = (Multiplexer::new(), OutputRing::new());
    let _ = write!(mux.text(), "a\0b");
    assert_eq!(pump(&mut mux, &ring), b"ab");
}

#[test]
fn text_that_has_room_is_never_lost() {
    let (mut mux, ring) = (Multiplexer::new(), OutputRing::new());
    let mut written = 0;
    for round in 0..unless_miri(1000, 60) {
        while mux.own_room() >= 33 {
            writeln!(mux.text(), "a line of thirty-one characters").unwrap();
            written += 1;
        }
        let mut line = Line::with_room(round);
        mux.pump(Some((A, &ring)), &mut line);
        written -= line.shown.iter().filter(|byte| **byte == b'\n').count();
    }
    let rest = pump(&mut mux, &ring);
    assert_eq!(rest.iter().filter(|b| **b == b'\n').count(), written);
    assert_eq!(mux.lost, 0);
}

#[test]
fn lost_messages_are_told_when_there_is_room_again() {
    let (mut mux, ring) = (Multiplexer::new(), OutputRing::new());
    for _ in 0..1000 {
        writeln!(mux.record(), "a message of thirty characters").unwrap();
    }
    let shown = pump(&mut mux, &ring);
    assert!(shown.len() <= super::super::ring::OUTPUT_BYTES);
    writeln!(mux.record(), "next").unwrap();
    let told = alloc::string::String::from_utf8(pump(&mut mux, &ring)).unwrap();
    let lost: usize = told
        .trim_start()
        .strip_prefix("penstock: ")
        .unwrap()
        .split(' ')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    // 33 bytes each: mark, text, line end.
    let marks = shown.iter().filter(|b| **b == b'\n').count();
    assert!(
        told.ends_with(" bytes of messages lost here\r\nnext\r\n"),
        "{told}"
    );
    assert!(
        lost > 1000 * 32 - 0x4000 && lost < 33_000 - 32 * (marks - 1),
        "{lost}"
    );
}

proptest! {
    #![proptest_config(config())]

    /// However little the line takes at a time, the same bytes come out.
    #[test]
    fn a_slow_line_shows_the_same(rooms in proptest::collection::vec(3_usize..40, 60)) {
        let run = |rooms: &[usize]| {
            let (mut mux, ring) = (Multiplexer::new(), OutputRing::new());
            mux.attach(A);
            ring.push_slice(b"guest text without an end");
            writeln!(mux.record(), "first").unwrap();
            writeln!(mux.record(), "second").unwrap();
            let mut line = Line::default();
            for room in rooms {
                line.room = *room;
                mux.pump(Some((A, &ring)), &mut line);
            }
            line.shown
        };
        let all = run(&[usize::MAX]);
        prop_assert_eq!(&all, b"first\r\nsecond\r\nguest text without an end");
        prop_assert_eq!(run(&rooms), all);
    }

    #[test]
    fn random_input_always_has_a_place(bytes in proptest::collection::vec(
        prop_oneof![Just(ESCAPE), any::<u8>()], 0..200)) {
        let mut mux = Multiplexer::new();
        mux.attach(A);
        let mut passed = 0;
        for byte in &bytes {
            match mux.route(*byte) {
                Routed::ToGuest(guest, b) => prop_assert!(guest == A && b == *byte && b != ESCAPE),
                Routed::ToMonitor(b) => prop_assert!(b == *byte && b != ESCAPE),
                Routed::ReturnedToGuest { pass, .. } => passed += usize::from(pass.is_some()),
                Routed::EnteredMonitor => prop_assert_eq!(mux.focus(), Focus::Monitor),
                Routed::Ignored => prop_assert!(false),
            }
        }
        prop_assert!(2 * passed <= bytes.iter().filter(|b| **b == ESCAPE).count());
    }
}
