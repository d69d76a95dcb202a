// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which entries a resize keeps, by brute force.

use super::*;

impl Model {
    /// The entry's number in a table of `1 << order` bytes, if a search of this one finds it: which page
    /// it maps is found by trying all that its first doubleword may stand for.
    fn place(&self, at: u64, v: u64, r: u64, order: u32) -> Option<u64> {
        let (base, _) = sizes(v, r)?;
        let (segment, shift, vsid) = match v >> 62 {
            0 => (SegmentSize::S256M, 28, v >> 12 & 0xff_ffff_ffff),
            _ => (SegmentSize::S1T, 40, v >> 24 & 0x3fff_ffff),
        };
        let high = v << 16 & ((1 << shift) - 1) & !0x7f_ffff;
        let base = PageSize::ALL
            .into_iter()
            .find(|size| size.bytes() == base)?;
        let groups = self.entries / 8 - 1;
        let hash = (0..1_u64 << 23)
            .step_by(usize::try_from(base.bytes()).unwrap())
            .map(|low| pteg_hash(vsid, EffectiveAddr::new(high + low), segment, base))
            .map(|hash| if v & 2 == 0 { hash } else { !hash })
            .find(|hash| hash & groups == at / 8)?;
        Some((hash & ((1 << (order - 7)) - 1)) * 8 + at % 8)
    }

    /// What a resize keeps. `false`, and no change, where two bolted entries need one place.
    pub(super) fn resize(&mut self, order: u32) -> bool {
        /// How strong an entry's claim is: none, bolted, and real mode's own, which give way to each other.
        fn claim(v: u64) -> u8 {
            match v & 0x10 {
                0 => 0,
                _ if v >> 62 == 1 && v << 2 >> 26 == 0x1ff_ffff => 2,
                _ => 1,
            }
        }
        let mut new = Guest::new();
        for (&at, &(v, r)) in &self.guest {
            let Some(to) = self.place(at, v, r, order) else {
                continue;
            };
            match (new.get(&to).map(|&(v, _)| claim(v)), claim(v)) {
                (Some(_), 0) | (Some(2), 2) => {}
                (None | Some(0), _) => {
                    new.insert(to, (v, r));
                }
                (Some(_), _) => return false,
            }
        }
        self.entries = 1 << (order - 4);
        self.guest = new;
        true
    }
}
