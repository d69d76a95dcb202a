// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What partitions take of the pool, and give back; and what happens without a frame.

use super::*;

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

/// No page of 16 MiB may map shared memory, so what begins where one would is of no concern to a piece
/// further up: however many entries the guest has made for it.
#[test]
fn a_store_to_an_image_looks_at_no_larger_page() {
    let (p, _allocator, _host) = partitions(16, &[(8, 256)]);
    let p = &p[0];
    for number in 0..64 {
        let small = Page {
            ea: 0xc000_0000_0100_0000 + (number << 12),
            encoding: PageEncoding::Base4KActual4K,
            ..PAGE
        };
        p.h_enter(flags::EXACT, number * 8 + 1, small.v(), small.r(0))
            .unwrap();
    }
    let shared = p.enter(IMAGE_AT);
    p.load(IMAGE_AT, shared, 0).unwrap();
    p.steps();
    p.store(IMAGE_AT, shared, 0, 1).unwrap();
    let unlocked = |step: &&Step| matches!(step, Step::Store(HpteStore::V(..)));
    assert!(p.steps().iter().filter(unlocked).count() < 16);
    p.check().unwrap();
}

/// Idle processors take nothing of a pool: who needs a frame has it.
#[test]
fn nothing_is_taken_ahead() {
    let (p, _allocator, _host) = partitions(6, &[(1, 256)]);
    let p = &p[0];
    p.enter(9);
    let before = (p.share.counts(), p.hidden());
    assert_eq!(p.back_ahead(), Ahead::Done);
    assert_eq!((p.share.counts(), p.hidden()), before);
}
