// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Any bytes as a device tree: the reader, all that can be reached from a tree, and the answer that
//! the hypervisor makes of firmware's.
#![no_main]

use libfuzzer_sys::fuzz_target;
use penstock_boot::flat_tree::{FlatTree, Node};
use penstock_boot::{fdt, memmap};

fn visit(node: Node<'_>, depth: usize) -> usize {
    assert!(depth < 32, "deeper than the reader accepts");
    let mut bytes = node.name().len();
    for property in node.properties() {
        assert!(!property.name.is_empty());
        let _ = (
            property.as_u32(),
            property.as_u64(),
            property.as_one_or_two_cells(),
        );
        let _ = property.as_str();
        bytes += property.value.len();
        if let Some(strings) = property.strings() {
            let text: usize = strings.map(str::len).sum();
            assert!(text <= property.value.len());
        }
    }
    for child in node.children() {
        bytes += visit(child, depth + 1);
    }
    bytes
}

fuzz_target!(|bytes: &[u8]| {
    if let Ok(tree) = FlatTree::new(bytes) {
        assert!(tree.len_bytes() <= bytes.len());
        assert!(visit(tree.root(), 0) <= bytes.len());
        let _ = tree.reservations().count();
    }
    if let Ok(info) = fdt::parse(bytes) {
        let _ = memmap::free_memory(&info, &[]);
    }
});
