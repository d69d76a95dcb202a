// SPDX-License-Identifier: Apache-2.0 OR MIT
//! ELF files of both byte orders and classes, good and bad, for the tests.

use alloc::vec;
use alloc::vec::Vec;
use elf::abi;

/// A program header for [`Elf`].
#[derive(Clone, Copy)]
pub(super) struct Load {
    pub(super) offset: u64,
    pub(super) vaddr: u64,
    pub(super) paddr: u64,
    pub(super) filesz: u64,
    pub(super) memsz: u64,
}

/// An ELF file under construction.
#[derive(Clone)]
pub(super) struct Elf {
    pub(super) big: bool,
    pub(super) class: u8,
    pub(super) machine: u16,
    pub(super) kind: u16,
    pub(super) entry: u64,
    pub(super) loads: Vec<Load>,
    pub(super) bytes: usize,
}

impl Default for Elf {
    /// Like Debian's kernels: one segment at physical 0, linked high.
    fn default() -> Self {
        Self {
            big: false,
            class: abi::ELFCLASS64,
            machine: abi::EM_PPC64,
            kind: abi::ET_DYN,
            entry: 0xc000_0000_0000_0000,
            loads: vec![Load {
                offset: 0x1000,
                vaddr: 0xc000_0000_0000_0000,
                paddr: 0,
                filesz: 0x2000,
                memsz: 0x12345,
            }],
            bytes: 0x3000,
        }
    }
}

impl Elf {
    pub(super) fn build(&self) -> Vec<u8> {
        let mut file = Vec::new();
        let put = |file: &mut Vec<u8>, value: u64, width: usize| {
            if self.big {
                file.extend(&value.to_be_bytes()[8 - width..]);
            } else {
                file.extend(&value.to_le_bytes()[..width]);
            }
        };
        file.extend(b"\x7fELF");
        file.extend([self.class, if self.big { 2 } else { 1 }, 1, 0]);
        file.extend([0; 8]);
        let address = if self.class == abi::ELFCLASS64 { 8 } else { 4 };
        put(&mut file, self.kind.into(), 2);
        put(&mut file, self.machine.into(), 2);
        put(&mut file, 1, 4);
        put(&mut file, self.entry, address);
        put(&mut file, 64, address);
        put(&mut file, u64::MAX, address); // section headers: never looked at
        put(&mut file, 2, 4);
        for value in [64, 56, self.loads.len() as u64 + 1, 64, 0xffff, 0] {
            put(&mut file, value, 2);
        }
        file.resize(64, 0);
        // A note, which is not loaded wherever it says it is.
        for (value, width) in [
            (4, 4),
            (0, 4),
            (u64::MAX, 8),
            (0, 8),
            (u64::MAX, 8),
            (9, 8),
            (7, 8),
            (4, 8),
        ] {
            put(&mut file, value, width);
        }
        for load in &self.loads {
            put(&mut file, 1, 4);
            put(&mut file, 7, 4);
            for value in [
                load.offset,
                load.vaddr,
                load.paddr,
                load.filesz,
                load.memsz,
                0x1_0000,
            ] {
                put(&mut file, value, 8);
            }
        }
        file.resize(self.bytes, 0x60);
        file
    }
}
