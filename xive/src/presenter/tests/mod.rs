// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tests of the presenter on the model of the machine.

mod calls;
mod property;
mod setup;

use std::vec::Vec;

use penstock_arch::addr::HostReal;

use crate::fake::{FakeXive, Quirks};
use crate::source::{Source, Sources, Trigger};
use crate::{ChipId, Lisn, Presenter, PresenterSetup, ServerNumber, VpBlock, VpId};

/// The number of the first source; the last one is level-sensitive.
const FIRST: u32 = 0x1000;
const QUEUES: u64 = 0x100_0000;

/// A partition on a machine.
struct Partition {
    hw: FakeXive,
    servers: Vec<Presenter>,
    slots: Vec<Source>,
    block: VpBlock,
}

fn queue_frame(server: u32) -> HostReal {
    HostReal::new(QUEUES + u64::from(server) * Presenter::QUEUE_BYTES)
}

fn setup_of(hw: &FakeXive, vp: VpId, server: u32) -> PresenterSetup {
    PresenterSetup {
        vp,
        server: ServerNumber::new(server),
        tima: hw.tima(),
        queues: queue_frame(server),
        chip: None,
    }
}

fn no_frames(_: ChipId) -> Option<HostReal> {
    None
}

impl Partition {
    /// As many threads as vCPUs, and `edges` edge-sensitive sources before the level-sensitive one.
    fn new(quirks: Quirks, vcpus: u32, edges: u32) -> Self {
        let hw = FakeXive::new(vcpus as usize, quirks);
        hw.fill_pool_rings();
        let block = VpBlock::allocate(&hw, &[], &mut no_frames, 2).unwrap();
        let vp = |server| block.vp(server).unwrap();
        let servers = (0..vcpus)
            .map(|server| Presenter::set_up(&hw, &hw, &setup_of(&hw, vp(server), server)).unwrap())
            .collect();
        let source = |index| {
            let trigger = if index < edges {
                Trigger::Edge
            } else {
                Trigger::Level
            };
            Source::set_up(&hw, &hw, Lisn::new(FIRST + index), trigger, vp(0), None).unwrap()
        };
        let slots = (0..=edges).map(source).collect();
        let _ = hw.take_calls();
        Self {
            hw,
            servers,
            slots,
            block,
        }
    }

    /// One vCPU, pushed, at CPPR 0xff, and one edge-sensitive source at priority 5.
    fn booted(quirks: Quirks) -> Self {
        let partition = Self::new(quirks, 1, 1);
        partition.servers[0].push(&partition.hw);
        partition.servers[0].h_cppr(&partition.hw, 0xff);
        partition.set_xive(FIRST, 0, 5);
        let _ = partition.hw.take_calls();
        partition
    }

    fn sources(&self) -> Sources<'_> {
        Sources::new(Lisn::new(FIRST), &self.slots)
    }

    fn set_xive(&self, lisn: u32, server: u32, priority: u32) {
        let servers = self.servers.as_slice();
        self.sources()
            .set_xive(&self.hw, &self.hw, servers, lisn, server, priority)
            .unwrap();
    }

    fn int_off(&self, lisn: u32) {
        let servers = self.servers.as_slice();
        self.sources()
            .int_off(&self.hw, &self.hw, servers, lisn)
            .unwrap();
    }

    fn trigger(&self, lisn: u32) {
        self.sources().trigger(&self.hw, Lisn::new(lisn));
    }

    fn xirr(&self, server: usize) -> u32 {
        self.servers[server].h_xirr(&self.hw, self.sources()).get()
    }

    fn eoi(&self, server: usize, xirr: u32) -> Result<(), crate::HcallError> {
        self.servers[server].h_eoi(&self.hw, self.sources(), u64::from(xirr))
    }

    fn ipi(&self, from: usize, server: u64, mfrr: u8) {
        let servers = self.servers.as_slice();
        self.servers[from]
            .h_ipi(&self.hw, servers, server, u64::from(mfrr))
            .unwrap();
    }
}
