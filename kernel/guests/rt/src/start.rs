// SPDX-License-Identifier: Apache-2.0 OR MIT
//! From the entry point to the guest's own `guest_main`, and the end of a guest.
//!
//! A guest defines `#[unsafe(no_mangle)] extern "Rust" fn guest_main(boot: Boot)`. It is called in
//! real mode, little-endian, EE off, with vectors in place and a console.

// UNSAFETY: the entry point is assembly, the device tree is memory at an address in a register, and
// the guest's main is found by its symbol.
#![expect(unsafe_code)]

use crate::console::{self, println};
use crate::context;
use crate::cpu;
use crate::fdt::Fdt;
use crate::hcall;
use crate::memory::Memory;
use crate::number::hcall::SET_MODE;
use crate::rtas::Rtas;
use crate::second;
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicU64, Ordering};

const STACK_BYTES: usize = 128 << 10;

#[repr(C, align(4096))]
struct Stack(UnsafeCell<[u8; STACK_BYTES]>);

// SAFETY: used by one processor, through r1 only.
unsafe impl Sync for Stack {}

static STACK: Stack = Stack(UnsafeCell::new([0; STACK_BYTES]));
static SECOND_STACK: Stack = Stack(UnsafeCell::new([0; STACK_BYTES]));

// Not 0, so that it lies in .data: it is written before bss is cleared.
static ENTRY: [AtomicU64; 40] = [const { AtomicU64::new(1) }; 40];
static SECOND_ENTRY: [AtomicU64; 40] = [const { AtomicU64::new(1) }; 40];

core::arch::global_asm!(
    include_str!("start.S"),
    entry = sym ENTRY,
    stack = sym STACK,
    stack_bytes = const STACK_BYTES,
    main = sym rust_start,
    second_entry = sym SECOND_ENTRY,
    second_stack = sym SECOND_STACK,
    second_stack_bytes = const STACK_BYTES,
    second_main = sym second::main,
);

unsafe extern "Rust" {
    fn guest_main(boot: Boot);
}

unsafe extern "C" {
    static __image_start: u8;
    static __image_end: u8;
}

/// The processor's registers at the entry point.
#[derive(Clone, Copy, Debug)]
pub struct EntryState {
    /// General purpose registers; r9 to r12 were needed and are 0.
    pub gpr: [u64; 32],
    /// Machine state.
    pub msr: u64,
    /// Link register.
    pub lr: u64,
    /// Count register.
    pub ctr: u64,
    /// Fixed-point exception register.
    pub xer: u64,
    /// Condition register.
    pub cr: u64,
}

/// What a guest's main gets.
#[derive(Debug)]
pub struct Boot {
    /// The registers at the entry point.
    pub entry: EntryState,
    /// The device tree.
    pub fdt: Fdt<'static>,
    /// Where the tree lies and how long it is, in bytes.
    pub fdt_range: (u64, u64),
    /// Memory that nothing else uses.
    pub memory: Memory,
    /// RTAS calls.
    pub rtas: Rtas,
}

/// The guest's own image in real memory: first byte and end.
#[must_use]
pub fn image() -> (u64, u64) {
    let start = (&raw const __image_start).addr() as u64;
    let end = (&raw const __image_end).addr() as u64;
    (start, end)
}

fn entry_state() -> EntryState {
    kept(&ENTRY)
}

/// The second processor's registers at its last start.
#[must_use]
pub fn second_entry_state() -> EntryState {
    kept(&SECOND_ENTRY)
}

fn kept(array: &[AtomicU64; 40]) -> EntryState {
    let at = |index: usize| {
        array
            .get(index)
            .map_or(0, |word| word.load(Ordering::Relaxed))
    };
    let mut gpr = [0; 32];
    for (index, value) in gpr.iter_mut().enumerate() {
        if !(9..13).contains(&index) {
            *value = at(index);
        }
    }
    EntryState {
        gpr,
        msr: at(32),
        lr: at(33),
        ctr: at(34),
        xer: at(35),
        cr: at(36),
    }
}

/// The device tree at a real address.
fn device_tree(address: u64) -> Option<(Fdt<'static>, u64)> {
    let address = usize::try_from(address).ok()?;
    if address == 0 {
        return None;
    }
    let start = core::ptr::with_exposed_provenance::<u8>(address);
    // SAFETY: r3 names a device tree by the entry contract, and nothing writes to it.
    let header = unsafe { core::slice::from_raw_parts(start, 40) };
    let total = Fdt::total_size(header)?;
    // SAFETY: the header says so.
    let blob = unsafe { core::slice::from_raw_parts(start, total) };
    Some((Fdt::new(blob)?, total as u64))
}

extern "C" fn rust_start() -> ! {
    context::install_vectors();
    let entry = entry_state();
    let mut ended = Some("the device tree is missing or damaged");
    let interrupt = context::guard(|| {
        // Interrupts must come little-endian, like this program. A refusal shows in a check.
        hcall::call(SET_MODE, [1, 4, 0, 0]);
        let Some((fdt, bytes)) = device_tree(entry.gpr[3]) else {
            return;
        };
        console::set_terminal(&fdt);
        let Some(memory) = Memory::find(&fdt, entry.gpr[3], bytes) else {
            ended = Some("the device tree describes no free memory");
            return;
        };
        let rtas = Rtas::find(&fdt);
        let boot = Boot {
            entry,
            fdt,
            fdt_range: (entry.gpr[3], bytes),
            memory,
            rtas,
        };
        // SAFETY: each guest defines it with this signature.
        unsafe { guest_main(boot) };
        ended = None;
        rtas.power_off();
    });
    if let Some(context) = interrupt {
        println!("guest: unexpected interrupt {}", Interrupt(&context));
    }
    if let Some(reason) = ended {
        println!("guest: {reason}");
    }
    stop()
}

/// Ends the partition by whatever works, without needing a device tree.
pub fn stop() -> ! {
    if let Some((fdt, _)) = device_tree(entry_state().gpr[3]) {
        Rtas::find(&fdt).power_off();
    }
    loop {
        cpu::disable_interrupts();
    }
}

/// An interrupt in one line.
#[derive(Debug)]
pub struct Interrupt<'a>(pub &'a context::Context);

impl core::fmt::Display for Interrupt<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let c = self.0;
        write!(
            f,
            "{:#x}: SRR0 {:#x} SRR1 {:#x} DAR {:#x} DSISR {:#x} LR {:#x}",
            c.vector, c.srr0, c.srr1, c.dar, c.dsisr, c.lr
        )
    }
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    println!("guest: {info}");
    // SAFETY: a trap: the innermost guard takes it as the end of what it ran.
    unsafe { core::arch::asm!("trap", options(noreturn)) }
}
