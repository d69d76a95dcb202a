# SPDX-License-Identifier: Apache-2.0 OR MIT
#
# Entry of a test guest, and of its second processor.
#
# On entry of the first processor the following is true (PAPR, direct boot from a flattened device
# tree):
#   1. MSR = SF | ME, IR = DR = 0; big-endian, or little-endian under a loader that likes that.
#   2. r3 = guest real address of the device tree, r5 = 0. Nothing else is promised.
# On entry of the second one (LoPAR, start-cpu) the same, but r3 = what the starter gave.
# On the call of the Rust entry the following is true:
#   1. Little-endian, 64-bit, real mode, EE = 0; r1 and r2 as the ELFv2 ABI wants them; r13 = the
#      number of the processor, 0 or 1.
#   2. bss is clear; the registers as they were on entry are in the array of 40 doublewords
#      {entry} or {second_entry}: r0-r31, MSR, LR, CTR, XER, CR. r9-r12 cannot be kept and read as 0.
#   3. FP, VMX and VSX registers hold what they held on entry.

# --- little_endian: what an entry begins with. Leaves LR in r9 and MSR in r12; clobbers r10, r11.
.macro little_endian
    # Read with the wrong byte order this word is "b .+8".
    tdi     0, 0, 0x48
    b       1f
    # Big-endian code: keep LR and MSR, and return from interrupt to label 2 with MSR[LE] = 1.
    .long   0xa602287d              # mflr  r9
    .long   0xa600807d              # mfmsr r12
    .long   0x05009f42              # bcl   20,31,.+4
    .long   0xa602687d              # mflr  r11
    .long   0x20006b39              # addi  r11,r11,0x20 (label 2)
    .long   0x01008a69              # xori  r10,r12,1
    .long   0xa6037a7d              # mtsrr0 r11
    .long   0xa6035b7d              # mtsrr1 r10
    .long   0x2400004c              # rfid
1:  mflr    9
    mfmsr   12
2:
.endm

# --- save_entry: keeps the registers in an array before anything else needs one. r11 = the array.
.macro save_entry array
    lis     11, \array@ha
    addi    11, 11, \array@l
    std     0, 0(11)
    std     1, 8(11)
    std     2, 16(11)
    std     3, 24(11)
    std     4, 32(11)
    std     5, 40(11)
    std     6, 48(11)
    std     7, 56(11)
    std     8, 64(11)
    std     13, 104(11)
    std     14, 112(11)
    std     15, 120(11)
    std     16, 128(11)
    std     17, 136(11)
    std     18, 144(11)
    std     19, 152(11)
    std     20, 160(11)
    std     21, 168(11)
    std     22, 176(11)
    std     23, 184(11)
    std     24, 192(11)
    std     25, 200(11)
    std     26, 208(11)
    std     27, 216(11)
    std     28, 224(11)
    std     29, 232(11)
    std     30, 240(11)
    std     31, 248(11)
    std     12, 256(11)
    std     9, 264(11)
    mfctr   10
    std     10, 272(11)
    mfxer   10
    std     10, 280(11)
    mfcr    10
    std     10, 288(11)
.endm

# --- stack: ABI registers, TOC and stack with a terminated back chain. Clobbers r0.
.macro stack bottom, bytes
    li      0, 0
    lis     2, .TOC.@ha
    addi    2, 2, .TOC.@l
    lis     1, \bottom@ha
    addi    1, 1, \bottom@l
    addis   1, 1, \bytes@ha
    addi    1, 1, \bytes@l
    stdu    0, -64(1)
.endm

    .section .head, "ax"
    .globl _start
    .type _start, @function
_start:
    little_endian
    save_entry {entry}

    # bss, a doubleword at a time; both ends are page-aligned.
    lis     4, __bss_start@ha
    addi    4, 4, __bss_start@l
    lis     5, __bss_end@ha
    addi    5, 5, __bss_end@l
    subf    5, 4, 5
    srdi    5, 5, 3
    mtctr   5
    li      0, 0
3:  std     0, 0(4)
    addi    4, 4, 8
    bdnz    3b

    stack   {stack}, {stack_bytes}
    li      13, 0
    bl      {main}
    nop
    trap
    .size _start, . - _start

    .text
    .balign 16
    .globl rt_second_start
    .type rt_second_start, @function
rt_second_start:
    little_endian
    save_entry {second_entry}
    stack   {second_stack}, {second_stack_bytes}
    li      13, 1
    bl      {second_main}
    nop
    trap
    .size rt_second_start, . - rt_second_start
