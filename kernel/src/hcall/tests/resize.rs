// SPDX-License-Identifier: Apache-2.0 OR MIT
//! H_RESIZE_HPT_PREPARE and H_RESIZE_HPT_COMMIT.

use super::*;
use crate::testing::{HPT_ENTRIES, RigOptions, take_partition_entries};
use penstock_mm::hpt::HptOrder;

const PREPARE: u64 = 0x36c;
const COMMIT: u64 = 0x370;

const H_CLOSED: i64 = 2;
const H_AUTHORITY: i64 = -10;
const H_ENTER: u64 = 0x008;
const H_READ: u64 = 0x00c;
const EXACT: u64 = 0x80_0000_0000;

/// A bolted 64 KiB page of a 1 TiB segment, at 1 MiB.
const V: u64 = 0x4000_1ace_5400_0195;
const R: u64 = 0x0000_0000_0010_1192;

fn resizable() -> Rig {
    let rig = Rig::with(RigOptions {
        resize: HptOrder::new(19),
        ..RigOptions::default()
    });
    take_partition_entries();
    rig
}

fn entries(rig: &Rig) -> u64 {
    rig.vcpu.partition.mmu.entries()
}

#[test]
fn a_partition_without_a_second_table_has_no_authority() {
    let mut rig = Rig::new();
    rig.call(PREPARE, &[0, 19], H_AUTHORITY, []);
    rig.call(COMMIT, &[0, 19], H_AUTHORITY, []);
    assert_eq!(take_partition_entries(), []);
}

#[test]
fn refused_calls_change_nothing() {
    let mut rig = resizable();
    rig.call(PREPARE, &[1, 19], H_PARAMETER, []);
    rig.call(PREPARE, &[0, 17], H_PARAMETER, []);
    rig.call(PREPARE, &[0, 47], H_PARAMETER, []);
    rig.call(PREPARE, &[0, 1 << 32 | 19], H_PARAMETER, []);
    rig.call(PREPARE, &[0, 20], H_RESOURCE, []);
    rig.call(COMMIT, &[0, 19], H_CLOSED, []);
    rig.call(PREPARE, &[0, 19], H_SUCCESS, []);
    rig.call(COMMIT, &[1, 19], H_CLOSED, []);
    rig.call(COMMIT, &[0, 18], H_CLOSED, []);
    // Size 0 gives the pending table up.
    rig.call(PREPARE, &[0, 0], H_SUCCESS, []);
    rig.call(COMMIT, &[0, 19], H_CLOSED, []);
    assert_eq!(entries(&rig), HPT_ENTRIES);
    assert_eq!(take_partition_entries(), []);
}

#[test]
fn a_commit_tells_the_hardware_and_drops_what_no_search_finds() {
    let mut rig = resizable();
    rig.call(H_ENTER, &[EXACT, 0x80, V, R], H_SUCCESS, [0x80]);
    rig.call(PREPARE, &[0, 19], H_SUCCESS, []);
    rig.call(COMMIT, &[0, 19], H_SUCCESS, []);
    assert_eq!(entries(&rig), 2 * HPT_ENTRIES);
    let mmu = &rig.vcpu.partition.mmu;
    let pate = mmu.pate().map(penstock_arch::hash::Pate::dwords);
    assert_eq!(take_partition_entries(), [(mmu.lpid(), pate)]);
    rig.check();
    rig.call(H_READ, &[0, 2 * HPT_ENTRIES - 8], H_SUCCESS, [0, 0]);
    rig.call(H_READ, &[0, 2 * HPT_ENTRIES], H_PARAMETER, []);
    // And back.
    rig.call(PREPARE, &[0, 18], H_SUCCESS, []);
    rig.call(COMMIT, &[0, 18], H_SUCCESS, []);
    assert_eq!(entries(&rig), HPT_ENTRIES);
    rig.check();
    rig.call(PREPARE, &[0, 19], H_SUCCESS, []);
    rig.call(COMMIT, &[0, 19], H_SUCCESS, []);
    rig.restart();
    assert_eq!(entries(&rig), HPT_ENTRIES);
    rig.check();
}
