// SPDX-License-Identifier: Apache-2.0 OR MIT
//! How the hypervisor ends: by power-off with a status, or by dying in the open.
//!
//! `run-qemu.sh` cannot trust QEMU's exit status, nor anything that a guest may print. So the last
//! line before power-off is `penstock: exit N TOKEN`, where TOKEN came on the hypervisor's own
//! command line and is shown to no guest.

// UNSAFETY: the panic path reads stacks, and is called from assembly.
#![expect(unsafe_code)]

use super::console::{self, Emergency};
use super::thread::{self, Thread};
use crate::bootargs::Death;
use core::fmt::Write;
use core::sync::atomic::{AtomicU64, Ordering};
use penstock_arch::addr::HostReal;
use penstock_arch::context::HostFrame;
use penstock_arch::regs::sprn;
use penstock_arch::spr;
use penstock_boot::opal;
use spin::Once;

/// What the machine's run ended with: the exit status of `run-qemu.sh`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitStatus {
    /// The last guest powered itself off.
    Success,
    /// A bug of the hypervisor's.
    HypervisorBug,
    /// The partition tree, or the machine, is not what it must be.
    RefusedInput,
    /// The last running guest was stopped by an error.
    GuestError,
    /// The operator ended it.
    UserQuit,
}

impl ExitStatus {
    const fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::HypervisorBug => 1,
            Self::RefusedInput => 2,
            Self::GuestError => 3,
            Self::UserQuit => 130,
        }
    }
}

static TOKEN: Once<&'static str> = Once::new();

/// Remembers the token of `penstock.exit`.
pub fn set_token(token: &'static str) {
    TOKEN.call_once(|| token);
}

/// Powers the machine off, with `status` as the last line.
pub fn finish(status: ExitStatus) -> ! {
    console::drain(None);
    last_line(status)
}

fn last_line(status: ExitStatus) -> ! {
    if let Some(token) = TOKEN.get() {
        let _ = write!(Emergency, "\npenstock: exit {} {token}\n", status.code());
    }
    console::flush();
    opal::platform::power_off()
}

/// The death that another thread is asked to die, and the number of that thread.
static ASKED: spin::Mutex<Option<(Death, usize)>> = spin::Mutex::new(None);

/// Has the last of the other threads die as asked for, or this one where there is no other.
pub fn die_somewhere(death: Death) -> ! {
    let boot = thread::boot().number;
    let others = thread::all().iter().rev();
    let Some(other) = others
        .filter(|thread| thread.is_here())
        .find(|thread| thread.number != boot)
    else {
        die(death)
    };
    log::info!("thread {} (PIR {:#x}) is to die", other.number, other.pir);
    *ASKED.lock() = Some((death, other.number));
    other.ring();
    loop {
        core::hint::spin_loop();
    }
}

/// Dies, if the calling thread, `me`, is asked to.
pub fn die_if_asked(me: &Thread) {
    let asked = *ASKED.lock();
    if let Some((death, _)) = asked.filter(|(_, number)| *number == me.number) {
        die(death);
    }
}

/// Dies as asked for.
fn die(death: Death) -> ! {
    match death {
        Death::Panic => panic!("asked for by penstock.selftest"),
        // SAFETY: ends in our own handler, which is what is tested.
        Death::IllegalInstruction => unsafe { core::arch::asm!(".long 0", options(noreturn)) },
        Death::StrayLoad => {
            // Beyond all memory and devices of the machines that have a self test.
            let nowhere = core::ptr::with_exposed_provenance::<u64>(0x0007_0000_0000_0000);
            // SAFETY: there is nothing to harm; the machine check is what is tested.
            let value = unsafe { nowhere.read_volatile() };
            panic!("a stray load was answered with {value:#x}")
        }
    }
}

/// The PIR of the thread that dies first. Should it die once more on the way, the machine ends at
/// once; other threads leave it the console, and stop.
static DYING: AtomicU64 = AtomicU64::new(NOBODY);

/// No thread's PIR.
const NOBODY: u64 = u64::MAX;

/// Text and registers of the death, for a debugger that comes too late for the console, or finds
/// that it did not work.
struct Epitaph {
    text: [u8; 1024],
    len: usize,
    frame: Option<HostFrame>,
}

// SAFETY: the name is nobody else's; debuggers look for it.
#[unsafe(no_mangle)]
static PENSTOCK_EPITAPH: spin::Mutex<Epitaph> = spin::Mutex::new(Epitaph {
    text: [0; 1024],
    len: 0,
    frame: None,
});

/// Writes to the epitaph, as far as it has room, and to the console.
struct LastWords;

impl Write for LastWords {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        if let Some(mut epitaph) = PENSTOCK_EPITAPH.try_lock() {
            let Epitaph {
                text: stone, len, ..
            } = &mut *epitaph;
            let room = stone.get_mut(*len..).unwrap_or_default();
            for (to, from) in room.iter_mut().zip(text.bytes()) {
                *to = from;
                *len += 1;
            }
        }
        Emergency.write_str(text)
    }
}

fn die_once() {
    let me = spr::read::<{ sprn::PIR }>();
    match DYING.compare_exchange(NOBODY, me, Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) => {}
        Err(first) if first == me => opal::platform::power_off(),
        Err(_) => loop {
            core::hint::spin_loop();
        },
    }
}

/// Calls out who called whom, from the stack frame at `sp` (ELFv2: back chain at 0, LR at 16).
fn back_chain(mut sp: u64) {
    let _ = write!(LastWords, "  called from:");
    let stack = thread::by_pir(spr::read::<{ sprn::PIR }>()).and_then(Thread::stack);
    for _ in 0..24 {
        // Frames lie in our image, or on this thread's stack; anything else ends the walk.
        let at = HostReal::new(sp);
        let is_known = [penstock_boot::head::image(), stack]
            .iter()
            .flatten()
            .any(|range| range.contains(at));
        if !is_known || !sp.is_multiple_of(8) {
            break;
        }
        #[expect(
            clippy::cast_possible_truncation,
            reason = "usize is 64 bits on this machine"
        )]
        let frame = core::ptr::with_exposed_provenance::<u64>(sp as usize);
        // SAFETY: inside the image or a stack, and aligned, as checked; only read.
        let next = unsafe { frame.read_volatile() };
        if next <= sp {
            break;
        }
        #[expect(
            clippy::cast_possible_truncation,
            reason = "usize is 64 bits on this machine"
        )]
        let link = core::ptr::with_exposed_provenance::<u64>(next.wrapping_add(16) as usize);
        // SAFETY: `next` lies above `sp` on the same stack; a wrong one is a second death, which
        // ends at once.
        let lr = unsafe { link.read_volatile() };
        let _ = write!(LastWords, " {lr:#x}");
        sp = next;
    }
    let _ = writeln!(LastWords);
}

fn stack_pointer() -> u64 {
    let sp: u64;
    // SAFETY: reads a register.
    unsafe {
        core::arch::asm!("mr {}, 1", out(reg) sp, options(nomem, nostack, preserves_flags));
    }
    sp
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    die_once();
    let _ = writeln!(LastWords, "\npenstock: PANIC: {info}");
    let _ = writeln!(
        LastWords,
        "  PIR {:#x} MSR {:#x} LPIDR {:#x} LPCR {:#x}",
        spr::read::<{ sprn::PIR }>(),
        spr::msr(),
        spr::read::<{ sprn::LPIDR }>(),
        spr::read::<{ sprn::LPCR }>(),
    );
    back_chain(stack_pointer());
    last_line(ExitStatus::HypervisorBug)
}

/// An interrupt that was taken in hypervisor state: nothing of ours raises one, so it is the end.
///
/// # Safety
/// Called by `guest_entry.S` only, with the frame on the emergency stack.
#[unsafe(no_mangle)]
unsafe extern "C" fn penstock_host_interrupt(frame: *const HostFrame) -> ! {
    die_once();
    // SAFETY: the assembly passes a complete frame on its own stack.
    let frame = unsafe { &*frame };
    if let Some(mut epitaph) = PENSTOCK_EPITAPH.try_lock() {
        epitaph.frame = Some(frame.clone());
    }
    let name = match frame.trap {
        0x100 => "system reset",
        0x200 => "machine check",
        0x300 | 0x380 => "data storage interrupt",
        0x400 | 0x480 => "instruction storage interrupt",
        0x600 => "alignment interrupt",
        0x700 => "program interrupt",
        0xe40 => "illegal instruction",
        0xe60 => "hypervisor maintenance interrupt",
        _ => "interrupt",
    };
    let _ = writeln!(
        LastWords,
        "\npenstock: {name} ({:#x}) in the hypervisor at {:#x}, MSR {:#x}",
        frame.trap, frame.pc, frame.msr
    );
    let _ = writeln!(
        LastWords,
        "  LR {:#x} CTR {:#x} CR {:#x} XER {:#x} DAR {:#x} DSISR {:#x}",
        frame.lr, frame.ctr, frame.cr, frame.xer, frame.dar, frame.dsisr
    );
    for (first, row) in frame.gpr.chunks(4).enumerate() {
        let _ = write!(LastWords, "  r{:<2}", first * 4);
        for value in row {
            let _ = write!(LastWords, " {value:016x}");
        }
        let _ = writeln!(LastWords);
    }
    back_chain(frame.gpr[1]);
    last_line(ExitStatus::HypervisorBug)
}
