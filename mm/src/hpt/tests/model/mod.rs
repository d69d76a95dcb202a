// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Random operations against a naive model: maps from entry number to what the guest sees there, and
//! from page to what it holds.
//!
//! `ops` makes operations up, `world` does each in the engine and in the model and compares, `memory`
//! is the model of what lies behind the entries, `resize` says what a resize keeps, `long` does it a
//! million times.

pub(super) mod long;
mod memory;
mod ops;
mod resize;
pub(super) mod world;

use self::memory::Memory;
use super::super::flags::{ANDCOND, AVPN, EXACT, ZERO_PAGE};
use super::*;
use penstock_arch::addr::GuestReal;
use penstock_arch::hash::VRMA_VSID;
use penstock_arch::regs::Srr1;
use std::collections::BTreeMap;

type Guest = BTreeMap<u64, (u64, u64)>;

/// What the guest sees, entry by entry, and what is behind it.
struct Model {
    entries: u64,
    guest: Guest,
    /// Bytes of a page of guest real mode.
    real_mode: u64,
    memory: Memory,
}

const PARAMETER: HcallStatus = HcallStatus::PARAMETER;
const NOT_FOUND: HcallStatus = HcallStatus::NOT_FOUND;

/// Page sizes (base, actual) by L and LP, as the device tree lists them.
fn sizes(v: u64, r: u64) -> Option<(u64, u64)> {
    const K: u64 = 1 << 10;
    const M: u64 = 1 << 20;
    if v & 4 == 0 {
        return Some((4 * K, 4 * K));
    }
    [
        (4 * K, 64 * K, 7),
        (4 * K, 16 * M, 0x38),
        (64 * K, 64 * K, 1),
        (64 * K, 16 * M, 8),
        (16 * M, 16 * M, 0),
    ]
    .into_iter()
    .find(|(_, actual, lp)| r & (actual - 1) & 0xff_f000 == lp << 12)
    .map(|(base, actual, _)| (base, actual))
}

/// The first byte of a page.
fn page_of(r: u64, actual: u64) -> u64 {
    r & 0x0fff_ffff_ffff_f000 & !(actual - 1)
}

/// What becomes of an access that the guest's entry permits.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Outcome {
    /// It may be done, now or after the fault.
    Access,
    /// It may not.
    Action(FaultAction),
}

impl Model {
    fn enter(&mut self, flags: u64, ptex: u64, v: u64, r: u64) -> Result<u64, HcallStatus> {
        if ptex >= self.entries || v & 0xbff0_0000_0000_0000 != 0 {
            return Err(PARAMETER);
        }
        let (_, actual) = sizes(v, r).ok_or(PARAMETER)?;
        let page = page_of(r, actual);
        if !self.memory.may_enter(page, actual, r) {
            return Err(PARAMETER);
        }
        if flags & ZERO_PAGE != 0 {
            if actual > 0x1_0000 {
                return Err(HcallStatus::TOO_BIG);
            }
            if !self.memory.fill(page, actual, |_| 0) {
                return Err(PARAMETER);
            }
        }
        let slots = if flags & EXACT != 0 {
            ptex..ptex + 1
        } else {
            ptex & !7..(ptex & !7) + 8
        };
        let at = slots.into_iter().find(|at| !self.guest.contains_key(at));
        let at = at.ok_or(HcallStatus::PTEG_FULL)?;
        self.guest
            .insert(at, (v & !0x60 | 1, r & !0x7000_0000_0000_0e00));
        Ok(at)
    }

    fn find(&self, flags: u64, ptex: u64, avpn: u64) -> Result<(u64, u64), HcallStatus> {
        if ptex >= self.entries {
            return Err(PARAMETER);
        }
        let (v, r) = *self.guest.get(&ptex).ok_or(NOT_FOUND)?;
        if flags & AVPN != 0 && v & !0x7f != avpn || flags & ANDCOND != 0 && v & avpn != 0 {
            return Err(NOT_FOUND);
        }
        Ok((v, r))
    }

    fn remove(&mut self, flags: u64, ptex: u64, avpn: u64) -> Result<(u64, u64), HcallStatus> {
        let found = self.find(flags, ptex, avpn)?;
        self.guest.remove(&ptex);
        Ok(found)
    }

    fn protect(&mut self, flags: u64, ptex: u64, avpn: u64) -> Result<(), HcallStatus> {
        let (v, r) = self.find(flags & AVPN, ptex, avpn)?;
        let bits = (flags & 0x100) << 55 | flags & 7;
        self.guest
            .insert(ptex, (v, r & !0x8000_0000_0000_0107 | bits));
        Ok(())
    }

    fn clear(&mut self, ptex: u64, bit: u64) -> Result<u64, HcallStatus> {
        let (v, r) = self.find(0, ptex, 0)?;
        self.guest.insert(ptex, (v, r & !bit));
        Ok(r)
    }

    fn bulk_remove(&mut self, specs: &mut [u64; 8]) -> HcallStatus {
        for i in [0, 2, 4, 6] {
            let (high, avpn) = (specs[i], specs[i + 1]);
            let (flags, avpn) = match high >> 56 {
                kind if kind & 0xc0 == 0xc0 => return HcallStatus::SUCCESS,
                kind if kind & 0xc0 != 0x40 => return PARAMETER,
                kind => match kind & 3 {
                    0 => (0, 0),
                    1 => (ANDCOND, avpn),
                    2 => (AVPN, avpn),
                    _ => {
                        specs[i] = high & 0x03ff_ffff_ffff_ffff | 0xa0 << 56;
                        return PARAMETER;
                    }
                },
            };
            let result = self.remove(flags, high & 0x00ff_ffff_ffff_ffff, avpn);
            specs[i] = high & 0x03ff_ffff_ffff_ffff
                | match result {
                    Ok((_, r)) => 0x80 << 56 | (r & 0x180) << 51,
                    Err(NOT_FOUND) => 0x90 << 56,
                    Err(_) => 0xa0 << 56,
                };
            if result == Err(PARAMETER) {
                return PARAMETER;
            }
        }
        HcallStatus::SUCCESS
    }

    /// What H_BLOCK_REMOVE compares: sizes, and the block's first byte in the virtual address
    /// space. The page is the one in the entry's eight MiB that hashes to its group.
    fn block(&self, at: u64, v: u64, r: u64) -> Option<(u64, u64, u64, u128)> {
        let (base, actual) = sizes(v, r)?;
        let (segment, vsid) = match v >> 62 {
            0 => (28, v >> 12 & 0xff_ffff_ffff),
            _ => (40, v >> 24 & 0xfff_ffff),
        };
        let address = u128::from(v & 0x000f_ffff_ffff_ff80) << 16;
        let group = if v & 2 == 0 { at / 8 } else { !(at / 8) };
        let page = (0..1_u64 << 23).step_by(usize::try_from(base).unwrap());
        let low = page.take(2048).find(|low| {
            let size = if segment == 28 {
                SegmentSize::S256M
            } else {
                SegmentSize::S1T
            };
            let base = PageSize::ALL.into_iter().find(|size| size.bytes() == base);
            let hash = pteg_hash(vsid, EffectiveAddr::new(*low), size, base.unwrap());
            let known = (1_u64 << 23).div_ceil(base.unwrap().bytes()) - 1;
            (hash ^ group) & known == 0
        })?;
        let first = (address | u128::from(low)) / u128::from(base * 8);
        Some((base, actual, segment, first))
    }

    fn block_remove(&mut self, ava: u64, specs: &mut [u64; 8]) -> HcallStatus {
        let end = specs.iter().position(|spec| spec >> 62 == 3).unwrap_or(8);
        if specs[..end].iter().any(|spec| spec >> 62 != 1) {
            return PARAMETER;
        }
        let mut anchor = None;
        let mut status = HcallStatus::SUCCESS;
        for spec in &mut specs[..end] {
            let at = *spec & 0xffff_ffff_ffff;
            let first = match self.guest.get(&at).copied() {
                _ if at >= self.entries => 0x90,
                None => 0x88,
                Some((v, r)) => {
                    let block = self.block(at, v, r).unwrap();
                    let inside = (block.0 * 8 - 1) >> 16 & !0x7f;
                    if v & 0x10 != 0 || *spec & 1 << 56 != 0 && (v & !0x7f ^ ava) & !inside != 0 {
                        0x88
                    } else {
                        let anchor = *anchor.get_or_insert(block);
                        if (anchor.0, anchor.1, anchor.2) != (block.0, block.1, block.2) {
                            0x98
                        } else if anchor != block {
                            0xa8
                        } else {
                            self.guest.remove(&at);
                            0x80 | (r & 0x180) >> 6
                        }
                    }
                }
            };
            if first & 0xf8 != 0x80 {
                status = HcallStatus::PARTIAL;
            }
            *spec = *spec & !(0xfe << 56) | first << 56;
        }
        status
    }

    /// The entry that the hardware would use for a page, absent ones included: number, and doublewords.
    fn translate(&self, page: Page, groups: [u64; 2]) -> Option<(u64, u64, u64)> {
        let candidates = groups.into_iter().zip([0, 2]);
        candidates
            .flat_map(|(group, h)| (group..group + 8).map(move |at| (at, h)))
            .filter_map(|(at, h)| self.guest.get(&at).map(|(v, r)| (at, *v, *r, h)))
            .find(|(_, v, r, h)| is_of(page, *v, *r, *h))
            .map(|(at, v, r, _)| (at, v, r))
    }

    /// What a processor's access comes to, with the page's segment or in real mode.
    fn access(&self, page: Page, groups: [u64; 2], kind: AccessKind, problem: bool) -> Outcome {
        let store = if kind == AccessKind::Store {
            0x0200_0000
        } else {
            0
        };
        let reflect = |dsisr: u32, srr1: u64| {
            Outcome::Action(FaultAction::Reflect(match kind {
                AccessKind::Fetch => GuestFault::Instruction(Srr1::from_bits_retain(srr1)),
                _ => GuestFault::Data(Dsisr::from_bits_retain(dsisr | store)),
            }))
        };
        let Some((_, v, r)) = self.translate(page, groups) else {
            return reflect(0x4000_0000, 0x4000_0000);
        };
        // The segment has Ks=0 and Kp=1; in real mode both are 0.
        let key = problem && page.vsid != VRMA_VSID;
        let (load, write) = permitted(r, key);
        let permitted = match kind {
            AccessKind::Fetch if r & 0xc != 0 => return reflect(0, 0x1000_0000),
            AccessKind::Load | AccessKind::Fetch => load,
            AccessKind::Store => write,
        };
        if !permitted {
            return reflect(0x0800_0000, 0x0800_0000);
        }
        let actual = sizes(v, r).unwrap().1;
        match self.memory.obstacle(page_of(r, actual), actual) {
            Some(action) => Outcome::Action(action),
            None => Outcome::Access,
        }
    }
}

/// Whether a doubleword 1 permits loads and stores, with the segment's key 0 or 1.
fn permitted(r: u64, key: bool) -> (bool, bool) {
    match (r >> 61 & 4 | r & 3, key) {
        (0..=2, false) | (2, true) => (true, true),
        (3 | 6, false) | (1 | 3, true) => (true, false),
        _ => (false, false),
    }
}

/// Whether an entry in a primary (`h` is 0) or secondary group (2) translates a page.
fn is_of(page: Page, v: u64, r: u64, h: u64) -> bool {
    v & 0xffff_ffff_ffff_ff82 == page.v() & !0x7f | h
        && sizes(v, r).is_some_and(|(base, _)| base == page.encoding.base().bytes())
}

/// The page of guest real mode that `at` lies in, where such pages have so many bytes.
fn real_mode_page(at: u64, bytes: u64) -> Page {
    let encoding = [
        PageEncoding::Base4KActual4K,
        PageEncoding::Base64KActual64K,
        PageEncoding::Base16MActual16M,
    ]
    .into_iter()
    .find(|encoding| encoding.actual().bytes() == bytes);
    Page {
        vsid: VRMA_VSID,
        ea: at & !(bytes - 1),
        segment: SegmentSize::S1T,
        encoding: encoding.unwrap(),
    }
}

/// Whether a doubleword 0 is of guest real mode's segment.
const fn is_real_mode(v: u64) -> bool {
    v >> 62 == 1 && v >> 24 & 0xfff_ffff == VRMA_VSID
}
