// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The monitor: a prompt on the serial line, with virsh's verbs.
//!
//! Independent parts: a line editor, a parser of commands, what completes their words, and tables made
//! from plain data.
//! What a command does is the caller's. Input is the operator's or a script's and may be any
//! bytes: none panics, and a line has a fixed greatest length.

pub mod command;
pub mod completion;
pub mod editor;
pub mod irqs;
pub mod places;
pub mod report;
pub mod stats;

pub use command::{
    Command, CommandError, DirtyCommand, HptCommand, TraceCommand, Trouble, write_help,
};
pub use completion::Completion;
pub use editor::{Edit, LineEditor, PROMPT};
pub use irqs::{IrqTotals, write_irq_totals};
pub use places::VcpuRow;
pub use report::{
    Count, MemoryRow, PartitionInfo, PartitionRow, PoolPart, PoolRow, write_info, write_list,
    write_memmap,
};
pub use stats::{PartitionStats, StatsRow, ThreadRow, write_partition_stats, write_stats};
