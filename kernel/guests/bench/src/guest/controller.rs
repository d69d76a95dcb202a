// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The interrupt controller in exploitation mode: its pages, and an interrupt by them alone.
//!
//! A page is there from when the guest asks for its address, or else from its first touch, to the end of
//! the partition; so each can be measured once. The pages are big-endian, and the guest is not.
//!
//! LoPAR, H_INT_GET_SOURCE_INFO; PowerPC External Interrupt Virtualization Engine Nodes.

use super::measure::{BATCH, Bench, Cost, cost_of, median, run, timed_loop};
use penstock_guest_rt::context;
use penstock_guest_rt::cpu;
use penstock_guest_rt::fdt::{Fdt, doubleword};
use penstock_guest_rt::hcall;
use penstock_guest_rt::hpt::{Mapping, P64K, R_G, R_I, SLB_KP};
use penstock_guest_rt::insn::{self, Program};
use penstock_guest_rt::mmu::DATA;
use penstock_guest_rt::number::hcall::{
    INT_GET_SOURCE_INFO, INT_SET_QUEUE_CONFIG, INT_SET_SOURCE_CONFIG,
};
use penstock_guest_rt::number::{msr, spr, status, vector};

/// Sources of a partition of one processor: LISN 0 to 7.
const SOURCES: u64 = 8;
/// From a source's pages to those of the next.
const STRIDE: u64 = 1 << 17;
const PRIORITY: u64 = 6;
const QUEUE_LOG2: u64 = 16;

/// Numbers of the pages among [`Bench::mapping`]'s: the sources' management pages, the thread
/// registers, and the trigger page of source 0.
const TIMA: u64 = SOURCES;
const TRIGGER: u64 = SOURCES + 1;

/// Whether the partition works on the controller.
pub fn is_exploited(fdt: &Fdt<'static>) -> bool {
    tima(fdt).is_some()
}

/// The OS's page of the thread registers: the second range.
fn tima(fdt: &Fdt<'static>) -> Option<u64> {
    let controller = fdt
        .root()?
        .children()
        .find(|node| node.has_string("compatible", "ibm,power-ivpe"))?;
    doubleword(controller.property("reg")?, 16)
}

/// Where number `number` of the pages is in guest real memory.
fn real(bench: &Bench, number: u64) -> Result<u64, Cost> {
    if number == TIMA {
        return tima(&bench.boot.fdt).ok_or(Cost::NoMemory);
    }
    // Of source 0 alone the guest asks.
    let reply = hcall::call(INT_GET_SOURCE_INFO, [0; 4]);
    match (reply.status, number) {
        (status::SUCCESS, TRIGGER) => Ok(reply.values[2]),
        (status::SUCCESS, lisn) => Ok(reply.values[1] + lisn * STRIDE),
        (status, _) => Err(Cost::Status(status)),
    }
}

fn page(bench: &Bench, number: u64) -> Result<Mapping, Cost> {
    Ok(Mapping {
        real: real(bench, number)?,
        bits: R_I | R_G | 2,
        ..bench.mapping(P64K, number)
    })
}

fn map(bench: &Bench, number: u64) -> Result<u64, Cost> {
    let page = page(bench, number)?;
    bench.hpt.enter(&page).map_err(Cost::Status)?;
    cpu::set_segment(page.slb_vsid(SLB_KP), page.slb_esid(2));
    Ok(page.ea)
}

fn unmap(bench: &Bench, number: u64) {
    if let Ok(page) = page(bench, number) {
        bench.hpt.remove_mapping(&page);
    }
    cpu::clear_segments();
}

/// The first load of each of these pages, at `offset`.
fn touch(bench: &Bench, numbers: core::ops::Range<u64>, offset: i16) -> Cost {
    let program = timed_loop(&Program::new().ld(4, 19, offset).add(19, 19, 22).li(3, 0));
    let touch = || {
        let (first, count) = (numbers.start, numbers.end - numbers.start);
        let mut start = Err(Cost::NoMemory);
        for number in numbers.clone().rev() {
            start = Ok(map(bench, number)?);
        }
        let context = bench
            .context(&program)
            .with_gpr(14, count)
            .with_gpr(19, start?)
            .with_gpr(22, 1 << 16);
        let ticks = run(context, &program, DATA)?;
        (first..first + count).for_each(|number| unmap(bench, number));
        Ok(cost_of(ticks, count))
    };
    touch().unwrap_or_else(|cost| cost)
}

/// The first load of a source's management page, its P and Q, where the guest has asked for it.
pub fn esb_page_asked(bench: &mut Bench) -> Cost {
    touch(bench, 0..1, 0x800)
}

/// The same where it has not.
pub fn esb_page(bench: &mut Bench) -> Cost {
    touch(bench, 1..SOURCES, 0x800)
}

/// The first load of the thread registers' page: the OS ring.
pub fn tima_page(bench: &mut Bench) -> Cost {
    touch(bench, TIMA..TIMA + 1, 0x10)
}

/// A store to a source's trigger page, the interrupt, its acknowledge, the end of it at the source, the
/// entry of the event queue, and the CPPR again. No call, and no exit.
pub fn self_ipi(bench: &mut Bench) -> Cost {
    let measured = prepare(bench).map(|pages| measure(bench, pages));
    for number in [0, TIMA, TRIGGER] {
        unmap(bench, number);
    }
    context::install_vectors();
    measured.unwrap_or_else(|cost| cost)
}

/// The management page of source 0, the thread registers, its trigger page and the queue.
fn prepare(bench: &Bench) -> Result<[u64; 4], Cost> {
    cpu::disable_interrupts();
    let skip = bench.work.base().wrapping_neg() & 0xffff;
    let queue = bench.work.part(skip + (1 << 17), 1 << QUEUE_LOG2);
    queue.fill(0);
    let server = bench.server;
    for (number, arguments) in [
        (
            INT_SET_QUEUE_CONFIG,
            [1, server, PRIORITY, queue.base(), QUEUE_LOG2],
        ),
        (INT_SET_SOURCE_CONFIG, [2, 0, server, PRIORITY, 0]),
    ] {
        let mut all = [0; 9];
        all[..5].copy_from_slice(&arguments);
        let status = hcall::call_with(number, all).status;
        if status != status::SUCCESS {
            return Err(Cost::Status(status));
        }
    }
    let pages = [
        map(bench, 0)?,
        map(bench, TIMA)?,
        map(bench, TRIGGER)?,
        queue.base(),
    ];
    // Nothing is pending, the source is on, and everything is let through.
    let program = Program::new().ld(10, 5, 0xc00).stb(7, 6, 0x11).sync();
    let mut context = context::Context::with_program(&program)
        .with_msr(DATA)
        .with_gpr(5, pages[0])
        .with_gpr(6, pages[1])
        .with_gpr(7, 0xff);
    context.run();
    if context.vector == vector::PROGRAM {
        Ok(pages)
    } else {
        Err(Cost::Interrupt(context.vector))
    }
}

fn measure(bench: &Bench, [management, tima, trigger, _]: [u64; 4]) -> Cost {
    // The vector goes to r25, with translation of data, and interrupts off.
    let mut words = [insn::nop(); 8];
    words[..3].copy_from_slice(&[
        insn::mtspr(spr::SRR0, 25),
        insn::mtspr(spr::SRR1, 26),
        insn::rfid(),
    ]);
    context::patch_vector(vector::EXTERNAL, words);
    // Not reached when the interrupt comes at once; it may take a while.
    let head = Program::new().mtmsrd_ee(23).std(8, 4, 0).spin();
    let handler_at = 1 + head.len() as u64;
    let body = head
        .lhz(9, 6, 0x810)
        .ld(10, 5, 0)
        .stb(7, 6, 0x11)
        // Nothing but NSR's and CPPR's own bits: 0x80, and the priority.
        .xori(3, 9, 0x0680);
    let program = timed_loop(&body);
    median(BATCH, |_| {
        let mut context = bench
            .context(&program)
            .with_gpr(4, trigger)
            .with_gpr(5, management)
            .with_gpr(6, tima)
            .with_gpr(7, 0xff);
        context.gpr[23] = msr::EE | msr::RI;
        context.gpr[25] = context.pc + 4 * handler_at;
        context.gpr[26] = DATA;
        run(context, &program, DATA)
    })
}
