// SPDX-License-Identifier: Apache-2.0 OR MIT
//! XIVE exploitation mode, of a partition that has it: calls that configure, and interrupts that
//! need none.
//!
//! The pages are mapped caching-inhibited and guarded, and are used with data relocation on. They
//! are big-endian, the guest is not: a doubleword's low byte is the high one here, and of the two
//! bytes of an acknowledge the first is the low one (LoPAR, H_INT_GET_SOURCE_INFO to H_INT_RESET; PowerPC External
//! Interrupt Virtualization Engine Nodes).

use super::env::{EA, Env, VSID, status_of};
use penstock_guest_rt::console::println;
use penstock_guest_rt::context::Context;
use penstock_guest_rt::cpu;
use penstock_guest_rt::fdt::{Node, doubleword, word};
use penstock_guest_rt::hcall;
use penstock_guest_rt::hpt::{Mapping, P64K, R_G, R_I, Segment};
use penstock_guest_rt::insn::Program;
use penstock_guest_rt::memory::Range;
use penstock_guest_rt::mmu::DATA;
use penstock_guest_rt::number::hcall::{CEDE, CPPR, EOI, IPI, IPOLL, XIRR, XIRR_X};
use penstock_guest_rt::number::{msr, status, vector};
use penstock_guest_rt::suite::{
    Check, Failure, Outcome, expect, expect_at, expect_completed, require,
};

/// H_INT_GET_SOURCE_INFO.
pub const GET_SOURCE_INFO: u64 = 0x3a8;
const SET_SOURCE_CONFIG: u64 = 0x3ac;
const GET_SOURCE_CONFIG: u64 = 0x3b0;
const GET_QUEUE_INFO: u64 = 0x3b4;
const SET_QUEUE_CONFIG: u64 = 0x3b8;
const GET_QUEUE_CONFIG: u64 = 0x3bc;
const SET_LINE: u64 = 0x3c0;
const GET_LINE: u64 = 0x3c4;
const ESB: u64 = 0x3c8;
const SYNC: u64 = 0x3cc;
const RESET: u64 = 0x3d0;

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
const XICS: [u64; 6] = [EOI, CPPR, IPI, IPOLL, XIRR, XIRR_X];

/// The priority that the checks use.
pub const PRIORITY: u64 = 6;
/// What the entries of source 0 say.
const EISN: u64 = 0x1234;
const NOWHERE: u64 = u64::MAX;
/// IPIs of the check that counts.
const MANY: u64 = 10_000;

/// The checks of this file.
pub const CHECKS: &[Check<Env>] = &[
    Check {
        name: "xive-node",
        run: node,
    },
    Check {
        name: "xive-calls-refuse-bad-arguments",
        run: |env| quietly(env, refusals),
    },
    Check {
        name: "xics-calls-are-unknown",
        run: other_mode,
    },
    Check {
        name: "xive-configuration-reads-back",
        run: |env| quietly(env, configuration),
    },
    Check {
        name: "xive-p-and-q-by-loads-and-stores",
        run: |env| quietly(env, automaton),
    },
    Check {
        name: "xive-ipi-to-self",
        run: |env| quietly(env, ipi),
    },
    Check {
        name: "xive-ipi-is-masked-by-cppr",
        run: |env| quietly(env, masked),
    },
    Check {
        name: "xive-queue-wraps",
        run: |env| quietly(env, wraps),
    },
    Check {
        name: "xive-queues-of-all-sizes",
        run: |env| quietly(env, sizes),
    },
    Check {
        name: "xive-esb-by-call",
        run: |env| quietly(env, by_call),
    },
    Check {
        name: "xive-conditional-notification",
        run: |env| quietly(env, conditional),
    },
    Check {
        name: "xive-reporting-line",
        run: |env| quietly(env, line),
    },
    Check {
        name: "xive-interrupt-ends-h-cede",
        run: |env| quietly(env, cede),
    },
    Check {
        name: "xive-narrow-access-harms-nobody",
        run: |env| quietly(env, narrow),
    },
    Check {
        name: "xive-pages-of-others-are-not-there",
        run: |env| quietly(env, absent),
    },
    Check {
        name: "xive-reset",
        run: |env| quietly(env, reset),
    },
    Check {
        name: "xive-many-ipis",
        run: |env| quietly(env, many),
    },
];

/// Whether the tree of this partition says so.
pub fn is_on(env: &Env) -> bool {
    env.boot.fdt.root().is_some_and(|root| {
        root.children()
            .any(|node| node.has_string("compatible", "ibm,power-ivpe"))
    })
}

/// Runs a check with EE off and a decrementer that stays away, from a controller in its first state
/// and with the pages of source 0 mapped; and leaves it so.
fn quietly(env: &mut Env, check: fn(&Env, &Pages) -> Outcome) -> Outcome {
    cpu::disable_interrupts();
    cpu::set_decrementer(0x7fff_ffff);
    forget()?;
    let pages = Pages::map(env)?;
    let outcome = pages.set_cppr(0).and_then(|()| check(env, &pages));
    let quiet = pages.drain();
    env.unmap(&pages.entries)?;
    forget()?;
    outcome.and(quiet)
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

const LONG_BUSY: u64 = 9900;

/// The trigger and management pages of source 0 and the thread registers, mapped.
struct Pages {
    entries: [u64; 3],
}

impl Pages {
    const TRIGGER: u64 = EA;
    const MANAGEMENT: u64 = EA + 0x1_0000;
    const TIMA: u64 = EA + 0x2_0000;

    fn map(env: &Env) -> Result<Self, Failure> {
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
    fn load(&self, at: i16) -> Result<u64, Failure> {
        load(Self::MANAGEMENT, at)
    }

    fn trigger(&self) -> Outcome {
        let program = Program::new().sync().std(5, 4, 0);
        run("trigger", &program, Self::TRIGGER).map(|_| ())
    }

    fn set_cppr(&self, cppr: u64) -> Outcome {
        let program = Program::new().stb(5, 4, 0x11).sync();
        let context = Context::with_program(&program)
            .with_msr(DATA)
            .with_gpr(4, Self::TIMA)
            .with_gpr(5, cppr);
        completed("CPPR", context, &program).map(|_| ())
    }

    /// NSR and CPPR of an acknowledge.
    fn acknowledge(&self) -> Result<(u64, u64), Failure> {
        let program = Program::new().lhz(5, 4, 0x810).sync();
        let context = run("acknowledge", &program, Self::TIMA)?;
        Ok((context.gpr[5] & 0xff, context.gpr[5] >> 8 & 0xff))
    }

    /// An interrupt is there, of the checks' priority; takes it.
    fn accept(&self) -> Outcome {
        let (nsr, cppr) = self.acknowledge()?;
        expect("NSR", nsr & 0x80, 0x80)?;
        expect("CPPR", cppr, PRIORITY)
    }

    /// Lets interrupts in for a while; the vector that came.
    fn open(&self) -> u64 {
        let program = Program::new().nop().bdnz(-1);
        let mut context = Context::with_program(&program).with_msr(msr::KERNEL | msr::EE);
        context.ctr = 5000;
        context.run();
        context.vector
    }

    fn expect_external(&self) -> Outcome {
        expect("vector", self.open(), vector::EXTERNAL)
    }

    fn expect_quiet(&self) -> Outcome {
        expect("vector with EE on", self.open(), vector::PROGRAM)
    }

    /// Takes whatever is pending, at the end of a check.
    fn drain(&self) -> Outcome {
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

fn completed(
    what: &'static str,
    mut context: Context,
    program: &Program,
) -> Result<Context, Failure> {
    context.run();
    expect_completed(what, &context, program.len() as u64)?;
    Ok(context)
}

fn run(what: &'static str, program: &Program, base: u64) -> Result<Context, Failure> {
    let context = Context::with_program(program)
        .with_msr(DATA)
        .with_gpr(4, base)
        .with_gpr(5, 0);
    completed(what, context, program)
}

fn load(base: u64, at: i16) -> Result<u64, Failure> {
    let context = run("load", &Program::new().ld(5, 4, at).sync(), base)?;
    Ok(context.gpr[5].swap_bytes())
}

fn controller(env: &Env) -> Result<Node<'static>, Failure> {
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

fn set_queue(env: &Env, flags: u64, base: u64, size: u64) -> u64 {
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
fn set_up(env: &Env, pages: &Pages, queue: &Range, size: u64) -> Outcome {
    queue.fill(0);
    let set = set_queue(env, 1, queue.base(), size);
    expect_at("H_INT_SET_QUEUE_CONFIG", size, set, status::SUCCESS)?;
    let aimed = set_source(2, 0, env.server, PRIORITY, EISN);
    expect("H_INT_SET_SOURCE_CONFIG", aimed, status::SUCCESS)?;
    expect("P and Q at first", pages.load(0xc00)?, 1)?;
    pages.set_cppr(0xff)
}

/// 64 KiB of the work memory, aligned.
fn small(env: &Env) -> Range {
    let skip = env.work.base().wrapping_neg() & 0xffff;
    env.work.part(skip, 0x1_0000)
}

fn expect_entry(queue: &Range, index: u64, want: u32) -> Outcome {
    let got = queue.word_be(index * 4);
    expect_at("queue entry", index, u64::from(got), u64::from(want))
}

const FIRST_ROUND: u32 = 0x8000_1234;
const SECOND_ROUND: u32 = 0x0000_1234;

fn node(env: &mut Env) -> Outcome {
    let node = controller(env)?;
    let reg = node.property("reg").unwrap_or(&[]);
    for (at, want) in [0x6_0302_031b_0000, 0x1_0000, 0x6_0302_031a_0000, 0x1_0000]
        .into_iter()
        .enumerate()
    {
        let got = doubleword(reg, at * 8).unwrap_or(0);
        expect_at("reg", at as u64, got, want)?;
    }
    let sizes = node.property("ibm,xive-eq-sizes").unwrap_or(&[]);
    for (at, want) in [12, 16, 21, 24].into_iter().enumerate() {
        let got = word(sizes, at * 4).map_or(0, u64::from);
        expect_at("ibm,xive-eq-sizes", at as u64, got, want)?;
    }
    let ranges = node.property("ibm,xive-lisn-ranges").unwrap_or(&[]);
    expect("first number", word(ranges, 0).map_or(1, u64::from), 0)?;
    let count = word(ranges, 4).map_or(0, u64::from);
    require("numbers", "one at least", count, |count| count > 0)?;
    let root = env.boot.fdt.root();
    let reserved = root.and_then(|root| root.property("ibm,plat-res-int-priorities"));
    let reserved = reserved.and_then(|list| doubleword(list, 0)).unwrap_or(0);
    expect("ibm,plat-res-int-priorities", reserved, 7 << 32 | 0xf8)
}

fn refusals(env: &Env, _: &Pages) -> Outcome {
    for call in CALLS {
        let status = hcall::call_with(call, [NOWHERE; 9]).status;
        expect_at("reserved flags", call, status, status::PARAMETER)?;
    }
    let server = env.server;
    for (what, got, want) in [
        ("number", set_source(2, 0x2000, server, 6, 0), status::P2),
        ("number", set_source(2, 0xfff, server, 6, 0), status::P2),
        ("target", set_source(2, 0, server + 1000, 6, 0), status::P3),
        ("priority", set_source(2, 0, server, 7, 0), status::P4),
        ("size", set_queue(env, 1, 0, 20), P5),
        ("alignment", set_queue(env, 1, 0x800, 12), status::P4),
        ("memory", set_queue(env, 1, 1 << 60, 12), status::P4),
        ("offset", status_of(ESB, [0, 0, 0x1000, 0]), status::P3),
        ("line", status_of(SET_LINE, [0, 0x80, 0, 0]), status::P2),
        (
            "target",
            status_of(GET_LINE, [0, server + 1000, 0, 0]),
            status::P2,
        ),
        ("number", status_of(SYNC, [0, NOWHERE, 0, 0]), status::P2),
    ] {
        expect(what, got, want)?;
    }
    Ok(())
}

const P5: u64 = 0u64.wrapping_sub(58);

fn other_mode(_: &mut Env) -> Outcome {
    for call in XICS {
        expect_at("status", call, status_of(call, [0; 4]), status::FUNCTION)?;
    }
    Ok(())
}

fn configuration(env: &Env, _: &Pages) -> Outcome {
    let queue = small(env);
    let config = |flags| hcall::call(GET_QUEUE_CONFIG, [flags, env.server, PRIORITY, 0]).values;
    expect("queue at first", config(0)[1], NOWHERE)?;
    let set = set_queue(env, 1, queue.base(), 16);
    expect("H_INT_SET_QUEUE_CONFIG", set, status::SUCCESS)?;
    let [flags, base, size, offset, ..] = config(1);
    expect("flags", flags, 3)?;
    expect("queue", base, queue.base())?;
    expect("size", size, 16)?;
    expect("offset", offset, 0)?;
    let source = || hcall::call(GET_SOURCE_CONFIG, [0, 0, 0, 0]).values;
    expect("priority at first", source()[1], 0xff)?;
    expect("EISN at first", source()[2], 0)?;
    let aimed = set_source(2, 0, env.server, 3, 0x7fff_ffff);
    expect("H_INT_SET_SOURCE_CONFIG", aimed, status::SUCCESS)?;
    let [target, priority, eisn, ..] = source();
    expect("target", target, env.server)?;
    expect("priority", priority, 3)?;
    expect("EISN", eisn, 0x7fff_ffff)?;
    let nowhere = set_source(0, 0, 0, 0xff, 0);
    expect("H_INT_SET_SOURCE_CONFIG", nowhere, status::SUCCESS)?;
    expect("priority at last", source()[1], 0xff)
}

fn automaton(_: &Env, pages: &Pages) -> Outcome {
    expect("at first", pages.load(0x800)?, 1)?;
    pages.trigger()?;
    expect("off", pages.load(0x800)?, 1)?;
    expect("set to 00", pages.load(0xc00)?, 1)?;
    pages.trigger()?;
    expect("pending", pages.load(0x800)?, 2)?;
    pages.trigger()?;
    expect("queued", pages.load(0x800)?, 3)?;
    expect("end", pages.load(0)?, 1)?;
    expect("pending again", pages.load(0x800)?, 2)?;
    expect("end", pages.load(0)?, 0)?;
    expect("reset", pages.load(0x800)?, 0)?;
    expect("set to 11", pages.load(0xf00)?, 0)?;
    expect("set to 10", pages.load(0xe00)?, 3)?;
    expect("set to 01", pages.load(0xd00)?, 2)
}

fn ipi(env: &Env, pages: &Pages) -> Outcome {
    let queue = small(env);
    set_up(env, pages, &queue, 12)?;
    pages.trigger()?;
    pages.expect_external()?;
    pages.accept()?;
    expect_entry(&queue, 0, FIRST_ROUND)?;
    expect_entry(&queue, 1, 0)?;
    pages.expect_quiet()?;
    // One that came meanwhile comes at the end of this one.
    pages.trigger()?;
    expect_entry(&queue, 1, 0)?;
    expect("end", pages.load(0)?, 1)?;
    expect_entry(&queue, 1, FIRST_ROUND)?;
    pages.set_cppr(0xff)?;
    pages.expect_external()?;
    pages.accept()
}

fn masked(env: &Env, pages: &Pages) -> Outcome {
    let queue = small(env);
    set_up(env, pages, &queue, 12)?;
    for cppr in [0, 3, 6] {
        pages.set_cppr(cppr)?;
        pages.trigger()?;
        pages.expect_quiet()?;
        pages.set_cppr(0xff)?;
        pages.expect_external()?;
        pages.accept()?;
        pages.load(0)?;
    }
    Ok(())
}

fn wraps(env: &Env, pages: &Pages) -> Outcome {
    let queue = small(env);
    set_up(env, pages, &queue, 12)?;
    for _ in 0..1025 {
        pages.trigger()?;
        pages.load(0)?;
    }
    expect_entry(&queue, 0, SECOND_ROUND)?;
    expect_entry(&queue, 1, FIRST_ROUND)?;
    expect_entry(&queue, 1023, FIRST_ROUND)?;
    let config = hcall::call(GET_QUEUE_CONFIG, [1, env.server, PRIORITY, 0]).values;
    expect("flags", config[0], 1)?;
    expect("offset", config[3], 1)
}

fn sizes(env: &Env, pages: &Pages) -> Outcome {
    for size in [12, 16, 21, 24] {
        require(
            "work memory",
            "16 MiB on their boundary",
            env.work.base(),
            |base| env.boot.memory.has_huge() && base % (1 << 24) == 0,
        )?;
        let queue = env.work.part(0, 1 << size);
        queue.part(0, 0x1000).fill(0);
        let set = set_queue(env, 1, queue.base(), size);
        expect_at("H_INT_SET_QUEUE_CONFIG", size, set, status::SUCCESS)?;
        let aimed = set_source(2, 0, env.server, PRIORITY, EISN);
        expect("H_INT_SET_SOURCE_CONFIG", aimed, status::SUCCESS)?;
        pages.load(0xc00)?;
        pages.trigger()?;
        expect_entry(&queue, 0, FIRST_ROUND)?;
        expect_entry(&queue, 1, 0)?;
        pages.load(0xd00)?;
    }
    Ok(())
}

fn by_call(env: &Env, pages: &Pages) -> Outcome {
    let queue = small(env);
    set_up(env, pages, &queue, 12)?;
    let stored = hcall::call(ESB, [1, 0, 0, 0]);
    expect("store", stored.status, status::SUCCESS)?;
    expect("value", stored.values[0], NOWHERE)?;
    expect_entry(&queue, 0, FIRST_ROUND)?;
    let load = |at| hcall::call(ESB, [0, 0, at, 0]).values[0];
    expect("pending", load(0x800), 2)?;
    expect("set to 01", load(0xd00), 2)?;
    expect("off, by the page", pages.load(0x800)?, 1)?;
    expect("H_INT_SYNC", status_of(SYNC, [0; 4]), status::SUCCESS)
}

fn conditional(env: &Env, pages: &Pages) -> Outcome {
    let queue = small(env);
    set_up(env, pages, &queue, 12)?;
    let info = hcall::call(GET_QUEUE_INFO, [0, env.server, PRIORITY, 0]);
    expect("H_INT_GET_QUEUE_INFO", info.status, status::SUCCESS)?;
    expect("page size", info.values[1], 16)?;
    queue.fill(0);
    let set = set_queue(env, 0, queue.base(), 12);
    expect("H_INT_SET_QUEUE_CONFIG", set, status::SUCCESS)?;
    let ea = EA + 0x3_0000;
    let entry = env.map(&page(ea, info.values[0]))?;
    let outcome = (|| {
        load(ea, 0xd00)?;
        pages.load(0xc00)?;
        pages.trigger()?;
        pages.expect_quiet()?;
        expect_entry(&queue, 0, FIRST_ROUND)?;
        expect("notification bits", load(ea, 0xc00)?, 1)?;
        pages.load(0xc00)?;
        pages.trigger()?;
        pages.expect_external()?;
        pages.accept()?;
        pages.set_cppr(0xff)?;
        expect("notification bits", load(ea, 0x800)?, 2)?;
        pages.load(0xc00)?;
        pages.trigger()?;
        pages.expect_quiet()?;
        expect_entry(&queue, 2, FIRST_ROUND)?;
        expect("notification bits", load(ea, 0xd00)?, 3)
    })();
    let removed = env.hpt.remove(entry).status;
    expect("H_REMOVE", removed, status::SUCCESS)?;
    outcome
}

fn line(env: &Env, pages: &Pages) -> Outcome {
    let queue = small(env);
    set_up(env, pages, &queue, 12)?;
    let get = || hcall::call(GET_LINE, [0, env.server, 0, 0]).values[0];
    expect("line at first", get(), NOWHERE)?;
    let at = queue.base() + 0x8000;
    // Pending and not let through: it must not be lost.
    pages.set_cppr(5)?;
    pages.trigger()?;
    let set = status_of(SET_LINE, [0, at, 0, 0]);
    expect("H_INT_SET_OS_REPORTING_LINE", set, status::SUCCESS)?;
    expect("line", get(), at)?;
    let mut found = false;
    for _ in 0..8 {
        pages.set_cppr(0xff)?;
        let (nsr, cppr) = pages.acknowledge()?;
        if nsr & 0x80 == 0 {
            break;
        }
        found |= cppr == PRIORITY;
    }
    require("interrupt", "not lost", u64::from(found), |found| {
        found != 0
    })?;
    expect_entry(&queue, 0, FIRST_ROUND)?;
    let unset = status_of(SET_LINE, [0, NOWHERE, 0, 0]);
    expect("H_INT_SET_OS_REPORTING_LINE", unset, status::SUCCESS)?;
    expect("line at last", get(), NOWHERE)
}

fn cede(env: &Env, pages: &Pages) -> Outcome {
    let queue = small(env);
    set_up(env, pages, &queue, 12)?;
    let before = cpu::timebase();
    pages.trigger()?;
    let mut context = Context::with_program(&Program::new().sc(1)).with_gpr(3, CEDE);
    context.run();
    let ticks = cpu::timebase() - before;
    expect("vector", context.vector, vector::EXTERNAL)?;
    expect("status", context.gpr[3], status::SUCCESS)?;
    require("ticks", "less than the decrementer's", ticks, |t| {
        t < 0x3fff_ffff
    })?;
    pages.accept()
}

/// The window of powernv9 answers a load of 4 bytes with a machine check, which is the guest's own;
/// other machines answer it.
fn narrow(_: &Env, pages: &Pages) -> Outcome {
    for _ in 0..3 {
        let program = Program::new().lwz(5, 4, 0x800).sync();
        let mut context = Context::with_program(&program)
            .with_msr(DATA)
            .with_gpr(4, Pages::MANAGEMENT);
        context.run();
        require("vector", "0x200 or 0x700", context.vector, |v| {
            v == vector::MACHINE_CHECK || v == vector::PROGRAM
        })?;
    }
    expect("P and Q", pages.load(0x800)?, 1)
}

fn absent(env: &Env, _: &Pages) -> Outcome {
    let notification = hcall::call(GET_QUEUE_INFO, [0, env.server, PRIORITY, 0]).values[0];
    // The escalation's page behind it is in the window, and nothing is there.
    let ea = EA + 0x3_0000;
    let entry = env.map(&page(ea, notification + 0x1_0000))?;
    let program = Program::new().ld(5, 4, 0x800);
    let mut context = Context::with_program(&program)
        .with_msr(DATA)
        .with_gpr(4, ea);
    context.run();
    expect("H_REMOVE", env.hpt.remove(entry).status, status::SUCCESS)?;
    expect("vector", context.vector, vector::DSI)?;
    // What is outside of all windows cannot be entered.
    let tima = tima(env)?;
    for real in [
        tima - 0x1_0000,
        tima - 0x2_0000,
        tima + 0x1_0000,
        0x6_0100_1000_0000,
    ] {
        match env.hpt.enter(&page(ea, real)) {
            Err(status) => expect_at("H_ENTER", real, status, status::PARAMETER)?,
            Ok(index) => {
                env.hpt.remove(index);
                return Err(Failure::Unfit {
                    what: "page",
                    got: real,
                    want: "not the partition's",
                });
            }
        }
    }
    Ok(())
}

fn reset(env: &Env, pages: &Pages) -> Outcome {
    let queue = small(env);
    set_up(env, pages, &queue, 12)?;
    forget()?;
    expect("P and Q", pages.load(0x800)?, 1)?;
    let source = hcall::call(GET_SOURCE_CONFIG, [0, 0, 0, 0]).values;
    expect("priority", source[1], 0xff)?;
    let config = hcall::call(GET_QUEUE_CONFIG, [0, env.server, PRIORITY, 0]).values;
    expect("queue", config[1], NOWHERE)
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

/// From the store that sends it to the end: acknowledge, a look at the queue, end, CPPR.
fn many(env: &Env, pages: &Pages) -> Outcome {
    let queue = small(env);
    set_up(env, pages, &queue, 16)?;
    let program = Program::new()
        .std(8, 4, 0)
        .lhz(9, 6, 0x810)
        .ld(10, 5, 0xc00)
        .stb(7, 6, 0x11)
        .bdnz(-4);
    let mut context = Context::with_program(&program)
        .with_msr(DATA)
        .with_gpr(4, Pages::TRIGGER)
        .with_gpr(5, Pages::MANAGEMENT)
        .with_gpr(6, Pages::TIMA)
        .with_gpr(7, 0xff)
        .with_gpr(8, 0);
    context.ctr = MANY;
    let before = cpu::timebase();
    let context = completed("IPIs", context, &program)?;
    let ticks = cpu::timebase() - before;
    expect("the last acknowledge", context.gpr[9], PRIORITY << 8 | 0x80)?;
    for index in [0, 1, MANY - 1] {
        expect_entry(&queue, index, FIRST_ROUND)?;
    }
    expect_entry(&queue, MANY, 0)?;
    println!("builtin: {MANY} IPIs by XIVE took {ticks} ticks");
    Ok(())
}
