// SPDX-License-Identifier: Apache-2.0 OR MIT
#![doc = include_str!("interface.md")]

pub mod error;
pub mod function;
pub mod invalidation;
pub mod operator;
pub mod partition;
pub mod records;
mod registers;
mod serve;
pub mod session;
pub mod target;

#[cfg(any(test, feature = "fake"))]
#[expect(
    clippy::cast_possible_truncation,
    reason = "what a fake has is small, and a test that is wrong may panic"
)]
pub mod fake;

#[cfg(any(test, feature = "fake"))]
pub mod fuzzing;

#[cfg(test)]
mod tests;

pub use error::ControlError;
pub use partition::Streams;
pub use serve::{
    Call, Caller, ControlPort, DONE, Done, ENTRIES_PER_CALL, MAX_ABSENT_ENTRIES, MAX_BUFFER_BYTES,
    Reply, WRITER, ask, ask_in, counts, open_flags, serve,
};
pub use session::{Holder, Session};
pub use target::{Controlled, Directory};
