// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Where errors say that they are.

use super::*;

/// The place of the error of a changed tree, as a path, with the property behind a colon.
fn place_of(error: &ConfigError) -> Option<String> {
    let place = error.place()?;
    Some(match place.property {
        Some(property) => alloc::format!("{}:{property}", place.node),
        None => place.node,
    })
}

fn place(change: impl FnOnce(&mut DeviceTree)) -> Option<String> {
    place_of(&parse(&changed(change)).unwrap_err())
}

#[test]
fn an_error_in_a_partition_is_at_its_property() {
    for (name, value, at) in [
        ("memory", &[0_u8; 8][..], "memory"),
        ("memory", &[0; 4], "memory"),
        ("memorry", &[], "memorry"),
        ("vcpus", &[0; 4], "vcpus"),
        ("hpt-order", &[0; 4], "hpt-order"),
        ("hpt-resize-order", &[0, 0, 0, 37], "hpt-resize-order"),
        ("hpt-resize-order", &[0, 0, 0, 20], "hpt-resize-order"),
        ("kernel", &[0; 4], "kernel"),
        ("initrd", &[0, 0, 0, 3], "initrd"),
        ("initrd", &[0, 0, 0, 9], "initrd"),
        ("framebuffer", &[0; 12], "framebuffer"),
        ("pinned", &[0; 8], "pinned"),
        ("weight", &[0, 0, 0, 1], "weight"),
        ("memory-limit", &[0; 8], "memory-limit"),
    ] {
        assert_eq!(
            place(|tree| set(debian(tree), name, value)),
            Some(alloc::format!("/partitions/debian:{at}")),
            "{name}"
        );
    }
    assert_eq!(
        place(|tree| drop(debian(tree).remove_property("vcpus"))).as_deref(),
        Some("/partitions/debian:vcpus")
    );
    let shared = |name: &str, value: &[u8]| {
        place(|tree| {
            set(at(tree, "/partitions"), "memory-pool", 1_u64 << 24);
            let node = debian(tree);
            drop(node.remove_property("interrupt-mode"));
            set(node, "memory-policy", "shared");
            set(node, "memory-guaranteed", 1_u64 << 20);
            set(node, name, value);
        })
    };
    for (name, value) in [
        ("memory-guaranteed", &[0_u8; 8][..]),
        ("memory-backing", b"eager\0"),
        ("interrupt-mode", b"xive\0"),
        ("control", &[]),
        ("largest-page", &[1, 0, 0, 0]),
    ] {
        let found = shared(name, value);
        assert_eq!(found, Some(alloc::format!("/partitions/debian:{name}")));
    }
}

#[test]
fn an_error_elsewhere_is_at_its_node_or_property() {
    let unknown = |tree: &mut DeviceTree| {
        tree.root.add_child(DeviceTreeNode::new_unchecked("chosen"));
    };
    assert_eq!(place(unknown).as_deref(), Some("/chosen"));
    assert_eq!(
        place(|tree| set(&mut tree.root, "compatible", "x")).as_deref(),
        Some("/:compatible")
    );
    assert_eq!(
        place(|tree| set(at(tree, "/images/linux"), "data", [0_u32; 0])).as_deref(),
        Some("/images/linux:data")
    );
    assert_eq!(
        place(|tree| set(at(tree, "/images/linux"), "phandle", 2_u32)).as_deref(),
        Some("/images/rootfs:phandle")
    );
    // What is missing is where it should be.
    assert_eq!(
        place(|tree| drop(tree.root.remove_child("images"))).as_deref(),
        Some("/")
    );
    assert_eq!(
        place(|tree| drop(at(tree, "/partitions").remove_child("debian"))).as_deref(),
        Some("/partitions")
    );
    assert_eq!(
        place(|tree| set(at(tree, "/partitions"), "memory-pool", 1_u64 << 24)).as_deref(),
        Some("/partitions:memory-pool")
    );
    // The file as a whole is at no place.
    let reservation = MemoryReservation::new(0x1000, 0x1000);
    assert_eq!(
        place(|tree| tree.memory_reservations.push(reservation)),
        None
    );
    assert_eq!(place_of(&parse(b"").unwrap_err()), None);
}

#[test]
fn what_does_not_fit_the_machine_is_at_what_asks_for_it() {
    let two = parse(TWO).unwrap();
    let many = changed(|tree| {
        let node = debian(tree);
        node.remove_property("pinned");
        set(node, "vcpus", 10_000_u32);
    });
    let many = parse(&many).unwrap();
    for (error, at) in [
        (many.check_supported(), "/partitions/debian:vcpus"),
        (two.check_threads(1), "/partitions/debian:pinned"),
        (two.check_against(0), "/partitions/debian:memory"),
    ] {
        assert_eq!(place_of(&error.unwrap_err()).as_deref(), Some(at));
    }
}
