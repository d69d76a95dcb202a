// SPDX-License-Identifier: Apache-2.0 OR MIT
//! hcalls, a batch of each at a time.

use super::measure::{BATCH, Bench, Cost, RECORD, median, plain, run, timed_loop};
use penstock_guest_rt::console;
use penstock_guest_rt::context;
use penstock_guest_rt::cpu;
use penstock_guest_rt::hcall;
use penstock_guest_rt::hpt::{P4K, P64K, PageSize};
use penstock_guest_rt::insn::{self, Program};
use penstock_guest_rt::number::hcall::{
    BLOCK_REMOVE, BULK_REMOVE, CLEAR_MOD, CLEAR_REF, CPPR, ENTER, EOI, IPI, PAGE_INIT, PROTECT,
    PUT_TERM_CHAR, READ, REMOVE, XIRR,
};
use penstock_guest_rt::number::{flag, msr, vector};

/// The number as a 16-bit immediate; those used here are below 0x8000.
const fn immediate(number: u64) -> i16 {
    assert!(number < 0x8000);
    (number & 0x7fff) as i16
}

const RECORD_STEP: i16 = immediate(RECORD);

/// H_CPPR.
pub fn cppr(bench: &mut Bench) -> Cost {
    let body = Program::new().li(3, immediate(CPPR)).li(4, 0).sc(1);
    plain(bench, &body, |context| context)
}

/// The loop alone.
pub fn empty(bench: &mut Bench) -> Cost {
    let body = Program::new().li(3, 0).li(4, 0).nop().nop().nop();
    plain(bench, &body, |context| context)
}

/// A call on each entry of the table: r4 = flags, r5 = index.
fn by_index(number: u64) -> Program {
    let call = Program::new()
        .li(3, immediate(number))
        .mr(4, 18)
        .ld(5, 16, 0)
        .sc(1);
    call.addi(16, 16, RECORD_STEP)
}

/// The same with r6 = AVPN.
fn by_avpn(number: u64) -> Program {
    let call = Program::new()
        .li(3, immediate(number))
        .mr(4, 18)
        .ld(5, 16, 0)
        .ld(6, 16, 24)
        .sc(1);
    call.addi(16, 16, RECORD_STEP)
}

/// Measures a call on entries that are entered before each batch and removed after it.
fn on_entries(bench: &Bench, body: &Program, flags: impl Fn(usize) -> u64) -> Cost {
    bench.fill_table(P4K);
    let program = timed_loop(body);
    median(BATCH, |number| {
        bench.enter_all();
        let context = bench.context(&program).with_gpr(18, flags(number));
        let ticks = run(context, &program, msr::KERNEL);
        bench.remove_all();
        ticks
    })
}

/// H_READ.
pub fn read(bench: &mut Bench) -> Cost {
    on_entries(bench, &by_index(READ), |_| 0)
}

/// H_PROTECT to read-only, by AVPN as Linux calls it.
pub fn protect(bench: &mut Bench) -> Cost {
    on_entries(bench, &by_avpn(PROTECT), |_| flag::AVPN | 3)
}

/// H_CLEAR_REF of entries with R set.
pub fn clear_ref(bench: &mut Bench) -> Cost {
    on_entries(bench, &by_index(CLEAR_REF), |_| 0)
}

/// H_CLEAR_MOD of entries with C set.
pub fn clear_mod(bench: &mut Bench) -> Cost {
    on_entries(bench, &by_index(CLEAR_MOD), |_| 0)
}

fn enter(bench: &Bench, size: PageSize) -> Cost {
    bench.fill_table(size);
    // The memory is backed first, so that no batch pays for that.
    bench.enter_all();
    bench.remove_all();
    let body = Program::new()
        .li(3, immediate(ENTER))
        .li(4, 0)
        .ld(5, 16, 0)
        .ld(6, 16, 8)
        .ld(7, 16, 16)
        .sc(1)
        .addi(16, 16, RECORD_STEP);
    let program = timed_loop(&body);
    median(BATCH, |_| {
        let ticks = run(bench.context(&program), &program, msr::KERNEL);
        bench.remove_all();
        ticks
    })
}

/// H_ENTER of 4K pages.
pub fn enter_4k(bench: &mut Bench) -> Cost {
    enter(bench, P4K)
}

/// H_ENTER of 64K pages.
pub fn enter_64k(bench: &mut Bench) -> Cost {
    enter(bench, P64K)
}

fn remove(bench: &Bench, size: PageSize) -> Cost {
    bench.fill_table(size);
    let program = timed_loop(&by_avpn(REMOVE));
    median(BATCH, |_| {
        bench.enter_all();
        let context = bench.context(&program).with_gpr(18, flag::AVPN);
        run(context, &program, msr::KERNEL)
    })
}

/// H_REMOVE of 4K pages.
pub fn remove_4k(bench: &mut Bench) -> Cost {
    remove(bench, P4K)
}

/// H_REMOVE of 64K pages.
pub fn remove_64k(bench: &mut Bench) -> Cost {
    remove(bench, P64K)
}

/// H_BULK_REMOVE of four 4K pages by AVPN.
pub fn bulk_remove(bench: &mut Bench) -> Cost {
    bench.fill_table(P4K);
    let table = bench.table();
    let specifiers = bench.work.part(BATCH * RECORD, BATCH * 16);
    for number in 0..BATCH {
        let index = table.read(number * RECORD);
        specifiers.write(16 * number, 0x42 << 56 | index);
        specifiers.write(16 * number + 8, table.read(number * RECORD + 24));
    }
    let body = Program::new()
        .li(3, immediate(BULK_REMOVE))
        .ld(4, 16, 0)
        .ld(5, 16, 8)
        .ld(6, 16, 16)
        .ld(7, 16, 24)
        .ld(8, 16, 32)
        .ld(9, 16, 40)
        .ld(10, 16, 48)
        .ld(11, 16, 56)
        .sc(1)
        .addi(16, 16, 64);
    let program = timed_loop(&body);
    median(BATCH / 4, |_| {
        bench.enter_all();
        let context = bench.context(&program).with_gpr(14, BATCH / 4);
        let ticks = run(
            context.with_gpr(16, specifiers.base()),
            &program,
            msr::KERNEL,
        );
        if bench.hpt.read(table.read(0)).values[0] & 1 != 0 {
            return Err(Cost::Status(0xbad));
        }
        ticks
    })
}

/// H_BLOCK_REMOVE of the eight 4K pages of a block, without the AVPN condition.
pub fn block_remove(bench: &mut Bench) -> Cost {
    bench.fill_table(P4K);
    let table = bench.table();
    let specifiers = bench.work.part(BATCH * RECORD, BATCH * 8);
    for number in 0..BATCH {
        specifiers.write(8 * number, 0x40 << 56 | table.read(number * RECORD));
    }
    let body = Program::new()
        .li(3, immediate(BLOCK_REMOVE))
        .li(4, 0)
        .ld(5, 16, 0)
        .ld(6, 16, 8)
        .ld(7, 16, 16)
        .ld(8, 16, 24)
        .ld(9, 16, 32)
        .ld(10, 16, 40)
        .ld(11, 16, 48)
        .ld(12, 16, 56)
        .sc(1)
        .addi(16, 16, 64);
    let program = timed_loop(&body);
    median(BATCH / 8, |_| {
        bench.enter_all();
        let context = bench.context(&program).with_gpr(14, BATCH / 8);
        let ticks = run(
            context.with_gpr(16, specifiers.base()),
            &program,
            msr::KERNEL,
        );
        if bench.hpt.read(table.read(0)).values[0] & 1 != 0 {
            return Err(Cost::Status(0xbad));
        }
        ticks
    })
}

/// H_PAGE_INIT with the zero flag.
pub fn page_init(bench: &mut Bench) -> Cost {
    let body = Program::new()
        .li(3, immediate(PAGE_INIT))
        .mr(4, 18)
        .mr(5, 19)
        .sc(1)
        .add(19, 19, 22);
    let page = bench.work.base() + (1 << 20);
    plain(bench, &body, |context| {
        context
            .with_gpr(18, flag::ZERO_PAGE)
            .with_gpr(19, page)
            .with_gpr(22, 0x1000)
    })
}

/// One character that a terminal ignores.
pub fn put_term_char(bench: &mut Bench) -> Cost {
    let body = Program::new()
        .li(3, immediate(PUT_TERM_CHAR))
        .mr(4, 18)
        .li(5, 1)
        .mr(6, 19)
        .li(7, 0)
        .sc(1)
        // A full ring is asked again by the next round, which counts for one.
        .li(3, 0);
    plain(bench, &body, |context| {
        context
            .with_gpr(18, console::terminal())
            .with_gpr(19, u64::from(b'\r') << 56)
    })
}

/// An IPI from this processor to itself: sent, taken as an external interrupt, accepted, withdrawn
/// and finished, with EE on in between.
pub fn self_ipi(bench: &mut Bench) -> Cost {
    cpu::disable_interrupts();
    // The vector goes to r25.
    let entry = [insn::mtctr(25), insn::bctr()];
    let mut words = [insn::nop(); 8];
    words[..2].copy_from_slice(&entry);
    context::patch_vector(vector::EXTERNAL, words);
    let head = Program::new()
        .mtmsrd_ee(23)
        .li(3, immediate(IPI))
        .mr(4, 24)
        .li(5, 4)
        .sc(1)
        // Not reached when the interrupt comes at once; it may take a while.
        .spin();
    let handler_at = 1 + head.len() as u64;
    let body = head
        .li(3, immediate(XIRR))
        .sc(1)
        .mr(30, 4)
        .li(3, immediate(IPI))
        .mr(4, 24)
        .li(5, 0xff)
        .sc(1)
        .li(3, immediate(EOI))
        .mr(4, 30)
        .sc(1);
    let program = timed_loop(&body);
    hcall::call(CPPR, [0xff, 0, 0, 0]);
    let cost = median(BATCH, |_| {
        let mut context = bench.context(&program);
        context.gpr[23] = msr::EE | msr::RI;
        context.gpr[24] = bench.server;
        context.gpr[25] = context.pc + 4 * handler_at;
        run(context, &program, msr::KERNEL)
    });
    hcall::call(CPPR, [0; 4]);
    context::install_vectors();
    cost
}
