// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Memory that comes from the pool: what the tree may say of it, and whether it fits.

use super::*;

const MIB: u64 = 1 << 20;

/// The tree with a raw kernel of two pieces, an initial RAM disk of one, a pool of 16 MiB, and a
/// partition of 512 MiB that has a part of it, changed.
fn shared(change: impl FnOnce(&mut DeviceTree)) -> Vec<u8> {
    changed(|tree| {
        let image = at(tree, "/images/linux");
        set(image, "data", &[7_u8; 0x1_8000][..]);
        set(image, "load-address", 0x40_0000_u64);
        set(at(tree, "/partitions"), "memory-pool", 16 * MIB);
        let partition = debian(tree);
        for name in ["interrupt-mode", "hpt-resize-order"] {
            partition.remove_property(name).unwrap();
        }
        set(partition, "memory-policy", "shared");
        set(partition, "memory-guaranteed", 2 * MIB);
        change(tree);
    })
}

fn error(change: impl FnOnce(&mut DeviceTree)) -> String {
    error_of(&shared(change))
}

#[test]
fn a_partition_that_shares_memory_has_a_guarantee_and_a_limit() {
    let bytes = shared(|_| {});
    let partitions = parse(&bytes).unwrap();
    assert_eq!(partitions.pool_bytes(), 16 * MIB);
    assert_eq!(
        partitions.as_slice()[0].policy,
        MemoryPolicy::Shared {
            guaranteed_bytes: 2 * MIB,
            limit_bytes: 512 * MIB,
        }
    );
    let bytes = shared(|tree| set(debian(tree), "memory-limit", 3 * MIB));
    assert_eq!(
        parse(&bytes).unwrap().as_slice()[0].policy,
        MemoryPolicy::Shared {
            guaranteed_bytes: 2 * MIB,
            limit_bytes: 3 * MIB,
        }
    );
    let bytes = changed(|tree| set(debian(tree), "memory-policy", "reserved"));
    let reserved = parse(&bytes).unwrap();
    assert_eq!(reserved.as_slice()[0].policy, MemoryPolicy::Reserved);
    assert_eq!((reserved.pool_bytes(), reserved.check_pool()), (0, Ok(())));
}

#[test]
fn the_board_gives_a_pool_instead_of_the_memory() {
    let bytes = shared(|_| {});
    let partitions = parse(&bytes).unwrap();
    let one = &partitions.as_slice()[0];
    assert_eq!(one.reserved_bytes(), 0);
    let pool = 16 * MIB + Pool::overhead_bytes(16 * MIB);
    let needed = pool + one.required_bytes();
    assert!(needed < 64 * MIB);
    assert_eq!(partitions.check_against(needed), Ok(()));
    assert!(partitions.check_against(needed - 1).is_err());
    assert_eq!(
        partitions.check_against(15 * MIB).unwrap_err().to_string(),
        "/partitions: a memory-pool of 16 MiB does not fit the 15 MiB that the board has free"
    );
}

#[test]
fn guarantees_and_images_must_fit_the_pool() {
    // Two pieces of kernel and one of initial RAM disk.
    let most = 16 * MIB - 3 * SHARE_UNIT_BYTES;
    let bytes = shared(|tree| set(debian(tree), "memory-guaranteed", most));
    let partitions = parse(&bytes).unwrap();
    let pieces: Vec<_> = partitions
        .shared_images()
        .unwrap()
        .iter()
        .map(|image| (image.role, image.pieces))
        .collect();
    assert_eq!(pieces, [(ImageRole::Kernel, 2), (ImageRole::Initrd, 1)]);
    assert_eq!(partitions.check_pool(), Ok(()));
    let bytes = shared(|tree| {
        set(debian(tree), "memory-guaranteed", most + SHARE_UNIT_BYTES);
    });
    assert_eq!(
        parse(&bytes).unwrap().check_pool().unwrap_err().to_string(),
        "/partitions: 16256 KiB of guaranteed memory and 192 KiB of images do not fit the \
         memory-pool of 16 MiB"
    );
}

#[test]
fn an_image_is_in_the_pool_once() {
    let bytes = shared(|tree| {
        let mut second = DeviceTreeNode::new_unchecked("second");
        let one = debian(tree);
        for name in [
            "memory",
            "vcpus",
            "kernel",
            "initrd",
            "memory-policy",
            "memory-guaranteed",
        ] {
            let property = one.remove_property(name).unwrap();
            second.add_property(property.clone());
            one.add_property(property);
        }
        at(tree, "/partitions").add_child(second);
    });
    let partitions = parse(&bytes).unwrap();
    assert_eq!(partitions.as_slice().len(), 2);
    assert_eq!(partitions.shared_images().unwrap().len(), 2);
}

#[test]
fn what_does_not_go_together_is_refused() {
    let remove = |tree: &mut DeviceTree, path: &str, name: &str| {
        at(tree, path).remove_property(name).unwrap();
    };
    assert_eq!(
        error(|tree| remove(tree, "/partitions", "memory-pool")),
        "partition debian: memory-policy is \"shared\", and /partitions has no memory-pool"
    );
    assert_eq!(
        error(|tree| remove(tree, "/partitions/debian", "memory-guaranteed")),
        "/partitions/debian: property memory-guaranteed is missing"
    );
    assert_eq!(
        error(|tree| set(debian(tree), "memory-backing", "eager")),
        "partition debian: memory-backing is \"eager\", and memory of memory-policy = \"shared\" \
         comes at the first touch"
    );
    assert!(parse(&shared(|tree| set(debian(tree), "memory-backing", "lazy"))).is_ok());
    let only = |what| {
        alloc::format!("partition debian: {what} goes with memory-policy = \"reserved\" only")
    };
    assert_eq!(
        error(|tree| set(debian(tree), "interrupt-mode", "xive")),
        only("interrupt-mode = \"xive\"")
    );
    assert!(parse(&shared(|tree| set(debian(tree), "interrupt-mode", "xics"))).is_ok());
    assert_eq!(
        error(|tree| set(debian(tree), "control", &[0_u8; 0][..])),
        only("control")
    );
    assert_eq!(
        error(|tree| set(debian(tree), "largest-page", 0x100_0000_u32)),
        only("largest-page = <16777216>")
    );
    assert_eq!(
        super::error(|tree| set(at(tree, "/partitions"), "memory-pool", MIB)),
        "/partitions: memory-pool, and no partition's memory-policy is \"shared\""
    );
    for name in ["memory-guaranteed", "memory-limit"] {
        assert_eq!(
            super::error(|tree| set(debian(tree), name, MIB)),
            alloc::format!(
                "partition debian: {name} has a meaning with memory-policy = \"shared\" only"
            )
        );
    }
    assert_eq!(
        error(|tree| set(debian(tree), "memory-policy", "pinned")),
        "/partitions/debian: memory-policy must be \"reserved\" or \"shared\""
    );
}

#[test]
fn sizes_have_a_unit_and_bounds() {
    for bytes in [0, SHARE_UNIT_BYTES - 1] {
        let error = error(|tree| set(at(tree, "/partitions"), "memory-pool", bytes));
        assert!(
            error.ends_with("is not a multiple of 64 KiB above 0"),
            "{error}"
        );
    }
    for (name, bytes, end) in [
        (
            "memory-guaranteed",
            MIB - SHARE_UNIT_BYTES,
            "from 1 MiB to 512 MiB",
        ),
        ("memory-guaranteed", 2 * MIB + 4096, "from 1 MiB to 512 MiB"),
        ("memory-guaranteed", 513 * MIB, "from 1 MiB to 512 MiB"),
        ("memory-limit", 513 * MIB, "from 1 MiB to 512 MiB"),
        ("memory-limit", 0, "from 1 MiB to 512 MiB"),
        (
            "memory-limit",
            MIB,
            "memory-guaranteed of 2 MiB is not a multiple of 64 KiB from 1 MiB to 1 MiB",
        ),
        ("memory-limit", u64::MAX, "from 1 MiB to 512 MiB"),
    ] {
        let error = error(|tree| set(debian(tree), name, bytes));
        assert!(error.ends_with(end), "{name} {bytes:#x}: {error}");
    }
}
