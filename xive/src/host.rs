// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The hypervisor's own interrupt on each hardware thread: how one thread gets another's attention.
//!
//! Firmware gives each thread a virtual processor of its own, in the physical ring, whose number is
//! the thread's PIR; it stays pushed for ever. One source per thread is aimed at it, and a store to
//! that source's trigger page interrupts the thread, in a guest whatever the guest's MSR\[EE\], or in
//! a `stop`. The interrupt carries nothing: what it is for lies in memory, and the entries of the
//! event queue are never read. So any number of triggers may become one interrupt, and one may
//! come for nothing.
//!
//! Between that ring and the OS's is the pool's, in which a hypervisor can have interrupts of its own.
//! Nothing is aimed at ours, but the rings are a hierarchy, and an OS ring below one that is not valid
//! is not sure to work: so each thread has a pool VP too, as under Linux, whose host makes the same.
//!
//! Order: who wants attention stores what for, then triggers. The thread first ends the event at the
//! source, then looks. A trigger before that end is covered by the look, a later one interrupts anew.
//!
//! Sources: OPAL API, `OPAL_XIVE_*`; Power ISA 3.0B, Book III, Interrupts.

use penstock_arch::addr::HostReal;

use crate::error::SetupError;
use crate::esb::{EsbPair, Pq};
use crate::fw::{FirmwareError, IrqConfig, QueueFlags, VpFlags, XiveFirmware, XiveMmio, settled};
use crate::ids::{ChipId, Eisn, Girq, VpId};
use crate::presenter::allocate_source;
use crate::priority::{Cppr, Priority};
use crate::tima::{Tima, offset};

/// log2 of the bytes of the event queue.
const QUEUE_SIZE_LOG2: u32 = 12;

/// The priority of the source. Firmware's own interrupts use 7.
const PRIORITY: Priority = Priority::HYPERVISOR;

/// The source by which a thread is interrupted.
#[derive(Clone, Copy, Debug)]
pub struct HostInterrupt {
    /// The hypervisor page of the area.
    page: HostReal,
    ipi: EsbPair,
    girq: Girq,
    /// The CAM word of the thread's pool VP.
    pool: u32,
}

impl HostInterrupt {
    /// Bytes of the event queue's memory, also its alignment.
    pub const QUEUE_BYTES: u64 = 1 << QUEUE_SIZE_LOG2;

    /// Gives the thread with this PIR an event queue, a source aimed at it, and this VP, which nobody
    /// else may have, for its pool ring. To be called by any thread, once for each.
    ///
    /// # Errors
    /// [`SetupError::UnalignedQueues`], [`SetupError::UnsuitableSource`] or the status of the call
    /// that failed.
    pub fn set_up<F: XiveFirmware, M: XiveMmio>(
        fw: &F,
        mmio: &M,
        pir: u32,
        chip: Option<ChipId>,
        page: HostReal,
        queue: HostReal,
        pool: VpId,
    ) -> Result<Self, SetupError> {
        if queue.get() == 0 || !queue.is_aligned(Self::QUEUE_BYTES) {
            return Err(SetupError::UnalignedQueues);
        }
        let vp = VpId::new(pir);
        let flags = QueueFlags::ENABLED | QueueFlags::ALWAYS_NOTIFY;
        settled(fw, || {
            fw.set_queue_info(vp, PRIORITY, queue, QUEUE_SIZE_LOG2, flags)
        })?;
        settled(fw, || fw.set_vp_info(pool, VpFlags::ENABLED, None))?;
        let pool = settled(fw, || fw.get_vp_info(pool))?.cam;
        let pool = u32::try_from(pool).map_err(|_| FirmwareError::INTERNAL_ERROR)?;
        let (girq, ipi) = allocate_source(fw, chip)?;
        let config = IrqConfig {
            vp,
            priority: Some(PRIORITY),
            eisn: Eisn::new(1),
        };
        if let Err(error) = settled(fw, || fw.set_irq_config(girq, config)) {
            let _ = settled(fw, || fw.free_irq(girq));
            return Err(error.into());
        }
        let _ = ipi.set(mmio, Pq::Reset);
        Ok(Self {
            page,
            ipi,
            girq,
            pool,
        })
    }

    /// The source's number.
    #[must_use]
    pub const fn girq(&self) -> Girq {
        self.girq
    }

    /// Fills the pool ring of the calling thread, which must be the one that this is for, and lets
    /// interrupts through to it. To be called once, before any OS ring is pushed there.
    pub fn begin<M: XiveMmio>(&self, mmio: &M) {
        Tima::new(self.page).push_pool(mmio, self.pool);
        self.accept(mmio);
    }

    /// Lets interrupts through to the calling thread, which must be the one that this is for.
    pub fn accept<M: XiveMmio>(&self, mmio: &M) {
        mmio.store8(self.page, offset::PHYS_CPPR, Cppr::LEAST_FAVOURED.get());
    }

    /// Interrupts the thread, after all that the caller has stored.
    #[inline]
    pub fn trigger<M: XiveMmio>(&self, mmio: &M) {
        mmio.sync();
        self.ipi.trigger(mmio);
    }

    /// Takes what has come to the calling thread, which must be the one that this is for, and accepts
    /// the next. Whether there was an interrupt; what it was for is to be looked for afterwards.
    pub fn acknowledge<M: XiveMmio>(&self, mmio: &M) -> bool {
        let [nsr, _] = mmio.load16(self.page, offset::ACK_HV).to_be_bytes();
        let _ = self.ipi.set(mmio, Pq::Reset);
        self.accept(mmio);
        mmio.sync();
        nsr != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{FakeXive, Quirks};
    use core::cell::RefCell;
    use std::vec::Vec;

    /// Passes sources on to the model, and records what goes to the thread's ring.
    struct Recorder {
        xive: FakeXive,
        ring: RefCell<Vec<(u64, u64)>>,
        pending: u16,
    }

    const PAGE: HostReal = HostReal::new(0x6_0302_0319_0000);
    const QUEUE: HostReal = HostReal::new(0x10_0000);

    impl XiveMmio for Recorder {
        fn load16(&self, page: HostReal, at: u64) -> u16 {
            assert_eq!((page, at), (PAGE, 0x830));
            self.ring.borrow_mut().push((at, 0));
            self.pending
        }
        fn load32(&self, _: HostReal, at: u64) -> u32 {
            panic!("unknown 4-byte load: {at:#x}");
        }
        fn load64(&self, page: HostReal, at: u64) -> u64 {
            self.ring.borrow_mut().push((at, 0));
            self.xive.load64(page, at)
        }
        fn store8(&self, page: HostReal, at: u64, value: u8) {
            assert_eq!(page, PAGE);
            self.ring.borrow_mut().push((at, u64::from(value)));
        }
        fn store32(&self, page: HostReal, at: u64, value: u32) {
            assert_eq!(page, PAGE);
            self.ring.borrow_mut().push((at, u64::from(value)));
        }
        fn store64(&self, page: HostReal, at: u64, value: u64) {
            self.xive.store64(page, at, value);
        }
        fn order_io(&self) {}
        fn sync(&self) {}
    }

    fn set_up(hw: &Recorder, pir: u32, queue: HostReal) -> Result<HostInterrupt, SetupError> {
        let pool = hw.xive.alloc_vp_block(0).unwrap();
        HostInterrupt::set_up(&hw.xive, hw, pir, None, PAGE, queue, pool)
    }

    fn recorder(pir: u32) -> Recorder {
        let xive = FakeXive::new(1, Quirks::default());
        xive.add_host_vp(pir);
        Recorder {
            xive,
            ring: RefCell::new(Vec::new()),
            pending: 0x8006,
        }
    }

    #[test]
    fn triggers_before_the_end_are_one_interrupt_and_a_later_one_is_another() {
        let hw = recorder(4);
        let host = set_up(&hw, 4, QUEUE).unwrap();
        let girq = host.girq();
        assert_eq!(hw.xive.pq(girq), Pq::Reset);
        host.trigger(&hw);
        assert_eq!(hw.xive.pq(girq), Pq::Pending);
        host.trigger(&hw);
        assert_eq!(hw.xive.pq(girq), Pq::Queued);
        hw.ring.borrow_mut().clear();
        assert!(host.acknowledge(&hw));
        // The ring first, then the source, and last of all the way is free.
        assert_eq!(*hw.ring.borrow(), [(0x830, 0), (0xc00, 0), (0x31, 0xff)]);
        assert_eq!(hw.xive.pq(girq), Pq::Reset);
        host.trigger(&hw);
        assert_eq!(hw.xive.pq(girq), Pq::Pending);
    }

    #[test]
    fn an_interrupt_that_is_gone_is_no_interrupt() {
        let mut hw = recorder(0);
        let host = set_up(&hw, 0, QUEUE).unwrap();
        hw.pending = 0x00ff;
        assert!(!host.acknowledge(&hw));
    }

    #[test]
    fn a_queue_that_is_not_aligned_is_refused() {
        let hw = recorder(0);
        let odd = HostReal::new(0x10_0800);
        assert!(matches!(
            set_up(&hw, 0, odd),
            Err(SetupError::UnalignedQueues)
        ));
        assert_eq!(hw.xive.allocated().0, 0);
    }

    #[test]
    fn the_pool_ring_is_filled_before_interrupts_are_let_through() {
        let hw = recorder(4);
        let host = set_up(&hw, 4, QUEUE).unwrap();
        hw.ring.borrow_mut().clear();
        host.begin(&hw);
        // Firmware's first VP has CAM 0.
        assert_eq!(
            *hw.ring.borrow(),
            [(0x20, 0xff), (0x28, 0x8000_0000), (0x31, 0xff)]
        );
    }
}
