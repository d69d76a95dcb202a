// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Two partitions that share an image and a pool: copy on write, and what happens without a frame.

use super::*;
use crate::guest_memory::{MemoryError, SlotId};
use crate::pool::{ImageId, ImageSource, Pool, Share};
use crate::real::{PIECE, Piece, PoolFrame};
use core::sync::atomic::Ordering;
use penstock_arch::addr::{GuestReal, HostReal};
use penstock_arch::tlb::HpteStore;
use std::boxed::Box;
use std::collections::BTreeMap;

use AccessKind::{Fetch, Load, Store};

mod frames;
mod model;

/// Pieces of the image, and the first piece of memory that maps it.
const IMAGE: u64 = 4;
const IMAGE_AT: u64 = 2;

/// Where a piece lies, in doubleword 1 of a real entry.
const HOST: u64 = 0x00ff_ffff_ffff_0000;

const fn at(piece: u64, offset: u64) -> GuestReal {
    GuestReal::new(piece * PIECE + offset)
}

/// What the image holds at a multiple of eight.
fn of_image(piece: u64, offset: u64) -> u64 {
    0x1111_0000_0000_0000 | piece << 32 | offset
}

/// The image.
#[derive(Debug)]
struct Image;

impl ImageSource for Image {
    fn read(&self, piece: u64, write: &mut dyn FnMut(u64, &[u8])) {
        for offset in (0..PIECE).step_by(8) {
            write(offset, &of_image(piece, offset).to_be_bytes());
        }
    }
}

struct Partition {
    mmu: HashMmu<TestMachine>,
    machine: TestMachine,
    share: Share,
    image: ImageId,
}

impl core::ops::Deref for Partition {
    type Target = HashMmu<TestMachine>;

    fn deref(&self) -> &Self::Target {
        &self.mmu
    }
}

/// Partitions of 16 MiB with these guaranteed parts and limits, in pieces, in a pool of as many frames.
fn partitions(
    frames: u64,
    accounts: &[(u64, u64)],
) -> (Vec<Partition>, FrameAllocator, TestMemory) {
    let host = TestMemory::new(16 << 20);
    host.fill(0xa5);
    let mut allocator = host.frames();
    let machine = TestMachine::new();
    let pool = Pool::new(frames * PIECE, &mut allocator, &machine).unwrap();
    let pool: &'static Pool = Box::leak(Box::new(pool));
    let image = pool.add_image(IMAGE, &Image).unwrap();
    let partitions = accounts
        .iter()
        .zip(7..)
        .map(|((guaranteed, limit), lpid)| {
            let account = pool.open(guaranteed * PIECE, limit * PIECE).unwrap();
            let share = Share::new(pool, account);
            let machine = TestMachine::new();
            let memory =
                GuestMemory::pooled(machine.clone(), 16 << 20, share, &mut allocator).unwrap();
            let config = small(PageSize::P16M);
            let mmu = HashMmu::new(Lpid::new(lpid), memory, config, &mut allocator).unwrap();
            assert_eq!(mmu.map_image(image, IMAGE_AT..), Some(IMAGE));
            mmu.check().unwrap();
            machine.tlb.take();
            Partition {
                mmu,
                machine,
                share,
                image,
            }
        })
        .collect();
    (partitions, allocator, host)
}

fn page(piece: u64) -> Page {
    Page {
        ea: 0xc000_0000_0000_0000 + (piece << 16),
        ..PAGE
    }
}

impl Partition {
    fn enter(&self, piece: u64) -> u64 {
        let page = page(piece);
        self.h_enter(0, page.group(self), page.v(), page.r(piece * PIECE))
            .unwrap()
    }

    fn real(&self, ptex: u64) -> (u64, u64) {
        let entry = self.table().entry(HpteIndex::new(ptex));
        (entry.load_v().get(), entry.load_r().get())
    }

    /// Plays a processor that accesses `page`, which entry `ptex` maps, as far as it gets: where the
    /// byte at the page's start lies. It faults again as long as another one, which the host may have
    /// put off its processor, is between the piece's new word and the entry.
    fn access(&self, page: Page, ptex: u64, kind: AccessKind) -> Result<HostReal, FaultAction> {
        for again in 0..100_000 {
            if again > 4 {
                std::thread::yield_now();
            }
            let (v, r) = self.real(ptex);
            let permitted = kind != Store || r & 3 == 2;
            if v & HpteV::VALID != 0 && permitted {
                let bits = if kind == Store { 0x180 } else { 0x100 };
                self.table().entry(HpteIndex::new(ptex)).hardware_sets(bits);
                return Ok(HostReal::new(r & HOST));
            }
            match self.resolve(&page.fault(kind)) {
                FaultAction::Retry => {}
                action => return Err(action),
            }
        }
        panic!("the same fault again and again");
    }

    fn store(&self, piece: u64, ptex: u64, offset: u64, value: u64) -> Result<(), FaultAction> {
        let host = self.access(page(piece), ptex, Store)?;
        let frame = PoolFrame::new(host);
        frame
            .span()
            .skip(offset)
            .unwrap()
            .write(&value.to_be_bytes());
        Ok(())
    }

    fn load(&self, piece: u64, ptex: u64, offset: u64) -> Result<u64, FaultAction> {
        let host = self.access(page(piece), ptex, Load)?;
        let mut bytes = [0; 8];
        let frame = PoolFrame::new(host);
        frame.span().skip(offset).unwrap().read(&mut bytes);
        Ok(u64::from_be_bytes(bytes))
    }

    /// Every piece of the image is touched once, as if by a load.
    fn touch_image(&self) {
        let memory = &self.mmu.memory;
        memory
            .populate_slot(memory.ram(), IMAGE_AT * PIECE, IMAGE * PIECE)
            .unwrap();
    }

    fn steps(&self) -> Vec<Step> {
        self.machine.tlb.take()
    }

    /// Own and shared pieces.
    fn pieces(&self) -> (u64, u64) {
        let table = self.memory.ram().pieces();
        let has = |bits| {
            (0..table.count())
                .filter(|number| table.load(*number).has(bits))
                .count() as u64
        };
        let shared = has(Piece::READY | Piece::SHARED);
        (has(Piece::READY) - shared, shared)
    }

    fn check_counts(&self) {
        self.check().unwrap();
        let (own, shared) = self.pieces();
        let counts = self.share.counts();
        assert_eq!((counts.used, counts.shared), (own * PIECE, shared * PIECE));
    }
}

#[test]
fn an_image_is_mapped_read_only_while_the_guest_may_store() {
    let (p, _allocator, _host) = partitions(16, &[(4, 12), (4, 12)]);
    for p in &p {
        p.touch_image();
    }
    let ptex = [p[0].enter(IMAGE_AT), p[1].enter(IMAGE_AT)];
    assert_eq!(p[0].real(ptex[0]).1 & 3, 3);
    assert_eq!(p[0].h_read(0, ptex[0]).unwrap()[1] & 3, 2);
    assert!(p[0].needs_vpm());
    let frames = [0, 1].map(|n| p[n].access(page(IMAGE_AT), ptex[n], Load).unwrap());
    assert_eq!(frames[0], frames[1]);
    assert_eq!(p[0].load(IMAGE_AT, ptex[0], 8), Ok(of_image(0, 8)));
    assert_eq!(p[0].access(page(IMAGE_AT), ptex[0], Fetch), Ok(frames[0]));
    // Each of four frames is mapped twice.
    assert_eq!(p[0].memory().saved_bytes(), 4 * PIECE / 2);
    assert_eq!(p[0].share.counts().shared, 4 * PIECE);

    p[0].store(IMAGE_AT, ptex[0], 16, 42).unwrap();
    assert_eq!(p[0].real(ptex[0]).1 & 3, 2);
    assert_eq!(p[0].load(IMAGE_AT, ptex[0], 16), Ok(42));
    assert_eq!(p[0].load(IMAGE_AT, ptex[0], 8), Ok(of_image(0, 8)));
    assert_eq!(p[1].load(IMAGE_AT, ptex[1], 16), Ok(of_image(0, 16)));
    assert_ne!(p[0].access(page(IMAGE_AT), ptex[0], Load), Ok(frames[1]));
    assert_eq!(p[0].memory().saved_bytes(), 3 * PIECE / 2);
    assert_eq!(p[1].memory().saved_bytes(), 3 * PIECE / 2);
    for p in &p {
        p.check_counts();
    }
}

#[test]
fn a_true_protection_fault_still_reaches_the_guest() {
    let (p, _allocator, _host) = partitions(16, &[(4, 12)]);
    let ptex = p[0].enter(IMAGE_AT);
    p[0].h_protect(3, ptex, 0).unwrap();
    let fault = FaultAction::Reflect(GuestFault::Data(Dsisr::from_bits_retain(0x0a00_0000)));
    assert_eq!(p[0].store(IMAGE_AT, ptex, 0, 1), Err(fault));
    assert_eq!(p[0].share.counts().used, 0);
    // What the guest permits again is then granted.
    p[0].h_protect(2, ptex, 0).unwrap();
    assert_eq!(p[0].store(IMAGE_AT, ptex, 0, 1), Ok(()));
    assert_eq!(p[0].share.counts().used, PIECE);
    p[0].check_counts();
}

/// All entries of a piece are hidden, one flush, and only then is any of them told the new frame.
#[test]
fn the_end_of_sharing_flushes_before_the_new_frame_is_named() {
    let (p, _allocator, _host) = partitions(16, &[(4, 12), (4, 12)]);
    p[1].touch_image();
    let p = &p[0];
    let fault = real_mode(IMAGE_AT * PIECE, PageSize::P64K, Load);
    assert_eq!(p.resolve(&fault), FaultAction::Retry);
    let first = p.enter(IMAGE_AT);
    let small = Page {
        ea: 0xc000_0000_4000_0000,
        encoding: PageEncoding::Base4KActual4K,
        ..PAGE
    };
    let r = small.r(IMAGE_AT * PIECE + 0x3000);
    let second = p.h_enter(0, small.group(p), small.v(), r).unwrap();
    let old = p.real(first).1 & HOST;
    p.steps();
    assert_eq!(p.resolve(&page(IMAGE_AT).fault(Store)), FaultAction::Retry);
    let steps = p.steps();
    let new = p.real(first).1 & HOST;
    assert_ne!(old, new);
    assert_eq!(p.real(second).1 & (HOST | 0xf000), new | 0x3000);
    let flush = steps
        .iter()
        .position(|step| matches!(step, Step::Tlbie(..) | Step::TlbieLpid(_)))
        .unwrap();
    let synced = steps.iter().position(|step| matches!(step, Step::Tlbsync));
    let synced = synced.unwrap();
    let names =
        |step: &Step| matches!(step, Step::Store(HpteStore::R(_, r)) if r.get() & HOST == new);
    let hides = |step: &Step| matches!(step, Step::Store(HpteStore::V(_, v)) if !v.is_valid() && v.is_unflushed());
    // Both of the guest's, and the entry of real mode.
    assert_eq!(steps.iter().filter(|step| names(step)).count(), 3);
    assert!(steps[..synced].iter().all(|step| !names(step)));
    assert_eq!(steps[..flush].iter().filter(|step| hides(step)).count(), 3);
    let flushes = steps[flush..]
        .iter()
        .filter(|step| matches!(step, Step::Tlbsync))
        .count();
    assert_eq!(flushes, 1);
    // What the guest made coherent in the old frame must be so in the copy too.
    assert_eq!(p.machine.pages.synchronized.load(Ordering::Relaxed), PIECE);
}

/// The same frame, and as before nobody may store to it before all entries are flushed.
#[test]
fn the_last_sharer_keeps_the_frame() {
    let (p, _allocator, _host) = partitions(16, &[(4, 12)]);
    let p = &p[0];
    let ptex = p.enter(IMAGE_AT);
    let old = p.access(page(IMAGE_AT), ptex, Load);
    let counts = p.share.pool().counts();
    assert_eq!((counts.images, counts.free), (1, 15));
    p.steps();
    assert_eq!(p.store(IMAGE_AT, ptex, 8, 7), Ok(()));
    assert_eq!(p.access(page(IMAGE_AT), ptex, Load), old);
    let permits = |step: &Step| matches!(step, Step::Store(HpteStore::R(_, r)) if r.get() & 3 == 2);
    let steps = p.steps();
    let permitted = steps.iter().position(permits).unwrap();
    let synced = steps.iter().position(|step| matches!(step, Step::Tlbsync));
    assert!(synced.unwrap() < permitted);
    let counts = p.share.pool().counts();
    assert_eq!((counts.images, counts.free, counts.promised), (0, 15, 3));
    assert_eq!(p.load(IMAGE_AT, ptex, 16), Ok(of_image(0, 16)));
    assert_eq!(p.load(IMAGE_AT, ptex, 8), Ok(7));
    p.check_counts();
}

/// No frame until the first touch; a load maps the image's, a store takes one at once; and when all
/// have copies, or are gone, the image has none.
#[test]
fn frames_of_an_image_are_there_while_somebody_maps_them() {
    let (p, _allocator, _host) = partitions(16, &[(2, 12), (2, 12)]);
    let pool = p[0].share.pool();
    let images = || {
        let counts = pool.counts();
        (counts.images, counts.mapped, counts.free)
    };
    let ptex = [p[0].enter(IMAGE_AT), p[1].enter(IMAGE_AT)];
    let mut bytes = [0; 8];
    p[0].memory().read(at(IMAGE_AT, 8), &mut bytes).unwrap();
    assert_eq!(bytes, of_image(0, 8).to_be_bytes());
    assert_eq!(images(), (0, 0, 16));
    assert_eq!(p[0].load(IMAGE_AT, ptex[0], 8), Ok(of_image(0, 8)));
    assert_eq!(images(), (1, 1, 15));
    p[1].store(IMAGE_AT, ptex[1], 16, 5).unwrap();
    assert_eq!(images(), (1, 1, 14));
    assert_eq!(p[1].load(IMAGE_AT, ptex[1], 8), Ok(of_image(0, 8)));
    p[0].store(IMAGE_AT, ptex[0], 16, 6).unwrap();
    assert_eq!(images(), (0, 0, 14));
    p[1].touch_image();
    assert_eq!(images(), (3, 3, 11));
    for p in &p {
        p.check_counts();
    }
    // Starting over, it finds the image's content, not what it had stored.
    p[1].clear_all();
    assert_eq!(images(), (0, 0, 15));
    assert_eq!(p[1].map_image(p[1].image, IMAGE_AT..), Some(IMAGE));
    let ptex = p[1].enter(IMAGE_AT);
    assert_eq!(p[1].load(IMAGE_AT, ptex, 16), Ok(of_image(0, 16)));
    assert_eq!(images(), (1, 1, 14));
    p[1].check_counts();
}

/// Where nobody can map the image, a guaranteed frame has its content; one that has none waits, and
/// not for its limit.
#[test]
fn without_a_frame_for_the_image_a_guaranteed_one_serves() {
    let (p, _allocator, _host) = partitions(6, &[(1, 8), (0, 1)]);
    p[1].memory().write_u8(at(20, 0), 1).unwrap();
    for piece in 20..24 {
        p[0].memory().write_u8(at(piece, 0), 1).unwrap();
    }
    let _ = p[0]
        .protect(SlotId::MEMORY, IMAGE_AT * PIECE, PIECE)
        .flush();
    let ptex = [p[0].enter(IMAGE_AT), p[1].enter(IMAGE_AT)];
    // One is left, beyond what was promised.
    assert_eq!(
        p[1].store(IMAGE_AT, ptex[1], 0, 1),
        Err(FaultAction::NoFrame)
    );
    assert!(p[1].share.is_at_limit());
    p[0].memory().write_u8(at(24, 0), 1).unwrap();
    assert_eq!(p[1].load(IMAGE_AT, ptex[1], 8), Err(FaultAction::NoFrame));
    assert!(!p[1].share.is_at_limit() && !p[1].share.can_take());
    assert_eq!(p[0].load(IMAGE_AT, ptex[0], 8), Err(FaultAction::NoFrame));
    p[0].clear_all();
    assert!(p[1].share.can_take());
    assert_eq!(p[0].map_image(p[0].image, IMAGE_AT..), Some(IMAGE));
    // All but what is promised is an image's: five frames, one of them promised.
    p[1].touch_image();
    let _ = p[0]
        .protect(SlotId::MEMORY, IMAGE_AT * PIECE, PIECE)
        .flush();
    let shared = p[0].enter(IMAGE_AT);
    assert_eq!(p[0].load(IMAGE_AT, shared, 8), Ok(of_image(0, 8)));
    assert_eq!(p[0].pieces(), (0, 1));
    p[1].clear_all();
    for piece in 20..25 {
        let _ = p[1].memory().write_u8(at(piece, 0), 1);
    }
    p[0].check_counts();
    p[1].check_counts();
}

#[test]
fn what_the_hypervisor_writes_is_not_shared_either() {
    let (p, _allocator, _host) = partitions(32, &[(4, 20), (4, 20)]);
    let memory = p[0].memory();
    memory.write(at(IMAGE_AT, PIECE - 4), &[7; 8]).unwrap();
    memory.write_u8(at(IMAGE_AT + 2, 0), 1).unwrap();
    memory.zero(at(IMAGE_AT + 3, 0x1000), 0x1000).unwrap();
    assert_eq!(p[0].share.counts().used, 4 * PIECE);
    let mut bytes = [0; 16];
    p[1].memory()
        .read(at(IMAGE_AT, PIECE - 8), &mut bytes)
        .unwrap();
    assert_eq!(bytes[..8], of_image(0, PIECE - 8).to_be_bytes());
    assert_eq!(bytes[8..], of_image(1, 0).to_be_bytes());
    assert_eq!(p[1].share.counts().used, 0);
    memory.read(at(IMAGE_AT, PIECE - 8), &mut bytes).unwrap();
    assert_eq!(bytes[4..12], [7; 8]);
    assert_eq!(memory.read_be64(at(IMAGE_AT + 3, 0x1000)), Ok(0));
    assert_eq!(
        memory.read_be64(at(IMAGE_AT + 3, 0x2000)),
        Ok(of_image(3, 0x2000))
    );
    // H_PAGE_INIT and H_ENTER with a zeroed page are the guest's stores, made for it.
    let to = IMAGE_AT * PIECE;
    p[1].h_page_init(flags::COPY_PAGE, to, to + PIECE).unwrap();
    assert_eq!(p[1].memory().read_be64(at(IMAGE_AT, 8)), Ok(of_image(1, 8)));
    assert_eq!(
        p[1].memory().read_be64(at(IMAGE_AT, 0x1008)),
        Ok(of_image(0, 0x1008))
    );
    assert_eq!(p[1].share.counts().used, PIECE);
    let zeroed = page(IMAGE_AT + 1);
    let group = zeroed.group(&p[1]);
    p[1].h_enter(flags::ZERO_PAGE, group, zeroed.v(), zeroed.r(to + PIECE))
        .unwrap();
    assert_eq!(p[1].memory().read_be64(at(IMAGE_AT + 1, 8)), Ok(0));
    assert_eq!(memory.read_be64(at(IMAGE_AT + 1, 8)), Ok(of_image(1, 8)));
    for p in &p {
        p.check_counts();
    }
}

#[test]
fn what_was_never_touched_reads_as_zero_and_costs_no_frame() {
    let (p, _allocator, _host) = partitions(16, &[(0, 1)]);
    let memory = p[0].memory();
    let mut bytes = [1; 24];
    memory.read(at(IMAGE_AT, 0), &mut bytes[..8]).unwrap();
    memory
        .read(at(IMAGE_AT - 1, PIECE - 16), &mut bytes)
        .unwrap();
    assert_eq!(bytes[..16], [0; 16]);
    assert_eq!(bytes[16..], of_image(0, 0).to_be_bytes());
    assert_eq!(memory.read_u8(at(9, 5)), Ok(0));
    assert_eq!(memory.read_be32(at(9, 4)), Ok(0));
    assert_eq!(memory.read_be64(at(9, 8)), Ok(0));
    let unaligned = MemoryError::Unaligned {
        at: at(9, 1),
        unit: 8,
    };
    assert_eq!(memory.read_be64(at(9, 1)), Err(unaligned));
    memory.icache_synchronize(at(8, 0), 2 * PIECE).unwrap();
    assert_eq!(p[0].share.counts().used, 0);
    // A copy of what is zero makes its target zero.
    memory.write(at(7, 0), &[5; 16]).unwrap();
    memory.copy(at(7, 0), at(9, 0), 8).unwrap();
    assert_eq!(memory.read_be64(at(7, 0)), Ok(0));
    assert_eq!(memory.read_be64(at(7, 8)), Ok(0x0505_0505_0505_0505));
    assert!(memory.read(at(256, 0), &mut [0]).is_err());
    assert!(memory.read(at(255, PIECE - 1), &mut [0; 2]).is_err());
}
