// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The real machine behind the traits that `mm`, `xive` and the guest-facing code ask for.

// UNSAFETY: registers, devices and raw memory, each through a wrapper of `arch`.
#![expect(unsafe_code)]

use super::{seat, thread};
use crate::config::MAX_PARTITIONS;
use crate::console::GuestId;
use crate::platform::{GuestRegister, HDSISR_CANARY, Platform, StorageFaultRegisters};
use crate::smp::TlbScope;
use crate::trace::Kind;
use core::sync::atomic::Ordering;
use penstock_arch::addr::HostReal;
use penstock_arch::regs::{Lpcr, Processor, Pvr, sprn};
use penstock_arch::{hw_tlb, mmio, spr, sync};
use penstock_mm::page_ops::PageOps;
use penstock_xive::{QueueMemory, XiveMmio};

/// The machine.
#[derive(Clone, Copy, Debug)]
pub struct Hardware;

pub use hw_tlb::HwTlb;

impl Hardware {
    /// Writes LPCR as it is given.
    pub fn write_lpcr(lpcr: Lpcr) {
        // SAFETY: all values come from the constants of `Lpcr` and the modes that a guest may choose.
        unsafe { spr::write::<{ sprn::LPCR }>(lpcr.bits()) };
        sync::isync();
    }
}

/// Which threads may have translations of each partition, by its LPID; those above are everywhere.
/// Not which cores: threads of a core may share a TLB, but each has an ERAT of its own, which only
/// its own tlbiel empties.
static SCOPES: [TlbScope; MAX_PARTITIONS + 1] = [const { TlbScope::new() }; MAX_PARTITIONS + 1];

/// Where translations of a partition may be.
#[inline(always)]
pub fn scope_of(lpid: penstock_arch::hash::Lpid) -> Option<&'static TlbScope> {
    SCOPES.get(lpid.get() as usize)
}

/// TLB and page operations of the machine.
#[derive(Clone, Copy, Debug)]
pub struct HwMemory(HwTlb);

impl HwMemory {
    /// With the errata of the processor that runs.
    #[must_use]
    pub fn new(tlb: HwTlb) -> Self {
        Self(tlb)
    }
}

impl core::ops::Deref for HwMemory {
    type Target = HwTlb;

    fn deref(&self) -> &HwTlb {
        &self.0
    }
}

impl penstock_arch::tlb::TlbMaintenance for HwMemory {
    #[inline(always)]
    fn ptesync(&self) {
        self.0.ptesync();
    }
    #[inline(always)]
    fn eieio(&self) {
        self.0.eieio();
    }
    #[inline(always)]
    fn tlbsync(&self) {
        self.0.tlbsync();
    }
    #[inline(always)]
    fn tlbie(&self, rb: penstock_arch::hash::TlbieRb, lpid: penstock_arch::hash::Lpid) {
        self.0.tlbie(rb, lpid);
    }
    fn tlbie_lpid(&self, lpid: penstock_arch::hash::Lpid) {
        self.0.tlbie_lpid(lpid);
    }
    fn tlbie_pate(&self, lpid: penstock_arch::hash::Lpid) {
        self.0.tlbie_pate(lpid);
    }
    fn tlbie_erat_fixup(&self) {
        self.0.tlbie_erat_fixup();
    }
    #[inline(always)]
    fn is_local(&self, lpid: penstock_arch::hash::Lpid) -> bool {
        // tlbiel takes the partition from LPIDR.
        spr::read::<{ sprn::LPIDR }>() == u64::from(lpid.get())
            && scope_of(lpid).is_some_and(|scope| scope.is_only(thread::address_of_this()))
    }
    #[inline(always)]
    fn tlbiel(&self, rb: penstock_arch::hash::TlbieRb) {
        self.0.tlbiel(rb);
    }
    #[inline(always)]
    fn cp_abort(&self) {
        self.0.cp_abort();
    }
    #[inline(always)]
    fn errata(&self) -> penstock_arch::tlb::TlbieErrata {
        self.0.errata()
    }
}

/// What a thread does before and while it waits for another one.
///
/// On the light path it counts as in its guest, whichever that is. Others may wait for it while it waits
/// for them, so it does what they wait for first; a VPM1 that is not needed is taken back at the next
/// full entry.
pub fn while_waiting() {
    let lpcr = spr::read::<{ sprn::LPCR }>();
    if spr::read::<{ sprn::LPIDR }>() != 0 && lpcr & Lpcr::VPM1.bits() == 0 {
        // SAFETY: only where a guest's storage faults go to changes; the handlers are there.
        unsafe { spr::write::<{ sprn::LPCR }>(lpcr | Lpcr::VPM1.bits()) };
        sync::isync();
    }
    thread::this().presence.virtualized();
}

/// How long a thread may take to leave a guest: a minute. It is interrupted at once, and the longest
/// hypervisor call takes milliseconds.
const VIRTUALIZE_TICKS: u64 = 60 * 512_000_000;

impl penstock_mm::page_ops::Threads for HwMemory {
    #[cold]
    fn virtualize(&self, lpid: penstock_arch::hash::Lpid) {
        while_waiting();
        for other in thread::all() {
            if !other.presence.is_without_vpm(lpid.get()) {
                continue;
            }
            let since = spr::timebase();
            other.ring();
            while other.presence.is_without_vpm(lpid.get()) {
                // The time base has 512 MHz.
                if spr::timebase().wrapping_sub(since) > VIRTUALIZE_TICKS {
                    panic!("thread {} does not leave its guest", other.number);
                }
                core::hint::spin_loop();
            }
        }
    }
}

// SAFETY: each method does to the memory what the trait says, and touches nothing else.
unsafe impl PageOps for HwMemory {
    unsafe fn zero(&self, at: HostReal, len: u64) {
        // SAFETY: the caller owns the memory; `len` is a multiple of the block size by contract.
        unsafe { sync::zero_cache_blocks(at, len / sync::CACHE_BLOCK) };
    }

    unsafe fn icache_invalidate(&self, at: HostReal, len: u64) {
        sync::flush_icache(at, len);
    }

    unsafe fn icache_synchronize(&self, at: HostReal, len: u64) {
        sync::flush_icache(at, len);
    }
}

/// The interrupt controller's pages, and event queues in memory.
#[derive(Clone, Copy, Debug)]
pub struct HwInterrupts;

fn at(page: HostReal, offset: u64) -> HostReal {
    HostReal::new(page.get() + offset)
}

impl XiveMmio for HwInterrupts {
    #[inline(always)]
    fn load16(&self, page: HostReal, offset: u64) -> u16 {
        // SAFETY: `xive` names only pages that firmware gave it, at architected offsets.
        unsafe { mmio::load16(at(page, offset)) }
    }
    #[inline(always)]
    fn load32(&self, page: HostReal, offset: u64) -> u32 {
        // SAFETY: as above.
        unsafe { mmio::load32(at(page, offset)) }
    }
    #[inline(always)]
    fn load64(&self, page: HostReal, offset: u64) -> u64 {
        // SAFETY: as above.
        unsafe { mmio::load64(at(page, offset)) }
    }
    #[inline(always)]
    fn store8(&self, page: HostReal, offset: u64, value: u8) {
        // SAFETY: as above.
        unsafe { mmio::store8(at(page, offset), value) };
    }
    #[inline(always)]
    fn store32(&self, page: HostReal, offset: u64, value: u32) {
        // SAFETY: as above.
        unsafe { mmio::store32(at(page, offset), value) };
    }
    #[inline(always)]
    fn store64(&self, page: HostReal, offset: u64, value: u64) {
        // SAFETY: as above.
        unsafe { mmio::store64(at(page, offset), value) };
    }
    #[inline(always)]
    fn order_io(&self) {
        sync::eieio();
    }
    #[inline(always)]
    fn sync(&self) {
        sync::sync();
    }
}

impl QueueMemory for HwInterrupts {
    #[inline(always)]
    fn load_entry(&self, queue: HostReal, offset: u64) -> u32 {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "usize is 64 bits on this machine"
        )]
        let pointer = core::ptr::with_exposed_provenance::<u32>(at(queue, offset).get() as usize);
        // SAFETY: `xive` reads only inside the queue that it was given; the device writes words.
        u32::from_be(unsafe { pointer.read_volatile() })
    }
}

impl Platform for Hardware {
    type Memory = HwMemory;
    type Interrupts = HwInterrupts;
    type Firmware = super::firmware::Opal;

    #[inline(always)]
    fn interrupts() -> HwInterrupts {
        HwInterrupts
    }

    #[inline(always)]
    fn firmware() -> super::firmware::Opal {
        super::firmware::Opal
    }

    #[inline]
    fn trace(partition: u16, kind: Kind, arguments: [u64; 2]) {
        thread::this().trace(partition, kind, arguments);
    }

    fn processor() -> Processor {
        #[expect(clippy::cast_possible_truncation, reason = "the PVR has 32 bits")]
        let pvr = Pvr::new(spr::read::<{ sprn::PVR }>() as u32);
        // What is neither was refused at boot.
        pvr.processor().unwrap_or(Processor::Power9)
    }

    #[inline(always)]
    fn timebase() -> u64 {
        spr::timebase()
    }

    #[inline(always)]
    fn storage_fault() -> StorageFaultRegisters {
        let registers = StorageFaultRegisters {
            hdar: spr::read::<{ sprn::HDAR }>(),
            hdsisr: spr::read::<{ sprn::HDSISR }>(),
            asdr: spr::read::<{ sprn::ASDR }>(),
        };
        // SAFETY: the register is the hypervisor's, and was just read.
        unsafe { spr::write::<{ sprn::HDSISR }>(HDSISR_CANARY) };
        registers
    }

    #[inline(always)]
    fn amr() -> u64 {
        spr::read::<{ sprn::AMR }>()
    }

    #[inline(always)]
    fn iamr() -> u64 {
        spr::read::<{ sprn::IAMR }>()
    }

    #[inline(always)]
    fn set_guest_register(register: GuestRegister, value: u64) {
        macro_rules! write {
            ($($name:ident => $number:ident,)*) => {
                match register {
                    // SAFETY: registers that belong to the guest; the hypervisor is not affected,
                    // since what a breakpoint or watchpoint may match was checked before.
                    $(GuestRegister::$name => unsafe { spr::write::<{ sprn::$number }>(value) },)*
                }
            };
        }
        write! {
            Srr0 => SRR0,
            Srr1 => SRR1,
            Dar => DAR,
            Dsisr => DSISR,
            Sprg0 => SPRG0,
            Ciabr => CIABR,
            Dawr0 => DAWR0,
            Dawrx0 => DAWRX0,
        }
    }

    fn set_lpcr(lpcr: Lpcr) {
        // Others may count on it that VPM1 stays set until the next full entry: see `Presence`.
        let kept = Lpcr::from_bits_retain(spr::read::<{ sprn::LPCR }>()) & Lpcr::VPM1;
        Self::write_lpcr(lpcr | kept);
    }

    fn set_partition_entry(
        lpid: penstock_arch::hash::Lpid,
        pate: Option<penstock_arch::hash::Pate>,
    ) {
        super::partition_table::set(lpid, pate);
    }

    fn ring_if_aboard(partition: GuestId, server: u32) {
        if let Some(seat) = seat::of_partition(partition).get(server as usize)
            && seat.is_aboard()
        {
            seat.ring();
        }
    }

    fn purr() -> u64 {
        spr::read::<{ sprn::PURR }>()
    }

    fn idle_ticks() -> u64 {
        let asleep = thread::all().iter().map(|thread| &thread.asleep);
        asleep.fold(0, |sum, ticks| {
            sum.wrapping_add(ticks.load(Ordering::Relaxed))
        })
    }

    fn random() -> Option<u64> {
        // The generator may run dry for a moment (Power ISA: retry about ten times).
        (0..10).find_map(|_| spr::random())
    }

    fn ring(partition: GuestId, server: u32) {
        if let Some(seat) = seat::of_partition(partition).get(server as usize) {
            seat.ring();
        }
    }

    #[inline(always)]
    fn decrementer() -> i64 {
        // Sign-extended by the processor with the large decrementer on.
        spr::read::<{ sprn::DEC }>().cast_signed()
    }
}
