// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The loop that runs the guest.
//!
//! hcalls and storage faults never come here (see `penstock_hcall`); what does is the hypervisor's
//! timer, sleep, the end of a partition, and what a guest should not have done.

// UNSAFETY: entering the guest, and the registers that time it.
#![expect(unsafe_code)]

use super::create::Guest;
use super::hardware::{Hardware, HwInterrupts};
use super::last_words::{ExitStatus, finish};
use super::operator::{Operator, Wish};
use super::start::Machine;
use crate::console::{Admission, Suppressed};
use crate::exit::GuestExit;
use crate::inject::{self, Vector};
use crate::monitor::PartitionState;
use crate::platform::Platform;
use crate::rtas_memory::GuestRam;
use crate::vcpu::{Prod, Vcpu};
use crate::vpa::{DispatchReason, DispatchRecord, PreemptReason};
use core::arch::asm;
use log::Level;
use penstock_arch::regs::vcpu_spr::PSSCR_FORBIDDEN;
use penstock_arch::regs::{Hfscr, Lpcr, MachineCheckCause, Msr, Srr1, sprn};
use penstock_arch::{entry, spr, sync};

/// How often the console is looked after while a guest runs, in parts of a second.
pub const SERVICE_HZ: u64 = 100;

/// Why a partition no longer runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// It powered itself off.
    PoweredOff,
    /// The operator destroyed it.
    Destroyed,
    /// An error of its own stopped it.
    Failed,
}

/// What comes after an exit.
enum Next {
    Enter,
    Restart,
    End(End),
}

/// Runs the guest until the machine is powered off.
pub fn run(machine: &Machine, mut guest: Guest, mut operator: Operator) -> ! {
    let service_ticks = machine.info.cpu.timebase_hz / SERVICE_HZ;
    operator.attach(guest.partition());
    let end = run_guest(machine, &mut guest, &mut operator, service_ticks);
    let partition = guest.partition();
    if guest.vcpu().presenter.is_pushed() {
        guest.vcpu().presenter.pull(&HwInterrupts);
    }
    // No guest runs here any more: its interrupts are nobody's, and the decrementer is ours.
    Hardware::set_lpcr(Lpcr::HYPERVISOR);
    super::console::drain(Some(&partition.output));
    let (status, state) = match end {
        End::PoweredOff => (ExitStatus::Success, PartitionState::ShutOff),
        End::Destroyed => (ExitStatus::UserQuit, PartitionState::ShutOff),
        End::Failed => (ExitStatus::GuestError, PartitionState::Failed),
    };
    log::info!("{}: {state}", partition.name);
    operator.ended(guest.vcpu(), state, status)
}

fn run_guest(
    machine: &Machine,
    guest: &mut Guest,
    operator: &mut Operator,
    service_ticks: u64,
) -> End {
    let mut next_service = 0;
    loop {
        let vcpu = guest.vcpu();
        if !vcpu.presenter.is_pushed() {
            vcpu.presenter.push(&HwInterrupts);
        }
        let now = spr::timebase();
        if now >= next_service {
            if let Some(end) = service(vcpu, operator, machine) {
                return end;
            }
            next_service = now + service_ticks;
        }
        let left = next_service.saturating_sub(spr::timebase()).max(1);
        // SAFETY: the hypervisor's own timer; left is positive, so it is not entered expired.
        unsafe { spr::write::<{ sprn::HDEC }>(left) };
        // The light handlers get the whole of it back from its first field.
        let lent = core::ptr::from_mut(vcpu).cast();
        // SAFETY: `create` made this thread the partition's; the context was pushed above; `vcpu`
        // is not used until the call returns.
        let reason = unsafe { entry::run_guest(lent) };
        check_stack();
        let exit = GuestExit::decode(reason);
        if let Some(count) = vcpu.exits.get_mut(exit.index()) {
            *count += 1;
        }
        if let Some(at) = vcpu.stray.take() {
            complain(vcpu, format_args!("no memory at guest address {at}"));
        }
        match handle(vcpu, exit, operator, machine) {
            Next::Enter => {}
            Next::Restart => {
                report(vcpu, Level::Info, format_args!("restarts"));
                if let Err(error) = guest.restart() {
                    log::error!("{error}");
                    return End::Failed;
                }
            }
            Next::End(end) => return end,
        }
    }
}

fn name(vcpu: &Vcpu<Hardware>) -> &'static str {
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

fn complain(vcpu: &Vcpu<Hardware>, what: core::fmt::Arguments<'_>) {
    report(vcpu, Level::Warn, what);
}

fn handle(
    vcpu: &mut Vcpu<Hardware>,
    exit: GuestExit,
    operator: &mut Operator,
    machine: &Machine,
) -> Next {
    match exit {
        // The timer is a hint: the loop looks at the clock itself.
        GuestExit::HypervisorDecrementer | GuestExit::Doorbell => Next::Enter,
        GuestExit::Cede => match idle(vcpu, operator, machine) {
            Some(end) => Next::End(end),
            None => Next::Enter,
        },
        GuestExit::DrainConsole => {
            operator.pump(vcpu.partition);
            Next::Enter
        }
        GuestExit::PowerOff | GuestExit::StopSelf => Next::End(End::PoweredOff),
        GuestExit::Reboot => Next::Restart,
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
            acknowledge(machine);
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
        GuestExit::SystemReset | GuestExit::Unknown(_) => {
            post_mortem(vcpu, exit);
            Next::End(End::Failed)
        }
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
            post_mortem(vcpu, GuestExit::MachineCheck);
            return Next::End(End::Failed);
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
    for (vsid, esid) in vcpu.areas.slb_shadow_entries(&mut memory) {
        entry::insert_slbe(vsid, esid);
    }
}

/// Lets firmware handle what HMER and its own registers report, and returns HMER as it was.
/// An error that cannot be repaired leaves no time base to go on with.
fn maintenance() -> u64 {
    let hmer = spr::read::<{ sprn::HMER }>();
    if let Err(status) = penstock_boot::opal::platform::handle_hmi() {
        panic!("hypervisor maintenance, HMER {hmer:#x}: firmware answers {status}");
    }
    hmer
}

/// What is known of a partition that is stopped by an error.
fn post_mortem(vcpu: &Vcpu<Hardware>, exit: GuestExit) {
    let ctx = &vcpu.ctx;
    log::error!("{}: stopped: {exit:?} at {:#x}", name(vcpu), ctx.pc);
    log::error!(
        "  MSR {:#x} LR {:#x} CTR {:#x} CR {:#x} XER {:#x}",
        ctx.msr,
        ctx.lr,
        ctx.ctr,
        ctx.cr,
        ctx.xer
    );
    for (row, chunk) in ctx.gpr.chunks(4).enumerate() {
        if let [a, b, c, d] = chunk {
            log::error!("  r{:<2} {a:016x} {b:016x} {c:016x} {d:016x}", row * 4);
        }
    }
}

/// An interrupt for the hypervisor. None of its own sources is routed in this version, so what
/// comes is firmware's: acknowledge it, let firmware work, and accept the next.
fn acknowledge(machine: &Machine) {
    use penstock_xive::XiveMmio;
    const ACK_HV: u64 = 0x830;
    const PHYS_CPPR: u64 = 0x31;
    let page = machine.info.xive.tima.hypervisor.start();
    let _ = HwInterrupts.load16(page, ACK_HV);
    penstock_boot::opal::call::poll_events();
    HwInterrupts.store8(page, PHYS_CPPR, 0xff);
}

/// Looks after the console, and after the operator's wishes.
fn service(vcpu: &mut Vcpu<Hardware>, operator: &mut Operator, machine: &Machine) -> Option<End> {
    let wish = operator.service(vcpu);
    if entry::vectors_checksum() != machine.vectors {
        panic!("the vectors in low memory have changed");
    }
    // What the guest runs with is in the machine, and nowhere checked by an access of ours.
    let (lpcr, lpid) = (
        spr::read::<{ sprn::LPCR }>(),
        spr::read::<{ sprn::LPIDR }>(),
    );
    // Hints apart, which a processor may not implement.
    let matters = !(Lpcr::DPFD | Lpcr::ONL).bits();
    if (lpcr ^ vcpu.lpcr.bits()) & matters != 0
        || lpid != u64::from(vcpu.partition.mmu.lpid().get())
    {
        panic!("LPCR {lpcr:#x} and LPIDR {lpid:#x} are not the partition's");
    }
    match wish {
        Wish::None => None,
        Wish::Destroy => Some(End::Destroyed),
        Wish::PowerOff => finish(ExitStatus::UserQuit),
    }
}

/// H_CEDE: sleeps until the decrementer expires, an interrupt waits, or a prod came.
fn idle(vcpu: &mut Vcpu<Hardware>, operator: &mut Operator, machine: &Machine) -> Option<End> {
    let mut memory = GuestRam(vcpu.partition.mmu.memory());
    // A registered area cannot leave memory in this version, so these cannot fail.
    let _ = vcpu.areas.preempted(&mut memory);
    let ceded = Hardware::timebase();
    let service_ticks = machine.info.cpu.timebase_hz / SERVICE_HZ;
    let mut next_service = ceded + service_ticks;
    loop {
        let left = Hardware::decrementer();
        if left <= 0 || vcpu.presenter.pending(&HwInterrupts) {
            break;
        }
        if core::mem::replace(&mut vcpu.prod, Prod::None) == Prod::Prodded {
            break;
        }
        let now = Hardware::timebase();
        if now >= next_service {
            // What is not taken in hypervisor state ends each stop at once, until it is served.
            acknowledge(machine);
            if let Some(end) = service(vcpu, operator, machine) {
                return Some(end);
            }
            next_service = now + service_ticks;
            continue;
        }
        sleep(left.unsigned_abs().min(next_service - now));
    }
    let left = Hardware::decrementer();
    if left <= 0 {
        // An expired decrementer is a level. QEMU raises it by a timer that may lag behind the
        // register; writing the register again makes it look.
        set_decrementer(left.cast_unsigned());
    }
    let now = Hardware::timebase();
    let waited = u32::try_from(now.wrapping_sub(ceded)).unwrap_or(u32::MAX);
    let record = DispatchRecord {
        reason: if left <= 0 {
            DispatchReason::Decrementer
        } else {
            DispatchReason::External
        },
        preempted: PreemptReason::Cede,
        processor: 0,
        enqueue_to_dispatch: 0,
        ready_to_enqueue: 0,
        waiting_to_ready: waited,
        timebase: now,
        fault_address: 0,
        srr0: vcpu.ctx.pc,
        srr1: vcpu.ctx.msr,
    };
    let _ = vcpu.areas.dispatched(record, &mut memory);
    None
}

/// Stops the thread for at most `ticks`. HDEC does not wake a stopped thread, so the guest's
/// decrementer is borrowed, and given back by its absolute expiry (design decision 16).
pub fn sleep(ticks: u64) {
    // In this order, so that a delay between the two makes the interrupt late, never early.
    let left = spr::read::<{ sprn::DEC }>();
    let expiry = Hardware::timebase().wrapping_add(left);
    // EC = ESL = 0 with all bits that select a state 0: nothing is lost, any exception ends it.
    // The other bits are limits that the smallest state does not reach.
    const STOP0_LITE: u64 = 0x330;
    set_decrementer(ticks);
    // SAFETY: only says what kind of stop follows.
    unsafe { spr::write::<{ sprn::PSSCR }>(STOP0_LITE) };
    // SAFETY: a stop without state loss continues after itself.
    unsafe { asm!("stop", options(nostack, preserves_flags)) };
    forbid_guest_stop();
    // Maintenance interrupts are not taken in hypervisor state, but end a stop.
    if spr::read::<{ sprn::HMER }>() & spr::read::<{ sprn::HMEER }>() != 0 {
        log::warn!("hypervisor maintenance: HMER {:#x}", maintenance());
    }
    set_decrementer(expiry.wrapping_sub(Hardware::timebase()));
    sync::isync();
}

/// Makes a guest's `stop` an exit again.
pub fn forbid_guest_stop() {
    // SAFETY: takes effect at the next stop only, before which `sleep` writes its own.
    unsafe { spr::write::<{ sprn::PSSCR }>(PSSCR_FORBIDDEN) };
}

/// Writes the decrementer.
pub fn set_decrementer(ticks: u64) {
    // SAFETY: interrupts are off in hypervisor state; whoever runs next sets its own.
    unsafe { spr::write::<{ sprn::DEC }>(ticks) };
}

/// The lowest bytes of the boot stack, which nothing may reach: in real mode there is no guard
/// page.
fn check_stack() {
    let Some(stack) = penstock_boot::head::boot_stack() else {
        return;
    };
    #[expect(
        clippy::cast_possible_truncation,
        reason = "usize is 64 bits on this machine"
    )]
    let canary = core::ptr::with_exposed_provenance::<u64>(stack.start().get() as usize);
    // SAFETY: the bottom of our own stack; it is zero from the clearing of .bss.
    if unsafe { canary.read_volatile() } != 0 {
        panic!("the stack has overflowed");
    }
}
