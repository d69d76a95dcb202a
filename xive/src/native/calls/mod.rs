// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The eleven calls (LoPAR, H_INT_GET_SOURCE_INFO to H_INT_RESET).
//!
//! Each checks in LoPAR's order: reserved flags (H_PARAMETER), a reset in progress (H_STATE), then
//! its arguments. Where LoPAR's text leaves something open:
//!
//! - an EISN that does not fit the 31 bits of a queue's entry is H_P5, rather than cut;
//! - a queue that is not aligned to its size, as the hardware wants it, is H_P4;
//! - a reporting line is aligned to its pair of cache lines, 256 bytes, or it is H_P2;
//! - H_INT_SET_QUEUE_CONFIG without unconditional notification, on a machine that has no
//!   notification page, is H_PARAMETER;
//! - a source that H_INT_SET_SOURCE_CONFIG masks by flag keeps its target, and
//!   H_INT_GET_SOURCE_CONFIG tells it.

mod esb;
mod line;
mod queue;
mod reset;
mod source;

pub(super) use line::LINE_BYTES;
pub use queue::{QueueConfig, QueueInfo};
pub use source::{SourceConfig, SourceFlags, SourceInfo};

use crate::error::HcallError;

/// H_PARAMETER where a flag is set that the call does not define.
const fn check_flags(flags: u64, defined: u64) -> Result<(), HcallError> {
    if flags & !defined != 0 {
        return Err(HcallError::Parameter);
    }
    Ok(())
}

/// A bit as LoPAR numbers it, from the left.
const fn bit(number: u32) -> u64 {
    1 << (63 - number)
}
