// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// The first instructions.
//
// On entry the following is true (skiboot, core/init.c, load_and_boot_kernel; measured):
//   1. 64-bit hypervisor real mode, big-endian, EE = ME = RI = 0.
//   2. r3 = device tree, in firmware's heap. r8 = OPAL base, r9 = OPAL entry.
//   3. The file lies as it is at 0x20000000: the .bss area holds what follows in the file.
//   4. The other processors are inside OPAL. This one's PIR may be anything.
// On exit, at penstock_main(r3 = device tree, r4 = OPAL base, r5 = OPAL entry):
//   1. Little-endian, r1 = top of the boot stack, r2 = TOC, .bss is zero, HRMOR = 0.

	.section .head, "ax"
	.globl _start
_start:
	// Little-endian: tdi, never taken. Big-endian, the same bytes are a branch over the next one.
	tdi	0, 0, 0x48
	b	1f
	// What follows runs big-endian, so each word is written with its bytes reversed.
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
	lis	6, __bss_start@h
	ori	6, 6, __bss_start@l
	lis	7, __bss_end@h
	ori	7, 7, __bss_end@l
	sub	7, 7, 6
	srdi	7, 7, 3
	mtctr	7
	addi	6, 6, -8
2:	stdu	0, 8(6)
	bdnz	2b
	lis	1, __boot_stack_top@h
	ori	1, 1, __boot_stack_top@l
	addi	1, 1, -64
	std	0, 0(1)
	mr	4, 8
	mr	5, 9
	bl	penstock_main
	b	.
