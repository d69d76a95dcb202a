// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Faults of translation: which interrupt, with exactly which registers.
//!
//! Power ISA 3.0B, Book III, Data Storage Interrupt, Instruction Storage Interrupt, Data Segment
//! and Instruction Segment Interrupt, Storage Protection, Virtual Page Class Key Protection.

use super::env::{Env, expect_dsi, expect_isi};
use penstock_guest_rt::context::{Context, place};
use penstock_guest_rt::cpu;
use penstock_guest_rt::hpt::{Mapping, R_N, R_PP0, SLB_KP, SLB_KS, SLB_N, key_bits};
use penstock_guest_rt::insn::{self, Program};
use penstock_guest_rt::mmu::{self, DATA};
use penstock_guest_rt::number::{msr, status, vector};
use penstock_guest_rt::suite::{
    Check, Failure, Outcome, expect, expect_completed, expect_interrupt,
};

/// The checks of this file.
pub const CHECKS: &[Check<Env>] = &[
    Check {
        name: "load-without-entry",
        run: load_no_entry,
    },
    Check {
        name: "store-without-entry",
        run: store_no_entry,
    },
    Check {
        name: "store-to-a-read-only-page",
        run: store_read_only,
    },
    Check {
        name: "store-to-a-privileged-read-only-page",
        run: store_read_only_privileged,
    },
    Check {
        name: "protection-by-the-segments-key",
        run: segment_key,
    },
    Check {
        name: "load-in-problem-state-of-a-privileged-page",
        run: problem_state_load,
    },
    Check {
        name: "storage-key-refuses-loads-and-stores",
        run: storage_keys,
    },
    Check {
        name: "fetch-without-entry",
        run: fetch_no_entry,
    },
    Check {
        name: "fetch-from-a-no-execute-page",
        run: fetch_no_execute,
    },
    Check {
        name: "fetch-from-a-no-execute-segment",
        run: fetch_no_execute_segment,
    },
    Check {
        name: "code-runs-where-it-is-mapped",
        run: fetch_mapped,
    },
    Check {
        name: "code-runs-in-problem-state",
        run: fetch_problem_state,
    },
    Check {
        name: "data-segment-miss",
        run: data_segment,
    },
    Check {
        name: "instruction-segment-miss",
        run: instruction_segment,
    },
    Check {
        name: "h-protect-takes-effect-at-once",
        run: protect_at_once,
    },
    Check {
        name: "h-remove-takes-effect-at-once",
        run: remove_at_once,
    },
    Check {
        name: "a-fault-is-repaired-and-the-access-repeated",
        run: repair,
    },
];

/// Execution of translated code, data in real mode.
const FETCH: u64 = msr::KERNEL | msr::IR;
/// Problem state, which brings IR, DR and EE with it (Power ISA 3.0B, Book III, MSR).
const PROBLEM: u64 = msr::KERNEL | msr::PR | msr::IR | msr::DR | msr::EE;

fn load_no_entry(env: &mut Env) -> Outcome {
    let ea = env.page(0, 2).ea + 0x128;
    env.segment(&env.page(0, 2));
    expect_dsi(&mmu::load(ea, DATA), 0x4000_0000, ea)
}

fn store_no_entry(env: &mut Env) -> Outcome {
    let ea = env.page(0, 2).ea + 0xff8;
    env.segment(&env.page(0, 2));
    expect_dsi(&mmu::store(ea, 1, DATA), 0x4200_0000, ea)
}

fn read_only(env: &Env, bits: u64) -> Outcome {
    let mapping = env.page(0x1000, bits);
    env.work.write(0x1000, 0x77);
    let index = env.map(&mapping)?;
    let context = mmu::load(mapping.ea, DATA);
    expect_completed("load", &context, 1)?;
    expect("loaded", context.gpr[4], 0x77)?;
    expect_dsi(&mmu::store(mapping.ea, 0x88, DATA), 0x0a00_0000, mapping.ea)?;
    expect("memory", env.work.read(0x1000), 0x77)?;
    env.unmap(&[index])
}

fn store_read_only(env: &mut Env) -> Outcome {
    read_only(env, 3)
}

fn store_read_only_privileged(env: &mut Env) -> Outcome {
    read_only(env, R_PP0 | 2)
}

fn segment_key(env: &mut Env) -> Outcome {
    // pp = 00 with the segment's key set for privileged state: no access at all.
    let mapping = env.page(0x1000, 0);
    let index = env.map(&mapping)?;
    expect_completed("key clear", &mmu::load(mapping.ea, DATA), 1)?;
    cpu::clear_segments();
    cpu::set_segment(mapping.slb_vsid(SLB_KS), mapping.slb_esid(2));
    expect_dsi(&mmu::load(mapping.ea, DATA), 0x0800_0000, mapping.ea)?;
    expect_dsi(&mmu::store(mapping.ea, 1, DATA), 0x0a00_0000, mapping.ea)?;
    env.unmap(&[index])
}

/// Puts a program into the page at offset 0 of the work memory, maps it for execution by
/// everybody, and returns mapping and index.
fn code_page(env: &Env, program: &Program, bits: u64) -> Result<(Mapping, u64), Failure> {
    let page = env.work.part(0, 0x1000);
    for (offset, words) in (0u64..).step_by(8).zip(program.words().chunks(2)) {
        let low = words.first().copied().unwrap_or_default();
        let high = words.get(1).copied().unwrap_or_else(insn::trap);
        page.write(offset, u64::from(high) << 32 | u64::from(low));
    }
    cpu::synchronize_instructions(page.base(), 4 * program.len() as u64 + 8);
    let mapping = env.page(0, bits);
    let index = env.map(&mapping)?;
    Ok((mapping, index))
}

fn quiet() {
    // Problem state cannot keep the decrementer out.
    cpu::set_decrementer(0x7fff_ffff);
}

fn problem_state_load(env: &mut Env) -> Outcome {
    quiet();
    let (code, code_index) = code_page(env, &Program::new().ld(4, 3, 0).sc(0), 2)?;
    let private = env.page(0x2000, 0);
    let shared = env.page(0x3000, 3);
    let private_index = env.enter(&private)?;
    let shared_index = env.enter(&shared)?;
    env.work.write(0x3000, 0x99);
    let mut context = Context::new(code.ea, PROBLEM).with_gpr(3, private.ea + 8);
    context.run();
    expect_dsi(&context, 0x0800_0000, private.ea + 8)?;
    let mut context = Context::new(code.ea, PROBLEM).with_gpr(3, shared.ea);
    context.run();
    expect_interrupt("readable page", &context, vector::SYSTEM_CALL, code.ea + 8)?;
    expect("value", context.gpr[4], 0x99)?;
    expect("SRR1", context.srr1, PROBLEM)?;
    env.unmap(&[code_index, private_index, shared_index])
}

fn storage_keys(env: &mut Env) -> Outcome {
    let keys = mmu::cpu_node(&env.boot.fdt)
        .and_then(|cpu| cpu.property("ibm,processor-storage-keys"))
        .is_some_and(|value| value.iter().any(|byte| *byte != 0));
    if !keys {
        return Err(Failure::Skip("no ibm,processor-storage-keys"));
    }
    let mapping = env.page(0x4000, 2 | key_bits(3));
    let index = env.map(&mapping)?;
    // Two bits for each key from the most significant: 01 refuses loads, 10 stores.
    // An emulator may keep the permissions of a translation that it has used; it drops them with
    // the segment.
    let amr = |bits: u64| {
        cpu::set_amr(bits << (62 - 2 * 3));
        cpu::clear_segments();
        env.segment(&mapping);
    };
    amr(2);
    expect("AMR read back", cpu::amr(), 2 << 56)?;
    amr(0);
    expect_completed("load with open key", &mmu::load(mapping.ea, DATA), 1)?;
    expect_completed("store with open key", &mmu::store(mapping.ea, 5, DATA), 1)?;
    amr(2);
    expect_completed("load with stores refused", &mmu::load(mapping.ea, DATA), 1)?;
    expect_dsi(&mmu::store(mapping.ea, 6, DATA), 0x0220_0000, mapping.ea)?;
    amr(1);
    expect_dsi(&mmu::load(mapping.ea, DATA), 0x0020_0000, mapping.ea)?;
    expect("memory", env.work.read(0x4000), 5)?;
    amr(0);
    expect_completed("load with open key again", &mmu::load(mapping.ea, DATA), 1)?;
    env.unmap(&[index])
}

fn run_at(ea: u64, msr: u64) -> Context {
    let mut context = Context::new(ea, msr);
    context.run();
    context
}

fn fetch_no_entry(env: &mut Env) -> Outcome {
    let mapping = env.page(0, 2);
    env.segment(&mapping);
    expect_isi(&run_at(mapping.ea + 0x10, FETCH), 0x4000_0000)
}

fn fetch_refused(env: &Env, bits: u64) -> Outcome {
    let (mapping, index) = code_page(env, &Program::new().trap(), bits)?;
    expect_isi(&run_at(mapping.ea, FETCH), 0x1000_0000)?;
    env.unmap(&[index])
}

fn fetch_no_execute(env: &mut Env) -> Outcome {
    fetch_refused(env, 2 | R_N)
}

fn fetch_no_execute_segment(env: &mut Env) -> Outcome {
    let (mapping, index) = code_page(env, &Program::new().trap(), 2)?;
    cpu::clear_segments();
    cpu::set_segment(mapping.slb_vsid(SLB_KP | SLB_N), mapping.slb_esid(2));
    expect_isi(&run_at(mapping.ea, FETCH), 0x1000_0000)?;
    env.unmap(&[index])
}

fn fetch_mapped(env: &mut Env) -> Outcome {
    let (mapping, index) = code_page(env, &Program::new().li(4, 0x123).sc(0), 2)?;
    let context = run_at(mapping.ea, FETCH);
    expect_interrupt("interrupt", &context, vector::SYSTEM_CALL, mapping.ea + 8)?;
    expect("r4", context.gpr[4], 0x123)?;
    expect("MSR at the handler", context.arrival, 0x8000_0000_0000_1001)?;
    env.unmap(&[index])
}

fn fetch_problem_state(env: &mut Env) -> Outcome {
    quiet();
    // A privileged instruction in problem state, then a system call.
    let (mapping, index) = code_page(env, &Program::new().mfmsr(5).li(4, 0x321).sc(0), 2)?;
    let context = run_at(mapping.ea, PROBLEM);
    expect_interrupt("mfmsr", &context, vector::PROGRAM, mapping.ea)?;
    expect("SRR1", context.srr1, PROBLEM | 0x4_0000)?;
    let context = run_at(mapping.ea + 4, PROBLEM);
    expect_interrupt("sc", &context, vector::SYSTEM_CALL, mapping.ea + 12)?;
    expect("r4", context.gpr[4], 0x321)?;
    expect("SRR1", context.srr1, PROBLEM)?;
    env.unmap(&[index])
}

fn data_segment(env: &mut Env) -> Outcome {
    cpu::clear_segments();
    for ea in [
        env.page(0, 2).ea + 0x1230,
        0x8000_0000_0000_0008,
        0xd000_0000_0000_0010,
    ] {
        for context in [mmu::load(ea, DATA), mmu::store(ea, 0, DATA)] {
            expect_interrupt("interrupt", &context, vector::DATA_SEGMENT, context.pc)?;
            expect("DAR", context.dar, ea)?;
            expect("SRR1", context.srr1, DATA)?;
        }
    }
    Ok(())
}

fn instruction_segment(_: &mut Env) -> Outcome {
    cpu::clear_segments();
    let ea = 0x0000_0600_0000_0040;
    let context = run_at(ea, FETCH);
    expect_interrupt("interrupt", &context, vector::INSTRUCTION_SEGMENT, ea)?;
    expect("SRR1", context.srr1, FETCH)
}

fn protect_at_once(env: &mut Env) -> Outcome {
    let mapping = env.page(0x5000, 2);
    let index = env.map(&mapping)?;
    for value in 1..4 {
        expect_completed("store", &mmu::store(mapping.ea, value, DATA), 1)?;
        expect(
            "read-only",
            env.hpt.protect(index, 3).status,
            status::SUCCESS,
        )?;
        expect_dsi(
            &mmu::store(mapping.ea, 0xbad, DATA),
            0x0a00_0000,
            mapping.ea,
        )?;
        expect("memory", env.work.read(0x5000), value)?;
        expect_completed("load", &mmu::load(mapping.ea, DATA), 1)?;
        expect(
            "writable",
            env.hpt.protect(index, 2).status,
            status::SUCCESS,
        )?;
    }
    env.unmap(&[index])
}

fn remove_at_once(env: &mut Env) -> Outcome {
    let mapping = env.page(0x6000, 2);
    for value in 1..4 {
        let index = env.map(&mapping)?;
        expect_completed("store", &mmu::store(mapping.ea, value, DATA), 1)?;
        expect("H_REMOVE", env.hpt.remove(index).status, status::SUCCESS)?;
        expect_dsi(
            &mmu::store(mapping.ea, 0xbad, DATA),
            0x4200_0000,
            mapping.ea,
        )?;
        expect("memory", env.work.read(0x6000), value)?;
    }
    env.unmap(&[])
}

fn repair(env: &mut Env) -> Outcome {
    let mapping = env.page(0x7000, 2);
    env.segment(&mapping);
    env.work.write(0x7008, 0xabc);
    let program = Program::new().li(5, 1).ld(4, 3, 8).addi(4, 4, 1);
    let mut context = Context::new(place(&program), DATA).with_gpr(3, mapping.ea);
    context.run();
    expect_interrupt("first time", &context, vector::DSI, context.pc + 4)?;
    let index = env.enter(&mapping)?;
    // Go on where the interrupt was, with the registers that it found.
    let mut again = context;
    again.pc = context.srr0;
    again.msr = context.srr1;
    again.run();
    expect_interrupt("second time", &again, vector::PROGRAM, context.pc + 12)?;
    expect("r4", again.gpr[4], 0xabd)?;
    expect("r5", again.gpr[5], 1)?;
    env.unmap(&[index])
}
