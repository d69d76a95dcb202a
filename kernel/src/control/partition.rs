// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The machine's partitions, as the control interface reaches them.
//!
//! A [`Target`] is lent for one call, or for one step of a job, by whoever runs the partitions: it
//! has what the run loop knows of the partition as a [`Seat`], which comes back changed. So a
//! suspension is asked for here and done there, and nothing here waits for a thread.

use super::error::ControlError;
use super::function::Feature;
use super::invalidation::{Invalidation, Plan};
use super::records::{VcpuState, VectorState};
use super::registers;
use super::serve::ENTRIES_PER_CALL;
use super::session::{Dirty, Halted, Runnable, Session};
use super::target::{
    Access, Controlled, Directory, Features, Harvest, Harvested, HeaderOrder, Logging, Offer,
    STREAM_READERS, SlotInfo, SlotKind, StreamFilter, StreamPiece, Suspension, Take, TargetError,
};
use super::{Call, Caller, Holder, Reply, serve};
use crate::lifecycle::PartitionState;
use crate::occupied::Occupied;
use crate::partition::Partition;
use crate::platform::Platform;
use crate::rtas_memory::GuestRam;
use core::cell::Cell;
use core::num::NonZeroU32;
use penstock_mm::guest_memory::SlotId;
use penstock_mm::hpt::{
    FLUSH_ALL_ABOVE, HptReader, HptStats, OpenReader, Pass, RestoreError, VcpusAre, Violation,
};
use penstock_mm::slot as mm;
use penstock_mm::stream::{
    ByteOrder, Encoding, EntryFilter, ParsedStream, StartsFrom, StreamOptions, StreamReader,
};
use spin::Mutex;

/// Binary logarithm of what a bit of a dirty log stands for.
const DIRTY_SHIFT: u8 = 12;

fn slot_id(number: u32) -> SlotId {
    SlotId::new(usize::try_from(number).unwrap_or(usize::MAX))
}

/// Binary logarithms of the page sizes of hashed page tables, of which a partition is told those that
/// its backing can honour.
const PAGE_SHIFTS: [u32; 3] = [12, 16, 24];

const FEATURES: Features = Features::NONE
    .with(Feature::Slots)
    .with(Feature::DirtyLog)
    .with(Feature::StreamRead)
    .with(Feature::StreamWrite)
    .with(Feature::VcpuState)
    .with(Feature::Fp)
    .with(Feature::Vmx)
    .with(Feature::Vsx)
    .with(Feature::Suspend)
    .with(Feature::Invalidate)
    .with(Feature::Framebuffer);

/// How many entries a call looks at, as streams want it.
const SCAN_LIMIT: NonZeroU32 = {
    assert!(ENTRIES_PER_CALL > 0 && ENTRIES_PER_CALL <= u32::MAX as u64);
    #[expect(clippy::cast_possible_truncation, reason = "just asserted")]
    let limit = NonZeroU32::new(ENTRIES_PER_CALL as u32);
    limit.unwrap()
};

/// A stream of a page table between two of its pieces.
#[derive(Debug)]
struct OpenStream {
    reader: OpenReader,
    way: StreamReader,
}

/// The streams of a partition's page table that tools read.
#[derive(Debug, Default)]
pub struct Streams([Option<OpenStream>; STREAM_READERS]);

impl Streams {
    /// None.
    #[must_use]
    pub const fn new() -> Self {
        Self([const { None }; STREAM_READERS])
    }
}

/// What is known of a partition whether it is shut off or not.
#[derive(Clone, Copy, Debug)]
pub struct Definition<'a> {
    /// Its number.
    pub number: u32,
    /// Its name.
    pub name: &'a str,
    /// Virtual processors.
    pub vcpus: u32,
    /// Entries of its page table when it starts.
    pub hpt_entries: u64,
    /// Whose its state is.
    pub session: &'a Mutex<Session>,
}

/// What the run loop knows of a partition, and what it is to do with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seat {
    /// What the partition is at.
    pub state: PartitionState,
    /// Whether its virtual processors may be on their threads.
    pub on_thread: bool,
    /// Whether its virtual processors must leave their threads, and stay away.
    pub held: bool,
}

/// A partition for the time of a call.
pub struct Target<'a, P: Platform> {
    definition: Definition<'a>,
    seat: Cell<Seat>,
    /// `None` while it is shut off.
    occupied: Option<&'a Occupied<P>>,
}

/// Lends a partition to the control interface. Where it is shut off, `occupied` is `None`.
pub fn with_target<P: Platform, R>(
    definition: Definition<'_>,
    occupied: Option<&Occupied<P>>,
    seat: &mut Seat,
    act: impl FnOnce(&Target<'_, P>) -> R,
) -> R {
    let target = Target {
        definition,
        seat: Cell::new(*seat),
        occupied,
    };
    let result = act(&target);
    *seat = target.seat.get();
    result
}

impl<P: Platform> Target<'_, P> {
    /// Serves a call about this partition. The caller is `by`, or with `None` this one itself.
    pub fn serve(&self, call: &Call, by: Option<&Partition<P>>) -> Reply {
        let Some(caller) = by.or(self.partition().ok()) else {
            return ControlError::Off.into();
        };
        let who = Caller {
            holder: Holder::Partition(caller.id),
            number: caller.id.0.into(),
            port: caller.control.as_ref(),
        };
        let mut memory = GuestRam(caller.mmu.memory());
        serve(call, &who, &mut memory, &OneOf(self))
    }

    fn partition(&self) -> Result<&Partition<P>, TargetError> {
        match self.occupied {
            Some(occupied) => Ok(occupied.partition()),
            None => Err(TargetError::Off),
        }
    }

    /// The partition and its virtual processors, if none is on a thread, or comes there.
    fn halted(&self) -> Result<&Occupied<P>, TargetError> {
        let seat = self.seat.get();
        if !seat.held || seat.on_thread {
            return Err(TargetError::State);
        }
        self.occupied.ok_or(TargetError::Off)
    }

    fn change_seat(&self, change: impl FnOnce(&mut Seat)) {
        let mut seat = self.seat.get();
        change(&mut seat);
        self.seat.set(seat);
    }
}

impl<P: Platform> Controlled for Target<'_, P> {
    type Violation = Violation;

    fn session(&self) -> &Mutex<Session> {
        self.definition.session
    }

    fn number(&self) -> u32 {
        self.definition.number
    }

    fn name(&self) -> &str {
        self.definition.name
    }

    fn offer(&self) -> Offer {
        let partition = self.partition().ok();
        Offer {
            features: FEATURES,
            slots: partition.map_or(0, |partition| {
                u32::try_from(partition.mmu.memory().slots().count()).unwrap_or(1)
            }),
            vcpus: self.definition.vcpus,
            page_sizes: partition.map_or(0, |partition| {
                let largest = partition.mmu.memory().ram().largest().shift();
                let told = PAGE_SHIFTS.iter().filter(|shift| **shift <= largest);
                told.fold(0, |sizes, shift| sizes | 1 << shift)
            }),
            dirty_page_sizes: 1 << DIRTY_SHIFT,
            hpt_entries: partition.map_or(self.definition.hpt_entries, |partition| {
                partition.mmu.entries()
            }),
            flush_threshold: u32::try_from(FLUSH_ALL_ABOVE).unwrap_or(u32::MAX),
        }
    }

    fn slot(&self, slot: u32) -> Option<SlotInfo> {
        let partition = self.partition().ok()?;
        let slot = partition.mmu.memory().slot(slot_id(slot))?;
        let kind = match slot.kind() {
            mm::SlotKind::Memory => SlotKind::Memory,
            mm::SlotKind::Framebuffer => SlotKind::Framebuffer {
                row_bytes: partition.framebuffer_row_bytes,
            },
            mm::SlotKind::Device => SlotKind::Device,
        };
        Some(SlotInfo {
            kind,
            guest_address: slot.base(),
            bytes: slot.bytes(),
            page_shift: u8::try_from(slot.largest().shift()).unwrap_or(DIRTY_SHIFT),
            // A framebuffer's log is the monitor's, for pictures; devices have none.
            dirty_shift: (slot.kind() == mm::SlotKind::Memory).then_some(DIRTY_SHIFT),
            access: Access::ReadWrite,
        })
    }

    fn set_dirty_log(&self, slot: u32, logging: Logging) -> Result<(), TargetError> {
        let mmu = &self.partition()?.mmu;
        let slot = slot_id(slot);
        let on = mmu.memory().slot(slot).map(mm::Slot::is_logging);
        match (logging, on) {
            (Logging::On, Some(false)) => mmu.start_log(slot),
            (Logging::Off, Some(true)) => mmu.stop_log(slot),
            (_, Some(_)) => Some(()),
            (_, None) => None,
        }
        .ok_or(TargetError::State)
    }

    /// Cursors count entries of the page table.
    fn harvest_end(&self, _: u32) -> u64 {
        self.partition()
            .map_or(0, |partition| partition.mmu.harvest_end())
    }

    fn harvest(
        &self,
        slot: u32,
        how: Harvest,
        cursor: u64,
        entries: u64,
    ) -> Result<Harvested, TargetError> {
        let partition = self.partition()?;
        let mmu = &partition.mmu;
        let slot = slot_id(slot);
        partition.note_hardware_writes();
        let before = mmu.logged_granules(slot);
        let pass = match how {
            Harvest::Cheap => Pass::Rough,
            // What runs, writes on; what is halted has been made to store what it had.
            Harvest::Exact => Pass::Exact,
        };
        let next = mmu
            .harvest_some(slot, pass, cursor, entries)
            .ok_or(TargetError::State)?;
        Ok(Harvested {
            next,
            found: mmu.logged_granules(slot).saturating_sub(before),
        })
    }

    fn fetch_dirty(
        &self,
        slot: u32,
        first_page: u64,
        take: Take,
        bitmap: &mut [u8],
    ) -> Result<u64, TargetError> {
        let mmu = &self.partition()?.mmu;
        let slot = slot_id(slot);
        let mut dirty = 0;
        for (bytes, number) in bitmap.chunks_mut(8).zip(first_page / 64..) {
            let mut word = [0];
            let there = match take {
                Take::Clear => mmu.take_log(slot, number, &mut word),
                Take::Keep => mmu.peek_log(slot, number, &mut word),
            };
            if there == 0 {
                break;
            }
            dirty += u64::from(word[0].count_ones());
            let words = word[0].to_le_bytes();
            for (to, from) in bytes.iter_mut().zip(words) {
                *to = from;
            }
        }
        Ok(dirty)
    }

    fn open_reader(
        &self,
        reader: usize,
        order: HeaderOrder,
        filter: StreamFilter,
    ) -> Result<(), TargetError> {
        let partition = self.partition()?;
        let mut streams = partition.streams.lock();
        let place = streams.0.get_mut(reader).ok_or(TargetError::State)?;
        if place.is_some() {
            return Err(TargetError::State);
        }
        let source = partition.mmu.reader().ok_or(TargetError::State)?;
        let options = StreamOptions {
            filter: match filter {
                StreamFilter::All => EntryFilter::All,
                StreamFilter::BoltedOnly => EntryFilter::BoltedOnly,
            },
            scan_limit: SCAN_LIMIT,
            ..StreamOptions::new(byte_order(order))
        };
        // Only a table with too many entries has none.
        let way = StreamReader::new(&source, options).map_err(|_| TargetError::Unsupported)?;
        *place = aside(source, way);
        Ok(())
    }

    fn read_stream(
        &self,
        reader: usize,
        _: u64,
        into: &mut [u8],
    ) -> Result<StreamPiece, TargetError> {
        let partition = self.partition()?;
        let mut streams = partition.streams.lock();
        let place = streams.0.get_mut(reader).ok_or(TargetError::State)?;
        let OpenStream { reader, mut way } = place.take().ok_or(TargetError::State)?;
        let mut source = partition.mmu.take_up(reader);
        let progress = way.read(&mut source, into);
        *place = aside(source, way);
        match progress {
            Ok(progress) => Ok(StreamPiece {
                bytes: progress.bytes,
                end: progress.pass_ended,
            }),
            // The guest has another table now.
            Err(_) => Err(TargetError::State),
        }
    }

    fn close_reader(&self, reader: usize) {
        let Ok(partition) = self.partition() else {
            return;
        };
        let mut streams = partition.streams.lock();
        if let Some(open) = streams.0.get_mut(reader).and_then(Option::take) {
            partition.mmu.close_reader(open.reader);
        }
    }

    fn write_stream(
        &self,
        _: &Dirty,
        order: HeaderOrder,
        records: &[u8],
    ) -> Result<(), TargetError> {
        let mmu = &self.halted()?.partition().mmu;
        let encoding = Encoding::Bare(byte_order(order));
        let stream =
            ParsedStream::parse(records, encoding, mmu.entries(), StartsFrom::CurrentTable)
                .map_err(|error| TargetError::Stream {
                    offset: error.offset,
                })?;
        // Real mode may have other pages in the stream, which the partition's entry must say before it runs.
        let publish = |pate| P::set_partition_entry(mmu.lpid(), pate);
        mmu.restore(&stream, VcpusAre::Stopped, publish)
            .map_err(|error| match error {
                RestoreError::Entry(error) => TargetError::Stream {
                    offset: error.offset,
                },
                // Some entry of it; which one, the check of a whole stream does not keep.
                RestoreError::RealModePageTooLarge { .. } => TargetError::Stream { offset: 0 },
                RestoreError::Running | RestoreError::OtherTable { .. } => TargetError::State,
            })
    }

    fn drop_entries(&self, _: &Dirty, from: u64, entries: u64) -> Result<Option<u64>, TargetError> {
        let mmu = &self.halted()?.partition().mmu;
        mmu.drop_entries(from, entries, VcpusAre::Stopped)
            .map_err(|_| TargetError::State)
    }

    fn invalidate(&self, _: &Dirty, what: &Invalidation<'_>) -> Result<(), TargetError> {
        let mmu = &self.halted()?.partition().mmu;
        match what.plan() {
            Plan::Everything => mmu.flush_partition(),
            Plan::Single => mmu.invalidate_entries(what.entries()),
        }
        Ok(())
    }

    fn read_vcpu(
        &self,
        _: &Halted,
        number: u32,
        state: &mut VcpuState,
        vectors: Option<&mut VectorState>,
    ) -> Result<(), TargetError> {
        let server = usize::try_from(number).unwrap_or(usize::MAX);
        self.halted()?
            .with(server, |vcpu| registers::read(vcpu, state, vectors))
            .ok_or(TargetError::Unsupported)
    }

    fn write_vcpu(
        &self,
        _: &Dirty,
        number: u32,
        state: &VcpuState,
        vectors: Option<&VectorState>,
    ) -> Result<(), TargetError> {
        let server = usize::try_from(number).unwrap_or(usize::MAX);
        self.halted()?
            .with(server, |vcpu| registers::write(vcpu, state, vectors))
            .unwrap_or(Err(TargetError::Unsupported))
    }

    fn suspend(&self) -> Result<Suspension, TargetError> {
        let seat = self.seat.get();
        if !seat.state.is_alive() {
            return Err(TargetError::Off);
        }
        let partition = self.partition()?;
        self.change_seat(|seat| seat.held = true);
        if seat.on_thread {
            return Ok(Suspension::Underway);
        }
        // Processors may hold back R and C until then.
        partition.mmu.flush_partition();
        Ok(Suspension::Complete)
    }

    fn commit(&self, _: &Dirty) -> Result<(), TargetError> {
        // Each change has flushed what it changed, and has told the partition table what it must know.
        self.halted()?.partition().mmu.flush_partition();
        Ok(())
    }

    fn resume(&self, _: &Runnable) -> Result<(), TargetError> {
        if !self.seat.get().state.is_alive() {
            return Err(TargetError::Off);
        }
        self.change_seat(|seat| seat.held = false);
        Ok(())
    }

    /// All of the table in one step.
    fn check_hpt(
        &self,
        _: u64,
        _: u64,
        stats: &mut HptStats,
    ) -> Result<Option<u64>, Self::Violation> {
        if let Ok(partition) = self.partition() {
            *stats = partition.mmu.check()?;
        }
        Ok(None)
    }
}

const fn byte_order(order: HeaderOrder) -> ByteOrder {
    match order {
        HeaderOrder::Big => ByteOrder::Big,
        HeaderOrder::Little => ByteOrder::Little,
    }
}

fn aside<M: penstock_mm::page_ops::Machine>(
    source: HptReader<'_, M>,
    way: StreamReader,
) -> Option<OpenStream> {
    let reader = source.set_aside()?;
    Some(OpenStream { reader, way })
}

/// The one partition that a call can name: whoever serves the call has looked it up.
struct OneOf<'t, T>(&'t T);

impl<T: Controlled> Directory for OneOf<'_, T> {
    type Target = T;

    fn find(&self, number: u64) -> Option<&T> {
        (number == u64::from(self.0.number())).then_some(self.0)
    }
}

#[cfg(test)]
mod tests;
