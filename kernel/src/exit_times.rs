// SPDX-License-Identifier: Apache-2.0 OR MIT
//! How long a virtual processor was out of its guest, by the reason for which it left.
//!
//! Only full exits are timed: reading the time base twice would be a sixth of the cheapest
//! hypervisor call. Light exits are counted, and what they take is part of the time in the guest.
//! All times are ticks of the time base.

use crate::exit::GuestExit;

/// Classes of a histogram, by the binary logarithm of the ticks. The last one takes all that is
/// longer than four seconds.
pub const CLASSES: usize = 32;

/// How often something took how long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    /// Class n counts what took at least 2^n ticks and less than 2^(n+1); class 0 also what took none.
    classes: [u32; CLASSES],
    /// Ticks all together.
    pub total: u64,
    /// Ticks of the longest one.
    pub longest: u64,
}

impl Histogram {
    /// Counts one that took `ticks`.
    pub fn add(&mut self, ticks: u64) {
        let class = ticks.checked_ilog2().unwrap_or(0) as usize;
        if let Some(count) = self.classes.get_mut(class.min(CLASSES - 1)) {
            *count = count.saturating_add(1);
        }
        self.total = self.total.saturating_add(ticks);
        self.longest = self.longest.max(ticks);
    }

    /// Counts all of another one too.
    pub fn merge(&mut self, other: &Self) {
        for (count, more) in self.classes.iter_mut().zip(other.classes) {
            *count = count.saturating_add(more);
        }
        self.total = self.total.saturating_add(other.total);
        self.longest = self.longest.max(other.longest);
    }

    /// How many there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.classes.iter().map(|count| u64::from(*count)).sum()
    }

    /// The classes that have any: their fewest ticks, and how many.
    pub fn filled(&self) -> impl Iterator<Item = (u64, u32)> + '_ {
        let least = |class: u32| if class == 0 { 0 } else { 1_u64 << class };
        (0..)
            .zip(self.classes)
            .filter(|(_, count)| *count > 0)
            .map(move |(class, count)| (least(class), count))
    }
}

/// Where a virtual processor is, and since when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// It never was in its guest, or starts over.
    Nowhere,
    /// In its guest.
    In { since: u64 },
    /// Out of it, for the exit of this index.
    Out { since: u64, reason: usize },
}

/// The times of one virtual processor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExitTimes {
    reasons: [Histogram; GuestExit::NAMES.len()],
    in_guest: u64,
    place: Place,
}

impl Default for ExitTimes {
    fn default() -> Self {
        Self {
            reasons: [Histogram::default(); GuestExit::NAMES.len()],
            in_guest: 0,
            place: Place::Nowhere,
        }
    }
}

impl ExitTimes {
    /// The guest is entered at this time.
    pub fn enter(&mut self, now: u64) {
        if let Place::Out { since, reason } = self.place
            && let Some(histogram) = self.reasons.get_mut(reason)
        {
            histogram.add(now.wrapping_sub(since));
        }
        self.place = Place::In { since: now };
    }

    /// The guest was left at this time.
    pub fn leave(&mut self, exit: GuestExit, now: u64) {
        if let Place::In { since } = self.place {
            self.in_guest = self.in_guest.saturating_add(now.wrapping_sub(since));
        }
        self.place = Place::Out {
            since: now,
            reason: exit.index(),
        };
    }

    /// Its partition was paused from one time to the other, which is no exit's time either.
    pub fn paused(&mut self, from: u64, to: u64) {
        if let Place::Out { since, .. } = &mut self.place {
            let later = since.saturating_add(to.saturating_sub(from));
            *since = later.min(to).max(*since);
        }
    }

    /// It starts over: what it was at before is no exit's time.
    pub fn begin(&mut self) {
        self.place = Place::Nowhere;
    }

    /// Counts the times of another virtual processor too.
    pub fn merge(&mut self, other: &Self) {
        for (histogram, more) in self.reasons.iter_mut().zip(&other.reasons) {
            histogram.merge(more);
        }
        self.in_guest = self.in_guest.saturating_add(other.in_guest);
    }

    /// By the names of the reasons, in the order of [`GuestExit::NAMES`].
    pub fn by_reason(&self) -> impl Iterator<Item = (&'static str, &Histogram)> {
        GuestExit::NAMES.iter().copied().zip(&self.reasons)
    }

    /// Ticks in the guest, with its hypervisor calls and storage faults.
    #[must_use]
    pub const fn in_guest(&self) -> u64 {
        self.in_guest
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    fn filled(histogram: &Histogram) -> Vec<(u64, u32)> {
        histogram.filled().collect()
    }

    #[test]
    fn a_class_begins_at_a_power_of_two() {
        let mut histogram = Histogram::default();
        for ticks in [0, 1, 2, 3, 4, 1023, 1024, 1025] {
            histogram.add(ticks);
        }
        assert_eq!(
            filled(&histogram),
            [(0, 2), (2, 2), (4, 1), (512, 1), (1024, 2)]
        );
        assert_eq!(histogram.count(), 8);
        assert_eq!(histogram.total, 3082);
        assert_eq!(histogram.longest, 1025);
    }

    #[test]
    fn what_takes_longest_has_the_last_class() {
        let mut histogram = Histogram::default();
        histogram.add((1 << 31) - 1);
        histogram.add(1 << 31);
        histogram.add(u64::MAX);
        assert_eq!(filled(&histogram), [(1 << 30, 1), (1 << 31, 2)]);
        assert_eq!(histogram.total, u64::MAX, "it stays at its greatest");
        histogram.classes[31] = u32::MAX;
        histogram.add(u64::MAX);
        assert_eq!(filled(&histogram)[1], (1 << 31, u32::MAX));
    }

    #[test]
    fn an_exit_lasts_until_the_next_entry() {
        let mut times = ExitTimes::default();
        times.enter(1000);
        times.leave(GuestExit::Cede, 1600);
        times.enter(1700);
        times.leave(GuestExit::HypervisorDecrementer, 1701);
        times.enter(1705);
        times.leave(GuestExit::Cede, 1805);
        assert_eq!(times.in_guest(), 701);
        let counts: Vec<_> = times
            .by_reason()
            .filter(|(_, histogram)| histogram.count() > 0)
            .map(|(name, histogram)| (name, histogram.total, filled(histogram)))
            .collect();
        assert_eq!(
            counts,
            [
                ("cede", 100, [(64, 1)].to_vec()),
                ("hypervisor-decrementer", 4, [(4, 1)].to_vec())
            ],
            "the exit that lasts still is not counted yet"
        );
    }

    #[test]
    fn a_pause_is_no_part_of_the_exit_that_it_falls_into() {
        let cede = |times: &ExitTimes| {
            let (_, cede) = times.by_reason().next().unwrap();
            (cede.count(), cede.total, cede.longest)
        };
        let mut times = ExitTimes::default();
        // Before it was ever in its guest there is no exit.
        times.paused(0, 500);
        times.enter(1000);
        times.leave(GuestExit::Cede, 1100);
        times.paused(1150, 9_001_150);
        times.paused(9_001_160, 9_001_170);
        times.enter(9_001_200);
        assert_eq!(cede(&times), (1, 90, 90));
        assert_eq!(times.in_guest(), 100);
        // The next exit is not touched by that.
        times.leave(GuestExit::Cede, 9_001_210);
        times.enter(9_001_217);
        assert_eq!(cede(&times), (2, 97, 90));
        // No exit began in the future, whatever is said.
        times.leave(GuestExit::Cede, 9_002_000);
        times.paused(0, 9_002_010);
        times.paused(9_002_010, 3);
        times.enter(9_002_011);
        assert_eq!(cede(&times).0, 3);
        assert!(cede(&times).2 < 9000, "{:?}", cede(&times));
    }

    #[test]
    fn times_of_several_add_up() {
        let mut all = ExitTimes::default();
        for ticks in [3, 100] {
            let mut one = ExitTimes::default();
            one.enter(10);
            one.leave(GuestExit::Cede, 20);
            one.enter(20 + ticks);
            all.merge(&one);
        }
        assert_eq!(all.in_guest(), 20);
        let (name, cede) = all.by_reason().next().unwrap();
        assert_eq!((name, cede.total, cede.longest), ("cede", 103, 100));
        assert_eq!(filled(cede), [(2, 1), (64, 1)]);
    }
}
