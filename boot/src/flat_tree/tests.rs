// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tests of the device tree reader, on firmware's own trees and on broken ones.

extern crate std;

use super::*;
use proptest::prelude::*;
use std::vec::Vec;

const POWERNV9: &[u8] = include_bytes!("../../tests/data/powernv9-smp2.dtb");

/// A small tree, word by word: `/ { a = <1 2>; b; n@1 { c = "x", "y"; }; m; };` with one filler.
fn small() -> Vec<u8> {
    let strings = b"a\0b\0c\0";
    let structure: &[u32] = &[
        BEGIN_NODE,
        0, //
        PROPERTY,
        8,
        0,
        1,
        2, //
        PROPERTY,
        0,
        2,
        NOP, //
        BEGIN_NODE,
        0x6e40_3100, // "n@1"
        PROPERTY,
        4,
        4,
        0x7800_7900, // "x\0y\0"
        END_NODE,    //
        BEGIN_NODE,
        0x6d00_0000, // "m"
        END_NODE,
        END_NODE,
        NOP,
        END,
    ];
    let words = |words: &[u32]| {
        words
            .iter()
            .flat_map(|word| word.to_be_bytes())
            .collect::<Vec<_>>()
    };
    let structure = words(structure);
    let reservations = words(&[0, 0x1000, 0, 0x2000, 0, 0, 0, 0]);
    let structure_at = 40 + reservations.len();
    let strings_at = structure_at + structure.len();
    let total = strings_at + strings.len();
    let number = |value: usize| u32::try_from(value).unwrap();
    let mut tree = words(&[
        MAGIC,
        number(total),
        number(structure_at),
        number(strings_at),
        40,
        17,
        16,
        3,
        number(strings.len()),
        number(structure.len()),
    ]);
    tree.extend(reservations);
    tree.extend(structure);
    tree.extend(strings);
    tree
}

fn set_word(tree: &mut [u8], offset: usize, value: u32) {
    tree[offset..offset + 4].copy_from_slice(&value.to_be_bytes());
}

#[test]
fn small_tree_is_read() {
    let bytes = small();
    let tree = FlatTree::new(&bytes).unwrap();
    assert_eq!(tree.boot_cpu(), 3);
    assert_eq!(tree.len_bytes(), bytes.len());
    assert_eq!(tree.reservations().collect::<Vec<_>>(), [(0x1000, 0x2000)]);
    let root = tree.root();
    assert_eq!(root.name(), "");
    assert_eq!(
        root.properties()
            .map(|property| property.name)
            .collect::<Vec<_>>(),
        ["a", "b"]
    );
    assert_eq!(root.property("a").unwrap().as_u64(), Some(0x1_0000_0002));
    assert_eq!(root.property("a").unwrap().as_u32(), None);
    assert_eq!(root.property("b").unwrap().value, b"");
    assert_eq!(root.property("c"), None);
    assert_eq!(
        root.children().map(|node| node.name()).collect::<Vec<_>>(),
        ["n@1", "m"]
    );
    let child = root.child("n").unwrap();
    assert_eq!(child.base_name(), "n");
    let list = child.property("c").unwrap();
    assert_eq!(list.strings().unwrap().collect::<Vec<_>>(), ["x", "y"]);
    assert_eq!(list.as_str(), None, "two strings are not one");
    assert!(root.child("n@1").is_some());
    assert!(root.child("n@2").is_none());
}

#[test]
fn bytes_after_the_tree_are_ignored() {
    let mut bytes = small();
    bytes.extend([0xff; 100]);
    assert!(FlatTree::new(&bytes).is_ok());
}

#[test]
fn strings_of_values() {
    let property = |value| Property { name: "p", value };
    assert_eq!(property(b"abc\0").as_str(), Some("abc"));
    assert_eq!(property(b"\0").as_str(), Some(""));
    assert_eq!(property(b"abc").as_str(), None);
    assert_eq!(property(b"").as_str(), None);
    assert_eq!(property(b"\xff\0").as_str(), None);
    assert_eq!(property(b"").strings().unwrap().count(), 0);
    assert_eq!(property(b"\0").strings().unwrap().collect::<Vec<_>>(), [""]);
    assert!(property(b"abc").strings().is_none());
}

#[test]
fn cells_are_taken_in_order() {
    let property = Property {
        name: "p",
        value: &[0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3],
    };
    let mut cells = property.cells().unwrap();
    assert_eq!(cells.take(0), Some(0));
    assert_eq!(cells.take(2), Some(0x1_0000_0002));
    assert_eq!(cells.len(), 1);
    assert_eq!(cells.take(3), None);
    assert_eq!(cells.take(2), None);
    assert_eq!(cells.take(1), Some(3));
    assert!(cells.is_empty());
    assert!(
        Property {
            name: "p",
            value: &[0; 5]
        }
        .cells()
        .is_none()
    );
}

#[test]
fn broken_headers_are_named() {
    let good = small();
    let with = |offset, value| {
        let mut tree = good.clone();
        set_word(&mut tree, offset, value);
        FlatTree::new(&tree).map(|_| ()).unwrap_err()
    };
    assert_eq!(with(0, 0x7f45_4c46), TreeError::Magic(0x7f45_4c46));
    assert_eq!(
        with(4, 1 << 20),
        TreeError::Truncated {
            needed: 1 << 20,
            given: good.len()
        }
    );
    assert_eq!(with(20, 16), TreeError::Version(16));
    assert_eq!(with(24, 18), TreeError::Version(17));
    assert_eq!(
        with(8, 0xffff_fff0),
        TreeError::BlockOutside(Block::Structure)
    );
    assert_eq!(
        with(12, 0xffff_fff0),
        TreeError::BlockOutside(Block::Strings)
    );
    assert_eq!(
        with(16, 0xffff_fff0),
        TreeError::BlockOutside(Block::Reservations)
    );
    assert_eq!(
        with(36, u32::MAX),
        TreeError::BlockOutside(Block::Structure)
    );
    assert_eq!(
        FlatTree::new(b"").unwrap_err(),
        TreeError::Truncated {
            needed: 40,
            given: 0
        }
    );
}

#[test]
fn broken_structures_are_refused() {
    let good = small();
    let structure = 40 + 32;
    let with = |word: usize, value| {
        let mut tree = good.clone();
        set_word(&mut tree, structure + 4 * word, value);
        FlatTree::new(&tree).map(|_| ()).unwrap_err()
    };
    // The root has a name, a child has none.
    assert_eq!(with(1, 0x6100_0000), TreeError::Name { offset: 0 });
    assert_eq!(with(12, 0), TreeError::Name { offset: 44 });
    assert_eq!(with(12, 0x6e0a_3100), TreeError::Name { offset: 44 });
    // A property's value or name outside, a property after a node, an unknown token.
    assert_eq!(with(3, 0x1000), TreeError::Structure { offset: 8 });
    assert_eq!(with(4, 0x1000), TreeError::Structure { offset: 8 });
    assert_eq!(with(10, 7), TreeError::Structure { offset: 40 });
    // No end, the root closed too early, a node left open.
    assert_eq!(with(23, NOP), TreeError::Structure { offset: 88 });
    assert_eq!(with(18, END_NODE), TreeError::Structure { offset: 76 });
    assert_eq!(with(20, NOP), TreeError::Structure { offset: 92 });
}

#[test]
fn a_property_after_a_node_is_refused() {
    let mut tree = small();
    let words = [PROPERTY, 0, 0, END_NODE, NOP, END];
    for (index, word) in words.into_iter().enumerate() {
        set_word(&mut tree, 40 + 32 + 4 * (18 + index), word);
    }
    assert_eq!(
        FlatTree::new(&tree).unwrap_err(),
        TreeError::Structure { offset: 72 }
    );
}

#[test]
fn a_name_has_a_greatest_length() {
    // The second property's name is the tree's last bytes, shared with nothing.
    let named = |length: usize| {
        let mut tree = small();
        let name = tree.len() - 4;
        tree.truncate(name);
        tree.resize(name + length, b'b');
        tree.extend(b"\0c\0");
        // The node's property keeps its name, which has moved.
        let total = u32::try_from(tree.len()).unwrap();
        set_word(&mut tree, 4, total);
        let strings = u32::try_from(length + 5).unwrap();
        set_word(&mut tree, 32, strings);
        set_word(&mut tree, 40 + 32 + 4 * 15, strings - 2);
        FlatTree::new(&tree).map(|_| ())
    };
    assert_eq!(named(1), Ok(()));
    assert_eq!(named(255), Ok(()));
    assert_eq!(named(256), Err(TreeError::Structure { offset: 28 }));
}

#[test]
fn deep_nesting_is_refused() {
    let chain = |depth: usize| {
        let mut tree = small();
        tree.truncate(40 + 32);
        for level in 0..depth {
            tree.extend(BEGIN_NODE.to_be_bytes());
            tree.extend(if level == 0 { [0; 4] } else { *b"x\0\0\0" });
        }
        for _ in 0..depth {
            tree.extend(END_NODE.to_be_bytes());
        }
        tree.extend(END.to_be_bytes());
        let length = u32::try_from(tree.len()).unwrap();
        set_word(&mut tree, 4, length);
        set_word(&mut tree, 12, length);
        set_word(&mut tree, 32, 0);
        set_word(&mut tree, 36, length - 72);
        FlatTree::new(&tree).map(|_| ())
    };
    assert_eq!(chain(MAX_DEPTH), Ok(()));
    assert_eq!(
        chain(MAX_DEPTH + 1),
        Err(TreeError::TooDeep {
            offset: 8 * MAX_DEPTH
        })
    );
}

/// Touches everything that can be reached.
fn walk(node: &Node<'_>, budget: &mut usize) {
    for property in node.properties() {
        *budget = budget.checked_sub(1).expect("the walk ends");
        let _ = (
            property.as_str(),
            property.as_u64(),
            property.strings().map(Iterator::count),
        );
    }
    for child in node.children() {
        *budget = budget.checked_sub(1).expect("the walk ends");
        walk(&child, budget);
    }
}

fn walk_all(bytes: &[u8]) {
    if let Ok(tree) = FlatTree::new(bytes) {
        let _ = tree.reservations().count();
        walk(&tree.root(), &mut bytes.len().clone());
    }
}

#[test]
fn names_longer_than_the_specification_allows_are_read() {
    let tree = FlatTree::new(POWERNV9).unwrap();
    let features = tree
        .root()
        .child("cpus")
        .unwrap()
        .child("ibm,powerpc-cpu-features")
        .unwrap();
    assert!(
        features
            .child("processor-utilization-of-resources-register")
            .is_some()
    );
    let opal = tree.root().child("ibm,opal").unwrap();
    assert!(
        opal.property("ibm,associativity-reference-points")
            .is_some()
    );
}

#[test]
fn every_truncation_is_an_error() {
    let bytes = small();
    for length in 0..bytes.len() {
        assert!(FlatTree::new(&bytes[..length]).is_err(), "{length} bytes");
    }
}

fn cases() -> ProptestConfig {
    let cases = std::env::var("PENSTOCK_CASES")
        .ok()
        .and_then(|text| text.parse().ok());
    ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(cases.unwrap_or(256))
    }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn mutated_small_trees_never_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5),
    ) {
        let mut bytes = small();
        for (index, value) in changes {
            let index = index.index(bytes.len());
            bytes[index] = value;
        }
        walk_all(&bytes);
    }

    #[test]
    fn mutated_firmware_trees_never_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5),
    ) {
        let mut bytes = POWERNV9.to_vec();
        for (index, value) in changes {
            let index = index.index(bytes.len());
            bytes[index] = value;
        }
        walk_all(&bytes);
    }
}
