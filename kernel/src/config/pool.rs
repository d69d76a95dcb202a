// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Whether the pool has room for what is promised of it.

use super::{ConfigError, Image, MemoryPolicy, Partition, Partitions, SHARE_UNIT_BYTES};
use crate::image::{self, ImageError, LoadRequest, pieces};
use alloc::vec::Vec;

/// What an image is to a partition that starts from it. A file that is both is two images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageRole {
    /// The kernel, at the places that its file says.
    Kernel,
    /// The initial RAM disk, in one piece.
    Initrd,
}

/// An image that partitions share.
#[derive(Clone, Copy, Debug)]
pub struct SharedImage<'a> {
    /// What it is used as.
    pub role: ImageRole,
    /// The image.
    pub image: Image<'a>,
    /// Pieces of 64 KiB that it fills.
    pub pieces: u64,
}

impl SharedImage<'_> {
    /// Whether this is the same node of the file in the same use.
    #[must_use]
    pub fn is(&self, role: ImageRole, image: &Image<'_>) -> bool {
        self.role == role && core::ptr::eq(self.image.data, image.data)
    }
}

impl<'a> Partition<'a> {
    /// What it starts from, with the use that it makes of it.
    pub fn images(&self) -> impl Iterator<Item = (ImageRole, Image<'a>)> + use<'a> {
        let initrd = self.initrd.map(|image| (ImageRole::Initrd, image));
        core::iter::once((ImageRole::Kernel, self.kernel)).chain(initrd)
    }
}

impl<'a> Partitions<'a> {
    /// The images of all partitions that share memory, each once.
    ///
    /// # Errors
    /// A partition's kernel is none, or does not fit its memory.
    pub fn shared_images(&self) -> Result<Vec<SharedImage<'a>>, ImageError> {
        let mut images = Vec::<SharedImage<'a>>::new();
        for partition in &self.list {
            if partition.policy == MemoryPolicy::Reserved {
                continue;
            }
            for (role, image) in partition.images() {
                if images.iter().any(|other| other.is(role, &image)) {
                    continue;
                }
                let pieces = match role {
                    ImageRole::Kernel => {
                        let plan = image::plan(&LoadRequest::of(partition))?;
                        pieces::of_kernel(&plan).len() as u64
                    }
                    ImageRole::Initrd => pieces::of_initrd(image.data),
                };
                images.push(SharedImage {
                    role,
                    image,
                    pieces,
                });
            }
        }
        Ok(images)
    }

    /// Checks that all guaranteed parts, and the images, fit the pool. Kernels that cannot be loaded
    /// are not looked at here.
    ///
    /// # Errors
    /// [`ConfigError::PoolTooSmall`].
    pub fn check_pool(&self) -> Result<(), ConfigError> {
        let guaranteed = self.list.iter().map(|partition| match partition.policy {
            MemoryPolicy::Reserved => 0,
            MemoryPolicy::Shared {
                guaranteed_bytes, ..
            } => guaranteed_bytes,
        });
        let guaranteed_bytes = guaranteed.fold(0, u64::saturating_add);
        let images = self.shared_images().unwrap_or_default();
        let image_bytes = images
            .iter()
            .map(|image| image.pieces.saturating_mul(SHARE_UNIT_BYTES))
            .fold(0, u64::saturating_add);
        if guaranteed_bytes.saturating_add(image_bytes) > self.pool_bytes {
            return Err(ConfigError::PoolTooSmall {
                guaranteed_bytes,
                image_bytes,
                pool_bytes: self.pool_bytes,
            });
        }
        Ok(())
    }
}
