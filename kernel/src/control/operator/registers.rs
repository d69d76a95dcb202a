// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `registers`: what a virtual processor has in its registers, while its partition waits for a moment.

use super::{Progress, Step, Stop, buffer, call, patient, plain};
use crate::control::ControlError;
use crate::control::function::Function;
use crate::control::records::{RunState, VcpuState};
use crate::control::session::State;
use crate::control::target::Controlled;
use crate::post_mortem::write_gprs;
use alloc::format;
use alloc::vec::Vec;
use core::fmt::{self, Write};
use penstock_arch::regs::VcpuSpr;
use zerocopy::FromBytes;
use zerocopy::byteorder::big_endian::U64;

/// Special purpose registers in a line.
const SPRS_IN_A_LINE: usize = 3;
/// Entries of the segment lookaside buffer in a line.
const SEGMENTS_IN_A_LINE: usize = 2;

/// A look at the registers of one virtual processor.
#[derive(Debug)]
pub struct Registers {
    vcpu: u32,
    buffer: Vec<u8>,
    /// The partition runs but for this, and will again.
    stopped: bool,
}

impl Registers {
    pub(super) const fn new(vcpu: u32) -> Self {
        Self {
            vcpu,
            buffer: Vec::new(),
            stopped: false,
        }
    }

    pub(super) fn step<T: Controlled>(&mut self, target: &T, out: &mut dyn Write) -> Progress {
        let (name, vcpus) = (target.name(), target.offer().vcpus);
        if self.vcpu >= vcpus {
            writeln!(out, "error: {name}: has {vcpus} virtual processors, from 0")?;
            return Ok(Step::Finished);
        }
        if self.buffer.is_empty() {
            self.buffer = buffer(size_of::<VcpuState>())?;
        }
        let state = match target.session().try_lock() {
            Some(session) => session.state(),
            None => return Err(ControlError::Busy.into()),
        };
        self.stopped |= matches!(state, State::Running | State::Stopping);
        plain(target, Function::Suspend, [0; 3])?;
        let vcpu = [self.vcpu.into(), 0, 0];
        let done = call(target, Function::VcpuGet, vcpu, &mut self.buffer)?;
        if self.stopped {
            plain(target, Function::Resume, [0; 3])?;
            self.stopped = false;
        }
        let written = self.buffer.get(..done.bytes).unwrap_or_default();
        // Whatever it is: a processor may be looked at that no tool could put back.
        let (state, _) = VcpuState::ref_from_prefix(written).map_err(|_| ControlError::Hardware)?;
        write_state(out, name, state).map_err(Stop::from)?;
        Ok(Step::Finished)
    }

    /// Lets the partition go on.
    pub(super) fn end<T: Controlled>(&mut self, target: &T) {
        if core::mem::take(&mut self.stopped) {
            patient(target, Function::Resume, [0; 3]);
        }
    }
}

fn write_state(out: &mut dyn Write, name: &str, state: &VcpuState) -> fmt::Result {
    let vcpu = state.vcpu.get();
    let does = match state.run_state.get() {
        value if value == RunState::Runnable as u32 => "runs",
        value if value == RunState::Ceded as u32 => "has ceded",
        value if value == RunState::Joined as u32 => "has joined",
        _ => "is stopped",
    };
    writeln!(out, "{name}: virtual processor {vcpu} {does}")?;
    let [pc, msr, lr, ctr] = [state.pc, state.msr, state.lr, state.ctr].map(U64::get);
    writeln!(out, "  PC {pc:#x} MSR {msr:#x} LR {lr:#x} CTR {ctr:#x}")?;
    let [cr, xer, cfar, lpcr] = [state.cr, state.xer, state.cfar, state.lpcr].map(U64::get);
    writeln!(
        out,
        "  CR {cr:#x} XER {xer:#x} CFAR {cfar:#x} LPCR {lpcr:#x}"
    )?;
    let [timebase, expiry] = [state.timebase, state.decrementer_expiry].map(U64::get);
    writeln!(
        out,
        "  time base {timebase:#x}, decrementer expires at {expiry:#x}"
    )?;
    write!(out, " ")?;
    for (area, at, bytes) in [
        ("VPA", state.vpa, state.vpa_bytes),
        ("SLB shadow", state.slb_shadow, state.slb_shadow_bytes),
        ("dispatch log", state.dispatch_log, state.dispatch_log_bytes),
    ] {
        match (at.get(), bytes.get()) {
            (0, _) => write!(out, " no {area}")?,
            (at, bytes) => write!(out, " {area} {at:#x}+{bytes:#x}")?,
        }
    }
    writeln!(out)?;
    write_gprs(out, state.gpr.map(U64::get))?;
    for row in state.used_sprs().chunks(SPRS_IN_A_LINE) {
        write!(out, " ")?;
        for spr in row {
            let name = spr_name(spr.number.get());
            write!(out, " {name:<8} {:016x}", spr.value.get())?;
        }
        writeln!(out)?;
    }
    let segments = state.slb.iter().enumerate();
    let used: Vec<_> = segments
        .map(|(index, halves)| (index, halves.map(U64::get)))
        .filter(|(_, halves)| *halves != [0, 0])
        .collect();
    for row in used.chunks(SEGMENTS_IN_A_LINE) {
        write!(out, "  SLB")?;
        for (index, [esid, vsid]) in row {
            write!(out, " {index:>2} {esid:016x} {vsid:016x}")?;
        }
        writeln!(out)?;
    }
    Ok(())
}

/// A register's name in the ISA, or its number.
fn spr_name(number: u16) -> alloc::string::String {
    let mut known = VcpuSpr::ALL.iter();
    match known.find(|spr| spr.numbers()[0] == number) {
        Some(spr) => format!("{spr:?}").to_ascii_uppercase(),
        None => format!("SPR{number}"),
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::super::tests::{TestJob, finish, state_of};
    use super::*;
    use crate::control::fake::{Asked, Fake};
    use crate::control::records::{MAX_SPRS, SLB_SLOTS};
    use crate::control::session::Holder;
    use std::string::String;

    #[test]
    fn registers_of_a_processor_are_shown_and_the_partition_goes_on() {
        let target = Fake::new(2);
        {
            let mut fake = target.state();
            let (state, _) = &mut fake.vcpus[1];
            state.run_state = (RunState::Ceded as u32).into();
            state.pc = 0xc000_0000_0001_2340.into();
            state.gpr[31] = 0x1f.into();
            state.slb[3] = [0xc000_0000_0800_0003, 0x1500].map(U64::new);
            [state.vpa, state.vpa_bytes] = [0x1_0000, 640].map(U64::new);
            assert!(state.push_spr(1000, 5));
        }
        let (text, steps) = finish(TestJob::registers(1), &target);
        assert_eq!(
            text,
            "fake-2: virtual processor 1 has ceded
  PC 0xc000000000012340 MSR 0x8000000000001000 LR 0x0 CTR 0x0
  CR 0x0 XER 0x0 CFAR 0x0 LPCR 0x0
  time base 0x0, decrementer expires at 0x0
  VPA 0x10000+0x280 no SLB shadow no dispatch log
  r0  0000000000000000 0000000000000000 0000000000000000 0000000000000000
  r4  0000000000000000 0000000000000000 0000000000000000 0000000000000000
  r8  0000000000000000 0000000000000000 0000000000000000 0000000000000000
  r12 0000000000000000 0000000000000000 0000000000000000 0000000000000000
  r16 0000000000000000 0000000000000000 0000000000000000 0000000000000000
  r20 0000000000000000 0000000000000000 0000000000000000 0000000000000000
  r24 0000000000000000 0000000000000000 0000000000000000 0000000000000000
  r28 0000000000000000 0000000000000000 0000000000000000 000000000000001f
  SRR0     0000000000000000 SRR1     0000000000000000 CIABR    0000000000000000
  SPRG0    0000000000000000 SPR1000  0000000000000005
  SLB  3 c000000008000003 0000000000001500
"
        );
        assert_eq!(steps, 1);
        assert_eq!(state_of(&target), State::Running);
        assert_eq!(target.state().asked, [Asked::Suspend, Asked::Resume]);
    }

    #[test]
    fn a_processor_that_there_is_not_stops_nobody() {
        let target = Fake::new(2);
        let (text, _) = finish(TestJob::registers(2), &target);
        assert_eq!(text, "error: fake-2: has 2 virtual processors, from 0\n");
        assert!(target.state().asked.is_empty());
    }

    #[test]
    fn one_that_is_suspended_stays_so_and_one_that_a_tool_has_is_the_tools() {
        let target = Fake::new(2);
        let who = Holder::Operator;
        target.session().lock().suspend(&target, who).unwrap();
        let (text, _) = finish(TestJob::registers(0), &target);
        assert!(text.starts_with("fake-2: virtual processor 0 runs\n"));
        assert_eq!(state_of(&target), State::Stopped);

        let target = Fake::new(3);
        let tool = Holder::Partition(crate::console::GuestId(1));
        target.session().lock().suspend(&target, tool).unwrap();
        let (text, _) = finish(TestJob::registers(0), &target);
        assert_eq!(
            text,
            "error: fake-3: another tool holds the partition, the stream or the log\n"
        );
        assert_eq!(state_of(&target), State::Stopped);
    }

    #[test]
    fn a_look_that_is_ended_while_it_waits_lets_the_partition_go_on() {
        let target = Fake::new(2);
        target.state().slow = 3;
        let mut job = TestJob::registers(0);
        let mut out = String::new();
        assert_eq!(job.step(&target, &mut out), Ok(Step::Again));
        assert_eq!(state_of(&target), State::Stopping);
        job.end(&target, &mut out).unwrap();
        assert_eq!(state_of(&target), State::Running);
        assert!(out.is_empty() && target.state().running);
    }

    #[test]
    fn the_longest_text_fits() {
        let target = Fake::new(2);
        {
            let mut fake = target.state();
            let (state, _) = &mut fake.vcpus[0];
            let all = U64::new(u64::MAX);
            state.gpr = [all; 32];
            state.slb = [[all; 2]; SLB_SLOTS];
            let known = VcpuSpr::ALL.iter().map(|spr| spr.numbers()[0]);
            for number in known.chain(900..).take(MAX_SPRS) {
                let _ = state.push_spr(number, u64::MAX);
            }
            assert_eq!(state.used_sprs().len(), MAX_SPRS);
        }
        let (text, _) = finish(TestJob::registers(0), &target);
        assert!(text.lines().all(|line| line.len() <= 80), "{text}");
        assert_eq!(text.lines().count(), 5 + 8 + MAX_SPRS / 3 + SLB_SLOTS / 2);
    }
}
