// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The control interface, as a tool uses it on another partition that is at work.
//!
//! For a guest whose partition is marked `control` and whose command line says `tool=NUMBER`. The other
//! partition watches itself meanwhile (see `turns`): here is only what a tool sees. The records are
//! laid out by hand, so that the hypervisor's own declarations are not tested against themselves.

use super::env::Env;
use penstock_guest_rt::clock::FREQUENCY;
use penstock_guest_rt::console::println;
use penstock_guest_rt::cpu;
use penstock_guest_rt::hcall::{self, Reply};
use penstock_guest_rt::memory::Range;
use penstock_guest_rt::number::status;
use penstock_guest_rt::suite::{Check, Failure, Outcome, expect, expect_at, require};

/// The checks of this file.
pub const CHECKS: &[Check<Env>] = &[
    Check {
        name: "control-offers-everything-for-the-other-partition",
        run: features,
    },
    Check {
        name: "control-what-runs-is-the-hypervisors",
        run: running,
    },
    Check {
        name: "control-a-table-is-streamed-out-dropped-and-streamed-in",
        run: reload,
    },
    Check {
        name: "control-registers-come-out-and-go-in-again",
        run: registers,
    },
    Check {
        name: "control-what-was-written-is-told",
        run: dirty,
    },
    Check {
        name: "control-translations-are-dropped",
        run: invalidate,
    },
];

const H_CONTROL: u64 = 0xf004;

// Functions.
const FEATURE: u64 = 1;
const CAPABILITIES: u64 = 2;
const DIRTY_LOG: u64 = 4;
const DIRTY_HARVEST: u64 = 5;
const DIRTY_FETCH: u64 = 6;
const STREAM_OPEN: u64 = 7;
const STREAM_READ: u64 = 8;
const STREAM_WRITE: u64 = 9;
const STREAM_CLOSE: u64 = 10;
const HPT_DROP: u64 = 11;
const VCPU_GET: u64 = 12;
const VCPU_SET: u64 = 13;
const SUSPEND: u64 = 14;
const COMMIT: u64 = 15;
const RESUME: u64 = 16;
const INVALIDATE: u64 = 17;

const H_STATE: u64 = 0u64.wrapping_sub(75);
const H_BAD_DATA: u64 = 0u64.wrapping_sub(70);
const H_LONG_BUSY_ORDER_1_MSEC: u64 = 9900;
const DONE: u64 = u64::MAX;

/// Longest buffer, and how far apart the pieces of a stream are kept.
const BUFFER_BYTES: u64 = 16 << 10;
/// Most pieces of a stream that are kept.
const PIECES: u64 = 64;
/// The number of the stream that is written.
const WRITER: u32 = 0x100;
/// Bytes before a piece's records.
const CHUNK_BYTES: u64 = 40;
/// Flags of a piece.
const FIRST_PASS: u32 = 1;
const END: u32 = 4;

/// The partition that this one works on; `None` where it is no tool.
pub fn target(env: &Env) -> Option<u64> {
    number_after(env, "tool=")
}

fn number_after(env: &Env, prefix: &str) -> Option<u64> {
    let chosen = env.boot.fdt.node("/chosen")?;
    let line = chosen.string("bootargs")?;
    let words = line.split(' ');
    words
        .filter_map(|word| word.strip_prefix(prefix))
        .find_map(|number| number.parse().ok())
}

/// A guest whose command line says `hold=NUMBER` suspends that partition once it is at work, and
/// does no more: whoever destroys it leaves the other one behind.
pub fn hold_if_asked(env: &Env) {
    let Some(target) = number_after(env, "hold=") else {
        return;
    };
    let memory = env.work.part(0, PIECES * BUFFER_BYTES);
    let tool = Tool { target, memory };
    // Until the other one waits, it stores through its mappings.
    let_run();
    let_run();
    if tool.suspend().is_ok() {
        println!("builtin: holds partition {target}");
    }
    loop {
        let_run();
    }
}

/// Another partition, and memory for what is exchanged.
struct Tool {
    target: u64,
    memory: Range,
}

impl Tool {
    fn new(env: &Env) -> Result<Self, Failure> {
        let target = target(env).ok_or(Failure::Skip("no tool"))?;
        let memory = env.work.part(0, PIECES * BUFFER_BYTES);
        Ok(Self { target, memory })
    }

    /// The buffer for piece `number`.
    fn piece(&self, number: u64) -> Range {
        self.memory.part(number * BUFFER_BYTES, BUFFER_BYTES)
    }

    fn call(&self, function: u64, buffer: Option<(&Range, u64)>, arguments: [u64; 3]) -> Reply {
        let (address, length) = buffer.map_or((0, 0), |(range, length)| (range.base(), length));
        let [a, b, c] = arguments;
        let words = [function, self.target, address, length, a, b, c, 0, 0];
        hcall::call_with(H_CONTROL, words)
    }

    fn status(&self, function: u64, arguments: [u64; 3]) -> u64 {
        self.call(function, None, arguments).status
    }

    /// A call without buffer that goes well: its results.
    fn does(&self, function: u64, arguments: [u64; 3]) -> Result<[u64; 8], Failure> {
        let reply = self.call(function, None, arguments);
        expect_at("status", function, reply.status, status::SUCCESS)?;
        Ok(reply.values)
    }

    /// A call with a buffer that goes well: its results.
    fn with(
        &self,
        function: u64,
        buffer: (&Range, u64),
        arguments: [u64; 3],
    ) -> Result<[u64; 8], Failure> {
        let reply = self.call(function, Some(buffer), arguments);
        if reply.status == H_BAD_DATA {
            expect_at("reason of H_BAD_DATA", reply.values[1], reply.values[0], 0)?;
        }
        expect_at("status", function, reply.status, status::SUCCESS)?;
        Ok(reply.values)
    }

    fn suspend(&self) -> Outcome {
        for _ in 0..1000 {
            match self.status(SUSPEND, [0; 3]) {
                H_LONG_BUSY_ORDER_1_MSEC | status::BUSY => {}
                other => return expect("SUSPEND", other, status::SUCCESS),
            }
        }
        expect("SUSPEND", H_LONG_BUSY_ORDER_1_MSEC, status::SUCCESS)
    }

    fn resume(&self) -> Outcome {
        expect("RESUME", self.status(RESUME, [0; 3]), status::SUCCESS)
    }

    /// Reads a pass into the pieces' buffers, and returns how many there are.
    fn read_pass(&self) -> Result<u64, Failure> {
        let [stream, ..] = self.does(STREAM_OPEN, [0; 3])?;
        for number in 0..PIECES {
            let piece = self.piece(number);
            self.with(STREAM_READ, (&piece, BUFFER_BYTES), [stream, 0, 0])?;
            expect_at(
                "flags",
                number,
                u64::from(piece.word_be(12) & FIRST_PASS),
                1,
            )?;
            if piece.word_be(12) & END != 0 {
                self.does(STREAM_CLOSE, [stream, 0, 0])?;
                return Ok(number + 1);
            }
        }
        Err(Failure::Skip("the stream is too long for this guest"))
    }

    fn drop_all(&self) -> Outcome {
        let mut cursor = 0;
        while cursor != DONE {
            [cursor, ..] = self.does(HPT_DROP, [cursor, 0, 0])?;
        }
        Ok(())
    }

    fn write_pass(&self, pieces: u64) -> Outcome {
        let [stream, ..] = self.does(STREAM_OPEN, [2, 0, 0])?;
        expect("stream", stream, u64::from(WRITER))?;
        for number in 0..pieces {
            let piece = self.piece(number);
            piece.write_bytes(8, &WRITER.to_be_bytes());
            let bytes = CHUNK_BYTES + u64::from(piece.word_be(24));
            self.with(STREAM_WRITE, (&piece, bytes), [stream, 0, 0])?;
        }
        self.does(STREAM_CLOSE, [stream, 0, 0])?;
        Ok(())
    }
}

fn features(env: &mut Env) -> Outcome {
    let tool = Tool::new(env)?;
    for feature in 0..=10 {
        let [version, ..] = tool.does(FEATURE, [feature, 0, 0])?;
        expect_at("version", feature, version, 1)?;
    }
    let [version, ..] = tool.does(FEATURE, [11, 0, 0])?;
    expect("version", version, 0)?;
    let nobody = Tool {
        target: 4000,
        ..Tool::new(env)?
    };
    expect("nobody", nobody.status(FEATURE, [0; 3]), status::P2)?;
    let itself = env.boot.fdt.root();
    let itself = itself.and_then(|root| root.cell("ibm,partition-no"));
    let itself = Tool {
        target: u64::from(itself.unwrap_or(0)),
        ..Tool::new(env)?
    };
    expect("itself", itself.status(SUSPEND, [0; 3]), status::P2)
}

fn running(env: &mut Env) -> Outcome {
    let tool = Tool::new(env)?;
    for function in [COMMIT, RESUME, HPT_DROP] {
        expect_at("status", function, tool.status(function, [0; 3]), H_STATE)?;
    }
    expect("writer", tool.status(STREAM_OPEN, [2, 0, 0]), H_STATE)?;
    let piece = tool.piece(0);
    for function in [VCPU_GET, VCPU_SET] {
        let reply = tool.call(function, Some((&piece, 2456)), [0; 3]);
        expect_at("status", function, reply.status, H_STATE)?;
    }
    Ok(())
}

fn reload(env: &mut Env) -> Outcome {
    let tool = Tool::new(env)?;
    let mut longest = 0;
    for _ in 0..8 {
        tool.suspend()?;
        let pieces = tool.read_pass()?;
        longest = u64::max(longest, pieces);
        tool.drop_all()?;
        expect("dropped", tool.status(RESUME, [0; 3]), H_STATE)?;
        tool.write_pass(pieces)?;
        expect("uncommitted", tool.status(RESUME, [0; 3]), H_STATE)?;
        tool.does(COMMIT, [0; 3])?;
        tool.resume()?;
        let_run();
    }
    require("pieces", "some", longest, |pieces| pieces > 0)
}

/// Leaves the thread to the other partition for a while.
fn let_run() {
    let end = cpu::timebase() + FREQUENCY / 20;
    while cpu::timebase() < end {}
}

fn registers(env: &mut Env) -> Outcome {
    let tool = Tool::new(env)?;
    let (all, again) = (tool.piece(0), tool.piece(1));
    let bytes = 2456 + 1056;
    for _ in 0..20 {
        tool.suspend()?;
        let [written, ..] = tool.with(VCPU_GET, (&all, bytes), [0, 7, 0])?;
        expect("bytes", written, bytes)?;
        // ME, and a bit of the MSR that is no guest's.
        let msr = all.word_be(36);
        expect("ME", u64::from(msr & 0x1000), 0x1000)?;
        all.write_bytes(32, &(u64::from(msr) | 1 << 60).to_be_bytes());
        let reply = tool.call(VCPU_SET, Some((&all, bytes)), [0; 3]);
        expect("HV", reply.status, H_BAD_DATA)?;
        expect("offset", reply.values[1], 32)?;
        tool.with(VCPU_GET, (&all, bytes), [0, 7, 0])?;
        tool.with(VCPU_SET, (&all, bytes), [0, 0, 0])?;
        tool.with(VCPU_GET, (&again, bytes), [0, 7, 0])?;
        for offset in (0..bytes).step_by(8) {
            // The time base of the record goes on.
            if offset != 88 {
                expect_at("register", offset, again.read(offset), all.read(offset))?;
            }
        }
        expect("uncommitted", tool.status(RESUME, [0; 3]), H_STATE)?;
        tool.does(COMMIT, [0; 3])?;
        tool.resume()?;
        let_run();
    }
    Ok(())
}

fn dirty(env: &mut Env) -> Outcome {
    let tool = Tool::new(env)?;
    tool.does(DIRTY_LOG, [0, 1, 0])?;
    let harvest = || -> Outcome {
        let mut cursor = 0;
        while cursor != DONE {
            [cursor, ..] = tool.does(DIRTY_HARVEST, [0, 1, cursor])?;
        }
        Ok(())
    };
    harvest()?;
    take(&tool)?;
    let_run();
    tool.suspend()?;
    harvest()?;
    let written = take(&tool)?;
    // It stands still.
    harvest()?;
    expect("written while it is suspended", take(&tool)?, 0)?;
    tool.resume()?;
    tool.does(DIRTY_LOG, [0, 0, 0])?;
    require("pages written", "some, and not all", written, |pages| {
        (1..1 << 15).contains(&pages)
    })
}

/// Takes the dirty pages of slot 0: how many there were.
fn take(tool: &Tool) -> Result<u64, Failure> {
    let buffer = tool.piece(0);
    let (mut first, mut dirty) = (0, 0);
    while first != DONE {
        let mut request = [0; 40];
        // Version 1.0, kind 3, 40 bytes; 4K pages; as many as fit; TAKE.
        request[..8].copy_from_slice(&[1, 0, 3, 0, 0, 0, 0, 40]);
        request[12] = 12;
        request[16..24].copy_from_slice(&u64::to_be_bytes(first));
        request[24..32].copy_from_slice(&u64::to_be_bytes(1 << 20));
        request[35] = 1;
        buffer.write_bytes(0, &request);
        [_, first, ..] = tool.with(DIRTY_FETCH, (&buffer, BUFFER_BYTES), [0; 3])?;
        dirty += u64::from(buffer.word_be(36));
    }
    Ok(dirty)
}

fn invalidate(env: &mut Env) -> Outcome {
    let tool = Tool::new(env)?;
    let buffer = tool.piece(0);
    tool.with(CAPABILITIES, (&buffer, 128), [0; 3])?;
    let threshold = u64::from(buffer.word_be(80));
    tool.suspend()?;
    for (bits, everything) in [(threshold, 0), (threshold + 1, 1)] {
        let mut record = [0; 48];
        record[..8].copy_from_slice(&[1, 0, 8, 0, 0, 0, 0, 48]);
        record[16..24].copy_from_slice(&u64::to_be_bytes(0));
        record[24..32].copy_from_slice(&u64::to_be_bytes(bits));
        buffer.write_bytes(0, &record);
        let bytes = bits.div_ceil(8);
        let length = u32::try_from(bytes).unwrap_or(0);
        buffer.write_bytes(12, &length.to_be_bytes());
        for bit in 0..bytes {
            let rest = bits - 8 * bit;
            let byte = if rest >= 8 { 0xff } else { (1 << rest) - 1 };
            buffer.write_bytes(48 + bit, &[byte]);
        }
        let [marked, all, ..] = tool.with(INVALIDATE, (&buffer, 48 + bytes), [0; 3])?;
        expect("bits", marked, bits)?;
        expect("everything", all, everything)?;
    }
    tool.does(COMMIT, [0; 3])?;
    tool.resume()
}
