// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tests of the pool's accounts.

extern crate std;

use super::*;
use crate::fake::{TestMachine, TestMemory};
use penstock_arch::fake::steps;
use proptest::prelude::*;
use std::boxed::Box;
use std::vec::Vec;

/// A pool of as many frames, in memory that is dirty.
fn pool(frames: u64) -> (&'static Pool, TestMachine, TestMemory) {
    let machine = TestMachine::new();
    let host = TestMemory::new(usize::try_from((frames + 1) * PIECE).unwrap());
    host.fill(0xa5);
    let pool = Pool::new(frames * PIECE, &mut host.frames(), &machine).unwrap();
    (Box::leak(Box::new(pool)), machine, host)
}

fn proof() -> Flushed {
    Flushed::never_mapped()
}

#[test]
fn words_say_who_has_a_frame() {
    for owner in [
        Owner::Nobody { next: Link(None) },
        Owner::Nobody {
            next: Link(Some(0)),
        },
        Owner::Nobody {
            next: Link(Some(u32::MAX)),
        },
        Owner::Account(AccountId(0)),
        Owner::Account(AccountId(63)),
        Owner::Image {
            place: 0,
            mapped: 0,
        },
        Owner::Image {
            place: u32::MAX,
            mapped: 64,
        },
    ] {
        assert_eq!(Owner::decode(owner.encode()), owner);
    }
    assert_eq!(Owner::decode(0), Owner::Nobody { next: Link(None) });
}

#[test]
fn guaranteed_parts_can_always_be_had() {
    let (pool, _machine, _host) = pool(10);
    let greedy = Share::new(pool, pool.open(2 * PIECE, 9 * PIECE).unwrap());
    let modest = Share::new(pool, pool.open(3 * PIECE, 3 * PIECE).unwrap());
    let too_much = PoolError::TooSmall {
        wanted: 6 * PIECE,
        left: 5 * PIECE,
    };
    assert_eq!(pool.open(6 * PIECE, 6 * PIECE), Err(too_much));
    let frames: Vec<_> = core::iter::from_fn(|| greedy.take().ok()).collect();
    // Seven of ten: three are the other's.
    assert_eq!(frames.len(), 7);
    assert!(!greedy.is_at_limit() && !greedy.can_take() && modest.can_take());
    let others: Vec<_> = core::iter::from_fn(|| modest.take().ok()).collect();
    assert_eq!(others.len(), 3);
    assert!(modest.is_at_limit() && !modest.can_take());
    assert_eq!(pool.counts().free, 0);
    // What the modest one gives back is still its own.
    modest.give_back(&others[0], &proof());
    assert!(greedy.take().is_err());
    assert!(modest.take().is_ok());
    for frame in &frames {
        greedy.give_back(frame, &proof());
    }
    assert_eq!(
        pool.counts(),
        PoolCounts {
            frames: 10,
            free: 7,
            promised: 2,
            image_pieces: 0,
            images: 0,
            mapped: 0
        }
    );
}

#[test]
fn a_limit_is_not_exceeded() {
    let (pool, _machine, _host) = pool(10);
    let share = Share::new(pool, pool.open(0, 4 * PIECE).unwrap());
    let frames: Vec<_> = core::iter::from_fn(|| share.take().ok()).collect();
    assert_eq!(frames.len(), 4);
    assert!(share.is_at_limit());
    assert_eq!(share.counts().used, 4 * PIECE);
    // What it lacks is then the limit's fault, until it has had another frame.
    share.give_back(&frames[0], &proof());
    assert!(share.is_at_limit());
    assert!(share.take().is_ok());
    assert!(!share.is_at_limit());
}

#[test]
fn frames_are_apart_and_the_pools() {
    let machine = TestMachine::new();
    let host = TestMemory::new(16 << 20);
    let mut allocator = host.frames();
    // Two runs, neither of them aligned.
    for (at, len) in [(0, 0x1000), (0x1f_0800, 0x100), (0x40_0000, 0xc0_0000)] {
        let at = host.base().checked_add(at).unwrap();
        allocator.reserve(at, len).unwrap();
    }
    let before = allocator.left();
    let pool = Pool::new(0x30_0000, &mut allocator, &machine).unwrap();
    assert_eq!(
        before - allocator.left(),
        0x30_0000 + Pool::overhead_bytes(0x30_0000)
    );
    let pool: &'static Pool = Box::leak(Box::new(pool));
    let share = Share::new(pool, pool.open(0, 0x30_0000).unwrap());
    let mut at: Vec<_> = core::iter::from_fn(|| share.take().ok())
        .map(|frame| frame.at().get())
        .collect();
    assert_eq!(at.len(), 0x30);
    at.sort_unstable();
    let (base, end) = (host.base().get(), host.base().get() + 0x40_0000);
    for (number, at_here) in at.iter().enumerate() {
        assert!(at_here.is_multiple_of(PIECE) && (base..end).contains(at_here));
        assert!(share.owns(HostReal::new(*at_here)));
        if let Some(next) = at.get(number + 1) {
            assert!(next - at_here >= PIECE);
        }
    }
    // The allocator has too little for another one, and it lies apart.
    assert!(Pool::new(0x20_0000, &mut allocator, &machine).is_err());
}

/// Each piece has three bytes at 0x10, and one at its end, of the piece's number and one.
#[derive(Debug)]
struct Numbers;

impl ImageSource for Numbers {
    fn read(&self, piece: u64, write: &mut dyn FnMut(u64, &[u8])) {
        let number = u8::try_from(piece).unwrap() + 1;
        write(0x10, &[number; 3]);
        write(PIECE - 1, &[number]);
    }
}

fn image(pool: &Pool, pieces: u64) -> u8 {
    pool.add_image(pieces, &Numbers).unwrap().number()
}

fn image_counts(pool: &Pool) -> [u64; 4] {
    let counts = pool.counts();
    [
        counts.image_pieces,
        counts.images,
        counts.mapped,
        counts.free,
    ]
}

#[test]
fn images_are_filled_when_they_are_mapped() {
    let (pool, machine, _host) = pool(8);
    let share = Share::new(pool, pool.open(4 * PIECE, 8 * PIECE).unwrap());
    let more = pool.add_image(5, &Numbers);
    let too_small = PoolError::TooSmall {
        wanted: 5 * PIECE,
        left: 4 * PIECE,
    };
    assert_eq!(more, Err(too_small));
    let image = image(pool, 3);
    // What images need is kept as what is promised.
    assert!(pool.open(2 * PIECE, 2 * PIECE).is_err());
    assert_eq!(image_counts(pool), [3, 0, 0, 8]);
    assert_eq!(share.map_image((image, 3), &machine), Err(NoFrame));
    assert_eq!(share.map_image((image + 1, 0), &machine), Err(NoFrame));
    let at = [0, 1, 2].map(|piece| share.map_image((image, piece), &machine).unwrap());
    assert_eq!(image_counts(pool), [3, 3, 3, 5]);
    for (number, at) in (1..).zip(&at) {
        let mut bytes = [0xff; 0x14];
        PoolFrame::new(*at).span().read(&mut bytes);
        assert_eq!(bytes[..0x10], [0; 0x10]);
        assert_eq!(bytes[0x10..], [number, number, number, 0]);
        let mut byte = [0];
        let frame = PoolFrame::new(*at);
        frame.span().skip(PIECE - 1).unwrap().read(&mut byte);
        assert_eq!(byte, [number]);
        assert_eq!(share.mapped(*at), Some(1));
        assert!(!share.owns(*at));
    }
    assert_eq!(share.counts().shared, 3 * PIECE);
    assert_eq!(
        machine
            .pages
            .synchronized
            .load(core::sync::atomic::Ordering::Relaxed),
        3 * PIECE
    );
}

/// The frame goes back with the last who maps it, and is filled again for the next.
#[test]
fn frames_of_images_come_and_go() {
    use core::sync::atomic::{AtomicU64, Ordering};
    static CALLS: AtomicU64 = AtomicU64::new(0);
    let (pool, machine, _host) = pool(4);
    pool.on_return(|| {
        CALLS.fetch_add(1, Ordering::Relaxed);
    });
    let shares = [0, 0].map(|promised| Share::new(pool, pool.open(promised, 4 * PIECE).unwrap()));
    let image = image(pool, 1);
    let at = shares.map(|share| share.map_image((image, 0), &machine).unwrap());
    assert_eq!(at[0], at[1]);
    assert_eq!(image_counts(pool), [1, 1, 2, 3]);
    shares[0].unmap(at[0], &proof());
    assert_eq!(image_counts(pool), [1, 1, 1, 3]);
    assert_eq!(CALLS.load(Ordering::Relaxed), 0);
    shares[1].unmap(at[0], &proof());
    assert_eq!(image_counts(pool), [1, 0, 0, 4]);
    assert_eq!(CALLS.load(Ordering::Relaxed), 1);
    assert_eq!(shares[1].mapped(at[0]), None);
    // Somebody else has that frame meanwhile, and leaves something in it.
    let frames: Vec<_> = core::iter::from_fn(|| shares[0].take().ok()).collect();
    for frame in &frames {
        frame.span().write(&[0x77; 0x20]);
    }
    assert_eq!(shares[1].map_image((image, 0), &machine), Err(NoFrame));
    assert!(!shares[1].can_take() && !shares[1].is_at_limit());
    shares[0].give_back(&frames[0], &proof());
    assert!(shares[1].can_take());
    let at = shares[1].map_image((image, 0), &machine).unwrap();
    let mut bytes = [0; 0x14];
    PoolFrame::new(at).span().read(&mut bytes);
    assert_eq!(bytes[..0x10], [0; 0x10]);
    assert_eq!(bytes[0x10..], [1, 1, 1, 0]);
}

#[test]
fn the_last_sharer_takes_the_frame_over() {
    let (pool, machine, _host) = pool(4);
    let shares = [(2, 2), (0, 4)].map(|(guaranteed, limit)| {
        let account = pool.open(guaranteed * PIECE, limit * PIECE).unwrap();
        Share::new(pool, account)
    });
    let image = image(pool, 2);
    let at = shares.map(|share| share.map_image((image, 1), &machine).unwrap())[0];
    assert!(!shares[0].take_over(at), "another maps it");
    shares[1].unmap(at, &proof());
    assert!(shares[0].take_over(at));
    assert!(shares[0].owns(at) && !shares[0].take_over(at));
    assert_eq!(image_counts(pool), [2, 0, 0, 3]);
    assert_eq!(
        (pool.counts().promised, shares[0].counts().used),
        (1, PIECE)
    );
    assert_eq!(shares[0].counts().shared, 0);
    // The image has another frame now, and its content.
    let other = shares[1].map_image((image, 1), &machine).unwrap();
    assert_ne!(at, other);
    // Not beyond the limit.
    let last = shares[0].take().unwrap();
    shares[1].unmap(other, &proof());
    let mine = shares[0].map_image((image, 0), &machine).unwrap();
    assert!(!shares[0].take_over(mine));
    shares[0].give_back(&last, &proof());
    shares[0].give_back(&PoolFrame::new(at), &proof());
    shares[0].unmap(mine, &proof());
    assert_eq!(image_counts(pool), [2, 0, 0, 4]);
    assert_eq!(pool.counts().promised, 2);
}

#[test]
fn an_image_is_read_from_its_source() {
    let (pool, _machine, _host) = pool(4);
    let share = Share::new(pool, pool.open(0, 4 * PIECE).unwrap());
    let image = image(pool, 2);
    let mut bytes = [0xff; 6];
    share.read_image((image, 1), 0xf, &mut bytes);
    assert_eq!(bytes, [0, 2, 2, 2, 0, 0]);
    share.read_image((image, 0), 0x12, &mut bytes[..1]);
    assert_eq!(bytes[..2], [1, 2]);
    share.read_image((image, 0), PIECE - 2, &mut bytes);
    assert_eq!(bytes, [0, 1, 0, 0, 0, 0]);
    share.read_image((image, 2), 0x10, &mut bytes);
    assert_eq!(bytes, [0; 6]);
    assert_eq!(image_counts(pool), [2, 0, 0, 4]);
}

proptest! {
    #![proptest_config(crate::hpt::tests::config())]

    /// Against a naive account: who has which frame.
    #[test]
    fn accounts_balance(
        guaranteed in proptest::collection::vec(0..6_u64, 3),
        limits in proptest::collection::vec(0..20_u64, 3),
        steps in proptest::collection::vec((0..3_usize, any::<bool>(), any::<prop::sample::Index>()), 1..steps(200)),
    ) {
        let (pool, _machine, _host) = pool(18);
        let shares: Vec<_> = guaranteed
            .iter()
            .zip(&limits)
            .map(|(g, l)| Share::new(pool, pool.open(g * PIECE, l * PIECE).unwrap()))
            .collect();
        let promised = |number: usize| guaranteed[number].min(limits[number]);
        let mut held: [Vec<PoolFrame>; 3] = Default::default();
        for (who, take, which) in steps {
            let used = |number: usize| held[number].len() as u64;
            let kept: u64 = (0..3)
                .filter(|other| *other != who)
                .map(|other| used(other).max(promised(other)))
                .sum();
            if take {
                let can = used(who) < limits[who] && used(who) + kept < 18;
                match shares[who].take() {
                    Ok(frame) => {
                        prop_assert!(can);
                        prop_assert!(held.iter().flatten().all(|other| other.at() != frame.at()));
                        held[who].push(frame);
                    }
                    Err(NoFrame) => prop_assert!(!can),
                }
            } else if !held[who].is_empty() {
                let at = which.index(held[who].len());
                let frame = held[who].swap_remove(at);
                shares[who].give_back(&frame, &proof());
            }
            let used: Vec<u64> = held.iter().map(|held| held.len() as u64).collect();
            for (share, used) in shares.iter().zip(&used) {
                prop_assert_eq!(share.counts().used, used * PIECE);
            }
            let counts = pool.counts();
            prop_assert_eq!(counts.free, 18 - used.iter().sum::<u64>());
            let kept = (0..3).map(|number| promised(number).saturating_sub(used[number])).sum::<u64>();
            prop_assert_eq!(counts.promised, kept);
        }
    }
}
