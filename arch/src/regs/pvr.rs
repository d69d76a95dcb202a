// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The processor version register, and what follows from it.

/// A value of the PVR: version in the upper half, revision in the lower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pvr(u32);

/// The processor families that Penstock runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Processor {
    /// ISA 3.0.
    Power9,
    /// ISA 3.1.
    Power10,
}

impl Pvr {
    /// The register's value.
    #[must_use]
    pub const fn new(value: u32) -> Self {
        Self(value)
    }

    /// The raw value.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The processor family, or `None` for one that Penstock does not know.
    #[must_use]
    pub const fn processor(self) -> Option<Processor> {
        match self.0 >> 16 {
            0x004e => Some(Processor::Power9),
            0x0080 | 0x0082 => Some(Processor::Power10),
            _ => None,
        }
    }

    /// Whether data address watchpoints may be given to a guest: on POWER9 before DD2.3 a match
    /// on cache-inhibited memory stops the machine.
    #[must_use]
    pub const fn has_safe_dawr(self) -> bool {
        match self.processor() {
            Some(Processor::Power10) => true,
            // The low byte of the revision is the design level: 0x23 is DD2.3.
            Some(Processor::Power9) => {
                let level = ((self.0 >> 4) & 0xf0) | (self.0 & 0xf);
                level >= 0x23
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_and_levels() {
        assert_eq!(Pvr::new(0x004e_1202).processor(), Some(Processor::Power9));
        assert_eq!(Pvr::new(0x0080_1200).processor(), Some(Processor::Power10));
        assert_eq!(Pvr::new(0x004d_0200).processor(), None);
        assert!(!Pvr::new(0x004e_1202).has_safe_dawr());
        assert!(Pvr::new(0x004e_1203).has_safe_dawr());
        assert!(Pvr::new(0x0080_1200).has_safe_dawr());
    }
}
