// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The pool: frames of 64 KiB for the partitions whose memory may be overcommitted.
//!
//! Such a partition has no memory set aside for it but a guaranteed part. It takes a frame when it
//! first touches a piece, or first stores to a piece that it shares with others, and gives its frames
//! back when it ends or starts over. Its account says how many it has, how many it may have at least,
//! and how many at most. A frame is given out only where all guaranteed parts can still be had
//! afterwards: so one partition's greed is never another's shortage below what that was promised.
//!
//! Images, what several partitions start from, lie in frames of the pool too. They are written once,
//! before anybody maps them, and never again; nothing takes their frames back, so a partition that
//! starts anew finds them. How many pieces map each is counted, to tell what sharing saves.
//!
//! A frame that a partition gives back may be another's a moment later. So it is taken only with the
//! proof that no processor has a translation to it any more, [`Flushed`].
//!
//! The lock inside is the last of all locks: whoever holds it waits for nothing.

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

/// What is known of a frame: who has it, or the next one of its chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    /// Nobody; the next free one.
    Nobody { next: Link },
    /// The partition with this account.
    Account(AccountId),
    /// An image: the image's next frame, and how many pieces map this one.
    Image { next: Link, mapped: u64 },
}

/// The number of a frame, or the end of a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Link(Option<u32>);

impl Owner {
    const TAG: u64 = 3 << 62;
    const ACCOUNT: u64 = 1 << 62;
    const IMAGE: u64 = 2 << 62;
    const MAPPED_SHIFT: u32 = 33;
    const LINK: u64 = (1 << Self::MAPPED_SHIFT) - 1;

    fn decode(word: u64) -> Self {
        // A link is the number and one, so that 0 is the end.
        let next = Link(u32::try_from((word & Self::LINK).wrapping_sub(1)).ok());
        match word & Self::TAG {
            0 => Self::Nobody { next },
            Self::ACCOUNT => Self::Account(AccountId(usize::try_from(word & 0xffff).unwrap_or(0))),
            _ => Self::Image {
                next,
                mapped: (word & !Self::TAG) >> Self::MAPPED_SHIFT,
            },
        }
    }

    fn encode(self) -> u64 {
        let link = |Link(next): Link| next.map_or(0, |next| u64::from(next) + 1);
        match self {
            Self::Nobody { next } => link(next),
            Self::Account(AccountId(number)) => Self::ACCOUNT | number as u64,
            Self::Image { next, mapped } => Self::IMAGE | mapped << Self::MAPPED_SHIFT | link(next),
        }
    }
}

/// Names the account of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccountId(usize);

/// Names an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageId(usize);

/// In frames.
#[derive(Clone, Copy, Debug)]
struct Account {
    guaranteed: u64,
    limit: u64,
    used: u64,
    shared: u64,
}

#[derive(Clone, Copy, Debug)]
struct Image {
    first: Link,
    frames: u64,
}

#[derive(Debug)]
struct Inner {
    runs: ArrayVec<Run, RUNS>,
    owners: RealArray<AtomicU64>,
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
    mapped: u64,
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
    /// Those that images are in.
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
        let table = allocator.alloc(Self::overhead_bytes(bytes).max(CACHE_BLOCK), CACHE_BLOCK)?;
        let owners = RealArray::new(table, ops).map_err(|table| FrameError::BadAlignment {
            base: table.base(),
            align: CACHE_BLOCK,
        })?;
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
            frames: first,
            untouched: 0,
            returned: Link(None),
            free: first,
            promised: 0,
            accounts: ArrayVec::new(),
            images: ArrayVec::new(),
            mapped: 0,
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

    /// Keeps an image of `pieces` pieces. `fill` writes each of them, which is zero before; then it
    /// is fit to be executed.
    ///
    /// # Errors
    /// There are not so many frames beside what was promised, or there are too many images.
    pub fn add_image(
        &self,
        pieces: u64,
        ops: &impl PageOps,
        mut fill: impl FnMut(u64, ImagePiece<'_>),
    ) -> Result<ImageId, PoolError> {
        {
            let inner = self.0.lock();
            inner.can_promise(pieces)?;
            if inner.images.is_full() {
                return Err(PoolError::TooMany);
            }
        }
        // Backwards, so that the chain runs forwards.
        let mut image = Image {
            first: Link(None),
            frames: 0,
        };
        for number in (0..pieces).rev() {
            // Others may take frames meanwhile, but not what is promised.
            let (frame, index) = self.0.lock().pop().ok_or(PoolError::TooSmall {
                wanted: pieces * PIECE,
                left: image.frames * PIECE,
            })?;
            let span = frame.span();
            span.zero(ops);
            fill(number, ImagePiece(&frame));
            span.icache_synchronize(ops);
            let owner = Owner::Image {
                next: image.first,
                mapped: 0,
            };
            self.0.lock().set_owner(index, owner);
            image.first = Link(Some(index));
            image.frames += 1;
        }
        let mut inner = self.0.lock();
        let id = ImageId(inner.images.len());
        inner
            .images
            .try_push(image)
            .map_err(|_| PoolError::TooMany)?;
        Ok(id)
    }

    /// What the pool holds.
    #[must_use]
    pub fn counts(&self) -> PoolCounts {
        let inner = self.0.lock();
        PoolCounts {
            frames: inner.frames,
            free: inner.free,
            promised: inner.promised,
            images: inner.images.iter().map(|image| image.frames).sum(),
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

/// A piece of an image while it is written.
#[derive(Debug)]
pub struct ImagePiece<'a>(&'a PoolFrame);

impl ImagePiece<'_> {
    /// Writes `bytes` from `offset` on, as far as the piece reaches.
    pub fn write(&self, offset: u64, bytes: &[u8]) {
        if let Some(span) = self.0.span().skip(offset) {
            span.write(bytes);
        }
    }
}

impl Inner {
    fn can_promise(&self, frames: u64) -> Result<(), PoolError> {
        let left = self.free.saturating_sub(self.promised);
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
        let word = self.owners.get(index as usize);
        Owner::decode(word.map_or(0, |word| word.load(Relaxed)))
    }

    fn set_owner(&self, index: u32, owner: Owner) {
        if let Some(word) = self.owners.get(index as usize) {
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

    /// Whether an account may have another frame, and if so, whether that is of its guaranteed part.
    fn permits(&self, account: AccountId) -> Option<bool> {
        let account = self.accounts.get(account.0)?;
        let ours = account.used < account.guaranteed;
        let there_is = ours || self.free > self.promised;
        (account.used < account.limit && there_is).then_some(ours)
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

/// How far a walk through an image has come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ImageCursor(Link);

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
        let ours = inner.permits(self.account).ok_or(NoFrame)?;
        let account = inner.accounts.get_mut(self.account.0).ok_or(NoFrame)?;
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
        let next = inner.returned;
        inner.set_owner(index, Owner::Nobody { next });
        inner.returned = Link(Some(index));
        inner.free += 1;
        if let Some(account) = inner.accounts.get_mut(self.account.0) {
            account.used -= 1;
            let ours = account.used < account.guaranteed;
            inner.promised += u64::from(ours);
        }
    }

    /// How many pieces an image has, and where a walk through them begins.
    pub(crate) fn image(&self, id: ImageId) -> Option<(u64, ImageCursor)> {
        let inner = self.pool.0.lock();
        let image = inner.images.get(id.0)?;
        Some((image.frames, ImageCursor(image.first)))
    }

    /// The frame of an image at the cursor, which a piece of ours maps from now on.
    pub(crate) fn map_next(&self, cursor: &mut ImageCursor) -> Option<HostReal> {
        let mut inner = self.pool.0.lock();
        let Link(Some(index)) = cursor.0 else {
            return None;
        };
        let Owner::Image { next, mapped } = inner.owner(index) else {
            return None;
        };
        let mapped = mapped + 1;
        inner.set_owner(index, Owner::Image { next, mapped });
        inner.mapped += 1;
        if let Some(account) = inner.accounts.get_mut(self.account.0) {
            account.shared += 1;
        }
        cursor.0 = next;
        inner.address(index)
    }

    /// A piece of ours does not map this frame of an image any more, and no processor does for it.
    pub(crate) fn unmap(&self, at: HostReal, _: &Flushed) {
        let mut inner = self.pool.0.lock();
        let Some(index) = inner.index(at) else {
            return;
        };
        if let Owner::Image { next, mapped } = inner.owner(index) {
            let mapped = mapped.saturating_sub(1);
            inner.set_owner(index, Owner::Image { next, mapped });
            inner.mapped -= 1;
            if let Some(account) = inner.accounts.get_mut(self.account.0) {
                account.shared -= 1;
            }
        }
    }

    /// How many pieces, of whatever partition, map the frame of an image at `at`; `None` where no
    /// image is there.
    pub(crate) fn mapped(&self, at: HostReal) -> Option<u64> {
        let inner = self.pool.0.lock();
        match inner.owner(inner.index(at)?) {
            Owner::Image { mapped, .. } => Some(mapped),
            Owner::Nobody { .. } | Owner::Account(_) => None,
        }
    }

    /// Whether the frame at `at` is the partition's own.
    pub(crate) fn owns(&self, at: HostReal) -> bool {
        let inner = self.pool.0.lock();
        inner
            .index(at)
            .is_some_and(|index| inner.owner(index) == Owner::Account(self.account))
    }

    /// Whether the partition could have another frame at the moment.
    #[must_use]
    pub fn can_take(&self) -> bool {
        self.pool.0.lock().permits(self.account).is_some()
    }

    /// Whether the partition has as many frames as it may: where it then lacks one, none that another
    /// gives back helps.
    #[must_use]
    pub fn is_at_limit(&self) -> bool {
        let inner = self.pool.0.lock();
        inner
            .accounts
            .get(self.account.0)
            .is_none_or(|account| account.used >= account.limit)
    }

    /// What the partition has.
    #[must_use]
    pub fn counts(&self) -> ShareCounts {
        let inner = self.pool.0.lock();
        let Some(account) = inner.accounts.get(self.account.0) else {
            return ShareCounts::default();
        };
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
