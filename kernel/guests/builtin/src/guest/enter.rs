// SPDX-License-Identifier: Apache-2.0 OR MIT
//! H_ENTER: flags, results and refusals (LoPAR, H_ENTER).

use super::env::{EA_SMALL, Env, PATTERN, VSID_SMALL, status_of};
use penstock_guest_rt::hcall;
use penstock_guest_rt::hpt::{Mapping, P4K, P16M, P64K, R_G, R_I, R_M, Segment, V_BOLTED, V_VALID};
use penstock_guest_rt::mmu;
use penstock_guest_rt::number::hcall::ENTER;
use penstock_guest_rt::number::{flag, status};
use penstock_guest_rt::suite::{Check, Failure, Outcome, expect, expect_at, require};

/// The checks of this file.
pub const CHECKS: &[Check<Env>] = &[
    Check {
        name: "h-enter-then-read-then-remove",
        run: enter_read_remove,
    },
    Check {
        name: "h-enter-exact-takes-that-slot-or-none",
        run: enter_exact,
    },
    Check {
        name: "h-enter-fills-the-group-then-is-full",
        run: enter_full,
    },
    Check {
        name: "h-enter-without-exact-ignores-the-slot",
        run: enter_ignores_slot,
    },
    Check {
        name: "h-enter-clears-the-hypervisors-software-bits",
        run: enter_software_bits,
    },
    Check {
        name: "h-enter-refuses-a-bad-index",
        run: enter_bad_index,
    },
    Check {
        name: "h-enter-refuses-reserved-segment-sizes",
        run: enter_bad_segment,
    },
    Check {
        name: "h-enter-refuses-an-unaligned-address",
        run: enter_unaligned,
    },
    Check {
        name: "h-enter-refuses-addresses-outside-memory",
        run: enter_outside,
    },
    Check {
        name: "h-enter-refuses-unknown-page-sizes",
        run: enter_bad_size,
    },
    Check {
        name: "h-enter-refuses-io-attributes-on-memory",
        run: enter_bad_wimg,
    },
    Check {
        name: "h-enter-zeroes-a-4k-page",
        run: enter_zero_4k,
    },
    Check {
        name: "h-enter-zeroes-a-64k-page",
        run: enter_zero_64k,
    },
    Check {
        name: "h-enter-refuses-zeroing-a-16m-page",
        run: enter_zero_16m,
    },
    Check {
        name: "h-enter-takes-the-cache-flags",
        run: enter_cache_flags,
    },
];

fn enter_read_remove(env: &mut Env) -> Outcome {
    let mapping = env.mapping(P4K, 0);
    let index = env.enter(&mapping)?;
    expect("group", index & !7, mapping.primary(env.hpt.order))?;
    let [v, r] = env.read_entry(index)?;
    expect("V", v, mapping.v())?;
    expect("R", r, mapping.r())?;
    let reply = env.hpt.remove(index);
    expect("H_REMOVE status", reply.status, status::SUCCESS)?;
    expect("removed V", reply.values[0], mapping.v())?;
    expect("removed R", reply.values[1], mapping.r())?;
    expect("V afterwards", env.read_entry(index)?[0] & V_VALID, 0)?;
    expect(
        "second H_REMOVE",
        env.hpt.remove(index).status,
        status::NOT_FOUND,
    )
}

fn enter_exact(env: &mut Env) -> Outcome {
    let mapping = env.mapping(P4K, 0x1000);
    let slot = mapping.primary(env.hpt.order) + 5;
    let arguments = [flag::EXACT, slot, mapping.v(), mapping.r()];
    let reply = hcall::call(ENTER, arguments);
    expect("status", reply.status, status::SUCCESS)?;
    expect("index", reply.values[0], slot)?;
    expect(
        "same slot again",
        status_of(ENTER, arguments),
        status::PTEG_FULL,
    )?;
    expect("V in the slot", env.read_entry(slot)?[0], mapping.v())?;
    env.unmap(&[slot])
}

/// Eight mappings with the same hash: in a 256M segment it is the VSID xor the page number.
fn same_hash(env: &Env, number: u64) -> Mapping {
    Mapping {
        ea: EA_SMALL + (number << 12),
        vsid: VSID_SMALL ^ number,
        segment: Segment::M256,
        size: P4K,
        real: env.work.base() + (number << 12),
        bits: R_M | 2,
    }
}

fn enter_full(env: &mut Env) -> Outcome {
    let group = same_hash(env, 0).primary(env.hpt.order);
    let mut taken = [u64::MAX; 8];
    let mut count = 0;
    for number in 0..9 {
        let mapping = same_hash(env, number);
        expect_at("group", number, mapping.primary(env.hpt.order), group)?;
        let reply = env.hpt.enter_with(0, &mapping);
        if reply.status != status::SUCCESS {
            expect_at("status when full", number, reply.status, status::PTEG_FULL)?;
            break;
        }
        expect_at("group entered", number, reply.values[0] & !7, group)?;
        let Some(slot) = taken.get_mut(count) else {
            return Err(Failure::Unfit {
                what: "entries in a group",
                got: 9,
                want: "8",
            });
        };
        *slot = reply.values[0];
        count += 1;
    }
    // The hypervisor may keep one entry of a group for real mode.
    require("entries in a group", "7 or 8", count as u64, |n| {
        n == 7 || n == 8
    })?;
    // A hole is found again.
    expect("hole", env.hpt.remove(taken[3]).status, status::SUCCESS)?;
    let reply = env.hpt.enter_with(0, &same_hash(env, 3));
    expect("status into the hole", reply.status, status::SUCCESS)?;
    expect("index of the hole", reply.values[0], taken[3])?;
    env.unmap(taken.get(..count).unwrap_or(&[]))
}

fn enter_ignores_slot(env: &mut Env) -> Outcome {
    let mapping = env.mapping(P4K, 0x2000);
    let group = mapping.primary(env.hpt.order);
    let reply = hcall::call(ENTER, [0, group + 6, mapping.v(), mapping.r()]);
    expect("status", reply.status, status::SUCCESS)?;
    expect("index", reply.values[0], group)?;
    env.unmap(&[group])
}

fn enter_software_bits(env: &mut Env) -> Outcome {
    let mapping = env.mapping(P4K, 0x3000);
    let group = mapping.primary(env.hpt.order);
    let v = mapping.v() | 0x60 | V_BOLTED | 0x8;
    let reply = hcall::call(ENTER, [0, group, v, mapping.r()]);
    expect("status", reply.status, status::SUCCESS)?;
    expect("V", env.read_entry(reply.values[0])?[0], v & !0x60)?;
    env.unmap(&[reply.values[0]])
}

fn enter_bad_index(env: &mut Env) -> Outcome {
    let mapping = env.mapping(P4K, 0);
    for index in [env.hpt.entries(), env.hpt.entries() + 8, 1 << 40, u64::MAX] {
        for flags in [0, flag::EXACT] {
            let got = status_of(ENTER, [flags, index, mapping.v(), mapping.r()]);
            expect_at("status", index, got, status::PARAMETER)?;
        }
    }
    Ok(())
}

fn enter_refused(env: &Env, what: &'static str, mapping: &Mapping) -> Outcome {
    expect_at(
        what,
        mapping.real,
        env.hpt.enter_with(0, mapping).status,
        status::PARAMETER,
    )
}

fn enter_bad_segment(env: &mut Env) -> Outcome {
    let mapping = env.mapping(P4K, 0);
    let group = mapping.primary(env.hpt.order);
    for b in [2u64, 3] {
        let v = mapping.v() & !(3 << 62) | b << 62;
        expect_at(
            "status",
            b,
            status_of(ENTER, [0, group, v, mapping.r()]),
            status::PARAMETER,
        )?;
    }
    Ok(())
}

fn enter_unaligned(env: &mut Env) -> Outcome {
    if !mmu::has_page_size(&env.boot.fdt, &P16M) {
        return Err(Failure::Skip("no 16M pages"));
    }
    let base = env.mapping(P16M, 0);
    for offset in [0x10_0000, 0x20_0000, 0x80_0000] {
        enter_refused(
            env,
            "status",
            &Mapping {
                real: base.real + offset,
                ..base
            },
        )?;
    }
    Ok(())
}

fn enter_outside(env: &mut Env) -> Outcome {
    let base = env.mapping(P4K, 0);
    let end = env.boot.memory.end();
    for real in [
        end,
        end + 0x1000,
        end + (1 << 32),
        1 << 45,
        (1 << 50) - 0x1000,
        0xf_ffff_ffff_f000,
    ] {
        enter_refused(env, "4K", &Mapping { real, ..base })?;
    }
    if !mmu::has_page_size(&env.boot.fdt, &P64K) {
        return Ok(());
    }
    let base = env.mapping(P64K, 0);
    for real in [end, end + 0x10000, 1 << 45] {
        enter_refused(env, "64K", &Mapping { real, ..base })?;
    }
    Ok(())
}

fn enter_bad_size(env: &mut Env) -> Outcome {
    let base = env.mapping(P64K, 0);
    let group = base.primary(env.hpt.order);
    // L = 1 with encodings that no processor of this kind defines.
    for lp in [0x2u64, 0x5, 0x6, 0x9, 0xf] {
        let r = base.real | lp << 12 | base.bits;
        expect_at(
            "status",
            lp,
            status_of(ENTER, [0, group, base.v(), r]),
            status::PARAMETER,
        )?;
    }
    Ok(())
}

fn enter_bad_wimg(env: &mut Env) -> Outcome {
    let base = env.mapping(P4K, 0);
    for bits in [R_I | R_G, R_I, R_I | R_M] {
        enter_refused(
            env,
            "status",
            &Mapping {
                bits: bits | 2,
                ..base
            },
        )?;
    }
    Ok(())
}

fn zeroes(env: &Env, mapping: &Mapping) -> Outcome {
    let bytes = 1 << mapping.size.actual;
    let offset = mapping.real - env.work.base();
    let around = env.work.part(offset - 0x1000, bytes + 0x2000);
    around.fill(PATTERN);
    let reply = env.hpt.enter_with(flag::ZERO_PAGE, mapping);
    expect("status", reply.status, status::SUCCESS)?;
    for at in (0..around.bytes()).step_by(8) {
        let inside = (0x1000..0x1000 + bytes).contains(&at);
        expect_at(
            "memory",
            at,
            around.read(at),
            if inside { 0 } else { PATTERN },
        )?;
    }
    env.unmap(&[reply.values[0]])
}

fn enter_zero_4k(env: &mut Env) -> Outcome {
    zeroes(env, &env.mapping(P4K, 0x5000))
}

fn enter_zero_64k(env: &mut Env) -> Outcome {
    env.need(&P64K)?;
    zeroes(env, &env.mapping(P64K, 0x2_0000))
}

fn enter_zero_16m(env: &mut Env) -> Outcome {
    if !env.boot.memory.has_huge() || !mmu::has_page_size(&env.boot.fdt, &P16M) {
        return Err(Failure::Skip("no 16M pages"));
    }
    env.work.write(0x8000, PATTERN);
    let mapping = env.mapping(P16M, 0);
    for flags in [
        flag::ZERO_PAGE,
        flag::ICACHE_INVALIDATE,
        flag::ICACHE_SYNCHRONIZE,
    ] {
        expect_at(
            "status",
            flags,
            env.hpt.enter_with(flags, &mapping).status,
            status::TOO_BIG,
        )?;
    }
    expect("memory", env.work.read(0x8000), PATTERN)
}

fn enter_cache_flags(env: &mut Env) -> Outcome {
    for flags in [flag::ICACHE_INVALIDATE, flag::ICACHE_SYNCHRONIZE] {
        for size in [P4K, P64K] {
            if !mmu::has_page_size(&env.boot.fdt, &size) {
                continue;
            }
            let mapping = env.mapping(size, 0x1_0000);
            let reply = env.hpt.enter_with(flags, &mapping);
            expect_at("status", flags, reply.status, status::SUCCESS)?;
            env.unmap(&[reply.values[0]])?;
        }
    }
    Ok(())
}
