// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// i64 opal_call(a0 .. a6, token)
//   r3-r9 = arguments, r10 = token. OPAL_ENTRY holds firmware's base and entry.
//
// Firmware is entered big-endian: the switch is an hrfid with MSR[LE] clear. It returns with blr,
// still big-endian, to 1: below, which switches back as head.S does.

	.section .text.opal_call, "ax"
	.balign 16
	.globl opal_call
	.type opal_call, @function
opal_call:
	mflr	0
	std	0, 16(1)
	mfcr	0
	std	0, 8(1)
	stdu	1, -64(1)
	std	2, 24(1)
	mr	0, 10
	lis	12, {OPAL_ENTRY}@h
	ori	12, 12, {OPAL_ENTRY}@l
	ld	2, 0(12)
	ld	11, 8(12)
	lis	12, 1f@h
	ori	12, 12, 1f@l
	mtlr	12
	mtspr	{HSRR0}, 11
	mfmsr	12
	xori	12, 12, 1
	mtspr	{HSRR1}, 12
	hrfid
	b	.
1:	tdi	0, 0, 0x48
	b	2f
	.long	0xa600607d		// mfmsr r11
	.long	0x05009f42		// bcl 20, 31, $+4
	.long	0xa602487d		// mflr r10
	.long	0x18004a39		// addi r10, r10, 24: to 2: below
	.long	0x01006b69		// xori r11, r11, 1
	.long	0xa64b5a7d		// mthsrr0 r10
	.long	0xa64b7b7d		// mthsrr1 r11
	.long	0x2402004c		// hrfid
2:	ld	2, 24(1)
	addi	1, 1, 64
	ld	0, 8(1)
	mtcr	0
	ld	0, 16(1)
	mtlr	0
	blr
	.size opal_call, . - opal_call
