// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The page table under two processors: one works on it while the other uses the pages, and both work on
//! the same groups.
//!
//! LoPAR, H_ENTER, H_REMOVE, H_PROTECT, H_CLEAR_REF, H_CLEAR_MOD, H_BULK_REMOVE. Once H_REMOVE has
//! returned, no processor of the partition reaches the page any more.

use super::env::{EA, EA_SMALL, Env, VSID};
use super::second::{both, wait_for, with};
use core::sync::atomic::{AtomicU64, Ordering};
use penstock_guest_rt::context::Context;
use penstock_guest_rt::cpu;
use penstock_guest_rt::hcall;
use penstock_guest_rt::hpt::{Mapping, P4K, R_C, R_M, R_PP, R_R, SLB_KP, Segment, V_VALID};
use penstock_guest_rt::memory::Range;
use penstock_guest_rt::mmu::{self, DATA, Hpt};
use penstock_guest_rt::number::hcall::{BULK_REMOVE, CLEAR_MOD, CLEAR_REF};
use penstock_guest_rt::number::{status, vector};
use penstock_guest_rt::second;
use penstock_guest_rt::suite::{
    Check, Failure, Outcome, expect, expect_at, expect_completed, require,
};

/// The checks of this file.
pub const CHECKS: &[Check<Env>] = &[
    Check {
        name: "removed-and-protected-under-the-other-processor",
        run: |env| both(env, under_the_other),
    },
    Check {
        name: "both-processors-touch-fresh-memory-first",
        run: |env| both(env, first_touch),
    },
    Check {
        name: "both-processors-work-on-the-same-groups",
        run: |env| both(env, same_groups),
    },
];

const NO_HPTE: u64 = 0x4000_0000;
const NO_HPTE_STORE: u64 = 0x4200_0000;
const PROTECTED_STORE: u64 = 0x0a00_0000;

/// What a page's word is while nothing maps it.
const POISON: u64 = 0xdead << 48;
/// Rounds of the first check, and what a round goes through; the odd ones last from before a call until
/// after it.
const ROUNDS: u64 = 60;
const STEPS: u64 = 6;
const GONE: u64 = 0;
const WRITABLE: u64 = 2;
const READ_ONLY: u64 = 4;

/// Where the first processor is, and how often the second one has looked.
struct Progress {
    /// The round's number and step, and in the upper half how many there were: none comes twice.
    step: AtomicU64,
    looks: AtomicU64,
    end: AtomicU64,
}

impl Progress {
    fn to(&self, round: u64, step: u64) {
        let number = (self.step.load(Ordering::SeqCst) >> 32) + 1;
        let step = (number << 32) + round * STEPS + step;
        self.step.store(step, Ordering::SeqCst);
    }

    /// Waits for some looks that began and ended here.
    fn stay(&self) -> Outcome {
        let before = self.looks.load(Ordering::SeqCst);
        wait_for("looks of the other", || {
            self.looks.load(Ordering::SeqCst) >= before + 4 || self.end.load(Ordering::SeqCst) != 0
        })
    }
}

fn under_the_other(env: &Env, _: u64) -> Outcome {
    let progress = Progress {
        step: AtomicU64::new(0),
        looks: AtomicU64::new(0),
        end: AtomicU64::new(0),
    };
    let (hpt, first) = (env.hpt, env.page(0, 2));
    let pages = [env.work.part(0, 0x1000), env.work.part(0x1000, 0x1000)];
    let mut seen = Ok([0; 3]);
    let changed = with(
        || {
            seen = look(&first, &progress);
            progress.end.store(1, Ordering::SeqCst);
        },
        || {
            let changed = change(&hpt, &first, pages, &progress);
            progress.end.store(1, Ordering::SeqCst);
            changed
        },
    );
    let seen = changed.and(seen)?;
    for (what, count) in ["gone", "writable", "read-only"].into_iter().zip(seen) {
        require(what, "seen in each round", count, |count| count >= ROUNDS)?;
    }
    Ok(())
}

/// The first processor: another page in each round, writable, then read-only, then gone.
fn change(hpt: &Hpt, first: &Mapping, pages: [Range; 2], progress: &Progress) -> Outcome {
    for round in 0..ROUNDS {
        let [page, other] = if round & 1 == 0 {
            pages
        } else {
            [pages[1], pages[0]]
        };
        other.write(0, POISON);
        page.write(0, round);
        let mapping = Mapping {
            real: page.base(),
            ..*first
        };
        progress.to(round, GONE);
        progress.stay()?;
        progress.to(round, GONE + 1);
        let index = hpt.enter(&mapping).map_err(|got| Failure::Mismatch {
            what: "H_ENTER",
            at: round,
            got,
            want: 0,
        })?;
        progress.to(round, WRITABLE);
        progress.stay()?;
        // Bits that only help: the other one goes on, and they come again.
        for call in [CLEAR_REF, CLEAR_MOD] {
            progress.to(round, WRITABLE + 1);
            let reply = hcall::call(call, [0, index, 0, 0]);
            expect_at("H_CLEAR_*", round, reply.status, status::SUCCESS)?;
            progress.to(round, WRITABLE);
            progress.stay()?;
        }
        let bits = hpt.read(index).values[1];
        expect_at("R and C", round, bits & (R_R | R_C), R_R | R_C)?;
        progress.to(round, WRITABLE + 1);
        let protected = hpt.protect(index, 3).status;
        expect_at("H_PROTECT", round, protected, status::SUCCESS)?;
        progress.to(round, READ_ONLY);
        let stored = page.read(8);
        progress.stay()?;
        expect_at("stored after H_PROTECT", round, page.read(8), stored)?;
        progress.to(round, READ_ONLY + 1);
        let removed = hpt.remove(index);
        expect_at("H_REMOVE", round, removed.status, status::SUCCESS)?;
        expect_at("its entry", round, removed.values[0], mapping.v())?;
        page.write(0, POISON);
    }
    // Nothing is mapped: looks see that it is gone.
    progress.to(ROUNDS, GONE);
    progress.stay()
}

/// The second processor: loads and stores all the time. Returns how often it was sure to find the page
/// gone, writable and read-only.
fn look(mapping: &Mapping, progress: &Progress) -> Result<[u64; 3], Failure> {
    let mut seen = [0; 3];
    cpu::set_segment(mapping.slb_vsid(SLB_KP), mapping.slb_esid(2));
    let mut outcome = Ok(());
    let mut store = false;
    while outcome.is_ok() && progress.end.load(Ordering::SeqCst) == 0 {
        store = !store;
        let before = progress.step.load(Ordering::SeqCst);
        let context = if store {
            mmu::store(mapping.ea + 8, before, DATA)
        } else {
            mmu::load(mapping.ea, DATA)
        };
        let after = progress.step.load(Ordering::SeqCst);
        let step = before & 0xffff_ffff;
        let sure = if before == after { step % STEPS } else { 1 };
        let rounds = [before, after].map(|step| (step & 0xffff_ffff) / STEPS);
        outcome = outcome_of(&context, store, sure, rounds);
        match sure {
            GONE => seen[0] += 1,
            WRITABLE => seen[1] += 1,
            READ_ONLY => seen[2] += 1,
            _ => {}
        }
        progress.looks.fetch_add(1, Ordering::SeqCst);
    }
    cpu::clear_segments();
    outcome.map(|()| seen)
}

/// What an access may come to in a step that lasted for all of it, or, where none did, in any.
fn outcome_of(context: &Context, store: bool, step: u64, rounds: [u64; 2]) -> Outcome {
    let completed = context.vector == vector::PROGRAM;
    if completed && !store {
        let value = context.gpr[4];
        require("loaded", "of this round", value, |value| {
            (rounds[0]..=rounds[1]).contains(&value)
        })?;
    }
    if !completed {
        expect_at("vector", step, context.vector, vector::DSI)?;
    }
    let dsisr = if completed { 0 } else { context.dsisr };
    let missing = if store { NO_HPTE_STORE } else { NO_HPTE };
    match step {
        GONE => expect_at("DSISR when gone", rounds[0], dsisr, missing),
        WRITABLE => expect_at("DSISR when writable", rounds[0], dsisr, 0),
        READ_ONLY => {
            let want = if store { PROTECTED_STORE } else { 0 };
            expect_at("DSISR when read-only", rounds[0], dsisr, want)
        }
        _ => require("DSISR meanwhile", "a page fault's", dsisr, |dsisr| {
            [0, missing].contains(&dsisr) || store && dsisr == PROTECTED_STORE
        }),
    }
}

/// Pages that nobody has touched, which both processors store to as soon as they are mapped: each word
/// stays, and the rest is zero.
fn first_touch(env: &Env, _: u64) -> Outcome {
    const PAGES: u64 = 24;
    let mapping = |real| Mapping {
        ea: EA,
        vsid: VSID,
        segment: Segment::T1,
        size: P4K,
        real,
        bits: R_M | 2,
    };
    let any = mapping(0);
    let (ready, stored) = (AtomicU64::new(0), AtomicU64::new(0));
    let mut failed = Ok(());
    let outcome = with(
        || {
            cpu::set_segment(any.slb_vsid(SLB_KP), any.slb_esid(2));
            for page in 1..=PAGES {
                if !second::wait_until(|| ready.load(Ordering::Acquire) >= page) {
                    break;
                }
                let context = mmu::store(any.ea + 0x100, page, DATA);
                failed = failed.and(expect_completed("store of the second", &context, 1));
                stored.store(page, Ordering::Release);
            }
            cpu::clear_segments();
        },
        || {
            let mut outcome = Ok(());
            cpu::set_segment(any.slb_vsid(SLB_KP), any.slb_esid(2));
            for page in 1..=PAGES {
                let Some(fresh) = env.boot.memory.fresh(1 << 16) else {
                    outcome = outcome.and(Err(Failure::Skip("no memory is left")));
                    ready.store(PAGES, Ordering::Release);
                    break;
                };
                let index = env.enter(&mapping(fresh.base()));
                ready.store(page, Ordering::Release);
                let context = mmu::store(any.ea + 0x200, page << 32, DATA);
                let done = wait_for("store of the other", || {
                    stored.load(Ordering::Acquire) == page
                });
                let removed = index.map(|index| env.hpt.remove(index).status);
                outcome = outcome
                    .and(done)
                    .and(removed.and_then(|status| expect_at("H_REMOVE", page, status, 0)))
                    .and_then(|()| expect_completed("store of the first", &context, 1))
                    .and_then(|()| expect_touched(&fresh, page));
            }
            cpu::clear_segments();
            outcome
        },
    );
    outcome.and(failed)
}

fn expect_touched(fresh: &Range, page: u64) -> Outcome {
    for offset in (0..0x1000).step_by(8) {
        let want = match offset {
            0x100 => page,
            0x200 => page << 32,
            _ => 0,
        };
        expect_at("memory", offset, fresh.read(offset), want)?;
    }
    Ok(())
}

/// Pages of each processor, all of one hash: more than their group has room for.
const OWN: usize = 6;
/// What each of them does to its own.
const ACTIONS: u64 = 1500;
/// The hash, which the segment and the page make together.
const HASH: u64 = 0x31_0000;

fn same_groups(env: &Env, _: u64) -> Outcome {
    let hpt = env.hpt;
    let work = env.work.part(0x1_0000, 0x1_0000);
    let mut by_second = Ok(());
    let by_first = with(
        || by_second = Owner::new(hpt, work, 1).work(),
        || Owner::new(hpt, work, 0).work(),
    );
    // Both have taken all that they had.
    let group = Owner::new(hpt, work, 0).group();
    for slot in group..group + 8 {
        let left = hpt.read(slot).values[0] & V_VALID;
        expect_at("left in the group", slot, left, 0)?;
    }
    by_first.and(by_second)
}

/// A processor's own pages in the group, and where they are entered.
struct Owner {
    hpt: Hpt,
    pages: [Mapping; OWN],
    entered: [Option<u64>; OWN],
    value: [u64; OWN],
    random: u64,
    full: u64,
}

impl Owner {
    fn new(hpt: Hpt, work: Range, processor: u64) -> Self {
        let pages = core::array::from_fn(|number| {
            let page = processor * 8 + number as u64 + 1;
            Mapping {
                ea: EA_SMALL + (page << 12),
                vsid: HASH ^ (EA_SMALL >> 12 & 0xffff) ^ page,
                segment: Segment::M256,
                size: P4K,
                real: (work.base() & !0xfff) + (page << 12) % 0x1_0000,
                bits: R_M | 2,
            }
        });
        Self {
            hpt,
            pages,
            entered: [None; OWN],
            value: [0; OWN],
            random: 0x9e37_79b9_7f4a_7c15 ^ processor,
            full: 0,
        }
    }

    fn group(&self) -> u64 {
        self.pages[0].primary(self.hpt.order)
    }

    fn next(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random >> 16
    }

    /// Works, and takes everything at the end.
    fn work(&mut self) -> Outcome {
        let mut outcome = Ok(());
        for _ in 0..ACTIONS {
            let [number, action] = [self.next(), self.next()];
            let number = usize::try_from(number).unwrap_or(0) % OWN;
            outcome = match self.entered[number] {
                None => self.enter(number),
                Some(index) => match action % 8 {
                    0 | 1 => self.remove(number, index),
                    2 => self.remove_all(),
                    3 => self.protect(number, index, action >> 8),
                    4 => self.clear(number, index),
                    _ => self.touch(number),
                },
            };
            if outcome.is_err() {
                break;
            }
        }
        let removed = self.remove_all();
        cpu::clear_segments();
        outcome.and(removed)
    }

    fn enter(&mut self, number: usize) -> Outcome {
        let page = &mut self.pages[number];
        page.bits = R_M | 2;
        let reply = self.hpt.enter_with(0, page);
        if reply.status == status::PTEG_FULL {
            self.full += 1;
            return Ok(());
        }
        expect_at("H_ENTER", number as u64, reply.status, status::SUCCESS)?;
        let index = reply.values[0];
        let group = self.group();
        require("index", "in the group", index, |index| index & !7 == group)?;
        self.entered[number] = Some(index);
        self.look(number, index)
    }

    fn look(&self, number: usize, index: u64) -> Outcome {
        let values = self.hpt.read(index).values;
        self.is_own(number, values[0], values[1])
    }

    fn is_own(&self, number: usize, v: u64, r: u64) -> Outcome {
        let page = &self.pages[number];
        expect_at("dword 0", number as u64, v, page.v())?;
        let marks = R_R | R_C;
        expect_at("dword 1", number as u64, r & !marks, page.r() & !marks)
    }

    fn remove(&mut self, number: usize, index: u64) -> Outcome {
        let reply = self.hpt.remove(index);
        expect_at("H_REMOVE", number as u64, reply.status, status::SUCCESS)?;
        self.entered[number] = None;
        self.is_own(number, reply.values[0], reply.values[1])
    }

    fn remove_all(&mut self) -> Outcome {
        const ABSOLUTE: u64 = 0x40 << 56;
        const END: u64 = 0xc0 << 56;
        const DONE: u64 = 0x80;
        for first in [0, OWN / 2] {
            let mut arguments = [0; 9];
            let mut specifiers = arguments.chunks_exact_mut(2);
            let mut wanted = 0;
            let entered = &mut self.entered[first..first + OWN / 2];
            for index in entered.iter_mut().filter_map(Option::take) {
                if let Some(specifier) = specifiers.next() {
                    specifier[0] = ABSOLUTE | index;
                    wanted += 1;
                }
            }
            if let Some(specifier) = specifiers.next() {
                specifier[0] = END;
            }
            let reply = hcall::call_with(BULK_REMOVE, arguments);
            expect("H_BULK_REMOVE", reply.status, status::SUCCESS)?;
            for specifier in reply.values.chunks(2).take(wanted) {
                expect("its response", specifier[0] >> 56 & 0xf0, DONE)?;
            }
        }
        Ok(())
    }

    fn protect(&mut self, number: usize, index: u64, random: u64) -> Outcome {
        let bits = if random & 1 == 0 { 2 } else { 3 };
        let status = self.hpt.protect(index, bits).status;
        expect_at("H_PROTECT", number as u64, status, status::SUCCESS)?;
        self.pages[number].bits = R_M | bits;
        self.look(number, index)
    }

    fn clear(&mut self, number: usize, index: u64) -> Outcome {
        for call in [CLEAR_REF, CLEAR_MOD] {
            let reply = hcall::call(call, [0, index, 0, 0]);
            expect_at("H_CLEAR_*", number as u64, reply.status, status::SUCCESS)?;
        }
        self.look(number, index)
    }

    /// A store that its protection lets through or not, and a load of what was last stored.
    fn touch(&mut self, number: usize) -> Outcome {
        let page = self.pages[number];
        cpu::clear_segments();
        cpu::set_segment(page.slb_vsid(SLB_KP), page.slb_esid(2));
        let value = self.next();
        let stored = mmu::store(page.ea + 0x40, value, DATA);
        if page.bits & R_PP == 2 {
            expect_completed("store", &stored, 1)?;
            self.value[number] = value;
        } else {
            expect_at("store", number as u64, stored.vector, vector::DSI)?;
            expect_at("DSISR", number as u64, stored.dsisr, PROTECTED_STORE)?;
        }
        let loaded = mmu::load(page.ea + 0x40, DATA);
        expect_completed("load", &loaded, 1)?;
        if self.value[number] != 0 {
            expect_at("loaded", number as u64, loaded.gpr[4], self.value[number])?;
        }
        Ok(())
    }
}
