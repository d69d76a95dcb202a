// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the guest-facing code needs of the machine, so that it also runs on a host.
//!
//! All of it is static: a platform is a type, chosen once where the hypervisor is put together.
//! On the machine it is `machine::Hardware`, in tests a recording stand-in.

use crate::console::GuestId;
use crate::trace::Kind;
use penstock_arch::hash::{Lpid, Pate};
use penstock_arch::regs::{Lpcr, Processor};
use penstock_xive::{QueueMemory, XiveFirmware, XiveMmio};

/// The registers that describe a hypervisor storage interrupt.
#[derive(Clone, Copy, Debug)]
pub struct StorageFaultRegisters {
    /// HDAR: the data address; meaningless for a fetch.
    pub hdar: u64,
    /// HDSISR: the cause; meaningless for a fetch.
    pub hdsisr: u64,
    /// ASDR: the segment's VSID doubleword.
    pub asdr: u64,
}

pub use penstock_arch::regs::HDSISR_CANARY;

/// A register of the running guest that stays in the machine across exits, and that an hcall or an
/// interrupt changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuestRegister {
    /// Save/restore register 0.
    Srr0,
    /// Save/restore register 1.
    Srr1,
    /// Data address register.
    Dar,
    /// Data storage interrupt status register.
    Dsisr,
    /// Software-use register 0.
    Sprg0,
    /// Completed instruction address breakpoint.
    Ciabr,
    /// Data address watchpoint.
    Dawr0,
    /// Data address watchpoint's extension.
    Dawrx0,
}

/// The machine under the guest-facing code.
pub trait Platform: Sized + 'static {
    /// TLB and page operations.
    type Memory: penstock_mm::page_ops::Machine + Copy;
    /// Interrupt controller and event queues.
    type Interrupts: XiveMmio + QueueMemory;
    /// Set-up calls of the interrupt controller.
    type Firmware: XiveFirmware;

    /// The interrupt controller.
    fn interrupts() -> Self::Interrupts;
    /// Its set-up calls.
    fn firmware() -> Self::Firmware;
    /// Something happened that a trace shows, to the partition with this number.
    #[inline]
    fn trace(_partition: u16, _kind: Kind, _arguments: [u64; 2]) {}
    /// The processor's family.
    fn processor() -> Processor;
    /// The time base.
    fn timebase() -> u64;
    /// The registers of the storage interrupt that is being handled; leaves [`HDSISR_CANARY`].
    fn storage_fault() -> StorageFaultRegisters;
    /// The guest's authority mask for data.
    fn amr() -> u64;
    /// The guest's authority mask for fetches.
    fn iamr() -> u64;
    /// Writes a register of the guest that is on this thread.
    fn set_guest_register(register: GuestRegister, value: u64);
    /// Makes `lpcr` the partition's control register on this thread.
    fn set_lpcr(lpcr: Lpcr);
    /// Tells the hardware of a partition's page table. No virtual processor of it is in the guest;
    /// what processors knew of the partition before is gone when this returns.
    fn set_partition_entry(lpid: Lpid, pate: Option<Pate>);
    /// Ticks that the guest on this thread has had of its processor.
    fn purr() -> u64;
    /// Ticks that all threads of the machine have slept, together.
    fn idle_ticks() -> u64;
    /// A random number of the hardware's generator.
    fn random() -> Option<u64>;
    /// Gets the attention of the thread that runs a virtual processor, after something was left for it
    /// to find: it looks at the virtual processor before it enters the guest again, or sleeps on.
    fn ring(partition: GuestId, server: u32);
    /// The same, if the virtual processor is on its thread: one that comes there later finds what was
    /// left.
    fn ring_if_aboard(partition: GuestId, server: u32);
    /// Ticks until the guest's decrementer expires; zero or less where it has.
    fn decrementer() -> i64;
}
