# SPDX-License-Identifier: Apache-2.0 OR MIT
#
# Exception vectors, and running a piece of code until the next interrupt, whatever it is.
#
# One structure, Context, holds the registers to start with and then those at the interrupt. SPRG1
# always points to the innermost one. SPRG2 and SPRG3 are used only between a vector and the
# handler; PAPR lets a hypervisor use SPRG2 at an hcall or machine check, which cannot hurt there.

    .section .text.rt_vectors, "ax"

# --- The tables: copied to real 0x100 (AIL = 0) and to real 0x4100 (AIL = 3). Each slot names
# itself in r4 and goes on at an absolute address, so the copies work at any place.
.macro slot table, number, flag
    .org    \table + \number - 0x100
    mtspr   274, 3
    mfspr   3, 273
    mtspr   275, 4
    li      4, \number + \flag
    .long   rt_interrupt + 0x48000002   # ba rt_interrupt
.endm
.macro table name, flag
    .balign 256
    .globl  \name
\name:
    .irp n, 0x100,0x200,0x300,0x380,0x400,0x480,0x500,0x600,0x700,0x800,0x900,0x980,0xa00,0xc00,0xd00,0xe00,0xe20,0xe40,0xe60,0xe80,0xea0,0xf00,0xf20,0xf40,0xf60,0xf80,0x1500
    slot    \name, \n, \flag
    .endr
    .org    \name + 0x1600 - 0x100
.endm
    table   rt_vectors, 0
    table   rt_vectors_ail, 0x4000

# --- rt_interrupt: every interrupt ends here.
# Live: r3 = Context, r4 = vector, SPRG2 and SPRG3 = r3 and r4 of the interrupted code.
    .globl  rt_interrupt
rt_interrupt:
    std     0, {GPR}+0(3)
    std     1, {GPR}+8(3)
    std     2, {GPR}+16(3)
    .irp n, 5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
    std     \n, {GPR}+8*\n(3)
    .endr
    std     4, {VECTOR}(3)
    mfspr   4, 274
    std     4, {GPR}+24(3)
    mfspr   4, 275
    std     4, {GPR}+32(3)
    mfcr    4
    std     4, {CR}(3)
    mfxer   4
    std     4, {XER}(3)
    mfctr   4
    std     4, {CTR}(3)
    mflr    4
    std     4, {LR}(3)
    mfspr   4, 26
    std     4, {SRR0}(3)
    mfspr   4, 27
    std     4, {SRR1}(3)
    mfspr   4, 19
    std     4, {DAR}(3)
    mfspr   4, 18
    std     4, {DSISR}(3)
    mfmsr   4
    std     4, {ARRIVAL}(3)
    ld      1, {HOST_R1}(3)
    li      3, 1

# --- leave: back to the caller with r3 as the result. Live: r1 = the frame that enter made.
leave:
    ld      4, 216(1)
    mtspr   273, 4
    ld      4, 208(1)
    mtspr   27, 4
    lis     4, 1f@ha
    addi    4, 4, 1f@l
    mtspr   26, 4
    rfid
1:  .irp n, 14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
    ld      \n, 32+8*(\n-14)(1)
    .endr
    ld      4, 176(1)
    mtcrf   0xff, 4
    ld      2, 184(1)
    ld      13, 192(1)
    addi    1, 1, 240
    ld      0, 16(1)
    mtlr    0
    blr

# --- enter: what rt_run and rt_guard do first. r3 = Context; clobbers r0, r6.
.macro enter
    mflr    0
    std     0, 16(1)
    stdu    1, -240(1)
    .irp n, 14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
    std     \n, 32+8*(\n-14)(1)
    .endr
    mfcr    6
    std     6, 176(1)
    std     2, 184(1)
    std     13, 192(1)
    mfmsr   6
    std     6, 208(1)
    mfspr   6, 273
    std     6, 216(1)
    std     1, {HOST_R1}(3)
.endm

# --- u64 rt_run(Context *r3): run from Context.pc until an interrupt; returns 1.
    .globl  rt_run
    .type   rt_run, @function
rt_run:
    enter
    li      4, 0
    mtmsrd  4, 1                    # EE = RI = 0 while SRR0 and SRR1 hold the way out
    mtspr   273, 3
    ld      4, {PC}(3)
    mtspr   26, 4
    ld      4, {MSR}(3)
    mtspr   27, 4
    ld      4, {CR}(3)
    mtcrf   0xff, 4
    ld      4, {XER}(3)
    mtxer   4
    ld      4, {CTR}(3)
    mtctr   4
    ld      4, {LR}(3)
    mtlr    4
    .irp n, 0,1,2,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
    ld      \n, {GPR}+8*\n(3)
    .endr
    ld      3, {GPR}+24(3)
    rfid
    .size   rt_run, . - rt_run

# --- u64 rt_guard(Context *r3, fn(*mut u8) r4, *mut u8 r5): call the function; 0 when it returned,
# 1 when an interrupt ended it, which the Context then describes.
    .globl  rt_guard
    .type   rt_guard, @function
rt_guard:
    enter
    mtspr   273, 3
    mr      12, 4
    mtctr   4
    mr      3, 5
    bctrl
    ld      2, 184(1)
    li      3, 0
    mtmsrd  3, 1                    # EE = RI = 0: leave uses SRR0 and SRR1
    b       leave
    .size   rt_guard, . - rt_guard

# --- void rt_hcall(u64 r3[10]): in: number, r4..r12; out: r3..r11.
    .globl  rt_hcall
    .type   rt_hcall, @function
rt_hcall:
    std     31, -8(1)
    stdu    1, -64(1)
    mr      31, 3
    ld      4, 8(31)
    ld      5, 16(31)
    ld      6, 24(31)
    ld      7, 32(31)
    ld      8, 40(31)
    ld      9, 48(31)
    ld      10, 56(31)
    ld      11, 64(31)
    ld      12, 72(31)
    ld      3, 0(31)
    sc      1
    std     3, 0(31)
    std     4, 8(31)
    std     5, 16(31)
    std     6, 24(31)
    std     7, 32(31)
    std     8, 40(31)
    std     9, 48(31)
    std     10, 56(31)
    std     11, 64(31)
    addi    1, 1, 64
    ld      31, -8(1)
    blr
    .size   rt_hcall, . - rt_hcall

# --- void rt_vsx_load(const u8 r3[64][16]), void rt_vsx_store(u8 r3[64][16]): all 64 vector-scalar
# registers, with the facilities on for the time of the copy. Clobbers r0, r4, r5.
.macro vsx_on
    mfmsr   4
    mr      5, 4
    ori     5, 5, 0x2000            # FP
    oris    5, 5, 0x0280            # VEC, VSX
    mtmsrd  5
    isync
.endm
    .globl  rt_vsx_load
    .type   rt_vsx_load, @function
rt_vsx_load:
    vsx_on
    .irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31,32,33,34,35,36,37,38,39,40,41,42,43,44,45,46,47,48,49,50,51,52,53,54,55,56,57,58,59,60,61,62,63
    lxv     \n, 16*\n(3)
    .endr
    mtmsrd  4
    isync
    blr
    .size   rt_vsx_load, . - rt_vsx_load
    .globl  rt_vsx_store
    .type   rt_vsx_store, @function
rt_vsx_store:
    vsx_on
    .irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31,32,33,34,35,36,37,38,39,40,41,42,43,44,45,46,47,48,49,50,51,52,53,54,55,56,57,58,59,60,61,62,63
    stxv    \n, 16*\n(3)
    .endr
    mtmsrd  4
    isync
    blr
    .size   rt_vsx_store, . - rt_vsx_store

# --- u64 rt_fpscr(void): FPSCR, through f0, which is kept.
    .globl  rt_fpscr
    .type   rt_fpscr, @function
rt_fpscr:
    vsx_on
    stfd    0, -16(1)
    mffs    0
    stfd    0, -8(1)
    lfd     0, -16(1)
    mtmsrd  4
    isync
    ld      3, -8(1)
    blr
    .size   rt_fpscr, . - rt_fpscr
