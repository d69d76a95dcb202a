// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The records that tools and the hypervisor exchange, as bytes in memory.
//!
//! All integers are big-endian and have alignment 1, so a record may lie anywhere. Every integer
//! lies at a multiple of its own size and every record's size is a multiple of eight, so that a
//! compiler's natural layout, 32 or 64 bits, is the same. Padding is named, and zero.
//!
//! A record is declared once, by `record!`: from that come the type, the assertions of its layout,
//! the check of its padding, and the tables of the reference and of the C header.

mod capabilities;
mod dirty;
mod header;
mod invalidate;
mod slot;
mod stream;
mod vcpu;

#[cfg(test)]
mod tests;

pub use capabilities::Capabilities;
pub use dirty::{DirtyReply, DirtyRequest};
pub use header::{Header, MAJOR, MINOR, RecordKind};
pub use invalidate::Invalidate;
pub use slot::Slot;
pub use stream::{BYTE_ORDER_BIG, BYTE_ORDER_LITTLE, StreamChunk};
pub use vcpu::{MAX_SPRS, RunState, SLB_SLOTS, Spr, VcpuState, VectorState, parts};

use super::error::{Reason, RecordError};
use zerocopy::byteorder::big_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// An integer as it lies in a record, or an array of such.
pub trait Wire {
    /// Bytes of the integer, to a multiple of which it is aligned.
    const UNIT: usize;
}

impl Wire for u8 {
    const UNIT: usize = 1;
}
impl Wire for U16 {
    const UNIT: usize = 2;
}
impl Wire for U32 {
    const UNIT: usize = 4;
}
impl Wire for U64 {
    const UNIT: usize = 8;
}
impl<T: Wire, const N: usize> Wire for [T; N] {
    const UNIT: usize = T::UNIT;
}

/// A field of a record, for checks and tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name.
    pub name: &'static str,
    /// Where it begins.
    pub offset: usize,
    /// How many bytes it has.
    pub bytes: usize,
    /// Bytes of the integers that it is made of.
    pub unit: usize,
    /// Whether it is padding, which must be zero.
    pub padding: bool,
    /// What it means.
    pub meaning: &'static str,
}

/// A record.
pub trait Record:
    Sized + FromBytes + IntoBytes + Immutable + KnownLayout + Unaligned + 'static
{
    /// Its kind.
    const KIND: RecordKind;
    /// Its name.
    const NAME: &'static str;
    /// Its fields behind the header.
    const FIELDS: &'static [Field];

    /// The header.
    fn header_mut(&mut self) -> &mut Header;

    /// Whether the values of its fields are such as the interface knows, each by itself.
    ///
    /// # Errors
    /// The first field that is not.
    fn check(&self) -> Result<(), RecordError>;

    /// A record in which all but the header is zero.
    #[must_use]
    fn blank() -> Self {
        let mut record = Self::new_zeroed();
        *record.header_mut() = Header::of::<Self>();
        record
    }
}

/// Declares a record, or (`part`) a structure inside records.
macro_rules! record {
    (
        $(#[$doc:meta])*
        part $name:ident, $size:literal {
            $($(#[doc = $meaning:literal])* $offset:literal $field:ident: $ty:ty $(= $padding:ident)?,)*
        }
    ) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq,
            zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable, zerocopy::KnownLayout,
            zerocopy::Unaligned,
        )]
        #[repr(C)]
        pub struct $name {
            $($(#[doc = $meaning])* pub $field: $ty,)*
        }

        const _: () = {
            use core::mem::offset_of;
            use $crate::control::records::Wire;
            assert!(size_of::<$name>() == $size && align_of::<$name>() == 1);
            $(
                assert!(offset_of!($name, $field) == $offset);
                assert!(usize::is_multiple_of($offset, <$ty as Wire>::UNIT));
            )*
        };

        impl $name {
            /// Its fields, by offset.
            pub const FIELDS: &'static [$crate::control::records::Field] = &[
                $($crate::control::records::Field {
                    name: stringify!($field),
                    offset: $offset,
                    bytes: size_of::<$ty>(),
                    unit: <$ty as $crate::control::records::Wire>::UNIT,
                    padding: record!(@padding $($padding)?),
                    meaning: concat!($($meaning),*),
                },)*
            ];
        }
    };
    (
        $(#[$doc:meta])*
        $name:ident, $size:literal, check $check:expr;
        {
            $($(#[doc = $meaning:literal])* $offset:literal $field:ident: $ty:ty $(= $padding:ident)?,)*
        }
    ) => {
        record! {
            $(#[$doc])*
            part $name, $size {
                /// What it is, in which version, and how long.
                0 header: $crate::control::records::Header,
                $($(#[doc = $meaning])* $offset $field: $ty $(= $padding)?,)*
            }
        }

        const _: () = assert!(usize::is_multiple_of($size, 8));

        impl $crate::control::records::Record for $name {
            const KIND: $crate::control::records::RecordKind =
                $crate::control::records::RecordKind::$name;
            const NAME: &'static str = stringify!($name);
            const FIELDS: &'static [$crate::control::records::Field] = $name::FIELDS;

            fn header_mut(&mut self) -> &mut $crate::control::records::Header {
                &mut self.header
            }

            fn check(&self) -> Result<(), $crate::control::error::RecordError> {
                let check: fn(&Self) -> Result<(), $crate::control::error::RecordError> = $check;
                check(self)
            }
        }
    };
    (@padding) => { false };
    (@padding padding) => { true };
}
use record;

/// What is wrong with the value of `$field` of `$record`.
macro_rules! bad_value {
    ($record:ty, $field:ident) => {
        $crate::control::error::RecordError::new(
            core::mem::offset_of!($record, $field),
            $crate::control::error::Reason::Value,
        )
    };
}
use bad_value;

/// The record at the start of `bytes`, and what follows it: its payload, and whatever lies behind.
///
/// The header decides how long the record is; see [`Header::check`] for which versions are taken.
///
/// # Errors
/// The record is not of this kind, not of a known version, or something in it is not allowed.
pub fn read<R: Record>(bytes: &[u8]) -> Result<(&R, &[u8]), RecordError> {
    let too_short = RecordError::new(0, Reason::TooShort);
    let (header, _) = Header::ref_from_prefix(bytes).map_err(|_| too_short)?;
    let declared = header.check::<R>()?;
    let (declared, payload) = bytes.split_at_checked(declared).ok_or(too_short)?;
    let (record, _) = R::ref_from_prefix(declared).map_err(|_| too_short)?;
    check_padding::<R>(declared)?;
    record.check()?;
    Ok((record, payload))
}

/// A blank record at the start of `bytes`, to be filled in, and the space behind it; `None` where
/// there is no room.
pub fn start<R: Record>(bytes: &mut [u8]) -> Option<(&mut R, &mut [u8])> {
    let (record, rest) = R::mut_from_prefix(bytes).ok()?;
    record.zero();
    *record.header_mut() = Header::of::<R>();
    Some((record, rest))
}

fn check_padding<R: Record>(bytes: &[u8]) -> Result<(), RecordError> {
    for field in R::FIELDS.iter().filter(|field| field.padding) {
        let padding = bytes.get(field.offset..field.offset + field.bytes);
        let dirty = padding.and_then(|bytes| bytes.iter().position(|byte| *byte != 0));
        if let Some(at) = dirty {
            return Err(RecordError::new(field.offset + at, Reason::Padding));
        }
    }
    Ok(())
}
