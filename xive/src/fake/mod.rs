// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A model of the interrupt controller and its firmware, for tests on the host.
//!
//! It has the state of the hardware (P and Q of each source, EAS, END with its queue in memory, its
//! two pairs of bits and its escalation, NVT, the OS ring of each thread) and behaves like POWER9, or like POWER10 with hardware save and
//! restore; what QEMU does differently can be switched on by [`Quirks`]. Everything happens at
//! once: there is nothing in flight. Use that hardware would not forgive panics: an access of the
//! wrong width, a push on a valid ring, a CPPR store on an invalid one.

mod firmware;
mod mmio;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::vec::Vec;

use penstock_arch::addr::HostReal;

use crate::esb::Pq;
use crate::fw::{FirmwareError, QueueFlags, VpFlags, XiveMode};
use crate::queue::QueueMemory;
use crate::tima::Tima;

/// Where the model's OS rings are: the hypervisor page of the area.
pub const TIMA_PAGE: HostReal = HostReal::new(0x6_0302_0319_0000);
/// Where the pages of source 0 are; each source has a pair of 64 KiB pages, the trigger page first.
pub const ESB_BASE: u64 = 0x6_0100_0000_0000;

/// Where the model's OS rings are with an operating system's rights.
pub const TIMA_OS_PAGE: HostReal = HostReal::new(0x6_0302_031a_0000);
/// Where the pages of queue 0 are; each queue has a pair, the notification page first.
pub const END_BASE: u64 = 0x6_0160_0000_0000;

const ESB_SHIFT: u32 = 17;
/// Numbers of escalations: this, and the number of the queue.
const FIRST_ESCALATION: u32 = 0x0100_0000;
/// The priority whose queue stands for all escalations of a VP.
const GATHER: u8 = 7;
const FIRST_GIRQ: u32 = 0x10;
const FIRST_VP: u32 = 0x4200_0000;

/// Where an emulator differs from the hardware, or one generation from another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quirks {
    /// QEMU before 10.1: the line and the NSR stay up when the CPPR becomes more favoured.
    pub keeps_line_on_cppr_drop: bool,
    /// POWER10: the hardware saves the ring at a pull and restores it at a push.
    pub save_restore: bool,
    /// QEMU's POWER10: the pending bits stay in the ring after a pull, for the next one pushed.
    pub leaves_ipb_on_pull: bool,
    /// QEMU's POWER10 from 10.2 on: a push presents what waited only where the pool ring is valid.
    pub needs_pool: bool,
}

impl Quirks {
    /// POWER9 itself.
    pub const POWER9: Self = Self {
        keeps_line_on_cppr_drop: false,
        save_restore: false,
        leaves_ipb_on_pull: false,
        needs_pool: false,
    };
    /// QEMU 10.0's.
    pub const QEMU_10_0_POWER9: Self = Self {
        keeps_line_on_cppr_drop: true,
        ..Self::POWER9
    };
    /// POWER10 itself.
    pub const POWER10: Self = Self {
        save_restore: true,
        ..Self::POWER9
    };
    /// QEMU 10.0's.
    pub const QEMU_10_0_POWER10: Self = Self {
        keeps_line_on_cppr_drop: true,
        leaves_ipb_on_pull: true,
        ..Self::POWER10
    };
    /// That of QEMU 10.2 and newer.
    pub const QEMU_10_2_POWER10: Self = Self {
        leaves_ipb_on_pull: true,
        needs_pool: true,
        ..Self::POWER10
    };
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::POWER9,
        Self::QEMU_10_0_POWER9,
        Self::POWER10,
        Self::QEMU_10_0_POWER10,
        Self::QEMU_10_2_POWER10,
    ];
}

/// One call that goes wrong once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    call: &'static str,
    error: FirmwareError,
}

#[derive(Clone, Copy, Debug)]
struct Eas {
    vp: u32,
    priority: Option<u8>,
    data: u32,
}

#[derive(Clone, Copy, Debug)]
struct SourceModel {
    pq: Pq,
    eas: Eas,
}

#[derive(Clone, Copy, Debug)]
struct End {
    page: u64,
    entries: u32,
    index: u32,
    generation: u32,
    flags: QueueFlags,
    /// The bits of the notification.
    esn: Pq,
    /// The bits of the escalation.
    ese: Pq,
    /// Where the escalation goes.
    escalation: Option<Eas>,
}

impl End {
    const OFF: Self = Self {
        page: 0,
        entries: 0,
        index: 0,
        generation: 1,
        flags: QueueFlags::empty(),
        esn: Pq::Off,
        ese: Pq::Off,
        escalation: None,
    };
}

#[derive(Clone, Copy, Debug)]
struct Nvt {
    flags: VpFlags,
    cppr: u8,
    ipb: u8,
    ends: [End; 8],
    report_cl: u64,
}

/// The OS ring of one thread.
#[derive(Clone, Copy, Debug, Default)]
struct Ring {
    vp: Option<u32>,
    nsr: u8,
    cppr: u8,
    ipb: u8,
    lsmfb: u8,
    ack: u8,
    inc: u8,
    age: u8,
    pipr: u8,
    line: bool,
    /// Whether the thread's pool ring is valid.
    pool: bool,
}

impl Ring {
    /// Recomputes the PIPR and raises the line where that is due.
    fn update(&mut self) {
        self.pipr =
            u8::try_from(self.ipb.leading_zeros()).map_or(0xff, |p| if p < 8 { p } else { 0xff });
        if self.pipr < self.cppr {
            self.nsr |= 0x80;
            self.line = true;
        }
    }
}

struct Model {
    quirks: Quirks,
    mode: Option<XiveMode>,
    sources: BTreeMap<u32, SourceModel>,
    next_girq: u32,
    free_girqs: Vec<u32>,
    vps: BTreeMap<u32, Nvt>,
    blocks: BTreeMap<u32, u32>,
    next_vp: u32,
    rings: Vec<Ring>,
    memory: BTreeMap<u64, u32>,
    donations_wanted: u32,
    donated: Vec<u64>,
    failures: VecDeque<Failure>,
    calls: Vec<&'static str>,
    /// Notifications of the threads' own contexts: thread, priority.
    host: VecDeque<(u32, u8)>,
}

/// The machine. One thread calls at a time; [`FakeXive::run_on`] says which.
pub struct FakeXive {
    model: RefCell<Model>,
    thread: Cell<usize>,
    mmio_accesses: Cell<u64>,
    waits: Cell<u64>,
    /// An event of this source comes just before the access with this number.
    planned: Cell<Option<(u64, u32)>>,
}

impl FakeXive {
    /// A machine with this many threads, after `OPAL_XIVE_RESET` in exploitation mode.
    #[must_use]
    pub fn new(threads: usize, quirks: Quirks) -> Self {
        let mut rings = Vec::new();
        rings.resize(
            threads,
            Ring {
                pipr: 0xff,
                ..Ring::default()
            },
        );
        Self {
            model: RefCell::new(Model {
                quirks,
                mode: Some(XiveMode::Exploitation),
                sources: BTreeMap::new(),
                next_girq: FIRST_GIRQ,
                free_girqs: Vec::new(),
                vps: BTreeMap::new(),
                blocks: BTreeMap::new(),
                next_vp: FIRST_VP,
                rings,
                memory: BTreeMap::new(),
                donations_wanted: 0,
                donated: Vec::new(),
                failures: VecDeque::new(),
                calls: Vec::new(),
                host: VecDeque::new(),
            }),
            thread: Cell::new(0),
            mmio_accesses: Cell::new(0),
            waits: Cell::new(0),
            planned: Cell::new(None),
        }
    }

    /// The thread registers.
    #[must_use]
    pub fn tima(&self) -> Tima {
        Tima::new(TIMA_PAGE)
    }

    /// From here on accesses come from this thread.
    ///
    /// # Panics
    /// There is no such thread.
    pub fn run_on(&self, thread: usize) {
        assert!(
            thread < self.model.borrow().rings.len(),
            "no thread {thread}"
        );
        self.thread.set(thread);
    }

    /// Whether the external interrupt line of the current thread is up.
    #[must_use]
    pub fn line(&self) -> bool {
        self.model.borrow().rings[self.thread.get()].line
    }

    /// P and Q of a source.
    ///
    /// # Panics
    /// There is no such source.
    #[must_use]
    pub fn pq(&self, girq: crate::Girq) -> Pq {
        self.model.borrow().sources[&girq.get()].pq
    }

    /// Numbers of sources and of virtual processors that are allocated.
    #[must_use]
    pub fn allocated(&self) -> (usize, usize) {
        let model = self.model.borrow();
        (model.sources.len(), model.vps.len())
    }

    /// MMIO accesses so far.
    #[must_use]
    pub fn mmio_accesses(&self) -> u64 {
        self.mmio_accesses.get()
    }

    /// An event of a source comes just before the `ahead`th MMIO access from now on, 0 being the
    /// next one: so between any two steps of who does several.
    pub fn plan_event(&self, ahead: u64, girq: crate::Girq) {
        self.planned
            .set(Some((self.mmio_accesses.get() + ahead, girq.get())));
    }

    /// Whether the event that was planned has yet to come.
    #[must_use]
    pub fn has_plan(&self) -> bool {
        self.planned.get().is_some()
    }

    /// Counts an access, and lets come what was planned for it.
    fn access(&self) {
        let number = self.mmio_accesses.get();
        self.mmio_accesses.set(number + 1);
        if let Some((at, girq)) = self.planned.get()
            && at == number
        {
            self.planned.set(None);
            self.model.borrow_mut().event(girq);
        }
    }

    /// Fills the pool ring of each thread, as [`HostInterrupt`](crate::HostInterrupt) does.
    pub fn fill_pool_rings(&self) {
        let now = self.thread.get();
        let threads = self.model.borrow().rings.len();
        for thread in 0..threads {
            self.run_on(thread);
            self.tima().push_pool(self, 0);
        }
        self.run_on(now);
    }

    /// The virtual processor that firmware gives a thread.
    #[cfg(test)]
    pub(crate) fn add_host_vp(&self, pir: u32) {
        let nvt = Nvt {
            flags: VpFlags::ENABLED,
            cppr: 0xff,
            ipb: 0,
            ends: [End::OFF; 8],
            report_cl: 0,
        };
        self.model.borrow_mut().vps.insert(pir, nvt);
    }

    /// The next `OPAL_XIVE_ALLOCATE_VP_BLOCK` asks for memory until this many pages were donated.
    pub fn want_donations(&self, pages: u32) {
        self.model.borrow_mut().donations_wanted = pages;
    }

    /// The pages donated so far.
    #[must_use]
    pub fn donated(&self) -> Vec<u64> {
        self.model.borrow().donated.clone()
    }

    /// The next call of this name fails with this status; several wait for their turns.
    pub fn fail(&self, call: &'static str, error: FirmwareError) {
        self.model
            .borrow_mut()
            .failures
            .push_back(Failure { call, error });
    }

    /// The firmware calls since the last time, by name.
    #[must_use]
    pub fn take_calls(&self) -> Vec<&'static str> {
        std::mem::take(&mut self.model.borrow_mut().calls)
    }

    /// Puts something else in the list of calls, so that their order can be seen.
    pub fn note(&self, what: &'static str) {
        self.model.borrow_mut().calls.push(what);
    }

    /// The next notification of a thread's own context: the thread, whose number is that of its VP,
    /// and the priority.
    pub fn take_host_event(&self) -> Option<(u32, u8)> {
        self.model.borrow_mut().host.pop_front()
    }

    /// The reporting line of a VP, 0 for none.
    ///
    /// # Panics
    /// There is no such VP.
    #[must_use]
    pub fn report_cl(&self, vp: crate::VpId) -> u64 {
        self.model.borrow().vps[&vp.get()].report_cl
    }

    /// The bits of an escalation.
    ///
    /// # Panics
    /// There is no such escalation.
    #[must_use]
    pub fn escalation_pq(&self, girq: crate::Girq) -> Pq {
        let mut model = self.model.borrow_mut();
        model
            .escalation(girq.get())
            .expect("no such escalation")
            .ese
    }

    /// How often a caller has waited for a busy call.
    #[must_use]
    pub fn waits(&self) -> u64 {
        self.waits.get()
    }

    /// The memory of a frame is zero again, as for a new user.
    pub fn zero(&self, frame: HostReal, bytes: u64) {
        let range = frame.get()..frame.get() + bytes;
        self.model
            .borrow_mut()
            .memory
            .retain(|at, _| !range.contains(at));
    }
}

impl QueueMemory for FakeXive {
    fn load_entry(&self, queue: HostReal, offset: u64) -> u32 {
        self.model
            .borrow()
            .memory
            .get(&(queue.get() + offset))
            .copied()
            .unwrap_or(0)
    }
}

impl Model {
    /// An event at a source.
    fn event(&mut self, girq: u32) {
        let (new, forward) = self.pq(girq).after_trigger();
        *self.pq(girq) = new;
        if forward {
            self.route(girq);
        }
    }

    /// An event of a source that its P and Q let through.
    fn route(&mut self, girq: u32) {
        let eas = self.sources[&girq].eas;
        self.route_eas(eas);
    }

    fn route_eas(&mut self, eas: Eas) {
        let Some(priority) = eas.priority else { return };
        if eas.vp < FIRST_VP && !self.vps.contains_key(&eas.vp) {
            // A queue without memory, which notifies always.
            self.host.push_back((eas.vp, priority));
            return;
        }
        let nvt = self
            .vps
            .get_mut(&eas.vp)
            .expect("event for a VP that does not exist");
        let end = &mut nvt.ends[usize::from(priority)];
        assert!(
            end.flags.contains(QueueFlags::ENABLED),
            "event for a queue that is off"
        );
        assert!(
            nvt.flags.contains(VpFlags::ENABLED),
            "event for a VP that is off"
        );
        if end.entries != 0 {
            let at = end.page + u64::from(end.index) * 4;
            self.memory
                .insert(at, end.generation << 31 | eas.data & 0x7fff_ffff);
            end.index += 1;
            if end.index == end.entries {
                end.index = 0;
                end.generation ^= 1;
            }
        }
        if !end.flags.contains(QueueFlags::ALWAYS_NOTIFY) {
            let (esn, notify) = end.esn.after_trigger();
            end.esn = esn;
            if !notify {
                return;
            }
        }
        let bit = 0x80 >> priority;
        if let Some(ring) = self.rings.iter_mut().find(|ring| ring.vp == Some(eas.vp)) {
            ring.ipb |= bit;
            ring.update();
            return;
        }
        nvt.ipb |= bit;
        if !end.flags.contains(QueueFlags::ESCALATE) {
            return;
        }
        let gather = if nvt.flags.contains(VpFlags::SINGLE_ESCALATION) {
            GATHER
        } else {
            priority
        };
        let end = &mut nvt.ends[usize::from(gather)];
        let (ese, notify) = end.ese.after_trigger();
        end.ese = ese;
        if let (true, Some(eas)) = (notify, end.escalation) {
            self.route_eas(eas);
        }
    }

    /// The queue with this number: eight of each VP.
    fn numbered_end(&mut self, number: u32) -> Option<&mut End> {
        let nvt = self.vps.get_mut(&FIRST_VP.checked_add(number / 8)?)?;
        nvt.ends.get_mut((number % 8) as usize)
    }

    /// The queue that an escalation is of.
    fn escalation(&mut self, girq: u32) -> Option<&mut End> {
        self.numbered_end(girq.checked_sub(FIRST_ESCALATION)?)
    }
}
