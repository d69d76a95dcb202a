// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The stream of a fake's page table: small, slow, and written from the format's description alone.

extern crate std;

use super::{FAKE_ENTRIES, VALID};
use crate::control::target::{HeaderOrder, TargetError};
use std::vec::Vec;

/// The 8 bytes before the entries of a record.
fn header(order: HeaderOrder, index: usize, valid: usize, invalid: usize) -> [u8; 8] {
    let [index, valid, invalid] = [index, valid, invalid].map(|n| u32::try_from(n).unwrap());
    let [valid, invalid] = [valid, invalid].map(|n| u16::try_from(n).unwrap());
    let mut bytes = [0; 8];
    let (first, second, third) = match order {
        HeaderOrder::Big => (
            index.to_be_bytes(),
            valid.to_be_bytes(),
            invalid.to_be_bytes(),
        ),
        HeaderOrder::Little => (
            index.to_le_bytes(),
            valid.to_le_bytes(),
            invalid.to_le_bytes(),
        ),
    };
    bytes[..4].copy_from_slice(&first);
    bytes[4..6].copy_from_slice(&second);
    bytes[6..].copy_from_slice(&third);
    bytes
}

fn parse_header(order: HeaderOrder, bytes: [u8; 8]) -> (usize, usize, usize) {
    let [a, b, c, d, e, f, g, h] = bytes;
    let (index, valid, invalid) = match order {
        HeaderOrder::Big => (
            u32::from_be_bytes([a, b, c, d]),
            u16::from_be_bytes([e, f]),
            u16::from_be_bytes([g, h]),
        ),
        HeaderOrder::Little => (
            u32::from_le_bytes([a, b, c, d]),
            u16::from_le_bytes([e, f]),
            u16::from_le_bytes([g, h]),
        ),
    };
    (index as usize, valid.into(), invalid.into())
}

/// One change per record: simple, and a legal stream.
pub(super) fn encode(order: HeaderOrder, index: usize, entry: Option<[u64; 2]>) -> Vec<u8> {
    let mut bytes = Vec::from(header(
        order,
        index,
        usize::from(entry.is_some()),
        usize::from(entry.is_none()),
    ));
    for doubleword in entry.into_iter().flatten() {
        bytes.extend(doubleword.to_be_bytes());
    }
    bytes
}

pub(super) type Changes = Vec<(usize, Option<[u64; 2]>)>;

pub(super) fn decode(order: HeaderOrder, bytes: &[u8]) -> Result<Changes, TargetError> {
    let mut changes = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let bad = TargetError::Stream { offset: at };
        let (head, rest) = bytes[at..].split_first_chunk::<8>().ok_or(bad)?;
        let (index, valid, invalid) = parse_header(order, *head);
        let entries = rest.get(..16 * valid).ok_or(bad)?;
        if index + valid + invalid > FAKE_ENTRIES {
            return Err(bad);
        }
        for (number, entry) in entries.chunks_exact(16).enumerate() {
            let v = u64::from_be_bytes(entry[..8].try_into().unwrap());
            let r = u64::from_be_bytes(entry[8..].try_into().unwrap());
            if v & VALID == 0 {
                let offset = at + 8 + 16 * number;
                return Err(TargetError::Stream { offset });
            }
            changes.push((index + number, Some([v, r])));
        }
        changes.extend((index + valid..index + valid + invalid).map(|index| (index, None)));
        at += 8 + 16 * valid;
    }
    Ok(changes)
}
