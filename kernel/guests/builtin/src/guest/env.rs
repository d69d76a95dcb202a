// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What every check gets: the boot record, the page table, shared memory, and short forms.

use penstock_guest_rt::console::println;
use penstock_guest_rt::context::Context;
use penstock_guest_rt::cpu;
use penstock_guest_rt::hcall::{self, Reply};
use penstock_guest_rt::hpt::{Mapping, P4K, PageSize, R_M, SLB_KP, Segment};
use penstock_guest_rt::memory::Range;
use penstock_guest_rt::mmu::{self, Hpt};
use penstock_guest_rt::number::hcall::{CPPR, IPI, SET_MODE};
use penstock_guest_rt::number::{status, vector};
use penstock_guest_rt::start::Boot;
use penstock_guest_rt::suite::{Failure, Outcome, expect, expect_at, expect_interrupt};

/// Effective address of the 1T segment that checks use.
pub const EA: u64 = 0x0000_0500_0000_0000;
/// Its virtual segment.
pub const VSID: u64 = 0x12_3456;
/// Effective address of the 256M segment that checks use.
pub const EA_SMALL: u64 = 0x0000_0007_1000_0000;
/// Its virtual segment.
pub const VSID_SMALL: u64 = 0x6_5432;
/// A pattern that no zeroed or shifted memory shows by accident.
pub const PATTERN: u64 = 0x0123_4567_89ab_cdef;

/// See the module.
#[derive(Debug)]
pub struct Env {
    /// The boot record.
    pub boot: Boot,
    /// The page table.
    pub hpt: Hpt,
    /// Memory that every check may overwrite.
    pub work: Range,
    /// This processor's interrupt server number.
    pub server: u64,
    /// The second processor's, where there is one.
    pub second: Option<u64>,
}

impl Env {
    /// Collects what the checks need; `None` where the tree lacks it.
    pub fn new(boot: Boot) -> Option<Self> {
        let hpt = Hpt::find(&boot.fdt)?;
        let server = |place| {
            let node = mmu::nth_cpu_node(&boot.fdt, place)?;
            node.cell("ibm,ppc-interrupt-server#s")
                .or_else(|| node.cell("reg"))
                .map(u64::from)
        };
        let (server, second) = (server(0)?, server(1));
        let work = boot.memory.work();
        Some(Self {
            boot,
            hpt,
            work,
            server,
            second,
        })
    }

    /// Whether checks can use pages of this size.
    ///
    /// # Errors
    /// The check is skipped: the tree does not tell of such pages.
    pub fn need(&self, size: &PageSize) -> Outcome {
        if mmu::has_page_size(&self.boot.fdt, size) {
            Ok(())
        } else {
            Err(Failure::Skip("not in ibm,segment-page-sizes"))
        }
    }

    /// What follows `prefix` in the word of the command line that begins so.
    pub fn word_of(&self, prefix: &str) -> Option<&str> {
        let line = self.boot.fdt.node("/chosen")?.string("bootargs")?;
        line.split(' ').find_map(|word| word.strip_prefix(prefix))
    }

    /// The same as RTAS takes it.
    pub fn server_cell(&self) -> u32 {
        u32::try_from(self.server).unwrap_or(u32::MAX)
    }

    /// Removes what a failed check may have left: mappings, segments, modes, a pending IPI.
    pub fn tidy(&mut self) {
        hcall::call(SET_MODE, [0, 3, 0, 0]);
        hcall::call(SET_MODE, [1, 4, 0, 0]);
        hcall::call(IPI, [self.server, 0xff, 0, 0]);
        hcall::call(CPPR, [0, 0, 0, 0]);
        cpu::clear_segments();
        cpu::set_amr(0);
        penstock_guest_rt::context::install_vectors();
        let left = self.hpt.clear();
        if left != 0 {
            println!("builtin: removed {left} mappings that the failed check left");
        }
        super::xive::tidy(self);
    }

    /// A mapping of the page at `offset` of the work memory, in the 1T segment, readable and
    /// writable for everybody.
    pub fn mapping(&self, size: PageSize, offset: u64) -> Mapping {
        Mapping {
            ea: EA + offset,
            vsid: VSID,
            segment: Segment::T1,
            size,
            real: (self.work.base() + offset) & !((1 << size.actual) - 1),
            bits: R_M | 2,
        }
    }

    /// The same, small page and own protection bits.
    pub fn page(&self, offset: u64, bits: u64) -> Mapping {
        Mapping {
            bits: R_M | bits,
            ..self.mapping(P4K, offset)
        }
    }

    /// Enters a mapping.
    ///
    /// # Errors
    /// H_ENTER refused it.
    pub fn enter(&self, mapping: &Mapping) -> Result<u64, Failure> {
        self.hpt.enter(mapping).map_err(|status| Failure::Mismatch {
            what: "H_ENTER status",
            at: mapping.real,
            got: status,
            want: 0,
        })
    }

    /// Loads the segment of a mapping, problem state keyed.
    pub fn segment(&self, mapping: &Mapping) {
        cpu::set_segment(mapping.slb_vsid(SLB_KP), mapping.slb_esid(2));
    }

    /// Enters a mapping, and its segment.
    ///
    /// # Errors
    /// H_ENTER refused it.
    pub fn map(&self, mapping: &Mapping) -> Result<u64, Failure> {
        self.segment(mapping);
        self.enter(mapping)
    }

    /// Removes entries unconditionally.
    ///
    /// # Errors
    /// One is not there.
    pub fn unmap(&self, indexes: &[u64]) -> Outcome {
        cpu::clear_segments();
        for &index in indexes {
            expect_at(
                "H_REMOVE status",
                index,
                self.hpt.remove(index).status,
                status::SUCCESS,
            )?;
        }
        Ok(())
    }

    /// Both doublewords of an entry.
    ///
    /// # Errors
    /// H_READ refused.
    pub fn read_entry(&self, index: u64) -> Result<[u64; 2], Failure> {
        let Reply { status, values } = self.hpt.read(index);
        expect_at("H_READ status", index, status, status::SUCCESS)?;
        Ok([values[0], values[1]])
    }
}

/// A call of an hcall whose status is all that counts.
pub fn status_of(number: u64, arguments: [u64; 4]) -> u64 {
    hcall::call(number, arguments).status
}

/// Expects a data storage interrupt of a one-instruction access: address and cause, where, and the
/// interrupted MSR unchanged in SRR1.
///
/// # Errors
/// Anything differs.
pub fn expect_dsi(context: &Context, dsisr: u64, dar: u64) -> Outcome {
    expect_interrupt("interrupt", context, vector::DSI, context.pc)?;
    expect("DSISR", context.dsisr, dsisr)?;
    expect("DAR", context.dar, dar)?;
    expect("SRR1", context.srr1, context.msr)
}

/// Expects an instruction storage interrupt at the first instruction, with this cause in SRR1.
///
/// # Errors
/// Anything differs.
pub fn expect_isi(context: &Context, cause: u64) -> Outcome {
    expect_interrupt("interrupt", context, vector::ISI, context.pc)?;
    expect("SRR1", context.srr1, context.msr | cause)
}
