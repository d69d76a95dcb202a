// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tests of the rings: order, room, loss, and two threads at one.

extern crate std;
use super::testing::Line;
use super::*;
use crate::rtas::testing::config;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use penstock_arch::fake::{steps, unless_miri};
use proptest::prelude::*;

#[test]
fn every_alignment_and_length_comes_out_as_it_went_in() {
    for start in 0..16_u8 {
        for len in 0..=16_u8 {
            let ring = OutputRing::new();
            let mut expected: Vec<u8> = (0..start).map(|i| b'a' + i).collect();
            assert_eq!(ring.push_slice(&expected), expected.len());
            let put =
                TermBytes::from_put(u64::from(len), 0x3031_3233_3435_3637, 0x3839_3a3b_3c3d_3e3f);
            ring.push(put.unwrap()).unwrap();
            expected.extend((0..len).map(|i| 0x30 + i));
            // What the registers held beyond the length must not come out with the next push.
            ring.push_slice(b"!?");
            expected.extend(b"!?");
            let mut line = Line::with_room(100);
            assert_eq!(ring.drain(&mut line), expected.len());
            assert_eq!(line.shown, expected);
        }
    }
}

#[test]
fn a_full_ring_refuses_whole_pushes_and_loses_nothing() {
    let ring = OutputRing::new();
    let mut pushed = 0;
    while ring.push(TermBytes::pack(b"0123456789abcdef")).is_ok() {
        pushed += 16;
    }
    assert_eq!(pushed, OUTPUT_LIMIT.next_multiple_of(16));
    assert_eq!(ring.push(TermBytes::pack(b"x")), Err(Full));
    assert_eq!(ring.len(), pushed);
    let mut line = Line::with_room(17);
    assert_eq!(ring.drain(&mut line), 17);
    assert!(ring.push(TermBytes::pack(b"yz")).is_ok());
    line.room = usize::MAX;
    assert_eq!(ring.drain(&mut line), pushed - 17 + 2);
    assert!(
        line.shown[..pushed]
            .chunks(16)
            .all(|c| c == b"0123456789abcdef")
    );
    assert_eq!(line.shown[pushed..], *b"yz");
}

#[test]
fn dropping_makes_room_at_the_old_end_and_counts() {
    let ring = OutputRing::new();
    let mut pushed: Vec<u8> = Vec::new();
    for i in 0..2000_u32 {
        let line = alloc::format!("line {i:010}\n");
        while ring.push(TermBytes::pack(line.as_bytes())).is_err() {
            ring.drop_oldest();
        }
        pushed.extend(line.as_bytes());
    }
    let mut line = Line::with_room(usize::MAX);
    let kept = ring.drain(&mut line);
    assert!(kept > OUTPUT_LIMIT - DROP && kept <= OUTPUT_BYTES);
    assert!(pushed.ends_with(&line.shown));
    assert_eq!(ring.take_lost(), pushed.len() - kept);
    assert_eq!(ring.take_lost(), 0);
    // Nothing to drop.
    ring.drop_oldest();
    assert_eq!(ring.take_lost(), 0);
}

#[test]
fn cleared_bytes_do_not_come_back() {
    let ring = OutputRing::new();
    ring.push_slice(b"old text");
    ring.clear();
    assert!(ring.is_empty());
    ring.push_slice(b"new");
    let mut line = Line::with_room(100);
    ring.drain(&mut line);
    assert_eq!(line.shown, b"new");
    assert_eq!(ring.total(), 11);
}

#[test]
fn input_is_taken_sixteen_bytes_at_a_time() {
    let ring = InputRing::new();
    assert_eq!(ring.pop(), TermBytes::NONE);
    for byte in b"twenty-one characters" {
        ring.push(*byte).unwrap();
    }
    assert_eq!(ring.pop(), TermBytes::pack(b"twenty-one chara"));
    assert_eq!(ring.pop(), TermBytes::pack(b"cters"));
    assert!(ring.pop().is_empty());
}

#[test]
fn input_beyond_the_room_is_refused() {
    let ring = InputRing::new();
    assert_eq!(ring.room(), 1024);
    for i in 0..1024_u32 {
        ring.push(i.to_be_bytes()[3]).unwrap();
    }
    assert_eq!(ring.room(), 0);
    assert_eq!(ring.push(b'x'), Err(Full));
    assert_eq!(ring.pop().bytes()[..3], [0, 1, 2]);
    assert_eq!(ring.room(), 16);
    ring.clear();
    assert!(ring.is_empty());
    assert_eq!(ring.room(), 1024);
}

#[test]
fn two_threads_pass_every_byte_in_order() {
    let ring = OutputRing::new();
    let total = unless_miri(200_000_usize, 40_000);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut sent = 0;
            while sent < total {
                let len = (sent % 17).clamp(1, total - sent);
                let bytes: Vec<u8> = (sent..sent + len).map(|i| i.to_be_bytes()[7]).collect();
                while ring.push(TermBytes::pack(&bytes)).is_err() {
                    std::thread::yield_now();
                }
                sent += len;
            }
        });
        let mut line = Line::with_room(usize::MAX);
        while line.shown.len() < total {
            ring.drain(&mut line);
        }
        assert!(
            line.shown
                .iter()
                .enumerate()
                .all(|(i, b)| *b == i.to_be_bytes()[7])
        );
    });
}

proptest! {
    #![proptest_config(config())]

    /// Against a queue of bytes: pushes of any size, drains of any size.
    #[test]
    fn output_ring_is_a_queue(
        steps in proptest::collection::vec(
            (proptest::collection::vec(any::<u8>(), 0..17), 0_usize..40, 0_usize..8), 1..steps(400))
    ) {
        let ring = OutputRing::new();
        // Start near the end, so that the run wraps.
        let start = OUTPUT_BYTES - 100;
        ring.head.store(start, Ordering::Relaxed);
        ring.tail.store(start, Ordering::Relaxed);
        let mut model = VecDeque::new();
        for (bytes, repeat, room) in steps {
            for _ in 0..repeat {
                match ring.push(TermBytes::pack(&bytes)) {
                    Ok(()) => model.extend(&bytes),
                    Err(Full) => prop_assert!(model.len() > OUTPUT_LIMIT),
                }
            }
            let mut line = Line::with_room(room * 150);
            let moved = ring.drain(&mut line);
            let expected: Vec<u8> = model.drain(..moved).collect();
            prop_assert_eq!(line.shown, expected);
            prop_assert_eq!(ring.len(), model.len());
        }
    }
}

/// Virtual processors that write at once: what each has put in comes out, in its order.
#[test]
fn two_that_write_at_once_lose_nothing() {
    const EACH: u32 = unless_miri(20_000, 2000);
    let ring = OutputRing::new();
    let mut seen = [0_u32; 2];
    std::thread::scope(|scope| {
        for writer in 0..2_u8 {
            let ring = &ring;
            scope.spawn(move || {
                for number in 0..EACH {
                    let [a, b, c, d] = number.to_be_bytes();
                    while ring.push(TermBytes::pack(&[writer, a, b, c, d])).is_err() {
                        std::thread::yield_now();
                    }
                }
            });
        }
        let mut record = [0; CHUNK];
        while seen != [EACH; 2] {
            let len = ring.peek(&mut record) / 5 * 5;
            for bytes in record[..len].chunks(5) {
                let expected = &mut seen[usize::from(bytes[0])];
                assert_eq!(bytes[1..], expected.to_be_bytes());
                *expected += 1;
            }
            ring.consume(len);
            std::thread::yield_now();
        }
    });
    assert!(ring.is_empty());
}
