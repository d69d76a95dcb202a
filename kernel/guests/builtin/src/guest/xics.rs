// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The XICS calls with inter-processor interrupts to this processor itself.
//!
//! XIRR is CPPR in the upper byte and the source in the lower three; source 2 is the IPI, 0 means
//! none. An IPI of a priority (its MFRR) more favoured, that is less, than the CPPR interrupts
//! (LoPAR, H_CPPR, H_IPI, H_XIRR, H_EOI, H_IPOLL).

use super::env::{Env, status_of};
use penstock_guest_rt::context::Context;
use penstock_guest_rt::cpu;
use penstock_guest_rt::hcall;
use penstock_guest_rt::insn::Program;
use penstock_guest_rt::number::hcall::{CPPR, EOI, IPI, IPOLL, XIRR, XIRR_X};
use penstock_guest_rt::number::{msr, status, vector};
use penstock_guest_rt::suite::{
    Check, Outcome, expect, expect_at, expect_completed, expect_interrupt, require,
};

/// The checks of this file.
pub const CHECKS: &[Check<Env>] = &[
    Check {
        name: "ipi-to-self-from-send-to-eoi",
        run: |env| quietly(env, ipi),
    },
    Check {
        name: "ipi-waits-for-ee",
        run: |env| quietly(env, waits_for_ee),
    },
    Check {
        name: "ipi-is-masked-by-cppr",
        run: |env| quietly(env, masked),
    },
    Check {
        name: "ipi-comes-when-cppr-is-raised",
        run: |env| quietly(env, unmasked),
    },
    Check {
        name: "ipi-withdrawn-comes-at-most-once",
        run: |env| quietly(env, withdrawn),
    },
    Check {
        name: "ipi-comes-again-after-eoi-while-mfrr-stands",
        run: |env| quietly(env, again),
    },
    Check {
        name: "ipi-of-priority-0",
        run: |env| quietly(env, priority_zero),
    },
    Check {
        name: "ipi-more-favoured-interrupts-the-handler",
        run: |env| quietly(env, nested),
    },
    Check {
        name: "ipi-a-hundred-times",
        run: |env| quietly(env, often),
    },
    Check {
        name: "h-xirr-without-interrupt-is-spurious",
        run: |env| quietly(env, spurious),
    },
    Check {
        name: "h-xirr-x-tells-the-time",
        run: |env| quietly(env, xirr_x),
    },
    Check {
        name: "h-ipoll-shows-without-accepting",
        run: |env| quietly(env, ipoll),
    },
    Check {
        name: "xics-calls-refuse-unknown-servers",
        run: |env| quietly(env, servers),
    },
    Check {
        name: "h-eoi-refuses-bad-values",
        run: |env| quietly(env, bad_eoi),
    },
];

/// Runs a check with EE off and a decrementer that stays away, from a masked presenter; and leaves
/// one.
fn quietly(env: &mut Env, check: fn(&Env) -> Outcome) -> Outcome {
    cpu::disable_interrupts();
    cpu::set_decrementer(0x7fff_ffff);
    mask(env);
    let outcome = check(env);
    mask(env);
    outcome
}

fn mask(env: &Env) {
    status_of(IPI, [env.server, 0xff, 0, 0]);
    status_of(CPPR, [0; 4]);
}

fn set_cppr(cppr: u64) -> Outcome {
    expect("H_CPPR", status_of(CPPR, [cppr, 0, 0, 0]), status::SUCCESS)
}

fn send(env: &Env, mfrr: u64) -> Outcome {
    expect(
        "H_IPI",
        status_of(IPI, [env.server, mfrr, 0, 0]),
        status::SUCCESS,
    )
}

fn accept(want: u64) -> Outcome {
    let reply = hcall::call(XIRR, [0; 4]);
    expect("H_XIRR", reply.status, status::SUCCESS)?;
    expect("XIRR", reply.values[0], want)
}

fn finish(xirr: u64) -> Outcome {
    expect("H_EOI", status_of(EOI, [xirr, 0, 0, 0]), status::SUCCESS)
}

/// Lets interrupts in for a while; the context shows what came.
fn open() -> Context {
    let program = Program::new().nop().bdnz(-1);
    let mut context = Context::with_program(&program).with_msr(msr::KERNEL | msr::EE);
    context.ctr = 5000;
    context.run();
    context
}

fn expect_external() -> Outcome {
    let context = open();
    expect("vector", context.vector, vector::EXTERNAL)?;
    expect("SRR1", context.srr1, msr::KERNEL | msr::EE)?;
    expect("MSR at the handler", context.arrival, 0x8000_0000_0000_1001)
}

fn expect_quiet() -> Outcome {
    expect_completed("with EE on", &open(), 2)
}

fn ipi(env: &Env) -> Outcome {
    set_cppr(0xff)?;
    send(env, 4)?;
    expect_external()?;
    accept(0xff00_0002)?;
    send(env, 0xff)?;
    expect_quiet()?;
    finish(0xff00_0002)?;
    expect_quiet()
}

fn waits_for_ee(env: &Env) -> Outcome {
    set_cppr(0xff)?;
    send(env, 4)?;
    let program = Program::new().nop().bdnz(-1);
    let mut context = Context::with_program(&program);
    context.ctr = 5000;
    context.run();
    expect_completed("with EE off", &context, 2)?;
    let mut context = Context::with_program(&Program::new().mtmsrd_ee(4).li(5, 1));
    context.gpr[4] = msr::EE | msr::RI;
    context.run();
    expect_interrupt("by mtmsrd", &context, vector::EXTERNAL, context.pc + 4)?;
    accept(0xff00_0002)?;
    send(env, 0xff)?;
    finish(0xff00_0002)
}

fn masked(env: &Env) -> Outcome {
    for cppr in [0, 3, 4] {
        set_cppr(cppr)?;
        send(env, 4)?;
        expect_quiet()?;
        accept(cppr << 24)?;
        send(env, 0xff)?;
    }
    Ok(())
}

fn unmasked(env: &Env) -> Outcome {
    set_cppr(2)?;
    send(env, 4)?;
    expect_quiet()?;
    set_cppr(5)?;
    expect_external()?;
    accept(0x0500_0002)?;
    send(env, 0xff)?;
    finish(0x0500_0002)
}

fn withdrawn(env: &Env) -> Outcome {
    set_cppr(0xff)?;
    send(env, 4)?;
    send(env, 0xff)?;
    // What was on its way may still come, with or without its source; then nothing more.
    if open().vector == vector::EXTERNAL {
        let xirr = hcall::call(XIRR, [0; 4]).values[0];
        require("XIRR", "the IPI or none", xirr, |x| {
            x == 0xff00_0002 || x == 0xff00_0000
        })?;
        if xirr == 0xff00_0002 {
            finish(xirr)?;
        }
    }
    expect_quiet()
}

fn again(env: &Env) -> Outcome {
    set_cppr(0xff)?;
    send(env, 4)?;
    for _ in 0..3 {
        expect_external()?;
        accept(0xff00_0002)?;
        // Accepted: the CPPR is the IPI's own priority now.
        expect_quiet()?;
        finish(0xff00_0002)?;
    }
    expect_external()?;
    accept(0xff00_0002)?;
    send(env, 0xff)?;
    finish(0xff00_0002)?;
    expect_quiet()
}

fn priority_zero(env: &Env) -> Outcome {
    set_cppr(1)?;
    send(env, 0)?;
    expect_external()?;
    accept(0x0100_0002)?;
    expect_quiet()?;
    accept(0x0000_0000)?;
    send(env, 0xff)?;
    finish(0x0100_0002)
}

fn nested(env: &Env) -> Outcome {
    set_cppr(0xff)?;
    send(env, 5)?;
    expect_external()?;
    accept(0xff00_0002)?;
    // Sent again, more favoured than what is being served.
    send(env, 2)?;
    expect_external()?;
    accept(0x0500_0002)?;
    send(env, 0xff)?;
    finish(0x0500_0002)?;
    expect_quiet()?;
    finish(0xff00_0002)?;
    expect_quiet()
}

fn often(env: &Env) -> Outcome {
    set_cppr(0xff)?;
    for round in 0..100 {
        send(env, 4)?;
        expect_at("vector", round, open().vector, vector::EXTERNAL)?;
        accept(0xff00_0002)?;
        send(env, 0xff)?;
        finish(0xff00_0002)?;
    }
    expect_quiet()
}

fn spurious(_: &Env) -> Outcome {
    for cppr in [0, 5, 0xff] {
        set_cppr(cppr)?;
        accept(cppr << 24)?;
    }
    Ok(())
}

fn xirr_x(env: &Env) -> Outcome {
    set_cppr(0xff)?;
    let before = cpu::timebase();
    send(env, 4)?;
    expect_external()?;
    let reply = hcall::call(XIRR_X, [0xff, 0, 0, 0]);
    let after = cpu::timebase();
    expect("H_XIRR_X", reply.status, status::SUCCESS)?;
    expect("XIRR", reply.values[0], 0xff00_0002)?;
    require(
        "time stamp",
        "between send and call",
        reply.values[1],
        |t| (before..=after).contains(&t),
    )?;
    send(env, 0xff)?;
    finish(0xff00_0002)
}

fn ipoll(env: &Env) -> Outcome {
    let poll = || hcall::call(IPOLL, [env.server, 0, 0, 0]);
    set_cppr(0xff)?;
    expect("status", poll().status, status::SUCCESS)?;
    expect("XIRR when idle", poll().values[0], 0xff00_0000)?;
    expect("MFRR when idle", poll().values[1], 0xff)?;
    send(env, 4)?;
    for _ in 0..2 {
        expect("XIRR when sent", poll().values[0], 0xff00_0002)?;
        expect("MFRR when sent", poll().values[1], 4)?;
    }
    expect_external()?;
    accept(0xff00_0002)?;
    send(env, 0xff)?;
    finish(0xff00_0002)
}

fn servers(env: &Env) -> Outcome {
    for server in [env.server + 1000, 0xffff, 1 << 32 | env.server, u64::MAX] {
        expect_at(
            "H_IPI",
            server,
            status_of(IPI, [server, 4, 0, 0]),
            status::PARAMETER,
        )?;
        expect_at(
            "H_IPOLL",
            server,
            status_of(IPOLL, [server, 0, 0, 0]),
            status::PARAMETER,
        )?;
    }
    set_cppr(0xff)?;
    expect_quiet()
}

fn bad_eoi(_: &Env) -> Outcome {
    set_cppr(5)?;
    for xirr in [0x0500_0000, 0xff00_0abc, 0xffff_ffff] {
        expect_at(
            "status",
            xirr,
            status_of(EOI, [xirr, 0, 0, 0]),
            status::PARAMETER,
        )?;
    }
    // A priority more favoured than the current one.
    expect(
        "status",
        status_of(EOI, [0x0300_0002, 0, 0, 0]),
        status::PARAMETER,
    )
}
