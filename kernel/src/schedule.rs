// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Who has the thread next: in turn, whoever can use it.
//!
//! A turn ends with the service tick, with H_CEDE, and when a partition stops or is paused. Then
//! the next one in the order of the partition tree that can run gets the thread, the last one itself
//! if there is no other. Where none can, the thread sleeps until the first of their decrementers
//! expires; what wakes one earlier, an interrupt or the operator, is looked for at each tick.

/// What a partition would do with the thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// Run.
    Ready,
    /// Nothing before this time, unless an interrupt comes for it.
    Waits {
        /// The time base at which its decrementer expires.
        until: u64,
    },
    /// Nothing: it is not running.
    Absent,
}

/// What becomes of the thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// This partition runs, by its place in the order.
    Run(usize),
    /// All wait.
    Sleep {
        /// The time base at which the first of them can run.
        until: u64,
    },
    /// No partition is running.
    Nothing,
}

/// Decides after a turn of the partition at place `last` of `count`.
pub fn decide(
    last: usize,
    count: usize,
    mut readiness: impl FnMut(usize) -> Readiness,
) -> Decision {
    let mut first: Option<u64> = None;
    for step in 1..=count {
        // Places count up from the one behind the last; `count` is not 0 here.
        let place = last.wrapping_add(step) % count;
        match readiness(place) {
            Readiness::Ready => return Decision::Run(place),
            Readiness::Waits { until } => {
                first = Some(first.map_or(until, |first| first.min(until)));
            }
            Readiness::Absent => {}
        }
    }
    match first {
        Some(until) => Decision::Sleep { until },
        None => Decision::Nothing,
    }
}

/// What a partition that is running would do: `ceded` says that it waits, `left` how many ticks
/// its decrementer has, and `woken` whether anything else wants it to run.
#[must_use]
pub fn readiness_of(ceded: bool, left: i64, woken: impl FnOnce() -> bool, now: u64) -> Readiness {
    if !ceded || left <= 0 || woken() {
        Readiness::Ready
    } else {
        Readiness::Waits {
            until: now.wrapping_add(left.unsigned_abs()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Readiness::{Absent, Ready, Waits};
    use alloc::vec::Vec;
    use proptest::prelude::*;

    fn among(last: usize, list: &[Readiness]) -> Decision {
        decide(last, list.len(), |place| list[place])
    }

    #[test]
    fn one_partition_runs_or_is_slept_for() {
        assert_eq!(among(0, &[Ready]), Decision::Run(0));
        assert_eq!(
            among(0, &[Waits { until: 9 }]),
            Decision::Sleep { until: 9 }
        );
        assert_eq!(among(0, &[Absent]), Decision::Nothing);
        assert_eq!(among(0, &[]), Decision::Nothing);
    }

    #[test]
    fn turns_go_round() {
        let all = [Ready; 3];
        assert_eq!(among(0, &all), Decision::Run(1));
        assert_eq!(among(1, &all), Decision::Run(2));
        assert_eq!(among(2, &all), Decision::Run(0));
        assert_eq!(among(0, &[Ready, Absent, Ready]), Decision::Run(2));
        assert_eq!(
            among(2, &[Absent, Waits { until: 1 }, Ready]),
            Decision::Run(2)
        );
    }

    #[test]
    fn sleep_ends_with_the_first_decrementer() {
        let list = [Waits { until: 30 }, Absent, Waits { until: 20 }];
        assert_eq!(among(0, &list), Decision::Sleep { until: 20 });
        assert_eq!(among(2, &list), Decision::Sleep { until: 20 });
    }

    #[test]
    fn ceded_ones_are_ready_for_time_or_interrupts() {
        assert_eq!(readiness_of(false, 5, || false, 100), Ready);
        assert_eq!(readiness_of(true, 5, || false, 100), Waits { until: 105 });
        assert_eq!(readiness_of(true, 0, || false, 100), Ready);
        assert_eq!(readiness_of(true, -7, || false, 100), Ready);
        assert_eq!(readiness_of(true, 5, || true, 100), Ready);
    }

    proptest! {
        #![proptest_config(crate::rtas::testing::config())]

        /// Whoever stays ready gets the thread within one round, whatever the others do.
        #[test]
        fn nobody_starves(
            count in 1..8_usize,
            who in any::<prop::sample::Index>(),
            others in proptest::collection::vec(any::<u8>(), 8 * 8),
            start in any::<prop::sample::Index>(),
        ) {
            let who = who.index(count);
            let mut last = start.index(count);
            let mut others = others.into_iter();
            let mut turns = Vec::new();
            for _ in 0..count {
                let state: Vec<bool> = (0..count)
                    .map(|place| place == who || others.next().unwrap() % 2 == 0)
                    .collect();
                let decision = decide(last, count, |p| if state[p] { Ready } else { Absent });
                let Decision::Run(place) = decision else { panic!("{decision:?}") };
                prop_assert!(state[place]);
                turns.push(place);
                last = place;
            }
            prop_assert!(turns.contains(&who), "{:?}", turns);
        }
    }
}
