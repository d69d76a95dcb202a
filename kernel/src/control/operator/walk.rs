// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `hpt check` and `hpt stats`: through the page table, entry by entry.

use super::{Progress, STEP_ENTRIES, Step};
use crate::control::target::Controlled;
use core::fmt::Write;
use penstock_mm::hpt::HptStats;

/// What is said at the end.
#[derive(Clone, Copy, Debug)]
enum Report {
    Check,
    Stats,
}

/// A walk through a page table.
#[derive(Debug)]
pub struct Walk {
    report: Report,
    next: u64,
    stats: HptStats,
}

impl Walk {
    /// `hpt check`.
    pub fn check() -> Self {
        Self {
            report: Report::Check,
            next: 0,
            stats: HptStats::default(),
        }
    }

    /// `hpt stats`.
    pub fn stats() -> Self {
        Self {
            report: Report::Stats,
            ..Self::check()
        }
    }

    pub(super) fn step<T: Controlled>(&mut self, target: &T, out: &mut dyn Write) -> Progress {
        let name = target.name();
        match target.check_hpt(self.next, STEP_ENTRIES, &mut self.stats) {
            Ok(Some(next)) => {
                self.next = next;
                return Ok(Step::Again);
            }
            Ok(None) => {}
            Err(violation) => {
                writeln!(out, "error: {name}: {violation}")?;
                return Ok(Step::Finished);
            }
        }
        let stats = &self.stats;
        let used = stats.valid + stats.absent;
        match self.report {
            Report::Check => {
                writeln!(out, "{name}: page table is sound ({used} entries in use)")?;
            }
            Report::Stats => {
                let [small, medium, large] = stats.by_size;
                for (what, count) in [
                    ("Entries", stats.entries),
                    ("In use", used),
                    ("Valid", stats.valid),
                    ("Absent", stats.absent),
                    ("Bolted", stats.bolted),
                    ("Pages of 4K", small),
                    ("Pages of 64K", medium),
                    ("Pages of 16M", large),
                ] {
                    let blanks = 15_usize.saturating_sub(what.len());
                    writeln!(out, "{what}:{:blanks$}{count}", "")?;
                }
            }
        }
        Ok(Step::Finished)
    }
}
