// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A processor uses memory: translations, faults and what is done about them.

use super::*;

impl World<'_> {
    pub(super) fn groups(&self, page: Page) -> [u64; 2] {
        [page.group(self.p), page.other_group(self.p)]
    }

    /// The entry that a processor finds for a page: the first valid one.
    pub(super) fn seen(&self, page: Page, groups: [u64; 2]) -> Option<u64> {
        groups
            .into_iter()
            .zip([0, 2])
            .flat_map(|(group, h)| (group..group + 8).map(move |at| (at, h)))
            .find(|&(at, h)| {
                let entry = self.model.guest.get(&at);
                entry.is_some_and(|(v, r)| is_of(page, *v, *r, h)) && self.p.real(at).0 & 1 != 0
            })
            .map(|(at, _)| at)
    }

    /// A processor uses a valid entry, if that permits it.
    pub(super) fn use_entry(&mut self, ptex: u64, store: bool, granule: u64) -> Result<(), String> {
        if ptex >= self.p.entries() || self.p.real(ptex).0 & 1 == 0 {
            return Ok(());
        }
        let (may_load, may_store) = permitted(self.p.real(ptex).1, false);
        if if store { may_store } else { may_load } {
            self.touch(ptex, store, granule)
        } else {
            Ok(())
        }
    }

    /// A processor loads from or stores to a granule of a valid entry's page.
    fn touch(&mut self, ptex: u64, store: bool, granule: u64) -> Result<(), String> {
        let (p, memory) = (self.p, &mut self.model.memory);
        let entry = self.model.guest.get_mut(&ptex).ok_or("no such entry")?;
        let actual = sizes(entry.0, entry.1).unwrap().1;
        let page = page_of(entry.1, actual);
        let offset = (granule % (actual >> 12)) << 12;
        let at = page + offset;
        let real = (p.real(ptex).1 & HpteR::RPN & !(actual - 1)) + offset;
        let bits = if store { 0x180 } else { 0x100 };
        p.hardware_sets(ptex, bits);
        entry.1 |= bits;
        if Area::of(at) == Some(Area::Device) {
            let host = memory
                .device
                .get(&(at >> 16))
                .map(|host| host + (at & 0xffff));
            same!(Some(real), host);
            return Ok(());
        }
        same!(real, p.host(at));
        let (slot, offset) = p.memory.slot_at(GuestReal::new(at)).unwrap();
        let span = slot.extent(offset, 8).ok_or("no memory")?;
        same!(span.load_u64().unwrap(), memory.word(at >> 12));
        self.tally.loads += u64::from(!store);
        if store {
            self.tally.stores += 1;
            span.store_u64(self.steps).unwrap();
            memory.words.insert(at >> 12, self.steps);
            memory.note(at, 0x1000, page, actual);
        }
        Ok(())
    }

    pub(super) fn access(
        &mut self,
        page: Page,
        kind: AccessKind,
        problem: bool,
        granule: u64,
    ) -> Result<(), String> {
        let groups = self.groups(page);
        let outcome = self.model.access(page, groups, kind, problem);
        let first = self.model.translate(page, groups).map(|(at, ..)| at);
        for _ in 0..4 {
            let seen = self.seen(page, groups);
            if let Some(at) = seen {
                // Two entries for one page are the guest's error, and undefined.
                if first != Some(at) {
                    return Ok(());
                }
                let r = self.p.real(at).1;
                let (load, store) = permitted(r, problem);
                let permits = match kind {
                    AccessKind::Load => load,
                    AccessKind::Store => store,
                    AccessKind::Fetch => load && r & 0xc == 0,
                };
                if permits {
                    // The hardware takes a framebuffer for memory, which is not guarded.
                    if kind != AccessKind::Fetch {
                        same!(Outcome::Access, outcome);
                    }
                    return self.touch(at, kind == AccessKind::Store, granule);
                }
            }
            if !self.p.needs_vpm() {
                // The guest takes its fault itself.
                let its_own = matches!(outcome, Outcome::Action(FaultAction::Reflect(_)));
                same!(its_own, true);
                return Ok(());
            }
            self.fault(page, kind, problem, seen.is_some(), outcome)?;
            if outcome != Outcome::Access {
                return Ok(());
            }
        }
        Err("the access does not get through".into())
    }

    pub(super) fn fault(
        &mut self,
        page: Page,
        kind: AccessKind,
        problem: bool,
        is_seen: bool,
        outcome: Outcome,
    ) -> Result<(), String> {
        // The processor sees valid entries only, and says whether it found one.
        let mut fault = if is_seen {
            page.fault(kind)
        } else {
            page.miss(kind)
        };
        if problem {
            fault.msr = fault.msr.union(Msr::PR);
        }
        let groups = self.groups(page);
        self.resolve(&fault, page, groups, outcome)
    }

    fn resolve(
        &mut self,
        fault: &HpteFault,
        page: Page,
        groups: [u64; 2],
        outcome: Outcome,
    ) -> Result<(), String> {
        let expected = match outcome {
            Outcome::Access => FaultAction::Retry,
            Outcome::Action(action) => action,
        };
        same!(self.p.resolve(fault), expected);
        if outcome == Outcome::Access {
            same!(self.seen(page, groups).is_some(), true);
            if fault.kind == AccessKind::Store
                && let Some((_, v, r)) = self.model.translate(page, groups)
            {
                let actual = sizes(v, r).unwrap().1;
                let granted = self.model.memory.grant(page_of(r, actual), actual);
                self.tally.grants += u64::from(granted);
            }
        }
        Ok(())
    }

    pub(super) fn real_mode(&mut self, at: u64, kind: AccessKind) -> Result<(), String> {
        // What the register holds is not looked at.
        let fault = real_mode(at, PageSize::P16M, kind);
        if at >= memory::RAM_BYTES {
            let action = FaultAction::NotMemory(GuestReal::new(at));
            same!(self.p.resolve(&fault), action);
            return Ok(());
        }
        let page = real_mode_page(at, self.model.real_mode);
        let groups = self.groups(page);
        if self.model.translate(page, groups).is_none() {
            let repaired = self.model.repair(page, groups);
            if repaired {
                // Entered as the state of its page asks for, and used at the next fault.
                same!(self.p.resolve(&fault), FaultAction::Retry);
                return Ok(());
            }
        }
        let outcome = self.model.access(page, groups, kind, false);
        self.resolve(&fault, page, groups, outcome)
    }
}

impl Model {
    /// Enters a page of guest real mode that has no entry. Whether there is a place for it.
    fn repair(&mut self, page: Page, groups: [u64; 2]) -> bool {
        if !self.memory.may_enter(page.ea, self.real_mode, 0x10) {
            return false;
        }
        let slots = |group: u64| (group..group + 8).rev();
        let places = slots(groups[0])
            .map(|at| (at, 0))
            .chain(slots(groups[1]).map(|at| (at, 2)));
        let free = places.clone().find(|(at, _)| !self.guest.contains_key(at));
        let place = free.or_else(|| {
            let unbolted = |at: &u64| self.guest[at].0 & 0x10 == 0;
            slots(groups[0]).find(unbolted).map(|at| (at, 0))
        });
        if let Some((at, h)) = place {
            self.guest
                .insert(at, (page.v() | 0x10 | h, page.r(page.ea) & !2));
        }
        place.is_some()
    }
}
