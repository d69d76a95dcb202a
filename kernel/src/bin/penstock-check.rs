// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Checks a partition tree on the host, with the hypervisor's own code.
//!
//! `penstock-check [--memory SIZE] [--threads N] FILE.dtb` reads the tree, plans the start of every partition
//! and, where the board's memory or its number of threads is given, checks that they fit it. SIZE is a number of bytes,
//! with K, M or G behind it of 1024, 1024² or 1024³ bytes.
//!
//! It says nothing and ends with 0 where the hypervisor would start the partitions. Otherwise it
//! says why not, in one line on standard error, and ends with 2.

use penstock_kernel::config::{self, Partitions};
use penstock_kernel::image::{self, LoadRequest};
use penstock_kernel::smp::THREAD_BYTES;
use std::ffi::OsString;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// What firmware (68 MiB on POWER10) and the hypervisor take of a board's memory, rounded up. The
/// hypervisor itself counts again, exactly.
const FIRMWARE_AND_HYPERVISOR_BYTES: u64 = 80 << 20;

/// Largest file that is read: the format's own limit.
const LARGEST_FILE_BYTES: u64 = u32::MAX as u64;

const USAGE: &str = "usage: penstock-check [--memory SIZE] [--threads N] FILE.dtb";

struct Arguments {
    file: PathBuf,
    memory_bytes: Option<u64>,
    threads: Option<u32>,
}

fn main() -> ExitCode {
    let Some(arguments) = parse_arguments(std::env::args_os().skip(1)) else {
        eprintln!("penstock-check: {USAGE}");
        return ExitCode::from(2);
    };
    match check(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("penstock-check: {}: {reason}", arguments.file.display());
            ExitCode::from(2)
        }
    }
}

fn parse_arguments(mut arguments: impl Iterator<Item = OsString>) -> Option<Arguments> {
    let mut file = None;
    let mut memory_bytes = None;
    let mut threads = None;
    while let Some(argument) = arguments.next() {
        if argument == "--memory" {
            memory_bytes = Some(parse_size(arguments.next()?.to_str()?)?);
        } else if argument == "--threads" {
            threads = Some(arguments.next()?.to_str()?.parse().ok()?);
        } else if argument.to_str().is_some_and(|text| text.starts_with('-')) || file.is_some() {
            return None;
        } else {
            file = Some(PathBuf::from(argument));
        }
    }
    Some(Arguments {
        file: file?,
        memory_bytes,
        threads,
    })
}

fn parse_size(text: &str) -> Option<u64> {
    let (number, unit) = match text.strip_suffix(['K', 'M', 'G']) {
        Some(number) if text.ends_with('K') => (number, 1 << 10),
        Some(number) if text.ends_with('M') => (number, 1 << 20),
        Some(number) => (number, 1 << 30),
        None => (text, 1),
    };
    if !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    number.parse::<u64>().ok()?.checked_mul(unit)
}

fn check(arguments: &Arguments) -> Result<(), String> {
    let bytes = read(&arguments.file)?;
    let partitions = config::parse(&bytes).map_err(text)?;
    partitions.check_supported().map_err(text)?;
    plan_all(&partitions)?;
    if let Some(threads) = arguments.threads {
        partitions.check_threads(threads).map_err(text)?;
    }
    partitions.check_pool().map_err(text)?;
    let Some(memory_bytes) = arguments.memory_bytes else {
        return Ok(());
    };
    let file_bytes = u64::try_from(bytes.len()).map_err(text)?;
    let threads = u64::from(arguments.threads.unwrap_or(0));
    let used = FIRMWARE_AND_HYPERVISOR_BYTES
        .saturating_add(file_bytes)
        .saturating_add(threads.saturating_mul(THREAD_BYTES));
    partitions
        .check_against(memory_bytes.saturating_sub(used))
        .map_err(text)
}

fn plan_all(partitions: &Partitions<'_>) -> Result<(), String> {
    for partition in partitions.as_slice() {
        image::plan(&LoadRequest::of(partition))
            .map_err(|error| format!("partition {}: {error}", partition.name))?;
    }
    Ok(())
}

fn read(file: &Path) -> Result<Vec<u8>, String> {
    let metadata = std::fs::metadata(file).map_err(text)?;
    if !metadata.is_file() {
        return Err(String::from("not a file"));
    }
    if metadata.len() > LARGEST_FILE_BYTES {
        return Err(format!(
            "{} bytes are more than a device tree can have",
            metadata.len()
        ));
    }
    std::fs::read(file).map_err(text)
}

fn text(error: impl Display) -> String {
    error.to_string()
}
