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
    /// Thread identification.
    TIDR = 144;
    /// Virtual time base.
    VTB = 849;
}
