// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The pool of partitions that share memory: made once, with all that is promised of it, before the
//! first of them starts.

use super::hardware::HwMemory;
use crate::config::{ImageRole, MemoryPolicy, Partition, Partitions, SharedImage};
use crate::image::{self, LoadRequest, pieces};
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use penstock_mm::frame::FrameAllocator;
use penstock_mm::pool::{ImageId, Pool, Share};

/// The pool, who has an account, and which images lie in it.
pub struct SharedMemory {
    /// The frames.
    pub pool: &'static Pool,
    shares: Vec<(&'static str, Share)>,
    images: Vec<(SharedImage<'static>, ImageId)>,
}

impl SharedMemory {
    /// The pool that `partitions` ask for, with their accounts open and their images loaded; `None`
    /// where they ask for none.
    ///
    /// # Errors
    /// Why it cannot be had, which a check of the partitions has excluded.
    pub fn set_up(
        partitions: &Partitions<'static>,
        frames: &mut FrameAllocator,
        memory: HwMemory,
    ) -> Result<Option<Self>, String> {
        let bytes = partitions.pool_bytes();
        if bytes == 0 {
            return Ok(None);
        }
        let fail = |error: &dyn core::fmt::Display| alloc::format!("memory-pool: {error}");
        let pool = Pool::new(bytes, frames, &memory).map_err(|error| fail(&error))?;
        let pool: &'static Pool = Box::leak(Box::new(pool));
        let mut this = Self {
            pool,
            shares: Vec::new(),
            images: Vec::new(),
        };
        for partition in partitions.as_slice() {
            if let MemoryPolicy::Shared {
                guaranteed_bytes,
                limit_bytes,
            } = partition.policy
            {
                let account = pool
                    .open(guaranteed_bytes, limit_bytes)
                    .map_err(|error| fail(&error))?;
                this.shares
                    .push((partition.name, Share::new(pool, account)));
            }
        }
        for image in partitions.shared_images().map_err(|error| fail(&error))? {
            let id = load(pool, &image, partitions, memory)?;
            this.images.push((image, id));
        }
        let counts = pool.counts();
        log::info!(
            "memory pool of {} KiB: {} KiB of images, {} KiB guaranteed",
            counts.frames * KIB,
            counts.images * KIB,
            counts.promised * KIB,
        );
        Ok(Some(this))
    }

    /// The account of a partition.
    pub fn share_of(&self, partition: &str) -> Option<Share> {
        self.shares
            .iter()
            .find(|(name, _)| *name == partition)
            .map(|(_, share)| *share)
    }

    /// The image that a partition starts from, where it is shared.
    pub fn image_of(&self, role: ImageRole, partition: &Partition<'static>) -> Option<ImageId> {
        let (_, wanted) = partition.images().find(|(other, _)| *other == role)?;
        self.images
            .iter()
            .find(|(image, _)| image.is(role, &wanted))
            .map(|(_, id)| *id)
    }
}

/// KiB of a frame.
pub const KIB: u64 = 64;

/// Puts an image into the pool.
fn load(
    pool: &Pool,
    image: &SharedImage<'static>,
    partitions: &Partitions<'static>,
    memory: HwMemory,
) -> Result<ImageId, String> {
    let data = image.image.data;
    let id = match image.role {
        ImageRole::Initrd => pool.add_image(image.pieces, &memory, |number, piece| {
            piece.write(0, pieces::bytes_of_initrd(data, number));
        }),
        ImageRole::Kernel => {
            // The same file has the same places in all partitions that start it.
            let plan = partitions
                .as_slice()
                .iter()
                .find(|partition| image.is(ImageRole::Kernel, &partition.kernel))
                .and_then(|partition| image::plan(&LoadRequest::of(partition)).ok())
                .ok_or_else(|| alloc::format!("image {}: no kernel", image.image.name))?;
            let places = pieces::of_kernel(&plan);
            pool.add_image(image.pieces, &memory, |number, piece| {
                let place = usize::try_from(number).ok().and_then(|at| places.get(at));
                if let Some(place) = place {
                    pieces::fill_from_kernel(data, &plan, *place, |offset, bytes| {
                        piece.write(offset, bytes);
                    });
                }
            })
        }
    };
    id.map_err(|error| alloc::format!("image {}: {error}", image.image.name))
}
