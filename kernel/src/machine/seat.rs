// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Where a virtual processor meets the thread that runs it.
//!
//! There is a seat for each virtual processor of each partition of the tree, known to all threads. The
//! boot thread owns all else of a partition (its `Slot`): it fills the seats at `start`, chooses the
//! first threads, and empties the seats at the end. A seat's thread runs the virtual processor whenever it
//! may, until another thread [takes it over](super::balance), and reports back what it cannot settle itself. While the boot thread works on a virtual processor it
//! [holds](Hold) it.
//!
//! Lock order: the seat, the virtual processor inside, then the partition's own locks, then the
//! console's multiplexer. A thread has its guest's seat locked while it is in the guest; so nobody else
//! locks a seat whose virtual processor is aboard.

use super::create::Occupant;
use super::exits::Next;
use super::hardware::Hardware;
use super::idle;
use super::slot::Away;
use super::thread::{self, Thread};
use crate::backlog::Backlog;
use crate::console::GuestId;
use crate::partition::Partition;
use crate::processor::Processor;
use crate::smp::{Boarding, Hold, Home, Offer};
use crate::vcpu::Vcpu;
use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use penstock_arch::spr;
use penstock_arch::switch::FirstEntry;
use spin::{Mutex, Once};

/// A virtual processor in its seat.
pub struct Seated {
    /// The virtual processor, and its partition.
    pub occupant: Passenger,
    /// Whether it has been on its thread since it was made or started again.
    pub first_entry: FirstEntry,
    /// Set while it is running, but not in the guest.
    pub away: Option<Away>,
    /// When its partition was paused, if it is.
    paused: Option<u64>,
    /// What its last exit asks the boot thread for.
    report: Option<Next>,
}

/// A virtual processor of a partition.
pub struct Passenger {
    occupant: Occupant,
    server: usize,
}

impl Passenger {
    /// Its partition.
    pub fn partition(&self) -> &Partition<Hardware> {
        self.occupant.partition()
    }

    /// What others know of it.
    pub fn processor(&self) -> Option<&Processor> {
        self.partition().processors.all().get(self.server)
    }

    /// Lends it, once nobody else has it. Only one that is not there is not lent.
    pub fn with<R>(
        &self,
        borrower: impl for<'p> FnOnce(&mut Vcpu<'p, Hardware>) -> R,
    ) -> Option<R> {
        self.occupant.with(self.server, borrower)
    }
}

/// The seat of one virtual processor.
pub struct Seat {
    /// The place of its partition in the tree.
    pub place: usize,
    /// The virtual processor's number.
    pub server: usize,
    /// Its partition's weight.
    pub weight: u32,
    /// Ticks of its turns since its partition was started.
    time: AtomicU64,
    hold: Hold,
    /// The thread that runs it.
    pub home: Home,
    /// Its partition's tree names its thread.
    pinned: AtomicBool,
    /// How often it went to another thread since its partition was started.
    moves: AtomicU64,
    /// The time base when it last did.
    moved_at: AtomicU64,
    /// Set while it may run: its partition is running, and has nothing to report.
    runs: AtomicBool,
    inside: Mutex<Option<Seated>>,
}

/// All seats, by partition, and where those of each partition begin.
static SEATS: Once<(Vec<Seat>, Vec<usize>)> = Once::new();

/// Set when a seat has a report that the boot thread has not seen.
static REPORTED: AtomicBool = AtomicBool::new(false);

/// Set when memory has come back to the pool while all partitions run on.
static MEMORY_CAME_BACK: AtomicBool = AtomicBool::new(false);

/// The seats of all partitions, in the order of their tree; none before [`make`].
pub fn all() -> &'static [Seat] {
    SEATS.get().map_or(&[], |(seats, _)| seats)
}

/// The numbers of the seats of the partition at `place`.
pub fn numbers_of(place: usize) -> Range<usize> {
    let Some((seats, firsts)) = SEATS.get() else {
        return 0..0;
    };
    let first = firsts.get(place).copied().unwrap_or(seats.len());
    let end = firsts.get(place + 1).copied().unwrap_or(seats.len());
    first..end
}

/// The seats of the partition at `place`, by virtual processor.
pub fn of(place: usize) -> &'static [Seat] {
    all().get(numbers_of(place)).unwrap_or_default()
}

/// The seats of the partition with this number: they count from 1.
pub fn of_partition(id: GuestId) -> &'static [Seat] {
    match usize::from(id.0).checked_sub(1) {
        Some(place) => of(place),
        None => &[],
    }
}

/// Makes empty seats: for each partition, by its virtual processors and its weight, as many as it has of
/// the former. Once.
pub fn make(partitions: impl Iterator<Item = (u32, u32)>) {
    SEATS.call_once(|| {
        let (mut seats, mut firsts) = (Vec::new(), Vec::new());
        for (place, (count, weight)) in partitions.enumerate() {
            firsts.push(seats.len());
            seats.extend((0..count as usize).map(|server| Seat::new(place, server, weight)));
        }
        (seats, firsts)
    });
}

/// Has the boot thread look for reports.
pub fn announce() {
    REPORTED.store(true, Ordering::Release);
    thread::boot().ring();
}

/// Whether there is any report since the last call.
pub fn take_reported() -> bool {
    REPORTED.load(Ordering::Relaxed) && REPORTED.swap(false, Ordering::AcqRel)
}

/// Keeps all virtual processors of the partition at `place` off their threads, which are rung for and
/// waited for, and threads that are idle off its [backlog](crate::backlog). The caller, the boot thread,
/// has none of them aboard.
///
/// # Errors
/// A thread does not answer; then none is held.
pub fn hold_all(place: usize, hz: u64) -> Result<(), Stuck> {
    let seats = of(place);
    let backlog = idle::backlog(place).map(Backlog::hold);
    seats.iter().for_each(Seat::hold);
    // One that is at it is done with its step soon, and need not be rung for.
    backlog.inspect(|backlog| backlog.hold());
    let ashore = seats.iter().try_for_each(|seat| seat.wait_ashore(hz));
    let ashore = ashore.and_then(|()| match backlog {
        Some(backlog) => wait_ashore(backlog, hz).map_err(|thread| Stuck { thread }),
        None => Ok(()),
    });
    if ashore.is_err() {
        let_go_all(place);
    }
    ashore
}

/// Ends one [`hold_all`].
pub fn let_go_all(place: usize) {
    if let Some(backlog) = idle::backlog(place) {
        backlog.hold().let_go();
    }
    of(place).iter().for_each(Seat::let_go);
}

/// Waits until nobody has what the caller holds.
///
/// # Errors
/// The number of the thread that does not let go of it.
fn wait_ashore(hold: &Hold, hz: u64) -> Result<(), usize> {
    let before = spr::timebase();
    while let Some(name) = hold.aboard() {
        if spr::timebase().wrapping_sub(before) > PATIENCE_SECONDS * hz {
            return Err(thread::number_of(name));
        }
        core::hint::spin_loop();
    }
    Ok(())
}

/// Tells the boot thread that there is memory for who waits for it.
pub fn report_memory() {
    MEMORY_CAME_BACK.store(true, Ordering::Release);
    REPORTED.store(true, Ordering::Release);
    thread::boot().ring();
}

/// Whether that was told since the last call.
pub fn take_memory_report() -> bool {
    MEMORY_CAME_BACK.swap(false, Ordering::AcqRel)
}

/// How long a thread may take to let go of a virtual processor, in seconds: far longer than the
/// longest hypervisor call, also on an emulator whose host is busy.
const PATIENCE_SECONDS: u64 = 20;

/// A thread does not let go of a virtual processor.
#[derive(Clone, Copy, Debug)]
pub struct Stuck {
    /// Its number.
    pub thread: usize,
}

impl core::fmt::Display for Stuck {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(
            f,
            "thread {} has not let go of it within {PATIENCE_SECONDS} s",
            self.thread
        )
    }
}

impl Seat {
    fn new(place: usize, server: usize, weight: u32) -> Self {
        Self {
            place,
            server,
            weight,
            time: AtomicU64::new(0),
            hold: Hold::new(),
            home: Home::new(),
            pinned: AtomicBool::new(false),
            moves: AtomicU64::new(0),
            moved_at: AtomicU64::new(0),
            runs: AtomicBool::new(false),
            inside: Mutex::new(None),
        }
    }

    /// The number of the thread that runs it.
    pub fn home_number(&self) -> usize {
        self.home.thread()
    }

    /// Whether no thread is named for it.
    pub fn is_unpinned(&self) -> bool {
        !self.pinned.load(Ordering::Relaxed)
    }

    /// How often it went to another thread since its partition was started.
    pub fn moves(&self) -> u64 {
        self.moves.load(Ordering::Relaxed)
    }

    /// The time base when it last did.
    pub fn moved_at(&self) -> u64 {
        self.moved_at.load(Ordering::Relaxed)
    }

    /// Whether its partition is running, and it has nothing to report.
    pub fn may_run(&self) -> bool {
        self.runs.load(Ordering::Acquire)
    }

    /// By a thread that has it aboard, without its being in the machine: whether another thread may have
    /// it.
    pub fn may_move(&self) -> bool {
        self.is_unpinned() && self.runs.load(Ordering::Acquire)
    }

    /// The same, with the seat locked: this thread runs it from now on.
    pub fn move_to(&self, thread: &Thread) {
        self.moves.fetch_add(1, Ordering::Relaxed);
        self.moved_at.store(spr::timebase(), Ordering::Relaxed);
        self.home.move_to(thread.number);
    }

    /// By its thread, `me`: it waits for a turn, and others may have it.
    pub fn offer(&self, me: &Thread, offer: Offer) {
        // As long as it is locked nobody else becomes its thread.
        let inside = self.try_inside();
        if inside.is_some() && self.home_number() == me.number {
            self.home.offer(offer);
            return;
        }
        drop(inside);
        self.ring_at_new_home(me);
    }

    /// By one who was its thread, `me`, and has had it locked: the thread that it has now may have
    /// looked at that moment.
    pub fn ring_at_new_home(&self, me: &Thread) {
        if self.home_number() != me.number {
            self.ring();
        }
    }

    /// By its thread: it had a turn of so many ticks.
    pub fn add_time(&self, ticks: u64) {
        self.time.fetch_add(ticks, Ordering::Relaxed);
    }

    /// Ticks of its turns since its partition was started.
    pub fn time(&self) -> u64 {
        self.time.load(Ordering::Relaxed)
    }

    /// Whether the calling thread, `me`, may run it now. To be asked again once it is aboard: only
    /// then the answer holds.
    pub fn is_for(&self, me: &Thread) -> bool {
        self.runs.load(Ordering::Acquire) && self.home.thread() == me.number && !self.hold.is_held()
    }

    /// Whether a thread has it aboard, to be asked after something was left for it to find. Who comes
    /// aboard later finds that.
    pub fn is_aboard(&self) -> bool {
        fence(Ordering::SeqCst);
        !self.hold.is_ashore()
    }

    /// Whether somebody waits for it to come ashore.
    pub fn is_held(&self) -> bool {
        self.hold.is_held()
    }

    /// By its thread: takes it aboard, if nobody holds it.
    pub fn board(&self, thread: &Thread) -> Boarding {
        self.hold.board(thread.name())
    }

    /// By its thread: nothing of it is in the machine any more.
    pub fn alight(&self) {
        self.hold.alight();
    }

    /// What is in it, for its thread, or who holds it.
    pub fn inside(&self) -> spin::MutexGuard<'_, Option<Seated>> {
        self.inside.lock()
    }

    /// What is in it, unless somebody else is looking.
    pub fn try_inside(&self) -> Option<spin::MutexGuard<'_, Option<Seated>>> {
        self.inside.try_lock()
    }

    /// By its thread, as it goes ashore: it does not run on before the boot thread has seen this, which
    /// is to be [announced](announce) when it is ashore.
    pub fn report(&self, seated: &mut Seated, next: Next) {
        self.runs.store(false, Ordering::Release);
        seated.report = Some(next);
    }

    /// By the boot thread: what it has to report.
    pub fn take_report(&self) -> Option<Next> {
        // One that may run has nothing to report, and is perhaps in its guest.
        if self.runs.load(Ordering::Acquire) {
            return None;
        }
        self.inside().as_mut()?.report.take()
    }

    /// By the boot thread: keeps it off its thread, which is rung for. See [`Self::wait_ashore`].
    pub fn hold(&self) {
        self.hold.hold();
        self.ring();
    }

    /// By the boot thread, which holds it: waits until it is off its thread. That is not the caller
    /// itself, or it is off already.
    ///
    /// # Errors
    /// Its thread does not answer.
    pub fn wait_ashore(&self, hz: u64) -> Result<(), Stuck> {
        wait_ashore(&self.hold, hz).map_err(|thread| Stuck { thread })
    }

    /// Ends one [`Self::hold`].
    pub fn let_go(&self) {
        self.hold.let_go();
        self.ring();
    }

    /// Has its thread look at it, after something was left for it.
    pub fn ring(&self) {
        if let Some(home) = thread::all().get(self.home.to_ring_at()) {
            home.ring();
        }
    }

    /// By the boot thread, which holds it: puts in a virtual processor that runs on this thread, where it
    /// stays if it is `pinned`.
    pub fn fill(&self, occupant: Occupant, home: usize, pinned: bool) {
        self.home.move_to(home);
        self.pinned.store(pinned, Ordering::Relaxed);
        self.moves.store(0, Ordering::Relaxed);
        self.time.store(0, Ordering::Relaxed);
        let server = self.server;
        *self.inside() = Some(Seated {
            occupant: Passenger { occupant, server },
            first_entry: FirstEntry::Yes,
            away: None,
            paused: None,
            report: None,
        });
    }

    /// By the boot thread, which holds it: as if it had just been filled.
    pub fn renew(&self) {
        if let Some(seated) = self.inside().as_mut() {
            seated.first_entry = FirstEntry::Yes;
            seated.away = None;
            seated.paused = None;
            seated.report = None;
        }
    }

    /// By the boot thread, which holds it: the virtual processor is gone.
    pub fn empty(&self) {
        self.runs.store(false, Ordering::Release);
        *self.inside() = None;
    }

    /// By the boot thread, which holds it: whether it may run, should it have nothing to report. While it
    /// may not, no time passes for the exit that it is at.
    pub fn set_runs(&self, runs: bool) {
        let mut inside = self.inside();
        let Some(seated) = inside.as_mut() else {
            self.runs.store(false, Ordering::Release);
            return;
        };
        let now = spr::timebase();
        if !runs {
            seated.paused.get_or_insert(now);
        } else if let Some(since) = seated.paused.take() {
            seated.occupant.with(|vcpu| vcpu.times.paused(since, now));
        }
        let free = seated.report.is_none();
        self.runs.store(runs && free, Ordering::Release);
    }
}
