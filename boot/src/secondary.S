// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// The first instructions of a processor that OPAL_START_CPU takes out of firmware.
//
// On entry the following is true (skiboot, core/cpu.c, opal_start_cpu_thread; measured):
//   1. 64-bit hypervisor real mode, big-endian, EE = ME = RI = 0.
//   2. r3 = this processor's PIR. No other register has a meaning.
// On exit, at penstock_secondary(r3 = address of its SecondaryStart):
//   1. Little-endian, r1 = the stack of that record, r2 = TOC, HRMOR = 0.

	.section .text.secondary, "ax"
	.balign 16
	.globl secondary_entry
secondary_entry:
	tdi	0, 0, 0x48
	b	1f
	// Big-endian, as in head.S.
	.long	0xa600607d		// mfmsr r11
	.long	0x05009f42		// bcl 20, 31, $+4
	.long	0xa602487d		// mflr r10
	.long	0x18004a39		// addi r10, r10, 24: to 1: below
	.long	0x01006b69		// xori r11, r11, 1: MSR[LE]
	.long	0xa64b5a7d		// mthsrr0 r10
	.long	0xa64b7b7d		// mthsrr1 r11
	.long	0x2402004c		// hrfid
1:	lis	2, .TOC.@h
	ori	2, 2, .TOC.@l
	li	0, 0
	mtspr	{HRMOR}, 0
	isync
	lis	6, {LIST}@h
	ori	6, 6, {LIST}@l
	ld	7, {FIRST}(6)
	ld	8, {COUNT}(6)
	mtctr	8
2:	ld	9, {PIR}(7)
	cmpd	9, 3
	beq	3f
	addi	7, 7, {SIZE}
	bdnz	2b
	// One that nobody has asked for.
	b	.
3:	ld	1, {STACK}(7)
	addi	1, 1, -64
	std	0, 0(1)
	mr	3, 7
	bl	penstock_secondary
	b	.
