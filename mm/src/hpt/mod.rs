// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A partition's hashed page table: hcalls, faults, and the virtualized real mode area.
//!
//! The hardware reads the real table, 16 bytes an entry, big-endian, in the layout of ISA 3.0 with
//! host real addresses. Beside it lies the reverse map, 16 bytes an entry: the guest's own second
//! doubleword, with guest real address, permissions, and the reference and change bits that were
//! collected before, and the links of the ring of entries that map the same page. What a guest reads is put together from both.
//!
//! # What is always true
//! * Doubleword 0 of an entry that the guest does not have is 0, or only the lock bit.
//! * An entry that the guest has is either valid (V=1) or absent (V=0 and the ABSENT bit): hidden
//!   from the hardware because its memory was never touched, or for a moment while it changes; or
//!   because it maps a page of a device that is not there. The last is a kind of its own, told by the
//!   entry's slot: no fault makes it valid, the fault's answer is [`FaultAction::NotMemory`] with the
//!   guest real address, and the entry becomes valid when the device gets a page.
//! * Doubleword 1 is stored only while V=0 and after the tlbie for it has completed, for the
//!   processor writes R and C by byte stores made from stale copies, as long as it may use the
//!   entry. The one exception is the one-byte store that clears R, which the architecture allows.
//!   The types of `guard` make anything else impossible to write.
//! * All memory that a valid entry maps is the partition's and has been zeroed once, or is an image's
//!   that the entry does not let it write.
//!
//! * Every entry that the guest has is in the ring of its page (see `ring`), and no other is.
//! * As long as anything is hidden from the hardware, or shown with fewer rights, it is counted (see
//!   `veil`), and virtual processors run with LPCR\[VPM1\] set.
//!
//! # Locks
//! The lock of an entry is bit HVLOCK of its doubleword 0, a bit that LoPAR keeps for firmware. It
//! protects both doublewords and the reverse map entry. Whoever holds one entry's lock may wait
//! for no other; a batch takes its first lock by waiting and further ones by trying, and flushes
//! and lets go before it waits again. The lock that lets one processor at a time enter a real mode
//! page again comes before any entry's lock; the one inside guest memory (a piece that somebody zeroes)
//! comes after an entry's lock, and so does the lock of a ring's head. A walk of a ring holds the head's
//! lock and only tries for entries' locks. The range lock, which an [`Obligation`] holds, comes before
//! all of them; the lock of a [pool](crate::pool) after all. Tests fail where a thread would wait
//! against this order for an entry, a head or the range lock (see `held`). Hypervisor code runs with
//! interrupts off, so a holder is never held up.
//!
//! Power ISA 3.0B, Book III, Page Table Update Synchronization Requirements; LoPAR, Page Frame
//! Table Access.

mod access;
mod ahead;
mod block_remove;
mod bulk_remove;
pub mod changes;
mod check;
mod clear;
mod clear_hpt;
mod enter;
mod fault;
pub mod flags;
mod flush;
mod guard;
mod harvest;
mod held;
mod mappings;
mod page_init;
mod place;
mod protect;
mod read;
mod refresh;
mod remove;
pub mod resize;
mod ring;
mod search;
mod share;
mod stream_io;
mod table;
mod veil;
mod vrma;
mod watch;

/// What `ring` and `veil` are made of; the model checker of `tests/interleavings` has its own.
mod sync {
    pub(super) use super::held;
    pub(super) use core::sync::atomic::{AtomicU64, Ordering, fence};
    pub(super) use penstock_arch::wait::relax as spin_loop;
}

pub use access::MemoryAccess;
pub use ahead::Ahead;
pub use block_remove::BLOCK_PAGES_LOG2;
pub use check::{HptStats, Rule, Violation};
pub use fault::{AccessKind, BackingTooSmall, FaultAction, GuestFault, HpteFault};
pub use flush::FlushCounts;
pub use harvest::{Pass, VcpusAre};
pub use mappings::{MOST_MAPPINGS, Mappings};
pub use refresh::{FLUSH_ALL_ABOVE, Flushed, Obligation};
pub use search::LookedUp;
pub use stream_io::{HptReader, OpenReader, RestoreError};

use self::ahead::Looked;
use self::changes::ChangeLog;
use self::flush::FlushCounters;
use self::resize::Resize;
use self::table::Table;
use self::veil::Veil;
use self::vrma::RealMode;
use crate::frame::{FrameAllocator, FrameError};
use crate::guest_memory::GuestMemory;
use crate::page_ops::Machine;
use crate::status::HcallStatus;
use core::sync::atomic::{AtomicBool, Ordering};
use penstock_arch::addr::HostReal;
use penstock_arch::hash::{GuestHpteR, HpteIndex, HpteR, Lpid, PageSize, Pate};
use penstock_arch::wait;

/// The size of a table: binary logarithm of its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HptOrder(u32);

impl HptOrder {
    /// The smallest table, 256 KiB: below it tlbie's operand cannot be found from an entry.
    pub const MIN: Self = Self(18);
    /// The largest table that Penstock makes, 64 GiB.
    pub const MAX: Self = Self(36);

    /// A table of `1 << log2_bytes` bytes, or `None` outside 18 to 36.
    #[must_use]
    pub const fn new(log2_bytes: u32) -> Option<Self> {
        if log2_bytes < Self::MIN.0 || log2_bytes > Self::MAX.0 {
            return None;
        }
        Some(Self(log2_bytes))
    }

    /// The usual size for a partition with this many bytes of memory: a 128th, rounded up to a
    /// power of two, as QEMU does it.
    #[must_use]
    pub const fn for_memory(bytes: u64) -> Self {
        let wanted = bytes.div_ceil(128);
        let order = if wanted <= 1 {
            0
        } else {
            u64::BITS - (wanted - 1).leading_zeros()
        };
        if order < Self::MIN.0 {
            Self::MIN
        } else if order > Self::MAX.0 {
            Self::MAX
        } else {
            Self(order)
        }
    }

    /// The size of a table of so many entries, a power of two.
    const fn of_entries(entries: u64) -> Self {
        Self((entries * table::HPTE_BYTES).trailing_zeros())
    }

    /// Binary logarithm of the table's bytes: what `ibm,pft-size` says.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The table's bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        1 << self.0
    }
}

/// Whether the partition's device tree offers storage keys (`ibm,processor-storage-keys`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StorageKeys {
    /// No: key bits that a guest sets are forced off.
    NotOffered,
    /// Yes, all 32.
    Offered,
}

/// Whether the partition's device tree offers strong access ordering.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StrongAccessOrder {
    /// No: memory has WIMG=0b0010 only.
    NotOffered,
    /// Yes: WIMG=0b1110 is permitted too. POWER9 only.
    Offered,
}

/// How a partition's table is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HptConfig {
    /// Size of the table.
    pub order: HptOrder,
    /// The largest page of guest real mode when the partition starts. Where what backs address 0 has
    /// smaller ones, it is those.
    pub vrma_page: PageSize,
    /// Storage keys.
    pub keys: StorageKeys,
    /// Strong access ordering.
    pub ordering: StrongAccessOrder,
    /// The largest table to which the partition may resize its own, where that is larger than
    /// `order`; `None`: it may not. Memory for two tables of that size is taken.
    pub resize: Option<HptOrder>,
}

impl HptConfig {
    /// A table of this size and the largest pages for real mode, without options.
    #[must_use]
    pub const fn new(order: HptOrder) -> Self {
        Self {
            order,
            vrma_page: PageSize::P16M,
            keys: StorageKeys::NotOffered,
            ordering: StrongAccessOrder::NotOffered,
            resize: None,
        }
    }
}

/// Why a partition's table could not be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HptSetupError {
    /// Guest real mode needs memory from guest real address 0 on, and there is none.
    NoMemoryAtZero,
    /// There is not enough host memory.
    Frames(FrameError),
}

impl From<FrameError> for HptSetupError {
    fn from(error: FrameError) -> Self {
        Self::Frames(error)
    }
}

impl core::fmt::Display for HptSetupError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::NoMemoryAtZero => f.write_str("there is no memory at guest real address 0"),
            Self::Frames(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for HptSetupError {}

/// One partition's hash MMU: its table, its memory and its number.
#[derive(Debug)]
pub struct HashMmu<M: Machine> {
    /// The table that the partition starts with.
    first: Table,
    /// The size that it starts with.
    first_order: HptOrder,
    /// Memory of another one, where the partition may resize its table.
    spare: Option<Table>,
    /// The spare is in use. Both stay owned as long as the partition is, so whoever has read this
    /// just before it changed goes to the wrong table, but never to memory of others.
    on_spare: AtomicBool,
    resize: wait::Mutex<Resize<resize::Pending>>,
    /// What changed of the table in use, for those who read it as a stream.
    changes: ChangeLog,
    memory: GuestMemory<M>,
    lpid: Lpid,
    real_mode: RealMode,
    /// Held while a page of the real mode area is entered again.
    vrma_repair: AtomicBool,
    /// Bits of doubleword 1 that a guest may set.
    guest_r_mask: u64,
    /// The WIMG of memory that is permitted beside 0b0010.
    other_wimg: u64,
    /// What the hardware does not see.
    veil: Veil,
    /// Held by whoever has hidden entries of a range and has not flushed them, by whoever walks rings
    /// without hiding anything, and by a commit of a resize until the tables have changed places.
    range_lock: AtomicBool,
    looked: Looked,
    flushes: FlushCounters,
    /// Somebody asks what the partition uses: whoever clears R says so.
    ages: AtomicBool,
}

/// WIMG=0b0010: ordinary memory.
const WIMG_MEMORY: u64 = 0x10;
/// WIMG=0b1110: memory with strong access ordering.
const WIMG_STRONG_ORDER: u64 = 0x70;

impl<M: Machine> HashMmu<M> {
    /// A partition's hash MMU over `memory`, its real mode area entered.
    ///
    /// # Errors
    /// There is no memory at guest real address 0, or `allocator` has too little; then all is given
    /// back, `memory` included.
    pub fn new(
        lpid: Lpid,
        memory: GuestMemory<M>,
        config: HptConfig,
        allocator: &mut FrameAllocator,
    ) -> Result<Self, HptSetupError> {
        if memory.ram().base().get() != 0 {
            memory.release(allocator)?;
            return Err(HptSetupError::NoMemoryAtZero);
        }
        // The hardware is told it before the first virtual processor runs.
        let vrma_page = config.vrma_page.min(memory.ram().largest());
        let limit = config.resize.map(|largest| largest.max(config.order));
        let largest = limit.unwrap_or(config.order);
        let first = match Table::new(largest, allocator, memory.machine()) {
            Ok(table) => table,
            Err(error) => {
                memory.release(allocator)?;
                return Err(error.into());
            }
        };
        // It has memory for more.
        let _ = first.set_order(config.order);
        let spare = match limit {
            Some(order) => match Table::new(order, allocator, memory.machine()) {
                Ok(spare) => Some(spare),
                Err(error) => {
                    first.release(allocator).and(memory.release(allocator))?;
                    return Err(error.into());
                }
            },
            None => None,
        };
        let entries = largest.bytes() / table::HPTE_BYTES;
        let changes = match ChangeLog::new(entries, allocator, memory.machine()) {
            Ok(changes) => changes,
            Err(error) => {
                let spare = spare.map_or(Ok(()), |spare| spare.release(allocator));
                let first = first.release(allocator);
                memory.release(allocator).and(first).and(spare)?;
                return Err(error.into());
            }
        };
        let keys = match config.keys {
            StorageKeys::NotOffered => HpteR::KEY_HIGH | HpteR::KEY_LOW,
            StorageKeys::Offered => 0,
        };
        let is_done = memory.is_fully_backed() || memory.share().is_some();
        let mmu = Self {
            first,
            first_order: config.order,
            spare,
            on_spare: AtomicBool::new(false),
            resize: wait::Mutex::new(Resize::new(limit)),
            changes,
            memory,
            lpid,
            real_mode: RealMode::new(vrma_page),
            vrma_repair: AtomicBool::new(false),
            guest_r_mask: !(GuestHpteR::RESERVED | keys),
            other_wimg: match config.ordering {
                StrongAccessOrder::NotOffered => WIMG_MEMORY,
                StrongAccessOrder::Offered => WIMG_STRONG_ORDER,
            },
            veil: Veil::new(),
            range_lock: AtomicBool::new(false),
            looked: Looked::new(is_done),
            flushes: FlushCounters::new(),
            ages: AtomicBool::new(false),
        };
        mmu.enter_vrma();
        Ok(mmu)
    }

    /// The partition's number.
    #[inline]
    #[must_use]
    pub const fn lpid(&self) -> Lpid {
        self.lpid
    }

    /// Size of the table.
    #[must_use]
    pub fn order(&self) -> HptOrder {
        self.table().order()
    }

    /// Where the table lies: a multiple of its size.
    #[must_use]
    pub fn hpt_base(&self) -> HostReal {
        self.table().base()
    }

    /// Number of entries.
    #[must_use]
    pub fn entries(&self) -> u64 {
        self.table().count()
    }

    /// What the partition table must hold for this partition; `None` never, for the table is
    /// aligned and of a valid size.
    #[must_use]
    pub fn pate(&self) -> Option<Pate> {
        Pate::hash(self.table().base(), self.order().get(), self.vrma_page())
    }

    /// Drops every entry and makes the real mode area anew, for a partition that starts over, with
    /// the table and the page size of real mode that it had at its beginning: where one of them is not
    /// what is in use, the partition table must be told (see [`Self::pate`]). Memory that comes from a
    /// pool goes back to it. No vCPU of it may be in the guest, and nobody may read the table meanwhile,
    /// or begin to.
    pub fn clear_all(&self) {
        let flushed = self.empty_table();
        self.start_over();
        self.real_mode.start_over();
        self.looked.begin_anew();
        self.give_back(&flushed);
        self.enter_vrma();
    }

    /// Drops every entry. No vCPU may be in the guest, and nobody may read the table.
    fn empty_table(&self) -> Flushed {
        // What was written stays written.
        for (id, slot) in self.memory.slots() {
            if slot.is_logging() {
                let _ = self.harvest(id, VcpusAre::Stopped);
            }
        }
        for index in self.table().in_use(0..self.entries()) {
            if self.table().entry(index).load_v().is_absent() {
                self.veil_less(1);
            }
        }
        self.table().clear(self.machine());
        for (_, slot) in self.memory.slots() {
            slot.clear_heads(self.machine());
        }
        self.changes.mark_all();
        self.flush_to_the_end()
    }

    /// Counts what is about to be hidden from the hardware; returns when no thread runs the
    /// partition with LPCR\[VPM1\] clear.
    #[inline]
    fn veil_more(&self, count: u64) {
        self.veil
            .add(count, || self.machine().virtualize(self.lpid));
    }

    /// Takes back what the hardware sees again.
    #[inline]
    fn veil_less(&self, count: u64) {
        self.veil.remove(count);
    }

    /// Whether the hardware does not see all that the guest entered. Under an entry's lock: whether
    /// that may be so for this entry.
    #[inline]
    fn is_veiled(&self) -> bool {
        self.veil.is_set()
    }

    /// Whether virtual processors must run with LPCR\[VPM1\] set, so that faults in virtual mode
    /// come to the hypervisor. To be asked by a thread that is about to enter the guest, after it
    /// said so and a full barrier.
    #[must_use]
    pub fn needs_vpm(&self) -> bool {
        self.veil.is_needed()
    }

    /// How many entries and pieces the hardware does not see, or sees less of.
    #[must_use]
    pub fn hidden(&self) -> u64 {
        self.veil.count()
    }

    /// Ends the partition: no translation of it is left in any processor, and all its memory goes
    /// back. No vCPU of it may be in the guest, and its partition table entry is gone.
    ///
    /// # Errors
    /// The allocator cannot keep track of so many ranges; the rest is lost.
    pub fn destroy(self, allocator: &mut FrameAllocator) -> Result<(), FrameError> {
        self.table().clear(self.machine());
        let flushed = self.flush_to_the_end();
        let memory = self.memory.release_flushed(&flushed, allocator);
        let changes = self.changes.release(allocator);
        let spare = self.spare.map_or(Ok(()), |spare| spare.release(allocator));
        self.first
            .release(allocator)
            .and(spare)
            .and(changes)
            .and(memory)
    }

    /// The table in use.
    #[inline]
    fn table(&self) -> &Table {
        match &self.spare {
            Some(spare) if self.on_spare.load(Ordering::Relaxed) => spare,
            _ => &self.first,
        }
    }

    #[inline]
    const fn machine(&self) -> &M {
        self.memory.machine()
    }

    /// The entry that a guest names, if the table has it.
    #[inline]
    fn index(&self, ptex: u64) -> Result<HpteIndex, HcallStatus> {
        if ptex < self.table().count() {
            Ok(HpteIndex::new(ptex))
        } else {
            Err(HcallStatus::PARAMETER)
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
