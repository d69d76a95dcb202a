// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The page table calls: where arguments are taken from and results go to. What they do is tested
//! in `penstock_mm`.

use super::*;
use crate::testing::HPT_ENTRIES;
use penstock_arch::addr::GuestReal;

const REMOVE: u64 = 0x04;
const ENTER: u64 = 0x08;
const READ: u64 = 0x0c;
const CLEAR_MOD: u64 = 0x10;
const CLEAR_REF: u64 = 0x14;
const PROTECT: u64 = 0x18;
const PAGE_INIT: u64 = 0x2c;
const BULK_REMOVE: u64 = 0x124;
const CLEAR_HPT: u64 = 0x358;
const BLOCK_REMOVE: u64 = 0x328;

const EXACT: u64 = 0x80_0000_0000;
const READ_4: u64 = 0x20_0000_0000;
const AVPN: u64 = 0x8000_0000;

/// A 64 KiB page of a 1 TiB segment as Linux enters it.
const V: u64 = 0x4000_1ace_5400_0195;
/// Its page at 1 MiB, with R, C, memory coherence, and user access.
const R: u64 = 0x0000_0000_0010_1192;

#[test]
fn enter_returns_the_slot_it_took() {
    let mut rig = Rig::new();
    for slot in 0..8 {
        rig.call(ENTER, &[0, 0x1003, V, R], H_SUCCESS, [0x1000 + slot]);
    }
    rig.call(ENTER, &[0, 0x1000, V, R], H_PTEG_FULL, []);
    rig.call(ENTER, &[EXACT, 0x1005, V, R], H_PTEG_FULL, []);
    rig.call(ENTER, &[EXACT, 0x100d, V, R], H_SUCCESS, [0x100d]);
    rig.call(ENTER, &[0, HPT_ENTRIES, V, R], H_PARAMETER, []);
    // Outside memory; a device's WIMG.
    rig.call(ENTER, &[0, 0x1010, V, R | 1 << 24], H_PARAMETER, []);
    rig.call(ENTER, &[0, 0x1010, V, R & !0x78 | 0x28], H_PARAMETER, []);
    rig.check();
}

#[test]
fn read_shows_one_entry_or_four() {
    let mut rig = Rig::new();
    rig.call(ENTER, &[EXACT, 0x2005, V, R], H_SUCCESS, [0x2005]);
    rig.call(
        ENTER,
        &[EXACT, 0x2007, V | 0x80, R | 0x1_0000],
        H_SUCCESS,
        [0x2007],
    );
    rig.call(READ, &[0, 0x2005], H_SUCCESS, [V, R]);
    rig.call(READ, &[0, 0x2004], H_SUCCESS, [0, 0]);
    let four = [0, 0, V, R, 0, 0, V | 0x80, R | 0x1_0000];
    rig.call(READ, &[READ_4, 0x2005], H_SUCCESS, four);
    rig.call(READ, &[READ_4, 0x2004], H_SUCCESS, four);
    rig.call(READ, &[0, HPT_ENTRIES], H_PARAMETER, []);
    rig.call(READ, &[READ_4, u64::MAX], H_PARAMETER, []);
}

#[test]
fn remove_returns_the_entry_as_the_guest_knows_it() {
    let mut rig = Rig::new();
    rig.call(ENTER, &[EXACT, 0x3000, V, R], H_SUCCESS, [0x3000]);
    rig.call(
        REMOVE,
        &[AVPN, 0x3000, 0x4000_1ace_5400_0200],
        H_NOT_FOUND,
        [],
    );
    rig.call(REMOVE, &[AVPN, 0x3000, V & !0x7f], H_SUCCESS, [V, R]);
    rig.call(REMOVE, &[0, 0x3000, 0], H_NOT_FOUND, []);
    rig.call(REMOVE, &[0, HPT_ENTRIES, 0], H_PARAMETER, []);
    assert_eq!(rig.check().by_size, [0, 0, 1]);
}

#[test]
fn protect_changes_protection_and_clears_r() {
    let mut rig = Rig::new();
    rig.call(ENTER, &[EXACT, 0x3000, V, R], H_SUCCESS, [0x3000]);
    rig.call(PROTECT, &[AVPN, 0x3000, 0], H_NOT_FOUND, []);
    // pp0 and pp = 3, no-execute, key 1.
    rig.call(PROTECT, &[AVPN | 0x307, 0x3000, V & !0x7f], H_SUCCESS, []);
    rig.call(READ, &[0, 0x3000], H_SUCCESS, [V, 0x8000_0000_0010_1297]);
    rig.call(PROTECT, &[0, HPT_ENTRIES, 0], H_PARAMETER, []);
    rig.check();
}

#[test]
fn clear_ref_and_clear_mod_return_what_was() {
    let mut rig = Rig::new();
    rig.call(ENTER, &[EXACT, 0x3000, V, R], H_SUCCESS, [0x3000]);
    rig.call(CLEAR_REF, &[0, 0x3000], H_SUCCESS, [R]);
    rig.call(CLEAR_MOD, &[0, 0x3000], H_SUCCESS, [R & !0x100]);
    rig.call(CLEAR_MOD, &[0, 0x3000], H_SUCCESS, [R & !0x180]);
    rig.call(CLEAR_REF, &[0, 0x3001], H_NOT_FOUND, []);
    rig.call(CLEAR_MOD, &[0, HPT_ENTRIES], H_PARAMETER, []);
    rig.check();
}

#[test]
fn bulk_remove_rewrites_its_eight_registers() {
    let mut rig = Rig::new();
    rig.call(ENTER, &[EXACT, 0x3000, V, R], H_SUCCESS, [0x3000]);
    rig.call(ENTER, &[EXACT, 0x3001, V, R & !0x180], H_SUCCESS, [0x3001]);
    let avpn = V & !0x7f;
    let request = |ptex: u64| 0x4200_0000_0000_0000 | ptex;
    rig.call(
        BULK_REMOVE,
        &[
            request(0x3000),
            avpn,
            request(0x3002),
            avpn,
            request(0x3001),
            avpn,
            3 << 62,
            7,
        ],
        H_SUCCESS,
        [
            // Removed with R and C; not found; removed without; the end, untouched.
            0x8e00_0000_0000_3000,
            avpn,
            0x9200_0000_0000_3002,
            avpn,
            0x8200_0000_0000_3001,
            avpn,
            3 << 62,
            7,
        ],
    );
    // A bad request ends the call; what comes after it stays.
    rig.call(
        BULK_REMOVE,
        &[
            request(HPT_ENTRIES),
            avpn,
            request(0x3000),
            avpn,
            1,
            2,
            3,
            4,
        ],
        H_PARAMETER,
        [
            0xa200_0000_0000_0000 | HPT_ENTRIES,
            avpn,
            request(0x3000),
            avpn,
            1,
            2,
            3,
            4,
        ],
    );
    rig.check();
}

#[test]
fn block_remove_answers_from_r4_on() {
    let mut rig = Rig::new();
    rig.call(ENTER, &[EXACT, 0x3000, V & !0x10, R], H_SUCCESS, [0x3000]);
    rig.call(ENTER, &[EXACT, 0x3001, V, R], H_SUCCESS, [0x3001]);
    let request = |ptex: u64| 0x4100_0000_0000_0000 | ptex;
    let arguments = [
        V & !0x7f,
        request(0x3000),
        request(0x3001),
        request(HPT_ENTRIES),
        3 << 62,
        1,
        2,
        3,
        4,
    ];
    let results = [
        // Removed with R and C; bolted; no such entry; the end and what follows, untouched.
        0x8700_0000_0000_3000,
        0x8900_0000_0000_3001,
        0x9100_0000_0000_0000 | HPT_ENTRIES,
        3 << 62,
        1,
        2,
        3,
        4,
    ];
    rig.call(BLOCK_REMOVE, &arguments, H_PARTIAL, results);
    let results = [0, 2, 3 << 62, 3, 4, 5, 6, 7];
    let arguments = [9, 0, 2, 3 << 62, 3, 4, 5, 6, 7];
    rig.call(BLOCK_REMOVE, &arguments, H_PARAMETER, results);
    rig.call(
        BLOCK_REMOVE,
        &[0, 3 << 62, 1, 2, 3, 4, 5, 6, 7],
        H_SUCCESS,
        [3 << 62, 1, 2, 3, 4, 5, 6, 7],
    );
    assert_eq!(rig.check().by_size, [0, 1, 1]);
}

#[test]
fn clear_hpt_leaves_real_mode_alone() {
    let mut rig = Rig::new();
    let before = rig.check();
    for slot in 0..8 {
        rig.call(ENTER, &[0, 0x1000, V, R], H_SUCCESS, [0x1000 + slot]);
    }
    rig.call(CLEAR_HPT, &[], H_SUCCESS, []);
    assert_eq!(rig.check(), before);
    rig.call(CLEAR_HPT, &[u64::MAX; 9], H_SUCCESS, []);
}

#[test]
fn page_init_zeroes_and_copies() {
    const ZERO: u64 = 0x8000;
    const COPY: u64 = 0x4000;
    let mut rig = Rig::new();
    let memory = rig.vcpu.partition.mmu.memory();
    memory
        .write(GuestReal::new(0x20_0ff8), &[0x77; 16])
        .unwrap();
    rig.call(PAGE_INIT, &[COPY, 0x30_0000, 0x20_0000], H_SUCCESS, []);
    assert_eq!(rig.word(0x30_0ffc), 0x7777_7777);
    assert_eq!(rig.word(0x30_1000), 0);
    rig.call(PAGE_INIT, &[ZERO, 0x20_0000, 0], H_SUCCESS, []);
    assert_eq!((rig.word(0x20_0ffc), rig.word(0x20_1000)), (0, 0x7777_7777));
    rig.call(PAGE_INIT, &[ZERO, 0x20_0008, 0], H_PARAMETER, []);
    rig.call(PAGE_INIT, &[COPY, 0x20_0000, 0x100_0000], H_PARAMETER, []);
    rig.call(
        PAGE_INIT,
        &[ZERO, 0xffff_ffff_ffff_f000, 0],
        H_PARAMETER,
        [],
    );
}
