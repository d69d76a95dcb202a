// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Work for a partition whose memory may be shared and overcommitted: touches so many MiB, and finds
//! that nobody else wrote there, nor into the guest's own image, which another partition may have
//! started from too.
//!
//! A guest whose command line has the word `touch=MIB` does this alone, and nothing of the rest. It may
//! be held for any time where memory runs out, so no watchdog looks after it. With the word `wait` it
//! keeps what it has until a key comes, and sleeps meanwhile.

use super::env::{Env, PATTERN, status_of};
use super::rtas;
use core::sync::atomic::{AtomicU64, Ordering};
use penstock_guest_rt::clock::FREQUENCY;
use penstock_guest_rt::console::{println, terminal};
use penstock_guest_rt::context::Context;
use penstock_guest_rt::cpu;
use penstock_guest_rt::hcall;
use penstock_guest_rt::insn::Program;
use penstock_guest_rt::memory::Range;
use penstock_guest_rt::number::flag;
use penstock_guest_rt::number::hcall::{CEDE, GET_TERM_CHAR, PAGE_INIT, REGISTER_VPA};

const MIB: u64 = 1 << 20;
const PIECE: u64 = 64 << 10;
const PAGE: u64 = 4 << 10;

/// Lies in the image's data, and has this value in the file.
static OF_THE_IMAGE: AtomicU64 = AtomicU64::new(PATTERN);

/// How many MiB the command line says, if it does, and whether to wait after that.
fn asked(env: &Env) -> Option<(u64, bool)> {
    let line = env.boot.fdt.node("/chosen")?.string("bootargs")?;
    let mut words = line.split(' ');
    let wait = words.clone().any(|word| word == "wait");
    let mib = words.find_map(|word| word.strip_prefix("touch=")?.parse().ok())?;
    Some((mib, wait))
}

/// Does what the command line asks for; whether it did.
pub fn touch_if_asked(env: &Env) -> bool {
    let Some((mib, wait)) = asked(env) else {
        return false;
    };
    println!("builtin: touches {mib} MiB");
    match touch(env, mib) {
        Some(0) => println!("builtin: touched {mib} MiB, nothing lost"),
        Some(lost) => println!("FAIL touch: got {lost} values that are not ours, want 0"),
        None => println!("FAIL touch: got less memory than {mib} MiB, want more"),
    }
    if wait {
        println!("builtin: waits for a key");
        cpu::disable_interrupts();
        while hcall::call(GET_TERM_CHAR, [terminal(), 0, 0, 0]).values[0] == 0 {
            cpu::set_decrementer(FREQUENCY / 20);
            Context::with_program(&Program::new().sc(1))
                .with_gpr(3, CEDE)
                .run();
        }
    }
    true
}

/// What belongs at an address in a round, in this partition.
fn value(env: &Env, address: u64, round: u64) -> u64 {
    let number = env
        .boot
        .fdt
        .root()
        .and_then(|root| root.cell("ibm,partition-no"))
        .map_or(0, u64::from);
    (address ^ number << 48 ^ round << 40).wrapping_mul(PATTERN | 1)
}

/// Two places of a piece, the first and one that is another in each round.
fn places(round: u64) -> [u64; 2] {
    [0, (round * 0x1238) % PIECE]
}

/// How many values were not as they should be; `None` where there is not so much memory.
fn touch(env: &Env, mib: u64) -> Option<u64> {
    let mut lost = 0;
    let first = OF_THE_IMAGE.swap(value(env, 1, 0), Ordering::Relaxed);
    lost += u64::from(first != PATTERN);
    // What is given out lies in one piece, from the last part on.
    let mut base = None;
    for _ in 0..mib {
        base = Some(env.boot.memory.fresh(MIB)?);
    }
    let Some(base) = base.map(|range| range.base()) else {
        return Some(lost);
    };
    let mut progress = 0;
    for round in 1..4 {
        for at in (0..mib * MIB / PIECE).map(|piece| piece * PIECE) {
            let piece = env.boot.memory.at(base + at, PIECE)?;
            if round == 1 {
                lost += u64::from(piece.read(PIECE - 8) != 0);
            }
            for place in places(round) {
                piece.write(place, value(env, base + at + place, round));
            }
            let done = (at / MIB + 1) * 4 / mib;
            if round == 1 && done != progress {
                progress = done;
                println!("builtin: touched {} MiB", at / MIB + 1);
            }
        }
        lost += calls(env)?;
        // The others have their turns.
        let until = cpu::timebase() + FREQUENCY / 20;
        while cpu::timebase() < until {}
        for at in (0..mib * MIB / PIECE).map(|piece| piece * PIECE) {
            let piece = env.boot.memory.at(base + at, PIECE)?;
            for place in places(round) {
                lost += u64::from(piece.read(place) != value(env, base + at + place, round));
            }
        }
    }
    lost += u64::from(OF_THE_IMAGE.load(Ordering::Relaxed) != value(env, 1, 0));
    Some(lost)
}

/// Calls that write to memory, each to a piece that nobody has touched; how many failed.
fn calls(env: &Env) -> Option<u64> {
    let fresh = || env.boot.memory.fresh(PIECE);
    let (zeroed, copied, source, buffer, area) = (fresh()?, fresh()?, fresh()?, fresh()?, fresh()?);
    let mut lost = 0;
    let mut expect = |what: &str, truth: bool| {
        if !truth {
            println!("FAIL touch: {what}");
        }
        lost += u64::from(!truth);
    };
    let zero = [flag::ZERO_PAGE, zeroed.base(), 0, 0];
    expect("H_PAGE_INIT zeroes", status_of(PAGE_INIT, zero) == 0);
    source.write(8, PATTERN);
    let copy = [flag::COPY_PAGE, copied.base() + PAGE, source.base(), 0];
    expect("H_PAGE_INIT copies", status_of(PAGE_INIT, copy) == 0);
    let (there, beside) = (copied.read(PAGE + 8), copied.read(8));
    expect("what was copied", there == PATTERN && beside == 0);
    // The image's own page, in place: what it holds is the same after.
    let image = penstock_guest_rt::start::image().0 & !(PAGE - 1);
    let text = env.boot.memory.at(image, PAGE)?;
    let sum = sum_of(&text);
    for [to, from] in [[zeroed.base(), image], [image, zeroed.base()]] {
        let status = status_of(PAGE_INIT, [flag::COPY_PAGE, to, from, 0]);
        expect("H_PAGE_INIT copies the image", status == 0);
    }
    let sums = [sum_of(&text), sum_of(&zeroed.part(0, PAGE))];
    expect("the image", sums == [sum; 2]);
    let at = u32::try_from(buffer.base()).ok()?;
    let fetched = rtas::call(env, "nvram-fetch", &[0, at, 16], 2);
    let fetched = fetched.is_ok_and(|results| results[0] == 0);
    expect("nvram-fetch", fetched && buffer.read(0) != 0);
    // A virtual processor area, which the hypervisor writes to at each turn.
    area.write_bytes(4, &640_u16.to_be_bytes());
    for arguments in [
        [1 << 45, env.server, area.base(), 0],
        [5 << 45, env.server, 0, 0],
    ] {
        expect("H_REGISTER_VPA", status_of(REGISTER_VPA, arguments) == 0);
    }
    Some(lost)
}

fn sum_of(range: &Range) -> u64 {
    (0..range.bytes())
        .step_by(8)
        .fold(0, |sum: u64, at| sum.rotate_left(1) ^ range.read(at))
}
