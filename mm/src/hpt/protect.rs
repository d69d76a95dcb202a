// SPDX-License-Identifier: Apache-2.0 OR MIT
//! H_PROTECT: changes an entry's page protection, no-execute bit and key, and clears R.
//!
//! Of the AVPN parameter bits 0:56 are compared. LoPAR says so of H_REMOVE too, but there adds that
//! lower bits likely give "not found".
//!
//! LoPAR, H_PROTECT; Power ISA 3.0B, Book III, Modifying a Page Table Entry, "General Case".

use super::guard::HpteGuard;
use super::{HashMmu, flags, remove};
use crate::page_ops::Machine;
use crate::status::HcallStatus;
use penstock_arch::hash::{GuestHpteR, GuestHpteV, HpteR};

/// The new value of the bits [`HpteR::PROTECTION`]: key0:1 at flag bits 50:51, key2:4 at 52:54,
/// pp0 at 55, N, pp1:2 at their places.
#[inline]
const fn protection_bits(flags: u64) -> u64 {
    ((flags << 55) & HpteR::PP0)
        | ((flags << 48) & HpteR::KEY_HIGH)
        | (flags & (HpteR::KEY_LOW | HpteR::N | HpteR::PP))
}

impl<M: Machine> HashMmu<M> {
    /// H_PROTECT: sets pp0:2, N and the key of an entry as `flags` say, and clears R.
    ///
    /// # Errors
    /// H_PARAMETER: no such entry number. H_NOT_FOUND: no entry there, or none that matches.
    pub fn h_protect(&self, flags: u64, ptex: u64, avpn: u64) -> Result<(), HcallStatus> {
        let guard = self.lock_named(ptex).ok_or(HcallStatus::PARAMETER)?;
        let (v, r) = (guard.v(), guard.r());
        if !v.is_present()
            || !remove::matches(v.to_guest(r), flags & flags::AVPN, avpn & GuestHpteV::AVPN)
        {
            return Err(HcallStatus::NOT_FOUND);
        }
        let bits = protection_bits(flags) & self.guest_r_mask;
        let mask = (HpteR::PROTECTION & self.guest_r_mask) | HpteR::R;
        let guest_r = guard.guest_r().get();
        if r.get() & HpteR::R != 0 && self.is_aged() {
            self.note_used(v, GuestHpteR::new(guest_r));
        }
        guard.set_guest_r(GuestHpteR::new((guest_r & !mask) | bits));
        if self.is_veiled() {
            self.settle_protected(guard, r);
        } else if r.get() & mask != bits {
            let mut entry = guard.quiesce(r);
            // C may have been set up to now, and must not be lost.
            let r = entry.r();
            entry.set_r(r.without(mask).with(bits));
            entry.finish();
        }
        Ok(())
    }

    /// Tells the hardware what it shall know of an entry, whose doubleword 1 is `r`, with R clear: it may
    /// be less than what the guest asks for.
    #[cold]
    #[inline(never)]
    fn settle_protected(&self, guard: HpteGuard<'_, M>, r: HpteR) {
        let (v, guest_r) = (guard.v(), guard.guest_r());
        let is_settled = v.is_valid()
            && self.place(v, guest_r).is_some_and(|place| {
                let wanted = place.wanted(guest_r, r.segment(), place.state());
                let r = r.without(HpteR::C);
                wanted.visible && r == wanted.r.without(HpteR::R | HpteR::C)
            });
        if !is_settled {
            guard.quiesce(r).settle_without(HpteR::R);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_mapped_bit_by_bit() {
        assert_eq!(protection_bits(0x3), 3);
        assert_eq!(protection_bits(0x4), 4);
        assert_eq!(protection_bits(0x102), 0x8000_0000_0000_0002);
        assert_eq!(protection_bits(0x2000), 0x2000_0000_0000_0000);
        assert_eq!(protection_bits(0x1000), 0x1000_0000_0000_0000);
        assert_eq!(protection_bits(0xe00), 0xe00);
        assert_eq!(protection_bits(!0x3f07), 0);
    }
}
