// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Thousands of page table calls and accesses in random order, against a naive model.
//!
//! The model knows, for each effective page, frame, protection, R and C, and the value of each
//! frame. Several pages may share a frame. R may be set without an access (Power ISA 3.0B, Book III,
//! Reference and Change Recording); C may not.

use super::env::Env;
use penstock_guest_rt::hcall::{self, Reply};
use penstock_guest_rt::hpt::{Mapping, P4K, P64K, PageSize, R_C, R_PP, R_PP0, R_R};
use penstock_guest_rt::mmu::{self, DATA};
use penstock_guest_rt::number::hcall::{CLEAR_MOD, CLEAR_REF, PROTECT, REMOVE};
use penstock_guest_rt::number::{flag, status, vector};
use penstock_guest_rt::suite::{
    Check, Outcome, expect, expect_at, expect_completed, expect_interrupt,
};

/// The checks of this file.
pub const CHECKS: &[Check<Env>] = &[
    Check {
        name: "random-calls-agree-with-a-model-4k",
        run: |env| random(env, P4K, 0x9e37_79b9_7f4a_7c15),
    },
    Check {
        name: "random-calls-agree-with-a-model-64k",
        run: |env| random(env, P64K, 0xd1b5_4a32_d192_ed03),
    },
];

const STEPS: u64 = 4000;
const PAGES: usize = 24;
const FRAMES: usize = 10;

/// A page that is mapped.
#[derive(Clone, Copy)]
struct Page {
    index: u64,
    frame: usize,
    protection: u64,
    referenced: bool,
    changed: bool,
}

impl Page {
    /// To privileged code in a segment whose key is clear, pp = 11 and pp = 110 are read-only.
    fn is_read_only(&self) -> bool {
        self.protection == 3 || self.protection == R_PP0 | 2
    }
}

struct Model<'a> {
    env: &'a Env,
    size: PageSize,
    pages: [Option<Page>; PAGES],
    values: [u64; FRAMES],
    state: u64,
}

impl Model<'_> {
    /// xorshift64.
    fn draw(&mut self, below: usize) -> usize {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        usize::try_from(self.state >> 20).unwrap_or(0) % below
    }

    fn draw_protection(&mut self) -> u64 {
        [0, 2, 3, R_PP0 | 2][self.draw(4)]
    }

    fn frame_offset(&self, frame: usize) -> u64 {
        (frame as u64) << self.size.actual
    }

    fn mapping(&self, number: usize, frame: usize, protection: u64) -> Mapping {
        let base = self.env.mapping(self.size, 0);
        Mapping {
            ea: base.ea + ((number as u64) << self.size.actual),
            real: self.env.work.base() + self.frame_offset(frame),
            bits: base.bits & !R_PP | protection,
            ..base
        }
    }

    /// Compares doubleword 1 of an entry with what the model knows.
    fn compare(&self, number: usize, page: &Page, r: u64) -> Outcome {
        let want = self.mapping(number, page.frame, page.protection).r();
        expect_at("R but for R and C", number as u64, r & !(R_R | R_C), want)?;
        expect_at(
            "C",
            number as u64,
            r & R_C,
            if page.changed { R_C } else { 0 },
        )?;
        let must = if page.referenced { R_R } else { 0 };
        expect_at("R", number as u64, r & must, must)
    }

    fn enter(&mut self, number: usize) -> Outcome {
        let frame = self.draw(FRAMES);
        let protection = self.draw_protection();
        let index = self.env.enter(&self.mapping(number, frame, protection))?;
        let page = Page {
            index,
            frame,
            protection,
            referenced: false,
            changed: false,
        };
        self.pages[number] = Some(page);
        Ok(())
    }

    fn remove(&mut self, number: usize, page: &Page) -> Outcome {
        let mapping = self.mapping(number, page.frame, page.protection);
        let reply = hcall::call(REMOVE, [flag::AVPN, page.index, mapping.avpn(), 0]);
        expect_at("H_REMOVE", number as u64, reply.status, status::SUCCESS)?;
        expect_at("removed V", number as u64, reply.values[0], mapping.v())?;
        self.pages[number] = None;
        self.compare(number, page, reply.values[1])
    }

    fn protect(&mut self, number: usize, mut page: Page) -> Outcome {
        page.protection = self.draw_protection();
        page.referenced = false;
        // Flags: pp bits 1 and 2 lowest, pp0 at 0x100.
        let flags = page.protection & R_PP | page.protection >> 55 & 0x100;
        let avpn = self.mapping(number, page.frame, page.protection).avpn();
        let Reply { status, .. } = hcall::call(PROTECT, [flag::AVPN | flags, page.index, avpn, 0]);
        expect_at("H_PROTECT", number as u64, status, status::SUCCESS)?;
        self.pages[number] = Some(page);
        Ok(())
    }

    fn clear(&mut self, number: usize, mut page: Page, call: u64) -> Outcome {
        let reply = hcall::call(call, [0, page.index, 0, 0]);
        expect_at("H_CLEAR", number as u64, reply.status, status::SUCCESS)?;
        self.compare(number, &page, reply.values[0])?;
        if call == CLEAR_REF {
            page.referenced = false;
        } else {
            page.changed = false;
        }
        self.pages[number] = Some(page);
        Ok(())
    }

    fn load(&mut self, number: usize) -> Outcome {
        let context = mmu::load(self.mapping(number, 0, 0).ea + 0x10, DATA);
        let Some(page) = &mut self.pages[number] else {
            expect_interrupt("load of nothing", &context, vector::DSI, context.pc)?;
            return expect("DSISR", context.dsisr, 0x4000_0000);
        };
        page.referenced = true;
        let value = self.values[page.frame];
        expect_completed("load", &context, 1)?;
        expect_at("loaded", number as u64, context.gpr[4], value)
    }

    fn store(&mut self, number: usize, value: u64) -> Outcome {
        let context = mmu::store(self.mapping(number, 0, 0).ea + 0x10, value, DATA);
        let dsisr = match &mut self.pages[number] {
            None => 0x4200_0000,
            Some(page) if page.is_read_only() => 0x0a00_0000,
            Some(page) => {
                page.referenced = true;
                page.changed = true;
                self.values[page.frame] = value;
                return expect_completed("store", &context, 1);
            }
        };
        expect_interrupt("store", &context, vector::DSI, context.pc)?;
        expect_at("DSISR", number as u64, context.dsisr, dsisr)
    }

    fn step(&mut self, step: u64) -> Outcome {
        let number = self.draw(PAGES);
        let operation = self.draw(10);
        match (operation, self.pages[number]) {
            (0..=2, None) => self.enter(number),
            (0, Some(page)) => self.remove(number, &page),
            (1, Some(page)) => self.protect(number, page),
            (2, Some(page)) => self.clear(number, page, CLEAR_REF),
            (3, Some(page)) => self.clear(number, page, CLEAR_MOD),
            (4, Some(page)) => {
                let [v, r] = self.env.read_entry(page.index)?;
                expect("V", v, self.mapping(number, page.frame, 0).v())?;
                self.compare(number, &page, r)
            }
            (5 | 6, _) => self.store(number, step << 32 | number as u64),
            _ => self.load(number),
        }
    }
}

fn random(env: &mut Env, size: PageSize, seed: u64) -> Outcome {
    env.need(&size)?;
    let mut model = Model {
        env,
        size,
        pages: [None; PAGES],
        values: [0; 10],
        state: seed,
    };
    for frame in 0..FRAMES {
        env.work.write(model.frame_offset(frame) + 0x10, 0);
    }
    env.segment(&model.mapping(0, 0, 0));
    for step in 0..STEPS {
        model.step(step)?;
    }
    for number in 0..PAGES {
        if let Some(page) = model.pages[number] {
            model.remove(number, &page)?;
        }
    }
    for (frame, value) in model.values.into_iter().enumerate() {
        expect_at(
            "frame",
            frame as u64,
            env.work.read(model.frame_offset(frame) + 0x10),
            value,
        )?;
    }
    env.unmap(&[])
}
