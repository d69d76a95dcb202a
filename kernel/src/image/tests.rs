// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tests of the image loader: kernels of every kind, one file per error, and broken files.

extern crate std;

mod elf_builder;
mod headers;

use super::*;
use alloc::string::{String, ToString};
use elf::abi;
use elf_builder::{Elf, Load};
use proptest::prelude::*;

const MIB: u64 = 1 << 20;

fn request(kernel: &[u8]) -> LoadRequest<'_> {
    LoadRequest {
        kernel,
        load_address: None,
        memory_bytes: 512 * MIB,
        initrd_bytes: None,
        fdt_bytes: FDT_BYTES,
    }
}

fn plan_of(elf: &Elf, load_address: Option<u64>) -> Result<LoadPlan, String> {
    let kernel = elf.build();
    let load_address = load_address.map(GuestReal::new);
    plan(&LoadRequest {
        load_address,
        ..request(&kernel)
    })
    .map_err(|error| error.to_string())
}

fn error(elf: &Elf, load_address: Option<u64>) -> String {
    plan_of(elf, load_address).unwrap_err()
}

#[test]
fn position_independent_kernel_goes_to_0() {
    let plan = plan_of(&Elf::default(), None).unwrap();
    assert_eq!(
        plan,
        LoadPlan {
            copies: vec![SegmentCopy {
                file: 0x1000..0x3000,
                guest: GuestReal::new(0),
                zero_bytes: 0x10345,
            }],
            entry: GuestReal::new(0),
            kernel_end: GuestReal::new(0x12345),
            rtas: GuestReal::new(0x1fff_0000),
            fdt: GuestReal::new(0x1ffe_0000),
            fdt_bytes: 0x1_0000,
            initrd: None,
        }
    );
}

#[test]
fn position_independent_kernel_goes_to_its_load_address() {
    let elf = Elf {
        entry: 0xc000_0000_0000_0104,
        ..Elf::default()
    };
    let plan = plan_of(&elf, Some(0x40_0000)).unwrap();
    assert_eq!(plan.copies[0].guest, GuestReal::new(0x40_0000));
    assert_eq!(plan.entry, GuestReal::new(0x40_0104));
    assert_eq!(plan.kernel_end, GuestReal::new(0x41_2345));
}

#[test]
fn fixed_kernel_goes_to_its_physical_addresses_in_both_byte_orders() {
    for big in [false, true] {
        let elf = Elf {
            big,
            kind: abi::ET_EXEC,
            entry: 0xc000_0000_0210_0008,
            loads: vec![
                Load {
                    offset: 0x100,
                    vaddr: 0xc000_0000_0000_0000,
                    paddr: 0x10_0000,
                    filesz: 0x100,
                    memsz: 0x100,
                },
                Load {
                    offset: 0x200,
                    vaddr: 0xc000_0000_0210_0000,
                    paddr: 0x200_0000,
                    filesz: 0x10,
                    memsz: 0x20,
                },
            ],
            ..Elf::default()
        };
        let plan = plan_of(&elf, None).unwrap();
        let places: Vec<_> = plan
            .copies
            .iter()
            .map(|copy| (copy.file.clone(), copy.guest.get(), copy.zero_bytes))
            .collect();
        assert_eq!(
            places,
            [
                (0x100..0x200, 0x10_0000, 0),
                (0x200..0x210, 0x200_0000, 0x10)
            ]
        );
        assert_eq!(
            plan.entry,
            GuestReal::new(0x200_0008),
            "e_entry - p_vaddr + p_paddr"
        );
        assert_eq!(plan.kernel_end, GuestReal::new(0x200_0020));
        assert_eq!(
            error(&elf, Some(0)),
            "load-address 0x0 for a kernel that is linked to a fixed address (ET_EXEC)"
        );
    }
}

#[test]
fn raw_kernel_needs_a_load_address() {
    let text = b"#!/bin/sh\necho hello\n";
    let not_elf = "kernel is not an ELF file; a raw image needs a load-address to say so";
    assert_eq!(plan(&request(text)).unwrap_err().to_string(), not_elf);
    assert_eq!(plan(&request(b"")).unwrap_err().to_string(), not_elf);
    let raw = LoadRequest {
        load_address: Some(GuestReal::new(0x40_0000)),
        ..request(text)
    };
    let plan_of_raw = plan(&raw).unwrap();
    assert_eq!(
        plan_of_raw.copies,
        [SegmentCopy {
            file: 0..21,
            guest: GuestReal::new(0x40_0000),
            zero_bytes: 0
        }]
    );
    assert_eq!(plan_of_raw.entry, GuestReal::new(0x40_0000));
    assert_eq!(
        plan(&LoadRequest { kernel: b"", ..raw }).unwrap_err(),
        ImageError::Empty
    );
    let at = |address| {
        plan(&LoadRequest {
            load_address: Some(GuestReal::new(address)),
            ..raw
        })
        .map(|_| ())
        .map_err(|error| error.to_string())
    };
    assert_eq!(
        at(0x1001),
        Err("load-address 0x1001 is not a multiple of 0x1000".into())
    );
    let outside = |address: &str| {
        Err(alloc::format!(
            "kernel's 21 bytes at {address} do not lie in the guest's 512 MiB of memory"
        ))
    };
    assert_eq!(at(0x2000_0000), outside("0x20000000"));
    assert_eq!(at(u64::MAX - 0xfff), outside("0xfffffffffffff000"));
}

fn with_load(change: impl FnOnce(&mut Load)) -> Elf {
    let mut elf = Elf::default();
    change(&mut elf.loads[0]);
    elf
}

/// Where the initrd goes, or why it does not.
fn initrd_place(memory_bytes: u64, kernel_bytes: u64, bytes: u64) -> Result<(u64, u64), String> {
    let kernel = with_load(|load| load.memsz = kernel_bytes).build();
    let initrd_bytes = Some(bytes);
    let place = plan(&LoadRequest {
        memory_bytes,
        initrd_bytes,
        ..request(&kernel)
    });
    let range = place
        .map_err(|error| error.to_string())?
        .initrd
        .expect("it has a place");
    Ok((range.start.get(), range.end.get()))
}

#[test]
fn initrd_is_above_the_kernel_or_above_1_gib() {
    let gib = 1024 * MIB;
    assert_eq!(
        initrd_place(512 * MIB, 43 * MIB + 1, 1000),
        Ok((0x2b1_0000, 0x2b1_03e8))
    );
    // All that is left below the device tree, and a byte more.
    let left = 0x1ffe_0000 - 0x2b0_0000;
    assert_eq!(
        initrd_place(512 * MIB, 43 * MIB, left),
        Ok((0x2b0_0000, 0x1ffe_0000))
    );
    assert_eq!(
        initrd_place(512 * MIB, 43 * MIB, left + 1),
        Err(alloc::format!(
            "no room for the initrd ({} bytes) above the kernel, which ends at 0x2b00000, in the \
             guest's 512 MiB of memory",
            left + 1
        ))
    );
    assert_eq!(initrd_place(4 * gib, 43 * MIB, gib), Ok((gib, 2 * gib)));
    assert_eq!(initrd_place(4 * gib, 43 * MIB, 3 * gib), Ok((gib, 4 * gib)));
    assert!(initrd_place(4 * gib, 43 * MIB, 3 * gib + 1).is_err());
    assert!(initrd_place(4 * gib, 43 * MIB, u64::MAX).is_err());
}

#[test]
fn an_empty_initrd_is_none() {
    let kernel = Elf::default().build();
    let plan = plan(&LoadRequest {
        initrd_bytes: Some(0),
        ..request(&kernel)
    })
    .unwrap();
    assert_eq!(plan.initrd, None);
}

#[test]
fn rtas_and_device_tree_are_below_1_gib_and_above_the_kernel() {
    let place = |memory_mib: u64, kernel_bytes: u64| {
        let kernel = with_load(|load| load.memsz = kernel_bytes).build();
        plan(&LoadRequest {
            memory_bytes: memory_mib * MIB,
            ..request(&kernel)
        })
        .map(|plan| (plan.rtas.get(), plan.fdt.get()))
        .map_err(|error| error.to_string())
    };
    assert_eq!(place(8192, 43 * MIB), Ok((0x3fff_0000, 0x3ffe_0000)));
    assert_eq!(place(16, 0x00fe_0000), Ok((0x00ff_0000, 0x00fe_0000)));
    assert_eq!(
        place(16, 0x00fe_0001),
        Err(
            "no room for the device tree (65536 bytes) above the kernel, which ends at 0xfe0001, \
             in the guest's 16 MiB of memory"
                .into()
        )
    );
    assert_eq!(
        place(16, 0x00ff_0001),
        Err(
            "no room for RTAS (4096 bytes) above the kernel, which ends at 0xff0001, in the \
             guest's 16 MiB of memory"
                .into()
        )
    );
    assert!(
        place(8192, 1024 * MIB).is_err(),
        "a kernel that ends above 1 GiB"
    );
}

fn cases() -> ProptestConfig {
    let cases = std::env::var("PENSTOCK_CASES")
        .ok()
        .and_then(|text| text.parse().ok());
    ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(cases.unwrap_or(2048))
    }
}

/// What every plan keeps: all inside, nothing on anything else.
fn check_plan(request: &LoadRequest<'_>, plan: &LoadPlan) {
    let mut taken: Vec<(u64, u64)> = Vec::new();
    for copy in &plan.copies {
        assert!(copy.file.start <= copy.file.end && copy.file.end <= request.kernel.len());
        let end = copy.guest.get() + copy.file.len() as u64 + copy.zero_bytes;
        assert!(end <= plan.kernel_end.get());
        taken.push((copy.guest.get(), end));
    }
    assert!(plan.copies.iter().any(|copy| {
        let start = copy.guest.get();
        (start..start + copy.file.len() as u64).contains(&plan.entry.get())
    }));
    let above = [
        Some((plan.rtas.get(), plan.rtas.get() + 4096)),
        Some((plan.fdt.get(), plan.fdt.get() + plan.fdt_bytes)),
        plan.initrd
            .map(|initrd| (initrd.start.get(), initrd.end.get())),
    ];
    assert!(plan.rtas.is_aligned(0x1_0000) && plan.fdt.is_aligned(0x1_0000));
    assert!(plan.rtas.get() + 4096 <= 1 << 30 && plan.fdt.get() + plan.fdt_bytes <= 1 << 30);
    for (start, end) in above.into_iter().flatten() {
        assert!(start >= plan.kernel_end.get());
        taken.push((start, end));
    }
    if let Some(initrd) = plan.initrd {
        assert_eq!(
            Some(initrd.end.get() - initrd.start.get()),
            request.initrd_bytes
        );
    }
    taken.sort_unstable();
    assert!(taken.windows(2).all(|pair| pair[0].1 <= pair[1].0));
    assert!(taken.iter().all(|&(_, end)| end <= request.memory_bytes));
}

#[test]
fn byte_order_is_that_of_the_file() {
    for (big, order) in [(false, ByteOrder::Little), (true, ByteOrder::Big)] {
        let kernel = Elf {
            big,
            ..Elf::default()
        };
        assert_eq!(byte_order(&kernel.build()), order);
    }
    for raw in [&b"raw"[..], b"", b"\x7fELF", b"\x7fELF\x02\x07", &[2; 64]] {
        assert_eq!(byte_order(raw), ByteOrder::Little);
    }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn every_plan_is_inside_and_disjoint(
        big in any::<bool>(),
        fixed in any::<bool>(),
        load_address in prop::option::of((0..64_u64).prop_map(|page| page << 12)),
        loads in prop::collection::vec(
            (0..0x3000_u64, 0..0x200_u64, 0..0x1000_u64, 0..0x8_0000_u64),
            1..6,
        ),
        memory_mib in (1..80_u64).prop_map(|blocks| 16 * blocks),
        initrd_bytes in prop::option::of(0..0x8000_0000_u64),
    ) {
        let loads: Vec<_> = loads
            .into_iter()
            .map(|(offset, page, filesz, bss)| {
                let paddr = page << 16;
                Load { offset, vaddr: paddr, paddr, filesz, memsz: filesz + bss }
            })
            .collect();
        let entry = loads[0].vaddr;
        let kind = if fixed { abi::ET_EXEC } else { abi::ET_DYN };
        let kernel = Elf { big, kind, entry, loads, ..Elf::default() }.build();
        let request = LoadRequest {
            kernel: &kernel,
            load_address: load_address.map(GuestReal::new),
            memory_bytes: memory_mib * MIB,
            initrd_bytes,
            fdt_bytes: FDT_BYTES,
        };
        match plan(&request) {
            Ok(plan) => check_plan(&request, &plan),
            Err(error) => prop_assert!(!error.to_string().contains('\n')),
        }
    }

    #[test]
    fn mutated_kernels_never_panic(
        big in any::<bool>(),
        changes in prop::collection::vec((0..240_usize, any::<u8>()), 1..5),
        load_address in prop::option::of(Just(GuestReal::new(0x40_0000))),
        length in 0..=0x3000_usize,
        cut in any::<bool>(),
    ) {
        let mut elf = Elf { big, ..Elf::default() };
        elf.loads.push(Load {
            offset: 0x2000,
            vaddr: 0xc000_0000_0100_0000,
            paddr: 0x100_0000,
            filesz: 0x1000,
            memsz: 0x2000,
        });
        let mut kernel = elf.build();
        for (at, value) in changes {
            kernel[at] = value;
        }
        if cut {
            kernel.truncate(length);
        }
        let request = LoadRequest { load_address, initrd_bytes: Some(5), ..request(&kernel) };
        if let Ok(plan) = plan(&request) {
            check_plan(&request, &plan);
        }
    }
}
