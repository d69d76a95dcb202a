// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Policy: what partitions are, how their guests are started and what they may ask.
//!
//! Everything but `machine` builds and is tested on the host. The library allocates while
//! partitions are made, and never panics on what a guest, a file or a stream contains.
#![no_std]

extern crate alloc;

pub mod backlog;
pub mod bootargs;
pub mod config;
pub mod console;
pub mod control;
pub mod exit;
pub mod exit_times;
pub mod guest_dt;
pub mod hcall;
pub mod image;
pub mod inject;
pub mod irqs;
pub mod lifecycle;
pub mod monitor;
pub mod occupied;
pub mod partition;
pub mod platform;
pub mod post_mortem;
pub mod presentation;
pub mod processor;
pub mod rtas;
pub mod rtas_memory;
pub mod schedule;
pub mod screen;
pub mod smp;
pub mod trace;
pub mod vcpu;
pub mod vpa;

#[cfg(any(test, feature = "fake"))]
pub mod fuzzing;
#[cfg(any(test, feature = "fake"))]
#[cfg_attr(
    not(test),
    expect(dead_code, reason = "fuzz targets need only some of it")
)]
pub(crate) mod testing;

#[cfg(target_os = "none")]
pub mod machine;
