// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The bytes of a record: its header, and entries.

use super::GuestHpte;
use penstock_arch::hash::{GuestHpteR, GuestHpteV, HpteV};

/// Bytes of a record's header.
pub const HEADER_BYTES: usize = 8;
/// Bytes of an entry.
pub const ENTRY_BYTES: usize = 16;

/// Software bits of doubleword 0 that are the hypervisor's own affair. KVM's streams have the first
/// of them set in every entry, for it reads with the lock held.
pub(super) const HYPERVISOR_BITS: u64 = HpteV::HVLOCK | HpteV::ABSENT;

/// The byte order of record headers. Entries are always big-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ByteOrder {
    /// KVM's file on a little-endian host, and Penstock's own streams.
    Little,
    /// KVM's file on a big-endian host, and QEMU's migration stream.
    Big,
}

/// The header of a record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecordHeader {
    /// The first entry.
    pub index: u32,
    /// How many entries follow, each with its bytes.
    pub n_valid: u16,
    /// How many entries after those are not there.
    pub n_invalid: u16,
}

impl RecordHeader {
    /// The header's bytes.
    #[must_use]
    pub const fn to_bytes(self, order: ByteOrder) -> [u8; HEADER_BYTES] {
        let (index, n_valid, n_invalid) = match order {
            ByteOrder::Little => (
                self.index.to_le_bytes(),
                self.n_valid.to_le_bytes(),
                self.n_invalid.to_le_bytes(),
            ),
            ByteOrder::Big => (
                self.index.to_be_bytes(),
                self.n_valid.to_be_bytes(),
                self.n_invalid.to_be_bytes(),
            ),
        };
        let [a, b, c, d] = index;
        let ([e, f], [g, h]) = (n_valid, n_invalid);
        [a, b, c, d, e, f, g, h]
    }

    /// The header with these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; HEADER_BYTES], order: ByteOrder) -> Self {
        let [a, b, c, d, e, f, g, h] = bytes;
        let (index, n_valid, n_invalid) = ([a, b, c, d], [e, f], [g, h]);
        match order {
            ByteOrder::Little => Self {
                index: u32::from_le_bytes(index),
                n_valid: u16::from_le_bytes(n_valid),
                n_invalid: u16::from_le_bytes(n_invalid),
            },
            ByteOrder::Big => Self {
                index: u32::from_be_bytes(index),
                n_valid: u16::from_be_bytes(n_valid),
                n_invalid: u16::from_be_bytes(n_invalid),
            },
        }
    }

    /// Whether the record names no entry at all.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.n_valid == 0 && self.n_invalid == 0
    }

    /// The first entry that the record does not name.
    #[must_use]
    pub const fn end(self) -> u64 {
        self.index as u64 + self.n_valid as u64 + self.n_invalid as u64
    }
}

impl GuestHpte {
    /// The entry's bytes in a stream: valid, and without the hypervisor's bits and the bit of
    /// doubleword 1 that nobody defines, which KVM keeps a mark of its own in.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; ENTRY_BYTES] {
        let v = (self.v.get() & !HYPERVISOR_BITS) | HpteV::VALID;
        let r = self.r.get() & !GuestHpteR::RESERVED;
        (((v as u128) << 64) | r as u128).to_be_bytes()
    }

    /// The entry with these bytes, unchecked and as it is in the stream.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; ENTRY_BYTES]) -> Self {
        let both = u128::from_be_bytes(bytes);
        // The low half, whatever the high half is.
        #[expect(clippy::cast_possible_truncation)]
        let r = both as u64;
        Self {
            v: GuestHpteV::new((both >> 64) as u64),
            r: GuestHpteR::new(r),
        }
    }
}
