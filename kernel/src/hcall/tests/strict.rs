// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Every bit of every flags parameter, in partitions that ignore undefined ones and that refuse
//! them.

use super::*;
use crate::hcall::{Table, UndefinedFlags};
use crate::presentation::InterruptMode;
use crate::testing::{FakePlatform, RigOptions};
use penstock_arch::fake::unless_miri;
use penstock_mm::hpt::StorageKeys;
use std::vec::Vec;

/// A 64 KiB page of a 1 TiB segment, not bolted, at 1 MiB.
const V: u64 = 0x4000_1ace_5400_0185;
const R: u64 = 0x0000_0000_0010_1192;
/// Where it is entered.
const PTEX: u64 = 0x3000;

const EXACT: u64 = 0x80_0000_0000;

/// A call whose r4 is flags: token, what follows, and the bits that LoPAR defines (0 is the most
/// significant).
struct Call {
    token: u64,
    arguments: &'static [u64],
    defined: &'static [u32],
}

const AVPN: u64 = V & !0x7f;

const CALLS: [Call; 7] = [
    Call {
        token: 0x004,
        arguments: &[PTEX, AVPN],
        defined: &[32, 33],
    },
    Call {
        token: 0x008,
        arguments: &[PTEX + 9, V, R],
        defined: &[24, 40, 41, 48],
    },
    Call {
        token: 0x00c,
        arguments: &[PTEX],
        defined: &[25, 26],
    },
    Call {
        token: 0x010,
        arguments: &[PTEX],
        defined: &[],
    },
    Call {
        token: 0x014,
        arguments: &[PTEX],
        defined: &[],
    },
    Call {
        token: 0x018,
        arguments: &[PTEX, AVPN],
        defined: &[32, 50, 51, 52, 53, 54, 55, 61, 62, 63],
    },
    Call {
        token: 0x02c,
        arguments: &[0x20_0000, 0x21_0000],
        defined: &[40, 41, 48, 49],
    },
];

fn rig(undefined_flags: UndefinedFlags, keys: StorageKeys) -> Rig {
    Rig::with(RigOptions {
        undefined_flags,
        keys,
        ..RigOptions::default()
    })
}

/// What a call leaves: r3 to r12, and the table's entries.
type Result = (Vec<u64>, Vec<[u64; 2]>);

/// Makes the call on a table that has the page at `PTEX` and after it.
fn result(rig: &mut Rig, token: u64, arguments: &[u64]) -> Result {
    rig.restart();
    let mmu = &rig.vcpu.partition.mmu;
    for at in PTEX..PTEX + 8 {
        mmu.h_enter(EXACT, at, V, R).unwrap();
    }
    rig.vcpu.ctx.gpr = [0; 32];
    rig.vcpu.ctx.gpr[3] = token;
    rig.vcpu.ctx.gpr[4..4 + arguments.len()].copy_from_slice(arguments);
    rig.vcpu.ctx.msr = 0x8000_0000_0000_1003;
    assert_eq!(dispatch(&mut rig.vcpu), LightExit::RESUME);
    let mmu = &rig.vcpu.partition.mmu;
    let entries = (PTEX..PTEX + 16).map(|at| mmu.h_read(0, at).unwrap());
    (rig.vcpu.ctx.gpr[3..13].to_vec(), entries.collect())
}

/// What a refused call leaves.
fn refusal(rig: &mut Rig, arguments: &[u64]) -> Result {
    // Of a token that nobody serves.
    let (mut registers, entries) = result(rig, 0x3fc, arguments);
    registers[0] = H_PARAMETER.cast_unsigned();
    (registers, entries)
}

#[test]
fn every_bit_of_every_flags_parameter() {
    for keys in [StorageKeys::Offered, StorageKeys::NotOffered] {
        let mut lenient = rig(UndefinedFlags::Ignored, keys);
        let mut strict = rig(UndefinedFlags::Refused, keys);
        for call in CALLS {
            let with = |flags| [&[flags], call.arguments].concat();
            let plain = result(&mut lenient, call.token, &with(0));
            assert_eq!(plain.0[0].cast_signed(), H_SUCCESS);
            assert_eq!(result(&mut strict, call.token, &with(0)), plain);
            for bit in (0..64).step_by(unless_miri(1, 7)) {
                let what = (call.token, bit, keys);
                let arguments = with(1 << (63 - bit));
                let ignored = result(&mut lenient, call.token, &arguments);
                let answer = result(&mut strict, call.token, &arguments);
                let key = keys == StorageKeys::NotOffered && (50..55).contains(&bit);
                if call.defined.contains(&bit) && !key {
                    assert_eq!(answer, ignored, "{what:x?}");
                    assert_ne!(answer.0[0].cast_signed(), H_PARAMETER, "{what:x?}");
                } else {
                    assert_eq!(answer, refusal(&mut strict, &arguments), "{what:x?}");
                    // As without the bit, but that the register itself may be left.
                    assert_eq!(ignored.0[0], plain.0[0], "{what:x?}");
                    assert_eq!(ignored.1, plain.1, "{what:x?}");
                }
            }
        }
    }
}

/// Checks each bit of each specifier of a call whose `count` specifiers begin at argument `first`
/// and are `step` apart.
fn specifiers(token: u64, first: usize, step: usize, count: usize, undefined: &[u32]) {
    let keys = StorageKeys::Offered;
    let mut lenient = rig(UndefinedFlags::Ignored, keys);
    let mut strict = rig(UndefinedFlags::Refused, keys);
    for place in 0..count {
        for bit in (0..64).step_by(unless_miri(1, 7)) {
            let what = (token, place, bit);
            let mut arguments = [0; 9];
            for i in 0..count {
                arguments[first + i * step] = 1 << 62 | (PTEX + i as u64);
            }
            let spec = &mut arguments[first + place * step];
            *spec ^= 1 << (63 - bit);
            // What comes after the end mark is not looked at.
            let ends = *spec >> 62 == 3;
            if ends && place + 1 < count {
                arguments[first + (place + 1) * step] |= !0 << 48 & !(3 << 62);
            }
            let arguments = &arguments[..first + count * step];
            let ignored = result(&mut lenient, token, arguments);
            let answer = result(&mut strict, token, arguments);
            if undefined.contains(&bit) {
                assert_eq!(answer, refusal(&mut strict, arguments), "{what:x?}");
                assert_eq!(ignored.0[0].cast_signed(), H_SUCCESS, "{what:x?}");
                assert_eq!(ignored.1[place], [0, 0], "{what:x?}");
            } else {
                assert_eq!(answer, ignored, "{what:x?}");
            }
        }
    }
}

#[test]
fn every_bit_of_every_bulk_remove_specifier() {
    specifiers(0x124, 0, 2, 4, &[2, 3, 4, 5]);
}

#[test]
fn every_bit_of_every_block_remove_specifier() {
    let undefined: Vec<u32> = (2..7).chain(8..16).collect();
    specifiers(0x328, 1, 1, 8, &undefined);
}

#[test]
fn the_other_calls_are_served_as_ever() {
    let checked = [
        0x004, 0x008, 0x00c, 0x010, 0x014, 0x018, 0x02c, 0x124, 0x328,
    ];
    let strict = Table::<FakePlatform>::of(InterruptMode::Xics, UndefinedFlags::Refused);
    let usual = Table::<FakePlatform>::of(InterruptMode::Xics, UndefinedFlags::Ignored);
    for token in (0..0x400).step_by(4).chain([H_RTAS]) {
        let slot = slot(token).unwrap();
        let same = core::ptr::fn_addr_eq(strict[slot], usual[slot]);
        assert_eq!(same, !checked.contains(&token), "{token:#x}");
    }
}
