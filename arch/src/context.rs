// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The register state of a guest's thread while the hypervisor runs, as the entry code lays it out.
//!
//! While a guest runs, HSPRG0 holds the address of its [`GuestContext`]; the vectors save into it
//! and `enter_guest` loads from it. While none runs, HSPRG0 points to a context of the thread's own.
//! Either leads to the thread's emergency stacks, and so to all that the hypervisor knows of it.

use core::sync::atomic::AtomicU64;

/// The registers of one virtual processor that are not live in the machine, and what the entry
/// code needs to find its way back.
///
/// A light exit (hcall, hypervisor storage fault) saves only the volatile registers: `gpr[14..]`
/// hold the guest's values only after a full exit.
#[derive(Debug)]
#[repr(C, align(128))]
pub struct GuestContext {
    /// General purpose registers.
    pub gpr: [u64; 32],
    /// Where the guest goes on: SRR0 or HSRR0 of the exit.
    pub pc: u64,
    /// With which MSR: SRR1 or HSRR1 of the exit, cause bits included until they are masked.
    pub msr: u64,
    /// Link register.
    pub lr: u64,
    /// Count register.
    pub ctr: u64,
    /// Fixed-point exception register.
    pub xer: u64,
    /// Condition register.
    pub cr: u64,
    /// Come-from address register.
    pub cfar: u64,
    /// Vector of the last exit.
    pub trap: u64,
    /// Stack pointer of `enter_guest`'s frame: light handlers run below it.
    pub host_sp: u64,
    /// The hypervisor's TOC pointer.
    pub host_toc: u64,
    /// Address of the [`ThreadStacks`] of the hardware thread that has this context.
    pub thread: u64,
    /// Address of the newest entry of the virtual processor's
    /// [`HcallLog`](crate::hcall_log::HcallLog).
    pub hcall_log: u64,
    /// Space for the first instructions of those handlers.
    pub scratch: [u64; 3],
}

impl GuestContext {
    /// All registers zero.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            gpr: [0; 32],
            pc: 0,
            msr: 0,
            lr: 0,
            ctr: 0,
            xer: 0,
            cr: 0,
            cfar: 0,
            trap: 0,
            host_sp: 0,
            host_toc: 0,
            thread: 0,
            hcall_log: 0,
            scratch: [0; 3],
        }
    }
}

impl Default for GuestContext {
    fn default() -> Self {
        Self::new()
    }
}

/// What the entry code knows of a hardware thread: the beginning of the hypervisor's record of it.
#[derive(Debug, Default)]
#[repr(C)]
pub struct ThreadStacks {
    /// Tops of the stacks for machine checks, system resets, and anything else that is taken in
    /// hypervisor state.
    pub emergency_sp: [AtomicU64; 3],
}

const _: () = {
    use core::mem::offset_of;
    assert!(size_of::<GuestContext>().is_multiple_of(128));
    // Displacements of ld and std are signed 16 bits and multiples of 4.
    assert!(size_of::<GuestContext>() < 0x8000);
    assert!(offset_of!(GuestContext, gpr) == 0);
    assert!(offset_of!(GuestContext, pc) == 256);
    assert!(offset_of!(GuestContext, msr) == 264);
    assert!(offset_of!(GuestContext, lr) == 272);
    assert!(offset_of!(GuestContext, ctr) == 280);
    assert!(offset_of!(GuestContext, xer) == 288);
    assert!(offset_of!(GuestContext, cr) == 296);
    assert!(offset_of!(GuestContext, cfar) == 304);
    assert!(offset_of!(GuestContext, trap) == 312);
    assert!(offset_of!(GuestContext, host_sp) == 320);
};

/// Registers at an exception that was taken in hypervisor state, for the last words.
#[derive(Clone, Debug)]
#[repr(C)]
pub struct HostFrame {
    /// General purpose registers.
    pub gpr: [u64; 32],
    /// The interrupted instruction: SRR0 or HSRR0.
    pub pc: u64,
    /// MSR and cause bits: SRR1 or HSRR1.
    pub msr: u64,
    /// Link register.
    pub lr: u64,
    /// Count register.
    pub ctr: u64,
    /// Fixed-point exception register.
    pub xer: u64,
    /// Condition register.
    pub cr: u64,
    /// The vector.
    pub trap: u64,
    /// Data address.
    pub dar: u64,
    /// Data storage interrupt status.
    pub dsisr: u64,
}

const _: () = assert!(size_of::<HostFrame>() == 41 * 8);
