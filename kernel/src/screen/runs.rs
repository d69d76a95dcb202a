// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Pixels as runs of a colour.
//!
//! A text console and most of what a guest shows at its start are few colours in short runs, so
//! the last two colours need not be repeated. The code is a sequence of tokens; each begins with a
//! number in one byte or two (seven bits a byte, the low ones first, 0x80 set where another
//! follows): its low two bits are the kind, the rest is how many pixels less one.
//!
//! | kind | then | means |
//! |---|---|---|
//! | 0 | that many pixels | these pixels |
//! | 1 | one pixel | a run of it; it is the last colour, what was that is the other one |
//! | 2 | nothing | a run of the other colour, which changes places with the last one |
//! | 3 | nothing | a run of the last colour |
//!
//! Pixels are the bytes that lie in memory. Each line starts anew, with neither colour known.

use super::geometry::{MAX_SIDE, MAX_STRIDE};
use arrayvec::ArrayVec;

/// Most bytes of tokens in one line.
pub const DATA_BYTES: usize = 144;

/// Most bytes of a token's number.
const MAX_HEADER_BYTES: usize = 2;
const _: () = assert!(MAX_SIDE << 2 <= 1 << 14);

/// Tokens of one line.
pub type Data = ArrayVec<u8, DATA_BYTES>;

/// How many pixels a line has at least, unless the row ends in it: one more token with a colour
/// would have found no room, and no pixel costs more than one byte beside itself.
#[must_use]
pub const fn min_pixels_of_line(pixel_bytes: usize) -> usize {
    (DATA_BYTES + 1 - MAX_HEADER_BYTES - pixel_bytes).div_ceil(1 + pixel_bytes)
}

#[derive(Clone, Copy)]
enum Token {
    Literal = 0,
    Run = 1,
    Other = 2,
    Last = 3,
}

/// The pixels of a row.
#[derive(Clone, Copy)]
struct Pixels<'a> {
    row: &'a [u8],
    pixel_bytes: usize,
}

impl<'a> Pixels<'a> {
    fn get(self, index: usize) -> Option<&'a [u8]> {
        let first = index * self.pixel_bytes;
        self.row.get(first..first + self.pixel_bytes)
    }

    /// How many pixels from `index` on are the same.
    fn run(self, index: usize) -> usize {
        let colour = self.get(index);
        let end = (index..).find(|&at| self.get(at).is_none() || self.get(at) != colour);
        end.map_or(0, |end| end - index)
    }
}

/// Appends tokens to `data` for the pixels of `row` from `first` on, as many as it has room for;
/// how many pixels these are. `row` is at most [`MAX_STRIDE`] bytes and `pixel_bytes` 1 to 4.
pub fn encode(row: &[u8], pixel_bytes: usize, first: usize, data: &mut Data) -> usize {
    let row = row.get(..row.len().min(MAX_STRIDE)).unwrap_or(row);
    let pixels = Pixels {
        row,
        pixel_bytes: pixel_bytes.clamp(1, 4),
    };
    let mut last = None;
    let mut other = None;
    let mut at = first;
    while let Some(colour) = pixels.get(at) {
        let room = data.remaining_capacity();
        if room < MAX_HEADER_BYTES + colour.len() {
            break;
        }
        let run = pixels.run(at);
        if last == Some(colour) {
            put(data, Token::Last, run, &[]);
            at += run;
        } else if other == Some(colour) {
            put(data, Token::Other, run, &[]);
            core::mem::swap(&mut last, &mut other);
            at += run;
        } else {
            let most = (room - MAX_HEADER_BYTES) / colour.len();
            let is_noise = |&index: &usize| {
                let colour = pixels.get(index);
                colour.is_some() && colour != last && colour != other && pixels.run(index) == 1
            };
            let noise = (at..at + most).take_while(is_noise).count();
            if noise > 1 {
                let bytes = at * colour.len()..(at + noise) * colour.len();
                put(data, Token::Literal, noise, row.get(bytes).unwrap_or(&[]));
                at += noise;
            } else {
                put(data, Token::Run, run, colour);
                other = last.replace(colour);
                at += run;
            }
        }
    }
    at - first
}

/// Appends a token. The caller has seen that it fits.
fn put(data: &mut Data, token: Token, count: usize, pixels: &[u8]) {
    let number = (count - 1) << 2 | token as usize;
    let [low, high] = [number & 0x7f, number >> 7].map(|bits| u8::try_from(bits).unwrap_or(0x7f));
    let header = if high == 0 {
        &[low][..]
    } else {
        &[low | 0x80, high][..]
    };
    let fitted = data
        .try_extend_from_slice(header)
        .and_then(|()| data.try_extend_from_slice(pixels));
    debug_assert!(fitted.is_ok(), "a token does not fit its line");
}

#[cfg(test)]
pub(crate) mod testing {
    use alloc::vec::Vec;

    /// The opposite of [`super::encode`], as a reader has it: panics on what it never writes.
    pub fn decode(mut data: &[u8], pixel_bytes: usize) -> Vec<u8> {
        let mut out = Vec::new();
        let (mut last, mut other): (Option<Vec<u8>>, Option<Vec<u8>>) = (None, None);
        while let Some((&first, rest)) = data.split_first() {
            let mut number = usize::from(first & 0x7f);
            data = rest;
            if first & 0x80 != 0 {
                let (&second, rest) = data.split_first().unwrap();
                assert!(second < 0x80);
                number |= usize::from(second) << 7;
                data = rest;
            }
            let count = (number >> 2) + 1;
            let mut take = |bytes: usize| {
                let (taken, rest) = data.split_at(bytes);
                data = rest;
                taken
            };
            match number & 3 {
                0 => out.extend_from_slice(take(count * pixel_bytes)),
                1 => other = last.replace(take(pixel_bytes).to_vec()),
                2 => core::mem::swap(&mut last, &mut other),
                _ => {}
            }
            if number & 3 != 0 {
                let colour = last.as_ref().expect("a colour that was told");
                (0..count).for_each(|_| out.extend_from_slice(colour));
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::testing::decode;
    use super::*;
    use alloc::vec::Vec;
    use penstock_arch::fake::steps;
    use proptest::prelude::*;

    fn encoded(row: &[u8], pixel_bytes: usize) -> Vec<u8> {
        let mut data = Data::new();
        let pixels = encode(row, pixel_bytes, 0, &mut data);
        assert_eq!(pixels * pixel_bytes, row.len(), "fits one line");
        data.to_vec()
    }

    #[test]
    fn each_kind_of_token() {
        // Five of 7; 9; 7 twice; 9; then 1, 2, 3 once each; 9.
        let row = [7, 7, 7, 7, 7, 9, 7, 7, 9, 1, 2, 3, 9];
        assert_eq!(
            encoded(&row, 1),
            [
                4 << 2 | 1,
                7, // run
                1,
                9,          // run
                1 << 2 | 2, // the other
                2,          // the other
                2 << 2,
                1,
                2,
                3, // as they are
                3  // the last
            ]
        );
        // Wide pixels are bytes as they lie; a run of 33 has a number of two bytes.
        let row = [[1, 2, 3, 4]; 33].concat();
        assert_eq!(encoded(&row, 4), [0x81, 1, 1, 2, 3, 4]);
        let row = [[1, 2]; 4096].concat();
        assert_eq!(encoded(&row, 2), [0xfd, 0x7f, 1, 2]);
    }

    #[test]
    fn a_row_of_text_takes_a_byte_for_each_run() {
        let row: Vec<u8> = (0..64_u32)
            .flat_map(|x| if x / 3 % 2 == 0 { [0; 4] } else { [0xaa; 4] })
            .collect();
        assert_eq!(encoded(&row, 4).len(), 22 + 2 * 4);
    }

    #[test]
    fn what_is_no_row_has_no_pixels() {
        let mut data = Data::new();
        assert_eq!(encode(&[], 4, 0, &mut data), 0);
        assert_eq!(encode(&[1, 2, 3], 4, 0, &mut data), 0);
        assert_eq!(encode(&[1; 8], 4, 2, &mut data), 0);
        assert!(data.is_empty());
    }

    proptest! {
        #![proptest_config(crate::rtas::testing::config())]

        /// Line by line, any row comes out as it went in, and no line but the last is shorter than
        /// promised.
        #[test]
        fn rows_survive(
            colours in prop::collection::vec((0_u32..6, 1_usize..40), 1..steps(200)),
            noise in prop::collection::vec(any::<u32>(), 0..200),
            bytes in prop::sample::select(&[1_usize, 2, 4][..]),
        ) {
            let mut row = Vec::new();
            let mut noise = noise.iter();
            for (colour, count) in colours {
                for _ in 0..count {
                    let pixel = match colour {
                        5 => *noise.next().unwrap_or(&77),
                        colour => colour.wrapping_mul(0x1357_9bdf),
                    };
                    row.extend_from_slice(&pixel.to_be_bytes()[..bytes]);
                }
            }
            row.truncate(4096 * bytes);
            let mut shown = Vec::new();
            let mut at = 0;
            while at * bytes < row.len() {
                let mut data = Data::new();
                let pixels = encode(&row, bytes, at, &mut data);
                at += pixels;
                let ends = at * bytes == row.len();
                prop_assert!(ends || pixels >= min_pixels_of_line(bytes));
                shown.extend(decode(&data, bytes));
                prop_assert_eq!(shown.len(), at * bytes);
            }
            prop_assert_eq!(shown, row);
        }
    }
}
