// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The hardware threads of the machine, and what each has of its own.
//!
//! A thread finds its record by HSPRG0, which points to the context of the guest that is loaded or
//! to the thread's own; either leads here. Threads have numbers, from 0, in the order of their PIRs:
//! which of them firmware has boot us is a race, and must not matter to anybody who counts them.

// UNSAFETY: the record is reached by a register, and holds memory that assembly uses.
#![expect(unsafe_code)]

use super::hardware::HwInterrupts;
use crate::smp::{self, Bell, Presence};
use crate::trace::{Filter, Kind, Record, Ring, Whose};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use penstock_arch::context::{GuestContext, ThreadStacks};
use penstock_arch::{entry, spr};
use penstock_boot::bootinfo::{BootInfo, HostRange};
use penstock_xive::HostInterrupt;
use penstock_xive::native::rest::Waiting;
use spin::Once;

/// One hardware thread.
#[repr(C)]
pub struct Thread {
    /// For the entry code, which knows only the beginning.
    stacks: ThreadStacks,
    /// What HSPRG0 points to while no guest is loaded.
    idle: UnsafeCell<GuestContext>,
    /// Its number.
    pub number: usize,
    /// Its processor identification register, which is also its server number.
    pub pir: u32,
    arrival: AtomicU32,
    /// Lowest byte of its stack, 0 while it has none.
    stack_bottom: AtomicU64,
    stack_top: AtomicU64,
    /// How others get its attention.
    pub bell: Bell,
    /// Which guest it is in.
    pub presence: Presence,
    interrupt: Once<HostInterrupt>,
    /// It runs virtual processors that are not pinned, and there are other threads that do.
    balances: AtomicBool,
    /// Several virtual processors that are started have it for their home.
    shared: AtomicBool,
    /// It finds nobody to run, and is to be told of those who wait elsewhere.
    pub seeks: Waiting,
    /// That an interrupt was lost has been told.
    silence: AtomicBool,
    /// How often it has left a guest.
    pub exits: AtomicU64,
    /// How often it has looked because somebody rang.
    pub answers: AtomicU64,
    /// How often it was interrupted by another thread.
    pub interrupts: AtomicU64,
    /// Interrupts that had no reason any more.
    pub spurious: AtomicU64,
    /// How often it has slept.
    pub sleeps: AtomicU64,
    /// Ticks of the time base that it has slept.
    pub asleep: AtomicU64,
    /// Which of its events are recorded.
    pub tracing: Filter,
    trace: Once<Ring>,
}

// SAFETY: `idle` is used by the thread itself, in its first instructions after an interrupt, and is
// otherwise only pointed to; the rest is atomic or constant.
unsafe impl Sync for Thread {}

const _: () = assert!(core::mem::offset_of!(Thread, stacks) == 0);

/// The partition of an event that is about none.
pub const NO_PARTITION: u16 = 0;

/// How far a thread has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Arrival {
    /// In firmware.
    Away = 0,
    /// Called, and not yet here.
    Called = 1,
    /// Here.
    Here = 2,
    /// It did not come in time. Should it come after all, it goes back.
    GivenUp = 3,
}

/// All threads, once they are known.
static THREADS: Once<&'static [Thread]> = Once::new();

/// All threads, by number; none before [`make`].
pub fn all() -> &'static [Thread] {
    THREADS.get().copied().unwrap_or_default()
}

/// The thread that firmware has boot us; it owns the partitions and the console.
static BOOT: Once<&'static Thread> = Once::new();

/// The boot thread. Only after [`set_boot`].
pub fn boot() -> &'static Thread {
    BOOT.get().copied().unwrap_or_else(this)
}

/// Says which is the boot thread. Once.
pub fn set_boot(thread: &'static Thread) {
    BOOT.call_once(|| thread);
}

/// The thread with this PIR.
pub fn by_pir(pir: u64) -> Option<&'static Thread> {
    all().iter().find(|thread| u64::from(thread.pir) == pir)
}

/// The number of the thread with this [name](Thread::name).
pub fn number_of(name: u32) -> usize {
    usize::try_from(name.saturating_sub(1)).unwrap_or(usize::MAX)
}

/// The thread that runs this. Only after it has [`adopt`](Thread::adopt)ed its record.
#[inline]
pub fn this() -> &'static Thread {
    // SAFETY: `adopt` has made HSPRG0 lead to a record of `all()`, which lives for ever; the stacks
    // are its first field.
    unsafe { &*entry::thread().cast::<Thread>() }
}

/// The address of the calling thread's record. As [`this`].
#[inline(always)]
pub fn address_of_this() -> u64 {
    entry::thread().addr() as u64
}

/// Makes the records of all threads that the device tree names. Once.
pub fn make(info: &BootInfo<'_>) -> &'static [Thread] {
    let mut pirs: Vec<u32> = info
        .cores
        .iter()
        .flat_map(|core| core.threads.iter().copied())
        .collect();
    pirs.sort_unstable();
    pirs.dedup();
    THREADS.call_once(|| {
        let threads = pirs.into_iter().enumerate();
        Vec::leak(
            threads
                .map(|(number, pir)| Thread::new(number, pir))
                .collect(),
        )
    })
}

impl Thread {
    fn new(number: usize, pir: u32) -> Self {
        Self {
            stacks: ThreadStacks::default(),
            idle: UnsafeCell::new(GuestContext::new()),
            number,
            pir,
            arrival: AtomicU32::new(Arrival::Away as u32),
            stack_bottom: AtomicU64::new(0),
            stack_top: AtomicU64::new(0),
            bell: Bell::new(),
            presence: Presence::new(),
            interrupt: Once::new(),
            balances: AtomicBool::new(false),
            shared: AtomicBool::new(false),
            seeks: Waiting::new(),
            silence: AtomicBool::new(false),
            exits: AtomicU64::new(0),
            answers: AtomicU64::new(0),
            interrupts: AtomicU64::new(0),
            spurious: AtomicU64::new(0),
            sleeps: AtomicU64::new(0),
            asleep: AtomicU64::new(0),
            tracing: Filter::new(),
            trace: Once::new(),
        }
    }

    /// By the thread itself: records an event of the partition with this number, 0 for none, if
    /// somebody wants it.
    #[inline]
    pub fn trace(&self, partition: u16, kind: Kind, arguments: [u64; 2]) {
        if self.tracing.is_on() {
            self.record(partition, kind, arguments);
        }
    }

    #[cold]
    fn record(&self, partition: u16, kind: Kind, arguments: [u64; 2]) {
        let Some(ring) = self.trace.get().filter(|_| self.tracing.wants(partition)) else {
            return;
        };
        ring.push(Record {
            timebase: spr::timebase(),
            kind: kind as u16,
            partition,
            thread: u32::try_from(self.number).unwrap_or(u32::MAX),
            arguments,
        });
    }

    /// Has these of its events recorded too; false if there is no memory for them.
    pub fn start_tracing(&self, whose: Whose) -> bool {
        if self.trace.get().is_none() {
            match Ring::new() {
                Some(ring) => self.trace.call_once(|| ring),
                None => return false,
            };
        }
        self.tracing.record(whose);
        true
    }

    /// Has these of its events recorded no more.
    pub fn stop_tracing(&self, whose: Whose) {
        self.tracing.ignore(whose);
    }

    /// What it has recorded, once somebody wanted that.
    pub fn traced(&self) -> Option<&Ring> {
        self.trace.get()
    }

    /// A name for it that is not 0.
    pub fn name(&self) -> u32 {
        // There are few threads.
        u32::try_from(self.number).map_or(u32::MAX, |number| number + 1)
    }

    /// What a guest's context must name to be on this thread.
    pub fn address(&self) -> u64 {
        core::ptr::from_ref(self).expose_provenance() as u64
    }

    /// Gives the thread the tops of its emergency stacks.
    pub fn set_emergency_stacks(&self, tops: [u64; 3]) {
        for (place, top) in self.stacks.emergency_sp.iter().zip(tops) {
            place.store(top, Ordering::Release);
        }
    }

    /// Makes this the record of the calling thread, whose emergency stacks are set.
    ///
    /// # Safety
    /// The calling thread must be the one that the record is of.
    pub unsafe fn adopt(&self) {
        // SAFETY: nobody else has it, and HSPRG0 of no thread points to it yet, or it holds this
        // value already.
        unsafe { (*self.idle.get()).thread = self.address() };
        self.use_idle_context();
    }

    /// Makes HSPRG0 point to the thread's own context. Only by the thread itself.
    pub fn use_idle_context(&self) {
        // SAFETY: it leads to this record, lives for ever, and is this thread's.
        unsafe { entry::set_context(self.idle.get()) };
    }

    /// Address of the thread's own context.
    pub fn idle_context(&self) -> u64 {
        self.idle.get().expose_provenance() as u64
    }

    /// How far it has come.
    pub fn arrival(&self) -> Arrival {
        match self.arrival.load(Ordering::Acquire) {
            0 => Arrival::Away,
            1 => Arrival::Called,
            2 => Arrival::Here,
            _ => Arrival::GivenUp,
        }
    }

    /// Whether it runs guests.
    pub fn is_here(&self) -> bool {
        self.arrival() == Arrival::Here
    }

    /// Whether it runs virtual processors that are not pinned, and there are other threads that do.
    pub fn balances(&self) -> bool {
        self.balances.load(Ordering::Relaxed)
    }

    /// Says whether it does.
    pub fn set_balances(&self, balances: bool) {
        self.balances.store(balances, Ordering::Relaxed);
    }

    /// Whether several virtual processors that are started have it for their home.
    pub fn is_shared(&self) -> bool {
        self.shared.load(Ordering::Relaxed)
    }

    /// By the thread itself: says whether that is so. Whether that is news.
    pub fn set_shared(&self, shared: bool) -> bool {
        let is_news = self.is_shared() != shared;
        if is_news {
            self.shared.store(shared, Ordering::Relaxed);
        }
        is_news
    }

    /// Goes on from one state to another; false if it was not in the first.
    pub fn advance(&self, from: Arrival, to: Arrival) -> bool {
        self.arrival
            .compare_exchange(from as u32, to as u32, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }

    /// Sets what interrupts it.
    pub fn set_interrupt(&self, interrupt: HostInterrupt) {
        self.interrupt.call_once(|| interrupt);
    }

    /// Lets interrupts through from now on. By the thread itself, once, before it runs any guest.
    pub fn accept_interrupts(&self) {
        if let Some(interrupt) = self.interrupt.get() {
            interrupt.begin(&HwInterrupts);
        }
    }

    /// Takes the interrupts that have come. By the thread itself, before it looks what they were for.
    /// Whether there was any.
    pub fn acknowledge(&self) -> bool {
        self.interrupt.get().is_some_and(|interrupt| {
            let had_reason = interrupt.acknowledge(&HwInterrupts);
            self.trace(NO_PARTITION, Kind::Irq, [had_reason.into(), 0]);
            let counter = if had_reason {
                &self.interrupts
            } else {
                &self.spurious
            };
            counter.fetch_add(1, Ordering::Relaxed);
            had_reason
        })
    }

    /// Somebody has rung while it slept, and no interrupt came. Said once.
    pub fn complain_of_silence(&self) {
        if !self.silence.swap(true, Ordering::Relaxed) {
            log::warn!(
                "thread {}: rung for in its sleep, and no interrupt came; it looks once a second",
                self.number
            );
        }
    }

    /// Gets its attention, after something was left for it to find.
    pub fn ring(&self) {
        if self.bell.ring() == smp::Ring::Interrupt
            && let Some(interrupt) = self.interrupt.get()
        {
            this().trace(NO_PARTITION, Kind::Kick, [self.number as u64, 0]);
            interrupt.trigger(&HwInterrupts);
        }
    }

    /// By the thread itself: it looks at everything now.
    pub fn answer(&self) {
        if self.bell.answer() {
            self.answers.fetch_add(1, Ordering::Release);
        }
    }

    /// Gives it its stack, all of which is marked so that [`Self::stack_used`] can tell.
    ///
    /// # Safety
    /// Nobody may use the range but this thread, and of what is below `unused_end` nothing yet.
    pub unsafe fn set_stack(&self, range: HostRange, unused_end: u64) {
        let (bottom, top) = (range.start().get(), range.end().get());
        for at in (bottom..unused_end.min(top)).step_by(8) {
            // SAFETY: unused memory of the thread's stack, by the caller's promise.
            unsafe { word(at).write_volatile(STACK_MARK) };
        }
        self.stack_bottom.store(bottom, Ordering::Relaxed);
        self.stack_top.store(top, Ordering::Release);
    }

    /// Its stack, once it has one.
    pub fn stack(&self) -> Option<HostRange> {
        let top = self.stack_top.load(Ordering::Acquire);
        let bottom = self.stack_bottom.load(Ordering::Relaxed);
        HostRange::new(
            penstock_arch::addr::HostReal::new(bottom),
            top.checked_sub(bottom)?,
        )
    }

    /// Dies if the stack has ever reached its end: in real mode there is no guard page.
    pub fn check_stack(&self) {
        let bottom = self.stack_bottom.load(Ordering::Relaxed);
        if bottom == 0 {
            return;
        }
        for at in (bottom..bottom + CANARY_BYTES).step_by(8) {
            // SAFETY: the lowest bytes of a stack.
            if unsafe { word(at).read_volatile() } != STACK_MARK {
                panic!("the stack has overflowed");
            }
        }
    }

    /// Bytes of its stack that were ever in use, and all of them.
    pub fn stack_used(&self) -> Option<(u64, u64)> {
        let stack = self.stack()?;
        let (bottom, top) = (stack.start().get(), stack.end().get());
        let mut marked = (bottom..top).step_by(8).take_while(|at| {
            // SAFETY: within a stack; a word that its thread writes at the moment is used.
            unsafe { word(*at).read_volatile() == STACK_MARK }
        });
        let unused = marked.by_ref().count() as u64 * 8;
        Some((top - bottom - unused, top - bottom))
    }
}

/// What unused words of stacks hold; the lowest of them nothing may reach.
const STACK_MARK: u64 = 0x5e7a_11f0_0d5e_7a11;
const CANARY_BYTES: u64 = 32;

fn word(at: u64) -> *mut u64 {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "usize is 64 bits on this machine"
    )]
    let at = at as usize;
    core::ptr::with_exposed_provenance_mut(at)
}

/// Three stacks of the heap, for the boot thread: it needs them before there are frames.
pub fn boot_emergency_stacks() -> [u64; 3] {
    [(); 3].map(|()| {
        let stack: &mut [u128] = Box::leak(alloc::vec![0; EMERGENCY_STACK / 16].into_boxed_slice());
        stack.as_ptr_range().end.expose_provenance() as u64
    })
}

/// Bytes of an emergency stack.
pub const EMERGENCY_STACK: usize = 16 << 10;
