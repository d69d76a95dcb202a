// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tests of the partition tree's reader: a tree of `dtc`'s, one tree per error, and broken ones.

extern crate std;

mod places;
mod schema;
mod sharing;
mod weights;

use super::*;
use crate::processor::MAX_VCPUS;
use alloc::string::{String, ToString};
use alloc::vec;
use dtoolkit::ToPropertyValue;
use dtoolkit::fdt::Fdt;
use dtoolkit::memreserve::MemoryReservation;
use dtoolkit::model::{DeviceTree, DeviceTreeNode, DeviceTreeProperty};
use proptest::prelude::*;
use std::sync::LazyLock;

/// Made of the `.dts` beside it.
const TWO: &[u8] = include_bytes!("testdata/two.dtb");

const GIB: u64 = 1 << 30;

#[test]
fn every_property_is_read() {
    let partitions = parse(TWO).unwrap();
    let [debian, second] = partitions.as_slice() else {
        panic!("two partitions")
    };
    assert_eq!(
        *debian,
        Partition {
            name: "debian",
            memory_bytes: 0x2000_0000,
            vcpus: 1,
            kernel: Image {
                name: "linux",
                data: b"\x7fELF\0",
                load_address: None
            },
            initrd: Some(Image {
                name: "rootfs",
                data: b"070701\0",
                load_address: None
            }),
            bootargs: "console=hvc0",
            hpt_order: 24,
            hpt_resize_order: Some(25),
            model: Some("A model"),
            root_compatible: vec!["some,machine", "pseries"],
            backing: MemoryBacking::Lazy,
            undefined_flags: UndefinedFlags::Refused,
            framebuffer: Some(Geometry::new(1024, 768, 32).unwrap()),
            largest_page: PageSize::P64K,
            authority: Authority::None,
            pinned: vec![1],
            weight: 100,
            interrupt_mode: InterruptMode::Xive,
            policy: MemoryPolicy::Reserved,
        }
    );
    assert_eq!(
        *second,
        Partition {
            name: "b",
            memory_bytes: 4 * GIB + 0x100_0000,
            vcpus: 4,
            kernel: Image {
                name: "bench-9",
                data: &[0x48, 0, 0, 0],
                load_address: Some(GuestReal::new(0x1_0040_0000)),
            },
            initrd: None,
            bootargs: "",
            hpt_order: 26,
            hpt_resize_order: None,
            model: None,
            root_compatible: vec![],
            backing: MemoryBacking::Eager,
            undefined_flags: UndefinedFlags::Ignored,
            framebuffer: None,
            largest_page: PageSize::P16M,
            authority: Authority::Control,
            pinned: vec![],
            weight: 250,
            interrupt_mode: InterruptMode::Xics,
            policy: MemoryPolicy::Reserved,
        }
    );
}

#[test]
fn hpt_is_a_128th_of_memory_rounded_up_by_default() {
    const MIB: u64 = 1 << 20;
    for (memory, order) in [
        (16 * MIB, 18),
        (32 * MIB, 18),
        (48 * MIB, 19),
        (256 * MIB, 21),
        (512 * MIB, 22),
        (528 * MIB, 23),
        (GIB, 23),
        (1024 * GIB, 33),
        (u64::MAX, 36),
        (0, 18),
    ] {
        assert_eq!(default_hpt_order(memory), order, "{memory:#x}");
    }
}

#[test]
fn what_this_version_cannot_run_is_refused_in_a_sentence() {
    let with = |vcpus: u32| {
        let tree = changed(|tree| {
            set(debian(tree), "vcpus", vcpus);
            let _ = debian(tree).remove_property("pinned");
        });
        parse(&tree).unwrap().check_supported()
    };
    assert_eq!(with(MAX_VCPUS), Ok(()));
    assert_eq!(
        with(MAX_VCPUS + 1).unwrap_err().to_string(),
        "partition debian: 65 virtual processors: at most 64 are supported"
    );
    assert_eq!(parse(TWO).unwrap().check_supported(), Ok(()));
    assert_eq!(parse(&changed(|_| ())).unwrap().check_supported(), Ok(()));
}

#[test]
fn threads_that_do_not_exist_are_refused_by_number() {
    let two = parse(TWO).unwrap();
    assert_eq!(two.check_threads(2), Ok(()));
    assert_eq!(
        two.check_threads(1).unwrap_err().to_string(),
        "partition debian: pinned to thread 1, but the machine has 1, numbered from 0"
    );
    let pinned_to = |threads: &[u8]| error(|tree| set(debian(tree), "pinned", threads));
    assert_eq!(
        pinned_to(&[0; 8]),
        "partition debian: pinned names 2 threads for 1 virtual processors"
    );
    for odd in [&[][..], &[0], &[0; 5]] {
        assert_eq!(
            pinned_to(odd),
            "/partitions/debian: pinned must be numbers of threads, one cell for each"
        );
    }
}

#[test]
fn partitions_are_held_against_the_board() {
    let bytes = changed(|_| ());
    let one = parse(&bytes).unwrap();
    // 512 MiB, two page tables of 32 MiB and as much of reverse maps; a word and eight doublewords for
    // each 32 KiB, a doubleword for each 64 KiB; half a byte for each entry of one table.
    // And 3 MiB to draw on, with as much beside each MiB.
    let screen = (3 << 20) + Slot::overhead_bytes(3 << 20);
    // And, beside as much, what there is of the interrupt controller: eight sources, two, a
    // virtual processor's queues, and the thread registers.
    let windows: u64 = [1 << 20, 4 << 16, 1 << 20, 1 << 16]
        .map(Slot::overhead_bytes)
        .iter()
        .sum();
    let needed = ((512 + 128) << 20) + (1 << 20) + (16 << 10) + (64 << 10) + (1 << 20);
    let needed = needed + screen + windows;
    assert_eq!(one.as_slice()[0].framebuffer_bytes(), 3 << 20);
    assert_eq!(one.as_slice()[0].required_bytes(), needed);
    assert_eq!(one.check_against(needed), Ok(()));
    assert_eq!(
        one.check_against(needed - 1024).unwrap_err().to_string(),
        "partition debian: 512 MiB of memory, 3 MiB of framebuffer and 128 MiB of page table and \
         reverse map do not fit the 645 MiB that the board has free"
    );
    let two = parse(TWO).unwrap();
    let second = 4112_u64 << 20;
    let both = needed + second + ((128 + 2) << 20) + Slot::overhead_bytes(second);
    assert_eq!(two.check_against(both), Ok(()));
    assert_eq!(
        two.check_against(both - (1 << 20)).unwrap_err().to_string(),
        "partition b: 4112 MiB of memory and 128 MiB of page table and reverse map do not fit the \
         4249 MiB that the board has free"
    );
    assert_eq!(
        two.check_against(0).unwrap_err().to_string(),
        "partition debian: 512 MiB of memory, 3 MiB of framebuffer and 128 MiB of page table and \
         reverse map do not fit the 0 MiB that the board has free"
    );
}

#[test]
fn memory_beyond_all_boards_does_not_overflow() {
    let bytes = changed(|tree| set(debian(tree), "memory", u64::MAX << 24));
    let huge = parse(&bytes).unwrap();
    assert!(huge.check_against(u64::MAX - 1).is_err());
}

fn set(node: &mut DeviceTreeNode, name: &str, value: impl ToPropertyValue) {
    node.add_property(DeviceTreeProperty::new_unchecked(name, value));
}

fn debian(tree: &mut DeviceTree) -> &mut DeviceTreeNode {
    tree.find_node_mut("/partitions/debian").unwrap()
}

fn at<'a>(tree: &'a mut DeviceTree, path: &str) -> &'a mut DeviceTreeNode {
    tree.find_node_mut(path).unwrap()
}

/// The tree of `dtc` without its second partition, changed.
fn changed(change: impl FnOnce(&mut DeviceTree)) -> Vec<u8> {
    static ONE: LazyLock<DeviceTree> = LazyLock::new(|| {
        let mut tree = DeviceTree::from_fdt(&Fdt::new(TWO).unwrap());
        at(&mut tree, "/partitions").remove_child("b").unwrap();
        tree
    });
    let mut tree = ONE.clone();
    change(&mut tree);
    tree.to_dtb()
}

fn error_of(bytes: &[u8]) -> String {
    parse(bytes).unwrap_err().to_string()
}

fn error(change: impl FnOnce(&mut DeviceTree)) -> String {
    error_of(&changed(change))
}

#[test]
fn every_truncation_is_an_error() {
    for length in 0..TWO.len() {
        assert!(parse(&TWO[..length]).is_err(), "{length} bytes");
    }
}

fn cases() -> ProptestConfig {
    let cases = std::env::var("PENSTOCK_CASES")
        .ok()
        .and_then(|text| text.parse().ok());
    ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(cases.unwrap_or(2048))
    }
}

/// What every tree that is taken must keep, however it came about.
fn check_promises(bytes: &[u8]) {
    match parse(bytes) {
        Ok(partitions) => {
            assert!(!partitions.as_slice().is_empty());
            for partition in partitions.as_slice() {
                assert!((1..=31).contains(&partition.name.len()));
                assert!(partition.memory_bytes != 0 && partition.memory_bytes % (16 << 20) == 0);
                assert!((18..=36).contains(&partition.hpt_order));
                assert!(partition.vcpus >= 1);
                assert!(partition.framebuffer_bytes() <= 64 << 20);
                assert!(!partition.kernel.data.is_empty());
            }
            let _ = partitions
                .check_supported()
                .map_err(|error| error.to_string());
            let _ = partitions
                .check_against(GIB)
                .map_err(|error| error.to_string());
        }
        Err(error) => assert!(!error.to_string().contains('\n') && error.to_string().len() < 300),
    }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn mutated_trees_never_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5),
    ) {
        let mut bytes = TWO.to_vec();
        for (index, value) in changes {
            let index = index.index(bytes.len());
            bytes[index] = value;
        }
        check_promises(&bytes);
    }

    #[test]
    fn trees_with_a_changed_word_never_panic(
        word in any::<prop::sample::Index>(),
        value in prop_oneof![any::<u32>(), 0..64_u32, Just(u32::MAX), Just(i32::MAX as u32)],
    ) {
        let mut bytes = TWO.to_vec();
        let at = 4 * word.index(bytes.len() / 4);
        bytes[at..at + 4].copy_from_slice(&value.to_be_bytes());
        check_promises(&bytes);
    }
}
