// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What can be wrong with firmware's device tree, each as one line that names the place.

use crate::flat_tree::{Node, TreeError};
use arrayvec::ArrayString;
use core::fmt;

/// Why a device tree cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BootError {
    /// The bytes are not a device tree.
    Tree(TreeError),
    /// A node that every machine has is missing.
    MissingNode {
        /// Its path, or what it is.
        node: &'static str,
    },
    /// A property that we need is missing.
    MissingProperty {
        /// The node's name.
        node: NodeName,
        /// The property's name.
        property: &'static str,
    },
    /// A property has a size or a value that it cannot have.
    BadProperty {
        /// The node's name.
        node: NodeName,
        /// The property's name.
        property: &'static str,
    },
    /// The machine has more of something than we have room for.
    TooMany {
        /// What there is too much of.
        what: &'static str,
        /// How much we have room for.
        capacity: usize,
    },
}

impl fmt::Display for BootError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tree(error) => error.fmt(f),
            Self::MissingNode { node } => write!(f, "firmware's device tree has no {node}"),
            Self::MissingProperty { node, property } => {
                write!(f, "firmware's device tree: {node} has no {property}")
            }
            Self::BadProperty { node, property } => {
                write!(
                    f,
                    "firmware's device tree: {node} has a {property} that cannot be used"
                )
            }
            Self::TooMany { what, capacity } => {
                write!(f, "firmware's device tree has more than {capacity} {what}")
            }
        }
    }
}

impl From<TreeError> for BootError {
    fn from(error: TreeError) -> Self {
        Self::Tree(error)
    }
}

impl core::error::Error for BootError {}

/// The name of a node, cut where it is very long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeName(ArrayString<48>);

impl NodeName {
    pub(super) fn of(node: &Node<'_>) -> Self {
        let mut name = ArrayString::new();
        let full = if node.name().is_empty() {
            "/"
        } else {
            node.name()
        };
        for letter in full.chars() {
            if name.try_push(letter).is_err() {
                break;
            }
        }
        Self(name)
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
