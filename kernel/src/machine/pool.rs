// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The pool of partitions that share memory: made once, with all that is promised of it, before the
//! first of them starts.

use super::hardware::HwMemory;
use super::seat;
use crate::config::{ImageRole, MemoryPolicy, Partition, Partitions, SharedImage};
use crate::image::{self, LoadPlan, LoadRequest, pieces};
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use penstock_mm::frame::FrameAllocator;
use penstock_mm::pool::{ImageId, ImageSource, Pool, Share};

/// The pool, who has an account, and which images lie in it.
pub struct SharedMemory {
    /// The frames.
    pub pool: &'static Pool,
    shares: Vec<(&'static str, Share)>,
    images: Vec<(SharedImage<'static>, ImageId)>,
}

impl SharedMemory {
    /// The pool that `partitions` ask for, with their accounts open and their images known; `None`
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
        pool.on_return(seat::report_memory);
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
            let id = add(pool, &image, partitions)?;
            this.images.push((image, id));
        }
        let counts = pool.counts();
        log::info!(
            "memory pool of {} KiB: {} KiB of images, {} KiB guaranteed",
            counts.frames * KIB,
            counts.image_pieces * KIB,
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

/// Where the pool reads an initial RAM disk.
#[derive(Debug)]
struct Initrd(&'static [u8]);

impl ImageSource for Initrd {
    fn read(&self, piece: u64, write: &mut dyn FnMut(u64, &[u8])) {
        write(0, pieces::bytes_of_initrd(self.0, piece));
    }
}

/// Where the pool reads a kernel.
#[derive(Debug)]
struct Kernel {
    file: &'static [u8],
    plan: LoadPlan,
    places: Vec<u64>,
}

impl ImageSource for Kernel {
    fn read(&self, piece: u64, write: &mut dyn FnMut(u64, &[u8])) {
        let place = usize::try_from(piece)
            .ok()
            .and_then(|at| self.places.get(at));
        if let Some(place) = place {
            pieces::fill_from_kernel(self.file, &self.plan, *place, write);
        }
    }
}

/// Makes an image known to the pool, which reads it whenever somebody needs it: the tree with its bytes
/// stays in memory.
fn add(
    pool: &Pool,
    image: &SharedImage<'static>,
    partitions: &Partitions<'static>,
) -> Result<ImageId, String> {
    let data = image.image.data;
    let source: &'static dyn ImageSource = match image.role {
        ImageRole::Initrd => Box::leak(Box::new(Initrd(data))),
        ImageRole::Kernel => {
            // The same file has the same places in all partitions that start it.
            let plan = partitions
                .as_slice()
                .iter()
                .find(|partition| image.is(ImageRole::Kernel, &partition.kernel))
                .and_then(|partition| image::plan(&LoadRequest::of(partition)).ok())
                .ok_or_else(|| alloc::format!("image {}: no kernel", image.image.name))?;
            let places = pieces::of_kernel(&plan);
            Box::leak(Box::new(Kernel {
                file: data,
                plan,
                places,
            }))
        }
    };
    pool.add_image(image.pieces, source)
        .map_err(|error| alloc::format!("image {}: {error}", image.image.name))
}
