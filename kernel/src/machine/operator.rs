// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The person at the console: input to the guest, and the monitor behind `^]`.

use super::console::{self, OpalSink};
use super::hardware::{Hardware, HwInterrupts};
use super::last_words::{ExitStatus, finish};
use crate::bootargs::Attendance;
use crate::console::{Focus, Routed};
use crate::control::operator::{HeapStore, Job, STEP_TEXT_BYTES, Step};
use crate::exit::GuestExit;
use crate::hcall;
use crate::monitor::{
    Command, Count, Edit, LineEditor, PartitionInfo, PartitionRow, PartitionState, write_help,
    write_info, write_list,
};
use crate::partition::{FIRST_DEVICE_LISN, Partition};
use crate::vcpu::Vcpu;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;
use penstock_arch::spr;

/// What the operator asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Nothing.
    None,
    /// Destroy the partition.
    Destroy,
    /// Power the machine off.
    PowerOff,
}

/// The operator's side of the hypervisor.
pub struct Operator {
    attendance: Attendance,
    editor: LineEditor,
    state: PartitionState,
    started: u64,
    bytes_in: u64,
    keys: u64,
    /// The command that is being done, in steps.
    job: Option<Job<HeapStore>>,
}

/// Most bytes of a page table's stream that `hpt reload` keeps: a quarter of the heap.
const RELOAD_BYTES: usize = 512 << 10;

/// Most keys that are read at a time.
const KEYS_PER_SERVICE: usize = 64;

/// How long the monitor waits for a key after the last guest powered itself off.
const GRACE_SECONDS: u64 = 10;

impl Operator {
    /// Nobody has typed anything.
    pub fn new(attendance: Attendance) -> Self {
        Self {
            attendance,
            editor: LineEditor::new(),
            state: PartitionState::Running,
            started: spr::timebase(),
            bytes_in: 0,
            keys: 0,
            job: None,
        }
    }

    /// Connects the console to a partition.
    pub fn attach(&mut self, partition: &Partition<Hardware>) {
        console::multiplexer().lock().attach(partition.id);
        self.started = spr::timebase();
    }

    /// Moves output that waits, without waiting for the line.
    pub fn pump(&mut self, partition: &Partition<Hardware>) {
        console::multiplexer()
            .lock()
            .pump(Some(&partition.output), &mut OpalSink);
    }

    /// Reads what was typed, hands it out, and moves output.
    pub fn service(&mut self, vcpu: &mut Vcpu<Hardware>) -> Wish {
        let partition = vcpu.partition;
        let mut wish = Wish::None;
        let mut to_guest = false;
        for _ in 0..KEYS_PER_SERVICE {
            let mut byte = [0];
            if !self.reads_on(partition) || console::read(&mut byte) == 0 {
                break;
            }
            let [byte] = byte;
            self.keys += 1;
            let routed = console::multiplexer().lock().route(byte);
            match routed {
                Routed::ToGuest(_, byte) => to_guest |= self.type_to(partition, byte),
                Routed::ReturnedToGuest { pass, .. } => {
                    self.editor.clear();
                    let _ = writeln!(console::multiplexer().lock().text());
                    if let Some(byte) = pass {
                        to_guest |= self.type_to(partition, byte);
                    }
                }
                Routed::EnteredMonitor => {
                    let mut multiplexer = console::multiplexer().lock();
                    let _ = writeln!(multiplexer.text());
                    let _ = self.editor.redraw(&mut multiplexer.text());
                }
                Routed::ToMonitor(byte) => match self.type_command(byte, vcpu) {
                    Wish::None => {}
                    other => wish = other,
                },
                Routed::Ignored => {}
            }
        }
        if to_guest {
            partition
                .sources()
                .trigger(&HwInterrupts, FIRST_DEVICE_LISN);
        }
        self.go_on_with_job(partition);
        let mut multiplexer = console::multiplexer().lock();
        let idle = self.job.is_none();
        if multiplexer.take_disturbed() && multiplexer.focus() == Focus::Monitor && idle {
            let _ = self.editor.redraw(&mut multiplexer.text());
        }
        multiplexer.pump(Some(&partition.output), &mut OpalSink);
        wish
    }

    /// Whether the next key is read now.
    ///
    /// A guest that does not read leaves the rest in the line's own buffer, so that nothing that is
    /// piped in is lost, and a command that takes its time leaves the next one there. Somebody at a
    /// terminal must reach the monitor all the same, and `^C` the command: there, what does not fit
    /// is dropped.
    fn reads_on(&self, partition: &Partition<Hardware>) -> bool {
        match self.attendance {
            Attendance::Unattended => partition.input.room() > 0 && self.job.is_none(),
            Attendance::Interactive => true,
        }
    }

    /// Returns whether the guest has something new to read.
    fn type_to(&mut self, partition: &Partition<Hardware>, byte: u8) -> bool {
        let taken = partition.input.push(byte).is_ok();
        self.bytes_in += u64::from(taken);
        taken
    }

    /// A step of the command that is being done, if there is one, the monitor has the line, and the
    /// line has room.
    fn go_on_with_job(&mut self, partition: &Partition<Hardware>) {
        let Some(job) = &mut self.job else { return };
        {
            let multiplexer = console::multiplexer().lock();
            if multiplexer.focus() != Focus::Monitor || multiplexer.own_room() < STEP_TEXT_BYTES {
                return;
            }
        }
        // Not straight into the multiplexer, which messages of what is called may need.
        let mut text = String::new();
        let step = job.step(partition, &mut text);
        let mut multiplexer = console::multiplexer().lock();
        let mut out = multiplexer.text();
        let _ = out.write_str(&text);
        if step != Ok(Step::Again) {
            self.job = None;
            let _ = self.editor.redraw(&mut out);
        }
    }

    /// `^C`: ends the command that is being done.
    fn cancel_job(&mut self, partition: &Partition<Hardware>) {
        if let Some(mut job) = self.job.take() {
            let mut text = String::new();
            let _ = job.end(partition, &mut text);
            let _ = console::multiplexer().lock().text().write_str(&text);
        }
    }

    fn type_command(&mut self, byte: u8, vcpu: &Vcpu<Hardware>) -> Wish {
        let mut multiplexer = console::multiplexer().lock();
        match self.editor.input(byte, &mut multiplexer.text()) {
            Edit::Editing => return Wish::None,
            Edit::Cancelled => {
                drop(multiplexer);
                self.cancel_job(vcpu.partition);
                let _ = self
                    .editor
                    .redraw(&mut console::multiplexer().lock().text());
                return Wish::None;
            }
            Edit::Line => {}
        }
        let line = String::from(self.editor.line());
        self.editor.clear();
        let mut out = multiplexer.text();
        let running = self.state == PartitionState::Running;
        let name = vcpu.partition.name.as_str();
        let is_ours = |wanted: Option<&str>| wanted.is_none_or(|wanted| wanted == name);
        let command = Command::parse(&line);
        let result = match command {
            Ok(Command::Empty) => Ok(()),
            Ok(Command::Hpt(..) | Command::Dirty(..)) if self.job.is_some() => {
                writeln!(out, "error: another command is being done (^C ends it)")
            }
            Ok(Command::Hpt(command, wanted)) if wanted == name => {
                self.job = Some(Job::hpt(command, HeapStore::new(RELOAD_BYTES)));
                return Wish::None;
            }
            Ok(Command::Dirty(command, wanted)) if wanted == name => {
                self.job = Some(Job::dirty(command));
                return Wish::None;
            }
            Ok(Command::Help) => write_help(&mut out),
            Ok(Command::List) => write_list(&mut out, core::iter::once(self.row(vcpu))),
            Ok(Command::DomInfo(wanted)) if is_ours(wanted) => self.info(vcpu, &mut out),
            Ok(Command::Console(wanted)) if is_ours(wanted) => {
                if running {
                    drop(multiplexer);
                    console::multiplexer().lock().attach(vcpu.partition.id);
                    return Wish::None;
                }
                writeln!(out, "error: {name} is {}", self.state)
            }
            Ok(Command::Destroy(wanted)) if wanted == name => {
                if running {
                    return Wish::Destroy;
                }
                writeln!(out, "error: {name} is {}", self.state)
            }
            Ok(Command::DomInfo(Some(wanted)) | Command::Console(Some(wanted)))
            | Ok(Command::Destroy(wanted) | Command::Hpt(_, wanted) | Command::Dirty(_, wanted)) => {
                writeln!(out, "error: no partition {wanted}")
            }
            Ok(Command::DomInfo(None) | Command::Console(None)) => Ok(()),
            Ok(Command::PowerOff) => return Wish::PowerOff,
            Err(error) => writeln!(out, "error: {error}"),
        };
        // Formatting into the multiplexer cannot fail.
        let _ = result.and_then(|()| self.editor.redraw(&mut out));
        Wish::None
    }

    fn row<'a>(&self, vcpu: &'a Vcpu<Hardware>) -> PartitionRow<'a> {
        PartitionRow {
            id: (self.state == PartitionState::Running).then_some(vcpu.partition.id.0),
            name: &vcpu.partition.name,
            state: self.state,
        }
    }

    fn info(&self, vcpu: &Vcpu<Hardware>, out: &mut impl Write) -> core::fmt::Result {
        let partition = vcpu.partition;
        let mut exits: Vec<Count<'_>> = GuestExit::NAMES
            .iter()
            .zip(vcpu.exits)
            .map(|(name, value)| Count { name, value })
            .collect();
        exits.extend([
            Count {
                name: "storage-fault-repaired",
                value: vcpu.faults.repaired,
            },
            Count {
                name: "storage-fault-reflected",
                value: vcpu.faults.reflected,
            },
            Count {
                name: "storage-fault-no-memory",
                value: vcpu.faults.stray,
            },
        ]);
        exits.retain(|count| count.value != 0);
        let mut hcalls: Vec<Count<'_>> = hcall::table::NAMES
            .iter()
            .filter_map(|(number, name)| {
                let value = *vcpu.hcalls.get(hcall::slot(*number)?)?;
                (value != 0).then_some(Count { name, value })
            })
            .collect();
        let known: u64 = hcalls.iter().map(|count| count.value).sum();
        let other = vcpu.hcalls.iter().sum::<u64>() - known;
        if other != 0 {
            hcalls.push(Count {
                name: "not served",
                value: other,
            });
        }
        let hz = partition.clock.timebase_hz.max(1);
        write_info(
            out,
            &PartitionInfo {
                row: self.row(vcpu),
                vcpus: partition.vcpus,
                memory_bytes: partition.mmu.memory().size(),
                backed_bytes: partition.mmu.memory().backed_bytes(),
                hpt_order: partition.mmu.order().get(),
                uptime_ms: spr::timebase()
                    .wrapping_sub(self.started)
                    .saturating_mul(1000)
                    / hz,
                console_out_bytes: partition.output.total() as u64,
                console_in_bytes: self.bytes_in,
                exits: &exits,
                hcalls: &hcalls,
            },
        )
    }

    /// The partition is gone. Without anybody at the console, so is the machine; otherwise there
    /// is the monitor. Where the guest powered itself off, which most often is how a run is meant to
    /// end, it waits a while for a key; after anything else, until it is told to power off.
    pub fn ended(
        &mut self,
        vcpu: &mut Vcpu<Hardware>,
        state: PartitionState,
        status: ExitStatus,
    ) -> ! {
        self.state = state;
        if self.attendance == Attendance::Unattended {
            finish(status);
        }
        {
            let mut multiplexer = console::multiplexer().lock();
            multiplexer.forget(vcpu.partition.id);
            let mut text = multiplexer.text();
            let _ = match status {
                ExitStatus::Success => writeln!(
                    text,
                    "No partition runs: powering off in {GRACE_SECONDS} s unless a key is pressed."
                ),
                _ => writeln!(text, "No partition runs; `poweroff` ends the machine."),
            };
            let _ = self.editor.redraw(&mut text);
        }
        let hz = vcpu.partition.clock.timebase_hz;
        let ended = spr::timebase();
        let keys = self.keys;
        loop {
            if self.service(vcpu) == Wish::PowerOff {
                finish(status);
            }
            let waited = spr::timebase().wrapping_sub(ended);
            let alone = self.keys == keys && waited >= GRACE_SECONDS * hz;
            if alone && status == ExitStatus::Success {
                finish(status);
            }
            // Without a guest nothing else looks after the console.
            super::run::sleep(hz / super::run::SERVICE_HZ);
            penstock_boot::opal::call::poll_events();
        }
    }
}
