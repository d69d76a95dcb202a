// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What can be wrong with a partition tree, each as one line that names the place.

use super::expected::{Expected, Size};
use super::{MAX_HPT_ORDER, MEMORY_UNIT_BYTES, MIN_HPT_ORDER, SHARE_UNIT_BYTES};
use crate::processor::MAX_VCPUS;
use crate::screen::GeometryError;
use alloc::string::String;
use core::fmt;
use penstock_boot::flat_tree::TreeError;

/// A name from the file, cut to what fits a line. Names in a tree are printable ASCII.
pub(super) fn shown(name: &str) -> String {
    const LONGEST: usize = 64;
    name.chars().take(LONGEST).collect()
}

/// Why a partition tree is refused. `node` fields are paths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigError {
    /// The file is not a device tree.
    Tree(TreeError),
    /// The root's `compatible` is not that of a partition tree.
    NotPartitions,
    /// The tree has a list of reserved memory, which means nothing here.
    Reservations,
    /// A node that the schema does not have.
    UnknownNode {
        /// The node.
        node: String,
        /// The known one that is most like it, where one is.
        nearest: Option<&'static str>,
    },
    /// A property that the schema does not have at this place.
    UnknownProperty {
        /// The node that has it.
        node: String,
        /// Its name.
        property: String,
        /// The known one that is most like it, where one is.
        nearest: Option<&'static str>,
    },
    /// Two nodes of one name.
    DuplicateNode {
        /// The second of them.
        node: String,
    },
    /// Two properties of one name.
    DuplicateProperty {
        /// The node that has them.
        node: String,
        /// Their name.
        property: String,
    },
    /// Two images with one phandle, so that references to it mean nothing.
    DuplicatePhandle {
        /// The second of them.
        node: String,
        /// The phandle.
        phandle: u32,
    },
    /// A node that must be there is not.
    MissingNode {
        /// The node.
        node: &'static str,
    },
    /// A property that must be there is not.
    MissingProperty {
        /// The node that lacks it.
        node: String,
        /// Its name.
        property: &'static str,
    },
    /// A value that is not of the kind that the schema says.
    BadValue {
        /// The node.
        node: String,
        /// The property.
        property: String,
        /// What it should be.
        expected: Expected,
    },
    /// A node's name breaks the rule for names.
    BadName {
        /// The node.
        node: String,
    },
    /// There are images, but no partition.
    NoPartition,
    /// More of something than a file may have.
    TooMany {
        /// The node that holds them.
        node: &'static str,
        /// How many it may hold.
        capacity: usize,
    },
    /// `memory` is 0 or not a multiple of the unit.
    BadMemory {
        /// The partition.
        partition: String,
        /// Bytes that the file asks for.
        bytes: u64,
    },
    /// A partition without processors.
    NoVcpus {
        /// The partition.
        partition: String,
    },
    /// A hash page table that is too small or too large.
    BadHptOrder {
        /// The partition.
        partition: String,
        /// Which property says so.
        property: &'static str,
        /// log2 of the bytes that the file asks for.
        order: u32,
    },
    /// The largest hash page table is smaller than the one to begin with.
    ResizeOrderTooSmall {
        /// The partition.
        partition: String,
        /// log2 of the bytes of the table to begin with.
        order: u32,
        /// The same of the largest one.
        resize_order: u32,
    },
    /// A framebuffer beyond its limits.
    BadFramebuffer {
        /// The partition.
        partition: String,
        /// Which of width, height and depth it is.
        error: GeometryError,
    },
    /// A reference that does not lead to an image.
    NoSuchImage {
        /// The partition.
        partition: String,
        /// The property with the reference.
        property: &'static str,
    },
    /// An image without content.
    EmptyImage {
        /// The image's name.
        image: String,
    },
    /// An image with a load address is used as an initrd, whose place the hypervisor chooses.
    InitrdLoadAddress {
        /// The partition.
        partition: String,
        /// The image's name.
        image: String,
    },
    /// A property that has a cell for each virtual processor has another number of them.
    BadPinning {
        /// The partition.
        partition: String,
        /// Its virtual processors.
        vcpus: u32,
        /// Cells of the property.
        threads: usize,
    },
    /// A virtual processor is pinned to a thread that the machine does not have.
    NoSuchThread {
        /// The partition.
        partition: String,
        /// The thread's number.
        thread: u32,
        /// How many there are.
        threads: u32,
    },
    /// A partition that is pinned has a weight.
    PinnedWeight {
        /// The partition.
        partition: String,
    },
    /// More virtual processors than this version runs.
    ManyVcpus {
        /// The partition.
        partition: String,
        /// How many it wants.
        count: u32,
    },
    /// A partition shares memory, and there is no pool.
    NoPool {
        /// The partition.
        partition: String,
    },
    /// A pool that no partition shares.
    UnusedPool,
    /// `memory-pool` is 0 or not a multiple of the unit.
    BadPool {
        /// Bytes that the file asks for.
        bytes: u64,
    },
    /// A property that only partitions have that share memory.
    NotShared {
        /// The partition.
        partition: String,
        /// The property.
        property: &'static str,
    },
    /// A partition that shares memory is to have all of it before it starts.
    SharedEager {
        /// The partition.
        partition: String,
    },
    /// What only goes with memory that is set aside.
    ReservedOnly {
        /// The partition.
        partition: String,
        /// What does.
        what: &'static str,
    },
    /// A guaranteed part or a limit that is no multiple of the unit, or out of range.
    BadShare {
        /// The partition.
        partition: String,
        /// Which of the two.
        property: &'static str,
        /// Bytes that the file asks for.
        bytes: u64,
        /// The least that it may be.
        least: u64,
        /// The most that it may be.
        most: u64,
    },
    /// The pool has less than was promised.
    PoolTooSmall {
        /// Bytes of all guaranteed parts.
        guaranteed_bytes: u64,
        /// Bytes of the images that are shared.
        image_bytes: u64,
        /// Bytes of the pool.
        pool_bytes: u64,
    },
    /// The board has less memory than the pool.
    BoardTooSmallForPool {
        /// Bytes of the pool.
        pool_bytes: u64,
        /// Bytes that are free.
        free_bytes: u64,
    },
    /// The board has less memory than the partitions need.
    BoardTooSmall {
        /// The first partition that does not fit.
        partition: String,
        /// Its memory in bytes.
        memory_bytes: u64,
        /// Its hash page table and reverse map in bytes.
        table_bytes: u64,
        /// Its framebuffer in bytes; 0 without one.
        framebuffer_bytes: u64,
        /// What is left for it in bytes.
        free_bytes: u64,
    },
}

fn write_nearest(f: &mut fmt::Formatter<'_>, nearest: Option<&str>) -> fmt::Result {
    match nearest {
        Some(name) => write!(f, " (the nearest known one is {name})"),
        None => Ok(()),
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tree(error) => error.fmt(f),
            Self::NotPartitions => f.write_str(
                "not a partition tree: the root's compatible is not \"penstock,partitions-v1\"",
            ),
            Self::Reservations => f.write_str("/memreserve/ has no meaning in a partition tree"),
            Self::UnknownNode { node, nearest } => {
                write!(f, "{node}: unknown node")?;
                write_nearest(f, *nearest)
            }
            Self::UnknownProperty {
                node,
                property,
                nearest,
            } => {
                write!(f, "{node}: unknown property {property}")?;
                write_nearest(f, *nearest)
            }
            Self::DuplicateNode { node } => write!(f, "{node}: a second node of this name"),
            Self::DuplicateProperty { node, property } => {
                write!(f, "{node}: a second property {property}")
            }
            Self::DuplicatePhandle { node, phandle } => {
                write!(
                    f,
                    "{node}: phandle {phandle:#x} belongs to another image too"
                )
            }
            Self::MissingNode { node } => write!(f, "{node}: no such node"),
            Self::MissingProperty { node, property } => {
                write!(f, "{node}: property {property} is missing")
            }
            Self::BadValue {
                node,
                property,
                expected,
            } => {
                write!(f, "{node}: {property} must be {expected}")
            }
            Self::BadName { node } => {
                write!(f, "{node}: a name has 1 to 31 characters of a-z, 0-9 and -")
            }
            Self::NoPartition => f.write_str("/partitions: no partition"),
            Self::TooMany { node, capacity } => {
                write!(f, "{node}: more than {capacity} nodes")
            }
            Self::BadMemory { partition, bytes } => write!(
                f,
                "partition {partition}: memory of {} is not a multiple of {} above 0",
                Size(*bytes),
                Size(MEMORY_UNIT_BYTES)
            ),
            Self::NoVcpus { partition } => {
                write!(
                    f,
                    "partition {partition}: 0 virtual processors: one at least is needed"
                )
            }
            Self::BadHptOrder {
                partition,
                property,
                order,
            } => write!(
                f,
                "partition {partition}: {property} {order} is not in {MIN_HPT_ORDER} to \
                 {MAX_HPT_ORDER}"
            ),
            Self::ResizeOrderTooSmall {
                partition,
                order,
                resize_order,
            } => write!(
                f,
                "partition {partition}: hpt-resize-order {resize_order} is less than the {order} of \
                 the page table to begin with"
            ),
            Self::BadFramebuffer { partition, error } => {
                write!(f, "partition {partition}: framebuffer: {error}")
            }
            Self::NoSuchImage {
                partition,
                property,
            } => {
                write!(
                    f,
                    "partition {partition}: {property} does not refer to a node of /images"
                )
            }
            Self::EmptyImage { image } => write!(f, "image {image}: no data"),
            Self::InitrdLoadAddress { partition, image } => write!(
                f,
                "partition {partition}: initrd {image} has a load-address; only kernels have one"
            ),
            Self::BadPinning {
                partition,
                vcpus,
                threads,
            } => write!(
                f,
                "partition {partition}: pinned names {threads} threads for {vcpus} virtual processors"
            ),
            Self::NoSuchThread {
                partition,
                thread,
                threads,
            } => write!(
                f,
                "partition {partition}: pinned to thread {thread}, but the machine has {threads}, \
                 numbered from 0"
            ),
            Self::PinnedWeight { partition } => write!(
                f,
                "partition {partition}: weight and pinned exclude each other"
            ),
            Self::ManyVcpus { partition, count } => write!(
                f,
                "partition {partition}: {count} virtual processors: at most {MAX_VCPUS} are supported"
            ),
            Self::NoPool { partition } => write!(
                f,
                "partition {partition}: memory-policy is \"shared\", and /partitions has no \
                 memory-pool"
            ),
            Self::UnusedPool => f.write_str(
                "/partitions: memory-pool, and no partition's memory-policy is \"shared\"",
            ),
            Self::BadPool { bytes } => write!(
                f,
                "/partitions: memory-pool of {} is not a multiple of {} above 0",
                Size(*bytes),
                Size(SHARE_UNIT_BYTES)
            ),
            Self::NotShared {
                partition,
                property,
            } => write!(
                f,
                "partition {partition}: {property} has a meaning with memory-policy = \"shared\" only"
            ),
            Self::SharedEager { partition } => write!(
                f,
                "partition {partition}: memory-backing is \"eager\", and memory of \
                 memory-policy = \"shared\" comes at the first touch"
            ),
            Self::ReservedOnly { partition, what } => write!(
                f,
                "partition {partition}: {what} goes with memory-policy = \"reserved\" only"
            ),
            Self::BadShare {
                partition,
                property,
                bytes,
                least,
                most,
            } => write!(
                f,
                "partition {partition}: {property} of {} is not a multiple of {} from {} to {}",
                Size(*bytes),
                Size(SHARE_UNIT_BYTES),
                Size(*least),
                Size(*most)
            ),
            Self::PoolTooSmall {
                guaranteed_bytes,
                image_bytes,
                pool_bytes,
            } => write!(
                f,
                "/partitions: {} of guaranteed memory and {} of images do not fit the memory-pool \
                 of {}",
                Size(*guaranteed_bytes),
                Size(*image_bytes),
                Size(*pool_bytes)
            ),
            Self::BoardTooSmallForPool {
                pool_bytes,
                free_bytes,
            } => write!(
                f,
                "/partitions: a memory-pool of {} does not fit the {} that the board has free",
                Size(*pool_bytes),
                Size(*free_bytes >> 20 << 20)
            ),
            Self::BoardTooSmall {
                partition,
                memory_bytes,
                table_bytes,
                framebuffer_bytes,
                free_bytes,
            } => {
                let (memory, table) = (Size(*memory_bytes), Size(*table_bytes));
                write!(f, "partition {partition}: {memory} of memory")?;
                if *framebuffer_bytes != 0 {
                    write!(f, ", {} of framebuffer", Size(*framebuffer_bytes))?;
                }
                // Nobody can use the odd bytes.
                let free = Size(*free_bytes >> 20 << 20);
                write!(
                    f,
                    " and {table} of page table and reverse map do not fit the {free} that the \
                     board has free"
                )
            }
        }
    }
}

impl core::error::Error for ConfigError {}

impl From<TreeError> for ConfigError {
    fn from(error: TreeError) -> Self {
        Self::Tree(error)
    }
}
