// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A guest that is made of bytes, for the fuzz targets in `kernel/fuzz`.
//!
//! The bytes are a program of hypervisor calls, storage faults, RTAS calls and events; any bytes
//! are one. It runs on the same model of the machine as the unit tests. After each step nothing of
//! the hypervisor's may be changed or seen, and after the last the page table must be sound.

extern crate std;

use crate::exit::LightExit;
use crate::hcall::{H_RTAS, dispatch, table};
use crate::platform::GuestRegister;
use crate::testing::{
    Rig, RigOptions, set_authority, set_random, set_storage_fault, set_timebase, take_lpcr,
    take_writes,
};
use penstock_arch::regs::{Lpcr, Msr};
use penstock_mm::guest_memory::Backing;

/// Most steps of one program.
const MAX_STEPS: u64 = 256;
/// Bits of the MSR that the program chooses: EE, PR, IR, DR, RI, LE.
const CHOSEN_MSR: u64 = 0xc033;
/// What a guest's MSR always has: SF, ME.
const FIXED_MSR: u64 = 0x8000_0000_0000_1000;
/// Cause bits of SRR1 and HSRR1.
const CAUSE: u64 = 0x783f_0000;
/// Where RTAS argument blocks are put.
const BLOCK_AT: u64 = 0x8000;

/// A partition that programs run in, one after the other.
pub struct Guest(Rig);

impl Default for Guest {
    fn default() -> Self {
        Self::new()
    }
}

/// The bytes that are left of a program; zeros behind its end.
pub(crate) struct Bytes<'a>(pub(crate) &'a [u8]);

impl Bytes<'_> {
    pub(crate) fn byte(&mut self) -> u8 {
        match self.0.split_first() {
            Some((first, rest)) => {
                self.0 = rest;
                *first
            }
            None => 0,
        }
    }

    pub(crate) fn array<const N: usize>(&mut self) -> [u8; N] {
        core::array::from_fn(|_| self.byte())
    }

    /// An operand: small, an entry of the page table, a page of memory, a bit, or anything.
    pub(crate) fn operand(&mut self) -> u64 {
        match self.byte() % 8 {
            0 => 0,
            1 => u64::from(self.byte()),
            2 => u64::from(u16::from_be_bytes(self.array())),
            3 => u64::from(u16::from_be_bytes(self.array())) << 12,
            4 => 1 << (self.byte() % 64),
            5 => u64::MAX << (self.byte() % 64),
            6 => u64::from(self.byte()) << 16 | 0x1010 | u64::from(self.byte()),
            _ => u64::from_be_bytes(self.array()),
        }
    }

    fn msr(&mut self) -> u64 {
        FIXED_MSR | u64::from(u16::from_be_bytes(self.array())) & CHOSEN_MSR
    }
}

fn filler(register: usize) -> u64 {
    0x0bad_cafe_0000_0000 | register as u64
}

impl Guest {
    /// A partition of 16 MiB with one virtual processor, whose memory is backed at first touch.
    #[must_use]
    pub fn new() -> Self {
        Self(Rig::with(RigOptions {
            backing: Backing::Lazy,
            authority: crate::config::Authority::Control,
            ..RigOptions::default()
        }))
    }

    /// Restarts the partition and runs a program.
    ///
    /// # Panics
    /// Something holds no longer that must: this is what the fuzzer looks for.
    pub fn run(&mut self, program: &[u8]) {
        self.0.restart();
        set_random(Some(0x1234));
        let mut bytes = Bytes(program);
        for number in 0..MAX_STEPS {
            if bytes.0.is_empty() {
                break;
            }
            set_timebase(number * 1000);
            match bytes.byte() % 8 {
                0..=3 => self.hcall(&mut bytes),
                4 => self.fault(&mut bytes),
                5 => self.rtas_cells(&mut bytes),
                6 => self.0.trigger_vty(),
                _ => {
                    let _ = self.0.vcpu.partition.input.push(bytes.byte());
                }
            }
            self.check_registers();
        }
        self.0.check();
        self.forget_records();
    }

    /// Restarts the partition and makes one RTAS call: `block` is the argument call buffer.
    ///
    /// # Panics
    /// As [`run`](Self::run).
    pub fn rtas(&mut self, block: &[u8]) {
        self.0.restart();
        self.call_rtas(block.get(..0x800).unwrap_or(block), BLOCK_AT);
        self.check_registers();
        self.forget_records();
    }

    /// What the model of the machine has recorded for tests would grow without end.
    fn forget_records(&self) {
        self.0.machine.tlb.take();
        let _ = self.0.xive.take_calls();
    }

    fn hcall(&mut self, bytes: &mut Bytes<'_>) {
        let choice = usize::from(bytes.byte());
        let token = match table::NAMES.get(choice % (table::NAMES.len() + 1)) {
            Some((number, _)) => *number,
            None => bytes.operand(),
        };
        let count = usize::from(bytes.byte() % 10);
        let vcpu = &mut self.0.vcpu;
        vcpu.ctx.gpr = core::array::from_fn(filler);
        vcpu.ctx.gpr[3] = token;
        for register in vcpu.ctx.gpr.iter_mut().skip(4).take(count) {
            *register = bytes.operand();
        }
        let msr = bytes.msr();
        vcpu.ctx.msr = msr;
        let exit = dispatch(vcpu);
        for register in (0..3).chain(13..32) {
            assert_eq!(vcpu.ctx.gpr[register], filler(register), "r{register}");
        }
        let may_gain = if token == 0xe0 { Msr::EE.bits() } else { 0 };
        // H_SIGNAL_SYS_RESET may reach the caller itself.
        if token != 0x380 {
            assert_eq!(vcpu.ctx.msr | may_gain, msr | may_gain, "MSR");
        }
        if exit == LightExit::DRAIN_CONSOLE {
            vcpu.partition.output.clear();
        }
    }

    fn fault(&mut self, bytes: &mut Bytes<'_>) {
        let choice = bytes.byte();
        let (hdar, hdsisr) = (bytes.operand(), bytes.operand());
        let asdr = match choice >> 1 & 3 {
            0 => 0x4000_1234_5600_0510,
            1 => 0x4001_ffff_ff00_0100,
            _ => bytes.operand(),
        };
        let keys = bytes.operand();
        let fetch = choice & 1 != 0;
        set_storage_fault(hdar, hdsisr, asdr);
        set_authority(keys, keys);
        let vcpu = &mut self.0.vcpu;
        let cause = if fetch { hdsisr & CAUSE } else { 0 };
        (vcpu.ctx.pc, vcpu.ctx.msr) = (hdar & !3, bytes.msr() | cause);
        let exit = vcpu.storage_fault(if fetch { 0xe20 } else { 0xe00 });
        assert_eq!(exit, LightExit::RESUME);
        assert_eq!(vcpu.ctx.msr & (CAUSE | Msr::HV.bits()), 0, "MSR");
        assert_eq!(vcpu.ctx.msr & FIXED_MSR, FIXED_MSR, "MSR");
    }

    fn rtas_cells(&mut self, bytes: &mut Bytes<'_>) {
        let cells = usize::from(bytes.byte() % 20);
        let mut block = [0; 80];
        let at = bytes.operand();
        for cell in block.chunks_exact_mut(4).take(cells) {
            cell.copy_from_slice(&bytes.array::<4>());
        }
        self.call_rtas(&block, at);
    }

    fn call_rtas(&mut self, block: &[u8], at: u64) {
        let vcpu = &mut self.0.vcpu;
        let at = penstock_arch::addr::GuestReal::new(at);
        // Where there is no memory the call is made all the same.
        let _ = vcpu.partition.mmu.memory().write(at, block);
        vcpu.ctx.msr = 0x1002;
        (vcpu.ctx.gpr[3], vcpu.ctx.gpr[4]) = (H_RTAS, at.get());
        let _ = dispatch(vcpu);
        assert_eq!(vcpu.ctx.msr, 0x1002, "MSR");
    }

    /// Nothing that the guest chose is in a register that is the hypervisor's.
    fn check_registers(&self) {
        let changeable = Lpcr::ILE | Lpcr::AIL3;
        for lpcr in take_lpcr().into_iter().chain([self.0.vcpu.lpcr]) {
            assert_eq!((lpcr - changeable) | Lpcr::VPM1, Lpcr::GUEST, "LPCR");
        }
        for (register, value) in take_writes() {
            match register {
                GuestRegister::Ciabr => assert_ne!(value & 3, 3, "CIABR"),
                GuestRegister::Dawrx0 => assert_eq!(value & 0xffff_ffff_0000_0004, 0, "DAWRX0"),
                GuestRegister::Srr1 => assert_eq!(value & Msr::HV.bits(), 0, "SRR1"),
                _ => {}
            }
        }
        for (esid, vsid) in self.shadowed_segments() {
            assert_eq!(esid & 0x07ff_f000, 0, "reserved bits of slbmte's RB");
            assert!(esid & 0xfff < 32, "slbmte's index");
            assert_eq!(
                vsid & 0x8000_0000_0000_004f,
                0,
                "reserved bits of slbmte's RS"
            );
        }
    }

    /// ESID and VSID doublewords that a machine check would put into the SLB.
    fn shadowed_segments(&self) -> std::vec::Vec<(u64, u64)> {
        let vcpu = &self.0.vcpu;
        let mut memory = crate::rtas_memory::GuestRam(vcpu.partition.mmu.memory());
        let entries = vcpu.processor.areas.lock().slb_shadow_entries(&mut memory);
        entries
            .into_iter()
            .map(|(vsid, esid)| (esid, vsid))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_reaches_the_calls() {
        let mut guest = Guest::new();
        // The second row of the table, H_ENTER, with flags, index, two doublewords and an MSR.
        let enter = [
            &[0, 1, 4, 0, 2, 0x22, 0x20][..],
            &[7, 0x40, 0, 0x12, 0x34, 0x56, 0, 0, 5, 6, 1, 0x90, 0, 0],
        ];
        guest.run(&enter.concat());
        assert_eq!(guest.0.vcpu.hcalls[2], 1);
        // Beside the real mode area; nothing is backed yet, so the hardware sees neither.
        assert_eq!(guest.0.check().absent, 2);
        guest.run(&[]);
        assert_eq!(guest.0.check().absent, 1);
    }

    #[test]
    fn a_block_is_an_rtas_call() {
        let mut guest = Guest::new();
        let token = crate::rtas::FUNCTIONS
            .iter()
            .find(|function| function.name == "display-character");
        let mut block = std::vec::Vec::from(token.unwrap().token.to_be_bytes());
        block.extend([0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, b'x', 0xff]);
        guest.rtas(&block);
        assert_eq!(guest.0.vcpu.partition.output.total(), 1);
        assert_eq!(guest.0.word(BLOCK_AT + 16), 0);
    }
}
