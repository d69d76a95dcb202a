// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// Guests' floating-point and vector registers: the only code of the hypervisor that touches them.
// It is built without these facilities, so a guest's values stay in the machine across exits, and
// are dealt with here when a virtual processor comes or goes.
//
// Instructions are given by number, since the assembler is told that there are none.

	.section .text.vector_state, "ax"

	.set MSR_FP_VEC_VSX_HIGH, 0x0280	// VEC and VSX
	.set MSR_FP, 0x2000

	// Turns the facilities on; r0 keeps the MSR to go back to.
	.macro FACILITIES_ON
	mfmsr	0
	oris	5, 0, MSR_FP_VEC_VSX_HIGH
	ori	5, 5, MSR_FP
	mtmsrd	5
	isync
	.endm

	.macro FACILITIES_BACK
	mtmsrd	0
	isync
	.endm

	// VSR \n, from 0 to 63, from or to offset 16 * \n of r3; \xo is 1 for lxv, 5 for stxv.
	.macro VSX_MEMORY xo, n
	.long	0xf4000000 | (\n & 31) << 21 | 3 << 16 | \n << 4 | (\n >> 5) << 3 | \xo
	.endm

// void save_vector_state(VectorState *state): all registers, FPSCR and VSCR, which stay as they are.
	.balign 16
	.globl save_vector_state
	.type save_vector_state, @function
save_vector_state:
	FACILITIES_ON
	.set n, 0
	.rept 64
	VSX_MEMORY 5, n
	.set n, n + 1
	.endr
	.long	0xfc00048e			// mffs f0
	.long	0xd8030000 | {FPSCR}		// stfd f0
	.long	0x10000604			// mfvscr v0, which is VSR 32
	.long	0xf4000000 | 3 << 16 | {VSCR} | 8 | 5	// stxv
	VSX_MEMORY 1, 0
	VSX_MEMORY 1, 32
	FACILITIES_BACK
	blr
	.size save_vector_state, . - save_vector_state

// void load_vector_state(const VectorState *state)
	.balign 16
	.globl load_vector_state
	.type load_vector_state, @function
load_vector_state:
	FACILITIES_ON
	.long	0xc8030000 | {FPSCR}		// lfd f0
	.long	0xfffe058e			// mtfsf, all fields, from f0
	.long	0xf4000000 | 3 << 16 | {VSCR} | 8 | 1	// lxv to v0
	.long	0x10000644			// mtvscr v0
	.set n, 0
	.rept 64
	VSX_MEMORY 1, n
	.set n, n + 1
	.endr
	FACILITIES_BACK
	blr
	.size load_vector_state, . - load_vector_state
