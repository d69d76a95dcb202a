// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Numbers of the special purpose registers that the hypervisor touches (Power ISA 3.0B,
//! Appendix: SPR numbers).

macro_rules! numbers {
    ($($(#[$doc:meta])* $name:ident = $n:expr;)*) => {
        $($(#[$doc])* pub const $name: u16 = $n;)*
    };
}

numbers! {
    /// Fixed-point exception register.
    XER = 1;
    /// Data stream control, problem-state number.
    DSCR = 17;
    /// Data storage interrupt status.
    DSISR = 18;
    /// Data address.
    DAR = 19;
    /// Decrementer.
    DEC = 22;
    /// Save/restore 0.
    SRR0 = 26;
    /// Save/restore 1.
    SRR1 = 27;
    /// Come-from address.
    CFAR = 28;
    /// Authority mask.
    AMR = 29;
    /// Instruction authority mask.
    IAMR = 61;
    /// Privileged process id.
    PIDR = 48;
    /// Control, read number.
    CTRL_READ = 136;
    /// Control, write number.
    CTRL_WRITE = 152;
    /// Facility status and control.
    FSCR = 153;
    /// User authority mask override.
    UAMOR = 157;
    /// Problem state priority boost.
    PSPB = 159;
    /// Doorbell pending exceptions.
    DPDES = 176;
    /// Data address watchpoint 0.
    DAWR0 = 180;
    /// Data address watchpoint 0 extension.
    DAWRX0 = 188;
    /// Hypervisor facility status and control.
    HFSCR = 190;
    /// Vector save/restore enable.
    VRSAVE = 256;
    /// Time base, read number.
    TB = 268;
    /// Software use 0.
    SPRG0 = 272;
    /// Software use 1.
    SPRG1 = 273;
    /// Software use 2.
    SPRG2 = 274;
    /// Software use 3.
    SPRG3 = 275;
    /// Processor version.
    PVR = 287;
    /// Hypervisor software use 0: address of this thread's `Thread`.
    HSPRG0 = 304;
    /// Hypervisor software use 1: scratch of the vectors.
    HSPRG1 = 305;
    /// Hypervisor data storage interrupt status.
    HDSISR = 306;
    /// Hypervisor data address.
    HDAR = 307;
    /// Scaled processor utilization.
    SPURR = 308;
    /// Processor utilization.
    PURR = 309;
    /// Hypervisor decrementer.
    HDEC = 310;
    /// Hypervisor real mode offset.
    HRMOR = 313;
    /// Hypervisor save/restore 0.
    HSRR0 = 314;
    /// Hypervisor save/restore 1.
    HSRR1 = 315;
    /// Logical partitioning control.
    LPCR = 318;
    /// Logical partition identifier.
    LPIDR = 319;
    /// Hypervisor maintenance exceptions.
    HMER = 336;
    /// Hypervisor maintenance exception enable.
    HMEER = 337;
    /// Processor compatibility.
    PCR = 338;
    /// Hypervisor emulation instruction.
    HEIR = 339;
    /// Authority mask override.
    AMOR = 349;
    /// Partition table control.
    PTCR = 464;
    /// Completed instruction address breakpoint.
    CIABR = 187;
    /// Workload optimisation register.
    WORT = 895;
    /// Monitor mode control 0 (privileged).
    MMCR0 = 795;
    /// Monitor mode control 2.
    MMCR2 = 785;
    /// Monitor mode control A.
    MMCRA = 786;
    /// Target address.
    TAR = 815;
    /// Access segment descriptor.
    ASDR = 816;
    /// Power save status and control.
    PSSCR = 855;
    /// Event-based branch handler.
    EBBHR = 804;
    /// Event-based branch return.
    EBBRR = 805;
    /// Branch event status and control.
    BESCR = 806;
    /// Hardware implementation dependent 0.
    HID0 = 1008;
    /// Processor identification.
    PIR = 1023;
    /// Dynamic execution control (ISA 3.1).
    DEXCR = 828;
    /// Hash key (ISA 3.1).
    HASHKEYR = 468;
    /// Privileged hash key (ISA 3.1).
    HASHPKEYR = 469;
    /// Data address watchpoint 1 (ISA 3.1).
    DAWR1 = 181;
    /// Data address watchpoint 1 extension (ISA 3.1).
    DAWRX1 = 189;
    /// Thread identification (POWER9).
    TIDR = 144;
    /// Monitor mode control 1.
    MMCR1 = 798;
    /// Monitor mode control 3 (ISA 3.1).
    MMCR3 = 754;
    /// Performance monitor counter 1.
    PMC1 = 787;
    /// Performance monitor counter 2.
    PMC2 = 788;
    /// Performance monitor counter 3.
    PMC3 = 789;
    /// Performance monitor counter 4.
    PMC4 = 790;
    /// Performance monitor counter 5.
    PMC5 = 791;
    /// Performance monitor counter 6.
    PMC6 = 792;
    /// Sampled instruction address.
    SIAR = 796;
    /// Sampled data address.
    SDAR = 797;
    /// Sampled instruction event.
    SIER = 784;
    /// Sampled instruction event 2 (ISA 3.1).
    SIER2 = 752;
    /// Sampled instruction event 3 (ISA 3.1).
    SIER3 = 753;
    /// Instruction counter.
    IC = 848;
    /// Virtual time base.
    VTB = 849;
    /// Program priority.
    PPR = 896;
}
