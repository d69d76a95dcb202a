// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The model's MMIO: source pages and the OS ring.

use penstock_arch::addr::HostReal;

use crate::esb::{self, Pq};
use crate::fake::{END_BASE, ESB_BASE, ESB_SHIFT, FakeXive, Model, TIMA_OS_PAGE, TIMA_PAGE};
use crate::fw::XiveMmio;
use crate::tima::{SAVE_RESTORE, VALID, offset};

impl FakeXive {
    fn tima_offset(&self, page: HostReal, at: u64) -> u64 {
        self.access();
        assert!(is_tima(page), "narrow access outside the TIMA");
        let hypervisors = matches!(
            at,
            offset::PULL_OS
                | offset::OS_WORD2
                | offset::POOL_WORD2
                | offset::PHYS_CPPR
                | offset::ACK_HV
        );
        assert!(
            page == TIMA_PAGE || !hypervisors,
            "an operating system has no right to {at:#x}"
        );
        at
    }
}

fn is_tima(page: HostReal) -> bool {
    page == TIMA_PAGE || page == TIMA_OS_PAGE
}

/// The queue and whether it is its escalation's page; `None` for a page of a source.
fn end_page(page: HostReal) -> Option<(u32, bool)> {
    let within = page.get().checked_sub(END_BASE)?;
    let number = u32::try_from(within >> ESB_SHIFT).ok()?;
    Some((number, within >> (ESB_SHIFT - 1) & 1 != 0))
}

/// The source and whether it is its management page.
fn source_page(page: HostReal) -> (u32, bool) {
    let within = page.get() - ESB_BASE;
    let girq = u32::try_from(within >> ESB_SHIFT).expect("no such source page");
    (girq, within >> (ESB_SHIFT - 1) & 1 != 0)
}

impl Model {
    pub(super) fn pq(&mut self, girq: u32) -> &mut Pq {
        &mut self
            .sources
            .get_mut(&girq)
            .expect("access to the pages of a free source")
            .pq
    }

    fn pull(&mut self, thread: usize) -> u32 {
        let quirks = self.quirks;
        let ring = &mut self.rings[thread];
        let vp = ring.vp.take().expect("pull from a ring that is not valid");
        ring.line = false;
        if quirks.save_restore {
            let nvt = self.vps.get_mut(&vp).expect("pushed VP exists");
            nvt.cppr = ring.cppr;
            nvt.ipb |= ring.ipb;
            if !quirks.leaves_ipb_on_pull {
                ring.ipb = 0;
            }
        }
        vp
    }

    fn push(&mut self, thread: usize, word: u32) {
        let quirks = self.quirks;
        assert_ne!(word & VALID, 0, "push without the valid bit");
        assert_eq!(word & SAVE_RESTORE != 0, quirks.save_restore, "wrong H bit");
        let vp = crate::fake::FIRST_VP + (word & 0xff_ffff);
        assert!(
            self.rings.iter().all(|ring| ring.vp != Some(vp)),
            "VP pushed twice"
        );
        let ring = &mut self.rings[thread];
        assert_eq!(ring.vp, None, "push on a valid ring");
        let nvt = self
            .vps
            .get_mut(&vp)
            .expect("push of a VP that does not exist");
        ring.vp = Some(vp);
        if quirks.save_restore {
            ring.cppr = nvt.cppr;
            ring.nsr = 0;
        }
        ring.ipb |= std::mem::take(&mut nvt.ipb);
        if ring.pool || !quirks.needs_pool {
            ring.update();
        }
    }
}

impl XiveMmio for FakeXive {
    fn load16(&self, page: HostReal, at: u64) -> u16 {
        assert_eq!(
            self.tima_offset(page, at),
            offset::ACK_OS,
            "unknown 2-byte load"
        );
        let ring = &mut self.model.borrow_mut().rings[self.thread.get()];
        assert!(ring.vp.is_some(), "acknowledge on a ring that is not valid");
        let nsr = ring.nsr;
        ring.line = false;
        if nsr & 0x80 != 0 {
            ring.cppr = ring.pipr;
            if ring.pipr < 8 {
                ring.ipb &= !(0x80 >> ring.pipr);
            }
            ring.nsr = 0;
            ring.update();
        }
        u16::from_be_bytes([nsr, ring.cppr])
    }

    fn load32(&self, page: HostReal, at: u64) -> u32 {
        assert_eq!(
            self.tima_offset(page, at),
            offset::PULL_OS,
            "unknown 4-byte load"
        );
        self.model.borrow_mut().pull(self.thread.get()).swap_bytes()
    }

    fn load64(&self, page: HostReal, at: u64) -> u64 {
        if is_tima(page) {
            assert_eq!(
                self.tima_offset(page, at),
                offset::OS_RING,
                "unknown 8-byte load"
            );
            let ring = self.model.borrow().rings[self.thread.get()];
            return u64::from_be_bytes([
                ring.nsr, ring.cppr, ring.ipb, ring.lsmfb, ring.ack, ring.inc, ring.age, ring.pipr,
            ]);
        }
        self.access();
        if let Some((number, escalation)) = end_page(page) {
            let mut model = self.model.borrow_mut();
            let end = model.numbered_end(number).expect("no such queue");
            let bits = if escalation {
                &mut end.ese
            } else {
                &mut end.esn
            };
            let old = *bits;
            return match at {
                esb::offset::GET => old as u64,
                0xc00 | 0xd00 | 0xe00 | 0xf00 => {
                    *bits = Pq::from_bits(at >> 8);
                    old as u64
                }
                _ => panic!("unknown load from a queue's page: {at:#x}"),
            };
        }
        let (girq, management) = source_page(page);
        assert!(management, "load from a trigger page");
        let model = &mut *self.model.borrow_mut();
        let old = *model.pq(girq);
        assert_eq!(at % 8, 0, "unaligned load from a management page: {at:#x}");
        match at {
            0x000..0x800 => {
                let (new, forward) = old.after_eoi();
                *model.pq(girq) = new;
                if forward {
                    model.route(girq);
                }
                u64::from(forward)
            }
            0x800..0xc00 => old as u64,
            0xc00..0x1000 => {
                *model.pq(girq) = Pq::from_bits(at >> 8);
                old as u64
            }
            _ => panic!("unknown load from a management page: {at:#x}"),
        }
    }

    fn store8(&self, page: HostReal, at: u64, value: u8) {
        let at = self.tima_offset(page, at);
        if at == offset::PHYS_CPPR {
            return;
        }
        let model = &mut *self.model.borrow_mut();
        let quirks = model.quirks;
        let ring = &mut model.rings[self.thread.get()];
        assert!(ring.vp.is_some(), "store to a ring that is not valid");
        match at {
            offset::OS_CPPR => {
                ring.cppr = if value < 8 { value } else { 0xff };
                if ring.pipr >= ring.cppr && !quirks.keeps_line_on_cppr_drop {
                    ring.line = false;
                    ring.nsr = 0;
                }
            }
            offset::SET_OS_PENDING => ring.ipb |= 0x80 >> (value & 7),
            _ => panic!("unknown 1-byte store: {at:#x}"),
        }
        ring.update();
    }

    fn store32(&self, page: HostReal, at: u64, value: u32) {
        match self.tima_offset(page, at) {
            offset::OS_WORD2 => self.model.borrow_mut().push(self.thread.get(), value),
            offset::POOL_RING => {}
            offset::POOL_WORD2 => {
                let ring = &mut self.model.borrow_mut().rings[self.thread.get()];
                assert!(ring.vp.is_none() && !ring.pool, "push on a valid ring");
                ring.pool = value & VALID != 0;
            }
            _ => panic!("unknown 4-byte store: {at:#x}"),
        }
    }

    fn store64(&self, page: HostReal, at: u64, value: u64) {
        if page == TIMA_PAGE {
            assert_eq!(
                self.tima_offset(page, at),
                offset::OS_RING,
                "unknown 8-byte store"
            );
            let ring = &mut self.model.borrow_mut().rings[self.thread.get()];
            assert_eq!(ring.vp, None, "raw store to a valid ring");
            // The PIPR is read-only.
            let [nsr, cppr, ipb, lsmfb, ack, inc, age, _] = value.to_be_bytes();
            *ring = super::Ring {
                nsr,
                cppr,
                ipb,
                lsmfb,
                ack,
                inc,
                age,
                ..*ring
            };
            return;
        }
        self.access();
        assert_eq!(end_page(page), None, "store to a queue's page");
        assert!(at < 0x400, "unknown store to a source page: {at:#x}");
        let (girq, _) = source_page(page);
        self.model.borrow_mut().event(girq);
    }

    fn order_io(&self) {}

    fn sync(&self) {}
}
