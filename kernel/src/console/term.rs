// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Terminal bytes as they travel in two registers, and as they are safe to print.

use core::fmt;

/// Most bytes that one H_PUT_TERM_CHAR or H_GET_TERM_CHAR carries.
pub const MAX_TERM_BYTES: usize = 16;

/// Up to 16 bytes in two registers: the first is the most significant byte of `high`.
///
/// Bytes beyond the length are whatever the registers held; [`bytes`](Self::bytes) and the rings
/// never let them out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TermBytes {
    /// The first eight bytes: register 6 of H_PUT_TERM_CHAR, register 5 of H_GET_TERM_CHAR.
    pub high: u64,
    /// The last eight bytes: register 7 of H_PUT_TERM_CHAR, register 6 of H_GET_TERM_CHAR.
    pub low: u64,
    /// How many of the bytes count: 0 to 16, more is taken as 16. Register 4 of H_GET_TERM_CHAR.
    pub len: u8,
}

impl TermBytes {
    /// No bytes.
    pub const NONE: Self = Self {
        high: 0,
        low: 0,
        len: 0,
    };

    /// The operands of H_PUT_TERM_CHAR: length in register 5, bytes in registers 6 and 7. `None`
    /// for a length above 16: H_PARAMETER.
    #[must_use]
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "at most 16")]
    pub const fn from_put(len: u64, high: u64, low: u64) -> Option<Self> {
        if len > MAX_TERM_BYTES as u64 {
            None
        } else {
            Some(Self {
                high,
                low,
                len: len as u8,
            })
        }
    }

    /// The first 16 of `bytes`.
    #[must_use]
    pub fn pack(bytes: &[u8]) -> Self {
        let mut all = [0; MAX_TERM_BYTES];
        let mut len = 0;
        for (to, from) in all.iter_mut().zip(bytes) {
            *to = *from;
            len += 1;
        }
        let [high, low] = [0, 8].map(|first| {
            let half = all.iter().skip(first).take(8);
            half.fold(0, |value, byte| value << 8 | u64::from(*byte))
        });
        Self { high, low, len }
    }

    /// How many of the 16 bytes count.
    #[must_use]
    #[inline]
    pub fn len(&self) -> usize {
        usize::from(self.len).min(MAX_TERM_BYTES)
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The bytes in order; those beyond [`len`](Self::len) are 0.
    #[must_use]
    pub fn bytes(&self) -> [u8; MAX_TERM_BYTES] {
        let mut all = (u128::from(self.high) << 64 | u128::from(self.low)).to_be_bytes();
        for byte in all.iter_mut().skip(self.len()) {
            *byte = 0;
        }
        all
    }
}

/// Bytes of a guest in a message of the hypervisor: printable ASCII as it is, all others as
/// `\xNN`, so that a guest can neither move the operator's cursor nor forge a line.
#[derive(Clone, Copy, Debug)]
pub struct Printable<'a>(pub &'a [u8]);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write;
        for &byte in self.0 {
            match byte {
                b'\\' => f.write_str("\\\\")?,
                b' '..=b'~' => f.write_char(char::from(byte))?,
                _ => write!(f, "\\x{byte:02x}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;

    #[test]
    fn first_byte_is_the_most_significant() {
        let packed = TermBytes::pack(b"Penstock console!");
        assert_eq!(packed.high, 0x5065_6e73_746f_636b);
        assert_eq!(packed.low, 0x2063_6f6e_736f_6c65);
        assert_eq!(packed.len(), 16);
        assert_eq!(packed.bytes(), *b"Penstock console");
        let short = TermBytes::pack(b"hi");
        assert_eq!(
            (short.high, short.low, short.len()),
            (0x6869_0000_0000_0000, 0, 2)
        );
        assert_eq!(TermBytes::pack(b""), TermBytes::NONE);
    }

    #[test]
    fn more_than_sixteen_bytes_are_refused() {
        assert!(TermBytes::from_put(16, 0, 0).is_some());
        assert_eq!(TermBytes::from_put(17, 0, 0), None);
        assert_eq!(TermBytes::from_put(256, 0, 0), None);
        assert_eq!(TermBytes::from_put(u64::MAX, 0, 0), None);
    }

    #[test]
    fn what_is_beyond_the_length_is_not_shown() {
        let put = TermBytes::from_put(9, 0x4142_4344_4546_4748, 0x49ff_ffff_ffff_ffff).unwrap();
        assert_eq!(put.bytes(), *b"ABCDEFGHI\0\0\0\0\0\0\0");
        assert_eq!(
            TermBytes::from_put(0, u64::MAX, u64::MAX).unwrap().bytes(),
            [0; 16]
        );
    }

    #[test]
    fn control_characters_are_spelled_out() {
        assert_eq!(
            format!("{}", Printable(b"a\x1b[2J\r\n\\\x7f\xff~")),
            "a\\x1b[2J\\x0d\\x0a\\\\\\x7f\\xff~"
        );
    }
}
