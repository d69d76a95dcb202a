// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tests on device trees that firmware made under QEMU, a hand-made one, and broken ones.
//!
//! `tests/data/*.dtb` are skiboot's own output on powernv9 and powernv10; `talos-like.dtb` is
//! made of the `.dts` beside it by `dtc -b 0x802`.

extern crate std;

use super::*;
use penstock_arch::fake::unless_miri;
use proptest::prelude::*;
use std::string::ToString;
use std::vec::Vec;

const POWERNV9: &[u8] = include_bytes!("../../tests/data/powernv9-smp2.dtb");
const POWERNV10: &[u8] = include_bytes!("../../tests/data/powernv10-smp2.dtb");
const TALOS_LIKE: &[u8] = include_bytes!("../../tests/data/talos-like.dtb");

fn pairs(ranges: &[HostRange]) -> Vec<(u64, u64)> {
    ranges
        .iter()
        .map(|range| (range.start().get(), range.end().get()))
        .collect()
}

fn range(start: u64, bytes: u64) -> HostRange {
    HostRange::new(HostReal::new(start), bytes).unwrap()
}

fn segment(base_shift: u32, slb_encoding: u32, actual: &[(u32, u32)]) -> SegmentPageSize {
    let actual = actual
        .iter()
        .map(|&(shift, pte_encoding)| PageEncoding {
            shift,
            pte_encoding,
        })
        .collect();
    SegmentPageSize {
        base_shift,
        slb_encoding,
        actual,
    }
}

/// What both of QEMU's machines have in common.
fn check_powernv(info: &BootInfo<'_>) {
    assert_eq!(pairs(&info.memory), [(0, 0x8000_0000)]);
    assert_eq!(
        info.consoles.as_slice(),
        [Console {
            id: 0,
            write_buffer_bytes: 0x1000
        }]
        .as_slice()
    );
    assert_eq!(
        info.opal,
        Opal {
            base: HostReal::new(0x3000_0000),
            entry: HostReal::new(0x3000_3770),
            runtime_bytes: 0x01c3_8000,
        }
    );
    assert_eq!(info.bootargs, "hello=1");
    assert_eq!(info.initrd, Some(range(0x2800_0000, 3)));
    assert_eq!(info.fw_features, None);
    assert_eq!(info.fw_feature("needs-l1d-flush-msr-hv-1-to-0"), None);

    let cores: Vec<_> = info
        .cores
        .iter()
        .map(|core| (core.pir, core.chip, core.threads.as_slice().to_vec()))
        .collect();
    assert_eq!(
        cores,
        [(0, Some(0), Vec::from([0])), (4, Some(0), Vec::from([4]))]
    );
    assert_eq!(info.cpu.timebase_hz, 512_000_000);
    assert_eq!(info.cpu.clock_hz, 1_000_000_000);
    assert_eq!(info.cpu.slb_entries, 32);
    assert_eq!(info.cpu.dec_bits, 56);
    assert_eq!(
        info.cpu.page_sizes.as_slice(),
        [
            segment(12, 0, &[(12, 0), (16, 7), (24, 0x38)]),
            segment(16, 0x110, &[(16, 1), (24, 8)]),
            segment(24, 0x100, &[(24, 0)]),
            segment(34, 0x120, &[(34, 3)]),
        ]
        .as_slice()
    );
    assert_eq!(
        info.cpu.caches,
        Caches {
            d_line: 128,
            d_block: 128,
            d_size: 32768,
            i_line: 128,
            i_block: 128,
            i_size: 32768,
        }
    );

    assert_eq!(
        info.xive.tima,
        TimaPages {
            hardware: range(0x6_0302_0318_0000, 0x1_0000),
            hypervisor: range(0x6_0302_0319_0000, 0x1_0000),
            os: range(0x6_0302_031a_0000, 0x1_0000),
            user: range(0x6_0302_031b_0000, 0x1_0000),
        }
    );
    assert_eq!(info.xive.queue_sizes_log2.as_slice(), [12, 16, 21, 24]);
    assert_eq!(info.xive.priorities, 8);
    assert_eq!(info.xive.provision_page_bytes, 0x1_0000);
    assert_eq!(info.xive.provision_chips.as_slice(), [0]);
    assert!(info.xive.single_escalation);

    assert_eq!(info.phbs.len(), 6);
    assert_eq!(
        info.phbs[0],
        Phb {
            opal_id: 0,
            chip: Some(0),
            registers: range(0x6_00c3_c000_0000, 0x1000),
            num_pes: 512,
            reserved_pe: Some(511),
            msi: Some(MsiRange {
                first: 0xf_e000,
                count: 0xff8
            }),
            mem32: Some(PciWindow {
                pci: 0x8000_0000,
                host: range(0x6_00c0_0000_0000, 0x7fff_0000),
            }),
            mem64: Some(PciWindow {
                pci: 0x6_0000_0000_0000,
                host: range(0x6_0000_0000_0000, 0x40_0000_0000),
            }),
            mem64_segments: Some((1, 31)),
            tce_page_shifts: [12, 16, 21, 30].into_iter().collect(),
        }
    );
    let ids: Vec<_> = info
        .phbs
        .iter()
        .map(|phb| (phb.opal_id, phb.num_pes))
        .collect();
    assert_eq!(
        ids,
        [(0, 512), (1, 256), (2, 256), (3, 512), (4, 256), (5, 256)]
    );
}

#[test]
fn powernv9() {
    let info = parse(POWERNV9).unwrap();
    check_powernv(&info);
    // The five areas inside memory touch each other and become one range.
    assert_eq!(
        pairs(&info.reserved),
        [
            (0x3000_0000, 0x32c2_2000),
            (0x203f_fd80_0000, 0x203f_fdc0_0000),
            (0x203f_ff80_0000, 0x2040_0000_0000),
        ]
    );
    assert_eq!(info.cpu.cpu_version, Some(0x004e_1202));
    assert!(!info.xive.store_eoi);
    assert!(!info.xive.vp_save_restore);
}

#[test]
fn powernv10() {
    let info = parse(POWERNV10).unwrap();
    check_powernv(&info);
    assert_eq!(
        pairs(&info.reserved),
        [
            (0x3000_0000, 0x3438_2000),
            (0x300f_fd80_0000, 0x300f_fdc0_0000),
            (0x300f_ff80_0000, 0x3010_0000_0000),
        ]
    );
    assert_eq!(info.cpu.cpu_version, Some(0x0080_1200));
    assert!(info.xive.store_eoi);
    assert!(info.xive.vp_save_restore);
}

#[test]
fn two_chips_with_broken_parts() {
    let info = parse(TALOS_LIKE).unwrap();
    assert_eq!(
        pairs(&info.memory),
        [(0, 0x3_0000_0000), (0x2000_0000_0000, 0x2001_8000_0000)],
        "neighbours and overlaps merge, disabled memory is left out"
    );
    assert_eq!(
        pairs(&info.reserved),
        [
            (0x3000_0000, 0x3070_0000),
            (0x4000_0000, 0x4010_0000),
            (0x1_ffd0_0000, 0x1_ffe0_0000),
        ]
    );
    assert_eq!(
        info.initrd,
        Some(range(0x20_0000_1000, 0x8000)),
        "64-bit addresses"
    );
    assert_eq!(info.bootargs, "");
    assert_eq!(info.boot_cpu, 0x802);
    assert_eq!(
        info.cores.iter().map(|core| core.pir).collect::<Vec<_>>(),
        [8, 0x800]
    );
    assert_eq!(
        info.cores[1].threads.as_slice(),
        [0x800, 0x801, 0x802, 0x803]
    );
    assert_eq!(info.cores[1].chip, Some(8));
    assert_eq!(
        info.cpu.slb_entries, 16,
        "the boot CPU's core, not the first"
    );
    assert_eq!(info.cpu.clock_hz, 0);
    assert_eq!(info.cpu.caches, Caches::default());
    assert_eq!(info.consoles.len(), 2);
    assert_eq!(
        info.consoles[1],
        Console {
            id: 1,
            write_buffer_bytes: 0x100
        }
    );
    assert!(info.phbs.is_empty());
    assert_eq!(info.xive.provision_chips.as_slice(), [0, 8]);
    assert!(!info.xive.single_escalation);
    let features = info.fw_features.as_ref().unwrap();
    assert_eq!(features.len(), 3);
    assert_eq!(
        info.fw_feature("needs-l1d-flush-msr-hv-1-to-0"),
        Some(FwFeatureState::Enabled)
    );
    assert_eq!(
        info.fw_feature("fw-bcctrl-serialized"),
        Some(FwFeatureState::Disabled)
    );
    assert_eq!(info.fw_feature("says-nothing"), None);
}

#[test]
fn an_initrd_that_ends_before_it_starts_is_an_error() {
    let with_end = |end: u32| {
        let mut tree = POWERNV9.to_vec();
        let old = 0x2800_0003_u32.to_be_bytes();
        let at = tree.windows(4).position(|window| window == old).unwrap();
        tree[at..at + 4].copy_from_slice(&end.to_be_bytes());
        parse(&tree)
            .map(|info| info.initrd)
            .map_err(|error| error.to_string())
    };
    assert_eq!(with_end(0x2800_0000), Ok(None), "empty");
    assert_eq!(
        with_end(0x27ff_ffff),
        Err("firmware's device tree: chosen has a linux,initrd-end that cannot be used".into())
    );
}

/// The tree with every `name` (of a property or node) replaced, which must be of the same length.
fn renamed(tree: &[u8], name: &str, other: &str) -> Vec<u8> {
    assert_eq!(name.len(), other.len());
    let mut tree = tree.to_vec();
    let name = std::format!("{name}\0");
    let places: Vec<_> = tree
        .windows(name.len())
        .enumerate()
        .filter_map(|(at, window)| (window == name.as_bytes()).then_some(at))
        .collect();
    assert!(!places.is_empty());
    for at in places {
        tree[at..at + other.len()].copy_from_slice(other.as_bytes());
    }
    tree
}

#[test]
fn what_is_missing_is_named() {
    let error = |name: &str, other: &str| {
        parse(&renamed(POWERNV9, name, other))
            .map(|_| ())
            .unwrap_err()
            .to_string()
    };
    let tree = "firmware's device tree";
    assert_eq!(
        error("ibm,opal", "ibm,oqal"),
        std::format!("{tree} has no /ibm,opal")
    );
    assert_eq!(error("cpus", "cqus"), std::format!("{tree} has no /cpus"));
    assert_eq!(
        error("memory", "memorz"),
        std::format!("{tree} has no memory")
    );
    assert_eq!(
        error("ibm,opal-xive-pe", "ibm,opal-xive-qe"),
        std::format!("{tree} has no XIVE interrupt controller")
    );
    assert_eq!(
        error("opal-entry-address", "opal-entry-addresz"),
        std::format!("{tree}: ibm,opal has no opal-entry-address")
    );
    assert_eq!(
        error("timebase-frequency", "timebase-frequencz"),
        std::format!("{tree}: PowerPC,POWER9@0 has no timebase-frequency")
    );
    assert_eq!(
        error("ibm,pa-features", "clock-frequency"),
        std::format!("{tree}: PowerPC,POWER9@0 has a clock-frequency that cannot be used"),
        "68 bytes are no number"
    );
}

#[test]
fn lists_that_are_too_long_are_errors_with_the_capacity() {
    let tree = FlatTree::new(POWERNV9).unwrap();
    assert_eq!(
        reserved::<2>(&tree),
        Err(BootError::TooMany {
            what: "reserved ranges of memory",
            capacity: 2
        })
    );
    assert_eq!(
        phbs::<5>(&tree.root()),
        Err(BootError::TooMany {
            what: "PCI host bridges",
            capacity: 5
        })
    );
    assert_eq!(
        processors::<1>(&tree.root(), 0).map(|_| ()),
        Err(BootError::TooMany {
            what: "cores",
            capacity: 1
        })
    );
}

#[test]
fn every_truncation_is_an_error() {
    for tree in [POWERNV9, POWERNV10, TALOS_LIKE] {
        for length in 0..tree.len() {
            assert!(parse(&tree[..length]).is_err(), "{length} bytes");
        }
    }
}

/// A tree that says it is as short as it is, as a broken copy would.
#[test]
fn shorter_trees_that_admit_it_never_panic() {
    for length in (40..TALOS_LIKE.len()).step_by(unless_miri(4, 404)) {
        let mut tree = TALOS_LIKE[..length].to_vec();
        tree[4..8].copy_from_slice(&u32::try_from(length).unwrap().to_be_bytes());
        assert!(parse(&tree).is_err(), "{length} bytes");
    }
}

fn cases() -> ProptestConfig {
    let cases = std::env::var("PENSTOCK_CASES")
        .ok()
        .and_then(|text| text.parse().ok());
    ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(cases.unwrap_or(512))
    }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn mutated_trees_never_panic(
        which in 0..3_usize,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5),
    ) {
        let mut tree = [POWERNV9, POWERNV10, TALOS_LIKE][which].to_vec();
        for (index, value) in changes {
            let index = index.index(tree.len());
            tree[index] = value;
        }
        match parse(&tree) {
            Ok(info) => {
                let sorted = info.reserved.windows(2).all(|pair| pair[0].end() < pair[1].start());
                prop_assert!(sorted);
                prop_assert!(!info.memory.is_empty());
            }
            Err(error) => prop_assert!(!error.to_string().contains('\n')),
        }
    }

    /// Words are likelier than bytes to be lengths and offsets that almost fit.
    #[test]
    fn trees_with_a_changed_word_never_panic(
        word in any::<prop::sample::Index>(),
        value in prop_oneof![any::<u32>(), 0..64_u32, Just(u32::MAX), Just(i32::MAX as u32)],
    ) {
        let mut tree = TALOS_LIKE.to_vec();
        let at = 4 * word.index(tree.len() / 4);
        tree[at..at + 4].copy_from_slice(&value.to_be_bytes());
        let _ = parse(&tree);
    }
}
