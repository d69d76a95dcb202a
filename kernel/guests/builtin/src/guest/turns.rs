// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a guest keeps while the thread is another partition's.
//!
//! Registers are filled with values of this partition's own, and read again after some of the
//! hypervisor's turns, which are 10 ms, and after H_CEDE. Alone on the machine a guest passes these
//! checks easily; they are made for several that run them at once.

use super::env::{Env, PATTERN};
use penstock_guest_rt::clock::FREQUENCY;
use penstock_guest_rt::console::{println, terminal};
use penstock_guest_rt::context::Context;
use penstock_guest_rt::cpu::{self, VectorRegisters};
use penstock_guest_rt::hcall;
use penstock_guest_rt::hpt::{Mapping, P4K, P16M, P64K, PageSize};
use penstock_guest_rt::insn::Program;
use penstock_guest_rt::mmu::{self, DATA};
use penstock_guest_rt::number::hcall::{CEDE, GET_TERM_CHAR};
use penstock_guest_rt::number::{msr, spr, vector};
use penstock_guest_rt::suite::{
    self, Check, Failure, Outcome, Tally, expect, expect_at, expect_completed,
};

/// The checks of this file.
pub const CHECKS: &[Check<Env>] = &[
    Check {
        name: "turns-keep-special-registers",
        run: special_registers,
    },
    Check {
        name: "turns-keep-monitor-registers",
        run: monitor_registers,
    },
    Check {
        name: "turns-keep-vector-registers",
        run: vector_registers,
    },
    Check {
        name: "turns-keep-segments",
        run: segments,
    },
    Check {
        name: "turns-keep-the-decrementer",
        run: decrementer,
    },
];

/// Longer than three turns.
const SPIN: u64 = FREQUENCY / 28;
/// How long the guest cedes.
const NAP: u64 = FREQUENCY / 500;

/// A guest whose command line has the word `wait` is busy until something is typed on its console:
/// it fills the registers of the checks below over and over, so that another partition that runs
/// them finds its own values spoilt if anything is not switched. It also goes on storing through
/// mappings of its own, and finds out whatever is done to its page table behind its back.
///
/// With the word `spin` it does nothing at all, for ever, deaf to every interrupt and silent towards the
/// hypervisor.
pub fn wait_if_asked(env: &mut Env) -> Tally {
    let chosen = env.boot.fdt.node("/chosen");
    let asked = |wanted| {
        let line = chosen.and_then(|node| node.string("bootargs"));
        line.is_some_and(|line| line.split(' ').any(|word| word == wanted))
    };
    if asked("spin") {
        println!("builtin: spins");
        cpu::disable_interrupts();
        loop {
            core::hint::spin_loop();
        }
    }
    if !asked("wait") {
        return Tally::default();
    }
    let mappings = Mappings::new(env);
    println!("builtin: waits for a key");
    cpu::disable_interrupts();
    let mut kept = mappings.as_ref().map(|_| ()).map_err(|failure| *failure);
    let mut rounds = 0;
    while hcall::call(GET_TERM_CHAR, [terminal(), 0, 0, 0]).values[0] == 0 {
        rounds += 1;
        if let (Ok(mappings), Ok(())) = (&mappings, kept) {
            kept = mappings.are_kept(env, rounds);
        }
        cpu::load_vector_registers(&vector_values(env));
        fill_segments(env);
        for registers in [SPECIAL, MONITOR] {
            let (set, _, _) = programs(registers);
            let mut context = Context::with_program(&set);
            fill(env, registers, &mut context);
            context.run();
        }
    }
    for registers in [SPECIAL, MONITOR] {
        Context::with_program(&programs(registers).2).run();
    }
    cpu::load_vector_registers(&[[0; 2]; 64]);
    cpu::clear_segments();
    let kept = kept.and_then(|()| mappings?.unmap(env));
    let mut tally = Tally::default();
    suite::report(&mut tally, "mappings-are-kept-while-it-waits", kept, None);
    tally
}

/// One mapping of each page size, each a different part of the work memory.
struct Mappings([(Mapping, u64); 3]);

impl Mappings {
    const SIZES: [(PageSize, u64); 3] = [(P4K, 0x1000), (P64K, 0x2_0000), (P16M, 0x200_0000)];

    fn new(env: &Env) -> Result<Self, Failure> {
        let mut made = [(env.mapping(P4K, 0), 0); 3];
        for (place, (size, offset)) in made.iter_mut().zip(Self::SIZES) {
            let mut mapping = env.mapping(size, offset);
            mapping.ea &= !((1 << size.actual) - 1);
            let index = env.enter(&mapping)?;
            *place = (mapping, index);
        }
        Ok(Self(made))
    }

    /// A store and a load through each, and a look at its entry.
    fn are_kept(&self, env: &Env, round: u64) -> Outcome {
        for (mapping, index) in &self.0 {
            cpu::clear_segments();
            env.segment(mapping);
            let want = value(env, *index) ^ round;
            let at = mapping.ea + 8 * (round % 512);
            let stored = mmu::store(at, want, DATA);
            expect_completed("store", &stored, 1)?;
            let context = mmu::load(at, DATA);
            expect_completed("load", &context, 1)?;
            expect_at("loaded", at, context.gpr[4], want)?;
            let [v, r] = env.read_entry(*index)?;
            expect_at("dword 0", *index, v, mapping.v())?;
            expect_at("dword 1", *index, r & !RC, mapping.r() & !RC)?;
        }
        Ok(())
    }

    fn unmap(&self, env: &Env) -> Outcome {
        env.unmap(&self.0.map(|(_, index)| index))
    }
}

/// R and C of doubleword 1.
const RC: u64 = 0x180;

/// A value that no other partition uses, nor this one in another place.
fn value(env: &Env, place: u64) -> u64 {
    let root = env.boot.fdt.root();
    let partition = root.and_then(|root| root.cell("ibm,partition-no"));
    let mark = u64::from(partition.unwrap_or(0)) << 8 | place;
    PATTERN ^ mark.wrapping_mul(0x0101_0101_0101)
}

/// Runs `program` once with time to lose turns, and once into H_CEDE; it begins with what `set`
/// does, and ends with a decrementer interrupt.
fn away(set: Program, prepare: impl Fn(&mut Context)) -> Outcome {
    cpu::disable_interrupts();
    let mut context = Context::with_program(&set.spin()).with_msr(msr::KERNEL | msr::EE);
    prepare(&mut context);
    cpu::set_decrementer(SPIN);
    context.run();
    expect("interrupt", context.vector, vector::DECREMENTER)?;
    for _ in 0..5 {
        let mut context = Context::with_program(&Program::new().sc(1)).with_gpr(3, CEDE);
        cpu::set_decrementer(NAP);
        context.run();
        expect("interrupt", context.vector, vector::DECREMENTER)?;
    }
    Ok(())
}

/// A register's number, and those of its bits that hold any value.
type Register = (u32, u64);

const ALL: u64 = u64::MAX;
const WORD: u64 = 0xffff_ffff;

const SPECIAL: &[Register] = &[
    (spr::SPRG0, ALL),
    (spr::DAR, ALL),
    (spr::DSISR, WORD),
    (spr::AMR, ALL),
    (spr::IAMR, 0x5555_5555_5555_5555),
    (spr::UAMOR, ALL),
    (spr::DSCR, 0x1f),
    (spr::VRSAVE, WORD),
    (spr::PIDR, 0xf_ffff),
    (spr::TAR, ALL),
    (spr::EBBHR, !3),
    (spr::EBBRR, !3),
    (spr::PSPB, WORD),
];

/// The monitor is frozen, so these stand still.
const MONITOR: &[Register] = &[
    (spr::PMC1, WORD),
    (spr::PMC1 + 1, WORD),
    (spr::PMC1 + 2, WORD),
    (spr::PMC1 + 3, WORD),
    (spr::PMC1 + 4, WORD),
    (spr::PMC1 + 5, WORD),
    (spr::SIAR, ALL),
    (spr::SDAR, ALL),
    (spr::MMCR2, ALL),
];

/// Programs that set the registers from r14 on, get them there, and set them to 0.
fn programs(registers: &[Register]) -> (Program, Program, Program) {
    let (mut set, mut get, mut reset) = (Program::new(), Program::new(), Program::new());
    for (register, (number, _)) in (14..).zip(registers) {
        set = set.mtspr(*number, register);
        get = get.mfspr(register, *number);
        reset = reset.mtspr(*number, 0);
    }
    (set, get, reset.nop())
}

/// This partition's values of the registers, from r14 on.
fn fill(env: &Env, registers: &[Register], context: &mut Context) {
    let places = context.gpr.iter_mut().skip(14);
    for ((place, (_, mask)), register) in (0u64..).zip(registers).zip(places) {
        *register = value(env, place) & mask;
    }
    context.gpr[0] = 0;
}

fn keep(env: &Env, registers: &[Register]) -> Outcome {
    let (set, get, reset) = programs(registers);
    let mut wanted = Context::with_program(&set);
    fill(env, registers, &mut wanted);
    let outcome = away(set, |context| context.gpr = wanted.gpr);
    let mut after = Context::with_program(&get);
    after.run();
    // Nothing else here works with these values.
    Context::with_program(&reset).run();
    outcome?;
    let pairs = after.gpr.iter().zip(&wanted.gpr).skip(14);
    for ((number, mask), (got, want)) in registers.iter().zip(pairs) {
        expect_at("register", u64::from(*number), got & mask, *want)?;
    }
    Ok(())
}

fn special_registers(env: &mut Env) -> Outcome {
    keep(env, SPECIAL)
}

fn monitor_registers(env: &mut Env) -> Outcome {
    keep(env, MONITOR)
}

fn vector_values(env: &Env) -> VectorRegisters {
    core::array::from_fn(|number| {
        let value = value(env, number as u64);
        [value, !value]
    })
}

fn vector_registers(env: &mut Env) -> Outcome {
    let values = vector_values(env);
    cpu::load_vector_registers(&values);
    let outcome = away(Program::new(), |_| {});
    let mut after = [[0; 2]; 64];
    cpu::store_vector_registers(&mut after);
    outcome?;
    for (number, (after, before)) in (0u64..).zip(after.iter().zip(&values)) {
        expect_at("VSR low", number, after[0], before[0])?;
        expect_at("VSR high", number, after[1], before[1])?;
    }
    Ok(())
}

/// VSID doubleword of a 256M segment of 4K pages, and ESID doubleword without the entry's number.
fn segment(env: &Env, entry: u64) -> (u64, u64) {
    let vsid = value(env, entry) & 0x3f_ffff_ffff_f000;
    (vsid | 0x400, (entry + 3) << 28 | 1 << 27)
}

/// Every third entry stays empty.
fn used(entry: u64) -> bool {
    !entry.is_multiple_of(3)
}

fn fill_segments(env: &Env) {
    cpu::clear_segments();
    for entry in (0..32).filter(|entry| used(*entry)) {
        let (vsid, esid) = segment(env, entry);
        cpu::set_segment(vsid, esid | entry);
    }
}

fn segments(env: &mut Env) -> Outcome {
    fill_segments(env);
    let outcome = away(Program::new(), |_| {});
    let after = core::array::from_fn::<_, 32, _>(|entry| cpu::segment(entry as u64));
    cpu::clear_segments();
    outcome?;
    for (entry, got) in (0u64..).zip(after) {
        let (vsid, esid) = if used(entry) {
            segment(env, entry)
        } else {
            (0, 0)
        };
        expect_at("ESID", entry, got.1, esid)?;
        expect_at("VSID", entry, if used(entry) { got.0 } else { 0 }, vsid)?;
    }
    Ok(())
}

/// It counts on in other partitions' turns, and does not expire early.
fn decrementer(_: &mut Env) -> Outcome {
    cpu::disable_interrupts();
    for round in 1..=4 {
        let ticks = SPIN / 4 * round;
        let started = cpu::timebase();
        cpu::set_decrementer(ticks);
        let mut context =
            Context::with_program(&Program::new().spin()).with_msr(msr::KERNEL | msr::EE);
        context.run();
        let passed = cpu::timebase() - started;
        expect_at("interrupt", round, context.vector, vector::DECREMENTER)?;
        expect_at("expired early", round, u64::from(passed < ticks), 0)?;
        // Some turns of others later at the most.
        expect_at(
            "expired late",
            round,
            u64::from(passed > ticks + FREQUENCY),
            0,
        )?;
    }
    Ok(())
}
