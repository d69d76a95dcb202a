// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The framebuffer, where the tree has one: what the node says, and pictures for whoever looks.
//!
//! The pages are mapped as Linux maps them: cache-inhibited and guarded (`ioremap`), or without the
//! guard (`ioremap_wc`). A picture of eight bars is drawn by large pages, then eight rows of it
//! change by small ones, so that few other rows are in the pages that changed. After each the
//! console says so, and a key, or ten seconds, lead on: time to take a screenshot.

use super::env::{EA, Env, VSID};
use penstock_guest_rt::clock;
use penstock_guest_rt::console::{self, println};
use penstock_guest_rt::context::{Context, place};
use penstock_guest_rt::cpu;
use penstock_guest_rt::fdt::{Node, doubleword};
use penstock_guest_rt::hcall;
use penstock_guest_rt::hpt::{Mapping, P4K, P64K, PageSize, R_G, R_I, SLB_KP, Segment};
use penstock_guest_rt::insn::Program;
use penstock_guest_rt::mmu::{self, DATA};
use penstock_guest_rt::number::hcall::GET_TERM_CHAR;
use penstock_guest_rt::suite::{
    Check, Failure, Outcome, expect, expect_at, expect_completed, require,
};

/// The checks of this file.
pub const CHECKS: &[Check<Env>] = &[
    Check {
        name: "framebuffer-node",
        run: node,
    },
    Check {
        name: "framebuffer-starts-black",
        run: starts_black,
    },
    Check {
        name: "framebuffer-keeps-a-picture",
        run: picture,
    },
    Check {
        name: "framebuffer-keeps-changed-rows",
        run: changed_rows,
    },
];

/// How long the console shows that something was drawn, unless a key is pressed.
const PATIENCE: u64 = 10 * clock::FREQUENCY;

/// Rows that change after the first picture.
const CHANGED_ROWS: u64 = 8;

/// White, yellow, cyan, green, magenta, red, blue, black: a pixel of each, by depth.
const BARS: [[u32; 3]; 8] = [
    [15, 0xffff, 0x00ff_ffff],
    [14, 0xffe0, 0x00ff_ff00],
    [11, 0x07ff, 0x0000_ffff],
    [10, 0x07e0, 0x0000_ff00],
    [13, 0xf81f, 0x00ff_00ff],
    [12, 0xf800, 0x00ff_0000],
    [9, 0x001f, 0x0000_00ff],
    [0, 0x0000, 0x0000_0000],
];

/// Orange, likewise.
const ORANGE: [u32; 3] = [6, 0xfc00, 0x00ff_8000];

/// The framebuffer as the tree describes it.
struct Screen {
    base: u64,
    bytes: u64,
    width: u64,
    height: u64,
    depth: u64,
    stride: u64,
}

impl Screen {
    fn find(env: &Env) -> Result<(Self, Node<'static>), Failure> {
        let root = env.boot.fdt.root();
        let node = root.and_then(|root| {
            root.children()
                .find(|node| node.string("device_type") == Some("display"))
        });
        let node = node.ok_or(Failure::Skip("the partition has no framebuffer"))?;
        let cell = |name| node.cell(name).map_or(0, u64::from);
        let reg = node.property("reg").unwrap_or(&[]);
        let screen = Self {
            base: doubleword(reg, 0).unwrap_or(0),
            bytes: doubleword(reg, 8).unwrap_or(0),
            width: cell("width"),
            height: cell("height"),
            depth: cell("depth"),
            stride: cell("linebytes"),
        };
        Ok((screen, node))
    }

    /// A colour of the tables above, as a doubleword full of its pixels.
    fn colour(&self, by_depth: [u32; 3]) -> u64 {
        let [byte, half, word] = by_depth.map(u64::from);
        match self.depth {
            8 => byte * 0x0101_0101_0101_0101,
            16 => half * 0x0001_0001_0001_0001,
            _ => word * 0x0000_0001_0000_0001,
        }
    }

    fn mappings(&self, size: PageSize, bits: u64) -> impl Iterator<Item = Mapping> + use<> {
        let base = self.base;
        (0..self.bytes)
            .step_by(1 << size.actual)
            .map(move |offset| Mapping {
                ea: EA + offset,
                vsid: VSID,
                segment: Segment::T1,
                size,
                real: base + offset,
                bits: R_I | bits | 2,
            })
    }

    /// Runs `inside` with the framebuffer at [`EA`], in pages of this size where the tree has
    /// them, cache-inhibited and with these other bits.
    fn with_mapping(
        &self,
        env: &Env,
        size: PageSize,
        bits: u64,
        inside: impl FnOnce(&Self) -> Outcome,
    ) -> Outcome {
        let size = if mmu::has_page_size(&env.boot.fdt, &size) {
            size
        } else {
            P4K
        };
        for mapping in self.mappings(size, bits) {
            env.enter(&mapping)?;
        }
        if let Some(first) = self.mappings(size, bits).next() {
            cpu::set_segment(first.slb_vsid(SLB_KP), first.slb_esid(2));
        }
        let outcome = inside(self);
        cpu::clear_segments();
        for mapping in self.mappings(size, bits) {
            let removed = env.hpt.remove_mapping(&mapping);
            if outcome.is_ok() {
                expect_at("page removed", mapping.ea, u64::from(removed), 1)?;
            }
        }
        outcome
    }

    /// Stores a doubleword again and again, from this byte of the framebuffer on.
    fn fill(&self, offset: u64, doublewords: u64, value: u64) -> Outcome {
        let program = Program::new().mtctr(5).std(4, 3, 0).addi(3, 3, 8).bdnz(-2);
        let mut context = Context::new(place(&program), DATA)
            .with_gpr(3, EA + offset)
            .with_gpr(4, value)
            .with_gpr(5, doublewords);
        context.run();
        expect_completed("stores", &context, 4)
    }

    fn expect(&self, offset: u64, value: u64) -> Outcome {
        let context = mmu::load(EA + offset, DATA);
        expect_completed("load", &context, 1)?;
        expect_at("pixels", offset, context.gpr[4], value)
    }

    /// First doubleword and length of a bar in its row; the last one reaches to the row's end.
    fn bar(&self, index: u64) -> (u64, u64) {
        let row = self.stride / 8;
        let length = row / 8;
        let first = index * length;
        (first, if index == 7 { row - first } else { length })
    }

    fn draw_bars(&self, rows: core::ops::Range<u64>) -> Outcome {
        for row in rows {
            for (index, bar) in (0..).zip(BARS) {
                let (first, length) = self.bar(index);
                self.fill(row * self.stride + 8 * first, length, self.colour(bar))?;
            }
        }
        Ok(())
    }

    fn expect_bars(&self, row: u64) -> Outcome {
        for (index, bar) in (0..).zip(BARS) {
            let (first, length) = self.bar(index);
            let start = row * self.stride + 8 * first;
            self.expect(start, self.colour(bar))?;
            self.expect(start + 8 * (length - 1), self.colour(bar))?;
        }
        Ok(())
    }

    fn changed_rows(&self) -> core::ops::Range<u64> {
        let middle = self.height / 2;
        middle..middle + CHANGED_ROWS
    }
}

/// Tells that there is something to see, and waits for a key, or for [`PATIENCE`].
fn show(what: &str) {
    println!("builtin: framebuffer: {what}; a key leads on");
    let key = || hcall::call(GET_TERM_CHAR, [console::terminal(), 0, 0, 0]).values[0] != 0;
    clock::wait_until(PATIENCE, key);
}

fn node(env: &mut Env) -> Outcome {
    let (screen, node) = Screen::find(env)?;
    for name in ["linux,opened", "linux,boot-display", "little-endian"] {
        require(name, "there", 0, |_| node.property(name).is_some())?;
    }
    for (what, side) in [("width", screen.width), ("height", screen.height)] {
        require(what, "64 to 4096", side, |side| (64..=4096).contains(&side))?;
    }
    require("depth", "8, 16 or 32", screen.depth, |depth| {
        matches!(depth, 8 | 16 | 32)
    })?;
    require("linebytes", "a whole row", screen.stride, |stride| {
        stride.is_multiple_of(8) && stride >= screen.width * screen.depth / 8
    })?;
    require("size", "all rows, in 64K", screen.bytes, |bytes| {
        bytes.is_multiple_of(1 << 16) && bytes >= screen.height * screen.stride
    })?;
    expect("base within 64K", screen.base & 0xffff, 0)?;
    require("base", "outside memory", screen.base, |base| {
        base >= env.boot.memory.end()
    })
}

fn starts_black(env: &mut Env) -> Outcome {
    let (screen, _) = Screen::find(env)?;
    screen.with_mapping(env, P64K, R_G, |screen| {
        for row in 0..screen.height {
            screen.expect(row * screen.stride, 0)?;
            screen.expect((row + 1) * screen.stride - 8, 0)?;
        }
        Ok(())
    })
}

fn picture(env: &mut Env) -> Outcome {
    let (screen, _) = Screen::find(env)?;
    screen.with_mapping(env, P64K, R_G, |screen| {
        screen.draw_bars(0..screen.height)?;
        screen.expect_bars(0)?;
        screen.expect_bars(screen.height - 1)
    })?;
    // The picture stays when no entry maps it, and other attributes show the same.
    screen.with_mapping(env, P4K, 0, |screen| screen.expect_bars(screen.height / 3))?;
    show("eight bars");
    Ok(())
}

fn changed_rows(env: &mut Env) -> Outcome {
    let (screen, _) = Screen::find(env)?;
    let (row, changed) = (screen.stride / 8, screen.changed_rows());
    let orange = screen.colour(ORANGE);
    screen.with_mapping(env, P4K, 0, |screen| {
        for y in changed.clone() {
            screen.fill(y * screen.stride, row, orange)?;
        }
        for y in changed.clone() {
            screen.expect(y * screen.stride + 8 * (row / 2), orange)?;
        }
        screen.expect_bars(changed.start - 1)?;
        screen.expect_bars(changed.end)
    })?;
    show("eight rows in orange");
    Ok(())
}
