// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Random registers into the dispatcher and the fault handler: nothing panics, and what must hold
//! holds after each step.

use super::*;
use crate::platform::HDSISR_CANARY;
use crate::rtas::testing::config;
use crate::testing::{RigOptions, set_authority, set_random, set_storage_fault, set_timebase};
use alloc::vec;
use alloc::vec::Vec;
use core::cell::RefCell;
use penstock_arch::fake::steps;
use penstock_mm::guest_memory::Backing;
use proptest::collection;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    Hcall {
        token: u64,
        arguments: [u64; 9],
        msr: u64,
    },
    Rtas {
        block: Vec<u32>,
        at: u64,
    },
    Fault {
        vector: u64,
        hdar: u64,
        hdsisr: u64,
        asdr: u64,
        msr: u64,
        keys: u64,
    },
    Device,
    Input(u8),
    Restart,
}

/// Numbers that mean something as an argument, and any other.
fn argument() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => 0..16_u64,
        4 => 0..0x4000_u64,
        2 => 0x2220..0x2228_u64,
        2 => (0..0x1000_u64).prop_map(|page| page << 12),
        2 => (0..64_u32).prop_map(|bit| 1 << bit),
        2 => (0..64_u32).prop_map(|bit| u64::MAX << bit),
        2 => (1..8_u64).prop_map(|subfunction| subfunction << 45),
        2 => (0..0x4000_u64).prop_map(|ptex| 0x4000_0000_0000_0000 | ptex),
        2 => (0..0x4000_u64, 0..4_u64).prop_map(|(ptex, flags)| 1 << 62 | flags << 56 | ptex),
        2 => Just(0x4000_1234_5600_0005_u64),
        2 => (0..256_u64, any::<u16>()).prop_map(|(page, low)| page << 16 | u64::from(low)),
        2 => (0..0x100_u64, 0..8_u64).prop_map(|(page, pp)| page << 16 | 0x1010 | pp),
        1 => any::<u64>(),
    ]
}

fn msr() -> impl Strategy<Value = u64> {
    // EE, PR, IR, DR, RI, LE in any combination; HV never: no guest has it.
    any::<u64>().prop_map(|bits| 0x8000_0000_0000_1000 | bits & 0xc033)
}

fn step() -> impl Strategy<Value = Step> {
    let known = (0..table::NAMES.len()).prop_map(|i| table::NAMES[i].0);
    let token = prop_oneof![12 => known, 1 => 0..0x400_u64, 1 => any::<u64>()];
    let arguments = proptest::array::uniform9(argument());
    let hcall = (token, arguments, msr()).prop_map(|(token, arguments, msr)| Step::Hcall {
        token,
        arguments,
        msr,
    });
    let enter =
        (0..0x100_u64, 0..16_u64, any::<u64>()).prop_map(|(page, low, attributes)| Step::Hcall {
            token: 0x08,
            arguments: [
                0,
                0x2220,
                0x4000_1234_5600_0005 | (low & 1) << 1,
                page << 16 | 0x1010 | attributes & 0xb000_0000_0000_0fa7,
                0,
                0,
                0,
                0,
                0,
            ],
            msr: 0x8000_0000_0000_1000,
        });
    let mode = (0..5_u64, 0..5_u64, 0..9_u64).prop_map(|(mflags, resource, value)| Step::Hcall {
        token: 0x31c,
        arguments: [mflags, resource, value / 7, value / 8, 0, 0, 0, 0, 0],
        msr: 0x8000_0000_0000_1000,
    });
    let cell = prop_oneof![
        3 => 0..8_u32,
        2 => 0x0ff0..0x1010_u32,
        1 => (0..32_u32).prop_map(|bit| 1 << bit),
        1 => any::<u32>(),
    ];
    let rtas = (
        0x1fff..0x2014_u32,
        0..5_u32,
        0..4_u32,
        collection::vec(cell, 12),
        any::<bool>(),
    )
        .prop_map(|(token, nargs, nret, cells, shaped)| {
            let function = crate::rtas::table::find(token).filter(|_| shaped);
            let (nargs, nret) =
                function.map_or((nargs, nret), |f| (u32::from(f.nargs), u32::from(f.nret)));
            let mut block = Vec::from([token, nargs, nret]);
            block.extend(cells);
            Step::Rtas { block, at: 0x8000 }
        });
    let hdsisr = prop_oneof![
        Just(0x4000_0000_u64),
        Just(0x4200_0000),
        Just(0x0800_0000),
        Just(0x0a00_0000),
        Just(0x0020_0000),
        Just(HDSISR_CANARY),
        any::<u32>().prop_map(u64::from),
        any::<u64>(),
    ];
    let asdr = prop_oneof![
        Just(0x4000_1234_5600_0510_u64),
        Just(0x4000_1234_5600_0d10),
        // The real mode area with 16 MiB pages.
        Just(0x4001_ffff_ff00_0100),
        any::<u64>(),
    ];
    let hdar = prop_oneof![
        Just(0xc000_0000_0012_3456_u64),
        0..0x200_0000_u64,
        any::<u64>()
    ];
    let fault = (any::<bool>(), hdar, hdsisr, asdr, msr(), any::<u64>()).prop_map(
        |(fetch, hdar, hdsisr, asdr, msr, keys)| Step::Fault {
            vector: if fetch { 0xe20 } else { 0xe00 },
            hdar,
            hdsisr,
            asdr,
            msr,
            keys,
        },
    );
    prop_oneof![
        12 => hcall,
        4 => enter,
        2 => mode,
        4 => rtas,
        6 => fault,
        1 => Just(Step::Device),
        1 => any::<u8>().prop_map(Step::Input),
        1 => Just(Step::Restart),
    ]
}

impl Rig {
    fn step(&mut self, step: &Step) {
        match step {
            Step::Hcall {
                token,
                arguments,
                msr,
            } => {
                self.vcpu.ctx.gpr = core::array::from_fn(filler);
                self.vcpu.ctx.gpr[3] = *token;
                self.vcpu.ctx.gpr[4..13].copy_from_slice(arguments);
                self.vcpu.ctx.msr = *msr;
                let exit = dispatch(&mut self.vcpu);
                let gpr = self.vcpu.ctx.gpr;
                for register in (0..3).chain(13..32) {
                    assert_eq!(gpr[register], filler(register));
                }
                let is_cede = *token == 0xe0 && msr & Msr::PR.bits() == 0;
                let ee = if is_cede { Msr::EE.bits() } else { 0 };
                // H_SIGNAL_SYS_RESET may reach the caller itself.
                if *token == 0x380 && self.vcpu.ctx.pc == 0x100 {
                    assert_eq!(
                        self.vcpu.ctx.msr & 0x9000_0000_0000_1000,
                        0x8000_0000_0000_1000
                    );
                } else {
                    assert_eq!(self.vcpu.ctx.msr, msr | ee);
                }
                if exit == LightExit::RESUME && msr & Msr::PR.bits() != 0 {
                    assert_eq!(gpr[3].cast_signed(), H_PRIVILEGE);
                }
                if exit == LightExit::DRAIN_CONSOLE {
                    self.vcpu.partition.output.clear();
                }
            }
            Step::Rtas { block, at } => {
                self.put_words(*at, block);
                self.vcpu.ctx.msr = 0x1002;
                (self.vcpu.ctx.gpr[3], self.vcpu.ctx.gpr[4]) = (H_RTAS, *at);
                let _ = dispatch(&mut self.vcpu);
                assert_eq!(self.vcpu.ctx.msr, 0x1002);
            }
            Step::Fault {
                vector,
                hdar,
                hdsisr,
                asdr,
                msr,
                keys,
            } => {
                set_storage_fault(*hdar, *hdsisr, *asdr);
                set_authority(*keys, *keys);
                let cause = if *vector == 0xe20 {
                    hdsisr & 0x783f_0000
                } else {
                    0
                };
                (self.vcpu.ctx.pc, self.vcpu.ctx.msr) = (*hdar & !3, msr | cause);
                assert_eq!(self.vcpu.storage_fault(*vector), LightExit::RESUME);
                assert_eq!(self.vcpu.ctx.msr & Msr::HV.bits(), 0);
                assert_eq!(self.vcpu.ctx.msr & 0x783f_0000, 0, "cause bits in the MSR");
                let offset = self.vcpu.ctx.pc & 0xfff;
                assert!(self.vcpu.ctx.pc == *hdar & !3 || matches!(offset, 0x300 | 0x400));
            }
            Step::Device => self.trigger_vty(),
            Step::Input(byte) => {
                let _ = self.vcpu.partition.input.push(*byte);
            }
            Step::Restart => self.restart(),
        }
    }

    fn check_all(&mut self) {
        self.check();
        let guest = self.vcpu.lpcr.bits();
        assert_eq!(guest & !GUEST_LPCR, Lpcr::GUEST.bits());
        let ail = guest & Lpcr::AIL3.bits();
        assert!(ail == 0 || ail == Lpcr::AIL3.bits());
        for lpcr in take_lpcr() {
            let vpm = Lpcr::VPM1.bits();
            assert_eq!(lpcr.bits() & !GUEST_LPCR | vpm, Lpcr::GUEST.bits());
        }
        for (register, value) in take_writes() {
            use crate::platform::GuestRegister;
            match register {
                GuestRegister::Ciabr => assert_ne!(value & 3, 3),
                GuestRegister::Dawrx0 => assert_eq!(value & 0xffff_ffff_0000_0004, 0),
                GuestRegister::Srr1 => assert_eq!(value & Msr::HV.bits(), 0),
                _ => {}
            }
        }
        self.machine.tlb.take();
    }
}

#[test]
fn nothing_that_a_guest_does_breaks_the_hypervisor() {
    let rig = RefCell::new(Rig::with(RigOptions {
        backing: Backing::Lazy,
        authority: crate::config::Authority::Control,
        ..RigOptions::default()
    }));
    set_random(Some(0x1234));
    proptest!(config(), |(steps in collection::vec(step(), 1..steps(60)))| {
        let rig = &mut *rig.borrow_mut();
        rig.restart();
        for (number, step) in steps.iter().enumerate() {
            set_timebase(number as u64 * 1000);
            rig.step(step);
            rig.check_all();
        }
    });
    // The steps were not all refused; a handful of cases may not say so.
    if config().cases >= 32 {
        let counts = rig.borrow().vcpu.faults;
        assert!(
            counts.repaired > 0 && counts.reflected > 0 && counts.stray > 0,
            "{counts:?}"
        );
    }
}
