// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Memory that nobody touched yet, and addresses where none is.
//!
//! Untouched memory reads as zero however it is reached. Real-mode accesses beyond the partition's
//! memory end in a storage interrupt that signals a missing entry (LoPAR, Reserved Virtual
//! Addresses).

use super::env::{Env, PATTERN, expect_dsi, expect_isi};
use penstock_guest_rt::context::Context;
use penstock_guest_rt::cpu;
use penstock_guest_rt::hpt::{Mapping, P4K, P16M, P64K, PageSize};
use penstock_guest_rt::insn::Program;
use penstock_guest_rt::memory::Range;
use penstock_guest_rt::mmu::{self, DATA};
use penstock_guest_rt::number::{msr, vector};
use penstock_guest_rt::suite::{
    Check, Failure, Outcome, expect, expect_at, expect_completed, expect_interrupt,
};

/// The checks of this file.
pub const CHECKS: &[Check<Env>] = &[
    Check {
        name: "first-touch-in-real-mode-reads-zero",
        run: real_mode,
    },
    Check {
        name: "first-touch-by-a-store-keeps-the-rest-zero",
        run: real_mode_store,
    },
    Check {
        name: "first-touch-through-a-4k-page",
        run: |env| mapped(env, P4K),
    },
    Check {
        name: "first-touch-through-a-64k-page",
        run: |env| mapped(env, P64K),
    },
    Check {
        name: "first-touch-through-a-16m-page",
        run: |env| mapped(env, P16M),
    },
    Check {
        name: "first-touch-by-a-fetch",
        run: fetch,
    },
    Check {
        name: "first-touch-across-a-64k-boundary",
        run: across,
    },
    Check {
        name: "first-touch-keeps-every-register",
        run: registers,
    },
    Check {
        name: "first-touch-of-every-64k-of-32m",
        run: many,
    },
    Check {
        name: "real-mode-load-beyond-memory",
        run: load_beyond,
    },
    Check {
        name: "real-mode-store-beyond-memory",
        run: store_beyond,
    },
    Check {
        name: "real-mode-fetch-beyond-memory",
        run: fetch_beyond,
    },
    Check {
        name: "real-mode-ignores-the-upper-address-bits",
        run: upper_bits,
    },
];

const PIECE: u64 = 1 << 16;

/// A part of 16 MiB that nobody touched: real mode may be backed in pages of that size, and one
/// check's access must not prepare another's.
fn fresh(env: &Env, bytes: u64) -> Result<Range, Failure> {
    let block = env
        .boot
        .memory
        .fresh(1 << 24)
        .ok_or(Failure::Skip("too little memory"))?;
    Ok(block.part((1 << 23) & !(bytes - 1), bytes))
}

fn real_mode(env: &mut Env) -> Outcome {
    let range = fresh(env, 8 * PIECE)?;
    for piece in 0..8 {
        let part = range.part(piece * PIECE, PIECE);
        for offset in (0..PIECE).step_by(8) {
            expect_at("memory", part.base() + offset, part.read(offset), 0)?;
        }
        part.write(8 * piece, PATTERN);
    }
    for piece in 0..8 {
        expect_at(
            "pattern",
            piece,
            range.read(piece * PIECE + 8 * piece),
            PATTERN,
        )?;
    }
    Ok(())
}

fn real_mode_store(env: &mut Env) -> Outcome {
    let range = fresh(env, PIECE)?;
    range.write(0x7008, PATTERN);
    for offset in (0..PIECE).step_by(8) {
        let want = if offset == 0x7008 { PATTERN } else { 0 };
        expect_at("memory", offset, range.read(offset), want)?;
    }
    Ok(())
}

fn mapped(env: &mut Env, size: PageSize) -> Outcome {
    if !mmu::has_page_size(&env.boot.fdt, &size) {
        return Err(Failure::Skip("not in ibm,segment-page-sizes"));
    }
    let bytes = (1 << size.actual).max(PIECE);
    let range = fresh(env, bytes)?;
    let mapping = Mapping {
        real: range.base(),
        ..env.mapping(size, 0)
    };
    let index = env.map(&mapping)?;
    let last = (1 << size.actual) - 8;
    for offset in [last, 0, (last / 2) & !7] {
        let context = mmu::load(mapping.ea + offset, DATA);
        expect_completed("load", &context, 1)?;
        expect_at("loaded", offset, context.gpr[4], 0)?;
    }
    expect_completed("store", &mmu::store(mapping.ea + last, PATTERN, DATA), 1)?;
    expect("stored", range.read(last), PATTERN)?;
    for offset in (0..bytes).step_by(0x1000) {
        expect_at("memory", offset, range.read(offset), 0)?;
    }
    env.unmap(&[index])
}

fn fetch(env: &mut Env) -> Outcome {
    // Zeroed memory holds the illegal instruction.
    let range = fresh(env, PIECE)?;
    let mut context = Context::new(range.base() + 0x100, msr::KERNEL);
    context.run();
    expect_interrupt("interrupt", &context, vector::PROGRAM, range.base() + 0x100)?;
    expect("SRR1", context.srr1, msr::KERNEL | 0x8_0000)
}

fn across(env: &mut Env) -> Outcome {
    let range = fresh(env, 2 * PIECE)?;
    let program = Program::new().std(4, 3, 0).ld(5, 3, 0);
    let at = range.base() + PIECE - 4;
    let context = mmu::access(&program, at, PATTERN, msr::KERNEL);
    expect_completed("access", &context, 2)?;
    expect("loaded", context.gpr[5], PATTERN)?;
    expect("below", range.read(PIECE - 8), PATTERN << 32)?;
    expect("above", range.read(PIECE), PATTERN >> 32)
}

fn registers(env: &mut Env) -> Outcome {
    let range = fresh(env, 4 * PIECE)?;
    for (piece, program) in (0u64..).zip([
        Program::new().ld(3, 3, 0),
        Program::new().std(4, 3, 0),
        Program::new().dcbz(3),
        Program::new().ldarx(3, 0, 3),
    ]) {
        let mut context = Context::with_program(&program);
        for (number, register) in (0u64..).zip(&mut context.gpr) {
            *register = PATTERN ^ number << 8;
        }
        context.gpr[3] = range.base() + piece * PIECE;
        context.cr = 0x9876_5432;
        context.xer = 0x8000_0000;
        context.ctr = PATTERN ^ 1;
        context.lr = PATTERN ^ 2;
        let before = context;
        context.run();
        expect_completed("access", &context, 1)?;
        for (number, register) in context.gpr.iter().enumerate() {
            if number != 3 {
                expect_at("register", number as u64, *register, before.gpr[number])?;
            }
        }
        expect("CR", context.cr, before.cr)?;
        expect("XER", context.xer, before.xer)?;
        expect("CTR", context.ctr, before.ctr)?;
        expect("LR", context.lr, before.lr)?;
    }
    cpu::sync();
    Ok(())
}

/// Every piece of 32 MiB, through a 64K page of its own: zero at first, and nobody else's later.
fn many(env: &mut Env) -> Outcome {
    let range = env
        .boot
        .memory
        .fresh(1 << 25)
        .ok_or(Failure::Skip("too little memory"))?;
    env.need(&P64K)?;
    let pieces = range.bytes() / PIECE;
    let at = |piece: u64| piece * PIECE + ((piece * 0x1238) & 0xfff8);
    for piece in 0..pieces {
        let real = range.base() + piece * PIECE;
        let mapping = Mapping {
            real,
            ..env.mapping(P64K, piece * PIECE)
        };
        let index = env.map(&mapping)?;
        let context = mmu::access(
            &Program::new().ld(5, 3, 0).std(4, 3, 0),
            mapping.ea + at(piece) - piece * PIECE,
            PATTERN ^ piece,
            DATA,
        );
        expect_completed("access", &context, 2)?;
        expect_at("loaded", piece, context.gpr[5], 0)?;
        env.unmap(&[index])?;
    }
    for piece in 0..pieces {
        expect_at("stored", piece, range.read(at(piece)), PATTERN ^ piece)?;
    }
    Ok(())
}

fn beyond(env: &Env) -> [u64; 4] {
    let end = env.boot.memory.end();
    [end, end + 0x1_2340, end + (1 << 30), 1 << 38]
}

fn load_beyond(env: &mut Env) -> Outcome {
    for at in beyond(env) {
        expect_dsi(&mmu::load(at, msr::KERNEL), 0x4000_0000, at)?;
    }
    Ok(())
}

fn store_beyond(env: &mut Env) -> Outcome {
    for at in beyond(env) {
        expect_dsi(&mmu::store(at, 1, msr::KERNEL), 0x4200_0000, at)?;
    }
    Ok(())
}

fn fetch_beyond(env: &mut Env) -> Outcome {
    for at in beyond(env) {
        let mut context = Context::new(at, msr::KERNEL);
        context.run();
        expect_isi(&context, 0x4000_0000)?;
    }
    Ok(())
}

fn upper_bits(env: &mut Env) -> Outcome {
    env.work.write(0x40, PATTERN);
    let at = 0xc000_0000_0000_0000 | (env.work.base() + 0x40);
    let context = mmu::load(at, msr::KERNEL);
    expect_completed("load", &context, 1)?;
    expect("value", context.gpr[4], PATTERN)
}
