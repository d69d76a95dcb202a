// SPDX-License-Identifier: Apache-2.0 OR MIT
//! H_READ, H_REMOVE and H_PROTECT: flags, results and refusals (LoPAR, H_READ, H_REMOVE, H_PROTECT).

use super::env::{Env, status_of};
use penstock_guest_rt::hcall;
use penstock_guest_rt::hpt::{R_C, R_N, R_PP, R_PP0, R_R, V_BOLTED, V_VALID, key_bits};
use penstock_guest_rt::mmu;
use penstock_guest_rt::number::hcall::{CLEAR_MOD, CLEAR_REF, ENTER, PROTECT, READ, REMOVE};
use penstock_guest_rt::number::{flag, status};
use penstock_guest_rt::suite::{Check, Outcome, expect, expect_at};

/// The checks of this file.
pub const CHECKS: &[Check<Env>] = &[
    Check {
        name: "h-remove-compares-the-avpn",
        run: remove_avpn,
    },
    Check {
        name: "h-remove-andcond-spares-bolted-entries",
        run: remove_andcond,
    },
    Check {
        name: "h-read-4-reads-four-entries",
        run: read_four,
    },
    Check {
        name: "h-protect-sets-protection-key-and-n",
        run: protect_bits,
    },
    Check {
        name: "h-protect-clears-r-and-keeps-c",
        run: protect_reference,
    },
    Check {
        name: "h-protect-compares-the-avpn",
        run: protect_avpn,
    },
    Check {
        name: "page-table-calls-refuse-a-bad-index",
        run: bad_index,
    },
    Check {
        name: "page-table-calls-find-nothing-in-an-empty-slot",
        run: empty_slot,
    },
];

fn remove_avpn(env: &mut Env) -> Outcome {
    let mapping = env.page(0x4000, 2);
    let index = env.enter(&mapping)?;
    let remove = |avpn| status_of(REMOVE, [flag::AVPN, index, avpn, 0]);
    expect(
        "other page",
        remove(mapping.avpn() ^ 0x80),
        status::NOT_FOUND,
    )?;
    expect(
        "other segment size",
        remove(mapping.avpn() ^ 1 << 62),
        status::NOT_FOUND,
    )?;
    expect("still there", env.read_entry(index)?[0], mapping.v())?;
    expect("this page", remove(mapping.avpn()), status::SUCCESS)?;
    expect("gone", env.read_entry(index)?[0] & V_VALID, 0)
}

fn remove_andcond(env: &mut Env) -> Outcome {
    let mapping = env.page(0x4000, 2);
    let group = mapping.primary(env.hpt.order);
    let reply = hcall::call(ENTER, [0, group, mapping.v() | V_BOLTED, mapping.r()]);
    expect("H_ENTER status", reply.status, status::SUCCESS)?;
    let index = reply.values[0];
    let remove = |bits| status_of(REMOVE, [flag::ANDCOND, index, bits, 0]);
    expect("bolted", remove(V_BOLTED), status::NOT_FOUND)?;
    expect(
        "still there",
        env.read_entry(index)?[0],
        mapping.v() | V_BOLTED,
    )?;
    expect("other bit", remove(8), status::SUCCESS)
}

fn read_four(env: &mut Env) -> Outcome {
    let mapping = env.page(0x6000, 2);
    let group = mapping.primary(env.hpt.order);
    let mut slots = [0; 3];
    for (slot, number) in slots.iter_mut().zip([0u64, 2, 3]) {
        let arguments = [flag::EXACT, group + number, mapping.v(), mapping.r()];
        let reply = hcall::call(ENTER, arguments);
        expect_at("H_ENTER status", number, reply.status, status::SUCCESS)?;
        *slot = reply.values[0];
    }
    let reply = hcall::call(READ, [flag::READ_4, group + 2, 0, 0]);
    expect("status", reply.status, status::SUCCESS)?;
    for (number, pair) in reply.values.chunks(2).enumerate() {
        let want = if number == 1 { 0 } else { mapping.v() };
        expect_at(
            "V",
            number as u64,
            pair[0] & if number == 1 { V_VALID } else { !0 },
            want,
        )?;
        if number != 1 {
            expect_at("R", number as u64, pair[1], mapping.r())?;
        }
    }
    env.unmap(&slots)
}

fn protect_bits(env: &mut Env) -> Outcome {
    let mapping = env.page(0x7000, 2);
    let index = env.enter(&mapping)?;
    // Flags as LoPAR places them: key 50-54 is split over the entry's two key fields.
    let keys = mmu::cpu_node(&env.boot.fdt)
        .and_then(|cpu| cpu.property("ibm,processor-storage-keys"))
        .is_some_and(|value| value.iter().any(|byte| *byte != 0));
    for (flags, bits) in [
        (3, 3),
        (0, 0),
        (4 | 2, R_N | 2),
        (0x100 | 2, R_PP0 | 2),
        (0x600 | 1, key_bits(3) | 1),
        (0, 0),
    ] {
        let bits = if keys { bits } else { bits & !key_bits(0x1f) };
        expect_at(
            "status",
            flags,
            env.hpt.protect(index, flags).status,
            status::SUCCESS,
        )?;
        let want = mapping.r() & !(R_PP | R_N | R_PP0) | bits;
        expect_at("R", flags, env.read_entry(index)?[1], want)?;
        expect_at("V", flags, env.read_entry(index)?[0], mapping.v())?;
    }
    env.unmap(&[index])
}

fn protect_reference(env: &mut Env) -> Outcome {
    let mapping = env.page(0x8000, 2 | R_R | R_C);
    let index = env.enter(&mapping)?;
    expect("status", env.hpt.protect(index, 3).status, status::SUCCESS)?;
    expect(
        "R",
        env.read_entry(index)?[1],
        mapping.r() & !(R_R | R_PP) | 3,
    )?;
    env.unmap(&[index])
}

fn protect_avpn(env: &mut Env) -> Outcome {
    let mapping = env.page(0x9000, 2);
    let index = env.enter(&mapping)?;
    let protect = |avpn| status_of(PROTECT, [flag::AVPN | 3, index, avpn, 0]);
    expect(
        "other page",
        protect(mapping.avpn() ^ 0x100),
        status::NOT_FOUND,
    )?;
    expect("unchanged", env.read_entry(index)?[1], mapping.r())?;
    expect("this page", protect(mapping.avpn()), status::SUCCESS)?;
    expect("changed", env.read_entry(index)?[1] & R_PP, 3)?;
    env.unmap(&[index])
}

fn bad_index(env: &mut Env) -> Outcome {
    for number in [REMOVE, READ, CLEAR_MOD, CLEAR_REF, PROTECT] {
        for index in [env.hpt.entries(), 1 << 32, 1 << 60, u64::MAX] {
            expect_at(
                "status",
                number,
                status_of(number, [0, index, 0, 0]),
                status::PARAMETER,
            )?;
        }
    }
    let reply = hcall::call(READ, [flag::READ_4, env.hpt.entries(), 0, 0]);
    expect("READ_4", reply.status, status::PARAMETER)
}

fn empty_slot(env: &mut Env) -> Outcome {
    let index = env.page(0xa000, 2).primary(env.hpt.order);
    for number in [REMOVE, CLEAR_MOD, CLEAR_REF, PROTECT] {
        expect_at(
            "status",
            number,
            status_of(number, [0, index, 0, 0]),
            status::NOT_FOUND,
        )?;
    }
    Ok(())
}
