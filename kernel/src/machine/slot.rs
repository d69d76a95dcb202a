// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A partition of the tree: its definition, which stays, and what it has while it is not shut off.

use super::create::Guest;
use super::hardware::Hardware;
use super::sleep::set_decrementer;
use super::thread;
use crate::config;
use crate::console::GuestId;
use crate::control::Session;
use crate::exit::GuestExit;
use crate::exit_times::ExitTimes;
use crate::lifecycle::PartitionState;
use crate::platform::Platform;
use crate::rtas_memory::GuestRam;
use crate::trace::Kind;
use crate::vcpu::{FaultCounts, Vcpu};
use crate::vpa::{DispatchReason, DispatchRecord, PreemptReason};
use alloc::boxed::Box;
use penstock_arch::regs::sprn;
use penstock_arch::spr;
use spin::Mutex;

/// Why a virtual processor that is running is not in the guest.
#[derive(Clone, Copy, Debug)]
pub struct Away {
    /// What for.
    pub reason: PreemptReason,
    /// The time base at which it left.
    pub since: u64,
}

/// What the virtual processors of a partition did in its last run, all together.
#[derive(Clone, Debug)]
pub struct Counts {
    /// As in [`Vcpu`].
    pub exits: [u64; GuestExit::NAMES.len()],
    /// As in [`Vcpu`].
    pub times: ExitTimes,
    /// As in [`Vcpu`].
    pub faults: FaultCounts,
    /// As in [`Vcpu`].
    pub hcalls: [u64; crate::hcall::SLOTS + 1],
    /// Bytes that it wrote to its console.
    pub console_out_bytes: u64,
}

impl Counts {
    /// Those of a guest so far, which is held: of all its virtual processors.
    pub fn of(guest: &Guest) -> Box<Self> {
        let mut counts = Box::new(Self {
            exits: [0; GuestExit::NAMES.len()],
            times: ExitTimes::default(),
            faults: FaultCounts::default(),
            hcalls: [0; crate::hcall::SLOTS + 1],
            console_out_bytes: guest.occupied.partition().output.total() as u64,
        });
        guest.occupied.for_each(|vcpu| counts.add(vcpu));
        counts
    }

    fn add(&mut self, vcpu: &Vcpu<Hardware>) {
        let sums = self.exits.iter_mut().chain(&mut self.hcalls);
        for (sum, more) in sums.zip(vcpu.exits.iter().chain(&vcpu.hcalls)) {
            *sum += more;
        }
        self.times.merge(&vcpu.times);
        self.faults += vcpu.faults;
    }
}

/// A partition of the tree.
pub struct Slot {
    /// Its definition.
    pub configuration: config::Partition<'static>,
    /// Its number, from 1: also its LPID.
    pub id: GuestId,
    /// What it is at.
    pub state: PartitionState,
    /// Memory, page table and interrupts, while it has any. Its virtual processors are in their seats.
    pub guest: Option<Guest>,
    /// Bytes typed for it since it was started.
    pub bytes_in: u64,
    /// Set while a tool keeps its virtual processors off their threads.
    pub held: bool,
    /// Whose its state is.
    pub session: Mutex<Session>,
    /// RTAS has an event for its guest of which it could not be told yet.
    pub untold_event: bool,
    /// The same of what was typed.
    pub untold_input: bool,
    /// The time base when it was last started.
    pub started: u64,
    /// The time base when it ended; `None` while it is running or paused.
    pub ended: Option<u64>,
    /// What it did when it last ran, once it has given back all else.
    pub last_run: Option<Box<Counts>>,
}

impl Slot {
    /// A partition that was never started.
    pub fn new(id: GuestId, configuration: config::Partition<'static>) -> Self {
        let now = spr::timebase();
        Self {
            configuration,
            id,
            state: PartitionState::ShutOff,
            guest: None,
            bytes_in: 0,
            held: false,
            session: Mutex::new(Session::new()),
            untold_event: false,
            untold_input: false,
            started: now,
            ended: Some(now),
            last_run: None,
        }
    }

    /// By the boot thread: something becomes of it.
    pub fn trace(&self, kind: Kind) {
        thread::this().trace(self.id.0, kind, [0, 0]);
    }

    /// What it is at for whoever looks.
    pub const fn shown_state(&self) -> PartitionState {
        if self.held {
            self.state.while_held()
        } else {
            self.state
        }
    }

    /// Whether its virtual processors may be on their threads.
    pub fn may_run(&self) -> bool {
        self.state == PartitionState::Running && !self.held
    }

    /// What it has done since it was last started. It is held.
    pub fn counts(&self) -> Option<Box<Counts>> {
        match &self.guest {
            Some(guest) => Some(Counts::of(guest)),
            None => self.last_run.clone(),
        }
    }

    /// Ticks since it was last started, as far as it ran.
    pub fn uptime(&self) -> u64 {
        self.ended
            .unwrap_or_else(spr::timebase)
            .wrapping_sub(self.started)
    }
}

/// The virtual processor has left its guest for others.
pub fn left_guest(vcpu: &mut Vcpu<Hardware>, reason: PreemptReason) -> Away {
    let mut memory = GuestRam(vcpu.partition.mmu.memory());
    // A registered area cannot leave memory in this version, so this cannot fail.
    let _ = vcpu.processor.areas.lock().preempted(&mut memory);
    Away {
        reason,
        since: Hardware::timebase(),
    }
}

/// Sees to it that an expired decrementer interrupts the guest that is on the thread; how many ticks it
/// has left. It is a level, but QEMU raises it by a timer that may lag behind the register; writing the
/// register again makes it look.
pub fn show_expired() -> i64 {
    let left = Hardware::decrementer();
    if left <= 0 {
        set_decrementer(left.cast_unsigned());
    }
    left
}

/// The virtual processor is about to run again; it is on the thread.
pub fn back_in_guest(vcpu: &mut Vcpu<Hardware>, away: Away) {
    let left = show_expired();
    let now = Hardware::timebase();
    let waited = u32::try_from(now.wrapping_sub(away.since)).unwrap_or(u32::MAX);
    let (reason, enqueue_to_dispatch, waiting_to_ready) = match away.reason {
        PreemptReason::Cede if left <= 0 => (DispatchReason::Decrementer, 0, waited),
        PreemptReason::Cede => (DispatchReason::External, 0, waited),
        // It has just been started.
        PreemptReason::Firmware => (DispatchReason::SystemReset, waited, 0),
        _ => (DispatchReason::TimeSlice, waited, 0),
    };
    #[expect(clippy::cast_possible_truncation, reason = "PIRs have 15 bits")]
    let processor = spr::read::<{ sprn::PIR }>() as u16;
    thread::this().trace(
        vcpu.partition.id.0,
        Kind::Wake,
        [reason as u64, now.wrapping_sub(away.since)],
    );
    let record = DispatchRecord {
        reason,
        preempted: away.reason,
        processor,
        enqueue_to_dispatch,
        ready_to_enqueue: 0,
        waiting_to_ready,
        timebase: now,
        fault_address: 0,
        srr0: vcpu.ctx.pc,
        srr1: vcpu.ctx.msr,
    };
    let mut memory = GuestRam(vcpu.partition.mmu.memory());
    let _ = vcpu.processor.areas.lock().dispatched(record, &mut memory);
}
