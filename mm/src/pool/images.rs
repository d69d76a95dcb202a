// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Images: what several partitions start from, each piece in one frame for all that map it.
//!
//! A piece of an image has a frame only while somebody maps it. The first who touches it takes a free
//! frame beyond what was promised, on nobody's account, and fills it from the image's [source]; with
//! the last who unmaps it the frame goes back. A partition that starts over fills it again. So the
//! content of such a frame never changes, and nobody needs to keep it.
//!
//! Where there is no frame for an image, a partition takes one of its own that has the same content,
//! as far as its guaranteed part goes, and waits otherwise.
//!
//! [source]: ImageSource

use super::{IMAGES, Inner, NoFrame, Owner, Pool, PoolError, Share};
use crate::hpt::Flushed;
use crate::page_ops::PageOps;
use crate::real::{PIECE, PoolFrame};
use core::sync::atomic::Ordering::Relaxed;
use penstock_arch::addr::HostReal;
use penstock_arch::wait;

const _: () = assert!(
    IMAGES <= 1 << 7,
    "a piece's word has seven bits for an image"
);

/// Where an image's bytes are for as long as the pool lives.
pub trait ImageSource: Sync + core::fmt::Debug {
    /// Gives the bytes of piece `piece` to `write`, each run with its place in the piece, none beyond
    /// the piece's end. What is not given is zero. The same piece has the same bytes every time.
    fn read(&self, piece: u64, write: &mut dyn FnMut(u64, &[u8]));
}

/// Names an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageId(u8);

impl ImageId {
    /// The number.
    pub(crate) const fn number(self) -> u8 {
        self.0
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Image {
    /// The place of its first piece.
    first: u32,
    pieces: u32,
    source: &'static dyn ImageSource,
}

/// Where a piece of an image lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Nowhere: nobody maps it.
    Nowhere,
    /// In a frame that somebody fills.
    Filling,
    /// In the frame with this number.
    Frame(u32),
}

impl Place {
    fn decode(word: u64) -> Self {
        match word {
            0 => Self::Nowhere,
            1 => Self::Filling,
            // Only `encode` makes them.
            number => u32::try_from(number - 2).map_or(Self::Nowhere, Self::Frame),
        }
    }

    fn encode(self) -> u64 {
        match self {
            Self::Nowhere => 0,
            Self::Filling => 1,
            Self::Frame(number) => u64::from(number) + 2,
        }
    }
}

impl Inner {
    fn place(&self, place: u32) -> Place {
        let word = self.places.get(place as usize);
        Place::decode(word.map_or(0, |word| word.load(Relaxed)))
    }

    fn set_place(&self, place: u32, to: Place) {
        if let Some(word) = self.places.get(place as usize) {
            word.store(to.encode(), Relaxed);
        }
    }

    /// The place of a piece of an image, and the image's source.
    fn piece_of(&self, (image, piece): (u8, u32)) -> Option<(u32, &'static dyn ImageSource)> {
        let image = self.images.get(usize::from(image))?;
        let place = image.first.checked_add(piece)?;
        (piece < image.pieces).then_some((place, image.source))
    }

    /// A piece of the account maps a frame of an image, or does so no more.
    fn count_mapped(&mut self, share: &Share, change: i64) {
        self.mapped = self.mapped.saturating_add_signed(change);
        if let Some(account) = self.accounts.get_mut(share.account.0) {
            account.shared = account.shared.saturating_add_signed(change);
        }
    }
}

impl Pool {
    /// Makes an image of `pieces` pieces known, before any partition starts.
    ///
    /// # Errors
    /// There are not so many frames beside what was promised, or there are too many images.
    pub fn add_image(
        &self,
        pieces: u64,
        source: &'static dyn ImageSource,
    ) -> Result<ImageId, PoolError> {
        let mut inner = self.0.lock();
        inner.can_promise(pieces)?;
        let id = u8::try_from(inner.images.len()).map_err(|_| PoolError::TooMany)?;
        // There are no more pieces than frames, which have a place each.
        let number = |pieces: u64| u32::try_from(pieces).map_err(|_| PoolError::TooMany);
        let image = Image {
            first: number(inner.image_pieces)?,
            pieces: number(pieces)?,
            source,
        };
        inner
            .images
            .try_push(image)
            .map_err(|_| PoolError::TooMany)?;
        inner.image_pieces += pieces;
        Ok(ImageId(id))
    }

    /// How many pieces an image has.
    pub(crate) fn image_pieces(&self, id: ImageId) -> Option<u32> {
        let inner = self.0.lock();
        Some(inner.images.get(usize::from(id.0))?.pieces)
    }
}

/// Fills a frame that nobody maps with a piece of an image, fit to be executed.
fn fill(source: &dyn ImageSource, piece: u32, frame: &PoolFrame, ops: &impl PageOps) {
    let span = frame.span();
    span.zero(ops);
    source.read(piece.into(), &mut |offset, bytes| {
        if let Some(span) = span.skip(offset) {
            span.write(bytes);
        }
    });
    span.icache_synchronize(ops);
}

impl Share {
    /// The frame of a piece of an image, which a piece of ours maps from now on.
    ///
    /// # Errors
    /// It has none, and there is none beyond what was promised.
    pub(crate) fn map_image(
        &self,
        image: (u8, u32),
        ops: &impl PageOps,
    ) -> Result<HostReal, NoFrame> {
        let (place, source, frame, index) = loop {
            let mut inner = self.pool.0.lock();
            let (place, source) = inner.piece_of(image).ok_or(NoFrame)?;
            match inner.place(place) {
                Place::Frame(index) => {
                    let Owner::Image { mapped, .. } = inner.owner(index) else {
                        return Err(NoFrame);
                    };
                    let mapped = mapped + 1;
                    inner.set_owner(index, Owner::Image { place, mapped });
                    inner.count_mapped(self, 1);
                    return inner.address(index).ok_or(NoFrame);
                }
                // Another processor of the hypervisor is at it.
                Place::Filling => {
                    drop(inner);
                    wait::relax();
                }
                Place::Nowhere => {
                    if inner.free <= inner.promised {
                        if let Some(account) = inner.accounts.get_mut(self.account.0) {
                            account.at_limit = false;
                        }
                        return Err(NoFrame);
                    }
                    let (frame, index) = inner.pop().ok_or(NoFrame)?;
                    inner.set_place(place, Place::Filling);
                    inner.resident += 1;
                    break (place, source, frame, index);
                }
            }
        };
        fill(source, image.1, &frame, ops);
        let mut inner = self.pool.0.lock();
        inner.set_owner(index, Owner::Image { place, mapped: 1 });
        inner.set_place(place, Place::Frame(index));
        inner.count_mapped(self, 1);
        Ok(frame.at())
    }

    /// Fills a frame of ours with a piece of an image.
    pub(crate) fn fill_from_image(&self, image: (u8, u32), frame: &PoolFrame, ops: &impl PageOps) {
        if let Some(source) = self.source_of(image) {
            fill(source, image.1, frame, ops);
        }
    }

    /// Fills `to` with what a piece of an image has from `offset` on; zero beyond its end.
    pub(crate) fn read_image(&self, image: (u8, u32), offset: u64, to: &mut [u8]) {
        to.fill(0);
        let Some(source) = self.source_of(image) else {
            return;
        };
        let end = offset.saturating_add(to.len() as u64).min(PIECE);
        source.read(image.1.into(), &mut |at, bytes| {
            let (from, upto) = (
                at.max(offset),
                at.saturating_add(bytes.len() as u64).min(end),
            );
            if from < upto
                && let Some(bytes) = part(from - at, upto - at).and_then(|range| bytes.get(range))
                && let Some(to) =
                    part(from - offset, upto - offset).and_then(|range| to.get_mut(range))
            {
                to.copy_from_slice(bytes);
            }
        });
    }

    fn source_of(&self, image: (u8, u32)) -> Option<&'static dyn ImageSource> {
        self.pool.0.lock().piece_of(image).map(|(_, source)| source)
    }

    /// Makes the frame of an image at `at`, which a piece of ours maps, a frame of ours, where no other
    /// piece maps it and we may have one more. Nothing is copied, and no free frame is needed.
    pub(crate) fn take_over(&self, at: HostReal) -> bool {
        let mut inner = self.pool.0.lock();
        let Some(index) = inner.index(at) else {
            return false;
        };
        let account = inner.account(self.account);
        let Owner::Image { place, mapped: 1 } = inner.owner(index) else {
            return false;
        };
        if account.used >= account.limit {
            return false;
        }
        inner.set_owner(index, Owner::Account(self.account));
        inner.set_place(place, Place::Nowhere);
        inner.resident -= 1;
        inner.count_mapped(self, -1);
        let keeps_promise = account.used < account.guaranteed;
        inner.promised -= u64::from(keeps_promise);
        if let Some(account) = inner.accounts.get_mut(self.account.0) {
            account.used += 1;
        }
        // What is not promised any more is there for others.
        let call = inner.returned_call.filter(|_| keeps_promise);
        drop(inner);
        if let Some(call) = call {
            call();
        }
        true
    }

    /// A piece of ours does not map this frame of an image any more, and no processor does for it. The
    /// last one's goes back.
    pub(crate) fn unmap(&self, at: HostReal, _: &Flushed) {
        let mut inner = self.pool.0.lock();
        let Some(index) = inner.index(at) else {
            return;
        };
        let Owner::Image { place, mapped } = inner.owner(index) else {
            debug_assert!(false, "no frame of an image");
            return;
        };
        inner.count_mapped(self, -1);
        if mapped > 1 {
            let mapped = mapped - 1;
            inner.set_owner(index, Owner::Image { place, mapped });
            return;
        }
        inner.set_place(place, Place::Nowhere);
        inner.resident -= 1;
        inner.push(index);
        let call = inner.returned_call;
        drop(inner);
        if let Some(call) = call {
            call();
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
}

fn part(from: u64, to: u64) -> Option<core::ops::Range<usize>> {
    Some(usize::try_from(from).ok()?..usize::try_from(to).ok()?)
}
