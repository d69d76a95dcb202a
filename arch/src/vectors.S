// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// The exception vectors.
//
// The block from vectors_start to vectors_end is copied to real 0x100, so everything in it is
// position independent, and leaves it through CTR.
//
// On entry to a vector the following is true (Power ISA 3.0B, Book III, Interrupt Processing):
//   1. MSR = SF | HV, LE (HID0[HILE] is set), IR = DR = EE = PR = 0. ME is kept.
//   2. HSPRG0 = address of the GuestContext of this thread; with no guest loaded, of one that
//      lends its emergency stacks.
//   3. All general registers, LR, CTR, XER and CR belong to whoever was interrupted.
//   4. SRR0/SRR1 (0x100, 0x200, 0xc00) or HSRR0/HSRR1 (0x500, 0x980, 0xe00 and above) say where.
//
// HSPRG1 is the only scratch register, free whenever no vector is within its first instructions;
// a machine check there loses the interrupted r13, which only spoils the last words.

	.section .text.vectors, "ax"
	.balign 128
	.globl vectors_start
vectors_start:

// A guest's exit that cannot come from hypervisor state. Eight instructions at most: 0xe00 to
// 0xea0 are 0x20 bytes apart. CFAR is read before the first branch, which changes it.
	.macro VECTOR_GUEST vec
	.org vectors_start + \vec - 0x100
	mtspr	{HSPRG1}, 13
	mfspr	13, {HSPRG0}
	std	12, {GPR}+12*8(13)
	mfspr	12, {SPR_CFAR}
	std	12, {CFAR}(13)
	std	11, {GPR}+11*8(13)
	li	11, \vec
	b	vectors_guest
	.endm

// Anything that may interrupt the hypervisor as well: \srr1 tells which.
	.macro VECTOR_EITHER vec, target
	.org vectors_start + \vec - 0x100
	mtspr	{HSPRG1}, 13
	mfspr	13, {HSPRG0}
	std	12, {SCRATCH}(13)
	mfspr	12, {SPR_CFAR}
	std	12, {CFAR}(13)
	std	11, {SCRATCH}+8(13)
	li	11, \vec
	b	\target
	.endm

	VECTOR_EITHER 0x100, vectors_either_srr
	VECTOR_EITHER 0x200, vectors_either_srr
	VECTOR_EITHER 0x300, vectors_host
	VECTOR_EITHER 0x380, vectors_host
	VECTOR_EITHER 0x400, vectors_host
	VECTOR_EITHER 0x480, vectors_host
	VECTOR_EITHER 0x500, vectors_either_hsrr
	VECTOR_EITHER 0x600, vectors_host
	VECTOR_EITHER 0x700, vectors_host
	VECTOR_EITHER 0x800, vectors_host
	VECTOR_EITHER 0x900, vectors_host
	VECTOR_GUEST 0x980
	VECTOR_EITHER 0xa00, vectors_host

// hcall. r0, r3-r12, CTR and XER are volatile by LoPAR's rule, so r0 and CTR are free at once.
	.org vectors_start + 0xc00 - 0x100
	mtspr	{HSPRG1}, 13
	mfspr	13, {HSPRG0}
	lis	0, guest_hcall@h
	ori	0, 0, guest_hcall@l
	mtctr	0
	bctr

	VECTOR_EITHER 0xd00, vectors_host
	VECTOR_GUEST 0xe00
	VECTOR_GUEST 0xe20
	VECTOR_EITHER 0xe40, vectors_either_hsrr
	VECTOR_EITHER 0xe60, vectors_either_hsrr
	VECTOR_GUEST 0xe80
	VECTOR_GUEST 0xea0
	VECTOR_EITHER 0xf00, vectors_host
	VECTOR_EITHER 0xf20, vectors_host
	VECTOR_EITHER 0xf40, vectors_host
	VECTOR_EITHER 0xf60, vectors_host
	VECTOR_GUEST 0xf80
	VECTOR_EITHER 0x1500, vectors_either_hsrr

	.org vectors_start + 0x1600 - 0x100
// r11 = vector, r13 = context; r11 and r12 are saved in it.
vectors_guest:
	mfctr	12
	std	12, {CTR}(13)
	lis	12, guest_interrupt@h
	ori	12, 12, guest_interrupt@l
	mtctr	12
	bctr

// r11 = vector, r13 = context; r11 and r12 are saved in scratch.
vectors_either_srr:
	mfspr	12, {SRR1}
	b	1f
vectors_either_hsrr:
	mfspr	12, {HSRR1}
1:	std	11, {SCRATCH}+16(13)
	mfcr	11
	rotldi	12, 12, 4		// HV, bit 3, becomes bit 63
	andi.	12, 12, 1
	bne	2f
	mtcrf	0x80, 11
	// From the guest: as any other exit.
	ld	12, {SCRATCH}(13)
	std	12, {GPR}+12*8(13)
	ld	12, {SCRATCH}+8(13)
	std	12, {GPR}+11*8(13)
	ld	11, {SCRATCH}+16(13)
	b	vectors_guest
2:	mtcrf	0x80, 11
	ld	11, {SCRATCH}+16(13)
// r11 = vector. CTR is given up: there is no way back.
vectors_host:
	lis	12, host_interrupt@h
	ori	12, 12, host_interrupt@l
	mtctr	12
	bctr
	.globl vectors_end
vectors_end:
