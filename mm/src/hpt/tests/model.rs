// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Random calls against a naive model: a map from entry number to what the guest sees there.

use super::super::flags::{ANDCOND, AVPN, EXACT};
use super::order::{broken_rules, valid_entries};
use super::*;
use penstock_arch::regs::Srr1;
use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::vec;

/// One thing that a guest, or its hardware, does.
#[derive(Clone, Debug)]
enum Op {
    Enter {
        exact: bool,
        ptex: u64,
        v: u64,
        r: u64,
    },
    Remove {
        flags: u64,
        ptex: u64,
        avpn: u64,
    },
    Protect {
        flags: u64,
        ptex: u64,
        avpn: u64,
    },
    BulkRemove {
        specs: [u64; 8],
    },
    BlockRemove {
        ava: u64,
        specs: [u64; 8],
    },
    ClearRef(u64),
    ClearMod(u64),
    Read4(u64),
    Hardware {
        ptex: u64,
        store: bool,
    },
    Fault {
        page: Page,
        kind: AccessKind,
        problem: bool,
    },
    /// To a table of so many bytes, as a binary logarithm.
    Resize(u32),
}

type Guest = BTreeMap<u64, (u64, u64)>;

/// What the guest sees, entry by entry, and nothing else.
struct Model {
    entries: u64,
    guest: Guest,
}

const PARAMETER: HcallStatus = HcallStatus::PARAMETER;
const NOT_FOUND: HcallStatus = HcallStatus::NOT_FOUND;

/// Page sizes (base, actual) by L and LP, as the device tree lists them.
fn sizes(v: u64, r: u64) -> Option<(u64, u64)> {
    const K: u64 = 1 << 10;
    const M: u64 = 1 << 20;
    if v & 4 == 0 {
        return Some((4 * K, 4 * K));
    }
    [
        (4 * K, 64 * K, 7),
        (4 * K, 16 * M, 0x38),
        (64 * K, 64 * K, 1),
        (64 * K, 16 * M, 8),
        (16 * M, 16 * M, 0),
    ]
    .into_iter()
    .find(|(_, actual, lp)| r & (actual - 1) & 0xff_f000 == lp << 12)
    .map(|(base, actual, _)| (base, actual))
}

impl Model {
    fn enter(&mut self, exact: bool, ptex: u64, v: u64, r: u64) -> Result<u64, HcallStatus> {
        if ptex >= self.entries || v & 0xbff0_0000_0000_0000 != 0 || r & 0x78 != 0x10 {
            return Err(PARAMETER);
        }
        let (_, actual) = sizes(v, r).ok_or(PARAMETER)?;
        let page = r & 0x0fff_ffff_ffff_f000 & !(actual - 1);
        if page >= 32 << 20 {
            return Err(PARAMETER);
        }
        let slots = if exact {
            ptex..ptex + 1
        } else {
            ptex & !7..(ptex & !7) + 8
        };
        let at = slots.into_iter().find(|at| !self.guest.contains_key(at));
        let at = at.ok_or(HcallStatus::PTEG_FULL)?;
        self.guest
            .insert(at, (v & !0x60 | 1, r & !0x7000_0000_0000_0e00));
        Ok(at)
    }

    fn find(&self, flags: u64, ptex: u64, avpn: u64) -> Result<(u64, u64), HcallStatus> {
        if ptex >= self.entries {
            return Err(PARAMETER);
        }
        let (v, r) = *self.guest.get(&ptex).ok_or(NOT_FOUND)?;
        if flags & AVPN != 0 && v & !0x7f != avpn || flags & ANDCOND != 0 && v & avpn != 0 {
            return Err(NOT_FOUND);
        }
        Ok((v, r))
    }

    fn remove(&mut self, flags: u64, ptex: u64, avpn: u64) -> Result<(u64, u64), HcallStatus> {
        let found = self.find(flags, ptex, avpn)?;
        self.guest.remove(&ptex);
        Ok(found)
    }

    fn protect(&mut self, flags: u64, ptex: u64, avpn: u64) -> Result<(), HcallStatus> {
        let (v, r) = self.find(flags & AVPN, ptex, avpn)?;
        let bits = (flags & 0x100) << 55 | flags & 7;
        self.guest
            .insert(ptex, (v, r & !0x8000_0000_0000_0107 | bits));
        Ok(())
    }

    fn clear(&mut self, ptex: u64, bit: u64) -> Result<u64, HcallStatus> {
        let (v, r) = self.find(0, ptex, 0)?;
        self.guest.insert(ptex, (v, r & !bit));
        Ok(r)
    }

    fn bulk_remove(&mut self, specs: &mut [u64; 8]) -> HcallStatus {
        for i in [0, 2, 4, 6] {
            let (high, avpn) = (specs[i], specs[i + 1]);
            let (flags, avpn) = match high >> 56 {
                kind if kind & 0xc0 == 0xc0 => return HcallStatus::SUCCESS,
                kind if kind & 0xc0 != 0x40 => return PARAMETER,
                kind => match kind & 3 {
                    0 => (0, 0),
                    1 => (ANDCOND, avpn),
                    2 => (AVPN, avpn),
                    _ => {
                        specs[i] = high & 0x03ff_ffff_ffff_ffff | 0xa0 << 56;
                        return PARAMETER;
                    }
                },
            };
            let result = self.remove(flags, high & 0x00ff_ffff_ffff_ffff, avpn);
            specs[i] = high & 0x03ff_ffff_ffff_ffff
                | match result {
                    Ok((_, r)) => 0x80 << 56 | (r & 0x180) << 51,
                    Err(NOT_FOUND) => 0x90 << 56,
                    Err(_) => 0xa0 << 56,
                };
            if result == Err(PARAMETER) {
                return PARAMETER;
            }
        }
        HcallStatus::SUCCESS
    }

    /// What H_BLOCK_REMOVE compares: sizes, and the block's first byte in the virtual address
    /// space. The page is the one in the entry's eight MiB that hashes to its group.
    fn block(&self, at: u64, v: u64, r: u64) -> Option<(u64, u64, u64, u128)> {
        let (base, actual) = sizes(v, r)?;
        let (segment, vsid) = match v >> 62 {
            0 => (28, v >> 12 & 0xff_ffff_ffff),
            _ => (40, v >> 24 & 0xfff_ffff),
        };
        let address = u128::from(v & 0x000f_ffff_ffff_ff80) << 16;
        let group = if v & 2 == 0 { at / 8 } else { !(at / 8) };
        let page = (0..1_u64 << 23).step_by(usize::try_from(base).unwrap());
        let low = page.take(2048).find(|low| {
            let size = if segment == 28 {
                SegmentSize::S256M
            } else {
                SegmentSize::S1T
            };
            let base = PageSize::ALL.into_iter().find(|size| size.bytes() == base);
            let hash = pteg_hash(vsid, EffectiveAddr::new(*low), size, base.unwrap());
            let known = (1_u64 << 23).div_ceil(base.unwrap().bytes()) - 1;
            (hash ^ group) & known == 0
        })?;
        let first = (address | u128::from(low)) / u128::from(base * 8);
        Some((base, actual, segment, first))
    }

    fn block_remove(&mut self, ava: u64, specs: &mut [u64; 8]) -> HcallStatus {
        let end = specs.iter().position(|spec| spec >> 62 == 3).unwrap_or(8);
        if specs[..end].iter().any(|spec| spec >> 62 != 1) {
            return PARAMETER;
        }
        let mut anchor = None;
        let mut status = HcallStatus::SUCCESS;
        for spec in &mut specs[..end] {
            let at = *spec & 0xffff_ffff_ffff;
            let first = match self.guest.get(&at).copied() {
                _ if at >= self.entries => 0x90,
                None => 0x88,
                Some((v, r)) => {
                    let block = self.block(at, v, r).unwrap();
                    let inside = (block.0 * 8 - 1) >> 16 & !0x7f;
                    if v & 0x10 != 0 || *spec & 1 << 56 != 0 && (v & !0x7f ^ ava) & !inside != 0 {
                        0x88
                    } else {
                        let anchor = *anchor.get_or_insert(block);
                        if (anchor.0, anchor.1, anchor.2) != (block.0, block.1, block.2) {
                            0x98
                        } else if anchor != block {
                            0xa8
                        } else {
                            self.guest.remove(&at);
                            0x80 | (r & 0x180) >> 6
                        }
                    }
                }
            };
            if first & 0xf8 != 0x80 {
                status = HcallStatus::PARTIAL;
            }
            *spec = *spec & !(0xfe << 56) | first << 56;
        }
        status
    }

    /// The entry's number in a table of `1 << order` bytes, if a search of this one finds it: which page
    /// it maps is found by trying all that its first doubleword may stand for.
    fn place(&self, at: u64, v: u64, r: u64, order: u32) -> Option<u64> {
        let (base, _) = sizes(v, r)?;
        let (segment, shift, vsid) = match v >> 62 {
            0 => (SegmentSize::S256M, 28, v >> 12 & 0xff_ffff_ffff),
            _ => (SegmentSize::S1T, 40, v >> 24 & 0x3fff_ffff),
        };
        let high = v << 16 & ((1 << shift) - 1) & !0x7f_ffff;
        let base = PageSize::ALL
            .into_iter()
            .find(|size| size.bytes() == base)?;
        let groups = self.entries / 8 - 1;
        let hash = (0..1_u64 << 23)
            .step_by(usize::try_from(base.bytes()).unwrap())
            .map(|low| pteg_hash(vsid, EffectiveAddr::new(high + low), segment, base))
            .map(|hash| if v & 2 == 0 { hash } else { !hash })
            .find(|hash| hash & groups == at / 8)?;
        Some((hash & ((1 << (order - 7)) - 1)) * 8 + at % 8)
    }

    /// `false`, and no change, where two bolted entries need one place.
    fn resize(&mut self, order: u32) -> bool {
        /// How strong an entry's claim is: none, bolted, and real mode's own, which give way to each other.
        fn claim(v: u64) -> u8 {
            match v & 0x10 {
                0 => 0,
                _ if v >> 62 == 1 && v << 2 >> 26 == 0x1ff_ffff => 2,
                _ => 1,
            }
        }
        let mut new = Guest::new();
        for (&at, &(v, r)) in &self.guest {
            let Some(to) = self.place(at, v, r, order) else {
                continue;
            };
            match (new.get(&to).map(|&(v, _)| claim(v)), claim(v)) {
                (Some(_), 0) | (Some(2), 2) => {}
                (None | Some(0), _) => {
                    new.insert(to, (v, r));
                }
                (Some(_), _) => return false,
            }
        }
        *self = Self {
            entries: 1 << (order - 4),
            guest: new,
        };
        true
    }

    /// The entry that the hardware would use for a page, absent ones included.
    fn translate(&self, page: Page, groups: [u64; 2]) -> Option<(u64, u64)> {
        let candidates = groups.into_iter().zip([0, 2]);
        candidates
            .flat_map(|(group, h)| (group..group + 8).map(move |at| (at, h)))
            .filter_map(|(at, h)| self.guest.get(&at).map(|entry| (*entry, h)))
            .find(|((v, r), h)| {
                v & 0xffff_ffff_ffff_ff82 == page.v() & !0x7f | h
                    && sizes(*v, *r).is_some_and(|(base, _)| base == page.encoding.base().bytes())
            })
            .map(|(entry, _)| entry)
    }

    fn fault(&self, page: Page, groups: [u64; 2], kind: AccessKind, problem: bool) -> FaultAction {
        let store = if kind == AccessKind::Store {
            0x0200_0000
        } else {
            0
        };
        let reflect = |dsisr: u32, srr1: u64| {
            FaultAction::Reflect(match kind {
                AccessKind::Fetch => GuestFault::Instruction(Srr1::from_bits_retain(srr1)),
                _ => GuestFault::Data(Dsisr::from_bits_retain(dsisr | store)),
            })
        };
        let Some((_, r)) = self.translate(page, groups) else {
            return reflect(0x4000_0000, 0x4000_0000);
        };
        // The segment has Ks=0 and Kp=1.
        let (load, write) = match (r >> 61 & 4 | r & 3, problem) {
            (0..=2, false) | (2, true) => (true, true),
            (3 | 6, false) | (1 | 3, true) => (true, false),
            _ => (false, false),
        };
        match kind {
            AccessKind::Load if load => FaultAction::Retry,
            AccessKind::Store if write => FaultAction::Retry,
            AccessKind::Fetch if r & 0xc != 0 => reflect(0, 0x1000_0000),
            AccessKind::Fetch if load => FaultAction::Retry,
            _ => reflect(0x0800_0000, 0x0800_0000),
        }
    }
}

/// A few pages, so that operations meet; with VSIDs that put them into few groups.
fn pages() -> impl Strategy<Value = Page> + Clone {
    (0_u64..3, 0_u64..3, 0_usize..6, any::<bool>()).prop_map(|(vsid, number, encoding, large)| {
        let encoding = PageEncoding::ALL[encoding];
        Page {
            vsid: 0x100 + vsid * 0x800,
            ea: number << encoding.base().shift(),
            segment: if large {
                SegmentSize::S1T
            } else {
                SegmentSize::S256M
            },
            encoding,
        }
    })
}

/// Entry numbers that the pages hash to, near ones, and a few that do not exist.
fn indices() -> impl Strategy<Value = u64> + Clone {
    prop_oneof![
        8 => (0_u64..8, 0_u64..8).prop_map(|(group, slot)| (0xfc + group) * 8 + slot),
        4 => (0_u64..8, 0_u64..8).prop_map(|(group, slot)| (0x6fc + group) * 8 + slot),
        // In larger tables.
        1 => (0_u64..8, 0_u64..8).prop_map(|(group, slot)| (0x8fc + group) * 8 + slot),
        1 => (0_u64..8, 0_u64..8).prop_map(|(group, slot)| (0x10fc + group) * 8 + slot),
        1 => Just(0x7ff * 8 + 7),
        1 => prop_oneof![Just(16384_u64), Just(1 << 56), any::<u64>()],
    ]
}

fn second_dwords(encoding: PageEncoding) -> impl Strategy<Value = u64> {
    let lp = encoding.lp() << 12;
    let size = encoding.actual().bytes();
    let attributes = prop_oneof![
        9 => (0_u64..8).prop_map(|pp| pp >> 2 << 63 | pp & 3 | 0x10),
        1 => any::<u64>().prop_map(|r| r & 0xf000_0000_0000_0fff),
    ];
    (0_u64..33, attributes, 0_u64..4, any::<bool>()).prop_map(move |(page, attributes, rc, n)| {
        let at = (page << 20) & !(size - 1);
        at | lp | attributes | rc << 7 | if n { 4 } else { 0 }
    })
}

fn operations() -> impl Strategy<Value = Op> {
    let avpns = pages().prop_map(|page| page.v() & !0x7f);
    let conditions = prop_oneof![
        3 => Just((0, 0)),
        4 => avpns.clone().prop_map(|avpn| (AVPN, avpn)),
        1 => Just((ANDCOND, 0x10)),
        1 => avpns.clone().prop_map(|avpn| (AVPN | ANDCOND, avpn)),
    ];
    let enter = (any::<bool>(), indices(), pages(), 0_u64..256).prop_flat_map(
        |(exact, ptex, page, low)| {
            (second_dwords(page.encoding), 0_u64..40).prop_map(move |(r, bad)| {
                // Software bits, H and V at random; now and then a bit that may not be set.
                let v = page.v() & !0xfb | low & 0xfb;
                let v = if bad < 12 { v | 1 << (52 + bad) } else { v };
                Op::Enter { exact, ptex, v, r }
            })
        },
    );
    let spec = (indices(), avpns, 0_u64..24).prop_map(|(ptex, avpn, kind)| {
        let kind = match kind {
            0 => 0xc0,
            1 => 0x00,
            2 => 0x80,
            3 => 0x43,
            kind => 0x40 | (kind % 3),
        };
        [kind << 56 | ptex & 0x00ff_ffff_ffff_ffff, avpn]
    });
    let avpns8 = pages().prop_map(|page| page.v() & !0x7f);
    let spec8 = || {
        (indices(), 0_u64..40).prop_map(|(ptex, kind)| {
            let kind = match kind {
                0..3 => 0xc0,
                3 => 0x00,
                4 => 0x80,
                kind => 0x40 | (kind & 1),
            };
            kind << 56 | ptex & 0x0000_ffff_ffff_ffff
        })
    };
    prop_oneof![
        6 => enter,
        3 => (conditions.clone(), indices())
            .prop_map(|((flags, avpn), ptex)| Op::Remove { flags, ptex, avpn }),
        3 => (conditions, indices(), prop_oneof![0_u64..8, 0x100_u64..0x108, 0x3e00_u64..0x3e08])
            .prop_map(|((flags, avpn), ptex, bits)| Op::Protect { flags: flags | bits, ptex, avpn }),
        2 => [spec.clone(), spec.clone(), spec.clone(), spec].prop_map(|specs| {
            let flat: Vec<u64> = specs.into_iter().flatten().collect();
            Op::BulkRemove { specs: flat.try_into().unwrap() }
        }),
        2 => ([spec8(), spec8(), spec8(), spec8(), spec8(), spec8(), spec8(), spec8()], avpns8)
            .prop_map(|(specs, ava)| Op::BlockRemove { ava, specs }),
        2 => indices().prop_map(Op::ClearRef),
        2 => indices().prop_map(Op::ClearMod),
        1 => indices().prop_map(Op::Read4),
        4 => (indices(), any::<bool>()).prop_map(|(ptex, store)| Op::Hardware { ptex, store }),
        4 => (pages(), 0_u8..3, any::<bool>()).prop_map(|(page, kind, problem)| Op::Fault {
            page,
            kind: [AccessKind::Load, AccessKind::Store, AccessKind::Fetch][usize::from(kind)],
            problem,
        }),
    ]
}

fn run(p: &Fixture, ops: Vec<Op>) -> Result<(), TestCaseError> {
    let everything = |p: &Fixture| -> Guest {
        (0..p.entries())
            .filter_map(|at| {
                let [v, r] = p.h_read(0, at).unwrap();
                (v != 0).then_some((at, (v, r)))
            })
            .collect()
    };
    p.steps();
    p.clear_all();
    // What the recorder says of the table in use; none of it of what clears a table as a whole.
    let mut steps = vec![];
    let mut model = Model {
        entries: p.entries(),
        guest: everything(p),
    };
    for op in ops {
        match op {
            Op::Enter { exact, ptex, v, r } => {
                let flags = if exact { EXACT } else { 0 };
                prop_assert_eq!(p.h_enter(flags, ptex, v, r), model.enter(exact, ptex, v, r));
            }
            Op::Remove { flags, ptex, avpn } => {
                prop_assert_eq!(
                    p.h_remove(flags, ptex, avpn),
                    model.remove(flags, ptex, avpn)
                );
            }
            Op::Protect { flags, ptex, avpn } => {
                prop_assert_eq!(
                    p.h_protect(flags, ptex, avpn),
                    model.protect(flags, ptex, avpn)
                );
            }
            Op::BulkRemove { specs } => {
                let (mut ours, mut theirs) = (specs, specs);
                let status = p.h_bulk_remove(&mut ours);
                prop_assert_eq!(status, model.bulk_remove(&mut theirs));
                prop_assert_eq!(ours, theirs);
            }
            Op::BlockRemove { ava, specs } => {
                let (mut ours, mut theirs) = (specs, specs);
                let status = p.h_block_remove(ava, &mut ours);
                prop_assert_eq!(status, model.block_remove(ava, &mut theirs));
                prop_assert_eq!(ours, theirs);
            }
            Op::ClearRef(ptex) => {
                prop_assert_eq!(p.h_clear_ref(0, ptex), model.clear(ptex, 0x100));
            }
            Op::ClearMod(ptex) => {
                prop_assert_eq!(p.h_clear_mod(0, ptex), model.clear(ptex, 0x80));
            }
            Op::Read4(ptex) => {
                let expected = if ptex >= model.entries {
                    Err(PARAMETER)
                } else {
                    let four = (ptex & !3..).take(4);
                    let entry = |at| model.guest.get(&at).copied().unwrap_or_default();
                    let flat: Vec<u64> = four.map(entry).flat_map(|(v, r)| [v, r]).collect();
                    Ok(flat.try_into().unwrap())
                };
                prop_assert_eq!(p.h_read_4(ptex), expected);
            }
            Op::Hardware { ptex, store } => {
                if ptex < model.entries && p.real(ptex).0 & 1 != 0 {
                    let bits = if store { 0x180 } else { 0x100 };
                    p.hardware_sets(ptex, bits);
                    model.guest.get_mut(&ptex).unwrap().1 |= bits;
                }
            }
            Op::Fault {
                page,
                kind,
                problem,
            } => {
                let absent = !p.memory().is_fully_backed();
                let mut fault = if absent {
                    page.miss(kind)
                } else {
                    page.fault(kind)
                };
                if problem {
                    fault.msr = fault.msr.union(Msr::PR);
                }
                let groups = [page.group(p), page.other_group(p)];
                let expected = model.fault(page, groups, kind, problem);
                prop_assert_eq!(p.resolve(&fault), expected);
                if expected == FaultAction::Retry {
                    let valid = groups.iter().flat_map(|&group| group..group + 8).any(|at| {
                        p.real(at).0 & 1 != 0
                            && p.h_read(0, at).ok().map(|[v, r]| (v, r | 0x180))
                                == model.translate(page, groups).map(|(v, r)| (v, r | 0x180))
                    });
                    prop_assert!(valid, "the access would fault again");
                }
            }
            Op::Resize(order) => {
                prop_assert_eq!(
                    p.h_resize_hpt_prepare(0, order.into()),
                    HcallStatus::SUCCESS
                );
                let before = model.guest.len() as u64;
                let ours = p.h_resize_hpt_commit(0, order.into(), |_| ());
                if model.resize(order) {
                    let kept = model.guest.len() as u64;
                    let ours = ours.unwrap();
                    let dropped = ours.displaced + ours.misplaced;
                    prop_assert_eq!((ours.kept, dropped), (kept, before - kept));
                } else {
                    prop_assert_eq!(ours, Err(HcallStatus::PTEG_FULL));
                }
                prop_assert_eq!(p.entries(), model.entries);
                prop_assert_eq!(&everything(p), &model.guest);
                // Another table now, whose valid entries nobody was told of.
                steps.extend(p.steps());
                prop_assert_eq!(broken_rules(&steps), vec![]);
                steps = valid_entries(p);
                let check = p.check();
                prop_assert!(check.is_ok(), "{:?}", check);
            }
        }
    }
    prop_assert_eq!(everything(p), model.guest);
    let check = p.check();
    prop_assert!(check.is_ok(), "{:?}", check);
    steps.extend(p.steps());
    prop_assert_eq!(broken_rules(&steps), vec![]);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: config().cases * 4, ..config() })]

    #[test]
    fn eager_memory_agrees_with_the_model(ops in prop::collection::vec(operations(), 1..120)) {
        static PARTITION: OnceLock<Fixture> = OnceLock::new();
        run(PARTITION.get_or_init(partition), ops)?;
    }

    /// The same with resizes, from the smallest table on.
    #[test]
    fn resizes_agree_with_the_model(
        lazy: bool,
        ops in prop::collection::vec(
            prop_oneof![
                12 => operations(),
                1 => (18_u32..21).prop_map(Op::Resize),
            ],
            1..120,
        ),
    ) {
        static PARTITIONS: OnceLock<[Fixture; 2]> = OnceLock::new();
        let partitions = PARTITIONS.get_or_init(|| {
            let config = HptConfig {
                resize: HptOrder::new(20),
                ..small(PageSize::P16M)
            };
            [Backing::Eager, Backing::Lazy]
                .map(|backing| partition_with(backing, config, TlbieErrata::NONE))
        });
        run(&partitions[usize::from(lazy)], ops)?;
    }

    /// Pieces of the first partition's memory stay touched from case to case, so entries begin
    /// valid or absent.
    #[test]
    fn lazy_memory_agrees_with_the_model(
        fresh in 0_u8..8,
        ops in prop::collection::vec(operations(), 1..120),
    ) {
        static PARTITION: OnceLock<Fixture> = OnceLock::new();
        if fresh == 0 {
            run(&lazy_partition(), ops)?;
        } else {
            run(PARTITION.get_or_init(lazy_partition), ops)?;
        }
    }
}
