// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Numbers of the PAPR interface and of the processor that checks name.
//!
//! Sources: LoPAR, Hypervisor Call Function Table and Hypervisor Call Return Code Table; Power ISA
//! 3.0B, Book III, Machine State Register and Interrupt Definitions.

/// hcall numbers.
pub mod hcall {
    /// H_REMOVE.
    pub const REMOVE: u64 = 0x04;
    /// H_ENTER.
    pub const ENTER: u64 = 0x08;
    /// H_READ.
    pub const READ: u64 = 0x0c;
    /// H_CLEAR_MOD.
    pub const CLEAR_MOD: u64 = 0x10;
    /// H_CLEAR_REF.
    pub const CLEAR_REF: u64 = 0x14;
    /// H_PROTECT.
    pub const PROTECT: u64 = 0x18;
    /// H_SET_SPRG0.
    pub const SET_SPRG0: u64 = 0x24;
    /// H_SET_DABR.
    pub const SET_DABR: u64 = 0x28;
    /// H_PAGE_INIT.
    pub const PAGE_INIT: u64 = 0x2c;
    /// H_GET_TERM_CHAR.
    pub const GET_TERM_CHAR: u64 = 0x54;
    /// H_PUT_TERM_CHAR.
    pub const PUT_TERM_CHAR: u64 = 0x58;
    /// H_EOI.
    pub const EOI: u64 = 0x64;
    /// H_CPPR.
    pub const CPPR: u64 = 0x68;
    /// H_IPI.
    pub const IPI: u64 = 0x6c;
    /// H_IPOLL.
    pub const IPOLL: u64 = 0x70;
    /// H_XIRR.
    pub const XIRR: u64 = 0x74;
    /// H_REGISTER_VPA.
    pub const REGISTER_VPA: u64 = 0xdc;
    /// H_CEDE.
    pub const CEDE: u64 = 0xe0;
    /// H_CONFER.
    pub const CONFER: u64 = 0xe4;
    /// H_PROD.
    pub const PROD: u64 = 0xe8;
    /// H_GET_PPP.
    pub const GET_PPP: u64 = 0xec;
    /// H_SET_PPP.
    pub const SET_PPP: u64 = 0xf0;
    /// H_PURR.
    pub const PURR: u64 = 0xf4;
    /// H_PIC.
    pub const PIC: u64 = 0xf8;
    /// H_POLL_PENDING.
    pub const POLL_PENDING: u64 = 0x1d8;
    /// H_JOIN.
    pub const JOIN: u64 = 0x298;
    /// H_SIGNAL_SYS_RESET.
    pub const SIGNAL_SYS_RESET: u64 = 0x380;
    /// H_BULK_REMOVE.
    pub const BULK_REMOVE: u64 = 0x124;
    /// H_GET_CPU_CHARACTERISTICS.
    pub const GET_CPU_CHARACTERISTICS: u64 = 0x1c8;
    /// H_XIRR_X.
    pub const XIRR_X: u64 = 0x2fc;
    /// H_RANDOM.
    pub const RANDOM: u64 = 0x300;
    /// H_SET_MODE.
    pub const SET_MODE: u64 = 0x31c;
    /// H_BLOCK_REMOVE.
    pub const BLOCK_REMOVE: u64 = 0x328;
    /// H_CLEAR_HPT.
    pub const CLEAR_HPT: u64 = 0x358;
    /// H_RESIZE_HPT_PREPARE.
    pub const RESIZE_HPT_PREPARE: u64 = 0x36c;
    /// H_RESIZE_HPT_COMMIT.
    pub const RESIZE_HPT_COMMIT: u64 = 0x370;
    /// H_REGISTER_PROC_TBL.
    pub const REGISTER_PROC_TBL: u64 = 0x37c;
    /// H_INT_GET_SOURCE_INFO.
    pub const INT_GET_SOURCE_INFO: u64 = 0x3a8;
    /// H_INT_SET_SOURCE_CONFIG.
    pub const INT_SET_SOURCE_CONFIG: u64 = 0x3ac;
    /// H_INT_GET_SOURCE_CONFIG.
    pub const INT_GET_SOURCE_CONFIG: u64 = 0x3b0;
    /// H_INT_GET_QUEUE_INFO.
    pub const INT_GET_QUEUE_INFO: u64 = 0x3b4;
    /// H_INT_SET_QUEUE_CONFIG.
    pub const INT_SET_QUEUE_CONFIG: u64 = 0x3b8;
    /// H_INT_GET_QUEUE_CONFIG.
    pub const INT_GET_QUEUE_CONFIG: u64 = 0x3bc;
    /// H_INT_SET_OS_REPORTING_LINE.
    pub const INT_SET_OS_REPORTING_LINE: u64 = 0x3c0;
    /// H_INT_GET_OS_REPORTING_LINE.
    pub const INT_GET_OS_REPORTING_LINE: u64 = 0x3c4;
    /// H_INT_ESB.
    pub const INT_ESB: u64 = 0x3c8;
    /// H_INT_SYNC.
    pub const INT_SYNC: u64 = 0x3cc;
    /// H_INT_RESET.
    pub const INT_RESET: u64 = 0x3d0;
    /// H_RTAS, private to hypervisors that boot without Open Firmware.
    pub const RTAS: u64 = 0xf000;
}

/// hcall status codes, as they stand in r3.
pub mod status {
    /// H_SUCCESS.
    pub const SUCCESS: u64 = 0;
    /// H_BUSY.
    pub const BUSY: u64 = 1;
    /// H_CLOSED.
    pub const CLOSED: u64 = 2;
    /// H_PARTIAL.
    pub const PARTIAL: u64 = 5;
    /// H_CONTINUE.
    pub const CONTINUE: u64 = 18;
    /// The first of H_LONG_BUSY_ORDER_*.
    pub const LONG_BUSY_FIRST: u64 = 9900;
    /// The last.
    pub const LONG_BUSY_LAST: u64 = 9905;
    /// H_HARDWARE.
    pub const HARDWARE: u64 = 0u64.wrapping_sub(1);
    /// H_FUNCTION.
    pub const FUNCTION: u64 = 0u64.wrapping_sub(2);
    /// H_PRIVILEGE.
    pub const PRIVILEGE: u64 = 0u64.wrapping_sub(3);
    /// H_PARAMETER.
    pub const PARAMETER: u64 = 0u64.wrapping_sub(4);
    /// H_BAD_MODE.
    pub const BAD_MODE: u64 = 0u64.wrapping_sub(5);
    /// H_PTEG_FULL.
    pub const PTEG_FULL: u64 = 0u64.wrapping_sub(6);
    /// H_NOT_FOUND.
    pub const NOT_FOUND: u64 = 0u64.wrapping_sub(7);
    /// H_AUTHORITY.
    pub const AUTHORITY: u64 = 0u64.wrapping_sub(10);
    /// H_RESOURCE.
    pub const RESOURCE: u64 = 0u64.wrapping_sub(16);
    /// H_P2.
    pub const P2: u64 = 0u64.wrapping_sub(55);
    /// H_P3.
    pub const P3: u64 = 0u64.wrapping_sub(56);
    /// H_P4.
    pub const P4: u64 = 0u64.wrapping_sub(57);
    /// H_TOO_BIG.
    pub const TOO_BIG: u64 = 0u64.wrapping_sub(64);
    /// H_UNSUPPORTED_FLAG.
    pub const UNSUPPORTED_FLAG: u64 = 0u64.wrapping_sub(256);
}

/// Flags of the page table hcalls (LoPAR, Page Frame Table Access flags field definition).
pub mod flag {
    /// H_ENTER: this slot or H_PTEG_FULL.
    pub const EXACT: u64 = 1 << 39;
    /// H_READ: four entries.
    pub const READ_4: u64 = 1 << 37;
    /// Remove or protect only where the abbreviated virtual page number is this one.
    pub const AVPN: u64 = 1 << 31;
    /// H_REMOVE: only where none of the given bits is set.
    pub const ANDCOND: u64 = 1 << 30;
    /// Invalidate the instruction cache.
    pub const ICACHE_INVALIDATE: u64 = 1 << 23;
    /// Make the instruction cache coherent with memory.
    pub const ICACHE_SYNCHRONIZE: u64 = 1 << 22;
    /// Clear the page first.
    pub const ZERO_PAGE: u64 = 1 << 15;
    /// Copy the page.
    pub const COPY_PAGE: u64 = 1 << 14;
}

/// MSR bits.
pub mod msr {
    /// 64-bit mode.
    pub const SF: u64 = 1 << 63;
    /// Vector facility.
    pub const VEC: u64 = 1 << 25;
    /// Vector-scalar facility.
    pub const VSX: u64 = 1 << 23;
    /// External interrupts.
    pub const EE: u64 = 1 << 15;
    /// Problem state.
    pub const PR: u64 = 1 << 14;
    /// Floating point.
    pub const FP: u64 = 1 << 13;
    /// Machine checks.
    pub const ME: u64 = 1 << 12;
    /// Instruction relocation.
    pub const IR: u64 = 1 << 5;
    /// Data relocation.
    pub const DR: u64 = 1 << 4;
    /// Interrupts are recoverable.
    pub const RI: u64 = 1 << 1;
    /// Little-endian.
    pub const LE: u64 = 1;
    /// What code of the runtime runs with: real mode, EE off.
    pub const KERNEL: u64 = SF | ME | RI | LE;
}

/// Special purpose register numbers.
pub mod spr {
    /// Data storage interrupt status.
    pub const DSISR: u32 = 18;
    /// Data address.
    pub const DAR: u32 = 19;
    /// Decrementer.
    pub const DEC: u32 = 22;
    /// Save/restore register 0.
    pub const SRR0: u32 = 26;
    /// Save/restore register 1.
    pub const SRR1: u32 = 27;
    /// Authority mask.
    pub const AMR: u32 = 29;
    /// Data stream control, as privileged code names it.
    pub const DSCR: u32 = 17;
    /// Process identifier.
    pub const PIDR: u32 = 48;
    /// Instruction authority mask.
    pub const IAMR: u32 = 61;
    /// What problem state may write of the AMR.
    pub const UAMOR: u32 = 157;
    /// Vector registers in use, by software's own account.
    pub const VRSAVE: u32 = 256;
    /// Time base.
    pub const TB: u32 = 268;
    /// SPR general 0.
    pub const SPRG0: u32 = 272;
    /// Processor version.
    pub const PVR: u32 = 287;
    /// Logical partitioning control (hypervisor).
    pub const LPCR: u32 = 318;
    /// Target address.
    pub const TAR: u32 = 815;
    /// Problem state priority boost.
    pub const PSPB: u32 = 159;
    /// Performance monitor counter 1; the five others follow.
    pub const PMC1: u32 = 787;
    /// Monitor mode control 2.
    pub const MMCR2: u32 = 785;
    /// Sampled instruction address.
    pub const SIAR: u32 = 796;
    /// Sampled data address.
    pub const SDAR: u32 = 797;
    /// Event-based branch handler.
    pub const EBBHR: u32 = 804;
    /// Event-based branch return.
    pub const EBBRR: u32 = 805;
}

/// Interrupt vectors.
pub mod vector {
    /// Machine check.
    pub const MACHINE_CHECK: u64 = 0x200;
    /// Data storage.
    pub const DSI: u64 = 0x300;
    /// Data segment.
    pub const DATA_SEGMENT: u64 = 0x380;
    /// Instruction storage.
    pub const ISI: u64 = 0x400;
    /// Instruction segment.
    pub const INSTRUCTION_SEGMENT: u64 = 0x480;
    /// External.
    pub const EXTERNAL: u64 = 0x500;
    /// Alignment.
    pub const ALIGNMENT: u64 = 0x600;
    /// Program.
    pub const PROGRAM: u64 = 0x700;
    /// Floating-point unavailable.
    pub const FP_UNAVAILABLE: u64 = 0x800;
    /// Decrementer.
    pub const DECREMENTER: u64 = 0x900;
    /// Directed privileged doorbell.
    pub const DOORBELL: u64 = 0xa00;
    /// System call.
    pub const SYSTEM_CALL: u64 = 0xc00;
    /// Trace.
    pub const TRACE: u64 = 0xd00;
    /// Vector unavailable.
    pub const VECTOR_UNAVAILABLE: u64 = 0xf20;
    /// VSX unavailable.
    pub const VSX_UNAVAILABLE: u64 = 0xf40;
    /// Facility unavailable.
    pub const FACILITY_UNAVAILABLE: u64 = 0xf60;
}
