// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A reader of flattened device trees that takes what OPAL really produces and trusts nothing.
//!
//! Firmware's tree and the partition tree are both in this format. skiboot uses node and property
//! names longer than the 31 characters that the specification allows (`ibm,powerpc-cpu-features`
//! has one of 43), so readers that enforce that limit refuse every real machine; this one does
//! not.
//!
//! We rely on nothing: [`FlatTree::new`] walks the whole structure block once, with every offset
//! checked. We guarantee that neither it nor anything reached from its result panics, whatever the
//! bytes are, and that each walk ends: every step moves forward in the bytes.
//!
//! Devicetree Specification v0.4, Flattened Devicetree (DTB) Format.

mod property;

use core::fmt;

pub use property::{Cells, Property};

const MAGIC: u32 = 0xd00d_feed;
/// The format's version; 16 is compatible with it.
const VERSION: u32 = 17;
const HEADER_BYTES: usize = 40;

const BEGIN_NODE: u32 = 1;
const END_NODE: u32 = 2;
const PROPERTY: u32 = 3;
const NOP: u32 = 4;
const END: u32 = 9;

/// Deepest nesting that is accepted; skiboot's trees have 6.
const MAX_DEPTH: usize = 32;

/// Longest name that is accepted; the longest known has 43 characters. Properties share the strings
/// block, so without a limit reading a tree could take time quadratic in its size.
const MAX_NAME: usize = 255;

/// Why bytes are not a device tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TreeError {
    /// Fewer bytes than the header says, or than a header has.
    Truncated {
        /// Bytes that the tree needs.
        needed: usize,
        /// Bytes that were given.
        given: usize,
    },
    /// The first word is not the format's magic number.
    Magic(u32),
    /// A version of the format that we do not know.
    Version(u32),
    /// A block of the tree does not lie inside it.
    BlockOutside(Block),
    /// The structure block is not made as it must be.
    Structure {
        /// Offset of the offending word in the structure block.
        offset: usize,
    },
    /// A node's name is empty, too long, or not made of printable ASCII characters.
    Name {
        /// Offset of the node in the structure block.
        offset: usize,
    },
    /// Nodes are nested deeper than any real tree's.
    TooDeep {
        /// Offset in the structure block of the node that is too deep.
        offset: usize,
    },
}

/// A block of the flattened format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Block {
    /// The list of reserved memory.
    Reservations,
    /// Nodes and properties.
    Structure,
    /// Names of properties.
    Strings,
}

impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Reservations => "memory reservation",
            Self::Structure => "structure",
            Self::Strings => "strings",
        })
    }
}

impl fmt::Display for TreeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Truncated { needed, given } => {
                write!(
                    f,
                    "device tree is cut short: {needed} bytes needed, {given} given"
                )
            }
            Self::Magic(found) => {
                write!(f, "not a flattened device tree: starts with {found:#010x}")
            }
            Self::Version(found) => write!(f, "device tree format version {found} is not known"),
            Self::BlockOutside(block) => {
                write!(f, "device tree's {block} block does not lie inside it")
            }
            Self::Structure { offset } => {
                write!(
                    f,
                    "device tree is broken at offset {offset:#x} of its structure block"
                )
            }
            Self::Name { offset } => {
                write!(
                    f,
                    "device tree has a broken name at offset {offset:#x} of its structure"
                )
            }
            Self::TooDeep { offset } => write!(
                f,
                "device tree nests deeper than {MAX_DEPTH} levels at offset {offset:#x} of its \
                 structure block"
            ),
        }
    }
}

/// The big-endian word at `offset`.
fn word(bytes: &[u8], offset: usize) -> Option<u32> {
    let end = offset.checked_add(4)?;
    let bytes: [u8; 4] = bytes.get(offset..end)?.try_into().ok()?;
    Some(u32::from_be_bytes(bytes))
}

/// The big-endian doubleword at `offset`.
fn doubleword(bytes: &[u8], offset: usize) -> Option<u64> {
    let end = offset.checked_add(8)?;
    let bytes: [u8; 8] = bytes.get(offset..end)?.try_into().ok()?;
    Some(u64::from_be_bytes(bytes))
}

/// The printable name at `offset`, without its NUL.
fn name_at(bytes: &[u8], offset: usize) -> Option<&str> {
    let rest = bytes.get(offset..)?;
    let length = rest.iter().take(MAX_NAME + 1).position(|&byte| byte == 0)?;
    let name = rest.get(..length)?;
    if !name.iter().all(u8::is_ascii_graphic) {
        return None;
    }
    core::str::from_utf8(name).ok()
}

/// `offset` rounded up to the next word.
fn word_aligned(offset: usize) -> Option<usize> {
    offset.checked_next_multiple_of(4)
}

/// A flattened device tree whose structure has been checked.
#[derive(Clone, Copy, Debug)]
pub struct FlatTree<'a> {
    reservations: &'a [u8],
    structure: &'a [u8],
    strings: &'a [u8],
    boot_cpu: u32,
    bytes: usize,
}

impl<'a> FlatTree<'a> {
    /// Bytes of the tree that starts with `first`, of which eight bytes are enough: what must be
    /// copied or mapped before [`FlatTree::new`].
    ///
    /// # Errors
    /// `first` is too short or does not start with the magic number.
    pub fn size_of_tree(first: &[u8]) -> Result<usize, TreeError> {
        let given = first.len();
        let short = TreeError::Truncated {
            needed: HEADER_BYTES,
            given,
        };
        let magic = word(first, 0).ok_or(short)?;
        if magic != MAGIC {
            return Err(TreeError::Magic(magic));
        }
        let bytes = word(first, 4).ok_or(short)?;
        usize::try_from(bytes).map_err(|_| short)
    }

    /// The tree at the start of `bytes`; what follows it is not looked at.
    ///
    /// # Errors
    /// The bytes are not a well-formed tree.
    pub fn new(bytes: &'a [u8]) -> Result<Self, TreeError> {
        let size = Self::size_of_tree(bytes)?;
        let needed = size.max(HEADER_BYTES);
        let tree = bytes.get(..needed).ok_or(TreeError::Truncated {
            needed,
            given: bytes.len(),
        })?;
        let field = |offset| {
            word(tree, offset)
                .and_then(|value| usize::try_from(value).ok())
                .unwrap_or(usize::MAX)
        };
        let version = word(tree, 20).unwrap_or(0);
        if version < VERSION || word(tree, 24).unwrap_or(u32::MAX) > VERSION {
            return Err(TreeError::Version(version));
        }
        let block = |name, offset: usize, length: Option<usize>| {
            let end = match length {
                Some(length) => offset.checked_add(length),
                None => Some(tree.len()),
            };
            end.and_then(|end| tree.get(offset..end))
                .ok_or(TreeError::BlockOutside(name))
        };
        let tree = Self {
            reservations: block(Block::Reservations, field(16), None)?,
            structure: block(Block::Structure, field(8), Some(field(36)))?,
            strings: block(Block::Strings, field(12), Some(field(32)))?,
            boot_cpu: word(tree, 28).unwrap_or(0),
            bytes: size,
        };
        tree.check_reservations()?;
        tree.check_structure()?;
        Ok(tree)
    }

    fn check_reservations(&self) -> Result<(), TreeError> {
        let mut offset = 0;
        loop {
            let outside = TreeError::BlockOutside(Block::Reservations);
            let address = doubleword(self.reservations, offset).ok_or(outside)?;
            let bytes = doubleword(self.reservations, offset + 8).ok_or(outside)?;
            if address == 0 && bytes == 0 {
                return Ok(());
            }
            offset += 16;
        }
    }

    fn check_structure(&self) -> Result<(), TreeError> {
        let mut depth = 0_usize;
        let mut offset = 0;
        // Properties come before child nodes; a node that follows a closed one ends them.
        let mut properties_allowed = false;
        loop {
            let Some((token, next)) = self.token(offset) else {
                return Err(match word(self.structure, offset) {
                    Some(BEGIN_NODE) => TreeError::Name { offset },
                    _ => TreeError::Structure { offset },
                });
            };
            let broken = TreeError::Structure { offset };
            match token {
                Token::Begin(name) => {
                    if name.is_empty() != (depth == 0) || (depth == 0 && offset != 0) {
                        return Err(TreeError::Name { offset });
                    }
                    if depth == MAX_DEPTH {
                        return Err(TreeError::TooDeep { offset });
                    }
                    depth += 1;
                    properties_allowed = true;
                }
                Token::End => {
                    depth = depth.checked_sub(1).ok_or(broken)?;
                    properties_allowed = false;
                    if depth == 0 {
                        return match self.next_significant(next) {
                            Some(END) => Ok(()),
                            _ => Err(TreeError::Structure { offset: next }),
                        };
                    }
                }
                Token::Property(property) => {
                    if !properties_allowed || property.name.is_empty() {
                        return Err(broken);
                    }
                }
                Token::Nop => {}
            }
            offset = next;
        }
    }

    /// The first token at or after `offset` that is not a filler.
    fn next_significant(&self, mut offset: usize) -> Option<u32> {
        loop {
            match word(self.structure, offset)? {
                NOP => offset += 4,
                token => return Some(token),
            }
        }
    }

    /// The token at `offset` and the offset after it.
    fn token(&self, offset: usize) -> Option<(Token<'a>, usize)> {
        let after = offset.checked_add(4)?;
        match word(self.structure, offset)? {
            BEGIN_NODE => {
                let name = name_at(self.structure, after)?;
                let next = word_aligned(after.checked_add(name.len())?.checked_add(1)?)?;
                Some((Token::Begin(name), next))
            }
            END_NODE => Some((Token::End, after)),
            NOP => Some((Token::Nop, after)),
            PROPERTY => {
                let length = usize::try_from(word(self.structure, after)?).ok()?;
                let name = usize::try_from(word(self.structure, after.checked_add(4)?)?).ok()?;
                let start = after.checked_add(8)?;
                let end = start.checked_add(length)?;
                let value = self.structure.get(start..end)?;
                let name = name_at(self.strings, name)?;
                Some((
                    Token::Property(Property { name, value }),
                    word_aligned(end)?,
                ))
            }
            _ => None,
        }
    }

    /// What the token at `offset` does to the nesting and the offset after it, without a look at
    /// names: most of a walk only passes by.
    fn skip_token(&self, offset: usize) -> Option<(Nesting, usize)> {
        let after = offset.checked_add(4)?;
        match word(self.structure, offset)? {
            BEGIN_NODE => {
                let rest = self.structure.get(after..)?;
                let length = rest.iter().position(|&byte| byte == 0)?;
                Some((
                    Nesting::Deeper,
                    word_aligned(after.checked_add(length)?.checked_add(1)?)?,
                ))
            }
            END_NODE => Some((Nesting::Out, after)),
            NOP => Some((Nesting::Same, after)),
            PROPERTY => {
                let length = usize::try_from(word(self.structure, after)?).ok()?;
                let end = after.checked_add(8)?.checked_add(length)?;
                Some((Nesting::Same, word_aligned(end)?))
            }
            _ => None,
        }
    }

    /// Bytes of the tree, as its header says.
    #[must_use]
    pub fn len_bytes(&self) -> usize {
        self.bytes
    }

    /// The processor that started the kernel, `boot_cpuid_phys`.
    #[must_use]
    pub fn boot_cpu(&self) -> u32 {
        self.boot_cpu
    }

    /// The list of reserved memory as (address, bytes), up to its end mark.
    pub fn reservations(&self) -> impl Iterator<Item = (u64, u64)> + use<'a> {
        let list = self.reservations;
        (0..list.len() / 16)
            .map(move |index| {
                let offset = index * 16;
                (
                    doubleword(list, offset).unwrap_or(0),
                    doubleword(list, offset + 8).unwrap_or(0),
                )
            })
            .take_while(|&entry| entry != (0, 0))
    }

    /// The root node.
    #[must_use]
    pub fn root(&self) -> Node<'a> {
        // `new` has seen that the first token opens the root.
        let inside = self.token(0).map_or(usize::MAX, |(_, next)| next);
        Node {
            tree: *self,
            name: "",
            inside,
        }
    }
}

enum Nesting {
    Deeper,
    Same,
    Out,
}

enum Token<'a> {
    Begin(&'a str),
    End,
    Property(Property<'a>),
    Nop,
}

/// A node of a [`FlatTree`].
#[derive(Clone, Copy, Debug)]
pub struct Node<'a> {
    tree: FlatTree<'a>,
    name: &'a str,
    /// Offset of the first token inside the node.
    inside: usize,
}

impl<'a> Node<'a> {
    /// The name with its unit address; empty for the root.
    #[must_use]
    pub fn name(&self) -> &'a str {
        self.name
    }

    /// The name without its unit address.
    #[must_use]
    pub fn base_name(&self) -> &'a str {
        self.name.split('@').next().unwrap_or(self.name)
    }

    /// The properties, in the tree's order; a broken tree may repeat a name.
    #[must_use]
    pub fn properties(&self) -> Properties<'a> {
        Properties {
            tree: self.tree,
            offset: self.inside,
        }
    }

    /// The child nodes, in the tree's order.
    #[must_use]
    pub fn children(&self) -> Children<'a> {
        Children {
            tree: self.tree,
            offset: self.inside,
            depth: 0,
        }
    }

    /// The first property with this name.
    #[must_use]
    pub fn property(&self, name: &str) -> Option<Property<'a>> {
        self.properties().find(|property| property.name == name)
    }

    /// The first child with this name: the whole name where `name` has a unit address, otherwise
    /// whatever unit address the node has.
    #[must_use]
    pub fn child(&self, name: &str) -> Option<Node<'a>> {
        let whole = name.contains('@');
        self.children()
            .find(|node| if whole { node.name } else { node.base_name() } == name)
    }

    /// Whether `compatible` lists `wanted`.
    #[must_use]
    pub fn is_compatible(&self, wanted: &str) -> bool {
        self.property("compatible")
            .and_then(|property| property.strings())
            .is_some_and(|mut list| list.any(|entry| entry == wanted))
    }
}

/// Iterator over the properties of a node.
#[derive(Clone, Debug)]
pub struct Properties<'a> {
    tree: FlatTree<'a>,
    offset: usize,
}

impl<'a> Iterator for Properties<'a> {
    type Item = Property<'a>;

    fn next(&mut self) -> Option<Property<'a>> {
        loop {
            let (token, next) = self.tree.token(self.offset)?;
            match token {
                Token::Property(property) => {
                    self.offset = next;
                    return Some(property);
                }
                Token::Nop => self.offset = next,
                Token::Begin(_) | Token::End => return None,
            }
        }
    }
}

/// Iterator over the children of a node.
#[derive(Clone, Debug)]
pub struct Children<'a> {
    tree: FlatTree<'a>,
    offset: usize,
    /// Nodes below the parent that `offset` is inside of: the child handed out last is only
    /// skipped when the next is wanted.
    depth: usize,
}

impl<'a> Iterator for Children<'a> {
    type Item = Node<'a>;

    fn next(&mut self) -> Option<Node<'a>> {
        loop {
            let (nesting, next) = self.tree.skip_token(self.offset)?;
            match nesting {
                Nesting::Deeper => {
                    self.depth += 1;
                    if self.depth == 1 {
                        let name = name_at(self.tree.structure, self.offset.checked_add(4)?)?;
                        self.offset = next;
                        return Some(Node {
                            tree: self.tree,
                            name,
                            inside: next,
                        });
                    }
                }
                // The parent's own end stays in front of us.
                Nesting::Out => self.depth = self.depth.checked_sub(1)?,
                Nesting::Same => {}
            }
            self.offset = next;
        }
    }
}

#[cfg(test)]
mod tests;
