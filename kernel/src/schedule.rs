// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Who has the thread next: whoever has had the least of it for its weight, of those that can use it.
//!
//! A turn ends with the service tick, with H_CEDE, and when a partition stops or is paused. Each
//! virtual processor has a *virtual time*: the ticks of its turns, divided by its weight. The one whose
//! virtual time is least runs next, so those that always want the thread get it in proportion to their
//! weights, and of equal weights in turn, in the order of the partition tree. Whoever did not want the
//! thread for a while goes on from the *floor*, where the others are: it has the next turn, and cannot save
//! up for more than that.
//!
//! Where nobody can run, the thread sleeps until the first of their decrementers expires; what wakes
//! one earlier, an interrupt or the operator, is looked for at each tick.
//!
//! Between threads the same times decide who moves: see [`balance`].

pub mod balance;

use crate::config::DEFAULT_WEIGHT;
use alloc::vec::Vec;

/// The weight at which virtual time is time.
const UNIT_WEIGHT: u64 = DEFAULT_WEIGHT as u64;

/// The most that one turn counts, in units of virtual time: far more than any does. Whoever is further
/// ahead of the floor than this is behind it, by so much that the difference has wrapped.
const LONGEST_TURN: u64 = 1 << 56;

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
    /// This one runs, by its place in the order.
    Run(usize),
    /// All wait.
    Sleep {
        /// The time base at which the first of them can run.
        until: u64,
    },
    /// No partition is running.
    Nothing,
}

/// What the queue knows of one virtual processor.
#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    /// Its virtual time; it wraps, and only differences count.
    time: u64,
    /// What is left of its ticks: less than its weight makes one of virtual time.
    rest: u64,
    state: State,
}

/// What an entry was when the queue last looked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Idle,
    /// It is ready, and was not before.
    Woken,
    Ready,
}

/// The virtual processors of a thread, by place, and how much of it each has had.
#[derive(Clone, Debug)]
pub struct Queue {
    entries: Vec<Entry>,
    /// The virtual time of the one that runs, or ran last: nobody who was ready then is behind it.
    floor: u64,
    /// What that was when it was chosen.
    front: u64,
    /// Who runs, or ran last.
    last: usize,
    /// Who lets the others go first, once.
    yields: Option<usize>,
    /// Who has that one's turn.
    heir: Option<usize>,
    /// When the first of those that wait can run.
    first: Option<u64>,
    /// The one that runs was the only one that was ready.
    alone: bool,
}

impl Queue {
    /// One with `count` places, whose first goes first.
    #[must_use]
    pub fn new(count: usize) -> Self {
        Self {
            entries: alloc::vec![Entry::default(); count],
            floor: 0,
            front: 0,
            last: usize::MAX,
            yields: None,
            heir: None,
            first: None,
            alone: false,
        }
    }

    /// Gives it `count` places, if it has not as many.
    pub fn have_places(&mut self, count: usize) {
        if self.entries.len() < count {
            self.entries.resize(count, Entry::default());
        }
    }

    /// Decides who has the next turn: [`Self::look`] and [`Self::choose`].
    pub fn decide(&mut self, readiness: impl FnMut(usize) -> Readiness) -> Decision {
        self.look(readiness);
        self.choose()
    }

    /// Asks all what they would do.
    pub fn look(&mut self, mut readiness: impl FnMut(usize) -> Readiness) {
        self.first = None;
        for (place, entry) in self.entries.iter_mut().enumerate() {
            entry.state = match readiness(place) {
                Readiness::Ready if entry.state == State::Idle => State::Woken,
                Readiness::Ready => State::Ready,
                Readiness::Waits { until } => {
                    self.first = Some(self.first.map_or(until, |first| first.min(until)));
                    State::Idle
                }
                Readiness::Absent => State::Idle,
            };
        }
        self.settle();
    }

    /// Decides who has the next turn, of those that were ready at the last look.
    pub fn choose(&mut self) -> Decision {
        let yields = self.yields.take();
        let heir = self.heir.take().filter(|heir| self.is_ready(*heir));
        if let (Some(giver), Some(heir)) = (yields, heir) {
            self.pass_turn(giver, heir);
            self.alone = false;
            self.last = heir;
            return Decision::Run(heir);
        }
        let count = self.entries.len();
        // Places count up from the one behind the last; of equals the first one runs.
        let next = (1..=count)
            .map(|step| self.last.wrapping_add(step) % count)
            .filter_map(|place| Some((place, self.entries.get(place)?)))
            .filter(|(_, entry)| entry.state != State::Idle)
            .min_by_key(|(place, entry)| {
                let ahead = entry.time.wrapping_sub(self.floor).cast_signed();
                (yields == Some(*place), ahead, entry.state != State::Woken)
            });
        match (next, self.first) {
            (Some((place, entry)), _) => {
                if entry.time.wrapping_sub(self.floor).cast_signed() > 0 {
                    self.floor = entry.time;
                }
                self.front = self.floor;
                self.last = place;
                self.alone = self.ready().count() == 1;
                self.forget_turn(yields.filter(|yields| *yields != place), self.floor);
                Decision::Run(place)
            }
            (None, Some(until)) => Decision::Sleep { until },
            (None, None) => Decision::Nothing,
        }
    }

    /// The rest of a turn goes to `heir`, who is ready, before its time: it has it on its own account. The
    /// giver has had its turn, and comes after all that waited.
    fn pass_turn(&mut self, giver: usize, heir: usize) {
        let others = self.entries.iter().enumerate().filter(|(place, entry)| {
            *place != giver && *place != heir && entry.state != State::Idle
        });
        let floor = self.floor;
        let first = others
            .map(|(_, entry)| entry.time.wrapping_sub(floor).cast_signed())
            .min();
        if let Some(first) = first {
            self.forget_turn(Some(giver), floor.wrapping_add(first.cast_unsigned()));
        }
    }

    /// Whether the one at `place` was ready at the last decision.
    #[must_use]
    pub fn is_ready(&self, place: usize) -> bool {
        self.entries
            .get(place)
            .is_some_and(|entry| entry.state != State::Idle)
    }

    /// Whether the one at `place` was ready at the last look, and not at the one before it.
    #[must_use]
    pub fn is_woken(&self, place: usize) -> bool {
        self.entries
            .get(place)
            .is_some_and(|entry| entry.state == State::Woken)
    }

    /// All of whom that is true, by place.
    pub fn woken(&self) -> impl Iterator<Item = usize> {
        (0..self.entries.len()).filter(|place| self.is_woken(*place))
    }

    fn ready(&self) -> impl Iterator<Item = &Entry> {
        self.entries
            .iter()
            .filter(|entry| entry.state != State::Idle)
    }

    /// The turn that one has given away is gone: it cannot save it up.
    fn forget_turn(&mut self, giver: Option<usize>, floor: u64) {
        if let Some(entry) = giver.and_then(|place| self.entries.get_mut(place))
            && entry.state != State::Idle
            && entry.time.wrapping_sub(floor).cast_signed() < 0
        {
            entry.time = floor;
        }
    }

    /// Brings the floor up to the first of those that have been ready, and those that have woken up to
    /// the floor.
    fn settle(&mut self) {
        let floor = self.floor;
        let ahead = |entry: &Entry| entry.time.wrapping_sub(floor);
        let ready = self
            .entries
            .iter()
            .filter(|entry| entry.state == State::Ready);
        let least = ready.map(|entry| ahead(entry).cast_signed()).min();
        self.floor = floor.wrapping_add(least.unwrap_or(0).max(0).unsigned_abs());
        for entry in &mut self.entries {
            if entry.state == State::Woken && entry.time.wrapping_sub(self.floor) > LONGEST_TURN {
                entry.time = self.floor;
            }
        }
    }

    /// Counts `ticks` that the one at `place` has had the thread for, with this weight, which is not 0.
    pub fn charge(&mut self, place: usize, ticks: u64, weight: u32) {
        let Some(entry) = self.entries.get_mut(place) else {
            return;
        };
        let weight = u64::from(weight.max(1));
        let had = ticks.saturating_mul(UNIT_WEIGHT).saturating_add(entry.rest);
        entry.time = entry.time.wrapping_add((had / weight).min(LONGEST_TURN));
        entry.rest = had % weight;
        // Nobody else wanted it: whoever comes next begins where this one is.
        if self.alone && self.last == place {
            self.floor = entry.time;
        }
    }

    /// The one at `place` has nothing to do before another one has been on: that one goes first at the
    /// next decision.
    pub fn yields(&mut self, place: usize) {
        self.yields = Some(place);
    }

    /// The same, and if the one at `heir` is ready then, it is the one that goes first.
    pub fn yields_to(&mut self, place: usize, heir: usize) {
        self.yields = Some(place);
        self.heir = Some(heir).filter(|heir| *heir != place);
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
mod tests;
