// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Bit numbers as the manuals write them: bit 0 is the most significant bit of a doubleword.

/// The doubleword with only bit `n` of the manual's numbering set.
///
/// ```
/// assert_eq!(penstock_arch::bits::ppc_bit(0), 1 << 63);
/// assert_eq!(penstock_arch::bits::ppc_bit(63), 1);
/// ```
#[must_use]
pub const fn ppc_bit(n: u32) -> u64 {
    assert!(n < 64, "a doubleword has bits 0 to 63");
    1 << (63 - n)
}

/// The doubleword with bits `first..=last` of the manual's numbering set.
///
/// ```
/// assert_eq!(penstock_arch::bits::ppc_mask(0, 3), 0xf000_0000_0000_0000);
/// ```
#[must_use]
pub const fn ppc_mask(first: u32, last: u32) -> u64 {
    assert!(
        first <= last && last < 64,
        "bits first..=last, both below 64"
    );
    (u64::MAX >> first) & (u64::MAX << (63 - last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_have_the_manuals_numbering() {
        assert_eq!(ppc_mask(0, 63), u64::MAX);
        assert_eq!(ppc_mask(63, 63), 1);
        assert_eq!(ppc_mask(57, 60), 0x78);
        assert_eq!(ppc_mask(5, 5), ppc_bit(5));
    }
}
