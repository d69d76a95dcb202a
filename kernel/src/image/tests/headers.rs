// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the headers of a kernel's ELF file may say: its kind, its segments, its entry point.

use super::*;

#[test]
fn files_of_other_kinds_are_named() {
    assert_eq!(
        error(
            &Elf {
                machine: abi::EM_X86_64,
                ..Elf::default()
            },
            None
        ),
        "kernel is an ELF file for x86-64, not for 64-bit PowerPC"
    );
    assert_eq!(
        error(
            &Elf {
                machine: 0x1234,
                ..Elf::default()
            },
            Some(0)
        ),
        "kernel is an ELF file for ELF machine 4660, not for 64-bit PowerPC"
    );
    assert_eq!(
        error(
            &Elf {
                class: abi::ELFCLASS32,
                machine: abi::EM_PPC,
                big: true,
                ..Elf::default()
            },
            None
        ),
        "kernel is a 32-bit ELF file for 32-bit PowerPC, not a 64-bit one"
    );
    assert_eq!(
        error(
            &Elf {
                kind: abi::ET_REL,
                ..Elf::default()
            },
            None
        ),
        "kernel is an ELF file of type 1; only executables (2) and position-independent ones (3) \
         can be loaded"
    );
    assert_eq!(
        error(
            &Elf {
                loads: vec![],
                ..Elf::default()
            },
            None
        ),
        "kernel's ELF file has nothing to load"
    );
    let broken = "kernel's ELF headers are broken or cut off";
    assert_eq!(
        error(
            &Elf {
                class: 9,
                ..Elf::default()
            },
            None
        ),
        broken
    );
    for length in [4, 15, 16, 40, 63, 64, 64 + 56 + 55] {
        let mut kernel = Elf::default().build();
        kernel.truncate(length);
        assert_eq!(
            plan(&request(&kernel)).unwrap_err().to_string(),
            broken,
            "{length} bytes"
        );
    }
}

#[test]
fn segments_stay_in_the_file_and_in_memory() {
    assert_eq!(
        error(&with_load(|load| load.memsz = 0x1fff), None),
        "kernel's program header 1 has more bytes in the file than in memory"
    );
    let outside_file = "kernel's program header 1 does not lie in the file; is it cut off?";
    assert_eq!(
        error(&with_load(|load| load.offset = 0x1001), None),
        outside_file
    );
    assert_eq!(
        error(&with_load(|load| load.offset = u64::MAX), None),
        outside_file
    );
    let outside = |bytes: u64, address: &str| {
        alloc::format!(
            "kernel's {bytes} bytes at {address} do not lie in the guest's 512 MiB of memory"
        )
    };
    assert_eq!(
        error(&with_load(|load| load.paddr = 0x2000_0000), None),
        outside(0x12345, "0x20000000")
    );
    // One byte too far; with one less it lies inside, though then nothing fits above it.
    let at_the_end = |memsz| with_load(|load| (load.paddr, load.memsz) = (0x1fff_0000, memsz));
    assert_eq!(
        error(&at_the_end(0x1_0001), None),
        outside(0x1_0001, "0x1fff0000")
    );
    assert!(error(&at_the_end(0x1_0000), None).starts_with("no room for RTAS"));
    assert_eq!(
        error(&with_load(|load| load.memsz = u64::MAX), Some(0x1000)),
        outside(u64::MAX, "0x1000")
    );
    assert_eq!(
        error(
            &with_load(|load| load.paddr = u64::MAX - 0xfff),
            Some(0x1000)
        ),
        outside(0x12345, "0xfffffffffffff000")
    );
    assert_eq!(
        error(&Elf::default(), Some(512 * MIB)),
        outside(0x12345, "0x20000000")
    );
}

#[test]
fn segments_do_not_overlap() {
    let load = |paddr, memsz| Load {
        offset: 0x1000,
        vaddr: 0xc000_0000_0000_0000 + paddr,
        paddr,
        filesz: 0x10,
        memsz,
    };
    let with = |loads| {
        plan_of(
            &Elf {
                loads,
                ..Elf::default()
            },
            None,
        )
        .map(|plan| plan.copies.len())
    };
    assert_eq!(with(vec![load(0, 0x1000), load(0x1000, 0x1000)]), Ok(2));
    assert_eq!(
        with(vec![
            load(0, 0x1001),
            load(0x8000, 0x10),
            load(0x1000, 0x1000)
        ]),
        Err("kernel's program headers 1 and 3 overlap in memory".into())
    );
    // One without memory is nowhere.
    let nothing = Load {
        filesz: u64::MAX,
        ..load(0, 0)
    };
    assert_eq!(with(vec![load(0, 0x1000), nothing]), Ok(1));
    let many = |count: u64| (0..count).map(|index| load(index << 16, 0x10)).collect();
    assert_eq!(with(many(64)), Ok(64));
    assert_eq!(
        with(many(65)),
        Err("kernel's ELF file has more than 64 segments to load".into())
    );
}

#[test]
fn segments_of_zeros_alone_need_no_file() {
    let mut elf = Elf::default();
    elf.loads.push(Load {
        offset: u64::MAX,
        vaddr: 0xc000_0000_0010_0000,
        paddr: 0x10_0000,
        filesz: 0,
        memsz: 0x100,
    });
    let plan = plan_of(&elf, None).unwrap();
    assert_eq!(
        plan.copies[1],
        SegmentCopy {
            file: 0..0,
            guest: GuestReal::new(0x10_0000),
            zero_bytes: 0x100
        }
    );
    assert_eq!(plan.kernel_end, GuestReal::new(0x10_0100));
}

#[test]
fn entry_is_an_instruction_of_the_file() {
    for entry in [0, 0xc000_0000_0000_0002, 0xc000_0000_0000_2000, u64::MAX] {
        assert_eq!(
            error(
                &Elf {
                    entry,
                    ..Elf::default()
                },
                None
            ),
            alloc::format!("kernel's entry point {entry:#x} is not in a segment of its file")
        );
    }
    assert!(
        plan_of(
            &Elf {
                entry: 0xc000_0000_0000_1ffc,
                ..Elf::default()
            },
            None
        )
        .is_ok()
    );
}
