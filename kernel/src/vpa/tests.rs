// SPDX-License-Identifier: Apache-2.0 OR MIT
//! H_REGISTER_VPA by literal values, and its order rules against a model.

mod dispatch;
mod slb_shadow;

use super::*;
use crate::partition::Dispatching;
use crate::rtas::testing::{FakeMemory, HOLE, SIZE, config};
use penstock_arch::fake::steps;
use proptest::prelude::*;

const VPA: u64 = 0x2000;
const DTL: u64 = 0x3000;
const SHADOW: u64 = 0x4000;
const RECORD: DispatchRecord = DispatchRecord {
    reason: DispatchReason::Decrementer,
    preempted: PreemptReason::Cede,
    processor: 0x0102,
    enqueue_to_dispatch: 0x0304_0506,
    ready_to_enqueue: 0x0708_090a,
    waiting_to_ready: 0x0b0c_0d0e,
    timebase: 0x1011_1213_1415_1617,
    fault_address: 0x1819_1a1b_1c1d_1e1f,
    srr0: 0x2021_2223_2425_2627,
    srr1: 0x2829_2a2b_2c2d_2e2f,
};

fn at(address: u64) -> GuestReal {
    GuestReal::new(address)
}

fn area(address: u64, bytes: u32) -> Option<Area> {
    Some(Area {
        at: at(address),
        bytes,
    })
}

fn index(address: u64) -> usize {
    usize::try_from(address).unwrap()
}

struct Vcpu {
    areas: VcpuAreas,
    memory: FakeMemory,
}

impl Vcpu {
    fn new() -> Self {
        let mut vcpu = Self {
            areas: VcpuAreas::new(Dispatching::Dedicated, Dispatch::Running),
            memory: FakeMemory::new(),
        };
        vcpu.memory.put_words(index(VPA) + 4, &[640 << 16]);
        vcpu.memory.put_words(index(DTL) + 4, &[100]);
        vcpu.memory.put_words(index(SHADOW) + 4, &[0x90]);
        vcpu
    }

    fn with_vpa() -> Self {
        let mut vcpu = Self::new();
        let _ = vcpu.apply(AreaRequest::RegisterVpa(at(VPA))).unwrap();
        vcpu
    }

    fn apply(&mut self, request: AreaRequest) -> Result<AreaChange, AreaError> {
        self.areas
            .apply(request, Dispatch::Running, &mut self.memory)
    }

    fn word(&self, address: u64) -> u32 {
        self.memory.words(index(address), 1)[0]
    }
}

#[test]
fn subfunctions_are_bits_16_to_18() {
    let decode = |n: u64| AreaRequest::decode(n << 45, 0x80);
    assert_eq!(decode(1), Ok(AreaRequest::RegisterVpa(at(0x80))));
    assert_eq!(decode(2), Ok(AreaRequest::RegisterDtl(at(0x80))));
    assert_eq!(decode(3), Ok(AreaRequest::RegisterSlbShadow(at(0x80))));
    assert_eq!(decode(5), Ok(AreaRequest::DeregisterVpa));
    assert_eq!(decode(6), Ok(AreaRequest::DeregisterDtl));
    assert_eq!(decode(7), Ok(AreaRequest::DeregisterSlbShadow));
    for flags in [
        0,
        4 << 45,
        8 << 45,
        1 << 45 | 1,
        1 << 45 | 1 << 44,
        1 << 63,
        u64::MAX,
    ] {
        assert_eq!(
            AreaRequest::decode(flags, 0x80),
            Err(AreaError::Parameter),
            "{flags:#x}"
        );
    }
}

#[test]
fn errors_are_h_parameter_and_h_resource() {
    assert_eq!(AreaError::Parameter.hcall_status(), -4);
    assert_eq!(AreaError::Resource.hcall_status(), -16);
}

#[test]
fn registering_initialises_the_hypervisors_fields_and_no_others() {
    let mut vcpu = Vcpu::new();
    let change = vcpu.apply(AreaRequest::RegisterVpa(at(VPA)));
    assert_eq!(
        change,
        Ok(AreaChange {
            pin: area(VPA, 640),
            unpin: None
        })
    );
    for (offset, byte) in vcpu.memory.bytes[index(VPA)..index(VPA) + 640]
        .iter()
        .enumerate()
    {
        let expected = match offset {
            4 => 0x02,
            5 => 0x80,
            0x06..0x20 | 0x58..0x60 | 0x100..0x170 | 0x218..0x220 => 0,
            _ => 0xa5,
        };
        assert_eq!(*byte, expected, "offset {offset:#x}");
    }
    assert_eq!(vcpu.memory.bytes[index(VPA) + 640], 0xa5);
}

#[test]
fn a_waiting_vcpus_area_starts_with_an_odd_count() {
    let mut vcpu = Vcpu::new();
    let request = AreaRequest::RegisterVpa(at(VPA));
    let _ = vcpu
        .areas
        .apply(request, Dispatch::Waiting, &mut vcpu.memory)
        .unwrap();
    assert_eq!(vcpu.word(VPA + 0x100), 1);
    assert_eq!(vcpu.areas.dispatch_count(), 1);
}

#[test]
fn areas_are_aligned_to_a_cache_line() {
    for offset in [1, 4, 8, 64, 127] {
        let mut vcpu = Vcpu::with_vpa();
        for request in [
            AreaRequest::RegisterVpa(at(VPA + offset)),
            AreaRequest::RegisterDtl(at(DTL + offset)),
            AreaRequest::RegisterSlbShadow(at(SHADOW + offset)),
        ] {
            assert_eq!(
                vcpu.apply(request),
                Err(AreaError::Parameter),
                "{request:?}"
            );
        }
    }
}

#[test]
fn a_vpa_has_640_bytes_within_a_page() {
    for (start, size, good) in [
        (0x2000, 640, true),
        (0x2000, 639, false),
        (0x2000, 0, false),
        (0x2000, 4096, true),
        (0x2000, 4097, false),
        (0x2000, 0xffff, false),
        (0x2d80, 640, true),
        (0x2d80, 641, false),
        (0x2e00, 640, false),
    ] {
        let mut vcpu = Vcpu::new();
        vcpu.memory
            .put_words(index(start) + 4, &[size << 16 | 0xbeef]);
        let result = vcpu.apply(AreaRequest::RegisterVpa(at(start)));
        assert_eq!(result.is_ok(), good, "{start:#x} {size}");
        assert_eq!(vcpu.areas.vpa(), area(start, size).filter(|_| good));
        assert!(good || result == Err(AreaError::Parameter) && vcpu.memory.writes.is_empty());
    }
}

#[test]
fn a_trace_log_has_48_bytes_to_4_kib_anywhere() {
    for (start, size, good) in [
        (0x3000, 48, true),
        (0x3000, 47, false),
        (0x3000, 0, false),
        (0x3000, 4096, true),
        (0x3f80, 4096, true),
        (0x3000, 4097, false),
        (0x3000, u32::MAX, false),
    ] {
        let mut vcpu = Vcpu::with_vpa();
        vcpu.memory.put_words(index(start) + 4, &[size]);
        let result = vcpu.apply(AreaRequest::RegisterDtl(at(start)));
        assert_eq!(result.is_ok(), good, "{start:#x} {size}");
        assert_eq!(vcpu.areas.dtl(), area(start, size).filter(|_| good));
    }
}

#[test]
fn an_slb_shadow_has_8_bytes_within_a_page() {
    for (start, size, good) in [
        (0x4000, 8, true),
        (0x4000, 7, false),
        (0x4000, 4096, true),
        (0x4000, 4097, false),
        (0x4f80, 128, true),
        (0x4f80, 129, false),
        (0x4000, u32::MAX, false),
    ] {
        let mut vcpu = Vcpu::with_vpa();
        vcpu.memory.put_words(index(start) + 4, &[size]);
        let result = vcpu.apply(AreaRequest::RegisterSlbShadow(at(start)));
        assert_eq!(result.is_ok(), good, "{start:#x} {size}");
        assert_eq!(vcpu.areas.slb_shadow(), area(start, size).filter(|_| good));
    }
}

#[test]
fn areas_outside_memory_are_refused() {
    let mut vcpu = Vcpu::with_vpa();
    // The last is in memory at its start, but reaches into the hole.
    let last = HOLE.start - 128;
    vcpu.memory.put_words(index(last) + 4, &[129]);
    for address in [SIZE, HOLE.start, HOLE.end - 128, u64::MAX - 127, last] {
        for request in [
            AreaRequest::RegisterVpa(at(address)),
            AreaRequest::RegisterDtl(at(address)),
            AreaRequest::RegisterSlbShadow(at(address)),
        ] {
            assert_eq!(
                vcpu.apply(request),
                Err(AreaError::Parameter),
                "{request:?}"
            );
        }
    }
    assert_eq!(vcpu.areas.vpa(), area(VPA, 640));
}

#[test]
fn the_vpa_comes_first_and_goes_last() {
    let mut vcpu = Vcpu::new();
    let (dtl, shadow) = (
        AreaRequest::RegisterDtl(at(DTL)),
        AreaRequest::RegisterSlbShadow(at(SHADOW)),
    );
    assert_eq!(vcpu.apply(dtl), Err(AreaError::Resource));
    assert_eq!(vcpu.apply(shadow), Err(AreaError::Resource));
    let _ = vcpu.apply(AreaRequest::RegisterVpa(at(VPA))).unwrap();
    assert_eq!(
        vcpu.apply(dtl),
        Ok(AreaChange {
            pin: area(DTL, 100),
            unpin: None
        })
    );
    assert_eq!(
        vcpu.apply(AreaRequest::DeregisterVpa),
        Err(AreaError::Resource)
    );
    assert_eq!(
        vcpu.apply(shadow),
        Ok(AreaChange {
            pin: area(SHADOW, 0x90),
            unpin: None
        })
    );
    let gone = Ok(AreaChange {
        pin: None,
        unpin: area(DTL, 100),
    });
    assert_eq!(vcpu.apply(AreaRequest::DeregisterDtl), gone);
    assert_eq!(
        vcpu.apply(AreaRequest::DeregisterVpa),
        Err(AreaError::Resource)
    );
    let gone = Ok(AreaChange {
        pin: None,
        unpin: area(SHADOW, 0x90),
    });
    assert_eq!(vcpu.apply(AreaRequest::DeregisterSlbShadow), gone);
    let gone = Ok(AreaChange {
        pin: None,
        unpin: area(VPA, 640),
    });
    assert_eq!(vcpu.apply(AreaRequest::DeregisterVpa), gone);
}

#[test]
fn a_wrong_parameter_is_told_before_a_missing_vpa() {
    let mut vcpu = Vcpu::new();
    vcpu.memory.put_words(index(DTL) + 4, &[47]);
    assert_eq!(
        vcpu.apply(AreaRequest::RegisterDtl(at(DTL))),
        Err(AreaError::Parameter)
    );
}

#[test]
fn deregistering_nothing_is_a_success() {
    let mut vcpu = Vcpu::new();
    for request in [
        AreaRequest::DeregisterVpa,
        AreaRequest::DeregisterDtl,
        AreaRequest::DeregisterSlbShadow,
    ] {
        assert_eq!(vcpu.apply(request), Ok(AreaChange::default()));
    }
}

#[test]
fn the_last_registration_wins_and_keeps_the_counters() {
    let mut vcpu = Vcpu::with_vpa();
    vcpu.areas.preempted(&mut vcpu.memory).unwrap();
    vcpu.areas.dispatched(RECORD, &mut vcpu.memory).unwrap();
    vcpu.memory.put_words(0x2404, &[641 << 16]);
    let change = vcpu.apply(AreaRequest::RegisterVpa(at(0x2400)));
    assert_eq!(
        change,
        Ok(AreaChange {
            pin: area(0x2400, 641),
            unpin: area(VPA, 640)
        })
    );
    assert_eq!(vcpu.word(0x2400 + 0x100), 2);
}

#[test]
fn release_returns_every_area_and_starts_anew() {
    let mut vcpu = Vcpu::with_vpa();
    let _ = vcpu.apply(AreaRequest::RegisterDtl(at(DTL))).unwrap();
    vcpu.areas.preempted(&mut vcpu.memory).unwrap();
    assert_eq!(
        vcpu.areas.release_all(Dispatch::Running),
        [area(VPA, 640), area(DTL, 100), None]
    );
    assert_eq!(vcpu.areas.release_all(Dispatch::Running), [None; 3]);
    assert_eq!(vcpu.areas.dispatch_count(), 0);
    // Whoever is stopped is on no thread.
    assert_eq!(vcpu.areas.release_all(Dispatch::Waiting), [None; 3]);
    assert_eq!(vcpu.areas.dispatch_count(), 1);
}

proptest! {
    #![proptest_config(config())]

    /// Any requests: what is pinned is what is registered, and writes stay within it.
    #[test]
    fn random_requests_keep_pins_and_registrations_equal(
        steps in proptest::collection::vec(
            (0_u64..10, (0_u64..0x240).prop_map(|n| n * 128), any::<u32>(), 0_u32..2000), 1..steps(60))
    ) {
        let (mut areas, mut memory) = (VcpuAreas::new(Dispatching::Dedicated, Dispatch::Running), FakeMemory::new());
        let mut pinned: alloc::vec::Vec<Area> = alloc::vec::Vec::new();
        for (subfunction, address, noise, size) in steps {
            if address + 8 <= SIZE {
                let size = if noise % 2 == 0 { size } else { size << 16 };
                memory.put_words(index(address) + 4, &[size]);
                memory.bytes[(index(address) + 0xb8) & 0xffff] = 7;
            }
            memory.writes.clear();
            let change = match AreaRequest::decode(subfunction << 45, address) {
                Ok(request) => areas.apply(request, Dispatch::Running, &mut memory),
                Err(error) => Err(error),
            };
            if let Ok(change) = change {
                pinned.extend(change.pin);
                if let Some(gone) = change.unpin {
                    let i = pinned.iter().position(|a| *a == gone).unwrap();
                    pinned.swap_remove(i);
                }
            }
            areas.preempted(&mut memory).unwrap();
            areas.dispatched(RECORD, &mut memory).unwrap();
            let registered: alloc::vec::Vec<Area> =
                [areas.vpa(), areas.dtl(), areas.slb_shadow()].into_iter().flatten().collect();
            prop_assert_eq!(registered.len(), pinned.len());
            prop_assert!(registered.iter().all(|a| pinned.contains(a)));
            prop_assert!(areas.vpa().is_some() || registered.is_empty());
            for (start, len) in &memory.writes {
                prop_assert!(registered.iter().any(|a| *start >= a.at.get()
                    && start + *len as u64 <= a.at.get() + u64::from(a.bytes)));
            }
            prop_assert_eq!(areas.dispatch_count() % 2, 0);
        }
    }
}
