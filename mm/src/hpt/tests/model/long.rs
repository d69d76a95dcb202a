// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The model over a long run: all operations, and everything checked after each.
//!
//! PENSTOCK_MODEL_STEPS says how many, PENSTOCK_MODEL_SEED from where: another clock's time otherwise.
//! Where engine and model differ, the seed, the step and the last operations are printed.

use super::ops::{Op, all_operations, operations, resizing_operations};
use super::world::{Tally, World};
use super::*;
use crate::hpt::tests::ranges::{with_slots, with_slots_and};
use proptest::strategy::ValueTree;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};
use std::collections::VecDeque;
use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};
use std::{eprintln, println};

/// Steps that one partition takes: then its memory is touched and its blocks are scattered.
const STEPS_OF_A_PARTITION: u64 = 6000;

/// A number from the environment.
pub(in crate::hpt::tests) fn number_from(name: &str) -> Option<u64> {
    let text = env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is no number")),
    )
}

/// The seed of a run: from the environment, or from the clock.
pub(in crate::hpt::tests) fn seed() -> u64 {
    number_from("PENSTOCK_MODEL_SEED").unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        u64::from(now.subsec_nanos()) ^ now.as_secs() << 20
    })
}

/// Operations at random, from a seed.
struct Random(TestRunner);

impl Random {
    fn new(seed: u64) -> Self {
        let bytes = [seed.to_le_bytes(), (!seed).to_le_bytes()].concat();
        let rng = TestRng::from_seed(RngAlgorithm::XorShift, &bytes);
        Self(TestRunner::new_with_rng(config(), rng))
    }

    fn next(&mut self, from: &impl Strategy<Value = Op>) -> Op {
        from.new_tree(&mut self.0).unwrap().current()
    }
}

/// What is printed when the run ends before its time.
struct Story {
    seed: u64,
    step: u64,
    last: VecDeque<Op>,
}

impl Story {
    fn add(&mut self, op: Op) {
        self.step += 1;
        if self.last.len() == 20 {
            self.last.pop_front();
        }
        self.last.push_back(op);
    }
}

impl Drop for Story {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "PENSTOCK_MODEL_SEED={} step {}; the last operations:",
                self.seed, self.step
            );
            for op in &self.last {
                eprintln!("  {op:x?}");
            }
        }
    }
}

#[test]
fn engine_and_model_agree_over_a_long_run() {
    let (steps, seed) = (
        number_from("PENSTOCK_MODEL_STEPS").unwrap_or(unless_miri(2000, 4)),
        seed(),
    );
    let (mut random, from) = (Random::new(seed), all_operations());
    let mut story = Story {
        seed,
        step: 0,
        last: VecDeque::new(),
    };
    let mut tally = Vec::new();
    while story.step < steps {
        // Every other partition begins with memory that was never touched.
        let lazy = (story.step / STEPS_OF_A_PARTITION).is_multiple_of(2);
        let (p, ..) = with_slots(if lazy { Backing::Lazy } else { Backing::Eager });
        let mut world = World::new(&p);
        for _ in 0..STEPS_OF_A_PARTITION.min(steps - story.step) {
            let op = random.next(&from);
            story.add(op.clone());
            // What the operation answers, and then all of the table and everything that the guest sees.
            let result = world.step(&op).and_then(|()| world.verify());
            assert!(result.is_ok(), "{}", result.unwrap_err());
        }
        world.verify().and_then(|()| world.verify_memory()).unwrap();
        tally.push(world.tally);
    }
    println!("{steps} steps from seed {seed} agree");
    let sum = |of: fn(&Tally) -> u64| tally.iter().map(of).sum::<u64>();
    let (loads, stores) = (sum(|tally| tally.loads), sum(|tally| tally.stores));
    let (grants, told) = (sum(|tally| tally.grants), sum(|tally| tally.told));
    let (scattered, restored) = (sum(|tally| tally.scattered), sum(|tally| tally.restored));
    let real_modes = sum(|tally| tally.real_modes);
    println!(
        "{loads} loads, {stores} stores, {grants} grants, {told} granules in logs, \
         {scattered} blocks scattered, {restored} streams put in, \
         {real_modes} with other pages of real mode"
    );
    if steps >= 100_000 {
        // A run in which nothing happens proves nothing.
        for count in [loads, stores, grants, told, scattered, restored, real_modes] {
            assert!(count >= steps / 100_000);
        }
    }
}

fn run(p: &Fixture, ops: &[Op]) -> Result<(), TestCaseError> {
    let mut world = World::new(p);
    for op in ops {
        world.step(op).map_err(TestCaseError::fail)?;
    }
    world.verify().map_err(TestCaseError::fail)
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn eager_memory_agrees_with_the_model(ops in prop::collection::vec(operations(), 1..unless_miri(120, 6))) {
        static PARTITION: OnceLock<Fixture> = OnceLock::new();
        run(PARTITION.get_or_init(|| with_slots(Backing::Eager).0), &ops)?;
    }

    /// The same with resizes, from the smallest table on.
    #[test]
    fn resizes_agree_with_the_model(
        lazy: bool,
        ops in prop::collection::vec(resizing_operations(), 1..unless_miri(120, 6)),
    ) {
        static PARTITIONS: OnceLock<[Fixture; 2]> = OnceLock::new();
        let partitions = PARTITIONS.get_or_init(|| {
            let config = HptConfig {
                resize: HptOrder::new(20),
                ..small(PageSize::P16M)
            };
            [Backing::Eager, Backing::Lazy].map(|backing| with_slots_and(backing, config).0)
        });
        run(&partitions[usize::from(lazy)], &ops)?;
    }

    /// Pieces of the first partition's memory stay touched from case to case, so entries begin
    /// valid or absent.
    #[test]
    fn lazy_memory_agrees_with_the_model(
        fresh in 0_u8..32,
        ops in prop::collection::vec(operations(), 1..unless_miri(120, 6)),
    ) {
        static PARTITION: OnceLock<Fixture> = OnceLock::new();
        if fresh == 0 {
            run(&with_slots(Backing::Lazy).0, &ops)?;
        } else {
            run(PARTITION.get_or_init(|| with_slots(Backing::Lazy).0), &ops)?;
        }
    }
}

/// Where the one absent entry is removed nothing is hidden, though there is memory that was never
/// touched.
#[test]
fn half_touched_memory_agrees_with_the_model() {
    let (p, ..) = with_slots(Backing::Lazy);
    let touch = |at, len| p.memory().populate(GuestReal::new(at), len).unwrap();
    touch(0, 1);
    touch(16 << 20, 16 << 20);
    let page = Page { ea: 0, ..PAGE };
    let ptex = page.group(&p);
    let load = |problem| Op::Fault {
        page,
        kind: AccessKind::Load,
        problem,
    };
    let ops = [
        Op::Remove {
            flags: 0,
            ptex: 0x7ff * 8 + 7,
            avpn: 0,
        },
        load(false),
        Op::Enter {
            flags: EXACT,
            ptex,
            v: page.v(),
            r: page.r(0) & 0xffff_0000 | 0x1010,
        },
        load(false),
        load(true),
    ];
    run(&p, &ops).unwrap();
    assert_eq!(p.hidden(), 0);
    assert!(!p.memory().is_fully_backed());
}
