// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The registers of virtual processors: out, in again, and what is refused.

use super::records::{RunState, VectorState, parts};
use super::*;
use crate::partition::Watchpoints;
use penstock_arch::regs::{Lpcr, Msr, VcpuSpr, sprn};
use penstock_arch::switch::SlbEntry;

#[test]
fn registers_come_out_and_go_in_again() {
    let mut world = World::new();
    let occupied = world.target().occupied.as_ref().unwrap();
    occupied
        .with(0, |vcpu| {
            vcpu.ctx.gpr = core::array::from_fn(|number| 0x1_0000 + number as u64);
            (vcpu.ctx.pc, vcpu.ctx.lr, vcpu.ctx.ctr) = (0x1234, 0x5678, 0x9abc);
            (vcpu.ctx.cr, vcpu.ctx.xer, vcpu.ctx.cfar) = (0x8400_0000, 0x2000_0000, 0x4444);
            // With the bits that an exit leaves.
            vcpu.ctx.msr = (Msr::SF | Msr::ME | Msr::EE | Msr::LE).bits() | 0x4000_0000;
            vcpu.lpcr = vcpu
                .partition
                .processors
                .change_lpcr(Lpcr::empty(), Lpcr::ILE | Lpcr::AIL3);
            vcpu.parked.decrementer_expiry = 77;
            vcpu.parked.slb[3] = SlbEntry {
                esid: 0xc000_0000_0800_0000,
                vsid: 0x4000_01ac_e500_0510,
            };
            vcpu.parked.set_spr(VcpuSpr::Sprg3, 0x3333);
            vcpu.parked.set_spr(VcpuSpr::Dpdes, 1);
            vcpu.parked.vectors.vsr[0] = 0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10;
            vcpu.parked.vectors.vsr[63] = 5;
            vcpu.parked.vectors.fpscr = [6, 0];
            vcpu.parked.vectors.vscr = 0x1_0000;
        })
        .unwrap();
    let processors = &world.target().partition().processors;
    let processor = processors.get(0).unwrap();
    assert!(processor.wait(|| false));
    world.suspend();
    let state = world.vcpu();
    assert_eq!(state.run_state.get(), RunState::Ceded as u32);
    assert_eq!(state.gpr[31].get(), 0x1_001f);
    assert_eq!((state.pc.get(), state.lr.get()), (0x1234, 0x5678));
    assert_eq!(
        state.msr.get(),
        (Msr::SF | Msr::ME | Msr::EE | Msr::LE).bits()
    );
    assert_eq!(state.lpcr.get(), (Lpcr::ILE | Lpcr::AIL3).bits());
    assert_eq!(state.decrementer_expiry.get(), 77);
    assert_eq!(state.slb[3][1].get(), 0x4000_01ac_e500_0510);
    let value = |number: u16| {
        let sprs = state.used_sprs().iter();
        let mut found = sprs.filter(|spr| spr.number.get() == number);
        found.next().map(|spr| spr.value.get())
    };
    assert_eq!(value(sprn::SPRG3), Some(0x3333));
    assert_eq!((value(sprn::DPDES), value(sprn::HFSCR)), (None, None));
    // Every register of the guest's is there, on the processor that has most, too.
    for processor in [
        penstock_arch::regs::Processor::Power9,
        penstock_arch::regs::Processor::Power10,
    ] {
        assert!(VcpuSpr::of(processor).count() <= records::MAX_SPRS);
    }
    assert!(state.used_sprs().len() > 40);

    let all = size_of::<VcpuState>() + size_of::<VectorState>();
    let bytes = world.get(Function::VcpuGet, all, &[0, parts::ALL.into()]);
    let (_, rest) = records::read::<VcpuState>(&bytes).unwrap();
    let (vectors, _) = records::read::<VectorState>(rest).unwrap();
    assert_eq!(
        vectors.vsr[0].map(U64::get),
        [0x0102_0304_0506_0708, 0x090a_0b0c_0d0e_0f10]
    );
    assert_eq!(vectors.vsr[63].map(U64::get), [0, 5]);
    assert_eq!((vectors.fpscr.get(), vectors.vscr.get()), (6, 0x1_0000));

    // To another state, and back to what was read.
    let snapshot = |world: &mut World| {
        let occupied = world.target().occupied.as_ref().unwrap();
        occupied
            .with(0, |vcpu| {
                (vcpu.ctx.gpr, vcpu.ctx.pc, vcpu.lpcr, vcpu.parked.clone())
            })
            .unwrap()
    };
    let before = snapshot(&mut world);
    let mut other = state;
    other.run_state = U32::new(RunState::Runnable as u32);
    other.pc = U64::new(0x2222);
    other.lpcr = U64::new(0);
    other.slb[3] = [U64::new(0); 2];
    assert_eq!(world.set_vcpu(&other).status, H::SUCCESS);
    assert_eq!(world.activity(), Activity::Runs);
    let occupied = world.target().occupied.as_ref().unwrap();
    occupied
        .with(0, |vcpu| {
            assert_eq!(vcpu.ctx.pc, 0x2222);
            assert!(!vcpu.lpcr.intersects(Lpcr::ILE | Lpcr::AIL3));
            assert_eq!(vcpu.parked.slb[3], SlbEntry::default());
        })
        .unwrap();
    let reply = world.put(0, Function::VcpuSet, &bytes, &[0]);
    assert_eq!(reply.status, H::SUCCESS, "{:x?}", reply.results());
    assert_eq!(world.activity(), Activity::Ceded);
    assert_eq!(snapshot(&mut world), before);
}

#[test]
fn vector_registers_are_written_by_halves() {
    let mut world = World::new();
    let occupied = world.target().occupied.as_ref().unwrap();
    occupied
        .with(0, |vcpu| vcpu.parked.vectors.vsr = [u128::MAX; 64])
        .unwrap();
    world.suspend();
    let mut state = world.vcpu();
    state.parts = U32::new(parts::FP);
    let mut bytes = state.as_bytes().to_vec();
    bytes.extend_from_slice(VectorState::blank().as_bytes());
    let reply = world.put(0, Function::VcpuSet, &bytes, &[0]);
    assert_eq!(reply.status, H::SUCCESS);
    let occupied = world.target().occupied.as_ref().unwrap();
    occupied
        .with(0, |vcpu| {
            assert_eq!(vcpu.parked.vectors.vsr[31], u128::from(u64::MAX));
            assert_eq!(vcpu.parked.vectors.vsr[32], u128::MAX);
        })
        .unwrap();
}

#[test]
fn what_no_guest_of_this_partition_can_have_is_refused_by_its_place() {
    let mut world = World::new();
    let options = RigOptions {
        watchpoints: Watchpoints::Refused,
        ..RigOptions::default()
    };
    world.target().end();
    world.target().start(options);
    world.suspend();
    let state = world.vcpu();
    let with_spr = |number, value| {
        let mut state = state;
        state.spr_count = U32::new(0);
        state.sprs = VcpuState::blank().sprs;
        assert!(state.push_spr(sprn::SPRG0, 1) && state.push_spr(number, value));
        state
    };
    let offset = |field: usize| (VcpuState::spr_offset(1) + field) as u64;
    for (state, wrong) in [
        (with_spr(sprn::HFSCR, 0), offset(0)),
        (with_spr(sprn::DPDES, 0), offset(0)),
        (with_spr(sprn::DEXCR, 0), offset(0)),
        (with_spr(sprn::LPIDR, 5), offset(0)),
        (with_spr(sprn::DAWRX0, 1), offset(8)),
        (
            VcpuState {
                run_state: U32::new(RunState::Stopped as u32),
                ..state
            },
            16,
        ),
        (
            VcpuState {
                vpa: U64::new(GUEST_BYTES),
                vpa_bytes: U64::new(640),
                ..state
            },
            104,
        ),
        (
            VcpuState {
                slb_shadow: U64::new(0x8000),
                slb_shadow_bytes: U64::new(640),
                ..state
            },
            120,
        ),
        (
            VcpuState {
                vpa: U64::new(0x8000),
                vpa_bytes: U64::new(640),
                dispatch_log: U64::new(0x9001),
                dispatch_log_bytes: U64::new(4096),
                ..state
            },
            136,
        ),
    ] {
        let reply = world.set_vcpu(&state);
        assert_eq!(reply.status, H::BAD_DATA);
        assert_eq!(reply.results(), [8, wrong]);
    }
    // Nothing of those was taken.
    let occupied = world.target().occupied.as_ref().unwrap();
    occupied
        .with(0, |vcpu| {
            assert_eq!(vcpu.parked.spr(VcpuSpr::Sprg0), 0);
            assert_eq!(vcpu.processor.areas.lock().vpa(), None);
        })
        .unwrap();
    let good = VcpuState {
        vpa: U64::new(0x8000),
        vpa_bytes: U64::new(640),
        ..state
    };
    assert_eq!(world.set_vcpu(&good).status, H::SUCCESS);
    assert_eq!(world.vcpu().vpa.get(), 0x8000);
}
