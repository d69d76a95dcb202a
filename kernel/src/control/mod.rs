// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The control interface: how a tool looks at another partition, and changes it.

pub mod error;
pub mod function;
pub mod records;

pub use error::ControlError;
