// SPDX-License-Identifier: Apache-2.0 OR MIT
//! H_PUT_TERM_CHAR and H_GET_TERM_CHAR (LoPAR, Virtual Terminal).

use super::*;
use crate::console::ConsoleSink;
use alloc::vec::Vec;

const PUT: u64 = 0x58;
const GET: u64 = 0x54;
const VTY: u64 = 0x7100_0000;

#[derive(Default)]
struct Sink(Vec<u8>);

impl ConsoleSink for Sink {
    fn write(&mut self, bytes: &[u8]) -> usize {
        self.0.extend_from_slice(bytes);
        bytes.len()
    }
}

fn written(rig: &Rig) -> Vec<u8> {
    let mut sink = Sink::default();
    rig.vcpu.partition.output.drain(&mut sink);
    sink.0
}

#[test]
fn put_writes_the_first_len_bytes_of_both_registers() {
    let mut rig = Rig::new();
    rig.call(
        PUT,
        &[VTY, 16, 0x5065_6e73_746f_636b, 0x2063_6f6e_736f_6c65],
        H_SUCCESS,
        [],
    );
    rig.call(
        PUT,
        &[VTY, 9, 0x4142_4344_4546_4748, 0x49ff_ffff_ffff_ffff],
        H_SUCCESS,
        [],
    );
    rig.call(PUT, &[VTY, 0, 0x7878_7878_7878_7878, 0], H_SUCCESS, []);
    rig.call(PUT, &[VTY, 1, 0x21ff_ffff_ffff_ffff, 0], H_SUCCESS, []);
    assert_eq!(written(&rig), b"Penstock consoleABCDEFGHI!");
}

#[test]
fn terminal_0_is_the_first_vty_and_others_do_not_exist() {
    let mut rig = Rig::new();
    rig.call(PUT, &[0, 2, 0x6869_0000_0000_0000, 0], H_SUCCESS, []);
    for termno in [1, VTY - 1, VTY + 1, VTY | 1 << 32, u64::MAX] {
        rig.call(PUT, &[termno, 2, 0x6e6f_0000_0000_0000, 0], H_PARAMETER, []);
        rig.call(GET, &[termno], H_PARAMETER, []);
    }
    assert_eq!(written(&rig), b"hi");
}

#[test]
fn more_than_sixteen_bytes_are_refused_whole() {
    let mut rig = Rig::new();
    for len in [17, 256, 1 << 32, u64::MAX] {
        rig.call(PUT, &[VTY, len, 0x6e6f_6e6f_6e6f_6e6f, 0], H_PARAMETER, []);
    }
    assert_eq!(written(&rig), b"");
}

#[test]
fn a_full_ring_is_busy_and_asks_for_a_drain() {
    let mut rig = Rig::new();
    let mut accepted = 0;
    while accepted < 0x10_0000 {
        rig.vcpu.ctx.gpr = core::array::from_fn(filler);
        rig.vcpu.ctx.gpr[3..6].copy_from_slice(&[PUT, VTY, 16]);
        if dispatch(&mut rig.vcpu) != LightExit::RESUME {
            break;
        }
        assert_eq!(rig.vcpu.ctx.gpr[3], 0);
        accepted += 16;
    }
    // The ring has 16 KiB and keeps a little of it free.
    assert!((0x3fe0..=0x4000).contains(&accepted), "{accepted}");
    let text = [VTY, 1, 0x2100_0000_0000_0000, 0];
    assert_eq!(
        rig.call_exit(PUT, &text, H_BUSY, []),
        LightExit::DRAIN_CONSOLE
    );
    assert_eq!(written(&rig).len(), accepted);
    rig.call(PUT, &text, H_SUCCESS, []);
    assert_eq!(written(&rig), b"!");
}

#[test]
fn get_packs_up_to_sixteen_bytes_and_zeroes_the_rest() {
    let mut rig = Rig::new();
    rig.call(GET, &[VTY], H_SUCCESS, [0, 0, 0]);
    for byte in b"Penstock console!\x03" {
        rig.vcpu.partition.input.push(*byte).unwrap();
    }
    rig.call(
        GET,
        &[VTY],
        H_SUCCESS,
        [16, 0x5065_6e73_746f_636b, 0x2063_6f6e_736f_6c65],
    );
    rig.call(GET, &[0], H_SUCCESS, [2, 0x2103_0000_0000_0000, 0]);
    rig.call(GET, &[0], H_SUCCESS, [0, 0, 0]);
}
