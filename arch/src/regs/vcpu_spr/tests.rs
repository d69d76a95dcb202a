// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The table against the ISA's list of registers.

use super::*;
use crate::fake::RecordingThread;
use crate::hash::Lpid;
use crate::regs::Lpcr;
use crate::switch::{FirstEntry, ParkedState, enter, leave};

/// How a register that a guest reaches is kept apart from other guests'.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kept {
    /// By the table.
    Table(VcpuSpr),
    /// It is another name, or a part, of one in the table.
    Alias(VcpuSpr),
    /// By the entry code.
    Entry,
    /// The decrementer, as an absolute time.
    Expiry,
    /// The same for everybody, and no guest can write it.
    Constant,
    /// The facility is off for guests: design decision 18.
    Refused,
}

use Kept::{Alias, Constant, Entry, Expiry, Refused, Table};
use VcpuSpr as S;

/// Every register that problem state or a guest's kernel may name (Power ISA 3.1, Appendix:
/// Special Purpose Registers; those of ISA 3.0 that 3.1 dropped too). Numbers that a guest's
/// mtspr or mfspr would trap on, or that do nothing, are not here: WORT and ACOP, for instance, are
/// no longer implemented.
const GUEST: &[(u16, Kept)] = &[
    (1, Entry), // XER
    (3, Alias(S::Dscr)),
    (8, Entry), // LR
    (9, Entry), // CTR
    (13, Alias(S::Amr)),
    (17, Table(S::Dscr)),
    (18, Table(S::Dsisr)),
    (19, Table(S::Dar)),
    (22, Expiry), // DEC
    (26, Table(S::Srr0)),
    (27, Table(S::Srr1)),
    (28, Entry), // CFAR
    (29, Table(S::Amr)),
    (48, Table(S::Pidr)),
    (61, Table(S::Iamr)),
    (128, Refused), // TFHAR
    (129, Refused), // TFIAR
    (130, Refused), // TEXASR
    (131, Refused), // TEXASRU
    (136, Table(S::Ctrl)),
    (144, Table(S::Tidr)),
    (152, Table(S::Ctrl)),
    (153, Table(S::Fscr)),
    (157, Table(S::Uamor)),
    (159, Table(S::Pspb)),
    (176, Table(S::Dpdes)),
    (256, Table(S::Vrsave)),
    (259, Alias(S::Sprg3)),
    (268, Constant), // TB
    (269, Constant), // TBU
    (272, Table(S::Sprg0)),
    (273, Table(S::Sprg1)),
    (274, Table(S::Sprg2)),
    (275, Table(S::Sprg3)),
    (287, Constant), // PVR
    (308, Table(S::Spurr)),
    (309, Table(S::Purr)),
    (446, Constant), // TIR
    (468, Table(S::Hashkeyr)),
    (469, Table(S::Hashpkeyr)),
    (736, Alias(S::Sier2)),
    (737, Alias(S::Sier3)),
    (738, Alias(S::Mmcr3)),
    (752, Table(S::Sier2)),
    (753, Table(S::Sier3)),
    (754, Table(S::Mmcr3)),
    (768, Alias(S::Sier)),
    (769, Alias(S::Mmcr2)),
    (770, Alias(S::Mmcra)),
    (771, Alias(S::Pmc1)),
    (772, Alias(S::Pmc2)),
    (773, Alias(S::Pmc3)),
    (774, Alias(S::Pmc4)),
    (775, Alias(S::Pmc5)),
    (776, Alias(S::Pmc6)),
    (779, Alias(S::Mmcr0)),
    (780, Alias(S::Siar)),
    (781, Alias(S::Sdar)),
    (782, Alias(S::Mmcr1)),
    (784, Table(S::Sier)),
    (785, Table(S::Mmcr2)),
    (786, Table(S::Mmcra)),
    (787, Table(S::Pmc1)),
    (788, Table(S::Pmc2)),
    (789, Table(S::Pmc3)),
    (790, Table(S::Pmc4)),
    (791, Table(S::Pmc5)),
    (792, Table(S::Pmc6)),
    (795, Table(S::Mmcr0)),
    (796, Table(S::Siar)),
    (797, Table(S::Sdar)),
    (798, Table(S::Mmcr1)),
    (800, Alias(S::Bescr)),
    (801, Alias(S::Bescr)),
    (802, Alias(S::Bescr)),
    (803, Alias(S::Bescr)),
    (804, Table(S::Ebbhr)),
    (805, Table(S::Ebbrr)),
    (806, Table(S::Bescr)),
    (812, Alias(S::Dexcr)),
    (815, Table(S::Tar)),
    (823, Alias(S::Psscr)),
    (828, Table(S::Dexcr)),
    (848, Table(S::Ic)),
    (849, Table(S::Vtb)),
    (896, Table(S::Ppr)),
    (898, Alias(S::Ppr)),
    (1023, Constant), // PIR
];

/// Registers of the hypervisor's that act on the guest on the thread.
const HYPERVISOR: &[(u16, VcpuSpr)] = &[
    (180, S::Dawr0),
    (181, S::Dawr1),
    (187, S::Ciabr),
    (188, S::Dawrx0),
    (189, S::Dawrx1),
    (190, S::Hfscr),
    (306, S::Hdsisr),
    (338, S::Pcr),
    (349, S::Amor),
    (855, S::Psscr),
];

const PROCESSORS: [Processor; 2] = [Processor::Power9, Processor::Power10];

#[test]
fn spr_table_complete_both_directions() {
    // What a guest reaches is in the table, or has its reason not to be.
    for (i, (number, kept)) in GUEST.iter().enumerate() {
        assert!(i == 0 || GUEST[i - 1].0 < *number, "{number}: not in order");
        match kept {
            Table(spr) => {
                assert!(spr.numbers().contains(number), "{number}: {spr:?}");
                let somewhere = PROCESSORS.iter().any(|p| spr.exists_on(*p));
                assert!(somewhere, "{spr:?} exists nowhere");
                for processor in PROCESSORS {
                    let policy = spr.policy(processor);
                    assert!(matches!(policy, Policy::Switched { .. }), "{spr:?}");
                }
            }
            Alias(spr) => assert!(!spr.numbers().contains(number), "{number}: {spr:?}"),
            Entry | Expiry | Constant | Refused => {}
        }
    }
    // And the table has nothing else.
    for spr in VcpuSpr::ALL {
        for number in spr.numbers() {
            let guest = GUEST.contains(&(number, Table(*spr)));
            let hypervisor = HYPERVISOR.contains(&(number, *spr));
            assert!(guest != hypervisor, "{spr:?}, number {number}");
        }
    }
}

/// What is loaded is what was saved, and what was saved is what the guest had: for each register by
/// itself, so that none is saved to another's place.
#[test]
fn every_register_comes_back_to_its_own_guest() {
    for processor in PROCESSORS {
        let thread = RecordingThread::new(processor);
        let fresh = ParkedState::new(processor, 0);
        let value = |guest: u64, spr: VcpuSpr| guest << 32 | (spr as u64 + 1);
        let mut guests = [fresh.clone(), fresh];
        for round in 0..3 {
            for (guest, state) in (1u64..).zip(&mut guests) {
                enter(&thread, state, Lpcr::GUEST, Lpid::new(1), FirstEntry::No);
                for spr in VcpuSpr::of(processor) {
                    match spr.policy(processor) {
                        Policy::Switched { start, .. } => {
                            let expected = if round == 0 { start } else { value(guest, spr) };
                            assert_eq!(thread.peek(spr), expected, "{spr:?}");
                            thread.poke(spr, value(guest, spr));
                        }
                        // A guest that could change it must not find that the next time.
                        Policy::Fixed(fixed) => {
                            assert_eq!(thread.peek(spr), fixed, "{spr:?}");
                            thread.poke(spr, !fixed);
                        }
                    }
                }
                leave(&thread, state);
            }
        }
    }
}

#[test]
fn processors_have_their_own_registers() {
    let on = |spr: VcpuSpr| PROCESSORS.map(|p| spr.exists_on(p));
    assert_eq!(on(S::Dscr), [true, true]);
    assert_eq!(on(S::Tidr), [true, false]);
    for spr in [S::Dexcr, S::Hashkeyr, S::Hashpkeyr, S::Dawr1, S::Dawrx1] {
        assert_eq!(on(spr), [false, true]);
    }
    for spr in [S::Mmcr3, S::Sier2, S::Sier3] {
        assert_eq!(on(spr), [false, true]);
    }
    assert_eq!(VcpuSpr::of(Processor::Power9).count(), 49);
    assert_eq!(VcpuSpr::of(Processor::Power10).count(), 56);
}

#[test]
fn a_fresh_guest_has_nothing_armed() {
    for processor in PROCESSORS {
        let fresh = ParkedState::new(processor, 0);
        for spr in [S::Ciabr, S::Dawr0, S::Dawrx0, S::Dawr1, S::Dawrx1, S::Dpdes] {
            assert_eq!(fresh.spr(spr), 0, "{spr:?}");
        }
        assert_eq!(fresh.spr(S::Mmcr0) & 0x8000_0000, 0x8000_0000);
        assert_eq!(fresh.spr(S::Ctrl), 1);
        assert_eq!(fresh.spr(S::Ppr), 0x0010_0000_0000_0000);
    }
    let power10 = ParkedState::new(Processor::Power10, 0);
    assert_eq!(power10.spr(S::Mmcr0), 0x8000_0200);
    assert_eq!(power10.spr(S::Mmcra), 0x20_0000_0000);
}
