// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Memory whose frames come from a pool: what it holds, and giving it back.

use super::GuestMemory;
use crate::hpt::Flushed;
use crate::page_ops::PageOps;
use crate::pool::Share;
use crate::real::{PIECE, Piece, PoolFrame};

impl<M: PageOps> GuestMemory<M> {
    /// The part in a pool from which the memory's frames come, where they do.
    #[inline]
    #[must_use]
    pub const fn share(&self) -> Option<&Share> {
        self.share.as_ref()
    }

    /// Gives all frames of the memory back, so that it is as if never touched; how many pieces the
    /// guest could not store to. Memory that is no pool's stays as it is.
    pub(crate) fn give_back(&self, flushed: &Flushed) -> u64 {
        let Some(share) = &self.share else {
            return 0;
        };
        let mut read_only = 0;
        for number in 0..self.ram.pieces().count() {
            if self.ram.pieces().load(number).get() == 0 {
                continue;
            }
            let piece = self.ram.replace(number, Piece::new(0));
            read_only += u64::from(piece.is_read_only());
            if piece.has(Piece::SHARED) {
                share.unmap(piece.host(), flushed);
            } else if piece.has_frame() {
                share.give_back(&PoolFrame::new(piece.host()), flushed);
            }
        }
        read_only
    }

    /// Bytes that would be needed besides if each piece that maps an image had a frame of its own: of
    /// a frame that n pieces map, each saves all but an n-th part.
    #[must_use]
    pub fn saved_bytes(&self) -> u64 {
        let Some(share) = &self.share else {
            return 0;
        };
        (0..self.ram.pieces().count())
            .map(|number| self.ram.pieces().load(number))
            .filter(|piece| piece.has(Piece::SHARED))
            .filter_map(|piece| share.mapped(piece.host()))
            .map(|mapped| PIECE - PIECE / mapped.max(1))
            .sum()
    }
}
