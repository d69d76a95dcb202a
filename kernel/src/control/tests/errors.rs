// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Every error by its table, and which of two comes first.

use super::*;
use crate::control::error::{Argument, ControlError, Reason, RecordError};
use crate::control::records::StreamChunk;
use crate::control::target::TargetError;
use crate::control::{MAX_BUFFER_BYTES, WRITER};
use crate::rtas::testing::{HOLE, SIZE};

/// A call of `function` that has nothing wrong with it but what its arguments may be.
fn call_of(function: Function) -> Call {
    let length = match function {
        Function::VcpuGet | Function::VcpuSet => 4096,
        other => other.buffer().min_bytes(),
    };
    Call {
        function: function as u64,
        partition: 2,
        address: if length == 0 { 0 } else { BUFFER },
        length: length as u64,
        arguments: [0; 3],
    }
}

fn functions() -> impl Iterator<Item = Function> {
    Function::ALL.iter().map(|row| row.function)
}

/// The codes as LoPAR's table has them.
#[test]
fn every_error_is_its_code() {
    use ControlError as E;
    let record = E::Record(RecordError::new(3, Reason::Size));
    for (error, code) in [
        (E::Authority, -10),
        (E::Unsupported, -67),
        (E::Partition, -55),
        (E::Address, -56),
        (E::Length, -57),
        (E::Argument(Argument::First), -58),
        (E::Argument(Argument::Second), -59),
        (E::Argument(Argument::Third), -60),
        (E::Busy, 1),
        (E::Stopping, 9900),
        (E::Held, -77),
        (E::State, -75),
        (E::NoReader, -16),
        (record, -70),
        (E::Off, -71),
        (E::Hardware, -1),
    ] {
        assert_eq!(error.status().get(), code, "{error:?}");
        assert!(!std::format!("{error}").is_empty());
    }
    assert_eq!(E::ALL.len(), 16);
    for (number, (error, _)) in E::ALL.iter().enumerate() {
        let same = E::ALL
            .iter()
            .filter(|(other, _)| other.status() == error.status());
        assert_eq!(same.count(), 1, "{number}");
    }
}

#[test]
fn what_a_partition_refuses_is_an_error_of_the_table() {
    let at = RecordError::new(9, Reason::Padding);
    for (target, error) in [
        (TargetError::Unsupported, ControlError::Unsupported),
        (TargetError::Busy, ControlError::Busy),
        (TargetError::State, ControlError::State),
        (TargetError::Off, ControlError::Off),
        (TargetError::Record(at), ControlError::Record(at)),
        (
            TargetError::Stream { offset: 5 },
            ControlError::Record(RecordError::new(5, Reason::Stream)),
        ),
        (TargetError::Hardware, ControlError::Hardware),
    ] {
        assert_eq!(ControlError::from(target), error);
    }
}

#[test]
fn a_partition_without_the_mark_gets_h_authority_whatever_it_asks() {
    let mut tools = Tools::new();
    let caller = Caller {
        holder: Holder::Partition(GuestId(TOOL)),
        number: 1,
        port: None,
    };
    let rubbish = Call {
        function: u64::MAX,
        partition: u64::MAX,
        address: u64::MAX,
        length: u64::MAX,
        arguments: [u64::MAX; 3],
    };
    for call in functions().map(call_of).chain([rubbish, Call::default()]) {
        let reply = serve(&call, &caller, &mut tools.memory, &tools.directory);
        assert_eq!(reply.status, HcallStatus::AUTHORITY);
        assert!(reply.results().is_empty());
    }
    assert!(tools.memory.writes.is_empty());
    assert!(tools.state().asked.is_empty());
}

#[test]
fn unknown_functions_are_unsupported() {
    let mut tools = Tools::new();
    for function in (18..100).chain([0, 0x101, 1 << 32 | 1, u64::MAX]) {
        let call = Call {
            function,
            ..Call::default()
        };
        tools.raw(&call).refused(HcallStatus::UNSUPPORTED);
    }
    let numbers: Vec<u64> = functions().map(|function| function as u64).collect();
    assert_eq!(numbers, (1..=17).collect::<Vec<u64>>());
}

#[test]
fn unknown_partitions_are_h_p2() {
    let mut tools = Tools::new();
    for function in functions() {
        for partition in [0, 4, 1 << 32 | 2, 1 << 16 | 2, u64::MAX] {
            let call = Call {
                partition,
                ..call_of(function)
            };
            tools.raw(&call).refused(HcallStatus::P2);
        }
    }
}

#[test]
fn lengths_are_bounded() {
    let mut tools = Tools::new();
    for function in functions() {
        let shortest = function.buffer().min_bytes() as u64;
        let longest = match function.buffer() {
            Buffer::None => 0,
            _ => MAX_BUFFER_BYTES as u64,
        };
        let beyond = [longest + 1, 1 << 32, 1 << 63, u64::MAX];
        for length in beyond.into_iter().chain(shortest.checked_sub(1)) {
            let call = Call {
                length,
                ..call_of(function)
            };
            tools.raw(&call).refused(HcallStatus::P4);
        }
    }
}

#[test]
fn buffers_are_the_callers_memory() {
    let mut tools = Tools::new();
    for function in functions() {
        let good = call_of(function);
        let addresses = match function.buffer() {
            Buffer::None => vec![1, BUFFER, u64::MAX],
            _ => vec![
                SIZE - good.length + 1,
                SIZE,
                HOLE.start - good.length + 1,
                HOLE.end - 1,
                1 << 63,
                u64::MAX,
            ],
        };
        for address in addresses {
            let call = Call { address, ..good };
            tools.raw(&call).refused(HcallStatus::P3);
        }
        // Any byte is a good beginning.
        if good.length != 0 {
            for address in [HOLE.start - good.length, HOLE.end, BUFFER + 3] {
                let answer = tools.raw(&Call { address, ..good });
                assert_ne!(answer.status, HcallStatus::P3, "{function:?}");
            }
        }
    }
}

#[test]
fn arguments_are_h_p5_and_up() {
    let mut tools = Tools::new();
    tools.suspend();
    for (function, arguments, status) in [
        (Function::Slots, [4, 0, 0], HcallStatus::P5),
        (Function::DirtyLog, [2, 0, 0], HcallStatus::P5),
        (Function::DirtyLog, [0, 2, 0], HcallStatus::P6),
        (Function::DirtyHarvest, [3, 0, 0], HcallStatus::P5),
        (Function::DirtyHarvest, [0, 2, 0], HcallStatus::P6),
        (Function::DirtyHarvest, [0, 0, 12288], HcallStatus::P7),
        (Function::DirtyFetch, [2, 0, 0], HcallStatus::P5),
        (Function::StreamOpen, [8, 0, 0], HcallStatus::P5),
        (Function::StreamRead, [0, 0, 0], HcallStatus::P5),
        (Function::StreamWrite, [0, 0, 0], HcallStatus::P5),
        (Function::StreamClose, [0, 0, 0], HcallStatus::P5),
        (Function::HptDrop, [12288, 0, 0], HcallStatus::P5),
        (Function::HptDrop, [1, 0, 0], HcallStatus::P5),
        (Function::VcpuGet, [2, 0, 0], HcallStatus::P5),
        (Function::VcpuGet, [0, 8, 0], HcallStatus::P6),
        (Function::VcpuSet, [2, 0, 0], HcallStatus::P5),
    ] {
        let call = Call {
            arguments,
            ..call_of(function)
        };
        tools.raw(&call).refused(status);
    }
}

#[test]
fn registers_beyond_a_functions_arguments_are_not_looked_at() {
    let mut tools = Tools::new();
    for (function, used) in [
        (Function::Feature, 1),
        (Function::Capabilities, 0),
        (Function::Slots, 1),
        (Function::DirtyLog, 2),
        (Function::Suspend, 0),
        (Function::Commit, 0),
        (Function::Resume, 0),
    ] {
        let mut call = call_of(function);
        call.arguments[used..].fill(0xdead_beef_dead_beef);
        assert_eq!(
            tools.raw(&call).status,
            HcallStatus::SUCCESS,
            "{function:?}"
        );
    }
}

#[test]
fn a_partition_that_is_being_worked_on_is_busy() {
    let mut tools = Tools::new();
    let session = core::mem::take(&mut tools.directory.0);
    let held = FakeDirectory(session);
    let lock = held.0[1].session().lock();
    let caller = Caller {
        holder: Holder::Partition(GuestId(TOOL)),
        number: 1,
        port: Some(&tools.ports[0]),
    };
    for function in functions() {
        let reply = serve(&call_of(function), &caller, &mut tools.memory, &held);
        let expected = match function {
            // Does not need it.
            Function::Feature => HcallStatus::SUCCESS,
            _ => HcallStatus::BUSY,
        };
        assert_eq!(reply.status, expected, "{function:?}");
    }
    drop(lock);
}

/// Each call is wrong in two ways; the earlier of the table is told.
#[test]
fn errors_come_in_the_order_of_the_table() {
    let mut tools = Tools::new();
    let fetch = call_of(Function::DirtyFetch);
    let steps = [
        // Function, then partition.
        (
            Call {
                function: 99,
                partition: 9,
                ..fetch
            },
            HcallStatus::UNSUPPORTED,
        ),
        // Partition, then length.
        (
            Call {
                partition: 9,
                length: 1,
                ..fetch
            },
            HcallStatus::P2,
        ),
        // Length, then address.
        (
            Call {
                length: 1,
                address: SIZE,
                ..fetch
            },
            HcallStatus::P4,
        ),
        // Address, then argument.
        (
            Call {
                address: SIZE,
                arguments: [9; 3],
                ..fetch
            },
            HcallStatus::P3,
        ),
        // Arguments, then state.
        (
            Call {
                arguments: [9; 3],
                ..fetch
            },
            HcallStatus::P5,
        ),
        (
            Call {
                arguments: [0, 9, 9],
                ..call_of(Function::DirtyHarvest)
            },
            HcallStatus::P6,
        ),
        (
            Call {
                arguments: [0, 0, 99999],
                ..call_of(Function::DirtyHarvest)
            },
            HcallStatus::P7,
        ),
        // State, then record.
        (fetch, HcallStatus::STATE),
        (call_of(Function::VcpuSet), HcallStatus::STATE),
        (call_of(Function::Invalidate), HcallStatus::STATE),
        (
            Call {
                arguments: [WRITER, 0, 0],
                ..call_of(Function::StreamWrite)
            },
            HcallStatus::STATE,
        ),
    ];
    for (call, status) in steps {
        tools.raw(&call).refused(status);
    }
    // Whoever holds it, then record.
    tools.as_other(Tools::suspend);
    for function in [Function::VcpuSet, Function::Invalidate] {
        tools.raw(&call_of(function)).refused(HcallStatus::IN_USE);
    }
    // Record, then what the partition says.
    tools.as_other(|tools| {
        tools.state().fail = Some(TargetError::Hardware);
        tools
            .raw(&call_of(Function::VcpuSet))
            .bad_record(Reason::Major, 0);
        assert!(tools.state().fail.is_some());
    });
}

#[test]
fn a_refused_record_leaves_the_partition_unchanged() {
    let mut tools = Tools::new();
    tools.suspend();
    tools
        .plain(Function::StreamOpen, &[crate::control::open_flags::WRITE])
        .is(&[WRITER]);
    for (function, argument) in [
        (Function::VcpuSet, 0),
        (Function::Invalidate, 0),
        (Function::StreamWrite, WRITER),
    ] {
        let call = Call {
            arguments: [argument, 0, 0],
            ..call_of(function)
        };
        tools.raw(&call).refused(HcallStatus::BAD_DATA);
        assert_eq!(tools.hold_state(), State::Stopped, "{function:?}");
    }
    // The buffer's length is the function's, the record's may be more.
    let mut piece = StreamChunk::blank();
    piece.header.size = 48.into();
    tools
        .put(Function::StreamWrite, &[WRITER], &piece, &[])
        .bad_record(Reason::Size, 4);
}
