// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What PREPARE and COMMIT answer in each state, on tables that record what was done to them.

extern crate std;

mod entries;

use super::*;
use penstock_arch::fake::unless_miri;
use std::collections::BTreeMap;
use std::vec;
use std::vec::Vec;

type Entries = BTreeMap<u64, (HpteV, HpteR)>;

/// A table that is in use or pending: what is in it, and how many pieces of work it needs.
#[derive(Debug, Default, Clone, PartialEq)]
struct Table {
    order: u32,
    entries: Entries,
    work: u32,
}

/// What was done to tables, in order.
#[derive(Debug, PartialEq, Clone, Copy)]
enum Did {
    Allocate(u32),
    Discard(u32),
    Hold,
    Resume,
    Swap(u32),
}

#[derive(Default)]
struct Tables {
    used: Table,
    /// Pieces of work that the next table needs; `None` for no memory.
    next: Option<u32>,
    held: bool,
    did: Vec<Did>,
}

impl Tables {
    fn of(order: u32) -> Self {
        Self {
            used: Table {
                order,
                ..Table::default()
            },
            next: Some(1),
            ..Self::default()
        }
    }

    fn did(&mut self) -> Vec<Did> {
        core::mem::take(&mut self.did)
    }
}

impl ResizeTables for Tables {
    type Pending = Table;

    fn order(&self) -> HptOrder {
        HptOrder::new(self.used.order).unwrap()
    }

    fn allocate(&mut self, order: HptOrder) -> Option<Table> {
        let work = self.next?;
        self.did.push(Did::Allocate(order.get()));
        Some(Table {
            order: order.get(),
            // Left over from somebody else.
            entries: [(0, (HpteV::new(0x11), HpteR::new(0)))].into(),
            work,
        })
    }

    fn prepare_some(&mut self, pending: &mut Table) -> Progress {
        pending.work -= 1;
        if pending.work > 0 {
            return Progress::More;
        }
        pending.entries.clear();
        Progress::Done
    }

    fn discard(&mut self, pending: Table) {
        self.did.push(Did::Discard(pending.order));
    }

    fn hold(&mut self) {
        assert!(!self.held);
        self.held = true;
        self.did.push(Did::Hold);
    }

    fn resume(&mut self) {
        assert!(self.held);
        self.held = false;
        self.did.push(Did::Resume);
    }

    fn next_entry(&self, from: u64) -> Option<(HpteIndex, HpteV, HpteR)> {
        assert!(self.held);
        let (index, (v, r)) = self.used.entries.range(from..).next()?;
        Some((HpteIndex::new(*index), *v, *r))
    }

    fn moved(&self, pending: &Table, index: HpteIndex) -> Option<(HpteV, HpteR)> {
        assert_eq!(pending.work, 0);
        pending.entries.get(&index.get()).copied()
    }

    fn move_entry(&mut self, pending: &mut Table, from: HpteIndex, to: HpteIndex) {
        assert!(self.held && to.get() < 1 << (pending.order - 4));
        assert_eq!(from.slot(), to.slot());
        let entry = self.used.entries[&from.get()];
        pending.entries.insert(to.get(), entry);
    }

    fn swap(&mut self, pending: Table) -> Table {
        assert!(self.held);
        self.held = false;
        self.did.push(Did::Swap(pending.order));
        core::mem::replace(&mut self.used, pending)
    }
}

/// The size of a table from which tests resize, each entry of which is looked at.
const SMALL: u32 = unless_miri(20, 18);

fn resize(limit: u32) -> Resize<Table> {
    Resize::new(HptOrder::new(limit))
}

const BUSY: HcallStatus = HcallStatus::LONG_BUSY_ORDER_1_MSEC;
const SUCCESS: HcallStatus = HcallStatus::SUCCESS;
const PARAMETER: HcallStatus = HcallStatus::PARAMETER;
const RESOURCE: HcallStatus = HcallStatus::RESOURCE;
const CLOSED: HcallStatus = HcallStatus::CLOSED;

#[test]
fn a_partition_that_may_not_is_told_so_before_anything() {
    let (mut tables, mut resize) = (Tables::of(20), Resize::new(None));
    for (flags, shift) in [(0, 0), (0, 20), (1, 99), (u64::MAX, u64::MAX)] {
        assert_eq!(
            resize.prepare(&mut tables, flags, shift),
            HcallStatus::AUTHORITY
        );
        assert_eq!(
            resize.commit(&mut tables, flags, shift),
            Err(HcallStatus::AUTHORITY)
        );
    }
    assert_eq!(tables.did(), []);
}

#[test]
fn prepare_without_a_pending_table() {
    let mut tables = Tables::of(20);
    for (flags, shift, answer) in [
        (0, 0, SUCCESS),
        (1, 0, PARAMETER),
        (1 << 63, 22, PARAMETER),
        (0, 1, PARAMETER),
        (0, 17, PARAMETER),
        (0, 47, PARAMETER),
        (0, 1 << 32 | 20, PARAMETER),
        (0, u64::MAX, PARAMETER),
        (0, 25, RESOURCE),
        (0, 36, RESOURCE),
        (0, 37, RESOURCE),
        (0, 46, RESOURCE),
    ] {
        let mut resize = resize(24);
        assert_eq!(
            resize.prepare(&mut tables, flags, shift),
            answer,
            "{flags:#x} {shift}"
        );
        assert_eq!(resize.commit(&mut tables, 0, shift), Err(CLOSED));
    }
    tables.next = None;
    assert_eq!(resize(24).prepare(&mut tables, 0, 24), RESOURCE);
    assert_eq!(tables.did(), []);
    for shift in [18, 20, 24] {
        tables.next = Some(1);
        assert_eq!(resize(24).prepare(&mut tables, 0, shift), SUCCESS);
        tables.next = Some(2);
        assert_eq!(resize(24).prepare(&mut tables, 0, shift), BUSY);
    }
}

#[test]
fn prepare_is_polled_until_the_table_is_ready() {
    let (mut tables, mut resize) = (Tables::of(SMALL), resize(24));
    tables.next = Some(4);
    for _ in 0..3 {
        assert_eq!(resize.prepare(&mut tables, 0, 22), BUSY);
        // Not ready is no reason to lose it.
        assert_eq!(resize.commit(&mut tables, 0, 22), Err(HcallStatus::BUSY));
    }
    assert_eq!(resize.prepare(&mut tables, 0, 22), SUCCESS);
    assert_eq!(resize.prepare(&mut tables, 0, 22), SUCCESS);
    assert_eq!(tables.did(), [Did::Allocate(22)]);
    assert!(resize.commit(&mut tables, 0, 22).is_ok());
    assert_eq!(
        tables.did(),
        [Did::Hold, Did::Swap(22), Did::Discard(SMALL)]
    );
    // Nothing is pending any more.
    assert_eq!(resize.commit(&mut tables, 0, 22), Err(CLOSED));
}

#[test]
fn somebody_with_time_may_do_the_work() {
    let (mut tables, mut resize) = (Tables::of(20), resize(24));
    assert_eq!(resize.work(&mut tables), Progress::Done);
    tables.next = Some(3);
    assert_eq!(resize.prepare(&mut tables, 0, 22), BUSY);
    assert_eq!(resize.work(&mut tables), Progress::More);
    assert_eq!(resize.work(&mut tables), Progress::Done);
    assert_eq!(resize.work(&mut tables), Progress::Done);
    assert_eq!(resize.prepare(&mut tables, 0, 22), SUCCESS);
}

#[test]
fn prepare_gives_up_a_table_of_another_size() {
    // What asks for something else, what it gets, and what becomes of tables.
    let given_up = [Did::Discard(22)];
    for work in [1, 2] {
        for (flags, shift, answer, did) in [
            (0, 0, SUCCESS, &given_up[..]),
            (1, 22, PARAMETER, &given_up),
            (1, 0, PARAMETER, &given_up),
            (0, 17, PARAMETER, &given_up),
            (0, 30, RESOURCE, &given_up),
            (0, 21, SUCCESS, &[Did::Discard(22), Did::Allocate(21)]),
        ] {
            let (mut tables, mut resize) = (Tables::of(20), resize(24));
            tables.next = Some(work);
            let _ = resize.prepare(&mut tables, 0, 22);
            tables.did();
            tables.next = Some(1);
            assert_eq!(resize.prepare(&mut tables, flags, shift), answer);
            assert_eq!(tables.did(), did, "{flags} {shift}");
            assert_eq!(resize.commit(&mut tables, 0, 22), Err(CLOSED));
        }
    }
}

#[test]
fn commit_of_something_else_keeps_the_pending_table() {
    let (mut tables, mut resize) = (Tables::of(SMALL), resize(24));
    assert_eq!(resize.prepare(&mut tables, 0, 22), SUCCESS);
    tables.did();
    for (flags, shift) in [
        (1, 22),
        (0, 21),
        (0, 0),
        (0, 1 << 32 | 22),
        (u64::MAX, 22),
        (0, u64::MAX),
    ] {
        assert_eq!(resize.commit(&mut tables, flags, shift), Err(CLOSED));
    }
    assert_eq!(tables.did(), []);
    assert!(resize.commit(&mut tables, 0, 22).is_ok());
}

#[test]
fn only_prepare_answers_long_busy() {
    for work in 1..4 {
        for prepared in 0..5 {
            let (mut tables, mut resize) = (Tables::of(SMALL), resize(24));
            tables.next = Some(work);
            for _ in 0..prepared {
                let _ = resize.prepare(&mut tables, 0, 22);
            }
            let answer = resize.commit(&mut tables, 0, 22).map(|_| ());
            let expected = match prepared {
                0 => Err(CLOSED),
                _ if prepared < work => Err(HcallStatus::BUSY),
                _ => Ok(()),
            };
            assert_eq!(answer, expected);
        }
    }
}

#[test]
fn a_partition_that_starts_over_has_no_pending_table() {
    let (mut tables, mut resize) = (Tables::of(SMALL), resize(24));
    assert_eq!(resize.prepare(&mut tables, 0, 22), SUCCESS);
    resize.discard(&mut tables);
    resize.discard(&mut tables);
    assert_eq!(tables.did(), [Did::Allocate(22), Did::Discard(22)]);
    assert_eq!(resize.commit(&mut tables, 0, 22), Err(CLOSED));
}
