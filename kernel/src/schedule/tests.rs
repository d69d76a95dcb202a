// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tests of who has the thread next: single decisions, and long runs of many.

use super::*;
use Readiness::{Absent, Ready, Waits};
use alloc::vec;
use penstock_arch::fake::{steps, unless_miri};
use proptest::prelude::*;

/// A turn in ticks: 10 ms.
const TURN: u64 = 5_120_000;

fn among(queue: &mut Queue, list: &[Readiness]) -> Decision {
    queue.decide(|place| list[place])
}

fn first_of(list: &[Readiness]) -> Decision {
    among(&mut Queue::new(list.len()), list)
}

/// Who runs next, for a whole turn.
fn turn(queue: &mut Queue, weights: &[u32], list: &[Readiness]) -> usize {
    let decision = among(queue, list);
    let Decision::Run(place) = decision else {
        panic!("{decision:?}")
    };
    queue.charge(place, TURN, weights[place]);
    place
}

#[test]
fn one_runs_or_is_slept_for() {
    assert_eq!(first_of(&[Ready]), Decision::Run(0));
    assert_eq!(
        first_of(&[Waits { until: 9 }]),
        Decision::Sleep { until: 9 }
    );
    assert_eq!(first_of(&[Absent]), Decision::Nothing);
    assert_eq!(first_of(&[]), Decision::Nothing);
}

#[test]
fn places_may_come_later() {
    let mut queue = Queue::new(0);
    assert_eq!(queue.decide(|_| Ready), Decision::Nothing);
    queue.charge(0, TURN, 100);
    queue.have_places(2);
    let turns: Vec<usize> = (0..4)
        .map(|_| turn(&mut queue, &[100; 2], &[Ready; 2]))
        .collect();
    assert_eq!(turns, [0, 1, 0, 1]);
    queue.have_places(1);
    assert_eq!(turn(&mut queue, &[100; 2], &[Absent, Ready]), 1);
}

/// Whom an interrupt has woken is known until the next look.
#[test]
fn who_is_woken_is_known_once() {
    let mut queue = Queue::new(3);
    let woken = |queue: &Queue| queue.woken().collect::<Vec<_>>();
    queue.look(|place| {
        if place == 1 {
            Ready
        } else {
            Waits { until: 9 }
        }
    });
    assert_eq!(woken(&queue), [1]);
    queue.look(|place| if place == 2 { Absent } else { Ready });
    assert_eq!(woken(&queue), [0]);
    assert!(!queue.is_woken(1) && !queue.is_woken(3));
    queue.look(|_| Ready);
    assert_eq!(woken(&queue), [2]);
    queue.look(|_| Ready);
    assert_eq!(woken(&queue), []);
    // One that comes from another thread has been ready there.
    queue.look(|_| Absent);
    queue.arrive(0, 5);
    assert_eq!(woken(&queue), []);
}

#[test]
fn equals_take_turns() {
    let mut queue = Queue::new(3);
    let weights = [100; 3];
    let turns: Vec<usize> = (0..7)
        .map(|_| turn(&mut queue, &weights, &[Ready; 3]))
        .collect();
    assert_eq!(turns, [0, 1, 2, 0, 1, 2, 0]);
    // Without a place for the last one too.
    assert_eq!(turn(&mut queue, &weights, &[Ready, Absent, Ready]), 2);
    assert_eq!(
        turn(&mut queue, &weights, &[Absent, Waits { until: 1 }, Ready]),
        2
    );
}

#[test]
fn three_times_the_weight_is_three_turns_of_four() {
    let mut queue = Queue::new(2);
    let turns: Vec<usize> = (0..8)
        .map(|_| turn(&mut queue, &[100, 300], &[Ready; 2]))
        .collect();
    assert_eq!(turns.iter().filter(|place| **place == 1).count(), 6);
    assert_eq!(turns.iter().filter(|place| **place == 0).count(), 2);
}

#[test]
fn sleep_ends_with_the_first_decrementer() {
    let list = [Waits { until: 30 }, Absent, Waits { until: 20 }];
    assert_eq!(first_of(&list), Decision::Sleep { until: 20 });
}

#[test]
fn one_that_wakes_has_the_next_turn_and_no_more() {
    let mut queue = Queue::new(3);
    let weights = [100; 3];
    for _ in 0..1000 {
        turn(&mut queue, &weights, &[Ready, Ready, Waits { until: 1 }]);
    }
    let turns: Vec<usize> = (0..7)
        .map(|_| turn(&mut queue, &weights, &[Ready; 3]))
        .collect();
    assert_eq!(turns[0], 2);
    for three in turns.windows(3) {
        assert!((0..3).all(|place| three.contains(&place)), "{turns:?}");
    }
}

/// A guest that ran alone, a little at a time, for an hour, is not made to wait for another one to have
/// as much.
#[test]
fn time_alone_is_not_held_against_anybody() {
    let mut queue = Queue::new(2);
    let asleep = Waits { until: 1 };
    for _ in 0..unless_miri(360_000, 400) {
        assert_eq!(among(&mut queue, &[Ready, asleep]), Decision::Run(0));
        queue.charge(0, TURN / 10, 100);
        assert!(matches!(
            among(&mut queue, &[asleep; 2]),
            Decision::Sleep { .. }
        ));
    }
    let turns: Vec<usize> = (0..6)
        .map(|_| turn(&mut queue, &[100; 2], &[Ready; 2]))
        .collect();
    assert_eq!(turns.iter().filter(|place| **place == 0).count(), 3);
}

/// The lightest one, alone for a second, beside the heaviest one that comes then.
#[test]
fn a_light_one_that_ran_alone_still_has_its_turn_soon() {
    let mut queue = Queue::new(2);
    assert_eq!(among(&mut queue, &[Ready, Absent]), Decision::Run(0));
    queue.charge(0, 100 * TURN, 1);
    let weights = [1, 10_000];
    assert_eq!(turn(&mut queue, &weights, &[Ready; 2]), 1);
    assert_eq!(turn(&mut queue, &weights, &[Ready; 2]), 0);
    assert_eq!(turn(&mut queue, &weights, &[Ready; 2]), 1);
}

#[test]
fn one_that_yields_lets_another_go_first_once() {
    let mut queue = Queue::new(2);
    assert_eq!(among(&mut queue, &[Ready; 2]), Decision::Run(0));
    queue.charge(0, TURN, 100);
    assert_eq!(among(&mut queue, &[Ready; 2]), Decision::Run(1));
    // It is far behind, but waits for the other one.
    queue.charge(1, 10, 100);
    queue.yields(1);
    assert_eq!(among(&mut queue, &[Ready; 2]), Decision::Run(0));
    queue.charge(0, 10, 100);
    assert_eq!(among(&mut queue, &[Ready; 2]), Decision::Run(1));
    queue.yields(1);
    assert_eq!(among(&mut queue, &[Absent, Ready]), Decision::Run(1));
}

#[test]
fn small_turns_of_heavy_ones_count() {
    let mut queue = Queue::new(1);
    for _ in 0..1000 {
        queue.charge(0, 7, 10_000);
    }
    assert_eq!(queue.entries[0].time, 70);
    queue.charge(0, u64::MAX, 1);
    assert_eq!(queue.entries[0].time, 70 + LONGEST_TURN);
    queue.charge(0, 1, 0);
    queue.charge(1, 1, 1);
}

#[test]
fn virtual_time_may_wrap() {
    let mut queue = Queue::new(2);
    queue.floor = u64::MAX - TURN;
    let turns: Vec<usize> = (0..6)
        .map(|_| turn(&mut queue, &[100; 2], &[Ready; 2]))
        .collect();
    assert_eq!(turns, [0, 1, 0, 1, 0, 1]);
    assert!(queue.floor < 1 << 32);
    // One that was away for so long that it would seem to be ahead.
    queue.entries[1].time = queue.floor.wrapping_add(1 << 62);
    assert_eq!(turn(&mut queue, &[100; 2], &[Ready, Absent]), 0);
    assert_eq!(turn(&mut queue, &[100; 2], &[Ready; 2]), 1);
}

#[test]
fn ceded_ones_are_ready_for_time_or_interrupts() {
    assert_eq!(readiness_of(false, 5, || false, 100), Ready);
    assert_eq!(readiness_of(true, 5, || false, 100), Waits { until: 105 });
    assert_eq!(readiness_of(true, 0, || false, 100), Ready);
    assert_eq!(readiness_of(true, -7, || false, 100), Ready);
    assert_eq!(readiness_of(true, 5, || true, 100), Ready);
}

fn weights() -> impl Strategy<Value = Vec<u32>> {
    prop::collection::vec(1..=unless_miri(100_u32, 6), 2..6)
}

proptest! {
    #![proptest_config(crate::rtas::testing::config())]

    /// Whoever always wants the thread has its part of the time, within a twentieth, however long
    /// the turns of each are.
    #[test]
    fn those_that_are_always_ready_share_by_weight(
        weights in weights(),
        turns in prop::collection::vec(TURN / 8..TURN, 16),
    ) {
        let mut queue = Queue::new(weights.len());
        let mut had = vec![0_u64; weights.len()];
        let all: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
        let least = u64::from(*weights.iter().min().unwrap());
        // So long that the lightest one has fifty turns.
        let rounds = 50 * all / least * 2;
        for round in 0..rounds {
            let Decision::Run(place) = queue.decide(|_| Ready) else { panic!("somebody is ready") };
            // Each has its own habit, and some irregularity.
            let ticks = turns[(place + usize::try_from(round).unwrap() % 3) % turns.len()];
            queue.charge(place, ticks, weights[place]);
            had[place] += ticks;
        }
        let total: u64 = had.iter().sum();
        for (weight, had) in weights.iter().zip(&had) {
            let due = total as f64 * f64::from(*weight) / all as f64;
            let off = (*had as f64 - due).abs() / due;
            prop_assert!(off < 0.05, "{weights:?}: {had} instead of {due}");
        }
    }

    /// Whoever stays ready has the thread again when the others have had their parts, whatever they do
    /// meanwhile.
    #[test]
    fn nobody_starves(
        weights in weights(),
        who in any::<prop::sample::Index>(),
        others in prop::collection::vec((any::<u8>(), 1..=TURN), 1..steps(400)),
    ) {
        let who = who.index(weights.len());
        let mut queue = Queue::new(weights.len());
        let part = |place: usize| u64::from(weights[place].div_ceil(weights[who]));
        // A turn of one that is behind, and what it is due for one of ours.
        let bound: u64 = (0..weights.len()).map(|place| (part(place) + 2) * TURN).sum();
        let mut waited = 0;
        for (states, ticks) in others {
            let ready = |place: usize| place == who || states >> place & 1 != 0;
            let decision = queue.decide(|place| if ready(place) { Ready } else { Absent });
            let Decision::Run(place) = decision else { panic!("{decision:?}") };
            prop_assert!(ready(place));
            queue.charge(place, ticks, weights[place]);
            waited = if place == who { 0 } else { waited + ticks };
            prop_assert!(waited <= bound, "{weights:?}: {who} waited for {waited}");
        }
    }

    /// One that slept while others had at least a turn each is on at once, and its sleep gives it
    /// nothing beyond that.
    #[test]
    fn sleepers_have_prompt_turns_and_save_nothing(
        weights in weights(),
        who in any::<prop::sample::Index>(),
        asleep in 1..200_usize,
        awake in 1..200_usize,
    ) {
        let count = weights.len();
        let who = who.index(count);
        let mut queue = Queue::new(count);
        let mut list = vec![Ready; count];
        for _ in 0..asleep.min(7) {
            turn(&mut queue, &weights, &list);
        }
        list[who] = Waits { until: 1 };
        // Until those that were behind the sleeper are level with it.
        let all: u32 = weights.iter().sum();
        for _ in 0..asleep + 200 * all as usize {
            turn(&mut queue, &weights, &list);
        }
        list[who] = Ready;
        let mut had = 0;
        for round in 0..awake {
            let place = turn(&mut queue, &weights, &list);
            prop_assert!(round > 0 || place == who);
            had += u64::from(place == who);
        }
        // A turn for the beginning and one for the end more than its part.
        let due = awake as f64 * f64::from(weights[who]) / f64::from(all);
        prop_assert!(had as f64 <= due + 2.0, "{had} turns of {awake}, {due} due");
    }
}

#[test]
fn turns_that_were_given_away_are_not_saved_up() {
    let mut queue = Queue::new(2);
    let weights = [100; 2];
    for _ in 0..1000 {
        match among(&mut queue, &[Ready; 2]) {
            // It is there for a moment.
            Decision::Run(0) => {
                queue.charge(0, 1, 100);
                queue.yields(0);
            }
            Decision::Run(place) => queue.charge(place, TURN, 100),
            decision => panic!("{decision:?}"),
        }
    }
    let turns: Vec<usize> = (0..20)
        .map(|_| turn(&mut queue, &weights, &[Ready; 2]))
        .collect();
    let first = turns.iter().filter(|place| **place == 0).count();
    assert!((9..=11).contains(&first), "{turns:?}");
    // One that always gives its turn away runs where nobody else can.
    queue.yields(0);
    assert_eq!(turn(&mut queue, &weights, &[Ready, Absent]), 0);
}

#[test]
fn time_that_nobody_else_wanted_is_not_held_against_one() {
    let mut queue = Queue::new(2);
    let weights = [1, 10_000];
    for _ in 0..100 {
        assert_eq!(turn(&mut queue, &weights, &[Ready, Absent]), 0);
    }
    assert_eq!(
        among(&mut queue, &[Waits { until: 1 }, Absent]),
        Decision::Sleep { until: 1 }
    );
    // The other one comes, and this one is back a moment later: it has a turn within the first two.
    let a = turn(&mut queue, &weights, &[Absent, Ready]);
    let b = turn(&mut queue, &weights, &[Ready, Ready]);
    let c = turn(&mut queue, &weights, &[Ready, Ready]);
    assert_eq!(a, 1);
    assert!(b == 0 || c == 0, "{b} {c}");
}
