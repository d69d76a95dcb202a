// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A machine on the host under the guest-facing code: a processor that records what was done to its
//! registers, and in `rig` a partition with its virtual processor.

extern crate std;

mod rig;

pub(crate) use rig::{
    GUEST_BYTES, HPT_ENTRIES, Parts, Rig, RigOptions, TIMEBASE_HZ, make_partition,
};

use crate::console::GuestId;
use crate::platform::{GuestRegister, HDSISR_CANARY, Platform, StorageFaultRegisters};
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use penstock_arch::addr::HostReal;
use penstock_arch::hash::{Lpid, Pate};
use penstock_arch::regs::Lpcr;
use penstock_mm::fake::TestMachine;
use penstock_xive::fake::FakeXive;
use penstock_xive::fw::{
    FirmwareError, IrqConfig, IrqInfo, QueueFlags, QueueInfo, QueueState, SyncKind, VpFlags,
    VpInfo, XiveMode,
};
use penstock_xive::{ChipId, Girq, Priority, QueueMemory, VpId, XiveFirmware, XiveMmio};
use std::thread_local;

/// What a test sets and reads of the processor. Each test has its own thread.
struct Processor {
    xive: Cell<Option<&'static FakeXive>>,
    fault: Cell<StorageFaultRegisters>,
    amr: Cell<u64>,
    iamr: Cell<u64>,
    timebase: Cell<u64>,
    random: Cell<Option<u64>>,
    writes: RefCell<Vec<(GuestRegister, u64)>>,
    lpcr: RefCell<Vec<Lpcr>>,
    rings: RefCell<Vec<(GuestId, u32)>>,
    partition_entries: RefCell<Vec<(Lpid, Option<[u64; 2]>)>>,
}

thread_local! {
    static PROCESSOR: Processor = const {
        Processor {
            xive: Cell::new(None),
            fault: Cell::new(StorageFaultRegisters { hdar: 0, hdsisr: 0, asdr: 0 }),
            amr: Cell::new(0),
            iamr: Cell::new(0),
            timebase: Cell::new(0),
            random: Cell::new(None),
            writes: RefCell::new(Vec::new()),
            lpcr: RefCell::new(Vec::new()),
            rings: RefCell::new(Vec::new()),
            partition_entries: RefCell::new(Vec::new()),
        }
    };
}

/// The interrupt controller that this thread has from now on.
fn use_xive(xive: &'static FakeXive) {
    PROCESSOR.with(|p| p.xive.set(Some(xive)));
}

/// Sets what the next storage interrupt tells.
pub(crate) fn set_storage_fault(hdar: u64, hdsisr: u64, asdr: u64) {
    PROCESSOR.with(|p| p.fault.set(StorageFaultRegisters { hdar, hdsisr, asdr }));
}

/// Sets the authority masks: data, fetches.
pub(crate) fn set_authority(amr: u64, iamr: u64) {
    PROCESSOR.with(|p| {
        p.amr.set(amr);
        p.iamr.set(iamr);
    });
}

/// Sets the time base.
pub(crate) fn set_timebase(ticks: u64) {
    PROCESSOR.with(|p| p.timebase.set(ticks));
}

/// Sets what the random number generator gives.
pub(crate) fn set_random(value: Option<u64>) {
    PROCESSOR.with(|p| p.random.set(value));
}

/// The writes of guest registers since the last call, in order.
pub(crate) fn take_writes() -> Vec<(GuestRegister, u64)> {
    PROCESSOR.with(|p| p.writes.take())
}

/// The values of the control register since the last call, in order.
pub(crate) fn take_lpcr() -> Vec<Lpcr> {
    PROCESSOR.with(|p| p.lpcr.take())
}

/// The virtual processors that were rung for since the last call, in order.
pub(crate) fn take_rings() -> Vec<(GuestId, u32)> {
    PROCESSOR.with(|p| p.rings.take())
}

/// The partition table entries since the last call, in order.
pub(crate) fn take_partition_entries() -> Vec<(Lpid, Option<[u64; 2]>)> {
    PROCESSOR.with(|p| p.partition_entries.take())
}

/// The platform of the tests.
pub(crate) struct FakePlatform;

impl Platform for FakePlatform {
    type Memory = &'static TestMachine;
    type Interrupts = FakeInterrupts;
    type Firmware = FakeInterrupts;

    fn interrupts() -> FakeInterrupts {
        FakeInterrupts(PROCESSOR.with(|p| p.xive.get()).unwrap())
    }

    fn firmware() -> FakeInterrupts {
        Self::interrupts()
    }

    fn timebase() -> u64 {
        PROCESSOR.with(|p| p.timebase.get())
    }

    fn storage_fault() -> StorageFaultRegisters {
        PROCESSOR.with(|p| {
            let registers = p.fault.get();
            p.fault.set(StorageFaultRegisters {
                hdsisr: HDSISR_CANARY,
                ..registers
            });
            registers
        })
    }

    fn amr() -> u64 {
        PROCESSOR.with(|p| p.amr.get())
    }

    fn iamr() -> u64 {
        PROCESSOR.with(|p| p.iamr.get())
    }

    fn set_guest_register(register: GuestRegister, value: u64) {
        PROCESSOR.with(|p| p.writes.borrow_mut().push((register, value)));
    }

    fn set_lpcr(lpcr: Lpcr) {
        PROCESSOR.with(|p| p.lpcr.borrow_mut().push(lpcr));
    }

    fn set_partition_entry(lpid: Lpid, pate: Option<Pate>) {
        let dwords = pate.map(Pate::dwords);
        PROCESSOR.with(|p| p.partition_entries.borrow_mut().push((lpid, dwords)));
    }

    fn ring(partition: GuestId, server: u32) {
        PROCESSOR.with(|p| p.rings.borrow_mut().push((partition, server)));
    }

    fn processor() -> penstock_arch::regs::Processor {
        penstock_arch::regs::Processor::Power9
    }

    fn ring_if_aboard(partition: GuestId, server: u32) {
        Self::ring(partition, server);
    }

    fn purr() -> u64 {
        0x1234
    }

    fn idle_ticks() -> u64 {
        0x5678
    }

    fn random() -> Option<u64> {
        PROCESSOR.with(|p| p.random.get())
    }

    fn decrementer() -> i64 {
        i64::MAX
    }
}

/// The model of the interrupt controller, passed by value.
#[derive(Clone, Copy)]
pub(crate) struct FakeInterrupts(&'static FakeXive);

macro_rules! pass_on {
    ($($name:ident($($argument:ident: $kind:ty),*) $(-> $result:ty)?;)*) => {
        $(fn $name(&self, $($argument: $kind),*) $(-> $result)? {
            self.0.$name($($argument),*)
        })*
    };
}

impl XiveMmio for FakeInterrupts {
    pass_on! {
        load16(page: HostReal, offset: u64) -> u16;
        load32(page: HostReal, offset: u64) -> u32;
        load64(page: HostReal, offset: u64) -> u64;
        store8(page: HostReal, offset: u64, value: u8);
        store32(page: HostReal, offset: u64, value: u32);
        store64(page: HostReal, offset: u64, value: u64);
        order_io();
    }

    fn sync(&self) {
        XiveMmio::sync(self.0);
    }
}

impl QueueMemory for FakeInterrupts {
    pass_on! {
        load_entry(queue: HostReal, offset: u64) -> u32;
    }
}

type Status<T> = Result<T, FirmwareError>;

impl XiveFirmware for FakeInterrupts {
    pass_on! {
        reset(mode: XiveMode) -> Status<()>;
        alloc_vp_block(order: u32) -> Status<VpId>;
        free_vp_block(base: VpId) -> Status<()>;
        get_vp_info(vp: VpId) -> Status<VpInfo>;
        set_vp_info(vp: VpId, flags: VpFlags, report_cl: Option<HostReal>) -> Status<()>;
        get_vp_state(vp: VpId) -> Status<u64>;
        alloc_irq(chip: Option<ChipId>) -> Status<Girq>;
        free_irq(girq: Girq) -> Status<()>;
        get_irq_info(girq: Girq) -> Status<IrqInfo>;
        get_irq_config(girq: Girq) -> Status<IrqConfig>;
        set_irq_config(girq: Girq, config: IrqConfig) -> Status<()>;
        get_queue_info(vp: VpId, priority: Priority) -> Status<QueueInfo>;
        get_queue_state(vp: VpId, priority: Priority) -> Status<QueueState>;
        set_queue_state(vp: VpId, priority: Priority, state: QueueState) -> Status<()>;
        donate_page(chip: ChipId, page: HostReal) -> Status<()>;
        wait();
    }

    fn set_queue_info(
        &self,
        vp: VpId,
        priority: Priority,
        page: HostReal,
        size_log2: u32,
        flags: QueueFlags,
    ) -> Status<()> {
        self.0.set_queue_info(vp, priority, page, size_log2, flags)
    }

    fn sync(&self, kind: SyncKind, id: u32) -> Status<()> {
        XiveFirmware::sync(self.0, kind, id)
    }
}
