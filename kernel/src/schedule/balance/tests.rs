// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tests of who moves, on a model of several threads, each of which does what the hypervisor's do.

use super::*;
use crate::schedule::Decision;
use crate::schedule::Readiness::{self, Absent, Ready};
use alloc::vec;
use alloc::vec::Vec;
use proptest::prelude::*;

/// A turn in ticks: 10 ms.
const TURN: u64 = 5_120_000;
const SECOND: u64 = 100 * TURN;

/// A virtual processor of the model.
struct Vcpu {
    weight: u32,
    home: usize,
    offer: Option<Offer>,
    /// Whether it would run.
    is_ready: bool,
    /// The thread that has it aboard.
    aboard: Option<usize>,
    /// Ticks of its turns.
    had: u64,
    moves: u64,
}

struct Thread {
    queue: Queue,
    /// When it looks next.
    next: u64,
    is_shared: bool,
    /// Who is aboard, and since when he has his turn.
    turn: Option<(usize, u64)>,
}

struct Machine {
    threads: Vec<Thread>,
    vcpus: Vec<Vcpu>,
    foremost: u64,
}

impl Machine {
    /// All on the first thread, as bad as can be, and ready.
    fn new(threads: usize, weights: &[u32]) -> Self {
        let vcpu = |weight: &u32| Vcpu {
            weight: *weight,
            home: 0,
            offer: None,
            is_ready: true,
            aboard: None,
            had: 0,
            moves: 0,
        };
        let thread = |_| Thread {
            queue: Queue::new(weights.len()),
            next: 0,
            is_shared: false,
            turn: None,
        };
        Self {
            threads: (0..threads).map(thread).collect(),
            vcpus: weights.iter().map(vcpu).collect(),
            foremost: 0,
        }
    }

    fn run_until(&mut self, end: u64) {
        loop {
            let threads = self.threads.iter().enumerate();
            let (me, now) = threads
                .map(|(number, thread)| (number, thread.next))
                .min_by_key(|(_, next)| *next)
                .unwrap();
            if now >= end {
                return;
            }
            self.step(me, now);
        }
    }

    fn step(&mut self, me: usize, now: u64) {
        let Self { threads, vcpus, .. } = self;
        let thread = &mut threads[me];
        if let Some((place, since)) = thread.turn.take() {
            thread.queue.charge(place, now - since, vcpus[place].weight);
            vcpus[place].had += now - since;
        }
        let mut started = 0;
        thread.queue.look(|place| {
            let is_mine = vcpus[place].home == me;
            started += usize::from(is_mine);
            if is_mine && vcpus[place].is_ready {
                Ready
            } else {
                Absent
            }
        });
        let slack_of = |vcpu: &Vcpu| slack(vcpu.weight, 1);
        let mine = |place: usize| match vcpus.get(place) {
            Some(vcpu) if vcpu.home == me => slack_of(vcpu),
            _ => 0,
        };
        if let Some(front) = thread.queue.front(mine) {
            self.foremost = later(self.foremost, front);
        }
        thread.queue.catch_up(self.foremost, mine);
        let offers = vcpus
            .iter()
            .enumerate()
            .filter_map(|(place, vcpu)| (vcpu.home != me).then_some((place, vcpu.offer?)));
        if let Some(place) = thread.queue.wanted(offers) {
            let vcpu = &mut vcpus[place];
            if vcpu.aboard.is_none() && vcpu.is_ready {
                let offer = vcpu.offer.take().unwrap();
                vcpu.home = me;
                vcpu.moves += 1;
                thread.queue.arrive(place, offer.time);
                started += 1;
            }
        }
        thread.is_shared = started > 1;
        let decision = thread.queue.choose();
        for vcpu in vcpus.iter_mut().filter(|vcpu| vcpu.aboard == Some(me)) {
            vcpu.aboard = None;
        }
        let is_shared = self.threads.iter().any(|thread| thread.is_shared);
        let thread = &mut self.threads[me];
        thread.next = match decision {
            Decision::Run(place) => {
                self.vcpus[place].aboard = Some(me);
                self.vcpus[place].offer = None;
                thread.turn = Some((place, now));
                now + match (thread.is_shared, is_shared) {
                    (true, _) => TURN,
                    (_, true) => 5 * TURN,
                    _ => 100 * TURN,
                }
            }
            // Until somebody is offered.
            _ => u64::MAX,
        };
        let mut has_offered = false;
        for (place, vcpu) in self.vcpus.iter_mut().enumerate() {
            if vcpu.home == me && thread.queue.is_ready(place) && vcpu.aboard.is_none() {
                let time = thread.queue.time_of(place);
                vcpu.offer = Some(Offer {
                    time,
                    slack: slack_of(vcpu),
                });
                has_offered = true;
            }
        }
        if has_offered {
            let mut others = self.threads.iter_mut();
            if let Some(idle) = others.find(|thread| thread.next == u64::MAX) {
                idle.next = now + 1;
            }
        }
    }

    /// What each had from now until `end`, in parts of a thread.
    fn shares_until(&mut self, now: u64, end: u64) -> Vec<f64> {
        let before: Vec<u64> = self.vcpus.iter().map(|vcpu| vcpu.had).collect();
        self.run_until(end);
        let after = self.vcpus.iter().zip(before);
        after
            .map(|(vcpu, before)| (vcpu.had - before) as f64 / (end - now) as f64)
            .collect()
    }
}

/// What each is due, in parts of a thread: by its weight, but nobody more than a whole one.
fn due(threads: usize, weights: &[u32]) -> Vec<f64> {
    let mut due = vec![0.0; weights.len()];
    let mut rest: Vec<usize> = (0..weights.len()).collect();
    let mut left = threads as f64;
    loop {
        let all: f64 = rest.iter().map(|place| f64::from(weights[*place])).sum();
        let part = |place: usize| left * f64::from(weights[place]) / all;
        let (whole, others): (Vec<_>, Vec<_>) = rest.iter().partition(|place| part(**place) >= 1.0);
        if whole.is_empty() || left <= 0.0 {
            for place in &rest {
                due[*place] = part(*place);
            }
            return due;
        }
        for place in &whole {
            due[*place] = 1.0;
        }
        left -= whole.len() as f64;
        rest = others;
    }
}

fn assert_near(shares: &[f64], due: &[f64], off: f64) {
    for (share, due) in shares.iter().zip(due) {
        assert!(
            (share - due).abs() < off * due,
            "{shares:?} instead of {due:?}"
        );
    }
}

#[test]
fn what_is_due_is_at_most_a_thread() {
    assert_eq!(due(2, &[100; 3]), [2.0 / 3.0; 3]);
    assert_eq!(due(2, &[1000, 100, 100]), [1.0, 0.5, 0.5]);
    assert_eq!(due(3, &[1, 1]), [1.0, 1.0]);
    assert_eq!(due(3, &[1000, 100, 100, 200]), [1.0, 0.5, 0.5, 1.0]);
}

#[test]
fn three_have_two_thirds_of_a_thread_each() {
    let mut machine = Machine::new(2, &[100; 3]);
    let shares = machine.shares_until(0, 10 * SECOND);
    assert_near(&shares, &[2.0 / 3.0; 3], 0.02);
    // Each has several turns between its moves.
    let moves: u64 = machine.vcpus.iter().map(|vcpu| vcpu.moves).sum();
    assert!((20..100).contains(&moves), "{moves} moves in 10 s");
}

#[test]
fn who_has_a_thread_for_himself_stays_there() {
    let mut machine = Machine::new(3, &[10, 100, 10_000]);
    machine.run_until(SECOND);
    let before: Vec<u64> = machine.vcpus.iter().map(|vcpu| vcpu.moves).collect();
    let shares = machine.shares_until(SECOND, 10 * SECOND);
    let after: Vec<u64> = machine.vcpus.iter().map(|vcpu| vcpu.moves).collect();
    assert_eq!(before, after);
    assert_near(&shares, &[1.0; 3], 0.2);
}

#[test]
fn who_waits_is_taken_over_when_a_thread_has_nobody() {
    let mut machine = Machine::new(2, &[100; 3]);
    machine.run_until(SECOND);
    machine.vcpus[0].is_ready = false;
    machine.run_until(SECOND + 10 * TURN);
    let shares = machine.shares_until(SECOND + 10 * TURN, 2 * SECOND);
    assert_near(&shares[1..], &[1.0; 2], 0.1);
}

/// The first one could have used more than its thread for an hour. When others come that it has to share it
/// with, it does.
#[test]
fn what_nobody_could_have_is_not_saved_up() {
    let mut machine = Machine::new(2, &[300, 100, 100, 100, 100]);
    machine.vcpus[3].is_ready = false;
    machine.vcpus[4].is_ready = false;
    let hour = 3600 * SECOND;
    let shares = machine.shares_until(0, hour);
    assert_near(&shares[..3], &due(2, &[300, 100, 100]), 0.02);
    machine.vcpus[3].is_ready = true;
    machine.vcpus[4].is_ready = true;
    machine.run_until(hour + 20 * SECOND);
    let shares = machine.shares_until(hour + 20 * SECOND, hour + 30 * SECOND);
    assert_near(&shares, &due(2, &[300, 100, 100, 100, 100]), 0.1);
}

/// Threads whose times are far apart, since what ran on one was light, and on the other heavy.
#[test]
fn times_that_are_far_apart_come_together() {
    let mut machine = Machine::new(2, &[1, 10_000, 100, 100]);
    machine.vcpus[2].is_ready = false;
    machine.vcpus[3].is_ready = false;
    machine.run_until(600 * SECOND);
    machine.vcpus[0].is_ready = false;
    machine.vcpus[1].is_ready = false;
    machine.vcpus[2].is_ready = true;
    machine.vcpus[3].is_ready = true;
    for thread in &mut machine.threads {
        thread.next = 600 * SECOND;
    }
    let shares = machine.shares_until(600 * SECOND, 602 * SECOND);
    assert_near(&shares[2..], &[1.0; 2], 0.1);
}

#[test]
fn one_that_is_offered_goes_where_all_are_ahead_by_its_slack() {
    let offer = |time| [(7, Offer { time, slack: 100 })].into_iter();
    let mut queue = Queue::new(2);
    queue.look(|_| Absent);
    assert_eq!(queue.wanted(offer(1 << 40)), Some(7));
    queue.arrive(0, 500);
    queue.arrive(1, 600);
    assert_eq!(queue.wanted(offer(400)), None);
    assert_eq!(queue.wanted(offer(399)), Some(7));
    // Times wrap.
    assert_eq!(queue.wanted(offer(0_u64.wrapping_sub(1))), Some(7));
    assert_eq!(queue.wanted(core::iter::empty()), None);
    // Of several the one that is due most.
    let two = [
        (
            3,
            Offer {
                time: 300,
                slack: 1,
            },
        ),
        (
            4,
            Offer {
                time: 200,
                slack: 1,
            },
        ),
    ];
    assert_eq!(queue.wanted(two.into_iter()), Some(4));
    // A place that the queue did not have yet.
    queue.arrive(9, 100);
    assert_eq!(queue.choose(), Decision::Run(9));
}

#[test]
fn who_is_woken_is_not_far_behind_other_threads() {
    let mut queue = Queue::new(3);
    queue.look(|place| if place == 0 { Ready } else { Absent });
    queue.look(|_| Ready);
    let slack = |place| if place == 2 { 0 } else { 100 };
    queue.catch_up(1_000_000, slack);
    assert_eq!(queue.time_of(0), 1_000_000 - 40 * 100);
    assert_eq!(queue.time_of(1), 1_000_000 - 2 * 100);
    assert_eq!(queue.time_of(2), 0, "one that may not move");
    queue.catch_up(999_000, slack);
    assert_eq!(queue.time_of(1), 1_000_000 - 2 * 100);
}

#[test]
fn slack_is_the_same_time_for_all() {
    assert_eq!(slack(100, 1), SLACK);
    assert_eq!(slack(50, 1), 2 * SLACK);
    assert_eq!(slack(100, 2), 2 * SLACK);
    assert_eq!(slack(u32::MAX, 0), 1.max(SLACK * 100 / u64::from(u32::MAX)));
    assert!(slack(0, u32::MAX) > 0);
}

#[test]
fn a_turn_that_is_given_is_on_the_account_of_who_has_it() {
    let mut queue = Queue::new(3);
    let mut had = [0_u64; 3];
    // The first one gives all its turns to the second one; the third one has no less for it.
    for _ in 0..3000 {
        let Decision::Run(place) = queue.decide(|_| Ready) else {
            panic!()
        };
        let ticks = if place == 0 { 1 } else { TURN };
        queue.charge(place, ticks, 100);
        had[place] += ticks;
        if place == 0 {
            queue.yields_to(0, 1);
            assert_eq!(queue.decide(|_| Ready), Decision::Run(1));
            queue.charge(1, TURN, 100);
            had[1] += TURN;
        }
    }
    assert!(had[2] * 2 + 10 * TURN >= had[1], "{had:?}");
    // To itself, or to one that is not ready, is to whoever comes next.
    queue.yields_to(0, 0);
    assert_ne!(queue.decide(|_| Ready), Decision::Run(0));
    queue.yields_to(0, 1);
    let ready = |place| if place == 1 { Absent } else { Ready };
    assert_eq!(queue.decide(ready), Decision::Run(2));
    let alone = |place: usize| -> Readiness { if place == 0 { Ready } else { Absent } };
    queue.yields_to(0, 1);
    assert_eq!(queue.decide(alone), Decision::Run(0));
}

/// A light one that is alone for a moment gets far ahead by it, which is nothing that others have missed: the
/// heavy one keeps its thread.
#[test]
fn the_lead_of_a_light_one_takes_nothing_from_a_heavy_one() {
    let weights = [74, 10, 258, 775, 505, 87];
    let mut machine = Machine::new(3, &weights);
    machine.run_until(2 * SECOND);
    let shares = machine.shares_until(2 * SECOND, 62 * SECOND);
    assert_near(&shares[2..5], &due(3, &weights)[2..5], 0.03);
}

proptest! {
    #![proptest_config(crate::rtas::testing::config())]

    /// Whoever always wants a thread has its part of all of them, but nobody more than a whole one, as long
    /// as no weight is more than forty times another one's.
    #[test]
    fn weights_count_across_threads(
        threads in 1..4_usize,
        weights in prop::collection::vec(25..=1000_u32, 1..8),
    ) {
        let mut machine = Machine::new(threads, &weights);
        machine.run_until(2 * SECOND);
        let shares = machine.shares_until(2 * SECOND, 62 * SECOND);
        for (place, (share, due)) in shares.iter().zip(due(threads, &weights)).enumerate() {
            let off = (share - due).abs();
            prop_assert!(off < 0.05 * due + 0.025, "{threads} {weights:?}: {place} had {share}, not {due}");
        }
    }
}
