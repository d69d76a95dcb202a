// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the schema says of each node and property: one error each.

use super::*;

#[test]
fn other_files_are_refused() {
    assert_eq!(
        error_of(b"#!/bin/sh\necho hello\n"),
        "not a flattened device tree: starts with 0x23212f62"
    );
    assert_eq!(
        error_of(b""),
        "device tree is cut short: 40 bytes needed, 0 given"
    );
    let not_partitions =
        "not a partition tree: the root's compatible is not \"penstock,partitions-v1\"";
    assert_eq!(
        error(|tree| set(&mut tree.root, "compatible", "ibm,powernv")),
        not_partitions
    );
    assert_eq!(
        error(|tree| drop(tree.root.remove_property("compatible"))),
        not_partitions
    );
    assert_eq!(
        error(|tree| tree
            .memory_reservations
            .push(MemoryReservation::new(0x1000, 0x1000))),
        "/memreserve/ has no meaning in a partition tree"
    );
}

#[test]
fn root_is_as_the_schema_says() {
    assert_eq!(
        error(|tree| set(&mut tree.root, "#address-cells", 1_u32)),
        "/: #address-cells must be <2>"
    );
    assert_eq!(
        error(|tree| set(&mut tree.root, "#size-cells", 2_u64)),
        "/: #size-cells must be <2>"
    );
    assert_eq!(
        error(|tree| drop(tree.root.remove_property("#size-cells"))),
        "/: property #size-cells is missing"
    );
    assert_eq!(
        error(|tree| set(&mut tree.root, "model", "x")),
        "/: unknown property model"
    );
    assert_eq!(
        error(|tree| tree.root.add_child(DeviceTreeNode::new_unchecked("chosen"))),
        "/chosen: unknown node"
    );
    assert_eq!(
        error(|tree| tree
            .root
            .add_child(DeviceTreeNode::new_unchecked("partition"))),
        "/partition: unknown node (the nearest known one is partitions)"
    );
    assert_eq!(
        error(|tree| drop(tree.root.remove_child("images"))),
        "/images: no such node"
    );
    assert_eq!(
        error(|tree| drop(tree.root.remove_child("partitions"))),
        "/partitions: no such node"
    );
    assert_eq!(
        error(|tree| set(at(tree, "/images"), "data", 1_u32)),
        "/images: unknown property data"
    );
    assert_eq!(
        error(|tree| drop(at(tree, "/partitions").remove_child("debian"))),
        "/partitions: no partition"
    );
}

#[test]
fn images_are_as_the_schema_says() {
    let add = |name: &str, tree: &mut DeviceTree| {
        let mut node = DeviceTreeNode::new_unchecked(name);
        set(&mut node, "data", 1_u32);
        at(tree, "/images").add_child(node);
    };
    let rule = "a name has 1 to 31 characters of a-z, 0-9 and -";
    for name in [
        "Linux",
        "a_b",
        "linux@1",
        "a23456789012345678901234567890123",
    ] {
        assert_eq!(
            error(|tree| add(name, tree)),
            alloc::format!("/images/{name}: {rule}")
        );
    }
    assert!(
        parse(&changed(|tree| add(
            "a234567890123456789012345678901",
            tree
        )))
        .is_ok()
    );
    assert_eq!(
        error(|tree| set(at(tree, "/images/linux"), "load-addres", 1_u64)),
        "/images/linux: unknown property load-addres (the nearest known one is load-address)"
    );
    assert_eq!(
        error(|tree| set(at(tree, "/images/linux"), "load-address", 1_u32)),
        "/images/linux: load-address must be two cells"
    );
    assert_eq!(
        error(|tree| drop(at(tree, "/images/linux").remove_property("data"))),
        "/images/linux: property data is missing"
    );
    assert_eq!(
        error(|tree| set(at(tree, "/images/linux"), "data", [0_u32; 0])),
        "image linux: no data"
    );
    assert_eq!(
        error(|tree| set(at(tree, "/images/linux"), "phandle", 2_u32)),
        "/images/rootfs: phandle 0x2 belongs to another image too"
    );
    assert_eq!(
        error(|tree| at(tree, "/images/linux").add_child(DeviceTreeNode::new_unchecked("x"))),
        "/images/linux/x: unknown node"
    );
    assert_eq!(
        error(|tree| (0..200).for_each(|index| add(&alloc::format!("i{index}"), tree))),
        "/images: more than 128 nodes"
    );
}

const DEBIAN: &str = "/partitions/debian";

/// The error of a tree whose partition has this value of this property.
fn with(name: &str, value: &[u8]) -> String {
    error(|tree| set(debian(tree), name, value))
}

#[test]
fn partitions_have_the_properties_of_the_schema_and_no_others() {
    let path = DEBIAN;
    for name in ["memory", "vcpus", "kernel"] {
        assert_eq!(
            error(|tree| drop(debian(tree).remove_property(name))),
            alloc::format!("{path}: property {name} is missing")
        );
    }
    assert_eq!(
        with("memorry", &[0; 8]),
        alloc::format!("{path}: unknown property memorry (the nearest known one is memory)")
    );
    assert_eq!(
        with("cpus", &[0; 4]),
        alloc::format!("{path}: unknown property cpus (the nearest known one is vcpus)")
    );
    assert_eq!(
        with("speed", &[0; 4]),
        alloc::format!("{path}: unknown property speed")
    );
    assert_eq!(
        error(|tree| debian(tree).add_child(DeviceTreeNode::new_unchecked("disk"))),
        alloc::format!("{path}/disk: unknown node")
    );
}

#[test]
fn there_are_64_partitions_at_most() {
    assert_eq!(
        error(|tree| {
            for index in 0..65 {
                let mut node = DeviceTreeNode::new_unchecked(alloc::format!("p{index}"));
                set(&mut node, "memory", 16_u64 << 20);
                set(&mut node, "vcpus", 1_u32);
                set(&mut node, "kernel", 1_u32);
                at(tree, "/partitions").add_child(node);
            }
        }),
        "/partitions: more than 64 nodes"
    );
}

#[test]
fn memory_and_processors_are_as_the_schema_says() {
    let path = DEBIAN;
    assert_eq!(
        with("memory", &[0; 4]),
        alloc::format!("{path}: memory must be two cells")
    );
    assert_eq!(
        with("memory", &[0; 8]),
        "partition debian: memory of 0 MiB is not a multiple of 16 MiB above 0"
    );
    assert_eq!(
        with("memory", &[0, 0, 0, 0, 0x20, 0x80, 0, 0]),
        "partition debian: memory of 520 MiB is not a multiple of 16 MiB above 0"
    );
    assert_eq!(
        with("memory", &[0, 0, 0, 0, 0x20, 0, 0, 1]),
        "partition debian: memory of 536870913 bytes is not a multiple of 16 MiB above 0"
    );
    assert_eq!(
        with("vcpus", &[0; 3]),
        alloc::format!("{path}: vcpus must be one cell")
    );
    assert_eq!(
        with("vcpus", &[0; 4]),
        "partition debian: 0 virtual processors: one at least is needed"
    );
}

#[test]
fn page_tables_are_as_the_schema_says() {
    let path = DEBIAN;
    for order in [0_u8, 17, 37] {
        for property in ["hpt-order", "hpt-resize-order"] {
            assert_eq!(
                with(property, &[0, 0, 0, order]),
                alloc::format!("partition debian: {property} {order} is not in 18 to 36")
            );
        }
    }
    assert_eq!(
        with("hpt-resize-order", &[0, 0, 0, 23]),
        "partition debian: hpt-resize-order 23 is less than the 24 of the page table to begin with"
    );
    for property in ["hpt-order", "hpt-resize-order"] {
        assert_eq!(
            with(property, &[0; 8]),
            alloc::format!("{path}: {property} must be one cell")
        );
    }
}

#[test]
fn references_to_images_are_as_the_schema_says() {
    let path = DEBIAN;
    for name in ["kernel", "initrd"] {
        assert_eq!(
            with(name, &[0, 0, 0, 77]),
            alloc::format!("partition debian: {name} does not refer to a node of /images")
        );
        assert_eq!(
            with(name, &[0; 8]),
            alloc::format!("{path}: {name} must be one reference to a node of /images")
        );
    }
    assert_eq!(
        with("initrd", &[0, 0, 0, 3]),
        "partition debian: initrd bench-9 has a load-address; only kernels have one"
    );
}

#[test]
fn choices_are_as_the_schema_says() {
    let path = DEBIAN;
    assert_eq!(
        with("memory-backing", b"slow\0"),
        alloc::format!("{path}: memory-backing must be \"eager\" or \"lazy\"")
    );
    for value in [&b"XIVE\0"[..], b"xive", b"xics\0xive\0", b"\0", &[]] {
        assert_eq!(
            with("interrupt-mode", value),
            alloc::format!("{path}: interrupt-mode must be \"xics\" or \"xive\"")
        );
    }
    for value in [&[0, 0, 0, 1][..], b"yes\0", &[0]] {
        assert_eq!(
            with("strict-flags", value),
            alloc::format!("{path}: strict-flags must be without a value")
        );
    }
    for value in [&[0, 0, 0x20, 0][..], &[0; 4], &[0, 1, 0, 0, 0, 0, 0, 0]] {
        assert_eq!(
            with("largest-page", value),
            alloc::format!("{path}: largest-page must be one cell: 4096, 65536 or 16777216")
        );
    }
    for value in [&[0][..], &[0, 0, 0, 1], b"yes\0"] {
        assert_eq!(
            with("control", value),
            alloc::format!("{path}: control must be without a value")
        );
    }
}

#[test]
fn framebuffers_are_as_the_schema_says() {
    let path = DEBIAN;
    for cells in [&[640_u32, 480][..], &[640, 480, 32, 0], &[]] {
        assert_eq!(
            error(|tree| set(debian(tree), "framebuffer", cells)),
            alloc::format!("{path}: framebuffer must be three cells: width, height, depth")
        );
    }
    assert_eq!(
        with("framebuffer", &[0; 11]),
        alloc::format!("{path}: framebuffer must be three cells: width, height, depth")
    );
    for (cells, what) in [
        ([0_u32, 480, 32], "width 0 is not in 64 to 4096"),
        ([4097, 480, 32], "width 4097 is not in 64 to 4096"),
        ([640, 63, 32], "height 63 is not in 64 to 4096"),
        (
            [640, u32::MAX, 32],
            "height 4294967295 is not in 64 to 4096",
        ),
        ([640, 480, 24], "depth 24 is not 8, 16 or 32"),
        ([640, 480, 0], "depth 0 is not 8, 16 or 32"),
    ] {
        assert_eq!(
            error(|tree| set(debian(tree), "framebuffer", cells)),
            alloc::format!("partition debian: framebuffer: {what}")
        );
    }
}

#[test]
fn strings_are_held_to_their_lengths() {
    let path = "/partitions/debian";
    let with = |name: &str, value: &[u8]| {
        let bytes = changed(|tree| set(debian(tree), name, value));
        parse(&bytes).map(|_| ()).map_err(|error| error.to_string())
    };
    let text = |length: usize| [vec![b'x'; length], vec![0]].concat();
    let must = |name: &str, what: &str| Err(alloc::format!("{path}: {name} must be {what}"));
    let bootargs = "one string of at most 2047 bytes";
    assert_eq!(with("bootargs", &text(2047)), Ok(()));
    assert_eq!(with("bootargs", &text(0)), Ok(()));
    assert_eq!(with("bootargs", &text(2048)), must("bootargs", bootargs));
    assert_eq!(with("bootargs", b"no end"), must("bootargs", bootargs));
    assert_eq!(
        with("bootargs", b"two\0strings\0"),
        must("bootargs", bootargs)
    );
    let model = "one string of 1 to 255 bytes";
    assert_eq!(with("model", &text(255)), Ok(()));
    assert_eq!(with("model", &text(0)), must("model", model));
    assert_eq!(with("model", &text(256)), must("model", model));
    let list = "a list of strings, none empty, of at most 255 bytes";
    assert_eq!(with("root-compatible", b"a\0b\0c\0"), Ok(()));
    assert_eq!(
        with("root-compatible", b"a\0\0c\0"),
        must("root-compatible", list)
    );
    assert_eq!(with("root-compatible", b""), must("root-compatible", list));
    assert_eq!(
        with("root-compatible", &text(255)),
        must("root-compatible", list)
    );
}

/// The tree with a name of nodes or properties replaced by one of the same length.
fn renamed(mut bytes: Vec<u8>, name: &str, other: &str) -> Vec<u8> {
    assert_eq!(name.len(), other.len());
    let name = alloc::format!("{name}\0");
    let mut found = 0;
    for at in 0..bytes.len() - name.len() {
        if bytes[at..at + name.len()] == *name.as_bytes() {
            bytes[at..at + other.len()].copy_from_slice(other.as_bytes());
            found += 1;
        }
    }
    assert!(found > 0);
    bytes
}

#[test]
fn second_ones_of_a_name_are_refused() {
    assert_eq!(
        error_of(&renamed(changed(|_| ()), "model", "vcpus")),
        "/partitions/debian: a second property vcpus"
    );
    assert_eq!(
        error_of(&renamed(
            changed(|tree| tree.root.add_child(DeviceTreeNode::new_unchecked("second"))),
            "second",
            "images"
        )),
        "/images: a second node of this name"
    );
    assert_eq!(
        error_of(&renamed(changed(|_| ()), "rootfs", "linux\0")),
        "/images/linux: a second node of this name"
    );
}
