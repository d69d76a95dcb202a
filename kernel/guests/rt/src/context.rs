// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Running a few instructions with chosen registers until the next interrupt, whatever it is.
//!
//! [`Context::run`] loads every register, jumps with any MSR (problem state, other byte order,
//! relocation on) and comes back at the first interrupt with all registers as that interrupt found
//! them. [`guard`] runs a Rust function and comes back when it returns or at an interrupt that no
//! context asked for. Both nest. Interrupts arrive in real mode, or with relocation on at
//! 0xc000_0000_0000_4000 when AIL is 3 and the image is mapped (see [`crate::mmu`]).
//!
//! Power ISA 3.0B, Book III, Interrupts.

// UNSAFETY: the vectors and the jumps are assembly, and the tables are copied to low memory.
#![expect(unsafe_code)]

use crate::cpu;
use crate::insn::Program;
use crate::number::msr;
use core::cell::UnsafeCell;
use core::mem::offset_of;

core::arch::global_asm!(
    include_str!("vectors.S"),
    GPR = const offset_of!(Context, gpr),
    PC = const offset_of!(Context, pc),
    MSR = const offset_of!(Context, msr),
    CR = const offset_of!(Context, cr),
    XER = const offset_of!(Context, xer),
    CTR = const offset_of!(Context, ctr),
    LR = const offset_of!(Context, lr),
    VECTOR = const offset_of!(Context, vector),
    SRR0 = const offset_of!(Context, srr0),
    SRR1 = const offset_of!(Context, srr1),
    DAR = const offset_of!(Context, dar),
    DSISR = const offset_of!(Context, dsisr),
    ARRIVAL = const offset_of!(Context, arrival),
    HOST_R1 = const offset_of!(Context, host_r1),
);

unsafe extern "C" {
    static rt_vectors: [u8; 0x1500];
    static rt_vectors_ail: [u8; 0x1500];
    fn rt_run(context: *mut Context) -> u64;
    fn rt_guard(context: *mut Context, function: extern "C" fn(*mut u8), argument: *mut u8) -> u64;
}

/// Registers to start with; after [`Context::run`] the registers at the interrupt.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Context {
    /// General purpose registers.
    pub gpr: [u64; 32],
    /// Where to start.
    pub pc: u64,
    /// Machine state to start with.
    pub msr: u64,
    /// Condition register.
    pub cr: u64,
    /// Fixed-point exception register.
    pub xer: u64,
    /// Count register.
    pub ctr: u64,
    /// Link register.
    pub lr: u64,
    /// The vector that the interrupt came to; plus 0x4000 when it came to the relocated one.
    pub vector: u64,
    /// Save/restore register 0 at the interrupt.
    pub srr0: u64,
    /// Save/restore register 1 at the interrupt.
    pub srr1: u64,
    /// Data address register at the interrupt.
    pub dar: u64,
    /// Data storage interrupt status at the interrupt.
    pub dsisr: u64,
    /// The MSR that the interrupt handler started with.
    pub arrival: u64,
    host_r1: u64,
}

const _: () = assert!(size_of::<Context>() == 360);

#[repr(C, align(4096))]
struct CodePage(UnsafeCell<[u32; 1024]>);

// SAFETY: each processor has one of its own.
unsafe impl Sync for CodePage {}

static CODE: [CodePage; cpu::PROCESSORS] =
    [const { CodePage(UnsafeCell::new([0; 1024])) }; cpu::PROCESSORS];

impl Context {
    /// All registers 0, ready to start at `pc`.
    #[must_use]
    pub const fn new(pc: u64, msr: u64) -> Self {
        Self {
            gpr: [0; 32],
            pc,
            msr,
            cr: 0,
            xer: 0,
            ctr: 0,
            lr: 0,
            vector: 0,
            srr0: 0,
            srr1: 0,
            dar: 0,
            dsisr: 0,
            arrival: 0,
            host_r1: 0,
        }
    }

    /// All registers 0, ready to run a program in real mode with EE off. The program ends with an
    /// instruction that interrupts, or a trap that is added here.
    #[must_use]
    pub fn with_program(program: &Program) -> Self {
        Self::new(place(program), msr::KERNEL)
    }

    /// The same with another MSR.
    #[must_use]
    pub const fn with_msr(mut self, msr: u64) -> Self {
        self.msr = msr;
        self
    }

    /// The same with another value in a general purpose register.
    #[must_use]
    pub const fn with_gpr(mut self, number: usize, value: u64) -> Self {
        self.gpr[number] = value;
        self
    }

    /// Runs until an interrupt.
    pub fn run(&mut self) {
        // SAFETY: the assembly saves what Rust relies on and comes back by way of the vectors. What
        // the program does to memory is the check's own affair: it has only addresses of scratch
        // memory.
        unsafe { rt_run(self) };
    }
}

/// Puts a program into the processor's code page, followed by a trap, and returns its address. It
/// stays there until the processor's next call.
#[must_use]
pub fn place(program: &Program) -> u64 {
    assert!(program.fits(), "program too long");
    let page = CODE[cpu::number()].0.get().cast::<u32>();
    let count = program.len() + 1;
    let words = program.words().iter().copied().chain([crate::insn::trap()]);
    for (index, word) in words.enumerate() {
        // SAFETY: a program is shorter than the page.
        let slot = unsafe { page.add(index) };
        // SAFETY: inside the page; nothing else refers to it.
        unsafe { slot.write_volatile(word) };
    }
    cpu::synchronize_instructions(page.addr() as u64, 4 * count as u64);
    page.addr() as u64
}

/// Calls `function`. `None` when it returned; the interrupt that ended it otherwise, in which case
/// nothing that it owned is dropped.
pub fn guard<F: FnMut()>(mut function: F) -> Option<Context> {
    extern "C" fn call<F: FnMut()>(function: *mut u8) {
        // SAFETY: guard passes a pointer to its own parameter of this type.
        let function = unsafe { &mut *function.cast::<F>() };
        function();
    }
    let mut context = Context::new(0, 0);
    // SAFETY: the assembly calls the function with the argument and keeps nothing.
    let interrupted = unsafe { rt_guard(&raw mut context, call::<F>, (&raw mut function).cast()) };
    (interrupted != 0).then_some(context)
}

/// Copies the vectors to real 0x100 and to real 0x4100, where AIL = 3 finds them.
pub fn install_vectors() {
    // SAFETY: a symbol of our assembly.
    let low = unsafe { &rt_vectors };
    // SAFETY: a symbol of our assembly.
    let relocated = unsafe { &rt_vectors_ail };
    for (to, table) in [(0x100usize, low), (0x4100, relocated)] {
        for (index, byte) in table.iter().enumerate() {
            let slot = core::ptr::with_exposed_provenance_mut::<u8>(to + index);
            // SAFETY: real memory below the image belongs to the vectors.
            unsafe { slot.write_volatile(*byte) };
        }
        cpu::synchronize_instructions(to as u64, table.len() as u64);
    }
}

/// Replaces the instructions of one vector until [`install_vectors`] is called again; for checks
/// of the byte order in which interrupts arrive.
pub fn patch_vector(vector: u64, words: [u32; 8]) {
    assert!((0x100..0x1600).contains(&vector) && vector.is_multiple_of(32));
    for (index, word) in words.into_iter().enumerate() {
        let at = usize::try_from(vector).unwrap_or(0x100) + 4 * index;
        let slot = core::ptr::with_exposed_provenance_mut::<u32>(at);
        // SAFETY: real memory below the image belongs to the vectors.
        unsafe { slot.write_volatile(word) };
    }
    cpu::synchronize_instructions(vector, 32);
}
