// SPDX-License-Identifier: Apache-2.0 OR MIT
//! RTAS calls, through the tree's entry point or, without one, through H_RTAS.
//!
//! RTAS is called in 32-bit real mode, big-endian, with r3 = a block of big-endian words: token,
//! number of arguments, number of results, arguments, results (LoPAR, RTAS Environment).

use crate::context::{self, Context};
use crate::cpu;
use crate::fdt::Fdt;
use crate::hcall;
use crate::insn::{self, Program};
use crate::number::{hcall::RTAS, msr, vector};
use core::sync::atomic::{AtomicU32, Ordering};

/// How many words an argument block may have.
pub const BLOCK_WORDS: usize = 64;

type Block = [AtomicU32; BLOCK_WORDS];

static BLOCKS: [Block; cpu::PROCESSORS] =
    [const { [const { AtomicU32::new(0) }; BLOCK_WORDS] }; cpu::PROCESSORS];

/// The block of this processor.
fn block() -> &'static Block {
    &BLOCKS[cpu::number()]
}

/// The way to RTAS of this partition.
#[derive(Clone, Copy, Debug)]
pub struct Rtas {
    entry: Option<(u32, u32)>,
    fdt: Fdt<'static>,
}

/// What happened to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The call came back; the first word is the status.
    Returned([u32; 8]),
    /// It ended in this interrupt instead.
    Interrupted {
        /// The vector.
        vector: u64,
        /// Where.
        srr0: u64,
    },
}

impl Rtas {
    /// Reads the entry point from the tree.
    #[must_use]
    pub fn find(fdt: &Fdt<'static>) -> Self {
        let node = fdt.node("/rtas");
        let entry = node.and_then(|node| {
            let base = node.cell("linux,rtas-base")?;
            Some((base, node.cell("linux,rtas-entry").unwrap_or(base)))
        });
        Self { entry, fdt: *fdt }
    }

    /// The token of a service.
    #[must_use]
    pub fn token(&self, service: &str) -> Option<u32> {
        self.fdt.node("/rtas")?.cell(service)
    }

    /// Whether calls go through the entry point.
    #[must_use]
    pub fn has_entry(&self) -> bool {
        self.entry.is_some()
    }

    /// Calls a service with its arguments and room for `results` results (at most 8).
    #[must_use]
    pub fn call(&self, token: u32, arguments: &[u32], results: u32) -> Outcome {
        let count = u32::try_from(arguments.len()).unwrap_or(u32::MAX);
        self.call_with_counts(token, count, results, arguments)
    }

    /// Calls a service with counts that may be wrong.
    #[must_use]
    pub fn call_with_counts(
        &self,
        token: u32,
        argument_count: u32,
        result_count: u32,
        arguments: &[u32],
    ) -> Outcome {
        let head = [token, argument_count, result_count];
        let words = head.into_iter().chain(arguments.iter().copied());
        for (slot, word) in block()
            .iter()
            .zip(words.chain(core::iter::repeat(0x5a5a_5a5a)))
        {
            slot.store(word.to_be(), Ordering::Relaxed);
        }
        if let Err(interrupted) = self.enter() {
            return interrupted;
        }
        let mut results = [0; 8];
        let first = 3 + arguments.len();
        for (result, slot) in results.iter_mut().zip(block().iter().skip(first)) {
            *result = u32::from_be(slot.load(Ordering::Relaxed));
        }
        Outcome::Returned(results)
    }

    fn enter(&self) -> Result<(), Outcome> {
        let block = block().as_ptr().addr() as u64;
        let Some((base, entry)) = self.entry else {
            hcall::call(RTAS, [block, 0, 0, 0]);
            return Ok(());
        };
        // RTAS returns to big-endian code: a trap there ends the excursion.
        let landing = context::place(&Program::new().word(insn::trap().swap_bytes()));
        let mut context = Context::new(u64::from(entry), msr::ME | msr::RI);
        context.gpr[3] = block;
        context.gpr[4] = u64::from(base);
        context.lr = landing;
        context.run();
        if context.vector == vector::PROGRAM && context.srr0 == landing {
            Ok(())
        } else {
            Err(Outcome::Interrupted {
                vector: context.vector,
                srr0: context.srr0,
            })
        }
    }

    /// Turns the partition off; comes back only when that does not work.
    pub fn power_off(&self) {
        if let Some(token) = self.token("power-off") {
            let _ = self.call(token, &[u32::MAX, u32::MAX], 1);
        }
    }
}
