// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Timed batches, their median, and the table of mappings that the page table calls work on.

use penstock_guest_rt::clock;
use penstock_guest_rt::console::println;
use penstock_guest_rt::context::Context;
use penstock_guest_rt::cpu;
use penstock_guest_rt::hcall;
use penstock_guest_rt::hpt::{Mapping, PageSize, R_C, R_M, R_R, Segment};
use penstock_guest_rt::insn::Program;
use penstock_guest_rt::memory::Range;
use penstock_guest_rt::mmu::{self, Hpt};
use penstock_guest_rt::number::hcall::{ENTER, REMOVE};
use penstock_guest_rt::number::{msr, vector};
use penstock_guest_rt::start::Boot;

/// Operations in a batch.
pub const BATCH: u64 = 64;
/// Batches of an operation.
pub const BATCHES: usize = 17;
/// Bytes of a record of the table of mappings: index, V, R, AVPN.
pub const RECORD: u64 = 32;

/// What an operation costs.
#[derive(Clone, Copy, Debug)]
pub enum Cost {
    /// Instructions for one.
    Instructions(u64),
    /// It failed with this status.
    Status(u64),
    /// It ended in this interrupt.
    Interrupt(u64),
    /// There is not enough memory for it.
    NoMemory,
}

/// What every operation gets.
#[derive(Debug)]
pub struct Bench {
    /// The boot record.
    pub boot: Boot,
    /// The page table.
    pub hpt: Hpt,
    /// 1 MiB for the table and pages of 4K, or more.
    pub work: Range,
    /// This processor's interrupt server number.
    pub server: u64,
}

impl Bench {
    /// Collects what the operations need; `None` where the tree lacks it.
    pub fn new(boot: Boot) -> Option<Self> {
        let hpt = Hpt::find(&boot.fdt)?;
        let node = mmu::cpu_node(&boot.fdt)?;
        let server = node
            .cell("ibm,ppc-interrupt-server#s")
            .or_else(|| node.cell("reg"))?;
        let work = boot.memory.work();
        if work.bytes() < 1 << 23 {
            return None;
        }
        cpu::set_decrementer(clock::decrementer_limit());
        Some(Self {
            boot,
            hpt,
            work,
            server: u64::from(server),
        })
    }

    /// Where the table of mappings lies.
    pub fn table(&self) -> Range {
        self.work.part(0, BATCH * RECORD)
    }

    /// The mapping with this number: consecutive pages, all in groups of their own.
    pub fn mapping(&self, size: PageSize, number: u64) -> Mapping {
        let offset = (1 << 20) + (number << size.actual);
        Mapping {
            ea: 0x0000_0500_0000_0000 + offset,
            vsid: 0x12_3456,
            segment: Segment::T1,
            size,
            real: self.work.base() + offset,
            bits: R_M | R_R | R_C | 2,
        }
    }

    /// Fills the table.
    pub fn fill_table(&self, size: PageSize) {
        let table = self.table();
        for number in 0..BATCH {
            let mapping = self.mapping(size, number);
            let at = number * RECORD;
            table.write(at, mapping.primary(self.hpt.order));
            table.write(at + 8, mapping.v());
            table.write(at + 16, mapping.r());
            table.write(at + 24, mapping.avpn());
        }
    }

    /// Enters all mappings of the table.
    pub fn enter_all(&self) {
        let table = self.table();
        for at in (0..BATCH * RECORD).step_by(32) {
            hcall::call(
                ENTER,
                [0, table.read(at), table.read(at + 8), table.read(at + 16)],
            );
        }
    }

    /// Removes all mappings of the table.
    pub fn remove_all(&self) {
        let table = self.table();
        for at in (0..BATCH * RECORD).step_by(32) {
            hcall::call(REMOVE, [0, table.read(at), 0, 0]);
        }
    }

    /// The context of a batch: r14 counts, r16 walks over the table, r17 collects statuses.
    pub fn context(&self, program: &Program) -> Context {
        Context::with_program(program)
            .with_gpr(14, BATCH)
            .with_gpr(16, self.table().base())
    }
}

/// A batch: the time before in r20 and after in r21, around a loop whose body ends with the status
/// in r3. The body is given; counting and collecting are added.
pub fn timed_loop(body: &Program) -> Program {
    let mut program = Program::new().mftb(20);
    for word in body.words() {
        program = program.word(*word);
    }
    let back = i16::try_from(body.len()).unwrap_or(i16::MAX) + 2;
    program
        .or(17, 17, 3)
        .addic_record(14, 14, -1)
        .bne(-back)
        .mftb(21)
}

/// Runs one batch; the ticks that it took.
pub fn run(mut context: Context, program: &Program, msr: u64) -> Result<u64, Cost> {
    context.msr = msr;
    context.run();
    let end = context.pc + 4 * program.len() as u64;
    if context.vector != vector::PROGRAM || context.srr0 != end {
        return Err(Cost::Interrupt(context.vector));
    }
    if context.gpr[17] != 0 {
        return Err(Cost::Status(context.gpr[17]));
    }
    Ok(context.gpr[21].wrapping_sub(context.gpr[20]))
}

/// The median cost of an operation over batches of so many each.
pub fn median(count: u64, mut batch: impl FnMut(usize) -> Result<u64, Cost>) -> Cost {
    let mut ticks = [0; BATCHES];
    for (number, slot) in ticks.iter_mut().enumerate() {
        match batch(number) {
            Ok(value) => *slot = value,
            Err(cost) => return cost,
        }
    }
    ticks.sort_unstable();
    cost_of(ticks[BATCHES / 2], count)
}

/// The cost of one of `count` operations that took so many ticks: 512 ticks are 1000 instructions; rounded
/// to the nearest.
pub const fn cost_of(ticks: u64, count: u64) -> Cost {
    let unit = 512 * count;
    Cost::Instructions((ticks * 1000 + unit / 2) / unit)
}

/// [`median`] of a loop that needs no preparation.
pub fn plain(bench: &Bench, body: &Program, set_up: impl Fn(Context) -> Context) -> Cost {
    let program = timed_loop(body);
    median(BATCH, |_| {
        run(set_up(bench.context(&program)), &program, msr::KERNEL)
    })
}

/// Prints a row.
pub fn report(name: &str, target: u32, kvm: &str, cost: Cost) {
    // For who counts invalidations: kernel/tests/plugin/count.c.
    cpu::mark();
    match cost {
        Cost::Instructions(count) => {
            println!("bench: {name:<38} {count:>7} (target {target:>5}, KVM P9 {kvm:>5})");
        }
        Cost::Status(status) => println!("bench: {name:<38} failed: status {status:#x}"),
        Cost::Interrupt(vector) => println!("bench: {name:<38} failed: interrupt {vector:#x}"),
        Cost::NoMemory => println!("bench: {name:<38} skipped: too little memory"),
    }
}
