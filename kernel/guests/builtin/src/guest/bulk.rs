// SPDX-License-Identifier: Apache-2.0 OR MIT
//! H_BULK_REMOVE: requests, conditions, responses, and where processing stops (LoPAR,
//! H_BULK_REMOVE).
//!
//! First byte of a specifier: type in the upper two bits (request 01, response 10, end 11), then the
//! response code (success 00, not found 01, parameter 10), R and C, and the request's condition
//! (none 00, andcond 01, AVPN 10).

use super::env::Env;
use penstock_guest_rt::hcall::{self, Reply};
use penstock_guest_rt::hpt::{Mapping, R_C, R_R, V_BOLTED, V_VALID};
use penstock_guest_rt::number::hcall::{BULK_REMOVE, ENTER};
use penstock_guest_rt::number::status;
use penstock_guest_rt::suite::{Check, Failure, Outcome, expect, expect_at};

/// The checks of this file.
pub const CHECKS: &[Check<Env>] = &[
    Check {
        name: "h-bulk-remove-removes-four",
        run: four,
    },
    Check {
        name: "h-bulk-remove-returns-r-and-c",
        run: reference_bits,
    },
    Check {
        name: "h-bulk-remove-conditions",
        run: conditions,
    },
    Check {
        name: "h-bulk-remove-stops-at-the-end-mark",
        run: end_mark,
    },
    Check {
        name: "h-bulk-remove-stops-at-a-bad-index",
        run: bad_index,
    },
    Check {
        name: "h-bulk-remove-refuses-unused-types",
        run: unused_types,
    },
];

const ABSOLUTE: u64 = 0x40 << 56;
const ANDCOND: u64 = 0x41 << 56;
const AVPN: u64 = 0x42 << 56;
const END: u64 = 0xc0 << 56;
/// Type and response code, and index; without R, C and condition.
const RESPONSE: u64 = 0xf0ff_ffff_ffff_ffff;

fn bulk(specifiers: [(u64, u64); 4]) -> Reply {
    let mut arguments = [0; 9];
    for (pair, (high, low)) in arguments.chunks_mut(2).zip(specifiers) {
        pair[0] = high;
        pair[1] = low;
    }
    hcall::call_with(BULK_REMOVE, arguments)
}

/// Four entries, each in a group of its own; the second bolted.
fn entries(env: &Env) -> Result<([Mapping; 4], [u64; 4]), Failure> {
    let mappings = [0u64, 1, 2, 3].map(|number| env.page(number << 12, 2));
    let mut indexes = [0; 4];
    for (number, (index, mapping)) in (0u64..).zip(indexes.iter_mut().zip(&mappings)) {
        let v = mapping.v() | if number == 1 { V_BOLTED } else { 0 };
        let r = mapping.r() | [0, R_R, R_C, R_R | R_C][(number & 3) as usize];
        let reply = hcall::call(ENTER, [0, mapping.primary(env.hpt.order), v, r]);
        expect_at("H_ENTER status", number, reply.status, status::SUCCESS)?;
        *index = reply.values[0];
    }
    Ok((mappings, indexes))
}

fn valid(env: &Env, index: u64) -> Result<u64, Failure> {
    Ok(env.read_entry(index)?[0] & V_VALID)
}

fn four(env: &mut Env) -> Outcome {
    let (mappings, i) = entries(env)?;
    let reply = bulk([
        (AVPN | i[0], mappings[0].avpn()),
        (ABSOLUTE | i[1], 0),
        (ANDCOND | i[2], V_BOLTED),
        (AVPN | i[3], mappings[3].avpn()),
    ]);
    expect("status", reply.status, status::SUCCESS)?;
    for (number, index) in i.into_iter().enumerate() {
        let response = reply.values[2 * number] & RESPONSE;
        expect_at("response", number as u64, response, 0x80 << 56 | index)?;
        expect_at("still valid", number as u64, valid(env, index)?, 0)?;
    }
    Ok(())
}

fn reference_bits(env: &mut Env) -> Outcome {
    let (_, i) = entries(env)?;
    let reply = bulk([
        (ABSOLUTE | i[0], 0),
        (ABSOLUTE | i[1], 0),
        (ABSOLUTE | i[2], 0),
        (ABSOLUTE | i[3], 0),
    ]);
    expect("status", reply.status, status::SUCCESS)?;
    // R in bit 4 and C in bit 5 of the first byte.
    for (number, bits) in [0x80u64, 0x88, 0x84, 0x8c].into_iter().enumerate() {
        expect_at(
            "first byte",
            number as u64,
            reply.values[2 * number] >> 56 & 0xfc,
            bits,
        )?;
    }
    Ok(())
}

fn conditions(env: &mut Env) -> Outcome {
    let (mappings, i) = entries(env)?;
    let reply = bulk([
        (AVPN | i[0], mappings[0].avpn() ^ 0x80),
        (ANDCOND | i[1], V_BOLTED),
        (AVPN | i[2], mappings[2].avpn()),
        (AVPN | i[0] ^ 1, mappings[0].avpn()),
    ]);
    expect("status", reply.status, status::SUCCESS)?;
    for (number, (code, index)) in [(0x90, i[0]), (0x90, i[1]), (0x80, i[2]), (0x90, i[0] ^ 1)]
        .into_iter()
        .enumerate()
    {
        let response = reply.values[2 * number] & RESPONSE;
        expect_at("response", number as u64, response, code << 56 | index)?;
    }
    expect("first is still there", valid(env, i[0])?, V_VALID)?;
    expect("second is still there", valid(env, i[1])?, V_VALID)?;
    env.unmap(&[i[0], i[1], i[3]])
}

fn end_mark(env: &mut Env) -> Outcome {
    let (_, i) = entries(env)?;
    let reply = bulk([
        (ABSOLUTE | i[0], 0),
        (END, 0),
        (ABSOLUTE | i[2], 0),
        (ABSOLUTE | i[3], 0),
    ]);
    expect("status", reply.status, status::SUCCESS)?;
    expect("first", reply.values[0] & RESPONSE, 0x80 << 56 | i[0])?;
    expect("after the mark", reply.values[4], ABSOLUTE | i[2])?;
    expect("third is still there", valid(env, i[2])?, V_VALID)?;
    expect("at once", bulk([(END, 0); 4]).status, status::SUCCESS)?;
    env.unmap(&[i[1], i[2], i[3]])
}

fn bad_index(env: &mut Env) -> Outcome {
    let (_, i) = entries(env)?;
    let beyond = env.hpt.entries();
    let reply = bulk([
        (ABSOLUTE | i[0], 0),
        (ABSOLUTE | beyond, 0),
        (ABSOLUTE | i[2], 0),
        (ABSOLUTE | i[3], 0),
    ]);
    expect("status", reply.status, status::PARAMETER)?;
    expect("first", reply.values[0] & RESPONSE, 0x80 << 56 | i[0])?;
    expect("second", reply.values[2] & RESPONSE, 0xa0 << 56 | beyond)?;
    expect("third", reply.values[4], ABSOLUTE | i[2])?;
    expect("third is still there", valid(env, i[2])?, V_VALID)?;
    env.unmap(&[i[1], i[2], i[3]])
}

fn unused_types(env: &mut Env) -> Outcome {
    let (_, i) = entries(env)?;
    for first in [0x00u64, 0x43] {
        let reply = bulk([(first << 56 | i[0], 0), (END, 0), (END, 0), (END, 0)]);
        expect_at("status", first, reply.status, status::PARAMETER)?;
        expect_at("still there", first, valid(env, i[0])?, V_VALID)?;
    }
    env.unmap(&i)
}
