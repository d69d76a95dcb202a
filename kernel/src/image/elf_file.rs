// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The loaded segments of an ELF kernel.
//!
//! Only the file header and the program headers are looked at: a kernel without section headers
//! is as good as one with them. Both byte orders are taken, since guests start big-endian whatever
//! they are. The entry point of a big-endian ET_EXEC kernel is an address like any other's, not a
//! function descriptor.

use super::{ImageError, Kernel, LoadRequest, MAX_SEGMENTS, SegmentCopy};
use alloc::vec::Vec;
use elf::abi;
use elf::endian::AnyEndian;
use elf::file::{Class, ELF64_EHDR_TAILSIZE, FileHeader, parse_ident};
use elf::segment::ProgramHeader;
use penstock_arch::addr::GuestReal;

/// Whether the file says that it is ELF.
pub(super) fn is_elf(file: &[u8]) -> bool {
    file.starts_with(&abi::ELFMAGIC)
}

/// Whether an ELF file says that its data are big-endian.
pub(super) fn is_big_endian(file: &[u8]) -> bool {
    file.get(abi::EI_DATA) == Some(&abi::ELFDATA2MSB)
}

/// A program header that is loaded, with where it goes.
struct Segment {
    /// Number of the program header.
    index: usize,
    header: ProgramHeader,
    start: GuestReal,
    end: GuestReal,
    copy: SegmentCopy,
}

/// Checks every loaded segment and where it goes.
pub(super) fn segments(request: &LoadRequest<'_>) -> Result<Kernel, ImageError> {
    let file = request.kernel;
    let header = file_header(file)?;
    let load_address = match (header.e_type, request.load_address) {
        (abi::ET_EXEC, Some(address)) => return Err(ImageError::LoadAddressOfFixed { address }),
        (abi::ET_EXEC, None) => GuestReal::new(0),
        (abi::ET_DYN, address) => address.unwrap_or(GuestReal::new(0)),
        (kind, _) => return Err(ImageError::WrongType { kind }),
    };
    let mut list: Vec<Segment> = Vec::new();
    for (index, program_header) in program_headers(file, &header)?.enumerate() {
        let program_header = program_header?;
        if program_header.p_type != abi::PT_LOAD || program_header.p_memsz == 0 {
            continue;
        }
        if list.len() == MAX_SEGMENTS {
            return Err(ImageError::TooManySegments);
        }
        let segment = segment(request, index, program_header, load_address)?;
        let overlaps = |other: &&Segment| segment.start < other.end && other.start < segment.end;
        if let Some(other) = list.iter().find(overlaps) {
            return Err(ImageError::SegmentsOverlap {
                first: other.index,
                second: index,
            });
        }
        list.push(segment);
    }
    let end = list
        .iter()
        .map(|segment| segment.end)
        .max()
        .ok_or(ImageError::NoSegment)?;
    let entry = entry(&list, header.e_entry)?;
    Ok(Kernel {
        copies: list.into_iter().map(|segment| segment.copy).collect(),
        entry,
        end,
    })
}

fn file_header(file: &[u8]) -> Result<FileHeader<AnyEndian>, ImageError> {
    let (ident, tail) = file
        .split_at_checked(abi::EI_NIDENT)
        .ok_or(ImageError::BrokenElf)?;
    let ident = parse_ident::<AnyEndian>(ident).map_err(|_| ImageError::BrokenElf)?;
    // A 32-bit header is shorter; its machine is at the same place.
    let tail = tail.get(..ELF64_EHDR_TAILSIZE).unwrap_or(tail);
    let header = FileHeader::parse_tail(ident, tail).map_err(|_| ImageError::BrokenElf)?;
    if header.class != Class::ELF64 {
        return Err(ImageError::Elf32 {
            machine: header.e_machine,
        });
    }
    if header.e_machine != abi::EM_PPC64 {
        return Err(ImageError::WrongMachine {
            machine: header.e_machine,
        });
    }
    Ok(header)
}

type Headers<'a> = core::slice::ChunksExact<'a, u8>;

fn program_headers<'a>(
    file: &'a [u8],
    header: &FileHeader<AnyEndian>,
) -> Result<impl Iterator<Item = Result<ProgramHeader, ImageError>> + use<'a>, ImageError> {
    /// Bytes of a program header of a 64-bit file.
    const ENTRY_BYTES: usize = 56;
    let count = usize::from(header.e_phnum);
    if count == 0 {
        return Err(ImageError::NoSegment);
    }
    if usize::from(header.e_phentsize) != ENTRY_BYTES {
        return Err(ImageError::BrokenElf);
    }
    let table = usize::try_from(header.e_phoff)
        .ok()
        .and_then(|start| file.get(start..start.checked_add(count.checked_mul(ENTRY_BYTES)?)?))
        .ok_or(ImageError::BrokenElf)?;
    let entries: Headers<'a> = table.chunks_exact(ENTRY_BYTES);
    let endian = header.endianness;
    Ok(entries.map(move |bytes| {
        use elf::parse::ParseAt;
        ProgramHeader::parse_at(endian, Class::ELF64, &mut 0, bytes)
            .map_err(|_| ImageError::BrokenElf)
    }))
}

fn segment(
    request: &LoadRequest<'_>,
    index: usize,
    header: ProgramHeader,
    load_address: GuestReal,
) -> Result<Segment, ImageError> {
    let zero_bytes = header
        .p_memsz
        .checked_sub(header.p_filesz)
        .ok_or(ImageError::SegmentLargerInFile { index })?;
    let file =
        file_range(request.kernel, &header).ok_or(ImageError::SegmentOutsideFile { index })?;
    let start = load_address.checked_add(header.p_paddr);
    let end = start.and_then(|start| start.checked_add(header.p_memsz));
    match (start, end) {
        (Some(start), Some(end)) if end.get() <= request.memory_bytes => {
            let copy = SegmentCopy {
                file,
                guest: start,
                zero_bytes,
            };
            Ok(Segment {
                index,
                header,
                start,
                end,
                copy,
            })
        }
        _ => Err(ImageError::OutsideMemory {
            address: start.unwrap_or(GuestReal::new(header.p_paddr)),
            bytes: header.p_memsz,
            memory_bytes: request.memory_bytes,
        }),
    }
}

fn file_range(file: &[u8], header: &ProgramHeader) -> Option<core::ops::Range<usize>> {
    // A segment of zeros alone may name any offset.
    if header.p_filesz == 0 {
        return Some(0..0);
    }
    let start = usize::try_from(header.p_offset).ok()?;
    let end = start.checked_add(usize::try_from(header.p_filesz).ok()?)?;
    (end <= file.len()).then_some(start..end)
}

/// Where the guest starts: the entry point's distance from the start of the segment that holds it,
/// from where that segment is loaded.
fn entry(list: &[Segment], entry: u64) -> Result<GuestReal, ImageError> {
    list.iter()
        .find_map(|segment| {
            let offset = entry.checked_sub(segment.header.p_vaddr)?;
            (offset < segment.header.p_filesz).then_some(segment.start.checked_add(offset)?)
        })
        .filter(|address| address.is_aligned(4))
        .ok_or(ImageError::BadEntry { entry })
}
