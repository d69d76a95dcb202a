// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a guest, its processors and the hypervisor may do, at random.

use super::super::super::flags::{ANDCOND, AVPN, COPY_PAGE, EXACT, ICACHE_INVALIDATE, ZERO_PAGE};
use super::memory::{Area, DEVICE, RAM_BYTES, SCREEN};
use super::*;
use std::vec;

/// One thing that somebody does.
#[derive(Clone, Debug)]
pub(super) enum Op {
    Enter {
        flags: u64,
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
    PageInit {
        flags: u64,
        to: u64,
        from: u64,
    },
    ClearHpt,
    /// A processor uses an entry that it has found.
    Hardware {
        ptex: u64,
        store: bool,
        granule: u64,
    },
    /// A processor's access, as often as it faults and may try again.
    Access {
        page: Page,
        kind: AccessKind,
        problem: bool,
        granule: u64,
    },
    /// A fault that may be over when the hypervisor looks.
    Fault {
        page: Page,
        kind: AccessKind,
        problem: bool,
    },
    /// A fault in guest real mode.
    RealMode {
        at: u64,
        kind: AccessKind,
    },
    /// To a table of so many bytes, as a binary logarithm.
    Resize(u32),
    /// The partition starts over.
    ClearAll,
    /// The hypervisor writes to guest memory.
    Write {
        granule: u64,
    },
    /// Guards ranges, with one flush.
    Guard {
        ranges: Vec<(Area, u64, u64)>,
    },
    Unguard {
        area: Area,
        offset: u64,
        len: u64,
    },
    StartLog(Area),
    StopLog(Area),
    /// The read-only pass.
    HarvestRoughly(Area),
    Harvest {
        area: Area,
        vcpus: VcpusAre,
    },
    /// Collects R.
    TakeUsed(Area),
    /// A page of the device is there, at one of a few places, or not.
    DevicePage {
        number: u64,
        place: Option<u64>,
    },
    /// Somebody idle zeroes memory.
    BackAhead(u64),
    Scatter(u64, u64),
    /// A pass of a reader of the table, who may be a new one.
    ReadStream {
        reader: usize,
        anew: bool,
    },
    /// Keeps the table as a stream.
    Save,
    /// Keeps, as a stream, a table that has real mode in pages of so many bytes, and nothing else.
    SaveOther(u64),
    /// Puts the kept stream into the table.
    Restore,
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

/// The first entry of the group that a page with doubleword 0 `v` belongs into.
fn home(page: Page, v: u64) -> u64 {
    const GROUPS: u64 = HptOrder::MIN.bytes() / 128;
    let ea = EffectiveAddr::new(page.ea);
    let hash = pteg_hash(page.vsid, ea, page.segment, page.encoding.base());
    let hash = if v & 2 == 0 { hash } else { !hash };
    hash % GROUPS * HPTES_PER_GROUP
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

/// Places in memory: its beginning, each MiB, a piece further, and just outside.
fn addresses() -> impl Strategy<Value = u64> + Clone {
    (0_u64..33, prop_oneof![4 => Just(0_u64), 1 => 0_u64..20])
        .prop_map(|(megabyte, granule)| megabyte << 20 | granule << 12)
}

fn screen() -> impl Strategy<Value = u64> + Clone {
    (0_u64..64).prop_map(|granule| SCREEN + (granule << 12))
}

/// Where the hypervisor writes: now and then where there is no memory.
fn written() -> impl Strategy<Value = u64> + Clone {
    prop_oneof![6 => addresses(), 2 => screen(), 1 => Just(DEVICE), 1 => Just(0x2_0800)]
}

fn areas() -> impl Strategy<Value = Area> + Clone {
    prop_oneof![Just(Area::Ram), Just(Area::Screen)]
}

/// Ranges, small and large, aligned or not.
fn ranges() -> impl Strategy<Value = (Area, u64, u64)> + Clone {
    let len = prop_oneof![
        6 => Just(0x1000_u64),
        2 => 0_u64..0x4_0000,
        1 => Just(2 << 20),
        1 => Just(u64::MAX),
    ];
    prop_oneof![
        4 => (addresses(), len.clone()).prop_map(|(at, len)| (Area::Ram, at, len)),
        1 => (screen(), len).prop_map(|(at, len)| (Area::Screen, at - SCREEN, len)),
    ]
}

fn kinds() -> impl Strategy<Value = AccessKind> + Clone {
    prop_oneof![
        Just(AccessKind::Load),
        Just(AccessKind::Store),
        Just(AccessKind::Fetch)
    ]
}

fn second_dwords(encoding: PageEncoding) -> impl Strategy<Value = u64> {
    let lp = encoding.lp() << 12;
    let size = encoding.actual().bytes();
    let places = prop_oneof![
        8 => addresses().prop_map(|at| (at, 0x10)),
        1 => (0_u64..4, 0_u64..4).prop_map(|(piece, w)| (DEVICE + (piece << 16), 0x20 | w << 3)),
        1 => (screen(), any::<bool>()).prop_map(|(at, i)| (at, if i { 0x28 } else { 0x10 })),
    ];
    let attributes = prop_oneof![
        9 => (0_u64..8).prop_map(|pp| (pp >> 2 << 63 | pp & 3, true)),
        1 => any::<u64>().prop_map(|r| (r & 0xf000_0000_0000_0fff, false)),
    ];
    (places, attributes, 0_u64..4, any::<bool>()).prop_map(
        move |((at, wimg), (attributes, usual), rc, n)| {
            let wimg = if usual { wimg } else { 0 };
            let at = at & !(size - 1);
            at | lp | attributes | wimg | rc << 7 | if n { 4 } else { 0 }
        },
    )
}

/// What the guest does, and its processors.
fn guests() -> impl Strategy<Value = Op> {
    let avpns = pages().prop_map(|page| page.v() & !0x7f);
    let conditions = prop_oneof![
        3 => Just((0, 0)),
        4 => avpns.clone().prop_map(|avpn| (AVPN, avpn)),
        1 => Just((ANDCOND, 0x10)),
        1 => avpns.clone().prop_map(|avpn| (AVPN | ANDCOND, avpn)),
    ];
    let enter =
        (0_u64..32, indices(), pages(), 0_u64..256).prop_flat_map(|(how, ptex, page, low)| {
            (second_dwords(page.encoding), 0_u64..40).prop_map(move |(r, bad)| {
                let exact = if how & 1 != 0 { EXACT } else { 0 };
                let flags = exact | if how < 2 { ZERO_PAGE } else { 0 };
                // Software bits, H and V at random; now and then a bit that may not be set.
                let v = page.v() & !0xfb | low & 0xfb;
                // Most where the page belongs, so that it is found.
                let ptex = if how < 24 {
                    home(page, v) + (ptex & 7)
                } else {
                    ptex
                };
                let v = if bad < 12 && how > 24 {
                    v | 1 << (52 + bad)
                } else {
                    v
                };
                Op::Enter { flags, ptex, v, r }
            })
        });
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
        24 => enter,
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
        12 => (indices(), any::<bool>(), any::<u64>())
            .prop_map(|(ptex, store, granule)| Op::Hardware { ptex, store, granule }),
        20 => (pages(), kinds(), any::<bool>(), any::<u64>())
            .prop_map(|(page, kind, problem, granule)| Op::Access { page, kind, problem, granule }),
        2 => (pages(), kinds(), any::<bool>())
            .prop_map(|(page, kind, problem)| Op::Fault { page, kind, problem }),
        1 => (0_u64..17, kinds()).prop_map(|(at, kind)| Op::RealMode { at: at << 21, kind }),
        1 => (written(), written(), 0_u64..8).prop_map(|(to, from, flags)| {
            let choices = [ZERO_PAGE, COPY_PAGE, ICACHE_INVALIDATE];
            let flags = (0..3).filter(|bit| flags >> bit & 1 != 0).map(|bit| choices[bit]).sum();
            Op::PageInit { flags, to, from }
        }),
    ]
}

/// What the hypervisor does of its own accord.
fn hypervisors() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => prop::collection::vec(ranges(), 1..4).prop_map(|ranges| Op::Guard { ranges }),
        2 => ranges().prop_map(|(area, offset, len)| Op::Unguard { area, offset, len }),
        2 => areas().prop_map(Op::StartLog),
        1 => areas().prop_map(Op::StopLog),
        3 => areas().prop_map(Op::HarvestRoughly),
        3 => (areas(), any::<bool>()).prop_map(|(area, stopped)| Op::Harvest {
            area,
            vcpus: if stopped { VcpusAre::Stopped } else { VcpusAre::Running },
        }),
        2 => areas().prop_map(Op::TakeUsed),
        3 => (0_u64..4, prop::option::of(0_u64..3))
            .prop_map(|(number, place)| Op::DevicePage { number, place }),
        2 => prop_oneof![3 => 0_u64..4, 1 => Just(1000)].prop_map(Op::BackAhead),
        3 => written().prop_map(|at| Op::Write { granule: at >> 12 }),
        2 => (0_usize..2, 0_u8..4)
            .prop_map(|(reader, anew)| Op::ReadStream { reader, anew: anew == 0 }),
    ]
}

/// What shakes the table as a whole.
fn upheavals() -> impl Strategy<Value = Op> {
    prop_oneof![
        1 => Just(Op::ClearAll),
        1 => Just(Op::ClearHpt),
        1 => Just(Op::Save),
        1 => (0_usize..3).prop_map(|size| Op::SaveOther(PageSize::ALL[size].bytes())),
        2 => Just(Op::Restore)
    ]
}

/// All operations that leave the memory a whole one.
pub(super) fn operations() -> impl Strategy<Value = Op> {
    prop_oneof![120 => guests(), 30 => hypervisors(), 1 => upheavals()]
}

/// All operations of a partition that may resize its table.
pub(super) fn resizing_operations() -> impl Strategy<Value = Op> {
    prop_oneof![
        12 => operations(),
        1 => (18_u32..21).prop_map(Op::Resize),
    ]
}

/// All operations.
pub(super) fn all_operations() -> impl Strategy<Value = Op> {
    const PIECES: u64 = RAM_BYTES >> 16;
    prop_oneof![
        3000 => operations(),
        1 => (0..PIECES, 0..PIECES).prop_map(|(a, b)| Op::Scatter(a, b)),
    ]
}
