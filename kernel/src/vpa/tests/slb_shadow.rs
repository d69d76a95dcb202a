// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The SLB shadow buffer: how many entries it holds, and which of them are taken.

use super::*;

#[test]
fn persistent_slots_fit_the_shadow_and_the_processor() {
    let mut vcpu = Vcpu::with_vpa();
    assert_eq!(vcpu.areas.persistent_slots(32), 0);
    for (size, slots) in [(8, 0), (16, 0), (31, 0), (32, 1), (0x90, 8), (4096, 32)] {
        vcpu.memory.put_words(index(SHADOW) + 4, &[size]);
        let _ = vcpu
            .apply(AreaRequest::RegisterSlbShadow(at(SHADOW)))
            .unwrap();
        assert_eq!(vcpu.areas.persistent_slots(32), slots, "{size}");
    }
}

#[test]
fn slb_shadow_entries_are_the_valid_persistent_ones() {
    let mut vcpu = Vcpu::with_vpa();
    // Room for three entries.
    vcpu.memory.put_words(index(SHADOW) + 4, &[64]);
    let _ = vcpu
        .apply(AreaRequest::RegisterSlbShadow(at(SHADOW)))
        .unwrap();
    vcpu.memory.put_words(
        index(SHADOW),
        &[
            3,
            64,
            0,
            0, //
            0xc000_0000,
            0x0800_0000,
            0x4000_0001,
            0x0000_0510, //
            0xc000_0100,
            0,
            0x4000_0002,
            0x510, // not valid
            0xd000_0000,
            0x0800_0002,
            0x4000_0003,
            0x510,
        ],
    );
    let entries = vcpu.areas.slb_shadow_entries(&mut vcpu.memory);
    assert_eq!(
        entries.as_slice(),
        [
            (0x4000_0001_0000_0510, 0xc000_0000_0800_0000),
            (0x4000_0003_0000_0510, 0xd000_0000_0800_0002),
        ]
    );
    // A count beyond the buffer's size reads no further than the buffer.
    vcpu.memory.put_words(index(SHADOW), &[u32::MAX]);
    assert_eq!(vcpu.areas.slb_shadow_entries(&mut vcpu.memory).len(), 2);
    // One entry only.
    vcpu.memory.put_words(index(SHADOW), &[1]);
    assert_eq!(vcpu.areas.slb_shadow_entries(&mut vcpu.memory).len(), 1);
}

#[test]
fn what_a_guest_spoils_in_its_slb_shadow_never_becomes_an_operand() {
    let shadowed = |esid: u64, vsid: u64| {
        let mut vcpu = Vcpu::with_vpa();
        vcpu.memory.put_words(index(SHADOW) + 4, &[48]);
        let _ = vcpu
            .apply(AreaRequest::RegisterSlbShadow(at(SHADOW)))
            .unwrap();
        let halves = |value: u64| [value >> 32, value & 0xffff_ffff];
        let words = [
            halves(2 << 32),
            [0; 2],
            halves(esid),
            halves(vsid),
            [0; 2],
            [0; 2],
        ]
        .concat()
        .into_iter()
        .map(|word| u32::try_from(word).unwrap())
        .collect::<alloc::vec::Vec<_>>();
        vcpu.memory.put_words(index(SHADOW), &words);
        vcpu.memory.put_words(index(SHADOW) + 4, &[48]);
        vcpu.areas
            .slb_shadow_entries(&mut vcpu.memory)
            .first()
            .copied()
    };
    const ESID: u64 = 0xc000_0000_0800_0000;
    const VSID: u64 = 0x4000_0001_0000_0510;
    // Numbers of entries that no SLB has, and reserved bits: the slot's own number, and none.
    for noise in [0x020, 0xfff, 0x1000, 0x07ff_ffff] {
        assert_eq!(
            shadowed(ESID | noise, VSID),
            Some((VSID, ESID)),
            "{noise:#x}"
        );
    }
    // Page sizes: 4 KiB, 64 KiB, 16 MiB, segments of both sizes.
    for vsid in [0, 0x510, 0x500, 0x4000_0000_0000_0110] {
        assert_eq!(shadowed(ESID, vsid), Some((vsid, ESID)), "{vsid:#x}");
    }
    // Reserved segment sizes, page sizes and bits.
    for vsid in [
        1 << 63,
        3 << 62,
        0x010,
        0x030,
        0x120,
        0x130,
        0x140,
        0x001,
        0x008,
    ] {
        assert_eq!(shadowed(ESID, vsid), None, "{vsid:#x}");
    }
}
