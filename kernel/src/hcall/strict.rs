// SPDX-License-Identifier: Apache-2.0 OR MIT
//! LoPAR's debug mode: page table calls refuse flags that they do not define.
//!
//! A partition with `strict-flags` is served through [`Table::STRICT`], where these calls have
//! handlers that look at the flags first and answer H_PARAMETER before anything is done. All other
//! partitions go through a table without them and pay nothing.
//!
//! | call | defined |
//! |---|---|
//! | H_REMOVE | AVPN, andcond |
//! | H_ENTER | exact, zero page, I-cache invalidate and synchronize |
//! | H_READ | R-XLATE, READ-4 |
//! | H_CLEAR_MOD, H_CLEAR_REF | none |
//! | H_PROTECT | AVPN, pp0:2, n; key0:4 where storage keys are offered |
//! | H_PAGE_INIT | zero page, copy page, I-cache invalidate and synchronize |
//! | H_BULK_REMOVE | of a request's control byte: type, andcond, AVPN |
//! | H_BLOCK_REMOVE | of a request: type, AVPN, and the entry's number, which is 48 bits |
//!
//! The flags of options that no partition has (memory over-commitment, page coalescing, usage
//! instrumentation, compression) count as undefined, and so does the CEC cookie of H_ENTER and
//! H_READ, for a machine with one table has none but 0. Specifiers after the end mark, and those
//! that are no requests, are the handlers' to judge.
//!
//! LoPAR, Hypervisor Call Interrupt, R1-8 to R1-10; Page Frame Table Access flags field definition.

use super::memory::arguments;
use super::table::Table;
use super::{Handler, SLOTS, slot};
use crate::exit::LightExit;
use crate::platform::Platform;
use crate::presentation::InterruptMode;
use crate::vcpu::Vcpu;
use penstock_arch::hash::HpteR;
use penstock_mm::hpt::StorageKeys;
use penstock_mm::hpt::flags;
use penstock_mm::status::HcallStatus;

/// What a partition does about flags that a call does not define.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UndefinedFlags {
    /// They are ignored, as LoPAR permits.
    #[default]
    Ignored,
    /// The call answers H_PARAMETER.
    Refused,
}

const H_REMOVE: u64 = 0x004;
const H_ENTER: u64 = 0x008;
const H_READ: u64 = 0x00c;
const H_CLEAR_MOD: u64 = 0x010;
const H_CLEAR_REF: u64 = 0x014;
const H_PROTECT: u64 = 0x018;
const H_PAGE_INIT: u64 = 0x02c;
const H_BULK_REMOVE: u64 = 0x124;
const H_BLOCK_REMOVE: u64 = 0x328;

/// H_PROTECT's flags that are no part of the storage key.
const PROTECTION: u64 = 0x107;
/// Those that are: key0:1 above key2:4.
const KEY: u64 = (HpteR::KEY_HIGH >> 48) | HpteR::KEY_LOW;

/// The flags that a call with a flags parameter does not define.
const fn undefined(token: u64) -> u64 {
    const ICACHE: u64 = flags::ICACHE_INVALIDATE | flags::ICACHE_SYNCHRONIZE;
    !match token {
        H_REMOVE => flags::AVPN | flags::ANDCOND,
        H_ENTER => flags::EXACT | flags::ZERO_PAGE | ICACHE,
        H_READ => flags::R_XLATE | flags::READ_4,
        H_PROTECT => flags::AVPN | PROTECTION | KEY,
        H_PAGE_INIT => flags::ZERO_PAGE | flags::COPY_PAGE | ICACHE,
        _ => 0,
    }
}

/// Bits of an H_BULK_REMOVE request that mean something in a response only.
const BULK_UNDEFINED: u64 = 0x3c << 56;
/// Bits of an H_BLOCK_REMOVE request that mean something in a response only, or nothing.
const BLOCK_UNDEFINED: u64 = 0x3eff << 48;

/// What a token's usual handler answers.
const fn usual<P: Platform>(token: u64) -> Handler<P> {
    match slot(token) {
        Some(slot) => Table::<P>::DISPATCH[slot],
        None => panic!("a token that the dispatch table cannot hold"),
    }
}

extern "C" fn with_flags<P: Platform, const TOKEN: u64>(vcpu: &mut Vcpu<P>) -> LightExit {
    let [flags] = arguments(vcpu);
    if flags & const { undefined(TOKEN) } != 0 {
        return vcpu.answer(HcallStatus::PARAMETER);
    }
    (const { usual::<P>(TOKEN) })(vcpu)
}

extern "C" fn h_protect<P: Platform>(vcpu: &mut Vcpu<P>) -> LightExit {
    let [flags] = arguments(vcpu);
    if flags & KEY != 0 && vcpu.partition.mmu.storage_keys() == StorageKeys::NotOffered {
        return vcpu.answer(HcallStatus::PARAMETER);
    }
    with_flags::<P, H_PROTECT>(vcpu)
}

/// Whether a request before the end mark has one of these bits.
fn request_has(bits: u64, mut specifiers: impl Iterator<Item = u64>) -> bool {
    const REQUEST: u64 = 1;
    const END: u64 = 3;
    specifiers
        .find(|spec| spec >> 62 == END || spec >> 62 == REQUEST && spec & bits != 0)
        .is_some_and(|spec| spec >> 62 == REQUEST)
}

extern "C" fn h_bulk_remove<P: Platform>(vcpu: &mut Vcpu<P>) -> LightExit {
    let specifiers: [u64; 8] = arguments(vcpu);
    if request_has(BULK_UNDEFINED, specifiers.into_iter().step_by(2)) {
        return vcpu.answer(HcallStatus::PARAMETER);
    }
    (const { usual::<P>(H_BULK_REMOVE) })(vcpu)
}

extern "C" fn h_block_remove<P: Platform>(vcpu: &mut Vcpu<P>) -> LightExit {
    let specifiers: [u64; 9] = arguments(vcpu);
    if request_has(BLOCK_UNDEFINED, specifiers.into_iter().skip(1)) {
        return vcpu.answer(HcallStatus::PARAMETER);
    }
    (const { usual::<P>(H_BLOCK_REMOVE) })(vcpu)
}

impl<P: Platform> Table<P> {
    /// Handlers by slot, of a partition that refuses undefined flags.
    pub const STRICT: &'static [Handler<P>; SLOTS] = &Self::build_strict(InterruptMode::Xics);
    /// The same for a partition in exploitation mode.
    pub const STRICT_EXPLOITATION: &'static [Handler<P>; SLOTS] =
        &Self::build_strict(InterruptMode::Xive);

    /// The table for a partition.
    #[must_use]
    pub const fn of(
        mode: InterruptMode,
        undefined: UndefinedFlags,
    ) -> &'static [Handler<P>; SLOTS] {
        match (mode, undefined) {
            (InterruptMode::Xics, UndefinedFlags::Ignored) => Self::DISPATCH,
            (InterruptMode::Xics, UndefinedFlags::Refused) => Self::STRICT,
            (InterruptMode::Xive, UndefinedFlags::Ignored) => Self::EXPLOITATION,
            (InterruptMode::Xive, UndefinedFlags::Refused) => Self::STRICT_EXPLOITATION,
        }
    }

    /// The calls that look at flags, with what serves them.
    const CHECKED: [(u64, Handler<P>); 9] = [
        (H_REMOVE, with_flags::<P, H_REMOVE>),
        (H_ENTER, with_flags::<P, H_ENTER>),
        (H_READ, with_flags::<P, H_READ>),
        (H_CLEAR_MOD, with_flags::<P, H_CLEAR_MOD>),
        (H_CLEAR_REF, with_flags::<P, H_CLEAR_REF>),
        (H_PROTECT, h_protect::<P>),
        (H_PAGE_INIT, with_flags::<P, H_PAGE_INIT>),
        (H_BULK_REMOVE, h_bulk_remove::<P>),
        (H_BLOCK_REMOVE, h_block_remove::<P>),
    ];

    const fn build_strict(mode: InterruptMode) -> [Handler<P>; SLOTS] {
        let mut slots = Self::build(mode);
        let mut i = 0;
        while i < Self::CHECKED.len() {
            match slot(Self::CHECKED[i].0) {
                Some(at) => slots[at] = Self::CHECKED[i].1,
                None => panic!("a token that the dispatch table cannot hold"),
            }
            i += 1;
        }
        slots
    }
}
