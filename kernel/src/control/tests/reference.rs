// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The reference and the C header say what the code does: their tables are made from it here, and
//! compared.

use super::*;
use crate::control::error::{ControlError, Reason};
use crate::control::function::Feature;
use crate::control::records::{
    BYTE_ORDER_BIG, BYTE_ORDER_LITTLE, Capabilities, DirtyReply, DirtyRequest, Field, Header,
    Invalidate, MAJOR, MINOR, RecordKind, RunState, Slot, Spr, StreamChunk, VcpuState, VectorState,
    parts,
};
use crate::control::{DONE, ENTRIES_PER_CALL, MAX_BUFFER_BYTES, WRITER, open_flags};
use crate::hcall::H_CONTROL;
use std::fmt::Write;
use std::string::{String, ToString};

const REFERENCE: &str = include_str!("../interface.md");
const HEADER: &str = include_str!("../penstock-control.h");

/// The records, by their kinds.
fn records() -> Vec<(&'static str, Option<RecordKind>, usize, &'static [Field])> {
    fn of<R: Record>() -> (&'static str, Option<RecordKind>, usize, &'static [Field]) {
        (R::NAME, Some(R::KIND), size_of::<R>(), R::FIELDS)
    }
    vec![
        ("Header", None, size_of::<Header>(), Header::FIELDS),
        of::<Capabilities>(),
        of::<Slot>(),
        of::<DirtyRequest>(),
        of::<DirtyReply>(),
        of::<StreamChunk>(),
        ("Spr", None, size_of::<Spr>(), Spr::FIELDS),
        of::<VcpuState>(),
        of::<VectorState>(),
        of::<Invalidate>(),
    ]
}

/// A comment of the code as running text: on one line, without links.
fn text(comment: &str) -> String {
    let plain = comment
        .replace("[`", "`")
        .replace("`]", "`")
        .replace("super::", "");
    plain.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn without_full_stop(text: &str) -> String {
    text.trim_end_matches('.').to_string()
}

#[track_caller]
fn is_in_reference(section: &str, expected: &str) {
    let begin = std::format!("<!-- {section} -->\n");
    let rest = REFERENCE.split(&begin).nth(1);
    let rest = rest.unwrap_or_else(|| panic!("interface.md has no {begin}"));
    let found = rest.split("<!-- /").next().unwrap();
    assert_eq!(found, expected, "make interface.md's {section} from this");
}

#[test]
fn the_reference_lists_the_functions() {
    let mut table = String::from(
        "| r4 | name | buffer, at least | r8, r9, r10 | r4, r5 | what it does |\n|---|---|---|---|---|---|\n",
    );
    for row in Function::ALL {
        let buffer = match row.buffer {
            Buffer::None => String::from("none"),
            Buffer::In(bytes) => std::format!("in, {bytes}"),
            Buffer::Out(bytes) => std::format!("out, {bytes}"),
            Buffer::InOut(bytes) => std::format!("in and out, {bytes}"),
        };
        writeln!(
            table,
            "| {} | {} | {buffer} | {} | {} | {} |",
            row.function as u8,
            row.name,
            row.arguments,
            row.results,
            without_full_stop(&text(row.meaning)),
        )
        .unwrap();
    }
    is_in_reference("functions", &table);
}

#[test]
fn the_reference_lists_the_errors() {
    let mut table = String::from("| r3 | value | when |\n|---|---|---|\n");
    for (error, when) in ControlError::ALL {
        let status = error.status();
        writeln!(table, "| {status} | {} | {when} |", status.get()).unwrap();
    }
    is_in_reference("errors", &table);
    let mut table = String::from("| r4 | the record is refused because of |\n|---|---|\n");
    for (reason, meaning) in Reason::ALL {
        writeln!(table, "| {} | {meaning} |", *reason as u8).unwrap();
    }
    is_in_reference("reasons", &table);
}

#[test]
fn the_reference_lists_the_features() {
    let mut table = String::from("| r8 | feature | r5 |\n|---|---|---|\n");
    for (feature, name, parameter) in Feature::ALL {
        writeln!(table, "| {} | {name} | {parameter} |", *feature as u8).unwrap();
    }
    is_in_reference("features", &table);
}

#[test]
fn the_reference_lists_every_field_of_every_record() {
    for (name, kind, size, fields) in records() {
        let mut table = String::new();
        match kind {
            Some(kind) => writeln!(table, "{name}: kind {}, {size} bytes.\n", kind as u8),
            None => writeln!(table, "{name}: {size} bytes.\n"),
        }
        .unwrap();
        table.push_str("| offset | bytes | field | meaning |\n|---|---|---|---|\n");
        for field in fields {
            let count = field.bytes / field.unit;
            let bytes = match count {
                1 => field.unit.to_string(),
                _ if field.padding || field.name == "header" => field.bytes.to_string(),
                _ => std::format!("{count} x {}", field.unit),
            };
            writeln!(
                table,
                "| {} | {bytes} | {} | {} |",
                field.offset,
                field.name,
                without_full_stop(&text(field.meaning)),
            )
            .unwrap();
        }
        is_in_reference(name, &table);
    }
}

fn snake(name: &str) -> String {
    let mut snake = String::new();
    for (place, letter) in name.chars().enumerate() {
        if letter.is_ascii_uppercase() && place != 0 {
            snake.push('_');
        }
        snake.push(letter.to_ascii_lowercase());
    }
    snake
}

/// The numbers of the interface, by the names that C has for them.
fn constants() -> Vec<(String, u64)> {
    let mut list: Vec<(String, u64)> = Vec::new();
    let mut add = |name: &str, value: u64| list.push((name.to_string(), value));
    add("H_CONTROL", H_CONTROL);
    add("MAJOR", MAJOR.into());
    add("MINOR", MINOR.into());
    add("DONE", DONE);
    add("MAX_BUFFER_BYTES", MAX_BUFFER_BYTES as u64);
    add("ENTRIES_PER_CALL", ENTRIES_PER_CALL);
    add("HEADER_COMPATIBLE", Header::COMPATIBLE.into());
    add("SLOT_MEMORY", Slot::MEMORY.into());
    add("SLOT_FRAMEBUFFER", Slot::FRAMEBUFFER.into());
    add("SLOT_DEVICE", Slot::DEVICE.into());
    add("SLOT_READ_ONLY", Slot::READ_ONLY.into());
    add("SLOT_LOGGED", Slot::LOGGED.into());
    add("DIRTY_TAKE", DirtyRequest::TAKE.into());
    add("OPEN_BOLTED_ONLY", open_flags::BOLTED_ONLY);
    add("OPEN_WRITE", open_flags::WRITE);
    add("OPEN_LITTLE_ENDIAN", open_flags::LITTLE_ENDIAN);
    add("STREAM_WRITER", WRITER);
    add("STREAM_FIRST_PASS", StreamChunk::FIRST_PASS.into());
    add("STREAM_BOLTED_ONLY", StreamChunk::BOLTED_ONLY.into());
    add("STREAM_END", StreamChunk::END.into());
    add("STREAM_BIG_ENDIAN", BYTE_ORDER_BIG.into());
    add("STREAM_LITTLE_ENDIAN", BYTE_ORDER_LITTLE.into());
    add("PART_FP", parts::FP.into());
    add("PART_VMX", parts::VMX.into());
    add("PART_VSX", parts::VSX.into());
    add("VCPU_RUNNABLE", RunState::Runnable as u64);
    add("VCPU_CEDED", RunState::Ceded as u64);
    add("VCPU_STOPPED", RunState::Stopped as u64);
    add("VCPU_JOINED", RunState::Joined as u64);
    add("INVALIDATE_GROUPS", Invalidate::GROUPS.into());
    add("INVALIDATE_STRICT", Invalidate::STRICT.into());
    for row in Function::ALL {
        add(&std::format!("FN_{}", row.name), row.function as u64);
    }
    for (feature, name, _) in Feature::ALL {
        add(&std::format!("FEATURE_{name}"), *feature as u64);
    }
    for (name, kind, ..) in records() {
        if let Some(kind) = kind {
            let name = snake(name).to_ascii_uppercase();
            add(&std::format!("KIND_{name}"), kind as u64);
        }
    }
    list
}

/// A field as C declares it.
fn declaration(field: &Field) -> String {
    let count = field.bytes / field.unit;
    let plain = match field.unit {
        1 => "uint8_t",
        2 => "penstock_be16",
        4 => "penstock_be32",
        _ => "penstock_be64",
    };
    let name = field.name;
    match name {
        "header" => std::format!("struct penstock_header {name}"),
        "sprs" => std::format!("struct penstock_spr {name}[{}]", field.bytes / 16),
        "slb" | "vsr" => std::format!("{plain} {name}[{}][2]", count / 2),
        _ if count > 1 => std::format!("{plain} {name}[{count}]"),
        _ => std::format!("{plain} {name}"),
    }
}

#[test]
fn the_c_header_is_made_from_the_records() {
    let mut header = String::from(
        "/* SPDX-License-Identifier: Apache-2.0 OR MIT */\n\
         /*\n \
         * Penstock's control interface, for tools in C. kernel/src/control/interface.md says what it\n \
         * means; a test makes this file from the same source. All integers are big-endian.\n \
         */\n\
         #ifndef PENSTOCK_CONTROL_H\n\
         #define PENSTOCK_CONTROL_H\n\n\
         #include <stddef.h>\n\
         #include <stdint.h>\n\n\
         typedef uint16_t penstock_be16;\n\
         typedef uint32_t penstock_be32;\n\
         typedef uint64_t penstock_be64;\n\n",
    );
    for (name, value) in constants() {
        let value = if value > 0xffff_ffff {
            std::format!("{value:#x}ULL")
        } else {
            std::format!("{value:#x}")
        };
        writeln!(header, "#define PENSTOCK_{name} {value}").unwrap();
    }
    for (name, _, size, fields) in records() {
        let name = snake(name);
        writeln!(header, "\nstruct penstock_{name} {{").unwrap();
        for field in fields {
            writeln!(header, "\t{};", declaration(field)).unwrap();
        }
        header.push_str("};\n");
        writeln!(
            header,
            "_Static_assert(sizeof(struct penstock_{name}) == {size}, \"size of {name}\");"
        )
        .unwrap();
        for field in fields {
            let (field, offset) = (field.name, field.offset);
            writeln!(
                header,
                "_Static_assert(offsetof(struct penstock_{name}, {field}) == {offset}, \"{name}.{field}\");"
            )
            .unwrap();
        }
    }
    header.push_str("\n#endif\n");
    assert_eq!(HEADER, header, "make penstock-control.h from this");
}

#[test]
fn the_reference_names_its_version_and_its_token() {
    let version = std::format!("version {MAJOR}.{MINOR}");
    assert!(REFERENCE.contains(&version), "{version}");
    assert!(REFERENCE.contains(&std::format!("{H_CONTROL:#x}")));
}

/// Every name in the last column of the last table is that of a test.
#[test]
fn the_tests_that_the_reference_names_exist() {
    const TESTS: &[&str] = &[
        include_str!("../records/tests.rs"),
        include_str!("../invalidation.rs"),
        include_str!("errors.rs"),
        include_str!("hold.rs"),
        include_str!("query.rs"),
        include_str!("stream.rs"),
    ];
    let table = REFERENCE.split("# Who asked for this").nth(1).unwrap();
    let cells = table.lines().filter_map(|line| line.split('|').nth(3));
    let names = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2));
    let mut count = 0;
    for name in names.filter(|name| name.contains('_')) {
        let function = std::format!("fn {name}() {{");
        assert!(TESTS.iter().any(|file| file.contains(&function)), "{name}");
        count += 1;
    }
    assert!(count >= 14, "{count}");
}
