// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which threads a partition's virtual processors begin on, and which threads those that are not pinned
//! move between.

use super::super::create::CreateError;
use super::super::thread::Thread;
use super::super::{seat, thread};
use super::World;
use crate::smp::{self, Load};
use alloc::format;
use alloc::vec::Vec;

impl World {
    /// The threads for the virtual processors of the partition at `place`.
    pub(super) fn choose_threads(&self, place: usize) -> Result<Vec<usize>, CreateError> {
        let threads = thread::all();
        let Some(slot) = self.slots.get(place) else {
            return Ok(Vec::new());
        };
        let name = slot.configuration.name;
        let pinned = &slot.configuration.pinned;
        if !pinned.is_empty() {
            let homes = pinned.iter().map(|number| match threads.get(*number as usize) {
                Some(thread) if thread.is_here() => Ok(thread.number),
                Some(_) => Err(format!(
                    "partition {name}: pinned to thread {number}, which was left out at boot"
                )),
                None => Err(format!(
                    "partition {name}: pinned to thread {number}, but the machine has {} threads",
                    threads.len()
                )),
            });
            return homes.collect();
        }
        let mut loads: Vec<Load> = threads.iter().map(|thread| self.load_of(thread)).collect();
        (0..slot.configuration.vcpus)
            .map(|_| {
                let home = smp::place(loads.iter().copied())
                    .ok_or_else(|| format!("partition {name}: no thread runs"))?;
                if let Some(load) = loads.get_mut(home) {
                    load.shared += 1;
                }
                Ok(home)
            })
            .collect()
    }

    /// Says to the threads which of them run virtual processors that are not pinned.
    pub(super) fn choose_balancing(&self) {
        let loads: Vec<Load> = thread::all()
            .iter()
            .map(|thread| self.load_of(thread))
            .collect();
        let fewest = smp::fewest_pinned(loads.iter().copied());
        let takes_part = |load: &Load| load.is_there && Some(load.pinned) == fewest;
        let several = loads.iter().filter(|load| takes_part(load)).count() > 1;
        for (thread, load) in thread::all().iter().zip(&loads) {
            let balances = several && takes_part(load);
            if thread.balances() != balances {
                thread.set_balances(balances);
                // It says from now on when it is idle.
                thread.ring();
            }
        }
    }

    /// What a thread has already.
    fn load_of(&self, thread: &Thread) -> Load {
        let pinned = self
            .slots
            .iter()
            .flat_map(|slot| &slot.configuration.pinned);
        let is_shared = |place: usize| {
            self.slots
                .get(place)
                .is_some_and(|slot| slot.guest.is_some() && slot.configuration.pinned.is_empty())
        };
        let shared = seat::all()
            .iter()
            .filter(|seat| seat.home_number() == thread.number && is_shared(seat.place));
        Load {
            is_there: thread.is_here(),
            pinned: count(pinned.filter(|number| **number as usize == thread.number)),
            shared: count(shared),
        }
    }
}

/// Threads as the log names them.
pub(super) struct ThreadNumbers<'a>(pub &'a [usize]);

impl core::fmt::Display for ThreadNumbers<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(if self.0.len() == 1 {
            "thread"
        } else {
            "threads"
        })?;
        for (index, number) in self.0.iter().enumerate() {
            write!(f, "{}{number}", if index == 0 { " " } else { ", " })?;
        }
        Ok(())
    }
}

fn count(of: impl Iterator) -> u32 {
    u32::try_from(of.count()).unwrap_or(u32::MAX)
}
