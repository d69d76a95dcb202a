// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The node of a processor: its level, its features and its page sizes.

use super::*;
use alloc::vec;

#[test]
fn processor_is_one_thread_of_the_architecture_level() {
    with_tree(
        |_| (),
        |root| {
            assert_eq!(cells(&root, "cpus", "#address-cells"), [1]);
            assert_eq!(cells(&root, "cpus", "#size-cells"), [0]);
            assert_eq!(text(&root, CPU, "device_type"), "cpu");
            assert_eq!(text(&root, CPU, "status"), "okay");
            assert!(is_flag(&root, CPU, "64-bit"));
            for (name, value) in [
                ("reg", vec![0]),
                ("cpu-version", vec![0x0f00_0005]),
                ("ibm,ppc-interrupt-server#s", vec![0]),
                ("ibm,ppc-interrupt-gserver#s", vec![0, 0]),
                ("timebase-frequency", vec![512_000_000]),
                ("clock-frequency", vec![1_000_000_000]),
                ("ibm,slb-size", vec![32]),
                ("slb-size", vec![32]),
                ("ibm,pft-size", vec![0, 22]),
                ("ibm,dec-bits", vec![56]),
                (
                    "ibm,processor-segment-sizes",
                    vec![28, 40, u32::MAX, u32::MAX],
                ),
                ("ibm,vmx", vec![2]),
                ("ibm,dfp", vec![1]),
                ("ibm,purr", vec![1]),
                ("ibm,spurr", vec![1]),
                ("d-cache-line-size", vec![128]),
                ("d-cache-block-size", vec![128]),
                ("d-cache-size", vec![0x8000]),
                ("i-cache-line-size", vec![128]),
                ("i-cache-block-size", vec![128]),
            ] {
                assert_eq!(cells(&root, CPU, name), value, "{name}");
            }
            assert_eq!(property(&root, CPU, "i-cache-size"), None, "not known");
            assert_eq!(property(&root, CPU, "ibm,processor-storage-keys"), None);
            assert_eq!(property(&root, CPU, "ibm,extended-clock-frequency"), None);
            // Radix needs these two; a hashed guest must not see them.
            assert_eq!(
                property(&root, CPU, "ibm,processor-radix-AP-encodings"),
                None
            );
            assert_eq!(property(&root, CPU, "ibm,mmu-lpid-bits"), None);
        },
    );
}

/// Bit `bit` of attribute byte `byte`; bit 0 is the most significant.
fn pa_bit(features: &[u8], byte: usize, bit: u32) -> bool {
    features[2 + byte] & (0x80 >> bit) != 0
}

#[test]
fn pa_features_leave_out_what_we_do_not_keep_up() {
    let host = FlatTree::new(POWERNV9).unwrap().root();
    let host = bytes(&host, CPU, "ibm,pa-features").to_vec();
    with_tree(
        |_| (),
        |root| {
            let features = bytes(&root, CPU, "ibm,pa-features");
            assert_eq!(features.len(), 68);
            assert_eq!(features[..2], [66, 0]);
            assert!(!pa_bit(features, 40, 0), "radix");
            assert!(!pa_bit(features, 22, 0), "transactional memory");
            assert!(pa_bit(features, 1, 2), "cache-inhibited large pages");
            assert!(pa_bit(features, 0, 2), "SLB");
            assert!(pa_bit(features, 5, 0), "little-endian");
            // All else is as the machine's own firmware says.
            let mut expected = host;
            expected[2 + 40] = 0;
            expected[2 + 22] = 0;
            assert_eq!(features, expected);
            let pi = bytes(&root, CPU, "ibm,pi-features");
            assert_eq!(pi, [1, 0, 0x08], "no doorbells between threads");
        },
    );
}

#[test]
fn power10_has_its_own_level() {
    let host = FlatTree::new(include_bytes!(
        "../../../../boot/tests/data/powernv10-smp2.dtb"
    ))
    .unwrap();
    let name = "cpus/PowerPC,POWER10@0";
    let mut expected = bytes(&host.root(), name, "ibm,pa-features").to_vec();
    assert_eq!(expected[2 + 40], 0x80);
    expected[2 + 40] = 0;
    with_tree(
        |params| {
            params.cpu.kind = CpuKind::Power10;
            params.cpu.clock_hz = 0x1_0000_0002;
            params.cpu.storage_keys = Some([32, 32]);
        },
        |root| {
            assert_eq!(cells(&root, name, "cpu-version"), [0x0f00_0006]);
            assert_eq!(bytes(&root, name, "ibm,pa-features"), expected);
            assert_eq!(cells(&root, name, "ibm,extended-clock-frequency"), [1, 2]);
            assert_eq!(cells(&root, name, "clock-frequency"), [u32::MAX]);
            assert_eq!(cells(&root, name, "ibm,processor-storage-keys"), [32, 32]);
        },
    );
}

#[test]
fn processor_kinds_come_from_the_version_register() {
    assert_eq!(CpuKind::from_pvr(0x004e_1202), Some(CpuKind::Power9));
    assert_eq!(CpuKind::from_pvr(0x0080_1200), Some(CpuKind::Power10));
    assert_eq!(CpuKind::from_pvr(0x004d_0200), None);
}

#[test]
fn page_sizes_are_those_that_backing_can_honour() {
    let host = host_page_sizes();
    for (largest, expected) in [
        (12, vec![12, 0, 1, 12, 0]),
        (16, vec![12, 0, 2, 12, 0, 16, 7, 16, 0x110, 1, 16, 1]),
        (
            24,
            vec![
                12, 0, 3, 12, 0, 16, 7, 24, 0x38, 16, 0x110, 2, 16, 1, 24, 8, 24, 0x100, 1, 24, 0,
            ],
        ),
    ] {
        let page_sizes = page_sizes_within(&host, largest);
        let params = params(&page_sizes);
        let bytes = build(&params).unwrap();
        let root = FlatTree::new(&bytes).unwrap().root();
        assert_eq!(cells(&root, CPU, "ibm,segment-page-sizes"), expected);
    }
    assert!(page_sizes_within(&host, 11).is_empty());
    assert_eq!(page_sizes_within(&host, 34).as_slice(), host.as_slice());
}
