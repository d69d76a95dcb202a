// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The assembly between a guest and the hypervisor: vectors, entry, exit.
//!
//! The crate above supplies three functions by name, which the assembly calls: `penstock_hcall(ctx)`,
//! which returns the address of a light handler, a function of the context; the light handler
//! `penstock_storage_fault(ctx, vector)`; and `penstock_host_interrupt(frame)`, which does not return.
//! Light handlers return 0 to resume the guest, or a [reason](enter_guest) for a full exit.

// UNSAFETY: this is the assembly that everything else rests on, and the calls into it.
#![expect(unsafe_code)]

use crate::addr::HostReal;
use crate::context::{GuestContext, HostFrame, ThreadStacks};
use crate::hcall_log;
use crate::regs::sprn;
use crate::{spr, sync};
use core::arch::global_asm;
use core::mem::offset_of;

global_asm!(
    include_str!("vectors.S"),
    HSPRG0 = const sprn::HSPRG0,
    HSPRG1 = const sprn::HSPRG1,
    SRR1 = const sprn::SRR1,
    HSRR1 = const sprn::HSRR1,
    GPR = const offset_of!(GuestContext, gpr),
    CTR = const offset_of!(GuestContext, ctr),
    CFAR = const offset_of!(GuestContext, cfar),
    SPR_CFAR = const sprn::CFAR,
    SCRATCH = const offset_of!(GuestContext, scratch),
);

global_asm!(
    include_str!("guest_entry.S"),
    HSPRG0 = const sprn::HSPRG0,
    HSPRG1 = const sprn::HSPRG1,
    SRR0 = const sprn::SRR0,
    SRR1 = const sprn::SRR1,
    HSRR0 = const sprn::HSRR0,
    HSRR1 = const sprn::HSRR1,
    DAR = const sprn::DAR,
    DSISR = const sprn::DSISR,
    GPR = const offset_of!(GuestContext, gpr),
    PC = const offset_of!(GuestContext, pc),
    MSR = const offset_of!(GuestContext, msr),
    LR = const offset_of!(GuestContext, lr),
    CTR = const offset_of!(GuestContext, ctr),
    XER = const offset_of!(GuestContext, xer),
    CR = const offset_of!(GuestContext, cr),
    CFAR = const offset_of!(GuestContext, cfar),
    SPR_CFAR = const sprn::CFAR,
    TRAP = const offset_of!(GuestContext, trap),
    HOST_SP = const offset_of!(GuestContext, host_sp),
    HOST_TOC = const offset_of!(GuestContext, host_toc),
    THREAD = const offset_of!(GuestContext, thread),
    HCALL_LOG = const offset_of!(GuestContext, hcall_log),
    LOG_STRIDE = const hcall_log::STRIDE,
    LOG_STATUS = const hcall_log::STATUS,
    LOG_ARGUMENT = const hcall_log::ARGUMENT,
    LOG_WRAP_BIT = const hcall_log::WRAP_BIT,
    EMERGENCY_SP = const offset_of!(ThreadStacks, emergency_sp),
    SCRATCH = const offset_of!(GuestContext, scratch),
    HOST_FRAME_SIZE = const (size_of::<HostFrame>() + 15) & !15,
    FRAME_PC = const offset_of!(HostFrame, pc),
    FRAME_MSR = const offset_of!(HostFrame, msr),
    FRAME_LR = const offset_of!(HostFrame, lr),
    FRAME_CTR = const offset_of!(HostFrame, ctr),
    FRAME_XER = const offset_of!(HostFrame, xer),
    FRAME_CR = const offset_of!(HostFrame, cr),
    FRAME_TRAP = const offset_of!(HostFrame, trap),
    FRAME_DAR = const offset_of!(HostFrame, dar),
    FRAME_DSISR = const offset_of!(HostFrame, dsisr),
);

/// Where the vectors begin in real memory.
pub const VECTORS_BASE: HostReal = HostReal::new(0x100);

/// Real memory below this belongs to the vectors, and is never given to anybody.
pub const VECTORS_LIMIT: HostReal = HostReal::new(0x1_0000);

unsafe extern "C" {
    static vectors_start: [u8; 0];
    static vectors_end: [u8; 0];
    fn enter_guest(ctx: *mut GuestContext) -> u64;
    #[link_name = "flush_slb"]
    fn flush_slb_asm();
    #[link_name = "insert_slbe"]
    fn insert_slbe_asm(vsid: u64, esid: u64);
    fn slb_esid_doubleword(entry: u64) -> u64;
}

/// Copies the vectors to real 0x100. Returns a checksum of what was copied, for
/// [`vectors_checksum`].
///
/// # Safety
/// To be called once, on the boot processor, in hypervisor real mode, with machine checks still
/// off and HID0\[HILE\] set.
pub unsafe fn install_vectors() -> u64 {
    let start = (&raw const vectors_start).cast::<u8>();
    let end = (&raw const vectors_end).addr();
    let len = end - start.addr();
    let target = core::ptr::with_exposed_provenance_mut::<u8>(vectors_base());
    // SAFETY: real 0x100.. is memory that nobody else has: firmware leaves it to its payload.
    unsafe { core::ptr::copy_nonoverlapping(start, target, len) };
    sync::flush_icache(VECTORS_BASE, len as u64);
    vectors_checksum()
}

fn vectors_base() -> usize {
    // Hidden from the optimiser, which takes fixed low addresses for null dereferences.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "usize is 64 bits on this machine"
    )]
    core::hint::black_box(VECTORS_BASE.get() as usize)
}

/// A checksum over the installed vectors: it must never change after [`install_vectors`].
#[must_use]
pub fn vectors_checksum() -> u64 {
    let len = (&raw const vectors_end).addr() - (&raw const vectors_start).addr();
    let base = core::ptr::with_exposed_provenance::<u64>(vectors_base());
    let mut sum = 0u64;
    for i in 0..len / 8 {
        let word_at = base.wrapping_add(i);
        // SAFETY: within the copied vectors, which are plain memory, aligned to 8.
        let word = unsafe { word_at.read_volatile() };
        sum = sum.rotate_left(1) ^ word;
    }
    sum
}

/// Runs the guest whose registers are in `ctx` until its next full exit, and returns the reason:
/// the vector, or what a light handler returned.
///
/// # Safety
/// The thread's partition (LPIDR, LPCR), HDEC, and interrupt context must be set for this guest;
/// its MSR must have HV clear; the vectors must be installed. `ctx` must be valid for whatever the
/// light handlers make of it, and nothing else may use that during the call.
#[inline]
pub unsafe fn run_guest(ctx: *mut GuestContext) -> u64 {
    // SAFETY: the caller set the machine up; enter_guest keeps our registers by its contract.
    unsafe { enter_guest(ctx) }
}

/// Empties the SLB, and drops all that the processor derived from it.
pub fn flush_slb() {
    // SAFETY: the hypervisor runs in real mode, and a guest without entries takes SLB misses.
    unsafe { flush_slb_asm() }
}

/// Enters a segment into the SLB: the operands of slbmte, RS and RB.
pub fn insert_slbe(vsid: u64, esid: u64) {
    // SAFETY: translates for the guest only, whose own entry it is.
    unsafe { insert_slbe_asm(vsid, esid) }
}

/// The ESID doubleword of an entry of the SLB.
#[must_use]
pub fn slbe(entry: u32) -> u64 {
    // SAFETY: reads an entry; the processor takes the number modulo the size of the SLB.
    unsafe { slb_esid_doubleword(u64::from(entry)) }
}

/// Makes HSPRG0 point to a context of the calling thread's own, before anything else can interrupt
/// it, and when the guest that ran last is to go away, or is another guest's turn.
///
/// # Safety
/// `idle` must live for ever, be no other thread's, and lead to the calling thread's
/// [`ThreadStacks`], whose stacks are set and which live for ever too. Nobody else may use its
/// scratch space.
pub unsafe fn set_context(idle: *mut GuestContext) {
    // SAFETY: the vectors expect just this, by the caller's promise.
    unsafe { spr::write::<{ sprn::HSPRG0 }>(idle.expose_provenance() as u64) };
}

/// Address of the [`ThreadStacks`] of the calling thread.
#[inline]
#[must_use]
pub fn thread() -> *const ThreadStacks {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "usize is 64 bits on this machine"
    )]
    let context = spr::read::<{ sprn::HSPRG0 }>() as usize;
    let context = core::ptr::with_exposed_provenance::<GuestContext>(context);
    // SAFETY: HSPRG0 always holds the address of a context.
    let field = unsafe { &raw const (*context).thread };
    // SAFETY: the field is written only while HSPRG0 of no thread leads to it.
    let stacks = unsafe { field.read() };
    #[expect(
        clippy::cast_possible_truncation,
        reason = "usize is 64 bits on this machine"
    )]
    core::ptr::with_exposed_provenance(stacks as usize)
}
