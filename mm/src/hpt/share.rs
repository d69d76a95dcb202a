// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Sharing of an image's frames, and the end of it at the first store: copy on write.
//!
//! A piece of an image has no frame until it is touched. It maps the image's frame from the first load
//! or fetch on; that frame is filled from the image's source when nobody maps it yet. A piece that
//! maps an image has SHARED in its word, so every real entry for it is read-only, while to the guest
//! nothing is different. The guest's store comes to the hypervisor, as does its own first write. Then
//! the partition takes a frame from its pool, the content is copied, the word names the new frame, all
//! entries of the old one are hidden and flushed once, and each says what is true again. Only then does
//! the partition cease to count for the image's frame, which goes back to the pool with its last one.
//! Where nobody else maps that frame, it becomes the partition's own as it is. The range lock, held
//! all the while, lets one processor at a time do this; another finds the piece to be the partition's
//! own.
//!
//! A frame of the partition's own stays its own until the partition ends or starts over. So an address
//! that was made fit to be written stays so, and a copy under way needs nothing to hold it. A frame of
//! an image may be another's as soon as sharing has ended: the hypervisor reads it with the range lock
//! held.

use super::HashMmu;
use super::place::Place;
use crate::page_ops::Machine;
use crate::pool::{ImageId, NoFrame, Share};
use crate::real::{PIECE, Piece};
use crate::slot::Slot;
use penstock_arch::addr::HostReal;

impl<M: Machine> HashMmu<M> {
    /// Makes a piece of memory the partition's own: gives it a zeroed frame where it has none, and one
    /// with the content where that is an image's. `kept` of its other bits stay.
    ///
    /// # Errors
    /// There is no frame to be had; nothing has changed.
    #[cold]
    pub(super) fn make_own(&self, slot: &Slot, number: u64, kept: u64) -> Result<(), NoFrame> {
        let share = self.memory.share();
        let of_image = slot.pieces().load(number).is_of_image();
        let (Some(share), true) = (share, of_image) else {
            return slot.zero_piece(number, share, self.machine());
        };
        let obligation = self.obligation();
        // Somebody may have been faster.
        let Some(piece) = slot.claim_of_image(number) else {
            return Ok(());
        };
        let kept = piece.get() & kept | Piece::READY;
        let own = if piece.has(Piece::SHARED) && share.take_over(piece.host()) {
            Piece::at(piece.host(), kept)
        } else {
            Piece::at(self.copy_of(share, slot, number, piece)?, kept)
        };
        let flushed = obligation
            .and_change(slot, number * PIECE, PIECE, |slot, number| {
                slot.replace(number, own)
            })
            .flush();
        if piece.has(Piece::SHARED) && piece.host() != own.host() {
            share.unmap(piece.host(), &flushed);
        }
        Ok(())
    }

    /// A frame of the partition's own with the content of a piece that is an image's.
    ///
    /// # Errors
    /// There is none to be had; then nobody prepares the piece any more.
    fn copy_of(
        &self,
        share: &Share,
        slot: &Slot,
        number: u64,
        piece: Piece,
    ) -> Result<HostReal, NoFrame> {
        let frame = match share.take() {
            Ok(frame) => frame,
            Err(error) => {
                slot.let_go(number);
                return Err(error);
            }
        };
        if let Some(image) = piece.image() {
            share.fill_from_image(image, &frame, self.machine());
        } else if let Some(old) = slot.pieces().span(number * PIECE, PIECE) {
            frame.span().copy_words_from(old);
            // The guest has made what it executes coherent in the frame that it had.
            frame.span().icache_synchronize(self.machine());
        }
        Ok(frame.at())
    }

    /// The same for a piece that is only read, and whose image nobody can map: of what the partition
    /// was guaranteed.
    ///
    /// # Errors
    /// As for [`Self::make_own`].
    #[cold]
    pub(super) fn make_guaranteed(&self, slot: &Slot, number: u64) -> Result<(), NoFrame> {
        let has_some = |share: &Share| share.has_guaranteed();
        if !self.memory.share().is_some_and(has_some) {
            return Err(NoFrame);
        }
        // A guarded piece stays so: the guest's next store is to be seen.
        self.make_own(slot, number, Piece::GUARDED)
    }

    /// Gives pieces of memory, by number, the content of an image of the partition's pool, one after
    /// the other. They were never touched, and each takes a frame when it is. Returns how many do;
    /// `None` where the memory is no pool's, there is no such image, or a piece was touched, or is not
    /// there: those before it have the content.
    #[must_use]
    pub fn map_image(&self, image: ImageId, pieces: impl IntoIterator<Item = u64>) -> Option<u64> {
        let (slot, share) = (self.memory.ram(), self.memory.share()?);
        let count = share.pool().image_pieces(image)?;
        let mut obligation = self.obligation();
        let mut done = 0;
        for (number, part) in pieces.into_iter().zip(0..count) {
            if number >= slot.pieces().count() || slot.pieces().load(number).get() != 0 {
                return None;
            }
            let piece = Piece::of_image(image.number(), part);
            obligation = obligation.and_change(slot, number * PIECE, PIECE, |slot, number| {
                slot.replace(number, piece)
            });
            done += 1;
        }
        let _ = obligation.flush();
        Some(done)
    }

    /// Gives all frames that come from a pool back, after the table was emptied. No vCPU may be in the
    /// guest.
    pub(super) fn give_back(&self, flushed: &super::Flushed) {
        let read_only = self.memory.give_back(flushed);
        self.veil_less(read_only);
    }

    /// Whether the word of a page says what the pool says: a frame of the partition's own, or one of
    /// an image that is not written.
    pub(super) fn frame_is_ours(&self, place: &Place<'_>) -> bool {
        let (Some(share), true) = (self.memory.share(), place.slot.pieces().is_pooled()) else {
            return true;
        };
        let piece = place.state();
        if piece.has(Piece::SHARED) {
            share.mapped(piece.host()).is_some_and(|mapped| mapped > 0)
        } else {
            !piece.has_frame() || share.owns(piece.host())
        }
    }
}
