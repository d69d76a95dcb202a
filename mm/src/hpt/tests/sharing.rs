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

/// Without a frame each way into memory fails before it has done anything, and works when there is one.
#[test]
fn without_a_frame_nothing_is_half_done() {
    let (p, _allocator, _host) = partitions(6, &[(1, 256), (0, 256)]);
    for p in &p {
        p.touch_image();
    }
    let p = &p[0];
    // All but none: four of the image, one promised and taken, one free and taken.
    let other = p.enter(9);
    p.memory().write_u8(at(10, 0), 1).unwrap();
    p.memory().write_u8(at(11, 0), 1).unwrap();
    let shared = p.enter(IMAGE_AT);
    p.steps();
    let before = (p.share.counts(), p.share.pool().counts(), p.hidden());
    assert_eq!(before.1.free, 0);
    assert!(!p.share.is_at_limit());

    assert_eq!(p.store(9, other, 0, 1), Err(FaultAction::NoFrame));
    assert_eq!(p.load(9, other, 0), Err(FaultAction::NoFrame));
    assert_eq!(p.store(IMAGE_AT, shared, 0, 1), Err(FaultAction::NoFrame));
    assert_eq!(p.load(IMAGE_AT, shared, 8), Ok(of_image(0, 8)));
    let memory = p.memory();
    assert!(!memory.was_short());
    let no_frame = |piece, len| {
        Err(MemoryError::NoFrame {
            at: at(piece, 0),
            len,
        })
    };
    assert_eq!(
        memory.write(at(IMAGE_AT, 0), &[1, 2]),
        no_frame(IMAGE_AT, 2)
    );
    assert!(memory.was_short());
    assert_eq!(memory.hold(at(9, 0), 1), no_frame(9, 1));
    assert_eq!(memory.hold(at(10, 0), 1), Ok(()));
    assert_eq!(memory.copy(at(9, 0), at(10, 0), 8), no_frame(9, 8));
    assert_eq!(memory.write_be64(at(9, 0), 1), no_frame(9, 8));
    assert_eq!(
        memory.translate(at(9, 0), 8),
        no_frame(9, 8).map(|()| HostReal::new(0))
    );
    let to = 9 * PIECE;
    for flags in [
        flags::ZERO_PAGE,
        flags::COPY_PAGE,
        flags::ZERO_PAGE | flags::COPY_PAGE,
    ] {
        assert_eq!(
            p.h_page_init(flags, to, 10 * PIECE),
            Err(HcallStatus::NO_FRAME)
        );
    }
    let zeroed = page(12);
    let entered = p.h_enter(
        flags::ZERO_PAGE,
        zeroed.group(p),
        zeroed.v(),
        zeroed.r(12 * PIECE),
    );
    assert_eq!(entered, Err(HcallStatus::NO_FRAME));
    assert_eq!(p.h_read(0, zeroed.group(p)), Ok([0, 0]));
    assert_eq!(memory.read_be64(at(IMAGE_AT, 0)), Ok(of_image(0, 0)));
    assert_eq!(
        (p.share.counts(), p.share.pool().counts(), p.hidden()),
        before
    );
    p.check_counts();

    // A partition that starts over has its frames back.
    p.clear_all();
    assert_eq!(p.share.counts().used, 0);
    assert_eq!(p.share.counts().shared, 0);
    assert_eq!(p.map_image(p.image, IMAGE_AT..), Some(IMAGE));
    assert_eq!(memory.read_be64(at(10, 0)), Ok(0));
    let shared = p.enter(IMAGE_AT);
    assert_eq!(p.store(IMAGE_AT, shared, 0, 1), Ok(()));
    assert_eq!(p.h_page_init(flags::ZERO_PAGE, to, 0), Ok(()));
    p.check_counts();
}

#[test]
fn a_partition_at_its_limit_says_so() {
    let (p, _allocator, _host) = partitions(16, &[(1, 2)]);
    p[0].memory().write_u8(at(10, 0), 1).unwrap();
    p[0].memory().write_u8(at(11, 0), 1).unwrap();
    assert!(p[0].memory().write_u8(at(12, 0), 1).is_err());
    assert!(p[0].share.is_at_limit());
    assert!(p[0].share.pool().counts().free > 0);
}

#[test]
fn an_image_maps_only_what_was_never_touched() {
    let (p, _allocator, _host) = partitions(16, &[(1, 9)]);
    let image = p[0].image;
    // Where it is already; at the end of memory; where a piece was written.
    assert_eq!(p[0].map_image(image, IMAGE_AT..), None);
    assert_eq!(p[0].map_image(image, 254..), None);
    p[0].memory().write_u8(at(21, 0), 1).unwrap();
    assert_eq!(p[0].map_image(image, 20..), None);
    // Places need not follow one another, and fewer than the image has are as many.
    assert_eq!(p[0].map_image(image, [40, 30]), Some(2));
    assert_eq!(p[0].memory().read_be64(at(30, 8)), Ok(of_image(1, 8)));
    p[0].check_counts();
    let own = partition();
    assert_eq!(own.map_image(image, 0..), None);
    assert_eq!(own.memory().saved_bytes(), 0);
}

#[test]
fn pages_are_no_larger_than_a_piece() {
    let (p, _allocator, _host) = partitions(16, &[(1, 9)]);
    let large = Page {
        encoding: PageEncoding::Base16MActual16M,
        ..PAGE
    };
    let entered = p[0].h_enter(0, large.group(&p[0]), large.v(), large.r(0));
    assert_eq!(entered, Err(HcallStatus::PARAMETER));
    let dwords = p[0].pate().unwrap().dwords();
    let own = partition_with(Backing::Eager, small(PageSize::P64K), TlbieErrata::NONE);
    // PS of the real mode area says 64 KiB.
    assert_eq!(dwords[0] >> 5 & 7, own.pate().unwrap().dwords()[0] >> 5 & 7);
}

#[test]
fn memory_goes_back_when_a_partition_ends() {
    let (mut p, mut allocator, _host) = partitions(16, &[(2, 12), (2, 12)]);
    let pool = p[0].share.pool();
    let image = IMAGE;
    for p in &p {
        p.touch_image();
    }
    let before = pool.counts();
    assert_eq!(
        (before.free, before.promised, before.images),
        (12, 4, image)
    );
    for piece in 6..12 {
        p[0].memory().write_u8(at(piece, 0), 1).unwrap();
    }
    let shared = p[0].enter(IMAGE_AT);
    p[0].store(IMAGE_AT, shared, 0, 1).unwrap();
    assert_eq!(pool.counts().free, 5);
    let left = allocator.left();
    let Partition { mmu, .. } = p.remove(0);
    mmu.destroy(&mut allocator).unwrap();
    let after = pool.counts();
    assert_eq!((after.free, after.promised), (12, 4));
    assert_eq!(after.mapped, image);
    assert!(allocator.left() > left);
    p[0].check_counts();
}

#[test]
fn a_guarded_piece_stays_guarded_when_the_hypervisor_writes_it() {
    let (p, _allocator, _host) = partitions(16, &[(4, 12)]);
    let p = &p[0];
    p.touch_image();
    let ptex = p.enter(IMAGE_AT);
    p.start_log(SlotId::MEMORY).unwrap();
    let _ = p.protect(SlotId::MEMORY, IMAGE_AT * PIECE, PIECE).flush();
    let mut log = [0; 1];
    // Both entries have C from the start.
    p.harvest(SlotId::MEMORY, VcpusAre::Running).unwrap();
    p.take_log(SlotId::MEMORY, 0, &mut log);
    let hidden = p.hidden();
    p.memory().write_u8(at(IMAGE_AT, 0), 1).unwrap();
    assert_eq!(p.real(ptex).1 & 3, 3);
    assert_eq!(p.hidden(), hidden);
    p.take_log(SlotId::MEMORY, 0, &mut log);
    assert_eq!(log[0], 1 << (IMAGE_AT * 16));
    p.store(IMAGE_AT, ptex, 0x2000, 1).unwrap();
    assert_eq!(p.hidden(), hidden - 1);
    p.take_log(SlotId::MEMORY, 0, &mut log);
    assert_eq!(log[0], 0xffff << (IMAGE_AT * 16));
    p.check_counts();
}

/// Two processors of one partition, and a third that reads, meet at one piece: it is copied once, and
/// no store is lost.
#[test]
fn two_processors_end_sharing_once() {
    for _ in 0..unless_miri(20, 2) {
        let (mut p, _allocator, _host) = partitions(24, &[(8, 16)]);
        let p = p.remove(0);
        let entries: Vec<u64> = (0..IMAGE).map(|n| p.enter(IMAGE_AT + n)).collect();
        std::thread::scope(|scope| {
            for thread in 0..2 {
                let (p, entries) = (&p, &entries);
                scope.spawn(move || {
                    for (n, ptex) in (0..).zip(entries) {
                        p.store(IMAGE_AT + n, *ptex, 8 * thread, thread + 1)
                            .unwrap();
                        let byte = [u8::try_from(thread).unwrap()];
                        p.memory()
                            .write(at(IMAGE_AT + n, 100 + thread), &byte)
                            .unwrap();
                    }
                });
            }
            let p = &p;
            scope.spawn(move || {
                for n in 0..IMAGE {
                    let value = p.memory().read_be64(at(IMAGE_AT + n, 64));
                    assert_eq!(value, Ok(of_image(n, 64)));
                }
            });
        });
        assert_eq!(p.share.counts().used, IMAGE * PIECE);
        for (n, ptex) in (0..).zip(&entries) {
            for thread in 0..2 {
                assert_eq!(p.load(IMAGE_AT + n, *ptex, 8 * thread), Ok(thread + 1));
                let byte = p.memory().read_u8(at(IMAGE_AT + n, 100 + thread));
                assert_eq!(byte, Ok(u8::try_from(thread).unwrap()));
            }
            assert_eq!(p.load(IMAGE_AT + n, *ptex, 64), Ok(of_image(n, 64)));
        }
        p.check_counts();
    }
}

#[derive(Clone, Copy, Debug)]
enum Op {
    Enter,
    Remove,
    Store(u64),
    Load,
    Write(u64),
    Read,
    Zero,
    Copy(u64),
    Protect,
    StartOver,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        5 => Just(Op::Enter),
        1 => Just(Op::Remove),
        6 => any::<u64>().prop_map(Op::Store),
        6 => Just(Op::Load),
        2 => any::<u64>().prop_map(Op::Write),
        2 => Just(Op::Read),
        1 => Just(Op::Zero),
        2 => (0..PIECES).prop_map(Op::Copy),
        1 => Just(Op::Protect),
        1 => prop_oneof![9 => Just(Op::Load), 1 => Just(Op::StartOver)],
    ]
}

const PIECES: u64 = 7;
const OFFSETS: [u64; 3] = [0, 0x1008, PIECE - 8];

/// What a piece has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing yet.
    Zero,
    /// The image's content, and no frame yet.
    Image,
    /// The image's frame.
    Shared,
    Own,
}

/// A partition of the model: what it holds, of which pieces it has frames, what it has entered.
struct Model {
    guaranteed: u64,
    limit: u64,
    values: BTreeMap<(u64, u64), u64>,
    states: Vec<State>,
    entries: Vec<Option<u64>>,
}

impl Model {
    fn new((guaranteed, limit): (u64, u64)) -> Self {
        let image = |piece: &u64| (IMAGE_AT..IMAGE_AT + IMAGE).contains(piece);
        let mut values = BTreeMap::new();
        for piece in (0..PIECES).filter(image) {
            for offset in OFFSETS {
                values.insert((piece, offset), of_image(piece - IMAGE_AT, offset));
            }
        }
        let state = |piece| {
            if image(&piece) {
                State::Image
            } else {
                State::Zero
            }
        };
        Self {
            guaranteed,
            limit,
            values,
            states: (0..PIECES).map(state).collect(),
            entries: (0..PIECES).map(|_| None).collect(),
        }
    }

    fn get(&self, piece: u64, offset: u64) -> u64 {
        self.values.get(&(piece, offset)).copied().unwrap_or(0)
    }

    fn count(&self, state: State) -> u64 {
        self.states.iter().filter(|other| **other == state).count() as u64
    }

    fn used(&self) -> u64 {
        self.count(State::Own)
    }

    fn promised(&self) -> u64 {
        self.guaranteed.saturating_sub(self.used())
    }
}

const FRAMES: u64 = IMAGE + 8;

/// Frames that the image has.
fn resident(models: &[Model; 2]) -> u64 {
    let states = models[0].states.iter().zip(&models[1].states);
    states
        .filter(|(a, b)| **a == State::Shared || **b == State::Shared)
        .count() as u64
}

fn free(models: &[Model; 2]) -> u64 {
    FRAMES - models[0].used() - models[1].used() - resident(models)
}

fn is_any_free(models: &[Model; 2]) -> bool {
    free(models) > models[0].promised() + models[1].promised()
}

/// Whether a partition can have a frame more.
fn can_take(models: &[Model; 2], who: usize) -> bool {
    let model = &models[who];
    model.used() < model.limit && (model.promised() > 0 || is_any_free(models))
}

/// What a piece becomes by a store, if it can.
fn written(models: &[Model; 2], who: usize, n: usize) -> Option<State> {
    let model = &models[who];
    let can = match model.states[n] {
        State::Own => true,
        State::Shared if models[1 - who].states[n] != State::Shared => model.used() < model.limit,
        _ => can_take(models, who),
    };
    can.then_some(State::Own)
}

/// What a piece becomes by a load of the guest, if it can.
fn loaded(models: &[Model; 2], who: usize, n: usize) -> Option<State> {
    match models[who].states[n] {
        State::Zero => can_take(models, who).then_some(State::Own),
        State::Image if models[1 - who].states[n] == State::Shared || is_any_free(models) => {
            Some(State::Shared)
        }
        State::Image => (models[who].promised() > 0).then_some(State::Own),
        state => Some(state),
    }
}

proptest! {
    #![proptest_config(config())]

    /// Random guests, two in one pool that is too small for both, against a naive model: no store of
    /// one is ever seen by the other, nothing is lost where there is no frame, and the counts balance.
    #[test]
    fn partitions_that_share_agree_with_a_model(
        steps in proptest::collection::vec((0..2_usize, 0..PIECES, 0..3_usize, op()), 1..steps(120)),
    ) {
        let accounts = [(3, 10), (2, 8)];
        let (mut p, mut allocator, _host) = partitions(FRAMES, &accounts);
        let mut models = accounts.map(Model::new);
        for (who, piece, which, op) in steps {
            let n = usize::try_from(piece).unwrap();
            let offset = OFFSETS[which];
            let (written, loaded) = (written(&models, who, n), loaded(&models, who, n));
            let (p, model) = (&p[who], &mut models[who]);
            match op {
                Op::Enter if model.entries[n].is_none() => {
                    model.entries[n] = Some(p.enter(piece));
                }
                Op::Remove => {
                    if let Some(ptex) = model.entries[n].take() {
                        p.h_remove(0, ptex, 0).unwrap();
                    }
                }
                Op::Store(value) => if let Some(ptex) = model.entries[n] {
                    let done = p.store(piece, ptex, offset, value);
                    if let Some(state) = written {
                        prop_assert_eq!(done, Ok(()));
                        model.states[n] = state;
                        model.values.insert((piece, offset), value);
                    } else {
                        prop_assert_eq!(done, Err(FaultAction::NoFrame));
                    }
                },
                Op::Load => if let Some(ptex) = model.entries[n] {
                    let value = p.load(piece, ptex, offset);
                    if let Some(state) = loaded {
                        prop_assert_eq!(value, Ok(model.get(piece, offset)));
                        model.states[n] = state;
                    } else {
                        prop_assert_eq!(value, Err(FaultAction::NoFrame));
                    }
                },
                Op::Write(_) | Op::Zero | Op::Copy(_) => {
                    let page = piece * PIECE + (offset & !0xfff);
                    let (done, value) = match op {
                        Op::Write(value) => {
                            let bytes = value.to_be_bytes();
                            (p.memory().write(at(piece, offset), &bytes).is_ok(), value)
                        }
                        Op::Copy(from) => {
                            let source = from * PIECE + (offset & !0xfff);
                            let done = p.h_page_init(flags::COPY_PAGE, page, source);
                            (done.is_ok(), model.get(from, offset))
                        }
                        _ => (p.h_page_init(flags::ZERO_PAGE, page, 0).is_ok(), 0),
                    };
                    prop_assert_eq!(done, written.is_some());
                    if let Some(state) = written {
                        model.states[n] = state;
                        model.values.insert((piece, offset), value);
                    }
                }
                Op::Protect => {
                    let _ = p.protect(SlotId::MEMORY, piece * PIECE, PIECE).flush();
                }
                Op::StartOver => {
                    p.clear_all();
                    prop_assert_eq!(p.map_image(p.image, IMAGE_AT..), Some(IMAGE));
                    *model = Model::new(accounts[who]);
                }
                Op::Enter | Op::Read => {}
            }
            for (p, model) in [(&p.mmu, &models[who])] {
                for piece in 0..PIECES {
                    for offset in OFFSETS {
                        let value = p.memory().read_be64(at(piece, offset));
                        prop_assert_eq!(value, Ok(model.get(piece, offset)));
                    }
                }
            }
            let counts = p.share.pool().counts();
            prop_assert_eq!(counts.free, free(&models));
            prop_assert_eq!(counts.images, resident(&models));
            prop_assert_eq!(counts.promised, models[0].promised() + models[1].promised());
        }
        for (p, model) in p.iter().zip(&models) {
            p.check_counts();
            prop_assert_eq!(p.share.counts().used, model.used() * PIECE);
            prop_assert_eq!(p.share.counts().shared, model.count(State::Shared) * PIECE);
            for piece in 0..PIECES {
                for offset in OFFSETS {
                    let value = p.memory().read_be64(at(piece, offset));
                    prop_assert_eq!(value, Ok(model.get(piece, offset)));
                }
            }
        }
        let pool = p[0].share.pool();
        while let Some(Partition { mmu, .. }) = p.pop() {
            mmu.destroy(&mut allocator).unwrap();
        }
        let counts = pool.counts();
        prop_assert_eq!((counts.free, counts.images, counts.mapped), (FRAMES, 0, 0));
        prop_assert_eq!(counts.promised, 5);
    }
}
