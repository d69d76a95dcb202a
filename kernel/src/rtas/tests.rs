// SPDX-License-Identifier: Apache-2.0 OR MIT
//! RTAS calls as a guest makes them: a block in memory, then H_RTAS.

mod functions;

use super::testing::{FakeMemory, HOLE, SIZE, config};
use super::*;
use crate::console::Full;
use alloc::vec;
use alloc::vec::Vec;
use proptest::prelude::*;

const BLOCK: u64 = 0x1000;
const FACTS: PartitionFacts<'_> = PartitionFacts {
    name: "debian",
    memory_bytes: 512 << 20,
    vcpus: 1,
    machine_cpus: 1,
    page_sizes: &[],
};

struct FakeHost {
    now: Result<UnixTime, ClockError>,
    display_full: bool,
    shown: Vec<u8>,
    last_words: Vec<Vec<u8>>,
    started: Vec<(u32, u64, u64)>,
    sources: Vec<(u32, SourceTarget, &'static str)>,
}

impl FakeHost {
    fn new() -> Self {
        Self {
            // 2026-11-21 01:53:54
            now: Ok(UnixTime::new(1_795_226_034, 5).unwrap()),
            display_full: false,
            shown: vec![],
            last_words: vec![],
            started: vec![],
            sources: vec![(
                0x1100,
                SourceTarget {
                    server: 0,
                    priority: 0xff,
                },
                "masked",
            )],
        }
    }

    fn find(&mut self, source: u32) -> Result<usize, SourceError> {
        self.sources
            .iter()
            .position(|(s, ..)| *s == source)
            .ok_or(SourceError::Unknown)
    }
}

/// vCPU 0 runs, 1 is stopped, 2 is stopping, 3 cannot be started; there are no others.
impl RtasHost for FakeHost {
    fn now(&mut self) -> Result<UnixTime, ClockError> {
        self.now
    }
    fn put_char(&mut self, byte: u8) -> Result<(), Full> {
        if self.display_full {
            return Err(Full);
        }
        self.shown.push(byte);
        Ok(())
    }
    fn os_terminated(&mut self, message: &[u8]) {
        self.last_words.push(message.to_vec());
    }
    fn cpu_state(&mut self, server: u32) -> Option<CpuState> {
        match server {
            0 => Some(CpuState::Running),
            1 | 3 => Some(CpuState::Stopped),
            2 => Some(CpuState::Stopping),
            _ => None,
        }
    }
    fn start_cpu(&mut self, server: u32, entry: GuestReal, r3: u64) -> Result<(), StartCpuError> {
        if server == 3 {
            return Err(StartCpuError::NoResources);
        }
        self.started.push((server, entry.get(), r3));
        Ok(())
    }
    fn set_source(&mut self, source: u32, target: SourceTarget) -> Result<(), SourceError> {
        let i = self.find(source)?;
        self.sources[i].1 = target;
        Ok(())
    }
    fn source(&mut self, source: u32) -> Result<SourceTarget, SourceError> {
        let i = self.find(source)?;
        Ok(self.sources[i].1)
    }
    fn mask_source(&mut self, source: u32) -> Result<(), SourceError> {
        let i = self.find(source)?;
        self.sources[i].2 = "masked";
        Ok(())
    }
    fn unmask_source(&mut self, source: u32) -> Result<(), SourceError> {
        let i = self.find(source)?;
        self.sources[i].2 = "unmasked";
        Ok(())
    }
}

struct Guest {
    rtas: Rtas,
    memory: FakeMemory,
    host: FakeHost,
}

impl Guest {
    fn new() -> Self {
        Self {
            rtas: Rtas::new(),
            memory: FakeMemory::new(),
            host: FakeHost::new(),
        }
    }

    fn call_at(&mut self, at: u64) -> RtasOutcome {
        self.rtas
            .call(GuestReal::new(at), &FACTS, &mut self.memory, &mut self.host)
    }

    /// Calls by name; the output cells afterwards.
    fn call(&mut self, name: &str, args: &[u32]) -> (RtasOutcome, Vec<u32>) {
        let function = FUNCTIONS.iter().find(|f| f.name == name).unwrap();
        assert_eq!(args.len(), usize::from(function.nargs), "{name}");
        let nret = usize::from(function.nret);
        let mut words = vec![
            function.token,
            u32::from(function.nargs),
            u32::from(function.nret),
        ];
        words.extend(args);
        words.extend(vec![0x5555_5555; nret]);
        self.memory.put_words(0x1000, &words);
        let outcome = self.call_at(BLOCK);
        (
            outcome,
            self.memory.words(0x1000 + 12 + 4 * args.len(), nret),
        )
    }

    fn returns(&mut self, name: &str, args: &[u32]) -> Vec<u32> {
        let (outcome, cells) = self.call(name, args);
        assert_eq!(outcome, RtasOutcome::Returned, "{name} {args:x?}");
        cells
    }
}

const MINUS_1: u32 = 0xffff_ffff;
const MINUS_2: u32 = 0xffff_fffe;
const MINUS_3: u32 = 0xffff_fffd;

#[test]
fn tokens_and_names_are_distinct() {
    for (i, function) in FUNCTIONS.iter().enumerate() {
        assert_eq!(table::find(function.token), Some(function));
        assert!(
            FUNCTIONS[..i]
                .iter()
                .all(|f| f.name != function.name && f.call != function.call)
        );
    }
    assert_eq!(table::find(0x1fff), None);
    assert_eq!(table::find(0x2000).unwrap().name, "display-character");
    assert_eq!(table::find(0x2013), None);
    assert_eq!(table::find(u32::MAX), None);
}

#[test]
fn entry_code_is_five_instructions() {
    let words: Vec<u32> = ENTRY_CODE
        .chunks(4)
        .map(|c| u32::from_be_bytes(c.try_into().unwrap()))
        .collect();
    assert_eq!(
        words,
        [
            0x7c64_1b78,
            0x3c60_0000,
            0x6063_f000,
            0x4400_0022,
            0x4e80_0020
        ]
    );
}

#[test]
fn an_unknown_token_is_a_parameter_error() {
    let mut guest = Guest::new();
    for token in [0, 0xa, 0x1fff, 0x2012, u32::MAX] {
        guest.memory.put_words(0x1000, &[token, 0, 1, 0x5555_5555]);
        assert_eq!(guest.call_at(BLOCK), RtasOutcome::Returned);
        assert_eq!(guest.memory.words(0x100c, 1), [MINUS_3]);
    }
}

#[test]
fn wrong_numbers_of_cells_are_refused_without_effect() {
    for (nargs, nret) in [(0, 1), (1, 1), (3, 1), (2, 2), (15, 1), (2, 14)] {
        let mut guest = Guest::new();
        let power_off = 0x2003;
        guest.memory.put_words(0x1000, &[power_off, nargs, nret]);
        assert_eq!(
            guest.call_at(BLOCK),
            RtasOutcome::Returned,
            "{nargs} {nret}"
        );
        let status_at = BLOCK + 12 + 4 * u64::from(nargs);
        assert_eq!(guest.memory.writes, [(status_at, 4)], "{nargs} {nret}");
        assert_eq!(
            guest.memory.words(usize::try_from(status_at).unwrap(), 1),
            [MINUS_3]
        );
    }
}

#[test]
fn rtas_nargs_huge() {
    for nargs in [17, 0x100, 0x3fff_fffd, 0x4000_0000, 0x7fff_ffff, u32::MAX] {
        let mut guest = Guest::new();
        guest.memory.put_words(0x1000, &[0x2003, nargs, 1, 0, 0]);
        assert_eq!(guest.call_at(BLOCK), RtasOutcome::BadBlock, "{nargs:#x}");
        assert!(guest.memory.writes.is_empty(), "{nargs:#x}");
    }
}

#[test]
fn rtas_nret_huge() {
    for nret in [
        15,
        17,
        0x100,
        0x3fff_fffd,
        0x4000_0000,
        0x7fff_ffff,
        u32::MAX,
    ] {
        let mut guest = Guest::new();
        guest.memory.put_words(0x1000, &[0x2003, 2, nret, 0, 0]);
        assert_eq!(guest.call_at(BLOCK), RtasOutcome::BadBlock, "{nret:#x}");
        // Only the status, whose place is known.
        assert_eq!(guest.memory.writes, [(BLOCK + 20, 4)], "{nret:#x}");
        assert_eq!(guest.memory.words(0x1014, 1), [MINUS_3]);
    }
}

#[test]
fn counts_that_fit_alone_but_not_together() {
    let mut guest = Guest::new();
    guest.memory.put_words(0x1000, &[0x2003, 16, 1]);
    assert_eq!(guest.call_at(BLOCK), RtasOutcome::BadBlock);
    guest.memory.put_words(0x1000, &[0x2003, 1, 16]);
    assert_eq!(guest.call_at(BLOCK), RtasOutcome::BadBlock);
}

#[test]
fn no_output_cell_at_all() {
    let mut guest = Guest::new();
    guest.memory.put_words(0x1000, &[0x2004, 0, 0]);
    assert_eq!(guest.call_at(BLOCK), RtasOutcome::BadBlock);
    assert!(guest.memory.writes.is_empty());
}

#[test]
fn block_at_end_of_memory() {
    // Two inputs and one output: 24 bytes.
    let mut guest = Guest::new();
    guest.memory.put_words(0xffe8, &[0x2003, 2, 1, 0, 0, 0]);
    assert_eq!(guest.call_at(SIZE - 24), RtasOutcome::PowerOff);
    // One cell less, so the status lies outside: no effect.
    guest.memory.put_words(0xffec, &[0x2003, 2, 1, 0, 0]);
    assert_eq!(guest.call_at(SIZE - 20), RtasOutcome::BadBlock);
    // The inputs lie outside, then the header.
    guest.memory.put_words(0xfff0, &[0x2003, 2, 1, 0]);
    assert_eq!(guest.call_at(SIZE - 16), RtasOutcome::BadBlock);
    assert_eq!(guest.call_at(SIZE - 8), RtasOutcome::BadBlock);
    assert_eq!(guest.call_at(SIZE), RtasOutcome::BadBlock);
    assert!(guest.memory.writes.is_empty());
}

#[test]
fn block_in_hole() {
    let mut guest = Guest::new();
    assert_eq!(guest.call_at(HOLE.start), RtasOutcome::BadBlock);
    assert_eq!(guest.call_at(HOLE.start + 0x800), RtasOutcome::BadBlock);
    // Ends at the hole: good. Reaches into it: no effect.
    guest.memory.put_words(0x7fe8, &[0x2003, 2, 1, 0, 0, 0]);
    assert_eq!(guest.call_at(HOLE.start - 24), RtasOutcome::PowerOff);
    guest.memory.put_words(0x7fec, &[0x2003, 2, 1, 0, 0]);
    assert_eq!(guest.call_at(HOLE.start - 20), RtasOutcome::BadBlock);
    assert!(guest.memory.writes.is_empty());
}

#[test]
fn a_huge_nret_whose_status_has_no_memory() {
    let mut guest = Guest::new();
    guest.memory.put_words(0x7fec, &[0x2003, 2, 99, 0, 0]);
    assert_eq!(guest.call_at(HOLE.start - 20), RtasOutcome::BadBlock);
    assert!(guest.memory.writes.is_empty());
}

#[test]
fn block_address_must_be_a_cell_of_memory() {
    for offset in [1, 2, 3] {
        let mut guest = Guest::new();
        let at = BLOCK + offset;
        guest
            .memory
            .put_words(usize::try_from(at).unwrap(), &[0x2004, 0, 1]);
        assert_eq!(guest.call_at(at), RtasOutcome::BadBlock, "{at:#x}");
    }
    let mut guest = Guest::new();
    for at in [u64::MAX, u64::MAX - 3, u64::MAX - 11, u64::MAX - 15] {
        assert_eq!(guest.call_at(at), RtasOutcome::BadBlock, "{at:#x}");
    }
}

proptest! {
    #![proptest_config(config())]

    /// Whatever a block holds, only its output cells and the buffers that it names change, and
    /// never the header or the inputs.
    #[test]
    fn random_blocks_stay_in_their_cells(
        at in (0_u64..0x1_0010).prop_map(|a| a & !3),
        token in prop_oneof![0x2000_u32..0x2012, any::<u32>()],
        nargs in prop_oneof![0_u32..9, any::<u32>()],
        nret in prop_oneof![0_u32..9, any::<u32>()],
        args in proptest::collection::vec(prop_oneof![0_u32..0x1_0000, any::<u32>()], 8),
    ) {
        let mut guest = Guest::new();
        let header = [token, nargs, nret];
        for (i, word) in header.iter().chain(&args).enumerate() {
            let cell = usize::try_from(at).unwrap() + 4 * i;
            if cell + 4 <= guest.memory.bytes.len() {
                guest.memory.put_words(cell, &[*word]);
            }
        }
        let before = guest.memory.bytes.clone();
        let outcome = guest.call_at(at);
        let calls_a_function = table::find(token)
            .is_some_and(|f| u32::from(f.nargs) == nargs && u32::from(f.nret) == nret);
        prop_assert!(calls_a_function
            || matches!(outcome, RtasOutcome::Returned | RtasOutcome::BadBlock));
        let buffer_call = [0x2008, 0x200f].contains(&token);
        let outputs = at + 12 + 4 * u64::from(nargs);
        for (start, len) in &guest.memory.writes {
            let cell = *start >= outputs && start + *len as u64 <= outputs + 4 * u64::from(nret);
            prop_assert!(cell || buffer_call, "{start:#x} {len}");
        }
        if guest.memory.writes.is_empty() {
            prop_assert!(before == guest.memory.bytes);
        }
    }
}
