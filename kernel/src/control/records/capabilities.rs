// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the interface offers for a partition, and its limits.

use super::record;
use crate::control::function::FEATURES;
use zerocopy::byteorder::big_endian::{U32, U64};

record! {
    /// What is offered for a partition. The hypervisor only writes it.
    Capabilities, 128, check |_| Ok(());
    {
        /// Version of each feature by its number; 0 where it is not offered.
        8 features: [u8; FEATURES],
        /// Longest buffer of a call, bytes.
        40 max_buffer_bytes: U32,
        /// Most entries of a page table that one call looks at.
        44 entries_per_call: U32,
        /// Memory slots: their numbers are below this.
        48 slots: U32,
        /// Virtual processors: their numbers are below this.
        52 vcpus: U32,
        /// Streams that may be read at the same time.
        56 stream_readers: U32,
        /// Page sizes of the partition: bit n is 2^n bytes.
        60 page_sizes: U32,
        /// Page sizes by which slots are logged: bit n is 2^n bytes.
        64 dirty_page_sizes: U32,
        /// Parts of [`super::VectorState`] that are offered, as in [`super::parts`].
        68 vector_parts: U32,
        /// Entries of the partition's page table.
        72 hpt_entries: U64,
        /// INVALIDATE of more entries than this flushes everything.
        80 flush_threshold: U32,
        /// The partition.
        84 partition: U32,
        /// Zero.
        88 reserved: [u8; 40] = padding,
    }
}
