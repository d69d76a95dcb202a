// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a resize does to those that know the table beside its guest: processors, readers of the stream,
//! the log of what was written, pages that are guarded, and other partitions.

use super::super::flags::EXACT;
use super::order::{broken_rules, valid_entries};
use super::*;
use crate::guest_memory::SlotId;
use crate::partition_table::PartitionTable;
use crate::stream::{
    ByteOrder, Change, Encoding, ParsedStream, ReadError, StartsFrom, StreamOptions, StreamReader,
};
use core::num::NonZeroU32;
use penstock_arch::tlb::PateStore;
use std::collections::{BTreeMap, BTreeSet};
use std::vec;

const RAM: SlotId = SlotId::MEMORY;
const R: u64 = 0x100;
const C: u64 = 0x80;

fn resizable_with(backing: Backing, order: u32) -> Fixture {
    let config = HptConfig {
        resize: HptOrder::new(20),
        ..HptConfig::new(HptOrder::new(order).unwrap())
    };
    partition_with(backing, config, TlbieErrata::NONE)
}

fn resizable(order: u32) -> Fixture {
    resizable_with(Backing::Eager, order)
}

fn resize(p: &HashMmu<TestMachine>, order: u32) {
    while p.h_resize_hpt_prepare(0, order.into()) != HcallStatus::SUCCESS {}
    p.h_resize_hpt_commit(0, order.into(), |_| ()).unwrap();
    p.check().unwrap();
}

/// Two 4K pages which meet in the smallest table; in the next one, the second is in the upper half.
fn rivals(number: u64) -> [Page; 2] {
    [2048, 0].map(|more| Page {
        ea: 0xc000_0000_0000_0000 + ((number + more) << 12),
        encoding: PageEncoding::Base4KActual4K,
        ..PAGE
    })
}

/// Enters a page into slot 1 of its group, where it maps guest page `at`, neither used nor written.
fn enter(p: &HashMmu<TestMachine>, page: Page, at: u64) -> u64 {
    let (v, r) = (page.v(), page.r(at << 12) & !(R | C));
    p.h_enter(EXACT, page.group(p) + 1, v, r).unwrap()
}

fn written(p: &Fixture) -> BTreeSet<u64> {
    p.harvest(RAM, VcpusAre::Running).unwrap();
    let mut words = vec![0; 128];
    p.take_log(RAM, 0, &mut words);
    (0..8192)
        .filter(|at| words[*at / 64] >> (at % 64) & 1 != 0)
        .map(|at| at as u64)
        .collect()
}

#[test]
fn processors_forget_the_table_before_it_is_moved_and_after_it_is_replaced() {
    const FLUSH: [Step; 5] = [
        Step::Ptesync,
        Step::TlbieLpid(LPID),
        Step::Eieio,
        Step::Tlbsync,
        Step::Ptesync,
    ];
    let p = resizable(19);
    for (number, page) in rivals(0).into_iter().enumerate() {
        enter(&p, page, number as u64);
    }
    let host = TestMemory::new(1 << 24);
    let frames = host.frames().alloc(1 << 12, 1 << 12).unwrap();
    let table = PartitionTable::new(frames, &p.machine).unwrap();
    assert_eq!(p.h_resize_hpt_prepare(0, 18), HcallStatus::SUCCESS);
    p.steps();
    let old = p.hpt_base();
    p.h_resize_hpt_commit(0, 18, |pate| {
        assert!(table.set(&p.machine, LPID, pate));
    })
    .unwrap();
    let steps = p.steps();
    let switch = steps
        .iter()
        .position(|step| matches!(step, Step::PateStore(_)))
        .unwrap();
    let (before, after) = steps.split_at(switch);
    // R and C are final before any entry is looked at.
    assert_eq!(before[..5], FLUSH);
    // The one that has no place is hidden, flushed and removed, and all this and the new table's content
    // is done when processors are told of it.
    let stores = before
        .iter()
        .filter(|step| matches!(step, Step::Store(_)))
        .count();
    assert_eq!(stores, 2);
    assert!(before.windows(5).skip(1).any(|steps| steps == FLUSH));
    assert_eq!(before.last(), Some(&Step::Ptesync));
    // Nothing is stored to either table from then on.
    let [dword0, dword1] = p.pate().unwrap().dwords();
    assert_ne!(p.hpt_base(), old);
    assert_eq!(dword0 & 0x0fff_ffff_ffff_f000, p.hpt_base().get());
    let lpid = LPID;
    let store = |dword, value| Step::PateStore(PateStore { lpid, dword, value });
    let switched = [
        store(0, 0),
        Step::Eieio,
        store(1, dword1),
        Step::Eieio,
        store(0, dword0),
        Step::Ptesync,
        Step::TlbiePate(LPID),
        Step::Eieio,
        Step::Tlbsync,
        Step::Ptesync,
    ];
    assert_eq!(after, [&switched[..], &FLUSH].concat());
}

#[test]
fn c_that_a_processor_holds_back_is_not_lost() {
    let p = resizable(19);
    p.start_log(RAM).unwrap();
    written(&p);
    let indexes: Vec<_> = (0..2)
        .flat_map(|number| rivals(number).map(|page| (number, page)))
        .enumerate()
        .map(|(at, (_, page))| enter(&p, page, at as u64 + 16))
        .collect();
    assert_eq!(written(&p), BTreeSet::new());
    assert_eq!(p.h_resize_hpt_prepare(0, 18), HcallStatus::SUCCESS);
    // The processors store C when they are invalidated for the first time, and not later.
    let mmu = Arc::clone(&p.mmu);
    let mut held_back = Some(indexes);
    p.machine.tlb.set_hook(move |step| {
        if matches!(step, Step::TlbieLpid(_)) {
            for at in held_back.take().unwrap_or_default() {
                mmu.table().entry(HpteIndex::new(at)).hardware_sets(R | C);
            }
        }
    });
    p.h_resize_hpt_commit(0, 18, |_| ()).unwrap();
    p.machine.tlb.clear_hook();
    let kept: Vec<_> = everything(&p)
        .into_values()
        .filter(|[v, _]| v >> 62 == 1 && v >> 24 & 0xfff_ffff == PAGE.vsid)
        .collect();
    assert_eq!(kept.len(), 2);
    assert!(kept.iter().all(|[_, r]| r & (R | C) == R | C));
    // Of those that are gone, too.
    assert_eq!(written(&p), (16..20).collect());
    assert_eq!(written(&p), BTreeSet::new());
    assert_eq!(p.resize_counts().entries.displaced, 2);
}

#[test]
fn what_is_guarded_or_absent_stays_so() {
    let p = resizable_with(Backing::Lazy, 18);
    let [page, other] = rivals(5);
    let fault = |page: Page, kind| p.resolve(&page.fault(kind));
    enter(&p, page, 0x1005);
    assert_eq!(fault(page, AccessKind::Store), FaultAction::Retry);
    let _ = p.protect(RAM, 0x100_0000, 0x1_0000).flush();
    p.h_enter(
        EXACT,
        other.other_group(&p),
        other.v() | 2,
        other.r(0x108_0000),
    )
    .unwrap();
    let hidden = p.hidden();
    for order in [20, 18, 19, 19] {
        resize(&p, order);
        assert_eq!(p.hidden(), hidden);
        // No right to store in the real one.
        assert_eq!(p.real(page.group(&p) + 1).1 & 3, 3);
        assert_eq!(p.h_read(0, page.group(&p) + 1).unwrap()[1] & 3, 2);
        let absent = p.real(other.other_group(&p)).0;
        assert_eq!(absent & (HpteV::VALID | HpteV::ABSENT), HpteV::ABSENT);
    }
    assert_eq!(fault(page, AccessKind::Store), FaultAction::Retry);
    assert_eq!(fault(other, AccessKind::Load), FaultAction::Retry);
    assert_eq!(p.real(page.group(&p) + 1).1 & 3, 2);
    assert_eq!(p.real(other.other_group(&p)).0 & 1, 1);
    assert_eq!(p.hidden(), hidden - 2);
    p.check().unwrap();
}

#[test]
fn fault_during_resize_retries() {
    let p = resizable_with(Backing::Lazy, 19);
    let [kept, dropped] = rivals(3);
    enter(&p, kept, 0x1001);
    enter(&p, dropped, 0x1002);
    // What the processor found before is looked for anew in the table that there is then.
    let faults = [kept, dropped].map(|page| page.fault(AccessKind::Store));
    resize(&p, 18);
    assert_eq!(p.resolve(&faults[0]), FaultAction::Retry);
    assert_eq!(p.real(kept.group(&p) + 1).0 & 1, 1);
    let reflected = FaultAction::Reflect(GuestFault::Data(Dsisr::from_bits_retain(0x4200_0000)));
    assert_eq!(p.resolve(&faults[1]), reflected);
    p.check().unwrap();
}

#[test]
fn a_resize_of_one_partition_leaves_another_alone() {
    let host = TestMemory::new(6 << 24);
    let mut allocator = host.frames();
    let machine = TestMachine::new();
    let mut make = |lpid| {
        let memory =
            GuestMemory::new(machine.clone(), 32 << 20, Backing::Lazy, &mut allocator).unwrap();
        let config = HptConfig {
            resize: HptOrder::new(20),
            ..HptConfig::new(HptOrder::MIN)
        };
        HashMmu::new(Lpid::new(lpid), memory, config, &mut allocator).unwrap()
    };
    let (one, other) = (make(1), make(2));
    for (number, page) in (0..64).flat_map(rivals).enumerate() {
        for mmu in [&one, &other] {
            let _ = mmu.h_enter(
                0,
                page.group(mmu),
                page.v(),
                page.r(number as u64) & !0xf000,
            );
        }
    }
    let before = (everything(&other), other.hidden(), other.pate());
    machine.tlb.take();
    for order in [20, 18, 19] {
        resize(&one, order);
    }
    assert!(machine.tlb.take().into_iter().all(|step| match step {
        Step::Tlbie(_, lpid) | Step::TlbieLpid(lpid) => lpid == Lpid::new(1),
        _ => true,
    }));
    assert_eq!((everything(&other), other.hidden(), other.pate()), before);
    other.check().unwrap();
}

/// What one reader's consumer has, from the passes alone.
#[derive(Default)]
struct Copy(BTreeMap<u64, [u64; 2]>);

impl Copy {
    fn apply(&mut self, bytes: &[u8], entries: u64) {
        let encoding = Encoding::Bare(ByteOrder::Little);
        let stream =
            ParsedStream::parse(bytes, encoding, entries, StartsFrom::CurrentTable).unwrap();
        for (_, change) in stream.changes() {
            match change {
                Change::Set { index, entry } => {
                    self.0.insert(index.get(), [entry.v.get(), entry.r.get()]);
                }
                Change::Clear { first, count } => {
                    for at in first.get()..first.get() + count {
                        self.0.remove(&at);
                    }
                }
            }
        }
    }
}

/// A reader, its stream, and the copy.
struct Follower<'a> {
    source: HptReader<'a, TestMachine>,
    stream: StreamReader,
    copy: Copy,
    begun: u64,
}

impl<'a> Follower<'a> {
    fn new(p: &'a Fixture) -> Self {
        let source = p.reader().unwrap();
        let stream = Self::stream(&source);
        Self {
            source,
            stream,
            copy: Copy::default(),
            begun: 1,
        }
    }

    fn stream(source: &HptReader<'_, TestMachine>) -> StreamReader {
        let options = StreamOptions {
            scan_limit: NonZeroU32::new(3001).unwrap(),
            ..StreamOptions::new(ByteOrder::Little)
        };
        StreamReader::new(source, options).unwrap()
    }

    /// One call; whether it ended a pass. Begins anew where it must.
    fn step(&mut self) -> bool {
        let mut buffer = [0; 400];
        match self.stream.read(&mut self.source, &mut buffer) {
            Ok(progress) => {
                let entries = crate::stream::HptSource::entries(&self.source);
                self.copy.apply(&buffer[..progress.bytes], entries);
                progress.pass_ended
            }
            Err(ReadError::TableReplaced { before, now }) => {
                assert_ne!(before, now);
                self.stream = Self::stream(&self.source);
                self.copy = Copy::default();
                self.begun += 1;
                false
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn pass(&mut self) {
        while !self.step() {}
    }
}

#[test]
fn readers_begin_anew_with_a_table_of_another_size() {
    let p = resizable(18);
    let [page, other] = rivals(1);
    enter(&p, page, 1);
    let mut followers: Vec<_> = (0..4).map(|_| Follower::new(&p)).collect();
    followers.iter_mut().for_each(Follower::pass);
    followers[0].step();
    resize(&p, 19);
    let mut buffer = [0; 400];
    let Follower { source, stream, .. } = &mut followers[0];
    let error = ReadError::TableReplaced {
        before: 1 << 14,
        now: 1 << 15,
    };
    for _ in 0..2 {
        assert_eq!(stream.read(source, &mut buffer), Err(error));
    }
    for follower in &mut followers {
        follower.pass();
        assert_eq!(follower.begun, 2);
        assert_eq!(follower.copy.0, everything(&p));
        follower.pass();
        assert_eq!(follower.copy.0, everything(&p));
    }
    // Each is told what changes from then on, in the part that the first table did not have, too.
    let at = enter(&p, other, 2);
    assert!(at >= 1 << 14);
    for follower in &mut followers {
        follower.pass();
        assert_eq!(follower.copy.0, everything(&p));
        assert!(follower.copy.0.contains_key(&at));
        assert_eq!(follower.begun, 2);
    }
}

#[test]
fn a_resize_and_back_between_two_calls_is_told_as_changes() {
    let p = resizable(19);
    let pages: Vec<_> = (0..40).flat_map(rivals).collect();
    for (number, page) in pages.iter().enumerate() {
        enter(&p, *page, number as u64);
    }
    let mut follower = Follower::new(&p);
    // In the middle of the first pass, and after it.
    for _ in 0..8 {
        follower.step();
    }
    assert!(follower.stream.is_first_pass() && !follower.copy.0.is_empty());
    for number in 0..unless_miri(2, 1) {
        resize(&p, 18);
        // One that has another number in the larger table, and one fewer.
        enter(&p, rivals(100 + number)[1], number);
        p.h_remove(
            0,
            pages[usize::try_from(number).unwrap() * 2].group(&p) + 1,
            0,
        )
        .unwrap();
        resize(&p, 19);
        while !follower.step() {}
        follower.pass();
        assert_eq!(follower.begun, 1);
        assert_eq!(follower.copy.0, everything(&p));
        enter(
            &p,
            Page {
                vsid: number,
                ..PAGE
            },
            0,
        );
    }
    assert_eq!(p.resize_counts().entries.displaced, 40);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: config().cases.div_ceil(4), ..config() })]

    /// A copy that applies passes, and begins anew when it is told so, is the table.
    #[test]
    fn passes_and_resizes_keep_a_copy_equal(
        lazy: bool,
        ops in prop::collection::vec((0..64_u64, 0..2_usize, 0_u8..12, 0..3_usize), 1..steps(100)),
    ) {
        let backing = if lazy { Backing::Lazy } else { Backing::Eager };
        let p = resizable_with(backing, 19);
        p.start_log(RAM).unwrap();
        let mut stored = written(&p);
        let mut logged = stored.clone();
        let mut followers = [Follower::new(&p), Follower::new(&p)];
        let mut steps = Vec::new();
        for (number, which, op, follower) in ops {
            let page = rivals(number % 16)[which];
            let at = page.group(&p) + 1;
            match op {
                0..4 => {
                    let _ = p.h_enter(EXACT, at, page.v(), page.r(number << 12) & !(R | C));
                }
                4 => { let _ = p.h_remove(0, at, 0); }
                5 => { let _ = p.h_protect(number & 3, at, 0); }
                6 | 7 if p.real(at).0 & HpteV::VALID != 0 => {
                    p.hardware_sets(at, R | C);
                    stored.insert(p.h_read(0, at).unwrap()[1] >> 12 & 0x1fff);
                }
                8 => {
                    resize(&p, 18 + u32::try_from(number % 3).unwrap());
                    steps.extend(p.steps());
                    prop_assert_eq!(broken_rules(&steps), Vec::<usize>::new());
                    steps = valid_entries(&p);
                }
                9 => logged.extend(written(&p)),
                _ => match followers.get_mut(follower) {
                    Some(follower) => { follower.step(); }
                    None => { let _ = p.h_clear_ref(0, at); }
                },
            }
        }
        for mut follower in followers {
            follower.source.before_pass(VcpusAre::Stopped);
            // The rest of a pass that had begun, and a whole one.
            follower.pass();
            follower.pass();
            prop_assert_eq!(follower.copy.0, everything(&p));
        }
        logged.extend(written(&p));
        prop_assert!(stored.is_subset(&logged), "{:?}", stored.difference(&logged));
        prop_assert!(p.check().is_ok(), "{:?}", p.check());
        steps.extend(p.steps());
        prop_assert_eq!(broken_rules(&steps), Vec::<usize>::new());
    }
}
