// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A reader of flattened device trees, as small as the test guests need.
//!
//! Every access is bounds-checked: a damaged tree gives `None`, never a panic or an endless loop.
//! Format: Devicetree Specification, Flattened Devicetree (DTB) Format.

const MAGIC: u32 = 0xd00d_feed;
const BEGIN_NODE: u32 = 1;
const END_NODE: u32 = 2;
const PROPERTY: u32 = 3;
const NOP: u32 = 4;

/// A device tree in memory.
#[derive(Clone, Copy, Debug)]
pub struct Fdt<'a> {
    blob: &'a [u8],
    structure: &'a [u8],
    strings: &'a [u8],
}

/// A node: where its properties begin in the structure block.
#[derive(Clone, Copy, Debug)]
pub struct Node<'a> {
    fdt: Fdt<'a>,
    name: &'a str,
    body: usize,
}

/// The big-endian word at a byte offset.
#[must_use]
pub fn word(bytes: &[u8], offset: usize) -> Option<u32> {
    let end = offset.checked_add(4)?;
    Some(u32::from_be_bytes(bytes.get(offset..end)?.try_into().ok()?))
}

/// The big-endian doubleword at a byte offset, as two cells make it.
#[must_use]
pub fn doubleword(bytes: &[u8], offset: usize) -> Option<u64> {
    Some(u64::from(word(bytes, offset)?) << 32 | u64::from(word(bytes, offset.checked_add(4)?)?))
}

fn text(bytes: &[u8], offset: usize) -> Option<&str> {
    let rest = bytes.get(offset..)?;
    let len = rest.iter().position(|&byte| byte == 0)?;
    core::str::from_utf8(rest.get(..len)?).ok()
}

enum Token<'a> {
    Begin { name: &'a str },
    End,
    Property { name: &'a str, value: &'a [u8] },
}

impl<'a> Fdt<'a> {
    /// The total size that a tree's first 8 bytes give, in bytes; `None` where the magic is wrong.
    #[must_use]
    pub fn total_size(header: &[u8]) -> Option<usize> {
        if word(header, 0)? != MAGIC {
            return None;
        }
        usize::try_from(word(header, 4)?).ok()
    }

    /// The tree in these bytes; `None` where the header does not fit them.
    #[must_use]
    pub fn new(blob: &'a [u8]) -> Option<Self> {
        let total = Self::total_size(blob)?;
        let blob = blob.get(..total)?;
        let part = |offset_at, size_at| {
            let offset = usize::try_from(word(blob, offset_at)?).ok()?;
            let size = usize::try_from(word(blob, size_at)?).ok()?;
            blob.get(offset..offset.checked_add(size)?)
        };
        Some(Self {
            blob,
            structure: part(8, 36)?,
            strings: part(12, 32)?,
        })
    }

    /// The memory reservations: address and size in bytes.
    pub fn reservations(&self) -> impl Iterator<Item = (u64, u64)> + use<'a> {
        let blob = self.blob;
        let start = word(blob, 16)
            .and_then(|at| usize::try_from(at).ok())
            .unwrap_or(blob.len());
        (0..)
            .map_while(move |index: usize| {
                let at = start.checked_add(index.checked_mul(16)?)?;
                Some((doubleword(blob, at)?, doubleword(blob, at.checked_add(8)?)?))
            })
            .take_while(|&(address, size)| address != 0 || size != 0)
    }

    /// The root node.
    #[must_use]
    pub fn root(self) -> Option<Node<'a>> {
        match self.token(0)? {
            (Token::Begin { name }, body) => Some(Node {
                fdt: self,
                name,
                body,
            }),
            _ => None,
        }
    }

    /// The node at an absolute path. A path's part without unit address fits the first node of
    /// that name.
    #[must_use]
    pub fn node(self, path: &str) -> Option<Node<'a>> {
        let mut node = self.root()?;
        for part in path.split('/').filter(|part| !part.is_empty()) {
            node = node.children().find(|child| child.is_named(part))?;
        }
        Some(node)
    }

    fn token(&self, mut at: usize) -> Option<(Token<'a>, usize)> {
        loop {
            let token = word(self.structure, at)?;
            at = at.checked_add(4)?;
            match token {
                NOP => {}
                BEGIN_NODE => {
                    let name = text(self.structure, at)?;
                    let end = at.checked_add(name.len())?.checked_add(4)? & !3;
                    return Some((Token::Begin { name }, end));
                }
                END_NODE => return Some((Token::End, at)),
                PROPERTY => {
                    let len = usize::try_from(word(self.structure, at)?).ok()?;
                    let name = usize::try_from(word(self.structure, at.checked_add(4)?)?).ok()?;
                    let name = text(self.strings, name)?;
                    let start = at.checked_add(8)?;
                    let end = start.checked_add(len)?;
                    let value = self.structure.get(start..end)?;
                    return Some((Token::Property { name, value }, end.checked_add(3)? & !3));
                }
                _ => return None,
            }
        }
    }
}

impl<'a> Node<'a> {
    /// The name with its unit address.
    #[must_use]
    pub fn name(&self) -> &'a str {
        self.name
    }

    fn is_named(&self, part: &str) -> bool {
        self.name == part || self.name.split('@').next() == Some(part)
    }

    /// The value of a property.
    #[must_use]
    pub fn property(&self, wanted: &str) -> Option<&'a [u8]> {
        let mut at = self.body;
        while let (Token::Property { name, value }, next) = self.fdt.token(at)? {
            if name == wanted {
                return Some(value);
            }
            at = next;
        }
        None
    }

    /// The first cell of a property.
    #[must_use]
    pub fn cell(&self, name: &str) -> Option<u32> {
        word(self.property(name)?, 0)
    }

    /// A property that is one string, without its final zero.
    #[must_use]
    pub fn string(&self, name: &str) -> Option<&'a str> {
        text(self.property(name)?, 0)
    }

    /// Whether a property that is a list of strings holds this one.
    #[must_use]
    pub fn has_string(&self, name: &str, wanted: &str) -> bool {
        self.property(name).is_some_and(|list| {
            list.split(|&byte| byte == 0)
                .any(|s| s == wanted.as_bytes())
        })
    }

    /// The child nodes.
    pub fn children(&self) -> impl Iterator<Item = Node<'a>> + use<'a> {
        let fdt = self.fdt;
        let mut at = self.body;
        let mut depth = 0usize;
        core::iter::from_fn(move || {
            loop {
                let (token, next) = fdt.token(at)?;
                at = next;
                match token {
                    Token::Property { .. } => {}
                    Token::Begin { name } => {
                        depth = depth.checked_add(1)?;
                        if depth == 1 {
                            return Some(Node {
                                fdt,
                                name,
                                body: next,
                            });
                        }
                    }
                    Token::End => depth = depth.checked_sub(1)?,
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // dtc's output for:
    // /dts-v1/; /memreserve/ 0x1000 0x20;
    // / { a = <7>; n@1 { s = "x", "yz"; m { }; }; o { b = <1 2>; }; };
    const TREE: [u8; 212] = tree();

    const fn tree() -> [u8; 212] {
        let words: [u32; 53] = [
            MAGIC,
            212,
            72,
            200,
            40,
            17,
            16,
            0,
            6,
            128, // header
            0,
            0x1000,
            0,
            0x20,
            0,
            0,
            0,
            0, // reservations
            BEGIN_NODE,
            0,
            PROPERTY,
            4,
            0,
            7, // root, a
            BEGIN_NODE,
            0x6e40_3100,
            PROPERTY,
            5,
            2,
            0x7800_797a,
            0, // n@1, s
            BEGIN_NODE,
            0x6d00_0000,
            END_NODE,
            END_NODE, // m
            BEGIN_NODE,
            0x6f00_0000,
            PROPERTY,
            8,
            4,
            1,
            2,
            END_NODE, // o, b
            END_NODE,
            NOP,
            NOP,
            NOP,
            NOP,
            NOP,
            9, // end of root, end of tree
            0x6100_7300,
            0x6200_0000,
            0, // strings
        ];
        let mut bytes = [0; 212];
        let mut i = 0;
        while i < 53 {
            let word = words[i].to_be_bytes();
            let mut j = 0;
            while j < 4 {
                bytes[4 * i + j] = word[j];
                j += 1;
            }
            i += 1;
        }
        bytes
    }

    #[test]
    fn nodes_and_properties_are_found() {
        let fdt = Fdt::new(&TREE).unwrap();
        assert_eq!(fdt.root().unwrap().cell("a"), Some(7));
        assert!(fdt.reservations().eq([(0x1000, 0x20)]));
        let n = fdt.node("/n").unwrap();
        assert_eq!(n.name(), "n@1");
        assert!(n.has_string("s", "yz") && !n.has_string("s", "y"));
        assert_eq!(n.string("s"), Some("x"));
        assert!(fdt.node("/n@1/m").is_some() && fdt.node("/m").is_none());
        let o = fdt.node("/o").unwrap();
        assert_eq!(doubleword(o.property("b").unwrap(), 0), Some(0x1_0000_0002));
        assert_eq!(fdt.root().unwrap().children().count(), 2);
        assert!(o.property("s").is_none());
    }

    #[test]
    fn truncated_and_mutated_trees_end() {
        for len in 0..TREE.len() {
            assert!(Fdt::new(&TREE[..len]).is_none());
        }
        for at in 0..TREE.len() {
            for value in [0, 1, 2, 3, 4, 9, 0x7f, 0xff] {
                let mut bytes = TREE;
                bytes[at] = value;
                if let Some(fdt) = Fdt::new(&bytes) {
                    let _ = fdt.reservations().count();
                    let _ = fdt.node("/n/m");
                    let _ = fdt.node("/o").and_then(|o| o.cell("b"));
                }
            }
        }
    }
}
