// SPDX-License-Identifier: Apache-2.0 OR MIT
//! System parameters: the few that are true for a partition of ours.
//!
//! | token | parameter | answer |
//! |---|---|---|
//! | 20 | SPLPAR characteristics | capacity, memory and processors as `name=value` pairs |
//! | 21 | partition_auto_restart | 0: a partition that failed is not started again |
//! | 42 | platform processor diagnostics run mode | 0: disabled, none are ever run |
//! | 50 | TLB block invalidate characteristics | what H_BLOCK_REMOVE takes, by page sizes |
//! | 55 | LPAR name | name of the partition |
//!
//! All of them can only be read here: setting one is answered with "not authorized". Every other
//! parameter is not supported, which guests must expect. (Token 48 is reserved; QEMU answers it
//! with a UUID, which a partition of ours does not have.)
//!
//! LoPAR, System Parameters Option; TLB Block Invalidate Characteristics; ibm,get-system-parameter; ibm,set-system-parameter.

use super::PartitionFacts;
use super::memory::GuestBytes;
use super::status;
use arrayvec::ArrayVec;
use core::fmt::{self, Write};
use penstock_arch::addr::GuestReal;
use penstock_boot::bootinfo::SegmentPageSize;
use penstock_mm::hpt::BLOCK_PAGES_LOG2;

const SPLPAR_CHARACTERISTICS: u32 = 20;
const PARTITION_AUTO_RESTART: u32 = 21;
const DIAGNOSTICS_RUN_MODE: u32 = 42;
const BLOCK_INVALIDATE: u32 = 50;
const LPAR_NAME: u32 = 55;

/// Room for the longest value: LoPAR allows 4000 bytes, ours are short.
const VALUE_BYTES: usize = 256;
const LENGTH_BYTES: usize = 2;

/// A parameter's value behind the two bytes of its length, as the guest gets it.
struct Value {
    bytes: [u8; LENGTH_BYTES + VALUE_BYTES],
    len: usize,
}

impl Value {
    fn new() -> Self {
        Self {
            bytes: [0; LENGTH_BYTES + VALUE_BYTES],
            len: 0,
        }
    }

    /// Appends what fits, keeping room for the terminating NUL of a string.
    fn push(&mut self, bytes: &[u8]) {
        let start = LENGTH_BYTES + self.len;
        let room = VALUE_BYTES - 1 - self.len;
        let bytes = bytes.get(..room.min(bytes.len())).unwrap_or(&[]);
        if let Some(to) = self.bytes.get_mut(start..start + bytes.len()) {
            to.copy_from_slice(bytes);
            self.len += bytes.len();
        }
    }

    /// Ends a string: its length includes the NUL, which is there already.
    fn terminate(&mut self) {
        self.len += 1;
    }

    /// Length field and value, cut to the guest's buffer.
    fn wire(&mut self, buffer_len: u32) -> &[u8] {
        let len = u16::try_from(self.len).unwrap_or(0).to_be_bytes();
        if let Some(field) = self.bytes.get_mut(..LENGTH_BYTES) {
            field.copy_from_slice(&len);
        }
        let room = usize::try_from(buffer_len).unwrap_or(usize::MAX);
        self.bytes
            .get(..room.min(LENGTH_BYTES + self.len))
            .unwrap_or(&[])
    }
}

impl Write for Value {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.push(text.as_bytes());
        Ok(())
    }
}

/// Page sizes for which the characteristics have room: more than there are.
const MAX_PAIRS: usize = 16;

/// The characteristics of H_BLOCK_REMOVE: one specifier, for the block is as large whatever the
/// page sizes. It has log2 of the block's pages, a count, and a byte for each pair of segment base
/// and actual page size that the guest is told: 0 for 4K pages alone, else bit 0 and, in bits 2:7,
/// the encoding that `ibm,segment-page-sizes` gives. Empty where there is no pair.
fn block_invalidate(page_sizes: &[SegmentPageSize]) -> ArrayVec<u8, { 2 + MAX_PAIRS }> {
    let pairs: ArrayVec<u8, MAX_PAIRS> = page_sizes
        .iter()
        .flat_map(|segment| segment.actual.iter().map(|page| (segment.base_shift, page)))
        .filter_map(|(base_shift, page)| match (base_shift, page.shift) {
            (12, 12) => Some(0),
            _ => u8::try_from(page.pte_encoding)
                .ok()
                .filter(|encoding| encoding >> 6 == 0)
                .map(|encoding| 0x80 | encoding),
        })
        .take(MAX_PAIRS)
        .collect();
    let mut bytes = ArrayVec::new();
    if let (Ok(block @ 1..), Ok(count @ 1..)) =
        (u8::try_from(BLOCK_PAGES_LOG2), u8::try_from(pairs.len()))
    {
        bytes.extend([block, count].into_iter().chain(pairs));
    }
    bytes
}

fn value(parameter: u32, facts: &PartitionFacts<'_>) -> Option<Value> {
    let mut value = Value::new();
    match parameter {
        SPLPAR_CHARACTERISTICS => {
            // Capacity is in hundredths of a processor, memory in MiB.
            let written = write!(
                value,
                "MaxEntCap={},DesMem={},DesProcs={},MaxPlatProcs={}",
                u64::from(facts.vcpus) * 100,
                facts.memory_bytes >> 20,
                facts.vcpus,
                facts.machine_cpus
            );
            written.ok()?;
            value.terminate();
        }
        PARTITION_AUTO_RESTART | DIAGNOSTICS_RUN_MODE => value.push(&[0]),
        BLOCK_INVALIDATE => value.push(&block_invalidate(facts.page_sizes)),
        LPAR_NAME => {
            value.push(facts.name.as_bytes());
            value.terminate();
        }
        _ => return None,
    }
    Some(value)
}

/// `ibm,get-system-parameter`: the status.
pub fn get<M: GuestBytes>(
    [parameter, buffer, length]: [u32; 3],
    facts: &PartitionFacts<'_>,
    memory: &mut M,
) -> i32 {
    let Some(mut value) = value(parameter, facts) else {
        return status::PARAMETER;
    };
    match length {
        // The guest only asks whether the parameter is supported.
        0 => status::SUCCESS,
        // No room for the length of what is returned.
        1 => status::SYSTEM_PARAMETER,
        _ => match memory.write(GuestReal::new(u64::from(buffer)), value.wire(length)) {
            Ok(()) => status::SUCCESS,
            Err(_) => status::SYSTEM_PARAMETER,
        },
    }
}

/// `ibm,set-system-parameter`: the status. The buffer is not read, as no parameter can be set.
#[must_use]
pub fn set(parameter: u32, facts: &PartitionFacts<'_>) -> i32 {
    match value(parameter, facts) {
        Some(_) => status::NOT_AUTHORIZED,
        None => status::PARAMETER,
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{FakeMemory, HOLE, SIZE};
    use super::*;
    use alloc::collections::BTreeMap;
    use penstock_boot::bootinfo::PageEncoding;

    const FACTS: PartitionFacts<'_> = PartitionFacts {
        name: "debian",
        memory_bytes: 512 << 20,
        vcpus: 2,
        machine_cpus: 4,
        page_sizes: &[],
    };

    #[test]
    fn splpar_characteristics_are_pairs_with_nul_and_length() {
        let mut memory = FakeMemory::new();
        assert_eq!(get([20, 0x100, 4002], &FACTS, &mut memory), 0);
        let expected = b"\0\x35MaxEntCap=200,DesMem=512,DesProcs=2,MaxPlatProcs=4\0\xa5";
        let got = &memory.bytes[0x100..0x100 + expected.len()];
        assert_eq!(usize::from(got[1]), expected.len() - 3);
        assert_eq!(got[2..], expected[2..]);
    }

    #[test]
    fn bytes_and_names() {
        let mut memory = FakeMemory::new();
        assert_eq!(get([42, 0x100, 3], &FACTS, &mut memory), 0);
        assert_eq!(memory.bytes[0x100..0x104], *b"\0\x01\0\xa5");
        assert_eq!(get([21, 0x110, 3], &FACTS, &mut memory), 0);
        assert_eq!(memory.bytes[0x110..0x114], *b"\0\x01\0\xa5");
        assert_eq!(get([55, 0x120, 100], &FACTS, &mut memory), 0);
        assert_eq!(memory.bytes[0x120..0x12a], *b"\0\x07debian\0\xa5");
    }

    /// Segments of the machine's processors: base page size, then page sizes and encodings.
    fn page_sizes(list: &[(u32, &[(u32, u32)])]) -> alloc::vec::Vec<SegmentPageSize> {
        list.iter()
            .map(|(base_shift, pages)| SegmentPageSize {
                base_shift: *base_shift,
                slb_encoding: 0,
                actual: pages
                    .iter()
                    .map(|&(shift, pte_encoding)| PageEncoding {
                        shift,
                        pte_encoding,
                    })
                    .collect(),
            })
            .collect()
    }

    /// What Linux makes of the characteristics: the block size of each (base, actual) shift pair,
    /// found by the encoding in the order of its page sizes, 4K first.
    fn linux_reads(bytes: &[u8], sizes: &[SegmentPageSize]) -> BTreeMap<(u32, u32), u32> {
        let len = 2 + usize::from(u16::from_be_bytes([bytes[0], bytes[1]]));
        let mut found = BTreeMap::new();
        let mut at = 2;
        while at < len && bytes[at] != 0 {
            let (block, count) = (1 << bytes[at], usize::from(bytes[at + 1]));
            for lp in &bytes[at + 2..at + 2 + count] {
                let pair = if lp & 0x80 == 0 {
                    Some((12, 12))
                } else {
                    sizes.iter().find_map(|segment| {
                        let page = segment
                            .actual
                            .iter()
                            .find(|page| page.pte_encoding == u32::from(lp & 0x3f))?;
                        Some((segment.base_shift, page.shift))
                    })
                };
                let size: &mut u32 = found.entry(pair.unwrap()).or_default();
                *size = block.max(*size);
            }
            at += 2 + count;
        }
        assert_eq!(at, len);
        found
    }

    #[test]
    fn block_invalidate_characteristics_are_as_linux_reads_them() {
        let sizes = page_sizes(&[
            (12, &[(12, 0), (16, 7), (24, 0x38)]),
            (16, &[(16, 1), (24, 8)]),
            (24, &[(24, 0)]),
        ]);
        let facts = PartitionFacts {
            page_sizes: &sizes,
            ..FACTS
        };
        let mut memory = FakeMemory::new();
        assert_eq!(get([50, 0x100, 128], &facts, &mut memory), 0);
        assert_eq!(
            memory.bytes[0x100..0x10b],
            [0, 8, 3, 6, 0x00, 0x87, 0xb8, 0x81, 0x88, 0x80, 0xa5]
        );
        let read = linux_reads(&memory.bytes[0x100..], &sizes);
        // Linux takes the encoding 0 of 16M segments for 4K pages, and loses nothing by it.
        let pairs = [(12, 12), (12, 16), (12, 24), (16, 16), (16, 24)];
        assert_eq!(read, pairs.map(|pair| (pair, 8)).into());

        let sizes = page_sizes(&[(12, &[(12, 0)])]);
        let facts = PartitionFacts {
            page_sizes: &sizes,
            ..FACTS
        };
        assert_eq!(get([50, 0x200, 128], &facts, &mut memory), 0);
        assert_eq!(memory.bytes[0x200..0x206], [0, 3, 3, 1, 0, 0xa5]);
        // Without a page size the option is off: two bytes of zero.
        assert_eq!(get([50, 0x300, 128], &FACTS, &mut memory), 0);
        assert_eq!(memory.bytes[0x300..0x303], [0, 0, 0xa5]);
    }

    #[test]
    fn a_short_buffer_truncates_but_tells_the_full_length() {
        let mut memory = FakeMemory::new();
        assert_eq!(get([55, 0x100, 5], &FACTS, &mut memory), 0);
        assert_eq!(memory.bytes[0x100..0x106], *b"\0\x07deb\xa5");
    }

    #[test]
    fn length_zero_asks_only_for_support() {
        let mut memory = FakeMemory::new();
        assert_eq!(get([20, 0xffff_ffff, 0], &FACTS, &mut memory), 0);
        assert_eq!(get([44, 0xffff_ffff, 0], &FACTS, &mut memory), -3);
        assert!(memory.writes.is_empty());
    }

    #[test]
    fn buffers_that_cannot_hold_the_answer() {
        let mut memory = FakeMemory::new();
        assert_eq!(get([20, 0x100, 1], &FACTS, &mut memory), -9999);
        for buffer in [SIZE - 1, HOLE.start, HOLE.start - 10] {
            let buffer = u32::try_from(buffer).unwrap();
            assert_eq!(get([20, buffer, 4002], &FACTS, &mut memory), -9999);
        }
        assert!(memory.writes.is_empty());
    }

    #[test]
    fn every_other_parameter_is_not_supported() {
        let mut memory = FakeMemory::new();
        for parameter in (0..70)
            .chain([u32::MAX])
            .filter(|p| ![20, 21, 42, 50, 55].contains(p))
        {
            assert_eq!(get([parameter, 0x100, 4002], &FACTS, &mut memory), -3);
            assert_eq!(set(parameter, &FACTS), -3);
        }
        assert!(memory.writes.is_empty());
    }

    #[test]
    fn no_parameter_can_be_set() {
        for parameter in [20, 21, 42, 50, 55] {
            assert_eq!(set(parameter, &FACTS), -9002);
        }
    }

    #[test]
    fn a_long_name_is_cut_and_terminated() {
        let name = core::str::from_utf8(&[b'n'; 300]).unwrap();
        let mut memory = FakeMemory::new();
        assert_eq!(
            get(
                [55, 0x100, 4002],
                &PartitionFacts { name, ..FACTS },
                &mut memory
            ),
            0
        );
        assert_eq!(memory.bytes[0x100..0x102], [1, 0]);
        assert_eq!(memory.bytes[0x102 + 254..0x102 + 257], *b"n\0\xa5");
    }
}
