// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A virtual processor.

#[cfg(test)]
mod tests;

use crate::exit::{GuestExit, LightExit};
use crate::exit_times::ExitTimes;
use crate::hcall;
use crate::hcall::clear_hpt::ClearHpt;
use crate::partition::Partition;
use crate::platform::{HDSISR_CANARY, Platform};
use crate::presentation::Presentation;
use crate::processor::{Processor, Start, Stopped};
use penstock_arch::addr::{EffectiveAddr, GuestReal};
use penstock_arch::context::GuestContext;
use penstock_arch::hash::{Asdr, KeyMask};
use penstock_arch::hcall_log::HcallLog;
use penstock_arch::regs::{Dsisr, Lpcr, Msr, Srr1};
use penstock_arch::switch::ParkedState;
use penstock_mm::hpt::{AccessKind, BackingTooSmall, FaultAction, GuestFault, HpteFault};
use penstock_mm::status::HcallStatus;

/// One virtual processor. The context comes first: the entry code knows only that.
#[repr(C)]
pub struct Vcpu<'p, P: Platform> {
    /// Registers that are not live in the machine.
    pub ctx: GuestContext,
    /// The partition's control register as this virtual processor runs with it, VPM1 aside: see
    /// [`Vcpu::hardware_lpcr`] and [`Processors::lpcr`](crate::processor::Processors::lpcr).
    pub lpcr: Lpcr,
    /// What serves its hcalls, by slot.
    pub handlers: &'static [hcall::Handler<P>; hcall::SLOTS],
    /// The partition it belongs to.
    pub partition: &'p Partition<P>,
    /// Its interrupt presentation.
    pub presenter: Presentation<'p>,
    /// Its number: H_IPI's server, H_PROD's processor.
    pub server: u32,
    /// What the others know of it.
    pub processor: &'p Processor,
    /// A guest real address outside memory that the last real-mode access hit, for the log.
    pub stray: Option<GuestReal>,
    /// What a page's backing lacked when the virtual processor stopped.
    pub too_small: Option<BackingTooSmall>,
    /// The address that the guest used then.
    pub fault_address: Option<EffectiveAddr>,
    /// The exit at which an error has stopped it for good.
    pub stopped: Option<GuestExit>,
    /// Exits by kind, in the order of [`GuestExit::NAMES`].
    pub exits: [u64; GuestExit::NAMES.len()],
    /// How long each of them took.
    pub times: ExitTimes,
    /// Storage faults: repaired, and passed on to the guest.
    pub faults: FaultCounts,
    /// hcalls by place in the dispatch table; the last counts all that it does not have.
    pub hcalls: [u64; hcall::SLOTS + 1],
    /// The last of them.
    pub log: HcallLog,
    /// Where H_CLEAR_HPT goes on.
    pub clear_hpt: ClearHpt,
    /// What it owns of the machine, while it is not on a thread. Stale while it is.
    pub parked: ParkedState,
}

/// Hypervisor storage faults by outcome.
#[derive(Clone, Copy, Debug, Default)]
pub struct FaultCounts {
    /// The access was repeated and went through.
    pub repaired: u64,
    /// The guest was told.
    pub reflected: u64,
    /// The guest was told that there is no such memory.
    pub stray: u64,
}

impl core::ops::AddAssign for FaultCounts {
    fn add_assign(&mut self, other: Self) {
        self.repaired += other.repaired;
        self.reflected += other.reflected;
        self.stray += other.stray;
    }
}

const _: () = assert!(core::mem::offset_of!(GuestContext, gpr) == 0);

impl<'p, P: Platform> Vcpu<'p, P> {
    /// The virtual processor with this number, which has not started; `None` where the partition has
    /// no such one.
    #[must_use]
    pub fn new(partition: &'p Partition<P>, server: u32) -> Option<Self> {
        let presenter = partition.presentation(usize::try_from(server).ok()?)?;
        Some(Self {
            ctx: GuestContext::new(),
            lpcr: Lpcr::GUEST,
            handlers: hcall::Table::of(partition.interrupt_mode(), partition.undefined_flags),
            partition,
            presenter,
            server,
            processor: partition.processors.get(server.into())?,
            stray: None,
            too_small: None,
            fault_address: None,
            stopped: None,
            exits: [0; GuestExit::NAMES.len()],
            times: ExitTimes::default(),
            faults: FaultCounts::default(),
            hcalls: [0; hcall::SLOTS + 1],
            log: HcallLog::new(),
            clear_hpt: ClearHpt::default(),
            parked: ParkedState::new(P::processor(), P::timebase()),
        })
    }

    /// Puts the registers into the state in which a virtual processor begins: r3 as given, everything
    /// else zero, real mode, big-endian (LoPAR, start-cpu). The first one of a
    /// partition has its device tree in r3 (LoPAR, Boot Process; Linux's flattened-tree entry).
    pub fn begin(&mut self, start: Start) {
        // HSPRG0 may point here, so what the vectors need is never absent.
        let mut fresh = GuestContext::new();
        fresh.host_sp = self.ctx.host_sp;
        fresh.host_toc = self.ctx.host_toc;
        fresh.thread = self.ctx.thread;
        fresh.hcall_log = self.ctx.hcall_log;
        fresh.pc = start.entry.get();
        fresh.msr = Msr::GUEST_START.bits();
        fresh.gpr[3] = start.r3;
        self.ctx = fresh;
        self.times.begin();
        self.lpcr = self.partition.processors.lpcr();
        self.parked = ParkedState::new(P::processor(), P::timebase());
    }

    /// Begins, if another virtual processor has asked for that. It is on no thread; whether it did.
    pub fn begin_if_started(&mut self) -> bool {
        let start = self.processor.take_start();
        if let Some(start) = start {
            self.begin(start);
            self.set_online(true);
        }
        start.is_some()
    }

    /// Stops: only start-cpu gets it to run again. It is on no thread.
    pub fn stop(&mut self) -> Stopped {
        self.set_online(false);
        self.partition.processors.stop(self.processor)
    }

    /// Tells the interrupt controller whether it is started.
    pub fn set_online(&self, online: bool) {
        if let Some(native) = self.presenter.xive() {
            native.set_online(online);
        }
    }

    /// Takes over the modes that another virtual processor has set. Before it enters the guest.
    #[inline]
    pub fn take_modes(&mut self) {
        self.lpcr = self.partition.processors.lpcr();
    }

    /// The control register with which the hardware runs this virtual processor now: its faults in
    /// virtual mode come to the hypervisor only while that hides something (design decision 14).
    #[must_use]
    pub fn hardware_lpcr(&self) -> Lpcr {
        if self.partition.mmu.needs_vpm() {
            self.lpcr | Lpcr::VPM1
        } else {
            self.lpcr - Lpcr::VPM1
        }
    }

    /// Ends an hcall with `status` in r3.
    #[inline]
    pub fn answer(&mut self, status: HcallStatus) -> LightExit {
        self.ctx.gpr[3] = status.as_register();
        LightExit::RESUME
    }

    /// Ends an hcall that has done nothing, because there was no frame for it: the guest makes it again
    /// when it goes on, with the arguments that it gave.
    #[cold]
    pub fn repeat_hcall(&mut self) -> LightExit {
        const SC_BYTES: u64 = 4;
        self.ctx.pc = self.ctx.pc.wrapping_sub(SC_BYTES);
        LightExit::NO_FRAME
    }

    /// Handles a hypervisor storage interrupt (0xe00, or 0xe20 for a fetch) without leaving the
    /// guest's context.
    #[inline]
    pub fn storage_fault(&mut self, vector: u64) -> LightExit {
        let registers = P::storage_fault();
        let fetch = vector == 0xe20;
        let fault = if fetch {
            HpteFault {
                kind: AccessKind::Fetch,
                ea: EffectiveAddr::new(self.ctx.pc),
                asdr: Asdr::new(registers.asdr),
                cause: self.ctx.msr,
                msr: Msr::from_bits_retain(self.ctx.msr & !Srr1::CAUSE),
                keys: KeyMask::new(P::iamr()),
            }
        } else {
            if registers.hdsisr == HDSISR_CANARY {
                self.faults.repaired += 1;
                return LightExit::RESUME;
            }
            let store = registers.hdsisr & u64::from(Dsisr::STORE.bits()) != 0;
            HpteFault {
                kind: if store {
                    AccessKind::Store
                } else {
                    AccessKind::Load
                },
                ea: EffectiveAddr::new(registers.hdar),
                asdr: Asdr::new(registers.asdr),
                cause: registers.hdsisr,
                msr: Msr::from_bits_retain(self.ctx.msr),
                keys: KeyMask::new(P::amr()),
            }
        };
        self.ctx.msr = fault.msr.bits();
        match self.partition.mmu.resolve(&fault) {
            FaultAction::Retry => {
                self.faults.repaired += 1;
                LightExit::RESUME
            }
            FaultAction::Reflect(GuestFault::Data(dsisr)) => {
                self.faults.reflected += 1;
                crate::inject::data_storage(self, fault.ea.get(), dsisr);
                LightExit::RESUME
            }
            action => self.follow(&fault, action),
        }
    }

    /// What else there may be to do of a fault.
    // Apart, so that the usual ways have fewer registers to keep.
    #[inline(never)]
    fn follow(&mut self, fault: &HpteFault, action: FaultAction) -> LightExit {
        let mut action = action;
        // In real mode the address is no page's.
        if let FaultAction::NotMemory(at) = action
            && fault.uses_translation()
            && self.partition.fill_device_page(at)
        {
            action = self.partition.mmu.resolve(fault);
        }
        match action {
            FaultAction::Retry => self.faults.repaired += 1,
            FaultAction::Reflect(GuestFault::Data(dsisr)) => {
                self.faults.reflected += 1;
                crate::inject::data_storage(self, fault.ea.get(), dsisr);
            }
            FaultAction::Reflect(GuestFault::Instruction(cause)) => {
                self.faults.reflected += 1;
                crate::inject::deliver(self, crate::inject::Vector::InstructionStorage, cause);
            }
            FaultAction::NotMemory(at) => self.stray_access(fault, at),
            FaultAction::TooSmall(error) => {
                self.too_small = Some(error);
                self.fault_address = Some(fault.ea);
                return LightExit::BACKING_TOO_SMALL;
            }
            // The guest is where it was, and repeats the access when it goes on.
            FaultAction::NoFrame => return LightExit::NO_FRAME,
        }
        LightExit::RESUME
    }

    /// A real-mode access outside the partition's memory: the guest gets the storage interrupt that
    /// a limit violation of its real mode area gives (LoPAR, Real Mode Accesses), the log one line.
    #[cold]
    fn stray_access(&mut self, fault: &HpteFault, at: GuestReal) {
        self.faults.stray += 1;
        self.stray = Some(at);
        match fault.kind {
            AccessKind::Fetch => {
                crate::inject::deliver(
                    self,
                    crate::inject::Vector::InstructionStorage,
                    Srr1::NO_HPTE,
                );
            }
            AccessKind::Load => crate::inject::data_storage(self, fault.ea.get(), Dsisr::NO_HPTE),
            AccessKind::Store => {
                crate::inject::data_storage(self, fault.ea.get(), Dsisr::NO_HPTE | Dsisr::STORE);
            }
        }
    }
}
