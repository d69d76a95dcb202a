// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The special purpose registers that a virtual processor runs with, in one table.
//!
//! They stay in the machine while the hypervisor works for the guest, and are dealt with only when
//! another virtual processor takes the thread. The table says whose each register is and what
//! happens to it then; start, save, load and the self tests all follow it, so a register cannot be
//! saved and not restored, or restored and not reset.
//!
//! Rows stand in the order in which they are loaded and saved. The two that let the performance
//! monitor count are loaded last and saved first: it stands still while the others move.
//!
//! Not here: what the entry code moves (GPRs, LR, CTR, XER, CR, CFAR, PC, MSR), the decrementer
//! (kept as an absolute time, see [`crate::switch`]), LPCR and LPIDR (the hypervisor's, with an
//! order of their own).
//!
//! Power ISA 3.0B and 3.1, Appendix: Special Purpose Registers; POWER9 and POWER10 Processor
//! User's Manuals, Special Purpose Registers.

#[cfg(test)]
mod tests;

use super::{Hfscr, Processor};
use crate::bits::ppc_bit;

/// MMCR0\[FC\]: all counters are frozen.
const MMCR0_FC: u64 = 0x8000_0000;
/// MMCR0\[PMCCEXT\] (ISA 3.1): problem state may read less of the monitor.
const MMCR0_PMCCEXT: u64 = 0x200;
/// MMCRA\[BHRBRD\] (ISA 3.1): the branch history is not recorded.
const MMCRA_BHRBRD: u64 = ppc_bit(26);
/// PPR: medium priority, at which programs start.
const PPR_MEDIUM: u64 = 4 << 50;
/// CTRL: the run latch.
const CTRL_RUN: u64 = 1;
/// PSSCR with EC and ESL: a `stop` of the guest's asks for more than a guest may, and so becomes
/// an exit (facility unavailable) instead of a power-saving state of its own choice (Power ISA
/// 3.0B, Book III, Processor Stop Status and Control Register).
pub const PSSCR_FORBIDDEN: u64 = 0x0030_0000;

/// What HDSISR holds while a guest runs. POWER9 may take a hypervisor data storage interrupt for a
/// prefetch and set neither HDAR nor HDSISR: finding this value means that nothing happened.
pub const HDSISR_CANARY: u64 = 0x7fff;

/// What happens to a register when a virtual processor comes and goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// The guest's: saved when its virtual processor leaves the thread, loaded when it is back.
    Switched {
        /// What a fresh virtual processor finds.
        start: u64,
        /// What stands in the register while no virtual processor is on the thread; `None` leaves
        /// the last value, which then has no effect on anything.
        parked: Option<u64>,
    },
    /// The hypervisor's, and the same for all guests: written whenever one is loaded.
    Fixed(u64),
}

impl Policy {
    const fn switched(start: u64) -> Self {
        Self::Switched {
            start,
            parked: None,
        }
    }

    const fn parked(start: u64, parked: u64) -> Self {
        Self::Switched {
            start,
            parked: Some(parked),
        }
    }
}

/// Calls `$callback` with the rows of the table:
/// `Variant: number to read, number to write, on which processors, policy on POWER9, on POWER10;`
macro_rules! with_vcpu_sprs {
    ($callback:ident) => {
        $callback! {
            // How the guest runs, by the hypervisor's will.
            Pcr: PCR, PCR, All, Policy::Fixed(0), Policy::Fixed(0);
            Amor: AMOR, AMOR, All, Policy::Fixed(u64::MAX), Policy::Fixed(u64::MAX);
            Hfscr: HFSCR, HFSCR, All,
                Policy::Fixed(Hfscr::GUEST.bits()), Policy::Fixed(Hfscr::GUEST.bits());
            Psscr: PSSCR, PSSCR, All,
                Policy::Fixed(PSSCR_FORBIDDEN), Policy::Fixed(PSSCR_FORBIDDEN);
            Hdsisr: HDSISR, HDSISR, All,
                Policy::Fixed(HDSISR_CANARY), Policy::Fixed(HDSISR_CANARY);

            // What it counts by.
            Vtb: VTB, VTB, All, Policy::switched(0), Policy::switched(0);
            Purr: PURR, PURR, All, Policy::switched(0), Policy::switched(0);
            Spurr: SPURR, SPURR, All, Policy::switched(0), Policy::switched(0);
            Ic: IC, IC, All, Policy::switched(0), Policy::switched(0);

            // Its own.
            Dscr: DSCR, DSCR, All, Policy::switched(0), Policy::switched(0);
            Dsisr: DSISR, DSISR, All, Policy::switched(0), Policy::switched(0);
            Dar: DAR, DAR, All, Policy::switched(0), Policy::switched(0);
            Srr0: SRR0, SRR0, All, Policy::switched(0), Policy::switched(0);
            Srr1: SRR1, SRR1, All, Policy::switched(0), Policy::switched(0);
            Amr: AMR, AMR, All, Policy::switched(0), Policy::switched(0);
            Iamr: IAMR, IAMR, All, Policy::switched(0), Policy::switched(0);
            Uamor: UAMOR, UAMOR, All, Policy::switched(0), Policy::switched(0);
            Pidr: PIDR, PIDR, All, Policy::switched(0), Policy::switched(0);
            Tidr: TIDR, TIDR, Power9, Policy::switched(0), Policy::switched(0);
            Fscr: FSCR, FSCR, All, Policy::switched(0), Policy::switched(0);
            Pspb: PSPB, PSPB, All, Policy::switched(0), Policy::switched(0);
            Ppr: PPR, PPR, All,
                Policy::parked(PPR_MEDIUM, PPR_MEDIUM), Policy::parked(PPR_MEDIUM, PPR_MEDIUM);
            Ctrl: CTRL_READ, CTRL_WRITE, All,
                Policy::parked(CTRL_RUN, CTRL_RUN), Policy::parked(CTRL_RUN, CTRL_RUN);
            Dpdes: DPDES, DPDES, All, Policy::parked(0, 0), Policy::parked(0, 0);
            Vrsave: VRSAVE, VRSAVE, All, Policy::switched(0), Policy::switched(0);
            Sprg0: SPRG0, SPRG0, All, Policy::switched(0), Policy::switched(0);
            Sprg1: SPRG1, SPRG1, All, Policy::switched(0), Policy::switched(0);
            Sprg2: SPRG2, SPRG2, All, Policy::switched(0), Policy::switched(0);
            Sprg3: SPRG3, SPRG3, All, Policy::switched(0), Policy::switched(0);
            Tar: TAR, TAR, All, Policy::switched(0), Policy::switched(0);
            Ebbhr: EBBHR, EBBHR, All, Policy::switched(0), Policy::switched(0);
            Ebbrr: EBBRR, EBBRR, All, Policy::switched(0), Policy::switched(0);
            Bescr: BESCR, BESCR, All, Policy::switched(0), Policy::switched(0);
            Dexcr: DEXCR, DEXCR, Power10, Policy::switched(0), Policy::switched(0);
            Hashkeyr: HASHKEYR, HASHKEYR, Power10, Policy::switched(0), Policy::switched(0);
            Hashpkeyr: HASHPKEYR, HASHPKEYR, Power10, Policy::switched(0), Policy::switched(0);

            // Breakpoints: chosen by the guest through H_SET_MODE, and never to match while the
            // hypervisor has the thread to itself. An address is loaded before what arms it.
            Ciabr: CIABR, CIABR, All, Policy::parked(0, 0), Policy::parked(0, 0);
            Dawr0: DAWR0, DAWR0, All, Policy::switched(0), Policy::switched(0);
            Dawrx0: DAWRX0, DAWRX0, All, Policy::parked(0, 0), Policy::parked(0, 0);
            Dawr1: DAWR1, DAWR1, Power10, Policy::switched(0), Policy::switched(0);
            Dawrx1: DAWRX1, DAWRX1, Power10, Policy::parked(0, 0), Policy::parked(0, 0);

            // The performance monitor, what lets it count last.
            Pmc1: PMC1, PMC1, All, Policy::switched(0), Policy::switched(0);
            Pmc2: PMC2, PMC2, All, Policy::switched(0), Policy::switched(0);
            Pmc3: PMC3, PMC3, All, Policy::switched(0), Policy::switched(0);
            Pmc4: PMC4, PMC4, All, Policy::switched(0), Policy::switched(0);
            Pmc5: PMC5, PMC5, All, Policy::switched(0), Policy::switched(0);
            Pmc6: PMC6, PMC6, All, Policy::switched(0), Policy::switched(0);
            Siar: SIAR, SIAR, All, Policy::switched(0), Policy::switched(0);
            Sdar: SDAR, SDAR, All, Policy::switched(0), Policy::switched(0);
            Sier: SIER, SIER, All, Policy::switched(0), Policy::switched(0);
            Sier2: SIER2, SIER2, Power10, Policy::switched(0), Policy::switched(0);
            Sier3: SIER3, SIER3, Power10, Policy::switched(0), Policy::switched(0);
            Mmcr1: MMCR1, MMCR1, All, Policy::switched(0), Policy::switched(0);
            Mmcr2: MMCR2, MMCR2, All, Policy::switched(0), Policy::switched(0);
            Mmcr3: MMCR3, MMCR3, Power10, Policy::switched(0), Policy::switched(0);
            Mmcra: MMCRA, MMCRA, All,
                Policy::parked(0, 0), Policy::parked(MMCRA_BHRBRD, MMCRA_BHRBRD);
            Mmcr0: MMCR0, MMCR0, All,
                Policy::parked(MMCR0_FC, MMCR0_FC),
                Policy::parked(MMCR0_FC | MMCR0_PMCCEXT, MMCR0_FC | MMCR0_PMCCEXT);
        }
    };
}
#[cfg(target_os = "none")]
pub(crate) use with_vcpu_sprs;

/// Which processors have a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum On {
    All,
    Power9,
    Power10,
}

macro_rules! define {
    ($($variant:ident: $read:ident, $write:ident, $on:ident, $p9:expr, $p10:expr;)*) => {
        /// A register of the table, by its name in the ISA.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[expect(missing_docs, reason = "the names are the registers'")]
        pub enum VcpuSpr {
            $($variant,)*
        }

        impl VcpuSpr {
            /// The rows, in the order in which they are loaded.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The numbers by which the register is read and written.
            #[must_use]
            pub const fn numbers(self) -> [u16; 2] {
                match self {
                    $(Self::$variant => [super::sprn::$read, super::sprn::$write],)*
                }
            }

            const fn on(self) -> On {
                match self {
                    $(Self::$variant => On::$on,)*
                }
            }

            /// What happens to it on this processor.
            #[must_use]
            pub const fn policy(self, processor: Processor) -> Policy {
                match (self, processor) {
                    $(
                        (Self::$variant, Processor::Power9) => $p9,
                        (Self::$variant, Processor::Power10) => $p10,
                    )*
                }
            }
        }
    };
}
with_vcpu_sprs!(define);

impl VcpuSpr {
    /// How many rows there are.
    pub const COUNT: usize = Self::ALL.len();

    /// The registers that let the performance monitor count: the table's last two.
    pub const MONITOR_CONTROL: [Self; 2] = [Self::Mmcra, Self::Mmcr0];

    /// Whether the processor has the register.
    #[must_use]
    pub const fn exists_on(self, processor: Processor) -> bool {
        matches!(
            (self.on(), processor),
            (On::All, _) | (On::Power9, Processor::Power9) | (On::Power10, Processor::Power10)
        )
    }

    /// The rows of this processor, in the order in which they are loaded.
    pub fn of(processor: Processor) -> impl Iterator<Item = Self> {
        let here = move |spr: &Self| spr.exists_on(processor);
        Self::ALL.iter().copied().filter(here)
    }
}

const _: () = {
    let [a, b] = VcpuSpr::MONITOR_CONTROL;
    assert!(a as usize == VcpuSpr::COUNT - 2 && b as usize == VcpuSpr::COUNT - 1);
};
