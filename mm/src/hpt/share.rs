// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Sharing of an image's frames, and the end of it at the first store: copy on write.
//!
//! A piece that maps an image has SHARED in its word, so every real entry for it is read-only, while to
//! the guest nothing is different. The guest's store comes to the hypervisor, as does its own first
//! write. Then the partition takes a frame from its pool, the content is copied, the word names the new
//! frame, all entries of the old one are hidden and flushed once, and each says what is true again.
//! Only then does the partition cease to count for the image's frame. The range lock, held all the
//! while, lets one processor at a time do this; another finds the piece to be the partition's own.
//!
//! A frame of the partition's own stays its own until the partition ends or starts over. So an address
//! that was made fit to be written stays so, and a copy under way needs nothing to hold it.

use super::HashMmu;
use super::place::Place;
use crate::page_ops::Machine;
use crate::pool::{ImageId, NoFrame};
use crate::real::{PIECE, Piece};
use crate::slot::Slot;

impl<M: Machine> HashMmu<M> {
    /// Makes a piece of memory the partition's own: gives it a zeroed frame where it has none, and a
    /// copy where it shares one. `kept` of its other bits stay.
    ///
    /// # Errors
    /// There is no frame to be had; nothing has changed.
    #[cold]
    pub(super) fn make_own(&self, slot: &Slot, number: u64, kept: u64) -> Result<(), NoFrame> {
        let share = self.memory.share();
        slot.zero_piece(number, share, self.machine())?;
        let Some(share) = share.filter(|_| slot.pieces().load(number).has(Piece::SHARED)) else {
            return Ok(());
        };
        let obligation = self.obligation();
        // Somebody may have been faster.
        let piece = slot.pieces().load(number);
        if !piece.has(Piece::SHARED) {
            return Ok(());
        }
        let frame = share.take()?;
        if let Some(old) = slot.pieces().span(number * PIECE, PIECE) {
            frame.span().copy_words_from(old);
        }
        // The guest has made what it executes coherent in the frame that it had.
        frame.span().icache_synchronize(self.machine());
        let own = Piece::at(frame.at(), piece.get() & kept | Piece::READY);
        let flushed = obligation
            .and_change(slot, number * PIECE, PIECE, |slot, number| {
                slot.replace(number, own)
            })
            .flush();
        share.unmap(piece.host(), &flushed);
        Ok(())
    }

    /// Lets pieces of memory, by number, map an image of the partition's pool, one after the other.
    /// They were never touched. Returns how many do; `None` where the memory is no pool's, there is no
    /// such image, or a piece was touched, or is not there: those before it map the image.
    #[must_use]
    pub fn map_image(&self, image: ImageId, pieces: impl IntoIterator<Item = u64>) -> Option<u64> {
        let (slot, share) = (self.memory.ram(), self.memory.share()?);
        let (count, mut cursor) = share.image(image)?;
        let mut obligation = self.obligation();
        let mut done = 0;
        for number in pieces.into_iter().take(usize::try_from(count).ok()?) {
            if number >= slot.pieces().count() || slot.pieces().load(number).get() != 0 {
                return None;
            }
            let shared = Piece::at(share.map_next(&mut cursor)?, Piece::READY | Piece::SHARED);
            obligation = obligation.and_change(slot, number * PIECE, PIECE, |slot, number| {
                slot.replace(number, shared)
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
