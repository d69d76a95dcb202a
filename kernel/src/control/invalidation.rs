// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which entries to invalidate, and whether one by one.
//!
//! A caller's count is a hint: it may be wrong, and nothing depends on it. The hypervisor counts
//! for itself, which for as many bits as a call can bring takes microseconds, and decides by that.

/// What a bit of the bitmap stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// One entry.
    Entry,
    /// A group of eight entries.
    Group,
}

impl Unit {
    /// Entries in it.
    #[must_use]
    pub const fn entries(self) -> u64 {
        match self {
            Self::Entry => 1,
            Self::Group => 8,
        }
    }
}

/// How the translations are dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plan {
    /// Each of the entries by itself.
    Single,
    /// All translations of the partition at once.
    Everything,
}

/// Entries of which translations are to be dropped.
#[derive(Clone, Copy, Debug)]
pub struct Invalidation<'a> {
    unit: Unit,
    first: u64,
    bitmap: &'a [u8],
    marked: u64,
    plan: Plan,
}

impl<'a> Invalidation<'a> {
    /// The units whose bits are set, the first bit being that of unit `first`. More entries than
    /// `threshold` are flushed all at once.
    #[must_use]
    pub fn new(unit: Unit, first: u64, bitmap: &'a [u8], threshold: u32) -> Self {
        let marked = bitmap.iter().map(|byte| u64::from(byte.count_ones())).sum();
        let entries = unit.entries().saturating_mul(marked);
        let plan = if entries > u64::from(threshold) {
            Plan::Everything
        } else {
            Plan::Single
        };
        Self {
            unit,
            first,
            bitmap,
            marked,
            plan,
        }
    }

    /// How many bits are set.
    #[must_use]
    pub const fn marked(&self) -> u64 {
        self.marked
    }

    /// How the translations are to be dropped.
    #[must_use]
    pub const fn plan(&self) -> Plan {
        self.plan
    }

    /// The entries, ascending.
    pub fn entries(&self) -> impl Iterator<Item = u64> + use<'a> {
        let (unit, first) = (self.unit, self.first);
        let units = (0_u64..).zip(self.bitmap).flat_map(|(place, byte)| {
            let byte = *byte;
            (0..8)
                .filter(move |bit| byte & 1 << bit != 0)
                .map(move |bit| 8 * place + bit)
        });
        units.flat_map(move |number| {
            let entry = first.saturating_add(number).saturating_mul(unit.entries());
            (0..unit.entries()).map(move |offset| entry.saturating_add(offset))
        })
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    #[test]
    fn the_hypervisor_counts_for_itself_and_flushes_all_above_its_threshold() {
        let of = |unit, bitmap: &[u8]| {
            let what = Invalidation::new(unit, 0, bitmap, 16);
            (what.marked(), what.plan())
        };
        assert_eq!(of(Unit::Entry, &[]), (0, Plan::Single));
        assert_eq!(of(Unit::Entry, &[0xff, 0xff]), (16, Plan::Single));
        assert_eq!(of(Unit::Entry, &[0xff, 0xff, 1]), (17, Plan::Everything));
        assert_eq!(of(Unit::Group, &[3]), (2, Plan::Single));
        assert_eq!(of(Unit::Group, &[7]), (3, Plan::Everything));
    }

    #[test]
    fn bits_are_entries_or_groups_of_eight() {
        let of = |unit, first, bitmap: &[u8]| {
            Invalidation::new(unit, first, bitmap, 0)
                .entries()
                .collect::<Vec<_>>()
        };
        assert_eq!(of(Unit::Entry, 64, &[0x81, 0, 2]), [64, 71, 81]);
        assert_eq!(of(Unit::Group, 64, &[2]), (520..528).collect::<Vec<u64>>());
        assert_eq!(of(Unit::Entry, u64::MAX, &[2]), [u64::MAX]);
    }

    proptest! {
        #![proptest_config(crate::rtas::testing::config())]

        #[test]
        fn as_many_entries_as_are_marked(bitmap in proptest::collection::vec(any::<u8>(), 0..64)) {
            for unit in [Unit::Entry, Unit::Group] {
                let what = Invalidation::new(unit, 128, &bitmap, 100);
                let entries: Vec<u64> = what.entries().collect();
                prop_assert_eq!(entries.len() as u64, what.marked() * unit.entries());
                prop_assert!(entries.is_sorted() && entries.iter().all(|entry| *entry >= 128));
                prop_assert_eq!(what.plan() == Plan::Everything, entries.len() > 100);
            }
        }
    }
}
