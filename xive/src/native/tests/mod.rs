// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tests of exploitation mode on the model of the machine.

mod calls;
mod context;
mod errors;
mod property;
mod reset;
mod setup;

use std::boxed::Box;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::vec::Vec;

use penstock_arch::addr::{GuestReal, HostReal};

use super::*;
use crate::fake::{FakeXive, Quirks, TIMA_OS_PAGE};
use crate::fw::XiveMmio;
use crate::queue::{EqEntry, QueueMemory};
use crate::source::Trigger;
use crate::{ChipId, Eisn, VpBlock};

/// Bytes of the partition's memory.
const RAM: u64 = 64 << 20;
/// Where that lies in the machine.
const RAM_AT: u64 = 0x1_0000_0000;
/// Sources for the guest's own use.
const IPIS: u32 = 4;
/// Devices: one edge-sensitive source, then a level-sensitive one.
const DEVICES: u32 = 2;
const EDGE: u64 = 0x1000;
const LEVEL: u64 = 0x1001;
/// The priority of whoever is told of escalations.
const HOST_PRIORITY: u8 = 5;

/// The partition's memory, which counts what is pinned.
struct Memory {
    hw: &'static FakeXive,
    pins: RefCell<BTreeMap<(u64, u64), u32>>,
}

impl Memory {
    fn pinned(&self) -> Vec<(u64, u64)> {
        self.pins.borrow().keys().copied().collect()
    }
}

impl PinnedMemory for Memory {
    fn pin(&self, at: GuestReal, bytes: u64) -> Option<HostReal> {
        let end = at.checked_add(bytes)?;
        if end.get() > RAM {
            return None;
        }
        self.hw.note("pin");
        *self.pins.borrow_mut().entry((at.get(), bytes)).or_default() += 1;
        Some(HostReal::new(RAM_AT + at.get()))
    }

    fn unpin(&self, at: GuestReal, bytes: u64) {
        self.hw.note("unpin");
        let mut pins = self.pins.borrow_mut();
        let count = pins.get_mut(&(at.get(), bytes)).expect("not pinned");
        *count -= 1;
        if *count == 0 {
            pins.remove(&(at.get(), bytes));
        }
    }
}

/// A partition on a machine with a thread for each of its virtual processors.
struct Partition {
    hw: &'static FakeXive,
    memory: Memory,
    ipis: Vec<NativeSource>,
    devices: Vec<NativeSource>,
    vcpus: Vec<NativeVcpu>,
    state: NativeState,
    block: VpBlock,
}

fn no_frames(_: ChipId) -> Option<HostReal> {
    None
}

fn setup_of(hw: &FakeXive, block: &VpBlock, server: u32) -> NativeSetup {
    NativeSetup {
        vp: block.vp(server).unwrap(),
        server: ServerNumber::new(server),
        tima: hw.tima(),
        escalation: Some(EscalationTarget {
            vp: crate::VpId::new(server),
            priority: Priority::new(HOST_PRIORITY).unwrap(),
            eisn: Eisn::new(server),
        }),
    }
}

impl Partition {
    fn new(quirks: Quirks, vcpus: u32) -> Self {
        let hw: &'static FakeXive = Box::leak(Box::new(FakeXive::new(vcpus as usize, quirks)));
        hw.fill_pool_rings();
        let block = VpBlock::allocate(hw, &[], &mut no_frames, 2).unwrap();
        let vp = block.vp(0).unwrap();
        let source = |lisn, trigger| {
            NativeSource::set_up(hw, hw, Lisn::new(lisn), trigger, vp, None).unwrap()
        };
        let edge = u32::try_from(EDGE).unwrap();
        let partition = Self {
            hw,
            memory: Memory {
                hw,
                pins: RefCell::new(BTreeMap::new()),
            },
            vcpus: (0..vcpus)
                .map(|server| NativeVcpu::set_up(hw, hw, &setup_of(hw, &block, server)).unwrap())
                .collect(),
            ipis: (0..IPIS).map(|lisn| source(lisn, Trigger::Edge)).collect(),
            devices: Vec::from([
                source(edge, Trigger::Edge),
                source(edge + 1, Trigger::Level),
            ]),
            state: NativeState::new(TIMA_OS_PAGE),
            block,
        };
        assert_eq!(partition.devices.len(), DEVICES as usize);
        partition.vcpus[0].set_online(true);
        let _ = hw.take_calls();
        partition
    }

    /// All virtual processors on their threads, at CPPR 0xff, each with a queue of 4 KiB at priority
    /// 6; source `n` is aimed at virtual processor `n` with EISN `0x100 + n`, and on.
    fn booted(quirks: Quirks, vcpus: u32) -> Self {
        let partition = Self::new(quirks, vcpus);
        for server in 0..u64::from(vcpus) {
            let place = usize::try_from(server).unwrap();
            partition.hw.run_on(place);
            partition.vcpus[place].push(partition.hw);
            partition.cppr(0xff);
            partition
                .set_queue(server, 6, queue_at(server, 6), 12)
                .unwrap();
            partition.aim(server, server, 6, 0x100 + server).unwrap();
            partition.esb(server, 0xc00);
        }
        partition.hw.run_on(0);
        let _ = partition.hw.take_calls();
        partition
    }

    fn native(&self) -> Native<'_> {
        Native {
            ipis: &self.ipis,
            devices: &self.devices,
            vcpus: &self.vcpus,
            state: &self.state,
        }
    }

    fn aim(&self, lisn: u64, server: u64, priority: u64, eisn: u64) -> Result<(), HcallError> {
        self.native()
            .set_source_config(self.hw, [2, lisn, server, priority, eisn])
    }

    fn set_queue(&self, server: u64, priority: u64, at: u64, size: u64) -> Result<(), HcallError> {
        self.native()
            .set_queue_config(self.hw, &self.memory, [1, server, priority, at, size])
    }

    /// A guest's load from the management page of a source.
    fn esb(&self, lisn: u64, offset: u64) -> u64 {
        let (_, management) = window::esb_pages(Lisn::new(u32::try_from(lisn).unwrap()));
        let page = self.native().page_at(management).unwrap();
        self.hw.load64(page, offset)
    }

    /// A guest's store to the trigger page of a source.
    fn trigger(&self, lisn: u64) {
        let (trigger, _) = window::esb_pages(Lisn::new(u32::try_from(lisn).unwrap()));
        let page = self.native().page_at(trigger).unwrap();
        self.hw.store64(page, 0, 0);
    }

    /// A guest's store of its CPPR.
    fn cppr(&self, cppr: u8) {
        let page = self.native().page_at(window::TIMA_OS).unwrap();
        self.hw.store8(page, 0x11, cppr);
    }

    /// A guest's acknowledge: the priority, if there was an interrupt.
    fn acknowledge(&self) -> Option<u8> {
        let page = self.native().page_at(window::TIMA_OS).unwrap();
        let [nsr, cppr] = self.hw.load16(page, 0x810).to_be_bytes();
        (nsr & 0x80 != 0).then_some(cppr)
    }

    /// An entry of a queue that begins at this guest address.
    fn entry(&self, at: u64, index: u64) -> EqEntry {
        EqEntry(self.hw.load_entry(HostReal::new(RAM_AT + at), index * 4))
    }
}

/// Where the tests have queues of 4 KiB.
fn queue_at(server: u64, priority: u64) -> u64 {
    0x10_0000 + (server * 8 + priority) * 0x1000
}
