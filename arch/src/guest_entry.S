// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// Into a guest and out of it.
//
//   enter_guest      full entry: hypervisor's non-volatile registers to the stack, all of the
//                    guest's to the machine. Returns to its caller at the next full exit.
//   guest_hcall      light exit for hcalls: penstock_hcall names the handler, which decides.
//   guest_interrupt  light exit for hypervisor storage faults: penstock_storage_fault decides;
//                    full exit for everything else.
//   host_interrupt   the end: penstock_host_interrupt prints and stops.
//
// A light handler runs on the stack of enter_guest's frame, with the guest's r14-r31 still in the
// machine, and for an hcall its CR2-4: Rust's ABI keeps them. It returns 0 to resume the guest,
// anything else for a full exit whose reason that value is. r13 is never touched by compiled code
// (ELFv2 reserves it for TLS, which the hypervisor does not have), so it holds the context
// throughout.

	.section .text.guest_entry, "ax"

	// ELFv2: 32 bytes of linkage area, then r14-r31.
	.set FRAME, 32 + 18*8

	.macro SAVE_GPRS first, last, base, offset
	.set n, \first
	.rept \last - \first + 1
	std	n, \offset + n*8(\base)
	.set n, n + 1
	.endr
	.endm

	.macro LOAD_GPRS first, last, base, offset
	.set n, \first
	.rept \last - \first + 1
	ld	n, \offset + n*8(\base)
	.set n, n + 1
	.endr
	.endm

// u64 enter_guest(GuestContext *ctx): r3 = context, whose registers are loaded.
// Partition, LPCR, HDEC, SLB and interrupt context are the caller's to have set.
	.balign 128
	.globl enter_guest
	.type enter_guest, @function
enter_guest:
	mflr	0
	std	0, 16(1)
	mfcr	0
	std	0, 8(1)
	stdu	1, -FRAME(1)
	SAVE_GPRS 14, 31, 1, (32 - 14*8)
	std	1, {HOST_SP}(3)
	std	2, {HOST_TOC}(3)
	mr	13, 3
	mtspr	{HSPRG0}, 13
	LOAD_GPRS 14, 31, 13, {GPR}

// r13 = context, r14-r31 are the guest's. Loads the rest and goes.
resume_guest:
	ld	4, {PC}(13)
	ld	5, {MSR}(13)
	ld	6, {LR}(13)
	ld	7, {CTR}(13)
	ld	8, {XER}(13)
	ld	9, {CR}(13)
	mtspr	{HSRR0}, 4
	mtspr	{HSRR1}, 5
	mtlr	6
	mtctr	7
	mtxer	8
	mtcr	9
	ld	4, {CFAR}(13)
	mtspr	{SPR_CFAR}, 4
	LOAD_GPRS 0, 12, 13, {GPR}
	ld	13, {GPR}+13*8(13)
	.globl guest_entry_barrier
guest_entry_barrier:
	nop				// the L1D flush, where firmware asks for it
	hrfid
	b	.
	.size enter_guest, . - enter_guest

// On entry: r13 = context, HSPRG1 = the guest's r13, r0 and CTR free, SRR0/SRR1 say where.
	.balign 128
guest_hcall:
	SAVE_GPRS 1, 12, 13, {GPR}
	// Token and first argument go to the log. Bit 0 of an address is clear, so inserting it clears
	// the bit that only the end of the log has.
	ld	9, {HCALL_LOG}(13)
	stwu	3, {LOG_STRIDE}(9)
	std	4, {LOG_ARGUMENT}(9)
	rldimi	9, 9, {LOG_WRAP_BIT}, 63 - {LOG_WRAP_BIT}
	std	9, {HCALL_LOG}(13)
	mfspr	4, {HSPRG1}
	mfspr	5, {SRR0}
	mfspr	6, {SRR1}
	mflr	7
	std	4, {GPR}+13*8(13)
	std	5, {PC}(13)
	std	6, {MSR}(13)
	std	7, {LR}(13)
	ld	1, {HOST_SP}(13)
	ld	2, {HOST_TOC}(13)
	mr	3, 13
	bl	penstock_hcall
	mtctr	3
	mr	12, 3			// where a function finds its own address
	mr	3, 13
	bctrl
	cmpdi	3, 0
	ld	4, {PC}(13)
	ld	5, {MSR}(13)
	ld	6, {LR}(13)
	bne	1f
	mtspr	{HSRR0}, 4
	mtspr	{HSRR1}, 5
	mtlr	6
	li	0, 0
	mtctr	0
	mtxer	0
	mtspr	{SPR_CFAR}, 0		// r0: not where we branched last
	mtcrf	0xc7, 0			// CR2-4 are the guest's, as compiled code keeps them
	LOAD_GPRS 1, 8, 13, {GPR}
	ld	9, {HCALL_LOG}(13)
	stw	3, {LOG_STATUS}(9)
	LOAD_GPRS 9, 12, 13, {GPR}
	ld	13, {GPR}+13*8(13)
	.globl guest_hcall_barrier
guest_hcall_barrier:
	nop				// as guest_entry_barrier
	hrfid
	b	.
	// Full exit: what an hcall may clobber is zero, not ours.
1:	li	0, 0
	mfcr	8
	rlwinm	8, 8, 0, 8, 19		// CR2-4
	std	8, {CR}(13)
	std	0, {GPR}(13)
	std	0, {CTR}(13)
	std	0, {XER}(13)
	std	0, {CFAR}(13)
	ld	9, {HCALL_LOG}(13)
	ld	10, {GPR}+3*8(13)
	stw	10, {LOG_STATUS}(9)
	b	full_exit

// On entry: r11 = vector, r13 = context, HSPRG1 = the guest's r13; the guest's r11, r12 and CTR
// are saved.
	.balign 128
guest_interrupt:
	SAVE_GPRS 0, 10, 13, {GPR}
	mfspr	3, {HSPRG1}
	mflr	4
	mfxer	5
	mfcr	6
	std	3, {GPR}+13*8(13)
	std	4, {LR}(13)
	std	5, {XER}(13)
	std	6, {CR}(13)
	std	11, {TRAP}(13)
	ld	1, {HOST_SP}(13)
	ld	2, {HOST_TOC}(13)
	cmplwi	11, 0x200
	bgt	2f
	mfspr	7, {SRR0}
	mfspr	8, {SRR1}
	b	3f
2:	mfspr	7, {HSRR0}
	mfspr	8, {HSRR1}
3:	std	7, {PC}(13)
	std	8, {MSR}(13)
	andi.	9, 11, 0xffdf		// the two storage vectors differ by 0x20
	cmplwi	9, 0xe00
	bne	4f
	mr	3, 13
	mr	4, 11
	bl	penstock_storage_fault
	cmpdi	3, 0
	beq	resume_guest
	b	full_exit
4:	mr	3, 11
	// r3 = reason, r13 = context, r1 = enter_guest's frame; the guest's r14-r31 are in the machine.
full_exit:
	SAVE_GPRS 14, 31, 13, {GPR}
	LOAD_GPRS 14, 31, 1, (32 - 14*8)
	addi	1, 1, FRAME
	ld	0, 8(1)
	mtcr	0
	ld	0, 16(1)
	mtlr	0
	blr

// On entry: r11 = vector, r13 = context of this thread, the interrupted r12 and r11 in its scratch,
// HSPRG1 = the interrupted r13. Registers go to a HostFrame on the stack of the vector's kind.
	.balign 128
host_interrupt:
	ld	13, {THREAD}(13)
	ld	12, {EMERGENCY_SP}(13)
	cmplwi	11, 0x200
	beq	1f
	ld	12, {EMERGENCY_SP}+8(13)
	cmplwi	11, 0x100
	beq	1f
	ld	12, {EMERGENCY_SP}+16(13)
1:	mfspr	13, {HSPRG0}
	addi	12, 12, -({HOST_FRAME_SIZE} + 64)
	SAVE_GPRS 0, 10, 12, 64
	ld	3, {SCRATCH}(13)
	ld	4, {SCRATCH}+8(13)
	mfspr	5, {HSPRG1}
	std	4, 64+11*8(12)
	std	3, 64+12*8(12)
	std	5, 64+13*8(12)
	SAVE_GPRS 14, 31, 12, 64
	mfspr	3, {SRR0}
	mfspr	4, {SRR1}
	cmplwi	11, 0x500
	beq	3f
	cmplwi	11, 0xe40
	beq	3f
	cmplwi	11, 0xe60
	beq	3f
	cmplwi	11, 0x1500
	bne	2f
3:	mfspr	3, {HSRR0}
	mfspr	4, {HSRR1}
2:	mflr	5
	mfctr	6
	mfxer	7
	mfcr	8
	mfspr	9, {DAR}
	mfspr	10, {DSISR}
	std	3, 64+{FRAME_PC}(12)
	std	4, 64+{FRAME_MSR}(12)
	std	5, 64+{FRAME_LR}(12)
	std	6, 64+{FRAME_CTR}(12)
	std	7, 64+{FRAME_XER}(12)
	std	8, 64+{FRAME_CR}(12)
	std	11, 64+{FRAME_TRAP}(12)
	std	9, 64+{FRAME_DAR}(12)
	std	10, 64+{FRAME_DSISR}(12)
	mr	1, 12
	addi	3, 12, 64
	li	0, 0
	std	0, 0(1)			// the back-chain of the last words ends here
	std	0, 16(1)
	lis	2, .TOC.@h
	ori	2, 2, .TOC.@l
	bl	penstock_host_interrupt
	b	.

// void flush_slb(void): no entry, and nothing derived from one, is left. Entry 0 needs its own
// write: slbia with IH = 0 spares it (Power ISA 3.0B, Book III, SLB Invalidate All).
	.balign 16
	.globl flush_slb
	.type flush_slb, @function
flush_slb:
	li	4, 0
	isync
	slbmte	4, 4
	.long	0x7c0003e4		// slbia 0: all but entry 0, and all that was derived from any
	isync
	blr
	.size flush_slb, . - flush_slb

// void insert_slbe(u64 vsid_doubleword, u64 esid_doubleword)
	.balign 16
	.globl insert_slbe
	.type insert_slbe, @function
insert_slbe:
	slbmte	3, 4
	isync
	blr
	.size insert_slbe, . - insert_slbe

// u64 slb_esid_doubleword(u64 entry)
	.balign 16
	.globl slb_esid_doubleword
	.type slb_esid_doubleword, @function
slb_esid_doubleword:
	slbmfee	3, 3
	blr
	.size slb_esid_doubleword, . - slb_esid_doubleword
