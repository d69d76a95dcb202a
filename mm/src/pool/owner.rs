// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A pool's word for each of its frames.

use super::AccountId;

/// What is known of a frame: who has it, or the next one of its chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// Nobody; the next free one.
    Nobody { next: Link },
    /// The partition with this account.
    Account(AccountId),
    /// An image: which of the places of all images, and how many pieces map it.
    Image { place: u32, mapped: u64 },
}

/// The number of a frame, or the end of a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Link(pub(super) Option<u32>);

impl Owner {
    const TAG: u64 = 3 << 62;
    const ACCOUNT: u64 = 1 << 62;
    const IMAGE: u64 = 2 << 62;
    const MAPPED_SHIFT: u32 = 33;
    const LINK: u64 = (1 << Self::MAPPED_SHIFT) - 1;

    pub(super) fn decode(word: u64) -> Self {
        // A link is the number and one, so that 0 is the end.
        let next = Link(u32::try_from((word & Self::LINK).wrapping_sub(1)).ok());
        match word & Self::TAG {
            0 => Self::Nobody { next },
            Self::ACCOUNT => Self::Account(AccountId(usize::try_from(word & 0xffff).unwrap_or(0))),
            _ => Self::Image {
                // Its low-order half.
                place: u32::try_from(word & u64::from(u32::MAX)).unwrap_or(0),
                mapped: (word & !Self::TAG) >> Self::MAPPED_SHIFT,
            },
        }
    }

    pub(super) fn encode(self) -> u64 {
        let link = |Link(next): Link| next.map_or(0, |next| u64::from(next) + 1);
        match self {
            Self::Nobody { next } => link(next),
            Self::Account(AccountId(number)) => Self::ACCOUNT | number as u64,
            Self::Image { place, mapped } => {
                Self::IMAGE | mapped << Self::MAPPED_SHIFT | u64::from(place)
            }
        }
    }
}
