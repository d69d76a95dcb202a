// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tests of the page table: a partition on the host, and pages to put into its table.

extern crate std;

mod ahead;
mod block_remove;
mod bulk_remove;
mod calls;
mod clear_hpt;
mod faults;
mod mappings;
mod model;
mod order;
mod page_init;
mod partition;
mod processors;
mod ranges;
mod real_mode;
mod resize;
mod resize_effects;
mod sharing;
mod stream;
mod watch;

use super::*;
use crate::fake::{TestMachine, TestMemory};
use crate::guest_memory::{Backing, MemoryConfig};
use penstock_arch::addr::EffectiveAddr;
use penstock_arch::fake::{Step, steps, unless_miri};
use penstock_arch::hash::{
    Asdr, HPTES_PER_GROUP, HpteV, KeyMask, PageEncoding, SegmentSize, pteg_hash,
};
use penstock_arch::regs::{Dsisr, Msr};
use penstock_arch::tlb::TlbieErrata;
use proptest::prelude::*;
use std::boxed::Box;
use std::collections::BTreeMap;
use std::env;
use std::sync::Arc;
use std::vec::Vec;

/// How many cases random tests take: `PENSTOCK_CASES`, by default few enough for seconds.
pub(crate) fn config() -> ProptestConfig {
    let cases = env::var("PENSTOCK_CASES")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(32);
    ProptestConfig {
        cases,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

const LPID: Lpid = Lpid::new(7);

/// A partition of 32 MiB with the smallest table: 16384 entries.
struct Fixture {
    mmu: Arc<HashMmu<TestMachine>>,
    machine: TestMachine,
    allocator: FrameAllocator,
    _host: TestMemory,
}

impl core::ops::Deref for Fixture {
    type Target = HashMmu<TestMachine>;

    fn deref(&self) -> &Self::Target {
        &self.mmu
    }
}

fn small(vrma_page: PageSize) -> HptConfig {
    HptConfig {
        vrma_page,
        ..HptConfig::new(HptOrder::MIN)
    }
}

fn partition_with(backing: Backing, config: HptConfig, errata: TlbieErrata) -> Fixture {
    partition_on(MemoryConfig::new(32 << 20, backing), config, errata)
}

/// A partition with this memory, of 32 MiB.
fn partition_on(memory: MemoryConfig, config: HptConfig, errata: TlbieErrata) -> Fixture {
    let host = TestMemory::new(3 << 24);
    let mut allocator = host.frames();
    let machine = TestMachine::with_errata(errata);
    let memory = GuestMemory::with_config(machine.clone(), memory, &mut allocator).unwrap();
    let mmu = Arc::new(HashMmu::new(LPID, memory, config, &mut allocator).unwrap());
    machine.tlb.take();
    Fixture {
        mmu,
        machine,
        allocator,
        _host: host,
    }
}

/// A partition whose memory is all there.
fn partition() -> Fixture {
    partition_with(Backing::Eager, small(PageSize::P16M), TlbieErrata::NONE)
}

/// A partition whose memory was never touched.
fn lazy_partition() -> Fixture {
    partition_with(Backing::Lazy, small(PageSize::P16M), TlbieErrata::NONE)
}

impl Fixture {
    fn steps(&self) -> Vec<Step> {
        self.machine.tlb.take()
    }

    /// The real entry.
    fn real(&self, ptex: u64) -> (u64, u64) {
        let entry = self.table().entry(HpteIndex::new(ptex));
        (entry.load_v().get(), entry.load_r().get())
    }

    /// Plays hardware that uses a valid entry.
    fn hardware_sets(&self, ptex: u64, bits: u64) {
        self.table().entry(HpteIndex::new(ptex)).hardware_sets(bits);
    }

    /// See [`everything`].
    fn everything(&self) -> BTreeMap<u64, [u64; 2]> {
        everything(self)
    }

    fn host(&self, at: u64) -> u64 {
        self.memory()
            .locate(penstock_arch::addr::GuestReal::new(at))
            .unwrap()
            .get()
    }
}

/// What the guest sees of all of its table: the entries that are not zero. Miri does not read free ones,
/// of which there are many.
fn everything(p: &HashMmu<TestMachine>) -> BTreeMap<u64, [u64; 2]> {
    let all = 0..p.entries();
    let read = |at| (at, p.h_read(0, at).unwrap());
    let seen: Box<dyn Iterator<Item = _>> = if cfg!(miri) {
        Box::new(p.table().in_use(all).map(|index| read(index.get())))
    } else {
        Box::new(all.map(read))
    };
    seen.filter(|(_, entry)| *entry != [0, 0]).collect()
}

/// A virtual page.
#[derive(Clone, Copy, Debug)]
struct Page {
    vsid: u64,
    ea: u64,
    segment: SegmentSize,
    encoding: PageEncoding,
}

/// A 64K page of a 1T segment, as Linux has most.
const PAGE: Page = Page {
    vsid: 0x1ace54,
    ea: 0xc000_0000_0123_0000,
    segment: SegmentSize::S1T,
    encoding: PageEncoding::Base64KActual64K,
};

impl Page {
    /// Doubleword 0 as a guest enters it, valid.
    fn v(self) -> u64 {
        let offset =
            self.ea & ((1 << self.segment.shift()) - 1) & !(self.encoding.base().bytes() - 1);
        let address = (u128::from(self.vsid) << self.segment.shift()) | u128::from(offset);
        let avpn = u64::try_from((address >> 23) << 7).unwrap();
        let large = if self.encoding.is_large() {
            HpteV::LARGE
        } else {
            0
        };
        (self.segment.b() << 62) | avpn | large | HpteV::VALID
    }

    /// Doubleword 1 for memory at guest real `at`: read and write.
    fn r(self, at: u64) -> u64 {
        at | (self.encoding.lp() << 12) | 0x192
    }

    /// The first entry of the primary group.
    fn group(self, mmu: &HashMmu<TestMachine>) -> u64 {
        let ea = EffectiveAddr::new(self.ea);
        let hash = pteg_hash(self.vsid, ea, self.segment, self.encoding.base());
        (hash * HPTES_PER_GROUP) & (mmu.entries() - 1)
    }

    /// The first entry of the secondary group.
    fn other_group(self, mmu: &HashMmu<TestMachine>) -> u64 {
        !self.group(mmu) & (mmu.entries() - 1) & !7
    }

    /// The segment as the ASDR has it: Kp=1.
    fn asdr(self) -> Asdr {
        let vsid = match self.segment {
            SegmentSize::S256M => self.vsid << 12,
            SegmentSize::S1T => self.vsid << 24,
        };
        let llp = self.encoding.base().segment_llp();
        Asdr::new((self.segment.b() << 62) | vsid | 0x400 | llp)
    }

    /// A fault on this page in privileged state with relocation on, where the processor says that it
    /// found an entry.
    fn fault(self, kind: AccessKind) -> HpteFault {
        HpteFault {
            kind,
            ea: EffectiveAddr::new(self.ea),
            asdr: self.asdr(),
            // The same bit in HDSISR and in HSRR1.
            cause: u64::from(Dsisr::PROTECTION.bits()),
            msr: Msr::SF.union(Msr::IR).union(Msr::DR),
            keys: KeyMask::new(0),
        }
    }

    /// The same fault of a processor that found nothing.
    fn miss(self, kind: AccessKind) -> HpteFault {
        HpteFault {
            cause: 0x4000_0000,
            ..self.fault(kind)
        }
    }
}

/// A fault in guest real mode at guest real `at`.
fn real_mode(at: u64, page: PageSize, kind: AccessKind) -> HpteFault {
    HpteFault {
        kind,
        ea: EffectiveAddr::new(at),
        asdr: Asdr::vrma(page),
        cause: u64::from(Dsisr::NO_HPTE.bits()),
        msr: Msr::SF,
        keys: KeyMask::new(u64::MAX),
    }
}
