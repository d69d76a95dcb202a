// SPDX-License-Identifier: Apache-2.0 OR MIT
//! From the bytes of a partition tree to [`Partitions`].
//!
//! Each kind of node has a list of the properties that it may have; [`Fields`] holds a node to its
//! list before anything is read from it.

use super::error::shown;
use super::nearest::nearest;
use super::{
    Authority, ConfigError, DEFAULT_WEIGHT, Expected, Image, MAX_BOOTARGS_BYTES, MAX_HPT_ORDER,
    MAX_IMAGES, MAX_PARTITIONS, MAX_STRING_BYTES, MAX_WEIGHT, MEMORY_UNIT_BYTES,
    MIN_GUARANTEED_BYTES, MIN_HPT_ORDER, MIN_WEIGHT, MemoryBacking, MemoryPolicy, Partition,
    Partitions, SHARE_UNIT_BYTES, default_hpt_order,
};
use crate::hcall::UndefinedFlags;
use crate::presentation::InterruptMode;
use crate::screen::Geometry;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use penstock_arch::addr::GuestReal;
use penstock_arch::hash::PageSize;
use penstock_boot::flat_tree::{FlatTree, Node, Property};

const COMPATIBLE: &str = "penstock,partitions-v1";
const ROOT_PROPERTIES: &[&str] = &["compatible", "#address-cells", "#size-cells"];
const TOP_NODES: &[&str] = &["images", "partitions"];
const IMAGE_PROPERTIES: &[&str] = &["data", "load-address", "phandle"];
const PARTITION_PROPERTIES: &[&str] = &[
    "memory",
    "vcpus",
    "kernel",
    "initrd",
    "bootargs",
    "hpt-order",
    "hpt-resize-order",
    "model",
    "root-compatible",
    "memory-backing",
    "strict-flags",
    "framebuffer",
    "control",
    "largest-page",
    "pinned",
    "weight",
    "interrupt-mode",
    "memory-policy",
    "memory-guaranteed",
    "memory-limit",
];
const PARTITIONS_PROPERTIES: &[&str] = &["memory-pool"];

/// Reads a partition tree.
///
/// # Errors
/// The bytes are not a device tree, or the tree breaks the schema.
pub fn parse(bytes: &[u8]) -> Result<Partitions<'_>, ConfigError> {
    let tree = FlatTree::new(bytes)?;
    if tree.reservations().next().is_some() {
        return Err(ConfigError::Reservations);
    }
    let root = tree.root();
    if root.property("compatible").and_then(|value| value.as_str()) != Some(COMPATIBLE) {
        return Err(ConfigError::NotPartitions);
    }
    let fields = Fields::new(root, String::from("/"), ROOT_PROPERTIES)?;
    for name in ["#address-cells", "#size-cells"] {
        if fields.required(name, Expected::CellOf(2), |value| value.as_u32())? != 2 {
            return Err(fields.bad(name, Expected::CellOf(2)));
        }
    }
    let [images, partitions] = top_nodes(&root)?;
    let images = read_images(&images)?;
    let list = read_partitions(&partitions, &images)?;
    let fields = Fields::new(
        partitions,
        String::from("/partitions"),
        PARTITIONS_PROPERTIES,
    )?;
    let pool_bytes = read_pool(&fields, &list)?;
    Ok(Partitions { list, pool_bytes })
}

/// The pool, which is there where a partition shares it, and only there.
fn read_pool(fields: &Fields<'_>, list: &[Partition<'_>]) -> Result<u64, ConfigError> {
    let bytes = fields.optional("memory-pool", Expected::TwoCells, |value| value.as_u64())?;
    let sharing = list
        .iter()
        .find(|partition| partition.policy != MemoryPolicy::Reserved);
    match (bytes, sharing) {
        (None, None) => Ok(0),
        (None, Some(partition)) => Err(ConfigError::NoPool {
            partition: shown(partition.name),
        }),
        (Some(_), None) => Err(ConfigError::UnusedPool),
        (Some(bytes), Some(_)) if bytes == 0 || !bytes.is_multiple_of(SHARE_UNIT_BYTES) => {
            Err(ConfigError::BadPool { bytes })
        }
        (Some(bytes), Some(_)) => Ok(bytes),
    }
}

/// The two nodes below the root, which has no others.
fn top_nodes<'a>(root: &Node<'a>) -> Result<[Node<'a>; 2], ConfigError> {
    let mut images = None;
    let mut partitions = None;
    for node in root.children() {
        let place = match node.name() {
            "images" => &mut images,
            "partitions" => &mut partitions,
            name => {
                return Err(ConfigError::UnknownNode {
                    node: format!("/{}", shown(name)),
                    nearest: nearest(name, TOP_NODES),
                });
            }
        };
        if place.replace(node).is_some() {
            return Err(ConfigError::DuplicateNode {
                node: format!("/{}", shown(node.name())),
            });
        }
        let known = match node.name() {
            "partitions" => PARTITIONS_PROPERTIES,
            _ => &[],
        };
        Fields::new(node, format!("/{}", shown(node.name())), known)?;
    }
    Ok([
        images.ok_or(ConfigError::MissingNode { node: "/images" })?,
        partitions.ok_or(ConfigError::MissingNode {
            node: "/partitions",
        })?,
    ])
}

/// A node whose properties are all known and each there once.
struct Fields<'a> {
    node: Node<'a>,
    path: String,
}

impl<'a> Fields<'a> {
    fn new(node: Node<'a>, path: String, known: &[&'static str]) -> Result<Self, ConfigError> {
        let mut seen = 0_u32;
        for property in node.properties() {
            let Some(index) = known.iter().position(|&name| name == property.name) else {
                return Err(ConfigError::UnknownProperty {
                    node: path,
                    property: shown(property.name),
                    nearest: nearest(property.name, known),
                });
            };
            // No node has more than a handful of properties.
            let bit = 1_u32.unbounded_shl(u32::try_from(index).unwrap_or(u32::MAX));
            if seen & bit != 0 {
                let property = shown(property.name);
                return Err(ConfigError::DuplicateProperty {
                    node: path,
                    property,
                });
            }
            seen |= bit;
        }
        Ok(Self { node, path })
    }

    fn bad(&self, property: &str, expected: Expected) -> ConfigError {
        ConfigError::BadValue {
            node: self.path.clone(),
            property: shown(property),
            expected,
        }
    }

    fn optional<T>(
        &self,
        name: &str,
        expected: Expected,
        read: impl FnOnce(Property<'a>) -> Option<T>,
    ) -> Result<Option<T>, ConfigError> {
        match self.node.property(name) {
            None => Ok(None),
            Some(value) => read(value)
                .map(Some)
                .ok_or_else(|| self.bad(name, expected)),
        }
    }

    fn required<T>(
        &self,
        name: &'static str,
        expected: Expected,
        read: impl FnOnce(Property<'a>) -> Option<T>,
    ) -> Result<T, ConfigError> {
        self.optional(name, expected, read)?
            .ok_or_else(|| ConfigError::MissingProperty {
                node: self.path.clone(),
                property: name,
            })
    }

    /// A reference to another node.
    fn reference(&self, name: &str) -> Result<Option<u32>, ConfigError> {
        self.optional(name, Expected::Reference, |value| value.as_u32())
    }
}

/// Whether `name` can name a partition or an image: it appears in the monitor and in messages.
fn is_valid_name(name: &str) -> bool {
    matches!(name.len(), 1..=31)
        && name
            .bytes()
            .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
}

/// Checks what all nodes below `/images` and `/partitions` have in common and returns the path.
fn check_leaf(parent: &str, node: &Node<'_>) -> Result<String, ConfigError> {
    let path = format!("/{parent}/{}", shown(node.name()));
    if !is_valid_name(node.name()) {
        return Err(ConfigError::BadName { node: path });
    }
    match node.children().next() {
        None => Ok(path),
        Some(child) => Err(ConfigError::UnknownNode {
            node: format!("{path}/{}", shown(child.name())),
            nearest: None,
        }),
    }
}

/// An image and what references to it hold.
struct NumberedImage<'a> {
    phandle: Option<u32>,
    image: Image<'a>,
}

fn read_images<'a>(parent: &Node<'a>) -> Result<Vec<NumberedImage<'a>>, ConfigError> {
    let mut list: Vec<NumberedImage<'a>> = Vec::new();
    for node in parent.children() {
        if list.len() == MAX_IMAGES {
            return Err(ConfigError::TooMany {
                node: "/images",
                capacity: MAX_IMAGES,
            });
        }
        let path = check_leaf("images", &node)?;
        let fields = Fields::new(node, path, IMAGE_PROPERTIES)?;
        let name = node.name();
        if list.iter().any(|other| other.image.name == name) {
            return Err(ConfigError::DuplicateNode { node: fields.path });
        }
        let phandle = fields.optional("phandle", Expected::Cell, |value| value.as_u32())?;
        if let Some(phandle) = phandle
            && list.iter().any(|other| other.phandle == Some(phandle))
        {
            return Err(ConfigError::DuplicatePhandle {
                node: fields.path,
                phandle,
            });
        }
        let data = match node.property("data") {
            None => {
                return Err(ConfigError::MissingProperty {
                    node: fields.path,
                    property: "data",
                });
            }
            Some(Property { value: [], .. }) => {
                return Err(ConfigError::EmptyImage { image: shown(name) });
            }
            Some(property) => property.value,
        };
        let load_address =
            fields.optional("load-address", Expected::TwoCells, |value| value.as_u64())?;
        let load_address = load_address.map(GuestReal::new);
        list.push(NumberedImage {
            phandle,
            image: Image {
                name,
                data,
                load_address,
            },
        });
    }
    Ok(list)
}

fn read_partitions<'a>(
    parent: &Node<'a>,
    images: &[NumberedImage<'a>],
) -> Result<Vec<Partition<'a>>, ConfigError> {
    let mut list: Vec<Partition<'a>> = Vec::new();
    for node in parent.children() {
        if list.len() == MAX_PARTITIONS {
            return Err(ConfigError::TooMany {
                node: "/partitions",
                capacity: MAX_PARTITIONS,
            });
        }
        let path = check_leaf("partitions", &node)?;
        if list.iter().any(|other| other.name == node.name()) {
            return Err(ConfigError::DuplicateNode { node: path });
        }
        let fields = Fields::new(node, path, PARTITION_PROPERTIES)?;
        list.push(read_partition(&fields, images)?);
    }
    if list.is_empty() {
        return Err(ConfigError::NoPartition);
    }
    Ok(list)
}

fn read_partition<'a>(
    fields: &Fields<'a>,
    images: &[NumberedImage<'a>],
) -> Result<Partition<'a>, ConfigError> {
    let name = fields.node.name();
    let memory_bytes = fields.required("memory", Expected::TwoCells, |value| value.as_u64())?;
    if memory_bytes == 0 || memory_bytes % MEMORY_UNIT_BYTES != 0 {
        return Err(ConfigError::BadMemory {
            partition: shown(name),
            bytes: memory_bytes,
        });
    }
    let vcpus = fields.required("vcpus", Expected::Cell, |value| value.as_u32())?;
    if vcpus == 0 {
        return Err(ConfigError::NoVcpus {
            partition: shown(name),
        });
    }
    let hpt_order = fields.optional("hpt-order", Expected::Cell, |value| value.as_u32())?;
    let hpt_order = hpt_order.unwrap_or(default_hpt_order(memory_bytes));
    let hpt_resize_order =
        fields.optional("hpt-resize-order", Expected::Cell, |value| value.as_u32())?;
    let orders = [
        ("hpt-order", Some(hpt_order)),
        ("hpt-resize-order", hpt_resize_order),
    ];
    for (property, order) in orders {
        if let Some(order) = order
            && !(MIN_HPT_ORDER..=MAX_HPT_ORDER).contains(&order)
        {
            return Err(ConfigError::BadHptOrder {
                partition: shown(name),
                property,
                order,
            });
        }
    }
    if let Some(resize_order) = hpt_resize_order
        && resize_order < hpt_order
    {
        return Err(ConfigError::ResizeOrderTooSmall {
            partition: shown(name),
            order: hpt_order,
            resize_order,
        });
    }
    let kernel = fields
        .reference("kernel")?
        .ok_or_else(|| ConfigError::MissingProperty {
            node: fields.path.clone(),
            property: "kernel",
        })?;
    let kernel = find_image(images, kernel, name, "kernel")?;
    let initrd = fields.reference("initrd")?;
    let initrd = initrd
        .map(|phandle| find_image(images, phandle, name, "initrd"))
        .transpose()?;
    if let Some(Image {
        name: image,
        load_address: Some(_),
        ..
    }) = initrd
    {
        return Err(ConfigError::InitrdLoadAddress {
            partition: shown(name),
            image: shown(image),
        });
    }
    let bootargs = fields.optional("bootargs", Expected::Bootargs, |value| {
        value
            .as_str()
            .filter(|text| text.len() <= MAX_BOOTARGS_BYTES)
    })?;
    let model = fields.optional("model", Expected::ShortText(MAX_STRING_BYTES), |value| {
        value
            .as_str()
            .filter(|text| matches!(text.len(), 1..=MAX_STRING_BYTES))
    })?;
    let texts = Expected::ShortTexts(MAX_STRING_BYTES);
    let root_compatible = fields.optional("root-compatible", texts, string_list)?;
    let backing = fields.optional(
        "memory-backing",
        Expected::OneOf("eager", "lazy"),
        |value| match value.as_str()? {
            "eager" => Some(MemoryBacking::Eager),
            "lazy" => Some(MemoryBacking::Lazy),
            _ => None,
        },
    )?;
    let strict = fields.optional("strict-flags", Expected::NoValue, |property| {
        property.value.is_empty().then_some(UndefinedFlags::Refused)
    })?;
    let framebuffer = fields.optional("framebuffer", Expected::Framebuffer, three_cells)?;
    let framebuffer = framebuffer
        .map(|[width, height, depth]| Geometry::new(width, height, depth))
        .transpose()
        .map_err(|error| ConfigError::BadFramebuffer {
            partition: shown(name),
            error,
        })?;
    let control = fields.optional("control", Expected::NoValue, |value| {
        value.value.is_empty().then_some(Authority::Control)
    })?;
    let largest_page = fields.optional("largest-page", Expected::PageSize, |value| {
        let bytes = u64::from(value.as_u32()?);
        PageSize::ALL.into_iter().find(|size| size.bytes() == bytes)
    })?;
    let pinned = fields.optional("pinned", Expected::Cells, cells)?;
    if let Some(pinned) = &pinned
        && pinned.len() != vcpus as usize
    {
        return Err(ConfigError::BadPinning {
            partition: shown(name),
            vcpus,
            threads: pinned.len(),
        });
    }
    let weight = fields.optional("weight", Expected::Weight, |value| {
        let range = MIN_WEIGHT..=MAX_WEIGHT;
        value.as_u32().filter(|weight| range.contains(weight))
    })?;
    if pinned.is_some() && weight.is_some() {
        return Err(ConfigError::PinnedWeight {
            partition: shown(name),
        });
    }
    let interrupt_mode =
        fields.optional("interrupt-mode", Expected::OneOf("xics", "xive"), |value| {
            InterruptMode::named(value.as_str()?)
        })?;
    let policy = read_policy(fields, name, memory_bytes)?;
    if policy != MemoryPolicy::Reserved && backing == Some(MemoryBacking::Eager) {
        return Err(ConfigError::SharedEager {
            partition: shown(name),
        });
    }
    // Event queues are larger than a frame of the pool; a tool's call cannot wait for one.
    let reserved_only = [
        (
            interrupt_mode == Some(InterruptMode::Xive),
            "interrupt-mode = \"xive\"",
        ),
        (control.is_some(), "control"),
        (
            largest_page == Some(PageSize::P16M),
            "largest-page = <16777216>",
        ),
    ];
    if policy != MemoryPolicy::Reserved
        && let Some((_, what)) = reserved_only.into_iter().find(|(given, _)| *given)
    {
        return Err(ConfigError::ReservedOnly {
            partition: shown(name),
            what,
        });
    }
    Ok(Partition {
        name,
        memory_bytes,
        vcpus,
        kernel,
        initrd,
        bootargs: bootargs.unwrap_or(""),
        hpt_order,
        hpt_resize_order,
        model,
        root_compatible: root_compatible.unwrap_or_default(),
        backing: backing.unwrap_or_default(),
        undefined_flags: strict.unwrap_or_default(),
        framebuffer,
        largest_page: largest_page.unwrap_or(PageSize::P16M),
        authority: control.unwrap_or_default(),
        pinned: pinned.unwrap_or_default(),
        weight: weight.unwrap_or(DEFAULT_WEIGHT),
        interrupt_mode: interrupt_mode.unwrap_or_default(),
        policy,
    })
}

fn read_policy(
    fields: &Fields<'_>,
    name: &str,
    memory_bytes: u64,
) -> Result<MemoryPolicy, ConfigError> {
    let expected = Expected::OneOf("reserved", "shared");
    let shared = fields.optional("memory-policy", expected, |value| match value.as_str()? {
        "reserved" => Some(false),
        "shared" => Some(true),
        _ => None,
    })?;
    let bytes = |name| fields.optional(name, Expected::TwoCells, |value| value.as_u64());
    let [guaranteed, limit] = [bytes("memory-guaranteed")?, bytes("memory-limit")?];
    if shared != Some(true) {
        let given = [("memory-guaranteed", guaranteed), ("memory-limit", limit)];
        return match given.into_iter().find(|(_, value)| value.is_some()) {
            None => Ok(MemoryPolicy::Reserved),
            Some((property, _)) => Err(ConfigError::NotShared {
                partition: shown(name),
                property,
            }),
        };
    }
    let guaranteed = guaranteed.ok_or_else(|| ConfigError::MissingProperty {
        node: fields.path.clone(),
        property: "memory-guaranteed",
    })?;
    let limit = limit.unwrap_or(memory_bytes);
    let check = |property, bytes: u64, least: u64, most: u64| {
        if bytes.is_multiple_of(SHARE_UNIT_BYTES) && (least..=most).contains(&bytes) {
            Ok(bytes)
        } else {
            Err(ConfigError::BadShare {
                partition: shown(name),
                property,
                bytes,
                least,
                most,
            })
        }
    };
    Ok(MemoryPolicy::Shared {
        limit_bytes: check("memory-limit", limit, MIN_GUARANTEED_BYTES, memory_bytes)?,
        guaranteed_bytes: check("memory-guaranteed", guaranteed, MIN_GUARANTEED_BYTES, limit)?,
    })
}

fn three_cells(value: Property<'_>) -> Option<[u32; 3]> {
    let mut cells = value.cells().filter(|_| value.value.len() == 12)?;
    Some([cells.take_u32()?, cells.take_u32()?, cells.take_u32()?])
}

/// One cell or more.
fn cells(value: Property<'_>) -> Option<Vec<u32>> {
    let (cells, rest) = value.value.as_chunks();
    let cells = || cells.iter().copied().map(u32::from_be_bytes);
    (rest.is_empty() && !value.value.is_empty()).then(|| cells().collect())
}

fn string_list(value: Property<'_>) -> Option<Vec<&str>> {
    if value.value.is_empty() || value.value.len() > MAX_STRING_BYTES {
        return None;
    }
    let list = value.strings()?;
    list.clone()
        .all(|text| !text.is_empty())
        .then(|| list.collect())
}

fn find_image<'a>(
    images: &[NumberedImage<'a>],
    phandle: u32,
    partition: &str,
    property: &'static str,
) -> Result<Image<'a>, ConfigError> {
    images
        .iter()
        .find(|numbered| numbered.phandle == Some(phandle))
        .map(|numbered| numbered.image)
        .ok_or_else(|| ConfigError::NoSuchImage {
            partition: shown(partition),
            property,
        })
}
