// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Hypervisor storage interrupts: repaired, or passed on with exactly the registers that the
//! guest's own MMU would have set.

use super::*;
use crate::platform::GuestRegister::{Dar, Dsisr as DsisrRegister, Srr0, Srr1 as Srr1Register};
use crate::testing::{Rig, RigOptions, set_authority, set_storage_fault, take_writes};
use penstock_mm::guest_memory::Backing;

/// A page of 64 KiB in a segment of 1 TiB with VSID 0x123456, Ks=0, Kp=1.
const EA: u64 = 0xc000_0000_0012_3456;
const ASDR: u64 = 0x4000_1234_5600_0510;
const V: u64 = 0x4000_1234_5600_0005;
/// Hash 0x123456 ^ page 0x12, in 2048 groups: group 0x444.
const PTEX: u64 = 0x2220;
/// The page at 1 MiB, R and C set, coherent; protection and key are to be added.
const R: u64 = 0x10_1190;
/// The segment of the real mode area with pages of 16 MiB.
const VRMA: u64 = 0x4001_ffff_ff00_0100;
/// Hash 0x1ffffff ^ 0x1ffffff << 25 ^ page 0: the last entry of group 0x7ff.
const VRMA_PTEX: u64 = 0x3fff;

const DATA: u64 = 0xe00;
const FETCH: u64 = 0xe20;

/// A kernel with translation on, big-endian: SF, EE, ME, IR, DR, RI.
const KERNEL: u64 = 0x8000_0000_0000_9032;
/// A program of it.
const PROGRAM: u64 = KERNEL | 0x4000;
/// Real mode.
const REAL: u64 = 0x8000_0000_0000_1002;

const HANDLER: u64 = 0x8000_0000_0000_1000;

impl Rig {
    #[track_caller]
    fn enter(&self, r: u64) {
        assert_eq!(self.vcpu.partition.mmu.h_enter(0, PTEX, V, r), Ok(PTEX));
    }

    /// A fault at `EA` by the instruction at 0x10004.
    fn fault_at(&mut self, vector: u64, ea: u64, hdsisr: u64, asdr: u64, msr: u64) {
        set_storage_fault(ea, hdsisr, asdr);
        self.vcpu.ctx.gpr = core::array::from_fn(|i| i as u64 * 3);
        self.vcpu.ctx.pc = if vector == FETCH { ea } else { 0x1_0004 };
        self.vcpu.ctx.msr = msr;
        assert_eq!(self.vcpu.storage_fault(vector), LightExit::RESUME);
        assert_eq!(self.vcpu.ctx.gpr, core::array::from_fn(|i| i as u64 * 3));
    }

    /// The guest got a data storage interrupt with this DAR and DSISR.
    #[track_caller]
    fn got_dsi(&self, dar: u64, dsisr: u64, interrupted: u64, pc: u64, msr: u64) {
        let expected = [
            (Dar, dar),
            (DsisrRegister, dsisr),
            (Srr0, 0x1_0004),
            (Srr1Register, interrupted),
        ];
        assert_eq!(take_writes(), expected);
        let ctx = &self.vcpu.ctx;
        assert_eq!((ctx.pc, ctx.msr), (pc, msr), "{:#x} {:#x}", ctx.pc, ctx.msr);
    }

    /// The guest got an instruction storage interrupt; DAR and DSISR are as they were.
    #[track_caller]
    fn got_isi(&self, srr0: u64, srr1: u64, pc: u64, msr: u64) {
        assert_eq!(take_writes(), [(Srr0, srr0), (Srr1Register, srr1)]);
        let ctx = &self.vcpu.ctx;
        assert_eq!((ctx.pc, ctx.msr), (pc, msr), "{:#x} {:#x}", ctx.pc, ctx.msr);
    }

    /// The guest goes on as if nothing had been.
    #[track_caller]
    fn got_nothing(&self, pc: u64, msr: u64) {
        assert_eq!(take_writes(), []);
        let ctx = &self.vcpu.ctx;
        assert_eq!((ctx.pc, ctx.msr), (pc, msr), "{:#x} {:#x}", ctx.pc, ctx.msr);
    }

    #[track_caller]
    fn counted(&self, repaired: u64, reflected: u64, stray: u64) {
        let counts = self.vcpu.faults;
        let counts = (counts.repaired, counts.reflected, counts.stray);
        assert_eq!(counts, (repaired, reflected, stray));
    }
}

#[test]
fn a_load_without_translation_is_the_guests_dsi() {
    let mut rig = Rig::new();
    rig.fault_at(DATA, EA, 0x4000_0000, ASDR, KERNEL);
    rig.got_dsi(EA, 0x4000_0000, KERNEL, 0x300, HANDLER);
    rig.fault_at(DATA, EA, 0x4000_0000, ASDR, PROGRAM);
    rig.got_dsi(EA, 0x4000_0000, PROGRAM, 0x300, HANDLER);
    rig.counted(0, 2, 0);
}

#[test]
fn a_store_without_translation_says_that_it_was_one() {
    let mut rig = Rig::new();
    rig.fault_at(DATA, EA, 0x4200_0000, ASDR, KERNEL);
    rig.got_dsi(EA, 0x4200_0000, KERNEL, 0x300, HANDLER);
}

#[test]
fn a_fetch_without_translation_is_the_guests_isi() {
    let mut rig = Rig::new();
    rig.fault_at(FETCH, EA & !3, 0, ASDR, KERNEL | 0x4000_0000);
    rig.got_isi(EA & !3, KERNEL | 0x4000_0000, 0x400, HANDLER);
    rig.counted(0, 1, 0);
}

#[test]
fn a_little_endian_guest_gets_its_interrupts_little_endian() {
    let mut rig = Rig::new();
    rig.vcpu.lpcr |= Lpcr::ILE;
    rig.fault_at(DATA, EA, 0x4200_0000, ASDR, PROGRAM | 1);
    rig.got_dsi(EA, 0x4200_0000, PROGRAM | 1, 0x300, HANDLER | 1);
    rig.fault_at(FETCH, EA & !3, 0, ASDR, PROGRAM | 0x4000_0001);
    rig.got_isi(EA & !3, PROGRAM | 0x4000_0001, 0x400, HANDLER | 1);
}

#[test]
fn ail_moves_the_interrupt_with_relocation_on() {
    let mut rig = Rig::new();
    rig.vcpu.lpcr |= Lpcr::ILE | Lpcr::AIL3;
    rig.fault_at(DATA, EA, 0x4000_0000, ASDR, KERNEL | 1);
    rig.got_dsi(
        EA,
        0x4000_0000,
        KERNEL | 1,
        0xc000_0000_0000_4300,
        HANDLER | 0x31,
    );
    rig.fault_at(FETCH, EA & !3, 0, ASDR, KERNEL | 0x4000_0001);
    rig.got_isi(
        EA & !3,
        KERNEL | 0x4000_0001,
        0xc000_0000_0000_4400,
        HANDLER | 0x31,
    );
    // Data relocation only, as in a handler that looks at memory.
    let half = KERNEL & !0x20;
    rig.fault_at(DATA, EA, 0x4000_0000, ASDR, half);
    rig.got_dsi(EA, 0x4000_0000, half, 0x300, HANDLER | 1);
    let half = KERNEL & !0x10;
    rig.fault_at(FETCH, EA & !3, 0, ASDR, half | 0x4000_0000);
    rig.got_isi(EA & !3, half | 0x4000_0000, 0x400, HANDLER | 1);
}

/// A partition whose memory is backed as it is touched: entries may hide from the processor.
fn lazy() -> Rig {
    Rig::with(RigOptions {
        backing: Backing::Lazy,
        ..RigOptions::default()
    })
}

#[test]
fn a_translation_that_is_there_and_permits_is_retried() {
    let mut rig = lazy();
    rig.enter(R | 2);
    for (vector, hdsisr, cause) in [
        (DATA, 0x4000_0000, 0),
        (DATA, 0x4200_0000, 0),
        (FETCH, 0, 0x4000_0000),
    ] {
        rig.fault_at(vector, EA, hdsisr, ASDR, PROGRAM | cause);
        rig.got_nothing(if vector == FETCH { EA } else { 0x1_0004 }, PROGRAM);
    }
    rig.counted(3, 0, 0);
}

#[test]
fn an_access_that_is_permitted_by_now_is_retried() {
    let mut rig = Rig::new();
    rig.enter(R | 2);
    for (vector, hdsisr, cause) in [
        (DATA, 0x0800_0000, 0),
        (DATA, 0x0a00_0000, 0),
        (DATA, 0x0220_0000, 0),
        (FETCH, 0, 0x1000_0000),
        (FETCH, 0, 0x0800_0000),
    ] {
        rig.fault_at(vector, EA, hdsisr, ASDR, PROGRAM | cause);
        rig.got_nothing(if vector == FETCH { EA } else { 0x1_0004 }, PROGRAM);
    }
    rig.counted(5, 0, 0);
}

#[test]
fn a_cause_that_the_processor_did_not_write_is_retried() {
    let mut rig = Rig::new();
    rig.fault_at(DATA, EA, HDSISR_CANARY, ASDR, PROGRAM);
    rig.got_nothing(0x1_0004, PROGRAM);
    // The first fault's cause is not the second one's.
    rig.fault_at(DATA, EA, 0x4000_0000, ASDR, PROGRAM);
    rig.got_dsi(EA, 0x4000_0000, PROGRAM, 0x300, HANDLER);
    rig.vcpu.ctx.pc = 0x1_0004;
    rig.vcpu.ctx.msr = PROGRAM;
    assert_eq!(rig.vcpu.storage_fault(DATA), LightExit::RESUME);
    rig.got_nothing(0x1_0004, PROGRAM);
    rig.counted(2, 1, 0);
}

#[test]
fn page_protection_is_the_guests_affair() {
    let mut rig = lazy();
    // pp = 1: the kernel writes, programs read.
    rig.enter(R | 1);
    rig.fault_at(DATA, EA, 0x0a00_0000, ASDR, PROGRAM);
    rig.got_dsi(EA, 0x0a00_0000, PROGRAM, 0x300, HANDLER);
    rig.fault_at(DATA, EA, 0x4200_0000, ASDR, KERNEL);
    rig.got_nothing(0x1_0004, KERNEL);
    // pp = 0, no execute.
    rig.vcpu.partition.mmu.h_protect(4, PTEX, 0).unwrap();
    rig.fault_at(DATA, EA, 0x0800_0000, ASDR, PROGRAM);
    rig.got_dsi(EA, 0x0800_0000, PROGRAM, 0x300, HANDLER);
    rig.fault_at(FETCH, EA, 0, ASDR, KERNEL | 0x1000_0000);
    rig.got_isi(EA, KERNEL | 0x1000_0000, 0x400, HANDLER);
    rig.counted(1, 3, 0);
}

#[test]
fn storage_keys_are_those_of_the_amr_and_the_iamr() {
    let mut rig = lazy();
    // Key 1, open to programs.
    rig.enter(R | 0x202);
    set_authority(0x2000_0000_0000_0000, 0);
    rig.fault_at(DATA, EA, 0x0220_0000, ASDR, PROGRAM);
    rig.got_dsi(EA, 0x0220_0000, PROGRAM, 0x300, HANDLER);
    rig.fault_at(DATA, EA, 0x4000_0000, ASDR, PROGRAM);
    rig.got_nothing(0x1_0004, PROGRAM);
    set_authority(0x1000_0000_0000_0000, 0);
    rig.fault_at(DATA, EA, 0x0020_0000, ASDR, PROGRAM);
    rig.got_dsi(EA, 0x0020_0000, PROGRAM, 0x300, HANDLER);
    rig.fault_at(FETCH, EA, 0, ASDR, PROGRAM | 0x4000_0000);
    rig.got_nothing(EA, PROGRAM);
    set_authority(0, 0x1000_0000_0000_0000);
    rig.fault_at(FETCH, EA, 0, ASDR, PROGRAM | 0x0020_0000);
    rig.got_isi(EA, PROGRAM | 0x0020_0000, 0x400, HANDLER);
    rig.counted(2, 3, 0);
}

#[test]
fn a_cause_that_is_not_the_tables_goes_to_the_guest_as_it_is() {
    let mut rig = Rig::new();
    rig.enter(R | 2);
    // A watchpoint.
    rig.fault_at(DATA, EA, 0x0240_0000, ASDR, PROGRAM);
    rig.got_dsi(EA, 0x0240_0000, PROGRAM, 0x300, HANDLER);
    rig.counted(0, 1, 0);
}

#[test]
fn memory_that_was_never_touched_is_backed_and_the_access_repeated() {
    let mut rig = lazy();
    rig.enter(R | 2);
    let before = rig.check();
    rig.fault_at(DATA, EA, 0x4200_0000, ASDR, PROGRAM);
    rig.got_nothing(0x1_0004, PROGRAM);
    rig.counted(1, 0, 0);
    let after = rig.check();
    assert_eq!(
        (after.valid, after.absent),
        (before.valid + 1, before.absent - 1)
    );
    assert_eq!(rig.word(0x10_3454), 0);
}

#[test]
fn real_mode_reaches_memory_that_was_never_touched() {
    let mut rig = lazy();
    let before = rig.check();
    rig.fault_at(FETCH, 0x100, 0, VRMA, REAL | 0x4000_0000);
    rig.got_nothing(0x100, REAL);
    rig.counted(1, 0, 0);
    assert_eq!(rig.check().valid, before.valid + 1);
}

#[test]
fn a_real_mode_page_that_the_guest_removed_comes_back() {
    let mut rig = Rig::new();
    let partition = rig.vcpu.partition;
    assert_eq!(rig.check().by_size, [0, 0, 1]);
    assert!(partition.mmu.h_remove(0, VRMA_PTEX, 0).is_ok());
    assert_eq!(rig.check().by_size, [0, 0, 0]);
    rig.fault_at(DATA, 0x80_0000, 0x4200_0000, VRMA, REAL);
    rig.got_nothing(0x1_0004, REAL);
    assert_eq!(rig.check().by_size, [0, 0, 1]);
    rig.counted(1, 0, 0);
}

#[test]
fn real_mode_outside_memory_is_a_storage_interrupt_and_remembered() {
    let mut rig = Rig::new();
    rig.fault_at(DATA, 0x100_0000, 0x4000_0000, VRMA, REAL);
    rig.got_dsi(0x100_0000, 0x4000_0000, REAL, 0x300, HANDLER);
    assert_eq!(rig.vcpu.stray, Some(GuestReal::new(0x100_0000)));
    // The processor ignores the upper four bits of the address; the DAR has them.
    rig.fault_at(DATA, 0xc000_0001_0000_0008, 0x4200_0000, VRMA, REAL);
    rig.got_dsi(0xc000_0001_0000_0008, 0x4200_0000, REAL, 0x300, HANDLER);
    assert_eq!(rig.vcpu.stray, Some(GuestReal::new(0x1_0000_0008)));
    rig.fault_at(FETCH, 0x200_0000, 0, VRMA, REAL | 0x4000_0000);
    rig.got_isi(0x200_0000, REAL | 0x4000_0000, 0x400, HANDLER);
    assert_eq!(rig.vcpu.stray, Some(GuestReal::new(0x200_0000)));
    rig.counted(0, 0, 3);
}

#[test]
fn a_partition_starts_in_big_endian_real_mode_with_the_tree_in_r3() {
    let mut rig = Rig::new();
    let vcpu = &mut rig.vcpu;
    vcpu.ctx.gpr = [7; 32];
    (vcpu.ctx.lr, vcpu.ctx.cr, vcpu.ctx.trap) = (1, 2, 3);
    (vcpu.ctx.host_sp, vcpu.ctx.host_toc, vcpu.ctx.thread) = (0x100, 0x200, 0x300);
    vcpu.lpcr |= Lpcr::ILE | Lpcr::AIL3;
    vcpu.begin(Start {
        entry: GuestReal::new(0x40_0000),
        r3: 0xf0_0000,
    });
    let mut gpr = [0; 32];
    gpr[3] = 0xf0_0000;
    assert_eq!(vcpu.ctx.gpr, gpr);
    assert_eq!(
        (vcpu.ctx.pc, vcpu.ctx.msr),
        (0x40_0000, 0x8000_0000_0000_1000)
    );
    assert_eq!((vcpu.ctx.lr, vcpu.ctx.cr, vcpu.ctx.trap), (0, 0, 0));
    assert_eq!(vcpu.lpcr, Lpcr::GUEST);
    // The hypervisor's own stay.
    assert_eq!((vcpu.ctx.host_sp, vcpu.ctx.host_toc), (0x100, 0x200));
    assert_eq!(vcpu.ctx.thread, 0x300);
}
