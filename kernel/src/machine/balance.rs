// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Moving virtual processors between threads; who moves, [`crate::schedule::balance`] says.
//!
//! Only one that is not pinned, ready, on no thread and held by nobody moves, and only between threads
//! that run such ones ([`Thread::balances`]). The thread that takes it over does all of it:
//!
//! 1. It takes it aboard. From now on no other thread can, nor can the boot thread work on it before it is
//!    ashore again; the old home, should it want it at this moment, is refused.
//! 2. With the seat locked it looks whether all of this still holds, has its escalation told to itself
//!    instead of the old home, and changes the [home](crate::smp::Home). So whoever locks a seat and
//!    finds himself its home is that as long as he has it locked.
//! 3. It puts it ashore, and from then on treats it as its own: it looks at it before it sleeps, after the
//!    change. So no ring gets lost, whichever home it was for.
//!
//! Nothing of a virtual processor that is ashore is in the machine: its registers are in memory, its
//! decrementer by its absolute expiry, its interrupt context is pulled. An interrupt that comes for it
//! meanwhile is found when it is pushed. Translations: the new home names itself in the partition's
//! [scope](crate::smp::TlbScope) before it uses the page table, as at any boarding, so invalidations reach
//! it from then on; what it may have of earlier times it drops first, as at a first entry.
//!
//! A thread that finds nobody to run says that it is idle, and then looks at what is offered. One that
//! offers somebody does that first, then looks who is idle, and rings there. One of the two sees the other
//! (`penstock_xive::native::rest`).

use super::interrupts;
use super::runner::readiness;
use super::seat::{self, Seat};
use super::thread::{self, Thread};
use crate::schedule::Readiness;
use crate::schedule::balance::later;
use crate::smp::{Boarding, Offer};
use crate::trace::Kind;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use penstock_arch::spr;
use penstock_arch::switch::FirstEntry;

/// The latest virtual time at which a thread that balances has run anybody.
static FOREMOST: AtomicU64 = AtomicU64::new(0);

/// A failure of firmware's to have an escalation told elsewhere has been told.
static ESCALATION_FAILED: AtomicBool = AtomicBool::new(false);

/// That time, with `front`, the calling thread's, if it has one.
pub fn foremost(front: Option<u64>) -> u64 {
    let before = FOREMOST.load(Ordering::Relaxed);
    let foremost = front.map_or(before, |front| later(before, front));
    if foremost != before {
        // Of two that store at a time the earlier may stay, until the other one looks again.
        FOREMOST.store(foremost, Ordering::Relaxed);
    }
    foremost
}

/// What other threads offer to `me`. One that has just moved is left where it is for a turn.
pub fn offers(me: &Thread, turn: u64) -> impl Iterator<Item = (usize, Offer)> {
    let now = spr::timebase();
    let seats = seat::all().iter().enumerate();
    seats.filter_map(move |(number, seat)| {
        let offer = seat.home.offered()?;
        let is_settled = now.wrapping_sub(seat.moved_at()) >= turn;
        (is_settled && seat.home_number() != me.number).then_some((number, offer))
    })
}

/// One that was taken over.
#[derive(Clone, Copy, Debug)]
pub struct Taken {
    /// Its virtual time.
    pub time: u64,
    /// How many of its partition's would use a thread.
    pub parts: u32,
}

/// Makes `me` the home of the virtual processor in the seat with this number, if its home still offers
/// it.
pub fn take_over(me: &'static Thread, number: usize) -> Option<Taken> {
    let seat = seat::all().get(number)?;
    if seat.board(me) != Boarding::Aboard {
        return None;
    }
    let taken = take_aboard(me, seat);
    seat.alight();
    if taken.is_none() {
        // Its home may have looked meanwhile, and found that it could not have it.
        seat.ring();
    }
    taken
}

fn take_aboard(me: &'static Thread, seat: &Seat) -> Option<Taken> {
    let mut inside = seat.try_inside()?;
    let seated = inside.as_mut()?;
    let offer = seat.home.offered()?;
    let from = seat.home_number();
    if from == me.number || !seat.may_move() {
        return None;
    }
    if readiness(seated, false) != Some(Readiness::Ready) {
        // It is offered anew when its home finds it ready.
        seat.home.withdraw();
        return None;
    }
    let partition = seated.occupant.partition();
    if let Err(error) = interrupts::escalate_to(partition, seat.server, me) {
        // It is tried again at the next offer, which may be soon.
        if !ESCALATION_FAILED.swap(true, Ordering::Relaxed) {
            log::warn!("{}: escalation: {error}", partition.name);
        }
        seat.home.withdraw();
        return None;
    }
    me.trace(
        partition.id.0,
        Kind::Move,
        [seat.server as u64, from as u64],
    );
    let parts = partition.processors.running().max(1);
    seated.first_entry = FirstEntry::Yes;
    seat.move_to(me);
    Some(Taken {
        time: offer.time,
        parts,
    })
}

/// Has a thread that is idle look at what was offered just before.
pub fn call_somebody_idle() {
    let mut threads = thread::all().iter();
    if let Some(idle) = threads.find(|thread| thread.balances() && thread.seeks.is_waiting()) {
        idle.ring();
    }
}

/// Several share the calling thread from now on: the others are to look more often what is offered.
pub fn tell_others(me: &Thread) {
    for thread in thread::all() {
        if thread.number != me.number && thread.balances() && !thread.is_shared() {
            thread.ring();
        }
    }
}

/// Whether several share any of the threads that may offer them to `me`.
pub fn is_any_shared(me: &Thread) -> bool {
    let mut others = thread::all().iter();
    me.balances() && others.any(|thread| thread.balances() && thread.is_shared())
}
