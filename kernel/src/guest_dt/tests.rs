// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The guest's tree, property by property, read back with a reader that is not the writer's.
//!
//! What a test calls needed was found so by starting Debian 6.12 without it; what it calls
//! forbidden broke a guest.

extern crate std;

use super::*;
use alloc::string::{String, ToString};
use alloc::vec;
use penstock_boot::bootinfo::{Caches, SegmentPageSize};
use penstock_boot::fdt;
use penstock_boot::flat_tree::{FlatTree, Node, Property};

const POWERNV9: &[u8] = include_bytes!("../../../boot/tests/data/powernv9-smp2.dtb");

fn host_page_sizes() -> Vec<SegmentPageSize> {
    fdt::parse(POWERNV9).unwrap().cpu.page_sizes.to_vec()
}

const TOKENS: &[(&str, u32)] = &[
    ("power-off", 0x2003),
    ("ibm,os-term", 0x201f),
    ("ibm,query-interrupt-source-number", 7),
];

fn params(page_sizes: &[SegmentPageSize]) -> GuestDtParams<'_> {
    GuestDtParams {
        partition_name: "debian",
        partition_number: 1,
        model: None,
        root_compatible: &[],
        uuid: None,
        memory_bytes: 0x1_2000_0000,
        bootargs: "console=hvc0 quiet",
        initrd: Some(GuestRange {
            start: GuestReal::new(0x2da_0000),
            end: GuestReal::new(0x1_0f30_0c44),
        }),
        rng_seed: None,
        vcpus: 1,
        cpu: GuestCpu {
            kind: CpuKind::Power9,
            hpt_order: 22,
            slb_entries: 32,
            dec_bits: 56,
            timebase_hz: 512_000_000,
            clock_hz: 1_000_000_000,
            page_sizes,
            caches: Caches {
                d_line: 128,
                d_block: 128,
                d_size: 0x8000,
                i_line: 128,
                i_block: 128,
                i_size: 0,
            },
            storage_keys: None,
        },
        rtas: GuestRtas {
            base: GuestReal::new(0x1fff_0000),
            bytes: 4096,
            tokens: TOKENS,
            hypertas_functions: &["hcall-pft", "hcall-set-mode"],
            error_log_max: 0x800,
            event_scan_rate: 1,
            nvram_bytes: 0x4000,
        },
        vty: Vty {
            unit: FIRST_VTY,
            interrupt: None,
        },
        epow: Epow { interrupt: 0x1001 },
        framebuffer: None,
        interrupts: GuestInterrupts::Xics,
        random: RandomDevice::Absent,
        fdt: FdtPlace {
            base: GuestReal::new(0x1ffe_0000),
            max_bytes: 0x1_0000,
        },
    }
}

/// Builds the tree and hands it to a check.
fn with_tree(change: impl FnOnce(&mut GuestDtParams<'_>), check: impl FnOnce(Node<'_>)) {
    let page_sizes = page_sizes_within(&host_page_sizes(), 24);
    let mut params = params(&page_sizes);
    change(&mut params);
    let bytes = build(&params).unwrap();
    check(FlatTree::new(&bytes).unwrap().root());
}

fn property<'a>(root: &Node<'a>, path: &str, name: &str) -> Option<Property<'a>> {
    let node = path
        .split('/')
        .filter(|part| !part.is_empty())
        .fold(*root, |node, part| {
            node.children()
                .find(|child| child.name() == part)
                .unwrap_or_else(|| panic!("no {path}"))
        });
    assert!(
        node.properties()
            .filter(|property| property.name == name)
            .count()
            <= 1
    );
    node.property(name)
}

fn bytes<'a>(root: &Node<'a>, path: &str, name: &str) -> &'a [u8] {
    property(root, path, name)
        .unwrap_or_else(|| panic!("no {name} in {path}"))
        .value
}

fn cells(root: &Node<'_>, path: &str, name: &str) -> Vec<u32> {
    let mut cells = property(root, path, name).unwrap().cells().unwrap();
    core::iter::from_fn(|| cells.take_u32()).collect()
}

fn text<'a>(root: &Node<'a>, path: &str, name: &str) -> &'a str {
    property(root, path, name).unwrap().as_str().unwrap()
}

fn texts<'a>(root: &Node<'a>, path: &str, name: &str) -> Vec<&'a str> {
    property(root, path, name)
        .unwrap()
        .strings()
        .unwrap()
        .collect()
}

fn is_flag(root: &Node<'_>, path: &str, name: &str) -> bool {
    property(root, path, name).is_some_and(|property| property.value.is_empty())
}

const CPU: &str = "cpus/PowerPC,POWER9@0";

#[test]
fn root_says_partition() {
    with_tree(
        |_| (),
        |root| {
            assert_eq!(cells(&root, "", "#address-cells"), [2]);
            assert_eq!(cells(&root, "", "#size-cells"), [2]);
            assert_eq!(text(&root, "", "device_type"), "chrp");
            assert_eq!(text(&root, "", "model"), "Penstock partition");
            assert_eq!(texts(&root, "", "compatible"), ["penstock,pseries"]);
            assert_eq!(text(&root, "", "ibm,partition-name"), "debian");
            assert_eq!(cells(&root, "", "ibm,partition-no"), [1]);
            assert_eq!(property(&root, "", "vm,uuid"), None);
            let children: Vec<_> = root.children().map(|node| node.name()).collect();
            assert_eq!(
                children,
                [
                    "chosen",
                    "memory@0",
                    "cpus",
                    "rtas",
                    "vdevice",
                    "event-sources",
                    "nvram",
                    "interrupt-controller"
                ]
            );
        },
    );
}

#[test]
fn root_takes_what_the_partition_tree_says() {
    with_tree(
        |params| {
            params.model = Some("A model");
            params.root_compatible = &["some,machine", "pseries"];
            params.uuid = Some("00000000-0000-0000-0000-000000000001");
        },
        |root| {
            assert_eq!(text(&root, "", "model"), "A model");
            assert_eq!(texts(&root, "", "compatible"), ["some,machine", "pseries"]);
            assert_eq!(
                text(&root, "", "vm,uuid"),
                "00000000-0000-0000-0000-000000000001"
            );
        },
    );
}

#[test]
fn chosen_has_what_firmware_would_have_left() {
    with_tree(
        |_| (),
        |root| {
            assert_eq!(text(&root, "chosen", "bootargs"), "console=hvc0 quiet");
            assert_eq!(
                text(&root, "chosen", "linux,stdout-path"),
                "/vdevice/vty@71000000"
            );
            assert_eq!(
                text(&root, "chosen", "stdout-path"),
                "/vdevice/vty@71000000"
            );
            assert_eq!(
                cells(&root, "chosen", "linux,initrd-start"),
                [0, 0x2da_0000]
            );
            assert_eq!(cells(&root, "chosen", "linux,initrd-end"), [1, 0x0f30_0c44]);
            assert_eq!(property(&root, "chosen", "rng-seed"), None);
            // Long enough to be looked at; hash (24) and XICS (23); no FORM2 affinity (5).
            let vector = bytes(&root, "chosen", "ibm,architecture-vec-5");
            assert_eq!(vector.len(), 25);
            assert_eq!(vector[0], 23);
            assert_eq!(vector[24] & 0xc0, 0);
            assert_eq!(vector[23] & 0xc0, 0);
            assert_eq!(vector[5] & 0x20, 0);
            assert!(vector[1..].iter().all(|&byte| byte == 0));
        },
    );
    with_tree(
        |params| {
            params.rtas.hypertas_functions = &["hcall-pft", "hcall-hpt-resize"];
        },
        |root| {
            // The table can be resized (6).
            let vector = bytes(&root, "chosen", "ibm,architecture-vec-5");
            assert_eq!(vector[..7], [23, 0, 0, 0, 0, 0, 1]);
            assert!(vector[7..].iter().all(|&byte| byte == 0));
        },
    );
    with_tree(
        |params| {
            params.initrd = None;
            params.rng_seed = Some(&[0xa5; 32]);
        },
        |root| {
            assert_eq!(property(&root, "chosen", "linux,initrd-start"), None);
            assert_eq!(property(&root, "chosen", "linux,initrd-end"), None);
            assert_eq!(bytes(&root, "chosen", "rng-seed"), [0xa5; 32]);
        },
    );
}

#[test]
fn memory_is_one_range_from_0() {
    with_tree(
        |_| (),
        |root| {
            assert_eq!(text(&root, "memory@0", "device_type"), "memory");
            assert_eq!(cells(&root, "memory@0", "reg"), [0, 0, 1, 0x2000_0000]);
        },
    );
}

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
        "../../../boot/tests/data/powernv10-smp2.dtb"
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

#[test]
fn rtas_has_its_place_and_its_tokens() {
    with_tree(
        |_| (),
        |root| {
            assert_eq!(cells(&root, "rtas", "linux,rtas-base"), [0x1fff_0000]);
            assert_eq!(cells(&root, "rtas", "linux,rtas-entry"), [0x1fff_0000]);
            assert_eq!(cells(&root, "rtas", "rtas-size"), [4096]);
            assert_eq!(cells(&root, "rtas", "rtas-version"), [1]);
            assert_eq!(cells(&root, "rtas", "rtas-error-log-max"), [0x800]);
            assert_eq!(cells(&root, "rtas", "rtas-event-scan-rate"), [1]);
            assert_eq!(
                texts(&root, "rtas", "ibm,hypertas-functions"),
                ["hcall-pft", "hcall-set-mode"]
            );
            assert_eq!(cells(&root, "rtas", "power-off"), [0x2003]);
            assert_eq!(cells(&root, "rtas", "ibm,os-term"), [0x201f]);
            assert!(is_flag(&root, "rtas", "ibm,extended-os-term"));
            assert_eq!(
                cells(&root, "rtas", "ibm,query-interrupt-source-number"),
                [7]
            );
            assert_eq!(property(&root, "rtas", "system-reboot"), None);
        },
    );
    with_tree(
        |params| params.rtas.tokens = &[("power-off", 1)],
        |root| assert_eq!(property(&root, "rtas", "ibm,extended-os-term"), None),
    );
}

#[test]
fn power_events_have_a_source() {
    with_tree(
        |params| params.epow.interrupt = 0x1234,
        |root| {
            let sources = "event-sources";
            assert_eq!(cells(&root, sources, "#interrupt-cells"), [2]);
            assert!(is_flag(&root, sources, "interrupt-controller"));
            assert_eq!(cells(&root, sources, "interrupt-ranges"), [0x1234, 1]);
            let events = "event-sources/epow-events";
            assert_eq!(cells(&root, events, "interrupts"), [0x1234, 0]);
        },
    );
}

#[test]
fn console_is_a_vty_below_vdevice() {
    let vty = "vdevice/vty@71000000";
    with_tree(
        |_| (),
        |root| {
            assert_eq!(text(&root, "vdevice", "device_type"), "vdevice");
            assert_eq!(text(&root, "vdevice", "compatible"), "IBM,vdevice");
            assert_eq!(cells(&root, "vdevice", "#address-cells"), [1]);
            assert_eq!(cells(&root, "vdevice", "#size-cells"), [0]);
            assert_eq!(cells(&root, "vdevice", "#interrupt-cells"), [2]);
            assert!(is_flag(&root, "vdevice", "interrupt-controller"));
            assert_eq!(text(&root, vty, "device_type"), "serial");
            assert_eq!(text(&root, vty, "compatible"), "hvterm1");
            assert_eq!(cells(&root, vty, "reg"), [0x7100_0000]);
            assert_eq!(property(&root, vty, "interrupts"), None);
        },
    );
    with_tree(
        |params| params.vty.interrupt = Some(0x1100),
        |root| assert_eq!(cells(&root, vty, "interrupts"), [0x1100, 0]),
    );
}

#[test]
fn interrupt_controller_is_that_of_the_xics_hcalls() {
    with_tree(
        |_| (),
        |root| {
            let path = "interrupt-controller";
            assert_eq!(
                text(&root, path, "device_type"),
                "PowerPC-External-Interrupt-Presentation"
            );
            assert_eq!(text(&root, path, "compatible"), "IBM,ppc-xicp");
            assert!(is_flag(&root, path, "interrupt-controller"));
            assert_eq!(cells(&root, path, "#interrupt-cells"), [2]);
            assert_eq!(cells(&root, path, "ibm,interrupt-server-ranges"), [0, 1]);
            assert_eq!(cells(&root, path, "phandle"), [1]);
            // This one would make Linux choose the other controller.
            assert!(
                !root
                    .children()
                    .any(|node| node.is_compatible("ibm,power-ivpe"))
            );
        },
    );
}

#[test]
fn random_numbers_are_announced_where_there_are_some() {
    with_tree(
        |params| params.random = RandomDevice::Present,
        |root| {
            let path = "ibm,platform-facilities/ibm,random-v1";
            assert_eq!(text(&root, path, "compatible"), "ibm,random");
        },
    );
}

#[test]
fn nvram_has_a_type_and_a_size() {
    with_tree(
        |_| {},
        |root| {
            assert_eq!(text(&root, "nvram", "device_type"), "nvram");
            assert_eq!(cells(&root, "nvram", "#bytes"), [0x4000]);
        },
    );
}

#[test]
fn header_reserves_rtas_and_the_tree_and_starts_processor_0() {
    let page_sizes = page_sizes_within(&host_page_sizes(), 24);
    let bytes = build(&params(&page_sizes)).unwrap();
    let tree = FlatTree::new(&bytes).unwrap();
    assert_eq!(tree.len_bytes(), bytes.len());
    assert_eq!(tree.boot_cpu(), 0);
    assert_eq!(
        tree.reservations().collect::<Vec<_>>(),
        [(0x1fff_0000, 0x1000), (0x1ffe_0000, 0x1_0000)]
    );
}

#[test]
fn what_does_not_fit_is_an_error() {
    let page_sizes = page_sizes_within(&host_page_sizes(), 24);
    let mut large = params(&page_sizes);
    let bootargs = "x".repeat(2047);
    large.bootargs = &bootargs;
    let bytes = build(&large).unwrap();
    assert!(
        bytes.len() < 0x2000,
        "{} bytes are far from the limit",
        bytes.len()
    );
    large.fdt.max_bytes = bytes.len() as u64 - 1;
    assert_eq!(
        build(&large).unwrap_err(),
        GuestDtError::TooLarge {
            bytes: bytes.len() as u64,
            max_bytes: bytes.len() as u64 - 1
        }
    );
    large.fdt.max_bytes += 1;
    assert!(build(&large).is_ok());
    large.rtas.base = GuestReal::new(0x1_0000_0000);
    assert_eq!(
        build(&large).unwrap_err().to_string(),
        "RTAS at 0x100000000 is not below 4 GiB"
    );
}

const FRAMEBUFFER: Framebuffer = Framebuffer {
    base: crate::screen::WINDOW,
    geometry: match Geometry::new(801, 600, 16) {
        Ok(geometry) => geometry,
        Err(_) => panic!(),
    },
    order: ByteOrder::Little,
};

#[test]
fn framebuffer_is_a_display_that_firmware_opened() {
    let node = "display@7000000000000";
    with_tree(
        |params| params.framebuffer = Some(FRAMEBUFFER),
        |root| {
            assert_eq!(text(&root, node, "device_type"), "display");
            assert_eq!(
                texts(&root, node, "compatible"),
                ["penstock,framebuffer", "display"]
            );
            // 600 rows of 1608 bytes, rounded up to 64 KiB.
            assert_eq!(cells(&root, node, "reg"), [0x7_0000, 0, 0, 0xf_0000]);
            assert_eq!(cells(&root, node, "width"), [801]);
            assert_eq!(cells(&root, node, "height"), [600]);
            assert_eq!(cells(&root, node, "depth"), [16]);
            assert_eq!(cells(&root, node, "linebytes"), [1608]);
            assert!(is_flag(&root, node, "linux,opened"));
            assert!(is_flag(&root, node, "linux,boot-display"));
            assert!(is_flag(&root, node, "little-endian"));
            assert_eq!(property(&root, node, "big-endian"), None);
            // 32 bits wide, and in the wrong byte order in Linux.
            assert_eq!(property(&root, node, "address"), None);
        },
    );
    with_tree(
        |params| {
            params.framebuffer = Some(Framebuffer {
                order: ByteOrder::Big,
                ..FRAMEBUFFER
            });
        },
        |root| {
            assert!(is_flag(&root, node, "big-endian"));
            assert_eq!(property(&root, node, "little-endian"), None);
        },
    );
}

/// The format's own compiler reads the tree without a complaint, where it is installed.
#[test]
fn dtc_finds_nothing_to_complain_of() {
    use std::io::Write;
    use std::process::{Command, Stdio};
    let page_sizes = page_sizes_within(&host_page_sizes(), 24);
    let mut params = params(&page_sizes);
    params.random = RandomDevice::Present;
    params.vty.interrupt = Some(0x1100);
    params.framebuffer = Some(FRAMEBUFFER);
    let bytes = build(&params).unwrap();
    let dtc = Command::new("dtc")
        .args(["-I", "dtb", "-O", "dts", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut dtc) = dtc else {
        std::eprintln!("dtc is not installed");
        return;
    };
    dtc.stdin.take().unwrap().write_all(&bytes).unwrap();
    let output = dtc.wait_with_output().unwrap();
    let complaints = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{complaints}");
    assert_eq!(complaints, "");
}

#[test]
fn exploitation_mode_is_told_by_its_own_controller() {
    with_tree(
        |params| params.interrupts = GuestInterrupts::Xive { own_sources: 8 },
        |root| {
            let path = "interrupt-controller@60302031b0000";
            assert_eq!(text(&root, path, "compatible"), "ibm,power-ivpe");
            assert_eq!(text(&root, path, "device_type"), "power-ivpe");
            let user = [0x6_0302, 0x031b_0000, 0, 0x1_0000];
            let os = [0x6_0302, 0x031a_0000, 0, 0x1_0000];
            assert_eq!(cells(&root, path, "reg"), [user, os].concat());
            assert_eq!(cells(&root, path, "ibm,xive-eq-sizes"), [12, 16, 21, 24]);
            assert_eq!(cells(&root, path, "ibm,xive-lisn-ranges"), [0, 8]);
            assert_eq!(cells(&root, path, "#interrupt-cells"), [2]);
            assert!(is_flag(&root, path, "interrupt-controller"));
            assert_eq!(cells(&root, "", "ibm,plat-res-int-priorities"), [7, 0xf8]);
            let vector = bytes(&root, "chosen", "ibm,architecture-vec-5");
            assert_eq!((vector[0], vector[23], vector[24]), (23, 0x40, 0));
            assert!(
                root.children()
                    .all(|node| node.name() != "interrupt-controller")
            );
        },
    );
    with_tree(
        |_| (),
        |root| {
            assert_eq!(property(&root, "", "ibm,plat-res-int-priorities"), None);
            let vector = bytes(&root, "chosen", "ibm,architecture-vec-5");
            assert_eq!(vector[23], 0);
        },
    );
}
