// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Who moves from one thread to another, so that weights count across all threads.
//!
//! Virtual time means the same on all threads. A virtual processor that waits for a turn is *offered*
//! to the other threads, with its virtual time and its *slack*: the virtual time of [`SLACK`] with the
//! thread for itself. A thread where nobody can run takes the one of all that are offered whose time
//! is least; one where somebody runs takes that one if all who want the thread are ahead of it by
//! more than its slack. It keeps its virtual time, so it catches up there, and nobody gains or loses by
//! having moved.
//!
//! Why that is fair: as long as each of two virtual processors waits now and then, neither is ever
//! further behind the other than the slack and the turn or two that the other one's thread takes to
//! look. So what the two have had of all threads together differs from what their weights say by no more
//! than that, however long they run. And whoever moves has [`SLACK`] to catch up, so moves are seldom.
//!
//! One that never waits, for it has a thread for itself, may yet be due more than a thread. What it is
//! behind for that reason it could never have had, and must not save up: it keeps two seconds of its own
//! ([`Queue::catch_up`]). Where all could have what they are due nobody is ever that far behind, for it would
//! have been taken over, or the one beside it; but for one beside it whose weight is less than a fortieth:
//! that may cost the heavy one up to a tenth of its thread.

use super::{Queue, State, UNIT_WEIGHT};
use crate::smp::Offer;

/// Ticks of the time base that one that waits may be due before a thread takes it over that others run on:
/// 50 ms at the architected 512 MHz, five turns.
pub const SLACK: u64 = 25_600_000;

/// How many times its slack one may be behind.
const MEMORY: u64 = 40;

/// The same of one that has just been woken.
const WOKEN_MEMORY: u64 = 2;

/// [`SLACK`] in the virtual time of one that has this part of a partition's weight.
#[must_use]
pub fn slack(weight: u32, parts: u32) -> u64 {
    let parts = u64::from(parts.max(1));
    (SLACK * UNIT_WEIGHT * parts / u64::from(weight.max(1))).max(1)
}

/// The later of two virtual times.
#[must_use]
pub fn later(a: u64, b: u64) -> u64 {
    if a.wrapping_sub(b).cast_signed() > 0 {
        a
    } else {
        b
    }
}

impl Queue {
    /// What those that are ready and may move have surely reached: the virtual time that the one that runs,
    /// or ran last, had when it was chosen, less its slack. In turns that nobody else wanted a light one may
    /// get so far ahead of all the others, who must not be taken for idlers by that. `None` where it has gone
    /// or may not move.
    pub fn front(&self, slack: impl Fn(usize) -> u64) -> Option<u64> {
        match slack(self.last) {
            0 => None,
            slack => Some(self.front.wrapping_sub(slack)),
        }
    }

    /// The virtual time of the one at `place`.
    #[must_use]
    pub fn time_of(&self, place: usize) -> u64 {
        self.entries
            .get(place)
            .map_or(self.floor, |entry| entry.time)
    }

    /// Whether nobody was ready at the last look.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.ready().next().is_none()
    }

    /// Forgets what those that are ready and may move are behind `foremost`, the latest front of all threads
    /// that share them, beyond 40 times their slack, or twice if they have just been woken: their sleep is
    /// to give them nothing. `slack` is 0 for those that may not move.
    pub fn catch_up(&mut self, foremost: u64, slack: impl Fn(usize) -> u64) {
        for (place, entry) in self.entries.iter_mut().enumerate() {
            let slack = slack(place);
            if entry.state != State::Idle && slack != 0 {
                let times = match entry.state {
                    State::Woken => WOKEN_MEMORY,
                    State::Ready | State::Idle => MEMORY,
                };
                let least = foremost.wrapping_sub(slack.saturating_mul(times));
                entry.time = later(entry.time, least);
            }
        }
    }

    /// Which of those that wait on other threads is to come here, after the last look.
    #[must_use]
    pub fn wanted(&self, offers: impl Iterator<Item = (usize, Offer)>) -> Option<usize> {
        let ahead = |time: u64| time.wrapping_sub(self.floor).cast_signed();
        let front = self.ready().map(|entry| ahead(entry.time)).min();
        offers
            .filter(|(_, offer)| {
                front.is_none_or(|front| {
                    front.saturating_sub(ahead(offer.time)) > offer.slack.cast_signed()
                })
            })
            .min_by_key(|(_, offer)| ahead(offer.time))
            .map(|(place, _)| place)
    }

    /// The one at `place` has come from another thread, ready, with its virtual time.
    pub fn arrive(&mut self, place: usize, time: u64) {
        self.have_places(place + 1);
        if let Some(entry) = self.entries.get_mut(place) {
            entry.time = time;
            entry.rest = 0;
            entry.state = State::Ready;
        }
    }
}

#[cfg(test)]
mod tests;
