// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The argument call buffer: token, two counts, input cells, output cells.
//!
//! The guest chooses both counts. They are compared with fixed limits before they enter any
//! address or index, the input cells are copied once into a fixed array, and the output cells are
//! known to be writable before a function has any effect. (The KVM bug CVE-2021-37576 was a count
//! used unchecked.)
//!
//! LoPAR, Calling Mechanism and Conventions: RTAS is instantiated in 32-bit mode, so every cell is
//! a big-endian word.

use super::memory::{GuestBytes, MemoryFault};
use penstock_arch::addr::GuestReal;

/// Most cells, inputs and outputs together, that any caller has room for.
pub const MAX_CELLS: usize = 16;
/// Most output cells of any function.
pub const MAX_RETURNS: usize = 8;
/// Token and the two counts.
const HEADER_CELLS: u64 = 3;

/// A block that cannot be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockError {
    /// The block is not aligned to a cell.
    Unaligned,
    /// Some cell of the block is not guest memory.
    Memory(MemoryFault),
    /// More input cells than any function has: where the outputs are is not known.
    TooManyInputs(u32),
    /// More output cells than fit; the status cell, at the address given, is there.
    TooManyOutputs(GuestReal),
    /// No room for a status.
    NoStatus,
}

impl From<MemoryFault> for BlockError {
    fn from(fault: MemoryFault) -> Self {
        Self::Memory(fault)
    }
}

/// A call as copied from guest memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RtasCall {
    /// Which function is called.
    pub token: u32,
    nargs: u8,
    nret: u8,
    args: [u32; MAX_CELLS],
    returns_at: GuestReal,
}

impl RtasCall {
    /// Copies the block at `at` and checks that its output cells can be written.
    ///
    /// # Errors
    /// See [`BlockError`]; nothing was written.
    pub fn read<M: GuestBytes>(at: GuestReal, memory: &mut M) -> Result<Self, BlockError> {
        if !at.is_aligned(4) {
            return Err(BlockError::Unaligned);
        }
        let mut header = [0; 12];
        memory.read(at, &mut header)?;
        let [token, nargs, nret] = words(&header);
        // Checked here, before either count is used for anything.
        let args_len = match usize::try_from(nargs) {
            Ok(count) if count <= MAX_CELLS => count,
            _ => return Err(BlockError::TooManyInputs(nargs)),
        };
        let fault = BlockError::Memory(MemoryFault { at });
        let args_at = at.checked_add(4 * HEADER_CELLS).ok_or(fault)?;
        let returns_at = args_at.checked_add(4 * u64::from(nargs)).ok_or(fault)?;
        let returns_len = match usize::try_from(nret) {
            Ok(0) => return Err(BlockError::NoStatus),
            Ok(count) if count <= MAX_CELLS - args_len => count,
            _ => return Err(BlockError::TooManyOutputs(returns_at)),
        };
        let mut bytes = [0; 4 * MAX_CELLS];
        if let Some(bytes) = bytes.get_mut(..4 * args_len) {
            memory.read(args_at, bytes)?;
        }
        memory.check(returns_at, 4 * u64::from(nret))?;
        Ok(Self {
            token,
            nargs: u8::try_from(args_len).unwrap_or(0),
            nret: u8::try_from(returns_len).unwrap_or(0),
            args: words(&bytes),
            returns_at,
        })
    }

    /// Whether the guest gave exactly these numbers of input and output cells.
    #[must_use]
    pub fn has_shape(&self, nargs: u8, nret: u8) -> bool {
        self.nargs == nargs && self.nret == nret
    }

    /// The first `N` input cells. The caller compared the shape; cells not given are 0.
    #[must_use]
    pub fn inputs<const N: usize>(&self) -> [u32; N] {
        const { assert!(N <= MAX_CELLS) };
        let mut inputs = [0; N];
        for (to, from) in inputs.iter_mut().zip(self.args) {
            *to = from;
        }
        inputs
    }

    /// Stores the first `cells` of `returns`, but never more than the guest has room for.
    ///
    /// # Errors
    /// The memory went away since the block was read.
    pub fn answer<M: GuestBytes>(
        &self,
        returns: &Returns,
        memory: &mut M,
    ) -> Result<(), MemoryFault> {
        let cells = usize::from(self.nret).min(returns.len);
        let mut bytes = [0; 4 * MAX_RETURNS];
        for (to, from) in bytes.chunks_exact_mut(4).zip(returns.cells) {
            to.copy_from_slice(&from.to_be_bytes());
        }
        memory.write(self.returns_at, bytes.get(..4 * cells).unwrap_or(&[]))
    }
}

/// Output cells of a function: the status and what follows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Returns {
    cells: [u32; MAX_RETURNS],
    len: usize,
}

impl Returns {
    /// Only a status word.
    #[must_use]
    pub fn status(status: i32) -> Self {
        Self::with(status, [])
    }

    /// A status word and further cells.
    #[must_use]
    pub fn with<const N: usize>(status: i32, values: [u32; N]) -> Self {
        const { assert!(N < MAX_RETURNS) };
        let mut cells = [0; MAX_RETURNS];
        for (to, from) in cells
            .iter_mut()
            .zip(core::iter::once(status.cast_unsigned()).chain(values))
        {
            *to = from;
        }
        Self { cells, len: 1 + N }
    }
}

fn words<const N: usize>(bytes: &[u8]) -> [u32; N] {
    let mut words = [0; N];
    for (word, cell) in words.iter_mut().zip(bytes.chunks_exact(4)) {
        if let Ok(cell) = cell.try_into() {
            *word = u32::from_be_bytes(cell);
        }
    }
    words
}
