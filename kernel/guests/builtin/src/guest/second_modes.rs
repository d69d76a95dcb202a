// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Modes that one processor sets and that are the other one's too (LoPAR, H_SET_MODE). The other one takes
//! them over soon, and not at once.

use super::env::{Env, status_of};
use super::second::{both, let_it_wait, wait_for, with};
use super::second_calls::{brought, expect_status};
use core::sync::atomic::{AtomicU64, Ordering};
use penstock_guest_rt::context::{self, Context, place};
use penstock_guest_rt::cpu;
use penstock_guest_rt::hcall;
use penstock_guest_rt::insn::{self, Program};
use penstock_guest_rt::mmu::{self, RELOCATED};
use penstock_guest_rt::number::hcall::SET_MODE;
use penstock_guest_rt::number::{msr, vector};
use penstock_guest_rt::second;
use penstock_guest_rt::suite::{Check, Outcome, expect, expect_interrupt};

/// The checks of this file.
pub const CHECKS: &[Check<Env>] = &[
    Check {
        name: "set-mode-endian-is-the-other-processors-too",
        run: |env| both(env, endian),
    },
    Check {
        name: "set-mode-ail-is-the-other-processors-too",
        run: |env| both(env, relocation),
    },
];

/// A program that traps until the trap comes big-endian, and has interrupts come little-endian again
/// then. The vector serves both byte orders.
fn endian(_: &Env, _: u64) -> Outcome {
    const CONTINUE: u64 = 5;
    const AND_1: u32 = 28 << 26 | 22 << 21 | 27 << 16 | 1;
    let about = AtomicU64::new(0);
    let mut context = None;
    let set = with(
        || {
            let program = Program::new()
                .trap()
                // Little-endian: note MSR, and go on.
                .mfmsr(22)
                .mtspr(27, 22)
                .mtspr(26, 24)
                .rfid()
                // Here it goes on; andi. 27, 22, 1.
                .word(AND_1)
                .bne(-6)
                .li(3, 0x31c)
                .li(4, 1)
                .li(5, 4)
                .li(6, 0)
                .li(7, 0)
                .sc(1)
                .sc(0);
            let mut run = Context::new(place(&program), msr::KERNEL);
            run.gpr[24] = run.pc + 4 * CONTINUE;
            let little = 0x4800_0002 | u32::try_from(run.pc + 4).unwrap_or(0);
            let big = [
                insn::mfmsr(22),
                insn::xori(23, 22, 1),
                insn::mtspr(27, 23),
                insn::mtspr(26, 24),
                insn::rfid(),
            ];
            // tdi 0, 0, 0x48, which is "b .+8" in the other byte order.
            let [a, b, c, d, e] = big.map(u32::swap_bytes);
            let words = [0x0800_0048, little, a, b, c, d, e, insn::spin()];
            context::patch_vector(vector::PROGRAM, words);
            about.store(1, Ordering::Release);
            run.run();
            context = Some(run);
        },
        || {
            wait_for("the other", || about.load(Ordering::Acquire) == 1)?;
            Ok(status_of(SET_MODE, [0, 4, 0, 0]))
        },
    );
    context::install_vectors();
    expect_status("H_SET_MODE to big-endian", set?)?;
    let run = brought(context)?;
    expect_interrupt("end", &run, vector::SYSTEM_CALL, run.pc + 4 * 14)?;
    expect("MSR at the handler", run.gpr[22], 0x8000_0000_0000_1000)?;
    expect_status("H_SET_MODE to little-endian", run.gpr[3])?;
    // This processor's are little-endian again too, once it has been told.
    let_it_wait();
    let mut run = Context::with_program(&Program::new());
    run.run();
    expect("MSR at the handler", run.arrival, 0x8000_0000_0000_1001)
}

fn relocation(env: &Env, _: u64) -> Outcome {
    if let Err(got) = env.hpt.map_image() {
        return expect_status("H_ENTER of the image", got);
    }
    let outcome = relocated(3, 0x4c00, 0x8000_0000_0000_1031)
        .and_then(|()| relocated(0, 0xc00, 0x8000_0000_0000_1001));
    env.hpt.unmap_image();
    outcome
}

/// Sets the location of interrupts; the other processor's system calls come there, soon.
fn relocated(mode: u64, vector: u64, arrival: u64) -> Outcome {
    let mut last = None;
    with(
        || {
            mmu::set_image_segments();
            second::wait_until(|| {
                let program = Program::new().sc(0);
                let mut run = Context::with_program(&program).with_msr(RELOCATED);
                run.run();
                last = Some(run);
                run.vector == vector
            });
            cpu::clear_segments();
        },
        || expect_status("H_SET_MODE", hcall::call(SET_MODE, [mode, 3, 0, 0]).status),
    )?;
    let last = brought(last)?;
    expect_interrupt("interrupt of the other", &last, vector, last.pc + 4)?;
    expect("MSR at its handler", last.arrival, arrival)
}
