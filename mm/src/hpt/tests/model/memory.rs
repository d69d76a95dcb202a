// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What lies behind the model's entries: memory by granule, pages of devices, guards, and logs.

use super::*;
use crate::guest_memory::SlotId;
use std::collections::{BTreeMap, BTreeSet};

/// Bytes of memory from address 0.
pub(super) const RAM_BYTES: u64 = 32 << 20;
/// The first page of a device; eight follow.
pub(super) const DEVICE: u64 = 0x1_0000_0000;
const DEVICE_PIECES: u64 = 64;
/// The framebuffer.
pub(super) const SCREEN: u64 = DEVICE + (DEVICE_PIECES << 16);
const SCREEN_PIECES: u64 = 4;
/// Host real address of the first page of a device.
const DEVICE_HOST: u64 = 0x6_0302_0000_0000;

/// A slot, as the partition names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Area {
    Ram,
    Device,
    Screen,
}

impl Area {
    pub(super) const LOGGED: [Self; 2] = [Self::Ram, Self::Screen];

    pub(super) const fn id(self) -> SlotId {
        SlotId::new(self as usize)
    }

    pub(super) const fn base(self) -> u64 {
        match self {
            Self::Ram => 0,
            Self::Device => DEVICE,
            Self::Screen => SCREEN,
        }
    }

    pub(super) const fn bytes(self) -> u64 {
        match self {
            Self::Ram => RAM_BYTES,
            Self::Device => DEVICE_PIECES << 16,
            Self::Screen => SCREEN_PIECES << 16,
        }
    }

    /// The area that an address lies in.
    pub(super) fn of(at: u64) -> Option<Self> {
        [Self::Ram, Self::Device, Self::Screen]
            .into_iter()
            .find(|area| (area.base()..area.base() + area.bytes()).contains(&at))
    }
}

/// What must, and what may, be in the log of an area, by granule of guest real memory.
#[derive(Debug, Default)]
pub(super) struct Log {
    pub(super) must: BTreeSet<u64>,
    pub(super) may: BTreeSet<u64>,
}

/// What is behind the entries.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// The first doubleword of each granule that is not 0.
    pub(super) words: BTreeMap<u64, u64>,
    /// Blocks of 16 MiB whose pieces were scattered.
    pub(super) scattered: [bool; 2],
    /// Guarded pieces, by guest real address over 64 KiB.
    pub(super) guarded: BTreeSet<u64>,
    /// Pages of the device that are there: their host real address.
    pub(super) device: BTreeMap<u64, u64>,
    pub(super) logs: BTreeMap<Area, Log>,
}

impl Memory {
    /// Whether H_ENTER accepts a page for its place, size and WIMG.
    pub(super) fn may_enter(&self, page: u64, actual: u64, r: u64) -> bool {
        let wimg = r & 0x78;
        let inhibited = r & 0x60 == 0x20;
        match Area::of(page) {
            None => false,
            Some(Area::Ram) => wimg == 0x10 && (actual < 1 << 24 || !self.is_scattered(page)),
            Some(Area::Device) => inhibited && actual < 1 << 24,
            Some(Area::Screen) => (inhibited || wimg == 0x10) && actual < 1 << 24,
        }
    }

    pub(super) fn is_scattered(&self, page: u64) -> bool {
        let block = usize::try_from(page >> 24).unwrap();
        self.scattered.get(block).copied().unwrap_or(false)
    }

    /// What is in the way of an access that the guest's entry permits.
    pub(super) fn obstacle(&self, page: u64, actual: u64) -> Option<FaultAction> {
        let at = GuestReal::new(page);
        match Area::of(page) {
            Some(Area::Ram) if actual == 1 << 24 && self.is_scattered(page) => {
                Some(FaultAction::TooSmall(BackingTooSmall {
                    at,
                    wanted: PageSize::P16M,
                    found: PageSize::P64K,
                }))
            }
            Some(Area::Device) if !self.device.contains_key(&(page >> 16)) => {
                Some(FaultAction::NotMemory(GuestReal::new(page)))
            }
            _ => None,
        }
    }

    pub(super) fn word(&self, granule: u64) -> u64 {
        self.words.get(&granule).copied().unwrap_or(0)
    }

    /// The hypervisor writes whole granules of memory, each what `word` says; false where there is no
    /// memory.
    pub(super) fn fill(&mut self, at: u64, len: u64, word: impl Fn(u64) -> u64) -> bool {
        if !is_memory(at, len) {
            return false;
        }
        for granule in at >> 12..(at + len).div_ceil(0x1000) {
            self.words.insert(granule, word(granule));
        }
        self.note(at, len, at, len);
        true
    }

    /// Something was written, through a page.
    pub(super) fn note(&mut self, at: u64, len: u64, page: u64, page_len: u64) {
        if let Some(log) = Area::of(at).and_then(|area| self.logs.get_mut(&area)) {
            log.must.extend(at >> 12..(at + len).div_ceil(0x1000));
            log.may
                .extend(page >> 12..(page + page_len).div_ceil(0x1000));
        }
    }

    /// A store of the guest to a page comes through: its guards are gone. Whether there was one.
    pub(super) fn grant(&mut self, page: u64, actual: u64) -> bool {
        let pieces = page >> 16..(page + actual).div_ceil(0x1_0000);
        let before = self.guarded.len();
        self.guarded.retain(|piece| !pieces.contains(piece));
        if self.guarded.len() == before {
            return false;
        }
        if let Some(log) = Area::of(page).and_then(|area| self.logs.get_mut(&area)) {
            log.may.extend(page >> 12..(page + actual) >> 12);
        }
        true
    }

    /// The pieces of a range of an area, as `protect` takes it.
    pub(super) fn pieces(area: Area, offset: u64, len: u64) -> core::ops::Range<u64> {
        let end = offset.saturating_add(len).min(area.bytes());
        if offset >= end {
            return 0..0;
        }
        (area.base() + offset) >> 16..(area.base() + end).div_ceil(0x1_0000)
    }

    /// The host's page for page `number` of a device, in one of a few places.
    pub(super) fn device_host(number: u64, place: u64) -> u64 {
        DEVICE_HOST + ((place * DEVICE_PIECES + number) << 16)
    }
}

/// Whether the hypervisor may access a range: all of it is memory, of one slot.
pub(super) fn is_memory(at: u64, len: u64) -> bool {
    Area::LOGGED.into_iter().any(|area| {
        at >= area.base()
            && at
                .checked_add(len)
                .is_some_and(|end| end <= area.base() + area.bytes())
    })
}
