// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a partition must offer to be controlled.
//!
//! The interface checks everything that a caller says before it calls: numbers are in range, the
//! feature is offered, the caller holds what it must. An implementation does the work, and may
//! refuse only for reasons that it alone can know. No method waits, allocates or loops for longer
//! than its limit says.

use super::error::{ControlError, Reason, RecordError};
use super::function::Feature;
use super::invalidation::Invalidation;
use super::records::{VcpuState, VectorState, parts};
use super::session::{Dirty, Halted, Runnable, Session};
use penstock_arch::addr::GuestReal;
use penstock_mm::hpt::HptStats;
use spin::Mutex;

/// Most streams that are read from one partition at a time.
pub const STREAM_READERS: usize = 4;
/// Most memory slots of a partition.
pub const MAX_SLOTS: u32 = 64;

/// Which features are offered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features(u32);

impl Features {
    /// None.
    pub const NONE: Self = Self(0);

    /// With one more.
    #[must_use]
    pub const fn with(self, feature: Feature) -> Self {
        Self(self.0 | 1 << feature as u32)
    }

    /// Whether this one is offered.
    #[must_use]
    pub const fn has(self, feature: Feature) -> bool {
        self.0 & 1 << feature as u32 != 0
    }

    /// The vector registers that are offered, as in [`parts`].
    #[must_use]
    pub const fn vector_parts(self) -> u32 {
        let fp = if self.has(Feature::Fp) { parts::FP } else { 0 };
        let vmx = if self.has(Feature::Vmx) {
            parts::VMX
        } else {
            0
        };
        let vsx = if self.has(Feature::Vsx) {
            parts::VSX
        } else {
            0
        };
        fp | vmx | vsx
    }
}

/// What is offered, and its limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Features.
    pub features: Features,
    /// Slots have numbers below this; at most [`MAX_SLOTS`].
    pub slots: u32,
    /// Virtual processors have numbers below this.
    pub vcpus: u32,
    /// Page sizes: bit n is 2^n bytes.
    pub page_sizes: u32,
    /// Page sizes of dirty logs: bit n is 2^n bytes.
    pub dirty_page_sizes: u32,
    /// Entries of the page table.
    pub hpt_entries: u64,
    /// When more entries than this are invalidated at once, flushing all is cheaper.
    pub flush_threshold: u32,
}

/// What a slot is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotKind {
    /// Memory of the partition.
    Memory,
    /// A framebuffer with rows of this many bytes.
    Framebuffer {
        /// Bytes of a row.
        row_bytes: u32,
    },
    /// Registers of a device.
    Device,
}

/// Whether the partition may write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It may.
    ReadWrite,
    /// It may not.
    ReadOnly,
}

/// A memory slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotInfo {
    /// What it is.
    pub kind: SlotKind,
    /// Where it begins.
    pub guest_address: GuestReal,
    /// How long it is.
    pub bytes: u64,
    /// Binary logarithm of the largest page that its backing can honour.
    pub page_shift: u8,
    /// Binary logarithm of what a bit of its dirty log stands for, 12 to 63; `None` where it cannot
    /// have one.
    pub dirty_shift: Option<u8>,
    /// Whether the partition may write it.
    pub access: Access,
}

impl SlotInfo {
    /// How many pages its dirty log has, and of which size.
    #[must_use]
    pub fn log(&self) -> Option<(u8, u64)> {
        let shift = self.dirty_shift?;
        let page = 1_u64.checked_shl(u32::from(shift))?;
        Some((shift, self.bytes.div_ceil(page)))
    }
}

/// Whether writes to a slot are noted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Logging {
    /// No.
    Off,
    /// Yes, from a clean slot on.
    On,
}

/// How thoroughly the hardware is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Harvest {
    /// What C bits are in the page table now, without a flush: may miss the last writes.
    Cheap,
    /// Everything that was written before the call.
    Exact,
}

/// What a harvest found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Harvested {
    /// The cursor to go on with; `None` at the end.
    pub next: Option<u64>,
    /// Pages that became dirty by this.
    pub found: u64,
}

/// What becomes of pages that are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Take {
    /// They stay dirty.
    Keep,
    /// They are clean.
    Clear,
}

/// Byte order of a stream's headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderOrder {
    /// As in QEMU's migration stream.
    Big,
    /// As KVM gives it on a little-endian host.
    Little,
}

/// Which entries a stream has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamFilter {
    /// All.
    All,
    /// Bolted ones; the others look invalid.
    BoltedOnly,
}

/// What a read of a stream gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamPiece {
    /// Bytes, whole records. May be 0 before the end.
    pub bytes: usize,
    /// The pass is at its end; the next read begins another.
    pub end: bool,
}

/// Whether a partition has stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suspension {
    /// Some virtual processor is still in the guest; it was told to come out.
    Underway,
    /// None is, and none enters before the partition is resumed.
    Complete,
}

/// Why an implementation refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetError {
    /// It is not offered.
    Unsupported,
    /// Something holds it up for a moment.
    Busy,
    /// What was set up before is not such that this can be done.
    State,
    /// The partition was shut off, or failed.
    Off,
    /// Something is wrong with the record, at this offset in it.
    Record(RecordError),
    /// The stream's records cannot be taken, from this offset in them on. Nothing was applied.
    Stream {
        /// Bytes from the start of the piece.
        offset: usize,
    },
    /// An error that is not the caller's.
    Hardware,
}

impl From<TargetError> for ControlError {
    fn from(error: TargetError) -> Self {
        match error {
            TargetError::Unsupported => Self::Unsupported,
            TargetError::Busy => Self::Busy,
            TargetError::State => Self::State,
            TargetError::Off => Self::Off,
            TargetError::Record(error) => Self::Record(error),
            TargetError::Stream { offset } => {
                Self::Record(RecordError::new(offset, Reason::Stream))
            }
            TargetError::Hardware => Self::Hardware,
        }
    }
}

type Answer<T = ()> = Result<T, TargetError>;

/// A partition that can be controlled. All methods but [`session`](Self::session),
/// [`number`](Self::number), [`name`](Self::name), [`offer`](Self::offer), [`slot`](Self::slot) and
/// [`check_hpt`](Self::check_hpt) are called with its session locked.
pub trait Controlled {
    /// What the checker of the page table says when something is wrong.
    type Violation: core::fmt::Display;

    /// Who holds the partition, and what it is in the middle of.
    fn session(&self) -> &Mutex<Session>;

    /// The partition's number.
    fn number(&self) -> u32;

    /// The partition's name.
    fn name(&self) -> &str;

    /// What is offered.
    fn offer(&self) -> Offer;

    /// A slot; `None` at and above [`Offer::slots`].
    fn slot(&self, slot: u32) -> Option<SlotInfo>;

    // The dirty log.

    /// Switches the dirty log of a slot that can have one; doing it twice is doing it once.
    ///
    /// # Errors
    /// The partition cannot now.
    fn set_dirty_log(&self, slot: u32, logging: Logging) -> Answer;

    /// Cursors of [`harvest`](Self::harvest) are below this.
    fn harvest_end(&self, slot: u32) -> u64;

    /// Moves what the hardware noted about a part of a logged slot into its log. `cursor` is 0, or
    /// what the call before gave; what it counts is the implementation's business. About `entries`
    /// entries of the page table should be looked at.
    ///
    /// # Errors
    /// The partition cannot now.
    fn harvest(&self, slot: u32, how: Harvest, cursor: u64, entries: u64) -> Answer<Harvested>;

    /// Tells which pages of a logged slot are dirty, from a page that is a multiple of 64 on, as a
    /// bitmap in the order of [`super::records::DirtyReply`]; how many bits are set. `bitmap` is
    /// zero before, and has no bit beyond the slot.
    ///
    /// # Errors
    /// The partition cannot now; no page became clean.
    fn fetch_dirty(&self, slot: u32, first_page: u64, take: Take, bitmap: &mut [u8])
    -> Answer<u64>;

    // The stream of the page table.

    /// Prepares reader `reader`, below [`STREAM_READERS`], for a first pass. From now on changes of
    /// the page table are noted for it.
    ///
    /// # Errors
    /// The partition cannot now.
    fn open_reader(&self, reader: usize, order: HeaderOrder, filter: StreamFilter) -> Answer;

    /// Whole records of the reader's current pass, by looking at up to `entries` entries. `into` has
    /// room for one record with one entry at least.
    ///
    /// # Errors
    /// The partition cannot now; the reader is where it was.
    fn read_stream(&self, reader: usize, entries: u64, into: &mut [u8]) -> Answer<StreamPiece>;

    /// Forgets the reader.
    fn close_reader(&self, reader: usize);

    /// Applies records to the page table, all of them or none. Entries that none names stay.
    ///
    /// # Errors
    /// [`TargetError::Stream`], or the partition cannot now.
    fn write_stream(&self, change: &Dirty, order: HeaderOrder, records: &[u8]) -> Answer;

    /// Drops up to `entries` entries from number `from` on, bolted ones and those of the real mode
    /// area too; the entry to go on with, `None` at the end.
    ///
    /// # Errors
    /// The partition cannot now.
    fn drop_entries(&self, change: &Dirty, from: u64, entries: u64) -> Answer<Option<u64>>;

    /// Drops translations of entries that were changed: each by itself or all at once, as
    /// [`Invalidation::plan`] says.
    ///
    /// # Errors
    /// The partition cannot now.
    fn invalidate(&self, change: &Dirty, what: &Invalidation<'_>) -> Answer;

    // Virtual processors.

    /// Fills in the state of a virtual processor: `state` is blank but for its header and number;
    /// `vectors` is blank.
    ///
    /// # Errors
    /// The partition cannot now.
    fn read_vcpu(
        &self,
        halted: &Halted,
        vcpu: u32,
        state: &mut VcpuState,
        vectors: Option<&mut VectorState>,
    ) -> Answer;

    /// Makes `state` that of a virtual processor, all of it or nothing. Registers that `state` does
    /// not list stay. Of `vectors` the parts in `state.parts` are meant.
    ///
    /// # Errors
    /// [`TargetError::Record`] where it has no such register or area; offsets are those in `state`.
    fn write_vcpu(
        &self,
        change: &Dirty,
        vcpu: u32,
        state: &VcpuState,
        vectors: Option<&VectorState>,
    ) -> Answer;

    // Ownership.

    /// Asks for all virtual processors to come out of the guest and stay out. Called again until
    /// it is complete.
    ///
    /// # Errors
    /// [`TargetError::Off`], or the partition cannot now.
    fn suspend(&self) -> Answer<Suspension>;

    /// Makes everything that was changed such that the partition may run: caches, partition
    /// table, translations.
    ///
    /// # Errors
    /// What was written does not belong together; the partition stays as it is.
    fn commit(&self, change: &Dirty) -> Answer;

    /// Lets virtual processors enter the guest. Those that a suspension which was not complete told
    /// to come out may do either.
    ///
    /// # Errors
    /// [`TargetError::Off`], or the partition cannot now.
    fn resume(&self, ready: &Runnable) -> Answer;

    // For the operator.

    /// Checks the page table from entry `from` on, adds to `stats`, and returns the entry to go on
    /// with; `None` at the end. `entries` is how many it should look at.
    ///
    /// # Errors
    /// The first thing that is wrong.
    fn check_hpt(
        &self,
        from: u64,
        entries: u64,
        stats: &mut HptStats,
    ) -> Result<Option<u64>, Self::Violation>;
}

/// Finds partitions by number and by name.
pub trait Directory {
    /// A partition.
    type Target: Controlled;

    /// The partition with this number.
    fn find(&self, number: u64) -> Option<&Self::Target>;
}
