// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The pool: frames of 64 KiB for the partitions whose memory may be overcommitted.
//!
//! Such a partition has no memory set aside for it but a guaranteed part. It takes a frame when it
//! first touches a piece, or first stores to a piece that it shares with others, and gives its frames
//! back when it ends or starts over. Its account says how many it has, how many it may have at least,
//! and how many at most. A frame is given out only where all guaranteed parts can still be had
//! afterwards: so one partition's greed is never another's shortage below what that was promised.
//!
//! Images, what several partitions start from, lie in frames of the pool too, as long as anybody maps
//! them: see `pool/images.rs`.
//!
//! A frame that a partition gives back may be another's a moment later. So it is taken only with the
//! proof that no processor has a translation to it any more, [`Flushed`].
//!
//! The lock inside is the last of all locks: whoever holds it waits for nothing.

mod images;
mod owner;

pub use images::{ImageId, ImageSource};

use self::images::Image;
use self::owner::{Link, Owner};
use crate::frame::{FrameAllocator, FrameError};
use crate::hpt::Flushed;
use crate::page_ops::{CACHE_BLOCK, PageOps};
use crate::real::{PIECE, PoolFrame, RealArray};
use arrayvec::ArrayVec;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use penstock_arch::addr::HostReal;
use penstock_arch::wait::Mutex;

/// Partitions that can have an account.
pub const ACCOUNTS: usize = 64;

/// Images: a kernel and an initial RAM disk for each partition.
pub const IMAGES: usize = 2 * ACCOUNTS;

/// Runs of host memory that a pool is made of.
const RUNS: usize = 16;

/// A range of host memory.
#[derive(Clone, Copy, Debug)]
struct Run {
    base: HostReal,
    /// The number of its first frame.
    first: u64,
    frames: u64,
}

/// Names the account of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccountId(usize);

/// In frames.
#[derive(Clone, Copy, Debug, Default)]
struct Account {
    guaranteed: u64,
    limit: u64,
    used: u64,
    shared: u64,
    /// Whether the last frame that it lacked was one beyond its limit.
    at_limit: bool,
}

#[derive(Debug)]
struct Inner {
    runs: ArrayVec<Run, RUNS>,
    owners: RealArray<AtomicU64>,
    /// For each piece of the images, one image after the other, the frame that it lies in.
    places: RealArray<AtomicU64>,
    frames: u64,
    /// Frames from this number on have never been given out, and their words say nothing.
    untouched: u64,
    /// Those that were given back.
    returned: Link,
    free: u64,
    /// What of the accounts' guaranteed parts they have not taken.
    promised: u64,
    accounts: ArrayVec<Account, ACCOUNTS>,
    images: ArrayVec<Image, IMAGES>,
    /// Pieces that the images have, and those that lie in frames.
    image_pieces: u64,
    resident: u64,
    mapped: u64,
    /// Called when the frame of an image has come back while partitions run.
    returned_call: Option<fn()>,
}

/// The frames that partitions share.
#[derive(Debug)]
pub struct Pool(Mutex<Inner>);

/// What a pool cannot promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolError {
    /// More frames than are left beside what others were promised.
    TooSmall {
        /// Bytes asked for.
        wanted: u64,
        /// Bytes that can still be promised.
        left: u64,
    },
    /// There are as many accounts or images as there may be.
    TooMany,
}

impl core::fmt::Display for PoolError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::TooSmall { wanted, left } => write!(
                f,
                "the pool can promise {left:#x} bytes, and not {wanted:#x}"
            ),
            Self::TooMany => f.write_str("too many partitions or images share the pool"),
        }
    }
}

impl core::error::Error for PoolError {}

/// There is no frame to be had at the moment: the pool has none beside what others were promised,
/// or the partition has as many as it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoFrame;

/// What a pool holds, in frames of 64 KiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolCounts {
    /// All.
    pub frames: u64,
    /// Those that nobody has.
    pub free: u64,
    /// Those of the free ones that are kept for guaranteed parts.
    pub promised: u64,
    /// Pieces that the images have.
    pub image_pieces: u64,
    /// Frames that images are in at the moment.
    pub images: u64,
    /// Pieces of partitions that map images.
    pub mapped: u64,
}

/// What a partition has of a pool, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShareCounts {
    /// What it can have at any time.
    pub guaranteed: u64,
    /// What it can have at most.
    pub limit: u64,
    /// Its own frames.
    pub used: u64,
    /// What it maps of images.
    pub shared: u64,
}

impl Pool {
    /// Bytes that a pool of `bytes` keeps beside its frames.
    #[must_use]
    pub const fn overhead_bytes(bytes: u64) -> u64 {
        // Without frames there is no pool.
        if bytes == 0 {
            return 0;
        }
        2 * Self::table_bytes(bytes)
    }

    /// Bytes of a word for each frame.
    const fn table_bytes(bytes: u64) -> u64 {
        (bytes / PIECE * 8).next_multiple_of(CACHE_BLOCK)
    }

    /// A pool of `bytes`, a multiple of 64 KiB, none of it zeroed.
    ///
    /// # Errors
    /// `allocator` has too little, or it lies in too many parts.
    pub fn new(
        bytes: u64,
        allocator: &mut FrameAllocator,
        ops: &impl PageOps,
    ) -> Result<Self, FrameError> {
        let mut table = || {
            let frames = allocator.alloc(Self::table_bytes(bytes), CACHE_BLOCK)?;
            RealArray::new(frames, ops).map_err(|frames| FrameError::BadAlignment {
                base: frames.base(),
                align: CACHE_BLOCK,
            })
        };
        let (owners, places) = (table()?, table()?);
        let mut runs = ArrayVec::<Run, RUNS>::new();
        let mut first = 0;
        while first * PIECE < bytes {
            let left = bytes - first * PIECE;
            // The smallest range that holds it all, or else the largest that there is.
            let len = left.min(largest_aligned(allocator));
            if len == 0 || runs.is_full() {
                return Err(allocator.out_of_memory(left, PIECE));
            }
            let base = allocator.alloc(len, PIECE)?.base();
            let frames = len / PIECE;
            runs.push(Run {
                base,
                first,
                frames,
            });
            first += frames;
        }
        Ok(Self(Mutex::new(Inner {
            runs,
            owners,
            places,
            frames: first,
            untouched: 0,
            returned: Link(None),
            free: first,
            promised: 0,
            accounts: ArrayVec::new(),
            images: ArrayVec::new(),
            image_pieces: 0,
            resident: 0,
            mapped: 0,
            returned_call: None,
        })))
    }

    /// Opens the account of a partition: `guaranteed` bytes are kept for it from now on, and it can
    /// have up to `limit`.
    ///
    /// # Errors
    /// The guaranteed part is more than can be promised, or there are too many accounts.
    pub fn open(&self, guaranteed: u64, limit: u64) -> Result<AccountId, PoolError> {
        let mut inner = self.0.lock();
        let account = Account {
            guaranteed: guaranteed.min(limit) / PIECE,
            limit: limit / PIECE,
            used: 0,
            shared: 0,
            at_limit: false,
        };
        inner.can_promise(account.guaranteed)?;
        let id = AccountId(inner.accounts.len());
        inner
            .accounts
            .try_push(account)
            .map_err(|_| PoolError::TooMany)?;
        inner.promised += account.guaranteed;
        Ok(id)
    }

    /// Has `call` called whenever the frame of an image comes back because all that mapped it have
    /// copies: those who wait for a frame may try again. It must not wait.
    pub fn on_return(&self, call: fn()) {
        self.0.lock().returned_call = Some(call);
    }

    /// What the pool holds.
    #[must_use]
    pub fn counts(&self) -> PoolCounts {
        let inner = self.0.lock();
        PoolCounts {
            frames: inner.frames,
            free: inner.free,
            promised: inner.promised,
            image_pieces: inner.image_pieces,
            images: inner.resident,
            mapped: inner.mapped,
        }
    }
}

/// The largest part of a free range, in whole frames, in bytes.
fn largest_aligned(allocator: &FrameAllocator) -> u64 {
    allocator
        .ranges()
        .map(|(base, len)| {
            let end = (base.get() + len) & !(PIECE - 1);
            let start = base.get().next_multiple_of(PIECE);
            end.saturating_sub(start)
        })
        .max()
        .unwrap_or(0)
}

impl Inner {
    fn can_promise(&self, frames: u64) -> Result<(), PoolError> {
        // Before anybody starts, when all is promised, no piece of an image has a frame.
        let kept = self.promised + self.image_pieces - self.resident;
        let left = self.free.saturating_sub(kept);
        if frames <= left {
            Ok(())
        } else {
            Err(PoolError::TooSmall {
                wanted: frames.saturating_mul(PIECE),
                left: left * PIECE,
            })
        }
    }

    fn owner(&self, index: u32) -> Owner {
        let word = self.owners.cell(index as usize);
        Owner::decode(word.map_or(0, |word| word.load(Relaxed)))
    }

    fn set_owner(&self, index: u32, owner: Owner) {
        if let Some(word) = self.owners.cell(index as usize) {
            word.store(owner.encode(), Relaxed);
        }
    }

    fn address(&self, index: u32) -> Option<HostReal> {
        let index = u64::from(index);
        let run = self
            .runs
            .iter()
            .find(|run| index >= run.first && index - run.first < run.frames)?;
        run.base.checked_add((index - run.first) * PIECE)
    }

    fn index(&self, at: HostReal) -> Option<u32> {
        self.runs.iter().find_map(|run| {
            let offset = at.offset_from(run.base)?;
            let index = run.first + offset / PIECE;
            (offset / PIECE < run.frames && offset.is_multiple_of(PIECE))
                .then(|| u32::try_from(index).ok())?
        })
    }

    /// An account; no share has one that is not there.
    fn account(&self, id: AccountId) -> Account {
        self.accounts.get(id.0).copied().unwrap_or_default()
    }

    /// Whether an account may have another frame, and if so, whether that is of its guaranteed part.
    fn permits(&self, account: AccountId) -> Option<bool> {
        let account = self.accounts.get(account.0)?;
        let ours = account.used < account.guaranteed;
        let there_is = ours || self.free > self.promised;
        (account.used < account.limit && there_is).then_some(ours)
    }

    /// Puts a frame to those that are free.
    fn push(&mut self, index: u32) {
        let next = self.returned;
        self.set_owner(index, Owner::Nobody { next });
        self.returned = Link(Some(index));
        self.free += 1;
    }

    /// Takes a free frame, whoever it is for.
    fn pop(&mut self) -> Option<(PoolFrame, u32)> {
        let index = match self.returned {
            Link(Some(index)) => {
                let Owner::Nobody { next } = self.owner(index) else {
                    return None;
                };
                self.returned = next;
                index
            }
            Link(None) => {
                let index = u32::try_from(self.untouched).ok()?;
                if self.untouched >= self.frames {
                    return None;
                }
                self.untouched += 1;
                index
            }
        };
        let at = self.address(index)?;
        self.free -= 1;
        Some((PoolFrame::new(at), index))
    }
}

/// A partition's part in a pool: its account.
#[derive(Clone, Copy, Debug)]
pub struct Share {
    pool: &'static Pool,
    account: AccountId,
}

impl Share {
    /// The part of the partition with this account. One memory at a time has it.
    #[must_use]
    pub const fn new(pool: &'static Pool, account: AccountId) -> Self {
        Self { pool, account }
    }

    /// The pool.
    #[must_use]
    pub const fn pool(&self) -> &'static Pool {
        self.pool
    }

    /// Takes a frame, not zeroed.
    pub(crate) fn take(&self) -> Result<PoolFrame, NoFrame> {
        let mut inner = self.pool.0.lock();
        let permitted = inner.permits(self.account);
        let account = inner.accounts.get_mut(self.account.0).ok_or(NoFrame)?;
        account.at_limit = permitted.is_none() && account.used >= account.limit;
        let ours = permitted.ok_or(NoFrame)?;
        account.used += 1;
        inner.promised -= u64::from(ours);
        // What is promised is free, so there is one.
        let (frame, index) = inner.pop().ok_or(NoFrame)?;
        inner.set_owner(index, Owner::Account(self.account));
        Ok(frame)
    }

    /// Gives a frame back that no processor has a translation to.
    pub(crate) fn give_back(&self, frame: &PoolFrame, _: &Flushed) {
        let mut inner = self.pool.0.lock();
        let Some(index) = inner.index(frame.at()) else {
            return;
        };
        if inner.owner(index) != Owner::Account(self.account) {
            debug_assert!(false, "a frame of somebody else's");
            return;
        }
        inner.push(index);
        if let Some(account) = inner.accounts.get_mut(self.account.0) {
            account.used -= 1;
            let ours = account.used < account.guaranteed;
            inner.promised += u64::from(ours);
        }
    }

    /// Whether the frame at `at` is the partition's own.
    pub(crate) fn owns(&self, at: HostReal) -> bool {
        let inner = self.pool.0.lock();
        inner
            .index(at)
            .is_some_and(|index| inner.owner(index) == Owner::Account(self.account))
    }

    /// Whether the partition could have what it lacked last at the moment: a frame of its own, or one
    /// of an image.
    #[must_use]
    pub fn can_take(&self) -> bool {
        let inner = self.pool.0.lock();
        !inner.account(self.account).at_limit
            && (inner.free > inner.promised || inner.permits(self.account).is_some())
    }

    /// Whether the partition lacks a frame because it has as many as it may: then none that another
    /// gives back helps.
    #[must_use]
    pub fn is_at_limit(&self) -> bool {
        self.pool.0.lock().account(self.account).at_limit
    }

    /// Whether the partition has not taken all of its guaranteed part.
    pub(crate) fn has_guaranteed(&self) -> bool {
        let inner = self.pool.0.lock();
        let account = inner.account(self.account);
        account.used < account.guaranteed
    }

    /// What the partition has.
    #[must_use]
    pub fn counts(&self) -> ShareCounts {
        let account = self.pool.0.lock().account(self.account);
        ShareCounts {
            guaranteed: account.guaranteed * PIECE,
            limit: account.limit * PIECE,
            used: account.used * PIECE,
            shared: account.shared * PIECE,
        }
    }
}

#[cfg(test)]
mod tests;
