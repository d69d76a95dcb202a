// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a full exit asks for.
//!
//! hcalls and storage faults never come here (see `penstock_hcall`); what does is the hypervisor's
//! timer, sleep, the end of a partition, and what a guest should not have done.

// UNSAFETY: registers of a guest's interrupts.
#![expect(unsafe_code)]

use super::hardware::Hardware;
use super::thread;
use crate::console::{Admission, Suppressed};
use crate::exit::GuestExit;
use crate::hcall;
use crate::inject::{self, Vector};
use crate::lifecycle::PauseReason;
use crate::rtas_memory::GuestRam;
use crate::trace::Kind;
use crate::vcpu::Vcpu;
use log::Level;
use penstock_arch::regs::{Hfscr, MachineCheckCause, Msr, Srr1, sprn};
use penstock_arch::{entry, spr};

/// Why a partition no longer runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It powered itself off.
    PoweredOff,
    /// The operator destroyed it.
    Destroyed,
    /// An error of its own stopped it.
    Failed,
}

/// What comes after an exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// The guest goes on.
    Enter,
    /// The guest goes on when there is room in its console's ring.
    Drain,
    /// The virtual processor waits for an interrupt, a prod or its decrementer.
    Cede,
    /// The virtual processor waits for a prod.
    Join,
    /// The virtual processor lets others run, and first of all this one of its partition's.
    Confer(Option<u32>),
    /// The virtual processor stops.
    Stop,
    /// A call of the control interface.
    Control,
    /// The page table is to be exchanged.
    Resize,
    /// The partition is held.
    Pause(PauseReason),
    /// The partition starts over.
    Restart,
    /// The partition ends.
    End(End),
}

/// Does what `exit` asks for, as far as that concerns the virtual processor alone.
pub fn handle(vcpu: &mut Vcpu<Hardware>, exit: GuestExit) -> Next {
    match exit {
        // The timer is a hint: the loop looks at the clock itself.
        GuestExit::HypervisorDecrementer | GuestExit::Doorbell => Next::Enter,
        GuestExit::Cede => Next::Cede,
        GuestExit::Join => Next::Join,
        GuestExit::Confer => Next::Confer(hcall::confer_target(vcpu)),
        GuestExit::StopSelf => Next::Stop,
        GuestExit::DrainConsole => Next::Drain,
        GuestExit::Control => Next::Control,
        GuestExit::Resize => Next::Resize,
        GuestExit::BackingTooSmall => {
            if let Some(error) = vcpu.too_small {
                log::error!("{}: {error}", name(vcpu));
            }
            stop(vcpu, exit)
        }
        GuestExit::NoFrame => {
            let share = vcpu.partition.mmu.memory().share();
            let limited = share.is_some_and(|share| share.is_at_limit());
            Next::Pause(if limited {
                PauseReason::MemoryLimit
            } else {
                PauseReason::NoMemory
            })
        }
        GuestExit::PowerOff => Next::End(End::PoweredOff),
        GuestExit::Reboot => {
            report(vcpu, Level::Info, format_args!("restarts"));
            Next::Restart
        }
        GuestExit::EmulationAssist => {
            let (instruction, at) = (spr::read::<{ sprn::HEIR }>(), vcpu.ctx.pc);
            report(
                vcpu,
                Level::Debug,
                format_args!("no such instruction: {instruction:#x} at {at:#x}"),
            );
            inject::deliver(vcpu, Vector::Program, Srr1::PROGRAM_ILLEGAL);
            Next::Enter
        }
        GuestExit::FacilityUnavailable => {
            let cause =
                Hfscr::from_bits_retain(spr::read::<{ sprn::HFSCR }>()).interruption_cause();
            complain(vcpu, format_args!("facility {cause} is not available"));
            inject::deliver(vcpu, Vector::Program, Srr1::PROGRAM_ILLEGAL);
            Next::Enter
        }
        GuestExit::Virtualization | GuestExit::External => {
            acknowledge();
            Next::Enter
        }
        GuestExit::Maintenance => {
            complain(
                vcpu,
                format_args!("hypervisor maintenance: HMER {:#x}", maintenance()),
            );
            Next::Enter
        }
        GuestExit::SoftPatch => {
            complain(vcpu, format_args!("soft patch at {:#x}", vcpu.ctx.pc));
            inject::deliver(vcpu, Vector::Program, Srr1::PROGRAM_ILLEGAL);
            Next::Enter
        }
        GuestExit::MachineCheck => machine_check(vcpu),
        GuestExit::SystemReset if vcpu.ctx.msr & Msr::RI.bits() != 0 => {
            complain(vcpu, format_args!("system reset at {:#x}", vcpu.ctx.pc));
            let cause = Srr1::from_bits_retain(vcpu.ctx.msr & Srr1::CAUSE);
            inject::deliver(vcpu, Vector::SystemReset, cause);
            Next::Enter
        }
        GuestExit::SystemReset | GuestExit::Unknown(_) => stop(vcpu, exit),
    }
}

/// A machine check that the guest provoked is the guest's: doubled or damaged translations are
/// thrown away and the guest goes on; of anything else its own handler is told, if it could take
/// the interrupt.
fn machine_check(vcpu: &mut Vcpu<Hardware>) -> Next {
    let msr = Msr::from_bits_retain(vcpu.ctx.msr);
    let dsisr = spr::read::<{ sprn::DSISR }>();
    let dar = spr::read::<{ sprn::DAR }>();
    // The interrupt cleared ME; a second one must not stop the machine.
    // SAFETY: the vectors stand, and SRR1, DSISR and DAR have been read.
    unsafe { spr::enable_machine_check() };
    let cause = MachineCheckCause::decode(vcpu.ctx.msr, dsisr);
    complain(
        vcpu,
        format_args!(
            "machine check at {:#x}: {cause:?}, SRR1 {:#x} DSISR {dsisr:#x} DAR {dar:#x}",
            vcpu.ctx.pc, vcpu.ctx.msr,
        ),
    );
    let recoverable = msr.contains(Msr::RI);
    match cause {
        MachineCheckCause::Slb if recoverable => reload_slb(vcpu),
        MachineCheckCause::Translation if recoverable => {
            vcpu.partition.mmu.flush_partition();
            entry::flush_slb();
            reload_slb(vcpu);
        }
        _ if recoverable && msr.contains(Msr::ME) => {
            // The cause stays in SRR1, DSISR and DAR: the guest decodes it as on bare metal.
            let cause = Srr1::from_bits_retain(vcpu.ctx.msr & Srr1::CAUSE);
            inject::deliver(vcpu, Vector::MachineCheck, cause);
            return Next::Enter;
        }
        _ => {
            return stop(vcpu, GuestExit::MachineCheck);
        }
    }
    vcpu.ctx.msr &= !Srr1::CAUSE;
    Next::Enter
}

/// Empties the SLB and enters again what the guest cannot do without, which it keeps in its SLB
/// shadow buffer (LoPAR, SLB Shadow Buffer). For the rest it takes SLB misses.
fn reload_slb(vcpu: &Vcpu<Hardware>) {
    entry::flush_slb();
    let mut memory = GuestRam(vcpu.partition.mmu.memory());
    let entries = vcpu.processor.areas.lock().slb_shadow_entries(&mut memory);
    for (vsid, esid) in entries {
        entry::insert_slbe(vsid, esid);
    }
}

/// Lets firmware handle what HMER and its own registers report, and returns HMER as it was.
/// An error that cannot be repaired leaves no time base to go on with.
pub fn maintenance() -> u64 {
    let hmer = spr::read::<{ sprn::HMER }>();
    if let Err(status) = penstock_boot::opal::platform::handle_hmi() {
        panic!("hypervisor maintenance, HMER {hmer:#x}: firmware answers {status}");
    }
    hmer
}

/// An error stops the virtual processor, and with it the partition. What is known of it is told when it
/// is off its thread.
fn stop(vcpu: &mut Vcpu<Hardware>, exit: GuestExit) -> Next {
    vcpu.stopped = Some(exit);
    let traced = [exit.index() as u64, vcpu.ctx.pc];
    thread::this().trace(vcpu.partition.id.0, Kind::Error, traced);
    Next::End(End::Failed)
}

/// An interrupt for the hypervisor: another thread has rung, or firmware has something to do. What
/// the other thread wants is looked for before the guest is entered again.
fn acknowledge() {
    let me = thread::this();
    me.acknowledge();
    if me.number == thread::boot().number {
        penstock_boot::opal::call::poll_events();
    }
}

fn name<'p>(vcpu: &Vcpu<'p, Hardware>) -> &'p str {
    &vcpu.partition.name
}

/// Logs what a guest did, as often as its budget allows.
fn report(vcpu: &Vcpu<Hardware>, level: Level, what: core::fmt::Arguments<'_>) {
    // What is not shown costs nothing of the budget.
    if level > log::max_level() {
        return;
    }
    let admission = vcpu.partition.complaints.lock().admit(spr::timebase());
    if let Admission::Print { suppressed } = admission {
        log::log!(level, "{}: {what}{}", name(vcpu), Suppressed(suppressed));
    }
}

pub fn complain(vcpu: &Vcpu<Hardware>, what: core::fmt::Arguments<'_>) {
    report(vcpu, Level::Warn, what);
}
