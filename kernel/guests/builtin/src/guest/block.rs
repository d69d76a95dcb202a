// SPDX-License-Identifier: Apache-2.0 OR MIT
//! H_BLOCK_REMOVE: eight pages of a block at once, its responses, and its block sizes as the system
//! parameter tells them (LoPAR, H_BLOCK_REMOVE; TLB Block Invalidate Characteristics).
//!
//! A request's first byte: type 01, the AVPN condition in the last bit. A response's: type 10, the
//! code in bits 2 to 4, R and C in bits 5 and 6. Responses begin in r4.

use super::env::{Env, PATTERN, expect_dsi};
use super::rtas;
use penstock_guest_rt::fdt::word;
use penstock_guest_rt::hcall::{self, Reply};
use penstock_guest_rt::hpt::{
    Mapping, P4K, P4K_64K, P64K, P64K_16M, PageSize, R_C, R_R, V_BOLTED, V_VALID,
};
use penstock_guest_rt::mmu::{self, DATA};
use penstock_guest_rt::number::hcall::{BLOCK_REMOVE, ENTER};
use penstock_guest_rt::number::status;
use penstock_guest_rt::suite::{
    Check, Failure, Outcome, expect, expect_at, expect_completed, require,
};

/// The checks of this file.
pub const CHECKS: &[Check<Env>] = &[
    Check {
        name: "h-block-remove-characteristics",
        run: characteristics,
    },
    Check {
        name: "h-block-remove-removes-eight-4k-pages",
        run: |env| block(env, P4K),
    },
    Check {
        name: "h-block-remove-removes-eight-64k-pages",
        run: |env| block(env, P64K),
    },
    Check {
        name: "h-block-remove-removes-pieces-of-a-64k-page",
        run: |env| block(env, P4K_64K),
    },
    Check {
        name: "h-block-remove-removes-pieces-of-a-16m-page",
        run: |env| block(env, P64K_16M),
    },
    Check {
        name: "h-block-remove-returns-r-and-c",
        run: reference_bits,
    },
    Check {
        name: "h-block-remove-answers-why-not",
        run: refusals,
    },
    Check {
        name: "h-block-remove-stops-at-the-end-mark",
        run: end_mark,
    },
    Check {
        name: "h-block-remove-refuses-other-types",
        run: other_types,
    },
];

const ABSOLUTE: u64 = 0x40 << 56;
const AVPN: u64 = 0x41 << 56;
const END: u64 = 0xc0 << 56;
const SUCCESS: u64 = 0x80;
const NOT_FOUND: u64 = 0x88;
const PARAMETER: u64 = 0x90;
const INCONSISTENT: u64 = 0x98;
const CROSS_BOUNDARY: u64 = 0xa8;
/// Of a response's first byte: type and code.
const CODE: u64 = 0xf8;
/// Of a response: the index.
const INDEX: u64 = 0x0000_ffff_ffff_ffff;

fn block_remove(ava: u64, specifiers: &[u64]) -> Reply {
    let mut arguments = [END; 9];
    for (slot, value) in arguments
        .iter_mut()
        .zip([&ava].into_iter().chain(specifiers))
    {
        *slot = *value;
    }
    hcall::call_with(BLOCK_REMOVE, arguments)
}

fn expect_codes(reply: &Reply, wanted: &[(u64, u64)]) -> Outcome {
    for (number, (value, &(code, index))) in (0..).zip(reply.values.iter().zip(wanted)) {
        expect_at("response", number, value >> 56 & CODE, code)?;
        expect_at("index", number, value & INDEX, index)?;
    }
    Ok(())
}

/// Eight base pages after each other, from the beginning of the work memory.
fn eight(env: &Env, size: PageSize) -> Result<([Mapping; 8], [u64; 8]), Failure> {
    if !mmu::has_page_size(&env.boot.fdt, &size) {
        return Err(Failure::Skip("not in ibm,segment-page-sizes"));
    }
    if size.actual == 24 && !env.boot.memory.has_huge() {
        return Err(Failure::Skip("too little memory"));
    }
    let mappings = [0u64, 1, 2, 3, 4, 5, 6, 7].map(|number| env.mapping(size, number << size.base));
    let mut indexes = [0; 8];
    for (index, mapping) in indexes.iter_mut().zip(&mappings) {
        *index = env.map(mapping)?;
    }
    Ok((mappings, indexes))
}

fn characteristics(env: &mut Env) -> Outcome {
    let buffer = u32::try_from(env.work.base()).unwrap_or(0);
    env.work.part(0, 4096).fill(PATTERN);
    let results = rtas::call(env, "ibm,get-system-parameter", &[50, buffer, 4000], 1)?;
    expect("status", u64::from(results[0]), 0)?;
    let byte = |at: u64| u64::from(env.work.word_be(at & !3) >> (24 - 8 * (at & 3)) & 0xff);
    let len = byte(0) << 8 | byte(1);
    require("length", "1 to 64", len, |len| (1..=64).contains(&len))?;
    let mut at = 2;
    let mut pairs = 0;
    while at < 2 + len {
        expect("log2 of the block's pages", byte(at), 3)?;
        let count = byte(at + 1);
        for pair in at + 2..at + 2 + count {
            require("page sizes", "in the tree", byte(pair), |pair| {
                told(env, pair)
            })?;
        }
        pairs += count;
        at += 2 + count;
    }
    expect("end", at, 2 + len)?;
    let least = if mmu::has_page_size(&env.boot.fdt, &P64K) {
        2
    } else {
        1
    };
    require(
        "pairs",
        "at least those of 4K and 64K pages",
        pairs,
        |pairs| pairs >= least,
    )
}

/// Whether the tree has a page size with this encoding; without bit 0 of the byte, 4K pages.
fn told(env: &Env, pair: u64) -> bool {
    if pair & 0x80 == 0 {
        return pair == 0;
    }
    let list = mmu::cpu_node(&env.boot.fdt).and_then(|cpu| cpu.property("ibm,segment-page-sizes"));
    let cells = |at: usize| list.and_then(|list| word(list, 4 * at));
    let mut at = 0;
    while let Some(count) = cells(at + 2).and_then(|count| usize::try_from(count).ok()) {
        for page in 0..count.min(16) {
            if cells(at + 4 + 2 * page).map(u64::from) == Some(pair & 0x3f) {
                return true;
            }
        }
        at += 3 + 2 * count.min(16);
    }
    false
}

fn block(env: &mut Env, size: PageSize) -> Outcome {
    let (mappings, indexes) = eight(env, size)?;
    for (number, mapping) in (0..).zip(&mappings) {
        let offset = number << size.base;
        env.work.write(offset, PATTERN ^ number);
        let context = mmu::load(mapping.ea, DATA);
        expect_completed("load", &context, 1)?;
        expect_at("value", number, context.gpr[4], PATTERN ^ number)?;
    }
    let reply = block_remove(mappings[0].avpn(), &indexes.map(|index| AVPN | index));
    expect("status", reply.status, status::SUCCESS)?;
    expect_codes(&reply, &indexes.map(|index| (SUCCESS, index)))?;
    for (index, mapping) in indexes.iter().zip(&mappings) {
        expect("V", env.read_entry(*index)?[0], 0)?;
        expect_dsi(&mmu::load(mapping.ea, DATA), 0x4000_0000, mapping.ea)?;
    }
    env.unmap(&[])
}

fn reference_bits(env: &mut Env) -> Outcome {
    let (mappings, indexes) = eight(env, P4K)?;
    for (number, mapping) in mappings.iter().enumerate() {
        let context = match number % 3 {
            0 => continue,
            1 => mmu::load(mapping.ea, DATA),
            _ => mmu::store(mapping.ea, 1, DATA),
        };
        expect_completed("access", &context, 1)?;
    }
    let reply = block_remove(0, &indexes.map(|index| ABSOLUTE | index));
    expect("status", reply.status, status::SUCCESS)?;
    for (number, value) in (0..).zip(reply.values) {
        let bits = [0x80, 0x84, 0x86][(number % 3) as usize];
        expect_at("first byte", number, value >> 56, bits)?;
    }
    env.unmap(&[])
}

fn refusals(env: &mut Env) -> Outcome {
    env.need(&P4K_64K)?;
    let (mappings, indexes) = eight(env, P4K)?;
    // A ninth page belongs to the next block; a large one to the same.
    let ninth = Mapping {
        ea: mappings[0].ea + 0x8000,
        ..mappings[0]
    };
    let large = Mapping {
        size: P4K_64K,
        real: mappings[0].real & !0xffff,
        ..mappings[0]
    };
    let (ninth, large_index) = (env.enter(&ninth)?, env.enter(&large)?);
    let bolted = mappings[3].v() | V_BOLTED;
    expect(
        "H_REMOVE",
        env.hpt.remove(indexes[3]).status,
        status::SUCCESS,
    )?;
    let group = mappings[3].primary(env.hpt.order);
    let reply = hcall::call(ENTER, [0, group, bolted, mappings[3].r()]);
    expect("H_ENTER", reply.status, status::SUCCESS)?;
    let bolted = reply.values[0];
    let beyond = env.hpt.entries();
    let reply = block_remove(
        mappings[0].avpn(),
        &[
            AVPN | indexes[0],
            AVPN | beyond,
            AVPN | bolted,
            AVPN | ninth,
            AVPN | large_index,
            AVPN | indexes[0],
            AVPN | indexes[7],
        ],
    );
    expect("status", reply.status, status::PARTIAL)?;
    expect_codes(
        &reply,
        &[
            (SUCCESS, indexes[0]),
            (PARAMETER, beyond),
            (NOT_FOUND, bolted),
            (CROSS_BOUNDARY, ninth),
            (INCONSISTENT, large_index),
            (NOT_FOUND, indexes[0]),
            (SUCCESS, indexes[7]),
        ],
    )?;
    let reply = block_remove(mappings[0].avpn() ^ 0x80, &[AVPN | indexes[1]]);
    expect("wrong AVPN", reply.status, status::PARTIAL)?;
    expect_codes(&reply, &[(NOT_FOUND, indexes[1])])?;
    env.unmap(&[
        indexes[1],
        indexes[2],
        bolted,
        indexes[4],
        indexes[5],
        indexes[6],
        ninth,
        large_index,
    ])
}

fn end_mark(env: &mut Env) -> Outcome {
    let (_, indexes) = eight(env, P4K)?;
    let reply = block_remove(
        0,
        &[ABSOLUTE | indexes[0], END, ABSOLUTE | indexes[2], PATTERN],
    );
    expect("status", reply.status, status::SUCCESS)?;
    expect_codes(&reply, &[(SUCCESS, indexes[0])])?;
    expect("mark", reply.values[1], END)?;
    expect("after the mark", reply.values[2], ABSOLUTE | indexes[2])?;
    expect("at once", block_remove(0, &[END]).status, status::SUCCESS)?;
    expect(
        "still valid",
        env.read_entry(indexes[2])?[0] & V_VALID,
        V_VALID,
    )?;
    env.unmap(&indexes[1..])
}

fn other_types(env: &mut Env) -> Outcome {
    let mapping = env.page(0, 2 | R_R | R_C);
    let index = env.enter(&mapping)?;
    for first in [0x00, 0x01, 0x80, 0x81] {
        let reply = block_remove(0, &[ABSOLUTE | index, first << 56 | index]);
        expect_at("status", first, reply.status, status::PARAMETER)?;
        expect_at("V", first, env.read_entry(index)?[0], mapping.v())?;
    }
    env.unmap(&[index])
}
