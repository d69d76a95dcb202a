// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Checks a partition tree on the host, with the hypervisor's own code.
//!
//! `penstock-check [--memory SIZE] [--threads N] [--name TEXT] FILE.dts|FILE.dtb` reads the tree, plans the
//! start of every partition and, where the board's memory or its number of threads is given, checks that they fit it.
//! SIZE is a number of bytes, with K, M or G behind it of 1024, 1024² or 1024³ bytes. A FILE.dts is compiled
//! by `dtc` first; of a FILE.dtb, `--source FILE.dts` says what it was compiled from, and `--name TEXT` what
//! its user knows it by, where that is no file.
//!
//! It says nothing and ends with 0 where the hypervisor would start the partitions. Otherwise it
//! says why not, in one line on standard error, and ends with 2. The message is the hypervisor's, behind
//! the file and, where the source is known, the line.

mod source;

use penstock_kernel::config::{self, ConfigError, Partitions, Place};
use penstock_kernel::image::{self, LoadRequest};
use penstock_kernel::smp::THREAD_BYTES;
use std::ffi::OsString;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

/// What firmware (68 MiB on POWER10) and the hypervisor take of a board's memory, rounded up. The
/// hypervisor itself counts again, exactly.
const FIRMWARE_AND_HYPERVISOR_BYTES: u64 = 80 << 20;

/// Largest file that is read: the format's own limit.
const LARGEST_FILE_BYTES: u64 = u32::MAX as u64;

const USAGE: &str = "usage: penstock-check [--memory SIZE] [--threads N] [--source FILE.dts] \
                     [--name TEXT] FILE.dts|FILE.dtb";

struct Arguments {
    file: PathBuf,
    source: Option<PathBuf>,
    name: Option<OsString>,
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
        Err(refusal) => {
            eprintln!("penstock-check: {}", refusal.located(&arguments));
            ExitCode::from(2)
        }
    }
}

/// Why a file is refused, and where in its tree.
struct Refusal {
    reason: String,
    node: Option<String>,
    property: Option<String>,
}

impl Refusal {
    fn at(reason: impl Display, place: Option<Place<'_>>) -> Self {
        let (node, property) = place.map(|place| (place.node, place.property)).unzip();
        Self {
            reason: reason.to_string(),
            node,
            property: property.flatten().map(String::from),
        }
    }

    /// With the file in front, and the line where that is known.
    fn located(&self, arguments: &Arguments) -> String {
        let source = arguments.source.as_ref();
        let line = source.zip(self.node.clone()).and_then(|(source, node)| {
            let property = self.property.as_deref();
            source::find(source, &Place { node, property })
        });
        match line {
            Some(line) => format!("{}:{}: {}", line.file.display(), line.number, self.reason),
            None => {
                let file = source.unwrap_or(&arguments.file).as_os_str();
                let name = arguments.name.as_deref().unwrap_or(file);
                format!("{}: {}", name.display(), self.reason)
            }
        }
    }
}

impl From<ConfigError> for Refusal {
    fn from(error: ConfigError) -> Self {
        Self::at(&error, error.place())
    }
}

fn parse_arguments(mut arguments: impl Iterator<Item = OsString>) -> Option<Arguments> {
    let mut file = None;
    let mut source = None;
    let mut name = None;
    let mut memory_bytes = None;
    let mut threads = None;
    while let Some(argument) = arguments.next() {
        if argument == "--memory" {
            memory_bytes = Some(parse_size(arguments.next()?.to_str()?)?);
        } else if argument == "--threads" {
            threads = Some(arguments.next()?.to_str()?.parse().ok()?);
        } else if argument == "--source" {
            source = Some(PathBuf::from(arguments.next()?));
        } else if argument == "--name" {
            name = Some(arguments.next()?);
        } else if argument.to_str().is_some_and(|text| text.starts_with('-')) || file.is_some() {
            return None;
        } else {
            file = Some(PathBuf::from(argument));
        }
    }
    let file: PathBuf = file?;
    if is_source(&file) {
        source = Some(file.clone());
    }
    Some(Arguments {
        file,
        source,
        name,
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

fn is_source(file: &Path) -> bool {
    file.extension().is_some_and(|extension| extension == "dts")
}

fn check(arguments: &Arguments) -> Result<(), Refusal> {
    let bytes = read(&arguments.file)?;
    let partitions = config::parse(&bytes)?;
    partitions.check_supported()?;
    plan_all(&partitions)?;
    if let Some(threads) = arguments.threads {
        partitions.check_threads(threads)?;
    }
    partitions.check_pool()?;
    let Some(memory_bytes) = arguments.memory_bytes else {
        return Ok(());
    };
    let threads = u64::from(arguments.threads.unwrap_or(0));
    let used = FIRMWARE_AND_HYPERVISOR_BYTES
        .saturating_add(bytes.len() as u64)
        .saturating_add(threads.saturating_mul(THREAD_BYTES));
    partitions.check_against(memory_bytes.saturating_sub(used))?;
    Ok(())
}

fn plan_all(partitions: &Partitions<'_>) -> Result<(), Refusal> {
    for partition in partitions.as_slice() {
        image::plan(&LoadRequest::of(partition)).map_err(|error| {
            let place = Place::in_partition(partition.name, "kernel");
            Refusal::at(
                format_args!("partition {}: {error}", partition.name),
                Some(place),
            )
        })?;
    }
    Ok(())
}

fn read(file: &Path) -> Result<Vec<u8>, Refusal> {
    let metadata = std::fs::metadata(file).map_err(general)?;
    if !metadata.is_file() {
        return Err(general("not a file"));
    }
    if is_source(file) {
        return compile(file);
    }
    if metadata.len() > LARGEST_FILE_BYTES {
        return Err(general(format_args!(
            "{} bytes are more than a device tree can have",
            metadata.len()
        )));
    }
    std::fs::read(file).map_err(general)
}

/// What `dtc` makes of a source. Its warnings are about bindings that partition trees do not follow.
fn compile(file: &Path) -> Result<Vec<u8>, Refusal> {
    let output = Command::new("dtc")
        .args(["-q", "-I", "dts", "-O", "dtb"])
        .arg(file)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| general(format_args!("dtc: {error}")))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let message = String::from_utf8_lossy(&output.stderr);
    let first = message.lines().next().unwrap_or("dtc says nothing");
    Err(general(format_args!("no device tree source: {first}")))
}

/// What is wrong with the file and not with a place in its tree.
fn general(reason: impl Display) -> Refusal {
    Refusal::at(reason, None)
}
