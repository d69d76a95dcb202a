// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What is needed to work on the interrupt controller in XIVE exploitation mode.
//!
//! The pages are mapped caching-inhibited and guarded, and are used with data relocation on. They
//! are big-endian, the guest is not: a doubleword's low byte is the high one here, and of the two
//! bytes of an acknowledge the first is the low one (LoPAR, H_INT_GET_SOURCE_INFO to H_INT_RESET; PowerPC External
//! Interrupt Virtualization Engine Nodes).

use super::env::{EA, Env, VSID, status_of};
use penstock_guest_rt::context::Context;
use penstock_guest_rt::fdt::{Node, doubleword};
use penstock_guest_rt::hcall;
use penstock_guest_rt::hpt::{Mapping, P64K, R_G, R_I, Segment};
use penstock_guest_rt::insn::Program;
use penstock_guest_rt::memory::Range;
use penstock_guest_rt::mmu::DATA;
use penstock_guest_rt::number::hcall::{CPPR, EOI, IPI, IPOLL, XIRR, XIRR_X};
pub use penstock_guest_rt::number::hcall::{
    INT_ESB as ESB, INT_GET_OS_REPORTING_LINE as GET_LINE,
    INT_GET_QUEUE_CONFIG as GET_QUEUE_CONFIG, INT_GET_QUEUE_INFO as GET_QUEUE_INFO,
    INT_GET_SOURCE_CONFIG as GET_SOURCE_CONFIG, INT_GET_SOURCE_INFO as GET_SOURCE_INFO,
    INT_RESET as RESET, INT_SET_OS_REPORTING_LINE as SET_LINE,
    INT_SET_QUEUE_CONFIG as SET_QUEUE_CONFIG, INT_SET_SOURCE_CONFIG as SET_SOURCE_CONFIG,
    INT_SYNC as SYNC,
};
use penstock_guest_rt::number::{msr, status, vector};
use penstock_guest_rt::suite::{Failure, Outcome, expect, expect_at, expect_completed};

/// Every call of exploitation mode.
pub const CALLS: [u64; 11] = [
    GET_SOURCE_INFO,
    SET_SOURCE_CONFIG,
    GET_SOURCE_CONFIG,
    GET_QUEUE_INFO,
    SET_QUEUE_CONFIG,
    GET_QUEUE_CONFIG,
    SET_LINE,
    GET_LINE,
    ESB,
    SYNC,
    RESET,
];
/// Every call of the other mode.
pub const XICS: [u64; 6] = [EOI, CPPR, IPI, IPOLL, XIRR, XIRR_X];

const LONG_BUSY: u64 = 9900;

/// The priority that the checks use.
pub const PRIORITY: u64 = 6;
/// What the entries of source 0 say.
pub const EISN: u64 = 0x1234;
pub const NOWHERE: u64 = u64::MAX;

/// Whether the tree of this partition says so.
pub fn is_on(env: &Env) -> bool {
    env.boot.fdt.root().is_some_and(|root| {
        root.children()
            .any(|node| node.has_string("compatible", "ibm,power-ivpe"))
    })
}

/// H_INT_RESET: a controller in its first state.
///
/// # Errors
/// It is refused.
pub fn forget() -> Outcome {
    loop {
        let status = status_of(RESET, [0; 4]);
        if status != LONG_BUSY {
            return expect("H_INT_RESET", status, status::SUCCESS);
        }
    }
}

/// The trigger and management pages of source 0 and the thread registers, mapped.
pub struct Pages {
    /// Their entries of the page table.
    pub entries: [u64; 3],
}

impl Pages {
    /// Where it is mapped.
    pub const TRIGGER: u64 = EA;
    /// Where it is mapped.
    pub const MANAGEMENT: u64 = EA + 0x1_0000;
    /// Where it is mapped.
    pub const TIMA: u64 = EA + 0x2_0000;

    pub fn map(env: &Env) -> Result<Self, Failure> {
        let info = hcall::call(GET_SOURCE_INFO, [0, 0, 0, 0]);
        expect("H_INT_GET_SOURCE_INFO", info.status, status::SUCCESS)?;
        let [_, management, trigger, ..] = info.values;
        let tima = tima(env)?;
        let mut entries = [0; 3];
        for ((entry, ea), real) in entries
            .iter_mut()
            .zip([Self::TRIGGER, Self::MANAGEMENT, Self::TIMA])
            .zip([trigger, management, tima])
        {
            *entry = env.map(&page(ea, real))?;
        }
        Ok(Self { entries })
    }

    /// A load of 8 bytes from the management page: the device's number.
    pub fn load(&self, at: i16) -> Result<u64, Failure> {
        load(Self::MANAGEMENT, at)
    }

    pub fn trigger(&self) -> Outcome {
        let program = Program::new().sync().std(5, 4, 0);
        run("trigger", &program, Self::TRIGGER).map(|_| ())
    }

    pub fn set_cppr(&self, cppr: u64) -> Outcome {
        let program = Program::new().stb(5, 4, 0x11).sync();
        let context = Context::with_program(&program)
            .with_msr(DATA)
            .with_gpr(4, Self::TIMA)
            .with_gpr(5, cppr);
        completed("CPPR", context, &program).map(|_| ())
    }

    /// NSR and CPPR of an acknowledge.
    pub fn acknowledge(&self) -> Result<(u64, u64), Failure> {
        let program = Program::new().lhz(5, 4, 0x810).sync();
        let context = run("acknowledge", &program, Self::TIMA)?;
        Ok((context.gpr[5] & 0xff, context.gpr[5] >> 8 & 0xff))
    }

    /// An interrupt is there, of the checks' priority; takes it.
    pub fn accept(&self) -> Outcome {
        let (nsr, cppr) = self.acknowledge()?;
        expect("NSR", nsr & 0x80, 0x80)?;
        expect("CPPR", cppr, PRIORITY)
    }

    /// Lets interrupts in for a while; the vector that came.
    pub fn open(&self) -> u64 {
        let program = Program::new().nop().bdnz(-1);
        let mut context = Context::with_program(&program).with_msr(msr::KERNEL | msr::EE);
        context.ctr = 5000;
        context.run();
        context.vector
    }

    pub fn expect_external(&self) -> Outcome {
        expect("vector", self.open(), vector::EXTERNAL)
    }

    pub fn expect_quiet(&self) -> Outcome {
        expect("vector with EE on", self.open(), vector::PROGRAM)
    }

    /// Takes whatever is pending, at the end of a check.
    pub fn drain(&self) -> Outcome {
        for _ in 0..16 {
            self.set_cppr(0xff)?;
            if self.acknowledge()?.0 & 0x80 == 0 {
                return self.set_cppr(0);
            }
        }
        Err(Failure::Unfit {
            what: "acknowledges that take something",
            got: 16,
            want: "fewer",
        })
    }
}

/// A page of the controller, at this address.
pub fn page(ea: u64, real: u64) -> Mapping {
    Mapping {
        ea,
        vsid: VSID,
        segment: Segment::T1,
        size: P64K,
        real,
        bits: R_I | R_G | 2,
    }
}

pub fn completed(
    what: &'static str,
    mut context: Context,
    program: &Program,
) -> Result<Context, Failure> {
    context.run();
    expect_completed(what, &context, program.len() as u64)?;
    Ok(context)
}

pub fn run(what: &'static str, program: &Program, base: u64) -> Result<Context, Failure> {
    let context = Context::with_program(program)
        .with_msr(DATA)
        .with_gpr(4, base)
        .with_gpr(5, 0);
    completed(what, context, program)
}

pub fn load(base: u64, at: i16) -> Result<u64, Failure> {
    let context = run("load", &Program::new().ld(5, 4, at).sync(), base)?;
    Ok(context.gpr[5].swap_bytes())
}

pub fn controller(env: &Env) -> Result<Node<'static>, Failure> {
    env.boot
        .fdt
        .root()
        .and_then(|root| {
            root.children()
                .find(|node| node.has_string("compatible", "ibm,power-ivpe"))
        })
        .ok_or(Failure::Unfit {
            what: "ibm,power-ivpe",
            got: 0,
            want: "present",
        })
}

/// The OS's page of the thread registers: the second range.
///
/// # Errors
/// The tree does not say it.
pub fn tima(env: &Env) -> Result<u64, Failure> {
    controller(env)?
        .property("reg")
        .and_then(|reg| doubleword(reg, 16))
        .ok_or(Failure::Unfit {
            what: "reg",
            got: 0,
            want: "two ranges",
        })
}

pub fn set_queue(env: &Env, flags: u64, base: u64, size: u64) -> u64 {
    set_queue_of(env.server, flags, base, size)
}

/// H_INT_SET_QUEUE_CONFIG of the checks' priority of a processor; its status.
pub fn set_queue_of(server: u64, flags: u64, base: u64, size: u64) -> u64 {
    let mut arguments = [0; 9];
    arguments[..5].copy_from_slice(&[flags, server, PRIORITY, base, size]);
    hcall::call_with(SET_QUEUE_CONFIG, arguments).status
}

/// H_INT_SET_SOURCE_CONFIG; its status.
pub fn set_source(flags: u64, lisn: u64, target: u64, priority: u64, eisn: u64) -> u64 {
    let mut arguments = [0; 9];
    arguments[..5].copy_from_slice(&[flags, lisn, target, priority, eisn]);
    hcall::call_with(SET_SOURCE_CONFIG, arguments).status
}

/// A queue in zeroed memory, source 0 aimed at it and on, and everything let through.
pub fn set_up(env: &Env, pages: &Pages, queue: &Range, size: u64) -> Outcome {
    queue.fill(0);
    let set = set_queue(env, 1, queue.base(), size);
    expect_at("H_INT_SET_QUEUE_CONFIG", size, set, status::SUCCESS)?;
    let aimed = set_source(2, 0, env.server, PRIORITY, EISN);
    expect("H_INT_SET_SOURCE_CONFIG", aimed, status::SUCCESS)?;
    expect("P and Q at first", pages.load(0xc00)?, 1)?;
    pages.set_cppr(0xff)
}

/// 64 KiB of the work memory, aligned.
pub fn small(env: &Env) -> Range {
    let skip = env.work.base().wrapping_neg() & 0xffff;
    env.work.part(skip, 0x1_0000)
}

pub fn expect_entry(queue: &Range, index: u64, want: u32) -> Outcome {
    let got = queue.word_be(index * 4);
    expect_at("queue entry", index, u64::from(got), u64::from(want))
}

/// Takes what a check that failed may have left pending; the table and the segments are empty.
pub fn tidy(env: &Env) {
    if is_on(env)
        && forget().is_ok()
        && let Ok(pages) = Pages::map(env)
    {
        let _ = pages.drain();
        let _ = env.unmap(&pages.entries);
    }
}

/// Leaves in the controller what a partition that starts over must not find.
pub fn leave_behind(env: &Env) {
    let queue = small(env);
    set_queue(env, 1, queue.base(), 16);
    set_source(2, 0, env.server, PRIORITY, EISN);
    hcall::call(ESB, [0, 0, 0xc00, 0]);
    hcall::call(ESB, [1, 0, 0, 0]);
}

/// That nothing of it is left.
///
/// # Errors
/// Something is.
pub fn find_nothing(env: &Env) -> Outcome {
    let config = hcall::call(GET_QUEUE_CONFIG, [0, env.server, PRIORITY, 0]);
    expect("queue", config.values[1], NOWHERE)?;
    let source = hcall::call(GET_SOURCE_CONFIG, [0, 0, 0, 0]).values;
    expect("priority", source[1], 0xff)?;
    let pq = hcall::call(ESB, [0, 0, 0x800, 0]).values[0];
    expect("P and Q", pq, 1)?;
    let pages = Pages::map(env)?;
    let outcome = pages.set_cppr(0xff).and_then(|()| pages.expect_quiet());
    pages.set_cppr(0)?;
    env.unmap(&pages.entries)?;
    outcome
}

/// Whether a partition in exploitation mode has a call that one in the other mode may have, or the
/// other way round; `known` is what it would be without.
pub fn knows(number: u64, known: bool) -> bool {
    known && !XICS.contains(&number) || CALLS.contains(&number)
}
