// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The smaller calls: console, random numbers, page initialisation, areas of the processor.

use super::env::{Env, PATTERN, status_of};
use penstock_guest_rt::console;
use penstock_guest_rt::cpu;
use penstock_guest_rt::hcall;
use penstock_guest_rt::number::hcall::*;
use penstock_guest_rt::number::{flag, status};
use penstock_guest_rt::suite::{Check, Outcome, expect, expect_at, require};

/// The checks of this file.
pub const CHECKS: &[Check<Env>] = &[
    Check {
        name: "h-put-term-char-refuses-bad-lengths-and-terminals",
        run: put_refused,
    },
    Check {
        name: "h-put-term-char-of-nothing",
        run: put_nothing,
    },
    Check {
        name: "h-get-term-char-without-input",
        run: get,
    },
    Check {
        name: "h-random-differs",
        run: random,
    },
    Check {
        name: "h-page-init-zeroes",
        run: page_zero,
    },
    Check {
        name: "h-page-init-copies",
        run: page_copy,
    },
    Check {
        name: "h-page-init-refuses-bad-addresses",
        run: page_refused,
    },
    Check {
        name: "h-set-dabr-is-h-hardware",
        run: dabr,
    },
    Check {
        name: "h-set-sprg0",
        run: sprg0,
    },
    Check {
        name: "h-get-cpu-characteristics-is-stable",
        run: characteristics,
    },
    Check {
        name: "h-register-proc-tbl",
        run: process_table,
    },
    Check {
        name: "h-register-vpa-and-take-it-back",
        run: vpa,
    },
    Check {
        name: "h-register-vpa-refuses-bad-areas",
        run: vpa_refused,
    },
    Check {
        name: "h-register-vpa-order-of-areas",
        run: areas,
    },
];

fn put_refused(_: &mut Env) -> Outcome {
    let terminal = console::terminal();
    for len in [17, 100, 1 << 32, u64::MAX] {
        expect_at(
            "length",
            len,
            status_of(PUT_TERM_CHAR, [terminal, len, 0, 0]),
            status::PARAMETER,
        )?;
    }
    for number in [terminal + 1, u64::MAX] {
        let got = status_of(PUT_TERM_CHAR, [number, 1, 0x2100_0000_0000_0000, 0]);
        expect_at("terminal", number, got, status::PARAMETER)?;
    }
    expect(
        "get",
        status_of(GET_TERM_CHAR, [terminal + 1, 0, 0, 0]),
        status::PARAMETER,
    )
}

fn put_nothing(_: &mut Env) -> Outcome {
    let got = status_of(PUT_TERM_CHAR, [console::terminal(), 0, PATTERN, PATTERN]);
    expect("status", got, status::SUCCESS)
}

fn get(_: &mut Env) -> Outcome {
    let reply = hcall::call(GET_TERM_CHAR, [console::terminal(), 0, 0, 0]);
    expect("status", reply.status, status::SUCCESS)?;
    require("length", "at most 16", reply.values[0], |len| len <= 16)
}

fn random(_: &mut Env) -> Outcome {
    let mut last = 0;
    for _ in 0..8 {
        let reply = hcall::call(RANDOM, [0; 4]);
        expect("status", reply.status, status::SUCCESS)?;
        require("value", "another one", reply.values[0], |value| {
            value != last
        })?;
        last = reply.values[0];
    }
    Ok(())
}

fn page_zero(env: &mut Env) -> Outcome {
    let around = env.work.part(0, 0x3000);
    around.fill(PATTERN);
    let page = around.base() + 0x1000;
    expect(
        "status",
        status_of(PAGE_INIT, [flag::ZERO_PAGE, page, 0, 0]),
        status::SUCCESS,
    )?;
    for offset in (0..0x3000).step_by(8) {
        let want = if offset >> 12 == 1 { 0 } else { PATTERN };
        expect_at("memory", offset, around.read(offset), want)?;
    }
    Ok(())
}

fn page_copy(env: &mut Env) -> Outcome {
    let around = env.work.part(0, 0x5000);
    around.fill(PATTERN);
    for offset in (0..0x1000).step_by(8) {
        around.write(0x3000 + offset, offset << 32 | 0xc);
    }
    let (to, from) = (around.base() + 0x1000, around.base() + 0x3000);
    expect(
        "status",
        status_of(PAGE_INIT, [flag::COPY_PAGE, to, from, 0]),
        status::SUCCESS,
    )?;
    for offset in (0..0x5000).step_by(8) {
        let copied = offset >> 12 == 1 || offset >> 12 == 3;
        let want = if copied {
            (offset & 0xfff) << 32 | 0xc
        } else {
            PATTERN
        };
        expect_at("memory", offset, around.read(offset), want)?;
    }
    // The instruction cache may be asked for as well.
    let flags = flag::COPY_PAGE | flag::ICACHE_SYNCHRONIZE;
    expect(
        "with cache flag",
        status_of(PAGE_INIT, [flags, to, from, 0]),
        status::SUCCESS,
    )
}

fn page_refused(env: &mut Env) -> Outcome {
    let page = env.work.base();
    let end = env.boot.memory.end();
    let init = |flags, to, from| status_of(PAGE_INIT, [flags, to, from, 0]);
    for bad in [page + 8, page + 0x800, end, 1 << 45, !0xfff] {
        expect_at(
            "destination",
            bad,
            init(flag::ZERO_PAGE, bad, 0),
            status::PARAMETER,
        )?;
        expect_at(
            "source",
            bad,
            init(flag::COPY_PAGE, page, bad),
            status::PARAMETER,
        )?;
    }
    expect(
        "source when only zeroing",
        init(flag::ZERO_PAGE, page, end + 1),
        status::SUCCESS,
    )
}

fn dabr(_: &mut Env) -> Outcome {
    expect(
        "status",
        status_of(SET_DABR, [0x1234, 0, 0, 0]),
        status::HARDWARE,
    )
}

fn sprg0(_: &mut Env) -> Outcome {
    for value in [PATTERN, 0, u64::MAX] {
        expect(
            "status",
            status_of(SET_SPRG0, [value, 0, 0, 0]),
            status::SUCCESS,
        )?;
        expect("SPRG0", cpu::sprg0(), value)?;
    }
    Ok(())
}

fn characteristics(_: &mut Env) -> Outcome {
    let first = hcall::call(GET_CPU_CHARACTERISTICS, [0; 4]);
    expect("status", first.status, status::SUCCESS)?;
    let second = hcall::call(GET_CPU_CHARACTERISTICS, [0; 4]);
    expect("characteristics", second.values[0], first.values[0])?;
    expect("behaviour", second.values[1], first.values[1])
}

fn process_table(env: &mut Env) -> Outcome {
    expect(
        "all zero",
        status_of(REGISTER_PROC_TBL, [0; 4]),
        status::SUCCESS,
    )?;
    if super::boot::feature(env, 40) != 0 {
        // Where radix is offered, the calls below would switch it on.
        return Ok(());
    }
    // A radix table, and a hash table with segment tables.
    for flags in [0x1c, 0x18, 0x10] {
        let got = status_of(REGISTER_PROC_TBL, [flags, 0x10_0000, 0, 4]);
        require("with a table", "refused", got, |got| got != status::SUCCESS)?;
    }
    Ok(())
}

const VPA: u64 = 1 << 45;
const DTL: u64 = 2 << 45;
const SLB_SHADOW: u64 = 3 << 45;
const NO_VPA: u64 = 5 << 45;
const NO_DTL: u64 = 6 << 45;
const NO_SLB_SHADOW: u64 = 7 << 45;

/// Writes an area's header: its size at byte 4, two bytes for a VPA, four for the others.
fn area(env: &Env, offset: u64, size: &[u8]) -> u64 {
    let range = env.work.part(offset, 0x1000);
    range.fill(0);
    range.write_bytes(4, size);
    range.base()
}

fn register(env: &Env, function: u64, address: u64) -> u64 {
    status_of(REGISTER_VPA, [function, env.server, address, 0])
}

fn vpa(env: &mut Env) -> Outcome {
    let at = area(env, 0x2000, &[0x02, 0x80]);
    expect("register", register(env, VPA, at), status::SUCCESS)?;
    // Dispatched: the yield count is even.
    let yields = u64::from(env.work.part(0x2000, 0x1000).word_be(0x100));
    require("yield count", "even", yields, |count| count & 1 == 0)?;
    expect("register again", register(env, VPA, at), status::SUCCESS)?;
    expect("take back", register(env, NO_VPA, 0), status::SUCCESS)?;
    expect("take back again", register(env, NO_VPA, 0), status::SUCCESS)
}

fn vpa_refused(env: &mut Env) -> Outcome {
    let refused =
        |what, function, address| expect(what, register(env, function, address), status::PARAMETER);
    let at = area(env, 0x2000, &[0x02, 0x80]);
    refused("unaligned", VPA, at + 64)?;
    refused("outside memory", VPA, env.boot.memory.end())?;
    refused("far outside memory", VPA, 1 << 50)?;
    refused("too small", VPA, area(env, 0x3000, &[0x02, 0x7f]))?;
    let range = env.work.part(0x4000, 0x1000);
    range.fill(0);
    range.write_bytes(0xe04, &[0x02, 0x80]);
    refused("across a 4K boundary", VPA, range.base() + 0xe00)?;
    for server in [env.server + 1000, 1 << 32 | env.server] {
        let got = status_of(REGISTER_VPA, [VPA, server, at, 0]);
        expect_at("processor", server, got, status::PARAMETER)?;
    }
    for function in [0u64, 4 << 45, 8 << 45, 0xff << 45] {
        let got = register(env, function, at);
        require("unknown function", "refused", got, |got| {
            got != status::SUCCESS
        })?;
    }
    Ok(())
}

fn areas(env: &mut Env) -> Outcome {
    let vpa = area(env, 0x2000, &[0x02, 0x80]);
    let shadow = area(env, 0x3000, &[0, 0, 0x02, 0x80]);
    let log = area(env, 0x4000, &[0, 0, 0x10, 0]);
    expect(
        "shadow before VPA",
        register(env, SLB_SHADOW, shadow),
        status::RESOURCE,
    )?;
    expect("log before VPA", register(env, DTL, log), status::RESOURCE)?;
    expect("VPA", register(env, VPA, vpa), status::SUCCESS)?;
    expect("shadow", register(env, SLB_SHADOW, shadow), status::SUCCESS)?;
    expect(
        "VPA back while shadowed",
        register(env, NO_VPA, 0),
        status::RESOURCE,
    )?;
    expect(
        "shadow back",
        register(env, NO_SLB_SHADOW, 0),
        status::SUCCESS,
    )?;
    expect("log", register(env, DTL, log), status::SUCCESS)?;
    expect(
        "VPA back while logged",
        register(env, NO_VPA, 0),
        status::RESOURCE,
    )?;
    expect("log back", register(env, NO_DTL, 0), status::SUCCESS)?;
    let short = area(env, 0x4000, &[0, 0, 0, 47]);
    expect("short log", register(env, DTL, short), status::PARAMETER)?;
    expect("VPA back", register(env, NO_VPA, 0), status::SUCCESS)
}
