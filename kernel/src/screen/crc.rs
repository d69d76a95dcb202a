// SPDX-License-Identifier: Apache-2.0 OR MIT
//! CRC-32 as zlib, PNG and Ethernet have it: reflected, polynomial 0xedb88320.

/// The remainders of all half bytes: small, and fast enough beside a console.
const TABLE: [u32; 16] = {
    let mut table = [0; 16];
    let mut index = 0;
    while index < table.len() {
        #[expect(clippy::cast_possible_truncation, reason = "below 16")]
        let mut remainder = index as u32;
        let mut bit = 0;
        while bit < 4 {
            let odd = remainder & 1 != 0;
            remainder >>= 1;
            if odd {
                remainder ^= 0xedb8_8320;
            }
            bit += 1;
        }
        table[index] = remainder;
        index += 1;
    }
    table
};

/// The CRC-32 of `bytes`.
#[must_use]
pub fn crc32(bytes: &[u8]) -> u32 {
    let half = |crc: u32, value: u32| crc >> 4 ^ TABLE[((crc ^ value) & 15) as usize];
    !bytes.iter().fold(!0, |crc, &byte| {
        let low = half(crc, u32::from(byte));
        half(low, u32::from(byte >> 4))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values() {
        assert_eq!(crc32(b""), 0);
        // The check value that every description of this CRC gives.
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(crc32(&[0; 4]), 0x2144_df1c);
        assert_eq!(crc32(&[0xff; 32]), 0xff6c_ab0b);
    }
}
