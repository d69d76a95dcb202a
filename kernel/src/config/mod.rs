// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The machine's partitions, read from the one file that describes them.
//!
//! That file is a flattened device tree, compiled by the ordinary `dtc`:
//!
//! ```dts
//! /dts-v1/;
//! / {
//!     compatible = "penstock,partitions-v1";
//!     #address-cells = <2>;
//!     #size-cells = <2>;
//!     images {
//!         linux: linux { data = /incbin/("vmlinux"); };
//!         rootfs: rootfs { data = /incbin/("initrd.cpio.gz"); };
//!         bench: bench { data = /incbin/("bench.bin"); load-address = <0x0 0x400000>; };
//!     };
//!     partitions {
//!         debian {
//!             memory = <0x0 0x20000000>;
//!             vcpus = <1>;
//!             kernel = <&linux>;
//!             initrd = <&rootfs>;
//!             bootargs = "console=hvc0";
//!         };
//!     };
//! };
//! ```
//!
//! Optional in a partition are `initrd`, `bootargs`, `hpt-order` (log2 of the hash page table's
//! bytes, 18 to 36; memory/128 rounded up to a power of two by default), `hpt-resize-order` (the same
//! of the largest table to which the partition may resize its own, at least `hpt-order`: memory for two
//! of that size is set aside; without it, it may not), `model` and
//! `root-compatible` (strings for guests that look at them), `memory-backing` (`"eager"`, the
//! default, or `"lazy"`: at first touch, or earlier by idle threads), `strict-flags` (without a
//! value: page table calls answer H_PARAMETER to flags that they do not define, which is LoPAR's debug mode; otherwise such flags are ignored) and
//! `framebuffer` (three cells: pixels of a row, rows, each 64 to 4096, and
//! bits of a pixel, 8, 16 or 32; without it the partition has none). `interrupt-mode` says how the
//! guest works with interrupts: `"xics"`, the default, by calls, or `"xive"`, on the controller
//! itself. `memory-policy` is described below. The property `control`, which has no value, lets a partition control others by H_CONTROL ([`crate::control`]). `largest-page` is
//! the largest page that the guest is told, in bytes: 4096, 65536, or 16777216, which is the default;
//! its real mode has pages of that size too. `pinned` (one cell for each virtual processor) names the
//! hardware threads that run it, by their numbers from 0 in the order of their PIRs; without it the
//! hypervisor chooses, and leaves threads that others are pinned to alone as long as there are others.
//! `weight` (1 to 10000, 100 by default) says how much of the threads' time a partition has beside others:
//! twice the weight is twice the time, as long as both want more than they get. It
//! excludes `pinned`.
//!
//! `memory-policy = "reserved"`, the default, sets all of a partition's memory aside before it starts.
//! With `"shared"` the partition takes its memory, in pieces of 64 KiB at the first touch, from the pool
//! that `memory-pool` of the node `/partitions` sets aside (two cells, bytes), and starts from images
//! that others share, each piece until it is first stored to. `memory-guaranteed` (two cells, bytes, at
//! least 1 MiB) is what it can have at any time, and `memory-limit` (two cells, bytes; by default its
//! memory) what it can have at most; all three are multiples of 64 KiB. The guaranteed parts and the
//! images of all such partitions must fit the pool. Such a partition is told pages of 4 and 64 KiB only,
//! and its memory-backing cannot be `"eager"`, its interrupt-mode not `"xive"`; it cannot control.
//!
//! The same code reads the file on the host, before anything starts, and in the hypervisor. It is
//! strict: an unknown node or property, a second one of the same name, a value of another size
//! than the schema's is an error that names it, so that a misspelt option is never a default.
//! Nothing is copied; images stay where they lie in the file. No content of the file can make it
//! panic or run for longer than the file's size explains.

mod error;
mod expected;
mod nearest;
mod place;
mod pool;
mod read;

use crate::hcall::UndefinedFlags;
use crate::presentation::{InterruptMode, Windows};
use crate::processor::MAX_VCPUS;
use crate::screen::Geometry;
use alloc::vec::Vec;
use penstock_arch::addr::GuestReal;
use penstock_arch::hash::PageSize;
use penstock_mm::hpt::changes::ChangeLog;
use penstock_mm::pool::Pool;
use penstock_mm::slot::Slot;

pub use error::ConfigError;
pub use expected::Expected;
pub use place::Place;
pub use pool::{ImageRole, SharedImage};
pub use read::parse;

/// Memory of a partition comes in multiples of this many bytes: the largest page size that a
/// guest is told.
pub const MEMORY_UNIT_BYTES: u64 = 16 << 20;

/// The pool, and what partitions have of it, come in multiples of this many bytes.
pub const SHARE_UNIT_BYTES: u64 = penstock_mm::guest_memory::PIECE;

/// Smallest guaranteed part: what the start of a partition writes besides its images has room in it.
pub const MIN_GUARANTEED_BYTES: u64 = 1 << 20;

/// Smallest hash page table, log2 of bytes (Power ISA 3.0B, Book III, Hash Page Table).
pub const MIN_HPT_ORDER: u32 = 18;

/// Largest hash page table, log2 of bytes.
pub const MAX_HPT_ORDER: u32 = 36;

/// Smallest weight.
pub const MIN_WEIGHT: u32 = 1;

/// Largest weight.
pub const MAX_WEIGHT: u32 = 10_000;

/// The weight of a partition whose node gives none. Range and default are those of `cpu.weight` in
/// Linux's control groups, which operators know from other machines.
pub const DEFAULT_WEIGHT: u32 = 100;

/// Longest command line in bytes: Linux on POWER keeps 2048 with the final NUL and would cut a
/// longer one in silence.
pub const MAX_BOOTARGS_BYTES: usize = 2047;

/// Longest `model` and longest sum of `root-compatible` strings, in bytes.
pub const MAX_STRING_BYTES: usize = 255;

/// Most partitions in a file.
pub const MAX_PARTITIONS: usize = 64;

/// Most images in a file.
pub const MAX_IMAGES: usize = 128;

/// The hash page table's size by default: log2 of memory/128 rounded up to a power of two.
///
/// QEMU sizes it in the same way; PAPR suggests twice that.
#[must_use]
pub const fn default_hpt_order(memory_bytes: u64) -> u32 {
    let bytes = memory_bytes.div_ceil(128);
    let order = if bytes <= 1 {
        0
    } else {
        64 - (bytes - 1).leading_zeros()
    };
    if order < MIN_HPT_ORDER {
        MIN_HPT_ORDER
    } else if order > MAX_HPT_ORDER {
        MAX_HPT_ORDER
    } else {
        order
    }
}

/// The partitions of a file, in its order; at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partitions<'a> {
    list: Vec<Partition<'a>>,
    pool_bytes: u64,
}

impl<'a> Partitions<'a> {
    /// One partition of one virtual processor that starts `kernel`, and may double its page table, for
    /// the guest that needs no file.
    #[must_use]
    pub fn single(
        name: &'a str,
        kernel: &'a [u8],
        memory_bytes: u64,
        bootargs: &'a str,
        backing: MemoryBacking,
    ) -> Self {
        let kernel = Image {
            name,
            data: kernel,
            load_address: None,
        };
        Self {
            list: alloc::vec![Partition {
                name,
                memory_bytes,
                vcpus: 1,
                kernel,
                initrd: None,
                bootargs,
                hpt_order: default_hpt_order(memory_bytes),
                hpt_resize_order: Some(MAX_HPT_ORDER.min(default_hpt_order(memory_bytes) + 1)),
                model: None,
                root_compatible: Vec::new(),
                backing,
                undefined_flags: UndefinedFlags::default(),
                framebuffer: None,
                largest_page: PageSize::P16M,
                authority: Authority::None,
                pinned: Vec::new(),
                weight: DEFAULT_WEIGHT,
                interrupt_mode: InterruptMode::default(),
                policy: MemoryPolicy::Reserved,
            }],
            pool_bytes: 0,
        }
    }

    /// The partitions, by value.
    #[must_use]
    pub fn into_vec(self) -> Vec<Partition<'a>> {
        self.list
    }

    /// Bytes of the pool for partitions that share memory; 0 without any.
    #[must_use]
    pub const fn pool_bytes(&self) -> u64 {
        self.pool_bytes
    }

    /// The partitions.
    #[must_use]
    pub fn as_slice(&self) -> &[Partition<'a>] {
        &self.list
    }

    /// Checks that this version of the hypervisor can run them.
    ///
    /// # Errors
    /// A partition has more virtual processors than are supported.
    pub fn check_supported(&self) -> Result<(), ConfigError> {
        match self
            .list
            .iter()
            .find(|partition| partition.vcpus > MAX_VCPUS)
        {
            Some(Partition { name, vcpus, .. }) => Err(ConfigError::ManyVcpus {
                partition: error::shown(name),
                count: *vcpus,
            }),
            None => Ok(()),
        }
    }

    /// Checks that each thread that a partition is pinned to exists.
    ///
    /// # Errors
    /// One does not; the error names the first.
    pub fn check_threads(&self, threads: u32) -> Result<(), ConfigError> {
        for partition in &self.list {
            if let Some(thread) = partition.pinned.iter().find(|thread| **thread >= threads) {
                return Err(ConfigError::NoSuchThread {
                    partition: error::shown(partition.name),
                    thread: *thread,
                    threads,
                });
            }
        }
        Ok(())
    }

    /// Checks that all partitions together fit the board.
    ///
    /// `free_bytes` is what firmware, the hypervisor and this file itself leave.
    ///
    /// # Errors
    /// They do not fit; the error names the pool, or the first partition that goes too far.
    pub fn check_against(&self, free_bytes: u64) -> Result<(), ConfigError> {
        let pool = self.pool_bytes;
        let mut before = pool.saturating_add(Pool::overhead_bytes(pool));
        if before > free_bytes {
            return Err(ConfigError::BoardTooSmallForPool {
                pool_bytes: pool,
                free_bytes,
            });
        }
        for partition in &self.list {
            let needed = partition.required_bytes();
            if before.saturating_add(needed) > free_bytes {
                return Err(ConfigError::BoardTooSmall {
                    partition: error::shown(partition.name),
                    memory_bytes: partition.reserved_bytes(),
                    table_bytes: partition.table_bytes(),
                    framebuffer_bytes: partition.framebuffer_bytes(),
                    free_bytes: free_bytes.saturating_sub(before),
                });
            }
            before = before.saturating_add(needed);
        }
        Ok(())
    }
}

/// A partition: its size, what it starts, and what it is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition<'a> {
    /// The node's name: 1 to 31 characters of a-z, 0-9 and `-`.
    pub name: &'a str,
    /// Bytes of memory; a multiple of [`MEMORY_UNIT_BYTES`], never 0.
    pub memory_bytes: u64,
    /// Virtual processors, at least 1.
    pub vcpus: u32,
    /// What it starts.
    pub kernel: Image<'a>,
    /// What its kernel mounts first; has no load address.
    pub initrd: Option<Image<'a>>,
    /// Its kernel's command line; empty where the file gives none.
    pub bootargs: &'a str,
    /// log2 of the bytes of its hash page table, [`MIN_HPT_ORDER`] to [`MAX_HPT_ORDER`].
    pub hpt_order: u32,
    /// The same of the largest table to which it may resize it, at least `hpt_order`; `None` where it may
    /// not resize it.
    pub hpt_resize_order: Option<u32>,
    /// What its device tree says under `model`.
    pub model: Option<&'a str>,
    /// What its device tree says under `compatible`; empty where the file gives nothing.
    pub root_compatible: Vec<&'a str>,
    /// When its memory is taken and zeroed.
    pub backing: MemoryBacking,
    /// What its page table calls do about flags that they do not define.
    pub undefined_flags: UndefinedFlags,
    /// What it draws on, where it has that.
    pub framebuffer: Option<Geometry>,
    /// The largest page that it is told.
    pub largest_page: PageSize,
    /// What it may do to others.
    pub authority: Authority,
    /// The threads that its virtual processors are pinned to, one for each; empty where the
    /// hypervisor chooses.
    pub pinned: Vec<u32>,
    /// How much of a thread's time it has beside others, [`MIN_WEIGHT`] to [`MAX_WEIGHT`].
    pub weight: u32,
    /// How its guest works with interrupts.
    pub interrupt_mode: InterruptMode,
    /// Where its memory comes from.
    pub policy: MemoryPolicy,
}

impl Partition<'_> {
    /// Bytes of the hash page tables with the reverse maps beside them, which are as large.
    #[must_use]
    pub fn table_bytes(&self) -> u64 {
        let tables = 1 + u32::from(self.hpt_resize_order.is_some());
        // 16 bytes an entry, and as much beside it.
        self.most_entries().saturating_mul(32 * u64::from(tables))
    }

    /// Bytes of the framebuffer's memory slot; 0 without one.
    #[must_use]
    pub fn framebuffer_bytes(&self) -> u64 {
        self.framebuffer.map_or(0, Geometry::slot_bytes)
    }

    /// Bytes of the tables of the interrupt controller's windows; 0 without them.
    fn window_bytes(&self) -> u64 {
        match self.interrupt_mode {
            InterruptMode::Xics => 0,
            InterruptMode::Xive => Windows::plan(self.vcpus)
                .iter()
                .map(|window| Slot::overhead_bytes(window.bytes))
                .fold(0, u64::saturating_add),
        }
    }

    /// Bytes of memory that are set aside for it: all, or none that is not the pool's.
    #[must_use]
    pub const fn reserved_bytes(&self) -> u64 {
        match self.policy {
            MemoryPolicy::Reserved => self.memory_bytes,
            MemoryPolicy::Shared { .. } => 0,
        }
    }

    /// Bytes of the board's memory that the partition takes, the pool apart.
    #[must_use]
    pub fn required_bytes(&self) -> u64 {
        self.reserved_bytes()
            .saturating_add(self.table_bytes())
            .saturating_add(Slot::overhead_bytes(self.memory_bytes))
            .saturating_add(self.framebuffer_bytes())
            .saturating_add(Slot::overhead_bytes(self.framebuffer_bytes()))
            .saturating_add(self.window_bytes())
            .saturating_add(ChangeLog::bytes(self.most_entries()))
    }

    /// Entries of the largest page table that it may have.
    fn most_entries(&self) -> u64 {
        let order = self.hpt_resize_order.unwrap_or(self.hpt_order);
        1_u64
            .checked_shl(order.saturating_sub(4))
            .unwrap_or(u64::MAX)
    }
}

/// When a partition's memory is taken and zeroed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MemoryBacking {
    /// All of it before the partition starts.
    #[default]
    Eager,
    /// Each piece at the first touch.
    Lazy,
}

/// Where a partition's memory comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MemoryPolicy {
    /// It is set aside before the partition starts, and is its own.
    #[default]
    Reserved,
    /// From the pool, at the first touch; what it starts from is shared until it is stored to.
    Shared {
        /// Bytes that it can have at any time.
        guaranteed_bytes: u64,
        /// Bytes that it can have at most.
        limit_bytes: u64,
    },
}

/// What a partition may do to other partitions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Authority {
    /// Nothing.
    #[default]
    None,
    /// Control them: the property `control`.
    Control,
}

/// A file inside the file, shared by the partitions that name it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Image<'a> {
    /// The node's name: 1 to 31 characters of a-z, 0-9 and `-`.
    pub name: &'a str,
    /// The content; never empty.
    pub data: &'a [u8],
    /// Where in guest memory it goes: for raw images and position-independent ELF files.
    pub load_address: Option<GuestReal>,
}

impl core::fmt::Debug for Image<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Image")
            .field("name", &self.name)
            .field("bytes", &self.data.len())
            .field("load_address", &self.load_address)
            .finish()
    }
}

#[cfg(test)]
mod tests;
