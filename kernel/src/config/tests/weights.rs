// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the tree may say of a partition's part of a thread's time.

use super::*;

#[test]
fn weights_are_held_to_their_range_and_go_without_pinning() {
    let weighted = |weight: &[u8]| {
        changed(|tree| {
            let node = debian(tree);
            node.remove_property("pinned");
            set(node, "weight", weight);
        })
    };
    for weight in [1_u32, 99, 10_000] {
        let bytes = weighted(&weight.to_be_bytes());
        assert_eq!(parse(&bytes).unwrap().as_slice()[0].weight, weight);
    }
    for value in [
        &0_u32.to_be_bytes()[..],
        &10_001_u32.to_be_bytes(),
        &[0xff; 4],
        &[0; 8],
        b"",
    ] {
        assert_eq!(
            error_of(&weighted(value)),
            "/partitions/debian: weight must be one cell of 1 to 10000"
        );
    }
    assert_eq!(
        error(|tree| set(debian(tree), "weight", 100_u32)),
        "partition debian: weight and pinned exclude each other"
    );
}
