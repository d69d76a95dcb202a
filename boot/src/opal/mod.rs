// SPDX-License-Identifier: Apache-2.0 OR MIT
//! OPAL, the runtime services of skiboot.
//!
//! A call enters firmware in big-endian hypervisor real mode with interrupts off; firmware uses its
//! own stack per processor and keeps r1 and r13 to r31. What it writes to memory is big-endian, at
//! the width of the declared type. Any call may answer [`Status::BUSY`] or
//! [`Status::BUSY_EVENT`]: `call::retry` repeats it, a bounded number of times.

pub mod status;
pub mod token;

#[cfg(target_os = "none")]
pub mod call;
#[cfg(target_os = "none")]
pub mod console;
#[cfg(target_os = "none")]
pub mod platform;
#[cfg(target_os = "none")]
pub mod xive;

pub use status::Status;
pub use token::Token;
