// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Properties of a device tree and the kinds of value that they have.
//!
//! A property is only bytes; what they mean is up to its reader. Each reader here gives `None` for
//! bytes that cannot be what it reads, and none panics.
//!
//! Devicetree Specification v0.4, Property Values.

/// A property: a name and bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Property<'a> {
    /// The name; printable ASCII, never empty.
    pub name: &'a str,
    /// The value, as it lies in the tree.
    pub value: &'a [u8],
}

impl<'a> Property<'a> {
    /// The value as one cell.
    #[must_use]
    pub fn as_u32(&self) -> Option<u32> {
        Some(u32::from_be_bytes(self.value.try_into().ok()?))
    }

    /// The value as two cells.
    #[must_use]
    pub fn as_u64(&self) -> Option<u64> {
        Some(u64::from_be_bytes(self.value.try_into().ok()?))
    }

    /// The value as a number of one or two cells: firmware uses both for the same property.
    #[must_use]
    pub fn as_one_or_two_cells(&self) -> Option<u64> {
        self.as_u32().map(u64::from).or_else(|| self.as_u64())
    }

    /// The value as cells; `None` where it is not made of whole ones.
    #[must_use]
    pub fn cells(&self) -> Option<Cells<'a>> {
        self.value
            .len()
            .is_multiple_of(4)
            .then_some(Cells { rest: self.value })
    }

    /// The value as one string: UTF-8, ended by its only NUL.
    #[must_use]
    pub fn as_str(&self) -> Option<&'a str> {
        let text = self.value.strip_suffix(&[0])?;
        if text.contains(&0) {
            return None;
        }
        core::str::from_utf8(text).ok()
    }

    /// The value as a list of strings, each ended by a NUL.
    ///
    /// `None` where the last has no end or one is not UTF-8. An empty value is an empty list.
    pub fn strings(&self) -> Option<impl Iterator<Item = &'a str> + Clone + use<'a>> {
        let text = match self.value.strip_suffix(&[0]) {
            Some(text) => text,
            None if self.value.is_empty() => &[],
            None => return None,
        };
        let text = core::str::from_utf8(text).ok()?;
        let count = if self.value.is_empty() { 0 } else { usize::MAX };
        Some(text.split('\0').take(count))
    }
}

/// The cells of a property, taken one number at a time.
#[derive(Clone, Copy, Debug)]
pub struct Cells<'a> {
    rest: &'a [u8],
}

impl Cells<'_> {
    /// Cells that are left.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rest.len() / 4
    }

    /// Whether none is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Takes a number of one cell.
    pub fn take_u32(&mut self) -> Option<u32> {
        let (first, rest) = self.rest.split_first_chunk::<4>()?;
        self.rest = rest;
        Some(u32::from_be_bytes(*first))
    }

    /// Takes a number of `cells` cells: 0 (which is 0), 1 or 2.
    pub fn take(&mut self, cells: u32) -> Option<u64> {
        match cells {
            0 => Some(0),
            1 => self.take_u32().map(u64::from),
            2 => {
                let (first, rest) = self.rest.split_first_chunk::<8>()?;
                self.rest = rest;
                Some(u64::from_be_bytes(*first))
            }
            _ => None,
        }
    }
}
