// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The guest's tree, property by property, read back with a reader that is not the writer's.
//!
//! What a test calls needed was found so by starting Debian 6.12 without it; what it calls
//! forbidden broke a guest.

extern crate std;

mod cpu;
mod devices;

use super::*;
use alloc::string::{String, ToString};
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

const FRAMEBUFFER: Framebuffer = Framebuffer {
    base: crate::screen::WINDOW,
    geometry: match Geometry::new(801, 600, 16) {
        Ok(geometry) => geometry,
        Err(_) => panic!(),
    },
    order: ByteOrder::Little,
};

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
