// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The POWER9 and POWER10 interrupt controller, and how partitions use it.
//!
//! XIVE has three parts. A *source* holds two bits per interrupt, P and Q, behind a pair of MMIO
//! pages ([`esb`]). The *router* finds an entry for the source (EAS) that names an event queue and
//! 31 bits of data, appends those data to the queue in memory (END, [`queue`]) and tells the
//! virtual processor (NVT, [`vp`]) that its queue of that priority has something. The *presenter*
//! raises the processor's line when the priority beats the one it works at; software sees that part
//! as four rings of registers per hardware thread ([`tima`]).
//!
//! Tables belong to firmware and are changed by OPAL calls ([`fw`]); triggers, ends of interrupts
//! and the rings are plain MMIO. This crate never does either by itself: the kernel gives it the
//! [`fw::XiveFirmware`], [`fw::XiveMmio`] and [`queue::QueueMemory`] of the machine, the host tests
//! give it `fake::FakeXive`, a model of the hardware.
//!
//! A partition that asks for XICS gets it from [`presenter::Presenter`], one per vCPU, and
//! [`source::Sources`]: the LoPAR calls act on the OS ring of the thread that runs the vCPU, so the
//! hardware alone decides when the guest is interrupted and nothing is ever injected by hand.
//!
//! Sources: OPAL API, `OPAL_XIVE_*` calls; LoPAR, Interrupt Controller and Hypervisor Call
//! Functions; Power ISA 3.0B, Book III, Interrupts.
#![no_std]

#[cfg(any(test, feature = "fake"))]
extern crate std;

pub mod error;
pub mod esb;
#[cfg(any(test, feature = "fake"))]
pub mod fake;
pub mod fw;
pub mod host;
pub mod ids;
pub mod native;
pub mod presenter;
pub mod priority;
pub mod queue;
pub mod source;
pub mod tima;
pub mod view;
pub mod vp;

pub use error::{HcallError, RtasError, SetupError};
pub use fw::{FirmwareError, XiveFirmware, XiveMmio, enable};
pub use host::HostInterrupt;
pub use ids::{ChipId, Eisn, Girq, Lisn, ServerNumber, VpId};
pub use presenter::{Poll, Presenter, PresenterSetup, Servers, StampedXirr, Xirr};
pub use priority::{Cppr, LEVELS, Priority, XicsPriority};
pub use queue::QueueMemory;
pub use source::{Level, Source, Sources, Trigger, Xive};
pub use tima::Tima;
pub use vp::VpBlock;
