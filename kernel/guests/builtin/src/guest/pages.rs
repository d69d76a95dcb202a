// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Page and segment sizes: each mapping reaches exactly the memory that it names.
//!
//! Memory is written through the mapping and compared in real mode, and the other way round, at the
//! page's first and last doubleword and in between.

use super::env::{EA_SMALL, Env, VSID_SMALL, expect_dsi};
use penstock_guest_rt::hcall;
use penstock_guest_rt::hpt::{
    Mapping, P4K, P4K_16M, P4K_64K, P16M, P64K, P64K_16M, PageSize, Segment, V_SECONDARY,
};
use penstock_guest_rt::mmu::{self, DATA};
use penstock_guest_rt::number::{hcall::ENTER, status};
use penstock_guest_rt::suite::{Check, Failure, Outcome, expect, expect_at, expect_completed};

/// The checks of this file.
pub const CHECKS: &[Check<Env>] = &[
    Check {
        name: "page-4k-in-256m-segment",
        run: |env| whole(env, P4K, Segment::M256),
    },
    Check {
        name: "page-4k-in-1t-segment",
        run: |env| whole(env, P4K, Segment::T1),
    },
    Check {
        name: "page-64k-in-256m-segment",
        run: |env| whole(env, P64K, Segment::M256),
    },
    Check {
        name: "page-64k-in-1t-segment",
        run: |env| whole(env, P64K, Segment::T1),
    },
    Check {
        name: "page-16m-in-256m-segment",
        run: |env| whole(env, P16M, Segment::M256),
    },
    Check {
        name: "page-16m-in-1t-segment",
        run: |env| whole(env, P16M, Segment::T1),
    },
    Check {
        name: "page-64k-in-4k-segment",
        run: |env| mixed(env, P4K_64K, Segment::T1),
    },
    Check {
        name: "page-16m-in-4k-segment",
        run: |env| mixed(env, P4K_16M, Segment::M256),
    },
    Check {
        name: "page-16m-in-64k-segment",
        run: |env| mixed(env, P64K_16M, Segment::T1),
    },
    Check {
        name: "page-by-secondary-hash",
        run: secondary,
    },
    Check {
        name: "two-pages-alias-one-frame",
        run: alias,
    },
    Check {
        name: "same-page-remapped-elsewhere",
        run: remapped,
    },
];

fn mapping(env: &Env, size: PageSize, segment: Segment) -> Result<Mapping, Failure> {
    if !mmu::has_page_size(&env.boot.fdt, &size) {
        return Err(Failure::Skip("not in ibm,segment-page-sizes"));
    }
    if size.actual == 24 && !env.boot.memory.has_huge() {
        return Err(Failure::Skip("too little memory"));
    }
    let mapping = env.mapping(size, 0);
    Ok(match segment {
        Segment::T1 => mapping,
        Segment::M256 => Mapping {
            ea: EA_SMALL,
            vsid: VSID_SMALL,
            segment,
            ..mapping
        },
    })
}

/// Reads and writes at several offsets of what one entry maps.
fn compare(env: &Env, ea: u64, real_offset: u64, bytes: u64) -> Outcome {
    for offset in [0, 8, bytes / 2 - 8, bytes / 2, bytes - 0x1000, bytes - 8] {
        let value = 0x5000_0000_0000_0000 | offset;
        env.work.write(real_offset + offset, value);
        let context = mmu::load(ea + offset, DATA);
        expect_completed("load", &context, 1)?;
        expect_at("loaded", offset, context.gpr[4], value)?;
        expect_completed("store", &mmu::store(ea + offset, !value, DATA), 1)?;
        expect_at(
            "stored",
            offset,
            env.work.read(real_offset + offset),
            !value,
        )?;
    }
    Ok(())
}

fn whole(env: &mut Env, size: PageSize, segment: Segment) -> Outcome {
    let mapping = mapping(env, size, segment)?;
    let index = env.map(&mapping)?;
    let bytes = 1 << size.actual;
    compare(env, mapping.ea, mapping.real - env.work.base(), bytes)?;
    // The next page has no entry.
    expect_dsi(
        &mmu::load(mapping.ea + bytes, DATA),
        0x4000_0000,
        mapping.ea + bytes,
    )?;
    env.unmap(&[index])
}

/// A page larger than its segment's base size: an entry serves the base page whose hash finds it.
fn mixed(env: &mut Env, size: PageSize, segment: Segment) -> Outcome {
    let first = mapping(env, size, segment)?;
    let part = 1 << size.base;
    let number = 5;
    let mapping = Mapping {
        ea: first.ea + number * part,
        ..first
    };
    let index = env.map(&mapping)?;
    let [v, r] = env.read_entry(index)?;
    expect("V", v, mapping.v())?;
    expect("R", r, mapping.r())?;
    compare(
        env,
        mapping.ea,
        mapping.real - env.work.base() + number * part,
        part,
    )?;
    env.unmap(&[index])
}

fn secondary(env: &mut Env) -> Outcome {
    let mapping = env.page(0x1000, 2);
    env.segment(&mapping);
    let group = mapping.secondary(env.hpt.order);
    let reply = hcall::call(ENTER, [0, group, mapping.v() | V_SECONDARY, mapping.r()]);
    expect("status", reply.status, status::SUCCESS)?;
    expect("group", reply.values[0] & !7, group)?;
    expect(
        "V",
        env.read_entry(reply.values[0])?[0],
        mapping.v() | V_SECONDARY,
    )?;
    compare(env, mapping.ea, 0x1000, 0x1000)?;
    env.unmap(&[reply.values[0]])
}

fn alias(env: &mut Env) -> Outcome {
    let one = env.page(0x4000, 2);
    let other = Mapping {
        ea: one.ea + 0x10_0000,
        ..one
    };
    let first = env.map(&one)?;
    let second = env.map(&other)?;
    expect_completed("store", &mmu::store(one.ea + 0x40, 0x1111, DATA), 1)?;
    expect(
        "through the other",
        mmu::load(other.ea + 0x40, DATA).gpr[4],
        0x1111,
    )?;
    expect_completed("store", &mmu::store(other.ea + 0x40, 0x2222, DATA), 1)?;
    expect(
        "through the first",
        mmu::load(one.ea + 0x40, DATA).gpr[4],
        0x2222,
    )?;
    // Taking one away leaves the other.
    expect("H_REMOVE", env.hpt.remove(first).status, status::SUCCESS)?;
    expect_dsi(&mmu::load(one.ea + 0x40, DATA), 0x4000_0000, one.ea + 0x40)?;
    expect(
        "the other remains",
        mmu::load(other.ea + 0x40, DATA).gpr[4],
        0x2222,
    )?;
    env.unmap(&[second])
}

fn remapped(env: &mut Env) -> Outcome {
    env.work.write(0x5000, 0x5555);
    env.work.write(0x6000, 0x6666);
    let one = env.page(0x5000, 2);
    let other = Mapping {
        real: one.real + 0x1000,
        ..one
    };
    for _ in 0..4 {
        let index = env.map(&one)?;
        expect("first frame", mmu::load(one.ea, DATA).gpr[4], 0x5555)?;
        env.unmap(&[index])?;
        let index = env.map(&other)?;
        expect("second frame", mmu::load(one.ea, DATA).gpr[4], 0x6666)?;
        env.unmap(&[index])?;
    }
    Ok(())
}
