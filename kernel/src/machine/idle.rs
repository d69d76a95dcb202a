// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a thread does that has nobody to run, before it sleeps: it backs memory that partitions have not
//! touched yet, piece by piece, and looks for work in between.

use super::hardware::Hardware;
use super::seat::{self, Seat};
use super::thread::Thread;
use crate::backlog::Backlog;
use alloc::vec::Vec;
use spin::Once;

/// Those of all partitions, in the order of their tree.
static BACKLOGS: Once<Vec<Backlog<Hardware>>> = Once::new();

/// Makes as many as there are partitions. Once.
pub fn make(partitions: usize) {
    BACKLOGS.call_once(|| (0..partitions).map(|_| Backlog::new()).collect());
}

fn all() -> &'static [Backlog<Hardware>] {
    BACKLOGS.get().map_or(&[], Vec::as_slice)
}

/// The backlog of the partition at `place`.
pub fn backlog(place: usize) -> Option<&'static Backlog<Hardware>> {
    all().get(place)
}

/// By a thread, `me`, that would sleep: a step for one partition that runs. Whether there was any to do;
/// then it looks for work again before it sleeps.
pub fn work(me: &Thread) -> bool {
    let mut backlogs = all().iter().enumerate();
    backlogs.any(|(place, backlog)| {
        backlog.work(me.name(), || seat::of(place).iter().all(Seat::may_run))
    })
}
