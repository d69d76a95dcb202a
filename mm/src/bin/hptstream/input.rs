// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A stream from a file, and the size of its table.

use crate::Failure;
use crate::arguments::Source;
use penstock_mm::hpt::HptOrder;
use penstock_mm::stream::{Encoding, ParseError, ParsedStream, StartsFrom, entries_of, qemu};
use std::fs::File;
use std::io::{self, Read};

/// The longest stream that is read, in bytes: it is kept in memory. A table of 2 GiB, full, in one
/// pass, is shorter.
const LONGEST: u64 = 4 << 30;

/// A stream that was read and checked.
#[derive(Debug)]
pub struct Input {
    name: String,
    bytes: Vec<u8>,
    format: Encoding,
    order: HptOrder,
    /// Whether somebody has said the order; else it is the least that will do.
    order_is_known: bool,
}

impl Input {
    /// Reads a stream and checks it, for a table of this order where one is given.
    pub fn read(source: &Source, order: Option<HptOrder>) -> Result<Self, Failure> {
        let (name, bytes) = match &source.file {
            None => (String::from("standard input"), read_all(io::stdin().lock())),
            Some(path) => (
                path.display().to_string(),
                File::open(path).and_then(read_all),
            ),
        };
        let bytes = bytes.map_err(|error| Failure::file(&name, &error))?;
        let bad = |error: ParseError| Failure::BadStream(format!("{name}: {error}"));
        let known = match source.format {
            Encoding::Qemu => qemu::size_of_table(&bytes).map_err(bad)?,
            Encoding::Bare(_) => None,
        };
        // What is given goes first, so that another size in the stream is found.
        let (order, order_is_known) = match order.or(known) {
            Some(order) => (order, true),
            None => (least_order(&bytes, source.format).map_err(bad)?, false),
        };
        let input = Self {
            name,
            bytes,
            format: source.format,
            order,
            order_is_known,
        };
        input.stream()?;
        Ok(input)
    }

    /// The stream. It starts from an empty table, for there is no other here.
    pub fn stream(&self) -> Result<ParsedStream<'_>, Failure> {
        parse(&self.bytes, self.format, self.order)
            .map_err(|error| Failure::BadStream(format!("{}: {error}", self.name)))
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub const fn order(&self) -> HptOrder {
        self.order
    }

    /// The order, if somebody has said it.
    pub fn known_order(&self) -> Option<HptOrder> {
        self.order_is_known.then_some(self.order)
    }
}

fn read_all(from: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(LONGEST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LONGEST {
        return Err(io::Error::other(format!("longer than {LONGEST} bytes")));
    }
    Ok(bytes)
}

fn parse(bytes: &[u8], format: Encoding, order: HptOrder) -> Result<ParsedStream<'_>, ParseError> {
    ParsedStream::parse(bytes, format, entries_of(order), StartsFrom::EmptyTable)
}

/// The smallest table that has all entries of a stream.
fn least_order(bytes: &[u8], format: Encoding) -> Result<HptOrder, ParseError> {
    let stream = parse(bytes, format, HptOrder::MAX)?;
    let entries = stream.records().map(|(_, header)| header.end()).max();
    let order = (HptOrder::MIN.get()..HptOrder::MAX.get())
        .filter_map(HptOrder::new)
        .find(|&order| entries_of(order) >= entries.unwrap_or(0));
    Ok(order.unwrap_or(HptOrder::MAX))
}
