// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Calls that need memory when the pool has none: the guest is held before the call, which has done
//! nothing, and makes it again.

use super::*;
use crate::config::Authority;
use crate::testing::{HPT_ENTRIES, RigOptions, set_storage_fault};
use penstock_arch::addr::GuestReal;
use penstock_mm::guest_memory::PIECE;

const ENTER: u64 = 0x08;
const READ: u64 = 0x0c;
const PAGE_INIT: u64 = 0x2c;
const REGISTER_VPA: u64 = 0xdc;
const ZERO_PAGE: u64 = 1 << 15;
const COPY_PAGE: u64 = 1 << 14;
const DISPLAY_CHARACTER: u32 = 0x2000;
const NVRAM_FETCH: u32 = 0x200f;

const FRAMES: u64 = 4;

/// A partition whose pool has one frame, which the partition has touched, and three that another has.
fn rig() -> Rig {
    let rig = Rig::with(RigOptions {
        pool_frames: FRAMES,
        authority: Authority::Control,
        ..RigOptions::default()
    });
    rig.put_words(0x100, &[1]);
    let other = rig.other.as_ref().unwrap().memory();
    for piece in 0..FRAMES - 1 {
        other.write_u8(GuestReal::new(piece * PIECE), 7).unwrap();
    }
    rig
}

impl Rig {
    /// Makes the call, which finds no frame: nothing of the guest's has changed, and it is about to make
    /// the call again.
    #[track_caller]
    fn call_waits(&mut self, token: u64, arguments: &[u64]) {
        let ctx = &mut self.vcpu.ctx;
        ctx.gpr = core::array::from_fn(filler);
        ctx.gpr[3] = token;
        ctx.gpr[4..4 + arguments.len()].copy_from_slice(arguments);
        ctx.pc = 0x1_0004;
        ctx.msr = 0x8000_0000_0000_1003;
        let before = ctx.gpr;
        let share = *self.vcpu.partition.mmu.memory().share().unwrap();
        let counts = share.counts();
        assert_eq!(dispatch(&mut self.vcpu), LightExit::NO_FRAME, "{token:#x}");
        let ctx = &self.vcpu.ctx;
        assert_eq!((ctx.gpr, ctx.pc), (before, 0x1_0000));
        assert_eq!(ctx.msr, 0x8000_0000_0000_1003);
        assert_eq!(share.counts(), counts);
    }

    /// The other partition starts over.
    fn memory_comes_back(&self) {
        self.other.as_ref().unwrap().clear_all();
    }
}

#[test]
fn page_init_waits() {
    let mut rig = rig();
    let to = 5 * PIECE;
    rig.call_waits(PAGE_INIT, &[ZERO_PAGE, to, 0]);
    rig.call_waits(PAGE_INIT, &[COPY_PAGE, to, 0]);
    // What is there needs no frame, and neither does a source that was never touched.
    rig.call(PAGE_INIT, &[COPY_PAGE, 0, to], H_SUCCESS, []);
    assert_eq!(rig.word(0x100), 0);
    rig.put_words(0x100, &[1]);
    rig.memory_comes_back();
    rig.call(PAGE_INIT, &[COPY_PAGE, to, 0], H_SUCCESS, []);
    assert_eq!(rig.word(to + 0x100), 1);
}

#[test]
fn enter_with_a_zeroed_page_waits() {
    let mut rig = rig();
    let (v, r) = (0x4000_1ace_5400_0195, 0x0000_0000_0010_1192);
    rig.call_waits(ENTER, &[ZERO_PAGE, 0x1000, v, r]);
    rig.call(READ, &[0, 0x1000], H_SUCCESS, [0, 0]);
    // Without the flag the page comes with its first use.
    rig.call(ENTER, &[0, 0x1000, v, r], H_SUCCESS, [0x1000]);
    rig.call(ENTER, &[ZERO_PAGE, HPT_ENTRIES, v, r], H_PARAMETER, []);
    rig.memory_comes_back();
    rig.call(ENTER, &[ZERO_PAGE, 0x1000, v, r], H_SUCCESS, [0x1001]);
    rig.check();
}

#[test]
fn rtas_waits_before_it_does_anything() {
    let mut rig = rig();
    // A block whose results would lie in the next piece.
    let block = PIECE - 16;
    rig.put_words(block, &[DISPLAY_CHARACTER, 1, 1, 0x41]);
    rig.call_waits(H_RTAS, &[block]);
    assert!(rig.vcpu.partition.output.is_empty());
    // A block here and a buffer there.
    let fetch = [NVRAM_FETCH, 3, 2, 0, 5 << 16, 16, 9, 9];
    rig.put_words(0x200, &fetch);
    rig.call_waits(H_RTAS, &[0x200]);
    rig.memory_comes_back();
    rig.call(H_RTAS, &[block], H_SUCCESS, []);
    assert_eq!(rig.word(PIECE), 0);
    assert!(!rig.vcpu.partition.output.is_empty());
    rig.call(H_RTAS, &[0x200], H_SUCCESS, []);
    assert_eq!((rig.word(0x200 + 24), rig.word(0x200 + 28)), (0, 16));
    assert_ne!(rig.word(5 << 16), 0);
}

#[test]
fn an_area_is_registered_when_it_has_its_frame() {
    let mut rig = rig();
    let (flags, area) = (1 << 45, 5 * PIECE);
    // A size of 0 is refused, and memory that was never touched has that.
    rig.call(REGISTER_VPA, &[flags, 0, area], H_PARAMETER, []);
    rig.memory_comes_back();
    rig.put_words(area + 4, &[640 << 16]);
    rig.call(REGISTER_VPA, &[flags, 0, area], H_SUCCESS, []);
    assert!(rig.vcpu.processor.areas.lock().vpa().is_some());
}

#[test]
fn a_fault_waits_where_it_is() {
    let mut rig = rig();
    // In real mode, a store to a piece without a frame.
    set_storage_fault(5 * PIECE, 0x4200_0000, 0);
    rig.vcpu.ctx.pc = 0x1_0004;
    rig.vcpu.ctx.msr = 0x8000_0000_0000_1002;
    let gpr = rig.vcpu.ctx.gpr;
    assert_eq!(rig.vcpu.storage_fault(0xe00), LightExit::NO_FRAME);
    assert_eq!((rig.vcpu.ctx.pc, rig.vcpu.ctx.gpr), (0x1_0004, gpr));
    rig.memory_comes_back();
    set_storage_fault(5 * PIECE, 0x4200_0000, 0);
    assert_eq!(rig.vcpu.storage_fault(0xe00), LightExit::RESUME);
    assert_eq!((rig.vcpu.ctx.pc, rig.vcpu.ctx.gpr), (0x1_0004, gpr));
    assert!(take_writes().is_empty());
    rig.check();
}
