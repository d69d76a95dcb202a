// SPDX-License-Identifier: Apache-2.0 OR MIT
//! H_CONTROL through the dispatcher, about the machine's own kind of partition.

use super::super::H_CONTROL;
use super::*;
use crate::config::Authority;
use crate::control::function::Function;
use crate::control::records::{Capabilities, DirtyReply, DirtyRequest, Record, Slot, read};
use crate::control::{Controlled, DONE};
use crate::testing::{GUEST_BYTES, HPT_ENTRIES, RigOptions};
use penstock_arch::addr::GuestReal;
use zerocopy::IntoBytes;
use zerocopy::byteorder::big_endian::U64;

const H_UNSUPPORTED: i64 = -67;
const H_AUTHORITY: i64 = -10;
const BUFFER: u64 = 0x7ff0;

fn rig(authority: Authority) -> Rig {
    Rig::with(RigOptions {
        authority,
        ..RigOptions::default()
    })
}

impl Rig {
    #[track_caller]
    fn bytes(&self, at: u64, count: usize) -> std::vec::Vec<u8> {
        let mut bytes = std::vec![0; count];
        let memory = self.vcpu.partition.mmu.memory();
        memory.read(GuestReal::new(at), &mut bytes).unwrap();
        bytes
    }
}

#[test]
fn without_the_mark_nothing_is_answered() {
    let mut rig = rig(Authority::None);
    for function in 0..20 {
        rig.call(H_CONTROL, &[function, 1, 0, 0, 0], H_AUTHORITY, []);
    }
}

#[test]
fn with_the_mark_it_reaches_the_partition() {
    let mut rig = rig(Authority::Control);
    let feature = Function::Feature as u64;
    rig.call(H_CONTROL, &[feature, 1, 0, 0, 0], 0, [1, 1]);
    for other in 1..40 {
        let offered = match other {
            1 => [1, 1 << 12],
            10 => [1, 0],
            _ => [0, 0],
        };
        rig.call(H_CONTROL, &[feature, 1, 0, 0, other], 0, offered);
    }
    rig.call(H_CONTROL, &[feature, 2, 0, 0, 0], H_P2, []);
    rig.call(H_CONTROL, &[feature, 1, 0, 1, 0], H_P4, []);
    rig.call(H_CONTROL, &[feature, 1, 1, 0, 0], H_P3, []);
    rig.call(H_CONTROL, &[0, 1, 0, 0, 0], H_UNSUPPORTED, []);

    let slots = Function::Slots as u64;
    rig.call(H_CONTROL, &[slots, 1, BUFFER, 100, 0], 0, [48, DONE]);
    let bytes = rig.bytes(BUFFER, 48);
    let (slot, _) = read::<Slot>(&bytes).unwrap();
    assert_eq!((slot.kind.get(), slot.page_shift), (Slot::MEMORY, 24));
    assert_eq!(slot.bytes.get(), GUEST_BYTES);

    let capabilities = Function::Capabilities as u64;
    rig.call(H_CONTROL, &[capabilities, 1, BUFFER, 128], 0, [128]);
    let bytes = rig.bytes(BUFFER, 128);
    let (record, _) = read::<Capabilities>(&bytes).unwrap();
    assert_eq!(record.hpt_entries.get(), HPT_ENTRIES);
    assert_eq!(record.features[..2], [1, 1]);
    // Across the end of memory.
    let last = GUEST_BYTES - 127;
    rig.call(H_CONTROL, &[capabilities, 1, last, 128], H_P3, []);
}

#[test]
fn what_this_version_does_not_have_is_refused_by_name() {
    let mut rig = rig(Authority::Control);
    for row in Function::ALL.iter().skip(3) {
        let length = row.buffer.min_bytes() as u64;
        let buffer = if length == 0 { 0 } else { BUFFER };
        let status = match row.function {
            // There never was one that could be closed.
            Function::StreamClose => -58,
            Function::DirtyLog | Function::DirtyHarvest | Function::DirtyFetch => continue,
            _ => H_UNSUPPORTED,
        };
        let function = row.function as u64;
        rig.call(H_CONTROL, &[function, 1, buffer, length, 0], status, []);
    }
    assert!(rig.vcpu.partition.session().try_lock().is_some());
}

#[test]
fn what_was_written_is_told() {
    let mut rig = rig(Authority::Control);
    let (log, harvest, fetch) = (
        Function::DirtyLog as u64,
        Function::DirtyHarvest as u64,
        Function::DirtyFetch as u64,
    );
    rig.call(H_CONTROL, &[log, 1, 0, 0, 0, 1], 0, []);
    // Real mode's entries count as written when the log begins.
    rig.call(
        H_CONTROL,
        &[harvest, 1, 0, 0, 0, 1, 0],
        0,
        [DONE, GUEST_BYTES >> 12],
    );
    let memory = rig.vcpu.partition.mmu.memory();
    let mut words = std::vec![0; 64];
    rig.vcpu
        .partition
        .mmu
        .take_log(penstock_mm::guest_memory::SlotId::MEMORY, 0, &mut words);
    memory
        .write(GuestReal::new(0x5_0000), &[1; 0x1001])
        .unwrap();
    let mut request = DirtyRequest::blank();
    request.page_shift = 12;
    request.pages = U64::new(128);
    memory
        .write(GuestReal::new(BUFFER), request.as_bytes())
        .unwrap();
    rig.call(H_CONTROL, &[fetch, 1, BUFFER, 4096, 0], 0, [64, 128]);
    let bytes = rig.bytes(BUFFER, size_of::<DirtyReply>() + 16);
    let (reply, _) = read::<DirtyReply>(&bytes).unwrap();
    // The two, and the two pages that the request lies in.
    assert_eq!(reply.dirty.get(), 4);
    assert_eq!(bytes[size_of::<DirtyReply>() + 10], 3);
    rig.call(H_CONTROL, &[log, 1, 0, 0, 0, 0], 0, []);
}

#[test]
fn a_busy_partition_is_called_again() {
    let mut rig = rig(Authority::Control);
    let partition = rig.vcpu.partition;
    let lock = partition.session.lock();
    let slots = Function::Slots as u64;
    rig.call(H_CONTROL, &[slots, 1, BUFFER, 100, 0], H_BUSY, []);
    drop(lock);
    rig.call(H_CONTROL, &[slots, 1, BUFFER, 100, 0], 0, [48, DONE]);
}
