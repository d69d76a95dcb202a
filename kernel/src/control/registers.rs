// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The state of a virtual processor that is on no thread, to and from its record.
//!
//! The record's own check, in `records::vcpu`, has refused what no guest may have. Here is what only
//! the virtual processor knows: which registers there are, and where areas may lie.

use super::error::{Reason, RecordError};
use super::records::{RunState, Spr, VcpuState, VectorState, parts};
use super::target::TargetError;
use crate::partition::Watchpoints;
use crate::platform::Platform;
use crate::processor::Activity;
use crate::rtas_memory::GuestRam;
use crate::vcpu::Vcpu;
use crate::vpa::{Area, AreaKind, VcpuAreas, is_loadable_slb_entry};
use core::mem::offset_of;
use penstock_arch::regs::vcpu_spr::Policy;
use penstock_arch::regs::{Lpcr, Processor, VcpuSpr};
use penstock_arch::switch::SlbEntry;
use zerocopy::byteorder::big_endian::{U32, U64};

/// LPCR bits that are the guest's.
const GUEST_LPCR: Lpcr = Lpcr::ILE.union(Lpcr::AIL3);

const WORD: u64 = 0xffff_ffff;

/// The special purpose registers of the record: those that are the guest's, but for DPDES, whose bit
/// depends on the thread that it is on.
fn guest_sprs(processor: Processor) -> impl Iterator<Item = VcpuSpr> {
    VcpuSpr::of(processor).filter(move |spr| {
        *spr != VcpuSpr::Dpdes && matches!(spr.policy(processor), Policy::Switched { .. })
    })
}

/// Fills a blank record, and registers of vectors if they are wanted.
pub(super) fn read<P: Platform>(
    vcpu: &mut Vcpu<'_, P>,
    state: &mut VcpuState,
    vectors: Option<&mut VectorState>,
) {
    vcpu.begin_if_started();
    let ctx = &vcpu.ctx;
    // What it waits for has come, and it is to go on.
    let goes_on = vcpu.processor.is_prodded();
    state.run_state = U32::new(match vcpu.processor.activity() {
        Activity::Ceded | Activity::Joined if goes_on => RunState::Runnable as u32,
        Activity::Runs | Activity::Starts => RunState::Runnable as u32,
        Activity::Ceded => RunState::Ceded as u32,
        Activity::Joined => RunState::Joined as u32,
        Activity::Stopped => RunState::Stopped as u32,
    });
    state.pc = U64::new(ctx.pc);
    // An exit leaves its cause among bits that are no guest's.
    state.msr = U64::new(ctx.msr & VcpuState::GUEST_MSR.bits());
    state.lr = U64::new(ctx.lr);
    state.ctr = U64::new(ctx.ctr);
    state.xer = U64::new(ctx.xer & WORD);
    state.cr = U64::new(ctx.cr & WORD);
    state.cfar = U64::new(ctx.cfar);
    state.lpcr = U64::new((vcpu.lpcr & GUEST_LPCR).bits());
    state.timebase = U64::new(P::timebase());
    state.decrementer_expiry = U64::new(vcpu.parked.decrementer_expiry);
    let place = |area: Option<Area>| match area {
        Some(area) => [U64::new(area.at.get()), U64::new(area.bytes.into())],
        None => [U64::new(0); 2],
    };
    let areas = vcpu.processor.areas.lock();
    [state.vpa, state.vpa_bytes] = place(areas.vpa());
    [state.slb_shadow, state.slb_shadow_bytes] = place(areas.slb_shadow());
    [state.dispatch_log, state.dispatch_log_bytes] = place(areas.dtl());
    drop(areas);
    for (to, from) in state.gpr.iter_mut().zip(ctx.gpr) {
        *to = U64::new(from);
    }
    for (to, from) in state.slb.iter_mut().zip(vcpu.parked.slb) {
        // A segment that the partition has no page size for translates nothing.
        if is_loadable_slb_entry(from.esid, from.vsid) {
            *to = [U64::new(from.esid), U64::new(from.vsid)];
        }
    }
    for spr in guest_sprs(P::processor()) {
        let [number, _] = spr.numbers();
        // There are fewer than the record has room for: a test counts them.
        let _ = state.push_spr(number, vcpu.parked.spr(spr));
    }
    if let Some(vectors) = vectors {
        let from = &vcpu.parked.vectors;
        vectors.fpscr = U64::new(from.fpscr[0]);
        vectors.vscr = U64::new(low(from.vscr) & WORD);
        for (to, from) in vectors.vsr.iter_mut().zip(from.vsr) {
            *to = [U64::new(low(from >> 64)), U64::new(low(from))];
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the lower half is meant")]
const fn low(value: u128) -> u64 {
    value as u64
}

/// Makes `state`, and of `vectors` the parts that it names, those of a virtual processor: all of it
/// or nothing.
pub(super) fn write<P: Platform>(
    vcpu: &mut Vcpu<'_, P>,
    state: &VcpuState,
    vectors: Option<&VectorState>,
) -> Result<(), TargetError> {
    let activity = match state.run_state.get() {
        value if value == RunState::Runnable as u32 => Activity::Runs,
        value if value == RunState::Ceded as u32 => Activity::Ceded,
        value if value == RunState::Joined as u32 => Activity::Joined,
        value if value == RunState::Stopped as u32 => Activity::Stopped,
        _ => return Err(bad(offset_of!(VcpuState, run_state))),
    };
    // A partition of which nothing is started would never end.
    if activity == Activity::Stopped && vcpu.partition.processors.is_last(vcpu.processor) {
        return Err(bad(offset_of!(VcpuState, run_state)));
    }
    let areas = areas(vcpu, state)?;
    let processor = P::processor();
    for (index, spr) in state.used_sprs().iter().enumerate() {
        check_spr(spr, processor, vcpu.partition.watchpoints)
            .map_err(|field| bad(VcpuState::spr_offset(index) + field))?;
    }

    let processors = &vcpu.partition.processors;
    let ctx = &mut vcpu.ctx;
    ctx.pc = state.pc.get();
    ctx.msr = state.msr.get();
    ctx.lr = state.lr.get();
    ctx.ctr = state.ctr.get();
    ctx.xer = state.xer.get();
    ctx.cr = state.cr.get();
    ctx.cfar = state.cfar.get();
    for (to, from) in ctx.gpr.iter_mut().zip(state.gpr) {
        *to = from.get();
    }
    let modes = Lpcr::from_bits_retain(state.lpcr.get()) & GUEST_LPCR;
    vcpu.lpcr = processors.change_lpcr(GUEST_LPCR, modes);
    *vcpu.processor.areas.lock() = areas;
    processors.set_activity(vcpu.processor, activity);
    vcpu.set_online(activity != Activity::Stopped);
    if activity == Activity::Ceded && vcpu.presenter.xive().is_some() {
        // Its escalation is not armed, so nobody could say whether an interrupt has come: it looks for
        // itself, as after any H_CEDE that returns for nothing.
        let _ = vcpu.processor.prod();
    }
    let parked = &mut vcpu.parked;
    parked.decrementer_expiry = state.decrementer_expiry.get();
    for (to, [esid, vsid]) in parked.slb.iter_mut().zip(state.slb) {
        *to = SlbEntry {
            esid: esid.get(),
            vsid: vsid.get(),
        };
    }
    for spr in state.used_sprs() {
        let number = spr.number.get();
        if let Some(known) = guest_sprs(processor).find(|known| known.numbers()[0] == number) {
            let value = spr.value.get();
            parked.set_spr(
                known,
                match known {
                    VcpuSpr::Ppr => permitted_priority(value),
                    _ => value,
                },
            );
        }
    }
    if let Some(vectors) = vectors {
        write_vectors(&mut parked.vectors, vectors, state.parts.get());
    }
    Ok(())
}

const fn bad(offset: usize) -> TargetError {
    TargetError::Record(RecordError::new(offset, Reason::Value))
}

/// PPR as a guest could have set it: a thread priority that only the hypervisor may choose, or none,
/// is the ordinary one (Power ISA 3.0B, Book II, Program Priority Registers).
const fn permitted_priority(ppr: u64) -> u64 {
    const SHIFT: u32 = 50;
    const PRIORITY: u64 = 7 << SHIFT;
    const MEDIUM: u64 = 4 << SHIFT;
    match (ppr & PRIORITY) >> SHIFT {
        0 | 7 => (ppr & !PRIORITY) | MEDIUM,
        _ => ppr,
    }
}

fn areas<P: Platform>(vcpu: &Vcpu<'_, P>, state: &VcpuState) -> Result<VcpuAreas, TargetError> {
    let wanted = [
        [state.vpa, state.vpa_bytes],
        [state.slb_shadow, state.slb_shadow_bytes],
        [state.dispatch_log, state.dispatch_log_bytes],
    ];
    let mut memory = GuestRam(vcpu.partition.mmu.memory());
    let wanted = wanted.map(|area| area.map(U64::get));
    let made = vcpu.processor.areas.lock().with_areas(wanted, &mut memory);
    if memory.0.was_short() {
        // An area's memory has no frame at the moment.
        return Err(TargetError::Busy);
    }
    made.map_err(|kind| match kind {
        AreaKind::Vpa => bad(offset_of!(VcpuState, vpa)),
        AreaKind::SlbShadow => bad(offset_of!(VcpuState, slb_shadow)),
        AreaKind::DispatchLog => bad(offset_of!(VcpuState, dispatch_log)),
    })
}

/// The offset of the field that is wrong, where one is.
fn check_spr(spr: &Spr, processor: Processor, watchpoints: Watchpoints) -> Result<(), usize> {
    let number = spr.number.get();
    let known = guest_sprs(processor)
        .find(|known| known.numbers()[0] == number)
        .ok_or(offset_of!(Spr, number))?;
    let arms_watchpoint = matches!(known, VcpuSpr::Dawrx0 | VcpuSpr::Dawrx1);
    if arms_watchpoint && watchpoints == Watchpoints::Refused && spr.value.get() != 0 {
        return Err(offset_of!(Spr, value));
    }
    Ok(())
}

fn write_vectors(to: &mut penstock_arch::switch::VectorState, from: &VectorState, given: u32) {
    if given & parts::FP != 0 {
        to.fpscr[0] = from.fpscr.get();
    }
    if given & parts::VMX != 0 {
        to.vscr = u128::from(from.vscr.get());
    }
    let words = to.vsr.iter_mut().zip(from.vsr).enumerate();
    for (index, (register, halves)) in words {
        let [upper, lower] = halves.map(|half| u128::from(half.get()));
        let [has_upper, has_lower] = VectorState::parts_of_vsr(index).map(|part| given & part != 0);
        let old = *register;
        *register = (if has_upper { upper } else { old >> 64 }) << 64
            | if has_lower {
                lower
            } else {
                u128::from(low(old))
            };
    }
}

#[cfg(test)]
mod tests {
    use super::permitted_priority;

    #[test]
    fn a_priority_is_one_that_guests_may_choose() {
        for (given, expected) in [(0, 4), (1, 1), (2, 2), (4, 4), (6, 6), (7, 4)] {
            assert_eq!(permitted_priority(given << 50), expected << 50);
        }
        assert_eq!(permitted_priority(u64::MAX), !(3 << 50));
    }
}
