// SPDX-License-Identifier: Apache-2.0 OR MIT
//! H_RESIZE_HPT_PREPARE and H_RESIZE_HPT_COMMIT: the table grows and shrinks under mappings that are in
//! use (LoPAR, Hash Page Table Resize Option).
//!
//! This guest remembers of each mapping its slot and its group's kind, as kernels do, and finds it by
//! that in the table of each size, or it is gone.

use super::env::{EA, Env, VSID, expect_dsi, status_of};
use penstock_guest_rt::cpu;
use penstock_guest_rt::hcall;
use penstock_guest_rt::hpt::{Mapping, P4K, R_C, R_M, R_R, Segment, V_BOLTED, V_SECONDARY};
use penstock_guest_rt::mmu::{self, DATA};
use penstock_guest_rt::number::hcall::{
    ENTER, READ, REMOVE, RESIZE_HPT_COMMIT, RESIZE_HPT_PREPARE,
};
use penstock_guest_rt::number::{flag, status};
use penstock_guest_rt::suite::{
    Check, Failure, Outcome, expect, expect_at, expect_completed, require,
};

/// The checks of this file.
pub const CHECKS: &[Check<Env>] = &[
    Check {
        name: "h-resize-hpt-is-for-those-that-are-told-of-it",
        run: authority,
    },
    Check {
        name: "h-resize-hpt-refuses-what-it-must",
        run: refusals,
    },
    Check {
        name: "h-resize-hpt-keeps-every-mapping-when-it-grows",
        run: grow,
    },
    Check {
        name: "h-resize-hpt-up-and-down-keeps-a-mapping-or-it-is-gone",
        run: up_and_down,
    },
    Check {
        name: "h-resize-hpt-keeps-bolted-ones-and-refuses-where-two-meet",
        run: two_bolted,
    },
];

/// The smallest table.
const SMALLEST: u32 = 18;

/// Calls of PREPARE that one table may take.
const CALLS: u64 = 1 << 16;

/// Mappings of one check.
const COUNT: usize = 128;

/// Pages of the smallest table's groups: two pages so far apart meet there.
const APART: u64 = 1 << (SMALLEST - 7);

/// Whether the tree offers it.
fn offered(env: &Env) -> bool {
    let rtas = env.boot.fdt.node("/rtas");
    rtas.is_some_and(|node| node.has_string("ibm,hypertas-functions", "hcall-hpt-resize"))
}

fn needs_it(env: &Env) -> Outcome {
    if offered(env) {
        Ok(())
    } else {
        Err(Failure::Skip("not in ibm,hypertas-functions"))
    }
}

fn prepare_status(order: u32) -> u64 {
    status_of(RESIZE_HPT_PREPARE, [0, u64::from(order), 0, 0])
}

fn commit_status(order: u32) -> u64 {
    status_of(RESIZE_HPT_COMMIT, [0, u64::from(order), 0, 0])
}

fn prepare(order: u32) -> Outcome {
    for _ in 0..CALLS {
        let got = prepare_status(order);
        if !(status::LONG_BUSY_FIRST..=status::LONG_BUSY_LAST).contains(&got) {
            return expect_at("PREPARE", u64::from(order), got, status::SUCCESS);
        }
    }
    expect("an end of PREPARE", 0, 1)
}

/// To a table of `1 << order` bytes, or the failure.
///
/// # Errors
/// A status that is not H_SUCCESS.
fn resize(env: &mut Env, order: u32) -> Outcome {
    prepare(order)?;
    expect_at(
        "COMMIT",
        u64::from(order),
        commit_status(order),
        status::SUCCESS,
    )?;
    env.hpt.order = order;
    Ok(())
}

/// For the end of the guest's first life: leaves a table of another size than the tree says, and one more
/// that is prepared. Where the partition may not, nothing.
pub fn leave_resized(env: &mut Env) {
    if offered(env) {
        let first = env.hpt.order;
        let _ = resize(env, first - 1).and_then(|()| prepare(first));
    }
}

/// For its second life: whether the table is as the tree says.
pub fn is_as_at_first(env: &mut Env) -> Outcome {
    let entries = env.hpt.entries();
    let read = |at| status_of(READ, [0, at, 0, 0]);
    expect("the last entry", read(entries - 1), status::SUCCESS)?;
    expect("the next one", read(entries), status::PARAMETER)?;
    let without = if offered(env) {
        status::CLOSED
    } else {
        status::AUTHORITY
    };
    expect("COMMIT", commit_status(env.hpt.order), without)
}

fn authority(env: &mut Env) -> Outcome {
    if offered(env) {
        // It is option vector 5's, too.
        let vector = env.boot.fdt.node("/chosen");
        let vector = vector.and_then(|node| node.property("ibm,architecture-vec-5"));
        let bit = vector.and_then(|vector| vector.get(6)).copied();
        return expect("byte 6 of vector 5", bit.map_or(0, u64::from), 1);
    }
    let order = env.hpt.order;
    expect("PREPARE", prepare_status(order), status::AUTHORITY)?;
    expect("COMMIT", commit_status(order), status::AUTHORITY)
}

fn refusals(env: &mut Env) -> Outcome {
    needs_it(env)?;
    let order = env.hpt.order;
    expect("nothing prepared", commit_status(order), status::CLOSED)?;
    for shift in [1, 17, 47, 1 << 32 | 18, u64::MAX] {
        let got = status_of(RESIZE_HPT_PREPARE, [0, shift, 0, 0]);
        expect_at("PREPARE", shift, got, status::PARAMETER)?;
    }
    expect("too large", prepare_status(46), status::RESOURCE)?;
    let flags = status_of(RESIZE_HPT_PREPARE, [1, u64::from(order), 0, 0]);
    expect("flags of PREPARE", flags, status::PARAMETER)?;
    prepare(SMALLEST)?;
    expect("another size", commit_status(order), status::CLOSED)?;
    let flags = status_of(RESIZE_HPT_COMMIT, [1, u64::from(SMALLEST), 0, 0]);
    expect("flags of COMMIT", flags, status::CLOSED)?;
    expect("given up", prepare_status(0), status::SUCCESS)?;
    expect("after that", commit_status(SMALLEST), status::CLOSED)?;
    is_as_at_first(env)
}

/// A mapping as this guest remembers it.
#[derive(Clone, Copy)]
struct Known {
    mapping: Mapping,
    slot: u64,
    /// [`V_SECONDARY`] and [`V_BOLTED`], where they apply.
    v_bits: u64,
    there: bool,
}

impl Known {
    /// Mapping `number`: pages one after the other, then pages that meet those in the smallest table.
    fn new(env: &Env, number: u64) -> Self {
        let page = number % (COUNT as u64 / 2) + number / (COUNT as u64 / 2) * APART;
        Self {
            mapping: Mapping {
                ea: EA + (page << 12),
                vsid: VSID,
                segment: Segment::T1,
                size: P4K,
                real: env.work.base() + (number << 12),
                bits: R_M | 2,
            },
            slot: 2,
            // In each pair both in their primary groups, or both in their secondary ones.
            v_bits: (number & 1) * V_SECONDARY,
            there: false,
        }
    }

    /// Where it is in the table in use.
    fn index(&self, order: u32) -> u64 {
        let group = if self.v_bits & V_SECONDARY == 0 {
            self.mapping.primary(order)
        } else {
            self.mapping.secondary(order)
        };
        group + self.slot
    }

    fn v(&self) -> u64 {
        self.mapping.v() | self.v_bits
    }

    fn enter(&mut self, env: &Env) -> Outcome {
        let index = self.index(env.hpt.order);
        let arguments = [flag::EXACT, index, self.v(), self.mapping.r()];
        let reply = hcall::call(ENTER, arguments);
        expect_at("H_ENTER", index, reply.status, status::SUCCESS)?;
        self.there = true;
        Ok(())
    }

    /// Whether the page table and the processor say the same of it as this guest.
    fn compare(&self, env: &Env, number: u64) -> Outcome {
        let context = mmu::load(self.mapping.ea + 8, DATA);
        if self.there {
            let [v, r] = env.read_entry(self.index(env.hpt.order))?;
            expect_at("V", number, v, self.v())?;
            expect_at("R", number, r & !(R_R | R_C), self.mapping.r())?;
            // Loaded before, and every second one stored to.
            expect_at("R and C", number, r & R_R, R_R)?;
            expect_at("R and C", number, r & R_C, (number & 1) * R_C)?;
            expect_completed("load", &context, 1)?;
            expect_at("loaded", number, context.gpr[4], pattern(number))
        } else {
            expect_dsi(&context, 0x4000_0000, self.mapping.ea + 8)
        }
    }

    /// Removes it by what this guest remembers.
    fn remove(&mut self, env: &Env, number: u64) -> Outcome {
        let index = self.index(env.hpt.order);
        let arguments = [flag::AVPN, index, self.mapping.avpn(), 0];
        let reply = hcall::call(REMOVE, arguments);
        let expected = if self.there {
            status::SUCCESS
        } else {
            status::NOT_FOUND
        };
        expect_at("H_REMOVE", number, reply.status, expected)?;
        self.there = false;
        expect_dsi(
            &mmu::load(self.mapping.ea + 8, DATA),
            0x4000_0000,
            self.mapping.ea + 8,
        )
    }
}

fn pattern(number: u64) -> u64 {
    0x5e51_2e00_0000_0000 | number
}

/// All mappings entered and used, so that processors have their translations.
fn in_use(env: &Env, bolted: impl Fn(u64) -> bool) -> Result<[Known; COUNT], Failure> {
    let mut all: [Known; COUNT] = core::array::from_fn(|number| Known::new(env, number as u64));
    env.segment(&all[0].mapping);
    for (number, known) in (0..).zip(&mut all) {
        if bolted(number) {
            known.v_bits |= V_BOLTED;
        }
        env.work.write((number << 12) + 8, pattern(number));
        known.enter(env)?;
        if number & 1 == 0 {
            expect_completed("load", &mmu::load(known.mapping.ea, DATA), 1)?;
        } else {
            let stored = mmu::store(known.mapping.ea, number, DATA);
            expect_completed("store", &stored, 1)?;
        }
    }
    Ok(all)
}

/// What a resize to `order` leaves: of two that meet the bolted one, else the one with the lower number.
fn after_resize(all: &mut [Known; COUNT], from: u32, order: u32) {
    let before = *all;
    for (number, known) in all.iter_mut().enumerate() {
        let loses = before.iter().enumerate().any(|(other, rival)| {
            let claim = |known: &Known| {
                let bolted = known.v_bits & V_BOLTED != 0;
                (!bolted, known.index(from))
            };
            other != number
                && rival.there
                && rival.index(order) == known.index(order)
                && claim(rival) < claim(known)
        });
        known.there &= !loses;
    }
}

fn compare_all(env: &Env, all: &[Known; COUNT]) -> Outcome {
    for (number, known) in (0..).zip(all) {
        known.compare(env, number)?;
    }
    Ok(())
}

fn remove_all(env: &Env, all: &mut [Known; COUNT]) -> Outcome {
    for (number, known) in (0..).zip(all) {
        known.remove(env, number)?;
    }
    cpu::clear_segments();
    expect("entries left", env.hpt.clear(), 0)
}

fn there(all: &[Known; COUNT]) -> u64 {
    all.iter().filter(|known| known.there).count() as u64
}

/// The sizes, from the smallest to the largest that the partition may have.
fn largest(env: &Env) -> u32 {
    let mut order = env.hpt.order;
    while prepare(order + 1).is_ok() {
        order += 1;
    }
    prepare_status(0);
    order
}

fn grow(env: &mut Env) -> Outcome {
    needs_it(env)?;
    let first = env.hpt.order;
    let largest = largest(env);
    let mut all = in_use(env, |_| false)?;
    for order in first + 1..=largest {
        resize(env, order)?;
        compare_all(env, &all)?;
    }
    // To the same size nothing moves.
    resize(env, largest)?;
    compare_all(env, &all)?;
    resize(env, first)?;
    compare_all(env, &all)?;
    require("mappings", "all", there(&all), |n| n == COUNT as u64)?;
    remove_all(env, &mut all)
}

fn up_and_down(env: &mut Env) -> Outcome {
    needs_it(env)?;
    let first = env.hpt.order;
    let largest = largest(env);
    let mut all = in_use(env, |_| false)?;
    let orders = [largest, first, SMALLEST, largest, SMALLEST, first];
    for order in orders {
        let from = env.hpt.order;
        resize(env, order)?;
        after_resize(&mut all, from, order);
        compare_all(env, &all)?;
    }
    // One of each pair is left.
    expect("mappings", there(&all), COUNT as u64 / 2)?;
    remove_all(env, &mut all)
}

fn two_bolted(env: &mut Env) -> Outcome {
    needs_it(env)?;
    let first = env.hpt.order;
    let mut all = in_use(env, |number| number >= COUNT as u64 / 2)?;
    // Each pair's second one is bolted and stays, wherever it is.
    resize(env, SMALLEST)?;
    after_resize(&mut all, first, SMALLEST);
    compare_all(env, &all)?;
    let (lower, upper) = all.split_at(COUNT / 2);
    expect(
        "not bolted",
        lower.iter().filter(|known| known.there).count() as u64,
        0,
    )?;
    expect(
        "bolted",
        upper.iter().filter(|known| known.there).count() as u64,
        COUNT as u64 / 2,
    )?;
    resize(env, first)?;
    compare_all(env, &all)?;
    // With the last pair's other one bolted too, the table stays as it is.
    if let Some(known) = all.get_mut(COUNT / 2 - 1) {
        known.v_bits |= V_BOLTED;
        known.enter(env)?;
        expect_completed("store", &mmu::store(known.mapping.ea, 1, DATA), 1)?;
    }
    prepare(SMALLEST)?;
    expect("COMMIT", commit_status(SMALLEST), status::PTEG_FULL)?;
    expect("the table is gone", commit_status(SMALLEST), status::CLOSED)?;
    compare_all(env, &all)?;
    remove_all(env, &mut all)
}
