// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Why a kernel cannot be loaded, each as one line.

use super::{LOAD_ALIGN_BYTES, MAX_SEGMENTS, Part};
use core::fmt;
use elf::abi;
use penstock_arch::addr::GuestReal;

/// Why a kernel cannot be loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageError {
    /// The file has no bytes.
    Empty,
    /// The file is not ELF, and no load address says that it is a raw image.
    NotElf,
    /// The load address is not aligned.
    LoadAddressUnaligned {
        /// The address.
        address: GuestReal,
    },
    /// An ELF file whose header or program headers are cut off or broken.
    BrokenElf,
    /// An ELF file with 32-bit addresses.
    Elf32 {
        /// The machine that it is for.
        machine: u16,
    },
    /// An ELF file for another machine.
    WrongMachine {
        /// The machine that it is for.
        machine: u16,
    },
    /// An ELF file that is neither ET_EXEC nor ET_DYN.
    WrongType {
        /// Its type.
        kind: u16,
    },
    /// A load address for a kernel that has its own.
    LoadAddressOfFixed {
        /// The address.
        address: GuestReal,
    },
    /// The file has no segment to load.
    NoSegment,
    /// The file has more segments than any kernel.
    TooManySegments,
    /// A segment says that the file has more of it than memory takes.
    SegmentLargerInFile {
        /// Which program header, from 0.
        index: usize,
    },
    /// A segment's bytes do not lie in the file.
    SegmentOutsideFile {
        /// Which program header, from 0.
        index: usize,
    },
    /// A segment, or a raw image, does not lie in guest memory.
    OutsideMemory {
        /// Where it should go.
        address: GuestReal,
        /// Bytes that it takes there.
        bytes: u64,
        /// Bytes of guest memory.
        memory_bytes: u64,
    },
    /// Two segments share guest memory.
    SegmentsOverlap {
        /// Program header of the one, from 0.
        first: usize,
        /// Program header of the other.
        second: usize,
    },
    /// The entry point is not an instruction that was loaded from the file.
    BadEntry {
        /// The entry point as the file gives it.
        entry: u64,
    },
    /// No place beside the kernel.
    NoRoom {
        /// For what.
        what: Part,
        /// Bytes that it takes.
        bytes: u64,
        /// Where the kernel ends.
        kernel_end: GuestReal,
        /// Bytes of guest memory.
        memory_bytes: u64,
    },
}

/// An ELF machine number with the name of the better-known ones.
struct Machine(u16);

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            abi::EM_386 => "x86",
            abi::EM_X86_64 => "x86-64",
            abi::EM_ARM => "Arm",
            abi::EM_AARCH64 => "AArch64",
            abi::EM_PPC => "32-bit PowerPC",
            abi::EM_PPC64 => "64-bit PowerPC",
            abi::EM_S390 => "S/390",
            abi::EM_RISCV => "RISC-V",
            abi::EM_LOONGARCH => "LoongArch",
            other => return write!(f, "ELF machine {other}"),
        })
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rtas => "RTAS",
            Self::DeviceTree => "the device tree",
            Self::Initrd => "the initrd",
        })
    }
}

impl fmt::Display for ImageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Empty => f.write_str("kernel is empty"),
            Self::NotElf => {
                f.write_str("kernel is not an ELF file; a raw image needs a load-address to say so")
            }
            Self::LoadAddressUnaligned { address } => write!(
                f,
                "load-address {address} is not a multiple of {LOAD_ALIGN_BYTES:#x}"
            ),
            Self::BrokenElf => f.write_str("kernel's ELF headers are broken or cut off"),
            Self::Elf32 { machine } => {
                write!(
                    f,
                    "kernel is a 32-bit ELF file for {}, not a 64-bit one",
                    Machine(machine)
                )
            }
            Self::WrongMachine { machine } => {
                write!(
                    f,
                    "kernel is an ELF file for {}, not for 64-bit PowerPC",
                    Machine(machine)
                )
            }
            Self::WrongType { kind } => write!(
                f,
                "kernel is an ELF file of type {kind}; only executables (2) and \
                 position-independent ones (3) can be loaded"
            ),
            Self::LoadAddressOfFixed { address } => write!(
                f,
                "load-address {address} for a kernel that is linked to a fixed address (ET_EXEC)"
            ),
            Self::NoSegment => f.write_str("kernel's ELF file has nothing to load"),
            Self::TooManySegments => {
                write!(
                    f,
                    "kernel's ELF file has more than {MAX_SEGMENTS} segments to load"
                )
            }
            Self::SegmentLargerInFile { index } => {
                write!(
                    f,
                    "kernel's program header {index} has more bytes in the file than in memory"
                )
            }
            Self::SegmentOutsideFile { index } => {
                write!(
                    f,
                    "kernel's program header {index} does not lie in the file; is it cut off?"
                )
            }
            Self::OutsideMemory {
                address,
                bytes,
                memory_bytes,
            } => write!(
                f,
                "kernel's {bytes} bytes at {address} do not lie in the guest's {} MiB of memory",
                memory_bytes >> 20
            ),
            Self::SegmentsOverlap { first, second } => {
                write!(
                    f,
                    "kernel's program headers {first} and {second} overlap in memory"
                )
            }
            Self::BadEntry { entry } => {
                write!(
                    f,
                    "kernel's entry point {entry:#x} is not in a segment of its file"
                )
            }
            Self::NoRoom {
                what,
                bytes,
                kernel_end,
                memory_bytes,
            } => write!(
                f,
                "no room for {what} ({bytes} bytes) above the kernel, which ends at {kernel_end}, \
                 in the guest's {} MiB of memory",
                memory_bytes >> 20
            ),
        }
    }
}

impl core::error::Error for ImageError {}
