// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The monitor's `trace`: whose events, and what is done with them.

use super::thread::{self, Thread};
use super::world::World;
use crate::trace::{Printer, Whose};
use alloc::format;
use alloc::string::String;

/// Whose events a command is about.
#[derive(Clone, Copy, Debug)]
pub enum Traced {
    /// Everybody's.
    All,
    /// Those of the thread with this number.
    Thread(usize),
    /// Those of the partition with this number, on whichever thread.
    Partition(u16),
}

impl Traced {
    /// What a command names: the number of a thread, or a partition.
    ///
    /// # Errors
    /// There is no such thing.
    pub fn named(world: &World, name: Option<&str>) -> Result<Self, String> {
        let Some(name) = name else {
            return Ok(Self::All);
        };
        if let Ok(number) = name.parse::<usize>() {
            return match thread::all().get(number) {
                Some(thread) if thread.is_here() => Ok(Self::Thread(number)),
                _ => Err(format!("no thread {name}")),
            };
        }
        let mut slots = world.slots.iter();
        slots
            .find(|slot| slot.configuration.name == name)
            .map(|slot| Self::Partition(slot.id.0))
            .ok_or_else(|| format!("no partition {name}"))
    }

    fn threads(self) -> impl Iterator<Item = &'static Thread> {
        let threads = thread::all().iter().filter(|thread| thread.is_here());
        threads.filter(move |thread| match self {
            Self::All | Self::Partition(_) => true,
            Self::Thread(number) => thread.number == number,
        })
    }

    const fn whose(self) -> Whose {
        match self {
            Self::All | Self::Thread(_) => Whose::Everybody,
            Self::Partition(number) => Whose::Partition(number),
        }
    }

    /// Has their events recorded too.
    ///
    /// # Errors
    /// There is no memory for them.
    pub fn start(self) -> Result<(), String> {
        let whose = self.whose();
        if self.threads().all(|thread| thread.start_tracing(whose)) {
            Ok(())
        } else {
            Err(String::from("not enough memory for this"))
        }
    }

    /// Has their events recorded no more; others still are.
    pub fn stop(self) {
        let whose = self.whose();
        self.threads().for_each(|thread| thread.stop_tracing(whose));
    }

    /// What was recorded of them.
    ///
    /// # Errors
    /// There is no memory for a copy.
    pub fn printer(self) -> Result<Printer, String> {
        let rings = self.threads().filter_map(Thread::traced);
        Printer::new(rings, |record| match self {
            Self::All | Self::Thread(_) => true,
            Self::Partition(number) => record.partition == number,
        })
        .ok_or_else(|| String::from("not enough memory for this"))
    }
}
