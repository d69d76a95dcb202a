// SPDX-License-Identifier: Apache-2.0 OR MIT
//! H_BLOCK_REMOVE: removes up to eight entries of one block of virtual pages with one flush.
//!
//! A block is eight base pages of one segment, naturally aligned. Each request is one doubleword:
//! type (bits 0:1), the AVPN condition (7), entry number (16:63). The response goes into its first
//! byte: type 0b10, code (2:4), R and C (5:6). The first entry that may be removed anchors the
//! block; later ones must have its page and segment sizes and lie in its block.
//!
//! An entry that another processor has locked is answered "busy" and stays: the call waits for
//! nobody, so locks are held together without any order among them. An entry that the call has
//! locked itself, for it is named twice, is "not found" the second time: it is as good as gone.
//!
//! LoPAR, H_BLOCK_REMOVE. Where its text can be read in two ways:
//! * A type that is no request answers H_PARAMETER before the step that removes anything. So types
//!   are looked at first, and nothing is done where one is bad.
//! * "The AVA parameter, if used, covers the entire block", yet is compared as H_REMOVE's, which
//!   would let it cover one of eight 16 MiB pages. Address bits inside the block are not compared;
//!   the entry's group tells these pages apart, as it does smaller ones, for which the AVPN is
//!   too coarse anyway.
//! * Its table of the response gives bits 5 and 6 as "Reference" both; the text says R and C.

use super::HashMmu;
use super::guard::{Batch, HpteGuard, Quiesced};
use crate::page_ops::Machine;
use crate::status::HcallStatus;
use core::cell::Cell;
use penstock_arch::hash::{EntryPage, GuestHpteR, GuestHpteV, HpteR, HpteV, TlbieRb};

/// Binary logarithm of the pages in a block, whatever their size.
pub const BLOCK_PAGES_LOG2: u32 = 3;

/// Requests in a call: as many as a block has pages.
const REQUESTS: usize = 1 << BLOCK_PAGES_LOG2;

const TYPE_REQUEST: u64 = 1;
const TYPE_END: u64 = 3;

/// Condition: the AVA parameter must match.
const AVPN: u64 = 1 << 56;

/// The number of the entry.
const PTEX: u64 = u64::MAX >> 16;

/// What a response keeps of its request.
const KEPT: u64 = u64::MAX >> 7;

/// How a request was answered, as the first byte of its response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Answer {
    Success = 0x80,
    /// No entry, a bolted one, or none that matches.
    NotFound = 0x88,
    Parameter = 0x90,
    /// Another page or segment size than the anchor's.
    Inconsistent = 0x98,
    Busy = 0xa0,
    /// Another block than the anchor's.
    CrossBoundary = 0xa8,
}

impl Answer {
    #[inline]
    const fn to(self, request: u64) -> u64 {
        (request & KEPT) | ((self as u64) << 56)
    }
}

/// R and C at their place in a response.
#[inline]
const fn response_rc(r: GuestHpteR) -> u64 {
    (r.get() & (HpteR::R | HpteR::C)) << 50
}

/// The removals that wait for the flush, each with the place of its response.
type Removals<'a, 's, M> = Batch<'a, M, &'s Cell<u64>, REQUESTS>;

/// Removes an entry whose translation is flushed, and completes the response.
#[inline(always)]
fn finish<M: Machine>(entry: Quiesced<'_, M>, response: &Cell<u64>) {
    response.set(response.get() | response_rc(entry.remove()));
}

/// The same out of the way of the loop over a batch.
#[inline(never)]
fn finish_one<M: Machine>(entry: Quiesced<'_, M>, response: &Cell<u64>) {
    finish(entry, response);
}

/// Whether `ava` is the AVPN of the block that the page lies in, whose doubleword 0 is `v`.
#[inline]
const fn covers(ava: u64, v: GuestHpteV, page: EntryPage) -> bool {
    let block_bytes = page.encoding().base().bytes() << BLOCK_PAGES_LOG2;
    // Bit 16 of the virtual address, counted from the right, would be bit 0 of the doubleword.
    let inside = (block_bytes - 1) >> 16;
    ((v.get() & GuestHpteV::AVPN) ^ ava) & !(inside & GuestHpteV::AVPN) == 0
}

#[inline]
fn kind(spec: &Cell<u64>) -> u64 {
    spec.get() >> 62
}

/// Whether the entry that request `number` names is one that the call has removed before.
#[cold]
fn was_removed(requests: &[Cell<u64>], number: usize, request: u64) -> bool {
    let code = |spec: u64| spec >> 59 << 3;
    requests.iter().take(number).any(|spec| {
        let spec = spec.get();
        code(spec) == Answer::Success as u64 && (spec ^ request) & PTEX == 0
    })
}

impl<M: Machine> HashMmu<M> {
    /// H_BLOCK_REMOVE: `ava` is r4, `specs` are r5 to r12 and become responses.
    ///
    /// Returns H_SUCCESS; H_PARTIAL where an entry was not removed, its response says why; or
    /// H_PARAMETER for a specifier that is no request, and then nothing is done.
    pub fn h_block_remove(&self, ava: u64, specs: &mut [u64; REQUESTS]) -> HcallStatus {
        let specs = Cell::from_mut(specs.as_mut_slice()).as_slice_of_cells();
        let end = specs.iter().position(|spec| kind(spec) == TYPE_END);
        let requests = specs.get(..end.unwrap_or(REQUESTS)).unwrap_or_default();
        if requests.iter().any(|spec| kind(spec) != TYPE_REQUEST) {
            return HcallStatus::PARAMETER;
        }
        let mut batch = Removals::new(self);
        let mut anchor = None;
        let mut status = HcallStatus::SUCCESS;
        for (number, spec) in requests.iter().enumerate() {
            let request = spec.get();
            if let Err(answer) = self.block_remove_one(&mut batch, spec, ava, &mut anchor) {
                let ours = answer == Answer::Busy && was_removed(requests, number, request);
                let answer = if ours { Answer::NotFound } else { answer };
                spec.set(answer.to(request));
                status = HcallStatus::PARTIAL;
            }
        }
        batch.flush(finish);
        status
    }

    /// Hides the entry of a request, and answers it, where it may be removed. Checks come in LoPAR's
    /// order.
    #[inline]
    fn block_remove_one<'a, 's>(
        &'a self,
        batch: &mut Removals<'a, 's, M>,
        spec: &'s Cell<u64>,
        ava: u64,
        anchor: &mut Option<Anchor>,
    ) -> Result<(), Answer> {
        let request = spec.get();
        let Some(entry) = self.table().get(request & PTEX) else {
            return Err(Answer::Parameter);
        };
        let index = entry.index;
        let guard = self.try_lock_entry(entry).ok_or(Answer::Busy)?;
        let (v, r) = (guard.v(), guard.r());
        if !v.is_present() || v.get() & HpteV::BOLTED != 0 {
            return Err(Answer::NotFound);
        }
        let rb = TlbieRb::of(v, r, index).ok_or(Answer::Parameter)?;
        match anchor {
            Some(anchor) if anchor.has_beside(v, rb) => {
                // Then the AVA parameter is right for both or for neither.
                if request & AVPN != 0 && !anchor.is_covered {
                    return Err(Answer::NotFound);
                }
            }
            _ => {
                let page = EntryPage::of(v, r, index).ok_or(Answer::Parameter)?;
                let is_covered = covers(ava, v.to_guest(r), page);
                if request & AVPN != 0 && !is_covered {
                    return Err(Answer::NotFound);
                }
                check_with_anchor(anchor, Anchor::new(page, v, rb, is_covered))?;
            }
        }
        spec.set(Answer::Success.to(request));
        if v.is_valid() {
            batch.hide_with(guard, Some(rb), spec, finish_one);
        } else {
            remove_absent(guard, r, spec);
        }
        Ok(())
    }
}

/// Removes an entry that the hardware does not see, whose doubleword 1 is `r`.
#[cold]
#[inline(never)]
fn remove_absent<M: Machine>(guard: HpteGuard<'_, M>, r: HpteR, response: &Cell<u64>) {
    finish(guard.quiesce(r), response);
}

/// Whether an entry may be removed together with the one that anchors the block, which it becomes
/// where there is none.
// Apart, so that the anchor is in memory, and not in registers that a round needs.
#[inline(never)]
fn check_with_anchor(anchor: &mut Option<Anchor>, new: Anchor) -> Result<(), Answer> {
    match anchor {
        Some(anchor) => check_block(anchor.page, new.page),
        None => {
            *anchor = Some(new);
            Ok(())
        }
    }
}

/// The first entry that may be removed.
struct Anchor {
    page: EntryPage,
    /// Whether the AVA parameter is right for its block.
    is_covered: bool,
    v: HpteV,
    rb: TlbieRb,
    /// The bits of `rb` that pages of its block have in common; `None` where that does not do to
    /// tell them.
    common: Option<u64>,
}

impl Anchor {
    #[inline]
    fn new(page: EntryPage, v: HpteV, rb: TlbieRb, is_covered: bool) -> Self {
        let inside = TlbieRb::inside_block(page.encoding(), BLOCK_PAGES_LOG2);
        Self {
            page,
            is_covered,
            v,
            rb,
            common: inside.map(|inside| !inside),
        }
    }

    /// Whether an entry surely has the anchor's page and segment sizes and lies in its block: by the
    /// operand that is needed anyway, which has all of that but the top of the address.
    #[inline]
    fn has_beside(&self, v: HpteV, rb: TlbieRb) -> bool {
        const TOP: u64 = HpteV::AVPN & !(u64::MAX >> 16);
        self.common.is_some_and(|common| {
            let (rb, v) = (self.rb.get() ^ rb.get(), self.v.get() ^ v.get());
            (rb & common) | (v & TOP) == 0
        })
    }
}

/// Whether a page may be removed together with the one that anchors the block.
#[inline]
fn check_block(anchor: EntryPage, page: EntryPage) -> Result<(), Answer> {
    if page.encoding() != anchor.encoding() || page.segment() != anchor.segment() {
        return Err(Answer::Inconsistent);
    }
    let block = |page: EntryPage| page.number() >> BLOCK_PAGES_LOG2;
    if page.vsid() != anchor.vsid() || block(page) != block(anchor) {
        return Err(Answer::CrossBoundary);
    }
    Ok(())
}
