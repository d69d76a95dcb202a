// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Faults: those that the hypervisor resolves, and the guest's own.
//!
//! The hypervisor's are those of a partition whose memory is backed lazily. With all memory backed
//! from the start there is nothing to resolve, and the plain access shows.

use super::measure::{BATCH, Bench, Cost, median, run, timed_loop};
use penstock_guest_rt::context::{self, patch_vector};
use penstock_guest_rt::cpu;
use penstock_guest_rt::hpt::{Mapping, P4K, P64K, PageSize, SLB_KP};
use penstock_guest_rt::insn::{self, Program};
use penstock_guest_rt::memory::Range;
use penstock_guest_rt::mmu::DATA;
use penstock_guest_rt::number::{spr, vector};

/// A load at each step of r22 bytes from r19 on.
fn walk() -> Program {
    timed_loop(&Program::new().ld(4, 19, 0).add(19, 19, 22).li(3, 0))
}

/// Maps `count` pages of untouched memory and times a load of each from number `first` on.
fn touch(bench: &Bench, size: PageSize, range: Range, first: u64, count: u64) -> Result<u64, Cost> {
    let page = |number: u64| Mapping {
        real: range.base() + (number << size.actual),
        ..bench.mapping(size, number)
    };
    for number in 0..count {
        bench.hpt.enter(&page(number)).map_err(Cost::Status)?;
    }
    let start = page(0);
    cpu::set_segment(start.slb_vsid(SLB_KP), start.slb_esid(2));
    let program = walk();
    let touch = |from: u64, pages: u64| {
        let context = bench.context(&program).with_gpr(14, pages);
        run(
            context
                .with_gpr(19, page(from).ea)
                .with_gpr(22, 1 << size.actual),
            &program,
            DATA,
        )
    };
    if first > 0 {
        touch(0, first)?;
    }
    let ticks = touch(first, count - first);
    cpu::clear_segments();
    for number in 0..count {
        bench.hpt.remove_mapping(&page(number));
    }
    ticks
}

/// Sixteen 4K pages of one 64K piece are mapped before it is backed; touching the first backs it,
/// and the other fifteen then are memory present without a valid entry.
pub fn memory_present(bench: &mut Bench) -> Cost {
    median(15, |_| {
        let range = bench.boot.memory.fresh(1 << 16).ok_or(Cost::NoMemory)?;
        touch(bench, P4K, range, 1, 16)
    })
}

/// First touch of 64K pages that nobody touched.
pub fn first_touch(bench: &mut Bench) -> Cost {
    median(16, |_| {
        let range = bench.boot.memory.fresh(1 << 20).ok_or(Cost::NoMemory)?;
        touch(bench, P64K, range, 0, 16)
    })
}

/// A load without entry, which comes to the guest's own data storage vector; that goes on behind
/// it.
pub fn own_fault(bench: &mut Bench) -> Cost {
    reflected(bench, &Program::new().ld(4, 19, 0))
}

/// A store to a page that the guest has read-only, which comes there too: at once where the hardware sees
/// all entries, and by the hypervisor where some are hidden.
pub fn protection_fault(bench: &mut Bench) -> Cost {
    let page = bench.mapping(P4K, 0);
    let read_only = Mapping {
        bits: page.bits | 3,
        ..page
    };
    if let Err(status) = bench.hpt.enter(&read_only) {
        return Cost::Status(status);
    }
    // Its memory is backed, and the entry valid, before the first batch.
    let program = walk();
    cpu::set_segment(page.slb_vsid(SLB_KP), page.slb_esid(2));
    let context = bench
        .context(&program)
        .with_gpr(14, 1)
        .with_gpr(19, page.ea);
    let touched = run(context, &program, DATA);
    let cost = match touched {
        Ok(_) => reflected(bench, &Program::new().std(4, 19, 0)),
        Err(cost) => cost,
    };
    bench.hpt.remove_mapping(&read_only);
    cost
}

/// An access to the first page that ends in the guest's own data storage vector.
fn reflected(bench: &Bench, access: &Program) -> Cost {
    let mut words = [insn::nop(); 8];
    words[..2].copy_from_slice(&[insn::mtspr(spr::SRR0, 24), insn::rfid()]);
    patch_vector(vector::DSI, words);
    let page = bench.mapping(P4K, 0);
    cpu::set_segment(page.slb_vsid(SLB_KP), page.slb_esid(2));
    // A branch to itself stands behind the load: it must not be reached.
    let program = timed_loop(&(*access).spin().li(3, 0));
    let cost = median(BATCH, |_| {
        let mut context = bench.context(&program).with_gpr(19, page.ea);
        context.gpr[24] = context.pc + 12;
        run(context, &program, DATA)
    });
    cpu::clear_segments();
    context::install_vectors();
    cost
}
