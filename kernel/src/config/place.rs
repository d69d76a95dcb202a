// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Where in the partition tree an error is, for whoever has the source of the tree.

use super::ConfigError;
use alloc::format;
use alloc::string::String;

/// A node of a partition tree, or a property that it has or should have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place<'a> {
    /// The node's path.
    pub node: String,
    /// The property.
    pub property: Option<&'a str>,
}

impl<'a> Place<'a> {
    /// A property of a partition's node.
    #[must_use]
    pub fn in_partition(name: &str, property: &'a str) -> Self {
        Self::property(&format!("/partitions/{name}"), property)
    }

    fn node(path: &str) -> Self {
        Self {
            node: String::from(path),
            property: None,
        }
    }

    fn property(path: &str, property: &'a str) -> Self {
        Self {
            node: String::from(path),
            property: Some(property),
        }
    }
}

impl ConfigError {
    /// Where it is, as far as that is one place of the tree.
    #[must_use]
    pub fn place(&self) -> Option<Place<'_>> {
        let place = match self {
            Self::Tree(_) | Self::Reservations => return None,
            Self::NotPartitions => Place::property("/", "compatible"),
            Self::UnknownNode { node, .. }
            | Self::DuplicateNode { node }
            | Self::BadName { node } => Place::node(node),
            // Those of the root alone must be there.
            Self::MissingNode { .. } => Place::node("/"),
            Self::TooMany { node, .. } => Place::node(node),
            Self::UnknownProperty { node, property, .. }
            | Self::DuplicateProperty { node, property }
            | Self::BadValue { node, property, .. } => Place::property(node, property),
            Self::DuplicatePhandle { node, .. } => Place::property(node, "phandle"),
            Self::MissingProperty { node, property } => Place::property(node, property),
            Self::NoPartition => Place::node("/partitions"),
            Self::EmptyImage { image } => Place::property(&format!("/images/{image}"), "data"),
            Self::UnusedPool
            | Self::BadPool { .. }
            | Self::PoolTooSmall { .. }
            | Self::BoardTooSmallForPool { .. } => Place::property("/partitions", "memory-pool"),
            Self::BadMemory { partition, .. } | Self::BoardTooSmall { partition, .. } => {
                Place::in_partition(partition, "memory")
            }
            Self::NoVcpus { partition } | Self::ManyVcpus { partition, .. } => {
                Place::in_partition(partition, "vcpus")
            }
            Self::BadHptOrder {
                partition,
                property,
                ..
            }
            | Self::NoSuchImage {
                partition,
                property,
            }
            | Self::NotShared {
                partition,
                property,
            }
            | Self::BadShare {
                partition,
                property,
                ..
            } => Place::in_partition(partition, property),
            Self::ResizeOrderTooSmall { partition, .. } => {
                Place::in_partition(partition, "hpt-resize-order")
            }
            Self::BadFramebuffer { partition, .. } => Place::in_partition(partition, "framebuffer"),
            Self::InitrdLoadAddress { partition, .. } => Place::in_partition(partition, "initrd"),
            Self::BadPinning { partition, .. } | Self::NoSuchThread { partition, .. } => {
                Place::in_partition(partition, "pinned")
            }
            Self::PinnedWeight { partition } => Place::in_partition(partition, "weight"),
            Self::NoPool { partition } => Place::in_partition(partition, "memory-policy"),
            Self::SharedEager { partition } => Place::in_partition(partition, "memory-backing"),
            Self::ReservedOnly { partition, what } => {
                // "interrupt-mode = ..." or a name alone.
                Place::in_partition(partition, what.split(' ').next().unwrap_or(what))
            }
        };
        Some(place)
    }
}
