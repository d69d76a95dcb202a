// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Lines of text that carry bytes over a console, each with its checksum.

use arrayvec::ArrayString;
use core::fmt::{self, Write};

/// Bytes in a line.
pub const LINE_BYTES: usize = 48;
/// Longest line: a name of 31 characters and three numbers, or a number and base64; the checksum.
const MAX_TEXT: usize = 160;

/// The remainders of all half bytes: small, and fast enough beside a console.
const TABLE: [u32; 16] = {
    let mut table = [0; 16];
    let mut index = 0_u32;
    while index < 16 {
        let mut remainder = index;
        let mut bit = 0;
        while bit < 4 {
            let odd = remainder & 1 != 0;
            remainder >>= 1;
            if odd {
                remainder ^= 0xedb8_8320;
            }
            bit += 1;
        }
        table[index as usize] = remainder;
        index += 1;
    }
    table
};

/// CRC-32 as zlib has it (ISO 3309), of pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crc32(u32);

impl Crc32 {
    /// Of nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self(!0)
    }

    /// Of what came before, and `bytes`.
    #[must_use]
    pub fn with(self, bytes: &[u8]) -> Self {
        let half = |crc: u32, value: u32| {
            let place = ((crc ^ value) & 15) as usize;
            crc >> 4 ^ TABLE.get(place).copied().unwrap_or(0)
        };
        Self(bytes.iter().fold(self.0, |crc, &byte| {
            let low = half(crc, u32::from(byte));
            half(low, u32::from(byte >> 4))
        }))
    }

    /// The sum.
    #[must_use]
    pub const fn get(self) -> u32 {
        !self.0
    }
}

impl Default for Crc32 {
    fn default() -> Self {
        Self::new()
    }
}

/// Writes `text` as a line that ends with its checksum.
///
/// # Errors
/// Those of `out`; the line is longer than any is.
pub fn write_checked(out: &mut dyn Write, text: fmt::Arguments<'_>) -> fmt::Result {
    let mut line = ArrayString::<MAX_TEXT>::new();
    line.write_fmt(text)?;
    let sum = Crc32::new().with(line.as_bytes()).get();
    writeln!(out, "{line} {sum:08x}")
}

/// Bytes in base64 (RFC 4648, with padding).
#[derive(Clone, Copy, Debug)]
pub struct Base64<'a>(pub &'a [u8]);

impl fmt::Display for Base64<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DIGITS: &[u8; 64] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        for group in self.0.chunks(3) {
            let of = |place| u32::from(group.get(place).copied().unwrap_or(0));
            let bits = of(0) << 16 | of(1) << 8 | of(2);
            for digit in 0..4 {
                let value = (bits >> (18 - 6 * digit) & 63) as usize;
                let shown = match DIGITS.get(value) {
                    Some(shown) if digit <= group.len() => *shown,
                    _ => b'=',
                };
                f.write_char(char::from(shown))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::string::String;

    #[test]
    fn sums_are_zlibs() {
        assert_eq!(Crc32::new().get(), 0);
        // The check value that every description of this CRC gives.
        let sum = Crc32::new().with(b"1234").with(b"56789").get();
        assert_eq!(sum, 0xcbf4_3926);
        assert_eq!(Crc32::new().with(&[0xff; 32]).get(), 0xff6c_ab0b);
    }

    #[test]
    fn base64_is_that_of_rfc_4648() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(std::format!("{}", Base64(bytes.as_bytes())), text);
        }
        assert_eq!(std::format!("{}", Base64(&[0xfb, 0xff, 0xbf])), "+/+/");
    }

    #[test]
    fn a_line_ends_with_the_sum_of_what_stands_before_it() {
        let mut out = String::new();
        write_checked(&mut out, format_args!("1234{}", 56789)).unwrap();
        assert_eq!(out, "123456789 cbf43926\n");
        let longest = Base64(&[0; LINE_BYTES]);
        write_checked(&mut out, format_args!("@h {} {longest}", u64::MAX)).unwrap();
        assert!(write_checked(&mut out, format_args!("{:161}", "")).is_err());
    }
}
