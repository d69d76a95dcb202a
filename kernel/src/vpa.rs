// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Virtual processor areas: what a vCPU shares with the hypervisor in its own memory.
//!
//! A guest registers up to three areas per vCPU by H_REGISTER_VPA: the VPA itself (dispatch
//! counters), a dispatch trace log, and a shadow of its SLB. [`VcpuAreas`] checks a registration,
//! remembers it, and keeps the fields that are the hypervisor's.
//!
//! Relied on: the memory of a registered area stays where it is until it is released (the caller
//! pins what [`AreaChange`] names). Guaranteed: an area lies wholly in guest memory; sizes that
//! the guest stores there are read once; counters are kept here and only copied out, so nothing
//! that the guest writes into an area has an effect on the hypervisor but the trace mask, which
//! chooses entries of its own log.
//!
//! The shared-processor flag says whether others may be dispatched on the vCPU's thread: only then
//! Linux calls H_CONFER where it waits for a lock whose holder is not dispatched.
//!
//! LoPAR, Virtual Processor Areas; H_REGISTER_VPA; Per Virtual Processor Area; Dispatch Trace Log
//! Buffer; SLB Shadow Buffer.

mod dispatch;
#[cfg(test)]
mod tests;

pub use dispatch::{DTL_ENTRY_BYTES, DispatchReason, DispatchRecord, PreemptReason};

use crate::partition::Dispatching;
use crate::rtas::memory::{GuestBytes, MemoryFault};
use arrayvec::ArrayVec;
use penstock_arch::addr::GuestReal;
use penstock_arch::bits::{ppc_bit, ppc_mask};

/// Alignment of every area: the L1 cache line.
const ALIGN: u64 = 128;
/// A VPA and an SLB shadow do not cross a multiple of this; a trace log is no longer.
const PAGE: u64 = 4096;
/// Offset of the size that the guest stores in an area before it registers it.
const SIZE_OFFSET: u64 = 4;
const VPA_MIN_BYTES: u32 = 640;
const DTL_MIN_BYTES: u32 = 48;
const SLB_SHADOW_MIN_BYTES: u32 = 8;
/// Size of an SLB shadow's header, and of each of its entries.
const SLB_SHADOW_SLOT: u32 = 16;
/// Entries of an SLB (POWER9 and POWER10).
pub const SLB_ENTRIES: u32 = 32;
/// V of the ESID doubleword of an entry.
const SLB_VALID: u64 = 0x0800_0000;
/// ESID and V: what slbmte's RB has beside the number of the entry.
const SLB_ESID: u64 = ppc_mask(0, 35) | SLB_VALID;
/// B as far as it is not reserved, VSID, Ks, Kp, N, C: what slbmte's RS has beside the page size.
const SLB_VSID: u64 = ppc_mask(1, 54) | ppc_bit(56);
/// L and LP, the base page size.
const SLB_PAGE_SIZE: u64 = ppc_bit(55) | ppc_mask(58, 59);
/// L and LP of the base page sizes that a partition is told: 4 KiB, 16 MiB, 64 KiB.
const SLB_PAGE_SIZES: [u64; 3] = [0, 0x100, 0x110];

/// Whether slbmte takes this valid entry, the number of its slot apart, and a partition may have it.
pub(crate) fn is_loadable_slb_entry(esid: u64, vsid: u64) -> bool {
    esid & SLB_VALID != 0
        && esid & !SLB_ESID == 0
        && vsid & !(SLB_VSID | SLB_PAGE_SIZE) == 0
        && SLB_PAGE_SIZES.contains(&(vsid & SLB_PAGE_SIZE))
}

/// Which area of a virtual processor is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AreaKind {
    /// The virtual processor area itself.
    Vpa,
    /// The SLB shadow buffer.
    SlbShadow,
    /// The dispatch trace log.
    DispatchLog,
}

/// Byte offsets in the VPA of fields that are the hypervisor's.
mod vpa_offset {
    /// Reserved for firmware (with the shared-processor flag), then two FRU numbers.
    pub const FIRMWARE: u64 = 0x06;
    pub const FIRMWARE_BYTES: usize = 0x20 - 0x06;
    /// The byte at 9 of them.
    pub const STATUS_IN_FIRMWARE: usize = 0x09 - 0x06;
    /// Its bit that says that the processor is shared.
    pub const SHARED_PROCESSOR: u8 = 1 << 1;
    /// Counters of changes of the home node.
    pub const HOME_NODE: u64 = 0x58;
    /// Which dispatches are logged: the guest's to set.
    pub const TRACE_MASK: u64 = 0xb8;
    pub const DISPATCH_COUNT: u64 = 0x100;
    pub const DISPERSION: u64 = 0x104;
    /// Dispatch count, dispersion and the accumulators behind them.
    pub const COUNTERS_BYTES: usize = 0x170 - 0x100;
    pub const TRACE_INDEX: u64 = 0x218;
}

/// Why H_REGISTER_VPA fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AreaError {
    /// A flag, an address or a size is not allowed.
    Parameter,
    /// The order is wrong: the VPA comes first and goes last.
    Resource,
}

impl AreaError {
    /// The status of the call: H_PARAMETER or H_RESOURCE.
    #[must_use]
    pub const fn hcall_status(self) -> i64 {
        match self {
            Self::Parameter => -4,
            Self::Resource => -16,
        }
    }
}

impl From<MemoryFault> for AreaError {
    fn from(_: MemoryFault) -> Self {
        Self::Parameter
    }
}

/// A call of H_REGISTER_VPA, apart from the vCPU that it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the subfunctions have the names of LoPAR")]
pub enum AreaRequest {
    RegisterVpa(GuestReal),
    RegisterDtl(GuestReal),
    RegisterSlbShadow(GuestReal),
    DeregisterVpa,
    DeregisterDtl,
    DeregisterSlbShadow,
}

impl AreaRequest {
    /// The request in the operands `flags` (subfunction in bits 16 to 18) and `address`.
    ///
    /// # Errors
    /// [`AreaError::Parameter`] for a reserved subfunction, or any other bit set.
    pub const fn decode(flags: u64, address: u64) -> Result<Self, AreaError> {
        const SUBFUNCTION: u64 = ppc_mask(16, 18);
        if flags & !SUBFUNCTION != 0 {
            return Err(AreaError::Parameter);
        }
        let address = GuestReal::new(address);
        Ok(match flags >> SUBFUNCTION.trailing_zeros() {
            1 => Self::RegisterVpa(address),
            2 => Self::RegisterDtl(address),
            3 => Self::RegisterSlbShadow(address),
            5 => Self::DeregisterVpa,
            6 => Self::DeregisterDtl,
            7 => Self::DeregisterSlbShadow,
            _ => return Err(AreaError::Parameter),
        })
    }
}

/// A registered area.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Area {
    /// Where it starts.
    pub at: GuestReal,
    /// Its length in bytes, as the guest gave it.
    pub bytes: u32,
}

impl Area {
    /// A field within the area. Areas lie in guest memory, so the sum cannot overflow.
    fn field(self, offset: u64) -> GuestReal {
        self.at.checked_add(offset).unwrap_or(self.at)
    }
}

/// What a request changed in the memory that has to stay in place. Pin first, then release.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct AreaChange {
    /// Area that is used from now on.
    pub pin: Option<Area>,
    /// Area that is not used any more.
    pub unpin: Option<Area>,
}

/// Whether the vCPU that an area belongs to is on a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dispatch {
    /// It runs: its dispatch count is even.
    Running,
    /// It waits or is stopped: its dispatch count is odd.
    Waiting,
}

const _: () = assert!(DTL_ENTRY_BYTES == DTL_MIN_BYTES as usize);
const _: () = assert!(vpa_offset::TRACE_INDEX + 8 <= VPA_MIN_BYTES as u64);

/// The areas of one vCPU and the hypervisor's copy of its counters.
#[derive(Clone, Debug)]
pub struct VcpuAreas {
    dispatching: Dispatching,
    vpa: Option<Area>,
    dtl: Option<Area>,
    slb_shadow: Option<Area>,
    /// Even while the vCPU is on a thread.
    dispatch_count: u32,
    /// Dispatches on another thread than the one before.
    dispersion: u32,
    last_processor: Option<u16>,
    /// Entries ever written to the trace log since its registration.
    dtl_index: u64,
}

impl VcpuAreas {
    /// No areas, of a vCPU that runs or, being stopped, waits.
    #[must_use]
    pub const fn new(dispatching: Dispatching, now: Dispatch) -> Self {
        Self {
            dispatching,
            vpa: None,
            dtl: None,
            slb_shadow: None,
            dispatch_count: with_parity(0, now),
            dispersion: 0,
            last_processor: None,
            dtl_index: 0,
        }
    }

    /// The registered VPA.
    #[must_use]
    pub const fn vpa(&self) -> Option<Area> {
        self.vpa
    }

    /// Whether the vCPU is on a thread, as its dispatch count says.
    #[must_use]
    pub const fn dispatch(&self) -> Dispatch {
        match self.dispatch_count & 1 {
            0 => Dispatch::Running,
            _ => Dispatch::Waiting,
        }
    }

    /// The registered dispatch trace log.
    #[must_use]
    pub const fn dtl(&self) -> Option<Area> {
        self.dtl
    }

    /// The registered SLB shadow.
    #[must_use]
    pub const fn slb_shadow(&self) -> Option<Area> {
        self.slb_shadow
    }

    /// What the guest keeps in its SLB shadow for the case that the SLB is lost: VSID and ESID
    /// doublewords of valid entries (LoPAR, SLB Shadow Buffer: persistent count first, then ESID
    /// and VSID of each), fit for slbmte.
    ///
    /// The hypervisor itself executes that slbmte, and an operand that the guest has spoilt would
    /// hurt the hypervisor (Power ISA 3.0B, Book III, SLB Move To Entry: reserved bits, and numbers
    /// that the SLB does not have, are undefined; QEMU takes a program interrupt). So the number is
    /// the slot's, as Linux has it too, and entries that no SLB can hold are left out.
    pub fn slb_shadow_entries<M: GuestBytes>(
        &self,
        memory: &mut M,
    ) -> ArrayVec<(u64, u64), { SLB_ENTRIES as usize }> {
        let mut entries = ArrayVec::new();
        let Some(shadow) = self.slb_shadow else {
            return entries;
        };
        let wanted = memory.read_be32(shadow.at).unwrap_or(0);
        let slots = wanted.min(self.persistent_slots(SLB_ENTRIES));
        for slot in 0..u64::from(slots) {
            let Some(at) = shadow
                .at
                .checked_add((slot + 1) * u64::from(SLB_SHADOW_SLOT))
            else {
                break;
            };
            let words = (
                memory.read_be64(at),
                at.checked_add(8).map(|at| memory.read_be64(at)),
            );
            if let (Ok(esid), Some(Ok(vsid))) = words
                && is_loadable_slb_entry(esid & SLB_ESID, vsid)
            {
                // There are no more slots than the vector holds.
                let _ = entries.try_push((vsid, esid & SLB_ESID | slot));
            }
        }
        entries
    }

    /// How many entries the registered SLB shadow has room for, at most `slb_entries`.
    #[must_use]
    pub fn persistent_slots(&self, slb_entries: u32) -> u32 {
        let slots = |area: Area| (area.bytes / SLB_SHADOW_SLOT).saturating_sub(1);
        self.slb_shadow.map_or(0, slots).min(slb_entries)
    }

    /// The hypervisor's copy of the dispatch count, which H_CONFER compares.
    #[must_use]
    pub const fn dispatch_count(&self) -> u32 {
        self.dispatch_count
    }

    /// Does what `request` asks for the vCPU that these areas belong to; `now` is its state.
    /// That the vCPU is the caller's partition's was checked before.
    ///
    /// # Errors
    /// LoPAR's, in LoPAR's order; then nothing has changed but, at worst, fields of the
    /// hypervisor's in the refused area.
    pub fn apply<M: GuestBytes>(
        &mut self,
        request: AreaRequest,
        now: Dispatch,
        memory: &mut M,
    ) -> Result<AreaChange, AreaError> {
        match request {
            AreaRequest::RegisterVpa(at) => {
                aligned(at)?;
                let size = u32::from(memory.read_be16(size_field(at)?)?);
                let area = checked_area(at, size, VPA_MIN_BYTES, Span::WithinPage, memory)?;
                let count = with_parity(self.dispatch_count, now);
                self.initialise(area, count, memory)?;
                self.dispatch_count = count;
                Ok(replace(&mut self.vpa, Some(area)))
            }
            AreaRequest::RegisterDtl(at) => {
                aligned(at)?;
                let size = memory.read_be32(size_field(at)?)?;
                let area = checked_area(at, size, DTL_MIN_BYTES, Span::AcrossPages, memory)?;
                let vpa = self.vpa.ok_or(AreaError::Resource)?;
                memory.write_be64(vpa.field(vpa_offset::TRACE_INDEX), 0)?;
                self.dtl_index = 0;
                Ok(replace(&mut self.dtl, Some(area)))
            }
            AreaRequest::RegisterSlbShadow(at) => {
                aligned(at)?;
                let size = memory.read_be32(size_field(at)?)?;
                let area = checked_area(at, size, SLB_SHADOW_MIN_BYTES, Span::WithinPage, memory)?;
                if self.vpa.is_none() {
                    return Err(AreaError::Resource);
                }
                Ok(replace(&mut self.slb_shadow, Some(area)))
            }
            AreaRequest::DeregisterVpa if self.dtl.is_some() || self.slb_shadow.is_some() => {
                Err(AreaError::Resource)
            }
            AreaRequest::DeregisterVpa => Ok(replace(&mut self.vpa, None)),
            AreaRequest::DeregisterDtl => Ok(replace(&mut self.dtl, None)),
            AreaRequest::DeregisterSlbShadow => Ok(replace(&mut self.slb_shadow, None)),
        }
    }

    /// Sets the hypervisor's fields of a new VPA.
    fn initialise<M: GuestBytes>(
        &self,
        vpa: Area,
        dispatch_count: u32,
        memory: &mut M,
    ) -> Result<(), MemoryFault> {
        let mut counters = [0; vpa_offset::COUNTERS_BYTES];
        counters[..4].copy_from_slice(&dispatch_count.to_be_bytes());
        counters[4..8].copy_from_slice(&self.dispersion.to_be_bytes());
        let mut firmware = [0; vpa_offset::FIRMWARE_BYTES];
        if let Dispatching::Shared { .. } = self.dispatching {
            firmware[vpa_offset::STATUS_IN_FIRMWARE] = vpa_offset::SHARED_PROCESSOR;
        }
        memory.write(vpa.field(vpa_offset::FIRMWARE), &firmware)?;
        memory.write_be64(vpa.field(vpa_offset::HOME_NODE), 0)?;
        memory.write(vpa.field(vpa_offset::DISPATCH_COUNT), &counters)?;
        memory.write_be64(vpa.field(vpa_offset::TRACE_INDEX), self.dtl_index)
    }

    /// The vCPU has left its thread (H_CEDE, H_CONFER, end of its slice): the dispatch count
    /// becomes odd.
    ///
    /// # Errors
    /// The VPA's memory is gone, though it was pinned.
    #[inline]
    pub fn preempted<M: GuestBytes>(&mut self, memory: &mut M) -> Result<(), MemoryFault> {
        self.dispatch_count = with_parity(self.dispatch_count, Dispatch::Waiting);
        self.store_count(memory)
    }

    /// The vCPU is about to run again: the trace log and the dispersion are brought up to date,
    /// and last the dispatch count becomes even.
    ///
    /// # Errors
    /// The memory of an area is gone, though it was pinned.
    #[inline]
    pub fn dispatched<M: GuestBytes>(
        &mut self,
        record: DispatchRecord,
        memory: &mut M,
    ) -> Result<(), MemoryFault> {
        let moved = self
            .last_processor
            .is_some_and(|last| last != record.processor);
        self.last_processor = Some(record.processor);
        if moved {
            self.dispersion = self.dispersion.wrapping_add(1);
        }
        self.dispatch_count = with_parity(self.dispatch_count, Dispatch::Running);
        let Some(vpa) = self.vpa else { return Ok(()) };
        if let Some(dtl) = self.dtl {
            self.trace(vpa, dtl, &record, memory)?;
        }
        if moved {
            memory.write_be32(vpa.field(vpa_offset::DISPERSION), self.dispersion)?;
        }
        self.store_count(memory)
    }

    fn store_count<M: GuestBytes>(&self, memory: &mut M) -> Result<(), MemoryFault> {
        match self.vpa {
            Some(vpa) => {
                memory.write_be32(vpa.field(vpa_offset::DISPATCH_COUNT), self.dispatch_count)
            }
            None => Ok(()),
        }
    }

    /// Appends an entry if the guest asks for its kind: the entry first, then the index, so that
    /// a reader that sees the index sees the entry.
    fn trace<M: GuestBytes>(
        &mut self,
        vpa: Area,
        dtl: Area,
        record: &DispatchRecord,
        memory: &mut M,
    ) -> Result<(), MemoryFault> {
        let mut mask = [0];
        memory.read(vpa.field(vpa_offset::TRACE_MASK), &mut mask)?;
        if mask[0] & record.preempted.mask_bit() == 0 {
            return Ok(());
        }
        let entries = u64::from(dtl.bytes / DTL_MIN_BYTES).max(1);
        let slot = self.dtl_index % entries * u64::from(DTL_MIN_BYTES);
        memory.write(dtl.field(slot), &record.entry())?;
        self.dtl_index = self.dtl_index.wrapping_add(1);
        memory.write_be64(vpa.field(vpa_offset::TRACE_INDEX), self.dtl_index)
    }

    /// The same counters with these areas, each an address and bytes, where 0 and 0 stand for none: as
    /// a tool puts back what it has read before. Nothing is stored in them until the virtual processor
    /// is next on a thread.
    ///
    /// # Errors
    /// The first area that could not have been registered so.
    pub fn with_areas<M: GuestBytes>(
        &self,
        [vpa, slb_shadow, dispatch_log]: [[u64; 2]; 3],
        memory: &mut M,
    ) -> Result<Self, AreaKind> {
        let mut area = |[at, bytes]: [u64; 2], least, span, kind| {
            if (at, bytes) == (0, 0) {
                return Ok(None);
            }
            let at = GuestReal::new(at);
            let checked = u32::try_from(bytes)
                .map_err(|_| AreaError::Parameter)
                .and_then(|bytes| {
                    aligned(at)?;
                    checked_area(at, bytes, least, span, memory)
                });
            checked.map(Some).map_err(|_| kind)
        };
        let vpa = area(vpa, VPA_MIN_BYTES, Span::WithinPage, AreaKind::Vpa)?;
        let shadow = AreaKind::SlbShadow;
        let slb_shadow = area(slb_shadow, SLB_SHADOW_MIN_BYTES, Span::WithinPage, shadow)?;
        let log = AreaKind::DispatchLog;
        let dtl = area(dispatch_log, DTL_MIN_BYTES, Span::AcrossPages, log)?;
        // The VPA comes first.
        match (vpa, slb_shadow, dtl) {
            (None, Some(_), _) => return Err(shadow),
            (None, None, Some(_)) => return Err(log),
            _ => {}
        }
        Ok(Self {
            vpa,
            slb_shadow,
            dtl,
            dtl_index: if dtl == self.dtl { self.dtl_index } else { 0 },
            ..self.clone()
        })
    }

    /// Forgets everything, for a reboot, stop-self or the end of the partition; `now` is what the vCPU
    /// is at then. The areas to release.
    pub fn release_all(&mut self, now: Dispatch) -> [Option<Area>; 3] {
        let Self {
            vpa,
            dtl,
            slb_shadow,
            ..
        } = core::mem::replace(self, Self::new(self.dispatching, now));
        [vpa, dtl, slb_shadow]
    }
}

/// The next count with the parity of `now`; the same if it has that already.
const fn with_parity(count: u32, now: Dispatch) -> u32 {
    match now {
        Dispatch::Running => count.wrapping_add(count & 1),
        Dispatch::Waiting => count | 1,
    }
}

fn replace(slot: &mut Option<Area>, area: Option<Area>) -> AreaChange {
    let unpin = core::mem::replace(slot, area);
    AreaChange { pin: area, unpin }
}

fn aligned(at: GuestReal) -> Result<(), AreaError> {
    if at.is_aligned(ALIGN) {
        Ok(())
    } else {
        Err(AreaError::Parameter)
    }
}

fn size_field(at: GuestReal) -> Result<GuestReal, AreaError> {
    at.checked_add(SIZE_OFFSET).ok_or(AreaError::Parameter)
}

/// How an area may lie.
enum Span {
    /// Not across a multiple of 4096.
    WithinPage,
    /// Anywhere, but of at most 4096 bytes.
    AcrossPages,
}

fn checked_area<M: GuestBytes>(
    at: GuestReal,
    bytes: u32,
    least: u32,
    span: Span,
    memory: &mut M,
) -> Result<Area, AreaError> {
    let start = match span {
        Span::WithinPage => at.get() % PAGE,
        Span::AcrossPages => 0,
    };
    if bytes < least || start + u64::from(bytes) > PAGE {
        return Err(AreaError::Parameter);
    }
    memory.check(at, u64::from(bytes))?;
    Ok(Area { at, bytes })
}
