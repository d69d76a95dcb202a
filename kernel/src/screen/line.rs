// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One line of a picture: text, base64, and the checksum at its end.

use super::crc::crc32;
use super::geometry::Geometry;
use super::runs::{self, DATA_BYTES};
use arrayvec::ArrayString;
use core::fmt::{self, Write};

/// Most bytes of a line, without its end.
pub const MAX_LINE_BYTES: usize = 224;

const CHECKSUM: usize = " 01234567".len();
const LONGEST_DATA: usize = "@s 4095+64 4095 ".len() + DATA_BYTES.div_ceil(3) * 4 + CHECKSUM;
const _: () = assert!(LONGEST_DATA <= MAX_LINE_BYTES);

/// Most bytes of a picture of this geometry, with a carriage return and a line feed at the end of
/// each line: 136 MB for 4096x4096 in 32 bits, 2.5 MB for 640x480. No picture of noise is that
/// large; the bound is for whoever keeps the console's log.
#[must_use]
pub const fn worst_case_bytes(geometry: Geometry) -> u64 {
    let of_row = (geometry.width() as usize)
        .div_ceil(runs::min_pixels_of_line(geometry.pixel_bytes())) as u64;
    (geometry.height() as u64 * of_row + 2) * (MAX_LINE_BYTES as u64 + 2)
}

/// A line under construction.
#[derive(Default)]
pub(super) struct Line(ArrayString<MAX_LINE_BYTES>);

impl Line {
    /// Text and numbers. What does not fit is an error.
    pub fn text(mut self, text: fmt::Arguments<'_>) -> Result<Self, fmt::Error> {
        self.0.write_fmt(text)?;
        Ok(self)
    }

    /// Bytes in base64.
    pub fn base64(mut self, bytes: &[u8]) -> Result<Self, fmt::Error> {
        const DIGITS: &[u8; 64] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        for group in bytes.chunks(3) {
            let mut three = [0; 3];
            three
                .iter_mut()
                .zip(group)
                .for_each(|(to, from)| *to = *from);
            let [a, b, c] = three.map(usize::from);
            let digits = [a >> 2, a << 4 | b >> 4, b << 2 | c >> 6, c];
            for (index, digit) in digits.into_iter().enumerate() {
                let shown = if index <= group.len() {
                    DIGITS[digit & 63]
                } else {
                    b'='
                };
                self.0.write_char(char::from(shown))?;
            }
        }
        Ok(self)
    }

    /// Writes the line with its checksum in one piece; how many bytes it had with two for the end
    /// of the line.
    pub fn finish(mut self, out: &mut dyn Write) -> Result<usize, fmt::Error> {
        let sum = crc32(self.0.as_bytes());
        write!(self.0, " {sum:08x}")?;
        writeln!(out, "{}", self.0)?;
        Ok(self.0.len() + 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;

    fn base64(bytes: &[u8]) -> String {
        let line = Line::default().base64(bytes).unwrap();
        String::from(line.0.as_str())
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
            assert_eq!(base64(bytes.as_bytes()), text);
        }
        assert_eq!(base64(&[0xfb, 0xff, 0xbf]), "+/+/");
    }

    #[test]
    fn a_line_ends_with_the_sum_of_what_stands_before_it() {
        let mut out = String::new();
        let line = Line::default().text(format_args!("12345")).unwrap();
        let line = line.text(format_args!("{}", 6789)).unwrap();
        assert_eq!(line.finish(&mut out), Ok(20));
        assert_eq!(out, "123456789 cbf43926\n");
    }

    #[test]
    fn a_line_that_is_too_long_is_an_error_and_no_panic() {
        let line = Line::default().base64(&[0; 166]).unwrap();
        assert!(line.finish(&mut String::new()).is_err());
        assert!(Line::default().base64(&[0; 169]).is_err());
    }

    #[test]
    fn worst_cases_are_as_documented() {
        let of =
            |width, height, depth| worst_case_bytes(Geometry::new(width, height, depth).unwrap());
        assert_eq!(of(4096, 4096, 32), (4096 * 147 + 2) * 226);
        assert_eq!(of(4096, 4096, 32) / 1_000_000, 136);
        assert_eq!(of(640, 480, 32), (480 * 23 + 2) * 226);
        assert_eq!(of(640, 480, 32) / 100_000, 24);
        assert_eq!(of(64, 64, 8), (64 + 2) * 226);
    }
}
